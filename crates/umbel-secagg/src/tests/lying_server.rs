//! A server that lies. In every row the honest client says what is wrong, leaves the round for good and opens nothing, so the
//! server gains nothing but an attempt that it could have ended at any time.

use std::collections::BTreeSet;

use super::*;
use crate::DecodeError;
use crate::codec::{Places, Writer};
use crate::crypto::Hash;
use crate::graph::ring;
use crate::message::{
    Advertisement, CHARGE_LABEL, CONFIRMATION_LABEL, Delivery, Header, Roster, SEALED_BYTES, SURVIVORS,
    UNMASK_REQUEST,
};
use crate::session::Session;

fn terms() -> RoundConfig {
    config(9, Topology::Complete)
}

fn places(n: usize, members: impl IntoIterator<Item = usize>) -> Places {
    let mut set = Places::none(n);
    members.into_iter().for_each(|place| set.insert(place));
    set
}

/// What a server that keeps all messages knows of an attempt.
struct Wiretap {
    session: Session,
    headers: Vec<Option<Header>>,
}

impl Wiretap {
    /// Everybody shares and everybody but `dropped` sends its input.
    fn masked(world: &mut World, dropped: &[usize]) -> Self {
        let roster = world.advertise(|_| true).unwrap();
        world.share(&roster, |_| true).unwrap();
        let roster = Roster::decode(&roster, 255).unwrap();
        let session = Session::new(world.config.clone(), roster).unwrap();
        let mut headers = Vec::new();
        for i in 0..world.clients.len() {
            headers.push(if dropped.contains(&i) {
                None
            } else {
                let message = world.masked_input(i).unwrap();
                world.server.handle_masked_input(&message).unwrap();
                let mut reader = crate::codec::Reader::new(&message, message[0]).unwrap();
                reader.u64("client").unwrap();
                Some(Header::read(&mut reader).unwrap())
            });
        }
        Self { session, headers }
    }

    /// The survivors' message of a server that names any set.
    fn survivors(&self, to: usize, survivors: &Places) -> Vec<u8> {
        let mut writer = Writer::new(SURVIVORS);
        writer.bytes(survivors.as_bytes());
        for neighbor in self.session.neighbors_in(to, survivors) {
            // A server that names somebody whose input never came has no header of it.
            let header = self.headers[neighbor].unwrap_or(Header {
                sharers: [0; 32],
                input: [0; 32],
                signature: [0; 64],
            });
            header.write(&mut writer);
        }
        writer.finish()
    }
}

/// An unmask request with these signers.
fn unmask_request(view: &Hash, confirmations: &[(u32, [u8; 64])]) -> Vec<u8> {
    let mut writer = Writer::new(UNMASK_REQUEST);
    writer
        .bytes(&[9; 32])
        .bytes(&server_key().sign(CHARGE_LABEL, &[view, &[9; 32]]));
    writer.u32(u32::try_from(confirmations.len()).unwrap());
    for (place, signature) in confirmations {
        writer.u32(*place).bytes(signature);
    }
    writer.finish()
}

fn confirmation(i: usize, view: &Hash) -> (u32, [u8; 64]) {
    let signature = identity(i).sign(CONFIRMATION_LABEL, &[&number(i).to_le_bytes(), view]);
    (u32::try_from(i).unwrap(), signature)
}

type Expectation = fn(&Refusal) -> bool;

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(
    client: &mut Client,
    answer: Result<T, Refusal>,
    matches: impl Fn(&Refusal) -> bool,
) {
    let refusal = answer.unwrap_err();
    assert!(matches(&refusal), "{refusal}");
    assert_locked(client);
}

#[test]
fn a_second_mask_request_is_not_answered() {
    // Answered, the difference of the two inputs would be one pairwise mask, and with all of them the input itself.
    let mut world = World::shared(terms());
    let genuine = world.server.mask_request(number(0)).unwrap();
    let mut smaller = genuine.clone();
    smaller[1] &= !2;
    let client = &mut world.clients[0];
    client.handle_mask_request(&genuine).unwrap();
    for message in [&genuine, &smaller] {
        assert!(matches!(
            client.handle_mask_request(message),
            Err(Refusal::AlreadyAnswered { .. })
        ));
    }
    client.handle_charge_stored(&world.inputs[0]).unwrap();
    for message in [&genuine, &smaller] {
        assert!(matches!(
            client.handle_mask_request(message),
            Err(Refusal::AlreadyAnswered { .. })
        ));
    }
    assert!(matches!(
        client.handle_charge_stored(&world.inputs[1]),
        Err(Refusal::AlreadyAnswered { .. })
    ));
    assert!(!client.is_over());
}

