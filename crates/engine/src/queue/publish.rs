//! Publishing: which queues take a message, where it goes in them, and what has to make room for it.
//!
//! Start at [`Queues::publish`]. All messages of a draft are one record; one body goes into the log once, whatever the number of queues.

use foldhash::{HashSet, HashSetExt};
use millstream_log::Permit;
use millstream_types::{LogId, Lsn, ObjectId};

use super::api::{Cause, DELAY_LANE, Publish, Published, QueueReply, Refusal, Tally, Target};
use super::dispatch::Budget;
use super::lane::{Lane, Slot};
use super::lease::{Has, Lease};
use super::live::{Queue, Turn};
use super::policy::{DELAY_MS_MAX, Ordering, Overflow};
use super::queues::{Cx, Queues};
use super::record::{ACTION_BYTES, Act};
use super::rows::QueueRows;
use super::rows::chunk::{Known, State};
use super::rows::head::payload_bytes;
use crate::attrs::{Attrs, ENVELOPE_VERSION, SingleAttrs};
use crate::ctx::Asker;

/// A message that comes in has at most so many handed out or dropped for it; what is over after that goes in later turns.
const ACTS_PER_PUBLISH: usize = 4;
/// Room in a record for what is handed out or dropped because a message comes in.
pub const PUBLISH_ACTS_BYTES: usize = ACTS_PER_PUBLISH * ACTION_BYTES;

/// A queue that takes a message: when it is due there, the hash of its key, and where it goes.
pub(super) type Place = ((Option<u64>, Option<u64>), (LogId, u64));

/// What a queue did with a message.
enum Taken {
    /// It is appended there. True: the queue refuses it all the same, and it goes to the dead-letter target through it.
    Appended(Place, bool),
    /// Its id came before, with the message that is there.
    Duplicate((LogId, u64)),
}

/// Which queues of a message were named before: few are looked through, many are remembered.
#[derive(Default)]
pub(super) struct Seen {
    many: Option<HashSet<ObjectId>>,
}

impl Seen {
    const FEW: usize = 16;

    pub(super) fn before(&mut self, all: &[Target], index: usize, queue: ObjectId) -> bool {
        if all.len() <= Self::FEW {
            return all.iter().take(index).any(|t| t.queue == queue);
        }
        !self.many.get_or_insert_with(HashSet::new).insert(queue)
    }
}

/// Payload bytes of a message.
pub(super) fn payload_of(message: &Publish) -> u32 {
    let body_len: usize = message.body.iter().map(bytes::Bytes::len).sum();
    payload_bytes(u32::try_from(body_len).unwrap_or(u32::MAX), message.envelope_len)
}

impl Queues {
    pub(super) fn publish(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        messages: &[Publish],
        permit: Option<Permit>,
    ) {
        let mut results = Vec::with_capacity(messages.len());
        let mut places = Vec::new();
        for (body, message) in messages.iter().enumerate() {
            results.push(self.publish_one(cx, message, body, &mut places));
        }
        let mut wait = None;
        if !self.record.is_empty() {
            let permit = crate::engine::writing(permit);
            let bodies = |i: usize| messages.get(i).map_or(&[][..], |m| &m.body);
            let lsn = self.commit(cx, permit, Some(asker.session), bodies).unwrap_or(*cx.last_lsn);
            self.appended(cx, lsn);
            // What only memory has waits for nothing but what this session settled before; a word on what others did waits for them.
            let taken = |r: &Published| r.refused.is_empty() && !r.duplicate;
            if lsn == Lsn::UNRECORDED && results.iter().all(taken) {
                wait = Some(self.barriers.of(asker.session));
            }
        }
        cx.answer(asker, wait.unwrap_or(*cx.last_lsn), QueueReply::Published(results));
    }

    /// What was appended with record `lsn` becomes visible with it, in transient queues at once; what consumers waited for goes to them.
    pub(super) fn appended(&mut self, cx: &mut Cx<'_>, lsn: Lsn) {
        self.hand_over(cx, lsn);
        for shown in self.shown.iter_mut().rev().take_while(|s| s.0 == Lsn(u64::MAX)) {
            shown.0 = lsn;
        }
        let mut at_once = std::mem::take(&mut self.shown_at_once);
        for (id, lane, end) in at_once.drain(..) {
            self.show(id, lane, end);
        }
        self.shown_at_once = at_once;
    }

