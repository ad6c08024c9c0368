//! What may be asked of queues, and what comes back.
//!
//! Start at [`QueueOp`]. Deliveries do not answer an operation: they go to a consumer's session as they come ([`Delivery`]).

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use millstream_log::{Head, ReadError};
use millstream_types::limits::NAME_BYTES_MAX;
use millstream_types::{ConnId, LogId, Lsn, Namespace, ObjectId};
use thiserror::Error;

use super::ids::IDS_MAX;
use super::policy::QueuePolicy;
pub use super::receive::Receive;
use super::source::{SUBSCRIBED_PARTITIONS_MAX, SUBSCRIPTIONS_MAX, Source, Start};
use crate::op::Ticket;

/// Consumers of one queue.
pub const CONSUMERS_MAX: usize = 65_535;
/// Leases of one queue at a time; at the bound its dispatch stops until some end. Each takes about 100 bytes, so 800 MB at most.
pub const LEASES_MAX: usize = 8_000_000;
/// Messages of one queue that the mover holds at a time.
pub const HELD_MAX: usize = 65_536;
/// Messages of one queue that are parked. What is exhausted after that goes to the dead-letter target; without one, the queue pauses.
pub const PARKED_MAX: u64 = 10_000;
/// Queues of one broker: definitions and heads of all are in memory.
pub const QUEUES_MAX: usize = 1_000_000;
/// Messages of one receive.
pub const RECEIVE_MAX: u32 = 10_000;
/// Bytes that were delivered to a session and not taken over by its socket: above, it gets nothing more.
pub const OUTBOX_BYTES_MAX: u64 = 1 << 20;
/// Lanes from here on hold messages published with a delay; below, lane = priority.
pub const DELAY_LANE: u16 = 256;

/// A queue's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueDef {
    /// Its namespace.
    pub ns: Namespace,
    /// Its name, unique in the namespace over topics and queues.
    pub name: String,
    /// Its id, never used again.
    pub id: ObjectId,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: u64,
    /// Grows by one with each change.
    pub version: u32,
    /// What its owner has set; read through the definition itself.
    pub terms: Arc<Terms>,
}

/// What a queue's owner has set. Queues with the same share it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    /// What it does with messages.
    pub policy: QueuePolicy,
    /// Settings that were given, by key, as text; the engine does not read them.
    pub settings: BTreeMap<String, String>,
    /// The topic that it is subscribed to. It never changes; nothing is published to such a queue, and it goes with the topic.
    pub source: Option<Source>,
}

impl Deref for QueueDef {
    type Target = Terms;
    fn deref(&self) -> &Terms {
        &self.terms
    }
}

/// One change of a queue's definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueChange {
    /// Makes a queue.
    Create {
        /// Namespace.
        ns: Namespace,
        /// Name.
        name: String,
        /// Policy.
        policy: QueuePolicy,
        /// Settings.
        settings: BTreeMap<String, String>,
        /// The topic whose records it hands out, and where it begins.
        source: Option<(Source, Start)>,
        /// It does not outlive the process: nothing of it is in the log, and what is published to it waits for no sync.
        transient: bool,
    },
    /// Replaces policy and settings.
    Alter {
        /// Which.
        id: ObjectId,
        /// The version that the new ones were made from: another one is a conflict.
        expect: u32,
        /// All of the policy afterwards. `ordering` cannot change.
        policy: QueuePolicy,
        /// All settings afterwards.
        settings: BTreeMap<String, String>,
    },
    /// Removes a queue and its messages. Leases on them end as `Unknown`, consumers are told nothing more.
    Delete {
        /// Which.
        id: ObjectId,
        /// Only if it has no consumer.
        if_unused: bool,
        /// Only if no message is in it but those at consumers, which go with it.
        if_empty: bool,
        /// Only if it was not used for its `expires_ms`.
        if_idle: bool,
    },
}

