//! The integer sum of a round's updates.

use umbel_accounting::ClipNorm;

use crate::blocks::vectorised;
use crate::quantize::{GRID_UNITS, QuantizedUpdate};

/// The sum of quantised updates in grid units, exact whatever the order and grouping of additions.
///
/// It is not private. Its values leave this type only through
/// [`CentralGaussian::release`](crate::CentralGaussian::release), which adds the noise, and through
/// [`to_unprotected_bytes`](Self::to_unprotected_bytes), for a checkpoint that stays as secret as the updates.
#[derive(Clone, PartialEq, Eq)]
pub struct IntegerSum {
    values: Vec<i64>,
    n_added: u64,
    /// The clip norm of the updates added so far.
    clip_norm_bits: Option<u64>,
}

/// Why something cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SumError {
    /// The number of coordinates differs.
    #[error("expected {expected} coordinates, got {got}")]
    Dimension {
        /// The sum's.
        expected: usize,
        /// The addend's.
        got: usize,
    },
    /// The addend was quantised for another clip norm.
    #[error("expected values quantised for one clip norm, got another's")]
    Grid,
    /// More updates than are known not to overflow.
    #[error("a sum takes at most {} updates", IntegerSum::MAX_ADDED)]
    TooMany,
}

/// Why bytes are not a stored sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SumDecodeError {
    /// A field has a value that no sum has.
    #[error("not a stored sum: {0}")]
    Invalid(&'static str),
    /// There are more coordinates than the caller allows.
    #[error("a stored sum has {got} coordinates, at most {limit} are allowed")]
    TooLong {
        /// What the caller allows.
        limit: usize,
        /// What the bytes say.
        got: u64,
    },
}

const MAGIC: &[u8; 8] = b"umbelsu1";
const HEADER_BYTES: usize = 8 + 3 * 8;

impl IntegerSum {
    /// The most updates one sum takes: 2^31 values of at most 2^30 stay below 2^61, far from an overflow.
    pub const MAX_ADDED: u64 = 1 << 31;

    /// A sum of nothing, with this many coordinates.
    pub fn new(dimension: usize) -> Self {
        Self {
            values: vec![0; dimension],
            n_added: 0,
            clip_norm_bits: None,
        }
    }

    /// The sum that secure aggregation opened, of `n_added` contributions for this clip norm. Nobody saw them, so nobody has
    /// checked their norms: each honest client has bounded its own.
    pub fn from_aggregate(values: Vec<i64>, n_added: u64, clip_norm: ClipNorm) -> Self {
        Self {
            values,
            n_added,
            clip_norm_bits: Some(clip_norm.value().to_bits()),
        }
    }

    /// Adds one update. On an error nothing has changed.
    pub fn add(&mut self, update: &QuantizedUpdate) -> Result<(), SumError> {
        self.check(update.values().len(), Some(update.clip_norm_bits()), 1)?;
        self.clip_norm_bits = Some(update.clip_norm_bits());
        self.n_added += 1;
        let sums = &mut self.values;
        vectorised(
            #[inline(always)]
            || {
                for (sum, &value) in sums.iter_mut().zip(update.values()) {
                    *sum += i64::from(value);
                }
            },
        );
        Ok(())
    }

    /// Adds another sum. On an error nothing has changed.
    pub fn merge(&mut self, other: &Self) -> Result<(), SumError> {
        self.check(other.values.len(), other.clip_norm_bits, other.n_added)?;
        self.clip_norm_bits = self.clip_norm_bits.or(other.clip_norm_bits);
        self.n_added += other.n_added;
        for (sum, &value) in self.values.iter_mut().zip(&other.values) {
            *sum += value;
        }
        Ok(())
    }

    /// The number of coordinates.
    pub fn dimension(&self) -> usize {
        self.values.len()
    }

    /// How many updates were added. Under add-or-remove this number is itself secret.
    pub fn n_added(&self) -> u64 {
        self.n_added
    }

    /// The exact sum as bytes, for a checkpoint. **Nothing protects the clients in it**: keep it where the server keeps
    /// the updates themselves.
    ///
    /// Little endian: magic, dimension, number added, bits of the clip norm (0 if nothing was added), values as `i64`.
    pub fn to_unprotected_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 8 * self.values.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(self.values.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&self.n_added.to_le_bytes());
        bytes.extend_from_slice(&self.clip_norm_bits.unwrap_or(0).to_le_bytes());
        for value in &self.values {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`to_unprotected_bytes`](Self::to_unprotected_bytes) wrote, and refuses what it cannot have written.
    pub fn from_unprotected_bytes(bytes: &[u8], max_dimension: usize) -> Result<Self, SumDecodeError> {
        let (magic, rest) = bytes
            .split_first_chunk::<8>()
            .ok_or(SumDecodeError::Invalid("too short"))?;
        if magic != MAGIC {
            return Err(SumDecodeError::Invalid("unknown beginning"));
        }
        let (words, odd_bytes) = rest.as_chunks::<8>();
        let [dimension, n_added, clip_norm_bits, values @ ..] = words else {
            return Err(SumDecodeError::Invalid("too short"));
        };
        let dimension = u64::from_le_bytes(*dimension);
        if dimension > max_dimension as u64 {
            return Err(SumDecodeError::TooLong {
                limit: max_dimension,
                got: dimension,
            });
        }
        if values.len() as u64 != dimension || !odd_bytes.is_empty() {
            return Err(SumDecodeError::Invalid("length and dimension disagree"));
        }
        let n_added = u64::from_le_bytes(*n_added);
        if n_added > Self::MAX_ADDED {
            return Err(SumDecodeError::Invalid("too many updates"));
        }
        let clip_norm_bits = match (u64::from_le_bytes(*clip_norm_bits), n_added) {
            (0, 0) => None,
            (bits, 1..) if ClipNorm::new(f64::from_bits(bits)).is_ok() => Some(bits),
            _ => return Err(SumDecodeError::Invalid("clip norm")),
        };
        let bound = n_added * u64::from(GRID_UNITS);
        let values: Vec<i64> = values.iter().map(|word| i64::from_le_bytes(*word)).collect();
        if values.iter().any(|value| value.unsigned_abs() > bound) {
            return Err(SumDecodeError::Invalid("a value above the bound"));
        }
        Ok(Self {
            values,
            n_added,
            clip_norm_bits,
        })
    }

