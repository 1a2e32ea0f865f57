//! What a plan costs along the way.

use serde::Serialize;
use umbel_accounting::{Accountant, AccountingError, Delta, DpEvent, Epsilon};

use super::number::{finite, whole};
use crate::args::budget::Spacing;

/// ε after some of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Growth {
    pub(super) steps: u64,
    /// Certified upper bound; null means infinite.
    pub(super) epsilon: Option<f64>,
    pub(super) epsilon_lower: Option<f64>,
}

/// Composes `event` as often as the last of `counts`, which ascend, and says what it costs after each of them.
pub(super) fn growth(
    accountant: &mut dyn Accountant,
    event: &DpEvent,
    delta: Delta,
    counts: &[u64],
    tick: &dyn Fn(),
) -> Result<Vec<Growth>, AccountingError> {
    let mut done = 0;
    let mut points = Vec::with_capacity(counts.len());
    for &steps in counts {
        accountant.compose(event, steps - done)?;
        done = steps;
        let bounds = accountant.epsilon(delta)?;
        points.push(Growth {
            steps,
            epsilon: finite(bounds.upper.value()),
            epsilon_lower: bounds.lower.map(Epsilon::value).and_then(finite),
        });
        tick();
    }
    Ok(points)
}

/// At most `most` different numbers from 1 to `total`, ascending, both ends included.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and kept between 1 and `total`"
)]
pub(super) fn counts(total: u64, most: u32, spacing: Spacing) -> Vec<u64> {
    let last = f64::from(most.max(2) - 1);
    let mut counts: Vec<u64> = (0..most.max(2))
        .map(|index| {
            let share = f64::from(index) / last;
            let count = match spacing {
                Spacing::Linear => 1.0 + share * (whole(total) - 1.0),
                Spacing::Log => whole(total).powf(share),
            };
            (count.round() as u64).clamp(1, total)
        })
        .collect();
    counts.push(total);
    counts.dedup();
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_ascend_and_hold_both_ends() {
        assert_eq!(counts(1, 20, Spacing::Log), [1]);
        assert_eq!(counts(3, 20, Spacing::Linear), [1, 2, 3]);
        assert_eq!(counts(1000, 4, Spacing::Log), [1, 10, 100, 1000]);
        assert_eq!(counts(10, 4, Spacing::Linear), [1, 4, 7, 10]);
        for total in [2, 7, 19, 20, 21, 1_000_000, 1 << 53] {
            for spacing in [Spacing::Log, Spacing::Linear] {
                let counts = counts(total, 20, spacing);
                assert!(
                    counts.len() <= 21 && counts.windows(2).all(|pair| pair[0] < pair[1]),
                    "{counts:?}"
                );
                assert_eq!((counts.first(), counts.last()), (Some(&1), Some(&total)));
            }
        }
    }
}
