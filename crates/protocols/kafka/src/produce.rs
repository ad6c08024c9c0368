//! Produce: batches are checked, submitted in the order they were read, and answered when they survive a crash.
//!
//! Kafka's order of checks: acks, the transactional id, then for each partition that it exists, that the records field holds
//! exactly one whole batch, and that its topic takes it.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use millstream_broker::{
    Action, AppendItem, AppendKind, Appended, BatchMeta, Class, Op, Pending, Refused, Reply, Session,
    Snapshot, Topic,
};
use uuid::Uuid;

use crate::batch::{self, Checked};
use crate::connection::{Conn, Job};
use crate::error;
use crate::num::i64_of;
use crate::wire::{self, Close, Header, Out, message};

/// Batches of one request that become one commit record, bytes: a larger request becomes several.
const APPEND_BYTES_MAX: usize = 4 << 20;
/// A record may be so far ahead of the broker's clock, milliseconds, as Kafka's default: beyond it would outlive its retention.
const TIMESTAMP_AHEAD_MS_MAX: i64 = 3_600_000;
/// First version that names topics by id.
const TOPIC_ID_SINCE: i16 = 13;

/// What became of one partition's batch.
enum Outcome {
    Refused(ResponseError, Option<StrBytes>),
    /// Submitted, or about to be.
    Submitted,
    Stored(Appended),
}

struct Slot {
    index: i32,
    outcome: Outcome,
}

struct TopicSlots {
    name: TopicName,
    id: Uuid,
    slots: Vec<Slot>,
}

/// Where an item's answer goes: (topic, partition) in the request.
type Place = (usize, usize);

/// Begins a request: when this returns, everything that is to be stored has been submitted.
///
/// # Errors
/// The connection is to be closed; nothing of the request was submitted then.
pub(crate) async fn begin(conn: &Arc<Conn>, h: Header, body: Bytes) -> Result<Job, Close> {
    let req: ProduceRequest = wire::decode(&h, body)?;
    let acks = req.acks;
    let mut answers = Vec::with_capacity(req.topic_data.len());
    let mut submitter =
        Submitter { conn, group: Vec::new(), places: Vec::new(), bytes: 0, submitted: Vec::new() };
    let whole = whole_request(&req);
    let catalogue = conn.broker.catalogue();
    for topic in req.topic_data {
        let place = answers.len();
        let mut slots = Vec::with_capacity(topic.partition_data.len());
        let found = whole.clone().map_or_else(|| find(conn, &h, &catalogue, &topic), Err);
        for data in topic.partition_data {
            let checked =
                found.as_ref().map_err(Clone::clone).and_then(|topic| item(conn, h.version, topic, &data));
            let outcome = match checked {
                Ok(item) => {
                    submitter.add(item, (place, slots.len())).await;
                    Outcome::Submitted
                }
                Err((code, why)) => Outcome::Refused(code, why),
            };
            slots.push(Slot { index: data.index, outcome });
        }
        answers.push(TopicSlots { name: topic.name, id: topic.topic_id, slots });
    }
    submitter.flush().await;
    let work = Box::pin(finish(Arc::clone(conn), h, acks, submitter.submitted, answers));
    Ok(Job { work, waits: false, may_be_overtaken: true })
}

type Refusal = (ResponseError, Option<StrBytes>);

/// What concerns every partition of the request.
fn whole_request(req: &ProduceRequest) -> Option<Refusal> {
    if !(-1..=1).contains(&req.acks) {
        return Some((ResponseError::InvalidRequiredAcks, None));
    }
    if req.transactional_id.is_some() {
        return Some((
            ResponseError::TransactionalIdAuthorizationFailed,
            Some(message("transactions are not supported")),
        ));
    }
    None
}

fn find(
    conn: &Conn,
    h: &Header,
    catalogue: &Snapshot,
    asked: &TopicProduceData,
) -> Result<Arc<Topic>, Refusal> {
    let topic = if h.version >= TOPIC_ID_SINCE {
        let found = catalogue.by_uuid.get(asked.topic_id.as_bytes()).filter(|t| t.def.ns == conn.ns);
        found.ok_or((ResponseError::UnknownTopicId, None))?
    } else {
        let found = catalogue.by_name.get(&(conn.ns, asked.name.to_string()));
        found.ok_or((ResponseError::UnknownTopicOrPartition, None))?
    };
    if conn.may_topic(Action::Write, &topic.def.name) {
        Ok(Arc::clone(topic))
    } else {
        Err((ResponseError::TopicAuthorizationFailed, None))
    }
}

fn item(
    conn: &Conn,
    version: i16,
    topic: &Topic,
    data: &PartitionProduceData,
) -> Result<AppendItem, Refusal> {
    let unknown = (ResponseError::UnknownTopicOrPartition, None);
    let index = usize::try_from(data.index).map_err(|_| unknown.clone())?;
    let part = topic.partitions.get(index).ok_or(unknown)?;
    let records = data.records.clone().unwrap_or_default();
    let max = usize::try_from(conn.broker.topic_policy(topic).message_bytes_max).unwrap_or(usize::MAX);
    // With small segment files a topic's setting may allow more than the log takes.
    let max = max.min(conn.broker.append_bytes_max());
    let checked = batch::check(version, &records, max).map_err(|e| (e.code(), Some(message(&e))))?;
    if checked.max_timestamp > i64_of(conn.broker.wall_ms()).saturating_add(TIMESTAMP_AHEAD_MS_MAX) {
        let why = "a timestamp is more than an hour ahead of the broker's clock";
        return Err((ResponseError::InvalidTimestamp, Some(message(why))));
    }
    Ok(append_item(part.log, &checked, records))
}

