//! Reads a ledger and checks it in itself.

use ed25519_dalek::{Signature, VerifyingKey, verify_batch};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::order::{Order, OrderError};
use super::promise::Promise;
use super::record::{Body, Header};
use super::writer::{SIGNATURE_CONTEXT, verifying_key};
use super::{Digest, canonical, from_hex, to_hex};

/// The first thing that is wrong with a ledger, and in which record (from 0).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {record}: {reason}")]
pub struct LedgerFault {
    /// Position of the record in the file, from 0.
    pub record: usize,
    /// What is wrong, with what was expected and what came.
    pub reason: String,
}

/// A ledger whose chain, signatures, encoding and order hold.
///
/// Holds says: nobody without the key in the header changed, dropped, added or reordered records. That the key is the right
/// one, and that no newer record is missing, takes an anchor outside the ledger.
#[derive(Debug, Clone)]
pub struct VerifiedLedger {
    bodies: Vec<Body>,
    heads: Vec<Digest>,
    order: Order,
    promise: Promise,
    public_key: [u8; 32],
    stored_bytes: usize,
}

impl VerifiedLedger {
    /// The records, in order. The first is the header.
    pub fn records(&self) -> &[Body] {
        &self.bodies
    }

    /// The header.
    pub fn header(&self) -> &Header {
        match &self.bodies[0] {
            Body::Header(header) => header,
            other => unreachable!("reading starts with a header, not with a `{}`", other.kind()),
        }
    }

    /// SHA-256 of the last line.
    pub fn head(&self) -> Digest {
        self.heads.last().copied().unwrap_or_default()
    }

    /// SHA-256 of each line: the head that the ledger had once that record was its last.
    pub fn heads(&self) -> &[Digest] {
        &self.heads
    }

    /// Where the ledger stands.
    pub fn order(&self) -> Order {
        self.order
    }

    /// What later records must keep to.
    pub(super) fn promise(&self) -> &Promise {
        &self.promise
    }

    /// The key that signed every record.
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// Length of what was stored; bytes after it are a torn write, to be cut off before the next append.
    pub fn stored_bytes(&self) -> usize {
        self.stored_bytes
    }
}

/// Reads and verifies a ledger: encoding, hash chain, signatures, order, and that charges and claims keep to the header. Whether
/// a claimed ε is right takes an accountant, and is not checked here.
pub fn read(text: &[u8]) -> Result<VerifiedLedger, LedgerFault> {
    let stored_bytes = text
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |last| last + 1);
    let mut reading = Reading::default();
    for line in text[..stored_bytes].split_inclusive(|&byte| byte == b'\n') {
        if let Err(reason) = reading.take(&line[..line.len() - 1]) {
            // A record before may be what is wrong: its signature says so.
            reading.verify_signatures()?;
            let record = reading.bodies.len();
            return Err(LedgerFault { record, reason });
        }
    }
    reading.verify_signatures()?;
    match (reading.key, reading.promise) {
        (Some(key), Some(promise)) => Ok(VerifiedLedger {
            bodies: reading.bodies,
            heads: reading.heads,
            order: reading.order,
            promise,
            public_key: key.to_bytes(),
            stored_bytes,
        }),
        _ => Err(LedgerFault {
            record: 0,
            reason: "expected a `header`, got an empty ledger".to_owned(),
        }),
    }
}

/// A ledger as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) bodies: Vec<Body>,
    /// Reused for encoding each record again.
    encoded: Vec<u8>,
    pub(super) heads: Vec<Digest>,
    pub(super) key: Option<VerifyingKey>,
    pub(super) order: Order,
    promise: Option<Promise>,
    /// What was signed, and the signature, of each record. They are verified together, which takes a third of the time.
    pub(super) signed: Vec<(Vec<u8>, Signature)>,
}

