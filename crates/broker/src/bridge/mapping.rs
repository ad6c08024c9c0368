//! Which parts of a message become its message group, deduplication id, headers, routing key, priority and delay where it goes.
//!
//! A part is named by a text: `key`, `header:NAME`, `body:/json/pointer` (RFC 6901), `topic`, `partition`, `offset`, `literal:TEXT`, or
//! `none`. Of a list of them the first that is there counts; is none there, the message cannot be mapped. `none` is always there, and sets
//! nothing.

use bytes::Bytes;
use serde_json::{Map, Value};
use thiserror::Error;

use super::event::{BodyUnread, Seen};
use crate::envelope::{Header, HeaderValue, property};
use crate::publish::NewMessage;
use crate::shown::shown;

/// Most alternatives of one field, and most headers.
pub const ALTERNATIVES_MAX: usize = 16;
/// Longest name of a header that a mapping sets, and longest routing key that it makes, bytes: what every protocol can say.
const NAME_BYTES_MAX: usize = 255;
/// What is shown of a value that is too long, characters.
const SHOWN_CHARS_MAX: usize = 64;
/// Most headers that a mapping sets.
pub const MAPPED_HEADERS_MAX: usize = 64;
/// Longest text of a part, bytes.
const PART_BYTES_MAX: usize = 1_024;
/// Longest delay, milliseconds: ten years.
const DELAY_MS_MAX: u64 = 10 * 366 * 86_400_000;

/// A part of a message, or a text of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Key,
    Header(String),
    Body(String),
    Topic,
    Partition,
    Offset,
    Literal(String),
    None,
}

/// Parts of which the first that is there counts. Empty: the field is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts(Vec<Part>);

/// What a bridge sets in the messages it passes on. What it does not name stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// The key: in SQS the message group, in a topic what chooses the partition.
    pub group: Parts,
    /// What tells duplicates apart, where the target looks for them.
    pub dedup: Parts,
    /// Routing key, where the target is an exchange.
    pub routing_key: Parts,
    /// 0 to 255.
    pub priority: Parts,
    /// Not to be delivered before so many milliseconds.
    pub delay_ms: Parts,
    /// Headers, in this order; each takes the place of those of its name.
    pub headers: Vec<(String, Parts)>,
}

/// Why a text is no mapping.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("in the mapping, {field}: {what}")]
pub struct MappingError {
    /// Which field.
    pub field: String,
    /// What is wrong with it, and what to write.
    pub what: String,
}

/// Why a message cannot be mapped.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unmapped {
    /// Its body cannot be looked into.
    #[error(transparent)]
    Body(#[from] BodyUnread),
    /// There is nothing to set a field from.
    #[error("it has no {from} to set its {field} from")]
    Absent {
        /// The field.
        field: String,
        /// The parts that were looked for.
        from: String,
    },
    /// What is there cannot be the field.
    #[error("its {field} cannot be {value:?}: it must be {must}")]
    Wrong {
        /// The field.
        field: &'static str,
        /// What was found.
        value: String,
        /// What it must be.
        must: &'static str,
    },
}

impl Part {
    fn parse(text: &str) -> Option<Self> {
        Some(match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => Self::Header(name.to_owned()),
            Some(("body", pointer)) if pointer.is_empty() || pointer.starts_with('/') => {
                Self::Body(pointer.to_owned())
            }
            Some(("literal", text)) => Self::Literal(text.to_owned()),
            Some(_) => return None,
            None => match text {
                "key" => Self::Key,
                "topic" => Self::Topic,
                "partition" => Self::Partition,
                "offset" => Self::Offset,
                "none" => Self::None,
                _ => return None,
            },
        })
    }

    fn text(&self) -> String {
        match self {
            Self::Key => "key".to_owned(),
            Self::Header(name) => format!("header:{name}"),
            Self::Body(pointer) => format!("body:{pointer}"),
            Self::Topic => "topic".to_owned(),
            Self::Partition => "partition".to_owned(),
            Self::Offset => "offset".to_owned(),
            Self::Literal(text) => format!("literal:{text}"),
            Self::None => "none".to_owned(),
        }
    }

    fn of(&self, seen: &Seen<'_>) -> Result<Option<HeaderValue>, BodyUnread> {
        let from_json = |v: &Value| match v {
            Value::Null => None,
            Value::Bool(b) => Some(HeaderValue::Bool(*b)),
            Value::String(s) => Some(HeaderValue::Str(s.clone())),
            Value::Number(n) => Some(match (n.as_i64(), n.as_u64()) {
                (Some(n), _) => HeaderValue::I64(n),
                (None, Some(n)) => HeaderValue::U64(n),
                (None, None) => HeaderValue::F64(n.as_f64()?),
            }),
            other => Some(HeaderValue::Str(other.to_string())),
        };
        let text_or_bytes = |b: &Bytes| match std::str::from_utf8(b) {
            Ok(text) => HeaderValue::Str(text.to_owned()),
            Err(_) => HeaderValue::Bytes(b.clone()),
        };
        Ok(match self {
            Self::Key => seen.message.key.as_ref().map(text_or_bytes),
            Self::Header(name) => seen
                .message
                .headers
                .iter()
                .rfind(|h| h.name == *name && h.value != HeaderValue::Null)
                .map(|h| h.value.clone()),
            Self::Body(pointer) => seen.body()?.pointer(pointer).and_then(from_json),
            Self::Topic => Some(HeaderValue::Str(seen.at.topic.to_owned())),
            Self::Partition => Some(HeaderValue::I64(i64::from(seen.at.partition))),
            Self::Offset => Some(HeaderValue::U64(seen.at.offset)),
            Self::Literal(text) => Some(HeaderValue::Str(text.clone())),
            Self::None => None,
        })
    }
}

