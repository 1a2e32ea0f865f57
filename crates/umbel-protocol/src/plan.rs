//! What a run will do, checked once before it begins and never changed.

use std::time::Duration;

use umbel_accounting::{AccountantKind, Delta, DpEvent, Epsilon, NeighboringRelation, SamplingRate};
use umbel_mechanisms::{
    CentralGaussian, CohortSource, DistributedGaussian, Mechanism, NoiseLaw, Turns, poisson_cohort,
};

use crate::{PlanError, SecureAggregation, StrategySpec};

/// What one neighbour differs by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrivacyUnit {
    /// All data of one client.
    Client,
    /// One example of one client.
    Example,
}

impl PrivacyUnit {
    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Example => "example",
        }
    }
}

/// Who adds the noise, and against whom the ε holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// The server adds it to the sum: ε holds against everyone but the server.
    Central,
    /// Clients add it together, inside secure aggregation: ε holds against everyone, the server included, as long as no more
    /// clients of a round collude than was assumed.
    Distributed,
    /// Each client adds its own to what it sends: ε holds against everyone, nobody is trusted.
    Local,
}

impl Trust {
    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Central => "central",
            Self::Distributed => "distributed",
            Self::Local => "local",
        }
    }

    /// The neighbouring relation under which this trust model is accounted. Locally a client that sends something is seen to take
    /// part, so what is protected is which data it has; an example of it may be there or not. Secure aggregation opens nothing below
    /// a number of clients, which a single one could decide: who takes part is no secret there, what it contributes is.
    pub fn relation(self, unit: PrivacyUnit, is_aggregated_securely: bool) -> NeighboringRelation {
        match (self, unit) {
            (Self::Local, PrivacyUnit::Client) => NeighboringRelation::ReplaceOne,
            (Self::Local, PrivacyUnit::Example) => NeighboringRelation::AddOrRemoveOne,
            (Self::Distributed, _) => NeighboringRelation::ReplaceByZero,
            (Self::Central, _) if is_aggregated_securely => NeighboringRelation::ReplaceByZero,
            (Self::Central, _) => NeighboringRelation::AddOrRemoveOne,
        }
    }
}

/// How cohorts are drawn. The value that draws the cohort also says what one round costs, so that sampler and accountant
/// cannot differ.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Sampling {
    /// Each client joins independently with the same secret probability.
    Poisson {
        /// The probability, a public constant of the run.
        rate: SamplingRate,
    },
    /// Clients take turns in groups, so that each takes part in rounds far apart only. That by itself buys no amplification.
    Turns(Turns),
}

impl Sampling {
    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Poisson { .. } => "poisson",
            Self::Turns(_) => "turns",
        }
    }

    /// Poisson sampling with an expected `cohort` out of a declared `population`.
    pub fn poisson(cohort: f64, population: u64) -> Result<Self, PlanError> {
        #[allow(clippy::cast_precision_loss, reason = "populations are far below 2^53")]
        let rate = SamplingRate::new(cohort / population as f64);
        match rate {
            Ok(rate) if cohort > 0.0 => Ok(Self::Poisson { rate }),
            _ => Err(PlanError::Setting {
                key: "federation.cohort",
                expected: format!("above 0 and at most the number of clients, {population}"),
                got: format!("{cohort:?}"),
            }),
        }
    }

    /// The probability with which a client joins a round; with turns, a round that is its turn.
    pub fn rate(&self) -> SamplingRate {
        match self {
            Self::Poisson { rate } => *rate,
            Self::Turns(turns) => turns.rate(),
        }
    }

    /// The clients of `round`, counted from 1, in ascending order.
    pub(crate) fn cohort(&self, source: &CohortSource, round: u64, population: u64) -> Vec<u64> {
        match self {
            Self::Poisson { rate } => poisson_cohort(source, round, population, *rate),
            Self::Turns(turns) => turns.cohort(source, round, population),
        }
    }

    /// The cost of applying `mechanism` to a cohort drawn in this way. With turns it is that of the mechanism itself, which is made
    /// for them.
    pub fn event(self, mechanism: DpEvent) -> DpEvent {
        match (self, mechanism) {
            (_, DpEvent::NonPrivate) => DpEvent::NonPrivate,
            (Self::Turns(_), mechanism) => mechanism,
            (Self::Poisson { rate }, mechanism) => DpEvent::PoissonSampled {
                sampling_rate: rate,
                event: Box::new(mechanism),
            },
        }
    }
}

