//! `umbel budget explain`.

mod words;

use serde::Serialize;
use umbel_accounting::{accountant, calibrate};
use umbel_experiment::{AdaptiveClipFacts, AggregationFacts, FtrlFacts, LocalFacts};
use umbel_sim::Prepared;

use super::attacker::Attacker;
use super::growth::{self, Growth};
use super::number::finite;
use crate::args::budget::{ExplainArgs, Spacing};
use crate::commands::experiment;
use crate::output;

/// How many numbers of rounds are shown.
const GROWTH_POINTS: u32 = 7;

/// What an experiment promises.
#[derive(Debug, Serialize)]
struct Explanation {
    name: String,
    unit: &'static str,
    trust: &'static str,
    neighbors: &'static str,
    simulated: bool,
    /// Certified upper bound after all planned rounds; null means infinite.
    epsilon: Option<f64>,
    epsilon_lower: Option<f64>,
    /// The most that may be spent, if there is a limit.
    epsilon_budget: Option<f64>,
    delta: f64,
    accountant: &'static str,
    sampling: &'static str,
    sampling_rate: f64,
    clients: u64,
    cohort: f64,
    rounds: u64,
    /// Rounds that the budget allows; null without a limit.
    rounds_within_budget: Option<u64>,
    clip_norm: f64,
    /// Whether each layer is clipped by itself first.
    clipped_by_layer: bool,
    /// Where the clip norm follows the updates, how.
    #[serde(skip_serializing_if = "Option::is_none")]
    adaptive_clip: Option<AdaptiveClipFacts>,
    /// σ / C; null without noise.
    noise_multiplier: Option<f64>,
    noise: &'static str,
    /// Of the noise on each parameter of each released mean update.
    noise_std_dev: f64,
    /// Of the noise on each parameter of the sum of all means.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_noise_std_dev: Option<f64>,
    /// Of DP-FTRL, how noise is correlated and who may take part when.
    #[serde(skip_serializing_if = "Option::is_none")]
    ftrl: Option<FtrlFacts>,
    /// Of noise that clients add, what each does.
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<LocalFacts>,
    /// Where the server sees sums only, whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    secure_aggregation: Option<AggregationFacts>,
    parameters: u64,
    by_rounds: Vec<Growth>,
    attacker: Attacker,
    warnings: Vec<String>,
    not_covered: Vec<&'static str>,
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let mut experiment = experiment::read(&args.experiment.file, &args.experiment.settings, None)?;
    // Nothing that is explained depends on the seed, only the partition's draw and the model's first parameters do.
    experiment.seed.get_or_insert(0);
    let prepared = Prepared::new(experiment)?;
    let explanation = Explanation::new(&prepared, args.base_rate.base_rate)?;
    let shown = if args.json {
        serde_json::to_string_pretty(&explanation)?
    } else {
        explanation
            .warnings
            .iter()
            .for_each(|warning| output::remark(&format!("warning: {warning}")));
        explanation.describe()
    };
    output::result(&shown)
}

impl Explanation {
    fn new(prepared: &Prepared, base_rate: f64) -> anyhow::Result<Self> {
        let plan = &prepared.plan;
        let (settings, mechanism) = (plan.settings(), &plan.settings().mechanism);
        words::knows(
            settings.unit.as_str(),
            settings.trust.as_str(),
            plan.sampling().as_str(),
        )?;
        let accounted = plan.accounted_delta(prepared.initial.len())?;
        let (kind, relation, event) = (settings.accountant, plan.relation(), plan.round_event());

        let mut accountant = accountant(kind, relation);
        let mut by_rounds = match plan.most_charges() {
            // The whole run is charged with its first round.
            Some(1) => growth::growth(accountant.as_mut(), &event, accounted, &[1], &|| ())?,
            most => {
                let most = most.map_or(settings.rounds, |most| most.min(settings.rounds));
                let counts = growth::counts(most, GROWTH_POINTS, Spacing::Log);
                growth::growth(accountant.as_mut(), &event, accounted, &counts, &|| ())?
            }
        };
        let most = plan.most_certified();
        let certified = |epsilon: f64| finite(epsilon).filter(|epsilon| *epsilon <= most);
        by_rounds
            .iter_mut()
            .for_each(|point| point.epsilon = point.epsilon.and_then(certified));
        let bounds = accountant.epsilon(accounted)?;
        let rounds_within_budget = match settings.epsilon_budget {
            Some(limit) if bounds.upper > limit => {
                Some(calibrate::steps(limit, accounted, kind, relation, &event)?)
            }
            Some(_) => Some(settings.rounds),
            None => None,
        };
        let sampling = plan.sampling();
        let (noise_std_dev, total_noise_std_dev) = mechanism.noise_std_devs(settings.rounds);
        let sampling_rate = sampling.rate().value();
        Ok(Self {
            name: settings.description.name.clone(),
            unit: settings.unit.as_str(),
            trust: settings.trust.as_str(),
            neighbors: relation.as_str(),
            simulated: true,
            epsilon: certified(bounds.upper.value()),
            epsilon_lower: bounds.lower.and_then(|lower| finite(lower.value())),
            epsilon_budget: settings.epsilon_budget.map(|limit| limit.value()),
            delta: settings.delta.value(),
            accountant: kind.as_str(),
            sampling: sampling.as_str(),
            sampling_rate,
            clients: settings.population,
            cohort: settings.cohort,
            rounds: settings.rounds,
            rounds_within_budget,
            clip_norm: mechanism.clip_norm().value(),
            clipped_by_layer: prepared.layer_clip.is_some(),
            adaptive_clip: prepared.adaptive_clip(),
            noise_multiplier: mechanism.noise_multiplier().map(|multiplier| multiplier.value()),
            noise: mechanism.noise_law().map_or("none", |kind| kind.as_str()),
            noise_std_dev,
            total_noise_std_dev,
            ftrl: prepared.ftrl(),
            local: prepared.local(),
            secure_aggregation: prepared.secure_aggregation(),
            parameters: prepared.initial.len() as u64,
            by_rounds,
            attacker: Attacker::new(accountant.as_ref(), base_rate)?,
            warnings: prepared.warnings(),
            not_covered: prepared.not_covered(),
        })
    }
}
