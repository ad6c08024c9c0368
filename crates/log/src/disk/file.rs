//! [`SegFile`]: one use (lap) of a segment file, or a pack, that is open.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use millstream_env::{ALIGN, AlignedBuf, Disk, File, OpenMode};

use super::events::FileId;
use crate::format::bytes::{len64, size};
use crate::format::header::{BLOCK_BYTES, Header};
use crate::format::ids::StoreId;
use crate::format::pack::{PackHeader, Trailer};
use crate::format::rows::FileRow;

/// The directory of segment files.
pub(crate) const SEG_DIR: &str = "seg";

/// The directory of packs.
pub(crate) const PACK_DIR: &str = "pack";

/// Path of a segment file or a pack.
pub(crate) fn path(id: FileId) -> String {
    let dir = if id.is_pack() { PACK_DIR } else { SEG_DIR };
    format!("{dir}/{:016x}", id.number())
}

/// A segment file in one of its laps, or a pack.
pub(crate) struct SegFile {
    /// Its number.
    pub id: FileId,
    /// This use.
    pub lap: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// For frames: direct where the file system allows it.
    pub direct: Arc<dyn File>,
    disk: Arc<dyn Disk>,
    buffered: OnceLock<Arc<dyn File>>,
    sealed: AtomicBool,
}

impl SegFile {
    pub(crate) fn open(disk: &Arc<dyn Disk>, id: FileId, lap: u64, bytes: u64) -> io::Result<Self> {
        let direct = disk.open(&path(id), OpenMode::Direct)?;
        Ok(Self {
            id,
            lap,
            bytes,
            direct,
            disk: Arc::clone(disk),
            buffered: OnceLock::new(),
            sealed: AtomicBool::new(false),
        })
    }

    /// Opens a pack that `row` leads to.
    ///
    /// # Errors
    /// What the disk says; `InvalidData` if it is not that pack, whole.
    pub(crate) fn open_pack(
        disk: &Arc<dyn Disk>,
        store: &StoreId,
        id: FileId,
        row: &FileRow,
    ) -> io::Result<Self> {
        let file = disk.open(&path(id), OpenMode::Read)?;
        let bytes = row.footer_off + row.footer_len + len64(BLOCK_BYTES);
        let block = |at: u64| {
            let mut block = [0; BLOCK_BYTES];
            file.read_at(at, &mut block).map(|n| (n == BLOCK_BYTES).then_some(block))
        };
        let header = block(0)?.map(|b| PackHeader::decode(&b, store));
        let trailer = block(bytes - len64(BLOCK_BYTES))?.and_then(|b| Trailer::decode(&b, store));
        let number = id.number();
        let is_it = header == Some(Header::Is(PackHeader { number }))
            && trailer.is_some_and(|t| (t.number, t.footer_off) == (number, row.footer_off));
        if !is_it {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not the pack it should be"));
        }
        file.random_access();
        let (direct, buffered) = (Arc::clone(&file), OnceLock::from(file));
        let sealed = AtomicBool::new(true);
        Ok(Self { id, lap: 0, bytes, direct, disk: Arc::clone(disk), buffered, sealed })
    }

    /// Says that nothing more is written to it in this lap and all of it is durable.
    pub(crate) fn set_sealed(&self) {
        self.sealed.store(true, Ordering::Release);
    }

    /// Whether it is full.
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Reads bytes: directly from the file being written (a page cached ahead of a direct write may be stale), through the
    /// page cache from a sealed one.
    ///
    /// # Errors
    /// When the disk fails, or the file is shorter.
    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        if self.is_sealed() {
            let mut out = vec![0; len];
            self.read_sealed(offset, &mut out)?;
            return Ok(out.into());
        }
        let align = u64::try_from(ALIGN).unwrap_or(4096);
        let start = offset / align * align;
        let skip = size(offset - start);
        let mut buf = AlignedBuf::with_capacity(skip + len);
        buf.resize_for_overwrite(buf.capacity());
        let n = self.direct.read_at(start, &mut buf)?;
        if n < skip + len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Bytes::from_owner(buf).slice(skip..skip + len))
    }

    /// Reads what the page cache holds of a sealed file; gives how many bytes from the start that is.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn read_cached(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.buffered()?.read_cached_at(offset, out)
    }

    /// Fills memory from a sealed file.
    ///
    /// # Errors
    /// When the disk fails, or the file is shorter.
    pub(crate) fn read_sealed(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.buffered()?.read_at(offset, out)? < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Has the page cache fetch bytes of a sealed file meanwhile.
    pub(crate) fn will_need(&self, offset: u64, len: u64) {
        // Advice: what cannot be opened will say so when it is read.
        if let Ok(file) = self.buffered() {
            file.will_need(offset, len);
        }
    }

    fn buffered(&self) -> io::Result<&Arc<dyn File>> {
        if let Some(file) = self.buffered.get() {
            return Ok(file);
        }
        let file = self.disk.open(&path(self.id), OpenMode::Read)?;
        file.random_access();
        Ok(self.buffered.get_or_init(|| file))
    }
}
