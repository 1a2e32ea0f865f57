//! Noise from the clients themselves: the distributed discrete Gaussian mechanism.

use sha2::{Digest, Sha256};
use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier, Rho};

use super::rotation::Rotation;
use crate::clip::{ClipOutcome, clip_l2};
use crate::discrete_gaussian::DiscreteGaussian;
use crate::rounding::{GridRounding, GridRoundingError, RoundingKind};
use crate::source::{NoiseSource, RandomStream, RoundingSource};

/// The public settings from which everything follows. Clients recompute it all; no derived number is ever sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DistributedTerms {
    /// Bound C on the L2 norm of a client's update.
    pub clip_norm: ClipNorm,
    /// z: standard deviation of the noise that the fewest honest survivors add together, over C.
    pub noise_multiplier: NoiseMultiplier,
    /// Number of coordinates, at least 1.
    pub dimension: usize,
    /// The public number that sums are divided by, above 0.
    pub divisor: f64,
    /// The most clients in a sum.
    pub clients_max: u32,
    /// The fewest clients in a sum: below it clients open nothing.
    pub survivors_min: u32,
    /// The most of them that add no noise because they collude with the server.
    pub colluding: u32,
    /// b: sums are modulo 2^b, 8 to 32.
    pub modulus_bits: u32,
    /// The most rounds in which one client takes part, at least 1; it enforces that by itself.
    pub most_participations: u64,
}

/// Why there is no such mechanism.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DistributedError {
    /// Somebody honest must survive.
    #[error(
        "of {survivors_min} survivors {colluding} may collude: at least one must be honest, of at most {clients_max} clients"
    )]
    NobodyHonest {
        /// The fewest survivors.
        survivors_min: u32,
        /// The most colluding.
        colluding: u32,
        /// The most clients.
        clients_max: u32,
    },
    /// A number is out of its range.
    #[error("`{term}` must be {expected}, got {got}")]
    Term {
        /// Which.
        term: &'static str,
        /// Its range.
        expected: &'static str,
        /// The value that came.
        got: f64,
    },
    /// The modulus leaves no room for sum and noise on a useful grid.
    #[error(
        "sums of {clients_max} clients with this noise need more than {modulus_bits} bits: the clip norm would be {grid_units:.1} grid \
         units, and the noise of one client must be at least one half"
    )]
    TooFewBits {
        /// The most clients.
        clients_max: u32,
        /// The bits that were given.
        modulus_bits: u32,
        /// The clip norm in grid units that they allow.
        grid_units: f64,
    },
    /// The grid cannot be rounded to.
    #[error(transparent)]
    Rounding(#[from] GridRoundingError),
}

/// Each client clips, rotates, rounds to a grid and adds its share of the noise; only the sum modulo 2^b is learnt (Kairouz, Liu and
/// Steinke 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation").
///
/// # Privacy
///
/// [`event`](Self::event) is the cost of one release against everybody who sees the sum, the server included, under
/// replace-by-zero of one client:
///
/// 1. **Sensitivity.** A contribution before noise is an integer vector with `‖v‖₂² ≤ D₂²`, checked in exact integers
///    ([`GridRounding`]), whatever the update, the rotation or the coins of rounding were. D₂ is a little more than the clip norm in grid
///    units: what rounding may add is in the charge. Replacing it by zero moves the sum by at most D₂.
/// 2. **Noise.** Each client adds `N_Z(0, σ²)` to each coordinate, σ² = (z·c)² / h with c the clip norm in grid units and
///    h = `survivors_min − colluding`: at least h honest shares are in any sum that is opened. What more survivors add is not
///    counted.
/// 3. **Cost.** The sum of m discrete Gaussians is not one, but close: with τ = 10·Σ_{k<m} exp(−2π²σ²k/(k+1)) it is ½ε²-zCDP for
///    ε = D₂/(√m·σ) + τ·√d (their theorem 1, σ ≥ ½). The first term is taken at the fewest honest survivors, the second at the
///    most clients, so the bound holds for whatever number survives.
/// 4. **Post-processing.** Reduction modulo 2^b, wrap-around included, rotation back, division.
///
/// The target's own noise counts, since under replace-by-zero the client adds it in both worlds. A client that adds no noise is one
/// of the colluding. How many survive, and who, is public in this relation.
///
/// # Accuracy
///
/// The grid is the finest for which the sum leaves [−2^(b−1), 2^(b−1)) with a chance of at most 2^-20 over rotation and noise, for any
/// updates that do not depend on this round's rotation: a coordinate of the rotated sum is sub-Gaussian with proxy (n·c)²/2^m
/// (`Rotation`), the noise with n·σ², and rounding moves each summand by less than one.
#[derive(Debug, Clone, PartialEq)]
pub struct DistributedGaussian {
    terms: DistributedTerms,
    rounding: GridRounding,
    share: DiscreteGaussianShare,
    rotation: Rotation,
    rho: Rho,
}

