//! Devices that come and go while the daemon serves, one at a time; `POST /v1/reload` is for all that a file names.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::devices::snapshot;
use super::refusal::{Body, Refusal, blocking};
use super::server::{Api, ReadDevice};
use super::{DeviceKey, ErrorBody, whole_number};
use crate::device::DeviceSnapshot;

/// The body of a request for a new device: the keys of a `[[device]]` table of the configuration, see pollux.toml(5). The OpenAPI
/// document describes each ([`DeviceKey`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeviceBody {
    /// Name of the device.
    #[schema(example = "d1")]
    pub name: String,
    /// Storage: `kind,key=value,...`.
    #[schema(example = "null,size=1G")]
    pub backend: String,
    /// Any other option of `pollux serve` that describes a device, with `_` for `-`. The configuration's defaults do not count.
    #[serde(flatten)]
    pub others: BTreeMap<String, DeviceValue>,
}

/// A value as the option of `pollux serve` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "text, a whole number or a list of whole numbers"
)]
pub enum DeviceValue {
    /// Text.
    Text(String),
    /// A whole number.
    Number(#[serde(deserialize_with = "whole_number")] u64),
    /// Several, such as CPUs.
    List(Vec<u64>),
}

impl DeviceValue {
    /// Returns what would stand on a command line.
    fn into_word(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
            Self::List(numbers) => {
                let words: Vec<String> = numbers.iter().map(u64::to_string).collect();
                words.join(",")
            }
        }
    }
}

impl DeviceBody {
    fn into_words(self) -> BTreeMap<String, String> {
        let others = self.others.into_iter();
        let words = others.map(|(key, value)| (key, value.into_word()));
        let own = [("name", self.name), ("backend", self.backend)];
        words
            .chain(own.map(|(key, word)| (key.to_owned(), word)))
            .collect()
    }
}

/// Returns what reads devices, where they may come and go.
fn reader(api: &Api) -> Result<ReadDevice, Refusal> {
    let fixed = "this daemon serves what its command line names: start it with pollux serve --config FILE to add and remove devices";
    api.read_device
        .ok_or_else(|| Refusal(StatusCode::CONFLICT, fixed.to_owned()))
}

/// Serve one device more, attached if its keys say so.
///
/// It takes as long as the driver's probe. If the device cannot be attached nothing stays of it. The next reload removes
/// it, unless the configuration has it by then.
#[utoipa::path(post, path = "/v1/devices", tag = "devices",
    request_body = DeviceBody,
    responses(
        (status = 201, description = "It is served", body = DeviceSnapshot),
        (status = 400, description = "Its keys make no sense", body = ErrorBody),
        (status = 409, description = "The name is in use, or the device cannot be served or attached", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "A device does not answer", body = ErrorBody),
    ))]
pub(super) async fn add(
    State(api): State<Api>,
    Body(body): Body<DeviceBody>,
) -> Result<(StatusCode, Json<DeviceSnapshot>), Refusal> {
    let read = reader(&api)?;
    let bad = |reason| Refusal(StatusCode::BAD_REQUEST, reason);
    for (key, value) in &body.others {
        if let DeviceValue::List(_) = value {
            DeviceKey::check_list(&api.device_keys, key).map_err(bad)?;
        }
    }
    let words = body.into_words();
    let wanted = blocking(move || read(&words)).await?;
    let wanted = wanted.map_err(bad)?;
    let name = wanted.options.name.to_string();
    let requests = api.requests.clone();
    let added = blocking(move || requests.add(wanted)).await?;
    added.map_err(|reason| Refusal(StatusCode::CONFLICT, reason))?;
    let device = snapshot(&api, api.find(&name)?).await?;
    Ok((StatusCode::CREATED, Json(device)))
}

/// Serve a device no longer: detach it, finish what is in flight and destroy it.
///
/// It takes as long as the driver takes to let go. The next reload serves it again, if the configuration has it.
#[utoipa::path(delete, path = "/v1/devices/{name}", tag = "devices",
    params(("name" = String, Path, description = "Name of the device")),
    responses(
        (status = 200, description = "It is gone", body = ()),
        (status = 404, description = "It is not served here", body = ErrorBody),
        (status = 409, description = "Something of it stays behind", body = ErrorBody),
        (status = "4XX", description = "Refused", body = ErrorBody),
        (status = "5XX", description = "The daemon cannot do it", body = ErrorBody),
    ))]
pub(super) async fn remove(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<()>, Refusal> {
    let name = api.find(&name)?.name;
    reader(&api)?;
    let removed = blocking(move || api.requests.remove(name)).await?;
    removed
        .map(Json)
        .map_err(|reason| Refusal(StatusCode::CONFLICT, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_a_table_of_the_configuration() {
        let text = r#"{"name": "d0", "backend": "null,size=1G", "queues": 2.0, "cpus": [0, 1], "poll": "busy"}"#;
        let body: DeviceBody = serde_json::from_str(text).unwrap();
        let words = body.into_words();
        let words: Vec<(&str, &str)> = words.iter().map(|(k, w)| (&**k, &**w)).collect();
        let expected = [
            ("backend", "null,size=1G"),
            ("cpus", "0,1"),
            ("name", "d0"),
            ("poll", "busy"),
            ("queues", "2"),
        ];
        assert_eq!(words, expected);
        for (other, part) in [
            (r#""backend": "null", "queues": true"#, "whole number"),
            (r#""backend": "null", "queues": null"#, "whole number"),
            (r#""backend": 1"#, "string"),
            (r#""queues": 2"#, "`backend`"),
        ] {
            let text = format!("{{\"name\": \"d0\", {other}}}");
            let refused = serde_json::from_str::<DeviceBody>(&text).unwrap_err();
            assert!(refused.to_string().contains(part), "{refused}");
        }
    }
}
