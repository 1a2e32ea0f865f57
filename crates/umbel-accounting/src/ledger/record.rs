//! What a ledger's records say.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Digest, canonical, event_json};
use crate::{AccountantKind, Delta, DpEvent, EpsilonBounds};

/// The content of one record, by kind.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever reads a ledger must handle every kind"
)]
pub enum Body {
    /// A round's cost became final; its sum may now be learnt.
    Charge(Charge),
    /// The run ended, or was interrupted in good order.
    Close(Close),
    /// What the run promised, before anything happened.
    Header(Box<Header>),
    /// The model that a charge paid for.
    Release(Release),
    /// Budget was set aside for a round that is about to open.
    Reserve(Reserve),
    /// An interrupted run went on from here.
    Resume(Resume),
    /// A round was abandoned before anything was learnt; its reservation is given back.
    Void(Void),
}

/// The first record: who signs, and what the run promises. Nothing in it may change while the run lasts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of this format, 1.
    pub version: u32,
    /// Name of the run.
    pub run: String,
    /// Program and version that wrote the ledger.
    pub software: String,
    /// Ed25519 public key of the signer, 64 hexadecimal digits. Filled in by the writer.
    pub public_key: String,
    /// What one neighbour differs by: `client` or `example`.
    pub unit: String,
    /// Who adds the noise: `central`, `distributed` or `local`.
    pub trust: String,
    /// The neighbouring relation: `add-remove`, `replace-by-zero` or `replace-one`.
    pub neighbors: String,
    /// True if noise and cohorts come from the seed of a simulation.
    pub simulated: bool,
    /// Name of the accountant whose claims the charges carry.
    pub accountant: String,
    /// How cohorts are drawn: `poisson`, or `turns` where clients take turns in groups.
    pub sampling: String,
    /// The public constant q: of `turns`, that of a client whose turn it is.
    pub sampling_rate: f64,
    /// The declared, public number of units.
    pub population: u64,
    /// Where a unit is no client, the declared, public number of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<u64>,
    /// Expected cohort size: the public divisor of every sum.
    pub cohort: f64,
    /// How many rounds are planned.
    pub rounds: u64,
    /// What each round costs; with `most_charges` = 1 what all rounds together cost.
    #[serde(with = "event_field")]
    pub round_event: DpEvent,
    /// How often `round_event` counts at most: after r rounds it has been spent min(r, `most_charges`) times. 1 where it is the
    /// event of the whole run; the most participations of a client where each client adds its own noise. Absent: once a round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_charges: Option<u64>,
    /// Of DP-FTRL, what `round_event` was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<MatrixFacts>,
    /// Where the clip norm follows a quantile of the contributions' norms, how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive_clip: Option<AdaptiveClipFacts>,
    /// Where only sums of clients' contributions are opened, who is in one; with trust `distributed` what `round_event` was
    /// computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_aggregation: Option<SecureAggregationFacts>,
    /// Bound C on the norm of one unit's contribution; with `adaptive_clip` that of the first round.
    pub clip_norm: f64,
    /// Length that one integer step stands for in clipped contributions; it is in proportion to the clip norm.
    pub grid_unit: f64,
    /// Which sampler draws the noise: `rounded`, `discrete` (the discrete Gaussian), `continuous` or `none`.
    pub noise: String,
    /// Number of parameters of the model.
    pub dimension: u64,
    /// δ at which every ε of this ledger stands.
    pub delta: f64,
    /// The part of it that the accountant gets: the rest pays for a noise sampler that is not exact.
    pub accounted_delta: f64,
    /// The most ε that the run may spend, if it has a limit.
    pub epsilon_budget: Option<f64>,
    /// The rule by which each round's cost may be chosen after seeing earlier outputs; null where all of it is fixed here. No
    /// filter is known to this version, so that a ledger with one is refused.
    pub filter: Option<String>,
    /// Names of the numbers that are released beside the models. They are computed from released models and public data, so
    /// they cost nothing.
    pub public_metrics: Vec<String>,
    /// The budget that this run shares with others on the same population, if there is one.
    pub shared_budget: Option<SharedBudgetShare>,
    /// SHA-256 of the plan: this object without the fields of [`Header::NOT_PLAN`], in canonical JSON. Filled in by the writer.
    pub plan_sha256: String,
    /// SHA-256 of the experiment file as resolved.
    pub experiment_sha256: String,
    /// Commitment to the data and its split over clients, so that a resumed run is known to see the same: SHA-256 of the
    /// opening, which is kept elsewhere. A bare hash would let somebody who knows all clients but one test for that one.
    pub data_commitment: String,
    /// SHA-256 of the initial model's parameters (little-endian `f32`).
    pub initial_model_sha256: String,
}

