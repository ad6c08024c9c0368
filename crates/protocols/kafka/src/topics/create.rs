//! `CreateTopics`: each topic on its own; `validate_only` makes none.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use millstream_broker::{Action, NewTopic, Topic, TopicDef};
use uuid::Uuid;

use super::{Refusal, admin, plain, refuse};
use crate::configs::source_code;
use crate::connection::Conn;
use crate::num::i32_of;
use crate::wire::{Close, Header, text};

/// Partitions or replicas as the broker's defaults have them.
const DEFAULT: i32 = -1;
/// Most topics of one request: each answer lists all settings.
const TOPICS_MAX: usize = 10_000;

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, Close> {
    let mut times: HashMap<&str, u32> = HashMap::new();
    for t in &req.topics {
        *times.entry(&t.name).or_default() += 1;
    }
    let mut topics = Vec::with_capacity(req.topics.len());
    let mut answered = HashSet::new();
    for asked in &req.topics {
        if times.get(asked.name.as_str()).is_some_and(|n| *n > 1) {
            // One answer for all of them, as Kafka.
            if answered.insert(&asked.name) {
                let why = "the topic is named twice in the request";
                topics.push(failed(asked, refuse(ResponseError::InvalidRequest, why)));
            }
            continue;
        }
        let prepared = if topics.len() < TOPICS_MAX {
            prepare(&conn, asked)
        } else {
            Err(refuse(ResponseError::PolicyViolation, "more than 10,000 topics in one request"))
        };
        let result = match prepared {
            Err(refusal) => Err(refusal),
            Ok(new) if req.validate_only => match conn.broker.validate_topic(conn.ns, &new) {
                Ok(()) => Ok(validated(&conn, asked, &new)),
                Err(e) => Err(admin(&e)?),
            },
            Ok(new) => match conn.session.create_topic(new).await {
                Ok(topic) => Ok(made(&conn, asked, &topic)),
                Err(e) => Err(admin(&e)?),
            },
        };
        topics.push(result.unwrap_or_else(|refusal| {
            conn.cfg.observer.error(h.api.name, refusal.0.code());
            failed(asked, refusal)
        }));
    }
    Ok(CreateTopicsResponse::default().with_topics(topics))
}

fn prepare(conn: &Conn, asked: &CreatableTopic) -> Result<NewTopic, Refusal> {
    if !conn.may_broker(Action::Configure) && !conn.may_topic(Action::Configure, &asked.name) {
        return Err(plain(ResponseError::TopicAuthorizationFailed));
    }
    let partitions =
        if asked.assignments.is_empty() { counted(asked)? } else { Some(assigned(conn, asked)?) };
    let mut settings = BTreeMap::new();
    for c in &asked.configs {
        let value = c.value.as_ref();
        let value = value.ok_or_else(|| refuse(ResponseError::InvalidConfig, "a setting may not be null"))?;
        if settings.insert(c.name.to_string(), value.to_string()).is_some() {
            return Err(refuse(ResponseError::InvalidConfig, "a setting is given twice"));
        }
    }
    Ok(NewTopic { name: asked.name.to_string(), partitions, settings })
}

/// The number of partitions; `None` = the default.
fn counted(asked: &CreatableTopic) -> Result<Option<u32>, Refusal> {
    if asked.replication_factor != 1 && i32::from(asked.replication_factor) != DEFAULT {
        let why = "the replication factor must be 1: there is one broker";
        return Err(refuse(ResponseError::InvalidReplicationFactor, why));
    }
    if asked.num_partitions == DEFAULT {
        return Ok(None);
    }
    match u32::try_from(asked.num_partitions) {
        Ok(n) if n > 0 => Ok(Some(n)),
        _ => Err(refuse(ResponseError::InvalidPartitions, "the number of partitions must be 1 or more")),
    }
}

/// The number of partitions that replicas are assigned to by hand.
fn assigned(conn: &Conn, asked: &CreatableTopic) -> Result<u32, Refusal> {
    if asked.num_partitions != DEFAULT || i32::from(asked.replication_factor) != DEFAULT {
        let why = "with an assignment, partitions and replication factor must be -1";
        return Err(refuse(ResponseError::InvalidRequest, why));
    }
    let bad = |why| Err(refuse(ResponseError::InvalidReplicaAssignment, why));
    let mut indices: Vec<i32> = asked.assignments.iter().map(|a| a.partition_index).collect();
    indices.sort_unstable();
    if !indices.iter().copied().eq(0..i32_of(indices.len())) {
        return bad("the partitions of the assignment must be numbered from 0 without gaps");
    }
    if asked
        .assignments
        .iter()
        .any(|a| a.broker_ids.len() != 1 || a.broker_ids.iter().any(|b| b.0 != conn.cfg.node_id))
    {
        return bad("every partition has one replica, on this broker");
    }
    u32::try_from(indices.len()).map_err(|_| refuse(ResponseError::InvalidPartitions, "too many partitions"))
}

fn failed(asked: &CreatableTopic, (e, why): Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(asked.name.clone())
        .with_error_code(e.code())
        .with_error_message(why)
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}

fn made(conn: &Conn, asked: &CreatableTopic, topic: &Topic) -> CreatableTopicResult {
    success(conn, asked, &topic.def).with_num_partitions(i32_of(topic.partitions.len()))
}

/// What a topic would have been.
fn validated(conn: &Conn, asked: &CreatableTopic, new: &NewTopic) -> CreatableTopicResult {
    let def = TopicDef {
        ns: conn.ns,
        name: new.name.clone(),
        uuid: [0; 16],
        partitions: Vec::new(),
        settings: new.settings.clone(),
        created_ms: 0,
        version: 0,
    };
    let partitions = new.partitions.unwrap_or(conn.broker.config().topic_partitions);
    success(conn, asked, &def).with_num_partitions(i32::try_from(partitions).unwrap_or(i32::MAX))
}

fn success(conn: &Conn, asked: &CreatableTopic, def: &TopicDef) -> CreatableTopicResult {
    let configs = conn.broker.describe_settings(Some(def)).into_iter().map(|s| {
        CreatableTopicConfigs::default()
            .with_name(text(s.key))
            .with_value(Some(text(&s.value)))
            .with_config_source(source_code(s.source))
    });
    CreatableTopicResult::default()
        .with_name(asked.name.clone())
        .with_topic_id(Uuid::from_bytes(def.uuid))
        .with_replication_factor(1)
        .with_configs(Some(configs.collect()))
}
