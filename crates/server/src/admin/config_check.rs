//! Reads a configuration as a start would, and says what is wrong with it. Nothing of it is used.

use std::io;

use holdfast_contract::control::{ConfigCheck, ConfigProblem};

use crate::config::{self, Config, Place, Problem, SourceName};

/// Checks `text` by the code that reads the file at start. All that is wrong is named. No file is read: who may ask this may
/// not read what the process may.
pub(super) fn check(text: &str) -> ConfigCheck {
    let mut unread = |_: &std::path::Path| {
        vec![Err(io::Error::other("a check reads no files; put the lines in the place of include"))]
    };
    let problems = config::check(&SourceName::Stdin, text.as_bytes(), &Config::default(), &mut unread).err();
    ConfigCheck { problems: problems.into_iter().flatten().map(describe).collect() }
}

fn describe(problem: Problem) -> ConfigProblem {
    match problem {
        Problem::Directive { place: Place { source: SourceName::Stdin, number }, reason, help, .. } => {
            ConfigProblem { line: Some(number), message: format!("{reason}; {help}") }
        }
        other => ConfigProblem { line: None, message: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_the_server_would_not_start_with_is_named() {
        let problems = |text: &str| check(text).problems;
        assert_eq!(problems("port 6379\nhz 10\n"), []);
        let [found] = &problems("port 6379\n\nhz abc\n")[..] else { panic!("one problem") };
        assert_eq!(found.line, Some(3));
        assert!(found.message.contains("hz takes a number"), "{}", found.message);
        assert_eq!(problems("hz abc\nport 7\nmaxclients -1\n").len(), 2, "all are named");
        let [found] = &problems("port 7000\nhealth-port 7000\n")[..] else { panic!("one problem") };
        assert!(found.line.is_none() && found.message.contains("choose different ports"), "{found:?}");
        let [found] = &problems("include /dev/zero\n")[..] else { panic!("one problem") };
        assert!(found.line == Some(1) && found.message.contains("a check reads no files"), "{found:?}");
        let [found] = &problems("requirepass \"hush\n")[..] else { panic!("one problem") };
        assert!(!found.message.contains("hush"), "{}", found.message);
    }
}
