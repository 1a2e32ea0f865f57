//! Membership inference: whose data was a model trained on?

mod likelihood;
mod roc;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rand_core::Rng as _;
use serde::Serialize;
use umbel_accounting::tradeoff::TradeOff;
use umbel_accounting::{AccountantKind, accountant};
use umbel_mechanisms::{NO_CLIENT, Purpose, SimulationSeed};
use umbel_protocol::{ClientId, ClientMessage, CommitmentKey, PrivacyUnit, RoundId};
use umbel_sim::{Auditor, Prepared, Step, World};
use umbel_train::{Batch, Workspace};

use self::likelihood::log_likelihood_ratios;
pub use self::roc::{Roc, RocPoint};
use crate::attack::{AttackError, Unrecorded, check_reports_are_seen};
use crate::estimate::{Confidence, one_run_epsilon};
use crate::guessing::guesses;
use crate::outcome::GuessCounts;

/// How membership is inferred.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::exhaustive_structs, reason = "a plain record")]
pub struct MembershipSettings {
    /// Runs that the attacker makes to learn what models look like with and without a client.
    pub shadow_runs: u32,
    /// Clients whose membership is inferred; all with data if absent.
    pub targets: Option<u32>,
    /// Runs at a time.
    pub n_threads: usize,
}

/// What was inferred.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Membership {
    /// Name of the experiment.
    pub name: String,
    /// Seed of everything random.
    pub seed: u64,
    /// The claimed ε of the whole run; `None` if it is infinite.
    pub epsilon: Option<f64>,
    /// The δ of every ε here.
    pub delta: f64,
    /// Lower bound on ε from the guesses about the attacked run. No guarantee.
    pub epsilon_lower_bound: f64,
    /// How it was found.
    pub method: &'static str,
    /// Confidence of the lower bound.
    pub confidence: f64,
    /// Confidence at which the claim is compared.
    pub alarm_confidence: f64,
    /// Whether the bound at that confidence is above the claim.
    pub exceeds_claim: bool,
    /// Guesses about the attacked run.
    pub guesses: GuessCounts,
    /// Clients whose membership was inferred.
    pub targets: u64,
    /// Runs that the attacker made beside the attacked one.
    pub shadow_runs: u64,
    /// How well members are told apart: an estimate over all runs, each attacked with the help of the others.
    pub roc: Roc,
    /// The privacy unit.
    pub unit: &'static str,
    /// Who adds the noise.
    pub trust: &'static str,
    /// The neighbouring relation.
    pub neighbors: &'static str,
    /// Noise and coins come from the seed.
    pub simulated: bool,
    /// What the attacker knows.
    pub threat_model: &'static str,
    /// In what the attacked runs differ from the experiment's.
    pub differs: Vec<String>,
    /// What neither the claim nor the attack covers.
    pub not_covered: Vec<String>,
}

const THREAT_MODEL: &str = "black box: the attacker sees the final model and nothing of the run, has the data of every target, and makes \
     runs of its own on the same population; it does not know which targets are in";

