//! What histories hold against the model: deliveries of a turn, what is left after it, what a crash leaves.

use std::collections::BTreeMap;

use millstream_engine::attrs::{self, Attrs};
use millstream_engine::op::Reply;
use millstream_engine::queue::api::*;
use millstream_engine::queue::rows::QueueRows;
use millstream_engine::queue::rows::chunk::State;
use millstream_engine::queue::rows::head::HeadKey;
use millstream_log::EntryHead;
use millstream_types::{Lsn, ObjectId};

use super::{Run, seeded};
use crate::model::*;
use crate::support::{FakeStore, Logged, open};

impl Run {
    /// Ticks until nothing is left to do, and holds what was delivered against the model.
    pub(super) fn rest(&mut self) {
        let (now, durable, before) = (self.now(), self.world.durable.0, self.lsn());
        self.world.tick();
        let handed = self.handed();
        let pushed = std::mem::take(&mut self.world.deliveries);
        for q in &mut self.model.queues {
            q.timers(now);
            q.serve(now, durable, &handed);
        }
        for a in std::mem::take(&mut self.world.answers) {
            let Reply::Queue(QueueReply::Received(Ok(all))) = a.reply else { panic!("{:?}", a.reply) };
            let found = self.model.queues.iter().enumerate().find_map(|(q, x)| {
                Some((q, x.waits.iter().position(|w| (w.session, w.ticket) == (a.session.0, a.ticket.0))?))
            });
            let (q, w) = found.expect("a receive that waits");
            let wait = self.model.queues[q].waits.remove(w);
            assert!(!all.is_empty() || wait.deadline <= now, "{wait:?}");
            assert!(all.len() <= wait.what.max as usize);
            let bytes: u64 = all.iter().map(|d| u64::from(d.bytes)).sum();
            assert!(all.len() <= 1 || bytes <= wait.what.bytes_max);
            assert!(all.iter().all(|d| d.session == a.session && d.consumer == ConsumerId(0)));
            if !wait.what.ride && !all.is_empty() && !wait.what.queue.is_transient() {
                assert!(a.wait.0 > before, "answered before its leases are durable");
            }
            let how = (wait.what.lease, wait.what.ride, wait.what.auto_ack);
            for d in all {
                self.delivered(d, how);
            }
        }
        self.pushed(pushed);
        self.check_keys(now, durable);
        self.check_order(now, durable);
        self.learn_numbers();
        self.check_rest(now, durable);
        self.end_op();
    }

    /// What consumers were given, and the model does not know of yet.
    pub(super) fn handed(&self) -> Handed {
        self.world.deliveries.iter().map(|d| (d.queue, d.lane, d.pos)).collect()
    }

    /// What was handed out within an operation, for a limit: all of it.
    pub(super) fn handed_out(&mut self) {
        let pushed = std::mem::take(&mut self.world.deliveries);
        *self.stats.entry("handed out early").or_default() += pushed.len() as u64;
        self.pushed(pushed);
        let mut all = self.model.queues.iter().flat_map(|q| &q.msgs);
        let just = |m: &Msg| m.lsn != u64::MAX && m.lsn & JUST != 0;
        assert!(!all.any(just), "handed out early though no limit asks for it");
    }

    fn pushed(&mut self, pushed: Vec<Delivery>) {
        let mut active = BTreeMap::new();
        for d in pushed {
            let who = (d.session, d.consumer);
            let single = self.model.q(d.queue).is_some_and(|q| self.model.queues[q].policy.single_active);
            assert!(!single || *active.entry(d.queue).or_insert(who) == who, "two consumers are active");
            let q = self.model.q(d.queue).unwrap();
            let con = self.model.queues[q].cons.iter();
            let con = con.clone().find(|c| (c.session, c.id) == (d.session.0, d.consumer.0));
            let con = con.expect("a consumer that is there").clone();
            assert!(con.flow && !con.cancelled, "{con:?}");
            self.delivered(d, (con.opts.lease, con.opts.ride, con.opts.auto_ack));
        }
        assert!(self.model.queues.iter().all(|q| q.msgs.iter().all(|m| m.is != St::Early)));
    }

