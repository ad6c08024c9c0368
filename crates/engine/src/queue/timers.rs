//! What queues want to be woken for. A timer says only when to look: whether something is due is seen in the queue.
//!
//! Start at [`Timers`].

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use millstream_types::ObjectId;

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    /// A timed lease (lane, position, delivery number).
    Lease(u16, u64, u32),
    /// A message that rests (lane, position).
    Rest(u16, u64),
    /// A delay lane's next message.
    Due(u16),
    /// The expiry of a lane's next message.
    Head(u16),
    /// A lane's floor.
    Floor(u16),
    /// A read that failed is to be tried again.
    Read(u16),
    /// Receives whose time is over.
    Deadline,
    /// Whether the queue is unused.
    Idle,
}

/// When to look at what, wall-clock milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(u64, ObjectId, Look)>>,
}

impl Timers {
    pub(crate) fn at(&mut self, at_ms: u64, queue: ObjectId, look: Look) {
        self.heap.push(Reverse((at_ms, queue, look)));
    }
    /// The next one that is due.
    pub(crate) fn due(&mut self, now_ms: u64) -> Option<(ObjectId, Look)> {
        let Reverse((at, queue, look)) = self.heap.peek().copied()?;
        if at > now_ms {
            return None;
        }
        self.heap.pop();
        Some((queue, look))
    }
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.heap.peek().map(|t| t.0.0)
    }
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
    /// Keeps what is still wanted.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(u64, ObjectId, Look) -> bool) {
        self.heap.retain(|Reverse((at, queue, look))| wanted(*at, *queue, *look));
    }
}
