//! The upper tail of the binomial distribution, for populations of any size.

/// `Pr[Bin(n, q) >= at_least]`, with a relative error below 1e-9 for `n` up to 1e12.
///
/// Each mass is computed by the saddle-point expansion of Loader (2000), since differences of log-gamma functions lose
/// their digits at large `n`; the rest of the tail follows by ratios.
pub fn upper_tail(n: u64, q: f64, at_least: u64) -> f64 {
    if at_least == 0 {
        return 1.0;
    }
    if at_least > n || q <= 0.0 {
        return 0.0;
    }
    if q >= 1.0 {
        return 1.0;
    }
    #[allow(
        clippy::cast_precision_loss,
        reason = "counts above 2^53 are refused by the caller"
    )]
    let (n, start) = (n as f64, at_least as f64);
    let odds = q / (1.0 - q);
    if start > n * q {
        // Ratios of neighbouring masses fall from here on: sum upwards.
        let (mut sum, mut term, mut k) = (0.0, 1.0, start);
        while term > sum * 1e-17 && k <= n {
            sum += term;
            term *= (n - k) / (k + 1.0) * odds;
            k += 1.0;
        }
        log_mass(n, q, start).exp() * sum
    } else {
        let (mut sum, mut term, mut k) = (0.0, 1.0, start - 1.0);
        while term > sum * 1e-17 && k >= 0.0 {
            sum += term;
            term *= k / ((n - k + 1.0) * odds);
            k -= 1.0;
        }
        (1.0 - log_mass(n, q, start - 1.0).exp() * sum).max(0.0)
    }
}

/// `ln Pr[Bin(n, q) = k]`.
fn log_mass(n: f64, q: f64, k: f64) -> f64 {
    if k <= 0.0 {
        return n * (-q).ln_1p();
    }
    if k >= n {
        return n * q.ln();
    }
    stirling_error(n)
        - stirling_error(k)
        - stirling_error(n - k)
        - deviance(k, n * q)
        - deviance(n - k, n * (1.0 - q))
        + 0.5 * (n / (2.0 * std::f64::consts::PI * k * (n - k))).ln()
}

/// `ln n!` minus Stirling's formula.
fn stirling_error(n: f64) -> f64 {
    if n < 16.0 {
        libm::lgamma(n + 1.0) - (n + 0.5) * n.ln() + n - 0.5 * (2.0 * std::f64::consts::PI).ln()
    } else {
        let square = n * n;
        (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - (1.0 / 1680.0) / square) / square) / square) / n
    }
}

/// `x ln(x / mean) + mean - x`, without cancellation when both are close.
fn deviance(x: f64, mean: f64) -> f64 {
    let difference = x - mean;
    if difference.abs() < 0.1 * (x + mean) {
        let v = difference / (x + mean);
        let mut sum = difference * v;
        let mut power = 2.0 * x * v;
        for j in 1..1000 {
            power *= v * v;
            let next = sum + power / f64::from(2 * j + 1);
            #[allow(
                clippy::float_cmp,
                reason = "the series has converged when a term no longer changes the sum"
            )]
            if next == sum {
                break;
            }
            sum = next;
        }
        sum
    } else {
        x * (x / mean).ln() - difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_match_exact_sums() {
        // 1 - (1/2)^10 (1 + 10), and values of scipy 1.17 and mpmath 1.4.
        assert!((upper_tail(10, 0.5, 2) - (1.0 - 11.0 / 1024.0)).abs() < 1e-13);
        assert!((upper_tail(10, 0.5, 10) * 1024.0 - 1.0).abs() < 1e-12);
        assert!((upper_tail(1000, 0.01, 21) / 1.496_481_547_709_241_3e-3 - 1.0).abs() < 1e-9);
        assert!((upper_tail(1_000_000_000, 1e-6, 1200) / 4.684_108_424_588_21e-10 - 1.0).abs() < 1e-9);
        assert!(upper_tail(5, 0.3, 6) <= 0.0 && upper_tail(5, 0.3, 0) >= 1.0);
    }

    #[test]
    fn both_summations_agree_at_the_mean() {
        for n in [50_u64, 5_000, 500_000] {
            let at = n / 10;
            let total = upper_tail(n, 0.1, at) - upper_tail(n, 0.1, at + 1);
            #[allow(clippy::cast_precision_loss, reason = "small numbers")]
            let mass = log_mass(n as f64, 0.1, at as f64).exp();
            assert!((total / mass - 1.0).abs() < 1e-8, "{n}");
        }
    }
}
