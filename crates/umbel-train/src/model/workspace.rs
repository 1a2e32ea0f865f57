//! Scratch memory that is kept between computations.

use super::clipping::PerExample;

/// Scratch memory of one thread for any [`Model`](crate::Model).
///
/// It grows to what the largest computation needed and keeps it; from then on nothing is allocated. What it holds
/// between calls is meaningless.
#[derive(Default)]
pub struct Workspace {
    values: Vec<f32>,
    gradient: Vec<f32>,
    per_example: PerExample,
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace")
            .field("n_values", &self.values.len())
            .finish_non_exhaustive()
    }
}

impl Workspace {
    /// An empty workspace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Separate buffers of these lengths, whose content is unspecified.
    ///
    /// This is what implementations of [`Model`](crate::Model) use. Asked for several buffers at once, they can all be
    /// borrowed together.
    pub fn buffers<const N: usize>(&mut self, lengths: [usize; N]) -> [&mut [f32]; N] {
        let total = lengths.iter().sum();
        if self.values.len() < total {
            self.values.resize(total, 0.0);
        }
        let mut rest = self.values.as_mut_slice();
        lengths.map(|length| {
            let (buffer, after) = std::mem::take(&mut rest).split_at_mut(length);
            rest = after;
            buffer
        })
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

    /// What is known of each example, taken out so that the rest can be used beside it.
    pub(super) fn take_per_example(&mut self, n_examples: usize) -> PerExample {
        let mut per_example = std::mem::take(&mut self.per_example);
        per_example.reset(n_examples);
        per_example
    }

    /// Gives back what [`take_per_example`](Self::take_per_example) took.
    pub(super) fn put_per_example(&mut self, per_example: PerExample) {
        self.per_example = per_example;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_have_their_lengths_and_do_not_move_once_grown() {
        let mut workspace = Workspace::new();
        let [first, second, empty] = workspace.buffers([3, 5, 0]);
        assert_eq!((first.len(), second.len(), empty.len()), (3, 5, 0));
        let before = workspace.values.as_ptr();
        let [small] = workspace.buffers([2]);
        assert_eq!(small.len(), 2);
        let [same] = workspace.buffers([8]);
        assert_eq!(same.as_ptr(), before);
    }
}
