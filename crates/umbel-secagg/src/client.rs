//! The client's half of an attempt.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand_core::Rng;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::codec::{DecodeError, Places, Reader, Writer};
use crate::config::{Policy, RoundConfig};
use crate::crypto::{
    AgreementKey, Certificate, Hash, Identity, Signed, check_signatures, derive, open, seal, verify,
};
use crate::error::Refusal;
use crate::merkle::{Tree, proof_length, root_from_proof};
use crate::message::{
    Advertisement, CHARGE_LABEL, CONFIRMATION, CONFIRMATION_LABEL, Dealt, Delivery, Header, MASKED_INPUT,
    OPENED_LABEL, OPENED_SHARES, OPENING_BYTES, Roster, SALT_BYTES, SEALED_BYTES, SURVIVORS, Secret, Shares,
    UNMASK_REQUEST, own_commitment, share_commitment,
};
use crate::random::Entropy;
use crate::session::{Session, pairwise_secret};
use crate::shamir::{SHARE_BYTES, Share, split};
use crate::vector::{Residues, Sign};

/// The latest attempt that a client has begun: kept durably, so that neither a restart nor a replayed offer begins one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The round.
    pub round: u64,
    /// The attempt.
    pub attempt: u32,
}

/// What the client has checked by itself, and compares with the terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// SHA-256 of the model that it was given.
    pub model: Hash,
    /// SHA-256 of the settings by which it makes its integers.
    pub mechanism: Hash,
}

/// The server's signed word that it charged this sum: a client keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The hash of terms, roster and both sets of clients.
    pub view: Hash,
    /// The hash of the ledger record that charges the round.
    pub charge: Hash,
    /// The server's signature over both.
    pub signature: [u8; 64],
}

/// One client in one attempt. Every step is taken once; whatever is refused ends the attempt, and its secrets are wiped.
///
/// Secrets live in memory only: a client that restarts has dropped out.
pub struct Client {
    config: RoundConfig,
    policy: Policy,
    certificate: Certificate,
    identity: Identity,
    state: State,
    receipt: Option<Receipt>,
    /// Dealers whose shares did not open; for the log only, since nobody else can check it.
    bad_dealers: Vec<u64>,
}

enum State {
    /// The mark is to be stored.
    Accepted(Box<Keys>),
    Advertised(Box<Keys>),
    Shared(Box<Keys>, Box<Session>, usize),
    /// Who shared is fixed; the client's own charge is to be stored.
    Requested(Box<Requested>),
    Masked(Box<Holding>),
    Confirmed(Box<Holding>, Hash, Places),
    Opened,
    Locked,
}

/// A client's own secrets.
struct Keys {
    own_seed: Zeroizing<[u8; 32]>,
    pairwise_seed: Zeroizing<[u8; 32]>,
    mask_key: AgreementKey,
    share_key: AgreementKey,
    advertisement: Advertisement,
    rng: ChaCha20Rng,
    /// What was agreed with each neighbour, in the order of the graph; empty before the roster has come.
    agreed: Vec<Agreed>,
}

/// X25519 with one neighbour. Each value is needed twice or found wanting early, and one costs as much as a signature.
struct Agreed {
    mask: Zeroizing<[u8; 32]>,
    share: Zeroizing<[u8; 32]>,
}

/// What a client holds of its neighbours' secrets.
struct Holding {
    session: Session,
    place: usize,
    sharers: Places,
    held: Vec<Held>,
}

struct Requested {
    keys: Box<Keys>,
    holding: Holding,
}

/// The shares of one neighbour, if they opened.
struct Held {
    dealer: usize,
    openings: Option<[Zeroizing<[u8; OPENING_BYTES]>; 2]>,
}

impl Client {
    /// Reads an offer and checks it against the client's own settings. `last` is the stored mark, if there is one.
    pub fn new(
        offer: &[u8],
        policy: Policy,
        expected: Expected,
        last: Option<Mark>,
        certificate: Certificate,
        identity: Identity,
        entropy: Entropy,
    ) -> Result<Self, Refusal> {
        let config = RoundConfig::read_offer(offer, &policy.server)?;
        policy.check(&config)?;
        if config.model != expected.model {
            return Err(Refusal::OtherModel);
        }
        if config.mechanism != expected.mechanism {
            return Err(Refusal::OtherMechanism);
        }
        let mark = Mark {
            round: config.round,
            attempt: config.attempt,
        };
        if last.is_some_and(|last| mark <= last) {
            return Err(Refusal::Replayed {
                round: mark.round,
                attempt: mark.attempt,
            });
        }
        let keys = Keys::new(&config.hash(), certificate, &identity, entropy);
        Ok(Self {
            config,
            policy,
            certificate,
            identity,
            state: State::Accepted(Box::new(keys)),
            receipt: None,
            bad_dealers: Vec::new(),
        })
    }

