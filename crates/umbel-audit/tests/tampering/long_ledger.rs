//! A ledger so long that not every claim is recomputed. It says how long that took, of which nothing is asserted; for 100,000
//! records:
//!
//! ```text
//! UMBEL_LEDGER_ROUNDS=33333 cargo test --release -p umbel-audit --test tampering long_ledger -- --nocapture
//! ```

use std::fs;
use std::time::Instant;

use umbel_accounting::ledger::{
    self, Body, Charge, Claim, Header, LedgerWriter, Release, Reserve, SigningKey, to_hex,
};
use umbel_accounting::{AccountantKind, Delta, NeighboringRelation, NoiseMultiplier, accountant};
use umbel_audit::{Anchors, RunFiles, verify};

use super::run::{SECRET, header, sampled_gaussian};

/// Three records a round, and a header.
fn rounds() -> u64 {
    match std::env::var("UMBEL_LEDGER_ROUNDS") {
        Ok(rounds) => rounds
            .parse()
            .expect("UMBEL_LEDGER_ROUNDS must be a whole number"),
        Err(_) => 500,
    }
}

#[test]
fn a_long_ledger_verifies_without_every_claim_recomputed() {
    let n_rounds = rounds();
    let event = sampled_gaussian(NoiseMultiplier::new(40.0).unwrap());
    let header = Header {
        rounds: n_rounds,
        round_event: event.clone(),
        ..header()
    };
    let delta = Delta::new(header.accounted_delta).unwrap();
    let mut pld = accountant(AccountantKind::Pld, NeighboringRelation::AddOrRemoveOne);
    // Claims that are certified for a few more rounds, so that making them does not take longer than what is measured.
    let mut claims: Vec<Claim> = Vec::new();
    while (claims.len() as u64) < n_rounds {
        let done = claims.len() as u64;
        let until = (done + 1 + done / 100).min(n_rounds);
        pld.compose(&event, until - done).unwrap();
        let bounds = pld.epsilon(delta).unwrap();
        let claim = Claim::new(AccountantKind::Pld, Delta::new(header.delta).unwrap(), bounds);
        claims.extend((done..until).map(|_| claim.clone()));
    }
    let mut writer = LedgerWriter::new(SigningKey::from_secret(&SECRET));
    let (clip_norm, grid_unit, divisor) = (header.clip_norm, header.grid_unit, header.cohort);
    let mut text = writer.append(&Body::Header(Box::new(header))).unwrap();
    for (round, claim) in (1..).zip(claims) {
        let records = [
            Body::Reserve(Reserve {
                round,
                event: event.clone(),
            }),
            Body::Charge(Charge {
                round,
                event: event.clone(),
                noise_std_dev_grid_units: 40.0 * clip_norm / grid_unit,
                divisor,
                clip_norm: None,
                claim,
                counts_commitment: to_hex(&[4; 32]),
                survivors: None,
            }),
            Body::Release(Release {
                round,
                model_sha256: to_hex(&[5; 32]),
                share_within: None,
            }),
        ];
        for body in &records {
            text += &writer.append(body).unwrap();
        }
    }
    println!("{} records, {} bytes", writer.records(), text.len());
    let measured = |what: &str, work: &dyn Fn()| {
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        work();
        println!(
            "{what}: {:.2} s of one core, {:.2} s by the clock",
            cpu_seconds() - cpu,
            wall.elapsed().as_secs_f64()
        );
    };
    measured("chain, signatures, order", &|| {
        ledger::read(text.as_bytes()).unwrap();
    });
    let files = RunFiles {
        ledger: text.clone().into_bytes(),
        ..RunFiles::default()
    };
    measured("the whole verification", &|| {
        let verification = verify(&files, &Anchors::default());
        assert!(verification.consistent, "{:?}", verification.faults);
        let facts = verification.facts.unwrap();
        println!("claims recomputed: {}", facts.claims_recomputed);
        assert!(facts.claims_recomputed > 0);
        if n_rounds >= 300 {
            assert!(
                facts.claims_recomputed < n_rounds / 2,
                "{}",
                facts.claims_recomputed
            );
        }
    });
}

/// Time that this process has spent, of all its threads, where the system tells.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = |place: usize| {
        fields
            .split(' ')
            .nth(place)
            .and_then(|ticks| ticks.parse::<f64>().ok())
    };
    (ticks(11).unwrap_or_default() + ticks(12).unwrap_or_default()) / 100.0
}
