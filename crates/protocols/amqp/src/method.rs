//! Methods: checked here, decoded and encoded by `amq-protocol`.
//!
//! That crate decodes nested tables by recursion and keeps a table's entries sorted and once each. So tables are scanned before it
//! sees them, and their entries are given in order beside the method it made.

use amq_protocol::protocol::{AMQPClass, basic, gen_class, parse_class};
use bytes::{BufMut, Bytes, BytesMut};
use millstream_broker::Header;

use crate::cursor::Cursor;
use crate::error::CodecError;
use crate::{table, text};

/// A method.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// What it is.
    pub class: AMQPClass,
    /// Its table, if it has one (arguments, or a peer's properties): in order and with duplicates.
    pub table: Vec<Header>,
}

impl Method {
    /// Its class id and method id.
    #[must_use]
    pub fn ids(&self) -> (u16, u16) {
        (self.class.get_amqp_class_id(), self.class.get_amqp_method_id())
    }
}

/// A field that lies before a method's table.
#[derive(Clone, Copy, Debug)]
enum Before {
    /// So many octets.
    Octets(usize),
    /// Text behind its length in one octet.
    Short,
}

use Before::{Octets, Short};

/// Where the methods with a table have it: class, method, what lies before.
const TABLES: &[(u16, u16, &[Before])] = &[
    (10, 10, &[Octets(2)]),
    (10, 11, &[]),
    (40, 10, &[Octets(2), Short, Short, Octets(1)]),
    (40, 30, &[Octets(2), Short, Short, Short, Octets(1)]),
    (40, 40, &[Octets(2), Short, Short, Short, Octets(1)]),
    (50, 10, &[Octets(2), Short, Octets(1)]),
    (50, 20, &[Octets(2), Short, Short, Short, Octets(1)]),
    (50, 50, &[Octets(2), Short, Short, Short]),
    (60, 20, &[Octets(2), Short, Short, Octets(1)]),
];

/// The methods that there are, by class.
const METHODS: &[(u16, &[u16])] = &[
    (10, &[10, 11, 20, 21, 30, 31, 40, 41, 50, 51, 60, 61, 70, 71]),
    (20, &[10, 11, 20, 21, 40, 41]),
    (30, &[10, 11]),
    (40, &[10, 11, 20, 21, 30, 31, 40, 51]),
    (50, &[10, 11, 20, 21, 30, 31, 40, 41, 50, 51]),
    (60, &[10, 11, 20, 21, 30, 31, 40, 50, 60, 70, 71, 72, 80, 90, 100, 110, 111, 120]),
    (85, &[10, 11]),
    (90, &[10, 11, 20, 21, 30, 31]),
];

pub(crate) const BASIC_QOS: (u16, u16) = (60, 10);
/// Class and method id of `basic.publish`.
pub(crate) const BASIC_PUBLISH: (u16, u16) = (60, 40);
const BASIC_DELIVER: (u16, u16) = (60, 60);
const BASIC_ACK: (u16, u16) = (60, 80);

/// `basic.publish`. One comes for every message: it is decoded apart, into what the message keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) mandatory: bool,
    pub(crate) immediate: bool,
}

/// Decodes the payload of a method frame if it is `basic.publish`.
pub(crate) fn publish(payload: &[u8]) -> Option<Result<Publish, CodecError>> {
    let fields = payload.strip_prefix(&ids(BASIC_PUBLISH))?;
    Some(publish_fields(fields))
}

