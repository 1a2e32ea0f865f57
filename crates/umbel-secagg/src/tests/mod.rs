//! Whole attempts between one server and many clients that exchange bytes only, and everything that either can do wrong.

mod attempts;
mod lying_client;
mod lying_server;
mod mutations;
mod secrets;
mod simulation;
mod vectors;

use std::time::Duration;

use crate::{
    Abort, Authority, Certificate, Client, Entropy, Expected, Hash, Identity, Mark, Policy, Refusal,
    RoundConfig, Server, ServerKey, Sum, Topology,
};

pub(crate) const FEDERATION: Hash = [1; 32];
pub(crate) const EXPECTED: Expected = Expected {
    model: [2; 32],
    mechanism: [3; 32],
};

/// Up to 255 clients with the numbers 3, 13, 23, …, their server, and nothing shared between them.
pub(crate) struct World {
    pub(crate) config: RoundConfig,
    pub(crate) server: Server,
    pub(crate) clients: Vec<Client>,
    pub(crate) inputs: Vec<Vec<i64>>,
}

pub(crate) fn config(n: u32, topology: Topology) -> RoundConfig {
    RoundConfig {
        federation: FEDERATION,
        round: 7,
        attempt: 0,
        model: EXPECTED.model,
        mechanism: EXPECTED.mechanism,
        dimension: n,
        modulus_bits: 20,
        clients_min: 3,
        clients_max: n,
        survivors_min: n.div_ceil(2) + 2,
        colluding: 1,
        colluding_permille: 0,
        dropout_permille: 100,
        topology,
        noise_share_variance: 0.0,
        noise_target_variance: 0.0,
        duration_ms: 60_000,
    }
}

pub(crate) fn policy() -> Policy {
    Policy {
        federation: FEDERATION,
        authority: authority().public(),
        server: server_key().public(),
        clients_min: 3,
        survivors_min: 2,
        colluding: 1,
        colluding_permille: 0,
        noise_target_variance: 0.0,
    }
}

pub(crate) fn authority() -> Authority {
    Authority::from_secret(&[4; 32])
}

pub(crate) fn server_key() -> ServerKey {
    ServerKey::from_secret(&[5; 32])
}

pub(crate) fn number(i: usize) -> u64 {
    10 * i as u64 + 3
}

pub(crate) fn identity(i: usize) -> Identity {
    let mut secret = [6; 32];
    secret[0] = u8::try_from(i).unwrap();
    Identity::from_secret(&secret)
}

pub(crate) fn certificate(i: usize) -> Certificate {
    authority().certify(&FEDERATION, number(i), identity(i).public())
}

/// Client i's secrets in a round.
pub(crate) fn entropy(i: usize, config: &RoundConfig) -> Entropy {
    let mut secret = [8; 32];
    secret[0] = u8::try_from(i).unwrap();
    secret[1..9].copy_from_slice(&config.round.to_le_bytes());
    secret[9..13].copy_from_slice(&config.attempt.to_le_bytes());
    Entropy::new(secret)
}

/// Client i, who reads this offer.
pub(crate) fn client(i: usize, offer: &[u8], config: &RoundConfig) -> Result<Client, Refusal> {
    client_after(i, offer, config, None)
}

pub(crate) fn client_after(
    i: usize,
    offer: &[u8],
    config: &RoundConfig,
    last: Option<Mark>,
) -> Result<Client, Refusal> {
    Client::new(
        offer,
        policy(),
        EXPECTED,
        last,
        certificate(i),
        identity(i),
        entropy(i, config),
    )
}

impl World {
    pub(crate) fn new(config: RoundConfig) -> Self {
        let n = config.clients_max as usize;
        let server = Server::new(config.clone(), authority().public(), server_key());
        let offer = server.offer().unwrap();
        let clients = (0..n).map(|i| client(i, &offer, &config).unwrap()).collect();
        // Client i adds one to coordinate i, so that a sum tells who is in it and how often.
        let inputs = (0..n)
            .map(|i| {
                (0..config.dimension as usize)
                    .map(|j| i64::from(i == j) - 1_000)
                    .collect()
            })
            .collect();
        Self {
            config,
            server,
            clients,
            inputs,
        }
    }

