//! What two measurements do not have in common.

use serde::Serialize;
use serde_json::Value;

/// Returns the names of the fields of `one` that `two` has otherwise.
pub(crate) fn differences(one: &impl Serialize, two: &impl Serialize) -> Vec<String> {
    let (one, two) = (json(one), json(two));
    let fields = one.as_object().into_iter().flatten();
    let others = fields.filter(|(name, value)| two.get(name) != Some(value));
    others.map(|(name, _)| name.clone()).collect()
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("fields with names")
}
