//! The real server on directories that are half-written, in other hands for a while, full, or slow to load: it keeps everything,
//! and is held or stopped without a loss.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod directory;
mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use directory::{LOG, changed, edit, lived, tree};
use holdfast_contract::record::{Origin, StoreRecord};
use support::{Client, PATIENCE, Reply, Server, free_port};

/// Changes the identity of a directory, with the checksum that it needs.
fn edit_identity(dir: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    edit(&dir.join("holdfast-identity.json"), |bytes| {
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap();
        let mut identity = serde_json::from_slice(line).unwrap();
        change(&mut identity);
        let line = format!("{identity}\n");
        *bytes = format!("{line}crc32c:{:08x}\n", crc32c::crc32c(line.as_bytes())).into_bytes();
    });
}

/// A snapshot that holds everything up to a clean stop needs no log.
#[test]
fn a_snapshot_that_holds_all_of_the_log_stands_in_for_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let args = ["--persist-strategy", "everysec", "--save", ""];
    let server = Server::spawn(&dir, &args);
    let mut client = server.client();
    client.run("SET a 1");
    assert_eq!(client.run("SAVE"), Reply::ok());
    drop(client);
    assert!(server.stop().success());
    std::fs::remove_dir_all(dir.join("appendonlydir")).unwrap();
    let server = Server::spawn(&dir, &args);
    assert_eq!(server.client().run("GET a"), Reply::bulk("1"));
}

#[test]
fn what_an_interrupted_server_left_is_removed_and_the_data_are_whole() {
    let root = tempfile::tempdir().unwrap();
    let dir = lived(root.path(), "everysec", true);
    let left = [
        dir.join("temp-save.rdb"),
        dir.join("appendonlydir/temp-rewrite.rdb"),
        dir.join("appendonlydir/temp-appendonly.aof.manifest"),
        dir.join(format!("{LOG}.3.incr.aof")),
        dir.join(format!("{LOG}.1.incr.aof")),
    ];
    // Of others, or copies that somebody made.
    let foreign = [
        dir.join("temp-report.csv"),
        dir.join(std::ffi::OsStr::from_bytes(b"temp-\xff")),
        dir.join("appendonlydir/temp-notes"),
        dir.join(format!("{LOG}.1.incr.aof.bak")),
        dir.join(format!("{LOG}.2.incr.aof.bak")),
        dir.join(format!("{LOG}.1.base.rdb.bak")),
        dir.join(format!("{LOG}.01.incr.aof")),
    ];
    for file in &left {
        std::fs::write(file, b"").unwrap();
    }
    for file in &foreign {
        std::fs::write(file, b"*1\r\n$4\r\nPING\r\n").unwrap();
    }
    let server = Server::spawn(&dir, &[]);
    assert_eq!(server.client().run("DBSIZE").int(), 60);
    for file in &left {
        assert!(!file.exists(), "{file:?}");
    }
    assert!(server.stop().success());
    // Nor are they removed with a log that is given up.
    let server = Server::spawn(&dir, &["--persist-strategy", "never"]);
    assert_eq!(server.client().run("DBSIZE").int(), 60);
    for file in &foreign {
        assert!(file.exists(), "{file:?}");
    }
    assert!(server.stop().success());
}

