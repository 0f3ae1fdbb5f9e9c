//! `pollux pause` and `pollux resume`.

use std::process::ExitCode;

use clap::Args;

use crate::output::{Runtime, finish};

/// Has a device stand still with nothing in flight, for example while its storage is copied
///
/// Its driver waits. A driver that lets go of the device ends the pause, as a frontend of vhost-user does that disconnects, and so
/// does another daemon that takes it over.
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux pause d0")]
pub(crate) struct PauseArgs {
    /// The device
    name: String,
    #[command(flatten)]
    runtime: Runtime,
}

/// Has a device go on that was paused
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux resume d0")]
pub(crate) struct ResumeArgs {
    /// The device
    name: String,
    #[command(flatten)]
    runtime: Runtime,
}

pub(crate) fn pause(args: &PauseArgs) -> ExitCode {
    finish(args.runtime.client().pause(&args.name))
}

pub(crate) fn resume(args: &ResumeArgs) -> ExitCode {
    finish(args.runtime.client().resume(&args.name))
}
