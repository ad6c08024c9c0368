//! The sequencer's thread: takes what sessions submitted, has the engine decide it, and gives answers back.
//!
//! Start at [`Sequencer::step`], one turn. The thread around it ([`run`]) only waits. Nothing here does I/O: the log's committer
//! does, and says through [`Inbox::nudge`] that it came further.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use millstream_engine::Engine;
use millstream_engine::catalogue::Snapshot;
use millstream_engine::op::{Commits, Draft, Effects, Now};
use millstream_log::{Class, Gate, Permit, Sequence, StateSink, Watermarks};
use millstream_types::{ConnId, Lsn};

use crate::mailbox::{Mailbox, Published};
use crate::routing::{Builder, Routes};
use crate::time::BrokerClock;

/// Drafts decided in one turn.
pub(crate) const TURN_DRAFTS_MAX: usize = 64;
/// Longest wait of an idle sequencer, milliseconds; only a bound: it is woken for whatever happens.
const IDLE_WAIT_MS: u64 = 1_000;
/// When the engine wants room that is not there, or more timers are due than one turn takes, it tries again so soon.
const RETRY_WAIT_MS: u64 = 1;

/// What comes in.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "they lie in a Vec that is used again: a box each would be an allocation each"
)]
pub(crate) enum Input {
    /// A session begins.
    Open(Arc<Mailbox>),
    /// An operation.
    Draft(Draft),
    /// A session ended; ordered behind its drafts.
    Gone(ConnId),
}

#[derive(Debug, Default)]
struct Waiting {
    inputs: Vec<Input>,
    signal: bool,
    stop: bool,
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

/// What the sequencer shares with sessions.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) published: Arc<Published>,
    pub(crate) catalogue: RwLock<Arc<Snapshot>>,
    pub(crate) routes: RwLock<Arc<Routes>>,
    pub(crate) inbox: Inbox,
}

impl Shared {
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
    }
    pub(crate) fn set_catalogue(&self, snapshot: Arc<Snapshot>) {
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

/// The engine's way to the log.
struct Room<'a> {
    sequence: &'a mut dyn Sequence,
    gate: &'a Gate,
}

impl Commits for Room<'_> {
    // The log tells nobody but this thread: it lets readers see a record before its session is woken.
    fn commit(&mut self, permit: Permit, ops: &[millstream_log::Op<'_>], _: Option<ConnId>) -> Lsn {
        self.sequence.sequence(permit, ops, None)
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
    pub(crate) clock: BrokerClock,
    pub(crate) shared: Arc<Shared>,
    routes: Builder,
    sessions: HashMap<ConnId, Arc<Mailbox>>,
    /// Sessions with answers that wait for an LSN, ascending.
    waiting: VecDeque<(Lsn, ConnId)>,
    woken: Vec<ConnId>,
    effects: Effects,
    lost: bool,
}

impl Sequencer {
    pub(crate) fn new(
        engine: Engine,
        sequence: Box<dyn Sequence>,
        gate: Arc<Gate>,
        marks: Arc<dyn Watermarks>,
        sink: Arc<dyn StateSink>,
        clock: BrokerClock,
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
            clock,
            shared,
            sessions,
            waiting: VecDeque::new(),
            woken: Vec::new(),
            effects: Effects::default(),
            lost: false,
        }
    }

    /// One turn: what became durable is published, inputs are decided in order, timers run, answers go out, rows are offered.
    pub(crate) fn step(&mut self, inputs: &mut Vec<Input>) {
        let now = self.clock.now();
        self.publish();
        let mut inputs = inputs.drain(..).peekable();
        while inputs.peek().is_some() {
            for input in inputs.by_ref().take(TURN_DRAFTS_MAX) {
                self.input(now, input);
            }
            self.sequence.end_turn();
            self.answer();
        }
        let mut room = Room { sequence: &mut *self.sequence, gate: &self.gate };
        self.engine.tick(now, &mut room, &mut self.effects);
        self.sequence.end_turn();
        self.answer();
        self.offer_rows();
    }

    fn input(&mut self, now: Now, input: Input) {
        let mut room = Room { sequence: &mut *self.sequence, gate: &self.gate };
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
                self.engine.session_gone(now, conn, &mut room, &mut self.effects);
                self.sessions.remove(&conn);
            }
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
            for mailbox in self.sessions.values() {
                mailbox.lose();
            }
        }
    }

    /// Wakes each session once whose answers waited for what is durable now.
    fn wake(&mut self, durable: Lsn) {
        self.woken.clear();
        while let Some((_, conn)) = self.waiting.pop_front_if(|w| w.0 <= durable) {
            self.woken.push(conn);
        }
        self.woken.sort_unstable();
        self.woken.dedup();
        for conn in &self.woken {
            if let Some(mailbox) = self.sessions.get(conn) {
                mailbox.wake_published();
            }
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
        for a in self.effects.answers.drain(..) {
            if let Some(mailbox) = self.sessions.get(&a.session) {
                if a.wait > published && self.waiting.back() != Some(&(a.wait, a.session)) {
                    self.waiting.push_back((a.wait, a.session));
                }
                mailbox.answer(a.ticket, a.wait, a.reply);
            }
        }
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
        match self.engine.next_timer() {
            Some(due) => due.saturating_sub(self.clock.mono_ms()).clamp(RETRY_WAIT_MS, IDLE_WAIT_MS),
            None => IDLE_WAIT_MS,
        }
    }
}

/// The thread: turns until it is told to stop and everything that came before has been decided. Dropping the sequencer then closes the log.
pub(crate) fn run(mut sequencer: Sequencer) {
    let shared = Arc::clone(&sequencer.shared);
    let mut inputs = Vec::new();
    loop {
        let stop = shared.inbox.take(&mut inputs, sequencer.wait_ms());
        sequencer.step(&mut inputs);
        if stop {
            break;
        }
    }
    sequencer.close();
}

impl Sequencer {
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
        let Self { sequence, shared, marks, mut engine, sessions, .. } = self;
        drop(sequence);
        let durable = marks.get().durable;
        engine.durable(durable);
        shared.published.set(durable);
        for mailbox in sessions.values() {
            mailbox.wake_published();
            mailbox.lose();
        }
    }
}
