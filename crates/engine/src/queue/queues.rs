//! All queues, and the way into them: operations, time, durability and reads come in; one record at a time goes out.
//!
//! Start at [`Queues::op`]. What is decided at once is in `publish`, `settle`, `change`, `purge` and `moves`; what queues do on
//! their own (deliver, expire, drop) is in `dispatch` and `tidy`, called from [`Queues::tick`].

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt, HashSet};
use millstream_log::{Op as LogOp, Permit};
use millstream_types::{ConnId, Lsn, ObjectId};

use super::api::{CONSUMERS_MAX, LEASES_MAX, RECEIVE_MAX, Unused};
use super::api::{ConsumerId, ConsumerOpts, QueueOp, QueueReply, Receive, ReceiveError, SubscribeError};
use super::consumer::{Sessions, Waiter};
use super::directory::Directory;
use super::dispatch::Taken;
use super::ids::IdWindow;
use super::lane::WindowSizes;
use super::lease::Has;
use super::live::{Queue, Turn};
use super::record::{LaneFacts, Record};
use super::rest::Rests;
use super::rows::QueueRows;
use super::rows::head::{self, Head, HeadKey};
use super::timers::{Look, Timers};
use super::topics::Topics;
use super::transient::{Barriers, TransientIds};
use crate::ctx::Asker;
use crate::op::{Answer, Commits, Effects, Now, Reply, Ticket};
use crate::routes::Index;
use crate::state::State;

/// Timers looked at in one turn.
const TURN_TIMERS_MAX: usize = 1_024;
/// That a queue is unused is said again after so long, milliseconds, if it is still there and unused.
const UNUSED_AGAIN_MS: u64 = 10_000;
/// Fewer timers are not worth looking through.
const TIMERS_LOW: usize = 4_096;

/// All queues in memory.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    pub(crate) directory: Arc<Directory>,
    /// By id; only ever looked up.
    pub(crate) live: Live,
    pub(crate) sessions: Sessions,
    /// Queues that have something to do, in order.
    pub(crate) runnable: VecDeque<ObjectId>,
    pub(crate) timers: Timers,
    /// What becomes visible with which record: (LSN, queue, lane, end).
    pub(crate) shown: VecDeque<(Lsn, ObjectId, u16, u64)>,
    /// What becomes visible in transient queues once the record being made is put in order: (queue, lane, end).
    pub(super) shown_at_once: Vec<(ObjectId, u16, u64)>,
    pub(super) barriers: Barriers,
    pub(super) transient_ids: TransientIds,
    /// Lanes whose floor is to be recorded.
    pub(crate) untidy: VecDeque<(ObjectId, u16)>,
    /// Queues whose messages are to be marked: the log was not closed cleanly.
    pub(crate) unmarked: VecDeque<ObjectId>,
    /// Sessions that are gone, and that had very many leases.
    pub(super) leaving: VecDeque<ConnId>,
    pub(crate) record: Record,
    pub(crate) ids: IdWindow,
    pub(crate) rests: Rests,
    /// Topics that queues are subscribed to.
    pub(crate) topics: Topics,
    pub(crate) taken: Taken,
    pub(crate) freed: Vec<ConnId>,
    pub(crate) durable: Lsn,
    pub(crate) epoch: u64,
    pub(crate) token: u64,
    /// The log was closed cleanly before it was opened.
    pub(crate) clean: bool,
    pub(crate) sizes: WindowSizes,
    /// With so many timers, those that are not wanted go.
    timers_max: usize,
    pub(crate) now: Now,
}

/// Queues by id.
#[derive(Debug)]
pub(crate) struct Live(HashMap<ObjectId, Box<Queue>>);

