//! A run that is interrupted goes on as if it had not been.
#![cfg(unix)]

use std::time::{Duration, Instant};

use umbel_accounting::ledger::{Body, Order};

use crate::support::{Folder, Numbers, Running};

const ROUNDS: u64 = 60;

/// Runs with state of every kind: a strategy without and with memory of its own.
const VARIANTS: [&[&str]; 4] = [
    &["federation.rounds=60"],
    &[
        "federation.rounds=60",
        "federation.strategy.kind=fedadam",
        "federation.strategy.learning_rate=0.05",
        "model.kind=mlp",
        "model.hidden=[20]",
        "privacy.noise=continuous",
        "privacy.accountant=rdp",
    ],
    // Noise that remembers earlier rounds.
    &[
        "federation.rounds=60",
        "federation.cohort=5",
        "privacy.mechanism.kind=dp-ftrl",
        "privacy.mechanism.strategy=blt",
    ],
    // A clip norm that follows earlier rounds, and a strategy with another memory.
    &[
        "federation.rounds=60",
        "privacy.clip_norm={kind=\"adaptive\"}",
        "federation.strategy.kind=fedavgm",
    ],
];

#[test]
fn a_run_killed_at_any_moment_and_resumed_gives_the_same() {
    for settings in VARIANTS {
        let folder = Folder::new();
        let started = Instant::now();
        let whole = folder.finished("whole", settings);
        let duration = started.elapsed();
        whole.check_finished(ROUNDS);

        // Each process gets a little longer than the one before, so that one of them comes to the end. Should that be too soon,
        // the same is done again with less patience.
        let mut numbers = Numbers(17);
        for attempt in 0.. {
            let out = format!("killed-{attempt}");
            let step = duration.div_f64(200.0 * f64::powi(4.0, attempt));
            let mut kills = 0;
            let mut process = folder.simulate(&out, settings).start();
            loop {
                let outcome =
                    process.kill_after(step * kills + Duration::from_micros(numbers.next() % 10_000));
                if outcome.code.is_some() {
                    // Killed between the closing record and the exit, it is complete and says so.
                    assert!(
                        outcome.code == Some(0) || outcome.stderr.contains("closed"),
                        "{}",
                        outcome.stderr
                    );
                    break;
                }
                kills += 1;
                process = go_on(&folder, &out, settings);
            }
            let killed = folder.run_dir(&out);
            killed.check_finished(ROUNDS);
            killed.check_same_results(&whole);
            if kills >= 10 {
                let records = killed.ledger();
                assert!(
                    records
                        .records()
                        .iter()
                        .any(|body| matches!(body, Body::Resume(_)))
                );
                break;
            }
        }
    }
}

#[test]
fn a_run_killed_after_each_round_and_resumed_gives_the_same() {
    for settings in VARIANTS {
        let folder = Folder::new();
        let whole = folder.finished("whole", settings);
        let mut process = folder.simulate("killed", settings).start();
        for round in 1..=ROUNDS {
            if !process.wait_for(&format!("round {round:>2}/")) {
                // It was faster than its end could be announced to it.
                break;
            }
            process.kill();
            process = folder
                .umbel()
                .args(&["simulate", "--resume", "killed", "--threads", "3"])
                .start();
        }
        process.finish();
        let killed = folder.run_dir("killed");
        if !killed.has("summary.json") || killed.ledger().order() != Order::Closed {
            go_on(&folder, "killed", settings).finish().success();
        }
        killed.check_finished(ROUNDS);
        killed.check_same_results(&whole);
    }
}

#[test]
fn a_polite_request_to_stop_leaves_a_usable_directory() {
    for signal in ["INT", "TERM"] {
        let settings = ["federation.rounds=300", "privacy.accountant=rdp"];
        let folder = Folder::new();
        let mut process = folder.simulate("stopped", &settings).start();
        process.wait_for("round   3/");
        process.signal(signal);
        let outcome = process.finish();
        assert_eq!(
            outcome.code,
            Some(1),
            "an interrupted run is none that succeeded: {}",
            outcome.stderr
        );
        assert!(
            outcome.stdout.contains("go on with --resume"),
            "{}",
            outcome.stdout
        );

        let stopped = folder.run_dir("stopped");
        let summary = stopped.summary();
        let completed = summary["rounds_completed"].as_u64().unwrap();
        assert_eq!(summary["status"], "interrupted");
        assert!((3..300).contains(&completed), "{completed}");
        assert_eq!(summary["final"]["round"], completed);
        let by_end = "a stop because of what was released";
        assert!(
            summary["privacy"]["not_covered"].to_string().contains(by_end),
            "{summary}"
        );
        assert_eq!(
            summary["privacy"]["epsilon"],
            stopped.metrics().last().unwrap()["epsilon"]
        );
        assert_eq!(stopped.metrics().len() as u64, completed);
        assert_eq!(
            stopped.released_models().last().unwrap(),
            &stopped.model_content_sha256()
        );
        assert!(stopped.text("report.html").contains("</html>"));
        assert!(matches!(stopped.ledger().order(), Order::Interrupted { .. }));

        folder
            .umbel()
            .args(&["simulate", "--resume", "stopped"])
            .run()
            .success();
        let stopped = folder.run_dir("stopped");
        stopped.check_finished(300);
        assert!(
            !stopped.summary()["privacy"]["not_covered"]
                .to_string()
                .contains(by_end)
        );
        stopped.check_same_results(&folder.finished("whole", &settings));
    }
}

