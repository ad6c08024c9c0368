//! Queues at rest leave memory: what is durable of them is in rows, of which they are built again when somebody uses them.
//!
//! A queue is at rest when it is empty, nobody has or waits for anything of it, and its rows say all there is to say. Start at
//! [`Queues::rest`], which looks at those that came to be built or were served a while ago.

use std::collections::VecDeque;

use foldhash::HashMap;
use millstream_types::{Lsn, ObjectId};

use super::lane::Lane;
use super::live::Queue;
use super::queues::Queues;

/// A queue that was at rest for so long leaves memory, milliseconds.
pub const REST_MS: u64 = 5_000;
/// With more queues that may be at rest, those that stand there longest leave at once: they take about 2 KiB each.
const RESTING_MAX: usize = 8_192;
/// Queues looked at in one turn.
const TURN_RESTS_MAX: usize = 1_024;

/// What is kept of a queue that left memory, besides its rows; nothing is, where all is as it is at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) used_ms: u64,
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    pub(crate) idle_timer: bool,
}

/// Queues that may be at rest, and those that left.
#[derive(Debug, Default)]
pub(crate) struct Rests {
    /// Each stands here once, by when it was last seen in use, more or less.
    listed: VecDeque<(u64, ObjectId)>,
    /// By id; only ever looked up.
    kept: HashMap<ObjectId, Kept>,
    pub(crate) after_ms: u64,
}

impl Rests {
    /// A queue is to be looked at.
    pub(crate) fn list(&mut self, id: ObjectId, now_ms: u64) {
        self.listed.push_back((now_ms, id));
    }
    /// What was kept of a queue that comes back, or goes for good.
    pub(crate) fn take(&mut self, id: ObjectId) -> Option<Kept> {
        let kept = self.kept.remove(&id);
        if self.kept.is_empty() {
            self.kept.shrink_to_fit();
        }
        kept
    }
    pub(crate) fn kept(&self, id: ObjectId) -> Option<&Kept> {
        self.kept.get(&id)
    }
    /// When [`Queues::rest`] has something to do, milliseconds since the epoch.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.listed.front().map(|l| l.0.saturating_add(self.after_ms))
    }
}

impl Queues {
    /// Lets queues leave memory that were at rest for long enough.
    pub(super) fn rest(&mut self) {
        let now_ms = self.now.wall_ms;
        for _ in 0..self.rests.listed.len().min(TURN_RESTS_MAX) {
            let many = self.rests.listed.len() > RESTING_MAX;
            let due = |l: &mut (u64, ObjectId)| many || l.0.saturating_add(self.rests.after_ms) <= now_ms;
            let Some((_, id)) = self.rests.listed.pop_front_if(due) else { break };
            let Some(queue) = self.live.get_mut(id) else { continue };
            let after_ms = if many { 0 } else { self.rests.after_ms };
            if !queue.is_at_rest(self.durable) {
                // It is listed again when it is served.
                queue.listed = false;
            } else if queue.served_ms.saturating_add(after_ms) > now_ms {
                let served_ms = queue.served_ms;
                self.rests.list(id, served_ms);
            } else {
                self.leave(id);
            }
        }
        if self.rests.listed.is_empty() {
            self.rests.listed.shrink_to_fit();
        }
    }

    /// A queue may have come to rest without being served.
    pub(super) fn may_rest(&mut self, id: ObjectId) {
        let Some(queue) = self.live.get_mut(id) else { return };
        if !queue.listed {
            queue.listed = true;
            self.rests.list(id, self.now.wall_ms);
        }
    }

    fn leave(&mut self, id: ObjectId) {
        let Some(queue) = self.live.remove(id) else { return };
        let Queue { delivered, acked, idle_timer, .. } = *queue;
        // When it was used matters only while somebody may be waiting for it to be unused.
        let used_ms = if queue.policy().expires_ms.is_some() { queue.used_ms } else { 0 };
        let kept = Kept { used_ms, delivered, acked, idle_timer };
        if kept != Kept::default() {
            self.rests.kept.insert(id, kept);
        }
    }
}

impl Queue {
    /// Whether its rows say everything of it, so that it can be built again as it is.
    fn is_at_rest(&self, durable: Lsn) -> bool {
        !self.runnable
            && !self.is_subscription()
            && self.consumers.is_empty()
            && self.exhausted.is_empty()
            && self.work.is_empty()
            && self.keys.is_empty()
            && self.riding.is_none_or(|lsn| lsn <= durable)
            && self.lanes.values().all(Lane::is_at_rest)
    }
}

impl Lane {
    /// Whether all its messages are settled, and that is all there is to say.
    fn is_at_rest(&self) -> bool {
        self.floor == self.next
            && self.visible == self.next
            && self.leases.is_empty()
            && self.resting.is_empty()
            && self.ahead.is_empty()
            && self.reading.is_none()
            && self.delays.void.is_empty()
            && !self.tidy.timer
            && !self.untidy()
    }
}
