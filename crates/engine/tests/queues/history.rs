//! Random histories with crashes and clock jumps: what is delivered, settled, counted and answered is the model's.

mod checks;
mod definitions;
mod moves;
mod order;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream_engine::EngineConfig;
use millstream_engine::op::Ticket;
use millstream_engine::queue::REST_MS;
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_engine::queue::rows::QueueRows;
use millstream_engine::queue::rows::head::{Head, HeadKey, LaneHead};
use millstream_engine::rows::{RowKey, RowValue};
use millstream_testkit::seeds::{Dice, for_each_seed};
use millstream_types::{LogId, Lsn, ObjectId, ObjectKind};

use crate::model::*;
use crate::support::{FakeStore, Logged};
use crate::world::{Bug, World, small_windows};

const NAMES: [&str; 3] = ["a", "b", "c"];

pub struct Run {
    dice: Dice,
    world: World,
    model: Model,
    /// After each operation: its last LSN, and the model as it was.
    kept: Vec<(u64, Model)>,
    seen_records: usize,
    /// Rows as all records make them.
    rows: QueueRows,
    rows_to: u64,
    /// What is in no record: how much of it was looked at, and how much is in `rows`.
    kept_to: usize,
    rows_kept_to: usize,
    sessions: Vec<u64>,
    next_session: u64,
    next_consumer: u64,
    moves: Vec<MoveWork>,
    /// How often the clock was set back.
    era: u128,
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
        let mut dice = Dice::new(seed);
        // Of every other history, queues leave memory as soon as they can.
        let queue_rest_ms = *dice.of(&[0, REST_MS]);
        let mut world = World::seeded(EngineConfig { queue_rest_ms, ..small_windows() }, seeded());
        world.bug = bug;
        let mut run = Self {
            dice,
            world,
            model: Model::default(),
            kept: vec![(0, Model::default())],
            seen_records: 0,
            rows: QueueRows::load(&seeded().reader()).unwrap(),
            rows_to: 0,
            kept_to: 0,
            rows_kept_to: 0,
            sessions: vec![1, 2, 3],
            next_session: 4,
            next_consumer: 1,
            moves: Vec::new(),
            era: 0,
            stats: BTreeMap::new(),
        };
        for name in NAMES {
            run.make(name);
        }
        run.begin();
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

    fn queue(&mut self) -> Option<usize> {
        let n = self.model.queues.len() as u64;
        (n > 0).then(|| self.dice.below(n) as usize)
    }

