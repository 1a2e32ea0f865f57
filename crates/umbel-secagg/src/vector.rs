//! Integers modulo 2^b: vectors, their packed form, and masks.

use chacha20::cipher::array::Array;
use chacha20::cipher::consts::U64;
use chacha20::cipher::{
    Block, BlockSizeUser, KeyIvInit, StreamCipherBackend, StreamCipherClosure, StreamCipherCore,
};
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, R20};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of sums that all masks are added to before the next ones: small enough for the first-level cache. Whole blocks of keystream.
const STRETCH_BYTES: usize = 16_384;

/// Bytes of one block of keystream.
const BLOCK_BYTES: usize = 64;

/// Blocks of keystream that are written before they are read: words are written in other widths than they are read in, which a
/// processor does at full speed only once they have left its store buffer.
const BUFFER_BLOCKS: usize = 64;

/// Whether a mask is added or subtracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Plus,
    Minus,
}

/// The 256-bit key of one mask, and its sign.
pub(crate) type Mask = (Zeroizing<[u8; 32]>, Sign);

/// A vector modulo 2^b in the narrowest words that hold b bits: since 2^b divides 2^16, 2^32 and 2^64, words add with
/// wrap-around, and are reduced to b bits at the end only.
#[derive(Clone)]
pub(crate) enum Residues {
    Narrow(Vec<u16>),
    Medium(Vec<u32>),
    Wide(Vec<u64>),
}

impl Residues {
    /// Zeros modulo 2^`bits`, `bits` from 1 to 64.
    pub(crate) fn zeros(length: usize, bits: u32) -> Self {
        match bits {
            0..=16 => Self::Narrow(vec![0; length]),
            17..=32 => Self::Medium(vec![0; length]),
            _ => Self::Wide(vec![0; length]),
        }
    }

    /// Integers modulo 2^`bits`.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "reduction modulo a power of two is what is asked for"
    )]
    pub(crate) fn from_integers(values: &[i64], bits: u32) -> Self {
        match bits {
            0..=16 => Self::Narrow(values.iter().map(|value| *value as u16).collect()),
            17..=32 => Self::Medium(values.iter().map(|value| *value as u32).collect()),
            _ => Self::Wide(values.iter().map(|value| *value as u64).collect()),
        }
    }

    /// The representatives in [−2^(b−1), 2^(b−1)).
    pub(crate) fn to_centered(&self, bits: u32) -> Vec<i64> {
        let shift = 64 - bits;
        let center = |word: u64| word.cast_signed() << shift >> shift;
        match self {
            Self::Narrow(words) => words.iter().map(|word| center(u64::from(*word))).collect(),
            Self::Medium(words) => words.iter().map(|word| center(u64::from(*word))).collect(),
            Self::Wide(words) => words.iter().map(|word| center(*word)).collect(),
        }
    }

    /// Adds masks on up to `n_threads` threads, each on its own stretch of coordinates.
    pub(crate) fn add_masks(&mut self, masks: &[Mask], n_threads: usize) {
        match self {
            Self::Narrow(words) => add_masks(words, masks, n_threads),
            Self::Medium(words) => add_masks(words, masks, n_threads),
            Self::Wide(words) => add_masks(words, masks, n_threads),
        }
    }

    /// The lowest b bits of each word, one after the other, the first in the lowest bits of the first byte.
    pub(crate) fn pack(&self, bits: u32) -> Vec<u8> {
        match self {
            Self::Narrow(words) => pack(words.iter().map(|word| u64::from(*word)), bits),
            Self::Medium(words) => pack(words.iter().map(|word| u64::from(*word)), bits),
            Self::Wide(words) => pack(words.iter().copied(), bits),
        }
    }

    /// Adds what [`pack`](Self::pack) made. `bytes` must be of the [right length](packed_bytes) with zeros as padding:
    /// else nothing is added and the answer is false.
    pub(crate) fn add_packed(&mut self, bytes: &[u8], bits: u32) -> bool {
        match self {
            Self::Narrow(words) => add_packed(words, bytes, bits),
            Self::Medium(words) => add_packed(words, bytes, bits),
            Self::Wide(words) => add_packed(words, bytes, bits),
        }
    }
}

impl Zeroize for Residues {
    fn zeroize(&mut self) {
        match self {
            Self::Narrow(words) => words.zeroize(),
            Self::Medium(words) => words.zeroize(),
            Self::Wide(words) => words.zeroize(),
        }
    }
}

