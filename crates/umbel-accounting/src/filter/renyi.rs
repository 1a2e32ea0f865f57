//! The Rényi filter.

use super::{
    BudgetExhausted, FilterError, check_amount,
    codec::{Reader, Writer},
    meter::Meter,
};
use crate::{Delta, Epsilon, ParamError};

const KIND: u8 = 1;

/// Refuses steps so that the whole is (ε, δ)-DP, though noise, sampling rate and length of each step may be
/// chosen after seeing the outputs before it.
///
/// For one order α: if each step has Rényi divergence at most ρ_t(α) given its past, and steps are refused
/// whose ρ_t(α) would carry the sum above B, the whole has divergence at most B (Feldman and Zrnic 2021,
/// arXiv 2008.11193, Theorem 3.1). B(α) is the largest that gives ε at δ by Canonne, Kamath and Steinke 2020,
/// Proposition 12.
///
/// With m orders a step passes while **any** order is within its B(α), computed at δ/m. Why that is valid:
/// let S_α be the outputs for which α is the first order still within its limit at the end. On S_α the run is
/// the same as one guarded by α alone, since sums never fall; so the probability of any part of S_α obeys (ε,
/// δ/m), and the parts add up to (ε, δ). Taking the best of m orders afterwards at the full δ would not be
/// valid: which one is best depends on the outputs.
#[derive(Debug, Clone, PartialEq)]
pub struct RenyiFilter {
    epsilon: Epsilon,
    delta: Delta,
    orders: Vec<f64>,
    meters: Vec<Meter>,
}

impl RenyiFilter {
    /// The most orders.
    pub const MAX_ORDERS: usize = 64;

    /// A filter for (`epsilon`, `delta`) on 1 to [`Self::MAX_ORDERS`] orders from 1 + 1e-6 to 1e12, fixed
    /// here for good.
    ///
    /// Each order more costs ln m / (α − 1); a few around the one expected to matter are enough. Orders whose
    /// B(α) is not above 0 are useless, and a filter of nothing else is refused.
    pub fn new(epsilon: Epsilon, delta: Delta, orders: &[f64]) -> Result<Self, FilterError> {
        if !epsilon.value().is_finite() {
            return Err(ParamError {
                name: "epsilon",
                expected: "a finite number",
                got: epsilon.value(),
            }
            .into());
        }
        check_orders(orders)?;
        let log_delta = delta.value().ln() - (orders.len() as f64).ln();
        let limits: Vec<f64> = orders
            .iter()
            .map(|&order| limit(order, epsilon.value(), log_delta))
            .collect();
        let best = limits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if best <= 0.0 {
            let expected = "large enough for one of the orders to have a divergence left to spend";
            return Err(ParamError {
                name: "epsilon",
                expected,
                got: epsilon.value(),
            }
            .into());
        }
        let meters = limits.into_iter().map(Meter::derived).collect();
        Ok(Self {
            epsilon,
            delta,
            orders: orders.to_vec(),
            meters,
        })
    }

    /// A filter on the one order that suits a plan best, whose divergence at each order is `plan`. The plan
    /// need not be kept.
    pub fn for_plan(epsilon: Epsilon, delta: Delta, plan: impl Fn(f64) -> f64) -> Result<Self, FilterError> {
        let log_delta = delta.value().ln();
        let share = |order: f64| plan(order) / limit(order, epsilon.value(), log_delta);
        let orders = (0..=1200).map(|i| 1.0 + (f64::from(i) * 0.02 - 9.0).exp());
        let usable = orders.filter(|&order| limit(order, epsilon.value(), log_delta) > 0.0);
        let best = usable
            .min_by(|&a, &b| share(a).total_cmp(&share(b)))
            .unwrap_or(2.0);
        Self::new(epsilon, delta, &[best])
    }

    /// Charges a step whose Rényi divergence is at most `divergences[i]` at order [`Self::orders`]`[i]`.
    ///
    /// The refusal speaks of the order at which the step would have been affordable longest.
    pub fn try_charge(&mut self, divergences: &[f64]) -> Result<(), FilterError> {
        if divergences.len() != self.orders.len() {
            let expected = format!("one for each of {} orders", self.orders.len());
            let got = divergences.len().to_string();
            return Err(FilterError::WrongKind {
                what: "divergences",
                expected,
                got,
            });
        }
        for &divergence in divergences {
            check_amount("Rényi divergence", divergence)?;
        }
        let next: Vec<Meter> = self
            .meters
            .iter()
            .zip(divergences)
            .map(|(meter, &rho)| meter.added(rho))
            .collect();
        if next.iter().any(Meter::is_kept) {
            self.meters = next;
            return Ok(());
        }
        let share = |meter: &Meter| {
            if meter.limit() > 0.0 {
                meter.spent() / meter.limit()
            } else {
                f64::INFINITY
            }
        };
        let last = next
            .iter()
            .enumerate()
            .min_by(|(_, a), (_, b)| share(a).total_cmp(&share(b)))
            .map_or(0, |(i, _)| i);
        Err(BudgetExhausted {
            quantity: "Rényi divergence",
            spent: self.meters[last].spent(),
            asked: divergences[last],
            limit: self.meters[last].limit(),
        }
        .into())
    }

