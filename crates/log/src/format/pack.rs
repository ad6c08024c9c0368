//! A pack: what lived in mostly dead files, sorted by log. Written once and never changed. Drawn in `docs/format.md`.
//!
//! Header block; blocks of entries of one log; blocks of fan-outs; a footer as in segment files; a trailer block. An entry lies here
//! byte for byte as it lay in its segment file, so that one code reads both. The blocks' headers let a pack be read without its
//! footer. Start at [`PackHeader`], [`BlockHeader`] and [`Trailer`].

use millstream_types::LogId;

use super::bytes::{array_at, put, u16_at, u32_at, u64_at};
#[cfg(test)]
use super::bytes::{size, take};
use super::header::{BLOCK_BYTES, Header};
use super::ids::StoreId;

/// Version written.
pub(crate) const PACK_VERSION: u16 = 1;
/// Bytes of a block's header.
pub(crate) const BLOCK_HEADER_BYTES: usize = 48;
/// Bytes of entries in a block, unless one entry has more.
pub(crate) const ENTRIES_BYTES_MAX: usize = 256 << 10;
/// Offset of the first block.
pub(crate) const BLOCKS_OFFSET: u64 = 4096;

const PACK_MAGIC: [u8; 4] = *b"MPAK";
const BLOCK_MAGIC: [u8; 4] = *b"MPBL";
const TRAILER_MAGIC: [u8; 4] = *b"MPTR";
const PACK_CRC_AT: usize = 32;
const TRAILER_CRC_AT: usize = 56;

/// First block of a pack: `magic, version u16, 0 u16, uuid, number u64, crc32c of all before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackHeader {
    /// Number of the pack.
    pub number: u64,
}

impl PackHeader {
    /// The block.
    pub(crate) fn encode(self, store: &StoreId) -> [u8; BLOCK_BYTES] {
        let mut b = [0; BLOCK_BYTES];
        put(&mut b, 0, &PACK_MAGIC);
        put(&mut b, 4, &PACK_VERSION.to_le_bytes());
        put(&mut b, 8, store.uuid());
        put(&mut b, 24, &self.number.to_le_bytes());
        let crc = super::crc::crc32c(&b[..PACK_CRC_AT]);
        put(&mut b, PACK_CRC_AT, &crc.to_le_bytes());
        b
    }

    /// Reads the block.
    pub(crate) fn decode(b: &[u8], store: &StoreId) -> Header<Self> {
        let read = || {
            let sound = array_at(b, 0)? == PACK_MAGIC
                && u32_at(b, PACK_CRC_AT)? == super::crc::crc32c(b.get(..PACK_CRC_AT)?);
            sound.then_some(())?;
            Some(match u16_at(b, 4)? {
                v if v > PACK_VERSION => Header::Newer(v),
                _ if array_at(b, 8)? != *store.uuid() => Header::Foreign,
                _ => Header::Is(Self { number: u64_at(b, 24)? }),
            })
        };
        read().unwrap_or(Header::Bad)
    }
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlockOf {
    /// Entries of one log, ascending.
    Log {
        /// The log.
        log: LogId,
        /// First position of the first entry.
        first: u64,
        /// One past the last position.
        end: u64,
    },
    /// Fan-outs: bodies in several logs, each with the references that were left.
    FanOuts,
}

/// Header of a block: `magic, crc32c of [8,48) u32, log, first_pos, end_pos u64, len, n, kind, 0 u32`; entries follow, each with a
/// checksum of its own, at multiples of 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    /// What follows.
    pub of: BlockOf,
    /// Its bytes, a multiple of 8.
    pub len: u32,
    /// Entries.
    pub n: u32,
}

impl BlockHeader {
    /// The header.
    pub(crate) fn encode(self) -> [u8; BLOCK_HEADER_BYTES] {
        let (log, first, end, kind) = match self.of {
            BlockOf::Log { log, first, end } => (log.0, first, end, 1u32),
            BlockOf::FanOuts => (0, 0, 0, 2),
        };
        let mut b = [0; BLOCK_HEADER_BYTES];
        put(&mut b, 0, &BLOCK_MAGIC);
        put(&mut b, 8, &log.to_le_bytes());
        put(&mut b, 16, &first.to_le_bytes());
        put(&mut b, 24, &end.to_le_bytes());
        put(&mut b, 32, &self.len.to_le_bytes());
        put(&mut b, 36, &self.n.to_le_bytes());
        put(&mut b, 40, &kind.to_le_bytes());
        let crc = super::crc::crc32c(&b[8..]);
        put(&mut b, 4, &crc.to_le_bytes());
        b
    }

    /// Reads the header; `None` if it is damaged.
    pub(crate) fn decode(b: &[u8]) -> Option<Self> {
        let sound = array_at(b, 0)? == BLOCK_MAGIC
            && u32_at(b, 4)? == super::crc::crc32c(b.get(8..BLOCK_HEADER_BYTES)?);
        sound.then_some(())?;
        let of = match u32_at(b, 40)? {
            1 => BlockOf::Log { log: LogId(u64_at(b, 8)?), first: u64_at(b, 16)?, end: u64_at(b, 24)? },
            2 => BlockOf::FanOuts,
            _ => return None,
        };
        Some(Self { of, len: u32_at(b, 32)?, n: u32_at(b, 36)? })
    }

