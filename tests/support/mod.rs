//! Helpers shared by the whole-program tests.

mod files;
mod folder;
mod run_directory;
mod schema;
mod umbel;

pub(crate) use files::{Numbers, gzip, idx, idx_images, idx_labels, labels};
pub(crate) use folder::{Folder, N_CLIENTS};
pub(crate) use run_directory::{RunDir, parameters};
pub(crate) use schema::Schema;
pub(crate) use umbel::{BINARY, Outcome, Running, Umbel};
