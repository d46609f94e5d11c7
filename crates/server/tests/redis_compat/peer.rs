//! A Redis of the distribution as a peer in tests: started on a directory, spoken to, stopped when dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const MISSING: &str = "is not installed: install Debian's redis-server and redis-tools (`make setup` does)";
/// Longest wait for Redis to load a small file on a busy machine.
const START_MAX: Duration = Duration::from_secs(30);

/// A running `redis-server`.
pub(crate) struct Redis {
    process: Child,
    connection: BufReader<UnixStream>,
}

impl Redis {
    /// Starts on `dir`, from `dump.rdb` if it is there, without saving by itself. `options` are further arguments.
    pub(crate) fn start(dir: &Path, options: &[&str]) -> Self {
        let socket = dir.join("redis.sock");
        let mut process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .args(["--dir".as_ref(), dir.as_os_str(), "--unixsocket".as_ref(), socket.as_os_str()])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server {MISSING}: {error}"));
        let deadline = Instant::now() + START_MAX;
        let connection = loop {
            match UnixStream::connect(&socket) {
                Ok(connection) => break connection,
                Err(error) => assert!(Instant::now() < deadline, "redis-server does not listen: {error}"),
            }
            if let Some(status) = process.try_wait().unwrap() {
                panic!("redis-server refused the directory: {status}");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut redis = Self { process, connection: BufReader::new(connection) };
        while let Reply::Error(error) = redis.send(&[b"PING"]) {
            assert!(error.starts_with("LOADING") && Instant::now() < deadline, "{error}");
            std::thread::sleep(Duration::from_millis(10));
        }
        redis
    }

    /// Runs a command that must succeed.
    pub(crate) fn command(&mut self, arguments: &[&[u8]]) -> Reply {
        match self.send(arguments) {
            Reply::Error(error) => panic!("{}: {error}", arguments[0].escape_ascii()),
            reply => reply,
        }
    }

    /// Runs a command and returns its reply, also if that is an error.
    pub(crate) fn send(&mut self, arguments: &[&[u8]]) -> Reply {
        let mut request = Vec::new();
        encode(arguments, &mut request);
        self.connection.get_mut().write_all(&request).unwrap();
        self.reply()
    }

    /// Runs commands in one go, as few as fit into the buffers of a socket, and returns their replies.
    pub(crate) fn pipeline<'a>(&mut self, commands: impl IntoIterator<Item = Vec<&'a [u8]>>) -> Vec<Reply> {
        let (mut request, mut count) = (Vec::new(), 0);
        for arguments in commands {
            encode(&arguments, &mut request);
            count += 1;
        }
        self.connection.get_mut().write_all(&request).unwrap();
        (0..count).map(|_| self.reply()).collect()
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        self.connection.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at_checked(1).expect("redis-server closed the connection");
        match kind {
            "+" => Reply::Status,
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(rest.parse().unwrap()),
            "$" if rest == "-1" => Reply::Nil,
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.connection.read_exact(&mut bytes).unwrap();
                bytes.truncate(bytes.len() - 2);
                Reply::Bytes(bytes)
            }
            "*" => Reply::Array((0..rest.parse().unwrap()).map(|_| self.reply()).collect()),
            other => panic!("no test needs a reply of kind {other:?}"),
        }
    }
}

fn encode(arguments: &[&[u8]], request: &mut Vec<u8>) {
    request.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        request.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        request.extend_from_slice(argument);
        request.extend_from_slice(b"\r\n");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A reply.
#[derive(Debug)]
pub(crate) enum Reply {
    Status,
    Error(String),
    Int(i64),
    Nil,
    Bytes(Vec<u8>),
    Array(Vec<Reply>),
}

impl Reply {
    /// The number, which it must be.
    pub(crate) fn int(self) -> i64 {
        if let Self::Int(number) = self { number } else { panic!("expected a number, not {self:?}") }
    }

    /// The string, which it must be.
    pub(crate) fn bytes(self) -> Vec<u8> {
        if let Self::Bytes(bytes) = self { bytes } else { panic!("expected a string, not {self:?}") }
    }

    /// The array of text, which it must be.
    pub(crate) fn strings(self) -> Vec<String> {
        let Self::Array(replies) = self else { panic!("expected an array, not {self:?}") };
        replies.into_iter().map(|reply| String::from_utf8(reply.bytes()).unwrap()).collect()
    }
}

/// Asserts that `redis-check-rdb` finds nothing wrong with the file.
pub(crate) fn check_rdb(path: &Path) {
    let output = Command::new("redis-check-rdb")
        .arg(path)
        .output()
        .unwrap_or_else(|error| panic!("redis-check-rdb {MISSING}: {error}"));
    assert!(output.status.success(), "redis-check-rdb: {}", String::from_utf8_lossy(&output.stdout));
}
