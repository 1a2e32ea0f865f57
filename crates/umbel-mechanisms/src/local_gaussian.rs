//! Local mechanisms: each client adds noise to what it sends, so nobody has to be trusted.

use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier, SamplingRate};

use crate::central_gaussian::{CentralGaussian, MechanismError, NoiseKind};
use crate::clip::ClipOutcome;
use crate::gradient_sum::{GRADIENT_UNITS, GradientPart, GradientSum};
use crate::quantize::{GRID_UNITS, Quantizer};
use crate::source::BlockStreams;
use crate::sum::IntegerSum;

/// What a [`LocalGaussian`] is made from.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "every setting must be given")]
pub struct LocalPlan {
    /// Bound C on the norm of one unit's contribution: of a whole update, or of the gradient of one example.
    pub clip_norm: ClipNorm,
    /// σ / C, under every relation. Absent means no noise at all: **not private**, and the event says so.
    pub noise_multiplier: Option<NoiseMultiplier>,
    /// How noise is drawn.
    pub noise: NoiseKind,
    /// The planned cohort: what the server divides the sum of reports by.
    pub divisor: f64,
    /// Number of coordinates.
    pub dimension: usize,
    /// The most rounds in which one client takes part; it enforces that by itself.
    pub most_participations: u64,
    /// Where the unit is an example, how a client takes its steps; absent where it is the client itself.
    pub steps: Option<LocalSteps>,
}

/// Private gradient descent on a client (Abadi et al. 2016, arXiv 1607.00133, algorithm 1).
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "every setting must be given")]
pub struct LocalSteps {
    /// Probability with which an example is in a batch, by the client's own secret coins; public, the same for all clients.
    pub sampling_rate: SamplingRate,
    /// Steps a round, whatever the client holds.
    pub steps: u32,
    /// What a step's noised sum is divided by: public, never the size of a batch.
    pub divisor: f64,
    /// How far a step goes along it.
    pub learning_rate: f64,
}

/// Gaussian noise on each client.
///
/// # Privacy
///
/// The ε holds against everybody, the server included: all that leaves a client is a function of releases of the
/// [Gaussian mechanism on integers](CentralGaussian), with the client's own noise.
///
/// * **Unit client.** The release is that of a sum of one update, clipped to C. Another client's data in its place moves it by at
///   most 2C (replace-one), of which the accountant knows, since the noise multiplier is σ / C under every relation. Whether it took
///   part is seen by the server and not protected. A client without examples sends noise as well.
/// * **Unit example.** Each step is the release of the sum of the gradients of a batch, each clipped to C; one example more or
///   less (add-or-remove) moves it by at most C if the example is in the batch, which it is with probability q by coins that only the
///   client sees. Divisor, number of steps and q are public and do not hang on the number of examples, so a client without
///   examples takes the same steps along noise alone. Each gradient is a vector of integers whose norm is checked in integers, and
///   their sum is exact, though most are never written down: [`GradientSum`] has the argument. Its units are finer, 2^40 to C,
///   and so are those of the noise.
///
/// What is reported, a model less the round's, is clipped and quantised again for the server's sum, with a bound far above its noise.
/// That is post-processing: it protects the sum from a dishonest client, not the client.
///
/// One participation costs [`event`](Self::event); a client's data are in its own releases only, so ε is that of
/// [`most_participations`](LocalPlan::most_participations) of them and never a sum over clients. No amplification by the server's
/// choice of clients is credited: the server sees who takes part.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalGaussian {
    plan: LocalPlan,
    /// A client's own release.
    client: CentralGaussian,
    /// The server's sum of reports, without noise of its own.
    server: CentralGaussian,
}

impl LocalGaussian {
    /// Checks a plan.
    pub fn new(plan: LocalPlan) -> Result<Self, MechanismError> {
        let own_divisor = plan.steps.map_or(1.0, |steps| steps.divisor);
        let units = match plan.steps {
            Some(_) => GRADIENT_UNITS,
            None => f64::from(GRID_UNITS),
        };
        let client = match plan.noise_multiplier {
            Some(noise_multiplier) => {
                let quantizer = Quantizer::new(plan.clip_norm);
                CentralGaussian::with_units(quantizer, units, noise_multiplier, plan.noise, own_divisor)?
            }
            None => CentralGaussian::dangerous_with_units(plan.clip_norm, units, own_divisor)?,
        };
        let (clip_norm, divisor) = (plan.clip_norm, plan.divisor);
        let bound =
            ClipNorm::new(report_bound(&plan)).map_err(|_| MechanismError::Scale { clip_norm, divisor })?;
        let server = CentralGaussian::dangerous_without_noise(bound, divisor)?;
        Ok(Self { plan, client, server })
    }

    /// The plan.
    pub fn plan(&self) -> &LocalPlan {
        &self.plan
    }

