//! Key agreement, derivation, encryption, commitments and signatures, each with its label.

use std::fmt;

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey, verify_batch};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// Bytes that encryption adds.
pub(crate) const TAG_BYTES: usize = 16;

/// SHA-256 of a label, a zero byte, and parts of fixed lengths.
pub(crate) fn hash(label: &str, parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(label.as_bytes());
    hash.update([0]);
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// HKDF-SHA256 (RFC 5869) to 32 bytes.
pub(crate) fn derive(salt: &[u8], secret: &[u8], label: &str, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let mut parts = vec![label.as_bytes(), &[0]];
    parts.extend_from_slice(info);
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand_multi_info(&parts, key.as_mut_slice())
        .expect("32 bytes are one block");
    key
}

/// An X25519 key pair (RFC 7748).
pub(crate) struct AgreementKey {
    secret: StaticSecret,
    pub(crate) public: [u8; 32],
}

impl AgreementKey {
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let secret = StaticSecret::from(*secret);
        let public = PublicKey::from(&secret).to_bytes();
        Self { secret, public }
    }

    /// The shared secret; `None` if the other key is of low order or not written canonically.
    pub(crate) fn agree(&self, public: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        if !is_canonical(public) {
            return None;
        }
        let shared = self.secret.diffie_hellman(&PublicKey::from(*public));
        shared
            .was_contributory()
            .then(|| Zeroizing::new(shared.to_bytes()))
    }
}

/// The u-coordinates of low order below 2^255 − 19, on the curve and its twist (Bernstein, <https://cr.yp.to/ecdh.html>).
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
];

/// Whether a key can be agreed with at all: it is written canonically and not of low order. The agreement itself sees to it again.
pub(crate) fn is_usable(public: &[u8; 32]) -> bool {
    is_canonical(public) && !LOW_ORDER.contains(public)
}

/// Whether a u-coordinate is below 2^255 − 19, in 255 bits.
fn is_canonical(public: &[u8; 32]) -> bool {
    let is_above = public[31] == 0x7f && public[1..31].iter().all(|byte| *byte == 0xff) && public[0] >= 0xed;
    public[31] < 0x80 && !is_above
}

/// ChaCha20-Poly1305 (RFC 8439) under a key that encrypts one message only, so the nonce is zero.
pub(crate) fn seal(key: &[u8; 32], associated: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let payload = Payload {
        msg: plaintext,
        aad: associated,
    };
    ChaCha20Poly1305::new(key.into())
        .encrypt(&[0; 12].into(), payload)
        .expect("a message of a few hundred bytes is not too long")
}

/// Opens what [`seal`] made.
pub(crate) fn open(key: &[u8; 32], associated: &[u8], ciphertext: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let payload = Payload {
        msg: ciphertext,
        aad: associated,
    };
    ChaCha20Poly1305::new(key.into())
        .decrypt(&[0; 12].into(), payload)
        .ok()
        .map(Zeroizing::new)
}

/// A client's long-term Ed25519 key.
#[derive(Clone)]
pub struct Identity(SigningKey);

/// The federation's authority: it certifies identities. The server must not hold its key.
pub struct Authority(SigningKey);

/// The key by which the server of a federation is known to its clients.
#[derive(Clone)]
pub struct ServerKey(SigningKey);

macro_rules! signing_key {
    ($type:ident) => {
        impl $type {
            /// The key with this secret. Its copy in the value is wiped on drop.
            pub fn from_secret(secret: &[u8; 32]) -> Self {
                Self(SigningKey::from_bytes(secret))
            }

            /// The public key.
            pub fn public(&self) -> [u8; 32] {
                self.0.verifying_key().to_bytes()
            }

            #[allow(dead_code, reason = "an authority signs certificates only")]
            pub(crate) fn sign(&self, label: &str, parts: &[&[u8]]) -> [u8; 64] {
                self.0.sign(&message(label, parts)).to_bytes()
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type)).finish_non_exhaustive()
            }
        }
    };
}

signing_key!(Identity);
signing_key!(Authority);
signing_key!(ServerKey);

const CERTIFICATE_LABEL: &str = "umbel/sa1/certificate";

/// An authority's word that a client has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certificate {
    /// The client's number in the federation.
    pub client: u64,
    /// Its Ed25519 key.
    pub identity: [u8; 32],
    pub(crate) signature: [u8; 64],
}

impl Certificate {
    /// Whether `authority` has certified it for its own federation ([`federation_of`]).
    pub fn is_of(&self, authority: &[u8; 32]) -> bool {
        self.is_valid(authority, &federation_of(authority))
    }

    /// Puts together what [`signature`](Self::signature) gave away.
    pub fn from_parts(client: u64, identity: [u8; 32], signature: [u8; 64]) -> Self {
        Self {
            client,
            identity,
            signature,
        }
    }

