//! Bytes from outside: each of the ten messages, changed in every way, is given to the side that waits for it.
//!
//! Whatever comes, nobody panics; nobody takes more memory than genuine bytes take and twice the length of what came; every refusal says
//! what is wrong; and what is refused changes nothing: the server comes to the same sum, the client opens nothing any more.
//! The changes are drawn from fixed seeds.

use std::collections::BTreeMap;

use allocation_counter::measure;
use chacha20::ChaCha20Rng;
use rand_core::Rng;

use super::*;
use crate::{DecodeError, Fault, MessageKind};

/// Clients, of whom the last one shares its secrets and vanishes, so that shares of both secrets are opened.
const N: usize = 7;
/// Who sends or receives what is changed.
const WHO: usize = 2;
/// Where an unmask request says how many confirmations follow: behind kind, charge and signature.
const COUNT_AT: usize = 1 + 32 + 64;
/// An advertisement without its kind.
const ENTRY: usize = 232;

/// A whole attempt, message by message; those that one client sends or receives at its place.
struct Recorded {
    terms: RoundConfig,
    messages: BTreeMap<MessageKind, Vec<Vec<u8>>>,
    inputs: Vec<Vec<i64>>,
    sum: Sum,
}

impl Recorded {
    fn new(attempt: u32) -> Self {
        let terms = RoundConfig {
            attempt,
            ..config(7, Topology::Complete)
        };
        let mut world = World::new(terms.clone());
        let mut messages = BTreeMap::from([(MessageKind::Offer, vec![world.server.offer().unwrap(); N])]);
        let mut sum = None;
        for kind in MessageKind::ALL.into_iter().filter(|kind| kind.is_from_client()) {
            let n = if kind > MessageKind::Shares { N - 1 } else { N };
            let sent: Vec<Vec<u8>> = (0..n)
                .map(|i| {
                    let client = &mut world.clients[i];
                    if kind == MessageKind::Advertisement {
                        return client.handle_mark_stored().unwrap();
                    }
                    let received = &messages[&before(kind)][i];
                    take(client, before(kind), received, &world.inputs[i])
                        .unwrap()
                        .unwrap()
                })
                .collect();
            for message in &sent {
                give(&mut world.server, kind, message).unwrap();
            }
            messages.insert(kind, sent);
            match close(&mut world.server, kind) {
                Closed::Sum(all) => sum = Some(all),
                Closed::Messages(kind, next) => {
                    messages.insert(kind, next);
                }
            }
        }
        let sum = sum.unwrap();
        assert_eq!(sum.values, world.expected(|i| i < N - 1));
        Self {
            terms,
            messages,
            inputs: world.inputs,
            sum,
        }
    }

    /// The client that waits for a message of this kind.
    fn client_before(&self, kind: MessageKind) -> Client {
        let mut client = client(WHO, &self.messages[&MessageKind::Offer][WHO], &self.terms).unwrap();
        client.handle_mark_stored().unwrap();
        for earlier in MessageKind::ALL.into_iter().skip(1) {
            if !earlier.is_from_client() && earlier < kind {
                take(
                    &mut client,
                    earlier,
                    &self.messages[&earlier][WHO],
                    &self.inputs[WHO],
                )
                .unwrap();
            }
        }
        client
    }

    /// The server that waits for messages of this kind.
    fn server_before(&self, kind: MessageKind) -> Server {
        let mut server = Server::new(self.terms.clone(), authority().public(), server_key());
        for earlier in MessageKind::ALL {
            if earlier.is_from_client() && earlier < kind {
                self.feed(&mut server, earlier);
            }
        }
        server
    }

    /// Gives a server all genuine messages of a kind, none of which is taken twice.
    fn feed(&self, server: &mut Server, kind: MessageKind) -> Closed {
        for message in &self.messages[&kind] {
            give(server, kind, message).unwrap();
        }
        let fault = give(server, kind, &self.messages[&kind][WHO]).unwrap_err();
        assert!(
            matches!(fault, Fault::AlreadySent { client, .. } if client == number(WHO)),
            "{fault}"
        );
        close(server, kind)
    }
}

