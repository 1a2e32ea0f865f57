//! Convolutional networks for images.

use super::chain::Chain;
use super::layer::{ChannelsLast, Convolution, Dense, Dropout, Initial, Layer, MaxPool};
use super::loss::Loss;
use super::{Activation, ModelError};

/// What distinguishes one convolutional network from another.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CnnSpec {
    /// Filters of each convolution, from the image on. Behind each stands an activation and 2 × 2 maximum pooling.
    pub filters: Vec<usize>,
    /// Side of the filters, odd.
    pub kernel: usize,
    /// Widths of the dense layers behind them; may be empty.
    pub hidden: Vec<usize>,
    /// What stands behind convolutions and dense layers.
    pub activation: Activation,
    /// Share of the dense layers' values that training drops at random, at least 0 and below 1.
    pub dropout: f32,
}

impl Default for CnnSpec {
    /// A small network: two convolutions of 16 and 32 filters of 3 × 3, and one dense layer of 64.
    fn default() -> Self {
        Self {
            filters: vec![16, 32],
            kernel: 3,
            hidden: vec![64],
            activation: Activation::Relu,
            dropout: 0.0,
        }
    }
}

impl CnnSpec {
    /// The network of McMahan et al. (2017), section 3: 5 × 5 convolutions with 32 and 64 filters, a dense layer of 512. For
    /// images of 28 × 28 and 10 classes it has 1,663,370 parameters.
    pub fn mcmahan() -> Self {
        Self {
            filters: vec![32, 64],
            kernel: 5,
            hidden: vec![512],
            ..Self::default()
        }
    }
}

