//! Composition of loss laws: one Fourier transform each way, of laws tilted to where the answer is.
//!
//! Round-off of a transform is absolute, relative to the largest value. Tilting each law by e^{lt} before moves the bulk
//! of the composed law to the ε that is asked for, so that round-off is relative to δ itself; what is left of it is
//! bounded and charged.

use super::law::LossLaw;
use super::outline::{Direction, Saddle};
use super::transform::{Precision, Product};

/// δ(ε) in one direction at all grid points near the saddle, with certified bounds.
#[derive(Debug)]
pub(super) struct Profile {
    step: f64,
    tilt: f64,
    /// Loss of index 0 in this direction.
    origin: f64,
    /// Grid index of the first value, for losses in this direction.
    first: i64,
    /// Cumulant generating function of the composed law at the tilt.
    log_norm: f64,
    /// Σ_{m>n} p(m) e^{−l(t_m − t_n)} (1 − e^{t_n − t_m}) for the tilted law p.
    excess: Vec<f64>,
    /// Bound on the absolute error of each value of `excess`.
    slack: f64,
    /// The part of it for what lies outside of the window.
    tail: f64,
    /// Bound on the relative error of δ from rounding in masses and exponents.
    relative: f64,
    /// Mass that was left out of the laws, in this direction.
    dropped: f64,
}

/// The losses ln(dP/dQ) between which a tilted law is composed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) low: f64,
    pub(super) high: f64,
    /// Bound on the mass outside of it.
    pub(super) tail: f64,
}

/// Which certified end is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Lower,
    Upper,
}

/// An ε read off a profile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) epsilon: f64,
    /// The part of δ there that is charged for round-off.
    pub(super) noise: f64,
}

impl Profile {
    /// Composes `laws`, all on one grid, each as often as its count says, within the window of losses ln(dP/dQ).
    ///
    /// `None` if the window takes too many points.
    pub(super) fn compose(
        laws: &[(&LossLaw, u64)],
        saddle: &Saddle,
        window: &Window,
        precision: Precision,
    ) -> Option<Self> {
        if let [(law, 1)] = laws {
            return Self::single(law, saddle.direction);
        }
        let step = laws.first()?.0.step;
        let natural_tilt = saddle.direction.natural_tilt(saddle.tilt);
        #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let origin: f64 = laws.iter().map(|(law, count)| law.origin * *count as f64).sum();
        let (low, high) = (
            ((window.low - origin) / step).floor(),
            ((window.high - origin) / step).ceil() + 1.0,
        );
        if !(low.abs() < 1e15 && high.abs() < 1e15 && high - low < precision.most_points()) {
            return None;
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range has just been checked"
        )]
        let (low, points) = (low as i64, (high - low) as usize);
        let length = precision.length(points);

        let mut product = Product::new(length, precision);
        let (mut log_norm, mut relative, mut dropped) = (0.0, 0.0, 0.0);
        let mut shift = 0_i64;
        for &(law, count) in laws {
            #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
            let times = count as f64;
            let tilted = Tilted::new(law, natural_tilt)?;
            let centre = tilted.mean_index;
            product.multiply(&tilted.mass, wrapped(law.first - centre, length), count)?;
            shift = shift.checked_add(centre.checked_mul(i64::try_from(count).ok()?)?)?;
            log_norm += times * tilted.log_norm;
            relative += times * tilted.relative;
            dropped += times
                * match saddle.direction {
                    Direction::Forward => law.dropped_p,
                    Direction::Backward => law.dropped_q,
                };
        }
        let composed = product.compose()?;

