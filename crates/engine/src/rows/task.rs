//! Tasks, family [`TASK`](super::family::TASK).
//!
//! Key: `id u64`. Value, version 1: `version u8 · ns u32 · kind u8 · name blob · created_ms u64 · definition version u32 · state u8 ·
//! stepped_ms u64 · note blob · definition blob · counters u8 · counters × u64 · cursors u32 · cursors × (slot u64, cursor u64)`, slots
//! ascending; a blob is its length (u32) and bytes. Effect, version 1: `version u8 · what u8`, then: 0 = the row is removed; 1 = it is now
//! the value that follows; 2 = a step: `stepped_ms u64 · state u8 (255 = as before; else the definition version grows by one) · note
//! blob · counters u8 · counters × (which u8, value u64) · cursors u32 · cursors × (slot u64, cursor u64)`, all as they are afterwards.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_types::{Lsn, Namespace, ObjectId};

use super::{KeyDec, RowKey, RowValue, family, whole};
use crate::codec::{Dec, DecodeError, Enc};
use crate::effect::RowEffect;
use crate::table::Table;
use crate::task::{TASK_COUNTERS, TaskKind, TaskState, TaskStep};

const VERSION: u8 = 1;
/// What an effect is, beside those of a row that is replaced whole.
const STEP: u8 = 2;
const AS_BEFORE: u8 = u8::MAX;

/// A task's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskKey(pub ObjectId);

impl RowKey for TaskKey {
    const FAMILY: u8 = family::TASK;
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.0.to_be_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let key = Self(ObjectId(d.u64()?));
        d.end()?;
        Ok(key)
    }
}

/// What is kept of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Its namespace.
    pub ns: Namespace,
    /// What it does.
    pub kind: TaskKind,
    /// Its name, unique in the namespace among tasks of the kind.
    pub name: String,
    /// When it was made, milliseconds since the epoch.
    pub created_ms: u64,
    /// Grows by one with each change, and with each step that changes the state.
    pub version: u32,
    /// Where it stands.
    pub state: TaskState,
    /// When its last step was, milliseconds since the epoch; 0 = there was none.
    pub stepped_ms: u64,
    /// Why it stands there, for people.
    pub note: String,
    /// What it is to do; only its kind's worker reads it.
    pub definition: Bytes,
    /// Counters.
    pub counters: [u64; TASK_COUNTERS],
    /// How far it came, by slot. A slot that is not there stands at 0.
    pub cursors: BTreeMap<u64, u64>,
}

impl TaskRow {
    /// Where a cursor is.
    #[must_use]
    pub fn cursor(&self, slot: u64) -> u64 {
        self.cursors.get(&slot).copied().unwrap_or(0)
    }
}

fn state(number: u8) -> Result<TaskState, DecodeError> {
    TaskState::of(number).ok_or(DecodeError::Value { what: "state of a task" })
}

fn put_cursors(out: &mut Vec<u8>, n: usize, cursors: impl Iterator<Item = (u64, u64)>) {
    out.len_u32(n);
    for (slot, cursor) in cursors {
        out.u64(slot);
        out.u64(cursor);
    }
}

fn take_cursors(d: &mut Dec<'_>) -> Result<Vec<(u64, u64)>, DecodeError> {
    (0..d.len(16)?).map(|_| Ok((d.u64()?, d.u64()?))).collect()
}

impl RowValue for TaskRow {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.u32(self.ns.0);
        out.u8(self.kind.0);
        out.blob(self.name.as_bytes());
        out.u64(self.created_ms);
        out.u32(self.version);
        out.u8(self.state as u8);
        out.u64(self.stepped_ms);
        out.blob(self.note.as_bytes());
        out.blob(&self.definition);
        out.u8(u8::try_from(TASK_COUNTERS).unwrap_or(u8::MAX));
        for n in self.counters {
            out.u64(n);
        }
        put_cursors(out, self.cursors.len(), self.cursors.iter().map(|(s, c)| (*s, *c)));
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let (ns, kind, name) = (Namespace(d.u32()?), TaskKind(d.u8()?), d.text()?.to_owned());
        let (created_ms, version, state) = (d.u64()?, d.u32()?, state(d.u8()?)?);
        let (stepped_ms, note) = (d.u64()?, d.text()?.to_owned());
        let definition = Bytes::copy_from_slice(d.blob()?);
        let mut counters = [0; TASK_COUNTERS];
        for index in 0..d.u8()? {
            *counter(&mut counters, index)? = d.u64()?;
        }
        let cursors = take_cursors(&mut d)?.into_iter().collect();
        d.end()?;
        Ok(Self {
            ns,
            kind,
            name,
            created_ms,
            version,
            state,
            stepped_ms,
            note,
            definition,
            counters,
            cursors,
        })
    }
}

