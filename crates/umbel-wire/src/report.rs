//! Reports: a client's update on its way to the server.

use bytes::Bytes;
use umbel_accounting::ClipNorm;
use umbel_mechanisms::{QuantizedUpdate, Quantizer};
use umbel_protocol::{ClientMessage, RoundId};

use crate::blob::{Assembler, Blob};
use crate::error::{DecodeError, EncodeError};
use crate::invitation::vector_bytes;
use crate::moment::decode_round;
use crate::proto;
use crate::vector::{decode_values, encode_values};

/// A report as it is sent.
#[derive(Debug, Clone)]
pub struct OutgoingReport {
    header: proto::ReportHeader,
    values: Bytes,
}

impl OutgoingReport {
    /// Encodes a report. Copies the update once.
    ///
    /// # Errors
    ///
    /// A message that is no report.
    pub fn new(message: &ClientMessage) -> Result<Self, EncodeError> {
        let ClientMessage::Report { round, update } = message else {
            return Err(EncodeError::UnknownMessage);
        };
        let values = Bytes::from(encode_values(update.values()));
        let header = proto::ReportHeader {
            round: round.0,
            coordinates: update.values().len() as u64,
            blob: Some(Blob::of(&values).encode()),
        };
        Ok(Self { header, values })
    }

    /// The announcement.
    pub fn header(&self) -> &proto::ReportHeader {
        &self.header
    }

    /// The announcement, for sending.
    pub(crate) fn into_header(self) -> proto::ReportHeader {
        self.header
    }

    /// The bytes of the update.
    pub fn values(&self) -> &Bytes {
        &self.values
    }
}

/// What the server knows of a report before it comes.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "callers fill it in; a further demand is a breaking change on purpose"
)]
pub struct ExpectedReport {
    /// The clip norm of the round.
    pub clip_norm: ClipNorm,
    /// Parameters of the round's model, and one more where the round asks for a clip indicator.
    pub n_parameters: usize,
}

/// A report that the server has been announced, while its update arrives.
#[derive(Debug)]
pub struct IncomingReport {
    round: RoundId,
    expected: ExpectedReport,
    values: Assembler,
}

impl IncomingReport {
    /// The round that a report is for: what the server needs in order to know what to expect.
    ///
    /// # Errors
    ///
    /// A round of 0.
    pub fn round_of(header: &proto::ReportHeader) -> Result<RoundId, DecodeError> {
        decode_round("report.round", header.round)
    }

    /// Checks an announcement. Nothing is allocated for the update before its bytes come.
    ///
    /// # Errors
    ///
    /// A round of 0, another number of coordinates than the model has parameters, another size than that number says.
    pub fn decode(header: &proto::ReportHeader, expected: ExpectedReport) -> Result<Self, DecodeError> {
        let round = Self::round_of(header)?;
        if header.coordinates != expected.n_parameters as u64 {
            let n_parameters = format_args!("{}, as the model has parameters", expected.n_parameters);
            return Err(DecodeError::invalid(
                "report.coordinates",
                n_parameters,
                header.coordinates,
            ));
        }
        let blob = Blob::decode(header.blob.as_ref(), vector_bytes(expected.n_parameters))?;
        Ok(Self {
            round,
            expected,
            values: Assembler::new(blob),
        })
    }

    /// Takes the next chunk of the update.
    ///
    /// # Errors
    ///
    /// As [`Assembler::push`].
    pub fn push(&mut self, chunk: &proto::Chunk) -> Result<(), DecodeError> {
        self.values.push(chunk)
    }

    /// How many bytes of the update have come.
    pub fn received(&self) -> u64 {
        self.values.received()
    }

    /// The report with its update.
    ///
    /// # Errors
    ///
    /// An update that is not complete, is not the one announced, or is longer than the clip norm.
    pub fn finish(self) -> Result<ClientMessage, DecodeError> {
        let values = self.values.finish()?;
        let update = decode_update(&values, self.expected)?;
        Ok(ClientMessage::Report {
            round: self.round,
            update,
        })
    }
}

