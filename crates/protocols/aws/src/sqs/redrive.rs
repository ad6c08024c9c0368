//! Dead-letter queues: the redrive policy, who may name a queue in theirs, and who does.

use millstream_broker::queue::api::QueueDef;
use millstream_broker::{Action, QueueSettings};
use serde_json::{Value, json};

use super::settings::REDRIVE_ALLOW;
use super::{fifo, names};
use crate::answer::Answer;
use crate::config::AwsConfig;
use crate::error::AwsError;
use crate::params::Params;
use crate::server::Cx;

/// Most receives that a redrive policy can ask for.
const RECEIVES_MAX: u64 = 1_000;
/// Source queues of a redrive allow policy.
const SOURCES_MAX: usize = 10;

/// Reads a redrive policy of a queue: the name of its dead-letter queue, and after how many receives. Empty: none.
pub(crate) fn policy(
    cx: &Cx<'_>,
    queue: &str,
    is_fifo: bool,
    value: &str,
) -> Result<Option<(String, u32)>, AwsError> {
    if value.is_empty() {
        return Ok(None);
    }
    let wrong = |reason: &str| AwsError::value("RedrivePolicy", value, reason);
    let Ok(Value::Object(map)) = serde_json::from_str::<Value>(value) else {
        return Err(wrong("Redrive policy is not a valid JSON map."));
    };
    let known = |k: &String| matches!(k.as_str(), "deadLetterTargetArn" | "maxReceiveCount");
    if !map.keys().all(known) {
        return Err(wrong(
            "Only following attributes are supported: [deadLetterTargetArn, maxReceiveCount].",
        ));
    }
    let arn = map.get("deadLetterTargetArn").and_then(Value::as_str);
    let arn = arn
        .ok_or_else(|| wrong("Redrive policy does not contain mandatory attribute: deadLetterTargetArn."))?;
    let count = map.get("maxReceiveCount");
    let count = count
        .ok_or_else(|| wrong("Redrive policy does not contain mandatory attribute: maxReceiveCount."))?;
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok());
    let count = count.filter(|n| (1..=RECEIVES_MAX).contains(n)).and_then(|n| u32::try_from(n).ok());
    let count = count.ok_or_else(|| wrong("maxReceiveCount must be a whole number from 1 to 1000."))?;
    let to =
        names::name_in_arn(arn).ok_or_else(|| wrong("deadLetterTargetArn is not the ARN of a queue."))?;
    if to == queue {
        return Err(wrong("A queue cannot be its own dead letter target."));
    }
    let target = cx.named(to, Action::Describe).map_err(|_| wrong("Dead letter target does not exist."))?;
    if fifo::is_fifo(&target.policy) != is_fifo {
        return Err(wrong("Dead-letter queue must be same type of queue as the source."));
    }
    if !allows(&target, queue) {
        return Err(wrong("The dead letter target's redrive allow policy does not allow this queue."));
    }
    Ok(Some((to.to_owned(), count)))
}

/// The redrive policy of a queue, as it is told of: one whose dead messages go to one queue.
pub(crate) fn shown(cfg: &AwsConfig, def: &QueueDef) -> Option<String> {
    let to = dead_letter_queue(def)?;
    let count = def.policy.attempts_max?;
    Some(json!({"deadLetterTargetArn": names::arn(cfg, &to), "maxReceiveCount": count}).to_string())
}

/// The queue that a queue's dead messages go to, if they go to one by its name.
pub(crate) fn dead_letter_queue(def: &QueueDef) -> Option<String> {
    let target = QueueSettings::of(def).dead_letter?;
    target.exchange.is_empty().then_some(())?;
    target.routing_key
}

/// Checks a redrive allow policy.
pub(crate) fn check_allow_policy(value: &str) -> Result<(), &'static str> {
    if value.is_empty() {
        return Ok(());
    }
    let Ok(Value::Object(map)) = serde_json::from_str::<Value>(value) else {
        return Err("it must be a JSON map");
    };
    let sources = match map.get("sourceQueueArns") {
        None => None,
        Some(Value::Array(all)) if all.iter().all(Value::is_string) => Some(all.len()),
        Some(_) => return Err("sourceQueueArns must be a list of ARNs"),
    };
    match (map.get("redrivePermission").and_then(Value::as_str), sources) {
        (Some("allowAll" | "denyAll"), None) => Ok(()),
        (Some("byQueue"), Some(n)) if (1..=SOURCES_MAX).contains(&n) => Ok(()),
        (Some("byQueue"), _) => Err("with byQueue, sourceQueueArns must name 1 to 10 queues"),
        (Some("allowAll" | "denyAll"), Some(_)) => Err("sourceQueueArns goes with byQueue only"),
        _ => Err("redrivePermission must be allowAll, denyAll or byQueue"),
    }
}

/// Whether a dead-letter queue lets this queue name it.
fn allows(target: &QueueDef, source: &str) -> bool {
    let Some(policy) = QueueSettings::more_of(target, REDRIVE_ALLOW) else { return true };
    let policy: Value = serde_json::from_str(policy).unwrap_or_default();
    match policy.get("redrivePermission").and_then(Value::as_str) {
        Some("denyAll") => false,
        Some("byQueue") => {
            let sources = policy.get("sourceQueueArns").and_then(Value::as_array);
            let mut names = sources.into_iter().flatten().filter_map(|v| names::name_in_arn(v.as_str()?));
            names.any(|n| n == source)
        }
        _ => true,
    }
}

/// Whether some queue's dead messages go to this one.
pub(crate) fn is_dead_letter_queue(cx: &Cx<'_>, name: &str) -> bool {
    let all = cx.server.broker.queues(cx.session.namespace());
    all.iter().any(|q| dead_letter_queue(q).is_some_and(|to| to == name))
}

/// `ListDeadLetterSourceQueues`.
pub(crate) fn sources(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Describe)?;
    let all = cx.server.broker.queues(cx.session.namespace());
    let sources = all.into_iter().filter(|q| dead_letter_queue(q).is_some_and(|to| to == def.name));
    let names = sources.map(|q| q.name.clone()).collect();
    super::queues::page(cx, p, a, names, "queueUrls")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_policies_are_checked() {
        for good in [
            "",
            r#"{"redrivePermission":"allowAll"}"#,
            r#"{"redrivePermission":"byQueue","sourceQueueArns":["a"]}"#,
        ] {
            assert_eq!(check_allow_policy(good), Ok(()), "{good}");
        }
        for bad in [
            "x",
            "[]",
            "{}",
            r#"{"redrivePermission":"some"}"#,
            r#"{"redrivePermission":"byQueue"}"#,
            r#"{"redrivePermission":"byQueue","sourceQueueArns":[]}"#,
            r#"{"redrivePermission":"byQueue","sourceQueueArns":[1]}"#,
            r#"{"redrivePermission":"denyAll","sourceQueueArns":["a"]}"#,
        ] {
            assert!(check_allow_policy(bad).is_err(), "{bad}");
        }
    }
}
