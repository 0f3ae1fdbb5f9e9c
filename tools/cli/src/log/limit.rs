//! How often the same may be logged: nobody fills the log, and its disk, by doing again and again what is worth a line.

use std::collections::HashMap;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber, error, info, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind that may come at once.
const BURST: u32 = 10;

/// What one more takes after that.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often it is told how many were left out.
const TELL: Duration = Duration::from_secs(5);

/// Of the lines that tell that, which are not limited. It begins as those of the control plane do, so that a filter that
/// shows these shows it, too.
const TARGET: &str = "pollux_control::left_out";

/// Lines of one kind: from one place in the source, about one device, or none.
type Kind = (Identifier, String);

struct Line {
    /// When as much time has passed as the lines so far are worth.
    paid_at: Instant,
    /// The first that was left out, if any.
    left_out: Option<LeftOut>,
}

struct LeftOut {
    level: Level,
    text: String,
    count: u64,
}

#[derive(Default)]
struct Lines {
    of: HashMap<Kind, Line>,
    /// Whether a thread is about to tell what was left out.
    is_told: bool,
}

type Clock = Box<dyn Fn() -> Instant + Send + Sync>;

/// Lets so many lines of each kind pass, and tells how many it left out. Those for debugging all pass: who asks for
/// every message is to have it.
pub(super) struct Limit {
    lines: Arc<Mutex<Lines>>,
    now: Clock,
}

impl Limit {
    pub(super) fn new() -> Self {
        Self {
            lines: Arc::default(),
            now: Box::new(Instant::now),
        }
    }

    /// Returns what tells when it is dropped, before the process ends.
    pub(super) fn tells_at_end(&self) -> TellsAtEnd {
        TellsAtEnd(Arc::clone(&self.lines))
    }

    /// Starts the thread that tells, which ends once nothing is left out any more. It has no more rights than the thread
    /// that logs, as one from before the sandbox would have.
    fn start_telling(&self) {
        let lines = Arc::clone(&self.lines);
        let tell = move || {
            while {
                sleep(TELL);
                tell_left_out(&lines)
            } {}
        };
        if Builder::new().name("log".into()).spawn(tell).is_err() {
            // The next line that is left out tries again.
            lock(&self.lines).is_told = false;
        }
    }
}

/// Tells what was left out and nobody has told yet.
pub(crate) struct TellsAtEnd(Arc<Mutex<Lines>>);

impl Drop for TellsAtEnd {
    fn drop(&mut self) {
        tell_left_out(&self.0);
    }
}

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return true;
        }
        let device = text(event, "device");
        let mut lines = lock(&self.lines);
        if lines.admit(event, device, (self.now)()) {
            return true;
        }
        if !std::mem::replace(&mut lines.is_told, true) {
            drop(lines);
            self.start_telling();
        }
        false
    }
}

impl Lines {
    /// Returns whether `event`, which is about `device`, is to be written.
    fn admit(&mut self, event: &Event<'_>, device: String, now: Instant) -> bool {
        if self.of.len() == self.of.capacity() {
            // Before it would grow, and so seldom: what has been quiet for long is as good as new.
            self.of
                .retain(|_, line| line.paid_at > now || line.left_out.is_some());
        }
        let kind = (event.metadata().callsite(), device);
        let line = self.of.entry(kind).or_insert(Line {
            paid_at: now,
            left_out: None,
        });
        let paid_at = line.paid_at.max(now) + INTERVAL;
        if paid_at - now <= INTERVAL * BURST {
            line.paid_at = paid_at;
            return true;
        }
        let left_out = line.left_out.get_or_insert_with(|| LeftOut {
            level: *event.metadata().level(),
            text: text(event, "message"),
            count: 0,
        });
        left_out.count += 1;
        false
    }

    /// Returns what was left out since the last time, of each kind, and the device that it is about.
    fn take_left_out(&mut self) -> Vec<(String, LeftOut)> {
        let lines = self.of.iter_mut();
        let left_out =
            lines.filter_map(|(kind, line)| Some((kind.1.clone(), line.left_out.take()?)));
        left_out.collect()
    }
}

/// Logs what was left out. Returns whether there was anything; if not, the thread that tells is not needed.
fn tell_left_out(lines: &Mutex<Lines>) -> bool {
    let left_out = {
        let mut lines = lock(lines);
        let left_out = lines.take_left_out();
        lines.is_told = !left_out.is_empty();
        left_out
    };
    for (device, it) in &left_out {
        let device = (!device.is_empty()).then_some(device);
        let told = format!("{} more of these were left out: {}", it.count, it.text);
        match it.level {
            Level::ERROR => error!(target: TARGET, device, "{told}"),
            Level::WARN => warn!(target: TARGET, device, "{told}"),
            _ => info!(target: TARGET, device, "{told}"),
        }
    }
    !left_out.is_empty()
}

fn lock(lines: &Mutex<Lines>) -> MutexGuard<'_, Lines> {
    // What it holds is whole at any time.
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the field `name` of `event`; nothing if it has none.
fn text(event: &Event<'_>, name: &'static str) -> String {
    struct Find(&'static str, String);
    impl Visit for Find {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == self.0 {
                self.1.push_str(value);
            }
        }
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            if field.name() == self.0 {
                // A string takes all of it.
                let _ = write!(self.1, "{value:?}");
            }
        }
    }
    let mut find = Find(name, String::new());
    event.record(&mut find);
    find.1
}

#[cfg(test)]
mod tests;
