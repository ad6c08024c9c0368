//! Tasks: work that goes on after a restart, kept by name with its definition and how far it came.
//!
//! Start at [`Session::create_task`]. A task goes on by [`Transaction::task`](crate::Transaction::task).

use bytes::Bytes;
use millstream_engine::op::{Op, Reply};
use millstream_engine::task::{
    TASK_NOTE_BYTES_MAX, TASKS_PAGE_MAX, Task, TaskError, TaskKind, TaskOp, TaskReply, TaskState,
};
use millstream_log::Class;
use millstream_types::limits::NAME_BYTES_MAX;
use millstream_types::{Namespace, ObjectId};
use thiserror::Error;

use crate::error::{CallError, Refused};
use crate::session::{RECORD_OVERHEAD_BYTES, Session};

/// Room for a task's row besides definition and cursors.
const ROW_BYTES: usize = RECORD_OVERHEAD_BYTES + NAME_BYTES_MAX + 2 * TASK_NOTE_BYTES_MAX;
const CURSOR_BYTES: usize = 16;

/// A task to be made.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// What it does.
    pub kind: TaskKind,
    /// Its name, unique in the session's namespace among tasks of the kind.
    pub name: String,
    /// What it is to do: its worker's bytes, with a version of their own.
    pub definition: Bytes,
    /// Where it begins: (slot, cursor). A slot that is not there stands at 0.
    pub cursors: Vec<(u64, u64)>,
    /// How it begins.
    pub state: TaskState,
}

/// A change of a task; `None` leaves a part as it is.
#[derive(Clone, Debug, Default)]
pub struct TaskAlter {
    /// The whole definition afterwards.
    pub definition: Option<Bytes>,
    /// The state afterwards, and why.
    pub state: Option<(TaskState, String)>,
    /// All cursors afterwards.
    pub cursors: Option<Vec<(u64, u64)>>,
}

/// Which tasks; `None`: whichever.
#[derive(Clone, Debug, Default)]
pub struct TaskQuery {
    /// Of this namespace.
    pub ns: Option<Namespace>,
    /// Of this kind.
    pub kind: Option<TaskKind>,
    /// Of this name.
    pub name: Option<String>,
}

/// Why a call about a task was refused; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TaskCallError {
    /// The engine refused.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The call gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<Refused> for TaskCallError {
    fn from(e: Refused) -> Self {
        Self::Call(CallError::Refused(e))
    }
}

impl Session {
    /// Makes a task in the session's namespace. Nobody works on it of itself: that is its worker's.
    ///
    /// # Durability
    /// What is answered with success survives a crash.
    ///
    /// # Errors
    /// `Exists`, `InvalidName`, `TooLarge`, `TooMany`; see [`TaskCallError`].
    pub async fn create_task(&self, new: NewTask) -> Result<Task, TaskCallError> {
        let NewTask { kind, name, definition, cursors, state } = new;
        let room = definition.len() + cursors.len() * CURSOR_BYTES;
        let ns = self.namespace();
        self.change_task(TaskOp::Create { ns, kind, name, definition, cursors, state }, room).await
    }

    /// Changes the task that was looked at. Steps that were made of it before are void.
    ///
    /// # Durability
    /// As [`Session::create_task`].
    ///
    /// # Errors
    /// `Version` if it changed since; `NotFound`, `TooLarge`; see [`TaskCallError`].
    pub async fn alter_task(&self, task: &Task, to: TaskAlter) -> Result<Task, TaskCallError> {
        let TaskAlter { definition, state, cursors } = to;
        let bytes = definition.as_ref().unwrap_or(&task.row.definition).len();
        // Steps may have added some since.
        let slots = cursors.as_ref().map_or(task.row.cursors.len() * 2 + 64, Vec::len);
        let op = TaskOp::Alter { id: task.id, expect: task.row.version, definition, state, cursors };
        self.change_task(op, bytes + slots * CURSOR_BYTES).await
    }

    /// Removes a task; gives it as it was.
    ///
    /// # Durability
    /// As [`Session::create_task`].
    ///
    /// # Errors
    /// `NotFound`; see [`TaskCallError`].
    pub async fn delete_task(&self, id: ObjectId) -> Result<Task, TaskCallError> {
        self.change_task(TaskOp::Delete { id }, 0).await
    }

    /// The tasks there are, in the order in which they were made.
    ///
    /// # Durability
    /// What it shows is durable.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn tasks(&self, which: &TaskQuery) -> Result<Vec<Task>, CallError> {
        let mut all: Vec<Task> = Vec::new();
        loop {
            let TaskQuery { ns, kind, name } = which.clone();
            let after = all.last().map(|t| t.id);
            let op = Op::Task(TaskOp::List { ns, kind, name, after });
            let Reply::Task(TaskReply::Tasks(page)) = self.submit(None, op).await else {
                return Err(CallError::FateUnknown);
            };
            let full = page.len() >= TASKS_PAGE_MAX;
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
    }

    async fn change_task(&self, op: TaskOp, more_bytes: usize) -> Result<Task, TaskCallError> {
        let permit = self.admit(Class::Settle, ROW_BYTES + more_bytes).await?;
        match self.submit(Some(permit), Op::Task(op)).await {
            Reply::Task(TaskReply::Changed(result)) => Ok(*result?),
            _ => Err(CallError::FateUnknown.into()),
        }
    }
}
