//! Data, models, partitions and local training.
//!
//! This crate turns files into a [`Dataset`], splits it over clients ([`Partition`]), builds a [`Model`] whose
//! parameters are one flat vector, and trains it on one client's examples ([`LocalTrainer`]). It knows nothing of
//! noise, accounting, rounds or networks: it neither clips nor adds noise, and what it returns is private data until
//! a mechanism has dealt with it.
//!
//! Randomness comes in as a [`TrainingRng`], made from a seed by the caller. The same inputs and the same generator
//! give the same bits on one machine, whatever the number of threads; on another kind of processor the matrix
//! products may round differently.
//!
//! To add a reader, a partitioner or a model, add one file beside its siblings.

mod dataset;
mod evaluation;
mod local;
mod model;
mod partition;
mod reader;
mod rng;
mod transform;

#[cfg(test)]
mod test_files;

pub use dataset::{DataError, Dataset};
pub use evaluation::{EVALUATION_CHUNK, Evaluation, evaluate, evaluate_chunk, evaluation_chunks};
pub use local::{LocalReport, LocalTrainer, LocalTraining, Optimizer, SettingError, Sgd, TrainingWorkspace};
pub use model::{
    Activation, Batch, Checkpoint, CheckpointError, Mlp, Model, ModelError, ModelSpec, ParameterView,
    SgdStep, Workspace, from_safetensors, to_safetensors,
};
pub use partition::{
    ClientLabels, HistogramBin, LABELLED_CLIENTS, Partition, PartitionError, PartitionSpec, PartitionSummary,
};
pub use reader::{
    ClientKeys, IdxArray, MAX_IDX_BYTES, Place, ReadError, ReadFault, read_client_keys, read_idx,
};
pub use rng::TrainingRng;
pub use transform::{Transform, TransformError};
