//! How much memory the process may use: what its control group allows, or what the machine has.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted. Source: cgroups(7).
const MOUNT: &str = "/sys/fs/cgroup";

/// Bytes that the process may use: the lowest limit of its control group and those above it, of either version, and the
/// memory of the machine. 0 if nothing tells.
pub(crate) fn available() -> u64 {
    let read = |path: &Path| fs::read_to_string(path).ok();
    available_from(&read)
}

/// Memory of the machine in bytes; 0 if nothing tells.
pub(crate) fn of_machine() -> u64 {
    machine_memory(&|path: &Path| fs::read_to_string(path).ok()).unwrap_or(0)
}

fn available_from(read: &dyn Fn(&Path) -> Option<String>) -> u64 {
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = limit_files(&groups);
    let limits = limits.iter().filter_map(|path| read(path)?.trim().parse::<u64>().ok());
    limits.chain(machine_memory(read)).min().unwrap_or(0)
}

/// Files with the limits that apply to a process of these groups (`/proc/self/cgroup`). Inside a container the mount often
/// begins at the container's own group, so that the path is not found there and the root is the limit.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, name) = match controllers {
            "" => (Path::new(MOUNT).to_owned(), "memory.max"),
            _ if controllers.split(',').any(|it| it == "memory") => {
                (Path::new(MOUNT).join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        // The last one is empty and stands for the root itself.
        files.extend(group.ancestors().map(|group| root.join(group).join(name)));
    }
    files
}

/// `MemTotal` of `/proc/meminfo` in bytes. Source: proc(5).
fn machine_memory(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let text = read(Path::new("/proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_limit_counts() {
        fn check(files: &[(&str, &str)], expected: u64) {
            let read = |path: &Path| {
                files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).to_owned())
            };
            assert_eq!(available_from(&read), expected, "{files:?}");
        }
        let meminfo = ("/proc/meminfo", "MemTotal:        8000 kB\nMemFree:  10 kB\n");
        check(&[], 0);
        check(&[meminfo], 8000 << 10);
        let version_2 = ("/proc/self/cgroup", "0::/pod/server\n");
        check(
            &[
                meminfo,
                version_2,
                ("/sys/fs/cgroup/pod/server/memory.max", "max\n"),
                ("/sys/fs/cgroup/pod/memory.max", "1048576\n"),
            ],
            1 << 20,
        );
        check(&[meminfo, version_2, ("/sys/fs/cgroup/pod/server/memory.max", "max\n")], 8000 << 10);
        // In a container with its own view of the groups.
        check(&[meminfo, ("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "2048\n")], 2048);
        check(
            &[
                meminfo,
                ("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a/b\n"),
                ("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
                ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4096\n"),
            ],
            4096,
        );
    }
}
