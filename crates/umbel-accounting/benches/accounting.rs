//! Times of single numbers, printed; nothing is asserted. Run with `cargo bench -p umbel-accounting`.
#![allow(clippy::print_stdout, reason = "the output is the purpose")]

use std::time::Instant;
use umbel_accounting::{
    Accountant, Delta, DpEvent, NeighboringRelation, NoiseMultiplier, PldAccountant, SamplingRate,
};

fn main() {
    for (q, s, t, d, est) in [
        (0.01, 1.0, 1000, 1e-5, 1.828237),
        (0.01, 1.0, 10000, 1e-12, 10.346690),
        (0.001, 0.6, 10000, 1e-6, 3.152191),
        (0.001, 0.6, 1000000, 1e-5, 23.444694),
        (0.0001, 1.0, 1000000, 1e-12, 0.861190),
        (0.0001, 50.0, 1000000, 1e-6, 0.005849),
        (0.0001, 0.3, 1000000, 1e-8, 91.319917),
        (0.003, 2.0, 200000, 1e-6, 3.357662),
        (0.001, 0.3, 100, 1e-5, 11.040557),
        (0.5, 0.5, 10, 1e-5, 31.374470),
        (0.2, 1.0, 1, 1e-5, 2.447218),
    ] {
        for _ in 0..3 {
            let start = Instant::now();
            let mut accountant = PldAccountant::new(NeighboringRelation::AddOrRemoveOne);
            let event = DpEvent::Gaussian {
                noise_multiplier: NoiseMultiplier::new(s).expect("valid"),
            };
            let event = DpEvent::PoissonSampled {
                sampling_rate: SamplingRate::new(q).expect("valid"),
                event: Box::new(event),
            };
            accountant.compose(&event, t).expect("supported");
            let bounds = accountant
                .epsilon(Delta::new(d).expect("valid"))
                .expect("computed");
            let (lo, hi) = (bounds.lower.map_or(0.0, |l| l.value()), bounds.upper.value());
            println!(
                "{q} {s} {t} {d:e}: {lo:.6} {est} {hi:.6}  {:.2e} {:.2e} {:?}",
                est / lo - 1.0,
                hi / est - 1.0,
                start.elapsed()
            );
        }
    }
    for (t, eps, d) in [(10_000_u64, 2.0, 1e-6), (1_000_000, 2.0, 1e-6)] {
        for _ in 0..3 {
            let start = Instant::now();
            let make = |noise_multiplier| DpEvent::Repeated {
                count: t,
                event: Box::new(DpEvent::PoissonSampled {
                    sampling_rate: SamplingRate::new(1e-3).expect("valid"),
                    event: Box::new(DpEvent::Gaussian { noise_multiplier }),
                }),
            };
            let noise = umbel_accounting::calibrate::noise_multiplier(
                umbel_accounting::Epsilon::new(eps).expect("valid"),
                Delta::new(d).expect("valid"),
                umbel_accounting::AccountantKind::Pld,
                NeighboringRelation::AddOrRemoveOne,
                &make,
            )
            .expect("found");
            println!("calibration {t} {noise} {:?}", start.elapsed());
        }
    }
}
