//! Numbers of twice the precision of `f64`, and a Fourier transform of them.
//!
//! A number is the unevaluated sum of two `f64` (Dekker 1971; error bounds in Joldes, Muller, Popescu 2017). That leaves
//! 32 digits, for tails that drown in the round-off of a usual transform: few applications, rare large losses, a tiny δ.

use std::ops::{Add, Mul, Neg, Sub};

/// `high + low`, where `low` is at most half a unit in the last place of `high`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Wide {
    pub(super) high: f64,
    low: f64,
}

/// `a + b` and its rounding error.
#[inline]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let other = sum - a;
    (sum, (a - (sum - other)) + (b - other))
}

/// The same, if `a` is not the smaller one.
#[inline]
fn fast_two_sum(a: f64, b: f64) -> Wide {
    let high = a + b;
    Wide {
        high,
        low: b - (high - a),
    }
}

/// Both halves of a number, 26 bits each.
#[inline]
fn split(a: f64) -> (f64, f64) {
    let scaled = a * 134_217_729.0;
    let high = scaled - (scaled - a);
    (high, a - high)
}

/// `a · b` and its rounding error. Without the fused operation, which not every processor has.
#[inline]
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    let ((a_high, a_low), (b_high, b_low)) = (split(a), split(b));
    let error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
    (product, error)
}

impl From<f64> for Wide {
    fn from(high: f64) -> Self {
        Self { high, low: 0.0 }
    }
}

impl Add for Wide {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        let (sum, error) = two_sum(self.high, other.high);
        fast_two_sum(sum, error + (self.low + other.low))
    }
}

impl Neg for Wide {
    type Output = Self;

    #[inline]
    fn neg(self) -> Self {
        Self {
            high: -self.high,
            low: -self.low,
        }
    }
}

impl Sub for Wide {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Wide {
    type Output = Self;

    #[inline]
    fn mul(self, other: Self) -> Self {
        let (product, error) = two_product(self.high, other.high);
        fast_two_sum(product, error + (self.high * other.low + self.low * other.high))
    }
}

impl Wide {
    /// `self / other`: long division with two digits and a correction.
    fn divided_by(self, other: Self) -> Self {
        let mut quotient = Self::default();
        let mut rest = self;
        for _ in 0..3 {
            let digit = Self::from(rest.high / other.high);
            quotient = quotient + digit;
            rest = rest - digit * other;
        }
        quotient
    }

    /// The square root, by two steps of Newton's from that of the larger half. For positive numbers.
    fn root(self) -> Self {
        let mut root = Self::from(self.high.sqrt());
        for _ in 0..2 {
            root = (root + self.divided_by(root)) * Self::from(0.5);
        }
        root
    }
}

/// A complex number of that precision.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct WideComplex {
    pub(super) re: Wide,
    pub(super) im: Wide,
}

impl WideComplex {
    const ONE: Self = Self {
        re: Wide { high: 1.0, low: 0.0 },
        im: Wide { high: 0.0, low: 0.0 },
    };

    #[inline]
    fn conjugate(self) -> Self {
        Self {
            re: self.re,
            im: -self.im,
        }
    }

    /// The absolute value, to the precision of `f64`.
    pub(super) fn modulus(self) -> f64 {
        self.re.high.hypot(self.im.high)
    }

    /// By repeated squaring.
    pub(super) fn power(self, mut exponent: u64) -> Self {
        let (mut result, mut base) = (Self::ONE, self);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = result * base;
            }
            exponent >>= 1;
            if exponent > 0 {
                base = base * base;
            }
        }
        result
    }
}

impl Add for WideComplex {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        Self {
            re: self.re + other.re,
            im: self.im + other.im,
        }
    }
}

impl Sub for WideComplex {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        Self {
            re: self.re - other.re,
            im: self.im - other.im,
        }
    }
}

impl Mul for WideComplex {
    type Output = Self;

    #[inline]
    fn mul(self, other: Self) -> Self {
        Self {
            re: self.re * other.re - self.im * other.im,
            im: self.re * other.im + self.im * other.re,
        }
    }
}

