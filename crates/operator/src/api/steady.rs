//! Text of others (kubelet, drivers, webhooks, the API server, object stores) without what differs from one try to the next.
//!
//! Such text stands in conditions, and a status is written when it changes: a port of the local end, an id of a request or a
//! growing pause would make every try a write, and wake everybody who watches.

/// Stands for what was left out.
const LEFT_OUT: &str = "…";
/// Least length of an id of a request; shorter words are words.
const REQUEST_ID_LEN_MIN: usize = 8;
/// Hex digits of the id of a container.
const CONTAINER_ID_LEN: usize = 64;

/// The length of what differs from try to try and begins at this position of the text; absent when nothing does.
type Rule = fn(&str, usize) -> Option<usize>;

const RULES: [Rule; 5] = [local_end, request_id, time, pause, container_id];

/// `text` without what differs from try to try.
#[must_use]
pub(super) fn steady(text: &str) -> String {
    let mut steady = String::with_capacity(text.len());
    let mut position = 0;
    while let Some(character) = text[position..].chars().next() {
        // Everything that is left out begins with a letter or digit, or the bracket of an address.
        let may_begin = character.is_ascii_alphanumeric() || character == '[';
        match RULES.iter().filter(|_| may_begin).find_map(|rule| rule(text, position)) {
            Some(length) => {
                steady.push_str(LEFT_OUT);
                position += length;
            }
            None => {
                steady.push(character);
                position += character.len_utf8();
            }
        }
    }
    steady
}

/// The longest start of `text` of which every byte is `wanted`.
fn run(text: &str, wanted: impl Fn(u8) -> bool) -> &str {
    &text[..text.bytes().take_while(|byte| wanted(*byte)).count()]
}

/// `10.244.0.5:53924` in `read udp 10.244.0.5:53924->10.96.0.10:53: i/o timeout`.
fn local_end(text: &str, position: usize) -> Option<usize> {
    let is_start = position == 0 || text[..position].ends_with([' ', '(', '"']);
    let end = run(&text[position..], |byte| byte.is_ascii_hexdigit() || b".:[]".contains(&byte));
    let (_, port) = end.rsplit_once(':').filter(|_| is_start)?;
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && text[position + end.len()..].starts_with("->")).then_some(end.len())
}

/// `4442587FB7D0A2F9` in `AccessDenied, request id: 4442587FB7D0A2F9`.
fn request_id(text: &str, position: usize) -> Option<usize> {
    let label = text[..position].trim_end_matches([' ', ':', '=', '"']);
    let names_one = ["request id", "requestid", "request-id", "request_id"].iter().any(|name| {
        label
            .len()
            .checked_sub(name.len())
            .and_then(|start| label.get(start..))
            .is_some_and(|end| end.eq_ignore_ascii_case(name))
    });
    let id = run(&text[position..], |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_id = id.len() >= REQUEST_ID_LEN_MIN && id.bytes().any(|byte| byte.is_ascii_digit());
    (names_one && label.len() < position && is_id).then_some(id.len())
}

/// `2026-01-02T03:04:05.678Z`, with or without fraction and zone.
fn time(text: &str, position: usize) -> Option<usize> {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let rest = &text[position..];
    let is_start = !text[..position].ends_with(|before: char| before.is_ascii_alphanumeric());
    let begins = rest.as_bytes().get(..FORM.len()).filter(|_| is_start)?;
    let is_time = begins
        .iter()
        .zip(FORM)
        .all(|(byte, form)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form });
    let tail = run(rest.get(FORM.len()..)?, |byte| byte.is_ascii_digit() || b".Z+:".contains(&byte));
    is_time.then(|| FORM.len() + tail.trim_end_matches(['.', ':']).len())
}

/// `2m40s` in the kubelet's `back-off 2m40s restarting failed container`.
fn pause(text: &str, position: usize) -> Option<usize> {
    let length = run(&text[position..], |byte| byte.is_ascii_digit() || b"hms.".contains(&byte)).len();
    (text[..position].ends_with("back-off ") && text.as_bytes()[position].is_ascii_digit()).then_some(length)
}

/// The id of a container, which is another one at each try; a digest of an image stays.
fn container_id(text: &str, position: usize) -> Option<usize> {
    let before = &text[..position];
    let is_start = !before.ends_with(|before: char| before.is_ascii_alphanumeric());
    let id = run(&text[position..], |byte| byte.is_ascii_alphanumeric());
    let is_id = id.len() == CONTAINER_ID_LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_start && is_id && !before.ends_with("sha256:")).then_some(id.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(steady(text), expected);
        assert_eq!(steady(expected), expected, "what is steady stays");
    }

    #[test]
    fn what_differs_from_try_to_try_is_left_out() {
        check(
            "dial tcp: lookup r.test on 10.96.0.10:53: read udp 10.244.0.5:53924->10.96.0.10:53: i/o timeout",
            "dial tcp: lookup r.test on 10.96.0.10:53: read udp …->10.96.0.10:53: i/o timeout",
        );
        check("read tcp [fd00::5]:41058->[fd00::1]:443: reset", "read tcp …->[fd00::1]:443: reset");
        check(
            "api error UnauthorizedOperation: no, RequestID: 6a1b2c3d-0000-4000-8000-00000000000f, try later",
            "api error UnauthorizedOperation: no, RequestID: …, try later",
        );
        check("AccessDenied (request id: 4442587FB7D0A2F9)", "AccessDenied (request id: …)");
        check("{\"x-amz-request-id\":\"4442587FB7D0A2F9\"}", "{\"x-amz-request-id\":\"…\"}");
        check(
            "{\"time\":\"2026-01-02T03:04:05.678Z\",\"level\":\"ERROR\"}",
            "{\"time\":\"…\",\"level\":\"ERROR\"}",
        );
        check("at 2026-01-02T03:04:05+00:00: no space", "at …: no space");
        check(
            "back-off 2m40s restarting failed container=server",
            "back-off … restarting failed container=server",
        );
        let id = "0123456789abcdef".repeat(4);
        check(&format!("failed to start container \"{id}\": no"), "failed to start container \"…\": no");
    }

    #[test]
    fn what_people_look_for_stays() {
        let digest = "0123456789abcdef".repeat(4);
        for text in [
            "",
            "größer als 10.0.0.1:53 -> nichts",
            "set bootstrap.adopt to 0b7c1d2e-0000-4000-8000-000000000001",
            "server at 10.244.0.5:9181 did not answer GET /v1/status: no answer within 5 s",
            "backup \"a/backups/20260102T030405Z-000003-00000000000000000099\" is gone",
            "0/3 nodes are available: 3 Insufficient memory. preemption: 0/3 nodes are available",
            "Post \"https://hook.test:443/check?timeout=10s\": context deadline exceeded",
            "MountVolume.MountDevice failed for volume \"pvc-0b7c1d2e-0000-4000-8000-000000000001\"",
            "the request id is missing",
            "request ids: forbidden",
        ] {
            check(text, text);
        }
        let image = format!("image r.test/a@sha256:{digest} not found");
        check(&image, &image);
    }
}