/// Whoever puts two log directories into one keeps what this Store did not write.
#[test]
fn parts_of_other_logs_beside_a_live_one_are_kept_under_other_names() {
    let root = tempfile::tempdir().unwrap();
    for name in ["other", "own"] {
        std::fs::create_dir(root.path().join(name)).unwrap();
    }
    let other = lived(&root.path().join("other"), "everysec", true);
    let dir = lived(&root.path().join("own"), "everysec", true);
    let own = std::fs::read(dir.join(format!("{LOG}.2.incr.aof"))).unwrap();
    let put = |name: &str, contents: Vec<u8>| {
        std::fs::write(dir.join(format!("{LOG}.{name}")), &contents).unwrap();
        (name.to_owned(), contents)
    };
    let of_others = [
        put("1.incr.aof", std::fs::read(other.join(format!("{LOG}.2.incr.aof"))).unwrap()),
        put("1.base.rdb", std::fs::read(other.join(format!("{LOG}.2.base.rdb"))).unwrap()),
        put("3.base.rdb", std::fs::read(other.join(format!("{LOG}.2.base.rdb"))).unwrap()),
        put("1.base.aof", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n".to_vec()),
        put("0.incr.aof", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n".to_vec()),
    ];
    let server = Server::spawn(&dir, &["--save", ""]);
    assert_eq!(server.client().run("DBSIZE").int(), 60);
    let log = server.log_text();
    server.kill();
    let files = tree(&dir);
    for (name, contents) in &of_others {
        assert!(!dir.join(format!("{LOG}.{name}")).exists(), "{name} is live no more");
        let kept = files.iter().find(|(path, _)| {
            let path = path.to_string_lossy();
            path.contains("aside-") && path.ends_with(&format!("appendonly.aof.{name}"))
        });
        assert_eq!(kept.map(|(_, kept)| kept), Some(contents), "{name}\n{log}");
        assert!(log.contains(&format!("appendonly.aof.{name}")), "{name}\n{log}");
    }
    // Our own are leftovers.
    put("1.incr.aof", own);
    let before = tree(&dir).len();
    let server = Server::spawn(&dir, &["--save", ""]);
    assert_eq!(server.client().run("DBSIZE").int(), 60);
    server.kill();
    assert_eq!(tree(&dir).len(), before - 1);
}

/// What the identity knew of and did not promise may be gone with a torn tail. Its offsets are not given out again.
#[test]
fn offsets_go_on_behind_what_was_known_and_is_gone() {
    let root = tempfile::tempdir().unwrap();
    for log in ["yes", "no"] {
        let dir = root.path().join(log);
        let args = ["--persist-strategy", if log == "yes" { "no" } else { "never" }, "--save", ""];
        let server = Server::spawn(&dir, &args);
        let mut client = server.client();
        client.run("SET a 1");
        if log == "no" {
            client.run("SAVE");
        }
        client.run("SET b 2");
        let known: u64 = client.info("persist_last_offset").parse().unwrap();
        server.kill();
        edit_identity(&dir, |identity| identity["lastOffset"] = known.into());
        if log == "yes" {
            edit(&dir.join(format!("{LOG}.1.incr.aof")), |bytes| bytes.truncate(bytes.len() - 4));
        }
        let mut last = known;
        for (number, keys) in [(1, "a c"), (2, "a c d")] {
            let server = Server::spawn(&dir, &args);
            let mut client = server.client();
            let begun: u64 = client.info("persist_last_offset").parse().unwrap();
            assert!(begun >= last, "{begun} is given out again after {last}");
            let key = if number == 1 { "c" } else { "d" };
            client.run(&format!("SET {key} 1"));
            assert_eq!(client.run(&format!("EXISTS {keys}")).int(), number + 1);
            assert_eq!(client.run("DBSIZE").int(), number + 1);
            last = client.info("persist_last_offset").parse().unwrap();
            if log == "no" {
                client.run("SAVE");
            }
            server.kill();
        }
    }
}

#[test]
fn data_survive_every_change_of_the_strategy() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let strategies =
        ["everysec", "never", "always", "no", "never", "never", "everysec", "always", "never", "no"];
    for (number, strategy) in strategies.into_iter().enumerate() {
        let server = Server::spawn(&dir, &["--persist-strategy", strategy, "--save", ""]);
        let mut client = server.client();
        assert_eq!(client.run("DBSIZE").int(), i64::try_from(number).unwrap(), "before {strategy}");
        client.run(&format!("SET key:{number} {strategy}"));
        client.run(&format!("PEXPIREAT key:{number} 4102444800000"));
        if number % 3 == 2 && strategy != "never" {
            server.kill();
        } else {
            assert!(server.stop().success());
        }
        if number == 4 {
            let before = tree(&dir);
            let cache = Server::spawn(&dir, &["--persistent", "no"]);
            let mut client = cache.client();
            assert_eq!(client.run("DBSIZE").int(), 0);
            client.run("SET only memory");
            drop(client);
            assert!(cache.stop().success());
            assert_eq!(changed(&before, &tree(&dir)), Vec::<PathBuf>::new(), "persistent no touches nothing");
        }
    }
    let server = Server::spawn(&dir, &["--persist-strategy", "everysec"]);
    let mut client = server.client();
    for (number, strategy) in strategies.into_iter().enumerate() {
        assert_eq!(client.run(&format!("GET key:{number}")), Reply::bulk(strategy));
        assert_eq!(client.run(&format!("PEXPIRETIME key:{number}")).int(), 4_102_444_800_000);
    }
}

fn http(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some((text.get(9..12)?.parse().ok()?, text.split_once("\r\n\r\n")?.1.to_owned()))
}

#[track_caller]
fn wait_for<T>(what: &str, server: &Server, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what}:\n{}", server.log_text());
        std::thread::sleep(Duration::from_millis(2));
    }
}