impl Reading {
    /// Takes the next line, whose signature remains to be verified. What is refused leaves no trace but its own signature.
    pub(super) fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let (record, signature) = split(line)?;
        let position = self.bodies.len();
        let value: Value = serde_json::from_str(record).map_err(|error| format!("expected JSON: {error}"))?;
        self.encoded.clear();
        canonical::write(&value, &mut self.encoded);
        if self.encoded != record.as_bytes() {
            return Err(
                "expected canonical JSON: sorted keys, no spaces, no duplicates, shortest numbers".to_owned(),
            );
        }
        let mut fields = fields(value, &["body", "kind", "previous", "sequence"])?;
        let kind = take_text(&mut fields, "kind")?;
        let body = fields.remove("body").ok_or("expected a `body`")?;
        if kind == "header" {
            check_version(&body)?;
        }
        if position == 0 && kind == "header" {
            let key = body.get("public_key").and_then(Value::as_str).and_then(from_hex);
            let key = key.and_then(|bytes| verifying_key(&bytes));
            self.key = Some(key.ok_or("expected `public_key` to be an Ed25519 public key")?);
        }
        // From here on a change of the line is a change of what its key has signed.
        let message = [SIGNATURE_CONTEXT, record.as_bytes()].concat();
        self.signed.push((message, Signature::from_bytes(&signature)));

        let sequence = fields.get("sequence").and_then(Value::as_u64);
        if sequence != Some(position as u64) {
            let got = sequence.map_or_else(|| "none".to_owned(), |sequence| sequence.to_string());
            return Err(format!("expected sequence {position}, got {got}"));
        }
        let previous = take_text(&mut fields, "previous")?;
        let head = self.heads.last().copied().unwrap_or_default();
        if from_hex(&previous) != Some(head) {
            return Err(format!(
                "expected `previous` to be {}, the hash of the line before, got {previous}",
                to_hex(&head)
            ));
        }
        let body = Body::decode(&kind, body)?;
        let order = self
            .order
            .after(&body)
            .map_err(|error: OrderError| error.to_string())?;
        Promise::follow(&mut self.promise, &body)?;
        self.order = order;
        self.heads.push(Sha256::digest(line).into());
        self.bodies.push(body);
        Ok(())
    }

    /// Verifies the signatures of all records so far, the one that was refused included, and names the first that is wrong.
    pub(super) fn verify_signatures(&self) -> Result<(), LedgerFault> {
        let Some(key) = &self.key else {
            return Ok(());
        };
        for (batch, first) in self.signed.chunks(BATCH).zip((0..).step_by(BATCH)) {
            let messages: Vec<&[u8]> = batch.iter().map(|(message, _)| message.as_slice()).collect();
            let signatures: Vec<Signature> = batch.iter().map(|(_, signature)| *signature).collect();
            if batch.len() > 1 && verify_batch(&messages, &signatures, &vec![*key; batch.len()]).is_ok() {
                continue;
            }
            for ((message, signature), record) in batch.iter().zip(first..) {
                key.verify_strict(message, signature).map_err(|_| LedgerFault {
                    record,
                    reason: "the signature is not the header key's signature of this record".to_owned(),
                })?;
            }
        }
        Ok(())
    }
}

/// Signatures that are verified together. Larger batches are hardly faster.
const BATCH: usize = 2048;

