//! `ListOffsets`: the earliest and latest offset, the first record at or past a time, and the record with the largest timestamp. The
//! last two look into batches, compressed ones too.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use millstream_broker::{Action, Content, PartitionView, ReadError, StreamEntry, Topic};

use crate::batch::records::{self, Found};
use crate::batch::single;
use crate::connection::Conn;
use crate::error;
use crate::fetch::check_epoch;
use crate::num::{i32_of_u32, i64_of};
use crate::wire::{Close, Header};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// KIP-734, version 7.
const MAX_TIMESTAMP: i64 = -3;
/// KIP-405, version 8: the earliest that is kept locally; here all is local.
const EARLIEST_LOCAL: i64 = -4;
/// KIP-1005, version 9: the latest that was moved to remote storage; here there is none.
const LATEST_TIERED: i64 = -5;
/// KIP-1023, version 11: the earliest that waits to be moved there; here there is none.
const EARLIEST_PENDING_UPLOAD: i64 = -6;
/// No such offset, timestamp or epoch.
const UNKNOWN: i64 = -1;

/// First version whose response names the leader epoch.
const LEADER_EPOCH_SINCE: i16 = 4;

/// (timestamp, offset, leader epoch)
type Answer = (i64, i64, i32);

const NOTHING: Answer = (UNKNOWN, UNKNOWN, -1);

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: ListOffsetsRequest,
) -> Result<ListOffsetsResponse, Close> {
    let mut seen = HashSet::new();
    let (mut repeated, mut refused) = (HashSet::new(), HashSet::new());
    for topic in &req.topics {
        for p in &topic.partitions {
            if !seen.insert((&topic.name, p.partition_index)) {
                repeated.insert((topic.name.clone(), p.partition_index));
            }
        }
    }
    let catalogue = conn.broker.catalogue();
    let mut topics = Vec::with_capacity(req.topics.len());
    for asked in &req.topics {
        let topic = catalogue.by_name.get(&(conn.ns, asked.name.to_string()));
        let allowed = conn.may_topic(Action::Describe, &asked.name);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for p in &asked.partitions {
            let place = (asked.name.clone(), p.partition_index);
            let result = if repeated.contains(&place) {
                // One answer for all of them, as Kafka.
                if !refused.insert(place) {
                    continue;
                }
                Err(ResponseError::InvalidRequest)
            } else if allowed {
                one(&conn, h.version, topic, p).await
            } else {
                Err(ResponseError::TopicAuthorizationFailed)
            };
            let (code, (timestamp, offset, epoch)) = match result {
                Ok(answer) => (error::NONE, answer),
                Err(e) => {
                    conn.cfg.observer.error(h.api.name, e.code());
                    (e.code(), NOTHING)
                }
            };
            let epoch = if h.version >= LEADER_EPOCH_SINCE { epoch } else { NOTHING.2 };
            partitions.push(
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(p.partition_index)
                    .with_error_code(code)
                    .with_timestamp(timestamp)
                    .with_offset(offset)
                    .with_leader_epoch(epoch),
            );
        }
        topics.push(
            ListOffsetsTopicResponse::default().with_name(asked.name.clone()).with_partitions(partitions),
        );
    }
    Ok(ListOffsetsResponse::default().with_topics(topics))
}

async fn one(
    conn: &Conn,
    version: i16,
    topic: Option<&Arc<Topic>>,
    asked: &ListOffsetsPartition,
) -> Result<Answer, ResponseError> {
    let index = usize::try_from(asked.partition_index).map_err(|_| ResponseError::UnknownTopicOrPartition)?;
    let view = topic.and_then(|t| t.partitions.get(index)).ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_epoch(view, asked.current_leader_epoch)?;
    let epoch = i32_of_u32(view.leader_epoch());
    let earliest = |view: &PartitionView| (UNKNOWN, i64_of(view.start()), epoch);
    let since = |needed: i16, answer: Answer| {
        if version >= needed { Ok(answer) } else { Err(ResponseError::UnsupportedVersion) }
    };
    match asked.timestamp {
        LATEST => Ok((UNKNOWN, i64_of(view.stable_end()), epoch)),
        EARLIEST => Ok(earliest(view)),
        EARLIEST_LOCAL => since(8, earliest(view)),
        LATEST_TIERED => since(9, NOTHING),
        EARLIEST_PENDING_UPLOAD => since(11, NOTHING),
        MAX_TIMESTAMP => {
            since(7, NOTHING)?;
            max_timestamp(conn, view).await
        }
        t if t < 0 => Err(ResponseError::UnsupportedVersion),
        t => by_time(conn, view, t).await,
    }
}

fn failed(e: &ReadError) -> ResponseError {
    error::of_read(e)
}

/// The first record whose timestamp is at least `time`. A batch whose header promises one that it does not have is passed over.
async fn by_time(conn: &Conn, view: &Arc<PartitionView>, time: i64) -> Result<Answer, ResponseError> {
    let mut from = view.start();
    loop {
        let entry = conn.broker.streams().from_time(view, from, time).await.map_err(|e| failed(&e))?;
        let Some(entry) = entry else { return Ok(NOTHING) };
        let next = entry.offset + u64::from(entry.count);
        let (base, first) = (entry.offset, from);
        let found =
            find(entry, move |f| f.timestamp >= time && base + u64::from(f.offset_delta) >= first).await?;
        if let Some(answer) = found {
            return Ok(answer);
        }
        from = next;
    }
}

async fn max_timestamp(conn: &Conn, view: &Arc<PartitionView>) -> Result<Answer, ResponseError> {
    let entry = conn.broker.streams().max_time(view).await.map_err(|e| failed(&e))?;
    let Some(entry) = entry else { return Ok(NOTHING) };
    let max = entry.max_ts_ms;
    find(entry, move |f| f.timestamp >= max).await.map(|found| found.unwrap_or(NOTHING))
}

/// Looks into an entry, on a thread that may take its time.
async fn find(
    entry: StreamEntry,
    wanted: impl Fn(&Found) -> bool + Send + 'static,
) -> Result<Option<Answer>, ResponseError> {
    let (batch, epoch) = match entry.content {
        Content::Batch { leader_epoch, body, .. } => (body, leader_epoch),
        Content::Single { message, leader_epoch, append_ms } => {
            (single::batch(&message, entry.offset, leader_epoch, append_ms), leader_epoch)
        }
    };
    let found = tokio::task::spawn_blocking(move || records::find(&batch, wanted)).await;
    match found {
        Ok(Ok(found)) => Ok(found.map(|f| {
            let offset = entry.offset + u64::from(f.offset_delta);
            (f.timestamp, i64_of(offset), i32_of_u32(epoch))
        })),
        Ok(Err(e)) => {
            tracing::warn!(error = %e, offset = entry.offset, "the records of a batch cannot be read");
            Err(ResponseError::CorruptMessage)
        }
        Err(_) => Err(ResponseError::UnknownServerError),
    }
}
