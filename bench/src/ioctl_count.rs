//! Counts the interrupts that a VDUSE server raises, by watching its ioctls in a tracefs instance.
//!
//! Tracing slows every traced call, so this runs beside an untimed load, never a measured one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::Pid;

/// `VDUSE_VQ_INJECT_IRQ`, `_IOW(0x81, 0x17, __u32)` in include/uapi/linux/vduse.h.
const VDUSE_VQ_INJECT_IRQ: u32 = 0x4004_8117;
const TRACEFS: &str = "/sys/kernel/tracing";
const EVENT: &str = "events/syscalls/sys_enter_ioctl";

/// Why interrupts could not be counted.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}: {reason}; counting interrupts needs root and a kernel with CONFIG_FTRACE_SYSCALLS"
)]
pub(crate) struct CountError {
    path: String,
    reason: io::Error,
}

/// A private trace buffer; dropping it removes it.
#[derive(Debug)]
pub(crate) struct IoctlCount {
    instance: PathBuf,
    mounted: bool,
}

impl IoctlCount {
    /// Starts counting the interrupts that the process `server` injects, all its threads included.
    pub(crate) fn start(server: Pid) -> Result<Self, CountError> {
        let mounted = mount_tracefs()?;
        let name = format!("pollux-bench-{}", std::process::id());
        let instance = Path::new(TRACEFS).join("instances").join(name);
        let count = Self { instance, mounted };
        fs::create_dir(&count.instance).map_err(|e| error(&count.instance, e))?;
        // The smallest buffer is enough: overwritten events are counted too.
        count.write("buffer_size_kb", "4")?;
        count.write(&format!("{EVENT}/filter"), &filter(&threads(server)))?;
        count.write(&format!("{EVENT}/enable"), "1")?;
        Ok(count)
    }

    /// Interrupts raised since the start.
    pub(crate) fn interrupts(&self) -> Result<u64, CountError> {
        let folder = self.instance.join("per_cpu");
        let mut sum = 0;
        for cpu in fs::read_dir(&folder)
            .map_err(|e| error(&folder, e))?
            .flatten()
        {
            let stats = cpu.path().join("stats");
            sum += events(&fs::read_to_string(&stats).map_err(|e| error(&stats, e))?);
        }
        Ok(sum)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), CountError> {
        let path = self.instance.join(file);
        fs::write(&path, text).map_err(|e| error(&path, e))
    }
}

impl Drop for IoctlCount {
    fn drop(&mut self) {
        // Best effort: an instance that was never made cannot be removed.
        let _ = self.write(&format!("{EVENT}/enable"), "0");
        let _ = fs::remove_dir(&self.instance);
        if self.mounted {
            let _ = umount2(TRACEFS, MntFlags::MNT_DETACH);
        }
    }
}

fn error(path: &Path, reason: io::Error) -> CountError {
    CountError {
        path: path.display().to_string(),
        reason,
    }
}

/// True when it was not mounted before.
fn mount_tracefs() -> Result<bool, CountError> {
    let root = Path::new(TRACEFS);
    if root.join("instances").exists() {
        return Ok(false);
    }
    mount(
        Some("tracefs"),
        root,
        Some("tracefs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .map_err(|errno| error(root, errno.into()))?;
    Ok(true)
}

/// Matches the interrupts that `threads` inject.
///
/// `set_event_pid` would do the same, but it follows the scheduler by patching tracepoints into its
/// code, and QEMU's TCG was seen to run half-patched code: the guest panics.
fn filter(threads: &[String]) -> String {
    let by = |thread: &String| format!("common_pid == {thread}");
    let any = threads.iter().map(by).collect::<Vec<_>>().join(" || ");
    match any.is_empty() {
        true => format!("cmd == {VDUSE_VQ_INJECT_IRQ:#x}"),
        false => format!("cmd == {VDUSE_VQ_INJECT_IRQ:#x} && ({any})"),
    }
}

/// The thread ids of a process.
fn threads(process: Pid) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten();
    tasks
        .map(|task| task.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Events that one CPU's buffer has taken in, from its `stats` file: those still there, those
/// overwritten since and those dropped.
fn events(stats: &str) -> u64 {
    let value = |line: &str| {
        let (key, value) = line.split_once(':')?;
        let counted = matches!(key.trim(), "entries" | "overrun" | "dropped events");
        if counted {
            value.trim().parse::<u64>().ok()
        } else {
            None
        }
    };
    stats.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_kept_and_overwritten_are_counted() {
        let stats = "entries: 40\noverrun: 1000\ncommit overrun: 7\nbytes: 3904\n\
                     oldest event ts:  12.5\nnow ts: 13.0\ndropped events: 2\nread events: 0\n";
        assert_eq!(events(stats), 1042);
        assert_eq!(events(""), 0);
    }

    #[test]
    fn own_thread_is_among_the_threads() {
        let own = nix::unistd::gettid().to_string();
        assert!(threads(Pid::this()).contains(&own));
    }

    #[test]
    fn only_interrupts_of_the_threads_match() {
        let threads = ["7".to_owned(), "9".to_owned()];
        assert_eq!(
            filter(&threads),
            "cmd == 0x40048117 && (common_pid == 7 || common_pid == 9)"
        );
        assert_eq!(filter(&[]), "cmd == 0x40048117");
    }
}
