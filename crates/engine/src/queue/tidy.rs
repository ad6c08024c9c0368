//! What a lane's floor leaves behind: the log is told what nobody will read again, rows below it go.
//!
//! Start at [`Queues::tidy`]. A busy lane says it with its settlements ([`floor_pieces`]); one that rests says it once the floor has
//! stood for a second.

use millstream_log::Permit;
use millstream_types::ObjectId;

use super::TIDY_MS;
use super::lane::Lane;
use super::live::Queue;
use super::queues::{Cx, Queues};
use super::record::Record;
use super::rows::QueueRows;
use super::rows::chunk::{self, ChunkKey, offset};
use super::rows::due;
use super::rows::head;
use super::rows::set::CHUNK;
use super::timers::Look;
use crate::codec::Enc;

/// Rows of chunks that go with one record, per lane.
const GONE_MAX: usize = 16;
/// Lanes looked at in one turn.
const TURN_LANES_MAX: usize = 512;
/// Room for a record, bytes.
const RECORD_BYTES: usize = 64 << 10;
/// Rows of delays that go with one record.
const VOID_MAX: usize = 256;

/// What a record says of a lane's floor, besides the floor itself: rows of chunks below it go, and the log is trimmed now and then.
pub(super) fn floor_pieces(lane: &mut Lane, rows: &QueueRows, record: &mut Record) {
    forget_chunks(lane, rows, record);
    if lane.floor >= lane.tidy.trimmed.saturating_add(CHUNK) {
        lane.trim(record, lane.floor);
    }
}

fn forget_chunks(lane: &mut Lane, rows: &QueueRows, record: &mut Record) {
    let below = lane.floor / CHUNK;
    if lane.tidy.gone_below >= below {
        return;
    }
    let key = |chunk| ChunkKey { queue: lane.queue, lane: lane.number, chunk };
    let mut all = rows.chunks.range(key(lane.tidy.gone_below)..key(below)).map(|(k, _)| *k);
    let first: Vec<ChunkKey> = all.by_ref().take(GONE_MAX).collect();
    lane.tidy.gone_below = all.next().map_or(below, |k| k.chunk);
    for key in first {
        record.chunk(&key, lane.purge_no, chunk::put_gone);
    }
}

/// The chunk in which the floor stands goes too, when nothing is left of the lane: what comes next begins it anew.
fn forget_last_chunk(lane: &Lane, rows: &QueueRows, record: &mut Record) {
    let key = ChunkKey::of(lane.queue, lane.number, lane.floor);
    if !lane.is_fed() && lane.floor == lane.next && rows.chunks.get(&key).is_some() {
        record.chunk(&key, lane.purge_no, chunk::put_gone);
    }
}

impl Queues {
    /// Records what is to be said of floors: of many lanes in one record.
    pub(super) fn tidy(&mut self, cx: &mut Cx<'_>) {
        let (mut permit, mut said) = (None, Vec::new());
        for _ in 0..self.untidy.len().min(TURN_LANES_MAX) {
            let Some((id, number)) = self.untidy.pop_front() else { break };
            let Some(lane) = self.live.get_mut(id).and_then(|q| q.lanes.get_mut(number)) else { continue };
            lane.tidy.timer = false;
            // What was passed over does not wait for a floor that never stands.
            let skips_ms = lane.tidy.skips.due_ms().unwrap_or(u64::MAX);
            let stood = lane.tidy.moved_ms.saturating_add(TIDY_MS).min(skips_ms);
            if stood > cx.now.wall_ms {
                lane.tidy.timer = true;
                self.timers.at(stood, id, Look::Floor(number));
                continue;
            }
            if permit.is_none() {
                permit = cx.log.spare(RECORD_BYTES);
            }
            let Some(granted) = permit.take() else {
                lane.tidy.timer = true;
                self.untidy.push_front((id, number));
                return;
            };
            self.say_floor(cx, id, number);
            said.push((id, number));
            if self.record.bytes_bound() < RECORD_BYTES / 4 {
                permit = Some(granted);
            } else {
                self.said(cx, granted, &mut said);
            }
        }
        if let Some(permit) = permit {
            self.said(cx, permit, &mut said);
        }
    }

    /// Makes the record, and looks at what it left to be said.
    fn said(&mut self, cx: &mut Cx<'_>, permit: Permit, said: &mut Vec<(ObjectId, u16)>) {
        self.commit(cx, permit, None, |_| &[]);
        for (id, number) in said.drain(..) {
            if self.live.get(id).is_some_and(Queue::is_subscription) {
                // It may read on.
                self.mark_runnable(id);
            }
            let lane = self.live.get_mut(id).and_then(|q| q.lanes.get_mut(number));
            if let Some(lane) = lane.filter(|l| l.untidy()) {
                lane.tidy.timer = true;
                self.untidy.push_back((id, number));
            } else {
                self.may_rest(id);
            }
        }
    }

    fn say_floor(&mut self, cx: &Cx<'_>, id: ObjectId, number: u16) {
        let Self { live, record, .. } = self;
        let Some(queue) = live.get_mut(id) else { return };
        let purge_no = queue.purge_no;
        let Some(lane) = queue.lanes.get_mut(number) else { return };
        let rows = &cx.state.queues;
        if lane.tidy.recorded < lane.floor {
            lane.tidy.recorded = lane.floor;
            let floor = lane.floor;
            record.head(id, |out| head::put_settled(out, number, floor, 0, 0));
        }
        forget_chunks(lane, rows, record);
        forget_last_chunk(lane, rows, record);
        super::topics::say_skips(lane, record, RECORD_BYTES / 2);
        lane.trim(record, lane.floor);
        while record.bytes_bound() < RECORD_BYTES / 2 {
            let Some(chunk) = lane.tidy.retire.pop_first() else { break };
            let base = chunk.saturating_mul(CHUNK);
            if let Some(row) = rows.chunk(id, number, base, purge_no) {
                let from = if lane.floor > base { u32::from(offset(lane.floor)) } else { 0 };
                let runs = row.settled.runs().filter(|r| u32::from(r.1) >= from);
                let runs = runs.map(|(a, b)| {
                    let first = u32::from(a).max(from);
                    (base + u64::from(first), u32::from(b) + 1 - first)
                });
                lane.retire(record, runs);
            }
        }
        for _ in 0..VOID_MAX {
            let Some(key) = lane.delays.void.pop_front() else { break };
            let Some(row) = rows.due.get(&key) else { continue };
            let base = key.chunk.saturating_mul(CHUNK);
            // Others may have come into the row since.
            let is_void = |off: &u16| lane.is_settled(rows, base + u64::from(*off));
            let offs: Vec<u16> = row.entries.iter().map(|e| e.off).filter(is_void).collect();
            if !offs.is_empty() {
                record.effect(&key, |out| {
                    out.u8(due::EFFECT_VERSION);
                    due::put_done(out, offs.into_iter());
                });
            }
        }
    }
}