/// A sampler, compared by its parameter.
#[derive(Debug, Clone)]
struct DiscreteGaussianShare(DiscreteGaussian);

impl PartialEq for DiscreteGaussianShare {
    fn eq(&self, other: &Self) -> bool {
        self.0.std_dev().to_bits() == other.0.std_dev().to_bits()
    }
}

/// Coordinates that share a stream of noise. Part of what a simulation reproduces, therefore never changed.
const BLOCK: usize = 4_096;

/// A wrap-around has a chance of at most this, as a power of two.
const WRAP_BITS: f64 = 20.0;

/// The finest grid: the clip norm is at most this many units.
const MOST_GRID_UNITS: f64 = 16_777_216.0;

impl DistributedGaussian {
    /// The mechanism with these terms.
    pub fn new(terms: DistributedTerms) -> Result<Self, DistributedError> {
        let refuse = |term, expected, got| Err(DistributedError::Term { term, expected, got });
        if terms.dimension == 0 || terms.dimension > 1 << 30 {
            return refuse("dimension", "between 1 and 2^30", terms.dimension as f64);
        }
        if !(terms.divisor.is_finite() && terms.divisor > 0.0) {
            return refuse("divisor", "a finite number above 0", terms.divisor);
        }
        if !(8..=32).contains(&terms.modulus_bits) {
            return refuse("modulus_bits", "between 8 and 32", terms.modulus_bits.into());
        }
        let honest = terms.survivors_min.saturating_sub(terms.colluding);
        if honest == 0 || terms.survivors_min > terms.clients_max {
            let DistributedTerms {
                survivors_min,
                colluding,
                clients_max,
                ..
            } = terms;
            return Err(DistributedError::NobodyHonest {
                survivors_min,
                colluding,
                clients_max,
            });
        }
        let rotation = Rotation::new(terms.dimension);
        let honest = f64::from(honest);
        let grid_units = grid_units(&terms, rotation.stretch() as f64, honest);
        let too_few = DistributedError::TooFewBits {
            clients_max: terms.clients_max,
            modulus_bits: terms.modulus_bits,
            grid_units,
        };
        if grid_units.is_nan() || grid_units < 1.0 {
            return Err(too_few);
        }
        // Rounded up, so that honest shares reach z·c together.
        let std_dev = terms.noise_multiplier.value() * grid_units / honest.sqrt() * (1.0 + 1e-12);
        if std_dev.is_nan() || std_dev < 0.5 {
            return Err(too_few);
        }
        let Ok(share) = DiscreteGaussian::new(std_dev) else {
            return refuse(
                "noise_multiplier",
                "small enough to be drawn",
                terms.noise_multiplier.value(),
            );
        };
        let grid_unit = terms.clip_norm.value() / grid_units;
        let rounding = GridRounding::new(
            RoundingKind::Conditional,
            terms.clip_norm,
            grid_unit,
            terms.dimension,
        )?;
        let Some(rho) = rho(&terms, &rounding, std_dev, honest) else {
            return refuse(
                "noise_multiplier",
                "large enough for a finite cost",
                terms.noise_multiplier.value(),
            );
        };
        Ok(Self {
            terms,
            rounding,
            share: DiscreteGaussianShare(share),
            rotation,
            rho,
        })
    }

