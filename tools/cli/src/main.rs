//! Serves virtio-blk disks through VDUSE from polling threads.

fn main() {}
