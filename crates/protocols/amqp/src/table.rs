//! Field tables (section 4.2.5.5, with the types as `RabbitMQ` has them) to a message's headers and back, in order and with duplicates.
//!
//! [`scan`] looks at depth and sizes with a fixed stack before anything is decoded; all decoding relies on it.
//!
//! | type | header | | type | header |
//! |---|---|---|---|---|
//! | `t` | Bool | | `f` `d` | F32, F64 |
//! | `b` `B` | I8, U8 | | `D` | Decimal |
//! | `s` (and `U`) `u` | I16, U16 | | `T` | Timestamp; past what milliseconds can say, U64 seconds |
//! | `I` `i` | I32, U32 | | `S` | Str; not UTF-8: Bytes, which goes out as `x` |
//! | `l` (and `L`) | I64 | | `x` | Bytes |
//! | `F` `A` | Table, Array | | `V` | Null |
//!
//! On the way out a U64 is an `l`, or digits in an `S` if it does not fit; a Timestamp before 1970 is an `l` of milliseconds.

use bytes::{BufMut, Bytes, BytesMut};
use millstream_broker::{Header, HeaderValue};
use millstream_types::limits::{HEADER_DEPTH_MAX, HEADERS_BYTES_MAX, HEADERS_MAX};

use crate::cursor::Cursor;
use crate::error::{CodecError, EncodeError};

const WHAT: &str = "field table";
const MS_PER_SECOND: i64 = 1_000;
/// How deep what goes out may be: a message's headers, around each of which an array and a table may have been put for its long name.
const WRITE_DEPTH_MAX: usize = 3 * HEADER_DEPTH_MAX + 2;

/// Looks at a table and gives its bytes, length included: whether every length within it fits what holds it, types are known, names
/// are text, nothing is nested deeper than a message's headers may be, and there are not more entries than a message may have. Takes
/// no memory.
///
/// # Errors
/// What is wrong.
pub fn scan(bytes: &[u8]) -> Result<usize, CodecError> {
    let short = CodecError::Short { what: WHAT };
    let mut s = Scan { bytes, at: 0 };
    let end = s.container(bytes.len())?;
    if end > HEADERS_BYTES_MAX {
        return Err(CodecError::TooMany { what: "bytes in a field table", max: HEADERS_BYTES_MAX });
    }
    // The ends of the containers that one is in, and whether each is a table.
    let mut ends = [(0_usize, false); HEADER_DEPTH_MAX + 1];
    let mut depth = 0;
    let mut entries = 0;
    *ends.first_mut().ok_or(CodecError::TooDeep)? = (end, true);
    loop {
        let (end, table) = *ends.get(depth).ok_or(CodecError::TooDeep)?;
        if s.at == end {
            match depth {
                0 => return Ok(end),
                _ => depth -= 1,
            }
            continue;
        }
        entries += 1;
        if entries > HEADERS_MAX {
            return Err(CodecError::TooMany { what: "entries in a field table", max: HEADERS_MAX });
        }
        if table {
            let n = usize::from(s.take::<1>(end)?[0]);
            let name = s.skip(n, end)?;
            std::str::from_utf8(name).map_err(|_| CodecError::Illegal { what: "the name of an entry" })?;
        }
        let [kind] = s.take::<1>(end)?;
        let fixed = match kind {
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            b'S' | b'x' => {
                usize::try_from(u32::from_be_bytes(s.take::<4>(end)?)).map_err(|_| short.clone())?
            }
            b'F' | b'A' => {
                let inner = s.container(end)?;
                depth += 1;
                *ends.get_mut(depth).ok_or(CodecError::TooDeep)? = (inner, kind == b'F');
                continue;
            }
            _ => return Err(CodecError::Illegal { what: "the type of an entry" }),
        };
        s.skip(fixed, end)?;
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    /// Steps over `n` bytes that must lie before `end`.
    fn skip(&mut self, n: usize, end: usize) -> Result<&'a [u8], CodecError> {
        let short = CodecError::Short { what: WHAT };
        let to = self.at.checked_add(n).filter(|to| *to <= end).ok_or(short.clone())?;
        let skipped = self.bytes.get(self.at..to).ok_or(short)?;
        self.at = to;
        Ok(skipped)
    }

    fn take<const N: usize>(&mut self, end: usize) -> Result<[u8; N], CodecError> {
        let bytes = self.skip(N, end)?;
        bytes.first_chunk().copied().ok_or(CodecError::Short { what: WHAT })
    }

    /// Reads a container's length; gives its end, which must not lie behind `end`.
    fn container(&mut self, end: usize) -> Result<usize, CodecError> {
        let n = u32::from_be_bytes(self.take::<4>(end)?);
        let to = usize::try_from(n).ok().and_then(|n| self.at.checked_add(n));
        to.filter(|to| *to <= end).ok_or(CodecError::Short { what: WHAT })
    }
}

