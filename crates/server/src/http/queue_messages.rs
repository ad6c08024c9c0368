//! Messages of queues over HTTP: published as lines of JSON, looked at, taken under a lease and settled. For people at a terminal, not for
//! speed.
//!
//! A line is as for topics, without `partition`; besides, `priority`, `ttl_ms`, `delay_ms`, and `properties` by AMQP's names. A message that
//! was taken has a `receipt`, by which it is settled until its lease ends.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use millstream_broker::queue::api::{LeaseKind, QueueDef, Receive, SettleItem, Verb};
use millstream_broker::{
    BodyError, Death, Header, Message, NewMessage, PublishRefusal, QueueMessage, property,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::messages::{MESSAGES_MAX, bytes_of, put};
use super::queues::find;
use super::{ApiError, Shared, values};

/// Messages and payload bytes taken in one request.
const RECEIVE_MESSAGES_MAX: u32 = 1_000;
const RECEIVE_BYTES: u64 = 4 << 20;
/// Longest wait for the first message, milliseconds.
const WAIT_MS_MAX: u64 = 60_000;
/// Messages and payload bytes published together.
const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 1 << 20;

/// Bytes of a text property: as many as AMQP can carry.
const PROPERTY_BYTES_MAX: usize = 255;

/// Text properties by the names that AMQP has for them.
const TEXTS: [(&str, u8); 8] = [
    ("content_type", property::CONTENT_TYPE),
    ("content_encoding", property::CONTENT_ENCODING),
    ("correlation_id", property::CORRELATION_ID),
    ("reply_to", property::REPLY_TO),
    ("message_id", property::MESSAGE_ID),
    ("type", property::TYPE),
    ("app_id", property::APP_ID),
    ("user_id", property::USER_ID),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[serde(default)]
    headers: Vec<(String, Value)>,
    #[serde(default)]
    properties: Map<String, Value>,
    priority: Option<u8>,
    ttl_ms: Option<u64>,
    delay_ms: Option<u64>,
    /// What a queue that knows ids again knows it by.
    id: Option<String>,
}

impl Line {
    fn message(self, queue: &str) -> Result<NewMessage, ApiError> {
        let mut properties = Vec::new();
        for (name, value) in &self.properties {
            let known = TEXTS.iter().find(|t| t.0 == name && t.1 != property::USER_ID);
            let Some(((_, id), text)) = known.zip(value.as_str()) else {
                return Err(ApiError::bad(format!("property {name:?}: not known, or not a text")));
            };
            if text.len() > PROPERTY_BYTES_MAX {
                let max = PROPERTY_BYTES_MAX;
                return Err(ApiError::bad(format!("property {name:?}: more than {max} bytes")));
            }
            properties.push((*id, Bytes::copy_from_slice(text.as_bytes())));
        }
        properties.push((property::DELIVERY_MODE, Bytes::from_static(&[2])));
        properties.extend(self.id.map(|id| (property::DEDUPLICATION_ID, id.into())));
        if let Some(priority) = self.priority {
            properties.push((property::PRIORITY, Bytes::copy_from_slice(&[priority])));
        }
        if let Some(ttl_ms) = self.ttl_ms {
            properties.push((property::EXPIRATION, ttl_ms.to_string().into()));
        }
        let header = |(name, value)| Header { name, value: values::from_json(value) };
        let message = Message {
            routing_key: queue.to_owned(),
            key: bytes_of(self.key, self.key_base64, "key")?,
            properties,
            headers: self.headers.into_iter().map(header).collect(),
            payload: Some(bytes_of(self.value, self.value_base64, "value")?.unwrap_or_default()),
            ..Message::default()
        };
        Ok(NewMessage {
            message,
            transient: false,
            priority: self.priority.unwrap_or(0),
            ttl_ms: self.ttl_ms,
            delay_ms: self.delay_ms,
            dedup: None,
        })
    }
}

/// Publishes lines, in order. Ends at the first that is not taken; those before it stay.
pub async fn publish(
    State(health): Shared,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let def = find(health.broker()?, &name)?;
    let session = health.session()?;
    let mut messages = Vec::new();
    for (i, line) in body.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()).enumerate() {
        if i >= MESSAGES_MAX {
            return Err(ApiError::bad(format!("more than {MESSAGES_MAX} messages in one request")));
        }
        let at = |e: &dyn std::fmt::Display| ApiError::bad(format!("line {}: {e}", i + 1));
        let line: Line = serde_json::from_slice(line).map_err(|e| at(&e))?;
        if line.id.is_some() && def.policy.id_window_ms.is_none() {
            return Err(at(&"the queue knows no ids again: it was made without an id window"));
        }
        messages.push(line.message(&name)?);
    }
    let (mut stored, mut known) = (0_u64, 0_u64);
    while !messages.is_empty() {
        let mut bytes = 0;
        let fits = messages.iter().take(BATCH_MESSAGES).take_while(|m| {
            let first = bytes == 0;
            bytes += m.message.payload.as_ref().map_or(0, Bytes::len).max(1);
            first || bytes <= BATCH_BYTES
        });
        let rest = messages.split_off(fits.count());
        let batch = std::mem::replace(&mut messages, rest);
        for outcome in session.publish(batch).await.map_err(|e| e.why)?.await? {
            let outcome = outcome.map_err(|e| ApiError::bad(format!("line {}: {e}", stored + 1)))?;
            let refused = outcome.refused.first().map(|r| match r.1 {
                PublishRefusal::Full => "the queue is full",
                PublishRefusal::TooLarge => "larger than it may be",
                PublishRefusal::DedupFull => "too many ids are remembered",
                PublishRefusal::Subscription => "the queue is subscribed to a topic",
            });
            if let Some(why) = refused.or((!outcome.routed).then_some("the queue is gone")) {
                let text = format!("line {}: {why}; {stored} before it were stored", stored + 1);
                return Err(ApiError::conflict(text));
            }
            stored += 1;
            known += u64::from(outcome.duplicate);
        }
    }
    Ok(Json(json!({ "name": name, "messages": stored, "duplicates": known })))
}

