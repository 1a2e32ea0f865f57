//! Settings that meet a target (ε, δ), rounded to the private side.
//!
//! Each search ends with a value whose certified upper bound was computed and is at most the target; it is that value
//! that is returned, never a neighbour of it. Each assumes what holds for every mechanism here: ε falls with noise and
//! grows with steps, rate and clip norm.

use crate::params::Short;
use crate::{
    Accountant, AccountantKind, AccountingError, ClipNorm, Delta, DpEvent, Epsilon, NeighboringRelation,
    NoiseMultiplier, NoiseStdDev, PldAccountant, SamplingRate, accountant, gaussian,
};

/// Smallest noise multiplier whose plan stays within `target` at `delta`, to a relative 1e-6, rounded up.
///
/// `make_event` gives the whole plan for a noise multiplier; more noise must never cost more. Searches 1e-4 to 1e8.
pub fn noise_multiplier(
    target: Epsilon,
    delta: Delta,
    kind: AccountantKind,
    relation: NeighboringRelation,
    make_event: &dyn Fn(NoiseMultiplier) -> DpEvent,
) -> Result<NoiseMultiplier, AccountingError> {
    let goal = Goal::new(target, delta, kind, relation);
    let value_at = |x: f64| NoiseMultiplier::new(x.exp()).map_err(|error| out_of_reach(&error.to_string()));
    // The last point that holds is the answer: searched by minus the logarithm, so that it grows with ε.
    let found = goal.last_within("noise multiplier", -(1e8_f64.ln()), -(1e-4_f64.ln()), 0.0, |x| {
        goal.spent(&make_event(value_at(-x)?), 1)
    })?;
    value_at(-found)
}

/// Largest sampling rate whose plan stays within `target` at `delta`, to a relative 1e-6, rounded down.
///
/// `make_event` gives the whole plan for a rate. Searches 1e-12 to 1.
pub fn sampling_rate(
    target: Epsilon,
    delta: Delta,
    kind: AccountantKind,
    relation: NeighboringRelation,
    make_event: &dyn Fn(SamplingRate) -> DpEvent,
) -> Result<SamplingRate, AccountingError> {
    let goal = Goal::new(target, delta, kind, relation);
    let value_at =
        |x: f64| SamplingRate::new(x.exp().min(1.0)).map_err(|error| out_of_reach(&error.to_string()));
    let found = goal.last_within("sampling rate", 1e-12_f64.ln(), 0.0, 0.01_f64.ln(), |x| {
        goal.spent(&make_event(value_at(x)?), 1)
    })?;
    value_at(found)
}

/// Largest clip norm, at noise of a given standard deviation on the sum, whose plan stays within `target` at `delta`.
///
/// `make_event` gives the whole plan for the noise multiplier that clip norm and noise make.
pub fn clip_norm(
    target: Epsilon,
    delta: Delta,
    kind: AccountantKind,
    relation: NeighboringRelation,
    noise_std_dev: NoiseStdDev,
    make_event: &dyn Fn(NoiseMultiplier) -> DpEvent,
) -> Result<ClipNorm, AccountingError> {
    let needed = noise_multiplier(target, delta, kind, relation, make_event)?;
    let mut clip_norm = noise_std_dev.value() / needed.value();
    while noise_std_dev.value() / clip_norm < needed.value() {
        clip_norm *= 1.0 - f64::EPSILON;
    }
    ClipNorm::new(clip_norm).map_err(|error| out_of_reach(&error.to_string()))
}

