//! Subscriptions: queues whose lanes are the partitions of a topic. The topic's log is never trimmed or retired for them.
//!
//! A lane's end is the partition's; what is appended there is ready in every subscription at once, and its size is known once the window has
//! read it. What a filter leaves out is settled in runs. Start at [`Topics`], which knows the partitions, and [`Queues::topic_appended`],
//! [`Queues::trim_topic`] and [`Queues::records_read`], which have queues follow them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_log::{Permit, ReadError};
use millstream_types::{ConnId, LogId, Lsn, ObjectId};

use super::api::{Cause, QueueDef, Tally, TopicCounts};
use super::lane::{Lane, Slot, WindowSizes};
use super::lease::Has;
use super::live::{Queue, Turn};
use super::policy::Ordering;
use super::queues::{Cx, Queues};
use super::rows::QueueRows;
use super::rows::chunk::{self, ChunkKey, offset};
use super::rows::head::{self, HeadKey, LaneHead};
use super::rows::set::CHUNK;
use super::source::{Record, Records, RecordsRead};
use super::timers::Look;
use super::window::RETRY_MS;
use crate::decide::catalogue;
use crate::op::Now;
use crate::rows::cat::CatKey;
use crate::state::State;

/// A lane's window is smaller with more partitions, but not below this, records.
const WINDOW_MIN: usize = 64;
/// All windows of a subscription together, in windows of a queue.
const WINDOWS: usize = 4;
/// With so many records passed over, that is recorded at once.
const SKIPPED_DUE: u64 = CHUNK;
/// Runs of them that may wait to be recorded: above, nothing more is read.
const SKIPS_MAX: usize = 8_192;

/// A partition as its appends and trims have left it.
#[derive(Clone, Copy, Debug)]
struct Part {
    uuid: [u8; 16],
    /// Which of its topic's, and so which lane.
    lane: u16,
    next: u64,
    visible: u64,
}

#[derive(Debug, Default)]
struct Fed {
    logs: Vec<LogId>,
    queues: BTreeSet<ObjectId>,
}

/// Topics with subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    parts: BTreeMap<LogId, Part>,
    fed: BTreeMap<[u8; 16], Fed>,
    /// What becomes visible with which record, in order.
    shown: VecDeque<(Lsn, LogId, u64)>,
}

impl Topics {
    /// A queue is subscribed. `made`: by this record, and what was appended before it is visible with it; else everything is visible.
    pub(crate) fn subscribed(&mut self, state: &State, def: &QueueDef, made: Option<Lsn>) {
        let Some(source) = &def.source else { return };
        self.fed.entry(source.uuid).or_default().queues.insert(def.id);
        let row = state.cat.get(&CatKey::topic(def.ns, &source.topic));
        let Some(row) = row.filter(|r| r.uuid == source.uuid) else { return };
        self.grown(state, source.uuid, &row.partitions, made);
    }

    /// A topic has these partitions now.
    fn grown(&mut self, state: &State, uuid: [u8; 16], partitions: &[ObjectId], made: Option<Lsn>) {
        let Some(fed) = self.fed.get_mut(&uuid) else { return };
        for (lane, object) in (0..).zip(partitions).skip(fed.logs.len()) {
            let log = LogId::new(*object, 0);
            let next = state.part.get(&log).map_or(0, |r| r.next);
            let visible = if made.is_some() { 0 } else { next };
            fed.logs.push(log);
            self.parts.insert(log, Part { uuid, lane, next, visible });
            if let Some(lsn) = made {
                self.shown.push_back((lsn, log, next));
            }
        }
    }

    pub(crate) fn unsubscribed(&mut self, def: &QueueDef) {
        let Some(source) = &def.source else { return };
        let Some(fed) = self.fed.get_mut(&source.uuid) else { return };
        fed.queues.remove(&def.id);
        if fed.queues.is_empty() {
            for log in self.fed.remove(&source.uuid).into_iter().flat_map(|f| f.logs) {
                self.parts.remove(&log);
            }
        }
    }

    /// The subscriptions of a topic.
    pub(crate) fn queues(&self, uuid: &[u8; 16]) -> impl Iterator<Item = ObjectId> + '_ {
        self.fed.get(uuid).into_iter().flat_map(|f| f.queues.iter().copied())
    }

    /// The lanes that a partition feeds: which of each queue.
    fn fed_by(&self, log: LogId) -> Option<(u16, Vec<ObjectId>)> {
        let part = self.parts.get(&log)?;
        Some((part.lane, self.queues(&part.uuid).collect()))
    }

    /// The log is lost.
    pub(crate) fn lost(&mut self) {
        self.shown.clear();
    }
}

