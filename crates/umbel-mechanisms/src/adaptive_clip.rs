//! A clip norm that follows a quantile of the updates' norms, privately.
//!
//! Andrew, Thakkar, McMahan and Ramaswamy (2021), "Differentially Private Learning with Adaptive Clipping".

use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier};

use crate::central_gaussian::{CentralGaussian, MechanismError, NoiseKind};
use crate::clip::ClipOutcome;
use crate::rounded_gaussian::RoundedGaussian;
use crate::source::NoiseSource;

/// What an [`AdaptiveClip`] is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "every setting must be given")]
pub struct AdaptiveClipPlan {
    /// The clip norm of the first round. The method finds its way from a hundredth or the hundredfold of a good one, but
    /// rounds are lost; the paper takes 0.1.
    pub initial: ClipNorm,
    /// The clip norm never goes below this, nor above `largest`. Both are public.
    pub smallest: ClipNorm,
    /// See `smallest`.
    pub largest: ClipNorm,
    /// The share γ of updates that shall be short enough not to be clipped, between 0 and 1; usually 0.5.
    pub quantile: f64,
    /// How fast the clip norm moves, η: by a factor of at most exp(η · max(γ, 1 − γ)) a round; usually 0.2.
    pub learning_rate: f64,
    /// What each round costs in all, z: update and clipped share together.
    pub noise_multiplier: NoiseMultiplier,
    /// Standard deviation of the noise on the number of updates not clipped, σ_b; above z / 2, usually a twentieth of the
    /// planned cohort. Too small a value leaves too little for the update, too large a one makes the clip norm jump.
    pub count_std_dev: f64,
    /// The planned cohort m: public, never the number of reports.
    pub divisor: f64,
}

/// The state of adaptive clipping between two rounds: a plain value, all of it public.
///
/// # Privacy
///
/// In a round each client contributes its clipped update and a bit b: whether the update was within the clip norm before
/// clipping. The sums of both are released with noise:
///
/// 1. The update's sum gets noise of `z_D · C` with `z_D = (z⁻² − (2σ_b)⁻²)^(−1/2)`, and the sum of b − ½ gets noise σ_b.
///    A client moves the scaled pair `(Σ update / (z_D · C), Σ (b − ½) / σ_b)` by at most
///    `sqrt(1/z_D² + 1/(4 σ_b²)) = 1/z`: one Gaussian of noise multiplier z, charged once. Under replace-one both parts
///    double together, so the same split holds.
/// 2. The bits are integers too: each client counts as ±B, the noise has standard deviation 2B·σ_b and is a
///    [`RoundedGaussian`], so the argument of [`CentralGaussian`] covers them as one more coordinate.
/// 3. The next clip norm, `C · exp(−η · (b̃ − γ))` with `b̃ = ½ + (Σ (b − ½) + N(0, σ_b²)) / m`, is computed from the
///    release and public numbers only. So the noise multiplier stays z in every round, and a plan fixed in advance
///    is accounted as if the clip norm were constant.
///
/// A report whose value was not finite counts as clipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveClip {
    plan: AdaptiveClipPlan,
    clip_norm: ClipNorm,
    /// z_D.
    update_noise_multiplier: NoiseMultiplier,
    count_sampler: RoundedGaussian,
}

/// How many of a round's updates were within the clip norm, as Σ ±B over its clients. Not private, so it shows nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ClipCount {
    sum: i64,
}

/// Why a plan cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AdaptiveClipError {
    /// The noise on the count is too small for the noise multiplier, or no number that can be drawn.
    #[error(
        "the count's standard deviation must be above half the noise multiplier, {least}, and below 1e9, got {got}"
    )]
    CountStdDev {
        /// Half the noise multiplier.
        least: f64,
        /// The number that came.
        got: f64,
    },
    /// The planned cohort is not a number above 0.
    #[error("the divisor must be a finite number above 0, got {got}")]
    Divisor {
        /// The number that came.
        got: f64,
    },
    /// The first clip norm is not between the smallest and the largest.
    #[error("the first clip norm {initial} must be between {smallest} and {largest}")]
    Initial {
        /// The first clip norm.
        initial: ClipNorm,
        /// The smallest.
        smallest: ClipNorm,
        /// The largest.
        largest: ClipNorm,
    },
    /// The learning rate is not above 0, or above 10.
    #[error("the learning rate must be above 0 and at most 10, got {got}")]
    LearningRate {
        /// The number that came.
        got: f64,
    },
    /// The quantile is not between 0 and 1.
    #[error("the quantile must be above 0 and below 1, got {got}")]
    Quantile {
        /// The number that came.
        got: f64,
    },
}

