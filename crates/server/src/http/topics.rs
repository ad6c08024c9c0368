//! Topics: list, create, describe, alter, delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millstream_broker::{Broker, NewTopic, SettingSource, Topic, TopicAlter};
use millstream_types::Namespace;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, Shared};

/// The topic of that name, or 404.
pub(super) fn find(broker: &Broker, name: &str) -> Result<Arc<Topic>, ApiError> {
    broker
        .catalogue()
        .by_name
        .get(&(Namespace::DEFAULT, name.to_owned()))
        .cloned()
        .ok_or_else(|| ApiError::not_found(format!("there is no topic {name:?}")))
}

fn summary(broker: &Broker, topic: &Topic) -> Value {
    let messages: u64 = topic.partitions.iter().map(|p| p.visible_end().saturating_sub(p.start())).sum();
    let bytes: u64 = topic.partitions.iter().map(|p| broker.streams().bytes(p)).sum();
    json!({
        "name": topic.def.name,
        "partitions": topic.partitions.len(),
        "offsets_held": messages,
        "bytes": bytes,
    })
}

/// All topics.
pub async fn list(State(health): Shared) -> Result<Json<Value>, ApiError> {
    let broker = health.broker()?;
    let catalogue = broker.catalogue();
    let topics: Vec<Value> = catalogue.by_name.values().map(|t| summary(broker, t)).collect();
    Ok(Json(json!({ "topics": topics })))
}

/// Body of a creation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    name: String,
    partitions: Option<u32>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
}

/// Makes a topic.
pub async fn create(
    State(health): Shared,
    Json(c): Json<Create>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let new = NewTopic { name: c.name, partitions: c.partitions, settings: c.settings };
    let topic = health.session()?.create_topic(new).await?;
    Ok((StatusCode::CREATED, Json(summary(health.broker()?, &topic))))
}

fn full(broker: &Broker, topic: &Topic) -> Value {
    let partitions: Vec<Value> = topic
        .partitions
        .iter()
        .enumerate()
        .map(|(i, p)| {
            json!({
                "partition": i, "start": p.start(), "end": p.visible_end(),
                "bytes": broker.streams().bytes(p), "leader_epoch": p.leader_epoch(),
            })
        })
        .collect();
    let settings: Vec<Value> = broker
        .describe_settings(Some(&topic.def))
        .into_iter()
        .map(|s| {
            let source = match s.source {
                SettingSource::Default => "default",
                SettingSource::Broker => "broker",
                SettingSource::Topic => "topic",
            };
            json!({ "key": s.key, "value": s.value, "source": source, "doc": s.doc })
        })
        .collect();
    let mut v = summary(broker, topic);
    if let Some(o) = v.as_object_mut() {
        o.insert("created_ms".to_owned(), json!(topic.def.created_ms));
        o.insert("partition_list".to_owned(), json!(partitions));
        o.insert("settings".to_owned(), json!(settings));
    }
    v
}

/// One topic in full.
pub async fn describe(State(health): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let broker = health.broker()?;
    Ok(Json(full(broker, &*find(broker, &name)?)))
}

/// Body of an alteration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alter {
    partitions: Option<u32>,
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    unset: Vec<String>,
}

/// Alters settings, adds partitions.
pub async fn alter(
    State(health): Shared,
    Path(name): Path<String>,
    Json(a): Json<Alter>,
) -> Result<Json<Value>, ApiError> {
    let broker = health.broker()?;
    let session = health.session()?;
    let mut topic = find(broker, &name)?;
    if !a.set.is_empty() || !a.unset.is_empty() {
        let set = a.set.into_iter().map(|(k, v)| TopicAlter::Set(k, v));
        let changes = set.chain(a.unset.into_iter().map(TopicAlter::Delete)).collect();
        topic = session.alter_topic(topic.def.uuid, changes, false).await?;
    }
    if let Some(total) = a.partitions {
        topic = session.add_partitions(topic.def.uuid, total).await?;
    }
    Ok(Json(full(broker, &topic)))
}

/// Removes a topic.
pub async fn delete(State(health): Shared, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    let topic = find(health.broker()?, &name)?;
    health.session()?.delete_topic(topic.def.uuid).await?;
    Ok(StatusCode::NO_CONTENT)
}
