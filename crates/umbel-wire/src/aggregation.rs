//! Messages of secure aggregation as the streams of parts that the service defines.
//!
//! What is in them is judged by `umbel-secagg`; here only their length, order and digest are, before memory is taken.

use bytes::Bytes;
use tokio_stream::Stream;
use tonic::Status;
use umbel_secagg::MessageKind;

use crate::blob::{Assembler, Blob, chunks};
use crate::error::DecodeError;
use crate::moment::decode_round;
use crate::proto::{
    AggregationHeader, AttemptOver, Chunk, DeliverPart, FetchPart, NotYet, deliver_part, fetch_part,
};
use crate::transfer::next_part;

/// Which message of which attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "both sides fill it in")]
pub struct Place {
    /// The round, from 1.
    pub round: u64,
    /// The attempt, from 0.
    pub attempt: u32,
    /// The message.
    pub kind: MessageKind,
}

/// What a server answers to a request for its next message.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "these are the answers")]
pub enum Fetched {
    /// The message.
    Message(Vec<u8>),
    /// It is not there yet.
    NotYet,
    /// The client has no further part in the attempt: why.
    Over(String),
}

/// Why a server's message did not arrive.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "these are the two")]
pub enum FetchError {
    /// The connection, the server's own refusal, or a stream that broke off: another try may help.
    Broken(Status),
    /// What was announced cannot be the message that was asked for, so no honest server announces it. No memory was taken.
    Unacceptable(DecodeError),
}

impl From<Status> for FetchError {
    fn from(status: Status) -> Self {
        Self::Broken(status)
    }
}

impl From<DecodeError> for FetchError {
    fn from(error: DecodeError) -> Self {
        Self::Unacceptable(error)
    }
}

impl Place {
    /// Reads the numbers of a request or a header.
    ///
    /// # Errors
    ///
    /// A round of 0, or a kind that is none, or that the other side sends.
    pub fn decode(round: u64, attempt: u32, kind: u32, is_from_client: bool) -> Result<Self, DecodeError> {
        let round = decode_round("message.round", round)?.0;
        let known = MessageKind::from_code(kind).filter(|kind| kind.is_from_client() == is_from_client);
        let Some(kind) = known else {
            let expected = if is_from_client {
                "2, 4, 6, 8 or 10, which clients send"
            } else {
                "3, 5, 7 or 9, which clients fetch"
            };
            return Err(DecodeError::invalid("message.kind", expected, kind));
        };
        if kind == MessageKind::Offer {
            let expected = "3, 5, 7 or 9: the offer stands in the invitation";
            return Err(DecodeError::invalid("message.kind", expected, 1));
        }
        Ok(Self { round, attempt, kind })
    }

    fn header(self, blob: Blob) -> AggregationHeader {
        AggregationHeader {
            round: self.round,
            attempt: self.attempt,
            kind: self.kind.code().into(),
            blob: Some(blob.encode()),
        }
    }
}

/// The parts of a server's message.
pub fn fetch_parts(place: Place, message: Bytes) -> impl Stream<Item = FetchPart> + Send + use<> {
    let header = fetch_part::Part::Header(place.header(Blob::of(&message)));
    let chunks = chunks(message, 0).map(fetch_part::Part::Chunk);
    tokio_stream::iter(
        std::iter::once(header)
            .chain(chunks)
            .map(|part| FetchPart { part: Some(part) }),
    )
}

/// The one part that says that there is no message, for now or for good.
pub fn no_message(over: Option<String>) -> FetchPart {
    let part = match over {
        None => fetch_part::Part::NotYet(NotYet {}),
        Some(reason) => fetch_part::Part::Over(AttemptOver { reason }),
    };
    FetchPart { part: Some(part) }
}

/// The parts of a client's message.
pub fn deliver_parts(place: Place, message: Bytes) -> impl Stream<Item = DeliverPart> + Send + use<> {
    let header = deliver_part::Part::Header(place.header(Blob::of(&message)));
    let chunks = chunks(message, 0).map(deliver_part::Part::Chunk);
    tokio_stream::iter(
        std::iter::once(header)
            .chain(chunks)
            .map(|part| DeliverPart { part: Some(part) }),
    )
}

/// Takes in what a server answers to a request for the message at `place`, of at most `most_bytes`.
///
/// # Errors
///
/// Whatever broke the stream off, or a part that is not acceptable. Nothing is kept then.
pub async fn receive_fetched<S>(mut parts: S, place: Place, most_bytes: u64) -> Result<Fetched, FetchError>
where
    S: Stream<Item = Result<FetchPart, Status>> + Unpin,
{
    let header = match next_part(&mut parts).await?.and_then(|part| part.part) {
        Some(fetch_part::Part::Header(header)) => header,
        Some(fetch_part::Part::NotYet(_)) => return Ok(Fetched::NotYet),
        Some(fetch_part::Part::Over(over)) => return Ok(Fetched::Over(over.reason)),
        _ => {
            return Err(DecodeError::Missing {
                field: "fetch.header",
            }
            .into());
        }
    };
    let got = Place::decode(header.round, header.attempt, header.kind, false)?;
    if got != place {
        let expected = "the message that was asked for";
        return Err(DecodeError::invalid("fetch.header", expected, "another").into());
    }
    let mut message = Assembler::new(Blob::decode_up_to(header.blob.as_ref(), most_bytes)?);
    while let Some(part) = next_part(&mut parts).await? {
        match part.part {
            Some(fetch_part::Part::Chunk(chunk)) => push(&mut message, &chunk)?,
            _ => return Err(Status::from(DecodeError::Missing { field: "fetch.chunk" }).into()),
        }
    }
    Ok(Fetched::Message(message.finish().map_err(Status::from)?))
}

