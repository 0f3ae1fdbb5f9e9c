//! The mailbox under every interleaving of control and a worker, by loom: no command or answer is
//! overlooked by a side that sleeps, and memory that a worker has left is not touched any more.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p pollux-dataplane --release --test loom_mailbox`
//!
//! Not covered: that poll(2) on several descriptors wakes for each of them; the queue of crossbeam, which
//! has tests of its own; the order that the number of commands has by itself, since both queues order
//! what goes through them too.

#![cfg(loom)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use loom::cell::UnsafeCell;
use loom::thread;
use pollux_dataplane::mem::RegionTable;
use pollux_dataplane::ring::RingState;
use pollux_dataplane::worker::{Answer, Command, Mailbox, Report, Unanswered, WorkerEnd};

/// Nothing times out in the model.
fn for_ever() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Runs `scenario` under every interleaving with at most five preemptions, so that the search ends in
/// seconds; a lost wake-up or an early answer takes one or two.
fn check(scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(5);
    builder.check(scenario);
}

/// How a worker waits for the next command.
type Wait = fn(&WorkerEnd);

fn sleep(end: &WorkerEnd) {
    end.sleep();
    end.clear_wake();
}

fn spin(_: &WorkerEnd) {
    thread::yield_now();
}

/// Takes commands as `Service::run` does until it is told to end; `pass` is what it does between them.
fn work(mut end: WorkerEnd, wait: Wait, mut pass: impl FnMut(Option<&Command>)) {
    loop {
        while let Some((number, command)) = end.take() {
            pass(Some(&command));
            match command {
                Command::Exit => return,
                Command::Stop => end.answer(number, Answer::Stopped(Report::default())),
                _ => end.answer(number, Answer::Started(Ok(RingState::default()))),
            }
        }
        pass(None);
        wait(&end);
    }
}

fn remap() -> Command {
    Command::Remap(Arc::new(RegionTable::default()))
}

#[test]
fn every_command_is_seen_and_answered() {
    for wait in [sleep as Wait, spin] {
        check(move || {
            let (mailbox, end) = Mailbox::new().unwrap();
            let worker = thread::spawn(move || work(end, wait, |_| {}));
            let number = mailbox.post(remap()).unwrap();
            let answer = mailbox.wait(number, for_ever()).unwrap();
            assert!(matches!(answer, Answer::Started(_)));
            let number = mailbox.post(Command::Stop).unwrap();
            let answer = mailbox.wait(number, for_ever()).unwrap();
            assert!(matches!(answer, Answer::Stopped(_)));
            mailbox.post(Command::Exit).unwrap();
            worker.join().unwrap();
        });
    }
}

#[test]
fn commands_posted_together_are_all_seen() {
    check(|| {
        let (mailbox, end) = Mailbox::new().unwrap();
        let worker = thread::spawn(move || work(end, sleep, |_| {}));
        let first = mailbox.post(remap()).unwrap();
        let second = mailbox.post(Command::Stop).unwrap();
        mailbox.post(Command::Exit).unwrap();
        let answer = mailbox.wait(first, for_ever()).unwrap();
        assert!(matches!(answer, Answer::Started(_)));
        let answer = mailbox.wait(second, for_ever()).unwrap();
        assert!(matches!(answer, Answer::Stopped(_)));
        worker.join().unwrap();
    });
}

#[test]
fn an_answer_that_comes_too_late_is_not_taken_for_another() {
    check(|| {
        let (mailbox, end) = Mailbox::new().unwrap();
        let worker = thread::spawn(move || work(end, sleep, |_| {}));
        let first = mailbox.post(remap()).unwrap();
        let at_once = mailbox.wait(first, Instant::now());
        if let Err(reason) = at_once {
            assert_eq!(reason, Unanswered::Late);
        }
        let second = mailbox.post(Command::Stop).unwrap();
        let answer = mailbox.wait(second, for_ever()).unwrap();
        assert!(matches!(answer, Answer::Stopped(_)));
        mailbox.post(Command::Exit).unwrap();
        worker.join().unwrap();
    });
}

/// Loom reports an access to a cell that is not ordered against the other side's.
#[test]
fn a_table_has_no_user_once_its_successor_is_acknowledged() {
    for wait in [sleep as Wait, spin] {
        check(move || {
            let (mailbox, end) = Mailbox::new().unwrap();
            // The memory behind the table in use and the one behind its successor.
            let pages = Arc::new([UnsafeCell::new(0_u32), UnsafeCell::new(0)]);
            let served = Arc::clone(&pages);
            let worker = thread::spawn(move || {
                let mut current = 0;
                work(end, wait, |command| {
                    if let Some(Command::Remap(_)) = command {
                        current += 1;
                    }
                    served[current].with_mut(|_| {});
                });
            });
            // What the driver wrote before control published its memory.
            pages[1].with_mut(|_| {});
            let number = mailbox.post(remap()).unwrap();
            mailbox.wait(number, for_ever()).unwrap();
            // Unmapped.
            pages[0].with_mut(|_| {});
            mailbox.post(Command::Exit).unwrap();
            worker.join().unwrap();
        });
    }
}
