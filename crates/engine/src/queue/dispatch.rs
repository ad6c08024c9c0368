//! What a queue does on its own: it records what is exhausted, drops what is too old or too much, and hands messages out.
//!
//! Start at [`Queues::dispatch`], once per turn: queues that have something to do are served in order, and everything they do is one
//! record, as long as it fits.

use millstream_log::Permit;
use millstream_types::{ConnId, Lsn, ObjectId};

use super::api::{
    Cause, ConsumerId, Delivery, LEASES_MAX, LeaseKind, MoveWork, QueueReply, ReadWindow, Tally,
};
use super::consumer::{ConsumerKey, Taker, WaiterKey};
use super::keys::First;
use super::lane::Slot;
use super::lease::{Has, Lease};
use super::live::{Queue, Turn};
use super::policy::{LEASE_MS_MAX, Ordering};
use super::queues::{Cx, Queues};
use super::record::{ACTION_BYTES, Act};
use super::rows::chunk::{Known, State};
use super::rows::head;
use super::timers::Look;
use crate::ctx::Asker;

/// Messages handed out in one turn.
const TURN_MESSAGES_MAX: usize = 4_096;
/// Room for a record of a dispatch, bytes.
const RECORD_BYTES: usize = 64 << 10;
/// Messages over a queue's limits dropped in one turn.
const DROPS_MAX: usize = 256;
/// Messages that the mover works on at a time, per queue.
const WORK_OUT_MAX: usize = 1_024;
/// What a delivery takes of an outbox besides its payload, bytes.
pub const DELIVERY_BYTES: u64 = 64;

/// Messages handed out by the record that is being made.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    deliveries: Vec<(Delivery, Out)>,
    /// Delivery numbers by place, ascending.
    numbers: Vec<((ObjectId, u16, u64), u32)>,
    /// Queues on which somebody rides for the first time.
    riding: Vec<ObjectId>,
    served: Vec<ObjectId>,
}

/// How a delivery goes out.
#[derive(Clone, Copy, Debug)]
struct Out {
    /// In the answer to this receive.
    waiter: Option<WaiterKey>,
    ride: bool,
    /// The message is not durable yet.
    early: bool,
}

impl Taken {
    /// The message at a place got a number. In ascending order of places.
    pub(crate) fn number(&mut self, place: (ObjectId, u16, u64), no: u32) {
        self.numbers.push((place, no));
    }

    /// A record is being made: numbers of the last one are forgotten.
    pub(crate) fn forget_numbers(&mut self) {
        self.numbers.clear();
    }

    fn number_of(&self, d: &Delivery) -> u32 {
        let place = (d.queue, d.lane, d.pos);
        let found = self.numbers.binary_search_by_key(&place, |n| n.0).ok();
        found.and_then(|i| self.numbers.get(i)).map_or(0, |n| n.1)
    }
}

/// How much one turn may still do.
pub(super) struct Budget {
    messages: usize,
    bytes: usize,
}

impl Budget {
    /// So many messages, for which there is room.
    pub(super) fn of(messages: usize) -> Self {
        Self { messages, bytes: usize::MAX }
    }

    /// How many messages are left of it.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }
}

impl Queues {
    /// Serves queues that have something to do.
    pub(super) fn dispatch(&mut self, cx: &mut Cx<'_>) {
        let mut messages = TURN_MESSAGES_MAX;
        while !self.runnable.is_empty() && messages > 0 && self.unmarked.is_empty() {
            let Some(permit) = cx.log.spare(RECORD_BYTES) else { return };
            let bytes = permit.bytes.min(RECORD_BYTES).saturating_sub(4 * ACTION_BYTES);
            let mut budget = Budget { messages, bytes };
            // Each queue once: those that have more to do stand at the end.
            for _ in 0..self.runnable.len() {
                if budget.messages == 0 || self.record.bytes_bound() >= budget.bytes {
                    break;
                }
                let Some(id) = self.runnable.pop_front() else { break };
                self.serve_one(cx, id, &mut budget);
            }
            let progress = messages - budget.messages;
            messages = budget.messages;
            self.deliver(cx, permit);
            self.wake_freed();
            if progress == 0 {
                break;
            }
        }
    }

