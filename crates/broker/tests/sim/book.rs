//! What was sent and answered, and what must therefore be true of every later read. Violations are texts, not panics: the checks of
//! the checker want them.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use millstream_broker::{AppendItem, AppendKind, BatchMeta, Content, Message, StreamEntry};
use millstream_types::LogId;

/// What is wrong.
pub type Violation = String;
/// Names one append, whatever it takes to get it in. Never used twice.
pub type Id = u64;

/// Fails the history unless a condition holds.
#[macro_export]
macro_rules! must {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

/// What is known of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// On its way, or its answer was lost.
    Unknown,
    /// Refused: it must not be there.
    Refused,
    /// Acknowledged at this offset.
    At(u64),
}

/// An append as it was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Offsets it takes.
    pub count: u32,
    /// `None`: a single message.
    pub meta: Option<BatchMeta>,
    /// Largest timestamp.
    pub ts_ms: i64,
    /// What is known.
    pub fate: Fate,
    /// The transaction it belongs to.
    pub transaction: Option<u64>,
}

impl Sent {
    /// As the broker takes it.
    pub fn item(&self, part: LogId, id: Id) -> AppendItem {
        let payload = payload(id);
        let (kind, body) = match self.meta {
            Some(meta) => (AppendKind::Batch(meta), vec![payload]),
            None => {
                let message =
                    Message { routing_key: "sim".to_owned(), payload: Some(payload), ..Message::default() };
                let envelope = message.encode_envelope().unwrap();
                let kind = AppendKind::Single { envelope_len: envelope.len() as u32 };
                (kind, vec![envelope, message.payload.unwrap()])
            }
        };
        AppendItem { part, kind, count: self.count, max_ts_ms: self.ts_ms, body }
    }
}

/// A body that names its append and can be told from a damaged one.
fn payload(id: Id) -> Bytes {
    let len =
        16 + (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) * if id.is_multiple_of(16) { 400 } else { 3 };
    let mut out = id.to_le_bytes().to_vec();
    out.resize(len as usize, id as u8);
    out.into()
}

/// One partition's history.
#[derive(Debug, Default)]
pub struct Part {
    /// Everything ever sent to it.
    pub sent: HashMap<Id, Sent>,
    /// What readers saw: offset to append. Must never change.
    seen: BTreeMap<u64, Id>,
    /// The largest visible end anybody saw.
    end: u64,
    /// The largest trim that was acknowledged, and the largest asked for.
    pub trimmed: (u64, u64),
}

impl Part {
    /// Takes an acknowledgement.
    pub fn acknowledge(&mut self, id: Id, base: u64) -> Result<(), Violation> {
        let sent = self.sent.get_mut(&id).ok_or("acknowledged what was never sent")?;
        match sent.fate {
            Fate::At(before) => {
                must!(before == base, "append {id} was at {before}, its repetition is at {base}")
            }
            Fate::Refused => return Err(format!("append {id} was refused and then acknowledged")),
            Fate::Unknown => sent.fate = Fate::At(base),
        }
        if let Some(seen) = self.seen.get(&base) {
            must!(*seen == id, "append {id} was acknowledged at {base}, where readers saw {seen}");
        }
        Ok(())
    }

    /// Takes the ends somebody saw.
    pub fn ends(&mut self, start: u64, end: u64) -> Result<(), Violation> {
        must!(end >= self.end, "readers saw the end at {}, now it is {end}", self.end);
        self.end = end;
        let (least, most) = self.trimmed;
        must!(
            start >= least && start <= most,
            "starts at {start}; trimmed to {least} at least, {most} at most"
        );
        Ok(())
    }

    /// Takes what a reader was given from `from` on, within ends it knew before (`start`) and after (`end`).
    pub fn read(&mut self, from: u64, entries: &[StreamEntry], next: u64) -> Result<(), Violation> {
        let mut at = None;
        for entry in entries {
            let id = self.check_entry(entry)?;
            let covered = entry.offset + u64::from(entry.count);
            must!(covered > from, "an entry at {} for a read from {from}", entry.offset);
            must!(at.is_none_or(|at| entry.offset == at), "a gap before {}: {at:?}", entry.offset);
            at = Some(covered);
            if let Some(before) = self.seen.insert(entry.offset, id) {
                must!(before == id, "at {} a reader saw {before}, now {id}", entry.offset);
            }
        }
        if let Some(first) = entries.first() {
            must!(first.offset <= from, "a read from {from} begins at {}", first.offset);
        }
        must!(at.unwrap_or(from) == next, "a read that ends at {at:?} says to go on at {next}");
        Ok(())
    }

