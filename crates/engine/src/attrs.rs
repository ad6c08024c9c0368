//! The bytes beside an entry's body that the engine reads: what kind of entry it is, and what replay must know of it.
//!
//! Little-endian, first byte the kind. Kind 1 (one message): `kind u8 · flags u8 · priority u8 · env_ver u8 · envelope_len u32 ·
//! enqueued_ms u64`, then, if flagged, `expiry_ms u64`, `due_ms u64`, `key_hash u64`, `origin (log u64, position u64)`; 16 to 56 bytes.
//! Kind 2 (opaque batch): `kind u8 · producer u64 · epoch i16 · first_seq i32 · records u32 · flags u16 · leader_epoch u32 · append_ms
//! u64`; 33 bytes. Kind 3 (control) is reserved. Start at [`Attrs`].

use millstream_types::LogId;

use crate::codec::{Dec, DecodeError, Enc};
use crate::op::BatchMeta;

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

/// Version of the envelope that goes with a message appended now.
pub const ENVELOPE_VERSION: u8 = 1;

/// An entry's attrs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attrs {
    /// One message with an envelope.
    Single(SingleAttrs),
    /// An opaque batch.
    Batch {
        /// What its sender said.
        meta: BatchMeta,
        /// Leader epoch it was appended in.
        leader_epoch: u32,
        /// When it was appended, milliseconds since the epoch.
        append_ms: u64,
    },
}

/// Attrs of one message. The leader epoch it was appended in is not among them: see
/// [`PartitionView::epoch_of`](crate::partition::PartitionView::epoch_of).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SingleAttrs {
    /// It need not survive a restart.
    pub transient: bool,
    /// Its home orders by key.
    pub keyed: bool,
    /// Priority, 0 to 255.
    pub priority: u8,
    /// Version of the envelope.
    pub envelope_version: u8,
    /// Bytes of the envelope at the front of the body.
    pub envelope_len: u32,
    /// When it was appended, milliseconds since the epoch.
    pub enqueued_ms: u64,
    /// Not to be delivered from then on, milliseconds since the epoch; 0: only to who waits as it comes.
    pub expiry_ms: Option<u64>,
    /// Not to be delivered before, milliseconds since the epoch.
    pub due_ms: Option<u64>,
    /// Hash of its key, under the store's secret.
    pub key_hash: Option<u64>,
    /// Its first home (log, position), if it was moved.
    pub origin: Option<(LogId, u64)>,
}

impl BatchMeta {
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

/// Reads attrs, all of `bytes`.
///
/// # Errors
/// If [`Attrs::put`] did not write them.
pub fn decode(bytes: &[u8]) -> Result<Attrs, DecodeError> {
    let mut d = Dec::new(bytes);
    let attrs = match d.u8()? {
        SINGLE => Attrs::Single(take_single(&mut d)?),
        BATCH => {
            let (producer, epoch, first_seq) = (d.i64()?, d.i16()?, d.i32()?);
            let meta = BatchMeta { producer, epoch, first_seq, records: d.u32()?, flags: d.u16()? };
            Attrs::Batch { meta, leader_epoch: d.u32()?, append_ms: d.u64()? }
        }
        _ => return Err(DecodeError::Value { what: "entry kind" }),
    };
    d.end()?;
    Ok(attrs)
}

impl Attrs {
    /// Writes them, at most [`ATTRS_BYTES_BOUND`] bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Single(a) => put_single(a, out),
            Self::Batch { meta, leader_epoch, append_ms } => {
                out.u8(BATCH);
                out.i64(meta.producer);
                out.i16(meta.epoch);
                out.i32(meta.first_seq);
                out.u32(meta.records);
                out.u16(meta.flags);
                out.u32(*leader_epoch);
                out.u64(*append_ms);
            }
        }
    }
}

fn put_single(a: &SingleAttrs, out: &mut Vec<u8>) {
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    out.u8(SINGLE);
    out.u8(flag(a.transient, TRANSIENT)
        | flag(a.keyed, KEYED)
        | flag(a.expiry_ms.is_some(), HAS_EXPIRY)
        | flag(a.due_ms.is_some(), HAS_DUE)
        | flag(a.origin.is_some(), HAS_ORIGIN)
        | flag(a.key_hash.is_some(), HAS_KEY));
    out.u8(a.priority);
    out.u8(a.envelope_version);
    out.u32(a.envelope_len);
    out.u64(a.enqueued_ms);
    for v in [a.expiry_ms, a.due_ms, a.key_hash].into_iter().flatten() {
        out.u64(v);
    }
    if let Some((log, pos)) = a.origin {
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
    let (priority, envelope_version, envelope_len, enqueued_ms) = (d.u8()?, d.u8()?, d.u32()?, d.u64()?);
    let expiry_ms = has(HAS_EXPIRY).then(|| d.u64()).transpose()?;
    let due_ms = has(HAS_DUE).then(|| d.u64()).transpose()?;
    let key_hash = has(HAS_KEY).then(|| d.u64()).transpose()?;
    let origin = has(HAS_ORIGIN).then(|| Ok((LogId(d.u64()?), d.u64()?))).transpose()?;
    let (transient, keyed) = (has(TRANSIENT), has(KEYED));
    Ok(SingleAttrs {
        transient,
        keyed,
        priority,
        envelope_version,
        envelope_len,
        enqueued_ms,
        expiry_ms,
        due_ms,
        key_hash,
        origin,
    })
}

#[cfg(test)]
mod tests {
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn single()(transient: bool, priority: u8, envelope_version: u8, envelope_len: u32, keyed: bool, enqueued_ms: u64,
                    expiry_ms in of(any::<u64>()), due_ms in of(any::<u64>()), key_hash in of(any::<u64>()),
                    origin in of((any::<u64>().prop_map(LogId), any::<u64>()))) -> Attrs {
            Attrs::Single(SingleAttrs { transient, keyed, priority, envelope_version, envelope_len, enqueued_ms, expiry_ms, due_ms, key_hash, origin })
        }
    }
    prop_compose! {
        fn batch()(producer: i64, epoch: i16, first_seq: i32, records: u32, flags: u16, leader_epoch: u32, append_ms: u64) -> Attrs {
            Attrs::Batch { meta: BatchMeta { producer, epoch, first_seq, records, flags }, leader_epoch, append_ms }
        }
    }

    proptest! {
        #[test]
        fn attrs_come_back_as_they_were_written(a in prop_oneof![single(), batch()]) {
            let mut bytes = Vec::new();
            a.put(&mut bytes);
            prop_assert!((16..=ATTRS_BYTES_BOUND).contains(&bytes.len()));
            prop_assert_eq!(decode(&bytes).unwrap(), a);
        }
        #[test]
        fn wrong_bytes_are_an_error(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn sequence_numbers_wrap_to_zero() {
        assert_eq!([seq_after(i32::MAX, 1), seq_after(i32::MAX - 1, 3), seq_after(5, 0)], [0, 1, 5]);
    }
}
