//! What was released, round by round: the task's metrics, the loss, and what they cost.

use super::{
    chart::{Base, Chart, Reference, Series, Unit},
    markup::Markup,
    number,
    privacy::{Promise, Terms},
    rounds,
    view::{RunView, below, heading, metrics},
};

/// The plots of what was released.
pub(super) fn section(markup: &mut Markup, runs: &[RunView<'_>]) {
    let mut plots = Markup::default();
    let names = metrics(runs);
    for name in &names {
        let (unit, subtitle) = if name == "accuracy" {
            (Unit::Share, "on the server's test data, in percent")
        } else {
            (Unit::Number, "on the server's test data")
        };
        chart(runs, &heading(name), subtitle, unit, &below("", name)).draw(&mut plots);
    }
    chart(
        runs,
        "Loss",
        "on the server's test data, mean per example",
        Unit::Number,
        "/loss",
    )
    .draw(&mut plots);
    epsilon(runs).draw(&mut plots);
    if plots.is_empty() {
        return;
    }
    markup.element("section", &[], |markup| {
        markup.leaf("h2", &[], "Round by round");
        markup.element("div", &[("class", "cards")], |markup| markup.append(&plots));
        if let [run] = runs {
            rounds::table(markup, run, &names);
        }
    });
    markup.line();
}

/// One curve a run.
pub(super) fn chart(runs: &[RunView<'_>], title: &str, subtitle: &str, unit: Unit, pointer: &str) -> Chart {
    let name = |run: &RunView<'_>| {
        if runs.len() > 1 {
            run.label.clone()
        } else {
            title.to_lowercase()
        }
    };
    Chart {
        base: Base::ROUND,
        title: title.to_owned(),
        subtitle: subtitle.to_owned(),
        unit,
        from_zero: false,
        series: runs
            .iter()
            .map(|run| Series {
                name: name(run),
                look: run.look,
                curve: run.curve(pointer),
            })
            .filter(|series| series.curve.iter().any(|point| point.1.is_some()))
            .collect(),
        references: Vec::new(),
    }
}

/// ε by round, against the budget. A run without noise has no curve here, whatever its rounds say.
fn epsilon(runs: &[RunView<'_>]) -> Chart {
    let terms = match runs {
        [run] => format!("upper bound at {}", Terms::of(run.summary).line()),
        _ => "upper bound, for each run in the terms of the table above".to_owned(),
    };
    let mut chart = chart(runs, "ε spent", &terms, Unit::Epsilon, "/epsilon");
    let private = |run: &&RunView<'_>| Promise::of(run.summary) != Promise::Nothing;
    chart
        .series
        .retain(|series| runs.iter().filter(private).any(|run| run.look == series.look));
    chart.from_zero = true;
    if let [series] = chart.series.as_mut_slice()
        && runs.len() == 1
    {
        "ε".clone_into(&mut series.name);
    }
    chart.references.extend(
        agreed(runs.iter().filter(private), "/privacy/epsilon_budget").map(|value| Reference {
            name: format!("budget, ε = {}", number::plain(value)),
            value,
        }),
    );
    chart
}

/// The distinct values that the runs have for a number, ascending; none where there are more than three.
pub(super) fn agreed<'a, 'b: 'a>(
    runs: impl Iterator<Item = &'a RunView<'b>>,
    pointer: &str,
) -> impl Iterator<Item = f64> {
    let mut values: Vec<f64> = runs.filter_map(|run| run.number(pointer)).collect();
    values.sort_by(f64::total_cmp);
    values.dedup_by(|a, b| a.total_cmp(b).is_eq());
    if values.len() > 3 {
        values.clear();
    }
    values.into_iter()
}
