//! The programs that a gate compares: files as they are, and revisions, built in a tree of their own.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::interrupt::{Interrupt, InterruptError};
use crate::process::{self, Process, ProcessError};

/// For git, which reads a repository.
const GIT_LIMIT: Duration = Duration::from_secs(60);
/// For a build from nothing on a slow machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);
/// Where builds are kept in the repository's target folder, so that the next one builds less.
const TARGET: &str = "target/gate";
/// Characters of a commit that people are shown.
const SHORT_COMMIT: usize = 10;

/// Why there is no program.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Neither a file nor a revision.
    #[error(
        "gate: {name}: neither a file nor a revision of this repository: {reason}; name a pollux program, or a commit, branch or tag"
    )]
    Unknown {
        /// As it was named.
        name: String,
        /// What git said.
        reason: String,
    },
    /// git did not make or find a tree.
    #[error("gate: git {command}: {reason}; run it by hand")]
    Git {
        /// What was asked of git.
        command: String,
        /// What it said.
        reason: String,
    },
    /// The revision does not build.
    #[error("gate: {0}: cargo build failed; see above, and name a revision that builds")]
    Build(String),
    /// The user stopped it, or it took too long.
    #[error("gate: {0}: the build was stopped; nothing is left of it but {TARGET}")]
    Stopped(String),
    /// A file could not be made.
    #[error("gate: {}: {reason}; look at the room and the rights of its folder", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        reason: io::Error,
    },
    /// A child process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Ctrl-C could not be caught.
    #[error(transparent)]
    Interrupt(#[from] InterruptError),
}

/// A pollux program, and the folder that it is in for as long as it is needed.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    name: String,
    _folder: Option<TempDir>,
}

impl Program {
    /// The program `name`: a file, or otherwise a revision of the repository around `folder`, which is built
    /// by cargo with its progress on standard error.
    ///
    /// # Errors
    /// There is no such file or revision, it does not build, or the user stopped it. No tree is left behind.
    pub fn find(name: &str, folder: &Path) -> Result<Self, BuildError> {
        let file = folder.join(name);
        if file.is_file() {
            let path = file
                .canonicalize()
                .map_err(|reason| BuildError::File { path: file, reason })?;
            let name = name.to_owned();
            return Ok(Self {
                path,
                name,
                _folder: None,
            });
        }
        let unknown = |reason| BuildError::Unknown {
            name: name.to_owned(),
            reason,
        };
        let revision = format!("{name}^{{commit}}");
        let commit = git(
            folder,
            &["rev-parse", "--verify", "--end-of-options", &revision],
        )?
        .map_err(unknown)?;
        let interrupt = Interrupt::install()?;
        build(name, &commit, folder, &interrupt)
    }

    /// What to start.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to call it: the file as it was named, or the revision and its commit.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A tree of one commit beside the repository's own, which is removed when this is dropped.
struct Tree<'a> {
    repository: &'a Path,
    path: PathBuf,
}

impl<'a> Tree<'a> {
    fn add(repository: &'a Path, path: PathBuf, commit: &str) -> Result<Self, BuildError> {
        let args: [&OsStr; 5] = [
            "worktree".as_ref(),
            "add".as_ref(),
            "--detach".as_ref(),
            path.as_os_str(),
            commit.as_ref(),
        ];
        let added = git(repository, &args)?;
        // Made first, so that what git began is removed as well.
        let tree = Self { repository, path };
        let command = "worktree add --detach".to_owned();
        added.map_err(|reason| BuildError::Git { command, reason })?;
        Ok(tree)
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        let args: [&OsStr; 4] = [
            "worktree".as_ref(),
            "remove".as_ref(),
            "--force".as_ref(),
            self.path.as_os_str(),
        ];
        match git(self.repository, &args) {
            Ok(Ok(_)) => {}
            // git knows of no such tree where it could not add it.
            Ok(Err(_)) if !self.path.exists() => {}
            Ok(Err(reason)) => eprintln!(
                "gate: {}: {reason}; git worktree remove it",
                self.path.display()
            ),
            Err(error) => eprintln!("{error}"),
        }
    }
}

