//! A ledger that is watched while it is written.

use umbel_accounting::ledger::{Body, Charge, Digest, Follower, Header, Order, Receipt, fingerprint, to_hex};

use crate::claims::Recount;
use crate::{Anchors, Fault, held, plan};

/// Checks a live ledger record by record as it comes: chain, signature, order, the plan in its header, each claimed ε by its
/// accountant, and what somebody outside holds of it. The first fault is final.
///
/// Whoever feeds it asks a server for the ledger from the [last line seen](Self::from) on, so that every [page](Self::page) begins
/// with a line that is known already: a server that has changed, dropped or taken back what it showed before gives itself away.
#[derive(Debug)]
pub struct Watch {
    anchors: Anchors,
    follower: Follower,
    recount: Option<Recount>,
    charged: u64,
    /// Claims whose ε was computed again.
    recomputed: u64,
    /// Receipts that are for records still to come, or just come, with where they are from.
    receipts: Vec<(String, Receipt)>,
    agreed: u64,
    last: Vec<u8>,
}

/// What is wrong with a watched ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchFault(pub Fault);

impl WatchFault {
    /// What an earlier watch kept of a record is not what is shown now.
    pub fn not_as_kept(record: u64) -> Self {
        Self(Fault::new(
            format!("record {record}"),
            "not the line that an earlier watch has kept: the history was rewritten or forked",
        ))
    }
}

impl Watch {
    /// Nothing is seen yet. A key in `anchors` pins the signer; receipts must agree with what comes.
    pub fn new(anchors: Anchors) -> Self {
        Self {
            anchors,
            follower: Follower::new(),
            recount: None,
            charged: 0,
            recomputed: 0,
            receipts: Vec::new(),
            agreed: 0,
            last: Vec::new(),
        }
    }

    /// How many records were seen.
    pub fn records(&self) -> u64 {
        self.follower.heads().len() as u64
    }

    /// SHA-256 of the last line seen.
    pub fn head(&self) -> Option<Digest> {
        self.follower.heads().last().copied()
    }

    /// The first record, once it was seen.
    pub fn header(&self) -> Option<&Header> {
        self.follower.header()
    }

    /// The short name of the key that signs.
    pub fn fingerprint(&self) -> Option<String> {
        self.follower.public_key().map(|key| fingerprint(&key))
    }

    /// How many claims of ε were computed again, and how many receipts agreed.
    pub fn confirmed(&self) -> (u64, u64) {
        (self.recomputed, self.agreed)
    }

    /// Whether the run is over: no record can come any more.
    pub fn is_over(&self) -> bool {
        self.follower.order() == Order::Closed
    }

    /// The record to ask a server for: the last one that was seen, counted from 0.
    pub fn from(&self) -> u64 {
        self.records().saturating_sub(1)
    }

    /// Takes a server's answer: how many records it says there are, and lines from [the one asked for](Self::from) on, with their
    /// line feeds. Gives the records that are new; none means that nothing is left to ask for at present.
    pub fn page(&mut self, records: u64, lines: &[u8]) -> Result<Vec<(u64, Body)>, WatchFault> {
        let mut new = lines;
        if self.records() > 0 {
            let Some(end) = lines.iter().position(|&byte| byte == b'\n') else {
                self.up_to_date(records.min(self.from()))?;
                return Ok(Vec::new());
            };
            self.again(&lines[..end])?;
            new = &lines[end + 1..];
        }
        let seen = self.take(new)?;
        if seen.is_empty() {
            self.up_to_date(records)?;
        }
        Ok(seen)
    }

    /// Takes lines that have come together, with their line feeds, and says what each is. Of their claims the last is computed
    /// again, since claims never fall; where records come one by one, that is each.
    fn take(&mut self, lines: &[u8]) -> Result<Vec<(u64, Body)>, WatchFault> {
        let Some(lines) = lines.strip_suffix(b"\n") else {
            return match lines {
                [] => Ok(Vec::new()),
                _ => Err(self.fault(
                    self.records(),
                    "expected whole lines, got one without a line feed",
                )),
            };
        };
        let mut seen = Vec::new();
        let mut claimed = None;
        for line in lines.split(|&byte| byte == b'\n') {
            let sequence = self.records();
            let taken = self.follower.take(line);
            let body = taken
                .map_err(|fault| WatchFault(Fault::new(format!("record {}", fault.record), fault.reason)))?;
            let body = body.clone();
            if let Body::Header(header) = &body {
                self.begin(header)?;
            }
            if let Body::Charge(charge) = &body {
                self.charged += 1;
                claimed = Some((sequence, charge.clone()));
            }
            line.clone_into(&mut self.last);
            self.compare_receipts()?;
            seen.push((sequence, body));
        }
        if let Some((sequence, charge)) = claimed {
            self.count_again(sequence, &charge)?;
        }
        Ok(seen)
    }