    /// What one participation costs.
    pub fn event(&self) -> DpEvent {
        let release = self.client.event();
        match self.plan.steps {
            None => release,
            Some(_) if release == DpEvent::NonPrivate => release,
            Some(steps) => DpEvent::Repeated {
                event: Box::new(DpEvent::PoissonSampled {
                    sampling_rate: steps.sampling_rate,
                    event: Box::new(release),
                }),
                count: steps.steps.into(),
            },
        }
    }

    /// How noise is drawn; `None` if there is none.
    pub fn noise_kind(&self) -> Option<NoiseKind> {
        self.client.noise_kind()
    }

    /// Makes contributions fit for a client's own sum.
    pub fn quantizer(&self) -> &Quantizer {
        self.client.quantizer()
    }

    /// The clip norm of reports: a bound far above their noise, for the server's sum only.
    pub fn report_clip_norm(&self) -> ClipNorm {
        self.server.quantizer().clip_norm()
    }

    /// The sum of reports, to which the server adds nothing.
    pub(crate) fn server(&self) -> &CentralGaussian {
        &self.server
    }

    /// Standard deviation of the noise in a client's own release, in grid units of reports: z · 2^30.
    pub fn noise_std_dev_grid_units(&self) -> f64 {
        let multiplier = self.client.noise_multiplier();
        multiplier.map_or(0.0, |multiplier| multiplier.value() * f64::from(GRID_UNITS))
    }

    /// Standard deviation of the noise on each coordinate of the mean of as many reports as are planned, in its units. With several
    /// steps that of their sum, as if later gradients did not hang on earlier noise.
    pub fn noise_std_dev(&self) -> f64 {
        let own = match self.plan.steps {
            None => self.client.noise_std_dev(),
            Some(steps) => self.client.noise_std_dev() * steps.learning_rate * f64::from(steps.steps).sqrt(),
        };
        own / self.plan.divisor.sqrt()
    }

    /// Bound on what must be added to δ because draws are not exactly of their law, over all that one client sends; see
    /// [`CentralGaussian::delta_loss`].
    pub fn delta_loss(&self) -> f64 {
        let n_steps = self.plan.steps.map_or(1, |steps| u64::from(steps.steps));
        self.client.delta_loss(
            self.plan.dimension as u64,
            n_steps.saturating_mul(self.plan.most_participations),
        )
    }

    /// Unit client: the update with noise, which may leave the client. `streams` are those of this client and round.
    ///
    /// # Panics
    ///
    /// Where the unit is an example, whose release this is not.
    pub fn privatize(
        &self,
        update: &[f32],
        streams: &BlockStreams,
        buffer: Vec<i32>,
    ) -> (Vec<f32>, ClipOutcome) {
        assert!(
            self.plan.steps.is_none(),
            "an update is released where the unit is a client"
        );
        let (quantized, outcome) = self.client.quantizer().clip_and_quantize(update, buffer);
        let mut sum = IntegerSum::new(update.len());
        // A sum of one takes what its own quantiser made.
        let added = sum.add(&quantized);
        debug_assert!(added.is_ok());
        (self.client.noised(sum, streams, 0, 1), outcome)
    }

    /// Unit example: an empty sum for the gradients of a step.
    pub fn gradient_sum(&self) -> GradientSum {
        GradientSum::new(self.plan.clip_norm, self.plan.dimension)
    }

    /// What one example's gradient adds to a step's sum, in clip norms, exactly: for an auditor.
    ///
    /// # Panics
    ///
    /// Where [`GradientSum::add`] does.
    pub fn contribution<'a>(&self, parts: impl Iterator<Item = GradientPart<'a>> + Clone) -> Vec<f64> {
        let mut sum = self.gradient_sum();
        sum.add(parts);
        sum.values_mut()
            .iter()
            .map(|&value| value as f64 / GRADIENT_UNITS)
            .collect()
    }

    /// Unit example: writes the noised mean gradient of a step, counted from 0, of the batch whose clipped gradients are in `sum`.
    /// The sum is empty afterwards: nobody sees it without noise.
    ///
    /// # Panics
    ///
    /// If the sum was made for another clip norm, the unit is a client, or `gradient` has another length than the sum.
    pub fn noised_gradient(
        &self,
        sum: &mut GradientSum,
        streams: &BlockStreams,
        step: u32,
        gradient: &mut [f32],
    ) {
        assert!(
            self.plan.steps.is_some() && sum.clip_norm() == self.plan.clip_norm,
            "the sum and the mechanism have different clip norms or units"
        );
        let sums = sum.values_mut();
        assert_eq!(sums.len(), gradient.len(), "length of the gradient");
        self.client.noise_values(sums, gradient, streams, step, 1);
        sum.clear();
    }
}

