//! One message of any protocol but a batching one: its envelope (routing, key, properties, headers) and payload, and the bytes
//! they are stored as. Only the broker decodes envelopes; the engine never looks inside a body.
//!
//! Layout (`ENVELOPE_VERSION` 1 of the entry's attrs; integers little-endian; `str` = u16 length + UTF-8): `exchange str` · `routing_key str` · `flags u8`
//! (1 = has key, 2 = payload is null, 4 = has further routing keys, 8 = has deaths) · `[key: u32 length + bytes]` ·
//! `properties: u8 count, each id u8, u32 length, bytes` · `headers: u16 count, each name str, value` · value = type u8 + its bytes ·
//! `[keys: u16 count, each str]` · `[deaths]` (see `deaths.rs`). The payload follows, up to the end of the body.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_types::limits::{
    HEADER_DEPTH_MAX, HEADERS_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, PAYLOAD_BYTES_MAX,
};
use thiserror::Error;

use crate::deaths::{self, Death};
use crate::routing::ROUTE_KEYS_MAX;

/// Longest exchange, routing key or header name, bytes.
pub const SHORT_BYTES_MAX: usize = 32_767;

/// A message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Exchange it was published to; empty = the default one, or straight to a topic or queue.
    pub exchange: String,
    /// Routing key, or the topic's name.
    pub routing_key: String,
    /// Further routing keys: it is routed by them as well.
    pub keys: Vec<String>,
    /// Key, if any.
    pub key: Option<Bytes>,
    /// Standard properties by id (see [`property`]), each once.
    pub properties: Vec<(u8, Bytes)>,
    /// Headers: an ordered list, duplicates allowed.
    pub headers: Vec<Header>,
    /// Why queues gave it up before it came here, the latest first.
    pub deaths: Vec<Death>,
    /// Payload; `None` = null, which is not the same as empty.
    pub payload: Option<Bytes>,
}

/// Ids of standard properties.
pub mod property {
    /// Media type of the payload, text.
    pub const CONTENT_TYPE: u8 = 1;
    /// Encoding of the payload, text.
    pub const CONTENT_ENCODING: u8 = 2;
    /// Correlation id, text.
    pub const CORRELATION_ID: u8 = 3;
    /// Where to answer, text.
    pub const REPLY_TO: u8 = 4;
    /// The application's message id, text.
    pub const MESSAGE_ID: u8 = 5;
    /// The application's kind of message, text.
    pub const TYPE: u8 = 6;
    /// The application, text.
    pub const APP_ID: u8 = 7;
    /// The user, as checked by the broker, text.
    pub const USER_ID: u8 = 8;
    /// The application's timestamp, i64 milliseconds.
    pub const TIMESTAMP_MS: u8 = 9;
    /// 1 = transient, 2 = persistent.
    pub const DELIVERY_MODE: u8 = 10;
    /// AMQP's cluster id, text.
    pub const CLUSTER_ID: u8 = 11;
    /// Priority as published, one byte.
    pub const PRIORITY: u8 = 12;
    /// Expiration as published: decimal milliseconds, text.
    pub const EXPIRATION: u8 = 13;
    /// Who sent it, as the listener that took it established, text.
    pub const SENDER: u8 = 14;
    /// Trace header of AWS X-Ray, text.
    pub const AWS_TRACE: u8 = 15;
    /// What its sender told duplicates apart by, text.
    pub const DEDUPLICATION_ID: u8 = 16;
    /// When it was first published, i64 milliseconds since the epoch; of a message that was moved since.
    pub const SENT_MS: u8 = 17;
    /// How often it was handed out by the queues that gave it up, u32; of a dead letter that was handed out there.
    pub const DELIVERED_BEFORE: u8 = 18;
    /// How many of its further routing keys, the last ones, nobody is told of, u16; where there are any.
    pub const HIDDEN_KEYS: u8 = 19;
    /// It was published with a table of headers that was empty: nothing in it.
    pub const EMPTY_HEADERS: u8 = 20;
}

/// A header.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Value.
    pub value: HeaderValue,
}

/// The union of the protocols' header types.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are their types' names")]
pub enum HeaderValue {
    Null,
    Bool(bool),
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    F32(f32),
    F64(f64),
    /// Scale and unscaled value.
    Decimal(u8, u32),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    Str(String),
    Bytes(Bytes),
    Array(Vec<HeaderValue>),
    Table(Vec<Header>),
}

/// Why an envelope was not encoded or decoded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EnvelopeError {
    /// A part is larger than allowed.
    #[error("{what} exceeds the limit of {max}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// The bytes are not an envelope.
    #[error("damaged envelope: {0}")]
    Damaged(&'static str),
}

