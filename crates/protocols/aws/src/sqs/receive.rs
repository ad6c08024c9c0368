//! `ReceiveMessage`: what is ready, or the first that comes while it waits.
//!
//! Start at [`receive`]. Leases are on the disk before the answer goes out. Where the client goes away before that, they are given back as
//! if they had not been taken.

use std::sync::Arc;
use std::time::Duration;

use millstream_broker::queue::api::{
    Delivery, ExtendItem, LeaseKind, QueueDef, Receive, ReceiveError, SettleItem, Verb,
};
use millstream_broker::shown::name::DEATH;
use millstream_broker::{Action, BodyError, ConsumeError, QueueMessage, Session, settle_item};

use super::attempts::Attempt;
use super::attributes;
use super::handle::Handle;
use super::mapping::{self, Outgoing};
use super::message_attributes::{self, Attribute, Wanted, md5_hex};
use super::settings::{VISIBILITY_S_MAX, WAIT_S_MAX};
use super::{fifo, names};
use crate::answer::Answer;
use crate::error::{AwsError, Kind};
use crate::hex::uuid;
use crate::params::Params;
use crate::server::Cx;

/// Messages of one receive.
const MESSAGES_MAX: i64 = 10;
/// Payload bytes of one receive; at least one message.
const BYTES_MAX: u64 = 10 << 20;
/// Messages of a queue that may be received and not deleted at a time.
const IN_FLIGHT_MAX: usize = 120_000;
/// A message that SQS cannot carry is out of its way for so long, milliseconds; then it is looked at again.
const TOO_LARGE_REST_MS: u64 = 60_000;

/// Messages that were handed out and not yet to the client: given back if they never are.
struct Given {
    session: Arc<Session>,
    deliveries: Vec<Delivery>,
}

impl Drop for Given {
    fn drop(&mut self) {
        if !self.deliveries.is_empty() {
            self.session.give_back(std::mem::take(&mut self.deliveries));
        }
    }
}

/// What a receive asks to be told of each message.
struct Asked<'a> {
    system: Vec<&'a str>,
    attributes: Vec<&'a str>,
}

/// A message to be shown.
struct Shown {
    delivery: Delivery,
    stored: QueueMessage,
    out: Outgoing,
}

pub(crate) async fn receive(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Read)?;
    let bounded = |name: &str, min: i64, max: i64, reason: &str| match p.int(name)? {
        Some(n) if !(min..=max).contains(&n) => Err(AwsError::value(name, n, reason)),
        n => Ok(n.and_then(|n| u64::try_from(n).ok())),
    };
    let max = bounded("MaxNumberOfMessages", 1, MESSAGES_MAX, "Must be between 1 and 10, if provided.")?;
    let wait_max = i64::try_from(WAIT_S_MAX).unwrap_or(i64::MAX);
    let wait = bounded("WaitTimeSeconds", 0, wait_max, "Must be >= 0 and <= 20, if provided.")?;
    let visibility_max = i64::try_from(VISIBILITY_S_MAX).unwrap_or(i64::MAX);
    let visibility =
        bounded("VisibilityTimeout", 0, visibility_max, "Must be >= 0 and <= 43200, if provided.")?;
    let asked = asked(p)?;
    let what = Receive {
        bytes_max: BYTES_MAX,
        lease: LeaseKind::Timed { lease_ms: visibility.map(|s| s * 1_000), owned: false },
        ride: false,
        leases_max: IN_FLIGHT_MAX,
        ..Receive::now(def.id, u32::try_from(max.unwrap_or(1)).unwrap_or(1))
    };
    let wait = wait.map_or_else(|| attributes::wait(&def), Duration::from_secs);
    let attempt = attempt_id(&def, p)?;
    let lease_ms = visibility.map_or(def.policy.lease_ms, |s| s * 1_000);
    let again = match attempt {
        Some(id) => again(cx, &def, id, lease_ms).await?,
        None => None,
    };
    let new = again.is_none();
    let (shown, received_ms) = match again {
        Some(again) => again,
        None => (take(cx, &def, what, wait).await?, cx.server.broker.now_ms()),
    };
    if shown.is_empty() {
        return Ok(());
    }
    let broker = &cx.server.broker;
    cx.server.cfg.stats.received.add(shown.len());
    if let Some(id) = attempt.filter(|_| new) {
        let given = Attempt { received_ms, deliveries: shown.iter().map(|s| s.delivery).collect() };
        cx.server.attempts.note(def.id.0, id, given);
    }
    a.structs("Messages", "Message", shown, |a, s| {
        let Shown { delivery: d, stored, out } = s;
        let home = stored.home(&d);
        let handle =
            Handle { queue: d.queue.0, lane: d.lane, pos: d.pos, delivery_no: d.delivery_no, received_ms };
        a.text("MessageId", &uuid(broker.message_id(home)));
        a.text("ReceiptHandle", &handle.encode(&cx.server.handle_key));
        a.text("MD5OfBody", &md5_hex(out.body.as_bytes()));
        a.text("Body", &out.body);
        let system = system(cx, &asked, fifo::is_fifo(&def.policy), &d, &stored, &out);
        if !system.is_empty() {
            let all = system.iter().map(|(k, v)| (*k, v.as_str()));
            a.text_map(("Attributes", "Attribute"), ("Name", "Value"), all);
        }
        let wanted = Wanted(&asked.attributes);
        let death = out.death.filter(|_| wanted.by_name(DEATH));
        let chosen: Vec<Attribute> =
            out.attributes.into_iter().filter(|at| wanted.has(&at.name)).chain(death).collect();
        message_attributes::write(a, &chosen);
    });
    Ok(())
}

