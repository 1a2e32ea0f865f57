//! Loss laws on a grid that are certainly not worse than the true one.
//!
//! Merging outcomes is post-processing of the pair (P, Q): it can only lower δ(ε), in both directions and under
//! composition. Outcomes in order of their loss are merged until the loss ln(P/Q) of the merged outcome is exactly a grid
//! point; the outcome at which that happens is divided. No mass moves up, no mean is lost, only variance within a cell:
//! the result is as close from below as connected dots are from above. This is the optimistic counterpart that
//! Doroshenko et al. 2022, section 5, describe by tangents.

use super::discretise::Sink;
use super::law::LossLaw;
use super::outline::Direction;

/// Takes masses in order of rising loss: outcomes, or cells of a continuous law, each of which is one outcome.
///
/// A cell's masses under P and Q are integrals over the whole cell, so merging and dividing cells is post-processing of
/// the continuous pair itself; the nodes that the integrals are made from are no outcomes.
#[derive(Debug)]
pub(super) struct Merger {
    step: f64,
    /// Width of the cells that come in, in which losses are integrated.
    cell_step: f64,
    direction: Direction,
    masses: Vec<f64>,
    /// For a symmetric law, of which only losses of at least 0 are pushed: masses at minus the loss of that position.
    mirror: Option<Vec<f64>>,
    taken: f64,
    state: State,
}

/// Outcomes that are merged: their mass under P, and by how much e^`lowest` times that under Q exceeds it.
#[derive(Debug, Clone, Copy, Default)]
struct Heap {
    p: f64,
    gap: f64,
}

impl Heap {
    fn take(&mut self, lowest: f64, loss: f64, mass: f64) {
        self.p += mass;
        self.gap += mass * (lowest - loss).exp_m1();
    }
}

#[derive(Debug)]
enum State {
    Empty,
    /// The outcome at the lower end, which holds the heap of mass that weak sampling makes: its merged loss becomes the
    /// origin of the grid, so that it loses nothing.
    ///
    /// `next` is on its way to the first step above. If it stays too light for that, it joins the first.
    First {
        lowest: f64,
        first: Heap,
        next: Heap,
    },
    /// Filling the outcome that is to have loss `origin + target * step`.
    ///
    /// `gap` is the mass under P minus e^target times that under Q: below zero as long as the loss is below the target.
    Filling {
        origin: f64,
        target: u32,
        p: f64,
        gap: f64,
    },
}

impl Merger {
    pub(super) fn new(step: f64, direction: Direction) -> Self {
        Self {
            step,
            cell_step: SUB_CELL * step,
            direction,
            masses: Vec::new(),
            mirror: None,
            taken: 0.0,
            state: State::Empty,
        }
    }

    /// For a pair whose loss has the same law both ways, given by its losses of at least 0. Its heap of mass is at 0.
    pub(super) fn symmetric(step: f64) -> Self {
        Self {
            mirror: Some(Vec::new()),
            state: State::First {
                lowest: 0.0,
                first: Heap::default(),
                next: Heap::default(),
            },
            ..Self::new(step, Direction::Forward)
        }
    }

    /// The width of the cells that [`Sink::put`] takes.
    pub(super) fn cell_step(&self) -> f64 {
        self.cell_step
    }

    /// Takes `mass` under P at `loss`, which is no lower than any before.
    pub(super) fn push(&mut self, loss: f64, mass: f64) {
        if mass > 0.0 {
            self.taken += mass;
            self.merge(loss, mass);
        }
    }