    fn serve_one(&mut self, cx: &mut Cx<'_>, id: ObjectId, budget: &mut Budget) {
        let now_ms = cx.now.wall_ms;
        let Self { live, taken, token, .. } = self;
        let Some(queue) = live.get_mut(id) else { return };
        let mut turn = Turn {
            rows: &cx.state.queues,
            topics: &self.topics,
            sessions: &mut self.sessions,
            record: &mut self.record,
            timers: &mut self.timers,
            freed: &mut self.freed,
            now_ms,
            epoch: self.epoch,
            sizes: self.sizes,
        };
        queue.runnable = false;
        queue.served_ms = now_ms;
        if !queue.listed {
            queue.listed = true;
            self.rests.list(id, now_ms);
        }
        queue.record_exhausted(&mut turn, budget);
        queue.come_due(&mut turn);
        queue.sort_heads(turn.rows);
        queue.read_on(&mut turn, &mut cx.out.reads, token);
        queue.expire_heads(&mut turn, budget);
        if queue.hand_out_early(&mut turn, taken, budget, Tally::default()) {
            queue.drop_heads(&mut turn, DROPS_MAX);
        }
        let more = queue.hand_out(&mut turn, taken, budget);
        if !more {
            queue.all_offered();
        }
        // What was handed out may have stood before something too old.
        queue.expire_heads(&mut turn, budget);
        queue.sort_heads(turn.rows);
        queue.read_on(&mut turn, &mut cx.out.reads, token);
        let more = more || !queue.exhausted.is_empty() && !queue.is_paused() || queue.can_drop();
        if !more {
            queue.answer_overdue(&mut turn, &mut cx.out.answers);
        }
        queue.set_timers(&mut turn);
        taken.served.push(id);
        if more {
            self.mark_runnable(id);
        }
    }

    /// Makes the record of what was handed out, and lets it go.
    fn deliver(&mut self, cx: &mut Cx<'_>, permit: Permit) {
        let lsn = self.commit(cx, permit, None, |_| &[]).unwrap_or(*cx.last_lsn);
        self.hand_over(cx, lsn);
        let mut served = std::mem::take(&mut self.taken.served);
        for id in served.drain(..) {
            self.give_work(cx, id, lsn);
        }
        self.taken.served = served;
    }

    /// What was handed out with the record `lsn` goes to those who get it.
    pub(super) fn hand_over(&mut self, cx: &mut Cx<'_>, lsn: Lsn) {
        let mut taken = std::mem::take(&mut self.taken);
        for id in taken.riding.drain(..) {
            if let Some(queue) = self.live.get_mut(id) {
                queue.riding = Some(lsn);
            }
        }
        let mut answer: Option<(WaiterKey, Lsn, Vec<Delivery>)> = None;
        for (d, out) in &taken.deliveries {
            let mut d = *d;
            d.delivery_no = taken.number_of(&d);
            let riding = self.live.get(d.queue).and_then(|q| q.riding).filter(|l| *l > self.durable);
            // Of a transient queue there is nothing that could become durable.
            d.wait = if d.queue.is_transient() {
                Lsn::UNRECORDED
            } else if out.ride && !out.early {
                riding.unwrap_or(Lsn(0))
            } else {
                lsn
            };
            match out.waiter {
                None => cx.out.deliveries.push(d),
                Some(key) => match &mut answer {
                    Some((of, wait, all)) if *of == key => {
                        *wait = d.wait.max(*wait);
                        all.push(d);
                    }
                    _ => {
                        received(cx, answer.take());
                        answer = Some((key, d.wait, vec![d]));
                    }
                },
            }
        }
        received(cx, answer);
        taken.deliveries.clear();
        self.taken = taken;
    }