/// What the server's messages of a kind are answered to.
fn before(kind: MessageKind) -> MessageKind {
    MessageKind::from_code(u32::from(kind.code()) - 1).unwrap()
}

/// Gives a client what it waits for; what it answers, if that is not the last.
fn take(
    client: &mut Client,
    kind: MessageKind,
    message: &[u8],
    input: &[i64],
) -> Result<Option<Vec<u8>>, Refusal> {
    match kind {
        MessageKind::Roster => client.handle_roster(message).map(Some),
        MessageKind::MaskRequest => {
            client.handle_mask_request(message)?;
            client.handle_charge_stored(input).map(Some)
        }
        MessageKind::Survivors => client.handle_survivors(message).map(Some),
        MessageKind::UnmaskRequest => client.handle_unmask_request(message, Duration::ZERO).map(Some),
        other => panic!("{other:?}"),
    }
}

fn give(server: &mut Server, kind: MessageKind, message: &[u8]) -> Result<(), Fault> {
    match kind {
        MessageKind::Advertisement => server.handle_advertisement(message),
        MessageKind::Shares => server.handle_shares(message),
        MessageKind::MaskedInput => server.handle_masked_input(message),
        MessageKind::Confirmation => server.handle_confirmation(message),
        MessageKind::OpenedShares => server.handle_opened_shares(message),
        other => panic!("{other:?}"),
    }
}

/// What a step ends with: a message for each client, or the sum.
enum Closed {
    Messages(MessageKind, Vec<Vec<u8>>),
    Sum(Sum),
}

fn close(server: &mut Server, kind: MessageKind) -> Closed {
    let to_each = |next: &dyn Fn(u64) -> Option<Vec<u8>>| (0..N).map_while(|i| next(number(i))).collect();
    match kind {
        MessageKind::Advertisement => {
            let roster = server.close_advertising().unwrap();
            Closed::Messages(MessageKind::Roster, vec![roster; N])
        }
        MessageKind::Shares => {
            server.close_sharing().unwrap();
            Closed::Messages(
                MessageKind::MaskRequest,
                to_each(&|client| server.mask_request(client)),
            )
        }
        MessageKind::MaskedInput => {
            server.close_masking().unwrap();
            Closed::Messages(
                MessageKind::Survivors,
                to_each(&|client| server.survivors(client)),
            )
        }
        MessageKind::Confirmation => {
            server.close_confirming().unwrap();
            let request = server.charge([9; 32]).unwrap();
            Closed::Messages(MessageKind::UnmaskRequest, vec![request; N])
        }
        _ => Closed::Sum(server.finish(2).unwrap()),
    }
}

/// What a refusal must say.
#[derive(Debug)]
enum Saying {
    Exactly(DecodeError),
    /// That some field is missing.
    TooShort,
    Anything,
    /// It is no refusal: a roster without one of the others is a roster, and whoever is on another one will not agree with it.
    Taken,
}

struct Mutant {
    bytes: Vec<u8>,
    /// How it was made.
    what: String,
    expected: Saying,
}

/// All the changed messages that are given to a receiver of `kind`.
struct Mutants<'a> {
    kind: MessageKind,
    genuine: &'a [u8],
    numbers: ChaCha20Rng,
    made: Vec<Mutant>,
}

