//! `AlterConfigs` (all settings of a topic are replaced) and `IncrementalAlterConfigs` (one by one).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, alter_configs_response, incremental_alter_configs_response,
};
use kafka_protocol::protocol::StrBytes;
use millstream_broker::{Action, SettingType, Topic, TopicAlter};

use super::{RESOURCE_BROKER, RESOURCE_TOPIC, Refusal, plain};
use crate::connection::Conn;
use crate::error;
use crate::wire::{Close, Header, message};

const OP_SET: i8 = 0;
const OP_DELETE: i8 = 1;
const OP_APPEND: i8 = 2;
const OP_SUBTRACT: i8 = 3;

fn refuse(e: ResponseError, why: &(impl ToString + ?Sized)) -> Refusal {
    (e, Some(message(why)))
}

/// Answers `AlterConfigs`.
pub(crate) async fn alter(
    conn: Arc<Conn>,
    h: Header,
    req: AlterConfigsRequest,
) -> Result<AlterConfigsResponse, Close> {
    let times = times(req.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
    let mut responses = Vec::with_capacity(req.resources.len());
    for r in &req.resources {
        let repeated = times.get(&(r.resource_type, r.resource_name.as_str())).is_some_and(|n| *n > 1);
        let result = match topic(&conn, r.resource_type, &r.resource_name, repeated) {
            Err(refusal) => Err(refusal),
            Ok(topic) => {
                // A null value is the default, as Kafka has it.
                let set = |c: &kafka_protocol::messages::alter_configs_request::AlterableConfig| {
                    c.value.as_ref().map(|v| TopicAlter::Set(c.name.to_string(), v.to_string()))
                };
                let changes = r.configs.iter().filter_map(set).collect();
                apply(&conn, &topic, changes, true, req.validate_only).await?
            }
        };
        let (code, why) = told(&conn, &h, result);
        let response = alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(r.resource_type)
            .with_resource_name(r.resource_name.clone());
        responses.push(response.with_error_code(code).with_error_message(why));
    }
    Ok(AlterConfigsResponse::default().with_responses(responses))
}

/// Answers `IncrementalAlterConfigs`.
pub(crate) async fn alter_incrementally(
    conn: Arc<Conn>,
    h: Header,
    req: IncrementalAlterConfigsRequest,
) -> Result<IncrementalAlterConfigsResponse, Close> {
    let times = times(req.resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())));
    let mut responses = Vec::with_capacity(req.resources.len());
    for r in &req.resources {
        let repeated = times.get(&(r.resource_type, r.resource_name.as_str())).is_some_and(|n| *n > 1);
        let planned = topic(&conn, r.resource_type, &r.resource_name, repeated)
            .and_then(|topic| Ok((changes(&conn, &topic, &r.configs)?, topic)));
        let result = match planned {
            Err(refusal) => Err(refusal),
            Ok((changes, topic)) => apply(&conn, &topic, changes, false, req.validate_only).await?,
        };
        let (code, why) = told(&conn, &h, result);
        let response = incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(r.resource_type)
            .with_resource_name(r.resource_name.clone());
        responses.push(response.with_error_code(code).with_error_message(why));
    }
    Ok(IncrementalAlterConfigsResponse::default().with_responses(responses))
}

/// What the client is told: code and message.
fn told(conn: &Conn, h: &Header, result: Result<(), Refusal>) -> (i16, Option<StrBytes>) {
    let Err((e, why)) = result else { return (error::NONE, None) };
    conn.cfg.observer.error(h.api.name, e.code());
    (e.code(), why)
}

/// How often each resource is named.
fn times<'a>(resources: impl Iterator<Item = (i8, &'a str)>) -> HashMap<(i8, &'a str), u32> {
    let mut times = HashMap::new();
    for r in resources {
        *times.entry(r).or_default() += 1;
    }
    times
}

fn topic(conn: &Conn, kind: i8, name: &str, repeated: bool) -> Result<Arc<Topic>, Refusal> {
    if repeated {
        return Err(refuse(ResponseError::InvalidRequest, "the resource is named twice in the request"));
    }
    match kind {
        RESOURCE_TOPIC if !conn.may_topic(Action::Configure, name) => {
            Err(plain(ResponseError::TopicAuthorizationFailed))
        }
        RESOURCE_TOPIC => {
            let catalogue = conn.broker.catalogue();
            let topic = catalogue.by_name.get(&(conn.ns, name.to_owned()));
            topic.cloned().ok_or(plain(ResponseError::UnknownTopicOrPartition))
        }
        RESOURCE_BROKER => Err(refuse(
            ResponseError::InvalidConfig,
            "the broker's settings are set in its configuration file",
        )),
        _ => Err(refuse(ResponseError::InvalidRequest, "only topics have configuration that can be altered")),
    }
}

/// What the operations come to. Lists (`cleanup.policy`) may be added to and taken from.
fn changes(conn: &Conn, topic: &Topic, configs: &[AlterableConfig]) -> Result<Vec<TopicAlter>, Refusal> {
    let mut seen = HashSet::new();
    let mut changes = Vec::with_capacity(configs.len());
    for c in configs {
        if !seen.insert(&c.name) {
            return Err(refuse(ResponseError::InvalidRequest, "a setting is named twice in the request"));
        }
        let key = c.name.to_string();
        let value = || {
            let value = c.value.as_ref().map(ToString::to_string);
            value.ok_or_else(|| refuse(ResponseError::InvalidRequest, "a setting may not be null"))
        };
        changes.push(match c.config_operation {
            OP_SET => TopicAlter::Set(key, value()?),
            OP_DELETE => TopicAlter::Delete(key),
            op @ (OP_APPEND | OP_SUBTRACT) => {
                let current =
                    conn.broker.describe_settings(Some(&topic.def)).into_iter().find(|s| s.key == key);
                let current = current.filter(|s| s.kind == SettingType::List);
                let current =
                    current.ok_or_else(|| refuse(ResponseError::InvalidConfig, "the setting is no list"))?;
                TopicAlter::Set(key, listed(&current.value, &value()?, op == OP_APPEND))
            }
            _ => return Err(refuse(ResponseError::InvalidRequest, "there is no such operation")),
        });
    }
    Ok(changes)
}

fn listed(current: &str, words: &str, add: bool) -> String {
    let split = |s: &str| {
        s.split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let (mut list, words) = (split(current), split(words));
    if add {
        list.extend(words.into_iter().filter(|w| !split(current).contains(w)));
    } else {
        list.retain(|w| !words.contains(w));
    }
    list.join(",")
}

async fn apply(
    conn: &Conn,
    topic: &Topic,
    changes: Vec<TopicAlter>,
    replace_all: bool,
    validate_only: bool,
) -> Result<Result<(), Refusal>, Close> {
    if validate_only {
        let mut settings = if replace_all { BTreeMap::new() } else { topic.def.settings.clone() };
        for c in changes {
            match c {
                TopicAlter::Set(k, v) => drop(settings.insert(k, v)),
                TopicAlter::Delete(k) => drop(settings.remove(&k)),
            }
        }
        let checked = conn.broker.validate_settings(&settings);
        return Ok(checked.map(drop).map_err(|e| refuse(ResponseError::InvalidConfig, &e)));
    }
    Ok(match conn.session.alter_topic(topic.def.uuid, changes, replace_all).await {
        Ok(_) => Ok(()),
        Err(e) => Err((error::of_admin(&e)?, Some(message(&e)))),
    })
}
