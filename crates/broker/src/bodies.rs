//! Messages of queues as read back from the log. Only the broker decodes their envelopes.
//!
//! Start at [`Broker::read_bodies`].

use std::time::Duration;

use bytes::Bytes;
use millstream_engine::attrs::{self, Attrs};
use millstream_engine::queue::api::Delivery;
use millstream_log::{Entry, ReadError, ReadOutcome};
use millstream_types::{LogId, ObjectId};
use thiserror::Error;

use crate::broker::Broker;
use crate::envelope::{EnvelopeError, Message, property};

/// When too many read at once: the next try after so long.
const RETRY_WAIT: Duration = Duration::from_millis(5);

/// A message of a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueMessage {
    /// The message.
    pub message: Message,
    /// When it was published here, milliseconds since the epoch.
    pub enqueued_ms: u64,
    /// Not to be delivered from then on, milliseconds since the epoch; the queue's own time to live aside.
    pub expiry_ms: Option<u64>,
    /// 0 to 255, as published.
    pub priority: u8,
    /// It need not survive a restart.
    pub transient: bool,
    /// Its first home, if it was moved.
    pub origin: Option<(LogId, u64)>,
    /// Its timestamp, milliseconds, -1 = none.
    pub(crate) max_ts_ms: i64,
}

impl QueueMessage {
    /// A message as it is when it was published at this moment, and nothing else is said of it.
    #[must_use]
    pub fn new(message: Message, enqueued_ms: u64) -> Self {
        Self {
            message,
            enqueued_ms,
            expiry_ms: None,
            priority: 0,
            transient: false,
            origin: None,
            max_ts_ms: -1,
        }
    }

    /// Its first home: what its public id is made from. `delivery` is the one that it was read by.
    #[must_use]
    pub fn home(&self, delivery: &Delivery) -> (LogId, u64) {
        self.origin.unwrap_or((LogId::new(delivery.queue, delivery.lane), delivery.pos))
    }

    /// When it was first published, whatever queues it was moved through, milliseconds since the epoch.
    #[must_use]
    pub fn sent_ms(&self) -> u64 {
        let noted = self.message.properties.iter().find(|p| p.0 == property::SENT_MS);
        let ms = noted.and_then(|p| p.1.as_ref().try_into().ok()).map(i64::from_le_bytes);
        ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(self.enqueued_ms)
    }

    /// How often it was handed out, by this delivery and by the queues that gave it up before.
    #[must_use]
    pub fn deliveries_in_all(&self, delivery: &Delivery) -> u32 {
        self.delivered_before().saturating_add(u32::from(delivery.deliveries))
    }

    fn delivered_before(&self) -> u32 {
        let noted = self.message.properties.iter().find(|p| p.0 == property::DELIVERED_BEFORE);
        noted.and_then(|p| p.1.as_ref().try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    /// A queue that handed it out so often gives it up.
    pub(crate) fn note_deliveries(&mut self, deliveries: u16) {
        let all = self.delivered_before().saturating_add(u32::from(deliveries));
        self.forget_deliveries();
        if all > 0 {
            let noted = (property::DELIVERED_BEFORE, Bytes::copy_from_slice(&all.to_le_bytes()));
            self.message.properties.push(noted);
        }
    }

    /// It goes back to where it came from: nothing was counted.
    pub(crate) fn forget_deliveries(&mut self) {
        self.message.properties.retain(|p| p.0 != property::DELIVERED_BEFORE);
    }

    /// It is moved: when it was first published goes with it.
    pub(crate) fn note_sent(&mut self) {
        let sent = i64::try_from(self.sent_ms()).unwrap_or(i64::MAX);
        if !self.message.properties.iter().any(|p| p.0 == property::SENT_MS) {
            let noted = (property::SENT_MS, Bytes::copy_from_slice(&sent.to_le_bytes()));
            self.message.properties.push(noted);
        }
    }
}

/// Why a message cannot be had.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// It is gone: its queue was purged or deleted meanwhile.
    #[error("the message is gone")]
    Gone,
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was read is no message.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
}

/// Where a message is.
pub(crate) type Place = (ObjectId, u16, u64);

impl Broker {
    /// The messages that were delivered, in the same order. Those near the end of the log are in memory; others are read from the disk.
    pub async fn read_bodies(&self, deliveries: &[Delivery]) -> Vec<Result<QueueMessage, BodyError>> {
        let places: Vec<Place> = deliveries.iter().map(|d| (d.queue, d.lane, d.pos)).collect();
        self.read_places(&places).await
    }

