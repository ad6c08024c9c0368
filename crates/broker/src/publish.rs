//! Publishing: a message is routed by this moment's exchanges and bindings, and goes to all its queues in one record.
//!
//! Start at [`Session::publish`]. Messages published together share a record, whether they go to queues, topics or both.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use millstream_engine::catalogue::{Snapshot, Topic};
use millstream_engine::exchange::TargetKind;
use millstream_engine::op::{AppendItem, AppendKind, Op, Reply, Tolerance, Transact, Transacted};
use millstream_engine::queue::PUBLISH_ACTS_BYTES;
use millstream_engine::queue::api::{Publish, Published, QueueDef, QueueOp, QueueReply, Refusal, Target};
use millstream_engine::queue::directory::Directory;
use millstream_log::Class;
use millstream_types::{LogId, Namespace, ObjectId};
use thiserror::Error;

use crate::broker::Broker;
use crate::envelope::{EnvelopeError, Message, property};
use crate::error::{CallError, PublishError, Refused};
use crate::mailbox::Pending;
use crate::partitioner::partition_for_key;
use crate::routing::{Names, RouteError, RouteRequest, RouteScratch};
use crate::session::{Core, ITEM_OVERHEAD_BYTES, Session};

/// A message whose targets went while it was on its way is routed again, so often.
pub(crate) const ROUTE_TRIES_MAX: usize = 3;
/// Room of a message in one queue, body and [`PUBLISH_ACTS_BYTES`] apart.
pub(crate) const TARGET_BYTES: usize = 256;

/// A message to be published. Exchange and routing keys are in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewMessage {
    /// The message. A queue that orders by key does by its key.
    pub message: Message,
    /// It need not survive a restart.
    pub transient: bool,
    /// 0 to 255; a queue counts one above its highest as its highest.
    pub priority: u8,
    /// Not to be delivered after so long, milliseconds; with 0 only to who is waiting for it when it is durable.
    pub ttl_ms: Option<u64>,
    /// Not to be delivered before so long, milliseconds; `None`: as each queue says.
    pub delay_ms: Option<u64>,
    /// By what queues that watch ids (`id_window_ms`) know it again, and do not take it twice: a hash under a secret. `None`: by its
    /// [`property::DEDUPLICATION_ID`], if it has one.
    pub dedup: Option<u128>,
}

impl NewMessage {
    /// Until when queues may deliver it, as they say it, if it is published now.
    pub(crate) fn expiry_ms(&self, now_ms: u64) -> Option<u64> {
        self.ttl_ms.map(|ttl| if ttl == 0 { 0 } else { now_ms.saturating_add(ttl) })
    }
}

/// What became of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOutcome {
    /// Whether it was routed to anything.
    pub routed: bool,
    /// Queues and topics that took it.
    pub accepted: u32,
    /// A queue had it already, by its id: it is counted among those that took it, and was not appended again.
    pub duplicate: bool,
    /// Those that did not, and why.
    pub refused: Vec<(String, PublishRefusal)>,
}

/// Why a queue or topic did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishRefusal {
    /// It is full.
    Full,
    /// Larger than the topic takes.
    TooLarge,
    /// So many ids are remembered that whether this one came before would not be known: to be tried again later.
    DedupFull,
    /// It is subscribed to a topic.
    Subscription,
}

impl PublishRefusal {
    /// A queue's; `None`: it is gone.
    pub(crate) fn of(why: Refusal) -> Option<Self> {
        match why {
            Refusal::Gone => None,
            Refusal::Full => Some(Self::Full),
            Refusal::DedupFull => Some(Self::DedupFull),
            Refusal::Subscription => Some(Self::Subscription),
        }
    }
}

/// A batch of which nothing was published: it may be published again.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("{why}")]
pub struct RefusedBatch {
    /// Why.
    pub why: Refused,
    /// It.
    pub batch: Vec<NewMessage>,
}

impl From<RefusedBatch> for Refused {
    fn from(refused: RefusedBatch) -> Self {
        refused.why
    }
}

