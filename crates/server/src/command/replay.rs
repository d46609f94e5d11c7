//! Replaying a log: the same commands through the same door, without a client.

use super::host::{ClientFilter, Host, InfoSection, JobStart, Killed, PauseMode};
use super::{Context, Outcome, Session, Settings, execute, table};
use crate::engine::Engine;
use crate::engine::effects::EffectBuffer;
use crate::limits::STRING_LEN_MAX;
use crate::protocol::{ReplyWriter, Request};

/// A command of a log could not be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// No such command: the log is of another program or another version. In the words of Redis.
    #[error("Unknown command '{name}' reading the append only file")]
    UnknownCommand {
        /// Its name as it stands in the log.
        name: String,
    },
    /// Too many or too few arguments.
    #[error("failed to replay command {name:?}: it has the wrong number of arguments, {args}")]
    WrongArity {
        /// Its name as it stands in the log.
        name: String,
        /// Arguments, the name included.
        args: usize,
    },
    /// A command for administrators or about connections has no place in a log.
    #[error("failed to replay command {name:?}: it does not belong in a log")]
    Misplaced {
        /// Its name as it stands in the log.
        name: String,
    },
    /// The command answered with an error: the data differ from those it was logged for.
    #[error("failed to replay command {name:?}: it answered {reply:?}")]
    Failed {
        /// Its name as it stands in the log.
        name: String,
        /// The error reply.
        reply: String,
    },
}

/// Feeds the commands of a log to an engine.
///
/// From the first to the last command nothing expires and no limit applies; nothing is recorded as an effect. One
/// replayer reads one segment: it begins in database 0. Commands between MULTI and EXEC take effect at EXEC.
#[derive(Debug)]
pub struct Replayer {
    session: Session,
    effects: EffectBuffer,
    reply: Vec<u8>,
}

impl Replayer {
    /// Begins to replay a segment into `engine`, which from now on expires nothing.
    pub fn begin(engine: &mut Engine) -> Replayer {
        engine.set_replaying(true);
        Replayer { session: Session::new(0, true), effects: EffectBuffer::disabled(), reply: Vec::new() }
    }

    /// Whether a transaction has begun and not ended: a log must not end here.
    pub fn in_transaction(&self) -> bool {
        self.session.in_transaction()
    }

    /// Applies one command. `now_ms` is of no effect on what a well-formed log yields.
    /// # Errors
    /// [`ReplayError`]; the engine is as before the command, or as after what succeeded of a transaction.
    pub fn apply(
        &mut self,
        engine: &mut Engine,
        request: &Request<'_>,
        now_ms: i64,
    ) -> Result<(), ReplayError> {
        let name = request.arg(0);
        let text = || String::from_utf8_lossy(name).into_owned();
        // What Redis's replication stream may hold and a log therefore may too.
        if ["replconf", "publish", "spublish"].iter().any(|it| super::args::is(name, it)) {
            return Ok(());
        }
        let Some(command) = table::find(name) else {
            return Err(ReplayError::UnknownCommand { name: name.escape_ascii().to_string() });
        };
        if !command.accepts_len(request.len()) {
            return Err(ReplayError::WrongArity { name: text(), args: request.len() });
        }
        if command.has(table::flags::ADMIN | table::flags::NO_AUTH) {
            return Err(ReplayError::Misplaced { name: text() });
        }
        self.reply.clear();
        let errors = engine.stats.error_replies;
        let mut host = Nobody;
        let mut context = Context {
            engine: &mut *engine,
            effects: &mut self.effects,
            host: &mut host,
            settings: Settings { proto_max_bulk_len: STRING_LEN_MAX, ..Settings::default() },
            now_ms,
        };
        let outcome = {
            let reply = ReplyWriter::new(&mut self.reply, self.session.version());
            execute(&mut context, &mut self.session, request, reply)
        };
        if outcome != Outcome::Done {
            return Err(ReplayError::Misplaced { name: text() });
        }
        // Also errors within the reply of EXEC count.
        if engine.stats.error_replies != errors {
            let reply = String::from_utf8_lossy(&self.reply).trim_end().to_owned();
            return Err(ReplayError::Failed { name: text(), reply });
        }
        Ok(())
    }

    /// Ends the segment. A transaction that has not ended is dropped.
    ///
    /// Statistics have counted the commands; set [`Engine::stats`] back when all is loaded.
    /// Expiry stays off until [`Engine::set_replaying`] is called: the next segment may still need an expired key.
    pub fn end(mut self, engine: &mut Engine) {
        self.session.close(engine);
    }
}

/// The process of a replay: there is none.
struct Nobody;

impl Host for Nobody {
    fn unix_time_us(&mut self) -> i64 {
        0
    }
    fn write_info(&mut self, _: InfoSection, _: &Engine, _: &mut String) {}
    fn config_matching(&mut self, _: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
        Vec::new()
    }
    fn set_config(&mut self, _: &[(&[u8], &[u8])]) -> Result<(), String> {
        Err(NOBODY.to_owned())
    }
    fn rewrite_config(&mut self, _: bool) -> Result<(), String> {
        Err(NOBODY.to_owned())
    }
    fn reset_statistics(&mut self) {}
    fn authenticate(&mut self, _: &[u8], _: &[u8]) -> bool {
        false
    }
    fn has_password(&self) -> bool {
        false
    }
    fn last_save_s(&mut self) -> i64 {
        0
    }
    fn start_background_save(&mut self, _: bool) -> Result<JobStart, String> {
        Err(NOBODY.to_owned())
    }
    fn start_log_rewrite(&mut self) -> Result<JobStart, String> {
        Err(NOBODY.to_owned())
    }
    fn log_enabled(&self) -> bool {
        false
    }
    fn is_durable(&mut self, _: &Session) -> bool {
        false
    }
    fn replication_offset(&mut self) -> u64 {
        0
    }
    fn abort_shutdown(&mut self) -> bool {
        false
    }
    fn list_clients(&mut self, _: &ClientFilter, _: &Session, _: &Request<'_>) -> String {
        String::new()
    }
    fn kill_clients(&mut self, _: &ClientFilter, _: &Session) -> Killed {
        Killed::default()
    }
    fn pause_clients(&mut self, _: PauseMode, _: i64) {}
    fn unpause_clients(&mut self) {}
}

