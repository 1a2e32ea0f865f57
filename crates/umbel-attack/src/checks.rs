//! Whether what was seen has the law that was claimed: tests that an ε alone cannot stand for.

use crate::claim::{Claim, Participation};
use crate::observer::ObservedRound;
use crate::special::{chi_square_two_sided, normal_cdf, normal_quantile};

/// One test of the claimed law.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Check {
    /// What is tested.
    pub name: &'static str,
    /// Whether the claim stands. A true claim fails with probability [`FALSE_ALARM`].
    pub passed: bool,
    /// The probability of what was seen, or worse, if the claim holds.
    pub p_value: f64,
    /// What was seen and what was expected.
    pub detail: String,
}

/// Probability with which each check fails on a run that keeps its claim.
pub const FALSE_ALARM: f64 = 1e-6;

impl Check {
    fn new(name: &'static str, p_value: f64, detail: String) -> Self {
        Self {
            name,
            passed: p_value >= FALSE_ALARM,
            p_value,
            detail,
        }
    }
}

/// Pure noise of each round, in clip norms: projections on directions that nothing else moves.
pub(crate) struct Noise(Vec<Vec<f64>>);

impl Noise {
    /// From directions that no canary uses, and those of excluded canaries.
    pub(crate) fn new(rounds: &[ObservedRound], is_excluded: impl Fn(usize) -> bool) -> Self {
        let of_round = |round: &ObservedRound| {
            let excluded = round
                .scores
                .iter()
                .enumerate()
                .filter(|(canary, _)| is_excluded(*canary));
            let unused = round.unused.iter().copied().map(f64::from);
            unused.chain(excluded.map(|(_, score)| *score)).collect()
        };
        Self(rounds.iter().map(of_round).collect())
    }

    /// Whether the noise has the claimed size: a chi-square test of its mean square, two-sided.
    pub(crate) fn check_size(&self, claim: &Claim) -> Option<Check> {
        if claim.seen_noise() <= 0.0 {
            return None;
        }
        let n = self.0.iter().map(Vec::len).sum::<usize>();
        let squares: f64 = self.0.iter().flatten().map(|value| value * value).sum();
        let ratio = squares / to_f64(n) / claim.seen_noise().powi(2);
        let p_value = if ratio.is_finite() {
            chi_square_two_sided(ratio, to_f64(n))
        } else {
            0.0
        };
        let detail = format!(
            "standard deviation {:.6} in clip norms over {n} projections, claimed {:.6}",
            ratio.sqrt() * claim.seen_noise(),
            claim.seen_noise()
        );
        Some(Check::new("noise-size", p_value, detail))
    }

    /// Whether noise differs from round to round: the largest correlation of two rounds, Bonferroni over all pairs. If it does
    /// not, `Err` holds the weights of rounds with which a sum has least noise.
    pub(crate) fn check_independence(&self) -> (Option<Check>, Option<Vec<f64>>) {
        let n_rounds = self.0.len();
        let n = self.0.iter().map(Vec::len).min().unwrap_or(0);
        let n_pairs = n_rounds * n_rounds.saturating_sub(1) / 2;
        // Few directions tell equal noise from independent noise, so many rounds need not cost much.
        let n = n.min((WORK / n_pairs.max(1)).max(64));
        if n_pairs == 0 || n < 16 {
            return (None, None);
        }
        let covariance = |a: usize, b: usize| -> f64 {
            let products = self.0[a][..n].iter().zip(&self.0[b][..n]).map(|(x, y)| x * y);
            products.sum::<f64>() / to_f64(n)
        };
        let mut matrix = vec![vec![0.0; n_rounds]; n_rounds];
        let mut worst = (0.0_f64, 1, 1);
        for a in 0..n_rounds {
            matrix[a][a] = covariance(a, a);
            for b in 0..a {
                matrix[a][b] = covariance(a, b);
                let scale = (matrix[a][a] * matrix[b][b]).sqrt();
                let correlation = if scale > 0.0 { matrix[a][b] / scale } else { 0.0 };
                if correlation.abs() > worst.0.abs() {
                    worst = (correlation, b + 1, a + 1);
                }
            }
        }
        // Fisher's transformation makes a correlation nearly normal far into its tails.
        let z = worst.0.abs().min(1.0 - 1e-12).atanh() * (to_f64(n) - 3.0).sqrt();
        let p_value = (2.0 * normal_cdf(-z) * to_f64(n_pairs)).min(1.0);
        let detail = format!(
            "largest correlation between two rounds {:+.4}, rounds {} and {}; at most {:.4} expected",
            worst.0,
            worst.1,
            worst.2,
            (-normal_quantile(0.5 * FALSE_ALARM / to_f64(n_pairs)) / (to_f64(n) - 3.0).sqrt()).tanh()
        );
        let check = Check::new("noise-independence", p_value, detail);
        let weights = if check.passed || 4 * n_rounds > n {
            None
        } else {
            best_weights(matrix)
        };
        (Some(check), weights)
    }
}

