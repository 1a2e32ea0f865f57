//! Speed of local training and evaluation on one thread, beside the speed of the matrix product itself.
//!
//! `cargo bench -p umbel-train` prints the median of repeated runs with the fastest and the slowest. Data is random, in
//! the shape of MNIST.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints its figures"
)]

use std::hint::black_box;
use std::time::Instant;

use rand::RngExt;
use umbel_gemm::{Matrix, MatrixMut, multiply};
use umbel_train::{
    Batch, Dataset, LocalTrainer, LocalTraining, ModelSpec, Optimizer, Sgd, SgdStep, TrainingRng,
    TrainingWorkspace, Transform, Workspace, evaluate,
};

const N_REPEATS: usize = 15;
const N_FEATURES: usize = 784;
const N_CLASSES: usize = 10;
const N_EXAMPLES: usize = 10_000;

/// Shapes of products that occur, thin ones included.
const SHAPES: [(usize, usize, usize, &str); 9] = [
    (10, 784, 10, "softmax, a client's batch"),
    (10, 784, 200, "MLP, a client's batch"),
    (256, 784, 200, "MLP"),
    (784, 25, 32, "first convolution"),
    (196, 800, 64, "second convolution"),
    (10, 3136, 512, "CNN's dense layer, a client's batch"),
    (64, 3136, 512, "CNN's dense layer"),
    (32, 32, 128, "a step of the LSTM"),
    (128, 16, 128, "scores of a head of attention"),
];

/// Median, fastest and slowest seconds of one call.
struct Seconds {
    median: f64,
    min: f64,
    max: f64,
}

