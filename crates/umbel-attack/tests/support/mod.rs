//! A pipeline made of the functions that a run is made of, in which one step can be put wrong.
//!
//! Nothing of this is in the program: production code has no switch that weakens it. The attack is not told which step is wrong.

use std::sync::Arc;

use umbel_accounting::{ClipNorm, Delta, NoiseMultiplier, SamplingRate};
use umbel_attack::{Canaries, Claim, Family, GuessPlan, Method, Observer, Verdict, judge, plan_from_claim};
use umbel_mechanisms::{
    CentralGaussian, CohortSource, IntegerSum, NoiseKind, NoiseSource, SimulationSeed, poisson_cohort,
};
use umbel_protocol::{ClientId, ClientRound, Invitation, RoundId, Timestamp};
use umbel_sim::Auditor as _;

/// A step put wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mistake {
    /// The noise is this many times too small.
    NoiseTooSmall(f64),
    /// Every layer is clipped to the clip norm by itself, and the whole is charged as one.
    ClipPerLayer,
    /// The last layer is not clipped.
    LayerNotClipped,
    /// Round 2 uses the noise of round 1.
    NoiseReused,
    /// Every round uses the noise of round 1.
    SeedConstant,
    /// The sum is divided by the size of the cohort that came.
    ActualSize,
    /// Every round has the cohort of round 1.
    FixedCohort,
    /// A client counts as often as it says: canaries say twice.
    WeightedByCount,
}

/// A federation of clients that send zeros, and canaries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pipeline {
    pub(crate) canaries: u32,
    pub(crate) dimension: usize,
    pub(crate) rounds: u64,
    pub(crate) rate: f64,
    pub(crate) noise: f64,
    pub(crate) mistake: Option<Mistake>,
}

const HONEST: u64 = 20;
const CLIP_NORM: f64 = 0.5;

impl Pipeline {
    pub(crate) fn claim(&self) -> Claim {
        let rate = SamplingRate::new(self.rate).unwrap();
        let family = Family::new(rate, self.rounds, Delta::new(1e-5).unwrap());
        Claim::new(family, rate, Some(NoiseMultiplier::new(self.noise).unwrap())).unwrap()
    }

    pub(crate) fn plan(&self) -> GuessPlan {
        plan_from_claim(self.canaries, self.rounds, &self.claim(), &mut |_, _| {})
    }

    pub(crate) fn attack(&self, seed: u64, plan: GuessPlan) -> Verdict {
        let seed = SimulationSeed::new(seed);
        let canaries = Canaries::new(self.canaries as usize, self.dimension, CLIP_NORM, seed).unwrap();
        let observer = Observer::new(canaries, ClientId(HONEST), true);
        for round in 1..=self.rounds {
            self.play(round, seed, &observer);
        }
        judge(&observer.finish(), &self.claim(), plan, Method::GaussianScore).unwrap()
    }

    fn play(&self, round: u64, seed: SimulationSeed, observer: &Observer) {
        let population = HONEST + u64::from(self.canaries);
        let rate = SamplingRate::new(self.rate).unwrap();
        let cohort_round = if self.mistake == Some(Mistake::FixedCohort) {
            1
        } else {
            round
        };
        let cohort = poisson_cohort(&CohortSource::simulated(seed), cohort_round, population, rate);
        let planned = self.rate * population as f64;
        let divisor = match self.mistake {
            Some(Mistake::ActualSize) => cohort.len() as f64,
            _ => planned,
        };
        let noise_round = match self.mistake {
            Some(Mistake::SeedConstant) => 1,
            Some(Mistake::NoiseReused) if round == 2 => 1,
            _ => round,
        };
        let noise = NoiseSource::simulated(seed);
        let half = self.dimension / 2;
        let mut released = Vec::new();
        for (number, (layer, clip, noise_multiplier)) in self.layers(half).into_iter().enumerate() {
            let clip_norm = ClipNorm::new(clip).unwrap();
            let multiplier = NoiseMultiplier::new(noise_multiplier).unwrap();
            let mechanism = CentralGaussian::new(clip_norm, multiplier, NoiseKind::Rounded, divisor).unwrap();
            let mut sum = IntegerSum::new(layer.len());
            for &client in &cohort {
                let client = ClientId(client);
                let mut update = vec![0.0; self.dimension];
                assert!(observer.update(client, RoundId(round), &mut update));
                let invitation = Invitation {
                    round: RoundId(round),
                    clip_norm,
                    clip_indicator: None,
                    deadline: Timestamp::default(),
                    model: Arc::from(vec![0.0; layer.len()]),
                };
                let (message, _) = ClientRound::new(invitation).report(&update[layer.clone()], Vec::new());
                let umbel_protocol::ClientMessage::Report { update: report, .. } = &message else {
                    panic!("a client reports");
                };
                let times = match self.mistake {
                    Some(Mistake::WeightedByCount) if client.0 >= HONEST => 2,
                    _ => 1,
                };
                for _ in 0..times {
                    sum.add(report).unwrap();
                }
                if number == 0 {
                    self.tell(observer, client, round, &update);
                }
            }
            // Layers must not share noise.
            let stream_round = noise_round + 1_000 * number as u64;
            released.extend(mechanism.release(sum, &noise, stream_round, 1).values);
        }
        observer.end_round(RoundId(round), &released, planned / CLIP_NORM);
    }

    /// The report as the auditor sees it: of the whole update, clipped as claimed.
    fn tell(&self, observer: &Observer, client: ClientId, round: u64, update: &[f32]) {
        let invitation = Invitation {
            round: RoundId(round),
            clip_norm: ClipNorm::new(CLIP_NORM).unwrap(),
            clip_indicator: None,
            deadline: Timestamp::default(),
            model: Arc::from(vec![0.0; self.dimension]),
        };
        observer.report(client, &ClientRound::new(invitation).report(update, Vec::new()).0);
    }

    /// What is clipped as one, to which norm, and with which noise multiplier relative to it.
    fn layers(&self, half: usize) -> Vec<(std::ops::Range<usize>, f64, f64)> {
        let whole = 0..self.dimension;
        let far = 100.0;
        match self.mistake {
            Some(Mistake::NoiseTooSmall(factor)) => vec![(whole, CLIP_NORM, self.noise / factor)],
            Some(Mistake::ClipPerLayer) => vec![
                (0..half, CLIP_NORM, self.noise),
                (half..self.dimension, CLIP_NORM, self.noise),
            ],
            Some(Mistake::LayerNotClipped) => vec![
                (0..half, CLIP_NORM, self.noise),
                (half..self.dimension, CLIP_NORM * far, self.noise / far),
            ],
            _ => vec![(whole, CLIP_NORM, self.noise)],
        }
    }
}
