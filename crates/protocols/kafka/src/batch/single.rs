//! A message of another protocol as a Kafka reader gets it: one batch of one record, made only from the stored entry and its
//! place, so that it has the same bytes each time.

use bytes::{BufMut, Bytes, BytesMut};
use millstream_broker::{HeaderValue, Message};

use super::{HEADER_BYTES, LENGTH_BYTES, MAGIC, crc32c};
use crate::num::i64_of;

/// Properties with a text value by id, and the header that shows them.
const PROPERTIES: &[(u8, &str)] = &[
    (1, "amqp.content_type"),
    (2, "amqp.content_encoding"),
    (3, "amqp.correlation_id"),
    (4, "amqp.reply_to"),
    (5, "amqp.message_id"),
    (6, "amqp.type"),
    (7, "amqp.app_id"),
    (8, "amqp.user_id"),
    (10, "amqp.delivery_mode"),
];
/// The property that holds the application's own timestamp.
const TIMESTAMP_MS: u8 = 9;
/// Namespaces of ours: a client's own header in them is shown with a leading underscore, so that none can be forged.
const RESERVED: &[&str] = &["amqp.", "sqs.", "kafka.", "millstream."];

/// The batch.
pub(crate) fn batch(message: &Message, offset: u64, leader_epoch: u32, append_ms: u64) -> Bytes {
    let timestamp = timestamp(message).unwrap_or_else(|| i64_of(append_ms));
    let record = record(message);
    let mut out = BytesMut::with_capacity(HEADER_BYTES + 5 + record.len());
    out.put_u64(offset);
    out.put_u32(0);
    out.put_u32(leader_epoch);
    out.put_u8(MAGIC);
    out.put_u32(0);
    out.put_u16(0);
    out.put_i32(0);
    out.put_i64(timestamp);
    out.put_i64(timestamp);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(1);
    put_varint(&mut out, record.len());
    out.put_slice(&record);
    let length = u32::try_from(out.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
    let crc = crc32c(out.get(super::CRC_FROM..).unwrap_or_default());
    for (at, value) in [(8, length), (17, crc)] {
        if let Some(field) = out.get_mut(at..at + 4) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    }
    out.freeze()
}

fn timestamp(message: &Message) -> Option<i64> {
    let (_, value) = message.properties.iter().find(|(id, _)| *id == TIMESTAMP_MS)?;
    value.as_ref().try_into().ok().map(i64::from_le_bytes)
}

fn record(message: &Message) -> BytesMut {
    let mut out = BytesMut::with_capacity(64 + message.payload.as_ref().map_or(0, Bytes::len));
    out.put_u8(0); // attributes
    out.put_u8(0); // timestamp delta
    out.put_u8(0); // offset delta
    put_nullable(&mut out, message.key.as_deref());
    put_nullable(&mut out, message.payload.as_deref());
    let mut headers: Vec<(String, Option<Vec<u8>>)> = Vec::new();
    if !message.exchange.is_empty() {
        headers.push(("amqp.exchange".to_owned(), Some(message.exchange.clone().into_bytes())));
    }
    for (id, value) in &message.properties {
        if let Some((_, name)) = PROPERTIES.iter().find(|(known, _)| known == id) {
            headers.push(((*name).to_owned(), Some(value.to_vec())));
        }
    }
    for h in &message.headers {
        let reserved = RESERVED.iter().any(|r| h.name.trim_start_matches('_').starts_with(r));
        let name = if reserved { format!("_{}", h.name) } else { h.name.clone() };
        let (kind, value) = value(&h.value);
        if let Some(kind) = kind {
            headers.push((format!("amqp.type.{}", h.name), Some(kind.as_bytes().to_vec())));
        }
        headers.push((name, value));
    }
    put_varint(&mut out, headers.len());
    for (name, value) in headers {
        put_varint(&mut out, name.len());
        out.put_slice(name.as_bytes());
        put_nullable(&mut out, value.as_deref());
    }
    out
}

/// A header's value as bytes, and the name of its type where it is not plain bytes.
fn value(v: &HeaderValue) -> (Option<&'static str>, Option<Vec<u8>>) {
    let text = |kind, s: String| (Some(kind), Some(s.into_bytes()));
    match v {
        HeaderValue::Null => (None, None),
        HeaderValue::Bytes(b) => (None, Some(b.to_vec())),
        HeaderValue::Str(s) => (None, Some(s.clone().into_bytes())),
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

fn shown(v: &HeaderValue) -> String {
    value(v).1.map_or_else(|| "null".to_owned(), |b| String::from_utf8_lossy(&b).into_owned())
}

/// A length as a zigzag varint.
fn put_varint(out: &mut BytesMut, n: usize) {
    put_zigzag(out, i64::try_from(n).unwrap_or(i64::MAX));
}

fn put_zigzag(out: &mut BytesMut, n: i64) {
    let mut v = ((n << 1) ^ (n >> 63)).cast_unsigned();
    while v >= 0x80 {
        out.put_u8(u8::try_from(v & 0x7f).unwrap_or_default() | 0x80);
        v >>= 7;
    }
    out.put_u8(u8::try_from(v).unwrap_or_default());
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_zigzag(out, -1),
        Some(b) => {
            put_varint(out, b.len());
            out.put_slice(b);
        }
    }
}
