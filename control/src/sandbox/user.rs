//! Becoming another user than root, with root's capabilities until they are given up.

use std::ffi::CString;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::prctl::set_dumpable;
use nix::unistd::{Gid, Uid, User, geteuid, initgroups, setgroups, setresgid, setresuid};
use rustix::thread::set_keep_capabilities;

use super::capabilities::keep_few;

/// Why the daemon does not run as the user that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Nobody of this name or number.
    #[error("there is no user {0}: make one, for example with useradd --system {0}")]
    Unknown(String),
    /// Only root may become others.
    #[error("cannot become user {user}: {reason}; start as root, or as {user} without --user")]
    Switch {
        /// Who.
        user: String,
        /// What the system said.
        reason: std::io::Error,
    },
    /// Its folder.
    #[error("cannot make {} for user {user}: {reason}; give --runtime-dir a folder of that user's", path.display())]
    Folder {
        /// Who.
        user: String,
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
}

/// A user, as far as the kernel knows one.
struct Identity {
    uid: Uid,
    gid: Gid,
    /// What its further groups are found by.
    name: Option<CString>,
}

/// Makes this process, which has one thread, that of the user called `name`, or with that number.
pub(super) fn switch(name: &str, runtime_dir: &Path) -> Result<(), UserError> {
    let refuse = |reason: std::io::Error| UserError::Switch {
        user: name.into(),
        reason,
    };
    let user = find(name).ok_or_else(|| UserError::Unknown(name.into()))?;
    if user.uid == geteuid() {
        return Ok(());
    }
    if !geteuid().is_root() {
        return Err(refuse(Errno::EPERM.into()));
    }
    own_folder(&user, runtime_dir).map_err(|reason| UserError::Folder {
        user: name.into(),
        path: runtime_dir.into(),
        reason,
    })?;
    become_other(&user).map_err(refuse)
}

/// Returns whom `name` means. One with a number need not be in the list of users; then its group has the same.
fn find(name: &str) -> Option<Identity> {
    let number = name.parse().ok();
    let listed = match number {
        Some(number) => User::from_uid(Uid::from_raw(number)),
        None => User::from_name(name),
    };
    match (listed, number) {
        (Ok(Some(user)), _) => Some(Identity {
            uid: user.uid,
            gid: user.gid,
            name: CString::new(user.name).ok(),
        }),
        (_, Some(number)) => Some(Identity {
            uid: Uid::from_raw(number),
            gid: Gid::from_raw(number),
            name: None,
        }),
        (_, None) => None,
    }
}

/// Makes the folder if it is not there, whose parent may be root's alone.
fn own_folder(user: &Identity, folder: &Path) -> std::io::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o755).create(folder)?;
    chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
}

fn become_other(user: &Identity) -> std::io::Result<()> {
    set_keep_capabilities(true)?;
    match &user.name {
        Some(name) => initgroups(name, user.gid)?,
        None => setgroups(&[user.gid])?,
    }
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(user.uid, user.uid, user.uid)?;
    set_keep_capabilities(false)?;
    keep_few()?;
    // Linux takes core dumps, and its own files in /proc, from who changes the user.
    Ok(set_dumpable(true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_there_is_named() {
        let refused = switch("nobody-of-this-name", Path::new("/run")).unwrap_err();
        assert!(refused.to_string().contains("useradd"), "{refused}");
    }

    #[test]
    fn who_one_is_already_changes_nothing() {
        let own = geteuid().to_string();
        switch(&own, Path::new("/nowhere")).unwrap();
        assert!(!Path::new("/nowhere").exists());
    }
}
