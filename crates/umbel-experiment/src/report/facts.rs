//! The facts of a run: what was set, what it took, what identifies it.

use super::{markup::Markup, number, view::RunView};

/// Names and values, of which those without a value are left out.
#[derive(Debug, Default)]
pub(super) struct Facts {
    rows: Vec<(&'static str, String, Style)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Prose,
    Code,
}

impl Facts {
    /// Adds a fact, where it is known.
    pub(super) fn add(&mut self, name: &'static str, value: Option<String>) {
        self.rows.extend(value.map(|value| (name, value, Style::Prose)));
    }

    /// Adds a digest or a key, where it is known.
    fn add_code(&mut self, name: &'static str, value: Option<&str>) {
        self.rows
            .extend(value.map(|value| (name, value.to_owned(), Style::Code)));
    }

    /// Writes the list, or nothing where no fact is known.
    pub(super) fn draw(&self, markup: &mut Markup) {
        if self.rows.is_empty() {
            return;
        }
        markup.element("dl", &[], |markup| {
            for (name, value, style) in &self.rows {
                markup.leaf("dt", &[], name);
                match style {
                    Style::Prose => markup.leaf("dd", &[], value),
                    Style::Code => {
                        markup.element("dd", &[], |markup| markup.leaf("code", &[], value));
                    }
                }
            }
        });
    }
}

/// The section with all facts of each run.
pub(super) fn section(markup: &mut Markup, runs: &[RunView<'_>]) {
    if runs.is_empty() {
        return;
    }
    // Of several runs all is folded away, so that on paper even the heading would stand alone.
    let class: &[_] = if runs.len() > 1 {
        &[("class", "folded")]
    } else {
        &[]
    };
    markup.element("section", class, |markup| {
        markup.leaf("h2", &[], "Facts");
        if let [run] = runs {
            cards(markup, run);
            return;
        }
        for run in runs {
            markup.element("details", &[], |markup| {
                markup.leaf("summary", &[], &run.label);
                cards(markup, run);
            });
        }
    });
    markup.line();
}

fn cards(markup: &mut Markup, run: &RunView<'_>) {
    markup.element("div", &[("class", "cards")], |markup| {
        card(markup, "card", "Run", &of_run(run));
        card(markup, "card", "Mechanism", &of_mechanism(run));
        card(markup, "card", "Time and memory", &of_cost(run));
        card(markup, "card row", "Identity", &of_identity(run));
    });
}

fn card(markup: &mut Markup, class: &str, title: &str, facts: &Facts) {
    if facts.rows.is_empty() {
        return;
    }
    markup.element("div", &[("class", class)], |markup| {
        markup.leaf("h3", &[], title);
        facts.draw(markup);
    });
}

fn of_run(run: &RunView<'_>) -> Facts {
    let mut facts = Facts::default();
    facts.add("Name", run.text("/name").map(str::to_owned));
    facts.add("Status", status(run));
    facts.add("Model", model(run));
    facts.add("Clients", run.number("/clients").map(number::count));
    facts.add("Expected cohort", run.number("/cohort").map(number::plain));
    // A seed may be larger than a float holds exactly.
    facts.add(
        "Seed",
        run.summary
            .get("seed")
            .filter(|seed| seed.is_number())
            .map(ToString::to_string),
    );
    facts
}

fn of_mechanism(run: &RunView<'_>) -> Facts {
    let plain = |pointer| run.number(pointer).map(number::plain);
    let mut facts = Facts::default();
    facts.add("Sampling", run.text("/privacy/sampling").map(str::to_owned));
    facts.add("Sampling rate", plain("/privacy/sampling_rate"));
    facts.add("Clip norm", plain("/privacy/clip_norm"));
    facts.add(
        "Noise",
        run.text("/privacy/noise")
            .map(|noise| noise_words(noise).to_owned()),
    );
    facts.add("Noise multiplier", plain("/privacy/noise_multiplier"));
    let deviation = plain("/privacy/noise_std_dev");
    facts.add(
        "Noise deviation",
        deviation.map(|it| format!("{it} per parameter and release")),
    );
    let rounds = |pointer: &str| run.number(pointer).map(number::plain).unwrap_or_default();
    facts.add(
        "Correlated noise",
        run.text("/privacy/ftrl/strategy").map(|strategy| {
            format!(
                "DP-FTRL ({strategy}): each client at least {} rounds apart, at most {} times",
                rounds("/privacy/ftrl/separation"),
                rounds("/privacy/ftrl/participations")
            )
        }),
    );
    facts.add(
        "Adaptive clipping",
        plain("/privacy/adaptive_clip/quantile")
            .map(|quantile| format!("toward quantile {quantile}; the clip norm is that of the first round")),
    );
    facts.add(
        "Participations",
        plain("/privacy/local/max_participations")
            .map(|most| format!("at most {most} a client, which ε is for")),
    );
    facts.add(
        "Accountant",
        run.text("/privacy/accountant").map(str::to_uppercase),
    );
    facts
}

fn of_cost(run: &RunView<'_>) -> Facts {
    let rate = |pointer, what: &str| {
        run.number(pointer)
            .map(|rate| format!("{} {what}", number::plain(rate)))
    };
    let mut facts = Facts::default();
    facts.add("In all", run.number("/timing/total_seconds").map(number::seconds));
    facts.add(
        "Training",
        run.number("/timing/train_seconds").map(number::seconds),
    );
    facts.add("Rounds", rate("/timing/rounds_per_second", "per second"));
    facts.add(
        "Clients trained",
        rate("/timing/clients_per_second", "per second"),
    );
    facts.add(
        "Examples trained on",
        rate("/timing/examples_per_second", "per second"),
    );
    facts.add("Most memory", run.number("/peak_rss_bytes").map(number::bytes));
    facts
}

fn of_identity(run: &RunView<'_>) -> Facts {
    let mut facts = Facts::default();
    facts.add_code("Model, SHA-256", run.text("/model_sha256"));
    facts.add("Ledger records", run.number("/ledger/records").map(number::count));
    facts.add_code("Ledger head", run.text("/ledger/head"));
    facts.add_code("Ledger key", run.text("/ledger/public_key"));
    facts.add_code("Key fingerprint", run.text("/ledger/fingerprint"));
    facts
}

/// Kind and size of a model: `mlp, 159,010 parameters`.
pub(super) fn model(run: &RunView<'_>) -> Option<String> {
    let kind = run.text("/model/kind").map(str::to_owned);
    let size = run
        .number("/model/parameters")
        .map(|size| format!("{} parameters", number::count(size)));
    let parts: Vec<String> = kind.into_iter().chain(size).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How the run ended, and after how many rounds.
pub(super) fn status(run: &RunView<'_>) -> Option<String> {
    let completed = run.rounds_completed().map(number::count);
    let rounds = match (completed, run.number("/rounds").map(number::count)) {
        (Some(completed), Some(planned)) => Some(format!("{completed} of {planned} rounds")),
        (Some(completed), None) => Some(format!("{completed} rounds")),
        (None, _) => None,
    };
    let status = run.text("/status").map(|status| match status {
        "budget-exhausted" => "stopped before its budget would be overspent",
        "stopped-early" => "stopped early by its rule on public data",
        other => other,
    });
    match (status, rounds) {
        (Some(status), Some(rounds)) => Some(format!("{status}, {rounds}")),
        (Some(status), None) => Some(status.to_owned()),
        (None, rounds) => rounds,
    }
}

fn noise_words(noise: &str) -> &str {
    match noise {
        "rounded" => "rounded Gaussian, on integers",
        "continuous" => "continuous Gaussian, in floating point",
        "none" => "none: not private",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::report::RunRecord;

    #[track_caller]
    fn check_status(summary: Value, expected: Option<&str>) {
        let records = [RunRecord {
            label: "a".to_owned(),
            summary,
            rounds: Vec::new(),
        }];
        assert_eq!(status(&RunView::all(&records)[0]).as_deref(), expected);
    }

    #[test]
    fn the_status_says_how_far_the_run_came() {
        check_status(json!({}), None);
        check_status(json!({"status": "interrupted"}), Some("interrupted"));
        check_status(
            json!({"rounds": 100, "rounds_completed": 57}),
            Some("57 of 100 rounds"),
        );
        check_status(
            json!({"status": "finished", "rounds": 1000, "rounds_completed": 1000}),
            Some("finished, 1,000 of 1,000 rounds"),
        );
    }
}