/// What became of each message of a batch, in order.
pub type PublishOutcomes = Vec<Result<PublishOutcome, PublishError>>;

/// The answer to a publish, on its way: resolves when every queue's and topic's copy survives a crash.
pub struct Publishing(Pin<Box<dyn Future<Output = Result<PublishOutcomes, CallError>> + Send>>);

impl Future for Publishing {
    type Output = Result<PublishOutcomes, CallError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publishing")
    }
}

impl Session {
    /// Publishes messages, in order. Waits for room (all back-pressure is here) and comes back when they are submitted; the answer then
    /// tells of each. Several batches may be on their way: they keep their order.
    ///
    /// # Durability
    /// Answered when what was accepted survives a crash, and all that the session submitted before; also where nothing was accepted. Where
    /// all of it is for transient queues, of which nothing survives one: when what the session settled before does.
    ///
    /// # Errors
    /// `DiskFull`, `MemoryFull` (a transient queue is among its targets), `TooLarge` (more than one record takes), `Closed`: nothing of the
    /// batch was published, and it is given back.
    pub async fn publish(&self, batch: Vec<NewMessage>) -> Result<Publishing, RefusedBatch> {
        match self.route_all(&batch).submit(self.core()).await {
            Ok((outcomes, pending)) => {
                let core = Arc::clone(self.core());
                Ok(Publishing(Box::pin(finish(core, batch, outcomes, pending))))
            }
            Err(why) => Err(RefusedBatch { why, batch }),
        }
    }

    pub(crate) fn route_all(&self, batch: &[NewMessage]) -> Routed {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        Routed::of(self.core(), &mut scratch, batch, |_, _| true)
    }
}

/// Queues and topics by name.
pub(crate) struct Everything<'a>(pub(crate) &'a Directory, pub(crate) &'a Snapshot);

impl Names for Everything<'_> {
    fn find(&self, name: &(Namespace, String)) -> Option<TargetKind> {
        match self.0.by_name(name.0, &name.1) {
            Some(_) => Some(TargetKind::Queue),
            None => self.1.find(name),
        }
    }
}

/// Messages with their targets, ready to be submitted.
#[derive(Default)]
pub(crate) struct Routed {
    pub(crate) outcomes: PublishOutcomes,
    /// For queues, and each one's message.
    pub(crate) queues: Vec<Publish>,
    pub(crate) of_queue: Vec<usize>,
    /// For topics, and each one's message.
    pub(crate) topics: Vec<AppendItem>,
    pub(crate) of_topic: Vec<usize>,
    /// Room that those for queues take.
    pub(crate) queue_bytes: usize,
}

/// What is on its way.
struct InFlight {
    pending: Pending,
    of_queue: Vec<(usize, Vec<ObjectId>)>,
    of_topic: Vec<(usize, LogId)>,
}

impl Routed {
    /// Routes a batch. `wanted` may leave targets out (by message and target).
    fn of(
        core: &Core,
        scratch: &mut RouteScratch,
        batch: &[NewMessage],
        mut wanted: impl FnMut(usize, Place) -> bool,
    ) -> Self {
        let mut routed = Self {
            outcomes: Vec::with_capacity(batch.len()),
            queues: Vec::with_capacity(batch.len()),
            of_queue: Vec::with_capacity(batch.len()),
            ..Self::default()
        };
        let now_ms = core.broker.now_ms();
        let mut last: Option<(&Message, Vec<Routing>)> = None;
        for (index, new) in batch.iter().enumerate() {
            // Messages published together most often go where the one before went.
            let places = match &last {
                Some((message, places)) if message.goes_with(&new.message) => Ok(&places[..]),
                _ => {
                    let within = Within { broker: &core.broker, ns: core.ns, inside: false };
                    route(within, scratch, &new.message)
                        .map(|places| &last.insert((&new.message, places)).1[..])
                }
            };
            let outcome = places
                .map_err(PublishError::from)
                .and_then(|places| routed.one(core, now_ms, (index, new), places, &mut wanted));
            routed.outcomes.push(outcome);
        }
        routed
    }