const HAS_KEY: u8 = 1;
const NULL_PAYLOAD: u8 = 2;
const HAS_KEYS: u8 = 4;
const HAS_DEATHS: u8 = 8;

impl Message {
    /// All its routing keys that whoever gets it may be told of.
    pub(crate) fn shown_keys(&self) -> impl Iterator<Item = &String> {
        let hidden = self.properties.iter().find(|p| p.0 == property::HIDDEN_KEYS);
        let hidden = hidden.and_then(|p| p.1.first_chunk()).map_or(0, |n| u16::from_le_bytes(*n));
        let shown = self.keys.len().saturating_sub(hidden.into());
        std::iter::once(&self.routing_key).chain(self.keys.iter().take(shown))
    }

    /// Whether it is certain, by nothing but these two, that both are routed to the same targets at one moment.
    pub(crate) fn goes_with(&self, other: &Self) -> bool {
        let by_one_key = |m: &Self| m.keys.is_empty() && m.headers.is_empty();
        (&self.exchange, &self.routing_key) == (&other.exchange, &other.routing_key)
            && by_one_key(self)
            && by_one_key(other)
    }

    /// Encodes all but the payload; append [`Message::payload`] to it to get the body.
    ///
    /// # Errors
    /// `TooLarge` if a limit of `types::limits` is exceeded.
    pub fn encode_envelope(&self) -> Result<Bytes, EnvelopeError> {
        bound("payload", self.payload.as_ref().map_or(0, Bytes::len), PAYLOAD_BYTES_MAX)?;
        bound("key", self.key.as_ref().map_or(0, Bytes::len), KEY_BYTES_MAX)?;
        bound("number of headers", self.headers.len(), HEADERS_MAX)?;
        let mut out =
            BytesMut::with_capacity(64 + self.routing_key.len() + self.key.as_ref().map_or(0, Bytes::len));
        put_str(&mut out, &self.exchange)?;
        put_str(&mut out, &self.routing_key)?;
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        out.put_u8(
            flag(self.key.is_some(), HAS_KEY)
                | flag(self.payload.is_none(), NULL_PAYLOAD)
                | flag(!self.keys.is_empty(), HAS_KEYS)
                | flag(!self.deaths.is_empty(), HAS_DEATHS),
        );
        if let Some(key) = &self.key {
            put_bytes(&mut out, key)?;
        }
        out.put_u8(u8::try_from(self.properties.len()).map_err(|_| too_large("number of properties", 255))?);
        for (id, value) in &self.properties {
            out.put_u8(*id);
            put_bytes(&mut out, value)?;
        }
        let before = out.len();
        put_headers(&mut out, &self.headers, 0)?;
        bound("headers", out.len() - before, HEADERS_BYTES_MAX)?;
        if !self.keys.is_empty() {
            put_strs(&mut out, &self.keys)?;
        }
        if !self.deaths.is_empty() {
            deaths::put(&mut out, &self.deaths)?;
        }
        Ok(out.freeze())
    }

    /// Decodes a body of `envelope_len` bytes of envelope and then payload. The parts share `body`.
    ///
    /// # Errors
    /// `Damaged` or `TooLarge`; never panics, whatever the bytes.
    pub fn decode(mut body: Bytes, envelope_len: usize) -> Result<Self, EnvelopeError> {
        if envelope_len > body.len() {
            return Err(EnvelopeError::Damaged("longer than the body"));
        }
        let mut env = body.split_to(envelope_len);
        let exchange = get_str(&mut env)?;
        let routing_key = get_str(&mut env)?;
        let flags = get_u8(&mut env)?;
        let key = if flags & HAS_KEY != 0 { Some(get_bytes(&mut env)?) } else { None };
        let mut properties = Vec::new();
        for _ in 0..get_u8(&mut env)? {
            properties.push((get_u8(&mut env)?, get_bytes(&mut env)?));
        }
        let headers = get_headers(&mut env, 0)?;
        let keys = if flags & HAS_KEYS != 0 { get_strs(&mut env)? } else { Vec::new() };
        let deaths = if flags & HAS_DEATHS != 0 { deaths::get(&mut env)? } else { Vec::new() };
        if flags & !(HAS_KEY | NULL_PAYLOAD | HAS_KEYS | HAS_DEATHS) != 0 {
            return Err(EnvelopeError::Damaged("unknown flags"));
        }
        let payload = if flags & NULL_PAYLOAD != 0 { None } else { Some(body) };
        Ok(Self { exchange, routing_key, keys, key, properties, headers, deaths, payload })
    }
}

fn too_large(what: &'static str, max: usize) -> EnvelopeError {
    EnvelopeError::TooLarge { what, max }
}

