//! Backends, queues and CPUs that cannot be.

use crate::guest::in_guest;

use super::{refused, serve_refused};

#[test]
fn sizes() {
    in_guest(|| {
        for kind in ["null", "ram"] {
            let zero = format!("{kind},size=0");
            serve_refused(&zero, &[], &["size is 0", "size=1G"]);
            let odd = format!("{kind},size=1000");
            serve_refused(&odd, &[], &["1000", "not a multiple", "round it"]);
            let none = kind;
            serve_refused(none, &[], &[kind, "needs a size", "size=1G"]);
            let text = format!("{kind},size=big");
            serve_refused(&text, &[], &["size=big", "not a number of bytes", "64M"]);
        }
        let large = ["larger than this machine's memory", "use less"];
        serve_refused("ram,size=1T", &[], &large);
        let hugepages = ["hugepages", "nr_hugepages"];
        serve_refused("ram,size=64M,hugepages=on", &[], &hugepages);
    });
}

#[test]
fn backends() {
    in_guest(|| {
        serve_refused("flash,size=1G", &[], &["'flash'", "not known", "null, ram"]);
        serve_refused("", &[], &["''", "null, ram"]);
        serve_refused("file", &[], &["needs a path", "path=/srv/disk.img"]);
        serve_refused("file,path=/none", &[], &["/none", "add size="]);
        serve_refused("block,path=/etc", &[], &["/etc", "neither a file nor"]);
        let unknown = ["null", "'colour'", "size, fill"];
        serve_refused("null,size=1G,colour=red", &[], &unknown);
        serve_refused("null,size=1G,fill", &[], &["'fill'", "fill=VALUE"]);
        serve_refused("null,size=1G,fill=yes", &[], &["fill=yes", "on nor off"]);
        serve_refused("null,size=1G,size=2G", &[], &["'size'", "twice", "once"]);
        let block = ["block_size 513", "512, 1024, 2048, 4096"];
        serve_refused("null,size=1G,block_size=513", &[], &block);
        let serial = ["serial", "20 bytes", "shorten"];
        serve_refused("null,size=1G,serial=far-longer-than-twenty", &[], &serial);
    });
}

#[test]
fn queues() {
    in_guest(|| {
        let options = ["--queues", "0"];
        serve_refused("null,size=1G", &options, &["0 queues", "at least one"]);
        let options = ["--queues", "3"];
        let words = ["3 queues", "2 online CPUs", "at most 2"];
        serve_refused("null,size=1G", &options, &words);
        serve_refused(
            "null,size=1G",
            &["--queues", "70000"],
            &["70000", "--queues"],
        );
        for size in ["0", "2", "100", "2048"] {
            let options = ["--queue-size", size];
            let words = [size, "power of two", "use for example 256"];
            serve_refused("null,size=1G", &options, &words);
        }
    });
}

#[test]
fn cpus() {
    in_guest(|| {
        let serve = |queues: &str, cpus: &str, words: &[&str]| {
            serve_refused("null,size=1G", &["--queues", queues, "--cpus", cpus], words);
        };
        serve("1", "7", &["CPU 7", "does not exist", "use some of 0,1"]);
        serve("2", "1,1", &["CPU 1", "named twice"]);
        serve("2", "0-1,1", &["CPU 1", "named twice"]);
        serve("2", "1", &["1 CPUs for 2 queues", "one a queue"]);
        serve("1", "a", &["cpus 'a'", "2,3 or 2-3"]);
        serve("1", "", &["cpus ''", "2,3 or 2-3"]);
    });
}

#[test]
fn words_of_the_command_line() {
    in_guest(|| {
        let serve = "null,size=1G";
        serve_refused(serve, &["--attach", "vfio"], &["vfio", "virtio", "vhost"]);
        serve_refused(
            serve,
            &["--poll", "lazy"],
            &["lazy", "busy, adaptive, event"],
        );
        let words = ["lots", "off, anon, hugepage"];
        serve_refused(serve, &["--umem", "lots"], &words);
        let words = ["'big'", "--bounce-size", "not a number of bytes"];
        serve_refused(serve, &["--bounce-size", "big"], &words);
        for size in ["0", "8M", "16777217", "2G"] {
            let words = ["bounce size", "multiple of 4096 from 16M to 1G", "128M"];
            serve_refused(serve, &["--bounce-size", size], &words);
        }
        let bounds = ["--msg-timeout", "16..=3600"];
        for seconds in ["0", "15", "3601"] {
            serve_refused(serve, &["--msg-timeout", seconds], &bounds);
        }
        let bounds = ["--io-timeout", "1..=86400"];
        serve_refused(serve, &["--io-timeout", "0"], &bounds);
        serve_refused(serve, &["--colour"], &["--colour", "--help"]);
        refused(&["serve", "--name", "d0"], 2, &["--backend", "--help"]);
        refused(&["attach"], 2, &["<NAME>", "--help"]);
        refused(&["attach", "d0", "--driver", "x"], 2, &["\"x\"", "virtio"]);
        refused(&["srve"], 2, &["'srve'", "'serve'"]);
    });
}
