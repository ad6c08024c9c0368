//! Rows of the state store: keys that sort as they are to be scanned, and small versioned values. Drawn in `docs/format.md`.
//!
//! Keys: one letter, then big-endian numbers. Values: a version byte, then varints.

use millstream_types::LogId;

use super::bytes::{array_at, take_varint, varint};
use crate::api::StoreError;
use crate::disk::events::FileId;

/// Version written in rows, but for those of files and extents.
const VERSION: u8 = 1;
/// Version written in rows of files and extents: with what they take.
const VERSION_2: u8 = 2;

/// The key of the one [`MetaRow`].
pub(crate) const META_KEY: &[u8] = b"M";
/// The key of the one [`EndRow`].
pub(crate) const END_KEY: &[u8] = b"E";
/// Prefix of [`FileRow`]s of segment files.
pub(crate) const FILES: &[u8] = b"F";
/// Prefix of [`FileRow`]s of packs.
pub(crate) const PACKS: &[u8] = b"P";
/// Prefix of [`ExtentRow`]s.
pub(crate) const EXTENTS: &[u8] = b"X";
/// Prefix of [`LogRow`]s.
pub(crate) const LOGS: &[u8] = b"L";
/// Prefix of trims and deletions still to finish: log → first position that stays.
pub(crate) const TODOS: &[u8] = b"W";
/// Prefix of the engine's rows.
pub(crate) const OBJECTS: &[u8] = b"O";
/// Prefix of engine rows that were removed: object → LSN, kept until the floor has passed it.
pub(crate) const TOMBSTONES: &[u8] = b"T";

fn numbers<const N: usize>(letter: u8, fields: [u64; N]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + 8 * N);
    key.push(letter);
    for n in fields {
        key.extend_from_slice(&n.to_be_bytes());
    }
    key
}

/// The number at the end of a key.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(array_at(key, key.len().checked_sub(8)?)?))
}

pub(crate) fn file_key(id: FileId) -> Vec<u8> {
    numbers(if id.is_pack() { b'P' } else { b'F' }, [id.number()])
}

/// The file of a key made by [`file_key`].
pub(crate) fn file_of(key: &[u8]) -> FileId {
    let number = last_number(key).unwrap_or_default();
    if key.starts_with(PACKS) { FileId::pack(number) } else { FileId(number) }
}

pub(crate) fn log_key(log: LogId) -> Vec<u8> {
    numbers(b'L', [log.0])
}

pub(crate) fn todo_key(log: LogId) -> Vec<u8> {
    numbers(b'W', [log.0])
}

/// Prefix of a log's extents.
pub(crate) fn extents(log: LogId) -> Vec<u8> {
    numbers(b'X', [log.0])
}

pub(crate) fn extent_key(log: LogId, first: u64) -> Vec<u8> {
    numbers(b'X', [log.0, first])
}

/// Prefix of all retired sets.
pub(crate) const RETIRED: &[u8] = b"R";

/// Prefix of a log's retired sets.
pub(crate) fn retired(log: LogId) -> Vec<u8> {
    numbers(b'R', [log.0])
}

pub(crate) fn retired_key(log: LogId, chunk: u64) -> Vec<u8> {
    numbers(b'R', [log.0, chunk])
}

pub(crate) fn object_key(object: &[u8]) -> Vec<u8> {
    [OBJECTS, object].concat()
}

pub(crate) fn tombstone_key(object: &[u8]) -> Vec<u8> {
    [TOMBSTONES, object].concat()
}

/// A value that is a few numbers.
pub(crate) fn encode<const N: usize>(fields: [u64; N]) -> Vec<u8> {
    encode_as(VERSION, fields)
}

fn encode_as<const N: usize>(version: u8, fields: [u64; N]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + 4 * N);
    out.push(version);
    for n in fields {
        let (bytes, len) = varint(n);
        out.extend_from_slice(bytes.get(..len).unwrap_or_default());
    }
    out
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// If it is damaged, or of a later version.
pub(crate) fn decode<const N: usize>(value: &[u8]) -> Result<[u64; N], StoreError> {
    decode_as(VERSION, value)
}

fn decode_as<const N: usize>(wanted: u8, value: &[u8]) -> Result<[u64; N], StoreError> {
    let read = || {
        let (version, mut rest) = value.split_first()?;
        (*version == wanted).then_some(())?;
        let mut fields = [0; N];
        for f in &mut fields {
            *f = take_varint(&mut rest)?;
        }
        rest.is_empty().then_some(fields)
    };
    read().ok_or_else(damaged)
}

/// A row that cannot be read.
pub(crate) fn damaged() -> StoreError {
    let cause = "a row is damaged or was written by a later version".to_owned();
    StoreError { file: crate::store::STATE_DIR.to_owned(), cause }
}