    /// Delivery numbers of what goes to the mover are read from the engine's word.
    pub(super) fn learn_numbers(&mut self) {
        self.adopt();
        let now = self.now();
        for w in std::mem::take(&mut self.world.moves) {
            let i = self.model.q(w.queue).unwrap();
            let mut msgs = self.model.queues[i].msgs.iter_mut();
            let m = msgs.find(|m| (m.lane, m.pos) == (w.lane, w.pos)).unwrap();
            // A queue whose next message is still to be read drops later than the model, perhaps when the message is too old as well.
            if m.is == St::Held(Cause::Length) && w.cause == Cause::Expired && m.expiry <= now {
                m.is = St::Held(Cause::Expired);
            }
            assert!(matches!(m.is, St::Held(c) if c == w.cause), "{m:?} {w:?}");
            assert_eq!((m.deliveries, m.attempts), (w.deliveries, w.attempts), "{m:?}");
            self.count("work for the mover");
            self.moves.push(w);
        }
    }

    pub(super) fn expiry_ms(&mut self) -> Option<u64> {
        match self.dice.below(16) {
            0 => Some(0),
            1..4 => Some(self.now() + self.dice.below(500)),
            _ => None,
        }
    }

    /// Notes a delivery; its place in the order is looked at when all of the turn are known.
    fn delivered(&mut self, d: Delivery, how: (LeaseKind, bool, bool)) {
        let before = self.lsn();
        let (now, durable) = (self.now(), self.world.durable.0);
        let q = self.model.q(d.queue).unwrap();
        let q = &mut self.model.queues[q];
        let at = q.msgs.iter().position(|m| (m.lane, m.pos) == (d.lane, d.pos)).expect("a message");
        let m = &mut q.msgs[at];
        let early = m.is == St::Early;
        assert!(early || m.is == St::Ready, "delivered though it is not ready: {m:?}");
        assert!(!m.waits_for_due, "delivered before its time: {m:?}");
        let in_log = if d.queue.is_transient() { 0 } else { m.lsn.min(before) };
        assert!(m.visible(durable) || early && d.wait.0 >= in_log, "delivered before it is durable: {m:?}");
        let (m, in_time) = (&q.msgs[at], !q.is_expired(&q.msgs[at], now));
        assert!(in_time || q.is_at_once(m), "delivered after its time: {m:?}");
        let m = &mut q.msgs[at];
        assert_eq!(d.redelivered, m.deliveries > 0 || m.marked, "{m:?}");
        m.deliveries += 1;
        assert_eq!((d.deliveries, d.attempts, d.bytes), (m.deliveries, m.attempts, m.bytes));
        let (lease, ride, auto_ack) = how;
        q.riding |= ride;
        if auto_ack {
            m.is = St::Gone;
        } else {
            assert!(d.delivery_no > m.no, "a delivery number given twice: {m:?}");
            m.no = d.delivery_no;
            let (until, owned) = match lease {
                LeaseKind::Bound => (u64::MAX, true),
                LeaseKind::Timed { lease_ms, owned } => (now + lease_ms.unwrap_or(q.policy.lease_ms), owned),
            };
            m.is = St::Leased { until, session: d.session.0, consumer: d.consumer.0, owned };
        }
        m.record();
        // Looked at by `check_order`; what went early was the next already.
        m.lsn |= if early { 0 } else { JUST };
        assert!(d.wait.0 <= before);
        let key = (d.session.0, d.consumer.0);
        if let Some(c) = q.cons.iter_mut().find(|c| (c.session, c.id) == key) {
            if let Some(n) = &mut c.credit {
                assert!(*n > 0, "delivered without credit");
                *n -= 1;
            }
            let (prefetch, n) = (c.opts.prefetch as usize, q.leases_of(key.0, key.1));
            assert!(auto_ack || prefetch == 0 || n <= prefetch, "{n} leases of {prefetch}");
        }
        self.count("delivered");
    }

