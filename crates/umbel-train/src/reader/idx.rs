//! IDX files: the format of MNIST and its relatives.
//!
//! A header of two zero bytes, a type code, the number of dimensions and that many big-endian `u32` sizes; then the
//! values, last dimension fastest (LeCun, Cortes, Burges: "The MNIST database of handwritten digits").

use std::io::Read;
use std::path::{Path, PathBuf};

use super::input::Input;
use super::{ReadError, ReadFault};

/// The most bytes of values that an IDX file may declare, 4 GiB; a larger one is refused before memory is taken.
pub const MAX_IDX_BYTES: u64 = 1 << 32;

/// An array of bytes with its shape, as an IDX file holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct IdxArray {
    path: PathBuf,
    shape: Vec<usize>,
    values: Vec<u8>,
}

impl std::fmt::Debug for IdxArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdxArray")
            .field("path", &self.path)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl IdxArray {
    /// The file it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One to four sizes; the first counts the examples.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values, last dimension fastest.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// The values alone.
    pub fn into_values(self) -> Vec<u8> {
        self.values
    }
}

/// Reads an IDX file of unsigned bytes with one to four dimensions, gzipped or plain.
///
/// # Errors
///
/// Anything that is not exactly such a file: wrong magic, another type, dimensions beyond [`MAX_IDX_BYTES`] or beyond
/// what a file of that length can hold, values missing or left over, damaged compression.
pub fn read_idx(path: &Path) -> Result<IdxArray, ReadError> {
    let mut input = Input::open(path)?;
    let dimensions = read_header(&mut input, path)?;
    let header_bytes = header_bytes(dimensions.len());
    let fail = |input: &Input, offset, fault| ReadError::new(path, input.place(offset), fault);

    // The first size may be zero (no examples); a zero in the others leaves nothing to learn from.
    if dimensions.iter().skip(1).any(|&size| size == 0) {
        return Err(fail(&input, 4, ReadFault::ZeroDimension { dimensions }));
    }
    let declared = dimensions
        .iter()
        .try_fold(1_u64, |product, &size| product.checked_mul(u64::from(size)));
    let n_bytes = declared.filter(|&n_bytes| n_bytes <= MAX_IDX_BYTES);
    let (Some(n_bytes), Some(capacity)) = (n_bytes, n_bytes.and_then(|bytes| usize::try_from(bytes).ok()))
    else {
        let reason = format!("at most {MAX_IDX_BYTES} values are read");
        return Err(fail(
            &input,
            4,
            ReadFault::DimensionsTooLarge { dimensions, reason },
        ));
    };
    let known_bound = input.max_bytes();
    if let Some(max_bytes) = known_bound.filter(|&bound| bound < header_bytes + n_bytes) {
        if input.is_packed() {
            let reason = format!("a file of this length unpacks to at most {max_bytes} bytes");
            return Err(fail(
                &input,
                4,
                ReadFault::DimensionsTooLarge { dimensions, reason },
            ));
        }
        let got = max_bytes.saturating_sub(header_bytes);
        let fault = ReadFault::Truncated {
            part: "values",
            expected: n_bytes,
            got,
        };
        return Err(fail(&input, header_bytes + got, fault));
    }

    // From a pipe the length is unknown, so memory follows what really arrives.
    let mut values = Vec::with_capacity(if known_bound.is_some() { capacity } else { 0 });
    let result = (&mut input).take(n_bytes).read_to_end(&mut values);
    let got = values.len() as u64;
    if let Err(error) = result {
        return Err(fail(&input, header_bytes + got, input.fault(error)));
    }
    if got < n_bytes {
        let fault = ReadFault::Truncated {
            part: "values",
            expected: n_bytes,
            got,
        };
        return Err(fail(&input, header_bytes + got, fault));
    }
    // Reading on to the end also makes the gzip decoder compare its checksum.
    match input.read(&mut [0]) {
        Ok(0) => {}
        Ok(_) => {
            return Err(fail(
                &input,
                header_bytes + got,
                ReadFault::TrailingBytes { expected: n_bytes },
            ));
        }
        Err(error) => return Err(fail(&input, header_bytes + got, input.fault(error))),
    }
    // Every size divides a product that fits, and a size before a zero is kept only as a count.
    let shape = dimensions.iter().map(|&size| size as usize).collect();
    Ok(IdxArray {
        path: path.to_owned(),
        shape,
        values,
    })
}

