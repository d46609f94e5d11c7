//! A call that fails, at every call of a life of a server and of its next start: with an I/O error or a full disk, once or
//! from then on.
//!
//! After a failed write or sync of the log nothing is acknowledged any more. Whoever starts on the disk then, at once or
//! after a power cut, finds everything that was acknowledged; and so it stays when bytes of a failed sync never reach
//! the disk although they can be read.

use std::io::ErrorKind;

use holdfast_server::executor::journal::JobRequest;
use holdfast_server::persistence::distrust::distrust;
use holdfast_server::storage::memory::{Fault, MemoryDisk, UnsyncedBytes, UnsyncedNames};

use crate::explore::come_back;
use crate::world::{Step, Stopped, Wires, World, config};

/// A life with every kind of write.
fn live(world: &mut World<'_>) -> Step {
    world.write(&["SET a 1", "SET b 2"])?;
    let written = world.start_job(JobRequest::Rewrite);
    world.write(&["SET a 3", "DEL b"])?;
    match written {
        Ok(written) => {
            world.settle(written)?;
        }
        Err(refused) => world.machine_goes_on(refused)?,
    }
    world.write(&["MULTI", "SET b 4", "INCR n", "EXEC"])?;
    let saved = world.job(JobRequest::Save);
    if let Err(refused) = saved {
        world.machine_goes_on(refused)?;
    }
    world.write(&["SET c 5"])?;
    world.stop()
}

/// A life in which the log is switched off, and on again.
fn switch(world: &mut World<'_>) -> Step {
    world.write(&["SET a 1", "SET b 2"])?;
    world.switch_log_off()?;
    world.write(&["SET a 3", "DEL b"])?;
    let written = world.switch_log_on();
    world.write(&["MULTI", "SET b 4", "INCR n", "EXEC"])?;
    if world.settle(written?)? {
        world.log_is_on(true)?;
    }
    world.write(&["SET c 5"])?;
    world.stop()
}

impl World<'_> {
    /// A job that failed leaves a server that goes on; one whose journal failed does not, and the next write says so.
    fn machine_goes_on(&mut self, refused: Stopped) -> Step {
        let acknowledged = self.acknowledged;
        self.write(&["SET after-a-job 1"])
            .map_err(|error| Stopped(format!("{}; before: {}", error.0, refused.0)))?;
        assert!(self.acknowledged > acknowledged);
        Ok(())
    }
}

struct Checked {
    faults: u64,
    states: u64,
}

fn check(strategy: &str, life: fn(&mut World<'_>) -> Step, kind: ErrorKind, forever: bool) -> Checked {
    let wires = Wires::new();
    let mut checked = Checked { faults: 0, states: 0 };
    for call in 0.. {
        let disk = MemoryDisk::new();
        disk.put(std::path::Path::new("/data/store/holdfast.lock"), b"");
        let mut world = World::new(&wires, disk, config(strategy));
        world.boot().unwrap();
        world.write(&["SET z 0"]).unwrap();
        let calls = world.disk.calls();
        world.disk.inject(Some(Fault { call: calls + call, kind, forever }));
        let place = format!("{strategy}: {kind:?} at call {call}, forever {forever}");
        let result = life(&mut world);
        if world.disk.calls() <= calls + call {
            assert!(result.is_ok(), "{place}: {result:?}");
            return checked;
        }
        checked.faults += 1;
        if let Err(error) = &result
            && world.machine.is_some()
        {
            world.disk.inject(None);
            let acknowledged = world.acknowledged;
            let again = world.write(&["SET too-late 1"]);
            // A failed save at the stop leaves a server that goes on.
            if again.is_ok() {
                assert!(!error.0.contains("any more"), "{place}: acknowledged after {}", error.0);
            } else {
                assert_eq!(world.acknowledged, acknowledged);
                assert!(world.write(&["SET too-late 2"]).is_err(), "{place}: it acknowledges again");
            }
            let has_failed = again.is_err();
            world.lose_power();
            if has_failed {
                distrust(&world.disk, &world.config.dir);
            }
        }
        world.lose_power();
        survives(&world, &place, &UnsyncedBytes::ALL, &mut checked.states);
    }
    checked
}

/// A killed process may leave several frames unsynced, and a hole with a whole frame behind it is refused: it looks like
/// damage of what was durable.
const FATES: [UnsyncedBytes; 5] = [
    UnsyncedBytes::Forgotten,
    UnsyncedBytes::Kept,
    UnsyncedBytes::Half,
    UnsyncedBytes::Prefix(usize::MAX),
    UnsyncedBytes::Zeroed,
];

/// How a process ends that leaves bytes in the cache: killed in a call, or in the middle of an append to the log.
#[derive(Debug, Clone, Copy)]
enum End {
    Killed,
    Torn,
}

/// What a process has left that ended at the `number`-th place where it could; none when there are fewer.
fn ended<'w>(wires: &'w Wires, strategy: &str, end: End, number: u64) -> Option<World<'w>> {
    let begin = || {
        let disk = MemoryDisk::new();
        disk.put(std::path::Path::new("/data/store/holdfast.lock"), b"");
        let mut world = World::new(wires, disk, config(strategy));
        world.boot().unwrap();
        world.write(&["SET z 0"]).unwrap();
        world
    };
    let mut world = begin();
    let first = world.disk.calls();
    match end {
        End::Killed => {
            world.disk.crash_at(first + number);
            if live(&mut world).is_ok() {
                return None;
            }
        }
        End::Torn => {
            live(&mut world).unwrap();
            let is_append = |call: &String| call.contains(" append ") && call.ends_with(".incr.aof");
            let mut appends =
                world.disk.trace().into_iter().skip(usize::try_from(first).unwrap()).filter(is_append);
            let append = appends.nth(usize::try_from(number).unwrap())?;
            let call = append.split(' ').next().unwrap().parse().unwrap();
            world = begin();
            world.disk.inject(Some(Fault { call, kind: ErrorKind::Other, forever: false }));
            let _ = live(&mut world);
        }
    }
    world.lose_power();
    Some(world)
}

