//! The configuration of the real server: refused whole, and rewritten in place.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{Client, PATIENCE, Reply, Server};

/// Bad lines of file and arguments are named in one run, with exit code 2.
#[test]
fn a_start_names_every_bad_line() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("store.conf");
    std::fs::write(&file, b"# M\xfcller\nport abc\nmaxmemroy 1gb\ninclude none.conf\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast-server"))
        .arg(&file)
        .args(["--loglevel", "loud", "--appendonly", "maybe"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    for expected in [
        "at line 2\n>>> 'port abc'",
        "did you mean maxmemory?",
        "Can't read none.conf",
        "loglevel takes one of",
        "appendonly takes yes or no",
        "5 problems",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

/// CONFIG REWRITE by a running server: through a link, with the mode of the file, and the next start says the same.
#[test]
fn a_rewritten_file_starts_the_server_as_it_was() {
    use std::os::unix::fs::PermissionsExt as _;
    let root = tempfile::tempdir().unwrap();
    let (dir, real, link) =
        (root.path().join("data"), root.path().join("real.conf"), root.path().join("link.conf"));
    std::fs::write(&real, b"# M\xfcller\nhz 5\nrequirepass \"two words\"\n").unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("real.conf", &link).unwrap();
    let start = |dir: &Path| {
        let server = Server::spawn_file(dir, &link);
        let deadline = Instant::now() + PATIENCE;
        let mut client = loop {
            if let Ok(client) = Client::connect(server.port) {
                break client;
            }
            assert!(Instant::now() < deadline, "{}", server.log_text());
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(client.command(&["AUTH", "two words"]), Reply::ok());
        (server, client)
    };
    let (server, mut client) = start(&dir);
    assert_eq!(client.run("CONFIG SET hz 77 maxmemory 1gb"), Reply::ok());
    assert_eq!(client.run("CONFIG REWRITE"), Reply::ok());
    assert!(server.stop().success());
    let text = std::fs::read(&real).unwrap();
    assert!(text.starts_with(b"# M\xfcller\nhz 77\nrequirepass \"two words\"\n"), "{}", text.escape_ascii());
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(std::fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o600);
    let (server, mut client) = start(&dir);
    assert_eq!(client.run("CONFIG GET hz").items()[1], Reply::bulk("77"));
    assert_eq!(client.run("CONFIG GET maxmemory").items()[1], Reply::bulk("1073741824"));
    assert!(server.stop().success());
}

/// As in Redis, which changes its directory: supervisors, backup scripts and log shippers look there.
#[test]
fn relative_paths_lie_in_the_directory_of_the_data() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path().canonicalize().unwrap();
    let dir = root.join("data");
    std::fs::create_dir(&dir).unwrap();
    let port = support::free_port();
    let child = Command::new(env!("CARGO_BIN_EXE_holdfast-server"))
        .current_dir(&root)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--health-port", "0", "--dir", "./data"])
        .args(["--logfile", "server.log", "--pidfile", "server.pid"])
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let server = Server { child, port, log: dir.join("server.log") };
    let mut client = server.client();
    assert_eq!(client.run("CONFIG GET dir").items()[1], Reply::bulk(dir.to_str().unwrap()));
    assert!(server.log_text().contains("Ready to accept connections"), "{}", server.log_text());
    let pid = std::fs::read_to_string(dir.join("server.pid")).unwrap();
    assert_eq!(pid, format!("{}\n", server.child.id()));

    // A second one on the same directory ends, and leaves the file alone.
    let other_port = support::free_port().to_string();
    let second = Command::new(env!("CARGO_BIN_EXE_holdfast-server"))
        .current_dir(&root)
        .args(["--port", &other_port, "--health-port", "0", "--dir", "data", "--pidfile", "server.pid"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stdout);
    assert!(!second.status.success() && said.contains("holdfast.lock"), "{said}");
    assert_eq!(std::fs::read_to_string(dir.join("server.pid")).unwrap(), pid);

    std::fs::rename(&server.log, dir.join("server.log.1")).unwrap();
    assert_eq!(client.run("CONFIG SET hz 77"), Reply::ok());
    assert!(server.log_text().contains("configuration changed"), "a rotated log file is opened again");
    assert!(server.stop().success());
    assert!(!dir.join("server.pid").exists());
}
