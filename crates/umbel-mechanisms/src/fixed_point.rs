//! Fixed-point numbers of any precision, and certified bounds on exp(−x²/2) at rational x.
//!
//! Samplers need these for their tables, and in the rare case that a table's 64 bits do not decide a comparison.

use std::cmp::Ordering;

/// A number in [0, 2^256) as limbs, least significant first: some limbs of fraction, then four of integer part.
///
/// Operations round down, to a multiple of the unit 2^(−64 · number of fraction limbs).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fixed {
    limbs: Vec<u64>,
}

const INTEGER_LIMBS: usize = 4;

impl Fixed {
    pub(crate) fn zero(n_fraction_limbs: usize) -> Self {
        Self {
            limbs: vec![0; n_fraction_limbs + INTEGER_LIMBS],
        }
    }

    pub(crate) fn one(n_fraction_limbs: usize) -> Self {
        let mut one = Self::zero(n_fraction_limbs);
        one.limbs[n_fraction_limbs] = 1;
        one
    }

    /// The fraction whose binary digits are these words, most significant first.
    pub(crate) fn from_digits(digits: &[u64]) -> Self {
        let mut fraction = Self::zero(digits.len());
        for (limb, &digit) in fraction.limbs.iter_mut().zip(digits.iter().rev()) {
            *limb = digit;
        }
        fraction
    }

    pub(crate) fn n_fraction_limbs(&self) -> usize {
        self.limbs.len() - INTEGER_LIMBS
    }

    /// `floor(self · 2^64)`, or `u64::MAX` if the number is 1 or more.
    pub(crate) fn leading_64_bits(&self) -> u64 {
        let n = self.n_fraction_limbs();
        if self.limbs[n..].iter().any(|&limb| limb != 0) {
            u64::MAX
        } else {
            self.limbs[n - 1]
        }
    }

    /// The integer part of a number below 2^64.
    #[cfg(test)]
    pub(crate) fn integer_part(&self) -> u64 {
        self.limbs[self.n_fraction_limbs()]
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.limbs.iter().all(|&limb| limb == 0)
    }

    /// Exact; the result must stay below 2^256.
    pub(crate) fn multiply(mut self, factor: u64) -> Self {
        let mut carry = 0;
        for limb in &mut self.limbs {
            let product = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            (*limb, carry) = halves(product);
        }
        assert_eq!(carry, 0, "fixed-point overflow");
        self
    }

    /// Rounded down. Dividing twice in a row gives the floor of the quotient by the product.
    pub(crate) fn divide(mut self, divisor: u64) -> Self {
        let mut remainder = 0_u64;
        for limb in self.limbs.iter_mut().rev() {
            let dividend = u128::from(remainder) << 64 | u128::from(*limb);
            let (quotient, _) = halves(dividend / u128::from(divisor));
            (remainder, _) = halves(dividend % u128::from(divisor));
            *limb = quotient;
        }
        self
    }

    pub(crate) fn shift_left(self, n_bits: u32) -> Self {
        (0..n_bits / 32)
            .fold(self, |value, _| value.multiply(1 << 32))
            .multiply(1 << (n_bits % 32))
    }

    pub(crate) fn add(mut self, other: &Self) -> Self {
        let mut carry = false;
        for (limb, &addend) in self.limbs.iter_mut().zip(&other.limbs) {
            let (sum, first) = limb.overflowing_add(addend);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = first || second;
        }
        assert!(!carry, "fixed-point overflow");
        self
    }

