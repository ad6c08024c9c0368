//! The naive log: a list of records, and what follows from each prefix of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_log::Op;
use millstream_types::{LogId, Lsn};

use crate::seen::{Event, Past};

/// An operation that owns its bytes.
#[derive(Clone, Debug)]
pub enum Operation {
    /// `Op::Append`.
    Append {
        /// Its log.
        log: LogId,
        /// The entry.
        entry: Kept,
    },
    /// `Op::FanOut`.
    FanOut {
        /// Where.
        to: Vec<(LogId, u64)>,
        /// The entry; its position does not count.
        entry: Kept,
    },
    /// `Op::Retire`.
    Retire(LogId, Vec<(u64, u32)>),
    /// `Op::Trim`.
    Trim(LogId, u64),
    /// `Op::Delete`.
    Delete(LogId),
    /// `Op::Effect`.
    Effect(Vec<u8>, Vec<u8>),
}

/// An entry as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// First position.
    pub pos: u64,
    /// Positions covered.
    pub count: u32,
    /// Largest timestamp.
    pub max_ts_ms: i64,
    /// The engine's bytes.
    pub attrs: Vec<u8>,
    /// The body, in pieces.
    pub body: Vec<Bytes>,
}

impl Operation {
    /// As the log takes it.
    pub fn op(&self) -> Op<'_> {
        match self {
            Self::Append { log, entry: Kept { pos, count, max_ts_ms, attrs, body } } => {
                Op::Append { log: *log, pos: *pos, count: *count, max_ts_ms: *max_ts_ms, attrs, body }
            }
            Self::FanOut { to, entry: Kept { max_ts_ms, attrs, body, .. } } => {
                Op::FanOut { to, max_ts_ms: *max_ts_ms, attrs, body }
            }
            Self::Retire(log, runs) => Op::Retire { log: *log, runs },
            Self::Trim(log, before) => Op::Trim { log: *log, before: *before },
            Self::Delete(log) => Op::Delete { log: *log },
            Self::Effect(object, bytes) => Op::Effect { object, bytes },
        }
    }

    /// As replay shows it.
    fn events(&self, lsn: Lsn, out: &mut Vec<Event>) {
        let past = |log: LogId, pos: u64, e: &Kept| Past {
            log,
            pos,
            count: e.count,
            max_ts_ms: e.max_ts_ms,
            attrs: e.attrs.clone(),
            body_len: u32::try_from(e.body.iter().map(Bytes::len).sum::<usize>()).unwrap(),
        };
        match self {
            Self::Append { log, entry } => out.push(Event::Append(lsn, past(*log, entry.pos, entry))),
            Self::FanOut { to, entry } => {
                out.extend(to.iter().map(|(log, pos)| Event::Append(lsn, past(*log, *pos, entry))));
            }
            Self::Retire(..) => {}
            Self::Trim(log, before) => out.push(Event::Trim(lsn, *log, *before)),
            Self::Delete(log) => out.push(Event::Delete(lsn, *log)),
            Self::Effect(object, bytes) => out.push(Event::Effect(lsn, object.clone(), bytes.clone())),
        }
    }
}

