//! Mechanism applications as data.

use crate::{NoiseMultiplier, SamplingRate};

/// How two neighbouring data sets differ. A unit is a client or an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "whoever handles a relation must handle all three")]
pub enum NeighboringRelation {
    /// One unit is there or not: sensitivity C.
    AddOrRemoveOne,
    /// One unit's contribution is replaced by zero; who takes part is the same in both worlds: sensitivity C.
    ReplaceByZero,
    /// One unit is exchanged for another: sensitivity 2C.
    ReplaceOne,
}

impl NeighboringRelation {
    /// The name used on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddOrRemoveOne => "add-remove",
            Self::ReplaceByZero => "replace-by-zero",
            Self::ReplaceOne => "replace-one",
        }
    }

    /// The largest L2 distance between the sums of two neighbours, in units of the clip norm C.
    pub fn sensitivity(self) -> f64 {
        match self {
            Self::AddOrRemoveOne | Self::ReplaceByZero => 1.0,
            Self::ReplaceOne => 2.0,
        }
    }
}

/// What an accountant must know of mechanism applications: necessary and sufficient for their cost.
///
/// Noise is always stated relative to the clip norm C (the most that one unit contributes), under every relation.
/// An event never changes its meaning; what an accountant does not know it refuses.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DpEvent {
    /// Several events, all of which happened.
    Composed(Vec<DpEvent>),
    /// Gaussian noise on a sum of vectors of L2 norm at most C each.
    Gaussian {
        /// σ / C.
        noise_multiplier: NoiseMultiplier,
    },
    /// A release without any guarantee: infinite cost.
    NonPrivate,
    /// The inner event on a sample that each unit joins independently with the same secret probability.
    PoissonSampled {
        /// The probability q.
        sampling_rate: SamplingRate,
        /// What was applied to the sample.
        event: Box<DpEvent>,
    },
    /// The same event `count` times, with independent randomness, adaptively.
    Repeated {
        /// What was repeated.
        event: Box<DpEvent>,
        /// How often.
        count: u64,
    },
}
