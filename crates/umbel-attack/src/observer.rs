//! What the attacker plays in a run, and what it sees of it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use umbel_mechanisms::{GRID_UNITS, LocalGaussian, QuantizedUpdate};
use umbel_protocol::{ClientId, ClientMessage, RoundId};
use umbel_sim::{Auditor, StepOf};

use crate::canaries::Canaries;
use crate::whitening::Whitening;

/// Plays the canaries and keeps, for every round, the projections of what was released less what honest clients sent.
///
/// The attacker knows everything but the coins: the model before, every honest report, and the canaries' updates. What it does not
/// know, and this type never uses, is which canaries are included.
#[derive(Debug)]
pub struct Observer {
    canaries: Canaries,
    /// The client that is the first canary; the others follow.
    first: u64,
    /// Whether all other clients send zeros instead of training.
    is_shadow: bool,
    view: View,
    seen: Mutex<Seen>,
}

/// What the attacker looks at.
#[derive(Debug)]
pub(crate) enum View {
    /// The noised mean of each round.
    Means {
        /// What a contribution is in units of what the clip norm bounds: 1, or less where that bounds more than the update.
        contribution: f64,
        /// Where noise is correlated between rounds.
        whitening: Option<Whitening>,
    },
    /// What each canary sends, by a client that adds its own noise.
    Reports {
        mechanism: Box<LocalGaussian>,
        /// What one unit of a report stands for.
        unit: f64,
    },
    /// The noised mean gradient of each step of one client; what turns it into clip norms of the sum.
    Steps { units: f64 },
}

/// Everything that was seen of a run.
#[derive(Debug)]
pub struct Observations {
    pub(crate) canaries: Canaries,
    pub(crate) geometry: Geometry,
    pub(crate) rounds: Vec<ObservedRound>,
    /// Scores over all rounds, where they are not sums.
    pub(crate) totals: Option<Vec<f64>>,
    /// Whether canaries are seen in one sum, with independent noise in each round.
    pub(crate) are_in_one_sum: bool,
}

#[derive(Debug, Default)]
struct Seen {
    /// Sum of the open round's honest reports at the canaries' coordinates, in clip norms: multiples of a power of two, so exact,
    /// and the same in whatever order they came.
    honest: Vec<f64>,
    /// Canaries that were invited to the open round.
    invited: Vec<u32>,
    /// Where canaries' reports are looked at one by one: the projections of each.
    reports: BTreeMap<u32, (f64, Vec<f32>)>,
    geometry: Geometry,
    measured: Vec<bool>,
    rounds: Vec<ObservedRound>,
}

/// What is seen of a closed round, all in units of the clip norm, turned to the sign of the first round.
#[derive(Debug, Clone)]
pub(crate) struct ObservedRound {
    /// Canaries that were invited, included or not.
    pub(crate) invited: Vec<u32>,
    /// Projection on each canary.
    pub(crate) scores: Vec<f64>,
    /// Projections on directions that no canary uses: pure noise.
    pub(crate) unused: Vec<f32>,
}

/// How far the canaries' reports are from orthogonal vectors of norm C, as they came out of the run's own clipping and
/// quantising.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[allow(clippy::exhaustive_structs, reason = "a plain record")]
pub struct Geometry {
    /// Canaries whose report was measured: those that are included and were in a cohort.
    pub measured: u64,
    /// Smallest L2 norm, in clip norms.
    pub norm_min: f64,
    /// Largest L2 norm, in clip norms.
    pub norm_max: f64,
    /// Largest inner product, in magnitude, of a report with another canary's direction, in clip norms.
    pub largest_overlap: f64,
}

impl Default for Geometry {
    fn default() -> Self {
        Self {
            measured: 0,
            norm_min: f64::INFINITY,
            norm_max: 0.0,
            largest_overlap: 0.0,
        }
    }
}

/// Unused directions that are kept at most.
const MOST_UNUSED: usize = 16_384;

/// The same where rounds are put together again and again.
const MOST_WHITENED: usize = 2_048;

impl Observer {
    /// An attacker that plays the clients from `first` on. With `is_shadow` all other clients send zeros.
    pub fn new(canaries: Canaries, first: ClientId, is_shadow: bool) -> Self {
        let seen = Mutex::new(Seen {
            honest: vec![0.0; canaries.order()],
            measured: vec![false; canaries.len()],
            ..Seen::default()
        });
        Self {
            canaries,
            first: first.0,
            is_shadow,
            view: View::Means {
                contribution: 1.0,
                whitening: None,
            },
            seen,
        }
    }

