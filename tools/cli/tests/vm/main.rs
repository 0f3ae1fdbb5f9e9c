//! The end-to-end tests: the real `pollux` command against the real VDUSE of a guest kernel.
//!
//! They run as root inside of a machine that nobody else uses, since they load and unload modules, and
//! look for whatever a daemon leaves behind anywhere:
//!
//! ```text
//! cargo test -p pollux --features vm --test vm --no-run
//! pollux vm run --timeout 900 --file THAT_PROGRAM:/usr/local/bin/pollux-vm-test -- pollux-vm-test
//! ```

#![deny(unsafe_code)]

mod bad_input;
mod config;
mod contract;
mod data;
mod doctor;
mod fabrics;
mod gate;
mod groups;
mod guest;
mod hang;
mod hostile;
mod leave;
mod lifecycle;
mod nvme_vfio;
mod pause;
mod power_cut;
mod pressure;
mod protocol;
mod qemu;
mod recovery;
mod resize;
mod sandbox;
mod stats;
mod storage;
mod storm;
mod umem;
mod upgrade;
mod vhost;
mod wrappers;