fn header_bytes(n_dimensions: usize) -> u64 {
    4 + 4 * n_dimensions as u64
}

fn read_header(input: &mut Input, path: &Path) -> Result<Vec<u32>, ReadError> {
    let magic = read_up_to(input, path, 0, 4)?;
    let place = input.place(0);
    let [0, 0, type_code, n_dimensions] = *magic else {
        return Err(ReadError::new(path, place, ReadFault::BadMagic { got: magic }));
    };
    if let Some(name) = unsupported_type(type_code) {
        let fault = ReadFault::UnsupportedType {
            code: type_code,
            name,
        };
        return Err(ReadError::new(path, input.place(2), fault));
    }
    if !(1..=4).contains(&n_dimensions) {
        let fault = ReadFault::UnsupportedDimensions { got: n_dimensions };
        return Err(ReadError::new(path, input.place(3), fault));
    }
    let expected = 4 * u64::from(n_dimensions);
    let sizes = read_up_to(input, path, 4, expected)?;
    let got = sizes.len() as u64;
    if got < expected {
        let fault = ReadFault::Truncated {
            part: "header",
            expected: 4 + expected,
            got: 4 + got,
        };
        return Err(ReadError::new(path, input.place(4 + got), fault));
    }
    let sizes = sizes.chunks_exact(4);
    Ok(sizes
        .map(|size| size.iter().fold(0, |value, &byte| value << 8 | u32::from(byte)))
        .collect())
}

fn read_up_to(input: &mut Input, path: &Path, offset: u64, n_bytes: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    match input.take(n_bytes).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let place = input.place(offset + bytes.len() as u64);
            Err(ReadError::new(path, place, input.fault(error)))
        }
    }
}

