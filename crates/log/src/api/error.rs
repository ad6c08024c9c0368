//! Errors of the log, one enum per operation.

use millstream_types::Lsn;
use thiserror::Error;

/// Why a log cannot be opened. Message data was not overwritten.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Records that are proven to have been durable cannot be read.
    #[error(
        "{file} is corrupt: records {first} to {last} were durable and cannot be read ({detail}); nothing was changed. Restore the data directory from a backup, or set it aside and begin with an empty one"
    )]
    Corrupt {
        /// The file, relative to the data directory.
        file: String,
        /// First LSN concerned.
        first: Lsn,
        /// Last LSN concerned, as far as known.
        last: Lsn,
        /// What is wrong.
        detail: String,
    },
    /// The directory belongs to something else.
    #[error(
        "{file} is not Millstream's, or belongs to another data directory: {detail}; choose another --data-dir or move it away"
    )]
    Foreign {
        /// The file.
        file: String,
        /// What was found.
        detail: String,
    },
    /// A later version wrote it.
    #[error("{file} has format {found}, this program reads up to {known}; use the newer program")]
    NewerFormat {
        /// The file.
        file: String,
        /// Version found.
        found: u32,
        /// Newest version known.
        known: u32,
    },
    /// Another process holds the directory.
    #[error("the data directory is in use by another process ({file} is locked)")]
    Locked {
        /// The lock file.
        file: String,
    },
    /// No room to open.
    #[error("no room on the disk to open the log: {needed_bytes} bytes are needed")]
    DiskFull {
        /// Bytes needed.
        needed_bytes: u64,
    },
    /// The operating system failed.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The state store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why there is no room for a record.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdmitError {
    /// The disk is full; only class Publish gets this. Retry later.
    #[error("the disk is full")]
    DiskFull,
    /// The record is larger than any may be.
    #[error("a record of {bytes} bytes exceeds the limit of {max} bytes")]
    TooLarge {
        /// Asked for.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Another process took the log over.
    #[error("the log was taken over by epoch {by}")]
    Fenced {
        /// Its epoch.
        by: u64,
    },
    /// All room is taken (only `try_admit`).
    #[error("too much is in flight")]
    Busy,
    /// The log is closing or lost.
    #[error("the log is closed")]
    Closed,
}

/// The right to commit is gone: whether what was not yet durable ever will be is unknown.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the log was lost: {cause}")]
pub struct Lost {
    /// Why.
    pub cause: String,
}

/// Why a read failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// The position is below the start.
    #[error("the log starts at {start}")]
    Trimmed {
        /// First position that is left.
        start: u64,
    },
    /// The bytes on disk are not what was written; the rest of the log stays readable.
    #[error("positions {first}..{end} are damaged in {file}")]
    Damaged {
        /// First position.
        first: u64,
        /// One past the last.
        end: u64,
        /// The file.
        file: String,
    },
    /// Too many reads at once; retry.
    #[error("too many reads at once")]
    Overloaded,
    /// The operating system failed.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// Why.
        error: String,
    },
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

/// The state store failed.
#[derive(Debug, Error)]
#[error("the state store in {file} failed: {cause}")]
pub struct StoreError {
    /// Its directory or file.
    pub file: String,
    /// Why.
    pub cause: String,
}
