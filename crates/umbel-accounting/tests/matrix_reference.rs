//! Matrix mechanisms against the values of other tools in `vectors/matrix_reference.json`.

use serde_json::Value;
use umbel_accounting::{
    DpEvent, NoiseMultiplier, SamplingRate,
    matrix::{
        AmplifiedBanded, BufferedToeplitz, ErrorMetric, Participation, ToeplitzStrategy, TreeEstimator,
        TreeStrategy, optimize_banded, optimize_buffered,
    },
};

const RMS: ErrorMetric = ErrorMetric::RootMeanSquare;

fn rows(kind: &str) -> Vec<Value> {
    let file: Value =
        serde_json::from_str(include_str!("vectors/matrix_reference.json")).expect("valid JSON");
    let rows: Vec<Value> = file["rows"]
        .as_array()
        .expect("an array")
        .iter()
        .filter(|row| row["kind"] == kind)
        .cloned()
        .collect();
    assert!(!rows.is_empty(), "no rows of kind {kind}");
    rows
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} in {row}"))
}

fn whole(row: &Value, key: &str) -> usize {
    usize::try_from(row[key].as_u64().unwrap_or_else(|| panic!("{key} in {row}"))).expect("in range")
}

fn numbers(row: &Value, key: &str) -> Vec<f64> {
    row[key]
        .as_array()
        .expect("an array")
        .iter()
        .map(|v| v.as_f64().expect("a number"))
        .collect()
}

fn participation(row: &Value) -> Participation {
    let most = row["max_part"]
        .as_u64()
        .map(|most| usize::try_from(most).expect("in range"));
    Participation::min_separation(whole(row, "min_sep"), most).expect("in range")
}

#[track_caller]
fn check(name: &str, found: f64, expected: f64, relative: f64) {
    assert!(
        (found / expected - 1.0).abs() <= relative,
        "{name}: found {found}, expected {expected}"
    );
}

#[test]
fn square_root_toeplitz_agrees() {
    for row in rows("mf_toeplitz_sqrt") {
        let n = whole(&row, "n");
        let strategy = ToeplitzStrategy::square_root(n).unwrap();
        let participation = participation(&row);
        assert_eq!(participation.most_in(n), whole(&row, "true_max_part"));
        let sensitivity = strategy.sensitivity(n, &participation).unwrap().value;
        let single = strategy.sensitivity(n, &Participation::single()).unwrap().value;
        let error = strategy.prefix_error(n).unwrap();
        check("single", single, number(&row, "sens_single"), 3e-12);
        check("separated", sensitivity, number(&row, "sens_minsep"), 3e-12);
        assert!(
            sensitivity >= number(&row, "sens_minsep") * (1.0 - 1e-14),
            "a sensitivity is rounded up"
        );
        check(
            "root mean square",
            error.root_mean_square,
            number(&row, "rms_prefix_err_unit_noise"),
            1e-12,
        );
        check("max", error.max, number(&row, "max_prefix_err_unit_noise"), 1e-12);
    }
}

#[test]
fn optimised_banded_toeplitz_is_as_good() {
    for row in rows("mf_banded_toeplitz_opt") {
        let (n, bands) = (whole(&row, "n"), whole(&row, "bands"));
        let participation = Participation::min_separation(bands, None).unwrap();
        let found = optimize_banded(n, bands, &participation, RMS).unwrap();
        let single = found
            .strategy
            .sensitivity(n, &Participation::single())
            .unwrap()
            .value;
        check(
            "sensitivity",
            found.sensitivity.value,
            number(&row, "sens_minsep_eq_bands"),
            3e-12,
        );
        let total = single * found.error.root_mean_square;
        check("total", total, number(&row, "rms_total_loss"), 1e-6);
        for (ours, theirs) in found
            .strategy
            .coefficients()
            .iter()
            .zip(numbers(&row, "coefs_first8"))
        {
            check("coefficient", *ours, theirs, 1e-3);
        }
    }
}

#[test]
fn given_and_optimised_buffers_agree_or_are_better() {
    for row in rows("mf_blt_opt") {
        let (n, participation) = (whole(&row, "n"), participation(&row));
        let theirs =
            BufferedToeplitz::new(numbers(&row, "buf_decay"), numbers(&row, "output_scale")).unwrap();
        let sensitivity = theirs.sensitivity(n, &participation).unwrap().value;
        let error = theirs.prefix_error(n).unwrap();
        check("sensitivity", sensitivity, number(&row, "sens"), 1e-11);
        check(
            "total",
            sensitivity * error.root_mean_square,
            number(&row, "rms_total_loss"),
            1e-9,
        );
        check(
            "max",
            sensitivity * error.max,
            number(&row, "max_total_loss"),
            1e-9,
        );
        let ours = optimize_buffered(n, theirs.n_buffers(), &participation, RMS).unwrap();
        let total = ours.total_error(RMS);
        assert!(
            total <= number(&row, "rms_total_loss") * (1.0 + 1e-6),
            "{total} against {}",
            row["rms_total_loss"]
        );
    }
}

#[test]
fn restarted_trees_agree() {
    for row in rows("dpftrl_tree_restart_each_epoch") {
        let (steps, epochs) = (whole(&row, "steps"), whole(&row, "epochs"));
        let tree = TreeStrategy::restarted(TreeEstimator::FromBelow, steps).unwrap();
        let participation = Participation::fixed_epoch(steps, None).unwrap();
        let sensitivity = tree.sensitivity(steps * epochs, &participation).unwrap();
        let expected = ((whole(&row, "depth") * epochs) as f64).sqrt();
        check("tree", sensitivity.value, expected, 1e-12);
        check(
            "μ",
            sensitivity.gaussian_dp(number(&row, "sigma")),
            expected / number(&row, "sigma"),
            1e-12,
        );
    }
}

#[test]
fn amplified_plans_are_those_of_the_rows() {
    for row in rows("bandmf_amplified") {
        let (n, bands) = (whole(&row, "T"), whole(&row, "bands"));
        let strategy = ToeplitzStrategy::new(vec![1.0 / (bands as f64).sqrt(); bands]).unwrap();
        let amplified = AmplifiedBanded::new(strategy, bands).unwrap();
        let z = NoiseMultiplier::new(number(&row, "sigma")).unwrap();
        let q = SamplingRate::new(number(&row, "q")).unwrap();
        let plan = amplified.plan(n, z, q, 1_000_000).unwrap();
        assert_eq!(plan.n_repetitions, row["rounds"].as_u64().unwrap());
        assert!(matches!(plan.event, DpEvent::Repeated { count, .. } if count == plan.n_repetitions));
        check(
            "noise multiplier",
            plan.noise_multiplier.value(),
            z.value(),
            1e-11,
        );
        check(
            "cohort",
            plan.expected_cohort,
            1e6 * q.value() / bands as f64,
            1e-12,
        );
    }
}
