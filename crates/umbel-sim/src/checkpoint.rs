//! A checkpoint as a safetensors file.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use umbel_protocol::{Checkpoint, RoundId, StateVector};
use zeroize::Zeroizing;

/// Why a file is no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CheckpointFault(String);

/// Name of the tensor that holds the model; the strategy's vectors follow under `strategy/…`.
const PARAMETERS: &str = "parameters";

/// Name of the tensor of bytes that the mechanism remembers.
const MECHANISM: &str = "mechanism";

/// The file's content. Vectors are flat, little-endian `f32`; the round stands in the metadata.
pub fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>, CheckpointFault> {
    let mut vectors = vec![(PARAMETERS.to_owned(), to_bytes(&checkpoint.parameters))];
    for (place, vector) in checkpoint.strategy.iter().enumerate() {
        vectors.push((
            format!("strategy/{place}/{}", vector.name),
            to_bytes(&vector.values),
        ));
    }
    let fault = |error: safetensors::SafeTensorError| CheckpointFault(error.to_string());
    let mut tensors: Vec<_> = vectors
        .iter()
        .map(|(name, bytes)| {
            TensorView::new(Dtype::F32, vec![bytes.len() / 4], bytes).map(|view| (name.as_str(), view))
        })
        .collect::<Result<_, _>>()
        .map_err(fault)?;
    let mechanism = &checkpoint.mechanism;
    if !mechanism.is_empty() {
        tensors.push((
            MECHANISM,
            TensorView::new(Dtype::U8, vec![mechanism.len()], mechanism).map_err(fault)?,
        ));
    }
    let metadata = HashMap::from([("round".to_owned(), checkpoint.round.0.to_string())]);
    safetensors::serialize(tensors, Some(metadata)).map_err(fault)
}

/// Reads what [`encode`] wrote.
pub fn decode(content: &[u8]) -> Result<Checkpoint, CheckpointFault> {
    let fault = |reason: String| CheckpointFault(reason);
    let (_, metadata) = SafeTensors::read_metadata(content).map_err(|error| fault(error.to_string()))?;
    let round = metadata
        .metadata()
        .as_ref()
        .and_then(|pairs| pairs.get("round")?.parse().ok());
    let round = round.ok_or_else(|| fault("expected a `round` in the metadata".to_owned()))?;
    let tensors = SafeTensors::deserialize(content).map_err(|error| fault(error.to_string()))?;
    let mut parameters = None;
    let mut strategy = Vec::new();
    let mut mechanism = Zeroizing::default();
    for (name, view) in tensors.tensors() {
        if name == MECHANISM && view.dtype() == Dtype::U8 {
            mechanism = Zeroizing::new(view.data().to_vec());
            continue;
        }
        if view.dtype() != Dtype::F32 {
            return Err(fault(format!(
                "expected `{name}` to be F32, got {:?}",
                view.dtype()
            )));
        }
        let values = from_bytes(view.data());
        if name == PARAMETERS {
            parameters = Some(values);
            continue;
        }
        let parts: Vec<_> = name.splitn(3, '/').collect();
        match parts[..] {
            ["strategy", place, name] if place.parse::<usize>().is_ok() => {
                strategy.push((
                    place.parse().unwrap_or(0),
                    StateVector {
                        name: name.to_owned(),
                        values,
                    },
                ));
            }
            _ => return Err(fault(format!("a tensor `{name}` that no checkpoint has"))),
        }
    }
    strategy.sort_by_key(|(place, _): &(usize, _)| *place);
    Ok(Checkpoint {
        round: RoundId(round),
        parameters: parameters
            .ok_or_else(|| fault(format!("expected a tensor `{PARAMETERS}`")))?
            .into(),
        strategy: strategy.into_iter().map(|(_, vector)| vector).collect(),
        mechanism,
    })
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn from_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|value| f32::from_le_bytes([value[0], value[1], value[2], value[3]]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back() {
        let vector = |name: &str, value| StateVector {
            name: name.to_owned(),
            values: vec![value; 3],
        };
        let checkpoint = Checkpoint {
            round: RoundId(12),
            parameters: vec![1.0, -0.0, f32::MIN_POSITIVE].into(),
            strategy: vec![vector("second", 2.0), vector("first", 1.0)],
            mechanism: Zeroizing::new(vec![1, 2, 3, 4, 5]),
        };
        let back = decode(&encode(&checkpoint).unwrap()).unwrap();
        assert_eq!(
            (back.round, &back.parameters),
            (checkpoint.round, &checkpoint.parameters)
        );
        assert_eq!(back.strategy, checkpoint.strategy);
        assert_eq!(back.mechanism, checkpoint.mechanism);
    }

    #[test]
    fn damage_is_found() {
        let checkpoint = Checkpoint {
            round: RoundId(1),
            parameters: vec![1.0; 8].into(),
            strategy: Vec::new(),
            mechanism: Zeroizing::default(),
        };
        let content = encode(&checkpoint).unwrap();
        for length in [0, 4, 20, content.len() - 1] {
            assert!(decode(&content[..length]).is_err());
        }
    }
}
