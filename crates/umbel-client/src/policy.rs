//! What a client takes part in, by its own rules. They are checked by the client, against what the server has signed.

use std::time::Duration;

use umbel_accounting::ledger::{Header, SecureAggregationFacts};
use umbel_accounting::{AccountantKind, AccountingError, Delta, DpEvent, NeighboringRelation, accountant};
use umbel_experiment::{Section, SettingError};

use crate::Terms;
use crate::history::History;

/// `[policy]`.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "tests and tools fill it in")]
pub struct Policy {
    /// Trust models that are accepted.
    pub trust: Vec<String>,
    /// Least noise multiplier, σ / clip norm.
    pub least_noise_multiplier: f64,
    /// Smallest expected cohort.
    pub smallest_cohort: f64,
    /// Whether secure aggregation is required.
    pub secure_aggregation: bool,
    /// The fewest clients in a sum of secure aggregation.
    pub smallest_sum: u64,
    /// The share of a round's clients that must be assumed to help the server, at least, where secure aggregation is used.
    pub least_colluding: f64,
    /// Most rounds of one run that the client reports in.
    pub most_participations: u64,
    /// Largest ε over `period`, all runs together.
    pub max_epsilon: f64,
    /// Largest δ of a run.
    pub max_delta: f64,
    /// What `max_epsilon` is counted over.
    pub period: Duration,
    /// Kinds of model that are accepted; empty means all.
    pub models: Vec<String>,
    /// Most parameters of a model.
    pub largest_model: u64,
    /// Whether a server is accepted whose noise comes from a seed and so protects nobody: for tests.
    pub dangerous_simulated_noise: bool,
}

/// Why a client does not take part.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the policy refuses: {0}")]
pub struct Refusal(pub String);

const TRUST: [&str; 3] = ["central", "distributed", "local"];

impl Policy {
    /// Reads `[policy]`. Whom to trust and how much ε to spend have no default.
    pub(crate) fn read(root: &mut Section) -> Result<Self, SettingError> {
        let known = [
            "dangerous_simulated_noise",
            "largest_model",
            "least_colluding",
            "least_noise_multiplier",
            "max_delta",
            "max_epsilon",
            "models",
            "most_participations",
            "period_days",
            "secure_aggregation",
            "smallest_cohort",
            "smallest_sum",
            "trust",
        ];
        let section = root.section("policy", &known)?;
        let mut section = root.require("policy", "a table with `trust` and `max_epsilon`", section)?;
        let expected = "a list of \"central\", \"distributed\" and \"local\"";
        let trust = section.texts("trust")?;
        let trust = section.require("trust", expected, trust)?;
        if trust.is_empty() || trust.iter().any(|name| !TRUST.contains(&name.as_str())) {
            return section.refuse("trust", expected, format!("{trust:?}"));
        }
        let positive = "a number above 0";
        let mut number = |key: &str| section.number(key, positive, |value| value > 0.0);
        let (max_epsilon, max_delta) = (number("max_epsilon")?, number("max_delta")?);
        let (noise, cohort, days) = (
            number("least_noise_multiplier")?,
            number("smallest_cohort")?,
            number("period_days")?,
        );
        let max_epsilon = section.require(
            "max_epsilon",
            "the largest epsilon over `period_days`",
            max_epsilon,
        )?;
        let least_colluding = section.number("least_colluding", "a number from 0 to 1", |share| {
            (0.0..=1.0).contains(&share)
        })?;
        let days = days.unwrap_or(365.0).min(36_500.0);
        Ok(Self {
            trust,
            least_noise_multiplier: noise.unwrap_or(0.0),
            smallest_cohort: cohort.unwrap_or(0.0),
            secure_aggregation: section.flag("secure_aggregation")?.unwrap_or(false),
            smallest_sum: section.count("smallest_sum", 1)?.unwrap_or(0),
            least_colluding: least_colluding.unwrap_or(0.0),
            most_participations: section.count("most_participations", 1)?.unwrap_or(u64::MAX),
            max_epsilon,
            max_delta: max_delta.unwrap_or(1.0),
            period: Duration::from_secs_f64(days * 86_400.0),
            models: section.texts("models")?.unwrap_or_default(),
            largest_model: section.count("largest_model", 1)?.unwrap_or(100_000_000),
            dangerous_simulated_noise: section.flag("dangerous_simulated_noise")?.unwrap_or(false),
        })
    }

