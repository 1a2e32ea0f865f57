//! One budget for all runs on a population, as a file that every run takes its share from before it begins.
//!
//! One canonical JSON object a line, chained like a ledger's records and without signatures:
//!
//! ```text
//! {"body":{"delta":0.0001,"epsilon":10.0,"neighbors":"add-remove","unit":"client","version":1},"kind":"limit","previous":"<64 hex>","sequence":0}
//! {"body":{"delta":1e-5,"epsilon":2.0,"public_key":"<64 hex>","run":"digits"},"kind":"share","previous":"<64 hex>","sequence":1}
//! ```
//!
//! A share is the cost of a run's whole plan, so it holds however the run ends, and ε and δ of all shares add up (basic
//! composition; see [`SharedBudget`], which keeps the sums). Each run's signed ledger has its share's line hash in the header, which binds
//! the file up to there: whoever has those ledgers finds a file that was written anew.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::record::SharedBudgetShare;
use super::{Digest, canonical, to_hex};
use crate::filter::{FilterError, RunCost, SharedBudget};
use crate::{Delta, Epsilon, ParamError};

/// What is limited, and to what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PopulationLimit {
    /// Most δ that all runs together may spend.
    pub delta: f64,
    /// Most ε that all runs together may spend.
    pub epsilon: f64,
    /// The neighbouring relation of every run.
    pub neighbors: String,
    /// What one neighbour differs by, in every run.
    pub unit: String,
    /// Version of this format, 1.
    pub version: u32,
}

/// What one run may spend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PopulationShare {
    /// δ of the run.
    pub delta: f64,
    /// ε of its whole plan.
    pub epsilon: f64,
    /// Ed25519 key of the run's ledger.
    pub public_key: String,
    /// Name of the run.
    pub run: String,
}

/// A budget's file, read and checked.
#[derive(Debug, Clone)]
pub struct PopulationLedger {
    limit: PopulationLimit,
    shares: Vec<PopulationShare>,
    spent: SharedBudget,
    heads: Vec<Digest>,
    stored_bytes: usize,
}

/// Why a budget's file was refused, or a share of it. Nothing has changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PopulationError {
    /// The run would overspend what all runs may, or has its share already.
    #[error("run `{run}` asks for epsilon {epsilon} at delta {delta}: {reason}")]
    Refused {
        /// Name of the run.
        run: String,
        /// ε asked for.
        epsilon: f64,
        /// δ asked for.
        delta: f64,
        /// Why not.
        reason: FilterError,
    },
    /// A line that does not hold.
    #[error("line {line}: {reason}")]
    Line {
        /// Line of the file, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is of another limit, unit or relation than the run says.
    #[error("the budget is for {expected}, and this run is for {got}")]
    OtherLimit {
        /// What the file says.
        expected: String,
        /// What the run says.
        got: String,
    },
}

impl PopulationLedger {
    /// A new budget, and its first line with its line feed.
    pub fn create(limit: &PopulationLimit) -> Result<(Self, String), PopulationError> {
        let mut ledger = Self::empty(limit).map_err(|reason| PopulationError::Line { line: 1, reason })?;
        let body = json!({
            "delta": limit.delta, "epsilon": limit.epsilon, "neighbors": limit.neighbors, "unit": limit.unit, "version": limit.version,
        });
        let line = ledger.push("limit", &body);
        Ok((ledger, line))
    }

