//! Reading partitions: by offset, by time, and waiting for more. Readers touch no engine state but the partition's view.

use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use millstream_engine::attrs::{self, Attrs};
use millstream_engine::op::BatchMeta;
use millstream_engine::partition::{PartitionView, Waiter};
use millstream_log::{BoxFuture, Entry, Level, Limits, ReadBatch, ReadError, ReadOutcome, Reader};

use crate::envelope::Message;

/// Most entries of one read.
const READ_ENTRIES_MAX: usize = 16_384;

/// Reads partitions; shared by all sessions.
#[derive(Clone)]
pub struct Streams {
    reader: Arc<dyn Reader>,
}

/// Entries as read.
#[derive(Clone, Debug, Default)]
pub struct StreamBatch {
    /// Ascending, without gaps in between but those that deletion left.
    pub entries: Vec<StreamEntry>,
    /// Where to go on.
    pub next: u64,
}

/// One entry of a partition.
#[derive(Clone, Debug)]
pub struct StreamEntry {
    /// First offset.
    pub offset: u64,
    /// Offsets it covers.
    pub count: u32,
    /// Largest timestamp in it, milliseconds, -1 = none.
    pub max_ts_ms: i64,
    /// What it holds.
    pub content: Content,
}

/// What an entry holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// A batch as its producer packed it.
    Batch {
        /// What the engine knows of it.
        meta: BatchMeta,
        /// Leader epoch it was appended in.
        leader_epoch: u32,
        /// When, milliseconds since the epoch.
        append_ms: u64,
        /// The bytes as they came.
        body: Bytes,
    },
    /// One message of another protocol.
    Single {
        /// The message.
        message: Message,
        /// Leader epoch it was appended in.
        leader_epoch: u32,
        /// When, milliseconds since the epoch.
        append_ms: u64,
    },
}

/// Answer of [`Streams::read`]: at once from memory, or later.
pub enum StreamRead {
    /// No I/O was needed.
    Ready(Result<StreamBatch, ReadError>),
    /// On its way.
    Cold(BoxFuture<Result<StreamBatch, ReadError>>),
}

