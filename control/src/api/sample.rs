//! A device as tests see it.

use crate::device::{
    DeviceSnapshot, LatencyBucket, LatencySnapshot, QueueState, QueueStats, UmemKind,
};

fn queue(index: u16) -> QueueStats {
    let bucket = |at_most_ns, count| LatencyBucket { at_most_ns, count };
    QueueStats {
        index,
        cpu: 2 + usize::from(index),
        state: QueueState::Running,
        fault: None,
        requests: 1000,
        bytes_read: 4_000_000,
        bytes_written: 96_000,
        errors: 3,
        driver_faults: 0,
        host_errors: [("EIO".to_owned(), 3)].into(),
        backend_system_calls: 10,
        backend_registered: 5,
        backend_copied: 6,
        polls_busy: 600,
        polls_idle: 400,
        sleeps: 7,
        kicks: 8,
        interrupts: 250,
        interrupts_refused: 1,
        in_flight: 4,
        depth: 32,
        latency_ns: LatencySnapshot {
            count: 1000,
            sum: 20_000_000,
            ..LatencySnapshot::default()
        },
        latency_buckets: vec![
            bucket(10_000, 600),
            bucket(11_000, 300),
            bucket(20_000_000_000, 100),
        ],
    }
}

/// Returns one with two queues.
pub(crate) fn device() -> DeviceSnapshot {
    DeviceSnapshot {
        name: "d0".into(),
        backend: "null,size=1G".into(),
        capacity_bytes: 1 << 30,
        status: 0x0f,
        state: "running".into(),
        problem: None,
        features: 0,
        driver: Some("virtio".into()),
        node: Some("/dev/vda".into()),
        mode: "adaptive".into(),
        pool: None,
        msg_timeout_s: Some(30),
        io_timeout_s: None,
        taken_over: false,
        api_version: 1,
        protocol_features: Vec::new(),
        bounce_size_bytes: None,
        umem: UmemKind::Off,
        umem_reason: None,
        resets: 2,
        recoveries: 0,
        queues: vec![queue(0), queue(1)],
    }
}