#[test]
fn a_changed_ciphertext_ends_the_attempt_and_changes_no_graph() {
    let mut world = World::shared(terms());
    let mut request = world.server.mask_request(number(0)).unwrap();
    request[3] ^= 1;
    let client = &mut world.clients[0];
    let answer = client.handle_mask_request(&request);
    assert_refused(client, answer, |refusal| {
        *refusal == Refusal::Signature { message: "shares" }
    });
}

#[test]
fn a_server_cannot_leave_a_ciphertext_out() {
    let mut world = World::shared(terms());
    let mut request = world.server.mask_request(number(0)).unwrap();
    request.truncate(request.len() - 100);
    let client = &mut world.clients[0];
    let answer = client.handle_mask_request(&request);
    assert_refused(client, answer, |refusal| matches!(refusal, Refusal::Decode(_)));
}

#[test]
fn shares_swapped_between_recipients_are_noticed() {
    let mut world = World::shared(terms());
    // The first delivery to 1 is from 0, and so is the first to 2.
    let (mut to_1, to_2) = (
        world.server.mask_request(number(1)).unwrap(),
        world.server.mask_request(number(2)).unwrap(),
    );
    let delivery = 3..3 + SEALED_BYTES;
    to_1[delivery.clone()].copy_from_slice(&to_2[delivery]);
    let client = &mut world.clients[1];
    let answer = client.handle_mask_request(&to_1);
    assert_refused(client, answer, |refusal| {
        *refusal == Refusal::Signature { message: "shares" }
    });
    // The whole message for somebody else does no better.
    let client = &mut world.clients[3];
    let answer = client.handle_mask_request(&to_2);
    assert_refused(client, answer, |refusal| {
        *refusal == Refusal::Signature { message: "shares" }
    });
}

#[test]
fn shares_of_another_round_are_noticed() {
    let earlier = World::shared(RoundConfig { round: 6, ..terms() });
    let mut world = World::shared(terms());
    let old = earlier.server.mask_request(number(0)).unwrap();
    let client = &mut world.clients[0];
    let answer = client.handle_mask_request(&old);
    assert_refused(client, answer, |refusal| {
        *refusal == Refusal::Signature { message: "shares" }
    });
}

#[test]
fn a_round_is_not_played_twice() {
    let world = World::new(terms());
    let offer = world.server.offer().unwrap();
    let mark = world.clients[0].mark();
    for last in [mark, Mark { round: 7, attempt: 1 }, Mark { round: 8, attempt: 0 }] {
        let refusal = client_after(0, &offer, &terms(), Some(last)).unwrap_err();
        assert_eq!(refusal, Refusal::Replayed { round: 7, attempt: 0 });
    }
    assert!(client_after(0, &offer, &terms(), Some(Mark { round: 6, attempt: 9 })).is_ok());
}

#[test]
fn a_voided_attempt_cannot_be_opened_later() {
    let mut world = World::confirmed(terms());
    let request = world.server.charge([9; 32]).unwrap();
    let client = &mut world.clients[0];
    let answer = client.handle_unmask_request(&request, Duration::from_millis(60_001));
    assert_refused(client, answer, |refusal| *refusal == Refusal::TooLate);
    // And what belongs to one attempt opens nothing in the next.
    let mut next = World::confirmed(RoundConfig {
        attempt: 1,
        ..terms()
    });
    let client = &mut next.clients[0];
    let answer = client.handle_unmask_request(&request, Duration::ZERO);
    assert_refused(client, answer, |refusal| {
        *refusal == Refusal::Signature { message: "charge" }
    });
}

