//! What privacy a sequence of mechanism applications costs, and the ledger of what was spent.
//!
//! This crate has no IO, no clock and no randomness, and depends on no other crate of the workspace: anybody can audit
//! a ledger with it alone. Mechanisms describe each application as a [`DpEvent`]; an [`Accountant`] turns events into
//! ε at δ.

mod accountant;
mod event;
pub mod ledger;
pub mod matrix;
mod params;

pub use accountant::{AccountantKind, AccountingError, Accountant, EpsilonBounds, Unsupported};
pub use event::{DpEvent, NeighboringRelation};
pub use params::{ClipNorm, Delta, Epsilon, NoiseMultiplier, ParamError, SamplingRate};
