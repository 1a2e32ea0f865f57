//! The released model seen from outside: with updates that vanish it is the start model plus noise, and the noise is what the
//! summary says.
//!
//! Every statistical check has a false-alarm rate of at most [`FALSE_ALARM`], by bounds that hold for any sample size. The runs
//! are seeded, so a check that passes once always passes.

use serde_json::Value;
use umbel_accounting::ledger::Body;

use crate::support::{Folder, RunDir};

/// How often a correct program fails one check, over all seeds.
const FALSE_ALARM: f64 = 1e-6;

/// A learning rate so small that every update is quantised to zero: 1e-30 of a gradient is far below the grid.
const VANISHING: &[&str] = &[
    "training.optimizer.learning_rate=1e-30",
    "model.kind=mlp",
    "model.hidden=[1500]",
    "federation.rounds=1",
];

const NO_NOISE: &[&str] = &["privacy.dangerous_no_noise=true"];

#[test]
fn released_model_minus_start_has_the_standard_deviation_of_the_summary() {
    let folder = Folder::new();
    let start = folder.finished("start", &[VANISHING, NO_NOISE].concat());
    for (place, settings) in [
        &["privacy.noise=rounded"][..],
        &["privacy.noise=continuous"],
        &["privacy.noise=rounded", "federation.rounds=5"],
        &["privacy.noise=continuous", "federation.rounds=5"],
        &[
            "privacy.noise=rounded",
            "federation.cohort=40",
            "privacy.clip_norm=0.01",
            "privacy.noise_multiplier=0.3",
        ],
        &[
            "privacy.noise=continuous",
            "federation.cohort=4",
            "privacy.clip_norm=20",
            "privacy.noise_multiplier=3",
        ],
        &["privacy.epsilon=2", "federation.rounds=3"],
        // Most rounds are empty, and release noise all the same; the divisor is the planned cohort.
        &["federation.cohort=0.1", "federation.rounds=4"],
        &[
            "privacy.mechanism.kind=dp-ftrl",
            "privacy.mechanism.strategy=blt",
            "federation.rounds=9",
        ],
        &[
            "privacy.mechanism.kind=dp-ftrl",
            "privacy.mechanism.strategy=banded",
            "privacy.mechanism.separation=3",
            "federation.rounds=7",
            "privacy.epsilon=3",
        ],
        &[
            "privacy.mechanism.kind=dp-ftrl",
            "privacy.mechanism.strategy=tree",
            "federation.rounds=6",
            "privacy.noise=continuous",
        ],
        // Every client adds its own; all 40 report.
        &["privacy.trust=local", "federation.cohort=40"],
        // One example is seldom in a batch, and much less than the noise.
        &[
            "privacy.unit=example",
            "privacy.trust=local",
            "privacy.noise_multiplier=1000",
            "training.sampling_rate=0.2",
            "training.steps=3",
            "training.optimizer.learning_rate=0.1",
            "federation.cohort=40",
        ],
    ]
    .iter()
    .enumerate()
    {
        let run = folder.finished(&place.to_string(), &[VANISHING, settings].concat());
        let privacy = &run.summary()["privacy"];
        let number = |key: &str| privacy[key].as_f64().unwrap();
        let cohort = run.summary()["cohort"].as_f64().unwrap();
        let promised = number("noise_multiplier") * number("clip_norm") / cohort;
        let said = number("noise_std_dev");
        // Local noise comes with each report; here it is one round in which all that are planned report.
        let std_dev = privacy["total_noise_std_dev"].as_f64().unwrap_or(said);
        if privacy["trust"] == "central" && privacy["mechanism"] == "gaussian" {
            assert!(
                (said / promised - 1.0).abs() < 1e-9,
                "{said} is noise multiplier × clip norm / cohort, {promised}"
            );
            let rounds = run.summary()["rounds_completed"].as_f64().unwrap();
            assert!((std_dev / (said * rounds.sqrt()) - 1.0).abs() < 1e-9);
        }
        let noise: Vec<f64> = difference(&run, &start)
            .iter()
            .map(|value| value / std_dev)
            .collect();
        check_standard_normal(&noise, &settings.join(", "));
    }
}

