//! `basic.publish`: from a method and its content to the broker's message.
//!
//! What was read together is published together; while the disk is full, or the memory for transient queues that it goes to, it is held, and
//! with it the client.

use bytes::{Bytes, BytesMut};
use millstream_broker::{
    Action, Header, HeaderValue, Message, NewMessage, Refused, RefusedBatch, Resource, property,
};
use millstream_types::Namespace;

use crate::arguments;
use crate::channel::Channel;
use crate::channel::confirms::{Mandatory, internal_exchange};
use crate::channel::settle::refused;
use crate::channel::transactions::Transaction;
use crate::content::Content;
use crate::exception::Exception;
use crate::key::partition_key;
use crate::link::{LOW_ON_DISK, LOW_ON_MEMORY};
use crate::method::Publish;

/// Messages of one batch.
const BATCH_MESSAGES_MAX: usize = 256;
/// Payload bytes of one batch, but for its last message.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Further routing keys: those that everybody sees, and those that nobody sees.
const CC: &str = "CC";
const BCC: &str = "BCC";
/// The name that `RabbitMQ`'s plugin for delayed messages uses.
const DELAY: &str = "x-delay";
/// What the message is known again by, in queues that know ids again.
const DEDUPLICATION_ID: &str = "x-deduplication-id";
/// Bytes of a deduplication id.
const DEDUPLICATION_ID_BYTES_MAX: usize = 255;

/// Messages that were read and not published.
#[derive(Debug, Default)]
pub(super) struct Batch {
    messages: Vec<NewMessage>,
    mandatory: Vec<(usize, Box<Mandatory>)>,
    bytes: usize,
    /// The exchange that was published to last, and may be.
    checked: Option<String>,
}

impl Batch {
    /// Messages, and their payload bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.messages.len(), self.bytes)
    }

    /// No more is to be added.
    pub(super) fn is_full(&self) -> bool {
        self.messages.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// All of it.
    pub(super) fn take(&mut self) -> (Vec<NewMessage>, Vec<(usize, Box<Mandatory>)>) {
        self.bytes = 0;
        (std::mem::take(&mut self.messages), std::mem::take(&mut self.mandatory))
    }

    /// What was taken and could not be published.
    fn put_back(&mut self, messages: Vec<NewMessage>, mandatory: Vec<(usize, Box<Mandatory>)>) {
        self.bytes = messages.iter().filter_map(|m| m.message.payload.as_ref()).map(Bytes::len).sum();
        (self.messages, self.mandatory) = (messages, mandatory);
    }
}

impl Channel {
    /// Adds a message to the batch, or to the transaction's. A batch that is full is to be published next.
    pub(super) fn publish(&mut self, m: Publish, content: Content) -> Result<(), Exception> {
        if m.immediate {
            return Err(Exception::not_implemented("immediate=true"));
        }
        let Publish { exchange, routing_key, mandatory, .. } = m;
        self.check_exchange(&exchange)?;
        let Content { mut header, body } = content;
        self.name_reply_queue(&mut header.properties)?;
        self.check_user(header.property(property::USER_ID))?;
        let ttl_ms = header.expiration_ms()?;
        let mut keys = further_keys(&header.headers, CC)?;
        let hidden = further_keys(&header.headers, BCC)?;
        let hidden_keys = u16::try_from(hidden.len()).unwrap_or(u16::MAX);
        keys.extend(hidden);
        header.headers.retain(|h| h.name != BCC);
        if header.has_headers && header.headers.is_empty() {
            header.properties.push((property::EMPTY_HEADERS, Bytes::new()));
        }
        let id = deduplication_id(&header.headers)?;
        let body = joined(body);
        let batch = self.tx.as_mut().map_or(&mut self.batch, |tx| &mut tx.batch);
        batch.bytes += body.len();
        if mandatory {
            let mandatory = Mandatory {
                exchange: exchange.clone(),
                routing_key: routing_key.clone(),
                header: header.clone(),
                body: body.clone(),
            };
            batch.mandatory.push((batch.messages.len(), Box::new(mandatory)));
        }
        let (transient, priority) = (!header.is_persistent(), header.priority());
        let delay_ms = delay_ms(&header.headers);
        header.properties.extend(id.map(|id| (property::DEDUPLICATION_ID, id)));
        if hidden_keys > 0 {
            let n = Bytes::copy_from_slice(&hidden_keys.to_le_bytes());
            header.properties.push((property::HIDDEN_KEYS, n));
        }
        let headers = header.headers;
        let message = Message {
            exchange,
            routing_key,
            keys,
            key: partition_key(&headers),
            properties: header.properties,
            headers,
            deaths: Vec::new(),
            payload: Some(body),
        };
        batch.messages.push(NewMessage {
            message,
            transient,
            priority,
            ttl_ms,
            delay_ms,
            ..NewMessage::default()
        });
        self.tx.as_ref().map_or(Ok(()), Transaction::check)
    }

    /// Publishes what was gathered; if there is no room for it, holds it.
    pub(super) async fn flush_batch(&mut self) -> Result<(), Exception> {
        // An exchange may go, and a permission: both are looked at again with what is read next.
        self.batch.checked = None;
        if self.batch.messages.is_empty() {
            return Ok(());
        }
        if self.session.broker().is_full() {
            self.hold(LOW_ON_DISK);
            return Ok(());
        }
        let (messages, mandatory) = self.batch.take();
        let n = messages.len();
        let publishing = match self.session.publish(messages).await {
            Err(RefusedBatch { why: Refused::MemoryFull, batch }) => {
                self.batch.put_back(batch, mandatory);
                self.hold(LOW_ON_MEMORY);
                return Ok(());
            }
            other => other.map_err(|e| refused(&e.why))?,
        };
        if std::mem::take(&mut self.held) {
            self.link.go_on();
        }
        self.link.stats().published.add(n);
        self.confirms.add(publishing, n as u64, self.confirming, mandatory);
        Ok(())
    }