    pub(crate) async fn read_places(&self, places: &[Place]) -> Vec<Result<QueueMessage, BodyError>> {
        // Asked once, for a queue may go meanwhile: each place is read and given back as what it was then. Most often all are of one queue.
        let mut taken = Vec::with_capacity(places.len());
        for of_queue in places.chunk_by(|a, b| a.0 == b.0) {
            let def = of_queue.first().and_then(|p| self.directory().by_id(p.0));
            taken.extend(std::iter::repeat_n(def.is_some_and(|d| d.source.is_some()), of_queue.len()));
        }
        if !taken.contains(&true) {
            return self.read_own(places).await;
        }
        let of = |topics: bool| -> Vec<Place> {
            places.iter().zip(&taken).filter(|(_, t)| **t == topics).map(|(p, _)| *p).collect()
        };
        let (of_topics, own) = (of(true), of(false));
        // Each in its turn again.
        let mut of_topics = self.read_taken(&of_topics).await.into_iter();
        let mut own = self.read_own(&own).await.into_iter();
        let both = taken.iter().map(|t| if *t { of_topics.next() } else { own.next() });
        both.map(|r| r.unwrap_or(Err(BodyError::Gone))).collect()
    }

    /// Of queues with logs of their own.
    async fn read_own(&self, places: &[Place]) -> Vec<Result<QueueMessage, BodyError>> {
        // Most often all are of one lane and in order.
        let in_order = places.is_sorted();
        let mut order: Vec<(Place, usize)> = places.iter().copied().zip(0..).collect();
        if !in_order {
            order.sort_unstable();
        }
        let mut found = Vec::with_capacity(places.len());
        for of_log in order.chunk_by(|(a, _), (b, _)| (a.0, a.1) == (b.0, b.1)) {
            let Some(((queue, lane, _), _)) = of_log.first() else { continue };
            let mut positions: Vec<u64> = of_log.iter().map(|(place, _)| place.2).collect();
            positions.dedup();
            match self.read_entries(LogId::new(*queue, *lane), &positions).await {
                Err(e) => found.extend(of_log.iter().map(|(_, i)| (*i, Err(BodyError::Read(e.clone()))))),
                Ok(entries) => {
                    let mut entries = entries.iter().peekable();
                    for ((_, _, pos), i) in of_log {
                        while entries.next_if(|e| e.pos < *pos).is_some() {}
                        let entry = entries.peek().filter(|e| e.pos == *pos).ok_or(BodyError::Gone);
                        found.push((*i, entry.and_then(|e| decode(e))));
                    }
                }
            }
        }
        if !in_order {
            found.sort_unstable_by_key(|f| f.0);
        }
        found.into_iter().map(|f| f.1).collect()
    }

    async fn read_entries(&self, log: LogId, positions: &[u64]) -> Result<Vec<Entry>, ReadError> {
        if log.object().is_transient() {
            return Ok(self.shared().transient.get(log, positions));
        }
        loop {
            let read = match self.streams().reader().get(log, positions) {
                ReadOutcome::Ready(read) => read,
                ReadOutcome::Cold(read) => read.await,
            };
            match read {
                Ok(batch) => return Ok(batch.entries),
                Err(ReadError::Overloaded) => tokio::time::sleep(RETRY_WAIT).await,
                // A damaged one among them hides the others: each on its own then.
                Err(ReadError::Damaged { .. }) if positions.len() > 1 => {
                    return Ok(self.read_whole_ones(log, positions).await);
                }
                Err(e) => return Err(e),
            }
        }
    }

    async fn read_whole_ones(&self, log: LogId, positions: &[u64]) -> Vec<Entry> {
        let mut entries = Vec::new();
        for pos in positions {
            let read = match self.streams().reader().get(log, &[*pos]) {
                ReadOutcome::Ready(read) => read,
                ReadOutcome::Cold(read) => read.await,
            };
            entries.extend(read.into_iter().flat_map(|b| b.entries));
        }
        entries
    }
}

fn decode(entry: &Entry) -> Result<QueueMessage, BodyError> {
    let damaged = |what| BodyError::Envelope(EnvelopeError::Damaged(what));
    let Ok(Attrs::Single(a)) = attrs::decode(&entry.attrs) else { return Err(damaged("attrs of a message")) };
    let message = Message::decode(Bytes::clone(&entry.body), a.envelope_len as usize)?;
    Ok(QueueMessage {
        message,
        enqueued_ms: a.enqueued_ms,
        expiry_ms: a.expiry_ms.map(|ms| ms.max(a.enqueued_ms)),
        priority: a.priority,
        transient: a.transient,
        origin: a.origin,
        max_ts_ms: entry.max_ts_ms,
    })
}
