//! The manifest: which files are live. Redis 7's form, so that Redis reads it, with one comment line of ours.
//!
//! ```text
//! #holdfast 1 <store id> <epoch> <crc>
//! file appendonly.aof.4.base.rdb seq 4 type b
//! file appendonly.aof.9.incr.aof seq 9 type i
//! ```
//!
//! Version 2 of the comment says that the segments have no lines of ours (`aof-annotations no`). The CRC32C covers the comment up to it and all lines after it. Redis skips the comment, and drops it when it writes
//! the manifest itself: a manifest without it means that a foreign server has run since. Bytes: `docs/format.md`.

use std::fmt::Write as _;

/// Longest manifest that is read, in bytes: room for thousands of segments.
pub(crate) const MANIFEST_LEN_MAX: u64 = 1 << 20;
/// Longest name of a file, in bytes (`NAME_MAX` of Linux).
const NAME_LEN_MAX: usize = 255;
/// Longest line, in bytes: the longest name, of which each byte may be escaped, and room for the rest.
const LINE_LEN_MAX: usize = NAME_LEN_MAX * 4 + 80;
const COMMENT_PREFIX: &str = "#holdfast ";
/// The comment of a log whose segments have our lines.
const COMMENT_VERSION: &str = "1";
/// The comment of a log whose segments are commands alone. A number of its own, so that a release that knows only the
/// other refuses the log by name, and does not look for lines that are not there.
const COMMENT_VERSION_RAW: &str = "2";

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// The snapshot below the segments (`b`).
    Base,
    /// A segment (`i`).
    Incremental,
    /// Not live any more, to be removed (`h`).
    History,
}

/// One line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    /// Name in the log directory.
    pub name: String,
    /// Sequence number; its own series for each kind.
    pub seq: u64,
    /// What it is for.
    pub kind: FileKind,
}

/// Whose data the manifest describes, and how its segments are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Id of the Store.
    pub store_id: String,
    /// Epoch of the data.
    pub epoch: u64,
    /// The segments have our lines (`aof-annotations`); otherwise they are commands alone.
    pub(crate) annotated: bool,
}

/// The live files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// From our comment; absent when another server wrote the manifest.
    pub(crate) owner: Option<Owner>,
    /// The base; absent while there is none (an upstream server with an empty dataset).
    pub base: Option<LiveFile>,
    /// The segments in the order in which they are replayed.
    pub(crate) incrementals: Vec<LiveFile>,
    /// Files that an upstream server has not yet removed.
    pub(crate) history: Vec<LiveFile>,
}

/// Why a manifest cannot be read. Where Redis refuses the same, the first words are its own, which people look for in logs.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Not one line.
    #[error("Found an empty AOF manifest")]
    Empty,
    /// It is not text.
    #[error("line {line} is not text")]
    NotText {
        /// From 1.
        line: usize,
    },
    /// A line is not `file NAME seq N type b|i|h`.
    #[error("Invalid AOF manifest file format: line {line} is not `file NAME seq N type b|i|h`: {text:?}")]
    Line {
        /// From 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// A line that no name needs.
    #[error("The AOF manifest file contains too long line: line {line} has more than {LINE_LEN_MAX} bytes")]
    LineTooLong {
        /// From 1.
        line: usize,
    },
    /// A file of a kind that does not exist.
    #[error("Unknown AOF file type: line {line} has {kind:?}, and b, i and h are known")]
    Kind {
        /// From 1.
        line: usize,
        /// The word.
        kind: String,
    },
    /// A name leads out of the directory.
    #[error("line {line} names a file outside the log directory: {name:?}")]
    Path {
        /// From 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// A name that no file can have.
    #[error("line {line} names a file with more than {NAME_LEN_MAX} bytes, and no file has so long a name")]
    NameTooLong {
        /// From 1.
        line: usize,
    },
    /// Two bases.
    #[error("Found duplicate base file information: line {line} names a second base, {name:?}")]
    SecondBase {
        /// From 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// Sequence numbers of segments must grow.
    #[error("Found a non-monotonic sequence number: that of line {line} does not grow, {seq}")]
    Order {
        /// From 1.
        line: usize,
        /// The number.
        seq: u64,
    },
    /// Our comment is of a later version.
    #[error(
        "the manifest was written by a newer version (format {version:?}, this release knows {COMMENT_VERSION} and {COMMENT_VERSION_RAW})"
    )]
    Newer {
        /// The version it names.
        version: String,
    },
    /// Our comment is not whole or does not fit the lines after it.
    #[error("the manifest's checksum does not fit its lines: it was damaged or edited")]
    Checksum,
}

