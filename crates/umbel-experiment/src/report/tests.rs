use serde_json::{Value, json};

use super::{RunRecord, diagnostics, privacy, render};

/// A finished run of `rounds` rounds with noise.
fn sample(label: &str, rounds: u32) -> RunRecord {
    let lines = (1..=rounds)
        .map(|round| {
            let t = f64::from(round);
            json!({
                "round": round, "loss": 2.3 / t.sqrt(), "accuracy": 1.0 - 0.8 / t.sqrt(),
                "epsilon": 0.79 * t.sqrt(), "epsilon_lower": 0.78 * t.sqrt(), "delta": 1e-4,
                "simulator_only": {
                    "cohort": 260 + round % 20, "reports": 260 + round % 20, "clipped_fraction": 0.9,
                    "update_norm_mean": 1.3, "update_norm_max": 2.2, "non_finite": 0, "train_loss": 2.0 / t.sqrt(),
                },
            })
        })
        .collect();
    let summary = json!({
        "name": "digits", "seed": 7, "status": "finished", "rounds": rounds, "rounds_completed": rounds,
        "clients": 539, "cohort": 270.0,
        "final": {"loss": 0.23, "accuracy": 0.92}, "best": {"round": 97, "loss": 0.229, "accuracy": 0.9214},
        "privacy": {
            "unit": "client", "trust": "central", "neighbors": "add-remove", "simulated": true,
            "epsilon": 7.9, "epsilon_lower": 7.8, "epsilon_budget": 8.0, "delta": 1e-4, "accountant": "pld",
            "noise_multiplier": 2.85, "clip_norm": 1.0, "sampling": "poisson", "sampling_rate": 0.5009,
            "noise": "rounded", "noise_std_dev": 2.85,
            "not_covered": ["who is contacted, seen from the network", "the choice of settings"],
            "statement": "The model that the server releases is private for each client.",
        },
        "timing": {"total_seconds": 41.2, "train_seconds": 39.8, "rounds_per_second": 2.5,
            "clients_per_second": 680.0, "examples_per_second": 32640.0},
        "peak_rss_bytes": 193_146_880, "model_sha256": "0f".repeat(32),
        "model": {"kind": "mlp", "parameters": 159_010},
        "ledger": {"records": 201, "head": "ab".repeat(32), "public_key": "cd".repeat(32), "fingerprint": "ef01"},
        "simulator_only": {"partition": {
            "kind": "by-key", "clients": 539, "examples": 25_842, "examples_min": 19, "examples_median": 48,
            "examples_max": 48, "classes": 3,
            "histogram": [{"from": 15, "to": 20, "clients": 3}, {"from": 45, "to": 50, "clients": 536}],
            "labels": [[5, 3, 0], [0, 20, 1]],
        }},
    });
    RunRecord {
        label: label.to_owned(),
        summary,
        rounds: lines,
    }
}