    /// The settings.
    pub fn terms(&self) -> &DistributedTerms {
        &self.terms
    }

    /// What one release costs.
    pub fn event(&self) -> DpEvent {
        DpEvent::ZeroConcentrated { rho: self.rho }
    }

    /// What one release costs if of `survivors` clients in the sum no more than the promised number collude: what is charged is
    /// [`event`](Self::event), the cost at the fewest.
    pub fn event_with(&self, survivors: u32) -> DpEvent {
        let honest = survivors.max(self.terms.survivors_min) - self.terms.colluding;
        let rho = rho(
            &self.terms,
            &self.rounding,
            self.share.0.std_dev(),
            f64::from(honest),
        );
        DpEvent::ZeroConcentrated {
            rho: rho.unwrap_or(self.rho),
        }
    }

    /// What stands for these settings in a round's terms: clients with other settings refuse.
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"umbel distributed gaussian 2\0");
        hash.update(self.terms.clip_norm.value().to_bits().to_le_bytes());
        hash.update(self.terms.noise_multiplier.value().to_bits().to_le_bytes());
        hash.update((self.terms.dimension as u64).to_le_bytes());
        hash.update(self.terms.divisor.to_bits().to_le_bytes());
        hash.update(self.terms.most_participations.to_le_bytes());
        for count in [
            self.terms.clients_max,
            self.terms.survivors_min,
            self.terms.colluding,
            self.terms.modulus_bits,
        ] {
            hash.update(count.to_le_bytes());
        }
        hash.finalize().into()
    }

    /// Variance of the noise of one client on one integer, in squared grid units.
    pub fn share_variance(&self) -> f64 {
        self.share.0.std_dev() * self.share.0.std_dev()
    }

    /// Variance that honest survivors' noise has at least on one integer of the sum, in squared grid units.
    pub fn target_variance(&self) -> f64 {
        let std_dev = self.terms.noise_multiplier.value() * self.grid_units();
        std_dev * std_dev * (1.0 - 1e-13)
    }

    /// The clip norm in grid units.
    pub fn grid_units(&self) -> f64 {
        self.terms.clip_norm.value() / self.rounding.grid_unit()
    }

    /// D₂: the largest L2 norm of a contribution before noise, in grid units.
    pub fn l2_bound(&self) -> f64 {
        self.rounding.l2_bound()
    }

    /// D₁: the largest L1 norm of a contribution before noise, in grid units.
    pub fn l1_bound(&self) -> f64 {
        self.rounding.l1_bound()
    }

    /// Standard deviation of the noise of `n_shares` clients on one coordinate of the released mean.
    pub fn noise_std_dev(&self, n_shares: u32) -> f64 {
        (self.share_variance() * f64::from(n_shares)).sqrt() * self.rounding.grid_unit() / self.terms.divisor
    }

    /// The same for as many clients as are planned, the divisor.
    pub fn noise_std_dev_planned(&self) -> f64 {
        (self.share_variance() * self.terms.divisor).sqrt() * self.grid_unit() / self.terms.divisor
    }

    /// What one integer stands for in a rotated, clipped update.
    pub fn grid_unit(&self) -> f64 {
        self.rounding.grid_unit()
    }

    /// The largest ε for which [`delta_loss`](Self::delta_loss) holds.
    pub const MAX_EPSILON: f64 = 50.0;

    /// Bound on what must be added to δ because draws are not exactly of their law, over `rounds` releases, for every ε up to
    /// [`MAX_EPSILON`](Self::MAX_EPSILON): (1 + e^50) times the total variation of all draws of all clients.
    #[allow(clippy::cast_precision_loss, reason = "a bound with much slack")]
    pub fn delta_loss(&self, rounds: u64) -> f64 {
        let n_draws = self.terms.dimension as f64 * f64::from(self.terms.clients_max) * rounds as f64;
        DiscreteGaussian::TOTAL_VARIATION * 6e21 * n_draws
    }

    /// A client's integers for the sum: its update clipped, rotated and rounded, with its own noise. Not reduced modulo 2^b.
    ///
    /// An update with a value that is not finite counts as zeros; one of another length is refused.
    pub fn contribution(
        &self,
        update: &[f32],
        round: u64,
        client: u64,
        rounding: &RoundingSource,
        noise: &NoiseSource,
    ) -> Result<(Vec<i64>, ClipOutcome), DistributedError> {
        let mut rotated = update.to_vec();
        let outcome = clip_l2(&mut rotated, self.terms.clip_norm);
        if rotated.len() == self.terms.dimension {
            self.rotation.apply(&mut rotated, &mut self.coins(round));
        }
        let (rounded, _) = self
            .rounding
            .round(&rotated, &mut rounding.stream(round, client), Vec::new())?;
        let mut integers: Vec<i64> = rounded.into_iter().map(i64::from).collect();
        let streams = noise.client_streams(round, client);
        for (block, values) in (0..).zip(integers.chunks_mut(BLOCK)) {
            self.share.0.add_to(values, &mut streams.block(block));
        }
        Ok((integers, outcome))
    }

    /// The noised mean: the sum modulo 2^b, as representatives around zero, back on the scale of updates.
    ///
    /// # Panics
    ///
    /// If the sum has another length than contributions.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "rounding a released value is post-processing"
    )]
    pub fn release(&self, sum: &[i64], round: u64) -> Vec<f32> {
        assert_eq!(
            sum.len(),
            self.terms.dimension,
            "a sum has as many coordinates as its summands"
        );
        let scale = self.rounding.grid_unit() / self.terms.divisor;
        let mut values: Vec<f32> = sum.iter().map(|&value| (value as f64 * scale) as f32).collect();
        self.rotation.undo(&mut values, &mut self.coins(round));
        values
            .iter_mut()
            .for_each(|value| *value = value.clamp(f32::MIN, f32::MAX));
        values
    }

    /// The public coins of a round's rotation.
    fn coins(&self, round: u64) -> RandomStream {
        let mut hash = Sha256::new();
        hash.update(b"umbel rotation 1\0");
        hash.update(self.hash());
        hash.update(round.to_le_bytes());
        RandomStream::from_public_seed(&hash.finalize().into())
    }
}

