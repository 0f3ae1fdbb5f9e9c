//! Data through a disk of this host comes back as it was written, whatever wrote it.

mod commands;
mod filesystem;
mod limits;
mod verify;
