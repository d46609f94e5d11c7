//! The Secret with password and token. Made once and never applied again: its contents are random, and a person may
//! change them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;

use super::{owned, sha256_hex};
use crate::names;
use crate::reconcile::validate::ValidatedStore;

/// A new Secret with these contents.
#[must_use]
pub fn build(store: &ValidatedStore, password: String, token: String) -> Secret {
    Secret {
        metadata: owned(store, names::auth_secret(&store.name)),
        type_: Some("Opaque".into()),
        string_data: Some(BTreeMap::from([
            (names::PASSWORD_KEY.to_owned(), password),
            (names::TOKEN_KEY.to_owned(), token),
        ])),
        ..Secret::default()
    }
}

/// What the operator needs of the Secret. `Debug` prints no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Auth {
    /// Bearer token of the control port.
    pub token: String,
    /// Digest of password and token, keyed by the token so that it tells nothing of a weak password.
    pub revision: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// Reads `secret`.
/// # Errors
/// The key that is missing, empty, or not text.
pub fn read(secret: &Secret) -> Result<Auth, &'static str> {
    let password = value(secret, names::PASSWORD_KEY).ok_or(names::PASSWORD_KEY)?;
    let token = token(secret).ok_or(names::TOKEN_KEY)?;
    let revision = sha256_hex(format!("{token}\n{password}").as_bytes())[..16].to_owned();
    Ok(Auth { token: token.to_owned(), revision })
}

/// The token alone, with which a server is asked also while its password is missing.
pub(crate) fn token(secret: &Secret) -> Option<&str> {
    value(secret, names::TOKEN_KEY)
}

fn value<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let bytes = secret.data.as_ref()?.get(key)?;
    std::str::from_utf8(&bytes.0).ok().map(str::trim_end).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;

    #[track_caller]
    fn check(data: &[(&str, &str)], expected: Result<&str, &'static str>) {
        let secret = Secret {
            data: Some(
                data.iter().map(|(key, value)| ((*key).to_owned(), ByteString((*value).into()))).collect(),
            ),
            ..Secret::default()
        };
        assert_eq!(read(&secret).as_ref().map(|auth| auth.token.as_str()).map_err(|key| *key), expected);
    }

    #[test]
    fn missing_or_empty_never_means_no_password() {
        check(&[("password", "p"), ("token", "t")], Ok("t"));
        check(&[("password", "p\n"), ("token", "t\n")], Ok("t"));
        check(&[("token", "t")], Err("password"));
        check(&[("password", ""), ("token", "t")], Err("password"));
        check(&[("password", "\n"), ("token", "t")], Err("password"));
        check(&[("password", "p"), ("token", "")], Err("token"));
    }

    #[test]
    fn secrets_are_not_printed() {
        let auth = Auth { token: "hush".into(), revision: "r".into() };
        assert!(!format!("{auth:?}").contains("hush"));
    }
}
