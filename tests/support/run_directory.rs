//! Reads a run directory by what is documented of it, without the program's own code except for the ledger's verifier.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use umbel_accounting::ledger::{self, Body, Order, VerifiedLedger, to_hex};

/// A run directory.
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    /// Names of all its files, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn summary(&self) -> Value {
        serde_json::from_str(&self.text("summary.json")).unwrap()
    }

    /// The lines of `metrics.jsonl`, each parsed.
    pub(crate) fn metrics(&self) -> Vec<Value> {
        self.text("metrics.jsonl")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The ledger, its hash chain, signatures and order verified.
    pub(crate) fn ledger(&self) -> VerifiedLedger {
        let bytes = self.bytes("ledger");
        let ledger = ledger::read(&bytes).unwrap();
        assert_eq!(ledger.stored_bytes(), bytes.len(), "no torn line");
        ledger
    }

    /// The model as a flat vector, in the file's order.
    pub(crate) fn model(&self) -> Vec<f32> {
        parameters(&self.bytes("model.safetensors"))
    }

    /// Checks a finished run of `rounds` rounds: whole, with one charge and one release for each round, and closed.
    #[track_caller]
    pub(crate) fn check_finished(&self, rounds: u64) {
        let files = [
            "experiment.toml",
            "ledger",
            "ledger.openings",
            "metrics.jsonl",
            "model.safetensors",
            "report.html",
        ];
        let expected: Vec<_> = files.iter().chain(&["summary.json"]).copied().collect();
        assert_eq!(self.names(), expected);
        let summary = self.summary();
        assert_eq!(
            (&summary["status"], &summary["rounds_completed"]),
            (&"finished".into(), &rounds.into())
        );
        assert_eq!(summary["model_sha256"], sha256(&self.bytes("model.safetensors")));
        assert_eq!(self.metrics().len() as u64, rounds);

        let ledger = self.ledger();
        assert_eq!(ledger.order(), Order::Closed);
        assert_eq!(
            self.charged_rounds(),
            (1..=rounds).collect::<Vec<_>>(),
            "one charge a round"
        );
        assert_eq!(
            self.released_rounds(),
            (1..=rounds).collect::<Vec<_>>(),
            "one release a round"
        );
        let Some(Body::Close(close)) = ledger.records().last() else {
            panic!("the ledger ends with a close")
        };
        assert_eq!(close.rounds, rounds);
        assert_eq!(summary["model_sha256"], close.model_file_sha256.as_str());
        assert_eq!(close.summary_file_sha256, sha256(&self.bytes("summary.json")));
        assert_eq!(close.claim.epsilon, summary["privacy"]["epsilon"].as_f64());
    }

    pub(crate) fn charged_rounds(&self) -> Vec<u64> {
        let round = |body: &Body| match body {
            Body::Charge(charge) => Some(charge.round),
            _ => None,
        };
        self.ledger().records().iter().filter_map(round).collect()
    }

    pub(crate) fn released_rounds(&self) -> Vec<u64> {
        let round = |body: &Body| match body {
            Body::Release(release) => Some(release.round),
            _ => None,
        };
        self.ledger().records().iter().filter_map(round).collect()
    }

    /// The hash of the parameters that each round released, as the ledger has it.
    pub(crate) fn released_models(&self) -> Vec<String> {
        let model = |body: &Body| match body {
            Body::Release(release) => Some(release.model_sha256.clone()),
            _ => None,
        };
        self.ledger().records().iter().filter_map(model).collect()
    }

    /// The hash of the parameters in the model file.
    pub(crate) fn model_content_sha256(&self) -> String {
        let bytes: Vec<u8> = self
            .model()
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        sha256(&bytes)
    }

    /// Checks that two runs gave the same: the same model file and the same metrics, byte for byte.
    #[track_caller]
    pub(crate) fn check_same_results(&self, other: &Self) {
        assert_eq!(self.summary()["model_sha256"], other.summary()["model_sha256"]);
        assert!(
            self.bytes("model.safetensors") == other.bytes("model.safetensors"),
            "the same model"
        );
        assert_eq!(self.text("metrics.jsonl"), other.text("metrics.jsonl"));
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

/// The values of a safetensors file in order: eight bytes that say how long the header is, the header, the data. The header
/// must describe the data without gaps, all of type F32.
pub(crate) fn parameters(file: &[u8]) -> Vec<f32> {
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    let header: Value = serde_json::from_slice(header).unwrap();
    let tensors = header
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "__metadata__");
    let mut ranges: Vec<_> = tensors
        .map(|(name, tensor)| {
            assert_eq!(tensor["dtype"], "F32", "{name}");
            let range: [usize; 2] = serde_json::from_value(tensor["data_offsets"].clone()).unwrap();
            let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
            assert_eq!(range[1] - range[0], 4 * shape.iter().product::<usize>(), "{name}");
            range
        })
        .collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0][1] == pair[1][0]), "no gaps");
    assert_eq!((ranges[0][0], ranges[ranges.len() - 1][1]), (0, data.len()));
    data.chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}
