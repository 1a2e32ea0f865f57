//! The operator's page, numbers for Prometheus, and a sign of life: plain HTTP on an address of this machine.
//!
//! Everything is read-only. The page is one document without scripts from elsewhere: it asks `/status.json` for news and works
//! without a network.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use hyper::http::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;
use umbel_wire::LEDGER_RECORDS_HEADER;

use crate::metrics;
use crate::view::{Shared, Stage};

/// Connections at a time: the page is for few eyes.
const MAX_CONNECTIONS: usize = 32;

const PAGE: &str = include_str!("admin/page.html");

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(respond(&shared, &request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(std::time::Duration::from_secs(10))
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(tcp), service)
                .await;
            if let Err(error) = served {
                debug!("operator's page: {error}");
            }
            drop(place);
        });
    }
}

async fn respond(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return response(
            StatusCode::METHOD_NOT_ALLOWED,
            "text/plain",
            "only GET\n".to_owned(),
        );
    }
    match request.uri().path() {
        "/" => response(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned()),
        "/health" => health(shared),
        "/ledger" => ledger(shared, request.uri().query()).await,
        "/metrics" => response(
            StatusCode::OK,
            "text/plain; version=0.0.4",
            metrics::render(shared),
        ),
        "/status.json" => response(StatusCode::OK, "application/json", status(shared).to_string()),
        _ => response(StatusCode::NOT_FOUND, "text/plain", "not here\n".to_owned()),
    }
}

/// 503 while nothing can be stored, so that a supervisor notices.
fn health(shared: &Shared) -> Response<Full<Bytes>> {
    match &shared.current().trouble {
        None => response(StatusCode::OK, "text/plain", "ok\n".to_owned()),
        Some(trouble) => response(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            format!("{trouble}\n"),
        ),
    }
}

/// The ledger's lines from `?from=RECORD` on, as many as go on one page; how many there are stands in a header of the answer.
async fn ledger(shared: &Shared, query: Option<&str>) -> Response<Full<Bytes>> {
    let from = match query {
        None => Some(0),
        Some(query) => query
            .strip_prefix("from=")
            .and_then(|from| from.parse::<u64>().ok()),
    };
    let Some(from) = from else {
        return response(
            StatusCode::BAD_REQUEST,
            "text/plain",
            "expected /ledger?from=RECORD, counted from 0\n".to_owned(),
        );
    };
    match shared.feed.page(from).await {
        Ok(page) => {
            let mut answer = response(StatusCode::OK, "application/jsonl", page.lines);
            answer
                .headers_mut()
                .insert(LEDGER_RECORDS_HEADER, page.records.into());
            answer
        }
        Err(error) => response(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            format!("{error}\n"),
        ),
    }
}

/// What the page shows.
fn status(shared: &Shared) -> Value {
    let (view, facts) = (shared.current(), &shared.facts);
    let now = shared.clock.now().since_start();
    let (stage, round, until) = match &view.stage {
        Stage::Waiting { until } => ("waiting", None, Some(*until)),
        Stage::Open(open) => ("open", Some(open.round.0), Some(open.deadline)),
        Stage::Over(status) => (crate::driver::status_name(*status), None, None),
    };
    let seconds_left = until.map(|until| until.since_start().saturating_sub(now).as_secs_f64());
    let seen: Vec<_> = shared
        .seen()
        .into_iter()
        .map(|(name, seconds_ago)| json!({"name": name, "seconds_ago": seconds_ago}))
        .collect();
    let counters = &shared.counters;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    json!({
        "run": facts.name,
        "promise": facts.promise,
        "stage": stage,
        "round": round,
        "seconds_left": seconds_left,
        "seconds": now.as_secs_f64(),
        "rounds_planned": facts.planned_rounds,
        "rounds": view.rounds.as_slice(),
        "epsilon_budget": facts.epsilon_budget,
        "delta": facts.delta,
        "parameters": facts.dimension,
        "clients_declared": facts.population,
        "clients_enrolled": shared.n_clients(),
        "connections": counters.connections.load(std::sync::atomic::Ordering::Relaxed),
        "clients_seen": seen,
        "bytes_received": load(&counters.bytes_received),
        "bytes_sent": load(&counters.bytes_sent),
        "handshakes_refused": load(&counters.handshakes_refused),
        "calls_refused": load(&counters.calls_refused),
        "turned_away": load(&counters.connections_turned_away),
        "policy_refusals": load(&counters.policy_refusals),
        "trouble": view.trouble,
    })
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Nothing but what is in the page itself, and no other page may frame it.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    );
    response
}
