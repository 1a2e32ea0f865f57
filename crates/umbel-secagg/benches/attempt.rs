//! What an attempt costs: 100 clients of whom ten drop out after sharing, vectors of 1e5 and 1e6. Prints a JSON line a case.
//!
//! A client's time is the median of all who stay to the end, the server's is the sum of its calls. What the mask generator alone
//! makes is measured beside each masking and unmasking, since a virtual machine's speed changes from one moment to the next.
//!
//! `benches/secagg/run.sh` at the root of the repository runs this beside another implementation. With `--thousand` it plays one
//! whole attempt of 1,000 clients with vectors of 1e5 instead.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints and may fail"
)]

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use chacha20::cipher::array::Array;
use chacha20::cipher::{KeyIvInit, StreamCipherCore};
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, R20};
use umbel_secagg::{
    Authority, Client, Entropy, Expected, Identity, LastStep, Policy, RoundConfig, Server, ServerKey,
    SimulatedClient, SimulatedFederation, Topology,
};

const N: usize = 100;
const DROPPED: usize = 10;
/// All work on the thread whose time is taken.
const THREADS: usize = 1;

fn main() {
    if std::env::args().any(|argument| argument == "--thousand") {
        return thousand();
    }
    let mut rates: Vec<f64> = (0..200).map(|_| generator_bytes_per_second(64)).collect();
    rates.sort_by(f64::total_cmp);
    println!(
        "{{\"task\": \"mask generator\", \"bytes_per_second\": {}, \"best\": {}, \"threads\": {THREADS}}}",
        rates[100], rates[199]
    );
    for (topology, name) in [(Topology::Complete, "complete"), (Topology::Regular, "regular")] {
        for (dimension, bits) in [(100_000, 32), (1_000_000, 32), (100_000, 16), (1_000_000, 16)] {
            attempt(topology, name, dimension, bits);
        }
    }
}

/// Keystream into one buffer that stays in the first-level cache, `n_buffers` times, and nothing else.
#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn generator_bytes_per_second(n_buffers: usize) -> f64 {
    let mut buffer = vec![Array::default(); 16_384 / 64];
    let mut generator = ChaChaCore::<R20, Ietf>::new(&[1; 32].into(), &[0; 12].into());
    let start = Instant::now();
    for _ in 0..n_buffers {
        generator.write_keystream_blocks(&mut buffer);
        black_box(&buffer);
    }
    (n_buffers * 16_384) as f64 / start.elapsed().as_secs_f64()
}

/// Clients, server and all their messages in one process: what a simulated round costs beside training.
fn thousand() {
    let config = RoundConfig {
        dimension: 100_000,
        clients_min: 500,
        clients_max: 1_000,
        survivors_min: 800,
        colluding: 100,
        ..terms(Topology::Regular, 100_000, 16)
    };
    let clients: Vec<SimulatedClient> = (0..1_000)
        .map(|client| {
            let last_step = if client % 10 == 3 {
                LastStep::Shares
            } else {
                LastStep::Opens
            };
            SimulatedClient { client, last_step }
        })
        .collect();
    let input = |client: u64| {
        (0..100_000)
            .map(|j| i64::try_from(client).unwrap() % 7 + j % 11 - 8)
            .collect::<Vec<i64>>()
    };
    let federation = SimulatedFederation::new([1; 32], 2);
    let start = Instant::now();
    let played = federation
        .attempt(&config, &clients, input)
        .unwrap()
        .open()
        .unwrap();
    let real = start.elapsed();
    let counted = federation
        .ideal(&config, &clients, input)
        .unwrap()
        .open()
        .unwrap();
    let ideal = start.elapsed() - real;
    assert!(played == counted);
    println!(
        "{{\"task\": \"thousand\", \"n\": 1000, \"d\": 100000, \"dropped\": 100, \"threads\": 2, \"real_seconds\": {}, \
         \"ideal_seconds\": {}}}",
        real.as_secs_f64(),
        ideal.as_secs_f64()
    );
}

fn terms(topology: Topology, dimension: u32, bits: u32) -> RoundConfig {
    RoundConfig {
        federation: [3; 32],
        round: 1,
        attempt: 0,
        model: [4; 32],
        mechanism: [5; 32],
        dimension,
        modulus_bits: bits,
        clients_min: 50,
        clients_max: u32::try_from(N).unwrap(),
        survivors_min: 80,
        colluding: 10,
        colluding_permille: 100,
        dropout_permille: 100,
        topology,
        noise_share_variance: 0.0,
        noise_target_variance: 0.0,
        duration_ms: 3_600_000,
    }
}

fn timed<T>(total: &mut Duration, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = call();
    *total += start.elapsed();
    result
}

/// Processor time of this thread where the system tells it (Linux), so that other work on the machine counts little; else time.
fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told
        .as_deref()
        .and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// For the server's sum, which is long beside the steps of that clock.
