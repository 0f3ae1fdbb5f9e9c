//! How requests get from the load generator to the servers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::server::ServerKind;

/// The path that is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// A disk of this host, `/dev/vdX`, loaded with fio; completions come by interrupt.
    #[default]
    VduseVirtio,
    /// The same, but pollux has a poll queue beside its ordinary one, and fio polls for its
    /// completions. The other servers stay on their ordinary path.
    VduseVirtioPoll,
    /// `/dev/vhost-vdpa-N`, loaded by a driver in this process that polls.
    VduseVhost,
    /// A socket, loaded by the same driver: no kernel in between, so this runs on any Linux.
    VhostUser,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::VduseVirtio,
        Self::VduseVirtioPoll,
        Self::VduseVhost,
        Self::VhostUser,
    ];

    /// The servers that can be reached this way, in the order of a round.
    pub fn servers(self) -> &'static [ServerKind] {
        match self {
            Self::VduseVirtio | Self::VduseVirtioPoll => &[
                ServerKind::Pollux,
                ServerKind::Qemu,
                ServerKind::Rublk,
                ServerKind::Raw,
            ],
            Self::VduseVhost | Self::VhostUser => &[ServerKind::Pollux, ServerKind::Qemu],
        }
    }

    /// Whether the load is a driver in this process that polls, and not fio.
    pub fn is_driven_here(self) -> bool {
        matches!(self, Self::VduseVhost | Self::VhostUser)
    }

    /// The driver of the vDPA bus that VDUSE devices are bound to; none without VDUSE.
    pub(crate) fn vdpa_driver(self) -> Option<&'static str> {
        match self {
            Self::VduseVirtio | Self::VduseVirtioPoll => Some("virtio_vdpa"),
            Self::VduseVhost => Some("vhost_vdpa"),
            Self::VhostUser => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::VduseVirtio => "vduse-virtio",
            Self::VduseVirtioPoll => "vduse-virtio-poll",
            Self::VduseVhost => "vduse-vhost",
            Self::VhostUser => "vhost-user",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|it| it.name() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text}: unknown transport; use one of {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_written_as_they_are_read() {
        for transport in Transport::ALL {
            let name = transport.to_string();
            assert_eq!(name.parse(), Ok(transport));
            assert_eq!(serde_json::to_value(transport).unwrap(), name);
        }
        let error = "vhost".parse::<Transport>().unwrap_err();
        assert!(error.contains("vduse-virtio-poll"), "{error}");
    }

    #[test]
    fn ublk_is_not_reached_through_vhost() {
        for transport in [Transport::VduseVhost, Transport::VhostUser] {
            assert!(!transport.servers().contains(&ServerKind::Rublk));
        }
    }
}
