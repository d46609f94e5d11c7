//! Files that are not ours, or no longer: what Redis has left, switched off, begun beside our data or gone on from, copies of a
//! directory that was in use, and files that somebody has put there. None of them wins over newer data, and none is lost.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;
mod turns;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::{Reply, Server};
use turns::{Dataset, commands, copy, epoch, fill, newest_segment, read, redis_reads, shut_down, we_read};

#[test]
fn a_redis_that_never_loaded_our_snapshot_does_not_win_over_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("trap");
    let ours = ["--persist-strategy", "never", "--save", ""];
    let server = Server::spawn(&dir, &ours);
    let mut client = server.client();
    fill(&mut client, 1);
    let expected = read(&mut client);
    assert!(server.stop().success());
    // The times in both files have a resolution of one second.
    std::thread::sleep(Duration::from_millis(1100));
    let redis = Server::spawn_redis(&dir, &["--appendonly", "yes", "--save", ""]);
    assert_eq!(redis.client().run("DBSIZE").int(), 0, "Redis ignores a snapshot when it has a log");
    shut_down(redis, "NOSAVE");
    let mut server = Server::spawn(&dir, &ours);
    assert_eq!(server.wait().code(), Some(3));
    let log = server.log_text();
    assert!(log.contains("dump.rdb") && log.contains("appendonlydir") && log.contains("Move"), "{log}");
    std::fs::rename(dir.join("appendonlydir"), root.path().join("aside")).unwrap();
    we_read(&dir, "never", &expected, "after the log of Redis was moved away");
}

/// The log that Redis begins beside our snapshot is told from one that went on from ours, whatever its number and form.
#[test]
fn a_redis_that_has_rewritten_its_log_does_not_win_over_a_snapshot_that_it_never_loaded() {
    let root = tempfile::tempdir().unwrap();
    for preamble in ["yes", "no"] {
        let dir = root.path().join(preamble);
        let ours = ["--persist-strategy", "never", "--save", ""];
        let server = Server::spawn(&dir, &ours);
        assert_eq!(server.client().run("SET ours 1"), Reply::ok());
        assert!(server.stop().success());
        let redis = Server::spawn_redis(
            &dir,
            &[
                "--appendonly",
                "yes",
                "--save",
                "",
                "--aof-use-rdb-preamble",
                preamble,
                "--maxmemory",
                "200mb",
            ],
        );
        let mut client = redis.client();
        client.run("SET x 1");
        client.run("BGREWRITEAOF");
        client.wait_for_info("aof_rewrite_in_progress", "0");
        drop(client);
        shut_down(redis, "NOSAVE");
        for strategy in ["never", "everysec"] {
            we_refuse(&dir, strategy, &["dump.rdb", "appendonlydir", "begun by another server", "Move"]);
        }
        let other = root.path().join(format!("{preamble}-other"));
        copy(&dir, &other);
        std::fs::rename(dir.join("appendonlydir"), root.path().join(format!("{preamble}-log"))).unwrap();
        we_read(&dir, "never", &strings(&[("ours", "1")]), "the log was moved away");
        std::fs::remove_file(other.join("dump.rdb")).unwrap();
        we_read(&other, "never", &strings(&[("x", "1")]), "the snapshot was moved away");
    }
}

