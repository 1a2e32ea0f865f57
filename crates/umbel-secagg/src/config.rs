//! What a round is: the terms that a server offers and clients check.

use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::{Hash, ServerKey, hash, verify};
use crate::error::Refusal;
use crate::graph::Topology;
use crate::parameters::{Counts, MAX_CLIENTS, NoParameters, Parameters};

/// Most coordinates of a vector.
pub const MAX_DIMENSION: u32 = 1 << 30;

/// Everything that is fixed before the first key is made. Its hash goes into every key and every signature, so clients with
/// different terms, models among them, get masks that do not cancel and signatures that do not verify.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundConfig {
    /// Names the federation; certificates hold within it.
    pub federation: Hash,
    /// The round, and with it the ledger entry that is charged. Never used twice once it was charged.
    pub round: u64,
    /// Counts the tries of one round, from 0; a try that was voided before anything was opened may be followed by another.
    pub attempt: u32,
    /// SHA-256 of the model that clients train from.
    pub model: Hash,
    /// SHA-256 of the settings of the mechanism that makes the integers: clip, rotation, grid, noise.
    pub mechanism: Hash,
    /// Length of the vectors, 1 to 2^30.
    pub dimension: u32,
    /// b: sums are modulo 2^b, b from 1 to 62.
    pub modulus_bits: u32,
    /// The fewest clients a roster may have.
    pub clients_min: u32,
    /// The most clients a roster may have, at most [`MAX_CLIENTS`].
    pub clients_max: u32,
    /// The fewest clients a sum may have. Noise shares are sized for it.
    pub survivors_min: u32,
    /// The most identities of the federation that one adversary, the server included, may hold.
    pub colluding: u32,
    /// The most of a roster that collude, in thousandths; the larger of both numbers counts.
    pub colluding_permille: u32,
    /// Dropouts by chance that a round must bear, in thousandths of the roster.
    pub dropout_permille: u32,
    /// The kind of graph.
    pub topology: Topology,
    /// Variance of the noise that each client adds to each of its integers; 0 if none does.
    pub noise_share_variance: f64,
    /// Variance of the noise that honest survivors add together at least; 0 if the server adds the noise.
    pub noise_target_variance: f64,
    /// Milliseconds from the offer after which a client opens nothing any more.
    pub duration_ms: u64,
}

const KIND: u8 = 1;

impl RoundConfig {
    /// The largest modulus.
    pub const MAX_MODULUS_BITS: u32 = 62;

    /// The hash that stands for these terms.
    pub fn hash(&self) -> Hash {
        hash("umbel/sa1/config", &[&self.encode()])
    }

    /// C for a roster of `n`: the larger of the absolute and the relative bound, rounded up.
    pub fn colluding_of(&self, n: u32) -> u32 {
        let relative = (u64::from(n) * u64::from(self.colluding_permille)).div_ceil(1_000);
        self.colluding.max(u32::try_from(relative).unwrap_or(u32::MAX))
    }

    /// Degree and threshold for a roster of `n`.
    pub fn parameters(&self, n: u32) -> Result<Parameters, NoParameters> {
        let dropouts = u64::from(n) * u64::from(self.dropout_permille) / 1_000;
        let counts = Counts {
            clients: n,
            colluding: self.colluding_of(n),
            dropouts: u32::try_from(dropouts).unwrap_or(u32::MAX),
        };
        Parameters::new(counts, self.topology)
    }

    /// Checks that a roster of `n` clients keeps these terms and is safe under them, and gives its parameters.
    ///
    /// - The survivors' floor must be above (n + C)/2, so that no two survivor sets can both be confirmed.
    /// - With C colluders among the fewest survivors the others' noise shares must reach the target.
    pub fn check_roster(&self, n: u32) -> Result<Parameters, Refusal> {
        if !(self.clients_min..=self.clients_max).contains(&n) {
            let (least, most) = (self.clients_min, self.clients_max);
            return Err(Refusal::RosterSize { least, most, got: n });
        }
        let colluding = self.colluding_of(n);
        if u64::from(self.survivors_min) * 2 <= u64::from(n) + u64::from(colluding) {
            let (clients, survivors) = (n, self.survivors_min);
            return Err(Refusal::SurvivorFloor {
                clients,
                colluding,
                survivors,
            });
        }
        let honest = f64::from(self.survivors_min.saturating_sub(colluding));
        let noise = self.noise_share_variance * honest;
        // Written so that NaN is refused.
        if noise >= self.noise_target_variance {
            Ok(self.parameters(n)?)
        } else {
            Err(Refusal::Noise {
                target: self.noise_target_variance,
                got: noise,
            })
        }
    }

