//! Random histories of a topic and its subscriptions: what is delivered, settled, lost and counted is the model's.

use std::collections::BTreeMap;

use millstream_engine::catalogue::Change;
use millstream_engine::op::Reply;
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_engine::queue::source::Start;
use millstream_testkit::seeds::{Dice, for_each_seed};
use millstream_types::{Lsn, ObjectId};

use super::{TOPIC, append, change_topic, creating, make_topic, partition, trim};
use crate::support::Logged;
use crate::world::{Bug, Passes, World, item, record_bytes, small_windows};

#[derive(Clone, Copy, Debug, PartialEq)]
enum St {
    Ready,
    Leased { until: u64, session: u64, bound: bool },
    Rest(u64),
    Exhausted,
    Held,
    Gone,
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Rec {
    is: St,
    deliveries: u16,
    attempts: u16,
    no: u32,
    marked: bool,
    recorded: (St, u16, u16),
    lsn: u64,
    passes: bool,
}

impl Rec {
    fn record(&mut self, is: St) {
        self.is = is;
        self.recorded = (is, self.deliveries, self.attempts);
    }
}

#[derive(Clone, Debug)]
struct Sub {
    id: ObjectId,
    name: String,
    policy: QueuePolicy,
    /// By partition and offset.
    recs: BTreeMap<(u16, u64), Rec>,
    riding: bool,
}

#[derive(Clone, Debug, Default)]
struct Model {
    subs: Vec<Sub>,
    /// Start and end of each partition.
    parts: Vec<(u64, u64)>,
    /// When each record was appended.
    lsns: BTreeMap<(u16, u64), u64>,
}

/// Queues with odd numbers filter.
fn filter(queue: ObjectId, lane: u16, offset: u64) -> Passes {
    match (queue.0 % 2, (offset * 7 + u64::from(lane)) % 11) {
        (1, 0..6) => Passes::No,
        (1, 6) => Passes::Unreadable,
        _ => Passes::Yes,
    }
}

struct Run {
    dice: Dice,
    world: World,
    model: Model,
    kept: Vec<(u64, Model)>,
    seen: usize,
    moves: Vec<MoveWork>,
    session: u64,
    consumers: BTreeMap<(u64, u64), (ObjectId, bool)>,
    made: u64,
    count: BTreeMap<&'static str, u64>,
}

impl Sub {
    fn failed(&mut self, at: (u16, u64)) {
        let exhausted = {
            let r = self.recs.get_mut(&at).unwrap();
            r.attempts += 1;
            self.policy.exhausted(r.attempts)
        };
        self.recs.get_mut(&at).unwrap().is = if exhausted { St::Exhausted } else { St::Ready };
    }
    fn finish(&mut self, at: (u16, u64)) {
        let held = self.policy.dead_letter;
        self.recs.get_mut(&at).unwrap().record(if held { St::Held } else { St::Gone });
    }
    fn timers(&mut self, now: u64) {
        let all: Vec<(u16, u64)> = self.recs.keys().copied().collect();
        for at in all {
            match self.recs[&at].is {
                St::Leased { until, .. } if until <= now => self.failed(at),
                St::Rest(until) if until <= now => self.recs.get_mut(&at).unwrap().is = St::Ready,
                _ => {}
            }
        }
    }
    fn exhausted(&mut self) {
        let all = self.recs.iter().filter(|r| r.1.is == St::Exhausted).map(|r| *r.0);
        for at in all.collect::<Vec<_>>() {
            self.finish(at);
        }
    }
    fn crashed(&mut self, now: u64, clean: bool) {
        let all: Vec<(u16, u64)> = self.recs.keys().copied().collect();
        for at in all {
            let r = self.recs.get_mut(&at).unwrap();
            (r.is, r.deliveries, r.attempts) = r.recorded;
            r.marked |= self.riding && !clean;
            match r.is {
                St::Leased { bound: true, .. } => self.failed(at),
                St::Leased { until, .. } => r.is = St::Leased { until, session: 0, bound: false },
                _ => {}
            }
        }
        self.timers(now);
    }
    fn n(&self, which: impl Fn(&Rec) -> bool) -> u64 {
        self.recs.values().filter(|r| which(r)).count() as u64
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        Self::with(seed, None)
    }

