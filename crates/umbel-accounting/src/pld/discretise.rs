//! From primitives to loss laws on a grid, and to a short list of nodes for planning.
//!
//! Masses come from Gauss-Legendre nodes on cells that no grid point crosses; each node is divided between its two grid
//! points. Everything is positive, so nothing cancels and the result has the relative precision of the nodes.

use super::law::LossLaw;
use super::merge::Merger;
use super::outline::Direction;
use super::pair::{MonotonePair, ReplaceOneGaussian, SampledGaussian, SampledLaplace, mixture_loss};
use crate::primitive::{DiscreteNoise, Primitive};
use crate::quadrature::{GAUSS_LEGENDRE_2, GAUSS_LEGENDRE_3, GAUSS_LEGENDRE_4, GAUSS_LEGENDRE_6};
use crate::special::log_normal_tail;

/// Loss and mass under P of representative points, in no particular order.
pub(super) type Nodes = Vec<(f64, f64)>;

/// Says why a primitive has no loss law here, or that it has.
pub(super) fn supports(primitive: &Primitive) -> Result<(), String> {
    match primitive {
        Primitive::Skellam { .. } => {
            Err("Skellam noise on vectors has a Rényi bound only; use the rdp accountant".to_owned())
        }
        Primitive::ZeroConcentrated { .. } => Err(
            "zCDP, and discrete Gaussian noise on vectors, do not determine a \
             privacy-loss distribution; use the rdp accountant"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Whether the pair and its reverse have the same law, so that one direction is enough.
pub(super) fn is_symmetric(primitive: &Primitive) -> bool {
    match *primitive {
        Primitive::Gaussian { .. }
        | Primitive::SampledReplaceOneGaussian { .. }
        | Primitive::FixedSizeGaussian { .. } => true,
        Primitive::Laplace { rate, .. } | Primitive::DiscreteNoise { rate, .. } => rate >= 1.0,
        _ => false,
    }
}

/// The loss law with the given step. Leaves out at most `tail` of the mass under P and under Q, and says how much.
///
/// `None` where it would take too many points or nodes.
pub(super) fn loss_law(primitive: &Primitive, step: f64, tail: f64) -> Option<LossLaw> {
    unmeasured_law(primitive, step, tail).map(LossLaw::measured)
}

fn unmeasured_law(primitive: &Primitive, step: f64, tail: f64) -> Option<LossLaw> {
    match *primitive {
        Primitive::Gaussian { mu } => {
            let pair = SampledGaussian {
                rate: 1.0,
                noise: 1.0 / mu,
            };
            gaussian_law(&pair, step, tail, f64::NEG_INFINITY)
        }
        Primitive::SampledGaussian { rate, noise } => {
            gaussian_law(&SampledGaussian { rate, noise }, step, tail, f64::NEG_INFINITY)
        }
        Primitive::SampledReplaceOneGaussian { rate, noise } => replace_one_law(rate, noise, step, tail),
        Primitive::FixedSizeGaussian { rate, noise } => {
            // Corrected pair: losses above 0 as in "remove", below as in "add", the rest at 0.
            let law = gaussian_law(&SampledGaussian { rate, noise }, step, tail, 0.5)?;
            let unmoved = (1.0 - rate) * (1.0 - 2.0 * log_normal_tail(0.5 / noise).exp());
            Some(law.mirrored(unmoved))
        }
        Primitive::TruncatedGaussian {
            rate,
            noise,
            truncation,
            truncated_rate,
        } => {
            let ordinary = gaussian_law(&SampledGaussian { rate, noise }, step, tail, f64::NEG_INFINITY)?;
            let displaced = replace_one_law(truncated_rate, 0.5 * noise, step, tail)?;
            Some(ordinary.mixed(truncation, &displaced))
        }
        Primitive::Laplace { rate, scale } => {
            let pair = SampledLaplace { rate, scale };
            let (lowest, highest) = (pair.loss(0.0), pair.loss(1.0));
            let mut law = LossLaw::new(step, lowest, highest)?;
            fill(&mut law, step, &pair, 0.0, 1.0)?;
            for (loss, q_mass) in [(lowest, 0.5), (highest, 0.5 * (-1.0 / scale).exp())] {
                law.add(loss, q_mass * loss.exp());
            }
            Some(law)
        }
        Primitive::DiscreteNoise { noise, shift, rate } => {
            let (atoms, dropped) = atoms(noise, shift, rate, tail)?;
            let (lowest, highest) = range(&atoms);
            let mut law = LossLaw::new(step, lowest, highest)?;
            for (loss, mass) in atoms {
                law.add(loss, mass);
            }
            (law.dropped_p, law.dropped_q) = (dropped, dropped);
            Some(law)
        }
        Primitive::NonPrivate | Primitive::Skellam { .. } | Primitive::ZeroConcentrated { .. } => None,
    }
}

/// A loss law that is not above the true one, in `direction`; see [`Merger`].
///
/// For fixed-size samples it is the law of the pair of data sets that is known to be attained, which is less than the
/// pair that bounds it from above. `None` where no attained pair is known, or too many points are needed.
pub(super) fn lower_law(
    primitive: &Primitive,
    step: f64,
    tail: f64,
    direction: Direction,
) -> Option<LossLaw> {
    let mut merger = Merger::new(step, direction);
    let gaussian = |merger: &mut Merger, pair: &SampledGaussian| {
        let reach = reach(tail) * pair.noise;
        let (low, high) = (-reach, 1.0 + reach);
        LossLaw::fits(step, pair.loss(low), pair.loss(high))?;
        let cell_step = merger.cell_step();
        fill(merger, cell_step, pair, low, high)
    };
    match *primitive {
        Primitive::Gaussian { mu } => gaussian(
            &mut merger,
            &SampledGaussian {
                rate: 1.0,
                noise: 1.0 / mu,
            },
        )?,
        Primitive::SampledGaussian { rate, noise } | Primitive::FixedSizeGaussian { rate, noise } => {
            gaussian(&mut merger, &SampledGaussian { rate, noise })?;
        }
        Primitive::SampledReplaceOneGaussian { rate, noise } => {
            let pair = ReplaceOneGaussian { rate, noise };
            let high = 1.0 + reach(tail) * noise;
            LossLaw::fits(step, -pair.loss(high), pair.loss(high))?;
            merger = Merger::symmetric(step);
            let cell_step = merger.cell_step();
            fill(&mut merger, cell_step, &pair, 0.0, high)?;
        }
        Primitive::Laplace { rate, scale } => {
            let pair = SampledLaplace { rate, scale };
            let (lowest, highest) = (pair.loss(0.0), pair.loss(1.0));
            LossLaw::fits(step, lowest, highest)?;
            merger.push(lowest, 0.5 * lowest.exp());
            let cell_step = merger.cell_step();
            fill(&mut merger, cell_step, &pair, 0.0, 1.0)?;
            merger.push(highest, 0.5 * (highest - 1.0 / scale).exp());
        }
        Primitive::DiscreteNoise { noise, shift, rate } => {
            let mut atoms = atoms(noise, shift, rate, tail)?.0;
            atoms.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (lowest, highest) = range(&atoms);
            LossLaw::fits(step, lowest, highest)?;
            atoms.into_iter().for_each(|(loss, mass)| merger.push(loss, mass));
        }
        Primitive::TruncatedGaussian { .. }
        | Primitive::NonPrivate
        | Primitive::Skellam { .. }
        | Primitive::ZeroConcentrated { .. } => return None,
    }
    merger.finish()
}

/// Whether the pair that is composed is attained by data sets, so that its lower bounds are bounds on the mechanism.
pub(super) fn is_attained(primitive: &Primitive) -> bool {
    !matches!(
        primitive,
        Primitive::TruncatedGaussian { .. } | Primitive::FixedSizeGaussian { .. }
    )
}

/// The largest loss that can occur in `direction`.
pub(super) fn largest_loss(primitive: &Primitive, direction: Direction) -> f64 {
    let (forward, backward) = match *primitive {
        Primitive::SampledGaussian { rate, .. } => (f64::INFINITY, -(-rate).ln_1p()),
        Primitive::Laplace { rate, scale } => {
            let pair = SampledLaplace { rate, scale };
            (pair.loss(1.0), -pair.loss(0.0))
        }
        _ => (f64::INFINITY, f64::INFINITY),
    };
    match direction {
        Direction::Forward => forward,
        Direction::Backward => backward,
    }
}

/// Nodes that give moments of the loss to many digits, at a cost that does not depend on any grid.
pub(super) fn nodes(primitive: &Primitive, tail: f64) -> Option<Nodes> {
    let mut nodes = Nodes::new();
    match *primitive {
        Primitive::Gaussian { mu } => {
            coarse(
                &mut nodes,
                &SampledGaussian {
                    rate: 1.0,
                    noise: 1.0 / mu,
                },
                tail,
                1.0 / mu,
                false,
            )?;
        }
        Primitive::SampledGaussian { rate, noise } => {
            coarse(&mut nodes, &SampledGaussian { rate, noise }, tail, noise, false)?;
        }
        Primitive::SampledReplaceOneGaussian { rate, noise } => {
            coarse(
                &mut nodes,
                &ReplaceOneGaussian { rate, noise },
                tail,
                noise,
                false,
            )?;
        }
        Primitive::FixedSizeGaussian { rate, noise } => {
            let mut half = Nodes::new();
            coarse(&mut half, &SampledGaussian { rate, noise }, tail, noise, true)?;
            for (loss, mass) in half {
                nodes.push((loss, mass));
                nodes.push((-loss, mass * (-loss).exp()));
            }
            nodes.push((
                0.0,
                (1.0 - rate) * (1.0 - 2.0 * log_normal_tail(0.5 / noise).exp()),
            ));
        }
        Primitive::TruncatedGaussian {
            rate,
            noise,
            truncation,
            truncated_rate,
        } => {
            coarse(&mut nodes, &SampledGaussian { rate, noise }, tail, noise, false)?;
            for node in &mut nodes {
                node.1 *= 1.0 - truncation;
            }
            let start = nodes.len();
            if truncated_rate < 1.0 {
                let pair = ReplaceOneGaussian {
                    rate: truncated_rate,
                    noise: 0.5 * noise,
                };
                coarse(&mut nodes, &pair, tail, 0.5 * noise, false)?;
            } else {
                coarse(
                    &mut nodes,
                    &SampledGaussian {
                        rate: 1.0,
                        noise: 0.25 * noise,
                    },
                    tail,
                    0.25 * noise,
                    false,
                )?;
            }
            for node in &mut nodes[start..] {
                node.1 *= truncation;
            }
        }
        Primitive::Laplace { rate, scale } => {
            let pair = SampledLaplace { rate, scale };
            coarse_between(&mut nodes, &pair, 0.0, 1.0)?;
            for (x, q_mass) in [(0.0, 0.5), (1.0, 0.5 * (-1.0 / scale).exp())] {
                let loss = pair.loss(x);
                nodes.push((loss, q_mass * loss.exp()));
            }
        }
        Primitive::DiscreteNoise { noise, shift, rate } => nodes = atoms(noise, shift, rate, tail)?.0,
        Primitive::NonPrivate | Primitive::Skellam { .. } | Primitive::ZeroConcentrated { .. } => {
            return None;
        }
    }
    Some(nodes)
}

/// How many standard deviations leave at most `tail` on each side: e^{−z²/2}/2 bounds the normal tail.
fn reach(tail: f64) -> f64 {
    (-2.0 * tail.ln()).sqrt()
}

fn gaussian_law(pair: &SampledGaussian, step: f64, tail: f64, lower: f64) -> Option<LossLaw> {
    let reach = reach(tail) * pair.noise;
    let (low, high) = ((-reach).max(lower), 1.0 + reach);
    let mut law = LossLaw::new(step, pair.loss(low), pair.loss(high))?;
    fill(&mut law, step, pair, low, high)?;
    (law.dropped_p, law.dropped_q) = (tail, tail);
    Some(law)
}

fn replace_one_law(rate: f64, noise: f64, step: f64, tail: f64) -> Option<LossLaw> {
    if rate >= 1.0 {
        return loss_law(&Primitive::Gaussian { mu: 2.0 / noise }, step, tail);
    }
    let pair = ReplaceOneGaussian { rate, noise };
    let high = 1.0 + reach(tail) * noise;
    let mut law = LossLaw::new(step, 0.0, pair.loss(high))?;
    fill(&mut law, step, &pair, 0.0, high)?;
    (law.dropped_p, law.dropped_q) = (tail, tail);
    Some(law.mirrored(0.0))
}

/// Sends the masses of `pair` between the points `low` and `high` to `sink`, in order of rising loss.
fn fill(sink: &mut impl Sink, step: f64, pair: &impl MonotonePair, low: f64, high: f64) -> Option<()> {
    let cell = pair.cell();
    #[allow(clippy::cast_possible_truncation, reason = "bounded by the range of the law")]
    let mut bin = (pair.loss(low) / step).floor() as i64;
    #[allow(clippy::cast_precision_loss, reason = "indices stay below 1e15")]
    let grid = |bin: i64| bin as f64 * step;
    let whole = (-step).exp_m1();
    let mut x = low;
    let mut at_boundary = false;
    let mut cells = 0_u32;
    // From here grid cells are narrow: nodes at fixed places within each, so that the shares are the same for all.
    let rules = [
        shares(&GAUSS_LEGENDRE_2, step),
        shares(&GAUSS_LEGENDRE_3, step),
        shares(&GAUSS_LEGENDRE_4, step),
        shares(&GAUSS_LEGENDRE_6, step),
    ];
    let block = BlockRule::new(step);
    while x < high {
        let boundary = pair.point(grid(bin + 1));
        // A block of cells whose widths and densities are alike: on either side of loss 0 slopes fall or rise throughout.
        let block_end = if bin < 0 {
            (bin + BLOCK).min(0)
        } else {
            bin + BLOCK
        };
        let after = pair.point(grid(block_end));
        let widest = step * pair.slope(grid(bin), x).max(pair.slope(grid(block_end), after));
        if at_boundary && boundary - x <= cell && widest <= cell && after <= high {
            // How much the logarithm of the density changes over a cell decides how many nodes it needs.
            let change = widest.max(boundary - x) * pair.steepness(x).max(pair.steepness(after));
            let bend = (pair.slope(grid(bin), x) / pair.slope(grid(block_end), after))
                .ln()
                .abs();
            #[allow(clippy::cast_precision_loss, reason = "a block is short")]
            let across = BLOCK as f64 * change;
            if block_end - bin == BLOCK && across < SMOOTH && bend < SMOOTH {
                let start = grid(bin);
                let densities = block.nodes.map(|offset| pair.loss_density(start + offset));
                for weights in &block.bins {
                    let (mut below, mut above) = (0.0, 0.0);
                    for ((density, to_below), to_above) in
                        densities.iter().zip(&weights.below).zip(&weights.above)
                    {
                        below += density * to_below;
                        above += density * to_above;
                    }
                    sink.put(bin, below.max(0.0), above.max(0.0));
                    bin += 1;
                }
                x = after;
                continue;
            }
            let rule = &rules[match change {
                change if change < 1e-3 => 0,
                change if change < 0.03 => 1,
                change if change < 0.15 => 2,
                _ => 3,
            }];
            while bin < block_end {
                let start = grid(bin);
                let (mut below, mut above) = (0.0, 0.0);
                for node in rule {
                    let mass = node.weight * pair.loss_density(start + node.offset);
                    below += node.below * mass;
                    above += node.above * mass;
                }
                sink.put(bin, below, above);
                bin += 1;
            }
            x = after;
            continue;
        }
        // One grid cell is wide here: cells in x, cut at grid points.
        let next = (x + cell).min(boundary).min(high);
        let width = next - x;
        let start = grid(bin);
        let (mut below, mut above) = (0.0, 0.0);
        for (node, weight) in GAUSS_LEGENDRE_6 {
            let at = x + node * width;
            let loss = pair.loss(at);
            let within = (loss - start).clamp(0.0, step);
            let share = (-within).exp_m1() / whole;
            let mass = weight * width * pair.log_density(at, loss).exp();
            below += mass * (1.0 - share).max(0.0);
            above += mass * share;
        }
        sink.put(bin, below, above);
        cells += 1;
        if cells > MOST_CELLS {
            return None;
        }
        x = next;
        at_boundary = next >= boundary;
        if at_boundary {
            bin += 1;
        }
    }
    Some(())
}

/// What takes the masses of cells in order of rising loss. Each lies within one grid cell, and is given by what its two
/// points get when dots are connected, which says what its mass is under P and under Q.
pub(super) trait Sink {
    fn put(&mut self, bin: i64, below: f64, above: f64);
}

impl Sink for LossLaw {
    #[inline]
    fn put(&mut self, bin: i64, below: f64, above: f64) {
        #[allow(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "bins start at the first one"
        )]
        let index = ((bin - self.first).max(0) as usize).min(self.mass.len() - 2);
        self.mass[index] += below;
        self.mass[index + 1] += above;
    }
}

/// For a block of grid cells on which the density is all but straight: a few nodes for all of them.
#[derive(Debug)]
struct BlockRule {
    /// Places in the block.
    nodes: [f64; 6],
    bins: Vec<BinWeights>,
}

/// What the density at each node adds to the masses at both points of one grid cell.
#[derive(Debug)]
struct BinWeights {
    below: [f64; 6],
    above: [f64; 6],
}

impl BlockRule {
    /// Integrates the polynomial through the nodes over each cell.
    fn new(step: f64) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a block is short")]
        let width = BLOCK as f64 * step;
        let nodes = GAUSS_LEGENDRE_6.map(|(node, _)| node * width);
        let basis = |k: usize, at: f64| -> f64 {
            let others = nodes.iter().enumerate().filter(|(j, _)| *j != k);
            others
                .map(|(_, other)| (at - other) / (nodes[k] - other))
                .product()
        };
        let rule = shares(&GAUSS_LEGENDRE_6, step);
        let bins = (0..BLOCK)
            .map(|bin| {
                #[allow(clippy::cast_precision_loss, reason = "a block is short")]
                let start = bin as f64 * step;
                let weights = |share: fn(&CellNode) -> f64| {
                    std::array::from_fn(|k| {
                        let parts = rule
                            .iter()
                            .map(|node| node.weight * share(node) * basis(k, start + node.offset));
                        parts.sum()
                    })
                };
                BinWeights {
                    below: weights(|node| node.below),
                    above: weights(|node| node.above),
                }
            })
            .collect();
        Self { nodes, bins }
    }
}

