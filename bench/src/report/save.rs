//! Files that are written whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::ReportError;

/// Writes `text` to `path`, in place of what was there.
///
/// # Errors
/// It cannot be written; what was there stays, and nothing else does.
pub fn save(path: &Path, text: &str) -> Result<(), ReportError> {
    let mut beside = OsString::from(path);
    beside.push(".new");
    let beside = Path::new(&beside);
    let saved = fs::write(beside, text).and_then(|()| fs::rename(beside, path));
    saved.map_err(|reason| {
        // It may not even be there; the first error is the one to tell.
        let _ = fs::remove_file(beside);
        let path = path.to_owned();
        ReportError::Write { path, reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_half_made_stays_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        save(&path, "first").unwrap();
        save(&path, "second").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        let taken = folder.path().join("folder");
        fs::create_dir(&taken).unwrap();
        let error = save(&taken, "text").unwrap_err().to_string();
        assert!(
            error.contains("folder: ") && error.contains("--out"),
            "{error}"
        );
        let none = folder.path().join("none/report.html");
        assert!(save(&none, "text").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