    pub(crate) fn into_values(self) -> Vec<i64> {
        self.values
    }

    /// Whether everything added was quantised for this clip norm.
    pub(crate) fn is_on_grid_of(&self, clip_norm: ClipNorm) -> bool {
        self.clip_norm_bits
            .is_none_or(|bits| bits == clip_norm.value().to_bits())
    }

    fn check(&self, dimension: usize, clip_norm_bits: Option<u64>, n_added: u64) -> Result<(), SumError> {
        if dimension != self.values.len() {
            return Err(SumError::Dimension {
                expected: self.values.len(),
                got: dimension,
            });
        }
        if let (Some(own), Some(other)) = (self.clip_norm_bits, clip_norm_bits)
            && own != other
        {
            return Err(SumError::Grid);
        }
        if n_added > Self::MAX_ADDED - self.n_added {
            return Err(SumError::TooMany);
        }
        Ok(())
    }
}

impl std::fmt::Debug for IntegerSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntegerSum")
            .field("dimension", &self.values.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Quantizer;

    fn update(clip_norm: f64, values: Vec<i32>) -> QuantizedUpdate {
        Quantizer::new(ClipNorm::new(clip_norm).unwrap())
            .accept(values)
            .unwrap()
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut sum = IntegerSum::new(2);
        sum.add(&update(1.0, vec![1, -2])).unwrap();
        let before = sum.clone();
        assert_eq!(
            sum.add(&update(1.0, vec![1])),
            Err(SumError::Dimension { expected: 2, got: 1 })
        );
        assert_eq!(sum.add(&update(2.0, vec![1, 1])), Err(SumError::Grid));
        assert_eq!(
            sum.merge(&IntegerSum::new(3)),
            Err(SumError::Dimension { expected: 2, got: 3 })
        );
        let full = IntegerSum {
            n_added: IntegerSum::MAX_ADDED,
            ..before.clone()
        };
        assert_eq!(sum.merge(&full), Err(SumError::TooMany));
        assert_eq!(sum, before);
        sum.merge(&IntegerSum::new(2)).unwrap();
        assert_eq!(sum, before);
    }

    #[test]
    fn stored_sums_are_read_back_and_damage_is_found() {
        let mut sum = IntegerSum::new(3);
        for empty in [IntegerSum::new(0), sum.clone()] {
            assert_eq!(
                IntegerSum::from_unprotected_bytes(&empty.to_unprotected_bytes(), 3),
                Ok(empty)
            );
        }
        sum.add(&update(0.5, vec![5, -7, 0])).unwrap();
        sum.add(&update(0.5, vec![1, 0, 9])).unwrap();
        let bytes = sum.to_unprotected_bytes();
        assert_eq!(IntegerSum::from_unprotected_bytes(&bytes, 3).unwrap(), sum);
        assert_eq!(
            IntegerSum::from_unprotected_bytes(&bytes, 2),
            Err(SumDecodeError::TooLong { limit: 2, got: 3 })
        );
        for length in 0..bytes.len() {
            assert!(IntegerSum::from_unprotected_bytes(&bytes[..length], 3).is_err());
        }
        let damaged = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            IntegerSum::from_unprotected_bytes(&bytes, 3)
        };
        assert!(damaged(0, b'x').is_err());
        assert!(damaged(8, 2).is_err(), "dimension");
        assert!(damaged(16, 0).is_err(), "number added");
        assert!(damaged(31, 0xff).is_err(), "clip norm");
        assert!(damaged(39, 0x7f).is_err(), "value out of bound");
    }

    #[test]
    fn debug_output_shows_no_values() {
        assert_eq!(
            format!("{:?}", IntegerSum::new(2)),
            "IntegerSum { dimension: 2, .. }"
        );
    }

    proptest! {
        #[test]
        fn order_and_grouping_do_not_matter(
            updates in prop::collection::vec(prop::collection::vec(-400_000_000_i32..400_000_000, 4), 1..12),
            split in 0_usize..12,
        ) {
            let updates: Vec<_> = updates.into_iter().map(|values| update(1.0, values)).collect();
            let sum_of = |updates: &[&QuantizedUpdate]| {
                let mut sum = IntegerSum::new(4);
                for update in updates {
                    sum.add(update).unwrap();
                }
                sum
            };
            let forward: Vec<_> = updates.iter().collect();
            let backward: Vec<_> = updates.iter().rev().collect();
            let whole = sum_of(&forward);
            prop_assert_eq!(&whole, &sum_of(&backward));
            let (left, right) = forward.split_at(split.min(forward.len()));
            let mut merged = sum_of(right);
            merged.merge(&sum_of(left)).unwrap();
            prop_assert_eq!(&whole, &merged);
            prop_assert_eq!(whole.n_added(), updates.len() as u64);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = IntegerSum::from_unprotected_bytes(&bytes, 10);
            let _ = IntegerSum::from_unprotected_bytes(&[&MAGIC[..], &bytes].concat(), 10);
        }
    }
}
