//! Errors, one enum per operation.

use millstream_engine::catalogue::CatalogueError;
use millstream_engine::queue::api::{QueueError, ReceiveError, SubscribeError};
use millstream_log::AdmitError;
use thiserror::Error;

use crate::envelope::EnvelopeError;
use crate::policy::SettingError;
use crate::routing::RouteError;
use crate::subscription::SubscriptionError;

/// Why there is no room for an operation now.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// The disk is full: publishing stops until there is room.
    #[error("the disk is full")]
    DiskFull,
    /// Messages of transient queues take as much memory as they may: publishing to such queues stops until some were settled.
    #[error("the memory for messages of transient queues is full")]
    MemoryFull,
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
        matches!(self, Self::DiskFull | Self::MemoryFull | Self::Overloaded)
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

/// Why a call about a queue was refused; nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QueueCallError {
    /// The engine refused.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// It is there and made otherwise.
    #[error("the queue is there with another {what}")]
    Differs {
        /// In what.
        what: &'static str,
    },
    /// It cannot be subscribed so to a topic.
    #[error(transparent)]
    Subscription(#[from] SubscriptionError),
    /// It belongs to somebody else.
    #[error("the queue belongs to another connection")]
    Locked,
    /// A setting cannot be kept.
    #[error("settings: {0}")]
    Arguments(#[from] EnvelopeError),
    /// The call gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<Refused> for QueueCallError {
    fn from(e: Refused) -> Self {
        Self::Call(CallError::Refused(e))
    }
}

/// Why there is no consumer, or nothing is received.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConsumeError {
    /// No consumer.
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    /// Nothing received.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// It belongs to somebody else.
    #[error("the queue belongs to another connection")]
    Locked,
    /// The call gave no answer.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Why a message was not published anywhere. A message that is routed nowhere is no error.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PublishError {
    /// It cannot be routed.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// It cannot be kept.
    #[error(transparent)]
    Message(#[from] EnvelopeError),
}
