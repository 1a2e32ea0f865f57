//! The filter for (ε, δ) steps.

use super::{
    FilterError, check_limit,
    codec::{Reader, Writer},
    meter::Meter,
};
use crate::{Delta, Epsilon};

const KIND: u8 = 4;

/// Refuses steps so that the whole is (ε, δ′ + δ″)-DP, though each step's (ε_t, δ_t) may be chosen after
/// seeing the outputs before it: √(2 ln(1/δ′) Σ ε_t²) + ½ Σ ε_t² ≤ ε and Σ δ_t ≤ δ″ (Whitehouse et al. 2023,
/// arXiv 2203.05481, Theorem 1).
///
/// That is the rate of advanced composition at no price for adaptivity. For steps of which a Rényi or
/// Gaussian description is known, the other filters are tighter; for a few large steps a
/// [`super::SharedBudget`] that adds ε up is.
#[derive(Debug, Clone, PartialEq)]
pub struct ApproximateFilter {
    epsilon: Epsilon,
    composition_delta: Delta,
    squares: Meter,
    deltas: Meter,
}

impl ApproximateFilter {
    /// A filter for ε; δ′ is for the composition itself, δ″ for the sum of the steps' own δ (`None` if they
    /// are all pure).
    ///
    /// Refuses δ′ + δ″ of 1 or more.
    pub fn new(
        epsilon: Epsilon,
        composition_delta: Delta,
        steps_delta: Option<Delta>,
    ) -> Result<Self, FilterError> {
        check_limit("epsilon", epsilon.value())?;
        let steps_delta = steps_delta.map_or(0.0, Delta::value);
        Delta::new(composition_delta.value() + steps_delta)?;
        // √S solves ½ S + √S √L = ε with L = 2 ln(1/δ′): 2ε / (√L + √(L + 2ε)).
        let log = -2.0 * composition_delta.value().ln();
        let root = 2.0 * epsilon.value() / (log.sqrt() + (log + 2.0 * epsilon.value()).sqrt());
        let squares = Meter::derived(check_limit("limit on the sum of squared epsilons", root * root)?);
        Ok(Self {
            epsilon,
            composition_delta,
            squares,
            deltas: Meter::new(steps_delta),
        })
    }

    /// Charges a step that is (`epsilon`, `delta`)-DP whatever came before it; `None` for pure steps.
    pub fn try_charge(&mut self, epsilon: Epsilon, delta: Option<Delta>) -> Result<(), FilterError> {
        let squares = self.squares.charged("Σ ε²", epsilon.value() * epsilon.value())?;
        let deltas = self.deltas.charged("Σ δ", delta.map_or(0.0, Delta::value))?;
        (self.squares, self.deltas) = (squares, deltas);
        Ok(())
    }

    /// Σ ε² spent and its limit.
    pub fn squares(&self) -> (f64, f64) {
        (self.squares.spent(), self.squares.limit())
    }

    /// Σ δ spent and its limit.
    pub fn deltas(&self) -> (f64, f64) {
        (self.deltas.spent(), self.deltas.limit())
    }

    /// ε and δ′ + δ″: what is guaranteed however the steps were chosen. δ is rounded up.
    pub fn guarantee(&self) -> (Epsilon, f64) {
        (
            self.epsilon,
            (self.composition_delta.value() + self.deltas.most()).next_up(),
        )
    }