impl Mutants<'_> {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.numbers.next_u64() % bound as u64).unwrap()
    }

    fn push(&mut self, what: String, bytes: Vec<u8>, expected: Saying) {
        if bytes != self.genuine {
            self.made.push(Mutant {
                bytes,
                what,
                expected,
            });
        }
    }

    /// Whether the end of the message is known before all of it is checked. The roster and the packed input take whatever follows.
    fn has_known_end(&self) -> bool {
        !matches!(self.kind, MessageKind::Roster | MessageKind::MaskedInput)
    }

    fn random_bytes(&mut self) {
        let length = self.genuine.len();
        for case in 0..60 {
            // Now and then more than any transport lets through.
            let size = if case % 20 == 0 { 100_000 } else { 2 * length };
            let mut noise = vec![0; self.below(size) + 1];
            self.numbers.fill_bytes(&mut noise);
            if case % 4 != 0 {
                noise[0] = self.kind.code();
            }
            // Or from a place on only.
            if case % 4 == 2 {
                let start = self.below(length.min(noise.len()));
                noise[..start].copy_from_slice(&self.genuine[..start]);
            }
            self.push(format!("random bytes {case}"), noise, Saying::Anything);
        }
    }

    fn kinds(&mut self) {
        let expected = self.kind.code();
        for got in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 128 | expected, 255] {
            if got != expected {
                let mut bytes = self.genuine.to_vec();
                bytes[0] = got;
                let error = DecodeError::Kind { expected, got };
                self.push(format!("kind {got}"), bytes, Saying::Exactly(error));
            }
        }
    }

    fn lengths(&mut self) {
        let (genuine, length) = (self.genuine, self.genuine.len());
        let error = DecodeError::TooShort { field: "kind" };
        self.push("nothing".to_owned(), Vec::new(), Saying::Exactly(error));
        let cuts: Vec<usize> = (0..40).map(|_| self.below(length - 1) + 1).collect();
        for cut in [1, 2, length - 1].into_iter().chain(cuts) {
            let expected = if self.has_known_end() {
                Saying::TooShort
            } else {
                Saying::Anything
            };
            self.push(format!("cut at {cut}"), genuine[..cut].to_vec(), expected);
        }
        for more in [1, 4, length, 10 * length] {
            let added: Vec<u8> = genuine[1..].iter().copied().cycle().take(more).collect();
            let expected = if self.has_known_end() {
                Saying::Exactly(DecodeError::TooLong(more))
            } else {
                Saying::Anything
            };
            self.push(format!("{more} bytes more"), [genuine, &added].concat(), expected);
        }
    }

    fn flipped_bits(&mut self) {
        for case in 0..200 {
            let place = if case < 8 {
                0
            } else {
                self.below(self.genuine.len())
            };
            let bit = if case < 8 { case } else { self.below(8) };
            let mut bytes = self.genuine.to_vec();
            bytes[place] ^= 1 << bit;
            self.push(format!("bit {bit} of byte {place}"), bytes, Saying::Anything);
        }
    }

    /// Whatever may be a number, a length or a set gets another value.
    fn fields(&mut self) {
        let length = self.genuine.len();
        let mut places: Vec<usize> = (0..20).map(|_| self.below(length - 4) + 1).collect();
        // The first field of each message; the only count that any message holds.
        places.extend([1, COUNT_AT].into_iter().filter(|place| place + 4 <= length));
        for place in places {
            let old = u32::from_le_bytes(self.genuine[place..place + 4].try_into().unwrap());
            for new in [0, 1, old.wrapping_sub(1), old.wrapping_add(1), 1 << 31, u32::MAX] {
                let mut bytes = self.genuine.to_vec();
                bytes[place..place + 4].copy_from_slice(&new.to_le_bytes());
                self.push(format!("{new} at {place}"), bytes, Saying::Anything);
            }
        }
    }

    /// Parts that are left out, repeated or exchanged, among them whole entries of the roster.
    fn parts(&mut self) {
        let length = self.genuine.len();
        for case in 0..40 {
            let (size, start) = if self.kind == MessageKind::Roster && case % 2 == 0 {
                (ENTRY, 1 + ENTRY * self.below(N - 1))
            } else {
                let size = self.below(length / 3) + 1;
                (size, 1 + self.below(length - 2 * size))
            };
            let (head, rest) = self.genuine.split_at(start);
            let (part, tail) = rest.split_at(size);
            let next = size.min(tail.len());
            let bytes = match case % 3 {
                0 => [head, tail].concat(),
                1 => [head, part, part, tail].concat(),
                _ => [head, &tail[..next], part, &tail[next..]].concat(),
            };
            let is_another_entry =
                self.kind == MessageKind::Roster && size == ENTRY && start != 1 + ENTRY * WHO;
            let expected = if is_another_entry && case % 3 == 0 {
                Saying::Taken
            } else {
                Saying::Anything
            };
            self.push(format!("part {size} at {start}, {case}"), bytes, expected);
        }
    }

    /// Genuine messages, but not the one that is waited for.
    fn swapped(&mut self, own: &Recorded, other: &Recorded) {
        for (&kind, messages) in &own.messages {
            if kind != self.kind {
                let (expected, got) = (self.kind.code(), kind.code());
                let error = DecodeError::Kind { expected, got };
                self.push(format!("{kind:?}"), messages[WHO].clone(), Saying::Exactly(error));
            } else if !kind.is_from_client() {
                // Where all get the same it is no other message.
                self.push(
                    "another client's".to_owned(),
                    messages[WHO + 1].clone(),
                    Saying::Anything,
                );
            }
        }
        // The offer of another attempt is an offer.
        if self.kind != MessageKind::Offer {
            let message = other.messages[&self.kind][WHO].clone();
            self.push("another attempt's".to_owned(), message, Saying::Anything);
        }
    }
}

