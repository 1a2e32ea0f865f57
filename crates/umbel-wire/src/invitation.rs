//! Invitations, and the model that goes with them.

use bytes::Bytes;
use umbel_accounting::ClipNorm;
use umbel_mechanisms::GRID_UNITS;
use umbel_protocol::{Invitation, RoundId, Timestamp};

use crate::blob::{Assembler, Blob};
use crate::error::DecodeError;
use crate::moment::{decode_moment, decode_round, encode_moment};
use crate::proto;
use crate::vector::{NUMBER_BYTES, decode_parameters, encode_parameters};

/// An invitation as it is sent: made once a round, since it is the same for all clients, and cheap to clone.
#[derive(Debug, Clone)]
pub struct OutgoingInvitation {
    message: proto::Invitation,
    blob: Blob,
    model: Bytes,
}

impl OutgoingInvitation {
    /// Encodes the invitation and its model. Copies the model once.
    pub fn new(invitation: &Invitation) -> Self {
        let model = Bytes::from(encode_parameters(&invitation.model));
        let blob = Blob::of(&model);
        let message = proto::Invitation {
            round: invitation.round.0,
            clip_norm: invitation.clip_norm.value(),
            clip_indicator: invitation.clip_indicator,
            deadline: Some(encode_moment(invitation.deadline)),
            offer: None,
            model: Some(proto::ModelHeader {
                parameters: invitation.model.len() as u64,
                blob: Some(blob.encode()),
            }),
        };
        Self { message, blob, model }
    }

    /// The same with the terms of an attempt of secure aggregation.
    #[must_use]
    pub fn with_offer(mut self, offer: Bytes) -> Self {
        self.message.offer = Some(offer);
        self
    }

    /// The announcement, for the answer to a check-in.
    pub fn message(&self) -> &proto::Invitation {
        &self.message
    }

    /// Size and digest of the model.
    pub fn blob(&self) -> &Blob {
        &self.blob
    }

    /// The bytes of the model, for its download.
    pub fn model(&self) -> &Bytes {
        &self.model
    }
}

/// An invitation that a client has received, while its model arrives.
#[derive(Debug)]
pub struct IncomingInvitation {
    round: RoundId,
    clip_norm: ClipNorm,
    clip_indicator: Option<u32>,
    deadline: Timestamp,
    n_parameters: usize,
    model: Assembler,
}

impl IncomingInvitation {
    /// Checks an announcement. `max_parameters` is what this client is willing to hold; nothing is allocated for the
    /// model before its bytes come.
    ///
    /// # Errors
    ///
    /// A round of 0, a clip norm that is none, no deadline, a model of no or too many parameters or of another size
    /// than its number of parameters says.
    pub fn decode(message: &proto::Invitation, max_parameters: usize) -> Result<Self, DecodeError> {
        let round = decode_round("invitation.round", message.round)?;
        let clip_norm = decode_clip_norm("invitation.clip_norm", message.clip_norm)?;
        let clip_indicator = message.clip_indicator;
        if let Some(weight) = clip_indicator.filter(|weight| !(1..GRID_UNITS).contains(weight)) {
            let expected = "a weight of at least 1 and below 2^30 grid units";
            return Err(DecodeError::invalid(
                "invitation.clip_indicator",
                expected,
                weight,
            ));
        }
        let deadline = decode_moment("invitation.deadline", message.deadline.as_ref())?;
        let model = message.model.as_ref().ok_or(DecodeError::Missing {
            field: "invitation.model",
        })?;
        let field = "invitation.model.parameters";
        let n_parameters = match usize::try_from(model.parameters) {
            Ok(0) => return Err(DecodeError::invalid(field, "1 parameter or more", 0)),
            Ok(n_parameters) if n_parameters <= max_parameters => n_parameters,
            _ => {
                return Err(DecodeError::TooLarge {
                    field,
                    limit: max_parameters as u64,
                    got: model.parameters,
                });
            }
        };
        let blob = Blob::decode(model.blob.as_ref(), vector_bytes(n_parameters))?;
        Ok(Self {
            round,
            clip_norm,
            clip_indicator,
            deadline,
            n_parameters,
            model: Assembler::new(blob),
        })
    }

