//! A live server's ledger seen from outside, and what clients keep of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use umbel_audit::{Anchors, RunFiles, Signer, Watch, verify};
use umbel_client::{ClientSources, History, HistoryError, LedgerSource, SourceError, Terms, TlsFiles, join};
use umbel_wire::proto::TermsRequest;

use crate::hostile::connect;
use crate::support::{N_CLIENTS, World, client_settings};

fn officer(world: &World) -> TlsFiles {
    let file = |name: &str| world.root.join("certs").join(name);
    TlsFiles {
        certificate: file("officer.pem"),
        key: file("officer-key.pem"),
        authority: file("authority.pem"),
        revoked: None,
    }
}

/// Takes all that there is.
async fn look(watch: &mut Watch, source: &mut LedgerSource) {
    loop {
        let page = source.page(watch.from()).await.unwrap();
        if watch.page(page.records, &page.lines).unwrap().is_empty() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_ledger_is_watched_and_clients_keep_receipts_that_pin_it() {
    let world = World::start(|settings| settings.admin = Some("127.0.0.1:0".parse().unwrap())).await;
    world.authority.mint_client("officer").unwrap();
    let plain = format!("http://{}", world.running.admin_address().unwrap());
    let secure = format!("https://{}", world.address);
    let mut sources = [
        LedgerSource::new(&plain, None).unwrap(),
        LedgerSource::new(&secure, Some(officer(&world))).unwrap(),
    ];
    let mut watches = [Watch::new(Anchors::default()), Watch::new(Anchors::default())];
    let clients = (0..N_CLIENTS).map(|client| {
        let settings = client_settings(&world.root, &world.address, client);
        tokio::spawn(join(
            settings,
            ClientSources::from_system().unwrap(),
            Arc::new(AtomicBool::new(false)),
        ))
    });
    let clients: Vec<_> = clients.collect();
    while world.probe.n_clients() < N_CLIENTS {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while let Some(wake) = world.probe.wakes_at() {
        if world.probe.missing().is_none_or(|missing| missing == 0) {
            world.clock.advance(wake);
        }
        for (watch, source) in watches.iter_mut().zip(&mut sources) {
            look(watch, source).await;
        }
    }
    // The closing record is there before anybody is told that the run is over.
    for (watch, source) in watches.iter_mut().zip(&mut sources) {
        look(watch, source).await;
        assert!(watch.is_over());
    }
    assert_eq!(watches[0].head(), watches[1].head());
    assert_eq!(
        world.probe.n_clients(),
        N_CLIENTS,
        "whoever watches takes no client's place"
    );
    for client in clients {
        client.await.unwrap().unwrap();
    }
    let root = world.root.clone();
    world.running.ended().await.unwrap();

    let read = |name: &str| std::fs::read(root.join(name)).unwrap();
    let histories: Vec<_> = (0..N_CLIENTS)
        .map(|client| format!("history-{client}/history.jsonl"))
        .map(|name| (name.clone(), read(&name)))
        .collect();
    let file = |name: &str| Some(read(&format!("served/{name}")));
    let mut files = RunFiles {
        ledger: read("served/ledger"),
        experiment: file("experiment.toml"),
        openings: file("ledger.openings"),
        metrics: file("metrics.jsonl"),
        model: file("model.safetensors"),
        summary: file("summary.json"),
        shared_budget: None,
    };
    let anchors = Anchors {
        receipts: histories,
        ..Anchors::default()
    };
    let verification = verify(&files, &anchors);
    assert!(verification.consistent, "{verification:#?}");
    let facts = verification.facts.unwrap();
    assert_eq!(facts.signer, Signer::Receipts);
    assert!(facts.receipts >= N_CLIENTS as u64, "{}", facts.receipts);
    // Cut off at the last round, with the files that would tell removed: clients know.
    let shorter = files.ledger.iter().rposition(|&byte| byte == b'\n').unwrap();
    let shorter = files.ledger[..shorter]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .unwrap();
    files.ledger.truncate(shorter + 1);
    (files.summary, files.model, files.metrics) = (None, None, None);
    let verification = verify(&files, &anchors);
    assert!(
        verification
            .faults
            .iter()
            .any(|fault| fault.reason.contains("rolled back")),
        "{verification:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_watch_is_told_so() {
    let world = World::start(|settings| settings.allow = vec!["client-0".to_owned()]).await;
    world.authority.mint_client("officer").unwrap();
    let secure = format!("https://{}", world.address);
    let mut source = LedgerSource::new(&secure, Some(officer(&world))).unwrap();
    let error = source.page(0).await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Rejected(reason) if reason.contains("`officer` is not among")),
        "{error}"
    );
    for (url, has_certificate) in [
        ("ftp://localhost:1", true),
        ("http://localhost", true),
        ("http://localhost:1/page", true),
        ("localhost:8443", true),
        ("https://localhost:1", false),
    ] {
        let tls = has_certificate.then(|| officer(&world));
        assert!(LedgerSource::new(url, tls).is_err(), "{url}");
    }
    let mut nobody = LedgerSource::new("http://127.0.0.1:9", None).unwrap();
    assert!(matches!(nobody.page(0).await, Err(SourceError::Unreachable(_))));
}

/// A client holds its server to what it has shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_lines_that_are_forged_set_back_or_forked() {
    let world = World::start(|_| {}).await;
    let mut client = connect(&world, "client-0").await.unwrap();
    let terms = Terms::read(client.terms(TermsRequest {}).await.unwrap().get_ref()).unwrap();
    let mut history = History::open(&world.root.join("history-x")).unwrap();
    history.keep_receipt(&terms, terms.line.as_bytes()).unwrap();
    history.keep_receipt(&terms, terms.line.as_bytes()).unwrap();
    for forged in [
        "",
        "nonsense\n",
        &terms.line.replacen("\"rounds\":4", "\"rounds\":5", 1),
        &terms.line.replacen("\"sequence\":0", "\"sequence\":1", 1),
    ] {
        assert!(
            matches!(
                history.keep_receipt(&terms, forged.as_bytes()),
                Err(HistoryError::Forged { .. })
            ),
            "{forged}"
        );
    }
    // A line that the same key has signed, of another history or an earlier moment.
    let signed = |secret: u8, first: bool| {
        use umbel_accounting::ledger::{Body, LedgerWriter, Reserve, SigningKey};
        let mut writer = LedgerWriter::new(SigningKey::from_secret(&[secret; 32]));
        let mut header = terms.header.clone();
        header.run = if first { "one".into() } else { "other".into() };
        let header_line = writer.append(&Body::Header(Box::new(header.clone()))).unwrap();
        let reserve = Body::Reserve(Reserve {
            round: 1,
            event: header.round_event,
        });
        [header_line, writer.append(&reserve).unwrap()]
    };
    let [one, other] = [signed(3, true), signed(3, false)];
    let mut terms = terms;
    terms.header.public_key = umbel_accounting::ledger::to_hex(
        &umbel_accounting::ledger::SigningKey::from_secret(&[3; 32]).public_key(),
    );
    history.keep_receipt(&terms, one[0].as_bytes()).unwrap();
    for (line, what) in [(&other[0], "the same record"), (&other[1], "the next record")] {
        let result = history.keep_receipt(&terms, line.as_bytes());
        assert!(matches!(result, Err(HistoryError::Forked { .. })), "{what}");
    }
    history.keep_receipt(&terms, one[1].as_bytes()).unwrap();
    // Also after a restart.
    drop(history);
    let mut history = History::open(&world.root.join("history-x")).unwrap();
    let result = history.keep_receipt(&terms, one[0].as_bytes());
    assert!(matches!(result, Err(HistoryError::SetBack { seen: 1, got: 0 })));
    let result = history.keep_receipt(&terms, other[1].as_bytes());
    assert!(matches!(result, Err(HistoryError::Forked { record: 1, .. })));
}