fn served<T>(total: &mut Duration, call: impl FnOnce() -> T) -> T {
    let start = now();
    let result = call();
    *total += now() - start;
    result
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[allow(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn attempt(topology: Topology, name: &str, dimension: u32, bits: u32) {
    let (authority, server_key) = (Authority::from_secret(&[1; 32]), ServerKey::from_secret(&[2; 32]));
    let config = terms(topology, dimension, bits);
    let parameters = config.parameters(u32::try_from(N).unwrap()).unwrap();
    let policy = Policy {
        federation: [3; 32],
        authority: authority.public(),
        server: server_key.public(),
        clients_min: 50,
        survivors_min: 80,
        colluding: 10,
        colluding_permille: 100,
        noise_target_variance: 0.0,
    };
    let expected = Expected {
        model: [4; 32],
        mechanism: [5; 32],
    };
    let mut server = Server::new(config, authority.public(), server_key);
    let offer = server.offer().unwrap();
    let (mut client_times, mut server_time) = (vec![Duration::ZERO; N], Duration::ZERO);
    let mut client_shares = Vec::new();
    let word = if bits <= 16 { 2.0 } else { 4.0 };
    let mask_bytes = f64::from(dimension) * word;
    let client_masks = f64::from(parameters.degree) + 1.0;
    // What client 0 sends.
    let (mut client_bytes, mut vector_bytes) = (0, 0);
    let mut clients: Vec<Client> = (0..N)
        .map(|i| {
            let identity = Identity::from_secret(&[u8::try_from(i).unwrap(); 32]);
            let certificate = authority.certify(&[3; 32], i as u64, identity.public());
            let entropy = Entropy::new([u8::try_from(i + 100).unwrap(); 32]);
            timed(&mut client_times[i], || {
                Client::new(
                    &offer,
                    policy.clone(),
                    expected,
                    None,
                    certificate,
                    identity,
                    entropy,
                )
            })
            .unwrap()
        })
        .collect();
    let values: Vec<i64> = (0..i64::from(dimension)).map(|j| j % 1_000 - 500).collect();
    let mut send = |i: usize, message: &[u8]| {
        if i == 0 {
            client_bytes += message.len();
        }
    };
    for (i, client) in clients.iter_mut().enumerate() {
        let message = timed(&mut client_times[i], || client.handle_mark_stored()).unwrap();
        send(i, &message);
        served(&mut server_time, || server.handle_advertisement(&message)).unwrap();
    }
    let roster = served(&mut server_time, || server.close_advertising()).unwrap();
    for (i, client) in clients.iter_mut().enumerate() {
        let message = timed(&mut client_times[i], || client.handle_roster(&roster)).unwrap();
        send(i, &message);
        served(&mut server_time, || server.handle_shares(&message)).unwrap();
    }
    served(&mut server_time, || server.close_sharing()).unwrap();
    for (i, client) in clients.iter_mut().enumerate().take(N - DROPPED) {
        let request = served(&mut server_time, || server.mask_request(i as u64)).unwrap();
        timed(&mut client_times[i], || client.handle_mask_request(&request)).unwrap();
        let mut mask_time = Duration::ZERO;
        let message = timed(&mut mask_time, || client.handle_charge_stored(&values)).unwrap();
        let rate = generator_bytes_per_second(64);
        client_shares.push(client_masks * mask_bytes / rate / mask_time.as_secs_f64());
        client_times[i] += mask_time;
        send(i, &message);
        vector_bytes = message.len();
        served(&mut server_time, || server.handle_masked_input(&message)).unwrap();
    }
    served(&mut server_time, || server.close_masking()).unwrap();
    for (i, client) in clients.iter_mut().enumerate().take(N - DROPPED) {
        let survivors = served(&mut server_time, || server.survivors(i as u64)).unwrap();
        let message = timed(&mut client_times[i], || client.handle_survivors(&survivors)).unwrap();
        send(i, &message);
        served(&mut server_time, || server.handle_confirmation(&message)).unwrap();
    }
    served(&mut server_time, || server.close_confirming()).unwrap();
    let request = served(&mut server_time, || server.charge([9; 32])).unwrap();
    for (i, client) in clients.iter_mut().enumerate().take(N - DROPPED) {
        let message = timed(&mut client_times[i], || {
            client.handle_unmask_request(&request, Duration::ZERO)
        })
        .unwrap();
        send(i, &message);
        served(&mut server_time, || server.handle_opened_shares(&message)).unwrap();
    }
    let mut unmask_time = Duration::ZERO;
    let before = generator_bytes_per_second(2_000);
    let sum = served(&mut unmask_time, || server.finish(THREADS)).unwrap();
    let rate = f64::midpoint(before, generator_bytes_per_second(2_000));
    server_time += unmask_time;
    let wrapped = |value: i64| value << (64 - bits) >> (64 - bits);
    assert!(
        sum.values
            .iter()
            .zip(&values)
            .all(|(sum, value)| *sum == wrapped(90 * value))
    );

    // Each dropped client's masks with those neighbours that survived: at least this many on a regular graph.
    let pairs = DROPPED as f64 * f64::from(parameters.degree) * (N - DROPPED) as f64 / (N - 1) as f64;
    let server_masks = (N - DROPPED) as f64 + pairs;
    let client_share = median(client_shares);
    let client_seconds = median(
        client_times[..N - DROPPED]
            .iter()
            .map(Duration::as_secs_f64)
            .collect(),
    );
    let server_share = server_masks * mask_bytes / rate / THREADS as f64 / unmask_time.as_secs_f64();
    println!(
        "{{\"task\": \"attempt\", \"graph\": \"{name}\", \"n\": {N}, \"dropped\": {DROPPED}, \"d\": {dimension}, \"bits\": {bits}, \
         \"degree\": {}, \"threshold\": {}, \"client_seconds\": {client_seconds}, \"server_seconds\": {}, \"vector_bytes\": {vector_bytes}, \
         \"client_bytes\": {client_bytes}, \"client_mask_share\": {client_share}, \"server_mask_share\": {server_share}}}",
        parameters.degree,
        parameters.threshold,
        server_time.as_secs_f64(),
    );
}
