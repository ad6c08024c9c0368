//! A message's headers as message attributes, and back.
//!
//! A label behind the type tells of types that SQS does not have (`Number.i32`, `String.bool`). What an attribute says that no header can
//! (a number that is no integer, a label of the client's own) is kept in a header `sqs.type.NAME`.

use bytes::Bytes;
use millstream_broker::{Header, HeaderValue};

use super::super::message_attributes::{
    Attribute, AttributeValue, is_attribute_name, is_number, is_sqs_text,
};
use super::{escaped, header};

/// In front of an attribute's name: the header that keeps its type.
const TYPE: &str = "sqs.type.";

/// Puts an attribute among the headers.
pub(super) fn put(headers: &mut Vec<Header>, name: &str, a: &Attribute) {
    let typed = match &a.value {
        AttributeValue::Binary(b) => (a.data_type == "Binary").then(|| HeaderValue::Bytes(b.clone())),
        AttributeValue::Text(t) => typed(&a.data_type, t),
    };
    // A type that does not write itself as it was sent is kept beside its text.
    let typed = typed.filter(|v| {
        attribute("x", v, None).is_some_and(|b| b.value == a.value && b.data_type == a.data_type)
    });
    if let Some(value) = typed {
        headers.push(header(name, value));
        return;
    }
    let value = match &a.value {
        AttributeValue::Binary(b) => HeaderValue::Bytes(b.clone()),
        AttributeValue::Text(t) => HeaderValue::Str(t.clone()),
    };
    headers.push(header(name, value));
    headers.push(header(&format!("{TYPE}{name}"), HeaderValue::Str(a.data_type.clone())));
}

fn typed(data_type: &str, t: &str) -> Option<HeaderValue> {
    Some(match data_type {
        "String" => HeaderValue::Str(t.to_owned()),
        "String.bool" => HeaderValue::Bool(t.parse().ok()?),
        "Number" => HeaderValue::I64(t.parse().ok()?),
        "Number.i8" => HeaderValue::I8(t.parse().ok()?),
        "Number.i16" => HeaderValue::I16(t.parse().ok()?),
        "Number.i32" => HeaderValue::I32(t.parse().ok()?),
        "Number.u8" => HeaderValue::U8(t.parse().ok()?),
        "Number.u16" => HeaderValue::U16(t.parse().ok()?),
        "Number.u32" => HeaderValue::U32(t.parse().ok()?),
        "Number.u64" => HeaderValue::U64(t.parse().ok()?),
        "Number.f32" => HeaderValue::F32(t.parse().ok()?),
        "Number.f64" => HeaderValue::F64(t.parse().ok()?),
        "Number.timestamp" => HeaderValue::Timestamp(t.parse().ok()?),
        _ => return None,
    })
}

/// All headers as attributes; `None`: one of them cannot be, or there are two of a name.
pub(super) fn all(headers: &[Header]) -> Option<Vec<Attribute>> {
    let has = |name: &str| headers.iter().any(|h| h.name == name);
    let type_of = |name: &str| {
        let key = format!("{TYPE}{name}");
        headers.iter().find(|h| h.name == key).and_then(|h| match &h.value {
            HeaderValue::Str(t) => Some(t.as_str()),
            _ => None,
        })
    };
    let mut out: Vec<Attribute> = Vec::with_capacity(headers.len());
    for h in headers {
        if h.name.strip_prefix(TYPE).is_some_and(has) {
            continue;
        }
        let name = escaped(&h.name);
        if !is_attribute_name(&name) || out.iter().any(|a| a.name == name) {
            return None;
        }
        out.push(attribute(&name, &h.value, type_of(&h.name))?);
    }
    Some(out)
}

/// A header as an attribute. `kept` is the type that was kept beside it.
fn attribute(name: &str, value: &HeaderValue, kept: Option<&str>) -> Option<Attribute> {
    let base = kept.and_then(|t| t.split('.').next());
    let text = |t: &str| !t.is_empty() && is_sqs_text(t);
    Some(match value {
        HeaderValue::Str(t) if text(t) => match (kept, base) {
            (Some(kept), Some("String")) => Attribute::text(name, kept, t),
            (Some(kept), Some("Number")) if is_number(t) => Attribute::text(name, kept, t),
            _ => Attribute::text(name, "String", t),
        },
        HeaderValue::Bytes(b) if !b.is_empty() => {
            let a = Attribute::binary(name, Bytes::clone(b));
            match (kept, base) {
                (Some(kept), Some("Binary")) => Attribute { data_type: kept.to_owned(), ..a },
                _ => a,
            }
        }
        HeaderValue::Bool(v) => Attribute::text(name, "String.bool", v.to_string()),
        HeaderValue::I8(v) => Attribute::text(name, "Number.i8", v.to_string()),
        HeaderValue::I16(v) => Attribute::text(name, "Number.i16", v.to_string()),
        HeaderValue::I32(v) => Attribute::text(name, "Number.i32", v.to_string()),
        HeaderValue::I64(v) => Attribute::text(name, "Number", v.to_string()),
        HeaderValue::U8(v) => Attribute::text(name, "Number.u8", v.to_string()),
        HeaderValue::U16(v) => Attribute::text(name, "Number.u16", v.to_string()),
        HeaderValue::U32(v) => Attribute::text(name, "Number.u32", v.to_string()),
        HeaderValue::U64(v) => Attribute::text(name, "Number.u64", v.to_string()),
        HeaderValue::F32(v) => Attribute::text(name, "Number.f32", float(v.to_string(), format!("{v:e}"))?),
        HeaderValue::F64(v) => Attribute::text(name, "Number.f64", float(v.to_string(), format!("{v:e}"))?),
        HeaderValue::Timestamp(v) => Attribute::text(name, "Number.timestamp", v.to_string()),
        _ => return None,
    })
}

/// The shorter of a number's forms that SQS takes.
fn float(plain: String, scientific: String) -> Option<String> {
    [plain, scientific].into_iter().find(|t| is_number(t))
}