/// The text of a page without its tags and style sheet, entities as they are.
fn visible(html: &str) -> String {
    let body = html.split_once("<body>").expect("a page has a body").1;
    body.split('<')
        .filter_map(|piece| piece.split_once('>'))
        .map(|(_, text)| text)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Every tag is closed in order, no attribute or text holds a stray mark, and nothing is fetched.
#[track_caller]
fn check_page(html: &str) {
    let mut open = Vec::new();
    let mut rest = html.strip_prefix("<!doctype html>\n").expect("begins as HTML");
    while let Some(start) = rest.find('<') {
        assert!(
            !rest[..start].contains('>'),
            "a stray `>` before {}",
            &rest[start..]
        );
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        assert!(!tag.contains('<'), "a tag within a tag: {tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "an open quote: {tag}");
        let name = tag.split([' ', '\n']).next().unwrap_or_default();
        if let Some(closed) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed.to_owned()));
        } else if !["meta", "link"].contains(&name) {
            open.push(name.to_owned());
        }
        rest = &rest[end + 1..];
        if name == "style" {
            rest = &rest[rest.find("</style>").expect("the style sheet ends")..];
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    for word in [
        "://",
        " src=",
        "url(",
        "@import",
        "<script",
        "<iframe",
        "<object",
        "xlink",
        "javascript:",
    ] {
        assert!(!html.contains(word), "{word}");
    }
    for piece in html.split(" href=\"").skip(1) {
        assert!(
            piece.starts_with('#') || piece.starts_with("data:,\""),
            "{}",
            &piece[..40]
        );
    }
    for ugly in ["NaN", "inf ", "inf\"", "Infinity", "null", "-0<"] {
        assert!(!html.contains(ugly), "{ugly}");
    }
    // What the page points to is on the page.
    assert!(!html.contains("href=\"#promise\"") || html.contains("id=\"promise\""));
}

#[track_caller]
fn check_shows(html: &str, parts: &[&str]) {
    let text = visible(html);
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn one_run_shows_what_was_reached_and_promised() {
    let html = render(&[sample("digits-1", 100)]);
    check_page(&html);
    check_shows(
        &html,
        &[
            "finished, 100 of 100 rounds",
            "92.00%",
            "best: 92.14% in round 97",
            "ε ≤ 7.900",
            "at δ = 1e-4",
            "add-remove",
            "SIMULATED",
            privacy::SIMULATED,
            "budget, ε = 8",
            "who is contacted, seen from the network",
            "The model that the server releases is private for each client.",
            "159,010 parameters",
            "184.2 MiB",
            "expected, 270",
            "clip norm, 1",
            "by-key: 539 clients, 25,842 examples, 19 to 48 each, median 48",
            "round 100\nε: 7.900",
        ],
    );
    assert!(!html.contains("NOT PRIVATE"));
}

#[test]
fn diagnostics_stand_under_their_own_heading_only() {
    let html = render(&[sample("digits-1", 100)]);
    let (released, diagnostics) = html
        .split_once(diagnostics::HEADING)
        .expect("the heading is there");
    for figure in [
        "Cohort size",
        "Fraction clipped",
        "Update norms",
        "Training loss",
        "Examples by client",
        "Labels by client",
    ] {
        assert!(diagnostics.contains(figure), "{figure}");
        assert!(!released.contains(figure), "{figure}");
    }
    for figure in [">Accuracy</h3>", ">Loss</h3>", ">ε spent</h3>"] {
        assert!(released.contains(figure), "{figure}");
        assert!(!diagnostics.contains(figure), "{figure}");
    }
    let mut record = sample("digits-1", 3);
    record.summary["simulator_only"] = Value::Null;
    for line in &mut record.rounds {
        line["simulator_only"] = Value::Null;
    }
    assert!(
        !render(&[record]).contains(diagnostics::HEADING),
        "no diagnostics, no heading"
    );
}

#[test]
fn without_noise_the_page_says_so_in_large_letters() {
    let mut record = sample("bare", 5);
    for (pointer, value) in [
        ("epsilon", Value::Null),
        ("noise", json!("none")),
        ("noise_multiplier", json!(0.0)),
    ] {
        record.summary["privacy"][pointer] = value;
    }
    for line in &mut record.rounds {
        line["epsilon"] = Value::Null;
    }
    let html = render(std::slice::from_ref(&record));
    check_page(&html);
    check_shows(&html, &["NOT PRIVATE", "Nothing is promised."]);
    assert!(!html.contains("ε spent") && !html.contains("ε ≤"));

    // An ε that stands beside "no noise" by mistake is not repeated.
    record.summary["privacy"]["epsilon"] = json!(1.25);
    record.rounds[0]["epsilon"] = json!(1.25);
    let html = render(&[record]);
    check_shows(&html, &["NOT PRIVATE"]);
    assert!(!html.contains("1.25"), "{html}");
}

#[test]
fn an_epsilon_never_stands_alone() {
    let record = RunRecord {
        label: "old".to_owned(),
        summary: json!({"privacy": {"epsilon": 3.0}}),
        rounds: vec![json!({"round": 1, "epsilon": 3.0})],
    };
    let html = render(&[record]);
    check_page(&html);
    check_shows(
        &html,
        &[
            "δ = not stated, unit not stated, neighbours not stated, trust not stated",
            "Whether this run was simulated is not stated.",
            "The run did not state what is not covered.",
        ],
    );
    check_shows(
        &render(&[sample("a", 1), sample("b", 1)]),
        &["Unit", "Neighbours", "Trust", "Simulated", "δ"],
    );
}

#[test]
fn any_field_may_be_missing_or_strange() {
    let whole = sample("digits-1", 3);
    let mut pointers = Vec::new();
    collect("", &whole.summary, &mut pointers);
    assert!(pointers.len() > 60, "{}", pointers.len());
    for pointer in &pointers {
        for strange in [
            Value::Null,
            json!("<b>"),
            json!(-1),
            json!([[]]),
            json!({}),
            json!(1e308),
            json!(true),
        ] {
            let mut record = whole.clone();
            *record.summary.pointer_mut(pointer).expect("collected from it") = strange;
            check_page(&render(&[record]));
        }
    }
    let mut pointers = Vec::new();
    collect("", &whole.rounds[1], &mut pointers);
    for pointer in &pointers {
        for strange in [
            Value::Null,
            json!("<b>"),
            json!(-1),
            json!([]),
            json!(1e308),
            json!(-1e308),
            json!(1e-320),
        ] {
            let mut record = whole.clone();
            *record.rounds[1].pointer_mut(pointer).expect("collected from it") = strange;
            check_page(&render(&[record.clone(), whole.clone()]));
            check_page(&render(&[record]));
        }
    }
}

/// All pointers to fields below a value, but for those into lists, of which the first entry stands for all.
fn collect(pointer: &str, value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                out.push(format!("{pointer}/{name}"));
                collect(&format!("{pointer}/{name}"), field, out);
            }
        }
        Value::Array(items) => {
            if let Some(first) = items.first() {
                out.push(format!("{pointer}/0"));
                collect(&format!("{pointer}/0"), first, out);
            }
        }
        _ => {}
    }
}

