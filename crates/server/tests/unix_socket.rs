//! `unixsocket`, `unixsocketperm`, and a server that clients cannot reach by TCP, on the real process.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::fs;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use support::{Client, PATIENCE, Reply, Server, free_port, read_reply};

/// A client by a Unix socket.
struct LocalClient {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl LocalClient {
    /// Connects and waits until the server answers `PING` with `PONG`.
    fn connect(path: &Path) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut client) = Self::try_connect(path)
                && client.try_run(&["PING"]).is_ok_and(|reply| reply == Reply::Simple("PONG".into()))
            {
                return client;
            }
            assert!(Instant::now() < deadline, "no answer at {path:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn try_connect(path: &Path) -> io::Result<Self> {
        let writer = UnixStream::connect(path)?;
        writer.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::new(writer.try_clone()?);
        Ok(Self { writer, reader })
    }

    fn try_run(&mut self, words: &[&str]) -> io::Result<Reply> {
        let mut bytes = Vec::new();
        Client::encode(words, &mut bytes);
        self.writer.write_all(&bytes)?;
        read_reply(&mut self.reader)
    }

    fn run(&mut self, words: &str) -> Reply {
        self.try_run(&words.split(' ').collect::<Vec<_>>()).expect("the server answers")
    }

    fn set(&mut self, name: &str, value: &str) -> Reply {
        self.try_run(&["CONFIG", "SET", name, value]).expect("the server answers")
    }

    fn value(&mut self, name: &str) -> String {
        self.run(&format!("CONFIG GET {name}")).items()[1].text()
    }

    fn info(&mut self, field: &str) -> String {
        let text = self.run("INFO everything").text();
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("INFO has no {field}:\n{text}")).to_owned()
    }
}

/// A folder with room for a socket, and a pure cache that listens there besides its port.
fn cache(args: &[&str]) -> (tempfile::TempDir, PathBuf, Server) {
    cache_with(args, &[])
}

fn cache_with(args: &[&str], environment: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf, Server) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("redis.sock");
    let socket = ["--persistent", "no", "--unixsocket", path.to_str().unwrap()];
    let server = Server::spawn_with(&folder.path().join("data"), &[&socket[..], args].concat(), environment);
    (folder, path, server)
}

/// The field of a line of CLIENT LIST.
fn field(line: &str, name: &str) -> String {
    let value = line.trim_end().split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {line:?}")).to_owned()
}

fn connects(address: &str, port: u16) -> bool {
    TcpStream::connect((address, port)).is_ok()
}

/// Runs a server that does not start to its end.
fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast-server"))
        .args(["--persistent", "no", "--health-port", "0", "--control-port", "0"])
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn clients_by_the_socket_are_served_and_named_by_its_path() {
    let (_folder, path, server) =
        cache(&["--slowlog-log-slower-than", "0", "--enable-debug-command", "local"]);
    let mut local = LocalClient::connect(&path);
    let mut remote = server.client();
    let (named, path_text) = (format!("{}:0", path.display()), path.display().to_string());

    let line = local.run("CLIENT INFO").text();
    assert_eq!([field(&line, "addr"), field(&line, "laddr")], [named.clone(), named.clone()]);
    assert_eq!(field(&line, "flags"), "U");
    let line = remote.run("CLIENT INFO").text();
    assert!(field(&line, "addr").starts_with("127.0.0.1:") && field(&line, "flags") == "N", "{line}");
    let id = local.run("CLIENT ID").int();
    let line = remote.run(&format!("CLIENT LIST ID {id}")).text();
    assert_eq!([field(&line, "addr"), field(&line, "flags")], [named.clone(), "U".to_owned()]);
    local.run("CLIENT NO-EVICT on");
    assert_eq!(field(&local.run("CLIENT INFO").text(), "flags"), "Ue");

    assert_eq!(local.run("DEBUG LOG x"), Reply::ok(), "who comes by the socket is on this machine");
    assert_eq!(local.run("SET key value"), Reply::ok());
    let entry = remote.run("SLOWLOG GET 1").items()[0].clone();
    assert_eq!(entry.items()[4], Reply::bulk(&named));
    remote.run("MONITOR");
    local.run("GET key");
    let shown = remote.read_line();
    assert!(shown.contains(&format!("[0 unix:{path_text}] \"GET\" \"key\"")), "{shown}");

    let mut other = server.client();
    assert_eq!(other.run(&format!("CLIENT KILL ADDR {named}")), Reply::Int(1));
    assert!(local.try_run(&["PING"]).is_err(), "it was closed");
    assert_eq!(LocalClient::connect(&path).run("GET key"), Reply::bulk("value"));
}

