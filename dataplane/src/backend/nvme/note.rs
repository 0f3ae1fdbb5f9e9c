//! From whom a controller was taken, written down for the process after one that was killed: `0000:00:10.0 nvme`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A note that is kept until the controller was given back.
#[derive(Debug)]
pub(super) struct Note(Option<PathBuf>);

/// What a note says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// The address of the controller.
    pub(super) pci: String,
    /// Who had it.
    pub(super) driver: Option<String>,
}

impl Note {
    /// Returns the note at `path`, or one that is not kept.
    pub(super) fn at(path: Option<&Path>) -> Self {
        Self(path.map(Path::to_owned))
    }

    /// Returns what was written; `None` if nothing was, or nothing of use.
    pub(super) fn read(&self) -> Option<Taken> {
        let text = fs::read_to_string(self.0.as_ref()?).ok()?;
        let mut words = text.split_whitespace().map(str::to_owned);
        let (pci, driver) = (words.next()?, words.next());
        // Both become part of a path.
        let is_name = |name: &String| !name.contains('/') && !name.starts_with('.');
        let is_sound = super::pci::is_address(&pci) && driver.iter().all(is_name);
        is_sound.then_some(Taken { pci, driver })
    }

    /// Writes down that the controller at `pci` is taken from `driver`.
    pub(super) fn write(&self, pci: &str, driver: Option<&str>) -> io::Result<()> {
        let Some(path) = &self.0 else {
            return Ok(());
        };
        // Whole or not at all: a daemon may be killed here, too.
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        fs::write(
            &temporary,
            format!("{pci} {}\n", driver.unwrap_or_default()),
        )?;
        fs::rename(&temporary, path)
    }

    /// Removes it: nobody has to give anything back.
    pub(super) fn remove(&self) {
        if let Some(path) = &self.0 {
            // One that stays is looked at, and found to be of no use.
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_until_it_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("d0.controller");
        let note = Note::at(Some(&path));
        assert_eq!(note.read(), None);
        for driver in [Some("nvme"), None] {
            note.write("0000:00:10.0", driver).expect("written");
            let taken = note.read().expect("a note");
            assert_eq!(
                (taken.pci.as_str(), taken.driver.as_deref()),
                ("0000:00:10.0", driver)
            );
        }
        note.remove();
        assert_eq!(
            (
                note.read(),
                fs::read_dir(folder.path()).expect("it").count()
            ),
            (None, 0)
        );
    }

    #[test]
    fn what_is_no_note_is_not_acted_upon() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("d0.controller");
        let note = Note::at(Some(&path));
        for text in [
            "",
            "nvme",
            "../../etc nvme",
            "0000:00:10.0 ../x",
            "0000:00:10.0 a/b",
        ] {
            fs::write(&path, text).expect("written");
            assert_eq!(note.read(), None, "{text}");
        }
        let kept_nowhere = Note::at(None);
        kept_nowhere
            .write("0000:00:10.0", None)
            .expect("nothing to do");
        assert_eq!(kept_nowhere.read(), None);
    }
}
