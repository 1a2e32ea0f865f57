//! Clients that do what they should not: each is told so, costs nothing, and the run goes on for the others.

use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use umbel_accounting::ClipNorm;
use umbel_mechanisms::Quantizer;
use umbel_protocol::{ClientMessage, RoundId};
use umbel_wire::proto::federation_client::FederationClient;
use umbel_wire::proto::{CheckInRequest, DownloadRequest, RefuseRequest, TermsRequest, check_in_response};
use umbel_wire::tls::{TlsFiles, client_config};
use umbel_wire::{OutgoingReport, transfer, transport};

use crate::support::World;

/// Parameters of the task's model: 16 inputs, 7 hidden units, 3 classes.
pub(crate) const N_PARAMETERS: usize = 16 * 7 + 7 + 7 * 3 + 3;

pub(crate) async fn connect(world: &World, name: &str) -> Result<FederationClient<Channel>, String> {
    connect_to(&world.root, &world.address, name).await
}

pub(crate) async fn connect_to(
    root: &Path,
    address: &str,
    name: &str,
) -> Result<FederationClient<Channel>, String> {
    let file = |ending: &str| root.join("certs").join(format!("{name}{ending}"));
    let files = TlsFiles {
        certificate: file(".pem"),
        key: file("-key.pem"),
        authority: root.join("certs/authority.pem"),
        revoked: None,
    };
    let channel = transport::connect(address, client_config(&files).unwrap()).await;
    channel
        .map(FederationClient::new)
        .map_err(|error| error.to_string())
}

pub(crate) fn report(round: u64, length: usize) -> OutgoingReport {
    let update = Quantizer::new(ClipNorm::new(0.5).unwrap())
        .accept(vec![1; length])
        .unwrap();
    OutgoingReport::new(&ClientMessage::Report {
        round: RoundId(round),
        update,
    })
    .unwrap()
}

pub(crate) async fn upload(
    client: &mut FederationClient<Channel>,
    report: OutgoingReport,
) -> Result<u64, Status> {
    Ok(client
        .upload(transfer::report_parts(report))
        .await?
        .into_inner()
        .round)
}

async fn is_invited(client: &mut FederationClient<Channel>) -> bool {
    let answer = client
        .check_in(CheckInRequest { hold_millis: 0 })
        .await
        .unwrap()
        .into_inner()
        .answer;
    matches!(answer, Some(check_in_response::Answer::Invitation(_)))
}

/// Opens rounds until one has invited somebody; gives its number and a client in and one not in it.
async fn open_round(world: &World) -> (u64, FederationClient<Channel>, FederationClient<Channel>) {
    let mut clients = Vec::new();
    for client in 0..crate::support::N_CLIENTS {
        let mut connected = connect(world, &format!("client-{client}")).await.unwrap();
        connected
            .check_in(CheckInRequest { hold_millis: 0 })
            .await
            .unwrap();
        clients.push(connected);
    }
    while let Some(wake) = world.probe.wakes_at() {
        let (mut inside, mut outside) = (None, None);
        if let Some(round) = world.probe.round() {
            for client in &mut clients {
                match is_invited(client).await {
                    true => inside = Some(client.clone()),
                    false => outside = Some(client.clone()),
                }
            }
            if let (Some(inside), Some(outside)) = (inside, outside) {
                return (round, inside, outside);
            }
        }
        world.clock.advance(wake);
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    panic!("no round of this seed invites some and not all");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_that_nobody_waits_for_are_refused_and_none_is_counted() {
    let world = World::start(|_| {}).await;
    let mut early = connect(&world, "client-0").await.unwrap();
    let status = upload(&mut early, report(1, N_PARAMETERS)).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::FailedPrecondition, "no round is open")
    );

    let (round, mut inside, mut outside) = open_round(&world).await;
    let missing = world.probe.missing();
    for (mut client, sent, code) in [
        (
            outside.clone(),
            report(round, N_PARAMETERS),
            Code::PermissionDenied,
        ),
        (
            inside.clone(),
            report(round + 1, N_PARAMETERS),
            Code::FailedPrecondition,
        ),
        (
            inside.clone(),
            report(round, N_PARAMETERS - 1),
            Code::InvalidArgument,
        ),
        (inside.clone(), report(round, 1), Code::InvalidArgument),
    ] {
        assert_eq!(upload(&mut client, sent).await.unwrap_err().code(), code);
    }
    let download = |round, offset| DownloadRequest { round, offset };
    assert_eq!(
        outside.download(download(round, 0)).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        inside
            .download(download(round, u64::MAX))
            .await
            .unwrap_err()
            .code(),
        Code::InvalidArgument
    );
    assert_eq!(world.probe.missing(), missing, "nothing of this was counted");

    // The first report stands; it is not counted again, nor is another in its place.
    assert_eq!(
        upload(&mut inside, report(round, N_PARAMETERS)).await.unwrap(),
        round
    );
    assert_eq!(world.probe.missing(), missing.map(|missing| missing - 1));
    for _ in 0..2 {
        let status = upload(&mut inside, report(round, N_PARAMETERS))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists);
    }
    assert_eq!(world.probe.missing(), missing.map(|missing| missing - 1));
    assert!(
        !is_invited(&mut inside).await,
        "who has reported is not asked again"
    );

    // Late is too late, to the microsecond of the server's clock.
    world.clock.advance(world.probe.wakes_at().unwrap());
    while world.probe.round() == Some(round) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let status = upload(&mut inside, report(round, N_PARAMETERS))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_allowed_is_told_so_and_the_declared_number_is_the_most() {
    let world = World::start(|settings| settings.allow = vec!["client-0".to_owned()]).await;
    let mut allowed = connect(&world, "client-0").await.unwrap();
    allowed.terms(TermsRequest {}).await.unwrap();
    let mut other = connect(&world, "client-1").await.unwrap();
    let status = other.terms(TermsRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("`client-1` is not among the clients"),
        "{status}"
    );

    let world = World::start(|_| {}).await;
    for client in 0..=crate::support::N_CLIENTS {
        let name = format!("late-{client}");
        world.authority.mint_client(&name).unwrap();
        let answer = connect(&world, &name).await.unwrap().terms(TermsRequest {}).await;
        match answer {
            Ok(_) => assert!(client < crate::support::N_CLIENTS),
            Err(status) => {
                assert_eq!(
                    (client, status.code()),
                    (crate::support::N_CLIENTS, Code::ResourceExhausted),
                    "{status}"
                );
            }
        }
    }
}

