//! Random search against dp-accounting's repeat-and-select, in `vectors/tuning_reference.json`.

use serde_json::Value;
use umbel_accounting::{Delta, tuning::RandomSearch};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::INFINITY)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("an array").iter().map(number).collect()
}

#[test]
fn divergences_and_epsilon_agree() {
    let file: Value = serde_json::from_str(include_str!("vectors/tuning_reference.json")).unwrap();
    let orders = numbers(&file["orders"]);
    let rows = file["rows"].as_array().unwrap();
    assert!(rows.len() >= 75);
    for row in rows {
        let (noise, mean, shape) = (
            number(&row["noise_multiplier"]),
            number(&row["mean"]),
            number(&row["shape"]),
        );
        let search = if row["shape"] == "inf" {
            RandomSearch::poisson(mean)
        } else {
            RandomSearch::negative_binomial(shape, mean)
        };
        let search = search.unwrap();
        let one_trial: Vec<f64> = orders.iter().map(|order| 0.5 * order / (noise * noise)).collect();
        let found = search.divergences(&orders, &one_trial).unwrap();
        for ((order, ours), theirs) in orders.iter().zip(&found).zip(numbers(&row["rdp"])) {
            assert!(
                *ours <= theirs * (1.0 + 1e-9),
                "{mean} {shape} at {order}: {ours} above {theirs}"
            );
            // They leave out λ' = 1, which matters only next to a single trial, and monotony for the Poisson
            // law.
            if mean >= 10.0 && shape.is_finite() {
                assert!(
                    *ours >= theirs * (1.0 - 1e-7),
                    "{mean} {shape} at {order}: {ours} below {theirs}"
                );
            }
        }
        // The best order of theirs is one of few; ours are many.
        let delta = Delta::new(number(&row["delta"])).unwrap();
        let epsilon = search
            .epsilon(|order| 0.5 * order / (noise * noise), delta)
            .value();
        let theirs = number(&row["epsilon"]);
        assert!(epsilon <= theirs * (1.0 + 1e-9), "{row}: {epsilon}");
        assert!(epsilon >= theirs * 0.9, "{row}: {epsilon}");
    }
}
