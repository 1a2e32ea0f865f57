//! A plan whose noise rests on a strategy matrix or on a clip norm that moves: computed again, not believed.

use umbel_accounting::ledger::{
    AdaptiveClipFacts, Body, Charge, Header, LedgerWriter, MatrixFacts, Release, Reserve, SigningKey,
};
use umbel_accounting::matrix::{
    ErrorMetric, MatrixStrategy, TreeEstimator, TreeStrategy, optimize_banded, optimize_buffered,
};
use umbel_accounting::{ClipNorm, DpEvent, NoiseMultiplier, Sensitivity};
use umbel_audit::{Anchors, RunFiles, Verification, verify};
use umbel_mechanisms::{MatrixGaussian, MatrixPlan, NoiseKind, Turns};

use super::run::{SECRET, check_found, event, header};

const LENGTH: usize = 24;

fn noise(value: f64) -> NoiseMultiplier {
    NoiseMultiplier::new(value).unwrap()
}

/// A header of DP-FTRL, as the round engine writes it.
fn ftrl(name: &str, amplified: bool) -> Header {
    let turns = Turns::new(6, None, LENGTH as u64, 50.0, 400).unwrap();
    let participation = turns.participation().unwrap();
    let metric = ErrorMetric::RootMeanSquare;
    let strategy = match name {
        "banded" => MatrixStrategy::Toeplitz(
            optimize_banded(LENGTH, 4, &participation, metric)
                .unwrap()
                .strategy,
        ),
        "blt" => MatrixStrategy::Buffered(
            optimize_buffered(LENGTH, 2, &participation, metric)
                .unwrap()
                .strategy,
        ),
        _ => MatrixStrategy::Tree(TreeStrategy::new(TreeEstimator::Binary)),
    };
    let mechanism = MatrixGaussian::new(MatrixPlan {
        clip_norm: ClipNorm::new(0.5).unwrap(),
        noise_multiplier: noise(3.0),
        noise: NoiseKind::Rounded,
        divisor: 50.0,
        dimension: 3,
        strategy,
        rounds: LENGTH as u64,
        turns,
        amplified,
    })
    .unwrap();
    let coefficients = match &mechanism.plan().strategy {
        MatrixStrategy::Buffered(buffered) => [buffered.decays(), buffered.scales()].concat(),
        MatrixStrategy::Toeplitz(toeplitz) => toeplitz.coefficients().to_vec(),
        _ => Vec::new(),
    };
    Header {
        sampling: "turns".into(),
        sampling_rate: turns.rate().value(),
        cohort: 50.0,
        rounds: LENGTH as u64,
        round_event: mechanism.event().clone(),
        most_charges: Some(1),
        matrix: Some(MatrixFacts {
            strategy: name.into(),
            coefficients,
            separation: 6,
            participations: turns.participations(),
            noise_multiplier: 3.0,
            sensitivity: mechanism.sensitivity(),
            amplified,
        }),
        ..header()
    }
}

/// Verifies a ledger of these records, each signed by its own writer.
fn verified(bodies: &[Body]) -> Verification {
    let mut writer = LedgerWriter::new(SigningKey::from_secret(&SECRET));
    let lines = bodies.iter().map(|body| writer.append(body).unwrap());
    let files = RunFiles {
        ledger: lines.collect::<String>().into_bytes(),
        ..RunFiles::default()
    };
    verify(&files, &Anchors::default())
}

fn of_header(change: impl FnOnce(&mut Header), mut header: Header) -> Verification {
    change(&mut header);
    verified(&[Body::Header(Box::new(header))])
}

#[test]
fn a_matrix_whose_sensitivity_is_understated_is_found() {
    for (name, amplified) in [
        ("banded", false),
        ("banded", true),
        ("blt", false),
        ("tree", false),
    ] {
        let found = of_header(|_| {}, ftrl(name, amplified));
        assert!(found.consistent, "{name}: {found:?}");
        let smaller = |header: &mut Header| {
            header.matrix.as_mut().unwrap().sensitivity *= 0.999;
        };
        check_found(
            &of_header(smaller, ftrl(name, amplified)),
            "record 0",
            "is too small",
        );
        let cheaper = |header: &mut Header| {
            header.round_event = DpEvent::MatrixMechanism {
                noise_multiplier: noise(3.0),
                sensitivity: Sensitivity::new(0.5).unwrap(),
            };
        };
        check_found(
            &of_header(cheaper, ftrl(name, amplified)),
            "record 0",
            "is not what `matrix` costs",
        );
        let more_often = |header: &mut Header| {
            let facts = header.matrix.as_mut().unwrap();
            (facts.separation, facts.participations) = (1, 24);
        };
        assert!(!of_header(more_often, ftrl(name, amplified)).consistent);
    }
    let other = |header: &mut Header| {
        header.matrix.as_mut().unwrap().coefficients[1] *= 1.1;
    };
    check_found(
        &of_header(other, ftrl("banded", false)),
        "record 0",
        "is too small",
    );
    let nonsense = |header: &mut Header| header.matrix.as_mut().unwrap().strategy = "identity".into();
    check_found(&of_header(nonsense, ftrl("blt", false)), "record 0", "`identity`");
}

/// Four rounds with a moving clip norm; `change` may tamper with the clip norm of a charge, by round.
fn adaptive(change: impl Fn(u64, f64) -> f64, rule: impl FnOnce(&mut AdaptiveClipFacts)) -> Verification {
    let grid = f64::from(1_u32 << 30);
    let mut facts = AdaptiveClipFacts {
        quantile: 0.5,
        learning_rate: 0.2,
        smallest: 0.1,
        largest: 10.0,
        count_std_dev: 1.5 * grid / (2.0 * 150_000_000.0),
        indicator: 150_000_000,
    };
    rule(&mut facts);
    let (mut bodies, mut clip_norm) = (Vec::new(), 0.5);
    bodies.push(Body::Header(Box::new(Header {
        adaptive_clip: Some(facts),
        ..header()
    })));
    for round in 1..=4 {
        let event = event();
        bodies.push(Body::Reserve(Reserve {
            round,
            event: event.clone(),
        }));
        bodies.push(Body::Charge(Charge {
            round,
            event,
            noise_std_dev_grid_units: 1.5 * grid,
            divisor: 100.0,
            clip_norm: Some(change(round, clip_norm)),
            claim: super::run::claim(round),
            counts_commitment: String::new(),
            survivors: None,
        }));
        let share = 0.2 * round as f64;
        clip_norm *= (-0.2 * (share - 0.5)).exp();
        bodies.push(Body::Release(Release {
            round,
            model_sha256: String::new(),
            share_within: Some(share),
        }));
    }
    verified(&bodies)
}

#[test]
fn a_clip_norm_that_does_not_follow_the_rule_is_found_in_its_record() {
    let found = adaptive(|_, norm| norm, |_| {});
    assert!(found.consistent, "{found:?}");
    for round in 1..=4 {
        let changed = |at, norm| if at == round { norm * 1.01 } else { norm };
        let record = format!("record {}", 3 * round - 1);
        check_found(
            &adaptive(changed, |_| {}),
            &record,
            "does not follow from the round before",
        );
    }
    let less_noise = |facts: &mut AdaptiveClipFacts| facts.count_std_dev *= 1.1;
    check_found(
        &adaptive(|_, norm| norm, less_noise),
        "record 0",
        "`count_std_dev`",
    );
}