    fn merge(&mut self, loss: f64, mass: f64) {
        let step = self.step;
        let symmetric = self.mirror.is_some();
        match &mut self.state {
            State::Empty => {
                let first = Heap { p: mass, gap: 0.0 };
                self.state = State::First {
                    lowest: loss,
                    first,
                    next: Heap::default(),
                }
            }
            State::First { lowest, first, .. } if loss <= *lowest + 0.5 * step => {
                first.take(*lowest, loss, mass);
            }
            State::First { lowest, first, next } => {
                let origin = merged_loss(*lowest, *first, symmetric);
                let aim = origin + step;
                if next.p > 0.0 && loss > aim + 2.0 * step {
                    first.p += next.p;
                    first.gap += next.gap;
                    *next = Heap::default();
                    self.merge(loss, mass);
                    return;
                }
                let above = aim - *lowest;
                let gap = -next.p * above.exp_m1() - above.exp() * next.gap;
                if loss <= aim + 2.0 * step && gap - mass * (aim - loss).exp_m1() < 0.0 {
                    next.take(*lowest, loss, mass);
                    return;
                }
                let (first, p) = (*first, next.p);
                self.begin(origin, first);
                self.state = State::Filling {
                    origin,
                    target: 1,
                    p,
                    gap,
                };
                self.merge(loss, mass);
            }
            State::Filling {
                origin,
                target,
                p,
                gap,
            } => {
                let mut mass = mass;
                loop {
                    if *p <= 0.0 {
                        let above = ((loss - *origin) / step).ceil().clamp(0.0, f64::from(u32::MAX));
                        #[allow(
                            clippy::cast_possible_truncation,
                            clippy::cast_sign_loss,
                            reason = "just clamped"
                        )]
                        {
                            *target = (above as u32).max(*target);
                        }
                        *gap = 0.0;
                    }
                    let aim = *origin + f64::from(*target) * step;
                    let change = -mass * (aim - loss).exp_m1();
                    if *gap + change < 0.0 {
                        *p += mass;
                        *gap += change;
                        if loss > aim + 2.0 * step {
                            let (target, p, gap) = (*target, std::mem::take(p), std::mem::take(gap));
                            self.emit_rounded(target, p, gap, aim);
                        }
                        return;
                    }
                    let share = if change > 0.0 {
                        (-*gap / change).clamp(0.0, 1.0)
                    } else {
                        1.0
                    };
                    let whole = *p + share * mass;
                    emit(&mut self.masses, *target, whole);
                    if let Some(mirror) = &mut self.mirror {
                        emit(mirror, *target, whole * (-aim).exp());
                    }
                    (*p, *gap) = (0.0, 0.0);
                    *target += 1;
                    mass *= 1.0 - share;
                    if mass <= 0.0 {
                        return;
                    }
                }
            }
        }
    }

    /// The first outcome is complete.
    fn begin(&mut self, origin: f64, first: Heap) {
        // Under Q the outcome at 0 has what it has under P, and so has its mirror image.
        let mass = if self.mirror.is_some() {
            2.0 * first.p + first.gap
        } else {
            first.p
        };
        self.masses.push(mass);
        if let Some(mirror) = &mut self.mirror {
            debug_assert!(origin <= 0.0);
            mirror.push(0.0);
        }
    }

    /// Puts an outcome whose loss lies between grid points on the one that is better: the lower one keeps the mass under
    /// P, the upper one, for the reverse direction, that under Q.
    fn emit_rounded(&mut self, target: u32, p: f64, gap: f64, aim: f64) {
        // The merged loss lies this many steps below the target.
        let below = (-gap / p).ln_1p() / self.step;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the target"
        )]
        let rounded = |down: f64| target - down.clamp(0.0, f64::from(target)) as u32;
        let upper = rounded(below.floor());
        match self.direction {
            Direction::Forward => emit(&mut self.masses, rounded(below.ceil()), p),
            Direction::Backward => {
                let down = f64::from(target - upper);
                emit(&mut self.masses, upper, (p - gap) * (-down * self.step).exp());
            }
        }
        if let Some(mirror) = &mut self.mirror {
            // There the mass under P is what is under Q here, and its loss falls.
            emit(mirror, upper, (p - gap) * (-aim).exp());
        }
    }

    /// The law of what was pushed; what is left in the last cell is rounded away from the worse side.
    pub(super) fn finish(mut self) -> Option<LossLaw> {
        let origin = match self.state {
            State::Empty => return None,
            State::First {
                lowest,
                mut first,
                next,
            } => {
                first.p += next.p;
                first.gap += next.gap;
                let origin = merged_loss(lowest, first, self.mirror.is_some());
                self.begin(origin, first);
                origin
            }
            State::Filling {
                origin,
                target,
                p,
                gap,
            } => {
                if p > 0.0 {
                    self.emit_rounded(target, p, gap, origin + f64::from(target) * self.step);
                }
                origin
            }
        };
        // Two points at least, as everywhere.
        self.masses.resize(self.masses.len().max(2), 0.0);
        let (mut first, mut taken) = (0, self.taken);
        if let Some(mirror) = &mut self.mirror {
            // What is rounded moves apart here and there.
            let length = self.masses.len().max(mirror.len());
            self.masses.resize(length, 0.0);
            mirror.resize(length, 0.0);
            #[allow(clippy::cast_possible_wrap, reason = "lengths are far below 2^63")]
            {
                first = 1 - mirror.len() as i64;
            }
            taken = self.masses.iter().sum::<f64>() + mirror.iter().sum::<f64>();
            let below = mirror.iter().skip(1).rev();
            self.masses = below.chain(&self.masses).copied().collect();
        }
        Some(LossLaw {
            step: self.step,
            origin,
            first,
            mass: self.masses,
            defect: (taken - 1.0).abs(),
            dropped_p: 0.0,
            dropped_q: 0.0,
        })
    }
}