/// How much is looked at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peek {
    max: Option<u32>,
}

/// The next messages, which stay where they are.
pub async fn peek(
    State(health): Shared,
    Path(name): Path<String>,
    Query(q): Query<Peek>,
) -> Result<Json<Value>, ApiError> {
    let def = find(health.broker()?, &name)?;
    let max = q.max.unwrap_or(RECEIVE_MESSAGES_MAX);
    if max == 0 {
        return Err(ApiError::bad("max is at least 1"));
    }
    let mut messages = Vec::new();
    for body in health.session()?.peek_queue(def.id, max).await? {
        match body {
            Ok(message) => messages.push(Value::Object(told(&message))),
            Err(BodyError::Gone) => {}
            Err(e) => messages.push(json!({ "error": e.to_string() })),
        }
    }
    Ok(Json(json!({ "name": name, "messages": messages })))
}

/// What is taken.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Take {
    max: u32,
    #[serde(default)]
    wait_ms: u64,
    /// The queue's own if it is not said.
    lease_ms: Option<u64>,
}

/// Takes messages under a lease.
pub async fn receive(
    State(health): Shared,
    Path(name): Path<String>,
    Json(t): Json<Take>,
) -> Result<Json<Value>, ApiError> {
    let broker = health.broker()?;
    let def = find(broker, &name)?;
    if t.max == 0 || t.max > RECEIVE_MESSAGES_MAX || t.wait_ms > WAIT_MS_MAX {
        let text = format!("max is 1 to {RECEIVE_MESSAGES_MAX}, wait_ms at most {WAIT_MS_MAX}");
        return Err(ApiError::bad(text));
    }
    let what = Receive {
        bytes_max: RECEIVE_BYTES,
        wait_ms: t.wait_ms,
        lease: LeaseKind::Timed { lease_ms: t.lease_ms, owned: false },
        ride: false,
        ..Receive::now(def.id, t.max)
    };
    // The session lives while it waits: its end would end the waiting.
    let session = health.session()?;
    let received = session.receive(what)?.await?;
    let deliveries = received.map_err(millstream_broker::ConsumeError::Receive)?;
    let bodies = broker.read_bodies(&deliveries).await;
    let mut messages = Vec::with_capacity(deliveries.len());
    for (d, body) in deliveries.iter().zip(bodies) {
        let mut message = match body {
            Ok(message) => told(&message),
            Err(BodyError::Gone) => continue,
            Err(e) => Map::from_iter([("error".to_owned(), json!(e.to_string()))]),
        };
        message.insert("receipt".to_owned(), json!(format!("{}-{}-{}", d.lane, d.pos, d.delivery_no)));
        message.insert("deliveries".to_owned(), json!(d.deliveries));
        message.insert("attempts".to_owned(), json!(d.attempts));
        message.insert("redelivered".to_owned(), json!(d.redelivered));
        messages.push(Value::Object(message));
    }
    Ok(Json(json!({ "name": name, "messages": messages })))
}

