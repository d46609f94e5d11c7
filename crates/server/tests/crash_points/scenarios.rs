//! The protocols.

use std::path::Path;

use holdfast_contract::record::{Origin, StoreRecord};
use holdfast_server::executor::journal::JobRequest;
use holdfast_server::storage::Storage as _;
use holdfast_server::storage::memory::MemoryDisk;

use crate::explore::{Count, Effort, Scenario, copy_of, explore};
use crate::world::{DIR, Log, Step, World};

/// An absolute expiry far in the future.
const LATER: &str = "PEXPIREAT b 4000000000000";

fn nothing(world: &mut World<'_>) {
    // The data directory is there, as on a mounted volume, and nothing is in it.
    world.disk.put(&Path::new(DIR).join("holdfast.lock"), b"");
}

pub(crate) fn some_data(world: &mut World<'_>) {
    nothing(world);
    let fill = |world: &mut World<'_>| -> Step {
        world.boot()?;
        world.write(&["SET a 1", "SET b 2"])?;
        world.write(&["SELECT 2", "SET a two"])?;
        world.write(&[
            "RPUSH l 1 2 three 4",
            "SADD s 1 2 3 4",
            "ZADD z 1 a 2.5 b inf c",
            "HSET h f 1 g two",
            "PEXPIREAT h 4000000000000",
        ])?;
        world.stop()
    };
    fill(world).unwrap();
}

/// Collections: commands that log other ones, and some that log several.
fn some_changes_of_collections(world: &mut World<'_>) -> Step {
    world.write(&["LMOVE l m LEFT RIGHT", "SPOP s 2", "ZINCRBY z 0.5 a", "HINCRBYFLOAT h f 0.5"])?;
    world.write(&["BLMOVE l m RIGHT LEFT 0", "BLPOP none l 0", "BZPOPMIN none z 0", "ZMPOP 1 z MAX"])?;
    world.write(&["MULTI", "SPOP s", "RPUSH l again", "SORT l ALPHA STORE sorted", "ZADD z 7 x", "EXEC"])?;
    world.write(&["SUNIONSTORE u s none", "ZUNIONSTORE v 2 z u", "COPY h i", "LTRIM m 1 0", "HDEL h f g"])
}

/// Five turns: plain, transaction, deletion, expiry, another database.
fn some_writes(world: &mut World<'_>) -> Step {
    world.write(&["SET a 3", "DEL b"])?;
    world.write(&["MULTI", "SET b 4", "INCR n", "SELECT 9", "SET far away", "EXEC"])?;
    world.write(&["SET b 5", LATER])?;
    world.write(&["DEL a"])
}

pub(crate) fn appends() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "append",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.boot()?;
                some_writes(world)
            },
        },
        Scenario {
            name: "append collections",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.boot()?;
                some_changes_of_collections(world)
            },
        },
        Scenario {
            name: "append, synced now and then",
            strategy: "everysec",
            before: some_data,
            during: |world| {
                world.boot()?;
                world.write(&["SET a 3"])?;
                world.machine().journal.sync().map_err(|error| crate::world::Stopped(error.to_string()))?;
                world.write(&["SET c 3"])
            },
        },
        Scenario {
            name: "barrier and clean stop",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.boot()?;
                world.write(&["SET a 3"])?;
                world.barrier()?;
                world.write(&["SET a 4"])?;
                world.stop()?;
                world.boot()
            },
        },
    ]
}

pub(crate) fn first_starts() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "first start",
            strategy: "always",
            before: nothing,
            during: |world| {
                world.boot()?;
                world.write(&["SET a 1"])
            },
        },
        Scenario {
            name: "first start without a directory",
            strategy: "always",
            before: |world| world.disk.put(Path::new("/data/lost+found/x"), b""),
            during: |world| {
                world.boot()?;
                world.write(&["SET a 1"])
            },
        },
        Scenario {
            name: "first start in Kubernetes",
            strategy: "always",
            before: |world| {
                world.disk.put(Path::new("/data/lost+found/x"), b"");
                world.mount_record(&StoreRecord {
                    store_id: "b6f4a8f0-0000-4000-8000-000000000001".into(),
                    epoch: 0,
                    origin: Origin::Empty,
                    restore: None,
                });
            },
            during: |world| {
                world.boot()?;
                world.write(&["SET a 1"])
            },
        },
    ]
}

