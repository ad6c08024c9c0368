//! What an opening replays, written down.

use std::sync::Arc;

use millstream_log::{EntryHead, Replay, StateReader};
use millstream_types::{Epoch, LogId, Lsn};

/// One call of [`Replay`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `effect`: object and bytes.
    Effect(Lsn, Vec<u8>, Vec<u8>),
    /// `append`.
    Append(Lsn, Past),
    /// `trim`.
    Trim(Lsn, LogId, u64),
    /// `delete`.
    Delete(Lsn, LogId),
    /// `record_end`.
    End(Lsn),
}

impl Event {
    /// Of which record.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        match self {
            Self::Effect(lsn, ..)
            | Self::Append(lsn, _)
            | Self::Trim(lsn, ..)
            | Self::Delete(lsn, _)
            | Self::End(lsn) => *lsn,
        }
    }
}

/// An entry as replay shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its log.
    pub log: LogId,
    /// First position.
    pub pos: u64,
    /// Positions covered.
    pub count: u32,
    /// Largest timestamp.
    pub max_ts_ms: i64,
    /// The engine's bytes.
    pub attrs: Vec<u8>,
    /// Length of the body in bytes.
    pub body_len: u32,
}

/// Collects all calls of one opening.
#[derive(Default)]
pub struct Seen {
    /// The epoch and rows that `begin` brought.
    pub begun: Option<(Epoch, Arc<dyn StateReader>)>,
    /// The calls after it, in order.
    pub events: Vec<Event>,
}

impl Seen {
    /// The LSNs of complete records.
    #[must_use]
    pub fn ends(&self) -> Vec<Lsn> {
        self.events.iter().filter(|e| matches!(e, Event::End(_))).map(Event::lsn).collect()
    }

    /// Everything but [`Event::End`].
    #[must_use]
    pub fn operations(&self) -> Vec<Event> {
        self.events.iter().filter(|e| !matches!(e, Event::End(_))).cloned().collect()
    }
}

impl Replay for Seen {
    fn begin(&mut self, rows: Arc<dyn StateReader>, epoch: Epoch) {
        assert!(self.begun.is_none() && self.events.is_empty(), "begin comes once, and first");
        self.begun = Some((epoch, rows));
    }

    fn effect(&mut self, lsn: Lsn, object: &[u8], bytes: &[u8]) {
        self.events.push(Event::Effect(lsn, object.to_vec(), bytes.to_vec()));
    }

    fn append(&mut self, lsn: Lsn, e: EntryHead<'_>) {
        let EntryHead { log, pos, count, max_ts_ms, attrs, body_len } = e;
        let past = Past { log, pos, count, max_ts_ms, attrs: attrs.to_vec(), body_len };
        self.events.push(Event::Append(lsn, past));
    }

    fn trim(&mut self, lsn: Lsn, log: LogId, before: u64) {
        self.events.push(Event::Trim(lsn, log, before));
    }

    fn delete(&mut self, lsn: Lsn, log: LogId) {
        self.events.push(Event::Delete(lsn, log));
    }

    fn record_end(&mut self, lsn: Lsn) {
        self.events.push(Event::End(lsn));
    }
}
