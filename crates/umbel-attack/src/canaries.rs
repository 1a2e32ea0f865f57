//! Canary clients: the updates that an attacker recognises best.

use rand_core::Rng as _;
use umbel_mechanisms::{NO_CLIENT, Purpose, RandomStream, SimulationSeed};

use crate::guessing::coins;

/// Canary clients with orthogonal updates of plus and minus one size, each in the run by its own fair coin.
///
/// With d parameters the updates live on n = 2^k ≤ d coordinates, chosen at random from all of them so that every layer is hit:
/// canary i has the signs of row r_i of the Hadamard matrix of order n, times random signs common to all. In even rounds all
/// signs are turned: then what two rounds have in common, noise used twice for example, falls out of an attacker's sum while the
/// canary stays.
///
/// Raw updates are far above the clip norm ([`OVERSHOOT`](Self::OVERSHOOT)), as a client that wants to leak would send them; the
/// run's own clipping brings them to it.
#[derive(Debug)]
pub struct Canaries {
    /// The coordinate of each column of the Hadamard matrix.
    support: Vec<usize>,
    /// The common sign of each column.
    signs: Vec<f32>,
    /// The row of each canary, then all other rows.
    rows: Vec<usize>,
    included: Vec<bool>,
    /// Size of a raw update's values.
    size: f32,
    /// What a canary sends that is not included: the opposite update, else zeros.
    is_replaced: bool,
    /// Whether the signs are turned in even rounds.
    turns: bool,
}

/// There are fewer dimensions than canaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{canaries} canaries need a model of at least {canaries} parameters, in a power of two; this one has {parameters}"
)]
pub struct TooFewDimensions {
    /// How many canaries were asked for.
    pub canaries: usize,
    /// Parameters of the model.
    pub parameters: usize,
}

impl Canaries {
    /// Norm of a raw update in clip norms.
    pub const OVERSHOOT: f64 = 64.0;

    /// `n_canaries` canaries for a model of `dimension` parameters whose updates are clipped to about `clip_norm`.
    pub fn new(
        n_canaries: usize,
        dimension: usize,
        clip_norm: f64,
        seed: SimulationSeed,
    ) -> Result<Self, TooFewDimensions> {
        let too_few = TooFewDimensions {
            canaries: n_canaries,
            parameters: dimension,
        };
        let order = match dimension.checked_ilog2() {
            Some(log) if n_canaries <= 1 << log => 1 << log,
            _ => return Err(too_few),
        };
        // Streams of one purpose are told apart by their number.
        let stream = |number| seed.stream(Purpose::Canary, number, NO_CLIENT);
        let mut support = shuffled(dimension, &mut stream(1));
        support.truncate(order);
        let mut bits = stream(2);
        let signs = (0..order)
            .map(|_| if bits.next_u32() >> 31 == 1 { -1.0 } else { 1.0 })
            .collect();
        #[allow(clippy::cast_precision_loss, reason = "dimensions are far below 2^53")]
        let size = to_single(Self::OVERSHOOT * clip_norm / (order as f64).sqrt());
        Ok(Self {
            support,
            signs,
            rows: shuffled(order, &mut stream(3)),
            included: coins(seed, n_canaries),
            size,
            is_replaced: false,
            turns: true,
        })
    }

    /// A canary that is not included sends the opposite update instead of zeros: replace-one.
    pub fn replaced(self) -> Self {
        Self {
            is_replaced: true,
            ..self
        }
    }

    /// Updates keep their signs in all rounds, for noise that is correlated between rounds by design.
    pub fn steady(self) -> Self {
        Self { turns: false, ..self }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.included.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.included.is_empty()
    }

    /// Coordinates that canaries live on, a power of two.
    pub fn order(&self) -> usize {
        self.support.len()
    }

    /// Whether a canary is in the run: what an attacker is to find out.
    pub fn is_included(&self, canary: usize) -> bool {
        self.included[canary]
    }

    /// The sign that all updates of a round carry.
    pub fn round_sign(&self, round: u64) -> f64 {
        if self.turns && round.is_multiple_of(2) {
            -1.0
        } else {
            1.0
        }
    }