    /// The authority's signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Whether this authority has certified it for this federation.
    pub(crate) fn is_valid(&self, authority: &[u8; 32], federation: &Hash) -> bool {
        self.signed(authority, federation).holds()
    }

    pub(crate) fn signed(&self, authority: &[u8; 32], federation: &Hash) -> Signed {
        let parts: [&[u8]; 3] = [federation, &self.client.to_le_bytes(), &self.identity];
        Signed::new(authority, CERTIFICATE_LABEL, &parts, &self.signature)
    }
}

impl Authority {
    /// Certifies that `client` of `federation` has the public key `identity`.
    pub fn certify(&self, federation: &Hash, client: u64, identity: [u8; 32]) -> Certificate {
        let parts: [&[u8]; 3] = [federation, &client.to_le_bytes(), &identity];
        let signature = self.sign(CERTIFICATE_LABEL, &parts);
        Certificate {
            client,
            identity,
            signature,
        }
    }
}

/// The federation of all clients that an authority certifies: what their certificates hold within.
pub fn federation_of(authority: &[u8; 32]) -> Hash {
    hash("umbel/sa1/federation", &[authority])
}

/// The number of the client with this name: the first eight bytes of a hash of it, so that nobody hands numbers out, and whoever
/// knows who sends a message by name knows what number must stand in it. Two of N names have the same number with a chance below
/// N² / 2^65; of the two one could take part.
pub fn client_number(name: &str) -> u64 {
    let digest = hash("umbel/sa1/client", &[name.as_bytes()]);
    let (first, _) = digest.split_first_chunk().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}

/// What somebody is said to have signed.
pub(crate) struct Signed {
    public: [u8; 32],
    message: Vec<u8>,
    signature: Signature,
}

impl Signed {
    pub(crate) fn new(public: &[u8; 32], label: &str, parts: &[&[u8]], signature: &[u8; 64]) -> Self {
        Self {
            public: *public,
            message: message(label, parts),
            signature: Signature::from_bytes(signature),
        }
    }

    /// Strict verification (Ed25519 with canonical points only); weak keys are refused.
    pub(crate) fn holds(&self) -> bool {
        self.key()
            .is_some_and(|key| key.verify_strict(&self.message, &self.signature).is_ok())
    }

    fn key(&self) -> Option<VerifyingKey> {
        VerifyingKey::from_bytes(&self.public)
            .ok()
            .filter(|key| !key.is_weak())
    }
}

/// [`Signed::holds`] of one signature.
pub(crate) fn verify(public: &[u8; 32], label: &str, parts: &[&[u8]], signature: &[u8; 64]) -> bool {
    Signed::new(public, label, parts, signature).holds()
}

