//! Topic settings: the table of names that exist, what they may be, and the policy that a topic's settings come to.
//!
//! The names are those that the field's tools use. A setting either works or is refused; those that are kept without an effect
//! (layout hints that this log has no use for) say so in their text.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::config::BrokerConfig;

/// What happens to old messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// They go by age and size.
    Delete,
}

/// What a topic's settings come to, defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPolicy {
    /// Messages older than this go, milliseconds; -1 = never.
    pub retention_ms: i64,
    /// Of each partition the newest so many bytes stay; -1 = all.
    pub retention_bytes: i64,
    /// Largest batch as sent, bytes.
    pub message_bytes_max: u32,
    /// Old messages.
    pub cleanup: CleanupPolicy,
}

/// A setting that was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("setting {key}={value}: {reason}")]
pub struct SettingError {
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// Why.
    pub reason: String,
}

/// Type of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingType {
    /// true or false.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// A fraction.
    Double,
    /// A list of words.
    List,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// Built in.
    Default,
    /// The broker's configuration.
    Broker,
    /// The topic itself.
    Topic,
}

/// A setting as described to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingInfo {
    /// Name.
    pub key: &'static str,
    /// Value in force.
    pub value: String,
    /// Where from.
    pub source: SettingSource,
    /// Type.
    pub kind: SettingType,
    /// What it does.
    pub doc: &'static str,
    /// The value it would have if the topic said nothing.
    pub default: String,
}

