//! The sequencer's thread: takes what sessions submitted, has the engine decide it, and gives answers back.
//!
//! Start at [`Sequencer::step`], one turn. The thread around it ([`run`]) only waits. Nothing here does I/O: the log's committer
//! does, and says through [`Inbox::nudge`] that it came further.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use millstream_engine::Engine;
use millstream_engine::catalogue::Snapshot;
use millstream_engine::op::{Commits, Draft, Effects, Now, Op, Reply, Ticket};
use millstream_engine::queue::api::{
    Delivery, MoveWork, QueueChange, QueueError, QueueOp, QueueReply, ReadWindow, SettleItem, Unused, Verb,
    WindowRead,
};
use millstream_engine::queue::directory::Directory;
use millstream_engine::queue::source::RecordsRead;
use millstream_log::{Class, Gate, Permit, Sequence, StateSink, Watermarks};
use millstream_types::{ConnId, Lsn, Namespace};
use tokio::sync::watch;

use crate::consume::{settle_bytes, settle_item};
use crate::mailbox::{Mailbox, Published};
use crate::mover::Moves;
use crate::routing::{Builder, Routes};
use crate::time::BrokerClock;
use crate::transient::TransientLogs;
use crate::tray::Tray;

/// Drafts decided in one turn.
pub(crate) const TURN_DRAFTS_MAX: usize = 64;
/// Longest wait of an idle sequencer, milliseconds; only a bound: it is woken for whatever happens.
const IDLE_WAIT_MS: u64 = 1_000;
/// When the engine wants room that is not there, or more timers are due than one turn takes, it tries again so soon.
const RETRY_WAIT_MS: u64 = 1;

/// Messages given back in one record.
const GIVE_BACK_MAX: usize = 1_024;
/// No session waits for an answer to this.
const NOBODYS: Ticket = Ticket(0);
/// No session.
const NOBODY: ConnId = ConnId(0);
/// Room to remove a queue with few bindings.
const REMOVE_BYTES: usize = 16 << 10;

/// What comes in.
#[derive(Debug)]
pub(crate) enum Input {
    /// A session begins.
    Open(Arc<Mailbox>),
    /// An operation.
    Draft(Draft),
    /// A session ended; ordered behind its drafts.
    Gone(ConnId),
    /// Heads that a queue wanted read.
    Window(WindowRead),
    /// Records that a subscription wanted read.
    Records(RecordsRead),
    /// A session's socket took so many bytes of deliveries.
    HandedOver(ConnId, u64),
    /// Messages that were handed out and reached nobody.
    Undelivered(Vec<Delivery>),
}

impl Input {
    /// Nobody will take it. A session that was known before is told of the end by itself.
    fn lose(self) {
        if let Self::Open(mailbox) = self {
            mailbox.lose();
        }
    }
}

#[derive(Debug, Default)]
struct Waiting {
    inputs: Vec<Input>,
    signal: bool,
    stop: bool,
    /// Nobody takes anything out any more.
    ended: bool,
}

/// Where sessions put inputs and the log its news.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Adds an input. Never waits; bounded by what sessions may have in flight.
    pub(crate) fn put(&self, input: Input) {
        let mut w = self.lock();
        if w.ended {
            drop(w);
            return input.lose();
        }
        w.inputs.push(input);
        let first = w.inputs.len() == 1;
        drop(w);
        if first {
            self.arrived.notify_one();
        }
    }
    /// From the log: a write became durable, or a slice of rows is wanted.
    pub(crate) fn nudge(&self) {
        self.lock().signal = true;
        self.arrived.notify_one();
    }
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.arrived.notify_one();
    }
    /// The sequencer is gone: what waits is lost, and what comes.
    fn end(&self) {
        let mut w = self.lock();
        w.ended = true;
        let left = std::mem::take(&mut w.inputs);
        drop(w);
        left.into_iter().for_each(Input::lose);
    }
    /// Waits for something to do, at most `wait_ms`. True: stop.
    fn take(&self, inputs: &mut Vec<Input>, wait_ms: u64) -> bool {
        let mut w = self.lock();
        if w.inputs.is_empty() && !w.signal && !w.stop && wait_ms > 0 {
            w = match self.arrived.wait_timeout(w, Duration::from_millis(wait_ms)) {
                Ok((g, _)) => g,
                Err(e) => e.into_inner().0,
            };
        }
        w.signal = false;
        std::mem::swap(&mut w.inputs, inputs);
        w.stop
    }
}