/// A norm that a report does not exceed in practice: that of its noise, which is above √d + 8 standard deviations with a
/// probability below e^-32, and of contributions. One that does is shortened.
fn report_bound(plan: &LocalPlan) -> f64 {
    let multiplier = plan.noise_multiplier.map_or(0.0, |multiplier| multiplier.value());
    let noise = multiplier * ((plan.dimension as f64).sqrt() + 8.0);
    match plan.steps {
        None => plan.clip_norm.value() * (1.0 + noise),
        Some(steps) => {
            // Batches of up to 1,000 times the planned size, all of whose gradients point the same way.
            let each = plan.clip_norm.value() * (1_000.0 + noise / steps.divisor);
            steps.learning_rate * f64::from(steps.steps) * each
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{NoiseSource, SimulationSeed};
    use crate::statistics::{check_chi_square, check_z};

    fn plan(dimension: usize) -> LocalPlan {
        LocalPlan {
            clip_norm: ClipNorm::new(0.5).unwrap(),
            noise_multiplier: NoiseMultiplier::new(2.0).ok(),
            noise: NoiseKind::Rounded,
            divisor: 10.0,
            dimension,
            most_participations: 3,
            steps: None,
        }
    }

    fn steps() -> LocalSteps {
        LocalSteps {
            sampling_rate: SamplingRate::new(0.25).unwrap(),
            steps: 4,
            divisor: 8.0,
            learning_rate: 0.1,
        }
    }

    fn streams(round: u64, client: u64) -> BlockStreams {
        NoiseSource::simulated(SimulationSeed::new(1)).client_streams(round, client)
    }

    /// False-alarm rate 1e-6 for each check.
    #[test]
    fn what_leaves_a_client_has_the_stated_noise() {
        let dimension = 20_000;
        let n = f64::from(u32::try_from(dimension).unwrap());
        let mechanism = LocalGaussian::new(plan(dimension)).unwrap();
        let mut update = vec![0.0; dimension];
        update[0] = 3.0;
        let (private, outcome) = mechanism.privatize(&update, &streams(1, 2), Vec::new());
        assert!(outcome.clipped);
        let noise = |private: &[f32], std_dev: f64| -> Vec<f64> {
            private[1..]
                .iter()
                .map(|value| f64::from(*value) / std_dev)
                .collect()
        };
        let values = noise(&private, 2.0 * 0.5);
        check_chi_square(values.iter().map(|value| value * value).sum(), n - 1.0, "update");
        // Another client, another round, another step: independent.
        let (other, _) = mechanism.privatize(&update, &streams(1, 3), Vec::new());
        let product: f64 = values.iter().zip(noise(&other, 1.0)).map(|(a, b)| a * b).sum();
        check_z(product / n.sqrt(), "clients");
        let mechanism = LocalGaussian::new(LocalPlan {
            steps: Some(steps()),
            ..plan(dimension)
        })
        .unwrap();
        let own = streams(1, 2);
        let [first, second] = [0, 1].map(|step| {
            let mut gradient = vec![0.0; dimension];
            mechanism.noised_gradient(&mut mechanism.gradient_sum(), &own, step, &mut gradient);
            noise(&gradient, 2.0 * 0.5 / 8.0)
        });
        check_chi_square(first.iter().map(|value| value * value).sum(), n - 1.0, "gradient");
        check_z(
            first.iter().zip(&second).map(|(a, b)| a * b).sum::<f64>() / n.sqrt(),
            "steps",
        );
    }

    #[test]
    fn event_and_noise_come_from_one_value() {
        let mechanism = LocalGaussian::new(plan(3)).unwrap();
        let gaussian = DpEvent::Gaussian {
            noise_multiplier: NoiseMultiplier::new(2.0).unwrap(),
        };
        assert_eq!(mechanism.event(), gaussian);
        assert!((mechanism.noise_std_dev() - 2.0 * 0.5 / 10.0_f64.sqrt()).abs() < 1e-12);
        let mechanism = LocalGaussian::new(LocalPlan {
            steps: Some(steps()),
            ..plan(3)
        })
        .unwrap();
        let expected = DpEvent::Repeated {
            event: Box::new(DpEvent::PoissonSampled {
                sampling_rate: SamplingRate::new(0.25).unwrap(),
                event: Box::new(gaussian),
            }),
            count: 4,
        };
        assert_eq!(mechanism.event(), expected);
        assert!((mechanism.noise_std_dev() - 0.1 * 2.0 * (2.0 * 0.5 / 8.0) / 10.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_bound_of_reports_leaves_noise_alone() {
        for dimension in [1, 50, 5_000] {
            let mechanism = LocalGaussian::new(plan(dimension)).unwrap();
            for client in 0..50 {
                let update = vec![1e9; dimension];
                let (private, _) = mechanism.privatize(&update, &streams(1, client), Vec::new());
                let (_, outcome) = mechanism
                    .server()
                    .quantizer()
                    .clip_and_quantize(&private, Vec::new());
                assert!(!outcome.clipped);
            }
        }
    }

    #[test]
    fn a_zero_or_broken_update_leaves_as_noise() {
        let mechanism = LocalGaussian::new(plan(4)).unwrap();
        let [zero, broken] = [vec![0.0; 4], vec![f32::NAN; 4]]
            .map(|update| mechanism.privatize(&update, &streams(1, 1), Vec::new()).0);
        assert_eq!(zero, broken);
        assert!(zero.iter().all(|value| value.is_finite() && *value != 0.0));
    }
}
