//! What is wrong with a configuration, and how that is said.

use std::fmt;
use std::path::PathBuf;

/// Where a directive stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// In what.
    pub source: SourceName,
    /// Line of the file, or number of the `--directive` among the arguments; the first is 1.
    pub number: usize,
}

/// What directives come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceName {
    /// A file.
    File(PathBuf),
    /// Standard input (`-`).
    Stdin,
    /// The arguments of the program.
    Arguments,
    /// `CONFIG SET`.
    Command,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number;
        match &self.source {
            SourceName::File(path) => write!(f, "line {number} of {path:?}"),
            SourceName::Stdin => write!(f, "line {number} of standard input"),
            SourceName::Arguments => write!(f, "directive {number} of the arguments"),
            SourceName::Command => write!(f, "argument {number} of CONFIG SET"),
        }
    }
}

/// A line and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotedLine {
    /// Where it stands.
    pub place: Place,
    /// The line as it was written; without its value if that is secret.
    pub text: String,
}

impl fmt::Display for QuotedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.place, self.text)
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A file or standard input cannot be read.
    #[error("failed to read the configuration from {from}: {reason}")]
    Read {
        /// The file's path, quoted, or `standard input`.
        from: String,
        /// What the operating system said.
        reason: String,
    },
    /// One directive is wrong.
    #[error("{place}: {reason}; {help}")]
    Directive {
        /// Where it stands.
        place: Place,
        /// Its name, as it was written in lower case.
        directive: Box<str>,
        /// The line as it was written; without its value if that is secret.
        text: Box<str>,
        /// What is wrong, in Redis's words.
        reason: String,
        /// What is allowed, or what to do.
        help: String,
    },
    /// Two directives of one source exclude each other.
    #[error("{} contradicts {}: {explanation}", lines[1], lines[0])]
    Contradiction {
        /// Both lines, in the order in which they stand.
        lines: Box<[QuotedLine; 2]>,
        /// Why both cannot be meant, and what to do.
        explanation: &'static str,
    },
    /// Values that are right by themselves do not fit each other.
    #[error("{0}")]
    Combination(String),
}

impl Problem {
    /// The form of Redis, which tools look for, then what to do.
    fn report(&self) -> String {
        let quoted = |place: &Place, text: &str| {
            let reading = match &place.source {
                SourceName::Arguments => format!("Reading the arguments, at directive {}", place.number),
                SourceName::Command => format!("Reading CONFIG SET, at argument {}", place.number),
                SourceName::Stdin | SourceName::File(_) => {
                    format!("Reading the configuration file, at line {}", place.number)
                }
            };
            format!("{reading}\n>>> '{text}'")
        };
        match self {
            Self::Directive { place, text, reason, help, .. } => {
                format!("{}\n{reason}\n{place}: {help}", quoted(place, text))
            }
            Self::Contradiction { lines, explanation } => {
                let [first, second] = &**lines;
                format!(
                    "{}\n{}\nthe two contradict each other: {explanation}\n{}, {}",
                    quoted(&first.place, &first.text),
                    quoted(&second.place, &second.text),
                    first.place,
                    second.place,
                )
            }
            Self::Read { .. } | Self::Combination(_) => self.to_string(),
        }
    }
}

/// Why a configuration is not used: everything that is wrong with it, in the order in which it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    pub(crate) problems: Vec<Problem>,
}

impl ConfigError {
    /// The text for standard error at start.
    #[must_use]
    pub fn report(&self) -> String {
        let title = format!("*** FATAL CONFIG FILE ERROR (Holdfast {}) ***", env!("CARGO_PKG_VERSION"));
        let mut report: Vec<String> = self.problems.iter().map(Problem::report).collect();
        if let count @ 2.. = self.problems.len() {
            report.push(format!("{count} problems: the server does not start before each of them is solved"));
        }
        format!("{title}\n{}", report.join("\n\n"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        f.write_str(&problems.join("; "))
    }
}

impl std::error::Error for ConfigError {}