impl Manifest {
    /// The text of the manifest.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut lines = String::new();
        for file in self.base.iter().chain(&self.history).chain(&self.incrementals) {
            let kind = match file.kind {
                FileKind::Base => 'b',
                FileKind::Incremental => 'i',
                FileKind::History => 'h',
            };
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "file {} seq {} type {kind}", quote(&file.name), file.seq);
        }
        let Some(owner) = &self.owner else { return lines.into_bytes() };
        let version = if owner.annotated { COMMENT_VERSION } else { COMMENT_VERSION_RAW };
        let covered = format!("{COMMENT_PREFIX}{version} {} {} ", owner.store_id, owner.epoch);
        let crc = crc32c::crc32c_append(crc32c::crc32c(covered.as_bytes()), lines.as_bytes());
        format!("{covered}{crc:08x}\n{lines}").into_bytes()
    }

    /// Reads a manifest, ours or an upstream server's.
    ///
    /// # Errors
    /// [`ManifestError`] with the line.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut manifest = Self::default();
        let mut line_number = 0;
        let mut last_seq = None;
        let mut rest = bytes;
        if let Some((owner, after)) = decode_comment(bytes)? {
            manifest.owner = Some(owner);
            rest = after;
            line_number = 1;
        }
        let mut found = false;
        let whole = rest.strip_suffix(b"\n").unwrap_or(rest);
        // A text without a byte has no line; splitting it would make one.
        for line in whole.split(|byte| *byte == b'\n').filter(|_| !whole.is_empty()) {
            line_number += 1;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > LINE_LEN_MAX {
                return Err(ManifestError::LineTooLong { line: line_number });
            }
            if line.starts_with(b"#") {
                continue;
            }
            found = true;
            let text = std::str::from_utf8(line).map_err(|_| ManifestError::NotText { line: line_number })?;
            let file = decode_line(text, line_number)?;
            match file.kind {
                FileKind::Base if manifest.base.is_some() => {
                    return Err(ManifestError::SecondBase { line: line_number, name: file.name });
                }
                FileKind::Base => manifest.base = Some(file),
                FileKind::History => manifest.history.push(file),
                FileKind::Incremental => {
                    if last_seq.is_some_and(|last| file.seq <= last) {
                        return Err(ManifestError::Order { line: line_number, seq: file.seq });
                    }
                    last_seq = Some(file.seq);
                    manifest.incrementals.push(file);
                }
            }
        }
        if found { Ok(manifest) } else { Err(ManifestError::Empty) }
    }
}

