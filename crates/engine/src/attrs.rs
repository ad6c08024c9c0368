//! The bytes beside an entry's body that the engine reads: what kind of entry it is, and what replay must know of it.
//!
//! Little-endian, first byte the kind. Kind 1 (one message): `kind u8 · flags u8 · priority u8 · env_ver u8 · envelope_len u32 ·
//! enqueued_ms u64`, then, if flagged, `expiry_ms u64`, `due_ms u64`, `key_hash u64`, `origin (log u64, position u64)`; 16 to 56 bytes.
//! Kind 2 (opaque batch): `kind u8 · producer u64 · epoch i16 · first_seq i32 · records u32 · flags u16 · leader_epoch u32 · append_ms
//! u64`; 33 bytes. Kind 3 (control) is reserved. Start at [`Attrs`].

use millstream_types::LogId;

use crate::codec::{Dec, DecodeError, Enc};
use crate::op::{BatchMeta, SingleMeta};

/// Most bytes that [`Attrs::put`] writes.
pub const ATTRS_BYTES_BOUND: usize = 56;

const SINGLE: u8 = 1;
const BATCH: u8 = 2;

const TRANSIENT: u8 = 1;
const KEYED: u8 = 1 << 1;
const HAS_EXPIRY: u8 = 1 << 2;
const HAS_DUE: u8 = 1 << 3;
const HAS_ORIGIN: u8 = 1 << 4;
const HAS_KEY: u8 = 1 << 5;
const FLAGS_KNOWN: u8 = TRANSIENT | KEYED | HAS_EXPIRY | HAS_DUE | HAS_ORIGIN | HAS_KEY;

/// An entry's attrs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attrs {
    /// One message with an envelope.
    Single(SingleAttrs),
    /// An opaque batch.
    Batch(BatchAttrs),
}

/// Attrs of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SingleAttrs {
    /// What its sender said.
    pub meta: SingleMeta,
    /// When it was appended, milliseconds since the epoch.
    pub enqueued_ms: u64,
}

/// Attrs of an opaque batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchAttrs {
    /// Producer id; -1 = none.
    pub producer: i64,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence number of the first record.
    pub first_seq: i32,
    /// Records in the batch.
    pub records: u32,
    /// The batch's own attribute bits.
    pub flags: u16,
    /// Leader epoch it was appended in.
    pub leader_epoch: u32,
    /// When it was appended, milliseconds since the epoch.
    pub append_ms: u64,
}

impl BatchAttrs {
    /// From what the sender said.
    #[must_use]
    pub fn new(m: &BatchMeta, leader_epoch: u32, append_ms: u64) -> Self {
        let BatchMeta { producer, epoch, first_seq, records, flags } = *m;
        Self { producer, epoch, first_seq, records, flags, leader_epoch, append_ms }
    }

    /// Sequence number of the last record.
    #[must_use]
    pub fn last_seq(&self) -> i32 {
        seq_after(self.first_seq, self.records.saturating_sub(1))
    }
}

/// The sequence number `n` after `seq`: past 2^31 - 1 comes 0.
#[must_use]
pub fn seq_after(seq: i32, n: u32) -> i32 {
    let wrapped = (i64::from(seq) + i64::from(n)) & i64::from(i32::MAX);
    i32::try_from(wrapped).unwrap_or(i32::MAX)
}

impl Attrs {
    /// Writes them, at most [`ATTRS_BYTES_BOUND`] bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Single(a) => put_single(a, out),
            Self::Batch(a) => {
                out.u8(BATCH);
                out.i64(a.producer);
                out.i16(a.epoch);
                out.i32(a.first_seq);
                out.u32(a.records);
                out.u16(a.flags);
                out.u32(a.leader_epoch);
                out.u64(a.append_ms);
            }
        }
    }

    /// Reads them, all of `bytes`.
    ///
    /// # Errors
    /// If [`Attrs::put`] did not write them.
    pub fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        let attrs = match d.u8()? {
            SINGLE => Self::Single(take_single(&mut d)?),
            BATCH => Self::Batch(BatchAttrs {
                producer: d.i64()?,
                epoch: d.i16()?,
                first_seq: d.i32()?,
                records: d.u32()?,
                flags: d.u16()?,
                leader_epoch: d.u32()?,
                append_ms: d.u64()?,
            }),
            _ => return Err(DecodeError::Value { what: "entry kind" }),
        };
        d.end()?;
        Ok(attrs)
    }
}

