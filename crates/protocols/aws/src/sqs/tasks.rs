//! Message move tasks: `StartMessageMoveTask`, `ListMessageMoveTasks` and `CancelMessageMoveTask`, on the broker's redrive.
//!
//! A task runs as long as the broker does; what it moved stays moved, and what it held is back in its place after a restart. Tasks are
//! listed until then, or until so many came later.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_broker::queue::api::QueueDef;
use millstream_broker::{Action, QueueCallError, Redrive, Redriven, Redriving};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{names, redrive};
use crate::answer::Answer;
use crate::error::{AwsError, Kind};
use crate::hex::uuid;
use crate::params::Params;
use crate::server::Cx;

/// Tasks that are remembered, and that run at once.
const TASKS_MAX: usize = 1_000;
/// Tasks of one answer.
const LIST_MAX: i64 = 10;
/// Highest rate that can be asked for.
const PER_SECOND_MAX: i64 = 500;

/// How a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Status {
    Running,
    Completed,
    Cancelled,
    Failed(&'static str),
}

/// A task.
#[derive(Debug)]
struct MoveTask {
    id: String,
    source: String,
    destination: Option<String>,
    per_second: Option<u32>,
    started_ms: u64,
    to_move: u64,
    moved: Arc<AtomicU64>,
    status: Mutex<Status>,
    cancel: watch::Sender<bool>,
}

impl MoveTask {
    fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Says how it ended, unless that was said before.
    fn end(&self, how: Status) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if *status == Status::Running {
            *status = how;
        }
    }
    fn handle(&self, cx: &Cx<'_>) -> String {
        let arn = names::arn(&cx.server.cfg, &self.source);
        STANDARD.encode(json!({"taskId": self.id, "sourceArn": arn}).to_string())
    }
}

/// All tasks, the latest last.
#[derive(Debug, Default)]
pub(crate) struct MoveTasks(Mutex<VecDeque<Arc<MoveTask>>>);

impl MoveTasks {
    fn find(&self, id: &str) -> Option<Arc<MoveTask>> {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().find(|t| t.id == id).map(Arc::clone)
    }

    /// Those of a queue, the latest first.
    fn of(&self, source: &str, max: usize) -> Vec<Arc<MoveTask>> {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().rev().filter(|t| t.source == source).take(max).map(Arc::clone).collect()
    }

    /// Takes a task in. `false`: its queue has one that runs, or too many do.
    fn add(&self, task: &Arc<MoveTask>) -> bool {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.iter().any(|t| t.source == task.source && t.status() == Status::Running) {
            return false;
        }
        if tasks.len() >= TASKS_MAX {
            let Some(over) = tasks.iter().position(|t| t.status() != Status::Running) else { return false };
            tasks.remove(over);
        }
        tasks.push_back(Arc::clone(task));
        true
    }
}

fn no_source() -> AwsError {
    let text = "The resource that you specified for the SourceArn parameter doesn't exist.";
    AwsError::new(Kind::ResourceNotFound, text)
}

fn source(cx: &Cx<'_>, p: Params<'_>, action: Action) -> Result<Arc<QueueDef>, AwsError> {
    let arn = p.needed("SourceArn")?;
    let name = names::name_in_arn(arn).ok_or_else(no_source)?;
    cx.named(name, action).map_err(|e| if e.kind == Kind::QueueDoesNotExist { no_source() } else { e })
}

