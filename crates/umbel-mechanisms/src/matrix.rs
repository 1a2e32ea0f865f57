//! DP-FTRL: Gaussian noise that is correlated between rounds, on integer sums.

mod encoder;
mod inverse;

use umbel_accounting::matrix::{AmplifiedBanded, MatrixError, MatrixStrategy};
use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier, Sensitivity};
use zeroize::Zeroizing;

use self::encoder::{Encoder, FRACTION_BITS, on_grid};
pub use self::inverse::InverseError;
use self::inverse::StrategyInverse;
use crate::blocks::for_blocks;
use crate::central_gaussian::{MechanismError, NoiseKind, Release, scale, standard_normal};
use crate::quantize::{GRID_UNITS, Quantizer};
use crate::rounded_gaussian::RoundedGaussian;
use crate::source::NoiseSource;
use crate::sum::IntegerSum;
use crate::turns::Turns;

/// What a [`MatrixGaussian`] is made from.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "every setting must be given")]
pub struct MatrixPlan {
    /// Bound C on the norm of each contribution.
    pub clip_norm: ClipNorm,
    /// Standard deviation of the independent draws, before they are correlated, over C.
    pub noise_multiplier: NoiseMultiplier,
    /// How they are drawn.
    pub noise: NoiseKind,
    /// The planned cohort: public, never the number of reports.
    pub divisor: f64,
    /// Number of coordinates.
    pub dimension: usize,
    /// The strategy C. Its coefficients are rounded down to multiples of 2^-40; a tree must be a single binary one.
    pub strategy: MatrixStrategy,
    /// Rounds that are paid for.
    pub rounds: u64,
    /// Who may take part when.
    pub turns: Turns,
    /// Whether the coins of who takes a turn are secret, so that the cost is less. For banded strategies only, with at most as
    /// many bands as groups, and every turn given.
    pub amplified: bool,
}

/// A run of DP-FTRL (Kairouz et al. 2021, arXiv 2103.00039; Denisov et al. 2022, arXiv 2202.08312; Choquette-Choo et al. 2023,
/// arXiv 2306.08153; McMahan et al. 2024, arXiv 2408.08868), for when nobody can vouch for secret sampling.
///
/// # Privacy
///
/// The whole run costs exactly [`event`](Self::event), however many of its rounds are run, in any dimension and though
/// contributions depend on earlier releases. All that the sums have an influence on are integers:
///
/// 1. **Contributions.** As in [`CentralGaussian`](crate::CentralGaussian), whatever a client reports is a vector of integers
///    with `Σ vᵢ² ≤ 2^60`, and nothing else that it reports counts. [`Turns`] lets it take part in rounds that are b apart and
///    at most k in number, whatever anybody reports.
/// 2. **Encoding.** With the exact sums x₁ … x_t the encoder computes `E_t = (C X)_t · 2^8` in integers, where the coefficients
///    of C are multiples of 2^-40, rounding down. One unit moves C X by at most s · 2^30 in Frobenius norm, s being the
///    strategy's sensitivity under (b, k). Rounding moves the difference of two neighbours' E by less than R in each coordinate of
///    each round, R computed for the recursion that is run, and by nothing before the unit has taken part. So E moves by at most
///    `s · 2^38 + R · √(rounds · coordinates)`, which is the sensitivity that the event states, in units of 2^38: more than s by a
///    part in millions.
/// 3. **Noise.** Each encoded number gets an independent `floor(N + ½)`, `N ~ N(0, (z · 2^38)²)`, by the exact sampler. E is an
///    integer, so the result `M_t = E_t + floor(N + ½) = floor(E_t + N + ½)` is post-processing of the real Gaussian
///    mechanism. E_t is a function of the transcript and the contributions up to t; the squared moves add up to at most the
///    square of the sensitivity on every transcript, so the whole is Gaussian-DP with μ = sensitivity / z (Denisov et al. 2022,
///    Theorem 2.1; the filter of Smith and Thakurta 2022, arXiv 2210.17520, says the same of adaptive moves).
/// 4. **Decoding.** What is released, `(C⁻¹ M)_t`, is computed from M₁ … M_t alone, so it is post-processing and may be done in
///    floating point. It equals x_t plus the correlated noise `(C⁻¹ Z)_t`.
///
/// **Amplified**, each group's turns are rows of C that no other turn of the group touches, as there are at most b bands; each is
/// a Gaussian of its own, joined with a secret probability (Choquette-Choo et al. 2023, Theorem 1). Subsampling is monotone in what
/// is sampled, so the roundings enter as above, in the norm of a column.
///
/// Under add-or-remove it must not depend on the unit when others take part; it does not ([`Turns`]).
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixGaussian {
    plan: MatrixPlan,
    quantizer: Quantizer,
    event: DpEvent,
    /// In units of the clip norm, roundings included.
    sensitivity: f64,
    /// What of it is roundings.
    slack: f64,
    sampler: RoundedGaussian,
    scale: f64,
    /// The last round's noise and that of all rounds' sum, in units of the draws' standard deviation.
    last: (f64, f64),
}

