//! Retention: what is too old or too much is trimmed, partition by partition, by one task that looks every so often.
//!
//! The policy is read from the catalogue at each look. Trimming is a record like any other; only what is durable goes.

use std::sync::Arc;
use std::time::Duration;

use millstream_engine::catalogue::Topic;
use millstream_engine::partition::PartitionView;
use millstream_log::{Level, Limits, ReadError};
use millstream_types::Namespace;

use crate::auth::Principal;
use crate::broker::Broker;
use crate::session::{Session, SessionOptions};

/// Extents and heads looked at in one step.
const STEP_EXTENTS: usize = 256;
const STEP_HEADS: usize = 4_096;

/// Looks at every partition, for ever; ends with the broker.
pub(crate) async fn run(broker: Broker) {
    let every = Duration::from_millis(broker.config().retention_check_ms.max(10));
    let who = Principal::inner("retention");
    let session = broker.session(who, Namespace::DEFAULT, SessionOptions::default());
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = broker.closed() => return,
        }
        sweep(&broker, &session).await;
    }
}

async fn sweep(broker: &Broker, session: &Session) {
    let catalogue = broker.catalogue();
    for topic in catalogue.by_uuid.values() {
        for part in &topic.partitions {
            if let Err(e) = trim(broker, session, topic, part).await {
                tracing::warn!(topic = topic.def.name, error = %e, "retention could not look at a partition");
            }
            tokio::task::yield_now().await;
        }
    }
}

async fn trim(
    broker: &Broker,
    session: &Session,
    topic: &Arc<Topic>,
    part: &Arc<PartitionView>,
) -> Result<(), ReadError> {
    let policy = broker.topic_policy(topic);
    let start = part.start();
    if start >= part.visible_end() {
        return Ok(());
    }
    let mut before = start;
    if policy.retention_ms >= 0 {
        let now = i64::try_from(broker.wall_ms()).unwrap_or(i64::MAX);
        before = before.max(first_younger(broker, part, now.saturating_sub(policy.retention_ms)).await?);
    }
    if let Ok(bytes) = u64::try_from(policy.retention_bytes) {
        before = before.max(first_within(broker, part, bytes).await?);
    }
    if before > start {
        match session.trim(part.log, before).await {
            Ok(Ok(new_start)) => {
                tracing::debug!(
                    topic = topic.def.name,
                    log = part.log.0,
                    from = start,
                    to = new_start,
                    "retention trimmed"
                );
            }
            Ok(Err(e)) => tracing::debug!(topic = topic.def.name, error = %e, "retention did not trim"),
            Err(e) => tracing::warn!(topic = topic.def.name, error = %e, "retention could not trim"),
        }
    }
    Ok(())
}

/// The first position whose entry is at least as young as `cutoff_ms`; the end if there is none.
async fn first_younger(broker: &Broker, part: &Arc<PartitionView>, cutoff_ms: i64) -> Result<u64, ReadError> {
    let end = part.visible_end();
    let reader = broker.streams().reader();
    let head = reader.by_time(part.log, part.start(), cutoff_ms, Level::Durable).await?;
    Ok(head.map_or(end, |h| h.pos.min(end)))
}

/// The first position from which on at most `bytes` are left, but never past the last entry: as in the field, the newest stays.
async fn first_within(broker: &Broker, part: &Arc<PartitionView>, bytes: u64) -> Result<u64, ReadError> {
    let reader = broker.streams().reader();
    let (mut pos, end) = (part.start(), part.visible_end());
    // The bounds are about right; what they say too much would be lost, so it is counted before anything goes.
    if reader.bounds(part.log).bytes <= bytes {
        return Ok(pos);
    }
    let mut excess = held(broker, part, pos).await?.saturating_sub(bytes);
    // Whole extents first: no entry of them is looked at.
    'extents: while excess > 0 {
        let extents = reader.extents(part.log, pos, STEP_EXTENTS).await?;
        if extents.is_empty() {
            break;
        }
        for e in extents {
            if e.end >= end || e.bytes > excess {
                break 'extents;
            }
            excess -= e.bytes;
            pos = e.end;
        }
    }
    while excess > 0 && pos < end {
        let limits = Limits { max_bytes: usize::MAX, max_entries: STEP_HEADS, end_pos: end };
        let heads = reader.heads(part.log, pos, limits, Level::Durable).await?;
        if heads.is_empty() {
            break;
        }
        for h in heads {
            let size = u64::from(h.body_len) + h.attrs.len() as u64;
            let next = h.pos + u64::from(h.count);
            if size > excess || next >= end {
                return Ok(pos);
            }
            excess -= size;
            pos = next;
        }
    }
    Ok(pos)
}

/// Bytes held from `from` on. Extents count whole, but for the one that `from` lies in: of it only what is left.
async fn held(broker: &Broker, part: &Arc<PartitionView>, from: u64) -> Result<u64, ReadError> {
    let reader = broker.streams().reader();
    let (mut held, mut at) = (0, from);
    loop {
        let extents = reader.extents(part.log, at, STEP_EXTENTS).await?;
        for e in &extents {
            held += if at == from { bytes_between(broker, part, from, e.end).await? } else { e.bytes };
            at = e.end;
        }
        if extents.is_empty() {
            return Ok(held);
        }
    }
}

/// Bytes of the entries from `pos` to `end`, which may lie past what is visible.
async fn bytes_between(
    broker: &Broker,
    part: &Arc<PartitionView>,
    mut pos: u64,
    end: u64,
) -> Result<u64, ReadError> {
    let reader = broker.streams().reader();
    let mut bytes = 0;
    while pos < end {
        let limits = Limits { max_bytes: usize::MAX, max_entries: STEP_HEADS, end_pos: end };
        let heads = reader.heads(part.log, pos, limits, Level::Durable).await?;
        let Some(last) = heads.last() else { break };
        pos = last.pos + u64::from(last.count);
        bytes += heads.iter().map(|h| u64::from(h.body_len) + h.attrs.len() as u64).sum::<u64>();
    }
    Ok(bytes)
}
