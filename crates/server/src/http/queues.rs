//! Queues: list, create, describe, delete, purge, unpark.
//!
//! Rates are measured while the request waits: what a queue counted at its end less what it had counted at its begin, by the time between.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use futures_util::future::join_all;
use millstream_broker::queue::api::{QueueDef, QueueStats, TopicCounts};
use millstream_broker::queue::policy::{Backoff, OnExhausted, Ordering, Overflow, QueuePolicy};
use millstream_broker::{
    Begin, BeginError, BindingsOf, Broker, CallError, DeadLetter, KeyFrom, NewQueue, QueueSettings, Session,
    Subscription, Target, TargetKind,
};
use millstream_types::Namespace;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{ApiError, Shared, exchanges, values};

/// Queues of one page.
const PAGE_QUEUES: usize = 1_000;
/// Longest time that rates are measured over, milliseconds.
const SPAN_MS_MAX: u64 = 60_000;

/// The queue of that name, or 404.
pub(super) fn find(broker: &Broker, name: &str) -> Result<Arc<QueueDef>, ApiError> {
    broker
        .queue(Namespace::DEFAULT, name)
        .ok_or_else(|| ApiError::not_found(format!("there is no queue {name:?}")))
}

/// Whether a name is a topic's or a queue's.
pub async fn kind(State(health): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let broker = health.broker()?;
    let kind = if broker.queue(Namespace::DEFAULT, &name).is_some() {
        "queue"
    } else if broker.catalogue().by_name.contains_key(&(Namespace::DEFAULT, name.clone())) {
        "topic"
    } else {
        return Err(ApiError::not_found(format!("there is no topic and no queue {name:?}")));
    };
    Ok(Json(json!({ "name": name, "kind": kind })))
}

/// What is listed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only names behind this one.
    #[serde(default)]
    after: String,
    /// Rates over so long; 0 = none.
    #[serde(default)]
    span_ms: u64,
}

/// A queue with what was seen of it, and its rates.
struct Seen {
    def: Arc<QueueDef>,
    stats: QueueStats,
    rates: Value,
}

async fn look(session: &Session, defs: &[Arc<QueueDef>]) -> Result<Vec<Option<QueueStats>>, CallError> {
    join_all(defs.iter().map(|d| session.queue_stats(d.id, false))).await.into_iter().collect()
}

async fn seen(session: &Session, defs: Vec<Arc<QueueDef>>, span_ms: u64) -> Result<Vec<Seen>, ApiError> {
    if span_ms > SPAN_MS_MAX {
        return Err(ApiError::bad(format!("span_ms is at most {SPAN_MS_MAX}")));
    }
    let (mut before, began) = (Vec::new(), Instant::now());
    if span_ms > 0 && !defs.is_empty() {
        before = look(session, &defs).await?;
        tokio::time::sleep(Duration::from_millis(span_ms)).await;
    }
    let now = look(session, &defs).await?;
    let span = began.elapsed();
    let mut all = Vec::with_capacity(defs.len());
    for (i, (def, stats)) in defs.into_iter().zip(now).enumerate() {
        // One that went meanwhile is not told of.
        let Some(stats) = stats else { continue };
        let before = before.get(i).copied().flatten();
        let rates = before.map_or(Value::Null, |before| rates(&before, &stats, span));
        all.push(Seen { def, stats, rates });
    }
    Ok(all)
}

fn rates(before: &QueueStats, now: &QueueStats, span: Duration) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people, to one digit")]
    let rate = |a: u64, b: u64| (b.saturating_sub(a) as f64 / span.as_secs_f64() * 10.0).round() / 10.0;
    json!({
        "span_ms": u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
        "publish": rate(before.appended.n, now.appended.n),
        "deliver": rate(before.delivered, now.delivered),
        "ack": rate(before.acked, now.acked),
    })
}