    fn with(seed: u64, bug: Option<Bug>) -> Self {
        let mut world = World::new(small_windows());
        world.bug = bug;
        world.filter = filter;
        make_topic(&mut world, 2);
        let model = Model { parts: vec![(0, 0); 2], ..Model::default() };
        let kept = vec![(world.log.last().0, model.clone())];
        let mut run = Self {
            dice: Dice::new(seed),
            world,
            model,
            kept,
            seen: 0,
            moves: Vec::new(),
            session: 10,
            consumers: BTreeMap::new(),
            made: 0,
            count: BTreeMap::new(),
        };
        run.make(Some(Start::Earliest));
        run.make(Some(Start::Earliest));
        run.world.sync();
        run
    }
    fn count(&mut self, what: &'static str) {
        *self.count.entry(what).or_default() += 1;
    }
    fn now(&self) -> u64 {
        self.world.now.wall_ms
    }
    fn end_op(&mut self) {
        for op in self.world.log.records[self.seen..].iter().flatten() {
            if let Logged::Retire { log, .. } | Logged::Trim { log, .. } = op {
                let of_topic = (0..self.model.parts.len()).any(|i| partition(&self.world, i) == *log);
                assert!(of_topic && matches!(op, Logged::Trim { .. }), "{op:?}");
            }
        }
        self.seen = self.world.log.records.len();
        let lsn = self.world.log.last().0;
        let last = self.kept.last_mut().unwrap();
        if last.0 == lsn {
            // Nothing of it was recorded.
            return;
        }
        self.kept.push((lsn, self.model.clone()));
    }

    fn make(&mut self, start: Option<Start>) {
        if self.model.subs.len() >= 4 {
            return;
        }
        let lsn = self.world.log.last().0 + 1;
        let mut policy = QueuePolicy { lease_ms: 1 + self.dice.below(300), ..QueuePolicy::default() };
        policy.attempts_max = *self.dice.of(&[None, Some(1), Some(3)]);
        policy.dead_letter = self.dice.once_in(2);
        let ends: Vec<(u64, u64)> = self.model.parts.clone();
        let start = start.unwrap_or_else(|| match self.dice.below(3) {
            0 => Start::Earliest,
            1 => Start::Latest,
            _ => Start::At(ends.iter().map(|e| self.dice.below(e.1 + 3)).collect()),
        });
        let name = format!("s{}", self.made);
        self.made += 1;
        let change = creating(&name, start.clone(), policy.clone());
        let QueueReply::Changed(Ok(defs)) = self.world.ask(1, QueueOp::Change(vec![change])) else {
            panic!("not made");
        };
        let mut sub = Sub { id: defs[0].id, name, policy, recs: BTreeMap::new(), riding: false };
        for (lane, (from, end)) in (0_u16..).zip(&ends) {
            let first = match &start {
                Start::Earliest => *from,
                Start::Latest => *end,
                Start::At(all) => all[usize::from(lane)].clamp(*from, *end),
            };
            for offset in first..*end {
                // What was appended before is visible with the record that made the subscription, or earlier.
                let lsn = self.model.lsns[&(lane, offset)].min(lsn);
                sub.add(lane, offset, lsn);
            }
        }
        self.model.subs.push(sub);
        self.count("made");
        self.end_op();
    }

    fn append(&mut self) {
        let index = self.dice.below(self.model.parts.len() as u64) as usize;
        let n = *self.dice.of(&[1, 1, 2, 5, 30]);
        append(&mut self.world, index, n);
        let lsn = self.world.log.last().0;
        let from = self.model.parts[index].1;
        for offset in from..from + u64::from(n) {
            self.model.lsns.insert((index as u16, offset), lsn);
            for sub in &mut self.model.subs {
                sub.add(index as u16, offset, lsn);
            }
        }
        self.model.parts[index].1 += u64::from(n);
        self.end_op();
    }