    /// Checks a line that was seen before and is shown again: the last one, which stands for all before it.
    fn again(&self, line: &[u8]) -> Result<(), WatchFault> {
        if line == self.last {
            return Ok(());
        }
        Err(self.fault(
            self.records().saturating_sub(1),
            "changed after it was shown: the history was rewritten or forked",
        ))
    }

    /// Checks the number of records that the server says there are, once all of them were taken.
    fn up_to_date(&self, records: u64) -> Result<(), WatchFault> {
        let seen = self.records();
        if records < seen {
            let reason =
                format!("the ledger was rolled back: {seen} records were shown, now there are {records}");
            return Err(self.fault(records, reason));
        }
        if records > seen {
            let reason = format!(
                "the server says that there are {records} records, and keeps those from here on back"
            );
            return Err(self.fault(seen, reason));
        }
        match self.receipts.iter().find(|(_, receipt)| receipt.records > seen) {
            None => Ok(()),
            Some((place, receipt)) => Err(WatchFault(Fault::new(
                place,
                format!(
                    "the ledger was rolled back: the receipt is for {} records, the server shows {seen}",
                    receipt.records
                ),
            ))),
        }
    }

    /// Checks that a whole ledger, fetched once more, is the one that was watched.
    pub fn whole(&self, heads: &[Digest]) -> Result<(), WatchFault> {
        let differing = self.follower.heads().iter().zip(heads).position(|(a, b)| a != b);
        let shorter = (heads.len() < self.follower.heads().len()).then_some(heads.len());
        match differing.or(shorter) {
            None => Ok(()),
            Some(record) => Err(self.fault(
                record as u64,
                "not the record that was shown before: the history was rewritten",
            )),
        }
    }

    fn begin(&mut self, header: &Header) -> Result<(), WatchFault> {
        let key = self.follower.public_key().unwrap_or_default();
        if let Some(wanted) = &self.anchors.key {
            let short = fingerprint(&key);
            if *wanted != short && *wanted != to_hex(&key) {
                return Err(self.fault(
                    0,
                    format!("signed by another key: expected {wanted}, got {short}"),
                ));
            }
        }
        if let Some(wanted) = self
            .anchors
            .plan
            .as_ref()
            .filter(|plan| **plan != header.plan_sha256)
        {
            let reason = format!(
                "another plan than the one agreed on: expected {wanted}, got {}",
                header.plan_sha256
            );
            return Err(self.fault(0, reason));
        }
        if let Some(reason) = plan::faults(header).into_iter().next() {
            return Err(self.fault(0, reason));
        }
        for (name, content) in &self.anchors.receipts {
            let held = held::read(content, &key).map_err(|reason| WatchFault(Fault::new(name, reason)))?;
            let held = held.receipts.into_iter();
            self.receipts
                .extend(held.map(|(line, receipt)| (format!("{name}, line {line}"), receipt)));
        }
        self.recount = Some(Recount::new(header).map_err(|reason| self.fault(0, reason))?);
        Ok(())
    }

    /// Receipts for as many records as there are now must name this head.
    fn compare_receipts(&mut self) -> Result<(), WatchFault> {
        let key = to_hex(&self.follower.public_key().unwrap_or_default());
        let (records, head) = (self.records(), self.head().map(|head| to_hex(&head)));
        for (place, receipt) in &self.receipts {
            if receipt.public_key != key {
                let reason = format!(
                    "a receipt of another signer: expected {key}, got {}",
                    receipt.public_key
                );
                return Err(WatchFault(Fault::new(place, reason)));
            }
            if receipt.records == records && Some(&receipt.head) != head.as_ref() {
                let reason = format!(
                    "the history was forked at or before record {}: the receipt's head is {}, the server's {}",
                    records - 1,
                    receipt.head,
                    head.unwrap_or_default()
                );
                return Err(WatchFault(Fault::new(place, reason)));
            }
        }
        let before = self.receipts.len();
        self.receipts.retain(|(_, receipt)| receipt.records > records);
        self.agreed += (before - self.receipts.len()) as u64;
        Ok(())
    }

    fn count_again(&mut self, sequence: u64, charge: &Charge) -> Result<(), WatchFault> {
        let applications = self.header().map_or(0, |header| header.charges(self.charged));
        let Some(recount) = &mut self.recount else {
            return Ok(());
        };
        let counted = recount.named_after(applications);
        let checked = counted.and_then(|counted| counted.check(&charge.claim));
        checked.map_err(|reason| self.fault(sequence, reason))?;
        self.recomputed += 1;
        Ok(())
    }

    fn fault(&self, record: u64, reason: impl Into<String>) -> WatchFault {
        WatchFault(Fault::new(format!("record {record}"), reason))
    }
}
