//! An index of folders with recorded runs: what each README is called, and what its files say.

use std::fs;
use std::path::Path;

use super::markdown::table;
use super::model::{Column, Table};
use super::{Recorded, Run};

/// One row a folder, in the order of `runs`.
pub(super) fn write(runs: &[Run]) -> String {
    let mut folders: Vec<(&Path, Vec<&Run>)> = Vec::new();
    for run in runs {
        let folder = run.path.parent().unwrap_or(Path::new(""));
        match folders.iter_mut().find(|(known, _)| *known == folder) {
            Some((_, runs)) => runs.push(run),
            None => folders.push((folder, vec![run])),
        }
    }
    table(&Table {
        title: "Recorded runs".to_owned(),
        columns: ["run", "what", "over", "beside", "machine"]
            .map(Column::words)
            .to_vec(),
        rows: folders
            .iter()
            .map(|(folder, runs)| row(folder, runs))
            .collect(),
    })
}

/// What the files of one folder have, each thing once, in their order.
#[derive(Default)]
struct Kinds {
    over: Vec<String>,
    beside: Vec<String>,
    machines: Vec<String>,
}

impl Kinds {
    fn add(&mut self, recorded: &Recorded) {
        let environment = match recorded {
            Recorded::Comparison(comparison) => {
                let settings = &comparison.settings;
                once(&mut self.over, settings.transport.to_string());
                for peer in settings.peers() {
                    once(&mut self.beside, peer.kind().to_string());
                }
                &comparison.environment
            }
            Recorded::Ring(ring) => {
                once(&mut self.over, "rings".to_owned());
                once(&mut self.beside, "virtio-queue".to_owned());
                &ring.environment
            }
            Recorded::Scenario(run) => {
                once(&mut self.over, run.scenario.transport.to_string());
                once(&mut self.beside, "a cache line".to_owned());
                &run.environment
            }
        };
        let on = match environment.hypervisor.as_deref() {
            _ if environment.user_mode_linux => "user-mode Linux",
            None => "bare metal",
            Some(signature) if signature.starts_with("TCG") => "QEMU without KVM",
            Some(_) => "virtual machine",
        };
        once(
            &mut self.machines,
            format!("Linux {}, {on}", release(&environment.kernel)),
        );
    }
}

fn once(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

fn row(folder: &Path, runs: &[&Run]) -> Vec<String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut kinds = Kinds::default();
    runs.iter().for_each(|run| kinds.add(&run.recorded));
    vec![
        format!("[{name}]({name}/README.md)"),
        title(folder).unwrap_or_default(),
        kinds.over.join(", "),
        kinds.beside.join(", "),
        kinds.machines.join("; "),
    ]
}

/// Version and patch level: `6.12.117` of `6.12.117+deb12-cloud-amd64`.
fn release(kernel: &str) -> String {
    kernel
        .split(['+', '-'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// The title of the README in `folder`; none where it has none.
fn title(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("README.md")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("# "))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Ending;
    use crate::compare::result::tests::{comparison, with_rublk};
    use crate::transport::Transport;

    #[test]
    fn a_folder_is_a_row_whatever_its_files_have() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("2026-01-02-null");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("README.md"), "text\n# Null disks\n# More\n").unwrap();
        let run = |name: &str, mut comparison: crate::compare::Comparison| {
            comparison.environment.kernel = "6.12.117+deb12-cloud-amd64".to_owned();
            comparison.environment.hypervisor = Some("TCGTCGTCGTCG".to_owned());
            let recorded = Recorded::Comparison(Box::new(comparison));
            let path = path.join(name);
            Run { path, recorded }
        };
        let first = run("a.json", comparison(Ending::Complete));
        let second = run("b.json", with_rublk(Transport::VduseVirtioPoll));
        let written = write(&[first, second]);
        let row = "| [2026-01-02-null](2026-01-02-null/README.md) | Null disks | vduse-virtio, vduse-virtio-poll \
                   | qemu, rublk | Linux 6.12.117, QEMU without KVM |";
        assert_eq!(written.lines().nth(2), Some(row), "{written}");
        assert_eq!(written.lines().count(), 3);
    }
}
