//! Whole-program tests: they run the `umbel` command as its users do, and look at nothing but what it prints, the code it
//! exits with, and the files that it leaves.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper that panics is a test that fails, and says where"
)]

mod support;

mod attack;
mod audit;
mod bad_input;
mod budget;
mod data;
mod digits;
mod early_stopping;
mod full_disk;
mod interruption;
mod killed_attempts;
mod kills;
mod layers;
mod mechanisms;
mod noise;
mod output;
mod reproducible;
mod secure_aggregation;
mod standby;
mod watch;
