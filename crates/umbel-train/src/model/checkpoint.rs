//! Saving and loading parameters in the safetensors format.
//!
//! The file is written here rather than by the `safetensors` crate because that keeps metadata in a hash map: with two
//! entries or more, the same model would give different bytes from run to run. Reading uses the crate.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors};

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
            .map(|(key, value)| format!("{}:{}", json(key), json(value)))
            .collect();
        entries.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    for view in model.parameters() {
        let range = view.range();
        let (name, shape) = (json(&view.name), &view.shape);
        let (begin, end) = (range.start * size_of::<f32>(), range.end * size_of::<f32>());
        entries.push(format!(
            "{name}:{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}"
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
    let metadata = header
        .metadata()
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Ok(Checkpoint { parameters, metadata })
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