/// Requests and replies that are longer than what the sockets hold.
#[test]
fn long_values_and_pipelines_pass_the_socket_whole() {
    const LEN: usize = 20 << 20;
    const COUNT: usize = 20_000;
    let (_folder, path, _server) = cache(&[]);
    let mut client = LocalClient::connect(&path);
    let value = "v".repeat(LEN);
    assert_eq!(client.try_run(&["SET", "long", &value]).unwrap(), Reply::ok());
    assert!(client.run("GET long") == Reply::bulk(&value), "the value has changed");

    let mut writer = client.writer.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        for number in 0..COUNT {
            Client::encode(&["ECHO", &format!("{number:01000}")], &mut bytes);
        }
        writer.write_all(&bytes).unwrap();
    });
    for number in 0..COUNT {
        let reply = read_reply(&mut client.reader).unwrap();
        assert!(reply == Reply::bulk(format!("{number:01000}")), "reply {number} is another");
    }
    sender.join().unwrap();
}

#[test]
fn io_threads_send_by_the_socket() {
    let (_folder, path, server) = cache_with(&["--io-threads", "3"], &[("HOLDFAST_FAULT", "always-share")]);
    let mut clients: Vec<_> = (0..64).map(|_| LocalClient::connect(&path)).collect();
    let deadline = Instant::now() + PATIENCE;
    while clients[0].info("io_threaded_writes_processed") == "0" {
        assert!(Instant::now() < deadline, "the I/O threads send nothing");
        // Stopped meanwhile, so that there is much to send at once.
        server.signal("STOP");
        for (number, client) in clients.iter_mut().enumerate() {
            client.writer.write_all(format!("ECHO {number}\r\n").as_bytes()).unwrap();
        }
        server.signal("CONT");
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(read_reply(&mut client.reader).unwrap(), Reply::bulk(number.to_string()));
        }
    }
}

/// Without a password, protected mode lets in who comes from this machine; the socket has no address to tell that by.
#[test]
fn protected_mode_does_not_concern_the_socket() {
    let (_folder, path, _server) = cache(&["--protected-mode", "yes"]);
    assert_eq!(LocalClient::connect(&path).value("protected-mode"), "yes");
}

#[test]
fn the_port_can_be_closed_and_opened() {
    let (_folder, path, server) = cache(&["--port", "0"]);
    let mut local = LocalClient::connect(&path);
    assert_eq!([local.value("port"), local.info("tcp_port")], ["0", "0"]);
    assert!(!connects("127.0.0.1", server.port));
    let port = free_port();
    assert_eq!(local.set("port", &port.to_string()), Reply::ok());
    assert_eq!(local.info("tcp_port"), port.to_string());
    let mut remote = Client::connect_ready(port);
    assert_eq!(remote.run("CONFIG SET port 0"), Reply::ok());
    assert!(!connects("127.0.0.1", port));
    assert_eq!(remote.run("PING"), Reply::Simple("PONG".into()), "whoever is connected stays");
    assert_eq!(remote.info("tcp_port"), "0");
    assert_eq!(remote.run(&format!("CONFIG SET port {port}")), Reply::ok());
    assert!(connects("127.0.0.1", port));
    assert_eq!(LocalClient::connect(&path).value("port"), port.to_string());
}