/// What the sequencer shares with sessions and the broker's tasks.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) published: Arc<Published>,
    pub(crate) clock: BrokerClock,
    pub(crate) directory: Arc<Directory>,
    /// Heads that queues want read: at most one of each lane.
    pub(crate) reads: Tray<ReadWindow>,
    /// Messages for the mover: the engine gives a bounded number of each queue.
    pub(crate) moves: Tray<MoveWork>,
    /// Queues that should go.
    pub(crate) unused: Tray<Unused>,
    /// Owners that went: their queues go with them.
    pub(crate) owners: Tray<u64>,
    /// Names of the queues that each owner has, or may have soon.
    pub(crate) owned: Mutex<HashMap<u64, Vec<(Namespace, String)>>>,
    pub(crate) moved: Arc<Moves>,
    /// Ids of messages that are remembered.
    pub(crate) ids: AtomicUsize,
    /// Messages of queues that are in memory only.
    pub(crate) transient: TransientLogs,
    pub(crate) catalogue: RwLock<Arc<Snapshot>>,
    pub(crate) routes: RwLock<Arc<Routes>>,
    /// Topics changed.
    pub(crate) catalogue_changed: watch::Sender<()>,
    /// Topics, queues, exchanges or bindings changed.
    pub(crate) changed: watch::Sender<()>,
    pub(crate) inbox: Inbox,
}

impl Shared {
    pub(crate) fn new(clock: BrokerClock, directory: Arc<Directory>, transient_bytes_max: u64) -> Self {
        Self {
            transient: TransientLogs::new(transient_bytes_max),
            published: Arc::default(),
            clock,
            directory,
            reads: Tray::default(),
            moves: Tray::default(),
            unused: Tray::default(),
            owners: Tray::default(),
            owned: Mutex::default(),
            moved: Arc::default(),
            ids: AtomicUsize::new(0),
            catalogue: RwLock::default(),
            routes: RwLock::default(),
            catalogue_changed: watch::Sender::default(),
            changed: watch::Sender::default(),
            inbox: Inbox::default(),
        }
    }
    pub(crate) fn catalogue(&self) -> Arc<Snapshot> {
        Arc::clone(&self.catalogue.read().unwrap_or_else(PoisonError::into_inner))
    }
    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }
    pub(crate) fn set_routes(&self, routes: Arc<Routes>) {
        // The last ones may be long: whoever lets go of them last does so without the lock.
        let last =
            std::mem::replace(&mut *self.routes.write().unwrap_or_else(PoisonError::into_inner), routes);
        drop(last);
        self.changed.send_replace(());
    }
    pub(crate) fn set_catalogue(&self, snapshot: Arc<Snapshot>) {
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.catalogue_changed.send_replace(());
        self.changed.send_replace(());
    }
}

/// The engine's way to the log.
struct Room<'a> {
    sequence: &'a mut dyn Sequence,
    gate: &'a Gate,
    transient: &'a TransientLogs,
}

impl<'a> Room<'a> {
    fn of(sequence: &'a mut Box<dyn Sequence>, gate: &'a Gate, shared: &'a Shared) -> Self {
        Self { sequence: &mut **sequence, gate, transient: &shared.transient }
    }
}

impl Commits for Room<'_> {
    // The log tells nobody but this thread: it lets readers see a record before its session is woken.
    fn commit(&mut self, permit: Permit, ops: &[millstream_log::Op<'_>], _: Option<ConnId>) -> Lsn {
        self.sequence.sequence(permit, ops, None)
    }
    fn keep(&mut self, ops: &[millstream_log::Op<'_>]) {
        self.transient.keep(ops);
    }
    fn spare(&mut self, bytes: usize) -> Option<Permit> {
        self.gate.try_admit(Class::Settle, bytes).ok()
    }
    fn op_bytes_max(&self) -> usize {
        self.gate.op_bytes_max()
    }
}

/// Everything the sequencer's thread owns.
pub(crate) struct Sequencer {
    pub(crate) engine: Engine,
    pub(crate) sequence: Box<dyn Sequence>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) marks: Arc<dyn Watermarks>,
    pub(crate) sink: Arc<dyn StateSink>,
    pub(crate) shared: Arc<Shared>,
    routes: Builder,
    sessions: HashMap<ConnId, Arc<Mailbox>>,
    /// Sessions with answers or deliveries that wait for an LSN, ascending.
    waiting: VecDeque<(Lsn, Arc<Mailbox>)>,
    woken: Vec<Arc<Mailbox>>,
    effects: Effects,
    /// Messages that were handed out and reached nobody, to be given back. Bounded by what was leased.
    undelivered: Vec<Delivery>,
    lost: bool,
}

