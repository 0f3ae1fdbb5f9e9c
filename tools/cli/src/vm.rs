//! `pollux vm`: commands inside a throw-away virtual machine with VDUSE.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use pollux_vm::{
    Accel, Cache, End, Error, GuestFile, Init, Kernel, KernelName, Module, Outcome, Output, VmSpec,
};

/// The guest froze: nothing of it was heard any more.
const EXIT_FROZEN: u8 = 123;
/// The guest did not end the command within the limit (as timeout(1) has it).
const EXIT_TIMED_OUT: u8 = 124;
/// The guest panicked, did not boot, or could not be made (as docker-run(1) has it).
const EXIT_VM_FAILED: u8 = 125;

/// Runs a command in a throw-away virtual machine with VDUSE.
#[derive(Debug, Args)]
pub(crate) struct VmArgs {
    #[command(subcommand)]
    command: VmCommand,
}

#[derive(Debug, Subcommand)]
enum VmCommand {
    Run(Box<RunArgs>),
    Update(UpdateArgs),
    BuildUml(BuildUmlArgs),
    /// Lists the kernels in the cache
    List,
}

/// Runs CMD as root in a new machine and passes on its stdout, stderr and exit code
///
/// The guest has the modules vduse, virtio_vdpa, vhost_vdpa and virtio_blk loaded, and pollux,
/// fio, vdpa, qemu-storage-daemon, mkfs and fsck for ext4 and xfs, bash and busybox in PATH, and
/// rublk where this host has it or tools/peers built it.
///
/// Exit codes: CMD's own; 123 when the guest froze; 124 when the time limit was reached; 125 when the
/// guest panicked, did not boot or could not be made. Then, and when CMD failed and the kernel warned of something,
/// the guest's log is shown on stderr.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  pollux vm run --kernel newest -- pollux doctor
  pollux vm run --engine uml -- pollux bench compare --transport vduse-vhost"
)]
struct RunArgs {
    /// A kernel series of this machine's Debian release, or the newest in stable's backports
    #[arg(long, default_value = "6.12", value_name = "6.12|newest")]
    kernel: KernelName,
    /// What runs the kernel
    #[arg(long, value_enum, default_value_t = Engine::Qemu)]
    engine: Engine,
    /// Look for a newer release of the kernel even if one is in the cache
    #[arg(long)]
    refresh: bool,
    /// Virtual CPUs
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Memory, with suffix M or G
    #[arg(long, default_value = "4G", value_parser = parse_mib)]
    memory: u64,
    /// Add emulated NVMe controllers, at 0000:00:10.0 and on, and an IOMMU; each has two namespaces
    /// of 256 MiB, of 512-byte and of 4096-byte blocks
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    nvme: u32,
    /// Keep the namespaces as images in a folder of this host, where the next run finds them; a machine
    /// that is killed loses what it has not flushed [default: in memory]
    #[arg(long, value_name = "DIR")]
    nvme_images: Option<PathBuf>,
    /// Seconds from power-on to the command's end
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    timeout: u64,
    /// How the CPUs are run
    #[arg(long, value_enum, default_value_t = AccelArg::Auto)]
    accel: AccelArg,
    /// What runs as process 1: a script (plain), or Debian's systemd, fetched once, of which CMD is a unit
    /// then; the guest has udev and dpkg, too
    #[arg(long, value_enum, default_value_t = InitArg::Plain)]
    init: InitArg,
    /// Load a module, or set parameters of one: virtio_blk=poll_queues=1
    #[arg(long = "module", value_name = "NAME[=PARAM=VALUE,...]")]
    modules: Vec<Module>,
    /// Give the guest a file or folder; programs go to /usr/local/bin, the rest to /root
    #[arg(long = "file", value_name = "HOST[:GUEST]")]
    files: Vec<GuestFile>,
    /// Set a variable in the command's environment
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_env)]
    env: Vec<(String, String)>,
    /// Take what the command leaves in the guest's /out
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Further word of the kernel's command line
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    append: Vec<String>,
    /// Further argument of QEMU
    #[arg(long = "qemu-arg", value_name = "ARG", allow_hyphen_values = true)]
    qemu_args: Vec<String>,
    /// Write the guest's log to a file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// No progress on stderr
    #[arg(long, short)]
    quiet: bool,
    /// The command and its arguments, run without a shell
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// A virtual machine with a Debian kernel
    Qemu,
    /// None: user-mode Linux, built when it is not in the cache, boots in half a second as a process. User code runs at this
    /// machine's own speed there, system calls take microseconds. It has no NVMe and no modules
    Uml,
}

/// Builds user-mode Linux with VDUSE from Debian's newest kernel sources, for --engine uml
///
/// It takes some minutes and 2 GiB meanwhile. The kernel stays in the cache.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pollux vm build-uml")]
struct BuildUmlArgs {}

/// Fetches the newest releases of kernels
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  pollux vm update newest")]
struct UpdateArgs {
    /// Which; all that are in the cache when none is named
    #[arg(value_name = "6.12|newest|uml")]
    kernels: Vec<KernelName>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AccelArg {
    /// KVM if a guest boots with it, else TCG
    Auto,
    Kvm,
    Tcg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum InitArg {
    Plain,
    Systemd,
}

/// Runs the subcommand and returns the exit code.
pub(crate) fn main(args: VmArgs) -> ExitCode {
    let (done, code_of_error) = match args.command {
        VmCommand::Run(args) => (run(*args), EXIT_VM_FAILED),
        VmCommand::Update(args) => (update(&args.kernels).map(|()| 0), 1),
        VmCommand::BuildUml(BuildUmlArgs {}) => (update(&[KernelName::Uml]).map(|()| 0), 1),
        VmCommand::List => (list().map(|()| 0), 1),
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        eprintln!("pollux vm: {error}");
        code_of_error
    }))
}