fn put_single(a: &SingleAttrs, out: &mut Vec<u8>) {
    let m = &a.meta;
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    out.u8(SINGLE);
    out.u8(flag(m.transient, TRANSIENT)
        | flag(m.keyed, KEYED)
        | flag(m.expiry_ms.is_some(), HAS_EXPIRY)
        | flag(m.due_ms.is_some(), HAS_DUE)
        | flag(m.origin.is_some(), HAS_ORIGIN)
        | flag(m.key_hash.is_some(), HAS_KEY));
    out.u8(m.priority);
    out.u8(m.envelope_version);
    out.u32(m.envelope_bytes);
    out.u64(a.enqueued_ms);
    for v in [m.expiry_ms, m.due_ms, m.key_hash].into_iter().flatten() {
        out.u64(v);
    }
    if let Some((log, pos)) = m.origin {
        out.u64(log.0);
        out.u64(pos);
    }
}

fn take_single(d: &mut Dec<'_>) -> Result<SingleAttrs, DecodeError> {
    let flags = d.u8()?;
    if flags & !FLAGS_KNOWN != 0 {
        return Err(DecodeError::Value { what: "entry flags" });
    }
    let has = |bit: u8| flags & bit != 0;
    let (priority, envelope_version, envelope_bytes, enqueued_ms) = (d.u8()?, d.u8()?, d.u32()?, d.u64()?);
    let expiry_ms = has(HAS_EXPIRY).then(|| d.u64()).transpose()?;
    let due_ms = has(HAS_DUE).then(|| d.u64()).transpose()?;
    let key_hash = has(HAS_KEY).then(|| d.u64()).transpose()?;
    let origin = has(HAS_ORIGIN).then(|| Ok((LogId(d.u64()?), d.u64()?))).transpose()?;
    let (transient, keyed) = (has(TRANSIENT), has(KEYED));
    let meta = SingleMeta {
        transient,
        priority,
        envelope_version,
        envelope_bytes,
        expiry_ms,
        due_ms,
        key_hash,
        keyed,
        origin,
    };
    Ok(SingleAttrs { meta, enqueued_ms })
}

#[cfg(test)]
mod tests {
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn single()(transient: bool, priority: u8, envelope_version: u8, envelope_bytes: u32, keyed: bool, enqueued_ms: u64,
                    expiry_ms in of(any::<u64>()), due_ms in of(any::<u64>()), key_hash in of(any::<u64>()),
                    origin in of((any::<u64>().prop_map(LogId), any::<u64>()))) -> Attrs {
            let meta = SingleMeta { transient, priority, envelope_version, envelope_bytes, expiry_ms, due_ms, key_hash, keyed, origin };
            Attrs::Single(SingleAttrs { meta, enqueued_ms })
        }
    }
    prop_compose! {
        fn batch()(producer: i64, epoch: i16, first_seq: i32, records: u32, flags: u16, leader_epoch: u32, append_ms: u64) -> Attrs {
            Attrs::Batch(BatchAttrs { producer, epoch, first_seq, records, flags, leader_epoch, append_ms })
        }
    }

    proptest! {
        #[test]
        fn attrs_come_back_as_they_were_written(a in prop_oneof![single(), batch()]) {
            let mut bytes = Vec::new();
            a.put(&mut bytes);
            prop_assert!((16..=ATTRS_BYTES_BOUND).contains(&bytes.len()));
            prop_assert_eq!(Attrs::take(&bytes).unwrap(), a);
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = Attrs::take(&bytes);
        }
    }

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        assert_eq!([seq_after(i32::MAX, 1), seq_after(i32::MAX - 1, 3), seq_after(5, 0)], [0, 1, 5]);
    }
}
