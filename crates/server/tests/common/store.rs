//! A store in memory: engine, effects and connections, with a process that is made up and a clock that is set.

use std::collections::BTreeMap;

use holdfast_server::command::{
    ClientFacts, ClientFilter, Context, Deferred, Host, InfoSection, JobStart, Killed, Outcome, PauseMode,
    Session, Settings, execute,
};
use holdfast_server::engine::effects::EffectBuffer;
use holdfast_server::engine::{Engine, EngineOptions, HashSeed, Limits};
use holdfast_server::measure::Meter;
use holdfast_server::protocol::{OwnedRequest, ReplyWriter, Request};
use holdfast_server::pubsub::PubSub;

/// Where the clock of a store begins, in milliseconds since the Unix epoch.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// A process that only answers.
#[derive(Debug, Default)]
pub(crate) struct FakeHost {
    pub(crate) now_ms: i64,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) log_enabled: bool,
    pub(crate) durable: bool,
    pub(crate) saving: bool,
    pub(crate) paused: Option<(PauseMode, i64)>,
    pub(crate) pubsub: PubSub,
    pub(crate) meter: Meter,
}

impl FakeHost {
    fn facts(session: &Session) -> ClientFacts {
        ClientFacts {
            address: format!("127.0.0.1:{}", 50_000 + session.id()),
            local_address: "127.0.0.1:6379".to_owned(),
            fd: 7,
            ..ClientFacts::default()
        }
    }
}

impl Host for FakeHost {
    fn unix_time_us(&mut self) -> i64 {
        self.now_ms * 1000 + 7
    }
    fn write_info(&mut self, section: InfoSection, _: &Engine, out: &mut String) {
        out.push_str(&format!("section:{section:?}\r\n"));
    }
    fn config_matching(&mut self, patterns: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
        let matches = |name: &str| {
            let glob = holdfast_server::glob::matches_ignore_case;
            patterns.iter().any(|pattern| glob(pattern, name.as_bytes()))
        };
        self.config
            .iter()
            .filter(|(name, _)| matches(name))
            .map(|(a, b)| (a.clone(), b.clone().into()))
            .collect()
    }
    fn set_config(&mut self, settings: &[(&[u8], &[u8])]) -> Result<(), String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if let Some((name, _)) = settings.iter().find(|(name, _)| !self.config.contains_key(&text(name))) {
            let name = text(name);
            return Err(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"));
        }
        self.config.extend(settings.iter().map(|(name, value)| (text(name), text(value))));
        Ok(())
    }
    fn rewrite_config(&mut self, _: bool) -> Result<(), String> {
        Err("ERR The server is running without a config file".to_owned())
    }
    fn meter(&mut self) -> Option<&mut Meter> {
        Some(&mut self.meter)
    }
    fn reset_statistics(&mut self) {}
    fn authenticate(&mut self, user: &[u8], password: &[u8]) -> bool {
        user == b"default" && self.password.as_deref() == Some(password)
    }
    fn has_password(&self) -> bool {
        self.password.is_some()
    }
    fn last_save_s(&mut self) -> i64 {
        self.now_ms / 1000
    }
    fn start_background_save(&mut self, schedule: bool) -> Result<JobStart, String> {
        match (self.saving, schedule) {
            (false, _) => Ok(JobStart::Started),
            (true, true) => Ok(JobStart::Scheduled),
            (true, false) => Err("ERR Background save already in progress".to_owned()),
        }
    }
    fn start_log_rewrite(&mut self) -> Result<JobStart, String> {
        Ok(if self.saving { JobStart::Scheduled } else { JobStart::Started })
    }
    fn log_enabled(&self) -> bool {
        self.log_enabled
    }
    fn is_durable(&mut self, _: &Session) -> bool {
        self.durable
    }
    fn replication_offset(&mut self) -> u64 {
        0
    }
    fn abort_shutdown(&mut self) -> bool {
        false
    }
    fn list_clients(&mut self, filter: &ClientFilter, me: &Session, _: &Request<'_>) -> String {
        let mut lines = String::new();
        let facts = FakeHost::facts(me);
        if filter.matches(me, &facts, me.id()) {
            me.write_client_line(&facts, &mut lines);
        }
        lines
    }
    fn kill_clients(&mut self, filter: &ClientFilter, me: &Session) -> Killed {
        let hit = filter.matches(me, &FakeHost::facts(me), me.id());
        Killed { count: usize::from(hit), me: hit }
    }
    fn pause_clients(&mut self, mode: PauseMode, until_ms: i64) {
        self.paused = Some((mode, until_ms));
    }
    fn unpause_clients(&mut self) {
        self.paused = None;
    }
    fn pubsub(&mut self) -> Option<&mut PubSub> {
        Some(&mut self.pubsub)
    }
}

/// A store with any number of connections, numbered from 1.
pub(crate) struct Store {
    pub(crate) engine: Engine,
    pub(crate) effects: EffectBuffer,
    pub(crate) host: FakeHost,
    pub(crate) settings: Settings<'static>,
    pub(crate) now_ms: i64,
    pub(crate) sessions: BTreeMap<u64, Session>,
}

impl Store {
    pub(crate) fn new() -> Store {
        let options =
            EngineOptions { databases: 16, limits: Limits::default(), seed: HashSeed([0x5eed, 0xbeef]) };
        Store {
            engine: Engine::new(options),
            effects: EffectBuffer::new(),
            host: FakeHost { log_enabled: true, ..FakeHost::default() },
            settings: Settings { debug_allowed: true, observed: true, ..Settings::default() },
            now_ms: START_MS,
            sessions: BTreeMap::new(),
        }
    }

    /// Executes one command on a connection; returns the reply and how it ended.
    pub(crate) fn run_on(&mut self, connection: u64, args: &[impl AsRef<[u8]>]) -> (Vec<u8>, Outcome) {
        let request = OwnedRequest::from_args(args);
        let open = !self.settings.auth_required;
        let session = self.sessions.entry(connection).or_insert_with(|| Session::new(connection, open));
        self.host.now_ms = self.now_ms;
        let mut reply = Vec::new();
        let mut context = Context {
            engine: &mut self.engine,
            effects: &mut self.effects,
            host: &mut self.host,
            settings: self.settings,
            now_ms: self.now_ms,
        };
        let outcome = {
            let reply = ReplyWriter::new(&mut reply, session.version());
            execute(&mut context, session, &request.as_request(), reply)
        };
        if let Outcome::Deferred(deferred) = outcome {
            assert!(reply.is_empty(), "a deferred command writes nothing");
            if !session.is_reply_suppressed() {
                // What an executor would write when the time is over and nothing has happened.
                reply.extend_from_slice(match deferred {
                    Deferred::Wait { .. } => b":0\r\n",
                    Deferred::Block { .. } => b"*-1\r\n",
                    Deferred::WaitAof { .. } => b"*2\r\n:0\r\n:0\r\n",
                    Deferred::Save | Deferred::Debug(_) => b"+OK\r\n",
                    Deferred::Shutdown(_) => b"",
                });
            }
        }
        (reply, outcome)
    }
}
