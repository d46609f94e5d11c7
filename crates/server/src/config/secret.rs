//! Passwords and tokens: never printed, compared in constant time.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Longest secret that is read from a file: far above any password, far below what would hurt.
const FILE_LEN_MAX: u64 = 4096;

/// A password or token. `Debug` prints nothing of it; there is no `Display`.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes over the bytes, which may be none.
    #[must_use]
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Reads a file as Kubernetes and people write them: one line, whose end is not part of the secret.
    /// # Errors
    /// [`ReadSecretError`]; nothing of the content is in it.
    pub(crate) fn read(path: &Path) -> Result<Self, ReadSecretError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes))
            .map_err(|source| ReadSecretError::Read { path: path.to_owned(), source })?;
        let refused = |what| ReadSecretError::Unusable { path: path.to_owned(), what };
        if bytes.len() as u64 > FILE_LEN_MAX {
            return Err(refused("it is longer than 4096 bytes"));
        }
        let mut text = String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8"))?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        if text.is_empty() {
            return Err(refused("it is empty"));
        }
        if text.contains(['\r', '\n', '\0']) {
            return Err(refused("it has more than one line"));
        }
        Ok(Self(text.into_bytes()))
    }

    /// True if `candidate` is the secret. Takes the same time for every candidate of one length.
    #[must_use]
    pub(crate) fn matches(&self, candidate: &[u8]) -> bool {
        // Digests have one length, so that the comparison does not tell how long the secret is.
        Sha256::digest(&self.0).ct_eq(&Sha256::digest(candidate)).into()
    }

    /// True if there is none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, for the places that must show it: `CONFIG GET` and `CONFIG REWRITE`.
    #[must_use]
    pub(crate) fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Why a file gives no secret.
#[derive(Debug, thiserror::Error)]
pub enum ReadSecretError {
    /// The file cannot be read.
    #[error("failed to read the secret in {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The content cannot be a secret.
    #[error("the secret in {path:?} cannot be used: {what}; write one line of text into the file")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_is_printed() {
        assert_eq!(
            format!("{:?} {:#?}", Secret::new("hunter2"), Some(Secret::new("x"))),
            "(hidden) Some(\n    (hidden),\n)"
        );
    }

    #[test]
    fn only_the_whole_secret_matches() {
        let secret = Secret::new("hunter2");
        for (candidate, expected) in [("hunter2", true), ("hunter", false), ("hunter22", false), ("", false)]
        {
            assert_eq!(secret.matches(candidate.as_bytes()), expected, "{candidate}");
        }
    }

    #[test]
    fn files_hold_one_line() {
        fn check(content: &[u8], expected: Result<&str, &str>) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("secret");
            std::fs::write(&path, content).unwrap();
            match (Secret::read(&path), expected) {
                (Ok(secret), Ok(text)) => assert_eq!(secret.reveal(), text.as_bytes()),
                (Err(error), Err(what)) => assert!(error.to_string().contains(what), "{error}"),
                (result, _) => panic!("{content:?}: {result:?}"),
            }
        }
        check(b"word", Ok("word"));
        check(b"two words\r\n", Ok("two words"));
        check(b"", Err("it is empty"));
        check(b"\n", Err("it is empty"));
        check(b"a\nb\n", Err("more than one line"));
        check(b"\xff", Err("not UTF-8"));
        check(&[b'a'; 4097], Err("longer than 4096"));
        assert!(matches!(Secret::read(Path::new("/no/such/file")), Err(ReadSecretError::Read { .. })));
    }
}
