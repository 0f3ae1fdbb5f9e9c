//! What the screen shows, and what keys do to it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use pollux_control::device::DeviceSnapshot;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::columns::{DEVICE, IOPS};
use super::history::History;
use super::rates::{DeviceRow, rows};

/// What all daemons said at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// Seconds since the first one was asked for.
    pub(crate) at_s: f64,
    pub(crate) devices: Vec<DeviceSnapshot>,
    /// Why others said nothing.
    pub(crate) problems: Vec<String>,
}

/// The state of the screen.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) runtime_dir: String,
    pub(crate) delay: Duration,
    /// When the rows were true; `None` before the first sample.
    pub(crate) now_s: Option<f64>,
    /// Sorted.
    pub(crate) rows: Vec<DeviceRow>,
    pub(crate) problems: Vec<String>,
    /// Column of [`DEVICE`] that the rows are sorted by.
    pub(crate) sort: usize,
    pub(crate) is_paused: bool,
    pub(crate) is_help: bool,
    /// Whether the queues of the selected device are shown.
    pub(crate) is_open: bool,
    /// The first queue that is shown.
    pub(crate) queue: usize,
    before: Vec<DeviceSnapshot>,
    before_s: f64,
    selected: Option<String>,
    histories: BTreeMap<String, History>,
}

impl Model {
    /// Returns what is shown before anything is known.
    pub(crate) fn new(runtime_dir: String, delay: Duration) -> Self {
        Self {
            runtime_dir,
            delay,
            now_s: None,
            rows: Vec::new(),
            problems: Vec::new(),
            sort: IOPS,
            is_paused: false,
            is_help: false,
            is_open: false,
            queue: 0,
            before: Vec::new(),
            before_s: 0.0,
            selected: None,
            histories: BTreeMap::new(),
        }
    }

    /// Makes rows of a new sample. A device that is gone stays in sight as long as its last minute.
    pub(crate) fn take(&mut self, sample: Sample) {
        let seconds = sample.at_s - self.before_s;
        let mut rows = rows(&self.before, &sample.devices, seconds);
        for row in &rows {
            if let Some(rates) = row.rates {
                let history = self.histories.entry(row.name.clone()).or_default();
                history.push(sample.at_s, seconds, rates.iops);
            }
        }
        self.before = sample.devices;
        self.before_s = sample.at_s;
        if self.is_paused {
            return;
        }
        self.histories
            .retain(|_, history| history.prune(sample.at_s));
        let is_known = |name: &str| rows.iter().any(|row| row.name == name);
        let missing = self
            .rows
            .extract_if(.., |row| !is_known(&row.name))
            .filter(|row| self.histories.contains_key(&row.name));
        let gone: Vec<_> = missing.map(DeviceRow::gone).collect();
        rows.extend(gone);
        self.rows = rows;
        self.now_s = Some(sample.at_s);
        self.problems = sample.problems;
        self.arrange();
    }

    /// Does what a key is for. Returns `Break` to quit.
    pub(crate) fn press(&mut self, key: KeyEvent) -> ControlFlow<()> {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return ControlFlow::Break(()),
            KeyCode::Char('q') => return ControlFlow::Break(()),
            _ if self.is_help => self.is_help = false,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.is_help = true,
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('s') => self.sort_by(self.sort + 1),
            KeyCode::Char('S') => self.sort_by(self.sort + DEVICE.len() - 1),
            KeyCode::Enter => self.is_open = !self.is_open,
            KeyCode::Right => self.is_open = true,
            KeyCode::Left | KeyCode::Esc => self.is_open = false,
            KeyCode::Up | KeyCode::Char('k') => self.select(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(|at, last| last.min(at + 1)),
            KeyCode::Home => self.select(|_, _| 0),
            KeyCode::End => self.select(|_, last| last),
            KeyCode::PageUp => self.queue = self.queue.saturating_sub(1),
            KeyCode::PageDown => self.queue = (self.queue + 1).min(self.last_queue()),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    /// Returns the row of the selected device.
    pub(crate) fn selected(&self) -> Option<usize> {
        let name = self.selected.as_ref()?;
        self.rows.iter().position(|row| row.name == *name)
    }

    /// Returns the last minute of the device `name` in so many columns.
    pub(crate) fn minute(&self, name: &str, width: usize) -> Vec<Option<u64>> {
        let known = self.histories.get(name).zip(self.now_s);
        known.map_or_else(Vec::new, |(history, now_s)| history.columns(now_s, width))
    }

    fn last_queue(&self) -> usize {
        let row = self.selected().map(|at| &self.rows[at]);
        row.map_or(0, |row| row.queues.len().saturating_sub(1))
    }

    fn select(&mut self, to: fn(at: usize, last: usize) -> usize) {
        let (at, last) = (self.selected(), self.rows.len().saturating_sub(1));
        let row = self.rows.get(to(at.unwrap_or(0), last));
        self.selected = row.map(|row| row.name.clone());
        self.queue = 0;
    }

    fn sort_by(&mut self, column: usize) {
        self.sort = column % DEVICE.len();
        self.arrange();
    }

    /// Sorts the rows and keeps something selected.
    fn arrange(&mut self) {
        let value = DEVICE[self.sort].value;
        self.rows.sort_by(|a, b| {
            let order = value(a).order(&value(b));
            order.then_with(|| a.name.cmp(&b.name))
        });
        if self.selected().is_none() {
            self.selected = self.rows.first().map(|row| row.name.clone());
        }
        self.queue = self.queue.min(self.last_queue());
    }
}

#[cfg(test)]
mod tests;
