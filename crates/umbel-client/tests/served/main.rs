//! A server and clients in one process, over mutual TLS on the loopback interface.
#![allow(
    clippy::unwrap_used,
    reason = "a helper that panics is a test that fails, and says where"
)]

mod between;
mod equality;
mod hostile;
mod lies;
mod secure;
mod support;
mod watching;
