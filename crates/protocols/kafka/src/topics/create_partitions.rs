//! `CreatePartitions`: more partitions for a topic, never fewer.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::CreatePartitionsRequest;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::{
    CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use millstream_broker::{Action, PARTITIONS_MAX, Topic};

use super::{Refusal, admin, plain, refuse};
use crate::connection::Conn;
use crate::num::i32_of;
use crate::wire::{Close, Header};

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: CreatePartitionsRequest,
) -> Result<CreatePartitionsResponse, Close> {
    let mut times: HashMap<&str, u32> = HashMap::new();
    for t in &req.topics {
        *times.entry(&t.name).or_default() += 1;
    }
    let mut results = Vec::with_capacity(req.topics.len());
    for asked in &req.topics {
        let result = match times.remove(asked.name.as_str()) {
            Some(1) => one(&conn, asked, req.validate_only).await?,
            // One answer for all of them, as Kafka.
            Some(_) => Err(refuse(ResponseError::InvalidRequest, "the topic is named twice in the request")),
            None => continue,
        };
        let response = CreatePartitionsTopicResult::default().with_name(asked.name.clone());
        results.push(match result {
            Ok(()) => response.with_error_message(None),
            Err((e, why)) => {
                conn.cfg.observer.error(h.api.name, e.code());
                response.with_error_code(e.code()).with_error_message(why)
            }
        });
    }
    Ok(CreatePartitionsResponse::default().with_results(results))
}

async fn one(
    conn: &Conn,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<Result<(), Refusal>, Close> {
    if !conn.may_topic(Action::Configure, &asked.name) {
        return Ok(Err(plain(ResponseError::TopicAuthorizationFailed)));
    }
    let catalogue = conn.broker.catalogue();
    let Some(topic) = catalogue.by_name.get(&(conn.ns, asked.name.to_string())) else {
        return Ok(Err(plain(ResponseError::UnknownTopicOrPartition)));
    };
    let total = match check(conn, topic, asked) {
        Ok(total) => total,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if validate_only {
        return Ok(Ok(()));
    }
    Ok(match conn.session.add_partitions(topic.def.uuid, total).await {
        Ok(_) => Ok(()),
        Err(e) => Err(admin(&e)?),
    })
}

fn check(conn: &Conn, topic: &Topic, asked: &CreatePartitionsTopic) -> Result<u32, Refusal> {
    let current = i32_of(topic.partitions.len());
    let total = u32::try_from(asked.count).unwrap_or(0);
    if asked.count <= current || total > PARTITIONS_MAX {
        let why = format!("the topic has {current} partitions; {} was asked for", asked.count);
        return Err(refuse(ResponseError::InvalidPartitions, &why));
    }
    if let Some(assignments) = &asked.assignments {
        let bad = |why| Err(refuse(ResponseError::InvalidReplicaAssignment, why));
        if i32_of(assignments.len()) != asked.count - current {
            return bad("the assignment must name each new partition");
        }
        let here = |a: &kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment| {
            a.broker_ids.len() == 1 && a.broker_ids.iter().all(|b| b.0 == conn.cfg.node_id)
        };
        if !assignments.iter().all(here) {
            return bad("every partition has one replica, on this broker");
        }
    }
    Ok(total)
}