    fn one(
        &mut self,
        core: &Core,
        now_ms: u64,
        (index, new): (usize, &NewMessage),
        places: &[Routing],
        wanted: &mut impl FnMut(usize, Place) -> bool,
    ) -> Result<PublishOutcome, PublishError> {
        let mut outcome = PublishOutcome { routed: !places.is_empty(), ..PublishOutcome::default() };
        if places.is_empty() {
            return Ok(outcome);
        }
        let envelope = new.message.encode_envelope()?;
        let too_large = EnvelopeError::TooLarge { what: "envelope", max: u32::MAX as usize };
        let envelope_len = u32::try_from(envelope.len()).map_err(|_| too_large)?;
        let max_ts_ms = timestamp_ms(&new.message).unwrap_or(-1);
        let mut body = Vec::with_capacity(2);
        body.push(envelope);
        body.extend(new.message.payload.clone());
        let body_len: usize = body.iter().map(Bytes::len).sum();
        let max = core.broker.append_bytes_max();
        if body_len > max {
            return Err(EnvelopeError::TooLarge { what: "message", max }.into());
        }
        let due_ms = new.delay_ms.map(|d| now_ms.saturating_add(d));
        let queues = places.iter().filter_map(Routing::queue);
        let key_hash = core.broker.key_hash(new.message.key.as_ref(), queues);
        let dedup = core.broker.id_hash(new, places.iter().filter_map(Routing::queue));
        let mut to = Vec::with_capacity(places.len());
        for place in places {
            match place {
                Routing::Queue(def) if wanted(index, Place::Queue(def.id)) => {
                    let own_key = core.broker.key_hash_in(&new.message, def);
                    to.push(Target { queue: def.id, due_ms, key_hash: own_key });
                    // What has attrs of its own has the body apart.
                    self.queue_bytes += own_key.map_or(0, |_| body_len + ITEM_OVERHEAD_BYTES);
                    let limited = def.policy.messages_max.is_some() || def.policy.bytes_max.is_some();
                    self.queue_bytes += TARGET_BYTES + if limited { PUBLISH_ACTS_BYTES } else { 0 };
                }
                Routing::Topic(topic) if wanted(index, Place::Topic(topic.def.uuid)) => {
                    if body_len > core.broker.topic_policy(topic).message_bytes_max as usize {
                        outcome.refused.push((topic.def.name.clone(), PublishRefusal::TooLarge));
                        continue;
                    }
                    let Some(part) = partition(core, topic, new.message.key.as_ref()) else { continue };
                    let kind = AppendKind::Single { envelope_len };
                    self.topics.push(AppendItem { part, kind, count: 1, max_ts_ms, body: body.clone() });
                    self.of_topic.push(index);
                }
                _ => {}
            }
        }
        if !to.is_empty() {
            self.queue_bytes += body_len + ITEM_OVERHEAD_BYTES;
            self.of_queue.push(index);
            self.queues.push(Publish {
                to,
                transient: new.transient,
                priority: new.priority,
                expiry_ms: new.expiry_ms(now_ms),
                key_hash,
                origin: None,
                dedup,
                envelope_len,
                max_ts_ms,
                body,
            });
        }
        Ok(outcome)
    }

    async fn submit(self, core: &Core) -> Result<(PublishOutcomes, InFlight), Refused> {
        let Self { outcomes, queues, of_queue, topics, of_topic, queue_bytes } = self;
        let ids = |p: &Publish| p.to.iter().map(|t| t.queue).collect();
        let of_queue = of_queue.into_iter().zip(queues.iter().map(ids)).collect();
        let of_topic = of_topic.into_iter().zip(topics.iter().map(|t| t.part)).collect();
        let room = queue_bytes + Session::append_bytes(&topics);
        has_memory(&core.broker, targets(&queues), [])?;
        let op = match (queues.is_empty(), topics.is_empty()) {
            // What goes nowhere is answered behind what was submitted before it.
            (true, true) => Op::Barrier,
            (false, true) => Op::Queue(QueueOp::Publish(queues)),
            (true, false) => Op::Append(topics),
            (false, false) => Op::Transact(Box::new(Transact {
                appends: topics,
                publishes: queues,
                tolerance: Tolerance::Copies,
                ..Transact::default()
            })),
        };
        let permit = match op {
            Op::Barrier => None,
            _ => Some(core.broker.gate().admit(Class::Publish, room).await?),
        };
        let pending = core.submit(permit, op);
        Ok((outcomes, InFlight { pending, of_queue, of_topic }))
    }
}

