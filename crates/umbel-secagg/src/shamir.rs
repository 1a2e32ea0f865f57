//! Threshold sharing of 256-bit secrets (Shamir 1979) over F_p, p = 2^61 − 1.
//!
//! A secret is cut into five limbs of 52 bits (the last has 48), each shared by its own polynomial of degree t − 1. Any t
//! shares give the secret, and fewer are independent of it: coefficients are uniform in the whole field, zero included.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::field;

const LIMBS: usize = 5;
const LIMB_BITS: u32 = 52;

/// A share's size as bytes.
pub(crate) const SHARE_BYTES: usize = LIMBS * 8;

/// The values of the five polynomials at one point.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Share(Zeroizing<[u64; LIMBS]>);

impl Share {
    /// The elements as little-endian words.
    pub(crate) fn to_bytes(&self) -> Zeroizing<[u8; SHARE_BYTES]> {
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        for (slot, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0.iter()) {
            *slot = limb.to_le_bytes();
        }
        bytes
    }

    /// Reads [`to_bytes`](Self::to_bytes); `None` if a word is no element of the field.
    pub(crate) fn from_bytes(bytes: &[u8; SHARE_BYTES]) -> Option<Self> {
        let mut limbs = Zeroizing::new([0; LIMBS]);
        for (limb, word) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*word);
        }
        limbs
            .iter()
            .all(|limb| *limb < field::PRIME)
            .then_some(Self(limbs))
    }
}

/// Shares of `secret` at the points 1 to `n_shares`, of which any `threshold` (at least 1) give it back.
pub(crate) fn split(
    secret: &[u8; 32],
    threshold: usize,
    n_shares: usize,
    rng: &mut impl CryptoRng,
) -> Vec<Share> {
    let mut shares = vec![Share(Zeroizing::new([0; LIMBS])); n_shares];
    for (place, limb) in limbs(secret).iter().enumerate() {
        let mut coefficients = Zeroizing::new(vec![*limb; threshold]);
        coefficients[1..].fill_with(|| field::random(rng));
        for (share, x) in shares.iter_mut().zip(1_u64..) {
            let value = coefficients.iter().rev().fold(0, |value, coefficient| {
                field::add(field::multiply(value, x), *coefficient)
            });
            share.0[place] = value;
        }
    }
    shares
}

/// The Lagrange coefficients at zero of these distinct points other than zero.
pub(crate) fn coefficients_at_zero(points: &[u64]) -> Vec<u64> {
    points
        .iter()
        .map(|&x| {
            let (mut numerator, mut denominator) = (1, 1);
            for &other in points.iter().filter(|&&other| other != x) {
                numerator = field::multiply(numerator, other);
                denominator = field::multiply(denominator, field::subtract(other, x));
            }
            field::multiply(numerator, field::invert(denominator))
        })
        .collect()
}

/// The secret whose shares are these, with the [coefficients](coefficients_at_zero) of their points. `None` if what comes
/// out is no 256-bit secret, so that the shares are not all of one secret.
pub(crate) fn recover<'a>(
    coefficients: &[u64],
    shares: impl Iterator<Item = &'a Share> + Clone,
) -> Option<Zeroizing<[u8; 32]>> {
    let mut secret = Zeroizing::new([0_u64; LIMBS]);
    for (place, limb) in secret.iter_mut().enumerate() {
        for (coefficient, share) in coefficients.iter().zip(shares.clone()) {
            *limb = field::add(*limb, field::multiply(*coefficient, share.0[place]));
        }
        let n_bits = if place + 1 == LIMBS {
            256 - 4 * LIMB_BITS
        } else {
            LIMB_BITS
        };
        if *limb >> n_bits != 0 {
            return None;
        }
    }
    let mut bytes = Zeroizing::new([0; 32]);
    for bit in 0..256_usize {
        let limb = secret[bit / LIMB_BITS as usize];
        let value = limb >> (bit % LIMB_BITS as usize) & 1;
        bytes[bit / 8] |= u8::from(value == 1) << (bit % 8);
    }
    Some(bytes)
}

/// Bits 52·i to 52·i + 51 of a little-endian number.
fn limbs(secret: &[u8; 32]) -> Zeroizing<[u64; LIMBS]> {
    let mut limbs = Zeroizing::new([0; LIMBS]);
    for (place, byte) in secret.iter().enumerate() {
        for bit in 0..8 {
            let position = place * 8 + bit;
            limbs[position / LIMB_BITS as usize] |=
                u64::from(byte >> bit & 1) << (position % LIMB_BITS as usize);
        }
    }
    limbs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Entropy;

    fn recover_from(shares: &[Share], places: &[usize]) -> Option<Zeroizing<[u8; 32]>> {
        let points: Vec<u64> = places.iter().map(|place| *place as u64 + 1).collect();
        recover(
            &coefficients_at_zero(&points),
            places.iter().map(|place| &shares[*place]),
        )
    }

    #[test]
    fn extreme_secrets_come_back() {
        for secret in [[0; 32], [0xff; 32], [0x80; 32]] {
            let shares = split(&secret, 3, 5, &mut Entropy::new([1; 32]).stream());
            assert_eq!(*recover_from(&shares, &[0, 2, 4]).unwrap(), secret);
        }
    }

    #[test]
    fn one_share_fewer_fits_every_secret() {
        // With t − 1 shares given, for any secret there is a last share that leads to it.
        let shares = split(&[7; 32], 4, 4, &mut Entropy::new([2; 32]).stream());
        let coefficients = coefficients_at_zero(&[1, 2, 3, 4]);
        for wanted in [0_u64, 1, 123_456_789, (1 << 52) - 1] {
            let known = (0..3).fold(0, |sum, i| {
                field::add(sum, field::multiply(coefficients[i], shares[i].0[0]))
            });
            let last = field::multiply(field::subtract(wanted, known), field::invert(coefficients[3]));
            let mut forged = shares.clone();
            forged[3].0[0] = last;
            let secret = recover(&coefficients, forged.iter()).unwrap();
            assert_eq!(limbs(&secret)[0], wanted);
        }
    }

    #[test]
    fn words_outside_the_field_are_no_share() {
        let mut bytes = [0; SHARE_BYTES];
        assert!(Share::from_bytes(&bytes).is_some());
        bytes[..8].copy_from_slice(&field::PRIME.to_le_bytes());
        assert!(Share::from_bytes(&bytes).is_none());
    }

    proptest! {
        #[test]
        fn any_threshold_of_shares_gives_the_secret(
            secret in any::<[u8; 32]>(),
            (n_shares, places) in (1_usize..24).prop_flat_map(|n| {
                let all: Vec<usize> = (0..n).collect();
                (Just(n), proptest::sample::subsequence(all, 1..=n).prop_shuffle())
            }),
            seed in any::<[u8; 32]>(),
        ) {
            let shares = split(&secret, places.len(), n_shares, &mut Entropy::new(seed).stream());
            prop_assert_eq!(*recover_from(&shares, &places).unwrap(), secret);
            if places.len() > 1 {
                // One share too few gives something else, but for a chance of 2^-256.
                let fewer = recover_from(&shares, &places[1..]);
                prop_assert!(fewer.is_none_or(|found| *found != secret));
            }
            for share in &shares {
                prop_assert!(Share::from_bytes(&share.to_bytes()).unwrap() == *share);
            }
        }
    }
}
