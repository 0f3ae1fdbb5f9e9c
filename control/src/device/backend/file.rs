//! Files and devices as people write them: `file,path=/disk.img`, `block,path=/dev/sdb`, `nvme,path=/dev/ng0n1`.

use pollux_dataplane::backend::{DiskError, FileDisk, FileOptions, Passthrough, RingOptions};

use super::{BackendSpecError, Disk, Keys, Kind};

/// Parses the keys of `kind`: `file`, `block`, or `nvme`, a device that is polled.
pub(super) fn parse(mut keys: Keys<'_>, kind: &'static str) -> Result<Kind, BackendSpecError> {
    let is_block = kind != "file";
    let (example, known) = match kind {
        "file" => (
            "path=/srv/disk.img",
            "path, size, direct, sqpoll, sqpoll_cpu, block_size, ro, serial",
        ),
        "block" => (
            "path=/dev/sdb",
            "path, direct, iopoll, sqpoll, sqpoll_cpu, block_size, ro, serial",
        ),
        _ => (
            "path=/dev/ng0n1",
            "path, iopoll, sqpoll, sqpoll_cpu, block_size, ro, serial",
        ),
    };
    let path = keys.0.remove("path");
    let path = path.ok_or(BackendSpecError::NoPath { kind, example })?;
    let submission_cpu = keys.0.remove("sqpoll_cpu").map(|cpu| {
        let parsed = cpu.parse::<u32>();
        parsed.map_err(|_| BackendSpecError::Cpu(cpu.into()))
    });
    let submission_cpu = submission_cpu.transpose()?;
    let options = FileOptions {
        path: path.into(),
        is_block,
        size_bytes: match is_block {
            true => None,
            false => keys.bytes("size")?,
        },
        block_bytes: keys.block_bytes()?,
        read_only: keys.switch("ro", false)?,
        // A device is polled only past the page cache.
        direct: kind == "nvme" || keys.switch("direct", true)?,
        serial: keys.0.remove("serial").unwrap_or_default().into(),
        fallback_serial: String::new(),
        ring: RingOptions {
            polled: is_block && keys.switch("iopoll", kind == "nvme")?,
            submission_thread: keys.switch("sqpoll", submission_cpu.is_some())?,
            submission_cpu,
        },
    };
    keys.finish(kind, known)?;
    if options.ring.polled && !options.direct {
        return Err(BackendSpecError::PolledCache);
    }
    Ok(Kind::File(options))
}

/// Opens what `options` say, whose serial number is `serial` if it has none.
pub(super) fn open(options: &FileOptions, serial: &str) -> Result<Disk, DiskError> {
    if options.is_block && Passthrough::is_for(&options.path) {
        return Passthrough::new(options).map(Disk::Passthrough);
    }
    let options = FileOptions {
        fallback_serial: serial.into(),
        ..options.clone()
    };
    FileDisk::new(&options).map(Disk::File)
}

#[cfg(test)]
mod tests {
    use super::super::BackendSpec;
    use super::*;

    fn options(text: &str) -> FileOptions {
        match text.parse::<BackendSpec>().map(|spec| spec.kind) {
            Ok(Kind::File(options)) => options,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_is_not_said_is_as_most_want_it() {
        let file = options("file,path=/a");
        assert!(file.direct && !file.is_block && !file.read_only);
        assert_eq!((file.size_bytes, file.block_bytes), (None, None));
        assert_eq!(file.ring, RingOptions::default());
        let nvme = options("nvme,path=/dev/nvme0n1");
        assert!(nvme.is_block && nvme.ring.polled && nvme.direct);
        assert!(!options("block,path=/dev/sdb").ring.polled);
        assert!(!options("nvme,path=/dev/nvme0n1,iopoll=off").ring.polled);
        let threaded = options("block,path=/dev/sdb,sqpoll_cpu=3").ring;
        assert_eq!(
            (threaded.submission_thread, threaded.submission_cpu),
            (true, Some(3))
        );
        let made = options("file,path=/a,size=1M,block_size=4K,ro=on,direct=off,serial=x");
        assert_eq!(
            (made.size_bytes, made.block_bytes),
            (Some(1 << 20), Some(4096))
        );
        assert!(made.read_only && !made.direct && made.serial == "x");
    }

    #[test]
    fn mistakes_are_named_with_their_remedy() {
        for (text, expected) in [
            ("file", "add path=/srv/disk.img"),
            ("block,size=1G", "add path=/dev/sdb"),
            ("block,path=/dev/sdb,size=1G", "no option 'size'"),
            ("file,path=/a,iopoll=on", "no option 'iopoll'"),
            ("nvme,path=/dev/nvme0n1,direct=off", "no option 'direct'"),
            ("block,path=/dev/sdb,iopoll=on,direct=off", "leave one out"),
            ("file,path=/a,sqpoll_cpu=x", "not the number of a CPU"),
            ("file,path=/a,sqpoll=yes", "neither on nor off"),
        ] {
            let refused = text.parse::<BackendSpec>().expect_err(text).to_string();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
