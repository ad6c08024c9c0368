//! What the broker keeps of a queue besides the engine's policy: whether it outlives a restart, whose it is, and where its dead
//! messages go. Kept as text among the queue's settings.
//!
//! Start at [`QueueSettings`].

use std::collections::BTreeMap;

use millstream_engine::exchange::ROUTING_KEY_BYTES_MAX;
use millstream_engine::queue::api::QueueDef;
use millstream_types::limits::NAME_BYTES_MAX;

use crate::envelope::{EnvelopeError, Header, decode_arguments, encode_arguments};
use crate::error::QueueCallError;
use crate::key_from::{KEY_FROM, KeyFrom};
use crate::subscription::Subscription;

/// Where a queue's dead messages go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetter {
    /// The exchange they are published to; empty: the default one. It need not exist: then they are dropped, and counted.
    pub exchange: String,
    /// With this routing key; `None`: with those they have.
    pub routing_key: Option<String>,
    /// A message that a target refuses stays here and is tried again; else it is dropped.
    pub at_least_once: bool,
    /// Messages that were too old are dropped, and do not go there.
    pub not_expired: bool,
    /// The time to live of the queue that they go to counts from when they were first published; else from when they come there.
    pub keeps_age: bool,
}

/// A queue's settings besides its policy.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSettings {
    /// Whether it is there after a restart.
    pub durable: bool,
    /// Only sessions of this owner may use it, and it goes with the owner ([`Broker::owner`](crate::Broker::owner)).
    pub owner: Option<u64>,
    /// Where its dead messages go.
    pub dead_letter: Option<DeadLetter>,
    /// The topic whose records it hands out.
    pub subscription: Option<Subscription>,
    /// What is the key of a message that has none.
    pub key_from: KeyFrom,
    /// The arguments it was declared with: kept, and compared by nobody here.
    pub arguments: Vec<Header>,
    /// What a protocol keeps with the queue, by names of its own (`aws.tags`): kept, and read by nobody here.
    pub more: BTreeMap<String, String>,
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            durable: true,
            owner: None,
            dead_letter: None,
            subscription: None,
            key_from: KeyFrom::Key,
            arguments: Vec::new(),
            more: BTreeMap::new(),
        }
    }
}

const TRANSIENT: &str = "transient";
const OWNER: &str = "owner";
const EXCHANGE: &str = "dead_letter.exchange";
const ROUTING_KEY: &str = "dead_letter.routing_key";
const AT_LEAST_ONCE: &str = "dead_letter.at_least_once";
const NOT_EXPIRED: &str = "dead_letter.not_expired";
const KEEPS_AGE: &str = "dead_letter.keeps_age";
/// In front of the names in [`QueueSettings::more`].
const MORE: &str = "more.";
const ARGUMENTS: &str = "arguments";
const TOPIC: &str = "topic.name";
const TOPIC_FROM: &str = "topic.from";
const TOPIC_FILTER: &str = "topic.filter";

impl QueueSettings {
    /// Of a queue. Arguments that cannot be read are left out.
    #[must_use]
    pub fn of(def: &QueueDef) -> Self {
        let s = &def.settings;
        let arguments = s.get(ARGUMENTS).and_then(|hex| unhex(hex)).unwrap_or_default();
        Self {
            durable: !s.contains_key(TRANSIENT),
            owner: owner_of(def),
            dead_letter: Self::dead_letter_of(def),
            subscription: s.get(TOPIC).map(|topic| Subscription {
                topic: topic.clone(),
                from: s.get(TOPIC_FROM).and_then(|f| f.parse().ok()).unwrap_or_default(),
                filter: s.get(TOPIC_FILTER).cloned(),
            }),
            key_from: KeyFrom::of(def),
            arguments: decode_arguments(&arguments).unwrap_or_default(),
            more: s
                .range(MORE.to_owned()..)
                .map_while(|(k, v)| Some((k.strip_prefix(MORE)?.to_owned(), v.clone())))
                .collect(),
        }
    }

