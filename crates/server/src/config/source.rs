//! Files and arguments as lists of directives: one [`Line`] each, not yet interpreted.

use std::path::Path;

use super::error::{ConfigError, Place, SourceName};
use super::words::split;

/// One directive as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    /// The line without white space around it.
    pub(super) text: String,
    /// Name in lower case.
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
}

impl Line {
    /// An error about this line. The values of a line with a secret are not repeated.
    pub(super) fn error(&self, reason: impl Into<String>, help: impl Into<String>) -> ConfigError {
        ConfigError::Directive {
            place: self.place.clone(),
            text: self.shown(),
            reason: reason.into(),
            help: help.into(),
        }
    }

    /// The line as it may be printed.
    pub(super) fn shown(&self) -> String {
        if super::table::is_secret(&self.name) {
            format!("{} (hidden)", self.name)
        } else {
            self.text.clone()
        }
    }
}

/// The directives of a file in its order.
pub(super) fn parse_text(source: &SourceName, bytes: &[u8]) -> Result<Vec<Line>, ConfigError> {
    let mut lines = Vec::new();
    for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let place = Place { source: source.clone(), number: index + 1 };
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(ConfigError::Directive {
                place,
                text: String::from_utf8_lossy(bytes).trim().to_owned(),
                reason: "the line is not UTF-8".to_owned(),
                help: "save the file as UTF-8".to_owned(),
            });
        };
        lines.extend(parse_line(place, text)?);
    }
    Ok(lines)
}

/// The directive of a line, or `None` for an empty line and a comment.
pub(super) fn parse_line(place: Place, text: &str) -> Result<Option<Line>, ConfigError> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    // What the name most likely is if the line cannot be split: enough to know that its value is secret.
    let first_word =
        text.trim_start_matches(['"', '\'']).split([' ', '\t', '"', '\'']).next().unwrap_or_default();
    let first_word = first_word.to_ascii_lowercase();
    let mut line = Line { place, text: text.to_owned(), name: first_word, arguments: Vec::new() };
    let mut words = match split(text) {
        Ok(words) => words.into_iter(),
        Err(error) => {
            let help = r#"a value in quotes ends with the same quote; inside "…" write \" for a quote and \\ for a backslash"#;
            return Err(line.error(error.to_string(), help));
        }
    };
    line.name = words.next().unwrap_or_default().to_ascii_lowercase();
    line.arguments = words.collect();
    Ok(Some(line))
}

/// What the program was asked to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Start with this configuration.
    Start(Arguments),
    /// Print the version and end.
    Version,
    /// Print [`HELP`] and end.
    Help,
}

/// The arguments of a start.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    pub(super) file: Option<std::path::PathBuf>,
    pub(super) stdin: bool,
    pub(super) lines: Vec<Line>,
}

/// What `--help` prints.
pub const HELP: &str = "\
Usage: holdfast-server [FILE] [--DIRECTIVE VALUE...]... [-]

FILE         a configuration file in the form of redis.conf
-            read (further) configuration from standard input
--DIRECTIVE  any directive of the file; overrides FILE
-v, --version
-h, --help

  holdfast-server --dir ./data
  holdfast-server /etc/holdfast.conf --port 7000 --persist-strategy always
  holdfast-server --save \"\" --appendonly no
";

