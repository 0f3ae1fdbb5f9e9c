//! What a daemon is to serve, as its command line or its configuration describes it.

use std::collections::BTreeMap;

use crate::device::{DeviceOptions, PoolOptions};
use crate::sandbox::DiskPaths;
use crate::vdpa::Driver;

/// A device to serve.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What it is to be.
    pub options: DeviceOptions,
    /// The driver to attach it to.
    pub driver: Option<Driver>,
    /// How it was described, by which a reload tells whether that has changed.
    pub keys: BTreeMap<String, String>,
}

/// The devices to serve, and the threads that they share.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Those threads.
    pub pools: Vec<PoolOptions>,
    /// The devices.
    pub devices: Vec<Wanted>,
    /// Where the storage of any device has to be, at the start and later; anywhere when left out.
    pub paths: Option<DiskPaths>,
}
