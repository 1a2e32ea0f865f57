//! The server's half of an attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::codec::{Places, Reader, Writer};
use crate::config::RoundConfig;
use crate::crypto::{AgreementKey, Hash, ServerKey, is_usable, verify};
use crate::error::{Abort, Fault};
use crate::merkle::Tree;
use crate::message::{
    Advertisement, CHARGE_LABEL, CONFIRMATION, CONFIRMATION_LABEL, Delivery, Header, MASKED_INPUT,
    OPENED_LABEL, OPENED_SHARES, OPENING_BYTES, Roster, SURVIVORS, Secret, Shares, UNMASK_REQUEST,
    own_commitment, share_commitment,
};
use crate::session::{Session, pairwise_secret};
use crate::shamir::{Share, coefficients_at_zero, recover};
use crate::vector::{Mask, Residues, Sign, packed_bytes};

/// One attempt, step by step: a driver brings in clients' messages (`handle_…`), decides when a step has lasted long enough
/// (`close_…`), and sends what it is then given. What one client does wrong is a [`Fault`] and changes nothing.
///
/// Nothing is learnt before [`finish`](Self::finish), which is possible only after [`charge`](Self::charge). All state is in
/// memory: if the server stops, the attempt is lost, and nothing was revealed.
pub struct Server {
    config: RoundConfig,
    config_hash: Hash,
    authority: [u8; 32],
    key: ServerKey,
    step: Step,
}

enum Step {
    Advertising(BTreeMap<u64, Advertisement>, BTreeSet<[u8; 32]>),
    Sharing(Box<Session>, Vec<Option<Shares>>),
    Masking(Box<Masking>),
    Confirming(Box<Masking>, View),
    /// Enough have confirmed. Waits for the charge.
    Confirmed(Box<Masking>, View),
    Unmasking(Box<Masking>, View),
    Done,
}

struct Masking {
    session: Session,
    shares: Vec<Option<Shares>>,
    trees: Vec<Option<Tree>>,
    sharers: Places,
    sharers_hash: Hash,
    sum: Residues,
    headers: Vec<Option<Header>>,
}

struct View {
    survivors: Places,
    hash: Hash,
    confirmations: BTreeMap<u32, [u8; 64]>,
    /// What each client opened of its neighbours in U₁, in their order.
    opened: BTreeMap<usize, Vec<Option<Zeroizing<[u8; OPENING_BYTES]>>>>,
}

