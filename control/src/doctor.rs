//! What this host lacks for VDUSE, and the command that mends each.
//!
//! Every check is a function of a root folder, so that tests can give it another host's `/proc`,
//! `/sys` and `/dev`. Nothing is changed, nothing is printed, and nothing asks netlink.

mod cpus;
mod host;
mod kernel;
mod memory;
mod modules;
mod nodes;
mod privileges;
mod version;

use host::Host;
use serde::Serialize;

/// The state of one thing that serving VDUSE devices depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, in a few words; the same on every host.
    pub check: &'static str,
    /// Whether it will do.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// The command, or the one step, that mends it; always there unless the state is good.
    pub remedy: Option<String>,
}

/// How good a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// Devices can be served, but slower, less safely or not in every way.
    Warning,
    /// Devices cannot be served, or not attached.
    Missing,
}

impl Finding {
    fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            state: State::Good,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn warning(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self {
            check,
            state: State::Warning,
            detail: detail.into(),
            remedy,
        }
    }

    fn missing(check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: State::Missing,
            ..Self::warning(check, detail, remedy)
        }
    }
}

/// Looks at this host, for the user that this process runs as.
pub fn examine() -> Vec<Finding> {
    examine_host(&Host::at("/"))
}

fn examine_host(host: &Host) -> Vec<Finding> {
    let mut findings = kernel::findings(host);
    findings.extend(modules::findings(host));
    findings.extend(nodes::findings(host));
    findings.extend(privileges::findings(host));
    findings.extend(cpus::findings(host));
    findings.extend(memory::findings(host));
    findings
}

#[cfg(test)]
mod tests;
