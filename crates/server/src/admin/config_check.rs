//! Reads a configuration as a start would, and says what is wrong with it. Nothing of it is used.

use std::path::PathBuf;

use holdfast_contract::control::{ConfigCheck, ConfigProblem};

use crate::config::{Invocation, load, parse_arguments};

/// A file that goes when this is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover in the scratch directory harms nobody.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Checks `text` by the code that reads the file at start, from a file of its own.
///
/// # Errors
/// The file cannot be written.
pub(super) fn check(text: &str) -> std::io::Result<ConfigCheck> {
    let path = std::env::temp_dir().join(format!("holdfast-check-{}.conf", uuid::Uuid::new_v4()));
    let scratch = Scratch(path);
    std::fs::write(&scratch.0, text)?;
    let name = scratch.0.to_string_lossy().into_owned();
    let loaded = match parse_arguments(std::slice::from_ref(&name)) {
        Ok(Invocation::Start(arguments)) => load(&arguments).map(drop),
        Ok(Invocation::Version | Invocation::Help) => Ok(()),
        Err(error) => Err(error),
    };
    let problems = loaded.err().map(|error| problem(&error.to_string(), &name)).into_iter().collect();
    Ok(ConfigCheck { problems })
}

/// The error without the name of the scratch file, which means nothing to anybody.
fn problem(error: &str, name: &str) -> ConfigProblem {
    let text = error.replace(&format!(" of {name:?}"), "");
    let numbered = text.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    match numbered.and_then(|(number, message)| Some((number.parse().ok()?, message))) {
        Some((line, message)) => ConfigProblem { line: Some(line), message: message.to_owned() },
        None => ConfigProblem { line: None, message: text },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_the_server_would_not_start_with_is_named() {
        let problems = |text: &str| check(text).expect("a scratch file").problems;
        assert_eq!(problems("port 6379\nhz 10\n"), []);
        let [found] = &problems("port 6379\n\nhz abc\n")[..] else { panic!("one problem") };
        assert_eq!(found.line, Some(3));
        assert!(found.message.contains("hz takes a number"), "{}", found.message);
        assert!(!found.message.contains("holdfast-check"), "{}", found.message);
        let [found] = &problems("port 7000\nhealth-port 7000\n")[..] else { panic!("one problem") };
        assert!(found.line.is_none() && found.message.contains("choose different ports"), "{found:?}");
        let [found] = &problems("requirepass \"hush\n")[..] else { panic!("one problem") };
        assert!(!found.message.contains("hush"), "{}", found.message);
    }
}
