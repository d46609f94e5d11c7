//! Configuration files.
//!
//! Checked: what is accepted reads back from `CONFIG GET`, may be set again without a change, and comes out the same from
//! what `CONFIG REWRITE` writes, into the file it came from, also with every directive, and into an empty one; what is refused has a report.

use std::io;
use std::path::{Path, PathBuf};

use holdfast_server::config::{self, Config, Problem, RewriteExtent, SourceName};

use crate::Target;

/// See the module.
pub const TARGET: Target = Target {
    name: "config",
    run,
    len_max: 2048,
    words: &[
        "port ",
        "bind ",
        "save ",
        "\"\"",
        "appendonly ",
        "appendfsync ",
        "persist-strategy ",
        "persistent ",
        "yes",
        "no",
        "always",
        "everysec",
        "never",
        "maxmemory ",
        "100mb",
        "1gb",
        "0",
        "-1",
        "18446744073709551615",
        "\n",
        "\r\n",
        "#",
        "'",
        "\"",
        "\\x41",
        "requirepass ",
        "requirepass-file ",
        "persist-after-exec ",
        "persist-on-warning ",
        "persist-on-warning-max-count",
        "-reset-on-warning",
        "-delay ",
        "loglevel ",
        "include ",
        "rename-command ",
        "maxmemory-policy ",
        "auto-aof-rewrite-percentage ",
        "databases ",
        "hz ",
        "timeout ",
        "tcp-keepalive ",
        "shutdown-on-sigterm ",
        "enable-debug-command ",
        "unixsocket ",
        "dir ",
        "dbfilename ",
        "appenddirname ",
    ],
};

/// Directives that are set again to what they are.
const SET_AGAIN: usize = 3;

/// No file includes another one.
fn nothing(_: &Path) -> Vec<io::Result<(PathBuf, Vec<u8>)>> {
    Vec::new()
}

fn check(text: &[u8]) -> Result<Config, Vec<Problem>> {
    config::check(&SourceName::Stdin, text, &Config::default(), &mut nothing)
}

fn run(data: &[u8]) {
    let config = match check(data) {
        Ok(config) => config,
        Err(problems) => {
            assert!(problems.iter().all(|problem| !problem.to_string().is_empty()) && !problems.is_empty());
            return;
        }
    };
    drop((config::notice_lines(&config.notices), config::changed_from_default(&config)));
    let shown = show(&config);
    for (original, extent) in
        [(data, RewriteExtent::Changed), (data, RewriteExtent::All), (&b""[..], RewriteExtent::Changed)]
    {
        let written = config::rewrite(&config, original, extent, &mut nothing)
            .expect("what was accepted can be rewritten");
        let (original, text) = (original.escape_ascii(), written.escape_ascii());
        match check(&written) {
            Ok(again) => assert_eq!(show(&again), shown, "{original} was rewritten as {text}"),
            Err(problems) => panic!("{original} was rewritten as {text}: {problems:?}"),
        }
    }
    // All of them would take most of the time; which ones follows from the input.
    let first =
        data.iter().fold(0usize, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % shown.len();
    for (name, value) in shown.iter().cycle().skip(first).take(SET_AGAIN) {
        let mut copy = config.clone();
        // Directives that cannot change, and values that are refused because of others, are refused in words.
        match config::config_set(&mut copy, &[(name.as_bytes(), &value[..])]) {
            Ok(changed) => assert!(changed.is_empty(), "{name} {value:?} changed {changed:?}"),
            Err(text) => assert!(text.starts_with("ERR "), "{text}"),
        }
    }
}

fn show(config: &Config) -> Vec<(String, Vec<u8>)> {
    config::config_get(config, &[b"*"])
}
