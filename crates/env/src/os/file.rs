//! [`OsFile`]: an open file descriptor as a [`File`].

use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;

use rustix::fd::OwnedFd;
use rustix::fs::{Advice, FallocateFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use crate::{ALIGN, AlignedBuf, File};

/// Slices the kernel takes in one `pwritev` (`IOV_MAX`).
const SLICES_PER_WRITE_MAX: usize = 1024;
/// Bytes asked for with one piece of advice: the kernel fetches no more at once than a request of the disk holds.
const ADVICE_BYTES: u64 = 512 << 10;
/// Bytes written at a time where a file must be filled with zeros.
const ZERO_FILL_BYTES: usize = 1 << 20;

/// An open file.
#[derive(Debug)]
pub(super) struct OsFile {
    fd: OwnedFd,
    direct: bool,
}

impl OsFile {
    pub(super) fn new(fd: OwnedFd, direct: bool) -> Self {
        Self { fd, direct }
    }

    /// Whether a direct read is not refused: some file systems take the flag at opening and refuse its use.
    pub(super) fn direct_works(&self) -> bool {
        let mut probe = AlignedBuf::with_capacity(ALIGN);
        probe.resize_for_overwrite(ALIGN);
        retry_on_intr(|| rustix::io::pread(&self.fd, probe.as_mut_slice(), 0)) != Err(Errno::INVAL)
    }

    /// Writes at most [`SLICES_PER_WRITE_MAX`] slices whole and gives their length.
    fn write_slices(&self, offset: u64, bufs: &[IoSlice<'_>]) -> io::Result<u64> {
        let total: usize = bufs.iter().map(|b| b.len()).sum();
        if total == 0 {
            return Ok(0);
        }
        let mut done = retry_on_intr(|| rustix::io::pwritev(&self.fd, bufs, offset))?;
        if done < total {
            // Cut short: ask for the rest, as the next call names the cause (a full disk, say).
            let mut copy: Vec<IoSlice<'_>> = bufs.iter().map(|b| IoSlice::new(b)).collect();
            let mut rest = copy.as_mut_slice();
            IoSlice::advance_slices(&mut rest, done);
            while done < total {
                let n = retry_on_intr(|| rustix::io::pwritev(&self.fd, rest, offset + bytes(done)))?;
                if n == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                IoSlice::advance_slices(&mut rest, n);
                done += n;
            }
        }
        Ok(bytes(total))
    }

    /// Makes the file `len` long by writing zeros behind its end.
    pub(super) fn zero_fill(&self, len: u64) -> io::Result<()> {
        let mut at = self.len()?;
        if self.direct {
            if !len.is_multiple_of(bytes(ALIGN)) {
                return Err(Errno::INVAL.into());
            }
            let aligned = at.next_multiple_of(bytes(ALIGN));
            if aligned != at {
                rustix::fs::ftruncate(&self.fd, aligned)?;
                at = aligned;
            }
        }
        let mut zeros = AlignedBuf::with_capacity(ZERO_FILL_BYTES);
        zeros.resize_zeroed(ZERO_FILL_BYTES);
        while at < len {
            let n = usize::try_from(len - at).unwrap_or(usize::MAX).min(ZERO_FILL_BYTES);
            zeros.resize_zeroed(n);
            self.write_slices(at, &[IoSlice::new(&zeros)])?;
            at += bytes(n);
        }
        Ok(())
    }
}

impl File for OsFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let n = retry_on_intr(|| rustix::io::pread(&self.fd, &mut *rest, offset + bytes(done)))?;
            done += n;
            // A direct read ends unaligned only at the end of the file, and may not go on from there.
            if n == 0 || (self.direct && !n.is_multiple_of(ALIGN)) {
                break;
            }
        }
        Ok(done)
    }

    fn read_cached_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        if self.direct {
            return Ok(0);
        }
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let mut slices = [IoSliceMut::new(rest)];
            let at = offset + bytes(done);
            match retry_on_intr(|| rustix::io::preadv2(&self.fd, &mut slices, at, ReadWriteFlags::NOWAIT)) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(n) => done += n,
                // A file system that cannot tell.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.read_at(offset, out),
                Err(e) => return Err(e.into()),
            }
        }
        Ok(done)
    }

    fn write_at(&self, mut offset: u64, bufs: &[IoSlice<'_>]) -> io::Result<()> {
        for slices in bufs.chunks(SLICES_PER_WRITE_MAX) {
            offset += self.write_slices(offset, slices)?;
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.fd)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let before = self.len()?;
        let done = match retry_on_intr(|| rustix::fs::fallocate(&self.fd, FallocateFlags::empty(), 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.zero_fill(len),
            other => other.map_err(io::Error::from),
        };
        if done.is_err() && self.len()? > before {
            // Give back what was reserved before it failed; the first error is the one to tell.
            let _ = rustix::fs::ftruncate(&self.fd, before);
        }
        done
    }

    fn shorten(&self, len: u64) -> io::Result<()> {
        if self.len()? > len { Ok(rustix::fs::ftruncate(&self.fd, len)?) } else { Ok(()) }
    }

    fn len(&self) -> io::Result<u64> {
        let size = rustix::fs::fstat(&self.fd)?.st_size;
        u64::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    }

    fn is_direct(&self) -> bool {
        self.direct
    }

    fn drop_cache(&self) {
        // Advice: a file system that does not take it changes no result.
        let _ = rustix::fs::fadvise(&self.fd, 0, None, Advice::DontNeed);
    }

    fn random_access(&self) {
        let _ = rustix::fs::fadvise(&self.fd, 0, None, Advice::Random);
    }

    fn will_need(&self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        let mut at = offset;
        while let Some(some) = NonZeroU64::new(end.saturating_sub(at).min(ADVICE_BYTES)) {
            let _ = rustix::fs::fadvise(&self.fd, at, Some(some), Advice::WillNeed);
            at += some.get();
        }
    }
}

/// A memory length as a file length.
fn bytes(n: usize) -> u64 {
    u64::try_from(n).expect("memory lengths fit 64 bits")
}
