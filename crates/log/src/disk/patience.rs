//! [`Turns`] and [`Patience`]: whether a small write waits a moment for what is about to come. Records that came together, and are
//! sequenced again as soon as they are durable, otherwise part into two groups that take turns: each waits for the other's sync.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};

/// Looks at the sequencer before a write begins without what it is at: 10 to 50 microseconds, by the processor's pause.
const LOOKS_MAX: usize = 750;
/// Looks for a turn to begin.
const BEGIN_LOOKS_MAX: usize = 400;
/// Looks after a turn's end for another that follows at once.
const QUIET_LOOKS: usize = 32;
/// After so many waits in vain, doubled each time, the next are left out.
const DOUBLINGS_MAX: u32 = 7;

/// The sequencer's turns, as the committer sees them: odd while there is one.
#[derive(Default)]
pub(crate) struct Turns(AtomicU64);

impl Turns {
    /// A record is sequenced. (One thread does this and [`Turns::end`].)
    pub(crate) fn begin(&self) {
        let n = self.0.load(Ordering::Relaxed);
        if n.is_multiple_of(2) {
            self.0.store(n + 1, Ordering::Relaxed);
        }
    }

    /// The turn is over, if there is one.
    pub(crate) fn end(&self) {
        let n = self.0.load(Ordering::Relaxed);
        if !n.is_multiple_of(2) {
            self.0.store(n + 1, Ordering::Relaxed);
        }
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The committer's end.
#[derive(Default)]
pub(crate) struct Patience {
    /// Waits that are left out.
    skip: u32,
    doublings: u32,
}

impl Patience {
    /// Lets the turn end that the sequencer is in, and those that follow at once. If it is in none and `expects`, lets one begin;
    /// where none does, it is less and less often waited for. Bounded, and without a clock.
    pub(crate) fn wait(&mut self, turns: &Turns, expects: bool) {
        let first = turns.now();
        let mut looks = LOOKS_MAX;
        if first.is_multiple_of(2) {
            if !expects {
                return;
            }
            if self.skip > 0 {
                self.skip -= 1;
                return;
            }
            looks = BEGIN_LOOKS_MAX;
        }
        let (mut seen, mut quiet) = (first, 0);
        while looks > 0 {
            looks -= 1;
            spin_loop();
            let now = turns.now();
            if now != seen {
                // The turn that was waited for is let to its end.
                looks = if seen == first { LOOKS_MAX } else { looks };
                (seen, quiet) = (now, 0);
            } else if now != first && now.is_multiple_of(2) {
                quiet += 1;
                if quiet == QUIET_LOOKS {
                    break;
                }
            }
        }
        if first.is_multiple_of(2) {
            if seen == first {
                self.doublings = (self.doublings + 1).min(DOUBLINGS_MAX);
                self.skip = 1 << self.doublings;
            } else {
                *self = Self::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_turn_nothing_is_waited_for_and_a_turn_that_never_ends_is_not_waited_out() {
        let (turns, mut patience) = (Turns::default(), Patience::default());
        patience.wait(&turns, false);
        turns.begin();
        turns.begin();
        patience.wait(&turns, false);
        patience.wait(&turns, true);
        assert_eq!((patience.skip, turns.now()), (0, 1));
        turns.end();
        turns.end();
        assert_eq!(turns.now(), 2);
    }

    #[test]
    fn what_never_comes_is_waited_for_less_and_less_often() {
        let (turns, mut patience) = (Turns::default(), Patience::default());
        let waited = (0..1_000).filter(|_| {
            let left_out = patience.skip > 0;
            patience.wait(&turns, true);
            !left_out
        });
        assert!(waited.count() < 15);
        patience.skip = 0;
        std::thread::scope(|s| {
            s.spawn(|| {
                for _ in 0..100_000 {
                    turns.begin();
                    turns.end();
                }
            });
            // It comes while it is waited for, sooner or later.
            while turns.now() < 200_000 && patience.doublings > 0 {
                patience.skip = 0;
                patience.wait(&turns, true);
            }
        });
    }
}
