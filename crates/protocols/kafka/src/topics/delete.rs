//! `DeleteTopics`: by name, from version 6 on also by id.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use kafka_protocol::messages::{DeleteTopicsRequest, TopicName};
use millstream_broker::{Action, AdminError, CatalogueError, Topic};
use uuid::Uuid;

use super::{Refusal, admin, plain, refuse};
use crate::connection::Conn;
use crate::wire::{Close, Header, text};

/// First version that may name topics by id.
const TOPIC_ID_SINCE: i16 = 6;

/// A topic as the client names it: by one of them.
type Named = (Option<TopicName>, Uuid);

/// Answers.
pub(crate) async fn answer(
    conn: Arc<Conn>,
    h: Header,
    req: DeleteTopicsRequest,
) -> Result<DeleteTopicsResponse, Close> {
    let asked: Vec<Named> = if h.version >= TOPIC_ID_SINCE {
        req.topics.into_iter().map(|t| (t.name, t.topic_id)).collect()
    } else {
        req.topic_names.into_iter().map(|n| (Some(n), Uuid::nil())).collect()
    };
    let mut times: HashMap<Named, u32> = HashMap::new();
    for named in &asked {
        *times.entry(named.clone()).or_default() += 1;
    }
    let mut responses = Vec::with_capacity(asked.len());
    for (name, id) in asked {
        let response = DeletableTopicResult::default().with_name(name.clone()).with_topic_id(id);
        let result = match times.remove(&(name.clone(), id)) {
            Some(1) => one(&conn, name.as_ref(), id).await?,
            // One answer for all of them, as Kafka.
            Some(_) => Err(refuse(ResponseError::InvalidRequest, "the topic is named twice in the request")),
            None => continue,
        };
        responses.push(match result {
            Ok(topic) => response
                .with_name(Some(TopicName(text(&topic.def.name))))
                .with_topic_id(Uuid::from_bytes(topic.def.uuid)),
            Err((e, why)) => {
                conn.cfg.observer.error(h.api.name, e.code());
                response.with_error_code(e.code()).with_error_message(why)
            }
        });
    }
    Ok(DeleteTopicsResponse::default().with_responses(responses))
}

async fn one(conn: &Conn, name: Option<&TopicName>, id: Uuid) -> Result<Result<Arc<Topic>, Refusal>, Close> {
    let catalogue = conn.broker.catalogue();
    let found = match (name, id.is_nil()) {
        (Some(_), false) | (None, true) => {
            return Ok(Err(refuse(
                ResponseError::InvalidRequest,
                "a topic is named by its name or by its id",
            )));
        }
        (Some(name), true) => {
            let topic = catalogue.by_name.get(&(conn.ns, name.to_string()));
            topic.ok_or(plain(ResponseError::UnknownTopicOrPartition))
        }
        (None, false) => {
            let topic = catalogue.by_uuid.get(id.as_bytes()).filter(|t| t.def.ns == conn.ns);
            topic.ok_or(plain(ResponseError::UnknownTopicId))
        }
    };
    let topic = match found {
        Ok(topic) => Arc::clone(topic),
        Err(refusal) => return Ok(Err(refusal)),
    };
    if !conn.may_topic(Action::Configure, &topic.def.name) {
        return Ok(Err(plain(ResponseError::TopicAuthorizationFailed)));
    }
    Ok(match conn.session.delete_topic(topic.def.uuid).await {
        Ok(()) => Ok(topic),
        // Somebody else was faster.
        Err(AdminError::Catalogue(CatalogueError::NotFound)) if name.is_none() => {
            Err(plain(ResponseError::UnknownTopicId))
        }
        Err(e) => Err(admin(&e)?),
    })
}