/// What a [`MatrixGaussian`] keeps between two rounds: exact sums, as secret as the updates, and what was released.
pub(crate) struct MatrixState {
    encoder: Encoder,
    inverse: StrategyInverse,
}

/// Encoded units of the clip norm.
const ENCODED_UNITS: f64 = (GRID_UNITS as f64) * (1_u32 << FRACTION_BITS) as f64;

impl MatrixGaussian {
    /// Computes sensitivity and event; an error where that is impossible.
    pub fn new(plan: MatrixPlan) -> Result<Self, MechanismError> {
        let strategy = on_grid(&plan.strategy).map_err(|_| MechanismError::Strategy)?;
        let plan = MatrixPlan { strategy, ..plan };
        let scale = scale(plan.clip_norm, f64::from(GRID_UNITS), plan.divisor)?;
        let rounds = usize::try_from(plan.rounds).map_err(|_| MechanismError::Strategy)?;
        let encoder = Encoder::new(&plan.strategy).map_err(|_| MechanismError::Strategy)?;
        let cells = plan.dimension as f64 * rounds as f64;
        // Rounded up by far more than its computation can have rounded down.
        let slack = encoder.most_rounding(rounds) * cells.sqrt() / ENCODED_UNITS * (1.0 + 1e-6);
        let exact = plan.strategy.sensitivity(rounds, &plan.turns.participation()?)?;
        let sensitivity = (exact.value + slack) * (1.0 + f64::EPSILON);
        let (sampler, event) = noise_and_event(&plan, sensitivity, slack)?;
        Ok(Self {
            quantizer: Quantizer::new(plan.clip_norm),
            event,
            sensitivity,
            slack,
            sampler,
            scale,
            last: noise_std_devs(&plan.strategy, plan.rounds).map_err(|_| MechanismError::Strategy)?,
            plan,
        })
    }

    /// The same run with another noise multiplier.
    pub fn with_noise_multiplier(&self, noise_multiplier: NoiseMultiplier) -> Result<Self, MechanismError> {
        let plan = MatrixPlan {
            noise_multiplier,
            ..self.plan.clone()
        };
        let (sampler, event) = noise_and_event(&plan, self.sensitivity, self.slack)?;
        Ok(Self {
            plan,
            sampler,
            event,
            ..self.clone()
        })
    }

    /// What the whole run costs.
    pub fn event(&self) -> &DpEvent {
        &self.event
    }

    /// The settings, with the strategy as it is run.
    pub fn plan(&self) -> &MatrixPlan {
        &self.plan
    }

    /// Makes updates fit for the sum.
    pub fn quantizer(&self) -> &Quantizer {
        &self.quantizer
    }

    /// How far one unit moves the encoded sums, in units of the clip norm, roundings included.
    pub fn sensitivity(&self) -> f64 {
        self.sensitivity
    }

    /// Standard deviation of the independent draws, in grid units of the sum: z · 2^30.
    pub fn noise_std_dev_grid_units(&self) -> f64 {
        self.plan.noise_multiplier.value() * f64::from(GRID_UNITS)
    }

    /// Standard deviations of the noise on one coordinate of the released means, in their units: of the last round's release,
    /// and of the sum of all releases. Rounding is not counted.
    pub fn noise_std_devs(&self) -> (f64, f64) {
        let unit = self.noise_std_dev_grid_units() * self.scale;
        (unit * self.last.0, unit * self.last.1)
    }

