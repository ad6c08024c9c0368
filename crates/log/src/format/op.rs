//! Operations of a record. Entries (appends and fan-outs) have a 40-byte header with a checksum of their own, because a cold
//! read fetches an entry and not its frame; all others have 8 bytes and varints. Each is padded to 8.

use bytes::BytesMut;
use millstream_types::LogId;

use super::bytes::{
    align8, array_at, len32, put, size, take, take_varint, u16_at, u32_at, u64_at, varint, varint_len,
};
use super::crc::{crc32c, crc32c_append};
use crate::api::Op;

/// Bytes of an entry's header.
pub(crate) const ENTRY_HEADER_BYTES: usize = 40;
/// Where the bytes begin that an entry's checksum covers.
pub(crate) const SUMMED_FROM: usize = 8;
const SMALL_HEADER_BYTES: usize = 8;
/// The top bit of the length word tells a small operation from an entry.
const SMALL: u32 = 1 << 31;
const OP_VERSION: u8 = 1;
/// A program that does not know the operation must not open the log.
const MUST_UNDERSTAND: u16 = 1;

const APPEND: u8 = 1;
const FAN_OUT: u8 = 2;
const RETIRE: u8 = 3;
const TRIM: u8 = 4;
const DELETE: u8 = 5;
const EFFECT: u8 = 6;

/// Bytes of an entry's attrs and body.
pub(crate) fn content_len(attrs: &[u8], body: &[bytes::Bytes]) -> usize {
    attrs.len() + body.iter().map(bytes::Bytes::len).sum::<usize>()
}

/// Bytes of an operation as encoded, without padding.
pub(crate) fn encoded_len(op: &Op<'_>) -> usize {
    match op {
        Op::Append { attrs, body, .. } => ENTRY_HEADER_BYTES + content_len(attrs, body),
        Op::FanOut { to, attrs, body, .. } => ENTRY_HEADER_BYTES + refs_len(to) + content_len(attrs, body),
        Op::Retire { log, runs } => {
            let runs_len: usize = deltas(runs).map(|(d, n)| varint_len(d) + varint_len(n)).sum();
            SMALL_HEADER_BYTES + varint_len(log.0) + varint_len(runs.len() as u64) + runs_len
        }
        Op::Trim { log, before } => SMALL_HEADER_BYTES + varint_len(log.0) + varint_len(*before),
        Op::Delete { log } => SMALL_HEADER_BYTES + varint_len(log.0),
        Op::Effect { object, bytes } => {
            let lens = varint_len(object.len() as u64) + varint_len(bytes.len() as u64);
            SMALL_HEADER_BYTES + lens + object.len() + bytes.len()
        }
    }
}

fn refs_len(to: &[(LogId, u64)]) -> usize {
    log_deltas(to).map(|(d, pos)| varint_len(d) + varint_len(pos)).sum()
}

/// References as (log minus the log before, position).
fn log_deltas(to: &[(LogId, u64)]) -> impl Iterator<Item = (u64, u64)> {
    let mut before = 0;
    to.iter().map(move |(log, pos)| {
        let delta = log.0.wrapping_sub(before);
        before = log.0;
        (delta, *pos)
    })
}

/// Runs as (first minus the end of the run before, wrapping, so that any order round-trips; positions).
fn deltas(runs: &[(u64, u32)]) -> impl Iterator<Item = (u64, u64)> {
    let mut before = 0u64;
    runs.iter().map(move |&(first, count)| {
        let delta = first.wrapping_sub(before);
        before = first.wrapping_add(u64::from(count));
        (delta, u64::from(count))
    })
}

/// The checksum that an entry has in its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntrySum {
    /// Of the bytes that follow it, up to the padding.
    pub crc: u32,
    /// So many bytes.
    pub len: usize,
}

/// Appends an operation and its padding. Body bytes are copied once. Of an entry it gives the checksum.
///
/// # Panics
/// If `out` has no room for [`encoded_len`] rounded up to 8.
pub(crate) fn encode(op: &Op<'_>, out: &mut BytesMut) -> Option<EntrySum> {
    match op {
        Op::Append { log, pos, count, max_ts_ms, attrs, body } => {
            let head =
                EntryHeader { op: APPEND, log: log.0, pos: *pos, count: *count, max_ts_ms: *max_ts_ms };
            return Some(encode_entry(&head, &[], attrs, body, out));
        }
        Op::FanOut { to, max_ts_ms, attrs, body } => {
            let count = len32(refs_len(to));
            let head =
                EntryHeader { op: FAN_OUT, log: 0, pos: to.len() as u64, count, max_ts_ms: *max_ts_ms };
            return Some(encode_entry(&head, to, attrs, body, out));
        }
        Op::Retire { log, runs } => small(op, RETIRE, out, |out| {
            put_varint(log.0, out);
            put_varint(runs.len() as u64, out);
            for (delta, count) in deltas(runs) {
                put_varint(delta, out);
                put_varint(count, out);
            }
        }),
        Op::Trim { log, before } => small(op, TRIM, out, |out| {
            put_varint(log.0, out);
            put_varint(*before, out);
        }),
        Op::Delete { log } => small(op, DELETE, out, |out| put_varint(log.0, out)),
        Op::Effect { object, bytes } => small(op, EFFECT, out, |out| {
            put_varint(object.len() as u64, out);
            out.extend_from_slice(object);
            put_varint(bytes.len() as u64, out);
            out.extend_from_slice(bytes);
        }),
    }
    None
}

