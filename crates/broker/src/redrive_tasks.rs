//! Redrives that go on after a restart: tasks of the engine. Each step is one record of what is moved and how many were, so that nothing is
//! moved twice, counted twice or left out, whenever the broker is killed.
//!
//! Start at [`Session::start_redrive`]. A redrive that ended is remembered until it is one of too many.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use millstream_engine::queue::api::QueueError;
use millstream_engine::task::{TASK_COUNTERS, Task, TaskKind, TaskState, TaskStep};
use millstream_types::{Namespace, ObjectId};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::watch;

use crate::auth::Principal;
use crate::broker::Broker;
use crate::error::{CallError, QueueCallError, Refused};
use crate::redrive::{End, Redrive, Redriven, Run};
use crate::session::{Session, SessionOptions};
use crate::tasks::{NewTask, TaskAlter, TaskCallError, TaskQuery};
use crate::transaction::Transaction;

/// The kind of task that a redrive is. The number is on disk.
const REDRIVE: TaskKind = TaskKind(2);
/// The version of its definition.
const VERSION: u8 = 1;
/// Which of its counters counts the messages that were moved, and those that it left for one reason or another. The numbers are on disk.
const MOVED: usize = 0;
const HOMELESS: usize = 1;
const REFUSED: usize = 2;
const UNREADABLE: usize = 3;
/// Redrives that run at once, of one broker.
pub const REDRIVES_RUNNING_MAX: usize = 100;
/// Redrives of one queue that are remembered, the one that runs included.
pub const REDRIVES_OF_QUEUE_MAX: usize = 10;
/// Redrives that are remembered in all.
const REDRIVES_MAX: usize = 1_000;

/// Why a redrive ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedriveFailure {
    /// The queue that it takes from is gone.
    SourceGone,
    /// Messages name no queue, or one that is not there.
    Homeless,
    /// The queue that messages go to is full.
    Refused,
    /// Messages cannot be read, or are larger than a message may be.
    Unreadable,
    /// Something else.
    Other,
}

/// What a failure is called in a task's note. The words are on disk.
const FAILURES: [(RedriveFailure, &str); 4] = [
    (RedriveFailure::SourceGone, "source gone"),
    (RedriveFailure::Homeless, "homeless"),
    (RedriveFailure::Refused, "refused"),
    (RedriveFailure::Unreadable, "unreadable"),
];

/// How a redrive stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedriveState {
    /// It is at work.
    Running,
    /// It is done.
    Completed,
    /// Somebody ended it.
    Cancelled,
    /// It left messages where they were, or could not go on.
    Failed(RedriveFailure),
}

/// A redrive that is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedriveTask {
    /// Its name.
    pub name: String,
    /// What goes where. `max` is what was ready when it began.
    pub what: Redrive,
    /// When it began, milliseconds since the epoch.
    pub started_ms: u64,
    /// Messages moved so far, and, once it has ended by itself, those that it left in their places.
    pub done: Redriven,
    /// How it stands.
    pub state: RedriveState,
}

