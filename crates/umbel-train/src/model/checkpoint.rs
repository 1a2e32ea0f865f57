//! Saving and loading parameters in the safetensors format.
//!
//! The file is written here rather than by the `safetensors` crate because that keeps metadata in a hash map: with two
//! entries or more, the same model would give different bytes from run to run. Reading uses the crate.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, Metadata, SafeTensorError, SafeTensors};

use super::Model;

/// Parameters as a file held them.
#[derive(Clone, PartialEq)]
pub struct Checkpoint {
    /// The flat parameter vector.
    pub parameters: Vec<f32>,
    /// The metadata beside it.
    pub metadata: BTreeMap<String, String>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint")
            .field("n_parameters", &self.parameters.len())
            .field("metadata", &self.metadata)
            .finish()
    }
}

/// Why a file does not hold the parameters of a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// No safetensors file, or a damaged one.
    #[error("not a safetensors file: {0}")]
    Format(#[from] SafeTensorError),
    /// A parameter of the model is not in the file.
    #[error("the file has no tensor `{name}`; it has {found}")]
    Missing {
        /// The parameter.
        name: String,
        /// The names that are there.
        found: String,
    },
    /// A tensor has another shape than the parameter.
    #[error("tensor `{name}` has shape {got:?}, the model expects {expected:?}")]
    Shape {
        /// The parameter.
        name: String,
        /// Its shape in the model.
        expected: Vec<usize>,
        /// Its shape in the file.
        got: Vec<usize>,
    },
    /// A tensor holds another type than f32.
    #[error("tensor `{name}` holds values of type {got}, expected F32")]
    Type {
        /// The parameter.
        name: String,
        /// The type in the file.
        got: String,
    },
    /// The file has a tensor that the model has no parameter for.
    #[error("the file has a tensor `{name}` that the model does not have")]
    Unexpected {
        /// The tensor.
        name: String,
    },
}

/// The content of a safetensors file with the model's named parameters and `metadata`. The same arguments give the
/// same bytes.
///
/// The data section is the flat vector itself, little-endian.
///
/// # Panics
///
/// Where `parameters` has another length than the model's vector.
pub fn to_safetensors(model: &dyn Model, parameters: &[f32], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    assert_eq!(
        parameters.len(),
        model.n_parameters(),
        "length of the flat parameter vector"
    );
    let mut entries = Vec::new();
    if !metadata.is_empty() {
        let pairs: Vec<String> = metadata
            .iter()
            .map(|(key, value)| format!("{}:{}", json(key.as_str()), json(value.as_str())))
            .collect();
        entries.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    for view in model.parameters() {
        let range = view.range();
        let (name, shape) = (json(view.name.as_str()), json(view.shape.clone()));
        let (begin, end) = (range.start * size_of::<f32>(), range.end * size_of::<f32>());
        entries.push(format!(
            "{name}:{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{begin},{end}]}}"
        ));
    }
    let mut header = format!("{{{}}}", entries.join(","));
    // Data begins at a multiple of 8 bytes.
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));

    let mut bytes = Vec::with_capacity(8 + header.len() + size_of_val(parameters));
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header.as_bytes());
    for parameter in parameters {
        bytes.extend(parameter.to_le_bytes());
    }
    bytes
}

/// Reads the parameters of `model` from the content of a safetensors file.
///
/// Tensors may stand in any order. Whether values are finite is not checked.
///
/// # Errors
///
/// A damaged file; a parameter missing, of another shape or of another type; a tensor too many.
pub fn from_safetensors(model: &dyn Model, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let mut parameters = vec![0.0; model.n_parameters()];
    for view in model.parameters() {
        let Ok(tensor) = tensors.tensor(&view.name) else {
            let mut names = tensors.names();
            names.sort_unstable();
            let found: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            let found = if found.is_empty() {
                "no tensors".to_owned()
            } else {
                found.join(", ")
            };
            return Err(CheckpointError::Missing {
                name: view.name.clone(),
                found,
            });
        };
        if tensor.dtype() != Dtype::F32 {
            let got = format!("{:?}", tensor.dtype());
            return Err(CheckpointError::Type {
                name: view.name.clone(),
                got,
            });
        }
        if tensor.shape() != view.shape {
            let (name, expected, got) = (view.name.clone(), view.shape.clone(), tensor.shape().to_vec());
            return Err(CheckpointError::Shape { name, expected, got });
        }
        for (parameter, bytes) in parameters[view.range()]
            .iter_mut()
            .zip(tensor.data().chunks_exact(4))
        {
            *parameter = f32::from_le_bytes(bytes.try_into().expect("chunks of four bytes"));
        }
    }
    let mut names = tensors.names();
    names.sort_unstable();
    if let Some(name) = names
        .into_iter()
        .find(|&name| model.parameters().iter().all(|view| view.name != name))
    {
        return Err(CheckpointError::Unexpected {
            name: name.to_owned(),
        });
    }
    Ok(Checkpoint {
        parameters,
        metadata: metadata_of(&header),
    })
}