const KEYS: usize = 200_000;

/// A log that takes a while to load.
fn large(dir: &Path, strategy: &str) {
    let server = Server::spawn(dir, &["--persist-strategy", strategy, "--save", ""]);
    let mut client = server.client();
    for chunk in 0..KEYS / 10_000 {
        let mut bytes = Vec::new();
        for number in 0..10_000 {
            Client::encode(
                &["SET", &format!("{chunk}:{number}"), "0123456789012345678901234567890123456789"],
                &mut bytes,
            );
        }
        client.send_bytes(&bytes).unwrap();
        (0..10_000).for_each(|_| assert_eq!(client.read_reply().unwrap(), Reply::ok()));
    }
    drop(client);
    assert!(server.stop().success());
}

#[test]
fn a_server_that_loads_is_alive_and_unready_and_can_be_stopped() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    large(&dir, "no");
    let before = tree(&dir);
    let port = free_port();
    let args = ["--persist-strategy", "no", "--save", "", "--health-port", &port.to_string()];
    let server = Server::spawn(&dir, &args);
    let mut client = wait_for("connection", &server, || Client::connect(server.port).ok());
    let answer = client.run("GET 0:0");
    assert!(matches!(&answer, Reply::Error(text) if text.starts_with("LOADING")), "{answer:?}");
    let (alive, _) = wait_for("health port", &server, || http(port, "/livez"));
    let (ready, why) = http(port, "/readyz").unwrap();
    let still = client.run("PING");
    assert!(
        matches!(&still, Reply::Error(text) if text.starts_with("LOADING")),
        "the load was too short: {still:?}"
    );
    assert_eq!((alive, ready), (200, 503));
    assert!(why.contains("oading"), "{why}");
    assert_eq!(client.info("loading"), "1");
    assert!(server.stop().success(), "a stop while it loads is a clean one");
    assert_eq!(changed(&before, &tree(&dir)), Vec::<PathBuf>::new(), "a stop while it loads changes nothing");

    let server = Server::spawn(&dir, &args);
    assert_eq!(usize::try_from(server.client().run("DBSIZE").int()).unwrap(), KEYS);
    wait_for("readiness", &server, || http(port, "/readyz").filter(|(code, _)| *code == 200));
    assert!(server.stop().success());
}

/// CONFIG SET is answered while data is loaded, so it must count as soon as there is a log.
#[test]
fn what_is_set_while_data_is_loaded_counts_afterwards() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    large(&dir, "no");
    let server = Server::spawn(&dir, &["--persist-strategy", "no", "--save", ""]);
    let mut client = wait_for("connection", &server, || Client::connect(server.port).ok());
    assert_eq!(client.run("CONFIG SET appendfsync always rdbcompression no"), Reply::ok());
    let still = client.run("PING");
    assert!(
        matches!(&still, Reply::Error(text) if text.starts_with("LOADING")),
        "the load was too short: {still:?}"
    );
    let mut client = server.client();
    let syncs = |client: &mut Client| client.info("persist_syncs").parse::<u64>().unwrap();
    let before = syncs(&mut client);
    for number in 1..=5 {
        assert_eq!(client.run(&format!("SET after {number}")), Reply::ok());
        assert_eq!(client.info("persist_unsynced_bytes"), "0");
    }
    assert!(syncs(&mut client) >= before + 5, "a sync before each reply");
    assert!(server.stop().success());
}

