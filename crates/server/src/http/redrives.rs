//! Redrives: start, list, describe, cancel. They are tasks: they go on whoever asked for them goes, and after a restart of the broker.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millstream_broker::{Redrive, RedriveError, RedriveFailure, RedriveState, RedriveTask};
use millstream_types::Namespace;
use serde::Deserialize;
use serde_json::{Value, json};

use super::queues::find;
use super::{ApiError, Health, Shared};

/// Redrives begun by this process: part of their names.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Body of a redrive.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    to: Option<String>,
    max: Option<u64>,
    /// Messages a second.
    rate: Option<u32>,
}

/// Begins to take dead letters back to where they came from.
pub async fn start(
    State(health): Shared,
    Path(name): Path<String>,
    Json(s): Json<Start>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let broker = health.broker()?;
    let def = find(broker, &name)?;
    if let Some(to) = &s.to {
        find(broker, to)?;
        if *to == name {
            return Err(ApiError::bad("a queue's messages cannot be taken to itself"));
        }
    }
    if s.rate == Some(0) {
        return Err(ApiError::bad("the rate is at least 1"));
    }
    let what = Redrive { from: def.id, to: s.to, max: s.max, per_second: s.rate };
    let task = format!("{}-{}-{}", def.id.0, broker.now_ms(), BEGUN.fetch_add(1, Ordering::Relaxed));
    let begun = health.session()?.start_redrive(&task, what).await?;
    Ok((StatusCode::CREATED, Json(shown(&name, &begun))))
}

/// Those of a queue that are remembered, the latest first.
pub async fn list(State(health): Shared, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let def = find(health.broker()?, &name)?;
    let all = health.session()?.redrives(def.id).await?;
    let all: Vec<Value> = all.iter().map(|t| shown(&name, t)).collect();
    Ok(Json(json!({ "name": name, "redrives": all })))
}

/// One.
pub async fn describe(
    State(health): Shared,
    Path((name, redrive)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(shown(&name, &of_queue(&health, &name, &redrive).await?)))
}

/// Ends one: what it moved stays moved.
pub async fn cancel(
    State(health): Shared,
    Path((name, redrive)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    of_queue(&health, &name, &redrive).await?;
    Ok(Json(shown(&name, &health.session()?.cancel_redrive(&redrive).await?)))
}

/// A redrive, if it is of the queue that is named. Of a queue that is gone the name is not known any more: then any that is no queue's will do.
async fn of_queue(health: &Health, name: &str, redrive: &str) -> Result<RedriveTask, ApiError> {
    let broker = health.broker()?;
    let task = health.session()?.find_redrive(redrive).await?;
    let is_its = match broker.queue(Namespace::DEFAULT, name) {
        Some(def) => def.id == task.what.from,
        None => broker.queue_by_id(task.what.from).is_none(),
    };
    if is_its { Ok(task) } else { Err(RedriveError::NotFound.into()) }
}

fn shown(queue: &str, t: &RedriveTask) -> Value {
    let (state, cause) = match t.state {
        RedriveState::Running => ("running", None),
        // Those that left messages went to their end as well: the counts tell.
        RedriveState::Completed
        | RedriveState::Failed(
            RedriveFailure::Homeless | RedriveFailure::Refused | RedriveFailure::Unreadable,
        ) => ("completed", None),
        RedriveState::Cancelled => ("cancelled", None),
        RedriveState::Failed(RedriveFailure::SourceGone) => ("failed", Some("the queue is gone")),
        RedriveState::Failed(RedriveFailure::Other) => ("failed", Some("the broker's log says why")),
    };
    json!({
        "name": queue,
        "id": t.name,
        "state": state,
        "cause": cause,
        "to": t.what.to,
        "messages": t.what.max,
        "rate": t.what.per_second,
        "started_ms": t.started_ms,
        "moved": t.done.moved,
        "homeless": t.done.homeless,
        "refused": t.done.refused,
        "unreadable": t.done.unreadable,
    })
}
