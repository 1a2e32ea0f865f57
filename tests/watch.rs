//! `umbel audit watch`, on servers that tell the truth and on servers that lie.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{Folder, Outcome};

/// The ledger's page of an operator, who may change its mind about the past.
struct Server {
    url: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(lines: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shown = Arc::new(Mutex::new(lines.to_vec()));
        let lines = Arc::clone(&shown);
        // Ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut request = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                reader.read_line(&mut request).unwrap();
                let from: usize = request
                    .split(['=', ' '])
                    .nth(2)
                    .and_then(|from| from.parse().ok())
                    .unwrap();
                let lines = shown.lock().unwrap();
                let body: String = lines
                    .iter()
                    .skip(from)
                    .take(7)
                    .map(|line| format!("{line}\n"))
                    .collect();
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\numbel-ledger-records: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    lines.len(),
                    body.len()
                );
            }
        });
        Self { url, lines }
    }

    fn show(&self, lines: &[String]) {
        lines.clone_into(&mut self.lines.lock().unwrap());
    }
}

fn lines(folder: &Folder, run: &str) -> Vec<String> {
    let text = String::from_utf8(folder.read(&format!("{run}/ledger"))).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn watch(folder: &Folder, server: &Server, args: &[&str]) -> Outcome {
    let mut line = vec![
        "audit",
        "watch",
        &server.url,
        "--every",
        "0.02",
        "--patience",
        "5",
    ];
    line.extend(args);
    folder.umbel().args(&line).run()
}

#[test]
fn a_run_is_watched_to_its_end_and_a_lying_server_is_found() {
    let folder = Folder::new();
    let run = folder.finished("run", &[]);
    let fingerprint = run.summary()["ledger"]["fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    folder.finished("fork", &["seed=12"]);
    let (honest, other) = (lines(&folder, "run"), lines(&folder, "fork"));

    let outcome = watch(
        &folder,
        &Server::new(&honest),
        &["--key", &fingerprint, "--keep", "kept"],
    )
    .success();
    for words in [
        "charge   round 5",
        "the run is over: 17 records",
        &format!("signed by {fingerprint}"),
    ] {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
    assert_eq!(folder.read("kept"), folder.read("run/ledger"));
    let outcome = watch(&folder, &Server::new(&honest), &[]).success();
    assert!(outcome.stdout.contains("signer not pinned"), "{}", outcome.stdout);

    // What an earlier watch has kept is an anchor, and says so to `verify` as well.
    let found = |outcome: Outcome, words: &str| {
        assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
        assert!(
            outcome.stdout.contains("NOT CONSISTENT") && outcome.stdout.contains(words),
            "{words}: {}",
            outcome.stdout
        );
    };
    found(
        watch(&folder, &Server::new(&other), &["--keep", "kept"]),
        "kept: line 1",
    );
    found(
        watch(&folder, &Server::new(&honest[..9]), &["--keep", "kept"]),
        "rolled back",
    );
    found(
        watch(&folder, &Server::new(&other), &["--key", &fingerprint]),
        "signed by another key",
    );
    let verified = folder
        .umbel()
        .args(&["audit", "verify", "run", "--receipts", "kept"])
        .run()
        .success();
    assert!(
        verified.stdout.contains("pinned by receipts"),
        "{}",
        verified.stdout
    );

    let mut changed = honest.clone();
    changed[5] = changed[5].replacen("\"divisor\":10.0", "\"divisor\":11.0", 1);
    found(watch(&folder, &Server::new(&changed), &[]), "record 5");
}

#[test]
fn a_server_that_changes_its_mind_while_it_is_watched_is_found() {
    let folder = Folder::new();
    folder.finished("run", &[]);
    let honest = lines(&folder, "run");
    for (changed, words) in [
        (honest[..5].to_vec(), "rolled back"),
        (
            [&honest[..6], &honest[7..]].concat(),
            "changed after it was shown",
        ),
    ] {
        let server = Server::new(&honest[..7]);
        let args = ["audit", "watch", &server.url, "--every", "0.02", "--keep", "kept"];
        let running = folder.umbel().args(&args).start();
        // Its own file shows that it has seen everything.
        let whole = honest[..7].iter().map(|line| line.len() + 1).sum::<usize>();
        while std::fs::metadata(folder.path("kept")).map_or(0, |file| file.len()) < whole as u64 {
            thread::sleep(std::time::Duration::from_millis(5));
        }
        server.show(&changed);
        let outcome = running.finish();
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
        std::fs::remove_file(folder.path("kept")).unwrap();
    }
}

#[test]
fn a_server_that_is_gone_is_no_success() {
    let folder = Folder::new();
    let args = [
        "audit",
        "watch",
        "http://127.0.0.1:9",
        "--every",
        "0.02",
        "--patience",
        "0.1",
    ];
    let outcome = folder.umbel().args(&args).run();
    assert!(outcome.failure(1).contains("given up after 0 records"));
    for args in [
        ["audit", "watch", "ftp://somewhere"],
        ["audit", "watch", "https://somewhere:1"],
    ] {
        folder.umbel().args(&args).run().failure(2);
    }
}
