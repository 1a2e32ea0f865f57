//! Clients that lie. The honest server says who, and either the round goes on without the lie or it ends with proof.

use super::*;
use crate::Fault;
use crate::crypto::seal;
use crate::merkle::Tree;
use crate::message::{
    Advertisement, Header, OPENED_LABEL, OPENED_SHARES, OPENING_BYTES, Roster, Secret, Shares,
    share_commitment,
};
use crate::session::Session;
use sha2::{Digest, Sha256};

fn terms() -> RoundConfig {
    config(9, Topology::Complete)
}

/// Signs a dealer's shares again after they were changed.
fn sign_shares(session: &Session, dealer: usize, shares: &mut Shares) {
    let leaves = session.graph[dealer].iter().zip(&shares.dealt);
    let leaves = leaves.map(|(holder, dealt)| dealt.leaf(session.client(*holder as usize)));
    let root = Tree::new(leaves.collect()).root();
    let parts: [&[u8]; 5] = [
        &session.config_hash,
        &session.root,
        &shares.client.to_le_bytes(),
        &shares.own,
        &root,
    ];
    shares.signature = identity(dealer).sign(Shares::LABEL, &parts);
}

/// A world in which client 0 has changed its shares, and everybody else is honest.
fn dealt(change: impl Fn(&Session, &mut Shares)) -> World {
    let mut world = World::new(terms());
    let roster = world.advertise(|_| true).unwrap();
    let session = Session::new(terms(), Roster::decode(&roster, 9).unwrap()).unwrap();
    for (i, client) in world.clients.iter_mut().enumerate() {
        let mut message = client.handle_roster(&roster).unwrap();
        if i == 0 {
            let mut shares = Shares::decode(&message, 8).unwrap();
            change(&session, &mut shares);
            sign_shares(&session, 0, &mut shares);
            message = shares.encode();
        }
        world.server.handle_shares(&message).unwrap();
    }
    world.server.close_sharing().unwrap();
    world
}

#[test]
fn a_dealer_of_nonsense_to_few_changes_nothing() {
    // Two holders cannot open their shares; six others can, and six are needed.
    let mut world = dealt(|_, shares| {
        shares.dealt[3].sealed[7] ^= 1;
        shares.dealt[5].sealed[7] ^= 1;
    });
    assert_eq!(world.mask(|_| true).unwrap(), []);
    for (i, client) in world.clients.iter().enumerate() {
        let expected: &[u64] = if i == 4 || i == 6 { &[3] } else { &[] };
        assert_eq!(client.bad_dealers(), expected);
    }
    assert_eq!(world.confirm(|_| true).unwrap(), []);
    assert_eq!(world.open(|_| true).unwrap().values, world.expected(|_| true));
}

#[test]
fn a_dealer_of_nonsense_to_all_ends_the_attempt_only() {
    let mut world = dealt(|_, shares| shares.dealt.iter_mut().for_each(|dealt| dealt.sealed[7] ^= 1));
    assert_eq!(world.mask(|_| true).unwrap(), []);
    world.confirm(|_| true).unwrap();
    let abort = world.open(|_| true).unwrap_err();
    assert_eq!(
        abort,
        Abort::Unrecoverable {
            client: 3,
            least: 6,
            got: 0
        }
    );
}

#[test]
fn a_dealer_whose_shares_give_something_else_is_named() {
    for dropped in [false, true] {
        let mut world = dealt(|_, shares| shares.own[0] ^= 1);
        assert_eq!(world.mask(|i| !dropped || i != 0).unwrap(), []);
        world.confirm(|i| !dropped || i != 0).unwrap();
        let result = world.open(|i| !dropped || i != 0);
        if dropped {
            // Its own mask is not needed then.
            assert_eq!(result.unwrap().values, world.expected(|i| i != 0));
        } else {
            assert_eq!(result.unwrap_err(), Abort::Dealer { client: 3 });
        }
    }
}