/// Interprets the arguments behind the program's name, in the forms that Redis takes.
///
/// The first argument is a file unless it begins with `-`. `--name` begins a directive; what follows belongs to it up to
/// the next argument that begins with `--`, and the argument directly behind a lone name always does. `"--name value"` in one
/// argument is complete by itself. A lone `--save` in front of another directive or at the end means no snapshots.
/// # Errors
/// [`ConfigError::Directive`] with the number of the directive.
pub fn parse_arguments(arguments: &[String]) -> Result<Invocation, ConfigError> {
    match arguments.first().map(String::as_str) {
        Some("-v" | "--version") => return Ok(Invocation::Version),
        Some("-h" | "--help") => return Ok(Invocation::Help),
        _ => {}
    }
    let mut parsed = Arguments::default();
    let mut rest = arguments;
    if let [first, after @ ..] = rest
        && !first.starts_with('-')
    {
        parsed.file = Some(Path::new(first).to_owned());
        rest = after;
    }
    while let [argument, after @ ..] = rest {
        rest = after;
        let place = Place { source: SourceName::Arguments, number: parsed.lines.len() + 1 };
        if argument == "-" && (rest.is_empty() || parsed.lines.is_empty()) {
            parsed.stdin = true;
            continue;
        }
        let Some(option) = argument.strip_prefix("--") else {
            return Err(ConfigError::Directive {
                place,
                text: argument.clone(),
                reason: "Bad directive or wrong number of arguments".to_owned(),
                help: "a directive on the command line begins with --, as in --port 6379; the configuration file comes \
                       first"
                    .to_owned(),
            });
        };
        let Some(mut line) = parse_line(place.clone(), option)? else {
            return Err(ConfigError::Directive {
                place,
                text: argument.clone(),
                reason: "Bad directive or wrong number of arguments".to_owned(),
                help: "write the name of a directive behind --, as in --port 6379".to_owned(),
            });
        };
        if line.arguments.is_empty() {
            let lone_save = line.name == "save" && rest.first().is_none_or(|next| next.starts_with("--"));
            if lone_save {
                line.arguments.push(String::new());
            } else if let [value, after @ ..] = rest {
                line.arguments.push(value.clone());
                rest = after;
            }
            let is_value = |next: &&String| !next.starts_with("--") && (*next != "-" || rest.len() > 1);
            let more = if lone_save { 0 } else { rest.iter().take_while(is_value).count() };
            line.arguments.extend_from_slice(&rest[..more]);
            rest = &rest[more..];
            let values = line.arguments.iter().map(|word| super::words::quote(word));
            line.text = std::iter::once(line.name.clone()).chain(values).collect::<Vec<_>>().join(" ");
        }
        parsed.lines.push(line);
    }
    Ok(Invocation::Start(parsed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directives(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.text.clone()).collect()
    }

    #[test]
    fn arguments_take_the_forms_of_redis() {
        fn check(arguments: &[&str], file: Option<&str>, stdin: bool, expected: &[&str]) {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            let Ok(Invocation::Start(parsed)) = parse_arguments(&arguments) else { panic!("{arguments:?}") };
            assert_eq!(parsed.file.as_deref(), file.map(Path::new), "{arguments:?}");
            assert_eq!(parsed.stdin, stdin, "{arguments:?}");
            assert_eq!(directives(&parsed.lines), expected, "{arguments:?}");
        }
        check(&[], None, false, &[]);
        check(
            &["a.conf", "--port", "7000", "--save", ""],
            Some("a.conf"),
            false,
            &["port 7000", "save \"\""],
        );
        check(&["--save", "", "--save", "3600", "1"], None, false, &["save \"\"", "save 3600 1"]);
        check(&["--save", "--appendonly", "yes"], None, false, &["save \"\"", "appendonly yes"]);
        check(&["--appendonly", "yes", "--save"], None, false, &["appendonly yes", "save \"\""]);
        check(&["--port 7000", "--dir 'a b'"], None, false, &["port 7000", "dir 'a b'"]);
        check(&["--dir", "a b"], None, false, &["dir \"a b\""]);
        check(
            &["--shutdown-on-sigint", "nosave", "force", "now"],
            None,
            false,
            &["shutdown-on-sigint nosave force now"],
        );
        check(&["--loglevel", "--verbose"], None, false, &["loglevel --verbose"]);
        check(&["--PORT", "1"], None, false, &["port 1"]);
        check(&["--port"], None, false, &["port"]);
        check(&["-"], None, true, &[]);
        check(&["a.conf", "-", "--port", "1"], Some("a.conf"), true, &["port 1"]);
        check(&["a.conf", "--port", "1", "-"], Some("a.conf"), true, &["port 1"]);
        check(
            &["--appendonly", "no", "--appendonly", "yes"],
            None,
            false,
            &["appendonly no", "appendonly yes"],
        );
    }

    #[test]
    fn version_and_help_are_recognised() {
        for (argument, expected) in [
            ("-v", Invocation::Version),
            ("--version", Invocation::Version),
            ("-h", Invocation::Help),
            ("--help", Invocation::Help),
        ] {
            assert_eq!(parse_arguments(&[argument.to_owned()]).unwrap(), expected);
        }
    }

    #[test]
    fn stray_arguments_are_refused() {
        for arguments in
            [&["-p", "5"][..], &["a.conf", "b.conf"], &["--"], &["--port", "1", "--# x"], &["--port \"1"]]
        {
            let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
            assert!(
                matches!(parse_arguments(&arguments), Err(ConfigError::Directive { .. })),
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn lines_know_their_number() {
        let lines =
            parse_text(&SourceName::Stdin, "# c\n\n port 1 \r\n\tDIR \"a b\"\nlast".as_bytes()).unwrap();
        let found: Vec<_> =
            lines.iter().map(|line| (line.place.number, line.name.as_str(), line.arguments.len())).collect();
        assert_eq!(found, [(3, "port", 1), (4, "dir", 1), (5, "last", 0)]);
    }

    #[test]
    fn a_line_that_is_no_text_is_named() {
        let error = parse_text(&SourceName::Stdin, b"port 1\ndir \xff\n").unwrap_err();
        assert!(error.to_string().starts_with("line 2 of standard input: the line is not UTF-8"), "{error}");
    }
}
