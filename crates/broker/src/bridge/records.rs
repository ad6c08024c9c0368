//! A partition's records one by one, whichever way they are stored: batches are taken apart as far as they are asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::partition::PartitionView;
use millstream_log::ReadError;

use crate::batch::Records;
use crate::envelope::{Message, property};
use crate::publish::NewMessage;
use crate::shown;
use crate::streams::{Content, StreamEntry, Streams};

/// Bytes read ahead at once, if it is more than one entry.
const READ_BYTES: usize = 1 << 20;

/// What is next in a partition.
#[derive(Debug)]
pub(crate) enum Got {
    /// A record.
    Record {
        /// Its offset.
        offset: u64,
        /// As a message.
        new: Box<NewMessage>,
        /// When it was appended, milliseconds since the epoch.
        enqueued_ms: u64,
        /// It came out of a compressed batch.
        inflated: bool,
    },
    /// Records that cannot be read.
    Unreadable {
        /// The first.
        first: u64,
        /// One past the last.
        end: u64,
        /// Why.
        why: String,
    },
}

/// Reads a partition from an offset on. Holds what one read gave, and of a compressed batch one record.
#[derive(Debug)]
pub(crate) struct RecordReader {
    part: Arc<PartitionView>,
    /// The offset that is next.
    next: u64,
    entries: VecDeque<StreamEntry>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    records: Records,
    /// Offset of the record that comes next out of it.
    at: u64,
    end: u64,
    append_ms: u64,
}

impl RecordReader {
    pub(crate) fn new(part: Arc<PartitionView>, next: u64) -> Self {
        Self { part, next, entries: VecDeque::new(), open: None }
    }

    /// The offset that is next: all before it came out.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// What is next; `None`: nothing is there yet.
    pub(crate) async fn take(&mut self, streams: &Streams) -> Result<Option<Got>, ReadError> {
        loop {
            if let Some(got) = self.in_memory() {
                return Ok(Some(got));
            }
            if self.next >= self.part.visible_end() {
                return Ok(None);
            }
            let batch = streams.fetch(&self.part, self.next, READ_BYTES).await?;
            if batch.entries.is_empty() {
                // A hole up to there.
                if batch.next <= self.next {
                    return Ok(None);
                }
                self.next = batch.next;
            }
            self.entries = batch.entries.into();
        }
    }

    fn in_memory(&mut self) -> Option<Got> {
        loop {
            if let Some(open) = &mut self.open {
                let (at, end) = (open.at, open.end);
                match open.records.next() {
                    // Numbers that lie could hide a record, or give one twice.
                    Some(Ok(r)) if r.offset != at || at >= end => {
                        return Some(self.give_up("its records are not numbered in order"));
                    }
                    Some(Ok(r)) => {
                        open.at += 1;
                        if at < self.next {
                            continue;
                        }
                        self.next = at + 1;
                        let (enqueued_ms, inflated) = (open.append_ms, open.records.is_inflated());
                        let new = Box::new(shown::read(r));
                        return Some(Got::Record { offset: at, new, enqueued_ms, inflated });
                    }
                    Some(Err(e)) => return Some(self.give_up(&e.to_string())),
                    None => {
                        self.next = self.next.max(end);
                        self.open = None;
                    }
                }
            }
            let entry = self.entries.pop_front()?;
            let end = entry.offset.saturating_add(u64::from(entry.count));
            if end <= self.next {
                continue;
            }
            match entry.content {
                Content::Single { message, append_ms, .. } => {
                    self.next = end;
                    let new = Box::new(of_message(message));
                    let offset = entry.offset;
                    return Some(Got::Record { offset, new, enqueued_ms: append_ms, inflated: false });
                }
                Content::Batch { body, append_ms, .. } => match Records::new(&body, entry.offset) {
                    Ok(records) => self.open = Some(Open { records, at: entry.offset, end, append_ms }),
                    Err(e) => {
                        let first = self.next;
                        self.next = end;
                        return Some(Got::Unreadable { first, end, why: e.to_string() });
                    }
                },
            }
        }
    }

    /// What is left of the open batch cannot be had.
    fn give_up(&mut self, why: &str) -> Got {
        let first = self.next;
        if let Some(open) = self.open.take() {
            self.next = self.next.max(open.end);
        }
        Got::Unreadable { first, end: self.next, why: why.to_owned() }
    }
}

/// A message as it was published, to be published again: what it says of itself counts again.
pub(crate) fn of_message(message: Message) -> NewMessage {
    let find = |id: u8| message.properties.iter().find(|p| p.0 == id).map(|p| &p.1);
    let octet = |b: Option<&Bytes>| b.and_then(|b| b.first().copied());
    let ttl_ms = find(property::EXPIRATION).and_then(|b| std::str::from_utf8(b).ok()?.parse().ok());
    let priority = octet(find(property::PRIORITY)).unwrap_or(0);
    let transient = octet(find(property::DELIVERY_MODE)) == Some(1);
    NewMessage { message, transient, priority, ttl_ms, ..NewMessage::default() }
}