/// Why a change of queues was refused; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QueueError {
    /// The name is taken by another queue.
    #[error("{name} exists already")]
    Exists {
        /// The name.
        name: String,
        /// The queue that has it.
        id: ObjectId,
    },
    /// The name is taken by a topic.
    #[error("{name} exists and is of another kind")]
    WrongKind {
        /// The name.
        name: String,
    },
    /// Empty, or longer than `NAME_BYTES_MAX`.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes")]
    InvalidName,
    /// A policy that cannot be.
    #[error("{what} cannot be so")]
    Policy {
        /// Which part of it.
        what: &'static str,
    },
    /// No such queue.
    #[error("no such queue")]
    NotFound,
    /// Somebody else changed it meanwhile: look again.
    #[error("the definition changed meanwhile (version {current})")]
    Version {
        /// The version now.
        current: u32,
    },
    /// It has consumers, or was used meanwhile.
    #[error("the queue is in use")]
    InUse,
    /// It holds messages that are not at consumers.
    #[error("the queue is not empty")]
    NotEmpty,
    /// The record needs more room than was taken for it (many bindings go): take this much and ask again.
    #[error("the change needs {bytes} bytes of room")]
    Room {
        /// How much.
        bytes: usize,
    },
    /// There is no such topic (any more).
    #[error("no such topic")]
    NoTopic,
    /// The topic has too many partitions.
    #[error("a topic with subscriptions has at most {SUBSCRIBED_PARTITIONS_MAX} partitions")]
    Partitions,
    /// The topic has too many subscriptions.
    #[error("more than {SUBSCRIPTIONS_MAX} subscriptions of one topic")]
    Subscriptions,
    /// A limit was reached.
    #[error("more than {max} queues")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// An operation on queues.
#[non_exhaustive]
#[derive(Debug)]
pub enum QueueOp {
    /// Makes, alters and removes queues: all or nothing, one record.
    Change(Vec<QueueChange>),
    /// Messages for queues: one record; each queue accepts or refuses each message on its own.
    Publish(Vec<Publish>),
    /// A consumer: deliveries come until it is cancelled or its session ends. Needs room for a record (class Settle).
    Subscribe {
        /// The queue.
        queue: ObjectId,
        /// The session's own number for it: not 0, never used again.
        consumer: ConsumerId,
        /// How it takes messages.
        opts: ConsumerOpts,
    },
    /// More explicit credit for a consumer that has one. Without a permit.
    Credit {
        /// Which.
        consumer: ConsumerId,
        /// Deliveries more.
        add: u64,
    },
    /// Most leases at a time, from now on; what is out stays out. Without a permit.
    Prefetch {
        /// Which consumer; `None`: all of this session's together.
        consumer: Option<ConsumerId>,
        /// 0 = no limit.
        max: u32,
    },
    /// Stops or starts deliveries. Without a permit.
    Flow {
        /// Which consumer; `None`: all of this session's.
        consumer: Option<ConsumerId>,
        /// Whether they flow.
        on: bool,
    },
    /// Ends a consumer. Its leases stay its session's. Without a permit.
    Cancel {
        /// Which.
        consumer: ConsumerId,
    },
    /// Takes messages that are ready, or waits for the first. Without a permit: the dispatch makes the record.
    Receive(Receive),
    /// The receive with this ticket is no longer wanted: it is answered with nothing, unless it was answered already.
    StopReceive {
        /// Its ticket.
        ticket: Ticket,
    },
    /// Ends leases; one record. Each item counts on its own; the second word on a lease is an error, whichever.
    Settle(Vec<SettleItem>),
    /// Moves the end of timed leases; one record.
    Extend(Vec<ExtendItem>),
    /// Removes all messages of a queue.
    Purge {
        /// Which.
        queue: ObjectId,
        /// Messages that are leased stay (else their leases end as `Unknown`).
        keep_leased: bool,
    },
    /// What the mover did with messages that it holds; class Publish if it appends. One record; each item counts on its own.
    Move(Vec<MoveItem>),
    /// Holds ready messages for the mover, in delivery order: the first step of a redrive.
    Hold {
        /// The queue.
        queue: ObjectId,
        /// Most messages, at most [`RECEIVE_MAX`].
        max: u32,
    },
    /// Takes messages off the parking place. One record.
    Unpark(Vec<UnparkItem>),
    /// What is parked, by lane and position. Without a permit.
    Parked {
        /// Which queue.
        queue: ObjectId,
        /// From this lane and position on.
        from: (u16, u64),
        /// Most messages.
        max: u32,
    },
    /// What is in a queue. Without a permit.
    Stats {
        /// Which.
        queue: ObjectId,
        /// Whether asking counts as using the queue.
        touch: bool,
        /// Whether the answer waits until what it shows survives a crash.
        durable: bool,
    },
}

/// Names a consumer within its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerId(pub u64);

