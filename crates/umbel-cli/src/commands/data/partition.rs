//! `umbel data partition`.

use serde_json::json;
use umbel_experiment::report::{NOT_COVERED, render_partition};
use umbel_experiment::{PartitionFacts, PartitionOnly, write_whole};
use umbel_sim::Data;

use crate::args::data::PartitionArgs;
use crate::commands::experiment;
use crate::output;

/// The most clients in the table.
const MOST_ROWS: usize = 50;

/// The most columns of the picture; with more classes neighbours are added up.
const MOST_COLUMNS: usize = 40;

/// Widest bar, in characters.
const BAR: u64 = 30;

/// From none to all of the fullest cell.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];

pub(super) fn run(args: &PartitionArgs) -> anyhow::Result<()> {
    let experiment = experiment::read(&args.experiment.file, &args.experiment.settings, args.seed)?;
    let seed = experiment.seed.unwrap_or(0);
    let data = Data::load(&experiment.data, seed)?;
    let facts = data.partition_facts(&experiment.data);
    let names = data.client_names(&facts);
    if let Some(path) = &args.out {
        let page = render_partition(&experiment.name, &serde_json::to_value(&facts)?);
        write_whole(path, page.as_bytes())?;
        output::remark(&format!("wrote {}", path.display()));
    }
    let text = if args.json {
        serde_json::to_string_pretty(&json!({
            "name": experiment.name,
            "seed": seed,
            "simulator_only": PartitionOnly { covered_by_epsilon: false, partition: facts },
            "client_names": names,
        }))?
    } else {
        let left_out = data.partition.n_left_out();
        format!(
            "{} with seed {seed}\n\n{}",
            experiment.name,
            describe(&facts, &names, left_out)
        )
    };
    output::result(&text)
}

fn describe(facts: &PartitionFacts, names: &[String], left_out: usize) -> String {
    let mut lines = vec![NOT_COVERED.to_owned(), String::new()];
    lines.push(format!(
        "{}: {} clients, {} examples of {} classes; {} to {} each, median {}",
        facts.kind,
        facts.clients,
        facts.examples,
        facts.classes,
        facts.examples_min,
        facts.examples_max,
        facts.examples_median
    ));
    if left_out > 0 {
        lines.push(format!("{left_out} examples are nobody's"));
    }
    lines.extend([String::new(), "Examples by client".to_owned()]);
    lines.extend(histogram(facts));
    lines.push(String::new());
    lines.extend(labels(facts, names));
    lines.join("\n")
}

fn histogram(facts: &PartitionFacts) -> Vec<String> {
    let range = |from: u64, to: u64| match to - 1 {
        last if last == from => from.to_string(),
        last => format!("{from}–{last}"),
    };
    let ranges: Vec<String> = facts
        .histogram
        .iter()
        .map(|bin| range(bin.from, bin.to))
        .collect();
    let width = ranges
        .iter()
        .map(|range| range.chars().count())
        .max()
        .unwrap_or(0);
    let most = facts
        .histogram
        .iter()
        .map(|bin| bin.clients)
        .max()
        .unwrap_or(0)
        .max(1);
    let bins = facts
        .histogram
        .iter()
        .zip(&ranges)
        .filter(|(bin, _)| bin.clients > 0);
    let bars = bins.map(|(bin, range)| {
        let bar = "━".repeat(usize::try_from((bin.clients * BAR).div_ceil(most)).unwrap_or(0));
        format!("  {range:>width$} {bar} {}", bin.clients)
            .trim_end()
            .to_owned()
    });
    bars.collect()
}

