//! `umbel data fetch`: how to get a data set, or a check of one that is there.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};
use umbel_experiment::{read_file, write_whole};

use super::catalogue::{DATA_SETS, DataSet};
use super::list;
use crate::args::data::FetchArgs;
use crate::output::{self, Usage};

pub(super) fn run(args: &FetchArgs) -> anyhow::Result<()> {
    let Some(set) = DATA_SETS.iter().find(|set| set.name == args.name) else {
        let names: Vec<&str> = DATA_SETS.iter().map(|set| set.name).collect();
        let reason = anyhow::anyhow!("no data set `{}`; there are {}", args.name, names.join(", "));
        return Err(Usage(reason).into());
    };
    let Some(from) = &args.from else {
        return output::result(&format!("{}\n\n{}", list::describe(set), set.instructions));
    };
    if set.files.is_empty() {
        bail!(
            "there are no published checksums of the files of {}\n{}",
            set.name,
            set.instructions
        );
    }
    let mut done = Vec::new();
    for &(name, sha256) in set.files {
        let content = checked(from, name, sha256, set)?;
        match &args.to {
            Some(to) => {
                fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
                let target = to.join(name);
                write_whole(&target, &content)?;
                done.push(format!("{name}: checked, copied to {}", target.display()));
            }
            None => done.push(format!("{name}: checked")),
        }
    }
    output::result(&done.join("\n"))
}

/// The content of a file, if it is the one that is meant.
fn checked(folder: &Path, name: &str, sha256: &str, set: &DataSet) -> anyhow::Result<Vec<u8>> {
    let path = folder.join(name);
    let content = read_file(&path).with_context(|| format!("{} of {}", name, set.name))?;
    let got: String = Sha256::digest(&content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if got != sha256 {
        bail!(
            "{}: expected SHA-256 {sha256}, got {got}: it is another file, or damaged",
            path.display()
        );
    }
    Ok(content)
}
