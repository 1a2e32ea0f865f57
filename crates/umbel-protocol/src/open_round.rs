//! An open round as it is stored, so that it outlives the process.

use std::fmt;
use std::time::Duration;

use umbel_mechanisms::IntegerSum;

use crate::{RoundId, Timestamp};

/// A round that is open for reports, or whose charge is about to be stored: who was invited, who has reported, and the running
/// sum. Stored by a live server, it lets a round go on after an interruption, and a charged round be released.
///
/// As secret as the clients' updates, and as the cohort.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenRound {
    pub(crate) round: RoundId,
    pub(crate) deadline: Timestamp,
    /// Who is invited, in ascending order.
    pub(crate) cohort: Vec<u64>,
    /// Who has reported, at the client's place in `cohort`.
    pub(crate) reported: Vec<bool>,
    pub(crate) sum: IntegerSum,
}

/// Bytes that are no stored round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a stored round: {0}")]
pub struct OpenRoundError(&'static str);

const MAGIC: &[u8; 8] = b"umbelor1";

impl OpenRound {
    /// The round.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// When it closes.
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// Who has reported.
    pub fn reported(&self) -> impl Iterator<Item = crate::ClientId> + '_ {
        let pairs = self.cohort.iter().zip(&self.reported);
        pairs.filter_map(|(client, reported)| reported.then_some(crate::ClientId(*client)))
    }

    /// The content, without protection: for a server's own storage only. Integers are little-endian: round, seconds and
    /// nanoseconds of the deadline, size of the cohort, its clients, a byte each for whether they reported, and the sum.
    pub fn to_unprotected_bytes(&self) -> Vec<u8> {
        let since_start = self.deadline.since_start();
        let mut bytes = MAGIC.to_vec();
        for number in [
            self.round.0,
            since_start.as_secs(),
            u64::from(since_start.subsec_nanos()),
            self.cohort.len() as u64,
        ]
        .iter()
        .chain(&self.cohort)
        {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend(self.reported.iter().map(|reported| u8::from(*reported)));
        bytes.extend_from_slice(&self.sum.to_unprotected_bytes());
        bytes
    }

    /// Reads what [`to_unprotected_bytes`](Self::to_unprotected_bytes) wrote, of reports with `dimension` coordinates.
    ///
    /// # Errors
    ///
    /// Anything else, and a sum that does not hold as many updates as clients have reported.
    pub fn from_unprotected_bytes(bytes: &[u8], dimension: usize) -> Result<Self, OpenRoundError> {
        let short = OpenRoundError("it is cut off");
        let mut rest = bytes
            .strip_prefix(MAGIC.as_slice())
            .ok_or(OpenRoundError("it begins with other bytes"))?;
        let mut number = || {
            let (first, others) = rest.split_first_chunk::<8>().ok_or(short)?;
            rest = others;
            Ok(u64::from_le_bytes(*first))
        };
        let (round, seconds, nanos, length) = (number()?, number()?, number()?, number()?);
        let nanos = u32::try_from(nanos)
            .ok()
            .filter(|nanos| *nanos < 1_000_000_000)
            .ok_or(OpenRoundError("its deadline is no time"))?;
        // Nine bytes a member are there, or this is refused before memory is taken.
        let members = usize::try_from(length)
            .ok()
            .filter(|members| *members <= bytes.len() / 9)
            .ok_or(short)?;
        let cohort = (0..members).map(|_| number()).collect::<Result<Vec<_>, _>>()?;
        if !cohort.is_sorted_by(|left, right| left < right) {
            return Err(OpenRoundError("its cohort is not in ascending order"));
        }
        let (flags, sum) = rest.split_at_checked(members).ok_or(short)?;
        if flags.iter().any(|flag| *flag > 1) {
            return Err(OpenRoundError("a client has neither reported nor not reported"));
        }
        let reported: Vec<_> = flags.iter().map(|flag| *flag == 1).collect();
        let sum = IntegerSum::from_unprotected_bytes(sum, dimension)
            .ok()
            .filter(|sum| sum.dimension() == dimension)
            .ok_or(OpenRoundError("its sum is damaged, or of another model"))?;
        if sum.n_added() != reported.iter().filter(|reported| **reported).count() as u64 {
            return Err(OpenRoundError(
                "its sum holds another number of updates than have reported",
            ));
        }
        Ok(Self {
            round: RoundId(round),
            deadline: Timestamp::new(Duration::new(seconds, nanos)),
            cohort,
            reported,
            sum,
        })
    }
}

/// Who is in a cohort, and the sum, stay out of sight.
impl fmt::Debug for OpenRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRound")
            .field("round", &self.round)
            .finish_non_exhaustive()
    }
}
