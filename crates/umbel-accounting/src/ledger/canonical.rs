//! Canonical JSON: one text for one value.

use serde::Serialize;
use serde_json::Value;

/// Encodes `value` without spaces and with sorted keys.
///
/// Numbers are written by `serde_json`: integers in decimal, others in the shortest form that reads back to the same
/// `f64`. Not-a-number and infinities have no JSON form and never reach this function: bodies use `null` for them.
pub(super) fn encode(value: &Value) -> String {
    let mut text = Vec::new();
    write(value, &mut text);
    // What `serde_json` writes is UTF-8.
    String::from_utf8(text).unwrap_or_default()
}

/// The same at the end of `text`.
pub(super) fn write(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            text.push(b'{');
            if map.keys().is_sorted() {
                write_fields(map.iter(), text);
            } else {
                // The encoding must not depend on how `serde_json` was configured in the whole build.
                let mut fields: Vec<_> = map.iter().collect();
                fields.sort_by(|left, right| left.0.cmp(right.0));
                write_fields(fields.into_iter(), text);
            }
            text.push(b'}');
        }
        Value::Array(items) => {
            text.push(b'[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    text.push(b',');
                }
                write(item, text);
            }
            text.push(b']');
        }
        scalar => write_scalar(scalar, text),
    }
}

fn write_fields<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, text: &mut Vec<u8>) {
    for (position, (key, value)) in fields.enumerate() {
        if position > 0 {
            text.push(b',');
        }
        write_scalar(key, text);
        text.push(b':');
        write(value, text);
    }
}

fn write_scalar(scalar: &impl Serialize, text: &mut Vec<u8>) {
    // A scalar has a form, and writing to memory cannot fail.
    let _ = serde_json::to_writer(text, scalar);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_spaces_dropped() {
        let value: Value =
            serde_json::from_str(r#"{ "b": [1, 2.5, null], "a": {"z": "é\n", "y": true} }"#).unwrap();
        assert_eq!(encode(&value), r#"{"a":{"y":true,"z":"é\n"},"b":[1,2.5,null]}"#);
    }

    #[test]
    fn numbers_read_back_to_themselves() {
        for number in [1e-5, 0.1 + 0.2, f64::MIN_POSITIVE, 1e300, -0.0, 3.0] {
            let text = encode(&Value::from(number));
            let back: f64 = serde_json::from_str(&text).unwrap();
            assert_eq!(back.to_bits(), number.to_bits(), "{text}");
        }
    }
}
