//! The interface of all accountants.

use std::fmt;

use crate::{Delta, DpEvent, Epsilon, NeighboringRelation, PldAccountant, RdpAccountant};

/// Which accountant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AccountantKind {
    /// Privacy-loss distributions: certified bounds from both sides.
    Pld,
    /// Rényi differential privacy: an upper bound, looser.
    Rdp,
}

impl AccountantKind {
    /// The name used on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pld => "pld",
            Self::Rdp => "rdp",
        }
    }
}

/// Certified bounds on the ε of what was composed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpsilonBounds {
    /// No smaller ε holds, where the accountant can show one.
    pub lower: Option<Epsilon>,
    /// This ε holds. It is the only value ever reported as the guarantee.
    pub upper: Epsilon,
}

/// An event that an accountant cannot charge for, and why. Never answered by a guess.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {accountant} accountant cannot charge for this event under {relation}: {reason}")]
pub struct Unsupported {
    /// Name of the accountant.
    pub accountant: &'static str,
    /// Name of the neighbouring relation.
    pub relation: &'static str,
    /// What is missing, and what to use instead where there is something.
    pub reason: String,
}

/// Why a number could not be computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AccountingError {
    /// No value within the searched range reaches the target.
    #[error("{what}")]
    OutOfReach {
        /// Which target, which range, and the nearest value that was found.
        what: String,
    },
    /// An event that the accountant does not know.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

/// Turns events into ε at δ, under one neighbouring relation fixed at construction.
///
/// Events are composed adaptively as far as the relation's theorems allow: parameters of later events must be fixed in
/// advance (a plan), the data-dependent part is the content only.
pub trait Accountant: fmt::Debug + Send {
    /// Which accountant this is.
    fn kind(&self) -> AccountantKind;

    /// The relation under which it accounts.
    fn relation(&self) -> NeighboringRelation;

    /// Says whether `event` can be charged, without changing anything.
    fn supports(&self, event: &DpEvent) -> Result<(), Unsupported>;

    /// Adds `count` applications of `event`. On an error nothing has changed.
    fn compose(&mut self, event: &DpEvent, count: u64) -> Result<(), Unsupported>;

    /// Bounds on ε at `delta` for everything composed so far.
    fn epsilon(&self, delta: Delta) -> Result<EpsilonBounds, AccountingError>;

    /// Upper bound on δ at `epsilon` for everything composed so far, in `[0, 1]`.
    fn delta(&self, epsilon: Epsilon) -> Result<f64, AccountingError>;
}

/// An accountant of the given kind with nothing composed yet.
pub fn accountant(kind: AccountantKind, relation: NeighboringRelation) -> Box<dyn Accountant> {
    match kind {
        AccountantKind::Pld => Box::new(PldAccountant::new(relation)),
        AccountantKind::Rdp => Box::new(RdpAccountant::new(relation)),
    }
}
