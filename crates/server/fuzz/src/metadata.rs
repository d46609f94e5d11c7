//! Small files about other files: the manifest of the log, the identity, and the annotation lines of a segment.
//!
//! Checked: what is accepted is the same after it was written and read again. Each is tried with the checksum it has and
//! with one that fits, which no mutation finds.

use holdfast_server::persistence::identity;
use holdfast_server::persistence::log::record::{FrameHeader, SegmentHeader};
use holdfast_server::persistence::manifest::Manifest;

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "metadata",
    run,
    len_max: 2048,
    words: &[
        "#holdfast 1 ",
        "file ",
        " seq ",
        " type ",
        "\"",
        "\\x2f",
        "..",
        "#HS1 ",
        "#HF1 ",
        "00000000",
        "deadbeef",
        "\n",
        "\r\n",
        "18446744073709551615",
        "{\"version\":1",
        "\"storeID\":\"s\"",
        "\"epoch\":1",
        "crc32c:",
    ],
};

fn run(data: &[u8]) {
    for bytes in [data.to_vec(), with_manifest_checksum(data)] {
        if let Ok(manifest) = Manifest::decode(&bytes) {
            assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Ok(&manifest));
        }
    }
    for bytes in [data.to_vec(), with_identity_checksum(data)] {
        if let Ok(identity) = identity::decode(&bytes) {
            assert_eq!(identity::decode(&identity::encode(&identity)), Ok(identity));
        }
    }
    for line in [data.to_vec(), with_line_checksum(data)] {
        if let Ok((header, crc)) = SegmentHeader::decode(&line) {
            assert_eq!(header.encode(), (line.clone(), crc));
        }
        if let Ok(header) = FrameHeader::decode(&line) {
            let mut again = Vec::new();
            header.encode_into(&mut again);
            assert_eq!(again, line);
        }
    }
}

/// The first line of a manifest with the checksum of what it covers.
fn with_manifest_checksum(data: &[u8]) -> Vec<u8> {
    let end = data.iter().position(|&byte| byte == b'\n').unwrap_or(data.len());
    let (line, rest) = data.split_at(end);
    let covered = &line[..line.iter().rposition(|&byte| byte == b' ').map_or(0, |at| at + 1)];
    let crc = crc32c::crc32c_append(crc32c::crc32c(covered), rest.strip_prefix(b"\n").unwrap_or(rest));
    [covered, format!("{crc:08x}").as_bytes(), rest].concat()
}

/// The first line of an identity with its checksum behind it.
fn with_identity_checksum(data: &[u8]) -> Vec<u8> {
    let line = [data.split(|&byte| byte == b'\n').next().unwrap_or_default(), b"\n"].concat();
    let crc = crc32c::crc32c(&line);
    [&line[..], format!("crc32c:{crc:08x}\n").as_bytes()].concat()
}

/// A segment's first line with its checksum.
fn with_line_checksum(data: &[u8]) -> Vec<u8> {
    let line = data.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let covered = &line[..line.iter().rposition(|&byte| byte == b' ').map_or(0, |at| at + 1)];
    let crc = crc32c::crc32c(covered);
    [covered, format!("{crc:08x}\r\n").as_bytes()].concat()
}
