//! What is promised, to whom, and what is not covered.

use serde_json::Value;

use super::{facts::Facts, field, markup::Markup, number, view::RunView};

/// What a page must say of every run whose noise came from a seed.
pub(super) const SIMULATED: &str =
    "noise is reproducible from the seed; this ε describes the mechanism, not this model file";

/// Whether a run bounds what is learnt about a unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Promise {
    /// By this ε at the run's δ.
    Bounded(f64),
    /// No: there was no noise.
    Nothing,
    /// The summary does not say.
    Unstated,
}

impl Promise {
    /// What a summary says. Anything that says "no noise" outweighs an ε beside it.
    pub(super) fn of(summary: &Value) -> Self {
        let no_noise = field::text(summary, "/privacy/noise") == Some("none")
            || field::number(summary, "/privacy/noise_multiplier")
                .is_some_and(|multiplier| multiplier <= 0.0);
        match summary.pointer("/privacy/epsilon") {
            _ if no_noise => Self::Nothing,
            Some(Value::Null) => Self::Nothing, // JSON has no infinity
            Some(value) => field::finite(value)
                .filter(|epsilon| *epsilon >= 0.0)
                .map_or(Self::Unstated, Self::Bounded),
            None => Self::Unstated,
        }
    }
}

/// The things without which an ε says nothing, each in a word or two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    /// δ, or that it is not stated.
    pub(super) delta: String,
    /// What one neighbour differs by.
    pub(super) unit: String,
    /// How neighbours differ.
    pub(super) relation: String,
    /// Who adds the noise.
    pub(super) trust: String,
    /// Whether the run was simulated.
    pub(super) simulated: String,
}

const NOT_STATED: &str = "not stated";

impl Terms {
    pub(super) fn of(summary: &Value) -> Self {
        let text = |pointer| field::text(summary, pointer).unwrap_or(NOT_STATED).to_owned();
        Self {
            delta: field::number(summary, "/privacy/delta")
                .map_or_else(|| NOT_STATED.to_owned(), number::exact),
            unit: text("/privacy/unit"),
            relation: text("/privacy/neighbors"),
            trust: text("/privacy/trust"),
            simulated: match is_simulated(summary) {
                Some(true) => "yes",
                Some(false) => "no",
                None => NOT_STATED,
            }
            .to_owned(),
        }
    }

    /// All of them in one line, to stand beside an ε.
    pub(super) fn line(&self) -> String {
        let simulated = match self.simulated.as_str() {
            "yes" => "simulated",
            "no" => "not simulated",
            _ => "simulated or not: not stated",
        };
        format!(
            "δ = {}, unit {}, neighbours {}, trust {}, {simulated}",
            self.delta, self.unit, self.relation, self.trust
        )
    }
}

/// Whether the noise of a run came from a seed.
pub(super) fn is_simulated(summary: &Value) -> Option<bool> {
    summary.pointer("/privacy/simulated").and_then(Value::as_bool)
}