    /// Where a queue's dead messages go.
    pub(crate) fn dead_letter_of(def: &QueueDef) -> Option<DeadLetter> {
        let s = &def.settings;
        Some(DeadLetter {
            exchange: s.get(EXCHANGE)?.clone(),
            routing_key: s.get(ROUTING_KEY).cloned(),
            at_least_once: s.contains_key(AT_LEAST_ONCE),
            not_expired: s.contains_key(NOT_EXPIRED),
            keeps_age: s.contains_key(KEEPS_AGE),
        })
    }

    /// Whether a queue does not outlive the broker's process.
    pub(crate) fn is_transient(&self) -> bool {
        !self.durable || self.owner.is_some()
    }

    pub(crate) fn to_map(&self) -> Result<BTreeMap<String, String>, QueueCallError> {
        let mut map = BTreeMap::new();
        let mut put = |k: &str, v: String| map.insert(k.to_owned(), v);
        if !self.durable {
            put(TRANSIENT, String::new());
        }
        if let Some(owner) = self.owner {
            put(OWNER, owner.to_string());
        }
        if let Some(d) = &self.dead_letter {
            let too_long = |what, max| QueueCallError::Arguments(EnvelopeError::TooLarge { what, max });
            if d.exchange.len() > NAME_BYTES_MAX {
                return Err(too_long("the dead-letter exchange", NAME_BYTES_MAX));
            }
            put(EXCHANGE, d.exchange.clone());
            if let Some(key) = &d.routing_key {
                if key.len() > ROUTING_KEY_BYTES_MAX {
                    return Err(too_long("the dead-letter routing key", ROUTING_KEY_BYTES_MAX));
                }
                put(ROUTING_KEY, key.clone());
            }
            if d.at_least_once {
                put(AT_LEAST_ONCE, String::new());
            }
            if d.not_expired {
                put(NOT_EXPIRED, String::new());
            }
            if d.keeps_age {
                put(KEEPS_AGE, String::new());
            }
        }
        if let Some(s) = &self.subscription {
            put(TOPIC, s.topic.clone());
            put(TOPIC_FROM, s.from.to_string());
            if let Some(filter) = &s.filter {
                put(TOPIC_FILTER, filter.clone());
            }
        }
        if self.key_from != KeyFrom::Key {
            put(KEY_FROM, self.key_from.text().into_owned());
        }
        if !self.arguments.is_empty() {
            put(ARGUMENTS, hex(&encode_arguments(&self.arguments)?));
        }
        for (name, value) in &self.more {
            map.insert(format!("{MORE}{name}"), value.clone());
        }
        Ok(map)
    }

    /// One of [`QueueSettings::more`], without looking at the rest.
    #[must_use]
    pub fn more_of<'a>(def: &'a QueueDef, name: &str) -> Option<&'a str> {
        def.settings.get(&format!("{MORE}{name}")).map(String::as_str)
    }
}

/// Whose an exclusive queue is.
pub(crate) fn owner_of(def: &QueueDef) -> Option<u64> {
    def.settings.get(OWNER).and_then(|o| o.parse().ok())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |p: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millstream_engine::queue::api::Terms;
    use millstream_types::{Namespace, ObjectId};

    use super::*;
    use crate::envelope::HeaderValue;

    #[test]
    fn settings_come_back_as_they_were_given() {
        let given = QueueSettings {
            durable: false,
            owner: Some(7),
            dead_letter: Some(DeadLetter {
                exchange: String::new(),
                routing_key: Some("k".to_owned()),
                at_least_once: true,
                not_expired: true,
                keeps_age: true,
            }),
            subscription: Some(Subscription {
                topic: "t".to_owned(),
                from: crate::subscription::Begin::Offset(5),
                filter: Some("{}".to_owned()),
            }),
            key_from: KeyFrom::Header("customer".to_owned()),
            arguments: vec![Header { name: "x-a".to_owned(), value: HeaderValue::I32(5) }],
            more: BTreeMap::from([("aws.tags".to_owned(), "{}".to_owned())]),
        };
        let mut def = QueueDef {
            ns: Namespace::DEFAULT,
            name: "q".to_owned(),
            id: ObjectId(1),
            created_ms: 0,
            version: 1,
            terms: Arc::new(Terms { settings: given.to_map().unwrap(), ..Terms::default() }),
        };
        assert_eq!(QueueSettings::of(&def), given);
        def.terms = Arc::default();
        assert_eq!(QueueSettings::of(&def), QueueSettings::default());
    }
}
