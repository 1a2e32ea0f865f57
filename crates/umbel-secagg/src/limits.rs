//! Kinds of messages, and how long each may be: what a transport must know before it takes memory.

use crate::config::RoundConfig;
use crate::message::{OPENING_BYTES, SEALED_BYTES};
use crate::vector::packed_bytes;

/// A kind of message. `docs/secure-aggregation.md` has their contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "these are the protocol's messages")]
pub enum MessageKind {
    /// The server's signed terms.
    Offer,
    /// A client's keys.
    Advertisement,
    /// All clients' keys.
    Roster,
    /// A client's shares for its neighbours.
    Shares,
    /// Who shared, and the neighbours' shares.
    MaskRequest,
    /// A client's masked input.
    MaskedInput,
    /// Whose input came.
    Survivors,
    /// A client has seen these survivors.
    Confirmation,
    /// Enough have confirmed, and the round is charged.
    UnmaskRequest,
    /// The shares that a client opens.
    OpenedShares,
}

impl MessageKind {
    /// All kinds, in the order in which they are sent.
    pub const ALL: [Self; 10] = [
        Self::Offer,
        Self::Advertisement,
        Self::Roster,
        Self::Shares,
        Self::MaskRequest,
        Self::MaskedInput,
        Self::Survivors,
        Self::Confirmation,
        Self::UnmaskRequest,
        Self::OpenedShares,
    ];

    /// The byte that such a message begins with: 1 to 10.
    pub fn code(self) -> u8 {
        match self {
            Self::Offer => 1,
            Self::Advertisement => 2,
            Self::Roster => 3,
            Self::Shares => 4,
            Self::MaskRequest => 5,
            Self::MaskedInput => 6,
            Self::Survivors => 7,
            Self::Confirmation => 8,
            Self::UnmaskRequest => 9,
            Self::OpenedShares => 10,
        }
    }

    /// The kind with this code.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| u32::from(kind.code()) == code)
    }

    /// Whether clients send it.
    pub fn is_from_client(self) -> bool {
        self.code().is_multiple_of(2)
    }
}

const HASH: u64 = 32;
const SIGNATURE: u64 = 64;
const NUMBER: u64 = 8;
const CERTIFICATE: u64 = NUMBER + HASH + SIGNATURE;
const ADVERTISEMENT: u64 = CERTIFICATE + 2 * HASH + SIGNATURE;
const DEALT: u64 = SEALED_BYTES as u64 + 2 * HASH;

impl RoundConfig {
    /// The most bytes that a message of this kind can have under these terms, whoever comes and whatever the graph. A transport
    /// refuses what is announced as longer before it takes memory for it.
    pub fn most_bytes(&self, kind: MessageKind) -> u64 {
        let clients = u64::from(self.clients_max);
        let neighbors = clients.saturating_sub(1);
        let places = clients.div_ceil(8);
        let proof = HASH * u64::from(neighbors.max(1).next_power_of_two().ilog2());
        let packed = packed_bytes(self.dimension as usize, self.modulus_bits) as u64;
        let body = match kind {
            MessageKind::Offer => 3 * HASH + 4 * NUMBER + 10 * 4 + SIGNATURE,
            MessageKind::Advertisement => ADVERTISEMENT,
            MessageKind::Roster => clients * ADVERTISEMENT,
            MessageKind::Shares => NUMBER + HASH + neighbors * DEALT + SIGNATURE,
            MessageKind::MaskRequest => places + neighbors * (DEALT + HASH + SIGNATURE + proof),
            MessageKind::MaskedInput => NUMBER + 2 * HASH + SIGNATURE + packed,
            MessageKind::Survivors => places + neighbors * (2 * HASH + SIGNATURE),
            MessageKind::Confirmation => NUMBER + SIGNATURE,
            MessageKind::UnmaskRequest => HASH + SIGNATURE + 4 + clients * (4 + SIGNATURE),
            MessageKind::OpenedShares => NUMBER + neighbors * (1 + OPENING_BYTES as u64) + SIGNATURE,
        };
        1 + body
    }
}

/// The number of the client that a client's message says it is from: right behind the kind in each of them. Whoever brings messages
/// compares it with who sent them.
pub fn sender_of(message: &[u8]) -> Option<u64> {
    let (kind, rest) = message.split_first()?;
    MessageKind::from_code((*kind).into()).filter(|kind| kind.is_from_client())?;
    rest.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topology;
    use crate::tests::{World, config, number};

    /// In a complete graph where everybody stays, each message is as long as it may be.
    #[test]
    fn the_longest_messages_are_as_long_as_the_terms_say() {
        let mut terms = config(9, Topology::Complete);
        // As many confirmations as there are clients.
        terms.survivors_min = 9;
        let mut world = World::new(terms.clone());
        let check = |kind: MessageKind, message: &[u8]| {
            assert_eq!(u64::from(message[0]), u64::from(kind.code()));
            assert_eq!(message.len() as u64, terms.most_bytes(kind), "{kind:?}");
            let sender = kind.is_from_client().then(|| number(2));
            assert_eq!(sender_of(message), sender, "{kind:?}");
        };
        check(MessageKind::Offer, &world.server.offer().unwrap());
        let mut advertisements = Vec::new();
        for client in &mut world.clients {
            advertisements.push(client.handle_mark_stored().unwrap());
        }
        check(MessageKind::Advertisement, &advertisements[2]);
        for message in &advertisements {
            world.server.handle_advertisement(message).unwrap();
        }
        let roster = world.server.close_advertising().unwrap();
        check(MessageKind::Roster, &roster);
        let mut shares = Vec::new();
        for client in &mut world.clients {
            shares.push(client.handle_roster(&roster).unwrap());
        }
        check(MessageKind::Shares, &shares[2]);
        for message in &shares {
            world.server.handle_shares(message).unwrap();
        }
        world.server.close_sharing().unwrap();
        check(
            MessageKind::MaskRequest,
            &world.server.mask_request(number(2)).unwrap(),
        );
        for i in 0..9 {
            let message = world.masked_input(i).unwrap();
            if i == 2 {
                check(MessageKind::MaskedInput, &message);
            }
            world.server.handle_masked_input(&message).unwrap();
        }
        world.server.close_masking().unwrap();
        check(
            MessageKind::Survivors,
            &world.server.survivors(number(2)).unwrap(),
        );
        for (i, client) in world.clients.iter_mut().enumerate() {
            let message = client
                .handle_survivors(&world.server.survivors(number(i)).unwrap())
                .unwrap();
            if i == 2 {
                check(MessageKind::Confirmation, &message);
            }
            world.server.handle_confirmation(&message).unwrap();
        }
        world.server.close_confirming().unwrap();
        let request = world.server.charge([1; 32]).unwrap();
        check(MessageKind::UnmaskRequest, &request);
        let opened = world.clients[2]
            .handle_unmask_request(&request, std::time::Duration::ZERO)
            .unwrap();
        check(MessageKind::OpenedShares, &opened);
    }

    #[test]
    fn codes_are_those_of_the_messages() {
        for kind in MessageKind::ALL {
            assert_eq!(MessageKind::from_code(kind.code().into()), Some(kind));
        }
        for code in [0, 11, 258] {
            assert_eq!(MessageKind::from_code(code), None);
        }
        assert_eq!(sender_of(&[]), None);
        assert_eq!(sender_of(&[2, 1, 0, 0, 0, 0, 0, 0]), None, "too short");
        assert_eq!(sender_of(&[3, 1, 0, 0, 0, 0, 0, 0, 0]), None, "the server's");
    }
}
