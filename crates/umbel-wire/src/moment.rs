//! Moments and round numbers.

use std::time::Duration;

use umbel_protocol::{RoundId, Timestamp};

use crate::error::DecodeError;
use crate::proto;

const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// The wire's form of a moment.
pub fn encode_moment(moment: Timestamp) -> proto::Moment {
    let since_start = moment.since_start();
    proto::Moment {
        seconds: since_start.as_secs(),
        nanos: since_start.subsec_nanos(),
    }
}

/// Reads a moment; `field` is what an error calls it.
///
/// # Errors
///
/// None, or one with a second or more in its nanoseconds.
pub fn decode_moment(field: &'static str, moment: Option<&proto::Moment>) -> Result<Timestamp, DecodeError> {
    let moment = moment.ok_or(DecodeError::Missing { field })?;
    if moment.nanos >= NANOS_PER_SECOND {
        let expected = format_args!("less than {NANOS_PER_SECOND} nanoseconds");
        return Err(DecodeError::invalid(field, expected, moment.nanos));
    }
    Ok(Timestamp::new(Duration::new(moment.seconds, moment.nanos)))
}

/// Reads a round; `field` is what an error calls it.
pub(crate) fn decode_round(field: &'static str, round: u64) -> Result<RoundId, DecodeError> {
    match round {
        0 => Err(DecodeError::invalid(field, "a round, counted from 1", 0)),
        round => Ok(RoundId(round)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_that_are_none_are_refused() {
        assert_eq!(
            decode_moment("now", None).unwrap_err().to_string(),
            "`now`: expected a value, got nothing"
        );
        let bad = proto::Moment {
            seconds: u64::MAX,
            nanos: NANOS_PER_SECOND,
        };
        let error = decode_moment("now", Some(&bad)).unwrap_err().to_string();
        assert_eq!(
            error,
            "`now`: expected less than 1000000000 nanoseconds, got 1000000000"
        );
    }

    proptest! {
        #[test]
        fn every_moment_survives(seconds: u64, nanos in 0..NANOS_PER_SECOND) {
            let moment = Timestamp::new(Duration::new(seconds, nanos));
            prop_assert_eq!(decode_moment("now", Some(&encode_moment(moment))), Ok(moment));
        }
    }
}