#[test]
fn addresses_can_be_taken_away_and_given_back() {
    let (_folder, path, server) = cache(&["--bind", ""]);
    let mut local = LocalClient::connect(&path);
    assert_eq!([local.value("bind"), local.info("tcp_port")], [String::new(), server.port.to_string()]);
    assert!(!connects("127.0.0.1", server.port));
    assert_eq!(local.set("bind", "127.0.0.2 127.0.0.1"), Reply::ok());
    assert!(connects("127.0.0.1", server.port) && connects("127.0.0.2", server.port));
    assert_eq!(local.set("bind", ""), Reply::ok());
    assert!(!connects("127.0.0.1", server.port) && !connects("127.0.0.2", server.port));
    let failed = local.set("bind", "127.0.0.1 203.0.113.7");
    assert!(
        matches!(&failed, Reply::Error(text) if text.ends_with("Failed to bind to specified addresses."))
    );
    assert_eq!(local.value("bind"), "");
    assert!(!connects("127.0.0.1", server.port), "it listens where it did, which is nowhere");
    assert_eq!(LocalClient::connect(&path).run("PING"), Reply::Simple("PONG".into()));
}

/// CONFIG SET may end all listening, as in Redis; whoever is connected can begin it again.
#[test]
fn a_client_by_tcp_may_close_the_door_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::spawn(&folder.path().join("data"), &["--persistent", "no"]);
    let mut client = server.client();
    assert_eq!(client.command(&["CONFIG", "SET", "bind", ""]), Reply::ok());
    assert!(!connects("127.0.0.1", server.port));
    assert_eq!(client.run("CONFIG SET bind 127.0.0.1"), Reply::ok());
    assert!(connects("127.0.0.1", server.port));
}

#[test]
fn a_rewritten_file_starts_a_server_without_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("s"), folder.path().join("redis.conf"));
    let lines = "unixsocketperm 0750\nbind 127.0.0.1\nalways-show-logo yes\n";
    fs::write(&file, format!("unixsocket {}\n{lines}", path.display())).unwrap();
    let start = || {
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_holdfast-server"))
            .arg(&file)
            .arg("--dir")
            .arg(folder.path().join("data"))
            .args(["--health-port", "0", "--control-port", "0", "--port", &free_port().to_string()])
            .stdout(log)
            .spawn()
            .unwrap();
        let server = Server { child, port: 0, log: folder.path().join("log") };
        // Redis's test suite connects when it has seen this.
        let banner = format!("PID: {}", server.child.id());
        let deadline = Instant::now() + PATIENCE;
        while !server.log_text().contains(&banner) {
            assert!(Instant::now() < deadline, "no banner:\n{}", server.log_text());
            std::thread::sleep(Duration::from_millis(2));
        }
        (server, LocalClient::try_connect(&path).expect("the banner comes when the sockets are open"))
    };
    let (server, mut client) = start();
    assert_eq!(client.value("unixsocketperm"), "750");
    assert_eq!(client.set("bind", ""), Reply::ok());
    assert_eq!(client.run("CONFIG REWRITE"), Reply::ok());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nunixsocketperm 0750\n") && text.contains("\nbind \"\"\n"), "{text}");
    assert!(server.stop().success());
    let (server, mut client) = start();
    assert_eq!(client.value("bind"), "");
    assert!(!connects("127.0.0.1", client.value("port").parse().unwrap()));
    assert!(server.stop().success());
}

#[test]
fn the_file_has_the_permissions_that_were_asked_for() {
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    for (perm, expected) in [("700", 0o700), ("0777", 0o777)] {
        let (_folder, path, _server) = cache(&["--unixsocketperm", perm]);
        let mut client = LocalClient::connect(&path);
        assert_eq!(mode(&path), expected);
        assert_eq!(client.value("unixsocketperm"), format!("{expected:o}"));
        assert_eq!(client.value("unixsocket"), path.to_str().unwrap());
        for name in ["unixsocket", "unixsocketperm"] {
            let immutable = format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config"
            );
            assert_eq!(client.set(name, "600"), Reply::Error(immutable));
        }
    }
    let (_folder, path, _server) = cache(&[]);
    assert_eq!(LocalClient::connect(&path).value("unixsocketperm"), "0");
    let plain = path.with_extension("plain");
    let _listener = std::os::unix::net::UnixListener::bind(&plain).unwrap();
    assert_eq!(mode(&path), mode(&plain), "the umask decides");
}

