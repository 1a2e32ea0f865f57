//! Banded strategies with secret sampling inside groups of units.

use super::{MatrixError, ToeplitzStrategy, check_rounds};
use crate::{DpEvent, NoiseMultiplier, SamplingRate};

/// A banded strategy run on groups: units are split into `n_groups` groups, and round i samples each unit of
/// group i mod `n_groups` independently with the same secret probability.
///
/// The strategy has at most as many bands as there are groups, so two rounds of one group never share a row
/// of `C`. The run is then dominated by one Poisson-sampled Gaussian for each round that a group has
/// (Choquette-Choo et al. 2023, arXiv 2306.08153, Theorem 1).
///
/// It holds only if each unit's group is drawn independently of the data and of the other units, and the
/// sample stays secret from whoever is to be kept out.
#[derive(Debug, Clone, PartialEq)]
pub struct AmplifiedBanded {
    strategy: ToeplitzStrategy,
    n_groups: usize,
}

/// What an amplified run costs and how it samples.
#[derive(Debug, Clone, PartialEq)]
pub struct AmplifiedPlan {
    /// The whole run: one Poisson-sampled Gaussian, repeated. For add-or-remove-one and replace-by-zero.
    pub event: DpEvent,
    /// How often it is repeated: the most rounds that one group has.
    pub n_repetitions: u64,
    /// Probability with which a unit of the round's group is sampled.
    pub sampling_rate: SamplingRate,
    /// Noise multiplier of the repeated Gaussian: that of `Z` over the largest column norm.
    pub noise_multiplier: NoiseMultiplier,
    /// Units expected in a round: population × sampling rate / groups.
    pub expected_cohort: f64,
}

impl AmplifiedBanded {
    /// Refuses fewer groups than bands.
    pub fn new(strategy: ToeplitzStrategy, n_groups: usize) -> Result<Self, MatrixError> {
        if n_groups < strategy.n_bands() {
            let expected = format!("at least {}, the number of bands", strategy.n_bands());
            return Err(MatrixError::out_of_range("number of groups", expected, n_groups));
        }
        Ok(Self { strategy, n_groups })
    }

    /// The strategy.
    pub fn strategy(&self) -> &ToeplitzStrategy {
        &self.strategy
    }

    /// How many groups there are.
    pub fn n_groups(&self) -> usize {
        self.n_groups
    }

    /// The group whose units round `round` samples, both counted from 0.
    pub fn group_of(&self, round: usize) -> usize {
        round % self.n_groups
    }

    /// The cost of `n_rounds` rounds if `Z` has standard deviation `noise_multiplier` in units of the clip
    /// norm, each unit of the group is sampled with `sampling_rate`, and `population` units are declared.
    pub fn plan(
        &self,
        n_rounds: usize,
        noise_multiplier: NoiseMultiplier,
        sampling_rate: SamplingRate,
        population: u64,
    ) -> Result<AmplifiedPlan, MatrixError> {
        check_rounds(n_rounds)?;
        let square: f64 = self
            .strategy
            .coefficients()
            .iter()
            .take(n_rounds)
            .map(|c| c * c)
            .sum();
        // Rounded up, as a sensitivity is.
        let column_norm = square.sqrt() * (1.0 + (n_rounds as f64 + 4.0) * 2f64.powi(-50));
        let effective = noise_multiplier.value() / column_norm;
        let noise_multiplier = NoiseMultiplier::new(effective).map_err(|_| {
            MatrixError::out_of_range(
                "noise multiplier over column norm",
                "above 0 and finite",
                effective,
            )
        })?;
        let n_repetitions = n_rounds.div_ceil(self.n_groups) as u64;
        let gaussian = DpEvent::Gaussian { noise_multiplier };
        let sampled = DpEvent::PoissonSampled {
            sampling_rate,
            event: Box::new(gaussian),
        };
        Ok(AmplifiedPlan {
            event: DpEvent::Repeated {
                event: Box::new(sampled),
                count: n_repetitions,
            },
            n_repetitions,
            sampling_rate,
            noise_multiplier,
            expected_cohort: population as f64 * sampling_rate.value() / self.n_groups as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{ErrorMetric, Participation, optimize_banded};

    #[test]
    fn an_unsampled_group_costs_what_the_separation_costs() {
        let participation = Participation::min_separation(6, None).unwrap();
        let banded = optimize_banded(60, 6, &participation, ErrorMetric::RootMeanSquare).unwrap();
        let amplified = AmplifiedBanded::new(banded.strategy, 6).unwrap();
        let (z, certain) = (
            NoiseMultiplier::new(6.0).unwrap(),
            SamplingRate::new(1.0).unwrap(),
        );
        let plan = amplified.plan(60, z, certain, 1200).unwrap();
        assert_eq!(plan.n_repetitions, 10);
        // μ² adds up over the repetitions.
        let mu = (plan.n_repetitions as f64).sqrt() / plan.noise_multiplier.value();
        assert!((mu - banded.sensitivity.gaussian_dp(6.0)).abs() < 1e-10);
        assert!((plan.expected_cohort - 200.0).abs() < 1e-9);
    }

    #[test]
    fn the_event_repeats_once_for_each_turn_of_a_group() {
        let strategy = ToeplitzStrategy::new(vec![0.6, 0.8]).unwrap();
        let amplified = AmplifiedBanded::new(strategy.clone(), 16).unwrap();
        let z = NoiseMultiplier::new(1.5).unwrap();
        let plan = amplified
            .plan(2000, z, SamplingRate::new(0.1).unwrap(), 16_000)
            .unwrap();
        let DpEvent::Repeated { event, count: 125 } = &plan.event else {
            panic!("{plan:?}")
        };
        let DpEvent::PoissonSampled { sampling_rate, event } = event.as_ref() else {
            panic!("{plan:?}")
        };
        assert!((sampling_rate.value() - 0.1).abs() < 1e-15);
        let DpEvent::Gaussian { noise_multiplier } = event.as_ref() else {
            panic!("{plan:?}")
        };
        assert!(noise_multiplier.value() <= 1.5 && noise_multiplier.value() > 1.5 * (1.0 - 1e-11));
        assert_eq!(
            (0..5).map(|i| amplified.group_of(i * 10)).collect::<Vec<_>>(),
            [0, 10, 4, 14, 8]
        );
        assert_eq!(
            AmplifiedBanded::new(strategy, 1).unwrap_err().to_string(),
            "number of groups must be at least 2, the number of bands, got 1"
        );
    }
}