/// What an object becomes by an effect: depends on all effects before and their order.
pub fn fold(before: Option<u64>, effect: &[u8]) -> u64 {
    let start = before.unwrap_or(0xcbf2_9ce4_8422_2325).rotate_left(5);
    effect.iter().fold(start, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// An entry, the record it came with, and whether it was retired later.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its record.
    pub lsn: Lsn,
    /// The entry.
    pub entry: Kept,
    /// Nobody reads it any more: it may be there or not.
    pub retired: bool,
    /// The trim or deletion that took it: it goes when that is durable.
    pub gone: Option<Lsn>,
}

/// One log of the model.
#[derive(Clone, Debug, Default)]
pub struct One {
    /// First position that may be read.
    pub start: u64,
    /// One past the last.
    pub next: u64,
    /// Whether it is gone.
    pub deleted: bool,
    /// Its entries by position.
    pub entries: BTreeMap<u64, Held>,
}

impl One {
    fn remove_below(&mut self, lsn: Lsn, before: u64) {
        for held in self.entries.values_mut() {
            if held.entry.pos + u64::from(held.entry.count) <= before {
                held.gone.get_or_insert(lsn);
            }
        }
    }
}

/// All records, and what they come to.
#[derive(Clone, Default)]
pub struct Model {
    records: Vec<Vec<Operation>>,
    /// The logs as of the last record.
    pub logs: BTreeMap<LogId, One>,
    /// The objects as of the last record: last LSN and state.
    pub objects: BTreeMap<Vec<u8>, (Lsn, u64)>,
}

impl Model {
    /// The last LSN.
    pub fn last(&self) -> Lsn {
        Lsn(self.records.len() as u64)
    }

    /// Adds a record; gives its LSN.
    pub fn push(&mut self, record: Vec<Operation>) -> Lsn {
        let lsn = self.last().next();
        for operation in &record {
            self.apply(lsn, operation);
        }
        self.records.push(record);
        lsn
    }

    /// Forgets everything after `last`.
    pub fn cut(&mut self, last: Lsn) {
        *self = self.until(last);
    }

    /// The model as of `last`.
    #[must_use]
    pub fn until(&self, last: Lsn) -> Self {
        let mut then = Self::default();
        for record in self.records.iter().take(usize::try_from(last.0).unwrap()) {
            then.push(record.clone());
        }
        then
    }

    /// What replay shows from `first` on.
    pub fn events_from(&self, first: Lsn) -> Vec<Event> {
        let mut out = Vec::new();
        for (record, lsn) in self.records.iter().zip(1..).map(|(r, n)| (r, Lsn(n))) {
            if lsn >= first {
                for operation in record {
                    operation.events(lsn, &mut out);
                }
                out.push(Event::End(lsn));
            }
        }
        out
    }

    /// An object as of `last`: the last effect's LSN, and the state.
    pub fn object_at(&self, key: &[u8], last: Lsn) -> Option<(Lsn, u64)> {
        let mut state = None;
        for (record, lsn) in self.records.iter().zip(1..=last.0).map(|(r, n)| (r, Lsn(n))) {
            for operation in record {
                if let Operation::Effect(object, bytes) = operation
                    && object == key
                {
                    state = Some((lsn, fold(state.map(|(_, s)| s), bytes)));
                }
            }
        }
        state
    }

    fn apply(&mut self, lsn: Lsn, operation: &Operation) {
        match operation {
            Operation::Append { log, entry } => self.append(lsn, *log, entry.clone()),
            Operation::FanOut { to, entry } => {
                for (log, pos) in to {
                    self.append(lsn, *log, Kept { pos: *pos, count: 1, ..entry.clone() });
                }
            }
            Operation::Retire(log, runs) => {
                let one = self.logs.entry(*log).or_default();
                for (pos, count) in runs {
                    for (_, held) in one.entries.range_mut(*pos..pos + u64::from(*count)) {
                        held.retired = true;
                    }
                }
            }
            Operation::Trim(log, before) => {
                let one = self.logs.entry(*log).or_default();
                one.start = one.start.max(*before);
                let start = one.start;
                one.remove_below(lsn, start);
            }
            Operation::Delete(log) => {
                let one = self.logs.entry(*log).or_default();
                one.deleted = true;
                one.remove_below(lsn, u64::MAX);
            }
            Operation::Effect(object, bytes) => {
                let before = self.objects.get(object).map(|(_, s)| *s);
                self.objects.insert(object.clone(), (lsn, fold(before, bytes)));
            }
        }
    }

    fn append(&mut self, lsn: Lsn, log: LogId, entry: Kept) {
        let one = self.logs.entry(log).or_default();
        assert!(entry.pos >= one.next && !one.deleted, "a history appends in order");
        one.next = entry.pos + u64::from(entry.count);
        one.entries.insert(entry.pos, Held { lsn, entry, retired: false, gone: None });
    }
}
