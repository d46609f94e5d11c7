//! Every bit of every file flipped, every file cut at every byte, and zeros in the place of every stretch: either the
//! server refuses, or it has the whole dataset, or it has lost the tail of the newest segment from the first damaged
//! record on, and that only where nothing says that the tail was ever durable.

use std::path::{Path, PathBuf};

use holdfast_server::executor::journal::JobRequest;
use holdfast_server::storage::memory::{MemoryDisk, UnsyncedBytes, UnsyncedNames};

use crate::world::{Step, Wires, World, config};

struct Kind {
    name: &'static str,
    strategy: &'static str,
    /// Leaves the disk, with the last record in a state of its own.
    before: fn(&mut World<'_>) -> Step,
    /// The end of the name of the file that is damaged; the newest of them.
    suffix: &'static str,
    /// The tail may be lost to damage that reaches into the last record.
    may_lose_tail: bool,
}

fn lived(world: &mut World<'_>) -> Step {
    world.boot()?;
    world.write(&["SET a 1", "SET b 2"])?;
    world.write(&["MULTI", "SET a 3", "DEL b", "EXEC"])?;
    world.write(&["SET c binary", "PEXPIREAT c 4000000000000"])
}

pub(crate) fn killed(world: &mut World<'_>) -> Step {
    lived(world)?;
    world.lose_power();
    Ok(())
}

pub(crate) fn stopped(world: &mut World<'_>) -> Step {
    lived(world)?;
    world.stop()
}

/// Two segments with records, and a base with keys.
fn rotated(world: &mut World<'_>) -> Step {
    lived(world)?;
    world.job(JobRequest::Rewrite)?;
    world.write(&["SET a 4"])?;
    let _unsettled = world.start_job(JobRequest::Rewrite)?;
    world.write(&["SET a 5"])?;
    world.lose_power();
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(usize),
    Cut(usize),
    Zeros(usize, usize),
}

impl Damage {
    fn all(len: usize) -> impl Iterator<Item = Self> {
        let zeros = [1, 16, 64].into_iter().flat_map(move |width| {
            (0..len).step_by(width.max(7)).map(move |at| Self::Zeros(at, (at + width).min(len)))
        });
        (0..len * 8).map(Self::Flip).chain((0..len).map(Self::Cut)).chain(zeros)
    }

    fn apply(self, contents: &[u8]) -> Vec<u8> {
        let mut damaged = contents.to_vec();
        match self {
            Self::Flip(bit) => damaged[bit / 8] ^= 1 << (bit % 8),
            Self::Cut(len) => damaged.truncate(len),
            Self::Zeros(from, to) => damaged[from..to].fill(0),
        }
        damaged
    }

    /// The bytes that are not what they were.
    fn span(self, len: usize) -> std::ops::Range<usize> {
        match self {
            Self::Flip(bit) => bit / 8..bit / 8 + 1,
            Self::Cut(at) => at..len,
            Self::Zeros(from, to) => from..to,
        }
    }
}

fn check(kind: &Kind) -> [u64; 4] {
    let wires = Wires::new();
    let disk = MemoryDisk::new();
    disk.put(Path::new("/data/store/holdfast.lock"), b"");
    let mut origin = World::new(&wires, disk, config(kind.strategy));
    (kind.before)(&mut origin).unwrap();
    let files = origin.disk.files();
    let (path, contents): &(PathBuf, Vec<u8>) = files
        .iter()
        .rfind(|(path, _)| path.to_string_lossy().ends_with(kind.suffix))
        .expect("the file is there");
    let frames: Vec<usize> = (0..contents.len()).filter(|at| contents[*at..].starts_with(b"#HF1 ")).collect();
    let whole = origin.states.len() - 1;
    let [mut tried, mut refused, mut harmless, mut cut] = [0; 4];
    for damage in Damage::all(contents.len()) {
        let damaged = damage.apply(contents);
        if damaged == *contents {
            continue;
        }
        tried += 1;
        let mut world = origin.on(origin.disk.after_crash(UnsyncedBytes::Kept, UnsyncedNames::Kept));
        world.disk.put(path, &damaged);
        let before = world.disk.files();
        let place = format!("{}: {damage:?} of {} bytes of {path:?}", kind.name, contents.len());
        match world.boot() {
            Err(error) => {
                refused += 1;
                assert!(
                    error.0.contains(&*path.to_string_lossy()),
                    "{place}: the file is not named: {}",
                    error.0
                );
                assert!(world.disk.files() == before, "{place}: refused, and changed the disk");
            }
            Ok(()) => {
                let found = world.found();
                if found == world.states[whole].0 {
                    harmless += 1;
                } else {
                    // Damage that reaches into the last record is a torn tail, from the first record that it touches.
                    let span = damage.span(contents.len());
                    let kept = frames.partition_point(|frame| *frame <= span.start).saturating_sub(1);
                    let state = whole + kept - frames.len();
                    let is_tail = frames.last().is_some_and(|last| span.end > *last);
                    assert!(
                        kind.may_lose_tail && is_tail && found == world.states[state].0,
                        "{place}: a shorter dataset: {found:?}"
                    );
                    cut += 1;
                }
            }
        }
        world.lose_power();
    }
    say!("{:<48} {tried:>6} damages: {refused} refused, {cut} tails cut, {harmless} harmless", kind.name);
    [tried, refused, harmless, cut]
}

#[test]
fn damage_is_refused_and_never_a_silently_shorter_dataset() {
    let kinds = [
        Kind {
            name: "newest segment, killed",
            strategy: "always",
            before: killed,
            suffix: ".incr.aof",
            may_lose_tail: true,
        },
        Kind {
            name: "newest segment, cleanly stopped",
            strategy: "always",
            before: stopped,
            suffix: ".incr.aof",
            may_lose_tail: false,
        },
        Kind {
            name: "segment that is not the newest",
            strategy: "always",
            before: rotated,
            suffix: ".2.incr.aof",
            may_lose_tail: false,
        },
        Kind { name: "base", strategy: "always", before: rotated, suffix: ".base.rdb", may_lose_tail: false },
        Kind {
            name: "manifest",
            strategy: "always",
            before: rotated,
            suffix: ".manifest",
            may_lose_tail: false,
        },
        Kind {
            name: "identity",
            strategy: "always",
            before: rotated,
            suffix: "-identity.json",
            may_lose_tail: false,
        },
        Kind {
            name: "snapshot",
            strategy: "never",
            before: stopped,
            suffix: "dump.rdb",
            may_lose_tail: false,
        },
    ];
    let mut total = [0; 4];
    for kind in &kinds {
        for (sum, count) in total.iter_mut().zip(check(kind)) {
            *sum += count;
        }
    }
    say!("{total:?} damages in all: tried, refused, harmless, tail cut");
}
