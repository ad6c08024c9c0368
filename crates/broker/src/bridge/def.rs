//! What a bridge is told to do, as JSON and back: from where, to where, which messages, how they change, and what becomes of those it cannot pass on.
//!
//! Kept in its task as a version byte and the JSON text.

use bytes::Bytes;
use millstream_types::limits::NAME_BYTES_MAX;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::mapping::{Mapping, MappingError};
use super::pattern::{Pattern, PatternError};

/// First byte of a definition in its task.
const VERSION: u8 = 1;

/// Where messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// All partitions of a topic.
    Topic {
        /// Its name.
        name: String,
        /// Where to begin.
        from: Start,
    },
    /// A queue: messages are settled there as they go.
    Queue(String),
    /// The queue that the dead letters of this queue go to.
    DeadLettersOf(String),
}

/// Where a bridge begins in a topic. In partitions that the topic gets later it begins with the first offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first offset that is kept.
    #[default]
    Earliest,
    /// With what is published from now on.
    Latest,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A queue.
    Queue(String),
    /// An exchange, with the routing key that the mapping sets; without one, the message's own, else its topic's name.
    Exchange(String),
    /// A topic.
    Topic(String),
}

/// What becomes of a message that cannot be read, mapped, or kept by the target for its own sake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnPoison {
    /// The bridge pauses before it, and says why.
    #[default]
    Pause,
    /// It is counted and left behind; of a queue: rejected, so that it goes to the queue's dead-letter target.
    Skip,
    /// It goes to this topic, with the reason in its headers.
    DeadLetterTopic(String),
}

/// What happens when retention took messages that the bridge had not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTrimmed {
    /// The bridge pauses, and says how many they are.
    #[default]
    Stop,
    /// They are counted, and it goes on.
    Skip,
}

/// What a bridge does.
#[derive(Clone, Debug)]
pub struct BridgeDef {
    /// From where.
    pub source: Source,
    /// To where.
    pub target: Target,
    /// Which messages, as it was written; only with a topic as source. The others are counted and left behind.
    pub filter: Option<Value>,
    /// How they change.
    pub map: Mapping,
    /// What becomes of those that cannot be passed on.
    pub on_poison: OnPoison,
    /// What happens when retention was faster.
    pub on_trimmed: OnTrimmed,
    pub(crate) pattern: Option<Pattern>,
}

impl OnPoison {
    /// Reads `"pause"`, `"skip"` or `{"dead_letter_topic": NAME}`.
    ///
    /// # Errors
    /// It is none of these.
    pub fn parse(v: &Value) -> Result<Self, DefError> {
        match v {
            Value::String(s) if s == "pause" => Ok(Self::Pause),
            Value::String(s) if s == "skip" => Ok(Self::Skip),
            other => {
                match single("on_poison", Some(other), "dead_letter_topic; or be \"pause\" or \"skip\"")? {
                    (kind, name) if kind == "dead_letter_topic" => Ok(Self::DeadLetterTopic(name)),
                    _ => Err(wrong("on_poison", "must be pause, skip, or {\"dead_letter_topic\": NAME}")),
                }
            }
        }
    }
}

impl PartialEq for BridgeDef {
    fn eq(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }
}

/// Why a text defines no bridge.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DefError {
    /// A field.
    #[error("{field}: {what}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it must be.
        what: String,
    },
    /// The filter.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The mapping.
    #[error(transparent)]
    Mapping(#[from] MappingError),
}

fn wrong(field: &'static str, what: impl Into<String>) -> DefError {
    DefError::Field { field, what: what.into() }
}

/// The one name and value of an object.
fn single(field: &'static str, v: Option<&Value>, names: &str) -> Result<(String, String), DefError> {
    let what = || wrong(field, format!("must be an object with one of {names} and a name"));
    let o = v.and_then(Value::as_object).ok_or_else(what)?;
    let mut parts = o.iter().filter(|(name, _)| *name != "from");
    let (Some((kind, name)), None) = (parts.next(), parts.next()) else { return Err(what()) };
    let name = name.as_str().filter(|n| !n.is_empty() && n.len() <= NAME_BYTES_MAX).ok_or_else(what)?;
    Ok((kind.clone(), name.to_owned()))
}

