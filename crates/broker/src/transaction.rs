//! Transactions: reading on, publishing, settling and committing offsets as one step, across topics and queues.
//!
//! Start at [`Session::transaction`]. It is one record in the log: after a crash all of it is there, or nothing is.

use std::fmt;

use millstream_engine::group::Commit;
use millstream_engine::op::{
    AppendError, AppendItem, Appended, Op, Reply, TRANSACT_BYTES_MAX, TRANSACT_OPS_MAX, Tolerance, Transact,
    TransactError, Transacted,
};
use millstream_engine::queue::api::{HeldItem, Published, SettleItem};
use millstream_engine::task::TaskStep;
use millstream_log::Class;
use thiserror::Error;

use crate::consume::settle_bytes;
use crate::error::{CallError, PublishError, Refused};
use crate::publish::{
    NewMessage, PublishOutcomes, PublishRefusal, ROUTE_TRIES_MAX, Routed, TARGET_BYTES, has_memory, name_of,
    targets,
};
use crate::session::{ITEM_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Session};

/// Room that a group that begins takes.
const GROUP_BYTES: usize = 1_024;
/// Room that a task's step takes besides its cursors.
pub(crate) const STEP_BYTES: usize = 2_048;
const CURSOR_BYTES: usize = 24;

/// What is to happen in one step. At most [`TRANSACT_OPS_MAX`] operations and [`TRANSACT_BYTES_MAX`] bytes of bodies, copies for several
/// topics counted each.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Messages: each is routed by exchanges and bindings, to queues and topics.
    pub publish: Vec<NewMessage>,
    /// Appends to partitions.
    pub append: Vec<AppendItem>,
    /// Leases that end, each named once.
    pub settle: Vec<SettleItem>,
    /// Messages that the mover holds and that are elsewhere after this.
    pub moved: Vec<HeldItem>,
    /// Offsets that groups come to. A group that is not there begins with it.
    pub commit_offsets: Vec<Commit>,
    /// A task goes on.
    pub task: Option<TaskStep>,
    /// A message that a full queue refuses, that is routed nowhere or cannot be routed is told of in its place, and the rest stands.
    /// Else nothing happens then.
    pub refusals_stand: bool,
    /// A message that is routed nowhere is told of in its place, and the rest stands, also where refusals do not.
    pub unrouted_stand: bool,
}

/// What a transaction came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransactionOutcome {
    /// Per message of `publish`.
    pub published: PublishOutcomes,
    /// Per item of `append`.
    pub appended: Vec<Appended>,
}

/// Why a message kept a transaction from happening.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotPublished {
    /// It cannot be routed, or not be kept.
    #[error(transparent)]
    Error(#[from] PublishError),
    /// It is routed to nothing.
    #[error("it is routed to nothing")]
    Unrouted,
    /// A queue or topic refuses it.
    #[error("{0} {1}")]
    Refused(String, PublishRefusal),
    /// What it is routed to goes whenever it is routed.
    #[error("its target went")]
    Gone,
}

impl fmt::Display for PublishRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "is full",
            Self::TooLarge => "takes no message so large",
            Self::DedupFull => "remembers as many ids as it can",
            Self::Subscription => "is subscribed to a topic and takes no other messages",
        })
    }
}

/// Why a transaction did nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TransactionError {
    /// More than a transaction may have.
    #[error(
        "{ops} operations and {bytes} bytes; a transaction has {TRANSACT_OPS_MAX} and {TRANSACT_BYTES_MAX} at most"
    )]
    TooLarge {
        /// Operations.
        ops: usize,
        /// Bytes of bodies.
        bytes: usize,
    },
    /// A message of `publish`.
    #[error("message {item}: {why}")]
    Publish {
        /// Which.
        item: usize,
        /// Why.
        why: NotPublished,
    },
    /// An append, a settlement, a commit of offsets, or the task; indices are those of the lists in [`Transaction`].
    #[error(transparent)]
    Conflict(TransactError),
    /// The call gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<Refused> for TransactionError {
    fn from(e: Refused) -> Self {
        Self::Call(CallError::Refused(e))
    }
}

