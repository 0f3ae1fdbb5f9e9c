//! What stands before a backend and changes how it behaves: `delay,latency=10ms:ram,size=1G`.

use std::time::Duration;

use pollux_dataplane::backend::{Delay, Latencies, Latency};

use super::{BackendSpecError, Disk, Keys};

const LATENCY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A wrapper that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrapper {
    Delay(Latencies),
}

impl Wrapper {
    /// Returns the wrappers that `text` begins with, in this order, and what they wrap.
    pub(super) fn parse_all(mut text: &str) -> Result<(Vec<Self>, &str), BackendSpecError> {
        let mut wrappers = Vec::new();
        // Only a wrapper has a colon after its options; a backend's may be part of a path.
        while text.split([',', ':']).next() == Some("delay") {
            let (wrapper, wrapped) = text
                .split_once(':')
                .ok_or(BackendSpecError::NothingWrapped("delay"))?;
            wrappers.push(Self::parse_delay(wrapper)?);
            text = wrapped;
        }
        Ok((wrappers, text))
    }

    fn parse_delay(text: &str) -> Result<Self, BackendSpecError> {
        let mut keys = Keys::parse(text.split(',').skip(1))?;
        let all = latency(&mut keys, "latency")?;
        let read = latency(&mut keys, "read_latency")?.or(all);
        let write = latency(&mut keys, "write_latency")?.or(all);
        keys.finish("delay", "latency, read_latency, write_latency")?;
        if read.is_none() && write.is_none() {
            return Err(BackendSpecError::NoLatency);
        }
        let none = Latency::For(Duration::ZERO);
        Ok(Self::Delay(Latencies {
            read: read.unwrap_or(none),
            write: write.unwrap_or(none),
        }))
    }

    /// Returns `disk`, wrapped.
    pub(super) fn around(&self, disk: Disk) -> Disk {
        match self {
            Self::Delay(latencies) => Disk::Delay(Box::new(Delay::new(disk, *latencies))),
        }
    }
}

fn latency(keys: &mut Keys<'_>, key: &'static str) -> Result<Option<Latency>, BackendSpecError> {
    let Some(value) = keys.0.remove(key) else {
        return Ok(None);
    };
    if value == "forever" {
        return Ok(Some(Latency::Forever));
    }
    let time = parse_time(value).filter(|time| *time <= LATENCY_MAX);
    let time = time.ok_or_else(|| BackendSpecError::Time {
        key,
        value: value.into(),
    });
    time.map(|time| Some(Latency::For(time)))
}

/// Returns the time that `text` means, in units as of fio; without one it means nothing.
fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "ns" => Some(Duration::from_nanos(count)),
        "us" => Some(Duration::from_micros(count)),
        "ms" => Some(Duration::from_millis(count)),
        "s" => Some(Duration::from_secs(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Latencies {
        let (wrappers, wrapped) = Wrapper::parse_all(text).unwrap();
        assert_eq!(wrapped, "null");
        let Wrapper::Delay(latencies) = wrappers[0];
        latencies
    }

    #[test]
    fn reads_and_writes_have_latencies_of_their_own() {
        let ms = |ms| Latency::For(Duration::from_millis(ms));
        let both = parsed("delay,latency=2ms:null");
        assert_eq!((both.read, both.write), (ms(2), ms(2)));
        let hung = parsed("delay,write_latency=forever:null");
        assert_eq!((hung.read, hung.write), (ms(0), Latency::Forever));
        let apart = parsed("delay,latency=2s,read_latency=500us:null");
        let read = Latency::For(Duration::from_micros(500));
        assert_eq!((apart.read, apart.write), (read, ms(2000)));
    }
}
