//! Two servers on one PostgreSQL database: one leads, the other waits. (Kills are in `kills.rs`.)
#![cfg(unix)]

use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Folder, Running, Schema};

/// The environment variable that the servers' files name.
const STATE: &str = "STATE_OF_THE_SERVERS";

/// A folder with an experiment of more rounds than the test lets pass, and the files of two servers, `a` and `b`.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.edit("rounds = 5", "clients = 40\nrounds = 1000");
    folder.edit("delta = 1e-3", "delta = 1e-3\naccountant = \"rdp\"");
    folder.edit("\n[data.partition]", "classes = 4\n\n[data.partition]");
    folder.umbel().args(&["certs", "init"]).run().success();
    let ports = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    for (name, port) in ["a", "b"].iter().zip(&ports) {
        let address = port.local_addr().unwrap();
        let settings = format!(
            r#"
            experiment = "experiment.toml"
            state = "env:{STATE}"
            out = "out-{name}"
            [listen]
            address = "{address}"
            [tls]
            certificate = "certs/server.pem"
            key = "certs/server-key.pem"
            authority = "certs/authority.pem"
            [rounds]
            seconds = 0.2
            "#
        );
        folder.write(&format!("{name}.toml"), settings.as_bytes());
    }
    folder
}

fn start(folder: &Folder, schema: &Schema, name: &str) -> Running {
    let umbel = folder.umbel().args(&["serve", &format!("{name}.toml")]);
    umbel.env(STATE, &schema.url()).start()
}

#[test]
fn a_server_that_stood_still_too_long_is_told_that_another_has_taken_over() {
    let Some(schema) = Schema::new("standby") else {
        return;
    };
    let folder = folder();
    let mut first = start(&folder, &schema, "a");
    if !first.wait_for("serving over mutual TLS") {
        panic!("{}", first.finish().stderr);
    }
    let mut second = start(&folder, &schema, "b");
    assert!(second.wait_for("standby: another server leads"));
    // A standby ends in good order, too.
    second.signal("TERM");
    let ended = second.finish().success();
    assert!(!ended.stderr.contains("serving"), "{}", ended.stderr);
    let mut second = start(&folder, &schema, "b");
    assert!(second.wait_for("standby: another server leads"));

    // `umbel runs` looks at the same database.
    let runs = |args: &[&str]| {
        folder
            .umbel()
            .args(&["runs"])
            .args(args)
            .env(STATE, &schema.url())
            .run()
    };
    let listed = runs(&["list", "b.toml", "--json"]).success();
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed[0]["name"], "small");
    assert_eq!(listed[0]["status"], "running");

    // Not killed, not at its end, but silent for longer than its lease.
    assert!(first.wait_for("round released"));
    first.signal("STOP");
    assert!(second.wait_for("this server leads now"));
    assert!(second.wait_for("serving over mutual TLS"));
    first.signal("CONT");
    let fenced = first.finish();
    let message = fenced.failure(1);
    assert!(message.contains("another server has taken over"), "{message}");
    assert!(!folder.path("out-a").exists(), "it left nothing");

    assert!(second.wait_for("round released"));
    runs(&["stop", "b.toml", "small"]).success();
    // A run that was stopped is no success.
    let stopped = second.finish();
    assert_eq!(stopped.code, Some(1), "{}", stopped.stderr);
    folder.umbel().args(&["audit", "verify", "out-b"]).run().success();
    runs(&["export", "a.toml", "small", "--out", "exported"]).success();
    for file in ["ledger", "model.safetensors", "summary.json"] {
        let exported = folder.read(&format!("exported/{file}"));
        assert!(exported == folder.read(&format!("out-b/{file}")), "{file}");
    }

    // A killed server that is started again alone goes on, or here finds that the run is over.
    let again = start(&folder, &schema, "a").finish();
    assert!(
        again.stderr.contains("this run was over before"),
        "{}",
        again.stderr
    );
}
