//! A message as patterns and mappings look at it. What costs something, its headers as an object and its body as JSON, is made when it is first needed.

use std::cell::OnceCell;

use serde_json::{Map, Number, Value};
use thiserror::Error;

use super::pattern::Event;
use crate::envelope::{Header, HeaderValue, Message};
use crate::shown::shown;

/// Largest body that is looked into, bytes: read as JSON it takes a multiple of that.
pub const LOOKED_INTO_BYTES_MAX: usize = 1 << 20;

/// Why a message's body cannot be looked into.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BodyUnread {
    /// Not JSON.
    #[error("its body is not JSON: {0}")]
    NotJson(String),
    /// Too large.
    #[error("its body of {0} bytes is larger than {LOOKED_INTO_BYTES_MAX}, and is not looked into")]
    TooLarge(usize),
}

/// Where a message of a topic is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

/// A message, and where it is.
pub(crate) struct Seen<'a> {
    pub(crate) message: &'a Message,
    pub(crate) at: At<'a>,
    key: OnceCell<Option<Value>>,
    headers: OnceCell<Value>,
    place: OnceCell<[Value; 3]>,
    body: OnceCell<Result<Value, BodyUnread>>,
}

impl<'a> Seen<'a> {
    pub(crate) fn new(message: &'a Message, at: At<'a>) -> Self {
        Self {
            message,
            at,
            key: OnceCell::new(),
            headers: OnceCell::new(),
            place: OnceCell::new(),
            body: OnceCell::new(),
        }
    }

    /// The body as JSON; a null payload is null.
    pub(crate) fn body(&self) -> Result<&Value, BodyUnread> {
        let read = || match &self.message.payload {
            None => Ok(Value::Null),
            Some(b) if b.len() > LOOKED_INTO_BYTES_MAX => Err(BodyUnread::TooLarge(b.len())),
            Some(b) => serde_json::from_slice(b).map_err(|e| BodyUnread::NotJson(e.to_string())),
        };
        self.body.get_or_init(read).as_ref().map_err(Clone::clone)
    }
}

impl Event for Seen<'_> {
    type Error = BodyUnread;

    fn field(&self, name: &str) -> Result<Option<&Value>, BodyUnread> {
        let place = || {
            let At { topic, partition, offset } = self.at;
            [Value::from(topic), Value::from(partition), Value::from(offset)]
        };
        let [topic, partition, offset] = self.place.get_or_init(place);
        Ok(match name {
            "body" => Some(self.body()?),
            // A key that is no text is there, and equals nothing one could write.
            "key" => self
                .key
                .get_or_init(|| {
                    let key = self.message.key.as_ref()?;
                    Some(std::str::from_utf8(key).map_or(Value::Array(Vec::new()), Value::from))
                })
                .as_ref(),
            "headers" => Some(self.headers.get_or_init(|| object(&self.message.headers))),
            "topic" => Some(topic),
            "partition" => Some(partition),
            "offset" => Some(offset),
            _ => None,
        })
    }
}

/// Headers as an object: of several of one name a list.
fn object(headers: &[Header]) -> Value {
    let mut out = Map::new();
    for h in headers {
        let value = json(&h.value);
        match out.get_mut(&h.name) {
            None => drop(out.insert(h.name.clone(), Value::Array(vec![value]))),
            Some(Value::Array(all)) => all.push(value),
            Some(_) => {}
        }
    }
    Value::Object(out)
}

fn json(v: &HeaderValue) -> Value {
    match v {
        HeaderValue::Null => Value::Null,
        HeaderValue::Bool(b) => Value::from(*b),
        HeaderValue::I8(n) => Value::from(*n),
        HeaderValue::I16(n) => Value::from(*n),
        HeaderValue::I32(n) => Value::from(*n),
        HeaderValue::I64(n) | HeaderValue::Timestamp(n) => Value::from(*n),
        HeaderValue::U8(n) => Value::from(*n),
        HeaderValue::U16(n) => Value::from(*n),
        HeaderValue::U32(n) => Value::from(*n),
        HeaderValue::U64(n) => Value::from(*n),
        HeaderValue::F32(n) => Number::from_f64(f64::from(*n)).map_or(Value::Null, Value::Number),
        HeaderValue::F64(n) => Number::from_f64(*n).map_or(Value::Null, Value::Number),
        HeaderValue::Array(all) => Value::Array(all.iter().map(json).collect()),
        HeaderValue::Table(t) => object(t),
        HeaderValue::Str(_) | HeaderValue::Bytes(_) | HeaderValue::Decimal(..) => Value::from(shown(v)),
    }
}