/// Attacks the final model (Carlini et al. 2022, arXiv 2112.03570, "LiRA", the online attack). Each target's data are in a run by a
/// fair coin, else it is a declared client without data. A target's statistic is the mean, over its examples, of the logarithm of the
/// odds that the model gives the true class; what that looks like with and without the target is learnt from shadow runs, as two
/// normal laws; the score is the ratio of their likelihoods.
///
/// `progress` is called after each round of any run, with rounds done and planned over all runs.
pub fn membership(
    prepared: &Prepared,
    settings: &MembershipSettings,
    progress: impl FnMut(u64, u64) + Send,
    stop: &AtomicBool,
) -> Result<Membership, AttackError> {
    check_reports_are_seen(&prepared.plan)?;
    let plan = prepared.plan.settings();
    if plan.unit != PrivacyUnit::Client {
        return Err(AttackError::Unsupported {
            reason: format!(
                "membership is inferred of whole clients, and unit \"{}\" promises nothing about these",
                plan.unit.as_str()
            ),
        });
    }
    let targets = targets(prepared, settings);
    if targets.len() < 10 {
        return Err(AttackError::Unsupported {
            reason: format!("expected at least 10 clients with data, got {}", targets.len()),
        });
    }
    let n_runs = settings.shadow_runs as usize + 1;
    let runs: Vec<ShadowRun> = (0..n_runs)
        .map(|run| ShadowRun::new(prepared, run, &targets))
        .collect();
    let statistics = play(prepared, &runs, &targets, settings.n_threads, progress, stop)?;
    let members: Vec<Vec<bool>> = runs.iter().map(|run| run.is_member.clone()).collect();

    let mut pooled = (Vec::new(), Vec::new());
    let mut attacked = (Vec::new(), Vec::new());
    for run in 0..n_runs {
        let scores = log_likelihood_ratios(&statistics, &members, run);
        for (score, is_member) in scores.into_iter().zip(&members[run]) {
            let side = |pair: &mut (Vec<f64>, Vec<f64>)| {
                if *is_member { &mut pair.0 } else { &mut pair.1 }.push(score);
            };
            side(&mut pooled);
            if run == 0 {
                side(&mut attacked);
            }
        }
    }
    let epsilon = prepared.plan.most_spent(prepared.initial.len())?.value();
    // A tenth of the targets on each side: fixed before any score was seen.
    let n_guesses = u32::try_from(targets.len().div_ceil(10)).unwrap_or(u32::MAX);
    let guesses = guesses(&attacked.0, &attacked.1, n_guesses, n_guesses);
    let bound = |confidence| one_run_epsilon(guesses, plan.delta, confidence);
    let curve = allowed(prepared).filter(|_| epsilon.is_finite());
    Ok(Membership {
        name: plan.description.name.clone(),
        seed: prepared.seed,
        epsilon: Some(epsilon).filter(|epsilon| epsilon.is_finite()),
        delta: plan.delta.value(),
        epsilon_lower_bound: bound(Confidence::REPORTED),
        method: "one-run",
        confidence: Confidence::REPORTED.value(),
        alarm_confidence: Confidence::ALARM.value(),
        exceeds_claim: bound(Confidence::ALARM) > epsilon,
        guesses: GuessCounts {
            made: guesses.made,
            correct: guesses.correct,
        },
        targets: targets.len() as u64,
        shadow_runs: u64::from(settings.shadow_runs),
        roc: Roc::new(pooled.0, pooled.1, curve.as_ref()),
        unit: plan.unit.as_str(),
        trust: plan.trust.as_str(),
        neighbors: prepared.plan.relation().as_str(),
        simulated: true,
        threat_model: THREAT_MODEL,
        differs: vec![format!(
            "each of {} targets is in a run by a fair coin, else it is a declared client without data",
            targets.len()
        )],
        not_covered: prepared.not_covered().into_iter().map(str::to_owned).collect(),
    })
}

/// What the claim allows any attacker; absent where it allows everything, or no accountant here draws its curve.
fn allowed(prepared: &Prepared) -> Option<TradeOff> {
    let plan = &prepared.plan;
    let mut accountant = accountant(AccountantKind::Pld, plan.relation());
    let charges = plan.charges(plan.settings().rounds);
    accountant.compose(&plan.round_event(), charges).ok()?;
    TradeOff::new(accountant.as_ref(), 24).ok()
}

/// Clients with data, as many as are asked for, chosen by the seed.
fn targets(prepared: &Prepared, settings: &MembershipSettings) -> Vec<ClientId> {
    let mut all: Vec<ClientId> = (0..prepared.partition.n_clients() as u64)
        .map(ClientId)
        .filter(|client| !prepared.examples(*client).is_empty())
        .collect();
    let wanted = settings.targets.map_or(all.len(), |targets| targets as usize);
    let mut stream = SimulationSeed::new(prepared.seed).stream(Purpose::Canary, 4, NO_CLIENT);
    for last in (1..all.len()).rev() {
        let product = u128::from(stream.next_u64()) * (last as u128 + 1);
        #[allow(clippy::cast_possible_truncation, reason = "at most `last`")]
        all.swap(last, (product >> 64) as usize);
    }
    all.truncate(wanted);
    all.sort_unstable();
    all
}

/// One run, in which targets are members by their own coins. The first is the attacked one.
#[derive(Debug)]
struct ShadowRun {
    seed: u64,
    is_member: Vec<bool>,
    /// By client: whether it has to do without its data.
    is_absent: Vec<bool>,
}

impl ShadowRun {
    fn new(prepared: &Prepared, run: usize, targets: &[ClientId]) -> Self {
        let seeds = SimulationSeed::new(prepared.seed);
        // Streams of one purpose are told apart by their number; those below are taken.
        let mut stream = seeds.stream(Purpose::Canary, 1_000 + run as u64, NO_CLIENT);
        let is_member: Vec<bool> = targets.iter().map(|_| stream.next_u32() >> 31 == 1).collect();
        let mut is_absent = vec![false; prepared.partition.n_clients()];
        for (target, is_member) in targets.iter().zip(&is_member) {
            is_absent[usize::try_from(target.0).unwrap_or(usize::MAX)] = !is_member;
        }
        let seed = if run == 0 {
            prepared.seed
        } else {
            stream.next_u64()
        };
        Self {
            seed,
            is_member,
            is_absent,
        }
    }
}

impl Auditor for ShadowRun {
    fn update(&self, client: ClientId, _: RoundId, update: &mut [f32]) -> bool {
        let client = usize::try_from(client.0).unwrap_or(usize::MAX);
        let is_absent = self.is_absent.get(client).copied().unwrap_or(false);
        if is_absent {
            update.fill(0.0);
        }
        is_absent
    }