    /// The terms.
    pub fn config(&self) -> &RoundConfig {
        &self.config
    }

    /// What must be durable before [`handle_mark_stored`](Self::handle_mark_stored).
    pub fn mark(&self) -> Mark {
        Mark {
            round: self.config.round,
            attempt: self.config.attempt,
        }
    }

    /// The server's receipt, once there is one.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }

    /// Neighbours whose shares did not open.
    pub fn bad_dealers(&self) -> &[u64] {
        &self.bad_dealers
    }

    /// Whether the attempt is over for this client, one way or the other.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Opened | State::Locked)
    }

    /// The mark is durable. Gives the advertisement.
    pub fn handle_mark_stored(&mut self) -> Result<Vec<u8>, Refusal> {
        match std::mem::replace(&mut self.state, State::Locked) {
            State::Accepted(keys) => {
                let message = keys.advertisement.encode();
                self.state = State::Advertised(keys);
                Ok(message)
            }
            other => self.repeated(other, "the stored mark"),
        }
    }

    /// The roster came. Gives the shares of this client's secrets.
    pub fn handle_roster(&mut self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        match std::mem::replace(&mut self.state, State::Locked) {
            State::Advertised(mut keys) => {
                let roster = Roster::decode(message, self.config.clients_max)?;
                let session = Session::new(self.config.clone(), roster)?;
                let place = self.check_roster(&session, &keys)?;
                let shares = keys.deal(&session, place, &self.identity)?;
                self.state = State::Shared(keys, Box::new(session), place);
                Ok(shares)
            }
            other => self.repeated(other, "the roster"),
        }
    }

    /// Those who shared are fixed. Before the input may leave, the client must store its own charge for the round: from here
    /// on it may have been spent, whatever a server says later.
    pub fn handle_mask_request(&mut self, message: &[u8]) -> Result<(), Refusal> {
        match std::mem::replace(&mut self.state, State::Locked) {
            State::Shared(keys, session, place) => {
                let holding = self.hold(message, &keys, *session, place)?;
                self.state = State::Requested(Box::new(Requested { keys, holding }));
                Ok(())
            }
            other => self.repeated(other, "the mask request"),
        }
    }

    /// The client's own charge is durable. Gives the masked input; on a lost connection the very same bytes are sent again.
    ///
    /// `values` are the integers that the mechanism made, noise included. They are taken modulo 2^b.
    pub fn handle_charge_stored(&mut self, values: &[i64]) -> Result<Vec<u8>, Refusal> {
        match std::mem::replace(&mut self.state, State::Locked) {
            State::Requested(requested) => {
                let Requested { keys, holding } = *requested;
                let message = keys.mask(values, &holding, &self.identity)?;
                // From here on the client's own secrets are the neighbours' to open.
                drop(keys);
                self.state = State::Masked(Box::new(holding));
                Ok(message)
            }
            other => self.repeated(other, "the stored charge"),
        }
    }

    /// The survivors are fixed. Gives the confirmation.
    pub fn handle_survivors(&mut self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        match std::mem::replace(&mut self.state, State::Locked) {
            State::Masked(holding) => {
                let survivors = holding.check_survivors(message)?;
                let view = holding.session.view(&holding.sharers, &survivors);
                let client = self.certificate.client.to_le_bytes();
                let mut writer = Writer::new(CONFIRMATION);
                writer.bytes(&client);
                writer.bytes(&self.identity.sign(CONFIRMATION_LABEL, &[&client, &view]));
                self.state = State::Confirmed(holding, view, survivors);
                Ok(writer.finish())
            }
            other => self.repeated(other, "the survivors"),
        }
    }

    /// Opens one share of each neighbour, if as many clients as must survive have confirmed the very sets that this client has
    /// confirmed. `elapsed` is the time since the offer came.
    pub fn handle_unmask_request(&mut self, message: &[u8], elapsed: Duration) -> Result<Vec<u8>, Refusal> {
        match std::mem::replace(&mut self.state, State::Locked) {
            State::Confirmed(holding, view, survivors) => {
                if elapsed > Duration::from_millis(self.config.duration_ms) {
                    return Err(Refusal::TooLate);
                }
                self.receipt = Some(self.check_confirmations(message, &holding, &view, &survivors)?);
                self.state = State::Opened;
                Ok(holding.open(&survivors, &view, self.certificate.client, &self.identity))
            }
            other => self.repeated(other, "the unmask request"),
        }
    }

    fn repeated<T>(&mut self, state: State, message: &'static str) -> Result<T, Refusal> {
        self.state = state;
        Err(Refusal::AlreadyAnswered {
            message,
            state: self.state.name(),
        })
    }

    /// Finds this client's place, and checks everybody's number and keys and the neighbours' certificates and signatures.
    fn check_roster(&self, session: &Session, keys: &Keys) -> Result<usize, Refusal> {
        let members = &session.roster.0;
        for pair in members.windows(2) {
            if pair[0].certificate.client >= pair[1].certificate.client {
                return Err(Refusal::Roster {
                    client: pair[1].certificate.client,
                });
            }
        }
        let mut seen = BTreeSet::new();
        for member in members {
            for key in [&member.certificate.identity, &member.mask_key, &member.share_key] {
                if !seen.insert(key) {
                    return Err(Refusal::Key {
                        client: member.certificate.client,
                    });
                }
            }
        }
        let place = session
            .place(self.certificate.client)
            .filter(|place| members[*place] == keys.advertisement)
            .ok_or(Refusal::NotOnRoster)?;
        let mut signatures = Vec::new();
        for &neighbor in &session.graph[place] {
            let member = &members[neighbor as usize];
            let client = member.certificate.client;
            let message = "advertisement";
            signatures.push((self.certified(&member.certificate), Refusal::Roster { client }));
            signatures.push((
                member.signed(&session.config_hash),
                Refusal::Signature { message },
            ));
        }
        check_signatures(signatures)?;
        Ok(place)
    }

    fn certified(&self, certificate: &Certificate) -> Signed {
        certificate.signed(&self.policy.authority, &self.policy.federation)
    }

    fn hold(
        &mut self,
        message: &[u8],
        keys: &Keys,
        session: Session,
        place: usize,
    ) -> Result<Holding, Refusal> {
        let mut reader = Reader::new(message, Delivery::KIND)?;
        let sharers = Places::read(&mut reader, session.n(), "sharers")?;
        if !sharers.contains(place) {
            return Err(Refusal::LeftOut { what: "shared" });
        }
        at_least(
            "clients who shared",
            session.config.survivors_min,
            sharers.count(),
        )?;
        let dealers: Vec<usize> = session.neighbors_in(place, &sharers).collect();
        at_least(
            "neighbours who shared",
            session.parameters.threshold,
            count(&dealers),
        )?;
        let degree = session.parameters.degree as usize;
        let mut held = Vec::with_capacity(dealers.len());
        let mut signatures = Vec::with_capacity(dealers.len());
        for dealer in dealers {
            let position = session.position(dealer, place).ok_or(Refusal::NotOnRoster)?;
            let delivery = Delivery::read(&mut reader, proof_length(degree, position))?;
            let leaf = delivery.dealt.leaf(session.client(place));
            // An honest server has checked this: what does not verify was changed on the way.
            let message = "shares";
            let root = root_from_proof(leaf, degree, position, &delivery.proof)
                .ok_or(Refusal::Signature { message })?;
            signatures.push((
                session.dealt_by(dealer, &delivery.own, &root, &delivery.signature),
                Refusal::Signature { message },
            ));
            // A dealer that sealed nonsense does not change who is in the graph: this client merely holds no share of it.
            let openings = keys.open_shares(&session, dealer, place, &delivery.dealt);
            if openings.is_none() {
                self.bad_dealers.push(session.client(dealer));
            }
            held.push(Held { dealer, openings });
        }
        reader.finish()?;
        check_signatures(signatures)?;
        Ok(Holding {
            session,
            place,
            sharers,
            held,
        })
    }

    fn check_confirmations(
        &self,
        message: &[u8],
        holding: &Holding,
        view: &Hash,
        survivors: &Places,
    ) -> Result<Receipt, Refusal> {
        let session = &holding.session;
        let mut reader = Reader::new(message, UNMASK_REQUEST)?;
        let receipt = Receipt {
            view: *view,
            charge: reader.array("charge")?,
            signature: reader.array("signature")?,
        };
        if !verify(
            &self.policy.server,
            CHARGE_LABEL,
            &[view, &receipt.charge],
            &receipt.signature,
        ) {
            return Err(Refusal::Signature { message: "charge" });
        }
        let n_signers = reader.u32("number of confirmations")?;
        at_least("confirmations", session.confirmations_needed(), n_signers)?;
        let mut previous = None;
        let mut signatures = Vec::new();
        for _ in 0..n_signers {
            let place = reader.u32("signer")?;
            let signature = reader.array("confirmation")?;
            let is_next =
                previous.is_none_or(|previous| previous < place) && survivors.contains(place as usize);
            let Some(signer) = session.roster.0.get(place as usize).filter(|_| is_next) else {
                let expected = "survivors in ascending order";
                return Err(DecodeError::Field {
                    field: "signer",
                    expected,
                }
                .into());
            };
            previous = Some(place);
            let certificate = &signer.certificate;
            let client = certificate.client;
            // The neighbours' certificates were checked with the roster.
            if session.position(holding.place, place as usize).is_none() {
                signatures.push((self.certified(certificate), Refusal::Roster { client }));
            }
            let signed: [&[u8]; 2] = [&client.to_le_bytes(), view];
            let confirmation = Signed::new(&certificate.identity, CONFIRMATION_LABEL, &signed, &signature);
            let message = "confirmation";
            signatures.push((confirmation, Refusal::Signature { message }));
        }
        reader.finish()?;
        check_signatures(signatures)?;
        Ok(receipt)
    }
}