fn summary(seen: &Seen) -> Map<String, Value> {
    let s = &seen.stats;
    let bytes = match seen.def.source {
        None => s.appended.bytes.saturating_sub(s.settled.bytes),
        // What was not read yet is not known.
        Some(_) => [s.ready, s.leased, s.scheduled, s.held, s.parked].iter().map(|t| t.bytes).sum(),
    };
    let told = json!({
        "name": seen.def.name,
        "ready": s.ready.n,
        "leased": s.leased.n,
        "scheduled": s.scheduled.n,
        "dead": s.held.n,
        "parked": s.parked.n,
        "paused": s.paused,
        "payload_bytes": bytes,
        "consumers": s.consumers,
        "rates": seen.rates,
    });
    match told {
        Value::Object(told) => told,
        _ => Map::new(),
    }
}

/// A page of queues, by name.
pub async fn list(State(health): Shared, Query(q): Query<List>) -> Result<Json<Value>, ApiError> {
    let session = health.session()?;
    let mut defs = session.broker().queues(Namespace::DEFAULT);
    defs.retain(|d| *d.name > *q.after);
    let more = defs.len() > PAGE_QUEUES;
    defs.truncate(PAGE_QUEUES);
    let next = defs.last().filter(|_| more).map(|d| d.name.clone());
    let queues: Vec<Value> =
        seen(&session, defs, q.span_ms).await?.iter().map(|s| Value::Object(summary(s))).collect();
    Ok(Json(json!({ "queues": queues, "next": next })))
}

/// What is described.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Describe {
    /// Rates over so long; 0 = none.
    #[serde(default)]
    span_ms: u64,
}

/// One queue in full: what is in it, its policy, where its dead letters go, what leads to it.
pub async fn describe(
    State(health): Shared,
    Path(name): Path<String>,
    Query(q): Query<Describe>,
) -> Result<Json<Value>, ApiError> {
    let session = health.session()?;
    let def = find(session.broker(), &name)?;
    let mut all = seen(&session, vec![def], q.span_ms).await?;
    let seen = all.pop().ok_or_else(|| ApiError::not_found(format!("there is no queue {name:?}")))?;
    let mut told = summary(&seen);
    let settings = QueueSettings::of(&seen.def);
    let to = Target { kind: TargetKind::Queue, name: name.clone() };
    let bindings = exchanges::all_bindings(&session, BindingsOf::Target(to)).await?;
    if let Some(subscription) = &settings.subscription {
        told.insert("topic".to_owned(), topic(subscription, &seen.stats));
    }
    told.insert("created_ms".to_owned(), json!(seen.def.created_ms));
    told.insert("durable".to_owned(), json!(settings.durable));
    told.insert("exclusive".to_owned(), json!(settings.owner.is_some()));
    told.insert("policy".to_owned(), policy(&seen.def.policy, &settings));
    told.insert("arguments".to_owned(), values::table(&settings.arguments));
    told.insert("bindings".to_owned(), bindings);
    Ok(Json(Value::Object(told)))
}

fn topic(s: &Subscription, stats: &QueueStats) -> Value {
    let TopicCounts { lost, skipped, unreadable } = stats.topic;
    json!({
        "name": s.topic,
        "from": s.from.to_string(),
        "filter": s.filter,
        "skipped": skipped,
        "lost_to_retention": lost,
        "unreadable": unreadable,
    })
}

fn policy(p: &QueuePolicy, settings: &QueueSettings) -> Value {
    let dead = settings.dead_letter.as_ref();
    let overflow = match p.overflow {
        Overflow::DropHead => "drop-head",
        Overflow::Reject => "reject-publish",
        Overflow::RejectDeadLetter => "reject-publish-dlx",
    };
    let exhausted = match p.on_exhausted {
        OnExhausted::DeadLetter => "dead-letter",
        OnExhausted::Drop => "drop",
        OnExhausted::Park => "park",
    };
    let ordering = match p.ordering {
        Ordering::None => "none",
        Ordering::ByKey => "key",
        Ordering::Fair => "fair",
    };
    let backoff = match p.backoff {
        Backoff::None => Value::Null,
        Backoff::Fixed { ms } => json!({ "base_ms": ms }),
        Backoff::Exponential { base_ms, max_ms, jitter_percent } => {
            json!({ "base_ms": base_ms, "max_ms": max_ms, "jitter_percent": jitter_percent })
        }
    };
    json!({
        "ttl_ms": p.ttl_ms,
        "max_length": p.messages_max,
        "max_bytes": p.bytes_max,
        "overflow": overflow,
        "max_priority": p.priority_max,
        "attempts": p.attempts_max,
        "on_exhausted": exhausted,
        "backoff": backoff,
        "ordering": ordering,
        "key_from": settings.key_from.text(),
        "id_window_ms": p.id_window_ms,
        "lease_ms": p.lease_ms,
        "delay_ms": p.delay_ms,
        "expires_ms": p.expires_ms,
        "single_active": p.single_active,
        "auto_delete": p.auto_delete,
        "dead_letter_exchange": dead.map(|d| &d.exchange),
        "dead_letter_routing_key": dead.and_then(|d| d.routing_key.as_ref()),
        "dead_letter_at_least_once": dead.map(|d| d.at_least_once),
    })
}

