//! Reads a ledger and checks it in itself.

use ed25519_dalek::{Signature, VerifyingKey};
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
    head: Digest,
    order: Order,
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
        self.head
    }

    /// Where the ledger stands.
    pub fn order(&self) -> Order {
        self.order
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
    let mut bodies = Vec::new();
    let mut head = [0; 32];
    let mut order = Order::Empty;
    let mut key: Option<VerifyingKey> = None;
    let mut promise: Option<Promise> = None;
    for line in text[..stored_bytes].split_inclusive(|&byte| byte == b'\n') {
        let line = &line[..line.len() - 1];
        let position = bodies.len();
        let fault = |reason: String| LedgerFault {
            record: position,
            reason,
        };
        let body = read_line(line, position, &head, &mut key).map_err(fault)?;
        order = order
            .after(&body)
            .map_err(|error: OrderError| fault(error.to_string()))?;
        match (&mut promise, &body) {
            (None, Body::Header(header)) => promise = Some(Promise::new(header)),
            (Some(promise), body) => promise.check(body).map_err(fault)?,
            (None, _) => {}
        }
        head = Sha256::digest(line).into();
        bodies.push(body);
    }
    match key {
        Some(key) => Ok(VerifiedLedger {
            bodies,
            head,
            order,
            public_key: key.to_bytes(),
            stored_bytes,
        }),
        None => Err(LedgerFault {
            record: 0,
            reason: "expected a `header`, got an empty ledger".to_owned(),
        }),
    }
}

fn read_line(
    line: &[u8],
    position: usize,
    head: &Digest,
    key: &mut Option<VerifyingKey>,
) -> Result<Body, String> {
    let text = std::str::from_utf8(line).map_err(|_| "expected UTF-8 text".to_owned())?;
    let value: Value = serde_json::from_str(text).map_err(|error| format!("expected JSON: {error}"))?;
    if canonical::encode(&value) != text {
        return Err(
            "expected canonical JSON: sorted keys, no spaces, no duplicates, shortest numbers".to_owned(),
        );
    }
    let mut line = fields(value, &["record", "signature"])?;
    let signature = take_text(&mut line, "signature")?;
    let record_value = line.remove("record").ok_or("expected a `record`")?;
    let record = canonical::encode(&record_value);
    let mut fields = fields(record_value, &["body", "kind", "previous", "sequence"])?;

    let sequence = fields.get("sequence").and_then(Value::as_u64);
    if sequence != Some(position as u64) {
        let got = sequence.map_or_else(|| "none".to_owned(), |sequence| sequence.to_string());
        return Err(format!("expected sequence {position}, got {got}"));
    }
    let previous = take_text(&mut fields, "previous")?;
    if previous != to_hex(head) {
        return Err(format!(
            "expected `previous` to be {}, the hash of the line before, got {previous}",
            to_hex(head)
        ));
    }
    let kind = take_text(&mut fields, "kind")?;
    let body = Body::decode(&kind, fields.remove("body").ok_or("expected a `body`")?)?;
    let key = match (&body, &key) {
        (Body::Header(header), None) => {
            if header.version != 1 {
                return Err(format!("expected ledger version 1, got {}", header.version));
            }
            let bytes = from_hex(&header.public_key).and_then(|bytes| verifying_key(&bytes));
            key.insert(bytes.ok_or("expected `public_key` to be an Ed25519 public key")?)
        }
        (_, Some(known)) => known,
        (other, None) => return Err(format!("expected a `header` first, got a `{}`", other.kind())),
    };
    let bytes = from_hex(&signature).ok_or("expected `signature` to be 128 hexadecimal digits")?;
    let message = [SIGNATURE_CONTEXT, record.as_bytes()].concat();
    key.verify_strict(&message, &Signature::from_bytes(&bytes))
        .map_err(|_| "the signature is not the header key's signature of this record".to_owned())?;
    Ok(body)
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
    use super::super::{LedgerWriter, SigningKey};
    use super::*;
    use crate::{DpEvent, NoiseMultiplier};

    fn event() -> DpEvent {
        DpEvent::Gaussian {
            noise_multiplier: NoiseMultiplier::new(1.5).unwrap(),
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
            clip_norm: 1.0,
            grid_unit: 2.0_f64.powi(-24),
            noise: "rounded".into(),
            dimension: 3,
            delta: 1e-5,
            epsilon_budget: None,
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
            noise_std_dev_grid_units: 1.5,
            divisor: 10.0,
            clip_norm: None,
            claim: claim(),
            counts_commitment: to_hex(&[4; 32]),
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
            rounds: 2,
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
        check(join(&[&lines[..4], &others[4..]].concat()), 4, "`previous`");
        check(join(&[&others[..1], &lines[1..]].concat()), 1, "`previous`");
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

    #[test]
    fn records_that_break_the_promise_are_found() {
        let check = |place: usize, change: &dyn Fn(&mut Body), reason: &str| {
            let mut bodies = whole_run();
            change(&mut bodies[place]);
            let fault = read(write(&bodies, 7).as_bytes()).unwrap_err();
            assert!(fault.record == place && fault.reason.contains(reason), "{fault}");
        };
        fn change_charge(body: &mut Body, change: &dyn Fn(&mut Charge)) {
            let Body::Charge(charge) = body else {
                panic!("a charge")
            };
            change(charge);
        }
        let other = DpEvent::Gaussian {
            noise_multiplier: NoiseMultiplier::new(3.0).unwrap(),
        };
        check(
            5,
            &|body| change_charge(body, &|charge| charge.event = other.clone()),
            "`event`",
        );
        check(
            5,
            &|body| change_charge(body, &|charge| charge.divisor = 9.0),
            "`divisor`",
        );
        check(
            5,
            &|body| change_charge(body, &|charge| charge.claim.delta = 1e-4),
            "at delta 0.00001",
        );
        check(
            8,
            &|body| change_charge(body, &|charge| charge.claim.epsilon = Some(2.0)),
            "at least 2.5",
        );
        let lower_close = |body: &mut Body| {
            let Body::Close(close) = body else {
                panic!("a close")
            };
            close.claim.epsilon = Some(2.0);
        };
        check(10, &lower_close, "expected a claim of 2.5");
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
