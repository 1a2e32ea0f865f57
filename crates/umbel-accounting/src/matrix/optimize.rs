//! Finding the strategy with the smallest error at a given privacy.

use super::{
    BufferedToeplitz, MatrixError, Participation, PrefixError, StrategySensitivity, ToeplitzStrategy,
    check_rounds, check_work,
    lbfgs::{Minimum, minimize},
    sensitivity::windowed_sums,
    toeplitz::solve_lower,
};

/// Evaluations of the objective that a search may need, for refusing hopeless ones.
const EVALUATIONS: f64 = 2000.0;

/// Which error of the prefix sums is made small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the two errors that a prefix error has")]
pub enum ErrorMetric {
    /// The largest over rounds; for Toeplitz strategies that of the last round.
    Max,
    /// Root of the mean square over rounds.
    RootMeanSquare,
}

impl ErrorMetric {
    /// Weight of the square of error coefficient `t` in the squared error over `n_rounds` rounds.
    fn weight(self, t: usize, n_rounds: usize) -> f64 {
        match self {
            Self::Max => 1.0,
            Self::RootMeanSquare => (n_rounds - t) as f64 / n_rounds as f64,
        }
    }

    fn of(self, error: PrefixError) -> f64 {
        match self {
            Self::Max => error.max,
            Self::RootMeanSquare => error.root_mean_square,
        }
    }
}

/// A strategy with what it costs and what it gives, at the number of rounds and the participation it was made
/// for.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizedStrategy<S> {
    /// The strategy.
    pub strategy: S,
    /// Its sensitivity.
    pub sensitivity: StrategySensitivity,
    /// Its error at unit noise.
    pub error: PrefixError,
}

impl<S> OptimizedStrategy<S> {
    /// Sensitivity times error: what was made small. At noise multiplier z the error of the prefix sums is z
    /// times this.
    pub fn total_error(&self, metric: ErrorMetric) -> f64 {
        self.sensitivity.value * metric.of(self.error)
    }
}

/// The banded Toeplitz strategy with `n_bands` coefficients whose sensitivity times error is smallest, scaled
/// so that the squares of its coefficients add up to 1.
///
/// `n_bands` is at most the separation, unless there is one participation only: then participations do not
/// interact and the sensitivity is exact (BandMF: Choquette-Choo et al. 2023, arXiv 2306.08153; the Toeplitz
/// form: McKenna 2024, arXiv 2405.15913). L-BFGS on the logarithm of the objective, with exact gradients by
/// adjoint solves in O(`n_rounds` × `n_bands`) each; deterministic.
pub fn optimize_banded(
    n_rounds: usize,
    n_bands: usize,
    participation: &Participation,
    metric: ErrorMetric,
) -> Result<OptimizedStrategy<ToeplitzStrategy>, MatrixError> {
    check_rounds(n_rounds)?;
    let (separation, most) = (participation.separation(), participation.most_in(n_rounds));
    let widest = if most == 1 {
        n_rounds
    } else {
        separation.min(n_rounds)
    };
    if !(1..=widest).contains(&n_bands) {
        return Err(MatrixError::out_of_range(
            "number of bands",
            format!("between 1 and {widest}, the smallest separation"),
            n_bands,
        ));
    }
    check_work(
        "optimising a banded strategy",
        EVALUATIONS * n_rounds as f64 * n_bands as f64,
    )?;

    // How often the coefficient i is met: participations cut off by the end of the run have shorter columns.
    let met: Vec<f64> = (0..n_bands)
        .map(|i| (0..most).filter(|j| j * separation + i < n_rounds).count() as f64)
        .collect();
    let objective = |variables: &[f64], gradient: &mut [f64]| {
        let coefficients: Vec<f64> = std::iter::once(1.0).chain(variables.iter().copied()).collect();
        let square: f64 = met.iter().zip(&coefficients).map(|(m, c)| m * c * c).sum();
        let errors = solve_lower(&coefficients, &vec![1.0; n_rounds]);
        let weighted: Vec<f64> = errors
            .iter()
            .enumerate()
            .map(|(t, b)| metric.weight(t, n_rounds) * b)
            .collect();
        let error: f64 = weighted.iter().zip(&errors).map(|(w, b)| w * b).sum();
        // C b = 1 gives db = −C⁻¹ (dC) b, so the adjoint solves Cᵀ a = weighted b: the same solve, backwards.
        let backwards: Vec<f64> = weighted.into_iter().rev().collect();
        let adjoint = solve_lower(&coefficients, &backwards);
        for (i, slot) in gradient.iter_mut().enumerate() {
            let lag = i + 1;
            let response: f64 = adjoint
                .iter()
                .rev()
                .skip(lag)
                .zip(&errors)
                .map(|(a, b)| a * b)
                .sum();
            *slot = met[lag] * coefficients[lag] / square - response / error;
        }
        0.5 * (square.ln() + error.ln())
    };
    let start = ToeplitzStrategy::square_root(n_bands)?;
    let minimum = minimize(objective, &start.coefficients()[1..]);
    let norm = minimum.point.iter().map(|c| c * c).sum::<f64>().sqrt().hypot(1.0);
    let coefficients = std::iter::once(1.0)
        .chain(minimum.point)
        .map(|c| c / norm)
        .collect();
    let strategy = ToeplitzStrategy::new(coefficients)?;
    let sensitivity = strategy.sensitivity(n_rounds, participation)?;
    let error = strategy.prefix_error(n_rounds)?;
    Ok(OptimizedStrategy {
        strategy,
        sensitivity,
        error,
    })
}