/// Body of a creation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    name: String,
    ttl_ms: Option<u64>,
    max_length: Option<u64>,
    max_bytes: Option<u64>,
    overflow: Option<String>,
    max_priority: Option<u8>,
    attempts: Option<u32>,
    on_exhausted: Option<String>,
    ordering: Option<String>,
    key_from: Option<String>,
    backoff: Option<NewBackoff>,
    id_window_ms: Option<u64>,
    dead_letter_exchange: Option<String>,
    dead_letter_routing_key: Option<String>,
    #[serde(default)]
    dead_letter_at_least_once: bool,
    lease_ms: Option<u64>,
    delay_ms: Option<u64>,
    expires_ms: Option<u64>,
    #[serde(default)]
    single_active: bool,
    topic: Option<String>,
    from: Option<String>,
    filter: Option<Value>,
}

/// Rest after a failed attempt: always as long, or twice as long each time up to `max_ms`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBackoff {
    base_ms: u64,
    max_ms: Option<u64>,
    #[serde(default)]
    jitter_percent: u8,
}

impl Create {
    fn queue(self) -> Result<NewQueue, ApiError> {
        let mut p = QueuePolicy {
            ttl_ms: self.ttl_ms,
            messages_max: self.max_length,
            bytes_max: self.max_bytes,
            priority_max: self.max_priority.unwrap_or(0),
            attempts_max: self.attempts,
            delay_ms: self.delay_ms.unwrap_or(0),
            expires_ms: self.expires_ms,
            id_window_ms: self.id_window_ms,
            single_active: self.single_active,
            ..QueuePolicy::default()
        };
        p.lease_ms = self.lease_ms.unwrap_or(p.lease_ms);
        p.overflow = match self.overflow.as_deref() {
            None | Some("drop-head") => Overflow::DropHead,
            Some("reject-publish") => Overflow::Reject,
            Some("reject-publish-dlx") => Overflow::RejectDeadLetter,
            Some(o) => {
                let text = format!("overflow {o:?}: drop-head, reject-publish or reject-publish-dlx");
                return Err(ApiError::bad(text));
            }
        };
        p.on_exhausted = match self.on_exhausted.as_deref() {
            None | Some("dead-letter") => OnExhausted::DeadLetter,
            Some("drop") => OnExhausted::Drop,
            Some("park") => OnExhausted::Park,
            Some(o) => return Err(ApiError::bad(format!("on_exhausted {o:?}: dead-letter, drop or park"))),
        };
        p.ordering = match self.ordering.as_deref() {
            None | Some("none") => Ordering::None,
            Some("key") => Ordering::ByKey,
            Some("fair") => Ordering::Fair,
            Some(o) => return Err(ApiError::bad(format!("ordering {o:?}: none, key or fair"))),
        };
        let key_from = self
            .key_from
            .as_deref()
            .map_or(Some(KeyFrom::Key), KeyFrom::parse)
            .ok_or_else(|| ApiError::bad("key_from: key, routing-key, correlation-id or header:NAME"))?;
        if key_from != KeyFrom::Key && p.ordering == Ordering::None {
            return Err(ApiError::bad("key_from is for queues with an ordering"));
        }
        p.backoff = match self.backoff {
            None => Backoff::None,
            Some(NewBackoff { base_ms, max_ms: None, jitter_percent: 0 }) => Backoff::Fixed { ms: base_ms },
            Some(NewBackoff { base_ms, max_ms, jitter_percent }) => {
                if max_ms.is_some_and(|max_ms| max_ms < base_ms) || jitter_percent > 100 {
                    let text =
                        "a backoff grows from its shortest to its longest rest, and takes 0 to 100 % off";
                    return Err(ApiError::bad(text));
                }
                Backoff::Exponential { base_ms, max_ms: max_ms.unwrap_or(base_ms), jitter_percent }
            }
        };
        let dead_letter = match (self.dead_letter_exchange, self.dead_letter_routing_key) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(ApiError::bad("a dead-letter routing key needs a dead-letter exchange"));
            }
            (Some(exchange), routing_key) => Some(DeadLetter {
                exchange,
                routing_key,
                at_least_once: self.dead_letter_at_least_once,
                not_expired: false,
                keeps_age: false,
            }),
        };
        p.dead_letter = dead_letter.is_some();
        let subscription = match (self.topic, self.from, self.filter) {
            (None, None, None) => None,
            (None, _, _) => return Err(ApiError::bad("from and filter need a topic")),
            (Some(topic), from, filter) => {
                let from = from.map_or(Ok(Begin::default()), |f| f.parse());
                let from = from.map_err(|e: BeginError| ApiError::bad(e.to_string()))?;
                Some(Subscription { topic, from, filter: filter.map(|f| f.to_string()) })
            }
        };
        // So that an AMQP client that declares it alike finds it so.
        let arguments =
            millstream_amqp::queue_arguments(&p, dead_letter.as_ref(), subscription.as_ref(), &key_from);
        let new = NewQueue::named(&self.name);
        Ok(NewQueue { policy: p, dead_letter, subscription, key_from, arguments, ..new })
    }
}