    /// Bound on what must be added to δ because draws are not exactly of their law; see
    /// [`CentralGaussian::delta_loss`](crate::CentralGaussian::delta_loss).
    pub fn delta_loss(&self) -> f64 {
        match self.plan.noise {
            NoiseKind::Rounded => {
                RoundedGaussian::TOTAL_VARIATION
                    * 1e131
                    * self.plan.dimension as f64
                    * self.plan.rounds as f64
            }
            NoiseKind::Continuous => 0.0,
        }
    }

    pub(crate) fn begin(&self) -> Result<MatrixState, InverseError> {
        let rounds = usize::try_from(self.plan.rounds).map_err(|_| InverseError::Strategy)?;
        Ok(MatrixState {
            encoder: Encoder::new(&self.plan.strategy)?,
            inverse: StrategyInverse::new(&self.plan.strategy, rounds, self.plan.dimension)?,
        })
    }

    /// Adds the noise of the next round. An error once all rounds that are paid for have been released.
    pub(crate) fn release(
        &self,
        state: &mut MatrixState,
        sum: IntegerSum,
        noise: &NoiseSource,
        round: u64,
        n_threads: usize,
    ) -> Result<Release, InverseError> {
        assert!(
            sum.is_on_grid_of(self.plan.clip_norm) && sum.dimension() == self.plan.dimension,
            "the sum belongs to another mechanism"
        );
        let done = state.inverse.n_rounds();
        if done >= self.plan.rounds {
            return Err(InverseError::RunOver {
                expected: self.plan.rounds,
            });
        }
        let mut encoded = state.encoder.next_round(done, &Zeroizing::new(sum.into_values()));
        let streams = noise.release_streams(round);
        let mut noised = vec![0.0_f64; encoded.len()];
        for_blocks(&mut encoded, &mut noised, n_threads, |block, encoded, noised| {
            let mut stream = streams.block(block);
            for (noised, encoded) in noised.iter_mut().zip(encoded) {
                *noised = match self.plan.noise {
                    NoiseKind::Rounded => (*encoded + i128::from(self.sampler.sample(&mut stream))) as f64,
                    NoiseKind::Continuous => {
                        *encoded as f64 + self.sampler.std_dev() * standard_normal(&mut stream)
                    }
                };
            }
        });
        // From here on everything is computed from noised numbers only.
        let mut decoded = vec![0.0_f64; noised.len()];
        state.inverse.next_round(&noised, &mut decoded)?;
        let unit = self.scale / f64::from(1_u32 << FRACTION_BITS);
        Ok(Release {
            values: decoded.iter().map(|value| to_single(value * unit)).collect(),
            event: self.event.clone(),
            provenance: noise.provenance(),
            share_within: None,
        })
    }
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding a released value is post-processing"
)]
fn to_single(value: f64) -> f32 {
    (value as f32).clamp(f32::MIN, f32::MAX)
}

/// Standard deviations of C⁻¹ Z in round `round`, and of its sum over all rounds up to it, for Z of standard deviation 1.
fn noise_std_devs(strategy: &MatrixStrategy, round: u64) -> Result<(f64, f64), InverseError> {
    if let MatrixStrategy::Tree(_) = strategy {
        // The round's node less the nodes that it replaces; the sum is that of the nodes named by the round's binary digits.
        let (of_round, of_sum) = (1 + round.trailing_zeros(), round.count_ones());
        return Ok((f64::from(of_round).sqrt(), f64::from(of_sum).sqrt()));
    }
    let rounds = usize::try_from(round).map_err(|_| InverseError::Strategy)?;
    let mut response = StrategyInverse::new(strategy, rounds, 1)?;
    let (mut of_round, mut of_sum, mut sum) = (0.0, 0.0, 0.0);
    for place in 0..rounds {
        let mut noise = [0.0];
        response.next_round(&[if place == 0 { 1.0 } else { 0.0 }], &mut noise)?;
        sum += noise[0];
        of_round += noise[0] * noise[0];
        of_sum += sum * sum;
    }
    Ok((f64::sqrt(of_round), f64::sqrt(of_sum)))
}

