//! [`OsDisk`]: a directory of the operating system as a [`Disk`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::file::OsFile;
use crate::{Disk, File, OpenMode, Space, path};

/// Permissions of new files, before the process's umask.
const FILE_MODE: u32 = 0o644;

/// A directory of the operating system.
#[derive(Debug)]
pub struct OsDisk {
    root: PathBuf,
}

impl OsDisk {
    /// The directory `root`. It need not exist: `create_dir_all("")` makes it.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    fn full(&self, rel: &str) -> io::Result<PathBuf> {
        let rel = path::clean(rel)?;
        Ok(if rel.is_empty() { self.root.clone() } else { self.root.join(rel) })
    }

    fn open_fd(&self, rel: &str, flags: OFlags) -> io::Result<rustix::fd::OwnedFd> {
        let full = self.full(rel)?;
        let mode = Mode::from_raw_mode(FILE_MODE);
        Ok(rustix::io::retry_on_intr(|| rustix::fs::open(&full, flags | OFlags::CLOEXEC, mode))?)
    }

    /// Opens direct, or `None` when the file system refuses, be it at the opening or at the first read.
    fn open_direct(&self, rel: &str) -> io::Result<Option<OsFile>> {
        match self.open_fd(rel, OFlags::RDWR | OFlags::DIRECT) {
            Ok(fd) => {
                let file = OsFile::new(fd, true);
                Ok(file.direct_works().then_some(file))
            }
            Err(e) if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

impl Disk for OsDisk {
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.full(dir)?)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.full(dir)?)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let name = entry.file_name().into_string().map_err(|name| {
                    let name = name.to_string_lossy();
                    io::Error::new(io::ErrorKind::InvalidData, format!("file name is not UTF-8: {name}"))
                })?;
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let flags = match mode {
            OpenMode::Read => OFlags::RDONLY,
            OpenMode::Write => OFlags::RDWR,
            OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            OpenMode::Direct => match self.open_direct(path)? {
                Some(file) => return Ok(Arc::new(file)),
                None => OFlags::RDWR,
            },
        };
        Ok(Arc::new(OsFile::new(self.open_fd(path, flags)?, false)))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.full(path)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.full(from)?, self.full(to)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let fd = self.open_fd(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(rustix::fs::fsync(fd)?)
    }

    fn lock(&self, path: &str) -> io::Result<Box<dyn Send + Sync>> {
        let fd = self.open_fd(path, OFlags::RDWR | OFlags::CREATE)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive))?;
        Ok(Box::new(fd))
    }

    fn space(&self) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(&self.root)?;
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    fn real_root(&self) -> Option<PathBuf> {
        Some(self.root.clone())
    }
}
