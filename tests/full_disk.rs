//! A disk that is full gives an error and no half-written file, and the run goes on once there is room.
#![cfg(unix)]

use std::fs::File;
use std::process::Command;

use serde_json::Value;
use umbel_accounting::ledger;

use crate::support::{BINARY, Folder, RunDir, Umbel, parameters};

const SETTINGS: [&str; 4] = [
    "federation.rounds=12",
    "federation.strategy.kind=fedadam",
    "federation.strategy.learning_rate=0.05",
    "privacy.accountant=rdp",
];

/// Largest sizes of a file, in KiB: from one in which not even the first file fits to one that only the last file exceeds.
const LIMITS: [u32; 11] = [0, 1, 2, 3, 5, 8, 11, 14, 17, 20, 24];

#[test]
fn a_write_that_fails_leaves_only_whole_files_and_the_run_can_go_on() {
    let folder = Folder::new();
    let whole = folder.finished("whole", &SETTINGS);
    let largest = whole
        .names()
        .iter()
        .map(|name| whole.bytes(name).len())
        .max()
        .unwrap();
    assert!(largest > 24 << 10, "every limit stops the run: {largest}");

    let mut stopped_at = Vec::new();
    for limit in LIMITS {
        let out = format!("limit-{limit}");
        let outcome = limited(&folder, limit, &out).run();
        let message = outcome.failure(1);
        let named = whole
            .names()
            .into_iter()
            .chain(["signing.key".into(), "checkpoint.safetensors".into()]);
        let named: Vec<_> = named
            .filter(|name| message.contains(&format!("{out}/{name}:")))
            .collect();
        assert_eq!(named.len(), 1, "limit {limit}: names a file: {message}");
        assert!(
            message.contains("File too large"),
            "limit {limit}: says why: {message}"
        );
        let run = folder.run_dir(&out);
        check_whole_files(&run);
        stopped_at.extend(named);

        folder
            .umbel()
            .args(&["simulate", "experiment.toml", "--resume", &out])
            .args(&sets())
            .run()
            .success();
        run.check_finished(12);
        run.check_same_results(&whole);
    }
    stopped_at.dedup();
    assert!(
        stopped_at.len() >= 3,
        "stopped in the middle of several files: {stopped_at:?}"
    );
}

#[test]
fn a_run_that_grows_into_the_limit_again_and_again_gives_the_same() {
    let folder = Folder::new();
    let whole = folder.finished("whole", &SETTINGS);
    limited(&folder, 1, "run").run().failure(1);
    let run = folder.run_dir("run");
    for limit in (2..40).chain((40..1000).step_by(40)) {
        let mut command = shell(limit);
        command
            .args(["simulate", "experiment.toml", "--resume", "run"])
            .args(sets());
        let outcome = Umbel::wrapped(folder.root(), command).run();
        if outcome.code == Some(0) {
            break;
        }
        outcome.failure(1);
        check_whole_files(&run);
    }
    run.check_finished(12);
    run.check_same_results(&whole);
}

#[test]
fn results_that_cannot_be_printed_are_an_error() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    for json in [&["--json"][..], &[]] {
        let folder = Folder::new();
        let mut command = Command::new("bash");
        command
            .args([
                "-c",
                r#"exec "$0" "$@" >/dev/full"#,
                BINARY,
                "simulate",
                "experiment.toml",
                "--out",
                "run",
            ])
            .args(json);
        let outcome = Umbel::wrapped(folder.root(), command).run();
        let message = outcome.failure(1);
        assert!(message.contains("standard output"), "{message}");
        folder.run_dir("run").check_finished(5);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = Folder::new();
    let mut command = Command::new("bash");
    let script = r#"set -o pipefail; "$0" "$@" --json | true"#;
    command.args([
        "-c",
        script,
        BINARY,
        "simulate",
        "experiment.toml",
        "--out",
        "run",
    ]);
    Umbel::wrapped(folder.root(), command).run().success();
    folder.run_dir("run").check_finished(5);
}

/// `umbel`, of whose files none may grow beyond `limit` KiB; writes beyond fail as on a full disk.
fn shell(limit: u32) -> Command {
    let mut command = Command::new("bash");
    command.args([
        "-c",
        &format!(r#"ulimit -f {limit}; trap "" XFSZ; exec "$0" "$@""#),
        BINARY,
    ]);
    command
}

fn limited(folder: &Folder, limit: u32, out: &str) -> Umbel {
    let mut command = shell(limit);
    command
        .args(["simulate", "experiment.toml", "--out", out])
        .args(sets());
    Umbel::wrapped(folder.root(), command)
}

fn sets() -> Vec<&'static str> {
    SETTINGS.iter().flat_map(|setting| ["--set", setting]).collect()
}

/// Checks that each file which is there can be read to its end by whoever reads such files.
fn check_whole_files(run: &RunDir) {
    for name in run.names() {
        let content = run.bytes(&name);
        match name.as_str() {
            "checkpoint.safetensors" | "model.safetensors" => drop(parameters(&content)),
            "experiment.toml" => {
                assert!(
                    run.text(&name).trim_end().ends_with("enabled = false"),
                    "{}",
                    run.text(&name)
                );
            }
            "ledger" if content.is_empty() => {}
            "ledger" => assert_eq!(
                ledger::read(&content).unwrap().stored_bytes(),
                content.len(),
                "no torn record"
            ),
            "ledger.openings" | "metrics.jsonl" => {
                assert!(
                    content.is_empty() || content.ends_with(b"\n"),
                    "{name} ends with a whole line"
                );
                run.text(&name)
                    .lines()
                    .for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap()));
            }
            "report.html" => assert!(run.text(&name).trim_end().ends_with("</html>")),
            "signing.key" => assert_eq!(content.len(), 32),
            "summary.json" => drop(run.summary()),
            other => panic!("a file that no run directory has: {other}"),
        }
    }
    assert!(File::open(run.path().join("ledger")).is_ok());
}
