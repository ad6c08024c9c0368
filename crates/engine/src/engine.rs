//! The engine: one thread owns it, gives it operations and the time, and takes records, answers and rows from it.
//!
//! Start at [`Engine::input`]. Opening: [`Engine::new`], then the log replays into it ([`millstream_log::Replay`]), then [`Engine::serve`].

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_log::{BatchId, Budget, Op as LogOp, Permit, RowBatch};
use millstream_types::{ConnId, LogId, Lsn};

use crate::catalogue::{Change, Snapshot};
use crate::ctx::{Asker, Ctx};
use crate::decide::{append, catalogue, task};
use crate::effect::RowEffect;
use crate::error::LoadError;
use crate::expiry::Expiry;
use crate::group::{GroupConfig, Groups};
use crate::live::Live;
use crate::op::{Answer, AppendError, AppendItem, Commits, Draft, Effects, Now, Op, ProducerInfo, Reply};
use crate::parts::Parts;
use crate::queue::api::WindowRead;
use crate::queue::directory::Directory;
use crate::queue::ids::IDS_MAX;
use crate::queue::queues::{Cx, Queues};
use crate::queue::source::RecordsRead;
use crate::queue::{REST_MS, WindowSizes};
use crate::rows::id::{Counter, Ids};
use crate::state::State;
use crate::task::{TaskOp, TaskReply};

/// Settings of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// A producer that was idle for so long is forgotten, milliseconds.
    pub producer_expiry_ms: u64,
    /// Offsets of a group that was empty for so long go, milliseconds.
    pub offsets_retention_ms: u64,
    /// How long the first rebalance of an empty group waits for more members, milliseconds.
    pub group_initial_rebalance_delay_ms: u64,
    /// How much of each lane of a queue is kept in memory.
    pub queue_windows: WindowSizes,
    /// Ids of messages remembered, of all queues together.
    pub ids_max: usize,
    /// A queue that is empty and that nobody used for so long leaves memory but for its rows, milliseconds; 0: at the next turn.
    pub queue_rest_ms: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            producer_expiry_ms: 24 * 3_600_000,
            offsets_retention_ms: 7 * 24 * 3_600_000,
            group_initial_rebalance_delay_ms: 3_000,
            queue_windows: WindowSizes::default(),
            ids_max: IDS_MAX,
            queue_rest_ms: REST_MS,
        }
    }
}

/// State machines over the log. Single-threaded: the sequencer's thread owns it.
#[derive(Debug, Default)]
pub struct Engine {
    pub(crate) cfg: EngineConfig,
    pub(crate) state: State,
    pub(crate) live: Live,
    pub(crate) queues: Queues,
    /// Last LSN applied.
    pub(crate) last_lsn: Lsn,
    /// Why replay failed, if it did.
    pub(crate) failed: Option<LoadError>,
    expiry: Expiry,
    pub(crate) now: Now,
    taken_rows: usize,
    in_flight: VecDeque<(BatchId, usize)>,
}

impl Engine {
    /// An engine without state.
    #[must_use]
    pub fn new(cfg: EngineConfig) -> Self {
        let delay_ms = u32::try_from(cfg.group_initial_rebalance_delay_ms).unwrap_or(u32::MAX);
        let groups = GroupConfig {
            initial_rebalance_delay_ms: delay_ms,
            offsets_retention_ms: cfg.offsets_retention_ms,
        };
        let state = State { groups: Groups::new(groups), ..State::default() };
        Self { cfg, state, ..Self::default() }
    }

    /// Everything was replayed and is durable: builds what is kept besides rows. To be called once, before anything else.
    ///
    /// # Errors
    /// If rows or records could not be read: nothing may be served then.
    pub fn serve(&mut self, now: Now) -> Result<(), LoadError> {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        self.now = now;
        self.live = Live::of(&self.state, self.live.leader_epoch);
        self.expiry = Expiry::of(&self.state.prod, self.cfg.producer_expiry_ms, now);
        self.state.groups.serve(now);
        let epoch = u64::from(self.live.leader_epoch);
        self.queues.sizes = self.cfg.queue_windows;
        self.queues.rests.after_ms = self.cfg.queue_rest_ms;
        self.queues.serve(&self.state, epoch, now);
        self.queues.open_ids(&self.state.queues, self.cfg.ids_max, now);
        Ok(())
    }

    /// The log was closed cleanly before it was opened, by its report: nothing was delivered of which it knows nothing. To be said
    /// before [`Engine::serve`]; what is not said is not so.
    pub fn stopped_cleanly(&mut self) {
        self.queues.clean = true;
    }

