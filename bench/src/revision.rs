//! What this program was built from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What this program was built from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Build {
    /// The commit; none where the build did not know it.
    pub git_revision: Option<String>,
    /// Whether files were changed since; none where that is not known.
    pub dirty: Option<bool>,
    /// Built without optimization, so that figures mean nothing.
    pub debug: bool,
}

impl Build {
    /// Returns what `build.rs` found out.
    pub fn of_this() -> Self {
        Self::parse(option_env!("POLLUX_REVISION"))
    }

    fn parse(described: Option<&str>) -> Self {
        let clean = described.map(|it| it.strip_suffix("-dirty").unwrap_or(it));
        Self {
            git_revision: clean.map(str::to_owned),
            dirty: described.map(|it| it.ends_with("-dirty")),
            debug: cfg!(debug_assertions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_told_from_what_was_changed_since() {
        let build = Build::parse(Some("abc-dirty"));
        assert_eq!(
            (build.git_revision.as_deref(), build.dirty),
            (Some("abc"), Some(true))
        );
        let build = Build::parse(Some("abc"));
        assert_eq!(
            (build.git_revision.as_deref(), build.dirty),
            (Some("abc"), Some(false))
        );
        let build = Build::parse(None);
        assert_eq!((build.git_revision, build.dirty), (None, None));
    }
}
