//! Who takes messages of a queue: consumers, and receives that wait. And what a session has of all queues.
//!
//! Start at [`Consumers`]. A consumer stands in its priority's ring while it is ready; one that is found not to be falls out, and what
//! makes it ready again puts it at the end. So dispatch never steps over many that are not.

use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use millstream_types::{ConnId, ObjectId};

use super::api::{ConsumerId, ConsumerOpts, Receive};
use super::blocks::{BLOCK, split};
use crate::op::Ticket;

/// Names a consumer of a queue.
pub(crate) type ConsumerKey = (ConnId, ConsumerId);
/// Names a receive that waits.
pub(crate) type WaiterKey = (ConnId, Ticket);

/// Someone in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taker {
    Consumer(ConsumerKey),
    Waiter(WaiterKey),
}

/// A consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) opts: ConsumerOpts,
    /// Explicit credit left.
    pub(crate) credit: Option<u64>,
    /// Leases it has.
    pub(crate) leased: u32,
    pub(crate) flow: bool,
    /// It gets nothing more; it stays until its leases end.
    pub(crate) cancelled: bool,
    in_ring: bool,
}

/// A receive that waits for its first message.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) what: Receive,
    /// Wall-clock milliseconds; then it is answered with nothing.
    pub(crate) deadline_ms: u64,
    /// Since when it stands back for the number of leases that are out, as a number that counts up; 0 = it does not.
    pub(crate) back: u64,
}

/// Everyone who takes messages of one queue.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    by_key: BTreeMap<ConsumerKey, Consumer>,
    waiters: BTreeMap<WaiterKey, Waiter>,
    deadlines: BTreeSet<(u64, ConnId, Ticket)>,
    /// Receives that stand back until leases end, in the order in which they were to be served.
    back: BTreeSet<(u64, ConnId, Ticket)>,
    rings: BTreeMap<Reverse<i32>, VecDeque<Taker>>,
    /// In the order in which they came, per priority: for the single active one.
    queue_up: BTreeSet<(Reverse<i32>, u64, ConnId, ConsumerId)>,
    came: u64,
    /// The single active consumer.
    pub(crate) active: Option<ConsumerKey>,
    /// Not cancelled.
    live: usize,
}

/// What a session has: its consumers and leases over all queues.
#[derive(Debug, Default)]
pub(crate) struct SessionState {
    pub(crate) consumers: BTreeMap<ConsumerId, ObjectId>,
    pub(crate) waits: BTreeMap<Ticket, ObjectId>,
    /// Owned leases.
    pub(crate) leases: Owned,
    /// Leases that count for the pool.
    pub(crate) pool_used: u32,
    /// Most of them; 0 = no limit.
    pub(crate) pool_max: u32,
    pub(crate) stopped: bool,
    /// The consumer that was served last.
    pub(crate) served: ConsumerId,
    /// Bytes delivered and not taken over.
    pub(crate) outbox_bytes: u64,
}

/// Leases that a session owns, a bit each: it may have millions, and as a rule many of them are neighbours.
#[derive(Debug, Default)]
pub(crate) struct Owned {
    /// By queue, lane and block of positions.
    blocks: BTreeMap<(ObjectId, u16, u64), u64>,
}

impl Owned {
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }
    pub(crate) fn insert(&mut self, queue: ObjectId, lane: u16, pos: u64) {
        let (block, at) = split(pos);
        *self.blocks.entry((queue, lane, block)).or_default() |= 1 << at;
    }
    pub(crate) fn remove(&mut self, queue: ObjectId, lane: u16, pos: u64) {
        let (block, at) = split(pos);
        if let Entry::Occupied(mut bits) = self.blocks.entry((queue, lane, block)) {
            *bits.get_mut() &= !(1 << at);
            if *bits.get() == 0 {
                bits.remove();
            }
        }
    }
    /// Takes some neighbours, in the order of queues, lanes and positions.
    pub(crate) fn pop(&mut self) -> Option<(ObjectId, u16, impl Iterator<Item = u64> + use<>)> {
        let ((queue, lane, block), bits) = self.blocks.pop_first()?;
        let places = (0..BLOCK).filter(move |at| bits & (1 << at) != 0);
        Some((queue, lane, places.map(move |at| block * BLOCK + at)))
    }
}

impl SessionState {
    pub(crate) fn has_room(&self) -> bool {
        !self.stopped
            && (self.pool_max == 0 || self.pool_used < self.pool_max)
            && self.outbox_bytes < super::api::OUTBOX_BYTES_MAX
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.consumers.is_empty()
            && self.waits.is_empty()
            && self.leases.is_empty()
            && self.pool_used == 0
            && self.pool_max == 0
            && !self.stopped
            && self.outbox_bytes == 0
    }
}

/// All sessions that have something to do with queues.
pub(crate) type Sessions = BTreeMap<ConnId, SessionState>;

