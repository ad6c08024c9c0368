//! A message's fields as headers, for protocols that have no place for them, and back: so what goes in by one protocol and out by another
//! loses nothing. The names are those of `docs/protocols.md`.
//!
//! Names that begin with one of [`name::RESERVED`] are ours. A client's own header of such a name is shown with a leading underscore, and loses one
//! underscore on its way in, so that none can be forged. Who a message says it is from (`amqp.user_id`, `sqs.sender_id`) and how it died (`millstream.death.`)
//! are shown and never read back: nobody here can vouch for them.
//!
//! Start at [`show`] and [`read`].

use bytes::Bytes;

use crate::batch::DecodedRecord;
use crate::envelope::{Header, HeaderValue, Message, property};
use crate::publish::NewMessage;

/// Names of fields, the same wherever they are shown: as Kafka's headers, on the command line, as SQS's message attributes.
pub mod name {
    use crate::envelope::property;

    /// What our own names begin with.
    pub const RESERVED: &[&str] = &["amqp.", "sqs.", "kafka.", "millstream."];
    /// The exchange it was published to.
    pub const EXCHANGE: &str = "amqp.exchange";
    /// Its routing key.
    pub const ROUTING_KEY: &str = "amqp.routing_key";
    /// Whether it outlives a restart: 2 = yes.
    pub const DELIVERY_MODE: &str = "amqp.delivery_mode";
    /// Its priority, 0 to 255.
    pub const PRIORITY: &str = "millstream.priority";
    /// How long it lives, milliseconds.
    pub const EXPIRATION_MS: &str = "millstream.expiration_ms";
    /// How it died.
    pub const DEATH: &str = "millstream.death";
    /// Properties of AMQP that are text, with their names.
    pub const AMQP_TEXTS: &[(u8, &str)] = &[
        (property::CONTENT_TYPE, "amqp.content_type"),
        (property::CONTENT_ENCODING, "amqp.content_encoding"),
        (property::CORRELATION_ID, "amqp.correlation_id"),
        (property::REPLY_TO, "amqp.reply_to"),
        (property::MESSAGE_ID, "amqp.message_id"),
        (property::TYPE, "amqp.type"),
        (property::APP_ID, "amqp.app_id"),
        (property::USER_ID, "amqp.user_id"),
        (property::CLUSTER_ID, "amqp.cluster_id"),
    ];
}

use name::{AMQP_TEXTS, DEATH, EXCHANGE, RESERVED, ROUTING_KEY};

/// Properties that are text and that SQS has places for, and their names.
const MORE_TEXTS: &[(u8, &str)] = &[
    (property::EXPIRATION, name::EXPIRATION_MS),
    (property::SENDER, "sqs.sender_id"),
    (property::AWS_TRACE, "sqs.trace_header"),
    (property::DEDUPLICATION_ID, "sqs.deduplication_id"),
];
/// Properties that are one byte, shown as a number.
const OCTETS: &[(u8, &str)] =
    &[(property::DELIVERY_MODE, name::DELIVERY_MODE), (property::PRIORITY, name::PRIORITY)];
/// Not to be delivered before so long; only on the way in.
const DELAY_MS: &str = "millstream.delay_ms";
/// The type of the header of the name that follows, which comes next.
const TYPE_OF: &str = "amqp.type.";

/// The type of bytes.
const BYTES: &str = "bytes";
/// Longest text that AMQP can carry as a property, exchange or routing key: a longer one is none.
const TEXT_BYTES_MAX: usize = 255;

/// A header as a protocol of bytes has it.
pub type ByteHeader = (String, Option<Bytes>);

/// Properties that are text, and their names.
fn texts() -> impl Iterator<Item = &'static (u8, &'static str)> {
    AMQP_TEXTS.iter().chain(MORE_TEXTS)
}