/// B: one client counts as this many grid units, so that rounding the noise does not matter.
const COUNT_UNITS: i32 = 1 << 20;

/// The block of noise for the count: beyond every coordinate's.
const COUNT_BLOCK: u64 = u64::MAX;

impl AdaptiveClip {
    /// The state before the first round.
    pub fn new(plan: AdaptiveClipPlan) -> Result<Self, AdaptiveClipError> {
        let AdaptiveClipPlan {
            initial,
            smallest,
            largest,
            quantile,
            learning_rate,
            ..
        } = plan;
        if !(smallest <= initial && initial <= largest) {
            return Err(AdaptiveClipError::Initial {
                initial,
                smallest,
                largest,
            });
        }
        if !(quantile > 0.0 && quantile < 1.0) {
            return Err(AdaptiveClipError::Quantile { got: quantile });
        }
        if !(learning_rate > 0.0 && learning_rate <= 10.0) {
            return Err(AdaptiveClipError::LearningRate { got: learning_rate });
        }
        if !(plan.divisor > 0.0 && plan.divisor.is_finite()) {
            return Err(AdaptiveClipError::Divisor { got: plan.divisor });
        }
        let (z, count_std_dev) = (plan.noise_multiplier.value(), plan.count_std_dev);
        let refused = AdaptiveClipError::CountStdDev {
            least: z / 2.0,
            got: count_std_dev,
        };
        if !(count_std_dev > z / 2.0 && count_std_dev < 1e9) {
            return Err(refused);
        }
        // z_D = z / sqrt(1 − (z / 2σ_b)²), rounded up by more than its computation can have rounded down. Close to the
        // limit the difference loses digits, so it is taken apart first.
        let ratio = z / (2.0 * count_std_dev);
        let remainder = (1.0 - ratio) * (1.0 + ratio);
        if remainder < 1e-6 {
            return Err(refused);
        }
        let update_noise_multiplier =
            NoiseMultiplier::new(z / remainder.sqrt() * (1.0 + 1e-9)).map_err(|_| refused)?;
        let count_sampler =
            RoundedGaussian::new(2.0 * f64::from(COUNT_UNITS) * count_std_dev).map_err(|_| refused)?;
        Ok(Self {
            plan,
            clip_norm: initial,
            update_noise_multiplier,
            count_sampler,
        })
    }

    /// The clip norm C of the coming round.
    pub fn clip_norm(&self) -> ClipNorm {
        self.clip_norm
    }

    /// The noise multiplier on the update's sum, z_D: a little above z, because the count takes its share.
    pub fn update_noise_multiplier(&self) -> NoiseMultiplier {
        self.update_noise_multiplier
    }

    /// What a round costs, update and count together.
    pub fn event(&self) -> DpEvent {
        DpEvent::Gaussian {
            noise_multiplier: self.plan.noise_multiplier,
        }
    }

    /// The mechanism for the coming round's sum: its noise is z_D · C, and its event is that of the whole round, count
    /// included. Charge it once.
    pub fn mechanism(&self, noise: NoiseKind) -> Result<CentralGaussian, MechanismError> {
        CentralGaussian::with_charge(
            self.clip_norm,
            self.update_noise_multiplier,
            self.plan.noise_multiplier,
            noise,
            self.plan.divisor,
        )
    }