/// A log that was switched off stays, and Redis with `appendonly yes` goes on with it whatever we have saved since.
#[test]
fn what_redis_appends_to_a_log_that_was_switched_off_does_not_win_over_a_newer_snapshot() {
    let root = tempfile::tempdir().unwrap();
    for saves in [true, false] {
        let dir = root.path().join(format!("saves-{saves}"));
        let server = Server::spawn(&dir, &["--persist-strategy", "always", "--save", ""]);
        let mut client = server.client();
        client.run("SET logged 1");
        client.run("SAVE");
        client.run("SET logged 2");
        assert_eq!(client.run("CONFIG SET appendonly no"), Reply::ok());
        if saves {
            client.run("SET saved 1");
            assert_eq!(client.run("SAVE"), Reply::ok());
        }
        server.kill();
        // More bytes than the log lacks of the snapshot.
        let theirs = "x".repeat(1_000);
        redis_executes(&dir, "yes", &[&format!("SET theirs {theirs}")]);
        if !saves {
            let expected = strings(&[("logged", "2"), ("theirs", &*theirs)]);
            we_read(&dir, "always", &expected, "the log has everything that the snapshot has");
            continue;
        }
        for strategy in ["always", "never"] {
            let expected = ["dump.rdb", "appendonlydir", "another server", "holdfast-identity.json"];
            we_refuse(&dir, strategy, &expected);
        }
        let other = root.path().join("other");
        copy(&dir, &other);
        for dir in [&dir, &other] {
            std::fs::remove_file(dir.join("holdfast-identity.json")).unwrap();
        }
        std::fs::remove_dir_all(dir.join("appendonlydir")).unwrap();
        we_read(&dir, "never", &strings(&[("logged", "2"), ("saved", "1")]), "the log was moved away");
        std::fs::remove_file(other.join("dump.rdb")).unwrap();
        let expected = strings(&[("logged", "2"), ("theirs", &*theirs)]);
        we_read(&other, "always", &expected, "the snapshot was moved away");
    }
}

/// Of a first life that was cut short the identity knows no offset. That another server has gone on from it is known all
/// the same.
#[test]
fn a_snapshot_of_a_first_life_does_not_win_over_what_redis_has_done_since() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("first");
    let server = Server::spawn(&dir, &["--persist-strategy", "everysec", "--save", ""]);
    let mut client = server.client();
    fill(&mut client, 1);
    client.run("BGSAVE");
    client.wait_for_info("rdb_bgsave_in_progress", "0");
    server.kill();
    let before = epoch(&dir);
    redis_executes(&dir, "yes", &["FLUSHALL", "SET theirs 1", "BGREWRITEAOF"]);
    let expected = strings(&[("theirs", "1")]);
    we_read(&dir, "everysec", &expected, "Redis was here");
    assert!(epoch(&dir) > before, "the epoch tells that another server was here");
    we_read(&dir, "everysec", &expected, "at the start after that");
}

/// A live directory that was copied around a BGREWRITEAOF: an old manifest, and files that it does not name.
#[test]
fn what_the_manifest_of_redis_does_not_name_is_neither_ignored_nor_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let origin = root.path().join("origin");
    redis_executes(&origin, "yes", &["SET a 1"]);
    let older = root.path().join("older");
    copy(&origin.join("appendonlydir"), &older);
    redis_executes(&origin, "yes", &["BGREWRITEAOF", "SET b 2"]);
    // Whatever was copied first is there, too.
    copy(&older, &origin.join("appendonlydir"));
    let part = |dir: &Path, end: &str| dir.join(format!("appendonlydir/appendonly.aof.{end}"));
    let newest = std::fs::read(part(&origin, "2.incr.aof")).unwrap();
    assert!(!newest.is_empty() && part(&origin, "1.incr.aof").exists());

    for strategy in ["always", "never"] {
        let dir = root.path().join(format!("stale-{strategy}"));
        copy(&origin, &dir);
        we_refuse(&dir, strategy, &["appendonly.aof.2.base.rdb", "holds writes", "appendonly.aof.manifest"]);
        std::fs::remove_file(part(&dir, "2.base.rdb")).unwrap();
        we_refuse(&dir, strategy, &["appendonly.aof.2.incr.aof", "holds writes", "copy all of it again"]);
        std::fs::write(part(&dir, "2.incr.aof"), b"").unwrap();
        we_read(&dir, strategy, &strings(&[("a", "1")]), "an empty segment that is not named");
    }

    // Redis was killed before its manifest named the base that it had written.
    let dir = root.path().join("rewriting");
    copy(&origin, &dir);
    let names = ["1.base.rdb seq 1 type b", "1.incr.aof seq 1 type i", "2.incr.aof seq 2 type i"];
    let lines: String = names.map(|line| format!("file appendonly.aof.{line}\n")).concat();
    std::fs::write(part(&dir, "manifest"), lines).unwrap();
    let base = std::fs::read(part(&dir, "2.base.rdb")).unwrap();
    let both = strings(&[("a", "1"), ("b", "2")]);
    for start in ["first", "second"] {
        we_read(&dir, "always", &both, &format!("a rewrite of Redis cut short, {start} start"));
    }
    let bases = kept(&dir.join("appendonlydir"), "appendonly.aof.2.base.rdb");
    assert_eq!(bases.len(), 1);
    assert_eq!(std::fs::read(&bases[0]).unwrap(), base);
    redis_reads(&dir, &both, "a rewrite of Redis cut short");
}