    /// Tells the mover of messages that it holds.
    fn give_work(&mut self, cx: &mut Cx<'_>, id: ObjectId, lsn: Lsn) {
        let lsn = if id.is_transient() { Lsn::UNRECORDED } else { lsn };
        let Some(queue) = self.live.get_mut(id) else { return };
        while queue.work_out < WORK_OUT_MAX {
            let Some((number, pos)) = queue.work.pop_front() else { break };
            if let Some(work) = queue.work_at(number, pos, lsn) {
                queue.work_out += 1;
                cx.out.moves.push(work);
            }
        }
    }
}

fn received(cx: &mut Cx<'_>, answer: Option<(WaiterKey, Lsn, Vec<Delivery>)>) {
    if let Some(((session, ticket), wait, all)) = answer {
        cx.answer(Asker { session, ticket }, wait, QueueReply::Received(Ok(all)));
    }
}

impl Queue {
    /// What the mover is to know of a message that it holds.
    pub(super) fn work_at(&self, lane: u16, pos: u64, wait: Lsn) -> Option<MoveWork> {
        let lease = self.lanes.get(lane)?.leases.get(pos)?;
        let Has::Mover(cause) = lease.has else { return None };
        let Slot { deliveries, attempts, .. } = lease.slot;
        Some(MoveWork {
            queue: self.id(),
            lane,
            pos,
            delivery_no: lease.no,
            cause,
            deliveries,
            attempts,
            wait,
        })
    }

    fn fits(turn: &Turn<'_>, budget: &Budget) -> bool {
        turn.record.bytes_bound() < budget.bytes
    }

    fn record_exhausted(&mut self, turn: &mut Turn<'_>, budget: &Budget) {
        while Self::fits(turn, budget) && !self.is_paused() {
            let Some((number, pos)) = self.exhausted.pop_front() else { return };
            let lease = self.lanes.get(number).and_then(|l| l.leases.get(pos));
            if lease.is_some_and(|l| l.has == Has::Exhausted)
                && let Some(lease) = self.end_lease(turn, number, pos)
            {
                self.finish(turn, number, lease, Cause::Exhausted);
            }
        }
    }

    /// Delayed messages whose time has come are ready.
    fn come_due(&mut self, turn: &mut Turn<'_>) {
        let id = self.id();
        let room = !self.keys.is_full();
        for (number, lane) in self.lanes.range_mut(super::api::DELAY_LANE..) {
            loop {
                while let Some(bytes) = lane.delays.pop_due(turn.now_ms, room) {
                    self.scheduled.sub(bytes);
                    self.ready.add(bytes);
                }
                let before = lane.delays.waiting.len();
                lane.load_delays(turn.rows);
                if before > 0 || lane.delays.waiting.is_empty() {
                    break;
                }
            }
            if let Some(next_ms) = lane.delays.next_ms().filter(|n| *n > turn.now_ms)
                && lane.delays.timer_ms.is_none_or(|t| t > next_ms)
            {
                lane.delays.timer_ms = Some(next_ms);
                turn.timers.at(next_ms, id, Look::Due(*number));
            }
        }
    }

    /// Asks for what windows lack.
    fn read_on(&mut self, turn: &mut Turn<'_>, reads: &mut Vec<ReadWindow>, token: &mut u64) {
        let queue = self.id();
        let out = usize::try_from(self.leased.n).unwrap_or(usize::MAX) / self.lanes.len().max(1);
        for (number, lane) in self.lanes.iter_mut() {
            let Some((from, end, max_entries)) = lane.fill(turn.rows, out) else { continue };
            *token += 1;
            lane.reading = Some(*token);
            reads.push(ReadWindow {
                queue,
                lane: *number,
                log: lane.log,
                from,
                end,
                max_entries,
                token: *token,
            });
        }
        self.read_keys(turn, reads, token);
    }

    pub(super) fn is_expired(&self, number: u16, slot: &Slot, now_ms: u64) -> bool {
        self.policy().expiry_ms(slot.expiry_ms, slot.enqueued_ms) <= now_ms && !self.is_at_once(number, slot)
    }