pub(crate) fn bound(what: &'static str, len: usize, max: usize) -> Result<(), EnvelopeError> {
    if len > max { Err(too_large(what, max)) } else { Ok(()) }
}

pub(crate) fn put_str(out: &mut BytesMut, s: &str) -> Result<(), EnvelopeError> {
    bound("name", s.len(), SHORT_BYTES_MAX)?;
    out.put_u16_le(u16::try_from(s.len()).map_err(|_| too_large("name", SHORT_BYTES_MAX))?);
    out.put_slice(s.as_bytes());
    Ok(())
}

pub(crate) fn put_strs(out: &mut BytesMut, all: &[String]) -> Result<(), EnvelopeError> {
    bound("number of routing keys", all.len(), ROUTE_KEYS_MAX)?;
    out.put_u16_le(
        u16::try_from(all.len()).map_err(|_| too_large("number of routing keys", ROUTE_KEYS_MAX))?,
    );
    all.iter().try_for_each(|s| put_str(out, s))
}

pub(crate) fn put_bytes(out: &mut BytesMut, b: &[u8]) -> Result<(), EnvelopeError> {
    out.put_u32_le(u32::try_from(b.len()).map_err(|_| too_large("value", PAYLOAD_BYTES_MAX))?);
    out.put_slice(b);
    Ok(())
}

fn put_headers(out: &mut BytesMut, headers: &[Header], depth: usize) -> Result<(), EnvelopeError> {
    out.put_u16_le(u16::try_from(headers.len()).map_err(|_| too_large("number of headers", HEADERS_MAX))?);
    for h in headers {
        put_str(out, &h.name)?;
        put_value(out, &h.value, depth)?;
    }
    Ok(())
}

fn put_value(out: &mut BytesMut, value: &HeaderValue, depth: usize) -> Result<(), EnvelopeError> {
    bound("depth of headers", depth, HEADER_DEPTH_MAX)?;
    match value {
        HeaderValue::Null => out.put_u8(0),
        HeaderValue::Bool(v) => out.put_slice(&[1, u8::from(*v)]),
        HeaderValue::I8(v) => {
            out.put_u8(2);
            out.put_i8(*v);
        }
        HeaderValue::I16(v) => {
            out.put_u8(3);
            out.put_i16_le(*v);
        }
        HeaderValue::I32(v) => {
            out.put_u8(4);
            out.put_i32_le(*v);
        }
        HeaderValue::I64(v) => {
            out.put_u8(5);
            out.put_i64_le(*v);
        }
        HeaderValue::U8(v) => out.put_slice(&[6, *v]),
        HeaderValue::U16(v) => {
            out.put_u8(7);
            out.put_u16_le(*v);
        }
        HeaderValue::U32(v) => {
            out.put_u8(8);
            out.put_u32_le(*v);
        }
        HeaderValue::U64(v) => {
            out.put_u8(9);
            out.put_u64_le(*v);
        }
        HeaderValue::F32(v) => {
            out.put_u8(10);
            out.put_f32_le(*v);
        }
        HeaderValue::F64(v) => {
            out.put_u8(11);
            out.put_f64_le(*v);
        }
        HeaderValue::Decimal(scale, v) => {
            out.put_slice(&[12, *scale]);
            out.put_u32_le(*v);
        }
        HeaderValue::Timestamp(v) => {
            out.put_u8(13);
            out.put_i64_le(*v);
        }
        HeaderValue::Str(v) => {
            out.put_u8(14);
            put_bytes(out, v.as_bytes())?;
        }
        HeaderValue::Bytes(v) => {
            out.put_u8(15);
            put_bytes(out, v)?;
        }
        HeaderValue::Array(values) => {
            out.put_u8(16);
            out.put_u16_le(u16::try_from(values.len()).map_err(|_| too_large("array", HEADERS_MAX))?);
            for v in values {
                put_value(out, v, depth + 1)?;
            }
        }
        HeaderValue::Table(headers) => {
            out.put_u8(17);
            put_headers(out, headers, depth + 1)?;
        }
    }
    Ok(())
}

pub(crate) const SHORT: EnvelopeError = EnvelopeError::Damaged("cut short");

pub(crate) fn need(b: &Bytes, n: usize) -> Result<(), EnvelopeError> {
    if b.remaining() < n { Err(SHORT) } else { Ok(()) }
}

pub(crate) fn get_u8(b: &mut Bytes) -> Result<u8, EnvelopeError> {
    b.try_get_u8().map_err(|_| SHORT)
}

pub(crate) fn get_bytes(b: &mut Bytes) -> Result<Bytes, EnvelopeError> {
    let len = b.try_get_u32_le().map_err(|_| SHORT)? as usize;
    need(b, len)?;
    Ok(b.split_to(len))
}

