use super::*;
use crate::bridge::tests::status;
use crate::bridge::{AdminRequest, CutFile, Inbox, Refusal, StatusPublisher, bridge};
use crate::persistence::barrier::{BarrierDesk, Begin, Moment};
use holdfast_bucket::testing::plain_client;
use holdfast_contract::control::{
    Barrier, ConfigCheck, ConfigCheckRequest, ErrorBody, ServerState, ServerStatus,
};
use holdfast_contract::record::{DecisionKind, DecisionReport, Origin, StoreRecord};
use std::io::Write as _;
use std::time::Instant;

struct World {
    runtime: tokio::runtime::Runtime,
    admin: Option<Admin>,
    publisher: StatusPublisher,
    handle: ServerHandle,
    token_file: PathBuf,
    directory: tempfile::TempDir,
}

fn options(
    health_port: u16,
    control_token_file: Option<PathBuf>,
    directory: &std::path::Path,
) -> AdminOptions {
    let loopback = vec![BindAddress::parse("127.0.0.1").unwrap()];
    AdminOptions {
        health: loopback.clone(),
        health_port,
        control: loopback,
        control_port: 0,
        control_token_file,
        backup: BackupSettings {
            temp_dir: directory.to_owned(),
            credentials_root: directory.to_owned(),
            instance: "i".to_owned(),
        },
    }
}

impl World {
    fn start(state: ServerState) -> (Self, Inbox) {
        let directory = tempfile::tempdir().unwrap();
        let token_file = directory.path().join("token");
        std::fs::write(&token_file, "correct-token\n").unwrap();
        let (handle, inbox, publisher) = bridge(status(state));
        let options = options(0, Some(token_file.clone()), directory.path());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let admin = Admin::start(runtime.handle(), options, &handle, &Arc::new(Metrics::new())).unwrap();
        (Self { runtime, admin: Some(admin), publisher, handle, token_file, directory }, inbox)
    }

    fn admin(&self) -> &Admin {
        self.admin.as_ref().unwrap()
    }

