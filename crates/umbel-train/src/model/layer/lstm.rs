//! Long short-term memory over a sequence of known length.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::{Accumulate, Layer, Mode, State, resize};
use crate::model::clipping::PerExample;
use crate::model::matrix::{Matrix, MatrixMut, matrix, matrix_mut, multiply};
use crate::model::vector::{self, sigmoid, sum_of_squares, tanh, vectorised};
use crate::rng::TrainingRng;

/// An LSTM (Hochreiter and Schmidhuber 1997, with forget gates) as Keras has it: `[length, width]` becomes the last hidden
/// state, `[units]`.
///
/// With x the input of a step, h and c the states before it, and all four gates in one product:
///
/// ```text
/// (i, f, g, o) = (σ, σ, tanh, σ)(x K + h R + b)      c' = f c + i g      h' = o tanh c'
/// ```
///
/// Parameters: `kernel` K `[width, 4 units]`, `recurrent_kernel` R `[units, 4 units]`, `bias` b `[4 units]`, in the order of
/// gates i, f, g, o. K begins uniform after Glorot, R with orthonormal rows, b with 1 for the forget gates and else 0.
/// Lying one after the other, K and R are one matrix for the rows (x, h).
///
/// An example's gradient by the parameters is the sum over all its steps of (x, h)ᵀ ∂z, written down as one product for
/// its norm.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lstm {
    pub(crate) length: usize,
    pub(crate) width: usize,
    pub(crate) units: usize,
}

/// Parts of the scratch memory, each `[n, length + 1, …]` with the steps of an example one after the other.
struct Kept<'a> {
    /// (x, h before the step) for each step; after the last only h, and x is 0.
    rows: &'a mut [f32],
    /// Values of the gates, then gradients by what goes into them; 0 after the last step.
    gates: &'a mut [f32],
    /// c before the step, and after the last.
    cells: &'a mut [f32],
    /// tanh of c after the step.
    cell_tanh: &'a mut [f32],
    /// One step of all examples: ∂h and ∂c.
    hidden_gradient: &'a mut [f32],
    cell_gradient: &'a mut [f32],
}

impl Lstm {
    fn n_row(&self) -> usize {
        self.width + self.units
    }

    fn n_weights(&self) -> usize {
        self.n_row() * 4 * self.units
    }

    fn n_parameters(&self) -> usize {
        self.n_weights() + 4 * self.units
    }

    /// Values of a step that are kept: a row, four gates, c and tanh c.
    fn n_kept(&self) -> usize {
        (self.length + 1) * (self.n_row() + 6 * self.units)
    }

    /// Values of a step that are computed at once: ∂h and ∂c.
    fn n_step(&self) -> usize {
        2 * self.units
    }

    fn kept<'a>(&self, n: usize, cache: &'a mut Vec<f32>) -> Kept<'a> {
        let (steps, units) = (n * (self.length + 1), self.units);
        let length = n * (self.n_kept() + self.n_step());
        let mut rest = resize(cache, length);
        let mut take = |length: usize| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(length);
            rest = after;
            part
        };
        Kept {
            rows: take(steps * self.n_row()),
            gates: take(steps * 4 * units),
            cells: take(steps * units),
            cell_tanh: take(steps * units),
            hidden_gradient: take(n * units),
            cell_gradient: take(n * units),
        }
    }

    /// Replaces what goes into the gates by their values, and gives both states after the step.
    #[inline(always)]
    fn step(&self, cell: &[f32], gates: &mut [f32], next: [&mut [f32]; 3]) {
        let units = self.units;
        let [next_cell, cell_tanh, hidden] = next;
        let (sigmoids, rest) = gates[..4 * units].split_at_mut(2 * units);
        let (candidates, outputs) = rest.split_at_mut(units);
        for gate in sigmoids.iter_mut() {
            *gate = sigmoid(*gate);
        }
        for gate in candidates.iter_mut() {
            *gate = tanh(*gate);
        }
        for gate in outputs.iter_mut() {
            *gate = sigmoid(*gate);
        }
        let (ins, forgets) = sigmoids.split_at(units);
        let (cell, next_cell) = (&cell[..units], &mut next_cell[..units]);
        let (cell_tanh, hidden) = (&mut cell_tanh[..units], &mut hidden[..units]);
        for unit in 0..units {
            let value = forgets[unit] * cell[unit] + ins[unit] * candidates[unit];
            next_cell[unit] = value;
            let squashed = tanh(value);
            cell_tanh[unit] = squashed;
            hidden[unit] = outputs[unit] * squashed;
        }
    }

    /// Replaces the gates' values by the gradients by what goes into them, and takes ∂c a step back.
    #[inline(always)]
    fn step_back(
        &self,
        gates: &mut [f32],
        cell: &[f32],
        cell_tanh: &[f32],
        hidden_gradient: &[f32],
        cell_gradient: &mut [f32],
    ) {
        let units = self.units;
        let (ins, rest) = gates[..4 * units].split_at_mut(units);
        let (forgets, rest) = rest.split_at_mut(units);
        let (candidates, outputs) = rest.split_at_mut(units);
        let (cell, cell_tanh) = (&cell[..units], &cell_tanh[..units]);
        let (hidden_gradient, cell_gradient) = (&hidden_gradient[..units], &mut cell_gradient[..units]);
        for unit in 0..units {
            let (i, f, g, o) = (ins[unit], forgets[unit], candidates[unit], outputs[unit]);
            let squashed = cell_tanh[unit];
            let by_hidden = hidden_gradient[unit];
            let by_cell = cell_gradient[unit] + by_hidden * o * (1.0 - squashed * squashed);
            ins[unit] = by_cell * g * i * (1.0 - i);
            forgets[unit] = by_cell * cell[unit] * f * (1.0 - f);
            candidates[unit] = by_cell * i * (1.0 - g * g);
            outputs[unit] = by_hidden * squashed * o * (1.0 - o);
            cell_gradient[unit] = by_cell * f;
        }
    }
}

