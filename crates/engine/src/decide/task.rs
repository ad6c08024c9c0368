//! Decides changes of tasks, and whether a task's step counts.
//!
//! Start at [`decide`] and [`step`].

use millstream_types::limits::NAME_BYTES_MAX;
use millstream_types::{ObjectId, ObjectKind};

use crate::effect::RowEffect;
use crate::rows::id::{Counter, Ids};
use crate::rows::task::{TaskKey, TaskRow, effect, step_effect};
use crate::state::State;
use crate::task::{
    TASK_COUNTERS, TASK_CURSORS_MAX, TASK_DEFINITION_BYTES_MAX, TASK_NOTE_BYTES_MAX, TASKS_MAX,
    TASKS_PAGE_MAX, Task, TaskConflict, TaskError, TaskOp, TaskState, TaskStep,
};

/// A change: the task afterwards (of a removal, the one removed), and the effects of its record.
pub(crate) fn decide(state: &State, now_ms: u64, op: &TaskOp) -> Result<(Task, Vec<RowEffect>), TaskError> {
    match op {
        TaskOp::Create { ns, kind, name, definition, cursors, state: begins } => {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(TaskError::InvalidName);
            }
            let same = |r: &TaskRow| (r.ns, r.kind, &r.name) == (*ns, *kind, name);
            if let Some((key, _)) = state.tasks.iter().find(|(_, row)| same(row)) {
                return Err(TaskError::Exists { id: key.0 });
            }
            if state.tasks.iter().count() >= TASKS_MAX {
                return Err(TaskError::TooMany { max: TASKS_MAX });
            }
            check(definition.len(), cursors.len())?;
            let next = state.ids.next(Counter::Objects);
            let row = TaskRow {
                ns: *ns,
                kind: *kind,
                name: name.clone(),
                created_ms: now_ms,
                version: 1,
                state: *begins,
                stepped_ms: 0,
                note: String::new(),
                definition: definition.clone(),
                counters: [0; TASK_COUNTERS],
                cursors: cursors.iter().copied().collect(),
            };
            let id = ObjectId::new(ObjectKind::Task, next);
            let effects = vec![effect(TaskKey(id), Some(&row)), Ids::effect(Counter::Objects, next + 1)];
            Ok((Task { id, row }, effects))
        }
        TaskOp::Alter { id, expect, definition, state: then, cursors } => {
            let mut row = state.tasks.get(&TaskKey(*id)).cloned().ok_or(TaskError::NotFound)?;
            if row.version != *expect {
                return Err(TaskError::Version { current: row.version });
            }
            check(definition.as_ref().map_or(0, bytes::Bytes::len), cursors.as_ref().map_or(0, Vec::len))?;
            if let Some(definition) = definition {
                row.definition = definition.clone();
            }
            if let Some((then, note)) = then {
                (row.state, row.note) = (*then, cut(note).to_owned());
            }
            if let Some(cursors) = cursors {
                row.cursors = cursors.iter().copied().collect();
            }
            row.version = row.version.saturating_add(1);
            let effects = vec![effect(TaskKey(*id), Some(&row))];
            Ok((Task { id: *id, row }, effects))
        }
        TaskOp::Delete { id } => {
            let row = state.tasks.get(&TaskKey(*id)).cloned().ok_or(TaskError::NotFound)?;
            Ok((Task { id: *id, row }, vec![effect(TaskKey(*id), None)]))
        }
        TaskOp::List { .. } => Err(TaskError::NotFound),
    }
}

fn check(definition_bytes: usize, cursors: usize) -> Result<(), TaskError> {
    if definition_bytes > TASK_DEFINITION_BYTES_MAX {
        return Err(TaskError::TooLarge { what: "the definition", max: TASK_DEFINITION_BYTES_MAX });
    }
    if cursors > TASK_CURSORS_MAX {
        return Err(TaskError::TooLarge { what: "the list of cursors", max: TASK_CURSORS_MAX });
    }
    Ok(())
}

fn cut(note: &str) -> &str {
    note.get(..note.floor_char_boundary(TASK_NOTE_BYTES_MAX)).unwrap_or_default()
}

/// The effect of a step, if it counts.
pub(crate) fn step(state: &State, now_ms: u64, step: &TaskStep) -> Result<RowEffect, TaskConflict> {
    let row = state.tasks.get(&TaskKey(step.task)).ok_or(TaskConflict::Gone)?;
    if row.version != step.version {
        return Err(TaskConflict::Version { current: row.version });
    }
    if row.state != TaskState::Running {
        return Err(TaskConflict::NotRunning);
    }
    for c in &step.cursors {
        let at = row.cursor(c.slot);
        if at != c.from {
            return Err(TaskConflict::Cursor { slot: c.slot, at });
        }
    }
    let new = step.cursors.iter().filter(|c| !row.cursors.contains_key(&c.slot)).count();
    if row.cursors.len() + new > TASK_CURSORS_MAX {
        return Err(TaskConflict::TooMany);
    }
    let then = step.then.as_ref().map(|(state, note)| (*state, cut(note).to_owned()));
    Ok(step_effect(row, &TaskStep { then, ..step.clone() }, now_ms))
}

/// One page.
pub(crate) fn list(state: &State, op: &TaskOp) -> Vec<Task> {
    let TaskOp::List { ns, kind, name, after } = op else { return Vec::new() };
    let wanted = |row: &TaskRow| {
        ns.is_none_or(|ns| row.ns == ns)
            && kind.is_none_or(|kind| row.kind == kind)
            && name.as_ref().is_none_or(|name| row.name == *name)
    };
    let all = state.tasks.iter().filter(|(key, row)| after.is_none_or(|a| key.0 > a) && wanted(row));
    all.take(TASKS_PAGE_MAX).map(|(key, row)| Task { id: key.0, row: row.clone() }).collect()
}