impl Keys {
    fn new(config_hash: &Hash, certificate: Certificate, identity: &Identity, entropy: Entropy) -> Self {
        let mut rng = entropy.stream();
        let mut draw = || {
            let mut bytes = Zeroizing::new([0; 32]);
            rng.fill_bytes(bytes.as_mut_slice());
            bytes
        };
        let (own_seed, pairwise_seed, share_secret) = (draw(), draw(), draw());
        let mask_key = AgreementKey::new(&pairwise_secret(config_hash, certificate.client, &pairwise_seed));
        let share_key = AgreementKey::new(&share_secret);
        let mut advertisement = Advertisement {
            certificate,
            mask_key: mask_key.public,
            share_key: share_key.public,
            signature: [0; 64],
        };
        advertisement.sign(identity, config_hash);
        Self {
            own_seed,
            pairwise_seed,
            mask_key,
            share_key,
            advertisement,
            rng,
            agreed: Vec::new(),
        }
    }

    /// Agrees with every neighbour, and refuses keys with which nobody can.
    fn agree(&mut self, session: &Session, place: usize) -> Result<(), Refusal> {
        let agreed = session.graph[place].iter().map(|&neighbor| {
            let member = &session.roster.0[neighbor as usize];
            let client = member.certificate.client;
            let mask = self.mask_key.agree(&member.mask_key);
            let share = self.share_key.agree(&member.share_key);
            let (mask, share) = mask.zip(share).ok_or(Refusal::Key { client })?;
            Ok(Agreed { mask, share })
        });
        self.agreed = agreed.collect::<Result<_, Refusal>>()?;
        Ok(())
    }

