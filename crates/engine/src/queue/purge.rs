//! Purging: all messages of a queue go at once, but for those that somebody has, if they are to stay.
//!
//! Start at [`Queues::purge`]. The record grows with what is kept, not with what goes.

use std::collections::BTreeMap;

use millstream_log::Permit;
use millstream_types::ObjectId;

use super::api::{QueueReply, Tally};
use super::lease::{Has, Lease};
use super::queues::{Cx, Queues};
use super::rows::chunk::{self, ChunkKey, offset};
use super::rows::head;
use super::rows::set::CHUNK;
use super::timers::Look;
use crate::ctx::Asker;

/// Chunks of which a purge keeps what consumers have: it is one record. What lies in more of them, 400,000,000 positions and more apart,
/// goes too.
const KEPT_CHUNKS_MAX: usize = 100_000;
/// Gaps between what is kept whose room is given back at once; the room of others when everything before them is settled.
const GAPS_MAX: usize = 500_000;

impl Queues {
    pub(super) fn purge(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        id: ObjectId,
        keep_leased: bool,
        permit: Option<Permit>,
    ) {
        let removed = self.load(&cx.state.queues, id).map(|q| q.messages());
        let removed = match removed {
            None | Some(0) => removed,
            Some(_) => {
                let n = self.purge_queue(cx, id, keep_leased);
                let permit = crate::engine::writing(permit);
                self.commit(cx, permit, Some(asker.session), |_| &[]);
                self.mark_runnable(id);
                Some(n)
            }
        };
        cx.answer(asker, *cx.last_lsn, QueueReply::Purged(removed));
    }

    /// Empties a queue; how many messages went. What the mover has always stays: it is on its way out.
    fn purge_queue(&mut self, cx: &Cx<'_>, id: ObjectId, keep_leased: bool) -> u64 {
        let rows = &cx.state.queues;
        let numbers: Vec<u16> = self.live.get(id).iter().flat_map(|q| q.lanes.keys().copied()).collect();
        let (mut removed, mut kept_chunks) = (0, 0);
        let purge_no = self.live.get(id).map_or(0, |q| q.purge_no).saturating_add(1);
        for number in numbers {
            let (mut turn, live) = self.turn(rows);
            let Some(queue) = live.get_mut(id) else { continue };
            let mut last_chunk = None;
            let mut stays = |l: &Lease| {
                let stays = match l.has {
                    Has::Consumer => keep_leased && kept_chunks < KEPT_CHUNKS_MAX,
                    Has::Mover(_) => true,
                    Has::Parked(_) | Has::Exhausted => false,
                };
                let chunk = Some(l.slot.pos / CHUNK).filter(|_| stays);
                if stays && last_chunk != chunk {
                    last_chunk = chunk;
                    kept_chunks += 1;
                }
                stays
            };
            let Some(lane) = queue.lanes.get(number) else { continue };
            let gone: Vec<u64> = lane.leases.iter().filter(|l| !stays(l)).map(|l| l.slot.pos).collect();
            for pos in gone {
                queue.end_lease(&mut turn, number, pos);
            }
            let mut chunks: BTreeMap<u64, Vec<u16>> = BTreeMap::new();
            let mut stay = Tally::default();
            for lease in queue.lanes.get(number).iter().flat_map(|l| l.leases.iter()) {
                stay.add(lease.slot.bytes);
                chunks.entry(lease.slot.pos / CHUNK).or_default().push(offset(lease.slot.pos));
            }
            let before = rows.heads.get(&head::HeadKey(id)).and_then(|h| h.lanes.get(number));
            let mut before = before.copied().unwrap_or_default();
            let passed = queue.lanes.get(number).map_or(0, |l| l.tidy.skips.len());
            if let Some(lane) = queue.lanes.get(number).filter(|l| l.is_fed()) {
                // Of what was not read, the bytes are not known.
                (before.next, before.appended_bytes) = (lane.next, before.settled_bytes);
            }
            let n = before.next.saturating_sub(before.settled).saturating_sub(stay.n);
            let bytes = before.appended_bytes.saturating_sub(before.settled_bytes).saturating_sub(stay.bytes);
            // Those it passed over count no more already.
            removed += n.saturating_sub(passed);
            let Some(lane) = queue.lanes.get_mut(number) else { continue };
            let purged_to = lane.next;
            turn.record.head(id, |out| head::put_purged(out, purge_no, number, purged_to, n, bytes));
            // The last chunk too, if there is more to come in it.
            if purged_to % CHUNK > 0 && rows.chunks.get(&ChunkKey::of(id, number, purged_to)).is_some() {
                chunks.entry(purged_to / CHUNK).or_default();
            }
            for (chunk, offs) in &chunks {
                let key = ChunkKey { queue: id, lane: number, chunk: *chunk };
                turn.record.keep(&key, purge_no, offs);
            }
            let before = lane.leases.first().unwrap_or(purged_to);
            lane.trim(turn.record, before);
            lane.retire(turn.record, gaps(lane.leases.iter().map(|l| l.slot.pos), purged_to).take(GAPS_MAX));
            lane.empty();
            lane.purged_to = purged_to;
            lane.tidy.retire.clear();
            lane.delays.void.extend(rows.due_of(id, 0).map(|(k, _)| *k).filter(|k| k.lane == number));
            turn.record.touch(id, number, purged_to / CHUNK);
            if !lane.delays.void.is_empty() && !lane.tidy.timer {
                lane.tidy.timer = true;
                turn.timers.at(turn.now_ms, id, Look::Floor(number));
            }
        }
        if let Some(queue) = self.live.get_mut(id) {
            queue.purge_no = purge_no;
            for lane in queue.lanes.values_mut() {
                lane.purge_no = purge_no;
            }
            queue.ready = Tally::default();
            queue.scheduled = Tally::default();
            queue.exhausted.clear();
            queue.count_keys();
        }
        removed
    }
}

/// What lies between the messages that are kept, and behind the last of them.
fn gaps(kept: impl Iterator<Item = u64>, end: u64) -> impl Iterator<Item = (u64, u32)> {
    let mut after = None;
    kept.chain(std::iter::once(end)).filter_map(move |at| {
        let first = after.replace(at + 1)?;
        let n = u32::try_from(at.saturating_sub(first)).unwrap_or(u32::MAX);
        (n > 0).then_some((first, n))
    })
}

impl super::record::Record {
    /// A chunk of which a purge keeps these messages, ascending.
    fn keep(&mut self, key: &ChunkKey, purge_no: u32, offs: &[u16]) {
        self.chunk(key, purge_no.saturating_sub(1), |out| chunk::put_keep(out, purge_no, offs));
    }
}
