//! The first block of a segment file, and the file `meta`. Layouts in `docs/format.md`.

use super::bytes::{array_at, put, u16_at, u32_at, u64_at};
use super::ids::StoreId;

/// Bytes of a block: header, seal block, link frame.
pub(crate) const BLOCK_BYTES: usize = 4096;
/// Offset of the seal block.
pub(crate) const SEAL_OFFSET: u64 = 4096;
/// Offset of the link frame: frame 0 of every lap.
pub(crate) const LINK_OFFSET: u64 = 8192;
/// Offset of the first frame with records.
pub(crate) const FRAMES_OFFSET: u64 = 12288;
/// Version written.
pub(crate) const SEGMENT_VERSION: u16 = 1;
/// Version written; 1 has no reserve.
pub(crate) const META_VERSION: u16 = 2;

const SEGMENT_MAGIC: [u8; 4] = *b"MSEG";
const META_MAGIC: [u8; 4] = *b"MSTR";

/// What a header block says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Header<T> {
    /// Valid.
    Is(T),
    /// Not a header, or damaged.
    Bad,
    /// Valid, of another store.
    Foreign,
    /// Valid, of a later version.
    Newer(u16),
}

/// Header of a segment file: `magic, version u16, 0 u16, uuid, physical id u64, lap u64, crc32c of all before`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Number of the file.
    pub id: u64,
    /// This use of it.
    pub lap: u64,
}

const SEGMENT_CRC_AT: usize = 40;

impl SegmentHeader {
    /// The block.
    pub(crate) fn encode(self, store: &StoreId) -> [u8; BLOCK_BYTES] {
        let mut b = [0; BLOCK_BYTES];
        put(&mut b, 0, &SEGMENT_MAGIC);
        put(&mut b, 4, &SEGMENT_VERSION.to_le_bytes());
        put(&mut b, 8, store.uuid());
        put(&mut b, 24, &self.id.to_le_bytes());
        put(&mut b, 32, &self.lap.to_le_bytes());
        let crc = crate::format::crc::crc32c(&b[..SEGMENT_CRC_AT]);
        put(&mut b, SEGMENT_CRC_AT, &crc.to_le_bytes());
        b
    }

    /// Reads the block.
    pub(crate) fn decode(b: &[u8], store: &StoreId) -> Header<Self> {
        let read = || {
            let sound = array_at(b, 0)? == SEGMENT_MAGIC
                && u32_at(b, SEGMENT_CRC_AT)? == crate::format::crc::crc32c(b.get(..SEGMENT_CRC_AT)?);
            sound.then_some(())?;
            Some(match u16_at(b, 4)? {
                v if v > SEGMENT_VERSION => Header::Newer(v),
                _ if array_at(b, 8)? != *store.uuid() => Header::Foreign,
                _ => Header::Is(Self { id: u64_at(b, 24)?, lap: u64_at(b, 32)? }),
            })
        };
        read().unwrap_or(Header::Bad)
    }
}

/// The file `meta`: `magic, version u16, 0 u16, uuid, segment_bytes u64, reserve_bytes u64, crc32c of all before`, padded to 4 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The store.
    pub store: StoreId,
    /// Size of its segment files, fixed when it was made.
    pub segment_bytes: u64,
    /// Room that publishing leaves free, fixed when it was made; 0 = it was made by version 1, which had none.
    pub reserve_bytes: u64,
}

const META_CRC_AT: usize = 40;
const META_1_CRC_AT: usize = 32;

impl Meta {
    /// The block.
    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut b = [0; BLOCK_BYTES];
        put(&mut b, 0, &META_MAGIC);
        put(&mut b, 4, &META_VERSION.to_le_bytes());
        put(&mut b, 8, self.store.uuid());
        put(&mut b, 24, &self.segment_bytes.to_le_bytes());
        put(&mut b, 32, &self.reserve_bytes.to_le_bytes());
        let crc = crate::format::crc::crc32c(&b[..META_CRC_AT]);
        put(&mut b, META_CRC_AT, &crc.to_le_bytes());
        b
    }

    /// Reads the block. `Foreign`: there is something, but no magic of ours.
    pub(crate) fn decode(b: &[u8]) -> Header<Self> {
        let read = || {
            let magic: [u8; 4] = array_at(b, 0)?;
            if magic != META_MAGIC && magic != [0; 4] {
                return Some(Header::Foreign);
            }
            let version = u16_at(b, 4)?;
            let crc_at = if version == 1 { META_1_CRC_AT } else { META_CRC_AT };
            let sound =
                magic == META_MAGIC && u32_at(b, crc_at)? == crate::format::crc::crc32c(b.get(..crc_at)?);
            sound.then_some(())?;
            let (store, segment_bytes) = (StoreId::new(array_at(b, 8)?), u64_at(b, 24)?);
            Some(match version {
                v if v > META_VERSION => Header::Newer(v),
                1 => Header::Is(Self { store, segment_bytes, reserve_bytes: 0 }),
                _ => Header::Is(Self { store, segment_bytes, reserve_bytes: u64_at(b, 32)? }),
            })
        };
        read().unwrap_or(Header::Bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_told_from_damage_other_stores_and_later_versions() {
        let (mine, other) = (StoreId::new([1; 16]), StoreId::new([2; 16]));
        let header = SegmentHeader { id: 7, lap: 9 };
        let block = header.encode(&mine);
        assert_eq!(SegmentHeader::decode(&block, &mine), Header::Is(header));
        assert_eq!(SegmentHeader::decode(&block, &other), Header::Foreign);
        for at in 0..44 {
            let mut bad = block;
            bad[at] ^= 1;
            assert_eq!(SegmentHeader::decode(&bad, &mine), Header::Bad, "byte {at}");
        }
        let mut newer = block;
        newer[4] = 2;
        let crc = crate::format::crc::crc32c(&newer[..SEGMENT_CRC_AT]);
        put(&mut newer, SEGMENT_CRC_AT, &crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&newer, &mine), Header::Newer(2));
        assert_eq!(SegmentHeader::decode(&block[..20], &mine), Header::Bad);
    }

    #[test]
    fn meta_round_trips_and_says_what_is_not_ours() {
        let meta = Meta { store: StoreId::new([3; 16]), segment_bytes: 1 << 20, reserve_bytes: 24 << 20 };
        assert_eq!(Meta::decode(&meta.encode()), Header::Is(meta));
        assert_eq!(Meta::decode(b"hello, I am a file"), Header::Foreign);
        assert_eq!(Meta::decode(&[0; 4096]), Header::Bad);
        assert_eq!(Meta::decode(&[]), Header::Bad);
    }
}
