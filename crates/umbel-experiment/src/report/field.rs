//! Fields of a run's JSON, where any may be missing or of another type.

use serde_json::Value;

/// A finite number at a JSON pointer.
pub(super) fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer).and_then(finite)
}

/// A text that is not empty at a JSON pointer.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|text| !text.trim().is_empty())
}

/// The elements of a list at a JSON pointer; none where there is no list.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The finite number that a value is.
pub(super) fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_of_another_type_are_missing() {
        let value = json!({"number": 1.5, "null": null, "text": "a", "blank": " ", "list": [1, 2]});
        assert_eq!(number(&value, "/number"), Some(1.5));
        assert_eq!(number(&value, "/list/1"), Some(2.0));
        for pointer in ["/null", "/text", "/list", "/none", "/number/deeper"] {
            assert_eq!(number(&value, pointer), None, "{pointer}");
        }
        assert_eq!(text(&value, "/text"), Some("a"));
        assert_eq!(text(&value, "/blank"), None);
        assert_eq!(text(&value, "/number"), None);
        assert_eq!(list(&value, "/list").len(), 2);
        assert!(list(&value, "/text").is_empty());
    }
}