    /// Judges a run before the first round. ε is that of the whole planned run, together with every other run that the client took
    /// part in within the period, by this client's own accountant.
    pub fn check(&self, terms: &Terms, history: &History, now: Duration) -> Result<(), Refusal> {
        let header = &terms.header;
        let refuse = |what: String| Err(Refusal(what));
        if header.simulated && !self.dangerous_simulated_noise {
            return refuse("the server's noise comes from a seed".to_owned());
        }
        if !self.trust.contains(&header.trust) {
            return refuse(format!(
                "trust is `{}`, accepted are {:?}",
                header.trust, self.trust
            ));
        }
        match &header.secure_aggregation {
            None if self.secure_aggregation || self.smallest_sum > 0 => {
                return refuse("secure aggregation is required, and this run has none".to_owned());
            }
            None => {}
            Some(facts) => self.check_aggregation(facts)?,
        }
        // With noise from the clients it is what the fewest honest survivors add.
        let of_clients = header
            .secure_aggregation
            .as_ref()
            .and_then(|facts| facts.noise_multiplier);
        let noise = of_clients
            .or_else(|| gaussian_multiplier(&header.round_event))
            .unwrap_or(0.0);
        if noise < self.least_noise_multiplier {
            let least = self.least_noise_multiplier;
            return refuse(format!(
                "the noise multiplier is {noise}, the least accepted is {least}"
            ));
        }
        if header.cohort < self.smallest_cohort {
            let (cohort, least) = (header.cohort, self.smallest_cohort);
            return refuse(format!(
                "the expected cohort is {cohort}, the smallest accepted is {least}"
            ));
        }
        if header.delta > self.max_delta {
            return refuse(format!(
                "delta is {:e}, the largest accepted is {:e}",
                header.delta, self.max_delta
            ));
        }
        let kind = terms.experiment.model.kind();
        if !self.models.is_empty() && !self.models.iter().any(|model| model == kind) {
            return refuse(format!(
                "the model is of kind `{kind}`, accepted are {:?}",
                self.models
            ));
        }
        if header.dimension > self.largest_model {
            let (got, most) = (header.dimension, self.largest_model);
            return refuse(format!(
                "the model has {got} parameters, the largest accepted has {most}"
            ));
        }
        let mut runs = history.headers_since(now.saturating_sub(self.period), &header.public_key);
        runs.push(header.clone());
        match total_epsilon(&runs) {
            Ok(epsilon) if epsilon <= self.max_epsilon => Ok(()),
            Ok(epsilon) => {
                let (most, others) = (self.max_epsilon, runs.len() - 1);
                refuse(format!(
                    "epsilon of the whole run, with {others} other runs of the period, would be {epsilon:.4}, the most accepted is {most}"
                ))
            }
            Err(error) => refuse(format!("the cost of the run cannot be computed: {error}")),
        }
    }

    fn check_aggregation(&self, facts: &SecureAggregationFacts) -> Result<(), Refusal> {
        let refuse = |what: String| Err(Refusal(what));
        if facts.protocol != "umbel-sa/1" {
            return refuse(format!(
                "secure aggregation is by `{}`, known is `umbel-sa/1`",
                facts.protocol
            ));
        }
        if facts.survivors_min < self.smallest_sum {
            let (least, got) = (self.smallest_sum, facts.survivors_min);
            return refuse(format!(
                "a sum may have {got} clients, the fewest accepted are {least}"
            ));
        }
        #[allow(
            clippy::cast_precision_loss,
            reason = "there are at most 2^14 clients in a round"
        )]
        let (colluding, clients) = (facts.colluding as f64, facts.clients_max as f64);
        if colluding < self.least_colluding * clients {
            let share = self.least_colluding;
            return refuse(format!(
                "{colluding} of {clients} clients are assumed to help the server, the least accepted share is {share}"
            ));
        }
        Ok(())
    }

    /// Judges one more participation in a run that has passed [`check`](Self::check).
    pub fn check_round(&self, participations: u64) -> Result<(), Refusal> {
        if participations >= self.most_participations {
            let most = self.most_participations;
            return Err(Refusal(format!(
                "the client has reported in {participations} rounds, the most accepted is {most}"
            )));
        }
        Ok(())
    }
}

/// σ / C of a round, whatever sampling is around it; none if there is another mechanism in it, or no noise.
fn gaussian_multiplier(event: &DpEvent) -> Option<f64> {
    match event {
        DpEvent::Gaussian { noise_multiplier } => Some(noise_multiplier.value()),
        DpEvent::PoissonSampled { event, .. } | DpEvent::Repeated { event, .. } => gaussian_multiplier(event),
        _ => None,
    }
}

/// ε of all planned rounds of all these runs, at the largest δ among them. Runs of the same unit under the same relation are composed
/// exactly; what different ones cost is added up, with δ shared between them.
fn total_epsilon(runs: &[Header]) -> Result<f64, AccountingError> {
    let relations = [
        NeighboringRelation::AddOrRemoveOne,
        NeighboringRelation::ReplaceByZero,
        NeighboringRelation::ReplaceOne,
    ];
    let groups: Vec<_> = relations
        .into_iter()
        .flat_map(|relation| ["client", "example"].map(|unit| (relation, unit)))
        .map(|(relation, unit)| {
            let same = |run: &&Header| run.neighbors == relation.as_str() && run.unit == unit;
            (relation, runs.iter().filter(same).collect::<Vec<_>>())
        })
        .filter(|(_, group)| !group.is_empty())
        .collect();
    if groups.iter().map(|(_, group)| group.len()).sum::<usize>() != runs.len() {
        // A relation or unit that this program does not know cannot be charged.
        return Ok(f64::INFINITY);
    }
    let delta = runs.iter().map(|run| run.delta).fold(0.0, f64::max);
    #[allow(clippy::cast_precision_loss, reason = "there are six groups at most")]
    let share = delta / groups.len() as f64;
    let Ok(share) = Delta::new(share) else {
        return Ok(f64::INFINITY);
    };
    let mut total = 0.0;
    for (relation, group) in groups {
        let mut accountant = accountant(AccountantKind::Rdp, relation);
        for run in group {
            if accountant.supports(&run.round_event).is_err() {
                return Ok(f64::INFINITY);
            }
            // No more often than this client takes part, which it enforces itself.
            let charges = run.most_charges.map_or(run.rounds, |most| most.min(run.rounds));
            accountant.compose(&run.round_event, charges)?;
        }
        total += accountant.epsilon(share)?.upper.value();
    }
    Ok(total)
}
