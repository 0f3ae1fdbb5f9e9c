//! The control plane of Pollux: VDUSE devices, their life cycle, the vDPA bus, the API.

#![deny(unsafe_code)]

pub mod api;
pub mod daemon;
pub mod device;
pub mod doctor;
pub mod sandbox;
pub mod vdpa;
