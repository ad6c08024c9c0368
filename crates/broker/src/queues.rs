//! Declaring, altering, deleting, purging and looking at queues.
//!
//! Start at [`Session::declare_queue`].

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_engine::op::{Op, Reply};
use millstream_engine::queue::api::{
    ParkedMessage, QueueChange, QueueDef, QueueError, QueueOp, QueueReply, QueueStats, Receive, ReceiveError,
    UnparkItem, Verb,
};
use millstream_engine::queue::policy::QueuePolicy;
use millstream_engine::queue::source::SUBSCRIBED_PARTITIONS_MAX;
use millstream_log::Class;
use millstream_types::{Namespace, ObjectId};

use crate::asked::Asked;
use crate::bodies::{BodyError, QueueMessage};
use crate::broker::Broker;
use crate::consume::settle_item;
use crate::envelope::Header;
use crate::error::{CallError, QueueCallError};
use crate::key_from::KeyFrom;
use crate::queue_settings::{DeadLetter, QueueSettings, owner_of};
use crate::session::Session;
use crate::subscription::Subscription;

/// A queue to be declared.
#[derive(Clone, Debug, PartialEq)]
pub struct NewQueue {
    /// Name.
    pub name: String,
    /// Whether it is there after a restart.
    pub durable: bool,
    /// Only sessions of this session's owner may use it, and it goes with the owner.
    pub exclusive: bool,
    /// What it does with messages. `dead_letter` in it follows from the field below.
    pub policy: QueuePolicy,
    /// Where its dead messages go.
    pub dead_letter: Option<DeadLetter>,
    /// The topic whose records it hands out, instead of what would be published to it.
    pub subscription: Option<Subscription>,
    /// What is the key of a message that has none.
    pub key_from: KeyFrom,
    /// Other arguments: kept, and not compared when it is declared again.
    pub arguments: Vec<Header>,
    /// What a protocol keeps with it ([`QueueSettings::more`]); not compared either.
    pub more: BTreeMap<String, String>,
}

impl NewQueue {
    /// A durable queue without limits.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            durable: true,
            exclusive: false,
            policy: QueuePolicy::default(),
            dead_letter: None,
            subscription: None,
            key_from: KeyFrom::Key,
            arguments: Vec::new(),
            more: BTreeMap::new(),
        }
    }
}

/// A queue that is there.
#[derive(Clone, Debug)]
pub struct Declared {
    /// It.
    pub def: Arc<QueueDef>,
    /// Whether it was made just now.
    pub made: bool,
    /// What is in it.
    pub stats: QueueStats,
}

/// Room for a change of one queue, settings aside; deleting one with many bindings asks for more.
const CHANGE_ROOM_BYTES: usize = 8_192;
/// Where a subscription begins in one partition.
const LANE_BYTES: usize = 48;
/// Messages and payload bytes looked at in one call.
const PEEK_MESSAGES_MAX: u32 = 1_000;
const PEEK_BYTES_MAX: u64 = 4 << 20;
/// Messages taken off the parking place with one record, and room for it.
const UNPARK_MAX: usize = 256;
const UNPARK_ROOM_BYTES: usize = 64 << 10;
/// Room for a purge.
const PURGE_ROOM_BYTES: usize = 64 << 10;

impl Broker {
    /// The queue of this name.
    #[must_use]
    pub fn queue(&self, ns: Namespace, name: &str) -> Option<Arc<QueueDef>> {
        self.directory().by_name(ns, name)
    }

    /// The queue with this id, as the last change left it.
    #[must_use]
    pub fn queue_by_id(&self, id: ObjectId) -> Option<Arc<QueueDef>> {
        self.directory().by_id(id)
    }

    /// All queues of a namespace, by name.
    #[must_use]
    pub fn queues(&self, ns: Namespace) -> Vec<Arc<QueueDef>> {
        self.directory().all(ns)
    }
}

