//! qemu-storage-daemon with a vduse-blk or vhost-user-blk export, of null-co unless other storage is named.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::unistd::Pid;

use super::{ServerError, ServerKind, Setup, Variant, wait_until, wait_within};
use crate::interrupt::Interrupt;
use crate::process::Process;
use crate::tool::QEMU;
use crate::vdpa;

const NAME: &str = "bench-qemu";
/// Its nvme:// driver waits for ever, now and then, for the first interrupt of a controller: then it is started anew.
const STARTS_MAX: u32 = 4;
const EXPORT_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Qemu {
    process: Process,
    attached: bool,
    node: PathBuf,
}

impl Qemu {
    pub(super) fn start(
        variant: &Variant,
        setup: &Setup,
        interrupt: &Interrupt,
    ) -> Result<Self, ServerError> {
        let mut starts = 1;
        let (mut qemu, shown) = loop {
            match Self::export(variant, setup, interrupt) {
                Err(ServerError::NotReady { .. }) if starts < STARTS_MAX => starts += 1,
                exported => break exported?,
            }
        };
        let Some(driver) = setup.transport.vdpa_driver() else {
            return Ok(qemu);
        };
        if vdpa::is_attached(NAME) {
            // Left by a comparison that was killed, the only one beside us that the lock allows;
            // qemu-storage-daemon has taken the device over, so it can be detached.
            vdpa::del(NAME)?;
        }
        // Set first: an attach that fails half-way is undone as well.
        qemu.attached = true;
        let kind = ServerKind::Qemu;
        vdpa::add(NAME, driver)?;
        qemu.node = wait_until(kind, "disk", &mut qemu.process, &shown, interrupt, || {
            vdpa::node(NAME, driver).filter(|node| node.exists())
        })?;
        Ok(qemu)
    }

    /// Starts it and waits for its VDUSE device, or its socket. Returns it with its command line.
    fn export(
        variant: &Variant,
        setup: &Setup,
        interrupt: &Interrupt,
    ) -> Result<(Self, String), ServerError> {
        let mut command = Command::new(QEMU.find()?);
        command.args(arguments(variant, setup));
        let shown = format!("{command:?}").replace('"', "");
        let mut process = Process::spawn(command, &setup.cpus)?;
        let device = || Path::new("/dev/vduse").join(NAME);
        let exports_to = setup.socket(NAME).unwrap_or_else(device);
        let exported = wait_within(
            EXPORT_LIMIT,
            ServerKind::Qemu,
            "export",
            &mut process,
            &shown,
            interrupt,
            || exports_to.exists().then_some(()),
        );
        if let Err(ServerError::NotReady { .. }) = exported {
            // It does not look at SIGTERM then.
            process.kill()?;
        }
        exported?;
        let qemu = Self {
            process,
            attached: false,
            node: exports_to,
        };
        Ok((qemu, shown))
    }

    pub(super) fn node(&self) -> &Path {
        &self.node
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }

    pub(super) fn stop(mut self) -> Result<(), ServerError> {
        self.tear_down()
    }

    /// Detaches first: a device that is attached cannot be destroyed, and would stay behind.
    fn tear_down(&mut self) -> Result<(), ServerError> {
        let detached = if self.attached {
            vdpa::del(NAME)
        } else {
            Ok(())
        };
        self.attached = false;
        self.process.stop()?;
        Ok(detached?)
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        if let Err(error) = self.tear_down() {
            eprintln!("{error}");
        }
    }
}

/// read-zeroes stays off, as QEMU has it: null-co then does the least work.
fn arguments(variant: &Variant, setup: &Setup) -> [String; 4] {
    let (queues, entries) = (setup.queues(), setup.queue_size);
    let null = || format!("driver=null-co,size={}", setup.size_bytes);
    let export = match setup.socket(NAME) {
        // The driver says how many entries a queue has.
        Some(socket) => format!(
            "type=vhost-user-blk,addr.type=unix,addr.path={}",
            socket.display()
        ),
        None => format!("type=vduse-blk,name={NAME},queue-size={entries}"),
    };
    let storage = variant.value("blockdev").map_or_else(null, str::to_owned);
    [
        "--blockdev".to_owned(),
        format!("{storage},node-name=n"),
        "--export".to_owned(),
        format!("{export},id=e,node-name=n,writable=on,num-queues={queues}"),
    ]
}