#[test]
fn an_impatient_request_to_stop_loses_nothing() {
    let settings = ["federation.rounds=60", "privacy.accountant=rdp"];
    let folder = Folder::new();
    let mut process = folder.simulate("stopped", &settings).start();
    process.wait_for("round  5/");
    process.signal("INT");
    process.signal("INT");
    // Whether the second request still finds the process is a matter of chance.
    let outcome = process.finish();
    assert!(
        matches!(outcome.code, Some(1 | 130)),
        "{:?}: {}",
        outcome.code,
        outcome.stderr
    );
    folder
        .umbel()
        .args(&["simulate", "--resume", "stopped"])
        .run()
        .success();
    let stopped = folder.run_dir("stopped");
    stopped.check_finished(60);
    stopped.check_same_results(&folder.finished("whole", &settings));
}

#[test]
fn a_run_killed_before_its_first_record_can_be_resumed() {
    let folder = Folder::new();
    let whole = folder.finished("whole", &[]);
    for (place, (files, args)) in [
        (&["experiment.toml", "signing.key"][..], &[][..]),
        (&["experiment.toml", "signing.key.tmp"], &[]),
        (&["experiment.toml.tmp"], &["experiment.toml"]),
        (&[], &["experiment.toml"]),
    ]
    .into_iter()
    .enumerate()
    {
        let out = format!("begun-{place}");
        std::fs::create_dir(folder.path(&out)).unwrap();
        for name in ["ledger", "ledger.openings", "metrics.jsonl"] {
            folder.write(&format!("{out}/{name}"), b"");
        }
        for name in files {
            let content = if *name == "experiment.toml" {
                whole.bytes(name)
            } else {
                b"torn".to_vec()
            };
            folder.write(&format!("{out}/{name}"), &content);
        }
        folder
            .umbel()
            .args(&["simulate", "--resume", &out])
            .args(args)
            .run()
            .success();
        folder.run_dir(&out).check_finished(5);
        folder.run_dir(&out).check_same_results(&whole);
    }
}

#[test]
fn a_run_killed_while_it_cleans_up_is_cleaned_up_later() {
    let folder = Folder::new();
    let run = folder.finished("run", &[]);
    for name in ["signing.key", "checkpoint.safetensors"] {
        folder.write(&format!("run/{name}"), b"left behind");
    }
    let outcome = folder.umbel().args(&["simulate", "--resume", "run"]).run();
    assert!(outcome.failure(1).contains("closed"), "{}", outcome.stderr);
    run.check_finished(5);
}

#[test]
fn a_run_that_left_the_range_of_numbers_can_be_resumed() {
    let settings = [
        "federation.rounds=60",
        "privacy.clip_norm=1e38",
        "model.kind=mlp",
        "model.hidden=[9]",
    ];
    let folder = Folder::new();
    let mut process = folder.simulate("run", &settings).start();
    assert!(process.wait_for("round  4/"));
    process.signal("INT");
    process.finish();
    assert!(folder.run_dir("run").summary()["final"]["loss"].is_null());
    folder
        .umbel()
        .args(&["simulate", "--resume", "run"])
        .run()
        .success();
    folder.run_dir("run").check_finished(60);
    folder
        .run_dir("run")
        .check_same_results(&folder.finished("whole", &settings));
}

#[test]
fn a_resumption_that_is_refused_takes_nothing_away() {
    let folder = Folder::new();
    let mut process = folder
        .simulate("run", &["federation.rounds=300", "privacy.accountant=rdp"])
        .start();
    assert!(process.wait_for("round   2/"));
    process.signal("INT");
    process.finish();
    let run = folder.run_dir("run");
    let before = run.names();
    assert!(before.contains(&"model.safetensors".to_owned()));
    let keys = String::from_utf8(folder.read("data/clients.tsv")).unwrap();
    folder.write(
        "data/clients.tsv",
        keys.replacen("client-1\n", "client-2\n", 1).as_bytes(),
    );
    let outcome = folder.umbel().args(&["simulate", "--resume", "run"]).run();
    assert!(
        outcome.failure(1).contains("the data are not those"),
        "{}",
        outcome.stderr
    );
    assert_eq!(run.names(), before);
}

#[test]
fn two_processes_cannot_play_the_same_run() {
    let folder = Folder::new();
    let mut process = folder
        .simulate("run", &["federation.rounds=300", "privacy.accountant=rdp"])
        .start();
    process.wait_for("round   1/");
    process.signal("STOP");
    let outcome = folder.umbel().args(&["simulate", "--resume", "run"]).run();
    process.kill();
    assert!(
        outcome.failure(1).contains("another process"),
        "{}",
        outcome.stderr
    );
}

/// Goes on with the run `out`, or begins it where it has no directory yet. Settings that are given again must be the same.
fn go_on(folder: &Folder, out: &str, settings: &[&str]) -> Running {
    if !folder.run_dir(out).has("ledger") {
        return folder.simulate(out, settings).start();
    }
    let mut umbel = folder
        .umbel()
        .args(&["simulate", "experiment.toml", "--resume", out]);
    for setting in settings {
        umbel = umbel.args(&["--set", setting]);
    }
    umbel.start()
}
