//! The transcript format, and playing it to a store or to a Redis.
//!
//! ```text
//! == a case: a fresh store, fresh connections
//! # a remark
//! > SET key "a value"      a request on connection 1; `2> …` is one on connection 2
//! < +OK\r\n                the reply in bytes; empty for none
//! ! -ERR …\r\n             what Redis replies where we differ on purpose; the remark above says why
//! ~ 20                     time passes, in milliseconds
//! ```

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// Something that answers requests.
pub(crate) trait Peer {
    fn send(&mut self, connection: u64, args: &[Vec<u8>]) -> Vec<u8>;
    fn wait_ms(&mut self, ms: u64);
}

pub(crate) enum Line {
    Remark(String),
    Wait(u64),
    Exchange { number: usize, connection: u64, request: String, ours: Vec<u8>, theirs: Option<Vec<u8>> },
}

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) lines: Vec<Line>,
}

pub(crate) struct Transcript {
    pub(crate) name: String,
    pub(crate) cases: Vec<Case>,
    path: PathBuf,
}

/// Line number, expected reply, actual reply.
type Played = Vec<(usize, Vec<u8>, Vec<u8>)>;

impl Case {
    pub(crate) fn play(&self, peer: &mut impl Peer) -> Played {
        self.play_with(peer, |ours, _| ours.clone())
    }

    pub(crate) fn play_as_redis(&self, peer: &mut impl Peer) -> Played {
        self.play_with(peer, |ours, theirs| theirs.clone().unwrap_or_else(|| ours.clone()))
    }

    fn play_with(
        &self,
        peer: &mut impl Peer,
        expected: impl Fn(&Vec<u8>, &Option<Vec<u8>>) -> Vec<u8>,
    ) -> Played {
        let mut played = Vec::new();
        for line in &self.lines {
            match line {
                Line::Remark(_) => {}
                Line::Wait(ms) => peer.wait_ms(*ms),
                Line::Exchange { number, connection, request, ours, theirs } => {
                    let reply = peer.send(*connection, &split(request));
                    played.push((*number, expected(ours, theirs), reply));
                }
            }
        }
        played
    }
}

impl Transcript {
    pub(crate) fn read_all() -> Vec<Transcript> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
        let mut paths: Vec<PathBuf> = folder
            .read_dir()
            .expect("there are transcripts")
            .map(|it| it.expect("readable").path())
            .collect();
        paths.sort();
        paths.into_iter().map(Transcript::read).collect()
    }

    fn read(path: PathBuf) -> Transcript {
        let text = std::fs::read_to_string(&path).expect("a transcript can be read");
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let mut cases: Vec<Case> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if let Some(name) = line.strip_prefix("== ") {
                cases.push(Case { name: name.to_owned(), lines: Vec::new() });
                continue;
            }
            let Some(case) = cases.last_mut() else { continue };
            if let Some(remark) = line.strip_prefix("# ") {
                case.lines.push(Line::Remark(remark.to_owned()));
            } else if let Some(ms) = line.strip_prefix("~ ") {
                case.lines.push(Line::Wait(ms.parse().expect("a number of milliseconds")));
            } else if let Some(bytes) = line.strip_prefix("< ") {
                if let Some(Line::Exchange { ours, .. }) = case.lines.last_mut() {
                    *ours = unescape(bytes);
                }
            } else if let Some(bytes) = line.strip_prefix("! ") {
                if let Some(Line::Exchange { theirs, .. }) = case.lines.last_mut() {
                    *theirs = Some(unescape(bytes));
                }
            } else if let Some((connection, request)) = line.split_once("> ") {
                case.lines.push(Line::Exchange {
                    number: at + 1,
                    connection: if connection.is_empty() { 1 } else { connection.parse().expect("a number") },
                    request: request.to_owned(),
                    ours: Vec::new(),
                    theirs: None,
                });
            } else if line != "<" && !line.is_empty() {
                panic!("{name}:{}: not a line of a transcript", at + 1);
            }
        }
        Transcript { name, cases, path }
    }

    pub(crate) fn write(&self) {
        let mut text = String::new();
        for case in &self.cases {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("== {}\n", case.name));
            for line in &case.lines {
                match line {
                    Line::Remark(remark) => text.push_str(&format!("# {remark}\n")),
                    Line::Wait(ms) => text.push_str(&format!("~ {ms}\n")),
                    Line::Exchange { connection, request, ours, theirs, .. } => {
                        let prefix = if *connection == 1 { String::new() } else { connection.to_string() };
                        text.push_str(&format!("{prefix}> {request}\n"));
                        text.push_str(format!("< {}", escape(ours)).trim_end());
                        text.push('\n');
                        if let Some(theirs) = theirs {
                            text.push_str(&format!("! {}\n", escape(theirs)));
                        }
                    }
                }
            }
        }
        std::fs::write(&self.path, text).expect("a transcript can be written");
    }
}

