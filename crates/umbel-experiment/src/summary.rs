//! What a run says of itself: one object a round, and one at the end.

use serde::{Deserialize, Deserializer, Serialize};

use crate::run_dir::peak_rss_bytes;

/// A line of `metrics.jsonl`. Loss and accuracy are computed on the public test set, so they are post-processing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundMetrics {
    /// The round, from 1.
    pub round: u64,
    /// Mean loss on the test set; in the file null where a model has left the range of numbers.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Share of the test set that is classified rightly, 0 to 1.
    pub accuracy: f64,
    /// ε of everything up to this round; null without noise.
    pub epsilon: Option<f64>,
    /// Certified lower bound of it.
    pub epsilon_lower: Option<f64>,
    /// δ.
    pub delta: f64,
    /// The round's clip norm where it moves; public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Quality on the public validation set, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Quality>,
    /// Diagnostics of a simulation; a served run has none, since they would have to be charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulator_only: Option<SimulatorOnly>,
}

/// Loss and accuracy on public examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Mean loss; in the file null where a model has left the range of numbers.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Share classified rightly, 0 to 1.
    pub accuracy: f64,
}

/// Numbers that only a simulator sees. They are computed on the clients' data without noise and are **not covered by ε**.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimulatorOnly {
    /// Always false: these numbers are not covered.
    pub covered_by_epsilon: bool,
    /// Clients invited.
    pub cohort: u64,
    /// Clients that reported.
    pub reports: u64,
    /// Share of updates that were shortened to the clip norm; null if nobody reported.
    pub clipped_fraction: Option<f64>,
    /// Updates with a non-finite entry, which were taken for zero.
    pub non_finite: u64,
    /// Mean norm of the updates before clipping; null if nobody reported.
    pub update_norm_mean: Option<f64>,
    /// Largest norm of an update before clipping.
    pub update_norm_max: f64,
    /// Mean training loss over the examples that were visited; null if there were none.
    pub train_loss: Option<f64>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever reads a summary must handle every way to end"
)]
pub enum Status {
    /// The next round would have overspent.
    BudgetExhausted,
    /// All rounds were run.
    Finished,
    /// Stopped on request; may be resumed.
    Interrupted,
    /// Ended before its last planned round by its rule on public data; ε is that of all planned rounds.
    StoppedEarly,
}

/// `summary.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Name of the experiment.
    pub name: String,
    /// Seed of the simulation; in a served run of the initial model only.
    pub seed: u64,
    /// How it ended.
    pub status: Status,
    /// Rounds planned.
    pub rounds: u64,
    /// Rounds released.
    pub rounds_completed: u64,
    /// Declared number of clients.
    pub clients: u64,
    /// Expected cohort size.
    pub cohort: f64,
    /// After the last round; null before the first.
    #[serde(rename = "final")]
    pub last: Option<Evaluation>,
    /// The round with the best accuracy on the test set.
    pub best: Option<Evaluation>,
    /// What is promised.
    pub privacy: PrivacyFacts,
    /// How long it took.
    pub timing: Timing,
    /// The most memory that was held, in bytes; null where the system does not tell.
    pub peak_rss_bytes: Option<u64>,
    /// SHA-256 of `model.safetensors`.
    pub model_sha256: String,
    /// What was trained.
    pub model: ModelFacts,
    /// How to check it.
    pub ledger: LedgerFacts,
    /// What only a simulator saw: not covered by ε.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulator_only: Option<PartitionOnly>,
}

/// Quality on the public test set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// After which round.
    pub round: u64,
    /// Mean loss; in the file null where a model has left the range of numbers.
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Share classified rightly, 0 to 1.
    pub accuracy: f64,
}

/// The promise, with everything without which an ε says nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrivacyFacts {
    /// What one neighbour differs by.
    pub unit: String,
    /// Who adds the noise.
    pub trust: String,
    /// The neighbouring relation.
    pub neighbors: String,
    /// True if coins and noise come from a seed.
    pub simulated: bool,
    /// Certified upper bound; null means infinite.
    pub epsilon: Option<f64>,
    /// Certified lower bound, where there is one.
    pub epsilon_lower: Option<f64>,
    /// The most that may be spent, if there is a limit.
    pub epsilon_budget: Option<f64>,
    /// δ.
    pub delta: f64,
    /// Whose ε it is.
    pub accountant: String,
    /// σ / C; null without noise.
    pub noise_multiplier: Option<f64>,
    /// C; of the first round where it moves.
    pub clip_norm: f64,
    /// Where the clip norm follows the updates, how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive_clip: Option<AdaptiveClipFacts>,
    /// How cohorts are drawn.
    pub sampling: String,
    /// The probability q.
    pub sampling_rate: f64,
    /// Which sampler draws the noise.
    pub noise: String,
    /// Standard deviation of the noise on each parameter of each release (the sum divided by `cohort`); of the last planned one
    /// where it differs from round to round.
    pub noise_std_dev: f64,
    /// The same of the sum of all planned releases, which with `fedavg` is the noise in the final model; absent where the clip norm
    /// moves, and the noise with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_noise_std_dev: Option<f64>,
    /// How the noise of different rounds hangs together: `gaussian` (not at all) or `dp-ftrl`.
    #[serde(default)]
    pub mechanism: String,
    /// Of DP-FTRL, how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ftrl: Option<FtrlFacts>,
    /// Of noise that clients add, what each does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalFacts>,
    /// Where the server sees sums only, whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_aggregation: Option<AggregationFacts>,
    /// What the promise does not cover.
    pub not_covered: Vec<String>,
    /// The promise in words.
    pub statement: String,
}