    /// Looks at something else than the sums of rounds.
    pub(crate) fn with_view(self, view: View) -> Self {
        Self { view, ..self }
    }

    /// Tells what a round released: `mean` is the noised mean, the model's step. `units` is what turns it into clip norms of the
    /// sum, divisor / clip norm.
    pub fn end_round(&self, round: RoundId, mean: &[f32], units: f64) {
        match &self.view {
            View::Means { contribution, .. } => {
                let scale = self.canaries.round_sign(round.0) / contribution;
                self.end_sum(mean, units * contribution, scale);
            }
            View::Reports { .. } => {
                let mut seen = self.seen();
                let reports = std::mem::take(&mut seen.reports);
                let mut round = ObservedRound {
                    invited: reports.keys().copied().collect(),
                    scores: vec![0.0; self.canaries.len()],
                    unused: Vec::new(),
                };
                for (canary, (score, unused)) in reports {
                    round.scores[canary as usize] = score;
                    round.unused.extend(unused);
                }
                seen.rounds.push(round);
            }
            // Steps were seen when they were taken.
            View::Steps { .. } => {}
        }
    }

    /// A noised mean, which `units` turn into what a report is bounded to; `scale` turns that into contributions, with their sign.
    fn end_sum(&self, mean: &[f32], units: f64, scale: f64) {
        let mut seen = self.seen();
        let mut residual: Vec<f64> = self.canaries.gather(mean).into_iter().map(f64::from).collect();
        for (value, honest) in residual.iter_mut().zip(&mut seen.honest) {
            *value = *value * units - std::mem::take(honest);
        }
        let mut scores = self.canaries.project(residual);
        for score in &mut scores {
            *score *= scale;
        }
        let unused = scores.split_off(self.canaries.len());
        let mut invited = std::mem::take(&mut seen.invited);
        invited.sort_unstable();
        let most = match &self.view {
            View::Means {
                whitening: Some(_), ..
            } => MOST_WHITENED,
            _ => MOST_UNUSED,
        };
        seen.rounds.push(ObservedRound {
            invited,
            scores,
            unused: unused.into_iter().take(most).map(to_single).collect(),
        });
    }

    /// Everything that was seen, once the run is over.
    pub fn finish(self) -> Observations {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut rounds, mut totals, mut are_in_one_sum) = (seen.rounds, None, true);
        match &self.view {
            View::Means {
                whitening: Some(whitening),
                ..
            } => {
                rounds = whitening.whiten(&rounds);
                totals = Some(whitening.totals(&rounds, self.canaries.len()));
                are_in_one_sum = false;
            }
            View::Reports { .. } => are_in_one_sum = false,
            View::Means { whitening: None, .. } | View::Steps { .. } => {}
        }
        Observations {
            canaries: self.canaries,
            geometry: seen.geometry,
            rounds,
            totals,
            are_in_one_sum,
        }
    }

    /// Looks at the report of a client that adds its own noise, in units in which its two updates are 1 apart.
    fn look_at_report(&self, canary: usize, round: RoundId, unit: f64, update: &QuantizedUpdate) {
        let gathered = self.canaries.gather(update.values());
        let gathered = gathered.into_iter().map(|value| f64::from(value) * unit);
        let mut products = self.canaries.project(gathered.collect());
        let unused = products.split_off(self.canaries.len());
        let own = products[canary] * self.canaries.round_sign(round.0);
        // Directions of other canaries are as free of signal here as those that nobody uses.
        let others = products
            .into_iter()
            .enumerate()
            .filter(|(other, _)| *other != canary);
        let noise = unused.into_iter().chain(others.map(|(_, product)| product));
        let noise = noise
            .map(|x| to_single(x / 2.0))
            .take(MOST_UNUSED.div_ceil(self.canaries.len()));
        let seen = (f64::midpoint(own, 1.0), noise.collect());
        #[allow(clippy::cast_possible_truncation, reason = "canaries are counted in 32 bits")]
        self.seen().reports.insert(canary as u32, seen);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps of all rounds take the place of rounds. One client takes them, one after the other.
    fn steps_seen(&self) -> u64 {
        self.seen().rounds.len() as u64
    }

    fn add_honest(&self, contribution: impl Iterator<Item = f64>) {
        for (sum, value) in self.seen().honest.iter_mut().zip(contribution) {
            *sum += value;
        }
    }

    fn canary(&self, client: ClientId) -> Option<usize> {
        let canary = usize::try_from(client.0.checked_sub(self.first)?).ok()?;
        (canary < self.canaries.len()).then_some(canary)
    }

    /// Whether a canary's contribution is there to be measured, for the first time.
    fn measure(&self, canary: usize, update: &[f64]) {
        let is_new = !std::mem::replace(&mut self.seen().measured[canary], true);
        if !is_new {
            return;
        }
        let norm = update.iter().map(|value| value.powi(2)).sum::<f64>().sqrt();
        let products = self.canaries.project(self.canaries.gather(update));
        let others = products.iter().enumerate().filter(|(place, _)| *place != canary);
        let overlap = others.map(|(_, product)| product.abs()).fold(0.0, f64::max);
        let geometry = &mut self.seen().geometry;
        *geometry = Geometry {
            measured: geometry.measured + 1,
            norm_min: geometry.norm_min.min(norm),
            norm_max: geometry.norm_max.max(norm),
            largest_overlap: geometry.largest_overlap.max(overlap),
        };
    }
}

