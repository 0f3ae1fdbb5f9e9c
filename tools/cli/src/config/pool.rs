//! `[[pool]]`: threads that devices share, and which of them a device is on.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::LazyLock;

use clap::{FromArgMatches, Parser};
use pollux_control::device::{PoolOptions, parse_cpu_list};
use pollux_toml::{Mistake, nearest};
use toml::Table;

use super::keys::{Keys, WrongKey};
use super::{Source, words};
use crate::serve::PollArgs;

/// A pool's keys as a command line of their own.
#[derive(Debug, Parser)]
pub(super) struct PoolLine {
    /// Name of the pool
    #[arg(long)]
    name: Option<String>,
    /// CPUs of its threads, one each
    #[arg(long)]
    cpus: Option<String>,
    #[command(flatten)]
    poll: PollArgs,
}

static POOL: LazyLock<Keys> = LazyLock::new(Keys::of::<PoolLine>);

/// Returns pool `index`, and its keys with every default.
pub(super) fn one(
    index: usize,
    table: &Table,
    source: Source,
) -> Result<(BTreeMap<String, String>, PoolOptions), Mistake> {
    let place = |key: Option<&str>| match key {
        None => format!("pool.{index}"),
        Some(key) => format!("pool.{index}.{key}"),
    };
    let wrong = |WrongKey { key, reason }| source.wrong(&place(key.as_deref()), reason);
    let words = words(table, &POOL).map_err(wrong)?;
    let matches = POOL.matches(&words).map_err(wrong)?;
    let line = PoolLine::from_arg_matches(&matches);
    let line = line.map_err(|error| source.wrong(&place(None), error))?;
    let missing =
        |key: &str, remedy: &str| source.wrong(&place(None), format!("no {key}: {remedy}"));
    let name = line.name.filter(|name| !name.is_empty());
    let cpus = line.cpus.ok_or_else(|| {
        missing(
            "cpus",
            "a pool has a thread on each CPU that is named, for example cpus = \"2-3\"",
        )
    })?;
    let at_cpus = |error: &dyn Display| source.wrong(&place(Some("cpus")), error);
    let options = PoolOptions {
        name: name.ok_or_else(|| missing("name", "devices name the pool that they are in"))?,
        cpus: parse_cpu_list(&cpus).map_err(|e| at_cpus(&e))?,
        mode: line.poll.mode(),
    };
    options.check().map_err(|e| at_cpus(&e))?;
    Ok((POOL.values(&matches, |_| true), options))
}

/// Says what is wrong with the name of a pool that is not one of `pools`.
pub(super) fn check(name: &str, pools: &[PoolOptions]) -> Result<(), String> {
    let mut names = pools.iter().map(|pool| pool.name.as_str());
    if names.clone().any(|known| known == name) {
        return Ok(());
    }
    Err(match nearest(name, &mut names) {
        Some(near) => format!("no pool '{name}'; did you mean '{near}'?"),
        None => format!("no pool '{name}': describe it below [[pool]]"),
    })
}
