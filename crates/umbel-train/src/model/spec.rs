//! Which model to build.

use super::Model;
use super::mlp::{Activation, Mlp};

/// A kind of model with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModelSpec {
    /// A multi-layer perceptron.
    Mlp {
        /// Widths of the hidden layers, from the input on.
        hidden: Vec<usize>,
        /// What stands behind each of them.
        activation: Activation,
    },
    /// Softmax regression: one linear layer.
    Softmax,
}

/// Why a model cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Nothing to tell apart.
    #[error("a classifier needs at least 2 classes, the data has {got}")]
    Classes {
        /// Classes of the data.
        got: usize,
    },
    /// A hidden layer without units.
    #[error("hidden layers must have at least 1 unit each, got {hidden:?}")]
    EmptyLayer {
        /// The widths that came.
        hidden: Vec<usize>,
    },
    /// A perceptron without a hidden layer.
    #[error(
        "an MLP needs at least one hidden layer; without one it is softmax regression, the model `softmax`"
    )]
    NoHiddenLayer,
    /// An example without values.
    #[error("an example of this data has no values")]
    NoFeatures,
    /// More parameters than are supported.
    #[error("the model would have more than {limit} parameters")]
    TooLarge {
        /// The most parameters.
        limit: usize,
    },
}

impl ModelSpec {
    /// Builds the model for examples of this shape and this number of classes.
    pub fn build(&self, shape: &[usize], n_classes: usize) -> Result<Box<dyn Model>, ModelError> {
        let n_features = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size));
        let n_features = n_features.ok_or(ModelError::TooLarge { limit: usize::MAX })?;
        match self {
            Self::Mlp { hidden, .. } if hidden.is_empty() => Err(ModelError::NoHiddenLayer),
            Self::Mlp { hidden, activation } => {
                Ok(Box::new(Mlp::new(n_features, hidden, n_classes, *activation)?))
            }
            Self::Softmax => Ok(Box::new(Mlp::new(n_features, &[], n_classes, Activation::Relu)?)),
        }
    }
}
