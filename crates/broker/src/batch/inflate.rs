//! Reading compressed records as a stream, in bounded memory whatever they claim.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};

use super::Compression;

/// Most bytes that are read of one batch's inflated records: time, not memory, is what this bounds.
pub const INFLATED_BYTES_MAX: u64 = 256 << 20;
/// Largest zstd window, as a power of two (8 MiB): what producers' levels up to 19 use.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Largest block of snappy that is inflated at once.
const SNAPPY_BLOCK_BYTES_MAX: usize = 32 << 20;
/// What the xerial framing begins with; two version numbers of 4 bytes follow.
const XERIAL_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;

/// A stream of the inflated records.
///
/// # Errors
/// `InvalidData` if the front cannot be right.
pub fn reader(compression: Compression, data: Bytes) -> io::Result<Box<dyn Read + Send>> {
    Ok(match compression {
        Compression::None => Box::new(data.reader()),
        Compression::Gzip => {
            Box::new(io::BufReader::new(flate2::bufread::MultiGzDecoder::new(data.reader())))
        }
        Compression::Snappy => Box::new(Snappy::new(data)),
        Compression::Lz4 => Box::new(io::BufReader::new(lz4_flex::frame::FrameDecoder::new(data.reader()))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(data.reader())?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(io::BufReader::new(decoder))
        }
    })
}

/// Snappy, in the framing of the Java producer (blocks with their lengths) or as one bare block.
struct Snappy {
    data: Bytes,
    framed: bool,
    block: io::Cursor<Vec<u8>>,
}

impl Snappy {
    fn new(mut data: Bytes) -> Self {
        let framed = data.starts_with(XERIAL_MAGIC);
        if framed {
            data.advance(XERIAL_HEADER_BYTES.min(data.len()));
        }
        Self { data, framed, block: io::Cursor::new(Vec::new()) }
    }

    fn next_block(&mut self) -> io::Result<bool> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if self.data.is_empty() {
            return Ok(false);
        }
        let compressed = if self.framed {
            let length = self.data.try_get_i32().map_err(|_| bad("a snappy block is cut short"))?;
            let length = usize::try_from(length).map_err(|_| bad("a snappy block's length is negative"))?;
            if length > self.data.len() {
                return Err(bad("a snappy block is cut short"));
            }
            self.data.split_to(length)
        } else {
            std::mem::take(&mut self.data)
        };
        let length = snap::raw::decompress_len(&compressed).map_err(|e| bad(&e.to_string()))?;
        // A byte of snappy gives at most 22 (a copy of 64 takes 3): a length that cannot be true takes no memory.
        if length > SNAPPY_BLOCK_BYTES_MAX || length > compressed.len().saturating_mul(22) {
            return Err(bad("a snappy block inflates beyond the limit"));
        }
        let mut block = vec![0; length];
        snap::raw::Decoder::new().decompress(&compressed, &mut block).map_err(|e| bad(&e.to_string()))?;
        self.block = io::Cursor::new(block);
        Ok(true)
    }
}

impl Read for Snappy {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.block.read(buf)?;
            if n > 0 || buf.is_empty() || !self.next_block()? {
                return Ok(n);
            }
        }
    }
}
