//! Queues that are subscribed to a topic: how one is asked for, and reading the topic's records for it.
//!
//! A record is handed out as the message that [`shown::read`](crate::shown::read) makes of it; one without exchange and routing key has the topic's
//! name as routing key. Start at [`Subscription`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_engine::catalogue::Topic;
use millstream_engine::partition::PartitionView;
use millstream_engine::queue::api::{QueueDef, ReadWindow};
use millstream_engine::queue::source::{Record, Records, RecordsRead, Source, Start};
use millstream_log::ReadError;
use millstream_types::{LogId, Namespace, ObjectId};
use thiserror::Error;

use crate::bodies::{BodyError, Place, QueueMessage};
use crate::bridge::event::{At, Seen};
use crate::bridge::pattern::{PATTERN_BYTES_MAX, Pattern};
use crate::bridge::records::{Got, RecordReader};
use crate::broker::Broker;
use crate::publish::{NewMessage, timestamp_ms};
use crate::queue_settings::QueueSettings;

/// Records looked at in one read for a window, most of which the filter may leave out; and their payload bytes.
const READ_RECORDS_MAX: usize = 16_384;
const READ_BYTES_MAX: usize = 8 << 20;
/// Payload bytes of records out of compressed batches that are kept for who takes them: to find one, all before it in its batch come out too.
const KEPT_BYTES_MAX: usize = 16 << 20;
/// What a kept record takes besides its payload, about, bytes.
const KEPT_RECORD_BYTES: usize = 512;
/// Of two records of a partition so far apart, the second is looked for anew.
const APART_MAX: u64 = 4_096;
/// Compiled filters kept.
const FILTERS_MAX: usize = 1_024;

/// Where a subscription begins. Partitions that the topic gets later are read from their first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Begin {
    /// With the first record that is kept.
    #[default]
    Earliest,
    /// With the first that is published from now on.
    Latest,
    /// At this offset of every partition, or the nearest that there is.
    Offset(u64),
    /// With the first batch of each partition that has a timestamp at or after this, milliseconds since the epoch.
    TimeMs(u64),
}

/// Why a text is no [`Begin`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is none of earliest, latest, offset:N and time:MILLISECONDS")]
pub struct BeginError(String);

impl FromStr for Begin {
    type Err = BeginError;
    fn from_str(text: &str) -> Result<Self, BeginError> {
        let number = |s: &str| s.parse().map_err(|_| BeginError(text.to_owned()));
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => match (text.strip_prefix("offset:"), text.strip_prefix("time:")) {
                (Some(n), _) => number(n).map(Self::Offset),
                (_, Some(ms)) => number(ms).map(Self::TimeMs),
                _ => Err(BeginError(text.to_owned())),
            },
        }
    }
}

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("earliest"),
            Self::Latest => f.write_str("latest"),
            Self::Offset(n) => write!(f, "offset:{n}"),
            Self::TimeMs(ms) => write!(f, "time:{ms}"),
        }
    }
}

/// What a queue is to hand out instead of what is published to it: the records of a topic in its namespace, of at most 256 partitions. At most
/// 64 queues are subscribed to one topic. It cannot be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// Where it begins.
    pub from: Begin,
    /// Which records, as the JSON text of a [`Pattern`]: others are left out. A record whose body the pattern looks into and cannot read is left out.
    pub filter: Option<String>,
}

/// Why a queue cannot be subscribed so.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SubscriptionError {
    /// There is no such topic.
    #[error("there is no topic {0:?}")]
    NoTopic(String),
    /// The filter is no pattern.
    #[error("the filter: {0}")]
    Filter(String),
    /// Where it begins cannot be found.
    #[error("the topic cannot be read: {0}")]
    Read(#[from] ReadError),
}

impl Subscription {
    fn pattern(&self) -> Result<Option<Pattern>, SubscriptionError> {
        let Some(text) = &self.filter else { return Ok(None) };
        let wrong = |e: &dyn fmt::Display| SubscriptionError::Filter(e.to_string());
        if text.len() > PATTERN_BYTES_MAX {
            return Err(wrong(&format_args!("it has more than {PATTERN_BYTES_MAX} bytes")));
        }
        let json = serde_json::from_str(text).map_err(|e| wrong(&e))?;
        Pattern::compile(&json).map(Some).map_err(|e| wrong(&e))
    }

    /// The topic and the offsets at which it begins.
    pub(crate) async fn source(
        &self,
        broker: &Broker,
        ns: Namespace,
    ) -> Result<(Source, Start), SubscriptionError> {
        self.pattern()?;
        let topic = broker.catalogue().by_name.get(&(ns, self.topic.clone())).map(Arc::clone);
        let topic = topic.ok_or_else(|| SubscriptionError::NoTopic(self.topic.clone()))?;
        let source = Source { topic: self.topic.clone(), uuid: topic.def.uuid };
        let start = match self.from {
            Begin::Earliest => Start::Earliest,
            Begin::Latest => Start::Latest,
            Begin::Offset(n) => Start::At(vec![n; topic.partitions.len()]),
            Begin::TimeMs(ms) => Start::At(self.by_time(broker, &topic, ms).await?),
        };
        Ok((source, start))
    }