#[test]
fn both_secrets_of_a_client_are_never_asked_for_together() {
    // There is one list of survivors and no list of dropouts, so nobody can be on both. What is left is to ask twice.
    let mut world = World::confirmed(terms());
    let request = world.server.charge([9; 32]).unwrap();
    let client = &mut world.clients[0];
    client.handle_unmask_request(&request, Duration::ZERO).unwrap();
    let again = client.handle_unmask_request(&request, Duration::ZERO);
    assert!(matches!(again, Err(Refusal::AlreadyAnswered { .. })));
    // And survivors who never shared are refused: they would be dropouts of one set and members of the other.
    let mut world = World::new(terms());
    let roster = world.advertise(|_| true).unwrap();
    world.share(&roster, |i| i != 8).unwrap();
    for i in 0..8 {
        world.masked_input(i).unwrap();
    }
    let session = Session::new(terms(), Roster::decode(&roster, 9).unwrap()).unwrap();
    let tap = Wiretap {
        session,
        headers: vec![None; 9],
    };
    let client = &mut world.clients[0];
    let answer = client.handle_survivors(&tap.survivors(0, &places(9, 0..9)));
    assert_refused(client, answer, |refusal| *refusal == Refusal::SurvivorsNotSharers);
}

#[test]
fn two_survivor_sets_cannot_both_be_confirmed() {
    let mut world = World::new(terms());
    let tap = Wiretap::masked(&mut world, &[]);
    let (all, sharers) = (places(9, 0..9), places(9, 0..9));
    let without_8 = places(9, 0..8);
    // Half of the clients are shown one set, half the other, and client 8 colludes and signs both.
    let mut signed = [Vec::new(), Vec::new()];
    for i in 0..8 {
        let set = if i % 2 == 0 { &all } else { &without_8 };
        let message = world.clients[i].handle_survivors(&tap.survivors(i, set)).unwrap();
        let signature = message[9..].try_into().unwrap();
        signed[i % 2].push((u32::try_from(i).unwrap(), signature));
    }
    let views = [&all, &without_8].map(|set| tap.session.view(&sharers, set));
    signed[0].push(confirmation(8, &views[0]));
    for half in 0..2 {
        // 4 or 5 of the 7 that are needed.
        let client = &mut world.clients[half];
        let answer =
            client.handle_unmask_request(&unmask_request(&views[half], &signed[half]), Duration::ZERO);
        assert_refused(client, answer, |refusal| {
            matches!(
                refusal,
                Refusal::TooFew {
                    what: "confirmations",
                    least: 7,
                    ..
                }
            )
        });
    }
    // Confirmations of the other set do not count, nor does one signer twice.
    let mut mixed = [&signed[0][..], &signed[1][..]].concat();
    mixed.sort_unstable_by_key(|(place, _)| *place);
    let client = &mut world.clients[2];
    let answer = client.handle_unmask_request(&unmask_request(&views[0], &mixed), Duration::ZERO);
    assert_refused(client, answer, |refusal| {
        *refusal
            == Refusal::Signature {
                message: "confirmation",
            }
    });
    let repeated = [&signed[0][..], &signed[0][..]].concat();
    let client = &mut world.clients[4];
    let answer = client.handle_unmask_request(&unmask_request(&views[0], &repeated), Duration::ZERO);
    assert_refused(client, answer, |refusal| {
        matches!(
            refusal,
            Refusal::Decode(DecodeError::Field { field: "signer", .. })
        )
    });
}

#[test]
fn confirmations_of_unknown_or_absent_clients_do_not_count() {
    let mut world = World::new(terms());
    let tap = Wiretap::masked(&mut world, &[8]);
    let survivors = places(9, 0..8);
    let view = tap.session.view(&places(9, 0..9), &survivors);
    for i in 0..8 {
        world.clients[i]
            .handle_survivors(&tap.survivors(i, &survivors))
            .unwrap();
    }
    let genuine: Vec<_> = (0..6).map(|i| confirmation(i, &view)).collect();
    for (i, (place, signature)) in [(8, confirmation(8, &view).1), (200, [0; 64]), (6, [0; 64])]
        .into_iter()
        .enumerate()
    {
        let request = unmask_request(&view, &[&genuine[..], &[(place, signature)]].concat());
        let client = &mut world.clients[i];
        let answer = client.handle_unmask_request(&request, Duration::ZERO);
        assert_refused(client, answer, |refusal| {
            matches!(
                refusal,
                Refusal::Decode(DecodeError::Field { field: "signer", .. })
                    | Refusal::Signature {
                        message: "confirmation"
                    }
            )
        });
    }
}

