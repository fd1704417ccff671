//! Chance that can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// A source of numbers that a seed determines. Good for choosing what to try, for nothing else.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From the seed in `KMS_AGENT_TEST_SEED`, or one drawn anew. It is printed, which is seen when the test
    /// fails, so that the same can be tried again.
    pub fn from_env() -> Self {
        let seed = match std::env::var("KMS_AGENT_TEST_SEED") {
            Ok(text) => text.parse().expect("KMS_AGENT_TEST_SEED is a number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |now| u64::from(now.subsec_nanos()) << 32 | now.as_secs()),
        };
        eprintln!("again with KMS_AGENT_TEST_SEED={seed}");
        Self::new(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number less than `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// An index into something of this length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("it is less than a length")
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length)
            .map(|_| self.number().to_le_bytes()[0])
            .collect()
    }
}

/// How often a test does what it can do any number of times: as the environment variable `name` says, else
/// `usual`.
pub fn times(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number"))
    })
}
