//! Simulated truth for the estimators' tests.

use rand_core::Rng as _;
use rand_distr::{Distribution as _, StandardNormal};
use umbel_mechanisms::{NO_CLIENT, Purpose, RandomStream, SimulationSeed};

use super::{ErrorCounts, Guesses};

/// Scores of canaries that are each in by a fair coin: N(µ, 1) if in, N(0, 1) if not.
pub(crate) struct Draws(RandomStream);

impl Draws {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SimulationSeed::new(seed).stream(Purpose::Canary, 0, NO_CLIENT))
    }

    fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    pub(crate) fn scores(&mut self, n: usize, mu: f64) -> (Vec<f64>, Vec<f64>) {
        let (mut included, mut excluded) = (Vec::new(), Vec::new());
        for _ in 0..n {
            let score = self.normal();
            if self.0.next_u32() & 1 == 1 {
                included.push(score + mu);
            } else {
                excluded.push(score);
            }
        }
        (included, excluded)
    }

    /// Half of `made` guesses on the highest scores, half on the lowest.
    pub(crate) fn guesses(&mut self, canaries: u32, made: u32, mu: f64) -> Guesses {
        let (included, excluded) = self.scores(canaries as usize, mu);
        crate::guessing::guesses(&included, &excluded, made / 2, made / 2)
    }

    /// Errors of the test at the middle, over `n` runs in each world.
    pub(crate) fn error_counts(&mut self, n: u32, mu: f64) -> ErrorCounts {
        let mut above = |shift: f64| (0..n).filter(|_| self.normal() + shift > 0.5 * mu).count();
        let (false_positives, right) = (above(0.0), above(mu));
        let count = |n: usize| u32::try_from(n).unwrap();
        ErrorCounts {
            without: n,
            false_positives: count(false_positives),
            with: n,
            false_negatives: n - count(right),
        }
    }
}

/// Fails if a count of events of probability at most `share` is so large, or with `exact` so small, that this has probability
/// 1e-6 (4.9 standard deviations, and a half for continuity).
pub(crate) fn check_share(count: usize, trials: u32, share: f64, exact: bool) {
    let (count, trials) = (f64::from(u32::try_from(count).unwrap()), f64::from(trials));
    let (expected, allowed) = (
        trials * share,
        4.9 * (trials * share * (1.0 - share)).sqrt() + 0.5,
    );
    assert!(
        count <= expected + allowed,
        "{count} of {trials} exceed, expected {expected}"
    );
    if exact {
        assert!(
            count >= expected - allowed,
            "{count} of {trials} exceed, expected {expected}"
        );
    }
}