#[test]
fn a_sum_without_a_charge_is_not_opened() {
    let mut world = World::confirmed(terms());
    let mut request = world.server.charge([9; 32]).unwrap();
    request[1] ^= 1;
    let client = &mut world.clients[0];
    let answer = client.handle_unmask_request(&request, Duration::ZERO);
    assert_refused(client, answer, |refusal| {
        *refusal == Refusal::Signature { message: "charge" }
    });
    // The genuine charge stays with the client as a receipt.
    request[1] ^= 1;
    let client = &mut world.clients[1];
    client.handle_unmask_request(&request, Duration::ZERO).unwrap();
    assert_eq!(client.receipt().unwrap().charge, [9; 32]);
}

#[test]
fn survivors_without_the_client_or_too_few_are_refused() {
    let mut world = World::new(terms());
    let tap = Wiretap::masked(&mut world, &[8]);
    let cases: [(usize, Vec<usize>, Expectation); 4] = [
        (0, (1..9).collect(), |refusal| {
            *refusal == Refusal::LeftOut { what: "survived" }
        }),
        (1, (0..6).collect(), |refusal| {
            matches!(
                refusal,
                Refusal::TooFew {
                    what: "survivors",
                    least: 7,
                    got: 6
                }
            )
        }),
        // Client 8 never sent its input.
        (2, (0..9).collect(), |refusal| {
            *refusal
                == Refusal::Signature {
                    message: "masked input",
                }
        }),
        (3, (0..3).collect(), |refusal| {
            *refusal == Refusal::LeftOut { what: "survived" }
        }),
    ];
    for (i, survivors, expected) in cases {
        let message = tap.survivors(i, &places(9, survivors));
        let client = &mut world.clients[i];
        let answer = client.handle_survivors(&message);
        assert_refused(client, answer, expected);
    }
}

#[test]
fn clients_who_were_shown_other_sharers_notice() {
    // The server tells client 0 that 8 has not shared; its pairwise mask with 8 would be missing from the sum, and openings
    // of 8's secrets could be played off against each other.
    let mut world = World::new(terms());
    let roster = world.advertise(|_| true).unwrap();
    world.share(&roster, |_| true).unwrap();
    let session = Session::new(terms(), Roster::decode(&roster, 9).unwrap()).unwrap();
    let genuine = world.server.mask_request(number(0)).unwrap();
    // Without 8: its bit cleared, and its delivery, the last, cut off.
    let proof = crate::merkle::proof_length(8, session.position(8, 0).unwrap()) * 32;
    let mut smaller = genuine[..genuine.len() - (SEALED_BYTES + 64 + 32 + 64 + proof)].to_vec();
    smaller[2] &= !1;
    world.clients[0].handle_mask_request(&smaller).unwrap();
    let message = world.clients[0].handle_charge_stored(&world.inputs[0]).unwrap();
    let read = |message: &[u8]| {
        let mut reader = crate::codec::Reader::new(message, message[0]).unwrap();
        reader.u64("client").unwrap();
        Some(Header::read(&mut reader).unwrap())
    };
    let mut headers = vec![read(&message)];
    for i in 1..9 {
        headers.push(read(&world.masked_input(i).unwrap()));
    }
    let tap = Wiretap { session, headers };
    for i in 0..8 {
        let client = &mut world.clients[i];
        let answer = client.handle_survivors(&tap.survivors(i, &places(9, 0..8)));
        assert_refused(client, answer, |refusal| {
            matches!(refusal, Refusal::SplitView { .. })
        });
    }
    // An honest server would not have taken the input.
    assert!(matches!(
        world.server.handle_masked_input(&message),
        Err(crate::Fault::OtherView { .. })
    ));
}

#[test]
fn too_few_sharers_are_refused() {
    let mut world = World::shared(terms());
    let genuine = world.server.mask_request(number(0)).unwrap();
    let mut request = genuine.clone();
    request[1] = 0b0011_1111;
    request[2] = 0;
    let client = &mut world.clients[0];
    let answer = client.handle_mask_request(&request);
    assert_refused(client, answer, |refusal| {
        matches!(
            refusal,
            Refusal::TooFew {
                what: "clients who shared",
                ..
            }
        )
    });
    let mut request = world.server.mask_request(number(1)).unwrap();
    request[1] &= !2;
    let client = &mut world.clients[1];
    let answer = client.handle_mask_request(&request);
    assert_refused(client, answer, |refusal| {
        *refusal == Refusal::LeftOut { what: "shared" }
    });
}

