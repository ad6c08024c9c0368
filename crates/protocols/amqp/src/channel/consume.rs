//! Consumers: `basic.consume` and `basic.cancel`, and telling a client that its queue is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic as b};
use millstream_broker::queue::api::{ConsumerId, ConsumerOpts, LeaseKind, SubscribeError};
use millstream_broker::{Action, ConsumeError, Header, QueueSettings};

use crate::arguments::{self, Kind};
use crate::channel::Channel;
use crate::channel::queue::{locked, resource};
use crate::channel::reply::REPLY_TO;
use crate::error::ReplyCode;
use crate::exception::Exception;
use crate::{names, text};

/// The argument with a consumer's priority.
const PRIORITY: &str = "x-priority";

/// A consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) tag: String,
    queue_name: String,
    pub(super) no_ack: bool,
    /// Its queue says how often messages failed.
    pub(super) counts: bool,
    /// Its deliveries are to be settled within.
    pub(super) within: Option<Duration>,
}

/// A channel's consumers.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    by_id: BTreeMap<ConsumerId, Arc<Consumer>>,
    last: u64,
    /// Most leases of a consumer that is yet to come; 0 = no limit.
    pub(super) prefetch: u32,
}

impl Consumers {
    /// Whether deliveries may come.
    pub(super) fn were_any(&self) -> bool {
        self.last > 0
    }
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
    pub(super) fn get(&self, id: ConsumerId) -> Option<&Arc<Consumer>> {
        self.by_id.get(&id)
    }
    fn find(&self, tag: &str) -> Option<ConsumerId> {
        self.by_id.iter().find(|(_, c)| c.tag == tag).map(|(id, _)| *id)
    }
}

impl Channel {
    pub(super) async fn consume(&mut self, m: &b::Consume, table: &[Header]) -> Result<(), Exception> {
        let mut name = self.queue_name(m.queue.as_str())?;
        let tag = match m.consumer_tag.as_str() {
            "" => names::server_named("amq.ctag"),
            tag if self.consumers.find(tag).is_some() => {
                let text = format!("attempt to reuse consumer tag '{tag}'");
                return Err(Exception::new(ReplyCode::NotAllowed, text));
            }
            tag => tag.to_owned(),
        };
        // Its own queue for answers is nobody else's, and not there yet.
        let answers = name == REPLY_TO;
        if !answers {
            self.allow(Action::Read, &resource(&name))?;
            self.usable(&name)?;
        }
        let priority = priority(&name, table)?;
        if answers {
            name = self.make_reply_queue(m.no_ack).await?;
        }
        let def = self.usable(&name)?;
        self.consumers.last += 1;
        let id = ConsumerId(self.consumers.last);
        let opts = ConsumerOpts {
            lease: LeaseKind::Bound,
            ride: true,
            // Settled when it has gone out: who settles before he has read a message may find it gone.
            auto_ack: false,
            prefetch: if m.no_ack { 0 } else { self.consumers.prefetch },
            credit: None,
            priority,
            exclusive: m.exclusive,
        };
        let asked = self.session.subscribe(def.id, id, opts).map_err(|e| exception(&name, &e))?;
        let subscribed = asked.await.map_err(|e| Exception::internal(&e))?;
        subscribed.map_err(|e| exception(&name, &ConsumeError::Subscribe(e)))?;
        let settings = QueueSettings::of(&def);
        let counts = arguments::kind(&name, &settings.arguments) == Ok(Kind::Quorum);
        let within = self.settle_within(&settings.arguments);
        let consumer = Consumer { tag: tag.clone(), queue_name: name, no_ack: m.no_ack, counts, within };
        self.consumers.by_id.insert(id, Arc::new(consumer));
        self.link.stats().consumers.add(1);
        if !m.nowait {
            let ok = b::ConsumeOk { consumer_tag: text::short(&tag) };
            self.send(AMQPClass::Basic(b::AMQPMethod::ConsumeOk(ok)));
        }
        Ok(())
    }

    /// The time that deliveries from a queue with these arguments are to be settled in.
    pub(super) fn settle_within(&self, arguments: &[Header]) -> Option<Duration> {
        arguments::consumer_timeout(arguments).or(self.link.server.cfg.consumer_timeout)
    }

    /// Ends a consumer. What it was given stays the channel's. No such consumer: it is ended.
    pub(super) async fn cancel(&mut self, m: &b::Cancel) -> Result<(), Exception> {
        if let Some(id) = self.consumers.find(m.consumer_tag.as_str()) {
            self.session.cancel(id).await.map_err(|e| Exception::internal(&e))?;
            // What came before the end is still the consumer's.
            if let Some(deliveries) = self.deliveries_now() {
                self.deliver(deliveries).await?;
            }
            let ended = self.consumers.by_id.remove(&id);
            self.link.stats().consumers.sub(usize::from(ended.is_some()));
            if ended.is_some_and(|c| self.reply_to.as_deref() == Some(c.queue_name.as_str())) {
                self.reply_to = None;
            }
        }
        if !m.nowait {
            let ok = b::CancelOk { consumer_tag: m.consumer_tag.clone() };
            self.send(AMQPClass::Basic(b::AMQPMethod::CancelOk(ok)));
        }
        Ok(())
    }

    /// The queue of a consumer is gone: a client that wants to know is told.
    pub(super) fn consumer_ended(&mut self, id: ConsumerId) {
        let Some(ended) = self.consumers.by_id.remove(&id) else { return };
        self.link.stats().consumers.sub(1);
        if self.reply_to.as_deref() == Some(ended.queue_name.as_str()) {
            self.reply_to = None;
        }
        if self.link.client.cancel_notify {
            let cancel = b::Cancel { consumer_tag: text::short(&ended.tag), nowait: true };
            self.send(AMQPClass::Basic(b::AMQPMethod::Cancel(cancel)));
        }
    }
}

fn priority(queue: &str, table: &[Header]) -> Result<i32, Exception> {
    let Some(header) = table.iter().find(|h| h.name == PRIORITY) else { return Ok(0) };
    let n = arguments::whole(queue, PRIORITY, &header.value)?;
    Ok(i32::try_from(n).unwrap_or(if n < 0 { i32::MIN } else { i32::MAX }))
}

/// What the client is told of a consumer or a get that failed.
pub(super) fn exception(name: &str, e: &ConsumeError) -> Exception {
    use millstream_broker::queue::api::ReceiveError;
    match e {
        ConsumeError::Locked => locked(name),
        ConsumeError::Subscribe(SubscribeError::NotFound) | ConsumeError::Receive(ReceiveError::NotFound) => {
            Exception::not_found_queue(name)
        }
        ConsumeError::Subscribe(SubscribeError::Exclusive)
        | ConsumeError::Receive(ReceiveError::Exclusive) => {
            let text = format!("queue '{name}' in vhost '/' in exclusive use");
            Exception::new(ReplyCode::AccessRefused, text)
        }
        ConsumeError::Call(e) => Exception::internal(e),
        e => Exception::new(ReplyCode::ResourceError, e.to_string()),
    }
}