/// What a lane's scan has passed that will not be handed out, and is not recorded yet.
#[derive(Debug, Default)]
pub(crate) struct Skips {
    /// (first, one past the last, whether unreadable), ascending.
    runs: VecDeque<(u64, u64, bool)>,
    n: u64,
    since_ms: u64,
}

/// How many were passed over, and how many of these could not be read.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    skipped: u64,
    unreadable: u64,
}

impl Passed {
    fn add(&mut self, n: u64, unreadable: bool) {
        if unreadable {
            self.unreadable += n;
        } else {
            self.skipped += n;
        }
    }
    fn all(self) -> u64 {
        self.skipped + self.unreadable
    }
}

impl Skips {
    /// How many records.
    pub(super) fn len(&self) -> u64 {
        self.n
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
    pub(crate) fn is_full(&self) -> bool {
        self.runs.len() >= SKIPS_MAX
    }
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.n = 0;
    }

    fn push(&mut self, from: u64, end: u64, unreadable: bool, now_ms: u64) {
        if self.runs.is_empty() {
            self.since_ms = now_ms;
        }
        self.n += end - from;
        match self.runs.back_mut() {
            Some(last) if last.1 == from && last.2 == unreadable => last.1 = end,
            _ => self.runs.push_back((from, end, unreadable)),
        }
    }

    /// When they are to be recorded, milliseconds; `None`: there are none.
    pub(super) fn due_ms(&self) -> Option<u64> {
        if self.is_empty() {
            None
        } else if self.n >= SKIPPED_DUE || self.is_full() {
            Some(0)
        } else {
            Some(self.since_ms.saturating_add(super::TIDY_MS))
        }
    }

    /// Takes the part of the first run that lies below `before`; with `chunk`, only what lies in that chunk.
    fn pop_below(&mut self, before: u64, chunk: Option<u64>) -> Option<(u64, u64, bool)> {
        let first = self.runs.front_mut()?;
        let (from, bad) = (first.0, first.2);
        let in_chunk = (from / CHUNK + 1).saturating_mul(CHUNK);
        let end = first.1.min(before).min(if chunk.is_some() { in_chunk } else { u64::MAX });
        if from >= before || chunk.is_some_and(|c| c != from / CHUNK) {
            return None;
        }
        if end == first.1 {
            self.runs.pop_front();
        } else {
            first.0 = end;
        }
        self.n -= end - from;
        Some((from, end, bad))
    }

    /// Takes what lies below `before`.
    fn cut(&mut self, before: u64) -> Passed {
        let mut passed = Passed::default();
        while let Some((from, end, bad)) = self.pop_below(before, None) {
            passed.add(end - from, bad);
        }
        passed
    }
}

impl Queue {
    /// Whether its messages are the records of a topic.
    pub(crate) fn is_subscription(&self) -> bool {
        self.terms.source.is_some()
    }

    /// What it did not hand out.
    pub(super) fn topic_counts(&self, rows: &QueueRows) -> TopicCounts {
        let mut counts = rows.heads.get(&HeadKey(self.id())).map(|h| h.topic).unwrap_or_default();
        for lane in self.lanes.values() {
            for (from, end, unreadable) in &lane.tidy.skips.runs {
                let count = if *unreadable { &mut counts.unreadable } else { &mut counts.skipped };
                *count += end - from;
            }
        }
        counts
    }

    /// A lane for each partition of its topic that it has none for.
    pub(super) fn feed(&mut self, turn: &Turn<'_>) {
        let Some(uuid) = self.terms.source.as_ref().map(|s| s.uuid) else { return };
        let Some(fed) = turn.topics.fed.get(&uuid) else { return };
        let head = turn.rows.heads.get(&HeadKey(self.id()));
        let most = turn.sizes.window;
        let window = (most * WINDOWS / fed.logs.len().max(1)).clamp(WINDOW_MIN.min(most), most);
        for log in &fed.logs {
            let Some(part) = turn.topics.parts.get(log) else { continue };
            if self.lanes.contains_key(part.lane) {
                continue;
            }
            let before = head.and_then(|h| h.lanes.get(part.lane)).copied().unwrap_or_default();
            let before = LaneHead { next: part.next, ..before };
            let sizes = WindowSizes { window, ..turn.sizes };
            let mut lane = Lane::of(self.id(), part.lane, self.purge_no, &before, sizes, Ordering::None);
            lane.log = *log;
            lane.visible = part.visible;
            self.lanes.insert(part.lane, lane);
        }
    }

