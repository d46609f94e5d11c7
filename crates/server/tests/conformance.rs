//! Replies byte for byte: transcripts of requests and replies, recorded from Redis 7.0.15.
//!
//! `tests/transcripts/*.txt` hold the bytes. `HOLDFAST_REDIS=host:port` names a Redis 7.0 that has been started for
//! nothing else with `--enable-debug-command yes`: then the transcripts are also compared with its answers, and with
//! `HOLDFAST_REDIS_RECORD=1` rewritten from them. Without it that comparison says that it was left out.

#[path = "common/store.rs"]
mod store;
#[path = "conformance/transcript.rs"]
mod transcript;

use store::Store;
use transcript::{Line, Peer, Transcript};

impl Peer for Store {
    fn send(&mut self, connection: u64, args: &[Vec<u8>]) -> Vec<u8> {
        self.run_on(connection, args).0
    }

    fn wait_ms(&mut self, ms: u64) {
        self.now_ms += i64::try_from(ms).expect("a short time");
    }
}

#[test]
fn replies_are_those_of_the_transcripts() {
    if std::env::var_os("HOLDFAST_REDIS_RECORD").is_some() {
        println!("left out: the transcripts are being rewritten");
        return;
    }
    let mut failures = Vec::new();
    let mut exchanges = 0;
    for transcript in Transcript::read_all() {
        for case in &transcript.cases {
            let mut store = Store::new();
            for (line, expected, actual) in case.play(&mut store) {
                exchanges += 1;
                if transcript::comparable(&expected) != transcript::comparable(&actual) {
                    failures.push(format!(
                        "{}:{line}\n  expected {}\n  actual   {}",
                        transcript.name,
                        transcript::escape(&expected),
                        transcript::escape(&actual)
                    ));
                }
            }
        }
    }
    println!("{exchanges} exchanges");
    assert!(failures.is_empty(), "{} of {exchanges} differ:\n{}", failures.len(), failures.join("\n"));
    assert!(exchanges > 500, "the transcripts were read");
}

#[test]
fn transcripts_are_what_redis_answers() {
    let Ok(address) = std::env::var("HOLDFAST_REDIS") else {
        println!("left out: HOLDFAST_REDIS names no Redis 7.0 to compare with");
        return;
    };
    let record = std::env::var_os("HOLDFAST_REDIS_RECORD").is_some();
    let mut failures = Vec::new();
    for mut transcript in Transcript::read_all() {
        for case in &mut transcript.cases {
            let mut redis = transcript::Remote::connect(&address);
            redis.send(0, &[b"FLUSHALL".to_vec()]);
            let answers = case.play_as_redis(&mut redis);
            for (line, expected, actual) in answers {
                if transcript::comparable(&expected) != transcript::comparable(&actual) {
                    failures.push(format!(
                        "{}:{line}\n  recorded {}\n  redis    {}",
                        transcript.name,
                        transcript::escape(&expected),
                        transcript::escape(&actual)
                    ));
                }
                if record {
                    for it in &mut case.lines {
                        if let Line::Exchange { number, theirs, ours, .. } = it
                            && *number == line
                        {
                            match theirs {
                                Some(theirs) => theirs.clone_from(&actual),
                                None => ours.clone_from(&actual),
                            }
                        }
                    }
                }
            }
        }
        if record {
            transcript.write();
        }
    }
    if !record {
        assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    }
}