    async fn by_time(&self, broker: &Broker, topic: &Topic, ms: u64) -> Result<Vec<u64>, ReadError> {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        let mut firsts = Vec::with_capacity(topic.partitions.len());
        for part in &topic.partitions {
            let found = broker.streams().by_time(part, ms).await?;
            firsts.push(found.map_or_else(|| part.visible_end(), |e| e.offset));
        }
        Ok(firsts)
    }
}

/// What the broker keeps in memory for subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    filters: Mutex<HashMap<ObjectId, Option<Arc<Pattern>>>>,
    kept: Mutex<Kept>,
}

/// Records out of compressed batches, the oldest first.
#[derive(Debug, Default)]
struct Kept {
    records: BTreeMap<(LogId, u64), Arc<Taken>>,
    order: VecDeque<(LogId, u64)>,
    bytes: usize,
}

/// A record as a message.
#[derive(Clone, Debug)]
struct Taken {
    new: NewMessage,
    enqueued_ms: u64,
}

impl Taken {
    fn bytes(&self) -> usize {
        self.new.message.payload.as_ref().map_or(0, bytes::Bytes::len) + KEPT_RECORD_BYTES
    }
}

impl Subscriptions {
    fn filter(&self, def: &QueueDef) -> Option<Arc<Pattern>> {
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if filters.len() >= FILTERS_MAX && !filters.contains_key(&def.id) {
            filters.clear();
        }
        let compile = || {
            let subscription = QueueSettings::of(def).subscription?;
            // It was one when the queue was made.
            subscription.pattern().ok().flatten().map(Arc::new)
        };
        filters.entry(def.id).or_insert_with(compile).clone()
    }

    fn find(&self, log: LogId, offset: u64) -> Option<Arc<Taken>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.records.get(&(log, offset)).map(Arc::clone)
    }

    fn keep(&self, log: LogId, offset: u64, taken: &Arc<Taken>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.records.insert((log, offset), Arc::clone(taken)).is_none() {
            kept.bytes += taken.bytes();
            kept.order.push_back((log, offset));
        }
        while kept.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = kept.order.pop_front() else { break };
            kept.bytes -= kept.records.remove(&oldest).map_or(0, |t| t.bytes());
        }
    }
}

/// The partition that a subscription's lane is, and its topic.
fn partition(broker: &Broker, def: &QueueDef, lane: u16) -> Option<(Arc<Topic>, Arc<PartitionView>)> {
    let source = def.source.as_ref()?;
    let catalogue = broker.catalogue();
    let topic = catalogue.by_uuid.get(&source.uuid)?;
    let part = topic.partitions.get(usize::from(lane))?;
    Some((Arc::clone(topic), Arc::clone(part)))
}

impl Broker {
    /// Reads records for a window, and leaves out what the filter does.
    pub(crate) async fn read_records(&self, asked: ReadWindow) -> RecordsRead {
        let found = self.queue_by_id(asked.queue).and_then(|d| Some((partition(self, &d, asked.lane)?, d)));
        let records = match found {
            Some(((topic, part), def)) => self.records(&asked, &topic, part, &def).await,
            // The queue went, or is about to.
            None => Err(ReadError::Closed),
        };
        RecordsRead { asked, records }
    }

    async fn records(
        &self,
        asked: &ReadWindow,
        topic: &Topic,
        part: Arc<PartitionView>,
        def: &QueueDef,
    ) -> Result<Records, ReadError> {
        let filter = self.subscriptions().filter(def);
        let log = part.log;
        let mut reader = RecordReader::new(part, asked.from);
        let mut records = Records { next: asked.from, ..Records::default() };
        let (mut looked_at, mut bytes) = (0, 0);
        while records.taken.len() < asked.max_entries
            && looked_at < READ_RECORDS_MAX
            && bytes < READ_BYTES_MAX
        {
            let got = match reader.take(self.streams()).await {
                Ok(Some(got)) => got,
                Ok(None) => break,
                // What was read so far is of use; the error comes again, if it is there to stay.
                Err(_) if records.next > asked.from => break,
                Err(e) => return Err(e),
            };
            looked_at += 1;
            match got {
                Got::Record { offset, .. } if offset >= asked.end => break,
                Got::Record { offset, new, enqueued_ms, inflated } => {
                    let at = At { topic: &topic.def.name, partition: u32::from(asked.lane), offset };
                    let size = new.message.payload.as_ref().map_or(0, bytes::Bytes::len);
                    bytes += size;
                    let meant = filter
                        .as_ref()
                        .is_none_or(|f| f.matches(&Seen::new(&new.message, at)).unwrap_or(false));
                    if meant {
                        let expiry_ms = new.ttl_ms.map(|ttl| enqueued_ms.saturating_add(ttl));
                        let bytes = u32::try_from(size).unwrap_or(u32::MAX);
                        records.taken.push(Record { offset, bytes, enqueued_ms, expiry_ms });
                        if inflated {
                            let taken = Arc::new(Taken { new: *new, enqueued_ms });
                            self.subscriptions().keep(log, offset, &taken);
                        }
                    }
                    records.next = offset + 1;
                }
                Got::Unreadable { first, end, why } => {
                    tracing::warn!(
                        queue = def.name,
                        topic = topic.def.name,
                        partition = asked.lane,
                        first,
                        end,
                        why,
                        "records cannot be taken out of their batch and are left out"
                    );
                    let end = end.min(asked.end);
                    records.unreadable.push((first, end));
                    records.next = end;
                }
            }
        }
        // What was passed at the end without a record: a hole.
        records.next = records.next.max(reader.next().min(asked.end));
        Ok(records)
    }

