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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Ending;
    use crate::compare::result::tests::comparison;

    #[test]
    fn absurd_values_are_drawn_all_the_same() {
        for value in [0.0, f64::from_bits(1), f64::MAX, -1.0] {
            let mut absurd = comparison(Ending::Stopped);
            absurd.started_unix_s = u64::MAX;
            for point in &mut absurd.points {
                point.load.iops = value;
                point.load.latency_ns.min = 0;
                point.load.latency_ns.max = u64::MAX;
                point.interrupts_per_request = Some(value);
            }
            // As it comes from a file.
            let text = serde_json::to_string(&absurd).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run.json");
            save(&path, &text).unwrap();
            let runs = Run::read_all(&[path]).unwrap();
            let page = page(&report(&runs));
            assert!(
                page.contains("s after 1970") && page.len() < 1 << 20,
                "{value}"
            );
            for form in [Form::Tables, Form::Overview, Form::Index] {
                assert!(form.write(&runs).starts_with("| "));
            }
            // A coordinate that is no number would be drawn nowhere.
            assert!(
                !page.contains("=\"NaN") && !page.contains("=\"inf"),
                "{value}"
            );
        }
    }
}
