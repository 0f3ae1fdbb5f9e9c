//! What samples and keys do to the model.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::*;
use crate::top::fixture::device;

fn model() -> Model {
    Model::new("/run/pollux".into(), Duration::from_secs(1))
}

/// Takes a sample with devices of this name and number of requests.
fn take(model: &mut Model, at_s: f64, devices: &[(&str, u64)]) {
    let devices = devices
        .iter()
        .map(|(name, requests)| device(name, 2, *requests));
    model.take(Sample {
        at_s,
        devices: devices.collect(),
        problems: Vec::new(),
    });
}

fn press(model: &mut Model, keys: &[KeyCode]) {
    for key in keys {
        let flow = model.press(KeyEvent::from(*key));
        assert!(flow.is_continue(), "{key:?} quits");
    }
}

fn names(model: &Model) -> Vec<&str> {
    model.rows.iter().map(|row| row.name.as_str()).collect()
}

fn two_devices() -> Model {
    let mut model = model();
    take(&mut model, 0.0, &[("a", 0), ("b", 0)]);
    take(&mut model, 1.0, &[("a", 10), ("b", 20)]);
    model
}

#[test]
fn the_busiest_is_first_and_s_sorts_by_the_next_column() {
    let mut model = two_devices();
    assert_eq!(names(&model), ["b", "a"]);
    // Back to the name.
    press(&mut model, &[KeyCode::Char('S'); 2]);
    assert_eq!(
        (DEVICE[model.sort].title, names(&model)),
        ("NAME", vec!["a", "b"])
    );
    press(&mut model, &[KeyCode::Char('s'); 3]);
    assert_eq!(
        (DEVICE[model.sort].title, names(&model)),
        ("READ/s", vec!["b", "a"])
    );
    press(&mut model, &[KeyCode::Char('s'); DEVICE.len()]);
    assert_eq!(DEVICE[model.sort].title, "READ/s");
}

#[test]
fn the_selection_stays_with_its_device() {
    let mut model = two_devices();
    let selected = |model: &Model| model.selected().map(|at| model.rows[at].name.clone());
    assert_eq!(
        selected(&model).as_deref(),
        Some("a"),
        "of the first sample"
    );
    press(&mut model, &[KeyCode::Up]);
    assert_eq!(selected(&model).as_deref(), Some("b"));
    take(&mut model, 2.0, &[("a", 100), ("b", 20)]);
    assert_eq!(
        (selected(&model).as_deref(), model.selected()),
        (Some("b"), Some(1))
    );
    press(&mut model, &[KeyCode::Down; 3]);
    assert_eq!(
        selected(&model).as_deref(),
        Some("b"),
        "there is no further one"
    );
    press(&mut model, &[KeyCode::Home]);
    assert_eq!(selected(&model).as_deref(), Some("a"));
    press(&mut model, &[KeyCode::End]);
    assert_eq!(selected(&model).as_deref(), Some("b"));
}

#[test]
fn queues_open_and_scroll() {
    let mut model = two_devices();
    press(&mut model, &[KeyCode::Enter]);
    assert!(model.is_open);
    press(&mut model, &[KeyCode::PageDown; 5]);
    assert_eq!(model.queue, 1, "the last of two");
    press(&mut model, &[KeyCode::PageUp, KeyCode::PageUp]);
    assert_eq!(model.queue, 0);
    press(&mut model, &[KeyCode::Enter]);
    assert!(!model.is_open);
    press(&mut model, &[KeyCode::Right]);
    assert!(model.is_open);
    press(&mut model, &[KeyCode::Esc]);
    assert!(!model.is_open);
}

#[test]
fn a_pause_keeps_the_rows() {
    let mut model = two_devices();
    press(&mut model, &[KeyCode::Char('p')]);
    let rows = model.rows.clone();
    take(&mut model, 2.0, &[("a", 10)]);
    assert_eq!((&model.rows, model.now_s), (&rows, Some(1.0)));
    press(&mut model, &[KeyCode::Char('p')]);
    take(&mut model, 3.0, &[("a", 40)]);
    // Over the last second, not since the pause, and two queues.
    assert_eq!(model.rows[0].rates.map(|rates| rates.iops), Some(60.0));
    let gone: Vec<_> = model
        .rows
        .iter()
        .map(|row| (&*row.name, row.is_gone()))
        .collect();
    assert_eq!(gone, [("a", false), ("b", true)]);
}

#[test]
fn a_device_that_is_gone_stays_for_its_last_minute_and_may_come_back() {
    let mut model = two_devices();
    take(&mut model, 2.0, &[("a", 10)]);
    take(&mut model, 60.0, &[("a", 10)]);
    let b = |model: &Model| model.rows.iter().find(|row| row.name == "b").cloned();
    assert!(b(&model).is_some_and(|row| row.is_gone() && row.rates.is_none()));
    take(&mut model, 60.5, &[("a", 10), ("b", 3)]);
    assert!(b(&model).is_some_and(|row| !row.is_gone() && row.rates.is_none()));
    assert_eq!(model.rows.len(), 2);
    take(&mut model, 60.9, &[("a", 10)]);
    assert!(b(&model).is_some_and(|row| row.is_gone()));
    take(&mut model, 61.0, &[("a", 10)]);
    assert_eq!(b(&model), None);
}

#[test]
fn q_and_control_c_quit_and_any_key_leaves_the_help() {
    let mut model = model();
    press(
        &mut model,
        &[
            KeyCode::Down,
            KeyCode::Enter,
            KeyCode::End,
            KeyCode::PageDown,
        ],
    );
    press(&mut model, &[KeyCode::Char('?')]);
    assert!(model.is_help);
    press(&mut model, &[KeyCode::Char('p')]);
    assert!(!model.is_help && !model.is_paused);
    press(&mut model, &[KeyCode::Char('c')]);
    assert!(model.press(KeyEvent::from(KeyCode::Char('q'))).is_break());
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(model.press(control_c).is_break());
}
