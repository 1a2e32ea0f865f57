//! The messages of a round.
//!
//! | kind | way | message | content |
//! |---|---|---|---|
//! | 1 | S → C | offer | [`RoundConfig`](crate::RoundConfig), the server's signature |
//! | 2 | C → S | advertisement | certificate, keys for masks and for shares, signature |
//! | 3 | S → C | roster | all advertisements, in ascending order of clients |
//! | 4 | C → S | shares | commitment to the own mask, for each neighbour a sealed pair of shares and commitments to both, signature |
//! | 5 | S → C | mask request | the set U₁ of those who shared; from each neighbour in it the pair, with proof and signature |
//! | 6 | C → S | masked input | signature over (U₁, SHA-256 of the input), packed input |
//! | 7 | S → C | survivors | the set U₂ of those whose input came; the signed headers of the neighbours in it |
//! | 8 | C → S | confirmation | signature over (U₁, U₂) |
//! | 9 | S → C | unmask request | as many confirmations as must survive, the charge with the server's signature |
//! | 10 | C → S | opened shares | for each neighbour in U₁ one share: of its own mask if it is in U₂, else of its pairwise key |
//!
//! All signatures cover the hash of the terms, and from 4 on also that of the roster.

use crate::codec::{DecodeError, Reader, Writer};
use crate::crypto::{Certificate, Hash, Signed, TAG_BYTES, hash};
use crate::shamir::SHARE_BYTES;

/// A share's salt.
pub(crate) const SALT_BYTES: usize = 32;
/// Two shares with their salts, sealed.
pub(crate) const SEALED_BYTES: usize = 2 * (SHARE_BYTES + SALT_BYTES) + TAG_BYTES;
/// A share with its salt.
pub(crate) const OPENING_BYTES: usize = SHARE_BYTES + SALT_BYTES;

/// Which of a client's two secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secret {
    /// The seed of its own mask, opened if its input is in the sum.
    Own,
    /// The seed of its key for pairwise masks, opened if its input is not.
    Pairwise,
}

impl Secret {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Own => 1,
            Self::Pairwise => 2,
        }
    }
}

/// A client's keys for one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advertisement {
    pub(crate) certificate: Certificate,
    pub(crate) mask_key: [u8; 32],
    pub(crate) share_key: [u8; 32],
    pub(crate) signature: [u8; 64],
}

impl Advertisement {
    pub(crate) const KIND: u8 = 2;
    const LABEL: &str = "umbel/sa1/advertisement";

    fn signed_bytes(&self, config_hash: &Hash) -> [u8; 136] {
        let mut bytes = [0; 136];
        bytes[..32].copy_from_slice(config_hash);
        bytes[32..40].copy_from_slice(&self.certificate.client.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.certificate.identity);
        bytes[72..104].copy_from_slice(&self.mask_key);
        bytes[104..].copy_from_slice(&self.share_key);
        bytes
    }

    pub(crate) fn sign(&mut self, identity: &crate::Identity, config_hash: &Hash) {
        self.signature = identity.sign(Self::LABEL, &[&self.signed_bytes(config_hash)]);
    }

    pub(crate) fn signed(&self, config_hash: &Hash) -> Signed {
        let parts = self.signed_bytes(config_hash);
        Signed::new(
            &self.certificate.identity,
            Self::LABEL,
            &[&parts],
            &self.signature,
        )
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .u64(self.certificate.client)
            .bytes(&self.certificate.identity);
        writer.bytes(&self.certificate.signature);
        writer
            .bytes(&self.mask_key)
            .bytes(&self.share_key)
            .bytes(&self.signature);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            certificate: Certificate {
                client: reader.u64("client")?,
                identity: reader.array("identity")?,
                signature: reader.array("certificate")?,
            },
            mask_key: reader.array("mask key")?,
            share_key: reader.array("share key")?,
            signature: reader.array("signature")?,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Self::KIND);
        self.write(&mut writer);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, Self::KIND)?;
        let advertisement = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(advertisement)
    }
}

/// Who takes part in an attempt, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Roster(pub(crate) Vec<Advertisement>);

impl Roster {
    const KIND: u8 = 3;

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Self::KIND);
        self.0
            .iter()
            .for_each(|advertisement| advertisement.write(&mut writer));
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8], most: u32) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, Self::KIND)?;
        let mut advertisements = Vec::new();
        while !reader.is_empty() {
            if advertisements.len() >= most as usize {
                return Err(DecodeError::Field {
                    field: "roster",
                    expected: "no longer than the terms allow",
                });
            }
            advertisements.push(Advertisement::read(&mut reader)?);
        }
        Ok(Self(advertisements))
    }

    /// The hash that stands for the roster under these terms.
    pub(crate) fn root(&self, config_hash: &Hash) -> Hash {
        hash("umbel/sa1/roster", &[config_hash, &self.encode()])
    }
}

