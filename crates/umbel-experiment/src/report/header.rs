//! The top of the page: what was reached, at which ε, and whether that means anything.

use super::{
    compare, facts,
    markup::Markup,
    number,
    privacy::{self, Promise, Terms},
    view::{RunView, below, heading, metrics},
};

/// The header for one run, for several, or for none.
pub(super) fn header(markup: &mut Markup, runs: &[RunView<'_>]) {
    markup.element("header", &[], |markup| {
        markup.leaf("p", &[("class", "eyebrow")], "Umbel run report");
        match runs {
            [] => markup.leaf("h1", &[], "No runs"),
            [run] => one(markup, run),
            several => compare::header(markup, several),
        }
    });
    markup.line();
}

/// The page's title for the browser.
pub(super) fn title(runs: &[RunView<'_>]) -> String {
    match runs {
        [] => "No runs".to_owned(),
        [run] => format!("{}: run report", run.name()),
        several => format!("{} runs compared", several.len()),
    }
}

fn one(markup: &mut Markup, run: &RunView<'_>) {
    markup.leaf("h1", &[], run.name());
    if let Some(status) = facts::status(run) {
        let complete = run
            .text("/status")
            .is_none_or(|status| ["finished", "stopped-early"].contains(&status));
        let class = if complete { "status" } else { "status warn" };
        markup.leaf("p", &[("class", class)], &status);
    }
    let promise = Promise::of(run.summary);
    match promise {
        Promise::Nothing => not_private(markup, "No noise was added: ε is infinite."),
        Promise::Unstated => banner(
            markup,
            "Privacy not stated",
            "The summary of this run holds no ε.",
        ),
        Promise::Bounded(_) => {}
    }
    let terms = Terms::of(run.summary);
    markup.element("div", &[("class", "tiles")], |markup| {
        results(markup, run);
        if let Promise::Bounded(epsilon) = promise {
            let value = format!("ε ≤ {}", number::epsilon_upper(epsilon));
            tile(markup, "Privacy", &value, &format!("at δ = {}", terms.delta));
        }
    });
    if matches!(promise, Promise::Bounded(_)) {
        markup.element("p", &[("class", "terms")], |markup| {
            for (name, value) in [
                ("unit", &terms.unit),
                ("neighbours", &terms.relation),
                ("trust", &terms.trust),
            ] {
                markup.element("span", &[("class", "term")], |markup| {
                    markup.text(name);
                    markup.text(" ");
                    markup.leaf("b", &[], value);
                });
            }
            markup.leaf(
                "a",
                &[("class", "term"), ("href", "#promise")],
                "what is not covered",
            );
        });
    }
    simulated(markup, privacy::is_simulated(run.summary));
}

/// Says that a run was simulated and what follows, or that nobody said.
pub(super) fn simulated(markup: &mut Markup, simulated: Option<bool>) {
    match simulated {
        Some(false) => {}
        Some(true) => {
            markup.element("p", &[("class", "simulated")], |markup| {
                markup.leaf("strong", &[("class", "badge")], "SIMULATED");
                markup.text(" ");
                markup.text(privacy::SIMULATED);
            });
        }
        None => {
            markup.leaf(
                "p",
                &[("class", "simulated")],
                "Whether this run was simulated is not stated.",
            );
        }
    }
}

/// In large letters, that nothing is promised.
pub(super) fn not_private(markup: &mut Markup, why: &str) {
    markup.element(
        "div",
        &[("class", "banner danger"), ("role", "alert")],
        |markup| {
            markup.leaf("strong", &[], "NOT PRIVATE");
            markup.leaf("p", &[], why);
        },
    );
}

/// A remark that nobody should overlook.
pub(super) fn banner(markup: &mut Markup, title: &str, why: &str) {
    markup.element("div", &[("class", "banner warn")], |markup| {
        markup.leaf("strong", &[], title);
        markup.leaf("p", &[], why);
    });
}

/// One tile for each metric of the task, and one for the loss.
fn results(markup: &mut Markup, run: &RunView<'_>) {
    let mut names = metrics(std::slice::from_ref(run));
    names.push("loss".to_owned());
    for (place, name) in names.iter().enumerate() {
        let Some(last) = last_value(run, name) else {
            continue;
        };
        // The best round is the best by the first of these; what else it had need not be its best.
        let best = run.number(&below("/best", name)).filter(|_| place == 0);
        let note = best.zip(run.number("/best/round")).map(|(best, round)| {
            format!(
                "best: {} in round {}",
                format_metric(name, best),
                number::count(round)
            )
        });
        tile(
            markup,
            &heading(name),
            &format_metric(name, last),
            &note.unwrap_or_default(),
        );
    }
}

/// A metric at the end of a run.
pub(super) fn last_value(run: &RunView<'_>, name: &str) -> Option<f64> {
    run.number(&below("/final", name))
        .or_else(|| run.curve(&below("", name)).last().and_then(|point| point.1))
}

/// A metric as it is printed: accuracies in percent.
pub(super) fn format_metric(name: &str, value: f64) -> String {
    if name == "accuracy" {
        number::percent(value)
    } else {
        number::plain(value)
    }
}

fn tile(markup: &mut Markup, name: &str, value: &str, note: &str) {
    markup.element("div", &[("class", "tile")], |markup| {
        markup.leaf("p", &[("class", "name")], name);
        markup.leaf("p", &[("class", "value")], value);
        if !note.is_empty() {
            markup.leaf("p", &[("class", "sub")], note);
        }
    });
}
