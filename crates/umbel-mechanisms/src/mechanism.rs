//! What a run applies, round after round.

use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier};
use zeroize::Zeroizing;

use crate::central_gaussian::{CentralGaussian, NoiseKind, Release};
use crate::matrix::{InverseError, MatrixGaussian, MatrixState};
use crate::quantize::Quantizer;
use crate::source::NoiseSource;
use crate::sum::IntegerSum;

/// The mechanism of a run. It is fixed in advance; what moves from round to round is in a [`MechanismState`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mechanism {
    /// Independent noise on each round's sum.
    Gaussian(CentralGaussian),
    /// Noise that is correlated between rounds.
    Matrix(Box<MatrixGaussian>),
}

/// How a mechanism stands before a round.
pub struct MechanismState {
    mechanism: Mechanism,
    matrix: Option<MatrixState>,
}

/// A state that cannot be made, or a release that it does not allow. Nothing was learnt.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the mechanism's state: {0}")]
pub struct StateError(#[from] InverseError);

impl From<CentralGaussian> for Mechanism {
    fn from(mechanism: CentralGaussian) -> Self {
        Self::Gaussian(mechanism)
    }
}

impl From<MatrixGaussian> for Mechanism {
    fn from(mechanism: MatrixGaussian) -> Self {
        Self::Matrix(Box::new(mechanism))
    }
}

impl Mechanism {
    /// What is charged: one round, before sampling, or all rounds together (see [`is_whole_run`](Self::is_whole_run)).
    pub fn event(&self) -> DpEvent {
        match self {
            Self::Gaussian(mechanism) => mechanism.event(),
            Self::Matrix(mechanism) => mechanism.event().clone(),
        }
    }

    /// Whether [`event`](Self::event) is that of the whole run, to be charged once, with the first round.
    pub fn is_whole_run(&self) -> bool {
        matches!(self, Self::Matrix(_))
    }

    /// Makes updates of the first round fit for the sum.
    pub fn quantizer(&self) -> &Quantizer {
        match self {
            Self::Gaussian(mechanism) => mechanism.quantizer(),
            Self::Matrix(mechanism) => mechanism.quantizer(),
        }
    }

    /// σ / C, of the independent draws; `None` without noise.
    pub fn noise_multiplier(&self) -> Option<NoiseMultiplier> {
        match self {
            Self::Gaussian(mechanism) => mechanism.noise_multiplier(),
            Self::Matrix(mechanism) => Some(mechanism.plan().noise_multiplier),
        }
    }

    /// How the noise is drawn; `None` if there is none.
    pub fn noise_kind(&self) -> Option<NoiseKind> {
        match self {
            Self::Gaussian(mechanism) => mechanism.noise_kind(),
            Self::Matrix(mechanism) => Some(mechanism.plan().noise),
        }
    }

    /// The public number that sums are divided by.
    pub fn divisor(&self) -> f64 {
        match self {
            Self::Gaussian(mechanism) => mechanism.divisor(),
            Self::Matrix(mechanism) => mechanism.plan().divisor,
        }
    }

    /// Standard deviation of the independent draws, in grid units of the sum; 0 without noise.
    pub fn noise_std_dev_grid_units(&self) -> f64 {
        match self {
            Self::Gaussian(mechanism) => mechanism.noise_std_dev_grid_units(),
            Self::Matrix(mechanism) => mechanism.noise_std_dev_grid_units(),
        }
    }

    /// Standard deviation of the noise on one coordinate of the mean that the last of `rounds` planned rounds releases, and of the
    /// sum of all their means, in their units; rounding to the grid is not counted.
    pub fn noise_std_devs(&self, rounds: u64) -> (f64, f64) {
        match self {
            Self::Gaussian(mechanism) => {
                let each = mechanism.noise_std_dev();
                (each, each * (rounds as f64).sqrt())
            }
            Self::Matrix(mechanism) => mechanism.noise_std_devs(),
        }
    }

    /// Bound on what must be added to δ because draws are not exactly of their law, over `rounds` rounds of `dimension`
    /// coordinates; see [`CentralGaussian::delta_loss`].
    pub fn delta_loss(&self, dimension: u64, rounds: u64) -> f64 {
        match self {
            Self::Gaussian(mechanism) => mechanism.delta_loss(dimension, rounds),
            Self::Matrix(mechanism) => mechanism.delta_loss(),
        }
    }

    /// The state before the first round.
    pub fn begin(&self) -> Result<MechanismState, StateError> {
        let matrix = match self {
            Self::Gaussian(_) => None,
            Self::Matrix(mechanism) => Some(mechanism.begin()?),
        };
        Ok(MechanismState {
            mechanism: self.clone(),
            matrix,
        })
    }
}

impl MechanismState {
    /// The bound on the norm of an update in the coming round.
    pub fn clip_norm(&self) -> ClipNorm {
        self.mechanism.quantizer().clip_norm()
    }

    /// Adds the noise of this round and divides. The sum is used up: nobody sees it without noise.
    ///
    /// In simulation the result depends on seed, round and sums only, the same bytes for any number of threads.
    ///
    /// # Errors
    ///
    /// All rounds that are paid for have been released.
    pub fn release(
        &mut self,
        sum: IntegerSum,
        noise: &NoiseSource,
        round: u64,
        n_threads: usize,
    ) -> Result<Release, StateError> {
        match (&self.mechanism, &mut self.matrix) {
            (Mechanism::Gaussian(mechanism), _) => Ok(mechanism.release(sum, noise, round, n_threads)),
            (Mechanism::Matrix(mechanism), Some(state)) => {
                Ok(mechanism.release(state, sum, noise, round, n_threads)?)
            }
            (Mechanism::Matrix(_), None) => Err(InverseError::Strategy.into()),
        }
    }

    /// Everything that the next round depends on, for a checkpoint; empty if that is nothing. **Nothing protects the clients in
    /// it**: keep it where the server keeps updates.
    pub fn to_unprotected_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.matrix
            .as_ref()
            .map_or_else(Zeroizing::default, MatrixState::to_unprotected_bytes)
    }

    /// Goes on after `rounds` rounds from what [`to_unprotected_bytes`](Self::to_unprotected_bytes) gave then.
    pub fn restore(&mut self, bytes: &[u8], rounds: u64) -> Result<(), StateError> {
        match &self.mechanism {
            Mechanism::Gaussian(_) if bytes.is_empty() => Ok(()),
            Mechanism::Gaussian(_) => Err(InverseError::State {
                expected: "nothing, as rounds are independent".to_owned(),
                got: format!("{} bytes", bytes.len()),
            }
            .into()),
            Mechanism::Matrix(mechanism) => {
                let state = MatrixState::from_unprotected_bytes(mechanism, bytes)?;
                if state.n_rounds() != rounds {
                    return Err(InverseError::State {
                        expected: format!("the state after {rounds} rounds"),
                        got: format!("that after {}", state.n_rounds()),
                    }
                    .into());
                }
                self.matrix = Some(state);
                Ok(())
            }
        }
    }
}

impl std::fmt::Debug for MechanismState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MechanismState")
            .field("mechanism", &self.mechanism)
            .finish_non_exhaustive()
    }
}