/// A node of a rule on one grid cell.
#[derive(Debug)]
struct CellNode {
    offset: f64,
    weight: f64,
    below: f64,
    above: f64,
}

fn shares(rule: &[(f64, f64)], step: f64) -> Vec<CellNode> {
    let whole = (-step).exp_m1();
    rule.iter()
        .map(|&(node, weight)| {
            let offset = node * step;
            let above = (-offset).exp_m1() / whole;
            let below = (-offset).exp() * (-(step - offset)).exp_m1() / whole;
            CellNode {
                offset,
                weight: weight * step,
                below,
                above,
            }
        })
        .collect()
}

fn coarse(nodes: &mut Nodes, pair: &impl MonotonePair, tail: f64, noise: f64, half: bool) -> Option<()> {
    let reach = reach(tail) * noise;
    let low = if half { 0.5 } else { -1.0 - reach };
    coarse_between(nodes, pair, low, 1.0 + reach)
}

fn coarse_between(nodes: &mut Nodes, pair: &impl MonotonePair, low: f64, high: f64) -> Option<()> {
    let cells = ((high - low) / (2.0 * pair.cell())).ceil().max(1.0);
    if cells > f64::from(MOST_CELLS) {
        return None;
    }
    let width = (high - low) / cells;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked just above"
    )]
    let cells = cells as u32;
    for i in 0..cells {
        let start = low + f64::from(i) * width;
        for (node, weight) in GAUSS_LEGENDRE_3 {
            let x = start + node * width;
            let loss = pair.loss(x);
            nodes.push((loss, weight * width * pair.log_density(x, loss).exp()));
        }
    }
    Some(())
}