#[test]
fn short_runs_have_pages_too() {
    check_page(&render(&[]));
    check_shows(&render(&[]), &["No runs"]);
    for rounds in [0, 1, 2] {
        let html = render(&[sample("digits-1", rounds)]);
        check_page(&html);
        assert_eq!(html.contains("ε spent"), rounds > 0);
    }
    let empty = RunRecord {
        label: "empty".to_owned(),
        summary: json!({}),
        rounds: Vec::new(),
    };
    let html = render(std::slice::from_ref(&empty));
    check_page(&html);
    check_shows(&html, &["empty", "Privacy not stated"]);
    check_page(&render(&[empty.clone(), empty, sample("digits-1", 1)]));
}

#[test]
fn an_interrupted_run_says_so() {
    let mut record = sample("digits-1", 57);
    record.summary["status"] = json!("interrupted");
    record.summary["rounds"] = json!(100);
    check_shows(&render(&[record.clone()]), &["interrupted, 57 of 100 rounds"]);
    record.summary["status"] = json!("budget-exhausted");
    check_shows(
        &render(&[record]),
        &["stopped before its budget would be overspent, 57 of 100 rounds"],
    );
}

#[test]
fn several_runs_are_overlaid_and_compared() {
    let mut other = sample("digits-2", 50);
    other.summary["final"]["accuracy"] = json!(0.8712);
    other.summary["privacy"]["epsilon"] = json!(2.0);
    other.summary["privacy"]["epsilon_budget"] = json!(2.0);
    let html = render(&[sample("digits-1", 100), other.clone()]);
    check_page(&html);
    check_shows(
        &html,
        &[
            "2 runs compared",
            "87.12%",
            "92.00%",
            "round 50\ndigits-1: 88.69%\ndigits-2: 88.69%",
            "budget, ε = 2",
            "budget, ε = 8",
            "SIMULATED",
        ],
    );
    assert!(!html.contains("Not the same promise"));
    assert_eq!(
        html.matches(">Examples by client</h3>").count(),
        1,
        "one partition, drawn once"
    );
    assert_eq!(html.matches(">What is not covered</h3>").count(), 1);

    other.summary["privacy"]["neighbors"] = json!("replace-one");
    other.summary["simulator_only"]["partition"]["kind"] = json!("iid");
    other.summary["privacy"]["not_covered"] = json!(["something else"]);
    let html = render(&[sample("digits-1", 100), other]);
    check_shows(
        &html,
        &[
            "Not the same promise",
            "Examples by client: digits-2",
            "What is not covered: digits-1",
            "something else",
        ],
    );
}