/// Where the clip norm moves, so does the noise: each round's is that of its own clip norm, which the ledger holds.
#[test]
fn noise_follows_an_adaptive_clip_norm() {
    let folder = Folder::new();
    let start = folder.finished("start", &[VANISHING, NO_NOISE].concat());
    let clip = "privacy.clip_norm={kind=\"adaptive\", initial=0.3, quantile=0.5, learning_rate=1.0}";
    let run = folder.finished("run", &[VANISHING, &[clip, "federation.rounds=4"]].concat());
    let privacy = &run.summary()["privacy"];
    let multiplier = privacy["adaptive_clip"]["update_noise_multiplier"]
        .as_f64()
        .unwrap();
    assert!(multiplier > privacy["noise_multiplier"].as_f64().unwrap());
    let ledger = run.ledger();
    let clip_norms: Vec<f64> = ledger
        .records()
        .iter()
        .filter_map(|record| match record {
            Body::Charge(charge) => charge.clip_norm,
            _ => None,
        })
        .collect();
    // Updates that vanish are all within the clip norm, so it falls.
    assert!(
        clip_norms.len() == 4 && (clip_norms[0] - 0.3).abs() < 1e-12 && clip_norms[3] < 0.3,
        "{clip_norms:?}"
    );
    let variance: f64 = clip_norms
        .iter()
        .map(|norm| (multiplier * norm / 10.0).powi(2))
        .sum();
    let noise: Vec<f64> = difference(&run, &start)
        .iter()
        .map(|value| value / variance.sqrt())
        .collect();
    check_standard_normal(&noise, "adaptive");
}

#[test]
fn noise_of_different_rounds_and_seeds_is_not_the_same() {
    let folder = Folder::new();
    let start = folder.finished("start", &[VANISHING, NO_NOISE].concat());
    let settings = [VANISHING, &["privacy.noise_multiplier=1"]].concat();
    let run = folder.finished("one", &settings);
    let std_dev = run.summary()["privacy"]["noise_std_dev"].as_f64().unwrap();
    let standard = |run: &RunDir, start: &RunDir| -> Vec<f64> {
        difference(run, start)
            .iter()
            .map(|value| value / std_dev)
            .collect()
    };
    let one = standard(&run, &start);
    let both = standard(
        &folder.finished("both", &[&settings[..], &["federation.rounds=2"]].concat()),
        &start,
    );
    let second: Vec<f64> = both.iter().zip(&one).map(|(both, first)| both - first).collect();
    folder
        .simulate("other", &settings)
        .args(&["--seed", "4"])
        .run()
        .success();
    folder
        .simulate("other-start", &[VANISHING, NO_NOISE].concat())
        .args(&["--seed", "4"])
        .run()
        .success();
    let other = standard(&folder.run_dir("other"), &folder.run_dir("other-start"));
    for (name, left, right) in [("rounds", &one, &second), ("seeds", &one, &other)] {
        check_uncorrelated(left, right, name);
    }
    // Neighbours within one release.
    for lag in [1, 2, 64] {
        check_uncorrelated(&one[lag..], &one[..one.len() - lag], &format!("lag {lag}"));
    }
}

#[test]
fn without_noise_and_updates_the_model_does_not_move() {
    for strategy in [
        &[][..],
        &[
            "federation.strategy.kind=fedadam",
            "federation.strategy.learning_rate=0.05",
        ],
    ] {
        let folder = Folder::new();
        let settings = [VANISHING, NO_NOISE, &["federation.rounds=4"], strategy].concat();
        let run = folder.finished("still", &settings);
        let start = &run.ledger().header().initial_model_sha256.clone();
        assert_eq!(run.released_models(), vec![start.clone(); 4]);
        assert_eq!(&run.model_content_sha256(), start);
        let first = &run.metrics()[0];
        for line in run.metrics() {
            assert_eq!((&line["loss"], &line["epsilon"]), (&first["loss"], &Value::Null));
        }
        // The same with updates that do not vanish.
        let moved = folder.finished(
            "moved",
            &[&settings[..], &["training.optimizer.learning_rate=0.1"]].concat(),
        );
        assert_eq!(&moved.ledger().header().initial_model_sha256, start);
        assert_ne!(&moved.model_content_sha256(), start);
    }
}