    /// What was handed out in a turn are the first in order, and each consumer got its own in that order.
    fn check_order(&mut self, now: u64, durable: u64) {
        for q in &mut self.model.queues {
            let just = |m: &Msg| m.lsn & JUST != 0;
            let n = q.msgs.iter().filter(|m| just(m)).count();
            if n > 0 && !q.is_ordered() {
                // As it was before: those handed out are ready again.
                let mut old = q.clone();
                for m in &mut old.msgs {
                    if just(m) {
                        (m.is, m.deliveries, m.touched, m.offered) = (St::Ready, 0, false, false);
                        m.lsn &= !JUST;
                    }
                }
                for _ in 0..n {
                    old.expire(now, durable);
                    let mut i = old.next(Some(durable)).expect("a message that may go out");
                    // What has no time may have come in behind what had to be read first.
                    while old.is_at_once(&old.msgs[i]) && !just(&q.msgs[i]) {
                        old.msgs[i].offered = true;
                        old.expire(now, durable);
                        i = old.next(Some(durable)).expect("a message that may go out");
                    }
                    assert!(just(&q.msgs[i]), "passed over: {:?} by one of\n{}", old.msgs[i], q.tell(now));
                    old.msgs[i].is = St::Gone;
                }
            }
            q.msgs.iter_mut().for_each(|m| m.lsn &= !JUST);
            q.msgs.iter_mut().for_each(|m| m.offered |= m.visible(durable));
            q.expire(now, durable);
        }
    }

    /// Nothing that could be done is left, and the counts are right.
    fn check_rest(&mut self, now: u64, durable: u64) {
        for i in 0..self.model.queues.len() {
            let q = &self.model.queues[i];
            let stats = q.counts();
            let id = q.id;
            let told = q.tell(now);
            // How often is counted since the queue was loaded: histories load them again.
            let told_by_engine = QueueStats { delivered: 0, acked: 0, ..self.world.stats(id) };
            assert_eq!(told_by_engine, stats, "{told}");
            let q = &self.model.queues[i];
            if q.is_ordered() {
                q.check_limits(now, durable);
            }
            let has_next =
                if q.is_ordered() { q.has_open(now, durable) } else { q.next(Some(durable)).is_some() };
            if q.policy.single_active {
                // Whose turn it is, is not predicted; that somebody has it is, once nobody else has leases.
                let others = |m: &Msg| {
                    let its = |c: &Con, s, id| (c.session, c.id) == (s, id);
                    matches!(m.is, St::Leased { session, consumer, .. } if !q.cons.iter().any(|c| its(c, session, consumer)))
                };
                let alone = q.cons.len() == 1 && !q.msgs.iter().any(others) && has_next;
                for c in q.cons.iter().filter(|c| alone && c.flow && !c.cancelled) {
                    let full =
                        c.opts.prefetch > 0 && q.leases_of(c.session, c.id) >= c.opts.prefetch as usize;
                    assert!(
                        full || c.credit == Some(0),
                        "{c:?} waits though there is a message\n{}",
                        q.tell(now)
                    );
                }
            } else if has_next {
                assert!(q.waits.is_empty(), "a receive waits though there is a message");
                for c in q.cons.iter().filter(|c| c.flow && !c.cancelled) {
                    let full =
                        c.opts.prefetch > 0 && q.leases_of(c.session, c.id) >= c.opts.prefetch as usize;
                    assert!(
                        full || c.credit == Some(0),
                        "{c:?} waits though there is a message\n{}",
                        q.tell(now)
                    );
                }
            } else {
                assert!(q.waits.iter().all(|w| w.deadline > now), "a receive waits for too long");
            }
        }
    }

    pub(super) fn crash(&mut self) {
        // Any prefix that holds what is durable.
        let durable = self.world.durable.0;
        let lsn = durable + self.dice.below(self.lsn() - durable + 1);
        let after = self.kept.partition_point(|k| k.0 < lsn);
        let whole = self.kept[after].0 == lsn;
        // Within a turn: the messages are those after it, and what was recorded of them is what the rows say.
        let mut model = self.kept[after].1.clone();
        model.queues.retain(|q| !q.id.is_transient());
        let rows = self.rows_at(lsn);
        for q in &mut model.queues {
            q.riding = rows.heads.get(&HeadKey(q.id)).is_some_and(|h| h.riding);
            for m in &mut q.msgs {
                let found = recorded(&rows, q.id, m);
                let same = (m.recorded, m.touched) == found || matches!(m.recorded.0, St::Held(_));
                assert!(!whole || same, "recorded is {found:?} of {m:?}");
                (m.recorded, m.touched) = found;
            }
        }
        self.rows = rows;
        self.rows_to = lsn;
        self.kept.truncate(after);
        self.kept.push((lsn, model.clone()));
        self.count(if whole { "crashes between turns" } else { "crashes within a turn" });
        self.world.durable = Lsn(lsn);
        self.world.store.commit(Lsn(lsn), self.dice.below(3) as usize);
        let floor = 1 + self.dice.below(self.world.store.floor);
        self.jump();
        self.world.crash(floor);
        // Rows and the records since are as good as all records.
        let again = |store: &FakeStore, floor| {
            let w = &self.world;
            store.clone().all(open(w.cfg, store, &w.log, floor, w.epoch, w.now), Lsn(lsn))
        };
        assert_eq!(again(&self.world.store, floor), again(&seeded(), 1));
        self.model = model;
        self.opened(false);
        self.count("crashes");
    }

