//! The report as one HTML page: no script, and nothing that is fetched from elsewhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart;
use super::model::{Align, Figure, Report, Section, Table};

const STYLE: &str = include_str!("page.css");
/// The browser itself refuses to fetch or run anything.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Returns the page.
pub fn page(report: &Report) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { "Pollux: recorded runs" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Pollux: recorded runs" }
                    p { "Medians over rounds in which every server had its turn on the same CPUs. Only ratios inside \
                         one run count where the machine is shared or emulated." }
                    @if report.sections.len() > 1 { (contents(report)) }
                }
                main {
                    @for (place, one) in report.sections.iter().enumerate() { (section(one, place)) }
                }
            }
        }
    }
    .into_string()
}

fn contents(report: &Report) -> Markup {
    html! {
        nav {
            ul {
                @for (place, section) in report.sections.iter().enumerate() {
                    li { a href=(format!("#run{place}")) { (section.source) } " " (section.title) }
                }
            }
        }
    }
}

fn section(section: &Section, place: usize) -> Markup {
    html! {
        section id=(format!("run{place}")) {
            h2 { (section.title) }
            p.source { (section.source) }
            dl {
                @for (name, value) in &section.facts { div { dt { (name) } dd { (value) } } }
            }
            (table(&section.summary))
            div.figures {
                @for one in &section.figures { (figure(one)) }
            }
            @for one in &section.details { (table(one)) }
            @if !section.notes.is_empty() {
                h3 { "Notes" }
                ul.notes { @for note in &section.notes { li { (note) } } }
            }
        }
    }
}

fn figure(figure: &Figure) -> Markup {
    html! {
        figure {
            figcaption { (figure.title) }
            (chart::legend(&figure.drawing))
            (chart::draw(&figure.drawing, &figure.title))
            p.note { (figure.note) }
        }
    }
}

/// A table in a box of its own, in which it moves sideways where it is too wide. The box takes the focus, so that
/// keys move it, too.
fn table(table: &Table) -> Markup {
    let class = |column: usize| match table.columns.get(column).map(|it| it.align) {
        Some(Align::Right) => "number",
        _ => "words",
    };
    html! {
        h3 { (table.title) }
        div.wide tabindex="0" role="region" aria-label=(table.title) {
            table {
                thead {
                    tr { @for (place, column) in table.columns.iter().enumerate() {
                        th scope="col" class=(class(place)) { (column.title) }
                    } }
                }
                tbody {
                    @for row in &table.rows {
                        tr { @for (place, cell) in row.iter().enumerate() { td class=(class(place)) { (cell) } } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Ending;
    use crate::compare::result::tests::comparison;
    use crate::report::{Recorded, Run, report};

    fn run(name: &str) -> Run {
        let recorded = Recorded::Comparison(Box::new(comparison(Ending::Complete)));
        let path = name.into();
        Run { path, recorded }
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        let page = page(&report(&[run("a.json"), run("b.json")]));
        for foreign in [
            "http:", "https:", "//", "<script", "<link", "<img", "url(", "@import",
        ] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains("#run1"));
    }

    #[test]
    fn what_a_file_says_stays_text() {
        let page = page(&report(&[run("<b>&.json")]));
        assert!(page.contains("&lt;b&gt;&amp;.json") && !page.contains("<b>"));
    }
}
