//! Axes of plots.

use super::number::text;

/// A range of values on a line from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Scale {
    /// From 0 to at least `highest`, ending on a round number.
    pub(super) fn from_zero(highest: f64) -> Self {
        let highest = if highest > 0.0 && highest < 1e300 {
            highest
        } else {
            1.0
        };
        let step = round_step(highest / 4.0);
        Self {
            low: 0.0,
            high: step * (highest / step - 1e-9).ceil(),
            logarithmic: false,
        }
    }

    /// Exactly from `low` to `high`.
    pub(super) fn between(low: f64, high: f64) -> Self {
        Self {
            low,
            high: if high > low { high } else { low + 1.0 },
            logarithmic: false,
        }
    }

    /// By the logarithm, over whole powers of ten around what is above 0.
    pub(super) fn logarithmic(low: f64, high: f64) -> Self {
        let low = 10_f64.powf(low.max(1e-300).log10().floor());
        let high = 10_f64.powf(high.max(1e-300).log10().ceil());
        Self {
            low,
            high: if high > low { high } else { low * 10.0 },
            logarithmic: true,
        }
    }

    /// Where a value lies, 0 at the low end and 1 at the high end; the nearest end for values outside.
    pub(super) fn share(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }

    /// The value at a share: the reverse of [`Scale::share`].
    pub(super) fn value(&self, share: f64) -> f64 {
        if self.logarithmic {
            self.low * (self.high / self.low).powf(share)
        } else {
            self.low + share * (self.high - self.low)
        }
    }

    /// Round values within the range, about five, with their labels.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        if self.logarithmic {
            let decades = (self.high / self.low).log10().round();
            let step = (decades / 6.0).ceil().max(1.0);
            let count = (decades / step + 1e-9).floor();
            return steps(count)
                .map(|index| self.low.log10().round() + index * step)
                .map(power_of_ten)
                .collect();
        }
        let step = round_step((self.high - self.low) / 5.0);
        let first = (self.low / step - 1e-9).ceil();
        let count = ((self.high / step + 1e-9).floor() - first).max(0.0);
        let decimals = (-(step.log10() + 1e-9).floor()).max(0.0) + f64::from(is_quarter(step));
        steps(count)
            .map(|index| {
                let tick = (first + index) * step;
                (tick, label(tick, decimals))
            })
            .collect()
    }
}

/// 0, 1, … to `count`.
fn steps(count: f64) -> impl Iterator<Item = f64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small count"
    )]
    let count = count.clamp(0.0, 50.0) as u32;
    (0..=count).map(f64::from)
}

fn power_of_ten(exponent: f64) -> (f64, String) {
    let value = 10_f64.powf(exponent);
    let label = if (-3.0..=6.0).contains(&exponent) {
        text(rounded_power(exponent))
    } else {
        format!("1e{exponent}")
    };
    (value, label)
}

/// The double nearest to a small power of ten.
fn rounded_power(exponent: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, reason = "between -3 and 6")]
    let exponent = exponent as i32;
    if exponent < 0 {
        1.0 / 10_f64.powi(-exponent)
    } else {
        10_f64.powi(exponent)
    }
}

fn label(tick: f64, decimals: f64) -> String {
    if tick.abs() >= 1e6 || decimals > 5.0 {
        return if tick == 0.0 {
            "0".to_owned()
        } else {
            format!("{tick:.1e}")
        };
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 6"
    )]
    let decimals = decimals as usize;
    format!("{tick:.decimals$}")
}

/// The smallest of 1, 2, 2.5, 5 and 10 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * power);
    steps
        .into_iter()
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

fn is_quarter(step: f64) -> bool {
    let mantissa = step / 10_f64.powf((step.log10() + 1e-9).floor());
    (mantissa - 2.5).abs() < 1e-6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(
            labels(Scale::from_zero(1.83)),
            ["0.0", "0.5", "1.0", "1.5", "2.0"]
        );
        assert_eq!(
            labels(Scale::between(0.0, 1.0)),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            labels(Scale::logarithmic(1.0, 1000.0)),
            ["1", "10", "100", "1000"]
        );
        assert_eq!(
            labels(Scale::logarithmic(3e-9, 0.5)),
            ["1e-9", "1e-7", "1e-5", "0.001", "0.1"]
        );
        for highest in [1e-9, 0.3, 1.0, 7.3, 633.9, 1e12, 0.0, f64::INFINITY] {
            let scale = Scale::from_zero(highest);
            let ticks = scale.ticks();
            assert!(ticks.len() >= 3 && ticks.len() <= 12, "{highest}: {ticks:?}");
            assert!(
                ticks
                    .iter()
                    .all(|(tick, _)| (0.0..=1.0 + 1e-9).contains(&scale.share(*tick))),
                "{highest}"
            );
        }
    }

    #[test]
    fn shares_and_values_are_the_reverse_of_each_other() {
        for scale in [
            Scale::from_zero(3.0),
            Scale::between(-1.0, 5.0),
            Scale::logarithmic(1e-6, 20.0),
        ] {
            for share in [0.0, 0.1, 0.5, 0.93, 1.0] {
                assert!((scale.share(scale.value(share)) - share).abs() < 1e-12);
            }
            assert!(scale.share(f64::NEG_INFINITY) <= 0.0 && scale.share(f64::INFINITY) >= 1.0);
        }
    }
}
