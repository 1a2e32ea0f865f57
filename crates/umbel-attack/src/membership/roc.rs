//! How well scores tell members apart.

use serde::Serialize;
use umbel_accounting::tradeoff::TradeOff;

use crate::checks::to_f64;

/// False-positive rates that are looked at.
const RATES: [f64; 4] = [0.001, 0.01, 0.1, 0.5];

/// The receiver operating characteristic of an attack, at rates that matter. An estimate: no confidence is claimed for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Roc {
    /// The probability that a member scores above a non-member; one half for an attacker who knows nothing.
    pub area: f64,
    /// Scores of members.
    pub members: u64,
    /// Scores of non-members.
    pub others: u64,
    /// At low false-positive rates, in ascending order.
    pub points: Vec<RocPoint>,
}

/// One point of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RocPoint {
    /// Share of non-members that are called members, at most.
    pub false_positive_rate: f64,
    /// Share of members that are found.
    pub true_positive_rate: f64,
    /// What the claim allows any attacker; absent where it allows everything.
    pub allowed: Option<f64>,
}

impl Roc {
    /// From scores, higher for members; `allowed` is the claimed trade-off curve. Equal scores count half in the area and as missed
    /// at the points.
    pub(super) fn new(mut members: Vec<f64>, mut others: Vec<f64>, allowed: Option<&TradeOff>) -> Self {
        members.sort_by(|a, b| b.total_cmp(a));
        others.sort_by(|a, b| b.total_cmp(a));
        let (n_members, n_others) = (to_f64(members.len()), to_f64(others.len()));
        let beaten: f64 = members
            .iter()
            .map(|score| {
                let above = others.partition_point(|other| other > score);
                let not_below = others.partition_point(|other| other >= score);
                n_others - 0.5 * to_f64(above + not_below)
            })
            .sum();
        let points = RATES.iter().map(|&rate| {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a count"
            )]
            let wrong = (rate * n_others).floor() as usize;
            let found = others.get(wrong).map_or(members.len(), |threshold| {
                members.partition_point(|score| score > threshold)
            });
            RocPoint {
                false_positive_rate: rate,
                true_positive_rate: to_f64(found) / n_members.max(1.0),
                allowed: allowed.map(|curve| curve.true_positive_rate(rate)),
            }
        });
        Self {
            area: beaten / (n_members * n_others).max(1.0),
            members: members.len() as u64,
            others: others.len() as u64,
            points: points.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_a_blind_and_a_partial_attack() {
        let numbers = |n: u32, first: f64| (0..n).map(|place| first + f64::from(place)).collect::<Vec<_>>();
        let perfect = Roc::new(numbers(100, 1_000.0), numbers(1_000, 0.0), None);
        assert!((perfect.area - 1.0).abs() < 1e-12);
        assert!(
            perfect
                .points
                .iter()
                .all(|point| (point.true_positive_rate - 1.0).abs() < 1e-12)
        );
        let blind = Roc::new(vec![0.0; 50], vec![0.0; 70], None);
        assert!((blind.area - 0.5).abs() < 1e-12);
        assert!(blind.points.iter().all(|point| point.true_positive_rate <= 0.0));
        // One of a thousand others is above all members, ten above half of them.
        let mut others = numbers(990, 0.0);
        others.extend([1_500.0; 9]);
        others.push(9_999.0);
        let members = [numbers(50, 1_000.0), numbers(50, 2_000.0)].concat();
        let partial = Roc::new(members, others, None);
        let rates: Vec<f64> = partial
            .points
            .iter()
            .map(|point| point.true_positive_rate)
            .collect();
        assert_eq!(rates, [0.5, 1.0, 1.0, 1.0]);
    }
}