/// The buffered linear Toeplitz strategy with `n_buffers` buffers whose sensitivity times error is smallest.
///
/// L-BFGS on the logarithm of the objective over the logits of the decays and the logarithms of the scales,
/// with exact gradients by reverse differentiation of the noise recursion in O(`n_rounds` × `n_buffers`).
/// Since the objective has more than one valley, the search starts from quadratures of the square root's
/// integral over several horizons and from the best strategy with one buffer less; deterministic. More
/// buffers never give a larger error.
pub fn optimize_buffered(
    n_rounds: usize,
    n_buffers: usize,
    participation: &Participation,
    metric: ErrorMetric,
) -> Result<OptimizedStrategy<BufferedToeplitz>, MatrixError> {
    check_rounds(n_rounds)?;
    let most_buffers = 8;
    if !(1..=most_buffers).contains(&n_buffers) {
        return Err(MatrixError::out_of_range(
            "number of buffers",
            format!("between 1 and {most_buffers}"),
            n_buffers,
        ));
    }
    check_work(
        "optimising a buffered strategy",
        EVALUATIONS * n_rounds as f64 * (n_buffers * (n_buffers + 1)) as f64,
    )?;
    let objective = BufferedObjective {
        n_rounds,
        separation: participation.separation(),
        most: participation.most_in(n_rounds),
        metric,
    };
    let mut best = Minimum {
        point: Vec::new(),
        value: f64::INFINITY,
    };
    for n in 1..=n_buffers {
        let mut starts = objective.quadratures(n);
        if n > 1 {
            starts.extend(with_one_more(&best.point));
        }
        let mut found = best;
        for start in starts {
            let minimum = minimize(|point, gradient| objective.evaluate(point, gradient), &start);
            // A NaN or an infinite value never wins.
            if minimum.value < found.value || found.point.len() < 2 * n && minimum.value <= found.value + 1e-9
            {
                found = minimum;
            }
        }
        best = if found.point.len() == 2 * n {
            found
        } else {
            padded(found, n)
        };
    }
    let (decays, scales) = decays_and_scales(&best.point);
    let strategy = BufferedToeplitz::new(decays, scales)?;
    let sensitivity = strategy.sensitivity(n_rounds, participation)?;
    let error = strategy.prefix_error(n_rounds)?;
    Ok(OptimizedStrategy {
        strategy,
        sensitivity,
        error,
    })
}