impl Session {
    /// The queue of this name in the session's namespace, as the last change left it. Whether the change is durable is not known: what
    /// answers about it waits for that.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<Arc<QueueDef>> {
        self.broker().queue(self.namespace(), name)
    }

    /// Whether somebody else's exclusive queue: nothing of this session may use it.
    #[must_use]
    pub fn is_locked(&self, queue: ObjectId) -> bool {
        let owner = self.broker().directory().by_id(queue).and_then(|d| owner_of(&d));
        owner.is_some_and(|o| o != self.options().owner)
    }

    /// Makes a queue, or finds it made alike. Finding it counts as using it.
    ///
    /// # Durability
    /// What is answered with success survives a crash, unless the queue is transient: not durable, or exclusive.
    ///
    /// # Errors
    /// `Differs` if it is there and made otherwise; `Locked`; `WrongKind` if a topic has the name; see [`QueueCallError`].
    pub async fn declare_queue(&self, new: NewQueue) -> Result<Declared, QueueCallError> {
        let owner = new.exclusive.then_some(self.options().owner);
        if let Some(owner) = owner {
            self.broker().will_own(owner, self.namespace(), &new.name);
        }
        let NewQueue {
            name, durable, mut policy, dead_letter, subscription, key_from, arguments, more, ..
        } = new;
        policy.dead_letter = dead_letter.is_some();
        let settings = QueueSettings { durable, owner, dead_letter, subscription, key_from, arguments, more };
        let map = settings.to_map()?;
        loop {
            if let Some(def) = self.queue(&name) {
                if self.is_locked(def.id) {
                    return Err(QueueCallError::Locked);
                }
                alike(&def, &policy, &settings)?;
                // The answer shows when the queue is durable, if it ever is. It may have gone meanwhile: then it is made.
                if let Some(stats) = self.queue_stats(def.id, !def.id.is_transient()).await? {
                    return Ok(Declared { def, made: false, stats });
                }
                continue;
            }
            let source = match &settings.subscription {
                None => None,
                Some(s) => Some(s.source(self.broker(), self.namespace()).await?),
            };
            let lanes = source.as_ref().map_or(0, |_| SUBSCRIBED_PARTITIONS_MAX * LANE_BYTES);
            let change = QueueChange::Create {
                ns: self.namespace(),
                name: name.clone(),
                policy: policy.clone(),
                settings: map.clone(),
                source,
                transient: settings.is_transient(),
            };
            match self.change_queue(change, map_bytes(&map) + lanes).await {
                Ok(def) => {
                    return Ok(Declared { def: Arc::new(def), made: true, stats: QueueStats::default() });
                }
                // Somebody else made it meanwhile: look again.
                Err(QueueCallError::Queue(QueueError::Exists { .. })) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Gives a queue another policy and dead-letter target.
    ///
    /// # Durability
    /// As [`Session::declare_queue`].
    ///
    /// # Errors
    /// `NotFound`, `Locked`, `Policy`; see [`QueueCallError`].
    pub async fn alter_queue(
        &self,
        queue: ObjectId,
        mut policy: QueuePolicy,
        dead_letter: Option<DeadLetter>,
    ) -> Result<QueueDef, QueueCallError> {
        policy.dead_letter = dead_letter.is_some();
        let altered = self
            .update_queue::<std::convert::Infallible>(queue, |_, p, settings| {
                p.clone_from(&policy);
                settings.dead_letter.clone_from(&dead_letter);
                Ok(())
            })
            .await?;
        match altered {
            Ok(def) => Ok(def),
            Err(never) => match never {},
        }
    }

    /// Changes a queue's policy and settings from what they are at that moment: `change` may be called several times, if somebody else
    /// changes them meanwhile. Whether there is a dead-letter target follows from the settings.
    ///
    /// # Durability
    /// As [`Session::declare_queue`].
    ///
    /// # Errors
    /// As [`Session::alter_queue`]; the inner error is what `change` said, and nothing was changed.
    pub async fn update_queue<E>(
        &self,
        queue: ObjectId,
        mut change: impl FnMut(&QueueDef, &mut QueuePolicy, &mut QueueSettings) -> Result<(), E>,
    ) -> Result<Result<QueueDef, E>, QueueCallError> {
        loop {
            let def = self.usable(queue)?;
            let (mut policy, mut settings) = (def.policy.clone(), QueueSettings::of(&def));
            if let Err(e) = change(&def, &mut policy, &mut settings) {
                return Ok(Err(e));
            }
            policy.dead_letter = settings.dead_letter.is_some();
            let map = settings.to_map()?;
            let bytes = map_bytes(&map);
            let change = QueueChange::Alter { id: queue, expect: def.version, policy, settings: map };
            match self.change_queue(change, bytes).await {
                // Somebody else altered it meanwhile: look again.
                Err(QueueCallError::Queue(QueueError::Version { .. })) => {}
                result => return result.map(Ok),
            }
        }
    }

    /// Removes a queue with its messages and the bindings to it. Gives how many messages were ready.
    ///
    /// # Durability
    /// As [`Session::declare_queue`].
    ///
    /// # Errors
    /// `NotFound`, `InUse`, `NotEmpty`, `Locked`; see [`QueueCallError`].
    pub async fn delete_queue(
        &self,
        queue: ObjectId,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<u64, QueueCallError> {
        self.usable(queue)?;
        let stats = self.stats_of(queue, false, true);
        let change = QueueChange::Delete { id: queue, if_unused, if_empty, if_idle: false };
        self.change_queue(change, 0).await?;
        Ok(stats.await?.map_or(0, |s| s.ready.n))
    }

    /// Removes all messages of a queue; with `keep_leased` those at consumers stay. Gives how many went.
    ///
    /// # Durability
    /// As [`Session::declare_queue`].
    ///
    /// # Errors
    /// `NotFound`, `Locked`; see [`QueueCallError`].
    pub async fn purge_queue(&self, queue: ObjectId, keep_leased: bool) -> Result<u64, QueueCallError> {
        self.usable(queue)?;
        let permit = self.admit(Class::Settle, PURGE_ROOM_BYTES).await?;
        match self.submit(Some(permit), Op::Queue(QueueOp::Purge { queue, keep_leased })).await {
            Reply::Queue(QueueReply::Purged(n)) => Ok(n.ok_or(QueueError::NotFound)?),
            _ => Err(CallError::FateUnknown.into()),
        }
    }

    /// The next messages of a queue in delivery order, at most `max`, without taking them: they are handed out for the moment of the
    /// look, and go back to their places as if they had not been.
    ///
    /// # Errors
    /// `NotFound`, `Locked`; `InUse` if an exclusive or single active consumer has the queue; see [`QueueCallError`].
    pub async fn peek_queue(
        &self,
        queue: ObjectId,
        max: u32,
    ) -> Result<Vec<Result<QueueMessage, BodyError>>, QueueCallError> {
        self.usable(queue)?;
        let what = Receive { bytes_max: PEEK_BYTES_MAX, ..Receive::now(queue, max.min(PEEK_MESSAGES_MAX)) };
        let received = self.receive(what).map_err(|_| QueueCallError::Locked)?.await?;
        let deliveries = received.map_err(|e| match e {
            ReceiveError::NotFound => QueueError::NotFound,
            ReceiveError::Exclusive | ReceiveError::OverLimit | ReceiveError::TooMany => QueueError::InUse,
        })?;
        let read = self.broker().read_bodies(&deliveries).await;
        if !deliveries.is_empty() {
            let back = deliveries.iter().map(|d| settle_item(d, Verb::Undelivered)).collect();
            self.settle(back).await?.await?;
        }
        Ok(read)
    }

    /// What is in a queue; `None`: it is not there. With `touch`, asking counts as using it.
    ///
    /// # Durability
    /// What it shows is durable.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn queue_stats(&self, queue: ObjectId, touch: bool) -> Result<Option<QueueStats>, CallError> {
        self.stats_of(queue, touch, true).await
    }

    /// Messages that a queue has set aside, from a lane and position on, at most `max`; `None`: there is no such queue.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn parked(
        &self,
        queue: ObjectId,
        from: (u16, u64),
        max: u32,
    ) -> Result<Option<Vec<ParkedMessage>>, CallError> {
        match self.submit(None, Op::Queue(QueueOp::Parked { queue, from, max })).await {
            Reply::Queue(QueueReply::Parked(parked)) => Ok(parked),
            _ => Err(CallError::FateUnknown),
        }
    }

    /// Takes messages (lane, position) off a queue's parking place: back to their places with no attempts counted, or to the dead-letter
    /// target (without one they are dropped). How many were parked.
    ///
    /// # Durability
    /// As [`Session::declare_queue`].
    ///
    /// # Errors
    /// `NotFound`, `Locked`; see [`QueueCallError`]. Some may have been taken off before.
    pub async fn unpark(
        &self,
        queue: ObjectId,
        places: &[(u16, u64)],
        release: bool,
    ) -> Result<u64, QueueCallError> {
        self.usable(queue)?;
        let mut done = 0;
        for part in places.chunks(UNPARK_MAX) {
            let items = part.iter().map(|(lane, pos)| UnparkItem { queue, lane: *lane, pos: *pos, release });
            let items: Vec<UnparkItem> = items.collect();
            let n = items.len();
            let permit = self.admit(Class::Settle, UNPARK_ROOM_BYTES).await?;
            match self.submit(Some(permit), Op::Queue(QueueOp::Unpark(items))).await {
                Reply::Queue(QueueReply::Unparked { errors }) => done += (n - errors.len()) as u64,
                _ => return Err(CallError::FateUnknown.into()),
            }
        }
        Ok(done)
    }

    /// As [`Session::queue_stats`] without waiting for the disk: what is decided, which a crash may take back.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn queue_stats_now(&self, queue: ObjectId) -> Result<Option<QueueStats>, CallError> {
        self.stats_of(queue, true, false).await
    }

    fn stats_of(&self, queue: ObjectId, touch: bool, durable: bool) -> Asked<Option<QueueStats>> {
        let pending = self.submit(None, Op::Queue(QueueOp::Stats { queue, touch, durable }));
        Asked::new(pending, |reply| match reply {
            Reply::Queue(QueueReply::Stats(stats)) => Some(stats),
            _ => None,
        })
    }

    /// The queue, if this session may use it.
    pub(crate) fn usable(&self, queue: ObjectId) -> Result<Arc<QueueDef>, QueueCallError> {
        if self.is_locked(queue) {
            return Err(QueueCallError::Locked);
        }
        Ok(self.broker().directory().by_id(queue).ok_or(QueueError::NotFound)?)
    }

    pub(crate) async fn change_queue(
        &self,
        change: QueueChange,
        more_bytes: usize,
    ) -> Result<QueueDef, QueueCallError> {
        let mut room = CHANGE_ROOM_BYTES + more_bytes;
        loop {
            let permit = self.admit(Class::Settle, room).await?;
            match self.submit(Some(permit), Op::Queue(QueueOp::Change(vec![change.clone()]))).await {
                // More is bound to it than one looked for.
                Reply::Queue(QueueReply::Changed(Err(QueueError::Room { bytes }))) if bytes > room => {
                    room = bytes;
                }
                Reply::Queue(QueueReply::Changed(result)) => {
                    return result?.pop().ok_or_else(|| QueueError::NotFound.into());
                }
                _ => return Err(CallError::FateUnknown.into()),
            }
        }
    }
}

