//! What a VDUSE device shows in sysfs, `/sys/class/vduse/NAME`.

use crate::Name;
use nix::errno::Errno;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use thiserror::Error;

mod cpumask;

/// The sysfs attributes of one device. Nothing is opened until it is asked for.
///
/// ```no_run
/// use vduse::sysfs::Sysfs;
///
/// let sysfs = Sysfs::new(&"d0".parse()?);
/// sysfs.set_msg_timeout_s(120)?;
/// // After DRIVER_OK, since the driver's probe writes it, too.
/// sysfs.set_irq_cb_affinity(0, &[2, 3])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sysfs {
    folder: PathBuf,
}

/// Why an attribute cannot be read or written.
#[derive(Debug, Error)]
pub enum SysfsError {
    /// No such device, or a kernel that lacks the attribute.
    #[error(
        "{} does not exist: no such VDUSE device, or the kernel is older than {since}; create the \
         device or upgrade", path.display()
    )]
    Missing {
        /// The attribute.
        path: PathBuf,
        /// The Linux release that brought it.
        since: &'static str,
    },
    /// The kernel refused to change it.
    #[error("{} refuses {value}: {rule}", path.display())]
    Refused {
        /// The attribute.
        path: PathBuf,
        /// What was written.
        value: String,
        /// When and what it takes.
        rule: &'static str,
    },
    /// The kernel wrote something unexpected there.
    #[error("{} holds {text:?}, which this program does not understand", path.display())]
    Malformed {
        /// The attribute.
        path: PathBuf,
        /// Its content.
        text: String,
    },
    /// Anything else.
    #[error("{} cannot be used: {reason}", path.display())]
    Other {
        /// The attribute.
        path: PathBuf,
        /// What the kernel said.
        reason: io::Error,
    },
}

/// What is known of an attribute beforehand.
struct Attribute {
    since: &'static str,
    rule: &'static str,
}

const MSG_TIMEOUT: Attribute = Attribute {
    since: "5.15",
    rule: "write whole seconds, as root",
};
const BOUNCE_SIZE: Attribute = Attribute {
    since: "6.4",
    rule: "write 1 MiB to 1 GiB in bytes, as root, before the device is first attached",
};
const IRQ_CB_AFFINITY: Attribute = Attribute {
    since: "6.4",
    rule: "name at least one CPU that is online, as root",
};

impl Sysfs {
    /// The attributes of the device called `name`.
    pub fn new(name: &Name) -> Self {
        Self::with_base("/sys/class/vduse", name)
    }

    /// The same below another folder than `/sys/class/vduse`.
    pub fn with_base(base: impl AsRef<Path>, name: &Name) -> Self {
        Self {
            folder: base.as_ref().join(name.as_str()),
        }
    }

    /// Seconds that the kernel waits for a reply before it marks the device broken; 0: for ever.
    pub fn msg_timeout_s(&self) -> Result<u32, SysfsError> {
        self.read_number("msg_timeout", &MSG_TIMEOUT)
    }

    /// Sets the seconds that the kernel waits for a reply, from the next message on.
    ///
    /// Avoid 0: with a dead daemon the host then cannot even power off.
    pub fn set_msg_timeout_s(&self, seconds: u32) -> Result<(), SysfsError> {
        self.write("msg_timeout", &seconds.to_string(), &MSG_TIMEOUT)
    }

    /// Bytes of the bounce region.
    pub fn bounce_size_bytes(&self) -> Result<u64, SysfsError> {
        self.read_number("bounce_size", &BOUNCE_SIZE)
    }

    /// Sets the bytes of the bounce region: 1 MiB to 1 GiB, only before the device is first
    /// attached. The kernel rounds down to a page.
    pub fn set_bounce_size_bytes(&self, bytes: u64) -> Result<(), SysfsError> {
        self.write("bounce_size", &bytes.to_string(), &BOUNCE_SIZE)
    }

    /// The CPUs that may run the interrupt callback of a virtqueue, ascending.
    pub fn irq_cb_affinity(&self, queue: u32) -> Result<Vec<usize>, SysfsError> {
        let file = format!("vq{queue}/irq_cb_affinity");
        let text = self.read(&file, &IRQ_CB_AFFINITY)?;
        cpumask::parse(&text).ok_or_else(|| SysfsError::Malformed {
            path: self.folder.join(&file),
            text,
        })
    }

