//! The few laws of statistics that the estimators need.

use std::f64::consts::{FRAC_1_SQRT_2, LN_2};

/// `Pr[Z <= x]` of a standard normal Z.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// The x with `Pr[Z <= x] = p`, to about 1e-15 relative in the smaller tail; infinite at 0 and 1.
pub(crate) fn normal_quantile(p: f64) -> f64 {
    if p <= 0.0 {
        return f64::NEG_INFINITY;
    }
    if p >= 1.0 {
        return f64::INFINITY;
    }
    if p > 0.5 {
        return -normal_quantile(1.0 - p);
    }
    let (mut low, mut high) = (-39.0, 0.0);
    while high - low > 1e-15 * f64::max(1.0, -low) {
        let middle = 0.5 * (low + high);
        if normal_cdf(middle) < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Student's non-central t with fixed degrees of freedom, at a fixed value t, for any non-centrality: T = (Z + non-centrality) / W,
/// where W² is a chi-square of `degrees` degrees of freedom divided by them.
#[derive(Debug)]
pub(crate) struct NoncentralT {
    /// t·w and the weight of w, over the support of W.
    nodes: Vec<(f64, f64)>,
}

impl NoncentralT {
    /// Pr[T ≤ t] = E Φ(tW − non-centrality), by the trapezoidal rule over 14 standard deviations of W to each side. Steps are short
    /// against the spread of W and against 1/t, over which the two factors change, so it converges geometrically: absolute error
    /// below 1e-9 for 10 degrees or more and |t| up to 10⁴.
    pub(crate) fn new(t: f64, degrees: f64) -> Self {
        let half = 0.5 * degrees;
        let log_scale = LN_2 + half * half.ln() - libm::lgamma(half);
        let width = 14.0 / (2.0 * degrees).sqrt();
        let low = f64::max(1.0 - width, 0.0);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within the range of the clamp"
        )]
        let n_steps = (2.0 * width * t.abs()).ceil().clamp(400.0, 40_000.0) as u32;
        let step = (1.0 + width - low) / f64::from(n_steps);
        let nodes = (1..n_steps)
            .map(|i| {
                let w = low + step * f64::from(i);
                let log_density = log_scale + (degrees - 1.0) * w.ln() - half * w * w;
                (t * w, step * log_density.exp())
            })
            .filter(|node| node.1 > 1e-20)
            .collect();
        Self { nodes }
    }

    /// `Pr[T <= t]`.
    pub(crate) fn cdf(&self, noncentrality: f64) -> f64 {
        let sum: f64 = self
            .nodes
            .iter()
            .map(|&(at, weight)| weight * normal_cdf(at - noncentrality))
            .sum();
        sum.clamp(0.0, 1.0)
    }
}

/// The law of a binomial number, as logarithms of its masses.
#[derive(Debug)]
pub(crate) struct Binomial {
    log_masses: Vec<f64>,
}

