//! The link frame: frame 0 of every lap. It says where the log before it ends and so makes everything behind that void.

use super::bytes::{put, u32_at, u64_at};
use super::frame::{Decoded, FRAME_HEADER_BYTES, FrameHeader, LINK, finish};
use super::header::BLOCK_BYTES;
use super::ids::StoreId;

/// Payload of a link: `prev_lap u64, prev_end u64, prev_crc u32, 0 u32, first_lsn u64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// The lap before; 0 = none.
    pub prev_lap: u64,
    /// Where the log ends in it.
    pub prev_end: u64,
    /// Header checksum of its last frame.
    pub prev_crc: u32,
    /// The next LSN to begin.
    pub first_lsn: u64,
}

const LINK_BYTES: usize = 32;

impl Link {
    /// Writes the link frame of a lap into `block` (4 KiB, zeroed); gives its header checksum.
    pub(crate) fn encode(
        &self,
        store: &StoreId,
        lap: u64,
        epoch: u64,
        durable_lsn: u64,
        block: &mut [u8],
    ) -> u32 {
        let mut payload = [0; LINK_BYTES];
        put(&mut payload, 0, &self.prev_lap.to_le_bytes());
        put(&mut payload, 8, &self.prev_end.to_le_bytes());
        put(&mut payload, 16, &self.prev_crc.to_le_bytes());
        put(&mut payload, 24, &self.first_lsn.to_le_bytes());
        put(block, FRAME_HEADER_BYTES, &payload);
        let header = FrameHeader {
            lap,
            epoch,
            first_lsn: self.first_lsn,
            durable_lsn,
            flags: LINK,
            ..FrameHeader::default()
        };
        let frame = block.get_mut(..FRAME_HEADER_BYTES + LINK_BYTES).expect("a block holds a link");
        finish(header, store, frame)
    }

    /// Reads the link frame of lap `lap`; `None` if there is none.
    pub(crate) fn decode(block: &[u8], store: &StoreId, lap: u64) -> Option<(Decoded, Self)> {
        let found = FrameHeader::decode(block.get(..BLOCK_BYTES)?, store)?;
        let header = &found.header;
        (header.lap == lap && header.number == 0 && header.flags & LINK != 0).then_some(())?;
        let payload = header.payload(store, block)?;
        let link = Self {
            prev_lap: u64_at(payload, 0)?,
            prev_end: u64_at(payload, 8)?,
            prev_crc: u32_at(payload, 16)?,
            first_lsn: u64_at(payload, 24)?,
        };
        (link.first_lsn == header.first_lsn).then_some((found, link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_in_its_own_lap_only() {
        let store = StoreId::new([8; 16]);
        let link = Link { prev_lap: 1, prev_end: 20480, prev_crc: 77, first_lsn: 5 };
        let mut block = vec![0; BLOCK_BYTES];
        let crc = link.encode(&store, 2, 3, 4, &mut block);
        let (found, read) = Link::decode(&block, &store, 2).unwrap();
        assert_eq!((read, found.header_crc, found.header.epoch, found.header.durable_lsn), (link, crc, 3, 4));
        assert_eq!(Link::decode(&block, &store, 1), None);
    }
}
