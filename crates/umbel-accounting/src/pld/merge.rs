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
    cell: Option<Cell>,
    direction: Direction,
    masses: Vec<f64>,
    taken: f64,
    state: State,
}

/// The cell that is being filled: its first loss, its mass under P, and what e^(first loss) times its mass under Q is
/// less than that.
#[derive(Debug)]
struct Cell {
    lowest: f64,
    p: f64,
    gap: f64,
}

#[derive(Debug)]
enum State {
    Empty,
    /// The first half step: its merged loss becomes the origin of the grid, so that a heap of mass at the lower end,
    /// which weak sampling makes, loses nothing.
    First {
        lowest: f64,
        p: f64,
        gap: f64,
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
            cell: None,
            direction,
            masses: Vec::new(),
            taken: 0.0,
            state: State::Empty,
        }
    }

    /// On the grid that contains 0, for laws whose heap of mass is there; no loss may be below `lowest`.
    pub(super) fn around_zero(step: f64, direction: Direction, lowest: f64) -> Self {
        let origin = (lowest / step).floor() * step;
        Self {
            state: State::Filling {
                origin,
                target: 0,
                p: 0.0,
                gap: 0.0,
            },
            ..Self::new(step, direction)
        }
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
        match &mut self.state {
            State::Empty => {
                self.state = State::First {
                    lowest: loss,
                    p: mass,
                    gap: 0.0,
                }
            }
            State::First { lowest, p, gap } if loss <= *lowest + 0.5 * step => {
                *p += mass;
                *gap += mass * (*lowest - loss).exp_m1();
            }
            State::First { lowest, p, gap } => {
                let origin = *lowest - (*gap / *p).ln_1p();
                self.masses.push(*p);
                self.state = State::Filling {
                    origin,
                    target: 0,
                    p: 0.0,
                    gap: 0.0,
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
                            emit_rounded(&mut self.masses, self.direction, step, *target, *p, *gap);
                            (*p, *gap) = (0.0, 0.0);
                        }
                        return;
                    }
                    let share = if change > 0.0 {
                        (-*gap / change).clamp(0.0, 1.0)
                    } else {
                        1.0
                    };
                    emit(&mut self.masses, *target, *p + share * mass);
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

    /// The law of what was pushed; what is left in the last cell is rounded away from the worse side.
    pub(super) fn finish(mut self) -> Option<LossLaw> {
        let origin = match self.state {
            State::Empty => return None,
            State::First { lowest, p, gap } => {
                self.masses.push(p);
                lowest - (gap / p).ln_1p()
            }
            State::Filling {
                origin,
                target,
                p,
                gap,
            } => {
                if p > 0.0 {
                    emit_rounded(&mut self.masses, self.direction, self.step, target, p, gap);
                }
                origin
            }
        };
        // Two points at least, as everywhere.
        self.masses.resize(self.masses.len().max(2), 0.0);
        let defect = (self.taken - 1.0).abs();
        Some(LossLaw {
            step: self.step,
            origin,
            first: 0,
            mass: self.masses,
            defect,
            dropped_p: 0.0,
            dropped_q: 0.0,
        })
    }
}

impl Sink for Merger {
    #[inline]
    fn put(&mut self, loss: f64, _bin: i64, _shares: (f64, f64), mass: f64) {
        if mass > 0.0 {
            let cell = self.cell.get_or_insert(Cell {
                lowest: loss,
                p: 0.0,
                gap: 0.0,
            });
            cell.p += mass;
            cell.gap += mass * (cell.lowest - loss).exp_m1();
        }
    }

    fn end_cell(&mut self) {
        if let Some(Cell { lowest, p, gap }) = self.cell.take() {
            self.push(lowest - (gap / p).ln_1p(), p);
        }
    }
}

fn emit(masses: &mut Vec<f64>, target: u32, mass: f64) {
    let position = target as usize;
    if position >= masses.len() {
        masses.resize(position + 1, 0.0);
    }
    masses[position] += mass;
}

/// Puts an outcome whose loss lies between grid points on the one that is better: the lower one keeps the mass under P,
/// the upper one, for the reverse direction, that under Q.
fn emit_rounded(masses: &mut Vec<f64>, direction: Direction, step: f64, target: u32, p: f64, gap: f64) {
    // The merged loss lies this many steps below the target.
    let below = (-gap / p).ln_1p() / step;
    match direction {
        Direction::Forward => {
            let down = below.ceil().clamp(0.0, f64::from(target));
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the target"
            )]
            emit(masses, target - down as u32, p);
        }
        Direction::Backward => {
            let down = below.floor().clamp(0.0, f64::from(target));
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the target"
            )]
            emit(masses, target - down as u32, (p - gap) * (-down * step).exp());
        }
    }
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