#[test]
fn a_dealer_that_shares_another_key_is_named() {
    // Client 0 seals honest-looking shares, with right commitments, of a pairwise seed that does not give its mask key.
    let mut world = World::new(terms());
    let roster = world.advertise(|_| true).unwrap();
    let session = Session::new(terms(), Roster::decode(&roster, 9).unwrap()).unwrap();
    let other = crate::shamir::split(&[42; 32], 6, 8, &mut Entropy::new([43; 32]).stream());
    for (i, client) in world.clients.iter_mut().enumerate() {
        let mut message = client.handle_roster(&roster).unwrap();
        if i == 0 {
            let mut shares = Shares::decode(&message, 8).unwrap();
            for (dealt, (share, holder)) in shares.dealt.iter_mut().zip(other.iter().zip(1..9_usize)) {
                // The client's own secrets, drawn as it draws them.
                let mut rng = entropy(0, &terms()).stream();
                let mut draw = || {
                    let mut bytes = [0; 32];
                    rand_core::Rng::fill_bytes(&mut rng, &mut bytes);
                    bytes
                };
                let (_, _, share_secret) = (draw(), draw(), draw());
                let key = crate::crypto::AgreementKey::new(&share_secret);
                let agreed = key.agree(&session.roster.0[holder].share_key).unwrap();
                let info: [&[u8]; 3] = [
                    &session.config_hash,
                    &number(0).to_le_bytes(),
                    &number(holder).to_le_bytes(),
                ];
                let sealing =
                    crate::crypto::derive(&session.root, agreed.as_slice(), "umbel/sa1/seal", &info);
                let context = session.sealing_context(0, holder);
                let plain = crate::crypto::open(&sealing, &context, &dealt.sealed).unwrap();
                let mut opening = [0; OPENING_BYTES];
                opening[..40].copy_from_slice(share.to_bytes().as_slice());
                let sealed = seal(&sealing, &context, &[&plain[..OPENING_BYTES], &opening].concat());
                dealt.sealed.copy_from_slice(&sealed);
                dealt.pairwise = share_commitment(
                    &session.config_hash,
                    number(0),
                    number(holder),
                    Secret::Pairwise,
                    &opening,
                );
            }
            sign_shares(&session, 0, &mut shares);
            message = shares.encode();
        }
        world.server.handle_shares(&message).unwrap();
    }
    world.server.close_sharing().unwrap();
    assert_eq!(world.mask(|i| i != 0).unwrap(), []);
    assert!(world.clients.iter().all(|client| client.bad_dealers().is_empty()));
    world.confirm(|i| i != 0).unwrap();
    assert_eq!(world.open(|i| i != 0).unwrap_err(), Abort::Dealer { client: 3 });
}

#[test]
fn wrongly_opened_shares_are_left_out_and_their_holder_named() {
    let mut world = World::confirmed(terms());
    let request = world.server.charge([9; 32]).unwrap();
    for (i, client) in world.clients.iter_mut().enumerate() {
        let mut message = client.handle_unmask_request(&request, Duration::ZERO).unwrap();
        if i == 4 {
            // Each share changed, and all signed again.
            let view = client.receipt().unwrap().view;
            let end = message.len() - 64;
            for opening in message[9..end].chunks_mut(1 + OPENING_BYTES) {
                opening[1] ^= 1;
            }
            let digest: [u8; 32] = Sha256::digest(&message[9..end]).into();
            let signature = identity(4).sign(OPENED_LABEL, &[&view, &number(4).to_le_bytes(), &digest]);
            message[end..].copy_from_slice(&signature);
            assert_eq!(message[0], OPENED_SHARES);
        }
        world.server.handle_opened_shares(&message).unwrap();
    }
    let sum = world.server.finish(1).unwrap();
    assert_eq!(sum.values, world.expected(|_| true));
    assert_eq!(sum.wrong_holders, [number(4)]);
}

#[test]
fn inputs_of_another_length_or_view_are_refused_and_change_nothing() {
    let mut world = World::new(terms());
    let roster = world.advertise(|_| true).unwrap();
    let session = Session::new(terms(), Roster::decode(&roster, 9).unwrap()).unwrap();
    world.share(&roster, |_| true).unwrap();
    let genuine = world.masked_input(0).unwrap();
    let forge = |sharers: [u8; 32], packed: &[u8]| {
        let client = number(0).to_le_bytes();
        let input: [u8; 32] = Sha256::digest(packed).into();
        let parts: [&[u8]; 5] = [&session.config_hash, &session.root, &client, &sharers, &input];
        let signature = identity(0).sign(Header::LABEL, &parts);
        let mut message = vec![genuine[0]];
        for part in [&client[..], &sharers, &input, &signature, packed] {
            message.extend_from_slice(part);
        }
        message
    };
    let (sharers, packed) = (genuine[9..41].try_into().unwrap(), &genuine[genuine.len() - 23..]);
    assert_eq!(forge(sharers, packed), genuine);
    for wrong in [&packed[1..], &[packed, &[0]].concat(), &[]] {
        let fault = world
            .server
            .handle_masked_input(&forge(sharers, wrong))
            .unwrap_err();
        assert!(
            matches!(
                fault,
                Fault::Length {
                    client: 3,
                    expected: 23,
                    ..
                }
            ),
            "{fault}"
        );
    }
    let fault = world
        .server
        .handle_masked_input(&forge([0; 32], packed))
        .unwrap_err();
    assert_eq!(fault, Fault::OtherView { client: 3 });
    // The genuine one still counts, once.
    world.server.handle_masked_input(&genuine).unwrap();
    let fault = world.server.handle_masked_input(&genuine).unwrap_err();
    assert!(matches!(fault, Fault::AlreadySent { client: 3, .. }));
    world.mask(|i| i != 0).unwrap();
    world.confirm(|_| true).unwrap();
    assert_eq!(world.open(|_| true).unwrap().values, world.expected(|_| true));
}

