//! The records of a batch, one by one, for readers that are no Kafka clients.

use std::io::{self, Read};

use bytes::Bytes;

use super::records::Slice;
use super::{Compression, HEADER_BYTES, Header, inflate};

/// Most bytes that a batch may inflate to here.
pub const DECODED_BYTES_MAX: u64 = 64 << 20;

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

/// Takes a stored batch apart whose first record has the offset `base`.
///
/// # Errors
/// The records cannot be read, or inflate to more than [`DECODED_BYTES_MAX`].
pub fn decode_batch(batch: &Bytes, base: u64) -> io::Result<Vec<DecodedRecord>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let header = Header::read(batch).ok_or_else(|| bad("no batch header"))?;
    let end = header.size.min(batch.len());
    if end < HEADER_BYTES {
        return Err(bad("shorter than its header"));
    }
    let body = match header.compression().ok_or_else(|| bad("unknown compression"))? {
        Compression::None => batch.slice(HEADER_BYTES..end),
        compression => {
            let compressed = batch.slice(HEADER_BYTES..end);
            let mut inflated = Vec::new();
            inflate::reader(compression, &compressed)?
                .take(DECODED_BYTES_MAX + 1)
                .read_to_end(&mut inflated)?;
            if inflated.len() as u64 > DECODED_BYTES_MAX {
                return Err(bad("inflates beyond the limit"));
            }
            Bytes::from(inflated)
        }
    };
    let mut rest = Slice(&body);
    let mut records = Vec::new();
    for _ in 0..header.records {
        let length = rest.varint().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| bad("cut short"))?;
        let record = rest.take(length).ok_or_else(|| bad("cut short"))?;
        records.push(decode_record(&header, base, &body, record).ok_or_else(|| bad("a malformed record"))?);
    }
    Ok(records)
}

fn decode_record(header: &Header, base: u64, body: &Bytes, record: &[u8]) -> Option<DecodedRecord> {
    let mut r = Slice(record);
    r.take(1)?;
    let timestamp_ms = header.base_timestamp.wrapping_add(r.varlong()?);
    let offset = base.checked_add(u64::try_from(r.varint()?).ok()?)?;
    let key = nullable(&mut r, body)?;
    let value = nullable(&mut r, body)?;
    let mut headers = Vec::new();
    for _ in 0..r.varint().filter(|n| *n >= 0)? {
        let name = nullable(&mut r, body)??;
        headers.push((String::from_utf8_lossy(&name).into_owned(), nullable(&mut r, body)?));
    }
    Some(DecodedRecord { offset, timestamp_ms, key, value, headers })
}

/// A nullable run of bytes, shared with `body`.
#[expect(clippy::option_option, reason = "malformed, null and a value are three things")]
fn nullable(r: &mut Slice<'_>, body: &Bytes) -> Option<Option<Bytes>> {
    match r.varint()? {
        -1 => Some(None),
        n => Some(Some(body.slice_ref(r.take(usize::try_from(n).ok()?)?))),
    }
}