    /// Whether a message without any time to live may still go to who waits for it: it has just become visible, and nobody had it.
    fn is_at_once(&self, number: u16, slot: &Slot) -> bool {
        (slot.expiry_ms == 0 || self.policy().ttl_ms == Some(0))
            && !slot.seen
            && self.lanes.get(number).is_some_and(|l| !l.is_delayed() && slot.pos >= l.offered)
    }

    /// Whoever waited had his chance of all that is visible.
    fn all_offered(&mut self) {
        self.lanes.values_mut().for_each(|l| l.offered = l.visible);
    }

    /// Drops what is too old at the head of each lane: of all its messages, and of those whose key is open.
    fn expire_heads(&mut self, turn: &mut Turn<'_>, budget: &Budget) {
        let numbers: Vec<u16> = self.lanes.keys().copied().collect();
        for number in numbers {
            while self.expire_head(turn, number, true, budget) {}
            if self.policy().ordering != Ordering::None {
                self.sort_heads(turn.rows);
                while self.expire_head(turn, number, false, budget) {
                    self.sort_heads(turn.rows);
                }
            }
        }
    }

    /// Whether the next message of a lane (`of_all`: whether its key is open or not) was too old and went.
    fn expire_head(&mut self, turn: &mut Turn<'_>, number: u16, of_all: bool, budget: &Budget) -> bool {
        let slot = self.head_of(number, of_all).filter(|s| self.is_expired(number, s, turn.now_ms));
        if slot.is_none() || !self.may_hold() || !Self::fits(turn, budget) {
            return false;
        }
        let Some(slot) = self.pop_from(turn.rows, number, of_all) else { return false };
        self.ready.sub(slot.bytes);
        self.discard(turn, number, slot, Cause::Expired);
        true
    }

    /// The next message of a lane, if it is known and visible.
    fn head_of(&self, number: u16, of_all: bool) -> Option<Slot> {
        let lane = self.lanes.get(number)?;
        if !of_all {
            return lane.peek_visible();
        }
        self.head_of_all(number).filter(|s| s.pos < lane.visible)
    }

    /// The same of all messages, visible or not.
    fn head_of_all(&self, number: u16) -> Option<Slot> {
        match self.first_of_all(number)? {
            First::Is(slot) => Some(slot),
            First::Unread(_) => None,
        }
    }

    /// Whether it is over its limits and something can be done about it now.
    fn can_drop(&self) -> bool {
        self.policy().overflow == super::policy::Overflow::DropHead
            && self.is_over()
            && self.may_hold()
            && self.knows_firsts()
            && self.next_lane_of_all().is_some()
    }

    /// Hands messages to who is ready for them. Whether there is more to do as soon as the budget allows.
    fn hand_out(&mut self, turn: &mut Turn<'_>, taken: &mut Taken, budget: &mut Budget) -> bool {
        let single = self.policy().single_active;
        self.consumers.come_forward(self.leased.n);
        loop {
            if self.leased.n >= LEASES_MAX as u64 || self.is_paused() {
                return false;
            }
            let Some(next) = self.consumers.next_taker(turn.sessions, single) else { return false };
            if let Taker::Waiter(key) = next
                && self.consumers.leases_max(key).is_some_and(|max| self.leased.n >= max as u64)
            {
                self.consumers.rotate();
                self.consumers.stand_back(key);
                continue;
            }
            if !self.consumers.waits(next, turn.now_ms) {
                self.all_offered();
            }
            let Some(from) = self.next_live_lane(turn, budget) else { return false };
            if budget.messages == 0 || !Self::fits(turn, budget) {
                return true;
            }
            self.consumers.rotate();
            match next {
                Taker::Consumer(key) => self.hand_to_consumer(turn, taken, key, from, budget),
                Taker::Waiter(key) => self.hand_to_waiter(turn, taken, key, from, budget),
            }
        }
    }

