//! Every row of the reference file, computed by other tools: our interval holds the truth and is tight.
//!
//! The oracle is a prototype that composes tilted distributions in numpy and extrapolates to step 0; for q = 1 the exact
//! formula. `certified_upper`, where present, replaces the claimed upper bound of a row that is known to be wrong.
#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    reason = "helpers of tests; exact ends of ranges"
)]

use std::collections::BTreeMap;

use serde_json::Value;
use umbel_accounting::{
    AccountantKind, ClipNorm, Delta, DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier, NoiseScale,
    NoiseStdDev, SamplingRate, accountant, calibrate,
};

fn rows() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("vectors/dp_reference.json")).unwrap();
    file["rows"].as_array().unwrap().clone()
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{row} has no {key}"))
}

fn whole(row: &Value, key: &str) -> u64 {
    let value = number(row, key);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts in a fixed file"
    )]
    let rounded = value as u64;
    rounded
}

fn gaussian(noise: f64) -> DpEvent {
    DpEvent::Gaussian {
        noise_multiplier: NoiseMultiplier::new(noise).unwrap(),
    }
}

fn sampled(rate: f64, event: DpEvent) -> DpEvent {
    if rate >= 1.0 {
        return event;
    }
    DpEvent::PoissonSampled {
        sampling_rate: SamplingRate::new(rate).unwrap(),
        event: Box::new(event),
    }
}

fn repeated(event: DpEvent, count: u64) -> DpEvent {
    DpEvent::Repeated {
        event: Box::new(event),
        count,
    }
}

fn relation(row: &Value) -> NeighboringRelation {
    match row["adjacency"].as_str().unwrap() {
        "replace_one" => NeighboringRelation::ReplaceOne,
        name if name.starts_with("replace_special") => NeighboringRelation::ReplaceByZero,
        _ => NeighboringRelation::AddOrRemoveOne,
    }
}

/// The plan of a row as one event.
fn plan(row: &Value) -> DpEvent {
    let grid = |key: &str| ClipNorm::new(number(row, key)).unwrap();
    match row["kind"].as_str().unwrap() {
        "poisson_subsampled_gaussian" => repeated(
            sampled(number(row, "q"), gaussian(number(row, "sigma"))),
            whole(row, "T"),
        ),
        "bandmf_amplified" => repeated(
            sampled(number(row, "q"), gaussian(number(row, "sigma"))),
            whole(row, "rounds"),
        ),
        "fixed_size_wor_gaussian" => {
            // The file's noise is relative to 2C, ours to C.
            let event = DpEvent::FixedSizeSampled {
                event: Box::new(gaussian(2.0 * number(row, "sigma"))),
                population_size: whole(row, "n"),
                sample_size: whole(row, "m"),
            };
            repeated(event, whole(row, "T"))
        }
        "discrete_gaussian" => {
            let event = DpEvent::DiscreteGaussian {
                clip_norm: grid("sensitivity"),
                dimension: 1,
                noise_std_dev: NoiseStdDev::new(number(row, "sigma")).unwrap(),
            };
            repeated(sampled(number(row, "q"), event), whole(row, "T"))
        }
        "discrete_laplace" => {
            let noise_scale = NoiseScale::new(1.0 / number(row, "a")).unwrap();
            repeated(
                DpEvent::DiscreteLaplace {
                    clip_norm: grid("sensitivity"),
                    noise_scale,
                },
                whole(row, "T"),
            )
        }
        "laplace" => {
            let event = DpEvent::Laplace {
                noise_multiplier: NoiseMultiplier::new(number(row, "scale")).unwrap(),
            };
            repeated(sampled(number(row, "q"), event), whole(row, "T"))
        }
        "dpftrl_tree_restart_each_epoch" => {
            let noise_multiplier = NoiseMultiplier::new(number(row, "sigma")).unwrap();
            let tree = |steps: u64, epochs: u64| DpEvent::Tree {
                epochs,
                noise_multiplier,
                steps,
            };
            match row["steps"].as_array() {
                // Several trees, in one of which each unit takes part once: the highest counts.
                Some(list) => tree(list.iter().map(|n| n.as_u64().unwrap()).max().unwrap(), 1),
                None => tree(whole(row, "steps"), whole(row, "epochs")),
            }
        }
        other => panic!("no plan for {other}"),
    }
}

