//! A random rotation that spreads a vector's norm over all its coordinates.

use rand_core::Rng;

use crate::source::RandomStream;

/// An orthogonal map of ℝ^d, drawn from public coins: random signs and a Hadamard transform of the first 2^m coordinates, then
/// random signs and one of the last 2^m, where 2^m is the largest power of two up to d.
///
/// The two stretches cover everything, so no coordinate is added: padding to a power of two would cost up to half of the
/// upload. For a fixed vector x every coordinate of the result is sub-Gaussian over the coins with variance proxy
/// ‖x‖² / 2^m ≤ 2‖x‖² / d (Hoeffding: a sum of m terms with random signs; the signs of each stretch are drawn after what goes
/// into it is fixed).
///
/// Norms are those of the input up to the rounding of `f32`. Privacy does not hang on that: integers are checked afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rotation {
    dimension: usize,
}

impl Rotation {
    pub(crate) fn new(dimension: usize) -> Self {
        Self { dimension }
    }

    /// 2^m, the length of a stretch; 0 for an empty vector.
    pub(crate) fn stretch(self) -> usize {
        match self.dimension {
            0 => 0,
            d => 1 << d.ilog2(),
        }
    }

    /// Rotates a vector of the right length.
    pub(crate) fn apply(self, values: &mut [f32], coins: &mut RandomStream) {
        let first = self.dimension - self.stretch();
        flip_signs(values, coins);
        hadamard(&mut values[..self.stretch()]);
        if first > 0 {
            flip_signs(values, coins);
            hadamard(&mut values[first..]);
        }
    }

    /// Undoes [`apply`](Self::apply) with the same coins.
    pub(crate) fn undo(self, values: &mut [f32], coins: &mut RandomStream) {
        let first = self.dimension - self.stretch();
        let [signs, later_signs] = [(), ()].map(|()| signs(self.dimension, coins));
        if first > 0 {
            hadamard(&mut values[first..]);
            apply_signs(values, &later_signs);
        }
        hadamard(&mut values[..self.stretch()]);
        apply_signs(values, &signs);
    }
}

fn flip_signs(values: &mut [f32], coins: &mut RandomStream) {
    let signs = signs(values.len(), coins);
    apply_signs(values, &signs);
}

/// One bit a coordinate.
fn signs(dimension: usize, coins: &mut RandomStream) -> Vec<u64> {
    (0..dimension.div_ceil(64)).map(|_| coins.next_u64()).collect()
}

fn apply_signs(values: &mut [f32], signs: &[u64]) {
    for (block, &word) in values.chunks_mut(64).zip(signs) {
        for (i, value) in block.iter_mut().enumerate() {
            // The sign bit of a float.
            let flip = u32::from(word >> i & 1 == 1) << 31;
            *value = f32::from_bits(value.to_bits() ^ flip);
        }
    }
}

/// Values that fit into the first-level cache: strides below this are done block by block.
const BLOCK: usize = 4_096;

/// The orthonormal Walsh–Hadamard transform of 2^m values, in place; it is its own inverse.
fn hadamard(values: &mut [f32]) {
    for block in values.chunks_mut(BLOCK) {
        butterflies(block, 1);
    }
    butterflies(values, BLOCK);
    #[allow(
        clippy::cast_possible_truncation,
        reason = "a factor in single precision is enough"
    )]
    let scale = (1.0 / (values.len().max(1) as f64).sqrt()) as f32;
    values.iter_mut().for_each(|value| *value *= scale);
}

/// All levels from this stride on.
fn butterflies(values: &mut [f32], first_stride: usize) {
    let mut stride = first_stride;
    while stride < values.len() {
        for pair in values.chunks_mut(2 * stride) {
            let (low, high) = pair.split_at_mut(stride);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        stride *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::l2_norm;
    use crate::source::{Purpose, SimulationSeed};

    fn coins(seed: u64) -> RandomStream {
        SimulationSeed::new(seed).stream(Purpose::Rotation, 0, 0)
    }

    #[test]
    fn a_rotation_keeps_norms_and_can_be_undone() {
        for dimension in [0, 1, 2, 3, 7, 8, 9, 100, 4_096, 5_000, 20_001] {
            let rotation = Rotation::new(dimension);
            let original: Vec<f32> = (0..dimension).map(|i| (i as f32 * 0.7).sin()).collect();
            let mut values = original.clone();
            rotation.apply(&mut values, &mut coins(1));
            assert!((l2_norm(&values) - l2_norm(&original)).abs() <= 1e-5 * l2_norm(&original));
            rotation.undo(&mut values, &mut coins(1));
            for (value, original) in values.iter().zip(&original) {
                assert!((value - original).abs() < 1e-5, "{dimension}");
            }
        }
    }

    #[test]
    fn the_transform_is_the_hadamard_matrix() {
        for n in [1_usize, 2, 8, 8_192] {
            for column in [0, n / 2, n / 3, n - 1] {
                let mut values = vec![0.0; n];
                values[column] = 1.0;
                hadamard(&mut values);
                for (row, value) in values.iter().enumerate() {
                    let sign = if (row & column).count_ones() % 2 == 0 {
                        1.0
                    } else {
                        -1.0
                    };
                    assert!((f64::from(*value) - sign / (n as f64).sqrt()).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn no_vector_keeps_a_large_coordinate() {
        // Over 200 rotations of unit vectors that are as concentrated as can be: all coordinates within the sub-Gaussian bound
        // whose failure has a chance of 1e-6 in all together, 2·d·exp(−t²/2) each.
        let dimension = 3_000;
        let rotation = Rotation::new(dimension);
        let t = (2.0 * (2.0 * dimension as f64 * 200.0 / 1e-6).ln()).sqrt();
        let bound = t / (rotation.stretch() as f64).sqrt();
        for seed in 0..200 {
            let mut values = vec![0.0; dimension];
            let place = usize::try_from(seed).unwrap() * 15;
            values[place] = 0.6;
            values[(place + 1_024) % dimension] = -0.8;
            rotation.apply(&mut values, &mut coins(seed));
            let largest = values
                .iter()
                .fold(0.0_f32, |largest, value| largest.max(value.abs()));
            assert!(f64::from(largest) < bound, "{largest} {bound}");
        }
    }
}