    fn health(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.admin().health_address().unwrap());
        self.runtime.block_on(async {
            let answer = plain_client().get(url).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    fn control(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.admin().control_address().unwrap());
        let mut request = plain_client().request(method.parse().unwrap(), url).body(body.to_owned());
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.control(method, path, Some("Bearer correct-token"), body)
    }

    #[track_caller]
    fn refused(&self, method: &str, path: &str, body: &str, status: u16, reason: &str) {
        let (found, text) = self.ask(method, path, body);
        let error: ErrorBody = serde_json::from_str(&text).unwrap();
        assert_eq!((found, error.reason.as_str()), (status, reason), "{error:?}");
        assert!(!error.message.is_empty());
    }
}

#[test]
fn alive_is_everything_but_a_dead_owner_and_ready_is_only_ready() {
    let (world, inbox) = World::start(ServerState::Loading);
    let check = |status: ServerStatus, code: u16, text: &str| {
        world.publisher.publish(status);
        assert_eq!(world.health("/livez"), (200, "ok\n".to_owned()));
        assert_eq!(world.health("/readyz"), (code, format!("{text}\n")));
    };
    let decision = DecisionReport {
        decision: DecisionKind::Hold,
        reason: "VolumeLost".into(),
        message: "store 123 is lost".into(),
    };
    check(status(ServerState::Ready), 200, "ready");
    check(status(ServerState::Loading), 503, "loading");
    check(ServerStatus { progress: Some(0.427), ..status(ServerState::Loading) }, 503, "loading: 43 %");
    check(ServerStatus { progress: Some(0.1), ..status(ServerState::Restoring) }, 503, "restoring: 10 %");
    check(
        ServerStatus { decision: Some(decision), ..status(ServerState::Holding) },
        503,
        "holding: VolumeLost",
    );
    check(status(ServerState::WritesRefused), 503, "writes_refused");
    check(status(ServerState::AwaitingRecord), 503, "awaiting_record");
    check(status(ServerState::Stopping), 503, "stopping");

    world.publisher.publish(status(ServerState::Ready));
    let (code, text) = world.health("/metrics");
    assert!(code == 200 && text.contains("holdfast_state{state=\"ready\"} 1"), "{text}");
    drop(inbox);
    assert_eq!(world.health("/livez").0, 500);
    assert_eq!(world.health("/readyz").0, 503);
    assert_eq!(world.health("/v1/status").0, 404);
}

#[test]
fn nothing_is_answered_without_the_token() {
    let (world, _inbox) = World::start(ServerState::Ready);
    for (method, path) in [
        ("GET", "/v1/status"),
        ("PUT", "/v1/decision"),
        ("POST", "/v1/barriers"),
        ("DELETE", "/v1/backups/x"),
        ("GET", "/no/such/path"),
    ] {
        for token in
            [None, Some("Bearer wrong"), Some("Bearer "), Some("correct-token"), Some("Basic correct-token")]
        {
            let (code, text) = world.control(method, path, token, "");
            assert_eq!(code, 401, "{method} {path} {token:?}");
            assert!(!text.contains("correct-token"));
        }
    }
    assert_eq!(world.ask("GET", "/v1/status", "").0, 200);

    std::fs::write(&world.token_file, "rotated").unwrap();
    assert_eq!(world.ask("GET", "/v1/status", "").0, 401);
    assert_eq!(world.control("GET", "/v1/status", Some("Bearer rotated"), "").0, 200);
    for contents in [Some(""), Some(" \n"), None] {
        match contents {
            Some(contents) => std::fs::write(&world.token_file, contents).unwrap(),
            None => std::fs::remove_file(&world.token_file).unwrap(),
        }
        for token in ["Bearer rotated", "Bearer ", "Bearer"] {
            let (code, text) = world.control("GET", "/v1/status", Some(token), "");
            assert!(
                code == 503 && text.contains("ControlTokenMissing"),
                "{contents:?} {token:?}: {code} {text}"
            );
        }
    }
}

#[test]
fn messages_reach_the_owner_and_its_answers_come_back() {
    let (mut world, inbox) = World::start(ServerState::Ready);
    let publisher = world.publisher.clone();
    let owner = std::thread::spawn(move || {
        let mut desk = BarrierDesk::default();
        let mut decided = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let now = Moment { monotonic: Instant::now(), wall_ms: 1_000 };
            match inbox.next_within(Duration::from_millis(50)) {
                Some(AdminRequest::TakeBarrier { request, reply }) => {
                    reply.send(match desk.begin(&request, now) {
                        Begin::Take => Ok(desk.taken("s", 2, 55, now).unwrap()),
                        Begin::Known(barrier) => Ok(barrier),
                        Begin::InProgress | Begin::Busy { .. } => Err(Refusal::Busy("held".into())),
                        Begin::Refused { problem } => Err(Refusal::Invalid(problem)),
                    });
                }
                Some(AdminRequest::FindBarrier { token, reply }) => {
                    reply.send(desk.find(&token, now).ok_or(Refusal::NotFound("none".into())));
                }
                Some(AdminRequest::ReleaseBarrier { token, reply }) => {
                    reply.send(desk.release(&token, now).ok_or(Refusal::NotFound("none".into())));
                }
                Some(AdminRequest::StartRotation { reply }) => {
                    reply.send(Ok(()));
                }
                Some(AdminRequest::CutSnapshot { dest, reply }) => {
                    reply.send(Ok(CutFile {
                        path: dest,
                        bytes: 0,
                        store_id: "s".into(),
                        epoch: 1,
                        offset: 0,
                        cut_ms: 0,
                        dataset: Default::default(),
                    }));
                }
                Some(AdminRequest::Decide { record, reply }) => {
                    publisher.update(|status| status.keys = record.epoch);
                    decided.push(record);
                    reply.send(Ok(()));
                    if decided.len() == 2 {
                        return decided;
                    }
                }
                None => {}
            }
        }
        decided
    });