/// Most applications of `event` that stay within `target` at `delta`; 0 if not even one does.
///
/// Exact up to a million; beyond that rounded down, by less than a millionth. An error if more than 10^12 would stay within.
pub fn steps(
    target: Epsilon,
    delta: Delta,
    kind: AccountantKind,
    relation: NeighboringRelation,
    event: &DpEvent,
) -> Result<u64, AccountingError> {
    let goal = Goal::new(target, delta, kind, relation);
    let mut within = (0_u64, -30.0);
    let mut beyond: Option<(u64, f64)> = None;
    let mut next = 1;
    let mut bisecting = false;
    while beyond.is_none_or(|(count, _)| count - within.0 > (within.0 / 1_000_000).max(1)) {
        let spent = goal.spent(event, next)?;
        let excess = goal.excess(spent);
        if goal.holds(spent) {
            within = (next, excess);
            if next >= MOST_STEPS {
                return Err(out_of_reach(&format!(
                    "more than {MOST_STEPS} steps cost at most epsilon {target}"
                )));
            }
        } else {
            beyond = Some((next, excess));
        }
        next = next_count(within, beyond, bisecting);
        bisecting = !bisecting;
    }
    Ok(within.0)
}

/// Smallest noise multiplier of one Gaussian release, or of one run of a matrix mechanism with sensitivity 1.
///
/// The analytic Gaussian mechanism (Balle, Wang 2018, algorithm 1), in log space and rounded up, valid at every ε and δ.
/// The classical σ = sqrt(2 ln(1.25/δ))/ε is not: it is loose at small ε and invalid at large.
pub fn gaussian_noise_multiplier(
    target: Epsilon,
    delta: Delta,
    relation: NeighboringRelation,
) -> Result<NoiseMultiplier, AccountingError> {
    let sensitivity = relation.sensitivity();
    let mut noise = sensitivity * gaussian::noise_for(target.value(), delta.value());
    // The last bit may be lost on the way back to ε.
    while gaussian::epsilon(sensitivity / noise, delta.value()).1 > target.value() && noise.is_finite() {
        noise *= 1.0 + 4.0 * f64::EPSILON;
    }
    NoiseMultiplier::new(noise).map_err(|error| out_of_reach(&error.to_string()))
}

const MOST_STEPS: u64 = 1_000_000_000_000;
const TOLERANCE: f64 = 1e-6;

fn out_of_reach(what: &str) -> AccountingError {
    AccountingError::OutOfReach {
        what: what.to_owned(),
    }
}

#[derive(Debug)]
struct Goal {
    target: Epsilon,
    delta: Delta,
    kind: AccountantKind,
    /// Asked again and again, so that what it made for one count serves the next.
    pld: PldAccountant,
}

impl Goal {
    fn new(target: Epsilon, delta: Delta, kind: AccountantKind, relation: NeighboringRelation) -> Self {
        Self {
            target,
            delta,
            kind,
            pld: PldAccountant::new(relation),
        }
    }

    /// Upper bound on the ε of `count` applications of `event`, no less than what the accountant reports.
    fn spent(&self, event: &DpEvent, count: u64) -> Result<f64, AccountingError> {
        if self.kind == AccountantKind::Pld {
            return Ok(self
                .pld
                .upper_epsilon(event, count, self.delta.value(), self.target.value())?);
        }
        let mut accountant = accountant(self.kind, self.pld.relation());
        accountant.compose(event, count)?;
        Ok(accountant.epsilon(self.delta)?.upper.value())
    }

    fn holds(&self, spent: f64) -> bool {
        spent <= self.target.value()
    }

    /// Distance from the target on a logarithmic scale, kept finite.
    fn excess(&self, spent: f64) -> f64 {
        let excess = spent.ln() - self.target.value().ln();
        if self.holds(spent) {
            excess.clamp(-30.0, 0.0).min(-1e-18)
        } else {
            excess.clamp(1e-18, 30.0)
        }
    }