/// The bytes of the record in a line, and its signature.
pub(super) fn split(line: &[u8]) -> Result<(&str, [u8; 64]), String> {
    let text = std::str::from_utf8(line).map_err(|_| "expected UTF-8 text".to_owned())?;
    let inner = text
        .strip_prefix(r#"{"record":"#)
        .and_then(|rest| rest.strip_suffix(r#""}"#))
        .and_then(|rest| rest.rsplit_once(r#","signature":""#));
    let (record, signature) = inner.ok_or(r#"expected a line of the form {"record":…,"signature":"…"}"#)?;
    let signature = from_hex(signature).ok_or("expected `signature` to be 128 hexadecimal digits")?;
    Ok((record, signature))
}

/// Asked first, since a newer header may have fields that this program does not know.
fn check_version(header: &Value) -> Result<(), String> {
    match header.get("version").and_then(Value::as_u64) {
        Some(1) => Ok(()),
        Some(newer) => Err(format!(
            "a ledger of version {newer}, and this program knows version 1: a newer program wrote it"
        )),
        None => Err("expected a `version` in the header".to_owned()),
    }
}

/// The fields of an object that must have exactly these names.
fn fields(value: Value, names: &[&str]) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(map)
            if map.len() == names.len() && names.iter().all(|name| map.contains_key(*name)) =>
        {
            Ok(map)
        }
        _ => Err(format!(
            "expected an object with exactly the fields {}",
            names.join(", ")
        )),
    }
}

fn take_text(fields: &mut Map<String, Value>, name: &str) -> Result<String, String> {
    match fields.remove(name) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(format!("expected text as `{name}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Charge, Claim, Close, CloseStatus, Release, Reserve, Resume, Void};
    use super::super::{LedgerWriter, SigningKey, read_receipts};
    use super::*;
    use crate::{DpEvent, NoiseMultiplier, SamplingRate};

    fn gaussian() -> DpEvent {
        DpEvent::Gaussian {
            noise_multiplier: NoiseMultiplier::new(1.5).unwrap(),
        }
    }

    fn event() -> DpEvent {
        DpEvent::PoissonSampled {
            sampling_rate: SamplingRate::new(1.0).unwrap(),
            event: Box::new(gaussian()),
        }
    }

    fn header() -> Body {
        Body::Header(Box::new(Header {
            version: 1,
            run: "test".into(),
            software: "umbel".into(),
            public_key: String::new(),
            unit: "client".into(),
            trust: "central".into(),
            neighbors: "add-remove".into(),
            simulated: true,
            accountant: "pld".into(),
            sampling: "poisson".into(),
            sampling_rate: 1.0,
            population: 10,
            clients: None,
            cohort: 10.0,
            rounds: 2,
            round_event: event(),
            most_charges: None,
            matrix: None,
            adaptive_clip: None,
            secure_aggregation: None,
            clip_norm: 1.0,
            grid_unit: 2.0_f64.powi(-24),
            noise: "rounded".into(),
            dimension: 3,
            delta: 1e-5,
            accounted_delta: 1e-5,
            epsilon_budget: Some(8.0),
            filter: None,
            public_metrics: Vec::new(),
            shared_budget: None,
            plan_sha256: String::new(),
            experiment_sha256: to_hex(&[1; 32]),
            data_commitment: to_hex(&[2; 32]),
            initial_model_sha256: to_hex(&[3; 32]),
        }))
    }

    fn claim() -> Claim {
        Claim {
            accountant: "pld".into(),
            delta: 1e-5,
            epsilon: Some(2.5),
            epsilon_lower: None,
        }
    }

    fn reserve(round: u64) -> Body {
        Body::Reserve(Reserve {
            round,
            event: event(),
        })
    }

    fn charge(round: u64) -> Body {
        Body::Charge(Charge {
            round,
            event: event(),
            noise_std_dev_grid_units: 1.5 * 2.0_f64.powi(24),
            divisor: 10.0,
            clip_norm: None,
            claim: claim(),
            counts_commitment: to_hex(&[4; 32]),
            survivors: None,
        })
    }

    fn release(round: u64) -> Body {
        Body::Release(Release {
            round,
            model_sha256: to_hex(&[5; 32]),
            share_within: None,
        })
    }

    fn close(status: CloseStatus) -> Body {
        let digest = to_hex(&[6; 32]);
        Body::Close(Close {
            status,
            rounds: 1,
            claim: claim(),
            model_file_sha256: digest.clone(),
            summary_file_sha256: digest,
        })
    }

    fn whole_run() -> Vec<Body> {
        vec![
            header(),
            reserve(1),
            Body::Void(Void {
                round: 1,
                reason: "interrupted".into(),
            }),
            Body::Resume(Resume { released: 0 }),
            reserve(1),
            charge(1),
            release(1),
            reserve(2),
            charge(2),
            release(2),
            close(CloseStatus::Finished),
        ]
    }

    /// A ledger of a signer who writes anything.
    fn forge(bodies: &[Body]) -> String {
        let mut writer = LedgerWriter::new(SigningKey::from_secret(&[7; 32]));
        let mut lines = Vec::new();
        for body in bodies {
            let mut body = body.clone();
            if let Body::Header(header) = &mut body {
                header.public_key = to_hex(&writer.public_key());
                header.plan_sha256 = to_hex(&header.plan_digest().unwrap());
            }
            lines.push(writer.line(&body).unwrap());
        }
        lines.concat()
    }

    fn write(bodies: &[Body], secret: u8) -> String {
        let mut writer = LedgerWriter::new(SigningKey::from_secret(&[secret; 32]));
        bodies.iter().map(|body| writer.append(body).unwrap()).collect()
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = write(&whole_run(), 7);
        let ledger = read(text.as_bytes()).unwrap();
        assert_eq!(ledger.records().len(), 11);
        assert_eq!(ledger.records()[1..], whole_run()[1..]);
        assert_eq!(ledger.order(), Order::Closed);
        assert_eq!(ledger.stored_bytes(), text.len());
    }

    #[test]
    fn a_torn_last_line_was_never_stored() {
        let text = write(&whole_run()[..6], 7);
        let last_line = text[..text.len() - 1].rfind('\n').unwrap() + 1;
        for cut in last_line..text.len() {
            let ledger = read(&text.as_bytes()[..cut]).unwrap();
            assert_eq!((ledger.records().len(), ledger.stored_bytes()), (5, last_line));
        }
    }

    #[test]
    fn every_edit_is_found() {
        let text = write(&whole_run(), 7);
        let other = write(&whole_run(), 8);
        let lines: Vec<&str> = text.lines().collect();
        let others: Vec<&str> = other.lines().collect();
        let join = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let check = |edited: String, record: usize, reason: &str| {
            let fault = read(edited.as_bytes()).unwrap_err();
            assert!(fault.record == record && fault.reason.contains(reason), "{fault}");
        };
        check(
            text.replacen("\"divisor\":10.0", "\"divisor\":11.0", 1),
            5,
            "signature",
        );
        check(
            text.replacen("\"divisor\":10.0", "\"divisor\":10.00", 1),
            5,
            "canonical",
        );
        check(
            text.replacen(",\"kind\":\"charge\"", ", \"kind\":\"charge\"", 1),
            5,
            "canonical",
        );
        check(join(&[&lines[..3], &lines[4..]].concat()), 3, "sequence 3");
        check(join(&[&lines[..5], &lines[4..]].concat()), 5, "sequence 5");
        check(
            join(&[&lines[..1], &lines[2..3], &lines[1..2]].concat()),
            1,
            "sequence 1",
        );
        check(join(&[&lines[..4], &others[4..]].concat()), 4, "signature");
        check(join(&[&others[..1], &lines[1..]].concat()), 1, "signature");
        check(join(&lines[1..]), 0, "sequence 0");
        check(String::new(), 0, "empty");
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let text = write(&whole_run()[..2], 7);
        let head = read(text.as_bytes()).unwrap().head();
        for position in 0..text.len() - 1 {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[position] ^= 1 << bit;
                // A flip into a line feed may leave a shorter valid ledger; what is certain is that the head differs.
                assert!(
                    read(&bytes).map_or(true, |ledger| ledger.head() != head),
                    "byte {position}, bit {bit}"
                );
            }
        }
    }

    /// That the record at `place`, once changed, is refused by a writer and found by a reader.
    #[track_caller]
    fn check_deviation(place: usize, reason: &str, change: impl Fn(&mut Body)) {
        let mut bodies = whole_run();
        change(&mut bodies[place]);
        let mut writer = LedgerWriter::new(SigningKey::from_secret(&[7; 32]));
        for body in &bodies[..place] {
            writer.append(body).unwrap();
        }
        let (head, error) = (writer.head(), writer.append(&bodies[place]).unwrap_err());
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(writer.head(), head, "a refused record changes nothing");
        let fault = read(forge(&bodies).as_bytes()).unwrap_err();
        assert!(fault.record == place && fault.reason.contains(reason), "{fault}");
    }

    #[test]
    fn a_deviation_from_the_plan_is_refused_and_found() {
        type Change = (&'static str, fn(&mut Charge));
        let other = || DpEvent::PoissonSampled {
            sampling_rate: SamplingRate::new(0.5).unwrap(),
            event: Box::new(DpEvent::NonPrivate),
        };
        let charges: [Change; 6] = [
            ("`noise_std_dev_grid_units`", |charge| {
                charge.noise_std_dev_grid_units *= 0.999;
            }),
            ("`divisor`", |charge| charge.divisor = 9.0),
            ("`clip_norm`", |charge| charge.clip_norm = Some(2.0)),
            ("at delta 0.00001", |charge| charge.claim.delta = 1e-4),
            ("at delta 0.00001 by pld", |charge| {
                charge.claim.accountant = "rdp".into()
            }),
            ("within the budget of 8", |charge| {
                charge.claim.epsilon = Some(8.5)
            }),
        ];
        for (reason, change) in charges {
            check_deviation(5, reason, |body| {
                if let Body::Charge(charge) = body {
                    change(charge);
                }
            });
        }
        check_deviation(5, "`event`", |body| {
            if let Body::Charge(charge) = body {
                charge.event = other();
            }
        });
        check_deviation(8, "at least 2.5", |body| {
            if let Body::Charge(charge) = body {
                charge.claim.epsilon = Some(2.0);
            }
        });
        check_deviation(4, "`event`", |body| {
            if let Body::Reserve(reserve) = body {
                reserve.event = other();
            }
        });
        check_deviation(10, "expected a claim of 2.5", |body| {
            if let Body::Close(close) = body {
                close.claim.epsilon = Some(2.0);
            }
        });
        check_deviation(10, "at most 2 rounds, as charged", |body| {
            if let Body::Close(close) = body {
                close.rounds = 3;
            }
        });
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        type Change = (&'static str, fn(&mut Header));
        let headers: [Change; 7] = [
            ("without amplification", |header| header.sampling = "turns".into()),
            ("knows no filter `magic`", |header| {
                header.filter = Some("magic".into())
            }),
            ("`accounted_delta`", |header| header.accounted_delta = 2e-5),
            ("since `noise` is none", |header| header.noise = "none".into()),
            ("to be sampled at the rate", |header| {
                header.round_event = gaussian()
            }),
            ("`cohort` / `population`", |header| header.population = 11),
            ("to be sampled at the rate 0.25", |header| {
                header.sampling_rate = 0.25
            }),
        ];
        for (reason, change) in headers {
            check_deviation(0, reason, |body| {
                if let Body::Header(header) = body {
                    change(header);
                }
            });
        }
    }

    #[test]
    fn a_round_too_many_is_refused_and_found() {
        let mut bodies = whole_run();
        let close = bodies.pop().unwrap();
        bodies.extend([reserve(3), charge(3), release(3), close]);
        let fault = read(forge(&bodies).as_bytes()).unwrap_err();
        assert!(
            fault.record == 10 && fault.reason.contains("at most 2 rounds"),
            "{fault}"
        );
    }

    #[test]
    fn the_hash_of_the_plan_is_that_of_the_plan_alone() {
        let header = |change: fn(&mut Header)| {
            let Body::Header(mut header) = header() else {
                panic!("a header")
            };
            change(&mut header);
            header.plan_digest().unwrap()
        };
        let plan = header(|_| ());
        for name in [
            header(|header| header.run = "other".into()),
            header(|header| header.software = "other".into()),
            header(|header| header.data_commitment = "other".into()),
        ] {
            assert_eq!(name, plan);
        }
        for other in [
            header(|header| header.rounds = 3),
            header(|header| header.clip_norm = 2.0),
            header(|header| header.delta = 2e-5),
            header(|header| header.round_event = gaussian()),
            header(|header| header.simulated = false),
        ] {
            assert_ne!(other, plan);
        }
    }

    #[test]
    fn receipts_tell_a_fork_and_a_rollback() {
        let mut writer = LedgerWriter::new(SigningKey::from_secret(&[7; 32]));
        let (mut text, mut receipts) = (String::new(), Vec::new());
        for body in whole_run() {
            text += &writer.append(&body).unwrap();
            receipts.push(writer.receipt("test"));
        }
        let ledger = read(text.as_bytes()).unwrap();
        let given = read_receipts((receipts.join("\n") + "\n").as_bytes()).unwrap();
        assert_eq!(given.len(), 11);
        for receipt in &given {
            receipt.check(&ledger).unwrap();
        }
        let shorter: String = text.lines().take(7).map(|line| format!("{line}\n")).collect();
        let shorter = read(shorter.as_bytes()).unwrap();
        given[6].check(&shorter).unwrap();
        assert!(given[7].check(&shorter).unwrap_err().contains("rolled back"));
        let mut other = whole_run();
        other[5] = charge(1);
        if let Body::Charge(charge) = &mut other[5] {
            charge.counts_commitment = to_hex(&[9; 32]);
        }
        let forked = read(write(&other, 7).as_bytes()).unwrap();
        given[4].check(&forked).unwrap();
        for receipt in &given[5..] {
            assert!(receipt.check(&forked).unwrap_err().contains("forked"));
        }
        let signed_by_another = read(write(&whole_run(), 8).as_bytes()).unwrap();
        assert!(
            given[0]
                .check(&signed_by_another)
                .unwrap_err()
                .contains("another signer")
        );
    }

    #[test]
    fn every_flipped_bit_of_a_receipt_is_found() {
        let mut writer = LedgerWriter::new(SigningKey::from_secret(&[7; 32]));
        writer.append(&header()).unwrap();
        let receipt = writer.receipt("a \"run\"");
        assert_eq!(read_receipts(receipt.as_bytes()).unwrap()[0].run, "a \"run\"");
        for position in 0..receipt.len() {
            for bit in 0..8 {
                let mut bytes = receipt.clone().into_bytes();
                bytes[position] ^= 1 << bit;
                assert!(read_receipts(&bytes).is_err(), "byte {position}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_ledger_of_a_newer_version_is_named_as_one() {
        let mut bodies = whole_run();
        if let Body::Header(header) = &mut bodies[0] {
            header.version = 2;
        }
        let text = forge(&bodies).replace("\"noise\":", "\"new\":1,\"noise\":");
        let fault = read(text.as_bytes()).unwrap_err();
        assert!(fault.reason.contains("of version 2"), "{fault}");
    }

    #[test]
    fn records_out_of_order_are_refused() {
        let check = |before: &[Body], body: Body, expected: &str| {
            let mut writer = LedgerWriter::new(SigningKey::from_secret(&[7; 32]));
            for body in before {
                writer.append(body).unwrap();
            }
            let head = writer.head();
            let error = writer.append(&body).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert_eq!(writer.head(), head, "a refused record changes nothing");
        };
        let run = whole_run();
        check(&[], reserve(1), "`header`");
        check(&run[..1], header(), "`reserve` of round 1");
        check(&run[..1], reserve(2), "`reserve` of round 1");
        check(&run[..2], release(1), "`charge` or a `void` of round 1");
        check(&run[..2], reserve(2), "`charge` or a `void` of round 1");
        check(
            &run[..2],
            close(CloseStatus::Finished),
            "`charge` or a `void` of round 1",
        );
        check(&run[..6], charge(1), "`release` of round 1");
        check(
            &run[..6],
            Body::Void(Void {
                round: 1,
                reason: String::new(),
            }),
            "`release` of round 1",
        );
        check(&run[..7], release(1), "`reserve` of round 2");
        check(&run, Body::Resume(Resume { released: 2 }), "closed");
        let interrupted = [&run[..7], &[close(CloseStatus::Interrupted)]].concat();
        check(&interrupted, reserve(2), "`resume`");
    }

    #[test]
    fn an_interrupted_ledger_goes_on_with_its_own_key_only() {
        let text = write(
            &[&whole_run()[..6], &[close(CloseStatus::Interrupted)]].concat(),
            7,
        );
        let ledger = read(text.as_bytes()).unwrap();
        assert!(LedgerWriter::resume(SigningKey::from_secret(&[8; 32]), &ledger).is_none());
        let mut writer = LedgerWriter::resume(SigningKey::from_secret(&[7; 32]), &ledger).unwrap();
        let more = [Body::Resume(Resume { released: 0 }), release(1), reserve(2)];
        let more: String = more.iter().map(|body| writer.append(body).unwrap()).collect();
        assert_eq!(
            read((text + &more).as_bytes()).unwrap().order(),
            Order::Reserved { round: 2 }
        );
    }
}