const MOST_CELLS: u32 = 300_000;

/// By how much density and slope may change over a block, as logarithms, for a polynomial of degree five to be exact to
/// fourteen digits.
const SMOOTH: f64 = 0.02;

/// Grid cells that share one choice of nodes.
const BLOCK: i64 = 32;

/// Loss and mass under P of every integer that has not been left out, and a bound on what has, under P and under Q.
fn atoms(noise: DiscreteNoise, shift: u64, rate: f64, tail: f64) -> Option<(Nodes, f64)> {
    if shift == 0 {
        return Some((vec![(0.0, 1.0)], 0.0));
    }
    #[allow(clippy::cast_precision_loss, reason = "a shift stays below 1e15")]
    let shift_number = shift as f64;
    if shift_number > MOST_ATOMS {
        return None;
    }
    // Under Q the noise is centred at 0, under P at 0 or at the shift. The loss without sampling is linear in between.
    let mut atoms = Nodes::new();
    match noise {
        DiscreteNoise::Gaussian { sigma } => {
            // Discrete Gaussian tails are bounded by the continuous ones (Canonne, Kamath, Steinke 2020, proposition 25).
            let last = (reach(tail) * sigma + 1.0).ceil();
            if 2.0 * last + shift_number > MOST_ATOMS {
                return None;
            }
            let weight = |k: f64| (-0.5 * (k / sigma) * (k / sigma)).exp();
            let mut total = 0.0;
            let mut k = last;
            while k >= 1.0 {
                total += 2.0 * weight(k);
                k -= 1.0;
            }
            total += 1.0;
            let mut k = -last;
            while k <= last + shift_number {
                let inner = shift_number * (2.0 * k - shift_number) / (2.0 * sigma * sigma);
                let loss = mixture_loss(rate, inner);
                // The mass under P directly from its two components: neither may underflow with the other.
                let mass = ((1.0 - rate) * weight(k) + rate * weight(k - shift_number)) / total;
                if mass > 0.0 {
                    atoms.push((loss, mass));
                }
                k += 1.0;
            }
            Some((atoms, tail))
        }
        DiscreteNoise::Laplace { scale } => {
            // Below 0 and above the shift the loss is constant: one atom each.
            let ratio = (-1.0 / scale).exp();
            let centre = (0.5 / scale).tanh();
            let outer = 1.0 / (1.0 + ratio);
            let inner = |k: f64| (2.0 * k - shift_number) / scale;
            let mut push = |k: f64, q_mass: f64| {
                let loss = mixture_loss(rate, inner(k));
                atoms.push((loss, q_mass * loss.exp()));
            };
            push(0.0, outer);
            let mut k = 1.0;
            while k < shift_number {
                push(k, centre * (-k / scale).exp());
                k += 1.0;
            }
            push(shift_number, outer * (-shift_number / scale).exp());
            Some((atoms, 0.0))
        }
    }
}