    fn check_entry(&self, entry: &StreamEntry) -> Result<Id, Violation> {
        let at = entry.offset;
        let body = match &entry.content {
            Content::Batch { body, .. } => body.clone(),
            Content::Single { message, .. } => message.payload.clone().unwrap_or_default(),
        };
        let id = body.get(..8).map(|b| u64::from_le_bytes(b.try_into().unwrap()));
        let Some((id, sent)) = id.and_then(|id| self.sent.get(&id).map(|s| (id, s))) else {
            return Err(format!("at {at} is something that was never sent here"));
        };
        must!(body == payload(id), "the body of append {id} at {at} is damaged");
        let meta = match &entry.content {
            Content::Batch { meta, .. } => Some(*meta),
            Content::Single { .. } => None,
        };
        must!(meta == sent.meta, "append {id} at {at} was sent with {:?}, has {meta:?}", sent.meta);
        must!(
            (entry.count, entry.max_ts_ms) == (sent.count, sent.ts_ms),
            "append {id} at {at} changed: {entry:?}"
        );
        match sent.fate {
            Fate::At(base) => must!(base == at, "append {id} was acknowledged at {base} and is at {at}"),
            Fate::Refused => return Err(format!("append {id} was refused and is at {at}")),
            Fate::Unknown => {}
        }
        Ok(id)
    }

    /// Checks the whole partition, `[start, end)`, as just read; gives the place of each append.
    pub fn check_all(
        &self,
        start: u64,
        end: u64,
        entries: &[StreamEntry],
    ) -> Result<HashMap<Id, u64>, Violation> {
        let mut places: HashMap<Id, u64> = HashMap::new();
        let mut chains: HashMap<(i64, i16), BatchMeta> = HashMap::new();
        let (mut at, mut last_single) = (None, None);
        for entry in entries {
            let id = self.check_entry(entry)?;
            if let Some(before) = places.insert(id, entry.offset) {
                return Err(format!("append {id} is there twice, at {before} and {}", entry.offset));
            }
            at = Some(entry.offset + u64::from(entry.count));
            match self.sent[&id].meta {
                // Every one is sent once, so what got in is in the order of sending.
                None => {
                    must!(last_single < Some(id), "message {id} is behind {last_single:?}");
                    last_single = Some(id);
                }
                Some(meta) if meta.producer >= 0 => {
                    if let Some(before) = chains.insert((meta.producer, meta.epoch), meta) {
                        let due = before.first_seq + before.records as i32;
                        must!(
                            meta.first_seq == due,
                            "sequence {} where {due} is due: {meta:?}",
                            meta.first_seq
                        );
                    }
                }
                Some(_) => {}
            }
        }
        let (from, to) = (entries.first().map_or(end, |e| e.offset), at.unwrap_or(end));
        must!(from <= start && to == end, "entries from {from} to {to} in {start}..{end}");
        // Everything acknowledged or seen that was not trimmed.
        for (id, sent) in &self.sent {
            if let Fate::At(base) = sent.fate
                && base + u64::from(sent.count) > start
            {
                let is = |e: &&StreamEntry| e.offset <= base && base < e.offset + u64::from(e.count);
                must!(
                    places.get(id) == Some(&base),
                    "append {id} was acknowledged at {base} of {start}..{end}; it is at {:?}, and there is {:?}",
                    places.get(id),
                    entries.iter().find(is)
                );
            }
        }
        for (offset, id) in &self.seen {
            if offset + u64::from(self.sent[id].count) > start {
                must!(
                    places.get(id) == Some(offset),
                    "a reader saw append {id} at {offset}, and now it is not there"
                );
            }
        }
        Ok(places)
    }
}

/// A group's offset on one partition: values are only ever sent growing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Committed {
    /// The last that was sent.
    pub sent: u64,
    /// The last that was acknowledged or seen.
    pub sure: u64,
}

impl Committed {
    /// Takes what a fetch showed; 0 = none.
    pub fn seen(&mut self, offset: u64) -> Result<(), Violation> {
        must!(offset >= self.sure, "offset {} was committed, now it is {offset}", self.sure);
        must!(offset <= self.sent, "offset {offset} was never committed");
        self.sure = offset;
        Ok(())
    }
}
