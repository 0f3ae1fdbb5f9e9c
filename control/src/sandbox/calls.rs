//! The system calls of each kind of thread.
//!
//! What of a worker's is not on the data path is for starting and stopping a queue, for memory of a driver that comes, goes
//! or is not there, for giving storage up, and for the thread's end.

use nix::libc;
use nix::libc::c_long;

use super::filter::{Call, With};

/// What the storage of a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorageCalls {
    /// None.
    None,
    /// Memory, of which holes are punched and which is written to a file.
    Memory,
    /// An io_uring, and the erasing that it cannot do.
    Ring,
    /// A controller through VFIO.
    Vfio,
    /// Any of these.
    Any,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerCalls {
    /// For its storage.
    pub(crate) storage: StorageCalls,
    /// Whether it interrupts through VDUSE; otherwise eventfds do.
    pub(crate) is_vduse: bool,
    /// Whether it serves the queues of many devices.
    pub(crate) is_shared: bool,
}

pub(super) const fn any(number: c_long) -> Call {
    let with = With::Any;
    Call { number, with }
}

const fn ioctl(request: u64) -> Call {
    Call {
        number: libc::SYS_ioctl,
        with: With::Argument(1, request as u32),
    }
}

const fn register(operation: u32) -> Call {
    Call {
        number: libc::SYS_io_uring_register,
        with: With::Argument(1, operation),
    }
}

/// Memory, but none that can be executed.
const fn map(number: c_long) -> Call {
    let with = With::NoBits(2, libc::PROT_EXEC as u32);
    Call { number, with }
}

/// A look before closing, in debug builds.
const FCNTL_GETFD: Call = Call {
    number: libc::SYS_fcntl,
    with: With::Argument(1, libc::F_GETFD as u32),
};

/// Of every worker.
const EVERY: &[Call] = &[
    // Eventfds: commands and answers, kicks and interrupts.
    any(libc::SYS_read),
    any(libc::SYS_write),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_poll),
    any(libc::SYS_ppoll),
    // A poll that was stopped goes on.
    any(libc::SYS_restart_syscall),
    any(libc::SYS_futex),
    any(libc::SYS_sched_yield),
    // Where the C library asks the kernel for it, as on some virtual machines.
    any(libc::SYS_clock_gettime),
    any(libc::SYS_clock_nanosleep),
    // Memory for a queue that is started, and of a driver that is let go of.
    any(libc::SYS_brk),
    map(libc::SYS_mmap),
    map(libc::SYS_mprotect),
    any(libc::SYS_mremap),
    any(libc::SYS_munmap),
    any(libc::SYS_madvise),
    any(libc::SYS_close),
    FCNTL_GETFD,
    any(libc::SYS_getrandom),
    // The allocator counts CPUs.
    any(libc::SYS_sched_getaffinity),
    // A page of the driver's that does not exist.
    any(libc::SYS_rt_sigaction),
    any(libc::SYS_rt_sigreturn),
    // The end of the thread.
    any(libc::SYS_rt_sigprocmask),
    any(libc::SYS_sigaltstack),
    any(libc::SYS_gettid),
    any(libc::SYS_getpid),
    any(libc::SYS_exit),
];

/// `struct vduse_vq_eventfd` (include/uapi/linux/vduse.h).
type VqEventfd = [u32; 2];

/// `VDUSE_VQ_INJECT_IRQ` and `VDUSE_VQ_SETUP_KICKFD`.
const VDUSE: &[Call] = &[
    ioctl(nix::request_code_write!(0x81, 0x17, size_of::<u32>())),
    ioctl(nix::request_code_write!(0x81, 0x16, size_of::<VqEventfd>())),
];

/// Where a thread that serves many queues sleeps on all of them.
const SHARED: &[Call] = &[
    any(libc::SYS_epoll_ctl),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_epoll_wait),
    any(libc::SYS_epoll_pwait),
];

