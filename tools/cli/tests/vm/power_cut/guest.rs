//! Both halves in the guest: writers that report each FLUSH until the machine is gone, and the look at what is left.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use nix::fcntl::OFlag;

use super::epoch::{BLOCK_BYTES, Content, Writer};
use super::reports::{REPORT, Reports};
use super::storage::{self, Storage};
use super::{FLUSHED, SEED, variable};
use crate::guest::Daemon;

/// Writes of a writer at a time.
const THREADS: usize = 4;
/// Epochs after the last reported one that may have been begun: the report of one may be lost with the power.
const UNREPORTED_MAX: u64 = 64;
/// Said where the disk that nobody flushes lost writes that had completed.
pub(super) const CONTROL_LOST: &str = "power cut: of what was not flushed, lost";

#[test]
#[ignore = "one half of tools/torture --power-cut"]
fn writes_until_the_power_is_cut() {
    let seed = variable(SEED);
    storage::make();
    let mut daemons = Vec::new();
    thread::scope(|scope| {
        for storage in Storage::ALL {
            let node = match storage.backend() {
                None => storage.kept_in(),
                Some(backend) => {
                    let options = ["--queues", "2", "--poll", "event", "--attach", "virtio"];
                    let daemon = Daemon::serve(storage.name(), &backend, &options);
                    let node = daemon.node();
                    daemons.push(daemon);
                    node
                }
            };
            for writer in storage.writers(seed) {
                let node = node.clone();
                let flushes = storage != Storage::Control;
                scope.spawn(move || write(&writer, &node, flushes));
            }
        }
    });
}

/// Writes epoch after epoch, and never returns.
fn write(writer: &Writer, node: &Path, flushes: bool) {
    let disk = open(node, true);
    for epoch in 1.. {
        let extents = writer.extents(epoch);
        thread::scope(|scope| {
            for part in extents.chunks(extents.len().div_ceil(THREADS)) {
                let disk = &disk;
                scope.spawn(move || {
                    for extent in part {
                        let blocks = (extent.end - extent.start) as usize;
                        with_aligned(blocks, |bytes| {
                            writer.fill_blocks(extent.start, epoch, bytes);
                            let offset = extent.start * BLOCK_BYTES as u64;
                            disk.write_all_at(bytes, offset).expect("a write");
                        });
                    }
                });
            }
        });
        if flushes {
            disk.sync_data().expect("a flush");
        }
        let report = format!("{REPORT} {} {epoch}\n", writer.name);
        // Not through println!, which a test's harness may keep back.
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(report.as_bytes()).expect("a report");
    }
}

fn open(node: &Path, writable: bool) -> File {
    OpenOptions::new()
        .read(true)
        .write(writable)
        .custom_flags(OFlag::O_DIRECT.bits())
        .open(node)
        .unwrap_or_else(|e| panic!("{}: {e}", node.display()))
}

/// Lends a buffer of `blocks` blocks that direct I/O accepts.
fn with_aligned<R>(blocks: usize, take: impl FnOnce(&mut [u8]) -> R) -> R {
    let mut buffer = vec![0; (blocks + 1) * BLOCK_BYTES];
    let start = buffer.as_ptr().align_offset(BLOCK_BYTES);
    take(&mut buffer[start..][..blocks * BLOCK_BYTES])
}

#[test]
#[ignore = "the other half of tools/torture --power-cut"]
fn what_was_flushed_is_there() {
    let (seed, reports): (u64, Reports) = (variable(SEED), variable(FLUSHED));
    storage::mount_files();
    let mut wrong = Vec::new();
    for storage in Storage::ALL {
        let disk = open(&storage.kept_in(), false);
        for writer in storage.writers(seed) {
            let reported = reports.of(&writer.name);
            let flushed = match storage {
                Storage::Control => 0,
                _ => reported,
            };
            let found = look(&writer, &disk, flushed, reported);
            let (blocks, late, lost) = (found.blocks, found.late, found.lost);
            println!(
                "power cut: {}: {blocks} blocks of {reported} epochs, {late} later ones",
                writer.name
            );
            if storage == Storage::Control && lost > 0 {
                println!("{CONTROL_LOST} {lost} of {blocks} blocks");
            }
            wrong.extend(found.wrong);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} blocks: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(20)]
    );
}

#[derive(Default)]
struct Found {
    /// Blocks that were written by the last epoch that was reported.
    blocks: usize,
    /// Blocks that hold what was written after it.
    late: usize,
    /// Blocks that hold less than their last report said.
    lost: usize,
    /// What breaks the promise.
    wrong: Vec<String>,
}

/// Holds each block against the epochs up to `flushed`, which it must have, and those after, which it may have.
fn look(writer: &Writer, disk: &File, flushed: u64, reported: u64) -> Found {
    let mut found = Found::default();
    for (block, epochs) in writer.history(reported + UNREPORTED_MAX) {
        let last = |limit: u64| epochs.iter().copied().rfind(|&epoch| epoch <= limit);
        let promised = last(flushed).unwrap_or(0);
        let content = with_aligned(1, |bytes| {
            let offset = block * BLOCK_BYTES as u64;
            disk.read_exact_at(bytes, offset).expect("a read");
            writer.content(block, bytes)
        });
        let is_allowed =
            |epoch: u64| epoch == promised || epoch > promised && epochs.contains(&epoch);
        let (oldest, newest) = match content {
            Content::Nothing => (0, 0),
            Content::Of(epoch) => (epoch, epoch),
            Content::Torn(older, newer) => (older, newer),
            Content::Other => (u64::MAX, u64::MAX),
        };
        if !is_allowed(oldest) || !is_allowed(newest) {
            found.wrong.push(format!(
                "{} block {block}: {content:?}, flushed epoch {promised}, all {epochs:?}",
                writer.name
            ));
        }
        let reported_last = last(reported).unwrap_or(0);
        found.blocks += usize::from(reported_last > 0);
        found.late += usize::from(newest > reported);
        found.lost += usize::from(oldest < reported_last);
    }
    found
}
