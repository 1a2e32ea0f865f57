//! What privacy a sequence of mechanism applications costs, and the ledger of what was spent.
//!
//! This crate has no IO, no clock and no randomness, and depends on no other crate of the workspace: anybody can audit
//! a ledger with it alone. Mechanisms describe each application as a [`DpEvent`]; an [`Accountant`] turns events into
//! ε at δ.

mod accountant;
pub mod binomial;
pub mod calibrate;
mod event;
pub mod filter;
mod gaussian;
pub mod ledger;
pub mod matrix;
mod params;
mod pld;
mod primitive;
mod quadrature;
mod rdp;
mod search;
mod special;
pub mod tradeoff;
pub mod tuning;

pub use accountant::{Accountant, AccountantKind, AccountingError, EpsilonBounds, Unsupported, accountant};
pub use event::{DpEvent, NeighboringRelation};
pub use params::{
    ClipNorm, Delta, Epsilon, NoiseMultiplier, NoiseScale, NoiseStdDev, ParamError, Rho, SamplingRate,
    Sensitivity,
};
pub use pld::PldAccountant;
pub use rdp::RdpAccountant;
