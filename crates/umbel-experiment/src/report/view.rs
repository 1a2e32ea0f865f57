//! One run as the parts of the page see it: its label, its look in plots, its rounds in order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{field, record::RunRecord};

/// A run among those on the page.
#[derive(Debug)]
pub(super) struct RunView<'a> {
    /// What the run is called; no two on a page are called the same.
    pub(super) label: String,
    /// Which colour and dash its lines have; its place on the page.
    pub(super) look: usize,
    /// `summary.json`.
    pub(super) summary: &'a Value,
    /// The lines of `metrics.jsonl` by round number.
    pub(super) rounds: BTreeMap<u64, &'a Value>,
}

/// Values by round; `None` where a round has none.
pub(super) type Curve = Vec<(u64, Option<f64>)>;

impl<'a> RunView<'a> {
    /// All runs of a page, in the order given.
    pub(super) fn all(records: &'a [RunRecord]) -> Vec<Self> {
        let mut used = BTreeSet::new();
        let mut views = Vec::new();
        for (look, record) in records.iter().enumerate() {
            let mut label = record.label.clone();
            let mut copy = 1;
            while !used.insert(label.clone()) {
                copy += 1;
                label = format!("{} ({copy})", record.label);
            }
            let mut rounds = BTreeMap::new();
            for (index, line) in (1..).zip(&record.rounds) {
                rounds.insert(line.get("round").and_then(Value::as_u64).unwrap_or(index), line);
            }
            views.push(Self {
                label,
                look,
                summary: &record.summary,
                rounds,
            });
        }
        views
    }

    /// One field of every round.
    pub(super) fn curve(&self, pointer: &str) -> Curve {
        self.rounds
            .iter()
            .map(|(round, line)| (*round, field::number(line, pointer)))
            .collect()
    }

    /// A number in the summary.
    pub(super) fn number(&self, pointer: &str) -> Option<f64> {
        field::number(self.summary, pointer)
    }

    /// A text in the summary.
    pub(super) fn text(&self, pointer: &str) -> Option<&'a str> {
        field::text(self.summary, pointer)
    }

    /// What the run is called in the summary, else its label.
    pub(super) fn name(&self) -> &str {
        self.text("/name").unwrap_or(&self.label)
    }

    /// How many rounds were completed.
    pub(super) fn rounds_completed(&self) -> Option<f64> {
        self.number("/rounds_completed")
            .or_else(|| self.rounds.keys().last().map(|round| *round as f64))
    }
}

/// The names of what `final` reports besides the loss: `accuracy` first, else the task's own metrics by name.
pub(super) fn metrics(runs: &[RunView<'_>]) -> Vec<String> {
    let mut others = BTreeSet::new();
    let mut has_accuracy = false;
    for run in runs {
        has_accuracy |= run
            .rounds
            .values()
            .any(|line| field::number(line, "/accuracy").is_some());
        let Some(last) = run.summary.get("final").and_then(Value::as_object) else {
            continue;
        };
        for (name, value) in last {
            match name.as_str() {
                "accuracy" => has_accuracy |= field::finite(value).is_some(),
                "loss" | "round" => {}
                _ if field::finite(value).is_some() => {
                    others.insert(name.clone());
                }
                _ => {}
            }
        }
    }
    has_accuracy
        .then(|| "accuracy".to_owned())
        .into_iter()
        .chain(others)
        .collect()
}

/// A metric's name as a heading: `accuracy` becomes `Accuracy`, `mean_error` becomes `Mean error`.
pub(super) fn heading(metric: &str) -> String {
    let spaced = metric.replace('_', " ");
    let mut characters = spaced.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

/// The JSON pointer to a key below `parent`.
pub(super) fn below(parent: &str, key: &str) -> String {
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(label: &str, summary: Value, rounds: Vec<Value>) -> RunRecord {
        RunRecord {
            label: label.to_owned(),
            summary,
            rounds,
        }
    }

    #[test]
    fn labels_are_told_apart() {
        let records = ["a", "b", "a", "a (2)", "a"]
            .map(|label| record(label, Value::Null, Vec::new()))
            .to_vec();
        let labels: Vec<String> = RunView::all(&records)
            .into_iter()
            .map(|view| view.label)
            .collect();
        assert_eq!(labels, ["a", "b", "a (2)", "a (2) (2)", "a (3)"]);
    }

    #[test]
    fn rounds_without_a_number_are_counted() {
        let records = [record(
            "a",
            Value::Null,
            vec![json!({"loss": 2.0}), json!({"round": "x", "loss": null})],
        )];
        assert_eq!(
            RunView::all(&records)[0].curve("/loss"),
            [(1, Some(2.0)), (2, None)]
        );
    }

    #[test]
    fn the_metrics_of_the_task_are_found() {
        let records = [
            record(
                "a",
                json!({"final": {"loss": 1.0, "rmse": 0.9, "round": 3, "note": "x"}}),
                Vec::new(),
            ),
            record("b", Value::Null, vec![json!({"accuracy": 0.5})]),
        ];
        let views = RunView::all(&records);
        assert_eq!(metrics(&views), ["accuracy", "rmse"]);
        assert_eq!(metrics(&views[..1]), ["rmse"]);
        assert_eq!(heading("mean_error"), "Mean error");
        assert_eq!(
            field::number(&json!({"a": {"b/c~d": 1}}), &below("/a", "b/c~d")),
            Some(1.0)
        );
    }
}
