//! Which canaries an attacker guesses about, and how many guesses pay.

use rand_core::Rng as _;
use umbel_mechanisms::{NO_CLIENT, Purpose, SimulationSeed};

use crate::estimate::{Confidence, GaussianCurve, Guesses, is_falsified, last_excluded};

/// How many guesses are made, fixed before any score is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a plain record")]
pub struct GuessPlan {
    /// So many of the highest scores are guessed to be in.
    pub highest: u32,
    /// So many of the lowest scores are guessed to be out.
    pub lowest: u32,
}

/// Guesses that the highest scores are of included canaries and the lowest of excluded ones. Equal scores count as wrong guesses
/// first.
pub fn guesses(included: &[f64], excluded: &[f64], highest: u32, lowest: u32) -> Guesses {
    let mut scores: Vec<(f64, bool)> = included.iter().map(|&score| (score, true)).collect();
    scores.extend(excluded.iter().map(|&score| (score, false)));
    let canaries = u32::try_from(scores.len()).unwrap_or(u32::MAX);
    let highest = highest.min(canaries);
    let lowest = lowest.min(canaries - highest);
    scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let top = scores[..highest as usize].iter().filter(|score| score.1);
    let mut correct = top.count();
    scores.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    correct += scores[..lowest as usize].iter().filter(|score| !score.1).count();
    Guesses {
        canaries,
        made: highest + lowest,
        correct: u32::try_from(correct).unwrap_or(u32::MAX),
    }
}

/// The plan whose bound comes out largest on scores simulated from the claim: no look at the run.
///
/// `simulate` gives scores of (included, excluded) canaries under the claim, from a seed. `progress` is told of steps done and
/// planned.
pub fn plan_guesses(
    canaries: u32,
    simulate: impl Fn(u64) -> (Vec<f64>, Vec<f64>),
    progress: &mut dyn FnMut(u64, u64),
) -> GuessPlan {
    let steps = SIMULATIONS + 2 * DIVISORS.len() as u64;
    let mut done = 0;
    let mut step = || {
        done += 1;
        progress(done, steps);
    };
    let simulated: Vec<_> = (0..SIMULATIONS).map(simulate).inspect(|_| step()).collect();
    let bound = |plan: GuessPlan| -> f64 {
        let one = |(included, excluded): &(Vec<f64>, Vec<f64>)| {
            let guesses = guesses(included, excluded, plan.highest, plan.lowest);
            last_excluded(20.0, 1e-3, |mu| {
                is_falsified(&GaussianCurve { mu }, guesses, Confidence::REPORTED)
            })
        };
        simulated.iter().map(one).sum()
    };
    let mut best = (
        0.0,
        GuessPlan {
            highest: canaries.div_ceil(10),
            lowest: canaries / 10,
        },
    );
    for divisor in DIVISORS {
        let highest = (canaries / divisor).max(1);
        for lowest in [0, highest] {
            let plan = GuessPlan { highest, lowest };
            let value = bound(plan);
            if value > best.0 {
                best = (value, plan);
            }
            step();
        }
    }
    best.1
}

const SIMULATIONS: u64 = 4;

/// One canary in so many is guessed to be in.
const DIVISORS: [u32; 6] = [4, 6, 10, 16, 30, 60];

/// Fair, independent coins, one a canary, from a seed.
pub(crate) fn coins(seed: SimulationSeed, n: usize) -> Vec<bool> {
    let mut stream = seed.stream(Purpose::Canary, 0, NO_CLIENT);
    (0..n).map(|_| stream.next_u32() >> 31 == 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_are_guessed_in_and_the_lowest_out() {
        let got = guesses(&[3.0, 2.0, -1.0], &[0.0, -2.0, 2.5], 2, 3);
        assert_eq!(
            got,
            Guesses {
                canaries: 6,
                made: 5,
                correct: 3
            }
        );
    }

    #[test]
    fn equal_scores_give_no_right_guess_by_their_order() {
        assert_eq!(guesses(&[1.0; 5], &[1.0; 5], 5, 5).correct, 0);
        assert_eq!(guesses(&[1.0; 5], &[1.0; 5], 100, 100).made, 10);
    }

    #[test]
    fn coins_are_fair() {
        let heads = coins(SimulationSeed::new(5), 100_000)
            .iter()
            .filter(|&&coin| coin)
            .count();
        // 4.9 standard deviations: false-alarm rate 1e-6.
        assert!(heads.abs_diff(50_000) < 775, "{heads}");
    }
}
