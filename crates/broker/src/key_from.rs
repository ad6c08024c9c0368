//! What a queue takes for the key of a message that has none. Text among the queue's settings.
//!
//! Start at [`KeyFrom`].

use std::borrow::Cow;

use millstream_engine::queue::api::QueueDef;
use millstream_types::limits::NAME_BYTES_MAX;

use crate::envelope::{HeaderValue, Message, property};

/// What the key of a message is in a queue that goes by keys, if the message has no key of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyFrom {
    /// It has none then.
    #[default]
    Key,
    /// Its routing key, the empty one too.
    RoutingKey,
    /// Its correlation id.
    CorrelationId,
    /// A header of this name: text, bytes, or a whole number, which is as its digits. 1 to 255 bytes.
    Header(String),
}

/// Among a queue's settings.
pub(crate) const KEY_FROM: &str = "key_from";
const HEADER: &str = "header:";

impl KeyFrom {
    /// From its text: `key`, `routing-key`, `correlation-id` or `header:NAME`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "key" => Some(Self::Key),
            "routing-key" => Some(Self::RoutingKey),
            "correlation-id" => Some(Self::CorrelationId),
            text => text
                .strip_prefix(HEADER)
                .filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX)
                .map(|name| Self::Header(name.to_owned())),
        }
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> Cow<'static, str> {
        match self {
            Self::Key => "key".into(),
            Self::RoutingKey => "routing-key".into(),
            Self::CorrelationId => "correlation-id".into(),
            Self::Header(name) => format!("{HEADER}{name}").into(),
        }
    }

    /// Of a queue.
    pub(crate) fn of(def: &QueueDef) -> Self {
        def.settings.get(KEY_FROM).and_then(|text| Self::parse(text)).unwrap_or_default()
    }

    /// What it finds in a message; `None`: nothing.
    pub(crate) fn find<'a>(&self, message: &'a Message) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Key => None,
            Self::RoutingKey => Some(message.routing_key.as_bytes().into()),
            Self::CorrelationId => {
                let id = message.properties.iter().find(|p| p.0 == property::CORRELATION_ID)?;
                Some((&*id.1).into())
            }
            Self::Header(name) => {
                let number = |n: i128| Some(n.to_string().into_bytes().into());
                match &message.headers.iter().find(|h| h.name == *name)?.value {
                    HeaderValue::Str(text) => Some(text.as_bytes().into()),
                    HeaderValue::Bytes(bytes) => Some((&**bytes).into()),
                    HeaderValue::I8(n) => number((*n).into()),
                    HeaderValue::U8(n) => number((*n).into()),
                    HeaderValue::I16(n) => number((*n).into()),
                    HeaderValue::U16(n) => number((*n).into()),
                    HeaderValue::I32(n) => number((*n).into()),
                    HeaderValue::U32(n) => number((*n).into()),
                    HeaderValue::I64(n) => number((*n).into()),
                    HeaderValue::U64(n) => number((*n).into()),
                    _ => None,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::envelope::Header;

    #[test]
    fn what_a_key_is_taken_from_comes_back_from_its_text() {
        let header = KeyFrom::Header("customer".to_owned());
        for from in [KeyFrom::Key, KeyFrom::RoutingKey, KeyFrom::CorrelationId, header] {
            assert_eq!(KeyFrom::parse(&from.text()), Some(from));
        }
        let long = format!("header:{}", "n".repeat(NAME_BYTES_MAX + 1));
        for text in ["", "header:", "value", &long] {
            assert_eq!(KeyFrom::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_found_where_it_is_taken_from() {
        let header = |name: &str, value| Header { name: name.to_owned(), value };
        let message = Message {
            routing_key: "rk".to_owned(),
            properties: vec![(property::CORRELATION_ID, Bytes::from_static(b"c"))],
            headers: vec![
                header("text", HeaderValue::Str("t".to_owned())),
                header("number", HeaderValue::I8(7)),
                header("truth", HeaderValue::Bool(true)),
            ],
            ..Message::default()
        };
        let found = |text: &str| KeyFrom::parse(text).unwrap().find(&message).map(Cow::into_owned);
        for (from, key) in [
            ("key", None),
            ("routing-key", Some("rk")),
            ("correlation-id", Some("c")),
            ("header:text", Some("t")),
            ("header:number", Some("7")),
            ("header:truth", None),
            ("header:absent", None),
        ] {
            assert_eq!(found(from).as_deref(), key.map(str::as_bytes), "{from}");
        }
    }
}
