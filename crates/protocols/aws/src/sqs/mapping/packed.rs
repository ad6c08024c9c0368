//! Headers that cannot be attributes, or are too many, in one: JSON, a list of `{"name", "type", "value"}` in order, and of `{"attribute",
//! "type", "value"}` for attributes of ours that found no room.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use millstream_broker::{Header, HeaderValue};
use millstream_types::limits::HEADERS_MAX;
use serde_json::{Map, Value, json};

use super::super::message_attributes::{Attribute, AttributeValue};

/// One of the list.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    Header(Header),
    Special(Attribute),
}

pub(super) fn write(headers: &[Header], specials: &[Attribute]) -> Vec<u8> {
    let special = |a: &Attribute| {
        let value = match &a.value {
            AttributeValue::Text(t) => t.clone(),
            AttributeValue::Binary(b) => STANDARD.encode(b),
        };
        json!({"attribute": a.name, "type": a.data_type, "value": value})
    };
    let all = specials.iter().map(special).chain(headers.iter().map(of_header));
    Value::from(all.collect::<Vec<_>>()).to_string().into_bytes()
}

fn of_header(h: &Header) -> Value {
    let mut value = of_value(&h.value);
    if let Some(map) = value.as_object_mut() {
        map.insert("name".to_owned(), Value::from(h.name.as_str()));
    }
    value
}

fn of_value(v: &HeaderValue) -> Value {
    let typed = |kind: &str, value: Value| json!({"type": kind, "value": value});
    match v {
        HeaderValue::Null => typed("null", Value::Null),
        HeaderValue::Bool(b) => typed("bool", json!(b)),
        HeaderValue::I8(n) => typed("i8", json!(n)),
        HeaderValue::I16(n) => typed("i16", json!(n)),
        HeaderValue::I32(n) => typed("i32", json!(n)),
        HeaderValue::I64(n) => typed("i64", json!(n)),
        HeaderValue::U8(n) => typed("u8", json!(n)),
        HeaderValue::U16(n) => typed("u16", json!(n)),
        HeaderValue::U32(n) => typed("u32", json!(n)),
        HeaderValue::U64(n) => typed("u64", json!(n)),
        // Bits: JSON has no infinities.
        HeaderValue::F32(n) => typed("f32", json!(n.to_bits())),
        HeaderValue::F64(n) => typed("f64", json!(n.to_bits())),
        HeaderValue::Decimal(scale, n) => typed("decimal", json!([scale, n])),
        HeaderValue::Timestamp(ms) => typed("timestamp", json!(ms)),
        HeaderValue::Str(s) => typed("string", json!(s)),
        HeaderValue::Bytes(b) => typed("bytes", json!(STANDARD.encode(b))),
        HeaderValue::Array(all) => typed("array", all.iter().map(of_value).collect()),
        HeaderValue::Table(all) => typed("table", all.iter().map(of_header).collect()),
    }
}

/// Reads a list; `None`: it is none. Depth and number are bounded by the JSON parser and the limits of headers.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Part>> {
    let Value::Array(all) = serde_json::from_slice(bytes).ok()? else { return None };
    if all.len() > HEADERS_MAX {
        return None;
    }
    all.iter().map(|v| part(v.as_object()?)).collect()
}

fn part(map: &Map<String, Value>) -> Option<Part> {
    let Some(name) = map.get("attribute") else { return header(map).map(Part::Header) };
    let (name, data_type) = (name.as_str()?, map.get("type")?.as_str()?);
    let text = map.get("value")?.as_str()?;
    let value = if data_type.starts_with("Binary") {
        AttributeValue::Binary(Bytes::from(STANDARD.decode(text).ok()?))
    } else {
        AttributeValue::Text(text.to_owned())
    };
    Some(Part::Special(Attribute { name: name.to_owned(), data_type: data_type.to_owned(), value }))
}

fn header(map: &Map<String, Value>) -> Option<Header> {
    Some(Header { name: map.get("name")?.as_str()?.to_owned(), value: value(map)? })
}

fn value(map: &Map<String, Value>) -> Option<HeaderValue> {
    let v = map.get("value")?;
    let (int, uint) = (v.as_i64(), v.as_u64());
    Some(match map.get("type")?.as_str()? {
        "null" => HeaderValue::Null,
        "bool" => HeaderValue::Bool(v.as_bool()?),
        "i8" => HeaderValue::I8(int?.try_into().ok()?),
        "i16" => HeaderValue::I16(int?.try_into().ok()?),
        "i32" => HeaderValue::I32(int?.try_into().ok()?),
        "i64" => HeaderValue::I64(int?),
        "u8" => HeaderValue::U8(uint?.try_into().ok()?),
        "u16" => HeaderValue::U16(uint?.try_into().ok()?),
        "u32" => HeaderValue::U32(uint?.try_into().ok()?),
        "u64" => HeaderValue::U64(uint?),
        "f32" => HeaderValue::F32(f32::from_bits(uint?.try_into().ok()?)),
        "f64" => HeaderValue::F64(f64::from_bits(uint?)),
        "decimal" => {
            let [scale, n] = v.as_array()?.as_slice() else { return None };
            HeaderValue::Decimal(scale.as_u64()?.try_into().ok()?, n.as_u64()?.try_into().ok()?)
        }
        "timestamp" => HeaderValue::Timestamp(int?),
        "string" => HeaderValue::Str(v.as_str()?.to_owned()),
        "bytes" => HeaderValue::Bytes(Bytes::from(STANDARD.decode(v.as_str()?).ok()?)),
        "array" => {
            HeaderValue::Array(v.as_array()?.iter().map(|v| value(v.as_object()?)).collect::<Option<_>>()?)
        }
        "table" => {
            HeaderValue::Table(v.as_array()?.iter().map(|v| header(v.as_object()?)).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}
