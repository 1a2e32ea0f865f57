//! Public, fixed preprocessing of features.

/// What is done to the features of every example as they are read: average pooling, then scaling to 0..1, then
/// `(value - mean) / std_dev`.
///
/// All of it is **public**: constants chosen without looking at the clients' data. A mean or standard deviation
/// computed from that data would be a release of its own, outside every ε.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Transform {
    pool: usize,
    mean: f32,
    std_dev: f32,
}

/// Why a [`Transform`] was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TransformError {
    /// The mean is not a finite number.
    #[error("transform mean must be a finite number, got {got}")]
    Mean {
        /// The number that came.
        got: f32,
    },
    /// The pooling window is zero.
    #[error("transform pool must be at least 1, got 0")]
    PoolIsZero,
    /// The standard deviation is not a finite number above 0.
    #[error("transform std_dev must be a finite number above 0, got {got}")]
    StdDev {
        /// The number that came.
        got: f32,
    },
}

impl Default for Transform {
    /// Scaling to 0..1 alone.
    fn default() -> Self {
        Self {
            pool: 1,
            mean: 0.0,
            std_dev: 1.0,
        }
    }
}

impl Transform {
    /// Average pooling over `pool` × `pool` windows without overlap (1: none), then `(value - mean) / std_dev` on
    /// values that were scaled to 0..1 before.
    pub fn new(pool: usize, mean: f32, std_dev: f32) -> Result<Self, TransformError> {
        if pool == 0 {
            return Err(TransformError::PoolIsZero);
        }
        if !mean.is_finite() {
            return Err(TransformError::Mean { got: mean });
        }
        if !(std_dev.is_finite() && std_dev > 0.0) {
            return Err(TransformError::StdDev { got: std_dev });
        }
        Ok(Self { pool, mean, std_dev })
    }

    /// Side of the pooling window; 1 where nothing is pooled.
    pub fn pool(&self) -> usize {
        self.pool
    }

    /// The constant taken from every scaled value.
    pub fn mean(&self) -> f32 {
        self.mean
    }

    /// The constant that every value is divided by, after the mean was taken from it.
    pub fn std_dev(&self) -> f32 {
        self.std_dev
    }

    /// The shape after pooling, or `None` where the last two dimensions are not multiples of the window.
    pub(crate) fn output_shape(&self, shape: &[usize]) -> Option<Vec<usize>> {
        let mut shape = shape.to_vec();
        if self.pool > 1 {
            let [.., height, width] = shape.as_mut_slice() else {
                return None;
            };
            if !height.is_multiple_of(self.pool) || !width.is_multiple_of(self.pool) {
                return None;
            }
            *height /= self.pool;
            *width /= self.pool;
        }
        Some(shape)
    }

    /// Transforms one example. `unit` is what one step of a stored value is worth before the mean is taken.
    pub(crate) fn apply<T: Copy + Into<f32>>(
        &self,
        shape: &[usize],
        unit: f32,
        stored: &[T],
        out: &mut [f32],
    ) {
        let shift = -self.mean / self.std_dev;
        if self.pool == 1 {
            let factor = unit / self.std_dev;
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (out, &value) in out.iter_mut().zip(stored) {
                        *out = value.into() * factor + shift;
                    }
                },
            );
            return;
        }
        #[allow(
            clippy::cast_precision_loss,
            reason = "a window side that large is refused by the shape check"
        )]
        let factor = unit / self.std_dev / (self.pool * self.pool) as f32;
        let width = shape[shape.len() - 1];
        // Windows of a known size are summed several times faster.
        match self.pool {
            2 => sum_windows(stored, width, 2, out, add_windows::<2, T>),
            4 => sum_windows(stored, width, 4, out, add_windows::<4, T>),
            pool => sum_windows(stored, width, pool, out, |row, sums| {
                for (sum, window) in sums.iter_mut().zip(row.chunks_exact(pool)) {
                    *sum += window.iter().fold(0.0, |total, &value| total + value.into());
                }
            }),
        }
        for value in out {
            *value = *value * factor + shift;
        }
    }
}

/// Sums windows of `pool` × `pool` values into `out`. `add_row` adds the windows' parts in one row of values to one row
/// of sums.
///
/// Planes follow each other and windows divide their height, so all planes are treated as one tall one. Bytes and
/// their sums are exact in f32, so for images the order of summation does not matter.
fn sum_windows<T>(
    stored: &[T],
    width: usize,
    pool: usize,
    out: &mut [f32],
    add_row: impl Fn(&[T], &mut [f32]),
) {
    out.fill(0.0);
    for (rows, sums) in stored
        .chunks_exact(pool * width)
        .zip(out.chunks_exact_mut(width / pool))
    {
        for row in rows.chunks_exact(width) {
            add_row(row, sums);
        }
    }
}

fn add_windows<const POOL: usize, T: Copy + Into<f32>>(row: &[T], sums: &mut [f32]) {
    let (windows, _) = row.as_chunks::<POOL>();
    for (sum, window) in sums.iter_mut().zip(windows) {
        *sum += window.map(Into::into).iter().sum::<f32>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_out_of_range_are_refused_by_name() {
        assert_eq!(Transform::new(0, 0.0, 1.0), Err(TransformError::PoolIsZero));
        for std_dev in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let message = Transform::new(1, 0.0, std_dev).unwrap_err().to_string();
            assert!(
                message.contains("std_dev must be a finite number above 0"),
                "{message}"
            );
        }
        assert!(Transform::new(1, f32::NAN, 1.0).is_err());
    }

    #[test]
    fn pooling_averages_windows_and_keeps_channels_apart() {
        let transform = Transform::new(2, 0.5, 0.25).unwrap();
        let shape = [2, 2, 4];
        assert_eq!(transform.output_shape(&shape), Some(vec![2, 1, 2]));
        #[rustfmt::skip]
        let stored: [u8; 16] = [
            0, 255, 10, 20,
            0, 255, 30, 40,
            255, 255, 0, 0,
            255, 255, 0, 0,
        ];
        let mut out = [f32::NAN; 4];
        transform.apply(&shape, 1.0 / 255.0, &stored, &mut out);
        let expected = [0.0, (25.0 / 255.0 - 0.5) / 0.25, 2.0, -2.0];
        for (got, expected) in out.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{out:?}");
        }
    }

    #[test]
    fn a_window_that_does_not_fit_has_no_output_shape() {
        let transform = Transform::new(3, 0.0, 1.0).unwrap();
        assert_eq!(transform.output_shape(&[28, 28]), None);
        assert_eq!(transform.output_shape(&[9]), None);
        assert_eq!(transform.output_shape(&[27, 3]), Some(vec![9, 1]));
    }
}