/// What one neighbour gets from a dealer.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Dealt {
    pub(crate) sealed: [u8; SEALED_BYTES],
    /// Commitments to the share of either secret.
    pub(crate) own: Hash,
    pub(crate) pairwise: Hash,
}

impl Dealt {
    /// Its leaf in the tree that the dealer signs.
    pub(crate) fn leaf(&self, holder: u64) -> Hash {
        hash(
            "umbel/sa1/leaf",
            &[&holder.to_le_bytes(), &self.sealed, &self.own, &self.pairwise],
        )
    }

    pub(crate) fn commitment(&self, secret: Secret) -> &Hash {
        match secret {
            Secret::Own => &self.own,
            Secret::Pairwise => &self.pairwise,
        }
    }

    fn write(&self, writer: &mut Writer) {
        writer.bytes(&self.sealed).bytes(&self.own).bytes(&self.pairwise);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            sealed: reader.array("sealed shares")?,
            own: reader.array("commitment")?,
            pairwise: reader.array("commitment")?,
        })
    }
}

/// The commitment to one share.
pub(crate) fn share_commitment(
    config_hash: &Hash,
    dealer: u64,
    holder: u64,
    secret: Secret,
    opening: &[u8; OPENING_BYTES],
) -> Hash {
    hash(
        "umbel/sa1/share",
        &[
            config_hash,
            &dealer.to_le_bytes(),
            &holder.to_le_bytes(),
            &[secret.code()],
            opening,
        ],
    )
}

/// The commitment to a client's own mask.
pub(crate) fn own_commitment(config_hash: &Hash, client: u64, seed: &[u8; 32]) -> Hash {
    hash(
        "umbel/sa1/commit",
        &[config_hash, &client.to_le_bytes(), &[Secret::Own.code()], seed],
    )
}

/// A dealer's shares for all its neighbours.
pub(crate) struct Shares {
    pub(crate) client: u64,
    /// The commitment to the own mask.
    pub(crate) own: Hash,
    /// One for each neighbour, in their order.
    pub(crate) dealt: Vec<Dealt>,
    pub(crate) signature: [u8; 64],
}

impl Shares {
    const KIND: u8 = 4;
    pub(crate) const LABEL: &str = "umbel/sa1/shares";

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new(Self::KIND);
        writer.u64(self.client).bytes(&self.own);
        self.dealt.iter().for_each(|dealt| dealt.write(&mut writer));
        writer.bytes(&self.signature);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8], degree: usize) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes, Self::KIND)?;
        let client = reader.u64("client")?;
        let own = reader.array("commitment")?;
        let dealt = (0..degree)
            .map(|_| Dealt::read(&mut reader))
            .collect::<Result<_, _>>()?;
        let signature = reader.array("signature")?;
        reader.finish()?;
        Ok(Self {
            client,
            own,
            dealt,
            signature,
        })
    }
}

/// What a client gets from one dealer.
pub(crate) struct Delivery {
    pub(crate) dealt: Dealt,
    /// The dealer's commitment to its own mask.
    pub(crate) own: Hash,
    pub(crate) signature: [u8; 64],
    /// Partners in the dealer's hash tree.
    pub(crate) proof: Vec<Hash>,
}

impl Delivery {
    pub(crate) const KIND: u8 = 5;

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.dealt.write(writer);
        writer.bytes(&self.own).bytes(&self.signature);
        self.proof.iter().for_each(|partner| {
            writer.bytes(partner);
        });
    }

    pub(crate) fn read(reader: &mut Reader<'_>, proof_length: usize) -> Result<Self, DecodeError> {
        Ok(Self {
            dealt: Dealt::read(reader)?,
            own: reader.array("commitment")?,
            signature: reader.array("signature")?,
            proof: (0..proof_length)
                .map(|_| reader.array("proof"))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// What a client signs of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Hash of U₁ as the client was shown it.
    pub(crate) sharers: Hash,
    /// SHA-256 of the packed input.
    pub(crate) input: Hash,
    pub(crate) signature: [u8; 64],
}

impl Header {
    pub(crate) const LABEL: &str = "umbel/sa1/input";

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .bytes(&self.sharers)
            .bytes(&self.input)
            .bytes(&self.signature);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            sharers: reader.array("sharers")?,
            input: reader.array("input")?,
            signature: reader.array("signature")?,
        })
    }
}

/// Kinds of messages that are written and read where they are used.
pub(crate) const MASKED_INPUT: u8 = 6;
pub(crate) const SURVIVORS: u8 = 7;
pub(crate) const CONFIRMATION: u8 = 8;
pub(crate) const UNMASK_REQUEST: u8 = 9;
pub(crate) const OPENED_SHARES: u8 = 10;

/// Labels of signatures.
pub(crate) const CONFIRMATION_LABEL: &str = "umbel/sa1/confirmation";
pub(crate) const CHARGE_LABEL: &str = "umbel/sa1/charge";
pub(crate) const OPENED_LABEL: &str = "umbel/sa1/opened";