impl Layer for Lstm {
    fn n_inputs(&self) -> usize {
        self.length * self.width
    }

    fn n_outputs(&self) -> usize {
        self.units
    }

    fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        vec![
            ("kernel", vec![self.width, 4 * self.units]),
            ("recurrent_kernel", vec![self.units, 4 * self.units]),
            ("bias", vec![4 * self.units]),
        ]
    }

    #[allow(clippy::cast_precision_loss, reason = "widths are far below 2^24")]
    fn initialize(&self, parameters: &mut [f32], rng: &mut TrainingRng) {
        let (weights, bias) = parameters.split_at_mut(self.n_weights());
        let (kernel, recurrent) = weights.split_at_mut(self.width * 4 * self.units);
        let bound = (6.0 / (self.width + 4 * self.units) as f32).sqrt();
        kernel.fill_with(|| rng.random_range(-bound..bound));
        orthonormal_rows(recurrent, 4 * self.units, rng);
        bias.fill(0.0);
        bias[self.units..2 * self.units].fill(1.0);
    }

    fn n_scratch(&self) -> usize {
        self.n_kept() + self.n_step() + self.n_parameters()
    }

    /// So that what all steps of an example are computed from stays near.
    fn most_at_once(&self) -> usize {
        32
    }

    fn forward(&self, parameters: &[f32], input: &[f32], state: &mut State, _mode: Mode) {
        let (n, units, n_row) = (input.len() / self.n_inputs(), self.units, self.n_row());
        let (weights, bias) = parameters.split_at(self.n_weights());
        let kept = self.kept(n, &mut state.cache);
        let steps = self.length + 1;
        for example in 0..n {
            kept.cells[example * steps * units..][..units].fill(0.0);
            kept.rows[(example * steps * n_row) + self.width..][..units].fill(0.0);
        }
        let (kernel, recurrent) = weights.split_at(self.width * 4 * units);
        for example in 0..n {
            let rows = &mut kept.rows[example * steps * n_row..][..steps * n_row];
            let input = &input[example * self.n_inputs()..][..self.n_inputs()];
            for (row, input) in rows.chunks_exact_mut(n_row).zip(input.chunks_exact(self.width)) {
                row[..self.width].copy_from_slice(input);
            }
            // x K + b for all steps in one product.
            let gates = &mut kept.gates[example * steps * 4 * units..][..self.length * 4 * units];
            for gates in gates.chunks_exact_mut(4 * units) {
                gates.copy_from_slice(bias);
            }
            multiply(
                1.0,
                matrix(input, self.length, self.width),
                matrix(kernel, self.width, 4 * units),
                1.0,
                &mut matrix_mut(gates, self.length, 4 * units),
            );
        }
        for step in 0..self.length {
            multiply(
                1.0,
                Matrix::with_row_stride(&kept.rows[step * n_row + self.width..], n, units, steps * n_row),
                matrix(recurrent, units, 4 * units),
                1.0,
                &mut MatrixMut::with_row_stride(
                    &mut kept.gates[step * 4 * units..],
                    n,
                    4 * units,
                    steps * 4 * units,
                ),
            );
            vectorised(
                #[inline(always)]
                || {
                    for example in 0..n {
                        let place = example * steps + step;
                        let (cell, next_cell) = kept.cells[place * units..][..2 * units].split_at_mut(units);
                        let next_row = &mut kept.rows[(place + 1) * n_row..][..n_row];
                        self.step(
                            cell,
                            &mut kept.gates[place * 4 * units..],
                            [
                                next_cell,
                                &mut kept.cell_tanh[place * units..],
                                &mut next_row[self.width..],
                            ],
                        );
                    }
                },
            );
        }
        let output = resize(&mut state.output, n * units);
        for (example, hidden) in output.chunks_exact_mut(units).enumerate() {
            let row = &mut kept.rows[(example * steps + self.length) * n_row..][..n_row];
            row[..self.width].fill(0.0);
            hidden.copy_from_slice(&row[self.width..]);
        }
    }

    fn backward(
        &self,
        parameters: &[f32],
        _input: &[f32],
        state: &mut State,
        input_gradient: Option<&mut [f32]>,
    ) {
        let (units, steps) = (self.units, self.length + 1);
        let n = state.gradient.len() / units;
        let kept = self.kept(n, &mut state.cache);
        let (kernel, recurrent) = parameters[..self.n_weights()].split_at(self.width * 4 * units);
        kept.hidden_gradient.copy_from_slice(&state.gradient);
        kept.cell_gradient.fill(0.0);
        for example in 0..n {
            kept.gates[(example * steps + self.length) * 4 * units..][..4 * units].fill(0.0);
        }
        for step in (0..self.length).rev() {
            vectorised(
                #[inline(always)]
                || {
                    for example in 0..n {
                        let place = example * steps + step;
                        let gates = &mut kept.gates[place * 4 * units..][..4 * units];
                        self.step_back(
                            gates,
                            &kept.cells[place * units..],
                            &kept.cell_tanh[place * units..],
                            &kept.hidden_gradient[example * units..],
                            &mut kept.cell_gradient[example * units..],
                        );
                    }
                },
            );
            multiply(
                1.0,
                Matrix::with_row_stride(&kept.gates[step * 4 * units..], n, 4 * units, steps * 4 * units),
                matrix(recurrent, units, 4 * units).t(),
                0.0,
                &mut matrix_mut(kept.hidden_gradient, n, units),
            );
        }
        if let Some(input_gradient) = input_gradient {
            for (example, gradient) in input_gradient.chunks_exact_mut(self.n_inputs()).enumerate() {
                let gates = &kept.gates[example * steps * 4 * units..][..self.length * 4 * units];
                multiply(
                    1.0,
                    matrix(gates, self.length, 4 * units),
                    matrix(kernel, self.width, 4 * units).t(),
                    0.0,
                    &mut matrix_mut(gradient, self.length, self.width),
                );
            }
        }
    }

    fn add_gradient(&self, _input: &[f32], state: &mut State, accumulate: Accumulate, target: &mut [f32]) {
        let n = state.gradient.len() / self.units;
        let kept = self.kept(n, &mut state.cache);
        self.add_sum(kept.rows, kept.gates, accumulate, target);
    }

    fn add_squared_norms(&self, _input: &[f32], state: &mut State, squared_norms: &mut [f64]) {
        let n = squared_norms.len();
        let kept = self.kept(n, &mut state.cache);
        let singles = resize(&mut state.singles, n * self.n_parameters());
        let steps = self.length + 1;
        let rows = kept.rows.chunks_exact(steps * self.n_row());
        let examples = rows.zip(kept.gates.chunks_exact(steps * 4 * self.units));
        let singles = singles.chunks_exact_mut(self.n_parameters());
        for (((rows, gates), single), squared_norm) in examples.zip(singles).zip(squared_norms) {
            self.add_sum(rows, gates, Accumulate::REPLACE, single);
            *squared_norm += sum_of_squares(single);
        }
    }

    fn add_clipped_gradient(
        &self,
        _input: &[f32],
        state: &mut State,
        examples: &PerExample,
        target: &mut [f32],
    ) {
        examples.add_scaled_rows(&state.singles, target);
    }
}

