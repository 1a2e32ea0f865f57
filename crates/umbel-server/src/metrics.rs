//! Numbers of the server's own work, for Prometheus. None of them says what a client sent, and none is covered by ε: they tell
//! whoever operates the server how busy it is.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::view::{Shared, Stage};

/// Counts since the process began.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: AtomicI64,
    pub(crate) connections_total: AtomicU64,
    pub(crate) handshakes_refused: AtomicU64,
    pub(crate) connections_turned_away: AtomicU64,
    pub(crate) calls_refused: AtomicU64,
    pub(crate) reports: AtomicU64,
    pub(crate) bytes_received: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) policy_refusals: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// The text that Prometheus reads.
pub(crate) fn render(shared: &Shared) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: f64| {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "# HELP umbel_{name} {help}\n# TYPE umbel_{name} {kind}\numbel_{name} {value}\n"
        );
    };
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let counters = &shared.counters;
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    let open = counters.connections.load(Ordering::Relaxed) as f64;
    metric("connections", "gauge", "Open connections of clients.", open);
    for (name, help, counter) in [
        (
            "connections_total",
            "Connections accepted.",
            &counters.connections_total,
        ),
        (
            "handshakes_refused_total",
            "TLS handshakes that failed.",
            &counters.handshakes_refused,
        ),
        (
            "connections_turned_away_total",
            "Connections beyond a limit.",
            &counters.connections_turned_away,
        ),
        (
            "calls_refused_total",
            "Calls of clients that were refused.",
            &counters.calls_refused,
        ),
        ("reports_total", "Reports added to a sum.", &counters.reports),
        (
            "received_bytes_total",
            "Bytes of reports.",
            &counters.bytes_received,
        ),
        ("sent_bytes_total", "Bytes of models.", &counters.bytes_sent),
        (
            "policy_refusals_total",
            "Refusals by clients' own policies.",
            &counters.policy_refusals,
        ),
    ] {
        metric(name, "counter", help, count(counter));
    }
    let view = shared.current();
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    {
        metric(
            "rounds_released",
            "gauge",
            "Rounds released.",
            view.rounds.len() as f64,
        );
        metric(
            "rounds_planned",
            "gauge",
            "Rounds planned.",
            shared.facts.planned_rounds as f64,
        );
        metric(
            "clients_enrolled",
            "gauge",
            "Clients with a number.",
            shared.n_clients() as f64,
        );
    }
    let up = if matches!(view.stage, Stage::Over(_)) {
        0.0
    } else {
        1.0
    };
    metric("running", "gauge", "1 while rounds may open.", up);
    metric(
        "trouble",
        "gauge",
        "1 while something keeps the run from going on.",
        f64::from(u8::from(view.trouble.is_some())),
    );
    if let Some(last) = view.rounds.last() {
        metric(
            "accuracy",
            "gauge",
            "Accuracy on the public test set.",
            last.accuracy,
        );
        metric(
            "epsilon",
            "gauge",
            "Epsilon charged so far.",
            last.epsilon.unwrap_or(f64::INFINITY),
        );
    }
    text
}
