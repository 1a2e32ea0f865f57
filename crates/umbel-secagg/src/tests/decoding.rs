//! Bytes from outside: no message panics, and what was changed on the way is refused.

use proptest::prelude::*;

use super::*;

/// Takes bytes to a step of the protocol; true if they were accepted.
type Step = Box<dyn Fn(&[u8]) -> bool>;

/// For each kind of message a genuine one, and a way to hand any bytes to a fresh receiver that waits for it.
fn steps() -> Vec<(&'static str, Vec<u8>, Step)> {
    let terms = || config(4, Topology::Complete);
    let offer = World::new(terms()).server.offer().unwrap();
    let mut steps: Vec<(&'static str, Vec<u8>, Step)> = Vec::new();
    steps.push((
        "offer",
        offer,
        Box::new(move |bytes| client(0, bytes, &terms()).is_ok()),
    ));

    let advertisement = World::new(terms()).clients[1].handle_mark_stored().unwrap();
    steps.push((
        "advertisement",
        advertisement,
        Box::new(move |bytes| World::new(terms()).server.handle_advertisement(bytes).is_ok()),
    ));

    let roster = World::new(terms()).advertise(|_| true).unwrap();
    steps.push((
        "roster",
        roster.clone(),
        Box::new(move |bytes| {
            let mut world = World::new(terms());
            world.advertise(|_| true).unwrap();
            world.clients[2].handle_roster(bytes).is_ok()
        }),
    ));

    let advertised = move || {
        let mut world = World::new(terms());
        world.advertise(|_| true).unwrap();
        world
    };
    let shares = advertised().clients[0].handle_roster(&roster).unwrap();
    steps.push((
        "shares",
        shares,
        Box::new(move |bytes| advertised().server.handle_shares(bytes).is_ok()),
    ));

    let shared = move || World::shared(terms());
    let request = shared().server.mask_request(number(0)).unwrap();
    steps.push((
        "mask request",
        request,
        Box::new(move |bytes| shared().clients[0].handle_mask_request(bytes).is_ok()),
    ));

    let input = shared().masked_input(3).unwrap();
    steps.push((
        "input",
        input,
        Box::new(move |bytes| shared().server.handle_masked_input(bytes).is_ok()),
    ));

    let masked = move || World::masked(terms());
    let survivors = masked().server.survivors(number(1)).unwrap();
    steps.push((
        "survivors",
        survivors.clone(),
        Box::new(move |bytes| masked().clients[1].handle_survivors(bytes).is_ok()),
    ));
    let confirmation = masked().clients[1].handle_survivors(&survivors).unwrap();
    steps.push((
        "confirmation",
        confirmation,
        Box::new(move |bytes| masked().server.handle_confirmation(bytes).is_ok()),
    ));

    let confirmed = move || World::confirmed(terms());
    let request = confirmed().server.charge([9; 32]).unwrap();
    steps.push((
        "unmask request",
        request.clone(),
        Box::new(move |bytes| {
            confirmed().clients[2]
                .handle_unmask_request(bytes, Duration::ZERO)
                .is_ok()
        }),
    ));
    let opened = confirmed().clients[2]
        .handle_unmask_request(&request, Duration::ZERO)
        .unwrap();
    steps.push((
        "opened shares",
        opened,
        Box::new(move |bytes| {
            let mut world = confirmed();
            world.server.charge([9; 32]).unwrap();
            world.server.handle_opened_shares(bytes).is_ok()
        }),
    ));
    steps
}

#[test]
fn genuine_messages_are_taken_and_changed_ones_refused() {
    for (name, message, take) in steps() {
        assert!(take(&message), "{name}");
        assert!(!take(&[]), "{name}");
        assert!(!take(&[&message[..], &[0]].concat()), "{name}, one byte more");
        assert!(!take(&message[..message.len() - 1]), "{name}, one byte less");
        // Every signature covers all that matters, so any bit counts. A stride that meets all fields keeps this quick.
        for place in (0..message.len()).step_by(message.len() / 9 + 1) {
            let mut changed = message.clone();
            changed[place] ^= 1 << (place % 8);
            assert!(!take(&changed), "{name}, byte {place}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, rng_seed: proptest::test_runner::RngSeed::Fixed(8), ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_anybody_panic(
        noise in prop::collection::vec(any::<u8>(), 0..700),
        cut in any::<prop::sample::Index>(),
        splice in any::<prop::sample::Index>(),
    ) {
        for (name, message, take) in steps() {
            let mut with_kind = noise.clone();
            if let Some(first) = with_kind.first_mut() {
                *first = message[0];
            }
            prop_assert!(!take(&with_kind), "{name}");
            prop_assert!(!take(&message[..cut.index(message.len())]), "{name}");
            let mut spliced = message.clone();
            let at = splice.index(spliced.len());
            let end = spliced.len().min(at + noise.len());
            spliced[at..end].copy_from_slice(&noise[..end - at]);
            prop_assert!(!take(&spliced) || spliced == message, "{name}");
        }
    }
}
