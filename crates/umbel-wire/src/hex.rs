//! Annotated bytes for tests, and digests for messages.

/// The bytes as lower-case digits.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of rows of digits, each with a note on what they are.
#[cfg(test)]
pub(crate) fn bytes_of(rows: &[(&str, &str)]) -> Vec<u8> {
    let digits: Vec<u32> = rows
        .iter()
        .flat_map(|(digits, _)| digits.chars())
        .filter(|character| *character != ' ')
        .map(|character| character.to_digit(16).expect("hexadecimal digits"))
        .collect();
    assert!(digits.len().is_multiple_of(2), "two digits a byte");
    digits
        .chunks(2)
        .map(|pair| u8::try_from(16 * pair[0] + pair[1]).expect("two digits"))
        .collect()
}
