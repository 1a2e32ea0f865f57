//! Several runs beside each other: what each reached and at which price.

use super::{
    chart::{look, swatch},
    facts, header,
    markup::Markup,
    number,
    privacy::{self, Promise, Terms},
    view::{RunView, heading, metrics},
};

/// The header for several runs, with the table that compares them.
pub(super) fn header(markup: &mut Markup, runs: &[RunView<'_>]) {
    markup.leaf("h1", &[], &format!("{} runs compared", runs.len()));
    let with = |promise: Promise| -> Vec<&str> {
        runs.iter()
            .filter(|run| Promise::of(run.summary) == promise)
            .map(|run| run.label.as_str())
            .collect()
    };
    let bare = with(Promise::Nothing);
    if !bare.is_empty() {
        header::not_private(
            markup,
            &format!("No noise was added, so ε is infinite: {}", bare.join(", ")),
        );
    }
    let silent = with(Promise::Unstated);
    if !silent.is_empty() {
        header::banner(
            markup,
            "Privacy not stated",
            &format!("No ε in the summary: {}", silent.join(", ")),
        );
    }
    let terms: Vec<Terms> = runs
        .iter()
        .filter(|run| matches!(Promise::of(run.summary), Promise::Bounded(_)))
        .map(|run| Terms::of(run.summary))
        .collect();
    if terms.windows(2).any(|pair| pair[0] != pair[1]) {
        header::banner(
            markup,
            "Not the same promise",
            "δ, unit, neighbouring relation, trust or simulation differ between these runs. Compare ε only \
             between rows that agree in all of them.",
        );
    }
    reached(markup, runs);
    settings(markup, runs);
    if runs
        .iter()
        .any(|run| privacy::is_simulated(run.summary) == Some(true))
    {
        header::simulated(markup, Some(true));
    }
}

/// What each run reached, and at which ε; the terms of the ε beside it.
fn reached(markup: &mut Markup, runs: &[RunView<'_>]) {
    let mut names = metrics(runs);
    names.push("loss".to_owned());
    let mut columns: Vec<String> = names.iter().map(|name| heading(name)).collect();
    columns.extend(
        [
            "ε, upper bound",
            "δ",
            "Unit",
            "Neighbours",
            "Trust",
            "Simulated",
            "Rounds",
        ]
        .map(str::to_owned),
    );
    table(markup, "Reached", &columns, runs, |run| {
        let terms = Terms::of(run.summary);
        let mut cells: Vec<String> = names
            .iter()
            .map(|name| {
                or_dash(header::last_value(run, name).map(|value| header::format_metric(name, value)))
            })
            .collect();
        let bounded = |term: String| match Promise::of(run.summary) {
            Promise::Bounded(_) => term,
            Promise::Nothing | Promise::Unstated => "–".to_owned(),
        };
        cells.push(match Promise::of(run.summary) {
            Promise::Bounded(epsilon) => number::epsilon_upper(epsilon),
            Promise::Nothing => "NOT PRIVATE".to_owned(),
            Promise::Unstated => "not stated".to_owned(),
        });
        cells.extend([terms.delta, terms.unit, terms.relation, terms.trust].map(bounded));
        cells.push(terms.simulated);
        cells.push(or_dash(facts::status(run)));
        cells
    });
    markup.element("p", &[("class", "sub")], |markup| {
        markup.leaf("a", &[("href", "#promise")], "What these ε do not cover");
    });
}

/// How each run was set, and what it took.
fn settings(markup: &mut Markup, runs: &[RunView<'_>]) {
    let columns = [
        "Model",
        "Clients",
        "Expected cohort",
        "Clip norm",
        "Noise multiplier",
        "Time",
        "Clients per second",
        "Most memory",
    ]
    .map(str::to_owned);
    table(markup, "Settings and cost", &columns, runs, |run| {
        vec![
            or_dash(facts::model(run)),
            or_dash(run.number("/clients").map(number::count)),
            or_dash(run.number("/cohort").map(number::plain)),
            or_dash(run.number("/privacy/clip_norm").map(number::plain)),
            or_dash(run.number("/privacy/noise_multiplier").map(number::plain)),
            or_dash(run.number("/timing/total_seconds").map(number::seconds)),
            or_dash(run.number("/timing/clients_per_second").map(number::plain)),
            or_dash(run.number("/peak_rss_bytes").map(number::bytes)),
        ]
    });
}

/// A table with one row a run, without the columns that no run fills.
fn table(
    markup: &mut Markup,
    caption: &str,
    columns: &[String],
    runs: &[RunView<'_>],
    cells: impl Fn(&RunView<'_>) -> Vec<String>,
) {
    let rows: Vec<Vec<String>> = runs.iter().map(cells).collect();
    let filled: Vec<usize> = (0..columns.len())
        .filter(|column| {
            rows.iter()
                .any(|row| row.get(*column).is_some_and(|cell| cell != "–"))
        })
        .collect();
    if filled.is_empty() {
        return;
    }
    markup.element("div", &[("class", "scroll")], |markup| {
        markup.element("table", &[("class", "compare")], |markup| {
            markup.leaf("caption", &[], caption);
            markup.element("thead", &[], |markup| {
                markup.element("tr", &[], |markup| {
                    markup.leaf("th", &[("scope", "col")], "Run");
                    for column in &filled {
                        markup.leaf("th", &[("scope", "col")], &columns[*column]);
                    }
                });
            });
            markup.element("tbody", &[], |markup| {
                for (run, row) in runs.iter().zip(&rows) {
                    markup.element("tr", &[], |markup| {
                        markup.element("th", &[("scope", "row")], |markup| {
                            swatch(markup, &format!("line {}", look(run.look)));
                            markup.text(&run.label);
                        });
                        for column in &filled {
                            let cell = row.get(*column).map_or("–", String::as_str);
                            // Only what is long may be broken into lines.
                            let class: &[_] = if cell.len() > 16 {
                                &[("class", "long")]
                            } else {
                                &[]
                            };
                            markup.leaf("td", class, cell);
                        }
                    });
                }
            });
        });
    });
}

fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "–".to_owned())
}
