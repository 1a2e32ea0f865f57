//! Axes with round numbers on them.

use super::number::grouped;

/// The part of a plot's range that one axis shows, and where its ticks stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    /// The smallest value shown.
    pub(super) low: f64,
    /// The largest value shown; above `low`.
    pub(super) high: f64,
    /// Where ticks stand, ascending, within the axis.
    pub(super) ticks: Vec<f64>,
    step: f64,
}

/// Which ticks make sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steps {
    /// Any round number.
    Any,
    /// Whole numbers only, as for counts.
    Whole,
}

/// Beyond this, differences of finite numbers may not be finite.
const LARGEST: f64 = 1e300;

impl Axis {
    /// An axis that begins and ends on a tick, around at least these values, with about `target` steps.
    pub(super) fn around(low: f64, high: f64, target: f64, steps: Steps) -> Self {
        let (low, high) = spread(low, high, steps);
        let step = round_step((high - low) / target, steps);
        let first = (low / step).floor();
        // Half a thousandth of a step is rounding error, not a value to make room for.
        let last = (high / step - 5e-4).ceil().max(first + 1.0);
        let mut ticks = Vec::new();
        let mut index = first;
        while index <= last && ticks.len() < 64 {
            ticks.push(index * step);
            index += 1.0;
        }
        Self {
            low: first * step,
            high: last * step,
            ticks,
            step,
        }
    }

    /// An axis from exactly `low` to exactly `high`, with ticks on the round numbers between.
    pub(super) fn within(low: f64, high: f64, target: f64, steps: Steps) -> Self {
        let (low, high) = spread(low, high, steps);
        let mut axis = Self::around(low, high, target, steps);
        let slack = axis.step * 5e-4;
        axis.ticks
            .retain(|tick| *tick >= low - slack && *tick <= high + slack);
        Self { low, high, ..axis }
    }

    /// Where a value lies: 0 at the low end, 1 at the high end.
    pub(super) fn share(&self, value: f64) -> f64 {
        ((value.clamp(-LARGEST, LARGEST) - self.low) / (self.high - self.low)).clamp(-0.05, 1.05)
    }

    /// The label of a tick, with as many digits as its neighbours need to differ.
    pub(super) fn label(&self, tick: f64) -> String {
        let largest = self.low.abs().max(self.high.abs());
        if tick.abs() < self.step * 1e-3 {
            return "0".to_owned();
        }
        if largest >= 1e6 || self.step < 1e-5 {
            let text = format!("{tick:.3e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            return format!(
                "{}e{exponent}",
                mantissa.trim_end_matches('0').trim_end_matches('.')
            );
        }
        let mut decimals = 0;
        let mut scaled = self.step;
        while (scaled - scaled.round()).abs() > 1e-6 * scaled && decimals < 8 {
            scaled *= 10.0;
            decimals += 1;
        }
        grouped(&format!("{tick:.decimals$}"))
    }
}

/// Bounds in order, finite and apart.
fn spread(low: f64, high: f64, steps: Steps) -> (f64, f64) {
    let (low, high) = (
        low.min(high).clamp(-LARGEST, LARGEST),
        low.max(high).clamp(-LARGEST, LARGEST),
    );
    let size = low.abs().max(high.abs());
    if high - low > 1e-9 * size {
        return (low, high);
    }
    match steps {
        Steps::Whole => {
            let room = 1.0_f64.max(1e-6 * size);
            // A count is never below zero.
            (if low >= room { low - room } else { low }, high + room)
        }
        Steps::Any if size > 0.0 => (low - 0.05 * size, high + 0.05 * size),
        Steps::Any => (0.0, 1.0),
    }
}

/// The smallest of 1, 2, 2.5, 5 and 10 times a power of ten that is not below `least`.
fn round_step(least: f64, steps: Steps) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let whole = |step: f64| step >= 1.0 && (step - step.round()).abs() < 1e-9 * step;
    [1.0, 2.0, 2.5, 5.0, 10.0, 20.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= least * (1.0 - 1e-9) && (steps == Steps::Any || whole(*step)))
        .unwrap_or_else(|| least.max(1.0).ceil())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(axis: &Axis, labels: &[&str]) {
        let got: Vec<String> = axis.ticks.iter().map(|tick| axis.label(*tick)).collect();
        assert_eq!(got, labels);
    }

    #[test]
    fn ticks_are_round() {
        check(
            &Axis::around(0.0, 8.0, 4.0, Steps::Any),
            &["0", "2", "4", "6", "8"],
        );
        check(
            &Axis::around(0.31, 2.1, 4.0, Steps::Any),
            &["0", "0.5", "1.0", "1.5", "2.0", "2.5"],
        );
        check(
            &Axis::around(231.0, 301.0, 4.0, Steps::Whole),
            &["220", "240", "260", "280", "300", "320"],
        );
        check(
            &Axis::around(0.0, 10_000.0, 4.0, Steps::Whole),
            &["0", "2,500", "5,000", "7,500", "10,000"],
        );
        check(
            &Axis::around(0.0, 1e-7, 4.0, Steps::Any),
            &["0", "2.5e-8", "5e-8", "7.5e-8", "1e-7"],
        );
        check(
            &Axis::around(-3.0, 3.0, 4.0, Steps::Any),
            &["-4", "-2", "0", "2", "4"],
        );
    }

    #[test]
    fn counts_have_whole_ticks() {
        check(&Axis::around(0.0, 1.0, 4.0, Steps::Whole), &["0", "1"]);
        check(&Axis::around(0.0, 3.0, 5.0, Steps::Whole), &["0", "1", "2", "3"]);
        check(&Axis::around(0.0, 0.0, 4.0, Steps::Whole), &["0", "1"]);
        check(
            &Axis::around(539.0, 539.0, 4.0, Steps::Whole),
            &["538", "539", "540"],
        );
        check(&Axis::around(0.0, 9.0, 4.0, Steps::Whole), &["0", "5", "10"]);
    }

    #[test]
    fn exact_ends_keep_their_place() {
        let axis = Axis::within(0.0, 57.0, 5.0, Steps::Whole);
        assert_eq!((axis.low, axis.high), (0.0, 57.0));
        check(&axis, &["0", "20", "40"]);
        assert!((axis.share(57.0) - 1.0).abs() < 1e-12);
        assert!(axis.share(0.0).abs() < 1e-12);
    }

    #[test]
    fn strange_ranges_still_give_an_axis() {
        for (low, high) in [
            (0.0, 0.0),
            (5.0, 5.0),
            (-1e308, 1e308),
            (1e-320, 2e-320),
            (f64::MIN, f64::MAX),
            (1e15, 1e15 + 1.0),
            (3.0, -3.0),
        ] {
            for steps in [Steps::Any, Steps::Whole] {
                for axis in [
                    Axis::around(low, high, 4.0, steps),
                    Axis::within(low, high, 4.0, steps),
                ] {
                    assert!(axis.low < axis.high, "{low} {high}: {axis:?}");
                    assert!(axis.ticks.len() < 64, "{low} {high}: {axis:?}");
                    assert!(
                        axis.share(low).is_finite() && axis.share(high).is_finite(),
                        "{axis:?}"
                    );
                }
            }
        }
    }
}
