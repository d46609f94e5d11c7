//! Entry point: arguments, logging, exit codes.

use std::process::ExitCode;

use holdfast_server::config::{self, Config, HELP, Invocation};
use holdfast_server::{exit_code, run, telemetry};

#[global_allocator]
static GLOBAL: holdfast_allocator::Jemalloc = holdfast_allocator::Jemalloc;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let is_restore = arguments.first().is_some_and(|first| first == "restore");
    if is_restore {
        arguments.remove(0);
    }
    let config = match config::parse_arguments(arguments) {
        Invocation::Help => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Invocation::Version => {
            println!("holdfast-server v{} (commands and files of Redis 7.0)", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Invocation::Start(arguments) => match config::load(&arguments) {
            Ok(config) => config,
            Err(error) => {
                eprintln!("{}", error.report());
                return ExitCode::from(exit_code::CONFIG);
            }
        },
    };
    let logfile = config.log_path();
    if let Err(error) = telemetry::start(config.loglevel, logfile.as_deref()) {
        let logfile = logfile.unwrap_or_default();
        eprintln!("holdfast-server: cannot open logfile {logfile:?}: {error}");
        return ExitCode::from(exit_code::CONFIG);
    }
    announce(&config);
    let result = if is_restore { run::restore(&config) } else { run::serve(config) };
    result.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        eprintln!("holdfast-server: {error:#}");
        ExitCode::FAILURE
    })
}

fn announce(config: &Config) {
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    tracing::info!("Holdfast {version} starting, pid {pid}");
    for (name, value) in config::changed_from_default(config) {
        tracing::info!("configuration: {name} {value}");
    }
    for line in config::notice_lines(&config.notices) {
        tracing::warn!("{line}");
    }
}