    /// What was agreed with the neighbour at this place.
    fn agreed_with(&self, session: &Session, place: usize, neighbor: usize) -> Option<&Agreed> {
        self.agreed.get(session.position(place, neighbor)?)
    }

    /// The key that seals shares from `dealer` to `holder`, one of whom has these keys and has agreed on `agreed` with the other.
    fn sealing_key(session: &Session, agreed: &Agreed, dealer: usize, holder: usize) -> Zeroizing<[u8; 32]> {
        let info: [&[u8]; 3] = [
            &session.config_hash,
            &session.client(dealer).to_le_bytes(),
            &session.client(holder).to_le_bytes(),
        ];
        derive(&session.root, agreed.share.as_slice(), "umbel/sa1/seal", &info)
    }

    /// Shares both seeds with the neighbours.
    fn deal(&mut self, session: &Session, place: usize, identity: &Identity) -> Result<Vec<u8>, Refusal> {
        self.agree(session, place)?;
        let neighbors = &session.graph[place];
        let (threshold, degree) = (session.parameters.threshold as usize, neighbors.len());
        let own_shares = split(&self.own_seed, threshold, degree, &mut self.rng);
        let pairwise_shares = split(&self.pairwise_seed, threshold, degree, &mut self.rng);
        let dealer = session.client(place);
        let mut dealt = Vec::with_capacity(degree);
        for ((&neighbor, own_share), pairwise_share) in
            neighbors.iter().zip(&own_shares).zip(&pairwise_shares)
        {
            let neighbor = neighbor as usize;
            let holder = session.client(neighbor);
            let own = self.opening(own_share);
            let pairwise = self.opening(pairwise_share);
            let agreed = self
                .agreed_with(session, place, neighbor)
                .ok_or(Refusal::Key { client: holder })?;
            let key = Self::sealing_key(session, agreed, place, neighbor);
            let mut plain = Zeroizing::new([0; 2 * OPENING_BYTES]);
            plain[..OPENING_BYTES].copy_from_slice(own.as_slice());
            plain[OPENING_BYTES..].copy_from_slice(pairwise.as_slice());
            let sealed = seal(&key, &session.sealing_context(place, neighbor), plain.as_slice());
            let mut bytes = [0; SEALED_BYTES];
            bytes.copy_from_slice(&sealed);
            dealt.push(Dealt {
                sealed: bytes,
                own: share_commitment(&session.config_hash, dealer, holder, Secret::Own, &own),
                pairwise: share_commitment(&session.config_hash, dealer, holder, Secret::Pairwise, &pairwise),
            });
        }
        let leaves = neighbors
            .iter()
            .zip(&dealt)
            .map(|(n, dealt)| dealt.leaf(session.client(*n as usize)));
        let tree_root = Tree::new(leaves.collect()).root();
        let own = own_commitment(&session.config_hash, dealer, &self.own_seed);
        let parts: [&[u8]; 5] = [
            &session.config_hash,
            &session.root,
            &dealer.to_le_bytes(),
            &own,
            &tree_root,
        ];
        let signature = identity.sign(Shares::LABEL, &parts);
        Ok(Shares {
            client: dealer,
            own,
            dealt,
            signature,
        }
        .encode())
    }

