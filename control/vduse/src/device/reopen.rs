//! A device that is destroyed and created anew, while others keep their references to it.

#![allow(unsafe_code)]

use super::{Device, OpenError, open};
use crate::Name;
use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// What a closed device has open.
const NOTHING: &str = "/dev/null";

impl Device {
    /// Returns the device `name`, closed until [`Device::reopen`]: for all that is made ready before it can be opened.
    pub fn closed(name: &Name) -> io::Result<Self> {
        Ok(Self {
            name: name.clone(),
            file: open(Path::new(NOTHING))?,
        })
    }

    /// Closes `/dev/vduse/NAME`, so that the device can be destroyed, until [`Device::reopen`]. Every other
    /// operation fails meanwhile.
    ///
    /// One that another thread is in keeps the device open until it ends.
    pub fn close(&self) -> io::Result<()> {
        self.replace(&open(Path::new(NOTHING))?)
    }

    /// Opens `/dev/vduse/NAME` again, for all who have a reference to this device. Whoever waits for events of
    /// the file must be told of it anew.
    pub fn reopen(&self) -> Result<(), OpenError> {
        let path = Path::new("/dev/vduse").join(self.name.as_str());
        open(&path)
            .and_then(|file| self.replace(&file))
            .map_err(|reason| OpenError::new(&self.name, reason))
    }

    /// Puts `file` in this one's place, under the same number.
    fn replace(&self, file: &File) -> io::Result<()> {
        let (from, to) = (file.as_raw_fd(), self.file.as_raw_fd());
        // SAFETY: `to` is this device's own number and stays so: the call closes the old file behind it and
        // puts the new one there at once, and takes nothing from `file`.
        Errno::result(unsafe { libc::dup3(from, to, libc::O_CLOEXEC) })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceError;

    #[test]
    fn a_closed_device_keeps_its_number_and_fails() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("never-created"), [1; 152]).unwrap();
        let name = Name::try_from("never-created").unwrap();
        let device = Device::open_at(folder.path(), &name).unwrap();
        let number = device.file.as_raw_fd();
        device.close().unwrap();
        assert_eq!(device.file.as_raw_fd(), number);
        assert!(matches!(device.receive(), Err(DeviceError::Other { .. })));
        let link = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        assert_eq!(link, Path::new("/dev/null"));
        assert!(matches!(device.reopen(), Err(OpenError::Unknown { .. })));
    }

    #[test]
    fn a_device_that_is_made_closed_fails_as_well() {
        let device = Device::closed(&Name::try_from("never-created").unwrap()).unwrap();
        assert!(matches!(device.receive(), Err(DeviceError::Other { .. })));
        assert!(matches!(device.reopen(), Err(OpenError::Unknown { .. })));
    }
}
