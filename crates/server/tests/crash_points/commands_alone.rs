//! A log without our lines (`aof-annotations no`): the same protocols, and a change of the form at a start.
//!
//! What differs is said in docs/durability.md, "A log without our lines": of the last turn, which nobody was told of, any
//! number of whole commands may be left, a transaction always whole; and zeros at the end of a segment are refused.

use std::path::Path;

use holdfast_server::storage::memory::{MemoryDisk, UnsyncedBytes, UnsyncedNames};

use crate::corruption::{killed, stopped};
use crate::explore::Scenario;
use crate::scenarios::{
    appends, changes_of_strategy, first_starts, rotations, run, snapshots, some_data, switches, takeovers,
    torn_tails,
};
use crate::world::{DIR, Log, Step, Wires, World, config};

#[test]
fn a_log_of_commands_alone_keeps_what_was_acknowledged() {
    let scenarios = [
        appends(),
        first_starts(),
        rotations(),
        snapshots(),
        changes_of_strategy(),
        switches(),
        torn_tails(),
        takeovers(),
    ];
    let count = run(&scenarios.into_iter().flatten().collect::<Vec<_>>(), Log::CommandsAlone);
    assert!(count.refused > 0, "no disk had zeros at the end of its log: the test has lost its aim");
}

#[test]
fn changing_the_form_of_the_log() {
    let count = run(
        &[Scenario {
            name: "our lines are given up",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.set_log(Log::CommandsAlone);
                world.boot()?;
                world.write(&["SET a 3", "SELECT 4", "SET b 4"])
            },
        }],
        Log::WithLines,
    );
    assert!(count.refused > 0, "no disk had zeros at the end of its log: the test has lost its aim");
    run(
        &[Scenario {
            name: "our lines come back",
            strategy: "always",
            before: some_data,
            during: |world| {
                world.set_log(Log::WithLines);
                world.boot()?;
                world.write(&["SET a 3", "SELECT 4", "SET b 4"])
            },
        }],
        Log::CommandsAlone,
    );
}

/// Cuts the only segment of a life at each of its bytes, and hands the world to `check` with the number of bytes left.
fn at_each_cut(life: fn(&mut World<'_>) -> Step, check: impl Fn(&mut World<'_>, u64)) {
    let wires = Wires::new();
    let disk = MemoryDisk::new();
    disk.put(&Path::new(DIR).join("holdfast.lock"), b"");
    let mut origin = World::new(&wires, disk, config("always"));
    origin.set_log(Log::CommandsAlone);
    life(&mut origin).unwrap();
    let files = origin.disk.files();
    let (path, contents) =
        files.iter().find(|(path, _)| path.to_string_lossy().ends_with(".incr.aof")).unwrap();
    // Of a new Store, whose stream begins at 0, every byte of the first segment is one of the stream.
    assert_eq!(contents.len() as u64, origin.states.last().unwrap().1);
    for len in 0..contents.len() {
        let mut world = origin.on(origin.disk.after_crash(UnsyncedBytes::Kept, UnsyncedNames::Kept));
        world.disk.put(path, &contents[..len]);
        check(&mut world, len as u64);
    }
}

#[test]
fn a_cut_at_every_byte_leaves_whole_commands_and_no_half_of_a_transaction() {
    at_each_cut(killed, |world, len| {
        world.boot().unwrap();
        let found = (world.found(), world.machine().journal.offset());
        let whole = world.states.iter().rfind(|(_, offset)| *offset <= len).unwrap();
        assert_eq!(found, *whole, "cut at byte {len}");
    });
    at_each_cut(stopped, |world, len| {
        let before = world.disk.files();
        assert!(world.boot().is_err(), "cut at byte {len}: a clean stop knows how long the log was");
        assert!(world.disk.files() == before, "cut at byte {len}: refused, and changed the disk");
    });
}
