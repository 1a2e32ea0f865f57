//! Attacks a run with canaries and bounds its ε from below: what a privacy claim looks like to somebody who tries to break it.
//!
//! [`attack`] plays an experiment's own run with [`Canaries`] among its clients, through the run's own clipping, quantising,
//! summing and noising; an [`Observer`] sees what is released, and [`judge`] turns that into lower bounds on ε by several methods
//! ([`estimate`]) and into tests of the claimed law ([`Check`]).
//!
//! A bound from an attack shows what leaks at least. It is no guarantee and never shows that a claim is right; it shows when one
//! is wrong. `docs/auditing.md` says which mistakes each method finds and which it cannot.

mod attack;
mod canaries;
mod checks;
mod claim;
pub mod estimate;
mod family;
mod guessing;
mod mechanism;
mod membership;
mod observer;
mod outcome;
mod scene;
mod scoring;
mod special;
mod whitening;

pub use attack::{Attack, AttackError, AttackSettings, Stage, attack, attack_prepared, gaussian};
pub use canaries::{Canaries, TooFewDimensions};
pub use checks::{Check, FALSE_ALARM};
pub use claim::Claim;
pub use family::{Family, gaussian_epsilon};
pub use guessing::{GuessPlan, guesses, plan_guesses};
pub use mechanism::{
    Aggregation, DIMENSION, MechanismVerdict, Neighbors, OwnAggregation, PairFinding, attack_mechanism,
    worst_neighbors,
};
pub use membership::{Membership, MembershipSettings, Roc, RocPoint, membership};
pub use observer::{Geometry, Observations, Observer};
pub use outcome::{Finding, GuessCounts, Method, Verdict, judge};
pub use scoring::plan_from_claim;
