//! How much the daemon logs. What logs is set up by the program, which lends the API a way to change it.

use std::fmt::{self, Debug, Display, Formatter};
use std::str::FromStr;

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

impl Level {
    const ALL: [Self; 6] = [
        Self::Off,
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];
}

impl Display for Level {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

/// A word that is no level.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no level: take off, error, warn, info, debug or trace")]
pub struct UnknownLevel(String);

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Self, UnknownLevel> {
        let mut all = Self::ALL.into_iter();
        all.find(|level| level.to_string() == word)
            .ok_or_else(|| UnknownLevel(word.to_owned()))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_the_same_word_everywhere() {
        for level in Level::ALL {
            let word = level.to_string();
            assert_eq!(word.parse(), Ok(level));
            assert_eq!(
                serde_json::to_string(&level).unwrap(),
                format!("\"{word}\"")
            );
            assert!(UnknownLevel("loud".into()).to_string().contains(&word));
        }
        assert_eq!("loud".parse::<Level>(), Err(UnknownLevel("loud".into())));
    }
}
