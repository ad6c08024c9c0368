//! The records of a batch, one by one: never more of them in memory than the one that is asked for, whatever the batch inflates to.

use std::io::{self, Read};

use bytes::Bytes;
use millstream_types::limits::{HEADERS_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, PAYLOAD_BYTES_MAX};

use super::slice::{Slice, zigzag};
use super::{BatchHeader, Compression, HEADER_BYTES, inflate};

/// Most bytes of records that are taken out of one batch at once, by [`decode_batch`].
pub const DECODED_BYTES_MAX: u64 = 64 << 20;
/// Largest single record, bytes: a message's payload, key and headers at their limits, and the numbers between them.
pub const RECORD_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + KEY_BYTES_MAX + 2 * HEADERS_BYTES_MAX;

/// A record taken out of its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedRecord {
    /// Its offset.
    pub offset: u64,
    /// Its timestamp, milliseconds since the epoch; -1 = none.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// The records of one batch, in order, as they are asked for. After an error there are no more.
pub struct Records {
    header: BatchHeader,
    base: u64,
    left: i32,
    from: From,
}

enum From {
    /// Not compressed: records share the batch's bytes.
    Plain(Bytes),
    Inflating {
        input: Box<dyn Read + Send>,
        /// Bytes that may still come out.
        budget: u64,
    },
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("base", &self.base).field("left", &self.left).finish_non_exhaustive()
    }
}

fn bad(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Records {
    /// Begins with a stored batch whose first record has the offset `base`. At most [`inflate::INFLATED_BYTES_MAX`] come out of it. A
    /// control batch has no records.
    ///
    /// # Errors
    /// The bytes are no batch.
    pub fn new(batch: &Bytes, base: u64) -> io::Result<Self> {
        Self::bounded(batch, base, inflate::INFLATED_BYTES_MAX)
    }

    pub(super) fn bounded(batch: &Bytes, base: u64, budget: u64) -> io::Result<Self> {
        let header = BatchHeader::read(batch).ok_or_else(|| bad("no batch header"))?;
        let end = header.size.min(batch.len());
        if end < HEADER_BYTES {
            return Err(bad("shorter than its header"));
        }
        let body = batch.slice(HEADER_BYTES..end);
        let left = if header.is_control() { 0 } else { header.records };
        let from = match header.compression().ok_or_else(|| bad("unknown compression"))? {
            Compression::None => From::Plain(body),
            compression => From::Inflating { input: inflate::reader(compression, body)?, budget },
        };
        Ok(Self { header, base, left, from })
    }

    /// Whether what comes out was compressed: it has memory of its own, and lies behind all that comes before it.
    #[must_use]
    pub fn is_inflated(&self) -> bool {
        matches!(self.from, From::Inflating { .. })
    }

    fn one(&mut self) -> io::Result<DecodedRecord> {
        let body = match &mut self.from {
            From::Plain(rest) => {
                let mut front = Slice(rest);
                let length = front.varint().ok_or_else(|| bad("cut short"))?;
                let length = length_of(length)?;
                let at = rest.len() - front.0.len();
                if front.0.len() < length {
                    return Err(bad("cut short"));
                }
                let record = rest.slice(at..at + length);
                *rest = rest.slice(at + length..);
                record
            }
            From::Inflating { input, budget } => {
                let length = length_of(i32::try_from(varlong(input, budget)?).unwrap_or(-1))?;
                spend(budget, length as u64)?;
                // Grows with what really comes: a length that is not true takes no memory.
                let mut record = Vec::new();
                input.by_ref().take(length as u64).read_to_end(&mut record)?;
                if record.len() < length {
                    return Err(bad("cut short"));
                }
                Bytes::from(record)
            }
        };
        decode_record(&self.header, self.base, &body)
    }
}

fn length_of(length: i32) -> io::Result<usize> {
    let length = usize::try_from(length).map_err(|_| bad("a record's length is negative"))?;
    if length > RECORD_BYTES_MAX { Err(bad("a record is larger than any may be")) } else { Ok(length) }
}

fn spend(budget: &mut u64, n: u64) -> io::Result<()> {
    *budget = budget.checked_sub(n).ok_or_else(|| bad("inflates beyond the limit"))?;
    Ok(())
}

fn varlong(input: &mut Box<dyn Read + Send>, budget: &mut u64) -> io::Result<i64> {
    let mut value: u64 = 0;
    for shift in (0..70).step_by(7) {
        spend(budget, 1)?;
        let mut b = [0];
        input.read_exact(&mut b)?;
        value |= u64::from(b[0] & 0x7f).checked_shl(shift).unwrap_or(0);
        if b[0] < 0x80 {
            return Ok(zigzag(value));
        }
    }
    Err(bad("a varint is too long"))
}

impl Iterator for Records {
    type Item = io::Result<DecodedRecord>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        self.left -= 1;
        let record = self.one();
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

/// Takes a stored batch apart whose first record has the offset `base`.
///
/// # Errors
/// The records cannot be read, or inflate to more than [`DECODED_BYTES_MAX`].
pub fn decode_batch(batch: &Bytes, base: u64) -> io::Result<Vec<DecodedRecord>> {
    Records::bounded(batch, base, DECODED_BYTES_MAX)?.collect()
}

fn decode_record(header: &BatchHeader, base: u64, body: &Bytes) -> io::Result<DecodedRecord> {
    let mut r = Slice(body);
    let (timestamp_delta, offset_delta) = head(&mut r).ok_or_else(|| bad("a malformed record"))?;
    let offset = base.checked_add(offset_delta).ok_or_else(|| bad("an offset past all others"))?;
    let timestamp_ms = header.base_timestamp.wrapping_add(timestamp_delta);
    let (key, value, headers) = contents(&mut r, body).ok_or_else(|| bad("a malformed record"))?;
    if headers.len() > HEADERS_MAX {
        return Err(bad("more headers than a message may have"));
    }
    Ok(DecodedRecord { offset, timestamp_ms, key, value, headers })
}

fn head(r: &mut Slice<'_>) -> Option<(i64, u64)> {
    r.u8()?;
    Some((r.varlong()?, u64::try_from(r.varint()?).ok()?))
}

type Contents = (Option<Bytes>, Option<Bytes>, Vec<(String, Option<Bytes>)>);

fn contents(r: &mut Slice<'_>, body: &Bytes) -> Option<Contents> {
    let shared = |b: &[u8]| body.slice_ref(b);
    let key = r.nullable()?.map(shared);
    let value = r.nullable()?.map(shared);
    let mut headers = Vec::new();
    // One more than allowed, for the caller to see that they are too many.
    for _ in 0..usize::try_from(r.varint()?).ok()?.min(HEADERS_MAX + 1) {
        let name = r.nullable()??;
        headers.push((String::from_utf8_lossy(name).into_owned(), r.nullable()?.map(shared)));
    }
    Some((key, value, headers))
}