    /// Takes what was read of a lane from `from` on.
    fn take_records(&mut self, rows: &QueueRows, number: u16, from: u64, records: &Records, now_ms: u64) {
        let Some(mut lane) = self.lanes.get_mut(number) else { return };
        let (mut passed, bad) = (0, &records.unreadable);
        let mut at = from.max(lane.scan);
        for r in records.taken.iter().filter(|r| r.offset < records.next) {
            if r.offset < at {
                continue;
            }
            passed += lane.pass_all(rows, at, r.offset, bad, now_ms);
            at = r.offset + 1;
            let before = lane.window_len();
            let back = lane.meet(rows, slot_of(r));
            if lane.window_len() > before {
                self.ready.bytes += u64::from(r.bytes);
            }
            if let Some(back) = back {
                self.give_back(number, back);
                let Some(again) = self.lanes.get_mut(number) else { return };
                lane = again;
            }
        }
        let end = records.next.min(lane.next);
        passed += lane.pass_all(rows, at, end, bad, now_ms);
        lane.step_over(from, end);
        self.ready.n = self.ready.n.saturating_sub(passed);
    }

    /// Retention took what lies below `before`: `n` messages that were not settled, wherever they are.
    fn lose(&mut self, turn: &mut Turn<'_>, number: u16, before: u64, n: u64) {
        let Some(lane) = self.lanes.get(number) else { return };
        let leases = || lane.leases.iter().take_while(|l| l.slot.pos < before);
        let gone: Vec<u64> = leases().map(|l| l.slot.pos).collect();
        let mut away = gone.len() as u64;
        // Those that the mover was told of do not come back from it.
        let held = leases().filter(|l| matches!(l.has, Has::Mover(_))).count();
        let untold = self.work.len();
        self.work.retain(|w| w.0 != number || w.1 >= before);
        self.work_out = self.work_out.saturating_sub(held.saturating_sub(untold - self.work.len()));
        for pos in gone {
            self.end_lease(turn, number, pos);
        }
        let Some(lane) = self.lanes.get_mut(number) else { return };
        let (rested, ready_bytes) = lane.drop_below(before);
        for bytes in rested {
            self.scheduled.sub(bytes);
            away += 1;
        }
        self.ready.n = self.ready.n.saturating_sub(n.saturating_sub(away));
        self.ready.bytes = self.ready.bytes.saturating_sub(ready_bytes);
        lane.floor = lane.floor.max(before);
        lane.tidy.recorded = lane.tidy.recorded.max(before);
        lane.tidy.moved_ms = turn.now_ms;
        if lane.advance(turn.rows, turn.now_ms) {
            turn.timers.at(turn.now_ms.saturating_add(super::TIDY_MS), self.def.id, Look::Floor(number));
        }
    }
}

fn slot_of(r: &Record) -> Slot {
    Slot {
        pos: r.offset,
        enqueued_ms: r.enqueued_ms,
        expiry_ms: r.expiry_ms.unwrap_or(u64::MAX),
        bytes: r.bytes,
        known: true,
        ..Slot::default()
    }
}

impl Lane {
    /// What of the positions below `before` is not settled, by the rows; bytes of what was handed out before.
    fn unsettled_below(&self, rows: &QueueRows, before: u64) -> Tally {
        let mut left = Tally::default();
        let key = |pos| ChunkKey::of(self.queue, self.number, pos);
        let from = self.floor.max(self.purged_to);
        left.n = before.saturating_sub(from);
        for (k, chunk) in rows.chunks.range(key(self.floor)..=key(before)) {
            if chunk.purge_no != self.purge_no {
                continue;
            }
            for e in chunk.exceptions.iter() {
                let pos = k.base() + u64::from(e.off);
                if pos >= self.floor && pos < before {
                    left.bytes += u64::from(e.bytes);
                    // Below, all are settled but those that a chunk keeps.
                    left.n += u64::from(pos < from);
                }
            }
            for (first, last) in chunk.settled.runs() {
                let (first, end) = (k.base() + u64::from(first), k.base() + u64::from(last) + 1);
                left.n -= end.min(before).saturating_sub(first.max(from));
            }
        }
        left
    }

