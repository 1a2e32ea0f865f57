//! One score for each canary: how much it looks as if it were in.

use rand_core::Rng as _;
use rand_distr::{Distribution as _, StandardNormal};
use umbel_mechanisms::{NO_CLIENT, Purpose, SimulationSeed};

use crate::claim::Claim;
use crate::guessing::{GuessPlan, plan_guesses};
use crate::observer::ObservedRound;

/// Scores of all canaries, in their order.
///
/// - With `weights` (noise that is not independent between rounds): the weighted sum over rounds.
/// - Where every client takes part in every round: the sum over rounds, which is the most powerful statistic, as noise is equal.
/// - On Poisson samples: the logarithm of the likelihood ratio of the claimed law, Σ ln(1 − q + q·exp((x − ½) / z²)), which is
///   the most powerful one for somebody who does not know who was sampled.
pub(crate) fn scores(rounds: &[ObservedRound], claim: &Claim, weights: Option<&[f64]>) -> Vec<f64> {
    let n = rounds.first().map_or(0, |round| round.scores.len());
    let mut totals = vec![0.0; n];
    for (place, round) in rounds.iter().enumerate() {
        for (total, &x) in totals.iter_mut().zip(&round.scores) {
            *total += match weights {
                Some(weights) => weights[place] * x,
                None => of_round(x, claim),
            };
        }
    }
    totals
}

fn of_round(x: f64, claim: &Claim) -> f64 {
    let (q, noise) = (claim.rate(), claim.noise());
    if claim.family().is_full() || noise <= 0.0 {
        return x;
    }
    let exponent = (x - 0.5) / (noise * noise);
    if exponent > 0.0 {
        exponent + (q + (1.0 - q) * (-exponent).exp()).ln()
    } else {
        (1.0 - q + q * exponent.exp()).ln()
    }
}

/// Scores of single rounds: of included canaries that took part, and of canaries that were not in that round's sum.
pub(crate) fn by_participation(
    rounds: &[ObservedRound],
    is_included: impl Fn(usize) -> bool,
) -> (Vec<f64>, Vec<f64>) {
    let (mut took_part, mut did_not) = (Vec::new(), Vec::new());
    for round in rounds {
        let mut invited = round.invited.iter().copied().peekable();
        for (canary, &score) in round.scores.iter().enumerate() {
            let was_invited = invited.next_if(|&next| next as usize == canary).is_some();
            if was_invited && is_included(canary) {
                took_part.push(score);
            } else {
                did_not.push(score);
            }
        }
    }
    (took_part, did_not)
}

/// How many guesses to make, from runs simulated under the claim. Looks at nothing of the run. `progress` is told of steps done
/// and planned.
pub fn plan_from_claim(
    n_canaries: u32,
    n_rounds: u64,
    claim: &Claim,
    progress: &mut dyn FnMut(u64, u64),
) -> GuessPlan {
    // Without noise every guess will be right: as many as there are canaries of each kind for certain.
    if claim.noise() <= 0.0 {
        let quarter = n_canaries / 4;
        return GuessPlan {
            highest: quarter.max(1),
            lowest: quarter,
        };
    }
    let n_rounds = usize::try_from(n_rounds).unwrap_or(usize::MAX);
    let simulate = |seed| {
        let mut stream = SimulationSeed::new(seed).stream(Purpose::Canary, 1, NO_CLIENT);
        let (mut included, mut excluded) = (Vec::new(), Vec::new());
        for _ in 0..n_canaries {
            let is_included = stream.next_u32() >> 31 == 1;
            let mut total = 0.0;
            for _ in 0..n_rounds {
                let noise: f64 = StandardNormal.sample(&mut stream);
                let coin = f64::from(stream.next_u32()) / 4_294_967_296.0;
                let signal = if is_included && coin < claim.rate() {
                    1.0
                } else {
                    0.0
                };
                total += of_round(signal + claim.noise() * noise, claim);
            }
            if is_included {
                included.push(total);
            } else {
                excluded.push(total);
            }
        }
        (included, excluded)
    };
    plan_guesses(n_canaries, simulate, progress)
}
