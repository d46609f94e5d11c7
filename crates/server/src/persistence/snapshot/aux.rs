//! Auxiliary fields of our RDB files.

use crate::persistence::log::record::OFFSET_MAX;

/// What a file says of itself besides its data. Redis skips the fields that it does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotAux {
    /// When the data was cut, seconds since the Unix epoch (`ctime`).
    pub created_s: u64,
    /// Memory in use at that time, bytes (`used-mem`).
    pub used_memory: u64,
    /// True for the base of a log, false for a snapshot that stands alone (`aof-base`).
    pub aof_base: bool,
    /// Replication id and offset (`repl-id`, `repl-offset`), when the data belongs to a replication stream.
    pub replication: Option<(String, u64)>,
    /// Id of the Store that the data belongs to (`holdfast-store-id`).
    pub store_id: Option<String>,
    /// Epoch of the data (`holdfast-epoch`).
    pub epoch: Option<u64>,
    /// Offset at which the data was cut (`holdfast-offset`).
    pub offset: Option<u64>,
}

/// Version of Redis whose files ours are like; readers choose their rules by it.
const REDIS_VERSION: &str = "7.0.0";

impl SnapshotAux {
    /// The epoch of the data, if they are of this Store.
    pub(crate) fn epoch_of(&self, store_id: &str) -> Option<u64> {
        self.epoch.filter(|_| self.store_id.as_deref() == Some(store_id))
    }

    /// Names and values in the order in which they are written.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, String)> {
        let mut fields = vec![
            ("redis-ver".to_owned(), REDIS_VERSION.to_owned()),
            ("redis-bits".to_owned(), "64".to_owned()),
            ("ctime".to_owned(), self.created_s.to_string()),
            ("used-mem".to_owned(), self.used_memory.to_string()),
        ];
        if let Some((id, offset)) = &self.replication {
            fields.push(("repl-stream-db".to_owned(), "0".to_owned()));
            fields.push(("repl-id".to_owned(), id.clone()));
            fields.push(("repl-offset".to_owned(), offset.to_string()));
        }
        fields.push(("aof-base".to_owned(), u8::from(self.aof_base).to_string()));
        fields.push(("holdfast-ver".to_owned(), env!("CARGO_PKG_VERSION").to_owned()));
        let own = [
            ("holdfast-store-id", self.store_id.clone()),
            ("holdfast-epoch", self.epoch.map(|epoch| epoch.to_string())),
            ("holdfast-offset", self.offset.map(|offset| offset.to_string())),
        ];
        fields.extend(own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        fields
    }

    /// Takes over a field that was read. Unknown names and values that do not parse change nothing: the fields describe
    /// the data, and a file stays readable without them.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match name {
            "ctime" => self.created_s = value.parse().unwrap_or(self.created_s),
            "used-mem" => self.used_memory = value.parse().unwrap_or(self.used_memory),
            "aof-base" => self.aof_base = value == "1",
            "repl-id" => self.replication.get_or_insert_default().0 = value.to_owned(),
            "repl-offset" => {
                if let Ok(offset) = value.parse() {
                    self.replication.get_or_insert_default().1 = offset;
                }
            }
            "holdfast-store-id" => self.store_id = Some(value.to_owned()),
            "holdfast-epoch" => self.epoch = value.parse().ok(),
            // One beyond the limit cannot be continued: no header or frame behind it could be read again.
            "holdfast-offset" => self.offset = value.parse().ok().filter(|&offset| offset <= OFFSET_MAX),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_return_what_was_set() {
        let full = SnapshotAux {
            created_s: 1_700_000_000,
            used_memory: 12_345,
            aof_base: true,
            replication: Some(("a".repeat(40), 77)),
            store_id: Some("1f0c".into()),
            epoch: Some(3),
            offset: Some(99),
        };
        for written in [full, SnapshotAux::default()] {
            let mut read = SnapshotAux::default();
            for (name, value) in written.fields() {
                read.set(&name, &value);
            }
            assert_eq!(read, written);
        }
    }

    #[test]
    fn an_offset_that_cannot_be_continued_is_none() {
        let mut read = SnapshotAux::default();
        read.set("holdfast-offset", &OFFSET_MAX.to_string());
        assert_eq!(read.offset, Some(OFFSET_MAX));
        read.set("holdfast-offset", &(OFFSET_MAX + 1).to_string());
        assert_eq!(read.offset, None);
    }
}
