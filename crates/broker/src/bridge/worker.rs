//! Who works on a bridge: one task of the runtime each, asleep while there is nothing to pass on.
//!
//! A worker knows its task's row and takes steps from it; each step is one record with what it publishes and how far it came. A step that does
//! not count (the bridge was changed, or a twin was faster) ends the worker, and what was published with it never happened.

use std::sync::Arc;
use std::time::Duration;

use millstream_engine::op::TransactError;
use millstream_engine::task::{CursorStep, TASK_COUNTERS, Task, TaskState, TaskStep};
use tokio::sync::watch;

use super::def::{BridgeDef, Source};
use super::live::Status;
use super::{BRIDGE, counter};
use crate::auth::Principal;
use crate::broker::Broker;
use crate::error::{CallError, PublishError, Refused};
use crate::session::{Session, SessionOptions};
use crate::tasks::TaskQuery;
use crate::transaction::{NotPublished, Transaction, TransactionError};

/// Messages of one step.
pub(super) const STEP_MESSAGES_MAX: usize = 256;
/// Bytes of bodies of one step, if it has more than one message.
pub(super) const STEP_BYTES_MAX: usize = 1 << 20;
/// Between two tries of what failed.
const RETRY_WAIT_MIN: Duration = Duration::from_secs(1);
const RETRY_WAIT_MAX: Duration = Duration::from_mins(1);
/// Offsets of messages that were not passed on, of which the last are kept.
pub(super) const POISON_KEPT: u64 = 100;
/// Cursors of the task that hold them: in which log, and one more than the offset. No log has such an id.
const POISON_LOG_SLOT: u64 = 0xffff_0000_0000_0000;
const POISON_AT_SLOT: u64 = 0xffff_0001_0000_0000;

/// Why a worker does not go on for now.
#[derive(Debug)]
pub(super) enum Rest {
    /// For a cause that may go away.
    Blocked {
        cause: String,
        /// Trying more often is of use: somebody makes room.
        soon: bool,
    },
    /// For good: the bridge was changed, or the broker ends.
    End,
}

impl Rest {
    pub(super) fn blocked(cause: impl Into<String>) -> Self {
        Self::Blocked { cause: cause.into(), soon: false }
    }
}

/// What a worker has.
pub(super) struct Worker {
    pub(super) broker: Broker,
    pub(super) session: Session,
    pub(super) def: BridgeDef,
    /// As it was read, and as the steps since made it.
    pub(super) task: Task,
    pub(super) status: Arc<Status>,
}

/// Why a step did not happen.
#[derive(Debug)]
pub(super) enum NoStep {
    /// One of its messages can never be taken.
    Poison {
        /// Which of those that it publishes; appends are counted behind them.
        item: usize,
        why: String,
    },
    /// It was too much at once.
    TooLarge,
    /// A queue is full; it may have room for less.
    Full(String),
    /// Another cause.
    Rest(Rest),
}

/// Starts a bridge's worker.
pub(super) fn start(broker: &Broker, task: Task) {
    let status = broker.bridges_live().status(task.id);
    status.unblocked();
    let id = task.id;
    let (broker, live) = (broker.clone(), broker.clone());
    let worker = tokio::spawn(async move {
        tokio::select! {
            () = run(broker.clone(), task, status) => {}
            () = broker.closed() => {}
        }
    });
    live.bridges_live().began(id, worker);
}

/// Starts all bridges that are to run.
pub(crate) async fn start_all(broker: Broker) {
    let session = session(&broker, millstream_types::Namespace::DEFAULT);
    let all = TaskQuery { kind: Some(BRIDGE), ..TaskQuery::default() };
    let _one = broker.bridges_live().changing.lock().await;
    let Ok(tasks) = session.tasks(&all).await else { return };
    for task in tasks {
        // One that was made since the broker was opened has its worker already: another would end that one, and then find its steps taken.
        if task.row.state == TaskState::Running && !broker.bridges_live().is_running(task.id) {
            start(&broker, task);
        }
    }
}

fn session(broker: &Broker, ns: millstream_types::Namespace) -> Session {
    let who = Principal::inner("bridge");
    broker.session(who, ns, SessionOptions::default())
}

async fn run(broker: Broker, task: Task, status: Arc<Status>) {
    let def = match BridgeDef::decode(&task.row.definition) {
        Ok(def) => def,
        Err(e) => {
            status.blocked(&e.to_string(), broker.now_ms(), u64::MAX);
            return tracing::error!(bridge = task.row.name, error = %e, "a bridge's definition cannot be read");
        }
    };
    let session = session(&broker, task.row.ns);
    let mut worker = Worker { broker: broker.clone(), session, def, task, status };
    let mut changed = broker.shared().changed.subscribe();
    let mut wait = RETRY_WAIT_MIN;
    loop {
        changed.mark_unchanged();
        let steps_before = worker.task.row.stepped_ms;
        let rest = match worker.def.source {
            Source::Topic { .. } => super::topic::work(&mut worker).await,
            Source::Queue(_) | Source::DeadLettersOf(_) => super::queue::work(&mut worker).await,
        };
        let Rest::Blocked { cause, soon } = rest else { return };
        if worker.task.row.stepped_ms != steps_before || soon {
            wait = RETRY_WAIT_MIN;
        }
        worker.rest(&cause, wait, &mut changed).await;
        wait = (wait * 2).min(RETRY_WAIT_MAX);
    }
}