impl Sequencer {
    pub(crate) fn new(
        engine: Engine,
        sequence: Box<dyn Sequence>,
        gate: Arc<Gate>,
        marks: Arc<dyn Watermarks>,
        sink: Arc<dyn StateSink>,
        shared: Arc<Shared>,
    ) -> Self {
        let sessions = HashMap::new();
        let routes = Builder::of(engine.exchanges(), engine.bindings());
        shared.set_routes(routes.routes());
        Self {
            routes,
            engine,
            sequence,
            gate,
            marks,
            sink,
            shared,
            sessions,
            waiting: VecDeque::new(),
            woken: Vec::new(),
            effects: Effects::default(),
            undelivered: Vec::new(),
            lost: false,
        }
    }

    /// One turn: what became durable is published, inputs are decided in order, timers run, answers go out, rows are offered.
    pub(crate) fn step(&mut self, inputs: &mut Vec<Input>) {
        let now = self.shared.clock.now();
        self.publish();
        let mut inputs = inputs.drain(..).peekable();
        while inputs.peek().is_some() {
            for input in inputs.by_ref().take(TURN_DRAFTS_MAX) {
                self.input(now, input);
            }
            self.remove_unused(now);
            self.sequence.end_turn();
            self.answer();
        }
        if !self.lost {
            self.give_back(now);
            let mut room = Room::of(&mut self.sequence, &self.gate, &self.shared);
            self.engine.tick(now, &mut room, &mut self.effects);
        }
        self.sequence.end_turn();
        self.answer();
        self.shared.ids.store(self.engine.ids_remembered(), Ordering::Relaxed);
        self.offer_rows();
    }

    /// Queues that go with their last consumer go before whoever ended it is answered. Where there is no room now, a task sees to it.
    fn remove_unused(&mut self, now: Now) {
        let mut unused = std::mem::take(&mut self.effects.unused);
        unused.retain(|what| match what {
            Unused::LastConsumer(id) if !self.lost => {
                let change =
                    QueueChange::Delete { id: *id, if_unused: true, if_empty: false, if_idle: false };
                !matches!(self.change(now, vec![change], REMOVE_BYTES), Some(Ok(())))
            }
            _ => true,
        });
        self.effects.unused = unused;
    }

    /// Changes queues at once. `None`: there is no room.
    fn change(&mut self, now: Now, changes: Vec<QueueChange>, room: usize) -> Option<Result<(), QueueError>> {
        let mut log = Room::of(&mut self.sequence, &self.gate, &self.shared);
        let permit = log.spare(room)?;
        let op = Op::Queue(QueueOp::Change(changes));
        let draft = Draft { session: NOBODY, ticket: NOBODYS, op, permit: Some(permit) };
        self.engine.input(now, draft, &mut log, &mut self.effects);
        let at = self.effects.answers.iter().rposition(|a| a.session == NOBODY)?;
        match self.effects.answers.remove(at).reply {
            Reply::Queue(QueueReply::Changed(result)) => Some(result.map(drop)),
            _ => None,
        }
    }

    /// What reached nobody goes back to its place, as if it had not been handed out.
    fn give_back(&mut self, now: Now) {
        while let Some(session) = self.undelivered.first().map(|d| d.session) {
            let of_session = |d: &&Delivery| d.session == session;
            let n = self.undelivered.iter().take_while(of_session).take(GIVE_BACK_MAX).count();
            let items: Vec<SettleItem> =
                self.undelivered.iter().take(n).map(|d| settle_item(d, Verb::Undelivered)).collect();
            let mut room = Room::of(&mut self.sequence, &self.gate, &self.shared);
            let Some(permit) = room.spare(settle_bytes(items.iter().map(|i| i.len))) else { return };
            let op = Op::Queue(QueueOp::Settle(items));
            let draft = Draft { session, ticket: NOBODYS, op, permit: Some(permit) };
            self.engine.input(now, draft, &mut room, &mut self.effects);
            self.undelivered.drain(..n);
        }
    }

