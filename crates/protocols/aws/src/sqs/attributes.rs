//! `GetQueueAttributes` and `SetQueueAttributes`.

use std::time::Duration;

use millstream_broker::queue::api::{QueueDef, QueueStats};
use millstream_broker::{Action, QueueSettings};

use super::mapping::BODY_BYTES_MAX;
use super::settings::{self, MAX_BYTES, MODIFIED_MS, POLICY, REDRIVE_ALLOW, RETENTION_S_MAX, Target, WAIT_S};
use super::{fifo, names, redrive};
use crate::answer::Answer;
use crate::error::AwsError;
use crate::params::Params;
use crate::server::Cx;

/// Attributes that FIFO queues alone have.
const FIFO_ONLY: &[&str] =
    &["FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"];
/// Attributes that are known and never told of: nothing is encrypted at rest.
const ABSENT: &[&str] = &["KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds"];

/// Largest message of a queue as SQS counts it, bytes.
pub(crate) fn message_bytes_max(def: &QueueDef) -> usize {
    QueueSettings::more_of(def, MAX_BYTES).and_then(|n| n.parse().ok()).unwrap_or(BODY_BYTES_MAX)
}

/// How long a receive waits that does not say.
pub(crate) fn wait(def: &QueueDef) -> Duration {
    let seconds = QueueSettings::more_of(def, WAIT_S).and_then(|n| n.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// All that is set on a queue, or that it tells of itself, but for its counts.
pub(crate) fn shown(cx: &Cx<'_>, def: &QueueDef) -> Vec<(&'static str, String)> {
    let cfg = &cx.server.cfg;
    let p = &def.policy;
    let more = |name| QueueSettings::more_of(def, name);
    let modified_ms = more(MODIFIED_MS).and_then(|ms| ms.parse().ok()).unwrap_or(def.created_ms);
    let retention_s = p.ttl_ms.map_or(RETENTION_S_MAX, |ms| ms / 1_000);
    let mut all = vec![
        ("QueueArn", names::arn(cfg, &def.name)),
        ("CreatedTimestamp", (def.created_ms / 1_000).to_string()),
        ("LastModifiedTimestamp", (modified_ms / 1_000).to_string()),
        ("VisibilityTimeout", (p.lease_ms / 1_000).to_string()),
        ("MaximumMessageSize", message_bytes_max(def).to_string()),
        ("MessageRetentionPeriod", retention_s.to_string()),
        ("DelaySeconds", (p.delay_ms / 1_000).to_string()),
        ("ReceiveMessageWaitTimeSeconds", wait(def).as_secs().to_string()),
        ("SqsManagedSseEnabled", "false".to_owned()),
    ];
    all.extend(more(POLICY).map(|v| ("Policy", v.to_owned())));
    all.extend(more(REDRIVE_ALLOW).map(|v| ("RedriveAllowPolicy", v.to_owned())));
    all.extend(redrive::shown(cfg, def).map(|v| ("RedrivePolicy", v)));
    all.extend(fifo::shown(def));
    all
}

fn counts(stats: &QueueStats) -> [(&'static str, String); 3] {
    // What the mover has is on its way to the dead-letter queue: nobody can see it.
    let not_visible = stats.leased.n + stats.held.n;
    [
        ("ApproximateNumberOfMessages", stats.ready.n.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", not_visible.to_string()),
        ("ApproximateNumberOfMessagesDelayed", stats.scheduled.n.to_string()),
    ]
}

pub(crate) async fn get(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Describe)?;
    let wanted = p.texts("AttributeNames", "AttributeName")?;
    let stats = cx.session.queue_stats(def.id, false).await?.ok_or_else(AwsError::no_queue)?;
    let mut all = shown(cx, &def);
    all.extend(counts(&stats));
    for name in &wanted {
        let known = all.iter().any(|a| a.0 == *name)
            || FIFO_ONLY.contains(name)
            || ABSENT.contains(name)
            || matches!(*name, "All" | "Policy" | "RedrivePolicy" | "RedriveAllowPolicy");
        if !known {
            return Err(settings::unknown(name));
        }
    }
    let everything = wanted.contains(&"All");
    let chosen: Vec<(&str, &str)> =
        all.iter().filter(|a| everything || wanted.contains(&a.0)).map(|(k, v)| (*k, v.as_str())).collect();
    if !chosen.is_empty() {
        a.text_map(("Attributes", "Attribute"), ("Name", "Value"), chosen);
    }
    Ok(())
}

pub(crate) async fn set(cx: &Cx<'_>, p: Params<'_>) -> Result<(), AwsError> {
    let def = cx.queue(p, Action::Configure)?;
    let given = p.text_map("Attributes", "Attribute", "Name", "Value")?;
    if given.is_empty() {
        return Err(AwsError::missing("Attributes"));
    }
    let now_ms = cx.server.broker.now_ms();
    let set = |def: &QueueDef, policy: &mut _, settings: &mut QueueSettings| {
        let mut target = Target { name: &def.name, policy, settings };
        for (name, value) in &given {
            settings::apply(cx, &mut target, name, value)?;
        }
        fifo::check(target.settings)?;
        settings::keep(target.settings, MODIFIED_MS, Some(now_ms.to_string()));
        Ok::<_, AwsError>(())
    };
    cx.session.update_queue(def.id, set).await??;
    Ok(())
}
