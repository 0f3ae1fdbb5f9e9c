//! Least privilege: what the daemon gives up before it reads a byte that a driver has written.
//!
//! | given up | by | how |
//! |---|---|---|
//! | capabilities that nothing here needs | the process | capset(2) |
//! | all capabilities | workers | capset(2) |
//! | the rest of them, but while a device is made or attached | the other threads | capset(2) |
//! | files that are not those of its devices | the process | landlock(7) |
//! | programs, mounts, other processes, kernel modules and the like | the process | seccomp(2) |
//! | all system calls but its own few | each worker | seccomp(2) |
//! | privileges by executing something | the process | no_new_privs |
//!
//! What the kernel does not have is done without, and told.

mod calls;
mod capabilities;
mod disk_paths;
mod filter;
mod paths;
#[cfg(test)]
mod tests;
mod user;

use std::io;
use std::path::Path;

use pollux_dataplane::worker::Confinement;

pub(crate) use calls::{StorageCalls, WorkerCalls};
pub(crate) use capabilities::raised;
pub use disk_paths::{DiskPaths, Outside, RelativePath};
pub(crate) use paths::Place;
pub use user::UserError;

use filter::{Breach, Filter};

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// A system call that nobody expects ends the process with SIGSYS.
    #[default]
    On,
    /// It goes through and the kernel logs it; all else is as with [`On`](Self::On).
    Log,
    /// Nothing is given up.
    Off,
}

impl Sandbox {
    /// Returns what becomes of a forbidden call; none is forbidden without a sandbox.
    fn breach(self) -> Option<Breach> {
        match self {
            Self::On => Some(Breach::Kill),
            Self::Log => Some(Breach::Log),
            Self::Off => None,
        }
    }
}

/// What threads that are started from here on are to give up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Confined {
    /// Workers give their capabilities up.
    is_on: bool,
    /// Workers have filters.
    breach: Option<Breach>,
}

/// Gives up what the process does not need to serve what is at `places`, or anywhere when left out, with its own files in
/// `runtime_dir`. Threads that it has already keep what they have. What cannot be had of it is added to `lacks`.
pub(crate) fn enter(
    sandbox: Sandbox,
    runtime_dir: &Path,
    places: Option<&[Place]>,
    lacks: &mut Vec<String>,
) -> Confined {
    let Some(breach) = sandbox.breach() else {
        return Confined::default();
    };
    let mut lack = |what: &str, reason: &dyn std::fmt::Display| {
        lacks.push(format!("the sandbox does without {what}: {reason}"));
    };
    if let Err(reason) = capabilities::keep_few() {
        lack("giving capabilities up", &reason);
    }
    match places.map(|places| paths::restrict(runtime_dir, places)) {
        None | Some(Ok(true)) => {}
        Some(Ok(false)) => lack("restricted paths", &"this kernel has no landlock"),
        Some(Err(reason)) => lack("restricted paths", &reason),
    }
    let filtered = Filter::all_but(calls::NEVER, breach).and_then(|filter| filter.apply());
    if let Err(reason) = &filtered {
        lack("filters of system calls", reason);
    }
    Confined {
        is_on: true,
        breach: filtered.is_ok().then_some(breach),
    }
}

/// Becomes `user`, with the few capabilities that serving takes, and makes `runtime_dir` its own if there is none.
///
/// # Errors
///
/// [`UserError`] when there is no such user, or this one may not become another.
pub(crate) fn become_user(user: &str, runtime_dir: &Path) -> Result<(), UserError> {
    user::switch(user, runtime_dir)
}

impl Confined {
    /// Returns what a worker gives up that does `calls`.
    ///
    /// # Errors
    ///
    /// When there is no such filter.
    pub(crate) fn worker(self, calls: WorkerCalls) -> io::Result<Option<Confinement>> {
        if !self.is_on {
            return Ok(None);
        }
        let filters = self.filters(calls).map_err(io::Error::other)?;
        Ok(Some(Confinement::new(move || {
            capabilities::drop_all()?;
            let mut filters = filters.iter();
            filters.try_for_each(|filter| filter.apply().map_err(io::Error::other))
        })))
    }

    /// Returns the filters of a worker that does `calls`. Where there are several, the strictest of them is obeyed.
    fn filters(self, calls: WorkerCalls) -> Result<Vec<Filter>, seccompiler::Error> {
        let mut expected = calls.list();
        match self.breach {
            None => Ok(Vec::new()),
            Some(Breach::Log) => Ok(vec![Filter::only(&expected, Breach::Log)?]),
            Some(Breach::Kill) => {
                expected.extend(calls::REFUSED.iter().copied().map(calls::any));
                let refusing = Filter::refusing(calls::REFUSED)?;
                Ok(vec![refusing, Filter::only(&expected, Breach::Kill)?])
            }
        }
    }
}