    /// Takes the next chunk of the model.
    ///
    /// # Errors
    ///
    /// As [`Assembler::push`].
    pub fn push(&mut self, chunk: &proto::Chunk) -> Result<(), DecodeError> {
        self.model.push(chunk)
    }

    /// The round.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// Bound on the L2 norm of the client's update.
    pub fn clip_norm(&self) -> ClipNorm {
        self.clip_norm
    }

    /// When the round closes, by the server's clock.
    pub fn deadline(&self) -> Timestamp {
        self.deadline
    }

    /// How many parameters the model has.
    pub fn n_parameters(&self) -> usize {
        self.n_parameters
    }

    /// Size and digest of the model.
    pub fn blob(&self) -> &Blob {
        self.model.blob()
    }

    /// How many bytes of the model have come: where an interrupted download goes on.
    pub fn received(&self) -> u64 {
        self.model.received()
    }

    /// The invitation with its model.
    ///
    /// # Errors
    ///
    /// A model that is not complete, is not the one announced, or has parameters that are not finite.
    pub fn finish(self) -> Result<Invitation, DecodeError> {
        let model = decode_parameters("model", &self.model.finish()?, self.n_parameters)?;
        Ok(Invitation {
            round: self.round,
            clip_norm: self.clip_norm,
            clip_indicator: self.clip_indicator,
            deadline: self.deadline,
            model: model.into(),
        })
    }
}

pub(crate) fn decode_clip_norm(field: &'static str, clip_norm: f64) -> Result<ClipNorm, DecodeError> {
    ClipNorm::new(clip_norm).map_err(|error| DecodeError::invalid(field, error.expected, error.got))
}

