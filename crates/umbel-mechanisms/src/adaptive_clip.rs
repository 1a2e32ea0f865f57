//! A clip norm that follows a quantile of the updates' norms, privately.
//!
//! Andrew, Thakkar, McMahan and Ramaswamy (2021), "Differentially Private Learning with Adaptive Clipping" (arXiv 1905.03871).

use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier};

use crate::central_gaussian::{CentralGaussian, MechanismError, NoiseKind, Release};
use crate::quantize::{GRID_UNITS, Quantizer};
use crate::source::NoiseSource;
use crate::sum::IntegerSum;

/// What an [`AdaptiveGaussian`] is made from.
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
    /// How noise is drawn.
    pub noise: NoiseKind,
    /// The planned cohort m: public, never the number of reports.
    pub divisor: f64,
}

/// The Gaussian mechanism with a clip norm that follows the updates.
///
/// # Privacy
///
/// In a round each client contributes its clipped update and a bit b: whether the update was within the clip norm C before
/// clipping. Both are one vector:
///
/// 1. The update is clipped to C, which is U grid units, and quantised; ±B for the bit is appended, with `U² + B² = 2^60`. So
///    what is reported is a vector of norm at most 2^30 grid units, exactly as in [`CentralGaussian`], which adds noise of
///    z · 2^30 to every coordinate of the sum: its argument covers both, and each round costs one Gaussian of noise
///    multiplier z, charged once.
/// 2. On the update's sum that is noise of `z_D · C` with `z_D = z · 2^30 / U`, and on the number of unclipped updates noise of
///    `σ_b = z · 2^30 / 2B`: the split `1/z_D² + 1/(4 σ_b²) = 1/z²` of the paper's theorem 1.
/// 3. The next clip norm, `C · exp(−η · (b̃ − γ))` with `b̃ = ½ + (Σ (b − ½) + N(0, σ_b²)) / m`, is computed from the release and
///    public numbers only. Noise is in proportion to the clip norm, so the noise multiplier stays z in every round, and a
///    plan fixed in noise multipliers is no adaptive plan to the accountant.
///
/// A report whose value was not finite counts as clipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveGaussian {
    plan: AdaptiveClipPlan,
    /// B.
    indicator: u32,
}

