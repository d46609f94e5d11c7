//! A small mutator with a seed, for the runs that must give the same result every time.

/// A source of numbers: splitmix64, which is enough to choose mutations by.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Numbers that depend on `seed` alone.
    #[must_use]
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next_u64()) * bound as u128;
        usize::try_from(wide >> 64).expect("below the bound")
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.next_u64().to_le_bytes()[0]
    }
}

/// Changes `input` in one to eight places. `others` are inputs of which parts are taken over.
pub fn mutate(random: &mut Random, input: &mut Vec<u8>, words: &[&str], others: &[&[u8]], len_max: usize) {
    const SPECIAL: &[u8] = b"\0\r\n*$ -0189\"'\\#:\xff\x7f\x80";
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        let end = (at + 1 + random.below(8)).min(input.len());
        match random.below(9) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.byte(),
            2 if at < input.len() => input[at] = SPECIAL[random.below(SPECIAL.len())],
            3 => input.insert(at, SPECIAL[random.below(SPECIAL.len())]),
            4 if at < end => drop(input.drain(at..end)),
            5 if at < end => {
                let copy = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            6 if !words.is_empty() => {
                let word = words[random.below(words.len())].as_bytes();
                input.splice(at..at, word.iter().copied());
            }
            7 if !others.is_empty() => {
                let other = others[random.below(others.len())];
                let from = random.below(other.len() + 1);
                let len = random.below(other.len() - from + 1).min(64);
                input.splice(at..at, other[from..from + len].iter().copied());
            }
            8 => input.truncate(at.max(input.len() / 2)),
            _ => input.push(random.byte()),
        }
    }
    input.truncate(len_max);
}
