//! A few layers whose output is added to their input.

use std::ops::Range;

use super::{Accumulate, Layer, Mode, State};
use crate::model::clipping::PerExample;
use crate::model::gradient_parts::GradientParts;
use crate::rng::TrainingRng;

/// y = x + f(x), f being layers one after the other. Parameters are those of the inner layers, each named `layer.parameter`.
#[derive(Debug)]
pub(crate) struct Residual {
    links: Vec<(Box<dyn Layer>, Range<usize>)>,
    names: Vec<(&'static str, Vec<usize>)>,
    n_values: usize,
}

impl Residual {
    /// Layers, each with the names that its parameters have here.
    ///
    /// # Panics
    ///
    /// Where a layer does not fit the one before it, or the output the input: a mistake of whoever builds the model.
    pub(crate) fn new(layers: Vec<(Box<dyn Layer>, &[&'static str])>) -> Self {
        let n_values = layers.first().map_or(0, |(first, _)| first.n_inputs());
        let (mut links, mut names) = (Vec::new(), Vec::new());
        let (mut width, mut offset) = (n_values, 0);
        for (layer, own) in layers {
            assert_eq!(layer.n_inputs(), width, "inputs of an inner layer");
            width = layer.n_outputs();
            let begin = offset;
            let parameters = layer.parameters();
            assert_eq!(
                parameters.len(),
                own.len(),
                "names of an inner layer's parameters"
            );
            for ((_, shape), name) in parameters.into_iter().zip(own) {
                offset += shape.iter().product::<usize>();
                names.push((*name, shape));
            }
            links.push((layer, begin..offset));
        }
        assert_eq!(width, n_values, "outputs of the last inner layer");
        Self {
            links,
            names,
            n_values,
        }
    }

    /// Gives each inner layer with its input, its state and its part of `whole`.
    fn for_each(
        &self,
        input: &[f32],
        state: &mut State,
        whole: &mut [f32],
        mut visit: impl FnMut(&dyn Layer, &[f32], &mut State, &mut [f32]),
    ) {
        for (index, (layer, range)) in self.links.iter().enumerate() {
            let (before, rest) = state.inner.split_at_mut(index);
            let input = before.last().map_or(input, |before| &before.output);
            // Where there is nothing to write to, there is an empty part.
            let part = whole.get_mut(range.clone()).unwrap_or_default();
            visit(layer.as_ref(), input, &mut rest[0], part);
        }
    }
}

impl Layer for Residual {
    fn n_inputs(&self) -> usize {
        self.n_values
    }

    fn n_outputs(&self) -> usize {
        self.n_values
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        self.names.clone()
    }

    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        for (layer, range) in &self.links {
            layer.initialize(&mut parameters[range.clone()], rng);
        }
    }

    fn n_scratch(&self) -> usize {
        let of_layers = self
            .links
            .iter()
            .map(|(layer, _)| 2 * layer.n_outputs() + layer.n_scratch());
        of_layers.sum()
    }

    fn most_at_once(&self) -> usize {
        let of_layers = self.links.iter().map(|(layer, _)| layer.most_at_once());
        of_layers.min().unwrap_or(usize::MAX)
    }

    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, mode: Mode) {
        state.inner.resize_with(self.links.len(), State::default);
        for (index, (layer, range)) in self.links.iter().enumerate() {
            let (before, rest) = state.inner.split_at_mut(index);
            let input = before.last().map_or(input, |before| &before.output);
            layer.forward(&parameters[range.clone()], input, &mut rest[0], mode);
        }
        let last = state.inner.last().expect("a residual has a layer");
        state.output.clear();
        state
            .output
            .extend(input.iter().zip(&last.output).map(|(x, f)| x + f));
    }

    fn backward(
        &self,
        parameters: &[f32],
        input: &[f32],
        state: &mut State,
        input_gradient: Option<&mut [f32]>,
    ) {
        let State { gradient, inner, .. } = state;
        let last = inner.last_mut().expect("a residual has a layer");
        last.gradient.clear();
        last.gradient.extend_from_slice(gradient);
        let mut input_gradient = input_gradient;
        for (index, (layer, range)) in self.links.iter().enumerate().rev() {
            let (before, rest) = inner.split_at_mut(index);
            let parameters = &parameters[range.clone()];
            match before.last_mut() {
                Some(before) => {
                    before.gradient.resize(before.output.len(), 0.0);
                    let gradient = Some(&mut before.gradient[..]);
                    layer.backward(parameters, &before.output, &mut rest[0], gradient);
                }
                None => layer.backward(parameters, input, &mut rest[0], input_gradient.as_deref_mut()),
            }
        }
        if let Some(input_gradient) = input_gradient {
            for (sum, slope) in input_gradient.iter_mut().zip(gradient) {
                *sum += *slope;
            }
        }
    }

    fn add_gradient(&self, input: &[f32], state: &mut State, accumulate: Accumulate, target: &mut [f32]) {
        self.for_each(input, state, target, |layer, input, state, target| {
            layer.add_gradient(input, state, accumulate, target);
        });
    }

    fn push_gradient(
        &self,
        input: &[f32],
        state: &mut State,
        range: Range<usize>,
        parts: &mut GradientParts,
    ) {
        for (index, (layer, own)) in self.links.iter().enumerate() {
            let (before, rest) = state.inner.split_at_mut(index);
            let input = before.last().map_or(input, |before| &before.output);
            let own = range.start + own.start..range.start + own.end;
            layer.push_gradient(input, &mut rest[0], own, parts);
        }
    }

    fn add_squared_norms(&self, input: &[f32], state: &mut State, squared_norms: &mut [f64]) {
        self.for_each(input, state, &mut [], |layer, input, state, _| {
            layer.add_squared_norms(input, state, squared_norms);
        });
    }

    fn add_clipped_gradient(
        &self,
        input: &[f32],
        state: &mut State,
        examples: &PerExample,
        target: &mut [f32],
    ) {
        self.for_each(input, state, target, |layer, input, state, target| {
            layer.add_clipped_gradient(input, state, examples, target);
        });
    }
}