pub(crate) fn rotations() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "rotation with writes between",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.boot()?;
                world.write(&["SET a before"])?;
                let written = world.start_job(JobRequest::Rewrite)?;
                world.write(&["SET a between", "DEL b"])?;
                world.settle(written)?;
                world.write(&["SET a after"])
            },
        },
        Scenario {
            name: "rotation with changes of collections between",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.boot()?;
                let written = world.start_job(JobRequest::Rewrite)?;
                some_changes_of_collections(world)?;
                world.settle(written)?;
                world.write(&["RPUSH l after", "SADD s after", "ZADD z 1 after", "HSET h f after"])
            },
        },
        Scenario {
            name: "rotation given up by a stop, then again",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.boot()?;
                let _unsettled = world.start_job(JobRequest::Rewrite)?;
                world.write(&["SET a between"])?;
                world.stop()?;
                world.boot()?;
                world.write(&["DEL a"])?;
                world.job(JobRequest::Rewrite)?;
                Ok(())
            },
        },
        Scenario {
            name: "rotation under everysec",
            strategy: "everysec",
            before: some_data,
            during: |world| {
                world.boot()?;
                let written = world.start_job(JobRequest::Rewrite)?;
                world.write(&["SET a between"])?;
                world.settle(written)?;
                Ok(())
            },
        },
    ]
}

pub(crate) fn snapshots() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "snapshot beside the log",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.boot()?;
                let written = world.start_job(JobRequest::Save)?;
                world.write(&["SET a between"])?;
                world.settle(written)?;
                world.write(&["SET a after"])?;
                world.save()
            },
        },
        Scenario {
            name: "snapshot beside a log that is not synced",
            strategy: "no",
            before: some_data,
            during: |world| {
                world.boot()?;
                world.write(&["SET a before"])?;
                world.save()
            },
        },
        Scenario {
            name: "snapshots alone",
            strategy: "never",
            before: some_data,
            during: |world| {
                world.boot()?;
                world.write(&["SET a before"])?;
                world.job(JobRequest::Save)?;
                world.write(&["SET a after"])?;
                world.stop()?;
                world.boot()
            },
        },
    ]
}

pub(crate) fn changes_of_strategy() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "from a log to snapshots",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.start_as("never")?;
                world.write(&["SET a 3"])?;
                world.stop()
            },
        },
        Scenario {
            name: "from snapshots to a log",
            strategy: "never",
            before: some_data,
            during: |world| {
                world.start_as("always")?;
                world.write(&["SET a 3"])
            },
        },
        Scenario {
            name: "there and back",
            strategy: "always",
            before: |world| {
                some_data(world);
                world.start_as("never").unwrap();
                world.write(&["SET a 3"]).unwrap();
                world.stop().unwrap();
            },
            during: |world| {
                world.start_as("always")?;
                world.write(&["SET a 4"])?;
                world.restart_as("never")
            },
        },
        Scenario {
            name: "an older snapshot beside the log",
            strategy: "always",
            before: |world| {
                some_data(world);
                world.boot().unwrap();
                world.save().unwrap();
                world.write(&["SET a newer"]).unwrap();
                world.stop().unwrap();
            },
            during: |world| {
                world.start_as("never")?;
                world.write(&["SET a 3"])?;
                world.restart_as("always")
            },
        },
    ]
}

