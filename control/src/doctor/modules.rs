//! Kernel modules and their parameters.

use super::Finding;
use super::host::{Host, module_name};

/// Whether code of a module can run.
#[derive(Debug, PartialEq, Eq)]
enum Module {
    Loaded,
    BuiltIn,
    Loadable,
    Unavailable,
}

pub(super) fn findings(host: &Host) -> Vec<Finding> {
    vec![
        module(host, "vduse", "module vduse", Finding::missing),
        module(host, "virtio_vdpa", "module virtio_vdpa", Finding::missing),
        module(host, "virtio_blk", "module virtio_blk", Finding::missing),
        module(host, "vhost_vdpa", "module vhost_vdpa", Finding::warning),
        poll_queues(host),
    ]
}

type Bad = fn(&'static str, String, String) -> Finding;

fn module(host: &Host, name: &str, check: &'static str, bad: Bad) -> Finding {
    match state(host, name) {
        Module::Loaded => Finding::good(check, "loaded"),
        Module::BuiltIn => Finding::good(check, "built into the kernel"),
        Module::Loadable => bad(check, "not loaded".into(), load(host, name)),
        Module::Unavailable => {
            let detail = format!("not part of kernel {}", host.release());
            bad(check, detail, load(host, name))
        }
    }
}

/// The step that gets a module loaded.
pub(super) fn load(host: &Host, name: &str) -> String {
    match state(host, name) {
        Module::Unavailable => host.kernel_remedy(),
        _ => format!("modprobe {name}"),
    }
}

fn state(host: &Host, name: &str) -> Module {
    let folder = format!("/lib/modules/{}", host.release());
    let lists = |file: &str| {
        let text = host.read(&format!("{folder}/{file}")).unwrap_or_default();
        let paths = text
            .lines()
            .map(|line| line.split(':').next().unwrap_or(line));
        paths.filter_map(module_name).any(|module| module == name)
    };
    if lists("modules.builtin") {
        Module::BuiltIn
    } else if host.exists(&format!("/sys/module/{name}")) {
        Module::Loaded
    } else if lists("modules.dep") {
        Module::Loadable
    } else {
        Module::Unavailable
    }
}

/// Queues of a virtio disk that applications poll themselves, without interrupts.
fn poll_queues(host: &Host) -> Finding {
    const CHECK: &str = "virtio_blk.poll_queues";
    const PARAMETER: &str = "/sys/module/virtio_blk/parameters/poll_queues";
    let module = state(host, "virtio_blk");
    match host.read(PARAMETER).as_deref().map(str::parse::<u32>) {
        Some(Ok(queues)) if queues > 0 => Finding::good(
            CHECK,
            format!("{queues}; a disk needs more queues than that to use them"),
        ),
        _ if module == Module::Loadable => {
            let remedy = "modprobe virtio_blk poll_queues=1";
            Finding::warning(CHECK, "virtio_blk is not loaded yet", remedy)
        }
        Some(_) => Finding::warning(CHECK, NO_POLL_QUEUES, set_poll_queues(host, &module)),
        None => {
            let detail = "this kernel's virtio_blk has no poll queues (Linux 5.19 brought them)";
            Finding::warning(CHECK, detail, host.kernel_remedy())
        }
    }
}

const NO_POLL_QUEUES: &str =
    "0: disks cannot be polled by applications (fio --hipri), the fastest way over virtio-vdpa";

fn set_poll_queues(host: &Host, module: &Module) -> &'static str {
    let in_use = !host.names("/sys/block", "vd").is_empty();
    match module {
        Module::BuiltIn => "add virtio_blk.poll_queues=1 to the kernel command line, and reboot",
        _ if in_use => {
            "echo options virtio_blk poll_queues=1 > /etc/modprobe.d/pollux.conf && \
             update-initramfs -u && reboot"
        }
        _ => "modprobe -r virtio_blk && modprobe virtio_blk poll_queues=1",
    }
}
