//! What a message is in SQS, and what becomes of what SQS says: the SQS column of the table in `docs/protocols.md`, and all of it.
//!
//! Start at [`incoming`] and [`outgoing`]. What has no place of its own in SQS is an attribute in a reserved namespace, and the same
//! attribute on the way in sets the field again; a client's own header of such a name has an underscore before it here.

mod headers;
mod packed;

#[cfg(test)]
mod tests;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use millstream_broker::shown::name::{
    AMQP_TEXTS, DEATH, DELIVERY_MODE, EXCHANGE, EXPIRATION_MS, PRIORITY, RESERVED, ROUTING_KEY,
};
use millstream_broker::{Death, Header, HeaderValue, Message, NewMessage, QueueMessage, property};
use sha2::{Digest, Sha256};

use super::message_attributes::{ATTRIBUTES_MAX, Attribute, AttributeValue, is_sqs_text};
use crate::error::{AwsError, shown};

/// Largest body that SQS carries, bytes of text.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of what AMQP has as a short text.
const SHORT_BYTES_MAX: usize = 255;
/// Characters of a message group and of a deduplication id.
pub(crate) const ID_CHARS_MAX: usize = 128;

const ENCODING: &str = "millstream.encoding";
const BASE64: &str = "base64";
const NULL: &str = "kafka.null";
const KEY: &str = "kafka.key";
const TIMESTAMP: &str = "amqp.timestamp";
const HEADERS: &str = "millstream.headers";

/// A message as SQS sends it.
#[derive(Debug, Default)]
pub(crate) struct Incoming<'a> {
    /// The queue that it is for.
    pub(crate) queue: &'a str,
    pub(crate) body: &'a str,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) trace: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
    pub(crate) deduplication: Option<&'a str>,
    /// Who signed the request, if anybody had to.
    pub(crate) sender: Option<&'a str>,
    pub(crate) delay_ms: Option<u64>,
}

/// A message as SQS receives it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) body: String,
    /// All that it has; which of them are shown, the receive says.
    pub(crate) attributes: Vec<Attribute>,
    /// How it died: shown only if asked for by name.
    pub(crate) death: Option<Attribute>,
    pub(crate) trace: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) deduplication: Option<String>,
    pub(crate) sender: Option<String>,
    /// The queue that gave it up last.
    pub(crate) died_in: Option<String>,
}

/// A message's body is too large for SQS: it stays, and other protocols can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// A client's own header as its attribute is called: not in a reserved namespace.
fn escaped(name: &str) -> String {
    let reserved = RESERVED.iter().any(|r| name.trim_start_matches('_').starts_with(r));
    if reserved { format!("_{name}") } else { name.to_owned() }
}

/// The header that an attribute shows; `None`: it is in a reserved namespace itself.
fn unescaped(name: &str) -> Option<&str> {
    let bare = name.trim_start_matches('_');
    if !RESERVED.iter().any(|r| bare.starts_with(r)) {
        return Some(name);
    }
    name.strip_prefix('_')
}

/// The message that was sent.
///
/// # Errors
/// `InvalidParameterValue` for an attribute in a reserved namespace that sets nothing, or sets it to what cannot be.
pub(crate) fn incoming(sent: Incoming<'_>) -> Result<NewMessage, AwsError> {
    let Incoming { queue, body, attributes, trace, group, deduplication, sender, delay_ms } = sent;
    let message = Message {
        routing_key: queue.to_owned(),
        key: group.map(|g| Bytes::copy_from_slice(g.as_bytes())),
        payload: Some(Bytes::copy_from_slice(body.as_bytes())),
        ..Message::default()
    };
    let mut new = NewMessage { message, delay_ms, ..NewMessage::default() };
    let mut texts = [
        (property::AWS_TRACE, trace),
        (property::DEDUPLICATION_ID, deduplication),
        (property::SENDER, sender),
    ];
    for (id, text) in &mut texts {
        if let Some(text) = text {
            new.message.properties.push((*id, Bytes::copy_from_slice(text.as_bytes())));
        }
    }
    for attribute in attributes {
        match unescaped(&attribute.name) {
            Some(name) => headers::put(&mut new.message.headers, name, &attribute),
            None => special(&mut new, &attribute, sender)?,
        }
    }
    Ok(new)
}