/// The section on the promise of each run.
pub(super) fn section(markup: &mut Markup, runs: &[RunView<'_>]) {
    if runs.is_empty() {
        return;
    }
    markup.element("section", &[("id", "promise")], |markup| {
        markup.leaf("h2", &[], "What is promised, and what is not covered");
        markup.element("div", &[("class", "cards wide")], |markup| {
            for run in runs {
                markup.element("div", &[("class", "card")], |markup| {
                    markup.leaf(
                        "h3",
                        &[],
                        if runs.len() > 1 {
                            &run.label
                        } else {
                            "What is promised"
                        },
                    );
                    promise(markup, run);
                });
            }
            for (labels, uncovered) in uncovered_by_run(runs) {
                markup.element("div", &[("class", "card")], |markup| {
                    let title = if labels.len() == runs.len() {
                        "What is not covered".to_owned()
                    } else {
                        format!("What is not covered: {}", labels.join(", "))
                    };
                    markup.leaf("h3", &[], &title);
                    if uncovered.is_empty() {
                        markup.leaf("p", &[], "The run did not state what is not covered.");
                        return;
                    }
                    markup.element("ul", &[], |markup| {
                        for item in &uncovered {
                            markup.leaf("li", &[], item);
                        }
                    });
                });
            }
        });
    });
    markup.line();
}

fn promise(markup: &mut Markup, run: &RunView<'_>) {
    let epsilon = match Promise::of(run.summary) {
        Promise::Bounded(epsilon) => epsilon,
        Promise::Nothing => {
            markup.leaf(
                "p",
                &[],
                "Nothing is promised. No noise was added, so ε is infinite: clipping and averaging alone do not \
                 limit what the model tells about one client.",
            );
            return;
        }
        Promise::Unstated => {
            markup.leaf(
                "p",
                &[],
                "The summary of this run holds no ε, so this page promises nothing.",
            );
            return;
        }
    };
    if let Some(statement) = run.text("/privacy/statement") {
        markup.leaf("p", &[], statement);
    }
    let terms = Terms::of(run.summary);
    let mut facts = Facts::default();
    let bound = format!("{} at δ = {}", number::epsilon_upper(epsilon), terms.delta);
    facts.add("ε, upper bound", Some(bound));
    facts.add(
        "ε, lower bound",
        run.number("/privacy/epsilon_lower").map(number::epsilon_lower),
    );
    let budget = run.number("/privacy/epsilon_budget");
    facts.add(
        "Budget",
        budget.map(|budget| format!("ε = {}", number::plain(budget))),
    );
    facts.add("Unit", Some(explained(&terms.unit, UNITS)));
    facts.add("Neighbours", Some(explained(&terms.relation, RELATIONS)));
    facts.add("Trust", Some(explained(&terms.trust, TRUSTS)));
    facts.add("Simulated", Some(simulated_words(run.summary)));
    facts.draw(markup);
    if let Some(meaning) = meaning(run.summary, epsilon) {
        markup.leaf("p", &[("class", "sub")], &meaning);
    }
}

fn simulated_words(summary: &Value) -> String {
    match is_simulated(summary) {
        Some(true) => format!("yes: {SIMULATED}"),
        Some(false) => "no".to_owned(),
        None => NOT_STATED.to_owned(),
    }
}

const UNITS: &[(&str, &str)] = &[
    ("client", "all data of one client"),
    ("example", "one example of one client"),
];

const RELATIONS: &[(&str, &str)] = &[
    ("add-remove", "one unit is there or is not"),
    ("replace-by-zero", "one unit counts, or counts as zero"),
    ("replace-one", "one unit is replaced by any other"),
];

const TRUSTS: &[(&str, &str)] = &[
    (
        "central",
        "the server adds the noise; ε holds against everyone but the server",
    ),
    (
        "distributed",
        "the clients add the noise together inside secure aggregation; ε holds against the server too",
    ),
    (
        "local",
        "each client adds its own noise; ε holds whoever else is dishonest",
    ),
];

/// A word of the experiment file and what it means.
fn explained(word: &str, meanings: &[(&str, &str)]) -> String {
    match meanings.iter().find(|(known, _)| *known == word) {
        Some((_, meaning)) => format!("{word}: {meaning}"),
        None => word.to_owned(),
    }
}

/// The bound as an attacker's chance.
///
/// Under (ε, δ) the advantage of any test between two neighbours is at most (e^ε − 1 + 2δ) / (e^ε + 1)
/// (Kairouz, Oh and Viswanath 2015, the region of errors with both slopes e^ε), so with even odds the
/// chance to be right is at most (e^ε + δ) / (e^ε + 1). It is printed rounded up.
fn meaning(summary: &Value, epsilon: f64) -> Option<String> {
    let delta = field::number(summary, "/privacy/delta").filter(|delta| (0.0..1.0).contains(delta))?;
    let question = match field::text(summary, "/privacy/neighbors")? {
        "add-remove" => "whether one unit took part",
        "replace-by-zero" => "whether one unit counted or was zero",
        "replace-one" => "which of two versions of one unit was used",
        _ => return None,
    };
    Some(format!(
        "In other words: an attacker against whom this holds, who knows everything but the coins and takes both \
         answers to be equally likely, is right about {question} at most {} of the time. Guessing gives 50%.",
        chance_in_percent(best_chance(epsilon, delta))
    ))
}

/// The best chance of telling two neighbours apart, at even odds.
fn best_chance(epsilon: f64, delta: f64) -> f64 {
    // Divided by e^ε, so that a large ε does not overflow.
    let inverse = (-epsilon).exp();
    ((1.0 + delta * inverse) / (1.0 + inverse)).min(1.0)
}

/// A chance with as many digits as keep it from 100%, up to four, rounded up.
fn chance_in_percent(chance: f64) -> String {
    let percent = 100.0 * chance;
    for (decimals, step) in [(1_usize, 0.1), (2, 0.01), (3, 0.001), (4, 0.0001)] {
        let up = (percent / step).ceil() * step;
        if up < 100.0 - 0.5 * step {
            return format!("{up:.decimals$}%");
        }
    }
    "100%".to_owned()
}

/// Runs that say the same about what is not covered, together.
fn uncovered_by_run(runs: &[RunView<'_>]) -> Vec<(Vec<String>, Vec<String>)> {
    let mut groups: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for run in runs {
        let items: Vec<String> = field::list(run.summary, "/privacy/not_covered")
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        match groups.iter_mut().find(|(_, known)| *known == items) {
            Some((labels, _)) => labels.push(run.label.clone()),
            None => groups.push((vec![run.label.clone()], items)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_without_noise_promises_nothing() {
        for (privacy, promise) in [
            (json!({"epsilon": 8.0, "noise": "rounded"}), Promise::Bounded(8.0)),
            (json!({"epsilon": null, "noise": "none"}), Promise::Nothing),
            (json!({"epsilon": null}), Promise::Nothing),
            (json!({"epsilon": 8.0, "noise": "none"}), Promise::Nothing),
            (json!({"epsilon": 8.0, "noise_multiplier": 0.0}), Promise::Nothing),
            (json!({"epsilon": "8"}), Promise::Unstated),
            (json!({"epsilon": -1.0}), Promise::Unstated),
            (json!({"noise": "rounded"}), Promise::Unstated),
            (Value::Null, Promise::Unstated),
        ] {
            assert_eq!(Promise::of(&json!({"privacy": privacy})), promise, "{privacy}");
        }
        assert_eq!(Promise::of(&json!({})), Promise::Unstated);
    }

    #[test]
    fn terms_that_are_missing_are_named() {
        let line = Terms::of(&json!({"privacy": {"delta": 1e-4, "unit": "client"}})).line();
        assert_eq!(
            line,
            "δ = 1e-4, unit client, neighbours not stated, trust not stated, simulated or not: not stated"
        );
    }

    #[test]
    fn the_attackers_chance_is_right() {
        assert!((best_chance(3.0_f64.ln(), 0.0) - 0.75).abs() < 1e-12);
        assert!((best_chance(0.0, 0.1) - 0.55).abs() < 1e-12);
        assert!((best_chance(1e6, 0.5) - 1.0).abs() < 1e-12);
        // For ε = 1 and δ = 1e-5, (e + 1e-5) / (e + 1), worked out by hand.
        assert!((best_chance(1.0, 1e-5) - 0.731_061_268).abs() < 1e-8);
    }

    #[test]
    fn a_chance_is_rounded_up_and_not_to_certainty() {
        for (chance, text) in [
            (0.5, "50.0%"),
            (0.731_05, "73.2%"),
            (0.999_665, "99.97%"),
            (0.999_999_5, "100%"),
            (1.0, "100%"),
        ] {
            assert_eq!(chance_in_percent(chance), text);
        }
    }
}
