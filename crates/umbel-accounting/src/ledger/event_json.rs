//! Events as JSON, for the ledger. What is written here keeps its meaning for ever.

use serde_json::{Value, json};

use crate::{DpEvent, NoiseMultiplier, SamplingRate};

/// Encodes an event, or says which kind has no form in the ledger yet.
pub(super) fn encode(event: &DpEvent) -> Result<Value, String> {
    Ok(match event {
        DpEvent::Composed(events) => {
            let events: Vec<_> = events.iter().map(encode).collect::<Result<_, _>>()?;
            json!({ "kind": "composed", "events": events })
        }
        DpEvent::Gaussian { noise_multiplier } => {
            json!({ "kind": "gaussian", "noise_multiplier": noise_multiplier.value() })
        }
        DpEvent::NonPrivate => json!({ "kind": "non-private" }),
        DpEvent::PoissonSampled { sampling_rate, event } => {
            json!({ "kind": "poisson-sampled", "sampling_rate": sampling_rate.value(), "event": encode(event)? })
        }
        DpEvent::Repeated { event, count } => {
            json!({ "kind": "repeated", "count": count, "event": encode(event)? })
        }
        #[allow(
            unreachable_patterns,
            reason = "events without a form in the ledger are refused, never guessed"
        )]
        other => {
            return Err(format!(
                "an event that the ledger format has no form for: {other:?}"
            ));
        }
    })
}

/// Decodes an event. An unknown kind or field is an error, never ignored: it could change what the event costs.
pub(super) fn decode(value: &Value) -> Result<DpEvent, String> {
    let event = decode_known(value)?;
    if encode(&event)? == *value {
        Ok(event)
    } else {
        Err(format!(
            "an event with fields or numbers that its kind does not have: {value}"
        ))
    }
}

fn decode_known(value: &Value) -> Result<DpEvent, String> {
    let kind = value
        .get("kind")
        .and_then(Value::as_str)
        .ok_or("event: expected an object with a `kind`")?;
    let number = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_f64)
            .ok_or_else(|| format!("event `{kind}`: expected a number as `{key}`"))
    };
    let inner = || {
        let event = value
            .get("event")
            .ok_or_else(|| format!("event `{kind}`: expected an `event`"))?;
        decode_known(event).map(Box::new)
    };
    match kind {
        "composed" => {
            let events = value.get("events").and_then(Value::as_array);
            let events = events.ok_or("event `composed`: expected a list as `events`")?;
            Ok(DpEvent::Composed(
                events.iter().map(decode_known).collect::<Result<_, _>>()?,
            ))
        }
        "gaussian" => {
            let noise_multiplier =
                NoiseMultiplier::new(number("noise_multiplier")?).map_err(|e| e.to_string())?;
            Ok(DpEvent::Gaussian { noise_multiplier })
        }
        "non-private" => Ok(DpEvent::NonPrivate),
        "poisson-sampled" => {
            let sampling_rate = SamplingRate::new(number("sampling_rate")?).map_err(|e| e.to_string())?;
            Ok(DpEvent::PoissonSampled {
                sampling_rate,
                event: inner()?,
            })
        }
        "repeated" => {
            let count = value.get("count").and_then(Value::as_u64);
            let count = count.ok_or("event `repeated`: expected a whole number as `count`")?;
            Ok(DpEvent::Repeated {
                event: inner()?,
                count,
            })
        }
        other => Err(format!("event of unknown kind `{other}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_back_to_themselves() {
        let gaussian = DpEvent::Gaussian {
            noise_multiplier: NoiseMultiplier::new(1.1).unwrap(),
        };
        let sampled = DpEvent::PoissonSampled {
            sampling_rate: SamplingRate::new(0.25).unwrap(),
            event: Box::new(gaussian),
        };
        let repeated = DpEvent::Repeated {
            event: Box::new(sampled),
            count: 40,
        };
        let event = DpEvent::Composed(vec![repeated, DpEvent::NonPrivate]);
        assert_eq!(decode(&encode(&event).unwrap()).unwrap(), event);
    }

    #[test]
    fn unknown_kinds_and_bad_numbers_are_refused() {
        for (text, reason) in [
            (r#"{"kind":"free"}"#, "unknown kind `free`"),
            (
                r#"{"kind":"gaussian","noise_multiplier":0}"#,
                "noise multiplier must be",
            ),
            (
                r#"{"kind":"gaussian"}"#,
                "expected a number as `noise_multiplier`",
            ),
            (
                r#"{"kind":"poisson-sampled","sampling_rate":2,"event":{"kind":"non-private"}}"#,
                "sampling rate must be",
            ),
            (r#"[]"#, "expected an object"),
            (
                r#"{"kind":"non-private","truncated_at":5}"#,
                "fields or numbers that its kind does not have",
            ),
        ] {
            let error = decode(&serde_json::from_str(text).unwrap()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
