//! Chunks: what became of the messages at 4,096 positions of a lane, family [`CHUNK`](family::CHUNK). Only where something did.
//!
//! Key: `queue u64 · lane u16 · chunk u64`. Value, version 3: `version u8 · purge_no u32 · lease_no u32 · settled (see
//! [`set`](super::set)) · exceptions u32 · exceptions × (off u16, state, delivery_no u32, deliveries u16, attempts u16, bytes u32, known u8,
//! key_hash u64 if known has 1, first_ms u64 if known has 2)`. A state is `what u8` (0 ready, 1 timed lease, 2 bound lease, 3 resting, 4 held
//! by the mover, 5 parked) and a number: u64 until (1, 3), u64 epoch (2), u8 cause (4, 5). In version 2 `known` never has 2, in version 1
//! exceptions end with their bytes.
//!
//! Effect, version 1: `version u8 · purge_no u32` and items, each with a number in front. A higher `purge_no` first empties the row but for
//! `lease_no`, which is never lowered.
//! 1 `off u16 · len u16 · state · deliveries u16 · attempts u16 · sizes` (u8 0 and one u32 for all, or u8 1 and len × u32): a run is
//!   leased; `lease_no` grows by one and is its delivery number;
//! 6 `key_hash u64` and the rest as 1: the same of messages with this key, in a queue that orders by key;
//! 2 `off u16 · len u16 · cause u8`: a run is settled;
//! 3 `off u16 · len u16 · state · deliveries u16 · attempts u16`: what is known of a run is now this;
//! 4: the row goes: the floor is past it, or nothing is left of the lane;
//! 5 `purge_no u32 · n u16 · n × off u16`: this purge keeps these exceptions and nothing else;
//! 7 `ms u64`: consumers are handed then what is leased by the items behind this one, the first time if its deliveries are 1.

use millstream_types::{Lsn, ObjectId};

use super::exceptions::Exceptions;
use super::set::{CHUNK, Settled};
use crate::codec::{Dec, DecodeError, Enc};
use crate::rows::{KeyDec, RowKey, RowValue, family};
use crate::table::Table;

const VERSION: u8 = 3;
/// Exceptions without the times at which they were first handed out.
const VERSION_2: u8 = 2;
/// Exceptions without keys, too.
const VERSION_1: u8 = 1;
pub(crate) const EFFECT_VERSION: u8 = 1;
const LEASE: u8 = 1;
const SETTLE: u8 = 2;
const PUT: u8 = 3;
const GONE: u8 = 4;
const KEEP: u8 = 5;
const LEASE_KEYED: u8 = 6;
const HANDED_OUT: u8 = 7;
const HAS_KEY: u8 = 1;
const HAS_FIRST: u8 = 2;
const EXCEPTION_BYTES_MIN: usize = 15;

/// The key of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkKey {
    /// The queue.
    pub queue: ObjectId,
    /// Its lane.
    pub lane: u16,
    /// Position / 4,096.
    pub chunk: u64,
}

impl ChunkKey {
    /// The chunk that a position is in.
    #[must_use]
    pub fn of(queue: ObjectId, lane: u16, pos: u64) -> Self {
        Self { queue, lane, chunk: pos / CHUNK }
    }
    /// Its first position.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.chunk.saturating_mul(CHUNK)
    }
}

/// A position's offset in its chunk.
#[must_use]
pub fn offset(pos: u64) -> u16 {
    u16::try_from(pos % CHUNK).unwrap_or(0)
}

impl RowKey for ChunkKey {
    const FAMILY: u8 = family::CHUNK;
    fn is_transient(&self) -> bool {
        self.queue.is_transient()
    }
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.queue.0.to_be_bytes());
        out.extend_from_slice(&self.lane.to_be_bytes());
        out.extend_from_slice(&self.chunk.to_be_bytes());
    }
    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = KeyDec(bytes);
        let key = Self { queue: ObjectId(d.u64()?), lane: d.u16()?, chunk: d.u64()? };
        d.end()?;
        Ok(key)
    }
}

