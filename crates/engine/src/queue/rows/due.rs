//! Messages published with a delay that nothing has happened to yet, by the minute in which they are due: family [`DUE`](family::DUE).
//!
//! Key: `queue u64 · minute u64 · lane u16 · chunk u64`. Value, version 1: `version u8 · n u32 · n × (off u16, ms in the minute u16, bytes
//! u32, enqueued_ms u64, expiry_ms u64, key_hash u64)`, ascending by offset; the largest number stands for no expiry, 0 for no key. Changed
//! by appends to a delay lane, by the deletion of the queue's logs, and by the effect, version 1: `version u8` and items:
//! 1 `n u16 · n × off u16`: these go; the row goes with the last.

use millstream_log::EntryHead;
use millstream_types::{Lsn, ObjectId};

use super::chunk::offset;
use super::head::payload_bytes;
use super::set::CHUNK;
use crate::attrs::SingleAttrs;
use crate::codec::{Dec, DecodeError, Enc};
use crate::rows::{KeyDec, RowKey, RowValue, family};
use crate::table::Table;

const VERSION: u8 = 1;
pub(crate) const EFFECT_VERSION: u8 = 1;
const DONE: u8 = 1;
const ENTRY_BYTES: usize = 32;
/// Milliseconds of a minute.
pub const MINUTE_MS: u64 = 60_000;

/// The key of a minute's messages in one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueKey {
    /// The queue.
    pub queue: ObjectId,
    /// Minutes since the epoch.
    pub minute: u64,
    /// The lane.
    pub lane: u16,
    /// Position / 4,096.
    pub chunk: u64,
}

impl DueKey {
    /// The row that a message is in.
    #[must_use]
    pub fn of(queue: ObjectId, lane: u16, pos: u64, due_ms: u64) -> Self {
        Self { queue, minute: due_ms / MINUTE_MS, lane, chunk: pos / CHUNK }
    }
}

impl RowKey for DueKey {
    const FAMILY: u8 = family::DUE;
    fn is_transient(&self) -> bool {
        self.queue.is_transient()
    }
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.queue.0.to_be_bytes());
        out.extend_from_slice(&self.minute.to_be_bytes());
        out.extend_from_slice(&self.lane.to_be_bytes());
        out.extend_from_slice(&self.chunk.to_be_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let key = Self { queue: ObjectId(d.u64()?), minute: d.u64()?, lane: d.u16()?, chunk: d.u64()? };
        d.end()?;
        Ok(key)
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueEntry {
    /// Its offset in the chunk.
    pub off: u16,
    /// Milliseconds into the minute.
    pub ms: u16,
    /// Payload bytes.
    pub bytes: u32,
    /// When it was appended.
    pub enqueued_ms: u64,
    /// Its own expiry.
    pub expiry_ms: Option<u64>,
    /// Hash of its key; one that happens to be 0 is kept as 1.
    pub key_hash: Option<u64>,
}

/// A minute's messages in one chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Ascending by offset.
    pub entries: Vec<DueEntry>,
}

impl RowValue for Due {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.len_u32(self.entries.len());
        for e in &self.entries {
            out.u16(e.off);
            out.u16(e.ms);
            out.u32(e.bytes);
            out.u64(e.enqueued_ms);
            out.u64(e.expiry_ms.unwrap_or(u64::MAX));
            out.u64(e.key_hash.map_or(0, |h| h.max(1)));
        }
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        d.version(VERSION)?;
        let mut entries: Vec<DueEntry> = Vec::new();
        for _ in 0..d.len(ENTRY_BYTES)? {
            let (off, ms, bytes, enqueued_ms) = (d.u16()?, d.u16()?, d.u32()?, d.u64()?);
            let expiry_ms = Some(d.u64()?).filter(|v| *v != u64::MAX);
            let key_hash = Some(d.u64()?).filter(|v| *v != 0);
            if u64::from(off) >= CHUNK || entries.last().is_some_and(|e| e.off >= off) {
                return Err(DecodeError::Value { what: "due entry" });
            }
            entries.push(DueEntry { off, ms, bytes, enqueued_ms, expiry_ms, key_hash });
        }
        d.end()?;
        Ok(Self { entries })
    }
}

/// Item 1; `offs` ascending.
pub(crate) fn put_done(out: &mut Vec<u8>, offs: impl ExactSizeIterator<Item = u16>) {
    out.u8(DONE);
    out.u16(u16::try_from(offs.len()).unwrap_or(u16::MAX));
    offs.for_each(|off| out.u16(off));
}

fn apply_items(row: &mut Option<Due>, mut d: Dec<'_>) -> Result<(), DecodeError> {
    while !d.is_empty() {
        match d.u8()? {
            DONE => {
                let entries = &mut row.get_or_insert_default().entries;
                for _ in 0..d.u16()? {
                    let off = d.u16()?;
                    if let Ok(i) = entries.binary_search_by_key(&off, |e| e.off) {
                        entries.remove(i);
                    }
                }
            }
            _ => return Err(DecodeError::Value { what: "due effect" }),
        }
    }
    if row.as_ref().is_some_and(|r| r.entries.is_empty()) {
        *row = None;
    }
    Ok(())
}

impl Table<DueKey, Due> {
    /// Applies an append with a delay.
    pub fn apply_append(&mut self, lsn: Lsn, e: &EntryHead<'_>, attrs: &SingleAttrs, due_ms: u64) {
        let key = DueKey::of(e.log.object(), e.log.lane(), e.pos, due_ms);
        self.apply(lsn, &key, |row| {
            row.get_or_insert_default().entries.push(DueEntry {
                off: offset(e.pos),
                ms: u16::try_from(due_ms % MINUTE_MS).unwrap_or(0),
                bytes: payload_bytes(e.body_len, attrs.envelope_len),
                enqueued_ms: attrs.enqueued_ms,
                expiry_ms: attrs.expiry_ms,
                key_hash: attrs.key_hash,
            });
        });
    }

    /// Applies an effect.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let key = DueKey::decode(key)?;
        let mut d = Dec::new(bytes);
        d.version(EFFECT_VERSION)?;
        let mut result = Ok(());
        self.apply(lsn, &key, |row| result = apply_items(row, d));
        result
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_minute_comes_back_as_it_was_written(
            all in btree_map(0..4_096_u16, (0..60_000_u16, any::<u32>(), any::<u64>(), of(0..u64::MAX), of(1..u64::MAX)), 0..20),
        ) {
            let entry = |(off, (ms, bytes, enqueued_ms, expiry_ms, key_hash))| DueEntry { off, ms, bytes, enqueued_ms, expiry_ms, key_hash };
            let due = Due { entries: all.into_iter().map(entry).collect() };
            let mut bytes = Vec::new();
            due.put(&mut bytes);
            prop_assert_eq!(Due::take(&bytes).unwrap(), due);
        }
        #[test]
        fn keys_come_back_and_keep_their_order(a: (u64, u64, u16, u64), b: (u64, u64, u16, u64)) {
            let key = |(queue, minute, lane, chunk)| DueKey { queue: ObjectId(queue), minute, lane, chunk };
            let (a, b) = (key(a), key(b));
            prop_assert_eq!(DueKey::decode(&a.encode()).unwrap(), a);
            prop_assert_eq!(a.encode().cmp(&b.encode()), a.cmp(&b));
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = (Due::take(&bytes), DueKey::decode(&bytes), apply_items(&mut None, Dec::new(&bytes)));
        }
    }
}