/// What draws the noise, and what the run costs with it.
fn noise_and_event(
    plan: &MatrixPlan,
    sensitivity: f64,
    slack: f64,
) -> Result<(RoundedGaussian, DpEvent), MechanismError> {
    let noise_multiplier = plan.noise_multiplier;
    // A product with a power of two is exact, so the noise is neither smaller nor larger than what is charged.
    let sampler = RoundedGaussian::new(noise_multiplier.value() * ENCODED_UNITS).map_err(|reason| {
        MechanismError::NoiseMultiplier {
            noise_multiplier,
            reason,
        }
    })?;
    let event = if plan.amplified {
        amplified_event(plan, slack)?
    } else {
        let sensitivity = Sensitivity::new(sensitivity).map_err(|_| MechanismError::Strategy)?;
        DpEvent::MatrixMechanism {
            noise_multiplier,
            sensitivity,
        }
    };
    Ok((sampler, event))
}

/// The cost with secret coins.
fn amplified_event(plan: &MatrixPlan, slack: f64) -> Result<DpEvent, MechanismError> {
    let refuse = |expected: &str| MatrixError::OutOfRange {
        name: "amplification",
        expected: expected.to_owned(),
        got: "another plan".to_owned(),
    };
    let MatrixStrategy::Toeplitz(strategy) = &plan.strategy else {
        return Err(refuse("used with a banded strategy").into());
    };
    if !plan.turns.gives_every_turn() {
        return Err(refuse("used with every turn given to every client").into());
    }
    let groups = usize::try_from(plan.turns.separation()).map_err(|_| MechanismError::Strategy)?;
    let rounds = usize::try_from(plan.rounds).map_err(|_| MechanismError::Strategy)?;
    let banded = AmplifiedBanded::new(strategy.clone(), groups)?;
    // Noise of z against a column that is longer by the roundings is less noise against the column as it is.
    let column = strategy.coefficients().iter().map(|c| c * c).sum::<f64>().sqrt();
    let effective = plan.noise_multiplier.value() * (1.0 - slack / column) * (1.0 - f64::EPSILON * 4.0);
    let effective = NoiseMultiplier::new(effective).map_err(|_| MechanismError::Strategy)?;
    Ok(banded.plan(rounds, effective, plan.turns.rate(), 1)?.event)
}

/// The first bytes of a stored state.
const MAGIC: &[u8; 8] = b"umbelmm1";

impl MatrixState {
    /// Everything kept, for a checkpoint. **Nothing protects the clients in it.** Little endian: magic, number of sums kept, the
    /// sums as `i128`, then the inverse's state.
    pub(crate) fn to_unprotected_bytes(&self) -> Zeroizing<Vec<u8>> {
        let inverse = self.inverse.encode();
        let n_sums: usize = self.encoder.rows().iter().map(|row| row.len()).sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAGIC.len() + 8 + 16 * n_sums + inverse.len()));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(n_sums as u64).to_le_bytes());
        for sum in self.encoder.rows().iter().flat_map(|row| row.iter()) {
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        bytes.extend_from_slice(&inverse);
        bytes
    }

    /// Reads what [`to_unprotected_bytes`](Self::to_unprotected_bytes) wrote for the same mechanism, and refuses what it cannot
    /// have written.
    pub(crate) fn from_unprotected_bytes(
        mechanism: &MatrixGaussian,
        bytes: &[u8],
    ) -> Result<Self, InverseError> {
        let fault = |expected: &str, got: String| InverseError::State {
            expected: expected.to_owned(),
            got,
        };
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| fault("the state of a matrix mechanism", "other bytes".to_owned()))?;
        let (n_sums, rest) = rest
            .split_first_chunk::<8>()
            .ok_or_else(|| fault("a number of sums", "the end".to_owned()))?;
        let n_bytes = usize::try_from(u64::from_le_bytes(*n_sums))
            .ok()
            .and_then(|n| n.checked_mul(16));
        let (sums, inverse) = n_bytes
            .and_then(|n_bytes| rest.split_at_checked(n_bytes))
            .ok_or_else(|| fault("as many sums as are announced", format!("{} bytes", rest.len())))?;
        let begun = mechanism.begin()?;
        let inverse = StrategyInverse::decode(inverse)?;
        if !inverse.is_of(&begun.inverse) {
            return Err(fault(
                "the state of this run's mechanism",
                "that of another".to_owned(),
            ));
        }
        let (sums, _) = sums.as_chunks::<16>();
        let dimension = mechanism.plan.dimension;
        let n_rows = begun.encoder.n_rows(inverse.n_rounds());
        if sums.len() != n_rows * dimension {
            return Err(fault(
                &format!("{n_rows} rows of {dimension} sums"),
                format!("{} sums", sums.len()),
            ));
        }
        let rows = (0..n_rows).map(|row| {
            let row = &sums[row * dimension..(row + 1) * dimension];
            Zeroizing::new(row.iter().map(|sum| i128::from_le_bytes(*sum)).collect())
        });
        Ok(Self {
            encoder: begun.encoder.with_rows(rows.collect()),
            inverse,
        })
    }

    pub(crate) fn n_rounds(&self) -> u64 {
        self.inverse.n_rounds()
    }
}