        // The composed law in order of rising loss in this direction.
        let mut mass = composed.mass;
        mass.rotate_left(wrapped(low - shift, length));
        let first = match saddle.direction {
            Direction::Forward => low,
            Direction::Backward => {
                mass.reverse();
                #[allow(clippy::cast_possible_wrap, reason = "lengths are far below 2^63")]
                let length = length as i64;
                1 - low - length
            }
        };
        // What errors in the masses do under the weights of `excess`: each by its bound, or all together by Cauchy and
        // Schwarz.
        #[allow(clippy::cast_precision_loss, reason = "a length")]
        let count = length as f64;
        let each = composed.each * geometric(saddle.tilt, step).min(count);
        let together = composed.together * geometric_square(saddle.tilt, step).sqrt();
        // Exponents are rounded in proportion to their size, and the weights of `excess` in proportion to the distance.
        let exponents = log_norm.abs() + saddle.tilt * window.low.abs().max(window.high.abs()) + 2.0;
        Some(Self {
            step,
            tilt: saddle.tilt,
            origin: saddle.direction.sign() * origin,
            first,
            log_norm,
            excess: excess(mass, saddle.tilt, step),
            slack: each.min(together) + window.tail,
            tail: window.tail,
            relative: relative + f64::EPSILON * (4.0 * exponents + 4.0 * count),
            dropped,
        })
    }

    /// A single application needs no transform, so nothing but the masses themselves is rounded, at any δ.
    fn single(law: &LossLaw, direction: Direction) -> Option<Self> {
        let tilted = Tilted::new(law, direction.natural_tilt(0.0))?;
        let mut masses = tilted.mass;
        #[allow(clippy::cast_possible_wrap, reason = "lengths are far below 2^63")]
        let (first, dropped) = match direction {
            Direction::Forward => (law.first, law.dropped_p),
            Direction::Backward => {
                masses.reverse();
                (1 - law.first - masses.len() as i64, law.dropped_q)
            }
        };
        #[allow(clippy::cast_precision_loss, reason = "a length")]
        Some(Self {
            step: law.step,
            tilt: 0.0,
            origin: direction.sign() * law.origin,
            first,
            log_norm: tilted.log_norm,
            excess: excess(masses, 0.0, law.step),
            slack: 0.0,
            tail: 0.0,
            relative: tilted.relative + 4.0 * f64::EPSILON * law.mass.len() as f64,
            dropped,
        })
    }

    /// Smallest ε ≥ 0 with δ(ε) at most `delta` by the upper or by the lower end of the certified δ.
    ///
    /// The upper end charges what was left out, the lower end does not credit it. `None` where the profile does not
    /// reach that far or round-off exceeds the answer.
    pub(super) fn epsilon(&self, delta: f64, end: End) -> Option<Answer> {
        let target = match end {
            End::Upper => (delta * (1.0 - self.relative) - self.dropped).max(0.0).ln(),
            End::Lower => (delta * (1.0 + self.relative)).ln(),
        };
        if target == f64::NEG_INFINITY {
            return None;
        }
        // δ falls with the position: the last position at which it is still above the target.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "clamped to a position"
        )]
        let start = ((-self.origin / self.step).floor() - self.first as f64)
            .clamp(0.0, self.excess.len() as f64) as usize;
        let (mut below, mut above) = (start, self.excess.len());
        if above <= below {
            return Some(Answer {
                epsilon: 0.0,
                noise: 0.0,
            });
        }
        let holds = |position: usize| self.log_delta_at(position, end) <= target;
        match end {
            // The upper end falls everywhere.
            End::Upper if holds(below) => {
                let noise = self.slack / self.excess[below];
                return Some(Answer {
                    epsilon: self.loss(below).max(0.0),
                    noise,
                });
            }
            End::Upper => {}
            // The lower end is nothing far to the left, where round-off exceeds it.
            End::Lower => match self.last_above(start, target) {
                Some(position) => (below, above) = (position, position + 1),
                None => {
                    return (self.loss(start) <= 0.0).then_some(Answer {
                        epsilon: 0.0,
                        noise: 0.0,
                    });
                }
            },
        }
        (below, above) = bisect_positions(below, above, holds);
        if above >= self.excess.len() {
            return None;
        }
        // Between grid points δ is linear in e^ε.
        let ratio_below = (self.log_delta_at(below, end) - target).exp();
        let ratio_above = (self.log_delta_at(above, end) - target).exp();
        let share = (ratio_below - 1.0) / (ratio_below - ratio_above);
        let within = if share.is_finite() {
            (share * self.step.exp_m1()).ln_1p()
        } else {
            self.step
        };
        let found = (self.loss(below) + within.clamp(0.0, self.step)).max(0.0);
        let rounding = 4.0 * f64::EPSILON * found;
        let epsilon = match end {
            End::Upper => found + rounding,
            End::Lower => (found - rounding).max(0.0),
        };
        Some(Answer {
            epsilon,
            noise: self.slack / self.excess[below],
        })
    }

    /// The last position from `start` on at which the lower end of ln δ is above `target`.
    fn last_above(&self, start: usize, target: f64) -> Option<usize> {
        // Excesses are at most one: further up nothing can be above.
        let log_threshold = |position: usize| target - self.log_norm + self.tilt * self.loss(position);
        let last = self.excess.len().checked_sub(1)?;
        let (_, top) = bisect_positions(start, last, |position| log_threshold(position) > 0.7);
        let mut threshold = log_threshold(top).exp();
        let shrinking = (-self.tilt * self.step).exp();
        (start..=top).rev().find(|&position| {
            let above = self.excess[position] - self.slack > threshold * (1.0 + 1e-9);
            threshold *= shrinking;
            above && self.log_delta_at(position, End::Lower) > target
        })
    }

    /// Certified upper or lower bound on ln δ at `epsilon`; minus infinity is no lower bound at all.
    pub(super) fn log_delta(&self, epsilon: f64, end: End) -> Option<f64> {
        let position = ((epsilon - self.origin) / self.step).floor();
        #[allow(clippy::cast_precision_loss, reason = "indices stay below 1e15")]
        let offset = position - self.first as f64;
        #[allow(clippy::cast_precision_loss, reason = "a length")]
        if offset >= self.excess.len() as f64 - 1.0 {
            // Beyond the window the tilted law has no more than the tail that was charged; a bounded loss ends there.
            let rest = self.tail * (self.log_norm - self.tilt * epsilon).exp();
            return (end == End::Upper).then(|| (rest + self.dropped).ln().min(0.0));
        }
        if offset < 0.0 {
            return None;
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range has just been checked"
        )]
        let below = offset as usize;
        let share = ((epsilon - self.loss(below)).exp_m1() / self.step.exp_m1()).clamp(0.0, 1.0);
        let (high, low) = (self.log_delta_at(below, end), self.log_delta_at(below + 1, end));
        if high == f64::NEG_INFINITY {
            return Some(high);
        }
        let value = high + (share * (low - high).exp_m1()).ln_1p();
        Some(match end {
            End::Upper => {
                let charged = value.exp() * (1.0 + self.relative) + self.dropped;
                if self.dropped > 0.0 && charged > 0.0 {
                    charged.ln()
                } else {
                    value + self.relative
                }
                .min(0.0)
            }
            End::Lower => value - 2.0 * self.relative,
        })
    }

    fn log_delta_at(&self, position: usize, end: End) -> f64 {
        let excess = match end {
            End::Upper => self.excess[position] + self.slack,
            End::Lower => (self.excess[position] - self.slack).max(0.0),
        };
        self.log_norm - self.tilt * self.loss(position) + excess.ln()
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_wrap,
        reason = "indices stay below 1e15"
    )]
    fn loss(&self, position: usize) -> f64 {
        self.origin + (self.first + position as i64) as f64 * self.step
    }
}

