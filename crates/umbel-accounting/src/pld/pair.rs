//! Pairs of laws on the line whose privacy loss grows with the point.

use crate::special::log_add_exp;

/// A pair (P, Q) with densities on the line, its loss increasing in x.
pub(super) trait MonotonePair {
    /// ln(dP/dQ) at x.
    fn loss(&self, x: f64) -> f64;
    /// The point where the loss is `t`.
    fn point(&self, t: f64) -> f64;
    /// Derivative of [`point`](Self::point) at `t`, for `x = point(t)`.
    fn slope(&self, t: f64, x: f64) -> f64;
    /// ln of the density of P at x, where the loss is `t`.
    fn log_density(&self, x: f64, t: f64) -> f64;
    /// Density under P of the loss itself at `t`.
    #[inline]
    fn loss_density(&self, t: f64) -> f64 {
        let x = self.point(t);
        self.log_density(x, t).exp() * self.slope(t, x)
    }
    /// Cells up to this width are integrated to full precision by six nodes.
    fn cell(&self) -> f64;
    /// |d ln density / dx| at x, roughly.
    fn steepness(&self, x: f64) -> f64;
}

/// P = (1−q)N(0, s²) + qN(1, s²), Q = N(0, s²). At q = 1 the two Gaussians.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampledGaussian {
    pub(super) rate: f64,
    pub(super) noise: f64,
}

impl SampledGaussian {
    fn log_base_density(&self, x: f64) -> f64 {
        let z = x / self.noise;
        -0.5 * z * z - self.noise.ln() - 0.5 * (2.0 * std::f64::consts::PI).ln()
    }
}

impl MonotonePair for SampledGaussian {
    #[inline]
    fn loss(&self, x: f64) -> f64 {
        mixture_loss(self.rate, (x - 0.5) / (self.noise * self.noise))
    }

    #[inline]
    fn point(&self, t: f64) -> f64 {
        self.noise * self.noise * inner_loss(self.rate, t) + 0.5
    }

    #[inline]
    fn slope(&self, t: f64, _x: f64) -> f64 {
        self.noise * self.noise * inner_slope(self.rate, t)
    }

    #[inline]
    fn log_density(&self, x: f64, t: f64) -> f64 {
        self.log_base_density(x) + t
    }

    #[inline]
    fn loss_density(&self, t: f64) -> f64 {
        // The same as by the methods above, with one exponential in common.
        let (inner, slope) = if self.rate >= 1.0 || t > 1.0 {
            (inner_loss(self.rate, t), inner_slope(self.rate, t))
        } else {
            let grown = t.exp_m1();
            ((grown / self.rate).ln_1p(), (grown + 1.0) / (grown + self.rate))
        };
        let z = self.noise * inner + 0.5 / self.noise;
        (t - 0.5 * z * z).exp() * slope * self.noise * FRAC_1_SQRT_2PI
    }

    fn cell(&self) -> f64 {
        (self.noise / 16.0).min(0.25 * self.noise * self.noise)
    }

    fn steepness(&self, x: f64) -> f64 {
        (x.abs() + 1.0) / (self.noise * self.noise)
    }
}

/// P = (1−q)N(0, s²) + qN(1, s²), Q = (1−q)N(0, s²) + qN(−1, s²).
#[derive(Debug, Clone, Copy)]
pub(super) struct ReplaceOneGaussian {
    pub(super) rate: f64,
    pub(super) noise: f64,
}

impl ReplaceOneGaussian {
    fn towards(&self) -> SampledGaussian {
        SampledGaussian {
            rate: self.rate,
            noise: self.noise,
        }
    }

    /// ln of (1−q)/q · e^{1/2s²}.
    fn log_alpha(&self) -> f64 {
        0.5 / (self.noise * self.noise) + (-self.rate).ln_1p() - self.rate.ln()
    }
}

impl MonotonePair for ReplaceOneGaussian {
    #[inline]
    fn loss(&self, x: f64) -> f64 {
        self.towards().loss(x) - self.towards().loss(-x)
    }

    #[inline]
    fn point(&self, t: f64) -> f64 {
        // asinh(e^b) in logarithms; sinh(h) = e^h (1 − e^−2h)/2.
        let half = 0.5 * t.abs();
        if half <= 0.0 {
            return 0.0;
        }
        let log_argument = self.log_alpha() + half + (-(-2.0 * half).exp_m1()).ln() - std::f64::consts::LN_2;
        let asinh = if log_argument < -3.0 {
            log_argument.exp().asinh()
        } else {
            log_add_exp(0.5 * log_add_exp(0.0, 2.0 * log_argument), log_argument)
        };
        (self.noise * self.noise * (asinh + half)).copysign(t)
    }

