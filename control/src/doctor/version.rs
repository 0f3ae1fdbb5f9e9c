//! Kernel versions.

use std::fmt;

/// `MAJOR.MINOR.PATCH` of the upstream release that a kernel is built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) patch: u32,
}

impl Version {
    pub(super) const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// From `uname -r`, `/proc/version` and `/proc/version_signature`.
    ///
    /// Debian's and Ubuntu's `uname -r` may stand still at `6.1.0-50`; Debian puts the real release
    /// at the end of the banner (`Debian 6.1.192-1`), Ubuntu at the end of its signature.
    pub(super) fn of(release: &str, banner: &str, signature: &str) -> Option<Self> {
        let debian = banner
            .split_once(" Debian ")
            .and_then(|(_, rest)| Self::parse(rest));
        let ubuntu = signature.rsplit(' ').next().and_then(Self::parse);
        debian.or(ubuntu).or_else(|| Self::parse(release))
    }

    /// From a text that starts with a version; a patch that is not given is 0.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let version = text
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .next()?;
        let mut numbers = version.split('.');
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        let patch = numbers
            .next()
            .and_then(|patch| patch.parse().ok())
            .unwrap_or(0);
        Some(Self {
            major,
            minor,
            patch,
        })
    }

    /// Whether both are releases of one stable series.
    pub(super) fn same_series(self, other: Self) -> bool {
        (self.major, self.minor) == (other.major, other.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.patch {
            0 => write!(f, "{}.{}", self.major, self.minor),
            patch => write!(f, "{}.{}.{patch}", self.major, self.minor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_parsed() {
        for (text, version) in [
            ("6.12.117+deb12-cloud-amd64", Version::new(6, 12, 117)),
            ("7.3.0-rc1", Version::new(7, 3, 0)),
            ("6.18.44", Version::new(6, 18, 44)),
            ("7.2", Version::new(7, 2, 0)),
        ] {
            assert_eq!(Version::parse(text), Some(version), "{text}");
        }
        assert_eq!(Version::parse("unknown"), None);
    }

    #[test]
    fn the_distributions_word_goes_before_uname() {
        let banner = "Linux version 6.1.0-50-amd64 (x@y) (gcc 12) #1 SMP Debian 6.1.192-1 (2026)";
        assert_eq!(
            Version::of("6.1.0-50-amd64", banner, ""),
            Some(Version::new(6, 1, 192))
        );
        let signature = "Ubuntu 6.8.0-50.51-generic 6.8.12";
        assert_eq!(
            Version::of("6.8.0-50-generic", "", signature),
            Some(Version::new(6, 8, 12))
        );
        assert_eq!(
            Version::of("6.9.3", "Linux version 6.9.3", ""),
            Some(Version::new(6, 9, 3))
        );
    }
}
