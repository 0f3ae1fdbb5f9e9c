//! Capabilities (capabilities(7)), which each thread has its own of.
//!
//! A few are kept, but not in effect: they are [raised] for the moment in which something is done that takes them. Root's right
//! to all files stays, as that is what being root means to those who start the daemon; landlock narrows it.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    set_no_new_privs,
};

/// What attaching takes (the vDPA bus's netlink), what device nodes and attributes in sysfs take of who is not root, and what
/// a takeover takes to be quick.
const KEPT: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::SYS_NICE);

/// Has this thread, and those that it starts, keep only what is needed later, and gain nothing.
pub(super) fn keep_few() -> io::Result<()> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    let permitted = capabilities(None)?.permitted & KEPT;
    let in_effect = match nix::unistd::geteuid().is_root() {
        true => CapabilitySet::DAC_OVERRIDE,
        false => CapabilitySet::empty(),
    };
    let sets = CapabilitySets {
        effective: permitted & in_effect,
        permitted,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, sets)?)
}

/// Gives up all capabilities of this thread.
pub(super) fn drop_all() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    Ok(set_capabilities(None, sets)?)
}

/// Does something with all capabilities that this thread has kept.
pub(crate) fn raised<T>(action: impl FnOnce() -> T) -> T {
    let _raised = Raised::begin();
    action()
}

/// While it lives, they are in effect.
struct Raised {
    /// What is to be again.
    before: Option<CapabilitySets>,
}

impl Raised {
    fn begin() -> Self {
        let before = capabilities(None).ok();
        let before = before.filter(|sets| sets.effective != sets.permitted);
        if let Some(sets) = before {
            let effective = sets.permitted;
            // Who may not finds out by what is refused.
            let _ = set_capabilities(None, CapabilitySets { effective, ..sets });
        }
        Self { before }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(sets) = self.before {
            // Less than before can always be had.
            let _ = set_capabilities(None, sets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does something on a thread of its own, whose capabilities end with it.
    fn apart<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(action).join().unwrap()
    }

    #[test]
    fn what_is_kept_is_in_effect_only_while_it_is_raised() {
        apart(|| {
            let had = capabilities(None).unwrap().permitted;
            keep_few().unwrap();
            let rest = capabilities(None).unwrap();
            assert_eq!(rest.permitted, had & KEPT);
            assert!(!rest.effective.contains(CapabilitySet::NET_ADMIN));
            assert!(rustix::thread::no_new_privs().unwrap());
            let within = raised(|| capabilities(None).unwrap());
            assert_eq!(within.effective, had & KEPT);
            assert_eq!(capabilities(None).unwrap().effective, rest.effective);
        });
    }

    #[test]
    fn a_thread_that_gave_all_up_can_raise_nothing() {
        apart(|| {
            drop_all().unwrap();
            let within = raised(|| capabilities(None).unwrap());
            assert!(within.effective.is_empty() && within.permitted.is_empty());
        });
    }
}
