//! Data that is hard to keep, and its comparison: several databases, binary keys and values, times to live, empty and
//! large values, values that grew by commands.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use redis::{Pipeline, cmd, pipe};

use crate::client::Redis;

/// Databases that are filled and compared: the first, one in between, the last.
const DATABASES: [u8; 3] = [0, 3, 15];
/// Length of the one large value in bytes; more than any buffer on its way.
const LARGE: usize = 1 << 20;
/// Commands sent before their answers are read.
const BATCH: usize = 200;

/// A value and when it expires, in milliseconds since the Unix epoch; -1 for never, as Redis says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    value: Vec<u8>,
    expires_ms: i64,
}

/// All keys of the compared databases.
pub type Dataset = BTreeMap<(u8, Vec<u8>), Entry>;

/// Writes about `keys` keys into each database and returns what is there then.
/// # Errors
/// The connection ended, or a write was refused.
pub async fn fill(redis: &mut Redis, keys: usize) -> Result<Dataset> {
    for database in DATABASES {
        redis.call::<()>(&format!("SELECT {database}")).await?;
        let mut batch = pipe();
        for index in 0..keys {
            write_one(&mut batch, database, index);
            if batch.len() >= BATCH {
                send(redis, &mut batch).await?;
            }
        }
        batch.cmd("SET").arg("empty").arg("").ignore();
        batch.cmd("SET").arg("large").arg(bytes(usize::from(database), LARGE)).ignore();
        send(redis, &mut batch).await?;
    }
    redis.call::<()>("SELECT 0").await?;
    read(redis).await
}

fn write_one(batch: &mut Pipeline, database: u8, index: usize) {
    let seed = index * 31 + usize::from(database);
    let value = bytes(seed, seed % 300);
    match index % 5 {
        0 => batch.cmd("SET").arg(format!("plain:{index}")).arg(value).ignore(),
        // Every byte that separates, ends or escapes something somewhere.
        1 => batch
            .cmd("SET")
            .arg([b"bin\0\r\n\xff$*#".as_slice(), &index.to_be_bytes()].concat())
            .arg(value)
            .ignore(),
        2 => batch
            .cmd("SET")
            .arg(format!("expiring:{index}"))
            .arg(value)
            .arg("PXAT")
            .arg(in_hours(index))
            .ignore(),
        3 => batch.cmd("INCRBY").arg(format!("counter:{}", index % 7)).arg(index).ignore(),
        _ => batch.cmd("APPEND").arg(format!("grown:{}", index % 11)).arg(value).ignore(),
    };
}

/// A time one to two hours from now, with milliseconds that matter.
fn in_hours(index: usize) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(0) + 3_600_000 + u64::try_from(index % 3_600_000).unwrap_or(0)
}

/// `len` bytes that differ with `seed` and hold every byte.
fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 7 + seed * 13 + index / 256).to_le_bytes()[0]).collect()
}

async fn send(redis: &mut Redis, batch: &mut Pipeline) -> Result<()> {
    batch.query_async::<()>(&mut redis.connection).await.context("write a batch")?;
    batch.clear();
    Ok(())
}

/// Reads all keys of the compared databases.
/// # Errors
/// The connection ended, a command was refused, or a database that should be empty is not.
pub async fn read(redis: &mut Redis) -> Result<Dataset> {
    let mut dataset = Dataset::new();
    for database in DATABASES {
        redis.call::<()>(&format!("SELECT {database}")).await?;
        let mut cursor = 0_u64;
        loop {
            let (next, keys): (u64, Vec<Vec<u8>>) =
                cmd("SCAN").arg(cursor).arg("COUNT").arg(BATCH).query_async(&mut redis.connection).await?;
            let mut batch = pipe();
            for key in &keys {
                batch.cmd("GET").arg(key).cmd("PEXPIRETIME").arg(key);
            }
            let answers: Vec<(Option<Vec<u8>>, i64)> = read_pairs(redis, &batch).await?;
            for (key, (value, expires_ms)) in keys.into_iter().zip(answers) {
                let value =
                    value.with_context(|| format!("key {:?} vanished", key.escape_ascii().to_string()))?;
                dataset.insert((database, key), Entry { value, expires_ms });
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
    }
    redis.call::<()>("SELECT 0").await?;
    Ok(dataset)
}

async fn read_pairs(redis: &mut Redis, batch: &Pipeline) -> Result<Vec<(Option<Vec<u8>>, i64)>> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let answers: Vec<redis::Value> =
        batch.query_async(&mut redis.connection).await.context("read a batch")?;
    answers
        .chunks_exact(2)
        .map(|pair| Ok((redis::from_redis_value_ref(&pair[0])?, redis::from_redis_value_ref(&pair[1])?)))
        .collect()
}

/// Compares key by key; names the first few differences.
/// # Errors
/// What is lost, what should not be there, what differs.
pub fn compare(expected: &Dataset, found: &Dataset) -> Result<()> {
    let name = |(database, key): &(u8, Vec<u8>)| format!("{database}/{}", key.escape_ascii());
    let lost =
        expected.keys().filter(|key| !found.contains_key(*key)).map(|key| format!("{} is lost", name(key)));
    let extra =
        found.keys().filter(|key| !expected.contains_key(*key)).map(|key| format!("{} is new", name(key)));
    let changed = expected.iter().filter_map(|(key, entry)| {
        let now = found.get(key).filter(|now| *now != entry)?;
        Some(if now.value == entry.value {
            format!("{} expires at {}, not {}", name(key), now.expires_ms, entry.expires_ms)
        } else {
            format!("{} has another value ({} bytes, were {})", name(key), now.value.len(), entry.value.len())
        })
    });
    let differences: Vec<String> = lost.chain(extra).chain(changed).collect();
    if differences.is_empty() {
        return Ok(());
    }
    let first = differences.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
    bail!("{} of {} keys differ: {first}", differences.len(), expected.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(entries: &[(&str, &str, i64)]) -> Dataset {
        let entry = |(key, value, expires_ms): &(&str, &str, i64)| {
            (
                (0, key.as_bytes().to_vec()),
                Entry { value: value.as_bytes().to_vec(), expires_ms: *expires_ms },
            )
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn every_kind_of_difference_is_found_and_named() {
        let expected = dataset(&[("a", "1", -1), ("b", "2", 5), ("c", "3", -1)]);
        assert!(compare(&expected, &expected).is_ok());
        let found = dataset(&[("a", "1", 7), ("b", "x", 5), ("d", "", -1)]);
        let text = compare(&expected, &found).unwrap_err().to_string();
        for part in
            ["4 of 3", "0/c is lost", "0/d is new", "0/a expires at 7, not -1", "0/b has another value"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
}
