//! The shape of a composition from a few thousand nodes: where its saddle is, how wide it is, how fine a grid it needs.
//!
//! Nothing here enters a bound except through the window, whose tail is charged with a wide margin.

use std::sync::Arc;

use super::compose::Window;
use super::discretise::{self, Nodes};
use super::transform::Precision;
use crate::primitive::Applications;
use crate::search::{bisect, minimise};

/// Which of the two output laws is the more likely one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// P against Q as the primitives have them.
    Forward,
    /// Q against P.
    Backward,
}

impl Direction {
    /// The loss in this direction, from the loss ln(dP/dQ).
    pub(super) fn sign(self) -> f64 {
        match self {
            Self::Forward => 1.0,
            Self::Backward => -1.0,
        }
    }

    /// The exponential tilt of the law under P that is a tilt by `tilt` of the law in this direction.
    pub(super) fn natural_tilt(self, tilt: f64) -> f64 {
        match self {
            Self::Forward => tilt,
            Self::Backward => -1.0 - tilt,
        }
    }
}

/// Value and first two derivatives of a cumulant generating function.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cumulant {
    pub(super) value: f64,
    pub(super) mean: f64,
    pub(super) variance: f64,
}

/// Nodes of all primitives with their counts.
#[derive(Debug, Clone)]
pub(super) struct Outline {
    groups: Vec<(Arc<Nodes>, f64)>,
}

/// Where to look for δ(ε) in one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saddle {
    pub(super) direction: Direction,
    /// Exponential tilt of the loss in this direction, positive.
    pub(super) tilt: f64,
    /// Mean of the tilted loss of the composition, in this direction.
    pub(super) mean: f64,
    /// Its standard deviation.
    pub(super) deviation: f64,
}

impl Outline {
    pub(super) fn new(applications: &Applications, tail: f64) -> Option<Self> {
        let groups = applications
            .iter()
            .map(|(primitive, count)| {
                let nodes = thinned(discretise::nodes(primitive, tail)?);
                // Logarithms of masses: a tilt is then an addition.
                let nodes: Nodes = nodes
                    .into_iter()
                    .filter(|node| node.1 > 0.0)
                    .map(|(loss, mass)| (loss, mass.ln()))
                    .collect();
                #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
                Some((Arc::new(nodes), *count as f64))
            })
            .collect::<Option<_>>()?;
        Some(Self { groups })
    }

