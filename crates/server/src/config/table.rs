//! The table of directives: name, how a value is read and printed, and whether it can change while the server runs.

mod rows;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use super::Config;
use super::words::{quote, split};
use crate::persistence::directives::PersistDirective;
use crate::protocol::decode::parse_i64;

/// One directive.
pub(super) struct Directive {
    pub(super) name: Cow<'static, str>,
    /// Can be changed by `CONFIG SET`.
    pub(super) live: bool,
    /// The value must not be printed in logs and errors.
    pub(super) secret: bool,
    pub(super) kind: Kind,
}

/// How a directive is read and printed.
pub(super) enum Kind {
    YesNo {
        get: fn(&Config) -> bool,
        set: fn(&mut Config, bool),
    },
    /// A whole number.
    Number {
        min: u64,
        max: u64,
        get: fn(&Config) -> u64,
        set: fn(&mut Config, u64),
    },
    /// A number of bytes, with a unit if the user likes.
    Memory {
        min: u64,
        max: u64,
        get: fn(&Config) -> u64,
        set: fn(&mut Config, u64),
    },
    /// One of some words; given to `set` in lower case, which takes each of them.
    Choice {
        words: &'static [&'static str],
        get: fn(&Config) -> &'static str,
        set: fn(&mut Config, &str),
    },
    /// One argument of any text.
    Text {
        allowed: &'static str,
        get: fn(&Config) -> String,
        set: fn(&mut Config, &str) -> Result<(), String>,
    },
    /// One or more arguments.
    Words {
        allowed: &'static str,
        get: fn(&Config) -> String,
        set: fn(&mut Config, &[String]) -> Result<(), String>,
    },
    Persist(PersistDirective),
}

impl Directive {
    /// The value, as `CONFIG GET` returns it.
    pub(super) fn get(&self, config: &Config) -> String {
        match &self.kind {
            Kind::YesNo { get, .. } => if get(config) { "yes" } else { "no" }.to_owned(),
            Kind::Number { get, .. } | Kind::Memory { get, .. } => get(config).to_string(),
            Kind::Choice { get, .. } => get(config).to_owned(),
            Kind::Text { get, .. } | Kind::Words { get, .. } => get(config),
            Kind::Persist(directive) => config.persist.value(*directive),
        }
    }

    /// Takes over a value: one argument, or several where [`Directive::takes_words`].
    /// # Errors
    /// What is wrong, in Redis's words. The configuration may have changed in part.
    pub(super) fn set(&self, config: &mut Config, arguments: &[String]) -> Result<(), String> {
        let value = match (&self.kind, arguments) {
            (Kind::Words { set, .. }, [_, ..]) => return set(config, arguments),
            (Kind::Words { .. }, []) => return Err("wrong number of arguments".to_owned()),
            (_, [value]) => value,
            _ => return Err("wrong number of arguments".to_owned()),
        };
        match &self.kind {
            Kind::YesNo { set, .. } => match value.to_ascii_lowercase().as_str() {
                "yes" => set(config, true),
                "no" => set(config, false),
                _ => return Err("argument must be 'yes' or 'no'".to_owned()),
            },
            Kind::Number { min, max, set, .. } => {
                let number = parse_i64(value.as_bytes())
                    .ok_or_else(|| "argument couldn't be parsed into an integer".to_owned())?;
                let number = u64::try_from(number).ok().filter(|number| (*min..=*max).contains(number));
                set(config, number.ok_or_else(|| between(*min, *max))?);
            }
            Kind::Memory { min, max, set, .. } => {
                let bytes =
                    parse_memory(value).ok_or_else(|| "argument must be a memory value".to_owned())?;
                if !(*min..=*max).contains(&bytes) {
                    return Err(between(*min, *max));
                }
                set(config, bytes);
            }
            Kind::Choice { words, set, .. } => {
                let word = value.to_ascii_lowercase();
                if !words.contains(&word.as_str()) {
                    return Err(one_of(words));
                }
                set(config, &word);
            }
            Kind::Text { set, .. } => return set(config, value),
            Kind::Persist(directive) => {
                return config.persist.set(*directive, value).map_err(|error| error.to_string());
            }
            Kind::Words { .. } => {}
        }
        Ok(())
    }