    /// Releases the share of updates within the clip norm, and gives the state for the next round with that share.
    ///
    /// The share is noisy, and may be below 0 or above 1. The noise is that of `round`, other than the update's.
    pub fn next_round(&self, count: ClipCount, noise: &NoiseSource, round: u64) -> (Self, f64) {
        let mut stream = noise.release_streams(round).block(COUNT_BLOCK);
        let noisy = count.sum + self.count_sampler.sample(&mut stream);
        let share = 0.5 + noisy as f64 / (2.0 * f64::from(COUNT_UNITS)) / self.plan.divisor;
        let step = (-self.plan.learning_rate * (share - self.plan.quantile)).exp();
        let (smallest, largest) = (self.plan.smallest.value(), self.plan.largest.value());
        let moved = (self.clip_norm.value() * step).clamp(smallest, largest);
        let clip_norm = ClipNorm::new(moved).expect("between two clip norms");
        (Self { clip_norm, ..*self }, share)
    }

    /// The state with another clip norm, for going on from a stored round; `None` if the plan does not allow it.
    pub fn with_clip_norm(&self, clip_norm: ClipNorm) -> Option<Self> {
        (self.plan.smallest <= clip_norm && clip_norm <= self.plan.largest)
            .then_some(Self { clip_norm, ..*self })
    }
}

impl ClipCount {
    /// A count of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one client.
    pub fn add(&mut self, outcome: &ClipOutcome) {
        self.add_bit(outcome.clipped);
    }

    /// Adds one client's bit as it came over a network: whether its update was longer than the clip norm.
    pub fn add_bit(&mut self, clipped: bool) {
        self.sum += i64::from(if clipped { -COUNT_UNITS } else { COUNT_UNITS });
    }

    /// Adds another count.
    pub fn merge(&mut self, other: Self) {
        self.sum += other.sum;
    }
}

