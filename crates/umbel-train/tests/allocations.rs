//! Once a workspace has seen a batch, steps allocate nothing that stays, and nothing in passing but the buffers that the kernel of a
//! matrix product takes and gives back: at most two a product.

#![allow(clippy::cast_precision_loss, reason = "features are small whole numbers")]

use allocation_counter::measure;
use umbel_train::{Batch, CnnSpec, ModelSpec, SgdStep, TrainingRng, TransformerSpec, Workspace};

const N: usize = 8;

/// Takes steps of all kinds on `N` examples. `n_products` says how many products a private step makes; a plain one makes no more.
fn check(name: &str, spec: &ModelSpec, shape: &[usize], n_products: usize) {
    let model = spec.build(shape, 2).expect("a model");
    let mut parameters = vec![0.0; model.n_parameters()];
    model.initialize(&mut parameters, &mut TrainingRng::from_seed([1; 32]));
    let features: Vec<f32> = (0..N * model.n_features()).map(|k| (k % 3) as f32).collect();
    let labels: Vec<u32> = [0, 1].into_iter().cycle().take(N).collect();
    let batch = Batch::new(&features, &labels);
    let (mut sum, mut workspace) = (vec![0.0; parameters.len()], Workspace::new());
    let step = SgdStep {
        learning_rate: 1e-3,
        weight_decay: 0.0,
    };
    let mut take_steps = || {
        model.add_clipped_gradients(&parameters, batch, 1.0, &mut sum, &mut workspace);
        model.loss_and_gradient(&parameters, batch, &mut sum, &mut workspace);
        model.sgd_step(&mut parameters, batch, step, &mut workspace);
        model.evaluate(&parameters, batch, &mut workspace);
    };
    take_steps();
    let counted = measure(take_steps);
    let in_passing = 2 * 4 * n_products as u64;
    assert!(
        counted.count_current == 0 && counted.bytes_current == 0 && counted.count_total <= in_passing,
        "{name}: {counted:?}, at most {in_passing} in passing"
    );
}

#[test]
fn steps_allocate_nothing_after_warm_up() {
    // Forward, the gradient by the weights and the one by the input.
    check("softmax", &ModelSpec::Softmax, &[50], 2);
    check("mlp", &ModelSpec::mlp(&[20, 10]), &[50], 8);
    let mut cnn = CnnSpec::default();
    cnn.filters = vec![3, 4];
    cnn.hidden = vec![6];
    check("cnn", &ModelSpec::Cnn(cnn), &[8, 8], 5 * N + 6);
    let lstm = ModelSpec::Lstm {
        n_tokens: 5,
        embedding: 4,
        units: 6,
    };
    check("lstm", &lstm, &[7], 3 * N + 2 * 7 + 3);
    let pool = ModelSpec::TextPool {
        n_tokens: 5,
        embedding: 4,
        hidden: vec![3],
        dropout: 0.0,
    };
    check("text pool", &pool, &[7], 6);
    let mut spec = TransformerSpec::default();
    (spec.width, spec.heads, spec.layers, spec.hidden) = (8, 2, 1, 12);
    // Four dense layers, whose gradients by the weights are an example's own, and six products a head; in parts of four examples.
    let products = 4 * (2 * N + N) + 2 * 6 * N + 3 * N;
    check(
        "transformer",
        &ModelSpec::Transformer { n_tokens: 5, spec },
        &[7],
        products,
    );
}