/// A roster as a lying server would make it.
fn forged_roster(change: impl Fn(&mut Vec<Advertisement>)) -> (World, Vec<u8>) {
    let mut world = World::new(terms());
    let mut roster = Roster::decode(&world.advertise(|_| true).unwrap(), 9).unwrap();
    change(&mut roster.0);
    (world, roster.encode())
}

#[test]
fn rosters_with_false_members_are_refused() {
    type Change = Box<dyn Fn(&mut Vec<Advertisement>)>;
    let config_hash = terms().hash();
    let resign = move |member: &mut Advertisement, i: usize| member.sign(&identity(i), &config_hash);
    let low_order = move |members: &mut Vec<Advertisement>| {
        // Client 8 colludes and signs what it is told.
        members[8].mask_key = [0; 32];
        resign(&mut members[8], 8);
    };
    let invented = |members: &mut Vec<Advertisement>| {
        // A client that the authority never certified.
        let own = Identity::from_secret(&[77; 32]);
        members[8].certificate =
            Authority::from_secret(&[78; 32]).certify(&FEDERATION, number(8), own.public());
        members[8].sign(&own, &terms().hash());
    };
    let cases: Vec<(Change, Expectation)> = vec![
        (Box::new(invented), |refusal| {
            *refusal == Refusal::Roster { client: number(8) }
        }),
        (Box::new(low_order), |refusal| {
            *refusal == Refusal::Key { client: number(8) }
        }),
        (Box::new(|members| members[8].mask_key[3] ^= 1), |refusal| {
            *refusal
                == Refusal::Signature {
                    message: "advertisement",
                }
        }),
        (
            Box::new(|members| members[8].share_key = members[7].share_key),
            |refusal| *refusal == Refusal::Key { client: number(8) },
        ),
        (Box::new(|members| members.swap(7, 8)), |refusal| {
            matches!(refusal, Refusal::Roster { .. })
        }),
        (Box::new(|members| members[8] = members[7]), |refusal| {
            matches!(refusal, Refusal::Roster { .. })
        }),
        (Box::new(|members| members.truncate(2)), |refusal| {
            matches!(refusal, Refusal::RosterSize { got: 2, .. })
        }),
        (Box::new(|members| members[0].mask_key[3] ^= 1), |refusal| {
            *refusal == Refusal::NotOnRoster
        }),
        (
            Box::new(|members| members.retain(|member| member.certificate.client != number(0))),
            |refusal| *refusal == Refusal::NotOnRoster,
        ),
    ];
    for (change, expected) in cases {
        let (mut world, roster) = forged_roster(change);
        let client = &mut world.clients[0];
        let answer = client.handle_roster(&roster);
        assert_refused(client, answer, expected);
    }
}

#[test]
fn keys_of_another_round_do_not_enter() {
    let mut earlier = World::new(RoundConfig { round: 6, ..terms() });
    let old = Roster::decode(&earlier.advertise(|_| true).unwrap(), 9)
        .unwrap()
        .0[8];
    let (mut world, roster) = forged_roster(|members| members[8] = old);
    let client = &mut world.clients[0];
    let answer = client.handle_roster(&roster);
    assert_refused(client, answer, |refusal| {
        *refusal
            == Refusal::Signature {
                message: "advertisement",
            }
    });
}