impl Binomial {
    /// `n` trials, each a success with probability `p` strictly between 0 and 1.
    pub(crate) fn new(n: u32, p: f64) -> Self {
        let (size, log_p, log_q) = (f64::from(n), p.ln(), (-p).ln_1p());
        let log_masses = (0..=n)
            .map(|k| {
                let k = f64::from(k);
                let choose = libm::lgamma(size + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(size - k + 1.0);
                choose + k * log_p + (size - k) * log_q
            })
            .collect();
        Self { log_masses }
    }

    /// `Pr[X >= k]` for every k from 0 to n + 1.
    pub(crate) fn upper_tails(&self) -> Vec<f64> {
        let mut tails = vec![0.0; self.log_masses.len() + 1];
        for (k, log_mass) in self.log_masses.iter().enumerate().rev() {
            tails[k] = tails[k + 1] + log_mass.exp();
        }
        tails
    }
}

/// `ln Pr[Bin(n, p) <= k]`.
pub(crate) fn log_binomial_cdf(k: u32, n: u32, p: f64) -> f64 {
    if p <= 0.0 || k >= n {
        return 0.0;
    }
    if p >= 1.0 {
        return f64::NEG_INFINITY;
    }
    // Masses relative to that at k, downward: their sum never overflows and its first terms are the largest that matter.
    let (n, at, odds) = (f64::from(n), f64::from(k), p / (1.0 - p));
    if at > n * p {
        return (-upper_tail_above(at, n, p)).ln_1p();
    }
    let (mut sum, mut term, mut j) = (0.0, 1.0, at);
    while j >= 0.0 && term > sum * 1e-17 {
        sum += term;
        term *= j / ((n - j + 1.0) * odds);
        j -= 1.0;
    }
    log_binomial_mass(at, n, p) + f64::ln(sum)
}

/// `Pr[Bin(n, p) > k]` for k above the mean.
fn upper_tail_above(k: f64, n: f64, p: f64) -> f64 {
    let odds = p / (1.0 - p);
    let (mut sum, mut term, mut j) = (0.0, 1.0, k + 1.0);
    while j <= n && term > sum * 1e-17 {
        sum += term;
        term *= (n - j) / (j + 1.0) * odds;
        j += 1.0;
    }
    (log_binomial_mass(k + 1.0, n, p).exp() * sum).min(1.0)
}

fn log_binomial_mass(k: f64, n: f64, p: f64) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0)
        + k * p.ln()
        + (n - k) * (-p).ln_1p()
}

/// `Pr[|X / degrees − 1| as large as observed]`, two-sided, for a chi-square X: Wilson and Hilferty's cube root, whose error at
/// a thousand degrees or more is far below what a test at level 1e-6 could notice.
pub(crate) fn chi_square_two_sided(ratio: f64, degrees: f64) -> f64 {
    let spread = 2.0 / (9.0 * degrees);
    let z = (ratio.max(0.0).cbrt() - (1.0 - spread)) / spread.sqrt();
    2.0 * normal_cdf(-z.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_match_tables() {
        for (p, expected) in [
            (0.5, 0.0),
            (0.95, 1.644_853_626_951_472_2),
            (0.999_9, 3.719_016_485_455_68),
        ] {
            assert!((normal_quantile(p) - expected).abs() < 1e-12, "{p}");
        }
        assert!((normal_cdf(normal_quantile(1e-200)) / 1e-200 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn non_central_t_matches_tables() {
        // Student's t: 95 % quantiles for 10 and 120 degrees of freedom.
        assert!((NoncentralT::new(1.812_461_122_8, 10.0).cdf(0.0) - 0.95).abs() < 1e-9);
        assert!((NoncentralT::new(1.657_650_899, 120.0).cdf(0.0) - 0.95).abs() < 1e-8);
        // One-sided tolerance factors for 90 % of a normal population at confidence 95 %: k·sqrt(n) is the 95 % quantile of the
        // non-central t with n − 1 degrees and non-centrality z₀.₉ sqrt(n) (Natrella 1963, table A-7).
        for (n, k) in [(11.0_f64, 2.275), (20.0, 1.926), (50.0, 1.646)] {
            let got = NoncentralT::new(k * n.sqrt(), n - 1.0).cdf(normal_quantile(0.9) * n.sqrt());
            assert!((got - 0.95).abs() < 1.5e-3, "{n}: {got}");
        }
    }

    #[test]
    fn binomial_tails_match_exact_values() {
        let tails = Binomial::new(10, 0.5).upper_tails();
        assert!((tails[2] - (1.0 - 11.0 / 1024.0)).abs() < 1e-13 && tails[11] <= 0.0);
        assert!((log_binomial_cdf(1, 10, 0.5).exp() - 11.0 / 1024.0).abs() < 1e-13);
        assert!((log_binomial_cdf(9, 10, 0.5).exp() - 1023.0 / 1024.0).abs() < 1e-13);
        assert!((log_binomial_cdf(0, 100_000, 1e-4).exp() / (-10.0_f64 - 5e-4).exp() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn chi_squares_match_tables() {
        // 1,000 degrees: the upper 2.5 % point is 1089.53.
        assert!((chi_square_two_sided(1.089_53, 1000.0) - 0.05).abs() < 1e-4);
        assert!(chi_square_two_sided(0.5, 1000.0) < 1e-20);
    }
}
