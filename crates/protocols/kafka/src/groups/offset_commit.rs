//! `OffsetCommit`. Version 10 names topics by id; the decoder gives the id as 32 hexadecimal digits in place of the name.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, TopicName};
use millstream_broker::group::{
    Commit, CommittedOffset, GroupError, GroupOp, GroupReply, OFFSET_METADATA_BYTES_MAX,
};
use millstream_broker::{Action, Topic};
use millstream_types::LogId;
use uuid::Uuid;

use super::{MISMATCH, ask, count, who};
use crate::connection::Conn;
use crate::error::{self, NONE};
use crate::wire::{Close, Header};

/// First version that names topics by id.
pub(super) const TOPIC_ID_SINCE: i16 = 10;

/// First version that knows the error of a group that does not exist (KIP-848); before it, its generation is illegal.
const GROUP_NOT_FOUND_SINCE: i16 = 9;

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: OffsetCommitRequest,
) -> Result<OffsetCommitResponse, Close> {
    let by_id = h.version >= TOPIC_ID_SINCE;
    let catalogue = conn.broker.catalogue();
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(req.topics.len());
    // Codes of partitions that are submitted come from the coordinator, in their order.
    let mut submitted: Vec<(usize, usize)> = Vec::new();
    for asked in &req.topics {
        let (answer, id, topic) = topic(&conn, &catalogue, asked, by_id);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for p in &asked.partitions {
            let checked = topic.clone().and_then(|t| offset(&t, p));
            let code = match checked {
                Ok(offset) => {
                    submitted.push((topics.len(), partitions.len()));
                    offsets.push(offset);
                    NONE
                }
                Err(e) => e.code(),
            };
            let response = OffsetCommitResponsePartition::default();
            partitions.push(response.with_partition_index(p.partition_index).with_error_code(code));
        }
        topics.push(
            OffsetCommitResponseTopic::default()
                .with_name(answer)
                .with_topic_id(id)
                .with_partitions(partitions),
        );
    }
    let codes = commit(&conn, &h, &req, offsets).await?;
    for ((topic, partition), code) in submitted.into_iter().zip(codes) {
        if let Some(p) = topics.get_mut(topic).and_then(|t| t.partitions.get_mut(partition)) {
            p.error_code = code;
        }
    }
    for p in topics.iter().flat_map(|t| &t.partitions) {
        count(&conn, h.api.name, p.error_code);
    }
    Ok(OffsetCommitResponse::default().with_topics(topics))
}

/// The topic's name and id as the response says them, and the topic.
fn topic(
    conn: &Conn,
    catalogue: &millstream_broker::Snapshot,
    asked: &OffsetCommitRequestTopic,
    by_id: bool,
) -> (TopicName, Uuid, Result<Arc<Topic>, ResponseError>) {
    let (name, id, found) = if by_id {
        let id = Uuid::parse_str(&asked.name).unwrap_or_default();
        let found = catalogue.by_uuid.get(id.as_bytes()).filter(|t| t.def.ns == conn.ns);
        (TopicName::default(), id, found.ok_or(ResponseError::UnknownTopicId))
    } else {
        let found = catalogue.by_name.get(&(conn.ns, asked.name.to_string()));
        (asked.name.clone(), Uuid::nil(), found.ok_or(ResponseError::UnknownTopicOrPartition))
    };
    let allowed = found.and_then(|t| {
        if conn.may_topic(Action::Read, &t.def.name) {
            Ok(Arc::clone(t))
        } else {
            Err(ResponseError::TopicAuthorizationFailed)
        }
    });
    (name, id, allowed)
}

fn offset(
    topic: &Topic,
    p: &OffsetCommitRequestPartition,
) -> Result<(LogId, CommittedOffset), ResponseError> {
    let index = u32::try_from(p.partition_index).map_err(|_| ResponseError::UnknownTopicOrPartition)?;
    let log = topic.def.log(index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    // Kafka keeps whatever number it is given, and kafkajs commits -1 and -2 for "the latest" and "the earliest".
    let offset = p.committed_offset.cast_unsigned();
    let metadata = p.committed_metadata.as_deref().unwrap_or_default();
    if metadata.len() > OFFSET_METADATA_BYTES_MAX {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    let leader_epoch = p.committed_leader_epoch;
    Ok((log, CommittedOffset { offset, leader_epoch, metadata: metadata.to_owned() }))
}

/// One code for each offset.
async fn commit(
    conn: &Conn,
    h: &Header,
    req: &OffsetCommitRequest,
    offsets: Vec<(LogId, CommittedOffset)>,
) -> Result<Vec<i16>, Close> {
    let n = offsets.len();
    if n == 0 {
        return Ok(Vec::new());
    }
    let generation = req.generation_id_or_member_epoch;
    let who = who(conn, &req.group_id, generation, &req.member_id, req.group_instance_id.as_ref());
    let code = |e: &GroupError| match e {
        GroupError::NotFound if h.version < GROUP_NOT_FOUND_SINCE => ResponseError::IllegalGeneration.code(),
        e => error::of_group(e).code(),
    };
    Ok(match ask(conn, &req.group_id, GroupOp::Commit(Commit { who, offsets })).await? {
        Ok(GroupReply::Commit(Ok(results))) => {
            results.iter().map(|r| r.as_ref().map_or_else(code, |()| NONE)).collect()
        }
        Ok(GroupReply::Commit(Err(e))) => vec![code(&e); n],
        Ok(_) => vec![MISMATCH.code(); n],
        Err(e) => vec![e.code(); n],
    })
}
