//! Names of VDUSE devices.

use crate::abi::VDUSE_NAME_MAX;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use thiserror::Error;

/// The name of a VDUSE device, known to be one that the kernel can create and attach.
///
/// The same string names `/dev/vduse/NAME`, a folder in sysfs and the device on the vDPA bus.
/// Cloning is cheap and does not allocate.
///
/// ```
/// use vduse::Name;
///
/// let name: Name = "d0".parse()?;
/// assert_eq!(name.as_str(), "d0");
/// // The kernel makes this file itself.
/// assert!("control".parse::<Name>().is_err());
/// assert!("a/b".parse::<Name>().is_err());
/// # Ok::<(), vduse::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a string is no name for a VDUSE device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("device name is empty; give it one, for example d0")]
    Empty,
    /// It does not fit in the kernel's 256 bytes.
    #[error("device name is {length} bytes long and the kernel takes 255; shorten it")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character that would break paths, the kernel's C strings or people's terminals.
    #[error(
        "device name {name:?} has the character {character:?}; \
         use letters, digits, '-', '_' and '.'"
    )]
    Character {
        /// The string given.
        name: String,
        /// The first character at fault.
        character: char,
    },
    /// A path component with a meaning of its own, or a file that the kernel makes itself.
    #[error("device name {name:?} is taken by {owner}; choose another, for example d0")]
    Reserved {
        /// The string given.
        name: String,
        /// What has the name already.
        owner: &'static str,
    },
}

impl Name {
    /// The name as a string slice.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in the kernel's form: 256 bytes, the rest zero.
    pub(crate) fn to_kernel(&self) -> [u8; VDUSE_NAME_MAX] {
        let mut bytes = [0; VDUSE_NAME_MAX];
        bytes[..self.0.len()].copy_from_slice(self.0.as_bytes());
        bytes
    }
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() >= VDUSE_NAME_MAX {
            return Err(NameError::TooLong { length: name.len() });
        }
        if let Some(character) = name.chars().find(|c| !c.is_ascii_graphic() || *c == '/') {
            return Err(NameError::Character {
                name: name.into(),
                character,
            });
        }
        match owner(name) {
            Some(owner) => Err(NameError::Reserved {
                name: name.into(),
                owner,
            }),
            None => Ok(Self(name.into())),
        }
    }
}

/// What already has this name. The vDPA device becomes a folder `NAME` inside
/// `/sys/class/vduse/NAME`, beside the attributes and `vqN` folders that the kernel puts there.
fn owner(name: &str) -> Option<&'static str> {
    match name {
        "." | ".." => Some("the file system"),
        "control" => Some("the node /dev/vduse/control"),
        "dev" | "power" | "subsystem" | "uevent" | "bounce_size" | "msg_timeout" => {
            Some("a sysfs file of every VDUSE device")
        }
        _ => {
            let number = name.strip_prefix("vq")?;
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            digits.then_some("the sysfs folder of a virtqueue")
        }
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::try_from(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken() {
        for name in [
            "d0",
            "a",
            "disk-1.img",
            "vq",
            "vqa",
            "vq1x",
            "controls",
            "...",
        ] {
            assert_eq!(Name::try_from(name).unwrap().as_str(), name);
        }
        assert!(Name::try_from("x".repeat(255).as_str()).is_ok());
    }

    #[test]
    fn empty_and_long_names_are_refused() {
        assert_eq!(Name::try_from(""), Err(NameError::Empty));
        let long = "x".repeat(256);
        assert_eq!(
            Name::try_from(long.as_str()),
            Err(NameError::TooLong { length: 256 })
        );
    }

    #[test]
    fn characters_that_break_paths_or_terminals_are_refused() {
        for (name, at_fault) in [
            ("a/b", '/'),
            ("a\0b", '\0'),
            ("a b", ' '),
            ("a\nb", '\n'),
            ("é", 'é'),
        ] {
            let error = Name::try_from(name).unwrap_err();
            assert_eq!(
                error,
                NameError::Character {
                    name: name.into(),
                    character: at_fault
                }
            );
        }
    }

    #[test]
    fn names_the_kernel_uses_itself_are_refused() {
        for name in ["control", "vq0", "vq17", ".", "..", "power", "msg_timeout"] {
            let error = name.parse::<Name>().unwrap_err();
            assert!(
                matches!(error, NameError::Reserved { .. }),
                "{name}: {error}"
            );
            assert!(error.to_string().contains("choose another"), "{error}");
        }
    }

    #[test]
    fn the_kernel_form_is_zero_padded() {
        let bytes = Name::try_from("d0").unwrap().to_kernel();
        assert_eq!(&bytes[..3], b"d0\0");
        assert!(bytes[2..].iter().all(|&b| b == 0));
    }
}
