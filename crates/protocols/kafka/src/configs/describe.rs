//! `DescribeConfigs`.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use millstream_broker::{Action, AdminError, NewTopic, SettingInfo, SettingSource, SettingType};

use super::{RESOURCE_BROKER, RESOURCE_TOPIC, Refusal, is_this_broker, plain, source_code};
use crate::connection::Conn;
use crate::wire::{Close, Header, message, text};

/// Most resources of one request: each answer lists all settings.
const RESOURCES_MAX: usize = 10_000;

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, Close> {
    let results = req.resources.iter().enumerate().map(|(index, r)| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(r.resource_type)
            .with_resource_name(r.resource_name.clone());
        let found = if index < RESOURCES_MAX {
            settings(&conn, r)
        } else {
            Err((ResponseError::PolicyViolation, Some(message("more than 10,000 resources in one request"))))
        };
        match found {
            Ok(found) => {
                let configs = found.iter().map(|s| one(s, &req));
                result.with_configs(configs.collect())
            }
            Err((e, why)) => {
                conn.cfg.observer.error(h.api.name, e.code());
                result.with_error_code(e.code()).with_error_message(why)
            }
        }
    });
    Ok(DescribeConfigsResponse::default().with_results(results.collect()))
}

struct Shown {
    key: String,
    value: String,
    source: i8,
    default: String,
    kind: SettingType,
    doc: &'static str,
    read_only: bool,
}

fn settings(conn: &Conn, r: &DescribeConfigsResource) -> Result<Vec<Shown>, Refusal> {
    let found = match r.resource_type {
        RESOURCE_TOPIC => {
            if !conn.may_topic(Action::Describe, &r.resource_name) {
                return Err(plain(ResponseError::TopicAuthorizationFailed));
            }
            let named = NewTopic { name: r.resource_name.to_string(), ..NewTopic::default() };
            if let Err(e @ AdminError::InvalidName { .. }) = conn.broker.validate_topic(conn.ns, &named) {
                return Err((ResponseError::InvalidTopicException, Some(message(&e))));
            }
            let catalogue = conn.broker.catalogue();
            let topic = catalogue.by_name.get(&(conn.ns, r.resource_name.to_string()));
            let topic = topic.ok_or(plain(ResponseError::UnknownTopicOrPartition))?;
            conn.broker.describe_settings(Some(&topic.def)).iter().map(of_topic).collect()
        }
        RESOURCE_BROKER if is_this_broker(conn, &r.resource_name) => {
            // What holds for all brokers has no settings of its own here.
            if r.resource_name.is_empty() { Vec::new() } else { of_broker(conn) }
        }
        RESOURCE_BROKER => {
            let why = format!("this is broker {}", conn.cfg.node_id);
            return Err((ResponseError::InvalidRequest, Some(message(&why))));
        }
        _ => {
            let why = "only topics and the broker have configuration";
            return Err((ResponseError::InvalidRequest, Some(message(why))));
        }
    };
    Ok(match &r.configuration_keys {
        None => found,
        Some(keys) => found.into_iter().filter(|s| keys.iter().any(|k| k.as_str() == s.key)).collect(),
    })
}

fn of_topic(s: &SettingInfo) -> Shown {
    Shown {
        key: s.key.to_owned(),
        value: s.value.clone(),
        source: source_code(s.source),
        default: s.default.clone(),
        kind: s.kind,
        doc: s.doc,
        read_only: false,
    }
}

/// The broker's settings under the names that Kafka has for them.
fn of_broker(conn: &Conn) -> Vec<Shown> {
    let cfg = conn.broker.config();
    let built_in = millstream_broker::BrokerConfig::default();
    let shown = |key: &str, value: String, default: String, kind, doc| Shown {
        key: key.to_owned(),
        source: source_code(if value == default { SettingSource::Default } else { SettingSource::Broker }),
        value,
        default,
        kind,
        doc,
        read_only: true,
    };
    let number = |key, value: i64, default: i64, kind, doc| {
        shown(key, value.to_string(), default.to_string(), kind, doc)
    };
    let node = i64::from(conn.cfg.node_id);
    vec![
        number("node.id", node, node, SettingType::Int, "This broker's id."),
        number("broker.id", node, node, SettingType::Int, "This broker's id."),
        shown(
            "auto.create.topics.enable",
            cfg.topics_auto_create.to_string(),
            built_in.topics_auto_create.to_string(),
            SettingType::Boolean,
            "Whether a topic that is asked for is made.",
        ),
        number(
            "num.partitions",
            i64::from(cfg.topic_partitions),
            i64::from(built_in.topic_partitions),
            SettingType::Int,
            "Partitions of a topic made without saying how many.",
        ),
        number("default.replication.factor", 1, 1, SettingType::Int, "There is one broker."),
        number(
            "log.retention.ms",
            cfg.retention_ms,
            built_in.retention_ms,
            SettingType::Long,
            "Default of retention.ms.",
        ),
        number(
            "log.retention.bytes",
            cfg.retention_bytes,
            built_in.retention_bytes,
            SettingType::Long,
            "Default of retention.bytes.",
        ),
        number(
            "message.max.bytes",
            i64::from(cfg.message_bytes_max),
            i64::from(built_in.message_bytes_max),
            SettingType::Int,
            "Default of max.message.bytes.",
        ),
    ]
}

fn one(s: &Shown, req: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let mut synonyms = Vec::new();
    if req.include_synonyms {
        let synonym = |value: &str, source: i8| {
            DescribeConfigsSynonym::default()
                .with_name(text(&s.key))
                .with_value(Some(text(value)))
                .with_source(source)
        };
        synonyms.push(synonym(&s.value, s.source));
        if s.source == source_code(SettingSource::Topic) {
            synonyms.push(synonym(&s.default, source_code(SettingSource::Default)));
        }
    }
    DescribeConfigsResourceResult::default()
        .with_name(text(&s.key))
        .with_value(Some(text(&s.value)))
        .with_read_only(s.read_only)
        .with_config_source(s.source)
        .with_synonyms(synonyms)
        .with_config_type(type_code(s.kind))
        .with_documentation(req.include_documentation.then(|| text(s.doc)))
}

/// The protocol's number of a type.
fn type_code(kind: SettingType) -> i8 {
    match kind {
        SettingType::Boolean => 1,
        SettingType::String => 2,
        SettingType::Int => 3,
        SettingType::Long => 5,
        SettingType::Double => 6,
        SettingType::List => 7,
    }
}
