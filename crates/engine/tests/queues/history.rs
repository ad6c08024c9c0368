//! Random histories with crashes and clock jumps: what is delivered, settled, counted and answered is the model's.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream_engine::attrs::{self, Attrs};
use millstream_engine::op::{Reply, Ticket};
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_engine::queue::rows::QueueRows;
use millstream_engine::queue::rows::chunk::State;
use millstream_engine::queue::rows::head::{Head, HeadKey, LaneHead};
use millstream_engine::rows::{RowKey, RowValue};
use millstream_log::EntryHead;
use millstream_testkit::seeds::{Dice, for_each_seed};
use millstream_types::{LogId, Lsn, ObjectId, ObjectKind};

use crate::model::*;
use crate::support::{FakeStore, Logged, open};
use crate::world::{Bug, World, create, small_windows};

const NAMES: [&str; 3] = ["a", "b", "c"];

pub struct Run {
    dice: Dice,
    world: World,
    model: Model,
    /// After each operation: its last LSN, and the model as it was.
    kept: Vec<(u64, Model)>,
    seen_records: usize,
    sessions: Vec<u64>,
    next_session: u64,
    next_consumer: u64,
    moves: Vec<MoveWork>,
    pub stats: BTreeMap<&'static str, u64>,
}

fn seeded() -> FakeStore {
    let mut store = FakeStore::new();
    for n in 1..=SEEDED_QUEUES {
        let lane = LaneHead {
            next: SEEDED_FIRST,
            floor: SEEDED_FIRST,
            settled: SEEDED_FIRST,
            ..LaneHead::default()
        };
        let head = Head { lanes: SEEDED_LANES.iter().map(|l| (*l, lane)).collect(), ..Head::default() };
        let mut value = Vec::new();
        head.put(&mut value);
        store.seed(HeadKey(ObjectId::new(ObjectKind::Queue, n)).encode(), value);
    }
    store
}

