//! `umbel data list`.

use serde_json::json;

use super::catalogue::{DATA_SETS, DataSet};
use crate::args::data::ListArgs;
use crate::output;

pub(super) fn run(args: &ListArgs) -> anyhow::Result<()> {
    if args.json {
        let sets: Vec<_> = DATA_SETS.iter().map(as_json).collect();
        return output::result(&serde_json::to_string_pretty(&sets)?);
    }
    let sets: Vec<String> = DATA_SETS.iter().map(describe).collect();
    output::result(&sets.join("\n\n"))
}

pub(super) fn describe(set: &DataSet) -> String {
    let shipped = set.shipped.unwrap_or("no; see `umbel data fetch`");
    let rows = [
        ("task", set.task),
        ("examples", set.examples),
        ("clients", set.clients),
        ("size", set.size),
        ("licence", set.licence),
        ("source", set.source),
        ("shipped", shipped),
    ];
    let rows = rows.map(|(name, value)| format!("  {name:<9} {value}"));
    format!("{}\n{}", set.name, rows.join("\n"))
}

fn as_json(set: &DataSet) -> serde_json::Value {
    json!({
        "name": set.name,
        "task": set.task,
        "examples": set.examples,
        "clients": set.clients,
        "size": set.size,
        "licence": set.licence,
        "source": set.source,
        "shipped": set.shipped,
        "files": set.files.iter().map(|(name, sha256)| json!({ "name": name, "sha256": sha256 })).collect::<Vec<_>>(),
    })
}