/// Answer to what a replay cannot ask for.
const NOBODY: &str = "ERR not while a log is replayed";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::value::{Entry, Value};
    use crate::engine::{Access, EngineOptions, HashSeed, Limits, LoadError};
    use crate::limits::KEY_LEN_MAX;
    use crate::protocol::{DecodeLimits, Decoder, OwnedRequest};

    const NOW_MS: i64 = 1_700_000_000_000;

    /// Replays commands given in words; returns the engine and the first refusal.
    fn replay(commands: &[&str]) -> (Engine, Result<(), ReplayError>) {
        let mut engine =
            Engine::new(EngineOptions { databases: 2, limits: Limits::default(), seed: HashSeed([1, 2]) });
        let mut replayer = Replayer::begin(&mut engine);
        let result = commands.iter().try_for_each(|command| {
            let request = OwnedRequest::from_args(&command.split(' ').collect::<Vec<_>>());
            replayer.apply(&mut engine, &request.as_request(), NOW_MS)
        });
        replayer.end(&mut engine);
        (engine, result)
    }

    fn check_refused(commands: &[&str], text: &str) {
        let (_, result) = replay(commands);
        assert_eq!(result.expect_err("must be refused").to_string(), text);
    }

    #[test]
    fn keys_that_have_expired_live_until_the_log_says_otherwise() {
        let (engine, result) =
            replay(&["SELECT 1", "SET n 5 PXAT 1000", "INCR n", "PEXPIREAT n 2000", "PING"]);
        assert_eq!(result, Ok(()));
        let entries: Vec<_> = engine.entries().map(|it| (it.db, it.value, it.expires_at_ms)).collect();
        assert_eq!(
            entries,
            [(1, crate::engine::ValueRef::String(crate::engine::StringRef::Int(6)), Some(2000))]
        );
        let (engine, _) = replay(&["SET n 5 PXAT 1000", "DEL n"]);
        assert!(engine.is_empty());
    }

    #[test]
    fn a_transaction_without_its_end_is_dropped() {
        let (engine, result) = replay(&["MULTI", "SET a 1"]);
        assert_eq!(result, Ok(()));
        assert!(engine.is_empty());
    }

    #[test]
    fn what_stands_in_a_replication_stream_is_skipped() {
        let (_, result) = replay(&["REPLCONF GETACK *", "PUBLISH a b", "PING"]);
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn refusals_name_the_command() {
        check_refused(&["bla a b"], "Unknown command 'bla' reading the append only file");
        check_refused(
            &["set a"],
            "failed to replay command \"set\": it has the wrong number of arguments, 2",
        );
        check_refused(&["SAVE"], "failed to replay command \"SAVE\": it does not belong in a log");
        check_refused(
            &["SET a x", "INCR a"],
            "failed to replay command \"INCR\": it answered \"-ERR value is not an integer or out of range\"",
        );
        check_refused(
            &["SET a x", "MULTI", "INCR a", "EXEC"],
            "failed to replay command \"EXEC\": it answered \"*1\\r\\n-ERR value is not an integer or out of range\"",
        );
    }

    #[test]
    fn a_key_that_no_entry_can_hold_is_refused() {
        const LEN: usize = KEY_LEN_MAX + 1;
        let head = format!("*3\r\n$3\r\nSET\r\n${LEN}\r\n");
        let tail = b"\r\n$1\r\nv\r\n";
        // Zeros that nobody looks at take no memory.
        let mut bytes = vec![0; head.len() + LEN + tail.len()];
        bytes[..head.len()].copy_from_slice(head.as_bytes());
        bytes[head.len() + LEN..].copy_from_slice(tail);
        let mut decoder = Decoder::new();
        let step = decoder.decode(&bytes, &DecodeLimits::LOG).unwrap();
        let mut engine =
            Engine::new(EngineOptions { databases: 1, limits: Limits::default(), seed: HashSeed([1, 2]) });
        let mut replayer = Replayer::begin(&mut engine);
        let result = replayer.apply(&mut engine, &step.request.unwrap(), NOW_MS);
        replayer.end(&mut engine);
        let reply = "-ERR key exceeds the maximum length of 4294967295 bytes".to_owned();
        assert_eq!(result, Err(ReplayError::Failed { name: "SET".to_owned(), reply }));
        let key = vec![0; LEN].into_boxed_slice();
        let (value, access) = (Value::Bytes(b"v".to_vec()), Access::default());
        let loaded = engine.load(Entry { db: 0, key, value, expires_at_ms: None, access }, NOW_MS);
        assert_eq!(loaded, Err(LoadError::KeyTooLong { db: 0, len: LEN }));
    }
}
