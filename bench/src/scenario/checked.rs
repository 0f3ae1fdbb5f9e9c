//! Values that are checked as they are read, so that a mistake is shown where it was written.

use std::fmt::Display;
use std::ops::RangeInclusive;

use pollux_dataplane::limits::{QUEUE_SIZE_MAX, QUEUE_SIZE_MIN};
use serde::de::{Deserialize, Deserializer, Error};

use crate::size;

/// Refuses `value` outside of `bounds`.
fn within<T: PartialOrd + Display, E: Error>(
    what: &str,
    value: T,
    bounds: RangeInclusive<T>,
) -> Result<T, E> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    let (least, most) = bounds.into_inner();
    Err(E::custom(format!(
        "{what} {value} is out of bounds; use {least} to {most}"
    )))
}

pub(super) fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Ok(text);
    }
    Err(D::Error::custom(format!(
        "name '{text}' is none; use letters, digits, - and _"
    )))
}

pub(super) fn queues<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    within("queues", u16::deserialize(from)?, 1..=1)
}

pub(super) fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    within("rwmixread", u32::deserialize(from)?, 0..=100)
}

pub(super) fn runtime_ms<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    within("runtime_ms", u32::deserialize(from)?, 1..=3_600_000)
}

pub(super) fn rounds<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    within("rounds", u32::deserialize(from)?, 1..=1000)
}

pub(super) fn queue_size<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    let size = within(
        "size",
        u16::deserialize(from)?,
        QUEUE_SIZE_MIN..=QUEUE_SIZE_MAX,
    )?;
    if size.is_power_of_two() {
        return Ok(size);
    }
    Err(D::Error::custom(format!(
        "size {size} is no power of two; use {}",
        size.next_power_of_two()
    )))
}

pub(super) fn bs<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let bytes = size::bytes(&text)
        .map_err(|reason| D::Error::custom(format!("bs {text}: {reason}; use for example 4k")))?;
    if bytes.is_multiple_of(512) && (512..=1 << 20).contains(&bytes) {
        return Ok(text);
    }
    Err(D::Error::custom(format!(
        "bs {text} is no multiple of 512 up to 1M; use for example 4k"
    )))
}

pub(super) fn iodepths<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
    let iodepths = Vec::<u32>::deserialize(from)?;
    let each = iodepths.into_iter();
    each.map(|it| within("iodepth", it, 1..=super::IODEPTH_MAX))
        .collect()
}

pub(super) fn rates<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    let rates = Vec::<f64>::deserialize(from)?;
    let each = rates.into_iter();
    each.map(|it| within("rate", it, 0.1..=0.95)).collect()
}
