//! `error,rate=0.01`: which requests fail, and how.

use std::ops::Range;

use nix::errno::Errno;
use pollux_dataplane::backend::{FailureRule, OperationKinds, Outcome};

use super::super::parse_bytes;
use super::{BackendSpecError, Keys, WrapperError, seed};

pub(super) fn parse(mut keys: Keys<'_>) -> Result<FailureRule, BackendSpecError> {
    let rate = keys.0.remove("rate");
    let op = keys.0.remove("op");
    let range = keys.0.remove("range");
    let kind = keys.0.remove("kind").unwrap_or("io");
    let rule = FailureRule {
        probability: rate.map_or(Ok(1.0), probability)?,
        kinds: op.map_or(Ok(OperationKinds::all()), kinds)?,
        bytes: range.map(bytes).transpose()?,
        outcome: outcome(kind).ok_or_else(|| WrapperError::ErrorKind(kind.into()))?,
        sticky: keys.switch("sticky", false)?,
        seed: seed(&mut keys)?,
    };
    keys.finish("error", "rate, op, range, kind, sticky, seed")?;
    if op.is_some() && rule.bytes.is_some() && rule.kinds.contains(OperationKinds::FLUSH) {
        return Err(WrapperError::FlushRange.into());
    }
    Ok(rule)
}

fn probability(text: &str) -> Result<f64, WrapperError> {
    let number = match text.split_once('/') {
        Some((some, of)) => some
            .parse::<f64>()
            .and_then(|some| Ok(some / of.parse::<f64>()?)),
        None => text.parse(),
    };
    let number = number.ok().filter(|number| *number > 0.0 && *number <= 1.0);
    number.ok_or_else(|| WrapperError::Rate(text.into()))
}

fn kinds(text: &str) -> Result<OperationKinds, WrapperError> {
    let kind = |name: &str| match name {
        "read" => Ok(OperationKinds::READ),
        "write" => Ok(OperationKinds::WRITE),
        "flush" => Ok(OperationKinds::FLUSH),
        "discard" => Ok(OperationKinds::DISCARD),
        "secure_erase" => Ok(OperationKinds::SECURE_ERASE),
        "write_zeroes" => Ok(OperationKinds::WRITE_ZEROES),
        _ => Err(WrapperError::Operation(name.into())),
    };
    text.split('+').map(kind).collect()
}

fn bytes(text: &str) -> Result<Range<u64>, WrapperError> {
    let range = text.split_once("..").and_then(|(start, end)| {
        let (start, end) = (parse_bytes(start)?, parse_bytes(end)?);
        (start < end).then_some(start..end)
    });
    range.ok_or_else(|| WrapperError::Range(text.into()))
}

fn outcome(kind: &str) -> Option<Outcome> {
    let errno = match kind {
        "io" => Errno::EIO,
        "nospace" => Errno::ENOSPC,
        "timeout" => Errno::ETIMEDOUT,
        "unsupported" => return Some(Outcome::Unsupported),
        _ => return None,
    };
    Some(Outcome::Failed {
        errno: errno as i32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> FailureRule {
        parse(Keys::parse(text.split(',').filter(|it| !it.is_empty())).unwrap()).unwrap()
    }

    #[test]
    fn without_options_everything_fails() {
        let rule = parsed("");
        let failed = Outcome::Failed {
            errno: Errno::EIO as i32,
        };
        assert_eq!((rule.probability, rule.outcome), (1.0, failed));
        assert_eq!((rule.kinds, rule.bytes), (OperationKinds::all(), None));
        assert_eq!((rule.sticky, rule.seed), (false, None));
    }

    #[test]
    fn a_rule_is_narrowed_by_each_option() {
        let rule = parsed("rate=1/50,op=read+write_zeroes,range=1M..1028K,sticky=on,seed=3");
        assert_eq!((rule.probability, rule.sticky), (0.02, true));
        let kinds = OperationKinds::READ | OperationKinds::WRITE_ZEROES;
        assert_eq!((rule.kinds, rule.seed), (kinds, Some(3)));
        assert_eq!(rule.bytes, Some(1 << 20..(1 << 20) + 4096));
        assert_eq!(parsed("rate=0.25").probability, 0.25);
        for (kind, errno) in [("io", 5), ("nospace", 28), ("timeout", 110)] {
            let rule = parsed(&format!("kind={kind}"));
            assert_eq!(rule.outcome, Outcome::Failed { errno });
        }
        assert_eq!(parsed("kind=unsupported").outcome, Outcome::Unsupported);
        // A range leaves out flushes without being told to.
        let rule = parsed("range=0..512");
        assert_eq!(rule.kinds, OperationKinds::all());
    }
}
