//! An engine with a log, a store and a reader in memory, and what sessions see of it.

use bytes::Bytes;
use millstream_engine::op::{Answer, Draft, Effects, Now, Op, Reply, Ticket};
use millstream_engine::queue::WindowSizes;
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::QueuePolicy;
use millstream_engine::queue::source::{Record, Records, RecordsRead};
use millstream_engine::{Engine, EngineConfig};
use millstream_types::{ConnId, LogId, Lsn, Namespace, ObjectId};

use crate::support::{FakeLog, FakeStore, open, open_clean, open_with};

/// A promise broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The engine is told that what is sequenced is durable.
    ShowsEarly,
    /// One delivery in five does not arrive.
    LosesDelivery,
    /// One delivery in five arrives twice.
    DeliversTwice,
    /// Replay does not see one effect in seven.
    ForgetsEffects,
    /// An opening after a crash is said to be one after a clean stop.
    NeverMarks,
    /// Readers find one entry less.
    TrimsMore,
    /// The engine does not hear of time.
    NoTime,
    /// The engine does not hear of keys.
    NoKeys,
}

pub struct World {
    pub bug: Option<Bug>,
    delivered: u64,
    pub cfg: EngineConfig,
    pub engine: Engine,
    pub log: FakeLog,
    pub store: FakeStore,
    pub now: Now,
    pub epoch: u64,
    pub durable: Lsn,
    pub tickets: u64,
    /// Since they were last taken.
    pub deliveries: Vec<Delivery>,
    pub answers: Vec<Answer>,
    pub moves: Vec<MoveWork>,
    pub unused: Vec<Unused>,
    pub reads: Vec<ReadWindow>,
    /// Entries that readers found.
    pub entries_read: usize,
    /// Whether reads are answered.
    pub reading: bool,
    /// Whether sockets take what is delivered.
    pub taking: bool,
    /// What subscriptions leave out.
    pub filter: fn(ObjectId, u16, u64) -> Passes,
}

/// What a subscription's reader makes of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    Yes,
    No,
    Unreadable,
}

/// Payload bytes of the record at an offset.
pub fn record_bytes(offset: u64) -> u32 {
    3 + (offset % 5) as u32
}

pub fn small_windows() -> EngineConfig {
    let queue_windows = WindowSizes { window: 16, tail: 64, due: 64, aside: 3, keys_bytes: 2_000 };
    // Clocks that are set do not take offsets away.
    EngineConfig {
        queue_windows,
        offsets_retention_ms: u64::MAX / 4,
        queue_rest_ms: 0,
        ..EngineConfig::default()
    }
}

impl World {
    pub fn new(cfg: EngineConfig) -> Self {
        Self::seeded(cfg, FakeStore::new())
    }
    pub fn seeded(cfg: EngineConfig, store: FakeStore) -> Self {
        let log = FakeLog::default();
        let now = Now { wall_ms: 1_000_000, mono_ms: 50 };
        let engine = open(cfg, &store, &log, 1, 1, now);
        Self {
            bug: None,
            delivered: 0,
            cfg,
            engine,
            log,
            store,
            now,
            epoch: 1,
            durable: Lsn(0),
            tickets: 0,
            deliveries: Vec::new(),
            answers: Vec::new(),
            moves: Vec::new(),
            unused: Vec::new(),
            reads: Vec::new(),
            entries_read: 0,
            reading: true,
            taking: true,
            filter: |_, _, _| Passes::Yes,
        }
    }

    pub fn later(&mut self, ms: u64) {
        self.now = Now { wall_ms: self.now.wall_ms + ms, mono_ms: self.now.mono_ms + ms };
    }

