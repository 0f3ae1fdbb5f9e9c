//! How a namespace that this process drives itself is written: `nvme-vfio,pci=0000:00:10.0,nsid=1`.

use pollux_dataplane::backend::NvmeOptions;

use super::{BackendSpecError, Keys, Kind};

/// Returns what `keys` ask for.
pub(super) fn parse(mut keys: Keys<'_>) -> Result<Kind, BackendSpecError> {
    let pci = keys.0.remove("pci").ok_or(BackendSpecError::NoPci)?;
    let nsid = match keys.0.remove("nsid") {
        None => 1,
        Some(text) => text
            .parse()
            .map_err(|_| BackendSpecError::Nsid(text.into()))?,
    };
    let options = NvmeOptions {
        pci: pci.into(),
        nsid,
        read_only: keys.switch("ro", false)?,
        serial: keys.0.remove("serial").unwrap_or_default().into(),
        force_unbind: keys.switch("force_unbind", false)?,
    };
    keys.finish("nvme-vfio", "pci, nsid, ro, serial, force_unbind")?;
    Ok(Kind::NvmeVfio(options))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::BackendSpec;

    #[test]
    fn a_namespace_is_the_first_unless_another_is_named() {
        let parsed = |text: &str| match text.parse::<BackendSpec>().expect(text).kind {
            Kind::NvmeVfio(options) => options,
            other => panic!("{other:?}"),
        };
        let first = parsed("nvme-vfio,pci=0000:00:10.0");
        assert_eq!((first.pci.as_str(), first.nsid), ("0000:00:10.0", 1));
        assert!(!first.read_only && !first.force_unbind && first.serial.is_empty());
        let all = parsed("nvme-vfio,pci=0000:01:00.0,nsid=2,ro=on,serial=x,force_unbind=on");
        assert!(all.read_only && all.force_unbind);
        assert_eq!((all.nsid, all.serial.as_str()), (2, "x"));
    }

    #[test]
    fn mistakes_are_named_with_their_remedy() {
        for (text, expected) in [
            ("nvme-vfio", "add pci=0000:00:10.0"),
            ("nvme-vfio,pci=0000:00:10.0,nsid=a", "nsid=a is not"),
            ("nvme-vfio,pci=0000:00:10.0,size=1G", "no option 'size'"),
        ] {
            let error = text.parse::<BackendSpec>().expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let spec: BackendSpec = "nvme-vfio,pci=nvme0".parse().expect("a backend");
        let refused = spec.open("").expect_err("no address").to_string();
        assert!(refused.contains("is not an address"), "{refused}");
    }
}
