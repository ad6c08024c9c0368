//! What a chunk has of the messages that are not settled and of which something is recorded, in little memory.
//!
//! A consumer may have a million messages: each is an [`Exception`] here, and as a rule its neighbours are too. Start at [`Exceptions`].

use crate::queue::blocks::{ChunkBlocks, U48};

use super::chunk::{Exception, State};

/// Exceptions of one chunk, by offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    all: ChunkBlocks<Packed>,
    /// Hashes of keys, of those that have one.
    keys: ChunkBlocks<u64>,
}

/// An exception without its offset and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed {
    no: u32,
    bytes: u32,
    deliveries: u16,
    attempts: u16,
    first_ms: U48,
    /// Of states that have a number: until when, or the epoch.
    number: U48,
    what: What,
    cause: u8,
}

/// A [`State`] without its number or cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Ready,
    Timed,
    Bound,
    Resting,
    Held,
    Parked,
}

impl Packed {
    fn of(e: &Exception) -> Self {
        let (what, number, cause) = match e.state {
            State::Ready => (What::Ready, 0, 0),
            State::Timed(until_ms) => (What::Timed, until_ms, 0),
            State::Bound(epoch) => (What::Bound, epoch, 0),
            State::Resting(until_ms) => (What::Resting, until_ms, 0),
            State::Held(cause) => (What::Held, 0, cause),
            State::Parked(cause) => (What::Parked, 0, cause),
        };
        Self {
            no: e.no,
            bytes: e.bytes,
            deliveries: e.deliveries,
            attempts: e.attempts,
            first_ms: U48::of(e.first_ms),
            number: U48::of(number),
            what,
            cause,
        }
    }

    fn state(&self) -> State {
        match self.what {
            What::Ready => State::Ready,
            What::Timed => State::Timed(self.number.get()),
            What::Bound => State::Bound(self.number.get()),
            What::Resting => State::Resting(self.number.get()),
            What::Held => State::Held(self.cause),
            What::Parked => State::Parked(self.cause),
        }
    }
}

impl Exceptions {
    fn whole(&self, off: u16, e: &Packed) -> Exception {
        Exception {
            off,
            state: e.state(),
            no: e.no,
            deliveries: e.deliveries,
            attempts: e.attempts,
            bytes: e.bytes,
            key_hash: if self.keys.is_empty() { None } else { self.keys.get(off).copied() },
            first_ms: e.first_ms.get(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What is recorded of the message at `off`.
    #[must_use]
    pub fn get(&self, off: u16) -> Option<Exception> {
        self.all.get(off).map(|e| self.whole(off, e))
    }

    /// All, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Exception> {
        self.all.iter().map(|(off, e)| self.whole(off, e))
    }

    /// The highest offset of any.
    #[must_use]
    pub fn last(&self) -> Option<u16> {
        self.all.last()
    }

    /// In place of what was recorded of that message. Times and epochs of 2^48 and more are kept as the largest below.
    pub fn set(&mut self, e: &Exception) {
        self.all.insert(e.off, Packed::of(e));
        match e.key_hash {
            Some(hash) => {
                self.keys.insert(e.off, hash);
            }
            None if self.keys.is_empty() => {}
            None => {
                self.keys.remove(e.off);
            }
        }
    }

    /// Removes those at `first..=last`.
    pub fn forget(&mut self, first: u16, last: u16) {
        self.all.remove_run(first, last);
        if !self.keys.is_empty() {
            self.keys.remove_run(first, last);
        }
    }

    /// Removes all but those at these offsets, ascending.
    pub fn keep(&mut self, offs: &[u16]) {
        let kept = offs.iter().filter_map(|off| self.get(*off));
        let mut all = Self::default();
        kept.for_each(|e| all.set(&e));
        *self = all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue of which millions of messages are at consumers has as many of these.
    #[test]
    fn an_exception_takes_28_bytes() {
        assert_eq!(size_of::<Packed>(), 28);
    }
}
