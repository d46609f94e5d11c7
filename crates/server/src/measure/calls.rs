//! What is counted of each command: calls, time, refusals, failures and how long calls took.

use super::histogram::Histogram;
use crate::command::Command;

/// Slots of the index at first: twice the number of commands and more.
const SLOTS_MIN: usize = 1024;

/// Counters of one command or subcommand.
#[derive(Debug, Clone, Default)]
pub(crate) struct CallStats {
    /// Times that it ran.
    pub(crate) calls: u64,
    /// Time that it took, in nanoseconds; waiting for keys is no part of it.
    pub(crate) nanoseconds: u64,
    /// Times that it was refused before it ran.
    pub(crate) rejected: u64,
    /// Times that it ran and ended with an error.
    pub(crate) failed: u64,
    /// How long calls took, while `latency-tracking` is on.
    pub(crate) latencies: Histogram,
}

/// The counters of all commands that were called, refused or failed since the start or the last reset.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// An open-addressed hash table of the rows' addresses, which name them: rows live as long as the process. Each slot has a
    /// place among `rows`, plus 1.
    slots: Vec<usize>,
    rows: Vec<(&'static Command, CallStats)>,
}

impl Calls {
    /// The slot of a command, or the empty one where it belongs. There are slots, and not all of them are taken.
    fn slot(&self, command: &'static Command) -> usize {
        let address = std::ptr::from_ref(command).addr();
        let mask = self.slots.len() - 1;
        let mut at = (address / align_of::<Command>()).wrapping_mul(0x9e37_79b9) & mask;
        while let Some(place) = self.slots[at].checked_sub(1)
            && !std::ptr::eq(self.rows[place].0, command)
        {
            at = (at + 1) & mask;
        }
        at
    }

    /// The counters of a command.
    pub(super) fn of(&mut self, command: &'static Command) -> &mut CallStats {
        if self.rows.len() * 2 >= self.slots.len() {
            self.slots = vec![0; SLOTS_MIN.max(self.slots.len() * 2)];
            for place in 0..self.rows.len() {
                let at = self.slot(self.rows[place].0);
                self.slots[at] = place + 1;
            }
        }
        let at = self.slot(command);
        if self.slots[at] == 0 {
            self.rows.push((command, CallStats::default()));
            self.slots[at] = self.rows.len();
        }
        let place = self.slots[at] - 1;
        &mut self.rows[place].1
    }

    /// The counters of a command, if there are any.
    pub(crate) fn find(&self, command: &'static Command) -> Option<&CallStats> {
        if self.rows.is_empty() {
            return None;
        }
        let place = self.slots[self.slot(command)].checked_sub(1)?;
        Some(&self.rows[place].1)
    }

    /// All counters, in order of the commands' full names.
    pub(crate) fn all(&self) -> Vec<(&'static Command, &CallStats)> {
        let mut all: Vec<_> = self.rows.iter().map(|(command, stats)| (*command, stats)).collect();
        all.sort_unstable_by_key(|(command, _)| command.full_name);
        all
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::table;

    #[test]
    fn every_command_has_counters_of_its_own() {
        let rows: Vec<&'static Command> = table::commands()
            .iter()
            .flat_map(|command| std::iter::once(*command).chain(command.subcommands))
            .collect();
        let mut calls = Calls::default();
        assert!(calls.find(rows[0]).is_none() && calls.all().is_empty());
        for (number, row) in (1..).zip(&rows) {
            calls.of(row).calls = number;
        }
        for (number, row) in (1..).zip(&rows) {
            assert_eq!(calls.find(row).map(|stats| stats.calls), Some(number), "{}", row.full_name);
        }
        assert_eq!(calls.all().len(), rows.len());
        // A table that is too small grows.
        calls.slots = vec![0; rows.len().next_power_of_two()];
        calls.of(rows[0]).calls += 1;
        assert_eq!(calls.find(rows[0]).map(|stats| stats.calls), Some(2));
        assert_eq!(calls.rows.len(), rows.len());
    }
}
