//! A folder with data and an experiment, of which nothing is left after the test.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::files::{gzip, idx_images, idx_labels, labels};
use super::{RunDir, Umbel};

/// How many clients the training data have: each holds [`EXAMPLES_PER_CLIENT`] examples.
pub(crate) const N_CLIENTS: usize = 40;

const EXAMPLES_PER_CLIENT: usize = 12;

/// How many examples the test set has.
const N_TEST: usize = 200;

/// A run of a few rounds on the folder's data.
const EXPERIMENT: &str = r#"
name = "small"
seed = 3

[data]
format = "idx"
train = { examples = "data/train-images.gz", labels = "data/train-labels", clients = "data/clients.tsv", client_column = "owner" }
test = { examples = "data/test-images", labels = "data/test-labels.gz" }

[data.partition]
kind = "by-key"

[model]
kind = "softmax"

[training]
epochs = 1
batch_size = 4
optimizer = { kind = "sgd", learning_rate = 0.1 }

[federation]
rounds = 5
cohort = 10
strategy = { kind = "fedavg" }

[privacy]
unit = "client"
trust = "central"
clip_norm = 0.5
noise_multiplier = 1.0
delta = 1e-3
"#;

/// A folder with `experiment.toml` and `data/`, in which commands are run.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::create_dir(folder.path("data")).unwrap();
        let train = labels(N_CLIENTS * EXAMPLES_PER_CLIENT, 1);
        let test = labels(N_TEST, 2);
        folder.write("data/train-images.gz", &gzip(&idx_images(&train, 3)));
        folder.write("data/train-labels", &idx_labels(&train));
        folder.write("data/test-images", &idx_images(&test, 4));
        folder.write("data/test-labels.gz", &gzip(&idx_labels(&test)));
        let rows = (0..train.len()).map(|row| format!("{row}\tclient-{}\n", row % N_CLIENTS));
        let table: String = ["row\towner\n".to_owned()].into_iter().chain(rows).collect();
        folder.write("data/clients.tsv", table.as_bytes());
        folder.write("experiment.toml", EXPERIMENT.as_bytes());
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Replaces the one `from` in the experiment file.
    pub(crate) fn edit(&self, from: &str, to: &str) {
        let text = String::from_utf8(self.read("experiment.toml")).unwrap();
        assert_eq!(text.matches(from).count(), 1, "the experiment has one `{from}`");
        self.write("experiment.toml", text.replace(from, to).as_bytes());
    }

    /// `umbel`, to be run in this folder.
    pub(crate) fn umbel(&self) -> Umbel {
        Umbel::new(self.root())
    }

    /// `umbel simulate experiment.toml --out <out> --set …`.
    pub(crate) fn simulate(&self, out: &str, settings: &[&str]) -> Umbel {
        let mut umbel = self.umbel().args(&["simulate", "experiment.toml", "--out", out]);
        for setting in settings {
            umbel = umbel.args(&["--set", setting]);
        }
        umbel
    }

    /// Simulates to the end, in the directory `out`.
    pub(crate) fn finished(&self, out: &str, settings: &[&str]) -> RunDir {
        self.simulate(out, settings).run().success();
        self.run_dir(out)
    }

    pub(crate) fn run_dir(&self, out: &str) -> RunDir {
        RunDir::new(self.path(out))
    }
}
