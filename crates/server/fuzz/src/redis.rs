//! Debian's Redis as the oracle: one process, that ends with this one.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Longest wait for an empty Redis to listen on a busy machine.
const START_MAX: Duration = Duration::from_secs(30);
/// Ends Redis and removes its directory when the other end of standard input is closed: however that process ends.
const GUARD: &str = r#"
dir=$1; shift
redis-server "$@" > /dev/null 2>&1 & redis=$!
cat > /dev/null
kill -9 $redis; rm -rf "$dir"
"#;

/// A connection to it.
#[derive(Debug)]
pub struct Redis {
    connection: UnixStream,
    received: Vec<u8>,
    /// Its standard input is open as long as this process lives.
    _guard: Child,
}

impl Redis {
    /// The one of this process; started when it is first asked for.
    ///
    /// # Panics
    /// When `redis-server` is not installed or does not start.
    pub fn shared() -> MutexGuard<'static, Redis> {
        static SHARED: OnceLock<Mutex<Redis>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Mutex::new(Redis::start()));
        // A finding is a panic; replies of its input that were not read are skipped by the next one.
        shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start() -> Redis {
        let dir = tempfile::Builder::new()
            .prefix("holdfast-fuzz-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        let socket = dir.join("redis.sock");
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(&dir)
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--proto-max-bulk-len", "1mb"])
            // It looks at time-outs of blocked clients as often as its clock ticks.
            .args(["--hz", "500"])
            // Small, so that short inputs meet both forms of collections: as in the target `commands`.
            .args(["--hash-max-listpack-entries", "4", "--hash-max-listpack-value", "16"])
            .args(["--zset-max-listpack-entries", "4", "--zset-max-listpack-value", "16"])
            .args(["--set-max-intset-entries", "4", "--list-max-listpack-size", "3"])
            .args(["--dir".as_ref(), dir.as_os_str(), "--unixsocket".as_ref(), socket.as_os_str()])
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let deadline = Instant::now() + START_MAX;
        let connection = loop {
            match UnixStream::connect(&socket) {
                Ok(connection) => break connection,
                Err(error) if Instant::now() > deadline => {
                    panic!("redis-server does not listen, is it installed (make setup)? {error}")
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        connection.set_read_timeout(Some(START_MAX)).expect("a time that is not zero");
        Redis { connection, received: Vec::new(), _guard: guard }
    }

    /// The replies to encoded requests, of which there are `count`, each as it came.
    ///
    /// # Panics
    /// When Redis ends or does not answer.
    pub fn ask(&mut self, requests: &[u8], count: usize) -> Vec<Vec<u8>> {
        self.received.clear();
        self.connection.write_all(requests).expect("redis-server takes requests");
        let mut replies = Vec::with_capacity(count);
        let mut chunk = [0; 64 << 10];
        while replies.len() < count {
            if let Some(len) = reply_len(&self.received) {
                let rest = self.received.split_off(len);
                replies.push(std::mem::replace(&mut self.received, rest));
                continue;
            }
            let len = match self.connection.read(&mut chunk) {
                // libFuzzer's clock is a signal.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.expect("redis-server answers"),
            };
            assert!(len > 0, "redis-server closed the connection");
            self.received.extend_from_slice(&chunk[..len]);
        }
        replies
    }
}

/// Length of the RESP2 reply at the front; none when it is not whole.
pub(crate) fn reply_len(bytes: &[u8]) -> Option<usize> {
    let line = bytes.iter().position(|&byte| byte == b'\n')? + 1;
    let number = || std::str::from_utf8(&bytes[1..line - 2]).ok()?.parse::<i64>().ok();
    match bytes[0] {
        b'$' => match usize::try_from(number()?) {
            Ok(len) => (bytes.len() >= line + len + 2).then_some(line + len + 2),
            Err(_) => Some(line),
        },
        b'*' => {
            let mut at = line;
            for _ in 0..number()? {
                at += reply_len(&bytes[at..])?;
            }
            Some(at)
        }
        _ => Some(line),
    }
}
