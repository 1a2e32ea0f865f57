//! Mechanisms whose noise the clients add together, inside secure aggregation.

mod mechanism;
mod rotation;

pub use mechanism::{DistributedError, DistributedGaussian, DistributedTerms};
