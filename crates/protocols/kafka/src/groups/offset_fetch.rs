//! `OffsetFetch`: of one group (to version 7) or several (from 8 on), of named partitions or all. Version 10 names topics by id; the
//! decoder gives the id as 32 hexadecimal digits in place of the name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, TopicName};
use millstream_broker::group::{CommittedOffset, GroupOp, GroupReply};
use millstream_broker::{Action, Snapshot};
use millstream_types::LogId;
use uuid::Uuid;

use super::offset_commit::TOPIC_ID_SINCE;
use super::{MISMATCH, ask, count};
use crate::connection::Conn;
use crate::error::NONE;
use crate::num::i32_of_u32;
use crate::wire::{Close, Header, text};

/// First version with several groups.
const SEVERAL_SINCE: i16 = 8;
/// First version with an error of the request as a whole.
const TOP_ERROR_SINCE: i16 = 2;

/// Topics and partitions as asked for; `None` = all.
type Wanted = Option<Vec<(TopicName, Vec<i32>)>>;

/// One partition's answer: index, offset (or none), error.
type Answer = (i32, Option<CommittedOffset>, i16);

/// The answers of a topic, and what it is called in the response.
struct TopicAnswers {
    name: TopicName,
    id: Uuid,
    partitions: Vec<Answer>,
}

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: OffsetFetchRequest,
) -> Result<OffsetFetchResponse, Close> {
    let by_id = h.version >= TOPIC_ID_SINCE;
    if h.version >= SEVERAL_SINCE {
        let mut groups = Vec::with_capacity(req.groups.len());
        for g in req.groups {
            let wanted = g.topics.map(|ts| ts.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
            let response = OffsetFetchResponseGroup::default().with_group_id(g.group_id.clone());
            groups.push(match group(&conn, &g.group_id, wanted, by_id).await? {
                Ok(topics) => response.with_topics(topics.into_iter().map(topic_of_group).collect()),
                Err(e) => {
                    count(&conn, h.api.name, e.code());
                    response.with_error_code(e.code())
                }
            });
        }
        return Ok(OffsetFetchResponse::default().with_groups(groups));
    }
    // Version 1 has no null: there an empty list asks for nothing.
    let wanted: Wanted = req.topics.map(|ts| ts.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
    let names = wanted.clone();
    Ok(match group(&conn, &req.group_id, wanted, by_id).await? {
        Ok(topics) => OffsetFetchResponse::default().with_topics(topics.into_iter().map(topic).collect()),
        Err(e) => {
            count(&conn, h.api.name, e.code());
            let response = OffsetFetchResponse::default();
            if h.version >= TOP_ERROR_SINCE {
                response.with_error_code(e.code())
            } else {
                response.with_topics(failed(names, e))
            }
        }
    })
}

/// Version 1 has room for errors at the partitions only.
fn failed(wanted: Wanted, e: ResponseError) -> Vec<OffsetFetchResponseTopic> {
    let topics = wanted.unwrap_or_default().into_iter().map(|(name, indices)| TopicAnswers {
        name,
        id: Uuid::nil(),
        partitions: indices.into_iter().map(|i| (i, None, e.code())).collect(),
    });
    topics.map(topic).collect()
}

async fn group(
    conn: &Conn,
    group: &str,
    wanted: Wanted,
    by_id: bool,
) -> Result<Result<Vec<TopicAnswers>, ResponseError>, Close> {
    let catalogue = conn.broker.catalogue();
    let everything = wanted.is_none();
    // What cannot be found is answered here; the rest goes to the coordinator.
    let (mut answers, places, parts) = match wanted {
        None => (Vec::new(), Vec::new(), None),
        Some(wanted) => {
            let (answers, places) = plan(conn, &catalogue, wanted, by_id);
            let parts = places.iter().map(|(log, ..)| *log).collect();
            (answers, places, Some(parts))
        }
    };
    let op = GroupOp::FetchOffsets { ns: conn.ns, group: group.to_owned(), parts };
    let offsets = match ask(conn, group, op).await? {
        Ok(GroupReply::Offsets(offsets)) => offsets,
        Ok(_) => return Ok(Err(MISMATCH)),
        Err(e) => return Ok(Err(e)),
    };
    if everything {
        return Ok(Ok(all(conn, &conn.broker.catalogue(), offsets, by_id)));
    }
    let found: HashMap<LogId, Option<CommittedOffset>> = offsets.into_iter().collect();
    for (log, topic, partition) in places {
        let slot = answers.get_mut(topic).and_then(|t| t.partitions.get_mut(partition));
        if let Some((_, offset, _)) = slot {
            *offset = found.get(&log).cloned().flatten();
        }
    }
    Ok(Ok(answers))
}

/// The answers as far as they are known, and for each partition that exists its log and its place in them.
fn plan(
    conn: &Conn,
    catalogue: &Snapshot,
    wanted: Vec<(TopicName, Vec<i32>)>,
    by_id: bool,
) -> (Vec<TopicAnswers>, Vec<(LogId, usize, usize)>) {
    let mut answers = Vec::with_capacity(wanted.len());
    let mut places = Vec::new();
    for (asked, indices) in wanted {
        let (name, id, topic) = if by_id {
            let id = Uuid::parse_str(&asked).unwrap_or_default();
            (TopicName::default(), id, catalogue.by_uuid.get(id.as_bytes()).filter(|t| t.def.ns == conn.ns))
        } else {
            let topic = catalogue.by_name.get(&(conn.ns, asked.to_string()));
            (asked, Uuid::nil(), topic)
        };
        let denied = topic.is_some_and(|t| !conn.may_topic(Action::Describe, &t.def.name));
        let code = match topic {
            None if by_id => ResponseError::UnknownTopicId.code(),
            Some(_) if denied => ResponseError::TopicAuthorizationFailed.code(),
            // By name, what does not exist simply has no committed offset.
            _ => NONE,
        };
        let mut partitions = Vec::with_capacity(indices.len());
        for index in indices {
            let log = topic.filter(|_| !denied).and_then(|t| t.def.log(u32::try_from(index).ok()?));
            if let Some(log) = log {
                places.push((log, answers.len(), partitions.len()));
            }
            partitions.push((index, None, code));
        }
        answers.push(TopicAnswers { name, id, partitions });
    }
    (answers, places)
}

/// All of a group's offsets, by topic.
fn all(
    conn: &Conn,
    catalogue: &Snapshot,
    offsets: Vec<(LogId, Option<CommittedOffset>)>,
    by_id: bool,
) -> Vec<TopicAnswers> {
    let mut topics: BTreeMap<&str, TopicAnswers> = BTreeMap::new();
    for (log, offset) in offsets {
        let Some((topic, index)) = catalogue.by_log.get(&log) else { continue };
        if offset.is_none() || !conn.may_topic(Action::Describe, &topic.def.name) {
            continue;
        }
        let answers = topics.entry(&topic.def.name).or_insert_with(|| TopicAnswers {
            name: if by_id { TopicName::default() } else { TopicName(text(&topic.def.name)) },
            id: if by_id { Uuid::from_bytes(topic.def.uuid) } else { Uuid::nil() },
            partitions: Vec::new(),
        });
        answers.partitions.push((i32_of_u32(*index), offset, NONE));
    }
    topics.into_values().collect()
}

/// Offset, leader epoch and metadata as the protocol has them; -1 and empty = none.
fn fields(offset: Option<CommittedOffset>) -> (i64, i32, kafka_protocol::protocol::StrBytes) {
    offset.map_or((-1, -1, text("")), |o| (o.offset.cast_signed(), o.leader_epoch, text(&o.metadata)))
}

fn topic(t: TopicAnswers) -> OffsetFetchResponseTopic {
    let partitions = t.partitions.into_iter().map(|(index, offset, code)| {
        let (offset, epoch, metadata) = fields(offset);
        OffsetFetchResponsePartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(Some(metadata))
            .with_error_code(code)
    });
    OffsetFetchResponseTopic::default().with_name(t.name).with_partitions(partitions.collect())
}

fn topic_of_group(t: TopicAnswers) -> OffsetFetchResponseTopics {
    let partitions = t.partitions.into_iter().map(|(index, offset, code)| {
        let (offset, epoch, metadata) = fields(offset);
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(epoch)
            .with_metadata(Some(metadata))
            .with_error_code(code)
    });
    OffsetFetchResponseTopics::default()
        .with_name(t.name)
        .with_topic_id(t.id)
        .with_partitions(partitions.collect())
}