    /// Sets the CPUs that may run the interrupt callback of a virtqueue.
    ///
    /// The virtio-vdpa driver overwrites it at each probe: write it after `DRIVER_OK`.
    pub fn set_irq_cb_affinity(&self, queue: u32, cpus: &[usize]) -> Result<(), SysfsError> {
        self.write(
            &format!("vq{queue}/irq_cb_affinity"),
            &cpumask::format(cpus),
            &IRQ_CB_AFFINITY,
        )
    }

    fn read(&self, file: &str, attribute: &Attribute) -> Result<String, SysfsError> {
        let path = self.folder.join(file);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim_end().to_owned()),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => Err(SysfsError::Missing {
                path,
                since: attribute.since,
            }),
            Err(reason) => Err(SysfsError::Other { path, reason }),
        }
    }

    fn read_number<T: FromStr>(&self, file: &str, attribute: &Attribute) -> Result<T, SysfsError> {
        let text = self.read(file, attribute)?;
        text.parse().map_err(|_| SysfsError::Malformed {
            path: self.folder.join(file),
            text: text.clone(),
        })
    }

    fn write(&self, file: &str, value: &str, attribute: &Attribute) -> Result<(), SysfsError> {
        let path = self.folder.join(file);
        // Opened without O_CREAT: a folder that is not sysfs must not grow files.
        let written = fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
        written.map_err(
            |reason| match Errno::from_raw(reason.raw_os_error().unwrap_or(0)) {
                Errno::ENOENT => SysfsError::Missing {
                    path,
                    since: attribute.since,
                },
                // EOVERFLOW: a CPU mask longer than the kernel's.
                Errno::EINVAL | Errno::EPERM | Errno::EACCES | Errno::EOVERFLOW | Errno::ERANGE => {
                    SysfsError::Refused {
                        path,
                        value: value.to_owned(),
                        rule: attribute.rule,
                    }
                }
                _ => SysfsError::Other { path, reason },
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Sysfs) {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("d0");
        fs::create_dir_all(folder.join("vq1")).unwrap();
        fs::write(folder.join("msg_timeout"), "30\n").unwrap();
        fs::write(folder.join("bounce_size"), "67108864\n").unwrap();
        fs::write(folder.join("vq1/irq_cb_affinity"), "3\n").unwrap();
        let sysfs = Sysfs::with_base(base.path(), &Name::try_from("d0").unwrap());
        (base, sysfs)
    }

    #[test]
    fn attributes_are_read() {
        let (_base, sysfs) = tree();
        assert_eq!(sysfs.msg_timeout_s().unwrap(), 30);
        assert_eq!(sysfs.bounce_size_bytes().unwrap(), 64 << 20);
        assert_eq!(sysfs.irq_cb_affinity(1).unwrap(), [0, 1]);
    }

    #[test]
    fn attributes_are_written_as_the_kernel_reads_them() {
        let (base, sysfs) = tree();
        let content = |file: &str| fs::read_to_string(base.path().join("d0").join(file)).unwrap();
        sysfs.set_msg_timeout_s(300).unwrap();
        assert!(content("msg_timeout").starts_with("300"));
        sysfs.set_irq_cb_affinity(1, &[4]).unwrap();
        assert!(content("vq1/irq_cb_affinity").starts_with("10"));
    }

    #[test]
    fn a_missing_attribute_names_the_release_and_is_not_created() {
        let (base, sysfs) = tree();
        fs::remove_file(base.path().join("d0/bounce_size")).unwrap();
        let error = sysfs
            .set_bounce_size_bytes(1 << 20)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("bounce_size") && error.contains("6.4"),
            "{error}"
        );
        assert!(!base.path().join("d0/bounce_size").exists());
        assert!(matches!(
            sysfs.irq_cb_affinity(0),
            Err(SysfsError::Missing { .. })
        ));
    }

    #[test]
    fn nonsense_is_malformed() {
        let (base, sysfs) = tree();
        fs::write(base.path().join("d0/msg_timeout"), "soon\n").unwrap();
        assert!(matches!(
            sysfs.msg_timeout_s(),
            Err(SysfsError::Malformed { .. })
        ));
    }
}
