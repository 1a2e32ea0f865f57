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
//!
//! ```
//! use umbel_train::{
//!     Dataset, LocalTrainer, LocalTraining, ModelSpec, Optimizer, PartitionSpec, Sgd, TrainingRng, TrainingWorkspace,
//!     evaluate,
//! };
//!
//! let values = vec![0.0, 1.0, 1.0, 0.0, 0.1, 0.9, 0.8, 0.2];
//! let dataset = Dataset::from_values("four points", &[2], values, vec![0, 1, 0, 1], 2)?;
//! let mut rng = TrainingRng::from_seed([7; 32]);
//! let partition = PartitionSpec::Iid { clients: 2 }.partition(&dataset, None, &mut rng)?;
//!
//! let model = ModelSpec::Softmax.build(dataset.shape(), dataset.n_classes())?;
//! let mut global = vec![0.0; model.n_parameters()];
//! model.initialize(&mut global, &mut rng);
//!
//! let training = LocalTraining::new(10, 1, Optimizer::Sgd(Sgd::new(0.5)?))?;
//! let trainer = LocalTrainer::new(model.as_ref(), &dataset, training)?;
//! let mut workspace = TrainingWorkspace::new();
//! let mut update = vec![0.0; model.n_parameters()];
//! for client in 0..partition.n_clients() {
//!     trainer.train(&global, partition.examples(client), &mut rng, &mut workspace, &mut update);
//!     // Clipping, summing and noise are other crates' work; here each client simply goes on from the one before.
//!     global.iter_mut().zip(&update).for_each(|(parameter, change)| *parameter += change);
//! }
//! let evaluation = evaluate(model.as_ref(), &global, &dataset, &mut workspace);
//! assert_eq!(evaluation.n_correct, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod augmentation;
mod dataset;
mod evaluation;
mod local;
mod model;
mod optimizer;
mod partition;
mod prediction;
mod reader;
mod rng;
mod tokenizer;
mod transform;

#[cfg(test)]
mod test_files;

pub use augmentation::{Augmentation, AugmentationError};
pub use dataset::{DataError, Dataset, Features};
pub use evaluation::{EVALUATION_CHUNK, Evaluation, evaluate, evaluate_chunk, evaluation_chunks};
pub use local::{LocalReport, LocalTrainer, LocalTraining, SettingError, TrainingWorkspace};
pub use model::{
    Activation, Batch, Checkpoint, CheckpointError, ClippingReport, CnnSpec, GradientPart, GradientParts,
    Loss, Model, ModelError, ModelSpec, ParameterView, SgdStep, TransformerSpec, Workspace, from_safetensors,
    safetensors_metadata, to_safetensors,
};
pub use optimizer::{Adam, Momentum, Optimizer, OptimizerState, Sgd};
pub use partition::{
    ClientLabels, HistogramBin, LABELLED_CLIENTS, Partition, PartitionError, PartitionSpec, PartitionSummary,
    QuantitySkew,
};
pub use prediction::predict;
pub use reader::{
    ClientKeys, Column, ColumnKind, CsvSchema, CsvTable, IdxArray, LabelValues, MAX_IDX_BYTES, Place,
    ReadError, ReadFault, TextOptions, TextTable, Vocabulary, WordWeights, read_client_keys, read_csv,
    read_idx, read_text, read_unlabelled_csv, read_unlabelled_text, read_vocabulary, read_word_weights,
};
pub use rng::TrainingRng;
pub use tokenizer::{PADDING_TOKEN, RANK_OFFSET, START_TOKEN, Tokenizer, TokenizerError, UNKNOWN_TOKEN};
pub use transform::{Transform, TransformError};