/// Multiplications that the test of independence may take, about a second.
const WORK: usize = 1_000_000_000;

/// Whether canaries were invited as often as Poisson sampling would: their number, and how it spreads over canaries, so that a
/// cohort that stays the same is seen.
pub(crate) fn check_participation(rounds: &[ObservedRound], n_canaries: usize, claim: &Claim) -> Vec<Check> {
    if let Participation::Turns { separation, most } = claim.participation() {
        return vec![check_turns(rounds, n_canaries, separation, most)];
    }
    let (q, n_rounds, n) = (claim.rate(), to_f64(rounds.len()), to_f64(n_canaries));
    let mut counts = vec![0_u32; n_canaries];
    for round in rounds {
        for &canary in &round.invited {
            counts[canary as usize] += 1;
        }
    }
    let total: f64 = counts.iter().copied().map(f64::from).sum();
    let variance = n_rounds * q * (1.0 - q);
    if variance <= 0.0 {
        let p_value = if (total - n * n_rounds * q).abs() < 0.5 {
            1.0
        } else {
            0.0
        };
        let detail = format!("{total} invitations of canaries, {} expected", n * n_rounds * q);
        return vec![Check::new("sampling-rate", p_value, detail)];
    }
    let z = (total - n * n_rounds * q) / (n * variance).sqrt();
    let rate = Check::new(
        "sampling-rate",
        2.0 * normal_cdf(-z.abs()),
        format!(
            "{total} invitations of canaries, {:.1} expected",
            n * n_rounds * q
        ),
    );
    // The squared deviation of a binomial count has mean 1 and variance 2 + (1 − 6q(1 − q)) / (Tq(1 − q)), in units of its own
    // variance: the sum is compared with the chi-square that has both.
    let mean_square: f64 = counts
        .iter()
        .map(|&count| (f64::from(count) - n_rounds * q).powi(2) / variance)
        .sum::<f64>()
        / n;
    let excess = (1.0 - 6.0 * q * (1.0 - q)) / variance;
    let degrees = 2.0 * n / (2.0 + excess);
    let spread = Check::new(
        "sampling-independence",
        chi_square_two_sided(mean_square, degrees),
        format!("variance of a canary's participations {mean_square:.4} of the binomial's"),
    );
    vec![rate, spread]
}

/// Whether every canary's participations are as far apart and as few as its turns allow: nothing is left to chance here.
fn check_turns(rounds: &[ObservedRound], n_canaries: usize, separation: u64, most: u64) -> Check {
    let mut taken = vec![Vec::new(); n_canaries];
    for (round, place) in rounds.iter().zip(1_u64..) {
        for &canary in &round.invited {
            taken[canary as usize].push(place);
        }
    }
    let keeps = |rounds: &Vec<u64>| {
        rounds.len() as u64 <= most && rounds.windows(2).all(|pair| pair[1] - pair[0] >= separation)
    };
    let broken = taken.iter().filter(|rounds| !keeps(rounds)).count();
    let p_value = if broken == 0 { 1.0 } else { 0.0 };
    let detail = format!(
        "{broken} of {n_canaries} canaries took part more than {most} times or less than {separation} rounds apart"
    );
    Check::new("turns", p_value, detail)
}

/// Weights w with w·1 = n and least variance wᵀΣw, w ∝ Σ⁻¹1; `None` if the matrix is not positive definite.
fn best_weights(mut matrix: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    let n = matrix.len();
    let trace: f64 = (0..n).map(|i| matrix[i][i]).sum();
    // A ridge, since equal noise makes the matrix singular.
    for (i, row) in matrix.iter_mut().enumerate() {
        row[i] += 1e-9 * trace / to_f64(n);
    }
    // Cholesky, then two triangular systems.
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| matrix[i][k] * matrix[j][k]).sum();
            let rest = matrix[i][j] - sum;
            matrix[i][j] = if i == j {
                if rest <= 0.0 || !rest.is_finite() {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / matrix[j][j]
            };
        }
    }
    let mut weights = vec![1.0; n];
    for i in 0..n {
        let sum: f64 = (0..i).map(|k| matrix[i][k] * weights[k]).sum();
        weights[i] = (weights[i] - sum) / matrix[i][i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| matrix[k][i] * weights[k]).sum();
        weights[i] = (weights[i] - sum) / matrix[i][i];
    }
    let total: f64 = weights.iter().sum();
    (total > 0.0 && total.is_finite()).then(|| weights.iter().map(|w| w * to_f64(n) / total).collect())
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
pub(crate) fn to_f64(n: usize) -> f64 {
    n as f64
}
