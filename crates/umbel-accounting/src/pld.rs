//! The accountant by privacy-loss distributions.

use crate::accountant::{Accountant, AccountantKind, AccountingError, EpsilonBounds, Unsupported};
use crate::primitive::{self, Applications, Primitive, resolve};
use crate::{Delta, DpEvent, Epsilon, NeighboringRelation, gaussian};

/// Certified bounds from both sides.
#[derive(Debug, Clone)]
pub struct PldAccountant {
    applications: Applications,
    relation: NeighboringRelation,
}

impl PldAccountant {
    /// Nothing composed yet.
    pub fn new(relation: NeighboringRelation) -> Self {
        Self { applications: Vec::new(), relation }
    }

    fn unsupported(&self, reason: String) -> Unsupported {
        Unsupported { accountant: AccountantKind::Pld.as_str(), relation: self.relation.as_str(), reason }
    }

    fn resolve(&self, event: &DpEvent, count: u64) -> Result<Applications, Unsupported> {
        let resolved = resolve(event, self.relation, count).map_err(|reason| self.unsupported(reason))?;
        for (primitive, _) in &resolved {
            if !matches!(primitive, Primitive::Gaussian { .. } | Primitive::NonPrivate) {
                return Err(self.unsupported("not yet known to this accountant; use rdp".to_owned()));
            }
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
        Ok(())
    }

    fn epsilon(&self, delta: Delta) -> Result<EpsilonBounds, AccountingError> {
        let Some(mu) = gaussian_mu(&self.applications) else {
            return Ok(EpsilonBounds { lower: Some(Epsilon::INFINITE), upper: Epsilon::INFINITE });
        };
        let (lower, upper) = gaussian::epsilon(mu, delta.value());
        Ok(EpsilonBounds {
            lower: Epsilon::new(lower).ok(),
            upper: Epsilon::new(upper).unwrap_or(Epsilon::INFINITE),
        })
    }

    fn delta(&self, epsilon: Epsilon) -> Result<f64, AccountingError> {
        let Some(mu) = gaussian_mu(&self.applications) else { return Ok(1.0) };
        let (value, error) = gaussian::log_delta(mu, epsilon.value());
        Ok((value + error).min(0.0).exp())
    }
}

fn gaussian_mu(applications: &Applications) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
    applications
        .iter()
        .map(|(primitive, count)| match primitive {
            Primitive::Gaussian { mu } => Some(*count as f64 * mu * mu),
            _ => None,
        })
        .sum::<Option<f64>>()
        .map(f64::sqrt)
}