#[test]
fn weaker_terms_are_refused() {
    let read = |config: RoundConfig, policy: Policy| {
        let offer = Server::new(config.clone(), authority().public(), server_key())
            .offer()
            .unwrap();
        Client::new(
            &offer,
            policy,
            EXPECTED,
            None,
            certificate(0),
            identity(0),
            entropy(0, &config),
        )
        .unwrap_err()
    };
    let strict = || Policy {
        clients_min: 9,
        survivors_min: 7,
        colluding: 2,
        colluding_permille: 100,
        noise_target_variance: 25.0,
        ..policy()
    };
    let good = || RoundConfig {
        clients_min: 9,
        survivors_min: 7,
        colluding: 2,
        colluding_permille: 100,
        noise_target_variance: 25.0,
        noise_share_variance: 5.0,
        ..terms()
    };
    let offer = Server::new(good(), authority().public(), server_key())
        .offer()
        .unwrap();
    assert!(
        Client::new(
            &offer,
            strict(),
            EXPECTED,
            None,
            certificate(0),
            identity(0),
            entropy(0, &good())
        )
        .is_ok()
    );
    for (weaker, name) in [
        (
            RoundConfig {
                clients_min: 8,
                ..good()
            },
            "clients_min",
        ),
        (
            RoundConfig {
                survivors_min: 6,
                ..good()
            },
            "survivors_min",
        ),
        (
            RoundConfig {
                colluding: 1,
                ..good()
            },
            "colluding",
        ),
        (
            RoundConfig {
                colluding_permille: 99,
                ..good()
            },
            "colluding_permille",
        ),
        (
            RoundConfig {
                noise_target_variance: 24.0,
                ..good()
            },
            "noise_target_variance",
        ),
    ] {
        assert!(
            matches!(read(weaker, strict()), Refusal::WeakerTerms { term, .. } if term == name),
            "{name}"
        );
    }
    for (other, expected) in [
        (
            RoundConfig {
                model: [9; 32],
                ..good()
            },
            Refusal::OtherModel,
        ),
        (
            RoundConfig {
                mechanism: [9; 32],
                ..good()
            },
            Refusal::OtherMechanism,
        ),
        (
            RoundConfig {
                federation: [9; 32],
                ..good()
            },
            Refusal::OtherFederation,
        ),
    ] {
        assert_eq!(read(other, strict()), expected);
    }
    let stranger = Policy {
        server: [7; 32],
        ..strict()
    };
    assert_eq!(read(good(), stranger), Refusal::Signature { message: "offer" });
}

#[test]
fn terms_that_the_roster_makes_unsafe_are_refused() {
    // Floor of survivors at half: two disjoint sets could be confirmed. Too little noise for the honest survivors.
    for (config, expected) in [
        (
            RoundConfig {
                survivors_min: 5,
                ..terms()
            },
            Refusal::SurvivorFloor {
                clients: 9,
                colluding: 1,
                survivors: 5,
            },
        ),
        (
            RoundConfig {
                noise_share_variance: 4.0,
                noise_target_variance: 24.5,
                ..terms()
            },
            Refusal::Noise {
                target: 24.5,
                got: 24.0,
            },
        ),
    ] {
        let mut world = World::new(config);
        for client in &mut world.clients {
            world
                .server
                .handle_advertisement(&client.handle_mark_stored().unwrap())
                .unwrap();
        }
        // The honest server sees it too.
        assert_eq!(
            world.server.close_advertising(),
            Err(Abort::Roster(expected.clone()))
        );
        let mut members: Vec<Advertisement> = Vec::new();
        let mut fresh = World::new(world.config.clone());
        for client in &mut fresh.clients {
            members.push(Advertisement::decode(&client.handle_mark_stored().unwrap()).unwrap());
        }
        let client = &mut fresh.clients[0];
        let answer = client.handle_roster(&Roster(members).encode());
        assert_refused(client, answer, |refusal| *refusal == expected);
    }
}

#[test]
fn one_client_with_another_model_is_not_in_the_sum() {
    // The server signs other terms for client 0 and gives it the model that fits them.
    let other = RoundConfig {
        model: [99; 32],
        ..terms()
    };
    let offer = Server::new(other.clone(), authority().public(), server_key())
        .offer()
        .unwrap();
    let expected = Expected {
        model: [99; 32],
        ..EXPECTED
    };
    let mut victim = Client::new(
        &offer,
        policy(),
        expected,
        None,
        certificate(0),
        identity(0),
        entropy(0, &other),
    )
    .unwrap();
    let advertisement = victim.handle_mark_stored().unwrap();
    let mut world = World::new(terms());
    assert!(matches!(
        world.server.handle_advertisement(&advertisement),
        Err(crate::Fault::Signature { .. })
    ));
    // A lying server puts it on the roster all the same. The neighbours see a signature over other terms, and so does it.
    let mut members = vec![Advertisement::decode(&advertisement).unwrap()];
    for client in &mut world.clients[1..] {
        members.push(Advertisement::decode(&client.handle_mark_stored().unwrap()).unwrap());
    }
    let roster = Roster(members).encode();
    for client in std::iter::once(&mut victim).chain(&mut world.clients[1..]) {
        let answer = client.handle_roster(&roster);
        assert_refused(client, answer, |refusal| {
            *refusal
                == Refusal::Signature {
                    message: "advertisement",
                }
        });
    }
}