impl std::fmt::Debug for ClipCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClipCount(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SimulationSeed;
    use crate::statistics::{check_chi_square, check_z};

    fn plan() -> AdaptiveClipPlan {
        let norm = |value| ClipNorm::new(value).unwrap();
        AdaptiveClipPlan {
            initial: norm(1.0),
            smallest: norm(1e-6),
            largest: norm(1e6),
            quantile: 0.5,
            learning_rate: 0.2,
            noise_multiplier: NoiseMultiplier::new(1.0).unwrap(),
            count_std_dev: 5.0,
            divisor: 100.0,
        }
    }

    fn noise(seed: u64) -> NoiseSource {
        NoiseSource::simulated(SimulationSeed::new(seed))
    }

    #[test]
    fn update_and_count_together_cost_the_noise_multiplier() {
        for (z, count_std_dev) in [(1.0, 5.0), (0.3, 0.2), (10.0, 5.001), (1e-3, 100.0), (4.0, 1e8)] {
            let noise_multiplier = NoiseMultiplier::new(z).unwrap();
            let clip = AdaptiveClip::new(AdaptiveClipPlan {
                noise_multiplier,
                count_std_dev,
                ..plan()
            })
            .unwrap();
            let update = clip.update_noise_multiplier().value();
            // Squared sensitivity of the scaled pair, against that of one Gaussian of noise multiplier z.
            let cost = update.powi(-2) + (2.0 * count_std_dev).powi(-2);
            assert!(
                cost * z * z <= 1.0 && cost * z * z > 1.0 - 1e-8,
                "z {z}, count {count_std_dev}: {cost}"
            );
            let mechanism = clip.mechanism(NoiseKind::Rounded).unwrap();
            assert_eq!(mechanism.event(), DpEvent::Gaussian { noise_multiplier });
            assert_eq!(mechanism.event(), clip.event());
            assert!((mechanism.noise_std_dev() / (update / 100.0) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn the_clip_norm_finds_the_quantile_from_both_sides() {
        // Norms of clients are 0.5, 1.5, … 99.5 hundredths of 7; the quantile γ of them is 7γ.
        for (start, quantile) in [(0.05, 0.5), (500.0, 0.5), (5.0, 0.2), (0.1, 0.9)] {
            let initial = ClipNorm::new(start).unwrap();
            let mut clip = AdaptiveClip::new(AdaptiveClipPlan {
                initial,
                quantile,
                ..plan()
            })
            .unwrap();
            let mut mean = 0.0;
            for round in 0..400 {
                let mut count = ClipCount::new();
                for client in 0..100 {
                    let norm = 7.0 * (f64::from(client) + 0.5) / 100.0;
                    let clipped = norm > clip.clip_norm().value();
                    count.add(&ClipOutcome {
                        norm,
                        clipped,
                        non_finite: false,
                    });
                }
                clip = clip.next_round(count, &noise(1), round).0;
                if round >= 200 {
                    mean += clip.clip_norm().value() / 200.0;
                }
            }
            let expected = 7.0 * quantile;
            assert!(
                (mean / expected - 1.0).abs() < 0.1,
                "from {start} to quantile {quantile}: {mean}"
            );
        }
    }

    #[test]
    fn the_clip_norm_stays_between_its_bounds() {
        let (smallest, largest) = (ClipNorm::new(0.9).unwrap(), ClipNorm::new(1.2).unwrap());
        for clipped in [true, false] {
            let mut clip = AdaptiveClip::new(AdaptiveClipPlan {
                smallest,
                largest,
                ..plan()
            })
            .unwrap();
            for round in 0..30 {
                let mut count = ClipCount::new();
                (0..100).for_each(|_| count.add_bit(clipped));
                clip = clip.next_round(count, &noise(2), round).0;
                assert!(smallest <= clip.clip_norm() && clip.clip_norm() <= largest);
            }
            assert_eq!(clip.clip_norm(), if clipped { largest } else { smallest });
            assert!(clip.with_clip_norm(ClipNorm::new(1.0).unwrap()).is_some());
            assert!(clip.with_clip_norm(ClipNorm::new(2.0).unwrap()).is_none());
        }
    }

    #[test]
    fn the_released_share_has_the_stated_noise_and_a_constant_divisor() {
        // 30 within, 10 beyond, planned 100: ½ + 10 / 100, whatever the number of reports.
        let clip = AdaptiveClip::new(plan()).unwrap();
        let mut count = ClipCount::new();
        (0..30).for_each(|_| count.add_bit(false));
        let mut others = ClipCount::new();
        (0..10).for_each(|_| others.add_bit(true));
        count.merge(others);
        let n = 20_000;
        let scaled: Vec<f64> = (0..n)
            .map(|round| (clip.next_round(count, &noise(3), round).1 - 0.6) / 0.05)
            .collect();
        let n_f64 = f64::from(u32::try_from(n).unwrap());
        check_z(scaled.iter().sum::<f64>() / n_f64.sqrt(), "mean share");
        check_chi_square(scaled.iter().map(|x| x * x).sum(), n_f64, "noise of the share");
    }

    #[test]
    fn plans_that_cannot_be_kept_are_refused() {
        let refused = |plan: AdaptiveClipPlan| AdaptiveClip::new(plan).unwrap_err();
        let tiny = ClipNorm::new(1e-9).unwrap();
        assert!(matches!(
            refused(AdaptiveClipPlan {
                initial: tiny,
                ..plan()
            }),
            AdaptiveClipError::Initial { .. }
        ));
        for quantile in [0.0, 1.0, f64::NAN] {
            assert!(matches!(
                refused(AdaptiveClipPlan { quantile, ..plan() }),
                AdaptiveClipError::Quantile { .. }
            ));
        }
        for learning_rate in [0.0, -0.2, f64::INFINITY, f64::NAN] {
            let plan = AdaptiveClipPlan {
                learning_rate,
                ..plan()
            };
            assert!(matches!(refused(plan), AdaptiveClipError::LearningRate { .. }));
        }
        for divisor in [0.0, f64::INFINITY, f64::NAN] {
            assert!(matches!(
                refused(AdaptiveClipPlan { divisor, ..plan() }),
                AdaptiveClipError::Divisor { .. }
            ));
        }
        for count_std_dev in [0.5, 0.0, -1.0, f64::NAN, f64::INFINITY, 0.500_000_1] {
            let plan = AdaptiveClipPlan {
                count_std_dev,
                ..plan()
            };
            assert!(matches!(refused(plan), AdaptiveClipError::CountStdDev { .. }));
        }
    }

    #[test]
    fn debug_output_shows_no_count() {
        let mut count = ClipCount::new();
        count.add_bit(true);
        assert_eq!(format!("{count:?}"), "ClipCount(redacted)");
    }
}