    /// The same primitives, applied as often as `applications` says.
    pub(super) fn with_counts(&self, applications: &Applications) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
        let groups = self
            .groups
            .iter()
            .zip(applications)
            .map(|((nodes, _), (_, count))| (Arc::clone(nodes), *count as f64))
            .collect();
        Self { groups }
    }

    /// By how much connecting dots on a grid of the given step raises ε at this saddle, roughly.
    ///
    /// A loss u above a grid point gets a variance of about u(D − u), which moves K at tilt l by l(l+1)/2 times that.
    pub(super) fn rounding(&self, saddle: &Saddle, step: f64) -> f64 {
        let tilt = saddle.direction.natural_tilt(saddle.tilt);
        let variance: f64 = self
            .groups
            .iter()
            .map(|(nodes, count)| {
                let highest = nodes.iter().fold(f64::NEG_INFINITY, |highest, node| {
                    highest.max(node.1 + tilt * node.0)
                });
                let (mut sum, mut spread) = (0.0, 0.0);
                for &(loss, log_mass) in nodes.iter() {
                    let weight = (log_mass + tilt * loss - highest).exp();
                    let within = loss - (loss / step).floor() * step;
                    sum += weight;
                    spread += weight * within * (step - within);
                }
                count * spread / sum
            })
            .sum();
        0.5 * (saddle.tilt + 1.0) * variance
    }

    /// Distance between the smallest and the largest loss of a single application.
    pub(super) fn span(&self) -> f64 {
        let of_group = |nodes: &Nodes| {
            let (low, high) = nodes
                .iter()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &(loss, _)| {
                    (low.min(loss), high.max(loss))
                });
            high - low
        };
        self.groups
            .iter()
            .map(|(nodes, _)| of_group(nodes))
            .fold(0.0, f64::max)
    }

    /// Cumulants of the composed loss ln(dP/dQ) under P, tilted by `tilt`.
    pub(super) fn cumulant(&self, tilt: f64) -> Cumulant {
        let mut total = Cumulant::default();
        for (nodes, count) in &self.groups {
            let highest = nodes
                .iter()
                .fold(f64::NEG_INFINITY, |highest, &(loss, log_mass)| {
                    highest.max(log_mass + tilt * loss)
                });
            let (mut sum, mut first) = (0.0, 0.0);
            let mut weights = Vec::with_capacity(nodes.len());
            for &(loss, log_mass) in nodes.iter() {
                let weight = (log_mass + tilt * loss - highest).exp();
                sum += weight;
                first += weight * loss;
                weights.push(weight);
            }
            let mean = first / sum;
            let second: f64 = nodes
                .iter()
                .zip(&weights)
                .map(|(&(loss, _), weight)| weight * (loss - mean) * (loss - mean))
                .sum();
            total.value += count * (highest + sum.ln());
            total.mean += count * mean;
            total.variance += count * second / sum;
        }
        total
    }

    /// The tilt at which δ in `direction` is about e^`log_delta`.
    pub(super) fn saddle_for_delta(&self, direction: Direction, log_delta: f64) -> Saddle {
        // δ(ε) at ε = mean is about e^{K − l·mean} / (l (l+1) sd sqrt(2π)) for a large l·sd.
        self.saddle(direction, |tilt, cumulant| {
            let mean = direction.sign() * cumulant.mean;
            let spread = tilt * (2.0 * std::f64::consts::PI * cumulant.variance).sqrt();
            cumulant.value - tilt * mean - spread.ln_1p() - tilt.ln_1p() <= log_delta
        })
    }

    /// The tilt at which the mean loss in `direction` is `epsilon`.
    pub(super) fn saddle_for_epsilon(&self, direction: Direction, epsilon: f64) -> Saddle {
        self.saddle(direction, |_, cumulant| {
            direction.sign() * cumulant.mean >= epsilon
        })
    }

    /// A rough estimate of ln δ at `epsilon`.
    pub(super) fn log_delta(&self, direction: Direction, epsilon: f64) -> f64 {
        let saddle = self.saddle_for_epsilon(direction, epsilon);
        let cumulant = self.cumulant(direction.natural_tilt(saddle.tilt));
        let spread = saddle.tilt * (2.0 * std::f64::consts::PI * cumulant.variance).sqrt();
        cumulant.value - saddle.tilt * epsilon - spread.ln_1p() - saddle.tilt.ln_1p()
    }

    /// Smallest tilt at which `reached` holds, bracketed by steps of a factor: weak plans have tilts in the thousands.
    ///
    /// Where the loss is bounded and the tilted law already is a single point at its end, more is no use.
    fn saddle(&self, direction: Direction, reached: impl Fn(f64, Cumulant) -> bool) -> Saddle {
        let at = |tilt: f64| self.cumulant(direction.natural_tilt(tilt));
        let deviation = at(0.0).variance.sqrt();
        let largest = if deviation > 0.0 {
            LARGEST_TILT / deviation
        } else {
            1.0
        };
        let smallest = if deviation > 0.0 {
            (0.05 / deviation).min(1e-3)
        } else {
            1e-3
        };
        let mut high = smallest;
        let done = |tilt: f64| {
            let cumulant = at(tilt);
            let at_a_point = tilt * deviation > 10.0 && tilt * cumulant.variance.sqrt() < AT_A_POINT;
            at_a_point || reached(tilt, cumulant)
        };
        while high < largest && !done(high) {
            high *= 4.0;
        }
        let tilt = if high > smallest {
            let (_, log_tilt) = bisect(
                (0.25 * high).ln(),
                high.ln(),
                1e-3 / high.ln().abs().max(1.0),
                |x| done(x.exp()),
            );
            log_tilt.exp()
        } else {
            smallest
        };
        let cumulant = at(tilt);
        Saddle {
            direction,
            tilt,
            mean: direction.sign() * cumulant.mean,
            deviation: cumulant.variance.sqrt(),
        }
    }

    /// The same saddle, or a smaller tilt that still shows δ at `epsilon` well above round-off, where that makes the
    /// window much narrower: with rare large losses a full tilt would bring many of them together.
    ///
    /// In wide precision `log_delta` says what is to be shown; otherwise what the full tilt shows.
    pub(super) fn narrowed(
        &self,
        saddle: &Saddle,
        epsilon: f64,
        log_delta: f64,
        precision: Precision,
    ) -> Saddle {
        let at = |tilt: f64| {
            let cumulant = self.cumulant(saddle.direction.natural_tilt(tilt));
            let mean = saddle.direction.sign() * cumulant.mean;
            (
                Saddle {
                    tilt,
                    mean,
                    deviation: cumulant.variance.sqrt(),
                    ..*saddle
                },
                cumulant.value - tilt * epsilon,
            )
        };
        let width = |saddle: &Saddle| {
            let window = self.window(saddle, 0.0, precision);
            window.high - window.low
        };
        let (shares, reference): (&[f64], f64) = match precision {
            Precision::Double => (&[0.95, 0.9, 0.85, 0.8, 0.7, 0.6], at(saddle.tilt).1),
            Precision::Wide => (&[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.03], log_delta),
        };
        let (mut best, mut narrowest) = (*saddle, 0.7 * width(saddle));
        for share in shares {
            let (candidate, log_weight) = at(share * saddle.tilt);
            if log_weight - reference > precision.depth() {
                break;
            }
            let width = width(&candidate);
            if width < narrowest {
                (best, narrowest) = (candidate, width);
            }
        }
        best
    }

    /// Losses ln(dP/dQ) outside of which the tilted law has next to nothing on each side (Chernoff).
    ///
    /// `rounding` is the sum of counts times squared step: connecting dots widens the law by that much at most.
    pub(super) fn window(&self, saddle: &Saddle, rounding: f64, precision: Precision) -> Window {
        // What is given away for a narrower window counts against the tail.
        let spare = precision.depth() - Precision::Double.depth();
        let exponent = WINDOW_EXPONENT + spare;
        let tilt = saddle.direction.natural_tilt(saddle.tilt);
        let centre = self.cumulant(tilt);
        let widened = |tilt: f64| tilt.abs() * (1.0 + tilt.abs()) * rounding / 8.0;
        let deviation = (centre.variance + 0.25 * rounding)
            .sqrt()
            .max(1e-9 * centre.mean.abs())
            .max(f64::MIN_POSITIVE.sqrt());
        let typical = (2.0 * exponent).sqrt() / deviation;
        let reach = |sign: f64| {
            let at = |log_share: f64| {
                let further = sign * typical * log_share.exp();
                let there = self.cumulant(tilt + further);
                let growth = there.value - centre.value - further * centre.mean;
                let reach = (growth + widened(tilt + further) + widened(tilt) + exponent) / further.abs();
                if reach.is_finite() { reach } else { f64::INFINITY }
            };
            // Any of them bounds the tail: the best for a normal law is at 0, with rare large losses it is far below.
            minimise(-12.0, 3.0, 0.2, at).1
        };
        // Where the law has bounded support, that bounds the reach too, but Chernoff is enough.
        Window {
            low: centre.mean - reach(-1.0),
            high: centre.mean + reach(1.0),
            tail: WINDOW_TAIL * (-spare).exp(),
        }
    }
}

