//! Mechanism applications as data.

use crate::{ClipNorm, NoiseMultiplier, NoiseScale, NoiseStdDev, Rho, SamplingRate, Sensitivity};

/// How two neighbouring data sets differ. A unit is a client or an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever handles a relation must handle all three"
)]
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
/// Noise is always stated relative to the clip norm C (the most that one unit contributes), under every relation; where
/// noise lives on a grid, both are stated in grid units. An event never changes its meaning; what an accountant does
/// not know it refuses.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DpEvent {
    /// Several events, all of which happened.
    Composed(Vec<Self>),
    /// Discrete Gaussian noise (Canonne, Kamath, Steinke 2020) on a sum of integer vectors.
    ///
    /// In one dimension the exact distribution is accounted. In more the law is not invariant under rotation, so
    /// accountants use its zCDP bound, which holds in every dimension.
    DiscreteGaussian {
        /// Bound on the L2 norm of one unit's vector, in grid units. In one dimension its integer part counts.
        clip_norm: ClipNorm,
        /// Number of coordinates.
        dimension: u64,
        /// The parameter σ of the distribution, in grid units.
        noise_std_dev: NoiseStdDev,
    },
    /// Discrete Laplace (two-sided geometric) noise on **one** integer sum.
    DiscreteLaplace {
        /// Bound on the magnitude of one unit's number, in grid units; its integer part counts.
        clip_norm: ClipNorm,
        /// The scale b in grid units: mass at k proportional to exp(-|k| / b).
        noise_scale: NoiseScale,
    },
    /// The inner event on a sample of exactly `sample_size` units, uniform among `population_size`, without replacement,
    /// fresh and secret each time. Only replace-one has a theorem.
    FixedSizeSampled {
        /// What was applied to the sample.
        event: Box<Self>,
        /// Number of all units, public and the same for both neighbours.
        population_size: u64,
        /// Number of units in the sample.
        sample_size: u64,
    },
    /// Gaussian noise on a sum of vectors of L2 norm at most C each.
    Gaussian {
        /// σ / C.
        noise_multiplier: NoiseMultiplier,
    },
    /// Laplace noise on **one** sum of numbers of magnitude at most C each.
    Laplace {
        /// b / C, where b is the scale of the noise (its standard deviation divided by √2).
        noise_multiplier: NoiseMultiplier,
    },
    /// A whole run of a matrix mechanism: one Gaussian release of strategy matrix times contributions (Denisov et al.
    /// 2022), each contribution adaptively chosen and of L2 norm at most C.
    ///
    /// Under add-or-remove-one, when the other units take part must not depend on the unit that is added.
    MatrixMechanism {
        /// σ / C, where σ is the standard deviation of the independent noise before it is correlated.
        noise_multiplier: NoiseMultiplier,
        /// Sensitivity of the strategy matrix under the participation that is enforced, for contributions of norm 1.
        sensitivity: Sensitivity,
    },
    /// A release without any guarantee: infinite cost.
    NonPrivate,
    /// The inner event on a sample that each unit joins independently with the same secret probability.
    PoissonSampled {
        /// The probability q.
        sampling_rate: SamplingRate,
        /// What was applied to the sample.
        event: Box<Self>,
    },
    /// The same event `count` times, with independent randomness, adaptively.
    Repeated {
        /// What was repeated.
        event: Box<Self>,
        /// How often.
        count: u64,
    },
    /// Skellam noise (difference of two Poisson draws) on a sum of integer vectors (Agarwal, Kairouz, Liu 2021).
    ///
    /// Skellam noise is closed under addition: where clients add shares, the variance is that of the shares that are in
    /// the sum and honest, never the planned one.
    Skellam {
        /// Bound on the L1 norm of one unit's vector, in grid units.
        l1_clip_norm: ClipNorm,
        /// Bound on the L2 norm of one unit's vector, in grid units.
        l2_clip_norm: ClipNorm,
        /// Standard deviation of the noise in each coordinate of the sum, in grid units.
        noise_std_dev: NoiseStdDev,
    },
    /// Tree aggregation of `steps` sums (Kairouz et al. 2021), every node with its own Gaussian noise, restarted each
    /// epoch; each unit takes part at most once in an epoch.
    ///
    /// Under add-or-remove-one, when the other units take part must not depend on the unit that is added.
    Tree {
        /// Number of trees, one after the other.
        epochs: u64,
        /// σ / C of each node.
        noise_multiplier: NoiseMultiplier,
        /// Number of leaves of each tree.
        steps: u64,
    },
    /// Poisson sampling where a sample larger than `cap` is cut down to `cap` units, uniformly at random.
    ///
    /// Accounted for the Gaussian under add-or-remove-one and replace-by-zero.
    TruncatedPoissonSampled {
        /// Largest size of a sample.
        cap: u64,
        /// What was applied to the sample.
        event: Box<Self>,
        /// Public bound on the number of units.
        population_size: u64,
        /// The probability q before truncation.
        sampling_rate: SamplingRate,
    },
    /// Anything that is ρ-zCDP under add-or-remove-one or replace-by-zero (Bun, Steinke 2016). Replace-one costs 4ρ, by
    /// group privacy.
    ZeroConcentrated {
        /// The parameter ρ.
        rho: Rho,
    },
}