#[derive(Clone, Copy)]
enum Rule {
    /// Whole number within bounds (both inclusive).
    Number(i64, i64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A fraction within 0 and 1.
    Fraction,
}

struct Setting {
    key: &'static str,
    kind: SettingType,
    rule: Rule,
    default: &'static str,
    doc: &'static str,
}

const fn setting(
    key: &'static str,
    kind: SettingType,
    rule: Rule,
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { key, kind, rule, default, doc }
}

const I64: i64 = i64::MAX;
const I32: i64 = i32::MAX as i64;
const HINT: &str = "Kept and shown; without effect: all topics share the broker's segment files.";
const ONE: &str = "Only this value: a single copy, synced before it is acknowledged.";
const NOT_YET: &str = "Only this value: others are not supported yet.";

/// Every setting there is, by name.
static SETTINGS: &[Setting] = &[
    setting("cleanup.policy", SettingType::List, Rule::Word(&["delete"]), "delete", NOT_YET),
    setting(
        "compression.type",
        SettingType::String,
        Rule::Word(&["producer"]),
        "producer",
        "Only this value: batches stay as their producer made them.",
    ),
    setting(
        "delete.retention.ms",
        SettingType::Long,
        Rule::Number(0, I64),
        "86400000",
        "Kept and shown; without effect until compaction is supported.",
    ),
    setting("file.delete.delay.ms", SettingType::Long, Rule::Number(0, I64), "60000", HINT),
    setting(
        "flush.messages",
        SettingType::Long,
        Rule::Number(1, I64),
        "9223372036854775807",
        "Kept and shown; without effect: everything is synced before it is acknowledged.",
    ),
    setting(
        "flush.ms",
        SettingType::Long,
        Rule::Number(0, I64),
        "9223372036854775807",
        "Kept and shown; without effect: everything is synced before it is acknowledged.",
    ),
    setting("index.interval.bytes", SettingType::Int, Rule::Number(0, I32), "4096", HINT),
    setting(
        "max.message.bytes",
        SettingType::Int,
        Rule::Number(0, 15 << 20),
        "",
        "Largest batch as sent, bytes, at most 15 MiB.",
    ),
    setting(
        "message.timestamp.type",
        SettingType::String,
        Rule::Word(&["CreateTime"]),
        "CreateTime",
        NOT_YET,
    ),
    setting("min.insync.replicas", SettingType::Int, Rule::Number(1, 1), "1", ONE),
    setting("preallocate", SettingType::Boolean, Rule::Word(&["true", "false"]), "false", HINT),
    setting(
        "retention.bytes",
        SettingType::Long,
        Rule::Number(-1, I64),
        "",
        "Of each partition the newest so many bytes stay; -1 = no limit.",
    ),
    setting(
        "retention.ms",
        SettingType::Long,
        Rule::Number(-1, I64),
        "",
        "Messages older than this go; -1 = never.",
    ),
    setting("segment.bytes", SettingType::Int, Rule::Number(14, I32), "1073741824", HINT),
    setting("segment.index.bytes", SettingType::Int, Rule::Number(4, I32), "10485760", HINT),
    setting("segment.jitter.ms", SettingType::Long, Rule::Number(0, I64), "0", HINT),
    setting("segment.ms", SettingType::Long, Rule::Number(1, I64), "604800000", HINT),
    setting(
        "min.cleanable.dirty.ratio",
        SettingType::Double,
        Rule::Fraction,
        "0.5",
        "Kept and shown; without effect until compaction is supported.",
    ),
    setting("unclean.leader.election.enable", SettingType::Boolean, Rule::Word(&["false"]), "false", ONE),
];

fn refuse(key: &str, value: &str, reason: impl Into<String>) -> SettingError {
    SettingError { key: key.to_owned(), value: value.to_owned(), reason: reason.into() }
}

/// Checks settings one by one.
///
/// # Errors
/// The first that is unknown or has a value it cannot have.
pub(crate) fn check(settings: &BTreeMap<String, String>) -> Result<(), SettingError> {
    for (key, value) in settings {
        let s = SETTINGS
            .iter()
            .find(|s| s.key == key)
            .ok_or_else(|| refuse(key, value, "there is no such topic setting, or it is not supported"))?;
        match s.rule {
            Rule::Number(min, max) => {
                let n: i64 = value.trim().parse().map_err(|_| refuse(key, value, "not a whole number"))?;
                if n < min || n > max {
                    return Err(refuse(key, value, format!("must be {min} to {max}")));
                }
            }
            Rule::Word(words) => {
                if !words.contains(&value.as_str()) {
                    return Err(refuse(key, value, format!("supported: {}", words.join(", "))));
                }
            }
            Rule::Fraction => match value.trim().parse::<f64>() {
                Ok(f) if (0.0..=1.0).contains(&f) => {}
                _ => return Err(refuse(key, value, "must be 0 to 1")),
            },
        }
    }
    Ok(())
}

/// What settings come to. Call [`check`] before they are stored; a stored value that no longer parses follows the default.
pub(crate) fn resolve(settings: &BTreeMap<String, String>, cfg: &BrokerConfig) -> TopicPolicy {
    let number = |key: &str, default: i64| {
        settings.get(key).and_then(|v| v.trim().parse::<i64>().ok()).unwrap_or(default)
    };
    TopicPolicy {
        retention_ms: number("retention.ms", cfg.retention_ms),
        retention_bytes: number("retention.bytes", cfg.retention_bytes),
        message_bytes_max: u32::try_from(number("max.message.bytes", i64::from(cfg.message_bytes_max)))
            .unwrap_or(cfg.message_bytes_max),
        cleanup: CleanupPolicy::Delete,
    }
}

/// All settings with the values in force.
pub(crate) fn describe(settings: &BTreeMap<String, String>, cfg: &BrokerConfig) -> Vec<SettingInfo> {
    let built_in = BrokerConfig::default();
    SETTINGS
        .iter()
        .map(|s| {
            let (default, from_broker) = match s.key {
                "retention.ms" => (cfg.retention_ms.to_string(), cfg.retention_ms != built_in.retention_ms),
                "retention.bytes" => {
                    (cfg.retention_bytes.to_string(), cfg.retention_bytes != built_in.retention_bytes)
                }
                "max.message.bytes" => {
                    (cfg.message_bytes_max.to_string(), cfg.message_bytes_max != built_in.message_bytes_max)
                }
                _ => (s.default.to_owned(), false),
            };
            let own = settings.get(s.key).cloned();
            let source = match (&own, from_broker) {
                (Some(_), _) => SettingSource::Topic,
                (None, true) => SettingSource::Broker,
                (None, false) => SettingSource::Default,
            };
            SettingInfo {
                key: s.key,
                value: own.unwrap_or_else(|| default.clone()),
                source,
                kind: s.kind,
                doc: s.doc,
                default,
            }
        })
        .collect()
}

/// Longest topic name, bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Whether a topic may be called so: 1 to 249 of `[a-zA-Z0-9._-]`, and not `.` or `..`.
///
/// # Errors
/// Why not.
pub(crate) fn check_topic_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("empty"),
        "." | ".." => Err("'.' and '..' are not allowed"),
        n if n.len() > TOPIC_NAME_BYTES_MAX => Err("longer than 249 characters"),
        n if !n.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) => {
            Err("only letters, digits, '.', '_' and '-' are allowed")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn every_default_passes_its_own_rule() {
        for info in describe(&BTreeMap::new(), &BrokerConfig::default()) {
            assert_eq!(check(&one(info.key, &info.value)), Ok(()), "{}", info.key);
        }
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (key, value) in [
            ("cleanup.policy", "compact"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.insync.replicas", "2"),
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("no.such.setting", "1"),
        ] {
            assert_eq!(check(&one(key, value)).unwrap_err().key, key);
        }
    }

    #[test]
    fn a_topic_follows_its_own_setting_before_the_brokers() {
        let cfg = BrokerConfig { retention_ms: 5, ..BrokerConfig::default() };
        assert_eq!(resolve(&one("retention.ms", "7"), &cfg).retention_ms, 7);
        assert_eq!(resolve(&BTreeMap::new(), &cfg).retention_ms, 5);
        let info = describe(&BTreeMap::new(), &cfg);
        assert_eq!(info.iter().find(|i| i.key == "retention.ms").unwrap().source, SettingSource::Broker);
    }

    #[test]
    fn topic_names_follow_the_fields_rule() {
        assert!(check_topic_name("orders.v1_A-2").is_ok());
        for bad in ["", ".", "..", "a b", "a/b", "ü", &"x".repeat(250)] {
            assert!(check_topic_name(bad).is_err(), "{bad}");
        }
    }
}