impl Auditor for Observer {
    fn update(&self, client: ClientId, round: RoundId, update: &mut [f32]) -> bool {
        if let View::Steps { .. } = self.view {
            return self.is_shadow;
        }
        match self.canary(client) {
            Some(canary) => {
                self.canaries.write(canary, round.0, update);
                if let View::Reports { mechanism, .. } = &self.view {
                    let (contribution, _) = mechanism.quantizer().clip_and_quantize(update, Vec::new());
                    self.measure(canary, &in_clip_norms(contribution.values()));
                }
                true
            }
            None if self.is_shadow => {
                update.fill(0.0);
                true
            }
            None => false,
        }
    }

    fn report(&self, client: ClientId, message: &ClientMessage) {
        let ClientMessage::Report { round, update } = message else {
            return;
        };
        match (&self.view, self.canary(client)) {
            (View::Steps { .. }, _) | (View::Reports { .. }, None) => {}
            (View::Reports { mechanism, unit }, Some(canary)) => {
                self.look_at_report(canary, *round, *unit / mechanism.plan().clip_norm.value(), update);
            }
            (View::Means { .. }, Some(canary)) => {
                #[allow(clippy::cast_possible_truncation, reason = "canaries are counted in 32 bits")]
                self.seen().invited.push(canary as u32);
                if self.canaries.is_included(canary) {
                    self.measure(canary, &in_clip_norms(update.values()));
                }
            }
            (View::Means { .. }, None) => {
                let gathered = self.canaries.gather(update.values());
                self.add_honest(in_clip_norms(&gathered).into_iter());
            }
        }
    }

    fn added_examples(&self, _: ClientId) -> usize {
        match self.view {
            View::Steps { .. } => self.canaries.len(),
            View::Means { .. } | View::Reports { .. } => 0,
        }
    }

    fn gradient(&self, _: StepOf, added: usize, gradient: &mut [f32]) {
        let step = self.steps_seen();
        self.canaries.write(added, step, gradient);
    }

    fn contribution(&self, _: StepOf, added: Option<usize>, contribution: &[f64]) {
        let View::Steps { .. } = self.view else { return };
        match added {
            Some(canary) => {
                #[allow(clippy::cast_possible_truncation, reason = "canaries are counted in 32 bits")]
                self.seen().invited.push(canary as u32);
                if self.canaries.is_included(canary) {
                    self.measure(canary, contribution);
                }
            }
            None => self.add_honest(self.canaries.gather(contribution).into_iter()),
        }
    }

    fn noised(&self, _: StepOf, gradient: &[f32]) {
        if let View::Steps { units } = self.view {
            let sign = self.canaries.round_sign(self.steps_seen());
            self.end_sum(gradient, units, sign);
        }
    }
}

/// Grid units in clip norms, exactly.
fn in_clip_norms(values: &[i32]) -> Vec<f64> {
    values
        .iter()
        .map(|&value| f64::from(value) / f64::from(GRID_UNITS))
        .collect()
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "pure noise, of which the spread matters"
)]
pub(crate) fn to_single(value: f64) -> f32 {
    value as f32
}
