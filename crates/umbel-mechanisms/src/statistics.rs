//! Statistical tests for the samplers. Every check is wrong about a correct sampler once in a million seeds, and seeds are
//! fixed, so a check that passes once passes always.

/// Probability with which one check fails although the sampler is right.
pub(crate) const FALSE_ALARM: f64 = 1e-6;

/// A bound beyond which samples are counted as one: `n_deviations` times a scale, at least 3.
#[allow(clippy::cast_possible_truncation, reason = "scales in tests are small")]
pub(crate) fn range(n_deviations: f64, scale: f64) -> i64 {
    (n_deviations * scale).ceil().max(3.0) as i64
}

/// The normal distribution function.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// The bound that a standard normal exceeds in magnitude with this probability.
pub(crate) fn two_sided_normal_bound(probability: f64) -> f64 {
    let (mut low, mut high) = (0.0, 40.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if 2.0 * normal_cdf(-middle) > probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// Probability that a chi-square variable with these degrees of freedom is above a value: the regularised incomplete gamma
/// function Q(degrees / 2, value / 2), by series or continued fraction.
pub(crate) fn chi_square_tail(value: f64, degrees: f64) -> f64 {
    let (a, x) = (degrees / 2.0, value / 2.0);
    if x <= 0.0 {
        return 1.0;
    }
    let front = (a * x.ln() - x - libm::lgamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        1.0 - front * sum
    } else {
        let mut b = x + 1.0 - a;
        let mut c = 1e300;
        let mut d = 1.0 / b;
        let mut fraction = d;
        for n in 1..100_000 {
            let n = f64::from(n);
            let numerator = -n * (n - a);
            b += 2.0;
            d = 1.0 / (numerator * d + b);
            c = b + numerator / c;
            fraction *= d * c;
            if (d * c - 1.0).abs() < 1e-16 {
                break;
            }
        }
        front * fraction
    }
}

/// Fails if a chi-square statistic is too large, or too small, to be one.
#[track_caller]
pub(crate) fn check_chi_square(value: f64, degrees: f64, what: &str) {
    let upper = chi_square_tail(value, degrees);
    assert!(
        upper > FALSE_ALARM / 2.0 && 1.0 - upper > FALSE_ALARM / 2.0,
        "{what}: chi-square {value} with {degrees} degrees of freedom has upper tail {upper:e}"
    );
}

/// Pearson's test of counts against probabilities that sum to 1 with a last cell for all the rest.
///
/// Neighbouring cells that expect fewer than 20 are joined.
#[track_caller]
pub(crate) fn check_counts(counts: &[f64], probabilities: &[f64], what: &str) {
    assert_eq!(counts.len(), probabilities.len());
    let total: f64 = counts.iter().sum();
    let (mut statistic, mut n_cells) = (0.0, 0.0);
    let (mut count, mut expected) = (0.0, 0.0);
    let mut last = (0.0, 0.0);
    for (&cell, &probability) in counts.iter().zip(probabilities) {
        count += cell;
        expected += probability * total;
        if expected >= 20.0 {
            statistic += (count - expected).powi(2) / expected;
            n_cells += 1.0;
            last = (count, expected);
            (count, expected) = (0.0, 0.0);
        }
    }
    // What is left over joins the last cell.
    statistic -= (last.0 - last.1).powi(2) / last.1;
    statistic += (last.0 + count - last.1 - expected).powi(2) / (last.1 + expected);
    assert!(n_cells > 1.0, "{what}: too few samples");
    check_chi_square(statistic, n_cells - 1.0, what);
}

/// Tests that two lists of counts come from one distribution.
#[track_caller]
pub(crate) fn check_same_distribution(left: &[f64], right: &[f64], what: &str) {
    let (n, m) = (left.iter().sum::<f64>(), right.iter().sum::<f64>());
    let (mut statistic, mut n_cells) = (0.0, 0.0);
    for (&a, &b) in left.iter().zip(right) {
        if a + b >= 40.0 {
            statistic += (a * (m / n).sqrt() - b * (n / m).sqrt()).powi(2) / (a + b);
            n_cells += 1.0;
        }
    }
    // Cells left out make the totals differ a little, so the degree of freedom that the totals cost is kept.
    check_chi_square(statistic, n_cells, what);
}

/// Kolmogorov and Smirnov's test of sorted samples against a continuous distribution function; the bound is Massart's,
/// which holds for every number of samples.
#[track_caller]
pub(crate) fn check_kolmogorov_smirnov(sorted: &[f64], cdf: impl Fn(f64) -> f64, what: &str) {
    let n = sorted.len() as f64;
    let distance = sorted
        .iter()
        .enumerate()
        .map(|(rank, &x)| {
            let (below, expected) = (rank as f64 / n, cdf(x));
            (expected - below).abs().max((expected - below - 1.0 / n).abs())
        })
        .fold(0.0, f64::max);
    let bound = ((2.0 / FALSE_ALARM).ln() / (2.0 * n)).sqrt();
    assert!(distance < bound, "{what}: distance {distance}, bound {bound}");
}

/// Fails if a standardised statistic that is nearly normal is too far from 0.
#[track_caller]
pub(crate) fn check_z(z: f64, what: &str) {
    let bound = two_sided_normal_bound(FALSE_ALARM);
    assert!(
        z.abs() < bound,
        "{what}: off by {z} standard deviations, bound {bound}"
    );
}

#[test]
fn tails_agree_with_published_values() {
    for (value, degrees, expected) in [
        (3.841_458_820_694, 1.0, 0.05),
        (18.307_038_053_275, 10.0, 0.05),
        (149.449_252_7, 100.0, 0.001),
    ] {
        assert!(
            (chi_square_tail(value, degrees) / expected - 1.0).abs() < 1e-6,
            "{value} {degrees}"
        );
    }
    assert!((two_sided_normal_bound(0.05) - 1.959_963_984_540).abs() < 1e-9);
    assert!((two_sided_normal_bound(1e-6) - 4.891_638_475).abs() < 1e-6);
}
