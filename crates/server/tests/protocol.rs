//! Malformed requests: our server and Debian's Redis get the same bytes and must answer the same.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use holdfast_server::limits::LINE_LEN_MAX;
use support::{PATIENCE, Server};

/// What a server answers to `bytes` until it closes the connection, which it must do after an error of the protocol and
/// otherwise when the input ends. In two pieces, if `cut` is inside.
fn answer(port: u16, bytes: &[u8], cut: usize) -> Vec<u8> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (front, back) = bytes.split_at(cut.min(bytes.len()));
    // A server that has refused the first piece may have closed already.
    if socket.write_all(front).and_then(|()| socket.write_all(back)).is_ok() {
        let _ = socket.shutdown(Shutdown::Write);
    }
    let mut replies = Vec::new();
    match socket.read_to_end(&mut replies) {
        // Closed with bytes that it did not want: what it had answered before has arrived.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        result => drop(result.unwrap_or_else(|error| panic!("{}: {error}", bytes.escape_ascii()))),
    }
    replies
}

/// Requests that nothing is wrong with behind the malformed ones: they must not be executed.
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

fn malformed() -> Vec<Vec<u8>> {
    let mut table: Vec<Vec<u8>> = [
        // The bytes that ended the process, and what resembles them.
        "*1\r\n\r\n",
        "*1\r\n\r\n\r\n",
        "*2\r\n$4\r\nECHO\r\n\r\n",
        "*2\r\n$4\r\nECHO\r\n\r1\r\n",
        "*1\r\n\n\r\n",
        "*1\r\n\0\r\n",
        "*1\r\n\x001\r\nx\r\n",
        "*1\r\n$4\r\nPING\r\n\r\n",
        // Counts.
        "*\r\n",
        "*0\r\n",
        "*-0\r\n",
        "*-1\r\n",
        "*-9223372036854775808\r\n",
        "*-9223372036854775809\r\n",
        "*+1\r\n",
        "*01\r\n",
        "* 1\r\n",
        "*1 \r\n",
        "*a\r\n",
        "*1a\r\n",
        "*10000\r\n$x\r\n",
        "*2147483648\r\n",
        "*20000000000\r\n",
        "*99999999999999999999999\r\n",
        "**1\r\n",
        "*\0\r\n",
        "*1\rx$4\r\nPING\r\n",
        // Lengths.
        "*1\r\n$\r\n",
        "*1\r\n$-1\r\n",
        "*1\r\n$-0\r\n",
        "*1\r\n$+1\r\n",
        "*1\r\n$04\r\nPING\r\n",
        "*1\r\n$4 \r\nPING\r\n",
        "*1\r\n$x\r\n",
        "*1\r\n$blabla\r\n",
        "*1\r\n$536870913\r\n",
        "*1\r\n$2000000000\r\n",
        "*1\r\n$9223372036854775807\r\n",
        "*1\r\n$9223372036854775808\r\n",
        "*1\r\n$18446744073709551615\r\n",
        "*1\r\n$4\rxPING\r\n",
        "*1\r\n$4\r\nPINGxx",
        "*1\r\n$4\r\nPING\n\r",
        "*1\r\n$0\r\n\r\n",
        // Another byte than `$`.
        "*1\r\n:1\r\n",
        "*1\r\n*1\r\n",
        "*1\r\n+OK\r\n",
        "*1\r\nPING\r\n",
        "*1\r\n 4\r\n",
        "*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n",
        // Not whole.
        "*",
        "*1",
        "*1\r",
        "*1\r\n",
        "*1\r\n$",
        "*1\r\n$4\r\nPIN",
        "*1\r\n$4\r\nPING\r",
        "*2147483647\r\n$0\r\n\r\n",
        // Inline.
        "\r\n",
        "\n\n\n",
        " \t\r\n",
        "\0\n",
        "PING\0\r\n",
        "PING\n",
        "PING\r\n",
        "PING",
        "ECHO \"a\\x41\\n\\\"\"\r\n",
        "ECHO 'a\\x41\\'b'\r\n",
        "ECHO \"a\r\n",
        "ECHO 'a\r\n",
        "ECHO \"a\"b\r\n",
        "ECHO 'a'b\r\n",
        "ECHO a\"b c\"\r\n",
        "ECHO \"\"\r\n",
        "ECHO a\u{b}b\r\n",
        "\u{c}ECHO\u{b}\u{c}a\r\n",
        "\"\"\r\n",
        "+PING\r\n",
        "$4\r\nPING\r\n",
        "PING\r\n\"\r\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    table.push(b"*1\r\n\xff1\r\n".to_vec());
    table.push(b"\xff\xfe\r\n".to_vec());
    // Lines at and beyond their longest length. Not much beyond: Redis closes with unread bytes then, which may cost its reply.
    for len in [LINE_LEN_MAX - 1, LINE_LEN_MAX, LINE_LEN_MAX + 1] {
        for head in ["", "*", "*1\r\n$", "*1\r\n"] {
            table.push([head.as_bytes(), &vec![b'1'; len]].concat());
        }
    }
    table.push([&b"ECHO "[..], &vec![b'x'; 60_000], b"\r\n"].concat());
    table
}

/// Waits until a server executes commands. Before authentication it would not say that it is loading still.
fn wait_until_ready(port: u16, password: Option<&str>) {
    let auth = password.map(|it| format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{it}\r\n", it.len()));
    let request = [auth.unwrap_or_default().as_bytes(), PING].concat();
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err()
        || !answer(port, &request, 0).ends_with(b"+PONG\r\n")
    {
        assert!(Instant::now() < deadline, "no answer on port {port}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends each input, whole and cut, to both servers, whose password is this one.
fn compare(password: Option<&str>, table: &[Vec<u8>]) {
    let dir = tempfile::tempdir().unwrap();
    let (our_dir, their_dir) = (dir.path().join("ours"), dir.path().join("theirs"));
    std::fs::create_dir(&their_dir).unwrap();
    let options: Vec<&str> = password.map_or_else(Vec::new, |it| vec!["--requirepass", it]);
    let ours = Server::spawn(&our_dir, &options);
    let theirs = Server::spawn_redis(&their_dir, &options);
    for server in [&ours, &theirs] {
        wait_until_ready(server.port, password);
    }
    let mut failures = Vec::new();
    for input in table {
        let mut sent = vec![
            (input.clone(), 0),
            (input.clone(), input.len() / 2),
            (input.clone(), input.len().saturating_sub(1)),
            ([PING, input].concat(), 3),
        ];
        // Redis takes a line that is too long if its end is in the same read as the byte that is too much.
        if input.len() < LINE_LEN_MAX - 64 {
            sent.push(([&input[..], PING].concat(), input.len()));
        }
        for (bytes, cut) in sent {
            let (our_answer, their_answer) =
                (answer(ours.port, &bytes, cut), answer(theirs.port, &bytes, cut));
            if our_answer != their_answer {
                let shown = bytes[..bytes.len().min(80)].escape_ascii();
                failures.push(format!(
                    "{shown} ({} bytes)\n  ours    {}\n  Redis's {}",
                    bytes.len(),
                    our_answer.escape_ascii(),
                    their_answer.escape_ascii()
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(answer(ours.port, b"*1\r\n$4\r\nQUIT\r\n", 0), b"+OK\r\n", "the server still answers");
}

#[test]
fn malformed_requests_get_the_replies_of_redis() {
    compare(None, &malformed());
}

#[test]
fn malformed_requests_of_strangers_get_the_replies_of_redis() {
    // A line before authentication is shorter here: those are compared with a password given by nobody.
    let mut table: Vec<_> = malformed().into_iter().filter(|input| input.len() < 24_000).collect();
    let bulk = |len: usize| [format!("${len}\r\n").as_bytes(), &vec![b'x'; len], b"\r\n"].concat();
    table.push(b"*10\r\n$4\r\nPING\r\n".to_vec());
    table.push(b"*11\r\n".to_vec());
    table.push(b"*100\r\n".to_vec());
    table.push([b"*1\r\n".to_vec(), bulk(16_384)].concat());
    table.push(b"*1\r\n$16385\r\n".to_vec());
    table.push([b"*2\r\n".to_vec(), bulk(4), bulk(16_384)].concat());
    table.push([b"*3\r\n".to_vec(), bulk(4), bulk(4_000), bulk(16_384)].concat());
    table.push(b"*3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n$5\r\nwrong\r\n*11\r\n".to_vec());
    table.push(b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*11\r\n".to_vec());
    table.push([b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*2\r\n$4\r\nECHO\r\n".to_vec(), bulk(20_000)].concat());
    compare(Some("secret"), &table);
}
