//! Why something that came from a peer, or from a file, was refused.

use std::fmt;

/// Received bytes that are not a well-formed message, or a message that is not acceptable.
///
/// Every variant names the field, what would have been accepted and what came. What came is told as a number or a
/// length, never as the peer's own bytes: an error is safe to log and to send back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A value that the field cannot have.
    Invalid {
        /// Path of the field, as in `report.update.bits_per_coordinate`.
        field: &'static str,
        /// What would have been accepted.
        expected: String,
        /// What came.
        got: String,
    },
    /// Bytes that are not protobuf at all, or not of this message.
    Malformed {
        /// The message that was expected.
        field: &'static str,
        /// What the protobuf decoder says.
        source: prost::DecodeError,
    },
    /// A field without which the message means nothing.
    Missing {
        /// Path of the field.
        field: &'static str,
    },
    /// More than the receiver is willing to hold. Nothing was allocated for it.
    TooLarge {
        /// Path of the field whose size was announced or reached.
        field: &'static str,
        /// The most that is accepted, in bytes unless the field counts something else.
        limit: u64,
        /// What was announced or reached.
        got: u64,
    },
}

impl DecodeError {
    pub(crate) fn invalid(field: &'static str, expected: impl fmt::Display, got: impl fmt::Display) -> Self {
        Self::Invalid {
            field,
            expected: expected.to_string(),
            got: got.to_string(),
        }
    }

    /// Path of the field at fault.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Invalid { field, .. }
            | Self::Malformed { field, .. }
            | Self::Missing { field }
            | Self::TooLarge { field, .. } => field,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { field, expected, got } => write!(f, "`{field}`: expected {expected}, got {got}"),
            Self::Malformed { field, source } => {
                write!(
                    f,
                    "`{field}`: expected a protobuf message, got bytes that are none: {source}"
                )
            }
            Self::Missing { field } => write!(f, "`{field}`: expected a value, got nothing"),
            Self::TooLarge { field, limit, got } => {
                write!(f, "`{field}`: expected at most {limit}, got {got}")
            }
        }
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What the peer is told: its own fault, so never `INTERNAL`, and never worth a retry with the same bytes.
impl From<DecodeError> for tonic::Status {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge { .. } => Self::resource_exhausted(error.to_string()),
            _ => Self::invalid_argument(error.to_string()),
        }
    }
}

/// Why something of this side's own cannot be sent or recorded. Never caused by data from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// An update that was quantised for another clip norm than the one stated with it.
    #[error("expected an update quantised for the stated clip norm, got one for another")]
    OtherClipNorm,
    /// A message for which version 1 of the wire has no form.
    #[error("expected a message that `umbel.v1` has a form for, got another")]
    UnknownMessage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_field_expectation_and_what_came() {
        let error = DecodeError::invalid("report.round", "a round above 0", 0);
        assert_eq!(
            error.to_string(),
            "`report.round`: expected a round above 0, got 0"
        );
        assert_eq!(error.field(), "report.round");
        let error = DecodeError::TooLarge {
            field: "chunk.data",
            limit: 8,
            got: 9,
        };
        assert_eq!(error.to_string(), "`chunk.data`: expected at most 8, got 9");
        assert_eq!(tonic::Status::from(error).code(), tonic::Code::ResourceExhausted);
    }
}
