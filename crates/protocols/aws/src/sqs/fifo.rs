//! FIFO queues: what makes a queue one, its own attributes, and by what duplicates are told apart.
//!
//! A queue is FIFO if it orders by key, whoever made it, whatever its name.

use std::hash::Hasher as _;

use millstream_broker::queue::api::QueueDef;
use millstream_broker::queue::policy::{Ordering, QueuePolicy};
use millstream_broker::{QueueSettings, Sent};
use sha2::{Digest, Sha256};
use siphasher::sip128::{Hasher128, SipHasher24};

use super::mapping::is_id;
use super::settings::keep;
use crate::error::{AwsError, Kind};
use crate::hex::hex;
use crate::params::Params;

/// A message with an id that came within so long before is not taken again, milliseconds: 5 minutes.
pub(crate) const ID_WINDOW_MS: u64 = 300_000;

/// `ContentBasedDeduplication`, if it is on.
const BY_CONTENT: &str = "aws.deduplication_by_content";
/// `DeduplicationScope`, if it is not the queue.
const BY_GROUP: &str = "aws.deduplication_by_group";
/// `FifoThroughputLimit`, if it is not the queue's.
const LIMIT_BY_GROUP: &str = "aws.limit_by_group";

pub(crate) fn is_fifo(policy: &QueuePolicy) -> bool {
    policy.ordering == Ordering::ByKey
}

/// Makes a policy one of a FIFO queue.
pub(crate) fn make(policy: &mut QueuePolicy) {
    policy.ordering = Ordering::ByKey;
    policy.id_window_ms = Some(ID_WINDOW_MS);
}

/// Sets one of the attributes that FIFO queues alone have; `None`: it is none of them.
pub(crate) fn apply(settings: &mut QueueSettings, name: &str, value: &str) -> Option<Result<(), AwsError>> {
    let wrong = || {
        let text = format!("Invalid value for the parameter {name}.");
        Err(AwsError::new(Kind::InvalidAttributeValue, text))
    };
    let (kept, on) = match (name, value) {
        // What a queue is cannot be changed, and may be said again.
        ("FifoQueue", "true") => return Some(Ok(())),
        ("ContentBasedDeduplication", "true") => (BY_CONTENT, true),
        ("ContentBasedDeduplication", "false") => (BY_CONTENT, false),
        ("DeduplicationScope", "messageGroup") => (BY_GROUP, true),
        ("DeduplicationScope", "queue") => (BY_GROUP, false),
        ("FifoThroughputLimit", "perMessageGroupId") => (LIMIT_BY_GROUP, true),
        ("FifoThroughputLimit", "perQueue") => (LIMIT_BY_GROUP, false),
        ("FifoQueue" | "ContentBasedDeduplication" | "DeduplicationScope" | "FifoThroughputLimit", _) => {
            return Some(wrong());
        }
        _ => return None,
    };
    keep(settings, kept, on.then(|| "true".to_owned()));
    Some(Ok(()))
}

/// Whether the attributes go together.
pub(crate) fn check(settings: &QueueSettings) -> Result<(), AwsError> {
    if settings.more.contains_key(LIMIT_BY_GROUP) && !settings.more.contains_key(BY_GROUP) {
        let text = "Invalid value for the parameter FifoThroughputLimit. Reason: perMessageGroupId needs DeduplicationScope messageGroup.";
        return Err(AwsError::new(Kind::InvalidAttributeValue, text));
    }
    Ok(())
}

/// What a FIFO queue tells of itself besides what all do.
pub(crate) fn shown(def: &QueueDef) -> Vec<(&'static str, String)> {
    if !is_fifo(&def.policy) {
        return Vec::new();
    }
    let has = |name| QueueSettings::more_of(def, name).is_some();
    let scope = if has(BY_GROUP) { "messageGroup" } else { "queue" };
    let limit = if has(LIMIT_BY_GROUP) { "perMessageGroupId" } else { "perQueue" };
    vec![
        ("FifoQueue", "true".to_owned()),
        ("ContentBasedDeduplication", has(BY_CONTENT).to_string()),
        ("DeduplicationScope", scope.to_owned()),
        ("FifoThroughputLimit", limit.to_owned()),
    ]
}

/// What tells a message apart from others.
pub(crate) struct Identity {
    pub(crate) id: String,
    /// Its hash, where it counts within its group; `None`: it counts in all the queue, as other protocols' ids do.
    pub(crate) hash: Option<u128>,
}

/// The identity of a message for a FIFO queue: by its id alone it is the same whichever protocol it comes by.
///
/// # Errors
/// `MissingParameter` without a group, `InvalidParameterValue` without an id where the content is none, or with a delay of its own.
pub(crate) fn identity(
    key: &[u8; 16],
    def: &QueueDef,
    p: Params<'_>,
    body: &str,
) -> Result<Identity, AwsError> {
    let group = p.text("MessageGroupId")?.filter(|g| !g.is_empty());
    let group = group.ok_or_else(|| AwsError::missing("MessageGroupId"))?;
    if let Some(s) = p.int("DelaySeconds")?.filter(|s| *s != 0) {
        let reason = "The request include parameter that is not valid for this queue type.";
        return Err(AwsError::value("DelaySeconds", s, reason));
    }
    let id = match p.text("MessageDeduplicationId")? {
        Some(id) if is_id(id) => id.to_owned(),
        Some(id) => {
            let reason = "it can only include alphanumeric and punctuation characters. 1 to 128 in length.";
            return Err(AwsError::value("MessageDeduplicationId", id, reason));
        }
        None if QueueSettings::more_of(def, BY_CONTENT).is_some() => hex(&Sha256::digest(body.as_bytes())),
        None => {
            return Err(AwsError::invalid(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
            ));
        }
    };
    let hash = QueueSettings::more_of(def, BY_GROUP).map(|_| {
        let mut hasher = SipHasher24::new_with_key(key);
        hasher.write_u64(group.len() as u64);
        hasher.write(group.as_bytes());
        hasher.write(id.as_bytes());
        hasher.finish128().as_u128()
    });
    Ok(Identity { id, hash })
}

/// The number of a message in its queue: 20 digits, growing.
pub(crate) fn sequence_number(sent: &Sent) -> String {
    digits(sent.home.1)
}

pub(crate) fn digits(pos: u64) -> String {
    format!("{:020}", pos.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_has_twenty_digits_and_grows() {
        assert_eq!(digits(0), "00000000000000000001");
        assert_eq!(digits(u64::MAX - 1), u64::MAX.to_string());
        assert!(digits(9) < digits(10));
    }

    #[test]
    fn a_limit_by_group_needs_ids_by_group() {
        let mut s = QueueSettings::default();
        apply(&mut s, "FifoThroughputLimit", "perMessageGroupId").unwrap().unwrap();
        assert!(check(&s).is_err());
        apply(&mut s, "DeduplicationScope", "messageGroup").unwrap().unwrap();
        assert!(check(&s).is_ok());
        assert!(apply(&mut s, "DeduplicationScope", "world").unwrap().is_err());
        assert!(apply(&mut s, "DelaySeconds", "1").is_none());
    }
}
