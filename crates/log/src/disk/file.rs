//! [`SegFile`]: one use (lap) of a segment file that is open.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use millstream_env::{ALIGN, AlignedBuf, Disk, File, OpenMode};

use super::events::FileId;
use crate::format::bytes::size;

/// The directory of segment files.
pub(crate) const SEG_DIR: &str = "seg";

/// Path of a segment file.
pub(crate) fn path(id: FileId) -> String {
    format!("{SEG_DIR}/{:016x}", id.0)
}

/// A segment file in one of its laps.
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