impl Parts {
    /// From a text, or a list of texts; null is none.
    fn parse(field: &str, value: Option<&Value>) -> Result<Self, MappingError> {
        let wrong = |what: String| MappingError { field: field.to_owned(), what };
        let texts = match value {
            None | Some(Value::Null) => &[],
            Some(Value::Array(all)) => all.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        if texts.len() > ALTERNATIVES_MAX {
            return Err(wrong(format!("it has more than {ALTERNATIVES_MAX} alternatives")));
        }
        let part = |v: &Value| {
            v.as_str().filter(|t| t.len() <= PART_BYTES_MAX).and_then(Part::parse).ok_or_else(|| {
                wrong(format!(
                    "{v} is not one of key, header:NAME, body:/json/pointer, topic, partition, offset, literal:TEXT, none"
                ))
            })
        };
        texts.iter().map(part).collect::<Result<_, _>>().map(Self)
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.iter().map(Part::text).collect::<Vec<_>>())
    }

    /// Whether nothing is said of the field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first that is there; `None`: nothing is to be set.
    fn of(&self, field: &str, seen: &Seen<'_>) -> Result<Option<HeaderValue>, Unmapped> {
        for part in &self.0 {
            if *part == Part::None {
                return Ok(None);
            }
            if let Some(value) = part.of(seen)? {
                return Ok(Some(value));
            }
        }
        if self.0.is_empty() {
            return Ok(None);
        }
        let from = self.0.iter().map(Part::text).collect::<Vec<_>>().join(" or ");
        Err(Unmapped::Absent { field: field.to_owned(), from })
    }

    fn number(
        &self,
        field: &'static str,
        max: u64,
        must: &'static str,
        seen: &Seen<'_>,
    ) -> Result<Option<u64>, Unmapped> {
        let Some(value) = self.of(field, seen)? else { return Ok(None) };
        let text = shown(&value);
        match text.parse().ok().filter(|n| *n <= max) {
            Some(n) => Ok(Some(n)),
            None => Err(Unmapped::Wrong { field, value: text, must }),
        }
    }
}

/// The fields of a mapping as they are written, but for headers.
const FIELDS: [&str; 5] = ["group", "dedup", "routing_key", "priority", "delay_ms"];