    /// The last point, to the tolerance, at which the target holds, when the cost grows with the point.
    ///
    /// Brackets by Newton's steps with slope 1, then narrows by regula falsi in the Illinois form.
    fn last_within(
        &self,
        name: &str,
        first: f64,
        last: f64,
        start: f64,
        cost: impl Fn(f64) -> Result<f64, AccountingError>,
    ) -> Result<f64, AccountingError> {
        let mut point = start;
        let mut within: Option<(f64, f64)> = None;
        let mut beyond: Option<(f64, f64)> = None;
        let mut same_side = 0_i32;
        let (mut last_within, mut last_beyond) = (-f64::INFINITY, f64::INFINITY);
        for _ in 0..200 {
            let spent = cost(point)?;
            let excess = self.excess(spent);
            if self.holds(spent) {
                if point >= last {
                    return Ok(last);
                }
                within = Some((point, excess));
                last_within = excess;
                if same_side > 0 {
                    beyond = beyond.map(|(at, value)| (at, 0.5 * value));
                }
                same_side = 1.max(same_side + 1);
            } else {
                if point <= first {
                    return Err(out_of_reach(&format!(
                        "no {name} reaches epsilon {} at delta {}: the most private one costs {}",
                        self.target,
                        self.delta,
                        Short(spent)
                    )));
                }
                beyond = Some((point, excess));
                last_beyond = excess;
                if same_side < 0 {
                    within = within.map(|(at, value)| (at, 0.5 * value));
                }
                same_side = (-1).min(same_side - 1);
            }
            point = match (within, beyond) {
                (Some((low, at_low)), Some((high, at_high))) => {
                    // How far the crossing is, by the slope between both ends.
                    let left = (high - low) * last_within / (last_within - last_beyond);
                    if high - low <= TOLERANCE || (high - low < 0.02 && left <= 0.5 * TOLERANCE) {
                        return Ok(low);
                    }
                    let slanted = low + (high - low) * at_low / (at_low - at_high);
                    // Just inside of the crossing, where the search may end.
                    let margin = 0.3 * TOLERANCE;
                    (slanted - margin).clamp(low + margin, high - margin)
                }
                _ => (point - (1.05 * excess).clamp(-4.0, 4.0) - 1e-3 * excess.signum()).clamp(first, last),
            };
        }
        within
            .map(|(at, _)| at)
            .ok_or_else(|| out_of_reach(&format!("the search for a {name} did not settle")))
    }
}