/// A base of Redis has no offset: nothing but its number tells that what was loaded holds all of it.
#[test]
fn a_base_of_redis_that_no_manifest_names_is_not_removed_for_an_older_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let origin = root.path().join("origin");
    redis_executes(&origin, "yes", &["SET a old", "SAVE", "SET a new", "BGREWRITEAOF"]);
    let base = "appendonlydir/appendonly.aof.2.base.rdb";
    assert_eq!(std::fs::read(origin.join("appendonlydir/appendonly.aof.2.incr.aof")).unwrap(), b"");
    for strategy in ["always", "never"] {
        let dir = root.path().join(format!("no-manifest-{strategy}"));
        copy(&origin, &dir);
        std::fs::remove_file(dir.join("appendonlydir/appendonly.aof.manifest")).unwrap();
        we_refuse(&dir, strategy, &["no manifest", "appendonly.aof.2.base.rdb", "Put the manifest back"]);
    }

    // Beside our own manifest: what a takeover has replaced goes, and what nothing accounts for is refused.
    let dir = root.path().join("taken-over");
    copy(&origin, &dir);
    let new = strings(&[("a", "new")]);
    we_read(&dir, "always", &new, "taken over");
    assert!(!dir.join(base).exists(), "its data are in our base");
    std::fs::copy(origin.join(base), dir.join(base)).unwrap();
    we_read(&dir, "always", &new, "a kill before the old base was removed");
    assert!(!dir.join(base).exists());
    assert_eq!(
        kept(&dir.join("appendonlydir"), "appendonly.aof.2.base.rdb").len(),
        1,
        "it does not say whose it is"
    );
    let unknown = dir.join("appendonlydir/appendonly.aof.9.base.rdb");
    std::fs::copy(origin.join(base), &unknown).unwrap();
    we_refuse(&dir, "always", &["appendonly.aof.9.base.rdb", "holds writes", "newest manifest"]);
    std::fs::write(&unknown, b"REDIS0010\xfa\x09damaged").unwrap();
    we_refuse(&dir, "always", &["appendonly.aof.9.base.rdb", "newest manifest"]);
    std::fs::remove_file(&unknown).unwrap();
    we_read(&dir, "always", &new, "it was moved away");
}

/// Guides to migration say: stop, copy the dump.rdb, start. Beside a log it is not loaded, and no save may take it away.
#[test]
fn a_snapshot_that_was_copied_in_is_told_and_never_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let redis_dir = root.path().join("redis");
    redis_executes(&redis_dir, "no", &["SET theirs 1", "SAVE"]);
    let copied = std::fs::read(redis_dir.join("dump.rdb")).unwrap();
    next_second();
    let ours = strings(&[("ours", "1")]);
    let check = |dir: &Path, place: &str| {
        let snapshots = kept(dir, "dump.rdb");
        assert_eq!(snapshots.len(), 1, "{place}");
        assert_eq!(std::fs::read(&snapshots[0]).unwrap(), copied, "{place}");
    };
    let begin = |name: &str, strategy: &str| {
        let dir = root.path().join(name);
        let server = Server::spawn(&dir, &["--persist-strategy", strategy, "--save", ""]);
        assert_eq!(server.client().run("SET ours 1"), Reply::ok());
        (dir, server)
    };

    // While the server is stopped, and then the log is given up.
    let (dir, server) = begin("stopped", "everysec");
    assert!(server.stop().success());
    std::fs::write(dir.join("dump.rdb"), &copied).unwrap();
    we_read(&dir, "everysec", &ours, "an older snapshot beside the log");
    let said = std::fs::read_to_string(dir.with_extension("log")).unwrap();
    assert!(said.contains("is not loaded") && said.contains("move the log away"), "{said}");
    assert_eq!(std::fs::read(dir.join("dump.rdb")).unwrap(), copied, "nothing has to make way yet");
    we_read(&dir, "never", &ours, "the log is given up");
    check(&dir, "given up");

    // While the server runs: a save in the background, and one at the stop.
    let (dir, server) = begin("running", "everysec");
    std::fs::write(dir.join("dump.rdb"), &copied).unwrap();
    let mut client = server.client();
    client.run("BGSAVE");
    client.wait_for_info("rdb_bgsave_in_progress", "0");
    assert_eq!(client.info("rdb_last_bgsave_status"), "ok");
    check(&dir, "background");
    server.kill();
    let (dir, server) = begin("stopping", "never");
    std::fs::write(dir.join("dump.rdb"), &copied).unwrap();
    assert!(server.stop().success());
    check(&dir, "at the stop");
    we_read(&dir, "never", &ours, "our own snapshot has its name");
}

