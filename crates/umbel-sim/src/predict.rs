//! Predictions of a run's model: the same preprocessing as in training, from what lies in the run directory.

use std::collections::BTreeMap;
use std::path::Path;

use umbel_experiment::{Experiment, FormatSettings, Overrides, RunFile, read_file};
use umbel_train::{
    Dataset, Model, TrainingWorkspace, from_safetensors, predict, safetensors_metadata, to_safetensors,
};

use crate::SimulateError;
use crate::data::DataReader;
use crate::model::build_model;

/// What the model says of the examples of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// The name of each class, where the experiment says one, else its number.
    pub classes: Vec<String>,
    /// One for each example, in the order of the file.
    pub examples: Vec<Prediction>,
}

/// What the model says of one example.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The most probable class; of equally probable ones the first.
    pub class: usize,
    /// The probability of each class.
    pub probabilities: Vec<f32>,
    /// The class that the file says, where it does.
    pub label: Option<usize>,
}

impl Predictions {
    /// The share of examples whose label was predicted; `None` where the file has no labels.
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub fn accuracy(&self) -> Option<f64> {
        let labels: Option<Vec<bool>> = self
            .examples
            .iter()
            .map(|example| Some(example.label? == example.class))
            .collect();
        let labels = labels?;
        Some(labels.iter().filter(|&&is_right| is_right).count() as f64 / labels.len() as f64)
    }
}

/// Predicts the examples in the file `input` with the model in the run directory `directory`.
///
/// # Errors
///
/// No finished run there, an input that is not of the experiment's format, or a model whose parameters are no numbers any more.
pub fn predict_file(directory: &Path, input: &Path) -> Result<Predictions, SimulateError> {
    let path = directory.join(RunFile::Experiment.name());
    let text = String::from_utf8_lossy(&read_file(&path)?).into_owned();
    let mut experiment = Experiment::parse(&text, directory, &Overrides::default())
        .map_err(|source| SimulateError::RunExperiment { path, source })?;
    if let FormatSettings::Text(text) = &mut experiment.data.format {
        let own = |file: RunFile| directory.join(file.name());
        *text = text
            .clone()
            .with_files(&own(RunFile::Vocabulary), &own(RunFile::Idf));
    }
    let model_path = directory.join(RunFile::Model.name());
    let bytes = read_file(&model_path)?;
    let damaged = |reason: String| SimulateError::RunModel {
        path: model_path.clone(),
        reason,
    };
    let metadata = safetensors_metadata(&bytes).map_err(|error| damaged(error.to_string()))?;
    // A run whose settings do not say how many classes there are has counted them.
    let counted = metadata.get("classes").and_then(|classes| classes.parse().ok());
    experiment.data.classes = experiment.data.classes.or(counted);

    let reader = DataReader::new(&experiment.data)?;
    let (dataset, labels) = reader.read_for_prediction(input)?;
    check_shape(&dataset, metadata.get("shape"), input)?;
    let model = build_model(&experiment, &dataset)?;
    let checkpoint = from_safetensors(model.as_ref(), &bytes).map_err(|error| damaged(error.to_string()))?;
    let probabilities = predict(
        model.as_ref(),
        &checkpoint.parameters,
        &dataset,
        &mut TrainingWorkspace::new(),
    );
    if probabilities.iter().any(|probability| !probability.is_finite()) {
        return Err(damaged(
            "its parameters give no finite probabilities; the training diverged".to_owned(),
        ));
    }
    let examples =
        probabilities
            .chunks_exact(model.n_classes())
            .enumerate()
            .map(|(example, probabilities)| Prediction {
                class: most_probable(probabilities),
                probabilities: probabilities.to_vec(),
                label: labels.as_ref().map(|labels| labels[example] as usize),
            });
    Ok(Predictions {
        classes: class_names(&experiment, model.n_classes()),
        examples: examples.collect(),
    })
}

/// The first of the largest.
fn most_probable(probabilities: &[f32]) -> usize {
    let mut best = 0;
    for (class, &probability) in probabilities.iter().enumerate() {
        if probability > probabilities[best] {
            best = class;
        }
    }
    best
}

fn class_names(experiment: &Experiment, n_classes: usize) -> Vec<String> {
    let data = &experiment.data;
    let name = |class: usize| {
        let written = data
            .format
            .label_values()
            .get(class)
            .and_then(|texts| texts.first());
        data.class_names.get(class).or(written).cloned()
    };
    (0..n_classes)
        .map(|class| name(class).unwrap_or_else(|| class.to_string()))
        .collect()
}

/// Checks that examples have the shape that the model was trained with.
fn check_shape(dataset: &Dataset, trained: Option<&String>, input: &Path) -> Result<(), SimulateError> {
    let got = shape_text(dataset.shape());
    match trained {
        Some(trained) if *trained != got => Err(SimulateError::InputShape {
            path: input.to_owned(),
            expected: trained.clone(),
            got,
        }),
        _ => Ok(()),
    }
}

/// The bytes of `model.safetensors` after `rounds` rounds: the parameters, and what a prediction needs to know besides. Of `data`, any
/// of the task, only the shape and the number of classes count.
pub fn model_file(name: &str, model: &dyn Model, data: &Dataset, parameters: &[f32], rounds: u64) -> Vec<u8> {
    let metadata = BTreeMap::from([
        ("classes".to_owned(), data.n_classes().to_string()),
        ("format".to_owned(), "umbel-model-v1".to_owned()),
        ("name".to_owned(), name.to_owned()),
        ("rounds".to_owned(), rounds.to_string()),
        ("shape".to_owned(), shape_text(data.shape())),
    ]);
    to_safetensors(model, parameters, &metadata)
}

/// A shape as it stands in the metadata of a model file, such as `28 × 28`.
fn shape_text(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
    sizes.join(" × ")
}
