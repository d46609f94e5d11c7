//! Under libFuzzer (`fuzz/run` builds it so): fuzzes the target that `HOLDFAST_FUZZ_TARGET` names, or with
//! `HOLDFAST_FUZZ_TELL` tells about targets. Otherwise replays the files given.

#![cfg_attr(holdfast_fuzz, no_main)]

#[cfg(holdfast_fuzz)]
libfuzzer_sys::fuzz_target!(
    init: {
        if let Ok(what) = std::env::var("HOLDFAST_FUZZ_TELL") {
            print!("{}", tell(&what));
            std::process::exit(0);
        }
    },
    |data: &[u8]| {
        static RUN: std::sync::OnceLock<fn(&[u8])> = std::sync::OnceLock::new();
        let run = RUN.get_or_init(|| {
            let name = std::env::var("HOLDFAST_FUZZ_TARGET").expect("HOLDFAST_FUZZ_TARGET names the target");
            holdfast_fuzz::Target::find(&name).expect("HOLDFAST_FUZZ_TARGET names a target").run
        });
        run(data);
    }
);

/// `list`: a line with name and longest input for each target. The name of a target: its words as a dictionary of libFuzzer.
#[cfg(holdfast_fuzz)]
fn tell(what: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for target in holdfast_fuzz::TARGETS {
        if what == "list" {
            let _ = writeln!(text, "{} {}", target.name, target.len_max);
        } else if what == target.name {
            for word in target.words {
                let escaped: String = word.bytes().map(|byte| format!("\\x{byte:02X}")).collect();
                let _ = writeln!(text, "\"{escaped}\"");
            }
        }
    }
    text
}

#[cfg(not(holdfast_fuzz))]
fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(target) = arguments.next().as_deref().and_then(holdfast_fuzz::Target::find) else {
        let names: Vec<_> = holdfast_fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("usage: holdfast-fuzz TARGET FILE...   TARGET: {}", names.join(", "));
        return std::process::ExitCode::from(2);
    };
    for path in arguments {
        match std::fs::read(&path) {
            Ok(bytes) => (target.run)(&bytes),
            Err(error) => {
                eprintln!("failed to read {path:?}: {error}");
                return std::process::ExitCode::FAILURE;
            }
        }
        println!("{path}: no finding");
    }
    std::process::ExitCode::SUCCESS
}