/// Facts that stand in the ledger's header and bind it to what was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Name of the run.
    pub name: String,
    /// Program and version.
    pub software: String,
    /// SHA-256 of the experiment as resolved, in hexadecimal.
    pub experiment_sha256: String,
    /// SHA-256 over training data and partition, in hexadecimal.
    pub data_sha256: String,
    /// Names of the numbers that are released beside the models, computed from released models and public data only.
    pub public_metrics: Vec<String>,
}

/// Settings of a run, before they are checked.
#[derive(Debug, Clone)]
pub struct PlanSettings {
    /// Facts for the header.
    pub description: Description,
    /// What one neighbour differs by.
    pub unit: PrivacyUnit,
    /// Who adds the noise.
    pub trust: Trust,
    /// The declared, public number of clients.
    pub population: u64,
    /// Where the unit is an example, the declared, public number of examples over all clients.
    pub examples: Option<u64>,
    /// Expected cohort size, public; must equal the mechanism's divisor.
    pub cohort: f64,
    /// How many rounds.
    pub rounds: u64,
    /// Whether the driver may end the run before its last round, by a rule on what was released. Where a run ends then is itself
    /// an outcome, so every claim is that of all planned rounds, from the first on: the ε of the rounds that were played would be
    /// a promise about the outcome that happened, and no differential privacy.
    pub may_stop_early: bool,
    /// Clips, sums and noises.
    pub mechanism: Mechanism,
    /// How sums come about that the server does not see into; absent where it adds up reports itself.
    pub secure_aggregation: Option<SecureAggregation>,
    /// What the server does with releases.
    pub strategy: StrategySpec,
    /// Whose ε is claimed.
    pub accountant: AccountantKind,
    /// δ of every claim.
    pub delta: Delta,
    /// The most ε that may be spent, if there is a limit.
    pub epsilon_budget: Option<Epsilon>,
    /// How long a round stays open for reports.
    pub round_duration: Duration,
}

/// A checked plan. The round engine takes nothing else.
#[derive(Debug, Clone)]
pub struct RunPlan {
    settings: PlanSettings,
    sampling: Sampling,
}