fn build(
    name: &str,
    commit: &str,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Program, BuildError> {
    let command = "rev-parse --show-toplevel".to_owned();
    let root = git(folder, &["rev-parse", "--show-toplevel"])?;
    let root = PathBuf::from(root.map_err(|reason| BuildError::Git { command, reason })?);
    let file_error = |path: &Path| {
        let path = path.to_owned();
        move |reason| BuildError::File { path, reason }
    };
    let scratch = TempDir::with_prefix("pollux-gate-")
        .map_err(file_error(Path::new("a temporary folder")))?;
    let tree = Tree::add(&root, scratch.path().join("tree"), commit)?;
    let short = commit.get(..SHORT_COMMIT).unwrap_or(commit);
    eprintln!("[building {name}, {short}]");
    let target = root.join(TARGET);
    let mut command = Command::new("cargo");
    command.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "pollux",
        "--target-dir",
    ]);
    command.arg(&target).current_dir(&tree.path);
    let mut cargo = Process::spawn_shown(command)?;
    cargo.drain_stdout();
    match cargo.wait(BUILD_LIMIT, Some(interrupt))? {
        Some(status) if status.success() => {}
        Some(_) => return Err(BuildError::Build(name.to_owned())),
        None => {
            cargo.stop()?;
            return Err(BuildError::Stopped(name.to_owned()));
        }
    }
    let path = scratch.path().join("pollux");
    // A copy: the next build takes its place.
    fs::copy(target.join("release/pollux"), &path).map_err(file_error(&path))?;
    Ok(Program {
        path,
        name: format!("{name} ({short})"),
        _folder: Some(scratch),
    })
}

/// What git prints in `folder`, without the line's end, or else its last words.
fn git<S: AsRef<OsStr>>(folder: &Path, args: &[S]) -> Result<Result<String, String>, BuildError> {
    let mut command = Command::new("git");
    command.args(args).current_dir(folder);
    let finished = process::run(command, &[], GIT_LIMIT, None)?;
    Ok(match finished.status {
        Some(status) if status.success() => Ok(finished.stdout.trim_end().to_owned()),
        Some(_) => Err(finished.last_words),
        None => Err(format!("no end after {} s", GIT_LIMIT.as_secs())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repository with one commit, in which a program called pollux has `source`.
    fn repository(source: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir(path.join("src")).unwrap();
        let manifest =
            "[package]\nname = \"pollux\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
        fs::write(path.join("Cargo.toml"), manifest).unwrap();
        fs::write(
            path.join("Cargo.lock"),
            "version = 4\n[[package]]\nname = \"pollux\"\nversion = \"0.1.0\"\n",
        )
        .unwrap();
        fs::write(path.join("src/main.rs"), source).unwrap();
        let identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"];
        for args in [
            &["init", "-q"][..],
            &["add", "Cargo.toml", "Cargo.lock", "src"],
            &["commit", "-qm", "first"],
        ] {
            let all: Vec<&str> = identity.iter().chain(args).copied().collect();
            git(path, &all).unwrap().unwrap();
        }
        folder
    }

    #[test]
    fn a_revision_is_built_and_its_tree_is_removed() {
        let folder = repository("fn main() { println!(\"of the revision\") }");
        // What is not committed is not built.
        fs::write(folder.path().join("src/main.rs"), "changed").unwrap();
        let program = Program::find("HEAD", folder.path()).unwrap();
        let said = Command::new(program.path()).output().unwrap().stdout;
        assert_eq!(String::from_utf8_lossy(&said), "of the revision\n");
        assert!(program.name().starts_with("HEAD ("), "{}", program.name());
        let trees = git(folder.path(), &["worktree", "list"]).unwrap().unwrap();
        assert_eq!(trees.lines().count(), 1, "{trees}");
        let path = program.path().to_owned();
        drop(program);
        assert!(!path.exists());
    }

    #[test]
    fn a_revision_that_does_not_build_leaves_nothing() {
        let folder = repository("fn main() {");
        let error = Program::find("HEAD", folder.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("HEAD: cargo build failed"), "{error}");
        let trees = git(folder.path(), &["worktree", "list"]).unwrap().unwrap();
        assert_eq!(trees.lines().count(), 1, "{trees}");
    }

    #[test]
    fn files_are_taken_as_they_are_and_others_are_refused() {
        let folder = repository("fn main() {}");
        let program = Program::find("Cargo.toml", folder.path()).unwrap();
        assert_eq!(
            program.path(),
            folder.path().join("Cargo.toml").canonicalize().unwrap()
        );
        assert_eq!(program.name(), "Cargo.toml");
        for unknown in ["no-such-branch", "--help", ""] {
            let error = Program::find(unknown, folder.path())
                .unwrap_err()
                .to_string();
            assert!(error.contains("neither a file nor a revision"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
