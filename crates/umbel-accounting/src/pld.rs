//! The accountant by privacy-loss distributions: certified bounds from both sides.

mod compose;
mod discretise;
mod law;
mod merge;
mod numeric;
mod outline;
mod pair;
mod transform;
mod wide;

use std::sync::{Mutex, PoisonError};

use self::numeric::Cache;
use crate::accountant::{Accountant, AccountantKind, AccountingError, EpsilonBounds, Unsupported};
use crate::primitive::{self, Applications, Primitive, resolve};
use crate::{Delta, DpEvent, Epsilon, NeighboringRelation, gaussian, rdp};

/// Composes the distributions of the privacy loss by fast Fourier transform and bounds ε and δ from both sides.
///
/// The pair of output laws that is worst among neighbours is known for every mechanism here; its loss is put on a grid
/// by connecting the dots, which can only raise δ(ε) (Doroshenko et al. 2022), tilted to the saddle point, composed, and
/// read off; the lower bound takes back what the grid can have added. Round-off, tails and aliasing are charged to δ.
/// Both directions are composed with themselves and the worse is taken, as the theorems ask. Pure Gaussian plans use the
/// closed form. Nothing is ever reported above the Rényi bound.
///
/// The upper bound of ε is typically within 1e-4 of the truth and so is the lower one. They stay certified but may be
/// apart where δ is far below the precision of `f64` and the chance that a unit was ever sampled is small. There is no
/// lower bound for truncated Poisson samples, and for samples of fixed size it is that of two data sets which are known
/// to be bad, not of the pair that bounds the cost from above.
#[derive(Debug)]
pub struct PldAccountant {
    applications: Applications,
    relation: NeighboringRelation,
    cache: Mutex<Cache>,
}

impl PldAccountant {
    /// Nothing composed yet.
    pub fn new(relation: NeighboringRelation) -> Self {
        Self {
            applications: Vec::new(),
            relation,
            cache: Mutex::default(),
        }
    }

    fn unsupported(&self, reason: String) -> Unsupported {
        Unsupported {
            accountant: AccountantKind::Pld.as_str(),
            relation: self.relation.as_str(),
            reason,
        }
    }

    fn resolve(&self, event: &DpEvent, count: u64) -> Result<Applications, Unsupported> {
        let resolved = resolve(event, self.relation, count).map_err(|reason| self.unsupported(reason))?;
        for (primitive, _) in &resolved {
            discretise::supports(primitive).map_err(|reason| self.unsupported(reason))?;
        }
        Ok(resolved)
    }
}

impl Accountant for PldAccountant {
    fn kind(&self) -> AccountantKind {
        AccountantKind::Pld
    }

    fn relation(&self) -> NeighboringRelation {
        self.relation
    }

    fn supports(&self, event: &DpEvent) -> Result<(), Unsupported> {
        self.resolve(event, 1).map(|_| ())
    }

    fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported> {
        let mut applications = self.applications.clone();
        for (primitive, count) in self.resolve(event, count)? {
            primitive::add(&mut applications, primitive, count).map_err(|reason| self.unsupported(reason))?;
        }
        self.applications = applications;
        self.cache
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .forget();
        Ok(())
    }

    fn epsilon(&self, delta: Delta) -> Result<EpsilonBounds, AccountingError> {
        let (lower, upper) = match shape(&self.applications) {
            Shape::NonPrivate => (Some(f64::INFINITY), f64::INFINITY),
            Shape::Gaussian { mu } => {
                let (lower, upper) = gaussian::epsilon(mu, delta.value());
                (Some(lower), upper)
            }
            Shape::General => {
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                let (lower, upper) = epsilon_bounds(&self.applications, delta.value(), &mut cache);
                cache.remember(upper, delta.value());
                (lower, upper)
            }
        };
        // A lower bound of 0 says nothing, unless the upper bound is 0 too.
        let lower = lower
            .filter(|&lower| lower > 0.0 || upper <= 0.0)
            .and_then(|lower| Epsilon::new(lower.min(upper)).ok());
        Ok(EpsilonBounds {
            lower,
            upper: Epsilon::new(upper).unwrap_or(Epsilon::INFINITE),
        })
    }