/// Why a redrive was not begun, or not ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RedriveError {
    /// The queue has one that runs.
    #[error("a redrive of the queue is running")]
    Running,
    /// As many run as may.
    #[error("{REDRIVES_RUNNING_MAX} redrives are running")]
    TooMany,
    /// There is none of the name.
    #[error("there is no such redrive")]
    NotFound,
    /// It has ended.
    #[error("the redrive has ended")]
    Ended,
    /// A queue's part of it.
    #[error(transparent)]
    Queue(#[from] QueueCallError),
    /// A task's part of it.
    #[error(transparent)]
    Task(#[from] TaskCallError),
}

impl From<CallError> for RedriveError {
    fn from(e: CallError) -> Self {
        Self::Queue(e.into())
    }
}

/// The redrives that run.
#[derive(Debug, Default)]
pub(crate) struct Redrives {
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    /// Dropping one ends its run.
    running: Mutex<HashMap<ObjectId, watch::Sender<()>>>,
}

impl Redrives {
    fn running(&self) -> MutexGuard<'_, HashMap<ObjectId, watch::Sender<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Begins a redrive that goes on after a restart, of what is ready now. Each queue has one at a time. Those of the queue that ended
    /// longest ago are forgotten beyond [`REDRIVES_OF_QUEUE_MAX`].
    ///
    /// # Durability
    /// What is answered with success survives a crash, and so does each message that is counted as moved, where it is then.
    ///
    /// # Errors
    /// `Running`, `TooMany`; the inner `NotFound` without such a queue; see [`RedriveError`].
    pub async fn start_redrive(&self, name: &str, what: Redrive) -> Result<RedriveTask, RedriveError> {
        let broker = self.broker().clone();
        let _one = broker.redrives().changing.lock().await;
        let tasks = self.redrive_tasks(None).await?;
        let running = |t: &&Task| t.row.state == TaskState::Running;
        if tasks.iter().filter(running).any(|t| is_of(t, what.from)) {
            return Err(RedriveError::Running);
        }
        if tasks.iter().filter(running).count() >= REDRIVES_RUNNING_MAX {
            return Err(RedriveError::TooMany);
        }
        let stats = self.queue_stats(what.from, false).await?;
        let ready = stats.ok_or(QueueCallError::from(QueueError::NotFound))?.ready.n;
        for over in too_many(&tasks, what.from) {
            self.delete_task(over).await?;
        }
        let what = Redrive { max: Some(what.max.unwrap_or(u64::MAX).min(ready)), ..what };
        let new = NewTask {
            kind: REDRIVE,
            name: name.to_owned(),
            definition: encode(&what),
            cursors: Vec::new(),
            state: TaskState::Running,
        };
        let task = self.create_task(new).await?;
        let info = info(&task).ok_or(RedriveError::NotFound)?;
        begin(&broker, task, what, false);
        Ok(info)
    }

    /// The redrives of a queue that are remembered, the latest first.
    ///
    /// # Durability
    /// What it shows is durable.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn redrives(&self, from: ObjectId) -> Result<Vec<RedriveTask>, CallError> {
        let tasks = self.redrive_tasks(None).await?;
        Ok(tasks.iter().rev().filter(|t| is_of(t, from)).filter_map(info).collect())
    }

    /// A redrive.
    ///
    /// # Errors
    /// `NotFound`; see [`RedriveError`].
    pub async fn find_redrive(&self, name: &str) -> Result<RedriveTask, RedriveError> {
        let task = self.redrive_tasks(Some(name)).await?.pop().ok_or(RedriveError::NotFound)?;
        info(&task).ok_or(RedriveError::NotFound)
    }

    /// Ends a redrive. What it moved stays moved, and what is answered is all that it moved; what it holds goes back to its place.
    ///
    /// # Durability
    /// As [`Session::start_redrive`].
    ///
    /// # Errors
    /// `NotFound`, `Ended`; see [`RedriveError`].
    pub async fn cancel_redrive(&self, name: &str) -> Result<RedriveTask, RedriveError> {
        let broker = self.broker().clone();
        let _one = broker.redrives().changing.lock().await;
        let task = self.redrive_tasks(Some(name)).await?.pop().ok_or(RedriveError::NotFound)?;
        if task.row.state != TaskState::Running {
            return Err(RedriveError::Ended);
        }
        let to = TaskAlter { state: Some((TaskState::Cancelled, String::new())), ..TaskAlter::default() };
        let altered = self.alter_task(&task, to).await.map_err(|e| match e {
            // Only its end changes it.
            TaskCallError::Task(_) => RedriveError::Ended,
            e @ TaskCallError::Call(_) => e.into(),
        })?;
        broker.redrives().running().remove(&task.id);
        info(&altered).ok_or(RedriveError::NotFound)
    }

    async fn redrive_tasks(&self, name: Option<&str>) -> Result<Vec<Task>, CallError> {
        let ns = Some(self.namespace());
        self.tasks(&TaskQuery { ns, kind: Some(REDRIVE), name: name.map(str::to_owned) }).await
    }
}

