//! `pollux serve`: the daemon, in the foreground.

use std::io::IsTerminal;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pollux_control::daemon::{DaemonError, Event, ServeRequest, serve};
use pollux_control::device::{
    BackendSpec, DeviceOptions, InterruptCpus, UmemKind, parse_cpu_list, parse_ring_features,
    parse_size,
};
use pollux_control::sandbox::Sandbox;
use pollux_control::vdpa::Driver;
use pollux_dataplane::backend::{DiskError, FileError};
use pollux_dataplane::limits::MSG_TIMEOUT_S;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::PollMode;
use tracing_subscriber::EnvFilter;
use vduse::Name;

use crate::output::{Runtime, finish, line};

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
    /// Name of the device, in VDUSE and on the vDPA bus
    #[arg(long)]
    name: Name,
    /// Storage: kind,key=value,...
    #[arg(long)]
    backend: BackendSpec,
    /// Virtqueues, each with a thread of its own
    #[arg(long, default_value_t = 1)]
    queues: u16,
    /// Entries of a virtqueue, a power of two
    #[arg(long, default_value_t = 1024)]
    queue_size: u16,
    /// Features of virtqueues to offer: indirect_desc, event_idx, ring_packed, in_order, or none
    #[arg(long, default_value = "event_idx", value_parser = parse_ring_features, value_name = "LIST")]
    features: RingFeatures,
    /// CPUs of the threads, one a queue, such as 2,3 or 2-3 [default: the last ones]
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// How threads wait for requests
    #[arg(long, value_enum, default_value_t = Poll::Adaptive)]
    poll: Poll,
    /// Time that an adaptive thread polls after the last request before it sleeps
    #[arg(long, default_value_t = 50, value_name = "MICROSECONDS")]
    poll_us: u64,
    /// Time that an interrupt may be held while more completions are on their way; 0 for not at all
    #[arg(long, default_value_t = 500, value_name = "MICROSECONDS")]
    irq_hold_us: u64,
    /// CPUs that handle the driver's interrupts: worker (that of the queue's thread), driver (its own
    /// choice), others (its choice without those of --cpus), auto (worker while it keeps many requests
    /// outstanding, else others), or a list
    #[arg(long, default_value = "auto", value_name = "WHICH")]
    irq_cpus: InterruptCpus,
    /// Time one request in about this many for the latency histogram
    #[arg(long, default_value = "1", value_name = "N")]
    latency_sample: NonZeroU32,
    /// Take the device over from the daemon that serves it, while its driver goes on
    #[arg(long)]
    takeover: bool,
    /// Attach to this driver of the vDPA bus: virtio (a disk /dev/vdX here) or vhost (a guest)
    #[arg(long)]
    attach: Option<Driver>,
    /// Serve frontends of the vhost-user protocol, such as QEMU, at this socket, instead of a device of VDUSE
    #[arg(long, value_name = "PATH",
        conflicts_with_all = ["attach", "takeover", "umem", "bounce_size", "msg_timeout", "irq_cpus"])]
    vhost_user: Option<PathBuf>,
    /// Seconds that storage may hold a request. Then all that its queue has in storage fails, and the queue goes on
    /// [default: for ever, as a disk that a filesystem took for dead may only have been slow]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=86400), value_name = "SECONDS")]
    io_timeout: Option<u32>,
    /// Seconds that the kernel waits for an answer before it gives the device up; also the time that a killed daemon
    /// may be gone, and that powering off takes then [default: 30]
    #[arg(long, value_parser = clap::value_parser!(u32).range(MSG_TIMEOUT_S), value_name = "SECONDS")]
    msg_timeout: Option<u32>,
    /// Memory that data of a disk of this host is copied to and from: off (pages of the kernel), anon (ordinary
    /// pages of the daemon) or hugepage; the latter two are put in place at the first request
    #[arg(long, value_enum, default_value_t = Umem::Off)]
    umem: Umem,
    /// Size of that memory, 16M to 1G [default: 64M]
    #[arg(long, value_parser = parse_size, value_name = "SIZE")]
    bounce_size: Option<u64>,
    /// Give up what serving does not take, of capabilities, files and system calls: on (a call that nobody expects ends the
    /// daemon with SIGSYS), log (the kernel logs it instead) or off
    #[arg(long, value_enum, default_value_t = SandboxWord::On, value_name = "WHICH")]
    sandbox: SandboxWord,
    /// Become this user, or that of this number; the capabilities that serving takes are kept
    #[arg(long)]
    user: Option<String>,
    /// Print one line of JSON for each event
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Poll {
    /// Never sleep: lowest latency, one CPU a queue always in use
    Busy,
    /// Poll for a while, then sleep until kicked
    Adaptive,
    /// Sleep whenever there is nothing to do
    Event,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Umem {
    Off,
    Anon,
    Hugepage,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SandboxWord {
    On,
    Log,
    Off,
}

/// Runs the daemon. Returns 0 when it was told to end and left nothing behind, 2 for bad arguments.
pub(crate) fn main(args: ServeArgs) -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let (json, attach, takeover) = (args.json, args.attach, args.takeover);
    let runtime_dir = args.runtime.runtime_dir.clone();
    let user = args.user.clone();
    let sandbox = match args.sandbox {
        SandboxWord::On => Sandbox::On,
        SandboxWord::Log => Sandbox::Log,
        SandboxWord::Off => Sandbox::Off,
    };
    let options = match args.options() {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("pollux: {reason}");
            return ExitCode::from(2);
        }
    };
    let request = ServeRequest {
        devices: vec![(options, attach)],
        runtime_dir,
        takeover,
        sandbox,
        user,
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

impl ServeArgs {
    fn options(self) -> Result<DeviceOptions, String> {
        let cpus = self.cpus.as_deref().map(parse_cpu_list).transpose();
        Ok(DeviceOptions {
            name: self.name,
            backend: self.backend,
            queues: self.queues,
            queue_size: self.queue_size,
            ring_features: self.features,
            cpus: cpus.map_err(|e| e.to_string())?,
            mode: match self.poll {
                Poll::Busy => PollMode::Busy,
                Poll::Adaptive => PollMode::Adaptive(Duration::from_micros(self.poll_us)),
                Poll::Event => PollMode::Event,
            },
            interrupt_hold: Duration::from_micros(self.irq_hold_us),
            interrupt_cpus: self.irq_cpus,
            latency_sample: self.latency_sample,
            io_timeout: self.io_timeout.map(|s| Duration::from_secs(s.into())),
            msg_timeout_s: self.msg_timeout,
            umem: match self.umem {
                Umem::Off => UmemKind::Off,
                Umem::Anon => UmemKind::Anon,
                Umem::Hugepage => UmemKind::Hugepage,
            },
            bounce_size_bytes: self.bounce_size,
            vhost_user: self.vhost_user,
        })
    }
}

fn describe(event: &Event) -> String {
    match event {
        Event::Serving { name } => format!("{name}: served"),
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
