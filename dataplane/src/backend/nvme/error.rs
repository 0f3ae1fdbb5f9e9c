//! Why a namespace cannot be served.

/// Why a controller or a namespace cannot be served. The one who opened it adds which one.
#[derive(Debug, thiserror::Error)]
pub enum NvmeError {
    /// Not a PCI address.
    #[error("pci={0} is not an address: write it as sysfs does, for example pci=0000:00:10.0")]
    Address(String),
    /// Nothing there.
    #[error("there is no PCI device {0}: ls -l /sys/class/nvme shows the addresses of controllers")]
    NoDevice(String),
    /// Something else.
    #[error(
        "{pci} is not an NVMe controller but of class {class}: ls -l /sys/class/nvme shows those"
    )]
    NotNvme {
        /// Its address.
        pci: String,
        /// What it is, as sysfs has it.
        class: String,
    },
    /// Without one the device could write anywhere.
    #[error(
        "{0} is behind no IOMMU: switch it on in the firmware, and boot with intel_iommu=on or amd_iommu=on"
    )]
    NoIommu(String),
    /// A driver has it.
    #[error(
        "{pci} is in use by the driver {driver}: add force_unbind=on, or give it to vfio-pci with driverctl \
         set-override {pci} vfio-pci"
    )]
    InUse {
        /// Its address.
        pci: String,
        /// Who has it.
        driver: String,
    },
    /// No driver has it.
    #[error(
        "{0} has no driver: add force_unbind=on, or give it to vfio-pci with driverctl set-override {0} vfio-pci"
    )]
    Unbound(String),
    /// Its disks are in use.
    #[error("{pci} has {node}, which is mounted or held: unmount it, and all that is on it")]
    Held {
        /// Its address.
        pci: String,
        /// A node of its.
        node: String,
    },
    /// The IOMMU cannot tell them apart.
    #[error(
        "{pci} shares its IOMMU group with {other}, which the driver {driver} has: give that to vfio-pci too, or use \
         another slot"
    )]
    Group {
        /// Its address.
        pci: String,
        /// The other's.
        other: String,
        /// Who has that.
        driver: String,
    },
    /// It could not be moved to another driver.
    #[error("cannot give {pci} to vfio-pci: {reason}; modprobe vfio-pci loads it")]
    Bind {
        /// Its address.
        pci: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// VFIO refused.
    #[error(
        "cannot open {pci} through VFIO: {reason}; only one process at a time can, as root, with the modules vfio-pci and \
         vfio_iommu_type1"
    )]
    Vfio {
        /// Its address.
        pci: String,
        /// What it said.
        reason: String,
    },
    /// Too little memory, or it may not be pinned.
    #[error(
        "cannot set memory aside that the controller reaches: {0}; raise the limit of locked memory (ulimit -l)"
    )]
    Memory(#[source] std::io::Error),
    /// BAR 0 is too small.
    #[error("the controller's registers are not where they have to be: it cannot be served")]
    Registers,
    /// It does not work in pages of 4 KiB.
    #[error("the controller has no pages of 4 KiB or no NVM command set: it cannot be served")]
    PageSize,
    /// All registers read as ones.
    #[error("the controller is gone: see that it is plugged in and has power")]
    Gone,
    /// It took too long.
    #[error("the controller does not answer: reset its slot or the machine")]
    Hung,
    /// It gave up.
    #[error(
        "the controller has met a fatal error while it was enabled: reset its slot or the machine"
    )]
    Fatal,
    /// It refused an admin command.
    #[error(
        "the controller refused an admin command with status {status:#x}: see its specification"
    )]
    Admin {
        /// The status field of the completion.
        status: u16,
    },
    /// No more queues.
    #[error("the controller has {0} I/O queues, which are all in use: use fewer with --queues")]
    Queues(usize),
    /// No such namespace.
    #[error("the controller has no active namespace {0}: nvme list shows those that it has")]
    NoNamespace(u32),
    /// Blocks that virtio-blk cannot have.
    #[error("the namespace has blocks of {0} bytes: nvme format gives it 512 or 4096")]
    BlockSize(u64),
    /// Metadata would get lost.
    #[error("the namespace has {0} bytes of metadata a block: nvme format takes them away")]
    Metadata(u16),
    /// It takes no writes.
    #[error("namespace {0} is write protected: add ro=on")]
    WriteProtected(u32),
    /// No size of a namespace can be chosen.
    #[error(
        "namespace {nsid} has {size_bytes} bytes and cannot be made {asked}: resize the namespace first, then give its size"
    )]
    Size {
        /// The namespace.
        nsid: u32,
        /// Its size.
        size_bytes: u64,
        /// Size asked for.
        asked: u64,
    },
    /// It is not what is served.
    #[error("namespace {0} was formatted with other blocks meanwhile: serve it anew")]
    Formatted(u32),
}
