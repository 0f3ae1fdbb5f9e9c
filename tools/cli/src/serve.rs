//! `pollux serve`: the daemon, in the foreground.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use pollux_control::api::{ApiOptions, ReadDevice, Token};
use pollux_control::daemon::{DaemonError, Event, Plan, Reload, ServeRequest, serve};
use pollux_control::sandbox::Sandbox;
use pollux_dataplane::backend::{DiskError, FileError};

use crate::config::{self, described, keys};
use crate::log;
use crate::output::{Runtime, finish, line};

mod device;

pub(crate) use device::{DeviceArgs, PollArgs};

const EXAMPLE: &str =
    "Example: pollux serve --name d0 --backend null,size=8G --queues 2 --cpus 2,3 \
--poll busy --attach virtio

Backends:
  null,size=8G[,fill=off]       forgets writes, reads zeros (fill=off: leaves the buffer as it is)
  ram,size=1G[,hugepages=on]    keeps data in memory; prealloc=on: all of it taken at the start
  ram,size=1G,path=FILE         keeps data in the memory of a file, which outlives the daemon
  file,path=FILE[,size=1G]      a file, past the page cache (direct=off: through it);
                                size= makes one that is not there
  block,path=/dev/sdb           a block device
  nvme,path=/dev/ng0n1          an NVMe namespace, its commands passed through; /dev/nvme0n1:
                                through the block layer; polled, which needs
                                nvme.poll_queues=2 (iopoll=off: not)
  nvme-vfio,pci=0000:00:10.0    a namespace (nsid=2) of a controller that vfio-pci has, driven
                                without the kernel; force_unbind=on takes it from the kernel's
                                driver until the end
  file, block and nvme take sqpoll=on and sqpoll_cpu=N: a thread of the kernel submits
