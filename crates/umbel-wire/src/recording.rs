//! A run's inputs as a file, so that it can be replayed.
//!
//! One [`proto::RecordedInput`] after the other, each preceded by its length as a varint. A recording holds single
//! clients' updates before any noise: it is as secret as the clients' data, and made for tests.

use std::io::{self, Read, Write};

use bytes::Bytes;
use prost::Message as _;
use umbel_accounting::ClipNorm;
use umbel_mechanisms::Quantizer;
use umbel_protocol::{ClientId, ClientMessage, Input, StoreToken};

use crate::error::{DecodeError, EncodeError};
use crate::invitation::decode_clip_norm;
use crate::moment::{decode_moment, decode_round, encode_moment};
use crate::proto::recorded_input::received_message;
use crate::proto::{self, recorded_input};
use crate::report::{ExpectedReport, decode_update};
use crate::vector::encode_values;

/// The most bytes of a varint of 64 bits.
const MAX_VARINT_BYTES: usize = 10;

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// An input that is damaged or not acceptable. Inputs are counted from 0.
    #[error("input {index} of the recording: {source}")]
    Decode {
        /// Which.
        index: u64,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// An input that cannot be recorded.
    #[error("cannot record an input: {0}")]
    Encode(#[from] EncodeError),
    /// The file.
    #[error("a recording: {0}")]
    Io(#[from] io::Error),
    /// The file ends within an input. Inputs are counted from 0.
    #[error("input {index} of the recording: expected {expected} more bytes, got {got}")]
    Truncated {
        /// Which.
        index: u64,
        /// How many bytes are missing altogether.
        expected: u64,
        /// How many of these are there.
        got: u64,
    },
}

/// Appends one input to a recording. `clip_norm` is that of the run: an update for another is refused, because a grid
/// without its clip norm means nothing.
///
/// # Errors
///
/// A message without a form on the wire, an update for another clip norm, or an error of `output`.
pub fn write_input(
    output: &mut impl Write,
    input: &Input,
    clip_norm: ClipNorm,
) -> Result<(), RecordingError> {
    output.write_all(&encode_input(input, clip_norm)?.encode_length_delimited_to_vec())?;
    Ok(())
}

/// Reads the inputs of a recording one by one. None may take more than `max_input_bytes`, and nothing beyond one input is
/// held in memory. After an error the iteration is over.
pub fn read_inputs<R: Read>(recording: R, max_input_bytes: u64) -> Inputs<R> {
    Inputs {
        recording,
        max_input_bytes,
        index: 0,
        ended: false,
    }
}

/// See [`read_inputs`].
#[derive(Debug)]
pub struct Inputs<R> {
    recording: R,
    max_input_bytes: u64,
    index: u64,
    ended: bool,
}

impl<R: Read> Inputs<R> {
    fn read(&mut self) -> Result<Option<Input>, RecordingError> {
        let Some(length) = self.read_length()? else {
            return Ok(None);
        };
        if length > self.max_input_bytes {
            let source = DecodeError::TooLarge {
                field: "recorded_input",
                limit: self.max_input_bytes,
                got: length,
            };
            return Err(RecordingError::Decode {
                index: self.index,
                source,
            });
        }
        // `take` and not a buffer of the stated length: memory follows what is there.
        let mut bytes = Vec::new();
        self.recording.by_ref().take(length).read_to_end(&mut bytes)?;
        let got = bytes.len() as u64;
        if got < length {
            return Err(RecordingError::Truncated {
                index: self.index,
                expected: length,
                got,
            });
        }
        let decode = || {
            let message = proto::RecordedInput::decode(Bytes::from(bytes));
            decode_input(message.map_err(|source| DecodeError::Malformed {
                field: "recorded_input",
                source,
            })?)
        };
        decode().map(Some).map_err(|source| RecordingError::Decode {
            index: self.index,
            source,
        })
    }

    /// The length of the next input, or `None` at the end of the recording.
    fn read_length(&mut self) -> Result<Option<u64>, RecordingError> {
        let mut varint = Vec::with_capacity(MAX_VARINT_BYTES);
        loop {
            let start = varint.len();
            if self.recording.by_ref().take(1).read_to_end(&mut varint)? == 0 {
                let truncated = RecordingError::Truncated {
                    index: self.index,
                    expected: 1,
                    got: 0,
                };
                return if start == 0 { Ok(None) } else { Err(truncated) };
            }
            if varint[start] < 0x80 || varint.len() == MAX_VARINT_BYTES {
                let length = prost::decode_length_delimiter(&varint[..]);
                let malformed = |source| DecodeError::Malformed {
                    field: "recorded_input",
                    source,
                };
                return match length.map_err(malformed) {
                    Ok(length) => Ok(Some(length as u64)),
                    Err(source) => Err(RecordingError::Decode {
                        index: self.index,
                        source,
                    }),
                };
            }
        }
    }
}

impl<R: Read> Iterator for Inputs<R> {
    type Item = Result<Input, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let input = self.read().transpose();
        self.ended = !matches!(input, Some(Ok(_)));
        self.index += 1;
        input
    }
}

fn encode_input(input: &Input, clip_norm: ClipNorm) -> Result<proto::RecordedInput, EncodeError> {
    use recorded_input::Input as Form;
    let input = match input {
        Input::Abandon { reason } => Form::Abandon(recorded_input::Abandon {
            reason: reason.clone(),
        }),
        Input::Message { from, message } => Form::Message(recorded_input::ReceivedMessage {
            from: from.0,
            message: Some(received_message::Message::Report(encode_report(
                message, clip_norm,
            )?)),
        }),
        Input::Start { now } => Form::Start(recorded_input::Start {
            now: Some(encode_moment(*now)),
        }),
        Input::Stored { token } => Form::Stored(recorded_input::Stored { token: token.0 }),
        Input::Timeout { now } => Form::Timeout(recorded_input::Timeout {
            now: Some(encode_moment(*now)),
        }),
    };
    Ok(proto::RecordedInput { input: Some(input) })
}

fn encode_report(message: &ClientMessage, clip_norm: ClipNorm) -> Result<proto::Report, EncodeError> {
    let ClientMessage::Report { round, update } = message else {
        return Err(EncodeError::UnknownMessage);
    };
    // Equal updates have equal values and grids.
    if Quantizer::new(clip_norm)
        .accept(update.values().to_vec())
        .as_ref()
        != Ok(update)
    {
        return Err(EncodeError::OtherClipNorm);
    }
    Ok(proto::Report {
        round: round.0,
        clip_norm: clip_norm.value(),
        values: encode_values(update.values()).into(),
    })
}

fn decode_input(input: proto::RecordedInput) -> Result<Input, DecodeError> {
    use recorded_input::Input as Form;
    match input.input {
        None => Err(DecodeError::Missing {
            field: "recorded_input.input",
        }),
        Some(Form::Abandon(abandon)) => Ok(Input::Abandon {
            reason: abandon.reason,
        }),
        Some(Form::Message(message)) => match message.message {
            None => Err(DecodeError::Missing {
                field: "recorded_input.message",
            }),
            Some(received_message::Message::Report(report)) => Ok(Input::Message {
                from: ClientId(message.from),
                message: decode_report(&report)?,
            }),
        },
        Some(Form::Start(start)) => Ok(Input::Start {
            now: decode_moment("start.now", start.now.as_ref())?,
        }),
        Some(Form::Stored(stored)) => Ok(Input::Stored {
            token: StoreToken(stored.token),
        }),
        Some(Form::Timeout(timeout)) => Ok(Input::Timeout {
            now: decode_moment("timeout.now", timeout.now.as_ref())?,
        }),
    }
}

fn decode_report(report: &proto::Report) -> Result<ClientMessage, DecodeError> {
    let round = decode_round("report.round", report.round)?;
    let clip_norm = decode_clip_norm("report.clip_norm", report.clip_norm)?;
    // How many coordinates are right is the engine's business: a recording holds what it was given.
    let n_parameters = report.values.len() / 4;
    let update = decode_update(
        &report.values,
        ExpectedReport {
            clip_norm,
            n_parameters,
        },
    )?;
    Ok(ClientMessage::Report { round, update })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use umbel_protocol::{RoundId, Timestamp};

    use super::*;
    use crate::hex::{bytes_of, hex_of};

    const LIMIT: u64 = 1 << 20;

    fn clip_norm() -> ClipNorm {
        ClipNorm::new(0.5).unwrap()
    }

    fn report(from: u64, round: u64, values: Vec<i32>) -> Input {
        let update = Quantizer::new(clip_norm()).accept(values).unwrap();
        Input::Message {
            from: ClientId(from),
            message: ClientMessage::Report {
                round: RoundId(round),
                update,
            },
        }
    }

    fn record(inputs: &[Input]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for input in inputs {
            write_input(&mut bytes, input, clip_norm()).unwrap();
        }
        bytes
    }

    fn replay(bytes: &[u8]) -> Result<Vec<Input>, RecordingError> {
        read_inputs(bytes, LIMIT).collect()
    }

    /// Inputs have no equality of their own, because only tests would use it.
    fn assert_same(left: &Input, right: &Input) {
        match (left, right) {
            (Input::Abandon { reason: left }, Input::Abandon { reason: right }) => assert_eq!(left, right),
            (Input::Start { now: left }, Input::Start { now: right })
            | (Input::Timeout { now: left }, Input::Timeout { now: right }) => assert_eq!(left, right),
            (Input::Stored { token: left }, Input::Stored { token: right }) => assert_eq!(left, right),
            (
                Input::Message {
                    from: left_from,
                    message:
                        ClientMessage::Report {
                            round: left_round,
                            update: left,
                        },
                },
                Input::Message {
                    from: right_from,
                    message:
                        ClientMessage::Report {
                            round: right_round,
                            update: right,
                        },
                },
            ) => assert_eq!((left_from, left_round, left), (right_from, right_round, right)),
            _ => panic!("{left:?} is not {right:?}"),
        }
    }

    #[test]
    fn each_input_has_its_documented_bytes_in_both_directions() {
        let now = Timestamp::new(Duration::from_secs(5));
        let rows: [(Input, &[(&str, &str)]); 5] = [
            (
                Input::Abandon {
                    reason: "no".to_owned(),
                },
                &[
                    ("06", "length"),
                    ("0a 04", "abandon, 4 bytes"),
                    ("0a 02 6e 6f", "reason = \"no\""),
                ],
            ),
            (
                report(9, 3, vec![1, -1]),
                &[
                    ("1b", "length"),
                    ("12 19", "message, 25 bytes"),
                    ("08 09", "from = 9"),
                    ("12 15", "report, 21 bytes"),
                    ("  08 03", "round = 3"),
                    ("  11 00 00 00 00 00 00 e0 3f", "clip_norm = 0.5"),
                    ("  1a 08 01 00 00 00 ff ff ff ff", "values = 1, -1"),
                ],
            ),
            (
                Input::Start { now },
                &[
                    ("06", "length"),
                    ("1a 04", "start, 4 bytes"),
                    ("0a 02 08 05", "now: seconds = 5"),
                ],
            ),
            (
                Input::Stored {
                    token: StoreToken(128),
                },
                &[
                    ("05", "length"),
                    ("22 03", "stored, 3 bytes"),
                    ("08 80 01", "token = 128"),
                ],
            ),
            (
                Input::Timeout { now },
                &[
                    ("06", "length"),
                    ("2a 04", "timeout, 4 bytes"),
                    ("0a 02 08 05", "now: seconds = 5"),
                ],
            ),
        ];
        for (input, annotated) in rows {
            let bytes = record(std::slice::from_ref(&input));
            assert_eq!(hex_of(&bytes), hex_of(&bytes_of(annotated)), "{input:?}");
            let decoded = replay(&bytes_of(annotated)).unwrap();
            assert_eq!(decoded.len(), 1);
            assert_same(&decoded[0], &input);
        }
    }

    #[test]
    fn a_recording_that_is_cut_anywhere_but_between_inputs_is_refused() {
        let inputs = [Input::Stored { token: StoreToken(1) }, report(1, 1, vec![0; 50])];
        let (first, all) = (record(&inputs[..1]).len(), record(&inputs));
        for length in 0..all.len() {
            let replayed = replay(&all[..length]);
            match length {
                0 => assert!(replayed.unwrap().is_empty()),
                length if length == first => assert_eq!(replayed.unwrap().len(), 1),
                _ => assert!(
                    matches!(replayed, Err(RecordingError::Truncated { .. })),
                    "{length}"
                ),
            }
        }
        let error = replay(&all[..all.len() - 1]).unwrap_err().to_string();
        assert_eq!(
            error,
            "input 1 of the recording: expected 222 more bytes, got 221"
        );
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        let encoded = |input| proto::RecordedInput { input: Some(input) }.encode_length_delimited_to_vec();
        let of_report = |report| {
            let message = Some(received_message::Message::Report(report));
            encoded(recorded_input::Input::Message(recorded_input::ReceivedMessage {
                from: 1,
                message,
            }))
        };
        let good = proto::Report {
            round: 1,
            clip_norm: 0.5,
            values: encode_values(&[1 << 30]).into(),
        };
        for (bytes, expected) in [
            (
                vec![0x81, 0x80, 0x40],
                "`recorded_input`: expected at most 1048576, got 1048577",
            ),
            (
                vec![0xff; 11],
                "`recorded_input`: expected a protobuf message, got bytes that are none",
            ),
            (
                vec![0x02, 0x0a, 0x05],
                "`recorded_input`: expected a protobuf message, got bytes that are none",
            ),
            (
                vec![0x00],
                "`recorded_input.input`: expected a value, got nothing",
            ),
            (
                vec![0x02, 0x12, 0x00],
                "`recorded_input.message`: expected a value, got nothing",
            ),
            (
                vec![0x02, 0x1a, 0x00],
                "`start.now`: expected a value, got nothing",
            ),
            (
                vec![0x02, 0x2a, 0x00],
                "`timeout.now`: expected a value, got nothing",
            ),
            (
                of_report(proto::Report {
                    round: 0,
                    ..good.clone()
                }),
                "`report.round`: expected a round, counted from 1, got 0",
            ),
            (
                of_report(proto::Report {
                    clip_norm: f64::NAN,
                    ..good.clone()
                }),
                "`report.clip_norm`: expected a finite number above 0, got NaN",
            ),
            (
                of_report(proto::Report {
                    values: vec![0; 5].into(),
                    ..good.clone()
                }),
                "`report.values`: expected 4 × 1 bytes, got 5 bytes",
            ),
            (
                of_report(proto::Report {
                    values: encode_values(&[1 << 30, 1]).into(),
                    ..good.clone()
                }),
                "`report.values`: expected a sum of squares of at most 2^60",
            ),
        ] {
            let error = replay(&bytes).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("input 0 of the recording: {expected}")),
                "{error}"
            );
        }
        assert_eq!(replay(&of_report(good)).unwrap().len(), 1);
    }

    #[test]
    fn an_update_for_another_clip_norm_is_not_recorded() {
        let other = ClipNorm::new(0.25).unwrap();
        let mut bytes = Vec::new();
        let error = write_input(&mut bytes, &report(1, 1, vec![1]), other).unwrap_err();
        assert!(matches!(
            error,
            RecordingError::Encode(EncodeError::OtherClipNorm)
        ));
        assert!(bytes.is_empty());
    }

    fn any_input() -> impl Strategy<Value = Input> {
        let moment =
            || (any::<u64>(), 0u32..1_000_000_000).prop_map(|(s, n)| Timestamp::new(Duration::new(s, n)));
        prop_oneof![
            ".{0,20}".prop_map(|reason| Input::Abandon { reason }),
            (
                any::<u64>(),
                1u64..,
                prop::collection::vec(-(1 << 26)..(1 << 26), 0..50)
            )
                .prop_map(|(from, round, values)| report(from, round, values)),
            moment().prop_map(|now| Input::Start { now }),
            any::<u64>().prop_map(|token| Input::Stored {
                token: StoreToken(token)
            }),
            moment().prop_map(|now| Input::Timeout { now }),
        ]
    }

    proptest! {
        #[test]
        fn a_run_survives_its_recording(inputs in prop::collection::vec(any_input(), 0..20)) {
            let replayed = replay(&record(&inputs))?;
            prop_assert_eq!(replayed.len(), inputs.len());
            inputs.iter().zip(&replayed).for_each(|(sent, got)| assert_same(sent, got));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = replay(&bytes);
        }

        #[test]
        fn a_damaged_recording_never_panics(
            inputs in prop::collection::vec(any_input(), 1..5), place: prop::sample::Index, damage in 1u8..,
        ) {
            let mut bytes = record(&inputs);
            let place = place.index(bytes.len());
            bytes[place] ^= damage;
            let _ = replay(&bytes);
        }
    }
}
