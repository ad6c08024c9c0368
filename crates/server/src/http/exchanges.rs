//! Exchanges and bindings: list, create, describe, delete.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use millstream_broker::{
    Binding, BindingsOf, Broker, ExchangeDef, ExchangeType, NewExchange, Session, Target, TargetKind,
    arguments_of,
};
use millstream_types::Namespace;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ApiError, Shared, values};

/// Exchanges of one page.
const PAGE_EXCHANGES: usize = 1_000;
/// Bindings of one answer.
const BINDINGS_MAX: usize = 100_000;

fn find(broker: &Broker, name: &str) -> Result<std::sync::Arc<ExchangeDef>, ApiError> {
    broker
        .routes()
        .exchange(Namespace::DEFAULT, name)
        .ok_or_else(|| ApiError::not_found(format!("there is no exchange {name:?}")))
}

fn told(def: &ExchangeDef) -> Value {
    json!({
        "name": def.name,
        "type": def.kind.name(),
        "durable": def.durable,
        "auto_delete": def.auto_delete,
        "internal": def.internal,
        "alternate": def.alternate,
        "arguments": values::table(&arguments_of(&def.arguments).unwrap_or_default()),
    })
}

/// Where a page begins.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only names behind this one.
    #[serde(default)]
    after: String,
}

/// A page of exchanges, by name. The default one is not among them.
pub async fn list(State(health): Shared, Query(q): Query<List>) -> Result<Json<Value>, ApiError> {
    let defs = health.broker()?.routes().exchanges(Namespace::DEFAULT, &q.after, PAGE_EXCHANGES);
    let next = defs.get(PAGE_EXCHANGES - 1).map(|d| d.name.clone());
    let exchanges: Vec<Value> = defs.iter().map(|d| told(d)).collect();
    Ok(Json(json!({ "exchanges": exchanges, "next": next })))
}

/// Body of a creation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Create {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    auto_delete: bool,
    #[serde(default)]
    internal: bool,
    alternate: Option<String>,
    #[serde(default)]
    arguments: Map<String, Value>,
}

/// Makes an exchange, or finds it made alike.
pub async fn create(
    State(health): Shared,
    Json(c): Json<Create>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let Some(kind) = ExchangeType::from_name(&c.kind) else {
        return Err(ApiError::bad(format!("type {:?}: direct, fanout, topic or headers", c.kind)));
    };
    let new = NewExchange {
        name: c.name.clone(),
        kind,
        durable: true,
        auto_delete: c.auto_delete,
        internal: c.internal,
        alternate: c.alternate,
        arguments: values::headers(c.arguments),
    };
    let made = health.session()?.declare_exchange(new).await?;
    let mut told = told(&*find(health.broker()?, &c.name)?);
    if let Some(o) = told.as_object_mut() {
        o.insert("made".to_owned(), json!(made));
    }
    Ok((if made { StatusCode::CREATED } else { StatusCode::OK }, Json(told)))
}

/// One exchange, and the bindings from it.
pub async fn describe(State(health): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let mut told = told(&*find(health.broker()?, &name)?);
    let bindings = all_bindings(&health.session()?, BindingsOf::Source(name)).await?;
    if let Some(o) = told.as_object_mut() {
        o.insert("bindings".to_owned(), bindings);
    }
    Ok(Json(told))
}

/// When an exchange may go.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    #[serde(default)]
    if_unused: bool,
}

/// Removes an exchange with its bindings.
pub async fn delete(
    State(health): Shared,
    Path(name): Path<String>,
    Query(q): Query<Delete>,
) -> Result<StatusCode, ApiError> {
    health.session()?.delete_exchange(&name, q.if_unused).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// All bindings of something, as JSON.
pub(super) async fn all_bindings(session: &Session, of: BindingsOf) -> Result<Value, ApiError> {
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        let page = session.list_bindings(of.clone(), from).await?;
        for b in page.bindings {
            all.push(json!({
                "source": b.source,
                "target": b.target.name,
                "kind": kind_name(b.target.kind),
                "key": b.key,
                "arguments": values::table(&b.arguments),
            }));
        }
        if all.len() > BINDINGS_MAX {
            return Err(ApiError::bad(format!("more than {BINDINGS_MAX} bindings")));
        }
        from = page.next;
        if from.is_none() {
            return Ok(Value::Array(all));
        }
    }
}