/// Whether there is memory for what goes to these queues. Where messages of a transient queue end in the same step, there is: it takes no more
/// than it gives back.
pub(crate) fn has_memory(
    broker: &Broker,
    to: impl IntoIterator<Item = ObjectId>,
    from: impl IntoIterator<Item = ObjectId>,
) -> Result<(), Refused> {
    let full = broker.is_transient_full()
        && to.into_iter().any(ObjectId::is_transient)
        && !from.into_iter().any(ObjectId::is_transient);
    if full { Err(Refused::MemoryFull) } else { Ok(()) }
}

/// The queues that messages go to.
pub(crate) fn targets<'a>(messages: impl IntoIterator<Item = &'a Publish>) -> impl Iterator<Item = ObjectId> {
    messages.into_iter().flat_map(|p| p.to.iter().map(|t| t.queue))
}

/// A queue or topic, for telling two apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Queue(ObjectId),
    Topic([u8; 16]),
}

/// Where a message goes.
pub(crate) enum Routing {
    Queue(Arc<QueueDef>),
    Topic(Arc<Topic>),
}

impl Routing {
    /// The queue, if it is one.
    pub(crate) fn queue(&self) -> Option<&QueueDef> {
        match self {
            Self::Queue(def) => Some(def),
            Self::Topic(_) => None,
        }
    }
}

/// Who routes.
#[derive(Clone, Copy)]
pub(crate) struct Within<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) ns: Namespace,
    /// The broker itself: internal exchanges take its messages.
    pub(crate) inside: bool,
}

/// The queues and topics that a message goes to now.
pub(crate) fn route(
    within: Within<'_>,
    scratch: &mut RouteScratch,
    message: &Message,
) -> Result<Vec<Routing>, RouteError> {
    let Within { broker, ns, inside } = within;
    let (directory, catalogue, routes) = (broker.directory(), broker.catalogue(), broker.routes());
    let keys: Vec<&str> =
        std::iter::once(&message.routing_key).chain(&message.keys).map(String::as_str).collect();
    let request = RouteRequest { ns, exchange: &message.exchange, keys: &keys, headers: &message.headers };
    let names = Everything(directory, &catalogue);
    let n = if inside {
        routes.route_inside(&names, &request, scratch)?
    } else {
        routes.route(&names, &request, scratch)?
    };
    let mut places = Vec::with_capacity(n);
    for target in routes.targets(&request, scratch) {
        match target.kind {
            // One that went since its binding was looked up is no target.
            TargetKind::Queue => match directory.by_name(ns, target.name) {
                // Nothing is bound to one: it was named.
                Some(def) if def.source.is_some() && inside => {}
                Some(def) if def.source.is_some() => {
                    return Err(RouteError::Subscription { name: def.name.clone() });
                }
                def => places.extend(def.map(Routing::Queue)),
            },
            TargetKind::Topic => {
                let topic = catalogue.by_name.get(&(ns, target.name.to_owned()));
                places.extend(topic.map(|t| Routing::Topic(Arc::clone(t))));
            }
            TargetKind::Exchange => {}
        }
    }
    Ok(places)
}

pub(crate) fn partition(core: &Core, topic: &Topic, key: Option<&Bytes>) -> Option<LogId> {
    let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    let index = match key {
        Some(key) => partition_for_key(key, partitions),
        None => core.turn.fetch_add(1, Ordering::Relaxed) % partitions.max(1),
    };
    topic.partitions.get(index as usize).map(|p| p.log)
}