/// The sum, and who is in it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sum {
    /// The sum of the survivors' integers modulo 2^b, as representatives in [−2^(b−1), 2^(b−1)).
    pub values: Vec<i64>,
    /// The clients in it, ascending.
    pub survivors: Vec<u64>,
    /// Clients who shared their secrets and whose input did not come.
    pub dropped: Vec<u64>,
    /// Clients who opened a share that is not the one they were dealt. It was not used.
    pub wrong_holders: Vec<u64>,
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sum")
            .field("survivors", &self.survivors.len())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// An attempt with these terms. `authority` is the public key that certifies clients.
    pub fn new(config: RoundConfig, authority: [u8; 32], key: ServerKey) -> Self {
        let config_hash = config.hash();
        let step = Step::Advertising(BTreeMap::new(), BTreeSet::new());
        Self {
            config,
            config_hash,
            authority,
            key,
            step,
        }
    }

    /// The signed terms, for every client.
    pub fn offer(&self) -> Result<Vec<u8>, Abort> {
        self.config.offer(&self.key).map_err(Abort::Terms)
    }

    /// The terms.
    pub fn config(&self) -> &RoundConfig {
        &self.config
    }

    /// Takes a client's keys.
    pub fn handle_advertisement(&mut self, message: &[u8]) -> Result<(), Fault> {
        let Step::Advertising(members, keys) = &mut self.step else {
            return Err(self.step.wrong("an advertisement"));
        };
        let advertisement = Advertisement::decode(message)?;
        let client = advertisement.certificate.client;
        if members.contains_key(&client) {
            return Err(Fault::AlreadySent {
                client,
                message: "keys",
            });
        }
        if members.len() >= self.config.clients_max as usize {
            return Err(Fault::RosterFull);
        }
        if !advertisement
            .certificate
            .is_valid(&self.authority, &self.config.federation)
        {
            return Err(Fault::Certificate { client });
        }
        if !advertisement.signed(&self.config_hash).holds() {
            return Err(Fault::Signature { client });
        }
        let own = [
            advertisement.certificate.identity,
            advertisement.mask_key,
            advertisement.share_key,
        ];
        let is_repeated = own[1] == own[2] || own.iter().any(|key| keys.contains(key));
        if is_repeated || !is_usable(&advertisement.mask_key) || !is_usable(&advertisement.share_key) {
            return Err(Fault::Key { client });
        }
        keys.extend(own);
        members.insert(client, advertisement);
        Ok(())
    }

    /// Fixes the roster. Gives it, for everybody on it.
    pub fn close_advertising(&mut self) -> Result<Vec<u8>, Abort> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Advertising(members, _) => {
                let roster = Roster(members.into_values().collect());
                let message = roster.encode();
                let session = Session::new(self.config.clone(), roster).map_err(Abort::Roster)?;
                let shares = (0..session.n()).map(|_| None).collect();
                self.step = Step::Sharing(Box::new(session), shares);
                Ok(message)
            }
            other => self.misused(other, "close_advertising"),
        }
    }

    /// Takes a client's shares for its neighbours.
    pub fn handle_shares(&mut self, message: &[u8]) -> Result<(), Fault> {
        let Step::Sharing(session, received) = &mut self.step else {
            return Err(self.step.wrong("shares"));
        };
        let shares = Shares::decode(message, session.parameters.degree as usize)?;
        let client = shares.client;
        let place = session.place(client).ok_or(Fault::Uninvited { client })?;
        if received[place].is_some() {
            return Err(Fault::AlreadySent {
                client,
                message: "shares",
            });
        }
        let tree = tree(session, place, &shares);
        if !session
            .dealt_by(place, &shares.own, &tree.root(), &shares.signature)
            .holds()
        {
            return Err(Fault::Signature { client });
        }
        received[place] = Some(shares);
        Ok(())
    }

    /// Fixes who shared, U₁.
    pub fn close_sharing(&mut self) -> Result<(), Abort> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Sharing(session, shares) => {
                let session = *session;
                let mut sharers = Places::none(session.n());
                for (place, _) in shares.iter().enumerate().filter(|(_, shares)| shares.is_some()) {
                    sharers.insert(place);
                }
                at_least(
                    "clients who shared",
                    session.config.survivors_min,
                    sharers.count(),
                )?;
                let trees = shares
                    .iter()
                    .enumerate()
                    .map(|(place, shares)| shares.as_ref().map(|shares| tree(&session, place, shares)))
                    .collect();
                let sharers_hash = session.sharers_hash(&sharers);
                let (dimension, bits) = (session.config.dimension as usize, session.config.modulus_bits);
                let headers = vec![None; session.n()];
                let sum = Residues::zeros(dimension, bits);
                let masking = Masking {
                    session,
                    shares,
                    trees,
                    sharers,
                    sharers_hash,
                    sum,
                    headers,
                };
                self.step = Step::Masking(Box::new(masking));
                Ok(())
            }
            other => self.misused(other, "close_sharing"),
        }
    }

    /// The mask request for one client; `None` if it has no part in this step. The same bytes each time.
    pub fn mask_request(&self, client: u64) -> Option<Vec<u8>> {
        let Step::Masking(masking) = &self.step else {
            return None;
        };
        let session = &masking.session;
        let place = session
            .place(client)
            .filter(|place| masking.sharers.contains(*place))?;
        let mut writer = Writer::new(Delivery::KIND);
        writer.bytes(masking.sharers.as_bytes());
        for dealer in session.neighbors_in(place, &masking.sharers) {
            let shares = masking.shares[dealer].as_ref()?;
            let position = session.position(dealer, place)?;
            let delivery = Delivery {
                dealt: shares.dealt[position].clone(),
                own: shares.own,
                signature: shares.signature,
                proof: masking.trees[dealer].as_ref()?.proof(position),
            };
            delivery.write(&mut writer);
        }
        Some(writer.finish())
    }

    /// Takes a client's masked input and adds it to the sum.
    pub fn handle_masked_input(&mut self, message: &[u8]) -> Result<(), Fault> {
        let Step::Masking(masking) = &mut self.step else {
            return Err(self.step.wrong("a masked input"));
        };
        let session = &masking.session;
        let mut reader = Reader::new(message, MASKED_INPUT)?;
        let client = reader.u64("client")?;
        let header = Header::read(&mut reader)?;
        let packed = reader.rest();
        let place = session
            .place(client)
            .filter(|place| masking.sharers.contains(*place))
            .ok_or(Fault::Uninvited { client })?;
        if masking.headers[place].is_some() {
            return Err(Fault::AlreadySent {
                client,
                message: "input",
            });
        }
        if header.sharers != masking.sharers_hash {
            return Err(Fault::OtherView { client });
        }
        if header.input != <Hash>::from(Sha256::digest(packed)) || !session.header_of(place, &header).holds()
        {
            return Err(Fault::Signature { client });
        }
        let (dimension, bits) = (session.config.dimension as usize, session.config.modulus_bits);
        if !masking.sum.add_packed(packed, bits) {
            let expected = packed_bytes(dimension, bits);
            return Err(Fault::Length {
                client,
                expected,
                got: packed.len(),
            });
        }
        masking.headers[place] = Some(header);
        Ok(())
    }

    /// Fixes whose input is in the sum, U₂.
    pub fn close_masking(&mut self) -> Result<(), Abort> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Masking(masking) => {
                let mut survivors = Places::none(masking.session.n());
                for (place, _) in masking
                    .headers
                    .iter()
                    .enumerate()
                    .filter(|(_, header)| header.is_some())
                {
                    survivors.insert(place);
                }
                at_least(
                    "survivors",
                    masking.session.config.survivors_min,
                    survivors.count(),
                )?;
                let hash = masking.session.view(&masking.sharers, &survivors);
                let view = View {
                    survivors,
                    hash,
                    confirmations: BTreeMap::new(),
                    opened: BTreeMap::new(),
                };
                self.step = Step::Confirming(masking, view);
                Ok(())
            }
            other => self.misused(other, "close_masking"),
        }
    }

    /// The survivors, for one of them.
    pub fn survivors(&self, client: u64) -> Option<Vec<u8>> {
        let Step::Confirming(masking, view) = &self.step else {
            return None;
        };
        let place = masking
            .session
            .place(client)
            .filter(|place| view.survivors.contains(*place))?;
        let mut writer = Writer::new(SURVIVORS);
        writer.bytes(view.survivors.as_bytes());
        for neighbor in masking.session.neighbors_in(place, &view.survivors) {
            masking.headers[neighbor].as_ref()?.write(&mut writer);
        }
        Some(writer.finish())
    }

    /// Whose input is in the sum, ascending; `None` before that is fixed.
    pub fn survivor_list(&self) -> Option<Vec<u64>> {
        let (Step::Confirming(masking, view)
        | Step::Confirmed(masking, view)
        | Step::Unmasking(masking, view)) = &self.step
        else {
            return None;
        };
        let places = (0..masking.session.n()).filter(|place| view.survivors.contains(*place));
        Some(places.map(|place| masking.session.client(place)).collect())
    }

    /// Takes a client's confirmation.
    pub fn handle_confirmation(&mut self, message: &[u8]) -> Result<(), Fault> {
        let Step::Confirming(masking, view) = &mut self.step else {
            return Err(self.step.wrong("a confirmation"));
        };
        let mut reader = Reader::new(message, CONFIRMATION)?;
        let client = reader.u64("client")?;
        let signature = reader.array("signature")?;
        reader.finish()?;
        let session = &masking.session;
        let place = session
            .place(client)
            .filter(|place| view.survivors.contains(*place))
            .ok_or(Fault::Uninvited { client })?;
        let identity = &session.roster.0[place].certificate.identity;
        if !verify(
            identity,
            CONFIRMATION_LABEL,
            &[&client.to_le_bytes(), &view.hash],
            &signature,
        ) {
            return Err(Fault::OtherView { client });
        }
        let key = u32::try_from(place).unwrap_or(u32::MAX);
        match view.confirmations.insert(key, signature) {
            Some(_) => Err(Fault::AlreadySent {
                client,
                message: "confirmation",
            }),
            None => Ok(()),
        }
    }

    /// Ends the confirmations. Gives the hash of terms, roster and both sets, which the record of the charge should hold.
    pub fn close_confirming(&mut self) -> Result<Hash, Abort> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Confirming(masking, view) => {
                let got = u32::try_from(view.confirmations.len()).unwrap_or(u32::MAX);
                at_least("confirmations", masking.session.confirmations_needed(), got)?;
                let hash = view.hash;
                self.step = Step::Confirmed(masking, view);
                Ok(hash)
            }
            other => self.misused(other, "close_confirming"),
        }
    }

    /// The round is charged, and `charge` is the hash of the durable record that says so. Gives the unmask request for all
    /// survivors: from here on the sum can be learnt, so there is no way back to an uncharged round.
    pub fn charge(&mut self, charge: Hash) -> Result<Vec<u8>, Abort> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Confirmed(masking, view) => {
                let mut receipt = [0; 96];
                receipt[..32].copy_from_slice(&charge);
                receipt[32..].copy_from_slice(&self.key.sign(CHARGE_LABEL, &[&view.hash, &charge]));
                let mut writer = Writer::new(UNMASK_REQUEST);
                writer.bytes(&receipt);
                // As many as are needed, not more: every client verifies them all.
                let needed = masking.session.confirmations_needed();
                writer.u32(needed);
                for (place, signature) in view.confirmations.iter().take(needed as usize) {
                    writer.u32(*place).bytes(signature);
                }
                self.step = Step::Unmasking(masking, view);
                Ok(writer.finish())
            }
            other => self.misused(other, "charge"),
        }
    }

    /// Takes the shares that a client opened.
    pub fn handle_opened_shares(&mut self, message: &[u8]) -> Result<(), Fault> {
        let Step::Unmasking(masking, view) = &mut self.step else {
            return Err(self.step.wrong("opened shares"));
        };
        let session = &masking.session;
        let mut reader = Reader::new(message, OPENED_SHARES)?;
        let client = reader.u64("client")?;
        let place = session
            .place(client)
            .filter(|place| view.survivors.contains(*place))
            .ok_or(Fault::Uninvited { client })?;
        if view.opened.contains_key(&place) {
            return Err(Fault::AlreadySent {
                client,
                message: "opened shares",
            });
        }
        let (mut digest, mut openings) = (Sha256::new(), Vec::new());
        for _ in session.neighbors_in(place, &masking.sharers) {
            let is_held = reader.array::<1>("held")?;
            digest.update(is_held);
            openings.push(match is_held {
                [0] => None,
                _ => {
                    let opening = Zeroizing::new(reader.array("share")?);
                    digest.update(opening.as_slice());
                    Some(opening)
                }
            });
        }
        let signature = reader.array("signature")?;
        reader.finish()?;
        let identity = &session.roster.0[place].certificate.identity;
        let digest: Hash = digest.finalize().into();
        if !verify(
            identity,
            OPENED_LABEL,
            &[&view.hash, &client.to_le_bytes(), &digest],
            &signature,
        ) {
            return Err(Fault::Signature { client });
        }
        view.opened.insert(place, openings);
        Ok(())
    }

    /// Removes the masks and gives the sum, on up to `n_threads` threads; the result does not depend on their number.
    ///
    /// While too few shares have come ([`Abort::Unrecoverable`]) it may be tried again. Any other error ends the attempt.
    pub fn finish(&mut self, n_threads: usize) -> Result<Sum, Abort> {
        match std::mem::replace(&mut self.step, Step::Done) {
            Step::Unmasking(mut masking, view) => {
                let opened = Opened::check(&masking, &view);
                let masks = match opened.masks(&masking, &view, n_threads.max(1)) {
                    Ok(masks) => masks,
                    Err(abort) => {
                        if matches!(abort, Abort::Unrecoverable { .. }) {
                            self.step = Step::Unmasking(masking, view);
                        }
                        return Err(abort);
                    }
                };
                masking.sum.add_masks(&masks, n_threads);
                let session = &masking.session;
                let clients = |is_in: &dyn Fn(usize) -> bool| {
                    (0..session.n())
                        .filter(|place| is_in(*place))
                        .map(|place| session.client(place))
                        .collect()
                };
                Ok(Sum {
                    values: masking.sum.to_centered(session.config.modulus_bits),
                    survivors: clients(&|place| view.survivors.contains(place)),
                    dropped: clients(&|place| {
                        masking.sharers.contains(place) && !view.survivors.contains(place)
                    }),
                    wrong_holders: clients(&|place| opened.wrong_holders.contains(&place)),
                })
            }
            other => self.misused(other, "finish"),
        }
    }

    fn misused<T>(&mut self, step: Step, call: &'static str) -> Result<T, Abort> {
        self.step = step;
        Err(Abort::ApiMisuse {
            call,
            state: self.step.name(),
        })
    }
}