#[test]
fn the_file_of_a_killed_server_is_replaced_and_a_stopped_one_leaves_none() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    // Beside the data, by a path that begins there.
    let args = ["--unixsocket", "s", "--port", "0"];
    let path = dir.join("s");
    let server = Server::spawn(&dir, &args);
    let mut client = LocalClient::connect(&path);
    assert_eq!(field(&client.run("CLIENT INFO").text(), "addr"), "s:0", "as it was written");
    assert_eq!(client.run("SET key value"), Reply::ok());
    server.kill();
    assert!(fs::symlink_metadata(&path).unwrap().file_type().is_socket());

    let server = Server::spawn(&dir, &args);
    assert_eq!(LocalClient::connect(&path).run("GET key"), Reply::bulk("value"));
    assert!(server.stop().success());
    assert!(!path.exists(), "the file is left behind");

    let mut server = Server::spawn(&dir, &args);
    let mut client = LocalClient::connect(&path);
    assert!(client.try_run(&["SHUTDOWN"]).is_err(), "it ends without a reply");
    assert!(server.wait().success());
    assert!(!path.exists(), "the file is left behind");
    let log = server.log_text();
    // The words of Redis; those of TCP are others, and tools count them.
    assert!(log.contains("The server is now ready to accept connections at s"), "{log}");
    assert!(!log.contains("Ready to accept connections"), "{log}");
}

/// Whoever may open the file is trusted no more than a client by TCP.
#[test]
fn clients_by_the_socket_are_limited_as_by_tcp() {
    let wait_for_end = |client: &mut LocalClient| {
        let error = read_reply(&mut client.reader).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
    };
    let (_folder, path, server) = cache(&["--maxclients", "1"]);
    let mut client = LocalClient::connect(&path);
    let refusal = Reply::Error("ERR max number of clients reached".into());
    let mut other = LocalClient::try_connect(&path).unwrap();
    assert_eq!(read_reply(&mut other.reader).unwrap(), refusal);
    wait_for_end(&mut other);
    let mut remote = Client::connect(server.port).unwrap();
    assert_eq!(remote.read_reply().unwrap(), refusal, "both kinds count together");
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));

    let (_folder, path, _server) = cache(&["--timeout", "1"]);
    wait_for_end(&mut LocalClient::connect(&path));

    let (_folder, path, server) = cache(&["--requirepass", "secret", "--authentication-timeout", "1"]);
    let mut admin = server.client_with_password("secret");
    wait_for_end(&mut LocalClient::try_connect(&path).unwrap());
    assert_ne!(admin.info("unauthenticated_clients_closed"), "0");
    // A request that a client may send once it has authenticated.
    let password = "x".repeat(1 << 20);
    let refused = LocalClient::try_connect(&path).unwrap().try_run(&["AUTH", &password]);
    assert!(!matches!(&refused, Ok(Reply::Error(text)) if text.starts_with("WRONGPASS")), "it was taken");
}

#[test]
fn nothing_but_a_stale_socket_is_replaced() {
    let (folder, path, _server) = cache(&[]);
    let mut client = LocalClient::connect(&path);
    let refused = |path: &Path, reason: &str| {
        let port = free_port().to_string();
        let output = run(&["--port", &port, "--unixsocket", path.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let expected = format!("Failed opening Unix socket {path:?}: {reason}");
        assert!(said.contains(&expected), "{said}");
    };
    refused(&path, "another process listens there");
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    assert_eq!(
        LocalClient::connect(&path).run("PING"),
        Reply::Simple("PONG".into()),
        "its file is still there"
    );

    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    refused(&file, "a file is there");
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    refused(folder.path(), "a directory is there");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    refused(&link, "a symbolic link is there");
    assert!(link.is_symlink());
    refused(&folder.path().join("x".repeat(108)), "the path has");
    refused(&folder.path().join("none/s"), "failed to bind");
}

#[test]
fn a_server_that_nobody_could_reach_does_not_start() {
    for args in [&["--port", "0"][..], &["--bind", ""], &["--port", "0", "--unixsocket", ""]] {
        let output = run(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("the server would not listen anywhere"), "{said}");
    }
}

/// Probes and monitors are no clients: they find their port on the machine itself when clients have no address.
#[test]
fn the_health_port_stays() {
    let health = free_port();
    let health_text = health.to_string();
    for closed in [["--port", "0"], ["--bind", ""]] {
        let args = [&closed[..], &["--health-port", health_text.as_str()]].concat();
        let (_folder, path, _server) = cache(&args);
        LocalClient::connect(&path);
        let mut stream = TcpStream::connect(("127.0.0.1", health)).unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
