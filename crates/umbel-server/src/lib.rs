//! The aggregation server: drives the round engine ([`umbel_protocol::Run`]) with sockets, a clock and a database.
//!
//! One thread, the driver, owns the run and the database; connections are served by tokio and see a view of the run that
//! the driver replaces as a whole. What would change the run goes to the driver as a command, and is answered once it is durable.
//! So there is one order of events, one writer, and nothing that two clients could do to the run at the same moment.
//!
//! - [`start`] is the whole of `umbel serve`; [`ServerSettings`] is its file.
//! - [`runs`] looks at a state from beside.
//! - [`authority`] mints certificates for development.

pub mod authority;
pub mod runs;

mod admin;
mod clock;
mod driver;
mod error;
mod export;
mod feed;
mod listener;
mod metrics;
mod running;
mod secret;
mod service;
mod settings;
mod sources;
mod start;
mod state;
mod store;
mod view;

pub use clock::{Clock, SystemClock};
pub use error::ServerError;
#[cfg(feature = "simulated-randomness")]
pub use running::Probe;
pub use running::{Ended, Running};
pub use settings::{Limits, ServerSettings};
pub use sources::LiveSources;
pub use start::start;
pub use state::{DatabaseUrl, State};
pub use store::StoreError;
