//! What may be asked of the engine, and its answers.
//!
//! A draft carries one [`Op`]; it is decided once, against applied state, and becomes at most one commit record. The [`Reply`]
//! comes with the LSN it waits for.

use bytes::Bytes;
use millstream_log::Permit;
use millstream_types::limits::OP_BYTES_MAX;
use millstream_types::{ConnId, LogId, Lsn, Namespace, ObjectId};
use thiserror::Error;

use crate::catalogue::{CatalogueError, Change, TopicDef};
use crate::exchange::{BindingsFrom, BindingsOf, BindingsPage, ExchangeChange, RouteEvent, RoutingError};
use crate::group::{GroupOp, GroupReply};
use crate::queue::api::{
    ConsumerId, Delivery, HeldItem, MoveWork, Publish, Published, QueueOp, QueueReply, ReadWindow, Refusal,
    SettleError, SettleItem, Unused,
};
use crate::task::{TaskConflict, TaskOp, TaskReply, TaskStep};

/// The time, taken once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the epoch, drawn towards the wall clock, never going back while the process runs.
    pub wall_ms: u64,
    /// Monotonic milliseconds; session and rebalance timeouts use it.
    pub mono_ms: u64,
}

/// A ticket names one submitted operation of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// One operation on its way to be decided.
#[derive(Debug)]
pub struct Draft {
    /// Whose it is. Drafts of one session are decided in the order they were submitted.
    pub session: ConnId,
    /// Which of the session's.
    pub ticket: Ticket,
    /// What to do.
    pub op: Op,
    /// Room for its record. Operations that only read, and joins, syncs, heartbeats and leaves (whose records the engine makes
    /// when they are due, see [`Commits::spare`]), come without.
    pub permit: Option<Permit>,
}

