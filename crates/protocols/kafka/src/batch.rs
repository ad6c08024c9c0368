//! Record batches (magic 2): what must be true of a batch before it is stored. Batches are kept as they came; only readers that look
//! for a time open them ([`records`]). Their layout is in `millstream_broker::batch`.

pub(crate) mod records;
pub(crate) mod single;

use bytes::Bytes;
use kafka_protocol::ResponseError;
pub(crate) use millstream_broker::batch::{BatchHeader as Header, Compression, HEADER_BYTES, LENGTH_BYTES};
use thiserror::Error;

/// Where the part begins that the CRC covers.
const CRC_FROM: usize = 21;
/// What is rewritten for readers: base offset, length, leader epoch.
const PREFIX_BYTES: usize = 16;
const MAGIC: u8 = 2;

const COMPRESSION_MASK: u16 = 0x07;
const LOG_APPEND_TIME: u16 = 0x08;
const TRANSACTIONAL: u16 = 0x10;
/// First Produce version that may carry zstd.
const ZSTD_SINCE: i16 = 7;

/// Why a batch is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum BatchError {
    /// Nothing there.
    #[error("there is no batch")]
    Empty,
    /// Shorter than it says, or than a header.
    #[error("the batch is cut short")]
    Short,
    /// It gives itself a length below that of its header.
    #[error("the batch says that it is shorter than its header")]
    Length,
    /// Too large for the topic.
    #[error("the batch has {size} bytes; the topic takes {max}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The topic's limit.
        max: usize,
    },
    /// Not magic 2.
    #[error("magic {0} is not supported: only record batches (magic 2)")]
    Magic(i8),
    /// Damaged on the way.
    #[error("the batch's CRC is wrong")]
    Crc,
    /// More than one for a partition.
    #[error("a partition takes one batch a request")]
    Several,
    /// Unknown compression, or zstd in a version before it.
    #[error("compression {0} is not supported here")]
    Compression(u16),
    /// A part of a transaction.
    #[error("transactions are not supported")]
    Transactional,
    /// Timestamps that only a broker may give.
    #[error("a producer may not set the timestamp type to LogAppendTime")]
    TimestampType,
    /// What it says of itself does not fit together.
    #[error("the batch is inconsistent: {0}")]
    Inconsistent(&'static str),
}

impl BatchError {
    /// The protocol's code.
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::Empty | Self::Short | Self::Magic(0 | 1) | Self::Several | Self::Inconsistent(_) => {
                ResponseError::InvalidRecord
            }
            Self::Length | Self::Magic(_) | Self::Crc => ResponseError::CorruptMessage,
            Self::TooLarge { .. } => ResponseError::MessageTooLarge,
            Self::Compression(_) => ResponseError::UnsupportedCompressionType,
            Self::Transactional => ResponseError::TransactionalIdAuthorizationFailed,
            Self::TimestampType => ResponseError::InvalidTimestamp,
        }
    }
}

fn field<const N: usize>(batch: &[u8], at: usize) -> Option<[u8; N]> {
    batch.get(at..at + N)?.try_into().ok()
}

/// A batch that may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) header: Header,
    /// Records, and offsets it takes.
    pub(crate) count: u32,
    /// Largest timestamp: of the records where they can be read without inflating, else what the header says; -1 = none.
    pub(crate) max_timestamp: i64,
}

/// Checks the records field of a Produce for one partition: exactly one batch, whole and consistent, as Kafka's
/// `ProduceRequest.validateRecords` and `LogValidator` do.
///
/// # Errors
/// See [`BatchError`].
pub(crate) fn check(version: i16, records: &[u8], bytes_max: usize) -> Result<Checked, BatchError> {
    if records.is_empty() {
        return Err(BatchError::Empty);
    }
    // The magic stands at the same place in every format there ever was.
    let magic = *records.get(16).ok_or(BatchError::Short)?;
    if magic != MAGIC {
        return Err(BatchError::Magic(i8::from_be_bytes([magic])));
    }
    if records.len() < HEADER_BYTES {
        return Err(BatchError::Short);
    }
    let header = Header::read(records).ok_or(BatchError::Length)?;
    if header.size > records.len() {
        return Err(BatchError::Short);
    }
    if header.size < records.len() {
        return Err(BatchError::Several);
    }
    if header.size > bytes_max {
        return Err(BatchError::TooLarge { size: header.size, max: bytes_max });
    }
    let crc = u32::from_be_bytes(field(records, 17).ok_or(BatchError::Short)?);
    if crc32c(records.get(CRC_FROM..).unwrap_or_default()) != crc {
        return Err(BatchError::Crc);
    }
    let count = consistent(&header)?;
    let compression =
        header.compression().ok_or(BatchError::Compression(header.attributes & COMPRESSION_MASK))?;
    if compression == Compression::Zstd && version < ZSTD_SINCE {
        return Err(BatchError::Compression(4));
    }
    let mut max_timestamp = header.max_timestamp;
    if compression == Compression::None {
        let body = records.get(HEADER_BYTES..).unwrap_or_default();
        max_timestamp = records::check_plain(&header, body).map_err(BatchError::Inconsistent)?;
    }
    Ok(Checked { header, count, max_timestamp: max_timestamp.max(-1) })
}

fn consistent(h: &Header) -> Result<u32, BatchError> {
    use BatchError::Inconsistent;
    if h.is_control() {
        return Err(Inconsistent("producers may not write control batches"));
    }
    if h.attributes & TRANSACTIONAL != 0 {
        return Err(BatchError::Transactional);
    }
    if h.attributes & LOG_APPEND_TIME != 0 {
        return Err(BatchError::TimestampType);
    }
    if h.base_offset != 0 {
        return Err(Inconsistent("its base offset is not 0"));
    }
    let count = u32::try_from(h.records).map_err(|_| Inconsistent("its count of records is negative"))?;
    if count == 0 {
        return Err(Inconsistent("it has no records"));
    }
    if i64::from(h.last_offset_delta) != i64::from(count) - 1 {
        return Err(Inconsistent("its offsets and its count of records differ"));
    }
    if h.producer_id >= 0 && (h.producer_epoch < 0 || h.base_sequence < 0) {
        return Err(Inconsistent("it has a producer id, but no epoch or sequence"));
    }
    if h.producer_id < -1 {
        return Err(Inconsistent("its producer id is negative"));
    }
    Ok(count)
}

/// CRC-32C, as batches have it.
pub(crate) fn crc32c(data: &[u8]) -> u32 {
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, data);
    u32::try_from(crc & u64::from(u32::MAX)).unwrap_or_default()
}

/// A batch on its way to a reader: base offset, length and leader epoch, which no checksum covers, and the rest as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) prefix: [u8; PREFIX_BYTES],
    pub(crate) rest: Bytes,
}

impl Piece {
    /// Fills in base offset and leader epoch; the rest is shared with the log's buffers. `None` if `body` is no batch.
    pub(crate) fn new(body: &Bytes, offset: u64, leader_epoch: u32) -> Option<Self> {
        let length = u128::from(u32::from_be_bytes(field(body, 8)?));
        let prefix = u128::from(offset) << 64 | length << 32 | u128::from(leader_epoch);
        Some(Self { prefix: prefix.to_be_bytes(), rest: body.slice(PREFIX_BYTES.min(body.len())..) })
    }
    pub(crate) fn len(&self) -> usize {
        PREFIX_BYTES + self.rest.len()
    }
}

#[cfg(test)]
mod tests;
