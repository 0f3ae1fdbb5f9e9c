//! What a device leaves in the runtime directory while it exists, for the daemon after one that was killed.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pollux_dataplane::backend::Backend;
use pollux_dataplane::blk::Features;
use pollux_dataplane::inflight::{InFlightLog, LogError};
use serde::{Deserialize, Serialize};
use vduse::Name;

use super::protocol::Protocol;
use super::{DeviceOptions, Disk};

/// Why there is no trace, or none that is of use.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// A file cannot be read or written.
    #[error("cannot use {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Not what a daemon writes there.
    #[error("{path} is not the state of a device: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: serde_json::Error,
    },
    /// The log of the requests in flight.
    #[error("{path}: {reason}")]
    Log {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: LogError,
    },
}

/// What of a device may not change while a driver has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    version: u32,
    size_bytes: u64,
    /// The size on the way: either may be the one that a driver and the storage know of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resizing_to_bytes: Option<u64>,
    /// The size is not the one that the device was served with.
    #[serde(default)]
    resized: bool,
    block_size: u32,
    read_only: bool,
    serial: String,
    queues: u16,
    queue_size: u16,
    /// Feature bits that were offered.
    features: u64,
    /// How the kernel is spoken to, whatever a device that is made now would do.
    #[serde(default)]
    protocol: Protocol,
    /// The kernel's default if none was asked for.
    #[serde(default)]
    bounce_size_bytes: Option<u64>,
}

impl DeviceState {
    const VERSION: u32 = 1;

    pub(super) fn new(options: &DeviceOptions, disk: &Disk, protocol: Protocol) -> Self {
        let geometry = disk.geometry();
        let serial = String::from_utf8_lossy(&geometry.serial);
        Self {
            version: Self::VERSION,
            size_bytes: geometry.size_bytes(),
            resizing_to_bytes: None,
            resized: options
                .backend
                .size_bytes()
                .is_some_and(|written| written != geometry.size_bytes()),
            block_size: geometry.block_bytes,
            read_only: geometry.read_only,
            serial: serial.trim_end_matches('\0').to_owned(),
            queues: options.queues,
            queue_size: options.queue_size,
            features: Features::offered(geometry, options.queues, options.ring_features).bits(),
            protocol,
            bounce_size_bytes: options.bounce_size_bytes,
        }
    }

    /// Returns the state while the disk is on its way to another size.
    pub(super) fn resizing_to(self, size_bytes: u64) -> Self {
        Self {
            resizing_to_bytes: Some(size_bytes),
            resized: true,
            ..self
        }
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns what is not as in `wanted`, in words; empty when nothing differs.
    pub(super) fn differences(&self, wanted: &Self) -> String {
        let mut words = Vec::new();
        let mut compare = |what: &str, now: &dyn Display, asked: &dyn Display| {
            let (now, asked) = (now.to_string(), asked.to_string());
            if now != asked {
                words.push(format!("{what} is {now}, not {asked}"));
            }
        };
        let (now, asked) = (self, wanted);
        compare("its state's version", &now.version, &asked.version);
        if now.resizing_to_bytes != Some(asked.size_bytes) {
            let size = match now.resized {
                true => format!("its size since a resize (give size={0})", now.size_bytes),
                false => "its size".into(),
            };
            compare(&size, &now.size_bytes, &asked.size_bytes);
        }
        compare("its block size", &now.block_size, &asked.block_size);
        compare("ro", &now.read_only, &asked.read_only);
        compare("its serial", &now.serial, &asked.serial);
        compare("the number of its queues", &now.queues, &asked.queues);
        compare("its queue size", &now.queue_size, &asked.queue_size);
        let or_default =
            |bytes: Option<u64>| bytes.map_or("the kernel's".into(), |it| it.to_string());
        compare(
            "its bounce size",
            &or_default(now.bounce_size_bytes),
            &or_default(asked.bounce_size_bytes),
        );
        let hex = |features| format!("{features:#x}");
        compare("what it offered", &hex(now.features), &hex(asked.features));
        words.join(", ")
    }
}

/// Returns the file that tells of the controller that the device `name` took from its driver, for as long as it has it.
pub(super) fn controller_note(folder: &Path, name: &Name) -> PathBuf {
    folder.join(format!("{name}.controller"))
}

/// The files of one device: `NAME.state` and `NAME.inflight`.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    state: PathBuf,
    in_flight: PathBuf,
}

impl Trace {
    pub(super) fn new(folder: &Path, name: &Name) -> Self {
        Self {
            state: folder.join(format!("{name}.state")),
            in_flight: folder.join(format!("{name}.inflight")),
        }
    }

    /// Writes both files anew. Returns an empty log.
    pub(super) fn begin(&self, state: &DeviceState) -> Result<InFlightLog, TraceError> {
        let file = self.open(OpenOptions::new().create(true).truncate(true))?;
        let log = InFlightLog::create(file, state.queues, state.queue_size);
        let log = log.map_err(|reason| self.log_error(reason))?;
        self.write(state)?;
        Ok(log)
    }

