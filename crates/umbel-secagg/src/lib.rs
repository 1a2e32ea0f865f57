//! Secure aggregation: a server learns the sum of many clients' integer vectors, and nothing else about any of them.
//!
//! Two state machines without IO, clock or global randomness, [`Server`] and [`Client`], exchange bytes. Each client hides
//! its vector under a mask of its own and masks that it shares with its neighbours in a random graph; the latter cancel in
//! the sum. The seeds of all masks are shared among the neighbours, so that those of clients who vanish can be
//! recovered (Bonawitz et al. 2017; Bell et al. 2020). On top of that come defences against a server that lies:
//! `docs/secure-aggregation.md` has the threat model and the argument.
//!
//! # An attempt
//!
//! | step | server | client | afterwards |
//! |---|---|---|---|
//! | 0 | [`Server::offer`] | [`Client::new`] checks the signed terms against its own [`Policy`]; its [`Mark`] is stored; [`Client::handle_mark_stored`] | a client that advertised never joins this or an earlier attempt again |
//! | 1 | [`Server::handle_advertisement`], [`Server::close_advertising`] | [`Client::handle_roster`] checks everybody's keys, recomputes graph and threshold, shares both its seeds | |
//! | 2 | [`Server::handle_shares`], [`Server::close_sharing`], [`Server::mask_request`] | [`Client::handle_mask_request`]; its own charge is stored; [`Client::handle_charge_stored`] masks the input | the set U₁ of those who shared is fixed |
//! | 3 | [`Server::handle_masked_input`], [`Server::close_masking`], [`Server::survivors`] | [`Client::handle_survivors`] checks the neighbours' signed headers and confirms | the set U₂ of those in the sum is fixed |
//! | 4 | [`Server::handle_confirmation`], [`Server::close_confirming`]; the round is charged; [`Server::charge`] | [`Client::handle_unmask_request`] verifies as many confirmations of the same two sets as must survive, more than (n + C)/2, opens one share of each neighbour | the client's secrets are gone |
//! | 5 | [`Server::handle_opened_shares`], [`Server::finish`] | | the sum is known |
//!
//! A client may vanish after any message. Before step 2 it costs nothing; between steps 2 and 3 its pairwise masks are
//! recovered; after step 3 it is in the sum, as long as enough of its neighbours stay to the end.
//!
//! # What is promised
//!
//! Whatever a server does, as long as it holds no authority's key and at most C certified identities collude with it: of
//! the honest clients' inputs it learns at most one sum for each attempt, over at least `survivors_min` clients, or nothing.
//! Nothing is promised about the sum itself if a client lies about its input.

mod client;
mod codec;
mod config;
mod crypto;
mod error;
mod field;
mod graph;
mod limits;
mod merkle;
mod message;
mod parameters;
mod random;
mod server;
mod session;
mod shamir;
mod simulation;
#[cfg(test)]
mod tests;
mod vector;

pub use client::{Client, Expected, Mark, Receipt};
pub use codec::DecodeError;
pub use config::{MAX_DIMENSION, Policy, RoundConfig};
pub use crypto::{Authority, Certificate, Hash, Identity, ServerKey, client_number, federation_of};
pub use error::{Abort, Fault, Refusal};
pub use graph::Topology;
pub use limits::{MessageKind, sender_of};
pub use parameters::{CORRECTNESS_BITS, Counts, MAX_CLIENTS, NoParameters, Parameters, SECURITY_BITS};
pub use random::Entropy;
pub use server::{Server, Sum};
pub use simulation::{Confirmed, DropoutRates, LastStep, SimulatedClient, SimulatedFederation};