fn counter(counters: &mut [u64; TASK_COUNTERS], index: u8) -> Result<&mut u64, DecodeError> {
    counters.get_mut(usize::from(index)).ok_or(DecodeError::Value { what: "counter of a task" })
}

/// The effect after which the task is `row`; `None` removes it.
#[must_use]
pub fn effect(key: TaskKey, row: Option<&TaskRow>) -> RowEffect {
    whole::effect(&key, row)
}

/// The effect of a step that was taken from `row`.
#[must_use]
pub fn step_effect(row: &TaskRow, step: &TaskStep, now_ms: u64) -> RowEffect {
    let mut bytes = vec![whole::VERSION, STEP];
    bytes.u64(now_ms);
    match &step.then {
        None => {
            bytes.u8(AS_BEFORE);
            bytes.blob(&[]);
        }
        Some((state, note)) => {
            bytes.u8(*state as u8);
            bytes.blob(note.as_bytes());
        }
    }
    let grown = (0..).zip(row.counters.iter().zip(step.add)).filter(|(_, (_, add))| *add > 0);
    let grown: Vec<(u8, u64)> = grown.map(|(which, (n, add))| (which, n.saturating_add(add))).collect();
    bytes.u8(u8::try_from(grown.len()).unwrap_or(u8::MAX));
    for (which, n) in grown {
        bytes.u8(which);
        bytes.u64(n);
    }
    put_cursors(&mut bytes, step.cursors.len(), step.cursors.iter().map(|c| (c.slot, c.to)));
    RowEffect::new(TaskKey(step.task).encode(), bytes)
}

struct Stepped {
    at_ms: u64,
    then: Option<(TaskState, String)>,
    counters: Vec<(u8, u64)>,
    cursors: Vec<(u64, u64)>,
}

fn take_step(mut d: Dec<'_>) -> Result<Stepped, DecodeError> {
    let at_ms = d.u64()?;
    let (number, note) = (d.u8()?, d.text()?.to_owned());
    let then = if number == AS_BEFORE { None } else { Some((state(number)?, note)) };
    let mut counters = Vec::new();
    for _ in 0..d.u8()? {
        let (which, n) = (d.u8()?, d.u64()?);
        counter(&mut [0; TASK_COUNTERS], which)?;
        counters.push((which, n));
    }
    let cursors = take_cursors(&mut d)?;
    d.end()?;
    Ok(Stepped { at_ms, then, counters, cursors })
}

impl Stepped {
    fn apply(self, row: &mut TaskRow) {
        row.stepped_ms = self.at_ms;
        if let Some((state, note)) = self.then {
            (row.state, row.note) = (state, note);
            row.version = row.version.saturating_add(1);
        }
        for (which, n) in self.counters {
            if let Ok(counter) = counter(&mut row.counters, which) {
                *counter = n;
            }
        }
        row.cursors.extend(self.cursors);
    }
}

