//! Walks through the disks that a machine may find after a power cut, and judges what the server makes of them.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use holdfast_server::storage::memory::{MemoryDisk, UnsyncedBytes, UnsyncedNames};

use crate::world::{Log, Step, Wires, World};

/// One protocol: where it starts from, and what is done while power may fail.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) strategy: &'static str,
    /// Leaves a disk and no running server.
    pub(crate) before: fn(&mut World<'_>),
    /// From the start of the server to the end of the protocol.
    pub(crate) during: fn(&mut World<'_>) -> Step,
}

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Power cuts in recoveries in a row.
    pub(crate) depth: u32,
    /// One of so many disks has its recovery cut short as well.
    pub(crate) share: u64,
}

impl Effort {
    /// Recovery differs little between the forms of the log, so one is looked at more closely.
    pub(crate) fn from_environment(log: Log) -> Self {
        let share = if log == Log::WithLines { 61 } else { 241 };
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
        Self {
            depth: number("HOLDFAST_CRASH_DEPTH").map_or(1, |depth| u32::try_from(depth).unwrap()),
            share: number("HOLDFAST_CRASH_SHARE").unwrap_or(share).max(1),
        }
    }
}

/// What has been looked at.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Count {
    /// Calls in the middle of which power failed, at the first level.
    pub(crate) crash_points: u64,
    /// States of the disk after a power cut, at all levels.
    pub(crate) states: u64,
    /// Those that differ from each other.
    pub(crate) distinct: u64,
    /// Those of them that came from a power cut during recovery.
    pub(crate) nested: u64,
    /// Those that the server refused, as it says that it does, and took after the damage was cut off.
    pub(crate) refused: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.crash_points += other.crash_points;
        self.states += other.states;
        self.distinct += other.distinct;
        self.nested += other.nested;
        self.refused += other.refused;
    }
}

struct Explorer<'s> {
    scenario: &'s Scenario,
    effort: Effort,
    count: Count,
    failures: Vec<String>,
}

const FAILURES_SHOWN: usize = 3;

/// Explores one protocol to its end; the error names every state from which the server did not come back well.
pub(crate) fn explore(scenario: &Scenario, log: Log, effort: Effort) -> Result<Count, String> {
    let wires = Wires::new();
    let mut origin = World::new(&wires, MemoryDisk::new(), crate::world::config(scenario.strategy));
    origin.set_log(log);
    (scenario.before)(&mut origin);
    assert!(origin.machine.is_none(), "{}: it starts from a disk", scenario.name);
    let copy = || origin.on(origin.disk.after_crash(UnsyncedBytes::Kept, UnsyncedNames::Kept));

    let mut probe = copy();
    (scenario.during)(&mut probe).unwrap_or_else(|error| panic!("{}: {}", scenario.name, error.0));
    let calls = probe.disk.calls();
    drop(probe);

    let mut explorer = Explorer { scenario, effort, count: Count::default(), failures: Vec::new() };
    for call in 0..calls {
        let mut world = copy();
        world.disk.crash_at(call);
        let result = (scenario.during)(&mut world);
        assert!(world.disk.crashed(), "{}: call {call} of {calls} never came: {result:?}", scenario.name);
        world.lose_power();
        explorer.count.crash_points += 1;
        explorer.killed(&world);
        explorer.after_power_cut(&world, &world.disk.clone(), effort.depth, &format!("call {call}"));
        if explorer.failures.len() >= FAILURES_SHOWN {
            break;
        }
    }
    if explorer.failures.is_empty() { Ok(explorer.count) } else { Err(explorer.failures.join("\n")) }
}

fn fingerprint(disk: &MemoryDisk) -> u64 {
    let mut hasher = DefaultHasher::new();
    disk.files().hash(&mut hasher);
    hasher.finish()
}

fn fates_of_names(unsynced: usize) -> Vec<UnsyncedNames> {
    let mut fates = vec![UnsyncedNames::Forgotten, UnsyncedNames::Kept];
    if unsynced > 1 {
        fates.extend((0..unsynced).flat_map(|at| [UnsyncedNames::Only(at), UnsyncedNames::AllBut(at)]));
    }
    fates
}