    /// True if the directive takes several arguments.
    pub(super) fn takes_words(&self) -> bool {
        matches!(self.kind, Kind::Words { .. })
    }

    /// What a user may write, for an error.
    pub(super) fn help(&self) -> String {
        let allowed: Cow<'_, str> = match &self.kind {
            Kind::YesNo { .. } => "yes or no".into(),
            Kind::Number { min, max, .. } => format!("a number from {min} to {max}").into(),
            Kind::Memory { min, max: u64::MAX, .. } => {
                format!("a number of bytes from {min}, also with a unit (k, kb, m, mb, g, gb)").into()
            }
            Kind::Memory { min, max, .. } => {
                format!("a number of bytes from {min} to {max}, also with a unit (k, kb, m, mb, g, gb)")
                    .into()
            }
            Kind::Choice { words, .. } => format!("one of {}", words.join(", ")).into(),
            Kind::Text { allowed, .. } | Kind::Words { allowed, .. } => (*allowed).into(),
            Kind::Persist(directive) => directive.allowed().into(),
        };
        format!("{} takes {allowed}", self.name)
    }

    /// The lines of a file that set the directive to its present value.
    pub(super) fn render(&self, config: &Config) -> Vec<String> {
        let name = &self.name;
        let value = match &self.kind {
            Kind::Words { .. } if name == "save" && !config.save.is_empty() => {
                return config.save.iter().map(|rule| format!("save {}", rows::render_rule(rule))).collect();
            }
            Kind::Words { get, .. } if get(config).is_empty() => quote(""),
            Kind::Words { get, .. } => get(config),
            Kind::Memory { get, .. } => render_memory(get(config)),
            _ => quote(&self.get(config)),
        };
        vec![format!("{name} {value}")]
    }
}

fn between(min: u64, max: u64) -> String {
    format!("argument must be between {min} and {max} inclusive")
}

pub(super) fn one_of(words: &[&str]) -> String {
    format!("argument(s) must be one of the following: {}", words.join(", "))
}

/// Reads a number of bytes with an optional unit; `k` is 1000 and `kb` is 1024, as in Redis.
pub(super) fn parse_memory(text: &str) -> Option<u64> {
    let digits_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits_len);
    let unit: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1000 * 1000,
        "mb" => 1 << 20,
        "g" => 1000 * 1000 * 1000,
        "gb" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Writes a number of bytes with the largest unit that keeps it exact.
fn render_memory(bytes: u64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

static TABLE: LazyLock<Vec<Directive>> = LazyLock::new(rows::build);
static INDEX: LazyLock<HashMap<&'static str, &'static Directive>> =
    LazyLock::new(|| TABLE.iter().map(|directive| (directive.name.as_ref(), directive)).collect());

/// Every directive with an effect, in the order of the documentation.
pub(super) fn all() -> &'static [Directive] {
    &TABLE
}

/// The directive called `name` (lower case).
pub(super) fn find(name: &str) -> Option<&'static Directive> {
    INDEX.get(name).copied()
}

/// True if a value of this name must not be printed, whether or not it has an effect.
pub(super) fn is_secret(name: &str) -> bool {
    find(name).map_or_else(|| super::foreign::is_secret(name), |directive| directive.secret)
}

/// The arguments that the value of a `CONFIG SET` stands for.
pub(super) fn arguments_of(directive: &Directive, value: &str) -> Result<Vec<String>, String> {
    if !directive.takes_words() {
        return Ok(vec![value.to_owned()]);
    }
    let words = split(value).map_err(|error| error.to_string())?;
    // An empty value is one empty argument, as in `save ""`.
    Ok(if words.is_empty() { vec![String::new()] } else { words })
}
