//! Requests as bytes: rendered once, then only the digits of the keys and the values change.

use std::ops::RangeInclusive;

use crate::{Command, Load, Target};

/// Keys have twelve digits.
pub(crate) const KEYS_MAX: u64 = 1_000_000_000_000;

const DIGITS: usize = 12;
/// Keys of one MSET.
const MSET_KEYS: usize = 10;
/// Values of a fixed size begin at random places of this many random bytes, which stay in the cache of a core.
const POOL_LEN: usize = 1 << 16;

/// xorshift64*: fast, and good enough to choose keys.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(end)) >> 64).unwrap_or(0)
    }
}

/// Which key comes next.
#[derive(Debug)]
enum Keys {
    Random,
    /// Each once; the number of the next one.
    InOrder(u64),
}

/// Makes batches of requests.
#[derive(Debug)]
pub(crate) struct Requests {
    command: Command,
    sizes: RangeInclusive<usize>,
    keys: u64,
    order: Keys,
    random: Random,
    pool: Vec<u8>,
    /// Of one request whose value size is fixed.
    template: Option<Template>,
}

#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    /// Where the digits of each key begin.
    keys: Vec<usize>,
    /// Where each value begins.
    values: Vec<usize>,
}

impl Requests {
    pub(crate) fn new(options: &Load) -> Self {
        let Target { keys, seed, .. } = options.target;
        let mut random = Random::new(seed);
        let len = POOL_LEN + options.size.end();
        let mut pool = Vec::with_capacity(len + 8);
        while pool.len() < len {
            pool.extend_from_slice(&random.next().to_le_bytes());
        }
        let mut requests = Self {
            command: options.command,
            sizes: options.size.clone(),
            keys,
            order: if options.fill { Keys::InOrder(options.first_key) } else { Keys::Random },
            random,
            pool,
            template: None,
        };
        if options.size.start() == options.size.end() {
            requests.template = Some(requests.render_template());
        }
        requests
    }

    /// Requests that are left, where each key is used once.
    pub(crate) fn left(&self) -> Option<u64> {
        let per_request = if self.command == Command::Mset { MSET_KEYS as u64 } else { 1 };
        match self.order {
            Keys::Random => None,
            Keys::InOrder(next) => Some(self.keys.saturating_sub(next).div_ceil(per_request)),
        }
    }

    /// Replaces `out` by a batch of `count` requests.
    pub(crate) fn render(&mut self, count: usize, out: &mut Vec<u8>) {
        let Some(template) = self.template.take() else {
            out.clear();
            for _ in 0..count {
                let size = self.draw_size();
                self.render_one(size, out);
            }
            return;
        };
        let len = template.bytes.len();
        // What the last batch left has the same form.
        out.truncate(len * count);
        while out.len() < len * count {
            out.extend_from_slice(&template.bytes);
        }
        for request in out.chunks_exact_mut(len) {
            for &at in &template.keys {
                write_digits(&mut request[at..at + DIGITS], self.draw_key());
            }
            for &at in &template.values {
                let value = self.draw_value(*self.sizes.start());
                request[at..at + value.len()].copy_from_slice(value);
            }
        }
        self.template = Some(template);
    }

    fn draw_key(&mut self) -> u64 {
        match &mut self.order {
            Keys::Random => self.random.below(self.keys),
            Keys::InOrder(next) => {
                let key = *next;
                *next += 1;
                // The last MSET has room for more keys than are left; it repeats the first ones.
                key % self.keys
            }
        }
    }

    fn draw_size(&mut self) -> usize {
        let spread = (self.sizes.end() - self.sizes.start()) as u64 + 1;
        self.sizes.start() + usize::try_from(self.random.below(spread)).unwrap_or(0)
    }

    fn draw_value(&mut self, size: usize) -> &[u8] {
        let start = usize::try_from(self.random.next()).unwrap_or(0) % POOL_LEN;
        &self.pool[start..start + size]
    }