/// Words of a request: blanks separate, `"…"` groups and knows the escapes of [`escape`].
fn split(request: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut rest = request.trim_start();
    while !rest.is_empty() {
        let (word, tail) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("quotes close"),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(unescape(word));
        rest = tail.trim_start();
    }
    words
}

pub(crate) fn escape(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            b'\r' => "\\r".to_owned(),
            b'\n' => "\\n".to_owned(),
            b'\\' => "\\\\".to_owned(),
            b' '..=b'~' => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        let (escaped, tail) = rest.split_first().expect("an escape is whole");
        rest = tail;
        bytes.push(match escaped {
            b'r' => b'\r',
            b'n' => b'\n',
            b'x' => {
                let (digits, tail) = rest.split_at(2);
                rest = tail;
                u8::from_str_radix(std::str::from_utf8(digits).expect("hexadecimal"), 16)
                    .expect("hexadecimal")
            }
            other => *other,
        });
    }
    bytes
}

/// A reply without the number of the connection that HELLO gives.
pub(crate) fn comparable(reply: &[u8]) -> Vec<u8> {
    const BEFORE: &[u8] = b"$2\r\nid\r\n:";
    let Some(at) = reply.windows(BEFORE.len()).position(|it| it == BEFORE) else { return reply.to_vec() };
    let (head, tail) = reply.split_at(at + BEFORE.len());
    let digits = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
    [head, &tail[digits..]].concat()
}

/// A Redis at the other end of sockets.
pub(crate) struct Remote {
    address: String,
    sockets: BTreeMap<u64, TcpStream>,
}

impl Remote {
    pub(crate) fn connect(address: &str) -> Remote {
        Remote { address: address.to_owned(), sockets: BTreeMap::new() }
    }
}

impl Peer for Remote {
    fn send(&mut self, connection: u64, args: &[Vec<u8>]) -> Vec<u8> {
        let socket = self.sockets.entry(connection).or_insert_with(|| {
            let socket = TcpStream::connect(&self.address).expect("HOLDFAST_REDIS can be reached");
            socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout can be set");
            socket
        });
        let mut request = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            request.extend_from_slice(arg);
            request.extend_from_slice(b"\r\n");
        }
        socket.write_all(&request).expect("a request can be sent");
        let mut reply = Vec::new();
        let mut chunk = [0; 65536];
        while reply_len(&reply).is_none() {
            match socket.read(&mut chunk) {
                Ok(len) if len > 0 => reply.extend_from_slice(&chunk[..len]),
                // No reply within the time is one, too.
                _ => break,
            }
        }
        reply
    }

    fn wait_ms(&mut self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }
}

/// Length of the reply at the front of `bytes`, if it is whole.
fn reply_len(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|it| it == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..line - 2]).ok()?.parse::<i64>().ok();
    let elements = match bytes[0] {
        b'$' | b'=' => {
            let len = number()?;
            let end = usize::try_from(len).map_or(line, |len| line + len + 2);
            return (bytes.len() >= end).then_some(end);
        }
        b'*' | b'~' | b'>' => number()?.max(0),
        b'%' => number()?.max(0) * 2,
        _ => 0,
    };
    (0..elements).try_fold(line, |at, _| Some(at + reply_len(&bytes[at..])?))
}