/// A certificate that is revoked while its connection is open is found out at the next call, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_revoked_is_refused_on_its_open_connection() {
    let world = World::start(|settings| {
        let folder = settings.tls.authority.parent().unwrap().to_owned();
        let authority = umbel_server::authority::Authority::open(&folder);
        authority.mint_client("somebody").unwrap();
        settings.tls.revoked = Some(authority.revoke("somebody").unwrap());
    })
    .await;
    let (mut good, mut bad) = (
        connect(&world, "client-0").await.unwrap(),
        connect(&world, "client-1").await.unwrap(),
    );
    bad.terms(TermsRequest {}).await.unwrap();
    world.authority.revoke("client-1").unwrap();
    // The server looks at its files every few seconds.
    let status = loop {
        match bad.terms(TermsRequest {}).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(status) => break status,
        }
    };
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unauthenticated, "the peer's certificate is revoked")
    );
    good.terms(TermsRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed_and_a_place_that_is_left_is_given_again() {
    let world = World::start(|settings| settings.limits.connections_per_address = 2).await;
    let first = connect(&world, "client-0").await.unwrap();
    let mut second = connect(&world, "client-1").await.unwrap();
    assert!(connect(&world, "client-2").await.is_err());
    second.terms(TermsRequest {}).await.unwrap();
    drop(first);
    while connect(&world, "client-2").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    second.terms(TermsRequest {}).await.unwrap();
}

/// Whoever connects and says nothing is hung up on; others are served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_handshake_is_closed() {
    let world = World::start(|_| {}).await;
    let mut silent = TcpStream::connect(("127.0.0.1", world.running.address().port()))
        .await
        .unwrap();
    connect(&world, "client-0")
        .await
        .unwrap()
        .terms(TermsRequest {})
        .await
        .unwrap();
    let mut byte = [0];
    // The end of the stream, or that it was reset.
    assert!(matches!(silent.read(&mut byte).await, Ok(0) | Err(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_calls_are_refused_before_they_are_unpacked() {
    let world = World::start(|_| {}).await;
    let mut client = connect(&world, "client-0").await.unwrap();
    for encoding in ["gzip", "zstd", "deflate"] {
        let mut request = Request::new(TermsRequest {});
        request
            .metadata_mut()
            .insert("grpc-encoding", MetadataValue::from_static(encoding));
        let status = client.terms(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
    }
    client.terms(TermsRequest {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_is_kept_once_a_round_and_cut_short() {
    let world = World::start(|_| {}).await;
    let mut client = connect(&world, "client-0").await.unwrap();
    for number in 0..50 {
        let reason = format!("{number} <script>\u{7}{}", "x".repeat(5000));
        client.refuse(RefuseRequest { round: 0, reason }).await.unwrap();
    }
    let kept = loop {
        let kept = umbel_server::runs::show(&umbel_server::State::File(world.root.join("state.db")), "equal")
            .unwrap()
            .refusals;
        if !kept.is_empty() {
            break kept;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(kept.len(), 1);
    assert!(
        kept[0].reason.len() <= 1000 && !kept[0].reason.contains('\u{7}'),
        "{}",
        kept[0].reason
    );
}
