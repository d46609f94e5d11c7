//! MONITOR: what is executed, shown as it happens.

use std::io::Write as _;

use super::args::is;
use super::{Call, Outcome, Run, error};
use crate::protocol::Request;

pub(crate) fn monitor(call: &mut Call<'_, '_>) -> Run {
    if call.in_exec {
        return Err(error::MONITOR_DENIED);
    }
    // A second MONITOR is not answered, as in Redis.
    if !std::mem::replace(&mut call.session.monitors, true) {
        call.ctx.host.set_monitor(call.session, true);
        call.reply.ok();
    }
    Ok(Outcome::Done)
}

/// The line that shows a request, as a simple string: time, database, address, arguments in quotes. Secrets are left out.
/// Source of the form: Redis 7.0, `replicationFeedMonitors` and `sdscatrepr`.
pub(crate) fn line(request: &Request<'_>, now_us: u64, db: u32, address: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(64 + request.args_len());
    let (seconds, micros) = (now_us / 1_000_000, now_us % 1_000_000);
    // Writing to a vector cannot fail.
    let _ = write!(line, "+{seconds}.{micros:06} [{db} {address}]");
    for (index, argument) in request.args_from(0).enumerate() {
        line.push(b' ');
        write_quoted(if is_secret(request, index) { b"(redacted)" } else { argument }, &mut line);
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Settings that are secret. Source: Redis 7.0, `SENSITIVE_CONFIG`.
const SECRET_SETTINGS: &[&str] =
    &["requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass"];

/// Whether the argument at `index` is a user name, a password, or a setting that holds one.
pub(super) fn is_secret(request: &Request<'_>, index: usize) -> bool {
    let name = request.arg(0);
    if is(name, "auth") {
        return index > 0;
    }
    let is_set = is(name, "config") && request.arg_at(1).is_some_and(|arg| is(arg, "set"));
    if is_set && index >= 3 && index % 2 == 1 {
        let setting = request.arg(index - 1);
        return SECRET_SETTINGS.iter().any(|secret| is(setting, secret));
    }
    is(name, "hello") && (1..=2).any(|back| index > back && is(request.arg(index - back), "auth"))
}

fn write_quoted(argument: &[u8], line: &mut Vec<u8>) {
    line.push(b'"');
    for &byte in argument {
        match byte {
            b'\\' | b'"' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            7 => line.extend_from_slice(b"\\a"),
            8 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(byte),
            _ => {
                // Writing to a vector cannot fail.
                let _ = write!(line, "\\x{byte:02x}");
            }
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::OwnedRequest;

    fn check(args: &[&[u8]], expected: &str) {
        let request = OwnedRequest::from_args(args);
        let line = line(&request.as_request(), 1_700_000_000_000_042, 3, "127.0.0.1:5");
        assert_eq!(
            String::from_utf8_lossy(&line),
            format!("+1700000000.000042 [3 127.0.0.1:5] {expected}\r\n")
        );
    }

    #[test]
    fn requests_are_shown_as_by_redis() {
        check(&[b"SET", b"a\x00\n\"\\", b"b c"], r#""SET" "a\x00\n\"\\" "b c""#);
        check(&[b"set", b"\t\r\x07\x08\x7f\xff", b""], r#""set" "\t\r\a\b\x7f\xff" """#);
    }

    #[test]
    fn secrets_are_not_shown() {
        check(&[b"AUTH", b"password"], r#""AUTH" "(redacted)""#);
        check(&[b"auth", b"default", b"password"], r#""auth" "(redacted)" "(redacted)""#);
        check(
            &[b"HELLO", b"3", b"AUTH", b"default", b"password", b"SETNAME", b"me"],
            r#""HELLO" "3" "AUTH" "(redacted)" "(redacted)" "SETNAME" "me""#,
        );
        check(
            &[b"config", b"SET", b"hz", b"10", b"RequirePass", b"password", b"masterauth"],
            r#""config" "SET" "hz" "10" "RequirePass" "(redacted)" "masterauth""#,
        );
        check(&[b"config", b"get", b"requirepass", b"x"], r#""config" "get" "requirepass" "x""#);
    }
}
