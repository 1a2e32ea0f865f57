//! Which model to build.

use std::sync::Arc;

use super::Model;
use super::cnn::{self, CnnSpec};
use super::transformer::{self, TransformerSpec};
use super::{Activation, Loss, bag_of_words, lstm, mlp, text_pool};

/// A kind of model with its settings.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ModelSpec {
    /// Logistic regression on the words of texts, which may be hashed.
    BagOfWords {
        /// Number of distinct tokens; tokens are below it.
        n_tokens: usize,
        /// What an occurrence of each token counts, `[n_tokens]`; all alike where there are none.
        weights: Option<Arc<[f32]>>,
    },
    /// A convolutional network for images.
    Cnn(CnnSpec),
    /// Embedding, LSTM and a sigmoid (or a softmax, for more than two classes), for texts.
    Lstm {
        /// Rows of the table of embeddings; tokens are below it.
        n_tokens: usize,
        /// Width of an embedding.
        embedding: usize,
        /// Units of the LSTM.
        units: usize,
    },
    /// A multi-layer perceptron.
    Mlp {
        /// Widths of the hidden layers, from the input on.
        hidden: Vec<usize>,
        /// What stands behind each of them.
        activation: Activation,
        /// Share of their values that training drops at random, at least 0 and below 1.
        dropout: f32,
        /// What is minimised.
        loss: Loss,
    },
    /// Softmax regression: one linear layer.
    Softmax,
    /// The mean of embeddings, dense layers and a sigmoid (or a softmax, for more than two classes), for texts.
    TextPool {
        /// Rows of the table of embeddings; tokens are below it.
        n_tokens: usize,
        /// Width of an embedding.
        embedding: usize,
        /// Widths of the dense layers of rectified linear units; may be empty.
        hidden: Vec<usize>,
        /// Share of the mean's values that training drops at random, at least 0 and below 1.
        dropout: f32,
    },
    /// A transformer encoder, the mean over its places and a sigmoid (or a softmax, for more than two classes), for texts.
    Transformer {
        /// Rows of the table of embeddings; tokens are below it.
        n_tokens: usize,
        /// Its sizes.
        spec: TransformerSpec,
    },
}

/// Why a model cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Nothing to tell apart.
    #[error("a classifier needs at least 2 classes, the data has {got}")]
    Classes {
        /// Classes of the data.
        got: usize,
    },
    /// A share of dropped values out of range.
    #[error("dropout must be at least 0 and below 1, got {got}")]
    Dropout {
        /// The share that came.
        got: f32,
    },
    /// A hidden layer without units.
    #[error("hidden layers must have at least 1 unit each, got {hidden:?}")]
    EmptyLayer {
        /// The widths that came.
        hidden: Vec<usize>,
    },
    /// Heads that do not share the width evenly.
    #[error("the width of a transformer, {width}, must be a multiple of its number of heads, {heads}")]
    Heads {
        /// The width that came.
        width: usize,
        /// The heads that came.
        heads: usize,
    },
    /// More layers than anybody needs, which are refused before any is built.
    #[error("a transformer may have at most {limit} layers, got {got}")]
    Layers {
        /// The layers that came.
        got: usize,
        /// The most layers.
        limit: usize,
    },
    /// A perceptron without a hidden layer.
    #[error(
        "an MLP needs at least one hidden layer; without one it is softmax regression, the model `softmax`"
    )]
    NoHiddenLayer,
    /// An example without values.
    #[error("an example of this data has no values")]
    NoFeatures,
    /// A filter without a middle, or one that reaches beyond the image on both sides.
    #[error("the side of a filter must be odd, and at most twice that of an image, got {got}")]
    Kernel {
        /// The side that came.
        got: usize,
    },
    /// Examples that are no images.
    #[error(
        "a CNN needs examples of shape [height, width] or [channels, height, width], the data has {shape:?}"
    )]
    NoImage {
        /// The shape of an example.
        shape: Vec<usize>,
    },
    /// Examples that are no sequences of tokens.
    #[error(
        "a model of texts needs examples that are a list of tokens, the data has examples of shape {shape:?}"
    )]
    NoText {
        /// The shape of an example.
        shape: Vec<usize>,
    },
    /// More poolings than halvings.
    #[error("images of shape {shape:?} cannot be halved {n_pools} times")]
    TooManyPools {
        /// The shape of an example.
        shape: Vec<usize>,
        /// Poolings that were asked for.
        n_pools: usize,
    },
    /// One logit tells two classes apart, no more.
    #[error("a model with a single sigmoid needs data of 2 classes, the data has {got}")]
    NotBinary {
        /// Classes of the data.
        got: usize,
    },
    /// More parameters than are supported.
    #[error("the model would have more than {limit} parameters")]
    TooLarge {
        /// The most parameters.
        limit: usize,
    },
}