/// The opened shares that are what their dealers committed to.
struct Opened {
    /// For each dealer the points and shares.
    valid: Vec<Vec<(u64, Share)>>,
    wrong_holders: BTreeSet<usize>,
}

impl Opened {
    fn check(masking: &Masking, view: &View) -> Self {
        let session = &masking.session;
        let mut valid: Vec<Vec<(u64, Share)>> = (0..session.n()).map(|_| Vec::new()).collect();
        let mut wrong_holders = BTreeSet::new();
        for (&holder, openings) in &view.opened {
            for (dealer, opening) in session.neighbors_in(holder, &masking.sharers).zip(openings) {
                let Some(opening) = opening else { continue };
                let secret = secret_of(dealer, view);
                let (from, to) = (session.client(dealer), session.client(holder));
                let commitment = share_commitment(&session.config_hash, from, to, secret, opening);
                let dealt = session
                    .position(dealer, holder)
                    .and_then(|position| {
                        Some((position, masking.shares[dealer].as_ref()?.dealt.get(position)?))
                    })
                    .filter(|(_, dealt)| *dealt.commitment(secret) == commitment);
                let share = opening.first_chunk().and_then(Share::from_bytes);
                match (dealt, share) {
                    (Some((position, _)), Some(share)) => valid[dealer].push((position as u64 + 1, share)),
                    _ => {
                        wrong_holders.insert(holder);
                    }
                }
            }
        }
        Self { valid, wrong_holders }
    }

