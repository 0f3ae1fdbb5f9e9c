//! What a VDUSE device is created with.

use crate::Name;
use crate::abi::VduseDevConfig;
use std::mem::{offset_of, size_of};

/// Alignment of the rings in bytes. Newer kernels refuse anything but a power of two between 4 and
/// the page size; the virtio-vdpa driver needs no other value.
const QUEUE_ALIGN: u32 = 4096;

/// A device to be created: its identity, what it offers and its configuration space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// The name, unique among VDUSE devices of this host.
    pub name: Name,
    /// VIRTIO vendor id, free to choose.
    pub vendor_id: u32,
    /// VIRTIO device id. The kernel takes 2 (block), since 6.10 also 1 (network), since 6.15 also
    /// 26 (file system).
    pub device_id: u32,
    /// Feature bits offered. `VIRTIO_F_ACCESS_PLATFORM` (33) must be among them, and for a block
    /// device `VIRTIO_BLK_F_CONFIG_WCE` (11) must not.
    pub features: u64,
    /// Number of virtqueues; each needs [`crate::Device::setup_queue`] before the device is
    /// attached.
    pub queue_count: u32,
    /// Number of virtqueue groups: at least 1 with API version 1, 0 with version 0.
    pub group_count: u32,
    /// Number of address spaces: at least 1 with API version 1, 0 with version 0. They share the bounce
    /// buffers' size among them.
    pub address_space_count: u32,
    /// The configuration space, little-endian, at most a page.
    pub config: Vec<u8>,
}

impl DeviceConfig {
    /// The argument of `VDUSE_CREATE_DEV`: `struct vduse_dev_config` and the configuration space.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<VduseDevConfig>()];
        let mut put = |offset: usize, value: &[u8]| {
            bytes[offset..offset + value.len()].copy_from_slice(value);
        };
        put(offset_of!(VduseDevConfig, name), &self.name.to_kernel());
        put(
            offset_of!(VduseDevConfig, vendor_id),
            &self.vendor_id.to_ne_bytes(),
        );
        put(
            offset_of!(VduseDevConfig, device_id),
            &self.device_id.to_ne_bytes(),
        );
        put(
            offset_of!(VduseDevConfig, features),
            &self.features.to_ne_bytes(),
        );
        put(
            offset_of!(VduseDevConfig, vq_num),
            &self.queue_count.to_ne_bytes(),
        );
        put(
            offset_of!(VduseDevConfig, vq_align),
            &QUEUE_ALIGN.to_ne_bytes(),
        );
        put(
            offset_of!(VduseDevConfig, ngroups),
            &self.group_count.to_ne_bytes(),
        );
        put(
            offset_of!(VduseDevConfig, nas),
            &self.address_space_count.to_ne_bytes(),
        );
        let config_size = self.config.len() as u32;
        put(
            offset_of!(VduseDevConfig, config_size),
            &config_size.to_ne_bytes(),
        );
        bytes.extend_from_slice(&self.config);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_where_the_kernel_reads_it() {
        let config = DeviceConfig {
            name: Name::try_from("d0").unwrap(),
            vendor_id: 0x0102_0304,
            device_id: 2,
            features: 0x1122_3344_5566_7788,
            queue_count: 3,
            group_count: 4,
            address_space_count: 5,
            config: vec![0xaa; 96],
        };
        let bytes = config.encode();
        let u32_at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(bytes.len(), 336 + 96);
        assert_eq!(&bytes[..3], b"d0\0");
        assert_eq!((u32_at(256), u32_at(260)), (0x0102_0304, 2));
        assert_eq!(bytes[264..272], 0x1122_3344_5566_7788_u64.to_ne_bytes());
        assert_eq!((u32_at(272), u32_at(276), u32_at(332)), (3, 4096, 96));
        assert_eq!((u32_at(280), u32_at(284)), (4, 5));
        assert!(
            bytes[288..332].iter().all(|&b| b == 0),
            "reserved fields must be zero"
        );
        assert!(bytes[336..].iter().all(|&b| b == 0xaa));
    }
}
