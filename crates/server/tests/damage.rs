//! The real server on directories that are damaged, incomplete, newer, half-written, in use, or slow to load: it starts
//! with everything, or says which file, which byte, what is lost and what to do, and then has changed nothing.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use holdfast_contract::record::{Origin, StoreRecord};
use support::{Client, PATIENCE, Reply, Server, free_port};

const REFUSED: Option<i32> = Some(3);
const LOG: &str = "appendonlydir/appendonly.aof";

/// Every file below a directory, with its contents.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.insert(path.clone(), Vec::new());
            files.extend(tree(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

fn changed(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<PathBuf> {
    let paths = before.keys().chain(after.keys());
    let mut changed: Vec<_> = paths.filter(|path| before.get(*path) != after.get(*path)).cloned().collect();
    changed.dedup();
    changed
}

/// A directory with a base, two segments with records, and a snapshot; the server was killed or stopped.
fn lived(root: &Path, strategy: &str, kill: bool) -> PathBuf {
    let dir = root.join("data");
    let server = Server::spawn(&dir, &["--persist-strategy", strategy, "--save", ""]);
    let mut client = server.client();
    for number in 0..50 {
        client.run(&format!("SET key:{number} value:{number}"));
    }
    if strategy == "never" {
        client.run("SAVE");
    } else {
        client.run("BGREWRITEAOF");
        client.wait_for_info("aof_rewrite_in_progress", "0");
    }
    for number in 0..10 {
        client.run(&format!("SET later:{number} value:{number}"));
    }
    if strategy == "never" {
        client.run("SAVE");
    }
    if kill {
        server.kill();
    } else {
        assert!(server.stop().success());
    }
    dir
}

/// What one start says, and how it exits; nothing on disk may change.
#[track_caller]
fn refused(dir: &Path, args: &[&str], expected: &[&str]) {
    let before = tree(dir);
    let log_before = std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default().len();
    let mut server = Server::spawn(dir, args);
    let status = server.wait();
    let log = server.log_text()[log_before..].to_owned();
    assert_eq!(status.code(), REFUSED, "{log}");
    for words in expected {
        assert!(log.contains(words), "the message lacks {words:?}:\n{log}");
    }
    assert_eq!(changed(&before, &tree(dir)), Vec::<PathBuf>::new(), "a refusal changed the disk:\n{log}");
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut contents = std::fs::read(path).unwrap();
    change(&mut contents);
    std::fs::write(path, contents).unwrap();
}

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

fn manifest_with_version(text: &str, version: &str) -> Vec<u8> {
    let (comment, lines) = text.split_once('\n').unwrap();
    let fields: Vec<_> = comment.split(' ').collect();
    let covered = format!("#holdfast {version} {} {} ", fields[2], fields[3]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(covered.as_bytes()), lines.as_bytes());
    format!("{covered}{crc:08x}\n{lines}").into_bytes()
}

type Damage = fn(&Path);

#[test]
fn damaged_and_missing_files_are_refused_by_name_and_nothing_is_changed() {
    let segment = |dir: &Path| dir.join(format!("{LOG}.2.incr.aof"));
    let cases: [(&str, &str, Damage, &[&str]); 13] = [
        (
            "a bit in the middle of a segment",
            "always",
            |dir| edit(&dir.join(format!("{LOG}.2.incr.aof")), |bytes| bytes[200] ^= 1),
            &[
                "appendonly.aof.2.incr.aof",
                "damaged at byte",
                "stream offsets",
                "are lost",
                "restore a backup",
            ],
        ),
        (
            "a segment cut in its header",
            "always",
            |dir| edit(&dir.join(format!("{LOG}.2.incr.aof")), |bytes| bytes.truncate(20)),
            &["appendonly.aof.2.incr.aof", "byte 0", "restore a backup"],
        ),
        (
            "a bit in the base",
            "always",
            |dir| edit(&dir.join(format!("{LOG}.2.base.rdb")), |bytes| bytes[300] ^= 4),
            // What the bit hits is up to the order of the keys: a length, a key, a value, or only the checksum tells.
            &["appendonly.aof.2.base.rdb", "cannot be loaded", "restore a backup"],
        ),
        (
            "an empty base",
            "always",
            |dir| edit(&dir.join(format!("{LOG}.2.base.rdb")), Vec::clear),
            &["appendonly.aof.2.base.rdb", "byte 0", "restore a backup"],
        ),
        (
            "a bit in the manifest",
            "always",
            |dir| edit(&dir.join(format!("{LOG}.manifest")), |bytes| bytes[60] ^= 1),
            &["appendonly.aof.manifest", "checksum", "restore a backup"],
        ),
        (
            "no manifest",
            "always",
            |dir| std::fs::remove_file(dir.join(format!("{LOG}.manifest"))).unwrap(),
            &["appendonlydir", "no manifest", "Put the manifest back"],
        ),
        (
            "no base",
            "always",
            |dir| std::fs::remove_file(dir.join(format!("{LOG}.2.base.rdb"))).unwrap(),
            &["appendonly.aof.2.base.rdb", "is missing", "Put the file back"],
        ),
        (
            "no segment",
            "always",
            |dir| std::fs::remove_file(dir.join(format!("{LOG}.2.incr.aof"))).unwrap(),
            &["appendonly.aof.2.incr.aof", "is missing", "Put the file back"],
        ),
        (
            "no log at all",
            "always",
            |dir| std::fs::remove_dir_all(dir.join("appendonlydir")).unwrap(),
            &["stream offset 0", "bytes of writes are missing", "no data file"],
        ),
        (
            "no snapshot",
            "never",
            |dir| std::fs::remove_file(dir.join("dump.rdb")).unwrap(),
            &["bytes of writes are missing", "no data file", "restore a backup"],
        ),
        (
            "a cut snapshot",
            "never",
            |dir| edit(&dir.join("dump.rdb"), |bytes| bytes.truncate(bytes.len() - 20)),
            &["dump.rdb", "byte", "cut short", "restore a backup"],
        ),
        (
            "a bit in the identity",
            "always",
            |dir| edit(&dir.join("holdfast-identity.json"), |bytes| bytes[20] ^= 1),
            &["holdfast-identity.json", "checksum", "Nothing was changed"],
        ),
        (
            "a snapshot of a newer version",
            "never",
            |dir| edit(&dir.join("dump.rdb"), |bytes| bytes[5..9].copy_from_slice(b"0099")),
            &["dump.rdb", "version 99", "not supported"],
        ),
    ];
    for (name, strategy, damage, expected) in cases {
        println!("{name}");
        let root = tempfile::tempdir().unwrap();
        // A clean stop: then it is known how far the data should go.
        let dir = lived(root.path(), strategy, false);
        damage(&dir);
        // What an interrupted start has left must not be tidied up by a start that refuses.
        std::fs::write(dir.join("temp-save.rdb"), b"REDIS0010 half").unwrap();
        refused(&dir, &["--persist-strategy", strategy, "--save", ""], expected);
    }
    let root = tempfile::tempdir().unwrap();
    let dir = lived(root.path(), "always", true);
    let manifest = dir.join(format!("{LOG}.manifest"));
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, manifest_with_version(&text, "3")).unwrap();
    refused(&dir, &[], &["appendonly.aof.manifest", "newer version", "\"3\""]);
    std::fs::write(&manifest, &text).unwrap();
    edit(&segment(&dir), |bytes| bytes.truncate(bytes.len() - 3));
    refused(
        &dir,
        &["--aof-load-truncated", "no"],
        &["appendonly.aof.2.incr.aof", "at byte", "aof-load-truncated"],
    );
    let server = Server::spawn(&dir, &[]);
    assert_eq!(server.client().run("DBSIZE").int(), 59, "a torn tail is one record");
    let log = server.log_text();
    assert!(log.contains("torn tail") && log.contains("position"), "{log}");
}

/// Somebody's backup tool, or a mount in the wrong place: it could not be replaced by the first save either.
#[test]
fn a_directory_with_the_name_of_the_snapshot_is_refused() {
    for strategy in ["never", "always"] {
        let root = tempfile::tempdir().unwrap();
        let dir = lived(root.path(), strategy, true);
        let snapshot = dir.join("dump.rdb");
        let _ = std::fs::remove_file(&snapshot);
        std::fs::create_dir_all(snapshot.join("copy")).unwrap();
        let expected = ["dump.rdb", "is a directory", "Move the directory away"];
        refused(&dir, &["--persist-strategy", strategy], &expected);
    }
}

/// Until the first barrier or stop the identity knows of no offset, but of the log it does.
#[test]
fn a_log_that_is_missing_after_a_kill_is_no_empty_dataset() {
    const MISSING: &[&str] = &[
        "the log is missing",
        "appendonly.aof.manifest",
        "Put the log directory back",
        "holdfast-identity.json",
    ];
    let root = tempfile::tempdir().unwrap();
    for saves in [false, true] {
        let dir = root.path().join(format!("saves-{saves}"));
        let args = ["--persist-strategy", "everysec", "--save", ""];
        let server = Server::spawn(&dir, &args);
        let mut client = server.client();
        client.run("SET saved 1");
        if saves {
            assert_eq!(client.run("SAVE"), Reply::ok());
        }
        client.run("SET logged 1");
        server.kill();
        let away = root.path().join(format!("away-{saves}"));
        std::fs::rename(dir.join("appendonlydir"), &away).unwrap();
        refused(&dir, &args, MISSING);
        refused(&dir, &["--persist-strategy", "never"], MISSING);
        refused(&dir, &["--appenddirname", "another"], &[MISSING, &["another", "appenddirname"]].concat());
        std::fs::rename(&away, dir.join("appendonlydir")).unwrap();
        let server = Server::spawn(&dir, &args);
        assert_eq!(server.client().run("EXISTS saved logged").int(), 2);
        server.kill();
        // Who gives the log up says so.
        std::fs::remove_dir_all(dir.join("appendonlydir")).unwrap();
        std::fs::remove_file(dir.join("holdfast-identity.json")).unwrap();
        let server = Server::spawn(&dir, &args);
        assert_eq!(server.client().run("EXISTS saved logged").int(), i64::from(saves));
    }
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

/// Without a log nothing but the snapshot has the data, and the identity knows how far the last one went.
#[test]
fn a_snapshot_that_is_missing_or_older_after_a_kill_is_not_what_was_saved() {
    const LOST: &[&str] =
        &["are missing", "nothing was changed", "restore a backup", "holdfast-identity.json"];
    let root = tempfile::tempdir().unwrap();
    for save in ["SAVE", "BGSAVE"] {
        let dir = root.path().join(save);
        let args = ["--persist-strategy", "never", "--save", ""];
        let server = Server::spawn(&dir, &args);
        let mut client = server.client();
        let snapshot = dir.join("dump.rdb");
        let mut saved = Vec::new();
        for key in ["a", "b"] {
            client.run(&format!("SET {key} 1"));
            client.run(save);
            client.wait_for_info("rdb_bgsave_in_progress", "0");
            saved.push(std::fs::read(&snapshot).unwrap());
        }
        server.kill();
        std::fs::remove_file(&snapshot).unwrap();
        refused(&dir, &args, LOST);
        std::fs::write(&snapshot, &saved[0]).unwrap();
        refused(&dir, &args, LOST);
        std::fs::write(&snapshot, &saved[1]).unwrap();
        let server = Server::spawn(&dir, &args);
        assert_eq!(server.client().run("EXISTS a b").int(), 2);
        server.kill();
        // Who gives it up says so.
        std::fs::write(&snapshot, &saved[0]).unwrap();
        std::fs::remove_file(dir.join("holdfast-identity.json")).unwrap();
        let server = Server::spawn(&dir, &args);
        assert_eq!(server.client().run("EXISTS a b").int(), 1);
    }
}

fn store_id(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("holdfast-identity.json")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    line["storeID"].as_str().unwrap().to_owned()
}

/// Offsets of another Store say nothing of this one's, however high they are.
#[test]
fn files_of_another_store_are_told_by_their_owner() {
    for (strategy, file) in [("never", "dump.rdb"), ("everysec", "appendonlydir")] {
        let root = tempfile::tempdir().unwrap();
        let args = ["--persist-strategy", strategy, "--save", ""];
        let write = |name: &str, keys: usize| {
            let dir = root.path().join(name);
            let server = Server::spawn(&dir, &args);
            let mut client = server.client();
            (0..keys)
                .for_each(|number| assert_eq!(client.run(&format!("SET {name}:{number} 1")), Reply::ok()));
            drop(client);
            assert!(server.stop().success());
            dir
        };
        // With offsets below and above.
        for (keys, other_keys) in [(3, 50), (50, 3)] {
            let dir = write(&format!("own-{keys}"), keys);
            let other = write(&format!("other-{keys}"), other_keys);
            let own = root.path().join(format!("moved-{keys}"));
            std::fs::rename(dir.join(file), &own).unwrap();
            if strategy == "never" {
                std::fs::copy(other.join(file), dir.join(file)).unwrap();
            } else {
                support::copy(&other.join(file), &dir.join(file));
            }
            let (expected, found) = (store_id(&dir), store_id(&other));
            refused(&dir, &args, &[file, &found, &expected, "restore a backup", "holdfast-identity.json"]);
            // Who wants it says so; from then on it is this directory's own.
            std::fs::remove_file(dir.join("holdfast-identity.json")).unwrap();
            for _ in 0..2 {
                let server = Server::spawn(&dir, &args);
                assert_eq!(server.client().run("DBSIZE").int(), i64::try_from(other_keys).unwrap());
                server.kill();
            }
            assert_ne!(store_id(&dir), found);
        }
    }
}

#[test]
fn an_older_manifest_does_not_take_the_newer_segments_with_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let args = ["--persist-strategy", "everysec", "--save", ""];
    let manifest = dir.join(format!("{LOG}.manifest"));
    let server = Server::spawn(&dir, &args);
    let mut client = server.client();
    client.run("SET a 1");
    let older = std::fs::read(&manifest).unwrap();
    client.run("BGREWRITEAOF");
    client.wait_for_info("aof_rewrite_in_progress", "0");
    client.run("SET b 2");
    server.kill();
    let newest = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &older).unwrap();
    refused(&dir, &args, &["appendonly.aof.1.base.rdb", "is missing"]);
    // Also when the older files were put back with it.
    let copy = root.path().join("older");
    std::fs::create_dir(&copy).unwrap();
    let server = Server::spawn(&copy.join("data"), &args);
    server.client().run("SET other 1");
    server.kill();
    std::fs::write(&manifest, &newest).unwrap();
    let server = Server::spawn(&dir, &args);
    let mut client = server.client();
    let kept: Vec<_> =
        ["1.base.rdb", "2.base.rdb", "2.incr.aof"].map(|end| dir.join(format!("{LOG}.{end}"))).into();
    let base = std::fs::read(&kept[1]).unwrap();
    let before = std::fs::read(&manifest).unwrap();
    let segment = std::fs::read(&kept[2]).unwrap();
    client.run("BGREWRITEAOF");
    client.wait_for_info("aof_rewrite_in_progress", "0");
    client.run("SET c 3");
    server.kill();
    std::fs::write(&manifest, before).unwrap();
    std::fs::write(&kept[1], base).unwrap();
    std::fs::write(&kept[2], segment).unwrap();
    refused(
        &dir,
        &args,
        &["appendonly.aof.3.incr.aof", "holds writes", "older than the log", "newest manifest"],
    );
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

/// A compressed string says how long it is; a damaged one may say anything that its bytes could make.
#[test]
fn a_string_that_memory_does_not_suffice_for_is_refused_and_ends_no_process() {
    const COMPRESSED_LEN: u64 = 64 << 20;
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    std::fs::create_dir(&dir).unwrap();
    let mut file = b"REDIS0010\0\x01k\xc3".to_vec();
    for len in [COMPRESSED_LEN, COMPRESSED_LEN * 88] {
        file.push(0x81);
        file.extend_from_slice(&len.to_be_bytes());
    }
    file.resize(file.len() + usize::try_from(COMPRESSED_LEN).unwrap(), 0);
    std::fs::write(dir.join("dump.rdb"), file).unwrap();
    let mut server = Server::spawn_with_address_space(4 << 30, &dir, &["--persist-strategy", "never"]);
    assert_eq!(server.wait().code(), REFUSED, "{}", server.log_text());
    let log = server.log_text();
    assert!(log.contains("dump.rdb") && log.contains("no memory for the string at byte 12"), "{log}");
}

#[test]
fn the_second_server_on_a_directory_refuses_and_names_the_lock() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let first = Server::spawn(&dir, &[]);
    let mut client = first.client();
    client.run("SET a 1");
    let mut second = Server::spawn(&dir, &[]);
    assert_eq!(second.wait().code(), REFUSED);
    let log = second.log_text();
    assert!(log.contains("holdfast.lock") && log.contains("Another process"), "{log}");
    assert_eq!(client.run("GET a"), Reply::bulk("1"));
    first.kill();
    assert_eq!(
        Server::spawn(&dir, &[]).client().run("GET a"),
        Reply::bulk("1"),
        "a killed server leaves no lock"
    );
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
