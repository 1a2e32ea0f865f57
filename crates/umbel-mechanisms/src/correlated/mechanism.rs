//! The matrix mechanism as one value: what it costs and what noise it adds.

use umbel_accounting::{
    DpEvent, NoiseMultiplier,
    matrix::{MatrixError, MatrixStrategy, Participation, StrategySensitivity},
};

use super::{CorrelatedError, CorrelatedNoise};

/// A run of DP-FTRL: a strategy, a number of rounds, who may take part when, and how much noise.
///
/// # Privacy
///
/// The whole run costs exactly [`event`](Self::event), one Gaussian release, if in each round 1. every unit's
/// contribution has L2 norm at most C (clipped, whoever made it) and no unit takes part other than
/// [`participation`](Self::participation) says, which its client can enforce; 2. the sum gets the noise of
/// [`noise`](Self::noise), made of independent Gaussian draws of standard deviation
/// [`noise_multiplier`](Self::noise_multiplier) × C that nobody sees, and nothing else of the sum is shown.
///
/// Then what is shown is a function of `C X + Z`, and one unit moves `C X` by at most the sensitivity × C.
/// Contributions may depend on earlier releases, since `C` is lower triangular and `Z` Gaussian (Denisov et
/// al. 2022, arXiv 2202.08312). The clip norm may change between rounds if noise is made in units of C and
/// multiplied by the round's C. No sampling is assumed and none is credited. On a grid: round each round's
/// output, never the recursion.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixMechanism {
    strategy: MatrixStrategy,
    n_rounds: usize,
    participation: Participation,
    noise_multiplier: NoiseMultiplier,
    sensitivity: StrategySensitivity,
    event: DpEvent,
}

impl MatrixMechanism {
    /// Computes the sensitivity; an error where that is impossible.
    pub fn new(
        strategy: MatrixStrategy,
        n_rounds: usize,
        participation: Participation,
        noise_multiplier: NoiseMultiplier,
    ) -> Result<Self, MatrixError> {
        let sensitivity = strategy.sensitivity(n_rounds, &participation)?;
        let event = sensitivity
            .event(noise_multiplier)
            .map_err(|error| MatrixError::OutOfRange {
                name: error.name,
                expected: error.expected.into(),
                got: error.got.to_string(),
            })?;
        Ok(Self {
            strategy,
            n_rounds,
            participation,
            noise_multiplier,
            sensitivity,
            event,
        })
    }

    /// What the whole run costs, however many of its rounds are run.
    pub fn event(&self) -> &DpEvent {
        &self.event
    }

    /// The recursion that makes the noise, before the first round. It ends with the last round that is paid
    /// for.
    pub fn noise(&self, dimension: usize) -> Result<CorrelatedNoise, CorrelatedError> {
        CorrelatedNoise::new(&self.strategy, self.n_rounds, dimension)
    }

    /// The strategy matrix.
    pub fn strategy(&self) -> &MatrixStrategy {
        &self.strategy
    }

    /// Rounds that are paid for.
    pub fn n_rounds(&self) -> usize {
        self.n_rounds
    }

    /// When a unit may take part.
    pub fn participation(&self) -> &Participation {
        &self.participation
    }

    /// Standard deviation of the draws over the clip norm.
    pub fn noise_multiplier(&self) -> NoiseMultiplier {
        self.noise_multiplier
    }

    /// How far one unit moves the strategy's outputs, in units of the clip norm.
    pub fn sensitivity(&self) -> StrategySensitivity {
        self.sensitivity
    }
}

#[cfg(test)]
mod tests {
    use umbel_accounting::matrix::{ErrorMetric, TreeEstimator, TreeStrategy, optimize_buffered};

    use super::*;

    #[test]
    fn event_and_noise_speak_of_the_same_run() {
        let participation = Participation::min_separation(20, Some(3)).unwrap();
        let best = optimize_buffered(100, 2, &participation, ErrorMetric::RootMeanSquare).unwrap();
        let z = NoiseMultiplier::new(8.0).unwrap();
        let strategy = MatrixStrategy::Buffered(best.strategy);
        let mechanism = MatrixMechanism::new(strategy, 100, participation, z).unwrap();
        let DpEvent::MatrixMechanism {
            noise_multiplier,
            sensitivity,
        } = mechanism.event()
        else {
            panic!()
        };
        assert_eq!(*noise_multiplier, z);
        assert!((sensitivity.value() - best.sensitivity.value).abs() < 1e-15);
        let mut noise = mechanism.noise(1).unwrap();
        for _ in 0..100 {
            noise.next_round(&[1.0], &mut [0.0]).unwrap();
        }
        let error = noise.next_round(&[1.0], &mut [0.0]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the run is over after 100 rounds, got one more"
        );
        let mut resumed = CorrelatedNoise::decode(&noise.encode()).unwrap();
        assert!(resumed.next_round(&[1.0], &mut [0.0]).is_err());
    }

    #[test]
    fn impossible_runs_are_refused() {
        let strategy = MatrixStrategy::Tree(TreeStrategy::new(TreeEstimator::Binary));
        let z = NoiseMultiplier::new(1.0).unwrap();
        assert!(MatrixMechanism::new(strategy, 0, Participation::single(), z).is_err());
    }
}
