//! Prints what each step costs a coordinate, in nanoseconds on one thread: `cargo bench -p umbel-mechanisms`.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

use std::hint::black_box;
use std::time::Instant;

use rand_core::Rng;
use umbel_accounting::matrix::{
    ErrorMetric, MatrixStrategy, TreeEstimator, TreeStrategy, optimize_banded, optimize_buffered,
};
use umbel_accounting::{ClipNorm, NoiseMultiplier, SamplingRate};
use umbel_mechanisms::{
    CentralGaussian, CohortSource, DiscreteGaussian, DiscreteLaplace, GradientPart, IntegerSum,
    LocalGaussian, LocalPlan, LocalSteps, MatrixGaussian, MatrixPlan, Mechanism, NoiseKind, NoiseSource,
    Quantizer, RoundedGaussian, SimulationSeed, Skellam, Turns, poisson_cohort,
};

/// Coordinates of a whole update.
const DIMENSION: usize = 1_660_000;
/// Draws of one run of a sampler: short, so that some runs are not interrupted.
const N_DRAWS: usize = 50_000;

fn main() {
    let seed = SimulationSeed::new(1);
    let noise = NoiseSource::simulated(seed);
    let mut values = vec![0_i64; N_DRAWS];
    let mut stream = noise.release_streams(0).block(0);
    time("ChaCha20, 64 bits", N_DRAWS, || {
        (0..N_DRAWS).fold(0, |sum, _| sum ^ stream.next_u64())
    });
    for std_dev in [0.5, 1e3, 1e6, 1_073_741_824.0] {
        let sampler = RoundedGaussian::new(std_dev).expect("in range");
        time(&format!("rounded Gaussian, s = {std_dev}"), N_DRAWS, || {
            sampler.add_to(&mut values, &mut stream)
        });
    }
    for std_dev in [0.5, 4.0, 31.9, 100.0, 1e6] {
        let sampler = DiscreteGaussian::new(std_dev).expect("in range");
        time(&format!("discrete Gaussian, sigma = {std_dev}"), N_DRAWS, || {
            sampler.add_to(&mut values, &mut stream)
        });
    }
    time("making a discrete Gaussian, sigma = 100", 1, || {
        DiscreteGaussian::new(100.0).expect("in range")
    });

    for variance in [1.0, 1e3, 1e5] {
        let sampler = Skellam::new(variance).expect("in range");
        time(&format!("Skellam, variance {variance}"), N_DRAWS, || {
            sampler.add_to(&mut values, &mut stream)
        });
    }
    time("making a Skellam, variance 1000", 1, || {
        Skellam::new(1e3).expect("in range")
    });
    let laplace = DiscreteLaplace::new(100, 1).expect("in range");
    time("discrete Laplace, scale 100", N_DRAWS, || {
        (0..N_DRAWS).fold(0, |sum, _| sum ^ laplace.sample(&mut stream))
    });

    let update: Vec<f32> = (0..DIMENSION).map(|i| (i as f32 * 0.37).sin()).collect();
    let quantizer = Quantizer::new(ClipNorm::new(1.0).expect("above 0"));
    let mut buffer = Vec::with_capacity(DIMENSION);
    time("clip and quantise", DIMENSION, || {
        let (quantized, _) = quantizer.clip_and_quantize(&update, std::mem::take(&mut buffer));
        buffer = quantized.into_buffer();
    });
    let quantized = quantizer.accept(buffer).expect("was clipped");
    let mut sum = IntegerSum::new(DIMENSION);
    time("add to the sum", DIMENSION, || sum.add(&quantized).expect("fits"));

    let clip_norm = ClipNorm::new(1.0).expect("above 0");
    let noise_multiplier = NoiseMultiplier::new(1.0).expect("above 0");
    for (name, kind) in [
        ("rounded", NoiseKind::Rounded),
        ("continuous", NoiseKind::Continuous),
    ] {
        let mechanism = CentralGaussian::new(clip_norm, noise_multiplier, kind, 100.0).expect("in range");
        for n_threads in [1, 2] {
            time(
                &format!("release, {name}, {n_threads} threads"),
                DIMENSION,
                || mechanism.release(sum.clone(), &noise, 1, n_threads),
            );
        }
    }
    // The same with noise that is correlated between rounds; the first and largest costs come with a fresh state.
    let turns = Turns::new(10, None, 1_000, 100.0, 1_000).expect("possible");
    let participation = turns.participation().expect("possible");
    let metric = ErrorMetric::RootMeanSquare;
    let blt = optimize_buffered(1_000, 4, &participation, metric).expect("possible");
    let banded = optimize_banded(1_000, 10, &participation, metric).expect("possible");
    for (name, strategy) in [
        ("blt of 4 buffers", MatrixStrategy::Buffered(blt.strategy)),
        ("10 bands", MatrixStrategy::Toeplitz(banded.strategy)),
        (
            "tree",
            MatrixStrategy::Tree(TreeStrategy::new(TreeEstimator::Binary)),
        ),
    ] {
        let plan = MatrixPlan {
            clip_norm,
            noise_multiplier,
            noise: NoiseKind::Rounded,
            divisor: 100.0,
            dimension: DIMENSION,
            strategy,
            rounds: 1_000,
            turns,
            amplified: false,
        };
        let mechanism: Mechanism = MatrixGaussian::new(plan).expect("in range").into();
        let mut state = mechanism.begin().expect("fits");
        let mut round = 0;
        time(&format!("release, DP-FTRL, {name}, 2 threads"), DIMENSION, || {
            round += 1;
            state
                .release(sum.clone(), &noise, round, 2)
                .expect("rounds are left")
        });
    }
    gradients();
    let cohort = CohortSource::simulated(seed);
    let rate = SamplingRate::new(0.01).expect("in range");
    time("Poisson cohort, a client", 1_000_000, || {
        poisson_cohort(&cohort, 1, 1_000_000, rate)
    });
}