    /// The state, exactly.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND);
        writer.float(self.epsilon.value());
        writer.float(self.composition_delta.value());
        self.squares.write(&mut writer);
        self.deltas.write(&mut writer);
        writer.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FilterError> {
        let mut reader = Reader::new(bytes, KIND)?;
        let epsilon = Epsilon::new(reader.float()?)?;
        let composition_delta = Delta::new(reader.float()?)?;
        let squares = Meter::read_kept(&mut reader)?;
        let deltas = Meter::read_kept(&mut reader)?;
        reader.finish()?;
        let steps_delta = if deltas.limit() > 0.0 {
            Some(Delta::new(deltas.limit())?)
        } else {
            None
        };
        let fresh = Self::new(epsilon, composition_delta, steps_delta)?;
        let (expected, got) = (fresh.squares.limit(), squares.limit());
        if (expected - got).abs() > 1e-9 * expected {
            return Err(FilterError::state(format!("the limit {expected}"), got));
        }
        Ok(Self {
            squares,
            deltas,
            ..fresh
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delta(value: f64) -> Delta {
        Delta::new(value).unwrap()
    }

    fn epsilon(value: f64) -> Epsilon {
        Epsilon::new(value).unwrap()
    }

    #[test]
    fn many_small_steps_get_the_square_root_and_few_large_ones_do_not() {
        let mut filter = ApproximateFilter::new(epsilon(1.0), delta(1e-6), Some(delta(1e-6))).unwrap();
        let mut taken = 0;
        while filter.try_charge(epsilon(0.001), Some(delta(1e-12))).is_ok() {
            taken += 1;
        }
        // The rule, from the definition.
        let holds = |n: f64| (2.0 * 1e6_f64.ln() * n * 1e-6).sqrt() + 0.5 * n * 1e-6 <= 1.0;
        assert!(holds(f64::from(taken)) && !holds(f64::from(taken + 1)), "{taken}");
        assert!(taken > 30_000, "adding ε up would stop at 1000");
        let (total, sum) = filter.guarantee();
        assert!(total == epsilon(1.0) && (2e-6..2.000_001e-6).contains(&sum));
    }

    #[test]
    fn either_limit_refuses_and_nothing_changes() {
        let mut filter = ApproximateFilter::new(epsilon(1.0), delta(1e-6), Some(delta(1e-6))).unwrap();
        filter.try_charge(epsilon(0.1), Some(delta(9e-7))).unwrap();
        let before = filter.clone();
        let by_delta = filter.try_charge(epsilon(0.1), Some(delta(2e-7))).unwrap_err();
        assert!(
            by_delta.to_string().starts_with("budget exhausted: Σ δ spent"),
            "{by_delta}"
        );
        let by_epsilon = filter.try_charge(epsilon(0.9), None).unwrap_err();
        assert!(
            by_epsilon.to_string().starts_with("budget exhausted: Σ ε² spent"),
            "{by_epsilon}"
        );
        assert!(filter.try_charge(Epsilon::INFINITE, None).is_err());
        assert_eq!(filter, before);
        let mut pure = ApproximateFilter::new(epsilon(1.0), delta(1e-6), None).unwrap();
        assert!(pure.try_charge(epsilon(0.1), Some(delta(1e-300))).is_err());
        assert!(pure.try_charge(epsilon(0.1), None).is_ok());
    }

    proptest! {
        #[test]
        fn the_rule_holds_after_any_charges(
            limit in 1e-3..50.0_f64, log_delta in -50.0..-1.0_f64,
            steps in prop::collection::vec((0.0..1.0_f64, 0.0..1e-6_f64), 1..60),
        ) {
            let steps_delta = delta(1e-5);
            let own = delta(log_delta.exp());
            let mut filter = ApproximateFilter::new(epsilon(limit), own, Some(steps_delta)).unwrap();
            let (mut squares, mut deltas) = (0.0, 0.0);
            for (step, step_delta) in steps {
                if filter.try_charge(epsilon(step), Delta::new(step_delta).ok()).is_ok() {
                    squares += step * step;
                    deltas += step_delta;
                }
                let restored = ApproximateFilter::decode(&filter.encode()).unwrap();
                prop_assert_eq!(&restored, &filter);
            }
            prop_assert!((-2.0 * log_delta * squares).sqrt() + 0.5 * squares <= limit * (1.0 + 1e-13));
            prop_assert!(deltas <= 1e-5 * (1.0 + 2e-12));
        }
    }

    #[test]
    fn limits_that_mean_nothing_are_refused() {
        assert!(ApproximateFilter::new(epsilon(0.0), delta(0.1), None).is_err());
        assert!(ApproximateFilter::new(Epsilon::INFINITE, delta(0.1), None).is_err());
        assert!(ApproximateFilter::new(epsilon(1.0), delta(0.6), Some(delta(0.6))).is_err());
    }
}
