//! User-mode Linux: Debian's newest kernel as ordinary processes of the host. User code and the memory it shares run
//! at the machine's own speed there, system calls take microseconds (Documentation/virt/uml).

mod build;
mod process;

pub(crate) use build::{LOCALVERSION, build};
pub(crate) use process::Uml;
