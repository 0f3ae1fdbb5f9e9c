//! Requests that the controller is asked to end before they are given up.

use std::time::Duration;

use super::ending::{hold, is_usable};
use super::*;

/// A queue whose controller holds `count` reads of a page each, into memory of which every byte is 0xa5.
fn held(rig: &Rig, count: u64) -> NvmeQueue {
    let mut queue = rig.queue();
    rig.fill(0, &[0xa5; 1 << 16]);
    hold(rig, &mut queue, count);
    queue
}

fn is_untouched(rig: &Rig) {
    assert!(rig.bytes(0, 1 << 16).iter().all(|byte| *byte == 0xa5));
}

fn all(count: Token, outcome: Outcome) -> Vec<(Token, Outcome)> {
    (0..count).map(|token| (token, outcome)).collect()
}

/// Returns how often a queue was deleted, and the controller reset.
fn measures(rig: &Rig) -> (u32, u32) {
    let state = rig.model.state();
    (state.deletions, state.resets)
}

#[test]
fn aborted_requests_fail_and_their_queue_goes_on() {
    let rig = Rig::new();
    let mut queue = held(&rig, 5);
    assert!(queue.abort() > Duration::ZERO);
    let canceled = failed(Errno::ECANCELED);
    assert_eq!(rig.settle(&mut queue), all(5, canceled));
    queue.abandon();
    assert_eq!(measures(&rig), (0, 0));
    is_untouched(&rig);
    is_usable(&rig, &mut queue);
}

#[test]
fn what_is_not_aborted_is_deleted_with_its_queue() {
    let rig = Rig::new();
    rig.model.state().abort_answer = AbortAnswer::Refused;
    let mut queue = held(&rig, 5);
    assert!(queue.abort() > Duration::ZERO);
    rig.model.step();
    assert_eq!((queue.complete(), queue.in_flight()), (None, 5));
    queue.abandon();
    assert_eq!(measures(&rig), (1, 0));
    assert!(rig.model.state().held.is_empty());
    is_untouched(&rig);
    is_usable(&rig, &mut queue);
}

#[test]
fn a_controller_that_answers_no_abort_is_reset() {
    let rig = Rig::new();
    rig.model.state().abort_answer = AbortAnswer::Silence;
    let mut queue = held(&rig, 5);
    assert_eq!(queue.abort(), Duration::ZERO);
    assert_eq!((queue.complete(), queue.in_flight()), (None, 5));
    // Another that gives up meanwhile waits for no answer.
    let mut other = rig.queue();
    assert_eq!(other.submit(7, Operation::Flush), Submission::Pending);
    assert_eq!(other.abort(), Duration::ZERO);
    queue.abandon();
    assert_eq!(measures(&rig), (0, 1));
    is_untouched(&rig);
    is_usable(&rig, &mut queue);
    other.abandon();
    is_usable(&rig, &mut other);
}

#[test]
fn a_late_abort_ends_no_other_command() {
    let rig = Rig::new();
    rig.model.state().abort_answer = AbortAnswer::Silence;
    let mut queue = held(&rig, 1);
    assert_eq!(queue.abort(), Duration::ZERO);
    rig.model.release(0);
    assert_eq!(queue.complete(), Some((0, Outcome::Done)));
    queue.abandon();
    assert_eq!(measures(&rig), (0, 1), "its number would be another's");
    rig.model.state().abort_answer = AbortAnswer::Obeyed;
    is_usable(&rig, &mut queue);
}

#[test]
fn what_ends_at_the_same_moment_ends_well() {
    let rig = Rig::new();
    rig.model.state().abort_answer = AbortAnswer::TooLate;
    let mut queue = held(&rig, 5);
    let ended_before = rig.model.state().held.len() - 1;
    rig.model.release(ended_before);
    assert!(queue.abort() > Duration::ZERO);
    let mut completed = rig.settle(&mut queue);
    completed.sort_unstable_by_key(|(token, _)| *token);
    assert_eq!(completed, all(5, Outcome::Done));
    assert!(rig.bytes(0, 5 * 4096) == rig.on_disk(sectors(0, 5 * 4096)));
    queue.abandon();
    assert_eq!(measures(&rig), (0, 0));
    is_usable(&rig, &mut queue);
}

#[test]
fn no_more_aborts_are_on_their_way_than_the_controller_takes() {
    for (acl, most) in [(0, 1), (1, 2), (3, 4), (255, 5)] {
        let model = Model::new();
        model.state().acl = acl;
        let rig = Rig::over(model);
        let mut queue = held(&rig, 5);
        assert!(queue.abort() > Duration::ZERO);
        assert_eq!(rig.model.state().aborts_seen_max, most, "{acl}");
        assert_eq!(rig.settle(&mut queue).len(), 5);
    }
}

#[test]
fn nothing_more_is_begun_of_what_is_to_end() {
    let model = Model::new();
    model.state().mdts = 1;
    let rig = Rig::over(model);
    let mut queue = rig.queue();
    rig.model.state().holds = true;
    // The first has more commands than fit at one time, the second has none yet.
    for token in [3, 4] {
        let into = [rig.segment(u64::from(token - 3) << 20, 16 * 8192)];
        let range = sectors(0, 16 * 8192);
        let read = Operation::Read { range, into: &into };
        assert_eq!(queue.submit(token, read), Submission::Pending);
    }
    queue.commit();
    rig.model.step();
    assert!(queue.abort() > Duration::ZERO);
    let canceled = failed(Errno::ECANCELED);
    assert_eq!(queue.complete(), Some((3, canceled)));
    queue.commit();
    rig.model.step();
    assert_eq!((queue.complete(), queue.in_flight()), (None, 1));
    assert_eq!(rig.model.state().seen.len(), 7);
    queue.abandon();
    assert_eq!((queue.in_flight(), measures(&rig)), (0, (0, 0)));
    is_usable(&rig, &mut queue);
}
