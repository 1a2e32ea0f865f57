//! Attempts between simulated clients: with the protocol, or without its cryptography and with the same result.

use std::fmt;
use std::time::Duration;

use crate::client::{Client, Expected};
use crate::codec::Places;
use crate::config::{Policy, RoundConfig};
use crate::crypto::{Authority, Hash, Identity, ServerKey, hash};
use crate::error::{Abort, Refusal};
use crate::message::{Advertisement, Roster};
use crate::random::Entropy;
use crate::server::{Server, Sum};
use crate::session::Session;
use crate::vector::Residues;

/// The last thing that a simulated client does in an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(clippy::exhaustive_enums, reason = "these are the steps of the protocol")]
pub enum LastStep {
    /// It never comes.
    Nothing,
    /// It advertises its keys.
    Advertises,
    /// It shares its secrets.
    Shares,
    /// It sends its input, and is in the sum.
    Sends,
    /// It confirms the survivors.
    Confirms,
    /// It stays to the end.
    Opens,
}

/// Chances that a client vanishes before each step, given that it has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DropoutRates {
    /// Before it advertises its keys.
    pub advertising: f64,
    /// Before it shares its secrets.
    pub sharing: f64,
    /// Before it sends its input.
    pub sending: f64,
    /// Before it confirms.
    pub confirming: f64,
    /// Before it opens shares.
    pub opening: f64,
}

impl DropoutRates {
    /// Draws a client's last step; `uniform` gives numbers from [0, 1).
    pub fn draw(&self, mut uniform: impl FnMut() -> f64) -> LastStep {
        let steps = [
            (self.advertising, LastStep::Nothing),
            (self.sharing, LastStep::Advertises),
            (self.sending, LastStep::Shares),
            (self.confirming, LastStep::Sends),
            (self.opening, LastStep::Confirms),
        ];
        // As many numbers whatever comes out, so that one rate does not change what is drawn for another.
        let drawn = steps.map(|(rate, step)| (uniform() < rate).then_some(step));
        drawn.into_iter().flatten().next().unwrap_or(LastStep::Opens)
    }
}

/// A client of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulatedClient {
    /// Its number in the federation.
    pub client: u64,
    /// When it vanishes.
    pub last_step: LastStep,
}

/// A federation whose keys all follow from one seed: it protects nobody.
pub struct SimulatedFederation {
    seed: [u8; 32],
    authority: Authority,
    server: ServerKey,
    n_threads: usize,
}

impl fmt::Debug for SimulatedFederation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedFederation")
            .field("n_threads", &self.n_threads)
            .finish_non_exhaustive()
    }
}

impl SimulatedFederation {
    /// The federation with this seed, which works on so many threads. Results do not depend on the number of threads.
    pub fn new(seed: [u8; 32], n_threads: usize) -> Self {
        Self {
            authority: Authority::from_secret(&hash("umbel/simulated/authority", &[&seed])),
            server: ServerKey::from_secret(&hash("umbel/simulated/server", &[&seed])),
            seed,
            n_threads: n_threads.max(1),
        }
    }

    /// Plays the protocol between a server and the clients, who exchange bytes only, up to the moment when the round must be
    /// charged.
    ///
    /// `clients` in ascending order, each once. `input` is asked once for each client that sends, for the integers that it
    /// contributes. An error is what the server would report: then nothing was learnt.
    pub fn attempt(
        &self,
        terms: &RoundConfig,
        clients: &[SimulatedClient],
        input: impl Fn(u64) -> Vec<i64> + Sync,
    ) -> Result<Confirmed<'_>, Abort> {
        let mut server = Server::new(terms.clone(), self.authority.public(), self.server.clone());
        let mut members = self.members(terms, &server.offer()?, clients);
        for member in &mut members {
            let Ok(message) = member.client.handle_mark_stored() else {
                continue;
            };
            member.take(server.handle_advertisement(&message));
        }
        let roster = server.close_advertising()?;

        self.step(
            &mut members,
            LastStep::Shares,
            |client, _| client.handle_roster(&roster),
            |message| server.handle_shares(message).is_ok(),
        );
        server.close_sharing()?;

        // Requests are made by the server as it is now, inputs are taken by it afterwards; a few at a time, for their size.
        for part in members.chunks_mut(4 * self.n_threads) {
            let requests: Vec<(u64, Option<Vec<u8>>)> = part
                .iter()
                .map(|member| (member.number, server.mask_request(member.number)))
                .collect();
            let request_of = |number| {
                requests
                    .iter()
                    .find(|(other, _)| *other == number)
                    .and_then(|(_, request)| request.as_ref())
            };
            let answer = |client: &mut Client, number| {
                let request = request_of(number).ok_or(Refusal::NotOnRoster)?;
                client.handle_mask_request(request)?;
                client.handle_charge_stored(&input(number))
            };
            self.step(part, LastStep::Sends, answer, |message| {
                server.handle_masked_input(message).is_ok()
            });
        }
        server.close_masking()?;

