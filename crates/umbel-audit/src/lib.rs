//! The privacy officer's checks: what a run promised, what it spent, and whether the two agree.
//!
//! [`verify`] takes the content of a run directory's files and says everything that is wrong with them: chain, signatures and
//! order of the ledger, each claimed ε recomputed by two accountants from the recorded events, the plan against the experiment
//! file, the model and the summary against the records, realised cohort sizes against the sampling rate, receipts that clients
//! hold. [`Watch`] checks the same of a live ledger, record by record. [`certificate`] says it all to somebody who was not there. This crate reads no file, knows no clock and trusts nothing but the key or the receipts that
//! somebody brings from outside.
//!
//! What no ledger shows: that the recorded noise was really drawn, that cohorts were really secret, and that the recorded data
//! were the clients'. And without an anchor from outside, that the ledger is the one that was written during the run: whoever
//! holds all files can write another run's history and sign it with another key.

mod certificate;
mod claims;
mod cohorts;
mod distributed;
mod experiment;
mod files;
mod held;
mod plan;
mod verify;
mod watch;

pub use certificate::{CertificateError, CertificateInputs, certificate};
pub use cohorts::{CohortTest, LEVEL, test_cohorts, test_turns};
pub use verify::{Anchors, Claimed, Facts, Fault, RunFiles, Signer, Spent, Verification, verify};
pub use watch::{Watch, WatchFault};
