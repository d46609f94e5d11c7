//! The identity file: [`Identity`] as bytes, with a checksum that tells damage from another program's file.
//!
//! ```text
//! line 1   the Identity as one line of JSON             (readable with `head -1 | jq`)
//! line 2   "crc32c:" and 8 lower-case hex digits        CRC-32C of line 1 with its line feed
//! ```
//!
//! The file is replaced whole ([`crate::storage::replace_file`]), so that it is never torn by a crash: a file that does
//! not decode is damage, and nothing may be written to such a volume. Absent is the only form of "no identity".

use std::io;
use std::path::{Path, PathBuf};

use holdfast_contract::identity::{IDENTITY_FILE, IDENTITY_VERSION, Identity};
use serde::Deserialize;

use crate::clock::unix_ms;
use crate::storage::{Storage, read_all, replace_file};

/// Name of an identity that is not whole.
pub(crate) const TEMP_IDENTITY: &str = "temp-holdfast-identity.json";

/// Longest identity file that is read, in bytes. Written ones have under 1 KiB; the rest is room for later fields.
const IDENTITY_LEN_MAX: u64 = 64 << 10;
const CHECKSUM_PREFIX: &str = "crc32c:";

/// Why bytes are no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The second line is missing or not of its form.
    #[error("it does not end with a checksum line; it was cut short or written by something else")]
    NoChecksum,
    /// The bytes are not those that were written.
    #[error("its checksum is {expected:08x}, its contents have {found:08x}; it was changed or damaged")]
    ChecksumMismatch {
        /// What the second line says.
        expected: u32,
        /// What the first line has.
        found: u32,
    },
    /// The first line is not the JSON that is expected.
    #[error("it is not the expected JSON: {problem}")]
    Malformed {
        /// The parser's words.
        problem: String,
    },
    /// A newer release wrote it.
    #[error(
        "it has version {found}, this release reads up to {IDENTITY_VERSION}; use the release that wrote it, or a newer one"
    )]
    Newer {
        /// Version found.
        found: u32,
    },
    /// A field has a value that is never written.
    #[error("it is inconsistent: {problem}")]
    Inconsistent {
        /// Which field, and why.
        problem: &'static str,
    },
}

/// Why the identity of a directory is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadIdentityError {
    /// The file system says no.
    #[error("failed to read {path:?}: {source}{}", if source.kind() == io::ErrorKind::PermissionDenied {
        "; give the user of this server access to it (chown)"
    } else {
        ""
    })]
    Read {
        /// The identity file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is there and is no identity.
    #[error("{path:?} is damaged: {source}")]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// The cause.
        source: IdentityError,
    },
}

/// The bytes of the identity file.
#[must_use]
pub fn encode(identity: &Identity) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec(identity).expect("an identity has string keys and no failing serializer");
    bytes.push(b'\n');
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(format!("{CHECKSUM_PREFIX}{checksum:08x}\n").as_bytes());
    bytes
}

/// The identity in the bytes of its file.
///
/// # Errors
/// [`IdentityError`]; every single changed, missing or added byte is found.
pub fn decode(bytes: &[u8]) -> Result<Identity, IdentityError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(IdentityError::NoChecksum)? + 1;
    let (line, trailer) = bytes.split_at(end);
    let expected = parse_trailer(trailer).ok_or(IdentityError::NoChecksum)?;
    let found = crc32c::crc32c(line);
    if expected != found {
        return Err(IdentityError::ChecksumMismatch { expected, found });
    }
    let malformed = |error: serde_json::Error| IdentityError::Malformed { problem: error.to_string() };
    // The version first: a newer file may lack fields of this one.
    let Version { version } = serde_json::from_slice(line).map_err(malformed)?;
    if version > IDENTITY_VERSION {
        return Err(IdentityError::Newer { found: version });
    }
    let identity: Identity = serde_json::from_slice(line).map_err(malformed)?;
    match inconsistency(&identity) {
        None => Ok(identity),
        Some(problem) => Err(IdentityError::Inconsistent { problem }),
    }
}

/// Reads the identity of data directory `dir`; `None` when there is none (or no directory).
///
/// # Errors
/// [`ReadIdentityError`]: then nothing is known of the directory, and nothing may be written to it.
pub(crate) fn read_identity(
    storage: &dyn Storage,
    dir: &Path,
) -> Result<Option<Identity>, ReadIdentityError> {
    let path = dir.join(IDENTITY_FILE);
    match read_all(storage, &path, IDENTITY_LEN_MAX) {
        Ok(bytes) => decode(&bytes).map(Some).map_err(|source| ReadIdentityError::Damaged { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ReadIdentityError::Read { path, source }),
    }
}

/// Replaces the identity of data directory `dir` atomically and durably.
///
/// # Errors
/// Whatever the file system says; the old identity then stays, or either, if the last step failed.
pub fn write_identity(storage: &dyn Storage, dir: &Path, identity: &Identity) -> io::Result<()> {
    debug_assert_eq!(inconsistency(identity), None, "an identity that would not be read back");
    replace_file(storage, &dir.join(IDENTITY_FILE), &encode(identity))
}

/// Hex digits in upper case or with a sign would parse as well; they are not what is written.
fn parse_trailer(trailer: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(trailer).ok()?.strip_prefix(CHECKSUM_PREFIX)?.strip_suffix('\n')?;
    let well_formed =
        digits.len() == 8 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if well_formed { u32::from_str_radix(digits, 16).ok() } else { None }
}

fn inconsistency(identity: &Identity) -> Option<&'static str> {
    if identity.version == 0 {
        Some("version is 0, the first one is 1")
    } else if identity.store_id.is_empty() {
        Some("storeID is empty")
    } else if identity.epoch == 0 {
        Some("epoch is 0, the first one is 1")
    } else if identity.durable_offset > identity.last_offset {
        Some("durableOffset is above lastOffset")
    } else {
        None
    }
}