/// Transforms of one length, a power of two.
#[derive(Debug)]
pub(super) struct WideTransform {
    /// e^{2πik/length} for the first half of the circle.
    roots: Vec<WideComplex>,
}

impl WideTransform {
    /// For a power of two of at least 4.
    pub(super) fn new(length: usize) -> Self {
        // From a quarter turn by halving the angle: cos²(φ/2) = (1 + cos φ)/2, sin(φ/2) = sin φ / 2cos(φ/2).
        let quarter = WideComplex {
            re: Wide::default(),
            im: Wide::from(1.0),
        };
        let mut roots = vec![WideComplex::ONE, quarter];
        let mut step = quarter;
        while roots.len() < length / 2 {
            let re = ((Wide::from(1.0) + step.re) * Wide::from(0.5)).root();
            step = WideComplex {
                re,
                im: step.im.divided_by(re + re),
            };
            roots = roots.into_iter().flat_map(|root| [root, root * step]).collect();
        }
        Self { roots }
    }

    /// In place, the result in bit-reversed order.
    pub(super) fn forward(&self, values: &mut [WideComplex]) {
        let mut width = values.len();
        while width >= 2 {
            let (half, stride) = (width / 2, 2 * self.roots.len() / width);
            for block in values.chunks_exact_mut(width) {
                let (left, right) = block.split_at_mut(half);
                for ((a, b), root) in left.iter_mut().zip(right).zip(self.roots.iter().step_by(stride)) {
                    let difference = *a - *b;
                    *a = *a + *b;
                    *b = difference * *root;
                }
            }
            width = half;
        }
    }

    /// The inverse but for a factor of the length, from bit-reversed order.
    pub(super) fn backward(&self, values: &mut [WideComplex]) {
        let mut width = 2;
        while width <= values.len() {
            let (half, stride) = (width / 2, 2 * self.roots.len() / width);
            for block in values.chunks_exact_mut(width) {
                let (left, right) = block.split_at_mut(half);
                for ((a, b), root) in left.iter_mut().zip(right).zip(self.roots.iter().step_by(stride)) {
                    let turned = *b * root.conjugate();
                    *b = *a - turned;
                    *a = *a + turned;
                }
            }
            width *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_digits_are_kept() {
        // (1 + 1e-20)² − 1 − 2e-20 = 1e-40 is lost, but the 2e-20 is not.
        let number = Wide::from(1.0) + Wide::from(1e-20);
        let rest = number * number - Wide::from(1.0) - Wide::from(2e-20);
        assert!(rest.high.abs() < 1e-31, "{rest:?}");
        let root = Wide::from(2.0).root();
        assert!((root * root - Wide::from(2.0)).high.abs() < 1e-31);
        let third = Wide::from(1.0).divided_by(Wide::from(3.0));
        assert!((third + third + third - Wide::from(1.0)).high.abs() < 1e-31);
    }

    #[test]
    fn roots_of_unity_close_the_circle() {
        let transform = WideTransform::new(1 << 12);
        let last = transform.roots[transform.roots.len() - 1] * transform.roots[1];
        assert!((last + WideComplex::ONE).modulus() < 1e-29, "{last:?}");
    }

    #[test]
    fn a_convolution_keeps_values_far_below_the_round_off_of_f64() {
        let length = 64;
        let transform = WideTransform::new(length);
        let mut values = vec![WideComplex::default(); length];
        for (i, value) in values.iter_mut().take(20).enumerate() {
            let exponent = -1.3 * f64::from(u32::try_from(i).unwrap());
            value.re = Wide::from(exponent.exp());
        }
        let given = values.clone();
        transform.forward(&mut values);
        values.iter_mut().for_each(|value| *value = value.power(3));
        transform.backward(&mut values);
        for n in 0..58 {
            let direct: f64 = (0..20)
                .flat_map(|i| (0..20).map(move |j| (i, j)))
                .filter(|(i, j)| n >= i + j && n - i - j < 20)
                .map(|(i, j)| given[i].re.high * given[j].re.high * given[n - i - j].re.high)
                .sum();
            let got = values[n].re.high / 64.0;
            assert!(
                (got - direct).abs() < 1e-13 * direct + 1e-28,
                "{n}: {got} {direct}"
            );
        }
    }
}