fn to_unsigned(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

fn to_signed(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -(n & 1).cast_signed()
}

/// What the store as a whole includes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MetaRow {
    /// The data directory's uuid.
    pub uuid: [u8; 16],
    /// Reading the log begins with this record.
    pub floor: u64,
    /// Effects below are in the engine's rows.
    pub object_floor: u64,
    /// The lap in which the record `floor` begins, or the last lap.
    pub floor_lap: u64,
    /// Space rows include everything up to this record.
    pub space_lsn: u64,
    /// Records up to this one were durable.
    pub durable_hint: u64,
    /// Laps from here on were never given.
    pub next_lap: u64,
}

impl MetaRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let uuid = u128::from_le_bytes(self.uuid);
        let low = u64::try_from(uuid & u128::from(u64::MAX)).unwrap_or_default();
        let high = u64::try_from(uuid >> 64).unwrap_or_default();
        let Self { floor, object_floor, floor_lap, space_lsn, durable_hint, next_lap, .. } = *self;
        encode([low, high, floor, object_floor, floor_lap, space_lsn, durable_hint, next_lap])
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let [low, high, floor, object_floor, floor_lap, space_lsn, durable_hint, next_lap] = decode(value)?;
        let uuid = (u128::from(high) << 64 | u128::from(low)).to_le_bytes();
        Ok(Self { uuid, floor, object_floor, floor_lap, space_lsn, durable_hint, next_lap })
    }
}

/// The log was closed and ends here: nothing behind it was ever durable. It is there only while no opening goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct EndRow {
    /// The last lap.
    pub lap: u64,
    /// Offset after its last frame.
    pub offset: u64,
    /// Header checksum of its last frame.
    pub crc: u32,
    /// The last record.
    pub lsn: u64,
}

impl EndRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode([self.lap, self.offset, u64::from(self.crc), self.lsn])
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let [lap, offset, crc, lsn] = decode(value)?;
        let crc = u32::try_from(crc).map_err(|_| damaged())?;
        Ok(Self { lap, offset, crc, lsn })
    }
}

/// An adopted file, or a pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub lap: u64,
    pub first_lsn: u64,
    pub last_lsn: u64,
    pub footer_off: u64,
    pub footer_len: u64,
    /// Positions neither retired nor trimmed.
    pub live: u64,
    /// Bytes that the entries take that were put into it; 0 = unknown (version 1).
    pub stored: u64,
    /// The same as extents count bytes: without headers, a shared body once for each log.
    pub content: u64,
    /// [`ExtentRow::live_bytes`] of its extents now, together.
    pub live_bytes: u64,
}

impl FileRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { lap, first_lsn, last_lsn, footer_off, footer_len, live, .. } = *self;
        let Self { stored, content, live_bytes, .. } = *self;
        let fields = [lap, first_lsn, last_lsn, footer_off, footer_len, live, stored, content, live_bytes];
        encode_as(VERSION_2, fields)
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        if value.first() == Some(&VERSION) {
            let [lap, first_lsn, last_lsn, footer_off, footer_len, live] = decode(value)?;
            return Ok(Self { lap, first_lsn, last_lsn, footer_off, footer_len, live, ..Self::default() });
        }
        let fields = decode_as(VERSION_2, value)?;
        let [lap, first_lsn, last_lsn, footer_off, footer_len, live, stored, content, live_bytes] = fields;
        Ok(Self { lap, first_lsn, last_lsn, footer_off, footer_len, live, stored, content, live_bytes })
    }

    /// Bytes of the file that what lives takes, about: what its entries took, in the measure in which their content lives.
    pub(crate) fn live_stored(&self) -> u64 {
        share(self.stored, self.live_bytes.min(self.content), self.content)
    }
}

/// `bytes * part / whole`, of nothing 0.
fn share(bytes: u64, part: u64, whole: u64) -> u64 {
    if part == whole {
        return bytes;
    }
    let of = u128::from(bytes) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(of).unwrap_or(u64::MAX)
}

/// A stretch of one log in one adopted file or pack, without holes. Its first position is in the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExtentRow {
    pub file: FileId,
    pub lap: u64,
    pub first: u64,
    /// One past the last position.
    pub end: u64,
    /// Positions retired.
    pub retired: u64,
    /// Of the entries of `whole` positions.
    pub bytes: u64,
    /// -1 = none.
    pub max_ts_ms: i64,
    /// Positions it had before trims took some.
    pub whole: u64,
}

impl ExtentRow {
    /// Positions neither retired nor trimmed.
    pub(crate) fn live(&self) -> u64 {
        self.len() - self.retired
    }

    /// Its bytes in the measure in which its positions live.
    pub(crate) fn live_bytes(&self) -> u64 {
        share(self.bytes, self.live(), self.whole)
    }

    pub(crate) fn len(&self) -> u64 {
        self.end - self.first
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { file, lap, first, end, retired, bytes, max_ts_ms, whole } = *self;
        let fields = [file.number(), lap, end - first, retired, bytes, to_unsigned(max_ts_ms), whole];
        encode_as(VERSION_2, fields)
    }

    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self, StoreError> {
        let [file, lap, len, retired, bytes, max_ts, whole] = if value.first() == Some(&VERSION) {
            let [file, lap, len, retired, bytes, max_ts] = decode(value)?;
            [file, lap, len, retired, bytes, max_ts, len]
        } else {
            decode_as(VERSION_2, value)?
        };
        let first = last_number(key).ok_or_else(damaged)?;
        let fits = |_: &u64| retired <= len && len <= whole;
        let end = first.checked_add(len).filter(fits).ok_or_else(damaged)?;
        // Segment files have laps from 1 on.
        let file = if lap == 0 { FileId::pack(file) } else { FileId(file) };
        Ok(Self { file, lap, first, end, retired, bytes, max_ts_ms: to_signed(max_ts), whole })
    }
}