impl Table<TaskKey, TaskRow> {
    /// Applies an effect. A step of a task that is not there is nothing: the task goes later in the same replay.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let key = TaskKey::decode(key)?;
        if bytes.get(1) != Some(&STEP) {
            let value = whole::decode(bytes, "effect on a task")?;
            self.apply(lsn, &key, |row| *row = value);
            return Ok(());
        }
        let mut d = Dec::new(bytes);
        d.version(whole::VERSION)?;
        d.u8()?;
        let step = take_step(d)?;
        self.apply(lsn, &key, |row| {
            if let Some(row) = row {
                step.apply(row);
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::task::CursorStep;

    prop_compose! {
        fn any_row()(ns in 0..3u32, kind: u8, name in ".{0,9}", created_ms: u64, version in 0..u32::MAX, state in 0..7u8,
                     stepped_ms: u64, note in ".{0,9}", definition: Vec<u8>, counters: [u64; TASK_COUNTERS],
                     cursors in btree_map(any::<u64>(), any::<u64>(), 0..5)) -> TaskRow {
            let state = TaskState::of(state).unwrap();
            TaskRow { ns: Namespace(ns), kind: TaskKind(kind), name, created_ms, version, state, stepped_ms, note,
                      definition: definition.into(), counters, cursors }
        }
    }

    proptest! {
        #[test]
        fn a_task_comes_back_as_it_was_written(row in any_row()) {
            let mut bytes = Vec::new();
            row.put(&mut bytes);
            prop_assert_eq!(TaskRow::take(&bytes).unwrap(), row);
        }
        #[test]
        fn a_step_changes_what_it_names_and_nothing_else(
            row in any_row(), at: u64, slots in vec((any::<u64>(), any::<u64>()), 0..4), add: [u32; TASK_COUNTERS],
            then in proptest::option::of((0..7u8, ".{0,9}")),
        ) {
            let key = TaskKey(ObjectId(9));
            let mut t = Table::<TaskKey, TaskRow>::default();
            let set = effect(key, Some(&row));
            t.apply_effect(Lsn(1), &set.key, &set.bytes).unwrap();
            let then = then.map(|(state, note)| (TaskState::of(state).unwrap(), note));
            let cursors = slots.iter().map(|(slot, to)| CursorStep { slot: *slot, from: 0, to: *to }).collect();
            let step = TaskStep { task: key.0, version: row.version, cursors, add: add.map(u64::from), then: then.clone() };
            let stepped = step_effect(&row, &step, at);
            t.apply_effect(Lsn(2), &stepped.key, &stepped.bytes).unwrap();
            let mut expected = row.clone();
            expected.stepped_ms = at;
            expected.cursors.extend(slots);
            for (n, add) in expected.counters.iter_mut().zip(add) {
                *n = n.saturating_add(u64::from(add));
            }
            if let Some((state, note)) = then {
                (expected.state, expected.note, expected.version) = (state, note, row.version + 1);
            }
            prop_assert_eq!(t.get(&key), Some(&expected));
            let gone = effect(key, None);
            t.apply_effect(Lsn(3), &gone.key, &gone.bytes).unwrap();
            t.apply_effect(Lsn(4), &stepped.key, &stepped.bytes).unwrap();
            prop_assert_eq!(t.get(&key), None);
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (TaskRow::take(&bytes), TaskKey::decode(&bytes));
            let mut t = Table::<TaskKey, TaskRow>::default();
            let _ = t.apply_effect(Lsn(1), &TaskKey(ObjectId(1)).encode(), &bytes);
        }
    }

    /// The bytes of version 1, which later programs must read.
    #[test]
    fn version_one_is_these_bytes() {
        let row = TaskRow {
            ns: Namespace(1),
            kind: TaskKind(2),
            name: "b".to_owned(),
            created_ms: 3,
            version: 4,
            state: TaskState::Stopped,
            stepped_ms: 5,
            note: "n".to_owned(),
            definition: Bytes::from_static(&[9]),
            counters: [1, 0, 0, 0, 0, 0, 0, 0],
            cursors: BTreeMap::from([(7, 8)]),
        };
        let mut golden: Vec<u8> =
            vec![1, 1, 0, 0, 0, 2, 1, 0, 0, 0, b'b', 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2];
        golden.extend([5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'n', 1, 0, 0, 0, 9, 8, 1]);
        golden.extend([0; 63]);
        golden.extend([1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
        let mut bytes = Vec::new();
        row.put(&mut bytes);
        assert_eq!(bytes, golden);
        assert_eq!(TaskRow::take(&golden).unwrap(), row);
        let step = TaskStep {
            task: ObjectId(1),
            version: 4,
            cursors: vec![CursorStep { slot: 7, from: 8, to: 9 }],
            add: [2, 0, 0, 0, 0, 0, 0, 0],
            then: None,
        };
        let RowEffect { key, bytes, .. } = step_effect(&row, &step, 6);
        assert_eq!(key, [0x40, 0, 0, 0, 0, 0, 0, 0, 1]);
        let mut golden: Vec<u8> =
            vec![1, 2, 6, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0, 0, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        golden.extend([1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes, golden);
    }
}