/// Masses times e^{lt}, summing to one.
#[derive(Debug)]
struct Tilted {
    mass: Vec<f64>,
    log_norm: f64,
    mean_index: i64,
    /// Bound on the relative error of `log_norm`'s exponential.
    relative: f64,
}

impl Tilted {
    fn new(law: &LossLaw, tilt: f64) -> Option<Self> {
        let steepest = (tilt * law.step).abs() * law.mass.len() as f64;
        let gentle = steepest < 500.0;
        // Where the factors themselves would overflow, they are taken relative to the heaviest product.
        let (heaviest, reference) = if gentle {
            (0.0, law.loss(law.mass.len() / 2))
        } else {
            let weighted = law
                .mass
                .iter()
                .enumerate()
                .map(|(i, mass)| (mass.ln() + tilt * law.loss(i), law.loss(i)));
            weighted.fold((f64::NEG_INFINITY, 0.0), |best, next| {
                if next.0 > best.0 { next } else { best }
            })
        };
        let offset = if gentle { 0.0 } else { heaviest - tilt * reference };
        let mut mass = Vec::with_capacity(law.mass.len());
        if gentle {
            let growth = (tilt * law.step).exp();
            for (block, values) in law.mass.chunks(64).enumerate() {
                let mut factor = (tilt * (law.loss(64 * block) - reference)).exp();
                for &value in values {
                    mass.push(value * factor);
                    factor *= growth;
                }
            }
        } else {
            mass.extend(law.mass.iter().enumerate().map(|(i, &value)| {
                if value > 0.0 {
                    (value.ln() - offset + tilt * (law.loss(i) - reference)).exp()
                } else {
                    0.0
                }
            }));
        }
        let sum: f64 = mass.iter().sum();
        if !(sum > 0.0 && sum.is_finite()) {
            return None;
        }
        let inverse = 1.0 / sum;
        let (mut mean, mut distance) = (0.0, 0.0);
        let mut position = 0.0;
        for value in &mut mass {
            *value *= inverse;
            mean += *value * position;
            position += 1.0;
        }
        let mean_loss = law.loss(0) + mean * law.step;
        for (i, value) in mass.iter().enumerate() {
            distance += value * law.loss(i).abs();
        }
        Some(Self {
            mass,
            log_norm: sum.ln() + offset + tilt * reference,
            #[allow(clippy::cast_possible_truncation, reason = "an index within the law")]
            mean_index: ((mean_loss - law.origin) / law.step).round() as i64,
            relative: f64::EPSILON * (130.0 + 4.0 * tilt.abs() * (distance + reference.abs()))
                + 2.0 * law.defect,
        })
    }
}

