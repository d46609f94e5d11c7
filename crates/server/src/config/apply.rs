//! Applies one source to a configuration: which line counts, what contradicts what, and what is said of a wrong one.

use super::problem::{Problem, QuotedLine};
use super::settings::Config;
use super::source::{Line, Parsed};
use super::table::directive::Directive;
use super::{foreign, names, table};
use crate::persistence::directives::{PersistDirective, PersistNameError};

/// The directives of the log, which are decided together.
const STRATEGY_GROUP: [&str; 3] = ["persist-strategy", "appendonly", "appendfsync"];
/// The directives of the password, of which a later source replaces both.
const PASSWORD_GROUP: [&str; 2] = ["requirepass", "requirepass-file"];

/// Applies the lines of a source. What is wrong goes to `problems`, and the other lines count: one run names everything. Of
/// lines that contradict each other all count, in the order of the groups below.
///
/// `has_rules` says whether a `save` in a source before this one has replaced the default rules: those that follow add to it.
pub(super) fn apply(
    config: &mut Config,
    lines: &[Parsed],
    has_rules: &mut bool,
    problems: &mut Vec<Problem>,
) {
    let mut good: Vec<&Line> = Vec::new();
    for line in lines {
        let line = match line {
            Ok(line) => line,
            Err(problem) => {
                problems.push(problem.clone());
                continue;
            }
        };
        let result = match table::find(&line.name) {
            None => match foreign::find(&line.name) {
                Some(foreign) => foreign.accept(line).map(|notice| config.notices.extend(notice)),
                None => Err(unknown(line)),
            },
            // Checked here, so that problems come in the order of the lines; applied below, when it is known which counts.
            Some(directive) if is_grouped(directive) => set(directive, &mut Config::default(), line),
            Some(directive) => {
                if directive.name == "save" && !std::mem::replace(has_rules, true) {
                    config.save.clear();
                }
                set(directive, config, line)
            }
        };
        match result {
            Ok(()) => good.push(line),
            Err(problem) => problems.push(problem),
        }
    }
    problems.extend(apply_strategy(config, &good).err());
    problems.extend(apply_password(config, &good).err());
}

/// Checks what the table cannot: the relations between directives, whatever source they come from.
pub(super) fn check_relations(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let ports =
        [("port", config.port), ("health-port", config.health_port), ("control-port", config.control_port)];
    for (index, (name, port)) in ports.iter().enumerate() {
        if let Some((other, _)) = ports[..index].iter().find(|(_, other)| other == port && *port != 0) {
            problems.push(Problem::Combination(format!(
                "{other} and {name} are both {port}: choose different ports"
            )));
        }
    }
    if config.dbfilename == config.appenddirname {
        problems.push(Problem::Combination(format!(
            "dbfilename and appenddirname are both {}: a file and a directory cannot have one name; change one of them",
            config.dbfilename
        )));
    }
    problems
}

/// True for a directive that is decided together with others.
pub(super) fn is_grouped(directive: &Directive) -> bool {
    STRATEGY_GROUP.contains(&directive.name.as_ref()) || PASSWORD_GROUP.contains(&directive.name.as_ref())
}

fn set(directive: &Directive, config: &mut Config, line: &Line) -> Result<(), Problem> {
    directive.set(config, &line.arguments).map_err(|reason| line.problem(reason, directive.help()))
}

/// The last line of the source for each of the names.
fn last_lines<'a, const N: usize>(lines: &[&'a Line], names: [&str; N]) -> [Option<&'a Line>; N] {
    names.map(|name| lines.iter().rfind(|line| line.name == name).copied())
}

fn value(line: &Line) -> String {
    let first = line.arguments.first().map(|value| value.to_ascii_lowercase()).unwrap_or_default();
    String::from_utf8_lossy(&first).into_owned()
}

fn apply_strategy(config: &mut Config, lines: &[&Line]) -> Result<(), Problem> {
    let last = last_lines(lines, STRATEGY_GROUP);
    set_lines(config, last)?;
    let [strategy, append_only, append_fsync] = last;
    config.log_is_named |= strategy.is_some() || append_only.is_some();
    if let Some(strategy) = strategy {
        let never = value(strategy) == "never";
        if let Some(other) = append_only.filter(|line| (value(line) == "no") != never) {
            return Err(contradiction(
                strategy,
                other,
                "persist-strategy never means no log, as appendonly no does, and every other strategy means a log; keep one of \
                 the lines",
            ));
        }
        if let Some(other) = append_fsync.filter(|line| !never && value(line) != value(strategy)) {
            return Err(contradiction(
                strategy,
                other,
                "persist-strategy says when the log is synced, as appendfsync does; keep one of the lines",
            ));
        }
    }
    Ok(())
}

fn apply_password(config: &mut Config, lines: &[&Line]) -> Result<(), Problem> {
    let last = last_lines(lines, PASSWORD_GROUP);
    if last == [None, None] {
        return Ok(());
    }
    let default = Config::default();
    config.requirepass = default.requirepass;
    config.requirepass_file = default.requirepass_file;
    set_lines(config, last)?;
    let given = last.map(|line| line.filter(|line| !value(line).is_empty()));
    if let [Some(password), Some(file)] = given {
        return Err(contradiction(
            password,
            file,
            "the password comes either from requirepass or from requirepass-file; keep one of the lines",
        ));
    }
    Ok(())
}

fn set_lines<const N: usize>(config: &mut Config, lines: [Option<&Line>; N]) -> Result<(), Problem> {
    for line in lines.into_iter().flatten() {
        let directive = table::find(&line.name).expect("grouped directives are in the table");
        set(directive, config, line)?;
    }
    Ok(())
}

fn contradiction(a: &Line, b: &Line, explanation: &'static str) -> Problem {
    let (first, second) = if a.place.number <= b.place.number { (a, b) } else { (b, a) };
    let lines = [first, second].map(|line| QuotedLine { place: line.place.clone(), text: line.shown() });
    Problem::Contradiction { lines: Box::new(lines), explanation }
}

fn unknown(line: &Line) -> Problem {
    let reason = "Bad directive or wrong number of arguments";
    if let Err(error @ PersistNameError::TooDeep) = PersistDirective::from_name(&line.name) {
        return line.problem(reason, error.to_string());
    }
    let Some(nearest) = nearest(&line.name) else {
        return line.problem(reason, format!("there is no directive {:?}", line.name));
    };
    let help = format!("there is no directive {:?}; did you mean {nearest}?", line.name);
    if names::is_secret(nearest) { line.problem_of_secret(reason, help) } else { line.problem(reason, help) }
}

/// The directive whose name takes the fewest changes, if those are few enough for a slip of the hand.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let limit = (name.len() / 4).clamp(1, 4);
    let known = table::all()
        .iter()
        .map(|directive| directive.name.as_ref())
        .chain(foreign::names())
        .chain(names::aliases());
    known
        .filter(|known| known.len().abs_diff(name.len()) <= limit)
        .map(|known| (distance(name.as_bytes(), known.as_bytes()), known))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, known)| known)
}

/// Number of bytes to insert, delete or replace to make `b` of `a`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, byte) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(byte != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}
