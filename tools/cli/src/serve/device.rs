//! A device, as it is described on the command line and in a configuration: the same keys, defaults and checks.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pollux_control::daemon::Wanted;
use pollux_control::device::{
    BackendSpec, DeviceOptions, InterruptCpus, UmemKind, parse_cpu_list, parse_ring_features,
    parse_size,
};
use pollux_control::vdpa::Driver;
use pollux_dataplane::limits::MSG_TIMEOUT_S;
use pollux_dataplane::ring::RingFeatures;
use pollux_dataplane::worker::PollMode;
use vduse::Name;

/// What a device is to be.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    /// Name of the device, in VDUSE and on the vDPA bus
    #[arg(long)]
    pub(super) name: Option<Name>,
    /// Storage: kind,key=value,...
    #[arg(long)]
    pub(super) backend: Option<BackendSpec>,
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
    /// Share the threads of this pool, which the configuration describes, with other devices
    #[arg(long, value_name = "NAME", conflicts_with_all = ["cpus", "poll", "poll_us"])]
    pool: Option<String>,
    #[command(flatten)]
    poll: PollArgs,
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
    /// Attach to this driver of the vDPA bus: virtio (a disk /dev/vdX here) or vhost (a guest)
    #[arg(long)]
    attach: Option<Driver>,
    /// Serve frontends of the vhost-user protocol, such as QEMU, at this socket, instead of a device of VDUSE
    #[arg(long, value_name = "PATH",
        conflicts_with_all = ["attach", "umem", "bounce_size", "msg_timeout", "irq_cpus"])]
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
}

/// How threads wait.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct PollArgs {
    /// How threads wait for requests
    #[arg(long, value_enum, default_value_t = Poll::Adaptive)]
    poll: Poll,
    /// Time that an adaptive thread polls after the last request before it sleeps
    #[arg(long, default_value_t = 50, value_name = "MICROSECONDS")]
    poll_us: u64,
}

impl PollArgs {
    pub(crate) fn mode(self) -> PollMode {
        match self.poll {
            Poll::Busy => PollMode::Busy,
            Poll::Adaptive => PollMode::Adaptive(Duration::from_micros(self.poll_us)),
            Poll::Event => PollMode::Event,
        }
    }
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

impl DeviceArgs {
    /// Returns what is to be served, described by `keys`.
    ///
    /// # Errors
    /// The key that is at fault, and what is wrong.
    pub(crate) fn wanted(
        self,
        keys: BTreeMap<String, String>,
    ) -> Result<Wanted, (&'static str, String)> {
        let missing = |key: &'static str| (key, format!("no {key}: a device needs one"));
        let cpus = self.cpus.as_deref().map(parse_cpu_list).transpose();
        let options = DeviceOptions {
            name: self.name.ok_or_else(|| missing("name"))?,
            backend: self.backend.ok_or_else(|| missing("backend"))?,
            queues: self.queues,
            queue_size: self.queue_size,
            ring_features: self.features,
            cpus: cpus.map_err(|e| ("cpus", e.to_string()))?,
            pool: self.pool,
            mode: self.poll.mode(),
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
        };
        Ok(Wanted {
            options,
            driver: self.attach,
            keys,
        })
    }
}
