//! The rows of the table, by family.

mod bits;
mod connection;
mod expiry;
mod hashes;
mod keys;
mod lists;
mod observation;
mod pubsub;
mod scripting;
mod server;
mod sets;
mod sorted_sets;
mod sorting;
mod strings;
mod transactions;

use std::sync::LazyLock;

use super::Command;
use crate::command::{Call, Run, error};

/// All rows in order of name.
pub(super) static ALL: LazyLock<Vec<&'static Command>> = LazyLock::new(|| {
    let families = [
        strings::ROWS,
        bits::ROWS,
        keys::ROWS,
        expiry::ROWS,
        hashes::ROWS,
        lists::ROWS,
        sets::ROWS,
        sorted_sets::ROWS,
        sorting::ROWS,
        transactions::ROWS,
        connection::ROWS,
        server::ROWS,
        observation::ROWS,
        scripting::ROWS,
        pubsub::ROWS,
    ];
    let mut all: Vec<&'static Command> = families.into_iter().flatten().collect();
    all.sort_unstable_by_key(|command| command.name);
    all
});

/// What a command with subcommands does without one; its arity never lets that happen.
fn container(call: &mut Call<'_, '_>) -> Run {
    Err(error::wrong_arity(call.command.full_name))
}