impl Streams {
    pub(crate) fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }

    pub(crate) fn reader(&self) -> &Arc<dyn Reader> {
        &self.reader
    }

    /// Whole entries from offset `from` (the first may begin below it, if it covers it), below the visible end; at least one if
    /// there is one, even over `max_bytes`.
    #[must_use]
    pub fn read(&self, part: &Arc<PartitionView>, from: u64, max_bytes: usize) -> StreamRead {
        let limits = Limits { max_bytes, max_entries: READ_ENTRIES_MAX, end_pos: part.visible_end() };
        match self.reader.read(part.log, from, limits, Level::Sequenced) {
            ReadOutcome::Ready(r) => StreamRead::Ready(r.and_then(|b| batch(part, b))),
            ReadOutcome::Cold(f) => {
                let part = Arc::clone(part);
                StreamRead::Cold(Box::pin(async move { batch(&part, f.await?) }))
            }
        }
    }

    /// As [`Streams::read`], waiting for I/O.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn fetch(
        &self,
        part: &Arc<PartitionView>,
        from: u64,
        max_bytes: usize,
    ) -> Result<StreamBatch, ReadError> {
        match self.read(part, from, max_bytes) {
            StreamRead::Ready(r) => r,
            StreamRead::Cold(f) => f.await,
        }
    }

    /// Waits until one of the partitions has more than was seen (`(partition, end seen)`), or is gone, or until the deadline. One
    /// wake-up, however many partitions move; what one write made visible is seen as a whole then.
    pub async fn wait(&self, parts: &[(Arc<PartitionView>, u64)], deadline: tokio::time::Instant) {
        let moved = || parts.iter().any(|(p, seen)| p.visible_end() > *seen || p.is_gone());
        if moved() {
            return;
        }
        let mut registered: Option<Registered<'_>> = None;
        let more = std::future::poll_fn(|cx| {
            let r = registered.get_or_insert_with(|| Registered::new(parts, cx.waker().clone()));
            r.waiter.set_waker(cx.waker());
            if r.waiter.is_woken() || moved() { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout_at(deadline, more).await;
    }

    /// The first entry whose largest timestamp is at least `ts_ms`. What is asked for may be any record in it.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn by_time(
        &self,
        part: &Arc<PartitionView>,
        ts_ms: i64,
    ) -> Result<Option<StreamEntry>, ReadError> {
        self.from_time(part, part.start(), ts_ms).await
    }

    /// As [`Streams::by_time`], among the entries at or past `from`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn from_time(
        &self,
        part: &Arc<PartitionView>,
        from: u64,
        ts_ms: i64,
    ) -> Result<Option<StreamEntry>, ReadError> {
        let end = part.visible_end();
        let Some(head) = self.reader.by_time(part.log, from, ts_ms, Level::Sequenced).await? else {
            return Ok(None);
        };
        if head.pos >= end {
            return Ok(None);
        }
        Ok(self.fetch(part, head.pos, 1).await?.entries.into_iter().next())
    }

    /// The first entry that holds the largest timestamp of the partition.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn max_time(&self, part: &Arc<PartitionView>) -> Result<Option<StreamEntry>, ReadError> {
        let max = self.reader.bounds(part.log).max_ts_ms;
        if max < 0 {
            return Ok(None);
        }
        self.by_time(part, max).await
    }

    /// Bytes that a partition holds (approximate: whole extents).
    #[must_use]
    pub fn bytes(&self, part: &Arc<PartitionView>) -> u64 {
        self.reader.bounds(part.log).bytes
    }

    /// The largest leader epoch not above `leader_epoch` that wrote to the partition, and where it ended (exclusive).
    #[must_use]
    pub fn epoch_end(&self, part: &Arc<PartitionView>, leader_epoch: u32) -> Option<(u32, u64)> {
        part.epoch_end(leader_epoch)
    }
}

/// A waiter that stands at its partitions, and leaves them when dropped.
struct Registered<'a> {
    parts: &'a [(Arc<PartitionView>, u64)],
    waiter: Arc<Waiter>,
}

impl<'a> Registered<'a> {
    fn new(parts: &'a [(Arc<PartitionView>, u64)], waker: std::task::Waker) -> Self {
        let waiter = Waiter::new(waker);
        for (p, _) in parts {
            p.register(&waiter);
        }
        Self { parts, waiter }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        for (p, _) in self.parts {
            p.unregister(&self.waiter);
        }
    }
}

fn batch(part: &PartitionView, b: ReadBatch) -> Result<StreamBatch, ReadError> {
    let entries = b.entries.into_iter().map(|e| entry(part, e)).collect::<Result<_, _>>()?;
    Ok(StreamBatch { entries, next: b.next })
}

/// Decodes what the engine and the broker put around a body. Damage here passed the entry's checksum: a bug, or a later version.
fn entry(part: &PartitionView, e: Entry) -> Result<StreamEntry, ReadError> {
    let damaged = |what: &str| ReadError::Damaged {
        first: e.pos,
        end: e.pos + u64::from(e.count),
        file: format!("log {:x}: {what}", part.log.0),
    };
    let content = match attrs::decode(&e.attrs).map_err(|err| damaged(&err.to_string()))? {
        Attrs::Batch { meta, leader_epoch, append_ms } => {
            Content::Batch { meta, leader_epoch, append_ms, body: e.body }
        }
        Attrs::Single(single) => Content::Single {
            message: Message::decode(e.body, single.envelope_len as usize)
                .map_err(|err| damaged(&err.to_string()))?,
            leader_epoch: part.epoch_of(e.pos).unwrap_or_else(|| part.leader_epoch()),
            append_ms: single.enqueued_ms,
        },
    };
    Ok(StreamEntry { offset: e.pos, count: e.count, max_ts_ms: e.max_ts_ms, content })
}
