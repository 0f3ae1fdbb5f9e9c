//! What stands before a backend and changes how it behaves: `delay,latency=10ms:ram,size=1G`.

use pollux_dataplane::backend::{Delay, Failing, FailureRule, Latencies, RateLimits, Throttle};

use super::{BackendSpecError, Disk, Keys};

mod delay;
mod error;
mod throttle;

/// A wrapper that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wrapper {
    Delay(Latencies),
    Error(FailureRule),
    Throttle(RateLimits),
}

/// Its only floating-point number is a probability, never NaN.
impl Eq for Wrapper {}

/// What is wrong with how a wrapper was written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrapperError {
    /// Nothing to wrap.
    #[error("{wrapper} wraps a backend: add one, for example {example}:ram,size=1G")]
    NothingWrapped {
        /// The wrapper.
        wrapper: &'static str,
        /// How one is written.
        example: &'static str,
    },
    /// Not a length of time, nor a distribution of it.
    #[error(
        "{key}={value} is not a time of at most a day: write for example 100us, 10ms or 2s, 100us..300us (any between), \
         200us~50us (normal, mean and standard deviation), or forever"
    )]
    Time {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
    },
    /// Delay would do nothing.
    #[error("delay has no latency: add for example latency=10ms")]
    NoLatency,
    /// Throttle would do nothing.
    #[error("throttle has no limit: add for example iops=1000 or bps=100M")]
    NoLimit,
    /// Nothing would ever pass.
    #[error("{key}={value} is not a number from 1 up: write for example {key}=1000")]
    Count {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
    },
    /// A burst of what is not limited.
    #[error("{burst} is part of a limit: add {limit}=, or leave it out")]
    BurstAlone {
        /// The key of the burst.
        burst: &'static str,
        /// That of the limit.
        limit: &'static str,
    },
    /// Not a probability.
    #[error("rate={0} is not a probability above 0 and up to 1: write for example 0.01 or 1/100")]
    Rate(String),
    /// Not a kind of error.
    #[error("kind={0} is no error: use io, nospace, timeout or unsupported")]
    ErrorKind(String),
    /// Not an operation.
    #[error(
        "op={0} is no operation: use read, write, flush, discard, write_zeroes or secure_erase, several as read+write"
    )]
    Operation(String),
    /// Not a range.
    #[error("range={0} is not where bytes are: write START..END, for example 1M..2M")]
    Range(String),
    /// A flush is nowhere.
    #[error("a flush has no range: leave out range= or the op=flush")]
    FlushRange,
    /// Not a seed.
    #[error("seed={0} is not a number up to 2^64: write for example seed=1")]
    Seed(String),
}

/// Name of each, and how one is written.
const EXAMPLES: [(&str, &str); 3] = [
    ("delay", "delay,latency=100us"),
    ("error", "error,rate=0.01"),
    ("throttle", "throttle,iops=1000"),
];

impl Wrapper {
    /// Returns the wrappers that `text` begins with, in this order, and what they wrap.
    pub(super) fn parse_all(mut text: &str) -> Result<(Vec<Self>, &str), BackendSpecError> {
        let mut wrappers = Vec::new();
        // Only a wrapper has a colon after its options; a backend's may be part of a path.
        while let Some((wrapper, example)) = named(text) {
            let (options, wrapped) = text
                .split_once(':')
                .ok_or(WrapperError::NothingWrapped { wrapper, example })?;
            let keys = Keys::parse(options.split(',').skip(1))?;
            wrappers.push(match wrapper {
                "delay" => Self::Delay(delay::parse(keys)?),
                "error" => Self::Error(error::parse(keys)?),
                _ => Self::Throttle(throttle::parse(keys)?),
            });
            text = wrapped;
        }
        Ok((wrappers, text))
    }

    /// Returns `disk`, wrapped.
    pub(super) fn around(&self, disk: Disk) -> Disk {
        match self {
            Self::Delay(latencies) => Disk::Delay(Box::new(Delay::new(disk, *latencies))),
            Self::Error(rule) => Disk::Failing(Box::new(Failing::new(disk, rule.clone()))),
            Self::Throttle(limits) => Disk::Throttle(Box::new(Throttle::new(disk, *limits))),
        }
    }
}

/// Returns which wrapper `text` begins with, and how one is written.
fn named(text: &str) -> Option<(&'static str, &'static str)> {
    let name = text.split([',', ':']).next()?;
    EXAMPLES.into_iter().find(|(known, _)| *known == name)
}

fn seed(keys: &mut Keys<'_>) -> Result<Option<u64>, WrapperError> {
    let seed = keys.0.remove("seed");
    let parse = |value: &str| {
        let number = value.parse();
        number.map_err(|_| WrapperError::Seed(value.into()))
    };
    seed.map(parse).transpose()
}