/// The loss of the outcome at the lower end: that of its merged masses, or 0, with its mirror image.
fn merged_loss(lowest: f64, first: Heap, symmetric: bool) -> f64 {
    if symmetric {
        0.0
    } else {
        lowest - (first.gap / first.p).ln_1p()
    }
}

impl Sink for Merger {
    #[inline]
    fn put(&mut self, bin: i64, below: f64, above: f64) {
        // The loss of the whole cell, whose mass under P is `below + above` and under Q that of both grid points.
        let mass = below + above;
        if mass > 0.0 {
            #[allow(clippy::cast_precision_loss, reason = "indices stay below 1e15")]
            let lowest = bin as f64 * self.cell_step;
            self.push(lowest - (above / mass * (-self.cell_step).exp_m1()).ln_1p(), mass);
        }
    }
}

/// Width of the cells that are merged, in grid steps: what is lost within a cell is then less than what merging loses.
const SUB_CELL: f64 = 0.5;

fn emit(masses: &mut Vec<f64>, target: u32, mass: f64) {
    let position = target as usize;
    if position >= masses.len() {
        masses.resize(position + 1, 0.0);
    }
    masses[position] += mass;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hockey-stick divergence of atoms (loss, mass under P).
    fn delta(atoms: &[(f64, f64)], epsilon: f64) -> f64 {
        atoms
            .iter()
            .map(|(loss, mass)| {
                if *loss > epsilon {
                    -mass * (epsilon - loss).exp_m1()
                } else {
                    0.0
                }
            })
            .sum()
    }

    fn atoms(law: &LossLaw) -> Vec<(f64, f64)> {
        law.mass
            .iter()
            .enumerate()
            .map(|(i, &mass)| (law.loss(i), mass))
            .collect()
    }

    fn reversed(atoms: &[(f64, f64)]) -> Vec<(f64, f64)> {
        atoms
            .iter()
            .map(|(loss, mass)| (-loss, mass * (-loss).exp()))
            .collect()
    }

    fn check(given: &[(f64, f64)], step: f64) {
        for direction in [Direction::Forward, Direction::Backward] {
            let mut merger = Merger::new(step, direction);
            given.iter().for_each(|&(loss, mass)| merger.push(loss, mass));
            let merged = atoms(&merger.finish().unwrap());
            let (given, merged) = match direction {
                Direction::Forward => (given.to_vec(), merged),
                Direction::Backward => (reversed(given), reversed(&merged)),
            };
            let total = |list: &[(f64, f64)]| list.iter().map(|atom| atom.1).sum::<f64>();
            assert!((total(&given) - total(&merged)).abs() < 1e-13);
            for i in -300..300 {
                let epsilon = f64::from(i) * 0.01;
                assert!(
                    delta(&merged, epsilon) <= delta(&given, epsilon) + 1e-15,
                    "{direction:?} {epsilon}"
                );
            }
        }
    }

    #[test]
    fn merged_laws_are_below_everywhere_and_in_both_directions() {
        let smooth: Vec<(f64, f64)> = (0..400)
            .map(|i| {
                let loss = -2.0 + 0.01 * f64::from(i);
                (loss, 0.004 * (-0.5 * (loss - 0.3).powi(2)).exp())
            })
            .collect();
        let heap = [(-0.01, 0.9), (0.0, 0.05), (0.37, 0.01), (0.4, 0.02), (1.9, 0.02)];
        for step in [0.03, 0.1, 0.5] {
            check(&smooth, step);
            check(&heap, step);
        }
    }

    #[test]
    fn symmetric_laws_stay_symmetric_and_below() {
        // Half of a law with as much mass under Q at −t as under P at t, and a heap near 0.
        let mut half: Vec<(f64, f64)> = (0..300)
            .map(|i| {
                let loss = 1e-4 + 0.013 * f64::from(i);
                (loss, (-3.0 * loss).exp() + 400.0 * (-500.0 * loss).exp())
            })
            .collect();
        let whole: f64 = half.iter().map(|(loss, mass)| mass * (1.0 + (-loss).exp())).sum();
        half.iter_mut().for_each(|(_, mass)| *mass /= whole);
        let given: Vec<(f64, f64)> = half.iter().copied().chain(reversed(&half)).collect();
        for step in [0.002, 0.03, 0.1, 0.5] {
            let mut merger = Merger::symmetric(step);
            half.iter().for_each(|&(loss, mass)| merger.push(loss, mass));
            let merged = atoms(&merger.finish().unwrap());
            assert!((merged.iter().map(|atom| atom.1).sum::<f64>() - 1.0).abs() < 1e-12);
            for i in -300..400 {
                let epsilon = f64::from(i) * 0.01;
                let (below, above) = (delta(&merged, epsilon), delta(&given, epsilon));
                assert!(below <= above + 1e-15, "{step} {epsilon}: {below} {above}");
                assert!(
                    step > 0.01 || below > 0.97 * above - 1e-9,
                    "{step} {epsilon}: {below} {above}"
                );
            }
        }
    }

    #[test]
    fn a_heap_wider_than_the_first_half_step_loses_nothing_on_average() {
        // Most mass at losses between 0 and 0.9 steps, and too little above to lift the upper part of it by a step.
        let mut given: Vec<(f64, f64)> = (0..90).map(|i| (1e-4 * f64::from(i), 0.011)).collect();
        given.extend((0..50).map(|i| (0.02 + 0.01 * f64::from(i), 1e-7)));
        let mut merger = Merger::new(0.01, Direction::Forward);
        given.iter().for_each(|&(loss, mass)| merger.push(loss, mass));
        let merged = atoms(&merger.finish().unwrap());
        let under_q = |list: &[(f64, f64)]| list.iter().map(|(loss, mass)| mass * (-loss).exp()).sum::<f64>();
        assert!((under_q(&merged) - under_q(&given)).abs() < 1e-7);
    }

    #[test]
    fn little_is_lost_where_the_law_is_smooth() {
        let smooth: Vec<(f64, f64)> = (0..4000)
            .map(|i| {
                let loss = -3.5 + 0.002 * f64::from(i);
                (
                    loss,
                    0.002 / (2.0 * std::f64::consts::PI).sqrt() * (-0.5 * (loss - 0.5).powi(2)).exp(),
                )
            })
            .collect();
        let mut merger = Merger::new(0.05, Direction::Forward);
        smooth.iter().for_each(|&(loss, mass)| merger.push(loss, mass));
        let merged = atoms(&merger.finish().unwrap());
        let variance = |list: &[(f64, f64)]| {
            let mean: f64 = list.iter().map(|(loss, mass)| loss * mass).sum();
            list.iter()
                .map(|(loss, mass)| (loss - mean).powi(2) * mass)
                .sum::<f64>()
        };
        let lost = variance(&smooth) - variance(&merged);
        assert!(lost > 0.0 && lost < 0.05 * 0.05 / 2.0, "{lost}");
    }
}
