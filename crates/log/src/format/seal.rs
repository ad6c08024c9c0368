//! The seal block: says that a file is full and where its footer lies. Written buffered, after the footer is durable.

use super::bytes::{array_at, put, u32_at, u64_at};
use super::header::BLOCK_BYTES;
use super::ids::StoreId;

const MAGIC: [u8; 4] = *b"MSEL";
const CRC_AT: usize = 60;

/// `magic, 0 u32, lap, first_lsn, last_lsn, frames_end, footer_off u64, footer_len u32, footer_crc u32, entries u32, crc u32`;
/// the crc is seeded with the uuid. A block of another lap counts as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// The use of the file it speaks of.
    pub lap: u64,
    /// First LSN of which a part lies in the file.
    pub first_lsn: u64,
    /// Last LSN of which a part lies in the file.
    pub last_lsn: u64,
    /// Offset after the last frame.
    pub frames_end: u64,
    /// Offset of the footer.
    pub footer_off: u64,
    /// Its length.
    pub footer_len: u32,
    /// Its checksum.
    pub footer_crc: u32,
    /// Entries it tells of.
    pub entries: u32,
}

impl Seal {
    /// The block.
    pub(crate) fn encode(&self, store: &StoreId) -> [u8; BLOCK_BYTES] {
        let mut b = [0; BLOCK_BYTES];
        put(&mut b, 0, &MAGIC);
        put(&mut b, 8, &self.lap.to_le_bytes());
        put(&mut b, 16, &self.first_lsn.to_le_bytes());
        put(&mut b, 24, &self.last_lsn.to_le_bytes());
        put(&mut b, 32, &self.frames_end.to_le_bytes());
        put(&mut b, 40, &self.footer_off.to_le_bytes());
        put(&mut b, 48, &self.footer_len.to_le_bytes());
        put(&mut b, 52, &self.footer_crc.to_le_bytes());
        put(&mut b, 56, &self.entries.to_le_bytes());
        let crc = store.crc(&b[..CRC_AT]);
        put(&mut b, CRC_AT, &crc.to_le_bytes());
        b
    }

    /// Reads the block; `None` if it is absent, damaged or of another store. The caller compares the lap.
    pub(crate) fn decode(b: &[u8], store: &StoreId) -> Option<Self> {
        let sound = array_at(b, 0)? == MAGIC && u32_at(b, CRC_AT)? == store.crc(b.get(..CRC_AT)?);
        sound.then_some(())?;
        Some(Self {
            lap: u64_at(b, 8)?,
            first_lsn: u64_at(b, 16)?,
            last_lsn: u64_at(b, 24)?,
            frames_end: u64_at(b, 32)?,
            footer_off: u64_at(b, 40)?,
            footer_len: u32_at(b, 48)?,
            footer_crc: u32_at(b, 52)?,
            entries: u32_at(b, 56)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_round_trips_and_damage_makes_it_absent() {
        let store = StoreId::new([4; 16]);
        let seal = Seal {
            lap: 1,
            first_lsn: 2,
            last_lsn: 3,
            frames_end: 4,
            footer_off: 5,
            footer_len: 6,
            footer_crc: 7,
            entries: 8,
        };
        let block = seal.encode(&store);
        assert_eq!(Seal::decode(&block, &store), Some(seal));
        for at in 0..64 {
            let mut bad = block;
            bad[at] ^= 0x80;
            assert_eq!(Seal::decode(&bad, &store), None, "byte {at}");
        }
        assert_eq!(Seal::decode(&block, &StoreId::new([5; 16])), None);
    }
}