    /// The queues there are: shared, and as the last record left them.
    #[must_use]
    pub fn queues(&self) -> Arc<Directory> {
        Arc::clone(&self.queues.directory)
    }

    /// Queues that are in memory with more than their rows.
    #[must_use]
    pub fn queues_in_memory(&self) -> usize {
        self.queues.live.len()
    }

    /// Ids of messages that are remembered; at most [`EngineConfig::ids_max`].
    #[must_use]
    pub fn ids_remembered(&self) -> usize {
        self.queues.ids.len()
    }

    /// Heads that a queue wanted read ([`Effects::reads`]).
    pub fn window_read(&mut self, now: Now, read: WindowRead) {
        self.now = now;
        self.queues.window_read(&self.state.queues, now, read);
    }

    /// Records that a subscription wanted read ([`Effects::reads`]).
    pub fn records_read(&mut self, now: Now, read: RecordsRead) {
        self.now = now;
        self.queues.records_read(&self.state.queues, now, read);
    }

    /// A session's socket took over so many bytes of what was delivered to it: of each message its payload and
    /// [`DELIVERY_BYTES`](crate::queue::DELIVERY_BYTES).
    pub fn handed_over(&mut self, session: ConnId, bytes: u64) {
        self.queues.handed_over(session, bytes);
    }

