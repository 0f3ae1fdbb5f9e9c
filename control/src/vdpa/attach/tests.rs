//! An attach over a folder that looks like sysfs and a netlink that changes it like the kernel.

use super::*;
use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What the kernel makes of a device once a driver has probed it.
#[derive(Clone, Copy)]
enum Probe {
    Disk,
    Character,
    Refused,
}

struct Host {
    folder: TempDir,
    probe: Probe,
    add: Option<Errno>,
    calls: RefCell<Vec<String>>,
}

impl Host {
    fn new(probe: Probe) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Self {
            folder,
            probe,
            add: None,
            calls: RefCell::default(),
        };
        for driver in ["virtio_vdpa", "vhost_vdpa"] {
            let driver = host.path("bus/vdpa/drivers").join(driver);
            fs::create_dir_all(&driver).unwrap();
            fs::write(driver.join("bind"), "").unwrap();
            fs::write(driver.join("unbind"), "").unwrap();
        }
        fs::create_dir_all(host.path("bus/vdpa/devices")).unwrap();
        fs::create_dir_all(host.path("bus/virtio/drivers/virtio_blk")).unwrap();
        fs::create_dir_all(host.path("class/vduse/d0")).unwrap();
        fs::write(host.path("bus/vdpa/drivers_autoprobe"), "1\n").unwrap();
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn bus(&self) -> Bus {
        Bus::at(self.folder.path())
    }

    fn content(&self, path: &str) -> String {
        fs::read_to_string(self.path(path))
            .unwrap()
            .trim_end()
            .to_owned()
    }

    fn add_device(&self) {
        let device = self.path("bus/vdpa/devices/d0");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("driver_override"), "").unwrap();
        let driver = match self.probe {
            Probe::Disk | Probe::Refused => "virtio_vdpa",
            Probe::Character => "vhost_vdpa",
        };
        symlink(
            Path::new("../../drivers").join(driver),
            device.join("driver"),
        )
        .unwrap();
        let virtio = device.join("virtio3");
        match self.probe {
            Probe::Disk => fs::create_dir_all(virtio.join("block/vdb")).unwrap(),
            Probe::Character => fs::create_dir_all(device.join("vhost-vdpa-1")).unwrap(),
            Probe::Refused => {
                fs::create_dir_all(&virtio).unwrap();
                fs::write(virtio.join("status"), "0x00000083\n").unwrap();
            }
        }
    }

    fn attach(&self, driver: Driver) -> Result<Attached, AttachError> {
        super::attach(&self.bus(), self, &name(), driver)
    }
}

impl Netlink for Host {
    fn add(&self, name: &Name) -> Result<(), NetlinkError> {
        let autoprobe = self.content("bus/vdpa/drivers_autoprobe");
        self.calls
            .borrow_mut()
            .push(format!("add {name} with autoprobe {}", &autoprobe[..1]));
        match self.add {
            Some(errno) => Err(NetlinkError::Refused {
                errno,
                explanation: None,
            }),
            None => {
                self.add_device();
                Ok(())
            }
        }
    }

    fn delete(&self, name: &Name) -> Result<(), NetlinkError> {
        self.calls.borrow_mut().push(format!("delete {name}"));
        fs::remove_dir_all(self.path("bus/vdpa/devices/d0")).unwrap();
        Ok(())
    }
}

fn name() -> Name {
    Name::try_from("d0").unwrap()
}

#[test]
fn a_disk_is_found_and_the_driver_is_the_one_asked_for() {
    let host = Host::new(Probe::Disk);
    let attached = host.attach(Driver::Virtio).unwrap();
    let expected = Attached {
        driver: Driver::Virtio,
        node: Some("/dev/vdb".into()),
    };
    assert_eq!(attached, expected);
    assert_eq!(
        host.content("bus/vdpa/devices/d0/driver_override"),
        "virtio_vdpa"
    );
    assert_eq!(host.content("bus/vdpa/drivers/virtio_vdpa/bind"), "d0");
    assert_eq!(host.bus().status(&name()), Status::Bound(expected));
}

