//! [`Ballast`]: a file of no content that keeps room until the state store or a merge needs it.

use std::io;
use std::sync::Arc;

use millstream_env::{Disk, OpenMode};

/// Its name in the data directory.
const BALLAST: &str = "ballast";

/// The file, there or given.
pub(crate) struct Ballast {
    disk: Arc<dyn Disk>,
    bytes: u64,
}

impl Ballast {
    /// A ballast of so many bytes, as it is on the disk.
    pub(crate) fn new(disk: Arc<dyn Disk>, bytes: u64) -> Self {
        Self { disk, bytes }
    }

    /// Bytes that it holds; 0 when it was given.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn held(&self) -> io::Result<u64> {
        match self.disk.open(BALLAST, OpenMode::Read) {
            // A crash while it was made may have left less.
            Ok(file) => Ok(if file.len()? >= self.bytes { self.bytes } else { 0 }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Makes it, whole or not at all.
    ///
    /// # Errors
    /// `StorageFull`, and whatever else the disk says.
    pub(crate) fn take(&self) -> io::Result<()> {
        let file = match self.disk.open(BALLAST, OpenMode::CreateNew) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.disk.open(BALLAST, OpenMode::Write)?,
            other => other?,
        };
        let made = file.allocate(self.bytes);
        drop(file);
        if made.is_err() {
            // The first error is the one to tell.
            let _ = self.disk.remove(BALLAST);
        }
        made
    }

    /// Gives its room away. What a crash brings back is taken as it is found.
    ///
    /// # Errors
    /// What the disk says.
    pub(crate) fn give(&self) -> io::Result<()> {
        match self.disk.remove(BALLAST) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}
