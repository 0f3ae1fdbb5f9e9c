//! The socket that frontends connect to: one daemon's, removed at the end.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Someone listens.
    #[error("{}: another program listens there; stop that one, or use another path", .0.display())]
    Taken(PathBuf),
    /// Something else is there.
    #[error("{}: there is something that is no socket; remove it, or use another path", .0.display())]
    Occupied(PathBuf),
    /// The system refuses.
    #[error("cannot listen at {}: {reason}; use a path in a folder that you may write", path.display())]
    Listen {
        /// Where.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

/// It listens. Dropping it removes the path.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`, for this user alone. What a daemon that was killed left there is replaced.
    ///
    /// # Errors
    ///
    /// [`SocketError`] when another listens there, or it cannot be had.
    pub(crate) fn new(path: &Path) -> Result<Self, SocketError> {
        let refuse = |reason| SocketError::Listen {
            path: path.to_owned(),
            reason,
        };
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(SocketError::Occupied(path.to_owned()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(SocketError::Taken(path.to_owned()));
            }
            Ok(_) => std::fs::remove_file(path).map_err(refuse)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(refuse)?;
        let socket = Self {
            listener,
            path: path.to_owned(),
        };
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(refuse)?;
        socket.listener.set_nonblocking(true).map_err(refuse)?;
        Ok(socket)
    }

    /// Returns where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("{} stays behind: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d0.sock");
        // Its listener is gone, and its path is not.
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::new(&path).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Socket::new(&path), Err(SocketError::Taken(_))));
        drop(socket);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(Socket::new(&path), Err(SocketError::Occupied(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
        let nowhere = Socket::new(&folder.path().join("no/d0.sock")).unwrap_err();
        assert!(nowhere.to_string().contains("folder"), "{nowhere}");
    }
}