pub(crate) fn get_str(b: &mut Bytes) -> Result<String, EnvelopeError> {
    let len = usize::from(b.try_get_u16_le().map_err(|_| SHORT)?);
    need(b, len)?;
    text(&b.split_to(len))
}

pub(crate) fn get_strs(b: &mut Bytes) -> Result<Vec<String>, EnvelopeError> {
    let count = usize::from(b.try_get_u16_le().map_err(|_| SHORT)?);
    // Each takes at least two bytes: a count that cannot be true takes no memory.
    need(b, count * 2)?;
    (0..count).map(|_| get_str(b)).collect()
}

fn text(b: &[u8]) -> Result<String, EnvelopeError> {
    std::str::from_utf8(b).map(str::to_owned).map_err(|_| EnvelopeError::Damaged("not UTF-8"))
}

fn get_headers(b: &mut Bytes, depth: usize) -> Result<Vec<Header>, EnvelopeError> {
    let count = usize::from(b.try_get_u16_le().map_err(|_| SHORT)?);
    // Each header takes at least three bytes: a count that cannot be true takes no memory.
    need(b, count * 3)?;
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        headers.push(Header { name: get_str(b)?, value: get_value(b, depth)? });
    }
    Ok(headers)
}

fn get_value(b: &mut Bytes, depth: usize) -> Result<HeaderValue, EnvelopeError> {
    if depth > HEADER_DEPTH_MAX {
        return Err(EnvelopeError::Damaged("nested too deep"));
    }
    let short = |_| SHORT;
    Ok(match get_u8(b)? {
        0 => HeaderValue::Null,
        1 => HeaderValue::Bool(get_u8(b)? != 0),
        2 => HeaderValue::I8(b.try_get_i8().map_err(short)?),
        3 => HeaderValue::I16(b.try_get_i16_le().map_err(short)?),
        4 => HeaderValue::I32(b.try_get_i32_le().map_err(short)?),
        5 => HeaderValue::I64(b.try_get_i64_le().map_err(short)?),
        6 => HeaderValue::U8(get_u8(b)?),
        7 => HeaderValue::U16(b.try_get_u16_le().map_err(short)?),
        8 => HeaderValue::U32(b.try_get_u32_le().map_err(short)?),
        9 => HeaderValue::U64(b.try_get_u64_le().map_err(short)?),
        10 => HeaderValue::F32(b.try_get_f32_le().map_err(short)?),
        11 => HeaderValue::F64(b.try_get_f64_le().map_err(short)?),
        12 => HeaderValue::Decimal(get_u8(b)?, b.try_get_u32_le().map_err(short)?),
        13 => HeaderValue::Timestamp(b.try_get_i64_le().map_err(short)?),
        14 => HeaderValue::Str(text(&get_bytes(b)?)?),
        15 => HeaderValue::Bytes(get_bytes(b)?),
        16 => {
            let count = usize::from(b.try_get_u16_le().map_err(short)?);
            need(b, count)?;
            let mut values = Vec::with_capacity(count);
            for _ in 0..count {
                values.push(get_value(b, depth + 1)?);
            }
            HeaderValue::Array(values)
        }
        17 => HeaderValue::Table(get_headers(b, depth + 1)?),
        _ => return Err(EnvelopeError::Damaged("unknown type of header")),
    })
}

/// Version of encoded arguments.
const ARGUMENTS_VERSION: u8 = 1;

/// The arguments of a binding or an exchange as they are stored: `version u8`, then as an envelope's headers, sorted by name, so that
/// equal arguments are equal bytes.
pub(crate) fn encode_arguments(arguments: &[Header]) -> Result<Vec<u8>, EnvelopeError> {
    bound("number of arguments", arguments.len(), HEADERS_MAX)?;
    let mut sorted = arguments.to_vec();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = BytesMut::new();
    out.put_u8(ARGUMENTS_VERSION);
    put_headers(&mut out, &sorted, 0)?;
    Ok(out.to_vec())
}

/// The counterpart of [`encode_arguments`].
pub(crate) fn decode_arguments(bytes: &[u8]) -> Result<Vec<Header>, EnvelopeError> {
    let mut bytes = Bytes::copy_from_slice(bytes);
    if get_u8(&mut bytes)? != ARGUMENTS_VERSION {
        return Err(EnvelopeError::Damaged("arguments of a later version"));
    }
    let arguments = get_headers(&mut bytes, 0)?;
    if bytes.is_empty() { Ok(arguments) } else { Err(EnvelopeError::Damaged("more than the arguments")) }
}

#[cfg(test)]
mod tests;
