//! What the attacker plays in a run, and what it sees of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use umbel_mechanisms::{GRID_UNITS, QuantizedUpdate};
use umbel_protocol::{ClientId, ClientMessage, RoundId};
use umbel_sim::Auditor;

use crate::canaries::Canaries;

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
    seen: Mutex<Seen>,
}

/// Everything that was seen of a run.
#[derive(Debug)]
pub struct Observations {
    pub(crate) canaries: Canaries,
    pub(crate) geometry: Geometry,
    pub(crate) rounds: Vec<ObservedRound>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Sum of the open round's honest reports at the canaries' coordinates, in grid units.
    honest: Vec<i64>,
    /// Canaries that were invited to the open round.
    invited: Vec<u32>,
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

impl Observer {
    /// An attacker that plays the clients from `first` on. With `is_shadow` all other clients send zeros.
    pub fn new(canaries: Canaries, first: ClientId, is_shadow: bool) -> Self {
        let seen = Mutex::new(Seen {
            honest: vec![0; canaries.order()],
            measured: vec![false; canaries.len()],
            ..Seen::default()
        });
        Self {
            canaries,
            first: first.0,
            is_shadow,
            seen,
        }
    }

    /// Tells what a round released: `mean` is the noised mean, the model's step. `units` is what turns it into clip norms of the
    /// sum, divisor / clip norm.
    pub fn end_round(&self, round: RoundId, mean: &[f32], units: f64) {
        let mut seen = self.seen();
        let mut residual: Vec<f64> = self.canaries.gather(mean).into_iter().map(f64::from).collect();
        for (value, honest) in residual.iter_mut().zip(&mut seen.honest) {
            *value = *value * units - to_f64(std::mem::take(honest)) / f64::from(GRID_UNITS);
        }
        let sign = Canaries::round_sign(round.0);
        let mut scores = self.canaries.project(residual);
        for score in &mut scores {
            *score *= sign;
        }
        let unused = scores.split_off(self.canaries.len());
        let mut invited = std::mem::take(&mut seen.invited);
        invited.sort_unstable();
        seen.rounds.push(ObservedRound {
            invited,
            scores,
            unused: unused.into_iter().take(MOST_UNUSED).map(to_single).collect(),
        });
    }

    /// Everything that was seen, once the run is over.
    pub fn finish(self) -> Observations {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        Observations {
            canaries: self.canaries,
            geometry: seen.geometry,
            rounds: seen.rounds,
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn canary(&self, client: ClientId) -> Option<usize> {
        let canary = usize::try_from(client.0.checked_sub(self.first)?).ok()?;
        (canary < self.canaries.len()).then_some(canary)
    }

    fn measure(&self, canary: usize, update: &QuantizedUpdate) {
        let is_new = !std::mem::replace(&mut self.seen().measured[canary], true);
        if !is_new {
            return;
        }
        let grid = f64::from(GRID_UNITS);
        let values = update.values();
        let norm = values
            .iter()
            .map(|&value| (f64::from(value) / grid).powi(2))
            .sum::<f64>()
            .sqrt();
        let gathered = self
            .canaries
            .gather(values)
            .into_iter()
            .map(|value| f64::from(value) / grid);
        let products = self.canaries.project(gathered.collect());
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
        match self.canary(client) {
            Some(canary) => {
                self.canaries.write(canary, round.0, update);
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
        let ClientMessage::Report { update, .. } = message else {
            return;
        };
        match self.canary(client) {
            Some(canary) => {
                #[allow(clippy::cast_possible_truncation, reason = "canaries are counted in 32 bits")]
                self.seen().invited.push(canary as u32);
                if self.canaries.is_included(canary) {
                    self.measure(canary, update);
                }
            }
            None => {
                let gathered = self.canaries.gather(update.values());
                for (sum, value) in self.seen().honest.iter_mut().zip(gathered) {
                    *sum += i64::from(value);
                }
            }
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "rounds 2^-53 relative, far below the noise"
)]
fn to_f64(value: i64) -> f64 {
    value as f64
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "pure noise, of which the spread matters"
)]
fn to_single(value: f64) -> f32 {
    value as f32
}
