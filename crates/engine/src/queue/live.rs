//! A queue in memory: built from its rows when it is first used, and following every record after that.
//!
//! Start at [`Queue`]. What its methods change is memory; what has to be recorded of it they put into the [`Record`] of the [`Turn`].

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_types::{ConnId, Lsn, ObjectId};

use super::api::{Cause, ConsumerId, DELAY_LANE, HELD_MAX, PARKED_MAX, QueueDef, QueueStats, Tally, Terms};
use super::consumer::{Consumers, Sessions};
use super::keys::{First, Keys};
use super::lane::{Lane, Slot, WindowSizes};
use super::lanes::Lanes;
use super::lease::{Has, Lease};
use super::policy::{LEASE_MS_MAX, OnExhausted, QueuePolicy, mix};
use super::record::{Act, Record};
use super::rest::Kept;
use super::rows::QueueRows;
use super::rows::chunk::{ChunkKey, Exception, Known, State};
use super::rows::head::HeadKey;
use super::timers::{Look, Timers};
use super::topics::Topics;

/// A queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(super) def: Arc<QueueDef>,
    /// The definition's: looked at for each message, so one step nearer.
    pub(super) terms: Arc<Terms>,
    pub(crate) lanes: Lanes<Lane>,
    pub(crate) consumers: Consumers,
    /// What may not go out for the order of keys.
    pub(crate) keys: Keys,
    pub(crate) purge_no: u32,
    /// A consumer rode: recorded with this LSN, 0 = long ago; `None` = never.
    pub(crate) riding: Option<Lsn>,
    pub(crate) ready: Tally,
    pub(crate) leased: Tally,
    pub(crate) scheduled: Tally,
    pub(crate) held: Tally,
    pub(crate) parked: Tally,
    /// Handed out and acknowledged since it was loaded.
    pub(crate) delivered: u64,
    pub(crate) acked: u64,
    /// It stands in the list of those that have something to do.
    pub(crate) runnable: bool,
    /// Messages whose attempts are used up, to be recorded.
    pub(crate) exhausted: VecDeque<(u16, u64)>,
    /// Messages that the mover holds and was not told of.
    pub(crate) work: VecDeque<(u16, u64)>,
    /// Messages that the mover was told of.
    pub(crate) work_out: usize,
    /// Last used then, milliseconds since the epoch.
    pub(crate) used_ms: u64,
    pub(crate) deadline_timer_ms: Option<u64>,
    pub(crate) idle_timer: bool,
    /// Of a subscription: the lane that is served next.
    pub(crate) turn: u16,
    /// It stands in the list of those that may be at rest.
    pub(crate) listed: bool,
    /// It was last built or served then, milliseconds since the epoch.
    pub(crate) served_ms: u64,
}

/// What methods of a queue may use in one call of the engine.
pub(crate) struct Turn<'a> {
    pub(crate) rows: &'a QueueRows,
    pub(crate) topics: &'a Topics,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) record: &'a mut Record,
    pub(crate) timers: &'a mut Timers,
    /// Sessions whose consumers may be ready again, in all queues.
    pub(crate) freed: &'a mut Vec<ConnId>,
    pub(crate) now_ms: u64,
    pub(crate) epoch: u64,
    pub(crate) sizes: WindowSizes,
}

/// What is known of a lane's next message.
enum Head {
    None,
    Is(Slot),
    /// It has to be read.
    Unread,
}

