//! A control group with little memory: the kernel kills the processes in it when they need more.
//!
//! Both versions of control groups work. The group is made below that of the test, so that the limits above it stay.

#![expect(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the files of one version of control groups have their names.
struct Version {
    limit: &'static str,
    /// The limit of swap; absent without swap accounting.
    swap: &'static str,
    /// That limit is one of memory and swap together.
    swap_has_memory: bool,
    /// Has a line `oom_kill N`.
    kills: &'static str,
}

const FIRST: Version = Version {
    limit: "memory.limit_in_bytes",
    swap: "memory.memsw.limit_in_bytes",
    swap_has_memory: true,
    kills: "memory.oom_control",
};
const SECOND: Version =
    Version { limit: "memory.max", swap: "memory.swap.max", swap_has_memory: false, kills: "memory.events" };

/// Removed when dropped; the processes in it must have ended by then.
pub(crate) struct MemoryGroup {
    dir: PathBuf,
    version: &'static Version,
}

impl MemoryGroup {
    /// A group whose processes may have `limit` bytes together, and no swap; the error says what this machine lacks.
    pub(crate) fn create(name: &str, limit: u64) -> Result<Self, String> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let (version, parent) = if let Some(mount) = find_mount(&mounts, "cgroup", "memory") {
            (
                &FIRST,
                mount
                    .own_dir(own_path(&own, |controllers| controllers.split(',').any(|it| it == "memory")))?,
            )
        } else if let Some(mount) = find_mount(&mounts, "cgroup2", "") {
            let own = mount.own_dir(own_path(&own, str::is_empty))?;
            (&SECOND, with_memory(&own, &mount.point)?)
        } else {
            return Err("no control groups with a memory controller are mounted".to_owned());
        };
        let dir = parent.join(format!("holdfast-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir)
            .map_err(|error| format!("control group {dir:?} cannot be made: {error}"))?;
        let group = Self { dir, version };
        group.set_limit(limit)?;
        Ok(group)
    }

    /// Sets the limit of memory, without swap.
    pub(crate) fn set_limit(&self, limit: u64) -> Result<(), String> {
        let write = |name: &str, value: u64| {
            let path = self.dir.join(name);
            std::fs::write(&path, value.to_string())
                .map_err(|error| format!("{path:?} cannot be set: {error}"))
        };
        // Order matters: a limit of both is never below that of memory.
        write(self.version.limit, limit)?;
        let has_swap = self.dir.join(self.version.swap).exists();
        if has_swap {
            write(self.version.swap, if self.version.swap_has_memory { limit } else { 0 })
        } else {
            Ok(())
        }
    }

    /// A process joins the group by writing its id here.
    pub(crate) fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    /// Processes that the kernel has killed for want of memory.
    pub(crate) fn kills(&self) -> u64 {
        let text = std::fs::read_to_string(self.dir.join(self.version.kills)).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap_or_else(|| panic!("no oom_kill in {text:?}")).trim().parse().unwrap()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // A process that has just ended counts for a moment.
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = std::fs::remove_dir(&self.dir) {
            if Instant::now() > deadline {
                eprintln!("control group {:?} stays: {error}", self.dir);
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

struct Mount {
    /// Path of the group that is mounted.
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    fn own_dir(&self, own: Option<&str>) -> Result<PathBuf, String> {
        let own = own.ok_or("/proc/self/cgroup does not say where this process is")?;
        match Path::new(own).strip_prefix(&self.root) {
            Ok(below) => Ok(self.point.join(below)),
            Err(_) => Err(format!(
                "group {own:?} of this process is outside of what is mounted at {:?}",
                self.point
            )),
        }
    }
}

/// The mount of a file system whose own options have `option`.
fn find_mount(mounts: &str, kind: &str, option: &str) -> Option<Mount> {
    mounts.lines().find_map(|line| {
        let (place, device) = line.split_once(" - ")?;
        let mut device = device.split(' ');
        let is_kind = device.next() == Some(kind);
        let has_option = option.is_empty() || device.nth(1)?.split(',').any(|it| it == option);
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?.into(), place.next()?.into());
        (is_kind && has_option).then_some(Mount { root, point })
    })
}

/// The group of this process in the hierarchy with these controllers.
fn own_path(groups: &str, controllers: impl Fn(&str) -> bool) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        controllers(names).then_some(path)
    })
}

/// Version 2: the nearest group, from `own` up to `top`, that hands the memory controller on to groups below it. One
/// with processes does so only at the very top.
fn with_memory(own: &Path, top: &Path) -> Result<PathBuf, String> {
    let mut refusals = Vec::new();
    for group in own.ancestors().take_while(|group| group.starts_with(top)) {
        match hand_on_memory(group) {
            Ok(()) => return Ok(group.to_path_buf()),
            Err(error) => refusals.push(format!("{group:?}: {error}")),
        }
    }
    Err(format!("no control group hands the memory controller on: {}", refusals.join("; ")))
}

fn hand_on_memory(group: &Path) -> io::Result<()> {
    let path = group.join("cgroup.subtree_control");
    let has_memory = |text: String| text.split_whitespace().any(|it| it == "memory");
    if has_memory(std::fs::read_to_string(&path)?) { Ok(()) } else { std::fs::write(&path, "+memory") }
}
