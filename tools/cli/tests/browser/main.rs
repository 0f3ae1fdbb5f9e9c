//! Looks at the pages of `pollux bench report` as a browser lays them out: on a phone and on a desk, light and
//! dark. `look.js` says what is wrong. Built with the feature `browser`, since it needs chromium.

mod chromium;

use std::path::Path;
use std::slice;

use pollux_bench::report::{self, Run};

use chromium::{Look, Scheme, look};

/// Pixels: a phone and a desk.
const WIDTHS: [u32; 2] = [390, 1280];

/// The page of all runs that the repository has, and how many charts it is to show.
fn recorded() -> (String, usize) {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results");
    let runs = Run::read_all(&[results]).expect("recorded runs");
    let report = report::report(&runs);
    let charts = report.sections.iter().map(|section| section.figures.len());
    (report::page(&report), charts.sum())
}

/// The page of the first file only.
fn one() -> String {
    let file = "../../results/2026-11-22-null-vduse-virtio/run.json";
    let run = Run::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a recorded run");
    report::page(&report::report(&[run]))
}

#[test]
fn pages_are_readable_on_every_screen_and_in_both_schemes() {
    let (page, charts) = recorded();
    for scheme in [Scheme::Light, Scheme::Dark] {
        let looks = look(slice::from_ref(&page), &WIDTHS, scheme);
        assert_eq!(looks.len(), WIDTHS.len());
        for (look, width) in looks.iter().zip(WIDTHS) {
            assert_eq!((look.width, look.dark), (width, scheme == Scheme::Dark));
            assert!(
                look.wrong.is_empty(),
                "{width} px, {scheme:?}:\n{}",
                look.wrong.join("\n")
            );
            assert_eq!(look.charts, charts);
            assert!(look.marks > charts && look.labels > 5 * charts && look.texts > look.labels);
        }
    }
}

/// Each fault, and how what is said about it begins.
fn planted(page: &str) -> Vec<(String, &'static str)> {
    let style = |rule: &str| page.replace("</style>", &format!("{rule}</style>"));
    let label = r#"<text x="60" y="246">covered</text><text x="66" y="248">covering</text>"#;
    let first_label = page.find("<text").expect("a chart has text");
    let overlapping = page[..first_label].to_owned() + label + &page[first_label..];
    vec![
        (overlapping, "overlap: "),
        (
            page.replace("<main>", r#"<main><p style="width:1300px">x</p>"#),
            "wider: ",
        ),
        (style(".note { color: #8f8f8f; }"), "contrast: "),
        (style(".mark { color: #f0f0f0; }"), "contrast: "),
        (style(".mark { display: none; }"), "empty: "),
        (
            style(".mark { transform: translate(500px, 0); }"),
            "outside: ",
        ),
        (style(".chart text { font-size: 7px; }"), "small: "),
    ]
}

#[test]
fn every_planted_fault_is_seen() {
    let page = one();
    let planted = planted(&page);
    let pages: Vec<String> = planted.iter().map(|(page, _)| page.clone()).collect();
    let looks = look(&pages, &WIDTHS, Scheme::Light);
    let of_page = |place: usize| looks.iter().filter(move |look: &&Look| look.page == place);
    for (place, (_, expected)) in planted.iter().enumerate() {
        assert_eq!(of_page(place).count(), WIDTHS.len());
        for look in of_page(place) {
            let seen = look.wrong.iter().any(|it| it.starts_with(expected));
            assert!(
                seen,
                "fault {place}, {} px: no '{expected}' in {:?}",
                look.width, look.wrong
            );
        }
    }
}
