//! The screen on ratatui's backend for tests, at the smallest size and at a large one.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::*;
use crate::top::fixture::device;
use crate::top::model::Sample;

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 50)];

fn model() -> Model {
    Model::new("/run/pollux".into(), Duration::from_secs(1))
}

/// Returns a model with two samples of these devices, each with `queues` queues that do 21504 IOPS in all.
fn busy(names: &[&str], queues: u16) -> Model {
    let mut model = model();
    for (at_s, requests) in [(0.0, 0), (1.0, 21_504 / u64::from(queues))] {
        let devices = names.iter().map(|name| device(name, queues, requests));
        model.take(Sample {
            at_s,
            devices: devices.collect(),
            problems: Vec::new(),
        });
    }
    model
}

/// Returns the lines of the screen.
fn drawn(model: &Model, (width, height): (u16, u16)) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("no I/O");
    terminal.draw(|frame| draw(frame, model)).expect("no I/O");
    let cells = terminal.backend().buffer().content();
    let lines = cells.chunks(width.into());
    lines
        .map(|line| line.iter().map(|cell| cell.symbol()).collect())
        .collect()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn press(model: &mut Model, key: KeyCode) {
    assert!(model.press(KeyEvent::from(key)).is_continue());
}

/// Returns the first line that contains `text`.
fn line_with<'a>(lines: &'a [String], text: &str) -> &'a str {
    let found = lines.iter().find(|line| line.contains(text));
    found.unwrap_or_else(|| panic!("no {text:?} in\n{}", lines.join("\n")))
}

#[test]
fn every_column_is_there_at_both_sizes() {
    for size in SIZES {
        let lines = drawn(&busy(&["d0", "d1"], 2), size);
        assert_eq!(
            words(&lines[0]),
            "pollux top 2 devices 43.0k IOPS read 84.0M/s write 84.0M/s every 1 s"
                .split(' ')
                .collect::<Vec<_>>()
        );
        assert_eq!(lines[1].trim_end(), NOTE);
        let titles = "NAME STATE IOPS READ/s WRITE/s P50 P99 BUSY IRQ/REQ LAST 60s";
        assert_eq!(words(&lines[2]).join(" "), titles);
        let row = "d0 running 21.5k 42.0M 42.0M 281ns 900ns 25% 0.250";
        let drawn = words(&lines[3]).join(" ");
        let bars = drawn.strip_prefix(row).unwrap_or_else(|| panic!("{drawn}"));
        assert!(bars.trim_start().chars().all(|bar| bar == '█') && bars.len() > 1);
        // Numbers end where their titles do.
        for (number, title) in [("21.5k", "IOPS"), ("900ns", "P99"), ("0.250", "IRQ/REQ")] {
            let end = |line: &str, text: &str| line.find(text).map(|at| at + text.len());
            assert_eq!(end(&lines[3], number), end(&lines[2], title), "{title}");
        }
        let keys = lines.last().expect("lines");
        assert!(
            keys.contains("(by IOPS)") && keys.contains("? help"),
            "{keys}"
        );
    }
}

#[test]
fn a_long_name_takes_nothing_from_the_other_columns() {
    let long = "n".repeat(255);
    for size in SIZES {
        let lines = drawn(&busy(&[&long, "d1"], 1), size);
        let cells = |text| words(line_with(&lines, text));
        assert!(cells("nnn")[0].ends_with('…'), "{:?}", cells("nnn"));
        assert_eq!(cells("nnn")[1..], cells("d1 ")[1..]);
        assert_eq!(cells("d1 ")[2], "21.5k");
        assert!(lines[2].contains("IRQ/REQ LAST 60s"), "{}", lines[2]);
    }
    let width = |size| {
        words(line_with(&drawn(&busy(&[&long], 1), size), "nnn"))[0]
            .chars()
            .count()
    };
    assert_eq!(SIZES.map(width), [11, usize::from(NAME_WIDTH_MAX)]);
}

