//! Who is let in over mutual TLS, who is not, and what they are told.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use umbel_wire::proto::federation_client::FederationClient;
use umbel_wire::proto::federation_server::Federation;
use umbel_wire::proto::{
    CheckInRequest, CheckInResponse, DownloadPart, DownloadRequest, LedgerRequest, LedgerResponse,
    RefuseRequest, RefuseResponse, TermsRequest, TermsResponse, UploadPart, UploadResponse, Wait,
    check_in_response,
};
use umbel_wire::tls::{TlsFiles, client_config, client_verifier, server_config};
use umbel_wire::transport;

use crate::support::{Authority, Server, serve, write};

/// Tells everybody to wait for as many milliseconds as their certificate has bytes.
struct Waiting;

#[tonic::async_trait]
impl Federation for Waiting {
    type DownloadStream = Pin<Box<dyn Stream<Item = Result<DownloadPart, Status>> + Send>>;
    type FetchStream = Pin<Box<dyn Stream<Item = Result<umbel_wire::proto::FetchPart, Status>> + Send>>;

    async fn fetch(
        &self,
        _: Request<umbel_wire::proto::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn deliver(
        &self,
        _: Request<Streaming<umbel_wire::proto::DeliverPart>>,
    ) -> Result<Response<umbel_wire::proto::DeliverResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn check_in(&self, request: Request<CheckInRequest>) -> Result<Response<CheckInResponse>, Status> {
        let certificate = transport::peer_certificate(&request);
        let certificate = certificate.ok_or_else(|| Status::unauthenticated("no certificate"))?;
        let retry_after_millis = certificate.len() as u64;
        let answer = Some(check_in_response::Answer::Wait(Wait { retry_after_millis }));
        Ok(Response::new(CheckInResponse {
            now: None,
            answer,
            ledger_line: Bytes::new(),
        }))
    }

    async fn download(&self, _: Request<DownloadRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        Err(Status::failed_precondition("no round is open"))
    }

    async fn upload(&self, _: Request<Streaming<UploadPart>>) -> Result<Response<UploadResponse>, Status> {
        Err(Status::failed_precondition("no round is open"))
    }

    async fn terms(&self, _: Request<TermsRequest>) -> Result<Response<TermsResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn ledger(&self, _: Request<LedgerRequest>) -> Result<Response<LedgerResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn refuse(&self, _: Request<RefuseRequest>) -> Result<Response<RefuseResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

async fn waiting(files: &TlsFiles) -> Server {
    serve(server_config(files).expect("a configuration"), Waiting).await
}

/// Connects and checks in: what a client is told, and why it failed.
async fn check_in(address: &str, config: Arc<ClientConfig>) -> Result<u64, String> {
    let channel = transport::connect(address, config)
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::new(CheckInRequest { hold_millis: 0 });
    let response = FederationClient::new(channel).check_in(request).await;
    match response
        .map_err(|status| transport::explain(&status))?
        .into_inner()
        .answer
    {
        Some(check_in_response::Answer::Wait(wait)) => Ok(wait.retry_after_millis),
        other => panic!("expected to be told to wait, got {other:?}"),
    }
}

/// A client without a certificate, or with an older TLS, as no setting of this crate makes it.
fn lax_config(authority: &Authority, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(authority.file("authority.pem")).expect("a certificate");
    roots.add(certificate).expect("an authority");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

#[tokio::test]
async fn a_client_of_the_authority_is_let_in_and_known_by_its_certificate() {
    let authority = Authority::new("ours");
    let server = waiting(&authority.server()).await;
    let files = authority.client();
    let length = CertificateDer::from_pem_file(&files.certificate).unwrap().len() as u64;
    assert_eq!(
        check_in(&server.address, client_config(&files).unwrap()).await,
        Ok(length)
    );
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new("ours");
    let mut server = waiting(&authority.server()).await;
    let config = lax_config(&authority, &rustls::version::TLS13);
    let told = check_in(&server.address, config).await.unwrap_err();
    assert_eq!(told, "the server demands a client certificate");
    assert_eq!(
        server.refusals.recv().await.unwrap(),
        "the peer showed no certificate"
    );
}

#[tokio::test]
async fn a_client_of_tls_1_2_is_refused() {
    let authority = Authority::new("ours");
    let mut server = waiting(&authority.server()).await;
    let config = lax_config(&authority, &rustls::version::TLS12);
    let told = check_in(&server.address, config).await.unwrap_err();
    assert!(told.ends_with("the peer does not speak TLS 1.3"), "{told}");
    assert_eq!(
        server.refusals.recv().await.unwrap(),
        "the peer does not speak TLS 1.3"
    );
}

/// Each row: a client's files, and what the server says of it.
#[tokio::test]
async fn clients_with_the_wrong_certificate_are_refused_with_the_reason() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let namesake = Authority::new("ours");
    let mut server = waiting(&ours.server()).await;
    let of_other = TlsFiles {
        authority: ours.file("authority.pem"),
        ..other.client()
    };
    let of_namesake = TlsFiles {
        authority: ours.file("authority.pem"),
        ..namesake.client()
    };
    for (files, reason) in [
        (
            of_namesake,
            "is not from an authority in this side's `authority` file",
        ),
        (
            of_other,
            "is not from an authority in this side's `authority` file",
        ),
        (
            ours.sign("expired", "client-2", ClientAuth, (2000, 2001)),
            "certificate expired",
        ),
        (
            ours.sign("early", "client-3", ClientAuth, (2090, 2100)),
            "not valid yet",
        ),
        (
            ours.sign("server-2", "localhost", ServerAuth, (2000, 2100)),
            "does not allow extended key usage",
        ),
    ] {
        check_in(&server.address, client_config(&files).unwrap())
            .await
            .unwrap_err();
        let refusal = server.refusals.recv().await.unwrap();
        assert!(refusal.contains(reason), "{refusal}");
    }
}

/// A revoked certificate opens no connection, and a call on a connection that is open already is found out by checking the
/// certificate again.
#[tokio::test]
async fn a_revoked_client_is_refused_and_others_are_not() {
    let authority = Authority::new("ours");
    let (good, bad) = (
        authority.client(),
        authority.sign("client-9", "client-9", ClientAuth, (2000, 2100)),
    );
    let files = TlsFiles {
        revoked: Some(authority.revoke(&bad.certificate)),
        ..authority.server()
    };
    let mut server = waiting(&files).await;
    let told = check_in(&server.address, client_config(&bad).unwrap())
        .await
        .unwrap_err();
    assert_eq!(told, "the peer says that this side's certificate is revoked");
    let refusal = server.refusals.recv().await.unwrap();
    assert!(refusal.contains("is revoked"), "{refusal}");
    check_in(&server.address, client_config(&good).unwrap())
        .await
        .unwrap();

    let now = rustls::pki_types::UnixTime::now();
    let verifier = client_verifier(&files).unwrap();
    for (files, accepted) in [(good, true), (bad, false)] {
        let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
        assert_eq!(
            verifier.verify_client_cert(&certificate, &[], now).is_ok(),
            accepted
        );
    }
}

#[tokio::test]
async fn without_a_current_list_of_the_revoked_nobody_is_let_in() {
    let authority = Authority::new("ours");
    let files = TlsFiles {
        revoked: Some(authority.revoke_nobody_until(2001)),
        ..authority.server()
    };
    let mut server = waiting(&files).await;
    check_in(&server.address, client_config(&authority.client()).unwrap())
        .await
        .unwrap_err();
    let refusal = server.refusals.recv().await.unwrap();
    assert!(
        refusal.contains("list of revoked certificates has expired"),
        "{refusal}"
    );
}

/// Each row: a server's files, and what its client says of it.
#[tokio::test]
async fn servers_with_the_wrong_certificate_are_refused_with_the_reason() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let namesake = Authority::new("ours");
    let config = client_config(&ours.client()).unwrap();
    for (files, reason) in [
        (
            namesake.server(),
            "is not from an authority in this side's `authority` file",
        ),
        (
            other.server(),
            "is not from an authority in this side's `authority` file",
        ),
        (
            ours.sign("expired", "localhost", ServerAuth, (2000, 2001)),
            "certificate expired",
        ),
        (
            ours.sign("early", "localhost", ServerAuth, (2090, 2100)),
            "not valid yet",
        ),
        (
            ours.sign("other-name", "example.org", ServerAuth, (2000, 2100)),
            "not valid for name \"localhost\"",
        ),
        (
            ours.sign("client-2", "localhost", ClientAuth, (2000, 2100)),
            "does not allow extended key usage",
        ),
    ] {
        let server = waiting(&files).await;
        let told = check_in(&server.address, Arc::clone(&config)).await.unwrap_err();
        assert!(told.contains(reason), "{told}");
        assert!(
            told.starts_with(&format!("cannot connect to `{}`: ", server.address)),
            "{told}"
        );
    }
}

#[tokio::test]
async fn what_is_not_tls_is_refused_and_others_are_still_served() {
    let authority = Authority::new("ours");
    let mut server = waiting(&authority.server()).await;
    for nonsense in [
        "GET / HTTP/1.1\r\n\r\n",
        "SSH-2.0-OpenSSH_9.9\r\n",
        "\0\0\0\0\0\0\0\0",
    ] {
        let mut tcp = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        tcp.write_all(nonsense.as_bytes()).await.unwrap();
        server.refusals.recv().await.unwrap();
    }
    check_in(&server.address, client_config(&authority.client()).unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_offer_http_2_is_refused() {
    let authority = Authority::new("ours");
    let mut server = waiting(&authority.server()).await;
    let mut config = (*client_config(&authority.client()).unwrap()).clone();
    config.alpn_protocols.clear();
    let refused = check_in(&server.address, Arc::new(config)).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(
        server.refusals.recv().await.unwrap(),
        "the peer does not offer HTTP/2 (ALPN `h2`)"
    );
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let authority = Authority::new("ours");
    let config = client_config(&authority.client()).unwrap();
    for address in [
        "",
        "localhost",
        "localhost:",
        "localhost:99999",
        "https://localhost:1",
        "localhost:1/x",
        "a b:1",
        "me@h:1",
    ] {
        let error = transport::connect(address, Arc::clone(&config))
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            format!("`{address}`: expected `host:port`, as in `fl.example.org:8443`")
        );
    }
}

/// Each row: one bad file of three, and what is said of it.
#[test]
fn bad_files_are_refused_by_name_and_reason() {
    let authority = Authority::new("ours");
    let good = authority.server();
    let empty = write(authority.file("empty.pem"), "");
    let torn = write(authority.file("torn.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let not_der = write(
        authority.file("not-der.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let huge = write(authority.file("huge.pem"), &" ".repeat((4 << 20) + 1));
    let missing = authority.file("missing.pem");
    let good = || good.clone();
    for (files, named, reason) in [
        (
            TlsFiles {
                certificate: missing.clone(),
                ..good()
            },
            "missing.pem",
            "No such file",
        ),
        (
            TlsFiles {
                key: missing.clone(),
                ..good()
            },
            "missing.pem",
            "No such file",
        ),
        (
            TlsFiles {
                authority: missing,
                ..good()
            },
            "missing.pem",
            "No such file",
        ),
        (
            TlsFiles {
                certificate: empty.clone(),
                ..good()
            },
            "empty.pem",
            "expected certificates in PEM, got a file without any",
        ),
        (
            TlsFiles { key: empty, ..good() },
            "empty.pem",
            "expected one private key in PEM, not encrypted, got a file without any",
        ),
        (
            TlsFiles {
                key: good().certificate,
                ..good()
            },
            "server.pem",
            "expected one private key",
        ),
        (
            TlsFiles {
                certificate: good().key,
                ..good()
            },
            "server-key.pem",
            "expected certificates in PEM",
        ),
        (
            TlsFiles {
                authority: torn,
                ..good()
            },
            "torn.pem",
            "expected certificates in PEM",
        ),
        (
            TlsFiles {
                authority: not_der.clone(),
                ..good()
            },
            "not-der.pem",
            "cannot be used as an authority",
        ),
        (
            TlsFiles {
                certificate: not_der,
                ..good()
            },
            "not-der.pem",
            "cannot be used together",
        ),
        (
            TlsFiles {
                authority: huge,
                ..good()
            },
            "huge.pem",
            "expected at most 4 MiB of PEM, got a larger file",
        ),
        (
            TlsFiles {
                key: authority.client().key,
                ..good()
            },
            "client-key.pem",
            "cannot be used together",
        ),
    ] {
        for error in [server_config(&files).err(), client_config(&files).err()] {
            let error = error.expect("a refusal").to_string();
            assert!(error.contains(named) && error.contains(reason), "{error}");
        }
    }
}
