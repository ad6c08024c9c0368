//! What a queue is told of a topic that it is subscribed to: which one, where it begins, and the records that were read for it.
//!
//! Start at [`Source`]. Bodies are the broker's: it takes batches apart and filters ([`RecordsRead`]); what becomes of records is the queue's.

use millstream_log::ReadError;

use super::api::ReadWindow;

/// Most partitions of a topic with subscriptions: each is a lane of every one of them.
pub const SUBSCRIBED_PARTITIONS_MAX: usize = 256;
/// Most subscriptions of one topic: a record appended, or trimmed, is told to each of them.
pub const SUBSCRIPTIONS_MAX: usize = 64;

/// The topic whose records a queue hands out. The queue's lanes are its partitions, positions are offsets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// Its name, in the queue's namespace.
    pub topic: String,
    /// Its id.
    pub uuid: [u8; 16],
}

/// Where a subscription begins. Partitions that come later begin at their first record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first retained record.
    Earliest,
    /// With the first record appended after it was made.
    Latest,
    /// At these offsets, by partition; those not named at their first retained record. An offset outside of a partition counts as its nearest.
    At(Vec<u64>),
}

impl Start {
    /// The first offset of a partition that holds `start..next`.
    pub(crate) fn first(&self, partition: usize, start: u64, next: u64) -> u64 {
        match self {
            Self::Earliest => start,
            Self::Latest => next,
            Self::At(all) => all.get(partition).copied().unwrap_or(start).clamp(start, next.max(start)),
        }
    }
}

/// A record that a subscription is to hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: u64,
    /// Payload bytes.
    pub bytes: u32,
    /// When it was appended, milliseconds since the epoch.
    pub enqueued_ms: u64,
    /// Not to be delivered from then on; the queue's own time to live aside.
    pub expiry_ms: Option<u64>,
}

/// What lies between [`ReadWindow::from`] and `next`. What is neither taken nor unreadable is skipped: filtered out, or no record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// To be handed out, ascending.
    pub taken: Vec<Record>,
    /// Offsets, each first and one past the last, whose records cannot be taken out of their batch. Ascending.
    pub unreadable: Vec<(u64, u64)>,
    /// All below was looked at.
    pub next: u64,
}

/// Records as read.
#[derive(Debug)]
pub struct RecordsRead {
    /// What was asked.
    pub asked: ReadWindow,
    /// At most `max_entries` of them taken.
    pub records: Result<Records, ReadError>,
}