#[test]
fn queues_of_the_selected_device_are_below() {
    for size in SIZES {
        let mut model = busy(&["d0", "d1"], 2);
        press(&mut model, KeyCode::Enter);
        let lines = drawn(&model, size);
        assert!(line_with(&lines, "d0: null,size=1G").starts_with('─'));
        line_with(&lines, "IOPS of the last minute, at most 21.5k");
        let at = lines.iter().position(|line| line.contains("SLEEP/s"));
        let at = at.expect("the titles of queues");
        let titles = "VQ CPU STATE IOPS READ/s WRITE/s P50 P99 BUSY IRQ/REQ ERR/s SLEEP/s";
        assert_eq!(words(&lines[at]).join(" "), titles);
        let second = "1 1 running 10.8k 21.0M 21.0M 281ns 900ns 25% 0.250 0 0";
        assert_eq!(words(&lines[at + 2]).join(" "), second);
    }
}

#[test]
fn many_queues_leave_room_for_devices_and_scroll() {
    let mut model = busy(&["d0", "d1", "d2"], 64);
    press(&mut model, KeyCode::Enter);
    let lines = drawn(&model, SIZES[0]);
    for name in ["d0", "d1", "d2"] {
        line_with(&lines, &format!("{name}  "));
    }
    (0..63).for_each(|_| press(&mut model, KeyCode::PageDown));
    line_with(&drawn(&model, SIZES[0]), " 63  63 running");
}

#[test]
fn the_selected_device_is_in_sight_among_many() {
    let names: Vec<_> = (0..99).map(|at| format!("disk{at:02}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut model = busy(&names, 1);
    press(&mut model, KeyCode::End);
    line_with(&drawn(&model, SIZES[0]), "disk98");
}

#[test]
fn no_daemon_is_a_clear_line() {
    for size in SIZES {
        let mut model = model();
        line_with(&drawn(&model, size), "asking the daemons in /run/pollux");
        model.take(Sample::default());
        let text = drawn(&model, size).join(" ");
        assert!(text.starts_with("pollux top  0 devices  0 IOPS  read 0/s  write 0/s "));
        let text = words(&text).join(" ");
        assert!(
            text.contains(
                "no device is served by a daemon in /run/pollux: start one with pollux serve"
            ),
            "{text}"
        );
    }
}

#[test]
fn problems_and_gone_devices_are_told() {
    for size in SIZES {
        let mut model = busy(&["d0", "d1"], 1);
        model.take(Sample {
            at_s: 2.0,
            devices: vec![device("d0", 1, 21_505)],
            problems: vec!["the daemon behind 7.sock does not answer".into()],
        });
        let lines = drawn(&model, size);
        line_with(&lines, "7.sock does not answer");
        let gone = words(line_with(&lines, "d1  "));
        assert_eq!(gone[..4], ["d1", "gone", "-", "-"]);
        line_with(&lines, "pollux top  1 device ");
    }
}

#[test]
fn help_fits() {
    for size in SIZES {
        let mut model = busy(&["d0"], 1);
        press(&mut model, KeyCode::Char('?'));
        let lines = drawn(&model, size);
        for line in HELP {
            line_with(&lines, line);
        }
        line_with(&lines, "┘");
    }
}

#[test]
fn a_pause_is_shown() {
    let mut model = busy(&["d0"], 1);
    press(&mut model, KeyCode::Char('p'));
    let lines = drawn(&model, SIZES[0]);
    assert!(lines[0].ends_with("paused"), "{}", lines[0]);
    line_with(&lines, "p go on");
}

#[test]
fn any_size_is_drawn() {
    let mut model = busy(&["d0"], 3);
    press(&mut model, KeyCode::Enter);
    for size in [(1, 1), (20, 3), (79, 5), (500, 200)] {
        drawn(&model, size);
        press(&mut model, KeyCode::Char('?'));
        drawn(&model, size);
        press(&mut model, KeyCode::Char('?'));
    }
}
