//! The journal, where stderr goes there: each line keeps its fields, as DEVICE= and QUEUE=, and its priority.

use std::fmt::{Debug, Write};

use log::{Level, Record};
use systemd_journal_logger::{JournalLog, connected_to_journal};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Sends each event to the journal. The crate tracing-journald does, too, but its texts do not tell which device they are
/// about.
pub(super) struct Journal(JournalLog);

impl Journal {
    /// Returns the journal, if stderr is connected to it. Who cannot reach it writes to stderr, as anywhere else.
    pub(super) fn behind_stderr() -> Option<Self> {
        let journal = connected_to_journal().then(JournalLog::new);
        journal?.ok().map(Self)
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        };
        let mut line = Line::default();
        event.record(&mut line);
        let sent = self.0.journal_send(
            &Record::builder()
                .level(level)
                .target(metadata.target())
                .module_path(metadata.module_path())
                .file(metadata.file())
                .line(metadata.line())
                .key_values(&line.fields)
                .args(format_args!("{}", line.text()))
                .build(),
        );
        // There is nobody to tell.
        drop(sent);
    }
}

/// What an event says.
#[derive(Debug, Default)]
struct Line {
    message: String,
    /// What else it has, by name.
    fields: Vec<(&'static str, String)>,
}

impl Line {
    /// Returns what people read, who see no fields.
    fn text(&self) -> String {
        let find = |name| self.fields.iter().find(|field| field.0 == name);
        let message = &self.message;
        match (find("device"), find("queue")) {
            (Some((_, device)), Some((_, queue))) => format!("{device}: queue {queue}: {message}"),
            (Some((_, device)), None) => format!("{device}: {message}"),
            (None, _) => message.clone(),
        }
    }

    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name, value)),
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // A string takes all of it.
        let _ = write!(text, "{value:?}");
        self.add(field, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Texts(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Texts {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut line = Line::default();
            event.record(&mut line);
            self.0.lock().unwrap().push(line.text());
        }
    }

    #[test]
    fn a_text_names_what_it_is_about() {
        let texts = Texts::default();
        let subscriber = tracing_subscriber::registry().with(texts.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(device = "d0", "ready");
            tracing::warn!(device = %"d0", queue = 3_usize, cpu = 1, "is {}", "stuck");
            tracing::error!("no more files");
        });
        let texts = texts.0.lock().unwrap();
        assert_eq!(
            *texts,
            ["d0: ready", "d0: queue 3: is stuck", "no more files"]
        );
    }
}