    /// A share with fresh salt.
    fn opening(&mut self, share: &Share) -> Zeroizing<[u8; OPENING_BYTES]> {
        let mut opening = Zeroizing::new([0; OPENING_BYTES]);
        opening[..SHARE_BYTES].copy_from_slice(share.to_bytes().as_slice());
        self.rng.fill_bytes(&mut opening[SHARE_BYTES..]);
        opening
    }

    /// Opens what a dealer sealed, and checks it against the dealer's commitments.
    fn open_shares(
        &self,
        session: &Session,
        dealer: usize,
        place: usize,
        dealt: &Dealt,
    ) -> Option<[Zeroizing<[u8; OPENING_BYTES]>; 2]> {
        let agreed = self.agreed_with(session, place, dealer)?;
        let key = Self::sealing_key(session, agreed, dealer, place);
        let plain = open(&key, &session.sealing_context(dealer, place), &dealt.sealed)?;
        let mut openings = [Secret::Own, Secret::Pairwise].map(|_| Zeroizing::new([0; OPENING_BYTES]));
        for ((opening, part), secret) in openings
            .iter_mut()
            .zip(plain.as_chunks().0)
            .zip([Secret::Own, Secret::Pairwise])
        {
            **opening = *part;
            Share::from_bytes(opening.first_chunk()?)?;
            let (from, to) = (session.client(dealer), session.client(place));
            let commitment = share_commitment(&session.config_hash, from, to, secret, opening);
            if commitment != *dealt.commitment(secret) {
                return None;
            }
        }
        Some(openings)
    }

