//! A sum with a limit.

use super::{
    BudgetExhausted, FilterError,
    codec::{Reader, Writer},
};

/// By how much of itself a limit may be passed.
const SLACK: f64 = 1e-12;

/// By what a limit derived from other numbers is multiplied, so that passing it by [`SLACK`] stays within
/// them.
const DERIVED: f64 = 1.0 - 4e-12;

/// Adds up amounts in twice the precision of f64 and says when a limit would be passed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Meter {
    high: f64,
    low: f64,
    limit: f64,
}

impl Meter {
    /// With a limit stated by the user, finite and at least 0.
    pub(super) fn new(limit: f64) -> Self {
        Self {
            high: 0.0,
            low: 0.0,
            limit,
        }
    }

    /// With a limit computed from other numbers, which must hold strictly.
    pub(super) fn derived(limit: f64) -> Self {
        Self::new((limit * DERIVED).max(0.0))
    }

    /// The meter after `amount` more, or the refusal.
    pub(super) fn charged(&self, quantity: &'static str, amount: f64) -> Result<Self, BudgetExhausted> {
        let next = self.added(amount);
        if next.is_kept() {
            Ok(next)
        } else {
            Err(BudgetExhausted {
                quantity,
                spent: self.spent(),
                asked: amount,
                limit: self.limit,
            })
        }
    }

    /// The meter after `amount` more, whether or not the limit is passed.
    pub(super) fn added(&self, amount: f64) -> Self {
        let high = self.high + amount;
        if !high.is_finite() {
            return Self {
                high: f64::INFINITY,
                low: 0.0,
                limit: self.limit,
            };
        }
        // The rounding error of the sum, exactly (Knuth's two-sum).
        let shadow = high - self.high;
        let error = (self.high - (high - shadow)) + (amount - shadow);
        Self {
            high,
            low: self.low + error,
            limit: self.limit,
        }
    }

    /// Whether the limit is not passed.
    pub(super) fn is_kept(&self) -> bool {
        self.high.is_finite() && self.spent() <= self.most()
    }

    pub(super) fn spent(&self) -> f64 {
        self.high + self.low
    }

    pub(super) fn limit(&self) -> f64 {
        self.limit
    }

    /// The limit with its slack: what is guaranteed not to be passed.
    pub(super) fn most(&self) -> f64 {
        self.limit * (1.0 + SLACK)
    }

    pub(super) fn write(&self, writer: &mut Writer) {
        writer.float(self.high);
        writer.float(self.low);
        writer.float(self.limit);
    }

    /// A meter that has not passed its limit, as all have that only ever accepted charges.
    pub(super) fn read_kept(reader: &mut Reader<'_>) -> Result<Self, FilterError> {
        let meter = Self::read(reader)?;
        if meter.is_kept() {
            Ok(meter)
        } else {
            Err(FilterError::state(
                format!("at most {} spent", meter.limit),
                meter.spent(),
            ))
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, FilterError> {
        let meter = Self {
            high: reader.float()?,
            low: reader.float()?,
            limit: reader.float()?,
        };
        let sound = meter.high >= 0.0 && meter.low.is_finite() && meter.spent() >= 0.0 && meter.limit >= 0.0;
        if sound && meter.limit.is_finite() {
            Ok(meter)
        } else {
            Err(FilterError::state("amounts of at least 0", format!("{meter:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_tenths_are_one_and_eleven_are_not() {
        let mut meter = Meter::new(1.0);
        for _ in 0..10 {
            meter = meter.charged("tenths", 0.1).unwrap();
        }
        let refusal = meter.charged("tenths", 0.1).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "budget exhausted: tenths spent 1, asked 0.1, limit 1"
        );
    }

    #[test]
    fn small_amounts_are_not_lost_beside_large_ones() {
        let mut meter = Meter::new(2.0).charged("grains", 1.0).unwrap();
        for _ in 0..1_000_000 {
            meter = meter.charged("grains", 1e-17).unwrap();
        }
        assert!(((meter.spent() - 1.0) / 1e-11 - 1.0).abs() < 1e-4);
    }

    #[test]
    fn infinite_and_overflowing_amounts_pass_every_limit() {
        let meter = Meter::new(f64::MAX);
        assert!(meter.charged("amount", f64::INFINITY).is_err());
        let full = meter.charged("amount", f64::MAX).unwrap();
        assert!(full.charged("amount", f64::MAX).is_err());
        assert!(!Meter::new(1.0).added(f64::INFINITY).added(1.0).is_kept());
    }
}
