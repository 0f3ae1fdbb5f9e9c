//! `pollux attach` and `pollux detach`.

use std::process::ExitCode;

use clap::Args;
use pollux_control::api::ClientError;
use pollux_control::daemon::Claim;
use pollux_control::device::remove_leftover;
use pollux_control::vdpa::Driver;
use vduse::Name;

use crate::output::{Runtime, finish, line};

/// Attaches a served device to a driver of the vDPA bus
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux attach d0 --driver virtio")]
pub(crate) struct AttachArgs {
    /// The device
    name: Name,
    /// virtio: a disk /dev/vdX of this host; vhost: /dev/vhost-vdpa-N for a guest
    #[arg(long, default_value = "virtio")]
    driver: Driver,
    #[command(flatten)]
    runtime: Runtime,
}

/// Detaches a device; one whose daemon is gone is destroyed, too
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux detach d0

Unmount the disk and close what uses it first: the driver waits for that.")]
pub(crate) struct DetachArgs {
    /// The device
    name: Name,
    #[command(flatten)]
    runtime: Runtime,
}

pub(crate) fn attach(args: &AttachArgs) -> ExitCode {
    let attached = args
        .runtime
        .client()
        .attach(args.name.as_str(), args.driver);
    finish(attached.map(|attached| match attached.node {
        Some(node) => line(node),
        None => line(format_args!(
            "{}: attached to {}",
            args.name, attached.driver
        )),
    }))
}

pub(crate) fn detach(args: &DetachArgs) -> ExitCode {
    match args.runtime.client().detach(args.name.as_str()) {
        Err(ClientError::Unknown { .. }) if exists(&args.name) => finish(remove(args)),
        other => finish(other),
    }
}

/// Returns whether a device of this name is left in the kernel.
fn exists(name: &Name) -> bool {
    std::path::Path::new("/sys/class/vduse")
        .join(name.as_str())
        .exists()
}

/// Takes down what a killed daemon left behind.
fn remove(args: &DetachArgs) -> Result<(), String> {
    // Not what a daemon that has just started serves.
    let claim = Claim::new(&args.runtime.runtime_dir, &args.name);
    let _claim = claim.map_err(|e| e.to_string())?;
    remove_leftover(&args.name, &args.runtime.runtime_dir).map_err(|e| e.to_string())
}