    pub fn take(&mut self, out: Effects) {
        if self.taking {
            for d in &out.deliveries {
                let bytes = u64::from(d.bytes) + millstream_engine::queue::DELIVERY_BYTES;
                self.engine.handed_over(d.session, bytes);
            }
        }
        for d in out.deliveries {
            self.delivered += 1;
            let fifth = self.delivered.is_multiple_of(5);
            if !(fifth && self.bug == Some(Bug::LosesDelivery)) {
                self.deliveries.push(d);
            }
            if fifth && self.bug == Some(Bug::DeliversTwice) {
                self.deliveries.push(d);
            }
        }
        self.answers.extend(out.answers);
        self.moves.extend(out.moves);
        self.unused.extend(out.unused);
        self.reads.extend(out.reads);
    }

    /// Submits an operation; its answer is among `answers`, now or later.
    pub fn submit(&mut self, session: u64, op: QueueOp) -> Ticket {
        self.submit_any(session, Op::Queue(op))
    }

    fn submit_any(&mut self, session: u64, mut op: Op) -> Ticket {
        if self.bug == Some(Bug::NoKeys)
            && let Op::Queue(QueueOp::Publish(all)) = &mut op
        {
            all.iter_mut().for_each(|p| p.key_hash = None);
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let permit = Some(self.log.permit());
        let draft = Draft { session: ConnId(session), ticket, op, permit };
        let mut out = Effects::default();
        self.engine.input(self.now, draft, &mut self.log, &mut out);
        self.take(out);
        ticket
    }

    /// Submits an operation that is answered at once.
    pub fn ask(&mut self, session: u64, op: QueueOp) -> QueueReply {
        match self.ask_any(session, Op::Queue(op)) {
            Reply::Queue(reply) => reply,
            other => panic!("{other:?}"),
        }
    }
    pub fn ask_any(&mut self, session: u64, op: Op) -> Reply {
        let ticket = self.submit_any(session, op);
        let i = self.answers.iter().position(|a| a.ticket == ticket).expect("an answer at once");
        self.answers.remove(i).reply
    }

    pub fn gone(&mut self, session: u64) {
        let mut out = Effects::default();
        self.engine.session_gone(self.now, ConnId(session), &mut self.log, &mut out);
        self.take(out);
    }

    pub fn sync(&mut self) {
        self.durable_to(self.log.last());
    }

    pub fn durable_to(&mut self, lsn: Lsn) {
        self.durable = lsn;
        self.engine.durable(lsn);
    }

    pub fn read(&mut self) {
        for asked in std::mem::take(&mut self.reads) {
            if asked.log != log_of(asked.queue, asked.lane) {
                self.read_records(asked);
                continue;
            }
            let mut heads = self.log.heads(asked.log, asked.from, asked.end, asked.max_entries);
            if self.bug == Some(Bug::TrimsMore) {
                heads.pop();
            }
            self.entries_read += heads.len();
            let heads = Ok(heads);
            self.engine.window_read(self.now, WindowRead { asked, heads });
        }
    }

    /// Takes records out of their batches as the broker does.
    fn read_records(&mut self, asked: ReadWindow) {
        let (mut records, mut next) = (Records { next: asked.end, ..Records::default() }, asked.from);
        for (pos, count, enqueued_ms) in self.log.entries(asked.log, asked.end) {
            for offset in (pos..pos + u64::from(count)).filter(|o| (asked.from..asked.end).contains(o)) {
                if records.taken.len() >= asked.max_entries {
                    records.next = next;
                    break;
                }
                next = offset + 1;
                self.entries_read += 1;
                match (self.filter)(asked.queue, asked.lane, offset) {
                    Passes::Yes => {
                        let bytes = record_bytes(offset);
                        records.taken.push(Record { offset, bytes, enqueued_ms, expiry_ms: None });
                    }
                    Passes::No => {}
                    Passes::Unreadable => records.unreadable.push((offset, offset + 1)),
                }
            }
        }
        self.engine.records_read(self.now, RecordsRead { asked, records: Ok(records) });
    }

    pub fn tick_once(&mut self) {
        let mut out = Effects::default();
        if self.bug == Some(Bug::ShowsEarly) {
            self.engine.durable(self.log.last());
        }
        if self.bug == Some(Bug::NoTime) {
            self.engine.tick(Now { wall_ms: 1_000_000, ..self.now }, &mut self.log, &mut out);
            return self.take(out);
        }
        self.engine.tick(self.now, &mut self.log, &mut out);
        self.take(out);
    }

    /// Ticks until nothing is left to do now.
    pub fn tick(&mut self) {
        for _ in 0..10_000 {
            self.tick_once();
            if self.reading {
                self.read();
            }
            let due = self.engine.next_timer().is_some_and(|t| t <= self.now.mono_ms);
            if !self.log.room || !due && self.reads.is_empty() {
                return;
            }
            if !self.reading && !due {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Everything sequenced is durable, and everything that follows from it is done.
    pub fn settle_down(&mut self) {
        for _ in 0..3 {
            self.sync();
            self.tick();
        }
    }

    fn forget(&mut self) {
        self.deliveries.clear();
        self.answers.clear();
        self.moves.clear();
        self.unused.clear();
        self.reads.clear();
    }

    /// A crash that keeps the records up to `durable`.
    pub fn crash(&mut self, floor: u64) {
        self.store.crash();
        self.log.cut(self.durable);
        self.epoch += 1;
        self.forget();
        self.engine = match self.bug {
            Some(Bug::NeverMarks) => {
                open_with(self.cfg, &self.store, &self.log, floor, self.epoch, self.now, true, None)
            }
            Some(Bug::ForgetsEffects) => {
                open_with(self.cfg, &self.store, &self.log, floor, self.epoch, self.now, false, Some(7))
            }
            _ => open(self.cfg, &self.store, &self.log, floor, self.epoch, self.now),
        };
        self.durable = self.log.last();
    }

    pub fn flush(&mut self) {
        self.sync();
        while self.store.offer(&mut self.engine, 7) > 0 {}
        let id = self.store.commit(self.durable, usize::MAX);
        self.engine.flushed(id);
    }

    pub fn restart_cleanly(&mut self) {
        self.flush();
        self.log.stop();
        self.epoch += 1;
        self.forget();
        self.engine = open_clean(self.cfg, &self.store, &self.log, self.epoch, self.now);
    }

    // What tests by hand use.

    pub fn create(&mut self, name: &str, policy: QueuePolicy) -> ObjectId {
        let change = create(name, policy);
        match self.ask(1, QueueOp::Change(vec![change])) {
            QueueReply::Changed(Ok(defs)) => defs[0].id,
            other => panic!("{other:?}"),
        }
    }
    pub fn publish(&mut self, message: Publish) -> Published {
        match self.ask(1, QueueOp::Publish(vec![message])) {
            QueueReply::Published(mut all) => all.remove(0),
            other => panic!("{other:?}"),
        }
    }
    /// Publishes `n` messages, durably.
    pub fn fill(&mut self, queue: ObjectId, n: usize) {
        for _ in 0..n {
            assert_eq!(self.publish(message(&[queue])).accepted, 1);
        }
        self.settle_down();
    }
    /// Publishes a message for each key, in one operation.
    pub fn fill_keys(&mut self, queue: ObjectId, keys: impl IntoIterator<Item = u64>) {
        let each = |key| Publish { key_hash: Some(key), ..message(&[queue]) };
        let reply = self.ask(1, QueueOp::Publish(keys.into_iter().map(each).collect()));
        assert!(matches!(reply, QueueReply::Published(_)));
        self.settle_down();
    }
    pub fn subscribe(&mut self, session: u64, consumer: u64, queue: ObjectId, opts: ConsumerOpts) {
        let consumer = ConsumerId(consumer);
        let reply = self.ask(session, QueueOp::Subscribe { queue, consumer, opts });
        assert_eq!(reply, QueueReply::Subscribed(Ok(())));
    }
    /// Takes what was delivered as (session, position, redelivered).
    pub fn got(&mut self) -> Vec<(u64, u64, bool)> {
        self.deliveries.drain(..).map(|d| (d.session.0, d.pos, d.redelivered)).collect()
    }
    pub fn receive(&mut self, session: u64, what: Receive) -> Vec<Delivery> {
        let ticket = self.submit(session, QueueOp::Receive(what));
        self.tick();
        self.received(ticket).expect("answered")
    }
    /// So many messages, in as many receives as it takes: one gives what is in memory.
    pub fn receive_all(&mut self, session: u64, queue: ObjectId, n: usize) -> Vec<Delivery> {
        let mut all = Vec::new();
        while all.len() < n {
            let more = self.receive(session, pull(queue, (n - all.len()) as u32));
            assert!(!more.is_empty(), "{} of {n}", all.len());
            all.extend(more);
        }
        all
    }
    pub fn received(&mut self, ticket: Ticket) -> Option<Vec<Delivery>> {
        let i = self.answers.iter().position(|a| a.ticket == ticket)?;
        match self.answers.remove(i).reply {
            Reply::Queue(QueueReply::Received(Ok(all))) => Some(all),
            other => panic!("{other:?}"),
        }
    }
    pub fn settle(&mut self, d: &Delivery, verb: Verb) -> Result<(), SettleError> {
        self.settle_as(d.session.0, d, verb)
    }
    pub fn settle_as(&mut self, session: u64, d: &Delivery, verb: Verb) -> Result<(), SettleError> {
        match self.ask(session, QueueOp::Settle(vec![item(d, verb)])) {
            QueueReply::Settled { errors } => errors.first().map_or(Ok(()), |e| Err(e.1)),
            other => panic!("{other:?}"),
        }
    }
    pub fn stats(&mut self, queue: ObjectId) -> QueueStats {
        match self.ask(1, QueueOp::Stats { queue, touch: false, durable: true }) {
            QueueReply::Stats(Some(s)) => s,
            other => panic!("{other:?}"),
        }
    }
    /// (ready, leased, scheduled, held, parked).
    pub fn counts(&mut self, queue: ObjectId) -> [u64; 5] {
        let s = self.stats(queue);
        assert_eq!(
            s.appended.n,
            s.settled.n + s.ready.n + s.leased.n + s.scheduled.n + s.held.n + s.parked.n
        );
        [s.ready.n, s.leased.n, s.scheduled.n, s.held.n, s.parked.n]
    }
}

pub fn create(name: &str, policy: QueuePolicy) -> QueueChange {
    let (ns, name) = (Namespace::DEFAULT, name.to_owned());
    QueueChange::Create { ns, name, policy, settings: Default::default(), source: None, transient: false }
}

/// One that does not outlive the process.
pub fn create_transient(name: &str, policy: QueuePolicy) -> QueueChange {
    let (ns, name) = (Namespace::DEFAULT, name.to_owned());
    QueueChange::Create { ns, name, policy, settings: Default::default(), source: None, transient: true }
}

pub fn message(to: &[ObjectId]) -> Publish {
    Publish {
        to: to.iter().map(|q| Target::from(*q)).collect(),
        transient: false,
        priority: 0,
        expiry_ms: None,
        key_hash: None,
        origin: None,
        dedup: None,
        envelope_len: 2,
        max_ts_ms: -1,
        body: vec![Bytes::from_static(b"ee"), Bytes::from_static(b"payload")],
    }
}

pub fn item(d: &Delivery, verb: Verb) -> SettleItem {
    SettleItem { queue: d.queue, lane: d.lane, pos: d.pos, len: 1, delivery_no: d.delivery_no, verb }
}

pub const PUSH: ConsumerOpts = ConsumerOpts {
    lease: LeaseKind::Bound,
    ride: true,
    auto_ack: false,
    prefetch: 0,
    credit: None,
    priority: 0,
    exclusive: false,
};

pub fn pull(queue: ObjectId, max: u32) -> Receive {
    Receive {
        lease: LeaseKind::Timed { lease_ms: None, owned: false },
        ride: false,
        ..Receive::now(queue, max)
    }
}

pub fn log_of(queue: ObjectId, lane: u16) -> LogId {
    LogId::new(queue, lane)
}