/// The logarithm of sensitivity times error as a function of the logits of the decays, then the logarithms of
/// the scales.
struct BufferedObjective {
    n_rounds: usize,
    separation: usize,
    most: usize,
    metric: ErrorMetric,
}

impl BufferedObjective {
    fn evaluate(&self, point: &[f64], gradient: &mut [f64]) -> f64 {
        let (decays, scales) = decays_and_scales(point);
        let d = decays.len();
        let total: f64 = scales.iter().sum();
        if total.is_nan() || total >= 1.0 || decays.iter().any(|decay| decay.is_nan()) {
            return f64::INFINITY;
        }
        let mut by_decay = vec![0.0; d];
        let mut by_scale = vec![0.0; d];
        let square = self.square(&decays, &scales, &mut by_decay, &mut by_scale);
        let error = self.error(&decays, &scales, &mut by_decay, &mut by_scale);
        for j in 0..d {
            gradient[j] = 0.5 * by_decay[j] * decays[j] * (1.0 - decays[j]);
            gradient[d + j] = 0.5 * by_scale[j] * scales[j];
        }
        0.5 * (square.ln() + error.ln())
    }

    /// Squared sensitivity; adds the gradient of its logarithm.
    fn square(&self, decays: &[f64], scales: &[f64], by_decay: &mut [f64], by_scale: &mut [f64]) -> f64 {
        let (n, d) = (self.n_rounds, decays.len());
        let mut coefficients = vec![0.0; n];
        coefficients[0] = 1.0;
        for j in 0..d {
            let mut term = scales[j];
            for c in &mut coefficients[1..] {
                *c += term;
                term *= decays[j];
            }
        }
        let mut sums = windowed_sums(&coefficients, self.separation, self.most);
        let square: f64 = sums.iter().map(|u| u * u).sum();
        sums.reverse();
        let mut adjoint = windowed_sums(&sums, self.separation, self.most);
        adjoint.reverse();
        for j in 0..d {
            let (mut power, mut slope) = (1.0, 0.0);
            let (mut to_scale, mut to_decay) = (0.0, 0.0);
            for a in &adjoint[1..] {
                to_scale += a * power;
                to_decay += a * slope;
                slope = slope * decays[j] + power;
                power *= decays[j];
            }
            by_scale[j] += 2.0 * to_scale / square;
            by_decay[j] += 2.0 * scales[j] * to_decay / square;
        }
        square
    }

    /// Squared error at unit noise; adds the gradient of its logarithm.
    fn error(&self, decays: &[f64], scales: &[f64], by_decay: &mut [f64], by_scale: &mut [f64]) -> f64 {
        let (n, d) = (self.n_rounds, decays.len());
        let mut history = vec![0.0; n * d];
        let mut errors = Vec::with_capacity(n);
        let mut buffers = vec![0.0; d];
        for row in history.chunks_exact_mut(d) {
            row.copy_from_slice(&buffers);
            let error = 1.0 - scales.iter().zip(&buffers).map(|(w, s)| w * s).sum::<f64>();
            buffers
                .iter_mut()
                .zip(decays)
                .for_each(|(s, decay)| *s = *s * decay + error);
            errors.push(error);
        }
        let total: f64 = errors
            .iter()
            .enumerate()
            .map(|(t, b)| self.metric.weight(t, n) * b * b)
            .sum();
        let mut buffer_adjoints = vec![0.0; d];
        for (t, row) in history.chunks_exact(d).enumerate().rev() {
            let error_adjoint =
                2.0 * self.metric.weight(t, n) * errors[t] / total + buffer_adjoints.iter().sum::<f64>();
            for j in 0..d {
                by_scale[j] -= error_adjoint * row[j];
                by_decay[j] += buffer_adjoints[j] * row[j];
                buffer_adjoints[j] = decays[j] * buffer_adjoints[j] - scales[j] * error_adjoint;
            }
        }
        total
    }