/// Those that are forgotten before another one of the queue begins. The latest are last in `tasks`.
fn too_many(tasks: &[Task], from: ObjectId) -> Vec<ObjectId> {
    let ended: Vec<&Task> = tasks.iter().filter(|t| t.row.state != TaskState::Running).collect();
    let of_queue: Vec<&Task> = ended.iter().copied().filter(|t| is_of(t, from)).collect();
    let over = (of_queue.len() + 1).saturating_sub(REDRIVES_OF_QUEUE_MAX);
    let mut forgotten: Vec<ObjectId> = of_queue.iter().take(over).map(|t| t.id).collect();
    let over = (tasks.len() + 1).saturating_sub(forgotten.len() + REDRIVES_MAX);
    let others: Vec<ObjectId> = ended.iter().map(|t| t.id).filter(|id| !forgotten.contains(id)).collect();
    forgotten.extend(others.into_iter().take(over));
    forgotten
}

fn is_of(task: &Task, from: ObjectId) -> bool {
    decode(&task.row.definition).is_some_and(|what| what.from == from)
}

fn info(task: &Task) -> Option<RedriveTask> {
    let row = &task.row;
    let state = match row.state {
        TaskState::Completed => RedriveState::Completed,
        TaskState::Cancelled | TaskState::Cancelling => RedriveState::Cancelled,
        TaskState::Failed => {
            let why = FAILURES.iter().find(|(_, word)| *word == row.note);
            RedriveState::Failed(why.map_or(RedriveFailure::Other, |f| f.0))
        }
        TaskState::Running | TaskState::Paused | TaskState::Stopped => RedriveState::Running,
    };
    let count = |which: usize| row.counters.get(which).copied().unwrap_or_default();
    let done = Redriven {
        moved: count(MOVED),
        homeless: count(HOMELESS),
        refused: count(REFUSED),
        unreadable: count(UNREADABLE),
    };
    let what = decode(&row.definition)?;
    Some(RedriveTask { name: row.name.clone(), what, started_ms: row.created_ms, done, state })
}

fn encode(what: &Redrive) -> Bytes {
    let Redrive { from, to, max, per_second } = what;
    let mut out = vec![VERSION];
    out.extend(
        json!({"from": from.0, "to": to, "max": max, "per_second": per_second}).to_string().into_bytes(),
    );
    out.into()
}

/// `None`: a later version wrote it.
fn decode(bytes: &[u8]) -> Option<Redrive> {
    let (VERSION, text) = bytes.split_first().map(|(v, text)| (*v, text))? else { return None };
    let v: Value = serde_json::from_slice(text).ok()?;
    Some(Redrive {
        from: ObjectId(v.get("from")?.as_u64()?),
        to: v.get("to").and_then(Value::as_str).map(str::to_owned),
        max: v.get("max").and_then(Value::as_u64),
        per_second: v.get("per_second").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()),
    })
}

/// Has all go on that ran when the broker ended.
pub(crate) async fn resume_all(broker: Broker) {
    let session = session(&broker, Namespace::DEFAULT);
    let all = TaskQuery { kind: Some(REDRIVE), ..TaskQuery::default() };
    let _one = broker.redrives().changing.lock().await;
    let Ok(tasks) = session.tasks(&all).await else { return };
    for task in tasks.into_iter().filter(|t| t.row.state == TaskState::Running) {
        // One that was begun since the broker was opened goes on already.
        if broker.redrives().running().contains_key(&task.id) {
            continue;
        }
        match decode(&task.row.definition) {
            Some(what) => begin(&broker, task, what, true),
            None => {
                tracing::error!(redrive = task.row.name, "the definition is from a later version: it rests");
            }
        }
    }
}

