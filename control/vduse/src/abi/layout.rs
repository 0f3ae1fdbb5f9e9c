//! Compile-time checks of every size and offset, and a test of every ioctl number.

use super::*;
use std::mem::offset_of;

macro_rules! layout {
    ($type:ty, size $size:literal $(, $field:ident @ $offset:literal)*) => {
        const _: () = assert!(size_of::<$type>() == $size);
        $(const _: () = assert!(offset_of!($type, $field) == $offset);)*
    };
}

layout!(VduseDevConfig, size 336, name @ 0, vendor_id @ 256, device_id @ 260, features @ 264,
    vq_num @ 272, vq_align @ 276, ngroups @ 280, nas @ 284, reserved @ 288, config_size @ 332);
layout!(VduseIotlbEntry, size 32, offset @ 0, start @ 8, last @ 16, perm @ 24);
layout!(VduseIotlbEntryV2, size 80, offset @ 0, start @ 8, last @ 16, perm @ 24, padding @ 25,
    asid @ 32, reserved @ 36);
layout!(VduseConfigData, size 8, offset @ 0, length @ 4);
layout!(VduseVqConfig, size 32, index @ 0, max_size @ 4, reserved1 @ 6, group @ 8,
    reserved2 @ 12);
layout!(VduseVqStatePacked, size 8, last_avail_counter @ 0, last_avail_idx @ 2,
    last_used_counter @ 4, last_used_idx @ 6);
layout!(VduseVqInfo, size 48, index @ 0, num @ 4, desc_addr @ 8, driver_addr @ 16,
    device_addr @ 24, state @ 32, ready @ 40);
layout!(VduseVqEventfd, size 8, index @ 0, fd @ 4);
layout!(VduseIovaUmem, size 48, uaddr @ 0, iova @ 8, size @ 16, asid @ 24, reserved @ 28);
layout!(VduseIovaInfo, size 48, start @ 0, last @ 8, capability @ 16, asid @ 24,
    reserved @ 28);
layout!(VduseVqState, size 12, index @ 0, state @ 4);
layout!(VduseIovaRangeV2, size 24, start @ 0, last @ 8, asid @ 16, padding @ 20);
layout!(VduseVqGroupAsid, size 8, group @ 0, asid @ 4);
layout!(VduseVqReady, size 8, num @ 0, ready @ 4);
layout!(VduseDevRequest, size 152, kind @ 0, request_id @ 4, reserved @ 8, payload @ 24);
layout!(VduseDevResponse, size 152, request_id @ 0, result @ 4, reserved @ 8, payload @ 24);

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of Linux's generic ioctl encoding; some older architectures have another.
    #[cfg(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64"
    ))]
    #[test]
    fn ioctl_numbers_are_the_kernels() {
        let table = [
            (VDUSE_GET_API_VERSION, 0x8008_8100),
            (VDUSE_SET_API_VERSION, 0x4008_8101),
            (VDUSE_CREATE_DEV, 0x4150_8102),
            (VDUSE_DESTROY_DEV, 0x4100_8103),
            (VDUSE_GET_FEATURES, 0x8008_8104),
            (VDUSE_SET_FEATURES, 0x4008_8105),
            (VDUSE_IOTLB_GET_FD, 0xc020_8110),
            (VDUSE_DEV_GET_FEATURES, 0x8008_8111),
            (VDUSE_DEV_SET_CONFIG, 0x4008_8112),
            (VDUSE_DEV_INJECT_CONFIG_IRQ, 0x0000_8113),
            (VDUSE_VQ_SETUP, 0x4020_8114),
            (VDUSE_VQ_GET_INFO, 0xc030_8115),
            (VDUSE_VQ_SETUP_KICKFD, 0x4008_8116),
            (VDUSE_VQ_INJECT_IRQ, 0x4004_8117),
            (VDUSE_IOTLB_REG_UMEM, 0x4030_8118),
            (VDUSE_IOTLB_DEREG_UMEM, 0x4030_8119),
            (VDUSE_IOTLB_GET_INFO, 0xc030_811a),
            (VDUSE_IOTLB_GET_FD2, 0xc050_811b),
        ];
        for (ours, kernels) in table {
            assert_eq!(ours, kernels, "{ours:#010x} is not {kernels:#010x}");
        }
    }
}
