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
        let reason = format!("a file of this length holds at most {max_bytes} bytes");
        return Err(fail(
            &input,
            4,
            ReadFault::DimensionsTooLarge { dimensions, reason },
        ));
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
