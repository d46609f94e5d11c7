//! What a directive is: how its value is read and printed, and whether it can change while the server runs.

use std::borrow::Cow;

use crate::config::settings::Config;
use crate::config::units::{between, one_of, parse_memory, render_memory, text};
use crate::config::words::{quote, split};
use crate::persistence::directives::PersistDirective;
use crate::protocol::parse_i64;

/// One directive.
pub(in crate::config) struct Directive {
    pub(in crate::config) name: Cow<'static, str>,
    /// Can be changed by `CONFIG SET`.
    pub(in crate::config) live: bool,
    /// The value must not be printed in logs and errors.
    pub(in crate::config) secret: bool,
    /// `CONFIG GET` reports it when it is asked for in full, and by no pattern: it exists for tests.
    pub(in crate::config) hidden: bool,
    pub(in crate::config) kind: Kind,
}

/// How a directive is read and printed.
pub(in crate::config) enum Kind {
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
    /// One argument of any bytes: what the system or a client takes as it is.
    Bytes {
        allowed: &'static str,
        get: fn(&Config) -> Vec<u8>,
        set: fn(&mut Config, &[u8]) -> Result<(), String>,
    },
    /// One or more arguments. The value is one line; in a file it is several lines where they accumulate.
    Words {
        allowed: &'static str,
        lines: fn(&Config) -> Vec<String>,
        set: fn(&mut Config, &[&str]) -> Result<(), String>,
    },
    Persist(PersistDirective),
}

impl Directive {
    /// The value, as `CONFIG GET` returns it.
    pub(in crate::config) fn get(&self, config: &Config) -> Vec<u8> {
        match &self.kind {
            Kind::YesNo { get, .. } => if get(config) { "yes" } else { "no" }.into(),
            Kind::Number { get, .. } | Kind::Memory { get, .. } => get(config).to_string().into(),
            Kind::Choice { get, .. } => get(config).into(),
            Kind::Text { get, .. } => get(config).into(),
            Kind::Bytes { get, .. } => get(config),
            Kind::Words { lines, .. } => lines(config).join(" ").into(),
            Kind::Persist(directive) => config.persist.value(*directive).into(),
        }
    }

    /// Takes over a value: one argument, or several where [`Directive::takes_words`]. As in Redis, several may also
    /// stand in one argument.
    /// # Errors
    /// What is wrong, in Redis's words. The configuration may have changed in part.
    pub(in crate::config) fn set(&self, config: &mut Config, arguments: &[Vec<u8>]) -> Result<(), String> {
        let value = match (&self.kind, arguments) {
            (Kind::Words { .. }, [one]) if !one.is_empty() => {
                let words = split(one).map_err(|error| error.to_string())?;
                if words.is_empty() {
                    return Err("wrong number of arguments".to_owned());
                }
                return self.set_words(config, &words);
            }
            (Kind::Words { .. }, [_, ..]) => return self.set_words(config, arguments),
            // As in Redis, nothing is the same as `""`.
            (Kind::Words { .. }, []) => return self.set_words(config, &[Vec::new()]),
            (Kind::Bytes { set, .. }, [value]) => return set(config, value),
            (_, [value]) => text(value)?,
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
            Kind::Bytes { .. } | Kind::Words { .. } => {}
        }
        Ok(())
    }

    fn set_words(&self, config: &mut Config, words: &[Vec<u8>]) -> Result<(), String> {
        let Kind::Words { set, .. } = &self.kind else { return Ok(()) };
        let words = words.iter().map(|word| text(word)).collect::<Result<Vec<_>, _>>()?;
        set(config, &words)
    }

    /// True if the directive takes several arguments.
    pub(in crate::config) fn takes_words(&self) -> bool {
        matches!(self.kind, Kind::Words { .. })
    }

    /// What a user may write, for an error.
    pub(in crate::config) fn help(&self) -> String {
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
            Kind::Text { allowed, .. } | Kind::Bytes { allowed, .. } | Kind::Words { allowed, .. } => {
                (*allowed).into()
            }
            Kind::Persist(directive) => directive.allowed().into(),
        };
        format!("{} takes {allowed}", self.name)
    }

    /// The lines of a file that set the directive to its present value.
    pub(in crate::config) fn render(&self, config: &Config) -> Vec<Vec<u8>> {
        let values = match &self.kind {
            Kind::Words { lines, .. } => match lines(config) {
                lines if lines.is_empty() => vec![quote(b"")],
                lines => lines.into_iter().map(String::into_bytes).collect(),
            },
            Kind::Memory { get, .. } => vec![render_memory(get(config)).into()],
            _ => vec![quote(&self.get(config))],
        };
        values.iter().map(|value| [self.name.as_bytes(), b" ", value].concat()).collect()
    }

    /// The arguments that the value of a `CONFIG SET` stands for.
    pub(in crate::config) fn arguments_of(&self, value: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        if !self.takes_words() {
            return Ok(vec![value.to_vec()]);
        }
        let words = split(value).map_err(|error| error.to_string())?;
        // An empty value is one empty argument, as in `save ""`.
        Ok(if words.is_empty() { vec![Vec::new()] } else { words })
    }
}
