//! From a queue into a topic: messages are leased to the worker, and each step settles them and appends them in one record. What is leased and
//! does not go is given back as if it had never been taken.

use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::catalogue::Topic;
use millstream_engine::op::{AppendItem, AppendKind};
use millstream_engine::queue::api::{Delivery, QueueDef, Receive, ReceiveError, SettleItem, Verb};
use millstream_engine::task::TaskState;

use super::counter;
use super::def::{OnPoison, Source, Target};
use super::event::{At, Seen};
use super::records::of_message;
use super::worker::{NoStep, Rest, STEP_BYTES_MAX, STEP_MESSAGES_MAX, Worker, counts};
use crate::bodies::{BodyError, QueueMessage};
use crate::broker::Broker;
use crate::consume::settle_item;
use crate::envelope::{Header, HeaderValue, Message};
use crate::error::{CallError, ConsumeError};
use crate::publish::{Routing, Within, partition, route};
use crate::queue_settings::QueueSettings;
use crate::routing::RouteScratch;
use crate::transaction::Transaction;
use crate::turn::Input;

/// A bridge that nothing wakes looks again, milliseconds; only a bound.
const SLEEP_MS: u64 = 3_600_000;
const REASON: &str = "x-bridge-reason";
const NAME: &str = "x-bridge";

/// What is leased, until it is settled: given back when this goes.
struct Held {
    broker: Broker,
    deliveries: Vec<Delivery>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.deliveries.is_empty() {
            self.broker.shared().inbox.put(Input::Undelivered(std::mem::take(&mut self.deliveries)));
        }
    }
}

/// Passes on what comes, until it must rest.
pub(super) async fn work(w: &mut Worker) -> Rest {
    // Positions that the topic will never take: one at a time, so that it is known which.
    let mut few = false;
    loop {
        match once(w, few).await {
            Ok(next_few) => few = next_few,
            Err(rest) => return rest,
        }
    }
}

/// One step. Whether the next one takes a single message.
async fn once(w: &mut Worker, few: bool) -> Result<bool, Rest> {
    let queue = source(w)?;
    let Target::Topic(name) = &w.def.target else { return Err(Rest::End) };
    let topic = topic(w, name)?;
    let dead = match &w.def.on_poison {
        OnPoison::DeadLetterTopic(name) => Some(self::topic(w, name)?),
        _ => None,
    };
    let what = Receive {
        bytes_max: STEP_BYTES_MAX as u64,
        wait_ms: SLEEP_MS,
        ..Receive::now(queue.id, if few { 1 } else { u32::try_from(STEP_MESSAGES_MAX).unwrap_or(1) })
    };
    w.status.unblocked();
    let receiving = w.session.receive(what).map_err(|e: ConsumeError| Rest::blocked(e.to_string()))?;
    let mut topics_changed = w.broker.shared().catalogue_changed.subscribe();
    let received = tokio::select! {
        received = receiving => received,
        // Its target may have gone.
        _ = topics_changed.changed() => return Ok(few),
    };
    let deliveries = match received {
        Ok(Ok(deliveries)) => deliveries,
        Ok(Err(ReceiveError::NotFound)) => {
            return Err(Rest::blocked(format!("there is no queue {:?}", queue.name)));
        }
        Ok(Err(e)) => return Err(Rest::blocked(e.to_string())),
        Err(CallError::Refused(_) | CallError::FateUnknown) => return Err(Rest::End),
    };
    if deliveries.is_empty() {
        return Ok(few);
    }
    let broker = w.broker.clone();
    let Ok(_place) = broker.bridges_live().steps.acquire().await else { return Err(Rest::End) };
    let held = Held { broker: broker.clone(), deliveries };
    let bodies = broker.read_bodies(&held.deliveries).await;
    step(w, &queue, &topic, dead.as_deref(), held, bodies).await
}

fn topic(w: &Worker, name: &str) -> Result<Arc<Topic>, Rest> {
    let catalogue = w.broker.catalogue();
    let topic = catalogue.by_name.get(&(w.session.namespace(), name.to_owned())).cloned();
    topic.ok_or_else(|| Rest::blocked(format!("there is no topic {name:?}")))
}

/// The queue that messages come from.
fn source(w: &Worker) -> Result<Arc<QueueDef>, Rest> {
    let ns = w.session.namespace();
    let queue = |name: &str| {
        let found = w.broker.directory().by_name(ns, name);
        found.ok_or_else(|| Rest::blocked(format!("there is no queue {name:?}")))
    };
    match &w.def.source {
        Source::Queue(name) => queue(name),
        Source::DeadLettersOf(name) => dead_letters(&w.broker, &*queue(name)?).map_err(Rest::blocked),
        Source::Topic { .. } => Err(Rest::End),
    }
}

/// The one queue that a queue's dead letters go to.
pub(super) fn dead_letters(broker: &Broker, of: &QueueDef) -> Result<Arc<QueueDef>, String> {
    let name = &of.name;
    let target = QueueSettings::dead_letter_of(of)
        .ok_or_else(|| format!("queue {name:?} has no dead-letter target"))?;
    let message = Message {
        exchange: target.exchange,
        routing_key: target.routing_key.unwrap_or_else(|| name.clone()),
        ..Message::default()
    };
    let within = Within { broker, ns: of.ns, inside: true };
    let places = route(within, &mut RouteScratch::default(), &message).unwrap_or_default();
    let mut queues = places.into_iter().filter_map(|p| match p {
        Routing::Queue(def) => Some(def),
        Routing::Topic(_) => None,
    });
    match (queues.next(), queues.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(format!("the dead letters of queue {name:?} go to no queue now")),
        (Some(_), Some(_)) => Err(format!(
            "the dead letters of queue {name:?} go to several queues: name the one that is meant"
        )),
    }
}