    /// Reads a budget's file; none if nothing was stored yet. Bytes after the last line feed are a torn write.
    pub fn read(text: &[u8]) -> Result<Option<Self>, PopulationError> {
        let stored_bytes = text
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |last| last + 1);
        let mut ledger: Option<Self> = None;
        for (line, number) in text[..stored_bytes]
            .split_inclusive(|&byte| byte == b'\n')
            .zip(1..)
        {
            Self::take(&mut ledger, line).map_err(|reason| PopulationError::Line { line: number, reason })?;
        }
        Ok(ledger)
    }

    /// Takes a share, and gives its line with its line feed, to be stored before the run begins, and what the run's header says of it.
    pub fn reserve(
        &mut self,
        share: PopulationShare,
    ) -> Result<(String, SharedBudgetShare), PopulationError> {
        self.charge(&share).map_err(|reason| PopulationError::Refused {
            run: share.run.clone(),
            epsilon: share.epsilon,
            delta: share.delta,
            reason,
        })?;
        let body = json!({
            "delta": share.delta, "epsilon": share.epsilon, "public_key": share.public_key, "run": share.run,
        });
        let line = self.push("share", &body);
        let taken = SharedBudgetShare {
            epsilon: share.epsilon,
            delta: share.delta,
            head: to_hex(&self.heads.last().copied().unwrap_or_default()),
            sequence: self.heads.len() as u64 - 1,
        };
        self.shares.push(share);
        Ok((line, taken))
    }

    /// Whether this is the budget that a run means.
    pub fn check_limit(&self, limit: &PopulationLimit) -> Result<(), PopulationError> {
        let words = |limit: &PopulationLimit| {
            format!(
                "epsilon {} at delta {}, unit {}, {}",
                limit.epsilon, limit.delta, limit.unit, limit.neighbors
            )
        };
        if self.limit == *limit {
            Ok(())
        } else {
            Err(PopulationError::OtherLimit {
                expected: words(&self.limit),
                got: words(limit),
            })
        }
    }

    /// Whether `taken`, from the header of a ledger with this key, is in this file as it says.
    pub fn check_share(&self, taken: &SharedBudgetShare, public_key: &str) -> Result<(), String> {
        let place = usize::try_from(taken.sequence).ok();
        let head = place.and_then(|place| self.heads.get(place));
        let share = place
            .and_then(|place| place.checked_sub(1))
            .and_then(|place| self.shares.get(place));
        match (head, share) {
            (Some(head), Some(share))
                if to_hex(head) == taken.head
                    && share.public_key == public_key
                    && share.epsilon.to_bits() == taken.epsilon.to_bits()
                    && share.delta.to_bits() == taken.delta.to_bits() =>
            {
                Ok(())
            }
            (Some(_), _) => Err(format!(
                "line {} of the budget is not the share that the ledger's header says: the file was written anew",
                taken.sequence + 1
            )),
            (None, _) => Err(format!(
                "the budget has {} lines, and the ledger's header says its share is line {}: the file was rolled back",
                self.heads.len(),
                taken.sequence + 1
            )),
        }
    }

    /// What is limited.
    pub fn limit(&self) -> &PopulationLimit {
        &self.limit
    }

    /// All shares, in the order in which they were taken.
    pub fn shares(&self) -> &[PopulationShare] {
        &self.shares
    }

    /// ε and δ of all shares together.
    pub fn spent(&self) -> (f64, f64) {
        (self.spent.spent(), self.spent.spent_delta().unwrap_or(0.0))
    }

    /// Length of what was stored; bytes after it are a torn write, to be cut off before the next append.
    pub fn stored_bytes(&self) -> usize {
        self.stored_bytes
    }

    fn empty(limit: &PopulationLimit) -> Result<Self, String> {
        if limit.version != 1 {
            return Err(format!(
                "a budget of version {}, and this program knows version 1",
                limit.version
            ));
        }
        let text = |error: ParamError| error.to_string();
        let (epsilon, delta) = (
            Epsilon::new(limit.epsilon).map_err(text)?,
            Delta::new(limit.delta).map_err(text)?,
        );
        Ok(Self {
            limit: limit.clone(),
            shares: Vec::new(),
            spent: SharedBudget::epsilon_delta(epsilon, Some(delta)).map_err(|error| error.to_string())?,
            heads: Vec::new(),
            stored_bytes: 0,
        })
    }

    fn charge(&mut self, share: &PopulationShare) -> Result<(), FilterError> {
        let cost = RunCost::EpsilonDelta {
            epsilon: Epsilon::new(share.epsilon)?,
            delta: Some(Delta::new(share.delta)?),
        };
        self.spent.reserve(&share.public_key, cost)
    }

    fn push(&mut self, kind: &str, body: &Value) -> String {
        let mut line = canonical::encode(&json!({
            "body": body,
            "kind": kind,
            "previous": to_hex(&self.heads.last().copied().unwrap_or_default()),
            "sequence": self.heads.len(),
        }));
        self.heads.push(Sha256::digest(line.as_bytes()).into());
        line.push('\n');
        self.stored_bytes += line.len();
        line
    }

    /// Reads one line by writing it again: what differs is not canonical, not chained, or more than it should be.
    fn take(ledger: &mut Option<Self>, line: &[u8]) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Line {
            body: Value,
            kind: String,
        }
        let read: Line = serde_json::from_slice(line).map_err(|error| format!("expected JSON: {error}"))?;
        let unread = |error: serde_json::Error| format!("a `{}` line that does not read: {error}", read.kind);
        let written = match (ledger.as_mut(), read.kind.as_str()) {
            (None, "limit") => {
                let limit: PopulationLimit = serde_json::from_value(read.body.clone()).map_err(unread)?;
                let (created, line) = Self::create(&limit).map_err(|error| error.to_string())?;
                *ledger = Some(created);
                line
            }
            (Some(ledger), "share") => {
                let share: PopulationShare = serde_json::from_value(read.body.clone()).map_err(unread)?;
                ledger.reserve(share).map_err(|error| error.to_string())?.0
            }
            (None, other) => return Err(format!("expected a `limit` first, got a `{other}`")),
            (Some(_), other) => return Err(format!("expected a `share`, got a `{other}`")),
        };
        if written.as_bytes() == line {
            Ok(())
        } else {
            Err("expected canonical JSON that is chained to the line before".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> PopulationLimit {
        PopulationLimit {
            delta: 1e-4,
            epsilon: 5.0,
            neighbors: "add-remove".into(),
            unit: "client".into(),
            version: 1,
        }
    }

    fn share(run: &str, epsilon: f64) -> PopulationShare {
        PopulationShare {
            delta: 1e-5,
            epsilon,
            public_key: to_hex(&Sha256::digest(run)),
            run: run.into(),
        }
    }

    fn three_runs() -> (String, Vec<SharedBudgetShare>) {
        let (mut ledger, mut text) = PopulationLedger::create(&limit()).unwrap();
        let mut taken = Vec::new();
        for (run, epsilon) in [("a", 2.0), ("b", 1.5), ("c", 1.0)] {
            let (line, share) = ledger.reserve(share(run, epsilon)).unwrap();
            text += &line;
            taken.push(share);
        }
        (text, taken)
    }

    #[test]
    fn shares_add_up_and_never_beyond_the_limit() {
        let (text, taken) = three_runs();
        let mut ledger = PopulationLedger::read(text.as_bytes()).unwrap().unwrap();
        assert_eq!((ledger.shares().len(), ledger.stored_bytes()), (3, text.len()));
        let (epsilon, delta) = ledger.spent();
        assert!((epsilon - 4.5).abs() < 1e-12 && (delta - 3e-5).abs() < 1e-17);
        let before = ledger.clone();
        for (run, epsilon, reason) in [
            ("d", 0.6, "budget exhausted"),
            ("a", 0.1, "no share yet"),
            ("e", f64::INFINITY, "budget exhausted"),
        ] {
            let error = ledger.reserve(share(run, epsilon)).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(ledger.heads, before.heads, "a refusal changes nothing");
        }
        ledger.reserve(share("d", 0.5)).unwrap();
        for (run, taken) in ["a", "b", "c"].iter().zip(&taken) {
            ledger.check_share(taken, &share(run, 0.0).public_key).unwrap();
        }
        assert!(ledger.check_limit(&limit()).is_ok());
        let other = PopulationLimit {
            epsilon: 6.0,
            ..limit()
        };
        assert!(
            ledger
                .check_limit(&other)
                .unwrap_err()
                .to_string()
                .contains("epsilon 6")
        );
    }

    #[test]
    fn every_edit_is_found_by_the_file_or_by_a_ledger_that_has_a_share() {
        let (text, taken) = three_runs();
        let key = share("c", 0.0).public_key;
        let lines: Vec<&str> = text.lines().collect();
        for position in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[position] ^= 1;
            let found = match PopulationLedger::read(&bytes) {
                Ok(Some(ledger)) => ledger.check_share(&taken[2], &key).is_err(),
                Ok(None) | Err(_) => true,
            };
            assert!(found, "byte {position}");
        }
        for dropped in 0..lines.len() {
            let rest: String = lines
                .iter()
                .enumerate()
                .filter(|(place, _)| *place != dropped)
                .map(|(_, line)| format!("{line}\n"))
                .collect();
            let read = PopulationLedger::read(rest.as_bytes());
            let found = match read {
                Ok(Some(ledger)) => ledger
                    .check_share(&taken[2], &key)
                    .unwrap_err()
                    .contains("rolled back"),
                Ok(None) | Err(_) => true,
            };
            assert!(found, "line {dropped}");
        }
        assert!(PopulationLedger::read(b"").unwrap().is_none());
        assert!(PopulationLedger::read(&text.as_bytes()[..30]).unwrap().is_none());
    }
}