#[cfg(test)]
mod tests {
    use umbel_accounting::matrix::{
        ErrorMetric, ToeplitzStrategy, TreeEstimator, TreeStrategy, optimize_banded, optimize_buffered,
    };

    use super::*;
    use crate::source::SimulationSeed;
    use crate::statistics::{check_chi_square, check_z};

    const ROUNDS: u64 = 24;

    fn turns(separation: u64) -> Turns {
        Turns::new(separation, None, ROUNDS, 4.0, 100).unwrap()
    }

    fn strategies() -> Vec<MatrixStrategy> {
        let participation = turns(6).participation().unwrap();
        let rounds = usize::try_from(ROUNDS).unwrap();
        let metric = ErrorMetric::RootMeanSquare;
        vec![
            MatrixStrategy::Buffered(
                optimize_buffered(rounds, 2, &participation, metric)
                    .unwrap()
                    .strategy,
            ),
            MatrixStrategy::Toeplitz(
                optimize_banded(rounds, 5, &participation, metric)
                    .unwrap()
                    .strategy,
            ),
            MatrixStrategy::Toeplitz(ToeplitzStrategy::square_root(rounds).unwrap()),
            MatrixStrategy::Tree(TreeStrategy::new(TreeEstimator::Binary)),
        ]
    }

    fn plan(strategy: MatrixStrategy, dimension: usize) -> MatrixPlan {
        MatrixPlan {
            clip_norm: ClipNorm::new(2.0).unwrap(),
            noise_multiplier: NoiseMultiplier::new(3.0).unwrap(),
            noise: NoiseKind::Rounded,
            divisor: 4.0,
            dimension,
            strategy,
            rounds: ROUNDS,
            turns: turns(6),
            amplified: false,
        }
    }

    fn noise(seed: u64) -> NoiseSource {
        NoiseSource::simulated(SimulationSeed::new(seed))
    }

    fn sum_of(mechanism: &MatrixGaussian, updates: &[Vec<f32>]) -> IntegerSum {
        let mut sum = IntegerSum::new(mechanism.plan().dimension);
        for update in updates {
            sum.add(&mechanism.quantizer().clip_and_quantize(update, Vec::new()).0)
                .unwrap();
        }
        sum
    }

    /// Releases of all rounds, with the same update each round.
    fn releases(mechanism: &MatrixGaussian, update: &[f32], seed: u64) -> Vec<Vec<f32>> {
        let mut state = mechanism.begin().unwrap();
        (1..=ROUNDS)
            .map(|round| {
                let sum = sum_of(mechanism, &[update.to_vec()]);
                mechanism
                    .release(&mut state, sum, &noise(seed), round, 2)
                    .unwrap()
                    .values
            })
            .collect()
    }

    /// C⁻¹ by impulses.
    fn inverse_rows(strategy: &MatrixStrategy) -> Vec<Vec<f64>> {
        let rounds = usize::try_from(ROUNDS).unwrap();
        let mut inverse = StrategyInverse::new(strategy, rounds, rounds).unwrap();
        (0..rounds)
            .map(|row| {
                let draws: Vec<f64> = (0..rounds)
                    .map(|place| if place == row { 1.0 } else { 0.0 })
                    .collect();
                let mut noise = vec![0.0; rounds];
                inverse.next_round(&draws, &mut noise).unwrap();
                noise
            })
            .collect()
    }