    /// y = x + own mask + Σ masks of pairs, packed, with its signed header.
    fn mask(&self, values: &[i64], holding: &Holding, identity: &Identity) -> Result<Vec<u8>, Refusal> {
        let session = &holding.session;
        let (dimension, bits) = (session.config.dimension as usize, session.config.modulus_bits);
        if values.len() != dimension {
            return Err(Refusal::Dimension {
                expected: dimension,
                got: values.len(),
            });
        }
        let mut masks = vec![session.own_mask(holding.place, &self.own_seed, Sign::Plus)];
        for other in session.neighbors_in(holding.place, &holding.sharers) {
            let client = session.client(other);
            let agreed = self
                .agreed_with(session, holding.place, other)
                .ok_or(Refusal::Key { client })?;
            masks.push(session.pairwise_mask(holding.place, other, &agreed.mask));
        }
        let mut vector = Residues::from_integers(values, bits);
        vector.add_masks(&masks, 1);
        let packed = vector.pack(bits);
        vector.zeroize();
        let client = session.client(holding.place);
        let mut header = Header {
            sharers: session.sharers_hash(&holding.sharers),
            input: Sha256::digest(&packed).into(),
            signature: [0; 64],
        };
        let parts: [&[u8]; 5] = [
            &session.config_hash,
            &session.root,
            &client.to_le_bytes(),
            &header.sharers,
            &header.input,
        ];
        header.signature = identity.sign(Header::LABEL, &parts);
        let mut writer = Writer::new(MASKED_INPUT);
        writer.u64(client);
        header.write(&mut writer);
        writer.bytes(&packed);
        Ok(writer.finish())
    }
}

impl Holding {
    fn check_survivors(&self, message: &[u8]) -> Result<Places, Refusal> {
        let session = &self.session;
        let mut reader = Reader::new(message, SURVIVORS)?;
        let survivors = Places::read(&mut reader, session.n(), "survivors")?;
        if !survivors.contains(self.place) {
            return Err(Refusal::LeftOut { what: "survived" });
        }
        if !survivors.is_within(&self.sharers) {
            return Err(Refusal::SurvivorsNotSharers);
        }
        at_least("survivors", session.config.survivors_min, survivors.count())?;
        let neighbors: Vec<usize> = session.neighbors_in(self.place, &survivors).collect();
        at_least(
            "neighbours who survived",
            session.parameters.threshold,
            count(&neighbors),
        )?;
        let own_view = session.sharers_hash(&self.sharers);
        let mut signatures = Vec::with_capacity(neighbors.len());
        let mut split = None;
        for neighbor in neighbors {
            let header = Header::read(&mut reader)?;
            let message = "masked input";
            signatures.push((
                session.header_of(neighbor, &header),
                Refusal::Signature { message },
            ));
            if header.sharers != own_view {
                split = split.or_else(|| Some(session.client(neighbor)));
            }
        }
        reader.finish()?;
        check_signatures(signatures)?;
        if let Some(client) = split {
            return Err(Refusal::SplitView { client });
        }
        Ok(survivors)
    }

    /// One share of each neighbour: never both.
    fn open(&self, survivors: &Places, view: &Hash, client: u64, identity: &Identity) -> Vec<u8> {
        let mut body = Zeroizing::new(Vec::with_capacity(self.held.len() * (1 + OPENING_BYTES)));
        for Held { dealer, openings } in &self.held {
            match openings {
                Some([own, pairwise]) => {
                    body.push(1);
                    let opening = if survivors.contains(*dealer) {
                        own
                    } else {
                        pairwise
                    };
                    body.extend_from_slice(opening.as_slice());
                }
                None => body.push(0),
            }
        }
        let digest: Hash = Sha256::digest(&*body).into();
        let mut writer = Writer::new(OPENED_SHARES);
        writer.u64(client).bytes(&body);
        writer.bytes(&identity.sign(OPENED_LABEL, &[view, &client.to_le_bytes(), &digest]));
        writer.finish()
    }
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "has accepted an offer",
            Self::Advertised(_) => "has advertised its keys",
            Self::Shared(..) => "has shared its secrets",
            Self::Requested(_) => "waits for its charge to be stored",
            Self::Masked(_) => "has sent its input",
            Self::Confirmed(..) => "has confirmed the survivors",
            Self::Opened => "has opened its shares",
            Self::Locked => "has left the round",
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("client", &self.certificate.client)
            .field("state", &self.state.name())
            .finish_non_exhaustive()
    }
}

fn at_least(what: &'static str, least: u32, got: u32) -> Result<(), Refusal> {
    if got >= least {
        Ok(())
    } else {
        Err(Refusal::TooFew { what, least, got })
    }
}

fn count(list: &[usize]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

const _: () = assert!(OPENING_BYTES == SHARE_BYTES + SALT_BYTES);
