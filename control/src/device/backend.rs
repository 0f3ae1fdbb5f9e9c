//! Backends as people write them: `kind,key=value,...`, wrappers before them: `delay,latency=10ms:ram,size=1G`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use pollux_dataplane::backend::{
    DiskError, DiskOptions, FileOptions, Null, Nvme, NvmeOptions, Ram, RamMemory,
};

mod disk;
mod file;
mod nvme_vfio;
mod places;
mod wrapper;

pub use disk::Disk;
use wrapper::Wrapper;
pub use wrapper::WrapperError;

/// A backend that was asked for, not yet made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    text: String,
    /// The first is the one that the driver sees.
    wrappers: Vec<Wrapper>,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Null {
        fill: bool,
        options: DiskOptions,
    },
    Ram {
        memory: RamMemory,
        prealloc: bool,
        options: DiskOptions,
    },
    File(FileOptions),
    NvmeVfio(NvmeOptions),
}

/// What is wrong with how a backend was written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendSpecError {
    /// No such kind.
    #[error(
        "backend '{0}' is not known: use null, ram, file, block, nvme or nvme-vfio, for example null,size=8G"
    )]
    Kind(String),
    /// No such key for this kind.
    #[error("backend {kind} has no option '{key}': it has {known}")]
    Key {
        /// The kind.
        kind: &'static str,
        /// What was written.
        key: String,
        /// What could have been.
        known: &'static str,
    },
    /// A key without a value.
    #[error("backend option '{0}' has no value: write {0}=VALUE")]
    NoValue(String),
    /// A key twice.
    #[error("backend option '{0}' is given twice: give it once")]
    Twice(String),
    /// No size.
    #[error("backend {0} needs a size: add for example size=1G")]
    NoSize(&'static str),
    /// Not a number of bytes.
    #[error("{key}={value} is not a number of bytes: write for example 512, 64M or 1G")]
    Bytes {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
    },
    /// In a wrapper.
    #[error(transparent)]
    Wrapper(#[from] WrapperError),
    /// Both at once.
    #[error("hugepages=on and path= exclude each other: leave one out")]
    HugePagesFile,
    /// Nothing to open.
    #[error("backend {kind} needs a path: add {example}")]
    NoPath {
        /// The kind.
        kind: &'static str,
        /// What to add.
        example: &'static str,
    },
    /// Both at once.
    #[error("iopoll=on and direct=off exclude each other: leave one out")]
    PolledCache,
    /// Not a CPU.
    #[error("sqpoll_cpu={0} is not the number of a CPU: write for example sqpoll=on,sqpoll_cpu=1")]
    Cpu(String),
    /// No controller.
    #[error(
        "backend nvme-vfio needs a controller: add pci=0000:00:10.0, its address in /sys/bus/pci/devices"
    )]
    NoPci,
    /// Not a namespace.
    #[error("nsid={0} is not the number of a namespace: write for example nsid=1")]
    Nsid(String),
    /// Neither on nor off.
    #[error("{key}={value} is neither on nor off")]
    Switch {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
    },
}

/// The keys of one backend, each to be taken once.
struct Keys<'text>(BTreeMap<&'text str, &'text str>);

impl<'text> Keys<'text> {
    fn parse(words: impl Iterator<Item = &'text str>) -> Result<Self, BackendSpecError> {
        let mut keys = BTreeMap::new();
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| BackendSpecError::NoValue(word.into()))?;
            if keys.insert(key, value).is_some() {
                return Err(BackendSpecError::Twice(key.into()));
            }
        }
        Ok(Self(keys))
    }

    fn bytes(&mut self, key: &'static str) -> Result<Option<u64>, BackendSpecError> {
        let Some(value) = self.0.remove(key) else {
            return Ok(None);
        };
        let malformed = || BackendSpecError::Bytes {
            key,
            value: value.into(),
        };
        parse_bytes(value).map(Some).ok_or_else(malformed)
    }

    fn block_bytes(&mut self) -> Result<Option<u32>, BackendSpecError> {
        let bytes = self.bytes("block_size")?;
        Ok(bytes.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX)))
    }

    fn switch(&mut self, key: &'static str, default: bool) -> Result<bool, BackendSpecError> {
        match self.0.remove(key) {
            None => Ok(default),
            Some("on") => Ok(true),
            Some("off") => Ok(false),
            Some(value) => Err(BackendSpecError::Switch {
                key,
                value: value.into(),
            }),
        }
    }

    fn finish(self, kind: &'static str, known: &'static str) -> Result<(), BackendSpecError> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(key) => Err(BackendSpecError::Key {
                kind,
                key: key.into(),
                known,
            }),
        }
    }
}

/// Not a number of bytes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a number of bytes: write for example 512, 64M or 1G")]
pub struct SizeError(String);

/// Returns the number of bytes that `text` means, as in `size=` of a backend.
///
/// # Errors
///
/// [`SizeError`] when it is none.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    parse_bytes(text).ok_or_else(|| SizeError(text.into()))
}