    #[inline]
    fn slope(&self, t: f64, _x: f64) -> f64 {
        // α cosh(h) / sqrt(1 + α² sinh²(h)) = coth(h) / sqrt(1 + 1/(α sinh h)²).
        let half = 0.5 * t.abs();
        let log_cosh = half + (-2.0 * half).exp().ln_1p() - std::f64::consts::LN_2;
        let log_sinh = half + (-(-2.0 * half).exp_m1()).ln() - std::f64::consts::LN_2;
        let log_alpha = self.log_alpha();
        let bend = (log_alpha + log_cosh - 0.5 * log_add_exp(0.0, 2.0 * (log_alpha + log_sinh))).exp();
        0.5 * self.noise * self.noise * (1.0 + bend)
    }

    #[inline]
    fn log_density(&self, x: f64, _t: f64) -> f64 {
        self.towards().log_base_density(x) + self.towards().loss(x)
    }

    fn cell(&self) -> f64 {
        self.towards().cell()
    }

    fn steepness(&self, x: f64) -> f64 {
        (x.abs() + 1.0) / (self.noise * self.noise)
    }
}

/// Laplace noise of scale b on a shift of one, sampled; for x between 0 and 1, where the loss moves.
#[derive(Debug, Clone, Copy)]
pub(super) struct SampledLaplace {
    pub(super) rate: f64,
    pub(super) scale: f64,
}

impl MonotonePair for SampledLaplace {
    fn loss(&self, x: f64) -> f64 {
        mixture_loss(self.rate, (2.0 * x - 1.0) / self.scale)
    }

    fn point(&self, t: f64) -> f64 {
        0.5 * (self.scale * inner_loss(self.rate, t) + 1.0)
    }

    fn slope(&self, t: f64, _x: f64) -> f64 {
        0.5 * self.scale * inner_slope(self.rate, t)
    }

    fn log_density(&self, x: f64, t: f64) -> f64 {
        -x / self.scale - (2.0 * self.scale).ln() + t
    }

    fn cell(&self) -> f64 {
        (self.scale / 8.0).min(1.0 / 16.0)
    }

    fn steepness(&self, _x: f64) -> f64 {
        2.0 / self.scale
    }
}

const FRAC_1_SQRT_2PI: f64 = 0.398_942_280_401_432_7;

/// `ln(1 − q + q e^y)`.
#[inline]
pub(super) fn mixture_loss(rate: f64, y: f64) -> f64 {
    if rate >= 1.0 {
        y
    } else if y > 5.0 {
        log_add_exp((-rate).ln_1p(), rate.ln() + y)
    } else {
        (rate * y.exp_m1()).ln_1p()
    }
}

/// The y with `ln(1 − q + q e^y) = t`; minus infinity below the smallest such t.
#[inline]
fn inner_loss(rate: f64, t: f64) -> f64 {
    if rate >= 1.0 {
        t
    } else if t > 1.0 {
        t + (-(1.0 - rate) * (-t).exp()).ln_1p() - rate.ln()
    } else {
        let grown = t.exp_m1() / rate;
        if grown > -1.0 {
            grown.ln_1p()
        } else {
            f64::NEG_INFINITY
        }
    }
}

/// Derivative of [`inner_loss`].
#[inline]
fn inner_slope(rate: f64, t: f64) -> f64 {
    if rate >= 1.0 {
        1.0
    } else if t > 1.0 {
        1.0 / (1.0 - (1.0 - rate) * (-t).exp())
    } else {
        let grown = t.exp_m1();
        (grown + 1.0) / (grown + rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pair: &impl MonotonePair, points: &[f64]) {
        for &x in points {
            let t = pair.loss(x);
            assert!(
                (pair.point(t) - x).abs() < 1e-9 * (1.0 + x.abs()),
                "{x}: {t} {}",
                pair.point(t)
            );
            let h = 1e-6 * (1.0 + t.abs());
            let slope = (pair.point(t + h) - pair.point(t - h)) / (2.0 * h);
            assert!(
                (slope / pair.slope(t, x) - 1.0).abs() < 1e-5,
                "{x}: {slope} {}",
                pair.slope(t, x)
            );
        }
    }

    #[test]
    fn points_and_slopes_invert_the_loss() {
        for (rate, noise) in [(0.1, 1.0), (0.5, 0.4), (0.9, 3.0), (1.0, 2.0)] {
            check(&SampledGaussian { rate, noise }, &[0.3, 0.5, 0.9, 2.0, 5.0]);
        }
        for (rate, noise) in [(0.1, 1.0), (0.5, 0.4), (0.9, 3.0)] {
            check(&ReplaceOneGaussian { rate, noise }, &[-0.5, 0.3, 0.9, 2.0, 5.0]);
        }
        check(
            &SampledLaplace {
                rate: 0.2,
                scale: 0.7,
            },
            &[0.2, 0.5, 0.9],
        );
    }
}