/// Makes a queue, or finds it made alike.
pub async fn create(
    State(health): Shared,
    Json(c): Json<Create>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let declared = health.session()?.declare_queue(c.queue()?).await?;
    let status = if declared.made { StatusCode::CREATED } else { StatusCode::OK };
    let mut told = summary(&Seen { def: declared.def, stats: declared.stats, rates: Value::Null });
    told.insert("made".to_owned(), json!(declared.made));
    Ok((status, Json(Value::Object(told))))
}

/// When a queue may go.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    #[serde(default)]
    if_unused: bool,
    #[serde(default)]
    if_empty: bool,
}

/// Removes a queue with its messages.
pub async fn delete(
    State(health): Shared,
    Path(name): Path<String>,
    Query(q): Query<Delete>,
) -> Result<Json<Value>, ApiError> {
    let def = find(health.broker()?, &name)?;
    let messages = health.session()?.delete_queue(def.id, q.if_unused, q.if_empty).await?;
    Ok(Json(json!({ "name": name, "messages": messages })))
}

/// Removes the messages that are not at consumers.
pub async fn purge(State(health): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let def = find(health.broker()?, &name)?;
    let messages = health.session()?.purge_queue(def.id, true).await?;
    Ok(Json(json!({ "name": name, "messages": messages })))
}

/// What becomes of parked messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpark {
    /// Back to their places; else to the dead-letter target, or they are dropped.
    release: bool,
}

/// Takes all messages off the parking place that are there now.
pub async fn unpark(
    State(health): Shared,
    Path(name): Path<String>,
    Json(u): Json<Unpark>,
) -> Result<Json<Value>, ApiError> {
    let def = find(health.broker()?, &name)?;
    let session = health.session()?;
    let parked = session.parked(def.id, (0, 0), u32::MAX).await?.unwrap_or_default();
    let places: Vec<(u16, u64)> = parked.iter().map(|p| (p.lane, p.pos)).collect();
    let messages = session.unpark(def.id, &places, u.release).await?;
    Ok(Json(json!({ "name": name, "messages": messages })))
}
