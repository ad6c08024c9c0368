//! A message of another protocol as a Kafka reader gets it: one batch of one record, made only from the stored entry and its
//! place, so that it has the same bytes each time.

use bytes::{BufMut, Bytes, BytesMut};
use millstream_broker::shown::show;
use millstream_broker::{Message, property};

use super::{HEADER_BYTES, LENGTH_BYTES, MAGIC, crc32c};
use crate::num::i64_of;

/// The property that holds the application's own timestamp.
const TIMESTAMP_MS: u8 = property::TIMESTAMP_MS;

/// The batch.
pub(crate) fn batch(message: &Message, offset: u64, leader_epoch: u32, append_ms: u64) -> Bytes {
    let timestamp = timestamp(message).unwrap_or_else(|| i64_of(append_ms));
    let record = record(message);
    let mut out = BytesMut::with_capacity(HEADER_BYTES + 5 + record.len());
    out.put_u64(offset);
    out.put_u32(0);
    out.put_u32(leader_epoch);
    out.put_u8(MAGIC);
    out.put_u32(0);
    out.put_u16(0);
    out.put_i32(0);
    out.put_i64(timestamp);
    out.put_i64(timestamp);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(1);
    put_varint(&mut out, record.len());
    out.put_slice(&record);
    let length = u32::try_from(out.len() - LENGTH_BYTES).unwrap_or(u32::MAX);
    let crc = crc32c(out.get(super::CRC_FROM..).unwrap_or_default());
    for (at, value) in [(8, length), (17, crc)] {
        if let Some(field) = out.get_mut(at..at + 4) {
            field.copy_from_slice(&value.to_be_bytes());
        }
    }
    out.freeze()
}

fn timestamp(message: &Message) -> Option<i64> {
    let (_, value) = message.properties.iter().find(|(id, _)| *id == TIMESTAMP_MS)?;
    value.as_ref().try_into().ok().map(i64::from_le_bytes)
}

fn record(message: &Message) -> BytesMut {
    let mut out = BytesMut::with_capacity(64 + message.payload.as_ref().map_or(0, Bytes::len));
    out.put_u8(0); // attributes
    out.put_u8(0); // timestamp delta
    out.put_u8(0); // offset delta
    put_nullable(&mut out, message.key.as_deref());
    put_nullable(&mut out, message.payload.as_deref());
    let headers = show(message);
    put_varint(&mut out, headers.len());
    for (name, value) in headers {
        put_varint(&mut out, name.len());
        out.put_slice(name.as_bytes());
        put_nullable(&mut out, value.as_deref());
    }
    out
}

/// A length as a zigzag varint.
fn put_varint(out: &mut BytesMut, n: usize) {
    put_zigzag(out, i64::try_from(n).unwrap_or(i64::MAX));
}

fn put_zigzag(out: &mut BytesMut, n: i64) {
    let mut v = ((n << 1) ^ (n >> 63)).cast_unsigned();
    while v >= 0x80 {
        out.put_u8(u8::try_from(v & 0x7f).unwrap_or_default() | 0x80);
        v >>= 7;
    }
    out.put_u8(u8::try_from(v).unwrap_or_default());
}

fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_zigzag(out, -1),
        Some(b) => {
            put_varint(out, b.len());
            out.put_slice(b);
        }
    }
}