const MOST_ATOMS: f64 = 2e6;

fn range(atoms: &[(f64, f64)]) -> (f64, f64) {
    atoms
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &(loss, _)| {
            (low.min(loss), high.max(loss))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primitives() -> Vec<Primitive> {
        let mut list = Vec::new();
        for (rate, noise) in [(0.01, 1.0), (1e-3, 0.3), (0.5, 10.0), (1e-6, 50.0), (0.9, 0.1)] {
            list.push(Primitive::SampledGaussian { rate, noise });
            list.push(Primitive::SampledReplaceOneGaussian { rate, noise });
            list.push(Primitive::FixedSizeGaussian { rate, noise });
            list.push(Primitive::TruncatedGaussian {
                rate,
                noise,
                truncation: 0.2,
                truncated_rate: 0.8 * rate,
            });
            list.push(Primitive::Laplace { rate, scale: noise });
        }
        list.push(Primitive::Gaussian { mu: 0.7 });
        list.push(Primitive::Laplace {
            rate: 1.0,
            scale: 3.0,
        });
        let gaussian = DiscreteNoise::Gaussian { sigma: 4.0 };
        list.push(Primitive::DiscreteNoise {
            noise: gaussian,
            shift: 3,
            rate: 0.1,
        });
        list.push(Primitive::DiscreteNoise {
            noise: DiscreteNoise::Laplace { scale: 2.5 },
            shift: 4,
            rate: 0.3,
        });
        list
    }

    #[test]
    fn laws_and_nodes_have_mass_one_under_both() {
        for primitive in primitives() {
            for step in [0.3, 1e-2, 1e-4] {
                let law = loss_law(&primitive, step, 1e-20).unwrap();
                let p: f64 = law.mass.iter().sum();
                let q: f64 = law
                    .mass
                    .iter()
                    .enumerate()
                    .map(|(i, mass)| mass * (-law.loss(i)).exp())
                    .sum();
                assert!((p - 1.0).abs() < 2e-12, "{primitive:?} {step}: P {}", p - 1.0);
                assert!((q - 1.0).abs() < 2e-12, "{primitive:?} {step}: Q {}", q - 1.0);
            }
            let nodes = nodes(&primitive, 1e-20).unwrap();
            let p: f64 = nodes.iter().map(|(_, mass)| mass).sum();
            let q: f64 = nodes.iter().map(|(loss, mass)| mass * (-loss).exp()).sum();
            assert!(
                (p - 1.0).abs() < 1e-6 && (q - 1.0).abs() < 1e-6,
                "{primitive:?}: {p} {q}"
            );
        }
    }

    #[test]
    fn a_law_says_which_direction_it_is_for() {
        for primitive in primitives() {
            let law = loss_law(&primitive, 1e-2, 1e-20).unwrap();
            if is_symmetric(&primitive) {
                for (i, &mass) in law.mass.iter().enumerate() {
                    let index = law.first + i64::try_from(i).unwrap();
                    let mirror = usize::try_from(-index - law.first).unwrap_or(usize::MAX);
                    let mirrored = law
                        .mass
                        .get(mirror)
                        .map_or(0.0, |mass| mass * (-law.loss(mirror)).exp());
                    assert!(
                        (mass - mirrored).abs() <= 1e-9 * mass.max(1e-12),
                        "{primitive:?} {index}: {mass} {mirrored}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_discrete_gaussian_equals_direct_sums() {
        let primitive = Primitive::DiscreteNoise {
            noise: DiscreteNoise::Gaussian { sigma: 1.0 },
            shift: 1,
            rate: 1.0,
        };
        let nodes = nodes(&primitive, 1e-30).unwrap();
        // δ(0) is the mass of the noise at 0 before a shift of one.
        let delta: f64 = nodes
            .iter()
            .filter(|(loss, _)| *loss > 0.0)
            .map(|(loss, mass)| mass * -(-loss).exp_m1())
            .sum();
        let total: f64 = (-40..=40).map(|k| (-0.5 * f64::from(k * k)).exp()).sum();
        assert!((delta - 1.0 / total).abs() < 1e-14);
    }
}