#[test]
fn every_message_counts_once_and_at_its_step_only() {
    let mut world = World::new(terms());
    let mut first = world.clients[0].handle_mark_stored().unwrap();
    world.server.handle_advertisement(&first).unwrap();
    let again = world.server.handle_advertisement(&first);
    assert!(matches!(again, Err(Fault::AlreadySent { client: 3, .. })));
    // The same keys under another name.
    let mut stolen = Advertisement::decode(&first).unwrap();
    stolen.certificate = certificate(1);
    stolen.sign(&identity(1), &terms().hash());
    assert_eq!(
        world.server.handle_advertisement(&stolen.encode()),
        Err(Fault::Key { client: 13 })
    );
    let mut uncertified = Advertisement::decode(&world.clients[1].handle_mark_stored().unwrap()).unwrap();
    uncertified.certificate.signature[0] ^= 1;
    let fault = world.server.handle_advertisement(&uncertified.encode());
    assert_eq!(fault, Err(Fault::Certificate { client: 13 }));
    let mut low_order = uncertified;
    low_order.certificate = certificate(1);
    low_order.share_key = [0; 32];
    low_order.sign(&identity(1), &terms().hash());
    assert_eq!(
        world.server.handle_advertisement(&low_order.encode()),
        Err(Fault::Key { client: 13 })
    );
    for message in [4, 6, 8, 10] {
        first[0] = message;
        let too_early = match message {
            4 => world.server.handle_shares(&first),
            6 => world.server.handle_masked_input(&first),
            8 => world.server.handle_confirmation(&first),
            _ => world.server.handle_opened_shares(&first),
        };
        assert!(matches!(too_early, Err(Fault::WrongStep { .. })));
    }
    let mut world = World::masked(terms());
    let confirmation = world.clients[2]
        .handle_survivors(&world.server.survivors(number(2)).unwrap())
        .unwrap();
    world.server.handle_confirmation(&confirmation).unwrap();
    assert!(matches!(
        world.server.handle_confirmation(&confirmation),
        Err(Fault::AlreadySent { .. })
    ));
    // Somebody else's name over one's own signature.
    let mut stolen = confirmation;
    stolen[1..9].copy_from_slice(&number(3).to_le_bytes());
    assert_eq!(
        world.server.handle_confirmation(&stolen),
        Err(Fault::OtherView { client: number(3) })
    );
    stolen[1..9].copy_from_slice(&4_u64.to_le_bytes());
    assert_eq!(
        world.server.handle_confirmation(&stolen),
        Err(Fault::Uninvited { client: 4 })
    );
}

#[test]
fn a_driver_cannot_skip_a_step() {
    let mut world = World::shared(terms());
    assert!(matches!(
        world.server.close_advertising(),
        Err(Abort::ApiMisuse { .. })
    ));
    assert!(matches!(
        world.server.close_confirming(),
        Err(Abort::ApiMisuse { .. })
    ));
    assert!(matches!(
        world.server.charge([0; 32]),
        Err(Abort::ApiMisuse { .. })
    ));
    assert!(matches!(world.server.finish(1), Err(Abort::ApiMisuse { .. })));
    assert!(world.server.survivors(number(0)).is_none());
    assert_eq!(world.mask(|_| true).unwrap(), []);
}

#[test]
fn too_few_sharers_or_survivors_end_the_attempt_before_anything_is_opened() {
    let mut world = World::new(terms());
    let roster = world.advertise(|_| true).unwrap();
    let abort = world.share(&roster, |i| i < 6).unwrap_err();
    assert!(matches!(
        abort,
        Abort::TooFew {
            what: "clients who shared",
            least: 7,
            got: 6
        }
    ));
    let mut world = World::shared(terms());
    let abort = world.mask(|i| i < 6).unwrap_err();
    assert!(matches!(
        abort,
        Abort::TooFew {
            what: "survivors",
            least: 7,
            got: 6
        }
    ));
    let mut world = World::masked(terms());
    let abort = world.confirm(|i| i < 6).unwrap_err();
    assert!(matches!(
        abort,
        Abort::TooFew {
            what: "confirmations",
            least: 7,
            got: 6
        }
    ));
}