/// Checks signatures together, in about half of the time; the error is the one beside the first that does not hold.
///
/// What is checked is one random combination of their equations. So a signature that no one but the owner of its key can have made may pass here and
/// not by itself, by parts of low order: the owner gains nothing, as they could as well have signed properly.
pub(crate) fn check_signatures<E>(signatures: Vec<(Signed, E)>) -> Result<(), E> {
    let keys: Option<Vec<VerifyingKey>> = signatures.iter().map(|(signed, _)| signed.key()).collect();
    let all_hold = keys.is_some_and(|keys| {
        let messages: Vec<&[u8]> = signatures
            .iter()
            .map(|(signed, _)| signed.message.as_slice())
            .collect();
        let signatures: Vec<Signature> = signatures.iter().map(|(signed, _)| signed.signature).collect();
        verify_batch(&messages, &signatures, &keys).is_ok()
    });
    if all_hold {
        return Ok(());
    }
    match signatures.into_iter().find(|(signed, _)| !signed.holds()) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// What is signed: the label keeps messages of different types apart, the parts have fixed lengths.
fn message(label: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut message = label.as_bytes().to_vec();
    message.push(0);
    parts.iter().for_each(|part| message.extend_from_slice(part));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_low_order_are_refused() {
        // All u-coordinates of small order (RFC 7748, section 6.1; the list of Curve25519's author), and forms above p.
        let p_plus = |small: u8| {
            let mut bytes = [0xff; 32];
            bytes[0] = 0xed + small;
            bytes[31] = 0x7f;
            bytes
        };
        let mut one = [0; 32];
        one[0] = 1;
        let mut minus_one = p_plus(0);
        minus_one[0] = 0xec;
        let order_8: [[u8; 32]; 2] = [
            [
                0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
                0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
                0xb8, 0x00,
            ],
            [
                0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
                0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
                0x11, 0x57,
            ],
        ];
        for bad in [
            [0; 32],
            one,
            minus_one,
            order_8[0],
            order_8[1],
            p_plus(0),
            p_plus(1),
            p_plus(9),
            [0xff; 32],
        ] {
            assert!(!is_usable(&bad), "{bad:?}");
        }
        let mut nine = [0; 32];
        nine[0] = 9;
        assert!(is_usable(&nine));
    }

    #[test]
    fn weak_identities_and_foreign_signatures_are_refused() {
        let key = Identity::from_secret(&[1; 32]);
        let signature = key.sign("label", &[b"text"]);
        assert!(verify(&key.public(), "label", &[b"text"], &signature));
        assert!(!verify(&key.public(), "other", &[b"text"], &signature));
        assert!(!verify(&key.public(), "label", &[b"texts"], &signature));
        assert!(!verify(
            &Identity::from_secret(&[2; 32]).public(),
            "label",
            &[b"text"],
            &signature
        ));
        let mut neutral = [0; 32];
        neutral[0] = 1;
        // Under the neutral element the signature (R, s) = (neutral, 0) would hold for any text.
        let mut forged = [0; 64];
        forged[0] = 1;
        assert!(!verify(&neutral, "label", &[b"text"], &forged));
    }

    #[test]
    fn the_list_of_low_order_is_that_of_keys_with_which_nobody_agrees() {
        let key = AgreementKey::new(&[1; 32]);
        for low in &LOW_ORDER {
            assert!(is_canonical(low) && key.agree(low).is_none(), "{low:?}");
        }
        for byte in 0..=255 {
            let mut public = [0; 32];
            public[0] = byte;
            assert_eq!(is_usable(&public), key.agree(&public).is_some(), "{byte}");
        }
    }

    #[test]
    fn of_signatures_checked_together_the_first_bad_one_is_named() {
        let keys: Vec<Identity> = (0..5).map(|i| Identity::from_secret(&[i; 32])).collect();
        let signed = |i: usize, signature: &[u8; 64]| {
            let signed = Signed::new(&keys[i].public(), "label", &[b"text"], signature);
            (signed, i)
        };
        let good = |i: usize| keys[i].sign("label", &[b"text"]);
        let check = |bad: &[usize]| {
            let all = (0..5).map(|i| {
                let mut signature = good(i);
                signature[3] ^= u8::from(bad.contains(&i));
                signed(i, &signature)
            });
            check_signatures(all.collect())
        };
        assert_eq!(check(&[]), Ok(()));
        for i in 0..5 {
            assert_eq!(check(&[i]), Err(i));
        }
        assert_eq!(check(&[4, 2]), Err(2));
        // Good signatures in each other's places, a scalar above the group's order, a weak key.
        assert_eq!(
            check_signatures(vec![signed(0, &good(1)), signed(1, &good(0))]),
            Err(0)
        );
        let mut large = good(3);
        large[63] = 0xff;
        assert_eq!(
            check_signatures(vec![signed(2, &good(2)), signed(3, &large)]),
            Err(3)
        );
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        let weak = Signed::new(&neutral, "label", &[b"text"], &forged);
        assert_eq!(check_signatures(vec![signed(2, &good(2)), (weak, 9)]), Err(9));
        assert_eq!(check_signatures::<()>(Vec::new()), Ok(()));
    }

    #[test]
    fn numbers_follow_from_names() {
        assert_eq!(client_number("writer-0"), client_number("writer-0"));
        assert_ne!(client_number("writer-0"), client_number("writer-1"));
        assert_ne!(federation_of(&[1; 32]), federation_of(&[2; 32]));
    }

    #[test]
    fn certificates_hold_for_one_client_of_one_federation() {
        let authority = Authority::from_secret(&[3; 32]);
        let certificate = authority.certify(&[1; 32], 7, [9; 32]);
        assert!(certificate.is_valid(&authority.public(), &[1; 32]));
        assert!(!certificate.is_valid(&authority.public(), &[2; 32]));
        assert!(
            !Certificate {
                client: 8,
                ..certificate
            }
            .is_valid(&authority.public(), &[1; 32])
        );
        assert!(!certificate.is_valid(&Authority::from_secret(&[4; 32]).public(), &[1; 32]));
    }

    #[test]
    fn no_key_is_shown() {
        let shown = format!(
            "{:?} {:?} {:?}",
            Identity::from_secret(&[7; 32]),
            Authority::from_secret(&[7; 32]),
            ServerKey::from_secret(&[7; 32])
        );
        assert!(!shown.contains('7'), "{shown}");
    }

    #[test]
    fn a_sealed_text_opens_with_its_key_and_context_only() {
        let sealed = seal(&[1; 32], b"context", b"text");
        assert_eq!(sealed.len(), 4 + TAG_BYTES);
        assert_eq!(open(&[1; 32], b"context", &sealed).unwrap().as_slice(), b"text");
        assert!(open(&[2; 32], b"context", &sealed).is_none());
        assert!(open(&[1; 32], b"other", &sealed).is_none());
        assert!(open(&[1; 32], b"context", &sealed[1..]).is_none());
        assert!(open(&[1; 32], b"context", &[]).is_none());
    }
}