impl Consumer {
    fn ready(&self) -> bool {
        !self.cancelled
            && self.flow
            && (self.opts.prefetch == 0 || self.leased < self.opts.prefetch)
            && self.credit != Some(0)
    }
}

impl Consumers {
    /// Consumers that are not cancelled.
    pub(crate) fn count(&self) -> usize {
        self.live
    }

    /// Whether nobody takes messages, and nobody who did is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.waiters.is_empty()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiters.len()
    }

    pub(crate) fn get(&self, key: ConsumerKey) -> Option<&Consumer> {
        self.by_key.get(&key)
    }

    /// Whether a consumer may get one more.
    pub(crate) fn is_ready(&self, key: ConsumerKey, sessions: &Sessions) -> bool {
        let room = sessions.get(&key.0).is_none_or(SessionState::has_room);
        room && self.by_key.get(&key).is_some_and(Consumer::ready)
    }

    pub(crate) fn has_exclusive(&self) -> bool {
        self.by_key.values().any(|c| !c.cancelled && c.opts.exclusive)
    }

    pub(crate) fn add(&mut self, key: ConsumerKey, opts: ConsumerOpts, single_active: bool) {
        let credit = opts.credit;
        // Leases of a consumer of the same name that was cancelled go on counting for the session only.
        let consumer = Consumer { opts, credit, leased: 0, flow: true, cancelled: false, in_ring: false };
        if self.active == Some(key) {
            self.active = None;
        }
        self.by_key.insert(key, consumer);
        self.live += 1;
        self.came += 1;
        self.queue_up.insert((Reverse(opts.priority), self.came, key.0, key.1));
        self.elect(single_active);
        self.wake(key, single_active);
    }

    /// It gets nothing more. Whether it was there.
    pub(crate) fn cancel(&mut self, key: ConsumerKey, single_active: bool) -> bool {
        let Some(c) = self.by_key.get_mut(&key).filter(|c| !c.cancelled) else { return false };
        c.cancelled = true;
        self.live -= 1;
        self.queue_up.retain(|q| (q.2, q.3) != key);
        self.forget_if_done(key, single_active);
        true
    }

    fn forget_if_done(&mut self, key: ConsumerKey, single_active: bool) {
        if self.by_key.get(&key).is_some_and(|c| c.cancelled && c.leased == 0) {
            self.by_key.remove(&key);
            if self.active == Some(key) {
                self.active = None;
                self.elect(single_active);
            }
        }
    }

    /// Chooses the single active consumer, if there is none: the oldest of the highest priority.
    fn elect(&mut self, single_active: bool) {
        if !single_active || self.active.is_some() {
            return;
        }
        self.active = self.queue_up.first().map(|q| (q.2, q.3));
        if let Some(key) = self.active {
            self.wake(key, single_active);
        }
    }

    /// The policy may have changed.
    pub(crate) fn policy(&mut self, single_active: bool) {
        if single_active {
            self.elect(true);
        } else {
            self.active = None;
            let all: Vec<ConsumerKey> = self.by_key.keys().copied().collect();
            for key in all {
                self.wake(key, false);
            }
        }
    }

    /// Changes a consumer; it may be ready now.
    pub(crate) fn change(&mut self, key: ConsumerKey, single_active: bool, f: impl FnOnce(&mut Consumer)) {
        if let Some(c) = self.by_key.get_mut(&key) {
            f(c);
            self.wake(key, single_active);
        }
    }

    /// Puts a consumer into its ring if it is ready.
    pub(crate) fn wake(&mut self, key: ConsumerKey, single_active: bool) {
        if single_active && self.active != Some(key) {
            return;
        }
        if let Some(c) = self.by_key.get_mut(&key)
            && c.ready()
            && !c.in_ring
        {
            c.in_ring = true;
            self.rings.entry(Reverse(c.opts.priority)).or_default().push_back(Taker::Consumer(key));
        }
    }

    /// A lease of it began.
    pub(crate) fn took(&mut self, key: ConsumerKey, leased: bool) {
        if let Some(c) = self.by_key.get_mut(&key) {
            c.leased += u32::from(leased);
            c.credit = c.credit.map(|n| n.saturating_sub(1));
        }
    }

    /// A lease of it ended. With `in_turn` its session's pool was full: all consumers of the session are woken then, each in its turn.
    pub(crate) fn gave(&mut self, key: ConsumerKey, single_active: bool, in_turn: bool) {
        if let Some(c) = self.by_key.get_mut(&key) {
            c.leased = c.leased.saturating_sub(1);
            if !in_turn {
                self.wake(key, single_active);
            }
            self.forget_if_done(key, single_active);
        }
    }

    pub(crate) fn wait(&mut self, key: WaiterKey, waiter: Waiter) {
        self.deadlines.insert((waiter.deadline_ms, key.0, key.1));
        self.waiters.insert(key, waiter);
        self.rings.entry(Reverse(0)).or_default().push_back(Taker::Waiter(key));
    }

    pub(crate) fn stop_waiting(&mut self, key: WaiterKey) -> Option<Waiter> {
        let waiter = self.waiters.remove(&key)?;
        self.deadlines.remove(&(waiter.deadline_ms, key.0, key.1));
        if waiter.back > 0 {
            self.back.remove(&(waiter.back, key.0, key.1));
        }
        Some(waiter)
    }

    /// Of a receive that waits, at how many leases of the queue it gets nothing.
    pub(crate) fn leases_max(&self, key: WaiterKey) -> Option<usize> {
        self.waiters.get(&key).map(|w| w.what.leases_max)
    }

    /// A receive that was to be served stands back until leases end.
    pub(crate) fn stand_back(&mut self, key: WaiterKey) {
        if let Some(waiter) = self.waiters.get_mut(&key) {
            self.came += 1;
            waiter.back = self.came;
            self.back.insert((self.came, key.0, key.1));
        }
    }

    /// So many leases are out: of the receives that stand back, as many as there is room for take their turn again.
    pub(crate) fn come_forward(&mut self, leases: u64) {
        let mut room = None;
        while let Some(&(at, session, ticket)) = self.back.first() {
            let key = (session, ticket);
            let max = self.leases_max(key).unwrap_or(0) as u64;
            let left = room.unwrap_or_else(|| max.saturating_sub(leases));
            if left == 0 {
                return;
            }
            room = Some(left - 1);
            self.back.remove(&(at, session, ticket));
            if let Some(waiter) = self.waiters.get_mut(&key) {
                waiter.back = 0;
                self.rings.entry(Reverse(0)).or_default().push_back(Taker::Waiter(key));
            }
        }
    }

    /// A receive whose time is over.
    pub(crate) fn overdue(&self, now_ms: u64) -> Option<WaiterKey> {
        let (at, session, ticket) = *self.deadlines.first()?;
        (at <= now_ms).then_some((session, ticket))
    }

    /// The next deadline of a receive.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|d| d.0)
    }

    /// All receives that wait, in order.
    pub(crate) fn all_waiters(&self) -> Vec<WaiterKey> {
        self.waiters.keys().copied().collect()
    }

    /// All consumers.
    pub(crate) fn all(&self) -> Vec<ConsumerKey> {
        self.by_key.keys().copied().collect()
    }

    /// Who is served next. What is not ready falls out on the way.
    pub(crate) fn next_taker(&mut self, sessions: &Sessions, single_active: bool) -> Option<Taker> {
        while let Some(mut ring) = self.rings.first_entry() {
            while let Some(taker) = ring.get().front().copied() {
                let ready = match taker {
                    Taker::Waiter(key) => self.waiters.contains_key(&key),
                    Taker::Consumer(key) => self.by_key.get_mut(&key).is_some_and(|c| {
                        let room = sessions.get(&key.0).is_none_or(SessionState::has_room);
                        let active = !single_active || self.active == Some(key);
                        let ready = c.ready() && room && active;
                        c.in_ring = ready;
                        ready
                    }),
                };
                if ready {
                    return Some(taker);
                }
                ring.get_mut().pop_front();
            }
            ring.remove();
        }
        None
    }

    /// Whether somebody was there before what comes now: a receive that does not wait was not, and asks for what is left.
    pub(crate) fn waits(&self, taker: Taker, now_ms: u64) -> bool {
        let Taker::Waiter(key) = taker else { return true };
        self.live > 0 || self.waiters.get(&key).is_some_and(|w| w.deadline_ms > now_ms)
    }

    /// The one that is served next goes to the end of its ring; a receive goes for good.
    pub(crate) fn rotate(&mut self) {
        if let Some(mut ring) = self.rings.first_entry()
            && let Some(taker) = ring.get_mut().pop_front()
            && matches!(taker, Taker::Consumer(_))
        {
            ring.get_mut().push_back(taker);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_session_owns_what_a_set_says(steps in vec((1..3_u64, 0..2_u16, 0..200_u64, any::<bool>()), 0..200)) {
            let (mut owned, mut set) = (Owned::default(), BTreeSet::new());
            for (queue, lane, pos, put) in steps {
                let queue = ObjectId(queue);
                if put {
                    owned.insert(queue, lane, pos);
                    set.insert((queue, lane, pos));
                } else {
                    owned.remove(queue, lane, pos);
                    set.remove(&(queue, lane, pos));
                }
                prop_assert_eq!(owned.is_empty(), set.is_empty());
            }
            let popped = std::iter::from_fn(|| owned.pop());
            let popped: Vec<_> = popped.flat_map(|(queue, lane, all)| all.map(move |pos| (queue, lane, pos))).collect();
            prop_assert!(popped.into_iter().eq(set));
        }
    }
}
