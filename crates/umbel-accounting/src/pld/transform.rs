//! Products of powers of laws in the frequency domain, in two precisions, with a bound on what round-off does.
//!
//! Each value of a transform of masses that sum to at most one is wrong by at most a few units in the last place a level,
//! since every partial sum on the way is at most one too. From there errors are followed through powers and products,
//! frequency by frequency.

use std::cell::RefCell;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{ComplexToReal, RealFftPlanner, RealToComplex};

use super::wide::{Wide, WideComplex, WideTransform};

/// How many digits a transform has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Precision {
    /// Those of `f64`.
    Double,
    /// Twice as many, at forty times the cost.
    Wide,
}

impl Precision {
    /// The largest part of δ that may sit below the largest value, in nats, if round-off is to stay far below δ.
    pub(super) fn depth(self) -> f64 {
        match self {
            Self::Double => 10.0,
            Self::Wide => 52.0,
        }
    }

    /// Bounds time and memory of one transform.
    pub(super) fn most_points(self) -> f64 {
        match self {
            Self::Double => 6e6,
            Self::Wide => 4e5,
        }
    }

    /// The smallest suitable length that is at least `least`.
    pub(super) fn length(self, least: usize) -> usize {
        match self {
            Self::Double => fast_length(least.max(16)),
            Self::Wide => least.max(16).next_power_of_two(),
        }
    }
}

/// A composed law, circular, and how wrong its masses can be.
#[derive(Debug)]
pub(super) struct Composed {
    pub(super) mass: Vec<f64>,
    /// Bound on the error of each mass.
    pub(super) each: f64,
    /// Bound on the root of the sum of the squared errors.
    pub(super) together: f64,
}

/// The product so far.
pub(super) enum Product {
    Double(Double),
    Wide(Box<WideProduct>),
}

impl Product {
    pub(super) fn new(length: usize, precision: Precision) -> Self {
        match precision {
            Precision::Double => Self::Double(Double::new(length)),
            Precision::Wide => Self::Wide(Box::new(WideProduct::new(length))),
        }
    }

    /// Multiplies by the law with these masses, which sum to one, convolved `times` times with itself; its first mass is
    /// at index `start`, and indices are modulo the length.
    pub(super) fn multiply(&mut self, mass: &[f64], start: usize, times: u64) -> Option<()> {
        match self {
            Self::Double(product) => product.multiply(mass, start, times),
            Self::Wide(product) => {
                product.multiply(mass, start, times);
                Some(())
            }
        }
    }

    /// Back to masses; negative ones are round-off.
    pub(super) fn compose(self) -> Option<Composed> {
        match self {
            Self::Double(product) => product.compose(),
            Self::Wide(product) => Some((*product).compose()),
        }
    }
}

/// The error of the modulus of a power, given the value's modulus and the power's.
///
/// `unit` is the error of the value and `rounding` the relative error of raising it.
fn power_error(modulus: f64, power: f64, times: f64, unit: f64, rounding: f64) -> f64 {
    // T (|F| + unit)^{T−1} unit. Where the value is lost in its error the floors below cover that.
    let steeper = (1.0 + 2.0 * times * unit / modulus).min(3.0);
    steeper * times * power / modulus * unit + rounding * power
}

#[derive(Debug, Default)]
struct Errors {
    sum: f64,
    squares: f64,
    values: f64,
    value_squares: f64,
}

impl Errors {
    fn add(&mut self, weight: f64, error: f64, modulus: f64) {
        self.sum += weight * error;
        self.squares += weight * error * error;
        self.values += weight * modulus;
        self.value_squares += weight * modulus * modulus;
    }

    /// Through the inverse transform of `count` values, whose own round-off is `unit`.
    fn composed(&self, mass: Vec<f64>, count: f64, unit: f64) -> Composed {
        Composed {
            mass,
            each: (self.sum + unit * self.values) / count,
            together: (self.squares / count).sqrt() + unit * (self.value_squares / count).sqrt(),
        }
    }
}

pub(super) struct Double {
    forward: Arc<dyn RealToComplex<f64>>,
    backward: Arc<dyn ComplexToReal<f64>>,
    buffer: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    product: Vec<Complex<f64>>,
    errors: Vec<f64>,
    unit: f64,
}

