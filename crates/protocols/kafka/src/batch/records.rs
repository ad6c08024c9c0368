//! Records inside a batch: a walk over plain ones, and finding one by its timestamp in any.

use std::io::{self, Read};

use bytes::Bytes;
use millstream_broker::batch::inflate;
use millstream_broker::batch::slice::{Slice, zigzag};

use super::{Compression, HEADER_BYTES, Header};

/// What a reader that looks for a time learns of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) timestamp: i64,
    pub(crate) offset_delta: u32,
}

/// Walks the records of a batch that is not compressed: as many as its header says, numbered from 0 without gaps, whole, and
/// nothing behind them. Returns their largest timestamp.
///
/// # Errors
/// What is wrong.
pub(crate) fn check_plain(header: &Header, body: &[u8]) -> Result<i64, &'static str> {
    let mut rest = Slice(body);
    let mut max = -1;
    for index in 0..header.records {
        let length = rest.varint().ok_or("a record is cut short")?;
        let length = usize::try_from(length).map_err(|_| "a record's length is negative")?;
        let record = rest.take(length).ok_or("a record is cut short")?;
        let timestamp = check_record(header, record, index).ok_or("a record is malformed")??;
        max = max.max(timestamp);
    }
    if rest.0.is_empty() { Ok(max) } else { Err("there is something behind its records") }
}

fn check_record(header: &Header, record: &[u8], index: i32) -> Option<Result<i64, &'static str>> {
    let mut r = Slice(record);
    r.u8()?;
    let timestamp = header.base_timestamp.wrapping_add(r.varlong()?);
    if r.varint()? != index {
        return Some(Err("its records are not numbered in order"));
    }
    r.nullable()?;
    r.nullable()?;
    for _ in 0..r.varint().filter(|n| *n >= 0)? {
        let key = usize::try_from(r.varint()?).ok()?;
        r.take(key)?;
        r.nullable()?;
    }
    if !r.0.is_empty() {
        return Some(Err("a record has something behind its headers"));
    }
    Some(Ok(timestamp))
}

/// The first record of a batch, whole or compressed, of which `wanted(timestamp, offset_delta)` holds. Memory is bounded whatever
/// the batch says; time by [`inflate::INFLATED_BYTES_MAX`].
///
/// # Errors
/// The records cannot be read: `InvalidData` mostly.
pub(crate) fn find(batch: &Bytes, wanted: impl Fn(&Found) -> bool) -> io::Result<Option<Found>> {
    let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let header = Header::read(batch).ok_or_else(|| bad("no batch header"))?;
    let compression = header.compression().ok_or_else(|| bad("unknown compression"))?;
    let end = header.size.min(batch.len());
    let body = batch.slice(HEADER_BYTES.min(end)..end);
    if compression == Compression::None {
        return scan(&header, &*body, wanted);
    }
    scan(&header, inflate::reader(compression, body)?, wanted)
}

fn scan<R: Read>(header: &Header, records: R, wanted: impl Fn(&Found) -> bool) -> io::Result<Option<Found>> {
    let mut input = Input { inner: io::BufReader::new(records), left: inflate::INFLATED_BYTES_MAX, since: 0 };
    for _ in 0..header.records {
        let length = input.varlong()?;
        input.since = 0;
        input.byte()?;
        let timestamp = header.base_timestamp.wrapping_add(input.varlong()?);
        let offset_delta = u32::try_from(input.varlong()?).unwrap_or(u32::MAX);
        let found = Found { timestamp, offset_delta };
        if wanted(&found) {
            return Ok(Some(found));
        }
        let rest = u64::try_from(length)
            .ok()
            .and_then(|l| l.checked_sub(input.since))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a record is shorter than its head"))?;
        input.skip(rest)?;
    }
    Ok(None)
}

/// Counts what is read, up to a limit.
struct Input<R> {
    inner: R,
    left: u64,
    since: u64,
}

impl<R: Read> Input<R> {
    fn spend(&mut self, n: u64) -> io::Result<()> {
        self.left = self.left.checked_sub(n).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the batch inflates beyond the limit")
        })?;
        self.since += n;
        Ok(())
    }
    fn byte(&mut self) -> io::Result<u8> {
        self.spend(1)?;
        let mut b = [0];
        self.inner.read_exact(&mut b)?;
        Ok(b[0])
    }
    fn varlong(&mut self) -> io::Result<i64> {
        let mut value: u64 = 0;
        for shift in (0..70).step_by(7) {
            let b = self.byte()?;
            value |= u64::from(b & 0x7f).checked_shl(shift).unwrap_or(0);
            if b < 0x80 {
                return Ok(zigzag(value));
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "a varint is too long"))
    }
    fn skip(&mut self, n: u64) -> io::Result<()> {
        self.spend(n)?;
        if io::copy(&mut self.inner.by_ref().take(n), &mut io::sink())? == n {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}