impl RunPlan {
    /// Checks `settings`; errors name the setting, what was expected and what came.
    pub fn new(settings: PlanSettings) -> Result<Self, PlanError> {
        let refuse = |key, expected: String, got: String| Err(PlanError::Setting { key, expected, got });
        if settings.population == 0 {
            return refuse("clients", "at least 1".to_owned(), "0".to_owned());
        }
        // The value that makes the noise says who may take part, so that its event is true of the cohorts.
        let sampling = match &settings.mechanism {
            Mechanism::Matrix(mechanism) => {
                let turns = mechanism.plan().turns;
                let expected = turns.expected_cohort(settings.population);
                if (expected - settings.cohort).abs() > 1e-9 * expected {
                    let expected = format!("what the mechanism's turns give, {expected}");
                    return refuse("federation.cohort", expected, settings.cohort.to_string());
                }
                if mechanism.plan().rounds != settings.rounds {
                    let expected = format!(
                        "the rounds that the mechanism is made for, {}",
                        mechanism.plan().rounds
                    );
                    return refuse("federation.rounds", expected, settings.rounds.to_string());
                }
                Sampling::Turns(turns)
            }
            _ => Sampling::poisson(settings.cohort, settings.population)?,
        };
        #[allow(
            clippy::float_cmp,
            reason = "the plan and the mechanism must hold the very same number"
        )]
        if settings.mechanism.divisor() != settings.cohort {
            let expected = format!("the divisor of the mechanism, {}", settings.mechanism.divisor());
            return refuse("federation.cohort", expected, settings.cohort.to_string());
        }
        if settings.rounds == 0 {
            return refuse("federation.rounds", "at least 1".to_owned(), "0".to_owned());
        }
        let units = match (settings.unit, settings.examples) {
            (PrivacyUnit::Client, _) => settings.population,
            (PrivacyUnit::Example, Some(examples @ 1..)) => examples,
            (PrivacyUnit::Example, got) => {
                let expected = "the declared number of examples over all clients, at least 1".to_owned();
                return refuse(
                    "federation.examples",
                    expected,
                    got.map_or_else(|| "none".to_owned(), |got| got.to_string()),
                );
            }
        };
        check_combination(&settings)?;
        if let Some(secure) = &settings.secure_aggregation {
            secure.check(settings.cohort, settings.population)?;
        }
        check_aggregation(&settings)?;
        #[allow(clippy::cast_precision_loss, reason = "numbers of units are far below 2^53")]
        let population = units as f64;
        if settings.delta.value() >= 1.0 / population {
            let unit = settings.unit.as_str();
            let expected = format!(
                "below 1 / {units} = {:.3e}, one over the number of {unit}s, since a larger delta would allow to publish \
                 {} outright",
                1.0 / population,
                if settings.unit == PrivacyUnit::Example {
                    "an example"
                } else {
                    "a client"
                },
            );
            return refuse("privacy.delta", expected, settings.delta.to_string());
        }
        let plan = Self { settings, sampling };
        umbel_accounting::accountant(plan.settings.accountant, plan.relation())
            .supports(&plan.round_event())?;
        Ok(plan)
    }

    /// The settings.
    pub fn settings(&self) -> &PlanSettings {
        &self.settings
    }

    /// How cohorts are drawn.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// How often [`round_event`](Self::round_event) counts at most: once if it is that of the whole run, charged with the first
    /// round and valid for every number of rounds; as often as a client may take part if each adds its own noise. Absent: once a
    /// round.
    pub fn most_charges(&self) -> Option<u64> {
        self.settings.mechanism.most_charges()
    }

    /// How often [`round_event`](Self::round_event) has been spent after `rounds` rounds.
    pub fn charges(&self, rounds: u64) -> u64 {
        self.most_charges().map_or(rounds, |most| rounds.min(most))
    }

    /// The declared, public number of units that are protected.
    pub fn units(&self) -> u64 {
        match self.settings.unit {
            PrivacyUnit::Client => self.settings.population,
            PrivacyUnit::Example => self.settings.examples.unwrap_or_default(),
        }
    }

    /// What each round costs, or all rounds together, or one participation of a client.
    pub fn round_event(&self) -> DpEvent {
        match self.settings.trust {
            Trust::Central if self.settings.secure_aggregation.is_none() => {
                self.sampling.event(self.settings.mechanism.event())
            }
            // The server, or with secure aggregation everybody, sees who takes part, so nothing is amplified by its coins.
            _ => self.settings.mechanism.event(),
        }
    }

    /// The δ that is left for the accountant once the noise sampler's own inexactness, on a model of `dimension` parameters, is
    /// taken from the plan's.
    pub fn accounted_delta(&self, dimension: usize) -> Result<Delta, PlanError> {
        let delta = self.settings.delta.value();
        let loss = self
            .settings
            .mechanism
            .delta_loss(dimension as u64, self.settings.rounds);
        // A subtraction may be rounded up, or change nothing.
        let rest = if loss > 0.0 {
            (delta - loss).next_down()
        } else {
            delta
        };
        Delta::new(rest).map_err(|_| PlanError::Setting {
            key: "privacy.delta",
            expected: format!("above {loss:e}, which the noise sampler's inexactness takes of it"),
            got: delta.to_string(),
        })
    }

    /// The most ε that a run of this plan can spend on a model of `dimension` parameters: that of all its rounds, or its own limit.
    pub fn most_spent(&self, dimension: usize) -> Result<Epsilon, PlanError> {
        let settings = &self.settings;
        let mut accountant = umbel_accounting::accountant(settings.accountant, self.relation());
        accountant.compose(&self.round_event(), self.charges(settings.rounds))?;
        let bounds = accountant.epsilon(self.accounted_delta(dimension)?)?;
        let planned = if bounds.upper.value() > self.most_certified() {
            Epsilon::INFINITE
        } else {
            bounds.upper
        };
        Ok(match settings.epsilon_budget {
            Some(limit) if limit < planned => limit,
            _ => planned,
        })
    }

    /// The largest ε that the noise sampler is certified for; a bound above it is reported as infinite.
    pub fn most_certified(&self) -> f64 {
        match self.settings.mechanism.noise_law() {
            Some(NoiseLaw::Rounded) => CentralGaussian::MAX_EPSILON,
            Some(NoiseLaw::Discrete) => DistributedGaussian::MAX_EPSILON,
            _ => f64::INFINITY,
        }
    }

    /// The neighbouring relation of every claim.
    pub fn relation(&self) -> NeighboringRelation {
        let settings = &self.settings;
        settings
            .trust
            .relation(settings.unit, settings.secure_aggregation.is_some())
    }
}