    fn trim(&mut self) {
        let index = self.dice.below(self.model.parts.len() as u64) as usize;
        let view = &self.world.engine.snapshot().by_uuid[&TOPIC].partitions[index];
        let (start, end) = (self.model.parts[index].0, view.visible_end());
        if end <= start {
            return;
        }
        let before = start + 1 + self.dice.below(end - start);
        trim(&mut self.world, index, before);
        self.model.parts[index].0 = before;
        for sub in &mut self.model.subs {
            for (_, r) in sub.recs.range_mut((index as u16, 0)..(index as u16, before)) {
                if r.is != St::Gone {
                    r.record(St::Lost);
                }
            }
        }
        self.count("trims");
        self.end_op();
    }

    fn grow(&mut self) {
        let total = self.model.parts.len() as u32 + 1;
        if total <= 4 {
            change_topic(&mut self.world, Change::AddPartitions { uuid: TOPIC, total }).unwrap();
            self.model.parts.push((0, 0));
            self.end_op();
        }
    }

    fn sub(&mut self) -> usize {
        self.dice.below(self.model.subs.len() as u64) as usize
    }

    fn receive(&mut self) {
        let s = self.sub();
        let queue = self.model.subs[s].id;
        let max = 1 + self.dice.below(8) as u32;
        let (auto_ack, ride) = (self.dice.once_in(4), self.dice.once_in(4));
        let lease = LeaseKind::Timed { lease_ms: None, owned: false };
        let what = Receive { lease, ride, auto_ack, ..Receive::now(queue, max) };
        let ticket = self.world.submit(3, QueueOp::Receive(what));
        self.world.tick();
        let got = self.world.received(ticket).expect("answered");
        let (now, durable) = (self.now(), self.world.durable.0);
        for s in &mut self.model.subs {
            s.timers(now);
            s.exhausted();
        }
        let empty = got.is_empty();
        // Consumers may have been served with it.
        let all: Vec<Delivery> = got.into_iter().chain(std::mem::take(&mut self.world.deliveries)).collect();
        let (until, consumers) = (now + self.model_lease(queue), self.consumers.clone());
        self.handed_out(all, |d| match consumers.get(&(d.session.0, d.consumer.0)) {
            Some((_, ride)) => (u64::MAX, d.session.0, true, false, *ride),
            None => (until, 0, false, auto_ack, ride),
        });
        let s = self.model.subs.iter().find(|x| x.id == queue).unwrap();
        let left = s.n(|r| r.is == St::Ready && r.passes && r.lsn <= durable);
        assert!(!empty || left == 0, "nothing received although {left} are ready");
        self.rest();
    }

    fn model_lease(&self, queue: ObjectId) -> u64 {
        self.model.subs.iter().find(|s| s.id == queue).unwrap().policy.lease_ms
    }

    fn handed_out(&mut self, all: Vec<Delivery>, how: impl Fn(&Delivery) -> (u64, u64, bool, bool, bool)) {
        let durable = self.world.durable.0;
        let hows: Vec<_> = all.iter().map(&how).collect();
        let mut last: BTreeMap<(ObjectId, u16), u64> = BTreeMap::new();
        for (d, (until, session, bound, auto_ack, ride)) in all.iter().zip(hows) {
            let sub = self.model.subs.iter_mut().find(|s| s.id == d.queue).expect("a subscription");
            let marked_redelivered = {
                let r = sub.recs.get_mut(&(d.lane, d.pos)).expect("a record");
                assert!(r.is == St::Ready && r.passes && r.lsn <= durable, "{d:?} {r:?}");
                let redelivered = r.deliveries > 0 || r.marked;
                r.deliveries += 1;
                assert_eq!((d.deliveries, d.attempts), (r.deliveries, r.attempts), "{d:?} {r:?}");
                assert_eq!(d.bytes, record_bytes(d.pos));
                if auto_ack {
                    r.record(St::Gone);
                } else {
                    assert!(d.delivery_no > r.no);
                    r.no = d.delivery_no;
                    r.record(St::Leased { until, session, bound });
                }
                redelivered
            };
            assert_eq!(d.redelivered, marked_redelivered, "{d:?}");
            sub.riding |= ride;
            let last = last.entry((d.queue, d.lane)).or_default();
            *last = (*last).max(d.pos);
            self.count("delivered");
        }
        for ((queue, lane), last) in last {
            let sub = self.model.subs.iter().find(|s| s.id == queue).unwrap();
            let before = sub.recs.range((lane, 0)..(lane, last));
            let left = before.filter(|r| r.1.is == St::Ready && r.1.passes).count();
            assert_eq!(left, 0, "of partition {lane} something before {last} was passed over");
        }
    }