    /// The orders, in the order that charges state them.
    pub fn orders(&self) -> &[f64] {
        &self.orders
    }

    /// What is guaranteed however the steps were chosen.
    pub fn guarantee(&self) -> (Epsilon, Delta) {
        (self.epsilon, self.delta)
    }

    /// Divergence spent and its limit at each order.
    pub fn spent(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.meters.iter().map(|meter| (meter.spent(), meter.limit()))
    }

    /// The state, exactly.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND);
        writer.float(self.epsilon.value());
        writer.float(self.delta.value());
        writer.count(self.orders.len());
        for (order, meter) in self.orders.iter().zip(&self.meters) {
            writer.float(*order);
            meter.write(&mut writer);
        }
        writer.finish()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, FilterError> {
        let mut reader = Reader::new(bytes, KIND)?;
        let epsilon = Epsilon::new(reader.float()?)?;
        let delta = Delta::new(reader.float()?)?;
        let n_orders = reader.count()?;
        let (mut orders, mut meters) = (Vec::new(), Vec::new());
        for _ in 0..n_orders {
            orders.push(reader.float()?);
            meters.push(Meter::read(&mut reader)?);
        }
        reader.finish()?;
        let fresh = Self::new(epsilon, delta, &orders)?;
        // The limits follow from the rest, up to the last digits of a logarithm on another machine.
        for (own, stored) in fresh.meters.iter().zip(&meters) {
            let (expected, got) = (own.limit(), stored.limit());
            if (expected - got).abs() > 1e-9 * expected.max(1e-300) {
                return Err(FilterError::state(format!("the limit {expected}"), got));
            }
        }
        Ok(Self { meters, ..fresh })
    }
}

/// The largest divergence at `order` that gives ε at δ: ε − ln(1 − 1/α) + (ln δ + ln α) / (α − 1).
fn limit(order: f64, epsilon: f64, log_delta: f64) -> f64 {
    epsilon - (-1.0 / order).ln_1p() + (log_delta + order.ln()) / (order - 1.0)
}