fn session(broker: &Broker, ns: Namespace) -> Session {
    broker.session(Principal::inner("redrive"), ns, SessionOptions::default())
}

fn begin(broker: &Broker, task: Task, what: Redrive, resumed: bool) {
    let (stop, stopped) = watch::channel(());
    broker.redrives().running().entry(task.id).or_insert(stop);
    let broker = broker.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = work(&broker, &task, what, stopped, resumed) => {}
            () = broker.closed() => {}
        }
        broker.redrives().running().remove(&task.id);
    });
}

async fn work(broker: &Broker, task: &Task, what: Redrive, stopped: watch::Receiver<()>, resumed: bool) {
    let done = redrive(broker, task, what, stopped, resumed).await;
    let mut last = step(task);
    let (state, note) = match done {
        Ok(done) => {
            for (which, n) in
                [(HOMELESS, done.homeless), (REFUSED, done.refused), (UNREADABLE, done.unreadable)]
            {
                if let Some(count) = last.add.get_mut(which) {
                    *count = n;
                }
            }
            match failure(&done) {
                None => (TaskState::Completed, ""),
                Some(why) => (TaskState::Failed, word(why)),
            }
        }
        Err(End::Call(QueueCallError::Queue(QueueError::NotFound))) => {
            (TaskState::Failed, word(RedriveFailure::SourceGone))
        }
        // It was cancelled; or the broker ends, and it goes on with the next one.
        Err(
            End::Changed
            | End::Call(QueueCallError::Call(CallError::FateUnknown | CallError::Refused(Refused::Closed))),
        ) => return,
        Err(End::Call(e)) => {
            tracing::error!(redrive = task.row.name, error = %e, "a redrive failed");
            (TaskState::Failed, word(RedriveFailure::Other))
        }
    };
    last.then = Some((state, note.to_owned()));
    let end = Transaction { task: Some(last), ..Transaction::default() };
    // Somebody may have cancelled it meanwhile.
    drop(session(broker, task.row.ns).transaction(&end).await);
}

async fn redrive(
    broker: &Broker,
    task: &Task,
    what: Redrive,
    stopped: watch::Receiver<()>,
    resumed: bool,
) -> Result<Redriven, End> {
    let moved = task.row.counters.get(MOVED).copied().unwrap_or_default();
    let left = what.max.map(|max| max.saturating_sub(moved));
    let mut run = Run::new(broker, task.row.ns, what, stopped)?;
    run.task = Some((step(task), MOVED));
    if resumed {
        run.settled().await?;
    }
    run.run(left).await
}

fn step(task: &Task) -> TaskStep {
    let (task, version) = (task.id, task.row.version);
    TaskStep { task, version, cursors: Vec::new(), add: [0; TASK_COUNTERS], then: None }
}

fn failure(done: &Redriven) -> Option<RedriveFailure> {
    let all = [
        (done.homeless, RedriveFailure::Homeless),
        (done.refused, RedriveFailure::Refused),
        (done.unreadable, RedriveFailure::Unreadable),
    ];
    all.into_iter().find(|(n, _)| *n > 0).map(|(_, why)| why)
}

fn word(why: RedriveFailure) -> &'static str {
    FAILURES.iter().find(|f| f.0 == why).map_or("other", |f| f.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of version 1, which later programs must read.
    #[test]
    fn version_one_is_these_bytes() {
        let what =
            Redrive { from: ObjectId(7), to: Some("q".to_owned()), max: Some(3), per_second: Some(500) };
        let golden = b"\x01{\"from\":7,\"max\":3,\"per_second\":500,\"to\":\"q\"}";
        assert_eq!(&encode(&what)[..], golden);
        assert_eq!(decode(golden), Some(what));
        let least = Redrive { from: ObjectId(7), to: None, max: None, per_second: None };
        assert_eq!(decode(&encode(&least)), Some(least));
        for wrong in [&b""[..], b"\x02{}", b"\x01{}", b"\x01no"] {
            assert_eq!(decode(wrong), None);
        }
    }
}
