//! Errors, one enum per operation.

use millstream_engine::catalogue::CatalogueError;
use millstream_log::AdmitError;
use thiserror::Error;

use crate::policy::SettingError;

/// Why there is no room for an operation now.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// The disk is full: publishing stops until there is room.
    #[error("the disk is full")]
    DiskFull,
    /// Larger than any record may be.
    #[error("{bytes} bytes in one step; the limit is {max}")]
    TooLarge {
        /// Asked for.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Too much is waiting; try again.
    #[error("overloaded")]
    Overloaded,
    /// The broker is stopping, or lost its log.
    #[error("the broker is closed")]
    Closed,
}

impl Refused {
    /// Whether the same may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::DiskFull | Self::Overloaded)
    }
}

impl From<AdmitError> for Refused {
    fn from(e: AdmitError) -> Self {
        match e {
            AdmitError::DiskFull => Self::DiskFull,
            AdmitError::TooLarge { bytes, max } => Self::TooLarge { bytes, max },
            AdmitError::Busy => Self::Overloaded,
            AdmitError::Fenced { .. } | AdmitError::Closed => Self::Closed,
        }
    }
}

/// Why a call gave no answer of its own.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CallError {
    /// Nothing happened.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The log was lost after it was submitted: it may or may not have happened.
    #[error("the log was lost: it is not known whether this happened")]
    FateUnknown,
}

/// Why an administrative call was refused; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AdminError {
    /// Not a legal name of a topic.
    #[error("{name:?} is not a legal topic name: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// A number of partitions below 1 or above the limit.
    #[error("{partitions} partitions; allowed are 1 to {max}")]
    InvalidPartitions {
        /// Asked for.
        partitions: i64,
        /// The limit.
        max: u32,
    },
    /// A setting is unknown or has a value that it cannot have.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The catalogue refused.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The call gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<Refused> for AdminError {
    fn from(e: Refused) -> Self {
        Self::Call(CallError::Refused(e))
    }
}
