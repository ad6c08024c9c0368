//! The mover: takes what queues gave up to their dead-letter targets. The engine holds such messages, durably; the mover reads them,
//! notes how they died, routes them, and has each settled and published in one record. So a crash at any point leaves one copy.
//!
//! Start at [`run`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use millstream_engine::op::{AppendItem, AppendKind, Op, Reply};
use millstream_engine::queue::PUBLISH_ACTS_BYTES;
use millstream_engine::queue::api::{
    Cause, MoveError, MoveItem, MoveThen, MoveWork, Publish, QueueDef, QueueOp, QueueReply, Target,
};
use millstream_log::{Class, ReadError};
use millstream_types::{LogId, Namespace};
use tokio::time::Instant;

use crate::auth::Principal;
use crate::bodies::{BodyError, Place, QueueMessage};
use crate::broker::Broker;
use crate::deaths::DeathReason;
use crate::envelope::property::HIDDEN_KEYS;
use crate::error::CallError;
use crate::publish::{Routing, TARGET_BYTES, Within, has_memory, partition, route};
use crate::queue_settings::QueueSettings;
use crate::routing::RouteScratch;
use crate::session::{ITEM_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Session, SessionOptions};

/// Messages read at once.
pub(crate) const STEP_MESSAGES_MAX: usize = 256;
/// Bytes of messages of one record, if it has more than one message.
pub(crate) const STEP_BYTES_MAX: usize = 1 << 20;
/// When a target is full, the disk is, or a message could not be read: the next try after so long.
pub(crate) const RETRY_WAIT: Duration = Duration::from_secs(1);

/// What the mover has done since the broker was opened.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Messages taken to a target.
    pub(crate) moved: AtomicU64,
    /// Dropped: no target, or none that exists.
    pub(crate) untargeted: AtomicU64,
    /// Dropped: they would have gone round for ever.
    pub(crate) cycled: AtomicU64,
}

/// Takes what is given, until the broker is closed.
pub(crate) async fn run(broker: Broker) {
    let work = Mover::new(&broker).work();
    tokio::select! {
        () = work => {}
        () = broker.closed() => {}
    }
}

struct Mover {
    broker: Broker,
    session: Session,
    scratch: RouteScratch,
    /// What is to be tried again, and when; in order. The engine bounds how much of a queue is out.
    later: Vec<(Instant, MoveWork)>,
}

/// What is to become of a message.
pub(crate) struct Decided {
    pub(crate) work: MoveWork,
    pub(crate) then: MoveThen,
    /// Topics that it goes to.
    pub(crate) topics: Vec<AppendItem>,
    pub(crate) bytes: usize,
}

impl Mover {
    fn new(broker: &Broker) -> Self {
        let who = Principal::inner("mover");
        let session = broker.session(who, Namespace::DEFAULT, SessionOptions::default());
        Self { broker: broker.clone(), session, scratch: RouteScratch::default(), later: Vec::new() }
    }

    async fn work(mut self) {
        let mut waiting: Vec<MoveWork> = Vec::new();
        loop {
            let broker = self.broker.clone();
            if waiting.is_empty() {
                match self.later.iter().map(|l| l.0).min() {
                    Some(at) => tokio::select! {
                        () = broker.shared().moves.take(&mut waiting) => {}
                        () = tokio::time::sleep_until(at) => {}
                    },
                    None => broker.shared().moves.take(&mut waiting).await,
                }
            }
            let now = Instant::now();
            let due = self.later.extract_if(.., |l| l.0 <= now);
            waiting.extend(due.map(|l| l.1));
            let n = waiting.len().min(STEP_MESSAGES_MAX);
            let step: Vec<MoveWork> = waiting.drain(..n).collect();
            if !step.is_empty() && self.step(step).await.is_err() {
                // The log is lost: nothing can be moved any more.
                return;
            }
        }
    }

    /// Moves some messages. An error: the log is lost.
    async fn step(&mut self, step: Vec<MoveWork>) -> Result<(), CallError> {
        let wait = step.iter().map(|w| w.wait).max().unwrap_or_default();
        self.broker.durable(wait).await?;
        let places: Vec<Place> = step.iter().map(|w| (w.queue, w.lane, w.pos)).collect();
        let bodies = self.broker.read_places(&places).await;
        let mut record: Vec<Decided> = Vec::new();
        let mut bytes = 0;
        for (work, body) in step.into_iter().zip(bodies) {
            let Some(decided) = self.decide(work, body) else { continue };
            if !record.is_empty() && bytes + decided.bytes > STEP_BYTES_MAX {
                self.submit(std::mem::take(&mut record)).await?;
                bytes = 0;
            }
            bytes += decided.bytes;
            record.push(decided);
        }
        self.submit(record).await
    }