    /// Midpoint rules for the square root's coefficients, t^(−1/2) / √π = (1/π) ∫ e^(s/2) exp(−t e^s) ds,
    /// over horizons from the separation to the whole run.
    fn quadratures(&self, n_buffers: usize) -> Vec<Vec<f64>> {
        let whole = (self.n_rounds as f64).max(2.0);
        let mut horizons = vec![whole];
        if self.most > 1 {
            let between = (self.separation as f64).clamp(2.0, whole);
            horizons.extend([(whole * between).sqrt(), between]);
        }
        horizons
            .into_iter()
            .map(|horizon| {
                let width = horizon.ln() / n_buffers as f64;
                let nodes: Vec<f64> = (0..n_buffers)
                    .map(|j| (j as f64 + 0.5) * width - horizon.ln())
                    .collect();
                let scales: Vec<f64> = nodes
                    .iter()
                    .map(|s| width / std::f64::consts::PI * (0.5 * s).exp())
                    .collect();
                let shrink = (0.6 / scales.iter().sum::<f64>()).min(1.0);
                let logits = nodes.iter().map(|s| logit_of_decay(s.exp()));
                logits.chain(scales.iter().map(|w| (w * shrink).ln())).collect()
            })
            .collect()
    }
}

/// The strategy at `point` with a faint buffer added in each gap between the rates of the others and beyond
/// both ends.
fn with_one_more(point: &[f64]) -> Vec<Vec<f64>> {
    let d = point.len() / 2;
    let mut logits = point[..d].to_vec();
    logits.sort_by(f64::total_cmp);
    let mut places = vec![logits[0] - 2.0, logits[d - 1] + 2.0];
    places.extend(logits.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])));
    places
        .into_iter()
        .map(|logit| {
            let mut start = point[..d].to_vec();
            start.push(logit.clamp(-30.0, 30.0));
            start.extend(&point[d..]);
            start.push(-7.0);
            start
        })
        .collect()
}

/// The same strategy with buffers added that are never heard, should no search with more buffers have done
/// better.
fn padded(minimum: Minimum, n_buffers: usize) -> Minimum {
    let d = minimum.point.len() / 2;
    let mut point = minimum.point[..d].to_vec();
    point.resize(n_buffers, 0.0);
    point.extend(&minimum.point[d..]);
    point.resize(2 * n_buffers, f64::NEG_INFINITY);
    Minimum {
        point,
        value: minimum.value,
    }
}

fn decays_and_scales(point: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let d = point.len() / 2;
    let decays = point[..d].iter().map(|u| 1.0 / (1.0 + (-u).exp())).collect();
    (decays, point[d..].iter().map(|v| v.exp()).collect())
}