impl Worker {
    /// Rests until something changes that could be the cause's end, or its time is over.
    async fn rest(&self, cause: &str, wait: Duration, changed: &mut watch::Receiver<()>) {
        let now_ms = self.broker.now_ms();
        let retry_ms = now_ms.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        if self.status.get(now_ms).1.is_none_or(|b| b.cause != cause) {
            tracing::warn!(bridge = self.task.row.name, cause, "a bridge rests, and tries again");
        }
        self.status.blocked(cause, now_ms, retry_ms);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = changed.changed() => {}
        }
    }

    /// A step of this task that changes nothing yet.
    pub(super) fn step(&self) -> TaskStep {
        TaskStep { task: self.task.id, version: self.task.row.version, ..TaskStep::default() }
    }

    /// Notes in a step where messages are that are not passed on, (log, offset) each.
    pub(super) fn note_poison(&self, step: &mut TaskStep, poison: &[(u64, u64)]) {
        let row = &self.task.row;
        let before: u64 = counter::POISON.iter().filter_map(|c| row.counters.get(*c)).sum();
        let first = poison.len().saturating_sub(usize::try_from(POISON_KEPT).unwrap_or(usize::MAX));
        for (n, (log, offset)) in (0..).zip(poison).skip(first) {
            let place = (before + n) % POISON_KEPT;
            for (slot, to) in
                [(POISON_LOG_SLOT + place, *log), (POISON_AT_SLOT + place, offset.saturating_add(1))]
            {
                step.cursors.push(CursorStep { slot, from: row.cursor(slot), to });
            }
        }
    }

    /// Takes a step with all that belongs to it, and is where it leads.
    pub(super) async fn take(&mut self, tx: Transaction, messages: u64) -> Result<(), NoStep> {
        let result = self.session.transaction(&tx).await.map(drop);
        self.taken(tx, result, messages)
    }

    /// Is where a step leads that was submitted.
    pub(super) fn taken(
        &mut self,
        tx: Transaction,
        result: Result<(), TransactionError>,
        messages: u64,
    ) -> Result<(), NoStep> {
        result.map_err(no_step)?;
        let Some(step) = tx.task else { return Err(NoStep::Rest(Rest::End)) };
        let now_ms = self.broker.now_ms();
        let row = &mut self.task.row;
        row.stepped_ms = now_ms;
        row.cursors.extend(step.cursors.iter().map(|c| (c.slot, c.to)));
        for (n, add) in row.counters.iter_mut().zip(step.add) {
            *n += add;
        }
        if let Some((state, note)) = step.then {
            tracing::warn!(bridge = row.name, cause = note, "a bridge pauses");
            (row.state, row.note) = (state, note);
            return Err(NoStep::Rest(Rest::End));
        }
        self.status.passed(now_ms, messages);
        Ok(())
    }

    /// Pauses for a cause that somebody must look at.
    pub(super) async fn pause(&mut self, why: String) -> Rest {
        let step = TaskStep { then: Some((TaskState::Paused, why)), ..self.step() };
        match self.take(Transaction { task: Some(step), ..Transaction::default() }, 0).await {
            Err(NoStep::Rest(rest)) => rest,
            _ => Rest::End,
        }
    }
}

/// The messages that were not passed on and are remembered, (log, offset) each, in no order.
pub(super) fn poison_of(row: &millstream_engine::task::TaskRow) -> Vec<(u64, u64)> {
    let one = |place| {
        let log = row.cursor(POISON_LOG_SLOT + place);
        row.cursor(POISON_AT_SLOT + place).checked_sub(1).map(|offset| (log, offset))
    };
    (0..POISON_KEPT).filter_map(one).collect()
}

/// One step's counters: so many of each.
pub(super) fn counts(all: &[(usize, u64)]) -> [u64; TASK_COUNTERS] {
    let mut add = [0; TASK_COUNTERS];
    for (which, n) in all {
        if let Some(counter) = add.get_mut(*which) {
            *counter += n;
        }
    }
    add
}

fn no_step(e: TransactionError) -> NoStep {
    let text = e.to_string();
    match e {
        TransactionError::TooLarge { .. }
        | TransactionError::Call(CallError::Refused(Refused::TooLarge { .. })) => NoStep::TooLarge,
        TransactionError::Publish { item, why } => match why {
            NotPublished::Error(PublishError::Message(e)) => NoStep::Poison { item, why: e.to_string() },
            NotPublished::Refused(name, refusal) => {
                if refusal == crate::publish::PublishRefusal::TooLarge {
                    return NoStep::Poison { item, why: format!("{name} {refusal}") };
                }
                NoStep::Full(format!("{name} {refusal}"))
            }
            NotPublished::Unrouted => {
                NoStep::Rest(Rest::blocked("the target is not there, or a message is routed to nothing"))
            }
            other => NoStep::Rest(Rest::blocked(other.to_string())),
        },
        // Somebody changed the bridge, or a twin was faster: whoever comes next begins from what is so.
        TransactionError::Conflict(TransactError::Task(_)) => NoStep::Rest(Rest::End),
        TransactionError::Conflict(_) => NoStep::Rest(Rest::Blocked { cause: text, soon: true }),
        TransactionError::Call(CallError::Refused(r)) if r.is_retryable() => {
            NoStep::Rest(Rest::Blocked { cause: text, soon: true })
        }
        TransactionError::Call(_) => NoStep::Rest(Rest::End),
    }
}

#[cfg(test)]
mod tests;