/// The log is switched on and off while the server runs.
pub(crate) fn switches() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "log switched on",
            strategy: "never",
            before: some_data,
            during: |world| {
                world.boot()?;
                world.write(&["SET a before"])?;
                let written = world.switch_log_on()?;
                world.write(&["SET a between", "DEL b"])?;
                world.write(&["MULTI", "INCR n", "SET b 4", "EXEC"])?;
                world.settle(written)?;
                world.log_is_on(true)?;
                world.write(&["SET a after"])?;
                world.job(JobRequest::Rewrite)?;
                world.write(&["SET a at-last"])
            },
        },
        Scenario {
            name: "log switched on, and not in the file",
            strategy: "never",
            before: some_data,
            during: |world| {
                world.boot()?;
                let written = world.switch_log_on()?;
                world.write(&["SET a between"])?;
                world.settle(written)?;
                world.log_is_on(false)?;
                world.write(&["SET a after"])?;
                world.stop()?;
                world.boot()?;
                world.write(&["SET a of-snapshots"])?;
                world.save()
            },
        },
        Scenario {
            name: "log that begins given up by a stop, then again",
            strategy: "never",
            before: some_data,
            during: |world| {
                world.boot()?;
                let _unsettled = world.switch_log_on()?;
                world.write(&["SET a between"])?;
                world.stop()?;
                world.boot()?;
                world.write(&["DEL a"])?;
                let written = world.switch_log_on()?;
                world.settle(written)?;
                world.log_is_on(true)?;
                world.write(&["SET a after"])
            },
        },
        Scenario {
            name: "log switched off",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.boot()?;
                world.write(&["SET a before"])?;
                world.switch_log_off()?;
                world.write(&["SET a between"])?;
                world.save()?;
                world.write(&["SET a after"])?;
                world.stop()?;
                world.start_as("always")?;
                world.write(&["SET a at-last"])
            },
        },
        Scenario {
            name: "log switched off and on again",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.boot()?;
                world.write(&["SET a before"])?;
                world.switch_log_off()?;
                world.write(&["SET a between"])?;
                let written = world.switch_log_on()?;
                world.write(&["SET a begun"])?;
                world.settle(written)?;
                world.log_is_on(true)?;
                world.write(&["SET a after"])
            },
        },
    ]
}

/// Cuts the newest segment in the middle of its last record.
fn tear(world: &mut World<'_>) {
    let segment = newest_segment(&world.disk);
    let contents = world.disk.contents(&segment).unwrap();
    world.disk.put(&segment, &contents[..contents.len() - 5]);
}

fn newest_segment(disk: &MemoryDisk) -> std::path::PathBuf {
    let files = disk.files();
    let newest = files.iter().rfind(|(path, _)| path.to_string_lossy().ends_with(".incr.aof"));
    newest.unwrap().0.clone()
}

/// Some data, with a last record that was being written when the machine went down.
fn torn_data(world: &mut World<'_>) {
    some_data(world);
    world.boot().unwrap();
    world.write(&["SET a never-acknowledged"]).unwrap();
    world.lose_power();
    tear(world);
    world.states.pop();
    world.acknowledged = world.states.len() - 1;
    world.durable = world.acknowledged;
}

pub(crate) fn torn_tails() -> Vec<Scenario> {
    let repair = |world: &mut World<'_>| -> Step {
        world.boot()?;
        world.write(&["SET a 3"])
    };
    vec![
        Scenario { name: "torn tail cut off", strategy: "always", before: torn_data, during: repair },
        Scenario {
            name: "torn tail kept aside, then cut off",
            strategy: "always",
            before: |world| {
                torn_data(world);
                let lines = "persist-before-sys-crash yes 0\n";
                assert!(keep_torn_tails(world), "{lines}");
            },
            during: repair,
        },
    ]
}

fn keep_torn_tails(world: &mut World<'_>) -> bool {
    use holdfast_server::persistence::directives::Event;
    let arguments = ["--persist-before-sys-crash", "yes"].map(std::ffi::OsString::from).to_vec();
    let holdfast_server::config::Invocation::Start(arguments) =
        holdfast_server::config::parse_arguments(arguments)
    else {
        return false;
    };
    world.config.persist = holdfast_server::config::load(&arguments).unwrap().persist;
    world.config.persist.points.before(Event::SysCrash).is_some()
}

