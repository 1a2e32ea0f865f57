//! What both sides of an attempt know once the roster stands.

use crate::codec::Places;
use crate::config::RoundConfig;
use crate::crypto::{Hash, Signed, derive, hash};
use crate::error::Refusal;
use crate::graph::neighbors;
use crate::message::{Header, Roster, Shares};
use crate::parameters::Parameters;
use crate::vector::{Mask, Sign};

/// Terms, roster and graph of one attempt.
pub(crate) struct Session {
    pub(crate) config: RoundConfig,
    pub(crate) config_hash: Hash,
    pub(crate) roster: Roster,
    pub(crate) root: Hash,
    pub(crate) parameters: Parameters,
    /// The places of each client's neighbours, ascending.
    pub(crate) graph: Vec<Vec<u32>>,
}

impl Session {
    /// Checks the size of the roster against the terms; who is on it is checked by those who make and read it.
    pub(crate) fn new(config: RoundConfig, roster: Roster) -> Result<Self, Refusal> {
        let n = u32::try_from(roster.0.len()).unwrap_or(u32::MAX);
        let parameters = config.check_roster(n)?;
        let config_hash = config.hash();
        let root = roster.root(&config_hash);
        let graph = neighbors(&root, roster.0.len(), parameters.degree as usize);
        Ok(Self {
            config,
            config_hash,
            roster,
            root,
            parameters,
            graph,
        })
    }

    pub(crate) fn n(&self) -> usize {
        self.roster.0.len()
    }

    pub(crate) fn client(&self, place: usize) -> u64 {
        self.roster.0[place].certificate.client
    }

    pub(crate) fn place(&self, client: u64) -> Option<usize> {
        self.roster
            .0
            .binary_search_by_key(&client, |member| member.certificate.client)
            .ok()
    }

    /// Where `holder` stands among the neighbours of `dealer`; its shares are those at the next point.
    pub(crate) fn position(&self, dealer: usize, holder: usize) -> Option<usize> {
        let holder = u32::try_from(holder).ok()?;
        self.graph[dealer].binary_search(&holder).ok()
    }

    /// The neighbours of a client within a set.
    pub(crate) fn neighbors_in(&self, place: usize, set: &Places) -> impl Iterator<Item = usize> {
        self.graph[place]
            .iter()
            .map(|other| *other as usize)
            .filter(|other| set.contains(*other))
    }

    /// Confirmations that open a sum: as many as must survive.
    ///
    /// That is more than (n + C)/2, so no two sets of so many signers are without a common honest one and only one view can be
    /// confirmed. And whoever is on the roster or among the survivors without being there cannot sign: all but C of the signers
    /// are honest clients who have added their noise.
    pub(crate) fn confirmations_needed(&self) -> u32 {
        self.config.survivors_min
    }

    pub(crate) fn sharers_hash(&self, sharers: &Places) -> Hash {
        hash(
            "umbel/sa1/sharers",
            &[&self.config_hash, &self.root, sharers.as_bytes()],
        )
    }

    /// The hash of everything that all must agree on before anything is opened.
    pub(crate) fn view(&self, sharers: &Places, survivors: &Places) -> Hash {
        let parts: [&[u8]; 4] = [
            &self.config_hash,
            &self.root,
            sharers.as_bytes(),
            survivors.as_bytes(),
        ];
        hash("umbel/sa1/view", &parts)
    }

    /// What a dealer signs.
    pub(crate) fn dealt_by(
        &self,
        dealer: usize,
        own: &Hash,
        tree_root: &Hash,
        signature: &[u8; 64],
    ) -> Signed {
        let member = &self.roster.0[dealer].certificate;
        let parts: [&[u8]; 5] = [
            &self.config_hash,
            &self.root,
            &member.client.to_le_bytes(),
            own,
            tree_root,
        ];
        Signed::new(&member.identity, Shares::LABEL, &parts, signature)
    }

    /// What a client signs of its input.
    pub(crate) fn header_of(&self, place: usize, header: &Header) -> Signed {
        let member = &self.roster.0[place].certificate;
        let client = member.client.to_le_bytes();
        let parts: [&[u8]; 5] = [
            &self.config_hash,
            &self.root,
            &client,
            &header.sharers,
            &header.input,
        ];
        Signed::new(&member.identity, Header::LABEL, &parts, &header.signature)
    }

    /// The mask that a client adds alone.
    pub(crate) fn own_mask(&self, place: usize, seed: &[u8; 32], sign: Sign) -> Mask {
        let info: [&[u8]; 2] = [&self.config_hash, &self.client(place).to_le_bytes()];
        (derive(&self.root, seed, "umbel/sa1/own", &info), sign)
    }

    /// The mask of a pair, as `place` adds it: plus towards later neighbours, minus towards earlier ones.
    pub(crate) fn pairwise_mask(&self, place: usize, other: usize, agreed: &[u8; 32]) -> Mask {
        let (low, high) = (place.min(other), place.max(other));
        let info: [&[u8]; 3] = [
            &self.config_hash,
            &self.client(low).to_le_bytes(),
            &self.client(high).to_le_bytes(),
        ];
        let sign = if place < other { Sign::Plus } else { Sign::Minus };
        (derive(&self.root, agreed, "umbel/sa1/mask", &info), sign)
    }

    /// What sealed shares are bound to.
    pub(crate) fn sealing_context(&self, dealer: usize, holder: usize) -> Vec<u8> {
        let mut context = Vec::with_capacity(80);
        context.extend_from_slice(&self.config_hash);
        context.extend_from_slice(&self.root);
        context.extend_from_slice(&self.client(dealer).to_le_bytes());
        context.extend_from_slice(&self.client(holder).to_le_bytes());
        context
    }
}

/// The secret of a client's key for pairwise masks.
pub(crate) fn pairwise_secret(
    config_hash: &Hash,
    client: u64,
    seed: &[u8; 32],
) -> zeroize::Zeroizing<[u8; 32]> {
    derive(config_hash, seed, "umbel/sa1/sk", &[&client.to_le_bytes()])
}
