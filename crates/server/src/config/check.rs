//! From texts to a configuration, or to everything that is wrong with them.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::apply::{apply, check_relations};
use super::arguments::Arguments;
use super::include::{self, expand};
use super::notice::Notice;
use super::problem::{ConfigError, Problem, SourceName};
use super::settings::Config;
use super::source::parse_text;

/// Applies a text over `base` and checks the result. `read` reads what `include` names; nothing else is read.
/// # Errors
/// Everything that is wrong, in the order of the lines.
pub fn check(
    source: &SourceName,
    text: &[u8],
    base: &Config,
    read: &mut include::Read<'_>,
) -> Result<Config, Vec<Problem>> {
    let mut config = base.clone();
    let mut problems = Vec::new();
    apply_text(&mut config, source, text, read, &mut false, &mut problems);
    finish(config, problems)
}

fn apply_text(
    config: &mut Config,
    source: &SourceName,
    text: &[u8],
    read: &mut include::Read<'_>,
    has_rules: &mut bool,
    problems: &mut Vec<Problem>,
) {
    let lines = expand(source, parse_text(source, text), read);
    apply(config, &lines, has_rules, problems);
}

fn finish(mut config: Config, mut problems: Vec<Problem>) -> Result<Config, Vec<Problem>> {
    if problems.is_empty() {
        // A wrong line leaves a default in its place, whose relations nobody has asked for.
        problems = check_relations(&config);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let own = own_notices(&config);
    config.notices.extend(own);
    Ok(config)
}

/// Reads what the arguments name and makes the configuration of it.
/// # Errors
/// [`ConfigError`]; [`ConfigError::report`] is the text to print, and 2 the exit code.
pub fn load(arguments: &Arguments) -> Result<Config, ConfigError> {
    let mut config = load_with(
        arguments,
        |path| match path {
            Some(path) => fs::read(path),
            None => {
                let mut bytes = Vec::new();
                io::stdin().read_to_end(&mut bytes)?;
                Ok(bytes)
            }
        },
        &mut include::read_files,
    )?;
    if let Ok(dir) = std::path::absolute(&config.dir) {
        // CONFIG GET and CONFIG REWRITE tell programs where the files are, as in Redis.
        config.dir = dir;
    }
    // Only here: CONFIG SET may end all listening, as in Redis, and a text that is checked is not all that a start reads.
    if !config.is_reachable() {
        let problem = Problem::Combination(
            "the server would not listen anywhere: set port to a number other than 0 and bind to an address, or unixsocket to a \
             path"
                .to_owned(),
        );
        return Err(ConfigError { problems: vec![problem] });
    }
    Ok(config)
}

/// [`load`] with other readers in the place of the file system; no path is standard input.
pub(super) fn load_with(
    arguments: &Arguments,
    mut read: impl FnMut(Option<&Path>) -> io::Result<Vec<u8>>,
    include: &mut include::Read<'_>,
) -> Result<Config, ConfigError> {
    let Arguments { file, stdin, lines } = arguments;
    let mut config = Config::default();
    let mut problems = Vec::new();
    let mut has_rules = false;
    if let Some(path) = file {
        let from = format!("{path:?}");
        match read(Some(path)).and_then(|text| Ok((text, std::path::absolute(path)?))) {
            Ok((text, absolute)) => {
                let source = SourceName::File(path.clone());
                apply_text(&mut config, &source, &text, include, &mut has_rules, &mut problems);
                config.file_sha256 = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
                config.file = Some(absolute);
            }
            Err(error) => problems.push(Problem::Read { from, reason: error.to_string() }),
        }
    }
    if *stdin {
        match read(None) {
            Ok(text) => {
                apply_text(&mut config, &SourceName::Stdin, &text, include, &mut has_rules, &mut problems)
            }
            Err(error) => {
                problems.push(Problem::Read { from: "standard input".to_owned(), reason: error.to_string() })
            }
        }
    }
    let lines = expand(&SourceName::Arguments, lines.clone(), include);
    apply(&mut config, &lines, &mut has_rules, &mut problems);
    finish(config, problems).map_err(|problems| ConfigError { problems })
}

/// What is to be said about our own directives, from the values of all sources.
pub(crate) fn own_notices(config: &Config) -> Vec<Notice> {
    let no_event = config.persist.without_event().into_iter().map(|directive| {
        let reason = "has no effect, the event cannot occur: there is no replication in this version";
        (directive.to_string(), reason)
    });
    let no_delay = config.persist.delays_without_effect().into_iter().map(|directive| {
        let reason = "only says whether: what is done before and after a crash of the system is done at the next start, without delay";
        (directive.to_string(), reason)
    });
    let mut own: Vec<_> = no_event.chain(no_delay).collect();
    if config.shutdown_timeout != Config::default().shutdown_timeout {
        let reason = "has no effect: it is the time that replicas have at a stop, and there is no replication in this version";
        own.push(("shutdown-timeout".to_owned(), reason));
    }
    if !config.protected_mode && config.requirepass.is_empty() && config.requirepass_file.is_none() {
        let reason =
            "is off and there is no password: everybody who reaches the port can read and change all data";
        own.push(("protected-mode".to_owned(), reason));
    }
    let notice = |(directive, reason): (String, &str)| Notice {
        directive,
        place: None,
        reason: reason.to_owned(),
        at_default: false,
    };
    own.into_iter().map(notice).collect()
}