/// Rows of one plan at one δ, whichever tool made them.
fn cases(kinds: &[&str]) -> Vec<(Value, Vec<Value>)> {
    let mut cases: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    for row in rows() {
        if kinds.contains(&row["kind"].as_str().unwrap()) {
            let key = format!(
                "{} {:?} {:?} {}",
                row["kind"],
                relation(&row),
                plan(&row),
                row["delta"]
            );
            cases
                .entry(key)
                .or_insert_with(|| (row.clone(), Vec::new()))
                .1
                .push(row);
        }
    }
    cases.into_values().collect()
}

fn bounds(kind: AccountantKind, row: &Value) -> (Option<f64>, f64) {
    let mut accountant = accountant(kind, relation(row));
    accountant.compose(&plan(row), 1).unwrap();
    let bounds = accountant
        .epsilon(Delta::new(number(row, "delta")).unwrap())
        .unwrap();
    (bounds.lower.map(Epsilon::value), bounds.upper.value())
}

/// Best valid upper bound, best valid lower bound and best estimate of a case.
fn truth(rows: &[Value]) -> (f64, f64, Option<f64>) {
    let mut upper = f64::INFINITY;
    let mut lower = 0.0_f64;
    let mut estimate = None;
    for row in rows {
        let violated = row.get("known_violation").is_some_and(|value| !value.is_null());
        if let Some(certified) = row["certified_upper"].as_f64() {
            upper = upper.min(certified);
        } else if let Some(value) = row["eps_upper"].as_f64().filter(|_| !violated) {
            upper = upper.min(value);
        }
        // One of these tools' "lower" bounds is an estimate on a grid: it counts as one to 1e-4.
        lower = lower.max(row["eps_lower"].as_f64().unwrap_or(0.0) - 1e-4);
        // The oracle's estimate for fixed-size samples is one of the pair that is attained: a lower bound.
        match row["eps_est"].as_f64() {
            Some(value) if row["kind"] == "fixed_size_wor_gaussian" => lower = lower.max(value),
            // The exact formula before the oracle; the other estimates are too coarse.
            Some(value)
                if row["tool"].as_str().unwrap().contains("(exact")
                    || (estimate.is_none() && !row["tool"].as_str().unwrap().starts_with("prv")) =>
            {
                estimate = Some(value);
            }
            _ => {}
        }
    }
    (upper, lower, estimate)
}

