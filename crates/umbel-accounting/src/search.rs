//! Searches on one variable: a root of a monotone function, the minimum of a function with one valley.

/// Narrows `[low, high]` around the point where `holds` turns from false to true, for a monotone `holds`.
///
/// Keeps `holds(high)` true (the caller has checked it, or trusts it) and returns both ends. Stops at a relative width
/// of `tolerance`, or when no number lies between.
pub(crate) fn bisect(
    mut low: f64,
    mut high: f64,
    tolerance: f64,
    mut holds: impl FnMut(f64) -> bool,
) -> (f64, f64) {
    for _ in 0..MOST_STEPS {
        let middle = 0.5 * (low + high);
        if high - low <= tolerance * high.abs().max(low.abs()) || middle <= low || middle >= high {
            break;
        }
        if holds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    (low, high)
}

/// Golden-section search: argument and value of the smallest of `f` on `[low, high]`, for `f` with one valley.
///
/// The value is that of a point that was evaluated, so for an `f` of upper bounds it is an upper bound whatever the
/// shape of `f`.
pub(crate) fn minimise(
    mut low: f64,
    mut high: f64,
    tolerance: f64,
    mut f: impl FnMut(f64) -> f64,
) -> (f64, f64) {
    let ratio = 0.5 * (5f64.sqrt() - 1.0);
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (f(left), f(right));
    for _ in 0..MOST_STEPS {
        if high - low <= tolerance {
            break;
        }
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = f(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = f(right);
        }
    }
    if at_left <= at_right {
        (left, at_left)
    } else {
        (right, at_right)
    }
}

/// Enough for any two numbers of type `f64` to meet.
const MOST_STEPS: u32 = 2200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bisection_ends_on_the_side_that_holds() {
        let (low, high) = bisect(0.0, 1e300, 0.0, |x| x * x >= 2.0);
        assert!(low * low < 2.0 && high * high >= 2.0 && high - low < 1e-15);
    }

    #[test]
    fn the_valley_is_found() {
        let (x, value) = minimise(-50.0, 90.0, 1e-9, |x| (x - 3.0).powi(2) + 7.0);
        assert!((x - 3.0).abs() < 1e-4 && (value - 7.0).abs() < 1e-9);
    }
}