impl AdaptiveGaussian {
    /// Checks a plan.
    pub fn new(plan: AdaptiveClipPlan) -> Result<Self, MechanismError> {
        let refuse = |what: &'static str, expected: String, got: f64| MechanismError::AdaptiveClip {
            what,
            expected,
            got,
        };
        let AdaptiveClipPlan {
            initial,
            smallest,
            largest,
            ..
        } = plan;
        if !(smallest <= initial && initial <= largest) {
            let expected = format!(
                "between the smallest, {}, and the largest, {}",
                smallest.value(),
                largest.value()
            );
            return Err(refuse("the first clip norm", expected, initial.value()));
        }
        if !(plan.quantile > 0.0 && plan.quantile < 1.0) {
            return Err(refuse(
                "the quantile",
                "above 0 and below 1".to_owned(),
                plan.quantile,
            ));
        }
        if !(plan.learning_rate > 0.0 && plan.learning_rate <= 10.0) {
            return Err(refuse(
                "the learning rate",
                "above 0 and at most 10".to_owned(),
                plan.learning_rate,
            ));
        }
        let (z, count_std_dev) = (plan.noise_multiplier.value(), plan.count_std_dev);
        // B = 2^30 · z / 2σ_b, rounded down: the count gets no less noise than was asked for, the update no more.
        let weight = (f64::from(GRID_UNITS) * (z / (2.0 * count_std_dev))).floor();
        let most = f64::from(GRID_UNITS) * 0.999_999;
        if !(count_std_dev > 0.0 && (1.0..=most).contains(&weight)) {
            let expected = format!(
                "above half the noise multiplier, {:.6}, and below {:.3e} of it",
                z / 2.0,
                f64::from(GRID_UNITS)
            );
            return Err(refuse("the count's standard deviation", expected, count_std_dev));
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number from 1 to 2^30"
        )]
        let mechanism = Self {
            plan,
            indicator: weight as u32,
        };
        for clip_norm in [smallest, initial, largest] {
            mechanism.at(clip_norm)?;
        }
        Ok(mechanism)
    }

    /// The plan.
    pub fn plan(&self) -> &AdaptiveClipPlan {
        &self.plan
    }

    /// Weight of the bit in grid units, B.
    pub fn indicator(&self) -> u32 {
        self.indicator
    }

    /// What a round costs, update and count together.
    pub fn event(&self) -> DpEvent {
        DpEvent::Gaussian {
            noise_multiplier: self.plan.noise_multiplier,
        }
    }

    /// σ_b, as it is after rounding B.
    pub fn count_std_dev(&self) -> f64 {
        self.plan.noise_multiplier.value() * f64::from(GRID_UNITS) / (2.0 * f64::from(self.indicator))
    }

    /// Noise on the update's sum over the clip norm, z_D: a little above z, because the count takes its share.
    pub fn update_noise_multiplier(&self) -> f64 {
        self.plan.noise_multiplier.value() * self.joint_over_own()
    }

    /// The mechanism of a round whose updates are clipped to `clip_norm`. Its coordinates are those of the updates and, last,
    /// the bit.
    pub(crate) fn at(&self, clip_norm: ClipNorm) -> Result<CentralGaussian, MechanismError> {
        let divisor = self.plan.divisor;
        // Bound on update and bit together.
        let joint = ClipNorm::new(clip_norm.value() * self.joint_over_own())
            .map_err(|_| MechanismError::Scale { clip_norm, divisor })?;
        let quantizer = Quantizer::with_indicator(joint, self.indicator)
            .ok_or(MechanismError::Scale { clip_norm, divisor })?;
        CentralGaussian::with_quantizer(quantizer, self.plan.noise_multiplier, self.plan.noise, divisor)
    }

    /// Releases the sum of a round whose clip norm was `clip_norm`, and gives the next round's.
    pub(crate) fn release(
        &self,
        clip_norm: ClipNorm,
        sum: IntegerSum,
        noise: &NoiseSource,
        round: u64,
        n_threads: usize,
    ) -> Result<(Release, ClipNorm), MechanismError> {
        let mechanism = self.at(clip_norm)?;
        let mut release = mechanism.release(sum, noise, round, n_threads);
        let indicator = f64::from(release.values.pop().unwrap_or_default());
        // The mean of ±B in the updates' units, back in grid units.
        let share_within =
            0.5 + indicator / mechanism.quantizer().grid_unit() / (2.0 * f64::from(self.indicator));
        release.share_within = Some(share_within);
        Ok((release, self.next(clip_norm, share_within)))
    }

    /// The clip norm after a round in which this share of updates was within it.
    fn next(&self, clip_norm: ClipNorm, share_within: f64) -> ClipNorm {
        let step = (-self.plan.learning_rate * (share_within - self.plan.quantile)).exp();
        let (smallest, largest) = (self.plan.smallest.value(), self.plan.largest.value());
        ClipNorm::new((clip_norm.value() * step).clamp(smallest, largest)).unwrap_or(clip_norm)
    }

    /// Whether the clip norm can be one of this plan's.
    pub(crate) fn allows(&self, clip_norm: ClipNorm) -> bool {
        self.plan.smallest <= clip_norm && clip_norm <= self.plan.largest
    }

    /// 2^30 / U.
    fn joint_over_own(&self) -> f64 {
        // Close to the limit the difference loses digits, so it is taken apart first.
        let ratio = f64::from(self.indicator) / f64::from(GRID_UNITS);
        1.0 / ((1.0 - ratio) * (1.0 + ratio)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SimulationSeed;
    use crate::statistics::{check_chi_square, check_z};

    fn norm(value: f64) -> ClipNorm {
        ClipNorm::new(value).unwrap()
    }

    fn plan() -> AdaptiveClipPlan {
        AdaptiveClipPlan {
            initial: norm(1.0),
            smallest: norm(1e-6),
            largest: norm(1e6),
            quantile: 0.5,
            learning_rate: 0.2,
            noise_multiplier: NoiseMultiplier::new(1.0).unwrap(),
            count_std_dev: 5.0,
            noise: NoiseKind::Rounded,
            divisor: 100.0,
        }
    }

    fn noise(seed: u64) -> NoiseSource {
        NoiseSource::simulated(SimulationSeed::new(seed))
    }

    /// A round in which clients have updates of these norms, in one coordinate.
    fn play(
        mechanism: &AdaptiveGaussian,
        clip_norm: ClipNorm,
        norms: &[f32],
        round: u64,
    ) -> (Release, ClipNorm) {
        let quantizer = *mechanism.at(clip_norm).unwrap().quantizer();
        let mut sum = IntegerSum::new(quantizer.report_length(1));
        for length in norms {
            sum.add(&quantizer.clip_and_quantize(&[*length], Vec::new()).0)
                .unwrap();
        }
        mechanism.release(clip_norm, sum, &noise(1), round, 1).unwrap()
    }

    #[test]
    fn update_and_count_together_cost_the_noise_multiplier() {
        for (z, count_std_dev) in [(1.0, 5.0), (0.3, 0.2), (10.0, 5.001), (1e-3, 100.0), (4.0, 1e8)] {
            let noise_multiplier = NoiseMultiplier::new(z).unwrap();
            let mechanism = AdaptiveGaussian::new(AdaptiveClipPlan {
                noise_multiplier,
                count_std_dev,
                ..plan()
            })
            .unwrap();
            // Squared sensitivity of the scaled pair, against that of one Gaussian of noise multiplier z.
            let (update, count) = (mechanism.update_noise_multiplier(), mechanism.count_std_dev());
            let cost = update.powi(-2) + (2.0 * count).powi(-2);
            assert!(
                (cost * z * z - 1.0).abs() < 1e-12,
                "z {z}, count {count_std_dev}: {cost}"
            );
            assert!(
                count >= count_std_dev && count < count_std_dev * 1.05,
                "{count} {count_std_dev}"
            );
            let round = mechanism.at(norm(2.0)).unwrap();
            assert_eq!(round.event(), DpEvent::Gaussian { noise_multiplier });
            assert_eq!(round.event(), mechanism.event());
            assert!((round.noise_std_dev() / (update * 2.0 / 100.0) - 1.0).abs() < 1e-12);
            assert!((round.quantizer().update_clip_norm() - 2.0).abs() < 1e-9);
        }
    }

    #[test]
    fn update_and_bit_are_one_vector_within_the_bound() {
        let mechanism = AdaptiveGaussian::new(AdaptiveClipPlan {
            count_std_dev: 0.6,
            ..plan()
        })
        .unwrap();
        let quantizer = *mechanism.at(norm(0.1)).unwrap().quantizer();
        let weight = i32::try_from(mechanism.indicator()).unwrap();
        for (update, clipped) in [
            (vec![0.06_f32, 0.08], false),
            (vec![0.061, 0.08], true),
            (vec![1e30, -1e30], true),
            (vec![0.0, 0.0], false),
            (vec![f32::NAN, 0.0], true),
            (vec![1e-40, 0.0], false),
        ] {
            let (report, outcome) = quantizer.clip_and_quantize(&update, Vec::new());
            assert_eq!(outcome.clipped, clipped, "{update:?}");
            assert_eq!(report.values()[2], if clipped { -weight } else { weight });
            let square: u128 = report
                .values()
                .iter()
                .map(|value| u128::from(value.unsigned_abs()).pow(2))
                .sum();
            assert!(square <= 1 << 60);
            if outcome.norm > 0.1 {
                assert!(
                    square as f64 > 0.999_999 * 2.0_f64.powi(60),
                    "nothing of the bound is wasted"
                );
            }
            assert!(quantizer.accept(report.values().to_vec()).is_ok());
        }
    }

    #[test]
    fn the_clip_norm_finds_the_quantile_from_both_sides() {
        // Norms of clients are 0.5, 1.5, … 99.5 hundredths of 7; the quantile γ of them is 7γ.
        let norms: Vec<f32> = (0..100_u8)
            .map(|client| 7.0 * (f32::from(client) + 0.5) / 100.0)
            .collect();
        for (start, quantile) in [(0.035, 0.5), (350.0, 0.5), (5.0, 0.2), (0.1, 0.9)] {
            let mechanism = AdaptiveGaussian::new(AdaptiveClipPlan { quantile, ..plan() }).unwrap();
            let (mut clip_norm, mut mean) = (norm(start), 0.0);
            for round in 0..400 {
                clip_norm = play(&mechanism, clip_norm, &norms, round).1;
                if round >= 200 {
                    mean += clip_norm.value() / 200.0;
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
        let (smallest, largest) = (norm(0.9), norm(1.2));
        let mechanism = AdaptiveGaussian::new(AdaptiveClipPlan {
            smallest,
            largest,
            ..plan()
        })
        .unwrap();
        for (length, end) in [(1e3, largest), (0.0, smallest)] {
            let mut clip_norm = norm(1.0);
            for round in 0..30 {
                clip_norm = play(&mechanism, clip_norm, &[length; 100], round).1;
                assert!(mechanism.allows(clip_norm));
            }
            assert_eq!(clip_norm, end);
        }
    }

    /// False-alarm rate 1e-6 for each check.
    #[test]
    fn mean_and_share_have_the_stated_noise_and_a_constant_divisor() {
        // 30 within, 10 beyond, planned 100: ½ + 10 / 100, whatever the number of reports; the mean update is (15 + 10) / 100.
        let mechanism = AdaptiveGaussian::new(plan()).unwrap();
        let norms = [[0.5; 30].as_slice(), &[3.0; 10]].concat();
        let n = 10_000_u32;
        let (mut shares, mut means) = (Vec::new(), Vec::new());
        for round in 0..n {
            let (release, _) = play(&mechanism, norm(1.0), &norms, round.into());
            shares.push((release.share_within.unwrap() - 0.6) / (mechanism.count_std_dev() / 100.0));
            means.push((f64::from(release.values[0]) - 0.25) / (mechanism.update_noise_multiplier() / 100.0));
            assert_eq!(release.values.len(), 1);
        }
        let n = f64::from(n);
        for (values, what) in [(&shares, "share"), (&means, "mean")] {
            check_z(values.iter().sum::<f64>() / n.sqrt(), what);
            check_chi_square(values.iter().map(|value| value * value).sum(), n, what);
        }
        // Independent: the sum of n products of independent standard normal numbers has variance n.
        check_z(
            shares.iter().zip(&means).map(|(a, b)| a * b).sum::<f64>() / n.sqrt(),
            "share and mean",
        );
    }

    #[test]
    fn plans_out_of_range_are_refused() {
        let refused = |plan| AdaptiveGaussian::new(plan).unwrap_err().to_string();
        for (bad, words) in [
            (
                AdaptiveClipPlan {
                    quantile: 1.0,
                    ..plan()
                },
                "quantile",
            ),
            (
                AdaptiveClipPlan {
                    learning_rate: 0.0,
                    ..plan()
                },
                "learning rate",
            ),
            (
                AdaptiveClipPlan {
                    count_std_dev: 0.5,
                    ..plan()
                },
                "above half the noise multiplier",
            ),
            (
                AdaptiveClipPlan {
                    count_std_dev: f64::NAN,
                    ..plan()
                },
                "standard deviation",
            ),
            (
                AdaptiveClipPlan {
                    initial: norm(1e7),
                    ..plan()
                },
                "first clip norm",
            ),
            (
                AdaptiveClipPlan {
                    divisor: 0.0,
                    ..plan()
                },
                "divisor",
            ),
        ] {
            assert!(refused(bad).contains(words), "{}", refused(bad));
        }
    }
}