    /// While `more` would be too much for the queue, hands the next messages to consumers that wait for them, durable or not: they go
    /// out once they are. So a limit counts only what nobody waits for. Not in queues that order by key, where a key may hold up what
    /// is next. Whether all was handed out that somebody waits for; else the budget ran out.
    pub(super) fn hand_out_early(
        &mut self,
        turn: &mut Turn<'_>,
        taken: &mut Taken,
        budget: &mut Budget,
        more: Tally,
    ) -> bool {
        if self.policy().ordering != Ordering::None || self.is_paused() || self.leased.n >= LEASES_MAX as u64
        {
            return true;
        }
        while self.would_be_over(more) && self.knows_firsts() {
            let single = self.policy().single_active;
            let Some(Taker::Consumer(key)) = self.consumers.next_taker(turn.sessions, single) else { break };
            let Some(number) = self.next_lane_of_all() else { break };
            let head = self.head_of_all(number).filter(|s| !self.is_expired(number, s, turn.now_ms));
            if head.is_none() {
                break;
            }
            if !self.may_go_on(turn, budget) {
                return false;
            }
            self.consumers.rotate();
            self.hand_to_consumer(turn, taken, key, From { number, of_all: true }, budget);
        }
        true
    }

    /// Where the next message is, after what is too old before it is gone.
    fn next_live_lane(&mut self, turn: &mut Turn<'_>, budget: &Budget) -> Option<From> {
        loop {
            self.sort_heads(turn.rows);
            let from = self.next_from(turn.now_ms)?;
            let From { number, of_all } = from;
            // A delayed message was chosen for the age of the one beside it: that one must not be too old itself.
            let beside = number.checked_sub(super::api::DELAY_LANE);
            if beside.is_some_and(|n| self.expire_head(turn, n, of_all, budget))
                || self.expire_head(turn, number, of_all, budget)
            {
                continue;
            }
            let slot = self.head_of(number, of_all)?;
            // It cannot be dropped yet: until it can, nothing of the lane goes out.
            return (!self.is_expired(number, &slot, turn.now_ms)).then_some(from);
        }
    }

    /// The lane of the next message; in a fair queue, one of a key that stands back if there is no other.
    fn next_from(&self, now_ms: u64) -> Option<From> {
        if let Some(number) = self.next_lane(now_ms) {
            return Some(From { number, of_all: false });
        }
        let stands_back = self.policy().ordering == Ordering::Fair
            && !self.keys.is_reading()
            && self.lanes.values().all(|l| l.knows_next() && l.peek_visible().is_none());
        if !stands_back {
            return None;
        }
        self.first_lane().map(|number| From { number, of_all: true })
    }

    fn pop_next(&mut self, turn: &Turn<'_>, from: From) -> Option<Slot> {
        let slot = self.pop_from(turn.rows, from.number, from.of_all)?;
        self.ready.sub(slot.bytes);
        Some(slot)
    }

    /// Whether more of a message's key goes with it to who got it.
    fn runs(&self, slot: &Slot, auto_ack: bool) -> Option<u64> {
        slot.key_hash.filter(|_| self.policy().ordering == Ordering::ByKey && !auto_ack)
    }

    fn hand_to_consumer(
        &mut self,
        turn: &mut Turn<'_>,
        taken: &mut Taken,
        key: ConsumerKey,
        from: From,
        budget: &mut Budget,
    ) {
        let Some(opts) = self.consumers.get(key).map(|c| c.opts) else { return };
        let Some(first) = self.pop_next(turn, from) else { return };
        let run = self.runs(&first, opts.auto_ack);
        let how = How { session: key.0, consumer: key.1, lease: opts.lease, auto_ack: opts.auto_ack };
        self.ride(turn, taken, opts.ride);
        let mut next = Some(first);
        while let Some(slot) = next {
            let early = self.lanes.get(from.number).is_some_and(|l| slot.pos >= l.visible);
            let delivery = self.take(turn, from.number, slot, how);
            self.consumers.took(key, !opts.auto_ack);
            let session = turn.sessions.entry(key.0).or_default();
            session.outbox_bytes += u64::from(slot.bytes) + DELIVERY_BYTES;
            session.pool_used += u32::from(!opts.auto_ack);
            session.served = key.1;
            taken.deliveries.push((delivery, Out { waiter: None, ride: opts.ride, early }));
            budget.messages = budget.messages.saturating_sub(1);
            let room = self.consumers.is_ready(key, turn.sessions) && self.may_go_on(turn, budget);
            next = run.filter(|_| room).and_then(|hash| self.pop_of_run(turn, from.number, hash, |_| true));
        }
    }