    /// Writes the state anew.
    pub(super) fn write(&self, state: &DeviceState) -> Result<(), TraceError> {
        // Whole or as it was: a daemon may be killed here, too.
        let temporary = self.new_state();
        let refuse = |reason: io::Error| file_error(&self.state, reason);
        let text = serde_json::to_string_pretty(state).map_err(|e| refuse(e.into()))?;
        fs::write(&temporary, text).map_err(refuse)?;
        fs::rename(&temporary, &self.state).map_err(refuse)
    }

    /// Returns the state that was written; none when there is none.
    pub(super) fn state(&self) -> Result<Option<DeviceState>, TraceError> {
        let text = match fs::read(&self.state) {
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|reason| file_error(&self.state, reason))?,
        };
        let state = serde_json::from_slice(&text);
        state.map(Some).map_err(|reason| TraceError::Malformed {
            path: self.state.clone(),
            reason,
        })
    }

    /// Opens the log of a device in `state`.
    pub(super) fn log(&self, state: &DeviceState) -> Result<InFlightLog, TraceError> {
        let file = self.open(&mut OpenOptions::new())?;
        let log = InFlightLog::open(file, state.queues, state.queue_size);
        log.map_err(|reason| self.log_error(reason))
    }

    /// Where the state is until it is whole.
    fn new_state(&self) -> PathBuf {
        self.state.with_extension("state.new")
    }

    /// Removes all of it, with the device.
    pub(super) fn remove(&self) {
        for path in [&self.state, &self.in_flight, &self.new_state()] {
            match fs::remove_file(path) {
                Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("cannot remove {}: {reason}", path.display());
                }
                _ => {}
            }
        }
    }

    fn open(&self, options: &mut OpenOptions) -> Result<File, TraceError> {
        let file = options
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&self.in_flight);
        file.map_err(|reason| file_error(&self.in_flight, reason))
    }

    fn log_error(&self, reason: LogError) -> TraceError {
        TraceError::Log {
            path: self.in_flight.clone(),
            reason,
        }
    }
}

fn file_error(path: &Path, reason: io::Error) -> TraceError {
    TraceError::File {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> DeviceState {
        DeviceState {
            version: 1,
            size_bytes: 1 << 20,
            resizing_to_bytes: None,
            resized: false,
            block_size: 512,
            read_only: false,
            serial: "d0".into(),
            queues: 2,
            queue_size: 256,
            features: 0x10,
            protocol: Protocol::default(),
            bounce_size_bytes: None,
        }
    }

    #[test]
    fn what_was_written_is_read_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let trace = Trace::new(folder.path(), &"d0".parse().unwrap());
        assert_eq!(trace.state().unwrap(), None);
        drop(trace.begin(&state()).unwrap());
        assert_eq!(trace.state().unwrap(), Some(state()));
        trace.log(&state()).unwrap();
        let other = DeviceState {
            queues: 1,
            ..state()
        };
        let refused = trace.log(&other).unwrap_err().to_string();
        assert!(
            refused.contains("d0.inflight") && refused.contains("2 queues"),
            "{refused}"
        );
        fs::write(folder.path().join("d0.state"), "{}").unwrap();
        assert!(matches!(trace.state(), Err(TraceError::Malformed { .. })));
        fs::write(folder.path().join("d0.state.new"), "{").unwrap();
        trace.remove();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        trace.remove();
    }

    #[test]
    fn a_resize_is_told_and_on_the_way_either_size_will_do() {
        let larger = DeviceState {
            size_bytes: 2 << 20,
            ..state()
        };
        let moving = state().resizing_to(2 << 20);
        assert_eq!(moving.differences(&state()), "");
        assert_eq!(moving.differences(&larger), "");
        let resized = DeviceState {
            resized: true,
            ..larger.clone()
        };
        assert_eq!(resized.differences(&larger), "");
        assert_eq!(
            resized.differences(&state()),
            "its size since a resize (give size=2097152) is 2097152, not 1048576"
        );
        let folder = tempfile::tempdir().unwrap();
        let trace = Trace::new(folder.path(), &"d0".parse().unwrap());
        trace.write(&moving).unwrap();
        assert_eq!(trace.state().unwrap(), Some(moving));
    }

    #[test]
    fn what_a_daemon_before_resizes_wrote_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let trace = Trace::new(folder.path(), &"d0".parse().unwrap());
        let written = r#"{"version": 1, "size_bytes": 1048576, "block_size": 512, "read_only": false,
            "serial": "d0", "queues": 2, "queue_size": 256, "features": 16}"#;
        fs::write(folder.path().join("d0.state"), written).unwrap();
        assert_eq!(trace.state().unwrap(), Some(state()));
    }

    #[test]
    fn differences_are_named() {
        assert_eq!(state().differences(&state()), "");
        let wanted = DeviceState {
            size_bytes: 2 << 20,
            queues: 1,
            features: 0x30,
            ..state()
        };
        assert_eq!(
            state().differences(&wanted),
            "its size is 1048576, not 2097152, the number of its queues is 2, not 1, what it offered is 0x10, \
             not 0x30"
        );
    }
}
