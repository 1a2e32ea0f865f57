//! ε and δ by transform: which grid, which tilt, and how close.

use std::f64::consts::SQRT_2;
use std::sync::Arc;

use super::compose::{End, Profile};
use super::discretise;
use super::law::LossLaw;
use super::outline::{Direction, Outline, Saddle};
use super::transform::Precision;
use crate::primitive::{Applications, Primitive};

/// Laws and outlines that were made before, so that a growing composition of the same events is cheap.
#[derive(Debug, Default)]
pub(super) struct Cache {
    laws: Vec<(LawKey, Arc<LossLaw>)>,
    outline: Option<(Vec<Primitive>, f64, Outline)>,
    /// Pairs of ε and δ that were shown to hold for what is composed.
    known: Vec<(f64, f64)>,
}

/// Lower and upper bound on ε at `delta`, aimed at the usual precision; `None` where the transform cannot give any.
pub(super) fn epsilon(applications: &Applications, delta: f64, cache: &mut Cache) -> Option<(f64, f64)> {
    bounds(
        &Plan::new(applications, delta, precision(applications), cache)?,
        delta,
        cache,
    )
}

/// The same, with the upper bound aimed at a relative error of `precision` whatever it takes.
#[cfg(test)]
pub(super) fn epsilon_to(precision: f64, applications: &Applications, delta: f64) -> Option<(f64, f64)> {
    let mut cache = Cache::default();
    let plan = Plan::new(applications, delta, precision, &mut cache)?;
    bounds(
        &Plan {
            most_points: 6e6,
            ..plan
        },
        delta,
        &mut cache,
    )
}

fn bounds(plan: &Plan, delta: f64, cache: &mut Cache) -> Option<(f64, f64)> {
    let worst = worst_direction(plan, plan.coarse_uppers(delta, cache)?, delta, cache)?;
    // The worse direction's lower bound is one for the whole; the other's could only be smaller.
    let lower = plan.lower(&worst, delta, cache);
    Some((lower.clamp(0.0, worst.upper), worst.upper))
}

/// The upper bound of [`epsilon`] alone; coarser, and never smaller, where it is far from `target`.
pub(super) fn upper_epsilon(
    applications: &Applications,
    delta: f64,
    target: f64,
    cache: &mut Cache,
) -> Option<f64> {
    let plan = Plan::new(applications, delta, precision(applications), cache)?;
    let found = plan.coarse_uppers(delta, cache)?;
    let coarse = found.iter().map(|found| found.upper).fold(0.0, f64::max);
    if (coarse / target - 1.0).abs() > FAR {
        return Some(coarse);
    }
    Some(worst_direction(&plan, found, delta, cache)?.upper)
}

/// Upper bound on δ at `epsilon`.
pub(super) fn delta(applications: &Applications, epsilon: f64, cache: &mut Cache) -> Option<f64> {
    // Tails are left out in proportion to δ, which is not known yet: by an estimate, then by what came out.
    let mut scale = {
        let plan = Plan::new(applications, SMALLEST_DELTA, precision(applications), cache)?;
        let estimates = plan
            .directions()
            .into_iter()
            .map(|direction| plan.outline.log_delta(direction, epsilon));
        estimates.fold(f64::NEG_INFINITY, f64::max).exp()
    };
    let mut found = None;
    for _ in 0..4 {
        scale = scale.clamp(SMALLEST_DELTA, 0.1);
        let plan = Plan::new(applications, scale, precision(applications), cache)?;
        let worst = plan.delta(epsilon, cache)?;
        found = Some(found.map_or(worst, |before: f64| before.min(worst)));
        if worst >= 0.1 * scale || scale <= SMALLEST_DELTA {
            break;
        }
        scale = worst;
    }
    found
}

fn precision(applications: &Applications) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    let total: f64 = applications.iter().map(|(_, count)| *count as f64).sum();
    PRECISION * (total / 1e4).max(1.0).sqrt().sqrt()
}

/// The upper bound of the direction where it is larger, given coarse ones.
fn worst_direction(plan: &Plan, coarse: Vec<Found>, delta: f64, cache: &mut Cache) -> Option<Found> {
    let mut worst: Option<Found> = None;
    for coarse in coarse {
        // A coarse bound is enough to see that the second direction is the better one, as it mostly is.
        if worst.as_ref().is_none_or(|worst| coarse.upper > worst.upper) {
            let found = plan.fine_upper(coarse, delta, cache);
            if worst.as_ref().is_none_or(|worst| found.upper > worst.upper) {
                worst = Some(found);
            }
        }
    }
    worst
}

/// Which side of the true law a law on a grid is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    /// Dots connected.
    Upper,
    /// Outcomes merged, for this direction.
    Lower(Direction),
}