fn map_bytes(map: &BTreeMap<String, String>) -> usize {
    map.iter().map(|(k, v)| k.len() + v.len() + 16).sum()
}

/// Whether a queue was asked for as it is. Arguments are not compared.
fn alike(def: &QueueDef, policy: &QueuePolicy, asked: &QueueSettings) -> Result<(), QueueCallError> {
    let has = QueueSettings::of(def);
    let (p, q) = (&def.policy, policy);
    let parts = [
        ("durability", has.durable == asked.durable),
        ("exclusiveness", has.owner == asked.owner),
        ("auto_delete", p.auto_delete == q.auto_delete),
        ("dead_letter", has.dead_letter == asked.dead_letter),
        ("subscription", has.subscription == asked.subscription),
        ("key_from", has.key_from == asked.key_from),
        ("ttl_ms", p.ttl_ms == q.ttl_ms),
        ("expires_ms", p.expires_ms == q.expires_ms),
        ("messages_max", p.messages_max == q.messages_max),
        ("bytes_max", p.bytes_max == q.bytes_max),
        ("overflow", p.overflow == q.overflow),
        ("priority_max", p.priority_max == q.priority_max),
        ("attempts_max", p.attempts_max == q.attempts_max),
        ("single_active", p.single_active == q.single_active),
        ("policy", p == q),
    ];
    match parts.iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(QueueCallError::Differs { what }),
        None => Ok(()),
    }
}