/// A start that fails, at each of its calls, on what a process has left in the cache.
fn check_starts(strategy: &str, kind: ErrorKind, end: End, number: u64) -> Option<Checked> {
    let wires = Wires::new();
    let killed = ended(&wires, strategy, end, number)?;
    let mut checked = Checked { faults: 0, states: 0 };
    for call in 0.. {
        let place = format!("{strategy}: {end:?} {number}, {kind:?} at call {call} of the start");
        let mut world = killed.on(killed.disk.after_restart());
        world.disk.inject(Some(Fault { call, kind, forever: false }));
        let started = world.boot();
        if world.disk.calls() <= call {
            assert!(started.is_ok(), "{place}: {started:?}");
            break;
        }
        checked.faults += 1;
        if started.is_ok() {
            world.note_durable();
        }
        world.lose_power();
        survives(&world, &place, &FATES, &mut checked.states);
    }
    Some(checked)
}

/// The next start finds what was acknowledged: on the machine that is still up, and after power cuts before and after.
fn survives(world: &World<'_>, place: &str, fates: &[UnsyncedBytes], states: &mut u64) {
    let trace = || world.disk.trace()[world.disk.trace().len().saturating_sub(8)..].join(" | ");
    let mut alive = world.on(world.disk.after_restart());
    if alive.config.log {
        alive.durable = alive.acknowledged;
    }
    *states += 1;
    if let Err(error) = come_back(&mut alive, place) {
        panic!("{place}, started again: {error}\n    last calls: {}", trace());
    }
    for names in [UnsyncedNames::Forgotten, UnsyncedNames::Kept] {
        for &bytes in fates {
            *states += 1;
            let mut survivor = world.on(world.disk.after_crash(bytes, names));
            if let Err(error) = come_back(&mut survivor, place) {
                panic!(
                    "{place}, after a power cut, bytes {bytes:?}, names {names:?}: {error}\n    {}",
                    trace()
                );
            }
        }
    }
}

#[test]
fn nothing_is_acknowledged_after_a_failed_write_or_sync_and_nothing_acknowledged_is_lost() {
    let (mut faults, mut states) = (0, 0);
    for strategy in ["always", "everysec", "never"] {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            for forever in [false, true] {
                let checked = check(strategy, live, kind, forever);
                faults += checked.faults;
                states += checked.states;
            }
        }
    }
    say!("{faults} failing calls, {states} disks started from");
}

#[test]
fn a_switch_of_the_log_that_fails_leaves_what_was_there_before() {
    let (mut faults, mut states) = (0, 0);
    for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
        for forever in [false, true] {
            let checked = check("always", switch, kind, forever);
            faults += checked.faults;
            states += checked.states;
        }
    }
    say!("{faults} failing calls, {states} disks started from");
}

/// A sync that fails at a start leaves bytes that every later start reads, and that a power cut takes: none of them may be
/// called durable before it is written again.
#[test]
fn a_start_that_failed_leaves_nothing_that_is_called_durable_and_is_not() {
    let (mut faults, mut states) = (0, 0);
    for strategy in ["always", "everysec", "never"] {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            for (end, step) in [(End::Killed, 5), (End::Torn, 1)] {
                for number in (0..).step_by(step) {
                    let Some(checked) = check_starts(strategy, kind, end, number) else { break };
                    faults += checked.faults;
                    states += checked.states;
                }
            }
        }
    }
    say!("{faults} failing calls of starts, {states} disks started from");
}