/// Takes a client's message in. `expect` is asked once the header has come and before anything is kept: it says how many bytes the
/// message may have, or refuses it.
///
/// # Errors
///
/// The refusal of `expect`, whatever broke the stream off, or a part that is not acceptable. Nothing is kept then.
pub async fn receive_delivered<S>(
    mut parts: S,
    expect: impl FnOnce(Place) -> Result<u64, Status>,
) -> Result<(Place, Vec<u8>), Status>
where
    S: Stream<Item = Result<DeliverPart, Status>> + Unpin,
{
    let Some(deliver_part::Part::Header(header)) = next_part(&mut parts).await?.and_then(|part| part.part)
    else {
        return Err(DecodeError::Missing {
            field: "deliver.header",
        }
        .into());
    };
    let place = Place::decode(header.round, header.attempt, header.kind, true)?;
    let most_bytes = expect(place)?;
    let mut message = Assembler::new(Blob::decode_up_to(header.blob.as_ref(), most_bytes)?);
    while let Some(part) = next_part(&mut parts).await? {
        match part.part {
            Some(deliver_part::Part::Chunk(chunk)) => push(&mut message, &chunk)?,
            _ => {
                return Err(DecodeError::Missing {
                    field: "deliver.chunk",
                }
                .into());
            }
        }
    }
    Ok((place, message.finish()?))
}

fn push(message: &mut Assembler, chunk: &Chunk) -> Result<(), Status> {
    Ok(message.push(chunk)?)
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    const PLACE: Place = Place {
        round: 3,
        attempt: 1,
        kind: MessageKind::MaskedInput,
    };

    fn message() -> Bytes {
        (0..300_000_u32).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    async fn receive(parts: Vec<DeliverPart>, most: u64) -> Result<(Place, Vec<u8>), Status> {
        receive_delivered(tokio_stream::iter(parts.into_iter().map(Ok)), |_| Ok(most)).await
    }

    #[tokio::test]
    async fn messages_arrive_whole_in_both_directions() {
        let sent = message();
        let parts: Vec<_> = deliver_parts(PLACE, sent.clone()).collect().await;
        assert_eq!(parts.len(), 3);
        let got = receive(parts, 300_000).await.unwrap();
        assert_eq!(got, (PLACE, sent.to_vec()));
        let place = Place {
            kind: MessageKind::Roster,
            ..PLACE
        };
        let parts = fetch_parts(place, sent.clone()).map(Ok);
        let got = receive_fetched(parts, place, 1 << 20).await.unwrap();
        assert_eq!(got, Fetched::Message(sent.to_vec()));
        for (over, expected) in [
            (None, Fetched::NotYet),
            (Some("gone".to_owned()), Fetched::Over("gone".to_owned())),
        ] {
            let part = tokio_stream::iter([Ok(no_message(over))]);
            assert_eq!(receive_fetched(part, place, 1).await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn a_server_that_announces_what_cannot_be_its_message_is_told_from_a_broken_stream() {
        let place = Place {
            kind: MessageKind::Roster,
            ..PLACE
        };
        let other = Place { attempt: 2, ..place };
        for (announced, most) in [(place, 299_999), (other, 300_000)] {
            let parts = fetch_parts(announced, message()).map(Ok);
            let error = receive_fetched(parts, place, most).await.unwrap_err();
            assert!(matches!(error, FetchError::Unacceptable(_)), "{error:?}");
        }
        let cut = fetch_parts(place, message()).take(2).map(Ok);
        let error = receive_fetched(cut, place, 300_000).await.unwrap_err();
        assert!(matches!(error, FetchError::Broken(_)), "{error:?}");
    }

    /// Each row: what is done to a good stream, and what the sender is told.
    #[tokio::test]
    async fn what_is_longer_or_other_than_the_terms_say_is_refused_by_its_header() {
        type Change = fn(&mut AggregationHeader);
        let rows: [(Change, &str); 7] = [
            (
                |h| h.round = 0,
                "`message.round`: expected a round, counted from 1, got 0",
            ),
            (
                |h| h.kind = 5,
                "`message.kind`: expected 2, 4, 6, 8 or 10, which clients send, got 5",
            ),
            (
                |h| h.kind = 4_000_000,
                "`message.kind`: expected 2, 4, 6, 8 or 10, which clients send, got 4000000",
            ),
            (|h| h.blob = None, "`blob`: expected a value, got nothing"),
            (
                |h| h.blob.as_mut().unwrap().size_bytes = u64::MAX,
                "`blob.size_bytes`: expected at most 300000, got 18446744073709551615",
            ),
            (
                |h| h.blob.as_mut().unwrap().size_bytes = 0,
                "`blob.size_bytes`: expected 1 or more, got 0",
            ),
            (
                |h| h.blob.as_mut().unwrap().size_bytes = 299_999,
                "`chunk.data`: expected at most 37855, got 37856",
            ),
        ];
        for (change, told) in rows {
            let mut parts: Vec<_> = deliver_parts(PLACE, message()).collect().await;
            let Some(deliver_part::Part::Header(header)) = &mut parts[0].part else {
                panic!("a header")
            };
            change(header);
            assert_eq!(receive(parts, 300_000).await.unwrap_err().message(), told);
        }
        let parts: Vec<_> = deliver_parts(PLACE, message()).collect().await;
        assert!(receive(parts[..2].to_vec(), 300_000).await.is_err(), "cut off");
        assert!(receive(parts[1..].to_vec(), 300_000).await.is_err(), "no header");
        assert!(receive(Vec::new(), 300_000).await.is_err());
    }
}