#[test]
fn a_stop_while_it_saves_is_clean_and_keeps_everything() {
    let root = tempfile::tempdir().unwrap();
    for strategy in ["never", "everysec"] {
        let dir = root.path().join(strategy);
        large(&dir, strategy);
        let args = ["--persist-strategy", strategy, "--save", ""];
        for (number, command) in ["BGSAVE", "BGREWRITEAOF", "BGSAVE"].into_iter().enumerate() {
            let server = Server::spawn(&dir, &args);
            let mut client = server.client();
            client.run(&format!("SET before {number}"));
            let _ = client.run(command);
            client.run(&format!("SET during {number}"));
            drop(client);
            assert!(server.stop().success(), "{strategy}: {command}");
            let server = Server::spawn(&dir, &args);
            let mut client = server.client();
            for key in ["before", "during"] {
                assert_eq!(
                    client.run(&format!("GET {key}")),
                    Reply::bulk(number.to_string()),
                    "{strategy}: {command}"
                );
            }
            assert_eq!(usize::try_from(client.run("DBSIZE").int()).unwrap(), KEYS + 2);
            server.kill();
        }
    }
}

#[test]
fn a_held_server_is_alive_opens_nothing_and_goes_on_when_all_is_mended() {
    let root = tempfile::tempdir().unwrap();
    let volume = root.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let (dir, record_file) = (volume.join("store"), root.path().join("store.json"));
    let record = |epoch: u64, origin: Origin| {
        let store_id = "6f9619ff-8b86-d011-b42d-00cf4fc964ff".to_owned();
        let record = StoreRecord { store_id, epoch, origin, restore: None };
        let aside = root.path().join("store.json.new");
        std::fs::write(&aside, serde_json::to_vec(&record).unwrap()).unwrap();
        std::fs::rename(aside, &record_file).unwrap();
    };
    let port = free_port();
    let spawn = || {
        let (dir, record_file) = (dir.to_str().unwrap(), record_file.to_str().unwrap());
        let args = ["--dir", dir, "--store-record-file", record_file, "--on-refusal", "hold"];
        let port = port.to_string();
        // The log goes beside the first directory that is named, the last one counts.
        Server::spawn(
            &root.path().join("pod"),
            &[&args[..], &["--health-port", &port, "--persist-strategy", "always", "--save", ""]].concat(),
        )
    };
    record(0, Origin::Empty);
    let server = spawn();
    wait_for("identity", &server, || dir.join("holdfast-identity.json").exists().then_some(()));
    record(1, Origin::Empty);
    let mut client = wait_for("service", &server, || {
        let mut client = Client::connect(server.port).ok()?;
        (client.try_command(&["SET", "a", "1"]).ok()? == Reply::ok()).then_some(client)
    });
    client.run("SET b 2");
    drop(client);
    assert!(server.stop().success());

    let segment = dir.join(format!("{LOG}.1.incr.aof"));
    let whole = std::fs::read(&segment).unwrap();
    edit(&segment, |bytes| bytes[150] ^= 1);
    let before = tree(&dir);
    let server = spawn();
    let (_, why) = wait_for("hold", &server, || {
        http(port, "/readyz").filter(|(code, text)| *code == 503 && text.contains("DataDamaged"))
    });
    assert!(why.to_lowercase().contains("hold"), "{why}");
    assert_eq!(http(port, "/livez").unwrap().0, 200);
    assert!(server.log_text().contains("appendonly.aof.1.incr.aof"), "{}", server.log_text());
    assert_eq!(changed(&before, &tree(&dir)), Vec::<PathBuf>::new());
    // Nothing is open for writing below the data directory but the lock.
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap();
    let open: Vec<_> = descriptors
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|path| path.starts_with(&volume) && !path.to_string_lossy().ends_with("lock"))
        .collect();
    assert_eq!(open, Vec::<PathBuf>::new());

    std::fs::write(&segment, whole).unwrap();
    record(1, Origin::Adopt);
    let mut client = wait_for("service after the repair", &server, || {
        let mut client = Client::connect(server.port).ok()?;
        (client.try_command(&["GET", "b"]).ok()? == Reply::bulk("2")).then_some(client)
    });
    assert_eq!(client.run("SET c 3"), Reply::ok());
    drop(client);
    assert!(server.stop().success());

    edit(&segment, |bytes| bytes[150] ^= 1);
    let server = spawn();
    wait_for("hold", &server, || http(port, "/readyz").filter(|(_, text)| text.contains("DataDamaged")));
    assert!(server.stop().success(), "a held server stops cleanly");
}