/// The logit of e^(−rate).
fn logit_of_decay(rate: f64) -> f64 {
    -rate - (-(-rate).exp_m1()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_agree_with_differences() {
        for (metric, separation, most) in [(ErrorMetric::Max, 1, 1), (ErrorMetric::RootMeanSquare, 7, 5)] {
            let objective = BufferedObjective {
                n_rounds: 60,
                separation,
                most,
                metric,
            };
            let point = [3.0, 0.5, -1.0, -2.5, -1.5, -2.0];
            let mut gradient = [0.0; 6];
            let value = objective.evaluate(&point, &mut gradient);
            assert!(value.is_finite());
            for i in 0..point.len() {
                let h = 1e-5;
                let at = |shift: f64| {
                    let mut moved = point;
                    moved[i] += shift;
                    objective.evaluate(&moved, &mut [0.0; 6])
                };
                let difference = (at(h) - at(-h)) / (2.0 * h);
                assert!(
                    (difference - gradient[i]).abs() < 1e-8,
                    "{i}: {difference} {}",
                    gradient[i]
                );
            }
        }
    }

    #[test]
    fn no_small_change_of_the_coefficients_improves_a_banded_optimum() {
        let participation = Participation::min_separation(8, None).unwrap();
        let best = optimize_banded(60, 8, &participation, ErrorMetric::RootMeanSquare).unwrap();
        let total = best.total_error(ErrorMetric::RootMeanSquare);
        for i in 0..8 {
            for factor in [0.99, 1.01] {
                let mut coefficients = best.strategy.coefficients().to_vec();
                coefficients[i] *= factor;
                let other = ToeplitzStrategy::new(coefficients).unwrap();
                let worse = other.sensitivity(60, &participation).unwrap().value
                    * other.prefix_error(60).unwrap().root_mean_square;
                assert!(worse > total * (1.0 - 1e-10), "{i} {factor}: {worse} {total}");
            }
        }
    }

    #[test]
    fn more_buffers_and_more_bands_never_hurt_and_approach_the_square_root() {
        let single = Participation::single();
        let mut last = f64::INFINITY;
        for n_buffers in 1..=5 {
            let found = optimize_buffered(300, n_buffers, &single, ErrorMetric::Max).unwrap();
            let total = found.total_error(ErrorMetric::Max);
            assert!(total <= last * (1.0 + 1e-9), "{n_buffers}: {total} after {last}");
            last = total;
        }
        let root = ToeplitzStrategy::square_root(300).unwrap();
        let square = root.prefix_error(300).unwrap().max.powi(2);
        assert!(last < square * 1.01, "{last} {square}");
        let banded = |n_bands| {
            optimize_banded(300, n_bands, &single, ErrorMetric::Max)
                .unwrap()
                .total_error(ErrorMetric::Max)
        };
        assert!(banded(1) > banded(4) && banded(4) > banded(32) && banded(300) <= square * (1.0 + 1e-9));
    }

    #[test]
    fn small_and_odd_plans_have_a_strategy() {
        for (n, separation, most) in [
            (1, 1, None),
            (2, 1, None),
            (2, 5, None),
            (3, 2, Some(1)),
            (50, 1, None),
            (17, 16, None),
        ] {
            let participation = Participation::min_separation(separation, most).unwrap();
            for metric in [ErrorMetric::Max, ErrorMetric::RootMeanSquare] {
                for n_buffers in 1..=4 {
                    let found = optimize_buffered(n, n_buffers, &participation, metric).unwrap();
                    let plain = (participation.most_in(n) as f64).sqrt() * (n as f64).sqrt();
                    assert!(
                        found.total_error(metric) <= plain * (1.0 + 1e-9),
                        "{n} {separation} {most:?} {found:?}"
                    );
                }
                let banded = optimize_banded(n, separation.min(n), &participation, metric).unwrap();
                assert!(banded.total_error(metric).is_finite());
            }
        }
    }

    #[test]
    fn impossible_requests_are_refused() {
        let participation = Participation::min_separation(10, None).unwrap();
        let metric = ErrorMetric::RootMeanSquare;
        assert!(optimize_banded(100, 0, &participation, metric).is_err());
        let error = optimize_banded(100, 11, &participation, metric).unwrap_err();
        assert_eq!(
            error.to_string(),
            "number of bands must be between 1 and 10, the smallest separation, got 11"
        );
        assert!(optimize_buffered(100, 0, &participation, metric).is_err());
        assert!(optimize_buffered(100, 9, &participation, metric).is_err());
        assert!(optimize_buffered(0, 2, &participation, metric).is_err());
        assert!(optimize_buffered(1 << 24, 5, &participation, metric).is_err());
        let long = Participation::min_separation(1 << 20, None).unwrap();
        assert!(optimize_banded(1 << 20, 1 << 20, &long, metric).is_err());
    }
}
