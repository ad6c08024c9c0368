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
const RETRY_MS: u64 = 100;

impl Queues {
    /// Takes what was read.
    pub(crate) fn window_read(&mut self, rows: &QueueRows, now: Now, read: WindowRead) {
        let WindowRead { asked, heads } = read;
        let number = asked.log.lane();
        let lane = self.live.get_mut(asked.queue).and_then(|q| q.lanes.get_mut(&number));
        let Some(lane) = lane.filter(|l| l.reading == Some(asked.token)) else { return };
        lane.reading = None;
        match heads {
            Ok(heads) => {
                let end = match heads.last() {
                    Some(last) if heads.len() >= asked.max_entries => last.pos + 1,
                    _ => asked.end,
                };
                for head in &heads {
                    lane.read(rows, head);
                }
                lane.step_over(asked.from, end);
            }
            // What cannot be read is stepped over, and stays in the queue: an operator may drop it.
            Err(ReadError::Damaged { end, .. }) => lane.step_over(asked.from, end.max(asked.from + 1)),
            Err(ReadError::Trimmed { start }) if start > asked.from => lane.step_over(asked.from, start),
            Err(ReadError::Closed) => return,
            Err(_) => {
                lane.reading = Some(asked.token);
                self.timers.at(now.wall_ms.saturating_add(RETRY_MS), asked.queue, Look::Read(number));
                return;
            }
        }
        self.mark_runnable(asked.queue);
    }
}

impl Lane {
    fn read(&mut self, rows: &QueueRows, head: &Head) {
        // An entry that cannot be understood is stepped over as a damaged one is.
        let Ok(Attrs::Single(a)) = attrs::decode(&head.attrs) else { return };
        self.meet(
            rows,
            Slot {
                pos: head.pos,
                enqueued_ms: a.enqueued_ms,
                expiry_ms: a.expiry_ms.unwrap_or(u64::MAX),
                key_hash: a.key_hash,
                due_ms: a.due_ms.unwrap_or(0),
                bytes: payload_bytes(head.body_len, a.envelope_len),
                deliveries: 0,
                attempts: 0,
                known: true,
                in_due: false,
            },
        );
    }
}