    /// False-alarm rate 1e-6 for each check.
    #[test]
    fn released_noise_has_the_covariance_of_the_event() {
        let dimension = 6_000;
        for strategy in strategies() {
            let mechanism = MatrixGaussian::new(plan(strategy, dimension)).unwrap();
            let unit = 3.0 * 2.0 / 4.0;
            let found = releases(&mechanism, &vec![0.0; dimension], 1);
            let rows = inverse_rows(&mechanism.plan().strategy);
            let n = f64::from(u32::try_from(dimension).unwrap());
            for (t, row) in rows.iter().enumerate() {
                // Variance of each round, and covariance with the first and the round before.
                let variance = |row: &[f64]| row.iter().map(|c| c * c).sum::<f64>();
                let values: Vec<f64> = found[t].iter().map(|value| f64::from(*value) / unit).collect();
                let own = variance(row);
                let chi_square = values.iter().map(|value| value * value).sum::<f64>() / own;
                check_chi_square(
                    chi_square,
                    n,
                    &format!("{:?}, round {t}", mechanism.plan().strategy),
                );
                for other in [0, t.saturating_sub(1)].into_iter().filter(|&other| other != t) {
                    let expected: f64 = row.iter().zip(&rows[other]).map(|(a, b)| a * b).sum();
                    let product: f64 = values
                        .iter()
                        .zip(&found[other])
                        .map(|(a, b)| a * f64::from(*b) / unit)
                        .sum::<f64>()
                        / n;
                    let spread = ((own * variance(&rows[other]) + expected * expected) / n).sqrt();
                    check_z((product - expected) / spread, &format!("rounds {t} and {other}"));
                }
                let (of_round, _) = noise_std_devs(&mechanism.plan().strategy, t as u64 + 1).unwrap();
                assert!((of_round / own.sqrt() - 1.0).abs() < 1e-9);
            }
            let prefix: Vec<f64> = (0..rows.len())
                .map(|place| rows.iter().map(|row| row[place]).sum())
                .collect();
            let (_, of_sum) = mechanism.noise_std_devs();
            let expected = unit * prefix.iter().map(|c| c * c).sum::<f64>().sqrt();
            assert!((of_sum / expected - 1.0).abs() < 1e-9, "{of_sum} {expected}");
        }
    }

    #[test]
    fn the_same_noise_lies_on_whatever_is_summed() {
        for strategy in strategies() {
            let mechanism = MatrixGaussian::new(plan(strategy, 5)).unwrap();
            let update = [0.5, -0.25, 0.125, 1.0, 0.0];
            let with = releases(&mechanism, &update, 2);
            let without = releases(&mechanism, &[0.0; 5], 2);
            for (with, without) in with.iter().zip(&without) {
                for ((with, without), value) in with.iter().zip(without).zip(update) {
                    // Floating point, and one encoded unit.
                    assert!(
                        (with - without - value / 4.0).abs() < 1e-5,
                        "{with} {without} {value}"
                    );
                }
            }
        }
    }

    /// The difference of two neighbours' encoded numbers, in exact integers, against what is charged.
    #[test]
    fn no_unit_moves_the_encoded_sums_by_more_than_the_event_says() {
        let mut numbers = 7_u64;
        let mut draw = || {
            numbers = numbers
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (numbers >> 33) as f32 / 2.0_f32.powi(31) - 0.5
        };
        for strategy in strategies() {
            for dimension in [1, 40] {
                let mechanism = MatrixGaussian::new(plan(strategy.clone(), dimension)).unwrap();
                let mut vector = |size: f32| -> Vec<f32> { (0..dimension).map(|_| draw() * size).collect() };
                // Once always in the same direction, which is the worst for these strategies, once anyhow.
                let fixed = vector(1e9);
                for aligned in [true, false] {
                    let mut encoders = [
                        mechanism.begin().unwrap().encoder,
                        mechanism.begin().unwrap().encoder,
                    ];
                    let mut square = 0.0_f64;
                    for round in 0..ROUNDS {
                        let others = vector(1.0);
                        let own = if aligned { fixed.clone() } else { vector(1e9) };
                        let mut cohorts = [vec![others.clone()], vec![others]];
                        if round % 6 == 0 {
                            cohorts[1].push(own);
                        }
                        let [one, two] = [0, 1].map(|world| {
                            encoders[world]
                                .next_round(round, &sum_of(&mechanism, &cohorts[world]).into_values())
                        });
                        square += one
                            .iter()
                            .zip(two.iter())
                            .map(|(one, two)| ((one - two) as f64 / ENCODED_UNITS).powi(2))
                            .sum::<f64>();
                    }
                    let moved = square.sqrt();
                    let charged = mechanism.sensitivity();
                    assert!(moved <= charged, "{moved} {charged}");
                    assert!(
                        !aligned || moved > charged * 0.999,
                        "the bound is reached: {moved} {charged}"
                    );
                }
                let DpEvent::MatrixMechanism {
                    noise_multiplier,
                    sensitivity,
                } = mechanism.event()
                else {
                    panic!()
                };
                assert_eq!(
                    (noise_multiplier.value(), sensitivity.value()),
                    (3.0, mechanism.sensitivity())
                );
            }
        }
    }

