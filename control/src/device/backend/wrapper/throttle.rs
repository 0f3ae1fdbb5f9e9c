//! `throttle,iops=1000`: what a disk may do in a second.

use pollux_dataplane::backend::{Rate, RateLimits};

use super::{BackendSpecError, Keys, WrapperError};

pub(super) fn parse(mut keys: Keys<'_>) -> Result<RateLimits, BackendSpecError> {
    let iops = count(&mut keys, "iops")?;
    let iops_burst = count(&mut keys, "iops_burst")?;
    let bps = bytes(&mut keys, "bps")?;
    let bps_burst = bytes(&mut keys, "bps_burst")?;
    keys.finish("throttle", "iops, iops_burst, bps, bps_burst")?;
    let limits = RateLimits {
        iops: rate(iops, iops_burst, ("iops_burst", "iops"))?,
        bps: rate(bps, bps_burst, ("bps_burst", "bps"))?,
    };
    if limits == RateLimits::default() {
        return Err(WrapperError::NoLimit.into());
    }
    Ok(limits)
}

fn rate(
    per_second: Option<u64>,
    burst: Option<u64>,
    (burst_key, limit): (&'static str, &'static str),
) -> Result<Option<Rate>, WrapperError> {
    let Some(per_second) = per_second else {
        return match burst {
            None => Ok(None),
            Some(_) => Err(WrapperError::BurstAlone {
                burst: burst_key,
                limit,
            }),
        };
    };
    let mut rate = Rate::new(per_second);
    rate.burst = burst.unwrap_or(rate.burst);
    Ok(Some(rate))
}

fn count(keys: &mut Keys<'_>, key: &'static str) -> Result<Option<u64>, WrapperError> {
    let parse = |value: &str| match value.parse() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(not_a_count(key, value)),
    };
    keys.0.remove(key).map(parse).transpose()
}

fn bytes(keys: &mut Keys<'_>, key: &'static str) -> Result<Option<u64>, BackendSpecError> {
    match keys.bytes(key)? {
        Some(0) => Err(not_a_count(key, "0").into()),
        bytes => Ok(bytes),
    }
}

fn not_a_count(key: &'static str, value: &str) -> WrapperError {
    WrapperError::Count {
        key,
        value: value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> RateLimits {
        parse(Keys::parse(text.split(',')).unwrap()).unwrap()
    }

    #[test]
    fn each_limit_has_a_burst() {
        let rate = |per_second, burst| Some(Rate { per_second, burst });
        let limits = parsed("iops=5");
        assert_eq!((limits.iops, limits.bps), (rate(5, 1), None));
        let limits = parsed("iops=1000,bps=1M,bps_burst=4M");
        assert_eq!(limits.iops, rate(1000, 100));
        assert_eq!(limits.bps, rate(1 << 20, 4 << 20));
    }
}
