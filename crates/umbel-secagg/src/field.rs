//! The prime field F_p with p = 2^61 − 1, in which secrets are shared.

use rand_core::CryptoRng;

/// p = 2^61 − 1, a Mersenne prime, so that a product is reduced by two additions.
pub(crate) const PRIME: u64 = (1 << 61) - 1;

/// `a + b` of two elements.
pub(crate) fn add(a: u64, b: u64) -> u64 {
    reduce_once(a + b)
}

/// `a − b` of two elements.
pub(crate) fn subtract(a: u64, b: u64) -> u64 {
    reduce_once(a + PRIME - b)
}

/// `a · b` of two elements.
#[allow(clippy::cast_possible_truncation, reason = "both halves are below 2^61")]
pub(crate) fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // 2^61 = 1 modulo p.
    reduce_once((product as u64 & PRIME) + (product >> 61) as u64)
}

/// `a^−1`, and 0 for 0: a^(p − 2) by Fermat.
pub(crate) fn invert(a: u64) -> u64 {
    let (mut result, mut power, mut exponent) = (1, a, PRIME - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = multiply(result, power);
        }
        power = multiply(power, power);
        exponent >>= 1;
    }
    result
}

/// A uniform element, zero included.
pub(crate) fn random(rng: &mut impl CryptoRng) -> u64 {
    loop {
        let candidate = rng.next_u64() >> 3;
        if candidate < PRIME {
            return candidate;
        }
    }
}

/// A number below 2p modulo p, without a branch on its value.
fn reduce_once(a: u64) -> u64 {
    let (difference, borrow) = a.overflowing_sub(PRIME);
    difference.wrapping_add(PRIME & 0_u64.wrapping_sub(u64::from(borrow)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn edges_reduce() {
        assert_eq!(add(PRIME - 1, 1), 0);
        assert_eq!(subtract(0, PRIME - 1), 1);
        assert_eq!(multiply(PRIME - 1, PRIME - 1), 1);
        assert_eq!(invert(1), 1);
        assert_eq!(invert(0), 0);
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_the_field(a in 0..PRIME, b in 0..PRIME) {
            let p = u128::from(PRIME);
            let (wide_a, wide_b) = (u128::from(a), u128::from(b));
            prop_assert_eq!(u128::from(add(a, b)), (wide_a + wide_b) % p);
            prop_assert_eq!(u128::from(subtract(a, b)), (wide_a + p - wide_b) % p);
            prop_assert_eq!(u128::from(multiply(a, b)), wide_a * wide_b % p);
            if a != 0 {
                prop_assert_eq!(multiply(a, invert(a)), 1);
            }
        }
    }
}