#[test]
fn nothing_is_probed_under_netlinks_mutex_and_the_setting_comes_back() {
    let host = Host::new(Probe::Character);
    let attached = host.attach(Driver::Vhost).unwrap();
    assert_eq!(
        attached.node.as_deref(),
        Some(Path::new("/dev/vhost-vdpa-1"))
    );
    assert_eq!(*host.calls.borrow(), ["add d0 with autoprobe 0"]);
    assert_eq!(host.content("bus/vdpa/drivers_autoprobe"), "1");
}

#[test]
fn a_refused_add_restores_the_setting_and_is_named() {
    for (errno, expected) in [
        (Errno::EEXIST, "attached already"),
        (Errno::EPERM, "CAP_NET_ADMIN"),
        (Errno::EINVAL, "every virtqueue must be set up"),
        (Errno::ENODEV, "module vduse"),
        (Errno::ENOMEM, "ENOMEM"),
    ] {
        let host = Host {
            add: Some(errno),
            ..Host::new(Probe::Disk)
        };
        let error = host.attach(Driver::Virtio).unwrap_err().to_string();
        assert!(error.contains(expected), "{errno}: {error}");
        assert_eq!(host.content("bus/vdpa/drivers_autoprobe"), "1");
    }
}

#[test]
fn refused_features_are_seen_and_the_device_is_taken_off_the_bus() {
    let host = Host::new(Probe::Refused);
    let error = host.attach(Driver::Virtio).unwrap_err();
    assert!(
        matches!(error, AttachError::NoDisk { status: 0x83, .. }),
        "{error}"
    );
    assert_eq!(
        *host.calls.borrow(),
        ["add d0 with autoprobe 0", "delete d0"]
    );
    assert_eq!(host.bus().status(&name()), Status::Detached);
}

#[test]
fn a_host_without_virtio_blk_is_told_so() {
    let host = Host::new(Probe::Refused);
    fs::remove_dir(host.path("bus/virtio/drivers/virtio_blk")).unwrap();
    let error = host.attach(Driver::Virtio).unwrap_err();
    assert!(matches!(error, AttachError::NoDiskDriver { .. }), "{error}");
}

#[test]
fn what_is_missing_is_said_before_anything_is_changed() {
    let host = Host::new(Probe::Disk);
    fs::remove_dir(host.path("class/vduse/d0")).unwrap();
    assert!(matches!(
        host.attach(Driver::Virtio),
        Err(AttachError::Unknown { .. })
    ));
    fs::remove_dir_all(host.path("bus/vdpa/drivers/virtio_vdpa")).unwrap();
    let error = host.attach(Driver::Virtio).unwrap_err().to_string();
    assert!(error.contains("modprobe virtio_vdpa"), "{error}");
    fs::remove_dir_all(host.path("bus/vdpa")).unwrap();
    assert!(matches!(
        host.attach(Driver::Virtio),
        Err(AttachError::NoBus { .. })
    ));
    assert!(host.calls.borrow().is_empty());
}

#[test]
fn a_second_attach_names_the_driver_that_has_the_device() {
    let host = Host::new(Probe::Character);
    host.add_device();
    let error = host.attach(Driver::Virtio).unwrap_err().to_string();
    assert!(
        error.contains("attached already (driver vhost_vdpa)"),
        "{error}"
    );
}

#[test]
fn a_detach_unbinds_first() {
    let host = Host::new(Probe::Disk);
    host.add_device();
    detach(&host.bus(), &host, &name()).unwrap();
    assert_eq!(host.content("bus/vdpa/drivers/virtio_vdpa/unbind"), "d0");
    assert_eq!(*host.calls.borrow(), ["delete d0"]);
    let again = detach(&host.bus(), &host, &name()).unwrap_err();
    assert!(matches!(again, DetachError::NotAttached { .. }));
}

#[test]
fn status_tells_a_bound_device_from_an_unbound_one() {
    let host = Host::new(Probe::Refused);
    assert_eq!(host.bus().status(&name()), Status::Detached);
    host.add_device();
    let no_disk = Attached {
        driver: Driver::Virtio,
        node: None,
    };
    assert_eq!(host.bus().status(&name()), Status::Bound(no_disk));
    assert_eq!(host.bus().virtio_status(&name()), Some(0x83));
    assert!(host.bus().has_failed(&name()));
    fs::remove_file(host.path("bus/vdpa/devices/d0/driver")).unwrap();
    assert_eq!(host.bus().status(&name()), Status::Unbound);
}