/// The tail outside of the window, in nats: 32.2 is 1e-14, and two more for what the outline gets wrong.
const WINDOW_EXPONENT: f64 = 34.2;

/// What is charged for that tail.
const WINDOW_TAIL: f64 = 1e-13;

/// In units of one over the standard deviation of the composed loss. A Gaussian loss has 40 at δ = 1e-300.
const LARGEST_TILT: f64 = 1e3;

/// Product of tilt and standard deviation below which a law is one point.
const AT_A_POINT: f64 = 1e-6;

/// Merges neighbours where there are very many nodes.
fn thinned(mut nodes: Nodes) -> Nodes {
    const MOST_NODES: usize = 6000;
    if nodes.len() <= MOST_NODES {
        return nodes;
    }
    nodes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let together = nodes.len().div_ceil(MOST_NODES);
    nodes
        .chunks(together)
        .map(|chunk| {
            let mass: f64 = chunk.iter().map(|node| node.1).sum();
            let loss = chunk.iter().map(|node| node.0 * node.1).sum::<f64>() / mass;
            (if loss.is_finite() { loss } else { chunk[0].0 }, mass)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Primitive;

    #[test]
    fn cumulants_of_a_gaussian_are_a_parabola() {
        let outline = Outline::new(&vec![(Primitive::Gaussian { mu: 0.5 }, 16)], 1e-30).unwrap();
        for tilt in [-2.0, -1.0, 0.0, 1.0, 3.0] {
            let cumulant = outline.cumulant(tilt);
            assert!(
                (cumulant.value - 2.0 * (tilt * tilt + tilt)).abs() < 1e-9,
                "{tilt}: {}",
                cumulant.value
            );
            assert!((cumulant.mean - 2.0 * (2.0 * tilt + 1.0)).abs() < 1e-9);
            assert!((cumulant.variance - 4.0).abs() < 1e-8);
        }
    }

    #[test]
    fn the_saddle_of_a_weak_plan_is_in_the_thousands() {
        let applications = vec![(
            Primitive::SampledGaussian {
                rate: 1e-4,
                noise: 50.0,
            },
            1_000_000,
        )];
        let outline = Outline::new(&applications, 1e-18).unwrap();
        let saddle = outline.saddle_for_delta(Direction::Forward, 1e-6_f64.ln());
        assert!(saddle.tilt > 1000.0 && saddle.tilt < 4000.0, "{saddle:?}");
        assert!((saddle.mean / 0.005_85 - 1.0).abs() < 0.2, "{saddle:?}");
    }
}