    /// Where a message goes. `None`: nowhere now.
    fn decide(&mut self, work: MoveWork, body: Result<QueueMessage, BodyError>) -> Option<Decided> {
        let def = self.broker.directory().by_id(work.queue)?;
        if work.cause == Cause::Redrive {
            // A redrive ended with the broker that ran it: what it held goes back to its place.
            return Some(Decided { work, then: MoveThen::Release, topics: Vec::new(), bytes: TARGET_BYTES });
        }
        let drop = |why: &AtomicU64| {
            why.fetch_add(1, Ordering::Relaxed);
            let then = MoveThen::Drop(work.cause);
            Some(Decided { work, then, topics: Vec::new(), bytes: TARGET_BYTES })
        };
        let broker = self.broker.clone();
        let counts = &broker.shared().moved;
        let Some(target) = QueueSettings::dead_letter_of(&def) else { return drop(&counts.untargeted) };
        if work.cause == Cause::Expired && target.not_expired {
            return drop(&counts.untargeted);
        }
        let mut body = match body {
            Ok(body) => body,
            Err(BodyError::Gone) => return drop(&counts.untargeted),
            Err(e) => {
                if !matches!(e, BodyError::Read(ReadError::Closed)) {
                    tracing::warn!(queue = def.name, position = work.pos, error = %e, "a dead message cannot be read");
                }
                self.again(work);
                return None;
            }
        };
        body.message.die(&def.name, DeathReason::of(work.cause), broker.now_ms());
        body.note_sent();
        body.note_deliveries(work.deliveries);
        body.message.exchange = target.exchange;
        if let Some(key) = target.routing_key {
            body.message.routing_key = key;
            body.message.keys.clear();
            body.message.properties.retain(|p| p.0 != HIDDEN_KEYS);
        }
        let within = Within { broker: &broker, ns: def.ns, inside: true };
        // An exchange that is not there is no target.
        let places = route(within, &mut self.scratch, &body.message).unwrap_or_default();
        let to = places.iter().filter_map(Routing::queue).map(|q| q.id);
        if has_memory(&broker, to, [work.queue]).is_err() {
            self.again(work);
            return None;
        }
        if places.is_empty() {
            if target.at_least_once {
                self.again(work);
                return None;
            }
            return drop(&counts.untargeted);
        }
        let goes = |p: &Routing| match p {
            Routing::Queue(to) => !body.message.cycles_to(&to.name),
            Routing::Topic(_) => true,
        };
        let places: Vec<Routing> = places.into_iter().filter(goes).collect();
        if places.is_empty() {
            return drop(&counts.cycled);
        }
        body.expiry_ms = if target.keeps_age { aged(&body, &places) } else { None };
        match moving(&self.session, &def, work, &body, places, !target.at_least_once) {
            Some(decided) => Some(decided),
            // With its deaths it is larger than a message may be.
            None => drop(&counts.untargeted),
        }
    }