pub(crate) async fn start(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = source(cx, p, Action::Read)?;
    if !redrive::is_dead_letter_queue(cx, &def.name) {
        return Err(AwsError::invalid("Source queue must be configured as a Dead Letter Queue."));
    }
    let destination = match p.text("DestinationArn")?.filter(|d| !d.is_empty()) {
        None => None,
        Some(arn) => {
            let missing = || {
                let text = "The resource that you specified for the DestinationArn parameter doesn't exist.";
                AwsError::new(Kind::ResourceNotFound, text)
            };
            let name = names::name_in_arn(arn).ok_or_else(missing)?;
            Some(cx.named(name, Action::Write).map_err(|_| missing())?.name.clone())
        }
    };
    if destination.as_ref() == Some(&def.name) {
        return Err(AwsError::invalid("Source queue arn and destination queue arn cannot be the same."));
    }
    let rate = p.int("MaxNumberOfMessagesPerSecond")?;
    if let Some(n) = rate.filter(|n| !(1..=PER_SECOND_MAX).contains(n)) {
        return Err(AwsError::value("MaxNumberOfMessagesPerSecond", n, "must be between 1 and 500."));
    }
    let per_second = rate.and_then(|n| u32::try_from(n).ok());
    let stats = cx.session.queue_stats(def.id, false).await?.ok_or_else(no_source)?;
    let broker = &cx.server.broker;
    let what = Redrive { from: def.id, to: destination.clone(), max: None, per_second };
    let (cancel, cancelled) = watch::channel(false);
    let mut task = MoveTask {
        id: uuid(cx.server.unique()),
        source: def.name.clone(),
        destination,
        per_second,
        started_ms: broker.now_ms(),
        to_move: stats.ready.n,
        moved: Arc::default(),
        status: Mutex::new(Status::Running),
        cancel,
    };
    let redriving = broker.redrive(cx.session.namespace(), what)?;
    task.moved = redriving.progress();
    let task = Arc::new(task);
    if !cx.server.moves.add(&task) {
        // Dropping the redrive ends it: what it held goes back.
        return Err(AwsError::invalid(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        ));
    }
    tokio::spawn(watch(redriving, Arc::clone(&task), cancelled));
    a.text("TaskHandle", &task.handle(cx));
    Ok(())
}

/// Waits for the end of a task.
async fn watch(redriving: Redriving, task: Arc<MoveTask>, mut cancelled: watch::Receiver<bool>) {
    tokio::select! {
        result = redriving => task.end(ended(&result)),
        _ = cancelled.wait_for(|c| *c) => task.end(Status::Cancelled),
    }
}

fn ended(result: &Result<Redriven, QueueCallError>) -> Status {
    match result {
        Ok(done) if done.homeless > 0 => Status::Failed("CouldNotDetermineMessageSource"),
        Ok(done) if done.refused > 0 => Status::Failed("DestinationQueueIsFull"),
        Ok(done) if done.unreadable > 0 => Status::Failed("MessagesCannotBeMoved"),
        Ok(_) => Status::Completed,
        Err(_) => Status::Failed("InternalFailure"),
    }
}

pub(crate) fn list(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = source(cx, p, Action::Describe)?;
    let max = p.int("MaxResults")?.unwrap_or(1);
    if !(1..=LIST_MAX).contains(&max) {
        return Err(AwsError::value("MaxResults", max, "must be between 1 and 10."));
    }
    let tasks = cx.server.moves.of(&def.name, usize::try_from(max).unwrap_or(1));
    let arn = |name: &str| names::arn(&cx.server.cfg, name);
    a.structs("Results", "ListMessageMoveTasksResultEntry", tasks, |a, t| {
        let status = t.status();
        if status == Status::Running {
            a.text("TaskHandle", &t.handle(cx));
        }
        let word = match status {
            Status::Running => "RUNNING",
            Status::Completed => "COMPLETED",
            Status::Cancelled => "CANCELLED",
            Status::Failed(_) => "FAILED",
        };
        a.text("Status", word);
        a.text("SourceArn", &arn(&t.source));
        if let Some(to) = &t.destination {
            a.text("DestinationArn", &arn(to));
        }
        if let Some(n) = t.per_second {
            a.int("MaxNumberOfMessagesPerSecond", u64::from(n));
        }
        a.int("ApproximateNumberOfMessagesMoved", t.moved.load(Ordering::Relaxed));
        a.int("ApproximateNumberOfMessagesToMove", t.to_move);
        if let Status::Failed(why) = status {
            a.text("FailureReason", why);
        }
        a.int("StartedTimestamp", t.started_ms);
    });
    Ok(())
}

pub(crate) fn cancel(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let handle = p.needed("TaskHandle")?;
    let missing = || {
        let text = "The resource that you specified for the TaskHandle parameter doesn't exist.";
        AwsError::new(Kind::ResourceNotFound, text)
    };
    let bytes = STANDARD.decode(handle).map_err(|_| missing())?;
    let said: Value = serde_json::from_slice(&bytes).map_err(|_| missing())?;
    let id = said.get("taskId").and_then(Value::as_str).ok_or_else(missing)?;
    let task = cx.server.moves.find(id).ok_or_else(missing)?;
    cx.may(&task.source, Action::Read)?;
    if task.status() != Status::Running {
        return Err(AwsError::invalid("Only active tasks can be cancelled."));
    }
    task.end(Status::Cancelled);
    let _ = task.cancel.send(true);
    a.int("ApproximateNumberOfMessagesMoved", task.moved.load(Ordering::Relaxed));
    Ok(())
}