impl Double {
    fn new(length: usize) -> Self {
        let (forward, backward) = transforms(length);
        Self {
            buffer: forward.make_input_vec(),
            spectrum: forward.make_output_vec(),
            forward,
            backward,
            product: Vec::new(),
            errors: Vec::new(),
            #[allow(clippy::cast_precision_loss, reason = "a length")]
            unit: UNIT * ((length as f64).log2() + 2.0),
        }
    }

    fn multiply(&mut self, mass: &[f64], start: usize, times: u64) -> Option<()> {
        let once = times == 1;
        fold(&mut self.buffer, mass, start, |into, value| *into += value);
        self.forward.process(&mut self.buffer, &mut self.spectrum).ok()?;
        #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let times = times as f64;
        if times * self.unit > 0.1 {
            return None;
        }
        // The polar form loses a few units in the last place of the logarithm and of the angle, `times` times.
        let rounding = f64::EPSILON * (8.0 * times + 200.0);
        let negligible = (-2.0 * NEGLIGIBLE / times).exp();
        let first = self.product.is_empty();
        if first {
            self.product.reserve_exact(self.spectrum.len());
            self.errors.reserve_exact(self.spectrum.len());
        }
        for (k, value) in self.spectrum.iter().enumerate() {
            let square = value.norm_sqr();
            let (power, size, error) = if once {
                (*value, square.sqrt(), self.unit)
            } else if square <= negligible {
                (Complex::new(0.0, 0.0), 0.0, FLOOR)
            } else {
                let size = (0.5 * times * square.ln()).exp();
                let power = Complex::from_polar(size, value.arg() * times);
                let error = power_error(square.sqrt(), size, times, self.unit, rounding);
                (power, size, error + FLOOR)
            };
            if first {
                self.product.push(power);
                self.errors.push(error);
            } else {
                let before = self.product[k].norm_sqr().sqrt();
                self.errors[k] =
                    self.errors[k] * (size + error) + before * (error + 4.0 * f64::EPSILON * size);
                self.product[k] *= power;
            }
        }
        Some(())
    }

    fn compose(mut self) -> Option<Composed> {
        let length = self.buffer.len();
        // Real at both ends, as the spectrum of a real sequence is.
        self.product.first_mut()?.im = 0.0;
        if length.is_multiple_of(2) {
            self.product.last_mut()?.im = 0.0;
        }
        let mut errors = Errors::default();
        for (value, error) in self.product.iter().zip(&self.errors) {
            // Each but the ends stands for two frequencies.
            errors.add(2.0, *error, value.norm_sqr().sqrt());
        }
        self.backward.process(&mut self.product, &mut self.buffer).ok()?;
        #[allow(clippy::cast_precision_loss, reason = "a length")]
        let count = length as f64;
        let scale = 1.0 / count;
        self.buffer
            .iter_mut()
            .for_each(|value| *value = (*value * scale).max(0.0));
        Some(errors.composed(self.buffer, count, self.unit))
    }
}

pub(super) struct WideProduct {
    transform: WideTransform,
    product: Vec<WideComplex>,
    errors: Vec<f64>,
    length: usize,
    unit: f64,
}

impl WideProduct {
    fn new(length: usize) -> Self {
        Self {
            transform: WideTransform::new(length),
            product: Vec::new(),
            errors: Vec::new(),
            length,
            #[allow(clippy::cast_precision_loss, reason = "a length")]
            unit: WIDE_UNIT * ((length as f64).log2() + 2.0),
        }
    }

    fn multiply(&mut self, mass: &[f64], start: usize, times: u64) {
        let mut values = vec![WideComplex::default(); self.length];
        fold(&mut values, mass, start, |into, value| {
            into.re = into.re + Wide::from(*value);
        });
        self.transform.forward(&mut values);
        #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let number = times as f64;
        let first = self.product.is_empty();
        for (k, value) in values.iter_mut().enumerate() {
            let modulus = value.modulus();
            *value = value.power(times);
            let size = value.modulus();
            let error = if times == 1 {
                self.unit
            } else if modulus > 0.0 {
                power_error(modulus, size, number, self.unit, 4.0 * WIDE_UNIT * number) + WIDE_FLOOR
            } else {
                WIDE_FLOOR
            };
            if first {
                self.errors.push(error);
            } else {
                let before = self.product[k].modulus();
                self.errors[k] = self.errors[k] * (size + error) + before * (error + WIDE_UNIT * size);
                *value = *value * self.product[k];
            }
        }
        self.product = values;
    }