fn append_item(part: millstream_types::LogId, checked: &Checked, records: Bytes) -> AppendItem {
    let h = &checked.header;
    let meta = BatchMeta {
        producer: h.producer_id,
        epoch: h.producer_epoch,
        first_seq: h.base_sequence,
        records: checked.count,
        flags: h.attributes,
    };
    AppendItem {
        part,
        kind: AppendKind::Batch(meta),
        count: checked.count,
        max_ts_ms: checked.max_timestamp,
        body: vec![records],
    }
}

/// Gathers items into commit records and submits them.
struct Submitter<'a> {
    conn: &'a Conn,
    group: Vec<AppendItem>,
    places: Vec<Place>,
    bytes: usize,
    submitted: Vec<(Vec<Place>, Result<Pending, Refused>)>,
}

impl Submitter<'_> {
    async fn add(&mut self, item: AppendItem, place: Place) {
        let bytes = Session::append_bytes(std::slice::from_ref(&item));
        if self.bytes + bytes > APPEND_BYTES_MAX {
            self.flush().await;
        }
        self.bytes += bytes;
        self.group.push(item);
        self.places.push(place);
    }

    /// Waits for room, which is what holds back a client that sends faster than the disk writes.
    async fn flush(&mut self) {
        if self.group.is_empty() {
            return;
        }
        self.bytes = 0;
        let (group, places) = (std::mem::take(&mut self.group), std::mem::take(&mut self.places));
        let (records, bytes) = group.iter().fold((0, 0), |(r, b), i| {
            (r + u64::from(i.count), b + i.body.iter().map(Bytes::len).sum::<usize>())
        });
        let permit = self.conn.session.admit(Class::Publish, Session::append_bytes(&group)).await;
        let pending = permit.map(|p| self.conn.session.submit(Some(p), Op::Append(group)));
        if pending.is_ok() {
            self.conn.cfg.observer.produced(records, u64::try_from(bytes).unwrap_or(u64::MAX));
        }
        self.submitted.push((places, pending));
    }
}

async fn finish(
    conn: Arc<Conn>,
    h: Header,
    acks: i16,
    submitted: Vec<(Vec<Place>, Result<Pending, Refused>)>,
    mut answers: Vec<TopicSlots>,
) -> Result<Option<Out>, Close> {
    for (places, pending) in submitted {
        let results = match pending {
            Err(refused) => {
                places.iter().map(|_| Err((error::of_refused(&refused), Some(message(&refused))))).collect()
            }
            Ok(pending) => match pending.await {
                Reply::Append(results) => results
                    .into_iter()
                    .map(|r| r.map_err(|e| (error::of_append(&e), Some(message(&e)))))
                    .collect(),
                _ => return Err(Close::FateUnknown),
            },
        };
        settle(&mut answers, &places, results);
    }
    let failed = answers.iter().flat_map(|t| &t.slots).find_map(|s| match &s.outcome {
        Outcome::Refused(e, _) => Some(e.code()),
        Outcome::Stored(_) | Outcome::Submitted => None,
    });
    if let Some(code) = failed {
        conn.cfg.observer.error(h.api.name, code);
    }
    if acks == 0 {
        return failed.map_or(Ok(None), |code| Err(Close::Unacknowledged(code)));
    }
    let responses = answers.into_iter().map(topic_response).collect();
    wire::encode(&h, &ProduceResponse::default().with_responses(responses)).map(Some)
}

fn settle(answers: &mut [TopicSlots], places: &[Place], results: Vec<Result<Appended, Refusal>>) {
    for ((topic, slot), result) in places.iter().zip(results) {
        if let Some(slot) = answers.get_mut(*topic).and_then(|t| t.slots.get_mut(*slot)) {
            slot.outcome = match result {
                Ok(appended) => Outcome::Stored(appended),
                Err((code, why)) => Outcome::Refused(code, why),
            };
        }
    }
}

fn topic_response(topic: TopicSlots) -> TopicProduceResponse {
    let partitions = topic.slots.into_iter().map(|s| {
        let response = PartitionProduceResponse::default()
            .with_index(s.index)
            .with_log_append_time_ms(-1)
            .with_base_offset(-1)
            .with_log_start_offset(-1);
        match s.outcome {
            Outcome::Stored(a) => {
                response.with_base_offset(i64_of(a.base)).with_log_start_offset(i64_of(a.start))
            }
            Outcome::Refused(e, why) => response.with_error_code(e.code()).with_error_message(why),
            // Every submitted item has had its result: this is a reply with fewer results than items.
            Outcome::Submitted => response.with_error_code(ResponseError::UnknownServerError.code()),
        }
    });
    TopicProduceResponse::default()
        .with_name(topic.name)
        .with_topic_id(topic.id)
        .with_partition_responses(partitions.collect())
}