impl Run {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, None)
    }

    pub fn with(seed: u64, bug: Option<Bug>) -> Self {
        let mut world = World::seeded(small_windows(), seeded());
        world.bug = bug;
        let mut run = Self {
            dice: Dice::new(seed),
            world,
            model: Model::default(),
            kept: vec![(0, Model::default())],
            seen_records: 0,
            sessions: vec![1, 2, 3],
            next_session: 4,
            next_consumer: 1,
            moves: Vec::new(),
            stats: BTreeMap::new(),
        };
        for name in NAMES {
            run.make(name);
        }
        run
    }

    fn count(&mut self, what: &'static str) {
        *self.stats.entry(what).or_default() += 1;
    }
    fn now(&self) -> u64 {
        self.world.now.wall_ms
    }
    fn lsn(&self) -> u64 {
        self.world.log.last().0
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.dice.once_in(n)
    }
    fn session(&mut self) -> u64 {
        *self.dice.of(&self.sessions)
    }

    fn policy(&mut self) -> QueuePolicy {
        let mut p = QueuePolicy { lease_ms: 1 + self.dice.below(300), ..QueuePolicy::default() };
        if self.one_in(2) {
            p.attempts_max = Some(1 + self.dice.below(3) as u32);
        }
        p.on_exhausted = *self.dice.of(&[OnExhausted::DeadLetter, OnExhausted::Drop, OnExhausted::Park]);
        p.dead_letter = self.one_in(2);
        p.backoff = match self.dice.below(4) {
            0 => Backoff::Fixed { ms: self.dice.below(200) },
            1 => Backoff::Exponential { base_ms: 20, max_ms: 300, jitter_percent: 40 },
            _ => Backoff::None,
        };
        if self.one_in(4) {
            p.ttl_ms = Some(self.dice.below(1_500));
        }
        if self.one_in(4) {
            p.messages_max = Some(self.dice.below(12));
        }
        if self.one_in(5) {
            p.bytes_max = Some(self.dice.below(20));
        }
        p.overflow = *self.dice.of(&[Overflow::DropHead, Overflow::Reject, Overflow::RejectDeadLetter]);
        p.priority_max = *self.dice.of(&[0, 0, 1, 3]);
        p.single_active = self.one_in(8);
        if self.one_in(6) {
            p.delay_ms = self.dice.below(200);
        }
        p
    }

    fn make(&mut self, name: &'static str) {
        let policy = self.policy();
        let reply = self.world.ask(1, QueueOp::Change(vec![create(name, policy.clone())]));
        let QueueReply::Changed(reply) = reply else { panic!("{reply:?}") };
        if self.model.queues.iter().any(|q| q.name == name) {
            assert!(matches!(reply, Err(QueueError::Exists { .. })));
        } else {
            let id = self.model.create(name, policy);
            assert_eq!(reply.unwrap()[0].id, id);
        }
        self.end_op();
    }

    fn queue(&mut self) -> Option<usize> {
        let n = self.model.queues.len() as u64;
        (n > 0).then(|| self.dice.below(n) as usize)
    }

    /// What was recorded is kept; what the log may forget has to be settled.
    fn end_op(&mut self) {
        let new: Vec<Logged> =
            self.world.log.records[self.seen_records..].iter().flatten().cloned().collect();
        self.seen_records = self.world.log.records.len();
        for op in &new {
            match op {
                Logged::Trim { log, before } => self.forgets(*log, 0..*before),
                Logged::Retire { log, runs } => {
                    for r in runs {
                        self.forgets(*log, r.0..r.0 + u64::from(r.1));
                    }
                    self.count("retires");
                }
                _ => {}
            }
        }
        if self.lsn() > self.kept.last().unwrap().0 {
            self.kept.push((self.lsn(), self.model.clone()));
        }
    }

    fn forgets(&mut self, log: LogId, range: std::ops::Range<u64>) {
        self.count("trims and retires");
        let Some(q) = self.model.q(log.object()) else { return };
        for m in self.model.queues[q].msgs.iter().filter(|m| m.lane == log.lane()) {
            assert!(!range.contains(&m.pos) || m.recorded.0 == St::Gone, "the log forgets {m:?}");
        }
    }

    fn message(&mut self, to: Vec<Target>) -> Publish {
        let payload = vec![7; 1 + self.dice.below(4) as usize];
        Publish {
            to,
            transient: false,
            priority: *self.dice.of(&[0, 0, 0, 1, 2, 9]),
            expiry_ms: self.one_in(4).then(|| self.now() + self.dice.below(500)),
            key_hash: None,
            origin: None,
            envelope_len: 3,
            max_ts_ms: -1,
            body: vec![Bytes::from_static(b"env"), Bytes::from(payload)],
        }
    }

    fn targets(&mut self) -> Vec<Target> {
        let mut to = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let queue = match self.queue() {
                Some(q) if !self.dice.once_in(12) => self.model.queues[q].id,
                _ => ObjectId::new(ObjectKind::Queue, 1 << 30),
            };
            let due_ms = self.one_in(5).then(|| self.now() + self.dice.below(400));
            to.push(Target { queue, due_ms });
        }
        to
    }

    /// What the model says of a publish.
    fn model_publish(&mut self, p: &Publish) -> Published {
        let (now, lsn) = (self.now(), u64::MAX);
        let bytes = p.body.iter().map(|b| b.len() as u32).sum::<u32>() - p.envelope_len;
        let mut result = Published::default();
        let mut seen = BTreeSet::new();
        for t in &p.to {
            if !seen.insert(t.queue) {
                continue;
            }
            let Some(i) = self.model.q(t.queue) else {
                result.refused.push((t.queue, Refusal::Gone));
                continue;
            };
            let q = &mut self.model.queues[i];
            let own = (q.policy.delay_ms > 0).then(|| now + q.policy.delay_ms);
            let due = t.due_ms.or(own).filter(|d| *d > now);
            let full = due.is_none() && q.policy.overflow != Overflow::DropHead && q.over(Some(bytes));
            if full && !(q.policy.overflow == Overflow::RejectDeadLetter && q.policy.dead_letter) {
                result.refused.push((t.queue, Refusal::Full));
                continue;
            }
            let lane = u16::from(p.priority.min(q.policy.priority_max)) + if due.is_some() { 256 } else { 0 };
            let pos = q.next_pos(lane);
            let mut m = Msg {
                lane,
                pos,
                enq: now,
                expiry: p.expiry_ms.unwrap_or(u64::MAX),
                due: due.unwrap_or(0),
                bytes,
                lsn,
                is: St::Ready,
                deliveries: 0,
                attempts: 0,
                no: 0,
                waits_for_due: due.is_some(),
                marked: false,
                recorded: (St::Ready, 0, 0, 0),
                touched: false,
            };
            if full {
                m.is = St::Held(Cause::Length);
                m.no = 1;
                m.record();
                q.msgs.push(m);
                result.refused.push((t.queue, Refusal::Full));
                continue;
            }
            q.msgs.push(m);
            result.accepted += 1;
            result.home.get_or_insert((LogId::new(t.queue, lane), pos));
            if due.is_none() {
                q.drop_heads(4);
            }
        }
        result
    }

    fn sequenced(&mut self) {
        let lsn = self.lsn();
        for m in self.model.queues.iter_mut().flat_map(|q| &mut q.msgs).filter(|m| m.lsn == u64::MAX) {
            m.lsn = lsn;
        }
    }

    fn publish(&mut self) {
        let to = self.targets();
        let p = self.message(to);
        let expected = self.model_publish(&p);
        let reply = self.world.ask(1, QueueOp::Publish(vec![p]));
        assert_eq!(reply, QueueReply::Published(vec![expected]));
        self.sequenced();
        self.learn_numbers();
        self.end_op();
    }

    /// Delivery numbers of what goes to the mover are read from the engine's word.
    fn learn_numbers(&mut self) {
        for w in std::mem::take(&mut self.world.moves) {
            let i = self.model.q(w.queue).unwrap();
            let m = self.model.queues[i].msgs.iter().find(|m| (m.lane, m.pos) == (w.lane, w.pos)).unwrap();
            assert!(matches!(m.is, St::Held(c) if c == w.cause), "{m:?} {w:?}");
            assert_eq!((m.deliveries, m.attempts), (w.deliveries, w.attempts), "{m:?}");
            self.count("work for the mover");
            self.moves.push(w);
        }
    }

    fn opts(&mut self) -> ConsumerOpts {
        let lease = match self.dice.below(4) {
            0 => LeaseKind::Timed { lease_ms: None, owned: true },
            1 => LeaseKind::Timed { lease_ms: Some(1 + self.dice.below(200)), owned: false },
            _ => LeaseKind::Bound,
        };
        ConsumerOpts {
            lease,
            ride: self.one_in(2),
            auto_ack: self.one_in(5),
            prefetch: *self.dice.of(&[0, 1, 1, 2, 5]),
            credit: self.one_in(4).then(|| self.dice.below(4)),
            priority: *self.dice.of(&[0, 0, 1]),
            exclusive: false,
        }
    }

    fn subscribe(&mut self) {
        let Some(q) = self.queue() else { return };
        let (session, opts) = (self.session(), self.opts());
        let id = self.next_consumer;
        self.next_consumer += 1;
        let queue = self.model.queues[q].id;
        self.world.subscribe(session, id, queue, opts);
        let credit = opts.credit;
        let con = Con { session, id, opts, credit, flow: true, cancelled: false };
        self.model.queues[q].cons.push(con);
        self.count("consumers");
    }

    fn consumer(&mut self) {
        let all: Vec<(usize, usize)> = self
            .model
            .queues
            .iter()
            .enumerate()
            .flat_map(|(q, x)| (0..x.cons.len()).map(move |c| (q, c)))
            .collect();
        if all.is_empty() {
            return;
        }
        let (q, c) = *self.dice.of(&all);
        let what = self.dice.below(4);
        let (n, on) = (self.dice.below(4), self.one_in(2));
        let con = &mut self.model.queues[q].cons[c];
        if con.cancelled {
            return;
        }
        let (session, consumer) = (con.session, ConsumerId(con.id));
        let op = match what {
            0 => {
                con.cancelled = true;
                QueueOp::Cancel { consumer }
            }
            1 => {
                con.flow = on;
                QueueOp::Flow { consumer: Some(consumer), on }
            }
            2 => {
                con.credit = con.credit.map(|c| c + n);
                QueueOp::Credit { consumer, add: n }
            }
            _ => {
                con.opts.prefetch = n as u32;
                QueueOp::Prefetch { consumer: Some(consumer), max: n as u32 }
            }
        };
        assert_eq!(self.world.ask(session, op), QueueReply::Done);
    }

    fn receive(&mut self) {
        let Some(q) = self.queue() else { return };
        let session = self.session();
        let opts = self.opts();
        let what = Receive {
            queue: self.model.queues[q].id,
            max: 1 + self.dice.below(4) as u32,
            bytes_max: if self.one_in(4) { self.dice.below(6) } else { u64::MAX },
            wait_ms: *self.dice.of(&[0, 0, 100]),
            lease: opts.lease,
            ride: opts.ride,
            auto_ack: opts.auto_ack,
        };
        let deadline = self.now() + what.wait_ms;
        if self.model.queues[q].policy.single_active {
            let refused = QueueReply::Received(Err(ReceiveError::Exclusive));
            return assert_eq!(self.world.ask(session, QueueOp::Receive(what)), refused);
        }
        let ticket = self.world.submit(session, QueueOp::Receive(what)).0;
        self.model.queues[q].waits.push(Wait { session, ticket, what, deadline });
        if self.one_in(10) {
            self.model.queues[q].waits.pop();
            assert_eq!(
                self.world.ask(session, QueueOp::StopReceive { ticket: Ticket(ticket) }),
                QueueReply::Done
            );
            assert_eq!(self.world.received(Ticket(ticket)), Some(Vec::new()));
        }
    }

    fn gone(&mut self) {
        let i = self.dice.below(self.sessions.len() as u64) as usize;
        let old = std::mem::replace(&mut self.sessions[i], self.next_session);
        self.next_session += 1;
        let now = self.now();
        self.world.gone(old);
        for q in &mut self.model.queues {
            q.cons.retain(|c| c.session != old);
            q.waits.retain(|w| w.session != old);
            for i in 0..q.msgs.len() {
                if matches!(q.msgs[i].is, St::Leased { session, owned: true, .. } if session == old) {
                    q.failed(i, None, now);
                }
            }
        }
        self.count("sessions gone");
    }

    /// A message that may be leased, and what to say of it.
    fn pick(&mut self) -> Option<(usize, usize, u64, u32)> {
        let mut all = Vec::new();
        for (q, x) in self.model.queues.iter().enumerate() {
            for (i, m) in x.msgs.iter().enumerate() {
                let weight = match m.is {
                    St::Leased { .. } => 12,
                    // Under a number that only the mover knows.
                    St::Held(_) => 0,
                    _ if m.no > 0 => 1,
                    _ => 0,
                };
                all.extend(std::iter::repeat_n((q, i), weight));
            }
        }
        if all.is_empty() {
            return None;
        }
        let (q, i) = *self.dice.of(&all);
        let m = &self.model.queues[q].msgs[i];
        let holder = if let St::Leased { session, .. } = m.is { session } else { 0 };
        let no = m.no;
        let wrong = self.one_in(12);
        let session = if wrong || holder == 0 { self.session() } else { holder };
        let no = if self.one_in(12) { no.wrapping_sub(1) } else { no };
        Some((q, i, session, no))
    }

    fn may_settle(&self, q: usize, i: usize, by: u64, no: u32) -> Result<(), SettleError> {
        let m = &self.model.queues[q].msgs[i];
        match m.is {
            St::Gone => Err(SettleError::Unknown),
            St::Leased { .. } | St::Exhausted | St::Held(_) | St::Parked if m.no != no => {
                Err(SettleError::Stale)
            }
            St::Leased { session, owned: true, .. } if session != by => Err(SettleError::NotHolder),
            St::Leased { until, .. } if until <= self.now() => Err(SettleError::Expired),
            St::Leased { .. } => Ok(()),
            St::Exhausted => Err(SettleError::Expired),
            St::Held(_) | St::Parked => Err(SettleError::Unknown),
            St::Ready | St::Rest(_) if !m.touched => Err(SettleError::Unknown),
            St::Ready | St::Rest(_) if m.recorded.3 != no => Err(SettleError::Stale),
            St::Ready | St::Rest(_) => match m.recorded.0 {
                St::Leased { until, .. } if until != u64::MAX => Err(SettleError::Expired),
                _ => Err(SettleError::Stale),
            },
        }
    }

    fn settle(&mut self) {
        let mut items = Vec::new();
        let mut errors = Vec::new();
        let Some((_, _, session, _)) = self.pick() else { return };
        for _ in 0..1 + self.dice.below(4) {
            let Some((q, i, _, no)) = self.pick() else { break };
            let verb = match self.dice.below(12) {
                0..5 => Verb::Ack,
                5 | 6 => Verb::Release { failed: true, delay_ms: None },
                7 => Verb::Release { failed: false, delay_ms: None },
                8 => Verb::Release { failed: self.one_in(2), delay_ms: Some(self.dice.below(150)) },
                9 | 10 => Verb::Reject,
                _ => Verb::Undelivered,
            };
            // Sometimes the next positions too.
            let (lane, pos) = (self.model.queues[q].msgs[i].lane, self.model.queues[q].msgs[i].pos);
            let mut len = 1 + self.dice.below(3) as u32 * u32::from(self.one_in(3));
            let held = |m: &&Msg| m.lane == lane && m.pos > pos && matches!(m.is, St::Held(_));
            if self.model.queues[q].msgs.iter().filter(held).count() > 0 {
                len = 1;
            }
            let queue = self.model.queues[q].id;
            // Which error a second word on one message gets is not said.
            let overlaps = |i: &SettleItem| {
                (i.queue, i.lane) == (queue, lane)
                    && i.pos < pos + u64::from(len)
                    && pos < i.pos + u64::from(i.len)
            };
            if items.iter().any(overlaps) {
                continue;
            }
            items.push(SettleItem { queue, lane, pos, len, delivery_no: no, verb });
            let mut error = None;
            for pos in pos..pos + u64::from(len) {
                let at = self.model.queues[q].msgs.iter().position(|m| (m.lane, m.pos) == (lane, pos));
                let result = at.ok_or(SettleError::Unknown);
                let result = result.and_then(|i| self.may_settle(q, i, session, no).map(|()| i));
                match result {
                    Ok(i) => self.model_settle(q, i, verb),
                    Err(e) => error = error.or(Some(e)),
                }
            }
            errors.extend(error.map(|e| (items.len() - 1, e)));
            self.count(if error.is_none() { "settled" } else { "not settled" });
        }
        let reply = self.world.ask(session, QueueOp::Settle(items.clone()));
        assert_eq!(reply, QueueReply::Settled { errors }, "{items:?}");
        self.end_op();
    }

    fn model_settle(&mut self, q: usize, i: usize, verb: Verb) {
        let now = self.now();
        let q = &mut self.model.queues[q];
        match verb {
            Verb::Ack => {
                q.msgs[i].is = St::Gone;
                q.msgs[i].record();
            }
            Verb::Reject => q.finish(i, Cause::Rejected),
            Verb::Undelivered => {
                q.msgs[i].deliveries -= 1;
                q.release(i, Some(0), now);
            }
            Verb::Release { failed: false, delay_ms } => q.release(i, Some(delay_ms.unwrap_or(0)), now),
            Verb::Release { failed: true, delay_ms } => {
                q.msgs[i].attempts += 1;
                if q.policy.exhausted(q.msgs[i].attempts) {
                    q.finish(i, Cause::Exhausted);
                } else {
                    q.release(i, delay_ms, now);
                }
            }
        }
    }

    fn extend(&mut self) {
        let Some((q, i, session, no)) = self.pick() else { return };
        let lease_ms = self.dice.below(300);
        let until = self.now() + lease_ms;
        let (lane, pos) = (self.model.queues[q].msgs[i].lane, self.model.queues[q].msgs[i].pos);
        let queue = self.model.queues[q].id;
        let result = self.may_settle(q, i, session, no);
        if result.is_ok() {
            let m = &mut self.model.queues[q].msgs[i];
            if let St::Leased { until: u, session, consumer, owned } = m.is
                && u != u64::MAX
            {
                m.is = St::Leased { until, session, consumer, owned };
                m.record();
            }
        }
        let item = ExtendItem { queue, lane, pos, len: 1, delivery_no: no, lease_ms };
        let errors: Vec<_> = result.err().map(|e| (0, e)).into_iter().collect();
        let reply = self.world.ask(session, QueueOp::Extend(vec![item]));
        assert_eq!(reply, QueueReply::Settled { errors });
        self.end_op();
    }

    fn purge(&mut self) {
        let Some(q) = self.queue() else { return };
        let keep_leased = self.one_in(2);
        let mut n = 0;
        for m in &mut self.model.queues[q].msgs {
            let stays = match m.is {
                St::Leased { .. } => keep_leased,
                St::Held(_) | St::Gone => true,
                _ => false,
            };
            if !stays {
                m.is = St::Gone;
                m.record();
                n += 1;
            }
        }
        let queue = self.model.queues[q].id;
        let reply = self.world.ask(1, QueueOp::Purge { queue, keep_leased });
        assert_eq!(reply, QueueReply::Purged(Some(n)));
        self.count("purges");
        self.end_op();
    }

    fn change(&mut self) {
        let Some(q) = self.queue() else { return };
        if self.one_in(2) {
            let (id, expect) = (self.model.queues[q].id, self.model.queues[q].version);
            let policy = self.policy();
            self.model.queues[q].policy = policy.clone();
            self.model.queues[q].version += 1;
            let change = QueueChange::Alter { id, expect, policy, settings: Default::default() };
            let reply = self.world.ask(1, QueueOp::Change(vec![change]));
            assert!(matches!(reply, QueueReply::Changed(Ok(_))));
            return self.end_op();
        }
        let x = &self.model.queues[q];
        let (if_unused, if_empty) = (x.cons.iter().any(|c| c.cancelled), false);
        let change = QueueChange::Delete { id: x.id, if_unused, if_empty, if_idle: false };
        let reply = self.world.ask(1, QueueOp::Change(vec![change]));
        let QueueReply::Changed(reply) = reply else { panic!("{reply:?}") };
        if if_unused && x.cons.iter().any(|c| !c.cancelled) {
            assert_eq!(reply, Err(QueueError::InUse));
        } else {
            assert!(reply.is_ok());
            let gone = self.model.queues.remove(q);
            for w in &gone.waits {
                let i = self.world.answers.iter().position(|a| a.ticket.0 == w.ticket).unwrap();
                let reply = self.world.answers.remove(i).reply;
                let Reply::Queue(reply) = reply else { panic!("{reply:?}") };
                assert_eq!(reply, QueueReply::Received(Err(ReceiveError::NotFound)));
            }
            self.count("deleted");
        }
        self.end_op();
    }

    fn mover(&mut self) {
        if self.moves.is_empty() {
            return;
        }
        let n = self.moves.len() as u64;
        let w = self.moves.swap_remove(self.dice.below(n) as usize);
        let to = self.targets();
        let choice = self.dice.below(5);
        let at_most_once = self.one_in(2);
        let then = match choice {
            0 => MoveThen::Drop(w.cause),
            1 => MoveThen::Release,
            _ => MoveThen::Publish { publish: self.message(to), at_most_once },
        };
        let found = self.model.q(w.queue).and_then(|q| {
            let msgs = &self.model.queues[q].msgs;
            let at = |m: &Msg| (m.lane, m.pos) == (w.lane, w.pos) && matches!(m.is, St::Held(_));
            Some((q, msgs.iter().position(at)?))
        });
        let mut expected = Ok(());
        match found {
            None => expected = Err(MoveError::NotHeld),
            Some((q, i)) => {
                if let MoveThen::Publish { publish, at_most_once } = &then {
                    if !at_most_once {
                        expected = self.all_take(publish);
                    }
                    if expected.is_ok() {
                        self.model_publish(publish);
                    }
                }
                let now = self.now();
                let x = &mut self.model.queues[q];
                x.msgs[i].no = w.delivery_no;
                if expected.is_ok() && matches!(then, MoveThen::Release) {
                    x.release(i, Some(0), now);
                } else if expected.is_ok() {
                    x.msgs[i].is = St::Gone;
                    x.msgs[i].record();
                }
            }
        }
        if matches!(expected, Err(MoveError::Refused(_))) {
            self.moves.push(w);
        }
        self.count(if expected.is_ok() { "moved" } else { "not moved" });
        let item = MoveItem { queue: w.queue, lane: w.lane, pos: w.pos, delivery_no: w.delivery_no, then };
        let reply = self.world.ask(1, QueueOp::Move(vec![item]));
        assert_eq!(reply, QueueReply::Moved(vec![expected]));
        self.sequenced();
        self.end_op();
    }

    fn all_take(&self, p: &Publish) -> Result<(), MoveError> {
        let bytes = p.body.iter().map(|b| b.len() as u32).sum::<u32>() - p.envelope_len;
        for t in &p.to {
            let q = self.model.q(t.queue).ok_or(MoveError::Refused(Refusal::Gone))?;
            let q = &self.model.queues[q];
            let refuses = match q.policy.overflow {
                Overflow::DropHead => false,
                Overflow::Reject => true,
                Overflow::RejectDeadLetter => !q.policy.dead_letter,
            };
            if refuses && q.over(Some(bytes)) {
                return Err(MoveError::Refused(Refusal::Full));
            }
        }
        Ok(())
    }

    fn hold(&mut self) {
        self.rest();
        let Some(q) = self.queue() else { return };
        let max = 1 + self.dice.below(3) as u32;
        let durable = self.world.durable.0;
        let x = &mut self.model.queues[q];
        let mut expected = Vec::new();
        for _ in 0..max {
            let Some(i) = x.next(Some(durable)) else { break };
            let m = &mut x.msgs[i];
            m.is = St::Held(Cause::Redrive);
            m.record();
            expected.push((m.lane, m.pos));
        }
        let queue = x.id;
        let reply = self.world.ask(1, QueueOp::Hold { queue, max });
        let QueueReply::Held(Some(held)) = reply else { panic!("{reply:?}") };
        assert_eq!(held.iter().map(|w| (w.lane, w.pos)).collect::<Vec<_>>(), expected);
        self.moves.extend(held);
        self.end_op();
    }

    fn unpark(&mut self) {
        let all: Vec<(usize, usize)> = self
            .model
            .queues
            .iter()
            .enumerate()
            .flat_map(|(q, x)| (0..x.msgs.len()).map(move |i| (q, i)))
            .filter(|(q, i)| self.model.queues[*q].msgs[*i].is == St::Parked)
            .collect();
        if all.is_empty() {
            return;
        }
        let (q, i) = *self.dice.of(&all);
        let release = self.one_in(2);
        let now = self.now();
        let x = &mut self.model.queues[q];
        let item = UnparkItem { queue: x.id, lane: x.msgs[i].lane, pos: x.msgs[i].pos, release };
        if release {
            x.msgs[i].attempts = 0;
            x.release(i, Some(0), now);
        } else {
            x.finish(i, Cause::Skipped);
        }
        let reply = self.world.ask(1, QueueOp::Unpark(vec![item]));
        assert_eq!(reply, QueueReply::Unparked { errors: Vec::new() });
        self.count("unparked");
        self.end_op();
    }

    /// Ticks until nothing is left to do, and holds what was delivered against the model.
    fn rest(&mut self) {
        let (now, durable, before) = (self.now(), self.world.durable.0, self.lsn());
        self.world.tick();
        let pushed = std::mem::take(&mut self.world.deliveries);
        for q in &mut self.model.queues {
            q.timers(now);
            q.serve(now, durable);
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
            if !wait.what.ride && !all.is_empty() {
                assert!(a.wait.0 > before, "answered before its leases are durable");
            }
            let how = (wait.what.lease, wait.what.ride, wait.what.auto_ack);
            for d in all {
                self.delivered(d, how);
            }
        }
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
        self.check_order(now, durable);
        self.learn_numbers();
        self.check_rest(now, durable);
        self.end_op();
    }

    /// Notes a delivery; its place in the order is looked at when all of the turn are known.
    fn delivered(&mut self, d: Delivery, how: (LeaseKind, bool, bool)) {
        let before = self.lsn();
        let (now, durable) = (self.now(), self.world.durable.0);
        let q = self.model.q(d.queue).unwrap();
        let q = &mut self.model.queues[q];
        let at = q.msgs.iter().position(|m| (m.lane, m.pos) == (d.lane, d.pos)).expect("a message");
        let m = &mut q.msgs[at];
        assert_eq!(m.is, St::Ready, "delivered though it is not ready: {m:?}");
        assert!(!m.waits_for_due, "delivered before its time: {m:?}");
        assert!(m.visible(durable), "delivered before it is durable: {m:?}");
        assert!(q.policy.expiry_ms(m.expiry, m.enq) > now, "delivered after its time: {m:?}");
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
        // Looked at by `check_order`.
        m.lsn |= JUST;
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
            if n > 0 {
                // As it was before: those handed out are ready again.
                let mut old = q.clone();
                for m in &mut old.msgs {
                    if just(m) {
                        m.is = St::Ready;
                        m.lsn &= !JUST;
                    }
                }
                for _ in 0..n {
                    old.expire(now, durable);
                    let i = old.next(Some(durable)).expect("a message that may go out");
                    assert!(just(&q.msgs[i]), "passed over: {:?} by one of\n{}", old.msgs[i], q.tell(now));
                    old.msgs[i].is = St::Gone;
                }
            }
            q.msgs.iter_mut().for_each(|m| m.lsn &= !JUST);
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
            assert_eq!(self.world.stats(id), stats, "{told}");
            let q = &self.model.queues[i];
            if q.policy.single_active {
                // Whose turn it is, is not predicted; that somebody has it is, once nobody else has leases.
                let alone = q.cons.len() == 1 && q.next(Some(durable)).is_some();
                for c in q.cons.iter().filter(|c| alone && c.flow && !c.cancelled) {
                    let full =
                        c.opts.prefetch > 0 && q.leases_of(c.session, c.id) >= c.opts.prefetch as usize;
                    assert!(full || c.credit == Some(0), "{c:?} waits though there is a message");
                }
            } else if q.next(Some(durable)).is_some() {
                assert!(q.waits.is_empty(), "a receive waits though there is a message");
                for c in q.cons.iter().filter(|c| c.flow && !c.cancelled) {
                    let full =
                        c.opts.prefetch > 0 && q.leases_of(c.session, c.id) >= c.opts.prefetch as usize;
                    assert!(full || c.credit == Some(0), "{c:?} waits though there is a message");
                }
            } else {
                assert!(q.waits.iter().all(|w| w.deadline > now), "a receive waits for too long");
            }
        }
    }

    fn crash(&mut self) {
        // Any prefix that holds what is durable.
        let durable = self.world.durable.0;
        let lsn = durable + self.dice.below(self.lsn() - durable + 1);
        let after = self.kept.partition_point(|k| k.0 < lsn);
        let whole = self.kept[after].0 == lsn;
        // Within a turn: the messages are those after it, and what was recorded of them is what the rows say.
        let mut model = self.kept[after].1.clone();
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
            for op in record {
                match op {
                    Logged::Effect { object, bytes } if matches!(object[0], 0x05 | 0x30..=0x32) => {
                        rows.apply_effect(Lsn(n), object, bytes).unwrap();
                    }
                    Logged::Append { log, pos, count, max_ts_ms, attrs: bytes, body } => {
                        let Ok(Attrs::Single(a)) = attrs::decode(bytes) else { panic!() };
                        let (log, pos, count, max_ts_ms) = (*log, *pos, *count, *max_ts_ms);
                        let body_len = body.len() as u32;
                        rows.append(
                            Lsn(n),
                            &EntryHead { log, pos, count, max_ts_ms, attrs: bytes, body_len },
                            &a,
                        );
                    }
                    Logged::Delete { log } => rows.delete(Lsn(n), *log),
                    _ => {}
                }
            }
            rows.record_end(Lsn(n));
        }
        rows
    }

    fn stop(&mut self) {
        self.world.flush();
        self.jump();
        self.world.restart_cleanly();
        // What was not recorded is not known after a stop either.
        self.opened(true);
        self.count("stops");
    }

    /// The clock is set.
    fn jump(&mut self) {
        let by = *self.dice.of(&[0, 0, 0, 500, 86_400_000]);
        let back = self.one_in(2);
        let wall = &mut self.world.now.wall_ms;
        *wall = if back { wall.saturating_sub(by).max(1_000) } else { *wall + by };
    }

    fn opened(&mut self, clean: bool) {
        let now = self.now();
        for q in &mut self.model.queues {
            q.crashed(now, clean);
        }
        self.moves.clear();
        self.seen_records = self.world.log.records.len();
        for s in &mut self.sessions {
            *s = self.next_session;
            self.next_session += 1;
        }
        self.rest();
    }

    /// A turn without room for records: nothing but time happens.
    fn no_room(&mut self) {
        let (now, lsn) = (self.now(), self.lsn());
        self.world.log.room = false;
        self.world.tick();
        self.world.log.room = true;
        self.model.queues.iter_mut().for_each(|q| q.timers(now));
        assert_eq!((self.lsn(), self.world.deliveries.len()), (lsn, 0));
    }

    pub fn step(&mut self) {
        if self.one_in(30) {
            self.no_room();
        }
        match self.dice.below(100) {
            0..26 => self.publish(),
            26..32 => self.subscribe(),
            32..36 => self.consumer(),
            36..45 => self.receive(),
            45..47 => self.gone(),
            47..63 => self.settle(),
            63..66 => self.extend(),
            66..67 => self.purge(),
            67..69 => self.change(),
            69..70 => {
                let name = *self.dice.of(&NAMES);
                self.make(name);
            }
            70..75 => self.mover(),
            75..76 => self.hold(),
            76..78 => self.unpark(),
            78..84 => {
                let ms = self.dice.below(120);
                self.world.later(ms);
            }
            84..90 => {
                let (from, to) = (self.world.durable.0, self.lsn());
                let lsn = from + self.dice.below(to - from + 1);
                self.world.durable_to(Lsn(lsn));
            }
            90..93 => drop(self.world.store.offer(&mut self.world.engine, 3)),
            93..95 => {
                let id = self.world.store.commit(self.world.durable, 2);
                self.world.engine.flushed(id);
            }
            95..97 => self.world.sync(),
            97..98 => self.stop(),
            _ => self.crash(),
        }
        if self.one_in(2) {
            self.rest();
        }
    }
}

/// What rows say of a message: as `Msg::recorded` and `Msg::touched`.
fn recorded(rows: &QueueRows, queue: ObjectId, m: &Msg) -> ((St, u16, u16, u32), bool) {
    let head = rows.heads.get(&HeadKey(queue)).cloned().unwrap_or_default();
    let lane = head.lanes.get(&m.lane).copied().unwrap_or_default();
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
const JUST: u64 = 1 << 63;

#[test]
fn a_history_with_crashes_is_the_models() {
    let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
    for_each_seed(300, |seed| {
        let mut run = Run::new(seed);
        for _ in 0..150 {
            run.step();
        }
        run.rest();
        run.crash();
        for (what, n) in run.stats {
            *all.entry(what).or_default() += n;
        }
    });
    eprintln!("{all:?}");
}