fn kind_name(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Queue => "queue",
        TargetKind::Exchange => "exchange",
        TargetKind::Topic => "topic",
    }
}

/// Of what bindings are listed: from an exchange, to something, or all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bindings {
    source: Option<String>,
    target: Option<String>,
    kind: Option<String>,
}

/// Bindings.
pub async fn bindings(State(health): Shared, Query(q): Query<Bindings>) -> Result<Json<Value>, ApiError> {
    let session = health.session()?;
    let mut all = match (&q.source, &q.target) {
        (Some(source), _) => all_bindings(&session, BindingsOf::Source(source.clone())).await?,
        (None, Some(name)) => {
            let target = target(session.broker(), name, q.kind.as_deref())?;
            all_bindings(&session, BindingsOf::Target(target)).await?
        }
        (None, None) => everything(&session).await?,
    };
    if let (Some(all), Some(_), Some(name)) = (all.as_array_mut(), &q.source, &q.target) {
        let kind = q.kind.as_deref();
        all.retain(|b| b["target"] == **name && kind.is_none_or(|k| b["kind"] == *k));
    }
    Ok(Json(json!({ "bindings": all })))
}

async fn everything(session: &Session) -> Result<Value, ApiError> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = session.broker().routes().exchanges(Namespace::DEFAULT, &after, PAGE_EXCHANGES);
        let Some(last) = page.last() else { return Ok(Value::Array(all)) };
        after.clone_from(&last.name);
        for def in &page {
            if let Value::Array(more) = all_bindings(session, BindingsOf::Source(def.name.clone())).await? {
                all.extend(more);
            }
            if all.len() > BINDINGS_MAX {
                return Err(ApiError::bad(format!("more than {BINDINGS_MAX} bindings: name an exchange")));
            }
        }
    }
}

/// A binding.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    source: String,
    target: String,
    /// `queue`, `topic` or `exchange`; not said: the queue or topic of that name.
    kind: Option<String>,
    #[serde(default)]
    key: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

fn target(broker: &Broker, name: &str, kind: Option<&str>) -> Result<Target, ApiError> {
    let kind = match kind {
        Some("queue") => TargetKind::Queue,
        Some("topic") => TargetKind::Topic,
        Some("exchange") => TargetKind::Exchange,
        Some(k) => return Err(ApiError::bad(format!("kind {k:?}: queue, topic or exchange"))),
        None if broker.queue(Namespace::DEFAULT, name).is_some() => TargetKind::Queue,
        None if broker.catalogue().by_name.contains_key(&(Namespace::DEFAULT, name.to_owned())) => {
            TargetKind::Topic
        }
        None => return Err(ApiError::not_found(format!("there is no queue and no topic {name:?}"))),
    };
    Ok(Target { kind, name: name.to_owned() })
}

impl Bind {
    fn binding(self, broker: &Broker) -> Result<Binding, ApiError> {
        Ok(Binding {
            target: target(broker, &self.target, self.kind.as_deref())?,
            source: self.source,
            key: self.key,
            arguments: values::headers(self.arguments),
        })
    }
}

/// Binds.
pub async fn bind(State(health): Shared, Json(b): Json<Bind>) -> Result<(StatusCode, Json<Value>), ApiError> {
    let binding = b.binding(health.broker()?)?;
    let made = health.session()?.bind(&binding).await?;
    Ok((if made { StatusCode::CREATED } else { StatusCode::OK }, Json(json!({ "made": made }))))
}

/// Removes a binding.
pub async fn unbind(State(health): Shared, Json(b): Json<Bind>) -> Result<StatusCode, ApiError> {
    let binding = b.binding(health.broker()?)?;
    if health.session()?.unbind(&binding).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::not_found("there is no such binding"))
    }
}
