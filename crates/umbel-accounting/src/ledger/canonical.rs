//! Canonical JSON: one text for one value.

use serde_json::Value;

/// Encodes `value` without spaces and with sorted keys.
///
/// Numbers are written by `serde_json`: integers in decimal, others in the shortest form that reads back to the same
/// `f64`. Not-a-number and infinities have no JSON form and never reach this function: bodies use `null` for them.
pub(super) fn encode(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            // Sorted here, so that the encoding does not depend on how `serde_json` was configured in the whole build.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|left, right| left.0.cmp(right.0));
            text.push('{');
            for (position, (key, value)) in entries.into_iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
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
