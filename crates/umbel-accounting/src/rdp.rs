//! The accountant by Rényi differential privacy (Mironov 2017): an upper bound that exists for every mechanism here.

mod conversion;
mod curve;
mod integral;
mod sampled_gaussian;
mod subsampling;

use crate::accountant::{Accountant, AccountantKind, AccountingError, EpsilonBounds, Unsupported};
use crate::primitive::{self, Applications, resolve};
use crate::{Delta, DpEvent, Epsilon, NeighboringRelation};

/// Rényi divergences at every real order above 1 add up; the best order gives ε.
///
/// The order is searched continuously, so the optimum never sits at the edge of a list. The bound holds for any plan
/// fixed in advance and is looser than [`PldAccountant`](crate::PldAccountant), but knows mechanisms that have no
/// privacy-loss distribution on a line: vectors with discrete Gaussian or Skellam noise, and anything that is zCDP.
#[derive(Debug, Clone)]
pub struct RdpAccountant {
    applications: Applications,
    relation: NeighboringRelation,
}

impl RdpAccountant {
    /// Nothing composed yet.
    pub fn new(relation: NeighboringRelation) -> Self {
        Self {
            applications: Vec::new(),
            relation,
        }
    }

    /// Upper bound on the Rényi divergence of order `order` of everything composed so far; infinite if there is none.
    ///
    /// Orders of at most 1 are answered by the bound at the smallest order that is used, since divergences grow with it.
    pub fn renyi_divergence(&self, order: f64) -> f64 {
        divergence(&self.applications, order - 1.0)
    }
}

impl Accountant for RdpAccountant {
    fn kind(&self) -> AccountantKind {
        AccountantKind::Rdp
    }

    fn relation(&self) -> NeighboringRelation {
        self.relation
    }

    fn supports(&self, event: &DpEvent) -> Result<(), Unsupported> {
        resolve(event, self.relation, 1)
            .map(|_| ())
            .map_err(|reason| self.unsupported(reason))
    }

    fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported> {
        let resolved = resolve(event, self.relation, count).map_err(|reason| self.unsupported(reason))?;
        let mut applications = self.applications.clone();
        for (primitive, count) in resolved {
            primitive::add(&mut applications, primitive, count).map_err(|reason| self.unsupported(reason))?;
        }
        self.applications = applications;
        Ok(())
    }

    fn epsilon(&self, delta: Delta) -> Result<EpsilonBounds, AccountingError> {
        let upper = Epsilon::new(epsilon(&self.applications, delta.value())).unwrap_or(Epsilon::INFINITE);
        Ok(EpsilonBounds { lower: None, upper })
    }

    fn delta(&self, epsilon: Epsilon) -> Result<f64, AccountingError> {
        Ok(log_delta(&self.applications, epsilon.value()).exp())
    }
}

impl RdpAccountant {
    fn unsupported(&self, reason: String) -> Unsupported {
        Unsupported {
            accountant: AccountantKind::Rdp.as_str(),
            relation: self.relation.as_str(),
            reason,
        }
    }
}

/// Upper bound on ε at `delta`.
pub(crate) fn epsilon(applications: &Applications, delta: f64) -> f64 {
    conversion::epsilon(
        |excess| divergence(applications, excess),
        largest_loss(applications),
        delta,
    )
}

/// Upper bound on `ln δ` at `epsilon`.
pub(crate) fn log_delta(applications: &Applications, epsilon: f64) -> f64 {
    if epsilon >= largest_loss(applications) {
        return f64::NEG_INFINITY;
    }
    conversion::log_delta(|excess| divergence(applications, excess), epsilon)
}

/// Sum of the divergences at order `1 + excess`.
fn divergence(applications: &Applications, excess: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    applications
        .iter()
        .map(|(primitive, count)| *count as f64 * curve::divergence(primitive, excess))
        .sum()
}

/// The ε that holds with δ = 0: the sum of the largest losses. Usually infinite.
pub(crate) fn largest_loss(applications: &Applications) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    applications
        .iter()
        .map(|(primitive, count)| *count as f64 * curve::largest_loss(primitive))
        .sum()
}

#[cfg(test)]
mod tests;
