//! `delay,latency=10ms`: how long requests are held.

use std::time::Duration;

use pollux_dataplane::backend::{Latencies, Latency};

use super::{BackendSpecError, Keys, WrapperError, seed};

const LATENCY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn parse(mut keys: Keys<'_>) -> Result<Latencies, BackendSpecError> {
    let all = latency(&mut keys, "latency")?;
    let read = latency(&mut keys, "read_latency")?.or(all);
    let write = latency(&mut keys, "write_latency")?.or(all);
    let seed = seed(&mut keys)?;
    keys.finish("delay", "latency, read_latency, write_latency, seed")?;
    if read.is_none() && write.is_none() {
        return Err(WrapperError::NoLatency.into());
    }
    let none = Latency::For(Duration::ZERO);
    Ok(Latencies {
        read: read.unwrap_or(none),
        write: write.unwrap_or(none),
        seed,
    })
}

fn latency(keys: &mut Keys<'_>, key: &'static str) -> Result<Option<Latency>, WrapperError> {
    let parse = |value: &str| {
        parse_latency(value).ok_or_else(|| WrapperError::Time {
            key,
            value: value.into(),
        })
    };
    keys.0.remove(key).map(parse).transpose()
}

fn parse_latency(text: &str) -> Option<Latency> {
    if text == "forever" {
        return Some(Latency::Forever);
    }
    if let Some((min, max)) = text.split_once("..") {
        let (min, max) = (parse_time(min)?, parse_time(max)?);
        return (min <= max).then_some(Latency::Uniform { min, max });
    }
    if let Some((mean, deviation)) = text.split_once('~') {
        let (mean, deviation) = (parse_time(mean)?, parse_time(deviation)?);
        return Some(Latency::Normal { mean, deviation });
    }
    parse_time(text).map(Latency::For)
}

/// Returns the time that `text` means, in units as of fio; without one it means nothing.
fn parse_time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().ok()?;
    let time = match &text[digits.len()..] {
        "ns" => Duration::from_nanos(count),
        "us" => Duration::from_micros(count),
        "ms" => Duration::from_millis(count),
        "s" => Duration::from_secs(count),
        _ => return None,
    };
    (time <= LATENCY_MAX).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Latencies {
        parse(Keys::parse(text.split(',')).unwrap()).unwrap()
    }

    #[test]
    fn reads_and_writes_have_latencies_of_their_own() {
        let ms = |ms| Latency::For(Duration::from_millis(ms));
        let both = parsed("latency=2ms");
        assert_eq!((both.read, both.write, both.seed), (ms(2), ms(2), None));
        let hung = parsed("write_latency=forever");
        assert_eq!((hung.read, hung.write), (ms(0), Latency::Forever));
        let apart = parsed("latency=2s,read_latency=500us,seed=9");
        let read = Latency::For(Duration::from_micros(500));
        assert_eq!(
            (apart.read, apart.write, apart.seed),
            (read, ms(2000), Some(9))
        );
    }

    #[test]
    fn latencies_are_distributed() {
        let [us, ms] = [Duration::from_micros, Duration::from_millis];
        let latencies = parsed("read_latency=100us..2ms,write_latency=200us~50us");
        let (min, max) = (us(100), ms(2));
        assert_eq!(latencies.read, Latency::Uniform { min, max });
        let (mean, deviation) = (us(200), us(50));
        assert_eq!(latencies.write, Latency::Normal { mean, deviation });
    }
}