impl Lstm {
    /// Adds the gradient over all steps in `rows` and `gates`, of one example or of several.
    fn add_sum(&self, rows: &[f32], gates: &[f32], accumulate: Accumulate, target: &mut [f32]) {
        let (weights, bias) = target.split_at_mut(self.n_weights());
        let n_steps = rows.len() / self.n_row();
        multiply(
            accumulate.factor,
            matrix(rows, n_steps, self.n_row()).t(),
            matrix(gates, n_steps, 4 * self.units),
            accumulate.keep,
            &mut matrix_mut(weights, self.n_row(), 4 * self.units),
        );
        accumulate.prepare(bias);
        vector::add_rows(bias, accumulate.factor, gates);
    }
}

/// Fills `rows` with orthonormal ones: normal values, made orthogonal one after the other (Gram and Schmidt, twice, which is
/// enough for rounding).
#[allow(
    clippy::cast_possible_truncation,
    reason = "rounding to single precision is meant"
)]
fn orthonormal_rows(rows: &mut [f32], width: usize, rng: &mut TrainingRng) {
    let mut done: Vec<Vec<f64>> = Vec::new();
    for target in rows.chunks_exact_mut(width) {
        let mut row: Vec<f64> = (0..width).map(|_| StandardNormal.sample(rng)).collect();
        for before in done.iter().chain(done.iter()) {
            let product: f64 = row.iter().zip(before).map(|(left, right)| left * right).sum();
            row.iter_mut()
                .zip(before)
                .for_each(|(value, other)| *value -= product * other);
        }
        let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        row.iter_mut().for_each(|value| *value /= norm);
        for (target, &value) in target.iter_mut().zip(&row) {
            *target = value as f32;
        }
        done.push(row);
    }
}
