//! The transformer classifier for text.

use super::chain::Chain;
use super::layer::{
    Attention, Dense, Embedding, Initial, Layer, LayerNorm, MeanPool, Positions, Residual, SequenceDense,
};
use super::loss::Loss;
use super::{Activation, ModelError};

/// What distinguishes one transformer from another.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransformerSpec {
    /// Width of an embedding, and of what each layer gives; a multiple of `heads`.
    pub width: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Encoder layers.
    pub layers: usize,
    /// Width between the two dense layers behind each attention.
    pub hidden: usize,
}

impl Default for TransformerSpec {
    /// A small encoder: two layers of width 64 with 4 heads, and 256 between their dense layers.
    fn default() -> Self {
        Self {
            width: 64,
            heads: 4,
            layers: 2,
            hidden: 256,
        }
    }
}

const MAX_LAYERS: usize = 1000;

/// An encoder as in Vaswani et al. (2017) with normalisation before each part (Xiong et al. 2020) and learnt places:
///
/// ```text
/// x = embedding + place      x = x + attention(norm(x))      x = x + dense(relu(dense(norm(x))))      … for each layer
/// logits = dense(mean over places of norm(x))
/// ```
///
/// Examples are `length` tokens below `n_tokens`; padding (token 0) is a token like the others. Parameters: `embedding.weight`,
/// `position.weight`; for each layer `attention{i}.` with `norm.weight`, `norm.bias`, `qkv.weight` `[width, 3 width]`, `qkv.bias`,
/// `output.weight`, `output.bias`, and `feed_forward{i}.` with `norm.weight`, `norm.bias`, `hidden.weight`, `hidden.bias`,
/// `output.weight`, `output.bias`; `norm.weight`, `norm.bias`, `output.weight`, `output.bias`. There is one sigmoid for two classes,
/// else a softmax. There is no dropout.
pub(super) fn build(
    n_tokens: usize,
    length: usize,
    spec: &TransformerSpec,
    n_classes: usize,
) -> Result<Chain, ModelError> {
    let TransformerSpec {
        width,
        heads,
        layers: n_layers,
        hidden,
    } = *spec;
    if n_tokens == 0 || length == 0 {
        return Err(ModelError::NoFeatures);
    }
    if width == 0 || hidden == 0 {
        return Err(ModelError::EmptyLayer {
            hidden: vec![width, hidden],
        });
    }
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(ModelError::Heads { width, heads });
    }
    super::check_size(&[length, length, heads])?;
    super::check_size(&[length, width, 4])?;
    super::check_size(&[length, hidden])?;
    super::check_size(&[width, width, 4])?;
    super::check_size(&[width, hidden, 2])?;
    if n_layers > MAX_LAYERS {
        return Err(ModelError::Layers {
            got: n_layers,
            limit: MAX_LAYERS,
        });
    }
    let loss = Loss::cross_entropy(n_classes);
    let norm = || Box::new(LayerNorm { length, width }) as Box<dyn Layer>;
    let dense = |n_inputs, n_outputs, activation: Option<Activation>| {
        let dense = Dense {
            n_inputs,
            n_outputs,
            activation,
            initial: activation.map_or(Initial::Glorot, Initial::before),
        };
        Box::new(SequenceDense { length, dense }) as Box<dyn Layer>
    };
    let embedding = Embedding {
        n_tokens,
        length,
        width,
    };
    let mut layers: Vec<(String, Box<dyn Layer>)> = vec![
        ("embedding".to_owned(), Box::new(embedding)),
        ("position".to_owned(), Box::new(Positions { length, width })),
    ];
    for index in 0..n_layers {
        let attention = Residual::new(vec![
            (norm(), &["norm.weight", "norm.bias"]),
            (dense(width, 3 * width, None), &["qkv.weight", "qkv.bias"]),
            (Box::new(Attention { length, width, heads }), &[]),
            (dense(width, width, None), &["output.weight", "output.bias"]),
        ]);
        let feed_forward = Residual::new(vec![
            (norm(), &["norm.weight", "norm.bias"]),
            (
                dense(width, hidden, Some(Activation::Relu)),
                &["hidden.weight", "hidden.bias"],
            ),
            (dense(hidden, width, None), &["output.weight", "output.bias"]),
        ]);
        layers.push((format!("attention{index}"), Box::new(attention)));
        layers.push((format!("feed_forward{index}"), Box::new(feed_forward)));
    }
    let output = Dense {
        n_inputs: width,
        n_outputs: loss.n_values(n_classes),
        activation: None,
        initial: Initial::Glorot,
    };
    layers.push(("norm".to_owned(), norm()));
    layers.push(("mean".to_owned(), Box::new(MeanPool { length, width })));
    layers.push(("output".to_owned(), Box::new(output)));
    Chain::new(layers, loss, n_classes)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::model::{Batch, Model, checks};
    use crate::rng::TrainingRng;

    struct Case {
        model: Chain,
        parameters: Vec<f32>,
        features: Vec<f32>,
        labels: Vec<u32>,
    }

    /// A small encoder. With a length of 3 norms of dense layers are found from pairs of places, with 12 they are written down.
    fn case(length: usize, n_classes: u32, n_examples: usize) -> Case {
        let mut rng = TrainingRng::from_seed([3; 32]);
        let spec = TransformerSpec {
            width: 12,
            heads: 3,
            layers: 2,
            hidden: 16,
        };
        let model = build(9, length, &spec, n_classes as usize).unwrap();
        let mut parameters = vec![0.0; model.n_parameters()];
        model.initialize(&mut parameters, &mut rng);
        for value in &mut parameters {
            *value += rng.random_range(-0.3..0.3);
        }
        Case {
            parameters,
            features: (0..n_examples * length)
                .map(|_| f32::from(rng.random_range(0..9_u8)))
                .collect(),
            labels: (0..n_examples).map(|_| rng.random_range(0..n_classes)).collect(),
            model,
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for (length, n_classes) in [(3, 2), (12, 4)] {
            let case = case(length, n_classes, 2);
            let batch = Batch::new(&case.features, &case.labels);
            checks::gradient_is_that_of_finite_differences(&case.model, &case.parameters, batch, 2e-3);
        }
    }

    #[test]
    fn the_clipped_sum_is_that_of_single_gradients() {
        for n_examples in checks::BATCH_SIZES {
            for length in [2, 12] {
                let case = case(length, 2, n_examples);
                let batch = Batch::new(&case.features, &case.labels);
                checks::clipped_sum_is_that_of_single_gradients(&case.model, &case.parameters, batch);
                checks::abuses_are_withstood(&case.model, &case.parameters, batch);
                checks::zero_gradients_add_nothing(&case.model, &case.parameters, batch);
            }
        }
    }

    /// Vocabulary 10,000, width 64, 4 heads, 2 layers, length 128.
    #[test]
    fn parameters_have_their_names_and_sizes() {
        let model = build(10_000, 128, &TransformerSpec::default(), 2).unwrap();
        let block = 12 * 64 * 64 + (3 + 1 + 4 + 1) * 64 + 4 * 64;
        assert_eq!(model.n_parameters(), 10_128 * 64 + 2 * block + 2 * 64 + 65);
        let names: Vec<&str> = model.parameters().iter().map(|view| view.name.as_str()).collect();
        assert_eq!(
            names[..4],
            [
                "embedding.weight",
                "position.weight",
                "attention0.norm.weight",
                "attention0.norm.bias"
            ]
        );
        assert!(names.contains(&"feed_forward1.hidden.bias") && names.ends_with(&["output.bias"]));
        let mut parameters = vec![f32::NAN; model.n_parameters()];
        model.initialize(&mut parameters, &mut TrainingRng::from_seed([4; 32]));
        assert!(parameters.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn transformers_that_cannot_be_are_refused_with_the_reason() {
        let build = |change: &dyn Fn(&mut TransformerSpec)| {
            let mut spec = TransformerSpec::default();
            change(&mut spec);
            build(10, 5, &spec, 2).unwrap_err()
        };
        assert_eq!(
            build(&|spec| spec.heads = 7),
            ModelError::Heads { width: 64, heads: 7 }
        );
        assert!(matches!(build(&|spec| spec.heads = 0), ModelError::Heads { .. }));
        assert!(matches!(
            build(&|spec| spec.hidden = 0),
            ModelError::EmptyLayer { .. }
        ));
        assert!(matches!(
            build(&|spec| spec.layers = 1 << 60),
            ModelError::Layers { .. }
        ));
        assert!(matches!(
            build(&|spec| spec.hidden = usize::MAX),
            ModelError::TooLarge { .. }
        ));
    }
}
