//! Holds the code to the network that `docs/worked-example.md` works by hand.

use umbel_train::{Activation, Batch, Loss, Model, ModelSpec, SgdStep, Workspace};

const X: [f32; 3] = [1.0, 2.0, 3.0];
const LABEL: [u32; 1] = [1];

/// W₁, b₁, W₂, b₂, row by row, as the flat vector has them.
const BEFORE: [f32; 14] = [
    0.1, 0.5, 0.2, -0.4, 0.3, -0.2, // W₁
    0.1, 0.2, // b₁
    0.4, 0.2, 0.3, -0.5, // W₂
    0.1, 0.1, // b₂
];
const GRADIENT: [f32; 14] = [
    0.16, 0.0, 0.32, 0.0, 0.48, 0.0, // by W₁
    0.16, 0.0, // by b₁
    1.05, -0.9, 0.0, 0.0, // by W₂
    0.7, -0.6, // by b₂
];
const AFTER: [f32; 14] = [
    0.084, 0.5, 0.168, -0.4, 0.252, -0.2, // W₁
    0.084, 0.2, // b₁
    0.295, 0.29, 0.3, -0.5, // W₂
    0.03, 0.16, // b₂
];

fn network() -> Box<dyn Model> {
    let spec = ModelSpec::Mlp {
        hidden: vec![2],
        activation: Activation::Relu,
        dropout: 0.0,
        loss: Loss::SquaredError,
    };
    spec.build(&[3], 2).expect("a model of two layers")
}

#[track_caller]
fn assert_close(got: &[f32], expected: &[f32]) {
    let is_close = got
        .iter()
        .zip(expected)
        .all(|(got, expected)| (got - expected).abs() < 1e-6);
    assert!(
        is_close && got.len() == expected.len(),
        "{got:?} for {expected:?}"
    );
}

#[test]
fn forward_and_backward() {
    let (network, mut gradient) = (network(), [0.0; 14]);
    let batch = Batch::new(&X, &LABEL);
    let loss = network.loss_and_gradient(&BEFORE, batch, &mut gradient, &mut Workspace::new());
    assert!((loss - 0.425).abs() < 1e-6, "{loss}");
    assert_close(&gradient, &GRADIENT);
    let evaluation = network.evaluate(&BEFORE, batch, &mut Workspace::new());
    assert_eq!(evaluation.n_correct, 0);
}

#[test]
fn one_step() {
    let (network, mut parameters) = (network(), BEFORE);
    let batch = Batch::new(&X, &LABEL);
    let step = SgdStep {
        learning_rate: 0.1,
        weight_decay: 0.0,
    };
    network.sgd_step(&mut parameters, batch, step, &mut Workspace::new());
    assert_close(&parameters, &AFTER);
    let evaluation = network.evaluate(&parameters, batch, &mut Workspace::new());
    assert_eq!(evaluation.n_correct, 1);
    assert!(
        (evaluation.loss_sum - 0.193_304).abs() < 1e-6,
        "{}",
        evaluation.loss_sum
    );
}

#[test]
fn the_clipped_gradient() {
    let (network, mut sum) = (network(), [0.0; 14]);
    let batch = Batch::new(&X, &LABEL);
    network.add_clipped_gradients(&BEFORE, batch, 1.0, &mut sum, &mut Workspace::new());
    assert_close(&sum, &GRADIENT.map(|value| value * 0.563_749));
    let norm: f32 = GRADIENT.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!((norm - 1.773_838).abs() < 1e-6);
}
