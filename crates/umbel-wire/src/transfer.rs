//! Models and reports as the streams of parts that the service defines.
//!
//! Each part may take [`PART_LIMIT`], counted anew for each, so that size has no ceiling but a peer that says nothing is
//! not waited for. The work on a whole vector is done away from the threads that serve connections.

use bytes::Bytes;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;
use umbel_protocol::{ClientMessage, Invitation, RoundId};

use crate::blob::chunks;
use crate::error::DecodeError;
use crate::invitation::{IncomingInvitation, OutgoingInvitation};
use crate::limits::PART_LIMIT;
use crate::proto::{BlobHeader, DownloadPart, UploadPart, download_part, upload_part};
use crate::report::{ExpectedReport, IncomingReport, OutgoingReport};

/// The parts of a model from `offset` on, for [`proto::DownloadRequest`](crate::proto::DownloadRequest).
///
/// # Errors
///
/// An offset behind the end.
pub fn model_parts(
    invitation: &OutgoingInvitation,
    offset: u64,
) -> Result<impl Stream<Item = DownloadPart> + Send + use<>, DecodeError> {
    let model = invitation.model().clone();
    if offset > model.len() as u64 {
        let expected = format_args!("at most {}, the bytes of the model", model.len());
        return Err(DecodeError::invalid("download.offset", expected, offset));
    }
    let header: BlobHeader = invitation.blob().encode();
    let header = DownloadPart {
        part: Some(download_part::Part::Header(header)),
    };
    let chunks = chunks(model, offset).map(|chunk| DownloadPart {
        part: Some(download_part::Part::Chunk(chunk)),
    });
    Ok(tokio_stream::iter(std::iter::once(header).chain(chunks)))
}

/// Takes the parts of a model in, until it is complete.
///
/// # Errors
///
/// Whatever broke the stream off, or a part that is not acceptable. After an error of the connection `invitation` holds
/// what had come before, and the download may go on from [`IncomingInvitation::received`]; after
/// `INVALID_ARGUMENT` or `RESOURCE_EXHAUSTED` the model is to be given up.
pub async fn receive_model<S>(invitation: &mut IncomingInvitation, mut parts: S) -> Result<(), Status>
where
    S: Stream<Item = Result<DownloadPart, Status>> + Unpin,
{
    match next_part(&mut parts).await?.and_then(|part| part.part) {
        Some(download_part::Part::Header(header)) if header == invitation.blob().encode() => {}
        Some(download_part::Part::Header(_)) => {
            let expected = "the size and digest that the invitation announced";
            return Err(DecodeError::invalid("download.header", expected, "others").into());
        }
        _ => {
            return Err(DecodeError::Missing {
                field: "download.header",
            }
            .into());
        }
    }
    while let Some(part) = next_part(&mut parts).await? {
        match part.part {
            Some(download_part::Part::Chunk(chunk)) => invitation.push(&chunk)?,
            _ => {
                return Err(DecodeError::Missing {
                    field: "download.chunk",
                }
                .into());
            }
        }
    }
    Ok(())
}

/// Checks and decodes a model that has come, away from this thread.
///
/// # Errors
///
/// As [`IncomingInvitation::finish`].
pub async fn finish_model(invitation: IncomingInvitation) -> Result<Invitation, Status> {
    off_thread(move || invitation.finish()).await
}

/// The parts of a report.
pub fn report_parts(report: OutgoingReport) -> impl Stream<Item = UploadPart> + Send {
    let values: Bytes = report.values().clone();
    let header = UploadPart {
        part: Some(upload_part::Part::Header(report.into_header())),
    };
    let chunks = chunks(values, 0).map(|chunk| UploadPart {
        part: Some(upload_part::Part::Chunk(chunk)),
    });
    tokio_stream::iter(std::iter::once(header).chain(chunks))
}

/// Takes a report in. `expect` is asked once the header has come and before anything is kept: it says what the round
/// that the report is for demands, or refuses the report.
///
/// # Errors
///
/// The refusal of `expect`, whatever broke the stream off, or a part that is not acceptable. Nothing is kept then.
pub async fn receive_report<S>(
    mut parts: S,
    expect: impl FnOnce(RoundId) -> Result<ExpectedReport, Status>,
) -> Result<ClientMessage, Status>
where
    S: Stream<Item = Result<UploadPart, Status>> + Unpin,
{
    let Some(upload_part::Part::Header(header)) = next_part(&mut parts).await?.and_then(|part| part.part)
    else {
        return Err(DecodeError::Missing {
            field: "upload.header",
        }
        .into());
    };
    let expected = expect(IncomingReport::round_of(&header)?)?;
    let mut report = IncomingReport::decode(&header, expected)?;
    while let Some(part) = next_part(&mut parts).await? {
        match part.part {
            Some(upload_part::Part::Chunk(chunk)) => report.push(&chunk)?,
            _ => {
                return Err(DecodeError::Missing {
                    field: "upload.chunk",
                }
                .into());
            }
        }
    }
    off_thread(move || report.finish()).await
}

/// The next part, within [`PART_LIMIT`].
pub(crate) async fn next_part<T>(
    parts: &mut (impl Stream<Item = Result<T, Status>> + Unpin),
) -> Result<Option<T>, Status> {
    match tokio::time::timeout(PART_LIMIT, parts.next()).await {
        Ok(part) => part.transpose(),
        Err(_) => {
            let seconds = PART_LIMIT.as_secs();
            Err(Status::deadline_exceeded(format!(
                "expected the next part within {seconds} s, got nothing"
            )))
        }
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DecodeError> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Status::unavailable("shutting down")),
    }
}

