//! Methods: checked here, decoded and encoded by `amq-protocol`.
//!
//! That crate decodes nested tables by recursion and keeps a table's entries sorted and once each. So tables are scanned before it
//! sees them, and their entries are given in order beside the method it made.

use amq_protocol::protocol::{AMQPClass, gen_class, parse_class};
use bytes::{BufMut, Bytes, BytesMut};
use millstream_broker::Header;

use crate::cursor::Cursor;
use crate::error::CodecError;
use crate::table;

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

const BASIC_QOS: (u16, u16) = (60, 10);

/// Decodes the payload of a method frame.
///
/// # Errors
/// `UnknownMethod`; `Short`, `Long`, `Illegal`, `TooDeep`, `TooMany` for wrong bytes.
pub fn decode(payload: &Bytes) -> Result<Method, CodecError> {
    let mut c = Cursor::new(payload.clone(), "method");
    let (class, method) = (c.u16()?, c.u16()?);
    if !METHODS.iter().any(|(c, methods)| *c == class && methods.contains(&method)) {
        return Err(CodecError::UnknownMethod { class, method });
    }
    // The codec beneath skips this field: a limit in bytes that is not kept must not be taken.
    if (class, method) == BASIC_QOS && Cursor::new(c.clone().rest(), "method").u32()? != 0 {
        return Err(CodecError::NotServed { what: "prefetch_size!=0" });
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