Options of all: ro=on, serial=TEXT and, but for nvme-vfio, block_size=512..4096. K, M, G and T
are powers of 1024.
With --vhost-user the disk is on a socket for QEMU's vhost-user-blk-pci, which needs no VDUSE.
Before any of them, and before each other, to try what slow, failing and limited storage does:
  delay,latency=TIME:BACKEND    holds each request before the backend gets it: 10ms, 100us..300us
                                (any between), 200us~50us (normal, mean and standard deviation)
                                or forever; ns, us, ms and s (read_latency=, write_latency=:
                                reads, or all the rest, alone)
  error,rate=0.01:BACKEND       fails requests in place of the backend, each with this probability
                                (or 1/100); without rate= each; sticky=on: all from the first on
    op=read+write               only these of read, write, flush, discard, write_zeroes,
                              secure_erase
    range=1M..2M                only those that touch these bytes; a flush has none
    kind=io                     or nospace, timeout, unsupported; drivers tell only the last apart
  throttle,iops=1000:BACKEND    passes on so many requests a second, of all queues together, and
                                bps=100M bytes read and written; iops_burst=, bps_burst= at once
                                after a rest [a tenth of a second's]
Random numbers of delay and error come again with the same seed=N.

Ctrl-C or SIGTERM detaches, drains and destroys the device. After a daemon that was killed, the
same command takes its device over, with the requests that were in flight; with --takeover from
one that runs, which then ends. SIGUSR1 ends the daemon and leaves its device, whose driver waits
for the same command. RUST_LOG=debug shows every message.";

/// Serves a disk until Ctrl-C or SIGTERM
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    device: DeviceArgs,
    /// Serve what this file names, TOML: many devices, read anew at SIGHUP and by `pollux reload`; see `pollux config`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["DeviceArgs", "PollArgs"])]
    config: Option<PathBuf>,
    /// Say whether the configuration is sound, and serve nothing
    #[arg(long, requires = "config")]
    check: bool,
    /// Take the device over from the daemon that serves it, while its driver goes on
    #[arg(long, conflicts_with = "vhost_user")]
    takeover: bool,
    /// Give up what serving does not take, of capabilities, files and system calls: on (a call that nobody expects ends the
    /// daemon with SIGSYS), log (the kernel logs it instead) or off
    #[arg(long, value_enum, default_value_t = SandboxWord::On, value_name = "WHICH")]
    sandbox: SandboxWord,
    /// Become this user, or that of this number; the capabilities that serving takes are kept
    #[arg(long)]
    user: Option<String>,
    /// Offer the control API over TCP, too, to who knows the token: port 0 takes one that is free
    #[arg(long, value_name = "ADDRESS:PORT", requires = "token_file")]
    listen: Option<SocketAddr>,
    /// File with that token, one word of at least 16 characters that other users cannot read: openssl rand -hex 32
    #[arg(long, value_name = "FILE", requires = "listen")]
    token_file: Option<PathBuf>,
    /// Print one line of JSON for each event
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SandboxWord {
    On,
    Log,
    Off,
}

/// Runs the daemon. Returns 0 when it was told to end and left nothing behind, 2 for bad arguments.
pub(crate) fn main(args: ServeArgs) -> ExitCode {
    let (log, _tells_at_end) = log::start();
    let ServeArgs {
        device,
        config,
        check,
        takeover,
        sandbox,
        user,
        listen,
        token_file,
        json,
        runtime,
    } = args;
    let token = token_file.as_deref().map(Token::read).transpose();
    let listen = match token {
        // Each needs the other.
        Ok(token) => listen.zip(token),
        Err(reason) => {
            eprintln!("pollux: {reason}");
            return ExitCode::from(2);
        }
    };
    let plan = match &config {
        Some(path) => config::plan(path).map_err(|e| e.to_string()),
        None => one(device),
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(reason) => {
            eprintln!("pollux: {reason}");
            return ExitCode::from(2);
        }
    };
    if check {
        let count = plan.devices.len();
        line(format_args!(
            "sound: {count} device{}",
            if count == 1 { "" } else { "s" }
        ));
        return ExitCode::SUCCESS;
    }
    let request = ServeRequest {
        plan,
        runtime_dir: runtime.runtime_dir,
        takeover,
        sandbox: match sandbox {
            SandboxWord::On => Sandbox::On,
            SandboxWord::Log => Sandbox::Log,
            SandboxWord::Off => Sandbox::Off,
        },
        user,
        api: ApiOptions {
            listen,
            log,
            device_keys: described::device().into(),
            read_device: config.as_ref().map(|_| keys::read_device as ReadDevice),
        },
        reload: config.map(|path| Reload {
            file: path.clone(),
            read: Box::new(move || config::plan(&path).map_err(|e| e.to_string())),
        }),
    };
    let watch = |event: &Event| match json {
        true => line(serde_json::to_string(event).unwrap_or_default()),
        false => line(describe(event)),
    };
    match serve(request, watch) {
        Err(DaemonError::Serve(error)) if is_about_options(&error) => {
            eprintln!("pollux: {error}");
            ExitCode::from(2)
        }
        other => finish(other),
    }
}

/// Returns the device that the command line describes.
fn one(device: DeviceArgs) -> Result<Plan, String> {
    let required = [
        ("--name <NAME>", device.name.is_none()),
        ("--backend <BACKEND>", device.backend.is_none()),
    ];
    let missing = required.into_iter().filter(|(_, is_missing)| *is_missing);
    let missing: Vec<&str> = missing.map(|(argument, _)| argument).collect();
    if !missing.is_empty() {
        return Err(format!(
            "the following required arguments were not provided: {}; see --help",
            missing.join(" ")
        ));
    }
    let wanted = device.wanted(BTreeMap::new());
    let wanted = wanted.map_err(|(_, reason)| reason)?;
    if let Some(pool) = &wanted.options.pool {
        return Err(format!(
            "pool {pool}: pools are described in a configuration; name it with --config"
        ));
    }
    Ok(Plan {
        devices: vec![wanted],
        ..Plan::default()
    })
}

fn is_about_options(error: &pollux_control::device::ServeError) -> bool {
    use pollux_control::device::ServeError;
    match error {
        ServeError::Options(_) => true,
        ServeError::Disk { reason, .. } => {
            !matches!(reason, DiskError::Storage(FileError::InUse { .. }))
        }
        _ => false,
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::Serving { name } => format!("{name}: served"),
        Event::Failed { name, reason } => format!("{name}: failed: {reason}"),
        Event::TakenOver {
            name,
            from: Some(pid),
            pause_us,
        } => {
            let pause_ms = pause_us.unwrap_or_default() as f64 / 1e3;
            format!("{name}: taken over from process {pid}, its driver waited for {pause_ms:.1} ms")
        }
        Event::TakenOver { name, .. } => {
            format!("{name}: taken over from a daemon that is gone")
        }
        Event::HandedOver { name } => format!("{name}: handed over to another daemon"),
        Event::Left { name } => format!("{name}: left to the next daemon"),
        Event::Attached { name, driver, node } => match node {
            Some(node) => format!("{name}: attached to {driver} as {}", node.display()),
            None => format!("{name}: attached to {driver}"),
        },
        Event::Waiting { name, reason } => format!("{name}: waiting for {reason}"),
        Event::Detached { name } => format!("{name}: detached"),
        Event::Stopped { name } => format!("{name}: stopped"),
    }
}
