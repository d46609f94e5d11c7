//! The real server on directories that are damaged, incomplete, newer, or in use: it says which file, which byte, what is lost and
//! what to do, and then has changed nothing.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod directory;
mod support;

use std::path::{Path, PathBuf};

use directory::{LOG, changed, edit, lived, tree};
use support::{Reply, Server};

const REFUSED: Option<i32> = Some(3);

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
