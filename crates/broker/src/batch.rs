//! Batches that Kafka's producers packed, as the log keeps them: the header, and the records inside, for readers that are no Kafka clients. What
//! must be true of a batch before it is stored is Kafka's protocol's affair.
//!
//! Layout (magic 2), big-endian: `base_offset i64` · `length i32` (of what follows it) · `leader_epoch i32` · `magic i8` · `crc u32`
//! (CRC-32C of what follows it) · `attributes i16` · `last_offset_delta i32` · `base_timestamp i64` · `max_timestamp i64` ·
//! `producer_id i64` · `producer_epoch i16` · `base_sequence i32` · `records i32` · the records.
//!
//! A record: `length varint` · `attributes i8` · `timestamp_delta varlong` · `offset_delta varint` · `key: varint, bytes` · `value:
//! varint, bytes` · `headers: varint count, each key varint, bytes, value varint, bytes` (varints are zigzag, lengths of -1 are null).
//!
//! Start at [`Records`].

mod decode;
pub mod inflate;
pub mod slice;

pub use decode::{DECODED_BYTES_MAX, DecodedRecord, RECORD_BYTES_MAX, Records, decode_batch};

/// Length of the header.
pub const HEADER_BYTES: usize = 61;
/// What `length` does not count.
pub const LENGTH_BYTES: usize = 12;

const COMPRESSION_MASK: u16 = 0x07;
/// In the attributes: not records, but a mark of the broker's own.
const CONTROL: u16 = 0x20;

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// In blocks, as the Java producer frames them, or one bare block.
    Snappy,
    /// In frames.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// A batch's header, as it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of its first record, as its producer gave it.
    pub base_offset: i64,
    /// Of the batch in all, bytes.
    pub size: usize,
    /// Bits.
    pub attributes: u16,
    /// Offset of its last record, from the first.
    pub last_offset_delta: i32,
    /// What the records' timestamps are counted from, milliseconds.
    pub base_timestamp: i64,
    /// The largest of them, milliseconds.
    pub max_timestamp: i64,
    /// Who wrote it; -1 = it does not say.
    pub producer_id: i64,
    /// Which life of that producer.
    pub producer_epoch: i16,
    /// Sequence number of the first record.
    pub base_sequence: i32,
    /// Records in it.
    pub records: i32,
}

fn field<const N: usize>(batch: &[u8], at: usize) -> Option<[u8; N]> {
    batch.get(at..at + N)?.try_into().ok()
}

impl BatchHeader {
    /// Reads the header at the front of `batch`; `None` if there is less than a header, or it gives itself a length below that.
    #[must_use]
    pub fn read(batch: &[u8]) -> Option<Self> {
        let length = i32::from_be_bytes(field(batch, 8)?);
        let size = usize::try_from(length).ok()? + LENGTH_BYTES;
        if size < HEADER_BYTES {
            return None;
        }
        Some(Self {
            base_offset: i64::from_be_bytes(field(batch, 0)?),
            size,
            attributes: u16::from_be_bytes(field(batch, 21)?),
            last_offset_delta: i32::from_be_bytes(field(batch, 23)?),
            base_timestamp: i64::from_be_bytes(field(batch, 27)?),
            max_timestamp: i64::from_be_bytes(field(batch, 35)?),
            producer_id: i64::from_be_bytes(field(batch, 43)?),
            producer_epoch: i16::from_be_bytes(field(batch, 51)?),
            base_sequence: i32::from_be_bytes(field(batch, 53)?),
            records: i32::from_be_bytes(field(batch, 57)?),
        })
    }

    /// How its records are compressed; `None` if unknown.
    #[must_use]
    pub fn compression(&self) -> Option<Compression> {
        Some(match self.attributes & COMPRESSION_MASK {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        })
    }

    /// Whether it holds a mark of the broker's own (the end of a transaction), and no records.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }
}

#[cfg(test)]
mod tests;
