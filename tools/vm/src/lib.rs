//! Throw-away virtual machines with a VDUSE kernel.
//!
//! A [`VmSpec`] names a kernel, a machine and a command; [`VmSpec::run`] boots it with Debian's
//! cloud kernel and an initramfs made of the host's own programs, runs the command as root and
//! returns its exit code, with its output passed on as it comes. Nothing is left behind but the
//! [`Cache`].

#![deny(unsafe_code)]

mod accel;
mod apt;
mod archive;
mod base;
mod cache;
mod child;
mod debian;
mod error;
mod fetch;
mod host;
mod kernel;
mod libraries;
mod log;
mod machine;
mod modules;
mod monitor;
mod nvme;
mod payload;
mod qemu;
mod run;
mod spec;
mod stream;
mod uml;

pub use cache::Cache;
pub use error::Error;
pub use kernel::{Kernel, KernelName};
pub use log::Log;
pub use run::{End, Outcome, Output};
pub use spec::{Accel, GuestFile, Init, Module, VmSpec};