impl Mapping {
    /// Reads a mapping: an object of the fields' names and their parts, `headers` an object too.
    ///
    /// # Errors
    /// [`MappingError`].
    pub fn parse(value: &Value) -> Result<Self, MappingError> {
        let wrong = |field: &str, what: &str| MappingError { field: field.to_owned(), what: what.to_owned() };
        let Value::Object(o) = value else { return Err(wrong("at the top", "it must be an object")) };
        if let Some(name) = o.keys().find(|k| *k != "headers" && !FIELDS.contains(&k.as_str())) {
            return Err(wrong(
                name,
                "there is no such field: group, dedup, routing_key, priority, delay_ms, headers",
            ));
        }
        let parts = |field: &str| Parts::parse(field, o.get(field));
        let headers = match o.get("headers") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Object(all)) if all.len() <= MAPPED_HEADERS_MAX => all
                .iter()
                .map(|(name, v)| {
                    let parts = Parts::parse(name, Some(v))?;
                    if name.is_empty() || name.len() > NAME_BYTES_MAX || parts.is_empty() {
                        return Err(wrong(
                            name,
                            "a header has a name of 1 to 255 bytes, and a part to set it from",
                        ));
                    }
                    Ok((name.clone(), parts))
                })
                .collect::<Result<_, _>>()?,
            Some(Value::Object(_)) => return Err(wrong("headers", "it sets more than 64 headers")),
            Some(_) => return Err(wrong("headers", "it must be an object of names and parts")),
        };
        Ok(Self {
            group: parts("group")?,
            dedup: parts("dedup")?,
            routing_key: parts("routing_key")?,
            priority: parts("priority")?,
            delay_ms: parts("delay_ms")?,
            headers,
        })
    }

    /// The counterpart of [`Mapping::parse`].
    #[must_use]
    pub fn to_json(&self) -> Value {
        let all = [&self.group, &self.dedup, &self.routing_key, &self.priority, &self.delay_ms];
        let mut out = Map::new();
        for (name, parts) in FIELDS.iter().zip(all).filter(|(_, parts)| !parts.is_empty()) {
            out.insert((*name).to_owned(), parts.to_json());
        }
        if !self.headers.is_empty() {
            let headers = self.headers.iter().map(|(name, parts)| (name.clone(), parts.to_json()));
            out.insert("headers".to_owned(), Value::Object(headers.collect()));
        }
        Value::Object(out)
    }

    /// Sets the fields in `new`, which is a copy of what was `seen`.
    ///
    /// # Errors
    /// [`Unmapped`]; `new` may be half set then.
    pub(crate) fn set(&self, seen: &Seen<'_>, new: &mut NewMessage) -> Result<(), Unmapped> {
        if let Some(group) = self.group.of("message group", seen)? {
            new.message.key = Some(match group {
                HeaderValue::Bytes(b) => b,
                other => shown(&other).into(),
            });
        }
        if let Some(id) = self.dedup.of("deduplication id", seen)? {
            set_property(new, property::DEDUPLICATION_ID, shown(&id).into());
        }
        if let Some(key) = self.routing_key.of("routing key", seen)? {
            let key = shown(&key);
            if key.len() > NAME_BYTES_MAX {
                let value = key.chars().take(SHOWN_CHARS_MAX).collect();
                return Err(Unmapped::Wrong { field: "routing key", value, must: "at most 255 bytes long" });
            }
            new.message.routing_key = key;
            new.message.keys.clear();
        }
        if let Some(n) = self.priority.number("priority", 255, "a whole number of 0 to 255", seen)? {
            new.priority = u8::try_from(n).unwrap_or(u8::MAX);
            set_property(new, property::PRIORITY, Bytes::copy_from_slice(&[new.priority]));
        }
        let must = "a whole number of milliseconds, at most ten years";
        if let Some(n) = self.delay_ms.number("delay", DELAY_MS_MAX, must, seen)? {
            new.delay_ms = Some(n);
        }
        for (name, parts) in &self.headers {
            let Some(value) = parts.of(name, seen)? else { continue };
            new.message.headers.retain(|h| h.name != *name);
            new.message.headers.push(Header { name: name.clone(), value });
        }
        Ok(())
    }
}