/// Bytes of `length` values of `bits` bits.
pub(crate) fn packed_bytes(length: usize, bits: u32) -> usize {
    (length as u64 * u64::from(bits))
        .div_ceil(8)
        .try_into()
        .unwrap_or(usize::MAX)
}

/// An unsigned word that adds with wrap-around.
trait Word: Copy + Send {
    const BYTES: usize;
    fn from_low_bits(bits: u64) -> Self;
    fn combine(sums: &mut [Self], keystream: &[u8], sign: Sign);
    fn add(self, other: Self) -> Self;
}

macro_rules! word {
    ($type:ty) => {
        impl Word for $type {
            const BYTES: usize = size_of::<$type>();

            #[allow(
                clippy::cast_possible_truncation,
                reason = "the low bits are asked for"
            )]
            #[allow(trivial_numeric_casts, reason = "one of the words has 64 bits")]
            fn from_low_bits(bits: u64) -> Self {
                bits as Self
            }

            #[inline(always)]
            fn combine(sums: &mut [Self], keystream: &[u8], sign: Sign) {
                let (words, _) = keystream.as_chunks::<{ size_of::<$type>() }>();
                match sign {
                    Sign::Plus => sums
                        .iter_mut()
                        .zip(words)
                        .for_each(|(sum, word)| *sum = sum.wrapping_add(Self::from_le_bytes(*word))),
                    Sign::Minus => sums
                        .iter_mut()
                        .zip(words)
                        .for_each(|(sum, word)| *sum = sum.wrapping_sub(Self::from_le_bytes(*word))),
                }
            }

            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
        }
    };
}

word!(u16);
word!(u32);
word!(u64);

fn add_masks<W: Word>(sums: &mut [W], masks: &[Mask], n_threads: usize) {
    let stretch = STRETCH_BYTES / W::BYTES;
    let n_stretches = sums.len().div_ceil(stretch).max(1);
    let share = n_stretches.div_ceil(n_threads.clamp(1, n_stretches)) * stretch;
    if sums.len() <= share {
        add_masks_from(sums, masks, 0);
        return;
    }
    std::thread::scope(|scope| {
        for (i, part) in sums.chunks_mut(share).enumerate() {
            scope.spawn(move || add_masks_from(part, masks, i * share));
        }
    });
}

/// Adds masks to the coordinates from `first` on, where `first` is a multiple of a stretch.
///
/// A mask is the keystream of ChaCha20 (RFC 8439) with nonce 0 from block 0 on, read as little-endian words.
fn add_masks_from<W: Word>(sums: &mut [W], masks: &[Mask], first: usize) {
    let block = u32::try_from(first * W::BYTES / BLOCK_BYTES).expect("a vector is shorter than 2^38 bytes");
    // The state of each is wiped when it is dropped.
    let mut generators: Vec<(Generator, Sign)> = masks
        .iter()
        .map(|(key, sign)| {
            let mut generator = Generator::new(&(**key).into(), &[0; 12].into());
            generator.set_block_pos(block);
            (generator, *sign)
        })
        .collect();
    for part in sums.chunks_mut(STRETCH_BYTES / W::BYTES) {
        for (generator, sign) in &mut generators {
            generator.process_with_backend(AddMask {
                sums: part,
                sign: *sign,
            });
        }
    }
}

type Generator = ChaChaCore<R20, Ietf>;

/// Adds keystream to sums. It is called by the generator with the processor's widest instructions, so both are compiled for these.
struct AddMask<'a, W> {
    sums: &'a mut [W],
    sign: Sign,
}

impl<W> BlockSizeUser for AddMask<'_, W> {
    type BlockSize = U64;
}

impl<W: Word> StreamCipherClosure for AddMask<'_, W> {
    #[inline(always)]
    fn call<B: StreamCipherBackend<BlockSize = U64>>(self, backend: &mut B) {
        let mut buffer = [Block::<B>::default(); BUFFER_BLOCKS];
        for part in self.sums.chunks_mut(BUFFER_BLOCKS * BLOCK_BYTES / W::BYTES) {
            let blocks = &mut buffer[..(part.len() * W::BYTES).div_ceil(BLOCK_BYTES)];
            let (at_once, rest) = Array::slice_as_chunks_mut(blocks);
            for blocks in at_once {
                backend.gen_par_ks_blocks(blocks);
            }
            backend.gen_tail_blocks(rest);
            let bytes = Array::cast_slice_to_core(&buffer).as_flattened();
            W::combine(part, bytes, self.sign);
        }
        buffer.iter_mut().for_each(|block| block.zeroize());
    }
}