    /// Whether one more can be handed out with this record.
    fn may_go_on(&self, turn: &Turn<'_>, budget: &Budget) -> bool {
        self.leased.n < LEASES_MAX as u64 && budget.messages > 0 && Self::fits(turn, budget)
    }

    fn hand_to_waiter(
        &mut self,
        turn: &mut Turn<'_>,
        taken: &mut Taken,
        key: WaiterKey,
        first: From,
        budget: &mut Budget,
    ) {
        let Some(what) = self.consumers.stop_waiting(key).map(|w| w.what) else { return };
        if let Some(session) = turn.sessions.get_mut(&key.0) {
            session.waits.remove(&key.1);
        }
        self.used_ms = turn.now_ms;
        let how = How { session: key.0, consumer: ConsumerId(0), lease: what.lease, auto_ack: what.auto_ack };
        let (mut n, mut bytes) = (0, 0_u64);
        let Some(slot) = self.pop_next(turn, first) else { return };
        let mut next = Some((first.number, slot));
        while let Some((number, slot)) = next {
            let delivery = self.take(turn, number, slot, how);
            taken.deliveries.push((delivery, Out { waiter: Some(key), ride: what.ride, early: false }));
            n += 1;
            bytes += u64::from(slot.bytes);
            budget.messages = budget.messages.saturating_sub(1);
            let over = self.leased.n >= what.leases_max as u64;
            if n >= what.max || over || !self.may_go_on(turn, budget) {
                break;
            }
            let fits = |s: &Slot| bytes + u64::from(s.bytes) <= what.bytes_max;
            let run = self.runs(&slot, what.auto_ack);
            let of_run = run.and_then(|hash| self.pop_of_run(turn, number, hash, fits));
            next = if let Some(slot) = of_run {
                Some((number, slot))
            } else {
                let from = self.next_live_lane(turn, budget);
                let from = from.filter(|f| self.head_of(f.number, f.of_all).is_some_and(|s| fits(&s)));
                from.and_then(|f| Some((f.number, self.pop_next(turn, f)?)))
            };
        }
        self.ride(turn, taken, what.ride);
    }

    fn ride(&mut self, turn: &mut Turn<'_>, taken: &mut Taken, ride: bool) {
        if ride && self.riding.is_none() {
            self.riding = Some(Lsn(u64::MAX));
            turn.record.head(self.id(), head::put_riding);
            taken.riding.push(self.id());
        }
    }