impl Explorer<'_> {
    /// The process died in the middle of the call, and the machine lives on.
    fn killed(&mut self, world: &World<'_>) {
        let mut alive = world.on(world.disk.after_restart());
        if alive.config.log {
            alive.durable = alive.acknowledged;
        }
        self.count.states += 1;
        if let Err(error) = come_back(&mut alive, "killed") {
            self.fail(&error, "killed", &world.disk);
        }
    }

    fn after_power_cut(&mut self, world: &World<'_>, disk: &MemoryDisk, depth: u32, place: &str) {
        let mut seen = HashSet::new();
        for names in fates_of_names(disk.unsynced_names()) {
            for bytes in UnsyncedBytes::ALL {
                self.count.states += 1;
                let mut after = disk.after_crash(bytes, names);
                if !seen.insert(fingerprint(&after)) {
                    continue;
                }
                self.count.distinct += 1;
                let place = format!("{place}, bytes {bytes:?}, names {names:?}");
                let has_zeros = matches!(bytes, UnsyncedBytes::Zeroed | UnsyncedBytes::Holed);
                let mut is_refused = false;
                if world.has_commands_alone() && has_zeros {
                    match cut_zeros_off(world, &after) {
                        Ok(Some(cut)) => {
                            after = cut;
                            is_refused = true;
                        }
                        Ok(None) => {}
                        Err(error) => {
                            self.fail(&error, &place, disk);
                            return;
                        }
                    }
                }
                self.count.refused += u64::from(is_refused);
                let mut survivor = world.on(copy_of(&after));
                if let Err(error) = come_back(&mut survivor, &place) {
                    self.fail(&error, &place, disk);
                    return;
                }
                if depth > 0 && self.count.distinct.is_multiple_of(self.effort.share) {
                    self.crash_in_recovery(world, &after, depth - 1, &place);
                }
            }
        }
    }

    fn crash_in_recovery(&mut self, world: &World<'_>, disk: &MemoryDisk, depth: u32, place: &str) {
        let before = self.count.states;
        for call in 0.. {
            let mut again = world.on(copy_of(disk));
            again.disk.crash_at(call);
            let result = again.boot();
            if !again.disk.crashed() {
                break;
            }
            drop(result);
            again.lose_power();
            self.after_power_cut(
                &again,
                &again.disk.clone(),
                depth,
                &format!("{place}; recovery call {call}"),
            );
            if !self.failures.is_empty() {
                break;
            }
        }
        self.count.nested += self.count.states - before;
    }

    fn fail(&mut self, error: &str, place: &str, disk: &MemoryDisk) {
        let trace = disk.trace();
        let last = trace[trace.len().saturating_sub(6)..].join(" | ");
        self.failures.push(format!("{} at {place}: {error}\n    last calls: {last}", self.scenario.name));
    }
}

/// The same disk, with everything synced.
pub(crate) fn copy_of(disk: &MemoryDisk) -> MemoryDisk {
    disk.after_crash(UnsyncedBytes::Kept, UnsyncedNames::Kept)
}

/// A log of commands alone that ends in zeros: no reader can tell them from damage, so the server refuses them where
/// they begin and changes nothing. Returns the disk with the segment cut there by a person; none when the server does not
/// refuse.
fn cut_zeros_off(world: &World<'_>, disk: &MemoryDisk) -> Result<Option<MemoryDisk>, String> {
    let mut refusing = world.on(copy_of(disk));
    let Err(error) = refusing.boot() else { return Ok(None) };
    let unexpected = || format!("the server does not start: {}", error.0);
    if refusing.disk.files() != disk.files() {
        return Err(format!("it refused, and changed the disk: {}", error.0));
    }
    let (_, rest) = error.0.split_once("the append only file, at byte ").ok_or_else(unexpected)?;
    let position: usize = rest.split(':').next().and_then(|text| text.parse().ok()).ok_or_else(unexpected)?;
    let files = disk.files();
    let is_named = |path: &std::path::Path| error.0.contains(&*path.to_string_lossy());
    let (path, contents) = files
        .iter()
        .find(|(path, _)| path.to_string_lossy().ends_with(".incr.aof") && is_named(path))
        .ok_or_else(unexpected)?;
    if contents.get(position) != Some(&0) {
        return Err(unexpected());
    }
    let cut = copy_of(disk);
    cut.put(path, &contents[..position]);
    Ok(Some(cut))
}

/// Starts, compares, loses power again, compares, writes, stops, starts, compares.
pub(crate) fn come_back(world: &mut World<'_>, place: &str) -> Result<(), String> {
    world.boot().map_err(|error| format!("the server does not start: {}", error.0))?;
    let index = judge(world)?;
    world.states.truncate(index + 1);
    world.acknowledged = index;
    // Clients have seen it.
    world.durable = index;
    world.lose_power();
    world.disk = world.disk.after_crash(UnsyncedBytes::Forgotten, UnsyncedNames::Forgotten);
    world
        .boot()
        .map_err(|error| format!("the server does not start after another power cut: {}", error.0))?;
    judge(world).map_err(|error| format!("after another power cut: {error}"))?;
    let marker = format!("SET marker {}", place.len());
    let goes_on = (|| -> Step {
        world.write(&[&marker, "SELECT 3", "SET marker 3"])?;
        world.stop()?;
        world.boot()
    })();
    goes_on.map_err(|error| format!("it does not go on: {}", error.0))?;
    world.durable = world.states.len() - 1;
    judge(world).map_err(|error| format!("after a write, a clean stop and a start: {error}"))?;
    world.lose_power();
    Ok(())
}

/// Which of the states that may be there is there.
fn judge(world: &mut World<'_>) -> Result<usize, String> {
    let found = world.found();
    let offset = world.machine().journal.offset();
    let (durable, last) = (world.durable, world.states.len() - 1);
    let fits = |index: &usize| {
        let (state, state_offset) = &world.states[*index];
        *state == found && *state_offset == offset
    };
    if let Some(index) = (durable..=last).rev().find(fits) {
        return Ok(index);
    }
    let known = (0..=last).rev().find(|index| world.states[*index].0 == found);
    Err(match known {
        Some(index) => {
            format!(
                "the dataset at offset {offset} is that of batch {index} (offset {}), and those from {durable} to {last} may \
                 be there",
                world.states[index].1
            )
        }
        None => format!("a dataset that never was, at offset {offset}: {}", show(&found)),
    })
}

fn show(dataset: &crate::world::Dataset) -> String {
    let keys = dataset.iter().map(|((db, key), (value, until))| {
        format!("{db}:{}={}@{until:?}", key.escape_ascii(), value.escape_ascii())
    });
    keys.collect::<Vec<_>>().join(" ")
}
