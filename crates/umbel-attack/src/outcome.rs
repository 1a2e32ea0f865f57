//! What an attack found.

use std::collections::BTreeMap;

use serde::Serialize;
use umbel_accounting::AccountingError;

use crate::checks::{Check, Noise, check_participation};
use crate::claim::Claim;
use crate::estimate::{
    Confidence, FINE, Guesses, cosine_estimate, gaussian_score_strength, is_falsified, last_excluded,
    one_run_epsilon,
};
use crate::guessing::{GuessPlan, guesses};
use crate::observer::{Geometry, Observations, ObservedRound};
use crate::scoring;

/// A way to turn scores into a lower bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Method {
    /// Distance of the mean scores in standard deviations of the noise.
    GaussianScore,
    /// Guesses against the trade-off curve.
    FDpOneRun,
    /// Guesses against (ε, δ).
    OneRun,
    /// The estimate of Andrew et al., which is no bound.
    CosineEstimate,
}

impl Method {
    /// The name used on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GaussianScore => "gaussian-score",
            Self::FDpOneRun => "f-dp-one-run",
            Self::OneRun => "one-run",
            Self::CosineEstimate => "cosine-estimate",
        }
    }

    /// The method with this name, if it gives a bound.
    pub fn bound_from_name(name: &str) -> Option<Self> {
        [Self::GaussianScore, Self::FDpOneRun, Self::OneRun]
            .into_iter()
            .find(|method| method.as_str() == name)
    }
}

/// What one method found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Whether this is a lower bound with a confidence; else it is an estimate that may well be above the true ε.
    pub is_bound: bool,
    /// The bound at confidence 0.95, or the estimate. Capped at a million.
    pub epsilon: Option<f64>,
    /// The bound at confidence 1 − 1e-4.
    pub epsilon_at_alarm_confidence: Option<f64>,
    /// Guesses, where the method makes any.
    pub guesses: Option<GuessCounts>,
    /// What must hold for the bound to be one.
    pub assumes: &'static str,
}

/// Guesses about canaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GuessCounts {
    /// Made.
    pub made: u32,
    /// Right.
    pub correct: u32,
}

/// Everything that an attack found about a claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Verdict {
    /// The claimed ε; `None` if it is infinite.
    pub epsilon: Option<f64>,
    /// The δ of every ε here.
    pub delta: f64,
    /// The lower bound of the method that was named before the run. No guarantee.
    pub epsilon_lower_bound: f64,
    /// That method.
    pub method: Method,
    /// Confidence of the lower bounds.
    pub confidence: f64,
    /// Confidence at which the claim is compared.
    pub alarm_confidence: f64,
    /// Whether the named method's bound at the alarm's confidence is above the claim.
    pub exceeds_claim: bool,
    /// Canaries, in and out.
    pub canaries: u64,
    /// Canaries that are in.
    pub canaries_included: u64,
    /// Rounds that were attacked.
    pub rounds: u64,
    /// All methods.
    pub methods: BTreeMap<Method, Finding>,
    /// Tests of the claimed law, apart from any ε.
    pub checks: Vec<Check>,
    /// How the canaries lie, as measured on their reports.
    pub geometry: Geometry,
}

impl Verdict {
    /// Whether the bound is above the claim or the claimed law does not hold.
    pub fn is_broken(&self) -> bool {
        self.exceeds_claim || self.checks.iter().any(|check| !check.passed)
    }
}

/// Largest bound that is reported.
const MOST: f64 = 1e6;

/// Turns what was seen into bounds. `plan` must have been made before the run was seen.
pub fn judge(
    seen: &Observations,
    claim: &Claim,
    plan: GuessPlan,
    method: Method,
) -> Result<Verdict, AccountingError> {
    judge_with(seen, claim, plan, method, &mut |_, _| {})
}