/// The table of the first clients with the picture beside it: a row a client, a column a class.
fn labels(facts: &PartitionFacts, names: &[String]) -> Vec<String> {
    let rows: Vec<(&String, Vec<u64>)> = names
        .iter()
        .zip(&facts.labels)
        .take(MOST_ROWS)
        .map(|(name, counts)| (name, in_columns(counts)))
        .collect();
    let per_column = facts
        .labels
        .first()
        .map_or(1, |counts| counts.len().div_ceil(MOST_COLUMNS).max(1));
    let columns = if per_column > 1 {
        format!(", {per_column} a column")
    } else {
        String::new()
    };
    let mut lines = vec![match rows.len() as u64 {
        shown if shown < facts.clients => format!(
            "Labels of the first {shown} of {} clients{columns}",
            facts.clients
        ),
        _ => format!("Labels by client{columns}"),
    }];
    let largest = rows
        .iter()
        .flat_map(|(_, counts)| counts)
        .copied()
        .max()
        .unwrap_or(0)
        .max(1);
    let name_width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0)
        .clamp(6, 24);
    let count_width = largest.to_string().len().max(2);
    // With few classes the counts themselves find room.
    let has_counts = rows
        .first()
        .is_some_and(|(_, counts)| counts.len() * (count_width + 1) <= 60);
    let n_columns = rows.first().map_or(0, |(_, counts)| counts.len());
    if has_counts {
        let classes: String = (0..n_columns)
            .map(|class| format!(" {class:>count_width$}"))
            .collect();
        lines.push(format!("  {:<name_width$} {:>8} {classes}", "client", "examples"));
    }
    for (name, counts) in &rows {
        let name: String = name.chars().take(name_width).collect();
        let total: u64 = counts.iter().sum();
        let picture: String = counts.iter().map(|&count| shade(count, largest)).collect();
        let numbers: String = match has_counts {
            true => counts
                .iter()
                .map(|count| format!(" {count:>count_width$}"))
                .collect(),
            false => String::new(),
        };
        lines.push(format!("  {name:<name_width$} {total:>8} {numbers}  ▕{picture}▏"));
    }
    lines.push(format!("  shades: from none to {largest} examples"));
    lines
}

fn in_columns(counts: &[u64]) -> Vec<u64> {
    let per_column = counts.len().div_ceil(MOST_COLUMNS).max(1);
    counts
        .chunks(per_column)
        .map(|chunk| chunk.iter().sum())
        .collect()
}

/// A class that is barely there is still seen; one that is not there is not.
fn shade(count: u64, largest: u64) -> char {
    let steps = SHADES.len() as u64 - 1;
    let step = (count * steps).div_ceil(largest).min(steps);
    SHADES[usize::try_from(step).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use umbel_experiment::HistogramBin;

    use super::*;

    #[test]
    fn the_table_shows_counts_and_shades() {
        let facts = PartitionFacts {
            kind: "by-key".to_owned(),
            clients: 3,
            examples: 13,
            examples_min: 0,
            examples_median: 4,
            examples_max: 9,
            histogram: vec![
                HistogramBin {
                    from: 0,
                    to: 5,
                    clients: 2,
                },
                HistogramBin {
                    from: 5,
                    to: 10,
                    clients: 1,
                },
            ],
            classes: 2,
            labels: vec![vec![8, 1], vec![0, 4], vec![0, 0]],
        };
        let names = ["ann", "bob", "zoe"].map(str::to_owned);
        let expected = "\
Seen by the simulator only, not covered by ε

by-key: 3 clients, 13 examples of 2 classes; 0 to 9 each, median 4
2 examples are nobody's

Examples by client
  0–4 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2
  5–9 ━━━━━━━━━━━━━━━ 1

Labels by client
  client examples   0  1
  ann           9   8  1  ▕█░▏
  bob           4   0  4  ▕ ▒▏
  zoe           0   0  0  ▕  ▏
  shades: from none to 8 examples";
        assert_eq!(describe(&facts, &names, 2), expected);
    }

    #[test]
    fn many_classes_are_added_up() {
        assert_eq!(in_columns(&[1; 100]).len(), 34);
        assert_eq!(in_columns(&[1; 100]).iter().sum::<u64>(), 100);
        assert_eq!(in_columns(&[5, 6]), [5, 6]);
    }
}
