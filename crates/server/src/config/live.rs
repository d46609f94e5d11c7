//! `CONFIG GET` and `CONFIG SET`.

use super::apply::{apply, check_relations};
use super::problem::{Place, Problem, SourceName};
use super::settings::Config;
use super::source::Line;
use super::table::directive::Directive;
use super::{foreign, names, table, words};
use crate::glob;

/// What Redis changes only where `enable-protected-configs` allows it, which it does not by default. Here nobody may.
const PROTECTED: [&str; 2] = ["dir", "dbfilename"];

/// Names and values of the directives whose names match one of the patterns (any case), in the form of Redis. Each
/// directive comes once, in the order of the documentation, and called as the pattern does if that has no wildcards; one
/// with an old name comes by both.
/// Directives without effect are among them where their value describes this server. Those for tests must be named in full.
#[must_use]
pub fn config_get(config: &Config, patterns: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
    let name_shown = |name: &str, is_hidden: bool| {
        let is_literal = |pattern: &[u8]| pattern.eq_ignore_ascii_case(name.as_bytes());
        let is_meant = |pattern: &[u8]| {
            is_literal(pattern) || !is_hidden && glob::matches_ignore_case(pattern, name.as_bytes())
        };
        let pattern = patterns.iter().find(|pattern| is_meant(pattern))?;
        let shown = is_literal(pattern).then(|| String::from_utf8_lossy(pattern).into_owned());
        Some(shown.unwrap_or_else(|| name.to_owned()))
    };
    let own = table::all().iter().flat_map(|directive| {
        let names = std::iter::once(&*directive.name).chain(names::alias_of(&directive.name));
        names.filter_map(|name| Some((name_shown(name, directive.hidden)?, directive.get(config))))
    });
    let foreign =
        foreign::reported().filter_map(|(name, value)| Some((name_shown(name, false)?, value.into())));
    own.chain(foreign).collect()
}

/// Changes all of the named directives, or nothing.
///
/// Returns the names of the directives whose value is another now (also of those that change with a named one).
/// # Errors
/// The text of the reply, beginning with `ERR`, in the words of Redis.
pub fn config_set(config: &mut Config, pairs: &[(&[u8], &[u8])]) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    for (index, (name, value)) in pairs.iter().enumerate() {
        let text = String::from_utf8_lossy(name);
        let name = text.to_ascii_lowercase();
        // As in Redis, errors about the names repeat them as written, errors about the values use the directive's own.
        if lines.iter().any(|line: &Line| line.name == name) {
            return Err(failed(&text, "duplicate parameter"));
        }
        let Some(directive) = table::find(&name) else {
            let unknown = || format!("ERR Unknown option or number of arguments for CONFIG SET - '{text}'");
            let foreign = foreign::find(&name).ok_or_else(unknown)?;
            foreign.set(&String::from_utf8_lossy(value)).map_err(|reason| failed(&name, &reason))?;
            continue;
        };
        if !directive.live && directive.get(config) == *value {
            // Programs set again what CONFIG GET has shown them.
            continue;
        }
        if !directive.live {
            let kind = if PROTECTED.contains(&&*directive.name) { "protected" } else { "immutable" };
            return Err(failed(&text, &format!("can't set {kind} config")));
        }
        if name == "requirepass" && value.is_empty() && config.requirepass_file.is_some() {
            return Err(failed(
                &text,
                "the password comes from requirepass-file, which stays; give another password, or change the configuration \
                 and restart",
            ));
        }
        let arguments = directive.arguments_of(value).map_err(|reason| failed(&name, &reason))?;
        lines.push(Line {
            place: Place { source: SourceName::Command, number: index + 1 },
            text: format!("{name} {}", String::from_utf8_lossy(&words::quote(value))),
            name,
            arguments,
        });
    }
    let mut changed = config.clone();
    let mut problems = Vec::new();
    let parsed: Vec<_> = lines.iter().cloned().map(Ok).collect();
    apply(&mut changed, &parsed, &mut false, &mut problems);
    let is_new = |problem: &Problem| !check_relations(config).contains(problem);
    problems.extend(check_relations(&changed).into_iter().filter(is_new));
    if let Some(problem) = problems.into_iter().next() {
        return Err(match problem {
            Problem::Directive { place, reason, .. } => failed(&lines_name(&lines, &place), &reason),
            Problem::Contradiction { lines: both, explanation } => {
                failed(&lines_name(&lines, &both[1].place), explanation)
            }
            other => format!("ERR CONFIG SET failed - {other}"),
        });
    }
    let is_switched = changed.persistent != config.persistent;
    if is_switched || (!config.persistent && changed.log != config.log) {
        let culprit = lines
            .iter()
            .find(|line| ["persistent", "persist-strategy", "appendonly"].contains(&line.name.as_str()));
        return Err(failed(
            culprit.map_or("persistent", |line| line.name.as_str()),
            if is_switched {
                "persistence cannot be switched on or off while the server runs: change the configuration and restart"
            } else {
                "nothing is persisted: persistent is no"
            },
        ));
    }
    let names = table::all().iter().filter(|directive| directive.get(config) != directive.get(&changed));
    let names = names.map(|directive| directive.name.to_string()).collect();
    *config = changed;
    Ok(names)
}

fn failed(name: &str, reason: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
}

fn lines_name(lines: &[Line], place: &Place) -> String {
    lines.iter().find(|line| line.place == *place).map(|line| line.name.clone()).unwrap_or_default()
}

/// The directives that are not at their default, as name and value, for the start to print; secrets are hidden.
#[must_use]
pub fn changed_from_default(config: &Config) -> Vec<(String, String)> {
    let default = Config::default();
    let changed = table::all().iter().filter(|directive| directive.get(config) != directive.get(&default));
    let shown = |directive: &Directive| match directive.secret {
        true => "(hidden)".to_owned(),
        false => String::from_utf8_lossy(&directive.get(config)).into_owned(),
    };
    changed.map(|directive| (directive.name.to_string(), shown(directive))).collect()
}