impl Default for Live {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl Live {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
    pub(crate) fn get(&self, id: ObjectId) -> Option<&Queue> {
        self.0.get(&id).map(|q| &**q)
    }
    pub(crate) fn get_mut(&mut self, id: ObjectId) -> Option<&mut Queue> {
        self.0.get_mut(&id).map(|q| &mut **q)
    }
    pub(crate) fn insert(&mut self, queue: Queue) {
        self.0.insert(queue.id(), Box::new(queue));
    }
    pub(crate) fn remove(&mut self, id: ObjectId) -> Option<Box<Queue>> {
        self.0.remove(&id)
    }
}

/// What the engine lends for one call.
pub(crate) struct Cx<'a> {
    pub(crate) state: &'a mut State,
    /// Bindings lead to queues, and go with them.
    pub(crate) routes: &'a mut Index,
    pub(crate) log: &'a mut dyn Commits,
    pub(crate) out: &'a mut Effects,
    pub(crate) last_lsn: &'a mut Lsn,
    pub(crate) now: Now,
}

impl Cx<'_> {
    pub(crate) fn answer(&mut self, asker: Asker, wait: Lsn, reply: QueueReply) {
        let Asker { session, ticket } = asker;
        self.out.answers.push(Answer { session, ticket, wait, reply: Reply::Queue(reply) });
    }
}

impl Queues {
    /// Everything was replayed and is durable.
    pub(crate) fn serve(&mut self, state: &State, epoch: u64, now: Now) {
        let rows = &state.queues;
        self.epoch = epoch;
        self.now = now;
        self.transient_ids = TransientIds::from(now.wall_ms);
        // Most queues are empty: they are not even looked up.
        let has_messages = |h: &Head| h.lanes.values().any(|l| l.floor < l.next);
        let full: HashSet<ObjectId> =
            rows.heads.iter().filter(|h| has_messages(h.1)).map(|h| h.0.0).collect();
        self.directory.reserve(rows.defs.len());
        for (key, row) in rows.defs.iter() {
            let def = self.directory.put(row.def(key));
            self.topics.subscribed(state, &def, None);
            let is_subscription = def.source.is_some();
            if full.contains(&def.id) || is_subscription || def.policy.expires_ms.is_some() {
                let head = rows.heads.get(&HeadKey(def.id));
                if head.is_some_and(|h| h.riding && (is_subscription || !h.lanes.is_empty())) && !self.clean {
                    self.unmarked.push_back(def.id);
                }
                self.load(rows, def.id);
                self.mark_runnable(def.id);
            }
        }
        for id in &self.unmarked {
            if let Some(queue) = self.live.get_mut(*id) {
                for lane in queue.lanes.values_mut() {
                    lane.mark_below = lane.next;
                }
            }
        }
    }

    /// Records up to `lsn` are durable: what they appended may be delivered.
    pub(crate) fn durable(&mut self, lsn: Lsn) {
        self.durable = self.durable.max(lsn);
        self.show_records(lsn);
        while let Some((_, id, lane, end)) = self.shown.pop_front_if(|s| s.0 <= lsn) {
            self.show(id, lane, end);
        }
    }

    /// What is below this may be delivered.
    pub(super) fn show(&mut self, id: ObjectId, lane: u16, end: u64) {
        if let Some(lane) = self.live.get_mut(id).and_then(|q| q.lanes.get_mut(lane)) {
            lane.visible = lane.visible.max(end);
            self.mark_runnable(id);
        }
    }

    /// The log is lost: nothing more happens.
    pub(crate) fn lost(&mut self) {
        self.shown.clear();
        self.topics.lost();
        self.runnable.clear();
        self.untidy.clear();
        self.unmarked.clear();
        self.leaving.clear();
    }