/// An upper bound on ε and how it was found.
#[derive(Debug)]
struct Found {
    upper: f64,
    saddle: Saddle,
    step: f64,
    precision: Precision,
}

/// What does not depend on the direction.
#[derive(Debug)]
struct Plan {
    applications: Applications,
    outline: Outline,
    /// Number of applications in all.
    total: f64,
    /// What each law may leave out.
    tail: f64,
    /// Relative error of ε aimed at.
    precision: f64,
    /// Where the wanted grid would have more points than this, it is coarser: time and memory before precision.
    most_points: f64,
}

impl Plan {
    fn new(applications: &Applications, delta: f64, precision: f64, cache: &mut Cache) -> Option<Self> {
        let applications: Applications = applications
            .iter()
            .filter(|(primitive, _)| *primitive != Primitive::Gaussian { mu: 0.0 })
            .copied()
            .collect();
        #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let total: f64 = applications.iter().map(|(_, count)| *count as f64).sum();
        // In coarse steps, so that a growing composition finds its laws again.
        let tail = 4f64
            .powf((delta * TAIL_SHARE / total).log2().div_euclid(2.0))
            .max(1e-307);
        if tail * total > 0.01 * delta {
            return None;
        }
        let primitives: Vec<Primitive> = applications.iter().map(|(primitive, _)| *primitive).collect();
        let outline = match &cache.outline {
            #[allow(clippy::float_cmp, reason = "the same number or not")]
            Some((present, at, outline)) if *present == primitives && *at == tail => {
                outline.with_counts(&applications)
            }
            _ => {
                let outline = Outline::new(&applications, tail)?;
                cache.outline = Some((primitives, tail, outline.clone()));
                outline
            }
        };
        Some(Self {
            applications,
            outline,
            total,
            tail,
            precision,
            most_points: MOST_POINTS,
        })
    }

    fn directions(&self) -> Vec<Direction> {
        let symmetric = self
            .applications
            .iter()
            .all(|(primitive, _)| discretise::is_symmetric(primitive));
        if symmetric {
            vec![Direction::Forward]
        } else {
            vec![Direction::Forward, Direction::Backward]
        }
    }

    /// Upper bound on δ at `epsilon`, both directions.
    fn delta(&self, epsilon: f64, cache: &mut Cache) -> Option<f64> {
        let at = |direction: Direction, coarser: f64, cache: &mut Cache| {
            let precision = Precision::Double;
            let full = self.outline.saddle_for_epsilon(direction, epsilon);
            let saddle = self.outline.narrowed(&full, epsilon, 0.0, precision);
            let step = coarser * self.step(&full, &saddle, epsilon.max(0.1 * saddle.deviation), precision);
            self.profile(&saddle, step, Bound::Upper, precision, cache)?
                .log_delta(epsilon, End::Upper)
                .map(f64::exp)
        };
        let mut worst = 0.0_f64;
        for (i, direction) in self.directions().into_iter().enumerate() {
            // As for ε, a coarse bound mostly shows that the second direction is the better one.
            if i == 0 || at(direction, COARSER, cache).is_none_or(|delta| delta > worst) {
                worst = worst.max(at(direction, 1.0, cache)?);
            }
        }
        Some(worst)
    }

    /// A first upper bound in each direction.
    fn coarse_uppers(&self, delta: f64, cache: &mut Cache) -> Option<Vec<Found>> {
        let directions = self.directions().into_iter();
        directions
            .map(|direction| self.coarse_upper(direction, delta, cache))
            .collect()
    }

    /// A first upper bound on ε in one direction, on a grid much wider than the precision asks for.
    ///
    /// Where nothing else is known, the sum of the largest losses.
    fn coarse_upper(&self, direction: Direction, delta: f64, cache: &mut Cache) -> Option<Found> {
        let precision = Precision::Double;
        let largest: f64 = self
            .applications
            .iter()
            .map(|(primitive, count)| {
                #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
                let times = *count as f64;
                times * discretise::largest_loss(primitive, direction) * (1.0 + 4.0 * f64::EPSILON)
            })
            .sum();
        let mut last = None;
        for extra in [0.0, -2.0, -6.0] {
            let first = self.outline.saddle_for_delta(direction, delta.ln() + extra);
            let saddle = self.outline.narrowed(&first, first.mean, 0.0, precision);
            let scale = saddle.mean.max(0.1 * saddle.deviation);
            let step = COARSER * self.step(&first, &saddle, scale, precision);
            last = last.or(Some((saddle, step)));
            // A law of tiny bounded losses may have no grid at its saddle; there the sum of the largest will do.
            if let Some(answer) = self
                .profile(&saddle, step, Bound::Upper, precision, cache)
                .and_then(|profile| profile.epsilon(delta, End::Upper))
            {
                let upper = answer.epsilon.min(largest);
                return Some(Found {
                    upper,
                    saddle,
                    step,
                    precision,
                });
            }
        }
        let (saddle, step) = last.filter(|_| largest.is_finite())?;
        Some(Found {
            upper: largest,
            saddle,
            step,
            precision,
        })
    }