fn check_orders(orders: &[f64]) -> Result<(), FilterError> {
    if !(1..=RenyiFilter::MAX_ORDERS).contains(&orders.len()) {
        let expected = format!("1 to {}", RenyiFilter::MAX_ORDERS);
        return Err(FilterError::WrongKind {
            what: "number of orders",
            expected,
            got: orders.len().to_string(),
        });
    }
    match orders.iter().find(|order| !(1.0 + 1e-6..=1e12).contains(*order)) {
        None => Ok(()),
        Some(&got) => Err(ParamError {
            name: "Rényi order",
            expected: "a number from 1 + 1e-6 to 1e12",
            got,
        }
        .into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(epsilon: f64, delta: f64) -> (Epsilon, Delta) {
        (Epsilon::new(epsilon).unwrap(), Delta::new(delta).unwrap())
    }

    #[test]
    fn a_plan_fits_its_own_filter_and_one_step_more_does_not() {
        // 100 Gaussian steps of noise multiplier 20: ρ(α) = α / 800 each.
        let steps = 100;
        let step = |order: f64| order / 800.0;
        let plan = |order: f64| f64::from(steps) * step(order);
        let (log_delta, orders) = (1e-5_f64.ln(), (0..100_000).map(|i| 1.001 + f64::from(i) * 1e-3));
        let converted = |a: f64| plan(a) + (-1.0 / a).ln_1p() - (log_delta + a.ln()) / (a - 1.0);
        let best = orders.map(converted).fold(f64::INFINITY, f64::min);
        let (epsilon, delta) = target(best * 1.0001, 1e-5);
        let mut filter = RenyiFilter::for_plan(epsilon, delta, plan).unwrap();
        let order = filter.orders()[0];
        for _ in 0..steps {
            filter.try_charge(&[step(order)]).unwrap();
        }
        let before = filter.clone();
        let Err(FilterError::Exhausted(refusal)) = filter.try_charge(&[step(order)]) else {
            panic!("overspent")
        };
        assert!(refusal.spent <= refusal.limit && refusal.spent + refusal.asked > refusal.limit);
        assert_eq!(filter, before);
        // A cheaper step may still be taken.
        filter.try_charge(&[step(order) * 1e-6]).unwrap();
        assert_eq!(filter.guarantee(), (epsilon, delta));
    }

    #[test]
    fn an_order_that_was_passed_stays_passed() {
        let (epsilon, delta) = target(2.0, 1e-6);
        let mut filter = RenyiFilter::new(epsilon, delta, &[8.0, 40.0]).unwrap();
        let limits: Vec<f64> = filter.spent().map(|(_, limit)| limit).collect();
        assert!(limits[0] < limits[1]);
        filter.try_charge(&[f64::INFINITY, 0.5 * limits[1]]).unwrap();
        filter.try_charge(&[0.0, 0.5 * limits[1]]).unwrap();
        let Err(FilterError::Exhausted(refusal)) = filter.try_charge(&[0.0, 0.01]) else {
            panic!("overspent")
        };
        assert!((refusal.limit - limits[1]).abs() < 1e-15);
    }

    #[test]
    fn impossible_filters_and_charges_are_refused() {
        let (epsilon, delta) = target(1.0, 1e-5);
        assert!(RenyiFilter::new(epsilon, delta, &[]).is_err());
        assert!(RenyiFilter::new(epsilon, delta, &[1.0]).is_err());
        assert!(RenyiFilter::new(epsilon, delta, &[f64::NAN]).is_err());
        assert!(RenyiFilter::new(epsilon, delta, &[2.0; 65]).is_err());
        assert!(RenyiFilter::new(Epsilon::INFINITE, delta, &[2.0]).is_err());
        // At order 2, ε = 1 leaves no room beside ln(1/δ).
        assert!(RenyiFilter::new(epsilon, delta, &[2.0]).is_err());
        let mut filter = RenyiFilter::new(epsilon, delta, &[32.0]).unwrap();
        for bad in [&[][..], &[0.1, 0.1], &[f64::NAN], &[-0.1], &[f64::INFINITY]] {
            assert!(filter.try_charge(bad).is_err(), "{bad:?}");
        }
        assert_eq!(filter, RenyiFilter::new(epsilon, delta, &[32.0]).unwrap());
        let (hopeless, tiny) = target(1e-12, 1e-300);
        assert!(RenyiFilter::for_plan(hopeless, tiny, |_| f64::NAN).is_err());
    }

    proptest! {
        #[test]
        fn what_was_spent_converts_to_no_more_than_the_target(
            epsilon in 0.05..20.0_f64, log_delta in -60.0..-3.0_f64,
            orders in prop::collection::vec(1.1..300.0_f64, 1..6),
            steps in prop::collection::vec(0.0..0.3_f64, 1..80),
        ) {
            let (target_epsilon, delta) = target(epsilon, log_delta.exp());
            let Ok(mut filter) = RenyiFilter::new(target_epsilon, delta, &orders) else { return Ok(()) };
            for rho in steps {
                // zCDP steps whose size is in proportion to the budget.
                let charge: Vec<f64> = orders.iter().map(|order| rho * epsilon * 0.1 * order).collect();
                let before = filter.clone();
                if filter.try_charge(&charge).is_err() {
                    prop_assert_eq!(&filter, &before);
                }
                let restored = RenyiFilter::decode(&filter.encode()).unwrap();
                prop_assert_eq!(&restored, &filter);
            }
            // At some order, at its share of δ, the sum is worth no more than ε.
            let share = log_delta - (orders.len() as f64).ln();
            let converted = filter.spent().zip(&orders).map(|((spent, _), &a)| {
                spent + (-1.0 / a).ln_1p() - (share + a.ln()) / (a - 1.0)
            });
            prop_assert!(converted.fold(f64::INFINITY, f64::min) <= epsilon);
        }

        #[test]
        fn any_bytes_are_a_filter_or_an_error(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200), fix in any::<bool>(),
        ) {
            if fix && bytes.len() > 5 {
                bytes[..5].copy_from_slice(b"UFL1\x01");
            }
            if let Ok(filter) = RenyiFilter::decode(&bytes) {
                prop_assert_eq!(filter.encode(), bytes);
            }
        }
    }
}