    /// When [`Queues::tick`] is wanted next, monotonic milliseconds.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        let rests = self.runnable.is_empty() && self.untidy.is_empty() && self.unmarked.is_empty();
        if !(rests && self.leaving.is_empty()) {
            return Some(self.now.mono_ms);
        }
        let others = self.ids.next_ms().into_iter().chain(self.rests.next_ms());
        let at = self.timers.next_ms().into_iter().chain(others).min()?;
        Some(self.now.mono_ms.saturating_add(at.saturating_sub(self.now.wall_ms)))
    }

    /// The parts that methods of a queue need, and the queues.
    pub(crate) fn turn<'a>(&'a mut self, rows: &'a QueueRows) -> (Turn<'a>, &'a mut Live) {
        let turn = Turn {
            rows,
            topics: &self.topics,
            sessions: &mut self.sessions,
            record: &mut self.record,
            timers: &mut self.timers,
            freed: &mut self.freed,
            now_ms: self.now.wall_ms,
            epoch: self.epoch,
            sizes: self.sizes,
        };
        (turn, &mut self.live)
    }

    /// The queue, built from its rows if it is not in memory. `None`: there is none.
    pub(crate) fn load(&mut self, rows: &QueueRows, id: ObjectId) -> Option<&mut Queue> {
        if self.live.get(id).is_none() {
            let def = self.directory.by_id(id)?;
            let kept = self.rests.take(id);
            let (mut turn, live) = self.turn(rows);
            let queue = Queue::of(def, kept, &mut turn);
            live.insert(queue);
            self.rests.list(id, self.now.wall_ms);
        }
        self.live.get_mut(id)
    }

    pub(crate) fn mark_runnable(&mut self, id: ObjectId) {
        if let Some(queue) = self.live.get_mut(id)
            && !queue.runnable
        {
            queue.runnable = true;
            self.runnable.push_back(id);
        }
    }

    /// Makes the record that was gathered, and follows it in memory. Its number, [`Lsn::UNRECORDED`] if all of it is about transient
    /// queues. `None`: there was nothing to be done.
    pub(crate) fn commit<'b>(
        &mut self,
        cx: &mut Cx<'_>,
        permit: Permit,
        waiter: Option<ConnId>,
        bodies: impl Fn(usize) -> &'b [Bytes],
    ) -> Option<Lsn> {
        self.commit_with(cx, permit, waiter, bodies, &[])
    }

    /// The same with more operations, which are not about queues. The engine's memory follows those.
    pub(crate) fn commit_with<'b>(
        &mut self,
        cx: &mut Cx<'_>,
        permit: Permit,
        waiter: Option<ConnId>,
        bodies: impl Fn(usize) -> &'b [Bytes],
        more: &[LogOp<'_>],
    ) -> Option<Lsn> {
        if self.record.is_empty() && more.is_empty() {
            return None;
        }
        let Self { record, live, taken, timers, ids, .. } = self;
        taken.forget_numbers();
        let facts = |id: ObjectId, number: u16, settles: bool| {
            let Some(queue) = live.get_mut(id) else { return LaneFacts { purge_no: 0, floor: 0 } };
            let purge_no = queue.purge_no;
            let Some(lane) = queue.lanes.get_mut(number) else { return LaneFacts { purge_no, floor: 0 } };
            if settles {
                lane.tidy.recorded = lane.floor;
            }
            LaneFacts { purge_no, floor: lane.floor }
        };
        let mut numbers = Vec::new();
        record.seal(&cx.state.queues, cx.now.wall_ms, facts, |id, lane, pos, no| {
            numbers.push((id, lane, pos, no));
        });
        for (id, number, pos, no) in numbers {
            taken.number((id, number, pos), no);
            let lane = live.get_mut(id).and_then(|q| q.lanes.get_mut(number));
            if let Some(until_ms) = lane.and_then(|l| l.leases.number(pos, no)).filter(|u| *u != u64::MAX) {
                timers.at(until_ms, id, Look::Lease(number, pos, no));
            }
        }
        let touched = record.take_touched();
        for (id, number, _) in &touched {
            if let Some(lane) = live.get_mut(*id).and_then(|q| q.lanes.get_mut(*number)) {
                super::tidy::floor_pieces(lane, &cx.state.queues, record);
            }
        }
        ids.seal(&cx.state.queues, record, cx.now.wall_ms);
        let mut parts = record.parts(|i| bodies(i));
        parts.extend(more);
        let lsn = parts.commit(cx.state, cx.last_lsn, cx.log, permit, waiter);
        self.record.clear();
        let directory = &self.directory;
        self.ids.recorded(&cx.state.queues, |id| directory.by_id(id)?.policy.id_window_ms);
        for (id, number, chunk) in &touched {
            self.settled(cx, *id, *number, *chunk);
        }
        self.record.give_touched(touched);
        Some(lsn)
    }

    /// Something of a chunk was settled: the floor may move.
    fn settled(&mut self, cx: &Cx<'_>, id: ObjectId, number: u16, chunk: u64) {
        let Some(lane) = self.live.get_mut(id).and_then(|q| q.lanes.get_mut(number)) else { return };
        if chunk >= lane.floor / super::rows::set::CHUNK {
            lane.tidy.retire.insert(chunk);
        }
        if lane.advance(&cx.state.queues, cx.now.wall_ms) {
            self.timers.at(cx.now.wall_ms.saturating_add(super::TIDY_MS), id, Look::Floor(number));
        }
    }

    /// Consumers of sessions that have room again may be ready.
    pub(crate) fn wake_freed(&mut self) {
        let mut freed = std::mem::take(&mut self.freed);
        for session in freed.drain(..) {
            self.wake_session(session);
        }
        self.freed = freed;
    }

    fn wake_session(&mut self, session: ConnId) {
        let Some(state) = self.sessions.get(&session) else { return };
        let mut all: Vec<(ConsumerId, ObjectId)> = state.consumers.iter().map(|(c, q)| (*c, *q)).collect();
        // In turns: who was served last, and the queue that served it, waits for the others.
        let served = state.served;
        all.sort_by_key(|(c, _)| *c <= served);
        if state.pool_max > 0 && all.len() > 1 {
            let mut ids: Vec<ObjectId> = all.iter().map(|(_, id)| *id).collect();
            ids.sort_unstable();
            self.runnable.retain(|id| ids.binary_search(id).is_err());
            for id in ids {
                if let Some(queue) = self.live.get_mut(id) {
                    queue.runnable = false;
                }
            }
        }
        for (consumer, id) in all {
            if let Some(queue) = self.live.get_mut(id) {
                let single = queue.policy().single_active;
                queue.consumers.wake((session, consumer), single);
                self.mark_runnable(id);
            }
        }
    }

    pub(crate) fn forget_if_empty(&mut self, session: ConnId) {
        if self.sessions.get(&session).is_some_and(super::consumer::SessionState::is_empty) {
            self.sessions.remove(&session);
        }
    }

    /// Decides one operation.
    pub(crate) fn op(&mut self, cx: &mut Cx<'_>, asker: Asker, op: QueueOp, permit: Option<Permit>) {
        self.now = cx.now;
        match op {
            QueueOp::Change(changes) => self.change(cx, asker, &changes, permit),
            QueueOp::Publish(messages) => self.publish(cx, asker, &messages, permit),
            QueueOp::Settle(items) => self.settle(cx, asker, &items, permit),
            QueueOp::Extend(items) => self.extend(cx, asker, &items, permit),
            QueueOp::Purge { queue, keep_leased } => self.purge(cx, asker, queue, keep_leased, permit),
            QueueOp::Move(items) => self.moved(cx, asker, &items, permit),
            QueueOp::Hold { queue, max } => self.hold(cx, asker, queue, max, permit),
            QueueOp::Unpark(items) => self.unpark(cx, asker, &items, permit),
            QueueOp::Parked { queue, from, max } => {
                let parked = self.load(&cx.state.queues, queue).map(|q| q.parked_from(from, max));
                cx.answer(asker, *cx.last_lsn, QueueReply::Parked(parked));
            }
            QueueOp::Subscribe { queue, consumer, opts } => {
                let result = self.subscribe(&cx.state.queues, asker.session, queue, consumer, opts);
                cx.answer(asker, *cx.last_lsn, QueueReply::Subscribed(result));
            }
            QueueOp::Receive(what) => self.receive(cx, asker, what),
            QueueOp::StopReceive { ticket } => {
                self.stop_receive(cx, asker.session, ticket);
                cx.answer(asker, Lsn(0), QueueReply::Done);
            }
            QueueOp::Credit { consumer, add } => {
                self.consumer(asker.session, consumer, |c| {
                    c.credit = c.credit.map(|n| n.saturating_add(add));
                });
                cx.answer(asker, Lsn(0), QueueReply::Done);
            }
            QueueOp::Prefetch { consumer: Some(consumer), max } => {
                self.consumer(asker.session, consumer, |c| c.opts.prefetch = max);
                cx.answer(asker, Lsn(0), QueueReply::Done);
            }
            QueueOp::Prefetch { consumer: None, max } => {
                self.sessions.entry(asker.session).or_default().pool_max = max;
                self.wake_session(asker.session);
                cx.answer(asker, Lsn(0), QueueReply::Done);
            }
            QueueOp::Flow { consumer: Some(consumer), on } => {
                self.consumer(asker.session, consumer, |c| c.flow = on);
                cx.answer(asker, Lsn(0), QueueReply::Done);
            }
            QueueOp::Flow { consumer: None, on } => {
                self.sessions.entry(asker.session).or_default().stopped = !on;
                self.wake_session(asker.session);
                cx.answer(asker, Lsn(0), QueueReply::Done);
            }
            QueueOp::Cancel { consumer } => {
                self.cancel(cx, asker.session, consumer);
                cx.answer(asker, *cx.last_lsn, QueueReply::Done);
            }
            QueueOp::Stats { queue, touch, durable } => {
                let now_ms = cx.now.wall_ms;
                let stats = self.load(&cx.state.queues, queue).map(|q| {
                    if touch {
                        q.used_ms = now_ms;
                    }
                    q.stats(&cx.state.queues)
                });
                let wait = if durable { *cx.last_lsn } else { Lsn(0) };
                cx.answer(asker, wait, QueueReply::Stats(stats));
            }
        }
        self.wake_freed();
    }

    fn subscribe(
        &mut self,
        rows: &QueueRows,
        session: ConnId,
        id: ObjectId,
        consumer: ConsumerId,
        opts: ConsumerOpts,
    ) -> Result<(), SubscribeError> {
        let key = (session, consumer);
        let known = self.sessions.get(&session).is_some_and(|s| s.consumers.contains_key(&consumer));
        let now_ms = self.now.wall_ms;
        let queue = self.load(rows, id).ok_or(SubscribeError::NotFound)?;
        if known || consumer == ConsumerId(0) || queue.consumers.get(key).is_some() {
            return Err(SubscribeError::Exists);
        }
        let shared = queue.consumers.count() > 0 || queue.policy().single_active;
        if queue.consumers.has_exclusive() || opts.exclusive && shared {
            return Err(SubscribeError::Exclusive);
        }
        if queue.consumers.count() >= CONSUMERS_MAX {
            return Err(SubscribeError::TooMany);
        }
        queue.used_ms = now_ms;
        let single = queue.policy().single_active;
        queue.consumers.add(key, opts, single);
        self.sessions.entry(session).or_default().consumers.insert(consumer, id);
        self.mark_runnable(id);
        Ok(())
    }

    fn consumer(
        &mut self,
        session: ConnId,
        consumer: ConsumerId,
        f: impl FnOnce(&mut super::consumer::Consumer),
    ) {
        let Some(id) = self.sessions.get(&session).and_then(|s| s.consumers.get(&consumer)).copied() else {
            return;
        };
        if let Some(queue) = self.live.get_mut(id) {
            let single = queue.policy().single_active;
            queue.consumers.change((session, consumer), single, f);
            self.mark_runnable(id);
        }
    }

    fn cancel(&mut self, cx: &mut Cx<'_>, session: ConnId, consumer: ConsumerId) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let Some(id) = state.consumers.remove(&consumer) else { return };
        self.drop_consumer(cx, id, session, consumer);
        self.forget_if_empty(session);
    }

    fn drop_consumer(&mut self, cx: &mut Cx<'_>, id: ObjectId, session: ConnId, consumer: ConsumerId) {
        let Some(queue) = self.live.get_mut(id) else { return };
        let single = queue.policy().single_active;
        if !queue.consumers.cancel((session, consumer), single) {
            return;
        }
        queue.used_ms = cx.now.wall_ms;
        if queue.consumers.count() == 0 {
            if queue.policy().auto_delete {
                cx.out.unused.push(Unused::LastConsumer(id));
            }
            queue.watch_idle(&mut self.timers);
        }
        self.mark_runnable(id);
    }

    fn receive(&mut self, cx: &mut Cx<'_>, asker: Asker, mut what: Receive) {
        what.max = what.max.clamp(1, RECEIVE_MAX);
        what.leases_max = what.leases_max.clamp(1, LEASES_MAX);
        let now_ms = cx.now.wall_ms;
        let id = what.queue;
        let refused = match self.load(&cx.state.queues, id) {
            None => Some(ReceiveError::NotFound),
            Some(q) if !what.beside && (q.policy().single_active || q.consumers.has_exclusive()) => {
                Some(ReceiveError::Exclusive)
            }
            Some(q) if what.wait_ms == 0 && q.leased.n >= what.leases_max as u64 => {
                Some(ReceiveError::OverLimit)
            }
            Some(q) if q.consumers.waiting() >= CONSUMERS_MAX => Some(ReceiveError::TooMany),
            Some(queue) => {
                queue.used_ms = now_ms;
                let deadline_ms = now_ms.saturating_add(what.wait_ms);
                queue.consumers.wait((asker.session, asker.ticket), Waiter { what, deadline_ms, back: 0 });
                None
            }
        };
        if let Some(error) = refused {
            cx.answer(asker, Lsn(0), QueueReply::Received(Err(error)));
            return;
        }
        self.sessions.entry(asker.session).or_default().waits.insert(asker.ticket, id);
        self.mark_runnable(id);
    }

    fn stop_receive(&mut self, cx: &mut Cx<'_>, session: ConnId, ticket: Ticket) {
        let Some(id) = self.sessions.get_mut(&session).and_then(|s| s.waits.remove(&ticket)) else { return };
        if let Some(queue) = self.live.get_mut(id)
            && queue.consumers.stop_waiting((session, ticket)).is_some()
        {
            queue.used_ms = cx.now.wall_ms;
            self.may_rest(id);
            cx.answer(Asker { session, ticket }, Lsn(0), QueueReply::Received(Ok(Vec::new())));
        }
        self.forget_if_empty(session);
    }

    /// A session is gone, behind all its operations: its receives and consumers end, and the leases that it owns.
    pub(crate) fn session_gone(&mut self, cx: &mut Cx<'_>, session: ConnId) {
        self.now = cx.now;
        self.barriers.forget(session);
        let Some(state) = self.sessions.get_mut(&session) else { return };
        let consumers = std::mem::take(&mut state.consumers);
        let waits = std::mem::take(&mut state.waits);
        for (ticket, id) in waits {
            if let Some(queue) = self.live.get_mut(id) {
                queue.consumers.stop_waiting((session, ticket));
                self.may_rest(id);
            }
        }
        for (consumer, id) in consumers {
            self.drop_consumer(cx, id, session, consumer);
        }
        self.end_session(cx, session);
        self.freed.clear();
    }

    /// The session's socket took so many bytes of what was delivered.
    pub(crate) fn handed_over(&mut self, session: ConnId, bytes: u64) {
        if let Some(state) = self.sessions.get_mut(&session) {
            let full = !state.has_room();
            state.outbox_bytes = state.outbox_bytes.saturating_sub(bytes);
            if full {
                self.wake_session(session);
            }
            self.forget_if_empty(session);
        }
    }

    /// What is due by now, and what queues have to do: a bounded part per call.
    pub(crate) fn tick(&mut self, cx: &mut Cx<'_>) {
        self.now = cx.now;
        self.mark_redelivered(cx);
        self.go_on_leaving(cx);
        self.forget_timers();
        for _ in 0..TURN_TIMERS_MAX {
            let Some((id, look)) = self.timers.due(cx.now.wall_ms) else { break };
            self.look(cx, id, look);
        }
        self.dispatch(cx);
        self.tidy(cx);
        self.forget_ids(cx);
        self.wake_freed();
        if self.unmarked.is_empty() {
            self.rest();
        }
    }

    /// Records what is marked as redelivered after an unclean end, before anything is delivered.
    fn mark_redelivered(&mut self, cx: &mut Cx<'_>) {
        while let Some(id) = self.unmarked.front().copied() {
            let Some(queue) = self.live.get(id) else {
                // It was removed meanwhile.
                self.unmarked.pop_front();
                continue;
            };
            let lanes: Vec<(u16, u64)> = queue.lanes.iter().map(|(n, l)| (*n, l.mark_below)).collect();
            let bytes = crate::effect::RECORD_OVERHEAD_BYTES + 64 + lanes.len() * 16;
            let Some(permit) = cx.log.spare(bytes) else { return };
            self.record.head(id, |out| lanes.iter().for_each(|(n, below)| head::put_mark(out, *n, *below)));
            self.commit(cx, permit, None, |_| &[]);
            self.unmarked.pop_front();
        }
    }

    /// Timers of what has changed since go, when there are many.
    fn forget_timers(&mut self) {
        if self.timers.len() < self.timers_max.max(TIMERS_LOW) {
            return;
        }
        let (live, rests) = (&self.live, &self.rests);
        let kept = |id, look| look == Look::Idle && rests.kept(id).is_some_and(|k| k.idle_timer);
        self.timers.retain(|at, id, look| live.get(id).map_or_else(|| kept(id, look), |q| q.wants(at, look)));
        self.timers_max = self.timers.len().saturating_mul(2);
    }

    fn look(&mut self, cx: &mut Cx<'_>, id: ObjectId, look: Look) {
        let now_ms = cx.now.wall_ms;
        if look == Look::Idle && self.rests.kept(id).is_some() {
            self.load(&cx.state.queues, id);
        }
        let (mut turn, live) = self.turn(&cx.state.queues);
        let Some(queue) = live.get_mut(id) else { return };
        match look {
            Look::Lease(number, pos, no) => {
                let lease = queue.lanes.get(number).and_then(|l| l.leases.get(pos));
                let Some(end) = lease
                    .filter(|l| l.has == Has::Consumer && l.no == no && l.until_ms <= now_ms)
                    .map(|l| l.until_ms)
                else {
                    return;
                };
                if let Some(lease) = queue.end_lease(&mut turn, number, pos) {
                    queue.failed(&mut turn, number, lease, Some(end));
                }
            }
            Look::Rest(number, pos) => {
                let woken = queue.lanes.get_mut(number).and_then(|l| l.wake(pos, now_ms));
                let Some(woken) = woken else { return };
                queue.woken(number, woken);
            }
            Look::Head(number) => {
                if let Some(lane) = queue.lanes.get_mut(number) {
                    lane.head_timer_ms = None;
                }
            }
            Look::Floor(number) => {
                self.untidy.push_back((id, number));
                return;
            }
            Look::Read(number) => {
                queue.keys.retry();
                if let Some(lane) = queue.lanes.get_mut(number) {
                    lane.reading = None;
                }
            }
            Look::Due(number) => {
                if let Some(lane) = queue.lanes.get_mut(number) {
                    lane.delays.timer_ms = None;
                }
            }
            Look::Deadline => queue.deadline_timer_ms = None,
            Look::Idle => {
                queue.idle_timer = false;
                if queue.is_idle(now_ms) {
                    cx.out.unused.push(Unused::Idle(id));
                    // Somebody should delete it; if nobody does, it is said again.
                    queue.idle_timer = true;
                    turn.timers.at(now_ms.saturating_add(UNUSED_AGAIN_MS), id, Look::Idle);
                } else {
                    queue.watch_idle(turn.timers);
                }
                return;
            }
        }
        self.mark_runnable(id);
    }
}