/// Returns the number of bytes that `text` means; K, M, G and T are powers of 1024, as in fio and QEMU.
fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => return None,
    };
    if digits.starts_with('+') {
        // A number to Rust, but +1G may be meant as 1G more.
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

impl FromStr for BackendSpec {
    type Err = BackendSpecError;

    fn from_str(text: &str) -> Result<Self, BackendSpecError> {
        let (wrappers, wrapped) = Wrapper::parse_all(text)?;
        let mut words = wrapped.split(',');
        let name = words.next().unwrap_or_default();
        let parse: fn(Keys<'_>) -> Result<Kind, BackendSpecError> = match name {
            "null" => parse_null,
            "ram" => parse_ram,
            "file" => |keys| file::parse(keys, "file"),
            "block" => |keys| file::parse(keys, "block"),
            "nvme" => |keys| file::parse(keys, "nvme"),
            "nvme-vfio" => nvme_vfio::parse,
            _ => return Err(BackendSpecError::Kind(name.into())),
        };
        let kind = parse(Keys::parse(words)?)?;
        Ok(Self {
            text: text.into(),
            wrappers,
            kind,
        })
    }
}

fn parse_null(mut keys: Keys<'_>) -> Result<Kind, BackendSpecError> {
    let fill = keys.switch("fill", true)?;
    let options = disk_options(&mut keys, "null")?;
    keys.finish("null", "size, fill, block_size, ro, serial")?;
    Ok(Kind::Null { fill, options })
}

fn parse_ram(mut keys: Keys<'_>) -> Result<Kind, BackendSpecError> {
    let hugepages = keys.switch("hugepages", false)?;
    let memory = match (hugepages, keys.0.remove("path")) {
        (true, Some(_)) => return Err(BackendSpecError::HugePagesFile),
        (true, None) => RamMemory::HugePages,
        (false, Some(path)) => RamMemory::File(path.into()),
        (false, None) => RamMemory::Sparse,
    };
    let prealloc = keys.switch("prealloc", false)?;
    let options = disk_options(&mut keys, "ram")?;
    let known = "size, path, hugepages, prealloc, block_size, ro, serial";
    keys.finish("ram", known)?;
    Ok(Kind::Ram {
        memory,
        prealloc,
        options,
    })
}

/// Takes the options that every disk without storage of its own has.
fn disk_options(keys: &mut Keys<'_>, kind: &'static str) -> Result<DiskOptions, BackendSpecError> {
    let size_bytes = keys.bytes("size")?;
    Ok(DiskOptions {
        size_bytes: size_bytes.ok_or(BackendSpecError::NoSize(kind))?,
        block_bytes: keys.block_bytes()?.unwrap_or(512),
        read_only: keys.switch("ro", false)?,
        serial: keys.0.remove("serial").unwrap_or_default().into(),
    })
}

impl fmt::Display for BackendSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl BackendSpec {
    /// Returns whether what was written is there for the next process that opens it.
    pub fn outlives_daemon(&self) -> bool {
        match &self.kind {
            // Nothing is.
            Kind::Null { .. } | Kind::File(_) | Kind::NvmeVfio(_) => true,
            Kind::Ram { memory, .. } => matches!(memory, RamMemory::File(_)),
        }
    }

    /// Returns the size that was written, in bytes, if one was.
    pub fn size_bytes(&self) -> Option<u64> {
        match &self.kind {
            Kind::Null { options, .. } | Kind::Ram { options, .. } => Some(options.size_bytes),
            Kind::File(options) => options.size_bytes,
            Kind::NvmeVfio(_) => None,
        }
    }

    /// Makes the disk. `serial` is its serial number unless one was written.
    ///
    /// # Errors
    ///
    /// [`DiskError`] when an option makes no sense or the memory is not there.
    pub fn open(&self, serial: &str) -> Result<Disk, DiskError> {
        self.open_noting(serial, None)
    }

    /// Makes the disk. In the file at `note` is written down what the system's own drivers are to have back.
    pub(super) fn open_noting(&self, serial: &str, note: Option<&Path>) -> Result<Disk, DiskError> {
        let with_serial = |options: &DiskOptions| {
            let mut options = options.clone();
            if options.serial.is_empty() {
                options.serial = serial.chars().filter(char::is_ascii).take(20).collect();
            }
            options
        };
        let disk = match &self.kind {
            Kind::Null { fill, options } => Disk::Null(Null::new(&with_serial(options), *fill)?),
            Kind::Ram {
                memory,
                prealloc,
                options,
            } => Disk::Ram(Ram::new(&with_serial(options), memory, *prealloc)?),
            Kind::File(options) => file::open(options, serial)?,
            Kind::NvmeVfio(options) => Disk::Nvme(Nvme::new(options, note)?),
        };
        let wrappers = self.wrappers.iter().rev();
        Ok(wrappers.fold(disk, |disk, wrapper| wrapper.around(disk)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollux_dataplane::backend::Backend;

    fn error(text: &str) -> String {
        text.parse::<BackendSpec>().expect_err(text).to_string()
    }

    #[test]
    fn sizes_and_switches_are_understood() {
        let spec: BackendSpec = "ram,size=64M,ro=on,block_size=4K,serial=abc"
            .parse()
            .unwrap();
        let disk = spec.open("unused").unwrap();
        let geometry = disk.geometry();
        assert_eq!(geometry.capacity_sectors, 64 << 11);
        assert_eq!((geometry.block_bytes, geometry.read_only), (4096, true));
        assert_eq!(&geometry.serial[..4], b"abc\0");
        let spec: BackendSpec = "null,size=1T".parse().unwrap();
        let disk = spec.open("a-name-longer-than-twenty-bytes").unwrap();
        assert_eq!(&disk.geometry().serial, b"a-name-longer-than-t");
    }

    #[test]
    fn wrappers_stand_before_what_they_wrap() {
        let text = "delay,latency=1ms:delay,write_latency=forever:ram,size=1M,path=/a:b";
        let spec: BackendSpec = text.parse().unwrap();
        assert_eq!(spec.to_string(), text);
        assert_eq!(spec.wrappers.len(), 2);
        let is_that = |memory: &RamMemory| *memory == RamMemory::File("/a:b".into());
        assert!(matches!(&spec.kind, Kind::Ram { memory, .. } if is_that(memory)));
        let spec: BackendSpec = "delay,latency=1ms:delay,latency=1s:null,size=1M"
            .parse()
            .unwrap();
        let Disk::Delay(outer) = spec.open("inner").unwrap() else {
            panic!("no wrapper");
        };
        assert_eq!(&outer.geometry().serial[..5], b"inner");
    }

    #[test]
    fn mistakes_are_named_with_their_remedy() {
        for (text, expected) in [
            ("", "backend ''"),
            ("nul,size=1G", "null, ram, file"),
            ("null", "size=1G"),
            ("null,size", "write size=VALUE"),
            ("null,size=1G,size=2G", "twice"),
            ("null,size=1X", "1X is not a number of bytes"),
            ("null,size=+1G", "+1G is not a number of bytes"),
            ("null,size=99999999999G", "not a number of bytes"),
            ("null,size=1G,hugepages=on", "no option 'hugepages'"),
            ("ram,size=1G,ro=yes", "neither on nor off"),
            ("ram,size=1G,path=/a,hugepages=on", "exclude each other"),
            ("delay,latency=1ms", "example delay,latency=100us:ram"),
            ("delay:ram,size=1G", "has no latency"),
            ("delay,latency=10:ram,size=1G", "latency=10 is not a time"),
            ("delay,latency=2d:ram,size=1G", "100us, 10ms or 2s"),
            ("delay,latency=99999999s:ram,size=1G", "at most a day"),
            ("delay,latency=3ms..1ms:ram", "3ms..1ms is not a time"),
            ("delay,latency=1ms..forever:ram", "100us..300us"),
            ("delay,read_latency=1ms~:ram", "200us~50us"),
            ("delay,latency=1ms,seed=-1:ram", "seed=-1 is not a number"),
            ("delay,size=1G:ram,size=1G", "delay has no option 'size'"),
            ("error", "example error,rate=0.01:ram"),
            ("error,rate=0:ram", "rate=0 is not a probability"),
            ("error,rate=1.5:ram", "0.01 or 1/100"),
            ("error,rate=1/0:ram", "1/0 is not a probability"),
            ("error,rate=nan:ram", "nan is not a probability"),
            ("error,op=read+trim:ram", "op=trim is no operation"),
            ("error,kind=eio:ram", "kind=eio is no error: use io"),
            ("error,range=1M:ram", "range=1M is not where"),
            ("error,range=2M..1M:ram", "write START..END"),
            ("error,op=flush,range=0..1M:ram", "a flush has no range"),
            ("error,sticky=1:ram", "neither on nor off"),
            ("error,bps=1M:ram", "error has no option 'bps'"),
            ("throttle:ram", "throttle has no limit"),
            ("throttle,iops=0:ram", "iops=0 is not a number from 1 up"),
            ("throttle,iops=1k:ram", "write for example iops=1000"),
            ("throttle,bps=0:ram", "bps=0 is not a number from 1 up"),
            ("throttle,bps=fast:ram", "fast is not a number of bytes"),
            ("throttle,iops=1,bps_burst=1M:ram", "add bps="),
            ("throttle,rate=1:ram", "iops, iops_burst, bps, bps_burst"),
            ("delay,latency=1ms:ram", "needs a size"),
            ("delay,latency=1ms:delay,latency=1s:rom", "backend 'rom'"),
        ] {
            assert!(error(text).contains(expected), "{text}: {}", error(text));
        }
    }

    #[test]
    fn disks_that_cannot_be_are_refused() {
        for (text, expected) in [
            ("null,size=0", "size is 0"),
            ("null,size=1000", "not a multiple"),
            ("null,size=8388608T", "larger than Linux can address"),
            ("null,size=1M,block_size=3000", "block_size 3000"),
            ("null,size=1M,serial=012345678901234567890", "20 bytes"),
            ("ram,size=16000T", "larger than this machine's memory"),
        ] {
            let spec: BackendSpec = text.parse().unwrap();
            let refused = spec.open("").expect_err(text).to_string();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
