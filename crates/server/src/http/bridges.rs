//! Bridges: list, create, describe, pause, resume, delete.

use std::sync::atomic::AtomicU64;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millstream_broker::bridge::{BridgeAlter, BridgeDef, BridgeInfo, OnPoison, OnTrimmed};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as AnyGauge;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ApiError, Shared};

type Gauge = AnyGauge<u64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Named {
    bridge: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Fate {
    bridge: String,
    fate: &'static str,
}

/// Puts the bridges' gauges in.
pub fn register(r: &mut Registry, all: &[BridgeInfo]) {
    let (lag, up) = (Family::<Named, Gauge>::default(), Family::<Named, Gauge>::default());
    let errors = Family::<Named, Gauge>::default();
    let messages = Family::<Fate, Gauge>::default();
    for b in all {
        let named = Named { bridge: b.name.clone() };
        lag.get_or_create(&named).set(b.lag);
        up.get_or_create(&named).set(u64::from(!b.paused && b.blocked.is_none()));
        errors.get_or_create(&named).set(b.errors);
        let fates = [
            ("passed", b.passed),
            ("filtered", b.filtered),
            ("skipped", b.skipped),
            ("dead_lettered", b.dead_lettered),
            ("trimmed", b.trimmed),
        ];
        for (fate, n) in fates {
            messages.get_or_create(&Fate { bridge: b.name.clone(), fate }).set(n);
        }
    }
    r.register("bridge_lag", "Messages of a bridge's source that it has not looked at", lag);
    r.register("bridge_running", "1 while a bridge is neither paused nor kept from working", up);
    r.register("bridge_errors", "Times that a bridge had to rest since the broker was opened", errors);
    r.register("bridge_messages", "Messages that a bridge looked at, by what became of them", messages);
}

fn shown(b: &BridgeInfo) -> Value {
    let state = match (b.paused, &b.blocked) {
        (true, _) => "paused",
        (false, Some(_)) => "blocked",
        (false, None) => "running",
    };
    let cause = b.blocked.as_ref().map(|b| b.cause.as_str()).filter(|_| !b.paused).unwrap_or(&b.note);
    let mut out = json!({
        "name": b.name,
        "state": state,
        "cause": cause,
        "passed": b.passed,
        "filtered": b.filtered,
        "skipped": b.skipped,
        "dead_lettered": b.dead_lettered,
        "trimmed": b.trimmed,
        "lag": b.lag,
        "rate": (b.rate * 10.0).round() / 10.0,
        "errors": b.errors,
        "created_ms": b.created_ms,
        "stepped_ms": b.stepped_ms,
        "retry_ms": b.blocked.as_ref().map(|b| b.retry_ms),
        "partitions": b.partitions.iter().map(|p| json!({
            "partition": p.partition, "next": p.next, "end": p.end, "lag": p.end.saturating_sub(p.next),
        })).collect::<Vec<_>>(),
        "not_passed": b.poison.iter().map(|(partition, offset)| json!({
            "partition": partition, "offset": offset,
        })).collect::<Vec<_>>(),
    });
    let (name, def) = match &b.def {
        Ok(def) => ("definition", def.to_json()),
        Err(e) => ("definition_error", json!(e.to_string())),
    };
    if let Some(out) = out.as_object_mut() {
        out.insert(name.to_owned(), def);
    }
    out
}

/// All bridges.
pub async fn list(State(health): Shared) -> Result<Json<Value>, ApiError> {
    let all = health.session()?.bridges().await?;
    Ok(Json(json!({ "bridges": all.iter().map(shown).collect::<Vec<_>>() })))
}

/// Makes one: the definition, and its `name`.
pub async fn create(
    State(health): Shared,
    Json(mut body): Json<Map<String, Value>>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let name = match body.remove("name") {
        Some(Value::String(name)) if !name.is_empty() => name,
        _ => return Err(ApiError::bad("a bridge needs a name")),
    };
    let def = BridgeDef::parse(&Value::Object(body)).map_err(|e| ApiError::bad(e.to_string()))?;
    let made = health.session()?.create_bridge(&name, &def, false).await?;
    Ok((StatusCode::CREATED, Json(shown(&made))))
}

/// One bridge in full.
pub async fn describe(State(health): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    Ok(Json(shown(&health.session()?.bridge(&name).await?)))
}

/// Has one rest.
pub async fn pause(State(health): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    Ok(Json(shown(&health.session()?.pause_bridge(&name).await?)))
}

/// Body of a resumption.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    on_poison: Option<Value>,
    on_trimmed: Option<String>,
}

/// Has one go on.
pub async fn resume(
    State(health): Shared,
    Path(name): Path<String>,
    Json(r): Json<Resume>,
) -> Result<Json<Value>, ApiError> {
    let on_poison = match r.on_poison {
        None => None,
        Some(v) => Some(OnPoison::parse(&v).map_err(|e| ApiError::bad(e.to_string()))?),
    };
    let on_trimmed = match r.on_trimmed.as_deref() {
        None => None,
        Some("stop") => Some(OnTrimmed::Stop),
        Some("skip") => Some(OnTrimmed::Skip),
        Some(_) => return Err(ApiError::bad("on_trimmed must be stop or skip")),
    };
    let alter = BridgeAlter { on_poison, on_trimmed };
    Ok(Json(shown(&health.session()?.resume_bridge(&name, &alter).await?)))
}

/// Removes one.
pub async fn delete(State(health): Shared, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    health.session()?.delete_bridge(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