/// What is recorded of one message that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It may be delivered.
    Ready,
    /// Leased until then, milliseconds since the epoch.
    Timed(u64),
    /// Leased to a session of this opening of the log.
    Bound(u64),
    /// Not to be delivered before, milliseconds since the epoch.
    Resting(u64),
    /// The mover has it; why, as the number of a `Cause`.
    Held(u8),
    /// Set aside; why.
    Parked(u8),
}

impl State {
    fn put(self, out: &mut Vec<u8>) {
        match self {
            Self::Ready => out.u8(0),
            Self::Timed(v) => {
                out.u8(1);
                out.u64(v);
            }
            Self::Bound(v) => {
                out.u8(2);
                out.u64(v);
            }
            Self::Resting(v) => {
                out.u8(3);
                out.u64(v);
            }
            Self::Held(cause) => {
                out.u8(4);
                out.u8(cause);
            }
            Self::Parked(cause) => {
                out.u8(5);
                out.u8(cause);
            }
        }
    }
    fn take(d: &mut Dec<'_>) -> Result<Self, DecodeError> {
        Ok(match d.u8()? {
            0 => Self::Ready,
            1 => Self::Timed(d.u64()?),
            2 => Self::Bound(d.u64()?),
            3 => Self::Resting(d.u64()?),
            4 => Self::Held(d.u8()?),
            5 => Self::Parked(d.u8()?),
            _ => return Err(DecodeError::Value { what: "message state" }),
        })
    }
}

/// A message about which something is recorded besides that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its offset in the chunk.
    pub off: u16,
    /// What it is.
    pub state: State,
    /// Number of its last delivery.
    pub no: u32,
    /// Times it was handed out.
    pub deliveries: u16,
    /// Times that failed.
    pub attempts: u16,
    /// Payload bytes.
    pub bytes: u32,
    /// Hash of its key, if the queue orders by key and it was leased.
    pub key_hash: Option<u64>,
    /// When it was first handed out, milliseconds since the epoch; 0 = never, or before rows told of it.
    pub first_ms: u64,
}

/// A chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// The purge it has seen.
    pub purge_no: u32,
    /// Last delivery number given.
    pub lease_no: u32,
    /// What is settled.
    pub settled: Settled,
    /// None of them settled.
    pub exceptions: Exceptions,
}

impl Chunk {
    /// What is recorded of the message at `off`.
    #[must_use]
    pub fn exception(&self, off: u16) -> Option<Exception> {
        self.exceptions.get(off)
    }

    fn purge(&mut self, purge_no: u32) {
        if purge_no > self.purge_no {
            let lease_no = self.lease_no;
            *self = Self { purge_no, lease_no, ..Self::default() };
        }
    }

    fn keep(&mut self, purge_no: u32, kept: &[u16]) {
        self.purge_no = self.purge_no.max(purge_no);
        self.exceptions.keep(kept);
        self.settled = Settled::default();
    }
}

impl RowValue for Chunk {
    fn put(&self, out: &mut Vec<u8>) {
        out.u8(VERSION);
        out.u32(self.purge_no);
        out.u32(self.lease_no);
        self.settled.put(out);
        out.len_u32(self.exceptions.len());
        for e in self.exceptions.iter() {
            out.u16(e.off);
            e.state.put(out);
            out.u32(e.no);
            out.u16(e.deliveries);
            out.u16(e.attempts);
            out.u32(e.bytes);
            out.u8(u8::from(e.key_hash.is_some()) * HAS_KEY + u8::from(e.first_ms != 0) * HAS_FIRST);
            if let Some(hash) = e.key_hash {
                out.u64(hash);
            }
            if e.first_ms != 0 {
                out.u64(e.first_ms);
            }
        }
    }