impl ModelSpec {
    /// A perceptron of rectified linear units with a softmax cross-entropy, and no dropout.
    pub fn mlp(hidden: &[usize]) -> Self {
        Self::Mlp {
            hidden: hidden.to_vec(),
            activation: Activation::Relu,
            dropout: 0.0,
            loss: Loss::SoftmaxCrossEntropy,
        }
    }

    /// Builds the model for examples of this shape and this number of classes.
    pub fn build(&self, shape: &[usize], n_classes: usize) -> Result<Box<dyn Model>, ModelError> {
        let n_features = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size));
        let n_features = n_features.ok_or(ModelError::TooLarge { limit: usize::MAX })?;
        let length = || match *shape {
            [length] => Ok(length),
            _ => Err(ModelError::NoText {
                shape: shape.to_vec(),
            }),
        };
        match self {
            Self::BagOfWords { n_tokens, weights } => Ok(Box::new(bag_of_words::build(
                *n_tokens,
                length()?,
                weights.as_ref(),
                n_classes,
            )?)),
            Self::Cnn(spec) => Ok(Box::new(cnn::build(spec, shape, n_classes)?)),
            Self::Lstm {
                n_tokens,
                embedding,
                units,
            } => Ok(Box::new(lstm::build(
                *n_tokens,
                length()?,
                *embedding,
                *units,
                n_classes,
            )?)),
            Self::TextPool {
                n_tokens,
                embedding,
                hidden,
                dropout,
            } => {
                let length = length()?;
                let chain = text_pool::build(*n_tokens, length, *embedding, hidden, *dropout, n_classes)?;
                Ok(Box::new(chain))
            }
            Self::Transformer { n_tokens, spec } => Ok(Box::new(transformer::build(
                *n_tokens,
                length()?,
                spec,
                n_classes,
            )?)),
            Self::Mlp { hidden, .. } if hidden.is_empty() => Err(ModelError::NoHiddenLayer),
            Self::Mlp {
                hidden,
                activation,
                dropout,
                loss,
            } => {
                let chain = mlp::build(n_features, hidden, n_classes, *activation, *dropout, *loss)?;
                Ok(Box::new(chain))
            }
            Self::Softmax => {
                let chain = mlp::build(
                    n_features,
                    &[],
                    n_classes,
                    Activation::Relu,
                    0.0,
                    Loss::SoftmaxCrossEntropy,
                )?;
                Ok(Box::new(chain))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_named_views_without_gaps() {
        let spec = ModelSpec::mlp(&[200]);
        let model = spec.build(&[28, 28], 10).unwrap();
        let views: Vec<(&str, &[usize], usize)> = model
            .parameters()
            .iter()
            .map(|view| (view.name.as_str(), view.shape.as_slice(), view.offset))
            .collect();
        let expected: [(&str, &[usize], usize); 4] = [
            ("hidden0.weight", &[784, 200], 0),
            ("hidden0.bias", &[200], 156_800),
            ("output.weight", &[200, 10], 157_000),
            ("output.bias", &[10], 159_000),
        ];
        assert_eq!(views, expected);
        assert_eq!(model.n_parameters(), 159_010);
        assert_eq!(
            ModelSpec::Softmax.build(&[28, 28], 10).unwrap().n_parameters(),
            7_850
        );
    }

    #[test]
    fn models_that_cannot_be_are_refused_with_the_reason() {
        let build = |hidden: &[usize], shape: &[usize], n_classes| {
            ModelSpec::mlp(hidden).build(shape, n_classes).unwrap_err()
        };
        assert_eq!(build(&[], &[4], 2), ModelError::NoHiddenLayer);
        assert_eq!(
            build(&[3, 0], &[4], 2),
            ModelError::EmptyLayer { hidden: vec![3, 0] }
        );
        assert_eq!(build(&[3], &[4], 1), ModelError::Classes { got: 1 });
        assert_eq!(build(&[3], &[0], 2), ModelError::NoFeatures);
        assert!(matches!(
            build(&[usize::MAX], &[4], 2),
            ModelError::TooLarge { .. }
        ));
        assert!(matches!(
            build(&[1 << 20], &[1 << 20], 2),
            ModelError::TooLarge { .. }
        ));
        assert!(matches!(
            build(&[3], &[usize::MAX, 3], 2),
            ModelError::TooLarge { .. }
        ));
    }
}