/// A server on a small file system of its own, in a namespace of its own; [`inside`] leads to it.
fn on_a_small_volume(root: &Path, health_port: u16, strategy: &str) -> Server {
    let volume = root.join("volume");
    std::fs::create_dir_all(&volume).unwrap();
    let port = free_port();
    let log = root.join("server.log");
    let file = std::fs::OpenOptions::new().append(true).create(true).open(&log).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=8m tmpfs {volume} && exec {server} --port {port} --bind 127.0.0.1 --dir {volume}/data \
         --health-port {health_port} --control-port 0 --on-refusal hold --persist-strategy {strategy} --rdbcompression no --save ''",
        volume = volume.display(),
        server = env!("CARGO_BIN_EXE_holdfast-server"),
    );
    let child = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", &script])
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .expect("unshare(1) is installed");
    Server { child, port, log }
}

fn inside(server: &Server, path: &Path) -> PathBuf {
    let rest = path.strip_prefix("/").unwrap();
    Path::new(&format!("/proc/{}/root", server.child.id())).join(rest)
}

#[test]
fn a_full_volume_is_held_and_the_server_goes_on_when_there_is_room() {
    let root = tempfile::tempdir().unwrap();
    let health_port = free_port();
    let server = on_a_small_volume(root.path(), health_port, "always");
    let mut client = server.client();
    assert_eq!(client.run("CONFIG SET hz 77"), Reply::ok());
    let filler = inside(&server, &root.path().join("volume/filler"));
    std::fs::write(&filler, vec![0; 4 << 20]).unwrap();

    let value = "x".repeat(100_000);
    let mut acknowledged = 0;
    while let Ok(reply) = client.try_command(&["SET", &format!("key:{acknowledged}"), &value]) {
        assert_eq!(reply, Reply::ok());
        acknowledged += 1;
        assert!(acknowledged < 100, "8 MiB hold more than 10 MB");
    }
    assert!(acknowledged > 10, "only {acknowledged} writes were acknowledged:\n{}", server.log_text());
    wait_for("hold", &server, || {
        http(health_port, "/readyz").filter(|(code, text)| *code == 503 && text.contains("StorageFailed"))
    });
    // It has tried again, and the volume was still full.
    wait_for("another try", &server, || server.log_text().contains("The data was read whole").then_some(()));
    assert_eq!(http(health_port, "/livez").unwrap().0, 200);

    std::fs::remove_file(&filler).unwrap();
    let mut client = wait_for("service", &server, || {
        let mut client = Client::connect(server.port).ok()?;
        (client.try_command(&["SET", "room", "again"]).ok()? == Reply::ok()).then_some(client)
    });
    assert_eq!(client.run("CONFIG GET hz").items()[1], Reply::bulk("77"), "what clients have set stays");
    for number in 0..acknowledged {
        assert_eq!(client.run(&format!("GET key:{number}")), Reply::bulk(&value), "key:{number}");
    }
    let keys = client.run("DBSIZE").int();
    // The write that failed was not acknowledged; it may be there all the same.
    assert!(
        (acknowledged + 1..=acknowledged + 2).contains(&keys),
        "{keys} keys, {acknowledged} acknowledged"
    );
    drop(client);
    assert!(server.stop().success());
}

