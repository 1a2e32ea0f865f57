//! Numbers as a reader wants them: grouped, rounded to what matters, and never to the flattering side.

/// A whole number with its thousands separated: `25,842`.
pub(super) fn count(value: f64) -> String {
    grouped(&format!("{value:.0}"))
}

/// A whole number of something: `1 client`, `2 clients`.
pub(super) fn of(value: f64, thing: &str) -> String {
    let number = count(value);
    let plural = if number == "1" { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Four significant digits, without trailing zeros: `1.234`, `25,842`, `1.2e-7`.
pub(super) fn plain(value: f64) -> String {
    significant(value, 4)
}

/// A share as a percentage with two digits after the point: `91.23%`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

/// The number itself, in as few digits as identify it: `1e-4`, `0.05`, `8`.
pub(super) fn exact(value: f64) -> String {
    if value.abs() < 1e-3 && value.abs() > 0.0 || value.abs() >= 1e9 {
        format!("{value:e}")
    } else {
        grouped(&format!("{value}"))
    }
}

/// An upper bound on ε with three digits after the point, rounded up: what is printed holds too.
pub(super) fn epsilon_upper(value: f64) -> String {
    rounded_at(value, |printed| printed >= value, 0.001)
}

/// A lower bound on ε with three digits after the point, rounded down.
pub(super) fn epsilon_lower(value: f64) -> String {
    rounded_at(value, |printed| printed <= value, -0.001)
}

/// A time: `12.3 s`, `2 min 5 s`, `1 h 2 min`.
pub(super) fn seconds(value: f64) -> String {
    let whole = value.round();
    if value < 10.0 {
        format!("{value:.2} s")
    } else if value < 60.0 {
        format!("{value:.1} s")
    } else if value < 3600.0 {
        format!("{:.0} min {:.0} s", (whole / 60.0).floor(), whole % 60.0)
    } else {
        format!(
            "{} h {:.0} min",
            count((whole / 3600.0).floor()),
            (whole % 3600.0 / 60.0).floor()
        )
    }
}

/// An amount of memory in binary units: `184.2 MiB`.
pub(super) fn bytes(value: f64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if value < 1024.0 {
        return format!("{} bytes", count(value));
    }
    let mut scaled = value / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if scaled < 1024.0 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    format!("{scaled:.1} {unit}")
}

/// Prints with three digits; where that fails the test, one step further.
fn rounded_at(value: f64, holds: impl Fn(f64) -> bool, step: f64) -> String {
    let nearest = format!("{value:.3}");
    let printed = nearest.parse::<f64>().unwrap_or(value);
    if holds(printed) {
        grouped(&nearest)
    } else {
        grouped(&format!("{:.3}", printed + step))
    }
}

fn significant(value: f64, digits: usize) -> String {
    let scientific = format!("{value:.*e}", digits.saturating_sub(1));
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific; // not finite
    };
    let exponent = exponent.parse::<i32>().unwrap_or(0);
    if value.abs() > 0.0 && !(-4..9).contains(&exponent) {
        return format!("{}e{exponent}", without_trailing_zeros(mantissa));
    }
    let after_point = i32::try_from(digits)
        .unwrap_or(i32::MAX)
        .saturating_sub(1)
        .saturating_sub(exponent);
    let decimals = usize::try_from(after_point).unwrap_or(0);
    grouped(without_trailing_zeros(&format!("{value:.decimals$}")))
}

fn without_trailing_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// Separates thousands in the whole part of a printed decimal number.
pub(super) fn grouped(text: &str) -> String {
    let (sign, unsigned) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let whole_length = unsigned.find('.').unwrap_or(unsigned.len());
    let (whole, rest) = unsigned.split_at(whole_length);
    if !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.to_owned(); // `inf`, `NaN`
    }
    let all_zero = unsigned.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let mut out = String::from(if all_zero { "" } else { sign });
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole_length - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        for (value, text) in [
            (0.0, "0"),
            (-0.2, "0"),
            (539.0, "539"),
            (25_842.0, "25,842"),
            (-1_234_567.0, "-1,234,567"),
        ] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn four_digits_are_enough() {
        for (value, text) in [
            (0.0, "0"),
            (1.23456, "1.235"),
            (270.0, "270"),
            (25_842.4, "25,842"),
            (0.000_123_456, "0.0001235"),
            (1.5e-7, "1.5e-7"),
            (9.9996, "10"),
            (-2.5, "-2.5"),
            (1e30, "1e30"),
        ] {
            assert_eq!(plain(value), text);
        }
    }

    #[test]
    fn printed_bounds_hold() {
        for (value, upper, lower) in [
            (8.0, "8.000", "8.000"),
            (7.9991, "8.000", "7.999"),
            (1.1, "1.100", "1.100"),
            (0.000_000_1, "0.001", "0.000"),
            (0.0, "0.000", "0.000"),
            (1_633.900_04, "1,633.901", "1,633.900"),
        ] {
            assert_eq!(epsilon_upper(value), upper);
            assert_eq!(epsilon_lower(value), lower);
        }
    }

    #[test]
    fn units_follow_the_size() {
        assert_eq!(exact(1e-4), "1e-4");
        assert_eq!(exact(8.0), "8");
        assert_eq!(exact(0.05), "0.05");
        assert_eq!(percent(0.91234), "91.23%");
        for (value, text) in [
            (2.345, "2.35 s"),
            (40.04, "40.0 s"),
            (125.2, "2 min 5 s"),
            (3725.0, "1 h 2 min"),
        ] {
            assert_eq!(seconds(value), text);
        }
        for (value, text) in [
            (12.0, "12 bytes"),
            (193_146_880.0, "184.2 MiB"),
            (1.5e9, "1.4 GiB"),
        ] {
            assert_eq!(bytes(value), text);
        }
    }
}
