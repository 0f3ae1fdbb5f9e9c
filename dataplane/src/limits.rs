//! Every bound of the data path, and how they relate.

use std::ops::RangeInclusive;

/// Entries of the largest virtqueue served. QEMU stops here too; the kernel would allow 32768.
pub const QUEUE_SIZE_MAX: u16 = 1024;

/// Entries of the smallest virtqueue served: a header, one data segment and a status byte, rounded
/// up to a power of two.
pub const QUEUE_SIZE_MIN: u16 = 4;

/// Descriptors of one chain, those of its indirect table included. VIRTIO 1.3, 2.7.5.3.1 and
/// 2.7.4 forbid a chain longer than its queue.
pub const DESCRIPTORS_MAX: usize = QUEUE_SIZE_MAX as usize;

/// Extra segments that a chain may need because one descriptor spans adjacent memory regions.
pub const REGION_SPLITS_MAX: usize = 64;

/// Host memory segments of one direction of one chain.
pub const SEGMENTS_MAX: usize = DESCRIPTORS_MAX + REGION_SPLITS_MAX;

/// Memory regions of one device: the kernel's own cap for vhost-vdpa (`max_iotlb_entries`).
pub const REGIONS_MAX: usize = 2048;

/// Requests taken from a ring in one pass, so that a pass is bounded, the first completion of a deep queue is not
/// held back by the last, and a driver that polls takes back what is done while the rest is worked on.
pub const PASS_REQUESTS_MAX: usize = 16;

/// Bytes moved in one pass before completions are published.
pub const PASS_BYTES_MAX: u64 = 1 << 20;

/// Virtqueues of one device.
pub const QUEUES_MAX: u16 = 256;

/// Devices of one daemon.
pub const DEVICES_MAX: usize = 256;

/// Ranges in one DISCARD request. Linux caps discard at 256.
pub const RANGES_MAX: usize = 256;

/// Ranges in one WRITE_ZEROES request. Linux sends one, and each may have to be written in full.
pub const WRITE_ZEROES_RANGES_MAX: usize = 1;

/// Largest data segment advertised (`size_max`), in bytes. Larger ones would need long contiguous
/// runs of the 64 MiB bounce buffer.
pub const SEGMENT_BYTES_MAX: u32 = 1 << 20;

/// Data bytes of one request: as many segments as a chain has, each as large as advertised. A chain may
/// name the same memory many times, and a worker listens to nobody while it copies.
pub const REQUEST_BYTES_MAX: u64 = DESCRIPTORS_MAX as u64 * SEGMENT_BYTES_MAX as u64;

/// Commands waiting for one worker: a beat, a request for statistics, one of the kernel's, and a stop, whatever
/// became of those.
pub const MAILBOX_COMMANDS_MAX: usize = 4;

/// Time that a worker lets its backend finish what is in flight before it abandons it, in
/// milliseconds.
pub const DRAIN_MS_MAX: u64 = 5_000;

/// Time that a worker lets its backend finish what is in flight before another process takes its queue over, in
/// milliseconds; then it goes on itself.
pub const HAND_OVER_MS_MAX: u64 = 1_000;

/// Time that control waits for a worker's answer, in milliseconds. Well above the drain, well below
/// the 30 s after which the kernel breaks the device.
pub const WORKER_ANSWER_MS_MAX: u64 = 8_000;

/// What the kernel's time for an answer (`msg_timeout`) can be set to, in seconds. Twice what a worker is waited for,
/// at least. 0 would be for ever: a machine whose daemon was killed would never power off.
pub const MSG_TIMEOUT_S: RangeInclusive<i64> = 16..=3600;

/// Time between two beats, in milliseconds: at each a worker tells how long its backend has held requests.
pub const BEAT_MS: u64 = 500;

/// Time without an answer after which a worker is called stuck, in milliseconds. One pass may do much.
pub const STUCK_MS: u64 = 2_000;

/// Highest latency told apart in histograms, in nanoseconds; longer ones count as this.
pub const LATENCY_NS_MAX: u64 = 60_000_000_000;

const _: () = assert!(QUEUE_SIZE_MAX.is_power_of_two() && QUEUE_SIZE_MIN.is_power_of_two());
const _: () = assert!(PASS_REQUESTS_MAX <= QUEUE_SIZE_MAX as usize);
const _: () = assert!(HAND_OVER_MS_MAX < WORKER_ANSWER_MS_MAX);
const _: () = assert!(DRAIN_MS_MAX < WORKER_ANSWER_MS_MAX && WORKER_ANSWER_MS_MAX < 15_000);
const _: () = assert!(*MSG_TIMEOUT_S.start() as u64 * 1000 >= 2 * WORKER_ANSWER_MS_MAX);
const _: () = assert!(BEAT_MS < STUCK_MS && STUCK_MS < WORKER_ANSWER_MS_MAX);
const _: () = assert!(SEGMENT_BYTES_MAX.is_multiple_of(4096));
// The used ring counts them, and a status byte, in 32 bits.
const _: () = assert!(REQUEST_BYTES_MAX < u32::MAX as u64);
const _: () = assert!(WRITE_ZEROES_RANGES_MAX <= RANGES_MAX);