    /// A message is handed out: leased, or settled at once.
    fn take(&mut self, turn: &mut Turn<'_>, number: u16, mut slot: Slot, how: How) -> Delivery {
        let queue = self.id();
        let mark_below = self.lanes.get(number).map_or(0, |l| l.mark_below);
        let redelivered = slot.deliveries > 0 || slot.pos < mark_below;
        let bytes = slot.bytes;
        let before = slot;
        // A row knows it of what was handed out before: only of those it is asked.
        let first_ms = (slot.deliveries > 0)
            .then(|| turn.rows.exception(queue, number, slot.pos, self.purge_no))
            .flatten()
            .map_or(0, |e| e.first_ms);
        slot.deliveries = slot.deliveries.saturating_add(1);
        slot.in_due = false;
        self.delivered += 1;
        if how.auto_ack {
            self.acked += 1;
            turn.record.act_on(queue, number, &before, Act::Settle(Cause::Acked, bytes));
        } else {
            let (until_ms, owned, state) = match how.lease {
                LeaseKind::Bound => (u64::MAX, true, State::Bound(turn.epoch)),
                LeaseKind::Timed { lease_ms, owned } => {
                    let lease_ms = lease_ms.unwrap_or(self.policy().lease_ms).min(LEASE_MS_MAX);
                    let until_ms = turn.now_ms.saturating_add(lease_ms);
                    (until_ms, owned, State::Timed(until_ms))
                }
            };
            let known = Known { state, deliveries: slot.deliveries, attempts: slot.attempts };
            turn.record.act_on(queue, number, &before, Act::Lease(known, bytes, self.key_of(&slot)));
            if owned {
                let session = turn.sessions.entry(how.session).or_default();
                session.leases.insert(queue, number, slot.pos);
            }
            self.leased.add(bytes);
            let holder = Some((how.session, how.consumer));
            slot.seen = true;
            self.add_lease(number, Lease { slot, no: 0, has: Has::Consumer, until_ms, holder, owned });
        }
        Delivery {
            session: how.session,
            consumer: how.consumer,
            queue,
            lane: number,
            pos: slot.pos,
            delivery_no: 0,
            deliveries: slot.deliveries,
            attempts: slot.attempts,
            first_ms: if first_ms == 0 { turn.now_ms } else { first_ms },
            redelivered,
            bytes,
            wait: Lsn(0),
        }
    }

    /// Receives whose time is over get nothing, unless a read may still bring something.
    fn answer_overdue(&mut self, turn: &mut Turn<'_>, answers: &mut Vec<crate::op::Answer>) {
        if self.keys.is_reading() || self.lanes.values().any(|l| l.reading.is_some()) {
            return;
        }
        while let Some((session, ticket)) = self.consumers.overdue(turn.now_ms) {
            self.consumers.stop_waiting((session, ticket));
            if let Some(s) = turn.sessions.get_mut(&session) {
                s.waits.remove(&ticket);
            }
            self.used_ms = turn.now_ms;
            let reply = crate::op::Reply::Queue(QueueReply::Received(Ok(Vec::new())));
            answers.push(crate::op::Answer { session, ticket, wait: Lsn(0), reply });
        }
    }

    /// Asks to be woken for what comes next.
    fn set_timers(&mut self, turn: &mut Turn<'_>) {
        let id = self.id();
        let numbers: Vec<u16> = self.lanes.keys().copied().collect();
        for number in &numbers {
            let expiry = |s: Slot| self.policy().expiry_ms(s.expiry_ms, s.enqueued_ms);
            let head = self.head_of(*number, false);
            let first = self.head_of(*number, true);
            let gate = head.map(|s| self.gate_ms(&s)).filter(|at| *at > turn.now_ms).unwrap_or(u64::MAX);
            let at = head.map_or(u64::MAX, expiry).min(first.map_or(u64::MAX, expiry)).min(gate);
            let Some(lane) = self.lanes.get_mut(*number) else { continue };
            let set = lane.head_timer_ms.is_some_and(|t| t <= at);
            // One that is over and still there waits for the mover, which wakes the queue.
            if at != u64::MAX && at > turn.now_ms && !set {
                lane.head_timer_ms = Some(at);
                turn.timers.at(at, id, Look::Head(*number));
            }
        }
        if let Some(at) = self.consumers.deadline()
            && self.deadline_timer_ms.is_none_or(|t| t > at)
        {
            self.deadline_timer_ms = Some(at);
            turn.timers.at(at, id, Look::Deadline);
        }
        self.watch_idle(turn.timers);
    }
}

/// Where a message is taken from.
#[derive(Clone, Copy)]
struct From {
    number: u16,
    /// The first of the lane, though its key stands back.
    of_all: bool,
}

/// How a message is handed out.
#[derive(Clone, Copy)]
struct How {
    session: ConnId,
    consumer: ConsumerId,
    lease: LeaseKind,
    auto_ack: bool,
}