    fn take(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut d = Dec::new(bytes);
        let may_have = match d.u8()? {
            VERSION => HAS_KEY | HAS_FIRST,
            VERSION_2 => HAS_KEY,
            VERSION_1 => 0,
            _ => return Err(DecodeError::Value { what: "chunk version" }),
        };
        let (purge_no, lease_no, settled) = (d.u32()?, d.u32()?, Settled::take(&mut d)?);
        let mut exceptions = Exceptions::default();
        for _ in 0..d.len(EXCEPTION_BYTES_MIN)? {
            let mut e = Exception {
                off: d.u16()?,
                state: State::take(&mut d)?,
                no: d.u32()?,
                deliveries: d.u16()?,
                attempts: d.u16()?,
                bytes: d.u32()?,
                key_hash: None,
                first_ms: 0,
            };
            let known = if may_have == 0 { 0 } else { d.u8()? };
            if known & !may_have != 0 {
                return Err(DecodeError::Value { what: "what is known of an exception" });
            }
            if known & HAS_KEY != 0 {
                e.key_hash = Some(d.u64()?);
            }
            if known & HAS_FIRST != 0 {
                e.first_ms = d.u64()?;
            }
            if u64::from(e.off) >= CHUNK || exceptions.last().is_some_and(|last| last >= e.off) {
                return Err(DecodeError::Value { what: "chunk exception" });
            }
            exceptions.set(&e);
        }
        d.end()?;
        Ok(Self { purge_no, lease_no, settled, exceptions })
    }
}

/// What a lease or a put says of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) state: State,
    pub(crate) deliveries: u16,
    pub(crate) attempts: u16,
}

fn put_known(out: &mut Vec<u8>, k: Known) {
    k.state.put(out);
    out.u16(k.deliveries);
    out.u16(k.attempts);
}

/// Begins an effect.
pub(crate) fn begin(out: &mut Vec<u8>, purge_no: u32) {
    out.u8(EFFECT_VERSION);
    out.u32(purge_no);
}

/// Item 1, or 6 if there is a key.
pub(crate) fn put_lease(
    out: &mut Vec<u8>,
    off: u16,
    known: Known,
    key_hash: Option<u64>,
    sizes: impl Iterator<Item = u32> + Clone,
) {
    let len = u16::try_from(sizes.clone().count()).unwrap_or(u16::MAX);
    match key_hash {
        None => out.u8(LEASE),
        Some(hash) => {
            out.u8(LEASE_KEYED);
            out.u64(hash);
        }
    }
    out.u16(off);
    out.u16(len);
    put_known(out, known);
    let first = sizes.clone().next().unwrap_or(0);
    if sizes.clone().all(|s| s == first) {
        out.u8(0);
        out.u32(first);
    } else {
        out.u8(1);
        for s in sizes {
            out.u32(s);
        }
    }
}

/// Item 2.
pub(crate) fn put_settle(out: &mut Vec<u8>, off: u16, len: u16, cause: u8) {
    out.u8(SETTLE);
    out.u16(off);
    out.u16(len);
    out.u8(cause);
}

/// Item 3.
pub(crate) fn put_put(out: &mut Vec<u8>, off: u16, len: u16, known: Known) {
    out.u8(PUT);
    out.u16(off);
    out.u16(len);
    put_known(out, known);
}

/// Item 4.
pub(crate) fn put_gone(out: &mut Vec<u8>) {
    out.u8(GONE);
}

/// Item 5.
pub(crate) fn put_keep(out: &mut Vec<u8>, purge_no: u32, kept: &[u16]) {
    out.u8(KEEP);
    out.u32(purge_no);
    out.u16(u16::try_from(kept.len()).unwrap_or(u16::MAX));
    for off in kept {
        out.u16(*off);
    }
}

/// Item 7.
pub(crate) fn put_handed_out(out: &mut Vec<u8>, ms: u64) {
    out.u8(HANDED_OUT);
    out.u64(ms);
}

