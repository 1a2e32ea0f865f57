//! Numbers for a person: a bound is never rounded to the side where it would say too much.

use umbel_accounting::{Epsilon, EpsilonBounds};

/// How many significant digits a person is shown.
const DIGITS: i32 = 5;

/// Rounds up to `digits` significant digits. Zero and infinity stay what they are.
pub(super) fn up(value: f64, digits: i32) -> f64 {
    rounded(value, digits, f64::ceil).max(value)
}

/// An upper bound, rounded up.
pub(super) fn upper(value: f64) -> String {
    if value.is_infinite() {
        "infinite".to_owned()
    } else {
        text(up(value, DIGITS))
    }
}

/// A lower bound, rounded down.
pub(super) fn lower(value: f64) -> String {
    if value.is_infinite() {
        "infinite".to_owned()
    } else {
        text(rounded(value, DIGITS, f64::floor).min(value))
    }
}

/// A number that is no bound, rounded to the nearest.
pub(super) fn near(value: f64) -> String {
    text(rounded(value, DIGITS, f64::round))
}

/// A probability that is bounded from above, in percent, rounded up and never above 100 %.
pub(super) fn percent_upper(share: f64) -> String {
    let scaled = (share * 100.0).min(100.0);
    // Between 99 % and 100 % the distance to 100 % is what matters.
    let shown = if scaled > 99.0 {
        (100.0 - rounded(100.0 - scaled, 3, f64::floor)).max(scaled)
    } else {
        up(scaled, 4)
    };
    format!("{} %", text(shown.min(100.0)))
}

/// A number in full.
pub(super) fn text(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

/// ε at δ with everything known of it: `1.8283 at δ = 1e-5, and no ε below 1.8191 holds`.
pub(super) fn epsilon(bounds: EpsilonBounds, delta: f64) -> String {
    if bounds.upper.value().is_infinite() {
        return format!(
            "infinite at δ = {}: NOT PRIVATE, no finite ε was shown to hold",
            text(delta)
        );
    }
    let below = match bounds.lower.map(Epsilon::value) {
        Some(bound) if bound > 0.0 => format!(", and no ε below {} holds", lower(bound)),
        _ => String::new(),
    };
    format!("{} at δ = {}{below}", upper(bounds.upper.value()), text(delta))
}

/// A finite number, or none.
pub(super) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// A whole number as `f64`.
#[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
pub(super) fn whole(count: u64) -> f64 {
    count as f64
}

fn rounded(value: f64, digits: i32, round: fn(f64) -> f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the exponent of a double is small"
    )]
    let places = digits - 1 - value.abs().log10().floor() as i32;
    if places > 300 {
        return value;
    }
    // Powers of ten up to 22 are exact, so that for usual sizes the result is the double nearest to a short decimal.
    let scale = 10_f64.powi(places.abs());
    if places >= 0 {
        round(value * scale) / scale
    } else {
        round(value / scale) * scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_rounded_to_their_own_side() {
        for (value, above, below) in [
            (1.828_237, "1.8283", "1.8282"),
            (633.903_21, "633.91", "633.9"),
            (0.0, "0", "0"),
            (2.0, "2", "2"),
            (0.1, "0.1", "0.1"),
            (12_345_678.9, "1.2346e7", "1.2345e7"),
            (1.000_001e-7, "1.0001e-7", "1e-7"),
            (f64::INFINITY, "infinite", "infinite"),
        ] {
            assert_eq!(
                (upper(value).as_str(), lower(value).as_str()),
                (above, below),
                "{value}"
            );
        }
        let mut value = 1e-12;
        while value < 1e12 {
            assert!(upper(value).parse::<f64>().unwrap() >= value, "{value}");
            assert!(lower(value).parse::<f64>().unwrap() <= value, "{value}");
            value *= 1.37;
        }
    }

    #[test]
    fn probabilities_stay_below_one_where_they_are() {
        assert_eq!(percent_upper(0.5), "50 %");
        assert_eq!(percent_upper(0.712_345), "71.24 %");
        assert_eq!(percent_upper(1.0), "100 %");
        assert_eq!(percent_upper(1.0 - 1e-6), "99.9999 %");
        assert!(percent_upper(0.999_4).starts_with("99.94"));
    }

    #[test]
    fn an_infinite_epsilon_says_so() {
        let bounds = EpsilonBounds {
            lower: None,
            upper: Epsilon::INFINITE,
        };
        assert!(epsilon(bounds, 1e-5).contains("infinite at δ = 1e-5: NOT PRIVATE"));
        let bounds = EpsilonBounds {
            lower: Epsilon::new(1.0).ok(),
            upper: Epsilon::new(1.5).unwrap(),
        };
        assert_eq!(epsilon(bounds, 1e-5), "1.5 at δ = 1e-5, and no ε below 1 holds");
    }
}
