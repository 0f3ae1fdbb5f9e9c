//! What to run and in what machine.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::error::Error;
use crate::kernel::KernelName;
use crate::modules;

/// Longest time limit: beyond it a machine is no longer a throw-away one.
const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most NVMe controllers: more would meet what else is on the root bus.
const NVME_MAX: u32 = 8;

/// A virtual machine and the command to run in it.
#[derive(Debug, Clone)]
pub struct VmSpec {
    /// The kernel.
    pub kernel: KernelName,
    /// Number of virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Time for everything from power-on to the command's end.
    pub timeout: Duration,
    /// Longest time in which nothing of the guest is heard, whose init tells every 5 s that it lives.
    pub silence_max: Duration,
    /// Number of emulated NVMe controllers; with any there is an IOMMU too. Each has two namespaces of 256 MiB,
    /// of 512-byte and of 4096-byte blocks.
    pub nvme: u32,
    /// Folder of the host that keeps the namespaces, as images that outlive the machine and lose what was not flushed
    /// when it is killed; None keeps them in memory.
    pub nvme_images: Option<PathBuf>,
    /// What runs as process 1.
    pub init: Init,
    /// How QEMU runs the CPUs; None finds out whether KVM works.
    pub accel: Option<Accel>,
    /// Modules to load beside those for VDUSE, and parameters of any module.
    pub modules: Vec<Module>,
    /// Further words of the kernel's command line.
    pub append: Vec<String>,
    /// Further arguments of QEMU.
    pub qemu_args: Vec<String>,
    /// Files and folders of the host that the guest gets.
    pub files: Vec<GuestFile>,
    /// Environment of the command.
    pub env: Vec<(String, String)>,
    /// Folder of the host that takes what the command leaves in the guest's /out.
    pub out: Option<PathBuf>,
    /// The command and its arguments; run without a shell, as root, in /root.
    pub command: Vec<String>,
}

impl VmSpec {
    /// Returns a machine with 2 CPUs, 4 GiB, kernel 6.12, a limit of ten minutes, and of two minutes of silence.
    pub fn new<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self {
            kernel: KernelName::Series("6.12".to_owned()),
            cpus: 2,
            memory_mib: 4096,
            timeout: Duration::from_secs(600),
            silence_max: Duration::from_secs(120),
            nvme: 0,
            nvme_images: None,
            init: Init::Plain,
            accel: None,
            modules: Vec::new(),
            append: Vec::new(),
            qemu_args: Vec::new(),
            files: Vec::new(),
            env: Vec::new(),
            out: None,
            command: command.into_iter().map(Into::into).collect(),
        }
    }

    /// Refuses what no guest could be made of.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |text: String| Err(Error::Invalid(text));
        if self.command.is_empty() {
            return invalid("command: empty; name a program after --".into());
        }
        if self.cpus == 0 {
            return invalid("cpus 0: a machine needs at least 1".into());
        }
        if self.memory_mib < 512 {
            return invalid(format!(
                "memory {} MiB: too little; use 512M or more",
                self.memory_mib
            ));
        }
        if self.timeout.is_zero() || self.timeout > TIMEOUT_MAX {
            return invalid("timeout: must be between 1 second and 7 days".into());
        }
        if self.nvme > NVME_MAX {
            return invalid(format!(
                "nvme {}: too many controllers; use at most {NVME_MAX}",
                self.nvme
            ));
        }
        if self.kernel == KernelName::Uml {
            self.check_uml()?;
        }
        for file in self.files.iter().filter_map(|file| file.guest.as_deref()) {
            if !file.starts_with('/') || file.split('/').any(|part| part == "..") {
                return invalid(format!(
                    "guest path '{file}': must be absolute, without '..'"
                ));
            }
        }
        let word = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match self
            .env
            .iter()
            .find(|(name, _)| name.is_empty() || !word(name))
        {
            Some((name, _)) => invalid(format!("environment '{name}': not a variable's name")),
            None => Ok(()),
        }
    }

    /// Refuses what only a machine of QEMU's has.
    fn check_uml(&self) -> Result<(), Error> {
        let asked = [
            ("nvme", self.nvme > 0),
            ("accel", self.accel.is_some()),
            ("init", self.init != Init::Plain),
            ("qemu-arg", !self.qemu_args.is_empty()),
        ];
        match asked.into_iter().find(|(_, is_asked)| *is_asked) {
            Some((what, _)) => Err(Error::Invalid(format!(
                "{what}: user-mode Linux has no such thing; leave out --engine uml"
            ))),
            None => Ok(()),
        }
    }

    /// Returns the words of the kernel's command line for a machine of QEMU's.
    pub(crate) fn cmdline(&self) -> String {
        // Panics end the machine at once (-no-reboot). TCG has nothing to mitigate. To note the names of
        // traced tasks, the kernel patches its scheduler, and TCG was seen to run it half-patched.
        let fixed = [
            "console=ttyS0",
            "panic=-1",
            "mitigations=off",
            "trace_options=norecord-cmd",
            "rdinit=/init",
        ];
        let mut words: Vec<String> = fixed.iter().map(|word| (*word).to_owned()).collect();
        if self.nvme > 0 {
            words.push("intel_iommu=on".to_owned());
        }
        if self.init == Init::Systemd {
            // What is made at a first boot takes seconds, and no run would use it.
            words.push("systemd.condition-needs-update=0".to_owned());
        }
        words.extend(self.further_words());
        words.join(" ")
    }

    /// Returns the words of any kernel's command line that were asked for.
    pub(crate) fn further_words(&self) -> Vec<String> {
        let modules = self.modules.iter();
        let params = modules.flat_map(|module| {
            let of_module = move |param| format!("{}.{param}", module.name);
            module.params.iter().map(of_module)
        });
        params.chain(self.append.iter().cloned()).collect()
    }
}

