//! A directory that a server has lived on, its files, and what has become of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::Server;

pub(crate) const LOG: &str = "appendonlydir/appendonly.aof";

/// Every file below a directory, with its contents.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
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

pub(crate) fn changed(
    before: &BTreeMap<PathBuf, Vec<u8>>,
    after: &BTreeMap<PathBuf, Vec<u8>>,
) -> Vec<PathBuf> {
    let paths = before.keys().chain(after.keys());
    let mut changed: Vec<_> = paths.filter(|path| before.get(*path) != after.get(*path)).cloned().collect();
    changed.dedup();
    changed
}

/// A directory with a base, two segments with records, and a snapshot; the server was killed or stopped.
pub(crate) fn lived(root: &Path, strategy: &str, kill: bool) -> PathBuf {
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

pub(crate) fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut contents = std::fs::read(path).unwrap();
    change(&mut contents);
    std::fs::write(path, contents).unwrap();
}