/// Adaptive clipping (Andrew et al. 2021): C ← C · exp(−learning_rate · (share − quantile)), kept between two bounds, where the
/// share of contributions within C is released with each round. The noise of `round_event` covers both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveClipFacts {
    /// The share of contributions that shall be within the clip norm.
    pub quantile: f64,
    /// How fast the clip norm moves.
    pub learning_rate: f64,
    /// The clip norm never goes below.
    pub smallest: f64,
    /// The clip norm never goes above.
    pub largest: f64,
    /// Standard deviation of the noise on the number of contributions within the clip norm.
    pub count_std_dev: f64,
    /// Grid units that one contribution's share counts as, positive or negative.
    pub indicator: u32,
}

/// Secure aggregation: the sums that clients open. With trust `distributed` each client adds a discrete Gaussian share of the noise,
/// sized for `survivors_min` − `colluding` honest ones, and `round_event` is the cost at that floor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureAggregationFacts {
    /// `umbel-sa/1`, or `ideal` where a simulation left the cryptography away.
    pub protocol: String,
    /// The most clients in a sum.
    pub clients_max: u64,
    /// The fewest: below it nothing is opened and nothing is charged.
    pub survivors_min: u64,
    /// The most clients of a sum that collude with the server, against whom it still holds.
    pub colluding: u64,
    /// Sums are modulo two to this power.
    pub modulus_bits: u32,
    /// With trust `distributed`, standard deviation of the noise of the fewest honest survivors together, over the clip norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_multiplier: Option<f64>,
}

/// The strategy matrix of a run of DP-FTRL and who may take part when: enough to compute its sensitivity again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatrixFacts {
    /// `blt` (buffered linear Toeplitz), `banded` (Toeplitz) or `tree` (one binary tree).
    pub strategy: String,
    /// Of `banded`, the coefficients; of `blt`, the decays and then as many output scales; of `tree`, nothing.
    pub coefficients: Vec<f64>,
    /// Two participations of a client are at least this many rounds apart.
    pub separation: u64,
    /// A client takes part at most this often.
    pub participations: u64,
    /// Standard deviation of the independent draws, over the clip norm.
    pub noise_multiplier: f64,
    /// How far one unit moves the encoded sums, in units of the clip norm, roundings included.
    pub sensitivity: f64,
    /// Whether the cost is that of secret coins within groups of clients.
    pub amplified: bool,
}

impl Header {
    /// The fields that are not part of the plan, so that runs of one plan have one `plan_sha256`.
    pub const NOT_PLAN: [&str; 8] = [
        "data_commitment",
        "experiment_sha256",
        "initial_model_sha256",
        "plan_sha256",
        "public_key",
        "run",
        "shared_budget",
        "software",
    ];

    /// What `plan_sha256` must be.
    pub fn plan_digest(&self) -> Result<Digest, String> {
        let mut plan = serde_json::to_value(self).map_err(|error| error.to_string())?;
        if let Some(fields) = plan.as_object_mut() {
            fields.retain(|name, _| !Self::NOT_PLAN.contains(&name.as_str()));
        }
        Ok(Sha256::digest(canonical::encode(&plan)).into())
    }

    /// How often `round_event` has been spent after `rounds` charged rounds.
    pub fn charges(&self, rounds: u64) -> u64 {
        self.most_charges.map_or(rounds, |most| rounds.min(most))
    }
}

/// A run's part of a budget that several runs on one population share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedBudgetShare {
    /// ε that this run may spend of it.
    pub epsilon: f64,
    /// δ that this run may spend of it.
    pub delta: f64,
    /// SHA-256 of the line of the budget's file that took the share: it stands for the whole file up to there.
    pub head: String,
    /// Position of that line, from 0.
    pub sequence: u64,
}

/// ε at δ as an accountant certified it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Name of the accountant.
    pub accountant: String,
    /// δ.
    pub delta: f64,
    /// Certified upper bound; null means infinite: no privacy.
    pub epsilon: Option<f64>,
    /// Certified lower bound, where there is one.
    pub epsilon_lower: Option<f64>,
}

impl Claim {
    /// The claim that `bounds` make at `delta`.
    pub fn new(accountant: AccountantKind, delta: Delta, bounds: EpsilonBounds) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        Self {
            accountant: accountant.as_str().to_owned(),
            delta: delta.value(),
            epsilon: finite(bounds.upper.value()),
            epsilon_lower: bounds.lower.and_then(|lower| finite(lower.value())),
        }
    }
}

