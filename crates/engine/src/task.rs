//! Tasks: work that the broker goes on with after a restart (a bridge, a redrive), and how far it came.
//!
//! Start at [`TaskOp`]. The engine keeps a task's row and sees that it goes on only from where it is ([`TaskStep`], part of a
//! [`Transact`](crate::op::Transact)); what a task does, and what its definition, cursors and counters mean, its kind's worker knows.

use bytes::Bytes;
use millstream_types::limits::NAME_BYTES_MAX;
use millstream_types::{Namespace, ObjectId};
use thiserror::Error;

pub use crate::rows::task::TaskRow;

/// Tasks of one broker.
pub const TASKS_MAX: usize = 10_000;
/// Largest definition of a task, bytes.
pub const TASK_DEFINITION_BYTES_MAX: usize = 64 << 10;
/// Cursors of one task: as many as a topic has partitions at most.
pub const TASK_CURSORS_MAX: usize = 65_536;
/// Counters of a task; which counts what, its kind knows.
pub const TASK_COUNTERS: usize = 8;
/// Longest note, bytes; a longer one is cut.
pub const TASK_NOTE_BYTES_MAX: usize = 1_024;
/// Tasks of one page of a list.
pub const TASKS_PAGE_MAX: usize = 1_000;

/// What a task does: a number of the broker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskKind(pub u8);

/// Where a task stands. The number is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum TaskState {
    /// At work. Only so do its steps count.
    #[default]
    Running = 0,
    /// Somebody has it rest.
    Paused = 1,
    /// It rests for a cause, which its note says, and is to be tried again.
    Stopped = 2,
    /// Somebody wants it to end.
    Cancelling = 3,
    /// It ended at somebody's word.
    Cancelled = 4,
    /// It is done.
    Completed = 5,
    /// It ended for a cause, which its note says.
    Failed = 6,
}

impl TaskState {
    /// From its number on disk.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        use TaskState::{Cancelled, Cancelling, Completed, Failed, Paused, Running, Stopped};
        [Running, Paused, Stopped, Cancelling, Cancelled, Completed, Failed]
            .into_iter()
            .find(|s| *s as u8 == number)
    }
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its id, never used again.
    pub id: ObjectId,
    /// What is kept of it.
    pub row: TaskRow,
}

/// An operation on tasks.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum TaskOp {
    /// Makes a task. One record.
    Create {
        /// Namespace.
        ns: Namespace,
        /// Kind.
        kind: TaskKind,
        /// Name, unique in the namespace among tasks of the kind.
        name: String,
        /// What it is to do, at most [`TASK_DEFINITION_BYTES_MAX`] bytes.
        definition: Bytes,
        /// Where it begins: (slot, cursor). A slot that is not there stands at 0.
        cursors: Vec<(u64, u64)>,
        /// How it begins.
        state: TaskState,
    },
    /// Changes a task; `None` leaves a part as it is. Steps that were made before are void. One record.
    Alter {
        /// Which.
        id: ObjectId,
        /// The version that the change was made from: another one is a conflict.
        expect: u32,
        /// The whole definition afterwards.
        definition: Option<Bytes>,
        /// The state afterwards, and why.
        state: Option<(TaskState, String)>,
        /// All cursors afterwards.
        cursors: Option<Vec<(u64, u64)>>,
    },
    /// Removes a task, whatever its state. One record.
    Delete {
        /// Which.
        id: ObjectId,
    },
    /// Reads tasks in the order of their ids, at most [`TASKS_PAGE_MAX`]. Without a permit.
    List {
        /// Of this namespace; `None`: of all.
        ns: Option<Namespace>,
        /// Of this kind; `None`: of all.
        kind: Option<TaskKind>,
        /// Of this name; `None`: of all.
        name: Option<String>,
        /// Those with larger ids than this; `None`: from the first.
        after: Option<ObjectId>,
    },
}

/// Answers to [`TaskOp`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskReply {
    /// To `Create`, `Alter` and `Delete`: the task made or changed, or the one removed.
    Changed(Result<Box<Task>, TaskError>),
    /// To `List`. A full page may have another behind it.
    Tasks(Vec<Task>),
}

/// Why a change of a task was refused; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TaskError {
    /// The name is taken.
    #[error("a task of this name exists")]
    Exists {
        /// The one that has it.
        id: ObjectId,
    },
    /// Empty, or longer than `NAME_BYTES_MAX`.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes")]
    InvalidName,
    /// No such task.
    #[error("no such task")]
    NotFound,
    /// It changed meanwhile: look again.
    #[error("the task changed meanwhile (version {current})")]
    Version {
        /// The version now.
        current: u32,
    },
    /// The definition, or the list of cursors, is too large.
    #[error("{what} is larger than {max}")]
    TooLarge {
        /// Which.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A limit was reached.
    #[error("more than {max} tasks")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// A step of a task: it counts only if the task is where the step begins, so that of two twins one goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskStep {
    /// Which task.
    pub task: ObjectId,
    /// The version of it that the step was made by.
    pub version: u32,
    /// How far it comes.
    pub cursors: Vec<CursorStep>,
    /// What is added to its counters.
    pub add: [u64; TASK_COUNTERS],
    /// Its state afterwards, and why; the version grows with it. `None`: it goes on.
    pub then: Option<(TaskState, String)>,
}

/// One of a task's cursors goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorStep {
    /// Which; each once in a step.
    pub slot: u64,
    /// Where it must be.
    pub from: u64,
    /// Where it is afterwards.
    pub to: u64,
}

/// Why a step does not count.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TaskConflict {
    /// No such task (any more).
    #[error("it does not exist")]
    Gone,
    /// It was changed since.
    #[error("it changed meanwhile (version {current})")]
    Version {
        /// The version now.
        current: u32,
    },
    /// It rests, or has ended.
    #[error("it does not run")]
    NotRunning,
    /// A cursor is elsewhere: somebody else took the step.
    #[error("cursor {slot} is at {at}")]
    Cursor {
        /// Which.
        slot: u64,
        /// Where it is.
        at: u64,
    },
    /// More than [`TASK_CURSORS_MAX`].
    #[error("it would have more than {TASK_CURSORS_MAX} cursors")]
    TooMany,
}
