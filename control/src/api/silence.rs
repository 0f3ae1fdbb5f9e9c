//! Connections of which no whole request is known. While there is no room for another client, the one that has been silent
//! for longest is hung up on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::yield_now;

/// Who has something to say has said it by then, if there is no room for clients that do not.
const SILENCE: Duration = Duration::from_millis(10);

/// All silent connections of a listener, by when they fell silent.
#[derive(Debug, Default)]
pub(super) struct Silent(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// The next key.
    next: u64,
    silent: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

impl Silent {
    fn table(&self) -> MutexGuard<'_, Table> {
        // What it holds is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the connection that has been silent for longest end, if any has been for long enough. Returns after what time
    /// to try again.
    pub(super) fn hang_up_on_one(&self) -> Duration {
        let mut table = self.table();
        let Some(oldest) = table.silent.first_entry() else {
            return SILENCE;
        };
        let (since, _) = oldest.get();
        let left = SILENCE.saturating_sub(since.elapsed());
        if !left.is_zero() {
            return left;
        }
        let (_, told) = oldest.remove();
        told.notify_one();
        SILENCE
    }
}

/// A connection, silent at first.
#[derive(Debug)]
pub(super) struct Connection {
    all: Arc<Silent>,
    told: Arc<Notify>,
    /// Its key while it is silent.
    key: Mutex<Option<u64>>,
}

impl Connection {
    pub(super) fn new(all: Arc<Silent>) -> Self {
        let connection = Self {
            all,
            told: Arc::default(),
            key: Mutex::default(),
        };
        connection.falls_silent();
        connection
    }

    /// It has sent a whole request.
    pub(super) fn has_spoken(&self) {
        if let Some(key) = self.key().take() {
            self.all.table().silent.remove(&key);
        }
    }

    /// It has the answer, or will have it once it reads.
    pub(super) fn falls_silent(&self) {
        self.has_spoken();
        let mut table = self.all.table();
        let key = table.next;
        table.next += 1;
        let since = Instant::now();
        table.silent.insert(key, (since, Arc::clone(&self.told)));
        *self.key() = Some(key);
    }

    /// Returns once it is to end, and has not spoken meanwhile.
    pub(super) async fn is_hung_up_on(&self) {
        loop {
            self.told.notified().await;
            // What it has sent by now is read first.
            yield_now().await;
            if self.key().is_some() {
                return;
            }
        }
    }

    fn key(&self) -> MutexGuard<'_, Option<u64>> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.has_spoken();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_silent_for_longest_is_hung_up_on_first() {
        let all = Arc::new(Silent::default());
        let [first, second, third] = [(); 3].map(|()| Connection::new(Arc::clone(&all)));
        assert!(all.hang_up_on_one() <= SILENCE);
        assert_eq!(all.table().silent.len(), 3, "none has had its time");
        std::thread::sleep(SILENCE);
        first.has_spoken();
        first.falls_silent();
        drop(second);
        all.hang_up_on_one();
        all.hang_up_on_one();
        let left: Vec<u64> = all.table().silent.keys().copied().collect();
        assert_eq!(left, [first.key().unwrap()]);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(third.is_hung_up_on());
    }

    #[test]
    fn one_that_has_just_spoken_is_not_hung_up_on() {
        let all = Arc::new(Silent::default());
        let connection = Connection::new(Arc::clone(&all));
        std::thread::sleep(SILENCE);
        all.hang_up_on_one();
        connection.has_spoken();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let hung_up = async { tokio::time::timeout(SILENCE, connection.is_hung_up_on()).await };
        let runtime = runtime.enable_time().build().unwrap();
        assert!(runtime.block_on(hung_up).is_err());
    }
}