/// The id under which a receive may be repeated: of a FIFO queue alone.
fn attempt_id<'a>(def: &QueueDef, p: Params<'a>) -> Result<Option<&'a str>, AwsError> {
    const NAME: &str = "ReceiveRequestAttemptId";
    let Some(id) = p.text(NAME)? else { return Ok(None) };
    if !fifo::is_fifo(&def.policy) {
        let reason = "The request includes a parameter that is not valid for this queue type.";
        return Err(AwsError::value(NAME, id, reason));
    }
    if !mapping::is_id(id) {
        let reason = "it can only include alphanumeric and punctuation characters. 1 to 128 in length.";
        return Err(AwsError::value(NAME, id, reason));
    }
    Ok(Some(id))
}

/// What the receive of this id gave before, invisible for so long from now on, and when it was. `None`: it cannot be given again.
async fn again(
    cx: &Cx<'_>,
    def: &QueueDef,
    id: &str,
    lease_ms: u64,
) -> Result<Option<(Vec<Shown>, u64)>, AwsError> {
    let broker = &cx.server.broker;
    let Some(before) = cx.server.attempts.find(def.id.0, id, broker.now_ms()) else { return Ok(None) };
    let item = |d: &Delivery| ExtendItem {
        queue: d.queue,
        lane: d.lane,
        pos: d.pos,
        len: 1,
        delivery_no: d.delivery_no,
        lease_ms,
    };
    let errors = cx.session.extend(before.deliveries.iter().map(item).collect()).await?.await?;
    let mut shown = Vec::with_capacity(before.deliveries.len());
    if errors.is_empty() {
        let bodies = broker.read_bodies(&before.deliveries).await;
        for (delivery, body) in before.deliveries.iter().zip(bodies) {
            let Ok(stored) = body else { break };
            let Ok(out) = mapping::outgoing(&stored, &def.name, broker.now_ms()) else { break };
            shown.push(Shown { delivery: *delivery, stored, out });
        }
    }
    if shown.len() < before.deliveries.len() {
        // Its time ran out, or it is gone: the id is that of a new receive.
        cx.server.attempts.forget(def.id.0, id);
        return Ok(None);
    }
    Ok(Some((shown, before.received_ms)))
}

/// Names of system attributes.
const SYSTEM: &[&str] = &[
    "All",
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
];