    /// Refuses terms that no roster could make sense of.
    fn check(&self) -> Result<(), DecodeError> {
        let refuse = |field, expected| Err(DecodeError::Field { field, expected });
        if !(1..=MAX_DIMENSION).contains(&self.dimension) {
            return refuse("dimension", "between 1 and 2^30");
        }
        if !(1..=Self::MAX_MODULUS_BITS).contains(&self.modulus_bits) {
            return refuse("modulus_bits", "between 1 and 62");
        }
        if self.clients_min > self.clients_max || self.clients_max > MAX_CLIENTS {
            return refuse("clients_max", "at least clients_min and at most 2^14");
        }
        if self.colluding_permille > 1_000 || self.dropout_permille > 1_000 {
            return refuse("permille", "at most 1000");
        }
        for variance in [self.noise_share_variance, self.noise_target_variance] {
            if !(variance.is_finite() && variance >= 0.0) {
                return refuse("noise variance", "finite and not negative");
            }
        }
        Ok(())
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(KIND);
        writer.bytes(&self.federation).u64(self.round).u32(self.attempt);
        writer.bytes(&self.model).bytes(&self.mechanism);
        writer.u32(self.dimension).u32(self.modulus_bits);
        writer
            .u32(self.clients_min)
            .u32(self.clients_max)
            .u32(self.survivors_min);
        writer
            .u32(self.colluding)
            .u32(self.colluding_permille)
            .u32(self.dropout_permille);
        writer.u32(match self.topology {
            Topology::Complete => 1,
            Topology::Regular => 2,
        });
        writer
            .u64(self.noise_share_variance.to_bits())
            .u64(self.noise_target_variance.to_bits());
        writer.u64(self.duration_ms);
        writer.finish()
    }

    /// The signed offer as it is sent.
    pub(crate) fn offer(&self, key: &ServerKey) -> Result<Vec<u8>, DecodeError> {
        self.check()?;
        let mut bytes = self.encode();
        bytes.extend_from_slice(&key.sign("umbel/sa1/offer", &[&self.hash()]));
        Ok(bytes)
    }

    /// Reads an offer of the server with this key.
    pub(crate) fn read_offer(bytes: &[u8], server: &[u8; 32]) -> Result<Self, Refusal> {
        let mut reader = Reader::new(bytes, KIND)?;
        let config = Self {
            federation: reader.array("federation")?,
            round: reader.u64("round")?,
            attempt: reader.u32("attempt")?,
            model: reader.array("model")?,
            mechanism: reader.array("mechanism")?,
            dimension: reader.u32("dimension")?,
            modulus_bits: reader.u32("modulus_bits")?,
            clients_min: reader.u32("clients_min")?,
            clients_max: reader.u32("clients_max")?,
            survivors_min: reader.u32("survivors_min")?,
            colluding: reader.u32("colluding")?,
            colluding_permille: reader.u32("colluding_permille")?,
            dropout_permille: reader.u32("dropout_permille")?,
            topology: match reader.u32("topology")? {
                1 => Topology::Complete,
                2 => Topology::Regular,
                _ => {
                    return Err(DecodeError::Field {
                        field: "topology",
                        expected: "1 or 2",
                    }
                    .into());
                }
            },
            noise_share_variance: f64::from_bits(reader.u64("noise_share_variance")?),
            noise_target_variance: f64::from_bits(reader.u64("noise_target_variance")?),
            duration_ms: reader.u64("duration_ms")?,
        };
        let signature = reader.array("signature")?;
        reader.finish()?;
        config.check()?;
        if verify(server, "umbel/sa1/offer", &[&config.hash()], &signature) {
            Ok(config)
        } else {
            Err(Refusal::Signature { message: "offer" })
        }
    }
}

/// What a client insists on, whatever a server offers: from the client's own settings, not from the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The federation that the client belongs to.
    pub federation: Hash,
    /// The authority's public key.
    pub authority: [u8; 32],
    /// The server's public key.
    pub server: [u8; 32],
    /// The fewest clients on a roster.
    pub clients_min: u32,
    /// The fewest clients in a sum.
    pub survivors_min: u32,
    /// The least bound on colluding identities that must be assumed.
    pub colluding: u32,
    /// The same in thousandths of a roster.
    pub colluding_permille: u32,
    /// The least noise of all honest survivors together, as a variance in squared grid units; 0 if the server is trusted to
    /// add it.
    pub noise_target_variance: f64,
}

impl Policy {
    /// Refuses terms that are weaker than the policy.
    pub(crate) fn check(&self, config: &RoundConfig) -> Result<(), Refusal> {
        if config.federation != self.federation {
            return Err(Refusal::OtherFederation);
        }
        let weaker = |term, least: u32, got: u32| {
            Err(Refusal::WeakerTerms {
                term,
                least: least.into(),
                got: got.into(),
            })
        };
        if config.clients_min < self.clients_min {
            return weaker("clients_min", self.clients_min, config.clients_min);
        }
        if config.survivors_min < self.survivors_min {
            return weaker("survivors_min", self.survivors_min, config.survivors_min);
        }
        if config.colluding < self.colluding {
            return weaker("colluding", self.colluding, config.colluding);
        }
        if config.colluding_permille < self.colluding_permille {
            return weaker(
                "colluding_permille",
                self.colluding_permille,
                config.colluding_permille,
            );
        }
        if config.noise_target_variance < self.noise_target_variance {
            return Err(Refusal::WeakerTerms {
                term: "noise_target_variance",
                least: self.noise_target_variance,
                got: config.noise_target_variance,
            });
        }
        Ok(())
    }
}