/// One message for some queues.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The queues, each once.
    pub to: Vec<Target>,
    /// Need not survive a restart.
    pub transient: bool,
    /// 0 to 255.
    pub priority: u8,
    /// Not to be delivered from then on, milliseconds since the epoch. 0: only to who waits for it when it becomes visible.
    pub expiry_ms: Option<u64>,
    /// Hash of its key, under the store's secret: what queues order by.
    pub key_hash: Option<u64>,
    /// Its first home, if it is moved.
    pub origin: Option<(LogId, u64)>,
    /// Hash of its id, under a secret of the store's: what queues with an `id_window_ms` know it again by.
    pub dedup: Option<u128>,
    /// Bytes of envelope at the front of the body.
    pub envelope_len: u32,
    /// Its timestamp, milliseconds, -1 = none.
    pub max_ts_ms: i64,
    /// Envelope and payload in pieces.
    pub body: Vec<Bytes>,
}

/// One queue that a message goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub queue: ObjectId,
    /// Not to be delivered there before, milliseconds since the epoch. `None`: the queue's own delay, if it has one.
    pub due_ms: Option<u64>,
    /// Hash of the key that it has there, if that is not the message's.
    pub key_hash: Option<u64>,
}

impl From<ObjectId> for Target {
    fn from(queue: ObjectId) -> Self {
        Self { queue, due_ms: None, key_hash: None }
    }
}

/// What became of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Queues that have it.
    pub accepted: u32,
    /// One of them at least had it already, by its id: it was not appended there again.
    pub duplicate: bool,
    /// Where it is, in the first of them; of a duplicate, where the first one is or was.
    pub home: Option<(LogId, u64)>,
    /// Queues that did not, and why.
    pub refused: Vec<(ObjectId, Refusal)>,
}

/// Why a queue did not take a message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// No such queue (any more): to be routed again.
    #[error("the queue does not exist")]
    Gone,
    /// It is full.
    #[error("the queue is full")]
    Full,
    /// Ids are remembered of as many messages as can be: whether this one came before would not be known.
    #[error("more than {IDS_MAX} ids are remembered")]
    DedupFull,
    /// It hands out the records of a topic, and nothing else.
    #[error("the queue is subscribed to a topic")]
    Subscription,
}

/// How long a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseKind {
    /// Until it is settled or its session ends.
    Bound,
    /// So long.
    Timed {
        /// Milliseconds, at most `LEASE_MS_MAX`; `None`: as the queue says.
        lease_ms: Option<u64>,
        /// Ends with the session too, and only the session may settle it. Else whoever knows the delivery number may.
        owned: bool,
    },
}

/// How a consumer takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerOpts {
    /// How long.
    pub lease: LeaseKind,
    /// Deliveries go out before their lease is durable.
    pub ride: bool,
    /// Deliveries are settled as they are handed out: there is no lease. The log may have let go of such a message before it is read, so
    /// this is for who needs no bodies; others settle once they have read.
    pub auto_ack: bool,
    /// Most leases at a time; 0 = no limit.
    pub prefetch: u32,
    /// Deliveries until more credit is given; `None`: as many as there are.
    pub credit: Option<u64>,
    /// Higher ones are served first.
    pub priority: i32,
    /// No other consumer may be there.
    pub exclusive: bool,
}

/// One attempt to hand a message to a consumer. The body is at (`LogId::new(queue, lane)`, `pos`); of a subscription at that partition and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Whose.
    pub session: ConnId,
    /// Which consumer; 0 in the answer to a receive.
    pub consumer: ConsumerId,
    /// The queue.
    pub queue: ObjectId,
    /// The lane.
    pub lane: u16,
    /// The position.
    pub pos: u64,
    /// To be given back when the lease is settled. Of a position, no two deliveries have the same; neighbours may have.
    pub delivery_no: u32,
    /// Times it was handed out, this one included.
    pub deliveries: u16,
    /// Times that failed.
    pub attempts: u16,
    /// When it was first handed out, milliseconds since the epoch: now, where that is not known.
    pub first_ms: u64,
    /// It may have been handed out before.
    pub redelivered: bool,
    /// Payload bytes.
    pub bytes: u32,
    /// Not to be shown before this LSN is durable; 0 = at once.
    pub wait: Lsn,
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Done: the message goes.
    Ack,
    /// Done: the message goes, also if its lease ran out or it was given back, as long as it was not handed out since.
    AckLate,
    /// Back to its place.
    Release {
        /// Whether this counts as a failed attempt.
        failed: bool,
        /// Rest, milliseconds; `None`: as the queue's backoff says, if it failed.
        delay_ms: Option<u64>,
    },
    /// It cannot be worked on: to the dead-letter target, or dropped.
    Reject,
    /// It never reached the consumer: back to its place as if it had not been taken.
    Undelivered,
}

/// Leases that end: a run of positions with one delivery number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettleItem {
    /// The queue.
    pub queue: ObjectId,
    /// The lane.
    pub lane: u16,
    /// First position.
    pub pos: u64,
    /// Positions, at least 1.
    pub len: u32,
    /// The delivery number of all of them.
    pub delivery_no: u32,
    /// How.
    pub verb: Verb,
}