/// The metadata of a safetensors file, whatever its tensors are.
///
/// # Errors
///
/// A damaged file.
pub fn safetensors_metadata(bytes: &[u8]) -> Result<BTreeMap<String, String>, CheckpointError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    Ok(metadata_of(&header))
}

fn metadata_of(header: &Metadata) -> BTreeMap<String, String> {
    let pairs = header.metadata().iter().flatten();
    pairs.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn json(value: impl Into<serde_json::Value>) -> String {
    value.into().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelSpec;

    fn model(hidden: usize) -> Box<dyn Model> {
        ModelSpec::mlp(&[hidden]).build(&[3], 2).unwrap()
    }

    fn metadata() -> BTreeMap<String, String> {
        let pairs = [
            ("name", "digits"),
            ("quotes", "a \"b\" \\ c\n\u{1}é"),
            ("a", ""),
            ("z", "1"),
        ];
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    #[allow(clippy::cast_precision_loss, reason = "small whole numbers")]
    fn what_was_saved_is_loaded() {
        let model = model(4);
        let mut parameters: Vec<f32> = (0..model.n_parameters())
            .map(|index| index as f32 / 7.0 - 1.0)
            .collect();
        parameters[3] = f32::MIN_POSITIVE / 2.0;
        let bytes = to_safetensors(model.as_ref(), &parameters, &metadata());
        let checkpoint = from_safetensors(model.as_ref(), &bytes).unwrap();
        assert_eq!(
            checkpoint,
            Checkpoint {
                parameters: parameters.clone(),
                metadata: metadata()
            }
        );
        let plain = to_safetensors(model.as_ref(), &parameters, &BTreeMap::new());
        assert_eq!(
            from_safetensors(model.as_ref(), &plain).unwrap().metadata,
            BTreeMap::new()
        );
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let model = ModelSpec::Softmax.build(&[1], 2).unwrap();
        let one = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
        let bytes = to_safetensors(model.as_ref(), &[1.0, -2.0, 0.5, 0.0], &one);
        let header = concat!(
            r#"{"__metadata__":{"k":"v"},"output.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"#,
            r#""output.bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#,
        );
        let length = header.len().next_multiple_of(8);
        let mut expected = (length as u64).to_le_bytes().to_vec();
        expected.extend(format!("{header:length$}").bytes());
        expected.extend([0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 0, 0, 0, 0x3f, 0, 0, 0, 0]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_file_of_another_model_is_refused_with_the_tensor() {
        let (small, large) = (model(4), model(5));
        let softmax = ModelSpec::Softmax.build(&[3], 2).unwrap();
        let save =
            |model: &dyn Model| to_safetensors(model, &vec![0.0; model.n_parameters()], &BTreeMap::new());
        let message =
            |model: &dyn Model, bytes: &[u8]| from_safetensors(model, bytes).unwrap_err().to_string();
        assert_eq!(
            message(large.as_ref(), &save(small.as_ref())),
            "tensor `hidden0.weight` has shape [3, 4], the model expects [3, 5]"
        );
        assert_eq!(
            message(small.as_ref(), &save(softmax.as_ref())),
            "the file has no tensor `hidden0.weight`; it has `output.bias`, `output.weight`"
        );
        let square = ModelSpec::mlp(&[3]).build(&[3], 2).unwrap();
        assert_eq!(
            message(softmax.as_ref(), &save(square.as_ref())),
            "the file has a tensor `hidden0.bias` that the model does not have"
        );
        let mut integers = save(softmax.as_ref());
        let type_name = integers.windows(3).position(|window| window == b"F32").unwrap();
        integers[type_name] = b'I';
        assert_eq!(
            message(softmax.as_ref(), &integers),
            "tensor `output.weight` holds values of type I32, expected F32"
        );
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let model = model(4);
        let bytes = to_safetensors(model.as_ref(), &vec![0.0; model.n_parameters()], &metadata());
        for length in [0, 7, 8, 100, bytes.len() - 1] {
            let error = from_safetensors(model.as_ref(), &bytes[..length]).unwrap_err();
            assert!(
                error.to_string().starts_with("not a safetensors file: "),
                "{error}"
            );
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(from_safetensors(model.as_ref(), &longer).is_err());
    }
}