/// Secure aggregation: whose sums are opened, and how many of them must be honest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AggregationFacts {
    /// `umbel-sa/1`, or `ideal` where a simulation left the cryptography away.
    pub protocol: String,
    /// The fewest clients in a sum: below it nothing is opened, and nothing charged.
    pub survivors_min: u64,
    /// The most.
    pub clients_max: u64,
    /// The most clients of a sum that may help the server.
    pub colluding: u64,
    /// Share of the fewest clients in a sum who must be honest.
    pub honest_share: f64,
    /// Sums are modulo two to this power.
    pub modulus_bits: u32,
    /// Where clients add the noise: a client takes part at most this often, and ε is that of as many participations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_participations: Option<u64>,
    /// Where clients add the noise, the clip norm in steps of the integers that are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm_grid_units: Option<f64>,
    /// Where clients add the noise, standard deviation of one client's own over the clip norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_noise_multiplier: Option<f64>,
}

/// Noise on each client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalFacts {
    /// A client takes part at most this often, and ε is that of as many participations.
    pub max_participations: u64,
    /// Where the unit is an example, steps a round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Where the unit is an example, the probability with which it is in a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_sampling_rate: Option<f64>,
    /// Where the unit is an example, the public number that a batch's noised sum is divided by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_divisor: Option<f64>,
}

/// A clip norm that follows a quantile of the updates' norms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdaptiveClipFacts {
    /// Share of updates that shall not be clipped.
    pub quantile: f64,
    /// How fast it moves.
    pub learning_rate: f64,
    /// Standard deviation of the noise on the number of updates that are not clipped; the noise multiplier covers it.
    pub count_std_dev: f64,
    /// Noise on the updates' sum over the clip norm: a little above the noise multiplier, for the count takes its share.
    pub update_noise_multiplier: f64,
}

/// Correlated noise, and who may take part when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FtrlFacts {
    /// `blt`, `banded` or `tree`.
    pub strategy: String,
    /// Two participations of a client are at least this many rounds apart.
    pub separation: u64,
    /// A client takes part at most this often.
    pub participations: u64,
    /// How far one client moves the encoded sums, in units of the clip norm.
    pub sensitivity: f64,
    /// Whether ε counts on secret coins within groups of clients.
    pub amplified: bool,
}

/// Wall-clock time. The only part of a run directory, with memory and keys, that differs from one run to the next.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// From start to summary, in seconds; of this process if the run was resumed.
    pub total_seconds: f64,
    /// Of them, spent in rounds: training, aggregation, noise, records, evaluation.
    pub train_seconds: f64,
    /// Rounds a second of `train_seconds`.
    pub rounds_per_second: f64,
    /// Clients trained a second of `train_seconds`; null in a served run, where it would have to be charged.
    pub clients_per_second: Option<f64>,
    /// Examples visited a second of `train_seconds`; null in a served run.
    pub examples_per_second: Option<f64>,
}

/// What was trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Kind of the model.
    pub kind: String,
    /// Number of parameters.
    pub parameters: u64,
}

/// How the ledger stands, before its closing record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerFacts {
    /// Number of records.
    pub records: u64,
    /// SHA-256 of the last line.
    pub head: String,
    /// Ed25519 key of the signer.
    pub public_key: String,
    /// The key's short name.
    pub fingerprint: String,
}

/// Diagnostics of the whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionOnly {
    /// Always false.
    pub covered_by_epsilon: bool,
    /// Who holds what.
    pub partition: PartitionFacts,
}

/// Who holds what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionFacts {
    /// Kind of the partition.
    pub kind: String,
    /// Number of clients.
    pub clients: u64,
    /// Examples over all clients.
    pub examples: u64,
    /// Fewest examples of a client.
    pub examples_min: u64,
    /// Median.
    pub examples_median: u64,
    /// Most.
    pub examples_max: u64,
    /// Clients by number of examples.
    pub histogram: Vec<HistogramBin>,
    /// Number of classes.
    pub classes: u64,
    /// For the first clients, examples of each class.
    pub labels: Vec<Vec<u64>>,
}

/// Clients that hold at least `from` and fewer than `to` examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistogramBin {
    /// Least number of examples.
    pub from: u64,
    /// One more than the largest number of examples.
    pub to: u64,
    /// How many clients.
    pub clients: u64,
}

impl Summary {
    /// The most memory that this process has held, in bytes, where the system tells.
    pub fn peak_rss_bytes() -> Option<u64> {
        peak_rss_bytes()
    }
}

/// JSON has no infinity and no NaN; both are written as null, and read back as NaN.
fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Option::deserialize(deserializer).map(|number| number.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_is_no_number_reads_back() {
        let evaluation = Evaluation {
            round: 1,
            loss: f64::INFINITY,
            accuracy: 0.1,
        };
        let text = serde_json::to_string(&evaluation).unwrap();
        assert_eq!(text, r#"{"round":1,"loss":null,"accuracy":0.1}"#);
        assert!(serde_json::from_str::<Evaluation>(&text).unwrap().loss.is_nan());
        let text = r#"{"round":1,"loss":0.5,"accuracy":0.1}"#;
        assert!(serde_json::from_str::<Evaluation>(text).unwrap().loss < 1.0);
    }
}
