//! What a client has to know to be let in over TCP.

use std::fmt::{self, Debug, Formatter};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use nix::unistd::geteuid;
use subtle::ConstantTimeEq;

use super::refusal::Refusal;

const BYTES: std::ops::RangeInclusive<usize> = 16..=4096;

/// Why a file is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error(
        "cannot read the token in {path}: {reason}; make one with: openssl rand -hex 32 > {path}"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// Anybody may know it.
    #[error("every user may read or change the token in {path}: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else has it.
    #[error("the token in {path} is the file of user {owner}, who knows it: chown {us} {path}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        us: u32,
    },
    /// It is too short or too long, or no word.
    #[error(
        "the token in {path} is not one word of 16 to 4096 visible ASCII characters: make one with: openssl rand -hex 32 > {path}"
    )]
    Form {
        /// The file.
        path: PathBuf,
    },
}

/// A secret word. It is never shown.
#[derive(Clone)]
pub struct Token(Vec<u8>);

impl Debug for Token {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

impl Token {
    /// Reads the token in the file at `path`; white space at its end does not count.
    ///
    /// # Errors
    ///
    /// [`TokenError`] when there is none, or others may read it.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let refuse = |reason| TokenError::Read {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(refuse)?;
        let metadata = file.metadata().map_err(refuse)?;
        if metadata.mode() & 0o007 != 0 {
            let path = path.to_owned();
            return Err(TokenError::Exposed { path });
        }
        let (owner, us) = (metadata.uid(), geteuid().as_raw());
        if owner != 0 && owner != us {
            let path = path.to_owned();
            return Err(TokenError::Foreign { path, owner, us });
        }
        let mut text = Vec::new();
        let most = *BYTES.end() as u64 + 2;
        file.take(most).read_to_end(&mut text).map_err(refuse)?;
        let word = text.trim_ascii_end();
        if !BYTES.contains(&word.len()) || !word.iter().all(u8::is_ascii_graphic) {
            let path = path.to_owned();
            return Err(TokenError::Form { path });
        }
        Ok(Self(word.to_vec()))
    }

    /// Returns whether `authorization`, the value of that header, has this token. The time that this takes tells
    /// nothing but the length.
    fn is_in(&self, authorization: &[u8]) -> bool {
        const SCHEME: &[u8] = b"Bearer ";
        let (scheme, word) = authorization.split_at(SCHEME.len().min(authorization.len()));
        scheme.eq_ignore_ascii_case(SCHEME) && bool::from(word.ct_eq(&self.0))
    }
}

/// Answers only who knows the token.
pub(super) async fn require(State(token): State<Token>, request: Request, next: Next) -> Response {
    let told = request.headers().get(AUTHORIZATION);
    if told.is_some_and(|told| token.is_in(told.as_bytes())) {
        return next.run(request).await;
    }
    let text = "the header Authorization has no token or a wrong one: send Bearer and the word in the file of --token-file";
    let mut refused = Refusal(StatusCode::UNAUTHORIZED, text.into()).into_response();
    let scheme = HeaderValue::from_static("Bearer");
    refused.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    refused
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    fn read(text: &str, mode: u32) -> Result<Token, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        Token::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_is_a_word_that_others_cannot_read() {
        let token = read("0123456789abcdef\n", 0o640).unwrap();
        assert!(token.is_in(b"Bearer 0123456789abcdef"));
        assert!(token.is_in(b"bearer 0123456789abcdef"));
        for wrong in [
            &b""[..],
            b"Bearer",
            b"Bearer ",
            b"0123456789abcdef",
            b"Basic 0123456789abcdef",
            b"Bearer 0123456789abcdeg",
            b"Bearer 0123456789abcdef0",
        ] {
            assert!(!token.is_in(wrong), "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "Token");
        for (text, mode, part) in [
            ("0123456789abcdef", 0o644, "chmod 600"),
            ("0123456789abcdef", 0o602, "chmod 600"),
            ("short", 0o600, "16 to 4096"),
            ("", 0o600, "16 to 4096"),
            ("0123456789 abcdef", 0o600, "one word"),
            (&"x".repeat(5000), 0o600, "16 to 4096"),
        ] {
            let refused = read(text, mode).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
        if geteuid().is_root() {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), "0123456789abcdef").unwrap();
            chown(file.path(), Some(65534), None).unwrap();
            let foreign = Token::read(file.path()).unwrap_err().to_string();
            assert!(
                foreign.contains("user 65534") && foreign.contains("chown 0"),
                "{foreign}"
            );
        }
        let nowhere = Token::read(Path::new("/nowhere/token")).unwrap_err();
        assert!(nowhere.to_string().contains("openssl"), "{nowhere}");
    }
}
