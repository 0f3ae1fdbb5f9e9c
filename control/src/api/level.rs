//! How much the daemon logs. What logs is set up by the program, which lends the API a way to change it.

use std::fmt::Debug;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ErrorBody;
use super::refusal::{Body, Refusal};
use super::server::Api;

/// How much is logged: all of these before it, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing.
    Off,
    /// What went wrong for good.
    Error,
    /// What may be wrong.
    Warn,
    /// What happens rarely.
    Info,
    /// Every message of the kernel or of a frontend.
    Debug,
    /// All there is.
    Trace,
}

/// What logs.
pub trait LogControl: Debug + Send + Sync {
    /// Returns how much is logged.
    fn level(&self) -> Level;

    /// Logs as much as `level` from now on.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    fn set_level(&self, level: Level) -> Result<(), String>;
}

/// As much as is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// This, and what is more important.
    pub level: Level,
}

/// How much is logged.
#[utoipa::path(get, path = "/v1/log-level", tag = "daemon", responses(
    (status = 200, description = "So much", body = LogLevel),
    (status = "4XX", description = "Refused", body = ErrorBody),
))]
pub(super) async fn log_level(State(api): State<Api>) -> Json<LogLevel> {
    let level = api.log.level();
    Json(LogLevel { level })
}

/// Log more or less from now on.
#[utoipa::path(put, path = "/v1/log-level", tag = "daemon", request_body = LogLevel, responses(
    (status = 200, description = "So much is logged now", body = LogLevel),
    (status = "4XX", description = "Refused", body = ErrorBody),
))]
pub(super) async fn set_log_level(
    State(api): State<Api>,
    Body(LogLevel { level }): Body<LogLevel>,
) -> Result<Json<LogLevel>, Refusal> {
    let set = api.log.set_level(level);
    set.map_err(|reason| Refusal(StatusCode::CONFLICT, reason))?;
    let level = api.log.level();
    Ok(Json(LogLevel { level }))
}
