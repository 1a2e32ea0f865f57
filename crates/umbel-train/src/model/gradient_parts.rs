//! The gradient of one example, without writing down what is a product of two vectors.

use std::ops::Range;

/// One example's gradient as parts of the flat parameter vector: in ascending order, without overlap, 0 in between.
///
/// The memory is kept from example to example.
#[derive(Debug, Default)]
pub struct GradientParts {
    parts: Vec<Part>,
    values: Vec<f32>,
}

/// A part of a gradient, from coordinate `offset` on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(
    clippy::exhaustive_enums,
    reason = "whoever sums a gradient must know all parts"
)]
pub enum GradientPart<'a> {
    /// `left[i] * right[j]` in row i and column j of a matrix that is stored row by row.
    Outer {
        /// The first coordinate.
        offset: usize,
        /// A value a row.
        left: &'a [f32],
        /// A value a column.
        right: &'a [f32],
    },
    /// The values themselves.
    Values {
        /// The first coordinate.
        offset: usize,
        /// One a coordinate.
        values: &'a [f32],
    },
}

#[derive(Debug)]
struct Part {
    offset: usize,
    /// Of an outer product the left vector; otherwise empty.
    left: Range<usize>,
    /// Of an outer product the right vector; otherwise the values.
    right: Range<usize>,
}

impl GradientParts {
    /// A gradient of zeros.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes all parts away.
    pub fn clear(&mut self) {
        self.parts.clear();
        self.values.clear();
    }

    /// The parts in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = GradientPart<'_>> + Clone {
        self.parts.iter().map(|part| {
            let (offset, right) = (part.offset, &self.values[part.right.clone()]);
            if part.left.is_empty() {
                return GradientPart::Values {
                    offset,
                    values: right,
                };
            }
            let left = &self.values[part.left.clone()];
            GradientPart::Outer { offset, left, right }
        })
    }

    /// Writes the whole gradient.
    ///
    /// # Panics
    ///
    /// Where a part goes beyond the end of `gradient`.
    pub fn write(&self, gradient: &mut [f32]) {
        gradient.fill(0.0);
        for part in self.iter() {
            match part {
                GradientPart::Outer { offset, left, right } => {
                    let whole = &mut gradient[offset..offset + left.len() * right.len()];
                    for (row, &x) in whole.chunks_exact_mut(right.len()).zip(left) {
                        row.iter_mut().zip(right).for_each(|(value, y)| *value = x * y);
                    }
                }
                GradientPart::Values { offset, values } => {
                    gradient[offset..offset + values.len()].copy_from_slice(values);
                }
            }
        }
    }

    /// Appends a product of a left vector, which is not empty, in pieces, and a right one.
    pub(super) fn push_outer(&mut self, offset: usize, left: [&[f32]; 2], right: &[f32]) {
        let left = left.map(|piece| self.append(piece));
        let right = self.append(right);
        self.parts.push(Part {
            offset,
            left: left[0].start..left[1].end,
            right,
        });
    }

    /// Appends zeros, to be written over.
    pub(super) fn push_zeros(&mut self, offset: usize, length: usize) -> &mut [f32] {
        let begin = self.values.len();
        self.values.resize(begin + length, 0.0);
        self.parts.push(Part {
            offset,
            left: 0..0,
            right: begin..begin + length,
        });
        &mut self.values[begin..]
    }

    /// Appends given values; for the caller that has a gradient written down.
    pub fn push_values(&mut self, offset: usize, values: &[f32]) {
        let right = self.append(values);
        self.parts.push(Part {
            offset,
            left: 0..0,
            right,
        });
    }

    fn append(&mut self, values: &[f32]) -> Range<usize> {
        let begin = self.values.len();
        self.values.extend_from_slice(values);
        begin..self.values.len()
    }
}