/// The clients at the border of an arc of the ring, when everybody within half a degree on either side is declared dropped.
fn cut(session: &Session, arc: usize) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let (n, half) = (session.n(), session.parameters.degree as usize / 2);
    let ring = ring(&session.root, n);
    let dropped = (0..half).flat_map(|i| [ring[arc + i], ring[n - 1 - i]]).collect();
    (ring[..arc].iter().copied().collect(), dropped)
}

#[test]
fn dropouts_chosen_to_isolate_a_group_open_nothing() {
    let n = 80;
    let config = RoundConfig {
        survivors_min: 42,
        dropout_permille: 50,
        ..config(n, Topology::Regular)
    };
    let mut world = World::new(config);
    let tap = Wiretap::masked(&mut world, &[]);
    let (n, degree) = (n as usize, tap.session.parameters.degree as usize);
    assert!(degree < n / 2, "the ring can be cut at all: {degree}");
    let arc = n - degree - degree / 2;
    let (inside, dropped) = cut(&tap.session, arc);
    let survivors = places(n, (0..n).filter(|i| !dropped.contains(i)));
    // Everything the server needs is there: the cut is clean, and the floor is met.
    for &i in &inside {
        assert!(
            tap.session
                .neighbors_in(i, &survivors)
                .all(|other| inside.contains(&other))
        );
    }
    let mut n_refusals = 0;
    for &i in &inside {
        let answer = world.clients[i].handle_survivors(&tap.survivors(i, &survivors));
        if let Err(refusal) = answer {
            n_refusals += 1;
            assert!(
                matches!(
                    refusal,
                    Refusal::TooFew {
                        what: "neighbours who survived",
                        ..
                    }
                ),
                "{refusal}"
            );
            assert_locked(&mut world.clients[i]);
        }
    }
    assert!(n_refusals > 0);
}

#[test]
fn the_threshold_stops_every_cut_of_the_ring_and_a_smaller_one_would_not() {
    // For each arc: is there a client inside whose secrets nobody can open, with all colluders helping?
    let config = RoundConfig {
        survivors_min: 600,
        colluding: 100,
        dropout_permille: 100,
        ..config(1_000, Topology::Regular)
    };
    let parameters = config.check_roster(1_000).unwrap();
    let half = parameters.degree as usize / 2;
    for seed in 0..20 {
        let ring = ring(&[seed; 32], 1_000);
        let is_colluding = |i: usize| ring[i % 1_000] < 100;
        for first in 0..1_000 {
            // The client at `first` borders a cut to its left: of its neighbours there only colluders help.
            let helpers = half
                + (1..=half)
                    .filter(|distance| is_colluding(first + 1_000 - distance))
                    .count();
            assert!(helpers < parameters.threshold as usize, "{helpers}");
            // The threshold that suffices against chance, k/2 + 3 or so, is reached by honest neighbours and few colluders.
        }
    }
    let weak = half + 1;
    let ring = ring(&[0; 32], 1_000);
    let with_help = (0..1_000)
        .filter(|first| (1..=half).any(|d| ring[(first + 1_000 - d) % 1_000] < 100))
        .count();
    assert!(with_help > 900 && weak < parameters.threshold as usize);
}

#[test]
fn genuine_messages_of_another_kind_lead_nowhere() {
    let mut world = World::shared(terms());
    let request = world.server.mask_request(number(0)).unwrap();
    assert_eq!(request[0], Delivery::KIND);
    let client = &mut world.clients[0];
    assert!(matches!(
        client.handle_survivors(&request),
        Err(Refusal::AlreadyAnswered { .. })
    ));
    assert!(matches!(
        client.handle_unmask_request(&request, Duration::ZERO),
        Err(Refusal::AlreadyAnswered { .. })
    ));
    assert!(client.handle_mask_request(&request).is_ok());
}