fn unsupported_type(code: u8) -> Option<&'static str> {
    match code {
        0x08 => None,
        0x09 => Some("signed byte"),
        0x0b => Some("16-bit integer"),
        0x0c => Some("32-bit integer"),
        0x0d => Some("32-bit float"),
        0x0e => Some("64-bit float"),
        _ => Some("unknown"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_files::{gzip, idx, write};

    /// Reads these bytes as a file, and gives the message without the folder's name.
    fn read(bytes: &[u8]) -> Result<IdxArray, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "data", bytes);
        read_idx(&path).map_err(|error| error.to_string().replace(&path.display().to_string(), "data"))
    }

    #[track_caller]
    fn check_refused(bytes: &[u8], expected: &str) {
        assert_eq!(read(bytes).unwrap_err(), expected);
    }

    #[test]
    fn one_to_four_dimensions_are_read_gzipped_or_plain() {
        for dimensions in [&[6][..], &[2, 3], &[1, 2, 3], &[1, 1, 2, 3]] {
            let bytes = idx(dimensions, &[9, 8, 7, 6, 5, 4]);
            for bytes in [&bytes, &gzip(&bytes)] {
                let array = read(bytes).unwrap();
                assert!(
                    array
                        .shape()
                        .iter()
                        .zip(dimensions)
                        .all(|(&got, &size)| got == size as usize)
                );
                assert_eq!(array.shape().len(), dimensions.len());
                assert_eq!(array.values(), [9, 8, 7, 6, 5, 4]);
            }
        }
    }

    #[test]
    fn a_gzip_file_of_several_members_is_one_file() {
        let bytes = idx(&[4], &[1, 2, 3, 4]);
        let mut file = gzip(&bytes[..5]);
        file.extend(gzip(&bytes[5..]));
        assert_eq!(read(&file).unwrap().values(), [1, 2, 3, 4]);
    }

    #[test]
    fn headers_that_are_not_idx_are_refused_with_their_place() {
        check_refused(
            b"",
            "`data`, byte 0: not an IDX file: it begins with nothing, expected 00 00, a type code and a number of dimensions",
        );
        check_refused(
            b"hello",
            "`data`, byte 0: not an IDX file: it begins with 68 65 6c 6c, expected 00 00, a type code and a number of dimensions",
        );
        check_refused(
            &[0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0],
            "`data`, byte 2: an IDX file of values of type 0x0d (32-bit float), expected 0x08 (unsigned byte)",
        );
        check_refused(
            &[0, 0, 7, 1, 0, 0, 0, 1, 0],
            "`data`, byte 2: an IDX file of values of type 0x07 (unknown), expected 0x08 (unsigned byte)",
        );
        check_refused(
            &[0, 0, 8, 0],
            "`data`, byte 3: an IDX file with 0 dimensions, expected 1 to 4",
        );
        check_refused(
            &[0, 0, 8, 5],
            "`data`, byte 3: an IDX file with 5 dimensions, expected 1 to 4",
        );
        check_refused(
            &[0, 0, 8, 3, 0, 0, 0, 1, 0],
            "`data`, byte 9: the file ends too early: expected 16 bytes of header, got 9",
        );
        check_refused(
            &idx(&[2, 0, 3], &[]),
            "`data`, byte 4: the header declares dimensions [2, 0, 3]; an example would have no values",
        );
    }

    #[test]
    fn values_that_are_missing_or_left_over_are_refused_with_their_place() {
        check_refused(
            &idx(&[2, 3], &[1, 2, 3, 4]),
            "`data`, byte 16: the file ends too early: expected 6 bytes of values, got 4",
        );
        check_refused(
            &gzip(&idx(&[2, 3], &[1, 2, 3, 4])),
            "`data`, byte 16 unpacked: the file ends too early: expected 6 bytes of values, got 4",
        );
        check_refused(
            &idx(&[2], &[1, 2, 3]),
            "`data`, byte 10: the file goes on after its 2 bytes of values",
        );
        check_refused(
            &gzip(&idx(&[2], &[1, 2, 3])),
            "`data`, byte 10 unpacked: the file goes on after its 2 bytes of values",
        );
    }

    #[test]
    fn absurd_dimensions_are_refused_before_memory_is_taken() {
        let huge = [u32::MAX; 4];
        for bytes in [idx(&huge, &[1]), gzip(&idx(&huge, &[1]))] {
            let message = read(&bytes).unwrap_err();
            assert!(
                message.ends_with("but at most 4294967296 values are read"),
                "{message}"
            );
        }
        // Within the general bound, but more than the packed bytes can unpack to.
        let message = read(&gzip(&idx(&[60_000, 28, 28], &[1]))).unwrap_err();
        assert!(
            message.contains("byte 4 unpacked: the header declares dimensions [60000, 28, 28]"),
            "{message}"
        );
        assert!(
            message.contains("a file of this length unpacks to at most"),
            "{message}"
        );
    }

    #[test]
    fn damaged_compression_is_refused() {
        let values: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let file = gzip(&idx(&[5000], &values));
        let message = read(&file[..file.len() / 2]).unwrap_err();
        assert!(
            message.ends_with("the gzip data ends too early; the file is incomplete"),
            "{message}"
        );
        let mut wrong_checksum = file.clone();
        let length = file.len();
        wrong_checksum[length - 6] ^= 1;
        let message = read(&wrong_checksum).unwrap_err();
        assert!(message.contains("the gzip data is damaged"), "{message}");
        let mut garbage_behind = file;
        garbage_behind.extend(b"garbage behind the data");
        let message = read(&garbage_behind).unwrap_err();
        assert!(message.contains("the gzip data is damaged"), "{message}");
    }

    #[test]
    fn a_missing_file_and_a_folder_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read_idx(&folder.path().join("missing")).unwrap_err().to_string();
        assert!(
            missing.contains("missing`: ") && missing.contains("No such file"),
            "{missing}"
        );
        let message = read_idx(folder.path()).unwrap_err().to_string();
        assert!(message.contains("is a directory"), "{message}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_file_cut_anywhere_is_refused(keep in 0.0..1.0_f64, is_gzip: bool) {
            let plain = idx(&[10, 30], &[7; 300]);
            let file = if is_gzip { gzip(&plain) } else { plain };
            let length = (0..file.len()).rev().find(|&length| length as f64 <= keep * file.len() as f64).unwrap_or(0);
            prop_assert!(read(&file[..length]).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..40), is_idx: bool) {
            if is_idx && bytes.len() >= 4 {
                let n_dimensions = 1 + bytes[3] % 4;
                bytes[..4].copy_from_slice(&[0, 0, 8, n_dimensions]);
            }
            if let Ok(array) = read(&bytes) {
                prop_assert_eq!(array.values().len(), array.shape().iter().product::<usize>());
            }
        }
    }
}
