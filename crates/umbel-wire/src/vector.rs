//! Vectors of numbers as bytes: four bytes a number, little-endian, nothing else.
//!
//! The form of models (IEEE 754 single precision) and of updates (two's complement). Protobuf's own form of a list of
//! integers, varints, is shorter where values are small, and that is what is wrong with it: the length of an encrypted
//! message is seen by the network, so that the size of a client's update would tell about its data. Here the length
//! follows from the number of parameters, which is public, and a receiver knows it before the first byte comes.
//! Four bytes are what an update needs: on a grid of C / 2^30, values go from −2^30 to 2^30.
//!
//! Nothing is compressed: trained parameters lose only some 7 % to a general compressor, clipped updates little more,
//! and a decompressor between the network and a memory limit is one more thing to get wrong.

use crate::error::DecodeError;

/// Bytes a number takes.
pub const NUMBER_BYTES: u64 = 4;

/// The bytes of a model's parameters.
pub fn encode_parameters(parameters: &[f32]) -> Vec<u8> {
    encode(parameters, |parameter| parameter.to_le_bytes())
}

/// Reads exactly `expected` parameters; `field` is what an error calls them.
///
/// # Errors
///
/// Another length, or a parameter that is infinite or not a number, by its place.
pub fn decode_parameters(
    field: &'static str,
    bytes: &[u8],
    expected: usize,
) -> Result<Vec<f32>, DecodeError> {
    let parameters = decode(field, bytes, expected, f32::from_le_bytes)?;
    match parameters.iter().position(|parameter| !parameter.is_finite()) {
        None => Ok(parameters),
        Some(place) => {
            let got = format_args!("{} at place {place}", parameters[place]);
            Err(DecodeError::invalid(field, "finite numbers only", got))
        }
    }
}

/// The bytes of an update's values.
pub fn encode_values(values: &[i32]) -> Vec<u8> {
    encode(values, |value| value.to_le_bytes())
}

/// Reads exactly `expected` values; `field` is what an error calls them.
///
/// # Errors
///
/// Another length.
pub fn decode_values(field: &'static str, bytes: &[u8], expected: usize) -> Result<Vec<i32>, DecodeError> {
    decode(field, bytes, expected, i32::from_le_bytes)
}

fn encode<T: Copy>(numbers: &[T], to_bytes: impl Fn(T) -> [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 * numbers.len());
    for &number in numbers {
        bytes.extend_from_slice(&to_bytes(number));
    }
    bytes
}

fn decode<T>(
    field: &'static str,
    bytes: &[u8],
    expected: usize,
    from_bytes: impl Fn([u8; 4]) -> T,
) -> Result<Vec<T>, DecodeError> {
    let (numbers, rest) = bytes.as_chunks::<4>();
    if numbers.len() != expected || !rest.is_empty() {
        let expected = format_args!("4 × {expected} bytes");
        return Err(DecodeError::invalid(
            field,
            expected,
            format_args!("{} bytes", bytes.len()),
        ));
    }
    Ok(numbers.iter().map(|&number| from_bytes(number)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_is_the_documented_one() {
        assert_eq!(
            encode_parameters(&[1.0, -2.5]),
            [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]
        );
        assert_eq!(
            encode_values(&[1 << 30, -2]),
            [0, 0, 0, 0x40, 0xfe, 0xff, 0xff, 0xff]
        );
    }

    #[test]
    fn numbers_that_are_none_are_refused_by_place() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = decode_parameters("model", &encode_parameters(&[1.0, bad]), 2).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`model`: expected finite numbers only, got {bad} at place 1")
            );
        }
    }

    #[test]
    fn lengths_must_agree() {
        for length in [0, 4, 7, 9, 12] {
            let bytes = vec![0; length];
            let expected = format!("`x`: expected 4 × 2 bytes, got {length} bytes");
            assert_eq!(
                decode_parameters("x", &bytes, 2).unwrap_err().to_string(),
                expected
            );
            assert_eq!(decode_values("x", &bytes, 2).unwrap_err().to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn every_number_survives_bit_for_bit(values in prop::collection::vec(any::<i32>(), 0..50)) {
            prop_assert_eq!(&decode_values("x", &encode_values(&values), values.len()).unwrap(), &values);

            let model = values.iter().map(|value| f32::from_bits(value.cast_unsigned()));
            let model: Vec<f32> = model.filter(|parameter| parameter.is_finite()).collect();
            let decoded = decode_parameters("x", &encode_parameters(&model), model.len()).unwrap();
            let bits = |model: &[f32]| model.iter().map(|parameter| parameter.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&decoded), bits(&model));
        }
    }
}
