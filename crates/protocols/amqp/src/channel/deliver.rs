//! From the broker's deliveries to `basic.deliver`.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_broker::queue::api::{Delivery, Verb};
use millstream_broker::{BodyError, Header, HeaderValue, Message, QueueMessage, property};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::error::ReplyCode;
use crate::exception::Exception;
use crate::outbox::{COPY_BYTES_MAX, Filling};
use crate::properties::ContentHeader;
use crate::{deaths, key, method, text};

/// Messages that go into the outbox at a time: while they do, nothing else does.
const FILLING_MESSAGES_MAX: usize = 128;
/// What a delivery takes besides its body, about.
const ABOUT_BYTES: usize = 128;

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
        let mut bodies = self.session.broker().read_bodies(&deliveries).await.into_iter();
        let outbox = Arc::clone(&self.link.outbox);
        for some in deliveries.chunks(FILLING_MESSAGES_MAX) {
            outbox.room().await;
            self.fill(&mut outbox.filling(), some, &mut bodies);
        }
        self.session.handed_over(&deliveries);
        self.flush_settlements().await
    }

    /// Puts deliveries into the outbox.
    fn fill(
        &mut self,
        out: &mut Filling<'_>,
        deliveries: &[Delivery],
        bodies: &mut impl Iterator<Item = Result<QueueMessage, BodyError>>,
    ) {
        let (mut delivered, mut redelivered) = (0, 0);
        let now = Instant::now();
        // Bodies that are not copied take no room.
        let bytes =
            |d: &Delivery| usize::try_from(d.bytes).map_or(0, |n| if n <= COPY_BYTES_MAX { n } else { 0 });
        out.expect(deliveries.iter().map(|d| bytes(d) + ABOUT_BYTES).sum());
        for (d, body) in deliveries.iter().zip(bodies) {
            let Some(consumer) = self.consumers.get(d.consumer) else {
                // It came behind the consumer's end.
                self.settling.add(d, Verb::Undelivered);
                continue;
            };
            let mut message = match body {
                Ok(message) => message.message,
                Err(BodyError::Gone) => continue,
                Err(error) => {
                    // It stays leased to this channel: to hand it out again would go round and round.
                    tracing::error!(queue = d.queue.0, pos = d.pos, %error, "a message cannot be delivered");
                    continue;
                }
            };
            let tag = self.unacked.next_tag();
            let (exchange, key) =
                (std::mem::take(&mut message.exchange), std::mem::take(&mut message.routing_key));
            let (header, body) = header_of(message, consumer.counts.then_some(d.attempts));
            let put = |out: &mut BytesMut| {
                method::put_deliver(out, tag, d.redelivered, [&consumer.tag, &exchange, &key]);
            };
            if let Err(error) = out.content(self.number, put, &header, &body) {
                tracing::warn!(queue = d.queue.0, pos = d.pos, %error, "a message cannot be said in AMQP: rejected");
                self.settling.add(d, Verb::Reject);
                continue;
            }
            delivered += 1;
            redelivered += usize::from(d.redelivered);
            if consumer.no_ack {
                self.settling.add(d, Verb::Ack);
            } else {
                self.unacked.add(tag, d, consumer.within, now);
            }
        }
        self.link.stats().delivered.add(delivered);
        self.link.stats().redelivered.add(redelivered);
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
    let empty = message.properties.iter().any(|p| p.0 == property::EMPTY_HEADERS);
    let header = ContentHeader {
        body_bytes: body.len() as u64,
        properties: message.properties,
        has_headers: empty || !headers.is_empty(),
        headers,
    };
    (header, body)
}

/// Other protocols' headers may have names that a field table cannot hold: those go, in order, into one header of the same table.
fn gather_long_named(headers: &mut Vec<Header>) {
    for h in headers.iter_mut() {
        gather_inside(&mut h.value);
    }
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

/// Likewise of the tables in a value, which is no deeper than a message's headers may be.
fn gather_inside(value: &mut HeaderValue) {
    match value {
        HeaderValue::Table(headers) => gather_long_named(headers),
        HeaderValue::Array(values) => values.iter_mut().for_each(gather_inside),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use millstream_types::limits::HEADER_DEPTH_MAX;

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
    fn header(name: &str, value: HeaderValue) -> Header {
        Header { name: name.to_owned(), value }
    }

    #[test]
    fn names_that_are_too_long_inside_a_table_go_out_in_one_header_of_that_table() {
        let long = "n".repeat(256);
        let inner = vec![header(&long, HeaderValue::I32(1)), header("a", HeaderValue::I32(2))];
        let list = HeaderValue::Array(vec![HeaderValue::Null, HeaderValue::Table(inner.clone())]);
        let headers = vec![header("t", HeaderValue::Table(inner)), header("l", list)];
        let (out, _) = header_of(Message { headers, ..Message::default() }, None);
        let mut bytes = BytesMut::new();
        out.encode(&mut bytes).unwrap();
        let read = ContentHeader::decode(&bytes.freeze()).unwrap();
        let name = header("name", HeaderValue::Str(long));
        let entry = HeaderValue::Table(vec![name, header("value", HeaderValue::I32(1))]);
        let gathered = header(LONG_NAMED, HeaderValue::Array(vec![entry]));
        let table = HeaderValue::Table(vec![header("a", HeaderValue::I32(2)), gathered]);
        let list = HeaderValue::Array(vec![HeaderValue::Null, table.clone()]);
        assert_eq!(read.headers, [header("t", table), header("l", list)]);
    }

    /// What stands deepest in a message is deeper still when names around it are too long.
    #[test]
    fn headers_as_deep_as_they_may_be_go_out_also_if_every_name_is_too_long() {
        let long = "n".repeat(256);
        let deepest =
            (0..HEADER_DEPTH_MAX).fold(HeaderValue::Null, |v, _| HeaderValue::Table(vec![header(&long, v)]));
        let headers = vec![header(&long, deepest)];
        let (out, _) = header_of(Message { headers, ..Message::default() }, None);
        out.encode(&mut BytesMut::new()).unwrap();
    }
}