    /// Ticks until nothing is left to do, and holds all against the model.
    fn rest(&mut self) {
        let now = self.now();
        self.world.tick();
        for s in &mut self.model.subs {
            s.timers(now);
            s.exhausted();
        }
        let all = std::mem::take(&mut self.world.deliveries);
        let consumers = self.consumers.clone();
        self.handed_out(all, |d| {
            (u64::MAX, d.session.0, true, false, consumers[&(d.session.0, d.consumer.0)].1)
        });
        self.moves.extend(std::mem::take(&mut self.world.moves));
        for i in 0..self.model.subs.len() {
            let (id, s) = (self.model.subs[i].id, self.model.subs[i].clone());
            let [ready, leased, scheduled, held, parked] = self.world.counts(id);
            let away = [
                s.n(|r| matches!(r.is, St::Leased { .. })),
                s.n(|r| matches!(r.is, St::Rest(_))),
                s.n(|r| r.is == St::Held),
                0,
            ];
            assert_eq!([leased, scheduled, held, parked], away, "{}", s.name);
            let (least, not) =
                (s.n(|r| r.is == St::Ready && r.passes), s.n(|r| !r.passes && r.is == St::Ready));
            assert!((least..=least + not).contains(&ready), "{}: {ready} of {least} + {not}", s.name);
            let lost = self.world.stats(id).topic.lost;
            let (least, not) =
                (s.n(|r| r.is == St::Lost && r.passes), s.n(|r| !r.passes && r.is == St::Lost));
            assert!((least..=least + not).contains(&lost), "{}: {lost} of {least} + {not} lost", s.name);
        }
        self.end_op();
    }

    fn settle(&mut self) {
        let s = self.sub();
        let all = self.model.subs[s].recs.iter();
        let leased: Vec<_> =
            all.filter(|r| matches!(r.1.is, St::Leased { .. })).map(|r| (*r.0, *r.1)).collect();
        if leased.is_empty() {
            return;
        }
        let (at, rec) = *self.dice.of(&leased);
        let St::Leased { until, session, bound } = rec.is else { return };
        let (now, queue) = (self.now(), self.model.subs[s].id);
        let verb = match self.dice.below(7) {
            0..3 => Verb::Ack,
            3 => Verb::Reject,
            4 => Verb::Release { failed: true, delay_ms: None },
            5 => Verb::Release { failed: true, delay_ms: Some(40) },
            _ => Verb::Undelivered,
        };
        let by = if bound { session } else { 5 };
        let (lane, pos) = at;
        let item = SettleItem { queue, lane, pos, len: 1, delivery_no: rec.no, verb };
        let QueueReply::Settled { errors } = self.world.ask(by, QueueOp::Settle(vec![item])) else {
            panic!()
        };
        if until <= now {
            assert_eq!(errors, [(0, SettleError::Expired)]);
            return;
        }
        assert_eq!(errors, []);
        let sub = &mut self.model.subs[s];
        match verb {
            Verb::Reject => sub.finish(at),
            Verb::Release { delay_ms, .. } => {
                let r = sub.recs.get_mut(&at).unwrap();
                r.attempts += 1;
                let exhausted = sub.policy.exhausted(r.attempts);
                r.record(delay_ms.map_or(St::Ready, |d| St::Rest(now + d)));
                if exhausted {
                    sub.finish(at);
                }
            }
            Verb::Undelivered => {
                let r = sub.recs.get_mut(&at).unwrap();
                r.deliveries -= 1;
                r.record(St::Ready);
            }
            _ => sub.recs.get_mut(&at).unwrap().record(St::Gone),
        }
        self.count("settled");
        self.end_op();
    }