fn pack(words: impl ExactSizeIterator<Item = u64>, bits: u32) -> Vec<u8> {
    let low = u64::MAX >> (64 - bits);
    let mut bytes = Vec::with_capacity(packed_bytes(words.len(), bits) + 16);
    let (mut pending, mut n_pending) = (0_u128, 0);
    for word in words {
        pending |= u128::from(word & low) << n_pending;
        n_pending += bits;
        while n_pending >= 32 {
            bytes.extend_from_slice(&low_32(pending).to_le_bytes());
            pending >>= 32;
            n_pending -= 32;
        }
    }
    let rest = n_pending.div_ceil(8) as usize;
    bytes.extend_from_slice(&pending.to_le_bytes()[..rest]);
    bytes
}

fn add_packed<W: Word>(sums: &mut [W], bytes: &[u8], bits: u32) -> bool {
    let n_bits = sums.len() as u64 * u64::from(bits);
    if bytes.len() != packed_bytes(sums.len(), bits) {
        return false;
    }
    let used = n_bits % 8;
    if used > 0 && bytes.last().is_some_and(|last| last >> used != 0) {
        return false;
    }
    let low = u64::MAX >> (64 - bits);
    let (words, rest) = bytes.as_chunks::<4>();
    let mut words = words.iter();
    let (mut pending, mut n_pending) = (0_u128, 0);
    for sum in sums {
        while n_pending < bits {
            let word = match words.next() {
                Some(word) => u32::from_le_bytes(*word),
                None => {
                    let mut last = [0; 4];
                    last[..rest.len()].copy_from_slice(rest);
                    u32::from_le_bytes(last)
                }
            };
            pending |= u128::from(word) << n_pending;
            n_pending += 32;
        }
        *sum = sum.add(W::from_low_bits(low_64(pending) & low));
        pending >>= bits;
        n_pending -= bits;
    }
    true
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is asked for")]
fn low_32(value: u128) -> u32 {
    value as u32
}

#[allow(clippy::cast_possible_truncation, reason = "the low half is asked for")]
fn low_64(value: u128) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(byte: u8, sign: Sign) -> Mask {
        (Zeroizing::new([byte; 32]), sign)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn packing_loses_nothing(bits in 1_u32..=64, values in prop::collection::vec(any::<i64>(), 0..70)) {
            let vector = Residues::from_integers(&values, bits);
            let packed = vector.pack(bits);
            prop_assert_eq!(packed.len(), packed_bytes(values.len(), bits));
            let mut sum = Residues::zeros(values.len(), bits);
            prop_assert!(sum.add_packed(&packed, bits));
            let expected: Vec<i64> = values.iter().map(|v| v << (64 - bits) >> (64 - bits)).collect();
            prop_assert_eq!(sum.to_centered(bits), expected);
            prop_assert!(!sum.add_packed(&[&packed[..], &[0]].concat(), bits));
        }

        #[test]
        fn masks_cancel_whatever_the_number_of_threads(
            bits in 1_u32..=64,
            values in prop::collection::vec(any::<i64>(), 0..20_000),
            n_threads in 1_usize..5,
        ) {
            let mut vector = Residues::from_integers(&values, bits);
            let before = vector.to_centered(bits);
            vector.add_masks(&[mask(1, Sign::Plus), mask(2, Sign::Minus), mask(3, Sign::Minus)], n_threads);
            if values.len() > 40 {
                prop_assert!(vector.to_centered(bits) != before);
            }
            vector.add_masks(&[mask(3, Sign::Plus), mask(2, Sign::Plus), mask(1, Sign::Minus)], 1);
            prop_assert_eq!(vector.to_centered(bits), before);
        }
    }

    #[test]
    fn padding_must_be_zero() {
        let mut sum = Residues::zeros(3, 3);
        assert!(sum.add_packed(&[0xff, 0x01], 3));
        assert!(!sum.add_packed(&[0xff, 0x03], 3));
        assert_eq!(sum.to_centered(3), [-1, -1, -1]);
    }
}
