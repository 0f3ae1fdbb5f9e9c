//! `pollux list`, `pollux status` and `pollux stats`.

use std::process::ExitCode;

use clap::Args;
use pollux_control::api::ClientError;
use pollux_control::device::{DeviceSnapshot, QueueState, QueueStats, UmemKind, queue_map};

use crate::output::{Runtime, finish, json, line, size, table};

mod map;

/// Lists every served device
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux list --json")]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// Shows one device: its state, its driver, its queues
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux status d0
Example: pollux status --map")]
pub(crate) struct StatusArgs {
    /// The device; every one with --map
    #[arg(required_unless_present = "map")]
    name: Option<String>,
    /// Show on which CPUs the requests of each queue are submitted, served and returned
    #[arg(long)]
    map: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// Shows what each queue of a device has counted since it was served
#[derive(Debug, Args)]
#[command(after_help = "Example: pollux stats d0 --json

Latency is the time inside of the device: from taking a request to returning it.")]
pub(crate) struct StatsArgs {
    /// The device
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: Runtime,
}

/// Prints what `ask` returns, as JSON or with `draw`.
fn show<T: serde::Serialize>(
    asked: Result<T, ClientError>,
    as_json: bool,
    draw: impl FnOnce(&T),
) -> ExitCode {
    match asked {
        Ok(value) if as_json => finish(json(&value)),
        Ok(value) => {
            draw(&value);
            ExitCode::SUCCESS
        }
        Err(error) => finish(Err(error)),
    }
}

pub(crate) fn list(args: &ListArgs) -> ExitCode {
    show(args.runtime.client().list(), args.json, |devices| {
        if devices.is_empty() {
            return line("no device is served");
        }
        let mut table = table([
            "NAME", "STATE", "SIZE", "QUEUES", "DRIVER", "NODE", "BACKEND",
        ]);
        for device in devices {
            table.add_row([
                device.name.as_str(),
                &device.state,
                &size(device.capacity_bytes),
                &device.queues.len().to_string(),
                device.driver.as_deref().unwrap_or("-"),
                device.node.as_deref().unwrap_or("-"),
                &device.backend,
            ]);
        }
        line(table);
    })
}

pub(crate) fn status(args: &StatusArgs) -> ExitCode {
    let client = args.runtime.client();
    let Some(name) = args.name.as_ref().filter(|_| !args.map) else {
        let devices = match &args.name {
            Some(name) => client.show(name).map(|device| vec![device]),
            None => client.list(),
        };
        let maps = devices.map(|all| all.iter().flat_map(queue_map).collect::<Vec<_>>());
        return show(maps, args.json, |maps| map::draw(maps));
    };
    show(client.show(name), args.json, |device| {
        draw_device(device);
        let mut table = table(["QUEUE", "CPU", "STATE", "REASON"]);
        for queue in &device.queues {
            table.add_row([
                queue.index.to_string(),
                queue.cpu.to_string(),
                state(queue.state).into(),
                queue.fault.clone().unwrap_or_else(|| "-".into()),
            ]);
        }
        line(table);
    })
}

fn draw_device(device: &DeviceSnapshot) {
    line(format_args!("name      {}", device.name));
    line(format_args!(
        "state     {} (status {:#04x})",
        device.state, device.status
    ));
    if let Some(problem) = &device.problem {
        line(format_args!("problem   {problem}"));
    }
    line(format_args!("backend   {}", device.backend));
    line(format_args!("size      {}", size(device.capacity_bytes)));
    line(format_args!("features  {:#x}", device.features));
    line(format_args!(
        "driver    {}",
        device.driver.as_deref().unwrap_or("-")
    ));
    line(format_args!(
        "node      {}",
        device.node.as_deref().unwrap_or("-")
    ));
    match &device.pool {
        Some(pool) => line(format_args!(
            "polling   {}, on threads of pool {pool}",
            device.mode
        )),
        None => line(format_args!("polling   {}", device.mode)),
    }
    let protocol = [
        &[format!("API {}", device.api_version)],
        &device.protocol_features[..],
    ];
    line(format_args!("protocol  {}", protocol.concat().join(", ")));
    if let Some(bytes) = device.bounce_size_bytes {
        line(format_args!("bounce    {}", size(bytes)));
    }
    let umem = match device.umem {
        UmemKind::Off => "off",
        UmemKind::Anon => "anon",
        UmemKind::Hugepage => "hugepage",
    };
    match &device.umem_reason {
        Some(reason) => line(format_args!("umem      {umem}: {reason}")),
        None => line(format_args!("umem      {umem}")),
    }
    if let Some(seconds) = device.msg_timeout_s {
        line(format_args!(
            "timeout   {seconds} s for the daemon to answer, or to be followed by another"
        ));
    }
    if let Some(seconds) = device.io_timeout_s {
        line(format_args!(
            "          {seconds} s for storage to finish a request"
        ));
    }
    if device.taken_over {
        line("taken over from a daemon that is gone");
    }
}

pub(crate) fn state(state: QueueState) -> &'static str {
    match state {
        QueueState::Unused => "unused",
        QueueState::Running => "running",
        QueueState::Broken => "broken",
        QueueState::Stuck => "stuck",
    }
}

