//! Times training steps on request, for `benches/peers`.
//!
//! Reads lines `CASE BATCH MODE THREADS SECONDS` and answers each with the seconds of single steps, or groups of them, as a JSON
//! list. Cases: softmax, mlp, cnn, lstm, transformer, gemm (whose steps are products of 768 × 768 matrices). Modes: plain (a step of gradient
//! descent), dp (clipped sum and step), dp-continuous (the same with noise drawn in floating point: ChaCha20 and the ziggurat method), dp-integer (the
//! sum on the mechanisms' grid, with their rounded Gaussian, sampled exactly from ChaCha20). With two threads the batch is cut in halves, whose sums are added in a fixed order.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints its figures"
)]

use std::io::BufRead;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use umbel_gemm::{Matrix, MatrixMut, multiply};
use umbel_mechanisms::{GRID_UNITS, NoiseSource, RoundedGaussian, SimulationSeed};
use umbel_train::{Batch, CnnSpec, Model, ModelSpec, SgdStep, TrainingRng, TransformerSpec, Workspace};

const LEARNING_RATE: f32 = 1e-4;

struct Case {
    model: Box<dyn Model>,
    parameters: Vec<f32>,
    features: Vec<f32>,
    labels: Vec<u32>,
    workers: Vec<Worker>,
    noise: NoiseSource,
    sampler: RoundedGaussian,
    n_steps: u64,
}

#[derive(Default)]
struct Worker {
    workspace: Workspace,
    sum: Vec<f32>,
    integers: Vec<i64>,
}

/// Parameters that share a stream of noise.
const BLOCK: usize = 4096;

impl Case {
    fn new(name: &str, batch_size: usize, n_threads: usize) -> Self {
        let mut rng = TrainingRng::from_seed([7; 32]);
        let lstm = ModelSpec::Lstm {
            n_tokens: 10_000,
            embedding: 16,
            units: 32,
        };
        let transformer = ModelSpec::Transformer {
            n_tokens: 10_000,
            spec: TransformerSpec::default(),
        };
        let (spec, shape, n_classes) = match name {
            "softmax" => (ModelSpec::Softmax, vec![784], 10),
            "mlp" => (ModelSpec::mlp(&[200, 200]), vec![784], 10),
            "cnn" => (ModelSpec::Cnn(CnnSpec::mcmahan()), vec![28, 28], 10),
            "lstm" => (lstm, vec![250], 2),
            "transformer" => (transformer, vec![128], 2),
            other => panic!("no case {other}"),
        };
        let model = spec.build(&shape, n_classes).expect("a model");
        let mut parameters = vec![0.0; model.n_parameters()];
        model.initialize(&mut parameters, &mut rng);
        let n_values = batch_size * model.n_features();
        let features = (0..n_values).map(|_| match name {
            "lstm" | "transformer" => f32::from(rng.random_range(0..10_000_u16)),
            _ => rng.random_range(0.0..1.0),
        });
        let features = features.collect();
        let top = u32::try_from(n_classes).expect("few classes");
        let labels = (0..batch_size).map(|_| rng.random_range(0..top)).collect();
        let workers = (0..n_threads).map(|_| Worker {
            sum: vec![0.0; parameters.len()],
            ..Worker::default()
        });
        Self {
            workers: workers.collect(),
            model,
            parameters,
            features,
            labels,
            noise: NoiseSource::simulated(SimulationSeed::new(7)),
            sampler: RoundedGaussian::new(f64::from(GRID_UNITS)).expect("a standard deviation in range"),
            n_steps: 0,
        }
    }

