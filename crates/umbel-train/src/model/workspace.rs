//! Scratch memory that is kept between computations.

use super::clipping::PerExample;
use super::layer::State;

/// Scratch memory of one thread for any [`Model`](crate::Model).
///
/// It grows to what the largest computation needed and keeps it; from then on nothing is allocated. What it holds
/// between calls is meaningless.
#[derive(Default)]
pub struct Workspace {
    states: Vec<State>,
    gradient: Vec<f32>,
    examples: PerExample,
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace")
            .field("n_layers", &self.states.len())
            .finish_non_exhaustive()
    }
}

impl Workspace {
    /// An empty workspace.
    pub fn new() -> Self {
        Self::default()
    }

    /// A state for each of `n_layers` layers, with unspecified content.
    pub(super) fn states(&mut self, n_layers: usize) -> &mut [State] {
        if self.states.len() < n_layers {
            self.states.resize_with(n_layers, State::default);
        }
        &mut self.states[..n_layers]
    }

    /// The same, with a place for what is known of each of `n_examples`.
    pub(super) fn states_and_examples(
        &mut self,
        n_layers: usize,
        n_examples: usize,
    ) -> (&mut [State], &mut PerExample) {
        self.states(n_layers);
        self.examples.reset(n_examples);
        (&mut self.states[..n_layers], &mut self.examples)
    }

    /// A gradient buffer, taken out so that the rest can be used beside it.
    pub(crate) fn take_gradient(&mut self, length: usize) -> Vec<f32> {
        let mut gradient = std::mem::take(&mut self.gradient);
        gradient.resize(length, 0.0);
        gradient
    }

    /// Gives the buffer of [`take_gradient`](Self::take_gradient) back, so that it need not be allocated again.
    pub(crate) fn put_gradient(&mut self, gradient: Vec<f32>) {
        self.gradient = gradient;
    }
}