    #[test]
    fn a_stored_state_goes_on_with_the_same_bytes_and_no_other_is_taken() {
        for strategy in strategies() {
            let mechanism = MatrixGaussian::new(plan(strategy, 3)).unwrap();
            let whole = releases(&mechanism, &[1.0, 0.0, -1.0], 5);
            for cut in [0, 1, 4, 23] {
                let mut state = mechanism.begin().unwrap();
                for round in 1..=cut {
                    let sum = sum_of(&mechanism, &[vec![1.0, 0.0, -1.0]]);
                    mechanism.release(&mut state, sum, &noise(5), round, 1).unwrap();
                }
                let bytes = state.to_unprotected_bytes();
                let mut state = MatrixState::from_unprotected_bytes(&mechanism, &bytes).unwrap();
                for round in cut + 1..=ROUNDS {
                    let sum = sum_of(&mechanism, &[vec![1.0, 0.0, -1.0]]);
                    let values = mechanism
                        .release(&mut state, sum, &noise(5), round, 1)
                        .unwrap()
                        .values;
                    assert_eq!(values, whole[usize::try_from(round).unwrap() - 1]);
                }
                // The run is paid for so many rounds and no more.
                let error = mechanism
                    .release(&mut state, IntegerSum::new(3), &noise(5), 25, 1)
                    .unwrap_err();
                assert!(error.to_string().contains("over after 24 rounds"), "{error}");
                for length in 0..bytes.len() {
                    assert!(MatrixState::from_unprotected_bytes(&mechanism, &bytes[..length]).is_err());
                }
                let other = MatrixGaussian::new(plan(
                    MatrixStrategy::Toeplitz(ToeplitzStrategy::new(vec![1.0, 0.5]).unwrap()),
                    3,
                ))
                .unwrap();
                assert!(MatrixState::from_unprotected_bytes(&other, &bytes).is_err());
            }
        }
    }

    #[test]
    fn amplification_asks_for_bands_within_the_groups_and_every_turn() {
        let banded = strategies().remove(1);
        let amplified = |strategy, turns| {
            MatrixGaussian::new(MatrixPlan {
                amplified: true,
                turns,
                ..plan(strategy, 3)
            })
        };
        let event = amplified(banded.clone(), turns(6)).unwrap().event().clone();
        let DpEvent::Repeated { event, count: 4 } = &event else {
            panic!("{event:?}")
        };
        let DpEvent::PoissonSampled { sampling_rate, event } = &**event else {
            panic!("{event:?}")
        };
        assert_eq!(*sampling_rate, turns(6).rate());
        let DpEvent::Gaussian { noise_multiplier } = &**event else {
            panic!("{event:?}")
        };
        // Columns have norm 1, and roundings cost a little.
        assert!(noise_multiplier.value() < 3.0 && noise_multiplier.value() > 3.0 * (1.0 - 1e-6));
        assert!(amplified(banded.clone(), turns(4)).is_err(), "5 bands, 4 groups");
        assert!(amplified(banded, Turns::new(6, Some(2), ROUNDS, 4.0, 100).unwrap()).is_err());
        assert!(amplified(strategies().remove(0), turns(6)).is_err());
    }
}
