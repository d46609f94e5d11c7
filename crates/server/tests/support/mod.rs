//! A server process and a small Redis client for tests that need the real binary.

#![expect(dead_code, reason = "each test binary uses its part")]
#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to answer `PING`, and to stop.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `+…`
    Simple(String),
    /// `-…`
    Error(String),
    /// `:…`
    Int(i64),
    /// `$…`; none for a null.
    Bulk(Option<Vec<u8>>),
    /// `*…`; none for a null.
    Array(Option<Vec<Reply>>),
}

impl Reply {
    pub(crate) fn ok() -> Self {
        Self::Simple("OK".into())
    }

    pub(crate) fn bulk(text: impl AsRef<[u8]>) -> Self {
        Self::Bulk(Some(text.as_ref().to_vec()))
    }

    pub(crate) fn int(&self) -> i64 {
        match self {
            Self::Int(number) => *number,
            other => panic!("expected an integer, got {other:?}"),
        }
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Self::Simple(text) => text.clone(),
            Self::Bulk(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("expected text, got {other:?}"),
        }
    }

    pub(crate) fn items(&self) -> &[Reply] {
        match self {
            Self::Array(Some(items)) => items,
            other => panic!("expected an array, got {other:?}"),
        }
    }
}

/// The next reply, from a socket of any kind.
pub(crate) fn read_reply(reader: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("reply {line:?}"));
    let text = line.strip_suffix("\r\n").ok_or_else(invalid)?;
    let (kind, rest) = text.split_at_checked(1).ok_or_else(invalid)?;
    let number = || rest.parse::<i64>().map_err(|_| invalid());
    Ok(match kind {
        "+" => Reply::Simple(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Int(number()?),
        "$" => match usize::try_from(number()?) {
            Err(_) => Reply::Bulk(None),
            Ok(len) => {
                let mut bytes = vec![0; len + 2];
                reader.read_exact(&mut bytes)?;
                bytes.truncate(len);
                Reply::Bulk(Some(bytes))
            }
        },
        "*" => match usize::try_from(number()?) {
            Err(_) => Reply::Array(None),
            Ok(len) => {
                Reply::Array(Some((0..len).map(|_| read_reply(reader)).collect::<io::Result<Vec<_>>>()?))
            }
        },
        _ => return Err(invalid()),
    })
}

/// A connection that sends commands and reads replies.
pub(crate) struct Client {
    writer: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let writer = TcpStream::connect(("127.0.0.1", port))?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(writer.try_clone()?);
        Ok(Self { writer, reader })
    }

    /// The connection, for its options.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.writer
    }

    /// Connects and waits until the server answers `PING` with `PONG`.
    pub(crate) fn connect_ready(port: u16) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut client) = Self::connect(port)
                && let Ok(reply) = client.try_command(&["PING"])
            {
                if reply == Reply::Simple("PONG".into()) {
                    return client;
                }
                assert!(matches!(&reply, Reply::Error(text) if text.starts_with("LOADING")), "{reply:?}");
            }
            assert!(Instant::now() < deadline, "no answer on port {port} in {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn encode<A: AsRef<[u8]>>(args: &[A], out: &mut Vec<u8>) {
        out.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
        for arg in args {
            let arg = arg.as_ref();
            out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            out.extend_from_slice(arg);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The sending side, for a thread of its own.
    pub(crate) fn clone_writer(&self) -> TcpStream {
        self.writer.try_clone().unwrap()
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)
    }

    pub(crate) fn try_command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        Self::encode(args, &mut bytes);
        self.send_bytes(&bytes)?;
        self.read_reply()
    }

    pub(crate) fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Reply {
        self.try_command(args).expect("the server answers")
    }

    /// A command in words.
    pub(crate) fn run(&mut self, words: &str) -> Reply {
        self.command(&words.split(' ').collect::<Vec<_>>())
    }

    /// One line, without its end: for what only RESP3 has.
    pub(crate) fn read_line(&mut self) -> String {
        let mut line = String::new();
        let len = self.reader.read_line(&mut line).expect("the server answers");
        assert!(len > 0, "the connection was closed");
        line.trim_end_matches("\r\n").to_owned()
    }

    pub(crate) fn read_reply(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.reader)
    }

    /// One field of INFO.
    pub(crate) fn info(&mut self, field: &str) -> String {
        let text = self.run("INFO").text();
        let prefix = format!("{field}:");
        text.lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or_else(|| panic!("INFO has no {field}:\n{text}"))
            .to_owned()
    }

    /// Waits until a field of INFO has a value.
    pub(crate) fn wait_for_info(&mut self, field: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.info(field) != expected {
            assert!(Instant::now() < deadline, "{field} is {:?}, not {expected:?}", self.info(field));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Copies a directory with everything in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// A port that nobody listens on, and that no other test of this process is given: a test whose server finds its port
/// taken would talk to the server of another. Below the range that the kernel gives to connections.
pub(crate) fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(101).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_000 + number % 20_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A server process; killed when dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) port: u16,
    pub(crate) log: PathBuf,
}

impl Server {
    /// Our server on a data directory; its log is appended to `server.log` beside the directory.
    pub(crate) fn spawn(dir: &Path, args: &[&str]) -> Self {
        Self::spawn_with(dir, args, &[])
    }

    pub(crate) fn spawn_with(dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_holdfast-server"));
        Self::start(command, dir, args, environment)
    }

    /// Our server on a data directory, with a configuration file.
    pub(crate) fn spawn_file(dir: &Path, file: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-server"));
        command.arg(file);
        Self::start(command, dir, &[], &[])
    }

    /// Our server on a data directory, in the control group whose processes are listed in the file `procs`.
    pub(crate) fn spawn_in_group(procs: &Path, dir: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(procs);
        command.arg(env!("CARGO_BIN_EXE_holdfast-server"));
        Self::start(command, dir, args, &[])
    }

    /// Our server on a data directory, with so many bytes of address space.
    pub(crate) fn spawn_with_address_space(bytes: u64, dir: &Path, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {} && exec \"$@\"", bytes >> 10), "sh"]);
        command.arg(env!("CARGO_BIN_EXE_holdfast-server"));
        Self::start(command, dir, args, &[])
    }

    fn start(mut command: Command, dir: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let port = free_port();
        let log = dir.with_extension("log");
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
        let child = command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--health-port", "0"])
            .args(["--dir", dir.to_str().unwrap()])
            .args(args)
            .envs(environment.iter().copied())
            .stdout(Stdio::from(file.try_clone().unwrap()))
            .stderr(Stdio::from(file))
            .stdin(Stdio::null())
            .spawn()
            .expect("the server starts");
        Self { child, port, log }
    }

    /// Debian's Redis on a data directory.
    pub(crate) fn spawn_redis(dir: &Path, args: &[&str]) -> Self {
        let port = free_port();
        let log = dir.with_extension("redis.log");
        let file = std::fs::File::create(&log).unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", dir.to_str().unwrap()])
            .args(args)
            .stdout(Stdio::from(file))
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .expect("redis-server is installed (make setup installs it)");
        Self { child, port, log }
    }

    /// A client that has given this password, when the data are there.
    pub(crate) fn client_with_password(&self, password: &str) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut client) = Client::connect(self.port)
                && matches!(client.try_command(&["AUTH", password]), Ok(Reply::Simple(_)))
            {
                client.wait_for_info("loading", "0");
                return client;
            }
            assert!(Instant::now() < deadline, "nobody is let in:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect_ready(self.port)
    }

    /// SIGKILL, and wait until the process is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and wait for the exit status.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not stop; log:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("log of the server on port {}:\n{}", self.port, self.log_text());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