    /// The catalogue now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.live.snapshot)
    }

    /// Decides one operation, writes at most one record and answers, now or (waiting groups) in a later call.
    ///
    /// # Panics
    /// If an operation that writes comes without a permit.
    pub fn input(&mut self, now: Now, draft: Draft, log: &mut dyn Commits, out: &mut Effects) {
        self.now = now;
        let Draft { session, ticket, op, permit } = draft;
        let asker = Asker { session, ticket };
        match op {
            Op::Append(items) => self.append(asker, &items, permit, log, out),
            Op::Transact(tx) => self.transact(asker, &tx, permit, log, out),
            Op::Group(op) => {
                self.with_groups(log, out, |groups, ctx| groups.op(now, session, ticket, permit, op, ctx));
            }
            Op::InitProducer => self.init_producer(asker, permit, log, out),
            Op::Catalogue(changes) => self.catalogue(asker, &changes, permit, log, out),
            Op::Trim { part, before } => self.trim(asker, part, before, permit, log, out),
            Op::DescribeProducers(part) => self.describe_producers(asker, part, out),
            Op::Routing(changes) => self.change_routes(asker, &changes, permit, log, out),
            Op::ListBindings { ns, of, from } => {
                let page = self.list_bindings(ns, &of, from);
                self.answer(asker, out, Reply::Bindings(page));
            }
            Op::Task(op) => self.task(asker, &op, permit, log, out),
            Op::Barrier => self.answer(asker, out, Reply::Barrier),
            Op::Queue(op) => {
                self.with_queues(log, out, |queues, cx| queues.op(cx, asker, op, permit));
            }
        }
    }

    /// Does what is due by now, a bounded part per call.
    pub fn tick(&mut self, now: Now, log: &mut dyn Commits, out: &mut Effects) {
        self.now = now;
        if let Some((permit, effects)) = self.expiry.due(now, &self.state.prod, log) {
            let ops: Vec<LogOp<'_>> = effects.iter().map(RowEffect::op).collect();
            self.commit(log, permit, &ops, None);
        }
        self.with_groups(log, out, |groups, ctx| groups.tick(now, ctx));
        self.with_queues(log, out, Queues::tick);
    }

    /// When [`Engine::tick`] is wanted next, monotonic milliseconds.
    #[must_use]
    pub fn next_timer(&self) -> Option<u64> {
        let groups = self.state.groups.next_timer();
        self.expiry.next_mono_ms(self.now).into_iter().chain(groups).chain(self.queues.next_timer()).min()
    }

    /// Records up to `lsn` are durable: what they made becomes visible, and who waits for it is woken. To be called once after
    /// [`Engine::serve`] too: a log that was stopped cleanly replays nothing, and only so does the engine know how far it has come.
    pub fn durable(&mut self, lsn: Lsn) {
        self.last_lsn = self.last_lsn.max(lsn);
        self.live.durable(lsn);
        self.queues.durable(lsn);
    }

    /// The log is lost. Joins and syncs that wait are answered `FateUnknown`; so must be, by their holder, all answers given whose LSN
    /// is not durable. Nothing more may be asked of this engine.
    pub fn lost(&mut self, out: &mut Effects) {
        self.live.lost();
        self.queues.lost();
        self.state.groups.lost(out);
    }

    /// A session is gone, behind all its operations. Its waiting joins and syncs get no answer.
    pub fn session_gone(&mut self, now: Now, session: ConnId, log: &mut dyn Commits, out: &mut Effects) {
        self.now = now;
        self.with_groups(log, out, |groups, ctx| groups.session_gone(now, session, ctx));
        self.with_queues(log, out, |queues, cx| queues.session_gone(cx, session));
    }

    /// Takes changed rows, those first that are dirty for longest. Only between records.
    pub fn next_dirty(&mut self, budget: Budget) -> RowBatch {
        let mut rows = Vec::new();
        let mut bytes = 0_usize;
        while rows.len() < budget.rows_max && bytes < budget.bytes_max {
            let Some(row) = self.state.pop_dirty() else { break };
            bytes += row.key.len() + row.value.as_ref().map_or(0, Vec::len);
            rows.push(row);
        }
        self.taken_rows = rows.len();
        RowBatch { rows, oldest_dirty: self.state.oldest_dirty(), applied: self.last_lsn }
    }

    /// The rows last taken were given to the sink as batch `id`.
    pub fn offered(&mut self, id: BatchId) {
        let rows = std::mem::take(&mut self.taken_rows);
        if rows > 0 {
            self.in_flight.push_back((id, rows));
        }
    }

    /// Batches up to `id` are in the state store.
    pub fn flushed(&mut self, id: BatchId) {
        while self.in_flight.pop_front_if(|b| b.0 <= id).is_some() {}
    }

    /// Rows given to the sink and not yet in the state store.
    #[must_use]
    pub fn rows_in_flight(&self) -> usize {
        self.in_flight.iter().map(|b| b.1).sum()
    }

    pub(crate) fn with_groups(
        &mut self,
        log: &mut dyn Commits,
        out: &mut Effects,
        f: impl FnOnce(&mut Groups, &mut Ctx<'_>),
    ) {
        let catalogue = &self.live.snapshot;
        let exists = |log: LogId| catalogue.by_log.contains_key(&log);
        let mut ctx = Ctx::new(log, out, &mut self.last_lsn, &mut self.state.ids, &exists);
        f(&mut self.state.groups, &mut ctx);
    }

    pub(crate) fn with_queues<R>(
        &mut self,
        log: &mut dyn Commits,
        out: &mut Effects,
        f: impl FnOnce(&mut Queues, &mut Cx<'_>) -> R,
    ) -> R {
        let Self { state, last_lsn, queues, now, live, .. } = self;
        f(queues, &mut Cx { state, routes: &mut live.routes, log, out, last_lsn, now: *now })
    }

    /// Writes one record and applies it.
    pub(crate) fn commit(
        &mut self,
        log: &mut dyn Commits,
        permit: Permit,
        ops: &[LogOp<'_>],
        waiter: Option<ConnId>,
    ) -> Lsn {
        let lsn = log.commit(permit, ops, waiter);
        self.state.record(lsn, ops);
        self.last_lsn = lsn;
        lsn
    }

    /// The same where something may be about transient queues: [`Lsn::UNRECORDED`] if all of it is.
    pub(crate) fn commit_parts(
        &mut self,
        log: &mut dyn Commits,
        permit: Permit,
        parts: Parts<'_>,
        waiter: ConnId,
    ) -> Lsn {
        parts.commit(&mut self.state, &mut self.last_lsn, log, permit, Some(waiter))
    }

    pub(crate) fn answer(&self, asker: Asker, out: &mut Effects, reply: Reply) {
        let Asker { session, ticket } = asker;
        out.answers.push(Answer { session, ticket, wait: self.last_lsn, reply });
    }

    fn append(
        &mut self,
        asker: Asker,
        items: &[AppendItem],
        permit: Option<Permit>,
        log: &mut dyn Commits,
        out: &mut Effects,
    ) {
        let plan = append::decide(self.facts(), items);
        if plan.writes() {
            let mut ops = Vec::with_capacity(items.len());
            plan.ops(items, &mut ops);
            let lsn = self.commit(log, writing(permit), &ops, Some(asker.session));
            drop(ops);
            self.appended(lsn, &plan);
        }
        self.answer(asker, out, Reply::Append(plan.results));
    }

    pub(crate) fn facts(&self) -> append::Facts<'_> {
        append::Facts {
            state: &self.state,
            catalogue: &self.live.snapshot,
            leader_epoch: self.live.leader_epoch,
            wall_ms: self.now.wall_ms,
        }
    }

    /// Record `lsn` has these appends: memory follows.
    pub(crate) fn appended(&mut self, lsn: Lsn, plan: &append::Plan) {
        for (log, end) in plan.ends() {
            if let Some(view) = append::view(&self.live.snapshot, log).map(Arc::clone) {
                self.live.appended(lsn, view, self.state.part.get(&log), end);
            }
            self.queues.topic_appended(lsn, log, end);
        }
        for key in &plan.new_producers {
            self.expiry.begin(*key, self.now);
        }
    }

    fn task(
        &mut self,
        asker: Asker,
        op: &TaskOp,
        permit: Option<Permit>,
        log: &mut dyn Commits,
        out: &mut Effects,
    ) {
        let reply = if let TaskOp::List { .. } = op {
            TaskReply::Tasks(task::list(&self.state, op))
        } else {
            TaskReply::Changed(task::decide(&self.state, self.now.wall_ms, op).map(|(task, effects)| {
                let ops: Vec<LogOp<'_>> = effects.iter().map(RowEffect::op).collect();
                self.commit(log, writing(permit), &ops, Some(asker.session));
                Box::new(task)
            }))
        };
        self.answer(asker, out, Reply::Task(reply));
    }

    fn init_producer(
        &mut self,
        asker: Asker,
        permit: Option<Permit>,
        log: &mut dyn Commits,
        out: &mut Effects,
    ) {
        let id = self.state.ids.next(Counter::Producers);
        let effect = Ids::effect(Counter::Producers, id + 1);
        self.commit(log, writing(permit), &[effect.op()], Some(asker.session));
        let id = i64::try_from(id).expect("2^63 producer ids never run out");
        self.answer(asker, out, Reply::Producer { id, epoch: 0 });
    }

    fn catalogue(
        &mut self,
        asker: Asker,
        changes: &[Change],
        permit: Option<Permit>,
        log: &mut dyn Commits,
        out: &mut Effects,
    ) {
        let room = permit.as_ref().map_or(0, |p| p.bytes);
        let index = &self.live.routes;
        let subscriptions = |uuid: &[u8; 16]| self.queues.subscriptions(uuid);
        let wall_ms = self.now.wall_ms;
        let plan = catalogue::decide(
            &self.state,
            &self.live.snapshot,
            index,
            wall_ms,
            changes,
            room,
            &subscriptions,
        );
        let reply = match plan {
            Err(e) => Err(e),
            Ok(plan) => {
                if !plan.changed.is_empty() {
                    self.commit_parts(log, writing(permit), plan.parts(), asker.session);
                    // A snapshot that was not published yet need not be copied.
                    drop(out.catalogue.take());
                    self.live.changed(&self.state, &plan.changed);
                    self.routes_changed(&plan.routing, out);
                    self.with_queues(log, out, |queues, cx| queues.topics_changed(cx, &plan));
                    out.catalogue = Some(self.snapshot());
                }
                Ok(plan.defs)
            }
        };
        self.answer(asker, out, Reply::Catalogue(reply));
    }

    fn trim(
        &mut self,
        asker: Asker,
        part: LogId,
        before: u64,
        permit: Option<Permit>,
        log: &mut dyn Commits,
        out: &mut Effects,
    ) {
        let reply = match append::view(&self.live.snapshot, part).map(Arc::clone) {
            None => Err(AppendError::Gone),
            Some(view) if before > view.visible_end() => {
                Err(AppendError::PastEnd { end: view.visible_end() })
            }
            Some(view) => {
                let start = self.state.part.get(&part).map_or(0, |r| r.start);
                if before > start {
                    let permit = writing(permit);
                    let lsn = self.with_queues(log, out, |queues, cx| {
                        queues.trim_topic(cx, asker.session, part, before, permit)
                    });
                    self.live.trimmed(lsn.unwrap_or(self.last_lsn), view, before);
                }
                Ok(start.max(before))
            }
        };
        self.answer(asker, out, Reply::Trim(reply));
    }

    fn describe_producers(&self, asker: Asker, part: LogId, out: &mut Effects) {
        let reply = match append::view(&self.live.snapshot, part) {
            None => Err(AppendError::Gone),
            Some(_) => Ok(self
                .state
                .prod
                .of(part)
                .map(|(key, row)| ProducerInfo {
                    id: i64::try_from(key.producer).unwrap_or(i64::MAX),
                    epoch: row.epoch,
                    last_seq: row.last().map_or(-1, |b| b.last_seq),
                    last_ms: row.last_ms,
                })
                .collect()),
        };
        self.answer(asker, out, Reply::Producers(reply));
    }
}

pub(crate) fn writing(permit: Option<Permit>) -> Permit {
    permit.expect("an operation that writes comes with a permit")
}
