//! Devices as daemons tell of them, for tests.

use pollux_control::device::{DeviceSnapshot, QueueStats};
use serde_json::json;

/// Returns a device `name` with `queues` queues, each of which has completed `requests` of 4 KiB: every other one a read.
pub(crate) fn device(name: &str, queues: u16, requests: u64) -> DeviceSnapshot {
    let queues: Vec<_> = (0..queues).map(|index| queue(index, requests)).collect();
    let device = json!({
        "name": name, "backend": "null,size=1G", "capacity_bytes": 1 << 30, "status": 15,
        "state": "running", "problem": null, "features": 0, "driver": null, "node": null,
        "mode": "adaptive", "msg_timeout_s": null, "io_timeout_s": null, "taken_over": false,
        "api_version": 0, "protocol_features": [], "bounce_size_bytes": null, "umem": "off",
        "umem_reason": null, "queues": queues,
    });
    serde_json::from_value(device).expect("a device")
}

fn queue(index: u16, requests: u64) -> QueueStats {
    let latency = json!({
        "count": requests, "min": 200, "p50": 280 + u64::from(index), "p90": 400, "p99": 900,
        "p999": 1000, "max": 2000,
    });
    let buckets = json!([
        { "at_most_ns": 280 + u64::from(index), "count": requests - requests / 10 },
        { "at_most_ns": 900, "count": requests / 10 },
    ]);
    let queue = json!({
        "index": index, "cpu": index, "state": "running", "fault": null, "requests": requests,
        "bytes_read": requests * 2048, "bytes_written": requests * 2048, "errors": 0,
        "driver_faults": 0, "host_errors": {}, "backend_system_calls": 0, "backend_registered": 0,
        "backend_copied": 0, "polls_busy": requests, "polls_idle": requests * 3, "sleeps": 0,
        "kicks": 0, "interrupts": requests / 4, "latency_ns": latency,
        "latency_buckets": buckets,
    });
    serde_json::from_value(queue).expect("a queue")
}