    fn delta(&self, epsilon: Epsilon) -> Result<f64, AccountingError> {
        Ok(match shape(&self.applications) {
            Shape::NonPrivate => 1.0,
            Shape::Gaussian { mu } if mu <= 0.0 => 0.0,
            _ if epsilon.value() >= rdp::largest_loss(&self.applications) => 0.0,
            Shape::Gaussian { mu } => {
                let (value, error) = gaussian::log_delta(mu, epsilon.value());
                (value + error).min(0.0).exp()
            }
            Shape::General => {
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                let delta = numeric::delta(&self.applications, epsilon.value(), &mut cache)
                    .unwrap_or_else(|| rdp::log_delta(&self.applications, epsilon.value()).exp());
                // A bound that was reported as ε at δ is not contradicted by another grid.
                delta.min(cache.known_delta(epsilon.value()))
            }
        })
    }
}

impl PldAccountant {
    /// The upper end of [`Accountant::epsilon`] for `count` applications of `event` and nothing else, or a little more:
    /// far from `target` a coarse bound is enough, and the lower end is not needed.
    pub(crate) fn upper_epsilon(
        &self,
        event: &DpEvent,
        count: u64,
        delta: f64,
        target: f64,
    ) -> Result<f64, Unsupported> {
        let mut applications = Applications::new();
        for (primitive, count) in self.resolve(event, count)? {
            primitive::add(&mut applications, primitive, count).map_err(|reason| self.unsupported(reason))?;
        }
        Ok(match shape(&applications) {
            Shape::NonPrivate => f64::INFINITY,
            Shape::Gaussian { mu } => gaussian::epsilon(mu, delta).1,
            Shape::General => {
                let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
                numeric::upper_epsilon(&applications, delta, target, &mut cache)
                    .unwrap_or_else(|| without_transform(&applications, delta))
            }
        })
    }
}

/// The transform's bounds; where they leave a gap, or there are none, the Rényi bound may be the better upper one.
fn epsilon_bounds(applications: &Applications, delta: f64, cache: &mut Cache) -> (Option<f64>, f64) {
    let Some((lower, upper)) = numeric::epsilon(applications, delta, cache) else {
        return (None, without_transform(applications, delta));
    };
    // The Rényi bound is above the truth, so above `lower`: it can only help where the bounds are apart.
    let upper = if upper > 1.01 * lower {
        upper.min(rdp::epsilon(applications, delta))
    } else {
        upper
    };
    (Some(lower), upper)
}

/// The upper bound where no grid fits: the Rényi bound, or 0 where a unit hardly ever is in a sample.
///
/// Unless it is, outputs have the same law, so δ(0) is at most the chance that it is in any.
fn without_transform(applications: &Applications, delta: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    let expected_samples: f64 = applications
        .iter()
        .map(|(primitive, count)| *count as f64 * primitive.chance_to_matter())
        .sum();
    if expected_samples * (1.0 + 1e-9) <= delta {
        0.0
    } else {
        rdp::epsilon(applications, delta)
    }
}

/// Which way a composition is accounted.
enum Shape {
    /// No guarantee at all.
    NonPrivate,
    /// Gaussians only, which compose to one: closed form.
    Gaussian { mu: f64 },
    /// By transform.
    General,
}

fn shape(applications: &Applications) -> Shape {
    let mut squared = 0.0;
    let mut general = false;
    for (primitive, count) in applications {
        match primitive {
            Primitive::NonPrivate => return Shape::NonPrivate,
            #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
            Primitive::Gaussian { mu } => squared += *count as f64 * mu * mu,
            _ => general = true,
        }
    }
    if general {
        Shape::General
    } else {
        Shape::Gaussian { mu: squared.sqrt() }
    }
}

#[cfg(test)]
mod tests;