    /// The scan passes records that are not to be handed out. How many count no more.
    fn pass(&mut self, rows: &QueueRows, from: u64, to: u64, unreadable: bool, now_ms: u64) -> u64 {
        let before = self.tidy.skips.n;
        let mut at = from;
        while at < to {
            let end = to.min((at / CHUNK + 1).saturating_mul(CHUNK));
            let row = rows.chunks.get(&ChunkKey::of(self.queue, self.number, at));
            if row.is_none() && at >= self.purged_to && self.leases.is_empty() {
                self.tidy.skips.push(at, end, unreadable, now_ms);
            } else {
                for pos in at..end {
                    if self.is_untouched(rows, pos) {
                        self.tidy.skips.push(pos, pos + 1, unreadable, now_ms);
                    }
                }
            }
            at = end;
        }
        self.tidy.skips.n - before
    }

    /// The same, where only part of it is unreadable.
    fn pass_all(&mut self, rows: &QueueRows, from: u64, to: u64, bad: &[(u64, u64)], now_ms: u64) -> u64 {
        let (mut at, mut n) = (from, 0);
        let bad = bad.get(bad.partition_point(|b| b.1 <= from)..).unwrap_or_default();
        for (first, end) in bad.iter().take_while(|b| b.0 < to) {
            let (first, end) = ((*first).clamp(at, to), (*end).clamp(at, to));
            n += self.pass(rows, at, first, false, now_ms);
            n += self.pass(rows, first, end, true, now_ms);
            at = end;
        }
        n + self.pass(rows, at, to, false, now_ms)
    }
}

impl Queues {
    /// Record `lsn` appended to a partition up to `end`.
    pub(crate) fn topic_appended(&mut self, lsn: Lsn, log: LogId, end: u64) {
        let Some(part) = self.topics.parts.get_mut(&log) else { return };
        let n = end.saturating_sub(part.next);
        part.next = part.next.max(end);
        let Part { uuid, lane, next, .. } = *part;
        self.topics.shown.push_back((lsn, log, end));
        for id in self.topics.queues(&uuid) {
            let Some(queue) = self.live.get_mut(id) else { continue };
            if let Some(lane) = queue.lanes.get_mut(lane) {
                lane.next = next;
                queue.ready.n += n;
            }
        }
    }

    /// What records up to `lsn` appended to topics may be delivered.
    pub(super) fn show_records(&mut self, lsn: Lsn) {
        while let Some((_, log, end)) = self.topics.shown.pop_front_if(|s| s.0 <= lsn) {
            let Some(part) = self.topics.parts.get_mut(&log) else { continue };
            part.visible = part.visible.max(end);
            let Part { uuid, lane, visible, .. } = *part;
            for id in self.topics.queues(&uuid).collect::<Vec<_>>() {
                let lane = self.live.get_mut(id).and_then(|q| q.lanes.get_mut(lane));
                if let Some(lane) = lane.filter(|l| l.visible < visible) {
                    lane.visible = visible;
                    self.mark_runnable(id);
                }
            }
        }
    }

    /// The subscriptions of a topic.
    pub(crate) fn subscriptions(&self, uuid: &[u8; 16]) -> Vec<Arc<QueueDef>> {
        self.topics.queues(uuid).filter_map(|id| self.directory.by_id(id)).collect()
    }

    /// Topics were changed: partitions that came join their subscriptions, and what was removed with a topic is gone.
    pub(crate) fn topics_changed(&mut self, cx: &mut Cx<'_>, plan: &catalogue::Plan) {
        for row in plan.changed.values().flatten() {
            // What is new is empty.
            self.topics.grown(cx.state, row.uuid, &row.partitions, None);
            for id in self.topics.queues(&row.uuid).collect::<Vec<_>>() {
                let (turn, live) = self.turn(&cx.state.queues);
                if let Some(queue) = live.get_mut(id) {
                    queue.feed(&turn);
                }
            }
        }
        for id in &plan.queues {
            self.follow(cx, *id, None);
        }
        self.wake_freed();
    }