/// Timed leases that get a new end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendItem {
    /// The queue.
    pub queue: ObjectId,
    /// The lane.
    pub lane: u16,
    /// First position.
    pub pos: u64,
    /// Positions, at least 1.
    pub len: u32,
    /// The delivery number of all of them.
    pub delivery_no: u32,
    /// From now, milliseconds, at most `LEASE_MS_MAX`.
    pub lease_ms: u64,
}

/// Why a lease could not be settled or extended.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SettleError {
    /// No such queue or message: it may be settled already.
    #[error("the message does not exist")]
    Unknown,
    /// It was given back, or handed out again since.
    #[error("the delivery is not the last one")]
    Stale,
    /// The lease ran out.
    #[error("the lease has run out")]
    Expired,
    /// Another session has it.
    #[error("another consumer holds the lease")]
    NotHolder,
}

/// Why a message ends, or is on its way to the dead-letter target. The number is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cause {
    /// A consumer is done with it.
    Acked = 1,
    /// It was too old.
    Expired = 2,
    /// A consumer rejected it.
    Rejected = 3,
    /// Its attempts were used up.
    Exhausted = 4,
    /// The queue was full.
    Length = 5,
    /// The queue was purged.
    Purged = 6,
    /// It was moved elsewhere.
    Moved = 7,
    /// An operator takes it elsewhere.
    Redrive = 8,
    /// An operator removed it.
    Skipped = 9,
    /// Its bytes were damaged.
    Damaged = 10,
}

/// A message that the mover holds and that it should take elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveWork {
    /// Where it is.
    pub queue: ObjectId,
    /// The lane.
    pub lane: u16,
    /// The position.
    pub pos: u64,
    /// To be given back.
    pub delivery_no: u32,
    /// Why.
    pub cause: Cause,
    /// Times it was handed out.
    pub deliveries: u16,
    /// Times that failed.
    pub attempts: u16,
    /// It can be read once this LSN is durable.
    pub wait: Lsn,
}

/// What the mover did with one message.
#[derive(Debug)]
pub struct MoveItem {
    /// Where it is.
    pub queue: ObjectId,
    /// The lane.
    pub lane: u16,
    /// The position.
    pub pos: u64,
    /// As [`MoveWork`] said.
    pub delivery_no: u32,
    /// What becomes of it.
    pub then: MoveThen,
}

/// A message that the mover holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldItem {
    /// Where it is.
    pub queue: ObjectId,
    /// The lane.
    pub lane: u16,
    /// The position.
    pub pos: u64,
    /// As [`MoveWork`] said.
    pub delivery_no: u32,
}

/// What becomes of a message that the mover holds.
#[derive(Clone, Debug)]
pub enum MoveThen {
    /// It goes elsewhere, in the same record.
    Publish {
        /// Where to, with the body as it is to be there.
        publish: Publish,
        /// Queues that refuse do not hold it back: what no queue takes is dropped. Else it stays held if one refuses, and nothing is
        /// appended.
        at_most_once: bool,
    },
    /// It goes to no queue (no target, a cycle).
    Drop(Cause),
    /// Back to its place, nothing counted.
    Release,
}

/// Why the mover's work on a message was not taken.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MoveError {
    /// The mover does not hold it (any more).
    #[error("the message is not held")]
    NotHeld,
    /// A target refused it: it stays held.
    #[error("{0}")]
    Refused(Refusal),
}

/// A message that is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkedMessage {
    /// The lane.
    pub lane: u16,
    /// The position.
    pub pos: u64,
    /// Times it was handed out.
    pub deliveries: u16,
    /// Times that failed.
    pub attempts: u16,
    /// Payload bytes.
    pub bytes: u32,
}

/// A parked message and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnparkItem {
    /// Where it is.
    pub queue: ObjectId,
    /// The lane.
    pub lane: u16,
    /// The position.
    pub pos: u64,
    /// Back to its place with no attempts counted; else it goes to the dead-letter target, or is dropped.
    pub release: bool,
}

