//! A live ledger, watched, and servers that lie about it.

use serde_json::json;
use umbel_accounting::ledger::Digest;
use umbel_audit::{Anchors, Watch, WatchFault};

use super::run::{ROUNDS, SECRET, forge, run, sha256};
use super::{charge_of, key, lying};

fn text(lines: &[String]) -> Vec<u8> {
    lines
        .iter()
        .flat_map(|line| format!("{line}\n").into_bytes())
        .collect()
}

/// Looks at a server that has these lines, until nothing is new. A page has five lines.
fn look(watch: &mut Watch, lines: &[String]) -> Result<(), WatchFault> {
    loop {
        let from = usize::try_from(watch.from()).unwrap().min(lines.len());
        let page = &lines[from..lines.len().min(from + 5)];
        if watch.page(lines.len() as u64, &text(page))?.is_empty() {
            return Ok(());
        }
    }
}

/// A watch that has seen all of this.
fn watched(anchors: Anchors, lines: &[String]) -> Watch {
    let mut watch = Watch::new(anchors);
    look(&mut watch, lines).unwrap();
    watch
}

#[track_caller]
fn check_found(result: Result<(), WatchFault>, place: &str, reason: &str) {
    let WatchFault(fault) = result.unwrap_err();
    assert!(
        fault.place == place && fault.reason.contains(reason),
        "{place}: {reason}\ngot {}: {}",
        fault.place,
        fault.reason
    );
}

#[test]
fn an_honest_ledger_is_followed_to_its_end() {
    let run = run();
    let lines = run.lines();
    let anchors = Anchors {
        key: Some(key(SECRET)),
        receipts: vec![("receipts".into(), run.receipts.join("\n").into_bytes())],
        ..Anchors::default()
    };
    let mut watch = Watch::new(Anchors {
        receipts: Vec::new(),
        ..anchors
    });
    // Line by line, as a run makes it, and looked at twice where nothing has come.
    for shown in 1..=lines.len() {
        look(&mut watch, &lines[..shown]).unwrap();
        look(&mut watch, &lines[..shown]).unwrap();
        assert_eq!(
            (watch.records(), watch.is_over()),
            (shown as u64, shown == lines.len())
        );
    }
    assert_eq!(watch.confirmed(), (ROUNDS, 0));
    assert_eq!(watch.fingerprint().unwrap(), key(SECRET));
    let receipts = vec![("receipts".into(), run.receipts.join("\n").into_bytes())];
    let pinned = watched(
        Anchors {
            receipts,
            ..Anchors::default()
        },
        &lines,
    );
    assert_eq!(pinned.confirmed().1, lines.len() as u64);
}

#[test]
fn a_server_that_rewrites_drops_or_rolls_back_is_found_at_the_next_look() {
    let run = run();
    let lines = run.lines();
    let mut records = run.records();
    let place = charge_of(&records, 6);
    records[place]["body"]["counts_commitment"] = sha256(b"another world").into();
    let fork = forge(&records, SECRET);
    for seen in place + 1..lines.len() {
        let last = format!("record {}", seen - 1);
        // Signed all through by the same key: another history from a record on that was seen.
        check_found(
            look(&mut watched(Anchors::default(), &lines[..seen]), &fork),
            &last,
            "changed after it was shown",
        );
        let rolled_back = look(
            &mut watched(Anchors::default(), &lines[..seen]),
            &lines[..seen - 1],
        );
        check_found(rolled_back, &last, "rolled back");
        // One record is left out, and the rest is as it was.
        let dropped = [&lines[..seen - 1], &lines[seen..]].concat();
        let mut watch = watched(Anchors::default(), &lines[..seen - 1]);
        check_found(look(&mut watch, &dropped), &last, "sequence");
    }
    // A record before the last is changed and nothing signed again: the whole tells at the end.
    let mut changed = lines.clone();
    changed[2] = changed[2].replacen("100", "101", 1);
    let watch = watched(Anchors::default(), &lines);
    let heads = |lines: &[String]| -> Vec<Digest> {
        let hex = lines.iter().map(|line| sha256(line.as_bytes()));
        hex.map(|hex| umbel_accounting::ledger::from_hex(&hex).unwrap())
            .collect()
    };
    watch.whole(&heads(&lines)).unwrap();
    check_found(watch.whole(&heads(&changed)), "record 2", "rewritten");
    check_found(watch.whole(&heads(&lines[..4])), "record 4", "rewritten");
    // It says that there is more and does not show it.
    let mut watch = watched(Anchors::default(), &lines[..4]);
    check_found(
        watch.page(9, &text(&lines[3..4])).map(drop),
        "record 4",
        "keeps those",
    );
}

#[test]
fn a_record_that_does_not_hold_is_found_when_it_comes() {
    let run = run();
    let lines = run.lines();
    for (place, line) in lines.iter().enumerate() {
        let mut changed = lines.clone();
        let digit = line.rfind(|character: char| character.is_ascii_digit()).unwrap();
        let other = if &line[digit..=digit] == "1" { "2" } else { "1" };
        changed[place].replace_range(digit..=digit, other);
        let found = look(&mut Watch::new(Anchors::default()), &changed);
        check_found(found, &format!("record {place}"), "");
    }
    // By their own signer: too small an ε, too little noise.
    for (change, reason) in [("epsilon", "is false"), ("noise", "`noise_std_dev_grid_units`")] {
        let run = lying(|records| {
            let place = charge_of(records, 5);
            let body = &mut records[place]["body"];
            let number = match change {
                "epsilon" => &mut body["claim"]["epsilon"],
                _ => &mut body["noise_std_dev_grid_units"],
            };
            *number = json!(number.as_f64().unwrap() * 0.97);
        });
        let lines = run.lines();
        let place = charge_of(&run.records(), 5);
        let mut watch = watched(Anchors::default(), &lines[..place]);
        check_found(
            look(&mut watch, &lines[..=place]),
            &format!("record {place}"),
            reason,
        );
    }
}

#[test]
fn another_signer_or_history_than_somebody_holds_is_found() {
    let run = run();
    let lines = run.lines();
    let anchored = |receipts: &[String]| Anchors {
        receipts: vec![("receipts".into(), receipts.join("\n").into_bytes())],
        ..Anchors::default()
    };
    let theirs = forge(&run.records(), [8; 32]);
    let keyed = Anchors {
        key: Some(key(SECRET)),
        ..Anchors::default()
    };
    check_found(
        look(&mut Watch::new(keyed), &theirs),
        "record 0",
        "signed by another key",
    );
    check_found(
        look(&mut Watch::new(anchored(&run.receipts[3..4])), &theirs),
        "receipts, line 1",
        "another signer",
    );
    // Somebody was shown more than the server has now.
    let found = look(&mut Watch::new(anchored(&run.receipts[9..10])), &lines[..9]);
    check_found(found, "receipts, line 1", "rolled back");
    let mut records = run.records();
    let place = charge_of(&records, 2);
    records[place]["body"]["counts_commitment"] = sha256(b"another world").into();
    let fork = forge(&records, SECRET);
    let found = look(&mut Watch::new(anchored(&run.receipts[place..=place])), &fork);
    check_found(found, "receipts, line 1", "forked");
}