impl Tally {
    pub(crate) fn add(&mut self, bytes: u32) {
        self.n += 1;
        self.bytes += u64::from(bytes);
    }
    pub(crate) fn sub(&mut self, bytes: u32) {
        self.n = self.n.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(bytes));
    }
    /// One message.
    pub(crate) fn one(bytes: u32) -> Self {
        Self { n: 1, bytes: u64::from(bytes) }
    }
    fn minus(self, other: Self) -> Self {
        Self { n: self.n.saturating_sub(other.n), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

impl Queue {
    pub(crate) fn id(&self) -> ObjectId {
        self.def.id
    }

    pub(crate) fn policy(&self) -> &QueuePolicy {
        &self.terms.policy
    }

    /// What it is now.
    pub(crate) fn define(&mut self, def: Arc<QueueDef>) {
        self.terms = Arc::clone(&def.terms);
        self.def = def;
    }

    /// A queue as its rows have it, and what was `kept` when it left memory. `turn.record` is not used.
    pub(crate) fn of(def: Arc<QueueDef>, kept: Option<Kept>, turn: &mut Turn<'_>) -> Self {
        let kept = kept.unwrap_or_default();
        let head = turn.rows.heads.get(&HeadKey(def.id));
        let mut queue = Self {
            purge_no: head.map_or(0, |h| h.purge_no),
            riding: head.filter(|h| h.riding).map(|_| Lsn(0)),
            terms: Arc::clone(&def.terms),
            def,
            lanes: Lanes::default(),
            consumers: Consumers::default(),
            keys: Keys::new(turn.sizes),
            ready: Tally::default(),
            leased: Tally::default(),
            scheduled: Tally::default(),
            held: Tally::default(),
            parked: Tally::default(),
            delivered: kept.delivered,
            acked: kept.acked,
            runnable: false,
            exhausted: VecDeque::new(),
            work: VecDeque::new(),
            work_out: 0,
            used_ms: if kept.used_ms > 0 { kept.used_ms } else { turn.now_ms },
            deadline_timer_ms: None,
            idle_timer: kept.idle_timer,
            turn: 0,
            listed: true,
            served_ms: turn.now_ms,
        };
        if queue.is_subscription() {
            queue.feed(turn);
        } else {
            for (number, lane) in head.iter().flat_map(|h| h.lanes.iter()) {
                let ordering = queue.policy().ordering;
                let lane = Lane::of(queue.id(), *number, queue.purge_no, lane, turn.sizes, ordering);
                queue.lanes.insert(*number, lane);
            }
        }
        let from = ChunkKey { queue: queue.id(), lane: 0, chunk: 0 };
        let to = ChunkKey { queue: queue.id(), lane: u16::MAX, chunk: u64::MAX };
        for (key, chunk) in turn.rows.chunks.range(from..=to) {
            if chunk.purge_no == queue.purge_no {
                for e in chunk.exceptions.iter() {
                    queue.recover(key, &e, turn.now_ms, turn.timers);
                }
            }
        }
        let id = queue.id();
        for (number, lane) in queue.lanes.iter_mut() {
            if lane.is_delayed() {
                let (n, bytes) = lane.reload_delays(turn.rows);
                queue.scheduled.n += n;
                queue.scheduled.bytes += bytes;
            }
            if lane.advance(turn.rows, turn.now_ms) {
                turn.timers.at(turn.now_ms + super::TIDY_MS, id, Look::Floor(*number));
            }
        }
        let (appended, settled) = queue.totals(turn.rows);
        let away = [queue.leased, queue.scheduled, queue.held, queue.parked];
        let seen_bytes = queue.ready.bytes;
        queue.ready = away.iter().fold(appended.minus(settled), |t, a| t.minus(*a));
        if queue.is_subscription() {
            queue.ready.bytes = seen_bytes;
        }
        queue.watch_idle(turn.timers);
        queue
    }

    /// Ever appended, and settled.
    fn totals(&self, rows: &QueueRows) -> (Tally, Tally) {
        let (mut appended, mut settled) = (Tally::default(), Tally::default());
        for lane in rows.heads.get(&HeadKey(self.id())).iter().flat_map(|h| h.lanes.values()) {
            appended.n += lane.next;
            appended.bytes += lane.appended_bytes;
            settled.n += lane.settled;
            settled.bytes += lane.settled_bytes;
        }
        if self.is_subscription() {
            appended.n = self.lanes.values().map(|l| l.next).sum();
            // What was passed over is as good as settled, and recorded soon.
            settled.n += self.lanes.values().map(|l| l.tidy.skips.len()).sum::<u64>();
        }
        (appended, settled)
    }

    pub(crate) fn stats(&self, rows: &QueueRows) -> QueueStats {
        let (appended, settled) = self.totals(rows);
        QueueStats {
            ready: self.ready,
            leased: self.leased,
            scheduled: self.scheduled,
            held: self.held,
            parked: self.parked,
            paused: self.is_paused(),
            consumers: u32::try_from(self.consumers.count()).unwrap_or(u32::MAX),
            waiting: u32::try_from(self.consumers.waiting()).unwrap_or(u32::MAX),
            appended,
            settled,
            delivered: self.delivered,
            acked: self.acked,
            topic: self.topic_counts(rows),
        }
    }

    /// Messages in it, whatever their state.
    pub(crate) fn messages(&self) -> u64 {
        self.ready.n + self.leased.n + self.scheduled.n + self.held.n + self.parked.n
    }

    /// What a row says of a message, as it is now: a lease may have ended since, and time counts as it did then.
    fn recover(&mut self, key: &ChunkKey, e: &Exception, now_ms: u64, timers: &mut Timers) {
        let (pos, number) = (key.base() + u64::from(e.off), key.lane);
        let id = self.id();
        let policy = Arc::clone(&self.def);
        let policy = &policy.policy;
        let Some(lane) = self.lanes.get_mut(number) else { return };
        if pos < lane.floor || pos >= lane.next {
            return;
        }
        let mut slot = Slot {
            pos,
            bytes: e.bytes,
            deliveries: e.deliveries,
            attempts: e.attempts,
            expiry_ms: u64::MAX,
            key_hash: e.key_hash,
            seen: true,
            ..Slot::default()
        };
        let lease = |slot, has, until_ms| Lease { slot, no: e.no, has, until_ms, holder: None, owned: false };
        let latest_ms = now_ms.saturating_add(LEASE_MS_MAX);
        let ended = match e.state {
            State::Timed(until_ms) if until_ms > now_ms => {
                let until_ms = until_ms.min(latest_ms);
                timers.at(until_ms, id, Look::Lease(number, pos, e.no));
                self.add_lease(number, lease(slot, Has::Consumer, until_ms));
                self.leased.add(e.bytes);
                return;
            }
            // What somebody took to bring it elsewhere is back when the process ends: nothing is counted.
            State::Held(cause) if Cause::of(cause) == Cause::Redrive => {
                self.ready.add(e.bytes);
                lane.give_back(slot);
                return;
            }
            State::Held(cause) => {
                self.add_lease(number, lease(slot, Has::Mover(Cause::of(cause)), u64::MAX));
                self.held.add(e.bytes);
                self.work.push_back((number, pos));
                return;
            }
            State::Parked(cause) => {
                self.add_lease(number, lease(slot, Has::Parked(Cause::of(cause)), u64::MAX));
                self.parked.add(e.bytes);
                return;
            }
            State::Resting(until_ms) => {
                let until_ms = until_ms.min(latest_ms);
                self.put_back(number, slot, until_ms, now_ms, timers);
                return;
            }
            State::Ready => {
                self.ready.add(e.bytes);
                lane.give_back(slot);
                return;
            }
            State::Timed(until_ms) => Some(until_ms),
            State::Bound(_) => None,
        };
        slot.attempts = slot.attempts.saturating_add(1);
        if policy.exhausted(slot.attempts) {
            self.add_lease(number, lease(slot, Has::Exhausted, u64::MAX));
            self.leased.add(e.bytes);
            self.exhausted.push_back((number, pos));
        } else {
            let until_ms = ended.map_or(0, |end| end.saturating_add(self.backoff_ms(number, &slot)));
            self.put_back(number, slot, until_ms.min(latest_ms), now_ms, timers);
        }
    }

    fn backoff_ms(&self, lane: u16, slot: &Slot) -> u64 {
        let seed = mix(self.id().0 << 16 | u64::from(lane)) ^ slot.pos;
        self.policy().backoff_ms(slot.attempts, seed)
    }

    /// A message is ready, or rests until then. Of tallies, `ready` is counted by whoever calls while a queue is built.
    fn put_back(&mut self, number: u16, slot: Slot, until_ms: u64, now_ms: u64, timers: &mut Timers) {
        if until_ms > now_ms {
            timers.at(until_ms, self.id(), Look::Rest(number, slot.pos));
            self.scheduled.add(slot.bytes);
            self.rests(slot.key_hash, true);
            if let Some(lane) = self.lanes.get_mut(number) {
                lane.rest(slot, until_ms);
            }
        } else {
            self.ready.add(slot.bytes);
            self.give_back(number, slot);
        }
    }

    /// Removes a lease: it no longer counts for anybody.
    pub(crate) fn end_lease(&mut self, turn: &mut Turn<'_>, number: u16, pos: u64) -> Option<Lease> {
        let lease = self.take_lease(number, pos)?;
        match lease.has {
            Has::Consumer | Has::Exhausted => self.leased.sub(lease.slot.bytes),
            Has::Mover(_) => self.held.sub(lease.slot.bytes),
            Has::Parked(_) => self.parked.sub(lease.slot.bytes),
        }
        self.release_holder(turn, number, &lease);
        Some(lease)
    }

    fn release_holder(&mut self, turn: &mut Turn<'_>, number: u16, lease: &Lease) {
        let Some(holder) = lease.holder else { return };
        let mut in_turn = false;
        if let Some(session) = turn.sessions.get_mut(&holder.0) {
            session.leases.remove(self.def.id, number, lease.slot.pos);
            if holder.1 != ConsumerId(0) {
                let full = session.pool_max > 0 && session.pool_used >= session.pool_max;
                session.pool_used = session.pool_used.saturating_sub(1);
                in_turn = full;
                if full && turn.freed.last() != Some(&holder.0) {
                    turn.freed.push(holder.0);
                }
            }
        }
        if holder.1 != ConsumerId(0) {
            self.consumers.gave(holder, self.terms.policy.single_active, in_turn);
        }
    }

    /// A lease ended because somebody failed: `recorded` tells that the record being made says what becomes of it. A lease that ran
    /// out, or whose holder went, is not recorded, unless its attempts are used up: `ended_ms` is when it ran out.
    pub(crate) fn failed(
        &mut self,
        turn: &mut Turn<'_>,
        number: u16,
        mut lease: Lease,
        ended_ms: Option<u64>,
    ) {
        lease.slot.attempts = lease.slot.attempts.saturating_add(1);
        if self.policy().exhausted(lease.slot.attempts) {
            self.exhaust(number, lease);
            return;
        }
        let until_ms = ended_ms.map_or(0, |end| end.saturating_add(self.backoff_ms(number, &lease.slot)));
        self.put_back(number, lease.slot, until_ms, turn.now_ms, turn.timers);
    }

    /// Attempts of a message are used up: a record is to say what becomes of it.
    fn exhaust(&mut self, number: u16, lease: Lease) {
        let has = Has::Exhausted;
        let lease = Lease { has, until_ms: u64::MAX, holder: None, owned: false, ..lease };
        self.leased.add(lease.slot.bytes);
        self.exhausted.push_back((number, lease.slot.pos));
        self.add_lease(number, lease);
    }

    /// Whether messages whose attempts are used up can go nowhere: the parking place is full, and there is no dead-letter target. Then
    /// nothing is handed out.
    pub(crate) fn is_paused(&self) -> bool {
        !self.exhausted.is_empty() && self.park_is_full() && !self.policy().dead_letter
    }

    fn park_is_full(&self) -> bool {
        self.policy().on_exhausted == OnExhausted::Park && self.parked.n >= PARKED_MAX
    }

    /// Back to its place, and recorded so. Rests for `delay_ms`; `None`: as the backoff says.
    pub(crate) fn release(&mut self, turn: &mut Turn<'_>, number: u16, slot: Slot, delay_ms: Option<u64>) {
        let delay_ms = delay_ms.unwrap_or_else(|| self.backoff_ms(number, &slot)).min(LEASE_MS_MAX);
        let until_ms = turn.now_ms.saturating_add(delay_ms);
        let state = if delay_ms > 0 { State::Resting(until_ms) } else { State::Ready };
        let known = Known { state, deliveries: slot.deliveries, attempts: slot.attempts };
        turn.record.act(self.id(), number, slot.pos, Act::Put(known));
        self.put_back(number, slot, until_ms, turn.now_ms, turn.timers);
    }

    /// The message of a lease that ended is done with: it goes to the mover if there is a target, else it is settled. The cause
    /// `Exhausted` follows the policy; if the parking place is full, it is as if there were none, and without a target the message waits.
    pub(crate) fn finish(&mut self, turn: &mut Turn<'_>, number: u16, lease: Lease, cause: Cause) {
        let (parks, moves) = match (cause, self.policy().on_exhausted) {
            (Cause::Exhausted, OnExhausted::Park) if self.park_is_full() => {
                if !self.policy().dead_letter {
                    return self.exhaust(number, lease);
                }
                (false, true)
            }
            (Cause::Exhausted, OnExhausted::Park) => (true, false),
            (Cause::Exhausted, OnExhausted::Drop) => (false, false),
            _ => (false, self.policy().dead_letter),
        };
        let Slot { pos, bytes, deliveries, attempts, .. } = lease.slot;
        let (has, state) = if parks {
            self.parked.add(bytes);
            (Has::Parked(cause), State::Parked(cause as u8))
        } else if moves {
            self.held.add(bytes);
            self.work.push_back((number, pos));
            (Has::Mover(cause), State::Held(cause as u8))
        } else {
            turn.record.act(self.id(), number, pos, Act::Settle(cause, bytes));
            return;
        };
        turn.record.act(self.id(), number, pos, Act::Put(Known { state, deliveries, attempts }));
        self.add_lease(number, Lease { has, until_ms: u64::MAX, holder: None, owned: false, ..lease });
    }

    /// A message that nobody has is done with: to the mover, under a new number, or settled.
    pub(crate) fn discard(&mut self, turn: &mut Turn<'_>, number: u16, slot: Slot, cause: Cause) {
        if self.policy().dead_letter || cause == Cause::Redrive {
            self.hold(turn, number, slot, cause);
            if cause != Cause::Redrive {
                self.work.push_back((number, slot.pos));
            }
        } else {
            turn.record.act_on(self.id(), number, &slot, Act::Settle(cause, slot.bytes));
        }
    }

    fn hold(&mut self, turn: &mut Turn<'_>, number: u16, mut slot: Slot, cause: Cause) {
        let Slot { bytes, deliveries, attempts, .. } = slot;
        let known = Known { state: State::Held(cause as u8), deliveries, attempts };
        let key_hash = self.key_of(&slot);
        turn.record.act_on(self.id(), number, &slot, Act::Lease(known, bytes, key_hash));
        slot.in_due = false;
        self.held.add(bytes);
        let has = Has::Mover(cause);
        self.add_lease(number, Lease { slot, no: 0, has, until_ms: u64::MAX, holder: None, owned: false });
    }

    /// Whether a message can go to the mover now.
    pub(crate) fn may_hold(&self) -> bool {
        !self.policy().dead_letter || self.held.n < HELD_MAX as u64
    }

    /// Whether a timer still tells something.
    pub(crate) fn wants(&self, at_ms: u64, look: Look) -> bool {
        let lane = |n: u16| self.lanes.get(n);
        match look {
            Look::Lease(n, pos, no) => {
                lane(n).and_then(|l| l.leases.get(pos)).is_some_and(|l| l.no == no && l.until_ms == at_ms)
            }
            Look::Rest(n, pos) => lane(n).is_some_and(|l| l.rests(pos, at_ms)),
            Look::Head(n) => lane(n).is_some_and(|l| l.head_timer_ms == Some(at_ms)),
            Look::Due(n) => lane(n).is_some_and(|l| l.delays.timer_ms == Some(at_ms)),
            Look::Deadline => self.deadline_timer_ms == Some(at_ms),
            Look::Floor(_) | Look::Read(_) | Look::Idle => true,
        }
    }

    /// Asks to be woken when it may have been unused for too long.
    pub(crate) fn watch_idle(&mut self, timers: &mut Timers) {
        if let Some(span) = self.terms.policy.expires_ms
            && self.consumers.count() == 0
            && !self.idle_timer
        {
            self.idle_timer = true;
            timers.at(self.used_ms.saturating_add(span), self.id(), Look::Idle);
        }
    }

    /// Whether it was unused for its `expires_ms`.
    pub(crate) fn is_idle(&self, now_ms: u64) -> bool {
        self.consumers.count() == 0
            && self.consumers.waiting() == 0
            && self.policy().expires_ms.is_some_and(|span| self.used_ms.saturating_add(span) <= now_ms)
    }

    /// The lane of the next message in delivery order, of those whose key is open. `None` too if it has to be read first.
    pub(crate) fn next_lane(&self, now_ms: u64) -> Option<u16> {
        self.pick(|_, lane| match lane.peek_visible() {
            Some(slot) if self.is_gated(&slot, now_ms) => Head::None,
            Some(slot) => Head::Is(slot),
            None if lane.knows_next() => Head::None,
            None => Head::Unread,
        })
    }

    /// The same among all messages, visible or not, whether their key is open or not.
    pub(crate) fn next_lane_of_all(&self) -> Option<u16> {
        self.pick(|number, lane| match self.first_of_all(number) {
            Some(First::Is(slot)) => Head::Is(slot),
            None if lane.scan >= lane.next && lane.knows_next() => Head::None,
            Some(First::Unread(_)) | None => Head::Unread,
        })
    }

    /// The lane of the first visible message, whether its key is open or not.
    pub(crate) fn first_lane(&self) -> Option<u16> {
        self.pick(|number, lane| match self.first_of_all(number) {
            Some(First::Is(slot)) if slot.pos < lane.visible => Head::Is(slot),
            Some(First::Unread(_)) => Head::Unread,
            _ => Head::None,
        })
    }

    /// The highest priority that has a message; within it, one that was delayed goes first if its time had come before the other was
    /// published.
    fn pick(&self, head: impl Fn(u16, &Lane) -> Head) -> Option<u16> {
        if self.is_subscription() {
            // Partitions take turns; one that has to be read first is passed over.
            let mut turns = self.lanes.range(self.turn..).chain(self.lanes.range(..self.turn));
            return turns.find(|(n, lane)| matches!(head(**n, lane), Head::Is(_))).map(|(n, _)| *n);
        }
        let mut plain = self.lanes.range(..DELAY_LANE).rev().peekable();
        let mut delayed = self.lanes.range(DELAY_LANE..).rev().peekable();
        loop {
            let highest = plain.peek().map(|l| *l.0).max(delayed.peek().map(|l| *l.0 - DELAY_LANE))?;
            let first = plain.next_if(|l| *l.0 == highest).map_or(Head::None, |l| head(*l.0, l.1));
            let second = delayed.next_if(|l| *l.0 - DELAY_LANE == highest);
            let second = second.map_or(Head::None, |l| head(*l.0, l.1));
            match (first, second) {
                (Head::Unread, _) | (_, Head::Unread) => return None,
                (Head::Is(p), Head::Is(d)) if d.due_ms > p.enqueued_ms => return Some(highest),
                (_, Head::Is(_)) => return Some(highest + DELAY_LANE),
                (Head::Is(_), Head::None) => return Some(highest),
                (Head::None, Head::None) => {}
            }
        }
    }

    /// Whether it holds more ready messages than it may.
    pub(crate) fn is_over(&self) -> bool {
        self.policy().messages_max.is_some_and(|max| self.ready.n > max)
            || self.policy().bytes_max.is_some_and(|max| self.ready.bytes > max)
    }

    /// Whether so many messages more would be too much.
    pub(crate) fn would_be_over(&self, more: Tally) -> bool {
        self.policy().messages_max.is_some_and(|max| self.ready.n + more.n > max)
            || self.policy().bytes_max.is_some_and(|max| self.ready.bytes + more.bytes > max)
    }
}

impl Cause {
    /// From its number on disk; an unknown one of a later version counts as a rejection.
    #[must_use]
    pub fn of(number: u8) -> Self {
        use Cause::{Acked, Damaged, Exhausted, Expired, Length, Moved, Purged, Redrive, Rejected, Skipped};
        [Acked, Expired, Rejected, Exhausted, Length, Purged, Moved, Redrive, Skipped, Damaged]
            .into_iter()
            .find(|c| *c as u8 == number)
            .unwrap_or(Rejected)
    }
}
