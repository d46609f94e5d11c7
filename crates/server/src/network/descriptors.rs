//! File descriptors: enough for every client, and some that no client can take away from the files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for files, ports and backups: the log must be rotated whoever is connected.
const RESERVED: u64 = 64;

/// Descriptors that so many clients need, the reserve included.
#[must_use]
pub(crate) fn needed(clients: u32) -> u64 {
    u64::from(clients) + RESERVED
}

/// Raises the limit of open files as far as so many clients beside the reserve need it and the system allows it; returns how
/// many of them fit. Source: getrlimit(2), and `adjustOpenFilesLimit` of Redis for what users expect.
#[must_use]
pub(crate) fn make_room(clients: u32) -> u32 {
    let wanted = needed(clients);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= wanted) {
        return clients;
    }
    let hard = maximum.unwrap_or(u64::MAX);
    // Only a privileged process may raise the hard limit.
    let attempts = [(wanted, wanted.max(hard)), (wanted.min(hard), hard)];
    let raised = attempts.into_iter().find(|(current, hard)| {
        let maximum = (*hard != u64::MAX).then_some(*hard);
        setrlimit(Resource::Nofile, Rlimit { current: Some(*current), maximum }).is_ok()
    });
    let limit = raised.map(|(limit, _)| limit).or(current).unwrap_or(u64::MAX);
    u32::try_from(limit.saturating_sub(RESERVED)).unwrap_or(u32::MAX).min(clients)
}
