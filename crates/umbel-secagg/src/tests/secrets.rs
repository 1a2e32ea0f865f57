//! Secrets are neither printed nor left in memory.

use chacha20::ChaCha20Rng;
use ed25519_dalek::SigningKey;
use x25519_dalek::StaticSecret;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::*;
use crate::{LastStep, SimulatedClient, SimulatedFederation};

/// All text that a value shows, one way or the other.
fn shown(value: &dyn std::fmt::Debug) -> String {
    format!("{value:?}")
}

#[test]
fn nothing_that_holds_secrets_shows_more_than_names_and_states() {
    let terms = config(4, Topology::Complete);
    let mut world = World::new(terms.clone());
    assert_eq!(shown(&entropy(0, &terms)), "Entropy(redacted)");
    assert_eq!(shown(&identity(0)), "Identity { .. }");
    assert_eq!(shown(&authority()), "Authority { .. }");
    assert_eq!(shown(&server_key()), "ServerKey { .. }");

    // A client and a server in every state.
    let client_is = |world: &World, state: &str| {
        let expected = format!("Client {{ client: 3, state: \"{state}\", .. }}");
        assert_eq!(shown(&world.clients[0]), expected);
    };
    let server_is = |world: &World, step: &str| {
        assert_eq!(shown(&world.server), format!("Server {{ step: \"{step}\", .. }}"));
    };
    client_is(&world, "has accepted an offer");
    server_is(&world, "collecting keys");
    let roster = world.advertise(|_| true).unwrap();
    client_is(&world, "has advertised its keys");
    server_is(&world, "collecting shares");
    world.share(&roster, |_| true).unwrap();
    client_is(&world, "has shared its secrets");
    server_is(&world, "collecting inputs");
    let request = world.server.mask_request(number(0)).unwrap();
    world.clients[0].handle_mask_request(&request).unwrap();
    client_is(&world, "waits for its charge to be stored");
    let input = world.clients[0].handle_charge_stored(&world.inputs[0]).unwrap();
    world.server.handle_masked_input(&input).unwrap();
    client_is(&world, "has sent its input");
    assert_eq!(world.mask(|i| i != 0).unwrap(), []);
    server_is(&world, "collecting confirmations");
    assert_eq!(world.confirm(|_| true).unwrap(), []);
    client_is(&world, "has confirmed the survivors");
    server_is(&world, "waiting for the charge");
    let request = world.server.charge([9; 32]).unwrap();
    server_is(&world, "collecting opened shares");
    for client in &mut world.clients {
        let opened = client.handle_unmask_request(&request, Duration::ZERO).unwrap();
        world.server.handle_opened_shares(&opened).unwrap();
    }
    client_is(&world, "has opened its shares");
    // Not the values either: under trust in the server they have no noise yet.
    let sum = world.server.finish(1).unwrap();
    assert_eq!(shown(&sum), "Sum { survivors: 4, .. }");
    server_is(&world, "over");

    let federation = SimulatedFederation::new([7; 32], 2);
    assert_eq!(shown(&federation), "SimulatedFederation { n_threads: 2, .. }");
    let clients = [3, 13, 23, 33].map(|client| SimulatedClient {
        client,
        last_step: LastStep::Opens,
    });
    for confirmed in [
        federation.attempt(&terms, &clients, |_| vec![77; 4]),
        federation.ideal(&terms, &clients, |_| vec![77; 4]),
    ] {
        assert_eq!(shown(&confirmed.unwrap()), "Confirmed { survivors: 4, .. }");
    }
}

/// A client that has refused something shows why nowhere but in the error, and an error holds no bytes of a message.
#[test]
fn a_refusal_shows_no_bytes_of_the_message() {
    let mut world = World::masked(config(4, Topology::Complete));
    let mut message = world.server.survivors(number(0)).unwrap();
    let at = message.len() - 1;
    message[at] ^= 1;
    let refusal = world.clients[0].handle_survivors(&message).unwrap_err();
    assert_eq!(shown(&refusal), "Signature { message: \"masked input\" }");
    assert_eq!(
        shown(&world.clients[0]),
        "Client { client: 3, state: \"has left the round\", .. }"
    );
}

/// The types in which all secrets are kept wipe themselves; without the ciphers' feature for that, this would not build.
#[test]
fn all_that_holds_a_secret_wipes_itself() {
    fn wiped<T: ZeroizeOnDrop>() {}
    // The long-term keys; the keys of an attempt; the generator of its polynomials and salts; seeds, openings and shares; the lists of openings.
    wiped::<SigningKey>();
    wiped::<StaticSecret>();
    wiped::<ChaCha20Rng>();
    wiped::<Zeroizing<[u8; 32]>>();
    wiped::<Zeroizing<Vec<u8>>>();
}