    /// All masks that are left in the sum, with the signs that remove them.
    fn masks(&self, masking: &Masking, view: &View, n_threads: usize) -> Result<Vec<Mask>, Abort> {
        let dealers: Vec<usize> = (0..masking.session.n())
            .filter(|place| masking.sharers.contains(*place))
            .collect();
        let share = dealers.len().div_ceil(n_threads).max(1);
        let masks_of_part = |part: &[usize]| {
            let mut masks = Vec::new();
            part.iter()
                .try_for_each(|dealer| self.masks_of(*dealer, masking, view, &mut masks))
                .map(|()| masks)
        };
        std::thread::scope(|scope| {
            let mut parts = dealers.chunks(share);
            let own = parts.next().unwrap_or_default();
            let others: Vec<_> = parts
                .map(|part| scope.spawn(move || masks_of_part(part)))
                .collect();
            let mut all = masks_of_part(own)?;
            for part in others {
                match part.join() {
                    Ok(masks) => all.append(&mut masks?),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Ok(all)
        })
    }

    fn masks_of(
        &self,
        dealer: usize,
        masking: &Masking,
        view: &View,
        masks: &mut Vec<Mask>,
    ) -> Result<(), Abort> {
        let session = &masking.session;
        let client = session.client(dealer);
        let secret = secret_of(dealer, view);
        let others: Vec<usize> = session.neighbors_in(dealer, &view.survivors).collect();
        if secret == Secret::Pairwise && others.is_empty() {
            return Ok(());
        }
        let threshold = session.parameters.threshold as usize;
        let Some(used) = self.valid[dealer].get(..threshold) else {
            let got = u32::try_from(self.valid[dealer].len()).unwrap_or(u32::MAX);
            return Err(Abort::Unrecoverable {
                client,
                least: session.parameters.threshold,
                got,
            });
        };
        let points: Vec<u64> = used.iter().map(|(point, _)| *point).collect();
        // Each share is what the dealer signed, so if they give something else than it signed, it cheated.
        let cheated = Abort::Dealer { client };
        let seed = recover(
            &coefficients_at_zero(&points),
            used.iter().map(|(_, share)| share),
        )
        .ok_or_else(|| cheated.clone())?;
        match secret {
            Secret::Own => {
                let committed = masking.shares[dealer].as_ref().map(|shares| shares.own);
                if committed != Some(own_commitment(&session.config_hash, client, &seed)) {
                    return Err(cheated);
                }
                masks.push(session.own_mask(dealer, &seed, Sign::Minus));
            }
            Secret::Pairwise => {
                let key = AgreementKey::new(&pairwise_secret(&session.config_hash, client, &seed));
                if key.public != session.roster.0[dealer].mask_key {
                    return Err(cheated);
                }
                for other in others {
                    let agreed = key
                        .agree(&session.roster.0[other].mask_key)
                        .ok_or_else(|| cheated.clone())?;
                    // The other added the mask with its own sign; the dealer's sign is the opposite and removes it.
                    masks.push(session.pairwise_mask(dealer, other, &agreed));
                }
            }
        }
        Ok(())
    }
}

/// Which secret of a client is opened: never both.
fn secret_of(dealer: usize, view: &View) -> Secret {
    if view.survivors.contains(dealer) {
        Secret::Own
    } else {
        Secret::Pairwise
    }
}

fn tree(session: &Session, dealer: usize, shares: &Shares) -> Tree {
    let holders = session.graph[dealer]
        .iter()
        .map(|holder| session.client(*holder as usize));
    Tree::new(
        holders
            .zip(&shares.dealt)
            .map(|(holder, dealt)| dealt.leaf(holder))
            .collect(),
    )
}

fn at_least(what: &'static str, least: u32, got: u32) -> Result<(), Abort> {
    if got >= least {
        Ok(())
    } else {
        Err(Abort::TooFew { what, least, got })
    }
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Advertising(..) => "collecting keys",
            Self::Sharing(..) => "collecting shares",
            Self::Masking(_) => "collecting inputs",
            Self::Confirming(..) => "collecting confirmations",
            Self::Confirmed(..) => "waiting for the charge",
            Self::Unmasking(..) => "collecting opened shares",
            Self::Done => "over",
        }
    }

    fn wrong(&self, message: &'static str) -> Fault {
        Fault::WrongStep {
            message,
            state: self.name(),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("step", &self.step.name())
            .finish_non_exhaustive()
    }
}