#[test]
fn without_noise_a_round_moves_the_model_by_at_most_the_clip_norm_for_each_client_in_it() {
    let folder = Folder::new();
    let start = folder.finished("start", &[VANISHING, NO_NOISE].concat());
    for clip_norm in [1e-3, 0.5, 20.0] {
        let clip = format!("privacy.clip_norm={clip_norm}");
        let settings = [
            VANISHING,
            NO_NOISE,
            &["training.optimizer.learning_rate=5", clip.as_str()],
        ]
        .concat();
        let run = folder.finished(&clip, &settings);
        let norm = difference(&run, &start)
            .iter()
            .map(|value| value * value)
            .sum::<f64>()
            .sqrt();
        let reports = run.metrics()[0]["simulator_only"]["reports"].as_f64().unwrap();
        let bound = clip_norm * reports / 10.0;
        // The model is stored in single precision.
        assert!(
            norm > 0.0 && norm <= bound * (1.0 + 1e-4),
            "{norm} is at most {bound}"
        );
    }
}

/// The released model minus the start model, entry by entry.
fn difference(run: &RunDir, start: &RunDir) -> Vec<f64> {
    let (run, start) = (run.model(), start.model());
    assert_eq!(run.len(), start.len());
    run.iter()
        .zip(&start)
        .map(|(end, begin)| f64::from(*end) - f64::from(*begin))
        .collect()
}

/// Checks mean, variance and distribution of numbers that should be independent and standard normal.
#[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn check_standard_normal(values: &[f64], what: &str) {
    let n = values.len() as f64;
    let tail = (2.0 / FALSE_ALARM).ln();

    // A normal variable is beyond √(2 ln(2/p)) with probability below p.
    let mean = values.iter().sum::<f64>() / n;
    assert!(mean.abs() <= (2.0 * tail / n).sqrt(), "{what}: mean {mean}");

    // Laurent and Massart (2000), Lemma 1: a χ² variable with n degrees of freedom is above n + 2√(nx) + 2x, or below n − 2√(nx),
    // each with probability at most exp(−x).
    let sum = values.iter().map(|value| value * value).sum::<f64>();
    let width = 2.0 * (n * tail).sqrt();
    assert!(
        sum >= n - width && sum <= n + width + 2.0 * tail,
        "{what}: χ² {sum} with {n} degrees of freedom"
    );
    assert!(
        width / n < 0.03,
        "the check sees an error of 1.5 % in the standard deviation"
    );

    // Dvoretzky, Kiefer and Wolfowitz with Massart's constant: an empirical distribution function is off by more than
    // √(ln(2/p) / 2n) somewhere with probability at most p.
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let distance = sorted
        .iter()
        .enumerate()
        .map(|(place, value)| {
            let expected = 0.5 * libm::erfc(-value / f64::sqrt(2.0));
            (expected - place as f64 / n)
                .abs()
                .max((expected - (place + 1) as f64 / n).abs())
        })
        .fold(0.0, f64::max);
    assert!(
        distance <= (tail / (2.0 * n)).sqrt(),
        "{what}: distance {distance} from the normal distribution"
    );
}

/// Checks that products of independent standard normal numbers add up to about zero. `right` may be `left` shifted.
#[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
fn check_uncorrelated(left: &[f64], right: &[f64], what: &str) {
    assert_eq!(left.len(), right.len());
    let product: f64 = left.iter().zip(right).map(|(left, right)| left * right).sum();
    // Laurent and Massart (2000), Lemma 1, for a quadratic form of trace 0, operator norm of at most 1 and squared Frobenius norm
    // of at most n / 2, which both cases are: beyond √(2nx) + 2x with probability at most exp(−x) on each side.
    let (n, tail) = (left.len() as f64, (2.0 / FALSE_ALARM).ln());
    let bound = (2.0 * n * tail).sqrt() + 2.0 * tail;
    assert!(
        product.abs() <= bound,
        "{what}: {product} is within {bound} of zero"
    );
}