/// An attribute in a reserved namespace sets a field.
fn special(new: &mut NewMessage, a: &Attribute, sender: Option<&str>) -> Result<(), AwsError> {
    let wrong = |why: &str| {
        AwsError::invalid(&format!("The message attribute '{}' is reserved: {why}.", shown(&a.name)))
    };
    let text = || match &a.value {
        AttributeValue::Text(t) => Ok(t.as_str()),
        AttributeValue::Binary(_) => Err(wrong("its value must be text")),
    };
    let number = |max: u64| {
        let n = text()?.parse::<u64>().ok().filter(|n| *n <= max);
        n.ok_or_else(|| wrong(&format!("its value must be a whole number of at most {max}")))
    };
    let bytes = || match &a.value {
        AttributeValue::Text(t) => Bytes::copy_from_slice(t.as_bytes()),
        AttributeValue::Binary(b) => b.clone(),
    };
    let short = || match bytes() {
        b if b.len() <= SHORT_BYTES_MAX => Ok(b),
        _ => Err(wrong(&format!("its value must be at most {SHORT_BYTES_MAX} bytes long"))),
    };
    let byte = |max: u8| number(u64::from(max)).map(|n| u8::try_from(n).unwrap_or(max));
    let message = &mut new.message;
    if let Some((id, _)) = AMQP_TEXTS.iter().find(|t| t.1 == a.name) {
        if *id == property::USER_ID && sender.map(str::as_bytes) != Some(&bytes()) {
            return Err(wrong("it can only name who signed the request"));
        }
        set(message, *id, short()?);
        return Ok(());
    }
    match a.name.as_str() {
        ENCODING => {
            if text()? != BASE64 {
                return Err(wrong("its value can only be base64"));
            }
            let body = message.payload.take().unwrap_or_default();
            let body = STANDARD.decode(&body).map_err(|_| wrong("the body is not base64"))?;
            message.payload = Some(Bytes::from(body));
        }
        NULL => match text()? {
            "true" => message.payload = None,
            _ => return Err(wrong("its value can only be true")),
        },
        KEY => message.key = Some(bytes()),
        EXCHANGE => short().and_then(|_| text())?.clone_into(&mut message.exchange),
        ROUTING_KEY => short().and_then(|_| text())?.clone_into(&mut message.routing_key),
        TIMESTAMP => {
            let ms = i64::try_from(number(i64::MAX.unsigned_abs())?).unwrap_or(i64::MAX);
            set(message, property::TIMESTAMP_MS, Bytes::copy_from_slice(&ms.to_le_bytes()));
        }
        DELIVERY_MODE => {
            let mode = byte(2)?;
            set(message, property::DELIVERY_MODE, Bytes::copy_from_slice(&[mode]));
        }
        PRIORITY => {
            new.priority = byte(u8::MAX)?;
            set(message, property::PRIORITY, Bytes::copy_from_slice(&[new.priority]));
        }
        EXPIRATION_MS => {
            let ms = number(u64::from(u32::MAX))?;
            new.ttl_ms = Some(ms);
            set(message, property::EXPIRATION, Bytes::from(ms.to_string()));
        }
        HEADERS => {
            let list = packed::read(&bytes()).ok_or_else(|| wrong("its value is no list of headers"))?;
            for part in list {
                match part {
                    packed::Part::Header(h) => new.message.headers.push(h),
                    packed::Part::Special(a) if a.name != HEADERS => special(new, &a, sender)?,
                    packed::Part::Special(_) => return Err(wrong("it cannot be in itself")),
                }
            }
        }
        _ => return Err(wrong("no attribute of this name can be sent")),
    }
    Ok(())
}

fn set(message: &mut Message, id: u8, value: Bytes) {
    message.properties.retain(|p| p.0 != id);
    message.properties.push((id, value));
}

/// A message of a queue as SQS shows it, at this moment.
///
/// # Errors
/// `TooLarge` if its body cannot be carried.
pub(crate) fn outgoing(stored: &QueueMessage, queue: &str, now_ms: u64) -> Result<Outgoing, TooLarge> {
    let m = &stored.message;
    let (body, mut specials) = body(m)?;
    specials.extend(fields(stored, queue, now_ms));
    let (group, key) = group(m);
    specials.extend(key);
    let own = headers::all(&m.headers);
    let fits = |n: usize| n + specials.len() <= ATTRIBUTES_MAX;
    let attributes = match own {
        Some(own) if fits(own.len()) => specials.into_iter().chain(own).collect(),
        _ => {
            let fit = specials.len() < ATTRIBUTES_MAX;
            let (shown, inside) = if fit { (specials, Vec::new()) } else { (Vec::new(), specials) };
            let list = Attribute::binary(HEADERS, Bytes::from(packed::write(&m.headers, &inside)));
            shown.into_iter().chain([list]).collect()
        }
    };
    let text =
        |id| m.properties.iter().find(|p| p.0 == id).and_then(|p| String::from_utf8(p.1.to_vec()).ok());
    Ok(Outgoing {
        body,
        attributes,
        death: (!m.deaths.is_empty()).then(|| Attribute::text(DEATH, "String", deaths(&m.deaths))),
        trace: text(property::AWS_TRACE),
        group,
        deduplication: text(property::DEDUPLICATION_ID),
        sender: text(property::SENDER).or_else(|| text(property::USER_ID)),
        died_in: m.deaths.first().map(|d| d.queue.clone()),
    })
}