    /// Decides one message; what it appends goes into the record with body number `body`.
    pub(super) fn publish_one(
        &mut self,
        cx: &Cx<'_>,
        message: &Publish,
        body: usize,
        places: &mut Vec<Place>,
    ) -> Published {
        let mut result = Published::default();
        places.clear();
        let bytes = payload_of(message);
        let mut seen = Seen::default();
        for (i, target) in message.to.iter().enumerate() {
            // A queue named twice takes the message once.
            if seen.before(&message.to, i, target.queue) {
                continue;
            }
            match self.take(cx, message, target, bytes) {
                Ok(Taken::Duplicate(home)) => {
                    result.accepted += 1;
                    result.duplicate = true;
                    result.home.get_or_insert(home);
                }
                Ok(Taken::Appended(place, refused)) => {
                    places.push(place);
                    if refused {
                        result.refused.push((target.queue, Refusal::Full));
                    } else {
                        result.accepted += 1;
                        result.home.get_or_insert(place.1);
                    }
                }
                Err(why) => result.refused.push((target.queue, why)),
            }
        }
        // Those that share attrs share the body; a queue with attrs of its own has the message apart.
        places.sort_unstable();
        for same in places.chunk_by(|a, b| a.0 == b.0) {
            let Some(((due_ms, key_hash), _)) = same.first() else { continue };
            let attrs = Attrs::Single(SingleAttrs {
                transient: message.transient,
                keyed: false,
                priority: message.priority,
                envelope_version: ENVELOPE_VERSION,
                envelope_len: message.envelope_len,
                enqueued_ms: cx.now.wall_ms,
                expiry_ms: message.expiry_ms,
                due_ms: *due_ms,
                key_hash: *key_hash,
                origin: message.origin,
            });
            let to: Vec<(LogId, u64)> = same.iter().map(|p| p.1).collect();
            self.record.append(&to, message.max_ts_ms, |out| attrs.put(out), body);
        }
        result
    }

    /// One queue takes a message, or says why not.
    fn take(
        &mut self,
        cx: &Cx<'_>,
        message: &Publish,
        target: &Target,
        bytes: u32,
    ) -> Result<Taken, Refusal> {
        let rows = &cx.state.queues;
        let now_ms = cx.now.wall_ms;
        let id = target.queue;
        let sizes = self.sizes;
        if let Some(hash) = message.dedup
            && let Some(home) = self.came_before(rows, id, hash, now_ms)?
        {
            return Ok(Taken::Duplicate(home));
        }
        let queue = self.load(rows, id).ok_or(Refusal::Gone)?;
        if queue.is_subscription() {
            return Err(Refusal::Subscription);
        }
        let watched = message.dedup.filter(|_| queue.policy().id_window_ms.is_some());
        let due_ms = queue.due_ms(target, now_ms);
        let key_hash = target.key_hash.or(message.key_hash);
        let mut full = queue.refuses(due_ms, Tally::one(bytes));
        if full {
            self.make_way(rows, id, bytes);
            full = self.live.get(id).ok_or(Refusal::Gone)?.refuses(due_ms, Tally::one(bytes));
        }
        let queue = self.live.get_mut(id).ok_or(Refusal::Gone)?;
        let policy = queue.policy();
        let dead_letters = policy.overflow == Overflow::RejectDeadLetter && policy.dead_letter;
        if full && !dead_letters {
            return Err(Refusal::Full);
        }
        let ordering = policy.ordering;
        let priority = u16::from(message.priority.min(policy.priority_max));
        let number = if due_ms.is_some() { DELAY_LANE + priority } else { priority };
        let purge_no = queue.purge_no;
        let lane = queue.lanes.get_or_insert_with(number, || {
            let lane = super::rows::head::LaneHead::default();
            Lane::of(id, number, purge_no, &lane, sizes, ordering)
        });
        let pos = lane.next;
        lane.next += 1;
        let end = lane.next;
        let slot = Slot {
            pos,
            enqueued_ms: now_ms,
            expiry_ms: message.expiry_ms.unwrap_or(u64::MAX),
            key_hash,
            due_ms: due_ms.unwrap_or(0),
            bytes,
            deliveries: 0,
            attempts: 0,
            known: true,
            in_due: due_ms.is_some(),
            ..Slot::default()
        };
        if full {
            lane.skip(pos);
            let known = Known { state: State::Held(Cause::Length as u8), deliveries: 0, attempts: 0 };
            let has = Has::Mover(Cause::Length);
            lane.leases.insert(&Lease { slot, no: 0, has, until_ms: u64::MAX, holder: None, owned: false });
            queue.held.add(bytes);
            queue.work.push_back((number, pos));
            let key_hash = queue.key_of(&slot);
            self.record.act(id, number, pos, Act::Lease(known, bytes, key_hash));
            self.mark_runnable(id);
        } else if let Some(due_ms) = due_ms {
            queue.scheduled.add(bytes);
            lane.schedule(slot);
            if lane.delays.timer_ms.is_none_or(|t| t > due_ms) {
                lane.delays.timer_ms = Some(due_ms);
                self.timers.at(due_ms, id, super::timers::Look::Due(number));
            }
        } else {
            lane.push(slot);
            queue.ready.add(bytes);
            self.make_room(rows, id);
        }
        if let Some(hash) = watched.filter(|_| !full) {
            self.ids.note(id, hash, number, pos);
        }
        if id.is_transient() {
            self.shown_at_once.push((id, number, end));
        } else {
            self.shown.push_back((Lsn(u64::MAX), id, number, end));
        }
        Ok(Taken::Appended(((due_ms, key_hash), (LogId::new(id, number), pos)), full))
    }

