//! What the tests of the journal share.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use super::{Journal, JournalEvent, JournalSettings, create_log};
use crate::engine::value::{Entry, Value};
use crate::engine::{Access, Engine, EngineOptions, HashSeed, Limits};
use crate::persistence::log::segments::{Log, LogPaths};
use crate::persistence::manifest::Owner;
use crate::persistence::policy::SyncMode;
use crate::storage::Storage;
use crate::storage::memory::MemoryDisk;

/// An engine with so many keys of 1,000 bytes.
pub(super) fn engine(keys: u32) -> Engine {
    let options = EngineOptions { databases: 1, limits: Limits::default(), seed: HashSeed([1, 2]) };
    let mut engine = Engine::new(options);
    for number in 0..keys {
        let value = Value::Bytes(vec![7; 1000]);
        let key = number.to_le_bytes().into();
        let entry = Entry { db: 0, key, value, expires_at_ms: None, access: Access::default() };
        engine.load(entry, 0).unwrap();
    }
    engine
}

fn settings() -> JournalSettings {
    JournalSettings {
        dir: "/data".into(),
        snapshot_name: "dump.rdb".to_owned(),
        log: LogPaths { directory: "/data/log".into(), name: "log".to_owned() },
        owner: Owner { store_id: "s".to_owned(), epoch: 1, annotated: true },
        compression: false,
        checksum: true,
    }
}

fn open(disk: &MemoryDisk, log: Option<Log>) -> (Journal, Receiver<JournalEvent>) {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let send = move |event| sender.lock().unwrap().send(event).is_ok();
    let storage: Arc<dyn Storage> = Arc::new(disk.clone());
    (Journal::new(storage, settings(), SyncMode::Always, log, 0, 1, Arc::new(send)).unwrap(), events)
}

/// A journal with a log over the data of `engine`, and what its threads say.
pub(super) fn journal(disk: &MemoryDisk, engine: &mut Engine) -> (Journal, Receiver<JournalEvent>) {
    let log = create_log(disk, &settings(), None, engine, 0, 1).unwrap();
    open(disk, Some(log))
}

/// A journal without a log, and what its threads say.
pub(super) fn journal_alone(disk: &MemoryDisk) -> (Journal, Receiver<JournalEvent>) {
    disk.create_dir(Path::new("/data")).unwrap();
    open(disk, None)
}