    fn input(&mut self, now: Now, input: Input) {
        let mut room = Room::of(&mut self.sequence, &self.gate, &self.shared);
        match input {
            Input::Open(mailbox) => {
                if self.lost {
                    mailbox.lose();
                }
                self.sessions.insert(mailbox.conn, mailbox);
            }
            Input::Draft(draft) if self.lost => drop(draft),
            Input::Draft(draft) => self.engine.input(now, draft, &mut room, &mut self.effects),
            Input::Gone(conn) => {
                if let Some(mailbox) = self.sessions.remove(&conn) {
                    // First what it never saw: that does not count as handed out.
                    self.undelivered.extend(mailbox.close());
                }
                if !self.lost {
                    self.give_back(now);
                    let mut room = Room::of(&mut self.sequence, &self.gate, &self.shared);
                    self.engine.session_gone(now, conn, &mut room, &mut self.effects);
                }
            }
            Input::Window(read) => self.engine.window_read(now, read),
            Input::Records(read) => self.engine.records_read(now, read),
            Input::HandedOver(conn, bytes) => self.engine.handed_over(conn, bytes),
            Input::Undelivered(mut deliveries) => self.undelivered.append(&mut deliveries),
        }
    }

    /// First readers, then who waits for an answer: what is answered can be read.
    fn publish(&mut self) {
        let durable = self.marks.get().durable;
        if durable > self.shared.published.get() {
            self.engine.durable(durable);
            self.shared.published.set(durable);
            self.wake(durable);
        }
        if !self.lost && self.marks.lost().is_some() {
            self.lost = true;
            self.engine.lost(&mut self.effects);
            self.effects.answers.clear();
            self.effects.deliveries.clear();
            self.effects.ended.clear();
            // Those of sessions that went too: their answers may still be waited for.
            for mailbox in self.sessions.values().chain(self.waiting.iter().map(|w| &w.1)) {
                mailbox.lose();
            }
            self.waiting.clear();
        }
    }

    /// Wakes each session once whose answers waited for what is durable now.
    fn wake(&mut self, durable: Lsn) {
        while let Some((_, mailbox)) = self.waiting.pop_front_if(|w| w.0 <= durable) {
            self.woken.push(mailbox);
        }
        self.woken.sort_unstable_by_key(|m| m.conn);
        self.woken.dedup_by_key(|m| m.conn);
        for mailbox in self.woken.drain(..) {
            mailbox.wake_published();
        }
    }

    fn answer(&mut self) {
        if let Some(snapshot) = self.effects.catalogue.take() {
            self.shared.set_catalogue(snapshot);
        }
        if !self.effects.routes.is_empty() {
            for event in self.effects.routes.drain(..) {
                self.routes.follow(&event);
            }
            self.shared.set_routes(self.routes.routes());
        }
        let published = self.shared.published.get();
        let before = self.waiting.len();
        let mut deliveries = std::mem::take(&mut self.effects.deliveries);
        deliveries.sort_by_key(|d| d.session);
        for of_session in deliveries.chunk_by(|a, b| a.session == b.session) {
            let mailbox = of_session.first().and_then(|d| self.sessions.get(&d.session));
            let Some(mailbox) = mailbox else { continue };
            if let Some(wait) = mailbox.deliver(of_session) {
                self.waiting.push_back((wait, Arc::clone(mailbox)));
            }
        }
        deliveries.clear();
        self.effects.deliveries = deliveries;
        let deliveries_wait = self.waiting.len() > before;
        for ended in self.effects.ended.drain(..) {
            if let Some(mailbox) = self.sessions.get(&ended.session)
                && mailbox.end(&ended)
            {
                self.waiting.push_back((ended.wait, Arc::clone(mailbox)));
            }
        }
        for a in self.effects.answers.drain(..) {
            if let Reply::Queue(QueueReply::Changed(Ok(_))) = &a.reply {
                self.shared.changed.send_replace(());
            }
            let unheard = match self.sessions.get(&a.session) {
                None => Some(a.reply),
                Some(mailbox) => {
                    let last = self.waiting.back().map(|w| (w.0, w.1.conn));
                    if a.wait > published && last != Some((a.wait, a.session)) {
                        self.waiting.push_back((a.wait, Arc::clone(mailbox)));
                    }
                    mailbox.answer(a.ticket, a.wait, a.reply)
                }
            };
            if let Some(Reply::Queue(QueueReply::Received(Ok(mut all)))) = unheard {
                self.undelivered.append(&mut all);
            }
        }
        if deliveries_wait && let Some(new) = self.waiting.make_contiguous().get_mut(before..) {
            // Answers to what was decided before them came behind.
            new.sort_by_key(|w| w.0);
        }
        self.shared.reads.put(self.effects.reads.drain(..));
        self.shared.moves.put(self.effects.moves.drain(..));
        self.shared.unused.put(self.effects.unused.drain(..));
    }

