//! ε and δ by transform: which grid, which tilt, and how close.

use std::sync::Arc;

use super::compose::{End, Profile};
use super::discretise;
use super::law::LossLaw;
use super::outline::{Direction, Outline, Saddle};
use crate::primitive::{Applications, Primitive};

/// Laws and outlines that were made before, so that a growing composition of the same events is cheap.
#[derive(Debug, Default)]
pub(super) struct Cache {
    laws: Vec<(Primitive, f64, f64, Arc<LossLaw>)>,
    outline: Option<(Vec<Primitive>, f64, Outline)>,
}

/// Lower and upper bound on ε at `delta`; `None` where the transform cannot give any.
pub(super) fn epsilon(applications: &Applications, delta: f64, cache: &mut Cache) -> Option<(f64, f64)> {
    let plan = Plan::new(applications, delta, cache)?;
    let mut bounds = (0.0_f64, 0.0_f64);
    for direction in plan.directions() {
        let (lower, upper) = plan.epsilon(direction, delta, cache)?;
        bounds = (bounds.0.max(lower), bounds.1.max(upper));
    }
    Some(bounds)
}

/// Lower and upper bound on δ at `epsilon`.
pub(super) fn delta(applications: &Applications, epsilon: f64, cache: &mut Cache) -> Option<(f64, f64)> {
    let plan = Plan::new(applications, 1e-300, cache)?;
    let mut bounds = (0.0_f64, 0.0_f64);
    for direction in plan.directions() {
        let saddle = plan.outline.saddle_for_epsilon(direction, epsilon);
        let step = plan.step(&saddle, epsilon.max(1e-3 * saddle.deviation), 1e-10);
        let profile = plan.profile(&saddle, step, cache)?;
        let upper = profile.log_delta(epsilon, End::Upper)?.exp();
        let lower = profile.log_delta(epsilon, End::Lower)?.exp();
        bounds = (bounds.0.max(lower), bounds.1.max(upper));
    }
    Some(bounds)
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
}

impl Plan {
    fn new(applications: &Applications, delta: f64, cache: &mut Cache) -> Option<Self> {
        let applications: Applications =
            applications.iter().filter(|(primitive, _)| *primitive != Primitive::Gaussian { mu: 0.0 }).copied().collect();
        #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let total: f64 = applications.iter().map(|(_, count)| *count as f64).sum();
        // In coarse steps, so that a growing composition finds its laws again.
        let tail = 4f64.powf((delta * TAIL_SHARE / total).log2().div_euclid(2.0)).max(1e-307);
        if tail * total > 0.01 * delta {
            return None;
        }
        let primitives: Vec<Primitive> = applications.iter().map(|(primitive, _)| *primitive).collect();
        let outline = match &cache.outline {
            #[allow(clippy::float_cmp, reason = "the same number or not")]
            Some((present, at, outline)) if *present == primitives && *at == tail => outline.with_counts(&applications),
            _ => {
                let outline = Outline::new(&applications, tail)?;
                cache.outline = Some((primitives, tail, outline.clone()));
                outline
            }
        };
        Some(Self { applications, outline, total, tail })
    }

    fn directions(&self) -> Vec<Direction> {
        let symmetric = self.applications.iter().all(|(primitive, _)| discretise::is_symmetric(primitive));
        if symmetric { vec![Direction::Forward] } else { vec![Direction::Forward, Direction::Backward] }
    }

    fn epsilon(&self, direction: Direction, delta: f64, cache: &mut Cache) -> Option<(f64, f64)> {
        let mut saddle = self.outline.saddle_for_delta(direction, delta.ln());
        for _ in 0..4 {
            let scale = saddle.mean.max(1e-3 * saddle.deviation);
            let eta = 0.01 * delta;
            let step = self.step(&saddle, scale, eta);
            let profile = self.profile(&saddle, step, cache)?;
            let Some(upper) = profile.epsilon(delta, End::Upper) else {
                saddle = self.outline.saddle_for_delta(direction, delta.ln() - 2.0);
                continue;
            };
            if (upper - saddle.mean).abs() > 3.0 * saddle.deviation && upper > 0.0 {
                let better = self.outline.saddle_for_epsilon(direction, upper);
                if (better.tilt / saddle.tilt - 1.0).abs() > 1e-2 {
                    saddle = better;
                    continue;
                }
            }
            let lower = profile.epsilon(delta + eta, End::Lower).unwrap_or(0.0) - self.rounding_shift(step, eta);
            return Some((lower.max(0.0), upper));
        }
        None
    }

    /// By how much connecting the dots can have moved the composed loss, except with probability `eta`.
    ///
    /// Given the true loss, each rounding error has a range of one step and a mean between 0 and step²/8, because
    /// E[e^−Y | X] = e^−X; so Hoeffding's inequality applies to their sum.
    fn rounding_shift(&self, step: f64, eta: f64) -> f64 {
        self.total * step * step / 8.0 + step * (-0.5 * self.total * eta.ln()).sqrt()
    }

    fn step(&self, saddle: &Saddle, scale: f64, eta: f64) -> f64 {
        let upper = (6.0 * UPPER_ERROR * scale / (self.total * (saddle.tilt + 1.0))).sqrt();
        let lower = LOWER_ERROR * scale / (-0.5 * self.total * eta.ln()).sqrt();
        2f64.powf(upper.min(lower).log2().floor())
    }

    fn profile(&self, saddle: &Saddle, step: f64, cache: &mut Cache) -> Option<Profile> {
        let laws = self
            .applications
            .iter()
            .map(|(primitive, count)| Some((cache.law(primitive, step, self.tail)?, *count)))
            .collect::<Option<Vec<_>>>()?;
        let window = self.outline.window(saddle, self.total * step * step);
        let laws: Vec<(&LossLaw, u64)> = laws.iter().map(|(law, count)| (law.as_ref(), *count)).collect();
        Profile::compose(&laws, saddle, window)
    }
}

impl Cache {
    #[allow(clippy::float_cmp, reason = "the same number or not")]
    fn law(&mut self, primitive: &Primitive, step: f64, tail: f64) -> Option<Arc<LossLaw>> {
        if let Some((.., law)) =
            self.laws.iter().find(|(other, at, left_out, _)| other == primitive && *at == step && *left_out == tail)
        {
            return Some(Arc::clone(law));
        }
        let law = Arc::new(discretise::loss_law(primitive, step, tail)?);
        if self.laws.len() >= MOST_LAWS {
            self.laws.remove(0);
        }
        self.laws.push((*primitive, step, tail, Arc::clone(&law)));
        Some(law)
    }
}

const MOST_LAWS: usize = 8;

/// The share of δ that may be left out in tails.
const TAIL_SHARE: f64 = 1e-6;

/// Relative error of ε aimed at, above and below.
const UPPER_ERROR: f64 = 5e-5;
const LOWER_ERROR: f64 = 5e-3;
