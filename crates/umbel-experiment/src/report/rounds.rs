//! What was released, round by round, as a table.

use serde_json::Value;

use super::{
    field,
    markup::Markup,
    number,
    privacy::Promise,
    view::{RunView, below, heading},
};

/// A longer run is shown by as many of its rounds.
const MOST_ROWS: usize = 200;

/// Writes the table, folded away; the ε of a run without noise is left out.
pub(super) fn table(markup: &mut Markup, run: &RunView<'_>, metrics: &[String]) {
    if run.rounds.is_empty() {
        return;
    }
    let columns = columns(run, metrics);
    let every = run.rounds.len().div_ceil(MOST_ROWS);
    let title = if every == 1 {
        "Every round".to_owned()
    } else {
        format!("One round in {every}, and the last")
    };
    markup.element("details", &[], |markup| {
        markup.leaf("summary", &[], &title);
        markup.element("div", &[("class", "scroll")], |markup| {
            markup.element("table", &[], |markup| {
                markup.element("thead", &[], |markup| {
                    markup.element("tr", &[], |markup| {
                        markup.leaf("th", &[("scope", "col")], "Round");
                        for column in &columns {
                            markup.leaf("th", &[("scope", "col")], &column.name);
                        }
                    });
                });
                markup.element("tbody", &[], |markup| {
                    for (place, (round, line)) in (1..).zip(&run.rounds) {
                        if place % every == 0 || place == run.rounds.len() {
                            row(markup, *round, line, &columns);
                        }
                    }
                });
            });
        });
    });
    markup.line();
}

/// One field of a round's line.
struct Column {
    name: String,
    pointer: String,
    format: fn(f64) -> String,
}

/// The columns for which some round has a value.
fn columns(run: &RunView<'_>, metrics: &[String]) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut add = |name: &str, pointer: &str, format: fn(f64) -> String| {
        if run
            .rounds
            .values()
            .any(|line| field::number(line, pointer).is_some())
        {
            columns.push(Column {
                name: name.to_owned(),
                pointer: pointer.to_owned(),
                format,
            });
        }
    };
    for metric in metrics {
        let format = if metric == "accuracy" {
            number::percent
        } else {
            number::plain
        };
        add(&heading(metric), &below("", metric), format);
    }
    add("Loss", "/loss", number::plain);
    if Promise::of(run.summary) != Promise::Nothing {
        add("ε, upper bound", "/epsilon", number::epsilon_upper);
        add("ε, lower bound", "/epsilon_lower", number::epsilon_lower);
    }
    columns
}

fn row(markup: &mut Markup, round: u64, line: &Value, columns: &[Column]) {
    markup.element("tr", &[], |markup| {
        markup.leaf("th", &[("scope", "row")], &number::count(round as f64));
        for column in columns {
            let cell = field::number(line, &column.pointer).map_or_else(|| "–".to_owned(), column.format);
            markup.leaf("td", &[], &cell);
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::RunRecord;

    #[test]
    fn a_long_run_is_thinned_in_its_table() {
        let rounds = (1..=1001)
            .map(|round| json!({"round": round, "loss": 1.0}))
            .collect();
        let records = [RunRecord {
            label: "a".to_owned(),
            summary: Value::Null,
            rounds,
        }];
        let mut markup = Markup::default();
        table(&mut markup, &RunView::all(&records)[0], &[]);
        let html = markup.into_string();
        assert!(html.contains("One round in 6, and the last"), "{html}");
        assert_eq!(html.matches("<tr>").count(), 1 + 166 + 1);
        assert!(html.contains(">1,001<"));
    }
}