/// The only size that the bytes of a vector of `length` numbers may have.
pub(crate) fn vector_bytes(length: usize) -> u64 {
    (length as u64).saturating_mul(NUMBER_BYTES)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::blob::chunks;
    use crate::hex::{bytes_of, hex_of};

    fn invitation(model: Vec<f32>) -> Invitation {
        Invitation {
            round: RoundId(3),
            clip_norm: ClipNorm::new(0.5).unwrap(),
            clip_indicator: None,
            deadline: Timestamp::new(Duration::from_millis(90_500)),
            model: model.into(),
        }
    }

    /// Field numbers, wire types and values of an invitation to a model of the parameters 1 and −2.5.
    const ENCODED: [(&str, &str); 9] = [
        ("08 03", "round = 3"),
        ("11 00 00 00 00 00 00 e0 3f", "clip_norm = 0.5"),
        ("1a 08", "deadline, 8 bytes"),
        ("  08 5a", "seconds = 90"),
        ("  10 80 ca b5 ee 01", "nanos = 500,000,000"),
        ("22 28", "model, 40 bytes"),
        ("  08 02", "parameters = 2"),
        ("  12 24 08 08", "blob, 36 bytes: size_bytes = 8"),
        (
            "    12 20 48943f7a0ea247f8e3c9386d0c5822fe181d323a9289980426638cc4e72a43e1",
            "sha256 of 00 00 80 3f 00 00 20 c0",
        ),
    ];

    #[test]
    fn an_invitation_has_its_documented_bytes_in_both_directions() {
        let outgoing = OutgoingInvitation::new(&invitation(vec![1.0, -2.5]));
        assert_eq!(
            hex_of(&outgoing.message().encode_to_vec()),
            hex_of(&bytes_of(&ENCODED))
        );
        let message = proto::Invitation::decode(&bytes_of(&ENCODED)[..]).unwrap();
        let mut incoming = IncomingInvitation::decode(&message, 2).unwrap();
        assert_eq!(
            (incoming.round(), incoming.n_parameters(), incoming.received()),
            (RoundId(3), 2, 0)
        );
        assert_eq!(incoming.deadline(), Timestamp::new(Duration::from_millis(90_500)));
        let data = Bytes::from_static(&[0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
        incoming.push(&proto::Chunk { offset: 0, data }).unwrap();
        assert_eq!(incoming.finish().unwrap().model, Arc::from([1.0, -2.5]));
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        type Change = fn(&mut proto::Invitation);
        let rows: [(Change, &str); 12] = [
            (
                |m| m.round = 0,
                "`invitation.round`: expected a round, counted from 1, got 0",
            ),
            (
                |m| m.clip_norm = f64::NAN,
                "`invitation.clip_norm`: expected a finite number above 0, got NaN",
            ),
            (
                |m| m.clip_norm = f64::INFINITY,
                "`invitation.clip_norm`: expected a finite number above 0, got inf",
            ),
            (
                |m| m.clip_indicator = Some(1 << 30),
                "`invitation.clip_indicator`: expected a weight of at least 1 and below 2^30 grid units, got 1073741824",
            ),
            (
                |m| m.clip_norm = -0.0,
                "`invitation.clip_norm`: expected a finite number above 0, got -0",
            ),
            (
                |m| m.deadline = None,
                "`invitation.deadline`: expected a value, got nothing",
            ),
            (
                |m| m.model = None,
                "`invitation.model`: expected a value, got nothing",
            ),
            (
                |m| model(m).parameters = 0,
                "`invitation.model.parameters`: expected 1 parameter or more, got 0",
            ),
            (
                |m| model(m).parameters = 4,
                "`invitation.model.parameters`: expected at most 3, got 4",
            ),
            (
                |m| model(m).parameters = 1,
                "`blob.size_bytes`: expected at most 4, got 8",
            ),
            (
                |m| model(m).parameters = 3,
                "`blob.size_bytes`: expected 12, got 8",
            ),
            (|m| model(m).blob = None, "`blob`: expected a value, got nothing"),
        ];
        fn model(message: &mut proto::Invitation) -> &mut proto::ModelHeader {
            message.model.as_mut().unwrap()
        }
        let good = OutgoingInvitation::new(&invitation(vec![1.0, 2.0]));
        for (change, expected) in rows {
            let mut message = good.message().clone();
            change(&mut message);
            assert_eq!(
                IncomingInvitation::decode(&message, 3).unwrap_err().to_string(),
                expected
            );
        }
    }

    #[test]
    fn a_model_with_a_number_that_is_none_is_refused() {
        let outgoing = OutgoingInvitation::new(&invitation(vec![0.0, f32::NAN]));
        let mut incoming = IncomingInvitation::decode(outgoing.message(), 2).unwrap();
        chunks(outgoing.model().clone(), 0).for_each(|chunk| incoming.push(&chunk).unwrap());
        let error = incoming.finish().unwrap_err().to_string();
        assert_eq!(error, "`model`: expected finite numbers only, got NaN at place 1");
    }

    proptest! {
        #[test]
        fn invitations_survive(
            round in 1u64.., clip_norm in f64::MIN_POSITIVE..f64::MAX, clip_indicator in prop::option::of(1_u32..1 << 30), seconds: u64, nanos in 0u32..1_000_000_000,
            model in prop::collection::vec(-1e30f32..1e30, 1..50),
        ) {
            let sent = Invitation {
                round: RoundId(round),
                clip_norm: ClipNorm::new(clip_norm).unwrap(),
                clip_indicator,
                deadline: Timestamp::new(Duration::new(seconds, nanos)),
                model: model.into(),
            };
            let outgoing = OutgoingInvitation::new(&sent);
            let bytes = outgoing.message().encode_to_vec();
            let mut incoming = IncomingInvitation::decode(&proto::Invitation::decode(&bytes[..])?, 50)?;
            for chunk in chunks(outgoing.model().clone(), 0) {
                incoming.push(&chunk)?;
            }
            let got = incoming.finish()?;
            prop_assert_eq!((got.round, got.clip_norm, got.deadline), (sent.round, sent.clip_norm, sent.deadline));
            prop_assert_eq!(got.clip_indicator, sent.clip_indicator);
            prop_assert_eq!(got.model, sent.model);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(message) = proto::Invitation::decode(&bytes[..]) {
                let _ = IncomingInvitation::decode(&message, 1 << 20);
            }
        }
    }
}
