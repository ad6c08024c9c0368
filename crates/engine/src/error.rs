//! Why engine state cannot be loaded.

use millstream_log::{OpenError, StoreError};
use thiserror::Error;

use crate::codec::DecodeError;

/// Rows or records that cannot be understood. Nothing may be served then.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The state store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row or an effect is not what this program writes.
    #[error("engine row {key} cannot be read: {error}")]
    Row {
        /// The row's key in hexadecimal.
        key: String,
        /// What is wrong.
        error: DecodeError,
    },
    /// An entry's attrs are not what this program writes.
    #[error("entry {pos} of log {log} cannot be read: {error}")]
    Entry {
        /// The log.
        log: u64,
        /// First position of the entry.
        pos: u64,
        /// What is wrong.
        error: DecodeError,
    },
    /// A row or effect of a family that this program does not know.
    #[error("engine row {key} is of a family that this program does not know: use the newer program")]
    Family {
        /// The row's key in hexadecimal.
        key: String,
    },
}

impl LoadError {
    /// A row, or an effect on it, that cannot be read.
    #[must_use]
    pub fn row(key: &[u8], error: DecodeError) -> Self {
        Self::Row { key: hex(key), error }
    }
    /// A row of an unknown family.
    #[must_use]
    pub fn family(key: &[u8]) -> Self {
        Self::Family { key: hex(key) }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

impl From<LoadError> for OpenError {
    fn from(e: LoadError) -> Self {
        match e {
            LoadError::Store(e) => Self::Store(e),
            e => Self::Store(StoreError { file: "the engine's rows".to_owned(), cause: e.to_string() }),
        }
    }
}