    /// Takes a block off the front of those of a pack: its header and its entries. `None` behind the last, and where a header is
    /// damaged. Reads of the log go by the footer.
    #[cfg(test)]
    pub(crate) fn take<'a>(blocks: &mut &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut rest = *blocks;
        let header = Self::decode(take(&mut rest, BLOCK_HEADER_BYTES)?)?;
        let entries = take(&mut rest, size(u64::from(header.len)))?;
        *blocks = rest;
        Some((header, entries))
    }
}

/// Last block of a pack: `magic, 0 u32, number, blocks_end, footer_off, stored u64, footer_len, footer_crc, entries u32, 0 u32, crc
/// u32`; the crc is seeded with the uuid. Written last: a file without it is not a whole pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Number of the pack.
    pub number: u64,
    /// Offset after the last block.
    pub blocks_end: u64,
    /// Offset of the footer.
    pub footer_off: u64,
    /// Bytes of entries, with their padding.
    pub stored: u64,
    /// Length of the footer.
    pub footer_len: u32,
    /// Its checksum.
    pub footer_crc: u32,
    /// Entries, each reference of a fan-out counted.
    pub entries: u32,
}

impl Trailer {
    /// The block.
    pub(crate) fn encode(&self, store: &StoreId) -> [u8; BLOCK_BYTES] {
        let mut b = [0; BLOCK_BYTES];
        put(&mut b, 0, &TRAILER_MAGIC);
        put(&mut b, 8, &self.number.to_le_bytes());
        put(&mut b, 16, &self.blocks_end.to_le_bytes());
        put(&mut b, 24, &self.footer_off.to_le_bytes());
        put(&mut b, 32, &self.stored.to_le_bytes());
        put(&mut b, 40, &self.footer_len.to_le_bytes());
        put(&mut b, 44, &self.footer_crc.to_le_bytes());
        put(&mut b, 48, &self.entries.to_le_bytes());
        let crc = store.crc(&b[..TRAILER_CRC_AT]);
        put(&mut b, TRAILER_CRC_AT, &crc.to_le_bytes());
        b
    }

    /// Reads the block; `None` if it is damaged or of another store.
    pub(crate) fn decode(b: &[u8], store: &StoreId) -> Option<Self> {
        let sound = array_at(b, 0)? == TRAILER_MAGIC
            && u32_at(b, TRAILER_CRC_AT)? == store.crc(b.get(..TRAILER_CRC_AT)?);
        sound.then_some(())?;
        Some(Self {
            number: u64_at(b, 8)?,
            blocks_end: u64_at(b, 16)?,
            footer_off: u64_at(b, 24)?,
            stored: u64_at(b, 32)?,
            footer_len: u32_at(b, 40)?,
            footer_crc: u32_at(b, 44)?,
            entries: u32_at(b, 48)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_trailers_round_trip_and_damage_is_told() {
        let (mine, other) = (StoreId::new([1; 16]), StoreId::new([2; 16]));
        let header = PackHeader { number: 9 };
        let block = header.encode(&mine);
        assert_eq!(PackHeader::decode(&block, &mine), Header::Is(header));
        assert_eq!(PackHeader::decode(&block, &other), Header::Foreign);
        let trailer = Trailer {
            number: 1,
            blocks_end: 2,
            footer_off: 3,
            stored: 4,
            footer_len: 5,
            footer_crc: 6,
            entries: 7,
        };
        let last = trailer.encode(&mine);
        assert_eq!(Trailer::decode(&last, &mine), Some(trailer));
        assert_eq!(Trailer::decode(&last, &other), None);
        for at in 0..60 {
            let mut bad = last;
            bad[at] ^= 1;
            assert_eq!(Trailer::decode(&bad, &mine), None, "byte {at}");
            let mut bad = block;
            bad[at % 36] ^= 1;
            assert_eq!(PackHeader::decode(&bad, &mine), Header::Bad, "byte {at}");
        }
        let mut newer = block;
        newer[4] = 2;
        let crc = crate::format::crc::crc32c(&newer[..PACK_CRC_AT]);
        put(&mut newer, PACK_CRC_AT, &crc.to_le_bytes());
        assert_eq!(PackHeader::decode(&newer, &mine), Header::Newer(2));
    }

    #[test]
    fn blocks_are_taken_one_by_one_until_one_is_damaged() {
        let of = [BlockOf::Log { log: LogId(u64::MAX), first: 5, end: 9 }, BlockOf::FanOuts];
        let mut bytes = Vec::new();
        for of in of {
            bytes.extend_from_slice(&BlockHeader { of, len: 16, n: 1 }.encode());
            bytes.extend_from_slice(&[7; 16]);
        }
        let mut rest = &bytes[..];
        for of in of {
            let (header, entries) = BlockHeader::take(&mut rest).unwrap();
            assert_eq!((header, entries), (BlockHeader { of, len: 16, n: 1 }, &[7; 16][..]));
        }
        assert!(BlockHeader::take(&mut rest).is_none() && rest.is_empty());
        assert!(BlockHeader::take(&mut &bytes[..60]).is_none());
        bytes[10] ^= 1;
        assert!(BlockHeader::take(&mut &bytes[..]).is_none());
    }
}
