//! The limit, on a clock that is turned by hand.

use super::*;

use tracing::subscriber::{DefaultGuard, set_default};
use tracing_subscriber::layer::SubscriberExt;

/// What was written, as `device: text`.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Written {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let line = format!("{}: {}", text(event, "device"), text(event, "message"));
        self.0.lock().unwrap().push(line);
    }
}

impl Written {
    /// Returns what was written since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

struct Log {
    written: Written,
    lines: Arc<Mutex<Lines>>,
    time: Arc<Mutex<Instant>>,
    _guard: DefaultGuard,
}

impl Log {
    /// Limits what this thread logs. Nothing is told unless the test does it.
    fn limited() -> Self {
        let time = Arc::new(Mutex::new(Instant::now()));
        let lines = Arc::new(Mutex::new(Lines {
            is_told: true,
            ..Lines::default()
        }));
        let clock = Arc::clone(&time);
        let limit = Limit {
            lines: Arc::clone(&lines),
            now: Box::new(move || *clock.lock().unwrap()),
        };
        let written = Written::default();
        let subscriber = tracing_subscriber::registry()
            .with(limit)
            .with(written.clone());
        Self {
            written,
            lines,
            time,
            _guard: set_default(subscriber),
        }
    }

    fn pass(&self, time: Duration) {
        *self.time.lock().unwrap() += time;
    }

    fn tell(&self) -> Vec<String> {
        let any = tell_left_out(&self.lines);
        let told = self.written.take();
        assert_eq!(any, !told.is_empty());
        told
    }
}

fn reset(device: &str) {
    warn!(device, "reset");
}

#[test]
fn a_burst_passes_then_one_a_second_and_the_rest_is_counted() {
    let log = Log::limited();
    for _ in 0..1000 {
        reset("d0");
    }
    assert_eq!(log.written.take(), ["d0: reset"; 10]);
    assert_eq!(log.tell(), ["d0: 990 more of these were left out: reset"]);
    assert_eq!(log.tell(), [""; 0]);
    for _ in 0..100 {
        log.pass(Duration::from_millis(100));
        reset("d0");
    }
    assert_eq!(log.written.take(), ["d0: reset"; 10]);
    assert_eq!(log.tell(), ["d0: 90 more of these were left out: reset"]);
}

#[test]
fn the_end_tells_what_was_not_told() {
    let log = Log::limited();
    for _ in 0..11 {
        reset("d0");
    }
    log.written.take();
    drop(TellsAtEnd(Arc::clone(&log.lines)));
    let told = ["d0: 1 more of these were left out: reset"];
    assert_eq!(log.written.take(), told);
}

#[test]
fn a_rest_gives_a_whole_burst_and_no_more() {
    let log = Log::limited();
    for (rest_s, passed) in [(0, 10), (3, 3), (10, 10), (3600, 10)] {
        log.pass(Duration::from_secs(rest_s));
        for _ in 0..20 {
            reset("d0");
        }
        assert_eq!(log.written.take().len(), passed, "after {rest_s} s");
    }
}

#[test]
fn neither_another_device_nor_another_line_is_lost() {
    let log = Log::limited();
    for _ in 0..100 {
        reset("d0");
    }
    log.written.take();
    reset("d1");
    error!(device = %"d0", queue = 3, "broken");
    error!("of no device");
    let others = ["d1: reset", "d0: broken", ": of no device"];
    assert_eq!(log.written.take(), others);
    assert_eq!(log.tell(), ["d0: 90 more of these were left out: reset"]);
}

#[test]
fn what_varies_in_a_line_does_not_make_it_another() {
    let log = Log::limited();
    for number in 0..100 {
        info!(device = "d0", queue = number, "request {number}");
    }
    assert_eq!(log.written.take().len(), 10);
    let told = ["d0: 90 more of these were left out: request 10"];
    assert_eq!(log.tell(), told);
}

#[test]
fn every_message_for_debugging_passes() {
    let log = Log::limited();
    for _ in 0..100 {
        tracing::debug!(device = "d0", "message");
    }
    assert_eq!(log.written.take().len(), 100);
}

#[test]
fn devices_that_come_and_go_take_no_memory_for_ever() {
    let log = Log::limited();
    for number in 0..10_000 {
        reset(&number.to_string());
        log.pass(Duration::from_secs(1));
    }
    assert_eq!(log.written.take().len(), 10_000);
    let kept = lock(&log.lines).of.len();
    assert!(kept < 100, "{kept} kinds are kept");
}