    fn report(&self, _: ClientId, _: &ClientMessage) {}
}

/// Plays all runs, several at a time; gives the targets' statistics in each.
fn play(
    prepared: &Prepared,
    runs: &[ShadowRun],
    targets: &[ClientId],
    n_threads: usize,
    progress: impl FnMut(u64, u64) + Send,
    stop: &AtomicBool,
) -> Result<Vec<Vec<f64>>, AttackError> {
    let rounds = prepared.plan.settings().rounds;
    let total = rounds * runs.len() as u64;
    let progress = Mutex::new((0, progress));
    let statistics = Mutex::new(Ok(vec![Vec::new(); runs.len()]));
    let next = AtomicUsize::new(0);
    let locked = |result: Result<Vec<f64>, AttackError>, place: usize| {
        let mut statistics = statistics.lock().unwrap_or_else(PoisonError::into_inner);
        match (result, statistics.as_mut()) {
            (Ok(of_run), Ok(all)) => all[place] = of_run,
            (Err(error), Ok(_)) => *statistics = Err(error),
            (_, Err(_)) => return false,
        }
        statistics.is_ok()
    };
    thread::scope(|scope| {
        for _ in 0..n_threads.clamp(1, runs.len()) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(run) = runs.get(place) else { return };
                    let played = final_model(prepared, run, stop, || {
                        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                        progress.0 += 1;
                        let done = progress.0;
                        (progress.1)(done, total);
                    });
                    let of_run = played.map(|model| {
                        let mut reader = Reader::default();
                        targets
                            .iter()
                            .map(|target| reader.statistic(prepared, &model, *target))
                            .collect()
                    });
                    if !locked(of_run, place) {
                        return;
                    }
                }
            });
        }
    });
    statistics.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn final_model(
    prepared: &Prepared,
    run: &ShadowRun,
    stop: &AtomicBool,
    mut progress: impl FnMut(),
) -> Result<Vec<f32>, AttackError> {
    let secret = CommitmentKey::from_secret([0; 32]);
    let seed = SimulationSeed::new(run.seed);
    let mut world = World::seeded(prepared, seed, secret, 1)?.with_auditor(run);
    for _ in 0..prepared.plan.settings().rounds {
        match world.step(&mut Unrecorded, stop)? {
            Step::Round(_) => progress(),
            Step::Ended { .. } if stop.load(Ordering::Relaxed) => return Err(AttackError::Stopped),
            // The budget ends a run before its last round: the model is final.
            Step::Ended { .. } => break,
        }
    }
    Ok(world.run().parameters().to_vec())
}

/// Reads a model's confidence; keeps what can be used again.
#[derive(Default)]
struct Reader {
    features: Vec<f32>,
    labels: Vec<u32>,
    probabilities: Vec<f32>,
    workspace: Workspace,
}

/// Examples that a model looks at together.
const BATCH: usize = 256;

impl Reader {
    /// The mean of ln(p / (1 − p)) over a client's examples, p being the probability that the model gives the true class.
    fn statistic(&mut self, prepared: &Prepared, parameters: &[f32], target: ClientId) -> f64 {
        let examples = prepared.examples(target);
        let (width, n_classes) = (prepared.train.n_features(), prepared.model.n_classes());
        let mut sum = 0.0;
        for batch in examples.chunks(BATCH) {
            self.features.resize(batch.len() * width, 0.0);
            self.labels.resize(batch.len(), 0);
            self.probabilities.resize(batch.len() * n_classes, 0.0);
            prepared.train.gather(batch, &mut self.features, &mut self.labels);
            let examples = Batch::new(&self.features, &self.labels);
            prepared
                .model
                .probabilities(parameters, examples, &mut self.probabilities, &mut self.workspace);
            let rows = self.probabilities.chunks_exact(n_classes).zip(&self.labels);
            sum += rows.map(|(row, &label)| log_odds(row, label)).sum::<f64>();
        }
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
        let n = examples.len() as f64;
        sum / n
    }
}

/// ln(p / (1 − p)), where 1 − p is the sum of the others, which keeps its digits for p near 1.
fn log_odds(probabilities: &[f32], label: u32) -> f64 {
    const LEAST: f64 = 1e-30;
    let own = probabilities.get(label as usize).map_or(0.0, |p| f64::from(*p));
    let all: f64 = probabilities.iter().map(|p| f64::from(*p)).sum();
    let others: f64 = probabilities
        .iter()
        .enumerate()
        .filter(|(class, _)| *class != label as usize)
        .map(|(_, p)| f64::from(*p))
        .sum();
    if all.is_finite() {
        own.max(LEAST).ln() - others.max(LEAST).ln()
    } else {
        // A model that is no model says nothing.
        0.0
    }
}
