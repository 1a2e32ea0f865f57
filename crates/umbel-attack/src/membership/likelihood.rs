//! What a statistic looks like with and without a target, and which of the two it looks more like.

use crate::checks::to_f64;

/// So many runs on each side let a target have variances of its own; with fewer all targets share one for each side (Carlini et al.
/// 2022, section IV-C).
const OWN_VARIANCE: usize = 32;

/// Scores of all targets in `attacked`, learnt from all other runs: the logarithm of the likelihood with the target over that without.
/// Statistics and membership are by run, then target.
pub(super) fn log_likelihood_ratios(
    statistics: &[Vec<f64>],
    members: &[Vec<bool>],
    attacked: usize,
) -> Vec<f64> {
    let n_targets = statistics[attacked].len();
    let sides: Vec<[Vec<f64>; 2]> = (0..n_targets)
        .map(|target| {
            [true, false].map(|is_member| {
                let others = (0..statistics.len()).filter(|run| *run != attacked);
                others
                    .filter(|run| members[*run][target] == is_member)
                    .map(|run| statistics[run][target])
                    .collect()
            })
        })
        .collect();
    let shared = [0, 1].map(|side| pooled_variance(sides.iter().map(|sides| &sides[side])));
    let score = |(target, sides): (usize, &[Vec<f64>; 2])| {
        let x = statistics[attacked][target];
        let [with, without] = [0, 1].map(|side| {
            let values = &sides[side];
            let variance = if sides.iter().all(|values| values.len() >= OWN_VARIANCE) {
                pooled_variance([values].into_iter())
            } else {
                shared[side]
            };
            log_density(x, mean(values), variance)
        });
        // A target that was on one side only cannot be told.
        if sides.iter().any(Vec::is_empty) {
            0.0
        } else {
            with - without
        }
    };
    sides.iter().enumerate().map(score).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / to_f64(values.len())
}

/// Variance around the mean of each list.
fn pooled_variance<'a>(lists: impl Iterator<Item = &'a Vec<f64>>) -> f64 {
    let (mut squares, mut degrees) = (0.0, 0);
    for values in lists.filter(|values| values.len() > 1) {
        let mean = mean(values);
        squares += values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
        degrees += values.len() - 1;
    }
    // Models that are all equal have a variance of 0.
    (squares / to_f64(degrees.max(1))).max(1e-12)
}

fn log_density(x: f64, mean: f64, variance: f64) -> f64 {
    -0.5 * ((x - mean).powi(2) / variance + variance.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two targets, nine runs: the first leaves a trace of 2, the second none.
    #[test]
    fn who_leaves_a_trace_is_told_and_who_does_not_is_not() {
        let members: Vec<Vec<bool>> = (0..9).map(|run| vec![run % 2 == 0, run % 3 == 0]).collect();
        let noise = |run: usize| 0.1 * ((run * 7 % 5) as f64 - 2.0);
        let statistics: Vec<Vec<f64>> = (0..9)
            .map(|run| vec![if run % 2 == 0 { 2.0 } else { 0.0 } + noise(run), noise(run)])
            .collect();
        for run in 0..9 {
            let scores = log_likelihood_ratios(&statistics, &members, run);
            assert_eq!(scores[0] > 5.0, run % 2 == 0, "{run}: {scores:?}");
            assert_eq!(scores[0] < -5.0, run % 2 == 1, "{run}: {scores:?}");
            assert!(scores[1].abs() < 5.0, "{run}: {scores:?}");
        }
    }

    #[test]
    fn a_target_that_was_never_in_another_run_scores_nothing() {
        let members = vec![vec![true], vec![false], vec![false]];
        let statistics = vec![vec![3.0], vec![0.0], vec![0.1]];
        assert_eq!(log_likelihood_ratios(&statistics, &members, 0), [0.0]);
    }

    /// With as many runs as [`OWN_VARIANCE`] needs, a noisy target is judged by its own noise.
    #[test]
    fn many_runs_give_each_target_its_own_variance() {
        let n = 4 * OWN_VARIANCE;
        let members: Vec<Vec<bool>> = (0..n).map(|run| vec![run % 2 == 0; 2]).collect();
        let wave = |run: usize| if run % 4 < 2 { 1.0 } else { -1.0 };
        let statistics: Vec<Vec<f64>> = (0..n)
            .map(|run| {
                let shift = if run % 2 == 0 { 1.0 } else { 0.0 };
                vec![shift + 0.01 * wave(run), shift + 10.0 * wave(run)]
            })
            .collect();
        let scores = log_likelihood_ratios(&statistics, &members, 0);
        assert!(scores[0] > 1_000.0 && scores[1].abs() < 1.0, "{scores:?}");
    }
}
