//! A disk that is smaller than the real one: room is what its files do not take of a quota.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use millstream_env::{Disk, File, OpenMode, Space};

pub struct Quota {
    pub disk: Arc<dyn Disk>,
    pub total_bytes: u64,
}

/// Bytes that the files below a directory take on the disk.
pub fn held_bytes(dir: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let held = entries.map(|e| match e.metadata() {
        Ok(m) if m.is_dir() => held_bytes(&e.path()),
        Ok(m) => m.blocks() * 512,
        Err(_) => 0,
    });
    held.sum()
}

impl Quota {
    fn room(&self) -> u64 {
        let root = self.disk.real_root().unwrap();
        self.total_bytes.saturating_sub(held_bytes(&root))
    }
}

impl Disk for Quota {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, mode)?;
        let (disk, total_bytes) = (Arc::clone(&self.disk), self.total_bytes);
        Ok(Arc::new(QuotaFile { file, quota: Quota { disk, total_bytes } }))
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }
    fn space(&self) -> io::Result<Space> {
        Ok(Space { free_bytes: self.room(), total_bytes: self.total_bytes })
    }
    fn real_root(&self) -> Option<PathBuf> {
        self.disk.real_root()
    }
}

struct QuotaFile {
    file: Arc<dyn File>,
    quota: Quota,
}

impl File for QuotaFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, out)
    }
    fn read_cached_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.file.read_cached_at(offset, out)
    }
    fn write_at(&self, offset: u64, bufs: &[io::IoSlice<'_>]) -> io::Result<()> {
        self.file.write_at(offset, bufs)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.quota.room() < len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.allocate(len)
    }
    fn shorten(&self, len: u64) -> io::Result<()> {
        self.file.shorten(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn is_direct(&self) -> bool {
        self.file.is_direct()
    }
    fn drop_cache(&self) {
        self.file.drop_cache();
    }
    fn random_access(&self) {
        self.file.random_access();
    }
    fn will_need(&self, offset: u64, len: u64) {
        self.file.will_need(offset, len);
    }
}