/// The log of an older Redis begins with a snapshot, and somebody has renamed it to one.
#[test]
fn a_log_by_the_name_of_a_snapshot_is_refused_and_loads_by_its_own() {
    let root = tempfile::tempdir().unwrap();
    let origin = root.path().join("origin");
    redis_executes(&origin, "no", &["SET a old", "SET b 1", "SAVE"]);
    let snapshot = std::fs::read(origin.join("dump.rdb")).unwrap();
    let whole = [&snapshot[..], &commands(&["SELECT 0", "SET a new"])].concat();
    for strategy in ["never", "always"] {
        let dir = root.path().join(strategy);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("dump.rdb"), &whole).unwrap();
        let place = format!("at byte {} of {}", snapshot.len(), whole.len());
        we_refuse(
            &dir,
            strategy,
            &["dump.rdb", &place, "would be lost", "Rename the file to", "appendonly.aof"],
        );
        std::fs::rename(dir.join("dump.rdb"), dir.join("appendonly.aof")).unwrap();
        we_read(&dir, strategy, &strings(&[("a", "new"), ("b", "1")]), "renamed, as the message says");
    }
    let dir = root.path().join("cut");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("dump.rdb"), &snapshot).unwrap();
    we_read(&dir, "never", &strings(&[("a", "old"), ("b", "1")]), "cut, as the message says");
}

/// Debian's Redis with or without a log, and without rules to save.
fn redis(dir: &Path, appendonly: &str) -> Server {
    Server::spawn_redis(dir, &["--appendonly", appendonly, "--save", "", "--maxmemory", "200mb"])
}

/// A Redis that lives on the directory, executes these and stops without a word to the disk.
fn redis_executes(dir: &Path, appendonly: &str, commands: &[&str]) {
    std::fs::create_dir_all(dir).unwrap();
    let redis = redis(dir, appendonly);
    let mut client = redis.client();
    for command in commands {
        let reply = client.run(command);
        assert!(!matches!(reply, Reply::Error(_)), "{command}: {reply:?}");
        client.wait_for_info("aof_rewrite_in_progress", "0");
    }
    drop(client);
    shut_down(redis, "NOSAVE");
}

fn strings(pairs: &[(&str, &str)]) -> Dataset {
    pairs.iter().map(|(key, value)| ((0, key.as_bytes().to_vec()), (value.as_bytes().to_vec(), -1))).collect()
}

/// Times in files have a resolution of one second.
fn next_second() {
    std::thread::sleep(Duration::from_millis(1100));
}

/// What was kept of files or directories with this name.
fn kept(dir: &Path, name: &str) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_kept = |path: &PathBuf| {
        let found = path.file_name().unwrap().to_string_lossy().into_owned();
        found.starts_with("aside-") && found.ends_with(&format!("-{name}"))
    };
    paths.filter(is_kept).collect()
}

/// Our server refuses the directory with all of these words, and changes nothing.
#[track_caller]
fn we_refuse(dir: &Path, strategy: &str, expected: &[&str]) {
    we_refuse_with(dir, &["--persist-strategy", strategy], expected);
}