    /// Writes the raw update of a canary in a round: zeros if it is not included, like a declared client without data, unless
    /// canaries are [replaced](Self::replaced).
    pub fn write(&self, canary: usize, round: u64, update: &mut [f32]) {
        update.fill(0.0);
        let is_included = self.included[canary];
        if !is_included && !self.is_replaced {
            return;
        }
        let row = self.rows[canary];
        let is_turned = self.round_sign(round) < 0.0;
        let size = if is_turned == is_included {
            -self.size
        } else {
            self.size
        };
        for (column, (&place, sign)) in self.support.iter().zip(&self.signs).enumerate() {
            let is_odd = (row & column).count_ones() % 2 == 1;
            update[place] = if is_odd { -size * sign } else { size * sign };
        }
    }

    /// The values at the canaries' coordinates, in the order of columns.
    pub fn gather<T: Copy>(&self, vector: &[T]) -> Vec<T> {
        self.support.iter().map(|&place| vector[place]).collect()
    }

    /// Inner products of what was [gathered](Self::gather) with the unit vectors of all rows: those of the canaries in their
    /// order, then those of directions that no canary uses.
    pub fn project(&self, mut gathered: Vec<f64>) -> Vec<f64> {
        for (value, &sign) in gathered.iter_mut().zip(&self.signs) {
            *value *= f64::from(sign);
        }
        walsh_hadamard(&mut gathered);
        #[allow(clippy::cast_precision_loss, reason = "dimensions are far below 2^53")]
        let scale = 1.0 / (gathered.len() as f64).sqrt();
        self.rows.iter().map(|&row| gathered[row] * scale).collect()
    }
}

/// The product with the Hadamard matrix of order 2^k, in place: (−1)^(bits that row and column share), summed.
fn walsh_hadamard(values: &mut [f64]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(2 * half) {
            let (first, second) = block.split_at_mut(half);
            for (a, b) in first.iter_mut().zip(second) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// 0 to n − 1 in random order (Fisher, Yates).
fn shuffled(n: usize, stream: &mut RandomStream) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..n).collect();
    for last in (1..n).rev() {
        // The product of a 64-bit fraction with a length: its bias is below 2^-40 for any model.
        let product = u128::from(stream.next_u64()) * (last as u128 + 1);
        #[allow(clippy::cast_possible_truncation, reason = "at most `last`")]
        numbers.swap(last, (product >> 64) as usize);
    }
    numbers
}

#[allow(clippy::cast_possible_truncation, reason = "updates are single precision")]
fn to_single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canaries(n: usize, dimension: usize) -> Canaries {
        Canaries::new(n, dimension, 1.0, SimulationSeed::new(3)).unwrap()
    }

    #[test]
    fn included_canaries_are_orthogonal_and_project_onto_themselves() {
        let canaries = canaries(30, 70);
        assert_eq!(canaries.order(), 64);
        let mut update = vec![9.0; 70];
        for canary in 0..30 {
            for round in [1, 2] {
                canaries.write(canary, round, &mut update);
                let gathered = canaries.gather(&update).into_iter().map(f64::from).collect();
                let products = canaries.project(gathered);
                for (place, product) in products.iter().enumerate() {
                    let expected = if place == canary && canaries.is_included(canary) {
                        Canaries::OVERSHOOT * canaries.round_sign(round)
                    } else {
                        0.0
                    };
                    assert!((product - expected).abs() < 1e-4, "{canary} {place}: {product}");
                }
            }
        }
        assert!((0..30).any(|canary| canaries.is_included(canary)));
        assert!((0..30).any(|canary| !canaries.is_included(canary)));
    }

    #[test]
    fn there_must_be_as_many_dimensions_as_canaries() {
        let refused = Canaries::new(100, 127, 1.0, SimulationSeed::new(1)).unwrap_err();
        assert_eq!((refused.canaries, refused.parameters), (100, 127));
        assert!(Canaries::new(1, 0, 1.0, SimulationSeed::new(1)).is_err());
        assert_eq!(
            Canaries::new(128, 128, 1.0, SimulationSeed::new(1))
                .unwrap()
                .len(),
            128
        );
    }
}