/// Who adds the noise and what it covers must be what the mechanism does.
fn check_combination(settings: &PlanSettings) -> Result<(), PlanError> {
    let refuse = |key, expected: &str, got: &str| {
        Err(PlanError::Setting {
            key,
            expected: expected.to_owned(),
            got: format!("\"{got}\""),
        })
    };
    let (unit, trust) = (settings.unit.as_str(), settings.trust.as_str());
    match (&settings.mechanism, settings.trust, settings.unit) {
        (Mechanism::Local(mechanism), Trust::Local, PrivacyUnit::Client)
            if mechanism.plan().steps.is_none() =>
        {
            Ok(())
        }
        (Mechanism::Local(mechanism), Trust::Local, PrivacyUnit::Example)
            if mechanism.plan().steps.is_some() =>
        {
            Ok(())
        }
        (Mechanism::Distributed(_), Trust::Distributed, PrivacyUnit::Client) => Ok(()),
        // Without any noise the mechanism is the same for all; nothing is promised.
        (mechanism, _, _) if mechanism.noise_law().is_none() => Ok(()),
        (Mechanism::Local(_), Trust::Local, _) => {
            refuse("privacy.unit", "what the clients' noise is made for", unit)
        }
        (Mechanism::Local(_), _, _) => refuse("privacy.trust", "\"local\", as each client adds noise", trust),
        (Mechanism::Distributed(_), Trust::Distributed, PrivacyUnit::Example) => {
            let expected = "\"client\" with trust \"distributed\": sums of whole updates bound no example's share; with \"local\" each \
                            client protects its examples by itself, and secure aggregation hides what it sends";
            refuse("privacy.unit", expected, unit)
        }
        (Mechanism::Distributed(_), _, _) => refuse(
            "privacy.trust",
            "\"distributed\", as clients add the noise together",
            trust,
        ),
        (_, Trust::Distributed, _) => refuse(
            "privacy.trust",
            "\"central\" or \"local\": with \"distributed\" clients add discrete noise together, independent in each round",
            trust,
        ),
        (_, Trust::Central, PrivacyUnit::Client) => Ok(()),
        (_, Trust::Central, PrivacyUnit::Example) => {
            let expected = "\"local\" with unit \"example\": the server gets a whole client's update and could bound no example's share";
            refuse("privacy.trust", expected, trust)
        }
        (_, Trust::Local, _) => refuse("privacy.trust", "\"central\", as the server adds noise", trust),
    }
}

/// What is aggregated securely must fit into the modulus, and must not need more than a sum.
fn check_aggregation(settings: &PlanSettings) -> Result<(), PlanError> {
    let refuse = |key, expected: String, got: String| Err(PlanError::Setting { key, expected, got });
    let Some(secure) = &settings.secure_aggregation else {
        if settings.trust == Trust::Distributed {
            let expected = "true, or in a simulation \"ideal\", with trust \"distributed\": a server that saw single contributions would \
                            see them with a share of the noise only";
            return refuse(
                "secure_aggregation.enabled",
                expected.to_owned(),
                "false".to_owned(),
            );
        }
        return Ok(());
    };
    match &settings.mechanism {
        Mechanism::Distributed(mechanism) => {
            let terms = mechanism.terms();
            let of_mechanism = (
                terms.clients_max,
                terms.survivors_min,
                terms.colluding,
                terms.modulus_bits,
            );
            let of_plan = (
                secure.clients_max,
                secure.survivors_min,
                secure.colluding,
                secure.modulus_bits,
            );
            if of_mechanism != of_plan {
                let expected = format!(
                    "the most, fewest and colluding clients and bits of the mechanism, {of_mechanism:?}"
                );
                return refuse("secure_aggregation", expected, format!("{of_plan:?}"));
            }
        }
        Mechanism::Matrix(_) => {
            let expected = "false with correlated noise, which is charged for all rounds under add-or-remove: secure aggregation opens \
                            nothing below a number of clients, so one client could decide whether there is a release";
            return refuse(
                "secure_aggregation.enabled",
                expected.to_owned(),
                "true".to_owned(),
            );
        }
        _ => {
            let least = SecureAggregation::bits_for_quantized(secure.clients_max);
            if !(least..=62).contains(&secure.modulus_bits) {
                let expected = format!("between {least}, which hold every sum, and 62");
                let got = secure.modulus_bits.to_string();
                return refuse("secure_aggregation.modulus_bits", expected, got);
            }
        }
    }
    Ok(())
}