/// Convolutions, each with an activation and 2 × 2 maximum pooling, then dense layers and a softmax cross-entropy, for images of
/// shape `[height, width]` or `[channels, height, width]`.
///
/// Parameters: `convolution0.weight` `[kernel, kernel, channels, filters]`, `convolution0.bias`, and so on, `hidden0.weight`, …,
/// `output.bias`. What goes into the first dense layer is ordered `[height, width, filters]`.
pub(super) fn build(spec: &CnnSpec, shape: &[usize], n_classes: usize) -> Result<Chain, ModelError> {
    let (mut channels, mut height, mut width) = match *shape {
        [height, width] => (1, height, width),
        [channels, height, width] => (channels, height, width),
        _ => {
            return Err(ModelError::NoImage {
                shape: shape.to_vec(),
            });
        }
    };
    if channels == 0 || height == 0 || width == 0 {
        return Err(ModelError::NoFeatures);
    }
    if spec.filters.contains(&0) || spec.hidden.contains(&0) {
        let hidden = [spec.filters.as_slice(), &spec.hidden].concat();
        return Err(ModelError::EmptyLayer { hidden });
    }
    if spec.kernel.is_multiple_of(2) || spec.kernel > 2 * height.max(width) {
        return Err(ModelError::Kernel { got: spec.kernel });
    }
    if !(0.0..1.0).contains(&spec.dropout) {
        return Err(ModelError::Dropout { got: spec.dropout });
    }
    let mut layers: Vec<(String, Box<dyn Layer>)> = Vec::new();
    if channels > 1 {
        let layer = ChannelsLast {
            channels,
            n_pixels: height * width,
        };
        layers.push(("channels_last".to_owned(), Box::new(layer)));
    }
    let relu = spec.activation == Activation::Relu;
    for (index, &filters) in spec.filters.iter().enumerate() {
        if height < 2 || width < 2 {
            return Err(ModelError::TooManyPools {
                shape: shape.to_vec(),
                n_pools: spec.filters.len(),
            });
        }
        super::check_size(&[spec.kernel, spec.kernel, channels, filters])?;
        super::check_size(&[height, width, filters])?;
        let convolution = Convolution {
            height,
            width,
            channels,
            filters,
            kernel: spec.kernel,
            activation: Some(spec.activation).filter(|_| !relu),
            initial: Initial::before(spec.activation),
        };
        let pool = MaxPool {
            height,
            width,
            channels: filters,
            relu,
        };
        layers.push((format!("convolution{index}"), Box::new(convolution)));
        layers.push((format!("pool{index}"), Box::new(pool)));
        (height, width, channels) = (height / 2, width / 2, filters);
    }
    let mut n_inputs = height * width * channels;
    for (index, &n_outputs) in spec.hidden.iter().enumerate() {
        super::check_size(&[n_inputs, n_outputs])?;
        let dense = Dense {
            n_inputs,
            n_outputs,
            activation: Some(spec.activation),
            initial: Initial::before(spec.activation),
        };
        layers.push((format!("hidden{index}"), Box::new(dense)));
        if spec.dropout > 0.0 {
            let dropout = Dropout {
                n_values: n_outputs,
                rate: spec.dropout,
                salt: index as u64,
            };
            layers.push((format!("dropout{index}"), Box::new(dropout)));
        }
        n_inputs = n_outputs;
    }
    let output = Dense {
        n_inputs,
        n_outputs: n_classes,
        activation: None,
        initial: Initial::Logits,
    };
    layers.push(("output".to_owned(), Box::new(output)));
    Chain::new(layers, Loss::SoftmaxCrossEntropy, n_classes)
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::model::{Batch, Model, checks};
    use crate::rng::TrainingRng;

    fn small(activation: Activation) -> CnnSpec {
        CnnSpec {
            filters: vec![2, 3],
            kernel: 3,
            hidden: vec![4],
            activation,
            dropout: 0.0,
        }
    }

    struct Case {
        model: Chain,
        parameters: Vec<f32>,
        features: Vec<f32>,
        labels: Vec<u32>,
    }

    fn case(spec: &CnnSpec, shape: &[usize], n_examples: usize) -> Case {
        let mut rng = TrainingRng::from_seed([3; 32]);
        let model = build(spec, shape, 3).unwrap();
        let n_values = n_examples * model.n_features();
        Case {
            parameters: (0..model.n_parameters())
                .map(|_| rng.random_range(-0.5..0.5))
                .collect(),
            features: (0..n_values).map(|_| rng.random_range(-1.0..1.0)).collect(),
            labels: (0..n_examples).map(|_| rng.random_range(0..3)).collect(),
            model,
        }
    }

    /// Odd sides, so that a last row and column are left out by pooling; several channels.
    const SHAPES: [&[usize]; 3] = [&[6, 5], &[2, 5, 7], &[4, 4]];

    /// A maximum or a ReLU has a kink where its values are nearly equal; these seeds keep away from one.
    #[test]
    fn gradients_agree_with_finite_differences() {
        for activation in [Activation::Tanh, Activation::Sigmoid, Activation::Relu] {
            for shape in SHAPES {
                let case = case(&small(activation), shape, 2);
                let batch = Batch::new(&case.features, &case.labels);
                checks::gradient_is_that_of_finite_differences(&case.model, &case.parameters, batch, 2e-3);
            }
        }
    }

    #[test]
    fn the_clipped_sum_is_that_of_single_gradients() {
        for shape in SHAPES {
            for n_examples in checks::BATCH_SIZES {
                let case = case(&small(Activation::Relu), shape, n_examples);
                let batch = Batch::new(&case.features, &case.labels);
                checks::clipped_sum_is_that_of_single_gradients(&case.model, &case.parameters, batch);
                checks::abuses_are_withstood(&case.model, &case.parameters, batch);
            }
        }
    }

    #[test]
    fn the_network_of_mcmahan_has_its_size() {
        let model = build(&CnnSpec::mcmahan(), &[28, 28], 10).unwrap();
        assert_eq!(model.n_parameters(), 1_663_370);
    }

    #[test]
    fn networks_that_cannot_be_are_refused_with_the_reason() {
        let build = |change: &dyn Fn(&mut CnnSpec), shape: &[usize]| {
            let mut spec = small(Activation::Relu);
            change(&mut spec);
            build(&spec, shape, 3).unwrap_err()
        };
        assert!(matches!(build(&|_| {}, &[28]), ModelError::NoImage { .. }));
        assert!(matches!(
            build(&|_| {}, &[3, 8]),
            ModelError::TooManyPools { n_pools: 2, .. }
        ));
        assert!(matches!(
            build(&|spec| spec.kernel = 4, &[8, 8]),
            ModelError::Kernel { got: 4 }
        ));
        assert!(matches!(
            build(&|spec| spec.filters[0] = 0, &[8, 8]),
            ModelError::EmptyLayer { .. }
        ));
        assert!(matches!(
            build(&|spec| spec.dropout = 1.0, &[8, 8]),
            ModelError::Dropout { .. }
        ));
        assert!(matches!(
            build(&|spec| spec.filters[1] = 1 << 40, &[8, 8]),
            ModelError::TooLarge { .. }
        ));
        assert!(matches!(
            build(&|spec| spec.hidden[0] = usize::MAX, &[8, 8]),
            ModelError::TooLarge { .. }
        ));
    }

    /// Loss and gradient of one step in double precision by PyTorch 2.15.0 (`conv2d`, `max_pool2d`, `relu`, `cross_entropy` and
    /// autograd; weights permuted to its layout), for parameters ½ sin(1 + 0.7 k) and pixels cos(0.3 k), rounded to single.
    #[test]
    fn one_step_is_that_of_another_implementation() {
        let spec = CnnSpec {
            filters: vec![2],
            hidden: vec![],
            ..small(Activation::Relu)
        };
        let model = build(&spec, &[4, 4], 2).unwrap();
        let parameters = checks::waves(model.n_parameters(), 0.5, |k| (1.0 + 0.7 * k).sin());
        let features = checks::waves(32, 1.0, |k| (0.3 * k).cos());
        #[rustfmt::skip]
        let expected = [
            5.64671e-2, 2.41675e-2, 6.08803e-2, 3.25729e-2, -2.22150e-2, -8.43246e-2, 6.81926e-2, 5.25986e-2,
            -3.48920e-2, 4.12143e-2, -1.39403e-1, -1.13914e-2, -7.04686e-3, 1.39515e-2, -8.61671e-2, -1.75763e-2,
            -7.88125e-2, 5.05566e-2, -9.15100e-3, 6.04711e-3, 1.18489e-1, -1.18489e-1, 1.29418e-2, -1.29418e-2,
            1.16140e-1, -1.16140e-1, 3.59565e-2, -3.59565e-2, -1.64299e-1, 1.64299e-1, -9.50193e-2, 9.50193e-2,
            -3.09460e-1, 3.09460e-1, -3.21078e-1, 3.21078e-1, -5.44899e-2, 5.44899e-2,
        ];
        checks::gradient_is(
            &model,
            &parameters,
            Batch::new(&features, &[1, 0]),
            0.759_692_490_8,
            &expected,
        );
    }
}