fn time(mut work: impl FnMut()) -> Seconds {
    work();
    let start = Instant::now();
    work();
    let once = start.elapsed().as_secs_f64().max(1e-7);
    let n_calls = ((0.05 / once).ceil()).clamp(1.0, 1e5);
    let mut seconds: Vec<f64> = (0..N_REPEATS)
        .map(|_| {
            let start = Instant::now();
            let mut call = 0.0;
            while call < n_calls {
                work();
                call += 1.0;
            }
            start.elapsed().as_secs_f64() / n_calls
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    Seconds {
        median: seconds[N_REPEATS / 2],
        min: seconds[0],
        max: seconds[N_REPEATS - 1],
    }
}

/// Prints a line: units a second, and the share of the peak where the work is known in floating-point operations.
fn print(name: &str, unit: &str, units: f64, seconds: &Seconds, share_of_peak: Option<f64>) {
    let rate = |seconds: f64| units / seconds;
    let share = share_of_peak.map_or(String::new(), |share| {
        format!("  {:5.1} % of peak", 100.0 * share)
    });
    println!(
        "{name:46} {:11.0} {unit}/s  ({:.0} to {:.0}){share}",
        rate(seconds.median),
        rate(seconds.max),
        rate(seconds.min)
    );
}

fn gemm_peak() -> f64 {
    let size = 768;
    let (a, b) = (vec![0.5; size * size], vec![0.25; size * size]);
    let mut c = vec![0.0; size * size];
    let seconds = time(|| {
        let (a, b) = (
            Matrix::new(&a, size, size),
            Matrix::new(black_box(&b), size, size),
        );
        multiply(1.0, a, b, 0.0, &mut MatrixMut::new(&mut c, size, size));
    });
    2.0 * (size as f64).powi(3) / seconds.min
}

/// Floating-point operations of one example: forward, and the gradients by all weights and hidden activations.
fn training_operations(widths: &[usize]) -> f64 {
    let layers = widths.windows(2).enumerate();
    layers
        .map(|(index, pair)| (pair[0] * pair[1] * if index == 0 { 4 } else { 6 }) as f64)
        .sum()
}

fn main() {
    let mut rng = TrainingRng::from_seed([7; 32]);
    let values = (0..N_EXAMPLES * N_FEATURES)
        .map(|_| rng.random_range(0.0..1.0))
        .collect();
    let labels = (0..N_EXAMPLES).map(|_| rng.random_range(0..10)).collect();
    let dataset = Dataset::from_values("random", &[28, 28], values, labels, N_CLASSES).expect("a data set");

    let peak = gemm_peak();
    println!(
        "matrix product of 768 x 768 x 768, f32, one thread: {:.1} GFLOP/s (the peak below)\n",
        peak / 1e9
    );

    let models = [
        ("softmax 784-10", vec![784, 10], ModelSpec::Softmax),
        ("MLP 784-200-10", vec![784, 200, 10], ModelSpec::mlp(&[200])),
    ];
    for (name, widths, spec) in models {
        let model = spec.build(dataset.shape(), N_CLASSES).expect("a model");
        let mut parameters = vec![0.0; model.n_parameters()];
        model.initialize(&mut parameters, &mut rng);
        let operations = training_operations(&widths);

        for batch_size in [10, 48, 256] {
            let mut features = vec![0.0; batch_size * N_FEATURES];
            let mut labels = vec![0; batch_size];
            dataset.gather_range(0..batch_size, &mut features, &mut labels);
            let batch = Batch::new(&features, &labels);
            let share = |seconds: &Seconds| Some(operations * batch_size as f64 / seconds.median / peak);

            let mut workspace = Workspace::new();
            let mut local = parameters.clone();
            let step = SgdStep {
                learning_rate: 1e-6,
                weight_decay: 0.0,
            };
            let seconds = time(|| {
                black_box(model.sgd_step(&mut local, batch, step, &mut workspace));
            });
            let label = format!("{name}, batch {batch_size}, step in place");
            print(&label, "examples", batch_size as f64, &seconds, share(&seconds));

            let mut gradient = vec![0.0; parameters.len()];
            let seconds = time(|| {
                black_box(model.loss_and_gradient(&parameters, batch, &mut gradient, &mut workspace));
            });
            let label = format!("{name}, batch {batch_size}, gradient");
            print(&label, "examples", batch_size as f64, &seconds, share(&seconds));
        }

        // What the simulator does for one client: copy, gather, shuffle, five steps, subtract.
        let clients: Vec<Vec<u32>> = (0..200_u32)
            .map(|client| (client * 48..(client + 1) * 48).collect())
            .collect();
        let optimizer = Optimizer::Sgd(Sgd::new(1e-6).expect("a learning rate"));
        let training = LocalTraining::new(1, 10, optimizer).expect("settings");
        let trainer = LocalTrainer::new(model.as_ref(), &dataset, training).expect("a trainer");
        let mut workspace = TrainingWorkspace::new();
        let mut update = vec![0.0; parameters.len()];
        let seconds = time(|| {
            for examples in &clients {
                black_box(trainer.train(&parameters, examples, &mut rng, &mut workspace, &mut update));
            }
        });
        let n_examples = 200.0 * 48.0;
        let share = Some(operations * n_examples / seconds.median / peak);
        print(
            &format!("{name}, clients of 48, batch 10"),
            "examples",
            n_examples,
            &seconds,
            share,
        );
        print(
            &format!("{name}, clients of 48, batch 10"),
            "clients",
            200.0,
            &seconds,
            None,
        );

        let seconds = time(|| {
            black_box(evaluate(model.as_ref(), &parameters, &dataset, &mut workspace));
        });
        let forward: f64 = widths.windows(2).map(|pair| (2 * pair[0] * pair[1]) as f64).sum();
        let share = Some(forward * N_EXAMPLES as f64 / seconds.median / peak);
        print(
            &format!("{name}, evaluation"),
            "examples",
            N_EXAMPLES as f64,
            &seconds,
            share,
        );
        println!();
    }

    println!("matrix products: rows x inner dimension x columns");
    for (m, k, n, name) in SHAPES {
        let (a, b) = (vec![0.5; m * k], vec![0.25; k * n]);
        let mut c = vec![0.0; m * n];
        let share = |seconds: &Seconds| Some((2 * m * k * n) as f64 / seconds.median / peak);
        for (transpose_a, transpose_b, kind) in [
            (false, false, ""),
            (true, false, ", left transposed"),
            (false, true, ", right transposed"),
        ] {
            let seconds = time(|| {
                let a = if transpose_a {
                    Matrix::new(&a, k, m).t()
                } else {
                    Matrix::new(&a, m, k)
                };
                let b = if transpose_b {
                    Matrix::new(&b, n, k).t()
                } else {
                    Matrix::new(&b, k, n)
                };
                multiply(1.0, a, black_box(b), 0.0, &mut MatrixMut::new(&mut c, m, n));
            });
            let label = format!("{m} x {k} x {n}{kind} ({name})");
            print(&label, "products", 1.0, &seconds, share(&seconds));
        }
    }

    gather(&mut rng);
}

/// How fast stored bytes become features.
fn gather(rng: &mut TrainingRng) {
    let folder = tempfile::tempdir().expect("a folder");
    let n: u32 = 1000;
    let mut images = vec![0, 0, 8, 3];
    images.extend([n, 28, 28].iter().flat_map(|size| size.to_be_bytes()));
    images.extend((0..1000 * N_FEATURES).map(|_| rng.random::<u8>()));
    let mut labels = vec![0, 0, 8, 1];
    labels.extend(n.to_be_bytes());
    labels.extend((0..10_u8).cycle().take(1000));
    let (image_file, label_file) = (folder.path().join("images"), folder.path().join("labels"));
    std::fs::write(&image_file, images).expect("a file");
    std::fs::write(&label_file, labels).expect("a file");
    for pool in [1, 2] {
        let dataset = Dataset::load_idx(&image_file, &label_file).expect("a data set");
        let transform = Transform::new(pool, 0.5, 0.5).expect("a transform");
        let dataset = dataset
            .with_transform(transform)
            .expect("a shape that can be pooled");
        let mut features = vec![0.0; 1000 * dataset.n_features()];
        let mut labels = vec![0; 1000];
        let seconds = time(|| dataset.gather_range(0..1000, &mut features, &mut labels));
        print(
            &format!("bytes to features, pool {pool}"),
            "examples",
            1000.0,
            &seconds,
            None,
        );
    }
}