/// What is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// May be delivered (visible or about to be). Of a subscription, what was not read yet counts, also if it will be skipped; and bytes are
    /// those of what was read.
    pub ready: Tally,
    /// At consumers.
    pub leased: Tally,
    /// Not to be delivered yet: published with a delay, or resting after a failure.
    pub scheduled: Tally,
    /// On the way to the dead-letter target.
    pub held: Tally,
    /// Set aside.
    pub parked: Tally,
    /// Nothing is handed out: a message's attempts are used up, [`PARKED_MAX`] are parked, and there is no dead-letter target.
    pub paused: bool,
    /// Consumers.
    pub consumers: u32,
    /// Receives that wait.
    pub waiting: u32,
    /// Ever published; of a subscription, all offsets of its topic.
    pub appended: Tally,
    /// Of these, gone.
    pub settled: Tally,
    /// Handed out since the queue was loaded, what never reached its consumer not counted.
    pub delivered: u64,
    /// Acknowledged since the queue was loaded, what was settled as it went out included.
    pub acked: u64,
    /// Of a subscription.
    pub topic: TopicCounts,
}

/// Records that a subscription did not hand out, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicCounts {
    /// They went by retention before they were settled.
    pub lost: u64,
    /// Filtered out, or no records.
    pub skipped: u64,
    /// They could not be taken out of their batch.
    pub unreadable: u64,
}

/// Messages and their payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages.
    pub n: u64,
    /// Payload bytes.
    pub bytes: u64,
}

/// Answers to [`QueueOp`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueReply {
    /// To `Change`: the definitions made or changed; of a removal, the one removed.
    Changed(Result<Vec<QueueDef>, QueueError>),
    /// To `Publish`: one per message.
    Published(Vec<Published>),
    /// To `Subscribe`.
    Subscribed(Result<(), SubscribeError>),
    /// To `Credit`, `Prefetch`, `Flow`, `Cancel`, `StopReceive`. What does not exist is left alone.
    Done,
    /// To `Receive`: empty if nothing came in time.
    Received(Result<Vec<Delivery>, ReceiveError>),
    /// To `Settle` and `Extend`: the items that did not count, by index.
    Settled {
        /// In order.
        errors: Vec<(usize, SettleError)>,
    },
    /// To `Purge`: messages removed.
    Purged(Option<u64>),
    /// To `Move`: one per item.
    Moved(Vec<Result<(), MoveError>>),
    /// To `Hold`: what is held now. It is not given as work too.
    Held(Option<Vec<MoveWork>>),
    /// To `Unpark`: the items that did not count, by index.
    Unparked {
        /// In order.
        errors: Vec<(usize, SettleError)>,
    },
    /// To `Parked`. `None`: there is no such queue.
    Parked(Option<Vec<ParkedMessage>>),
    /// To `Stats`.
    Stats(Option<QueueStats>),
}

/// Why there is no consumer.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SubscribeError {
    /// No such queue.
    #[error("no such queue")]
    NotFound,
    /// Another consumer is exclusive, or this one would be and another is there already or the queue has a single active one.
    #[error("the queue has an exclusive consumer")]
    Exclusive,
    /// The session uses this number already.
    #[error("the consumer exists")]
    Exists,
    /// A limit was reached.
    #[error("more than {CONSUMERS_MAX} consumers")]
    TooMany,
}

/// Why nothing is received.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReceiveError {
    /// No such queue (any more).
    #[error("no such queue")]
    NotFound,
    /// An exclusive or single active consumer has the queue.
    #[error("the queue has an exclusive consumer")]
    Exclusive,
    /// So many leases are out that none more may be, and it does not wait.
    #[error("as many leases are out as may be, of {LEASES_MAX} at most")]
    OverLimit,
    /// A limit was reached.
    #[error("more than {CONSUMERS_MAX} consumers")]
    TooMany,
}

/// Heads that a queue wants read: attrs and lengths of its next messages. Answered by [`WindowRead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadWindow {
    /// The queue.
    pub queue: ObjectId,
    /// Its lane.
    pub lane: u16,
    /// The lane's log; of a subscription the partition, whose records are answered by [`RecordsRead`](super::source::RecordsRead).
    pub log: LogId,
    /// First position wanted.
    pub from: u64,
    /// Nothing from here on.
    pub end: u64,
    /// Most entries.
    pub max_entries: usize,
    /// To be given back.
    pub token: u64,
}

/// Heads as read.
#[derive(Debug)]
pub struct WindowRead {
    /// What was asked.
    pub asked: ReadWindow,
    /// Heads, ascending. Fewer than `max_entries` only if there are no more below `end`.
    pub heads: Result<Vec<Head>, ReadError>,
}

/// Something became of a queue that its keeper should act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// Nobody used it for its `expires_ms`: to be deleted with `if_unused` and `if_idle`.
    Idle(ObjectId),
    /// Its last consumer went and it is to go with it: to be deleted with `if_unused`.
    LastConsumer(ObjectId),
}