    /// Zero if `other` is larger.
    pub(crate) fn saturating_subtract(mut self, other: &Self) -> Self {
        let mut borrow = false;
        for (limb, &subtrahend) in self.limbs.iter_mut().zip(&other.limbs) {
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        if borrow {
            Self::zero(self.n_fraction_limbs())
        } else {
            self
        }
    }

    /// Adds this many units.
    pub(crate) fn add_units(self, n_units: u64) -> Self {
        let mut units = Self::zero(self.n_fraction_limbs());
        units.limbs[0] = n_units;
        self.add(&units)
    }

    /// Subtracts this many units, down to zero at most.
    pub(crate) fn subtract_units(self, n_units: u64) -> Self {
        let mut units = Self::zero(self.n_fraction_limbs());
        units.limbs[0] = n_units;
        self.saturating_subtract(&units)
    }

    /// Bounds on 1 / self, for a number between 1/4 and 2^40: Newton's iteration, then a check that proves the bounds.
    pub(crate) fn reciprocal(&self) -> Enclosure {
        let n = self.n_fraction_limbs();
        let two = Self::one(n).multiply(2);
        let mut inverse = Self::zero(n);
        let approximation = self.limbs[n] as f64 + self.limbs[n - 1] as f64 * 2.0_f64.powi(-64);
        // The first 50 bits or so of the inverse, which is at most 4, below the first limb of fraction.
        let bits = from_f64(1.0 / approximation * 2.0_f64.powi(60));
        inverse.limbs[n] = bits >> 60;
        inverse.limbs[n - 1] = bits << 4;
        // Each step doubles the number of right digits.
        for _ in 0..=(n * 64 / 20).ilog2() {
            let residual = two.clone().saturating_subtract(&self.product(&inverse));
            inverse = inverse.product(&residual);
        }
        let one = Self::one(n);
        let mut slack = 8;
        loop {
            let low = inverse.clone().subtract_units(slack);
            let high = inverse.clone().add_units(slack);
            // A product is rounded down by less than a unit.
            if self.product(&low).add_units(1) <= one && self.product(&high) >= one {
                return Enclosure { low, high };
            }
            slack *= 8;
        }
    }

    /// The product of two numbers of equal precision, each below 2^64, rounded down.
    pub(crate) fn product(&self, other: &Self) -> Self {
        let n = self.n_fraction_limbs();
        let (left, right) = (&self.limbs[..=n], &other.limbs[..=n]);
        let mut wide = vec![0_u64; left.len() + right.len()];
        for (i, &a) in left.iter().enumerate() {
            let mut carry = 0;
            for (j, &b) in right.iter().enumerate() {
                let sum = u128::from(a) * u128::from(b) + u128::from(wide[i + j]) + u128::from(carry);
                (wide[i + j], carry) = halves(sum);
            }
            wide[i + right.len()] = carry;
        }
        let mut limbs = wide.split_off(n);
        limbs.resize(n + INTEGER_LIMBS, 0);
        Self { limbs }
    }
}

impl Ord for Fixed {
    fn cmp(&self, other: &Self) -> Ordering {
        assert_eq!(self.limbs.len(), other.limbs.len(), "numbers of one precision");
        self.limbs.iter().rev().cmp(other.limbs.iter().rev())
    }
}

impl PartialOrd for Fixed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Two numbers of equal precision around a real one.
#[derive(Debug, Clone)]
pub(crate) struct Enclosure {
    pub(crate) low: Fixed,
    pub(crate) high: Fixed,
}

/// Bounds on exp(−(k·n/d)²/2) for k·n/d at most 33, with k below 2^11 and n, d below 2^63.
///
/// With x² / 2 = y: y is reduced to r = floor(y / 2^m) ≤ 1/2 (in units), exp(−r) is summed by its alternating series and
/// squared m times. In units of the last place: rounding y and r costs 1 + 2^m; each of at most 64·limbs terms 2, the
/// first term left out less than 1; squaring doubles the error and adds 1. With m ≤ 11 and at most 16 limbs the whole is
/// below 2^11 · (2 · 1,024 + 3) + 2^12 < 2^23 units.
pub(crate) fn exp_minus_half_square(k: u64, numerator: u64, denominator: u64, n_limbs: usize) -> Enclosure {
    const ERROR_UNITS: u64 = 1 << 23;
    assert!(
        (2..=16).contains(&n_limbs),
        "the error bound holds for 2 to 16 limbs"
    );
    let one = Fixed::one(n_limbs);
    if k == 0 {
        return Enclosure {
            low: one.clone(),
            high: one,
        };
    }
    let half_square = one
        .clone()
        .multiply(k)
        .multiply(k)
        .multiply(numerator)
        .multiply(numerator)
        .divide(denominator)
        .divide(denominator)
        .divide(2);
    let half = one.clone().divide(2);
    let (mut n_squarings, mut reduced) = (0, half_square);
    while reduced > half {
        reduced = reduced.divide(2);
        n_squarings += 1;
    }
    assert!(n_squarings <= 11, "an exponent too large for the error bound");
    let (mut sum, mut term, mut n) = (one.clone(), one, 0_u64);
    loop {
        n += 1;
        term = term.product(&reduced).divide(n);
        if term.is_zero() {
            break;
        }
        sum = if n % 2 == 1 {
            sum.saturating_subtract(&term)
        } else {
            sum.add(&term)
        };
    }
    for _ in 0..n_squarings {
        sum = sum.product(&sum);
    }
    Enclosure {
        low: sum.clone().subtract_units(ERROR_UNITS),
        high: sum.add_units(ERROR_UNITS),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is between 0 and 2^62"
)]
fn from_f64(value: f64) -> u64 {
    value as u64
}

/// The lower and the upper 64 bits.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the two halves of a number are what is asked for"
)]
pub(crate) fn halves(value: u128) -> (u64, u64) {
    (value as u64, (value >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_f64(value: &Fixed) -> f64 {
        value
            .limbs
            .iter()
            .rev()
            .fold(0.0, |sum, &limb| sum * 2.0_f64.powi(64) + limb as f64)
            / 2.0_f64.powi(64 * i32::try_from(value.n_fraction_limbs()).unwrap())
    }

    #[test]
    fn bounds_enclose_the_exponential() {
        for n_limbs in [2, 3, 5] {
            for (k, numerator, denominator) in [
                (0, 1, 32),
                (1, 1, 32),
                (31, 1, 32),
                (255, 1, 64),
                (7, 1, 1),
                (11, 123_456_789, 1 << 27),
                (1, 1 << 62, 1 << 60),
            ] {
                let x = k as f64 * numerator as f64 / denominator as f64;
                let expected = (-x * x / 2.0).exp();
                let bounds = exp_minus_half_square(k, numerator, denominator, n_limbs);
                let slack = 1e-14 * expected;
                assert!(to_f64(&bounds.low) <= expected + slack && expected - slack <= to_f64(&bounds.high));
                assert!(
                    to_f64(&bounds.high) - to_f64(&bounds.low)
                        <= 2.0_f64.powi(25 - 64 * i32::try_from(n_limbs).unwrap()) + slack
                );
            }
        }
    }

    #[test]
    fn bounds_agree_with_digits_from_another_program() {
        // 256 bits of exp(−(k/32)²/2), k = 1, 77 and 640, from Python's mpmath at 800 bits.
        for (k, digits) in [
            (
                1,
                [
                    0xffe001ffeaab5551,
                    0x1127d21522f2295b,
                    0x8bc3e72bdf83dfc6,
                    0x65624bd38b6095a1,
                ],
            ),
            (
                77,
                [
                    0x0e280191825d9517,
                    0x352621a4b8e22150,
                    0xae16213eac30760d,
                    0x13d00cb896d10a61,
                ],
            ),
            (
                640,
                [
                    0x0000000000000000,
                    0x0000000000000000,
                    0x0000000000000000,
                    0x0000000000000000,
                ],
            ),
        ] {
            let expected = Fixed::from_digits(&digits);
            let bounds = exp_minus_half_square(k, 1, 32, 4);
            assert!(bounds.low <= expected && expected <= bounds.high);
        }
    }

    #[test]
    fn more_precision_narrows_the_same_interval() {
        let narrow = exp_minus_half_square(100, 3, 128, 8);
        let wide = exp_minus_half_square(100, 3, 128, 3);
        let widen = |value: &Fixed| Fixed {
            limbs: value.limbs[5..].to_vec(),
        };
        assert!(wide.low <= widen(&narrow.low) && widen(&narrow.high) <= wide.high);
    }

    #[test]
    fn reciprocals_are_enclosed() {
        for n_limbs in [2, 4, 9] {
            for (numerator, denominator) in [
                (1, 4),
                (1, 1),
                (1, 3),
                (2, 3),
                (1 << 40, 1),
                (12_345, 678),
                (u64::MAX, u64::MAX - 1),
            ] {
                let value = Fixed::one(n_limbs).multiply(numerator).divide(denominator);
                let bounds = value.reciprocal();
                let exact = Fixed::one(n_limbs).multiply(denominator).divide(numerator);
                // The value was rounded down, so its inverse may be larger than that of the quotient by a few units.
                assert!(
                    bounds.low <= exact.clone().add_units(1 << 12)
                        && exact.subtract_units(1 << 12) <= bounds.high
                );
                assert!(
                    bounds.high.saturating_subtract(&bounds.low) <= Fixed::zero(n_limbs).add_units(1 << 48)
                );
            }
        }
    }

    #[test]
    fn arithmetic_carries_and_borrows() {
        let third = Fixed::one(2).divide(3);
        let sum = third.clone().add(&third).add(&third);
        assert_eq!(sum, Fixed::one(2).subtract_units(1));
        assert_eq!(sum.add_units(1), Fixed::one(2));
        assert_eq!(
            Fixed::one(2).saturating_subtract(&third.clone().shift_left(2)),
            Fixed::zero(2)
        );
        assert_eq!(third.clone().shift_left(33), third.clone().multiply(1 << 33));
        assert_eq!(third.leading_64_bits(), u64::MAX / 3);
        assert_eq!(Fixed::one(2).leading_64_bits(), u64::MAX);
        assert_eq!(
            Fixed::from_digits(&[1 << 63, 0]).product(&Fixed::one(2).multiply(6)),
            Fixed::one(2).multiply(3)
        );
    }
}
