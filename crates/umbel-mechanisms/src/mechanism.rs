//! What a run applies, round after round.

use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier};
use zeroize::Zeroizing;

use crate::adaptive_clip::AdaptiveGaussian;
use crate::central_gaussian::{CentralGaussian, MechanismError, NoiseKind, Release};
use crate::distributed::DistributedGaussian;
use crate::local_gaussian::LocalGaussian;
use crate::matrix::{InverseError, MatrixGaussian, MatrixState};
use crate::quantize::{GRID_UNITS, Quantizer};
use crate::source::NoiseSource;
use crate::sum::IntegerSum;

/// The mechanism of a run. It is fixed in advance; what moves from round to round is in a [`MechanismState`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mechanism {
    /// Independent noise on each round's sum, with a clip norm that follows the updates.
    Adaptive(AdaptiveGaussian),
    /// Noise that clients add together, inside secure aggregation; the server adds none.
    Distributed(Box<DistributedGaussian>),
    /// Independent noise on each round's sum.
    Gaussian(CentralGaussian),
    /// Noise that each client adds to what it sends; the server adds none.
    Local(Box<LocalGaussian>),
    /// Noise that is correlated between rounds.
    Matrix(Box<MatrixGaussian>),
}

/// The law of a mechanism's noise, and how exactly it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever vouches for noise must know every law"
)]
pub enum NoiseLaw {
    /// Floating-point Gaussian numbers, for simulation only: [`NoiseKind::Continuous`].
    Continuous,
    /// Discrete Gaussian shares of clients: [`DistributedGaussian`].
    Discrete,
    /// A Gaussian rounded to the grid: [`NoiseKind::Rounded`].
    Rounded,
}

impl NoiseLaw {
    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continuous => NoiseKind::Continuous.as_str(),
            Self::Discrete => "discrete",
            Self::Rounded => NoiseKind::Rounded.as_str(),
        }
    }
}

/// How a mechanism stands before a round.
pub struct MechanismState {
    mechanism: Mechanism,
    /// Of the coming round, where it moves.
    clip_norm: ClipNorm,
    /// Makes updates of the coming round fit for the sum.
    quantizer: Quantizer,
    matrix: Option<MatrixState>,
}