/// A log as far as files that left the index in memory tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRow {
    /// First position that may be read; the largest u64 for a deleted log.
    pub start: u64,
    /// One past the last position.
    pub next: u64,
    /// Bytes of its extents.
    pub bytes: u64,
    /// -1 = none.
    pub max_ts_ms: i64,
}

impl Default for LogRow {
    fn default() -> Self {
        Self { start: 0, next: 0, bytes: 0, max_ts_ms: -1 }
    }
}

impl LogRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode([self.start, self.next, self.bytes, to_unsigned(self.max_ts_ms)])
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, StoreError> {
        let [start, next, bytes, max_ts] = decode(value)?;
        Ok(Self { start, next, bytes, max_ts_ms: to_signed(max_ts) })
    }
}

/// A row of the engine: its LSN, then the value as it is.
pub(crate) fn encode_object(row_lsn: u64, value: &[u8]) -> Vec<u8> {
    [&row_lsn.to_le_bytes(), value].concat()
}

/// Reads what [`encode_object`] wrote.
///
/// # Errors
/// If it is damaged.
pub(crate) fn decode_object(value: &[u8]) -> Result<(u64, Vec<u8>), StoreError> {
    Ok((object_lsn(value)?, value.get(OBJECT_HEAD_BYTES..).unwrap_or_default().to_vec()))
}

/// What stands before the engine's bytes in the value of a row of engine state.
pub(crate) const OBJECT_HEAD_BYTES: usize = 8;

/// The LSN that a row of engine state includes.
///
/// # Errors
/// If it is damaged.
pub(crate) fn object_lsn(value: &[u8]) -> Result<u64, StoreError> {
    array_at(value, 0).map(u64::from_le_bytes).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip_and_damage_is_an_error() {
        let meta = MetaRow {
            uuid: [9; 16],
            floor: 1,
            object_floor: 2,
            floor_lap: 3,
            space_lsn: 4,
            durable_hint: 5,
            next_lap: 6,
        };
        assert_eq!(MetaRow::decode(&meta.encode()).unwrap(), meta);
        let file = FileRow {
            lap: 1,
            first_lsn: 2,
            last_lsn: 3,
            footer_off: 4,
            footer_len: 5,
            live: u64::MAX,
            stored: 6,
            content: 7,
            live_bytes: 8,
        };
        assert_eq!(FileRow::decode(&file.encode()).unwrap(), file);
        for id in [FileId(7), FileId::pack(7)] {
            assert_eq!(file_of(&file_key(id)), id);
        }
        for max_ts_ms in [-1, 0, i64::MAX, i64::MIN] {
            let of = |file, lap| ExtentRow {
                file,
                lap,
                first: 9,
                end: 20,
                retired: 11,
                bytes: 5,
                max_ts_ms,
                whole: 12,
            };
            for x in [of(FileId(7), 8), of(FileId::pack(7), 0)] {
                assert_eq!(ExtentRow::decode(&extent_key(LogId(1), 9), &x.encode()).unwrap(), x);
            }
            let log = LogRow { start: u64::MAX, next: 3, bytes: 4, max_ts_ms };
            assert_eq!(LogRow::decode(&log.encode()).unwrap(), log);
        }
        assert_eq!(decode_object(&encode_object(5, b"v")).unwrap(), (5, b"v".to_vec()));
        let bytes = file.encode();
        assert!(FileRow::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(FileRow::decode(&[3, 1, 1, 1, 1, 1, 1]).is_err());
        assert!(FileRow::decode(b"").is_err() && decode_object(b"short").is_err());
    }

    #[test]
    fn rows_of_version_1_are_read() {
        let file = FileRow {
            lap: 1,
            first_lsn: 2,
            last_lsn: 3,
            footer_off: 4,
            footer_len: 5,
            live: 6,
            ..FileRow::default()
        };
        assert_eq!(FileRow::decode(&[1, 1, 2, 3, 4, 5, 6]).unwrap(), file);
        let x = ExtentRow::decode(&extent_key(LogId(1), 9), &[1, 7, 8, 11, 3, 5, 2]).unwrap();
        assert_eq!((x.file, x.end, x.retired, x.bytes, x.max_ts_ms, x.whole), (FileId(7), 20, 3, 5, 1, 11));
    }

    #[test]
    fn keys_sort_by_log_and_position() {
        let keys = [extent_key(LogId(1), 300), extent_key(LogId(2), 5), extent_key(LogId(256), 0)];
        assert!(keys.is_sorted() && keys[1].starts_with(&extents(LogId(2))));
        assert_eq!(last_number(&keys[0]), Some(300));
    }
}
