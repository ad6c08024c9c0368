//! Consuming as a member of a group, poll by poll: each poll commits what the one before gave, so that nothing counts as read that
//! the other side did not take.
//!
//! A member lives while it polls; one that stays away longer than its session timeout is evicted by its group, like any consumer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millstream_broker::{Broker, PartitionView};
use millstream_kafka::member::{GroupMember, MemberError, SESSION_TIMEOUT_MS};
use millstream_types::LogId;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::messages::{READ_BYTES, line, records};
use super::topics::find;
use super::{ApiError, Shared};

/// Most members of this listener at once.
const MEMBERS_MAX: usize = 1_000;
/// Longest wait of one poll; well below the session timeout.
const POLL_WAIT_MAX: Duration = Duration::from_secs(10);
/// Most messages of one poll.
const POLL_MESSAGES_MAX: usize = 1_000;

/// The members of this listener.
#[derive(Debug, Default)]
pub struct Members {
    next: std::sync::atomic::AtomicU64,
    all: Mutex<HashMap<String, Arc<Mutex<Polled>>>>,
}

#[derive(Debug)]
struct Polled {
    member: GroupMember,
    topic: String,
    cursors: BTreeMap<u32, (Arc<PartitionView>, u64)>,
    /// What the last poll gave: committed by the next.
    given: BTreeMap<LogId, u64>,
    last: Instant,
}

impl From<MemberError> for ApiError {
    fn from(e: MemberError) -> Self {
        match e {
            MemberError::Group(e) => e.into(),
            MemberError::Call(e) => e.into(),
            MemberError::Damaged => Self::bad(e.to_string()),
        }
    }
}

/// Body of a join.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinBody {
    topic: String,
}

/// Joins a group; answers with the member's token.
pub async fn join(
    State(health): Shared,
    Path(group): Path<String>,
    Json(body): Json<JoinBody>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let broker = health.broker()?;
    find(broker, &body.topic)?;
    let members = health.members();
    {
        let mut all = members.all.lock().await;
        let gone = Duration::from_millis(u64::from(SESSION_TIMEOUT_MS));
        all.retain(|_, m| m.try_lock().map_or(true, |m| m.last.elapsed() < gone));
        if all.len() >= MEMBERS_MAX {
            return Err(ApiError::unavailable(format!("more than {MEMBERS_MAX} members over HTTP")));
        }
    }
    let member = GroupMember::join(health.session()?, group, body.topic.clone()).await?;
    let mut polled = Polled {
        member,
        topic: body.topic,
        cursors: BTreeMap::new(),
        given: BTreeMap::new(),
        last: Instant::now(),
    };
    polled.take_up(broker).await?;
    let token = format!("m{}", members.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1);
    let partitions = polled.member.assigned().to_vec();
    members.all.lock().await.insert(token.clone(), Arc::new(Mutex::new(polled)));
    Ok((StatusCode::CREATED, Json(json!({ "member": token, "partitions": partitions }))))
}

async fn member(members: &Members, token: &str) -> Result<Arc<Mutex<Polled>>, ApiError> {
    let found = members.all.lock().await.get(token).cloned();
    found.ok_or_else(|| ApiError::not_found(format!("there is no member {token:?} (any more): join again")))
}

/// Body of a poll.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollBody {
    max: Option<usize>,
    #[serde(default)]
    wait_ms: u64,
}

/// Commits what the last poll gave, and gives more.
pub async fn poll(
    State(health): Shared,
    Path((_, token)): Path<(String, String)>,
    Json(body): Json<PollBody>,
) -> Result<Json<Value>, ApiError> {
    let broker = health.broker()?;
    let polled = member(health.members(), &token).await?;
    let mut polled = polled.lock().await;
    polled.commit().await?;
    if polled.member.heartbeat().await? {
        polled.member.rejoin().await?;
        polled.take_up(broker).await?;
    }
    let max = body.max.unwrap_or(POLL_MESSAGES_MAX).min(POLL_MESSAGES_MAX);
    let deadline = Instant::now() + Duration::from_millis(body.wait_ms).min(POLL_WAIT_MAX);
    let mut messages = polled.read(broker, max).await?;
    if messages.is_empty() && body.wait_ms > 0 {
        let ends: Vec<_> = polled.cursors.values().cloned().collect();
        broker.streams().wait(&ends, deadline).await;
        messages = polled.read(broker, max).await?;
    }
    polled.last = Instant::now();
    let at_end = polled.cursors.values().all(|(part, next)| *next >= part.visible_end());
    Ok(Json(json!({ "messages": messages, "at_end": at_end, "partitions": polled.member.assigned() })))
}

/// Leaves; what the last poll gave is committed first.
pub async fn leave(
    State(health): Shared,
    Path((_, token)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let members = health.members();
    let polled = member(members, &token).await?;
    members.all.lock().await.remove(&token);
    polled.lock().await.commit().await?;
    if let Some(polled) = Arc::into_inner(polled) {
        polled.into_inner().member.leave().await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

impl Polled {
    /// Cursors on what is assigned now: at the committed offsets, else at the start.
    async fn take_up(&mut self, broker: &Broker) -> Result<(), ApiError> {
        let topic = find(broker, &self.topic)?;
        let mut parts = BTreeMap::new();
        for p in self.member.assigned() {
            if let Some(part) = topic.partitions.get(*p as usize) {
                parts.insert(*p, Arc::clone(part));
            }
        }
        let committed = self.member.committed(parts.values().map(|p| p.log).collect()).await?;
        let committed: HashMap<LogId, u64> =
            committed.into_iter().filter_map(|(l, o)| o.map(|o| (l, o))).collect();
        let at = |part: Arc<PartitionView>| {
            let next = committed.get(&part.log).copied().unwrap_or(0).max(part.start());
            (part, next)
        };
        self.cursors = parts.into_iter().map(|(p, part)| (p, at(part))).collect();
        self.given.clear();
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), ApiError> {
        if self.given.is_empty() {
            return Ok(());
        }
        match self.member.commit(std::mem::take(&mut self.given).into_iter().collect()).await {
            // The group moved on: what was given goes to the partitions' new owners once more.
            Ok(()) | Err(MemberError::Group(_)) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    async fn read(&mut self, broker: &Broker, max: usize) -> Result<Vec<Value>, ApiError> {
        let mut out = Vec::new();
        for (index, (part, next)) in &mut self.cursors {
            if out.len() >= max {
                break;
            }
            *next = (*next).max(part.start());
            let batch = broker.streams().fetch(part, *next, READ_BYTES).await?;
            let mut whole = true;
            for r in
                batch.entries.into_iter().map(records).collect::<Result<Vec<_>, _>>()?.into_iter().flatten()
            {
                if r.offset < *next {
                    continue;
                }
                if out.len() >= max {
                    whole = false;
                    break;
                }
                *next = r.offset + 1;
                out.push(line(*index, &r));
            }
            if whole {
                *next = (*next).max(batch.next);
            }
            self.given.insert(part.log, *next);
        }
        Ok(out)
    }
}