fn run(d: &mut Dec<'_>) -> Result<(u16, u16), DecodeError> {
    let (off, len) = (d.u16()?, d.u16()?);
    let end = u64::from(off) + u64::from(len);
    if len == 0 || end > CHUNK {
        return Err(DecodeError::Value { what: "run of a chunk" });
    }
    Ok((off, off + (len - 1)))
}

fn known(d: &mut Dec<'_>) -> Result<Known, DecodeError> {
    Ok(Known { state: State::take(d)?, deliveries: d.u16()?, attempts: d.u16()? })
}

fn apply_items(row: &mut Option<Chunk>, mut d: Dec<'_>) -> Result<(), DecodeError> {
    let purge_no = d.u32()?;
    row.get_or_insert_default().purge(purge_no);
    let mut now_ms = 0;
    while !d.is_empty() {
        let chunk = row.get_or_insert_default();
        match d.u8()? {
            what @ (LEASE | LEASE_KEYED) => {
                let key_hash = if what == LEASE_KEYED { Some(d.u64()?) } else { None };
                let (first, last) = run(&mut d)?;
                let k = known(&mut d)?;
                let each = d.u8()? != 0;
                let mut bytes = if each { 0 } else { d.u32()? };
                chunk.lease_no = chunk.lease_no.saturating_add(1);
                let no = chunk.lease_no;
                for off in first..=last {
                    if each {
                        bytes = d.u32()?;
                    }
                    let Known { state, deliveries, attempts } = k;
                    let known_ms = chunk.exception(off).map_or(0, |e| e.first_ms);
                    let first_ms = match state {
                        State::Held(_) => known_ms,
                        _ if deliveries <= 1 || known_ms == 0 => now_ms,
                        _ => known_ms,
                    };
                    chunk.exceptions.set(&Exception {
                        off,
                        state,
                        no,
                        deliveries,
                        attempts,
                        bytes,
                        key_hash,
                        first_ms,
                    });
                }
            }
            SETTLE => {
                let (first, last) = run(&mut d)?;
                d.u8()?;
                chunk.exceptions.forget(first, last);
                chunk.settled.add(first, last);
            }
            PUT => {
                let (first, last) = run(&mut d)?;
                let k = known(&mut d)?;
                for off in first..=last {
                    let Known { state, deliveries, attempts } = k;
                    let no = chunk.lease_no;
                    let new = Exception {
                        off,
                        state,
                        no,
                        deliveries,
                        attempts,
                        bytes: 0,
                        key_hash: None,
                        first_ms: 0,
                    };
                    let mut now =
                        chunk.exception(off).map_or(new, |e| Exception { state, deliveries, attempts, ..e });
                    // What was given back as never delivered was not handed out.
                    if deliveries == 0 {
                        now.first_ms = 0;
                    }
                    chunk.exceptions.set(&now);
                }
            }
            HANDED_OUT => now_ms = d.u64()?,
            GONE => *row = None,
            KEEP => {
                let (purge_no, n) = (d.u32()?, d.u16()?);
                let mut kept = Vec::with_capacity(usize::from(n).min(4_096));
                for _ in 0..n {
                    kept.push(d.u16()?);
                }
                chunk.keep(purge_no, &kept);
            }
            _ => return Err(DecodeError::Value { what: "chunk effect" }),
        }
    }
    Ok(())
}

impl Table<ChunkKey, Chunk> {
    /// Applies an effect.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn apply_effect(&mut self, lsn: Lsn, key: &[u8], bytes: &[u8]) -> Result<(), DecodeError> {
        let key = ChunkKey::decode(key)?;
        let mut d = Dec::new(bytes);
        d.version(EFFECT_VERSION)?;
        let mut result = Ok(());
        self.apply(lsn, &key, |row| result = apply_items(row, d));
        result
    }
}

#[cfg(test)]
mod tests;