    let barrier = |text: &str| serde_json::from_str::<Barrier>(text).unwrap();
    let (code, text) = world.ask("POST", "/v1/barriers", r#"{"token":"t1","timeoutSeconds":30}"#);
    assert_eq!((code, barrier(&text).offset), (200, 55));
    assert_eq!(
        world.ask("POST", "/v1/barriers", r#"{"token":"t1","timeoutSeconds":30}"#),
        (200, text.clone())
    );
    assert_eq!(world.ask("GET", "/v1/barriers/t1", ""), (200, text));
    world.refused("POST", "/v1/barriers", r#"{"token":"t2","timeoutSeconds":30}"#, 409, "Busy");
    world.refused("POST", "/v1/barriers", r#"{"token":"t2","timeoutSeconds":0}"#, 400, "InvalidRequest");
    let (code, text) = world.ask("DELETE", "/v1/barriers/t1", "");
    assert!(code == 200 && barrier(&text).released_ms.is_some());
    world.refused("GET", "/v1/barriers/t2", "", 404, "NotFound");

    assert_eq!(world.ask("POST", "/v1/snapshot", "").0, 200);
    world.refused("GET", "/v1/backups/none", "", 404, "NotFound");
    world.refused("DELETE", "/v1/backups/none", "", 404, "NotFound");
    world.refused("GET", "/v1/nothing", "", 404, "NotFound");
    world.refused("DELETE", "/v1/status", "", 405, "MethodNotAllowed");
    world.refused("PUT", "/v1/decision", "{", 400, "InvalidRequest");
    world.refused("PUT", "/v1/decision", &" ".repeat((512 << 10) + 1), 413, "InvalidRequest");

    let request = r#"{"id":"b-1","location":{"region":"r","bucket":"b"},"credentialsDir":"c","ownerUID":"u","ownerName":"n"}"#;
    let (code, text) = world.ask("POST", "/v1/backups", request);
    assert!(code == 200 && text.contains("\"cutting\""), "{text}");
    world.refused("POST", "/v1/backups", &request.replace("b-1", "b/1"), 400, "InvalidRequest");
    let (code, text) = world.ask("DELETE", "/v1/backups/b-1", "");
    assert!(code == 200 && text.contains("\"failed\""), "{text}");

    let record = StoreRecord { store_id: "s".into(), epoch: 7, origin: Origin::Empty, restore: None };
    for _ in 0..2 {
        let (code, text) = world.ask("PUT", "/v1/decision", &serde_json::to_string(&record).unwrap());
        assert_eq!((code, serde_json::from_str::<ServerStatus>(&text).unwrap().keys), (200, 7));
    }
    assert_eq!(*owner.join().unwrap()[0], record);
    world.refused("POST", "/v1/snapshot", "", 503, "Stopping");
    assert!(!world.handle.is_alive());

    let address = world.admin().control_address().unwrap();
    let begun = Instant::now();
    world.admin.take().unwrap().stop();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(world.directory.path().exists());
}

#[test]
fn a_configuration_is_checked_and_nothing_of_it_is_used() {
    let (world, _inbox) = World::start(ServerState::Ready);
    let ask = |text: &str| {
        let body = serde_json::to_string(&ConfigCheckRequest { text: text.into() }).unwrap();
        let (code, answer) = world.ask("POST", "/v1/config/check", &body);
        assert_eq!(code, 200, "{answer}");
        serde_json::from_str::<ConfigCheck>(&answer).unwrap().problems
    };
    assert_eq!(ask("port 6379\nhz 20\n"), []);
    let problems = ask("port 6379\nhz abc\n");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].line, Some(2));
    assert!(problems[0].message.contains("hz"), "{problems:?}");
    world.refused("POST", "/v1/config/check", "{}", 400, "InvalidRequest");
}

#[test]
fn whoever_holds_every_connection_keeps_no_probe_out() {
    let (world, _inbox) = World::start(ServerState::Ready);
    let address = world.admin().health_address().unwrap();
    for sent in ["", "G"] {
        let held: Vec<_> = (0..BOUNDS.connections_max)
            .map(|_| {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                stream.write_all(sent.as_bytes()).unwrap();
                stream
            })
            .collect();
        let begun = Instant::now();
        assert_eq!(world.health("/livez").0, 200);
        let waited = begun.elapsed();
        assert!(waited < BOUNDS.head_time_max / 2, "{} hold, {waited:?}", held.len());
    }
}

#[test]
fn a_port_in_use_is_named() {
    let (world, _inbox) = World::start(ServerState::Ready);
    let taken = world.admin().health_address().unwrap().port();
    let options = options(taken, None, world.directory.path());
    let error =
        Admin::start(world.runtime.handle(), options, &world.handle, &Arc::new(Metrics::new())).unwrap_err();
    assert!(error.to_string().contains("health-port"), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(&taken.to_string()), "{cause}");
}

#[test]
fn the_configuration_opens_the_control_port_only_with_a_token() {
    let new = |config: &Config| AdminOptions::new(config, "i".to_owned());
    let mut config = Config::default();
    let options = new(&config);
    assert_eq!((options.health_port, options.control_port), (9180, 9181));
    assert!(options.health == config.bind && options.control.is_empty());
    config.control_token_file = Some(PathBuf::from("/token"));
    assert_eq!(new(&config).control, config.bind);
    config.bind.clear();
    assert_eq!(new(&config).health, BindAddress::loopback(), "clients are not wanted, probes are");
    config.health_port = 0;
    config.control_port = 0;
    let options = new(&config);
    assert!(options.health.is_empty() && options.control.is_empty());
}
