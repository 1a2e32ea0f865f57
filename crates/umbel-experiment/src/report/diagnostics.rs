//! What only a simulation can see: cohorts, clipping, norms, training loss, the partition.

use serde_json::Value;

use super::{
    chart::{Base, Chart, Reference, Series, Unit},
    field, heat_map, histogram,
    markup::Markup,
    number,
    progress::{agreed, chart},
    view::RunView,
};

/// The heading under which everything stands that is computed on clients' data without noise.
pub const HEADING: &str = "Seen by the simulator only, not covered by ε";

/// The diagnostics of all runs, or nothing where none has any.
pub(super) fn section(markup: &mut Markup, runs: &[RunView<'_>]) {
    let mut figures = Markup::default();
    cohort(&mut figures, runs);
    let mut clipped = chart(
        runs,
        "Fraction clipped",
        "share of updates whose norm was above the clip norm, in percent",
        Unit::Share,
        "/simulator_only/clipped_fraction",
    );
    clipped.from_zero = true;
    clipped.draw(&mut figures);
    norms(&mut figures, runs);
    chart(
        runs,
        "Training loss",
        "on clients' own data while they train",
        Unit::Number,
        "/simulator_only/train_loss",
    )
    .draw(&mut figures);
    partitions(&mut figures, runs);
    if figures.is_empty() {
        return;
    }
    markup.element("section", &[("class", "diagnostics")], |markup| {
        markup.leaf("h2", &[], HEADING);
        markup.leaf(
            "p",
            &[],
            "These figures are computed on clients' data without noise. They help to choose settings; nothing \
             bounds what they tell about a client, and a served run has them only where they are charged.",
        );
        non_finite(markup, runs);
        markup.element("div", &[("class", "cards")], |markup| markup.append(&figures));
    });
    markup.line();
}

/// Cohort sizes against the expected one; reports beside them where some went missing.
fn cohort(markup: &mut Markup, runs: &[RunView<'_>]) {
    let pointer = "/simulator_only/cohort";
    let mut cohort = chart(
        runs,
        "Cohort size",
        "clients that took part",
        Unit::Count,
        pointer,
    );
    cohort.references = agreed(runs.iter(), "/cohort")
        .map(|value| Reference {
            name: format!("expected, {}", number::plain(value)),
            value,
        })
        .collect();
    if let [run] = runs {
        let reports = run.curve("/simulator_only/reports");
        if cohort.series.iter().any(|series| series.curve != reports)
            && reports.iter().any(|point| point.1.is_some())
        {
            cohort.series.push(Series {
                name: "reports".to_owned(),
                look: 1,
                curve: reports,
            });
        }
    }
    cohort.draw(markup);
}

/// Norms of updates before clipping: for one run mean and maximum in one figure, else in two.
fn norms(markup: &mut Markup, runs: &[RunView<'_>]) {
    let subtitle = "L2 norm of clients' updates before clipping";
    let mean = "/simulator_only/update_norm_mean";
    let max = "/simulator_only/update_norm_max";
    let clip_norm = || -> Vec<Reference> {
        agreed(runs.iter(), "/privacy/clip_norm")
            .map(|value| Reference {
                name: format!("clip norm, {}", number::plain(value)),
                value,
            })
            .collect()
    };
    if let [run] = runs {
        let series: Vec<Series> = [("mean", mean, 0), ("largest", max, 1)]
            .into_iter()
            .map(|(name, pointer, look)| Series {
                name: name.to_owned(),
                look,
                curve: run.curve(pointer),
            })
            .filter(|series| series.curve.iter().any(|point| point.1.is_some()))
            .collect();
        Chart {
            base: Base::ROUND,
            title: "Update norms".to_owned(),
            subtitle: subtitle.to_owned(),
            unit: Unit::Number,
            from_zero: true,
            series,
            references: clip_norm(),
        }
        .draw(markup);
        return;
    }
    for (title, pointer) in [("Update norm, mean", mean), ("Update norm, largest", max)] {
        let mut norms = chart(runs, title, subtitle, Unit::Number, pointer);
        norms.from_zero = true;
        norms.references = clip_norm();
        norms.draw(markup);
    }
}

/// Says where updates were not finite, since those count as zero.
fn non_finite(markup: &mut Markup, runs: &[RunView<'_>]) {
    for run in runs {
        let known: Vec<(u64, f64)> = run
            .curve("/simulator_only/non_finite")
            .into_iter()
            .filter_map(|(round, count)| Some((round, count.filter(|count| *count > 0.0)?)))
            .collect();
        if let Some((first, _)) = known.first() {
            let whose = if runs.len() > 1 {
                format!("{}: ", run.label)
            } else {
                String::new()
            };
            let total: f64 = known.iter().map(|(_, count)| count).sum();
            let note = format!(
                "{whose}{} updates were not finite and counted as zero, the first in round {}.",
                number::count(total),
                number::count(*first as f64)
            );
            markup.leaf("p", &[("class", "note")], &note);
        }
    }
}

/// The partition of each run, once where runs share it.
fn partitions(markup: &mut Markup, runs: &[RunView<'_>]) {
    let mut groups: Vec<(&Value, Vec<&str>)> = Vec::new();
    for run in runs {
        let Some(partition) = run.summary.pointer("/simulator_only/partition") else {
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == partition) {
            Some((_, labels)) => labels.push(&run.label),
            None => groups.push((partition, vec![&run.label])),
        }
    }
    for (partition, labels) in &groups {
        let whose = if groups.len() > 1 {
            format!(": {}", labels.join(", "))
        } else {
            String::new()
        };
        draw_partition(markup, partition, &whose);
    }
}

/// Sizes and labels of the clients of one partition.
fn draw_partition(markup: &mut Markup, partition: &Value, whose: &str) {
    let title = format!("Examples by client{whose}");
    histogram::draw(
        markup,
        field::list(partition, "/histogram"),
        &title,
        &in_words(partition),
    );
    let title = format!("Labels by client{whose}");
    heat_map::draw(
        markup,
        field::list(partition, "/labels"),
        field::number(partition, "/clients"),
        &title,
    );
}

/// A section with one partition alone.
pub(super) fn partition_section(markup: &mut Markup, partition: &Value) {
    markup.element("section", &[("class", "diagnostics")], |markup| {
        markup.leaf("h2", &[], HEADING);
        markup.leaf(
            "p",
            &[],
            "Counted on the clients' data without noise; nothing bounds what it tells about a client.",
        );
        markup.element("div", &[("class", "cards")], |markup| {
            draw_partition(markup, partition, "")
        });
    });
    markup.line();
}

/// The partition in a line: `by-key: 539 clients, 25,842 examples, 19 to 48 each, median 48`.
fn in_words(partition: &Value) -> String {
    let count = |pointer| field::number(partition, pointer).map(number::count);
    let mut parts = Vec::new();
    parts.extend(count("/clients").map(|clients| format!("{clients} clients")));
    parts.extend(count("/examples").map(|examples| format!("{examples} examples")));
    parts.extend(
        count("/examples_min")
            .zip(count("/examples_max"))
            .map(|(least, most)| format!("{least} to {most} each")),
    );
    parts.extend(
        field::number(partition, "/examples_median")
            .map(|median| format!("median {}", number::plain(median))),
    );
    let words = parts.join(", ");
    match field::text(partition, "/kind") {
        Some(kind) if words.is_empty() => kind.to_owned(),
        Some(kind) => format!("{kind}: {words}"),
        None => words,
    }
}