    /// What was recorded is kept; what the log may forget has to be settled.
    fn end_op(&mut self) {
        self.adopt();
        let recorded = self.world.log.records[self.seen_records..].iter().flatten();
        let new: Vec<Logged> = recorded.chain(&self.world.log.kept[self.kept_to..]).cloned().collect();
        self.seen_records = self.world.log.records.len();
        self.kept_to = self.world.log.kept.len();
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
            expiry_ms: self.expiry_ms(),
            key_hash: *self.dice.of(&[None, Some(1), Some(2), Some(2), Some(3)]),
            origin: None,
            dedup: self.one_in(3).then(|| self.era << 8 | u128::from(self.dice.below(12))),
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
            to.push(Target { queue, due_ms, key_hash: None });
        }
        to
    }

    /// What the model says of a publish.
    /// `handed`: what the engine handed out for it; `None`: it did nothing.
    fn model_publish(&mut self, p: &Publish, handed: Option<&Handed>) -> Published {
        let (now, lsn) = (self.now(), u64::MAX);
        let bytes = p.body.iter().map(|b| b.len() as u32).sum::<u32>() - p.envelope_len;
        let mut result = Published::default();
        let mut duplicates = 0;
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
            if let Some((lane, pos)) = q.known(p.dedup, now) {
                result.accepted += 1;
                result.duplicate = true;
                result.home.get_or_insert((LogId::new(t.queue, lane), pos));
                duplicates += 1;
                continue;
            }
            let delays = q.policy.delay_ms > 0 && q.policy.ordering != Ordering::ByKey;
            let own = delays.then(|| now + q.policy.delay_ms);
            let due = t.due_ms.or(own).filter(|d| *d > now);
            let refuses = due.is_none() && q.policy.overflow != Overflow::DropHead;
            if let Some(handed) = handed.filter(|_| refuses) {
                let n = q.hand_early(handed, Some(bytes), 4);
                assert!(n == 4 || !q.over(Some(bytes)) || !q.is_waited_for(now), "{}", q.tell(now));
            }
            let full = refuses && q.over(Some(bytes));
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
                key: p.key_hash,
                bytes,
                lsn,
                is: St::Ready,
                deliveries: 0,
                attempts: 0,
                no: 0,
                waits_for_due: due.is_some(),
                offered: false,
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
            q.ids.extend(p.dedup.filter(|_| q.policy.id_window_ms.is_some()).map(|id| Came {
                id,
                at: now,
                lane,
                pos,
            }));
            result.accepted += 1;
            result.home.get_or_insert((LogId::new(t.queue, lane), pos));
            if due.is_none() {
                let n = handed.map_or(0, |handed| q.hand_early(handed, None, 4));
                if n < 4 || !q.is_waited_for(now) {
                    let waited_for = handed.is_some() && q.over(None) && q.is_waited_for(now);
                    assert!(!waited_for || q.policy.overflow != Overflow::DropHead, "{}", q.tell(now));
                    q.drop_heads(4 - n);
                }
            }
        }
        *self.stats.entry("duplicates").or_default() += duplicates;
        result
    }

    fn sequenced(&mut self) {
        let lsn = self.lsn();
        for q in &mut self.model.queues {
            let lsn = if q.id.is_transient() { 0 } else { lsn };
            q.msgs.iter_mut().filter(|m| m.lsn == u64::MAX).for_each(|m| m.lsn = lsn);
        }
    }

    fn publish(&mut self) {
        let to = self.targets();
        let p = self.message(to);
        let reply = self.world.ask(1, QueueOp::Publish(vec![p.clone()]));
        let expected = self.model_publish(&p, Some(&self.handed()));
        assert_eq!(reply, QueueReply::Published(vec![expected]));
        self.handed_out();
        self.sequenced();
        self.learn_numbers();
        self.end_op();
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
            beside: false,
            leases_max: LEASES_MAX,
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
            St::Gone | St::Early => Err(SettleError::Unknown),
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

    /// Whether the late word counts, where another would not.
    fn may_settle_late(&self, q: usize, i: usize, no: u32) -> bool {
        let m = &self.model.queues[q].msgs[i];
        match m.is {
            St::Leased { until, .. } => m.no == no && until <= self.now(),
            St::Exhausted => m.no == no,
            St::Ready | St::Rest(_) => {
                // What the mover had before a crash had no consumer's number.
                m.touched && m.recorded.3 == no && !matches!(m.recorded.0, St::Held(_))
            }
            St::Gone | St::Early | St::Held(_) | St::Parked => false,
        }
    }

    fn settle(&mut self) {
        let mut items = Vec::new();
        let mut errors = Vec::new();
        let Some((_, _, session, _)) = self.pick() else { return };
        for _ in 0..1 + self.dice.below(4) {
            let Some((q, i, _, no)) = self.pick() else { break };
            let verb = match self.dice.below(12) {
                0..4 => Verb::Ack,
                4 => Verb::AckLate,
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
                let result = result.and_then(|i| match self.may_settle(q, i, session, no) {
                    Err(SettleError::Expired | SettleError::Stale)
                        if verb == Verb::AckLate && self.may_settle_late(q, i, no) =>
                    {
                        Ok(i)
                    }
                    result => result.map(|()| i),
                });
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
            Verb::Ack | Verb::AckLate => {
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

    /// The clock is set.
    fn jump(&mut self) {
        let by = *self.dice.of(&[0, 0, 0, 500, 86_400_000]);
        let back = self.one_in(2);
        let wall = &mut self.world.now.wall_ms;
        let before = *wall;
        *wall = if back { wall.saturating_sub(by).max(1_000) } else { *wall + by };
        // How long an id is known over such a jump depends on when its row went: it is not used again.
        self.era += u128::from(*wall < before);
    }

    fn opened(&mut self, clean: bool) {
        let now = self.now();
        self.model.queues.retain(|q| !q.id.is_transient());
        for q in &mut self.model.queues {
            q.crashed(now, clean);
        }
        self.moves.clear();
        self.seen_records = self.world.log.records.len();
        (self.kept_to, self.rows_kept_to) = (0, 0);
        self.check_others();
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
            0..22 => self.publish(),
            22..26 => self.transact(),
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
                // Once in a while so long that rows of ids go.
                let ms = if self.one_in(20) { 61_000 } else { self.dice.below(120) };
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

#[test]
fn the_same_seed_makes_the_same_records() {
    for seed in [3, 14, 15] {
        let records = || {
            let mut run = Run::new(seed);
            for _ in 0..120 {
                run.step();
            }
            run.world.log.records
        };
        assert_eq!(records(), records());
    }
}
