//! The zCDP filter.

use super::{
    FilterError, check_limit,
    codec::{Reader, Writer},
    meter::Meter,
};
use crate::{Delta, Epsilon, Rho, search};

const KIND: u8 = 2;
const QUANTITY: &str = "ρ";

/// Refuses steps so that the whole is ρ-zCDP, though each step's ρ_t may be chosen after seeing the outputs
/// before it.
///
/// A ρ_t-zCDP step has divergence at most ρ_t α at every order, so the Rényi filter with B(α) = ρ α passes at
/// every order at once exactly while Σ ρ_t ≤ ρ (Feldman and Zrnic 2021, arXiv 2008.11193). Since all orders
/// hold, ε may be read off at the best one, and for any δ.
#[derive(Debug, Clone, PartialEq)]
pub struct ZcdpFilter {
    meter: Meter,
}

impl ZcdpFilter {
    /// Refuses a limit of 0 or infinity.
    pub fn new(limit: Rho) -> Result<Self, FilterError> {
        Ok(Self {
            meter: Meter::new(check_limit("limit on rho", limit.value())?),
        })
    }

    /// The largest limit that gives `epsilon` at `delta`.
    pub fn for_target(epsilon: Epsilon, delta: Delta) -> Result<Self, FilterError> {
        check_limit("epsilon", epsilon.value())?;
        let fits = |log_rho: f64| epsilon_of(log_rho.exp(), delta.value()) <= epsilon.value();
        let (mut low, mut high) = (-700.0, epsilon.value().ln());
        // A δ near 1 leaves room for a ρ above ε.
        while fits(high) && high < 700.0 {
            high += 1.0;
        }
        for _ in 0..80 {
            let middle = 0.5 * (low + high);
            if fits(middle) { low = middle } else { high = middle }
        }
        let rho = low.exp();
        check_limit("limit on rho", if fits(low) { rho } else { 0.0 })?;
        Ok(Self {
            meter: Meter::derived(rho),
        })
    }

    /// Charges a step that is `rho`-zCDP whatever came before it.
    pub fn try_charge(&mut self, rho: Rho) -> Result<(), FilterError> {
        self.meter = self.meter.charged(QUANTITY, rho.value())?;
        Ok(())
    }

    /// ρ spent so far.
    pub fn spent(&self) -> f64 {
        self.meter.spent()
    }

    /// The most that may be spent.
    pub fn limit(&self) -> f64 {
        self.meter.limit()
    }

    /// ε of the whole at `delta`, at the limit; holds however the steps were chosen.
    pub fn epsilon(&self, delta: Delta) -> Epsilon {
        Epsilon::new(epsilon_of(self.meter.most(), delta.value())).unwrap_or(Epsilon::INFINITE)
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
        check_limit("limit on rho", meter.limit())?;
        Ok(Self { meter })
    }
}

/// ε of ρ-zCDP at δ: the smallest over orders of Canonne, Kamath and Steinke 2020, Proposition 12.
pub(super) fn epsilon_of(rho: f64, delta: f64) -> f64 {
    // δ(0) is at most sqrt(1 − e^−ρ), as the Kullback-Leibler divergence is at most ρ.
    if (-rho).exp_m1() + delta * delta >= 0.0 {
        return 0.0;
    }
    let at = |log_excess: f64| {
        let (excess, order) = (log_excess.exp(), 1.0 + log_excess.exp());
        rho * order + (excess / order).ln() - (delta.ln() + order.ln()) / excess
    };
    // Near the optimum of the plain conversion ρ α + ln(1/δ) / (α − 1); a δ near 1 wants smaller orders.
    let middle = 0.5 * (-delta.ln()).max(1e-300).ln() - 0.5 * rho.max(1e-300).ln();
    let (_, found) = search::minimise(middle - 12.0, middle + 12.0, 1e-9, at);
    // Every order gives a bound that holds, so the ends may help where rounding has misled the search.
    found.min(at(middle)).max(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rho(value: f64) -> Rho {
        Rho::new(value).unwrap()
    }

    #[test]
    fn charges_up_to_the_limit_and_not_beyond() {
        let mut filter = ZcdpFilter::new(rho(0.5)).unwrap();
        for _ in 0..5 {
            filter.try_charge(rho(0.1)).unwrap();
        }
        let before = filter.clone();
        let error = filter.try_charge(rho(0.001)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "budget exhausted: ρ spent 0.5, asked 0.001, limit 0.5"
        );
        assert_eq!(filter, before);
        filter.try_charge(rho(0.0)).unwrap();
        assert!(filter.try_charge(rho(f64::INFINITY)).is_err());
    }

    #[test]
    fn epsilon_is_no_more_than_the_plain_conversion() {
        for (limit, delta) in [(0.5, 1e-5), (1e-6, 1e-9), (30.0, 1e-12), (0.01, 0.3)] {
            let filter = ZcdpFilter::new(rho(limit)).unwrap();
            let epsilon = filter.epsilon(Delta::new(delta).unwrap()).value();
            let plain = limit + 2.0 * (limit * (1.0 / delta).ln()).sqrt();
            assert!(
                epsilon < plain && epsilon > 0.2 * plain - 0.2,
                "{epsilon} {plain}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_target_is_met_and_nothing_is_left_over(
            epsilon in 0.01..30.0_f64, log_delta in -200.0..-1.0_f64,
        ) {
            let delta = Delta::new(log_delta.exp()).unwrap();
            let filter = ZcdpFilter::for_target(Epsilon::new(epsilon).unwrap(), delta).unwrap();
            prop_assert!(filter.epsilon(delta).value() <= epsilon);
            prop_assert!(epsilon_of(filter.limit() * 1.001, delta.value()) > epsilon * (1.0 - 1e-9));
            prop_assert_eq!(ZcdpFilter::decode(&filter.encode()).unwrap(), filter);
        }

        #[test]
        fn no_target_panics(epsilon in 0.0..f64::MAX, delta in 0.0..1.0_f64) {
            if let (Ok(epsilon), Ok(delta)) = (Epsilon::new(epsilon), Delta::new(delta)) {
                let _ = ZcdpFilter::for_target(epsilon, delta);
            }
        }
    }

    #[test]
    fn limits_that_mean_nothing_are_refused() {
        assert!(ZcdpFilter::new(rho(0.0)).is_err() && ZcdpFilter::new(rho(f64::INFINITY)).is_err());
        assert!(ZcdpFilter::for_target(Epsilon::INFINITE, Delta::new(0.1).unwrap()).is_err());
        assert!(ZcdpFilter::decode(b"UFL1\x02").is_err());
    }
}