    fn mover(&mut self) {
        let Some(MoveWork { queue, lane, pos, delivery_no, cause, .. }) = self.moves.pop() else { return };
        let item = MoveItem { queue, lane, pos, delivery_no, then: MoveThen::Drop(cause) };
        let reply = self.world.ask(1, QueueOp::Move(vec![item]));
        let sub = self.model.subs.iter_mut().find(|s| s.id == queue);
        let rec = sub.and_then(|s| s.recs.get_mut(&(lane, pos))).filter(|r| r.is == St::Held);
        let result = if rec.is_some() { Ok(()) } else { Err(MoveError::NotHeld) };
        assert_eq!(reply, QueueReply::Moved(vec![result]));
        rec.into_iter().for_each(|r| r.record(St::Gone));
        self.count("moved");
        self.end_op();
    }

    fn consumer(&mut self) {
        if self.consumers.len() > 3 {
            // One goes, and what it had comes back.
            let (session, _) = *self.consumers.first_key_value().unwrap().0;
            self.consumers.retain(|k, _| k.0 != session);
            self.world.gone(session);
            for s in &mut self.model.subs {
                let its =
                    |r: &Rec| matches!(r.is, St::Leased { session: x, bound: true, .. } if x == session);
                let all: Vec<_> = s.recs.iter().filter(|r| its(r.1)).map(|r| *r.0).collect();
                all.into_iter().for_each(|at| s.failed(at));
            }
            return;
        }
        let s = self.sub();
        let (queue, ride) = (self.model.subs[s].id, self.dice.once_in(3));
        self.session += 1;
        let prefetch = 1 + self.dice.below(5) as u32;
        let opts = ConsumerOpts { ride, prefetch, ..crate::world::PUSH };
        self.world.subscribe(self.session, 1, queue, opts);
        self.consumers.insert((self.session, 1), (queue, ride));
    }

    fn purge(&mut self) {
        let s = self.sub();
        let keep_leased = self.dice.once_in(2);
        let sub = &mut self.model.subs[s];
        let (mut n, mut not) = (0, 0);
        for r in sub.recs.values_mut() {
            let stays = match r.is {
                St::Leased { .. } => keep_leased,
                St::Held | St::Gone | St::Lost => true,
                _ => false,
            };
            if !stays {
                n += u64::from(r.passes);
                not += u64::from(!r.passes);
                r.record(St::Gone);
            }
        }
        let queue = sub.id;
        let reply = self.world.ask(1, QueueOp::Purge { queue, keep_leased });
        let QueueReply::Purged(Some(told)) = reply else { panic!("{reply:?}") };
        assert!((n..=n + not).contains(&told), "{told} of {n} + {not} purged");
        self.count("purges");
        self.end_op();
    }

    fn delete(&mut self) {
        if self.model.subs.len() < 3 {
            return;
        }
        let s = self.sub();
        let sub = self.model.subs.remove(s);
        let change = QueueChange::Delete { id: sub.id, if_unused: false, if_empty: false, if_idle: false };
        let reply = self.world.ask(1, QueueOp::Change(vec![change]));
        assert!(matches!(reply, QueueReply::Changed(Ok(_))));
        self.consumers.retain(|_, c| c.0 != sub.id);
        self.world.answers.retain(|a| !matches!(a.reply, Reply::Queue(QueueReply::Received(_))));
        self.end_op();
    }

    fn crash(&mut self, clean: bool) {
        let now = self.now();
        if clean {
            self.world.restart_cleanly();
        } else {
            let durable = self.world.durable.0;
            let (lsn, model) = self.kept.iter().rev().find(|k| k.0 <= durable).unwrap().clone();
            assert_eq!(lsn, durable, "durable is where an operation ended");
            self.model = model;
            self.kept.retain(|k| k.0 <= durable);
            let floor = self.world.store.floor;
            self.world.crash(floor);
        }
        self.seen = self.world.log.records.len();
        self.model.subs.iter_mut().for_each(|s| s.crashed(now, clean));
        self.consumers.clear();
        self.moves.clear();
        self.count("openings");
        self.rest();
    }

