//! Whether realised cohort sizes can have come from the coins that were promised.

use serde::Serialize;
use umbel_accounting::binomial::upper_tail;

/// Chance that cohorts drawn as promised are called wrong.
pub const LEVEL: f64 = 1e-6;

/// What the test found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CohortTest {
    /// Rounds whose cohort size was opened.
    pub rounds: u64,
    /// Clients expected in all of them together.
    pub expected: f64,
    /// Clients that were in all of them together.
    pub realised: u64,
    /// Chance of something at least as strange, if the coins were as promised. Below [`LEVEL`] the sizes are called wrong.
    pub p_value: f64,
}

impl CohortTest {
    /// Whether the sizes can be what was promised.
    pub fn passes(&self) -> bool {
        self.p_value >= LEVEL
    }
}

/// Tests `sizes`, one a round, against independent coins of probability `rate` for each of `population` clients.
///
/// Four one-sided binomial tests, all exact and fixed in advance; the smallest p-value counts fourfold (Bonferroni):
/// * the total is too large or too small: it is binomial over all clients and rounds;
/// * sizes are too regular, as where a cohort of fixed size is drawn: the number of rounds whose size is within a fifth of a
///   standard deviation of the mean is binomial;
/// * sizes are too irregular, as where coins are tossed together: so is the number of rounds more than two away.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are below 2^53, and bounds are taken into 0 to the population first"
)]
pub fn test_cohorts(sizes: &[u64], population: u64, rate: f64) -> CohortTest {
    let rounds = sizes.len() as u64;
    let realised = sizes.iter().sum();
    let mean = population as f64 * rate;
    let deviation = (mean * (1.0 - rate)).sqrt();
    let trials = population.saturating_mul(rounds);
    let mut p_values = vec![
        upper_tail(trials, rate, realised),
        upper_tail(trials, 1.0 - rate, trials.saturating_sub(realised)),
    ];
    // Sizes from `low` to `high`, both included, and how probable they are.
    let window = |width: f64| {
        let low = (mean - width).ceil().max(0.0) as u64;
        let high = (mean + width).floor().min(population as f64) as u64;
        let mass = if low > high {
            0.0
        } else {
            upper_tail(population, rate, low) - upper_tail(population, rate, high + 1)
        };
        (low..=high, mass)
    };
    let count = |inside: &dyn Fn(&u64) -> bool| sizes.iter().filter(|size| inside(size)).count() as u64;
    let (regular, mass) = window((0.2 * deviation).max(0.5));
    p_values.push(upper_tail(rounds, mass, count(&|size| regular.contains(size))));
    let (usual, mass) = window(2.0 * deviation);
    p_values.push(upper_tail(
        rounds,
        1.0 - mass,
        count(&|size| !usual.contains(size)),
    ));
    CohortTest {
        rounds,
        expected: mean * rounds as f64,
        realised,
        p_value: (4.0 * p_values.into_iter().fold(1.0, f64::min)).min(1.0),
    }
}

/// Tests `sizes`, one a round, against clients that take turns: each takes part in a round with probability `rate`,
/// independently of the others. Rounds of one group depend on each other, so each round is tested by itself, on both sides, and the
/// smallest p-value counts as often as there are tests.
#[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
pub fn test_turns(sizes: &[u64], population: u64, rate: f64) -> CohortTest {
    let rounds = sizes.len() as u64;
    let tails = sizes.iter().flat_map(|&size| {
        [
            upper_tail(population, rate, size),
            upper_tail(population, 1.0 - rate, population.saturating_sub(size)),
        ]
    });
    CohortTest {
        rounds,
        expected: population as f64 * rate * rounds as f64,
        realised: sizes.iter().sum(),
        p_value: (2.0 * rounds as f64 * tails.fold(1.0, f64::min)).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use umbel_accounting::SamplingRate;
    use umbel_mechanisms::{CohortSource, SimulationSeed, Turns, poisson_cohort};

    /// Cohorts as the round engine draws them.
    fn drawn(rounds: u64, population: u64, rate: f64) -> Vec<u64> {
        let source = CohortSource::simulated(SimulationSeed::new(5));
        let rate = SamplingRate::new(rate).unwrap();
        (1..=rounds)
            .map(|round| poisson_cohort(&source, round, population, rate).len() as u64)
            .collect()
    }

    #[test]
    fn cohorts_of_the_promised_coins_pass() {
        for (rounds, population, rate) in [(200, 1_000, 0.1), (40, 539, 0.25), (3, 10, 0.5), (50, 20, 1.0)] {
            let test = test_cohorts(&drawn(rounds, population, rate), population, rate);
            assert!(test.p_value > 1e-3, "{test:?}");
        }
        assert!(test_cohorts(&[], 10, 0.5).passes());
    }

    #[test]
    fn cohorts_of_turns_pass_and_others_are_found() {
        let turns = Turns::new(4, Some(3), 40, 30.0, 1_000).unwrap();
        let source = CohortSource::simulated(SimulationSeed::new(5));
        let sizes: Vec<u64> = (1..=40)
            .map(|round| turns.cohort(&source, round, 1_000).len() as u64)
            .collect();
        let test = test_turns(&sizes, 1_000, 0.03);
        assert!(test.p_value > 1e-3, "{test:?}");
        assert!(!test_turns(&sizes, 1_000, 0.1).passes());
        assert!(!test_turns(&sizes, 1_000, 0.005).passes());
        let mut one_empty = sizes;
        one_empty[7] = 0;
        assert!(!test_turns(&one_empty, 1_000, 0.03).passes());
    }

    #[test]
    fn cohorts_of_a_fixed_size_are_found() {
        assert!(!test_cohorts(&[100; 20], 1_000, 0.1).passes());
    }

    #[test]
    fn cohorts_at_another_rate_are_found() {
        assert!(!test_cohorts(&drawn(100, 1_000, 0.12), 1_000, 0.1).passes());
        assert!(!test_cohorts(&drawn(100, 1_000, 0.08), 1_000, 0.1).passes());
    }

    #[test]
    fn coins_tossed_together_are_found() {
        let together: Vec<_> = (0..100)
            .map(|round| if round % 10 == 0 { 1_000 } else { 0 })
            .collect();
        assert!(!test_cohorts(&together, 1_000, 0.1).passes());
    }
}
