//! `OffsetForLeaderEpoch`: where a leader epoch ended, so that a reader learns whether what it read is still there.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::OffsetForLeaderEpochRequest;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use millstream_broker::{Action, Topic};

use crate::connection::Conn;
use crate::fetch::check_epoch;
use crate::num::{i32_of_u32, i64_of};
use crate::wire::{Close, Header};

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    _: Header,
    req: OffsetForLeaderEpochRequest,
) -> Result<OffsetForLeaderEpochResponse, Close> {
    let catalogue = conn.broker.catalogue();
    let topics = req.topics.iter().map(|asked| {
        let topic = catalogue.by_name.get(&(conn.ns, asked.topic.to_string()));
        let allowed = conn.may_topic(Action::Describe, &asked.topic);
        let partitions = asked.partitions.iter().map(|p| {
            let result =
                if allowed { one(&conn, topic, p) } else { Err(ResponseError::TopicAuthorizationFailed) };
            let answer = EpochEndOffset::default().with_partition(p.partition);
            match result {
                Ok((epoch, end)) => answer.with_leader_epoch(epoch).with_end_offset(end),
                Err(e) => answer.with_error_code(e.code()).with_leader_epoch(-1).with_end_offset(-1),
            }
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(asked.topic.clone())
            .with_partitions(partitions.collect())
    });
    Ok(OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}

/// The epoch and its end; (-1, -1) if there is none.
fn one(
    conn: &Conn,
    topic: Option<&Arc<Topic>>,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ResponseError> {
    let index = usize::try_from(asked.partition).map_err(|_| ResponseError::UnknownTopicOrPartition)?;
    let view = topic.and_then(|t| t.partitions.get(index)).ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_epoch(view, asked.current_leader_epoch)?;
    let found = u32::try_from(asked.leader_epoch).ok().and_then(|e| conn.broker.streams().epoch_end(view, e));
    Ok(found.map_or((-1, -1), |(epoch, end)| (i32_of_u32(epoch), i64_of(end))))
}