#[track_caller]
fn we_refuse_with(dir: &Path, args: &[&str], expected: &[&str]) {
    let before = files(dir);
    let said_before = std::fs::read_to_string(dir.with_extension("log")).unwrap_or_default().len();
    let args: Vec<&str> = args.iter().chain(&["--save", ""]).copied().collect();
    let mut server = Server::spawn(dir, &args);
    let code = server.wait().code();
    let log = server.log_text()[said_before..].to_owned();
    assert_eq!(code, Some(3), "{log}");
    for words in expected {
        assert!(log.contains(words), "the message lacks {words:?}:\n{log}");
    }
    assert_eq!(files(dir), before, "a refusal changes nothing");
}

/// All files but the lock, which holds nothing.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("holdfast.lock") {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Redis never removes the log that it had before `appendonly no`. What it loads is decided by that directive, and what
/// is not loaded stays.
#[test]
fn a_log_that_redis_has_switched_off_does_not_win_over_its_newer_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let origin = root.path().join("origin");
    redis_executes(&origin, "yes", &["SET a old", "SET only log"]);
    redis_executes(&origin, "no", &["SET a new", "SET b 1", "SAVE"]);
    let (from_log, from_snapshot) =
        (strings(&[("a", "old"), ("only", "log")]), strings(&[("a", "new"), ("b", "1")]));
    let snapshot = std::fs::read(origin.join("dump.rdb")).unwrap();

    let dir = root.path().join("without-a-log");
    copy(&origin, &dir);
    for start in ["first", "second"] {
        we_read(&dir, "never", &from_snapshot, &format!("the leftover of a log, {start} start"));
    }
    assert!(!dir.join("appendonlydir").exists());
    let logs = kept(&dir, "appendonlydir");
    assert_eq!(logs.len(), 1);
    assert_eq!(
        files(&logs[0]).into_values().collect::<Vec<_>>(),
        files(&origin.join("appendonlydir")).into_values().collect::<Vec<_>>()
    );
    let said = std::fs::read_to_string(dir.with_extension("log")).unwrap();
    assert!(said.contains("another name") && said.contains("aside-"), "{said}");

    let dir = root.path().join("with-a-log");
    copy(&origin, &dir);
    let server = Server::spawn(&dir, &["--persist-strategy", "always", "--save", ""]);
    let mut client = server.client();
    assert!(read(&mut client) == from_log, "Redis with appendonly yes loads the log");
    assert_eq!(kept(&dir, "dump.rdb"), Vec::<PathBuf>::new(), "nothing has to make way yet");
    assert_eq!(client.run("SAVE"), Reply::ok());
    assert_eq!(client.run("SAVE"), Reply::ok());
    let snapshots = kept(&dir, "dump.rdb");
    assert_eq!(snapshots.len(), 1, "the snapshot of Redis is kept, ours are replaced");
    assert_eq!(std::fs::read(&snapshots[0]).unwrap(), snapshot);
    assert!(server.log_text().contains("neither written nor loaded"), "{}", server.log_text());
    drop(client);
    assert!(server.stop().success());
    we_read(&dir, "never", &from_log, "a log taken over, then without a log");
}

/// Redis has no log by default, and Holdfast has one: without a line nothing says whether a log is a leftover.
#[test]
fn a_log_that_nobody_mentions_is_not_loaded_in_place_of_a_newer_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    redis_executes(&dir, "yes", &["SET a old"]);
    next_second();
    redis_executes(&dir, "no", &["SET a new", "SAVE"]);
    we_refuse_with(&dir, &[], &["dump.rdb", "appendonlydir", "Set appendonly as it was there"]);
    we_refuse_with(&dir, &["--appendfsync", "always"], &["Set appendonly as it was there"]);
    let other = root.path().join("other");
    copy(&dir, &other);
    we_read(&dir, "never", &strings(&[("a", "new")]), "the snapshot, as it was asked for");
    we_read(&other, "always", &strings(&[("a", "old")]), "the log, as it was asked for");
}