#[test]
fn a_bare_run_among_private_ones_is_named() {
    let mut bare = sample("bare", 5);
    bare.summary["privacy"]["noise"] = json!("none");
    let html = render(&[sample("digits-1", 5), bare]);
    check_page(&html);
    check_shows(
        &html,
        &["NOT PRIVATE", "No noise was added, so ε is infinite: bare"],
    );
    // Its ε by round, there by mistake, is not drawn.
    let zone = html
        .split("ε spent")
        .nth(1)
        .expect("a figure")
        .split("</figure>")
        .next()
        .expect("its end");
    assert!(zone.contains("digits-1") || !zone.contains("bare"), "{zone}");
    assert!(!zone.contains("bare:"), "{zone}");
}

#[test]
fn texts_from_a_run_cannot_become_markup() {
    let evil = "</title><script>alert('x')</script>\"onload=\"x&\u{202e}";
    let mut record = sample(evil, 2);
    for pointer in [
        "/name",
        "/status",
        "/privacy/unit",
        "/privacy/trust",
        "/privacy/neighbors",
        "/privacy/statement",
        "/privacy/noise",
        "/privacy/sampling",
        "/privacy/accountant",
        "/privacy/not_covered/0",
        "/model/kind",
        "/model_sha256",
        "/ledger/head",
        "/simulator_only/partition/kind",
    ] {
        *record.summary.pointer_mut(pointer).expect("the sample has it") = json!(evil);
    }
    record.summary["final"][evil] = json!(0.5);
    record.rounds[0][evil] = json!(0.5);
    let alone = render(std::slice::from_ref(&record));
    check_page(&alone);
    assert!(alone.contains("&lt;script&gt;"));
    check_page(&render(&[record, sample("digits-1", 2)]));
}

#[test]
fn the_same_records_give_the_same_bytes() {
    let records = [sample("digits-1", 40), sample("digits-2", 30)];
    assert_eq!(render(&records), render(&records.clone()));
}

#[test]
fn other_metrics_than_accuracy_are_shown() {
    let mut record = sample("ratings", 4);
    record.summary["final"] = json!({"loss": 0.9, "mean_error": 0.6789});
    record.summary["best"] = json!({"round": 3, "mean_error": 0.6543});
    for line in &mut record.rounds {
        line["accuracy"] = Value::Null;
        line["mean_error"] = json!(0.7);
    }
    let html = render(&[record]);
    check_page(&html);
    check_shows(
        &html,
        &[
            "Mean error",
            "0.6789",
            "best: 0.6543 in round 3",
            "round 2\nmean error: 0.7",
        ],
    );
    assert!(!html.contains("Accuracy"));
}

#[test]
fn updates_that_were_not_finite_are_counted() {
    let mut record = sample("digits-1", 4);
    record.rounds[1]["simulator_only"]["non_finite"] = json!(2);
    record.rounds[3]["simulator_only"]["non_finite"] = json!(1);
    check_shows(
        &render(&[record]),
        &["3 updates were not finite and counted as zero, the first in round 2."],
    );
}

#[test]
fn a_long_run_gives_a_page_of_bounded_size() {
    let html = render(&[sample("long", 20_000)]);
    check_page(&html);
    assert!(html.len() < 600_000, "{} bytes", html.len());
}