    /// Trims a partition: what its subscriptions have not settled there is lost to them, in the same record.
    pub(crate) fn trim_topic(
        &mut self,
        cx: &mut Cx<'_>,
        session: ConnId,
        log: LogId,
        before: u64,
        permit: Permit,
    ) -> Option<Lsn> {
        self.now = cx.now;
        self.record.trim(log, before);
        let (number, queues) = self.topics.fed_by(log).unwrap_or_default();
        let mut lost = Vec::new();
        for id in queues {
            let lane = self.live.get_mut(id).and_then(|q| q.lanes.get_mut(number));
            let Some(lane) = lane.filter(|l| l.floor < before) else { continue };
            let left = lane.unsettled_below(&cx.state.queues, before);
            let passed = lane.tidy.skips.cut(before);
            let n = left.n.saturating_sub(passed.all());
            self.record.head(id, |out| {
                head::put_skipped(out, number, lane.floor, passed.skipped, passed.unreadable);
                head::put_lost(out, number, before, n, left.bytes);
            });
            lost.push((id, n));
        }
        let lsn = self.commit(cx, permit, Some(session), |_| &[]);
        for (id, n) in lost {
            let (mut turn, live) = self.turn(&cx.state.queues);
            if let Some(queue) = live.get_mut(id) {
                queue.lose(&mut turn, number, before, n);
            }
            self.mark_runnable(id);
        }
        self.wake_freed();
        lsn
    }

    /// What a lane passed over is recorded soon, much of it at once.
    fn record_skips(&mut self, id: ObjectId, number: u16) {
        let Some(lane) = self.live.get_mut(id).and_then(|q| q.lanes.get_mut(number)) else { return };
        match lane.tidy.skips.due_ms() {
            Some(0) => self.untidy.push_back((id, number)),
            Some(at) if !lane.tidy.timer => {
                lane.tidy.timer = true;
                self.timers.at(at, id, Look::Floor(number));
            }
            _ => {}
        }
    }

    /// Takes records that were read for a window.
    pub(crate) fn records_read(&mut self, rows: &QueueRows, now: Now, read: RecordsRead) {
        let RecordsRead { asked, records } = read;
        let Some(queue) = self.live.get_mut(asked.queue) else { return };
        let Some(lane) = queue.lanes.get_mut(asked.lane) else { return };
        if lane.reading != Some(asked.token) {
            return;
        }
        lane.reading = None;
        match records {
            Ok(records) if records.next > asked.from => {
                queue.take_records(rows, asked.lane, asked.from, &records, now.wall_ms);
                self.record_skips(asked.queue, asked.lane);
            }
            // What cannot be read is stepped over, and stays in the queue.
            Err(ReadError::Damaged { end, .. }) => {
                lane.step_over(asked.from, end.max(asked.from + 1));
            }
            Err(ReadError::Trimmed { start }) if start > asked.from => {
                lane.step_over(asked.from, start);
            }
            Err(ReadError::Closed) => return,
            Ok(_) | Err(_) => {
                lane.reading = Some(asked.token);
                self.timers.at(now.wall_ms.saturating_add(RETRY_MS), asked.queue, Look::Read(asked.lane));
                return;
            }
        }
        self.mark_runnable(asked.queue);
    }
}

/// Says what a lane passed over, as far as there is room: by chunks, settled for two causes.
pub(super) fn say_skips(lane: &mut Lane, record: &mut super::record::Record, bytes_max: usize) {
    let (queue, number, purge_no) = (lane.queue, lane.number, lane.purge_no);
    let mut passed = Passed::default();
    let mut runs = Vec::new();
    while record.bytes_bound() < bytes_max {
        let Some(chunk) = lane.tidy.skips.runs.front().map(|r| r.0 / CHUNK) else { break };
        while let Some(run) = lane.tidy.skips.pop_below(u64::MAX, Some(chunk)) {
            passed.add(run.1 - run.0, run.2);
            runs.push(run);
        }
        record.chunk(&ChunkKey { queue, lane: number, chunk }, purge_no, |out| {
            for (from, end, bad) in runs.drain(..) {
                let cause = if bad { Cause::Damaged } else { Cause::Skipped };
                let len = u16::try_from(end - from).unwrap_or(u16::MAX);
                chunk::put_settle(out, offset(from), len, cause as u8);
            }
        });
        record.touch(queue, number, chunk);
    }
    if passed.all() > 0 {
        let floor = lane.floor;
        record.head(queue, |out| head::put_skipped(out, number, floor, passed.skipped, passed.unreadable));
    }
}