/// It has appended to our log before: then that is not the newest only because it is ours.
#[test]
fn our_log_that_redis_has_switched_off_does_not_win_over_its_newer_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    we_write_on(&dir, "always");
    next_second();
    let commands = ["SET b 1", "CONFIG SET appendonly no", "SET c 1", "SAVE"];
    redis_executes(&dir, "yes", &commands);
    we_refuse(&dir, "never", &["dump.rdb", "appendonlydir", "unknown which"]);
    std::fs::rename(dir.join("appendonlydir"), root.path().join("log")).unwrap();
    we_refuse(&dir, "never", &["the log is missing"]);
}

/// A log is given up when all of it is in the snapshot, and for nothing else.
#[test]
fn a_log_that_was_given_up_for_a_snapshot_is_missed_without_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    let server = Server::spawn(&dir, &["--persist-strategy", "always", "--save", ""]);
    let mut client = server.client();
    assert_eq!(client.run("SET a 1"), Reply::ok());
    drop(client);
    server.kill();
    let manifest = dir.join("appendonlydir/appendonly.aof.manifest");
    std::fs::rename(&manifest, manifest.with_extension("manifest.retired")).unwrap();
    for strategy in ["always", "never"] {
        we_refuse(&dir, strategy, &["the log is missing"]);
    }
    std::fs::rename(manifest.with_extension("manifest.retired"), &manifest).unwrap();
    we_read(&dir, "always", &strings(&[("a", "1")]), "its manifest is back");
}

#[test]
fn a_single_file_that_redis_has_switched_off_does_not_win_over_its_newer_snapshot() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    redis_executes(&dir, "no", &["SET a new", "SAVE"]);
    let old = commands(&["SELECT 0", "SET a old"]);
    std::fs::write(dir.join("appendonly.aof"), &old).unwrap();
    for start in ["first", "second"] {
        we_read(&dir, "never", &strings(&[("a", "new")]), &format!("single file, {start} start"));
    }
    let logs = kept(&dir, "appendonly.aof");
    assert_eq!((logs.len(), dir.join("appendonly.aof").exists()), (1, false));
    assert_eq!(std::fs::read(&logs[0]).unwrap(), old);
}

#[test]
fn a_log_that_is_newer_than_the_snapshot_is_not_passed_over_for_appendonly_no() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data");
    redis_executes(&dir, "no", &["SET a 1", "SAVE"]);
    next_second();
    redis_executes(&dir, "yes", &["SET b 2"]);
    we_refuse(&dir, "never", &["dump.rdb", "appendonlydir", "appendonly is no", "Set appendonly to yes"]);
    we_read(&dir, "always", &strings(&[("b", "2")]), "the log, as it was asked for");
}

/// A directory that was served here, and then lost what was written since it was taken over from another server.
fn we_write_on(dir: &Path, strategy: &str) {
    // Both servers note seconds.
    next_second();
    let server = Server::spawn(dir, &["--persist-strategy", strategy, "--save", ""]);
    let mut client = server.client();
    assert_eq!(client.run("SET a newer"), Reply::ok());
    assert_eq!(client.run("SET ours 1"), Reply::ok());
    drop(client);
    assert!(server.stop().success());
}