/// All that a message has besides key and payload, in order: its exchange and routing key, properties, headers, and how it died.
#[must_use]
pub fn show(message: &Message) -> Vec<ByteHeader> {
    let mut out: Vec<ByteHeader> = Vec::new();
    let mut put = |name: &str, value: Bytes| out.push((name.to_owned(), Some(value)));
    if !message.exchange.is_empty() {
        put(EXCHANGE, message.exchange.clone().into());
        put(ROUTING_KEY, message.routing_key.clone().into());
    }
    for (id, value) in &message.properties {
        if let Some((_, name)) = texts().find(|(known, _)| known == id) {
            put(name, value.clone());
        } else if let Some((_, name)) = OCTETS.iter().find(|(known, _)| known == id) {
            put(name, value.first().copied().unwrap_or(0).to_string().into());
        }
    }
    for h in &message.headers {
        let (kind, value) = bytes_of(&h.value);
        if let Some(kind) = kind {
            out.push((format!("{TYPE_OF}{}", h.name), Some(Bytes::from_static(kind.as_bytes()))));
        }
        out.push((escaped(&h.name), value));
    }
    for (n, death) in message.deaths.iter().enumerate() {
        let mut put = |what: &str, value: String| {
            out.push((format!("{DEATH}.{}.{what}", n + 1), Some(value.into())));
        };
        put("queue", death.queue.clone());
        put("reason", death.reason.name().to_owned());
        put("count", death.count.to_string());
        put("time_ms", death.time_ms.to_string());
        put("exchange", death.exchange.clone());
        put("routing_keys", serde_json::Value::from(death.keys.clone()).to_string());
    }
    out
}

fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|r| name.starts_with(r))
}

/// A client's own name as it is shown.
fn escaped(name: &str) -> String {
    if is_reserved(name.trim_start_matches('_')) { format!("_{name}") } else { name.to_owned() }
}

/// A shown name as the client's own, if it is that.
fn unescaped(name: &str) -> &str {
    match name.strip_prefix('_') {
        Some(rest) if is_reserved(rest.trim_start_matches('_')) => rest,
        _ => name,
    }
}

/// A record of a topic as a message, with what its headers say of priority, expiration and delay. Its timestamp becomes the application's.
/// What claims to be a field and cannot be one stays a header.
#[must_use]
pub fn read(record: DecodedRecord) -> NewMessage {
    let DecodedRecord { timestamp_ms, key, value, headers, .. } = record;
    let mut new = NewMessage {
        message: Message { key, payload: value, ..Message::default() },
        ..NewMessage::default()
    };
    let mut headers = headers.into_iter().peekable();
    while let Some((name, value)) = headers.next() {
        if field(&mut new, &name, value.as_ref()) {
            continue;
        }
        let typed = name.strip_prefix(TYPE_OF).zip(value.as_deref()).and_then(|(of, kind)| {
            let (_, next) = headers.peek().filter(|(next, _)| unescaped(next) == of)?;
            typed(kind, next.as_deref()?).map(|value| Header { name: of.to_owned(), value })
        });
        let header = match typed {
            Some(header) => {
                headers.next();
                header
            }
            None => Header { name: unescaped(&name).to_owned(), value: plain(value) },
        };
        new.message.headers.push(header);
    }
    if timestamp_ms >= 0 {
        let ms = Bytes::copy_from_slice(&timestamp_ms.to_le_bytes());
        new.message.properties.push((property::TIMESTAMP_MS, ms));
    }
    new
}

/// Whether a header was a field, which is set then.
fn field(new: &mut NewMessage, name: &str, value: Option<&Bytes>) -> bool {
    let Some(value) = value else { return false };
    let text = std::str::from_utf8(value).ok();
    if name == EXCHANGE || name == ROUTING_KEY {
        let Some(text) = text.filter(|t| t.len() <= TEXT_BYTES_MAX) else { return false };
        let at = if name == EXCHANGE { &mut new.message.exchange } else { &mut new.message.routing_key };
        text.clone_into(at);
        return true;
    }
    let number = text.and_then(|t| t.parse::<u64>().ok());
    if name == DELAY_MS {
        new.delay_ms = number;
        return number.is_some();
    }
    let is_new = |id: u8| new.message.properties.iter().all(|p| p.0 != id);
    if let Some((id, _)) = OCTETS.iter().find(|(id, n)| *n == name && is_new(*id)) {
        let Some(octet) = number.and_then(|n| u8::try_from(n).ok()) else { return false };
        new.message.properties.push((*id, Bytes::copy_from_slice(&[octet])));
        match *id {
            property::PRIORITY => new.priority = octet,
            _ => new.transient = octet == 1,
        }
        return true;
    }
    let from = |id: u8| matches!(id, property::USER_ID | property::SENDER);
    let fits = |id: u8| {
        value.len() <= TEXT_BYTES_MAX || matches!(id, property::AWS_TRACE | property::DEDUPLICATION_ID)
    };
    let may = |id: u8| fits(id) && !from(id) && is_new(id);
    let Some((id, _)) = texts().find(|(id, n)| *n == name && may(*id)) else {
        return false;
    };
    if *id == property::EXPIRATION {
        if number.is_none() {
            return false;
        }
        new.ttl_ms = number;
    }
    new.message.properties.push((*id, value.clone()));
    true
}

