//! Minimisation of a smooth function with few variables.

use std::collections::VecDeque;

/// Steps remembered; as many as a buffered strategy has variables, so that there the method is BFGS.
const MEMORY: usize = 40;
const MAX_ITERATIONS: usize = 3000;
const MAX_TRIALS: usize = 60;

/// Where a minimisation ended.
#[derive(Debug, Clone)]
pub(super) struct Minimum {
    pub(super) point: Vec<f64>,
    pub(super) value: f64,
}

/// Minimises `function` from `start` by L-BFGS with a bisecting weak-Wolfe line search (Lewis and Overton
/// 2013).
///
/// `function(point, gradient)` fills the gradient and returns the value; an infinite or NaN value marks a
/// point as forbidden. Ends where the gradient or the progress vanishes. Deterministic.
pub(super) fn minimize(mut function: impl FnMut(&[f64], &mut [f64]) -> f64, start: &[f64]) -> Minimum {
    let mut point = start.to_vec();
    let mut gradient = vec![0.0; point.len()];
    let mut value = function(&point, &mut gradient);
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    let mut n_stalled = 0;
    for _ in 0..MAX_ITERATIONS {
        if !value.is_finite() || gradient.iter().all(|g| g.abs() < 1e-12) {
            break;
        }
        let mut direction = descent_direction(&gradient, &pairs);
        let mut slope = dot(&gradient, &direction);
        if slope.is_nan() || slope >= 0.0 {
            pairs.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = -dot(&gradient, &gradient);
        }
        let scale = if pairs.is_empty() {
            (1.0 / norm(&gradient)).min(1.0)
        } else {
            1.0
        };
        let Some(next) = line_search(&mut function, &point, value, &direction, slope, scale) else {
            if pairs.is_empty() {
                break;
            }
            pairs.clear();
            continue;
        };
        let step: Vec<f64> = next.point.iter().zip(&point).map(|(a, b)| a - b).collect();
        let change: Vec<f64> = next.gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&step, &change);
        if curvature > 1e-14 * norm(&step) * norm(&change) {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back(Pair {
                step,
                change,
                curvature,
            });
        }
        n_stalled = if value - next.value < 1e-13 * (1.0 + value.abs()) {
            n_stalled + 1
        } else {
            0
        };
        (point, value, gradient) = (next.point, next.value, next.gradient);
        if n_stalled >= 5 {
            break;
        }
    }
    Minimum { point, value }
}

/// A step and the change of the gradient along it.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    curvature: f64,
}

struct Trial {
    point: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

fn line_search(
    function: &mut impl FnMut(&[f64], &mut [f64]) -> f64,
    point: &[f64],
    value: f64,
    direction: &[f64],
    slope: f64,
    first: f64,
) -> Option<Trial> {
    let (mut low, mut high, mut length) = (0.0, f64::INFINITY, first);
    let mut best: Option<Trial> = None;
    for _ in 0..MAX_TRIALS {
        let candidate: Vec<f64> = point.iter().zip(direction).map(|(x, d)| x + length * d).collect();
        let mut gradient = vec![0.0; point.len()];
        let found = function(&candidate, &mut gradient);
        let falls_enough = found <= value + 1e-4 * length * slope;
        if falls_enough {
            let flat_enough = dot(&gradient, direction) >= 0.9 * slope;
            best = Some(Trial {
                point: candidate,
                value: found,
                gradient,
            });
            if flat_enough {
                return best;
            }
            low = length;
        } else {
            high = length;
        }
        length = if high.is_finite() {
            0.5 * (low + high)
        } else {
            2.0 * low
        };
        if !length.is_finite() || (high.is_finite() && high - low <= 1e-15 * high) {
            break;
        }
    }
    best
}

/// The two-loop recursion.
fn descent_direction(gradient: &[f64], pairs: &VecDeque<Pair>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut weights = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let weight = dot(&pair.step, &direction) / pair.curvature;
        add_scaled(&mut direction, -weight, &pair.change);
        weights.push(weight);
    }
    if let Some(last) = pairs.back() {
        let scale = last.curvature / dot(&last.change, &last.change);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for (pair, weight) in pairs.iter().zip(weights.into_iter().rev()) {
        let correction = weight - dot(&pair.change, &direction) / pair.curvature;
        add_scaled(&mut direction, correction, &pair.step);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn add_scaled(target: &mut [f64], scale: f64, other: &[f64]) {
    target.iter_mut().zip(other).for_each(|(t, o)| *t += scale * o);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_minimum_of_the_rosenbrock_valley() {
        let minimum = minimize(
            |x, gradient| {
                let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
                gradient[0] = -2.0 * a - 400.0 * b * x[0];
                gradient[1] = 200.0 * b;
                a * a + 100.0 * b * b
            },
            &[-1.2, 1.0],
        );
        assert!(
            minimum.value < 1e-15 && (minimum.point[0] - 1.0).abs() < 1e-6,
            "{minimum:?}"
        );
    }

    #[test]
    fn stays_out_of_forbidden_ground_and_ends_without_a_minimum() {
        let fenced = minimize(
            |x, gradient| {
                gradient[0] = if x[0] > 0.0 { 1.0 - 1.0 / x[0] } else { 0.0 };
                if x[0] > 0.0 {
                    x[0] - x[0].ln()
                } else {
                    f64::INFINITY
                }
            },
            &[50.0],
        );
        assert!((fenced.point[0] - 1.0).abs() < 1e-6);
        let nowhere = minimize(
            |x, gradient| {
                gradient[0] = 1.0;
                x[0]
            },
            &[0.0],
        );
        assert!(nowhere.value < 0.0);
        assert!(minimize(|_, _| f64::NAN, &[0.0]).value.is_nan());
    }
}
