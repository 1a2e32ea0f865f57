//! The report: what one run or several have reached, as one HTML page that needs nothing beside it.
//!
//! The page has no script and fetches nothing, so it can be mailed, archived and printed. What is released
//! (accuracy, loss, ε) comes first; what only a simulation can see (cohort sizes, norms, clipped fractions,
//! training loss, the partition) stands at the end under its own heading, because no ε covers it.
//! Wherever an ε is printed, the privacy unit, the neighbouring relation, the trust model, what is not covered
//! and whether the run was simulated stand with it, or the page says that the run did not state them.
//!
//! The page is a function of the records alone: the same records give the same bytes. A field that is missing
//! or of another type is left out, so that the report of an interrupted run, or of one written by another
//! version, still shows what there is.

mod axes;
pub mod certificate;
mod chart;
mod compare;
mod diagnostics;
mod facts;
mod field;
mod header;
mod heat_map;
mod histogram;
mod markup;
mod number;
mod page;
mod privacy;
mod progress;
mod record;
mod rounds;
mod scale;
mod style;
mod view;

#[cfg(test)]
mod tests;

pub use diagnostics::HEADING as NOT_COVERED;
pub use page::{render, render_partition};
pub use record::{ReportError, RunRecord};