/// The files of the day of the move are no substitute for what was lost since.
#[test]
fn files_of_another_server_do_not_stand_in_for_data_of_ours_that_are_lost() {
    const LOST: &[&str] =
        &["would be lost", "nothing was changed", "restore a backup", "holdfast-identity.json"];
    let root = tempfile::tempdir().unwrap();
    let old = strings(&[("a", "old")]);

    // A snapshot that stayed when its data went into our log.
    let dir = root.path().join("snapshot");
    redis_executes(&dir, "no", &["SET a old", "SAVE"]);
    we_write_on(&dir, "everysec");
    std::fs::remove_dir_all(dir.join("appendonlydir")).unwrap();
    we_refuse(&dir, "everysec", LOST);
    we_refuse(&dir, "never", LOST);
    std::fs::remove_file(dir.join("holdfast-identity.json")).unwrap();
    we_read(&dir, "everysec", &old, "the identity is given up, as the message says");

    // A copy of it in the place of our own snapshot.
    let dir = root.path().join("copied");
    redis_executes(&dir, "no", &["SET a old", "SAVE"]);
    let copied = std::fs::read(dir.join("dump.rdb")).unwrap();
    we_write_on(&dir, "never");
    std::fs::write(dir.join("dump.rdb"), copied).unwrap();
    we_refuse(&dir, "never", &[LOST, &["dump.rdb", "written by another server"]].concat());
    std::fs::remove_file(dir.join("holdfast-identity.json")).unwrap();
    we_read(&dir, "never", &old, "the identity is given up, as the message says");

    // The single file from which we took over.
    let dir = root.path().join("single-file");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("appendonly.aof"), commands(&["SELECT 0", "SET a old"])).unwrap();
    we_write_on(&dir, "everysec");
    std::fs::remove_dir_all(dir.join("appendonlydir")).unwrap();
    we_refuse(&dir, "everysec", &[LOST, &["appendonly.aof"]].concat());

    // A copy of the log from which we took over.
    let dir = root.path().join("log");
    redis_executes(&dir, "yes", &["SET a old"]);
    let copied = root.path().join("copied-log");
    copy(&dir.join("appendonlydir"), &copied);
    we_write_on(&dir, "everysec");
    std::fs::remove_dir_all(dir.join("appendonlydir")).unwrap();
    copy(&copied, &dir.join("appendonlydir"));
    we_refuse(
        &dir,
        "everysec",
        &[LOST, &["appendonly.aof.1.base.rdb", "written by another server"]].concat(),
    );
}

/// Redis skips our lines, cuts a command off that is not whole, and goes on: what it has acknowledged is no torn tail.
#[test]
fn what_redis_has_appended_to_a_torn_record_is_not_cut_off_with_it() {
    let root = tempfile::tempdir().unwrap();
    let args = ["--persist-strategy", "always", "--save", ""];
    // More than the rest of the record had room for, and less.
    for len in [400, 10] {
        let dir = root.path().join(format!("appended-{len}"));
        let server = Server::spawn(&dir, &args);
        let mut client = server.client();
        // One turn, and so one record.
        client.send_bytes(&commands(&["SET first 1", &format!("SET second {}", "x".repeat(200))])).unwrap();
        (0..2).for_each(|_| assert_eq!(client.read_reply().unwrap(), Reply::ok()));
        server.kill();
        let (segment, contents) = newest_segment(&dir);
        assert_eq!(contents.windows(5).filter(|bytes| *bytes == b"#HF1 ").count(), 1, "one record");
        std::fs::write(&segment, &contents[..contents.len() - 50]).unwrap();
        redis_executes(&dir, "yes", &[&format!("SET theirs {}", "y".repeat(len))]);
        let contents = std::fs::read(&segment).unwrap();
        let begins_at = contents.windows(5).position(|bytes| bytes == b"#HF1 ").unwrap();
        if len == 10 {
            let server = Server::spawn(&dir, &args);
            assert_eq!(server.client().run("DBSIZE").int(), 0, "nothing of a torn record");
            let is_torn = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("torn-");
            let kept: Vec<_> = files(&dir).into_iter().filter(|(path, _)| is_torn(path)).collect();
            assert_eq!(kept.len(), 1);
            assert_eq!(kept[0].1, &contents[begins_at..]);
            assert!(server.log_text().contains(&*kept[0].0.to_string_lossy()), "{}", server.log_text());
            continue;
        }
        let line_end = begins_at + contents[begins_at..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let remedy = format!("remove bytes {begins_at} to {line_end}");
        we_refuse(&dir, "always", &["appendonly.aof.1.incr.aof", "is not whole", "another server", &remedy]);
        std::fs::write(&segment, [&contents[..begins_at], &contents[line_end..]].concat()).unwrap();
        let theirs = "y".repeat(len);
        let expected = strings(&[("first", "1"), ("theirs", &*theirs)]);
        we_read(&dir, "always", &expected, "the line of the torn record was removed");
    }
}
