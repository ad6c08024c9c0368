//! Heads that were read for a window.
//!
//! Start at [`Queues::window_read`].

use millstream_log::{Head, ReadError};

use super::api::WindowRead;
use super::lane::{Lane, Slot};
use super::queues::Queues;
use super::rows::QueueRows;
use super::rows::head::payload_bytes;
use super::timers::Look;
use crate::attrs::{self, Attrs};
use crate::op::Now;

/// After a read that failed: wait so long.
pub(super) const RETRY_MS: u64 = 100;

impl Queues {
    /// Takes what was read.
    pub(crate) fn window_read(&mut self, rows: &QueueRows, now: Now, read: WindowRead) {
        let WindowRead { asked, heads } = read;
        let number = asked.lane;
        let Some(queue) = self.live.get_mut(asked.queue) else { return };
        let of_key = queue.keys.read_of(asked.token);
        let Some(lane) = queue.lanes.get_mut(number) else { return };
        if of_key.is_none() {
            if lane.reading != Some(asked.token) {
                return;
            }
            lane.reading = None;
        }
        let (heads, end) = match heads {
            Ok(heads) => {
                let end = match heads.last() {
                    Some(last) if heads.len() >= asked.max_entries => last.pos + 1,
                    _ => asked.end,
                };
                (heads, end)
            }
            // What cannot be read is stepped over, and stays in the queue: an operator may drop it.
            Err(ReadError::Damaged { end, .. }) => (Vec::new(), end.max(asked.from + 1)),
            Err(ReadError::Trimmed { start }) if start > asked.from => (Vec::new(), start),
            Err(ReadError::Closed) => return,
            Err(_) => {
                match of_key {
                    Some((number, hash)) => queue.keys.read_failed(number, hash),
                    None => lane.reading = Some(asked.token),
                }
                self.timers.at(now.wall_ms.saturating_add(RETRY_MS), asked.queue, Look::Read(number));
                return;
            }
        };
        if let Some((_, hash)) = of_key {
            let met = lane.met();
            let its = |s: &Slot| s.key_hash == Some(hash) && s.pos < met && lane.is_untouched(rows, s.pos);
            let slots = heads.iter().filter_map(slot_of).filter(its);
            queue.keys.was_read(number, hash, slots, end, met);
        } else {
            for slot in heads.iter().filter_map(slot_of) {
                let Some(lane) = queue.lanes.get_mut(number) else { break };
                if let Some(back) = lane.meet(rows, slot) {
                    queue.give_back(number, back);
                }
            }
            let Some(lane) = queue.lanes.get_mut(number) else { return };
            for lost in lane.step_over(asked.from, end) {
                queue.rests(lost.key_hash, false);
            }
        }
        self.mark_runnable(asked.queue);
    }
}

/// A message as its head has it. `None`: the entry cannot be understood, and is stepped over as a damaged one is.
fn slot_of(head: &Head) -> Option<Slot> {
    let Ok(Attrs::Single(a)) = attrs::decode(&head.attrs) else { return None };
    Some(Slot {
        pos: head.pos,
        enqueued_ms: a.enqueued_ms,
        expiry_ms: a.expiry_ms.unwrap_or(u64::MAX),
        key_hash: a.key_hash,
        due_ms: a.due_ms.unwrap_or(0),
        bytes: payload_bytes(head.body_len, a.envelope_len),
        known: true,
        ..Slot::default()
    })
}

impl Lane {
    /// Whether nothing ever happened to a message.
    pub(super) fn is_untouched(&self, rows: &QueueRows, pos: u64) -> bool {
        !self.leases.has(pos)
            && !self.is_settled(rows, pos)
            && rows.exception(self.queue, self.number, pos, self.purge_no).is_none()
    }
}