/// Sums of clipped gradients of a dense layer of 784 inputs, with biases, and 200 outputs: a coordinate of one example.
fn gradients() {
    const N_EXAMPLES: usize = 64;
    let (n_rows, n_columns) = (785, 200);
    let dimension = n_rows * n_columns;
    let wave = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let (left, right) = (wave(n_rows), wave(n_columns));
    let written_down: Vec<f32> = left
        .iter()
        .flat_map(|x| right.iter().map(move |y| x * y))
        .collect();
    let quantizer = Quantizer::new(ClipNorm::new(1.0).expect("above 0"));
    let (mut buffer, mut sum) = (Vec::new(), IntegerSum::new(dimension));
    time("gradient, written down", N_EXAMPLES * dimension, || {
        for _ in 0..N_EXAMPLES {
            let (quantized, _) = quantizer.clip_and_quantize(&written_down, std::mem::take(&mut buffer));
            sum.add(&quantized).expect("fits");
            buffer = quantized.into_buffer();
        }
    });
    let mechanism = LocalGaussian::new(LocalPlan {
        clip_norm: ClipNorm::new(1.0).expect("above 0"),
        noise_multiplier: None,
        noise: NoiseKind::Rounded,
        divisor: 1.0,
        dimension,
        most_participations: 1,
        steps: Some(LocalSteps {
            sampling_rate: SamplingRate::new(1.0).expect("in range"),
            steps: 1,
            divisor: 64.0,
            learning_rate: 0.1,
        }),
    })
    .expect("in range");
    let mut sum = mechanism.gradient_sum();
    for (name, part) in [
        (
            "gradient, as a product",
            GradientPart::Outer {
                offset: 0,
                left: &left,
                right: &right,
            },
        ),
        (
            "gradient, as values",
            GradientPart::Values {
                offset: 0,
                values: &written_down,
            },
        ),
    ] {
        time(name, N_EXAMPLES * dimension, || {
            for _ in 0..N_EXAMPLES {
                sum.add(std::iter::once(part));
            }
        });
    }
}

/// The fastest of at least seven runs in at least a quarter of a second, for one unit.
fn time<T>(name: &str, n_units: usize, mut work: impl FnMut() -> T) {
    let begin = Instant::now();
    let (mut fastest, mut n_runs) = (f64::INFINITY, 0);
    while n_runs < 7 || begin.elapsed().as_secs_f64() < 0.25 {
        let start = Instant::now();
        black_box(work());
        fastest = fastest.min(start.elapsed().as_secs_f64());
        n_runs += 1;
    }
    println!("{name:<45} {:>12.2} ns", fastest * 1e9 / n_units as f64);
}
