//! `OffsetCommit`. Version 10 names topics by id; the decoder gives the id as 32 hexadecimal digits in place of the name.

use std::sync::Arc;

use bytes::Bytes;
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
use millstream_broker::{Action, Class, Op, Pending, Reply, Session, Topic};
use millstream_types::LogId;
use uuid::Uuid;

use super::{count, who};
use crate::connection::{Conn, Job};
use crate::error::{self, NONE};
use crate::wire::{self, Close, Header, Out};

/// First version that names topics by id.
pub(super) const TOPIC_ID_SINCE: i16 = 10;

/// First version that knows the error of a group that does not exist (KIP-848); before it, its generation is illegal.
const GROUP_NOT_FOUND_SINCE: i16 = 9;

/// Begins a request: when this returns, the commit has been submitted. So a commit that a member sends while it waits to join again
/// is decided in the generation that it was sent in, though its answer comes behind that of the join.
///
/// # Errors
/// The connection is to be closed; nothing was submitted then.
pub(crate) async fn begin(conn: &Arc<Conn>, h: Header, body: Bytes) -> Result<Job, Close> {
    let req: OffsetCommitRequest = wire::decode(&h, body)?;
    let (topics, places, offsets) = check(conn, &h, &req);
    let submitted = submit(conn, &req, offsets).await;
    let conn = Arc::clone(conn);
    let work = Box::pin(async move {
        let codes = codes(&h, places.len(), submitted).await?;
        finish(&conn, &h, topics, places, codes).map(Some)
    });
    Ok(Job { work, waits: false, may_be_overtaken: true })
}

/// A partition's place in the response.
type Place = (usize, usize);

/// The response as far as it is known; and of the partitions that exist, their places and offsets.
fn check(
    conn: &Conn,
    h: &Header,
    req: &OffsetCommitRequest,
) -> (Vec<OffsetCommitResponseTopic>, Vec<Place>, Vec<(LogId, CommittedOffset)>) {
    let by_id = h.version >= TOPIC_ID_SINCE;
    let catalogue = conn.broker.catalogue();
    let mut offsets = Vec::new();
    let mut places = Vec::new();
    let mut topics = Vec::with_capacity(req.topics.len());
    for asked in &req.topics {
        let (answer, id, topic) = topic(conn, &catalogue, asked, by_id);
        let mut partitions = Vec::with_capacity(asked.partitions.len());
        for p in &asked.partitions {
            let code = match topic.clone().and_then(|t| offset(&t, p)) {
                Ok(offset) => {
                    places.push((topics.len(), partitions.len()));
                    offsets.push(offset);
                    NONE
                }
                Err(e) => e.code(),
            };
            let response = OffsetCommitResponsePartition::default();
            partitions.push(response.with_partition_index(p.partition_index).with_error_code(code));
        }
        let response = OffsetCommitResponseTopic::default();
        topics.push(response.with_name(answer).with_topic_id(id).with_partitions(partitions));
    }
    (topics, places, offsets)
}

fn finish(
    conn: &Conn,
    h: &Header,
    mut topics: Vec<OffsetCommitResponseTopic>,
    places: Vec<Place>,
    codes: Vec<i16>,
) -> Result<Out, Close> {
    for ((topic, partition), code) in places.into_iter().zip(codes) {
        if let Some(p) = topics.get_mut(topic).and_then(|t| t.partitions.get_mut(partition)) {
            p.error_code = code;
        }
    }
    for p in topics.iter().flat_map(|t| &t.partitions) {
        count(conn, h.api.name, p.error_code);
    }
    wire::encode(h, &OffsetCommitResponse::default().with_topics(topics))
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

/// The answer on its way, or why there is none; `None`: there was nothing to commit.
async fn submit(
    conn: &Conn,
    req: &OffsetCommitRequest,
    offsets: Vec<(LogId, CommittedOffset)>,
) -> Option<Result<Pending, ResponseError>> {
    if offsets.is_empty() {
        return None;
    }
    if !conn.may_group(Action::Read, &req.group_id) {
        return Some(Err(ResponseError::GroupAuthorizationFailed));
    }
    let generation = req.generation_id_or_member_epoch;
    let who = who(conn, &req.group_id, generation, &req.member_id, req.group_instance_id.as_ref());
    let commit = Commit { who, offsets };
    let permit = conn.session.admit(Class::Settle, Session::commit_bytes(&commit)).await;
    let submitted = permit.map(|p| conn.session.submit(Some(p), Op::Group(GroupOp::Commit(commit))));
    Some(submitted.map_err(|e| error::of_refused_group(&e)))
}

/// One code for each of the `n` offsets.
async fn codes(
    h: &Header,
    n: usize,
    submitted: Option<Result<Pending, ResponseError>>,
) -> Result<Vec<i16>, Close> {
    let code = |e: &GroupError| match e {
        GroupError::NotFound if h.version < GROUP_NOT_FOUND_SINCE => ResponseError::IllegalGeneration.code(),
        e => error::of_group(e).code(),
    };
    Ok(match submitted {
        None => Vec::new(),
        Some(Err(e)) => vec![e.code(); n],
        Some(Ok(pending)) => match pending.await {
            Reply::Group(GroupReply::Commit(Ok(results))) => {
                results.iter().map(|r| r.as_ref().map_or_else(code, |()| NONE)).collect()
            }
            Reply::Group(GroupReply::Commit(Err(e))) => vec![code(&e); n],
            _ => return Err(Close::FateUnknown),
        },
    })
}
