//! The three files (or Secret keys) that open a location.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use holdfast_contract::bucket::credentials::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN};

use crate::BucketError;

/// Credentials of a location. Always complete: there is no anonymous access. `Debug` prints nothing of them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(..)")
    }
}

impl Credentials {
    /// Reads the files `accessKeyID`, `secretAccessKey` and, when it is there, `sessionToken` in `dir`.
    ///
    /// White space around a value is dropped (a file made by an editor ends with a newline).
    /// # Errors
    /// [`BucketError::CredentialsMissing`] naming the file that is missing, empty or unreadable.
    pub fn read_dir(dir: &Path) -> Result<Self, BucketError> {
        Self::from_source(|name| match std::fs::read_to_string(dir.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        })
        .map_err(|(name, problem)| BucketError::CredentialsMissing {
            item: format!("file {:?}", dir.join(name)),
            problem,
        })
    }

    /// Takes the same three names from the data of a Secret.
    /// # Errors
    /// [`BucketError::CredentialsMissing`] naming the key that is missing, empty or not text.
    pub fn from_map(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, BucketError> {
        Self::from_source(|name| match data.get(name) {
            None => Ok(None),
            Some(value) => {
                String::from_utf8(value.clone()).map(Some).map_err(|_| "not UTF-8 text".to_owned())
            }
        })
        .map_err(|(name, problem)| BucketError::CredentialsMissing { item: format!("key {name:?}"), problem })
    }

    fn from_source(
        read: impl Fn(&'static str) -> Result<Option<String>, String>,
    ) -> Result<Self, (&'static str, String)> {
        // A header of each request holds them, save for the secret.
        let is_allowed = |name, letter: char| {
            if name == SECRET_ACCESS_KEY { !letter.is_control() } else { letter.is_ascii_graphic() }
        };
        let required = |name: &'static str| match read(name) {
            Ok(Some(text)) if text.trim().is_empty() => Err((name, "empty".to_owned())),
            Ok(Some(text)) => match text.trim().chars().position(|letter| !is_allowed(name, letter)) {
                None => Ok(text.trim().to_owned()),
                Some(at) => Err((
                    name,
                    format!(
                        "wrong: its character {} is one that no key has, such as a line break; write it as it was issued",
                        at + 1
                    ),
                )),
            },
            Ok(None) => Err((name, "missing".to_owned())),
            Err(problem) => Err((name, problem)),
        };
        let session_token = match read(SESSION_TOKEN) {
            Ok(None) => None,
            Ok(Some(_)) | Err(_) => Some(required(SESSION_TOKEN)?),
        };
        Ok(Self {
            access_key_id: required(ACCESS_KEY_ID)?,
            secret_access_key: required(SECRET_ACCESS_KEY)?,
            session_token,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: Result<(&str, &str, Option<&str>), (&str, &str)>) {
        let dir = tempfile::tempdir().unwrap();
        let mut map = BTreeMap::new();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
            map.insert((*name).to_owned(), text.as_bytes().to_vec());
        }
        for read in [Credentials::read_dir(dir.path()), Credentials::from_map(&map)] {
            match (read, &expected) {
                (Ok(read), Ok((id, secret, token))) => {
                    assert_eq!(read.access_key_id, *id);
                    assert_eq!(read.secret_access_key, *secret);
                    assert_eq!(read.session_token.as_deref(), *token);
                }
                (Err(error), Err((name, problem))) => {
                    let text = error.to_string();
                    assert!(text.contains(name) && text.contains(problem), "{text}");
                    assert_eq!(error.reason(), "CredentialsMissing");
                }
                (read, expected) => panic!("{files:?}: {read:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn missing_and_empty_files_are_errors_that_name_the_file() {
        check(&[], Err(("accessKeyID", "missing")));
        check(&[("accessKeyID", "a")], Err(("secretAccessKey", "missing")));
        check(&[("accessKeyID", "\n"), ("secretAccessKey", "b")], Err(("accessKeyID", "empty")));
        check(&[("accessKeyID", "a"), ("secretAccessKey", "")], Err(("secretAccessKey", "empty")));
        check(
            &[("accessKeyID", "a"), ("secretAccessKey", "b"), ("sessionToken", " ")],
            Err(("sessionToken", "empty")),
        );
        check(&[("accessKeyID", "a\n"), ("secretAccessKey", "b\n")], Ok(("a", "b", None)));
        check(&[("accessKeyID", "a\nb"), ("secretAccessKey", "b")], Err(("accessKeyID", "its character 2")));
        check(
            &[("accessKeyID", "\u{e4}"), ("secretAccessKey", "b")],
            Err(("accessKeyID", "its character 1")),
        );
        check(
            &[("accessKeyID", "a"), ("secretAccessKey", "b\nc")],
            Err(("secretAccessKey", "its character 2")),
        );
        check(&[("accessKeyID", "a"), ("secretAccessKey", "\u{e4} b")], Ok(("a", "\u{e4} b", None)));
        check(
            &[("accessKeyID", "a"), ("secretAccessKey", "b"), ("sessionToken", "c\nd")],
            Err(("sessionToken", "its character 2")),
        );
        check(
            &[("accessKeyID", "a"), ("secretAccessKey", "b"), ("sessionToken", "c")],
            Ok(("a", "b", Some("c"))),
        );
    }

    #[test]
    fn debug_prints_no_secret() {
        let credentials = Credentials {
            access_key_id: "visible-id".into(),
            secret_access_key: "visible-secret".into(),
            session_token: Some("visible-token".into()),
        };
        assert!(!format!("{credentials:?}").contains("visible"));
    }
}
