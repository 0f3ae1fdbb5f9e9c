//! A node of this host without a server in between: what the others are held against.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ServerError, Variant};

#[derive(Debug)]
pub(super) struct Raw {
    node: PathBuf,
}

impl Raw {
    /// The node that `variant` names.
    pub(super) fn find(variant: &Variant) -> Result<Self, ServerError> {
        let node = PathBuf::from(variant.value("node").unwrap_or_default());
        match fs::metadata(&node) {
            Ok(_) => Ok(Self { node }),
            Err(reason) => Err(ServerError::NoNode { node, reason }),
        }
    }

    pub(super) fn node(&self) -> &Path {
        &self.node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_there_is_named() {
        let raw = |text: &str| Raw::find(&text.parse().unwrap());
        assert_eq!(
            raw("raw:node=/dev/null").unwrap().node(),
            Path::new("/dev/null")
        );
        let error = raw("raw:node=/no/such/node").unwrap_err().to_string();
        assert!(error.contains("/no/such/node"), "{error}");
    }
}
