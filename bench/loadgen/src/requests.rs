//! Requests as bytes: rendered once, then only the digits of the keys and the values change.

use std::ops::RangeInclusive;

use anyhow::ensure;

use crate::{Command, Load, Target};

/// Keys have twelve digits.
pub(crate) const KEYS_MAX: u64 = 1_000_000_000_000;

/// What PUBLISH publishes to; as long as a key.
pub(crate) const CHANNEL: &str = "chn:000000000000";

const DIGITS: usize = 12;
/// Elements of one MSET where `--elements` says nothing.
const MSET_ELEMENTS: u32 = 10;
/// Of `mixed`, which share of the requests is SET, in percent; the others are GET.
const MIXED_SETS_PERCENT: u64 = 20;
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

/// A part of a request. Each is one word of it, but for `Next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Text(&'static str),
    /// Nothing is written: the element that what follows speaks of is chosen.
    Next,
    /// This and the digits of the element's number.
    Element(&'static str),
    /// This and the digits of the number of the collection that has the element.
    Collection(&'static str),
    /// This and the digits of the number of the lane that sends.
    Lane(&'static str),
    /// A random number below that of the keys, in as many digits as an element: Redis reads it as a score.
    Score,
    /// The element's place in its collection and this more, without leading zeros, which Redis refuses in an integer.
    Place(u64),
    Value,
}

impl Part {
    /// Whether every request has the same number of bytes here, if all values have one size.
    fn is_fixed(self) -> bool {
        !matches!(self, Self::Place(_))
    }
}

/// The parts of one request.
type Shape = Vec<Part>;

/// A request of `head`, then `group` for each element. An element is chosen before the head, which names its collection.
fn shape(head: &[Part], group: &[Part], elements: u32) -> Shape {
    let mut parts = vec![Part::Next];
    parts.extend_from_slice(head);
    for number in 0..elements {
        if number > 0 {
            parts.push(Part::Next);
        }
        parts.extend_from_slice(group);
    }
    parts
}

/// What a lane's connections send, in their order; two of `mixed`, for one connection that sends either.
fn shapes(command: Command, elements: u32) -> Vec<Shape> {
    use Part::{Collection, Element, Lane, Place, Score, Text, Value};

    let one = |head: &[Part], group: &[Part]| vec![shape(head, group, elements)];
    let get = || shape(&[Text("GET")], &[Element("key:")], 1);
    let set = || shape(&[Text("SET")], &[Element("key:"), Value], 1);
    match command {
        Command::Ping => vec![shape(&[Text("PING")], &[], 1)],
        Command::Get => vec![get()],
        Command::Set => vec![set()],
        Command::Mixed => vec![get(), set()],
        // INCR needs keys whose values are numbers.
        Command::Incr => vec![shape(&[Text("INCR")], &[Element("num:")], 1)],
        Command::Mset => one(&[Text("MSET")], &[Element("key:"), Value]),
        Command::Lpush => one(&[Text("LPUSH"), Collection("lst:")], &[Value]),
        Command::Rpush => one(&[Text("RPUSH"), Collection("lst:")], &[Value]),
        Command::Rpop => vec![shape(&[Text("RPOP"), Collection("lst:")], &[], 1)],
        Command::Lrange => vec![shape(&[Text("LRANGE"), Collection("lst:"), Text("0"), Text("99")], &[], 1)],
        Command::Hset => one(&[Text("HSET"), Collection("hsh:")], &[Element("mem:"), Value]),
        Command::Hget => vec![shape(&[Text("HGET"), Collection("hsh:")], &[Element("mem:")], 1)],
        Command::Sadd => one(&[Text("SADD"), Collection("set:")], &[Element("mem:")]),
        Command::Sismember => vec![shape(&[Text("SISMEMBER"), Collection("set:")], &[Element("mem:")], 1)],
        Command::Zadd => one(&[Text("ZADD"), Collection("zst:")], &[Score, Element("mem:")]),
        Command::Zrangebyscore => {
            let limit = [Score, Text("+inf"), Text("LIMIT"), Text("0"), Text("10")];
            vec![shape(&[Text("ZRANGEBYSCORE"), Collection("zst:")], &limit, 1)]
        }
        Command::Zrank => vec![shape(&[Text("ZRANK"), Collection("zst:")], &[Element("mem:")], 1)],
        Command::Zrange => vec![shape(&[Text("ZRANGE"), Collection("zst:")], &[Place(0), Place(9)], 1)],
        // Order matters: the waiting side is sent first.
        Command::Handover => vec![
            shape(&[Text("BLPOP"), Lane("hnd:"), Text("0")], &[], 1),
            shape(&[Text("RPUSH"), Lane("hnd:"), Value], &[], 1),
        ],
        Command::Publish => vec![shape(&[Text("PUBLISH"), Text(CHANNEL), Value], &[], 1)],
    }
}

/// Makes batches of requests.
#[derive(Debug)]
pub(crate) struct Requests {
    shapes: Vec<Shape>,
    /// One of the first two shapes is drawn for each request.
    mixed: bool,
    sizes: RangeInclusive<usize>,
    keys: u64,
    /// Elements of a collection.
    members: u64,
    /// Elements of a request.
    elements: u64,
    order: Keys,
    random: Random,
    pool: Vec<u8>,
    /// The element that is spoken of.
    element: u64,
    /// Per shape, where every request has the same form.
    templates: Vec<Template>,
}

/// One request.
#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    /// What changes, in order, and where its changing bytes begin.
    holes: Vec<(usize, Part)>,
}

impl Requests {
    pub(crate) fn new(options: &Load) -> anyhow::Result<Self> {
        let Target { keys, seed, .. } = options.target;
        let elements =
            options.elements.unwrap_or(if options.command == Command::Mset { MSET_ELEMENTS } else { 1 });
        ensure!(
            options.members.is_none_or(|members| members % u64::from(elements) == 0),
            "a request has elements of one collection: --members must be a multiple of --elements"
        );
        let mut random = Random::new(seed);
        let len = POOL_LEN + options.size.end();
        let mut pool = Vec::with_capacity(len + 8);
        while pool.len() < len {
            pool.extend_from_slice(&random.next().to_le_bytes());
        }
        let mut requests = Self {
            shapes: shapes(options.command, elements),
            mixed: options.command == Command::Mixed,
            sizes: options.size.clone(),
            keys,
            members: options.members.unwrap_or(keys),
            elements: elements.into(),
            order: if options.fill { Keys::InOrder(options.first_key) } else { Keys::Random },
            random,
            pool,
            element: 0,
            templates: Vec::new(),
        };
        let fixed = requests.shapes.iter().flatten().all(|part| part.is_fixed());
        if fixed && !requests.mixed && options.size.start() == options.size.end() {
            requests.render_templates();
        }
        Ok(requests)
    }

    /// Connections that work together: a batch is answered when each of them has its replies.
    pub(crate) fn connections_per_lane(&self) -> usize {
        if self.mixed { 1 } else { self.shapes.len() }
    }

    /// Requests that are left, where each key is used once.
    pub(crate) fn left(&self) -> Option<u64> {
        match self.order {
            Keys::Random => None,
            Keys::InOrder(next) => Some(self.keys.saturating_sub(next).div_ceil(self.elements)),
        }
    }

    /// Replaces `out` by a batch of `count` requests, for the connection of this number in that lane.
    pub(crate) fn render(&mut self, lane: usize, number: usize, count: usize, out: &mut Vec<u8>) {
        if self.templates.is_empty() {
            out.clear();
            for _ in 0..count {
                let drawn = self.mixed && self.random.below(100) < MIXED_SETS_PERCENT;
                self.render_one(lane, if self.mixed { usize::from(drawn) } else { number }, out, None);
            }
            return;
        }
        // Taken out, for the numbers are drawn from the rest.
        let template =
            std::mem::replace(&mut self.templates[number], Template { bytes: Vec::new(), holes: Vec::new() });
        let len = template.bytes.len();
        // What the last batch left has the same form.
        out.truncate(len * count);
        while out.len() < len * count {
            out.extend_from_slice(&template.bytes);
        }
        for request in out.chunks_exact_mut(len) {
            let mut first = true;
            for &(at, part) in &template.holes {
                match part {
                    Part::Next => self.draw_element(std::mem::take(&mut first)),
                    Part::Value => {
                        let value = self.draw_value(*self.sizes.start());
                        request[at..at + value.len()].copy_from_slice(value);
                    }
                    _ => {
                        let number = self.number_of(part, lane);
                        write_digits(&mut request[at..at + DIGITS], number);
                    }
                }
            }
        }
        self.templates[number] = template;
    }

    /// Chooses an element; the first of a request decides which collection the others are of.
    fn draw_element(&mut self, first: bool) {
        self.element = match &mut self.order {
            Keys::Random if first => self.random.below(self.keys),
            Keys::Random => {
                self.element - self.element % self.members + self.random.below(self.members.min(self.keys))
            }
            Keys::InOrder(next) => {
                let element = *next;
                *next += 1;
                // The last request has room for more than are left; it repeats the first ones.
                element % self.keys
            }
        };
    }

    /// The number that stands in a part that has digits.
    fn number_of(&mut self, part: Part, lane: usize) -> u64 {
        match part {
            Part::Element(_) => self.element,
            Part::Collection(_) => self.element / self.members,
            Part::Lane(_) => lane as u64,
            Part::Score => self.random.below(self.keys),
            Part::Place(more) => self.element % self.members + more,
            Part::Text(_) | Part::Next | Part::Value => 0,
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

    /// Appends one request of a shape; its changing parts are noted in `holes`.
    fn render_one(
        &mut self,
        lane: usize,
        shape: usize,
        out: &mut Vec<u8>,
        mut holes: Option<&mut Vec<(usize, Part)>>,
    ) {
        let parts = std::mem::take(&mut self.shapes[shape]);
        let size = self.draw_size();
        let words = parts.iter().filter(|&&part| part != Part::Next).count();
        write_line(b'*', words as u64, out);
        let (mut first, mut digits) = (true, [0; DIGITS]);
        for &part in &parts {
            let hole = match part {
                Part::Next => {
                    self.draw_element(std::mem::take(&mut first));
                    if let Some(holes) = &mut holes {
                        holes.push((out.len(), part));
                    }
                    continue;
                }
                Part::Text(text) => {
                    write_line(b'$', text.len() as u64, out);
                    out.extend_from_slice(text.as_bytes());
                    None
                }
                Part::Element(prefix) | Part::Collection(prefix) | Part::Lane(prefix) => {
                    write_line(b'$', (prefix.len() + DIGITS) as u64, out);
                    out.extend_from_slice(prefix.as_bytes());
                    write_digits(&mut digits, self.number_of(part, lane));
                    out.extend_from_slice(&digits);
                    Some(out.len() - DIGITS)
                }
                Part::Score => {
                    write_line(b'$', DIGITS as u64, out);
                    write_digits(&mut digits, self.number_of(part, lane));
                    out.extend_from_slice(&digits);
                    Some(out.len() - DIGITS)
                }
                Part::Place(_) => {
                    write_digits(&mut digits, self.number_of(part, lane));
                    let number = without_zeros(&digits);
                    write_line(b'$', number.len() as u64, out);
                    out.extend_from_slice(number);
                    None
                }
                Part::Value => {
                    write_line(b'$', size as u64, out);
                    let at = out.len();
                    let value = self.draw_value(size);
                    out.extend_from_slice(value);
                    Some(at)
                }
            };
            out.extend_from_slice(b"\r\n");
            if let (Some(at), Some(holes)) = (hole, &mut holes) {
                holes.push((at, part));
            }
        }
        self.shapes[shape] = parts;
    }

    fn render_templates(&mut self) {
        // A key of the order must not be used up here.
        let order = std::mem::replace(&mut self.order, Keys::Random);
        for shape in 0..self.shapes.len() {
            let (mut bytes, mut holes) = (Vec::new(), Vec::new());
            self.render_one(0, shape, &mut bytes, Some(&mut holes));
            self.templates.push(Template { bytes, holes });
        }
        self.order = order;
    }
}

/// A line such as `$16\r\n`.
fn write_line(mark: u8, number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; DIGITS];
    write_digits(&mut digits, number);
    out.push(mark);
    out.extend_from_slice(without_zeros(&digits));
    out.extend_from_slice(b"\r\n");
}

/// The number without its leading zeros; the last digit stays.
fn without_zeros(digits: &[u8; DIGITS]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    &digits[zeros.min(DIGITS - 1)..]
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
        Requests::new(&options).unwrap()
    }

    /// The number of a line such as `$16\r\n`, and what follows the line.
    fn split_number(bytes: &[u8], mark: u8) -> (usize, &[u8]) {
        debug_assert_eq!(bytes.first(), Some(&mark));
        let end = bytes.iter().position(|&byte| byte == b'\r').unwrap_or(bytes.len());
        let number = std::str::from_utf8(&bytes[1..end]).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        (number, &bytes[end + 2..])
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
                    requests.render(0, 0, count, &mut out);
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

    /// Every request of a batch, by its words as text; values as their lengths.
    fn texts(requests: &mut Requests, lane: usize, number: usize, count: usize) -> Vec<String> {
        let mut out = Vec::new();
        requests.render(lane, number, count, &mut out);
        let text = |word: Vec<u8>| {
            String::from_utf8(word).ok().filter(|it| it.is_ascii()).unwrap_or_else(|| "VALUE".to_owned())
        };
        words(&out)
            .into_iter()
            .map(|request| request.into_iter().map(text).collect::<Vec<_>>().join(" "))
            .collect()
    }

    #[test]
    fn each_command_of_a_collection_has_its_form() {
        for (command, expected) in [
            ("lpush", "LPUSH lst:000000000000 VALUE"),
            ("rpush --elements 3", "RPUSH lst:000000000000 VALUE VALUE VALUE"),
            ("rpop", "RPOP lst:000000000000"),
            ("lrange", "LRANGE lst:000000000000 0 99"),
            ("hset", "HSET hsh:000000000000 mem:000000000000 VALUE"),
            ("hset --elements 2", "HSET hsh:000000000000 mem:000000000000 VALUE mem:000000000000 VALUE"),
            ("hget", "HGET hsh:000000000000 mem:000000000000"),
            ("sadd --elements 2", "SADD set:000000000000 mem:000000000000 mem:000000000000"),
            ("sismember", "SISMEMBER set:000000000000 mem:000000000000"),
            ("zadd", "ZADD zst:000000000000 000000000000 mem:000000000000"),
            ("zrangebyscore", "ZRANGEBYSCORE zst:000000000000 000000000000 +inf LIMIT 0 10"),
            ("zrank", "ZRANK zst:000000000000 mem:000000000000"),
            ("zrange", "ZRANGE zst:000000000000 0 9"),
            ("publish", "PUBLISH chn:000000000000 VALUE"),
        ] {
            for size in ["64", "64-65"] {
                // Of one element all numbers are 0.
                let mut requests = requests(&format!("--command {command} --size {size} --keys 1"));
                assert_eq!(texts(&mut requests, 7, 0, 2), [expected; 2], "{size}");
            }
        }
    }

    #[test]
    fn elements_of_one_request_are_of_one_collection() {
        let mut filling = requests("--command sadd --fill --keys 8 --members 4 --elements 2");
        assert_eq!(filling.left(), Some(4));
        let one =
            |collection, first| format!("SADD set:{collection:012} mem:{first:012} mem:{:012}", first + 1);
        assert_eq!(texts(&mut filling, 0, 0, 4), [one(0, 0), one(0, 2), one(1, 4), one(1, 6)]);
        let mut random = requests("--command sadd --keys 8 --members 4 --elements 2");
        for request in texts(&mut random, 0, 0, 100) {
            let numbers: Vec<u64> =
                request.split(' ').skip(1).map(|word| word[4..].parse().unwrap()).collect();
            assert_eq!([numbers[0]; 2], [numbers[1] / 4, numbers[2] / 4], "{request}");
        }
    }

    #[test]
    fn a_request_across_two_collections_is_refused() {
        let line = "loadgen load --server 127.0.0.1:1 --command sadd --members 5 --elements 2";
        let Mode::Load(options) = Arguments::parse_from(line.split(' ')).mode else { panic!("load") };
        assert!(Requests::new(&options).is_err());
    }

    #[test]
    fn ranks_have_no_leading_zeros_and_stay_within_the_collection() {
        let mut requests = requests("--command zrange --keys 3000 --members 1000");
        let mut seen = std::collections::HashSet::new();
        for request in texts(&mut requests, 0, 0, 1000) {
            let words: Vec<_> = request.split(' ').collect();
            let (first, last): (u64, u64) = (words[2].parse().unwrap(), words[3].parse().unwrap());
            assert!(first < 1000 && last == first + 9, "{request}");
            assert_eq!((first.to_string(), last.to_string()), (words[2].to_owned(), words[3].to_owned()));
            seen.insert(words[1].to_owned());
        }
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn the_two_sides_of_a_handover_use_the_list_of_their_lane() {
        let mut requests = requests("--command handover");
        assert_eq!(requests.connections_per_lane(), 2);
        assert_eq!(texts(&mut requests, 7, 0, 2), ["BLPOP hnd:000000000007 0"; 2]);
        assert_eq!(texts(&mut requests, 7, 1, 2), ["RPUSH hnd:000000000007 VALUE"; 2]);
    }

    #[test]
    fn one_of_five_mixed_requests_is_a_set() {
        let mut requests = requests("--command mixed");
        assert_eq!(requests.connections_per_lane(), 1);
        let batch = texts(&mut requests, 0, 0, 10_000);
        let sets = batch.iter().filter(|it| it.starts_with("SET ")).count();
        assert!(batch.iter().all(|it| it.starts_with("SET ") || it.starts_with("GET ")));
        assert!((1_800..2_200).contains(&sets), "{sets}");
    }

    #[test]
    fn values_differ_and_keys_spread() {
        let mut requests = requests("--command set --size 16 --keys 100");
        let mut out = Vec::new();
        requests.render(0, 0, 1000, &mut out);
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
                requests.render(0, 0, usize::try_from(left.min(4)).unwrap(), &mut out);
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
