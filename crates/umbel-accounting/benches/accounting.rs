//! Times of single numbers, printed and not asserted: `cargo bench -p umbel-accounting`.
//!
//! Each line is a JSON object, so that `benches/accounting/` at the root of the repository can set it beside other tools.
#![allow(clippy::print_stdout, reason = "the output is the purpose")]

use std::time::{Duration, Instant};

use umbel_accounting::{
    Accountant, AccountantKind, Delta, DpEvent, Epsilon, NeighboringRelation, NoiseMultiplier, PldAccountant,
    SamplingRate, calibrate,
};

const RELATION: NeighboringRelation = NeighboringRelation::AddOrRemoveOne;

fn main() {
    for (rate, noise, count, delta) in [
        (1e-3, 0.6, 10_000, 1e-6),
        (1e-3, 0.6, 100_000, 1e-5),
        (1e-3, 0.6, 1_000_000, 1e-5),
        (1e-3, 1.0, 1_000_000, 1e-9),
        (1e-2, 1.0, 10_000, 1e-12),
        (1e-4, 1.0, 1_000_000, 1e-12),
        (1e-4, 50.0, 1_000_000, 1e-6),
        (1e-4, 0.3, 1_000_000, 1e-8),
        (0.2, 1.0, 1, 1e-5),
    ] {
        let (time, bounds) = best(|| {
            let mut accountant = PldAccountant::new(RELATION);
            accountant
                .compose(&step(rate, multiplier(noise)), count)
                .expect("supported");
            accountant.epsilon(probability(delta)).expect("in range")
        });
        let lower = bounds.lower.map_or(f64::NAN, Epsilon::value);
        println!(
            "{{\"task\": \"epsilon\", \"q\": {rate}, \"sigma\": {noise}, \"T\": {count}, \"delta\": {delta:e}, \
             \"lower\": {lower}, \"upper\": {}, \"seconds\": {}}}",
            bounds.upper,
            time.as_secs_f64()
        );
    }
    for (rate, count, target, delta) in [
        (1e-2, 10_000, 3.0, 1e-5),
        (1e-3, 10_000, 2.0, 1e-6),
        (1e-3, 100_000, 1.0, 1e-6),
        (1e-3, 1_000_000, 2.0, 1e-6),
    ] {
        let (time, noise) = best(|| {
            let plan = |noise| DpEvent::Repeated {
                event: Box::new(step(rate, noise)),
                count,
            };
            let target = Epsilon::new(target).expect("a valid epsilon");
            calibrate::noise_multiplier(target, probability(delta), AccountantKind::Pld, RELATION, &plan)
                .expect("reached")
        });
        println!(
            "{{\"task\": \"sigma\", \"q\": {rate}, \"target\": {target}, \"T\": {count}, \"delta\": {delta:e}, \
             \"sigma\": {noise}, \"seconds\": {}}}",
            time.as_secs_f64()
        );
    }
    let (time, rounds) = best(|| {
        let mut accountant = PldAccountant::new(RELATION);
        for _ in 0..1000 {
            accountant
                .compose(&step(0.01, multiplier(1.0)), 1)
                .expect("supported");
            accountant.epsilon(probability(1e-5)).expect("in range");
        }
        1000
    });
    println!(
        "{{\"task\": \"growing\", \"rounds\": {rounds}, \"seconds\": {}}}",
        time.as_secs_f64()
    );
}

fn step(rate: f64, noise_multiplier: NoiseMultiplier) -> DpEvent {
    DpEvent::PoissonSampled {
        sampling_rate: SamplingRate::new(rate).expect("a valid rate"),
        event: Box::new(DpEvent::Gaussian { noise_multiplier }),
    }
}

fn multiplier(noise: f64) -> NoiseMultiplier {
    NoiseMultiplier::new(noise).expect("a valid multiplier")
}

fn probability(delta: f64) -> Delta {
    Delta::new(delta).expect("a valid delta")
}

/// The shortest of five runs, and the result.
fn best<T>(run: impl Fn() -> T) -> (Duration, T) {
    let timed = || {
        let start = Instant::now();
        let result = run();
        (start.elapsed(), result)
    };
    (1..5).fold(timed(), |best, _| {
        let next = timed();
        if next.0 < best.0 { next } else { best }
    })
}