/// As for Redis it is enough to rename the manifest when `appendfilename` is changed: it names the other files.
#[test]
fn a_log_goes_on_under_another_name() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let named = |name: &str| Server::spawn(&dir, &["--appendfilename", name, "--save", ""]);
    let server = named("old.aof");
    assert_eq!(server.client().run("SET key old"), Reply::ok());
    assert!(server.stop().success());
    let log = dir.join("appendonlydir");
    std::fs::rename(log.join("old.aof.manifest"), log.join("new.aof.manifest")).unwrap();
    let server = named("new.aof");
    let mut client = server.client();
    assert_eq!(client.run("GET key"), Reply::bulk("old"));
    assert_eq!(client.run("SET key new"), Reply::ok());
    client.run("BGREWRITEAOF");
    client.wait_for_info("aof_rewrite_in_progress", "0");
    assert_eq!(client.run("SET later too"), Reply::ok());
    drop(client);
    server.kill();
    let server = named("new.aof");
    let mut client = server.client();
    assert_eq!(client.run("GET key"), Reply::bulk("new"));
    assert_eq!(client.run("GET later"), Reply::bulk("too"));
    let names = std::fs::read_dir(&log).unwrap().map(|file| file.unwrap().file_name());
    assert!(names.into_iter().all(|name| name.to_string_lossy().starts_with("new.aof.")));
}

/// The part of a batch that was written holds whole commands, which a start keeps before it cuts them off; and there is no room for
/// that.
#[test]
fn a_batch_that_a_full_volume_has_cut_is_no_damage() {
    const BATCH: usize = 500;
    let root = tempfile::tempdir().unwrap();
    let health_port = free_port();
    let server = on_a_small_volume(root.path(), health_port, "always");
    let mut client = server.client();
    let filler = inside(&server, &root.path().join("volume/filler"));
    std::fs::write(&filler, vec![0; 4 << 20]).unwrap();
    let value = "x".repeat(1_000);
    let mut acknowledged = 0;
    let mut write = || -> std::io::Result<()> {
        let mut bytes = Vec::new();
        for number in acknowledged..acknowledged + BATCH {
            Client::encode(&["SET", &format!("key:{number}"), &value], &mut bytes);
        }
        client.send_bytes(&bytes)?;
        for _ in 0..BATCH {
            assert_eq!(client.read_reply()?, Reply::ok());
            acknowledged += 1;
        }
        Ok(())
    };
    while write().is_ok() {}
    assert!((1_000..8_000).contains(&acknowledged), "{acknowledged} writes were acknowledged");
    let keeps = "failed to keep the torn tail";
    wait_for("a try", &server, || server.log_text().contains(keeps).then_some(()));
    wait_for("hold", &server, || {
        http(health_port, "/readyz").filter(|(code, text)| *code == 503 && text.contains("StorageFailed"))
    });

    std::fs::remove_file(&filler).unwrap();
    let mut client = wait_for("service", &server, || {
        let mut client = Client::connect(server.port).ok()?;
        (client.try_command(&["SET", "room", "again"]).ok()? == Reply::ok()).then_some(client)
    });
    for number in 0..acknowledged {
        assert_eq!(client.run(&format!("GET key:{number}")), Reply::bulk(&value), "key:{number}");
    }
    let files = std::fs::read_dir(inside(&server, &root.path().join("volume/data"))).unwrap();
    let names = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
    let kept: Vec<String> = names.filter(|name| name.starts_with("torn-")).collect();
    assert_eq!(kept.len(), 1, "the tail is kept once, and no half of it: {kept:?}");
    drop(client);
    assert!(server.stop().success());
}

#[test]
fn what_a_full_volume_cannot_save_is_not_given_up_for_a_stop() {
    let root = tempfile::tempdir().unwrap();
    let mut server = on_a_small_volume(root.path(), free_port(), "never");
    let mut client = server.client();
    let filler = inside(&server, &root.path().join("volume/filler"));
    std::fs::write(&filler, vec![0; 7 << 20]).unwrap();
    let value = "x".repeat(2 << 20);
    assert_eq!(client.command(&["SET", "key", &value]), Reply::ok());

    server.signal("TERM");
    let refusal = "can't exit";
    wait_for("refusal", &server, || server.log_text().contains(refusal).then_some(()));
    let log = server.log_text();
    let line = log.lines().find(|line| line.contains(refusal)).unwrap();
    assert!(line.contains("No space left on device"), "{line}");
    let Reply::Error(error) = client.run("SHUTDOWN") else { panic!("it stopped") };
    assert!(error.contains("Errors trying to SHUTDOWN"), "{error}");
    assert_eq!(client.run("GET key"), Reply::bulk(&value), "it serves on");

    std::fs::remove_file(&filler).unwrap();
    drop(client);
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log_text());
}