/// Takes a table off the front of bytes. Values share them.
///
/// # Errors
/// As [`scan`].
pub fn read(bytes: &mut Bytes) -> Result<Vec<Header>, CodecError> {
    let n = scan(bytes)?;
    let mut c = Cursor::new(bytes.split_to(n), WHAT);
    let _ = c.u32()?;
    entries(c.rest())
}

// As deep as the scan allowed.
fn entries(bytes: Bytes) -> Result<Vec<Header>, CodecError> {
    let mut c = Cursor::new(bytes, WHAT);
    let mut headers = Vec::new();
    while c.left() > 0 {
        let name = c.short_bytes()?;
        let name =
            std::str::from_utf8(&name).map_err(|_| CodecError::Illegal { what: "the name of an entry" })?;
        headers.push(Header { name: name.to_owned(), value: value(&mut c)? });
    }
    Ok(headers)
}

fn value(c: &mut Cursor) -> Result<HeaderValue, CodecError> {
    Ok(match c.u8()? {
        b'V' => HeaderValue::Null,
        b't' => HeaderValue::Bool(c.u8()? != 0),
        b'b' => HeaderValue::I8(c.u8()?.cast_signed()),
        b'B' => HeaderValue::U8(c.u8()?),
        b's' | b'U' => HeaderValue::I16(c.u16()?.cast_signed()),
        b'u' => HeaderValue::U16(c.u16()?),
        b'I' => HeaderValue::I32(c.u32()?.cast_signed()),
        b'i' => HeaderValue::U32(c.u32()?),
        b'l' | b'L' => HeaderValue::I64(c.u64()?.cast_signed()),
        b'f' => HeaderValue::F32(f32::from_bits(c.u32()?)),
        b'd' => HeaderValue::F64(f64::from_bits(c.u64()?)),
        b'D' => HeaderValue::Decimal(c.u8()?, c.u32()?),
        b'T' => {
            let seconds = c.u64()?;
            let ms = i64::try_from(seconds).ok().and_then(|s| s.checked_mul(MS_PER_SECOND));
            ms.map_or(HeaderValue::U64(seconds), HeaderValue::Timestamp)
        }
        b'S' => {
            let bytes = c.long_bytes()?;
            match std::str::from_utf8(&bytes) {
                Ok(text) => HeaderValue::Str(text.to_owned()),
                Err(_) => HeaderValue::Bytes(bytes),
            }
        }
        b'x' => HeaderValue::Bytes(c.long_bytes()?),
        b'F' => HeaderValue::Table(entries(c.long_bytes()?)?),
        b'A' => {
            let mut inner = Cursor::new(c.long_bytes()?, WHAT);
            let mut values = Vec::new();
            while inner.left() > 0 {
                values.push(value(&mut inner)?);
            }
            HeaderValue::Array(values)
        }
        _ => return Err(CodecError::Illegal { what: "the type of an entry" }),
    })
}

/// Writes a table. What was written before an error stays.
///
/// # Errors
/// `TooLong` for a name of more than 255 bytes, `TooLarge`.
pub fn write(out: &mut BytesMut, headers: &[Header]) -> Result<(), EncodeError> {
    put_table(out, headers, 0)
}