    /// Publishing stops until there is room.
    fn hold(&mut self, why: &str) {
        if !std::mem::replace(&mut self.held, true) {
            self.link.hold(why);
        }
    }

    fn check_exchange(&mut self, name: &str) -> Result<(), Exception> {
        if self.batch.checked.as_deref() == Some(name) {
            return Ok(());
        }
        // First: who may not publish there does not learn whether it is there.
        self.allow(Action::Write, &Resource::Exchange(Namespace::DEFAULT, name.to_owned()))?;
        if !name.is_empty() {
            match self.session.broker().routes().exchange(Namespace::DEFAULT, name) {
                None => return Err(Exception::not_found_exchange(name)),
                Some(def) if def.internal => return Err(internal_exchange(name)),
                Some(_) => {}
            }
        }
        self.batch.checked = Some(name.to_owned());
        Ok(())
    }

    /// A message may say whose it is, if it is so.
    fn check_user(&self, said: Option<&Bytes>) -> Result<(), Exception> {
        let is = &self.session.principal().name;
        match said {
            Some(said) if **said != *is.as_bytes() && !self.may_impersonate() => {
                Err(Exception::precondition(format!(
                    "user_id property set to '{}' but authenticated user was '{is}'",
                    String::from_utf8_lossy(said)
                )))
            }
            _ => Ok(()),
        }
    }
}

impl Channel {
    fn may_impersonate(&self) -> bool {
        self.session.broker().users().may_impersonate(self.session.principal())
    }
}

/// The keys in a header, which must be an array. What is no text in it is no key.
fn further_keys(headers: &[Header], name: &str) -> Result<Vec<String>, Exception> {
    let Some(header) = headers.iter().find(|h| h.name == name) else { return Ok(Vec::new()) };
    let HeaderValue::Array(values) = &header.value else {
        let kind = arguments::type_name(&header.value);
        let text = format!("invalid message: {{unacceptable_type_in_header,\"{name}\",{kind}}}");
        return Err(Exception::precondition(text));
    };
    let key = |v: &HeaderValue| match v {
        HeaderValue::Str(key) => Some(key.clone()),
        _ => None,
    };
    Ok(values.iter().filter_map(key).collect())
}

/// The header that says how long the message rests in its queues first; what is no number of milliseconds above 0 says nothing.
fn delay_ms(headers: &[Header]) -> Option<u64> {
    let ms = match headers.iter().find(|h| h.name == DELAY)?.value {
        HeaderValue::I8(n) => i64::from(n),
        HeaderValue::U8(n) => i64::from(n),
        HeaderValue::I16(n) => i64::from(n),
        HeaderValue::U16(n) => i64::from(n),
        HeaderValue::I32(n) => i64::from(n),
        HeaderValue::U32(n) => i64::from(n),
        HeaderValue::I64(n) => n,
        _ => return None,
    };
    u64::try_from(ms).ok().filter(|ms| *ms > 0)
}

/// The header that says what queues that know ids again know the message by: a string or bytes.
fn deduplication_id(headers: &[Header]) -> Result<Option<Bytes>, Exception> {
    let Some(header) = headers.iter().find(|h| h.name == DEDUPLICATION_ID) else { return Ok(None) };
    let id = match &header.value {
        HeaderValue::Str(id) => Bytes::copy_from_slice(id.as_bytes()),
        HeaderValue::Bytes(id) => id.clone(),
        _ => Bytes::new(),
    };
    if id.is_empty() || id.len() > DEDUPLICATION_ID_BYTES_MAX {
        return Err(Exception::precondition(format!(
            "invalid '{DEDUPLICATION_ID}' header: not a string of 1 to {DEDUPLICATION_ID_BYTES_MAX} bytes"
        )));
    }
    Ok(Some(id))
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() <= 1 {
        return pieces.pop().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in &pieces {
        whole.extend_from_slice(piece);
    }
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay_of(value: HeaderValue) -> Option<u64> {
        delay_ms(&[Header { name: DELAY.to_owned(), value }])
    }

    #[test]
    fn further_keys_are_the_texts_of_an_array() {
        let header = |value| vec![Header { name: CC.to_owned(), value }];
        let text = |t: &str| HeaderValue::Str(t.to_owned());
        let mixed = header(HeaderValue::Array(vec![text("a"), HeaderValue::I32(1), text("b")]));
        assert_eq!(further_keys(&mixed, CC).unwrap(), ["a", "b"]);
        let told = further_keys(&header(text("a")), CC).unwrap_err().reply_text();
        assert_eq!(
            told,
            "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}"
        );
    }

    #[test]
    fn a_delay_is_a_number_of_milliseconds_above_nothing_whatever_its_width() {
        for value in [HeaderValue::I8(5), HeaderValue::U16(5), HeaderValue::I32(5), HeaderValue::I64(5)] {
            assert_eq!(delay_of(value), Some(5));
        }
        for value in [HeaderValue::I64(0), HeaderValue::I64(-5), HeaderValue::Str("5".to_owned())] {
            assert_eq!(delay_of(value), None);
        }
        assert_eq!(delay_ms(&[]), None);
    }
}