/// Receipts, and what becomes of the messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// Done.
    #[serde(default)]
    ack: Vec<String>,
    /// Back to their places, as if they had not been taken.
    #[serde(default)]
    back: Vec<String>,
}

/// Settles messages that were taken. Those that could not be are named.
pub async fn settle(
    State(health): Shared,
    Path(name): Path<String>,
    Json(s): Json<Settle>,
) -> Result<Json<Value>, ApiError> {
    let def = find(health.broker()?, &name)?;
    if s.ack.len() + s.back.len() > MESSAGES_MAX {
        return Err(ApiError::bad(format!("more than {MESSAGES_MAX} receipts in one request")));
    }
    let (acks, backs) = (s.ack.iter().map(|r| (r, Verb::Ack)), s.back.iter().map(|r| (r, Verb::Undelivered)));
    let mut items = Vec::new();
    let mut receipts = Vec::new();
    for (receipt, verb) in acks.chain(backs) {
        items.push(item(&def, receipt, verb)?);
        receipts.push(receipt);
    }
    let session = health.session()?;
    let errors = if items.is_empty() { Vec::new() } else { session.settle(items).await?.await? };
    let errors: Vec<Value> =
        errors.into_iter().filter_map(|(i, e)| Some(json!([receipts.get(i)?, e.to_string()]))).collect();
    Ok(Json(json!({ "name": name, "errors": errors })))
}

fn item(def: &QueueDef, receipt: &str, verb: Verb) -> Result<SettleItem, ApiError> {
    let mut parts = receipt.splitn(3, '-');
    let mut part = || parts.next().unwrap_or_default();
    let (lane, pos, no) = (part().parse(), part().parse(), part().parse());
    match (lane, pos, no) {
        (Ok(lane), Ok(pos), Ok(delivery_no)) => {
            Ok(SettleItem { queue: def.id, lane, pos, len: 1, delivery_no, verb })
        }
        _ => Err(ApiError::bad(format!("{receipt:?} is no receipt"))),
    }
}

/// A message as JSON.
fn told(m: &QueueMessage) -> Map<String, Value> {
    let mut o = Map::new();
    let message = &m.message;
    o.insert("enqueued_ms".to_owned(), json!(m.enqueued_ms));
    o.insert("exchange".to_owned(), json!(message.exchange));
    o.insert("routing_key".to_owned(), json!(message.routing_key));
    if m.priority > 0 {
        o.insert("priority".to_owned(), json!(m.priority));
    }
    if let Some(ms) = m.expiry_ms {
        o.insert("expires_at_ms".to_owned(), json!(ms));
    }
    put(&mut o, "key", message.key.as_ref());
    put(&mut o, "value", message.payload.as_ref());
    let properties: Map<String, Value> = TEXTS
        .iter()
        .filter_map(|(name, id)| {
            let value = &message.properties.iter().find(|p| p.0 == *id)?.1;
            Some(((*name).to_owned(), json!(String::from_utf8_lossy(value))))
        })
        .collect();
    if !properties.is_empty() {
        o.insert("properties".to_owned(), Value::Object(properties));
    }
    if !message.headers.is_empty() {
        let header = |h: &Header| json!([h.name, values::to_json(&h.value)]);
        o.insert("headers".to_owned(), message.headers.iter().map(header).collect());
    }
    if !message.deaths.is_empty() {
        o.insert("deaths".to_owned(), message.deaths.iter().map(death).collect());
    }
    o
}

fn death(d: &Death) -> Value {
    json!({
        "queue": d.queue,
        "reason": d.reason.name(),
        "count": d.count,
        "time_ms": d.time_ms,
        "exchange": d.exchange,
        "routing_keys": d.keys,
    })
}
