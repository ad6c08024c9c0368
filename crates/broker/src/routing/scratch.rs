//! What routing a message needs for a moment, used again for the next: nothing is allocated per message once it has grown.

use std::hash::BuildHasher;

use millstream_engine::exchange::TargetKind;
use millstream_types::Namespace;

use super::topic::words_of;

/// A word of a routing key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    pub(crate) hash: u64,
    from: usize,
    to: usize,
}

impl Word {
    /// Its text within the key.
    pub(crate) fn text(self, key: &str) -> &str {
        key.get(self.from..self.to).unwrap_or_default()
    }
}

/// Splits a key into words.
pub(crate) fn split(hasher: &impl BuildHasher, key: &str, words: &mut Vec<Word>) {
    words.clear();
    let mut from = 0;
    for word in words_of(key) {
        let to = from + word.len();
        words.push(Word { hash: hasher.hash_one(word), from, to });
        from = to + 1;
    }
}

/// For each `#` of a tree the first word from which it was looked at in this walk.
#[derive(Debug, Default)]
pub(crate) struct Lows {
    lows: Vec<(u64, usize)>,
    walk: u64,
}

impl Lows {
    /// Forgets, for a walk over a tree with so many.
    pub(crate) fn begin(&mut self, numbers: u32) {
        self.walk += 1;
        let numbers = numbers as usize;
        if self.lows.len() < numbers {
            self.lows.resize(numbers, (0, 0));
        }
    }

    /// It is looked at from word `at` on: gives the word before which that is new (one past the end of `words` at first).
    pub(crate) fn lower(&mut self, number: u32, at: usize, words: usize) -> usize {
        let Some((walk, low)) = self.lows.get_mut(number as usize) else { return at };
        let before = if *walk == self.walk { *low } else { words + 1 };
        if at < before {
            (*walk, *low) = (self.walk, at);
        }
        before
    }
}

/// Numbers seen in this message.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    marks: Vec<u64>,
    message: u64,
}

impl Marks {
    /// Forgets, for a message that may meet so many.
    pub(crate) fn begin(&mut self, numbers: u32) {
        self.message += 1;
        let numbers = numbers as usize;
        if self.marks.len() < numbers {
            self.marks.resize(numbers, 0);
        }
    }

    /// True the first time.
    pub(crate) fn mark(&mut self, number: u32) -> bool {
        match self.marks.get_mut(number as usize) {
            Some(mark) if *mark != self.message => {
                *mark = self.message;
                true
            }
            _ => false,
        }
    }
}

/// A session's own, for all its messages.
#[derive(Debug)]
pub struct RouteScratch {
    pub(crate) marks: Marks,
    pub(crate) lows: Lows,
    pub(crate) words: Vec<Word>,
    pub(crate) probes: Vec<u64>,
    pub(crate) hits: Vec<u32>,
    /// Which keys the default exchange knew that nothing is bound to.
    pub(crate) named: Vec<(usize, TargetKind)>,
    pub(crate) name: (Namespace, String),
}

impl Default for RouteScratch {
    fn default() -> Self {
        Self {
            marks: Marks::default(),
            lows: Lows::default(),
            words: Vec::new(),
            probes: Vec::new(),
            hits: Vec::new(),
            named: Vec::new(),
            name: (Namespace::DEFAULT, String::new()),
        }
    }
}
