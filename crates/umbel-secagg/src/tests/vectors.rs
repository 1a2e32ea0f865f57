//! Every byte of three attempts against an independent implementation (`tests/vectors.py`).

use sha2::{Digest, Sha256};

use super::*;
use crate::graph::ring;
use crate::message::Roster;
use crate::session::Session;

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn all_messages_are_those_of_another_implementation() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../tests/vectors.json")).unwrap();
    for vector in vectors.as_array().unwrap() {
        let number_of = |name: &str| u32::try_from(vector[name].as_u64().unwrap()).unwrap();
        let dropped = vector["dropped"]
            .as_u64()
            .map(|place| usize::try_from(place).unwrap());
        let config = RoundConfig {
            modulus_bits: number_of("bits"),
            dimension: number_of("dimension"),
            survivors_min: number_of("clients").div_ceil(2) + 1,
            ..config(number_of("clients"), Topology::Complete)
        };
        let n = config.clients_max as usize;
        let alive: Vec<usize> = (0..n).filter(|i| Some(*i) != dropped).collect();
        let check = |name: &str, messages: &[Vec<u8>]| {
            let expected: Vec<&str> = vector["messages"][name]
                .as_array()
                .unwrap()
                .iter()
                .map(|hash| hash.as_str().unwrap())
                .collect();
            let got: Vec<String> = messages.iter().map(|message| hex(message)).collect();
            assert_eq!(got, expected, "{name}");
        };

        let mut world = World::new(config.clone());
        check("offer", &[world.server.offer().unwrap()]);
        let advertisements: Vec<Vec<u8>> = world
            .clients
            .iter_mut()
            .map(|client| client.handle_mark_stored().unwrap())
            .collect();
        check("advertisement", &advertisements);
        for message in &advertisements {
            world.server.handle_advertisement(message).unwrap();
        }
        let roster = world.server.close_advertising().unwrap();
        check("roster", std::slice::from_ref(&roster));
        let session = Session::new(config, Roster::decode(&roster, 255).unwrap()).unwrap();
        let order: Vec<u64> = ring(&session.root, n).iter().map(|place| *place as u64).collect();
        let expected: Vec<u64> = vector["ring"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p.as_u64().unwrap())
            .collect();
        assert_eq!(order, expected);

        let shares: Vec<Vec<u8>> = world
            .clients
            .iter_mut()
            .map(|client| client.handle_roster(&roster).unwrap())
            .collect();
        check("shares", &shares);
        for message in &shares {
            world.server.handle_shares(message).unwrap();
        }
        world.server.close_sharing().unwrap();
        let requests: Vec<Vec<u8>> = (0..n)
            .map(|i| world.server.mask_request(number(i)).unwrap())
            .collect();
        check("mask_request", &requests);
        let inputs: Vec<Vec<u8>> = alive.iter().map(|i| world.masked_input(*i).unwrap()).collect();
        check("masked_input", &inputs);
        for message in &inputs {
            world.server.handle_masked_input(message).unwrap();
        }
        world.server.close_masking().unwrap();
        let survivors: Vec<Vec<u8>> = alive
            .iter()
            .map(|i| world.server.survivors(number(*i)).unwrap())
            .collect();
        check("survivors", &survivors);
        let confirmations: Vec<Vec<u8>> = alive
            .iter()
            .zip(&survivors)
            .map(|(i, message)| world.clients[*i].handle_survivors(message).unwrap())
            .collect();
        check("confirmation", &confirmations);
        for message in &confirmations {
            world.server.handle_confirmation(message).unwrap();
        }
        world.server.close_confirming().unwrap();
        let request = world.server.charge([9; 32]).unwrap();
        check("unmask_request", std::slice::from_ref(&request));
        let opened: Vec<Vec<u8>> = alive
            .iter()
            .map(|i| {
                world.clients[*i]
                    .handle_unmask_request(&request, Duration::ZERO)
                    .unwrap()
            })
            .collect();
        check("opened_shares", &opened);
        for message in &opened {
            world.server.handle_opened_shares(message).unwrap();
        }
        let expected: Vec<i64> = vector["sum"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_i64().unwrap())
            .collect();
        assert_eq!(world.server.finish(3).unwrap().values, expected);
    }
}