/// c, the clip norm in grid units: the largest with
/// `n·(c·t/√2^m + 1) + t·√n·z·c/√h ≤ 2^(b−1) − 1`, where `4·d·exp(−t²/2) = 2^-20`.
fn grid_units(terms: &DistributedTerms, stretch: f64, honest: f64) -> f64 {
    let clients = f64::from(terms.clients_max);
    let t = (2.0 * ((4.0 * terms.dimension as f64).ln() + WRAP_BITS * std::f64::consts::LN_2)).sqrt();
    let half = f64::from(1_u32 << (terms.modulus_bits - 1)) - 1.0;
    let per_unit =
        t * (clients / stretch.sqrt() + terms.noise_multiplier.value() * (clients / honest).sqrt());
    ((half - clients) / per_unit).min(MOST_GRID_UNITS)
}

/// ½·(D₂/(√h·σ) + τ·√d)², rounded up; τ at the most clients, so that it holds for whatever number survives.
fn rho(terms: &DistributedTerms, rounding: &GridRounding, std_dev: f64, honest: f64) -> Option<Rho> {
    let tau = tau(std_dev, terms.clients_max);
    let root = rounding.l2_bound() / (honest.sqrt() * std_dev) + tau * (terms.dimension as f64).sqrt();
    Rho::new(0.5 * root * root * (1.0 + 1e-12)).ok()
}