/// A state that cannot be made, or a release that it does not allow. Nothing was learnt.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The correlation of noise cannot go on.
    #[error("the mechanism's state: {0}")]
    Matrix(#[from] InverseError),
    /// The round's mechanism cannot be made.
    #[error("the mechanism of the next round: {0}")]
    Round(#[from] MechanismError),
}

impl From<CentralGaussian> for Mechanism {
    fn from(mechanism: CentralGaussian) -> Self {
        Self::Gaussian(mechanism)
    }
}

impl From<AdaptiveGaussian> for Mechanism {
    fn from(mechanism: AdaptiveGaussian) -> Self {
        Self::Adaptive(mechanism)
    }
}

impl From<DistributedGaussian> for Mechanism {
    fn from(mechanism: DistributedGaussian) -> Self {
        Self::Distributed(Box::new(mechanism))
    }
}

impl From<LocalGaussian> for Mechanism {
    fn from(mechanism: LocalGaussian) -> Self {
        Self::Local(Box::new(mechanism))
    }
}

impl From<MatrixGaussian> for Mechanism {
    fn from(mechanism: MatrixGaussian) -> Self {
        Self::Matrix(Box::new(mechanism))
    }
}

impl Mechanism {
    /// What a round costs of whose sum this many clients are part, as far as it is known who they are: where clients add the noise,
    /// each more than the fewest makes it cheaper. What is charged is [`event`](Self::event).
    pub fn event_with(&self, survivors: u32) -> DpEvent {
        match self {
            Self::Distributed(mechanism) => mechanism.event_with(survivors),
            _ => self.event(),
        }
    }

    /// What is charged: one round, before sampling, or what [`most_charges`](Self::most_charges) says.
    pub fn event(&self) -> DpEvent {
        match self {
            Self::Adaptive(mechanism) => mechanism.event(),
            Self::Distributed(mechanism) => mechanism.event(),
            Self::Gaussian(mechanism) => mechanism.event(),
            Self::Local(mechanism) => mechanism.event(),
            Self::Matrix(mechanism) => mechanism.event().clone(),
        }
    }

    /// How often [`event`](Self::event) counts at most: once where it is that of the whole run, to be charged with the first round;
    /// as often as a client may take part where it is that of one client's participation. `None`: with every round.
    pub fn most_charges(&self) -> Option<u64> {
        match self {
            Self::Adaptive(_) | Self::Gaussian(_) => None,
            Self::Distributed(mechanism) => Some(mechanism.terms().most_participations),
            Self::Local(mechanism) => Some(mechanism.plan().most_participations),
            Self::Matrix(_) => Some(1),
        }
    }

    /// The bound on the norm of an update, in the first round where it moves.
    pub fn clip_norm(&self) -> ClipNorm {
        match self {
            Self::Adaptive(mechanism) => mechanism.plan().initial,
            Self::Distributed(mechanism) => mechanism.terms().clip_norm,
            Self::Gaussian(mechanism) => mechanism.quantizer().clip_norm(),
            Self::Local(mechanism) => mechanism.plan().clip_norm,
            Self::Matrix(mechanism) => mechanism.plan().clip_norm,
        }
    }

    /// What one grid unit stands for, of a contribution clipped to [`clip_norm`](Self::clip_norm).
    pub fn grid_unit(&self) -> f64 {
        match self {
            // Update and bit together have the norm of 2^30 units.
            Self::Adaptive(mechanism) => {
                let joint = mechanism.update_noise_multiplier() / mechanism.plan().noise_multiplier.value();
                self.clip_norm().value() * joint / f64::from(GRID_UNITS)
            }
            Self::Distributed(mechanism) => mechanism.grid_unit(),
            Self::Gaussian(_) | Self::Local(_) | Self::Matrix(_) => {
                self.clip_norm().value() / f64::from(GRID_UNITS)
            }
        }
    }

    /// Makes updates fit for the sum in a round with this clip norm.
    fn quantizer_at(&self, clip_norm: ClipNorm) -> Result<Quantizer, MechanismError> {
        Ok(match self {
            Self::Adaptive(mechanism) => *mechanism.at(clip_norm)?.quantizer(),
            // Reports do not come in its form; what says the clip norm to clients does.
            Self::Distributed(_) => Quantizer::new(clip_norm),
            Self::Gaussian(mechanism) => *mechanism.quantizer(),
            Self::Local(mechanism) => *mechanism.server().quantizer(),
            Self::Matrix(mechanism) => *mechanism.quantizer(),
        })
    }

    /// σ / C, of the independent draws; `None` without noise.
    pub fn noise_multiplier(&self) -> Option<NoiseMultiplier> {
        match self {
            Self::Adaptive(mechanism) => Some(mechanism.plan().noise_multiplier),
            Self::Distributed(mechanism) => Some(mechanism.terms().noise_multiplier),
            Self::Gaussian(mechanism) => mechanism.noise_multiplier(),
            Self::Local(mechanism) => mechanism.plan().noise_multiplier,
            Self::Matrix(mechanism) => Some(mechanism.plan().noise_multiplier),
        }
    }

    /// How the noise is drawn; `None` if there is none.
    pub fn noise_law(&self) -> Option<NoiseLaw> {
        let kind = match self {
            Self::Adaptive(mechanism) => Some(mechanism.plan().noise),
            Self::Distributed(_) => return Some(NoiseLaw::Discrete),
            Self::Gaussian(mechanism) => mechanism.noise_kind(),
            Self::Local(mechanism) => mechanism.noise_kind(),
            Self::Matrix(mechanism) => Some(mechanism.plan().noise),
        };
        kind.map(|kind| match kind {
            NoiseKind::Continuous => NoiseLaw::Continuous,
            NoiseKind::Rounded => NoiseLaw::Rounded,
        })
    }

    /// The public number that sums are divided by.
    pub fn divisor(&self) -> f64 {
        match self {
            Self::Adaptive(mechanism) => mechanism.plan().divisor,
            Self::Distributed(mechanism) => mechanism.terms().divisor,
            Self::Gaussian(mechanism) => mechanism.divisor(),
            Self::Local(mechanism) => mechanism.plan().divisor,
            Self::Matrix(mechanism) => mechanism.plan().divisor,
        }
    }

    /// Standard deviation of the independent draws, in [grid units](Self::grid_unit); 0 without noise. With local noise that of one
    /// client's own release, with distributed noise that of the fewest honest survivors together.
    pub fn noise_std_dev_grid_units(&self) -> f64 {
        match self {
            Self::Adaptive(mechanism) => mechanism.plan().noise_multiplier.value() * f64::from(GRID_UNITS),
            Self::Distributed(mechanism) => mechanism.target_variance().sqrt(),
            Self::Gaussian(mechanism) => mechanism.noise_std_dev_grid_units(),
            Self::Local(mechanism) => mechanism.noise_std_dev_grid_units(),
            Self::Matrix(mechanism) => mechanism.noise_std_dev_grid_units(),
        }
    }

    /// Standard deviation of the noise on one coordinate of the mean that the last of `rounds` planned rounds releases, and of the
    /// sum of all their means, in their units; rounding to the grid is not counted. Where the clip norm moves, noise moves with
    /// it: then the first is for the first round's clip norm, and nobody knows the second in advance. Local and distributed noise come
    /// with each report: then both are for as many reports as are planned.
    pub fn noise_std_devs(&self, rounds: u64) -> (f64, Option<f64>) {
        match self {
            Self::Adaptive(mechanism) => {
                let plan = mechanism.plan();
                (
                    mechanism.update_noise_multiplier() * plan.initial.value() / plan.divisor,
                    None,
                )
            }
            Self::Distributed(mechanism) => {
                let each = mechanism.noise_std_dev_planned();
                (each, Some(each * (rounds as f64).sqrt()))
            }
            Self::Gaussian(mechanism) => {
                let each = mechanism.noise_std_dev();
                (each, Some(each * (rounds as f64).sqrt()))
            }
            Self::Local(mechanism) => (mechanism.noise_std_dev(), None),
            Self::Matrix(mechanism) => {
                let (last, total) = mechanism.noise_std_devs();
                (last, Some(total))
            }
        }
    }

    /// Bound on what must be added to δ because draws are not exactly of their law, over `rounds` rounds of `dimension`
    /// coordinates; see [`CentralGaussian::delta_loss`].
    pub fn delta_loss(&self, dimension: u64, rounds: u64) -> f64 {
        match self {
            Self::Adaptive(mechanism) => match mechanism.at(mechanism.plan().initial) {
                Ok(round) => round.delta_loss(dimension + 1, rounds),
                Err(_) => f64::INFINITY,
            },
            Self::Distributed(mechanism) => mechanism.delta_loss(rounds),
            Self::Gaussian(mechanism) => mechanism.delta_loss(dimension, rounds),
            Self::Local(mechanism) => mechanism.delta_loss(),
            Self::Matrix(mechanism) => mechanism.delta_loss(),
        }
    }

    /// The state before the first round.
    pub fn begin(&self) -> Result<MechanismState, StateError> {
        let matrix = match self {
            Self::Adaptive(_) | Self::Distributed(_) | Self::Gaussian(_) | Self::Local(_) => None,
            Self::Matrix(mechanism) => Some(mechanism.begin()?),
        };
        let clip_norm = self.clip_norm();
        let quantizer = self.quantizer_at(clip_norm)?;
        Ok(MechanismState {
            mechanism: self.clone(),
            clip_norm,
            quantizer,
            matrix,
        })
    }
}

impl MechanismState {
    /// The bound on the norm of an update in the coming round.
    pub fn clip_norm(&self) -> ClipNorm {
        self.clip_norm
    }

    /// Makes updates of the coming round fit for the sum.
    pub fn quantizer(&self) -> &Quantizer {
        &self.quantizer
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
            (Mechanism::Adaptive(mechanism), _) => {
                let (release, next) = mechanism.release(self.clip_norm, sum, noise, round, n_threads)?;
                self.quantizer = *mechanism.at(next)?.quantizer();
                self.clip_norm = next;
                Ok(release)
            }
            (Mechanism::Distributed(mechanism), _) => Ok(Release {
                values: mechanism.release(&sum.into_values(), round),
                event: mechanism.event(),
                provenance: noise.provenance(),
                share_within: None,
            }),
            (Mechanism::Gaussian(mechanism), _) => Ok(mechanism.release(sum, noise, round, n_threads)),
            (Mechanism::Local(mechanism), _) => Ok(Release {
                event: mechanism.event(),
                ..mechanism.server().release(sum, noise, round, n_threads)
            }),
            (Mechanism::Matrix(mechanism), Some(state)) => {
                Ok(mechanism.release(state, sum, noise, round, n_threads)?)
            }
            (Mechanism::Matrix(_), None) => Err(InverseError::Strategy.into()),
        }
    }

    /// Everything that the next round depends on, for a checkpoint; empty if that is nothing. **Nothing protects the clients in
    /// it**: keep it where the server keeps updates.
    pub fn to_unprotected_bytes(&self) -> Zeroizing<Vec<u8>> {
        match (&self.mechanism, &self.matrix) {
            (Mechanism::Adaptive(_), _) => Zeroizing::new(self.clip_norm.value().to_le_bytes().to_vec()),
            (_, Some(state)) => state.to_unprotected_bytes(),
            (_, None) => Zeroizing::default(),
        }
    }

    /// Goes on after `rounds` rounds from what [`to_unprotected_bytes`](Self::to_unprotected_bytes) gave then.
    pub fn restore(&mut self, bytes: &[u8], rounds: u64) -> Result<(), StateError> {
        match &self.mechanism {
            Mechanism::Adaptive(mechanism) => {
                let number = <[u8; 8]>::try_from(bytes).ok().map(f64::from_le_bytes);
                let stored = number.and_then(|number| ClipNorm::new(number).ok());
                let clip_norm =
                    stored
                        .filter(|norm| mechanism.allows(*norm))
                        .ok_or_else(|| InverseError::State {
                            expected: "a clip norm that the plan allows, in 8 bytes".to_owned(),
                            got: number.map_or_else(
                                || format!("{} bytes", bytes.len()),
                                |number| format!("{number:?}"),
                            ),
                        })?;
                self.quantizer = self.mechanism.quantizer_at(clip_norm)?;
                self.clip_norm = clip_norm;
                Ok(())
            }
            Mechanism::Distributed(_) | Mechanism::Gaussian(_) | Mechanism::Local(_) if bytes.is_empty() => {
                Ok(())
            }
            Mechanism::Distributed(_) | Mechanism::Gaussian(_) | Mechanism::Local(_) => {
                Err(InverseError::State {
                    expected: "nothing, as rounds are independent".to_owned(),
                    got: format!("{} bytes", bytes.len()),
                }
                .into())
            }
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