/// Budget set aside before a round opens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// Number of the round, from 1.
    pub round: u64,
    /// What the round will cost.
    #[serde(with = "event_field")]
    pub event: DpEvent,
}

/// The final cost of a round, stored before its sum is learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Charge {
    /// Number of the round, from 1.
    pub round: u64,
    /// What the round costs.
    #[serde(with = "event_field")]
    pub event: DpEvent,
    /// Standard deviation of the noise on the integer sum, in grid units; 0 without noise.
    pub noise_std_dev_grid_units: f64,
    /// What the noised sum is divided by.
    pub divisor: f64,
    /// The round's clip norm where it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// ε of everything charged so far, this round included.
    pub claim: Claim,
    /// Commitment to the number of clients invited and reporting: SHA-256 of the opening, which is kept elsewhere because
    /// the counts themselves are not covered by ε.
    pub counts_commitment: String,
    /// With secure aggregation, whose sum is opened. Who takes part is public there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survivors: Option<Survivors>,
}

/// The clients in a sum of secure aggregation. Nothing is charged by these numbers, which a server could influence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Survivors {
    /// Tries of this round that fell short before this one, and cost nothing.
    pub attempt: u64,
    /// How many clients are in the sum.
    pub clients: u64,
    /// What the round costs if of these clients the promised number is honest: with trust `distributed` less than what is
    /// charged, as more clients than the fewest add noise.
    #[serde(with = "event_field")]
    pub event: DpEvent,
}

/// The result of a round, as it becomes visible.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Number of the round, from 1.
    pub round: u64,
    /// SHA-256 of the new model's parameters (little-endian `f32`).
    pub model_sha256: String,
    /// Where the clip norm moves, the noisy share of contributions within it, from which the next one follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_within: Option<f64>,
}

/// A round abandoned before anything was learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Void {
    /// Number of the round, from 1.
    pub round: u64,
    /// Why.
    pub reason: String,
}

/// An interrupted run goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// The last round whose release is on record; 0 if none is.
    pub released: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever reads a ledger must handle every way to end"
)]
pub enum CloseStatus {
    /// The next round would have overspent.
    BudgetExhausted,
    /// All planned rounds were run.
    Finished,
    /// Stopped on request; may be resumed.
    Interrupted,
}

/// The end of a run, or of one stretch of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Close {
    /// How it ended.
    pub status: CloseStatus,
    /// Rounds released.
    pub rounds: u64,
    /// ε of everything charged.
    pub claim: Claim,
    /// SHA-256 of the model file.
    pub model_file_sha256: String,
    /// SHA-256 of the summary file.
    pub summary_file_sha256: String,
}

impl Body {
    /// The name of the record's kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Charge(_) => "charge",
            Self::Close(_) => "close",
            Self::Header(_) => "header",
            Self::Release(_) => "release",
            Self::Reserve(_) => "reserve",
            Self::Resume(_) => "resume",
            Self::Void(_) => "void",
        }
    }

    pub(super) fn encode(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::Charge(body) => serde_json::to_value(body),
            Self::Close(body) => serde_json::to_value(body),
            Self::Header(body) => serde_json::to_value(body),
            Self::Release(body) => serde_json::to_value(body),
            Self::Reserve(body) => serde_json::to_value(body),
            Self::Resume(body) => serde_json::to_value(body),
            Self::Void(body) => serde_json::to_value(body),
        }
    }

    pub(super) fn decode(kind: &str, body: Value) -> Result<Self, String> {
        let body = match kind {
            "charge" => serde_json::from_value(body).map(Self::Charge),
            "close" => serde_json::from_value(body).map(Self::Close),
            "header" => serde_json::from_value(body).map(|header| Self::Header(Box::new(header))),
            "release" => serde_json::from_value(body).map(Self::Release),
            "reserve" => serde_json::from_value(body).map(Self::Reserve),
            "resume" => serde_json::from_value(body).map(Self::Resume),
            "void" => serde_json::from_value(body).map(Self::Void),
            other => return Err(format!("a record of unknown kind `{other}`")),
        };
        body.map_err(|error| format!("a `{kind}` record that does not read: {error}"))
    }
}

/// Events inside derived records.
mod event_field {
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use serde_json::Value;

    use super::event_json;
    use crate::DpEvent;

    pub(super) fn serialize<S: Serializer>(event: &DpEvent, serializer: S) -> Result<S::Ok, S::Error> {
        event_json::encode(event)
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DpEvent, D::Error> {
        event_json::decode(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
