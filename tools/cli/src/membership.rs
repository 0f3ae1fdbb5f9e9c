//! `pollux add` and `pollux remove`.

use std::process::ExitCode;

use clap::{ArgMatches, Args, Command, FromArgMatches};
use pollux_control::api::{DeviceBody, DeviceValue};
use vduse::Name;

use crate::config::keys;
use crate::output::{Runtime, finish, json, line};
use crate::serve::DeviceArgs;

/// Has a running daemon serve one device more
#[derive(Debug, Args)]
#[command(
    after_help = "Example: pollux add d1 --backend ram,size=1G --attach virtio

The daemon is one that was started with --config, as the service is. Options and backends are those of pollux serve; the
[defaults] of the configuration do not count, and files and sockets are looked for where the daemon runs.
The configuration stays as it is. What is not in it goes with the daemon, or with the next pollux reload: write the device
into the file, too, and reload, for it to stay."
)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    device: DeviceKeys,
    /// The daemon's process, where several could
    #[arg(long)]
    pid: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// Has the daemon that serves a device detach and destroy it
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux remove d1

Unmount the disk and close what uses it first: what is mounted goes away under its file system.
What is in flight is finished. The configuration stays as it is: the next pollux reload serves the device again, if it is there.")]
pub(crate) struct RemoveArgs {
    /// The device
    name: Name,
    #[command(flatten)]
    runtime: Runtime,
}

/// The options of a device, checked as `pollux serve` does, and passed on as they were written.
#[derive(Debug)]
struct DeviceKeys(DeviceBody);

impl FromArgMatches for DeviceKeys {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = keys::given(matches);
        // Both are required.
        let mut take = |key| given.remove(key).unwrap_or_default();
        let (name, backend) = (take("name"), take("backend"));
        let others = given.into_iter();
        let others = others.map(|(key, word)| (key, DeviceValue::Text(word)));
        Ok(Self(DeviceBody {
            name,
            backend,
            others: others.collect(),
        }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for DeviceKeys {
    fn augment_args(command: Command) -> Command {
        DeviceArgs::augment_args(command)
            .mut_arg("name", |name| name.long(None).required(true))
            .mut_arg("backend", |backend| backend.required(true))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Adds it. Returns 0, or 1 where there is no such daemon or it cannot serve the device.
pub(crate) fn add(args: &AddArgs) -> ExitCode {
    let DeviceKeys(device) = &args.device;
    match args.runtime.client().add(device, args.pid) {
        Ok(added) if args.json => finish(json(&added)),
        Ok(added) => {
            match added.node {
                Some(node) => line(node),
                None => line(format_args!("{}: served", added.name)),
            }
            ExitCode::SUCCESS
        }
        Err(error) => finish(Err(error)),
    }
}

/// Removes it. Returns 0, or 1 where nobody serves it or something of it stays behind.
pub(crate) fn remove(args: &RemoveArgs) -> ExitCode {
    let removed = args.runtime.client().remove(args.name.as_str());
    finish(removed.map(|()| line(format_args!("{}: removed", args.name))))
}
