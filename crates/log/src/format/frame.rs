//! Frames: the unit of write and checksum. 64 bytes of header, a payload of record parts, zeros up to 4 KiB.

use super::bytes::{align4k, array_at, len32, put, size, u16_at, u32_at, u64_at};
use super::crc::{crc32c_append, crc32c_joined};
use super::ids::StoreId;

/// Bytes of a frame header.
pub(crate) const FRAME_HEADER_BYTES: usize = 64;
/// A frame closes before it grows past this, unless one operation needs more.
pub(crate) const FRAME_BYTES_MAX: usize = 2 << 20;
/// Version written.
pub(crate) const FRAME_VERSION: u16 = 1;

/// The first part continues a record.
pub(crate) const CONTINUES_IN: u16 = 1;
/// The last part is continued.
pub(crate) const CONTINUES_OUT: u16 = 2;
/// No payload: only says what is durable.
pub(crate) const MARKER: u16 = 4;
/// Frame 0 of a lap; the payload is a link.
pub(crate) const LINK: u16 = 8;

const MAGIC: [u8; 4] = *b"MFR1";

/// A frame header; see the table in `docs/format.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of payload.
    pub payload_len: u32,
    /// Checksum of the payload, seeded with uuid and lap.
    pub payload_crc: u32,
    /// The use of the file.
    pub lap: u64,
    /// The opening that wrote it.
    pub epoch: u64,
    /// LSN of the first record that begins here, else the next to begin.
    pub first_lsn: u64,
    /// `durable` when the write that carries this frame was started.
    pub durable_lsn: u64,
    /// Records that begin here.
    pub begins: u32,
    /// Number of the frame in its lap.
    pub number: u32,
    /// [`CONTINUES_IN`] and so on.
    pub flags: u16,
}

impl FrameHeader {
    /// Writes the header into the first 64 bytes of `frame`; gives its checksum.
    ///
    /// # Panics
    /// If `frame` is shorter.
    pub(crate) fn encode(&self, store: &StoreId, frame: &mut [u8]) -> u32 {
        let mut b = [0; FRAME_HEADER_BYTES];
        put(&mut b, 0, &MAGIC);
        put(&mut b, 8, &self.payload_len.to_le_bytes());
        put(&mut b, 12, &self.payload_crc.to_le_bytes());
        put(&mut b, 16, &self.lap.to_le_bytes());
        put(&mut b, 24, &self.epoch.to_le_bytes());
        put(&mut b, 32, &self.first_lsn.to_le_bytes());
        put(&mut b, 40, &self.durable_lsn.to_le_bytes());
        put(&mut b, 48, &self.begins.to_le_bytes());
        put(&mut b, 52, &self.number.to_le_bytes());
        put(&mut b, 56, &FRAME_VERSION.to_le_bytes());
        put(&mut b, 58, &self.flags.to_le_bytes());
        let crc = store.crc(&b[8..]);
        put(&mut b, 4, &crc.to_le_bytes());
        put(frame, 0, &b);
        crc
    }

    /// Reads a header if one of this store is there. The payload is not looked at.
    pub(crate) fn decode(b: &[u8], store: &StoreId) -> Option<Decoded> {
        let sound = array_at(b, 0)? == MAGIC;
        sound.then_some(())?;
        let header_crc = u32_at(b, 4)?;
        (store.crc(b.get(8..FRAME_HEADER_BYTES)?) == header_crc).then_some(())?;
        let header = Self {
            payload_len: u32_at(b, 8)?,
            payload_crc: u32_at(b, 12)?,
            lap: u64_at(b, 16)?,
            epoch: u64_at(b, 24)?,
            first_lsn: u64_at(b, 32)?,
            durable_lsn: u64_at(b, 40)?,
            begins: u32_at(b, 48)?,
            number: u32_at(b, 52)?,
            flags: u16_at(b, 58)?,
        };
        Some(Decoded { header, header_crc, version: u16_at(b, 56)? })
    }

    /// Bytes of the whole frame in the file, padding included.
    pub(crate) fn frame_bytes(&self) -> usize {
        align4k(FRAME_HEADER_BYTES + size(u64::from(self.payload_len)))
    }