    /// Rows as the records up to `lsn` make them.
    fn rows_at(&self, lsn: u64) -> QueueRows {
        let mut rows = QueueRows::load(&seeded().reader()).unwrap();
        for (n, record) in (1..=lsn).zip(&self.world.log.records) {
            apply(&mut rows, n, record);
        }
        rows
    }

    pub(super) fn stop(&mut self) {
        self.world.flush();
        self.jump();
        self.world.restart_cleanly();
        // What was not recorded is not known after a stop either.
        self.opened(true);
        self.count("stops");
    }
}

/// Applies one record to rows.
pub(super) fn apply(rows: &mut QueueRows, n: u64, record: &[Logged]) {
    for op in record {
        match op {
            Logged::Effect { object, bytes } if matches!(object[0], 0x05 | 0x30..=0x32) => {
                rows.apply_effect(Lsn(n), object, bytes).unwrap();
            }
            Logged::Append { log, pos, count, max_ts_ms, attrs: bytes, body } => {
                let Ok(Attrs::Single(a)) = attrs::decode(bytes) else { panic!() };
                let (log, pos, count, max_ts_ms) = (*log, *pos, *count, *max_ts_ms);
                let body_len = body.len() as u32;
                let head = EntryHead { log, pos, count, max_ts_ms, attrs: bytes, body_len };
                rows.append(Lsn(n), &head, &a);
            }
            Logged::Delete { log } => rows.delete(Lsn(n), *log),
            _ => {}
        }
    }
    rows.record_end(Lsn(n));
}

/// What rows say of a message: as `Msg::recorded` and `Msg::touched`.
pub(super) fn recorded(rows: &QueueRows, queue: ObjectId, m: &Msg) -> ((St, u16, u16, u32), bool) {
    let head = rows.heads.get(&HeadKey(queue)).cloned().unwrap_or_default();
    let lane = head.lanes.get(m.lane).copied().unwrap_or_default();
    let chunk = rows.chunk(queue, m.lane, m.pos, head.purge_no);
    let e = chunk.and_then(|c| c.exception((m.pos % 4_096) as u16));
    let settled = chunk.is_some_and(|c| c.settled.has((m.pos % 4_096) as u16));
    if settled || m.pos < lane.floor || m.pos < lane.purged_to && e.is_none() {
        return ((St::Gone, m.recorded.1, m.recorded.2, m.recorded.3), true);
    }
    let Some(e) = e else { return ((St::Ready, 0, 0, 0), false) };
    let is = match (e.state, m.recorded.0) {
        (State::Ready, _) => St::Ready,
        (State::Resting(until), _) => St::Rest(until),
        (State::Held(cause), _) => St::Held(Cause::of(cause)),
        (State::Parked(_), _) => St::Parked,
        // Whose it is, is not recorded.
        (State::Timed(until), St::Leased { until: u, .. }) if u == until => m.recorded.0,
        (State::Bound(_), St::Leased { until: u64::MAX, .. }) => m.recorded.0,
        (State::Timed(until), _) => St::Leased { until, session: 0, consumer: 0, owned: false },
        (State::Bound(_), _) => St::Leased { until: u64::MAX, session: 0, consumer: 0, owned: true },
    };
    ((is, e.deliveries, e.attempts, e.no), true)
}

/// Set in `Msg::lsn` of what was handed out in the turn that is looked at.
pub(super) const JUST: u64 = 1 << 63;