    /// Where the message is that had this id before, if the queue looks for it. Refused if that would not be known of this one later.
    fn came_before(
        &mut self,
        rows: &QueueRows,
        id: ObjectId,
        hash: u128,
        now_ms: u64,
    ) -> Result<Option<(LogId, u64)>, Refusal> {
        let queue = self.load(rows, id).ok_or(Refusal::Gone)?;
        let Some(window_ms) = queue.policy().id_window_ms else { return Ok(None) };
        match self.ids.find(rows, id, hash, window_ms, now_ms) {
            None if self.ids.is_full(0) => Err(Refusal::DedupFull),
            known => Ok(known),
        }
    }

    /// A message is too much for a queue that refuses: what consumers wait for goes to them first.
    fn make_way(&mut self, rows: &QueueRows, id: ObjectId, bytes: u32) {
        let mut budget = Budget::of(ACTS_PER_PUBLISH);
        self.hand_out_of(rows, id, &mut budget, Tally::one(bytes), |_, _, _| {});
        if budget.messages() < ACTS_PER_PUBLISH {
            self.mark_runnable(id);
        }
    }

    /// Hands what is over the queue's limits to who waits for it, and drops the rest: in delivery order, a few at a time.
    fn make_room(&mut self, rows: &QueueRows, id: ObjectId) {
        if !self.live.get(id).is_some_and(Queue::is_over) {
            return;
        }
        let mut budget = Budget::of(ACTS_PER_PUBLISH);
        self.hand_out_of(rows, id, &mut budget, Tally::default(), |queue, turn, left| {
            queue.drop_heads(turn, left);
        });
        // Another message is the next now: its expiry has to be looked at.
        self.mark_runnable(id);
    }

    /// Hands out early; what is left of the budget is `then`'s if nobody waits any more.
    fn hand_out_of(
        &mut self,
        rows: &QueueRows,
        id: ObjectId,
        budget: &mut Budget,
        more: Tally,
        then: impl FnOnce(&mut Queue, &mut Turn<'_>, usize),
    ) {
        let mut taken = std::mem::take(&mut self.taken);
        let (mut turn, live) = self.turn(rows);
        if let Some(queue) = live.get_mut(id)
            && queue.hand_out_early(&mut turn, &mut taken, budget, more)
        {
            then(queue, &mut turn, budget.messages());
        }
        self.taken = taken;
    }
}

impl Queue {
    /// From when on a message may be delivered, if it is not at once.
    pub(super) fn due_ms(&self, target: &Target, now_ms: u64) -> Option<u64> {
        // A queue that orders by key delays its messages in their places.
        let (delay_ms, ordering) = (self.policy().delay_ms, self.policy().ordering);
        let own_delay =
            (delay_ms > 0 && ordering != Ordering::ByKey).then(|| now_ms.saturating_add(delay_ms));
        let due_ms = target.due_ms.or(own_delay).filter(|due| *due > now_ms);
        due_ms.map(|due| due.min(now_ms.saturating_add(DELAY_MS_MAX)))
    }

    /// Whether so much more is too much for a queue that does not drop others for it. What is delayed is never too much.
    pub(super) fn refuses(&self, due_ms: Option<u64>, more: Tally) -> bool {
        due_ms.is_none() && self.policy().overflow != Overflow::DropHead && self.would_be_over(more)
    }

    /// Drops the next messages in delivery order, visible or not, while the queue is over its limits: at most `max`. How many.
    pub(super) fn drop_heads(&mut self, turn: &mut Turn<'_>, max: usize) -> usize {
        // What is too old goes first, and does not count: so every lane's next message has to be known.
        if !self.knows_firsts() {
            return 0;
        }
        let mut n = 0;
        while n < max && self.policy().overflow == Overflow::DropHead && self.is_over() && self.may_hold() {
            let Some(number) = self.next_lane_of_all() else { break };
            let Some(slot) = self.pop_from(turn.rows, number, true) else { break };
            self.ready.sub(slot.bytes);
            self.discard(turn, number, slot, Cause::Length);
            n += 1;
        }
        n
    }
}
