//! Requests that are given up, controllers that fail, and the end.

use super::*;

/// Starts `count` reads of a page each, which the controller holds.
pub(super) fn hold(rig: &Rig, queue: &mut NvmeQueue, count: u64) {
    rig.model.state().holds = true;
    for token in 0..count {
        let into = [rig.segment(token * 4096, 4096)];
        let range = sectors(8 * token, 4096);
        let read = Operation::Read { range, into: &into };
        assert_eq!(queue.submit(token as Token, read), Submission::Pending);
    }
    queue.commit();
    rig.model.step();
    assert_eq!(rig.model.state().held.len() as u64, count);
}

/// Sees that the queue is empty and as good as new.
pub(super) fn is_usable(rig: &Rig, queue: &mut NvmeQueue) {
    rig.model.state().holds = false;
    assert_eq!((queue.in_flight(), queue.complete()), (0, None));
    let data = pattern(99, 1 << 20);
    rig.fill(0, &data);
    let range = sectors(0, 1 << 20);
    let from = [rig.segment(0, 1 << 20)];
    for _ in 0..20 {
        let write = Operation::Write { range, from: &from };
        assert_eq!(rig.run(queue, write), Outcome::Done);
    }
    assert!(rig.on_disk(range) == data);
}

#[test]
fn what_is_abandoned_is_deleted_with_its_queue() {
    let rig = Rig::new();
    let (mut queue, mut other) = (rig.queue(), rig.queue());
    hold(&rig, &mut queue, 5);
    rig.model.state().holds = false;
    queue.abandon();
    assert!(rig.model.state().held.is_empty());
    is_usable(&rig, &mut queue);
    is_usable(&rig, &mut other);
}

#[test]
fn abandoning_nothing_changes_nothing() {
    let rig = Rig::new();
    let mut queue = rig.queue();
    rig.model.state().ignores_deletions = true;
    queue.abandon();
    rig.model.state().ignores_deletions = false;
    is_usable(&rig, &mut queue);
}

#[test]
fn a_controller_that_deletes_no_queue_is_reset_and_the_other_queues_go_on() {
    let rig = Rig::new();
    let (mut queue, mut other) = (rig.queue(), rig.queue());
    hold(&rig, &mut queue, 5);
    let from = [rig.segment(1 << 20, 8192)];
    let range = sectors(4096, 8192);
    rig.fill(1 << 20, &pattern(3, 8192));
    let write = Operation::Write { range, from: &from };
    assert_eq!(other.submit(42, write), Submission::Pending);
    other.commit();
    rig.model.step();
    assert_eq!(rig.model.state().held.len(), 6);
    rig.model.state().ignores_deletions = true;
    queue.abandon();
    assert!(rig.model.state().held.is_empty());
    rig.model.state().ignores_deletions = false;
    rig.model.state().holds = false;
    assert_eq!(rig.settle(&mut other), [(42, Outcome::Done)]);
    assert!(rig.on_disk(range) == pattern(3, 8192));
    is_usable(&rig, &mut queue);
    is_usable(&rig, &mut other);
}

#[test]
fn a_controller_that_does_not_obey_is_cut_off_from_memory() {
    let rig = Rig::new();
    let (mut queue, mut other) = (rig.queue(), rig.queue());
    hold(&rig, &mut queue, 2);
    assert_eq!(other.submit(3, Operation::Flush), Submission::Pending);
    rig.model.state().is_stuck = true;
    queue.abandon();
    assert!(!rig.model.state().is_master);
    assert_eq!((queue.in_flight(), queue.complete()), (0, None));
    let lost = failed(Errno::ENODEV);
    let refused = queue.submit(1, Operation::Flush);
    assert_eq!(refused, Submission::Complete(lost));
    assert_eq!(rig.settle(&mut other), [(3, lost)]);
}

#[test]
fn a_controller_that_is_gone_fails_all_requests() {
    let rig = Rig::new();
    let mut queue = rig.queue();
    hold(&rig, &mut queue, 3);
    rig.model.remove();
    let mut completed = Vec::new();
    for _ in 0..200_000 {
        completed.extend(queue.complete());
    }
    let lost = failed(Errno::ENODEV);
    assert_eq!(completed, [(0, lost), (1, lost), (2, lost)]);
    assert_eq!(
        queue.submit(1, Operation::Flush),
        Submission::Complete(lost)
    );
}

#[test]
fn a_controller_has_so_many_queues_and_they_are_used_again() {
    let rig = Rig::new();
    let first = rig.queue();
    let _second = rig.queue();
    let error = rig.nvme.open_queue().expect_err("no third").to_string();
    assert!(error.contains("has 2 I/O queues"), "{error}");
    drop(first);
    let mut third = rig.queue();
    is_usable(&rig, &mut third);
}

#[test]
fn it_is_shut_down_at_the_end_and_reaches_nothing_any_more() {
    let rig = Rig::new();
    let Rig { model, nvme, .. } = rig;
    let queue = nvme.open_queue().expect("a queue");
    drop(nvme);
    assert_eq!(model.state().shutdowns, 0);
    drop(queue);
    assert_eq!(model.state().shutdowns, 1);
    assert_eq!(model.mapped(), 0);
    assert!(!model.state().is_master);
}
