//! [`SimFile`]: an open file of a simulated disk.

use std::io::{self, IoSlice};
use std::ops::Range;

use rustix::io::Errno;

use super::disk::Shared;
use super::fault::Call;
use super::pages::{narrow, wide};
use super::state::Verdict;
use crate::{ALIGN, File, OpenMode};

/// An open file. Its path is the one it was opened by.
pub(super) struct SimFile {
    state: Shared,
    file: u64,
    path: String,
    mode: OpenMode,
}

impl SimFile {
    /// The caller has counted the handle.
    pub(super) fn new(state: Shared, file: u64, path: String, mode: OpenMode) -> Self {
        Self { state, file, path, mode }
    }

    /// A program that misaligns direct I/O is wrong, so it panics here where the kernel says `EINVAL`.
    fn assert_aligned(&self, offset: u64, memory: &[u8]) {
        if self.mode == OpenMode::Direct {
            assert!(offset.is_multiple_of(wide(ALIGN)), "direct I/O on {} at offset {offset}", self.path);
            assert!(
                memory.len().is_multiple_of(ALIGN),
                "direct I/O on {} of {} bytes",
                self.path,
                memory.len()
            );
            assert!(
                memory.is_empty() || memory.as_ptr().addr().is_multiple_of(ALIGN),
                "direct I/O on {} with memory that is not aligned",
                self.path
            );
        }
    }

    fn expect_writable(&self) -> io::Result<()> {
        if self.mode == OpenMode::Read { Err(Errno::BADF.into()) } else { Ok(()) }
    }

    fn range(offset: u64, len: usize) -> io::Result<Range<u64>> {
        let end = offset.checked_add(wide(len)).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(offset..end)
    }
}

impl File for SimFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.assert_aligned(offset, out);
        let range = Self::range(offset, out.len())?;
        let mut state = self.state.lock();
        state.enter(Call::Read, &self.path, Some(&range))?.whole()?;
        Ok(state.file(self.file)?.now.read(offset, out))
    }

    fn write_at(&self, offset: u64, bufs: &[IoSlice<'_>]) -> io::Result<()> {
        for buf in bufs {
            self.assert_aligned(offset, buf);
        }
        self.expect_writable()?;
        let data = bufs.iter().map(|buf| &**buf).collect::<Vec<&[u8]>>().concat();
        let range = Self::range(offset, data.len())?;
        let mut state = self.state.lock();
        let verdict = state.enter(Call::Write, &self.path, Some(&range))?;
        state.expect_room(self.file, range.end)?;
        if let Verdict::Fail(errno) = verdict {
            let sector_bytes = state.sector_bytes;
            let sectors = wide(data.len().div_ceil(sector_bytes));
            let kept = narrow(state.rng.below(sectors + 1)).saturating_mul(sector_bytes).min(data.len());
            if let Some(part) = data.get(..kept).filter(|part| !part.is_empty()) {
                state.write(self.file, offset, part)?;
            }
            return Err(errno.into());
        }
        if verdict.whole()? && !data.is_empty() {
            state.write(self.file, offset, &data)?;
        }
        verdict.tell(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (before, hook) = {
            let state = self.state.lock();
            state.expect_power()?;
            (state.next_write, state.on_sync.clone())
        };
        if let Some(hook) = hook {
            hook(&self.path);
        }
        let mut state = self.state.lock();
        match state.enter(Call::Sync, &self.path, None)? {
            Verdict::Fail(errno) => {
                state.file(self.file)?.give_up(before);
                Err(errno.into())
            }
            verdict => {
                if verdict.whole()? {
                    state.file(self.file)?.sync(before);
                }
                verdict.tell(())
            }
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.expect_writable()?;
        let mut state = self.state.lock();
        let verdict = state.enter(Call::Allocate, &self.path, None)?;
        state.expect_room(self.file, len)?;
        if verdict.whole()? {
            state.grow(self.file, len)?;
        }
        verdict.tell(())
    }

    fn shorten(&self, len: u64) -> io::Result<()> {
        self.expect_writable()?;
        assert!(len.is_multiple_of(wide(ALIGN)), "{} is shortened to {len} bytes", self.path);
        let mut state = self.state.lock();
        let verdict = state.enter(Call::Allocate, &self.path, None)?;
        if verdict.whole()? {
            state.shorten(self.file, len)?;
        }
        verdict.tell(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        state.expect_power()?;
        Ok(state.file(self.file)?.now.len())
    }

    fn is_direct(&self) -> bool {
        self.mode == OpenMode::Direct
    }

    fn drop_cache(&self) {}

    fn random_access(&self) {}
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Ok(inode) = state.file(self.file) {
            inode.opens = inode.opens.saturating_sub(1);
        }
        state.collect();
    }
}