fn check(kinds: &[&str]) {
    let mut failures = Vec::new();
    for (row, all) in cases(kinds) {
        let (best_upper, best_lower, estimate) = truth(&all);
        let (lower, upper) = bounds(AccountantKind::Pld, &row);
        let name = format!("{row}: {lower:?} {upper} against {best_lower} {estimate:?} {best_upper}");
        let mut demand = |holds: bool, what: &str| {
            if !holds {
                failures.push(format!("{what}: {name}"));
            }
        };
        let precision = |estimate: f64| 2e-5 * estimate.max(1.0);
        demand(
            upper >= best_lower * (1.0 - 1e-9),
            "upper bound below another tool's lower bound",
        );
        demand(
            upper <= best_upper * 1.001 + 1e-9,
            "upper bound above the best one",
        );
        if let Some(estimate) = estimate {
            demand(
                upper >= estimate - precision(estimate).min(1e-3 * estimate),
                "upper bound below the estimate",
            );
            demand(
                upper <= estimate + (0.004 * estimate).max(0.0008),
                "upper bound too far above the estimate",
            );
        }
        match lower {
            Some(lower) => {
                demand(
                    lower <= best_upper * (1.0 + 1e-9),
                    "lower bound above another tool's upper bound",
                );
                if let Some(estimate) = estimate {
                    demand(
                        lower <= estimate + precision(estimate),
                        "lower bound above the estimate",
                    );
                }
                // For fixed-size samples the upper bound is that of a pair which covers both directions, the lower one that
                // of two data sets; no theorem says where between them the truth is, so their distance is no error.
                let fixed = row["kind"] == "fixed_size_wor_gaussian";
                demand(
                    fixed || upper - lower <= (0.01 * upper).max(0.002),
                    "wide interval",
                );
                demand(fixed || upper <= 1.02 * lower, "ratio above 1.02");
            }
            None => demand(false, "no lower bound"),
        }
        let (_, rdp) = bounds(AccountantKind::Rdp, &row);
        demand(rdp >= upper * (1.0 - 1e-6), "worse than Rényi");
        demand(
            rdp >= estimate.unwrap_or(best_lower) - 1e-4,
            "Rényi bound below the truth",
        );
    }
    assert!(
        failures.is_empty(),
        "{} failures\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn poisson_sampled_gaussian_rows_hold() {
    check(&["poisson_subsampled_gaussian"]);
}

#[test]
fn amplified_banded_matrix_rows_hold() {
    check(&["bandmf_amplified"]);
}

#[test]
fn fixed_size_rows_hold() {
    check(&["fixed_size_wor_gaussian"]);
}

#[test]
fn discrete_gaussian_rows_hold() {
    check(&["discrete_gaussian"]);
}

#[test]
fn laplace_rows_hold() {
    check(&["laplace", "discrete_laplace"]);
}

#[test]
fn tree_rows_hold() {
    check(&["dpftrl_tree_restart_each_epoch"]);
}

#[test]
fn calibration_rows_hold() {
    let mut kinds = 0;
    for row in rows() {
        let tool = row["tool"].as_str().unwrap().to_owned();
        let delta = Delta::new(row["delta"].as_f64().unwrap_or(0.5)).unwrap();
        if row["kind"] == "analytic_gaussian_sigma" {
            let target = Epsilon::new(number(&row, "target_epsilon")).unwrap();
            let noise =
                calibrate::gaussian_noise_multiplier(target, delta, NeighboringRelation::ReplaceByZero)
                    .unwrap();
            assert!(
                (noise.value() / number(&row, "sigma") - 1.0).abs() < 1e-8,
                "{row}: {noise}"
            );
            kinds |= 1;
        }
        if row["kind"] == "calibrate_sigma" {
            let target = Epsilon::new(number(&row, "target_epsilon")).unwrap();
            let (rate, count) = (number(&row, "q"), whole(&row, "T"));
            let make = |noise: NoiseMultiplier| repeated(sampled(rate, gaussian(noise.value())), count);
            let kind = if tool.ends_with("RDP") {
                AccountantKind::Rdp
            } else {
                AccountantKind::Pld
            };
            let noise =
                calibrate::noise_multiplier(target, delta, kind, NeighboringRelation::AddOrRemoveOne, &make)
                    .unwrap();
            let ratio = noise.value() / number(&row, "sigma");
            // Ours is at most the other tool's, and not below the oracle's by more than the oracle, a bound too, is loose.
            let floor = if tool.starts_with("oracle") {
                1.0 - 1e-3
            } else {
                0.9
            };
            assert!(ratio <= 1.0 + 2e-4 && ratio > floor, "{row}: {noise} {ratio}");
            kinds |= if kind == AccountantKind::Rdp { 2 } else { 4 };

            let mut accountant = accountant(kind, NeighboringRelation::AddOrRemoveOne);
            accountant.compose(&make(noise), 1).unwrap();
            assert!(accountant.epsilon(delta).unwrap().upper <= target);
        }
    }
    assert_eq!(kinds, 7);
}
