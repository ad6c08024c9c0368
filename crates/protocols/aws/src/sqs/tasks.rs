//! Message move tasks: `StartMessageMoveTask`, `ListMessageMoveTasks` and `CancelMessageMoveTask`, on the broker's redrives, which go on after a
//! restart.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream_broker::queue::api::QueueDef;
use millstream_broker::{
    Action, REDRIVES_RUNNING_MAX, Redrive, RedriveError, RedriveFailure, RedriveState, RedriveTask,
};
use serde_json::{Value, json};

use super::{names, redrive};
use crate::answer::Answer;
use crate::error::{AwsError, Kind};
use crate::hex::uuid;
use crate::params::Params;
use crate::server::Cx;

/// Tasks of one answer, at most.
const LIST_MAX: i64 = 10;
/// Highest rate that can be asked for.
const PER_SECOND_MAX: i64 = 500;

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
    let what = Redrive { from: def.id, to: destination, max: None, per_second };
    let task = cx.session.start_redrive(&uuid(cx.server.unique()), what).await.map_err(refused)?;
    a.text("TaskHandle", &handle(cx, &def.name, &task.name));
    Ok(())
}

fn handle(cx: &Cx<'_>, source: &str, task: &str) -> String {
    let arn = names::arn(&cx.server.cfg, source);
    STANDARD.encode(json!({"taskId": task, "sourceArn": arn}).to_string())
}

fn refused(e: RedriveError) -> AwsError {
    match e {
        RedriveError::Running => AwsError::invalid(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        ),
        RedriveError::TooMany => AwsError::new(
            Kind::UnsupportedOperation,
            format!("{REDRIVES_RUNNING_MAX} message move tasks are running: wait for one, or cancel one."),
        ),
        RedriveError::NotFound => no_task(),
        RedriveError::Ended => AwsError::invalid("Only active tasks can be cancelled."),
        RedriveError::Queue(e) => {
            let e = AwsError::from(e);
            if e.kind == Kind::QueueDoesNotExist { no_source() } else { e }
        }
        RedriveError::Task(e) => AwsError::new(Kind::InternalFailure, e.to_string()),
    }
}

fn no_task() -> AwsError {
    let text = "The resource that you specified for the TaskHandle parameter doesn't exist.";
    AwsError::new(Kind::ResourceNotFound, text)
}

pub(crate) async fn list(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let def = source(cx, p, Action::Describe)?;
    let max = p.int("MaxResults")?.unwrap_or(1);
    if !(1..=LIST_MAX).contains(&max) {
        return Err(AwsError::value("MaxResults", max, "must be between 1 and 10."));
    }
    let tasks = cx.session.redrives(def.id).await?;
    let tasks = tasks.into_iter().take(usize::try_from(max).unwrap_or(1));
    let arn = |name: &str| names::arn(&cx.server.cfg, name);
    a.structs("Results", "ListMessageMoveTasksResultEntry", tasks, |a, t| {
        let RedriveTask { name, what, started_ms, done, state } = t;
        if state == RedriveState::Running {
            a.text("TaskHandle", &handle(cx, &def.name, &name));
        }
        let word = match state {
            RedriveState::Running => "RUNNING",
            RedriveState::Completed => "COMPLETED",
            RedriveState::Cancelled => "CANCELLED",
            RedriveState::Failed(_) => "FAILED",
        };
        a.text("Status", word);
        a.text("SourceArn", &arn(&def.name));
        if let Some(to) = &what.to {
            a.text("DestinationArn", &arn(to));
        }
        if let Some(n) = what.per_second {
            a.int("MaxNumberOfMessagesPerSecond", u64::from(n));
        }
        a.int("ApproximateNumberOfMessagesMoved", done.moved);
        a.int("ApproximateNumberOfMessagesToMove", what.max.unwrap_or_default());
        if let RedriveState::Failed(why) = state {
            a.text("FailureReason", reason(why));
        }
        a.int("StartedTimestamp", started_ms);
    });
    Ok(())
}

fn reason(why: RedriveFailure) -> &'static str {
    match why {
        RedriveFailure::SourceGone => "AWS.SimpleQueueService.NonExistentQueue",
        RedriveFailure::Homeless => "CouldNotDetermineMessageSource",
        RedriveFailure::Refused => "DestinationQueueIsFull",
        RedriveFailure::Unreadable => "MessagesCannotBeMoved",
        RedriveFailure::Other => "InternalFailure",
    }
}

pub(crate) async fn cancel(cx: &Cx<'_>, p: Params<'_>, a: &mut Answer) -> Result<(), AwsError> {
    let handle = p.needed("TaskHandle")?;
    let bytes = STANDARD.decode(handle).map_err(|_| no_task())?;
    let said: Value = serde_json::from_slice(&bytes).map_err(|_| no_task())?;
    let name = said.get("taskId").and_then(Value::as_str).ok_or_else(no_task)?;
    let task = cx.session.find_redrive(name).await.map_err(refused)?;
    if let Some(source) = cx.server.broker.queue_by_id(task.what.from) {
        cx.may(&source.name, Action::Read)?;
    }
    let task = cx.session.cancel_redrive(name).await.map_err(refused)?;
    a.int("ApproximateNumberOfMessagesMoved", task.done.moved);
    Ok(())
}