/// τ = 10·Σ_{k=1}^{n−1} exp(−2π²σ²·k/(k+1)), rounded up.
fn tau(std_dev: f64, clients: u32) -> f64 {
    let exponent = -2.0 * std::f64::consts::PI.powi(2) * std_dev * std_dev;
    let sum: f64 = (1..clients)
        .map(|k| (exponent * f64::from(k) / f64::from(k + 1)).exp())
        .sum();
    10.0 * sum * (1.0 + 1e-9)
}

#[cfg(test)]
mod tests {
    use umbel_accounting::AccountantKind::Rdp;
    use umbel_accounting::{Delta, NeighboringRelation, NoiseStdDev, accountant};

    use super::*;
    use crate::source::SimulationSeed;
    use crate::statistics::check_chi_square;

    fn terms() -> DistributedTerms {
        DistributedTerms {
            clip_norm: ClipNorm::new(2.0).unwrap(),
            noise_multiplier: NoiseMultiplier::new(1.0).unwrap(),
            dimension: 5_000,
            divisor: 40.0,
            clients_max: 40,
            survivors_min: 30,
            colluding: 4,
            modulus_bits: 18,
            most_participations: 10,
        }
    }

    fn sources(seed: u64) -> (RoundingSource, NoiseSource) {
        let seed = SimulationSeed::new(seed);
        (RoundingSource::simulated(seed), NoiseSource::simulated(seed))
    }

    /// Updates of norms up to twice the clip norm.
    fn update(dimension: usize, client: usize) -> Vec<f32> {
        let norm = (client % 5) as f32;
        let values: Vec<f32> = (0..dimension)
            .map(|i| ((i * (client + 1)) as f32 * 0.37).sin())
            .collect();
        let own = values.iter().map(|v| v * v).sum::<f32>().sqrt();
        values.into_iter().map(|value| value * norm / own).collect()
    }

    fn epsilon(event: &DpEvent) -> f64 {
        let mut accountant = accountant(Rdp, NeighboringRelation::ReplaceByZero);
        accountant.compose(event, 10).unwrap();
        accountant
            .epsilon(Delta::new(1e-6).unwrap())
            .unwrap()
            .upper
            .value()
    }

    #[test]
    fn the_mean_comes_back_with_the_noise_of_all_who_added_it() {
        let mechanism = DistributedGaussian::new(terms()).unwrap();
        let (rounding, noise) = sources(3);
        let mut sum = vec![0; 5_000];
        let mut mean = vec![0.0; 5_000];
        for client in 0..40 {
            let update = update(5_000, client);
            let (integers, outcome) = mechanism
                .contribution(&update, 9, client as u64, &rounding, &noise)
                .unwrap();
            sum.iter_mut()
                .zip(&integers)
                .for_each(|(sum, value)| *sum += value);
            let factor = (2.0 / outcome.norm).min(1.0);
            if outcome.norm > 0.0 {
                mean.iter_mut()
                    .zip(&update)
                    .for_each(|(mean, value)| *mean += f64::from(*value) * factor / 40.0);
            }
        }
        let half = 1 << (terms().modulus_bits - 1);
        assert!(
            sum.iter().all(|value| (-half..half).contains(value)),
            "no wrap-around"
        );
        let released = mechanism.release(&sum, 9);
        // Rounding adds at most a quarter of a squared grid unit for each client, less than a thousandth here.
        let rounding_variance = 40.0 / 4.0 / mechanism.grid_units().powi(2) * 4.0 / 1_600.0;
        let variance = mechanism.noise_std_dev(40).powi(2);
        assert!(rounding_variance < variance / 1_000.0);
        let squares: f64 = released
            .iter()
            .zip(&mean)
            .map(|(released, mean)| (f64::from(*released) - mean).powi(2) / variance)
            .sum();
        check_chi_square(squares, 5_000.0, "noise of the released mean");
    }