    fn offer_rows(&mut self) {
        self.engine.flushed(self.sink.flushed());
        while let Some(budget) = self.sink.wanted() {
            if self.lost {
                break;
            }
            let batch = self.engine.next_dirty(budget);
            let empty = batch.rows.is_empty();
            let id = self.sink.offer(batch);
            self.engine.offered(id);
            if empty {
                break;
            }
        }
    }

    /// How long the thread may wait, milliseconds.
    fn wait_ms(&self) -> u64 {
        if !self.undelivered.is_empty() && !self.lost {
            return RETRY_WAIT_MS;
        }
        match self.engine.next_timer() {
            Some(due) => due.saturating_sub(self.shared.clock.mono_ms()).clamp(RETRY_WAIT_MS, IDLE_WAIT_MS),
            None => IDLE_WAIT_MS,
        }
    }
}

/// The thread: turns until it is told to stop and everything that came before has been decided. Dropping the sequencer then closes the log.
pub(crate) fn run(sequencer: Sequencer) {
    let mut thread = Alive(Some(sequencer));
    if let Some(sequencer) = &mut thread.0 {
        sequencer.turns();
    }
    if let Some(sequencer) = thread.0.take() {
        sequencer.close();
    }
}

/// The sequencer while its thread goes on. If a panic ends it, nobody waits for it.
struct Alive(Option<Sequencer>);

impl Drop for Alive {
    fn drop(&mut self) {
        if let Some(sequencer) = self.0.take() {
            sequencer.broken();
        }
    }
}

impl Sequencer {
    fn turns(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut inputs = Vec::new();
        loop {
            let stop = shared.inbox.take(&mut inputs, self.wait_ms());
            self.step(&mut inputs);
            if stop {
                return;
            }
        }
    }

    /// Ends in the middle of a panic. What was decided last may be half done, so nothing more is: with its sequencer the log is lost, and
    /// everyone who waits is told.
    fn broken(self) {
        let Self { sequence, shared, sessions, waiting, .. } = self;
        drop(sequence);
        shared.inbox.end();
        for mailbox in sessions.values().chain(waiting.iter().map(|w| &w.1)) {
            mailbox.lose();
        }
    }

    /// Hands every changed row over, so that the next opening has nothing to replay; then drops the log's sequencer, which waits for it.
    fn close(mut self) {
        let all = millstream_log::Budget { rows_max: usize::MAX, bytes_max: usize::MAX };
        if !self.lost {
            loop {
                let batch = self.engine.next_dirty(all);
                let empty = batch.rows.is_empty();
                let id = self.sink.offer(batch);
                self.engine.offered(id);
                if empty {
                    break;
                }
            }
        }
        let Self { sequence, shared, marks, mut engine, sessions, waiting, .. } = self;
        drop(sequence);
        let durable = marks.get().durable;
        engine.durable(durable);
        shared.published.set(durable);
        shared.inbox.end();
        for mailbox in sessions.values().chain(waiting.iter().map(|w| &w.1)) {
            mailbox.wake_published();
            mailbox.lose();
        }
    }
}
