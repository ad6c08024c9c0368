//! The attributes of a queue that can be set: what each may be, and where it is kept.
//!
//! Start at [`apply`]. What the engine acts upon is in the queue's policy, whoever set it; the rest is kept with its settings under `aws.`.

use millstream_broker::queue::policy::QueuePolicy;
use millstream_broker::{DeadLetter, QueueSettings};

use super::mapping::BODY_BYTES_MAX;
use super::{fifo, policy, redrive};
use crate::error::{AwsError, Kind, shown};
use crate::server::Cx;

/// `MaximumMessageSize`, where it is not the largest.
pub(crate) const MAX_BYTES: &str = "aws.message_bytes_max";
/// `ReceiveMessageWaitTimeSeconds`, where it is not 0.
pub(crate) const WAIT_S: &str = "aws.wait_s";
/// `Policy`.
pub(crate) const POLICY: &str = "aws.policy";
/// `RedriveAllowPolicy`.
pub(crate) const REDRIVE_ALLOW: &str = "aws.redrive_allow";
/// When attributes were last set, milliseconds since the epoch.
pub(crate) const MODIFIED_MS: &str = "aws.modified_ms";

/// `MessageRetentionPeriod` of a queue made without one, milliseconds: 4 days.
pub(crate) const RETENTION_MS_DEFAULT: u64 = 4 * 86_400_000;
/// The longest, seconds: 14 days.
pub(crate) const RETENTION_S_MAX: u64 = 14 * 86_400;
/// Longest `VisibilityTimeout`, seconds: 12 hours.
pub(crate) const VISIBILITY_S_MAX: u64 = 12 * 3_600;
/// Longest `DelaySeconds`.
pub(crate) const DELAY_S_MAX: u64 = 900;
/// Longest wait of a receive, seconds.
pub(crate) const WAIT_S_MAX: u64 = 20;

/// Attributes that are told of and cannot be set.
pub(crate) const READ_ONLY: &[&str] = &[
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];

/// A queue that attributes are set on.
pub(crate) struct Target<'a> {
    pub(crate) name: &'a str,
    pub(crate) policy: &'a mut QueuePolicy,
    pub(crate) settings: &'a mut QueueSettings,
}

pub(crate) fn unknown(name: &str) -> AwsError {
    AwsError::new(Kind::InvalidAttributeName, format!("Unknown Attribute {}.", shown(name)))
}

fn wrong(name: &str, why: &str) -> AwsError {
    AwsError::new(
        Kind::InvalidAttributeValue,
        format!("Invalid value for the parameter {name}. Reason: {why}."),
    )
}

/// Sets one attribute.
///
/// # Errors
/// `InvalidAttributeName` or `InvalidAttributeValue`; `InvalidParameterValue` for a redrive policy that names what is not there.
pub(crate) fn apply(cx: &Cx<'_>, t: &mut Target<'_>, name: &str, value: &str) -> Result<(), AwsError> {
    let number = |min: u64, max: u64| {
        let n = value.parse::<u64>().ok().filter(|n| (min..=max).contains(n));
        n.ok_or_else(|| wrong(name, &format!("it must be a whole number from {min} to {max}")))
    };
    match name {
        // 0 seconds are 1 ms: a lease that is over as soon as it began.
        "VisibilityTimeout" => t.policy.lease_ms = (number(0, VISIBILITY_S_MAX)? * 1_000).max(1),
        "DelaySeconds" => t.policy.delay_ms = number(0, DELAY_S_MAX)? * 1_000,
        "MessageRetentionPeriod" => t.policy.ttl_ms = Some(number(60, RETENTION_S_MAX)? * 1_000),
        "MaximumMessageSize" => {
            let max = BODY_BYTES_MAX as u64;
            let n = number(1_024, max)?;
            keep(t.settings, MAX_BYTES, (n != max).then(|| n.to_string()));
        }
        "ReceiveMessageWaitTimeSeconds" => {
            let n = number(0, WAIT_S_MAX)?;
            keep(t.settings, WAIT_S, (n != 0).then(|| n.to_string()));
        }
        "Policy" => {
            if !value.is_empty() {
                policy::check(value)?;
            }
            keep(t.settings, POLICY, (!value.is_empty()).then(|| value.to_owned()));
        }
        "RedrivePolicy" => match redrive::policy(cx, t.name, fifo::is_fifo(t.policy), value)? {
            None => {
                t.settings.dead_letter = None;
                t.policy.attempts_max = None;
            }
            Some((to, attempts_max)) => {
                t.policy.attempts_max = Some(attempts_max);
                t.settings.dead_letter = Some(DeadLetter {
                    exchange: String::new(),
                    routing_key: Some(to),
                    at_least_once: true,
                    not_expired: true,
                    // On AWS the dead letters of a standard queue grow no younger, those of a FIFO queue do.
                    keeps_age: !fifo::is_fifo(t.policy),
                });
            }
        },
        "RedriveAllowPolicy" => {
            redrive::check_allow_policy(value).map_err(|why| wrong(name, why))?;
            keep(t.settings, REDRIVE_ALLOW, (!value.is_empty()).then(|| value.to_owned()));
        }
        "KmsMasterKeyId" if value.is_empty() => {}
        "SqsManagedSseEnabled" if value == "false" => {}
        "KmsMasterKeyId" | "KmsDataKeyReusePeriodSeconds" | "SqsManagedSseEnabled" => {
            return Err(wrong(name, "messages are not encrypted at rest, and there is no key management"));
        }
        other => {
            let fifo = if fifo::is_fifo(t.policy) { fifo::apply(t.settings, other, value) } else { None };
            fifo.ok_or_else(|| unknown(other))??;
        }
    }
    // Whether there is one is said in both.
    t.policy.dead_letter = t.settings.dead_letter.is_some();
    Ok(())
}

pub(crate) fn keep(settings: &mut QueueSettings, name: &str, value: Option<String>) {
    match value {
        Some(value) => drop(settings.more.insert(name.to_owned(), value)),
        None => drop(settings.more.remove(name)),
    }
}