/// The same; `progress` is told of steps done and planned, as far as these are known.
pub(crate) fn judge_with(
    seen: &Observations,
    claim: &Claim,
    plan: GuessPlan,
    method: Method,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verdict, AccountingError> {
    let (canaries, rounds) = (&seen.canaries, seen.rounds.as_slice());
    let is_included = |canary: usize| canaries.is_included(canary);
    let noise = Noise::new(rounds, |canary| !is_included(canary));
    let (independence, weights) = noise.check_independence();
    let mut checks: Vec<Check> = noise.check_size(claim).into_iter().chain(independence).collect();
    checks.extend(check_participation(rounds, canaries.len(), claim));

    let scores = match &seen.totals {
        Some(totals) => totals.clone(),
        None => scoring::scores(rounds, claim, weights.as_deref()),
    };
    let split = |scores: &[f64]| -> (Vec<f64>, Vec<f64>) {
        let (included, excluded): (Vec<_>, Vec<_>) = scores
            .iter()
            .enumerate()
            .partition(|(canary, _)| is_included(*canary));
        let values = |pairs: Vec<(usize, &f64)>| pairs.into_iter().map(|pair| *pair.1).collect();
        (values(included), values(excluded))
    };
    let (included, excluded) = split(&scores);
    let guesses = guesses(&included, &excluded, plan.highest, plan.lowest);

    let mut methods = BTreeMap::new();
    methods.insert(
        Method::GaussianScore,
        gaussian_score(seen, claim, &included, &excluded)?,
    );
    methods.insert(Method::FDpOneRun, f_dp(claim, guesses, progress)?);
    methods.insert(Method::OneRun, one_run(claim, guesses));
    if seen.are_in_one_sum {
        let sums = scoring::scores(rounds, claim, Some(&vec![1.0; rounds.len()]));
        let length = directional_length(rounds, &sums);
        let cosines: Vec<f64> = split(&sums).0.iter().map(|sum| sum / length).collect();
        methods.insert(
            Method::CosineEstimate,
            Finding {
                is_bound: false,
                epsilon: cosine_estimate(&cosines, canaries.order(), claim.family().delta()),
                epsilon_at_alarm_confidence: None,
                guesses: None,
                assumes: "an estimate, not a bound: it may be above the true epsilon",
            },
        );
    }

    let named = methods.get(&method);
    let at = |epsilon: Option<f64>| epsilon.unwrap_or(0.0);
    let alarm = at(named.and_then(|finding| finding.epsilon_at_alarm_confidence));
    Ok(Verdict {
        epsilon: Some(claim.epsilon()).filter(|epsilon| epsilon.is_finite()),
        delta: claim.family().delta().value(),
        epsilon_lower_bound: at(named.and_then(|finding| finding.epsilon)),
        method,
        confidence: Confidence::REPORTED.value(),
        alarm_confidence: Confidence::ALARM.value(),
        exceeds_claim: alarm > claim.epsilon(),
        canaries: canaries.len() as u64,
        canaries_included: included.len() as u64,
        rounds: rounds.len() as u64,
        methods,
        checks,
        geometry: seen.geometry,
    })
}

/// With full participation the distance of scores is that of the whole run. On samples the size of the noise against one
/// contribution is measured round by round, and the accountant says what that costs at the stated rate.
fn gaussian_score(
    seen: &Observations,
    claim: &Claim,
    included: &[f64],
    excluded: &[f64],
) -> Result<Finding, AccountingError> {
    let family = claim.family();
    let single = (!family.is_full())
        .then(|| scoring::by_participation(&seen.rounds, |canary| seen.canaries.is_included(canary)));
    let bound = |confidence| {
        let strength = match &single {
            Some((took_part, did_not)) => gaussian_score_strength(took_part, did_not, confidence),
            None => gaussian_score_strength(included, excluded, confidence) / family.full_rounds(),
        };
        lower_epsilon(claim, strength)
    };
    Ok(Finding {
        is_bound: true,
        epsilon: Some(bound(Confidence::REPORTED)?),
        epsilon_at_alarm_confidence: Some(bound(Confidence::ALARM)?),
        guesses: None,
        assumes: if family.is_full() {
            "Gaussian noise that is independent of the canaries"
        } else {
            "Gaussian noise that is independent of the canaries, and secret independent coins at the stated rate, which \
             sampling-rate and sampling-independence test"
        },
    })
}

fn f_dp(
    claim: &Claim,
    guesses: Guesses,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Finding, AccountingError> {
    let family = claim.family();
    // A curve for samples has to be composed each time; half a per cent less is a small price.
    let (limit, tolerance) = if family.is_full() {
        (40.0 / family.full_rounds(), FINE)
    } else {
        (MOST_SAMPLED_STRENGTH, 5e-3)
    };
    let mut done = 0;
    let mut bound = |confidence| {
        // A curve that cannot be computed excludes nothing.
        let strength = last_excluded(limit, tolerance, |strength| {
            done += 1;
            progress(done.min(CURVES), CURVES);
            family
                .curve(strength)
                .is_ok_and(|curve| is_falsified(curve.as_ref(), guesses, confidence))
        });
        lower_epsilon(claim, strength)
    };
    Ok(Finding {
        is_bound: true,
        epsilon: Some(bound(Confidence::REPORTED)?),
        epsilon_at_alarm_confidence: Some(bound(Confidence::ALARM)?),
        guesses: Some(counts(guesses)),
        assumes: "a trade-off curve of the claimed mechanism with some amount of noise",
    })
}

fn one_run(claim: &Claim, guesses: Guesses) -> Finding {
    let bound = |confidence| one_run_epsilon(guesses, claim.family().delta(), confidence);
    Finding {
        is_bound: true,
        epsilon: Some(bound(Confidence::REPORTED)),
        epsilon_at_alarm_confidence: Some(bound(Confidence::ALARM)),
        guesses: Some(counts(guesses)),
        assumes: "nothing about the mechanism",
    }
}

fn counts(guesses: Guesses) -> GuessCounts {
    GuessCounts {
        made: guesses.made,
        correct: guesses.correct,
    }
}

/// Curves that two searches need, about.
const CURVES: u64 = 32;

/// Beyond this strength on samples a bound says no more than that there is no privacy.
const MOST_SAMPLED_STRENGTH: f64 = 16.0;

/// A lower bound on ε from a lower bound on the strength of one round. A smaller strength bounds ε too, so it may be capped.
fn lower_epsilon(claim: &Claim, strength: f64) -> Result<f64, AccountingError> {
    let family = claim.family();
    let most = if family.is_full() {
        1_400.0 / family.full_rounds()
    } else {
        MOST_SAMPLED_STRENGTH
    };
    let mut strength = strength.min(most);
    loop {
        match family.epsilon(strength) {
            Ok(bounds) => return Ok(bounds.lower.map_or(0.0, |lower| lower.value()).min(MOST)),
            // Out of the accountant's reach, far beyond any privacy.
            Err(_) if strength > 1.0 => strength *= 0.5,
            Err(error) => return Err(error),
        }
    }
}

/// L2 norm of the sum of all rounds at the canaries' coordinates.
fn directional_length(rounds: &[ObservedRound], sums: &[f64]) -> f64 {
    let n_unused = rounds.first().map_or(0, |round| round.unused.len());
    let unused: f64 = (0..n_unused)
        .map(|place| {
            let sum: f64 = rounds.iter().map(|round| f64::from(round.unused[place])).sum();
            sum * sum
        })
        .sum();
    (unused + sums.iter().map(|sum| sum * sum).sum::<f64>()).sqrt()
}