/// Reads an update, and checks its norm exactly.
pub(crate) fn decode_update(values: &[u8], expected: ExpectedReport) -> Result<QuantizedUpdate, DecodeError> {
    let values = decode_values("report.values", values, expected.n_parameters)?;
    Quantizer::new(expected.clip_norm).accept(values).map_err(|_| {
        let bound = "a sum of squares of at most 2^60, the square of the clip norm in grid units";
        DecodeError::invalid("report.values", bound, "a larger one")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::blob::chunks;
    use crate::hex::{bytes_of, hex_of};

    fn expected(n_parameters: usize) -> ExpectedReport {
        ExpectedReport {
            clip_norm: ClipNorm::new(2.0).unwrap(),
            n_parameters,
        }
    }

    fn report(round: u64, values: Vec<i32>) -> ClientMessage {
        let update = Quantizer::new(expected(0).clip_norm).accept(values).unwrap();
        ClientMessage::Report {
            round: RoundId(round),
            update,
        }
    }

    fn receive(report: &OutgoingReport, expected: ExpectedReport) -> Result<ClientMessage, DecodeError> {
        let mut incoming = IncomingReport::decode(report.header(), expected)?;
        for chunk in chunks(report.values().clone(), 0) {
            incoming.push(&chunk)?;
        }
        incoming.finish()
    }

    /// Field numbers, wire types and values of a report of the integers 2^29 and −2 for round 300.
    const ENCODED: [(&str, &str); 5] = [
        ("08 ac 02", "round = 300"),
        ("10 02", "coordinates = 2"),
        ("1a 24", "blob, 36 bytes"),
        ("  08 08", "size_bytes = 8"),
        (
            "  12 20 779ec79807c6f142c9b2271a994f74936baa4ea85f3d0d717bfd2612af0af623",
            "sha256 of 00 00 00 20 fe ff ff ff",
        ),
    ];

    #[test]
    fn a_report_has_its_documented_bytes_in_both_directions() {
        let sent = report(300, vec![1 << 29, -2]);
        let outgoing = OutgoingReport::new(&sent).unwrap();
        assert_eq!(
            hex_of(&outgoing.header().encode_to_vec()),
            hex_of(&bytes_of(&ENCODED))
        );
        assert_eq!(hex_of(outgoing.values()), "00000020feffffff");

        let header = proto::ReportHeader::decode(&bytes_of(&ENCODED)[..]).unwrap();
        let mut incoming = IncomingReport::decode(&header, expected(2)).unwrap();
        let data = Bytes::from(bytes_of(&[("00 00 00 20", "2^29"), ("fe ff ff ff", "-2")]));
        incoming.push(&proto::Chunk { offset: 0, data }).unwrap();
        let ClientMessage::Report { round, update } = incoming.finish().unwrap() else {
            panic!("a report")
        };
        assert_eq!((round, update.values()), (RoundId(300), &[1 << 29, -2][..]));
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        type Change = fn(&mut proto::ReportHeader);
        let rows: [(Change, &str); 5] = [
            (
                |m| m.round = 0,
                "`report.round`: expected a round, counted from 1, got 0",
            ),
            (
                |m| m.coordinates = 1,
                "`report.coordinates`: expected 2, as the model has parameters, got 1",
            ),
            (
                |m| m.coordinates = u64::MAX,
                "`report.coordinates`: expected 2, as the model has parameters, got 18446744073709551615",
            ),
            (|m| m.blob = None, "`blob`: expected a value, got nothing"),
            (
                |m| m.blob.as_mut().unwrap().size_bytes = 9,
                "`blob.size_bytes`: expected at most 8, got 9",
            ),
        ];
        let good = OutgoingReport::new(&report(1, vec![3, 4])).unwrap();
        for (change, message) in rows {
            let mut header = good.header().clone();
            change(&mut header);
            assert_eq!(
                IncomingReport::decode(&header, expected(2))
                    .unwrap_err()
                    .to_string(),
                message
            );
        }
    }

    #[test]
    fn an_update_longer_than_the_clip_norm_is_refused_to_the_last_unit() {
        let send = |values: &[i32]| {
            let values = Bytes::from(encode_values(values));
            let blob = Some(Blob::of(&values).encode());
            let header = proto::ReportHeader {
                round: 1,
                coordinates: 2,
                blob,
            };
            receive(&OutgoingReport { header, values }, expected(2))
        };
        assert!(send(&[1 << 30, 0]).is_ok());
        for too_long in [[1 << 30, 1], [i32::MIN, i32::MIN], [i32::MAX, 0]] {
            let error = send(&too_long).unwrap_err().to_string();
            assert_eq!(
                error,
                "`report.values`: expected a sum of squares of at most 2^60, the square of the clip norm in grid units, \
                 got a larger one"
            );
        }
    }

    proptest! {
        #[test]
        fn reports_survive(round in 1u64.., values in prop::collection::vec(-(1 << 26)..(1 << 26), 0..50)) {
            let sent = report(round, values);
            let outgoing = OutgoingReport::new(&sent).unwrap();
            let n_parameters = usize::try_from(outgoing.header().coordinates).unwrap();
            let (ClientMessage::Report { round: got_round, update: got }, ClientMessage::Report { round, update }) =
                (receive(&outgoing, expected(n_parameters))?, sent)
            else {
                panic!("reports")
            };
            prop_assert_eq!((got_round, got), (round, update));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(header) = proto::ReportHeader::decode(&bytes[..]) {
                let _ = IncomingReport::decode(&header, expected(2));
            }
            let _ = decode_update(&bytes, expected(bytes.len() / 4));
        }
    }
}
