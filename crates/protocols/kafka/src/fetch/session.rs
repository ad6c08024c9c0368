//! Incremental fetch sessions (KIP-227): the broker remembers what a client reads, so that a request names only what changed and a
//! response only what is new.
//!
//! Epochs: a request with epoch 0 asks for a new session, with -1 for none; both end the session that they name. Otherwise the
//! epoch must be the one after the last request's (error 71), of a session that exists (70). Start at [`Sessions::begin`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::FetchPartition;
use millstream_broker::PartitionView;
use tokio::time::Instant;

use super::read::PartRead;
use crate::connection::Conn;

const EPOCH_INITIAL: i32 = 0;
const EPOCH_FINAL: i32 = -1;
/// The id of no session.
const NO_SESSION: i32 = 0;
/// A session that was used so lately is not ended to make room for another.
const EVICT_IDLE_MIN: Duration = Duration::from_mins(2);

/// A topic as the client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TopicKey {
    Name(Arc<str>),
    Id([u8; 16]),
}

/// A partition as the client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) topic: TopicKey,
    pub(super) partition: i32,
}

/// What is asked of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) offset: i64,
    pub(super) max_bytes: i32,
    pub(super) current_epoch: i32,
    pub(super) last_fetched_epoch: i32,
}

/// A partition of a fetch.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) key: Key,
    pub(super) asked: Asked,
    /// High watermark and start as the client was last told; `None` = tell it.
    told: Option<(i64, i64)>,
    pub(super) view: Result<Arc<PartitionView>, ResponseError>,
}

impl Part {
    /// Whether there is something to read.
    pub(super) fn has_more(&self) -> bool {
        let offset = u64::try_from(self.asked.offset).unwrap_or(u64::MAX);
        self.view.as_ref().is_ok_and(|view| offset < view.visible_end())
    }
}

#[derive(Debug, Default)]
struct Parts {
    map: IndexMap<Key, Part>,
    /// Where the next pass begins: behind the last part that gave something.
    from: usize,
    /// Version of the catalogue that the views are of.
    resolved_at: Option<u64>,
}

impl Parts {
    fn put(&mut self, topic: &TopicKey, asked: &FetchPartition) {
        let key = Key { topic: topic.clone(), partition: asked.partition };
        let asked = Asked {
            offset: asked.fetch_offset,
            max_bytes: asked.partition_max_bytes,
            current_epoch: asked.current_leader_epoch,
            last_fetched_epoch: asked.last_fetched_epoch,
        };
        if let Some(part) = self.map.get_mut(&key) {
            part.asked = asked;
            return;
        }
        self.resolved_at = None;
        let view = Err(ResponseError::UnknownTopicOrPartition);
        self.map.insert(key.clone(), Part { key, asked, told: None, view });
    }

    fn update(&mut self, req: &FetchRequest, by_id: bool) {
        let key = |name: &str, id: uuid::Uuid| {
            if by_id { TopicKey::Id(*id.as_bytes()) } else { TopicKey::Name(Arc::from(name)) }
        };
        for topic in &req.topics {
            let key = key(&topic.topic, topic.topic_id);
            for partition in &topic.partitions {
                self.put(&key, partition);
            }
        }
        for topic in &req.forgotten_topics_data {
            let topic_key = key(&topic.topic, topic.topic_id);
            for partition in &topic.partitions {
                self.map.swap_remove(&Key { topic: topic_key.clone(), partition: *partition });
            }
        }
        if self.from >= self.map.len() {
            self.from = 0;
        }
    }
}

/// The sessions of a listener.
pub(crate) struct Sessions {
    inner: Mutex<Inner>,
    most: usize,
    partitions_max: usize,
}

#[derive(Default)]
struct Inner {
    kept: HashMap<i32, Kept>,
    partitions: usize,
    given: u32,
}

struct Kept {
    /// The epoch that the next request must have.
    epoch: i32,
    by_id: bool,
    /// `None` while a fetch uses them.
    parts: Option<Parts>,
    /// Partitions, as counted in `Inner::partitions`.
    size: usize,
    last_used: Instant,
}

impl Inner {
    fn remove(&mut self, id: i32) {
        if let Some(s) = self.kept.remove(&id) {
            self.partitions -= s.size;
        }
    }

