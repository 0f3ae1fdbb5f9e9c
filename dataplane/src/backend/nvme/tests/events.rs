//! What the controller tells of its own accord.

use super::ending::{hold, is_usable};
use super::*;

const HOT: u32 = 0x0002_0101;
const CHANGED: u32 = 0x0004_0002;

fn told(rig: &Rig) -> Option<String> {
    rig.model.step();
    rig.nvme.event().map(|event| event.to_string())
}

#[test]
fn each_event_is_told_once_and_its_log_is_read() {
    let rig = Rig::new();
    assert_eq!(told(&rig), None);
    rig.model.state().events = vec![HOT, CHANGED];
    let (first, second) = (told(&rig), told(&rig));
    assert!(
        first.as_ref().is_some_and(|text| text.contains("too hot")),
        "{first:?}"
    );
    assert!(
        second
            .as_ref()
            .is_some_and(|text| text.contains("other namespaces")),
        "{second:?}"
    );
    assert_eq!(told(&rig), None);
    assert_eq!(rig.model.state().logs_read, [2, 4]);
}

#[test]
fn an_event_that_comes_between_other_commands_is_kept() {
    let rig = Rig::new();
    rig.model.state().events = vec![HOT];
    let mut queue = rig.queue();
    is_usable(&rig, &mut queue);
    assert!(told(&rig).is_some());
    drop(queue);
    assert_eq!(told(&rig), None);
}

#[test]
fn it_tells_of_events_after_a_reset_too() {
    let model = Model::new();
    model.state().is_fixed = true;
    let rig = Rig::over(model);
    let mut queue = rig.queue();
    hold(&rig, &mut queue, 2);
    rig.model.state().abort_answer = AbortAnswer::Silence;
    queue.abort();
    queue.abandon();
    assert_eq!(rig.model.state().resets, 1);
    rig.model.state().events = vec![HOT];
    assert!(told(&rig).is_some());
    rig.model.remove();
    assert_eq!(told(&rig), None);
}
