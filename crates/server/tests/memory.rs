//! What the server does with its memory, on the real server.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, in its helpers too")]

mod support;

use std::time::Instant;

use support::{PATIENCE, Reply, Server};

/// Values of 1,000 bytes.
const VALUES: usize = 64 * 1000;

fn value(number: usize) -> String {
    format!("{number:09}-").repeat(100)
}

/// Bytes of a process that lie in huge pages. Source: proc_pid_smaps(5).
fn huge_bytes(process: &str) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("AnonHugePages:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// The log of a server before Redis 7 may be much larger than the data.
#[test]
fn a_log_in_one_file_is_not_held_in_memory_while_it_loads() {
    const FILE_LEN: usize = 160 << 20;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    std::fs::create_dir(&dir).unwrap();
    let value = "x".repeat(64 << 10);
    let mut file = Vec::new();
    support::Client::encode(&["SELECT", "0"], &mut file);
    while file.len() < FILE_LEN {
        support::Client::encode(&["SET", "key", &value], &mut file);
    }
    std::fs::write(dir.join("appendonly.aof"), &file).unwrap();
    drop(file);
    let server = Server::spawn(&dir, &["--save", ""]);
    assert_eq!(server.client().run("STRLEN key").int(), 64 << 10);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let peak = line.split_ascii_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10;
    assert!(peak < FILE_LEN / 2, "{peak} bytes at the most, for one key");
}

/// Full memory moves into huge pages and keeps what it holds; a server that shall not do so does not. Where the machine has
/// none the server says so and goes on.
#[test]
fn full_memory_moves_into_huge_pages() {
    for wanted in ["yes", "no"] {
        let folder = tempfile::tempdir().unwrap();
        let args = ["--persistent", "no", "--huge-pages", wanted];
        let server = Server::spawn(&folder.path().join("data"), &args);
        let mut client = server.client();
        for batch in 0..VALUES / 1000 {
            let words = (0..1000).map(|number| batch * 1000 + number);
            let pairs = words.flat_map(|number| [format!("key:{number}"), value(number)]);
            let command: Vec<String> = std::iter::once("MSET".to_owned()).chain(pairs).collect();
            assert_eq!(client.command(&command), Reply::ok());
        }
        let state = client.info("huge_pages");
        match (wanted, state.as_str()) {
            ("yes", "on") => {
                // Of 64 MB a good part is full.
                let deadline = Instant::now() + PATIENCE;
                while client.info("huge_pages_moved").parse::<u64>().unwrap() < 16 {
                    assert!(
                        Instant::now() < deadline,
                        "{} blocks were moved",
                        client.info("huge_pages_moved")
                    );
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                assert!(huge_bytes(&client.info("process_id")) > 16 << 20);
            }
            ("yes", "unavailable") => {
                assert!(server.log_text().contains("huge pages are not used"), "{}", server.log_text())
            }
            ("no", "off") => assert_eq!(client.info("huge_pages_moved"), "0"),
            other => panic!("{other:?}"),
        }
        for number in 0..VALUES {
            assert_eq!(client.run(&format!("GET key:{number}")), Reply::bulk(value(number)));
        }
    }
}