    /// An id that no session has. A multiplication by an odd number modulo 2^31 gives each id once before it gives one again.
    fn new_id(&mut self) -> i32 {
        loop {
            self.given = self.given.wrapping_add(1);
            let id = self.given.wrapping_mul(0x5851_F42D) & 0x7fff_ffff;
            let id = i32::try_from(id).unwrap_or(1);
            if id != NO_SESSION && !self.kept.contains_key(&id) {
                return id;
            }
        }
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

enum Kind {
    /// No session, and none wanted (or no longer).
    Sessionless,
    /// A session is wanted.
    New,
    /// A session's.
    Incremental(i32),
}

impl Sessions {
    pub(crate) fn new(most: usize, partitions_max: usize) -> Self {
        Self { inner: Mutex::default(), most, partitions_max }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a request reads, as Kafka's `FetchManager.newContext` decides it.
    ///
    /// # Errors
    /// 70, 71 or 106: the whole request fails.
    pub(super) fn begin(
        self: &Arc<Self>,
        req: &FetchRequest,
        by_id: bool,
    ) -> Result<Fetching, ResponseError> {
        let fetching = |kind, parts| Fetching { sessions: Arc::clone(self), kind, by_id, parts };
        if req.session_epoch == EPOCH_INITIAL || req.session_epoch == EPOCH_FINAL {
            if req.session_id != NO_SESSION {
                self.lock().remove(req.session_id);
            }
            let mut parts = Parts::default();
            parts.update(req, by_id);
            let kind = if req.session_epoch == EPOCH_FINAL { Kind::Sessionless } else { Kind::New };
            return Ok(fetching(kind, parts));
        }
        let mut inner = self.lock();
        let session = inner.kept.get_mut(&req.session_id).ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.epoch != req.session_epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        let mut parts = session.parts.take().ok_or(ResponseError::InvalidFetchSessionEpoch)?;
        parts.update(req, by_id);
        session.epoch = next_epoch(session.epoch);
        session.last_used = Instant::now();
        let (before, now) = (session.size, parts.map.len());
        session.size = now;
        inner.partitions = inner.partitions - before + now;
        if parts.map.is_empty() {
            inner.remove(req.session_id);
            return Ok(fetching(Kind::Sessionless, parts));
        }
        if now > before && inner.partitions > self.partitions_max {
            inner.remove(req.session_id);
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        Ok(fetching(Kind::Incremental(req.session_id), parts))
    }

    /// Keeps `parts` as a new session; 0 if there is no room.
    fn create(&self, parts: Parts, by_id: bool) -> i32 {
        let size = parts.map.len();
        let mut inner = self.lock();
        while inner.kept.len() >= self.most || inner.partitions + size > self.partitions_max {
            let oldest = inner.kept.iter().min_by_key(|(_, s)| s.last_used).map(|(id, s)| (*id, s.last_used));
            match oldest {
                Some((id, used)) if used.elapsed() >= EVICT_IDLE_MIN => inner.remove(id),
                _ => return NO_SESSION,
            }
        }
        let id = inner.new_id();
        inner.partitions += size;
        let epoch = next_epoch(EPOCH_INITIAL);
        inner.kept.insert(id, Kept { epoch, by_id, parts: Some(parts), size, last_used: Instant::now() });
        id
    }

    fn put_back(&self, id: i32, parts: Parts) {
        let mut inner = self.lock();
        if let Some(session) = inner.kept.get_mut(&id) {
            session.parts = Some(parts);
            session.last_used = Instant::now();
        }
    }
}

/// A fetch at work. Dropped halfway, it gives its session's parts back.
pub(super) struct Fetching {
    sessions: Arc<Sessions>,
    kind: Kind,
    by_id: bool,
    parts: Parts,
}

impl Fetching {
    pub(super) fn len(&self) -> usize {
        self.parts.map.len()
    }
    pub(super) fn part(&self, index: usize) -> Option<&Part> {
        self.parts.map.get_index(index).map(|(_, part)| part)
    }
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.map.values()
    }
    /// The indices of all parts, in the order to read them.
    pub(super) fn turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (from, len) = (self.parts.from, self.parts.map.len());
        (from..len).chain(0..from)
    }

    /// Looks the parts up in the catalogue, if it changed since.
    pub(super) fn resolve(&mut self, conn: &Conn) {
        let catalogue = conn.broker.catalogue();
        if self.parts.resolved_at == Some(catalogue.version) {
            return;
        }
        for part in self.parts.map.values_mut() {
            part.view = super::resolve(conn, &catalogue, part);
        }
        self.parts.resolved_at = Some(catalogue.version);
    }

    /// The parts to answer: all, or within a session those with news. Remembers what the client is told.
    pub(super) fn choose(&mut self, reads: &[PartRead]) -> Vec<(usize, Key)> {
        let incremental = matches!(self.kind, Kind::Incremental(_));
        let mut chosen = Vec::new();
        let mut from = self.parts.from;
        for index in self.turn() {
            let (Some((_, part)), Some(read)) = (self.parts.map.get_index_mut(index), reads.get(index))
            else {
                continue;
            };
            let state = (read.high_watermark, read.log_start);
            let news =
                read.error != 0 || read.bytes > 0 || read.diverging.is_some() || part.told != Some(state);
            if read.bytes > 0 {
                from = index + 1;
            }
            if news || !incremental {
                chosen.push((index, part.key.clone()));
            }
            // After an error the state is told again.
            part.told = (read.error == 0).then_some(state);
        }
        self.parts.from = if from >= self.parts.map.len() { 0 } else { from };
        chosen
    }

    /// Keeps the session, or makes it; the id to answer.
    pub(super) fn keep(mut self, sessions: &Sessions) -> i32 {
        match self.kind {
            Kind::Sessionless => NO_SESSION,
            Kind::Incremental(id) => id,
            Kind::New => {
                let parts = std::mem::take(&mut self.parts);
                sessions.create(parts, self.by_id)
            }
        }
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        if let Kind::Incremental(id) = self.kind {
            self.sessions.put_back(id, std::mem::take(&mut self.parts));
        }
    }
}

#[cfg(test)]
mod tests;