    /// Those for whom `who` says so advertise; then all of them get the roster.
    pub(crate) fn advertise(&mut self, who: impl Fn(usize) -> bool) -> Result<Vec<u8>, Abort> {
        for (i, client) in self.clients.iter_mut().enumerate() {
            if who(i) {
                let message = client.handle_mark_stored().unwrap();
                self.server.handle_advertisement(&message).unwrap();
            }
        }
        self.server.close_advertising()
    }

    pub(crate) fn share(&mut self, roster: &[u8], who: impl Fn(usize) -> bool) -> Result<(), Abort> {
        for (i, client) in self.clients.iter_mut().enumerate() {
            if who(i) {
                self.server
                    .handle_shares(&client.handle_roster(roster).unwrap())
                    .unwrap();
            }
        }
        self.server.close_sharing()
    }

    /// Who does not answer for a reason of its own leaves the round.
    pub(crate) fn mask(&mut self, who: impl Fn(usize) -> bool) -> Result<Vec<Refusal>, Abort> {
        let mut refusals = Vec::new();
        for i in 0..self.clients.len() {
            if who(i) {
                match self.masked_input(i) {
                    Ok(message) => self.server.handle_masked_input(&message).unwrap(),
                    Err(refusal) => refusals.push(refusal),
                }
            }
        }
        self.server.close_masking()?;
        Ok(refusals)
    }

    pub(crate) fn masked_input(&mut self, i: usize) -> Result<Vec<u8>, Refusal> {
        let request = self.server.mask_request(number(i)).unwrap();
        self.clients[i].handle_mask_request(&request)?;
        self.clients[i].handle_charge_stored(&self.inputs[i])
    }

    pub(crate) fn confirm(&mut self, who: impl Fn(usize) -> bool) -> Result<Vec<Refusal>, Abort> {
        let mut refusals = Vec::new();
        for (i, client) in self.clients.iter_mut().enumerate() {
            if who(i) {
                match client.handle_survivors(&self.server.survivors(number(i)).unwrap()) {
                    Ok(message) => self.server.handle_confirmation(&message).unwrap(),
                    Err(refusal) => refusals.push(refusal),
                }
            }
        }
        self.server.close_confirming()?;
        Ok(refusals)
    }

    pub(crate) fn open(&mut self, who: impl Fn(usize) -> bool) -> Result<Sum, Abort> {
        let request = self.server.charge([9; 32])?;
        for (i, client) in self.clients.iter_mut().enumerate() {
            if who(i) {
                let message = client.handle_unmask_request(&request, Duration::ZERO).unwrap();
                self.server.handle_opened_shares(&message).unwrap();
            }
        }
        self.server.finish(2)
    }

    /// The sum of these clients' inputs.
    pub(crate) fn expected(&self, who: impl Fn(usize) -> bool) -> Vec<i64> {
        (0..self.config.dimension as usize)
            .map(|j| {
                (0..self.inputs.len())
                    .filter(|i| who(*i))
                    .map(|i| self.inputs[i][j])
                    .sum()
            })
            .collect()
    }

    /// A world in which everybody has shared, and the roster.
    pub(crate) fn shared(config: RoundConfig) -> Self {
        let mut world = Self::new(config);
        let roster = world.advertise(|_| true).unwrap();
        world.share(&roster, |_| true).unwrap();
        world
    }

    /// A world in which everybody has sent its input.
    pub(crate) fn masked(config: RoundConfig) -> Self {
        let mut world = Self::shared(config);
        assert_eq!(world.mask(|_| true).unwrap(), []);
        world
    }

    /// A world in which everybody has confirmed.
    pub(crate) fn confirmed(config: RoundConfig) -> Self {
        let mut world = Self::masked(config);
        assert_eq!(world.confirm(|_| true).unwrap(), []);
        world
    }
}

/// A refusal has ended the attempt for this client: nothing is answered any more.
pub(crate) fn assert_locked(client: &mut Client) {
    assert!(client.is_over());
    assert!(client.handle_roster(&[]).is_err());
    assert!(client.handle_mask_request(&[]).is_err());
    assert!(client.handle_charge_stored(&[]).is_err());
    assert!(client.handle_survivors(&[]).is_err());
    assert!(client.handle_unmask_request(&[], Duration::ZERO).is_err());
}