impl BridgeDef {
    /// Reads a definition:
    /// `{"source": {"topic"|"queue"|"dead_letters_of": NAME, "from": "earliest"|"latest"}, "target": {"queue"|"exchange"|"topic": NAME},
    /// "filter": PATTERN, "map": MAPPING, "on_poison": "pause"|"skip"|{"dead_letter_topic": NAME}, "on_trimmed": "stop"|"skip"}`.
    ///
    /// # Errors
    /// [`DefError`].
    pub fn parse(v: &Value) -> Result<Self, DefError> {
        const FIELDS: [&str; 6] = ["source", "target", "filter", "map", "on_poison", "on_trimmed"];
        let o = v.as_object().ok_or_else(|| wrong("bridge", "must be an object"))?;
        if let Some(name) = o.keys().find(|k| !FIELDS.contains(&k.as_str())) {
            return Err(wrong(
                "bridge",
                format!("there is no field {name:?}; there are {}", FIELDS.join(", ")),
            ));
        }
        let source = source(o)?;
        let names = "queue, exchange, topic";
        let target = match single("target", o.get("target"), names)? {
            (kind, name) if kind == "queue" => Target::Queue(name),
            (kind, name) if kind == "exchange" => Target::Exchange(name),
            (kind, name) if kind == "topic" => Target::Topic(name),
            _ => return Err(wrong("target", format!("must be one of {names}"))),
        };
        let filter = o.get("filter").filter(|f| !f.is_null()).cloned();
        let pattern = filter.as_ref().map(Pattern::compile).transpose()?;
        let map = o.get("map").filter(|m| !m.is_null()).map(Mapping::parse).transpose()?.unwrap_or_default();
        let on_poison = o.get("on_poison").filter(|p| !p.is_null()).map(OnPoison::parse).transpose()?;
        let on_poison = on_poison.unwrap_or_default();
        let on_trimmed = match o.get("on_trimmed").and_then(Value::as_str) {
            None if o.get("on_trimmed").is_none_or(Value::is_null) => OnTrimmed::Stop,
            Some("stop") => OnTrimmed::Stop,
            Some("skip") => OnTrimmed::Skip,
            _ => return Err(wrong("on_trimmed", "must be stop or skip")),
        };
        let def = Self { source, target, filter, map, on_poison, on_trimmed, pattern };
        def.check()?;
        Ok(def)
    }

    fn check(&self) -> Result<(), DefError> {
        match (&self.source, &self.target) {
            (Source::Topic { name: a, .. }, Target::Topic(b)) if a == b => {
                return Err(wrong("target", "a topic cannot be bridged to itself"));
            }
            (Source::Topic { .. }, _) | (_, Target::Topic(_)) => {}
            _ => {
                return Err(wrong(
                    "target",
                    "from a queue a bridge goes to a topic; between queues use bindings or redrive",
                ));
            }
        }
        if matches!(self.source, Source::Topic { .. }) {
            return Ok(());
        }
        if self.filter.is_some() {
            return Err(wrong(
                "filter",
                "a filter needs a topic as its source: a queue's messages would be lost by it",
            ));
        }
        let m = &self.map;
        if [&m.dedup, &m.routing_key, &m.priority, &m.delay_ms].iter().any(|p| !p.is_empty()) {
            return Err(wrong("map", "to a topic only group (the record's key) and headers can be mapped"));
        }
        Ok(())
    }

    /// The counterpart of [`BridgeDef::parse`]; what has its default is left out.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let source = match &self.source {
            Source::Topic { name, from: Start::Earliest } => json!({ "topic": name, "from": "earliest" }),
            Source::Topic { name, from: Start::Latest } => json!({ "topic": name, "from": "latest" }),
            Source::Queue(name) => json!({ "queue": name }),
            Source::DeadLettersOf(name) => json!({ "dead_letters_of": name }),
        };
        let target = match &self.target {
            Target::Queue(name) => json!({ "queue": name }),
            Target::Exchange(name) => json!({ "exchange": name }),
            Target::Topic(name) => json!({ "topic": name }),
        };
        let mut out = Map::from_iter([("source".to_owned(), source), ("target".to_owned(), target)]);
        let mut put = |name: &str, v: Value| out.insert(name.to_owned(), v);
        if let Some(filter) = &self.filter {
            put("filter", filter.clone());
        }
        if self.map != Mapping::default() {
            put("map", self.map.to_json());
        }
        match &self.on_poison {
            OnPoison::Pause => {}
            OnPoison::Skip => drop(put("on_poison", json!("skip"))),
            OnPoison::DeadLetterTopic(name) => drop(put("on_poison", json!({ "dead_letter_topic": name }))),
        }
        if self.on_trimmed == OnTrimmed::Skip {
            put("on_trimmed", json!("skip"));
        }
        Value::Object(out)
    }

    /// As a task keeps it.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        out.extend(self.to_json().to_string().into_bytes());
        out.into()
    }

    /// The counterpart of [`BridgeDef::encode`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DefError> {
        let Some((&VERSION, text)) = bytes.split_first() else {
            return Err(wrong("bridge", "its definition is from a later version"));
        };
        let v = serde_json::from_slice(text).map_err(|e| wrong("bridge", e.to_string()))?;
        Self::parse(&v)
    }
}

