//! Simulated clients and the real round engine: what a served federation does, with a virtual clock and without a network.
//!
//! [`simulate`] is the whole of `umbel simulate`: it prepares an experiment ([`Prepared`]), lets a [`World`] of clients play
//! its rounds against one [`Run`](umbel_protocol::Run) on all threads, and leaves a run directory. Everything random is
//! derived from the seed, the purpose, the round and the client, and sums are integers, so the same seed gives the same
//! bytes whatever the number of threads, and a run that was interrupted goes on as if nothing had happened.

mod aggregation;
mod auditor;
pub mod checkpoint;
mod client_task;
mod data;
mod error;
pub mod facts;
mod mechanism;
mod model;
mod predict;
mod prepare;
mod private_steps;
mod session;
mod simulate;
mod tally;
mod task;
mod terms;
mod world;

pub use auditor::{Auditor, StepOf};
pub use checkpoint::CheckpointFault;
pub use client_task::{ClientDraws, ClientTask};
pub use data::{Data, DataReader};
pub use error::SimulateError;
pub use predict::{Prediction, Predictions, model_file, predict_file};
pub use prepare::Prepared;
pub use session::choose_seed;
pub use simulate::{Options, Progress, simulate};
pub use task::ServerTask;
pub use terms::{ServedRound, promised_plan, served_round_config};
pub use umbel_protocol::BudgetExhausted;
pub use world::{Recorder, Step, World};
