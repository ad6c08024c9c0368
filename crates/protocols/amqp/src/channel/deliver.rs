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
/// Headers whose names are too long for a field table: an array of tables of `name` and `value`.
const LONG_NAMED: &str = "millstream.headers";

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
    gather_long_named(&mut headers);
    let header = ContentHeader {
        body_bytes: body.len() as u64,
        properties: message.properties,
        has_headers: !headers.is_empty(),
        headers,
    };
    (header, body)
}

/// Other protocols' headers may have names that a field table cannot hold: those go, in order, into one header.
fn gather_long_named(headers: &mut Vec<Header>) {
    let fits = |h: &Header| h.name.len() <= text::SHORT_BYTES_MAX;
    if headers.iter().all(fits) {
        return;
    }
    let (fitting, long): (Vec<_>, Vec<_>) = std::mem::take(headers).into_iter().partition(fits);
    *headers = fitting;
    let entry = |h: Header| {
        let name = Header { name: "name".to_owned(), value: HeaderValue::Str(h.name) };
        HeaderValue::Table(vec![name, Header { name: "value".to_owned(), value: h.value }])
    };
    let all = HeaderValue::Array(long.into_iter().map(entry).collect());
    headers.push(Header { name: LONG_NAMED.to_owned(), value: all });
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn headers_whose_names_are_too_long_go_out_in_one_header() {
        let header = |name: String, n| Header { name, value: HeaderValue::I32(n) };
        let headers =
            vec![header("n".repeat(256), 1), header("m".repeat(255), 2), header("sqs.type.".repeat(29), 3)];
        let (out, _) = header_of(Message { headers: headers.clone(), ..Message::default() }, None);
        let mut bytes = BytesMut::new();
        out.encode(&mut bytes).unwrap();
        let read = ContentHeader::decode(&bytes.freeze()).unwrap();
        assert_eq!(read.headers[0], headers[1]);
        let entry = |h: &Header| {
            let name = Header { name: "name".to_owned(), value: HeaderValue::Str(h.name.clone()) };
            HeaderValue::Table(vec![name, Header { name: "value".to_owned(), value: h.value.clone() }])
        };
        assert_eq!(read.headers[1].name, LONG_NAMED);
        assert_eq!(read.headers[1].value, HeaderValue::Array(vec![entry(&headers[0]), entry(&headers[2])]));
        assert_eq!(read.headers.len(), 2);
    }
}