/// A header's value as bytes, and the name of its type where its bytes do not tell it: text is text, and what is no text bytes.
fn bytes_of(v: &HeaderValue) -> (Option<&'static str>, Option<Bytes>) {
    let text = |kind, s: String| (Some(kind), Some(Bytes::from(s)));
    match v {
        HeaderValue::Null => (None, None),
        // Bytes that would be taken for text say that they are none.
        HeaderValue::Bytes(b) => (std::str::from_utf8(b).is_ok().then_some(BYTES), Some(b.clone())),
        HeaderValue::Str(s) => (None, Some(s.clone().into())),
        HeaderValue::Bool(b) => text("bool", b.to_string()),
        HeaderValue::I8(n) => text("i8", n.to_string()),
        HeaderValue::I16(n) => text("i16", n.to_string()),
        HeaderValue::I32(n) => text("i32", n.to_string()),
        HeaderValue::I64(n) => text("i64", n.to_string()),
        HeaderValue::U8(n) => text("u8", n.to_string()),
        HeaderValue::U16(n) => text("u16", n.to_string()),
        HeaderValue::U32(n) => text("u32", n.to_string()),
        HeaderValue::U64(n) => text("u64", n.to_string()),
        HeaderValue::F32(n) => text("f32", n.to_string()),
        HeaderValue::F64(n) => text("f64", n.to_string()),
        HeaderValue::Decimal(scale, n) => text("decimal", format!("{n}e-{scale}")),
        HeaderValue::Timestamp(ms) => text("timestamp", ms.to_string()),
        HeaderValue::Array(a) => text("array", listed(a)),
        HeaderValue::Table(t) => {
            let parts = t.iter().map(|h| format!("{}={}", h.name, shown(&h.value)));
            text("table", format!("{{{}}}", parts.collect::<Vec<_>>().join(",")))
        }
    }
}

fn listed(values: &[HeaderValue]) -> String {
    format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(","))
}

/// A header's value as text.
pub(crate) fn shown(v: &HeaderValue) -> String {
    bytes_of(v).1.map_or_else(|| "null".to_owned(), |b| String::from_utf8_lossy(&b).into_owned())
}

/// Text where it is text.
fn plain(value: Option<Bytes>) -> HeaderValue {
    match value {
        None => HeaderValue::Null,
        Some(b) => match std::str::from_utf8(&b) {
            Ok(text) => HeaderValue::Str(text.to_owned()),
            Err(_) => HeaderValue::Bytes(b),
        },
    }
}

/// The counterpart of [`bytes_of`]. Arrays and tables are shown for people and stay text.
fn typed(kind: &[u8], value: &[u8]) -> Option<HeaderValue> {
    let text = std::str::from_utf8(value).ok()?;
    Some(match kind {
        b"bytes" => HeaderValue::Bytes(Bytes::copy_from_slice(value)),
        b"bool" => HeaderValue::Bool(text.parse().ok()?),
        b"i8" => HeaderValue::I8(text.parse().ok()?),
        b"i16" => HeaderValue::I16(text.parse().ok()?),
        b"i32" => HeaderValue::I32(text.parse().ok()?),
        b"i64" => HeaderValue::I64(text.parse().ok()?),
        b"u8" => HeaderValue::U8(text.parse().ok()?),
        b"u16" => HeaderValue::U16(text.parse().ok()?),
        b"u32" => HeaderValue::U32(text.parse().ok()?),
        b"u64" => HeaderValue::U64(text.parse().ok()?),
        b"f32" => HeaderValue::F32(text.parse().ok()?),
        b"f64" => HeaderValue::F64(text.parse().ok()?),
        b"decimal" => {
            let (n, scale) = text.split_once("e-")?;
            HeaderValue::Decimal(scale.parse().ok()?, n.parse().ok()?)
        }
        b"timestamp" => HeaderValue::Timestamp(text.parse().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
