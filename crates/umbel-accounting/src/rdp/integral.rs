//! The logarithm of an integral of a non-negative function that may have a few separate peaks.

use crate::quadrature::GAUSS_LEGENDRE_8;

/// `ln` of the integral of `exp(log_integrand)`.
///
/// Panels of the given width are laid outwards from each of `centres` until the integrand has fallen by `e^-45` of its
/// largest value; a panel never reaches below `lower`. The width must be small against the scale on which the integrand
/// changes. `None` if that would take too many panels.
pub(super) fn log_integral(
    log_integrand: impl Fn(f64) -> f64,
    lower: f64,
    centres: &[f64],
    width: f64,
) -> Option<f64> {
    let origin = if lower.is_finite() { lower } else { 0.0 };
    let first_allowed = if lower.is_finite() { 0 } else { i64::MIN };
    let mut sum = ScaledSum::default();
    let mut panels = 0_u32;
    let mut panel = |sum: &mut ScaledSum, index: i64| {
        #[allow(clippy::cast_precision_loss, reason = "panel numbers stay far below 2^53")]
        let start = origin + index as f64 * width;
        let mut largest = f64::NEG_INFINITY;
        for (node, weight) in GAUSS_LEGENDRE_8 {
            let value = log_integrand(start + node * width);
            largest = largest.max(value);
            sum.add(value, weight * width);
        }
        panels += 1;
        (panels <= MOST_PANELS).then_some(largest)
    };
    let mut centres: Vec<(f64, f64)> = centres
        .iter()
        .filter(|centre| centre.is_finite())
        .map(|&centre| (log_integrand(centre.max(lower)), centre))
        .collect();
    // The highest first, so that nobody walks up a long slope to a peak.
    centres.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut covered: Vec<(i64, i64)> = Vec::new();
    for (_, centre) in centres {
        let position = (centre - origin) / width;
        if position.abs() > 1e15 {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, reason = "the range has just been checked")]
        let at = (position.floor() as i64).max(first_allowed);
        let is_free = |index: i64| {
            index >= first_allowed && !covered.iter().any(|(low, high)| (*low..=*high).contains(&index))
        };
        let (mut low, mut high) = (at, at);
        if !is_free(at) || panel(&mut sum, at)? <= sum.largest - DROP {
            continue;
        }
        while is_free(low - 1) {
            low -= 1;
            if panel(&mut sum, low)? <= sum.largest - DROP {
                break;
            }
        }
        while is_free(high + 1) {
            high += 1;
            if panel(&mut sum, high)? <= sum.largest - DROP {
                break;
            }
        }
        covered.push((low, high));
    }
    Some(sum.log())
}

const DROP: f64 = 45.0;
const MOST_PANELS: u32 = 8_000;

/// A sum of exponentials relative to the largest so far.
#[derive(Debug)]
struct ScaledSum {
    largest: f64,
    scaled: f64,
}

impl Default for ScaledSum {
    fn default() -> Self {
        Self {
            largest: f64::NEG_INFINITY,
            scaled: 0.0,
        }
    }
}

impl ScaledSum {
    fn add(&mut self, log_value: f64, weight: f64) {
        if log_value > self.largest {
            if self.scaled > 0.0 {
                self.scaled *= (self.largest - log_value).exp();
            }
            self.largest = log_value;
        }
        if log_value > f64::NEG_INFINITY {
            self.scaled += weight * (log_value - self.largest).exp();
        }
    }

    fn log(&self) -> f64 {
        self.largest + self.scaled.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_peaks_are_both_counted() {
        let two = |x: f64| crate::special::log_add_exp(-0.5 * x * x, -0.5 * (x - 500.0).powi(2));
        let got = log_integral(two, f64::NEG_INFINITY, &[0.0, 500.0], 0.5).unwrap();
        assert!((got - (2.0 * (2.0 * std::f64::consts::PI).sqrt()).ln()).abs() < 1e-12);
    }

    #[test]
    fn a_lower_end_is_respected() {
        let got = log_integral(|x| -x, 2.0, &[2.0], 0.5).unwrap();
        assert!((got + 2.0).abs() < 1e-12);
    }

    #[test]
    fn too_wide_a_range_is_given_up() {
        assert!(log_integral(|x| -1e-9 * x * x, f64::NEG_INFINITY, &[0.0], 0.5).is_none());
    }
}