    /// The upper bound to the precision of the plan, near one that was found before.
    fn fine_upper(&self, coarse: Found, delta: f64, cache: &mut Cache) -> Found {
        let direction = coarse.saddle.direction;
        let mut best = coarse;
        for attempt in ATTEMPTS {
            if best.upper <= 0.0 {
                break;
            }
            let precision = attempt.precision;
            // One tilt is good near its own ε only: elsewhere round-off drowns the answer.
            let full = self.outline.saddle_for_epsilon(direction, best.upper);
            let saddle = if attempt.narrow {
                self.outline.narrowed(&full, best.upper, delta.ln(), precision)
            } else {
                full
            };
            let step = self.step(&full, &saddle, best.upper, precision);
            let Some(profile) = self.profile(&saddle, step, Bound::Upper, precision, cache) else {
                break;
            };
            let answer = profile.epsilon(delta, End::Upper);
            let settled = answer.is_some_and(|answer| {
                // A share of δ moves ε by about that share over the tilt.
                let harmless = 4.0 * self.precision * full.tilt * answer.epsilon;
                let (most, near) = match precision {
                    Precision::Double => (MOST_NOISE.max(harmless.min(0.05)), 0.0),
                    Precision::Wide => (10.0 * MOST_NOISE, 0.5 * best.upper),
                };
                answer.noise < most && answer.epsilon > near
            });
            if let Some(answer) = answer
                && answer.epsilon <= best.upper
            {
                let upper = answer.epsilon;
                best = Found {
                    upper,
                    saddle,
                    step,
                    precision,
                };
            }
            if settled {
                break;
            }
        }
        best
    }

    /// Lower bound on ε in one direction, 0 if there is no better one.
    fn lower(&self, found: &Found, delta: f64, cache: &mut Cache) -> f64 {
        // Merging works in cells much finer than its grid, so a wider grid costs as much as the upper bound's.
        let mut merged = 0.0_f64;
        for factor in if self.total < 1000.0 {
            [2.0, 0.5]
        } else {
            [4.0, 1.0]
        } {
            let profile = self.profile(
                &found.saddle,
                factor * found.step,
                Bound::Lower(found.saddle.direction),
                found.precision,
                cache,
            );
            let answer = profile.and_then(|profile| profile.epsilon(delta, End::Lower));
            merged = merged.max(answer.map_or(0.0, |answer| answer.epsilon));
            if found.upper - merged <= GOOD_ENOUGH * found.upper {
                return merged;
            }
        }
        merged.max(self.lower_by_concentration(found, delta, cache).unwrap_or(0.0))
    }

    /// The upper law, taken back by as much as connecting the dots can have added.
    fn lower_by_concentration(&self, found: &Found, delta: f64, cache: &mut Cache) -> Option<f64> {
        if !self
            .applications
            .iter()
            .all(|(primitive, _)| discretise::is_attained(primitive))
        {
            return None;
        }
        let eta = 0.01 * delta;
        let wanted = 0.5 * GOOD_ENOUGH * found.upper / (-0.5 * self.total * eta.ln()).sqrt();
        let step = rounded_down(wanted)
            .min(found.step)
            .max(SQRT_2 * rounded_down(self.outline.span() / (4.0 * self.most_points)));
        let profile = self.profile(&found.saddle, step, Bound::Upper, found.precision, cache)?;
        Some(profile.epsilon(delta + eta, End::Lower)?.epsilon - self.rounding_shift(step, eta))
    }

    /// By how much connecting the dots can have moved the composed loss, except with probability `eta`.
    ///
    /// Given the true loss, each rounding error has a range of one step and a mean between 0 and step²/8, because
    /// E[e^−Y | X] = e^−X; so Hoeffding's inequality applies to their sum.
    fn rounding_shift(&self, step: f64, eta: f64) -> f64 {
        self.total * step * step / 8.0 + step * (-0.5 * self.total * eta.ln()).sqrt()
    }

