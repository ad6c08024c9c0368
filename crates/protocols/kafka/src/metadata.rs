//! Metadata: the broker, the topics and their partitions; makes a topic that is asked for where that is allowed.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, TopicName};
use millstream_broker::{Action, AdminError, CatalogueError, NewTopic, Topic};
use uuid::Uuid;

use crate::cluster::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS, UNASKED_OPERATIONS};
use crate::connection::Conn;
use crate::error;
use crate::num::{i32_of, i32_of_u32};
use crate::wire::{Close, Header, text};

/// First version in which a topic may be asked for by its id.
const BY_ID_SINCE: i16 = 12;

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: MetadataRequest,
) -> Result<MetadataResponse, Close> {
    // Version 0 has no null: there an empty list asks for all topics.
    let all = match &req.topics {
        None => true,
        Some(topics) => h.version == 0 && topics.is_empty(),
    };
    let operations = |topic: &Topic| {
        let _ = topic;
        if req.include_topic_authorized_operations { TOPIC_OPERATIONS } else { UNASKED_OPERATIONS }
    };
    let mut topics = Vec::new();
    if all {
        let catalogue = conn.broker.catalogue();
        let mine = catalogue.by_name.iter().filter(|((ns, _), _)| *ns == conn.ns);
        for (_, topic) in mine.filter(|((_, name), _)| conn.may_topic(Action::Describe, name)) {
            topics.push(found(&conn, topic, operations(topic)));
        }
    } else {
        let mut seen = HashSet::new();
        for asked in req.topics.as_deref().unwrap_or_default() {
            if !seen.insert((asked.topic_id, &asked.name)) {
                continue;
            }
            let topic = match look_up(&conn, h.version, asked, req.allow_auto_topic_creation).await? {
                Ok(topic) => found(&conn, &topic, operations(&topic)),
                Err(e) => {
                    conn.cfg.observer.error(h.api.name, e.code());
                    missing(h.version, asked, e)
                }
            };
            topics.push(topic);
        }
    }
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(conn.cfg.node_id))
        .with_host(conn.advertised_host.clone())
        .with_port(conn.advertised_port);
    let cluster =
        if req.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { UNASKED_OPERATIONS };
    Ok(MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text(conn.broker.cluster_id())))
        .with_controller_id(BrokerId(conn.cfg.node_id))
        .with_topics(topics)
        .with_cluster_authorized_operations(cluster))
}

async fn look_up(
    conn: &Conn,
    version: i16,
    asked: &MetadataRequestTopic,
    may_create: bool,
) -> Result<Result<Arc<Topic>, ResponseError>, Close> {
    let catalogue = conn.broker.catalogue();
    if !asked.topic_id.is_nil() {
        if version < BY_ID_SINCE {
            return Ok(Err(ResponseError::InvalidRequest));
        }
        let topic = catalogue.by_uuid.get(asked.topic_id.as_bytes()).filter(|t| t.def.ns == conn.ns);
        let topic = topic.filter(|t| conn.may_topic(Action::Describe, &t.def.name));
        return Ok(topic.cloned().ok_or(ResponseError::UnknownTopicId));
    }
    let Some(name) = &asked.name else { return Ok(Err(ResponseError::InvalidRequest)) };
    if !conn.may_topic(Action::Describe, name) {
        return Ok(Err(ResponseError::TopicAuthorizationFailed));
    }
    let name = name.to_string();
    if let Some(topic) = catalogue.by_name.get(&(conn.ns, name.clone())) {
        return Ok(Ok(Arc::clone(topic)));
    }
    let new = NewTopic { name: name.clone(), ..NewTopic::default() };
    let creates = may_create && conn.broker.config().topics_auto_create && conn.may_broker(Action::Configure);
    if !creates {
        let invalid =
            matches!(conn.broker.validate_topic(conn.ns, &new), Err(AdminError::InvalidName { .. }));
        let e = if invalid {
            ResponseError::InvalidTopicException
        } else {
            ResponseError::UnknownTopicOrPartition
        };
        return Ok(Err(e));
    }
    Ok(match conn.session.create_topic(new).await {
        Ok(topic) => {
            tracing::info!(topic = %topic.def.name, "topic made because a client asked for it");
            Ok(topic)
        }
        // Another client was faster.
        Err(AdminError::Catalogue(CatalogueError::Exists { .. })) => {
            let catalogue = conn.broker.catalogue();
            catalogue.by_name.get(&(conn.ns, name)).cloned().ok_or(ResponseError::LeaderNotAvailable)
        }
        Err(e) => Err(error::of_admin(&e)?),
    })
}

fn found(conn: &Conn, topic: &Topic, operations: i32) -> MetadataResponseTopic {
    let node = BrokerId(conn.cfg.node_id);
    let partitions = topic.partitions.iter().enumerate().map(|(index, view)| {
        MetadataResponsePartition::default()
            .with_partition_index(i32_of(index))
            .with_leader_id(node)
            .with_leader_epoch(i32_of_u32(view.leader_epoch()))
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    });
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(&topic.def.name))))
        .with_topic_id(Uuid::from_bytes(topic.def.uuid))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations)
}

fn missing(version: i16, asked: &MetadataRequestTopic, e: ResponseError) -> MetadataResponseTopic {
    // A name may be null from version 12 on.
    let by_id = version >= BY_ID_SINCE && !asked.topic_id.is_nil();
    let name = asked.name.clone().filter(|_| !by_id);
    let name = name.or_else(|| (version < BY_ID_SINCE).then(TopicName::default));
    MetadataResponseTopic::default()
        .with_error_code(e.code())
        .with_name(name)
        .with_topic_id(asked.topic_id)
        .with_topic_authorized_operations(UNASKED_OPERATIONS)
}
