//! Privacy-loss laws on a grid.

/// The law of the privacy loss ln(dP/dQ) under P, on the points `origin + (first + i) * step`.
///
/// At a grid point the loss is exactly that point, so the masses under Q are those under P times e^−loss: one law serves
/// both directions. The pair (Q, P) has loss −t with mass `mass · e^−t`.
#[derive(Debug, Clone)]
pub(super) struct LossLaw {
    /// Distance of grid points.
    pub(super) step: f64,
    /// Where the grid point of index 0 lies.
    pub(super) origin: f64,
    /// Index of the first mass.
    pub(super) first: i64,
    /// Masses under P, none negative.
    pub(super) mass: Vec<f64>,
    /// By how much the masses that went in differ from one, beyond what was left out on purpose: quadrature and rounding.
    pub(super) defect: f64,
    /// Bound on the mass under P that is left out.
    pub(super) dropped_p: f64,
    /// Bound on the mass under Q that is left out.
    pub(super) dropped_q: f64,
}

impl LossLaw {
    /// No masses yet, for losses between `lowest` and `highest`. `None` if that takes more points than `MOST_POINTS`.
    pub(super) fn new(step: f64, lowest: f64, highest: f64) -> Option<Self> {
        let (first, last) = Self::fits(step, lowest, highest)?;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range has just been checked"
        )]
        let (first, length) = (first as i64, (last - first) as usize + 1);
        Some(Self {
            step,
            origin: 0.0,
            first,
            mass: vec![0.0; length],
            defect: 0.0,
            dropped_p: 0.0,
            dropped_q: 0.0,
        })
    }

    /// First and last index for these losses, unless they are too many.
    pub(super) fn fits(step: f64, lowest: f64, highest: f64) -> Option<(f64, f64)> {
        let (first, last) = ((lowest / step).floor(), (highest / step).floor() + 2.0);
        (first.abs() < 1e15 && last - first < MOST_POINTS).then_some((first, last))
    }

    /// The loss at position `i`.
    #[allow(clippy::cast_precision_loss, reason = "indices stay below 1e15")]
    pub(super) fn loss(&self, i: usize) -> f64 {
        self.origin + (self.first + i as i64) as f64 * self.step
    }

    /// Adds mass at a loss between grid points (of a grid with origin 0), by connecting the dots (Doroshenko et al. 2022): both neighbours get a
    /// share such that the masses under P and under Q stay what they are. That raises δ(ε) at every ε or leaves it.
    pub(super) fn add(&mut self, loss: f64, mass: f64) {
        let position = (loss / self.step).floor();
        #[allow(
            clippy::cast_possible_truncation,
            reason = "losses lie in the range checked at construction"
        )]
        let index = (position as i64 - self.first).max(0);
        let within = (loss - position * self.step).clamp(0.0, self.step);
        #[allow(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "not negative, see above"
        )]
        let index = (index as usize).min(self.mass.len() - 2);
        self.split(index, within, mass);
    }

    /// Divides mass at `within` above point `index` between that point and the next.
    #[inline]
    pub(super) fn split(&mut self, index: usize, within: f64, mass: f64) {
        let share = (-within).exp_m1() / (-self.step).exp_m1();
        self.mass[index] += mass * (1.0 - share).max(0.0);
        self.mass[index + 1] += mass * share;
    }

    /// Measures the defect, once all masses are in.
    pub(super) fn measured(mut self) -> Self {
        self.defect = ((self.mass.iter().sum::<f64>() - 1.0).abs() - self.dropped_p).max(0.0);
        self
    }

    /// The mixture with weight `weight` on `other`, which has the same step.
    pub(super) fn mixed(self, weight: f64, other: &Self) -> Self {
        let first = self.first.min(other.first);
        #[allow(clippy::cast_possible_wrap, reason = "lengths are far below 2^63")]
        let last = (self.first + self.mass.len() as i64).max(other.first + other.mass.len() as i64);
        #[allow(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "last is not below first"
        )]
        let mut mass = vec![0.0; (last - first) as usize];
        for (law, weight) in [(&self, 1.0 - weight), (other, weight)] {
            #[allow(
                clippy::cast_sign_loss,
                clippy::cast_possible_truncation,
                reason = "first is the smaller one"
            )]
            let offset = (law.first - first) as usize;
            for (into, from) in mass[offset..].iter_mut().zip(&law.mass) {
                *into += weight * from;
            }
        }
        Self {
            step: self.step,
            origin: 0.0,
            first,
            mass,
            defect: self.defect.max(other.defect),
            dropped_p: (1.0 - weight) * self.dropped_p + weight * other.dropped_p,
            dropped_q: (1.0 - weight) * self.dropped_q + weight * other.dropped_q,
        }
    }

    /// For a law given at losses of at least 0 only: adds the mirror image, so that pair and reverse agree.
    ///
    /// `at_zero` is mass at loss 0 besides what both halves put there.
    pub(super) fn mirrored(self, at_zero: f64) -> Self {
        let half = self.mass.len();
        let mut mass = vec![0.0; 2 * half - 1];
        for (i, &value) in self.mass.iter().enumerate() {
            mass[half - 1 + i] += value;
            #[allow(clippy::cast_precision_loss, reason = "a position in a vector")]
            let reversed = value * (-(i as f64) * self.step).exp();
            mass[half - 1 - i] += reversed;
        }
        mass[half - 1] += at_zero;
        let dropped = self.dropped_p + self.dropped_q;
        #[allow(clippy::cast_possible_wrap, reason = "a position in a vector")]
        let first = 1 - half as i64;
        Self {
            step: self.step,
            origin: 0.0,
            first,
            mass,
            defect: 0.0,
            dropped_p: dropped,
            dropped_q: dropped,
        }
    }
}

/// Bounds the memory of one law.
const MOST_POINTS: f64 = 6e6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_masses_are_kept_when_dots_are_connected() {
        let mut law = LossLaw::new(0.1, -1.0, 1.0).unwrap();
        for (loss, mass) in [(-0.97, 0.2), (0.0, 0.3), (0.123, 0.5)] {
            law.add(loss, mass);
        }
        let p: f64 = law.mass.iter().sum();
        let q: f64 = law
            .mass
            .iter()
            .enumerate()
            .map(|(i, mass)| mass * (-law.loss(i)).exp())
            .sum();
        let expected: f64 = 0.2 * 0.97_f64.exp() + 0.3 + 0.5 * (-0.123_f64).exp();
        assert!((p - 1.0).abs() < 1e-14 && (q - expected).abs() < 1e-14);
    }

    #[test]
    fn the_mirror_image_has_equal_mass_under_p_and_q() {
        let mut law = LossLaw::new(0.25, 0.0, 2.0).unwrap();
        law.add(0.6, 0.1);
        law.add(1.9, 0.2);
        let law = law.mirrored(0.05);
        let p: f64 = law.mass.iter().sum();
        let q: f64 = law
            .mass
            .iter()
            .enumerate()
            .map(|(i, mass)| mass * (-law.loss(i)).exp())
            .sum();
        assert!((p - q).abs() < 1e-14);
    }
}
