//! The checking load: opens an RDB whole, with all its checks, and says what it holds. Nothing is kept of it.

use std::io::{self, Read};

use bytes::Bytes;
use holdfast_contract::bucket::{BackupManifest, DatasetSummary};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::engine::value::Entry;
use crate::persistence::digest::Digester;
use crate::persistence::snapshot::{BoxError, RdbVisitor, ReadRdbError, SnapshotAux, read_rdb};

/// Chunks between a download and its check. A chunk of a download has at most some tens of kilobytes.
const CHUNKS_IN_FLIGHT: usize = 16;

/// What an RDB holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRdb {
    /// Count and digest of its keys.
    pub dataset: DatasetSummary,
    /// What it says of itself.
    pub aux: SnapshotAux,
    /// Its size in bytes.
    pub bytes: u64,
}

impl CheckedRdb {
    /// What in the file differs from what the manifest says, if anything.
    #[must_use]
    pub(crate) fn difference(&self, manifest: &BackupManifest) -> Option<String> {
        let BackupManifest { dataset, store_id, epoch, offset, .. } = manifest;
        let own = &self.dataset;
        if own != dataset {
            return Some(format!(
                "it holds {} keys ({} expiring, digest {}), its manifest says {} ({}, {})",
                own.keys, own.expiring, own.digest, dataset.keys, dataset.expiring, dataset.digest
            ));
        }
        let differs = |name: &str, own: Option<String>, said: String| {
            own.filter(|own| *own != said).map(|own| format!("its {name} is {own}, its manifest says {said}"))
        };
        differs("store id", self.aux.store_id.clone(), store_id.clone())
            .or_else(|| differs("epoch", self.aux.epoch.map(|own| own.to_string()), epoch.to_string()))
            .or_else(|| differs("offset", self.aux.offset.map(|own| own.to_string()), offset.to_string()))
    }
}

/// Reads `reader` to its end as one RDB.
///
/// # Errors
/// [`ReadRdbError`] with the byte at which the file stops being one.
pub fn check_rdb(reader: impl Read) -> Result<CheckedRdb, ReadRdbError> {
    #[derive(Default)]
    struct Check {
        digester: Digester,
        aux: SnapshotAux,
    }
    impl RdbVisitor for Check {
        fn aux(&mut self, name: &str, value: &str) -> Result<(), BoxError> {
            self.aux.set(name, value);
            Ok(())
        }

        fn entry(&mut self, entry: Entry) -> Result<(), BoxError> {
            self.digester.add(&entry);
            Ok(())
        }
    }
    let mut check = Check::default();
    let summary = read_rdb(reader, &mut check)?;
    Ok(CheckedRdb { dataset: check.digester.finish(), aux: check.aux, bytes: summary.bytes })
}

/// A bounded pipe from an asynchronous producer to a blocking reader in another thread. The end of the bytes is the
/// drop of the sender: a producer that fails must say so elsewhere, or a file cut short could pass for a whole one.
#[must_use]
pub(crate) fn chunk_pipe() -> (Sender<Bytes>, ChunkReader) {
    let (sender, receiver) = channel(CHUNKS_IN_FLIGHT);
    (sender, ChunkReader { receiver, current: Bytes::new() })
}

/// The reading end of [`chunk_pipe`]. Blocks: not for the threads of a runtime.
#[derive(Debug)]
pub(crate) struct ChunkReader {
    receiver: Receiver<Bytes>,
    current: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let len = buffer.len().min(self.current.len());
        buffer[..len].copy_from_slice(&self.current.split_to(len));
        Ok(len)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::engine::Access;
    use crate::engine::value::Value;
    use crate::persistence::snapshot::{RdbOptions, RdbWriter};

    /// An RDB with `keys` keys, as the server with these particulars would write it.
    pub(crate) fn rdb(keys: u32, store_id: &str, epoch: u64, offset: u64) -> Vec<u8> {
        let aux = SnapshotAux {
            store_id: Some(store_id.to_owned()),
            epoch: Some(epoch),
            offset: Some(offset),
            ..SnapshotAux::default()
        };
        let mut writer =
            RdbWriter::new(Vec::new(), RdbOptions { aux: aux.fields(), ..RdbOptions::default() }).unwrap();
        for number in 0..keys {
            let key = format!("key:{number}").into_bytes().into();
            let value = Value::Bytes(format!("{number:0200}").into_bytes());
            let expires_at_ms = (number % 3 == 0).then_some(4_000_000_000_000);
            writer
                .entry(&Entry { db: number % 2, key, value, expires_at_ms, access: Access::default() })
                .unwrap();
        }
        writer.finish().unwrap().0
    }

    #[test]
    fn a_whole_file_is_counted_and_a_cut_one_is_refused() {
        let file = rdb(50, "s", 2, 77);
        let checked = check_rdb(file.as_slice()).unwrap();
        assert_eq!((checked.dataset.keys, checked.dataset.expiring), (50, 17));
        assert_eq!(checked.aux.offset, Some(77));
        assert_eq!(checked.bytes, file.len() as u64);
        for len in 0..file.len() {
            assert!(check_rdb(&file[..len]).is_err(), "cut at {len}");
        }
        assert!(check_rdb([file.as_slice(), b"x"].concat().as_slice()).is_err());
    }

    #[test]
    fn a_manifest_that_says_something_else_is_told_from_one_that_fits() {
        let checked = check_rdb(rdb(5, "s", 2, 77).as_slice()).unwrap();
        let fitting = BackupManifest {
            version: 1,
            server_version: "0".into(),
            store_id: "s".into(),
            instance: "i".into(),
            epoch: 2,
            offset: 77,
            cut_ms: 0,
            completed_ms: 0,
            files: Vec::new(),
            dataset: checked.dataset.clone(),
        };
        let check = |change: fn(&mut BackupManifest), expected: Option<&str>| {
            let mut manifest = fitting.clone();
            change(&mut manifest);
            let difference = checked.difference(&manifest);
            match expected {
                None => assert_eq!(difference, None),
                Some(word) => {
                    assert!(difference.as_ref().is_some_and(|text| text.contains(word)), "{difference:?}")
                }
            }
        };
        check(|_| {}, None);
        check(|manifest| manifest.dataset.keys = 6, Some("keys"));
        check(|manifest| manifest.dataset.digest = "f".repeat(64), Some("digest"));
        check(|manifest| manifest.store_id = "t".into(), Some("store id"));
        check(|manifest| manifest.epoch = 3, Some("epoch"));
        check(|manifest| manifest.offset = 78, Some("offset"));
    }

    #[test]
    fn a_pipe_hands_over_every_byte_in_order() {
        let (sender, mut reader) = chunk_pipe();
        let producer = std::thread::spawn(move || {
            for chunk in ["ab", "", "c", "defg"] {
                sender.blocking_send(Bytes::from(chunk)).unwrap();
            }
        });
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        producer.join().unwrap();
        assert_eq!(text, "abcdefg");
    }
}
