//! A disk that counts what is read, written and synced through it.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use millstream_env::{Disk, File, OpenMode, Space};

#[derive(Default)]
pub struct Counts {
    pub bytes: AtomicU64,
    pub writes: AtomicU64,
    pub syncs: AtomicU64,
    pub reads: AtomicU64,
    pub read_bytes: AtomicU64,
}

pub struct Counted {
    pub disk: Arc<dyn Disk>,
    pub counts: Arc<Counts>,
}

impl Disk for Counted {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(CountedFile { file, counts: Arc::clone(&self.counts) }))
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Relaxed);
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }
    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
    fn real_root(&self) -> Option<std::path::PathBuf> {
        self.disk.real_root()
    }
}

struct CountedFile {
    file: Arc<dyn File>,
    counts: Arc<Counts>,
}

impl File for CountedFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(offset, out)?;
        self.counts.reads.fetch_add(1, Relaxed);
        self.counts.read_bytes.fetch_add(n as u64, Relaxed);
        Ok(n)
    }
    fn read_cached_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.file.read_cached_at(offset, out)
    }
    fn write_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: usize = bufs.iter().map(|b| b.len()).sum();
        self.counts.bytes.fetch_add(bytes as u64, Relaxed);
        self.counts.writes.fetch_add(1, Relaxed);
        self.file.write_at(offset, bufs)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Relaxed);
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.counts.syncs.fetch_add(1, Relaxed);
        self.file.sync_all()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
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