pub(crate) fn takeovers() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a restored snapshot becomes a log",
            strategy: "never",
            before: some_data,
            during: |world| {
                world.start_as("everysec")?;
                world.write(&["SET a 3"])?;
                world.stop()
            },
        },
        Scenario {
            name: "our files without their identity",
            strategy: "always",
            before: |world| {
                some_data(world);
                world.disk.remove(&Path::new(DIR).join("holdfast-identity.json")).unwrap();
            },
            during: |world| {
                world.boot()?;
                world.write(&["SET a 3"])
            },
        },
        Scenario {
            name: "a volume snapshot of another Store",
            strategy: "always",
            before: |world| clone_of_some_data(world),
            during: |world| {
                world.boot()?;
                world.write(&["SET a 3"])
            },
        },
        Scenario {
            name: "a volume snapshot, without a log from now on",
            strategy: "always",
            before: |world| clone_of_some_data(world),
            during: |world| {
                world.start_as("never")?;
                world.write(&["SET a 3"])?;
                world.stop()
            },
        },
        Scenario {
            name: "a volume snapshot of snapshots",
            strategy: "never",
            before: |world| clone_of_some_data(world),
            during: |world| {
                world.start_as("always")?;
                world.write(&["SET a 3"])
            },
        },
    ]
}

/// The volume of a Store, cut under load a little after its barrier, and the record of a new Store made from it.
fn clone_of_some_data(world: &mut World<'_>) {
    let source = StoreRecord {
        store_id: "b6f4a8f0-0000-4000-8000-000000000001".into(),
        epoch: 1,
        origin: Origin::Empty,
        restore: None,
    };
    world.disk.put(Path::new("/data/lost+found/x"), b"");
    world.mount_record(&StoreRecord { epoch: 0, ..source.clone() });
    let fill = |world: &mut World<'_>| -> Step<u64> {
        world.boot()?;
        world.write(&["SET a 1", "SET b 2"])?;
        if !world.config.log {
            world.save()?;
        }
        let offset = world.barrier()?;
        if world.config.log {
            world.write(&["SET a after-the-barrier"])?;
        }
        Ok(offset)
    };
    let offset = fill(world).unwrap();
    world.lose_power();
    if world.config.log {
        world.states.pop();
    }
    world.acknowledged = world.states.len() - 1;
    world.durable = world.acknowledged;
    world.mount_record(&StoreRecord {
        store_id: "b6f4a8f0-0000-4000-8000-000000000002".into(),
        epoch: 0,
        origin: Origin::Clone { source_store_id: source.store_id, source_epoch: 1, source_offset: offset },
        restore: None,
    });
}

pub(crate) fn starts_after_one_that_was_cut_short() -> Vec<Scenario> {
    let during = |world: &mut World<'_>| -> Step {
        world.start_as("always")?;
        world.write(&["SET a 3"])?;
        world.write(&["SET c 4"])
    };
    vec![
        Scenario {
            name: "the log of another server",
            strategy: "always",
            before: |world| {
                nothing(world);
                let directory = Path::new(DIR).join("appendonlydir");
                let file = |name: &str, contents: &[u8]| world.disk.put(&directory.join(name), contents);
                file(
                    "appendonly.aof.manifest",
                    b"file appendonly.aof.1.base.aof seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n",
                );
                file("appendonly.aof.1.base.aof", b"");
                file("appendonly.aof.1.incr.aof", FOREIGN_COMMAND);
                look_at(world);
            },
            during,
        },
        Scenario {
            name: "a log that was being given up",
            strategy: "always",
            before: |world| {
                some_data(world);
                world.boot().unwrap();
                world.write(&["SET a 2"]).unwrap();
                world.lose_power();
                let retired = Path::new(DIR).join("appendonlydir/appendonly.aof.manifest.retired");
                cut_short(world, "never", |disk| disk.contents(&retired).is_some());
            },
            during,
        },
        Scenario {
            name: "data of another server that were being saved",
            strategy: "always",
            before: |world| {
                some_data(world);
                let segment = newest_segment(&world.disk);
                let mut contents = world.disk.contents(&segment).unwrap();
                contents.extend_from_slice(FOREIGN_COMMAND);
                world.disk.put(&segment, &contents);
                let snapshot = Path::new(DIR).join("dump.rdb");
                cut_short(world, "never", |disk| disk.contents(&snapshot).is_some());
                look_at(world);
            },
            during,
        },
    ]
}

/// What another server writes.
const FOREIGN_COMMAND: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$7\r\nforeign\r\n";

