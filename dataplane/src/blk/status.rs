//! The byte that ends every request (VIRTIO 1.3, 5.2.6).

use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = VIRTIO_BLK_S_OK as u8,
    /// Failed, or out of range.
    IoError = VIRTIO_BLK_S_IOERR as u8,
    /// Not offered by this device.
    Unsupported = VIRTIO_BLK_S_UNSUPP as u8,
}