/// Two neighbours between `below`, where `holds` is false, and `above`, where it is true, at which that changes.
fn bisect_positions(mut below: usize, mut above: usize, holds: impl Fn(usize) -> bool) -> (usize, usize) {
    while above - below > 1 {
        let middle = usize::midpoint(above, below);
        if holds(middle) {
            above = middle;
        } else {
            below = middle;
        }
    }
    (below, above)
}

/// Backward recursion with positive terms only for `Profile::excess`, in place.
fn excess(mut ordered: Vec<f64>, tilt: f64, step: f64) -> Vec<f64> {
    let decay = (-tilt * step).exp();
    let faster = (-(tilt + 1.0) * step).exp();
    let gain = -decay * (-step).exp_m1();
    let (mut value, mut weighted) = (0.0, 0.0);
    for place in ordered.iter_mut().rev() {
        // From here the terms refer to the next lower point.
        weighted = *place + faster * weighted;
        *place = value;
        value = decay * value + gain * weighted;
    }
    ordered
}

/// Σ_{k≥1} e^{−lkD}(1 − e^{−kD}): the weight of an error of one in every mass.
fn geometric(tilt: f64, step: f64) -> f64 {
    let term = |rate: f64| (-rate * step).exp() / -(-rate * step).exp_m1();
    term(tilt) - term(tilt + 1.0)
}

/// Σ_{k≥1} e^{−2lkD}(1 − e^{−kD})².
fn geometric_square(tilt: f64, step: f64) -> f64 {
    let term = |rate: f64| (-rate * step).exp() / -(-rate * step).exp_m1();
    let sum = term(2.0 * tilt) - 2.0 * term(2.0 * tilt + 1.0) + term(2.0 * tilt + 2.0);
    // The three terms nearly cancel at large tilts.
    sum.max(0.0) + 16.0 * f64::EPSILON * term(2.0 * tilt)
}

fn wrapped(index: i64, length: usize) -> usize {
    #[allow(
        clippy::cast_possible_wrap,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "below length"
    )]
    let position = index.rem_euclid(length as i64) as usize;
    position
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recursion_equals_the_direct_sum() {
        let ordered = [0.1, 0.2, 0.3, 0.15, 0.05];
        let (tilt, step) = (2.5, 0.3);
        let got = excess(ordered.to_vec(), tilt, step);
        for (n, value) in got.iter().enumerate() {
            let direct: f64 = (n + 1..ordered.len())
                .map(|m| {
                    let distance = step * f64::from(u32::try_from(m - n).unwrap());
                    ordered[m] * (-tilt * distance).exp() * -(-distance).exp_m1()
                })
                .sum();
            assert!((value - direct).abs() < 1e-15, "{n}: {value} {direct}");
        }
    }
}
