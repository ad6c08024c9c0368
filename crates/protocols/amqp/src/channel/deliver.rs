//! From the broker's deliveries to `basic.deliver`.

use amq_protocol::protocol::{AMQPClass, basic as b};
use bytes::Bytes;
use millstream_broker::queue::api::{Delivery, Verb};
use millstream_broker::{BodyError, Header, HeaderValue, Message};

use crate::channel::Channel;
use crate::error::ReplyCode;
use crate::exception::Exception;
use crate::properties::ContentHeader;
use crate::{deaths, key, text};

/// How often handing out a message failed, on quorum queues.
const DELIVERY_COUNT: &str = "x-delivery-count";

impl Channel {
    /// Hands deliveries to the client. None: the broker is closed, or lost.
    pub(super) async fn deliver(&mut self, deliveries: Vec<Delivery>) -> Result<(), Exception> {
        if deliveries.is_empty() {
            return Err(Exception::new(ReplyCode::ConnectionForced, "the broker is stopping"));
        }
        let bodies = self.session.broker().read_bodies(&deliveries).await;
        let (mut delivered, mut redelivered) = (0, 0);
        for (d, body) in deliveries.iter().zip(bodies) {
            let Some(consumer) = self.consumers.get(d.consumer).cloned() else {
                // It came behind the consumer's end.
                self.settling.add(d, Verb::Undelivered);
                continue;
            };
            let message = match body {
                Ok(message) => message.message,
                Err(BodyError::Gone) => continue,
                Err(error) => {
                    // It stays leased to this channel: to hand it out again would go round and round.
                    tracing::error!(queue = d.queue.0, pos = d.pos, %error, "a message cannot be delivered");
                    continue;
                }
            };
            let tag = self.unacked.next_tag();
            let class = AMQPClass::Basic(b::AMQPMethod::Deliver(b::Deliver {
                consumer_tag: text::short(&consumer.tag),
                delivery_tag: tag,
                redelivered: d.redelivered,
                exchange: text::short(&message.exchange),
                routing_key: text::short(&message.routing_key),
            }));
            let (header, body) = header_of(message, consumer.counts.then_some(d.attempts));
            if let Err(error) = self.link.outbox.content(self.number, &class, &header, &body) {
                tracing::warn!(queue = d.queue.0, pos = d.pos, %error, "a message cannot be said in AMQP: rejected");
                self.settling.add(d, Verb::Reject);
                continue;
            }
            delivered += 1;
            redelivered += usize::from(d.redelivered);
            if consumer.no_ack {
                self.settling.add(d, Verb::Ack);
            } else {
                self.unacked.add(tag, *d, consumer.within);
            }
        }
        self.link.stats().delivered.add(delivered);
        self.link.stats().redelivered.add(redelivered);
        self.session.handed_over(&deliveries);
        self.flush_settlements().await
    }
}

/// A message's header as it goes out, and its body.
pub(super) fn header_of(message: Message, failed: Option<u16>) -> (ContentHeader, Bytes) {
    let body = message.payload.unwrap_or_default();
    let mut headers = message.headers;
    key::show(&mut headers, message.key.as_ref());
    deaths::put(&mut headers, &message.deaths);
    if let Some(n) = failed.filter(|n| *n > 0) {
        headers.retain(|h| h.name != DELIVERY_COUNT);
        headers.push(Header { name: DELIVERY_COUNT.to_owned(), value: HeaderValue::I64(n.into()) });
    }
    let header = ContentHeader {
        body_bytes: body.len() as u64,
        properties: message.properties,
        has_headers: !headers.is_empty(),
        headers,
    };
    (header, body)
}
