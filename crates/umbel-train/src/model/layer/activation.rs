//! Functions of one value that stand behind a layer.

use crate::model::vector;

/// What stands behind the units of a hidden layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// max(0, x); its slope at 0 is taken as 0.
    #[default]
    Relu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Replaces each value by the function of it. A NaN stays one.
    pub(crate) fn apply(self, values: &mut [f32]) {
        match self {
            Self::Relu => values
                .iter_mut()
                .for_each(|value| *value = if *value < 0.0 { 0.0 } else { *value }),
            Self::Sigmoid => vector::sigmoid_all(values),
            Self::Tanh => vector::tanh_all(values),
        }
    }

    /// Multiplies gradients by the slope, which for all of these follows from the function's value.
    pub(crate) fn backward(self, activated: &[f32], gradient: &mut [f32]) {
        let pairs = gradient.iter_mut().zip(activated);
        match self {
            Self::Relu => {
                pairs.for_each(|(slope, &value)| *slope = if value == 0.0 { 0.0 } else { *slope });
            }
            Self::Sigmoid => pairs.for_each(|(slope, &value)| *slope *= value * (1.0 - value)),
            Self::Tanh => pairs.for_each(|(slope, &value)| *slope *= 1.0 - value * value),
        }
    }
}
