//! Checked numbers with a meaning: each type refuses NaN and values out of range when it is made.

use std::fmt;

/// Why a number was refused as a privacy parameter.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{name} must be {expected}, got {}", Short(*.got))]
pub struct ParamError {
    /// What the number was meant to be, in words: `epsilon`, `sampling rate` and so on.
    pub name: &'static str,
    /// The range that is accepted.
    pub expected: &'static str,
    /// The number that came.
    pub got: f64,
}

macro_rules! checked_number {
    ($(#[$doc:meta])* $type:ident, $name:literal, $expected:literal, |$value:ident| $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
        pub struct $type(f64);

        impl $type {
            #[doc = concat!("Accepts ", $expected, "; anything else, NaN included, is an error that says so.")]
            pub fn new($value: f64) -> Result<Self, ParamError> {
                if $check {
                    Ok(Self($value))
                } else {
                    Err(ParamError { name: $name, expected: $expected, got: $value })
                }
            }

            /// The number itself.
            pub fn value(self) -> f64 {
                self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&Short(self.0), f)
            }
        }
    };
}

/// A number in full, in the shorter of the two usual forms: 1e-300 instead of three hundred zeros.
pub(crate) struct Short(pub(crate) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0.0 || !self.0.is_finite() || (1e-4..1e16).contains(&self.0.abs()) {
            fmt::Display::fmt(&self.0, f)
        } else {
            fmt::LowerExp::fmt(&self.0, f)
        }
    }
}

checked_number!(
    /// The privacy parameter ε: a bound on the privacy loss, at a [`Delta`]. Infinite means no privacy.
    Epsilon, "epsilon", "a number of at least 0", |value| value >= 0.0
);

checked_number!(
    /// The privacy parameter δ: the probability mass on which the bound ε may fail.
    Delta, "delta", "a number above 0 and below 1", |value| value > 0.0 && value < 1.0
);

checked_number!(
    /// Standard deviation of the noise on a sum divided by the clip norm, σ / C, under **every** neighbouring relation.
    ///
    /// Replace-one has sensitivity 2C, so there the same multiplier buys less privacy; accountants know that.
    NoiseMultiplier, "noise multiplier", "a finite number above 0", |value| value > 0.0 && value.is_finite()
);

checked_number!(
    /// The probability q with which each unit takes part, independently of all others (Poisson sampling).
    SamplingRate, "sampling rate", "a number above 0 and at most 1", |value| value > 0.0 && value <= 1.0
);

checked_number!(
    /// Bound C on the L2 norm of one unit's whole contribution.
    ClipNorm, "clip norm", "a finite number above 0", |value| value > 0.0 && value.is_finite()
);

checked_number!(
    /// Standard deviation of noise, in the units of the sum that it is added to (grid units for integer noise).
    NoiseStdDev, "noise standard deviation", "a finite number above 0", |value| value > 0.0 && value.is_finite()
);

checked_number!(
    /// Scale b of Laplace noise (density or mass proportional to exp(-|x| / b)), in the units of the sum.
    NoiseScale, "noise scale", "a finite number above 0", |value| value > 0.0 && value.is_finite()
);

checked_number!(
    /// Most by which one unit can move all outputs of a strategy matrix together (L2), in units of the clip norm C.
    Sensitivity, "sensitivity", "a finite number above 0", |value| value > 0.0 && value.is_finite()
);

checked_number!(
    /// The parameter ρ of zero-concentrated differential privacy: Rényi divergence at most ρα at every order α > 1.
    Rho, "rho", "a number of at least 0", |value| value >= 0.0
);

impl Epsilon {
    /// No privacy at all.
    pub const INFINITE: Self = Self(f64::INFINITY);
    /// Nothing was spent.
    pub const ZERO: Self = Self(0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        for bad in [f64::NAN, -1.0, f64::NEG_INFINITY] {
            assert!(Epsilon::new(bad).is_err());
            assert!(Delta::new(bad).is_err());
            assert!(NoiseMultiplier::new(bad).is_err());
            assert!(SamplingRate::new(bad).is_err());
            assert!(ClipNorm::new(bad).is_err());
        }
        assert!(Delta::new(0.0).is_err() && Delta::new(1.0).is_err());
        assert!(SamplingRate::new(0.0).is_err() && SamplingRate::new(1.0).is_ok());
        assert!(Epsilon::new(0.0).is_ok() && Epsilon::new(f64::INFINITY).is_ok());
        let message = SamplingRate::new(1.5).unwrap_err().to_string();
        assert_eq!(
            message,
            "sampling rate must be a number above 0 and at most 1, got 1.5"
        );
    }

    #[test]
    fn numbers_are_shown_in_their_shorter_form() {
        let shown = |value| Epsilon::new(value).unwrap().to_string();
        assert_eq!(shown(1e-300), "1e-300");
        assert_eq!(shown(1e300), "1e300");
        assert_eq!(shown(2.5), "2.5");
        assert_eq!(shown(0.0), "0");
        assert_eq!(shown(f64::INFINITY), "inf");
        assert!(
            ClipNorm::new(-1e-300)
                .unwrap_err()
                .to_string()
                .ends_with("got -1e-300")
        );
    }
}