    fn compose(mut self) -> Composed {
        let mut errors = Errors::default();
        for (value, error) in self.product.iter().zip(&self.errors) {
            errors.add(1.0, *error, value.modulus());
        }
        self.transform.backward(&mut self.product);
        #[allow(clippy::cast_precision_loss, reason = "a length")]
        let count = self.length as f64;
        let mass = self
            .product
            .iter()
            .map(|value| (value.re.high / count).max(0.0))
            .collect();
        errors.composed(mass, count, self.unit)
    }
}

/// Lays the masses round a circle of the buffer's length, from position `start`.
fn fold<T: Clone + Default>(buffer: &mut [T], mass: &[f64], start: usize, add: impl Fn(&mut T, &f64)) {
    buffer.fill(T::default());
    let mut position = start;
    for value in mass {
        add(&mut buffer[position], value);
        position = if position + 1 == buffer.len() {
            0
        } else {
            position + 1
        };
    }
}

/// Rounding of one level of a transform: a twiddle factor, a product and a sum, on values of at most one.
const UNIT: f64 = 4.0 * f64::EPSILON;

/// The same for wide numbers, whose twiddle factors have come through a chain of products: 2^-97, and as much again.
const WIDE_UNIT: f64 = 1.3e-29;

/// Powers below e^-80 would be lost in round-off, and are set to 0.
const NEGLIGIBLE: f64 = 80.0;

/// What a power of a value that is lost in its error can be: the square of four units of 2e-14, and less for more.
const FLOOR: f64 = 1e-26;

/// The same for wide numbers.
const WIDE_FLOOR: f64 = 1e-52;

thread_local! {
    /// Tables of short transforms: making them takes longer than a transform, and the lengths are few.
    static PLANNER: RefCell<RealFftPlanner<f64>> = RefCell::new(RealFftPlanner::new());
}

/// Lengths whose tables are kept: 16 MiB each at most.
const KEPT_LENGTH: usize = 1 << 20;

type Transforms = (Arc<dyn RealToComplex<f64>>, Arc<dyn ComplexToReal<f64>>);

fn transforms(length: usize) -> Transforms {
    let plan = |planner: &mut RealFftPlanner<f64>| {
        (planner.plan_fft_forward(length), planner.plan_fft_inverse(length))
    };
    if length <= KEPT_LENGTH {
        PLANNER.with_borrow_mut(plan)
    } else {
        plan(&mut RealFftPlanner::new())
    }
}

/// The smallest power of two, or three or five times one, that is at least `least`, and even. Few lengths mean few
/// tables.
fn fast_length(least: usize) -> usize {
    let mut best = least.next_power_of_two();
    for odd in [3, 5] {
        let mut candidate = 2 * odd;
        while candidate < least {
            candidate *= 2;
        }
        best = best.min(candidate);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_even_and_close() {
        for least in [16, 17, 1000, 4097, 1_000_003] {
            let length = fast_length(least);
            assert!(length >= least && length.is_multiple_of(2) && length < 2 * least);
        }
    }

    #[test]
    fn errors_are_below_their_bounds_and_both_precisions_agree() {
        let law: Vec<f64> = (0..40_u32).map(|i| (-0.05 * f64::from(i * i)).exp()).collect();
        let sum: f64 = law.iter().sum();
        let law: Vec<f64> = law.iter().map(|mass| mass / sum).collect();
        let spike = [0.999, 0.0, 0.001];
        for (count, other) in [(1, 1), (2, 1), (7, 300), (400, 2)] {
            let composed = |precision| {
                let mut product = Product::new(1024, precision);
                product.multiply(&law, 0, count).unwrap();
                product.multiply(&spike, 3, other).unwrap();
                product.compose().unwrap()
            };
            let (double, wide) = (composed(Precision::Double), composed(Precision::Wide));
            let differences: Vec<f64> = double.mass.iter().zip(&wide.mass).map(|(a, b)| a - b).collect();
            let together = differences.iter().map(|d| d * d).sum::<f64>().sqrt();
            assert!(
                differences.iter().all(|d| d.abs() <= double.each),
                "{count} {other}"
            );
            assert!(
                together <= double.together && double.together < 1e-10,
                "{count} {other}"
            );
            assert!(wide.each < 1e-20 && wide.together < 1e-20);
        }
    }
}
