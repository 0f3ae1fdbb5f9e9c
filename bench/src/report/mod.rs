//! Draws recorded runs: one HTML page without anything from elsewhere, or Markdown tables.
//!
//! `{error, model, number} < {recorded, save, chart} < {comparison, ring, scenario, page, markdown, index}`: each kind of result is converted into
//! the small model of [`model`], from which everything is drawn. Another kind needs another conversion and nothing else.

mod chart;
mod comparison;
mod error;
mod index;
mod markdown;
pub mod model;
mod number;
mod page;
mod recorded;
mod ring;
mod save;
mod scenario;

pub use error::ReportError;
pub use markdown::{Form, update};
use model::{Report, Section};
pub use page::page;
pub use recorded::{Recorded, Run};
pub use save::save;

/// Converts runs, in their order.
pub fn report(runs: &[Run]) -> Report {
    let section = |run: &Run| -> Section {
        match &run.recorded {
            Recorded::Comparison(comparison) => comparison::section(&run.path, comparison),
            Recorded::Ring(ring) => ring::section(&run.path, ring),
            Recorded::Scenario(measured) => scenario::section(&run.path, measured),
        }
    };
    Report {
        sections: runs.iter().map(section).collect(),
    }
}
