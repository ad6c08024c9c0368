//! Values of headers and arguments as JSON, and back.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use millstream_broker::{Header, HeaderValue};
use serde_json::{Map, Value, json};

/// As JSON. Bytes that are no text stand as `{"base64": ...}`; of headers with one name the last counts.
pub fn to_json(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::Null => Value::Null,
        HeaderValue::Bool(on) => json!(on),
        HeaderValue::I8(n) => json!(n),
        HeaderValue::I16(n) => json!(n),
        HeaderValue::I32(n) => json!(n),
        HeaderValue::I64(n) | HeaderValue::Timestamp(n) => json!(n),
        HeaderValue::U8(n) => json!(n),
        HeaderValue::U16(n) => json!(n),
        HeaderValue::U32(n) => json!(n),
        HeaderValue::U64(n) => json!(n),
        HeaderValue::F32(n) => json!(n),
        HeaderValue::F64(n) => json!(n),
        HeaderValue::Decimal(scale, n) => json!(f64::from(*n) / 10_f64.powi(i32::from(*scale))),
        HeaderValue::Str(text) => json!(text),
        HeaderValue::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => json!({ "base64": BASE64_STANDARD.encode(bytes) }),
        },
        HeaderValue::Array(all) => all.iter().map(to_json).collect(),
        HeaderValue::Table(all) => table(all),
    }
}

/// A table as JSON.
pub fn table(all: &[Header]) -> Value {
    Value::Object(all.iter().map(|h| (h.name.clone(), to_json(&h.value))).collect())
}

/// From JSON.
pub fn from_json(value: Value) -> HeaderValue {
    match value {
        Value::Null => HeaderValue::Null,
        Value::Bool(on) => HeaderValue::Bool(on),
        Value::Number(n) => {
            n.as_i64().map_or_else(|| HeaderValue::F64(n.as_f64().unwrap_or(f64::NAN)), HeaderValue::I64)
        }
        Value::String(text) => HeaderValue::Str(text),
        Value::Array(all) => HeaderValue::Array(all.into_iter().map(from_json).collect()),
        Value::Object(all) => HeaderValue::Table(headers(all)),
    }
}

/// A JSON object as headers.
pub fn headers(all: Map<String, Value>) -> Vec<Header> {
    all.into_iter().map(|(name, value)| Header { name, value: from_json(value) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_as_they_were() {
        let value = json!({ "a": 1, "b": [true, null, "x"], "c": { "d": 1.5 } });
        assert_eq!(to_json(&from_json(value.clone())), value);
        let raw = HeaderValue::Bytes(b"\xff"[..].into());
        assert_eq!(to_json(&raw), json!({ "base64": "/w==" }));
        assert_eq!(to_json(&HeaderValue::Decimal(2, 150)), json!(1.5));
    }
}