/// Where the engine's records go: the log's sequencer, with permits kept ready for records that no draft brings room for.
pub trait Commits {
    /// Puts one record in order; see `millstream_log::Sequence::sequence`.
    fn commit(&mut self, permit: Permit, ops: &[millstream_log::Op<'_>], waiter: Option<ConnId>) -> Lsn;
    /// Of transient queues: their messages, and which of them nobody will read again. They are in no record; who reads finds them under
    /// the same names. Effects among them are the engine's own affair.
    fn keep(&mut self, ops: &[millstream_log::Op<'_>]);
    /// Room for a record of the engine's own making, class Settle; `None`: try again in a later turn.
    fn spare(&mut self, bytes: usize) -> Option<Permit>;
    /// Largest single operation that the log takes, encoded.
    fn op_bytes_max(&self) -> usize {
        OP_BYTES_MAX
    }
}

/// What a turn leaves to be done outside.
#[derive(Debug, Default)]
pub struct Effects {
    /// Answers, in order per session.
    pub answers: Vec<Answer>,
    /// The catalogue changed: the new snapshot, to be published before the answers of this turn.
    pub catalogue: Option<std::sync::Arc<crate::catalogue::Snapshot>>,
    /// Exchanges and bindings changed, in this order; to be followed before the answers of this turn.
    pub routes: Vec<RouteEvent>,
    /// Messages for consumers, in order per consumer.
    pub deliveries: Vec<Delivery>,
    /// Consumers that ended because their queue is gone, and from when on it is.
    pub ended: Vec<Ended>,
    /// Heads to be read for queues' windows; see `Engine::window_read`.
    pub reads: Vec<ReadWindow>,
    /// Messages to be taken to dead-letter targets.
    pub moves: Vec<MoveWork>,
    /// Queues that should go.
    pub unused: Vec<Unused>,
}

/// A consumer that ended though nobody cancelled it: its queue is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whose it was.
    pub session: ConnId,
    /// The session's number for it.
    pub consumer: ConsumerId,
    /// To be told when this is durable.
    pub wait: Lsn,
}

/// What to do.
#[non_exhaustive]
#[derive(Debug)]
pub enum Op {
    /// Appends to partitions. What is accepted is one record; each item is accepted or refused on its own.
    Append(Vec<AppendItem>),
    /// All of it or nothing, in one record: appends, messages for queues, settlements, offset commits, and the step of a task.
    Transact(Box<Transact>),
    /// A consumer group's affairs.
    Group(GroupOp),
    /// A new producer id.
    InitProducer,
    /// Changes of the catalogue, all or nothing, one record.
    Catalogue(Vec<Change>),
    /// Everything below `before` goes (retention, delete-records). Never past the visible end.
    Trim {
        /// The partition.
        part: LogId,
        /// First position that stays.
        before: u64,
    },
    /// Reads the producers of a partition.
    DescribeProducers(LogId),
    /// Changes of exchanges and bindings, all or nothing, one record.
    Routing(Vec<ExchangeChange>),
    /// Reads bindings, at most [`BINDINGS_PAGE_MAX`](crate::exchange::BINDINGS_PAGE_MAX).
    ListBindings {
        /// Namespace.
        ns: Namespace,
        /// Which.
        of: BindingsOf,
        /// Where to begin; `None`: with the first.
        from: Option<BindingsFrom>,
    },
    /// An operation on queues.
    Queue(QueueOp),
    /// An operation on tasks.
    Task(TaskOp),
    /// Nothing: it is answered when all that was decided before it is durable.
    Barrier,
}

/// One append to one partition.
#[derive(Clone, Debug)]
pub struct AppendItem {
    /// The partition.
    pub part: LogId,
    /// What it is.
    pub kind: AppendKind,
    /// Offsets it takes: 1, or a batch's `last_offset_delta + 1`.
    pub count: u32,
    /// Largest timestamp in it, milliseconds, -1 = none.
    pub max_ts_ms: i64,
    /// The body in pieces.
    pub body: Vec<Bytes>,
}

/// What is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendKind {
    /// One message: the body begins with so many bytes of envelope.
    Single {
        /// Length of the envelope, bytes.
        envelope_len: u32,
    },
    /// An opaque batch.
    Batch(BatchMeta),
}

/// What the engine must know of an opaque batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMeta {
    /// Producer id; -1 = no deduplication.
    pub producer: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence number of the first record; the last is `first_seq + records - 1`, wrapping past 2^31 - 1 to 0.
    pub first_seq: i32,
    /// Records in the batch.
    pub records: u32,
    /// The batch's own attribute bits, kept for readers.
    pub flags: u16,
}

/// Operations of one transaction: appends, messages, settlements and offsets together.
pub const TRANSACT_OPS_MAX: usize = 10_000;
/// Bodies of one transaction, bytes.
pub const TRANSACT_BYTES_MAX: usize = 16 << 20;

/// One step across partitions, queues, groups and a task. It is looked at whole before anything of it happens; it is one record.
///
/// Who asks keeps to [`TRANSACT_OPS_MAX`] and [`TRANSACT_BYTES_MAX`], and brings room for the record.
#[derive(Clone, Debug, Default)]
pub struct Transact {
    /// Appends to partitions.
    pub appends: Vec<AppendItem>,
    /// Messages for queues.
    pub publishes: Vec<Publish>,
    /// Leases that end, each named once. A queue's limits count messages that this gives back only after `publishes`.
    pub settles: Vec<SettleItem>,
    /// Messages that the mover holds and that are elsewhere after this: they end as `Moved`.
    pub moved: Vec<HeldItem>,
    /// Offsets to commit: (namespace and group, as in [`GroupOp`]). A group that is not there begins with it.
    pub commits: Vec<crate::group::Commit>,
    /// A task goes on.
    pub task: Option<TaskStep>,
    /// What may be refused of it without the whole being refused.
    pub tolerance: Tolerance,
}

impl Transact {
    /// Operations, and bytes of bodies.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let offsets: usize = self.commits.iter().map(|c| c.offsets.len()).sum();
        let cursors = self.task.as_ref().map_or(0, |t| t.cursors.len());
        let ops = [self.appends.len(), self.publishes.len(), self.settles.len(), self.moved.len()];
        let bodies = self.appends.iter().map(|i| &i.body).chain(self.publishes.iter().map(|p| &p.body));
        let bytes = bodies.flatten().map(Bytes::len).sum();
        (ops.into_iter().sum::<usize>() + offsets + cursors, bytes)
    }
}

