//! The central Gaussian mechanism: noise on the sum of a round's updates, added by the server.

use rand_core::Rng;
use rand_distr::{Distribution, StandardNormal};
use umbel_accounting::matrix::MatrixError;
use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier};

use crate::blocks::for_blocks;
use crate::quantize::{GRID_UNITS, Quantizer};
use crate::rounded_gaussian::{RoundedGaussian, StdDevOutOfRange};
use crate::source::{BlockStreams, NoiseSource, Provenance, RandomStream};
use crate::sum::IntegerSum;

/// How the noise is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoiseKind {
    /// A Gaussian rounded to the grid, sampled exactly ([`RoundedGaussian`]). The only kind whose guarantee holds for
    /// what is released.
    Rounded,
    /// `rand_distr`'s normal in floating point, added to the exact sum. **For simulation only**: the values a float can take
    /// depend on the sum, and known attacks read it off the lowest bits (Mironov 2012; Jin et al. 2022; Haney et al. 2022).
    Continuous,
}

impl NoiseKind {
    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rounded => "rounded",
            Self::Continuous => "continuous",
        }
    }
}

/// Adds Gaussian noise to the sum of updates and divides by a public number.
///
/// # Privacy
///
/// [`release`](Self::release) is an application of the Gaussian mechanism with sensitivity C and noise of standard deviation
/// z·C, so its cost is exactly [`event`](Self::event), in any dimension and under adaptive choice of everything public:
///
/// 1. **Sensitivity.** A release takes an [`IntegerSum`], which takes [`QuantizedUpdate`](crate::QuantizedUpdate)s, of which
///    each satisfies `Σ vᵢ² ≤ 2^60` in exact integers, whoever made it. So adding or removing one unit, or replacing its
///    update by zero, moves the sum by at most 2^30 grid units in L2 norm (replacing it by another: twice that), where
///    2^30 grid units are called C. Nothing else that a client reports has an influence: no weight, no count.
/// 2. **Noise.** With `s = z · 2^30`, exactly, each coordinate gets an independent `floor(Nᵢ + ½)`, `Nᵢ ~ N(0, s²)`.
/// 3. **Post-processing.** For an integer x, x + floor(N + ½) = floor(x + N + ½): the result is a function of x + N, the
///    output of the real Gaussian mechanism of sensitivity 2^30 and noise z · 2^30, and so is everything computed from it:
///    multiplication by the grid unit, division by the divisor, rounding to `f32`. (Rounding half to even would break this
///    step; it does not commute with adding integers.)
/// 4. **The divisor** is the planned cohort, a public constant, never the number of reports. An empty sum is released like
///    any other.
/// 5. **Exactness.** Draws are exact but for a total variation that [`delta_loss`](Self::delta_loss) charges, given uniform
///    bits. Bits come from ChaCha20, so what is promised is computational.
///
/// A lower bound on ε computed for this event describes the Gaussian before rounding.
#[derive(Debug, Clone, PartialEq)]
pub struct CentralGaussian {
    quantizer: Quantizer,
    noise: Option<Noise>,
    divisor: f64,
    /// What one grid unit of the sum is in the released mean.
    scale: f64,
}

#[derive(Debug, Clone, PartialEq)]
struct Noise {
    kind: NoiseKind,
    noise_multiplier: NoiseMultiplier,
    sampler: RoundedGaussian,
}

/// A released mean. Whatever is computed from it is post-processing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Release {
    /// (sum + noise) / divisor, one value a coordinate, in the units of the updates; always finite.
    pub values: Vec<f32>,
    /// What the release costs.
    pub event: DpEvent,
    /// Where the noise came from.
    pub provenance: Provenance,
    /// Of adaptive clipping, the share of updates that were within the clip norm: noisy, and possibly below 0 or above 1.
    pub share_within: Option<f64>,
}