    fn step(&mut self, mode: &str) {
        let batch = Batch::new(&self.features, &self.labels);
        let n = batch.n_examples();
        let (model, n_threads) = (self.model.as_ref(), self.workers.len());
        if mode == "plain" && n_threads == 1 {
            let step = SgdStep {
                learning_rate: LEARNING_RATE,
                weight_decay: 0.0,
            };
            model.sgd_step(&mut self.parameters, batch, step, &mut self.workers[0].workspace);
            return;
        }
        let parameters = &self.parameters;
        let work = |index: usize, worker: &mut Worker| {
            let part = batch.slice(index * n / n_threads..(index + 1) * n / n_threads);
            let Worker { workspace, sum, .. } = worker;
            if mode == "plain" {
                model.loss_and_gradient(parameters, part, sum, workspace);
            } else {
                sum.fill(0.0);
                model.add_clipped_gradients(parameters, part, 1.0, sum, workspace);
            }
        };
        let (first, rest) = self.workers.split_first_mut().expect("a thread");
        std::thread::scope(|scope| {
            for (index, worker) in rest.iter_mut().enumerate() {
                scope.spawn(move || work(index + 1, worker));
            }
            work(0, first);
        });
        for worker in rest {
            for (sum, value) in first.sum.iter_mut().zip(&worker.sum) {
                *sum += value;
            }
        }
        let divisor = if mode == "plain" { n_threads } else { n };
        let rate = LEARNING_RATE / divisor as f32;
        let Worker { sum, integers, .. } = first;
        if mode == "dp-continuous" || mode == "dp-integer" {
            integers.resize(sum.len(), 0);
            self.n_steps += 1;
            let (streams, sampler) = (self.noise.release_streams(self.n_steps), &self.sampler);
            let is_integer = mode == "dp-integer";
            let share = sum.len().div_ceil(BLOCK).div_ceil(n_threads) * BLOCK;
            std::thread::scope(|scope| {
                let parts = sum.chunks_mut(share).zip(integers.chunks_mut(share));
                for (part, (sum, integers)) in (0_u64..).zip(parts) {
                    let (streams, first) = (&streams, part * (share / BLOCK) as u64);
                    let mut work = move || {
                        let blocks = sum.chunks_mut(BLOCK).zip(integers.chunks_mut(BLOCK));
                        for (block, (sum, integers)) in (first..).zip(blocks) {
                            let mut stream = streams.block(block);
                            if is_integer {
                                add_integer_noise(sum, integers, sampler, &mut stream);
                            } else {
                                for value in sum {
                                    let noise: f32 = StandardNormal.sample(&mut stream);
                                    *value += noise;
                                }
                            }
                        }
                    };
                    if n_threads == 1 {
                        work();
                    } else {
                        scope.spawn(work);
                    }
                }
            });
        }
        for (parameter, value) in self.parameters.iter_mut().zip(&*sum) {
            *parameter -= rate * value;
        }
    }
}

/// Rounds the sum toward zero to grid units of 2^-30 of the clip norm, 1, adds a rounded Gaussian to each, and goes back.
#[allow(clippy::cast_possible_truncation, reason = "rounding is meant")]
fn add_integer_noise(
    sum: &mut [f32],
    integers: &mut [i64],
    sampler: &RoundedGaussian,
    stream: &mut umbel_mechanisms::RandomStream,
) {
    let unit = f64::from(GRID_UNITS);
    for (integer, &value) in integers.iter_mut().zip(&*sum) {
        *integer = (f64::from(value) * unit) as i64;
    }
    sampler.add_to(integers, stream);
    for (value, &integer) in sum.iter_mut().zip(&*integers) {
        *value = (integer as f64 / unit) as f32;
    }
}

/// Seconds of calls, in groups of at least 20 ms.
fn time(seconds: f64, mut call: impl FnMut()) -> Vec<f64> {
    call();
    call();
    let start = Instant::now();
    call();
    let once = start.elapsed().as_secs_f64().max(1e-7);
    let mut group = 0.02 / once;
    group = group.ceil().max(1.0);
    let (end, mut times) = (Instant::now() + Duration::from_secs_f64(seconds), Vec::new());
    while Instant::now() < end || times.len() < 3 {
        let (start, mut done) = (Instant::now(), 0.0);
        while done < group {
            call();
            done += 1.0;
        }
        times.push(start.elapsed().as_secs_f64() / group);
    }
    times
}

fn main() {
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, batch_size, mode, n_threads, seconds] = words[..] else {
            panic!("CASE BATCH MODE THREADS SECONDS, got `{line}`");
        };
        let seconds: f64 = seconds.parse().expect("seconds");
        let times = if name == "gemm" {
            let size = 768;
            let (a, b) = (vec![0.5; size * size], vec![0.25; size * size]);
            let mut c = vec![0.0; size * size];
            time(seconds, || {
                let (a, b) = (Matrix::new(&a, size, size), Matrix::new(&b, size, size));
                multiply(1.0, a, b, 0.0, &mut MatrixMut::new(&mut c, size, size));
            })
        } else {
            let batch_size = batch_size.parse().expect("a batch size");
            let mut case = Case::new(name, batch_size, n_threads.parse().expect("threads"));
            time(seconds, || case.step(mode))
        };
        let texts: Vec<String> = times.iter().map(|time| format!("{time:e}")).collect();
        println!("[{}]", texts.join(","));
    }
}
