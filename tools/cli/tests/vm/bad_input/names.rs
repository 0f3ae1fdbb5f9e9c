//! Names that no device can have.

use crate::guest::in_guest;

use super::refused;

#[test]
fn names_that_the_kernel_cannot_take_are_refused_everywhere() {
    in_guest(|| {
        let long = "x".repeat(256);
        for (name, words) in [
            ("", ["--name", "d0"]),
            (long.as_str(), ["256 bytes long", "shorten it"]),
            ("a/b", ["'/'", "use letters"]),
            ("a b", ["' '", "use letters"]),
            ("control", ["/dev/vduse/control", "choose another"]),
            ("vq0", ["virtqueue", "choose another"]),
            ("..", ["file system", "choose another"]),
            ("msg_timeout", ["sysfs", "choose another"]),
        ] {
            let serve = ["serve", "--name", name, "--backend", "null,size=1G"];
            refused(&serve, 2, &words);
            refused(&["attach", name], 2, &words[1..]);
            refused(&["detach", name], 2, &words[1..]);
        }
    });
}

#[test]
fn the_longest_name_is_served() {
    in_guest(|| {
        let name = "x".repeat(200);
        let daemon = crate::guest::Daemon::serve(&name, "null,size=1G", &["--attach", "virtio"]);
        assert_eq!(daemon.disk().attribute("serial"), "x".repeat(20));
        daemon.stop();
    });
}
