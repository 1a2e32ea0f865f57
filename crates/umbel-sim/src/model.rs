//! From the settings of a model to what builds it.

use umbel_experiment::{ActivationSettings, Experiment, LossSettings, ModelSettings};
use umbel_train::{Activation, CnnSpec, Dataset, Features, Loss, Model, ModelSpec, TransformerSpec};

use crate::SimulateError;
use crate::prepare::to_single;

/// The model of the experiment, for examples like those of `dataset`.
pub(crate) fn build_model(
    experiment: &Experiment,
    dataset: &Dataset,
) -> Result<Box<dyn Model>, SimulateError> {
    let mut spec = spec(&experiment.model, dataset.features())?;
    match (&mut spec, dataset.token_weights()) {
        (ModelSpec::BagOfWords { weights, .. }, given) => *weights = given.cloned(),
        (_, None) => {}
        (_, Some(_)) => {
            return Err(SimulateError::Setting {
                key: "data.idf",
                reason: format!(
                    "expected the model `bag-of-words`, which weights words; the model is `{}`",
                    experiment.model.kind()
                ),
            });
        }
    }
    Ok(spec.build(dataset.shape(), dataset.n_classes())?)
}

fn spec(settings: &ModelSettings, features: Features) -> Result<ModelSpec, SimulateError> {
    let of_texts = matches!(
        settings,
        ModelSettings::BagOfWords
            | ModelSettings::Lstm { .. }
            | ModelSettings::TextPool { .. }
            | ModelSettings::Transformer { .. }
    );
    let n_tokens = match features {
        Features::Dense if of_texts => return refuse(settings, "texts", features),
        Features::Tokens { .. } if !of_texts => return refuse(settings, "numbers", features),
        Features::Dense => 0,
        Features::Tokens { n_tokens } => n_tokens,
    };
    Ok(match settings {
        ModelSettings::BagOfWords => ModelSpec::BagOfWords {
            n_tokens,
            weights: None,
        },
        ModelSettings::Cnn {
            filters,
            kernel,
            hidden,
            activation,
            dropout,
        } => {
            let mut spec = CnnSpec::default();
            spec.filters = filters.clone();
            spec.kernel = *kernel;
            spec.hidden = hidden.clone();
            spec.activation = to_activation(*activation);
            spec.dropout = to_single(*dropout);
            ModelSpec::Cnn(spec)
        }
        ModelSettings::Lstm { embedding, units } => ModelSpec::Lstm {
            n_tokens,
            embedding: *embedding,
            units: *units,
        },
        ModelSettings::Mlp {
            hidden,
            activation,
            dropout,
            loss,
        } => ModelSpec::Mlp {
            hidden: hidden.clone(),
            activation: to_activation(*activation),
            dropout: to_single(*dropout),
            loss: match loss {
                LossSettings::BinaryCrossEntropy => Loss::BinaryCrossEntropy,
                LossSettings::SoftmaxCrossEntropy => Loss::SoftmaxCrossEntropy,
                LossSettings::SquaredError => Loss::SquaredError,
            },
        },
        ModelSettings::Softmax => ModelSpec::Softmax,
        ModelSettings::TextPool {
            embedding,
            hidden,
            dropout,
        } => ModelSpec::TextPool {
            n_tokens,
            embedding: *embedding,
            hidden: hidden.clone(),
            dropout: to_single(*dropout),
        },
        ModelSettings::Transformer {
            width,
            heads,
            layers,
            hidden,
        } => {
            let mut spec = TransformerSpec::default();
            spec.width = *width;
            spec.heads = *heads;
            spec.layers = *layers;
            spec.hidden = *hidden;
            ModelSpec::Transformer { n_tokens, spec }
        }
        other => unreachable!("the settings know no model {other:?}"),
    })
}

fn to_activation(settings: ActivationSettings) -> Activation {
    match settings {
        ActivationSettings::Relu => Activation::Relu,
        ActivationSettings::Sigmoid => Activation::Sigmoid,
        ActivationSettings::Tanh => Activation::Tanh,
    }
}

fn refuse<T>(settings: &ModelSettings, expected: &str, got: Features) -> Result<T, SimulateError> {
    Err(SimulateError::Setting {
        key: "model.kind",
        reason: format!(
            "a model of kind `{}` is for {expected}; the data are {got}",
            settings.kind()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_of_texts_and_of_numbers_are_not_mixed_up() {
        let lstm = ModelSettings::Lstm {
            embedding: 4,
            units: 4,
        };
        let error = spec(&lstm, Features::Dense).unwrap_err().to_string();
        assert!(
            error.contains("`lstm` is for texts; the data are numbers"),
            "{error}"
        );
        let error = spec(&ModelSettings::Softmax, Features::Tokens { n_tokens: 9 }).unwrap_err();
        assert!(error.to_string().contains("`softmax` is for numbers"), "{error}");
        let built = spec(&lstm, Features::Tokens { n_tokens: 9 }).unwrap();
        assert!(matches!(built, ModelSpec::Lstm { n_tokens: 9, .. }));
    }
}