    /// The widest step whose connected dots add about `precision * scale` to the ε of saddle `answer`, and that does not
    /// take too many points at the saddle `used`. Rounded, so that a growing composition finds its laws again.
    fn step(&self, answer: &Saddle, used: &Saddle, scale: f64, precision: Precision) -> f64 {
        let (wanted, most_points) = match precision {
            Precision::Double => (self.precision * scale, self.most_points),
            Precision::Wide => (WIDE_COARSER * self.precision * scale, MOST_WIDE_POINTS),
        };
        // On a smooth law the error is T·D²·(l+1)/12; where most mass sits at few losses it can be much less.
        let smooth = rounded_down((6.0 * wanted / (self.total * (answer.tilt + 1.0))).sqrt());
        let mut step = smooth;
        if self.total > 1000.0 {
            while step < 16.0 * smooth && self.outline.rounding(answer, SQRT_2 * step) <= 0.5 * wanted {
                step *= SQRT_2;
            }
        }
        if precision == Precision::Wide {
            step = step.min(rounded_down(0.01 * scale));
        }
        let window = self.outline.window(used, 0.0, precision);
        step.max(SQRT_2 * rounded_down((window.high - window.low).max(self.outline.span()) / most_points))
    }

    fn profile(
        &self,
        saddle: &Saddle,
        step: f64,
        bound: Bound,
        precision: Precision,
        cache: &mut Cache,
    ) -> Option<Profile> {
        let laws = self
            .applications
            .iter()
            .map(|(primitive, count)| Some((cache.law(primitive, step, self.tail, bound)?, *count)))
            .collect::<Option<Vec<_>>>()?;
        let window = self.outline.window(saddle, self.total * step * step, precision);
        let laws: Vec<(&LossLaw, u64)> = laws.iter().map(|(law, count)| (law.as_ref(), *count)).collect();
        Profile::compose(&laws, saddle, &window, precision)
    }
}

/// One way to look for the upper bound.
struct Attempt {
    narrow: bool,
    precision: Precision,
}

/// In this order, until round-off takes next to nothing of δ. The first of twice the digits may start far off.
const ATTEMPTS: [Attempt; 5] = [
    Attempt {
        narrow: true,
        precision: Precision::Double,
    },
    Attempt {
        narrow: false,
        precision: Precision::Double,
    },
    Attempt {
        narrow: true,
        precision: Precision::Wide,
    },
    Attempt {
        narrow: true,
        precision: Precision::Wide,
    },
    Attempt {
        narrow: true,
        precision: Precision::Wide,
    },
];

/// The largest power of the square root of two that is not above `number`.
fn rounded_down(number: f64) -> f64 {
    2f64.powf(0.5 * (2.0 * number.log2()).floor())
}

impl Cache {
    /// Remembers that δ(`epsilon`) is at most `delta`.
    pub(super) fn remember(&mut self, epsilon: f64, delta: f64) {
        if self.known.len() >= MOST_KNOWN {
            self.known.remove(0);
        }
        self.known.push((epsilon, delta));
    }

    /// What is known of δ at `epsilon`, which falls with ε.
    pub(super) fn known_delta(&self, epsilon: f64) -> f64 {
        self.known
            .iter()
            .filter(|(at, _)| *at <= epsilon)
            .map(|(_, delta)| *delta)
            .fold(1.0, f64::min)
    }

    /// Forgets what held before more was composed.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    fn law(&mut self, primitive: &Primitive, step: f64, tail: f64, bound: Bound) -> Option<Arc<LossLaw>> {
        let key = LawKey {
            primitive: *primitive,
            step,
            tail,
            bound,
        };
        if let Some((_, law)) = self.laws.iter().find(|(present, _)| *present == key) {
            return Some(Arc::clone(law));
        }
        let law = Arc::new(match bound {
            Bound::Upper => discretise::loss_law(primitive, step, tail)?,
            Bound::Lower(direction) => discretise::lower_law(primitive, step, tail, direction)?,
        });
        if self.laws.len() >= MOST_LAWS {
            self.laws.remove(0);
        }
        self.laws.push((key, Arc::clone(&law)));
        Some(law)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct LawKey {
    primitive: Primitive,
    step: f64,
    tail: f64,
    bound: Bound,
}

const MOST_LAWS: usize = 8;
const MOST_KNOWN: usize = 32;

/// A coarse bound this far from a target says which side of it the fine one is on, and by about how much.
const FAR: f64 = 0.03;

/// Below this δ is not told from zero.
const SMALLEST_DELTA: f64 = 1e-290;

/// The share of δ that may be left out in tails.
const TAIL_SHARE: f64 = 1e-6;

/// Relative error of ε that the grid aims at, for up to ten thousand applications; it grows with their fourth root.
const PRECISION: f64 = 2e-5;

/// The usual limit of the number of grid points.
const MOST_POINTS: f64 = 1e6;

/// How much less precise an answer in wide numbers may be, and the limit of its grid points.
const WIDE_COARSER: f64 = 30.0;
const MOST_WIDE_POINTS: f64 = 131_072.0;

/// How much wider the grid is that shows which direction is worse.
const COARSER: f64 = 8.0;

/// The share of δ that round-off may take before another tilt is tried.
const MOST_NOISE: f64 = 1e-3;

/// Bounds closer than this are not improved.
const GOOD_ENOUGH: f64 = 8e-3;
