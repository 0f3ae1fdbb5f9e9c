//! What backends take of the file system.

use pollux_dataplane::backend::{Passthrough, RamMemory};

use super::{BackendSpec, Kind};
use crate::sandbox::Place;

impl BackendSpec {
    /// Returns where its storage is.
    pub(crate) fn places(&self) -> Vec<Place> {
        match &self.kind {
            Kind::Null { .. } => Vec::new(),
            Kind::Ram { memory, .. } => match memory {
                RamMemory::File(path) => vec![Place::Storage(path.clone())],
                RamMemory::Sparse | RamMemory::HugePages => Vec::new(),
            },
            Kind::File(options) => {
                let path = options.path.clone();
                // The same namespace, which is claimed through it.
                let block_node = Passthrough::block_node_of(&path);
                let paths = [Some(path), block_node].into_iter().flatten();
                paths.map(Place::Storage).collect()
            }
            Kind::NvmeVfio(_) => vec![Place::Vfio],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_backend_has_its_own_place_whatever_is_before_it() {
        let places = |text: &str| text.parse::<BackendSpec>().unwrap().places();
        for text in ["null,size=1G", "ram,size=1G", "ram,size=1G,hugepages=on"] {
            assert_eq!(places(text), []);
        }
        let file = [Place::Storage("/a/b".into())];
        assert_eq!(places("ram,size=1G,path=/a/b"), file);
        assert_eq!(places("delay,latency=1ms:file,path=/a/b"), file);
        assert_eq!(places("nvme-vfio,pci=0000:00:10.0"), [Place::Vfio]);
    }
}