/// What runs as process 1 of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    /// A script that runs the command.
    Plain,
    /// Debian's systemd, of which the command is a unit; the guest has udev and dpkg, too.
    Systemd,
}

/// How the guest's CPUs are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// By QEMU, on the host's CPU.
    Kvm,
    /// By QEMU, by translation: slower, but works everywhere.
    Tcg,
    /// As processes of the host, which user-mode Linux is made of.
    Uml,
}

impl Accel {
    /// Returns the name QEMU has for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
            Self::Uml => "uml",
        }
    }
}

/// A kernel module and its parameters: `NAME[=PARAM=VALUE[,PARAM=VALUE]...]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// `PARAM=VALUE` words; passed on the kernel's command line, which also reaches modules that
    /// are built in.
    pub params: Vec<String>,
}

impl FromStr for Module {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, params) = text
            .split_once('=')
            .map_or((text, None), |(n, p)| (n, Some(p)));
        let params: Vec<String> = params
            .into_iter()
            .flat_map(|p| p.split(','))
            .map(Into::into)
            .collect();
        let name_ok = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        };
        let param_ok = |param: &String| {
            param
                .split_once('=')
                .is_some_and(|(n, v)| name_ok(n) && !v.contains([' ', '\t', '"']))
        };
        if !name_ok(name) || !params.iter().all(param_ok) {
            return Err(Error::Invalid(format!(
                "module '{text}': not NAME or NAME=PARAM=VALUE[,PARAM=VALUE]; for example \
                 virtio_blk=poll_queues=1"
            )));
        }
        Ok(Self {
            name: modules::module_name(name),
            params,
        })
    }
}

/// A file or folder of the host that the guest gets: `HOST[:GUEST]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Its path on the host.
    pub host: PathBuf,
    /// Its path in the guest; None puts programs into /usr/local/bin and the rest into /root.
    pub guest: Option<String>,
}

impl FromStr for GuestFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (host, guest) = match text.split_once(':') {
            Some((host, guest)) => (host, Some(guest.to_owned())),
            None => (text, None),
        };
        if host.is_empty() || guest.as_deref() == Some("") {
            return Err(Error::Invalid(format!(
                "file '{text}': not HOST or HOST:GUEST"
            )));
        }
        Ok(Self {
            host: host.into(),
            guest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_their_parameters() {
        let module: Module = "virtio-blk=poll_queues=1,queue_depth=64".parse().unwrap();
        assert_eq!(module.name, "virtio_blk");
        assert_eq!(module.params, ["poll_queues=1", "queue_depth=64"]);
        assert!("xfs".parse::<Module>().unwrap().params.is_empty());
        for bad in ["", "=x=1", "a b", "a=", "a=x", "a=x=1 2"] {
            assert!(bad.parse::<Module>().is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_reach_the_kernels_command_line() {
        let spec = VmSpec {
            modules: vec!["nvme=poll_queues=2".parse().unwrap()],
            append: vec!["nosmp".into()],
            ..VmSpec::new(["true"])
        };
        assert!(
            spec.cmdline().ends_with(" nvme.poll_queues=2 nosmp"),
            "{}",
            spec.cmdline()
        );
    }

    #[test]
    fn an_iommu_comes_with_nvme_controllers() {
        let mut spec = VmSpec::new(["true"]);
        assert!(!spec.cmdline().contains("iommu"));
        spec.nvme = 1;
        assert!(spec.cmdline().contains(" intel_iommu=on"));
    }

    #[test]
    fn files() {
        let file: GuestFile = "a/b:/root/c".parse().unwrap();
        assert_eq!(
            file,
            GuestFile {
                host: "a/b".into(),
                guest: Some("/root/c".into())
            }
        );
        assert_eq!("a".parse::<GuestFile>().unwrap().guest, None);
        assert!("a:".parse::<GuestFile>().is_err());
    }

    #[test]
    fn impossible_machines_are_refused() {
        let good = VmSpec::new(["true"]);
        assert!(good.check().is_ok());
        let empty: [&str; 0] = [];
        let file = GuestFile {
            host: "a".into(),
            guest: Some("rel/path".into()),
        };
        for bad in [
            VmSpec::new(empty),
            VmSpec {
                cpus: 0,
                ..good.clone()
            },
            VmSpec {
                memory_mib: 100,
                ..good.clone()
            },
            VmSpec {
                timeout: Duration::MAX,
                ..good.clone()
            },
            VmSpec {
                nvme: NVME_MAX + 1,
                ..good.clone()
            },
            VmSpec {
                kernel: KernelName::Uml,
                nvme: 1,
                ..good.clone()
            },
            VmSpec {
                files: vec![file],
                ..good.clone()
            },
            VmSpec {
                env: vec![("A B".into(), String::new())],
                ..good.clone()
            },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
