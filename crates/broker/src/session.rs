//! A session: one ordered stream of operations (a connection, a channel, one HTTP request, a task of an embedding program).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use millstream_engine::group::{GroupOp, GroupReply};
use millstream_engine::op::{AppendError, AppendItem, Appended, Draft, Op, ProducerInfo, Reply, Ticket};
use millstream_engine::queue::source::SUBSCRIPTIONS_MAX;
use millstream_log::{Class, Permit};
use millstream_types::{LogId, Namespace};

use crate::auth::{Action, Principal, Resource};
use crate::broker::Broker;
use crate::error::{CallError, Refused};
use crate::mailbox::{Mailbox, Pending};
use crate::routing::RouteScratch;
use crate::turn::Input;

/// What the broker is told of a session's client.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// The client's own name for itself.
    pub client_id: String,
    /// Its address.
    pub host: String,
    /// Whose exclusive queues it may use, and who owns those it makes ([`Broker::owner`]); 0 = nobody's.
    pub owner: u64,
}

/// Bytes of a record besides bodies: of the record, and of each operation. Upper bounds.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 256;
/// What a trim says of one subscription, bytes.
const TRIM_SUBSCRIPTION_BYTES: usize = 160;
pub(crate) const ITEM_OVERHEAD_BYTES: usize = 128;
const OFFSET_OVERHEAD_BYTES: usize = 96;

/// One ordered stream of operations: they are decided in the order of [`Session::submit`]. About 200 bytes; no task of its own.
/// Dropping it ends it, behind what was submitted.
#[derive(Debug)]
pub struct Session {
    core: Arc<Core>,
    who: Principal,
    options: SessionOptions,
    pub(crate) scratch: Mutex<RouteScratch>,
}

/// What an answer on its way needs of its session.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) broker: Broker,
    pub(crate) ns: Namespace,
    pub(crate) mailbox: Arc<Mailbox>,
    next: AtomicU64,
    /// For messages without a key: which partition is next.
    pub(crate) turn: AtomicU32,
}

impl Core {
    pub(crate) fn submit(&self, permit: Option<Permit>, op: Op) -> Pending {
        let ticket = Ticket(self.next.fetch_add(1, Ordering::Relaxed));
        let pending = self.mailbox.expect(ticket);
        self.broker.shared().inbox.put(Input::Draft(Draft {
            session: self.mailbox.conn,
            ticket,
            op,
            permit,
        }));
        pending
    }
}