fn run(args: RunArgs) -> Result<u8, Error> {
    let cache = Cache::of_user()?;
    let progress = |line: &str| {
        if !args.quiet {
            eprintln!("pollux vm: {line}");
        }
    };
    let spec = spec(&args)?;
    if args.refresh {
        Kernel::update(&cache, &spec.kernel, &progress)?;
    }
    let log_file = args.log.clone();
    let (mut stdout, mut stderr) = (io::stdout(), io::stderr());
    let output = Output {
        stdout: &mut stdout,
        stderr: &mut stderr,
    };
    let outcome = spec.run(&cache, output, &progress)?;
    if let Some(path) = log_file {
        std::fs::write(&path, outcome.log.text()).map_err(|source| Error::File {
            path,
            action: "writing the guest's log",
            source,
        })?;
    }
    Ok(report(&spec, &outcome))
}

/// Returns the machine asked for; it also gets this very program.
fn spec(args: &RunArgs) -> Result<VmSpec, Error> {
    let this = std::env::current_exe().map_err(|source| Error::File {
        path: "pollux".into(),
        action: "finding this program",
        source,
    })?;
    let mut files = vec![GuestFile {
        host: this,
        guest: Some("/usr/local/bin/pollux".into()),
    }];
    files.extend(args.files.iter().cloned());
    Ok(VmSpec {
        kernel: match args.engine {
            Engine::Qemu => args.kernel.clone(),
            Engine::Uml => KernelName::Uml,
        },
        cpus: args.cpus,
        memory_mib: args.memory,
        nvme: args.nvme,
        nvme_images: args.nvme_images.clone(),
        timeout: Duration::from_secs(args.timeout),
        accel: match args.accel {
            AccelArg::Auto => None,
            AccelArg::Kvm => Some(Accel::Kvm),
            AccelArg::Tcg => Some(Accel::Tcg),
        },
        init: match args.init {
            InitArg::Plain => Init::Plain,
            InitArg::Systemd => Init::Systemd,
        },
        modules: args.modules.clone(),
        append: args.append.clone(),
        qemu_args: args.qemu_args.clone(),
        files,
        env: args.env.clone(),
        out: args.out.clone(),
        ..VmSpec::new(args.command.iter().cloned())
    })
}

/// Says what went wrong, with the guest's log, and returns the exit code.
fn report(spec: &VmSpec, outcome: &Outcome) -> u8 {
    let (code, trouble) = match &outcome.end {
        End::Exited(0) => return 0,
        End::Exited(code) => {
            let warning = outcome.log.warning();
            let text = warning.map(|line| format!("the guest's kernel warned: {line}"));
            (u8::try_from(*code).unwrap_or(EXIT_VM_FAILED), text)
        }
        End::TimedOut => {
            let limit = spec.timeout.as_secs();
            let text = format!("time limit of {limit} s reached; raise it with --timeout");
            (EXIT_TIMED_OUT, Some(text))
        }
        End::Panicked => (
            EXIT_VM_FAILED,
            Some("the guest's kernel panicked".to_owned()),
        ),
        End::Frozen => {
            let limit = spec.silence_max.as_secs();
            let text = format!("the guest froze: nothing of it was heard for {limit} s");
            (EXIT_FROZEN, Some(text))
        }
        End::Failed(reason) => (
            EXIT_VM_FAILED,
            Some(format!("the machine failed: {reason}")),
        ),
    };
    if let Some(text) = trouble {
        let log = outcome.log.text();
        let mut stderr = io::stderr().lock();
        // Nobody is left to tell when stderr is gone.
        if !log.is_empty() {
            let _ = writeln!(stderr, "--- guest log ---\n{log}--- end of guest log ---");
        }
        let _ = writeln!(stderr, "pollux vm: {text}");
    }
    code
}

fn update(kernels: &[KernelName]) -> Result<(), Error> {
    let cache = Cache::of_user()?;
    let progress = |line: &str| eprintln!("pollux vm: {line}");
    let cached = || {
        Kernel::list(&cache)
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    let names: Vec<KernelName> = if kernels.is_empty() {
        cached()
    } else {
        kernels.to_vec()
    };
    for name in names {
        let kernel = Kernel::update(&cache, &name, &progress)?;
        println!("{name}\t{}", kernel.release);
    }
    Ok(())
}

fn list() -> Result<(), Error> {
    for (name, kernel) in Kernel::list(&Cache::of_user()?) {
        println!("{name}\t{}", kernel.release);
    }
    Ok(())
}

fn parse_mib(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.strip_suffix(['G', 'g']) {
        Some(number) => (number, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let mib = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    mib.ok_or_else(|| format!("'{text}' is not a size such as 512M or 4G"))
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(n, v)| (n.into(), v.into()))
        .ok_or_else(|| format!("'{text}' is not NAME=VALUE"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes() {
        assert_eq!(parse_mib("4G"), Ok(4096));
        assert_eq!(parse_mib("512M"), Ok(512));
        assert_eq!(parse_mib("512"), Ok(512));
        for bad in ["", "G", "4T", "-1", "99999999999999999999G"] {
            assert!(parse_mib(bad).is_err(), "{bad}");
        }
    }
}