pub(crate) fn stats(args: &StatsArgs) -> ExitCode {
    show(
        args.runtime.client().show(&args.name),
        args.json,
        |device| {
            let header = std::iter::once(String::new());
            let names = device
                .queues
                .iter()
                .map(|queue| format!("vq{}", queue.index));
            let mut table = table([""; 0]);
            table.set_header(header.chain(names));
            for (label, value) in ROWS {
                let cells = device.queues.iter().map(value);
                table.add_row(std::iter::once((*label).to_owned()).chain(cells));
            }
            line(table);
        },
    )
}

fn host_errors(queue: &QueueStats) -> String {
    let errors = queue.host_errors.iter();
    let named = errors.map(|(name, count)| format!("{name} {count}"));
    let named: Vec<_> = named.collect();
    match named.is_empty() {
        true => "none".into(),
        false => named.join(", "),
    }
}

type Row = (&'static str, fn(&QueueStats) -> String);

/// What `pollux stats` shows, a line each.
const ROWS: &[Row] = &[
    ("state", |queue| state(queue.state).into()),
    ("requests", |queue| queue.requests.to_string()),
    ("bytes read", |queue| queue.bytes_read.to_string()),
    ("bytes written", |queue| queue.bytes_written.to_string()),
    ("errors", |queue| queue.errors.to_string()),
    ("driver faults", |queue| queue.driver_faults.to_string()),
    ("host errors", |queue| host_errors(queue)),
    ("polls busy", |queue| queue.polls_busy.to_string()),
    ("polls idle", |queue| queue.polls_idle.to_string()),
    ("sleeps", |queue| queue.sleeps.to_string()),
    ("kicks", |queue| queue.kicks.to_string()),
    ("interrupts", |queue| queue.interrupts.to_string()),
    ("interrupts/request", |queue| {
        queue
            .interrupts_per_request()
            .map_or_else(|| "-".into(), |rate| format!("{rate:.3}"))
    }),
    ("backend system calls", |queue| {
        queue.backend_system_calls.to_string()
    }),
    ("backend registered", |queue| {
        queue.backend_registered.to_string()
    }),
    ("backend copied", |queue| queue.backend_copied.to_string()),
    ("latency min ns", |queue| queue.latency_ns.min.to_string()),
    ("latency p50 ns", |queue| queue.latency_ns.p50.to_string()),
    ("latency p90 ns", |queue| queue.latency_ns.p90.to_string()),
    ("latency p99 ns", |queue| queue.latency_ns.p99.to_string()),
    ("latency p99.9 ns", |queue| {
        queue.latency_ns.p999.to_string()
    }),
    ("latency max ns", |queue| queue.latency_ns.max.to_string()),
];