impl Session {
    pub(crate) fn new(
        broker: Broker,
        who: Principal,
        ns: Namespace,
        options: SessionOptions,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        broker.shared().inbox.put(Input::Open(Arc::clone(&mailbox)));
        let core = Core { broker, ns, mailbox, next: AtomicU64::new(1), turn: AtomicU32::new(0) };
        Self { core: Arc::new(core), who, options, scratch: Mutex::default() }
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.core.broker
    }
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }
    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        self.core.ns
    }
    /// Who it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.who
    }
    /// What the broker was told of the client.
    #[must_use]
    pub fn options(&self) -> &SessionOptions {
        &self.options
    }
    /// Whether this session's principal may do `action` to `what`.
    #[must_use]
    pub fn may(&self, action: Action, what: &Resource) -> bool {
        self.core.broker.authorized(&self.who, action, what)
    }

    /// Waits for room for one record of at most `bytes`. All back-pressure is here: a session that reads its socket awaits this
    /// before it reads on.
    ///
    /// # Errors
    /// `DiskFull` (class Publish, at once), `TooLarge`, `Closed`.
    pub async fn admit(&self, class: Class, bytes: usize) -> Result<Permit, Refused> {
        Ok(self.core.broker.gate().admit(class, bytes).await?)
    }

    /// Puts an operation behind all that this session submitted before. Never waits, never fails: the answer tells.
    pub fn submit(&self, permit: Option<Permit>, op: Op) -> Pending {
        self.core.submit(permit, op)
    }

    /// Whether the log takes appends of these sizes, whatever room there is. To be asked before [`Session::submit`].
    ///
    /// # Errors
    /// `TooLarge`, of the first that it does not.
    pub fn check_sizes(&self, items: &[AppendItem]) -> Result<(), Refused> {
        let max = self.broker().append_bytes_max();
        let sizes = items.iter().map(|i| i.body.iter().map(bytes::Bytes::len).sum());
        sizes
            .into_iter()
            .find(|bytes| *bytes > max)
            .map_or(Ok(()), |bytes| Err(Refused::TooLarge { bytes, max }))
    }

    /// Room that an append of these items takes.
    #[must_use]
    pub fn append_bytes(items: &[AppendItem]) -> usize {
        let body = |i: &AppendItem| i.body.iter().map(bytes::Bytes::len).sum::<usize>();
        RECORD_OVERHEAD_BYTES + items.iter().map(|i| body(i) + ITEM_OVERHEAD_BYTES).sum::<usize>()
    }

    /// Room that a commit of offsets takes.
    #[must_use]
    pub fn commit_bytes(commit: &millstream_engine::group::Commit) -> usize {
        let who = commit.who.group.len() + commit.who.member.len();
        RECORD_OVERHEAD_BYTES
            + commit
                .offsets
                .iter()
                .map(|(_, o)| o.metadata.len() + who + OFFSET_OVERHEAD_BYTES)
                .sum::<usize>()
    }

    /// Appends to partitions; each item has a result of its own.
    ///
    /// # Durability
    /// Returns when everything accepted survives a crash.
    ///
    /// # Errors
    /// [`CallError`]: then nothing is known (`FateUnknown`) or nothing happened (`Refused`).
    pub async fn append(
        &self,
        items: Vec<AppendItem>,
    ) -> Result<Vec<Result<Appended, AppendError>>, CallError> {
        self.check_sizes(&items)?;
        let permit = self.admit(Class::Publish, Self::append_bytes(&items)).await?;
        match self.submit(Some(permit), Op::Append(items)).await {
            Reply::Append(results) => Ok(results),
            _ => Err(CallError::FateUnknown),
        }
    }

    /// A consumer group's affairs.
    ///
    /// # Durability
    /// What the answer tells of survives a crash.
    ///
    /// # Errors
    /// [`CallError`]; errors of the group are in the reply.
    pub async fn group(&self, op: GroupOp) -> Result<GroupReply, CallError> {
        let permit = match &op {
            GroupOp::Commit(commit) => Some(self.admit(Class::Settle, Self::commit_bytes(commit)).await?),
            GroupOp::DeleteOffsets { parts, .. } => {
                let bytes = RECORD_OVERHEAD_BYTES + parts.len() * OFFSET_OVERHEAD_BYTES;
                Some(self.admit(Class::Settle, bytes).await?)
            }
            GroupOp::Delete { groups, .. } => {
                Some(self.admit(Class::Settle, RECORD_OVERHEAD_BYTES * (1 + groups.len())).await?)
            }
            _ => None,
        };
        match self.submit(permit, Op::Group(op)).await {
            Reply::Group(reply) => Ok(reply),
            _ => Err(CallError::FateUnknown),
        }
    }

    /// A producer id never given before, and its first epoch.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn init_producer(&self) -> Result<(i64, i16), CallError> {
        let permit = self.admit(Class::Settle, RECORD_OVERHEAD_BYTES).await?;
        match self.submit(Some(permit), Op::InitProducer).await {
            Reply::Producer { id, epoch } => Ok((id, epoch)),
            _ => Err(CallError::FateUnknown),
        }
    }

    /// Removes everything below `before` from a partition; returns its new start.
    ///
    /// # Errors
    /// [`CallError`]; the inner error if the partition is gone or `before` is past its end.
    pub async fn trim(&self, part: LogId, before: u64) -> Result<Result<u64, AppendError>, CallError> {
        // What it takes from subscriptions is said in the same record.
        let room = RECORD_OVERHEAD_BYTES + SUBSCRIPTIONS_MAX * TRIM_SUBSCRIPTION_BYTES;
        let permit = self.admit(Class::Reclaim, room).await?;
        match self.submit(Some(permit), Op::Trim { part, before }).await {
            Reply::Trim(result) => Ok(result),
            _ => Err(CallError::FateUnknown),
        }
    }

    /// The producers that a partition knows.
    ///
    /// # Errors
    /// [`CallError`]; the inner error if the partition is gone.
    pub async fn describe_producers(
        &self,
        part: LogId,
    ) -> Result<Result<Vec<ProducerInfo>, AppendError>, CallError> {
        match self.submit(None, Op::DescribeProducers(part)).await {
            Reply::Producers(result) => Ok(result),
            _ => Err(CallError::FateUnknown),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.core.broker.shared().inbox.put(Input::Gone(self.core.mailbox.conn));
    }
}