fn mutants(kind: MessageKind, own: &Recorded, other: &Recorded) -> Vec<Mutant> {
    let mut mutants = Mutants {
        kind,
        genuine: &own.messages[&kind][WHO],
        numbers: Entropy::new([kind.code(); 32]).stream(),
        made: Vec::new(),
    };
    mutants.random_bytes();
    mutants.kinds();
    mutants.lengths();
    mutants.flipped_bits();
    mutants.fields();
    mutants.parts();
    mutants.swapped(own, other);
    mutants.made
}

/// What became of a message: whether and how it was refused.
type Answer = Result<(), (Option<DecodeError>, String)>;

fn of_server(result: Result<(), Fault>) -> Answer {
    result.map_err(|fault| match fault {
        Fault::Decode(error) => (Some(error), fault.to_string()),
        // Whatever else is wrong is some client's fault, who is named.
        _ => {
            let text = fault.to_string();
            assert!(text.starts_with("client "), "{text}");
            (None, text)
        }
    })
}

fn of_client<T>(result: Result<T, Refusal>) -> Answer {
    result.map(drop).map_err(|refusal| {
        assert!(!matches!(refusal, Refusal::AlreadyAnswered { .. }), "{refusal}");
        match refusal {
            Refusal::Decode(error) => (Some(error), refusal.to_string()),
            _ => (None, refusal.to_string()),
        }
    })
}

/// The result, and the most bytes of memory that were held on the way.
fn measured<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let mut result = None;
    let most = measure(|| result = Some(call())).bytes_max;
    (result.unwrap(), usize::try_from(most).unwrap())
}

fn check(kind: MessageKind, mutant: &Mutant, answer: &Answer, memory: usize, genuine_memory: usize) {
    let Mutant {
        bytes,
        what,
        expected,
    } = mutant;
    let (decode, text) = match answer {
        Err((decode, text)) => (decode.as_ref(), text.as_str()),
        Ok(()) => (None, "that it was taken"),
    };
    let is_named = match expected {
        Saying::Exactly(error) => decode == Some(error),
        Saying::TooShort => matches!(decode, Some(DecodeError::TooShort { .. })),
        Saying::Anything => answer.is_err(),
        Saying::Taken => answer.is_ok(),
    };
    assert!(is_named, "{kind:?}, {what}: expected {expected:?}, got {text}");
    let most = genuine_memory + 2 * bytes.len() + 256;
    assert!(
        memory <= most,
        "{kind:?}, {what}: {memory} bytes of memory for a message of {}, at most {most} expected",
        bytes.len()
    );
}

