//! An index of folders with recorded runs: what each README is called, and what its files say.

use std::collections::BTreeSet;
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
        columns: ["run", "what", "files", "Linux", "servers"]
            .map(Column::words)
            .to_vec(),
        rows: folders
            .iter()
            .map(|(folder, runs)| row(folder, runs))
            .collect(),
    })
}

fn row(folder: &Path, runs: &[&Run]) -> Vec<String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let files = runs.iter().map(|run| {
        let file = run.path.file_name().unwrap_or_default().to_string_lossy();
        format!("[{file}]({name}/{file})")
    });
    let mut kernels = BTreeSet::new();
    let mut servers = BTreeSet::new();
    for run in runs {
        match &run.recorded {
            Recorded::Comparison(comparison) => {
                kernels.insert(release(&comparison.environment.kernel));
                let kinds = comparison
                    .settings
                    .servers
                    .iter()
                    .map(|it| it.kind().to_string());
                servers.extend(kinds);
            }
            Recorded::Ring(ring) => {
                kernels.insert(release(&ring.environment.kernel));
                servers.insert("rings".to_owned());
            }
        }
    }
    vec![
        format!("[{name}]({name}/README.md)"),
        title(folder).unwrap_or_default(),
        files.collect::<Vec<_>>().join(", "),
        kernels.into_iter().collect::<Vec<_>>().join(", "),
        servers.into_iter().collect::<Vec<_>>().join(", "),
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
