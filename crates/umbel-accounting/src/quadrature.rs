//! Gauss-Legendre rules on the unit interval: pairs of node and weight, weights summing to one.
//!
//! A rule with n nodes integrates polynomials of degree 2n − 1 exactly. All weights are positive, so masses made with
//! it are positive too.

/// The rule with 2 nodes.
pub(crate) const GAUSS_LEGENDRE_2: [(f64, f64); 2] =
    [(0.211_324_865_405_187_1, 0.5), (0.788_675_134_594_812_9, 0.5)];

/// The rule with 3 nodes.
pub(crate) const GAUSS_LEGENDRE_3: [(f64, f64); 3] = [
    (0.112_701_665_379_258_31, 0.277_777_777_777_777_8),
    (0.5, 0.444_444_444_444_444_4),
    (0.887_298_334_620_741_7, 0.277_777_777_777_777_8),
];

/// The rule with 4 nodes.
pub(crate) const GAUSS_LEGENDRE_4: [(f64, f64); 4] = [
    (0.069_431_844_202_973_71, 0.173_927_422_568_726_92),
    (0.330_009_478_207_571_87, 0.326_072_577_431_273_05),
    (0.669_990_521_792_428_1, 0.326_072_577_431_273_05),
    (0.930_568_155_797_026_3, 0.173_927_422_568_726_92),
];

/// The rule with 6 nodes.
pub(crate) const GAUSS_LEGENDRE_6: [(f64, f64); 6] = [
    (0.033_765_242_898_423_99, 0.085_662_246_189_585_18),
    (0.169_395_306_766_867_73, 0.180_380_786_524_069_3),
    (0.380_690_406_958_401_56, 0.233_956_967_286_345_52),
    (0.619_309_593_041_598_5, 0.233_956_967_286_345_52),
    (0.830_604_693_233_132_2, 0.180_380_786_524_069_3),
    (0.966_234_757_101_576, 0.085_662_246_189_585_18),
];

/// The rule with 8 nodes.
pub(crate) const GAUSS_LEGENDRE_8: [(f64, f64); 8] = [
    (0.019_855_071_751_231_884, 0.050_614_268_145_188_13),
    (0.101_666_761_293_186_64, 0.111_190_517_226_687_24),
    (0.237_233_795_041_835_5, 0.156_853_322_938_943_63),
    (0.408_282_678_752_175_1, 0.181_341_891_689_181),
    (0.591_717_321_247_825, 0.181_341_891_689_181),
    (0.762_766_204_958_164_5, 0.156_853_322_938_943_63),
    (0.898_333_238_706_813_4, 0.111_190_517_226_687_24),
    (0.980_144_928_248_768_1, 0.050_614_268_145_188_13),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_exact_to_its_degree() {
        fn check(rule: &[(f64, f64)]) {
            for degree in 0..2 * rule.len() {
                let power = i32::try_from(degree).unwrap();
                let integral: f64 = rule.iter().map(|(node, weight)| weight * node.powi(power)).sum();
                assert!(
                    (integral * f64::from(power + 1) - 1.0).abs() < 1e-14,
                    "{} nodes, degree {degree}",
                    rule.len()
                );
            }
        }
        check(&GAUSS_LEGENDRE_2);
        check(&GAUSS_LEGENDRE_3);
        check(&GAUSS_LEGENDRE_4);
        check(&GAUSS_LEGENDRE_6);
        check(&GAUSS_LEGENDRE_8);
    }
}