    #[test]
    fn the_charge_is_that_of_the_noise_of_the_fewest_honest_survivors() {
        let mechanism = DistributedGaussian::new(terms()).unwrap();
        let honest = 26.0;
        assert!(mechanism.share_variance() * honest >= mechanism.target_variance());
        assert!(mechanism.target_variance() >= mechanism.grid_units().powi(2) * (1.0 - 1e-12));
        let DpEvent::ZeroConcentrated { rho } = mechanism.event() else {
            panic!()
        };
        // τ vanishes here: each share is far above one grid unit.
        let expected = mechanism.l2_bound().powi(2) / (2.0 * honest * mechanism.share_variance());
        assert!((rho.value() / expected - 1.0).abs() < 1e-9);
        // Against the Gaussian of the same noise multiplier, ½/z²: what rounding costs.
        assert!(rho.value() >= 0.5 && rho.value() < 0.5 * 1.01, "{}", rho.value());
    }

    #[test]
    fn more_survivors_than_the_fewest_cost_less_and_are_not_charged() {
        let mechanism = DistributedGaussian::new(terms()).unwrap();
        let rho = |event| match event {
            DpEvent::ZeroConcentrated { rho } => rho.value(),
            other => panic!("{other:?}"),
        };
        let floor = rho(mechanism.event());
        assert!((rho(mechanism.event_with(30)) - floor).abs() < 1e-12 * floor);
        // 36 honest shares where 26 were counted on.
        assert!((rho(mechanism.event_with(40)) * 36.0 / 26.0 / floor - 1.0).abs() < 1e-9);
        assert!(
            rho(mechanism.event_with(3)) <= floor * (1.0 + 1e-12),
            "never opened"
        );
    }

    #[test]
    fn few_bits_make_rounding_and_small_noise_visible_in_the_charge() {
        let rho = |modulus_bits, clients_max| {
            let terms = DistributedTerms {
                modulus_bits,
                clients_max,
                survivors_min: 30,
                ..terms()
            };
            DistributedGaussian::new(terms).map(|mechanism| match mechanism.event() {
                DpEvent::ZeroConcentrated { rho } => rho.value(),
                other => panic!("{other:?}"),
            })
        };
        let costs: Vec<f64> = [24, 18, 16, 14, 12, 8]
            .map(|bits| rho(bits, 40).unwrap())
            .to_vec();
        assert!(
            costs.is_sorted() && costs[0] < 0.501 && costs[5] > 0.6,
            "{costs:?}"
        );
        for (bits, clients_max) in [(8, 130), (9, 300)] {
            assert!(matches!(
                rho(bits, clients_max),
                Err(DistributedError::TooFewBits { .. })
            ));
        }
    }

    #[test]
    fn the_correction_for_sums_of_small_shares_is_the_papers() {
        // 10·Σ_{k=1}^{n−1} exp(−2π²σ²k/(k+1)), σ = 1/2: computed by another program.
        for (clients, expected) in [(1, 0.0), (2, 0.848_049_724_711_137_9), (10, 2.345_325_319_246_77)] {
            let found = tau(0.5, clients);
            assert!(
                (expected..=expected * (1.0 + 1e-8)).contains(&found),
                "{clients}: {found}"
            );
        }
    }

    #[test]
    fn every_contribution_keeps_the_bound_that_is_charged() {
        // Without noise to speak of, what is left is the rounded vector: its norm is at most D₂.
        let terms = DistributedTerms {
            dimension: 70,
            ..terms()
        };
        let mechanism = DistributedGaussian::new(terms).unwrap();
        let (rounding, noise) = sources(5);
        for client in 0..200 {
            let update: Vec<f32> = (0..70).map(|i| ((i + client) as f32).cos() * 1e3).collect();
            let client = client as u64;
            let (noised, _) = mechanism
                .contribution(&update, 1, client, &rounding, &noise)
                .unwrap();
            let mut draws = vec![0; 70];
            mechanism
                .share
                .0
                .add_to(&mut draws, &mut noise.client_streams(1, client).block(0));
            let square: i64 = noised
                .iter()
                .zip(&draws)
                .map(|(noised, draw)| (noised - draw).pow(2))
                .sum();
            assert!(square as f64 <= mechanism.l2_bound().powi(2));
            assert!(
                square as f64 > mechanism.grid_units().powi(2) * 0.9,
                "the clip norm is used"
            );
        }
    }