/// What becomes of one message.
enum Fate {
    /// Appended and settled.
    Goes(AppendItem),
    /// It cannot be; why, and the message if it can be read.
    Poison(String, Option<Box<QueueMessage>>),
    /// It is not ours any more.
    Gone,
}

async fn step(
    w: &mut Worker,
    queue: &QueueDef,
    topic: &Topic,
    dead: Option<&Topic>,
    mut held: Held,
    bodies: Vec<Result<QueueMessage, BodyError>>,
) -> Result<bool, Rest> {
    let mut tx = Transaction::default();
    let (mut passed, mut poison) = (0, Vec::new());
    let mut pause = None;
    for (d, body) in held.deliveries.iter().zip(bodies) {
        let settle = |verb| -> SettleItem { settle_item(d, verb) };
        match fate(w, queue, topic, d, body) {
            Fate::Goes(item) => {
                tx.append.push(item);
                tx.settle.push(settle(Verb::Ack));
                passed += 1;
            }
            Fate::Gone => {}
            Fate::Poison(why, message) => match (&w.def.on_poison, dead) {
                (OnPoison::Skip, _) => {
                    tx.settle.push(settle(Verb::Reject));
                    poison.push((queue.id.0, d.pos));
                }
                (OnPoison::DeadLetterTopic(_), Some(dead)) => {
                    match dead_letter(w, dead, message, why) {
                        Ok(item) => tx.append.push(item),
                        Err(why) => return Err(Rest::blocked(format!("its dead letter: {why}"))),
                    }
                    tx.settle.push(settle(Verb::Ack));
                    poison.push((queue.id.0, d.pos));
                }
                _ => {
                    pause = Some(format!("queue {:?}, position {}: {why}", queue.name, d.pos));
                    break;
                }
            },
        }
    }
    let which = if dead.is_some() { counter::DEAD_LETTERED } else { counter::SKIPPED };
    let mut task = w.step();
    task.add = counts(&[(counter::PASSED, passed), (which, poison.len() as u64)]);
    w.note_poison(&mut task, &poison);
    task.then = pause.map(|why| (TaskState::Paused, why));
    tx.task = Some(task);
    let settled: Vec<(u16, u64)> = tx.settle.iter().map(|s| (s.lane, s.pos)).collect();
    let several = settled.len() > 1;
    let result = w.take(tx, passed).await;
    if matches!(result, Ok(()) | Err(NoStep::Rest(Rest::End))) {
        // What the step settled is not there to be given back.
        held.deliveries.retain(|d| !settled.contains(&(d.lane, d.pos)));
    }
    match result {
        Ok(()) => Ok(false),
        Err(NoStep::TooLarge) if several => Ok(true),
        Err(NoStep::TooLarge) => Err(Rest::blocked("a message is larger than a step may be")),
        Err(NoStep::Poison { why, .. } | NoStep::Full(why)) => Err(Rest::blocked(why)),
        Err(NoStep::Rest(rest)) => Err(rest),
    }
}

fn fate(
    w: &Worker,
    queue: &QueueDef,
    topic: &Topic,
    d: &Delivery,
    body: Result<QueueMessage, BodyError>,
) -> Fate {
    let body = match body {
        Ok(body) => body,
        Err(BodyError::Gone) => return Fate::Gone,
        Err(e) => return Fate::Poison(e.to_string(), None),
    };
    let at = At { topic: &queue.name, partition: u32::from(d.lane), offset: d.pos };
    let mut new = of_message(body.message.clone());
    let seen = Seen::new(&body.message, at);
    let mapped = w.def.map.set(&seen, &mut new).map_err(|e| e.to_string());
    match mapped.and_then(|()| append(w, topic, &new.message, body.max_ts_ms)) {
        Ok(item) => Fate::Goes(item),
        Err(why) => Fate::Poison(why, Some(Box::new(body))),
    }
}

/// A message as an append to a topic, as it would be by publishing it there.
fn append(w: &Worker, topic: &Topic, message: &Message, max_ts_ms: i64) -> Result<AppendItem, String> {
    let envelope = message.encode_envelope().map_err(|e| e.to_string())?;
    let envelope_len = u32::try_from(envelope.len()).map_err(|e| e.to_string())?;
    let body: Vec<Bytes> = std::iter::once(envelope).chain(message.payload.clone()).collect();
    let bytes: usize = body.iter().map(Bytes::len).sum();
    let max = (w.broker.topic_policy(topic).message_bytes_max as usize).min(w.broker.append_bytes_max());
    if bytes > max {
        return Err(format!("it has {bytes} bytes, and topic {:?} takes {max}", topic.def.name));
    }
    let part =
        partition(w.session.core(), topic, message.key.as_ref()).ok_or("the topic has no partition")?;
    Ok(AppendItem { part, kind: AppendKind::Single { envelope_len }, count: 1, max_ts_ms, body })
}

fn dead_letter(
    w: &Worker,
    to: &Topic,
    message: Option<Box<QueueMessage>>,
    why: String,
) -> Result<AppendItem, String> {
    let (mut message, max_ts_ms) =
        message.map_or_else(|| (Message::default(), -1), |m| (m.message, m.max_ts_ms));
    let mut put = |name: &str, text: String| {
        message.headers.push(Header { name: name.to_owned(), value: HeaderValue::Str(text) });
    };
    put(NAME, w.task.row.name.clone());
    put(REASON, why);
    append(w, to, &message, max_ts_ms)
}