/// Where to look for the number of steps next, given the most that are known to be within and the fewest beyond, each
/// with its excess: along the chord of logarithms, aimed one further so that both ends close in, or in the middle.
fn next_count(within: (u64, f64), beyond: Option<(u64, f64)>, bisecting: bool) -> u64 {
    #[allow(clippy::cast_precision_loss, reason = "counts stay below 10^12")]
    let as_number = |count: u64| count as f64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to counts below 10^12"
    )]
    let rounded = |number: f64| number.clamp(1.0, as_number(MOST_STEPS)) as u64;
    let (low, at_low) = within;
    let Some((high, at_high)) = beyond else {
        // Costs grow at least with the square root of the count where many are allowed.
        let factor = (-2.0 * at_low).exp().clamp(1.5, 64.0);
        return rounded(as_number(low) * factor).max(low + 1);
    };
    if low == 0 {
        return rounded(as_number(high) * 0.5).clamp(1, (high - 1).max(1));
    }
    let middle = if bisecting && high - low > 8 {
        (as_number(low) * as_number(high)).sqrt()
    } else {
        let share = at_low / (at_low - at_high);
        let chord = (as_number(low).ln() + share * (as_number(high) / as_number(low)).ln()).exp();
        if share < 0.5 { chord + 1.0 } else { chord }
    };
    rounded(middle).clamp(low + 1, (high - 1).max(low + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaussian_plan(noise: NoiseMultiplier, count: u64) -> DpEvent {
        DpEvent::Repeated {
            event: Box::new(DpEvent::Gaussian {
                noise_multiplier: noise,
            }),
            count,
        }
    }

    fn epsilon(value: f64) -> Epsilon {
        Epsilon::new(value).unwrap()
    }

    fn delta(value: f64) -> Delta {
        Delta::new(value).unwrap()
    }

    #[test]
    fn the_analytic_gaussian_mechanism_matches_published_values() {
        // dp-accounting 0.6.0, get_sigma_gaussian; sensitivity 1.
        for (target, at, expected) in [
            (1.0, 1e-5, 3.730_631_634_815_937_4),
            (0.1, 1e-6, 36.304_690_43),
            (0.01, 1e-8, 412.356_942_1),
            (20.0, 1e-10, 0.375_145_426_2),
            (0.5, 0.01, 3.146_913_099),
        ] {
            let noise =
                gaussian_noise_multiplier(epsilon(target), delta(at), NeighboringRelation::ReplaceByZero)
                    .unwrap();
            assert!((noise.value() / expected - 1.0).abs() < 1e-8, "{target}: {noise}");
            let doubled =
                gaussian_noise_multiplier(epsilon(target), delta(at), NeighboringRelation::ReplaceOne)
                    .unwrap();
            assert!((doubled.value() / noise.value() - 2.0).abs() < 1e-12);
        }
    }

    #[test]
    fn calibrated_values_meet_the_target_and_a_little_more_would_not() {
        for kind in [AccountantKind::Pld, AccountantKind::Rdp] {
            let (target, at) = (epsilon(2.0), delta(1e-6));
            let relation = NeighboringRelation::AddOrRemoveOne;
            let goal = Goal::new(target, at, kind, relation);
            let noise =
                noise_multiplier(target, at, kind, relation, &|noise| gaussian_plan(noise, 50)).unwrap();
            assert!(goal.holds(goal.spent(&gaussian_plan(noise, 50), 1).unwrap()));
            let less = NoiseMultiplier::new(noise.value() * (1.0 - 2e-6)).unwrap();
            assert!(!goal.holds(goal.spent(&gaussian_plan(less, 50), 1).unwrap()));

            let event = DpEvent::Gaussian {
                noise_multiplier: NoiseMultiplier::new(noise.value() * 1.000_01).unwrap(),
            };
            assert_eq!(steps(target, at, kind, relation, &event).unwrap(), 50);

            let std_dev = NoiseStdDev::new(3.0).unwrap();
            let clip = clip_norm(target, at, kind, relation, std_dev, &|noise| {
                gaussian_plan(noise, 50)
            })
            .unwrap();
            assert!(std_dev.value() / clip.value() >= noise.value());
            assert!((std_dev.value() / clip.value() / noise.value() - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn the_largest_rate_is_found() {
        let (target, at) = (epsilon(1.0), delta(1e-5));
        let (kind, relation) = (AccountantKind::Rdp, NeighboringRelation::AddOrRemoveOne);
        let plan = |sampling_rate| DpEvent::Repeated {
            event: Box::new(DpEvent::PoissonSampled {
                sampling_rate,
                event: Box::new(DpEvent::Gaussian {
                    noise_multiplier: NoiseMultiplier::new(1.0).unwrap(),
                }),
            }),
            count: 1000,
        };
        let goal = Goal::new(target, at, kind, relation);
        let rate = sampling_rate(target, at, kind, relation, &plan).unwrap();
        assert!(goal.holds(goal.spent(&plan(rate), 1).unwrap()));
        let more = SamplingRate::new(rate.value() * 1.000_01).unwrap();
        assert!(!goal.holds(goal.spent(&plan(more), 1).unwrap()));
        let all = sampling_rate(epsilon(1e6), at, kind, relation, &plan).unwrap();
        assert!(all.value() >= 1.0);
    }

    #[test]
    fn a_target_out_of_reach_is_an_error_that_says_so() {
        let relation = NeighboringRelation::AddOrRemoveOne;
        let never = noise_multiplier(epsilon(1.0), delta(1e-6), AccountantKind::Rdp, relation, &|_| {
            DpEvent::NonPrivate
        });
        assert!(
            never
                .unwrap_err()
                .to_string()
                .contains("no noise multiplier reaches epsilon 1")
        );
        let none = steps(
            epsilon(1.0),
            delta(1e-6),
            AccountantKind::Rdp,
            relation,
            &DpEvent::NonPrivate,
        );
        assert_eq!(none.unwrap(), 0);
        let free = DpEvent::Composed(Vec::new());
        assert!(steps(epsilon(1.0), delta(1e-6), AccountantKind::Rdp, relation, &free).is_err());
    }
}