fn decode_comment(bytes: &[u8]) -> Result<Option<(Owner, &[u8])>, ManifestError> {
    if !bytes.starts_with(COMMENT_PREFIX.as_bytes()) {
        // A damaged first letter of ours must not turn the manifest into a foreign one: a comment that is not
        // upstream's own and sits where ours sits is taken for a damaged one of ours.
        return if bytes.first() == Some(&b'#') { Err(ManifestError::Checksum) } else { Ok(None) };
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(ManifestError::Checksum)?;
    let (line, after) = (&bytes[..end], &bytes[end + 1..]);
    let text = std::str::from_utf8(line).map_err(|_| ManifestError::Checksum)?;
    let fields: Vec<&str> = text.split(' ').collect();
    let [_, version, store_id, epoch, crc] = fields[..] else { return Err(ManifestError::Checksum) };
    let covered = &line[..line.len() - crc.len()];
    let expected = crc32c::crc32c_append(crc32c::crc32c(covered), after);
    if format!("{expected:08x}") != crc {
        return Err(ManifestError::Checksum);
    }
    let annotated = match version {
        COMMENT_VERSION => true,
        COMMENT_VERSION_RAW => false,
        _ => return Err(ManifestError::Newer { version: version.to_owned() }),
    };
    let epoch = epoch.parse().map_err(|_| ManifestError::Checksum)?;
    Ok(Some((Owner { store_id: store_id.to_owned(), epoch, annotated }, after)))
}

fn decode_line(text: &str, line: usize) -> Result<LiveFile, ManifestError> {
    let malformed = || ManifestError::Line { line, text: text.to_owned() };
    let fields = split(text).ok_or_else(malformed)?;
    // Upstream ignores the order of the pairs and pairs that it does not know.
    let (mut name, mut seq, mut kind) = (None, None, None);
    for pair in fields.chunks(2) {
        let [key, value] = pair else { return Err(malformed()) };
        match key.to_ascii_lowercase().as_str() {
            "file" => name = Some(value.clone()),
            "seq" => seq = Some(value.parse().map_err(|_| malformed())?),
            "type" => {
                kind = Some(match value.as_str() {
                    "b" => FileKind::Base,
                    "i" => FileKind::Incremental,
                    "h" => FileKind::History,
                    _ => return Err(ManifestError::Kind { line, kind: value.clone() }),
                });
            }
            _ => {}
        }
    }
    let (Some(name), Some(seq), Some(kind)) = (name, seq, kind) else { return Err(malformed()) };
    if name.is_empty() || name.contains('/') || name.contains('\0') || name == "." || name == ".." {
        return Err(ManifestError::Path { line, name });
    }
    if name.len() > NAME_LEN_MAX {
        return Err(ManifestError::NameTooLong { line });
    }
    Ok(LiveFile { name, seq, kind })
}

/// Quotes a name as upstream does when it holds a space, a quote or a backslash.
fn quote(name: &str) -> String {
    if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"' || c == '\\' || c == '\'') {
        let mut quoted = String::from("\"");
        for byte in name.bytes() {
            match byte {
                b'"' | b'\\' => {
                    quoted.push('\\');
                    quoted.push(char::from(byte));
                }
                b'\n' => quoted.push_str("\\n"),
                b'\r' => quoted.push_str("\\r"),
                b'\t' => quoted.push_str("\\t"),
                0x20..=0x7e => quoted.push(char::from(byte)),
                _ => {
                    let _ = write!(quoted, "\\x{byte:02x}");
                }
            }
        }
        quoted.push('"');
        quoted
    } else {
        name.to_owned()
    }
}