fn put_varint(v: u64, out: &mut BytesMut) {
    let (bytes, n) = varint(v);
    out.extend_from_slice(bytes.get(..n).expect("a varint has at most 10 bytes"));
}

fn pad(out: &mut BytesMut) {
    out.resize(align8(out.len()), 0);
}

fn small(op: &Op<'_>, code: u8, out: &mut BytesMut, content: impl FnOnce(&mut BytesMut)) {
    let (at, len) = (out.len(), encoded_len(op));
    let mut b = [0; SMALL_HEADER_BYTES];
    put(&mut b, 0, &(len32(len) | SMALL).to_le_bytes());
    put(&mut b, 4, &[code, OP_VERSION]);
    put(&mut b, 6, &MUST_UNDERSTAND.to_le_bytes());
    out.extend_from_slice(&b);
    content(out);
    debug_assert_eq!(out.len(), at + len);
    pad(out);
}

struct EntryHeader {
    op: u8,
    log: u64,
    pos: u64,
    count: u32,
    max_ts_ms: i64,
}

fn encode_entry(
    head: &EntryHeader,
    to: &[(LogId, u64)],
    attrs: &[u8],
    body: &[bytes::Bytes],
    out: &mut BytesMut,
) -> EntrySum {
    let at = out.len();
    let mut b = [0; ENTRY_HEADER_BYTES];
    put(&mut b, 8, &head.log.to_le_bytes());
    put(&mut b, 16, &head.pos.to_le_bytes());
    put(&mut b, 24, &head.count.to_le_bytes());
    put(&mut b, 28, &[head.op, OP_VERSION]);
    let attrs_len = u16::try_from(attrs.len()).expect("attrs are at most 4 KiB");
    put(&mut b, 30, &attrs_len.to_le_bytes());
    put(&mut b, 32, &head.max_ts_ms.to_le_bytes());
    out.extend_from_slice(&b);
    for (delta, pos) in log_deltas(to) {
        put_varint(delta, out);
        put_varint(pos, out);
    }
    out.extend_from_slice(attrs);
    let mut crc = crc32c(out.get(at + SUMMED_FROM..).expect("an entry has a header"));
    for piece in body {
        // Where it comes from it is in a cache, where it goes to it need not be.
        crc = crc32c_append(crc, piece);
        out.extend_from_slice(piece);
    }
    let entry = out.get_mut(at..).expect("the entry was just written");
    let len = entry.len();
    put(entry, 0, &len32(len).to_le_bytes());
    put(entry, 4, &crc.to_le_bytes());
    pad(out);
    EntrySum { crc, len: len - SUMMED_FROM }
}

/// An entry's parts as they lie in its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryView<'a> {
    /// Log and position, or the references of a fan-out.
    pub to: To<'a>,
    /// Largest timestamp, -1 = none.
    pub max_ts_ms: i64,
    /// Offset of the attrs in the entry.
    pub attrs_at: usize,
    /// The engine's bytes.
    pub attrs: &'a [u8],
    /// The opaque body.
    pub body: &'a [u8],
}

/// Where an entry is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum To<'a> {
    /// In one log.
    One {
        /// The log.
        log: LogId,
        /// First position.
        pos: u64,
        /// Positions covered.
        count: u32,
    },
    /// In several.
    Many(Refs<'a>),
}

impl To<'_> {
    /// Whether it is in this log at this position.
    pub(crate) fn holds(&self, log: LogId, pos: u64) -> bool {
        match self {
            Self::One { log: l, pos: p, .. } => (*l, *p) == (log, pos),
            Self::Many(refs) => refs.clone().any(|r| r == (log, pos)),
        }
    }
}

/// The references of a fan-out, encoded; an iterator of (log, position).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refs<'a> {
    bytes: &'a [u8],
    log: u64,
}

impl Iterator for Refs<'_> {
    type Item = (LogId, u64);
    fn next(&mut self) -> Option<Self::Item> {
        self.log = self.log.wrapping_add(take_varint(&mut self.bytes)?);
        Some((LogId(self.log), take_varint(&mut self.bytes)?))
    }
}

/// The runs of a retire, encoded; an iterator of (first position, positions).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runs<'a> {
    bytes: &'a [u8],
    before: u64,
}