/// Why a mechanism cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MechanismError {
    /// A plan of adaptive clipping that cannot be kept.
    #[error("{what} must be {expected}, got {got:?}")]
    AdaptiveClip {
        /// Which number.
        what: &'static str,
        /// The accepted range.
        expected: String,
        /// The number that came.
        got: f64,
    },
    /// The divisor is no planned cohort size.
    #[error("the divisor must be a finite number above 0, got {got:?}")]
    Divisor {
        /// The number that came.
        got: f64,
    },
    /// The strategy's sensitivity cannot be computed.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// The noise is too small or too large to be drawn exactly.
    #[error("the noise multiplier {:?} cannot be drawn: {reason}", noise_multiplier.value())]
    NoiseMultiplier {
        /// The number that came.
        noise_multiplier: NoiseMultiplier,
        /// What the sampler says.
        reason: StdDevOutOfRange,
    },
    /// Clip norm over divisor leaves the range of floating-point numbers.
    #[error("a clip norm of {:?} divided by {divisor:?} leaves the range of numbers", clip_norm.value())]
    Scale {
        /// The clip norm.
        clip_norm: ClipNorm,
        /// The divisor.
        divisor: f64,
    },
    /// A strategy, or a number of rounds, that integers cannot run.
    #[error(
        "the strategy must be buffered, Toeplitz with coefficients below 8192, or one binary tree, over as many rounds as this \
         machine can count"
    )]
    Strategy,
}

impl CentralGaussian {
    /// Noise of standard deviation `noise_multiplier · clip_norm` on the sum, then division by `divisor`.
    ///
    /// `divisor` is the planned size of the cohort: public, above 0, the same whoever reports.
    pub fn new(
        clip_norm: ClipNorm,
        noise_multiplier: NoiseMultiplier,
        noise: NoiseKind,
        divisor: f64,
    ) -> Result<Self, MechanismError> {
        Self::with_quantizer(Quantizer::new(clip_norm), noise_multiplier, noise, divisor)
    }

    /// Clips, sums and divides alike, but adds nothing: **not private**, and [`event`](Self::event) says so.
    pub fn dangerous_without_noise(clip_norm: ClipNorm, divisor: f64) -> Result<Self, MechanismError> {
        Self::dangerous_with_units(clip_norm, f64::from(GRID_UNITS), divisor)
    }

    /// The same for sums in other units.
    pub(crate) fn dangerous_with_units(
        clip_norm: ClipNorm,
        units: f64,
        divisor: f64,
    ) -> Result<Self, MechanismError> {
        let scale = scale(clip_norm, units, divisor)?;
        Ok(Self {
            quantizer: Quantizer::new(clip_norm),
            noise: None,
            divisor,
            scale,
        })
    }

    /// The same for what another quantiser makes.
    pub(crate) fn with_quantizer(
        quantizer: Quantizer,
        noise_multiplier: NoiseMultiplier,
        kind: NoiseKind,
        divisor: f64,
    ) -> Result<Self, MechanismError> {
        Self::with_units(quantizer, f64::from(GRID_UNITS), noise_multiplier, kind, divisor)
    }

    /// The same for sums of which the clip norm is as many units as `units`, a power of two.
    pub(crate) fn with_units(
        quantizer: Quantizer,
        units: f64,
        noise_multiplier: NoiseMultiplier,
        kind: NoiseKind,
        divisor: f64,
    ) -> Result<Self, MechanismError> {
        // A product with a power of two is exact, so the noise is neither smaller nor larger than what is charged.
        let sampler = RoundedGaussian::new(noise_multiplier.value() * units).map_err(|reason| {
            MechanismError::NoiseMultiplier {
                noise_multiplier,
                reason,
            }
        })?;
        let scale = scale(quantizer.clip_norm(), units, divisor)?;
        let noise = Noise {
            kind,
            noise_multiplier,
            sampler,
        };
        Ok(Self {
            quantizer,
            noise: Some(noise),
            divisor,
            scale,
        })
    }

    /// What one release costs.
    pub fn event(&self) -> DpEvent {
        match &self.noise {
            Some(noise) => DpEvent::Gaussian {
                noise_multiplier: noise.noise_multiplier,
            },
            None => DpEvent::NonPrivate,
        }
    }

    /// The noise multiplier that is charged, z = σ / C; `None` without noise.
    pub fn noise_multiplier(&self) -> Option<NoiseMultiplier> {
        self.noise.as_ref().map(|noise| noise.noise_multiplier)
    }

    /// Makes updates fit for the sum.
    pub fn quantizer(&self) -> &Quantizer {
        &self.quantizer
    }