const MEMORY: &[Call] = &[any(libc::SYS_fallocate), any(libc::SYS_fdatasync)];

/// `BLKSECDISCARD`, and of io_uring `IORING_REGISTER_ENABLE_RINGS`, `_BUFFERS_UPDATE` and `_SYNC_CANCEL`
/// (include/uapi/linux/{fs,io_uring}.h).
const RING: &[Call] = &[
    any(libc::SYS_io_uring_enter),
    register(12),
    register(16),
    register(24),
    ioctl(nix::request_code_none!(0x12, 125)),
];

/// `VFIO_IOMMU_MAP_DMA` and `VFIO_IOMMU_UNMAP_DMA` (include/uapi/linux/vfio.h), and the configuration space of a controller
/// that is given up.
const VFIO: &[Call] = &[
    ioctl(nix::request_code_none!(b';', 113)),
    ioctl(nix::request_code_none!(b';', 114)),
    any(libc::SYS_pread64),
    any(libc::SYS_pwrite64),
];

/// What is refused to workers with an error, since libraries do it unasked and go on without: the C library's allocator reads a
/// setting of the kernel's when it gives memory back, and a panic looks for the names of functions.
pub(super) const REFUSED: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_getcwd,
];

impl WorkerCalls {
    /// A thread for queues of devices that nobody knows yet: what a filter forbids it never allows again.
    pub(crate) const SHARED: Self = Self {
        storage: StorageCalls::Any,
        is_vduse: true,
        is_shared: true,
    };

    /// Returns all that it does.
    pub(super) fn list(self) -> Vec<Call> {
        let storage = match self.storage {
            StorageCalls::None => Vec::new(),
            StorageCalls::Memory => MEMORY.to_vec(),
            StorageCalls::Ring => RING.to_vec(),
            StorageCalls::Vfio => VFIO.to_vec(),
            StorageCalls::Any => [MEMORY, RING, VFIO].concat(),
        };
        let notifier = if self.is_vduse { VDUSE } else { &[] };
        let shared = if self.is_shared { SHARED } else { &[] };
        // abort(3) and raise(3).
        let own_end = Call {
            number: libc::SYS_tgkill,
            with: With::Argument(0, std::process::id()),
        };
        let all = [EVERY, notifier, shared, &storage, &[own_end]];
        all.concat()
    }
}

/// What no thread of the daemon ever does, and who has taken one over would like to.
pub(super) const NEVER: &[c_long] = &[
    // Other programs, and other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Other users.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    // File systems and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_mknodat,
    libc::SYS_open_by_handle_at,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The kernel, its clocks and its keys.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_personality,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ioctls_are_those_of_the_kernels_headers() {
        let requests = |calls: &[Call]| -> Vec<u32> {
            let ioctls = calls.iter().filter(|call| call.number == libc::SYS_ioctl);
            let argument = |call: &Call| match call.with {
                With::Argument(1, request) => Some(request),
                _ => None,
            };
            ioctls.filter_map(argument).collect()
        };
        assert_eq!(requests(VDUSE), [0x4004_8117, 0x4008_8116]);
        assert_eq!(requests(RING), [0x127d]);
        assert_eq!(requests(VFIO), [0x3b71, 0x3b72]);
    }

    #[test]
    fn a_worker_does_nothing_that_nobody_does() {
        for storage in [
            StorageCalls::None,
            StorageCalls::Memory,
            StorageCalls::Ring,
            StorageCalls::Vfio,
            StorageCalls::Any,
        ] {
            let calls = WorkerCalls {
                storage,
                ..WorkerCalls::SHARED
            };
            let list = calls.list();
            assert!(list.iter().all(|call| !NEVER.contains(&call.number)));
            let opens = [libc::SYS_socket, libc::SYS_io_uring_setup];
            let more = [REFUSED, &opens].concat();
            assert!(list.iter().all(|call| !more.contains(&call.number)));
        }
    }
}
