//! Device nodes and whether this user may use them.

use super::host::Host;
use super::{Finding, modules};

const CONTROL: &str = "/dev/vduse/control";

pub(super) fn findings(host: &Host) -> Vec<Finding> {
    vec![control(host), vhost(host)]
}

fn control(host: &Host) -> Finding {
    if !host.exists(CONTROL) {
        return Finding::missing(CONTROL, "does not exist", modules::load(host, "vduse"));
    }
    if !host.may_use(CONTROL) {
        let remedy = format!("run as root, or: setfacl -m u:$USER:rw {CONTROL}");
        return Finding::missing(CONTROL, "may not be opened by this user", remedy);
    }
    Finding::good(CONTROL, "may be opened")
}

fn vhost(host: &Host) -> Finding {
    const CHECK: &str = "/dev/vhost-vdpa-N";
    let nodes = host.names("/dev", "vhost-vdpa-");
    if nodes.is_empty() {
        return Finding::good(CHECK, "none now; an attach to vhost makes one");
    }
    let closed = nodes
        .iter()
        .find(|node| !host.may_use(&format!("/dev/{node}")));
    match closed {
        Some(node) => {
            let remedy = format!("run as root, or: setfacl -m u:$USER:rw /dev/{node}");
            Finding::warning(
                CHECK,
                format!("{node} may not be opened by this user"),
                remedy,
            )
        }
        None => Finding::good(CHECK, nodes.join(", ")),
    }
}