    async fn submit(&mut self, record: Vec<Decided>) -> Result<(), CallError> {
        if record.is_empty() {
            return Ok(());
        }
        let works: Vec<MoveWork> = record.iter().map(|d| d.work).collect();
        match submit_moves(&self.session, record).await {
            Ok(results) => {
                for (work, result) in works.into_iter().zip(results) {
                    match result {
                        Ok(()) => {
                            self.broker.shared().moved.moved.fetch_add(1, Ordering::Relaxed);
                        }
                        // It is not ours any more: purged, or its queue is gone.
                        Err(MoveError::NotHeld) => {}
                        // Tried again, and routed again.
                        Err(MoveError::Refused(_)) => {
                            self.again(work);
                        }
                    }
                }
                Ok(())
            }
            // Nothing happened: all stay held.
            Err(CallError::Refused(why)) if why.is_retryable() => {
                for work in works {
                    self.again(work);
                }
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn again(&mut self, work: MoveWork) {
        self.later.push((Instant::now() + RETRY_WAIT, work));
    }
}

/// When a message that keeps its age is too old for the queue that it goes to, the longest of them if they are several.
fn aged(body: &QueueMessage, places: &[Routing]) -> Option<u64> {
    let ttls = places.iter().filter_map(Routing::queue).map(|q| q.policy.ttl_ms);
    let longest = ttls.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
    Some(body.sent_ms().saturating_add(longest))
}

/// A held message on its way to where it goes, with what is left of its time. `None`: it is larger than a message may be.
pub(crate) fn moving(
    session: &Session,
    def: &QueueDef,
    work: MoveWork,
    body: &QueueMessage,
    places: Vec<Routing>,
    at_most_once: bool,
) -> Option<Decided> {
    let envelope = body.message.encode_envelope().ok()?;
    let envelope_len = u32::try_from(envelope.len()).ok()?;
    let pieces: Vec<Bytes> = std::iter::once(envelope).chain(body.message.payload.clone()).collect();
    let body_len: usize = pieces.iter().map(Bytes::len).sum();
    if body_len > session.broker().append_bytes_max() {
        return None;
    }
    // Where it was, its key may have mattered to nobody.
    let queues = places.iter().filter_map(Routing::queue);
    let key_hash = session.broker().key_hash(body.message.key.as_ref(), queues);
    let mut bytes = body_len + ITEM_OVERHEAD_BYTES + TARGET_BYTES;
    let (mut to, mut topics) = (Vec::new(), Vec::new());
    for place in places {
        match place {
            Routing::Queue(def) => {
                let own_key = session.broker().key_hash_in(&body.message, &def);
                to.push(Target { key_hash: own_key, ..Target::from(def.id) });
                bytes +=
                    TARGET_BYTES + PUBLISH_ACTS_BYTES + own_key.map_or(0, |_| body_len + ITEM_OVERHEAD_BYTES);
            }
            Routing::Topic(topic) => {
                let key = body.message.key.as_ref();
                let Some(part) = partition(session.core(), &topic, key) else { continue };
                let (kind, max_ts_ms) = (AppendKind::Single { envelope_len }, body.max_ts_ms);
                topics.push(AppendItem { part, kind, count: 1, max_ts_ms, body: pieces.clone() });
            }
        }
    }
    let then = if to.is_empty() {
        MoveThen::Drop(Cause::Moved)
    } else {
        let home = (LogId::new(def.id, work.lane), work.pos);
        let publish = Publish {
            to,
            transient: body.transient,
            priority: body.priority,
            expiry_ms: body.expiry_ms,
            key_hash,
            origin: Some(body.origin.unwrap_or(home)),
            dedup: None,
            envelope_len,
            max_ts_ms: body.max_ts_ms,
            body: pieces,
        };
        MoveThen::Publish { publish, at_most_once }
    };
    Some(Decided { work, then, topics, bytes })
}

/// Has messages moved, in one record; one answer each.
pub(crate) async fn submit_moves(
    session: &Session,
    record: Vec<Decided>,
) -> Result<Vec<Result<(), MoveError>>, CallError> {
    let bytes = record.iter().map(|d| d.bytes).sum::<usize>() + RECORD_OVERHEAD_BYTES;
    let publishes = record.iter().any(|d| matches!(d.then, MoveThen::Publish { .. }));
    let mut items = Vec::with_capacity(record.len());
    for Decided { work, then, topics, .. } in record {
        // Topics first: a crash in between brings a message there twice, and never loses one.
        if !topics.is_empty() {
            session.append(topics).await?;
        }
        let MoveWork { queue, lane, pos, delivery_no, .. } = work;
        items.push(MoveItem { queue, lane, pos, delivery_no, then });
    }
    let class = if publishes { Class::Publish } else { Class::Settle };
    let permit = session.admit(class, bytes).await?;
    match session.submit(Some(permit), Op::Queue(QueueOp::Move(items))).await {
        Reply::Queue(QueueReply::Moved(results)) => Ok(results),
        _ => Err(CallError::FateUnknown),
    }
}

/// What became of messages that queues gave up, since the broker was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterCounts {
    /// Settled by the mover: taken to a target, or dropped.
    pub settled: u64,
    /// Of these, dropped: there was no target.
    pub untargeted: u64,
    /// Of these, dropped: they would have gone round for ever.
    pub cycled: u64,
}

impl Broker {
    /// What became of messages that queues gave up.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetterCounts {
        let moves: &Arc<Moves> = &self.shared().moved;
        DeadLetterCounts {
            settled: moves.moved.load(Ordering::Relaxed),
            untargeted: moves.untargeted.load(Ordering::Relaxed),
            cycled: moves.cycled.load(Ordering::Relaxed),
        }
    }
}