/// A start with another strategy, and a power cut in the first of its calls that leaves such a disk and an identity as it was.
fn cut_short(world: &mut World<'_>, strategy: &str, is_wanted: impl Fn(&MemoryDisk) -> bool) {
    let identity = Path::new(DIR).join("holdfast-identity.json");
    for call in 0.. {
        let mut again = world.on(copy_of(&world.disk));
        again.disk.crash_at(call);
        let result = again.start_as(strategy);
        assert!(again.disk.crashed(), "it never looks as wanted: {result:?}");
        again.lose_power();
        let disk = copy_of(&again.disk);
        if is_wanted(&disk) {
            assert_eq!(disk.contents(&identity), world.disk.contents(&identity));
            world.disk = disk;
            return;
        }
    }
}

/// Takes what a start finds as what must not be lost.
fn look_at(world: &mut World<'_>) {
    let mut looker = world.on(copy_of(&world.disk));
    looker.boot().unwrap();
    world.states = vec![(looker.found(), looker.machine().journal.offset())];
    (world.acknowledged, world.durable) = (0, 0);
}

/// Explores the scenarios, and fails with every state from which the server did not come back well.
pub(crate) fn run(scenarios: &[Scenario], log: Log) -> Count {
    let effort = Effort::from_environment(log);
    let mut total = Count::default();
    let mut failures = Vec::new();
    for scenario in scenarios {
        let started = std::time::Instant::now();
        match explore(scenario, log, effort) {
            Ok(count) => {
                say!("{:<40} {count:?} in {:?}", scenario.name, started.elapsed());
                total += count;
            }
            Err(error) => failures.push(error),
        }
    }
    say!("{:<40} {total:?}", "in all");
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
    total
}

#[test]
fn appending_to_the_log() {
    run(&appends(), Log::WithLines);
}

#[test]
fn the_first_start() {
    run(&first_starts(), Log::WithLines);
}

#[test]
fn rotating_the_log() {
    run(&rotations(), Log::WithLines);
}

/// A process is killed in the middle of a rotation, the next one writes on, and then the machine goes down.
#[test]
fn what_is_written_after_a_kill_in_a_rotation_survives_a_power_cut() {
    use holdfast_server::storage::memory::{UnsyncedBytes, UnsyncedNames};
    let wires = crate::world::Wires::new();
    let mut origin = World::new(&wires, MemoryDisk::new(), crate::world::config("always"));
    some_data(&mut origin);
    let copy = || origin.on(origin.disk.after_crash(UnsyncedBytes::Kept, UnsyncedNames::Kept));
    let rotate = |world: &mut World<'_>| -> Step {
        world.boot()?;
        world.write(&["SET a before"])?;
        world.job(JobRequest::Rewrite)?;
        Ok(())
    };
    let mut probe = copy();
    rotate(&mut probe).unwrap();
    for call in 0..probe.disk.calls() {
        let mut world = copy();
        world.disk.crash_at(call);
        let _ = rotate(&mut world);
        world.lose_power();
        world.disk = world.disk.after_restart();
        world.boot().unwrap();
        world.write(&["SET a after"]).unwrap();
        let expected = world.found();
        world.lose_power();
        world.disk = world.disk.after_crash(UnsyncedBytes::Forgotten, UnsyncedNames::Forgotten);
        let started = world.boot();
        assert!(started.is_ok(), "killed at call {call}, then a power cut: {started:?}");
        assert_eq!(world.found(), expected, "killed at call {call}, then a power cut");
        world.lose_power();
    }
}

#[test]
fn saving_the_snapshot() {
    run(&snapshots(), Log::WithLines);
}

#[test]
fn changing_the_strategy() {
    run(&changes_of_strategy(), Log::WithLines);
}

#[test]
fn switching_the_log_on_and_off() {
    run(&switches(), Log::WithLines);
}

#[test]
fn repairing_a_torn_tail() {
    run(&torn_tails(), Log::WithLines);
}

#[test]
fn starting_after_a_start_that_was_cut_short() {
    run(&starts_after_one_that_was_cut_short(), Log::WithLines);
}

#[test]
fn taking_over_a_directory() {
    run(&takeovers(), Log::WithLines);
}