    /// How the noise is drawn; `None` if there is none.
    pub fn noise_kind(&self) -> Option<NoiseKind> {
        self.noise.as_ref().map(|noise| noise.kind)
    }

    /// The public number that sums are divided by.
    pub fn divisor(&self) -> f64 {
        self.divisor
    }

    /// Standard deviation of the noise on one coordinate of the released mean, z·C / divisor. Rounding to the grid adds
    /// a twelfth of a squared grid unit to the variance, which is not counted.
    pub fn noise_std_dev(&self) -> f64 {
        self.noise_std_dev_grid_units() * self.scale
    }

    /// Standard deviation of the noise on one coordinate of the sum, in grid units, before rounding: z · 2^30.
    pub fn noise_std_dev_grid_units(&self) -> f64 {
        self.noise.as_ref().map_or(0.0, |noise| noise.sampler.std_dev())
    }

    /// The largest ε for which [`delta_loss`](Self::delta_loss) holds. Draws are cut off far out in the tail, so with too little
    /// noise a larger bound would be untrue, and is no promise anyway.
    pub const MAX_EPSILON: f64 = 300.0;

    /// Bound on what must be added to δ because draws are not exactly of their law, over `rounds` releases of `dimension`
    /// coordinates, for every ε up to [`MAX_EPSILON`](Self::MAX_EPSILON).
    ///
    /// Let τ be the total variation between all that is drawn and its law. If the law gives (ε, δ), what is drawn gives
    /// (ε, δ + (1 + e^ε)·τ). With τ ≤ 1e-222 a coordinate and 1 + e^300 < 1e131 that is below 1e-91 a coordinate.
    /// 0 without noise, and for [`NoiseKind::Continuous`], whose ε describes an ideal that no computer samples from.
    #[allow(clippy::cast_precision_loss, reason = "a bound with much slack")]
    pub fn delta_loss(&self, dimension: u64, rounds: u64) -> f64 {
        match self.noise_kind() {
            Some(NoiseKind::Rounded) => {
                RoundedGaussian::TOTAL_VARIATION * 1e131 * dimension as f64 * rounds as f64
            }
            _ => 0.0,
        }
    }

    /// Adds the noise of this round and divides. The sum is used up: nobody sees it without noise.
    ///
    /// In simulation the result depends on seed, round and sum only, the same bytes for any number of threads. A source
    /// seeded by the system never gives the same noise again, not for the same round either.
    ///
    /// # Panics
    ///
    /// If the sum's updates were quantised for another clip norm than this mechanism's: the caller mixed up rounds.
    pub fn release(&self, sum: IntegerSum, noise: &NoiseSource, round: u64, n_threads: usize) -> Release {
        let streams = noise.release_streams(round);
        Release {
            values: self.noised(sum, &streams, 0, n_threads),
            event: self.event(),
            provenance: noise.provenance(),
            share_within: None,
        }
    }

    /// The same with given streams, of which it takes the blocks from `first` × 2^32 on.
    pub(crate) fn noised(
        &self,
        sum: IntegerSum,
        streams: &BlockStreams,
        first: u32,
        n_threads: usize,
    ) -> Vec<f32> {
        assert!(
            sum.is_on_grid_of(self.quantizer.clip_norm()),
            "the sum and the mechanism have different clip norms"
        );
        let mut sums = sum.into_values();
        let mut values = vec![0.0_f32; sums.len()];
        self.noise_values(&mut sums, &mut values, streams, first, n_threads);
        values
    }

    /// The same for sums in the units of this mechanism, whose norm bound the caller has checked; they are written over.
    pub(crate) fn noise_values(
        &self,
        sums: &mut [i64],
        values: &mut [f32],
        streams: &BlockStreams,
        first: u32,
        n_threads: usize,
    ) {
        let first = u64::from(first) << 32;
        for_blocks(sums, values, n_threads, |block, sums, values| {
            self.release_block(sums, values, &mut streams.block(first + block));
        });
    }