fn publish_fields(fields: &[u8]) -> Result<Publish, CodecError> {
    const SHORT: CodecError = CodecError::Short { what: "method" };
    fn text<'a>(left: &mut &'a [u8]) -> Result<&'a str, CodecError> {
        let (n, rest) = left.split_first().ok_or(SHORT)?;
        let (text, rest) = rest.split_at_checked(usize::from(*n)).ok_or(SHORT)?;
        *left = rest;
        std::str::from_utf8(text).map_err(|_| CodecError::Illegal { what: "a field of the method" })
    }
    // Two octets are reserved.
    let mut left = fields.get(2..).ok_or(SHORT)?;
    let (exchange, routing_key) = (text(&mut left)?.to_owned(), text(&mut left)?.to_owned());
    match left {
        [] => Err(SHORT),
        [bits] => {
            let (mandatory, immediate) = (bits & 1 != 0, bits & 2 != 0);
            Ok(Publish { exchange, routing_key, mandatory, immediate })
        }
        [_, more @ ..] => Err(CodecError::Long { what: "method", bytes: more.len() }),
    }
}

/// `basic.ack`, likewise.
fn ack(payload: &[u8]) -> Option<basic::Ack> {
    let (tag, bits) = payload.strip_prefix(&ids(BASIC_ACK))?.split_first_chunk()?;
    let [bits] = bits else { return None };
    Some(basic::Ack { delivery_tag: u64::from_be_bytes(*tag), multiple: bits & 1 != 0 })
}

/// `basic.deliver`, without its frame. Names that are too long are cut.
pub(crate) fn put_deliver(
    out: &mut BytesMut,
    tag: u64,
    redelivered: bool,
    [consumer, exchange, key]: [&str; 3],
) {
    out.put_slice(&ids(BASIC_DELIVER));
    put_text(out, consumer);
    out.put_u64(tag);
    out.put_u8(redelivered.into());
    put_text(out, exchange);
    put_text(out, key);
}

fn put_text(out: &mut BytesMut, text: &str) {
    let text = text::cut(text, text::SHORT_BYTES_MAX);
    out.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.put_slice(text.as_bytes());
}

fn ids((class, method): (u16, u16)) -> [u8; 4] {
    let ([a, b], [c, d]) = (class.to_be_bytes(), method.to_be_bytes());
    [a, b, c, d]
}

/// Decodes the payload of a method frame.
///
/// # Errors
/// `UnknownMethod`; `Short`, `Long`, `Illegal`, `TooDeep`, `TooMany` for wrong bytes.
pub fn decode(payload: &Bytes) -> Result<Method, CodecError> {
    if let Some(ack) = ack(payload) {
        return Ok(Method { class: AMQPClass::Basic(basic::AMQPMethod::Ack(ack)), table: Vec::new() });
    }
    let mut c = Cursor::new(payload.clone(), "method");
    let (class, method) = (c.u16()?, c.u16()?);
    if !METHODS.iter().any(|(c, methods)| *c == class && methods.contains(&method)) {
        return Err(CodecError::UnknownMethod { class, method });
    }
    // The codec beneath skips this field: a limit in bytes that is not kept must not be taken.
    if (class, method) == BASIC_QOS {
        let bytes = Cursor::new(c.clone().rest(), "method").u32()?;
        if bytes != 0 {
            return Err(CodecError::PrefetchSize { bytes });
        }
    }
    let mut table = Vec::new();
    if let Some((_, _, before)) = TABLES.iter().find(|t| (t.0, t.1) == (class, method)) {
        for field in *before {
            match field {
                Octets(n) => drop(c.bytes(*n)?),
                Short => drop(c.short_bytes()?),
            }
        }
        table = table::read(&mut c.rest())?;
    }
    match parse_class(&payload[..]) {
        Ok(([], class)) => Ok(Method { class, table }),
        Ok((left, _)) => Err(CodecError::Long { what: "method", bytes: left.len() }),
        Err(e) if e.is_incomplete() => Err(CodecError::Short { what: "method" }),
        Err(_) => Err(CodecError::Illegal { what: "a field of the method" }),
    }
}

/// Writes a method, without its frame.
///
/// # Panics
/// Never: memory takes whatever is written.
pub fn encode(out: &mut BytesMut, class: &AMQPClass) {
    let written = gen_class(class)(Vec::new().into()).expect("memory takes whatever is written");
    out.put_slice(&written.into_inner().0);
}

#[cfg(test)]
mod tests;