impl Iterator for Runs<'_> {
    type Item = (u64, u32);
    fn next(&mut self) -> Option<Self::Item> {
        let first = self.before.wrapping_add(take_varint(&mut self.bytes)?);
        let count = u32::try_from(take_varint(&mut self.bytes)?).ok()?;
        self.before = first.wrapping_add(u64::from(count));
        Some((first, count))
    }
}

/// An operation as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// An append or a fan-out.
    Entry(EntryView<'a>),
    /// A retire.
    Retire {
        /// The log.
        log: LogId,
        /// What goes.
        runs: Runs<'a>,
    },
    /// A trim.
    Trim {
        /// The log.
        log: LogId,
        /// First position that stays.
        before: u64,
    },
    /// A deletion.
    Delete {
        /// The log.
        log: LogId,
    },
    /// An effect.
    Effect {
        /// The row's key.
        object: &'a [u8],
        /// What happened.
        bytes: &'a [u8],
    },
    /// Of a later version, and may be passed over.
    Unknown,
}

/// Why an operation cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpError {
    /// It is not one.
    Malformed,
    /// A later version wrote it and it must be understood.
    Newer,
}

/// Length word of the operation at the front: bytes without padding, and whether it is an entry.
fn length(b: &[u8]) -> Option<(usize, bool)> {
    let word = u32_at(b, 0)?;
    Some((size(u64::from(word & !SMALL)), word & SMALL == 0))
}

/// Takes the operation off the front: what it is, and its bytes without padding. Checksums are not looked at.
///
/// # Errors
/// See [`OpError`].
pub(crate) fn take_op<'a>(b: &mut &'a [u8]) -> Result<(Found<'a>, usize), OpError> {
    let (len, is_entry) = length(b).ok_or(OpError::Malformed)?;
    let bytes = take(b, align8(len)).and_then(|padded| padded.get(..len)).ok_or(OpError::Malformed)?;
    let found = if is_entry { Found::Entry(entry(bytes)?) } else { small_op(bytes)? };
    Ok((found, len))
}

/// Reads an entry from exactly its bytes.
///
/// # Errors
/// See [`OpError`].
pub(crate) fn entry(b: &[u8]) -> Result<EntryView<'_>, OpError> {
    let read = || {
        let [op, version] = array_at(b, 28)?;
        let (pos, count, max_ts_ms) = (u64_at(b, 16)?, u32_at(b, 24)?, i64::from_le_bytes(array_at(b, 32)?));
        let mut rest = b.get(ENTRY_HEADER_BYTES..)?;
        let to = match (op, version) {
            (APPEND, OP_VERSION) => To::One { log: LogId(u64_at(b, 8)?), pos, count },
            (FAN_OUT, OP_VERSION) => {
                To::Many(Refs { bytes: take(&mut rest, size(u64::from(count)))?, log: 0 })
            }
            _ => return Some(Err(OpError::Newer)),
        };
        let attrs_at = b.len() - rest.len();
        let attrs = take(&mut rest, usize::from(u16_at(b, 30)?))?;
        Some(Ok(EntryView { to, max_ts_ms, attrs_at, attrs, body: rest }))
    };
    read().unwrap_or(Err(OpError::Malformed))
}

/// Whether exactly these bytes are an entry that matches its length and checksum.
pub(crate) fn entry_is_sound(b: &[u8]) -> bool {
    length(b) == Some((b.len(), true))
        && b.get(SUMMED_FROM..).is_some_and(|rest| u32_at(b, 4) == Some(crc32c(rest)))
}

fn small_op(b: &[u8]) -> Result<Found<'_>, OpError> {
    let read = || {
        let [code, version] = array_at(b, 4)?;
        let must = u16_at(b, 6)? & MUST_UNDERSTAND != 0;
        let mut rest = b.get(SMALL_HEADER_BYTES..)?;
        if version != OP_VERSION || !(RETIRE..=EFFECT).contains(&code) {
            return Some(if must { Err(OpError::Newer) } else { Ok(Found::Unknown) });
        }
        if code == EFFECT {
            let object_len = take_varint(&mut rest)?;
            let object = take(&mut rest, usize::try_from(object_len).ok()?)?;
            let bytes_len = take_varint(&mut rest)?;
            let bytes = take(&mut rest, usize::try_from(bytes_len).ok()?)?;
            return Some(Ok(Found::Effect { object, bytes }));
        }
        let log = LogId(take_varint(&mut rest)?);
        Some(Ok(match code {
            RETIRE => {
                take_varint(&mut rest)?;
                Found::Retire { log, runs: Runs { bytes: rest, before: 0 } }
            }
            TRIM => Found::Trim { log, before: take_varint(&mut rest)? },
            _ => Found::Delete { log },
        }))
    };
    read().unwrap_or(Err(OpError::Malformed))
}

#[cfg(test)]
mod tests;