/// What may be refused of a transaction without the whole being refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tolerance {
    /// Nothing: all of it happens, or nothing does.
    #[default]
    Nothing,
    /// A full queue refuses its copy of a message, as it does without a transaction.
    FullQueues,
    /// Every copy and every append is taken or refused on its own: a publish whose messages go to queues and topics.
    Copies,
}

/// What a transaction came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transacted {
    /// Per append. Errors only with [`Tolerance::Copies`].
    pub appended: Vec<Result<Appended, AppendError>>,
    /// Per message for queues.
    pub published: Vec<Published>,
}

/// An answer, and what must have become durable before it may be shown.
#[derive(Debug)]
pub struct Answer {
    /// Whose.
    pub session: ConnId,
    /// To which operation.
    pub ticket: Ticket,
    /// Not to be shown before this LSN is durable. [`Lsn`] 0 = at once.
    pub wait: Lsn,
    /// The answer.
    pub reply: Reply,
}

/// The answer.
#[non_exhaustive]
#[derive(Debug)]
pub enum Reply {
    /// To `Append`: one result per item, in order.
    Append(Vec<Result<Appended, AppendError>>),
    /// To `Transact`.
    Transact(Result<Transacted, TransactError>),
    /// To `Group`.
    Group(GroupReply),
    /// To `InitProducer`.
    Producer {
        /// A producer id never given before.
        id: i64,
        /// 0.
        epoch: i16,
    },
    /// To `Catalogue`: the definitions made or changed, in the order of the changes.
    Catalogue(Result<Vec<TopicDef>, CatalogueError>),
    /// To `Trim`: the start now.
    Trim(Result<u64, AppendError>),
    /// To `DescribeProducers`.
    Producers(Result<Vec<ProducerInfo>, AppendError>),
    /// To `Routing`: per change, whether it changed anything.
    Routing(Result<Vec<bool>, RoutingError>),
    /// To `ListBindings`.
    Bindings(BindingsPage),
    /// To `Queue`.
    Queue(QueueReply),
    /// To `Task`.
    Task(TaskReply),
    /// To `Barrier`.
    Barrier,
    /// The log was lost after this was sequenced: whether it happened is not known.
    FateUnknown,
}

/// Where an append is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// First offset.
    pub base: u64,
    /// The partition's first retained offset.
    pub start: u64,
    /// It was there already: `base` is the original's.
    pub duplicate: bool,
}

/// Why an append was refused. Nothing of it was stored.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// No such partition (any more).
    #[error("the partition does not exist")]
    Gone,
    /// A sequence number is missing before this one.
    #[error("sequence {got} where {expected} was expected")]
    OutOfSequence {
        /// Next expected.
        expected: i32,
        /// Found.
        got: i32,
    },
    /// A producer with a newer epoch is at work.
    #[error("producer epoch {got} is older than {current}")]
    Fenced {
        /// Newest epoch seen.
        current: i16,
        /// Found.
        got: i16,
    },
    /// A position past the end.
    #[error("position is past the end, {end}")]
    PastEnd {
        /// The visible end.
        end: u64,
    },
}

/// Why a transaction did nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TransactError {
    /// An append was refused.
    #[error("append {index}: {error}")]
    Append {
        /// Which.
        index: usize,
        /// Why.
        error: AppendError,
    },
    /// A queue does not take a message. Gone: to be routed again.
    #[error("message {index}: {why}")]
    Publish {
        /// Which.
        index: usize,
        /// The queue.
        queue: ObjectId,
        /// Why.
        why: Refusal,
    },
    /// A lease cannot be settled.
    #[error("settlement {index}: {error}")]
    Settle {
        /// Which.
        index: usize,
        /// Why.
        error: SettleError,
    },
    /// The mover does not hold a message (any more).
    #[error("held message {index}: it is not held")]
    NotHeld {
        /// Which.
        index: usize,
    },
    /// The task is not where the step begins.
    #[error("the task: {0}")]
    Task(#[from] TaskConflict),
    /// An offset commit was refused.
    #[error("commit {index}: {error}")]
    Commit {
        /// Which.
        index: usize,
        /// Why.
        error: crate::group::GroupError,
    },
}

/// A producer as a partition knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerInfo {
    /// Producer id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Last sequence number.
    pub last_seq: i32,
    /// When it last appended, milliseconds since the epoch.
    pub last_ms: u64,
}