    /// The payload of a frame that starts at `frame[0]`, if it is whole and matches its checksum.
    pub(crate) fn payload<'a>(&self, store: &StoreId, frame: &'a [u8]) -> Option<&'a [u8]> {
        let end = FRAME_HEADER_BYTES.checked_add(usize::try_from(self.payload_len).ok()?)?;
        let payload = frame.get(FRAME_HEADER_BYTES..end)?;
        (store.crc_in_lap(self.lap, payload) == self.payload_crc).then_some(payload)
    }
}

/// A header as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// The header.
    pub header: FrameHeader,
    /// Its checksum, by which a link names the frame.
    pub header_crc: u32,
    /// Version of the frame's content.
    pub version: u16,
}

/// The checksum of a frame's payload as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summed {
    crc: u32,
    /// Bytes of the frame that it covers, the header's room counted.
    to: usize,
}

impl Summed {
    /// Of nothing yet.
    pub(crate) fn new(store: &StoreId, lap: u64) -> Self {
        Self { crc: store.lap_seed(lap), to: FRAME_HEADER_BYTES }
    }

    /// Goes on to behind `len` bytes of `frame` at `at` whose own checksum is `crc`.
    ///
    /// # Panics
    /// If they are covered already, or not there.
    pub(crate) fn join(&mut self, frame: &[u8], at: usize, len: usize, crc: u32) {
        self.go_on(frame.get(..at).expect("what is joined lies in the frame"));
        *self = Self { crc: crc32c_joined(self.crc, crc, len), to: at + len };
    }

    /// Goes on to the end of `frame`.
    fn go_on(&mut self, frame: &[u8]) {
        let more = frame.get(self.to..).expect("a frame only grows");
        *self = Self { crc: crc32c_append(self.crc, more), to: frame.len() };
    }
}

/// Fills in the checksums and the header of a frame whose payload lies behind the first 64 bytes of `frame`, unpadded.
/// Gives the header's checksum.
pub(crate) fn finish(header: FrameHeader, store: &StoreId, frame: &mut [u8]) -> u32 {
    finish_from(Summed::new(store, header.lap), header, store, frame)
}

/// The same, where a part of the payload's checksum is known.
pub(crate) fn finish_from(
    mut summed: Summed,
    mut header: FrameHeader,
    store: &StoreId,
    frame: &mut [u8],
) -> u32 {
    summed.go_on(frame);
    header.payload_len = len32(frame.len() - FRAME_HEADER_BYTES);
    header.payload_crc = summed.crc;
    header.encode(store, frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_round_trips_and_any_damage_shows() {
        let store = StoreId::new([6; 16]);
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        frame.extend_from_slice(b"payload");
        let header = FrameHeader {
            lap: 3,
            epoch: 2,
            first_lsn: 9,
            durable_lsn: 8,
            begins: 1,
            number: 4,
            flags: CONTINUES_IN,
            ..FrameHeader::default()
        };
        let crc = finish(header, &store, &mut frame);
        let found = FrameHeader::decode(&frame, &store).unwrap();
        assert_eq!((found.header_crc, found.version, found.header.payload_len), (crc, FRAME_VERSION, 7));
        assert_eq!(found.header.payload(&store, &frame), Some(b"payload".as_slice()));
        assert_eq!(found.header.frame_bytes(), 4096);
        for at in 0..frame.len() {
            let mut bad = frame.clone();
            bad[at] ^= 4;
            let whole = FrameHeader::decode(&bad, &store)
                .and_then(|d| d.header.payload(&store, &bad).map(<[u8]>::len));
            assert_eq!(whole, None, "byte {at}");
        }
        assert_eq!(FrameHeader::decode(&frame, &StoreId::new([7; 16])), None);
    }

    #[test]
    fn a_checksum_in_pieces_is_the_one_in_a_go() {
        let store = StoreId::new([6; 16]);
        let mut frame: Vec<u8> = (0..9_000u32).map(|i| (i * 7 % 251).to_le_bytes()[0]).collect();
        let header = FrameHeader { lap: 3, ..FrameHeader::default() };
        let mut summed = Summed::new(&store, 3);
        for (at, len) in [(100, 1_000), (1_100, 0), (1_108, 5_000)] {
            let crc = super::super::crc::crc32c(&frame[at..at + len]);
            summed.join(&frame[..at + len], at, len, crc);
        }
        let mut again = frame.clone();
        assert_eq!(finish_from(summed, header, &store, &mut frame), finish(header, &store, &mut again));
        assert!(frame == again);
    }
}
