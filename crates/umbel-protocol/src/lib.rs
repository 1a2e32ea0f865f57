//! The round engine: what a server and a client do in a federated round, as state machines without IO, clock, threads or
//! global randomness.
//!
//! Whoever drives a [`Run`] feeds it inputs (`handle_…`), then empties [`Run::poll_event`] and [`Run::poll_outgoing`] and
//! wakes it at [`Run::poll_timeout`]. `umbel simulate` drives it with a virtual clock and simulated clients, a server with
//! sockets and a database; both run the same code, so there is one place where updates are summed, noised and charged.
//!
//! # A round
//!
//! 1. **Reserve.** [`Run::handle_start`] asks the accountant what the round would cost. If that overspends the budget the run
//!    ends ([`Event::Ended`]); else a reservation is handed out as [`Event::Store`].
//! 2. **Select.** Once it is stored, each client's coin is tossed, and those chosen are invited ([`ServerMessage::Invite`]).
//! 3. **Train.** A [`ClientRound`] receives the invitation; its owner trains and hands the raw update in; what comes out is
//!    clipped and quantised by construction.
//! 4. **Report.** Reports are added to an integer sum as they arrive ([`Run::handle_message`]). With Poisson sampling the round
//!    closes on time only ([`Run::handle_timeout`]), whoever has reported.
//! 5. **Charge.** The cost is handed out as [`Event::Store`]. Nothing was learnt yet: the sum is sealed inside the engine.
//! 6. **Release.** Once the charge is stored, and only then, noise is added, the strategy takes its step, and the new model
//!    with its record is handed out to be stored; then it is visible ([`Event::Released`]).
//!
//! With secure aggregation ([`SecureAggregation`]) no reports come: the driver plays the protocol of `umbel-secagg` with the cohort.
//! Once the survivors are confirmed it says so ([`Run::handle_confirmed`]), the round is charged, and the sum that is opened then is
//! handed in ([`Run::handle_sum`]). An attempt that falls short before that ([`Run::handle_shortfall`]) is voided and costs nothing.
//!
//! A round that is abandoned before step 5 is voided and costs nothing; after step 5 it keeps its charge.

mod aggregation;
mod budget;
mod client_round;
mod commitment;
mod error;
mod event;
mod id;
mod message;
mod open_round;
mod plan;
mod run;
mod strategy;

pub use aggregation::SecureAggregation;
pub use client_round::ClientRound;
pub use commitment::{CommitmentKey, Opening};
pub use error::{ApiMisuse, BudgetExhausted, ClientFault, HandleError, PlanError};
pub use event::{Checkpoint, Event, Input, RoundCounts, StoreToken};
pub use id::{ClientId, RoundId, Timestamp};
pub use message::{ClientMessage, Invitation, Outgoing, ServerMessage};
pub use open_round::{OpenRound, OpenRoundError};
pub use plan::{Description, PlanSettings, PrivacyUnit, RunPlan, Sampling, Trust};
pub use run::{ReplayMismatch, ResumeError, Resumed, Run, Sources, parameters_sha256};
pub use strategy::{StateVector, Strategy, StrategySpec, StrategyStateError};
