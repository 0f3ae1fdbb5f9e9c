//! Whether KVM works here: found out by booting, remembered until the host boots again.
//!
//! /dev/kvm may exist, and QEMU start with it, on hosts where an ordinary kernel then dies.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::Cache;
use crate::error::{Context, Error};
use crate::kernel::Kernel;
use crate::run::{End, Output};
use crate::spec::{Accel, VmSpec};

/// A KVM guest boots in 2 s; one that takes longer than this gains nothing over TCG.
const PROBE_TIMEOUT: Duration = Duration::from_secs(15);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns KVM if a guest with this kernel boots with it, else TCG.
pub(crate) fn choose(
    cache: &Cache,
    kernel: &Kernel,
    base: &Path,
    progress: &dyn Fn(&str),
) -> Result<Accel, Error> {
    let openable = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_ok();
    if !openable {
        return Ok(Accel::Tcg);
    }
    let boot_id = fs::read_to_string(BOOT_ID).context(BOOT_ID, "reading")?;
    let verdicts = Verdicts {
        dir: cache.root().join("kvm"),
        boot_id: boot_id.trim().to_owned(),
    };
    if let Some(accel) = verdicts.read(&kernel.release) {
        return Ok(accel);
    }
    progress(&format!("trying KVM with {}", kernel.release));
    let spec = VmSpec {
        timeout: PROBE_TIMEOUT,
        memory_mib: 1024,
        ..VmSpec::new(["true"])
    };
    let (mut stdout, mut stderr) = (std::io::sink(), std::io::sink());
    let output = Output {
        stdout: &mut stdout,
        stderr: &mut stderr,
    };
    let outcome = spec.power_on(Accel::Kvm, kernel, &[base], output, &|_| ())?;
    let (accel, reason) = match outcome.end {
        End::Exited(0) => (Accel::Kvm, None),
        End::Failed(reason) => (Accel::Tcg, Some(reason)),
        other => (Accel::Tcg, Some(format!("{other:?}"))),
    };
    if let Some(reason) = reason {
        progress(&format!("KVM does not work here ({reason}): using TCG"));
    }
    verdicts.write(&kernel.release, accel)?;
    Ok(accel)
}

/// One file a kernel: the host's boot and what was found out.
#[derive(Debug)]
struct Verdicts {
    dir: PathBuf,
    boot_id: String,
}

impl Verdicts {
    fn read(&self, release: &str) -> Option<Accel> {
        let text = fs::read_to_string(self.dir.join(release)).ok()?;
        let (boot_id, accel) = text.trim().split_once(' ')?;
        let known = [Accel::Kvm, Accel::Tcg]
            .into_iter()
            .find(|known| known.name() == accel);
        known.filter(|_| boot_id == self.boot_id)
    }

    fn write(&self, release: &str, accel: Accel) -> Result<(), Error> {
        fs::create_dir_all(&self.dir).context(&self.dir, "making")?;
        let path = self.dir.join(release);
        fs::write(&path, format!("{} {}\n", self.boot_id, accel.name())).context(&path, "writing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_one_kernel_and_one_boot() {
        let dir = tempfile::tempdir().unwrap();
        let verdicts = |boot_id: &str| Verdicts {
            dir: dir.path().join("kvm"),
            boot_id: boot_id.into(),
        };
        assert_eq!(verdicts("b1").read("6.12"), None);
        verdicts("b1").write("6.12", Accel::Tcg).unwrap();
        verdicts("b1").write("7.3", Accel::Kvm).unwrap();
        assert_eq!(verdicts("b1").read("6.12"), Some(Accel::Tcg));
        assert_eq!(verdicts("b1").read("7.3"), Some(Accel::Kvm));
        assert_eq!(verdicts("b2").read("6.12"), None);
        fs::write(dir.path().join("kvm/6.12"), "b1 ye").unwrap();
        assert_eq!(verdicts("b1").read("6.12"), None);
    }
}
