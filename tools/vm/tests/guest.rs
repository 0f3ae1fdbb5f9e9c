//! Runs commands in real machines: minutes under TCG, so only with `--features vm`.
#![cfg(feature = "vm")]

use std::fs;
use std::time::Duration;

use pollux_vm::{Cache, End, GuestFile, Outcome, Output, VmSpec};

/// Enough to boot on a busy host without KVM.
const BOOT_S: u64 = 60;

struct Ran {
    outcome: Outcome,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ran {
    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

fn shell(script: &str) -> VmSpec {
    VmSpec {
        timeout: Duration::from_secs(3 * BOOT_S),
        memory_mib: 1024,
        ..VmSpec::new(["sh", "-c", script])
    }
}

fn run(spec: &VmSpec) -> Ran {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let output = Output {
        stdout: &mut stdout,
        stderr: &mut stderr,
    };
    let outcome = spec.run(&Cache::of_user().unwrap(), output, &|line| {
        eprintln!("{line}")
    });
    Ran {
        outcome: outcome.unwrap(),
        stdout,
        stderr,
    }
}

#[test]
fn streams_are_separate_and_binary_safe_and_files_go_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().join("bytes");
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
        .collect();
    fs::write(&host, &bytes).unwrap();
    let kernels: &[&str] = match cfg!(feature = "uml") {
        true => &["6.12", "uml"],
        false => &["6.12"],
    };
    for kernel in kernels {
        let out = dir.path().join(kernel);
        let spec = VmSpec {
            kernel: kernel.parse().unwrap(),
            files: vec![GuestFile {
                host: host.clone(),
                guest: None,
            }],
            env: vec![("WORD".into(), "it's \"here\"".into())],
            out: Some(out.clone()),
            ..shell(
                "cat bytes; printf %s \"$WORD\" >/dev/stderr; echo gone </dev/stdin >&2
                 mkdir /out/d; cp bytes /out/d; exit 7",
            )
        };
        let ran = run(&spec);
        let log = ran.outcome.log.text();
        assert_eq!(ran.outcome.end, End::Exited(7), "{log}");
        let (printed, whole) = (ran.stdout.len(), bytes.len());
        assert!(ran.stdout == bytes, "{printed} of {whole} bytes");
        assert_eq!(ran.stderr, b"it's \"here\"gone\n");
        assert!(fs::read(out.join("d/bytes")).unwrap() == bytes);
        assert!(ran.outcome.boot.unwrap() > Duration::ZERO);
    }
}

#[cfg(feature = "uml")]
#[test]
fn user_mode_linux_has_vduse_and_ends_like_a_machine() {
    let uml = |spec| VmSpec {
        kernel: "uml".parse().unwrap(),
        ..spec
    };
    let ran = run(&uml(shell(
        "test -c /dev/vduse/control && vdpa mgmtdev show | grep -q '^vduse' && nproc",
    )));
    let log = ran.outcome.log.text();
    assert_eq!(ran.outcome.end, End::Exited(0), "{log}");
    assert_eq!(ran.stdout(), "2\n");
    let ran = run(&uml(VmSpec {
        append: vec!["rdinit=/no-such-init".into()],
        ..shell("true")
    }));
    let log = ran.outcome.log.text();
    assert_eq!(ran.outcome.end, End::Panicked, "{log}");
    let timeout = Duration::from_secs(20);
    let ran = run(&uml(VmSpec {
        timeout,
        ..shell("echo before; sleep 12345")
    }));
    let log = ran.outcome.log.text();
    assert_eq!(ran.outcome.end, End::TimedOut, "{log}");
    assert_eq!(ran.stdout(), "before\n");
}

#[test]
fn vduse_is_there_and_modules_take_parameters() {
    let spec = VmSpec {
        modules: vec![
            "virtio_blk=poll_queues=1".parse().unwrap(),
            "tun".parse().unwrap(),
        ],
        ..shell(
            "test -c /dev/vduse/control && vdpa mgmtdev show | grep -q '^vduse' && echo vduse
             cat /sys/module/virtio_blk/parameters/poll_queues
             modprobe xfs && grep -w xfs /proc/filesystems
             test -d /sys/class/net/lo && ls /dev/net/tun",
        )
    };
    let ran = run(&spec);
    assert_eq!(
        ran.outcome.end,
        End::Exited(0),
        "{}",
        ran.outcome.log.text()
    );
    assert_eq!(ran.stdout(), "vduse\n1\n\txfs\n/dev/net/tun\n");
}

#[test]
fn nvme_controllers_have_two_namespaces_and_can_be_given_to_user_space() {
    for kernel in ["6.12", "newest"] {
        let spec = VmSpec {
            kernel: kernel.parse().unwrap(),
            nvme: 2,
            modules: vec!["nvme=poll_queues=2".parse().unwrap()],
            ..shell(
                "cat /sys/module/nvme/parameters/poll_queues
                 for address in 0000:00:10.0 0000:00:11.0; do
                     device=/sys/bus/pci/devices/$address
                     until controller=$(ls $device/nvme 2>/dev/null); do sleep 0.1; done
                     # The kernel numbers them in the order in which it finds them.
                     for n in 1 2; do
                         until [ -b /dev/${controller}n$n ]; do sleep 0.1; done
                         test -c /dev/ng${controller#nvme}n$n
                         disk=/sys/block/${controller}n$n
                         echo $(cat $disk/nsid $disk/queue/logical_block_size $disk/size)
                     done >namespaces
                     sort namespaces
                     cat $device/nvme/*/serial
                 done
                 modprobe vfio_pci
                 echo $address >$device/driver/unbind
                 echo vfio-pci >$device/driver_override
                 echo $address >/sys/bus/pci/drivers_probe
                 test -c /dev/vfio/$(basename $(readlink $device/iommu_group)) && echo vfio
                 modprobe -a nvmet nvmet_tcp nvme_tcp nvme_loop && echo fabrics",
            )
        };
        let ran = run(&spec);
        let log = ran.outcome.log.text();
        assert_eq!(ran.outcome.end, End::Exited(0), "{log}");
        let words: Vec<String> = ran.stdout().split_whitespace().map(Into::into).collect();
        let sizes = ["1", "512", "524288", "2", "4096", "524288"];
        let controller = |serial| sizes.into_iter().chain([serial]);
        let expected: Vec<&str> = std::iter::once("2")
            .chain(controller("pollux0"))
            .chain(controller("pollux1"))
            .chain(["vfio", "fabrics"])
            .collect();
        assert_eq!(words, expected, "{log}");
    }
}

#[test]
fn the_newest_kernel_is_newer() {
    let spec = VmSpec {
        kernel: "newest".parse().unwrap(),
        ..shell("uname -r")
    };
    let ran = run(&spec);
    assert_eq!(
        ran.outcome.end,
        End::Exited(0),
        "{}",
        ran.outcome.log.text()
    );
    let major: u32 = ran.stdout().split('.').next().unwrap().parse().unwrap();
    assert!(major >= 7, "{}", ran.stdout());
}

#[test]
fn tracing_leaves_the_scheduler_alone() {
    for kernel in ["6.12", "newest"] {
        let spec = VmSpec {
            kernel: kernel.parse().unwrap(),
            ..shell("mount -t tracefs tracefs /mnt && cat /mnt/options/record-cmd")
        };
        let ran = run(&spec);
        assert_eq!(ran.stdout(), "0\n", "{}", ran.outcome.log.text());
    }
}

#[test]
fn a_panic_is_told_apart() {
    let ran = run(&shell(
        // What was written reaches the host a moment later, on a machine that is busy.
        "echo before; sleep 2; echo c >/proc/sysrq-trigger; sleep 1000",
    ));
    assert_eq!(ran.outcome.end, End::Panicked, "{}", ran.outcome.log.text());
    assert!(ran.outcome.log.text().contains("sysrq triggered crash"));
    assert_eq!(ran.stdout(), "before\n");
}

#[test]
fn the_time_limit_holds_and_the_log_shows_what_waited() {
    let timeout = Duration::from_secs(BOOT_S);
    let ran = run(&VmSpec {
        timeout,
        ..shell("echo before; sleep 12345")
    });
    assert_eq!(ran.outcome.end, End::TimedOut, "{}", ran.outcome.log.text());
    assert_eq!(ran.stdout(), "before\n");
    assert!(
        ran.outcome.log.text().contains("sleep 12345"),
        "{}",
        ran.outcome.log.text()
    );
}

#[test]
fn a_guest_that_is_not_heard_has_frozen_and_its_registers_are_shown() {
    let ran = run(&VmSpec {
        silence_max: Duration::from_secs(40),
        ..shell(
            "echo before
             for process in $(ps -o pid,args | grep '[0-9] {init}' | cut -c 1-5); do kill -STOP $process; done
             sleep 12345",
        )
    });
    let log = ran.outcome.log.text();
    assert_eq!(ran.outcome.end, End::Frozen, "{log}");
    assert_eq!(ran.stdout(), "before\n");
    assert!(
        log.contains("RIP=") && log.contains("thread qemu-system"),
        "{log}"
    );
}

#[test]
fn a_guest_that_powers_off_has_failed() {
    let ran = run(&shell("poweroff -f"));
    let End::Failed(reason) = &ran.outcome.end else {
        panic!("{:?}", ran.outcome.end)
    };
    assert!(
        reason.contains("powered off before the command ended"),
        "{reason}"
    );
}

#[test]
fn signals_and_missing_programs_give_the_shells_codes() {
    assert_eq!(
        run(&VmSpec::new(["no-such-program"])).outcome.end,
        End::Exited(127)
    );
    assert_eq!(run(&shell("kill -9 $$")).outcome.end, End::Exited(137));
}

#[test]
fn a_kernel_that_does_not_start_is_a_failure() {
    let spec = VmSpec {
        append: vec!["rdinit=/no-such-init".into()],
        ..shell("true")
    };
    let ran = run(&spec);
    assert_eq!(ran.outcome.end, End::Panicked, "{}", ran.outcome.log.text());
    assert_eq!(ran.outcome.boot, None);
}