    fn render_one(&mut self, size: usize, out: &mut Vec<u8>) {
        let pairs = match self.command {
            Command::Ping => return out.extend_from_slice(b"*1\r\n$4\r\nPING\r\n"),
            Command::Mset => MSET_KEYS,
            Command::Get | Command::Incr | Command::Set => 1,
        };
        let (name, has_value) = match self.command {
            Command::Get => ("GET", false),
            Command::Incr => ("INCR", false),
            Command::Mset => ("MSET", true),
            _ => ("SET", true),
        };
        let words = 1 + pairs * (1 + usize::from(has_value));
        out.extend_from_slice(format!("*{words}\r\n${}\r\n{name}\r\n", name.len()).as_bytes());
        for _ in 0..pairs {
            let mut digits = [0; DIGITS];
            write_digits(&mut digits, self.draw_key());
            // INCR needs keys whose values are numbers.
            out.extend_from_slice(if self.command == Command::Incr {
                b"$16\r\nnum:"
            } else {
                b"$16\r\nkey:"
            });
            out.extend_from_slice(&digits);
            out.extend_from_slice(b"\r\n");
            if has_value {
                out.extend_from_slice(format!("${size}\r\n").as_bytes());
                let value = self.draw_value(size);
                out.extend_from_slice(value);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// One request, with the places of what changes.
    fn render_template(&mut self) -> Template {
        let size = *self.sizes.start();
        // A key of the order must not be used up here.
        let order = std::mem::replace(&mut self.order, Keys::Random);
        let mut bytes = Vec::new();
        self.render_one(size, &mut bytes);
        self.order = order;
        // The places follow from the form: the name, then each key behind "$16\r\nkey:", each value behind its length.
        let (mut keys, mut values, mut at) = (Vec::new(), Vec::new(), 0);
        let (count, mut rest) = split_number(&bytes, b'*');
        at += bytes.len() - rest.len();
        for word in 0..count {
            let (len, after) = split_number(rest, b'$');
            at += rest.len() - after.len();
            match word {
                0 => {}
                _ if word % 2 == 1 => keys.push(at + "key:".len()),
                _ => values.push(at),
            }
            rest = &after[len + 2..];
            at += len + 2;
        }
        Template { bytes, keys, values }
    }
}

/// The number of a line such as `$16\r\n`, and what follows the line.
fn split_number(bytes: &[u8], mark: u8) -> (usize, &[u8]) {
    debug_assert_eq!(bytes.first(), Some(&mark));
    let end = bytes.iter().position(|&byte| byte == b'\r').unwrap_or(bytes.len());
    let number = std::str::from_utf8(&bytes[1..end]).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    (number, &bytes[end + 2..])
}

fn write_digits(out: &mut [u8], mut number: u64) {
    const PAIRS: [[u8; 2]; 100] = {
        let mut pairs = [[0; 2]; 100];
        let mut number = 0u8;
        while number < 100 {
            pairs[number as usize] = [b'0' + number / 10, b'0' + number % 10];
            number += 1;
        }
        pairs
    };
    for pair in out.chunks_exact_mut(2).rev() {
        pair.copy_from_slice(&PAIRS[usize::try_from(number % 100).unwrap_or(0)]);
        number /= 100;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{Arguments, Mode};

    fn requests(options: &str) -> Requests {
        let line = format!("loadgen load --server 127.0.0.1:1 {options}");
        let Mode::Load(options) = Arguments::parse_from(line.split(' ')).mode else { panic!("load") };
        Requests::new(&options)
    }

    /// The words of every request of a batch.
    fn words(mut bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let (count, rest) = split_number(bytes, b'*');
            bytes = rest;
            found.push(
                (0..count)
                    .map(|_| {
                        let (len, rest) = split_number(bytes, b'$');
                        assert_eq!(&rest[len..len + 2], b"\r\n");
                        bytes = &rest[len + 2..];
                        rest[..len].to_vec()
                    })
                    .collect(),
            );
        }
        found
    }

    #[test]
    fn fixed_and_varying_sizes_render_the_same_form() {
        for sizes in ["5", "0-9"] {
            for (command, pairs, name) in
                [("get", 1, "GET"), ("set", 1, "SET"), ("mset", 10, "MSET"), ("incr", 1, "INCR")]
            {
                let mut requests = requests(&format!("--command {command} --size {sizes} --keys 1000"));
                let mut out = Vec::new();
                for count in [3, 1, 7] {
                    requests.render(count, &mut out);
                    let batch = words(&out);
                    assert_eq!(batch.len(), count);
                    for request in batch {
                        let has_value = matches!(command, "set" | "mset");
                        assert_eq!(request[0], name.as_bytes());
                        assert_eq!(request.len(), 1 + pairs * (1 + usize::from(has_value)));
                        for key in request[1..].iter().step_by(1 + usize::from(has_value)) {
                            assert_eq!(key.len(), 16);
                            let number: u64 = std::str::from_utf8(&key[4..]).unwrap().parse().unwrap();
                            assert!(number < 1000);
                        }
                        if has_value {
                            let fits = |value: &Vec<u8>| {
                                if sizes == "5" { value.len() == 5 } else { value.len() <= 9 }
                            };
                            assert!(request[2..].iter().step_by(2).all(fits));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn values_differ_and_keys_spread() {
        let mut requests = requests("--command set --size 16 --keys 100");
        let mut out = Vec::new();
        requests.render(1000, &mut out);
        let batch = words(&out);
        let keys: std::collections::HashSet<_> = batch.iter().map(|request| request[1].clone()).collect();
        let values: std::collections::HashSet<_> = batch.iter().map(|request| request[2].clone()).collect();
        assert!(keys.len() > 95, "{}", keys.len());
        assert!(values.len() > 900, "{}", values.len());
    }

    #[test]
    fn fill_uses_each_key_once_in_order() {
        for command in ["set", "mset"] {
            let mut requests = requests(&format!("--command {command} --keys 30 --fill --first-key 10"));
            let mut out = Vec::new();
            let mut seen = Vec::new();
            while let Some(left) = requests.left().filter(|&left| left > 0) {
                requests.render(usize::try_from(left.min(4)).unwrap(), &mut out);
                seen.extend(
                    words(&out)
                        .into_iter()
                        .flat_map(|request| request[1..].iter().step_by(2).cloned().collect::<Vec<_>>()),
                );
            }
            let expected: Vec<_> = (10..30).map(|number| format!("key:{number:012}").into_bytes()).collect();
            assert_eq!(seen, expected, "{command}");
        }
    }
}