        let survivors: Vec<(u64, Option<Vec<u8>>)> = members
            .iter()
            .map(|member| (member.number, server.survivors(member.number)))
            .collect();
        let answer = |client: &mut Client, number| {
            let place = survivors.binary_search_by_key(&number, |(other, _)| *other).ok();
            let message = place
                .and_then(|place| survivors[place].1.as_ref())
                .ok_or(Refusal::NotOnRoster)?;
            client.handle_survivors(message)
        };
        self.step(&mut members, LastStep::Confirms, answer, |message| {
            server.handle_confirmation(message).is_ok()
        });
        let view = server.close_confirming()?;
        let survivors = server.survivor_list().unwrap_or_default();
        Ok(Confirmed {
            federation: self,
            survivors,
            sealed: Sealed::Masked {
                server: Box::new(server),
                members,
                view,
            },
        })
    }

    /// What [`attempt`](Self::attempt) gives, bit for bit, for honest clients and an honest server, without masks and shares: the keys are made,
    /// since the graph follows from them, and the steps' conditions are counted out.
    pub fn ideal(
        &self,
        terms: &RoundConfig,
        clients: &[SimulatedClient],
        input: impl Fn(u64) -> Vec<i64> + Sync,
    ) -> Result<Confirmed<'_>, Abort> {
        let server = Server::new(terms.clone(), self.authority.public(), self.server.clone());
        let mut roster = Vec::new();
        let mut last_steps = Vec::new();
        for mut member in self.members(terms, &server.offer()?, clients) {
            let advertisement = member.client.handle_mark_stored().ok();
            roster.extend(advertisement.and_then(|message| Advertisement::decode(&message).ok()));
            last_steps.push(member.last_step);
        }
        let session = Session::new(terms.clone(), Roster(roster)).map_err(Abort::Roster)?;
        let (n, threshold) = (session.n(), session.parameters.threshold);
        let who = |is_in: &dyn Fn(usize) -> bool| {
            let mut set = Places::none(n);
            (0..n)
                .filter(|place| is_in(*place))
                .for_each(|place| set.insert(place));
            set
        };
        let n_neighbors = |place: usize, set: &Places| {
            u32::try_from(session.neighbors_in(place, set).count()).unwrap_or(u32::MAX)
        };
        let at_least = |what, least, set: &Places| match set.count() {
            got if got >= least => Ok(()),
            got => Err(Abort::TooFew { what, least, got }),
        };
        let sharers = who(&|place| last_steps[place] >= LastStep::Shares);
        at_least("clients who shared", terms.survivors_min, &sharers)?;
        let survivors =
            who(&|place| last_steps[place] >= LastStep::Sends && n_neighbors(place, &sharers) >= threshold);
        at_least("survivors", terms.survivors_min, &survivors)?;
        let confirmed = who(&|place| {
            survivors.contains(place)
                && last_steps[place] >= LastStep::Confirms
                && n_neighbors(place, &survivors) >= threshold
        });
        at_least("confirmations", session.confirmations_needed(), &confirmed)?;
        let openers = who(&|place| confirmed.contains(place) && last_steps[place] == LastStep::Opens);
        let unrecoverable = (0..n).filter(|place| sharers.contains(*place)).find_map(|place| {
            let is_needed = survivors.contains(place) || n_neighbors(place, &survivors) > 0;
            let got = n_neighbors(place, &openers);
            (is_needed && got < threshold).then(|| Abort::Unrecoverable {
                client: session.client(place),
                least: threshold,
                got,
            })
        });
        let bits = terms.modulus_bits;
        let mut sum = Residues::zeros(terms.dimension as usize, bits);
        let in_sum: Vec<u64> = (0..n)
            .filter(|place| survivors.contains(*place))
            .map(|place| session.client(place))
            .collect();
        for part in in_sum.chunks(4 * self.n_threads) {
            for values in self.map(&mut part.to_vec(), |number| input(*number)) {
                if values.len() == terms.dimension as usize {
                    let packed = Residues::from_integers(&values, bits).pack(bits);
                    sum.add_packed(&packed, bits);
                }
            }
        }
        let dropped = (0..n).filter(|place| sharers.contains(*place) && !survivors.contains(*place));
        let sum = Sum {
            values: sum.to_centered(bits),
            dropped: dropped.map(|place| session.client(place)).collect(),
            survivors: in_sum,
            wrong_holders: Vec::new(),
        };
        Ok(Confirmed {
            federation: self,
            survivors: sum.survivors.clone(),
            sealed: Sealed::Plain(unrecoverable.map_or(Ok(sum), Err)),
        })
    }

    /// The clients who advertise.
    fn members(&self, terms: &RoundConfig, offer: &[u8], clients: &[SimulatedClient]) -> Vec<Member> {
        let mut present: Vec<SimulatedClient> = clients
            .iter()
            .filter(|client| client.last_step >= LastStep::Advertises)
            .copied()
            .collect();
        let made = self.map(&mut present, |SimulatedClient { client, last_step }| {
            let derive = |label, parts: &[&[u8]]| -> Hash {
                hash(label, &[&[&self.seed[..], &client.to_le_bytes()], parts].concat())
            };
            let identity = Identity::from_secret(&derive("umbel/simulated/identity", &[]));
            let certificate = self
                .authority
                .certify(&terms.federation, *client, identity.public());
            let moment: [&[u8]; 2] = [&terms.round.to_le_bytes(), &terms.attempt.to_le_bytes()];
            let entropy = Entropy::new(derive("umbel/simulated/entropy", &moment));
            let expected = Expected {
                model: terms.model,
                mechanism: terms.mechanism,
            };
            let made = Client::new(
                offer,
                self.policy(terms),
                expected,
                None,
                certificate,
                identity,
                entropy,
            );
            made.ok().map(|made| Member {
                number: *client,
                last_step: *last_step,
                client: made,
            })
        });
        made.into_iter().flatten().collect()
    }

    /// Simulated clients have no opinion of their own: they insist on what the terms say.
    fn policy(&self, terms: &RoundConfig) -> Policy {
        Policy {
            federation: terms.federation,
            authority: self.authority.public(),
            server: self.server.public(),
            clients_min: terms.clients_min,
            survivors_min: terms.survivors_min,
            colluding: terms.colluding,
            colluding_permille: terms.colluding_permille,
            noise_target_variance: terms.noise_target_variance,
        }
    }

    /// Lets all who are still there answer, and the server take the answers in order.
    fn step(
        &self,
        members: &mut [Member],
        step: LastStep,
        answer: impl Fn(&mut Client, u64) -> Result<Vec<u8>, Refusal> + Sync,
        mut take: impl FnMut(&[u8]) -> bool,
    ) {
        let answers = self.map(members, |member| {
            let is_there = member.last_step >= step && !member.client.is_over();
            is_there
                .then(|| answer(&mut member.client, member.number).ok())
                .flatten()
        });
        for (member, message) in members.iter_mut().zip(answers) {
            let is_taken = message.is_some_and(|message| take(&message));
            if !is_taken {
                member.last_step = LastStep::Nothing;
            }
        }
    }

    /// Applies a function to each item, on all threads, and keeps the order.
    fn map<T: Send, R: Send>(&self, items: &mut [T], function: impl Fn(&mut T) -> R + Sync) -> Vec<R> {
        let share = items.len().div_ceil(self.n_threads).max(1);
        std::thread::scope(|scope| {
            let function = &function;
            let parts: Vec<_> = items
                .chunks_mut(share)
                .map(|part| scope.spawn(move || part.iter_mut().map(function).collect::<Vec<R>>()))
                .collect();
            let mut results = Vec::new();
            for part in parts {
                match part.join() {
                    Ok(part) => results.extend(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            results
        })
    }
}

/// An attempt whose survivors are confirmed. Its sum is not learnt before it is charged.
pub struct Confirmed<'a> {
    federation: &'a SimulatedFederation,
    survivors: Vec<u64>,
    sealed: Sealed,
}

enum Sealed {
    Masked {
        server: Box<Server>,
        members: Vec<Member>,
        view: Hash,
    },
    /// Of an ideal attempt, what opening it will give.
    Plain(Result<Sum, Abort>),
}

impl Confirmed<'_> {
    /// Who will be in the sum, ascending.
    pub fn survivors(&self) -> &[u64] {
        &self.survivors
    }

    /// Opens the sum, which must be charged by now. On an error it is lost, and the charge stays.
    pub fn open(self) -> Result<Sum, Abort> {
        match self.sealed {
            Sealed::Plain(sum) => sum,
            Sealed::Masked {
                mut server,
                mut members,
                view,
            } => {
                // Stands for the hash of a ledger's record: simulated clients keep no receipts.
                let request = server.charge(hash("umbel/simulated/charge", &[&view]))?;
                let answer = |client: &mut Client, _| client.handle_unmask_request(&request, Duration::ZERO);
                self.federation
                    .step(&mut members, LastStep::Opens, answer, |message| {
                        server.handle_opened_shares(message).is_ok()
                    });
                server.finish(self.federation.n_threads)
            }
        }
    }
}

impl fmt::Debug for Confirmed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmed")
            .field("survivors", &self.survivors.len())
            .finish_non_exhaustive()
    }
}

struct Member {
    number: u64,
    last_step: LastStep,
    client: Client,
}

impl Member {
    /// A client whose message is not taken has no further part.
    fn take<E>(&mut self, result: Result<(), E>) {
        if result.is_err() {
            self.last_step = LastStep::Nothing;
        }
    }
}
