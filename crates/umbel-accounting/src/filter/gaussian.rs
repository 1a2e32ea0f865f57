//! The Gaussian-DP filter.

use super::{
    FilterError, check_amount, check_limit,
    codec::{Reader, Writer},
    meter::Meter,
};
use crate::{Delta, Epsilon, NeighboringRelation, NoiseMultiplier, gaussian};

const KIND: u8 = 3;
const QUANTITY: &str = "Σ μ²";

/// Refuses steps so that the whole is μ-Gaussian-DP, though each step's μ_t may be chosen after seeing the
/// outputs before it.
///
/// Σ μ_t² ≤ μ² is enough, as without adaptivity (Smith and Thakurta 2022, arXiv 2210.17520). A Gaussian
/// release of noise multiplier z has μ = 1/z under add-or-remove-one and replace-by-zero, 2/z under
/// replace-one. It is for releases **without sampling**: a Poisson-sampled Gaussian is not Gaussian-DP at any
/// useful μ, and its central-limit μ is no bound.
#[derive(Debug, Clone, PartialEq)]
pub struct GaussianFilter {
    meter: Meter,
}

impl GaussianFilter {
    /// Refuses a μ of 0 or infinity.
    pub fn new(mu: f64) -> Result<Self, FilterError> {
        check_limit("limit on mu", mu)?;
        Ok(Self {
            meter: Meter::new(check_limit("square of the limit on mu", mu * mu)?),
        })
    }

    /// The largest μ that gives `epsilon` at `delta`, by the exact curve of the Gaussian mechanism.
    pub fn for_target(epsilon: Epsilon, delta: Delta) -> Result<Self, FilterError> {
        check_limit("epsilon", epsilon.value())?;
        let mu = 1.0 / gaussian::noise_for(epsilon.value(), delta.value());
        Ok(Self {
            meter: Meter::derived(check_limit("square of the limit on mu", mu * mu)?),
        })
    }

    /// Charges a step that is `mu`-Gaussian-DP whatever came before it.
    pub fn try_charge(&mut self, mu: f64) -> Result<(), FilterError> {
        check_amount("mu", mu)?;
        self.meter = self.meter.charged(QUANTITY, mu * mu)?;
        Ok(())
    }

    /// Charges a Gaussian release without sampling.
    pub fn try_charge_release(
        &mut self,
        noise_multiplier: NoiseMultiplier,
        relation: NeighboringRelation,
    ) -> Result<(), FilterError> {
        self.try_charge(relation.sensitivity() / noise_multiplier.value())
    }

    /// √(Σ μ²) so far.
    pub fn spent(&self) -> f64 {
        self.meter.spent().sqrt()
    }

    /// The most that μ may become.
    pub fn limit(&self) -> f64 {
        self.meter.limit().sqrt()
    }

    /// ε of the whole at `delta`, at the limit; holds however the steps were chosen.
    pub fn epsilon(&self, delta: Delta) -> Epsilon {
        let (_, upper) = gaussian::epsilon(self.meter.most().sqrt() * (1.0 + f64::EPSILON), delta.value());
        Epsilon::new(upper).unwrap_or(Epsilon::INFINITE)
    }

    /// The state, exactly.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND);
        self.meter.write(&mut writer);
        writer.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FilterError> {
        let mut reader = Reader::new(bytes, KIND)?;
        let meter = Meter::read_kept(&mut reader)?;
        reader.finish()?;
        check_limit("square of the limit on mu", meter.limit())?;
        Ok(Self { meter })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_releases_fill_the_budget_exactly() {
        // 16 releases of μ = 1/4 make μ = 1.
        let mut filter = GaussianFilter::new(1.0).unwrap();
        let four = NoiseMultiplier::new(4.0).unwrap();
        for _ in 0..16 {
            filter
                .try_charge_release(four, NeighboringRelation::ReplaceByZero)
                .unwrap();
        }
        assert!((filter.spent() - 1.0).abs() < 1e-15);
        let before = filter.clone();
        let refused = filter.try_charge(0.01);
        assert!(matches!(refused, Err(FilterError::Exhausted(refusal)) if refusal.quantity == QUANTITY));
        assert_eq!(filter, before);
        let mut other = GaussianFilter::new(1.0).unwrap();
        for _ in 0..4 {
            other
                .try_charge_release(four, NeighboringRelation::ReplaceOne)
                .unwrap();
        }
        assert!(
            other
                .try_charge_release(four, NeighboringRelation::ReplaceOne)
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn a_target_is_met_and_nothing_is_left_over(
            epsilon in 0.01..30.0_f64, log_delta in -200.0..-1.0_f64,
        ) {
            let delta = Delta::new(log_delta.exp()).unwrap();
            let filter = GaussianFilter::for_target(Epsilon::new(epsilon).unwrap(), delta).unwrap();
            let reached = filter.epsilon(delta).value();
            prop_assert!(reached <= epsilon && reached > epsilon * (1.0 - 1e-8), "{} {}", reached, epsilon);
            prop_assert_eq!(GaussianFilter::decode(&filter.encode()).unwrap(), filter);
        }
    }

    #[test]
    fn numbers_that_mean_nothing_are_refused() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-200, 1e200] {
            assert!(GaussianFilter::new(bad).is_err(), "{bad}");
        }
        let mut filter = GaussianFilter::new(1.0).unwrap();
        for bad in [-1.0, f64::NAN, f64::INFINITY, 1e200] {
            assert!(filter.try_charge(bad).is_err(), "{bad}");
        }
    }
}