    #[test]
    fn updates_that_are_not_finite_count_as_zeros_and_others_are_refused() {
        let mechanism = DistributedGaussian::new(terms()).unwrap();
        let (rounding, noise) = sources(6);
        let contribution = |update: &[f32]| mechanism.contribution(update, 1, 2, &rounding, &noise);
        let mut bad = vec![1.0; 5_000];
        bad[17] = f32::NAN;
        let (zeros, outcome) = contribution(&vec![0.0; 5_000]).unwrap();
        assert!(!outcome.non_finite);
        let (got, outcome) = contribution(&bad).unwrap();
        assert!(outcome.non_finite && got == zeros);
        assert!(matches!(
            contribution(&[1.0; 4_999]),
            Err(DistributedError::Rounding(_))
        ));
    }

    #[test]
    fn terms_that_make_no_sense_are_refused_and_all_of_them_count_in_the_hash() {
        for bad in [
            DistributedTerms {
                dimension: 0,
                ..terms()
            },
            DistributedTerms {
                divisor: 0.0,
                ..terms()
            },
            DistributedTerms {
                divisor: f64::NAN,
                ..terms()
            },
            DistributedTerms {
                modulus_bits: 7,
                ..terms()
            },
            DistributedTerms {
                modulus_bits: 33,
                ..terms()
            },
            DistributedTerms {
                survivors_min: 4,
                ..terms()
            },
            DistributedTerms {
                survivors_min: 41,
                ..terms()
            },
        ] {
            assert!(DistributedGaussian::new(bad).is_err(), "{bad:?}");
        }
        let variants = [
            terms(),
            DistributedTerms {
                clip_norm: ClipNorm::new(2.1).unwrap(),
                ..terms()
            },
            DistributedTerms {
                noise_multiplier: NoiseMultiplier::new(1.1).unwrap(),
                ..terms()
            },
            DistributedTerms {
                dimension: 5_001,
                ..terms()
            },
            DistributedTerms {
                divisor: 41.0,
                ..terms()
            },
            DistributedTerms {
                clients_max: 41,
                ..terms()
            },
            DistributedTerms {
                survivors_min: 31,
                ..terms()
            },
            DistributedTerms {
                colluding: 5,
                ..terms()
            },
            DistributedTerms {
                modulus_bits: 19,
                ..terms()
            },
            DistributedTerms {
                most_participations: 11,
                ..terms()
            },
        ];
        let hashes = variants.map(|terms| DistributedGaussian::new(terms).unwrap().hash());
        let distinct: std::collections::BTreeSet<_> = hashes.into_iter().collect();
        assert_eq!(distinct.len(), variants.len());
    }

    #[test]
    fn skellam_noise_of_the_same_variance_costs_more() {
        // Agarwal, Kairouz and Liu 2021, corollary 3.6, against the bound above: why the discrete Gaussian is what is used.
        for (modulus_bits, dimension) in [(14, 1_000), (16, 5_000), (16, 100_000), (20, 1_000_000)] {
            let mechanism = DistributedGaussian::new(DistributedTerms {
                modulus_bits,
                dimension,
                ..terms()
            })
            .unwrap();
            let skellam = DpEvent::Skellam {
                l1_clip_norm: ClipNorm::new(mechanism.l1_bound()).unwrap(),
                l2_clip_norm: ClipNorm::new(mechanism.l2_bound()).unwrap(),
                noise_std_dev: NoiseStdDev::new((mechanism.share_variance() * 26.0).sqrt()).unwrap(),
            };
            let (gaussian, skellam) = (epsilon(&mechanism.event()), epsilon(&skellam));
            assert!(
                gaussian < skellam && skellam < gaussian * 1.1,
                "{gaussian} {skellam}"
            );
        }
    }
}