fn put_table(out: &mut BytesMut, headers: &[Header], depth: usize) -> Result<(), EncodeError> {
    sized(out, |out| {
        for h in headers {
            put_short(out, "a header's name", h.name.as_bytes())?;
            put_value(out, &h.value, depth)?;
        }
        Ok(())
    })
}

/// Bytes behind their length in one octet.
pub(crate) fn put_short(out: &mut BytesMut, what: &'static str, bytes: &[u8]) -> Result<(), EncodeError> {
    let n = u8::try_from(bytes.len()).map_err(|_| EncodeError::TooLong { what, bytes: bytes.len() })?;
    out.put_u8(n);
    out.put_slice(bytes);
    Ok(())
}

/// What `f` writes, behind its length in four octets.
fn sized(
    out: &mut BytesMut,
    f: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.put_u32(0);
    let before = out.len();
    f(out)?;
    let n = u32::try_from(out.len() - before).map_err(|_| EncodeError::TooLarge { what: "a table" })?;
    if let Some(room) = out.get_mut(start..before) {
        room.copy_from_slice(&n.to_be_bytes());
    }
    Ok(())
}

fn put_long(out: &mut BytesMut, kind: u8, bytes: &[u8]) -> Result<(), EncodeError> {
    out.put_u8(kind);
    sized(out, |out| {
        out.put_slice(bytes);
        Ok(())
    })
}

fn put_value(out: &mut BytesMut, value: &HeaderValue, depth: usize) -> Result<(), EncodeError> {
    if depth > WRITE_DEPTH_MAX {
        return Err(EncodeError::TooLarge { what: "the depth of a table" });
    }
    match value {
        HeaderValue::Null => out.put_u8(b'V'),
        HeaderValue::Bool(v) => out.put_slice(&[b't', u8::from(*v)]),
        HeaderValue::I8(v) => out.put_slice(&[b'b', v.cast_unsigned()]),
        HeaderValue::U8(v) => out.put_slice(&[b'B', *v]),
        HeaderValue::I16(v) => put_fixed(out, b's', v.to_be_bytes()),
        HeaderValue::U16(v) => put_fixed(out, b'u', v.to_be_bytes()),
        HeaderValue::I32(v) => put_fixed(out, b'I', v.to_be_bytes()),
        HeaderValue::U32(v) => put_fixed(out, b'i', v.to_be_bytes()),
        HeaderValue::I64(v) => put_fixed(out, b'l', v.to_be_bytes()),
        HeaderValue::U64(v) => match i64::try_from(*v) {
            Ok(v) => put_fixed(out, b'l', v.to_be_bytes()),
            Err(_) => put_long(out, b'S', v.to_string().as_bytes())?,
        },
        HeaderValue::F32(v) => put_fixed(out, b'f', v.to_be_bytes()),
        HeaderValue::F64(v) => put_fixed(out, b'd', v.to_be_bytes()),
        HeaderValue::Decimal(scale, v) => {
            out.put_slice(&[b'D', *scale]);
            out.put_u32(*v);
        }
        HeaderValue::Timestamp(ms) => match u64::try_from(*ms) {
            Ok(ms) => put_fixed(out, b'T', (ms / MS_PER_SECOND.unsigned_abs()).to_be_bytes()),
            Err(_) => put_fixed(out, b'l', ms.to_be_bytes()),
        },
        HeaderValue::Str(v) => put_long(out, b'S', v.as_bytes())?,
        HeaderValue::Bytes(v) => put_long(out, b'x', v)?,
        HeaderValue::Array(values) => {
            out.put_u8(b'A');
            sized(out, |out| values.iter().try_for_each(|v| put_value(out, v, depth + 1)))?;
        }
        HeaderValue::Table(headers) => {
            out.put_u8(b'F');
            put_table(out, headers, depth + 1)?;
        }
    }
    Ok(())
}

fn put_fixed<const N: usize>(out: &mut BytesMut, kind: u8, bytes: [u8; N]) {
    out.put_u8(kind);
    out.put_slice(&bytes);
}

#[cfg(test)]
pub(crate) mod tests;