fn attack(kind: MessageKind) {
    let (own, other) = (Recorded::new(0), Recorded::new(1));
    let genuine = &own.messages[&kind][WHO];
    let mutants = mutants(kind, &own, &other);
    assert!(mutants.len() > 300);
    if kind.is_from_client() {
        let mut twin = own.server_before(kind);
        let (result, genuine_memory) = measured(|| give(&mut twin, kind, genuine));
        result.unwrap();
        let mut server = own.server_before(kind);
        for mutant in &mutants {
            let (result, memory) = measured(|| give(&mut server, kind, &mutant.bytes));
            check(kind, mutant, &of_server(result), memory, genuine_memory);
        }
        // The same server goes on to the same sum.
        for later in MessageKind::ALL {
            if later.is_from_client() && later >= kind {
                match own.feed(&mut server, later) {
                    Closed::Messages(next, messages) => assert!(messages == own.messages[&next], "{next:?}"),
                    Closed::Sum(sum) => assert!(sum == own.sum),
                }
            }
        }
    } else if kind == MessageKind::Offer {
        let (result, genuine_memory) = measured(|| client(WHO, genuine, &own.terms));
        result.unwrap();
        for mutant in &mutants {
            let (result, memory) = measured(|| client(WHO, &mutant.bytes, &own.terms));
            check(kind, mutant, &of_client(result), memory, genuine_memory);
        }
    } else {
        let receive = |bytes: &[u8]| {
            let mut client = own.client_before(kind);
            let (result, memory) = measured(|| take(&mut client, kind, bytes, &own.inputs[WHO]));
            (client, result, memory)
        };
        let (_, result, genuine_memory) = receive(genuine);
        assert_eq!(
            result.unwrap().as_ref(),
            own.messages
                .get(&MessageKind::from_code(u32::from(kind.code()) + 1).unwrap())
                .map(|answers| &answers[WHO]),
            "the same answer each time"
        );
        for mutant in &mutants {
            let (mut client, result, memory) = receive(&mutant.bytes);
            let answer = of_client(result);
            check(kind, mutant, &answer, memory, genuine_memory);
            if answer.is_ok() {
                continue;
            }
            // The attempt is over for it, genuine bytes change nothing about that, and it holds no receipt.
            assert_locked(&mut client);
            assert!(take(&mut client, kind, genuine, &own.inputs[WHO]).is_err());
            assert_eq!(client.receipt(), None);
        }
    }
}

macro_rules! attacked {
    ($($name:ident: $kind:ident,)*) => {
        $(#[test]
        fn $name() {
            attack(MessageKind::$kind);
        })*
    };
}

attacked! {
    changed_offers: Offer,
    changed_advertisements: Advertisement,
    changed_rosters: Roster,
    changed_shares: Shares,
    changed_mask_requests: MaskRequest,
    changed_masked_inputs: MaskedInput,
    changed_survivors: Survivors,
    changed_confirmations: Confirmation,
    changed_unmask_requests: UnmaskRequest,
    changed_opened_shares: OpenedShares,
}

/// A server can sign what it likes. Terms out of range are refused by name; those in range cost no memory before a roster has come.
#[test]
fn signed_terms_out_of_range_are_refused_by_name() {
    let terms = Recorded::new(0).terms;
    let offer = terms.offer(&server_key()).unwrap();
    let (_, genuine_memory) = measured(|| client(WHO, &offer, &terms));
    // From `dimension` to `topology`, then two variances and the duration.
    let first = 1 + 32 + 8 + 4 + 2 * 32;
    let (mut taken, mut refused) = (0, std::collections::BTreeSet::new());
    for place in (first..offer.len() - 64).step_by(4) {
        for value in [0, 1, 2, 1_001, 1 << 15, 1 << 31, 0x7ff0_0000, u32::MAX] {
            let mut bytes = offer[..offer.len() - 64].to_vec();
            bytes[place..place + 4].copy_from_slice(&u32::to_le_bytes(value));
            let hash = crate::crypto::hash("umbel/sa1/config", &[&bytes]);
            bytes.extend_from_slice(&server_key().sign("umbel/sa1/offer", &[&hash]));
            let (result, memory) = measured(|| client(WHO, &bytes, &terms));
            assert!(memory <= genuine_memory + 256, "{value} at {place}: {memory}");
            match result {
                Ok(_) => taken += 1,
                Err(Refusal::Decode(DecodeError::Field { field, .. })) => drop(refused.insert(field)),
                Err(Refusal::WeakerTerms { term, .. }) => drop(refused.insert(term)),
                Err(other) => panic!("{value} at {place}: {other}"),
            }
        }
    }
    assert!(taken > 0);
    assert_eq!(
        refused.into_iter().collect::<Vec<_>>(),
        [
            "clients_max",
            "clients_min",
            "colluding",
            "dimension",
            "modulus_bits",
            "noise variance",
            "permille",
            "survivors_min",
            "topology"
        ]
    );
}