/// Splits a line into words; a word may stand in double quotes with `\"`, `\\`, `\xHH` and the letters for control characters.
fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut bytes = text.bytes().peekable();
    loop {
        while bytes.peek().is_some_and(u8::is_ascii_whitespace) {
            bytes.next();
        }
        let Some(first) = bytes.peek().copied() else { return Some(words) };
        let mut word = Vec::new();
        if first == b'"' {
            bytes.next();
            loop {
                match bytes.next()? {
                    b'"' => break,
                    b'\\' => match bytes.next()? {
                        b'x' => {
                            let digits = [bytes.next()?, bytes.next()?];
                            let digits = std::str::from_utf8(&digits).ok()?;
                            word.push(u8::from_str_radix(digits, 16).ok()?);
                        }
                        b'n' => word.push(b'\n'),
                        b'r' => word.push(b'\r'),
                        b't' => word.push(b'\t'),
                        b'a' => word.push(0x07),
                        b'b' => word.push(0x08),
                        byte => word.push(byte),
                    },
                    byte => word.push(byte),
                }
            }
        } else {
            while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
                word.push(byte);
            }
        }
        words.push(String::from_utf8(word).ok()?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, seq: u64, kind: FileKind) -> LiveFile {
        LiveFile { name: name.into(), seq, kind }
    }

    fn ours() -> Manifest {
        Manifest {
            owner: Some(Owner {
                store_id: "6f1c2b7e-8a55-4d0e-9d5e-0c8f4ad2b611".into(),
                epoch: 3,
                annotated: true,
            }),
            base: Some(file("appendonly.aof.4.base.rdb", 4, FileKind::Base)),
            incrementals: vec![
                file("appendonly.aof.8.incr.aof", 8, FileKind::Incremental),
                file("appendonly.aof.9.incr.aof", 9, FileKind::Incremental),
            ],
            history: vec![file("appendonly.aof.3.base.rdb", 3, FileKind::History)],
        }
    }

    #[test]
    fn manifests_round_trip() {
        let check =
            |manifest: &Manifest| assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Ok(manifest));
        check(&ours());
        check(&Manifest { owner: None, ..ours() });
        let mut odd = ours();
        odd.base = Some(file("a b\"\\c.base.rdb", 4, FileKind::Base));
        check(&odd);
        // The longest name that a file system takes, with every byte escaped.
        odd.base = Some(file(&"\u{1}".repeat(255), 4, FileKind::Base));
        check(&odd);
    }

    #[test]
    fn names_with_control_characters_are_written_as_redis_does() {
        let name = " file seq \n\n.aof .2.base.rdb";
        let manifest =
            Manifest { owner: None, base: Some(file(name, 2, FileKind::Base)), ..Manifest::default() };
        let text = "file \" file seq \\n\\n.aof .2.base.rdb\" seq 2 type b\n";
        assert_eq!(manifest.encode(), text.as_bytes());
        assert_eq!(Manifest::decode(text.as_bytes()), Ok(manifest));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let text = ours().encode();
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(
                Manifest::decode(&damaged).is_err(),
                "bit {bit}: {:?}",
                String::from_utf8_lossy(&damaged)
            );
        }
        for len in 0..text.len() {
            assert!(Manifest::decode(&text[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn the_longest_name_is_read_back_whatever_its_bytes() {
        let base = LiveFile { name: "\u{1}".repeat(255), seq: u64::MAX, kind: FileKind::Base };
        let manifest = Manifest { base: Some(base), ..Manifest::default() };
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn bad_lines_are_named() {
        let check = |text: &str, expected: ManifestError| {
            assert_eq!(Manifest::decode(text.as_bytes()), Err(expected), "{text:?}");
        };
        let line = |line, text: &str| ManifestError::Line { line, text: text.into() };
        check("", ManifestError::Empty);
        check("\n\n", line(1, ""));
        check("file a seq 1", line(1, "file a seq 1"));
        check("# a comment\nfile a seq x type b", ManifestError::Checksum);
        check("file a seq 1 type b\nfile b seq x type i", line(2, "file b seq x type i"));
        check("file a seq 1 type b\n\nfile b seq 1 type i\n", line(2, ""));
        check("file a seq 1 type q", ManifestError::Kind { line: 1, kind: "q".into() });
        check(&format!("file {} seq 1 type b", "a".repeat(2_000)), ManifestError::LineTooLong { line: 1 });
        check(&format!("file {} seq 1 type b", "a".repeat(256)), ManifestError::NameTooLong { line: 1 });
        check("file ../a seq 1 type b", ManifestError::Path { line: 1, name: "../a".into() });
        check(
            "file a seq 1 type b\nfile b seq 2 type b",
            ManifestError::SecondBase { line: 2, name: "b".into() },
        );
        check("file a seq 2 type i\nfile b seq 2 type i", ManifestError::Order { line: 2, seq: 2 });
    }

    #[test]
    fn upstream_manifests_load() {
        let text =
            "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n";
        let manifest = Manifest::decode(text.as_bytes()).unwrap();
        assert_eq!(manifest.owner, None);
        assert_eq!(manifest.incrementals.len(), 1);
    }
}
