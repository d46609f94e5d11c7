//! The arguments of the program, in the forms that Redis takes.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use super::problem::{Place, Problem, SourceName};
use super::source::{Parsed, parse_line};
use super::table;
use super::words::quote;

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
    pub(super) file: Option<PathBuf>,
    pub(super) stdin: bool,
    /// What is wrong is among them; [`super::load`] reports it with everything else.
    pub(super) lines: Vec<Parsed>,
}

/// What `--help` prints.
pub const HELP: &str = "\
Usage: holdfast-server [FILE] [--DIRECTIVE VALUE...]... [-]

FILE         a configuration file in the form of redis.conf
-            read (further) configuration from standard input
--DIRECTIVE  any directive of the file; overrides FILE, but for --save, which adds to it unless it is empty
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
/// argument is complete by itself. The first directive behind the file may lack its dashes. A lone `--save` in front of another directive or at the end means no snapshots.
/// What is wrong is kept, and reported by [`super::load`] with everything that is wrong with the file.
#[must_use]
pub fn parse_arguments(arguments: Vec<OsString>) -> Invocation {
    let arguments: Vec<Vec<u8>> = arguments.into_iter().map(OsString::into_vec).collect();
    match arguments.first().map(Vec::as_slice) {
        Some(b"-v" | b"--version") => return Invocation::Version,
        Some(b"-h" | b"--help") => return Invocation::Help,
        _ => {}
    }
    let mut parsed = Arguments::default();
    let mut rest = &arguments[..];
    if let [first, after @ ..] = rest
        && !first.starts_with(b"-")
    {
        parsed.file = Some(OsString::from_vec(first.clone()).into());
        rest = after;
    }
    while let [argument, after @ ..] = rest {
        rest = after;
        if argument == b"-" && (rest.is_empty() || parsed.lines.is_empty()) {
            parsed.stdin = true;
            continue;
        }
        // The wrong ones count, so that a number tells which directive is meant.
        let place = Place { source: SourceName::Arguments, number: parsed.lines.len() + 1 };
        let stray = |help: &str| Problem::Directive {
            place: place.clone(),
            directive: "".into(),
            text: String::from_utf8_lossy(argument).into(),
            reason: "Bad directive or wrong number of arguments".to_owned(),
            help: help.to_owned(),
        };
        let option = argument.strip_prefix(b"--").or_else(|| {
            let names_directive = str::from_utf8(argument).is_ok_and(|it| table::find(it).is_some());
            (parsed.lines.is_empty() && names_directive).then_some(argument)
        });
        let Some(option) = option else {
            parsed.lines.push(Err(stray(
                "a directive on the command line begins with --, as in --port 6379; the configuration file comes first",
            )));
            // What belongs to it would only be named a second time.
            let values = rest.iter().take_while(|next| !next.starts_with(b"--") && *next != b"-").count();
            rest = &rest[values..];
            continue;
        };
        let mut line = match parse_line(place.clone(), option) {
            Ok(Some(line)) => line,
            Ok(None) => {
                let problem = stray("write the name of a directive behind --, as in --port 6379");
                parsed.lines.push(Err(problem));
                continue;
            }
            Err(problem) => {
                parsed.lines.push(Err(problem));
                continue;
            }
        };
        if line.arguments.is_empty() {
            let lone_save = line.name == "save" && rest.first().is_none_or(|next| next.starts_with(b"--"));
            if lone_save {
                line.arguments.push(Vec::new());
            } else if let [value, after @ ..] = rest {
                line.arguments.push(value.clone());
                rest = after;
            }
            let is_value = |next: &&Vec<u8>| !next.starts_with(b"--") && (*next != b"-" || rest.len() > 1);
            let more = if lone_save { 0 } else { rest.iter().take_while(is_value).count() };
            line.arguments.extend_from_slice(&rest[..more]);
            rest = &rest[more..];
            let values = line.arguments.iter().map(|word| String::from_utf8_lossy(&quote(word)).into_owned());
            line.text = std::iter::once(line.name.clone()).chain(values).collect::<Vec<_>>().join(" ");
        }
        parsed.lines.push(Ok(line));
    }
    Invocation::Start(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Arguments {
        match parse_arguments(arguments.iter().map(Into::into).collect()) {
            Invocation::Start(parsed) => parsed,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    fn directives(lines: &[Parsed]) -> Vec<String> {
        lines.iter().map(|line| line.as_ref().map_or("wrong".to_owned(), |line| line.text.clone())).collect()
    }

    #[test]
    fn arguments_take_the_forms_of_redis() {
        fn check(arguments: &[&str], file: Option<&str>, stdin: bool, expected: &[&str]) {
            let parsed = parse(arguments);
            assert_eq!(parsed.file, file.map(PathBuf::from), "{arguments:?}");
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
            &["a.conf", "loglevel", "verbose", "--port 1"],
            Some("a.conf"),
            false,
            &["loglevel verbose", "port 1"],
        );
        check(&["a.conf", "--port 1", "loglevel", "verbose"], Some("a.conf"), false, &["port 1", "wrong"]);
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
            assert_eq!(parse_arguments(vec![argument.into()]), expected);
        }
    }

    #[test]
    fn stray_arguments_are_refused() {
        for arguments in
            [&["-p", "5"][..], &["a.conf", "b.conf"], &["--"], &["--port", "1", "--# x"], &["--port \"1"]]
        {
            let parsed = parse(arguments);
            let problems: Vec<_> = parsed.lines.into_iter().filter_map(Result::err).collect();
            assert!(matches!(&problems[..], [Problem::Directive { .. }]), "{arguments:?}");
        }
    }

    #[test]
    fn reading_goes_on_behind_a_stray_argument() {
        let parsed = parse(&["a.conf", "b.conf", "--port", "1", "--dir \"x", "--", "--hz", "2"]);
        assert_eq!(directives(&parsed.lines), ["wrong", "port 1", "wrong", "wrong", "hz 2"]);
        assert_eq!(parsed.lines[4].as_ref().unwrap().place.number, 5);
    }

    #[test]
    fn arguments_are_bytes() {
        let word = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let arguments = vec![word(b"--requirepass"), word(b"p\xe4ss")];
        let Invocation::Start(parsed) = parse_arguments(arguments) else { panic!("a start") };
        assert_eq!(parsed.lines[0].as_ref().unwrap().arguments, [b"p\xe4ss"]);
    }
}
