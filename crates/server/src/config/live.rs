//! `CONFIG GET` and `CONFIG SET`.

use super::apply::apply;
use super::error::{ConfigError, Place, SourceName};
use super::source::Line;
use super::table::{self, arguments_of};
use super::{Config, foreign, words};
use crate::glob;

/// Names and values of the directives whose names match one of the patterns (any case), in the form of Redis. Each
/// directive comes once, in the order of the documentation, and called as the pattern does if that has no wildcards.
/// Directives without effect are among them where their value describes this server.
#[must_use]
pub fn config_get(config: &Config, patterns: &[&[u8]]) -> Vec<(String, String)> {
    let name_shown = |name: &str| {
        let pattern = patterns.iter().find(|pattern| glob::matches_ignore_case(pattern, name.as_bytes()))?;
        let literal = pattern.eq_ignore_ascii_case(name.as_bytes());
        Some(if literal { String::from_utf8_lossy(pattern).into_owned() } else { name.to_owned() })
    };
    let own = table::all()
        .iter()
        .filter_map(|directive| Some((name_shown(&directive.name)?, directive.get(config))));
    let foreign = foreign::reported().filter_map(|(name, value)| Some((name_shown(name)?, value.to_owned())));
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
        let value = std::str::from_utf8(value).map_err(|_| failed(&name, "the value is not UTF-8"))?;
        let Some(directive) = table::find(&name) else {
            let unknown = || format!("ERR Unknown option or number of arguments for CONFIG SET - '{text}'");
            foreign::find(&name).ok_or_else(unknown)?.set(value).map_err(|reason| failed(&name, &reason))?;
            continue;
        };
        if !directive.live {
            return Err(failed(&text, "can't set immutable config"));
        }
        let arguments = arguments_of(directive, value).map_err(|reason| failed(&name, &reason))?;
        lines.push(Line {
            place: Place { source: SourceName::Command, number: index + 1 },
            text: format!("{name} {}", words::quote(value)),
            name,
            arguments,
        });
    }
    let mut changed = config.clone();
    apply(&mut changed, &lines).map_err(|error| match error {
        ConfigError::Directive { place, reason, .. } => failed(&lines_name(&lines, &place), &reason),
        ConfigError::Contradiction { lines: both, explanation } => {
            failed(&lines_name(&lines, &both[1].place), explanation)
        }
        other => format!("ERR CONFIG SET failed - {other}"),
    })?;
    if (changed.persistent, changed.log) != (config.persistent, config.log) {
        let culprit = lines
            .iter()
            .find(|line| ["persistent", "persist-strategy", "appendonly"].contains(&line.name.as_str()));
        return Err(failed(
            culprit.map_or("appendonly", |line| line.name.as_str()),
            "the log cannot be switched on or off while the server runs: change the configuration and restart",
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