impl Session {
    /// Does all of it or nothing. It is decided in the order of the session's other operations.
    ///
    /// # Durability
    /// Answered when all of it survives a crash.
    ///
    /// # Errors
    /// [`TransactionError`]: nothing happened, but for `FateUnknown`.
    pub async fn transaction(&self, tx: &Transaction) -> Result<TransactionOutcome, TransactionError> {
        self.check_sizes(&tx.append)?;
        for attempt in 1.. {
            let Routed { mut outcomes, queues, of_queue, topics, of_topic, queue_bytes } =
                self.route_all(&tx.publish);
            if !tx.refusals_stand {
                all_routed(&outcomes, tx.unrouted_stand)?;
            }
            let mut appends = topics;
            let routed_appends = appends.len();
            appends.extend(tx.append.iter().cloned());
            let op = Transact {
                appends,
                publishes: queues,
                settles: tx.settle.clone(),
                moved: tx.moved.clone(),
                commits: tx.commit_offsets.clone(),
                task: tx.task.clone(),
                tolerance: if tx.refusals_stand { Tolerance::FullQueues } else { Tolerance::Nothing },
            };
            let (ops, bytes) = op.size();
            if ops > TRANSACT_OPS_MAX || bytes > TRANSACT_BYTES_MAX {
                return Err(TransactionError::TooLarge { ops, bytes });
            }
            let ends = op.settles.iter().map(|i| i.queue).chain(op.moved.iter().map(|i| i.queue));
            has_memory(self.broker(), targets(&op.publishes), ends)?;
            let publishes = !(op.appends.is_empty() && op.publishes.is_empty());
            let class = if publishes { Class::Publish } else { Class::Settle };
            let permit = self.admit(class, queue_bytes + room(&op)).await?;
            let reply = self.submit(Some(permit), Op::Transact(Box::new(op))).await;
            let Reply::Transact(done) = reply else { return Err(CallError::FateUnknown.into()) };
            let gone = match done {
                Ok(Transacted { appended, published }) => {
                    for (item, published) in of_queue.into_iter().zip(published) {
                        self.note(&mut outcomes, item, published);
                    }
                    let mut appended = appended.into_iter().flatten();
                    for item in of_topic {
                        if let (Some(Ok(outcome)), Some(_)) = (outcomes.get_mut(item), appended.next()) {
                            outcome.accepted += 1;
                        }
                    }
                    return Ok(TransactionOutcome { published: outcomes, appended: appended.collect() });
                }
                Err(TransactError::Publish { index, queue, why }) => match PublishRefusal::of(why) {
                    None => of_queue.get(index),
                    Some(why) => {
                        let item = of_queue.get(index).copied().unwrap_or_default();
                        let why = NotPublished::Refused(name_of(self.core(), queue), why);
                        return Err(TransactionError::Publish { item, why });
                    }
                },
                Err(TransactError::Append { index, error: AppendError::Gone }) if index < routed_appends => {
                    of_topic.get(index)
                }
                Err(TransactError::Append { index, error }) => {
                    let index = index.saturating_sub(routed_appends);
                    return Err(TransactionError::Conflict(TransactError::Append { index, error }));
                }
                Err(conflict) => return Err(TransactionError::Conflict(conflict)),
            };
            // A target went since the message was routed: it is routed again.
            if attempt >= ROUTE_TRIES_MAX {
                let item = gone.copied().unwrap_or_default();
                return Err(TransactionError::Publish { item, why: NotPublished::Gone });
            }
        }
        Err(CallError::FateUnknown.into())
    }

    fn note(&self, outcomes: &mut PublishOutcomes, item: usize, published: Published) {
        let Some(Ok(outcome)) = outcomes.get_mut(item) else { return };
        outcome.accepted += published.accepted;
        outcome.duplicate |= published.duplicate;
        for (queue, why) in published.refused {
            let why = PublishRefusal::of(why).unwrap_or(PublishRefusal::Full);
            outcome.refused.push((name_of(self.core(), queue), why));
        }
    }
}

/// Whether every message has somewhere to go, or may go nowhere, and is refused nowhere so far.
fn all_routed(outcomes: &PublishOutcomes, unrouted_stand: bool) -> Result<(), TransactionError> {
    for (item, outcome) in outcomes.iter().enumerate() {
        let why = match outcome {
            Err(e) => NotPublished::Error(e.clone()),
            Ok(o) if !o.routed && unrouted_stand => continue,
            Ok(o) if !o.routed => NotPublished::Unrouted,
            Ok(o) => match o.refused.first() {
                Some((name, why)) => NotPublished::Refused(name.clone(), *why),
                None => continue,
            },
        };
        return Err(TransactionError::Publish { item, why });
    }
    Ok(())
}

/// Room that a transaction takes, its messages for queues apart.
fn room(op: &Transact) -> usize {
    let step = op.task.as_ref().map_or(0, |t| STEP_BYTES + t.cursors.len() * CURSOR_BYTES);
    let commits = op.commits.iter().map(|c| Session::commit_bytes(c) + GROUP_BYTES).sum::<usize>();
    RECORD_OVERHEAD_BYTES
        + Session::append_bytes(&op.appends)
        + settle_bytes(op.settles.iter().map(|i| i.len))
        + op.moved.len() * (TARGET_BYTES + ITEM_OVERHEAD_BYTES)
        + commits
        + step
}
