//! Reads a segment file front to back in large aligned pieces. A read error is an error and never a bad frame.

use std::sync::Arc;

use millstream_env::{ALIGN, AlignedBuf, File};

use crate::format::bytes::{len64, size};
use crate::format::frame::{Decoded, FrameHeader};
use crate::format::ids::StoreId;

const WINDOW_BYTES: usize = 4 << 20;

/// A sliding window over a file.
pub(crate) struct Window {
    file: Arc<dyn File>,
    len: u64,
    start: u64,
    buf: AlignedBuf,
    /// Bytes read so far.
    pub read_bytes: u64,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn File>, len: u64) -> Self {
        Self { file, len, start: 0, buf: AlignedBuf::with_capacity(WINDOW_BYTES), read_bytes: 0 }
    }

    /// Bytes `[offset, offset + want)`, fewer at the end of the file. `offset` is a multiple of 4 KiB.
    pub(crate) fn bytes(&mut self, offset: u64, want: usize) -> std::io::Result<&[u8]> {
        let want = want.min(size(self.len.saturating_sub(offset)));
        let held = self.start + len64(self.buf.len());
        if offset < self.start || offset + len64(want) > held {
            let bytes = want.next_multiple_of(ALIGN).max(WINDOW_BYTES);
            if self.buf.capacity() < bytes {
                self.buf = AlignedBuf::with_capacity(bytes);
            }
            self.buf.resize_for_overwrite(bytes);
            let n = self.file.read_at(offset, &mut self.buf)?;
            self.buf.resize_for_overwrite(n);
            self.read_bytes += len64(n);
            self.start = offset;
        }
        let at = size(offset - self.start);
        let end = (at + want).min(self.buf.len());
        Ok(self.buf.get(at..end).unwrap_or_default())
    }

    /// The header of a frame at `offset`, if there is one; its payload is not looked at.
    pub(crate) fn header(&mut self, store: &StoreId, offset: u64) -> std::io::Result<Option<Decoded>> {
        Ok(FrameHeader::decode(self.bytes(offset, ALIGN)?, store))
    }

    /// A whole frame at `offset`: its header, and all its bytes with padding.
    pub(crate) fn frame(
        &mut self,
        store: &StoreId,
        offset: u64,
    ) -> std::io::Result<Option<(Decoded, &[u8])>> {
        let Some(found) = self.header(store, offset)? else { return Ok(None) };
        let bytes = found.header.frame_bytes();
        if offset + len64(bytes) > self.len {
            return Ok(None);
        }
        let frame = self.bytes(offset, bytes)?;
        let whole = frame.len() == bytes && found.header.payload(store, frame).is_some();
        Ok(whole.then_some((found, frame)))
    }
}