    fn release_block(&self, sums: &mut [i64], values: &mut [f32], stream: &mut RandomStream) {
        match &self.noise {
            Some(Noise {
                kind: NoiseKind::Continuous,
                sampler,
                ..
            }) => {
                for (value, &sum) in values.iter_mut().zip(&*sums) {
                    *value = self.dequantize(sum as f64 + sampler.std_dev() * standard_normal(stream));
                }
                return;
            }
            Some(Noise {
                kind: NoiseKind::Rounded,
                sampler,
                ..
            }) => sampler.add_to(sums, stream),
            None => {}
        }
        for (value, &sum) in values.iter_mut().zip(&*sums) {
            *value = self.dequantize(sum as f64);
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "rounding a released value is post-processing"
    )]
    fn dequantize(&self, sum: f64) -> f32 {
        ((sum * self.scale) as f32).clamp(f32::MIN, f32::MAX)
    }
}

pub(crate) fn standard_normal(stream: &mut impl Rng) -> f64 {
    StandardNormal.sample(stream)
}

/// What one of `units`, which make up the clip norm, is in the mean.
pub(crate) fn scale(clip_norm: ClipNorm, units: f64, divisor: f64) -> Result<f64, MechanismError> {
    if !(divisor.is_finite() && divisor > 0.0) {
        return Err(MechanismError::Divisor { got: divisor });
    }
    let scale = clip_norm.value() / units / divisor;
    if scale.is_normal() {
        Ok(scale)
    } else {
        Err(MechanismError::Scale { clip_norm, divisor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::BLOCK;
    use crate::source::SimulationSeed;
    use crate::statistics::{check_chi_square, check_z};

    fn clip_norm(value: f64) -> ClipNorm {
        ClipNorm::new(value).unwrap()
    }

    fn mechanism(norm: f64, noise_multiplier: f64, kind: NoiseKind, divisor: f64) -> CentralGaussian {
        CentralGaussian::new(
            clip_norm(norm),
            NoiseMultiplier::new(noise_multiplier).unwrap(),
            kind,
            divisor,
        )
        .unwrap()
    }

    fn noise(seed: u64) -> NoiseSource {
        NoiseSource::simulated(SimulationSeed::new(seed))
    }

    fn sum_of(mechanism: &CentralGaussian, updates: &[Vec<f32>]) -> IntegerSum {
        let mut sum = IntegerSum::new(updates[0].len());
        for update in updates {
            sum.add(&mechanism.quantizer().clip_and_quantize(update, Vec::new()).0)
                .unwrap();
        }
        sum
    }

    fn bytes(release: &Release) -> Vec<u8> {
        release
            .values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn the_event_is_that_of_the_noise() {
        let noise_multiplier = NoiseMultiplier::new(1.3).unwrap();
        let with = mechanism(2.0, 1.3, NoiseKind::Rounded, 10.0);
        assert_eq!(with.event(), DpEvent::Gaussian { noise_multiplier });
        assert_eq!(
            with.noise_std_dev_grid_units().to_bits(),
            (1.3 * f64::from(GRID_UNITS)).to_bits()
        );
        assert!((with.noise_std_dev() - 0.26).abs() < 1e-15);
        let without = CentralGaussian::dangerous_without_noise(clip_norm(2.0), 10.0).unwrap();
        assert_eq!(without.event(), DpEvent::NonPrivate);
        assert_eq!(
            (with.noise_multiplier(), without.noise_multiplier()),
            (Some(noise_multiplier), None)
        );
        assert!(without.noise_std_dev() <= 0.0 && without.noise_kind().is_none());
    }

    #[test]
    fn released_noise_has_the_stated_standard_deviation() {
        // Vanishing updates, seen from outside: variance by chi-square, mean and fourth moment by z, false-alarm rate 1e-6.
        let n = 200_000;
        let updates = vec![vec![1e-12; n], vec![0.0; n]];
        for (seed, (norm, z, divisor)) in (0..).zip([
            (1.0, 1.0, 100.0),
            (0.3, 0.05, 7.5),
            (1e-6, 40.0, 1.0),
            (1e6, 1e-6, 1e3),
        ]) {
            for kind in [NoiseKind::Rounded, NoiseKind::Continuous] {
                let mechanism = mechanism(norm, z, kind, divisor);
                let release = mechanism.release(sum_of(&mechanism, &updates), &noise(seed), 3, 2);
                let std_dev = z * norm / divisor;
                assert!((mechanism.noise_std_dev() / std_dev - 1.0).abs() < 1e-12);
                let scaled: Vec<f64> = release
                    .values
                    .iter()
                    .map(|&value| f64::from(value) / std_dev)
                    .collect();
                let (count, what) = (n as f64, format!("C {norm}, z {z}, divisor {divisor}, {kind:?}"));
                check_chi_square(scaled.iter().map(|x| x * x).sum(), count, &what);
                check_z(scaled.iter().sum::<f64>() / count.sqrt(), &what);
                check_z(
                    scaled.iter().map(|x| x.powi(4) - 3.0).sum::<f64>() / (96.0 * count).sqrt(),
                    &what,
                );
            }
        }
    }

    #[test]
    fn coordinates_and_rounds_have_independent_noise() {
        let n = 100_000;
        let mechanism = mechanism(1.0, 1.0, NoiseKind::Rounded, 1.0);
        let first = mechanism.release(IntegerSum::new(n), &noise(1), 0, 1).values;
        let second = mechanism.release(IntegerSum::new(n), &noise(1), 1, 1).values;
        let correlation = |left: &[f32], right: &[f32], what: &str| {
            let products = left.iter().zip(right).map(|(&x, &y)| f64::from(x) * f64::from(y));
            check_z(products.sum::<f64>() / (left.len() as f64).sqrt(), what);
        };
        correlation(&first, &second, "two rounds");
        correlation(&first[1..], &first[..n - 1], "neighbours");
        correlation(&first[BLOCK..], &first[..n - BLOCK], "blocks");
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bytes() {
        for kind in [NoiseKind::Rounded, NoiseKind::Continuous] {
            let mechanism = mechanism(1.0, 0.8, kind, 4.0);
            for dimension in [0, 1, BLOCK, BLOCK + 1, 7 * BLOCK - 1, 50_000] {
                let update: Vec<f32> = (0..dimension).map(|i| (i as f32).sin() * 1e-3).collect();
                let sum = sum_of(&mechanism, &[update]);
                let release = |n_threads| bytes(&mechanism.release(sum.clone(), &noise(5), 9, n_threads));
                let one = release(1);
                for n_threads in [0, 2, 3, 7, 100] {
                    assert_eq!(
                        one,
                        release(n_threads),
                        "{kind:?}, {dimension} coordinates, {n_threads} threads"
                    );
                }
                assert_eq!(one.len(), 4 * dimension);
            }
        }
    }

    #[test]
    fn the_divisor_is_constant_and_empty_rounds_release_noise() {
        let mechanism = CentralGaussian::dangerous_without_noise(clip_norm(1.0), 8.0).unwrap();
        for n_updates in 1..5 {
            let sum = sum_of(&mechanism, &vec![vec![0.5, -0.25]; n_updates]);
            let release = mechanism.release(sum, &noise(0), 0, 1);
            let n = n_updates as f32;
            assert!(
                (release.values[0] - n / 16.0).abs() < 1e-9 && (release.values[1] + n / 32.0).abs() < 1e-9
            );
        }
        let noisy = self::mechanism(1.0, 1.0, NoiseKind::Rounded, 8.0);
        let empty = noisy.release(IntegerSum::new(3), &noise(0), 0, 1);
        assert!(empty.values.iter().all(|&value| value != 0.0));
    }

    #[test]
    fn no_client_moves_the_sum_by_more_than_the_clip_norm() {
        // Sums with and without one client, the client as bad as it likes, compared in exact integers.
        let mechanism = mechanism(0.7, 1.0, NoiseKind::Rounded, 5.0);
        let others = [vec![0.3, -0.1, 0.2], vec![-0.5, 0.5, 0.0]];
        let without = sum_of(&mechanism, &others);
        let honest = [
            [0.7, 0.0, 0.0],
            [1e38, -1e38, 1e38],
            [0.1, 0.1, -0.1],
            [f32::NAN, 1.0, 1.0],
            [0.7, 0.7, 0.7],
        ];
        let honest = honest.map(|update| mechanism.quantizer().clip_and_quantize(&update, Vec::new()).0);
        let units = i32::try_from(GRID_UNITS).unwrap();
        let dishonest = [
            [units, 0, 0],
            [0, -units, 0],
            [units / 3 * 2, units / 3, units / 3 * 2 - 2],
            [units, 1, 0],
        ];
        let dishonest = dishonest.map(|values| mechanism.quantizer().accept(values.to_vec()));
        assert!(dishonest[3].is_err());
        for update in honest.into_iter().chain(dishonest.into_iter().flatten()) {
            let mut with = without.clone();
            with.add(&update).unwrap();
            let pairs = with.into_values().into_iter().zip(without.clone().into_values());
            let squared_distance: u128 = pairs
                .map(|(with, without)| u128::from(with.abs_diff(without)).pow(2))
                .sum();
            assert!(squared_distance <= u128::from(GRID_UNITS).pow(2));
        }
    }

    #[test]
    fn what_a_simulation_releases_never_changes() {
        let mechanism = mechanism(1.0, 1.0, NoiseKind::Rounded, 100.0);
        let release = mechanism.release(sum_of(&mechanism, &[vec![0.5, 0.0, -0.5]]), &noise(7), 1, 1);
        let bits: Vec<u32> = release.values.iter().map(|value| value.to_bits()).collect();
        assert_eq!(bits, [0xbc19_c372, 0xbc5e_b1f5, 0xbc49_250c]);
    }

    #[test]
    fn a_system_source_never_gives_the_same_noise_twice() {
        let mechanism = mechanism(1.0, 1.0, NoiseKind::Rounded, 1.0);
        let source = NoiseSource::from_system().unwrap();
        let release = || mechanism.release(IntegerSum::new(4), &source, 0, 1);
        let (first, second) = (release(), release());
        assert_eq!(first.provenance, Provenance::System);
        assert_ne!(first.values, second.values);
        assert_eq!(
            mechanism.release(IntegerSum::new(4), &noise(0), 0, 1).provenance,
            Provenance::Simulated
        );
    }

    #[test]
    fn released_values_are_finite() {
        for kind in [NoiseKind::Rounded, NoiseKind::Continuous] {
            let release = mechanism(1e300, 1e6, kind, 1.0).release(IntegerSum::new(100), &noise(0), 0, 1);
            assert!(release.values.iter().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn parameters_that_cannot_be_kept_are_refused() {
        let one = NoiseMultiplier::new(1.0).unwrap();
        for divisor in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = CentralGaussian::new(clip_norm(1.0), one, NoiseKind::Rounded, divisor).unwrap_err();
            assert!(matches!(error, MechanismError::Divisor { .. }));
            assert!(CentralGaussian::dangerous_without_noise(clip_norm(1.0), divisor).is_err());
        }
        for multiplier in [1e-13, 1e7] {
            let multiplier = NoiseMultiplier::new(multiplier).unwrap();
            let error =
                CentralGaussian::new(clip_norm(1.0), multiplier, NoiseKind::Rounded, 1.0).unwrap_err();
            assert!(matches!(error, MechanismError::NoiseMultiplier { .. }));
        }
        for (norm, divisor) in [(1e-300, 1e100), (1e300, 1e-300)] {
            let error = CentralGaussian::new(clip_norm(norm), one, NoiseKind::Rounded, divisor).unwrap_err();
            assert!(matches!(error, MechanismError::Scale { .. }));
        }
    }

    #[test]
    #[should_panic = "different clip norms"]
    fn a_sum_from_another_grid_is_not_released() {
        let sum = sum_of(&mechanism(1.0, 1.0, NoiseKind::Rounded, 1.0), &[vec![0.1]]);
        mechanism(2.0, 1.0, NoiseKind::Rounded, 1.0).release(sum, &noise(0), 0, 1);
    }

    #[test]
    fn what_sampling_adds_to_delta_is_far_below_any_delta() {
        let loss = mechanism(1.0, 1.0, NoiseKind::Rounded, 1.0).delta_loss(1_000_000_000, 1_000_000);
        assert!(loss > 0.0 && loss < 1e-70);
        assert!(mechanism(1.0, 1.0, NoiseKind::Continuous, 1.0).delta_loss(1, 1) <= 0.0);
    }
}
