//! Text and files as lists of directives: one [`Line`] each, not yet interpreted.

use super::names;
use super::problem::{Place, Problem, SourceName};
use super::words::split;

/// One directive as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) place: Place,
    /// The line without white space around it; bytes that are not UTF-8 are replaced.
    pub(super) text: String,
    /// Name in lower case, as it was written: perhaps an old one.
    pub(super) name: String,
    pub(super) arguments: Vec<Vec<u8>>,
}

impl Line {
    /// A problem with this line. The values of a line with a secret are not repeated.
    pub(super) fn problem(&self, reason: impl Into<String>, help: impl Into<String>) -> Problem {
        self.problem_shown(self.shown(), reason, help)
    }

    /// A problem with this line, whose values may be secret whatever its name says.
    pub(super) fn problem_of_secret(&self, reason: impl Into<String>, help: impl Into<String>) -> Problem {
        self.problem_shown(self.hidden(), reason, help)
    }

    fn problem_shown(&self, shown: String, reason: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem::Directive {
            place: self.place.clone(),
            directive: self.name.as_str().into(),
            text: shown.into(),
            reason: reason.into(),
            help: help.into(),
        }
    }

    /// The line as it may be printed.
    pub(super) fn shown(&self) -> String {
        if names::is_secret(&self.name) { self.hidden() } else { self.text.clone() }
    }

    fn hidden(&self) -> String {
        format!("{} (hidden)", self.name)
    }
}

/// A directive, or why a line is none.
pub(super) type Parsed = Result<Line, Problem>;

/// The directives of a text in their order, without empty lines and comments.
pub(super) fn parse_text(source: &SourceName, text: &[u8]) -> Vec<Parsed> {
    let lines = text.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter_map(|(index, text)| {
            parse_line(Place { source: source.clone(), number: index + 1 }, text).transpose()
        })
        .collect()
}

/// The directive of a line, or `None` for an empty line and a comment.
pub(super) fn parse_line(place: Place, text: &[u8]) -> Result<Option<Line>, Problem> {
    let text = trim(text);
    if text.is_empty() || text.starts_with(b"#") {
        return Ok(None);
    }
    let shown = String::from_utf8_lossy(text).into_owned();
    // What the name most likely is if the line cannot be split: enough to know that its value is secret.
    let first_word =
        shown.trim_start_matches(['"', '\'']).split([' ', '\t', '"', '\'']).next().unwrap_or_default();
    let first_word = first_word.to_ascii_lowercase();
    let mut line = Line { place, text: shown, name: first_word, arguments: Vec::new() };
    let mut words = match split(text) {
        Ok(words) => words.into_iter(),
        Err(error) => {
            let help = r#"a value in quotes ends with the same quote; inside "…" write \" for a quote and \\ for a backslash"#;
            return Err(line.problem(error.to_string(), help));
        }
    };
    // A form feed between sections is white space.
    let Some(name) = words.next() else { return Ok(None) };
    line.name = String::from_utf8_lossy(&name).to_ascii_lowercase();
    line.arguments = words.collect();
    Ok(Some(line))
}

fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let text = &text[text.iter().take_while(|byte| is_space(byte)).count()..];
    &text[..text.len() - text.iter().rev().take_while(|byte| is_space(byte)).count()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_their_number() {
        let lines = parse_text(&SourceName::Stdin, b"# c\n\x0c\n port 1 \r\n\tDIR \"a b\"\nlast");
        let found: Vec<_> = lines
            .iter()
            .map(|line| line.as_ref().unwrap())
            .map(|line| (line.place.number, line.name.as_str(), line.arguments.len()))
            .collect();
        assert_eq!(found, [(3, "port", 1), (4, "dir", 1), (5, "last", 0)]);
    }

    #[test]
    fn lines_are_bytes() {
        let text = b"# M\xfcller\nrequirepass p\xe4ss\n\xff 1\n";
        let lines: Vec<_> = parse_text(&SourceName::Stdin, text).into_iter().map(Result::unwrap).collect();
        assert_eq!(lines[0].arguments, [b"p\xe4ss"]);
        assert_eq!(lines[1].name, "\u{fffd}", "no directive, and named as far as it can be shown");
    }

    #[test]
    fn every_line_that_cannot_be_split_is_named() {
        let lines = parse_text(&SourceName::Stdin, b"dir \"a\nport 1\nlogfile 'x");
        let problems: Vec<_> =
            lines.iter().filter_map(|line| line.as_ref().err()).map(ToString::to_string).collect();
        assert_eq!((lines.len(), problems.len()), (3, 2));
        assert!(problems[0].starts_with("line 1 of standard input: Unbalanced quotes"), "{problems:?}");
        assert!(problems[1].starts_with("line 3 of standard input: Unbalanced quotes"), "{problems:?}");
    }
}