    fn step(&mut self) {
        match self.dice.below(100) {
            0..22 => self.append(),
            22..40 => self.receive(),
            40..62 => self.settle(),
            62..68 => self.mover(),
            68..74 => self.consumer(),
            74..77 => self.trim(),
            77 => self.grow(),
            78 => self.make(None),
            79 => self.delete(),
            80 => self.purge(),
            81..86 => {
                let ms = *self.dice.of(&[5, 60, 1_200]);
                self.world.later(ms);
            }
            86..90 => {
                let durable = self.world.durable.0;
                let after: Vec<u64> = self.kept.iter().map(|k| k.0).filter(|l| *l >= durable).collect();
                let lsn = *self.dice.of(&after);
                self.world.durable_to(Lsn(lsn));
            }
            90..93 => drop(self.world.store.offer(&mut self.world.engine, 3)),
            93..95 => {
                let id = self.world.store.commit(self.world.durable, 2);
                self.world.engine.flushed(id);
            }
            95..97 => self.world.sync(),
            97 => self.crash(true),
            _ => self.crash(false),
        }
        if self.dice.once_in(2) {
            self.rest();
        }
    }

    /// Everything that is left is received and acknowledged.
    fn drain(&mut self) {
        for session in self.consumers.keys().map(|k| k.0).collect::<Vec<_>>() {
            self.world.gone(session);
        }
        self.consumers.clear();
        let durable = self.world.log.last();
        self.end_op();
        self.world.durable_to(durable);
        self.crash(false);
        for i in 0..self.model.subs.len() {
            let queue = self.model.subs[i].id;
            loop {
                self.world.later(2_000);
                self.world.settle_down();
                let got = self.world.receive(8, crate::world::pull(queue, 40));
                let now = self.now();
                let sub = &mut self.model.subs[i];
                sub.timers(now);
                sub.exhausted();
                for d in &got {
                    let r = sub.recs.get_mut(&(d.lane, d.pos)).unwrap();
                    assert!(r.is == St::Ready && r.passes, "{d:?} {r:?}");
                    r.is = St::Gone;
                    let reply = self.world.ask(8, QueueOp::Settle(vec![item(d, Verb::Ack)]));
                    assert_eq!(reply, QueueReply::Settled { errors: Vec::new() });
                }
                if got.is_empty() {
                    break;
                }
            }
            let sub = &self.model.subs[i];
            assert_eq!(sub.n(|r| r.passes && !matches!(r.is, St::Gone | St::Lost | St::Held)), 0);
            let held = sub.n(|r| r.is == St::Held);
            assert_eq!(self.world.counts(queue), [0, 0, 0, held, 0]);
        }
    }
}

impl Sub {
    fn add(&mut self, lane: u16, offset: u64, lsn: u64) {
        let (is, passes) = (St::Ready, filter(self.id, lane, offset) == Passes::Yes);
        let recorded = (St::Ready, 0, 0);
        let rec = Rec { is, deliveries: 0, attempts: 0, no: 0, marked: false, recorded, lsn, passes };
        self.recs.insert((lane, offset), rec);
    }
}

#[test]
fn a_history_of_subscriptions_with_crashes_is_the_models() {
    let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
    for_each_seed(50, |seed| {
        let mut run = Run::new(seed);
        for _ in 0..200 {
            run.step();
        }
        run.rest();
        run.drain();
        for (what, n) in run.count {
            *all.entry(what).or_default() += n;
        }
    });
    eprintln!("{all:?}");
    assert!(["delivered", "trims", "openings", "moved", "purges"].iter().all(|w| all[w] > 50), "{all:?}");
}

#[test]
fn a_broken_promise_is_noticed() {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    for bug in [Bug::ShowsEarly, Bug::LosesDelivery, Bug::DeliversTwice, Bug::ForgetsEffects, Bug::NeverMarks]
    {
        let caught = (0..20).any(|seed| {
            let run = || {
                let mut run = Run::with(seed, Some(bug));
                for _ in 0..200 {
                    run.step();
                }
                run.rest();
                run.drain();
            };
            catch_unwind(AssertUnwindSafe(run)).is_err()
        });
        assert!(caught, "{bug:?}");
    }
}
