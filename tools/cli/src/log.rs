//! What the daemon logs, and how to change how much while it runs.

use std::io::IsTerminal;
use std::sync::Arc;

use pollux_control::api::{Level, LogControl};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

mod journal;
mod limit;

use journal::Journal;
use limit::{Limit, TellsAtEnd};

/// Logs to stderr, or the journal behind it, from now on, as much as RUST_LOG says, but no line again and again. Returns what changes that, and what
/// tells at its end how many lines were left out.
pub(crate) fn start() -> (Arc<dyn LogControl>, TellsAtEnd) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let (filter, handle) = reload::Layer::new(filter);
    let limit = Limit::new();
    let tells = limit.tells_at_end();
    let lines = match Journal::behind_stderr() {
        Some(journal) => journal.boxed(),
        None => fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(limit)
        .with(lines)
        .init();
    (Arc::new(Filter(handle)), tells)
}

#[derive(Debug)]
struct Filter(Handle<EnvFilter, Registry>);

impl LogControl for Filter {
    fn level(&self) -> Level {
        // Only with the subscriber, which never ends, would it be gone.
        let hint = self.0.with_current(EnvFilter::max_level_hint);
        match hint.ok().flatten() {
            Some(LevelFilter::OFF) => Level::Off,
            Some(LevelFilter::ERROR) => Level::Error,
            Some(LevelFilter::WARN) => Level::Warn,
            Some(LevelFilter::INFO) => Level::Info,
            Some(LevelFilter::DEBUG) => Level::Debug,
            _ => Level::Trace,
        }
    }

    fn set_level(&self, level: Level) -> Result<(), String> {
        let changed = self.0.reload(EnvFilter::new(level.to_string()));
        changed.map_err(|reason| format!("the log cannot be changed: {reason}"))
    }
}