pub(crate) fn timestamp_ms(message: &Message) -> Option<i64> {
    let (_, value) = message.properties.iter().find(|p| p.0 == property::TIMESTAMP_MS)?;
    value.as_ref().try_into().ok().map(i64::from_le_bytes).filter(|ms| *ms >= 0)
}

/// Waits for the answers. What was not taken because its target went is routed again.
async fn finish(
    core: Arc<Core>,
    batch: Vec<NewMessage>,
    mut outcomes: PublishOutcomes,
    mut pending: InFlight,
) -> Result<PublishOutcomes, CallError> {
    // What took a message so far, so that routing it again does not bring it there twice.
    let mut took: Vec<(usize, Place)> = Vec::new();
    for attempt in 1.. {
        let mut again = Vec::new();
        collect(&core, pending, &mut outcomes, &mut took, &mut again).await?;
        again.sort_unstable();
        again.dedup();
        if again.is_empty() || attempt >= ROUTE_TRIES_MAX {
            for index in again {
                if let Some(Ok(o)) = outcomes.get_mut(index) {
                    o.routed = o.accepted > 0 || !o.refused.is_empty();
                }
            }
            break;
        }
        let routed = {
            let wanted =
                |index: usize, place| again.binary_search(&index).is_ok() && !took.contains(&(index, place));
            Routed::of(&core, &mut RouteScratch::default(), &batch, wanted)
        };
        for index in &again {
            let routed_now = matches!(routed.outcomes.get(*index), Some(Ok(o)) if o.routed);
            if let Some(Ok(o)) = outcomes.get_mut(*index) {
                o.routed = routed_now || o.accepted > 0 || !o.refused.is_empty();
            }
        }
        pending = routed.submit(&core).await?.1;
    }
    Ok(outcomes)
}

async fn collect(
    core: &Core,
    in_flight: InFlight,
    outcomes: &mut PublishOutcomes,
    took: &mut Vec<(usize, Place)>,
    again: &mut Vec<usize>,
) -> Result<(), CallError> {
    let InFlight { pending, of_queue, of_topic } = in_flight;
    let Transacted { published, appended } = match pending.await {
        Reply::Queue(QueueReply::Published(published)) => Transacted { published, ..Transacted::default() },
        Reply::Append(appended) => Transacted { appended, ..Transacted::default() },
        Reply::Transact(Ok(done)) => done,
        Reply::Barrier => Transacted::default(),
        _ => return Err(CallError::FateUnknown),
    };
    for ((index, to), Published { accepted, duplicate, refused, .. }) in of_queue.into_iter().zip(published) {
        let Some(Ok(outcome)) = outcomes.get_mut(index) else { continue };
        outcome.accepted += accepted;
        outcome.duplicate |= duplicate;
        let gone = refused.iter().any(|r| r.1 == Refusal::Gone);
        if gone {
            again.push(index);
            let stays = to.into_iter().filter(|id| !refused.contains(&(*id, Refusal::Gone)));
            took.extend(stays.map(|id| (index, Place::Queue(id))));
        }
        for (id, why) in refused {
            if let Some(why) = PublishRefusal::of(why) {
                outcome.refused.push((name_of(core, id), why));
            }
        }
    }
    for ((index, log), result) in of_topic.into_iter().zip(appended) {
        let Some(Ok(outcome)) = outcomes.get_mut(index) else { continue };
        match result {
            Ok(_) => {
                outcome.accepted += 1;
                let catalogue = core.broker.catalogue();
                let topic = catalogue.by_log.get(&log);
                took.extend(topic.map(|t| (index, Place::Topic(t.0.def.uuid))));
            }
            Err(_) => again.push(index),
        }
    }
    Ok(())
}

pub(crate) fn name_of(core: &Core, queue: ObjectId) -> String {
    core.broker.directory().by_id(queue).map_or_else(String::new, |d| d.name.clone())
}
