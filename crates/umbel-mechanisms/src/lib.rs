//! Clips, quantises, sums and adds noise, and describes each application as an accounting event.
//!
//! The way of an update: a [`Quantizer`] clips it and rounds it toward zero to integers whose norm it has checked exactly;
//! an [`IntegerSum`] adds such updates and gives its contents to nobody but [`CentralGaussian::release`], which adds
//! integer noise and divides by a public number. The mechanism value that draws the noise also gives its
//! [`DpEvent`](umbel_accounting::DpEvent), so the two cannot drift apart. The argument why this is private, step by
//! step, stands at [`CentralGaussian`].
//!
//! Everything random comes from a source whose type says what it is for ([`CohortSource`], [`NoiseSource`],
//! [`RoundingSource`]). There is no IO here, no clock and no global generator; only the sources' `from_system` ask the
//! operating system, for a key.

mod adaptive_clip;
mod blocks;
mod central_gaussian;
mod clip;
mod discrete_gaussian;
mod discrete_laplace;
mod distributed;
mod fixed_point;
mod gradient_sum;
mod local_gaussian;
mod matrix;
mod mechanism;
mod quantize;
mod rounded_gaussian;
mod rounding;
mod sampling;
mod skellam;
mod source;
#[cfg(test)]
mod statistics;
mod strips;
mod sum;
mod turns;

pub use adaptive_clip::{AdaptiveClipPlan, AdaptiveGaussian};
pub use central_gaussian::{CentralGaussian, MechanismError, NoiseKind, Release};
pub use clip::{ClipOutcome, LayerClip, LayerClipError, l2_norm};
pub use discrete_gaussian::DiscreteGaussian;
pub use discrete_laplace::{DiscreteLaplace, ScaleOutOfRange};
pub use distributed::{DistributedError, DistributedGaussian, DistributedTerms};
pub use gradient_sum::{GradientPart, GradientSum};
pub use local_gaussian::{LocalGaussian, LocalPlan, LocalSteps};
pub use matrix::{InverseError, MatrixGaussian, MatrixPlan};
pub use mechanism::{Mechanism, MechanismState, NoiseLaw, StateError};
pub use quantize::{GRID_UNITS, QuantizedUpdate, Quantizer, RejectedUpdate};
pub use rounded_gaussian::{RoundedGaussian, StdDevOutOfRange};
pub use rounding::{GridRounding, GridRoundingError, RoundingKind, round_stochastically};
pub use sampling::{poisson_batch, poisson_cohort};
pub use skellam::{Skellam, VarianceOutOfRange};
pub use source::{
    BatchSource, BlockStreams, CohortSource, NO_CLIENT, NoiseSource, Provenance, Purpose, RandomStream,
    RoundingSource, SimulationSeed, SourceError,
};
pub use sum::{IntegerSum, SumDecodeError, SumError};
pub use turns::{Turns, TurnsError};