fn set_property(new: &mut NewMessage, id: u8, value: Bytes) {
    new.message.properties.retain(|p| p.0 != id);
    new.message.properties.push((id, value));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use serde_json::json;

    use super::super::event::At;
    use super::*;
    use crate::envelope::Message;

    fn mapped(mapping: &Value, body: &str) -> Result<NewMessage, Unmapped> {
        let h = |name: &str, value: &str| Header {
            name: name.to_owned(),
            value: HeaderValue::Str(value.to_owned()),
        };
        let message = Message {
            key: Some(Bytes::from_static(b"the key")),
            payload: Some(Bytes::from(body.to_owned())),
            headers: vec![h("a", "1"), h("b", "2"), h("a", "3")],
            ..Message::default()
        };
        let seen = Seen::new(&message, At { topic: "orders", partition: 2, offset: 9 });
        let mut new = NewMessage { message: message.clone(), ..NewMessage::default() };
        Mapping::parse(mapping).unwrap().set(&seen, &mut new)?;
        Ok(new)
    }

    fn header(new: &NewMessage, name: &str) -> Vec<HeaderValue> {
        new.message.headers.iter().filter(|h| h.name == name).map(|h| h.value.clone()).collect()
    }

    #[test]
    fn each_field_is_set_from_the_part_that_is_named() {
        let mapping = json!({
            "group": "body:/customer", "dedup": "header:b", "routing_key": "literal:a.b", "priority": "body:/p",
            "delay_ms": ["body:/none", "literal:1500"],
            "headers": {"a": "body:/deep/1", "at": "offset", "part": "partition", "topic": "topic", "k": "key", "o": "body:/deep"},
        });
        let new = mapped(&mapping, r#"{"customer": 42, "p": 7, "deep": [null, 1.5]}"#).unwrap();
        assert_eq!(new.message.key.as_deref(), Some(&b"42"[..]));
        let dedup = new.message.properties.iter().find(|p| p.0 == property::DEDUPLICATION_ID);
        assert_eq!(dedup.map(|p| &*p.1), Some(&b"2"[..]));
        assert_eq!((&*new.message.routing_key, new.priority, new.delay_ms), ("a.b", 7, Some(1_500)));
        assert_eq!(header(&new, "a"), [HeaderValue::F64(1.5)], "in the place of both of that name");
        assert_eq!(header(&new, "at"), [HeaderValue::U64(9)]);
        assert_eq!(header(&new, "part"), [HeaderValue::I64(2)]);
        assert_eq!(header(&new, "topic"), [HeaderValue::Str("orders".to_owned())]);
        assert_eq!(header(&new, "k"), [HeaderValue::Str("the key".to_owned())]);
        assert_eq!(header(&new, "o"), [HeaderValue::Str("[null,1.5]".to_owned())]);
        assert_eq!(header(&new, "b"), [HeaderValue::Str("2".to_owned())], "as it was");
    }

    #[test]
    fn what_is_nowhere_cannot_be_mapped_and_none_leaves_it_as_it_is() {
        let why = |mapping: Value, body: &str| mapped(&mapping, body).unwrap_err().to_string();
        assert_eq!(
            why(json!({"group": ["body:/a", "header:x"]}), r#"{"a": null}"#),
            "it has no body:/a or header:x to set its message group from"
        );
        assert!(why(json!({"group": "body:/a"}), "{").starts_with("its body is not JSON"));
        assert!(why(json!({"priority": "body:/p"}), r#"{"p": 256}"#).contains("0 to 255"));
        assert!(why(json!({"delay_ms": "body:/p"}), r#"{"p": -1}"#).contains("milliseconds"));
        let left =
            mapped(&json!({"group": ["body:/a", "none"], "headers": {"a": ["body:/a", "none"]}}), "{}")
                .unwrap();
        assert_eq!((left.message.key.as_deref(), header(&left, "a").len()), (Some(&b"the key"[..]), 2));
    }

    #[test]
    fn a_body_is_not_looked_into_where_no_part_is_of_it() {
        assert!(mapped(&json!({"group": "key"}), "{").is_ok());
    }

    #[test]
    fn a_body_beyond_the_limit_is_not_looked_into() {
        let body = format!("\"{}\"", "x".repeat(LOOKED_INTO));
        assert!(
            mapped(&json!({"group": "body:"}), &body).unwrap_err().to_string().contains("not looked into")
        );
    }
    const LOOKED_INTO: usize = super::super::event::LOOKED_INTO_BYTES_MAX;

    #[test]
    fn what_is_no_mapping_is_refused_with_its_field() {
        for (mapping, field) in [
            (json!([]), "at the top"),
            (json!({"colour": "key"}), "colour"),
            (json!({"group": "body"}), "group"),
            (json!({"group": "body:a"}), "group"),
            (json!({"group": "header:"}), "group"),
            (json!({"group": ["key", 1]}), "group"),
            (json!({"group": vec!["key"; 17]}), "group"),
            (json!({"headers": []}), "headers"),
            (json!({"headers": {"h": []}}), "h"),
            (json!({"headers": {"": "key"}}), ""),
        ] {
            assert_eq!(Mapping::parse(&mapping).unwrap_err().field, field, "{mapping}");
        }
    }

    #[test]
    fn a_mapping_comes_back_as_it_was_written() {
        let text = json!({"group": ["body:/a", "none"], "dedup": ["offset"], "headers": {"x": ["literal:a:b"], "y": ["topic", "key", "partition"]}});
        assert_eq!(Mapping::parse(&text).unwrap().to_json(), text);
        assert_eq!(Mapping::default().to_json(), json!({}));
    }
}