/// The body as text, and what says how it came to be that.
fn body(m: &Message) -> Result<(String, Vec<Attribute>), TooLarge> {
    let Some(payload) = &m.payload else {
        return Ok((String::new(), vec![Attribute::text(NULL, "String", "true")]));
    };
    match std::str::from_utf8(payload) {
        Ok(text) if text.len() <= BODY_BYTES_MAX && is_sqs_text(text) => Ok((text.to_owned(), Vec::new())),
        _ if payload.len().div_ceil(3) * 4 <= BODY_BYTES_MAX => {
            Ok((STANDARD.encode(payload), vec![Attribute::text(ENCODING, "String", BASE64)]))
        }
        _ => Err(TooLarge),
    }
}

/// A message group must be 1 to 128 of these.
pub(crate) fn is_id(text: &str) -> bool {
    let legal = text.bytes().all(|b| b.is_ascii_alphanumeric() || b.is_ascii_punctuation());
    !text.is_empty() && text.len() <= ID_CHARS_MAX && legal
}

/// The key as a message group, and as an attribute if it cannot be one.
fn group(m: &Message) -> (Option<String>, Option<Attribute>) {
    let Some(key) = &m.key else { return (None, None) };
    match std::str::from_utf8(key) {
        Ok(text) if is_id(text) => (Some(text.to_owned()), None),
        _ => (Some(URL_SAFE_NO_PAD.encode(Sha256::digest(key))), Some(Attribute::binary(KEY, key.clone()))),
    }
}

/// Fields that have no place of their own in SQS.
fn fields(stored: &QueueMessage, queue: &str, now_ms: u64) -> Vec<Attribute> {
    let m = &stored.message;
    let mut out = Vec::new();
    if !m.exchange.is_empty() {
        out.extend(text_attribute(EXCHANGE, m.exchange.as_bytes()));
    }
    if !m.exchange.is_empty() || m.routing_key != queue {
        out.extend(text_attribute(ROUTING_KEY, m.routing_key.as_bytes()));
    }
    for (id, value) in &m.properties {
        if let Some((_, name)) = AMQP_TEXTS.iter().find(|t| t.0 == *id) {
            out.extend(text_attribute(name, value));
            continue;
        }
        let number = |name, n: String| Some(Attribute::text(name, "Number", n));
        out.extend(match *id {
            property::TIMESTAMP_MS => {
                let ms = value.first_chunk().map(|b| i64::from_le_bytes(*b));
                ms.filter(|ms| *ms >= 0).and_then(|ms| number(TIMESTAMP, ms.to_string()))
            }
            property::DELIVERY_MODE => value.first().and_then(|v| number(DELIVERY_MODE, v.to_string())),
            property::PRIORITY => value.first().and_then(|v| number(PRIORITY, v.to_string())),
            _ => None,
        });
    }
    // What was moved has no time to live of its own any more: there it is what the queue's retention leaves.
    if let Some(at) = stored.expiry_ms.filter(|_| stored.origin.is_none()) {
        out.push(Attribute::text(EXPIRATION_MS, "Number", at.saturating_sub(now_ms).to_string()));
    }
    out
}

/// A field as a text if it is one; an empty one is not shown.
fn text_attribute(name: &str, value: &[u8]) -> Option<Attribute> {
    match std::str::from_utf8(value) {
        Ok("") => None,
        Ok(text) if is_sqs_text(text) => Some(Attribute::text(name, "String", text)),
        _ => Some(Attribute::binary(name, Bytes::copy_from_slice(value))),
    }
}

/// The death list, the latest first, as JSON.
fn deaths(all: &[Death]) -> String {
    let one = |d: &Death| {
        serde_json::json!({
            "queue": d.queue, "reason": d.reason.name(), "count": d.count, "time": d.time_ms,
            "exchange": d.exchange, "routing-keys": d.keys,
        })
    };
    // As ASCII: names may hold what XML does not.
    let text = serde_json::Value::from(all.iter().map(one).collect::<Vec<_>>()).to_string();
    text.chars().map(|c| if is_sqs_text(c.encode_utf8(&mut [0; 4])) { c } else { '\u{fffd}' }).collect()
}

/// A header by its name.
fn header(name: &str, value: HeaderValue) -> Header {
    Header { name: name.to_owned(), value }
}
