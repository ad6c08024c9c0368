//! Consumer groups: list, describe with lag, delete, move their offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millstream_broker::group::{Commit, CommittedOffset, GroupInfo, GroupOp, GroupReply, GroupState, Who};
use millstream_broker::{Broker, PartitionView, Session};
use millstream_types::{LogId, Namespace};
use serde::Deserialize;
use serde_json::{Value, json};

use super::messages::offset_at;
use super::topics::find;
use super::{ApiError, Shared};

/// What cannot be.
pub(super) const UNEXPECTED: &str = "the broker gave another answer than was asked for";

fn state(s: GroupState) -> &'static str {
    match s {
        GroupState::Empty => "Empty",
        GroupState::PreparingRebalance => "PreparingRebalance",
        GroupState::CompletingRebalance => "CompletingRebalance",
        GroupState::Stable => "Stable",
        GroupState::Dead => "Dead",
    }
}

/// All groups.
pub async fn list(State(health): Shared) -> Result<Json<Value>, ApiError> {
    let op = GroupOp::List { ns: Namespace::DEFAULT };
    let GroupReply::List(groups) = health.session()?.group(op).await? else {
        return Err(ApiError::unavailable(UNEXPECTED));
    };
    let groups: Vec<Value> = groups
        .into_iter()
        .map(|g| json!({ "group": g.group, "state": state(g.state), "protocol_type": g.protocol_type }))
        .collect();
    Ok(Json(json!({ "groups": groups })))
}

async fn info(session: &Session, group: &str) -> Result<GroupInfo, ApiError> {
    let op = GroupOp::Describe { ns: Namespace::DEFAULT, groups: vec![group.to_owned()] };
    match session.group(op).await? {
        GroupReply::Describe(mut infos) => infos.pop().flatten(),
        _ => return Err(ApiError::unavailable(UNEXPECTED)),
    }
    .ok_or_else(|| ApiError::not_found(format!("there is no group {group:?}")))
}

fn offsets(broker: &Broker, info: &GroupInfo) -> Vec<Value> {
    let catalogue = broker.catalogue();
    let mut rows = Vec::new();
    for (log, committed) in &info.offsets {
        let Some((topic, index)) = catalogue.by_log.get(log) else { continue };
        let Some(part) = topic.partitions.get(*index as usize) else { continue };
        rows.push(json!({
            "topic": topic.def.name,
            "partition": index,
            "offset": committed.offset,
            "start": part.start(),
            "end": part.visible_end(),
            "lag": part.visible_end().saturating_sub(committed.offset),
            "lost": part.start().saturating_sub(committed.offset),
            "metadata": committed.metadata,
        }));
    }
    rows
}

/// One group: its members, and its lag by partition.
pub async fn describe(State(health): Shared, Path(group): Path<String>) -> Result<Json<Value>, ApiError> {
    let session = health.session()?;
    let info = info(&session, &group).await?;
    let members: Vec<Value> = info
        .members
        .iter()
        .map(|m| {
            json!({
                "member": m.member, "instance": m.instance,
                "client_id": m.client_id, "client_host": m.client_host,
            })
        })
        .collect();
    Ok(Json(json!({
        "group": info.summary.group,
        "state": state(info.summary.state),
        "generation": info.generation,
        "protocol_type": info.summary.protocol_type,
        "protocol": info.protocol,
        "members": members,
        "offsets": offsets(health.broker()?, &info),
    })))
}

/// Removes a group that has no members.
pub async fn delete(State(health): Shared, Path(group): Path<String>) -> Result<StatusCode, ApiError> {
    let op = GroupOp::Delete { ns: Namespace::DEFAULT, groups: vec![group] };
    match health.session()?.group(op).await? {
        GroupReply::Delete(results) => {
            results.into_iter().collect::<Result<Vec<()>, _>>()?;
            Ok(StatusCode::NO_CONTENT)
        }
        _ => Err(ApiError::unavailable(UNEXPECTED)),
    }
}

/// Where to move a group's offsets.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// The first offset held.
    Earliest,
    /// The end.
    Latest,
    /// This offset, within what is held.
    Offset(u64),
    /// The first record at or past this time, milliseconds since the epoch.
    TimeMs(i64),
    /// So many on, or back.
    Shift(i64),
}

/// Body of a reset.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reset {
    /// Which topics; none = those that the group has offsets on.
    #[serde(default)]
    topics: Vec<String>,
    partition: Option<u32>,
    to: To,
    #[serde(default)]
    dry_run: bool,
}

async fn target(
    broker: &Broker,
    part: &Arc<PartitionView>,
    to: &To,
    now: Option<u64>,
) -> Result<u64, ApiError> {
    let (start, end) = (part.start(), part.visible_end());
    Ok(match to {
        To::Earliest => start,
        To::Latest => end,
        To::Offset(n) => (*n).clamp(start, end),
        To::TimeMs(ms) => offset_at(broker, part, *ms).await?,
        To::Shift(by) => now.unwrap_or(start).saturating_add_signed(*by).clamp(start, end),
    })
}

/// Moves a group's offsets; the group must have no members. With `dry_run` nothing is changed.
pub async fn reset(
    State(health): Shared,
    Path(group): Path<String>,
    Json(r): Json<Reset>,
) -> Result<Json<Value>, ApiError> {
    let broker = health.broker()?;
    let session = health.session()?;
    let op = GroupOp::FetchOffsets { ns: Namespace::DEFAULT, group: group.clone(), parts: None };
    let GroupReply::Offsets(held) = session.group(op).await? else {
        return Err(ApiError::unavailable(UNEXPECTED));
    };
    let held: BTreeMap<LogId, u64> = held.into_iter().filter_map(|(l, o)| o.map(|o| (l, o.offset))).collect();
    if held.is_empty() && r.topics.is_empty() {
        return Err(ApiError::not_found(format!("group {group:?} has no offsets: say which topics")));
    }
    let catalogue = broker.catalogue();
    let logs: Vec<LogId> = if r.topics.is_empty() {
        held.keys().copied().collect()
    } else {
        let mut logs = Vec::new();
        for name in &r.topics {
            logs.extend(find(broker, name)?.partitions.iter().map(|p| p.log));
        }
        logs
    };
    let (mut moves, mut rows) = (Vec::new(), Vec::new());
    for log in logs {
        let Some((topic, index)) = catalogue.by_log.get(&log) else { continue };
        let Some(part) = topic.partitions.get(*index as usize) else { continue };
        if r.partition.is_some_and(|p| p != *index) {
            continue;
        }
        let before = held.get(&log).copied();
        let offset = target(broker, part, &r.to, before).await?;
        rows.push(json!({ "topic": topic.def.name, "partition": index, "before": before, "after": offset }));
        moves.push((log, CommittedOffset { offset, leader_epoch: -1, metadata: String::new() }));
    }
    if !r.dry_run && !moves.is_empty() {
        let who =
            Who { ns: Namespace::DEFAULT, group, generation: -1, member: String::new(), instance: None };
        match session.group(GroupOp::Commit(Commit { who, offsets: moves })).await? {
            GroupReply::Commit(result) => {
                result?.into_iter().collect::<Result<Vec<()>, _>>()?;
            }
            _ => return Err(ApiError::unavailable(UNEXPECTED)),
        }
    }
    Ok(Json(json!({ "dry_run": r.dry_run, "offsets": rows })))
}
