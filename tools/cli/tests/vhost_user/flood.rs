//! A frontend that does again and again what is worth a line in the log.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::daemon::Daemon;
use crate::{SPLIT, alone, prove};

const FRONTENDS: u64 = 2000;

/// Of each of the two kinds of lines: a burst, and for as long as it may take one a second, each with one that counts.
fn lines_max(took: Duration) -> u64 {
    2 * (10 + 2 * (took.as_secs() + 1))
}

/// Returns how many lines were left out, by the log.
fn left_out(log: &str) -> u64 {
    let counts = log.lines().filter_map(|line| {
        let (before, _) = line.split_once(" more of these were left out")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    });
    counts.sum()
}

#[test]
fn frontends_that_make_no_sense_do_not_fill_the_log() {
    let _alone = alone();
    let daemon = Daemon::serve("ram,size=64M", &[]);
    let begun = Instant::now();
    for _ in 0..FRONTENDS {
        let mut stream = UnixStream::connect(daemon.socket()).unwrap();
        stream.write_all(&[0xff; 64]).unwrap();
        // Hung up on. What it had not read resets the connection.
        let _ = stream.read(&mut [0]);
    }
    let took = begun.elapsed();
    let mut client = Client::connect(daemon.socket(), SPLIT, 1);
    prove(&mut client, 1, 1);
    drop(client);
    // Each is worth two lines, written or counted: it comes, and is hung up on. The last one comes, is ready and leaves.
    let all = 2 * FRONTENDS + 3;
    let told = |log: &str| {
        let about = log.lines().filter(|line| line.contains("frontend"));
        let counting = |line: &&str| line.contains("were left out");
        about.filter(|line| !counting(line)).count() as u64 + left_out(log)
    };
    while told(&daemon.log()) < all {
        let log = daemon.log();
        let waited = begun.elapsed() - took;
        assert!(
            waited < Duration::from_secs(20),
            "{} of {all}: {log}",
            told(&log)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = daemon.log();
    let lines = log.lines().count() as u64;
    assert!(
        lines <= lines_max(took) + 10,
        "{lines} lines in {took:?}: {log}"
    );
    assert_eq!(told(&log), all, "{log}");
    daemon.stop();
}
