//! Runs by seed: which ones, and how to run a failing one again.
//!
//! `cargo xtask sim` does this for all of them. `MILLSTREAM_SEEDS=5000` runs seeds 0 to 4999 instead of a test's own few; `MILLSTREAM_SEEDS=17..18` runs seed 17 alone.

use std::ops::Range;

use millstream_env::Rng;
use millstream_env::sim::SimRng;

/// The seeds to run: `MILLSTREAM_SEEDS` (a number, or `from..to`), else the first `few`.
///
/// # Panics
/// If the variable is neither.
pub fn seeds(few: u64) -> Range<u64> {
    let Ok(wanted) = std::env::var("MILLSTREAM_SEEDS") else { return 0..few };
    let number = |s: &str| s.trim().parse::<u64>().expect("MILLSTREAM_SEEDS is a number or from..to");
    match wanted.split_once("..") {
        Some((from, to)) => number(from)..number(to),
        None => 0..number(&wanted),
    }
}

/// Runs `run` for each seed; a seed that fails says how to run it again.
pub fn for_each_seed(few: u64, mut run: impl FnMut(u64)) {
    for seed in seeds(few) {
        let _tell = Tell(seed);
        run(seed);
    }
}

/// Prints what the seeds of one test came to, on one line that `cargo xtask sim` reads.
pub fn tell(counts: &[(&str, u64)]) {
    let counts: Vec<String> = counts.iter().map(|(what, n)| format!("{what} {n}")).collect();
    println!("\ntally: {}", counts.join(", "));
}

struct Tell(u64);

impl Drop for Tell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} failed; again: MILLSTREAM_SEEDS={}..{}", self.0, self.0, self.0 + 1);
        }
    }
}

/// Random choices of one seed.
pub struct Dice(SimRng);

impl Dice {
    /// The sequence of a seed, apart from that of a simulated machine of the same seed.
    pub fn new(seed: u64) -> Self {
        Self(SimRng::new(seed ^ 0x4449_4345_4449_4345))
    }
    /// A number below `n`, which is above 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0.next_u64() % n
    }
    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    /// One of a slice that is not empty.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let n = usize::try_from(self.below(all.len() as u64)).unwrap();
        &all[n]
    }
    /// Random bytes.
    pub fn bytes(&mut self, len: u64) -> Vec<u8> {
        let mut out = vec![0; usize::try_from(len).unwrap()];
        self.0.fill(&mut out);
        out
    }
}