fn asked(p: Params<'_>) -> Result<Asked<'_>, AwsError> {
    let mut system = p.texts("MessageSystemAttributeNames", "MessageSystemAttributeName")?;
    system.extend(p.texts("AttributeNames", "AttributeName")?);
    if let Some(unknown) = system.iter().find(|n| !SYSTEM.contains(n)) {
        return Err(super::settings::unknown(unknown));
    }
    Ok(Asked { system, attributes: p.texts("MessageAttributeNames", "MessageAttributeName")? })
}

fn system(
    cx: &Cx<'_>,
    asked: &Asked<'_>,
    fifo: bool,
    d: &Delivery,
    stored: &QueueMessage,
    out: &Outgoing,
) -> Vec<(&'static str, String)> {
    let cfg = &cx.server.cfg;
    let wanted = |name: &str| asked.system.iter().any(|n| *n == "All" || *n == name);
    let known = [
        ("SenderId", Some(out.sender.clone().unwrap_or_else(|| cfg.account.clone()))),
        // A FIFO queue counts from when the message came to it, also as a dead letter.
        ("SentTimestamp", Some(if fifo { stored.enqueued_ms } else { stored.sent_ms() }.to_string())),
        ("ApproximateReceiveCount", Some(stored.deliveries_in_all(d).to_string())),
        ("ApproximateFirstReceiveTimestamp", Some(d.first_ms.to_string())),
        ("SequenceNumber", fifo.then(|| fifo::digits(stored.home(d).1))),
        ("MessageDeduplicationId", out.deduplication.clone()),
        ("MessageGroupId", out.group.clone()),
        ("AWSTraceHeader", out.trace.clone()),
        ("DeadLetterQueueSourceArn", out.died_in.as_ref().map(|name| names::arn(cfg, name))),
    ];
    known.into_iter().filter_map(|(name, v)| v.filter(|_| wanted(name)).map(|v| (name, v))).collect()
}

/// Takes messages until there is one to show, or the time is over.
async fn take(cx: &Cx<'_>, def: &QueueDef, what: Receive, wait: Duration) -> Result<Vec<Shown>, AwsError> {
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let what = Receive { wait_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX), ..what };
        let mut stopped = cx.server.stopped.clone();
        let receiving = cx.session.receive(what).map_err(|e| match e {
            ConsumeError::Locked => AwsError::no_queue(),
            e => AwsError::new(Kind::InternalFailure, e.to_string()),
        })?;
        let waiting = (what.wait_ms > 0).then(|| cx.server.cfg.stats.waiting.during());
        let received = tokio::select! {
            received = receiving => received?,
            _ = stopped.wait_for(|s| *s) => return Ok(Vec::new()),
        };
        drop(waiting);
        let deliveries = match received {
            Ok(deliveries) => deliveries,
            Err(ReceiveError::NotFound) => return Err(AwsError::no_queue()),
            Err(ReceiveError::Exclusive) => {
                return Err(AwsError::new(
                    Kind::UnsupportedOperation,
                    "Another consumer has the queue to itself.",
                ));
            }
            Err(ReceiveError::OverLimit) if wait.is_zero() && !fifo::is_fifo(&def.policy) => {
                let text = format!(
                    "{IN_FLIGHT_MAX} messages are in flight, and no more can be: delete some that were received."
                );
                return Err(AwsError::new(Kind::OverLimit, text));
            }
            // A FIFO queue gives nothing more, and says nothing. A long poll has waited for one to be deleted.
            Err(ReceiveError::OverLimit) => return Ok(Vec::new()),
            Err(ReceiveError::TooMany) => {
                return Err(AwsError::new(
                    Kind::OverLimit,
                    "Too many receives wait for messages of this queue.",
                ));
            }
        };
        if deliveries.is_empty() {
            return Ok(Vec::new());
        }
        let mut given = Given { session: Arc::clone(cx.session), deliveries };
        let bodies = cx.server.broker.read_bodies(&given.deliveries).await;
        let mut shown = Vec::with_capacity(bodies.len());
        let mut apart: Vec<SettleItem> = Vec::new();
        let now_ms = cx.server.broker.now_ms();
        for (delivery, body) in given.deliveries.iter().zip(bodies) {
            match body.map(|stored| (mapping::outgoing(&stored, &def.name, now_ms), stored)) {
                Ok((Ok(out), stored)) => shown.push(Shown { delivery: *delivery, stored, out }),
                Ok((Err(mapping::TooLarge), _)) => {
                    tracing::warn!(
                        queue = def.name,
                        position = delivery.pos,
                        "a message is too large for SQS: it stays"
                    );
                    apart.push(settle_item(
                        delivery,
                        Verb::Release { failed: false, delay_ms: Some(TOO_LARGE_REST_MS) },
                    ));
                }
                // Its queue was purged or deleted meanwhile.
                Err(BodyError::Gone) => {}
                Err(e) => {
                    tracing::warn!(queue = def.name, position = delivery.pos, error = %e, "a message cannot be read");
                }
            }
        }
        // From here on the answer has them.
        given.deliveries.clear();
        if !apart.is_empty() {
            drop(cx.session.settle(apart).await?);
        }
        if !shown.is_empty() {
            return Ok(shown);
        }
    }
}

/// The lease of a delivery, moved to a new end.
pub(crate) fn extend_item(h: &Handle, queue: &QueueDef, lease_ms: u64) -> ExtendItem {
    ExtendItem { queue: queue.id, lane: h.lane, pos: h.pos, len: 1, delivery_no: h.delivery_no, lease_ms }
}