#[cfg(test)]
mod tests {
    use umbel_accounting::ClipNorm;
    use umbel_mechanisms::Quantizer;
    use umbel_protocol::Timestamp;

    use super::*;

    const EXPECTED_PARAMETERS: usize = 100_000;

    fn clip_norm() -> ClipNorm {
        ClipNorm::new(1.0).unwrap()
    }

    fn report() -> OutgoingReport {
        let update = Quantizer::new(clip_norm())
            .accept(vec![-7; EXPECTED_PARAMETERS])
            .unwrap();
        OutgoingReport::new(&ClientMessage::Report {
            round: RoundId(2),
            update,
        })
        .unwrap()
    }

    fn expect(round: RoundId) -> Result<ExpectedReport, Status> {
        match round {
            RoundId(2) => Ok(ExpectedReport {
                clip_norm: clip_norm(),
                n_parameters: EXPECTED_PARAMETERS,
            }),
            _ => Err(Status::failed_precondition("another round is open")),
        }
    }

    async fn receive(parts: Vec<Result<UploadPart, Status>>) -> Result<ClientMessage, Status> {
        receive_report(tokio_stream::iter(parts), expect).await
    }

    /// Each row: what is done to a good stream of a header and two chunks, and what the sender is told.
    #[tokio::test]
    async fn a_stream_that_is_not_as_defined_is_refused() {
        type Change = fn(&mut Vec<Result<UploadPart, Status>>);
        let rows: [(Change, &str); 8] = [
            (Vec::clear, "`upload.header`: expected a value, got nothing"),
            (
                |parts| drop(parts.remove(0)),
                "`upload.header`: expected a value, got nothing",
            ),
            (
                |parts| drop(parts.pop()),
                "`blob`: expected 400000 bytes, got 262144 bytes",
            ),
            (|parts| parts.swap(1, 2), "`chunk.offset`: expected 0, got 262144"),
            (
                |parts| parts.push(parts[2].clone()),
                "`chunk.offset`: expected 400000, got 262144",
            ),
            (
                |parts| parts.push(parts[0].clone()),
                "`upload.chunk`: expected a value, got nothing",
            ),
            (
                |parts| parts.push(Ok(UploadPart { part: None })),
                "`upload.chunk`: expected a value, got nothing",
            ),
            (|parts| parts.insert(2, Err(Status::cancelled("gone"))), "gone"),
        ];
        for (change, told) in rows {
            let mut parts: Vec<_> = report_parts(report()).map(Ok).collect().await;
            assert_eq!(parts.len(), 3);
            change(&mut parts);
            assert_eq!(receive(parts).await.unwrap_err().message(), told);
        }
    }

    #[tokio::test]
    async fn a_report_for_another_round_is_refused_by_its_header_alone() {
        let mut parts: Vec<_> = report_parts(report()).map(Ok).take(1).collect().await;
        if let Ok(UploadPart {
            part: Some(upload_part::Part::Header(header)),
        }) = &mut parts[0]
        {
            header.round = 1;
        }
        assert_eq!(
            receive(parts).await.unwrap_err().message(),
            "another round is open"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_falls_silent_is_given_up() {
        let parts = report_parts(report())
            .map(Ok)
            .take(2)
            .chain(tokio_stream::pending());
        let told = receive_report(parts, expect).await.unwrap_err();
        assert_eq!(told.message(), "expected the next part within 30 s, got nothing");
        assert_eq!(told.code(), tonic::Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_download_goes_on_where_it_broke_off() {
        let model: Vec<f32> = (0..40_000u16).map(f32::from).chain(vec![0.5; 160_000]).collect();
        let sent = Invitation {
            round: RoundId(1),
            clip_norm: clip_norm(),
            clip_indicator: None,
            deadline: Timestamp::default(),
            model: model.into(),
        };
        let outgoing = OutgoingInvitation::new(&sent);
        let mut incoming = IncomingInvitation::decode(outgoing.message(), 1 << 20).unwrap();
        let lost = [Err(Status::unavailable("connection lost"))];
        let parts = model_parts(&outgoing, 0)
            .unwrap()
            .map(Ok)
            .take(3)
            .chain(tokio_stream::iter(lost));
        assert_eq!(
            receive_model(&mut incoming, parts).await.unwrap_err().message(),
            "connection lost"
        );
        let received = incoming.received();
        assert_eq!(received, 2 * 262_144);

        let other = [Ok(DownloadPart {
            part: Some(download_part::Part::Header(BlobHeader::default())),
        })];
        let told = receive_model(&mut incoming, tokio_stream::iter(other))
            .await
            .unwrap_err();
        let expected =
            "`download.header`: expected the size and digest that the invitation announced, got others";
        assert_eq!(told.message(), expected);

        let rest = model_parts(&outgoing, received).unwrap().map(Ok);
        receive_model(&mut incoming, rest).await.unwrap();
        assert_eq!(finish_model(incoming).await.unwrap().model, sent.model);

        let size = outgoing.model().len() as u64;
        assert_eq!(
            model_parts(&outgoing, size)
                .unwrap()
                .collect::<Vec<_>>()
                .await
                .len(),
            1
        );
        assert!(model_parts(&outgoing, size + 1).is_err());
    }
}