/// Writes the identity with these offsets.
///
/// # Errors
/// Why not, as text.
pub fn stamp(
    storage: &dyn Storage,
    dir: &Path,
    identity: &mut Identity,
    last_offset: u64,
    durable_offset: u64,
) -> Result<(), String> {
    identity.version = IDENTITY_VERSION;
    identity.last_offset = last_offset;
    identity.durable_offset = durable_offset;
    identity.written_ms = unix_ms();
    write_identity(storage, dir, identity)
        .map_err(|error| format!("failed to write the identity in {dir:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryDisk;
    use holdfast_contract::identity::Parent;

    fn identity() -> Identity {
        Identity {
            version: 1,
            store_id: "6f9619ff-8b86-d011-b42d-00cf4fc964ff".into(),
            instance: "cache-0".into(),
            epoch: 3,
            last_offset: 900,
            durable_offset: 800,
            granted: true,
            clean_shutdown: false,
            has_log: Some(true),
            parent: Some(Parent {
                store_id: "p".into(),
                epoch: 2,
                offset: 100,
                backup_path: Some("p/backups/x".into()),
            }),
            written_ms: 1_700_000_000_000,
        }
    }

    #[test]
    fn what_was_encoded_is_decoded_and_the_first_line_is_plain_json() {
        let bytes = encode(&identity());
        assert_eq!(decode(&bytes).unwrap(), identity());
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap();
        assert_eq!(serde_json::from_slice::<Identity>(line).unwrap(), identity());
    }

    #[test]
    fn files_of_earlier_releases_do_not_say_whether_there_was_a_log() {
        let line = String::from_utf8(encode(&identity())).unwrap();
        let line = line.lines().next().unwrap().replace("\"hasLog\":true,", "") + "\n";
        let bytes = format!("{line}crc32c:{:08x}\n", crc32c::crc32c(line.as_bytes()));
        assert_eq!(decode(bytes.as_bytes()), Ok(Identity { has_log: None, ..identity() }));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = encode(&identity());
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[position] ^= 1 << bit;
                assert!(decode(&damaged).is_err(), "bit {bit} of byte {position}");
            }
            assert!(decode(&bytes[..position]).is_err(), "cut at {position}");
            assert!(decode(&[&bytes[..position], b"x", &bytes[position..]].concat()).is_err());
        }
        assert!(decode(&[&bytes[..], b"x"].concat()).is_err());
        assert!(decode(&[&bytes[..], &bytes[..]].concat()).is_err());
    }

    #[test]
    fn newer_and_inconsistent_files_are_refused_by_name() {
        let check = |line: &str, expected: &str| {
            let line = format!("{line}\n");
            let bytes = format!("{line}crc32c:{:08x}\n", crc32c::crc32c(line.as_bytes()));
            let error = decode(bytes.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        };
        check(r#"{"version": 2, "all": "new"}"#, "version 2");
        check("{}", "expected JSON");
        check("", "expected JSON");
        let with = |change: fn(&mut Identity)| {
            let mut changed = identity();
            change(&mut changed);
            serde_json::to_string(&changed).unwrap()
        };
        check(&with(|identity| identity.epoch = 0), "epoch");
        check(&with(|identity| identity.durable_offset = 901), "durableOffset");
        check(&with(|identity| identity.store_id = String::new()), "storeID");
        check(&with(|identity| identity.version = 0), "version");
    }

    #[test]
    fn absent_is_none_and_damaged_is_an_error_that_names_the_file() {
        let disk = MemoryDisk::new();
        let dir = Path::new("/data/store");
        assert_eq!(read_identity(&disk, dir).unwrap(), None);
        disk.put(&dir.join("dump.rdb"), b"");
        assert_eq!(read_identity(&disk, dir).unwrap(), None);
        write_identity(&disk, dir, &identity()).unwrap();
        assert_eq!(read_identity(&disk, dir).unwrap(), Some(identity()));
        disk.put(&dir.join(IDENTITY_FILE), b"");
        let error = read_identity(&disk, dir).unwrap_err().to_string();
        assert!(error.contains(IDENTITY_FILE), "{error}");
    }
}