fn source(o: &Map<String, Value>) -> Result<Source, DefError> {
    let names = "topic, queue, dead_letters_of";
    let (kind, name) = single("source", o.get("source"), names)?;
    let from = o.get("source").and_then(|s| s.get("from"));
    match kind.as_str() {
        "topic" => {
            let from = match from.map(|f| f.as_str()) {
                None | Some(Some("earliest")) => Start::Earliest,
                Some(Some("latest")) => Start::Latest,
                Some(_) => return Err(wrong("source", "from must be earliest or latest")),
            };
            Ok(Source::Topic { name, from })
        }
        "queue" | "dead_letters_of" if from.is_some() => {
            Err(wrong("source", "from goes with a topic: a queue gives what is ready"))
        }
        "queue" => Ok(Source::Queue(name)),
        "dead_letters_of" => Ok(Source::DeadLettersOf(name)),
        _ => Err(wrong("source", format!("must be one of {names}"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn a_definition_comes_back_as_it_was_written() {
        for text in [
            json!({"source": {"topic": "orders", "from": "earliest"}, "target": {"queue": "q"}}),
            json!({
                "source": {"topic": "orders", "from": "latest"}, "target": {"exchange": "x"},
                "filter": {"body": {"total": [{"numeric": [">", 1]}]}}, "map": {"group": ["body:/c"]},
                "on_poison": {"dead_letter_topic": "poison"}, "on_trimmed": "skip",
            }),
            json!({"source": {"queue": "q"}, "target": {"topic": "t"}, "on_poison": "skip"}),
            json!({"source": {"dead_letters_of": "q"}, "target": {"topic": "t"}}),
        ] {
            let def = BridgeDef::parse(&text).unwrap();
            assert_eq!(def.to_json(), text);
            assert_eq!(BridgeDef::decode(&def.encode()).unwrap(), def);
        }
    }

    #[test]
    fn a_definition_in_its_task_is_a_version_and_json() {
        let def = BridgeDef::parse(&json!({"source": {"queue": "q"}, "target": {"topic": "t"}})).unwrap();
        assert_eq!(def.encode(), &b"\x01{\"source\":{\"queue\":\"q\"},\"target\":{\"topic\":\"t\"}}"[..]);
        assert!(BridgeDef::decode(b"\x02{}").is_err());
        assert!(BridgeDef::decode(b"").is_err());
    }

    #[test]
    fn what_defines_no_bridge_is_refused_with_the_field() {
        let topic = json!({"topic": "t"});
        for (text, field) in [
            (json!([]), "bridge"),
            (json!({"source": topic, "target": {"queue": "q"}, "colour": 1}), "bridge"),
            (json!({"target": {"queue": "q"}}), "source"),
            (json!({"source": {"topic": ""}, "target": {"queue": "q"}}), "source"),
            (json!({"source": {"stream": "t"}, "target": {"queue": "q"}}), "source"),
            (json!({"source": {"topic": "t", "queue": "q"}, "target": {"queue": "q"}}), "source"),
            (json!({"source": {"topic": "t", "from": 3}, "target": {"queue": "q"}}), "source"),
            (json!({"source": {"queue": "q", "from": "latest"}, "target": topic}), "source"),
            (json!({"source": topic}), "target"),
            (json!({"source": topic, "target": topic}), "target"),
            (json!({"source": {"queue": "a"}, "target": {"queue": "b"}}), "target"),
            (json!({"source": {"queue": "a"}, "target": topic, "filter": {"key": ["k"]}}), "filter"),
            (json!({"source": {"queue": "a"}, "target": topic, "map": {"dedup": "key"}}), "map"),
            (json!({"source": topic, "target": {"queue": "q"}, "on_poison": "drop"}), "on_poison"),
            (json!({"source": topic, "target": {"queue": "q"}, "on_trimmed": 1}), "on_trimmed"),
        ] {
            match BridgeDef::parse(&text) {
                Err(DefError::Field { field: f, .. }) => assert_eq!(f, field, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