    /// The records at these places of subscriptions, in the same order.
    pub(crate) async fn read_taken(&self, places: &[Place]) -> Vec<Result<QueueMessage, BodyError>> {
        let sorted: BTreeSet<Place> = places.iter().copied().collect();
        let mut found: BTreeMap<Place, Result<QueueMessage, BodyError>> = BTreeMap::new();
        let mut open: Option<((ObjectId, u16), RecordReader)> = None;
        for place in sorted {
            let (queue, lane, offset) = place;
            let part = self.queue_by_id(queue).and_then(|def| partition(self, &def, lane));
            let Some((topic, part)) = part else {
                found.insert(place, Err(BodyError::Gone));
                continue;
            };
            let log = part.log;
            let taken = if let Some(taken) = self.subscriptions().find(log, offset) {
                Ok(taken)
            } else {
                let goes_on = |o: &((ObjectId, u16), RecordReader)| {
                    o.0 == (queue, lane) && (o.1.next()..=o.1.next() + APART_MAX).contains(&offset)
                };
                let mut reader = match open.take().filter(goes_on) {
                    Some((_, reader)) => reader,
                    None => RecordReader::new(part, offset),
                };
                let taken = self.record_at(&mut reader, log, offset).await;
                open = Some(((queue, lane), reader));
                taken
            };
            found.insert(place, taken.map(|taken| message(&topic, log, offset, &taken)));
        }
        places.iter().map(|p| found.get(p).cloned().unwrap_or(Err(BodyError::Gone))).collect()
    }

    /// The record at an offset at or past where a reader stands; what lies before it in its batch may be wanted next.
    async fn record_at(
        &self,
        reader: &mut RecordReader,
        log: LogId,
        offset: u64,
    ) -> Result<Arc<Taken>, BodyError> {
        loop {
            match reader.take(self.streams()).await.map_err(BodyError::Read)? {
                Some(Got::Record { offset: at, new, enqueued_ms, inflated }) => {
                    let taken = Arc::new(Taken { new: *new, enqueued_ms });
                    if inflated {
                        self.subscriptions().keep(log, at, &taken);
                    }
                    if at == offset {
                        return Ok(taken);
                    }
                    if at > offset {
                        return Err(BodyError::Gone);
                    }
                }
                Some(Got::Unreadable { end, .. }) if end > offset => return Err(BodyError::Gone),
                Some(Got::Unreadable { .. }) => {}
                None => return Err(BodyError::Gone),
            }
        }
    }
}

/// A record as the message that consumers get. Its home is the partition: it is the same message in every subscription.
fn message(topic: &Topic, log: LogId, offset: u64, taken: &Taken) -> QueueMessage {
    let Taken { new, enqueued_ms } = taken;
    let mut message = new.message.clone();
    if message.exchange.is_empty() && message.routing_key.is_empty() {
        message.routing_key.clone_from(&topic.def.name);
    }
    let max_ts_ms = timestamp_ms(&message).unwrap_or(-1);
    QueueMessage {
        message,
        enqueued_ms: *enqueued_ms,
        expiry_ms: new.ttl_ms.map(|ttl| enqueued_ms.saturating_add(ttl)),
        priority: new.priority,
        transient: new.transient,
        origin: Some((log, offset)),
        max_ts_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin_is_said_and_read_alike() {
        for begin in [Begin::Earliest, Begin::Latest, Begin::Offset(7), Begin::TimeMs(1_700_000_000_000)] {
            assert_eq!(begin.to_string().parse(), Ok(begin));
        }
        for wrong in ["", "first", "offset:", "offset:-1", "time:now", "7"] {
            assert_eq!(wrong.parse::<Begin>(), Err(BeginError(wrong.to_owned())));
        }
    }
}
