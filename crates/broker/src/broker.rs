//! The broker itself: opened over a log, cloned freely, closed once.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use millstream_engine::catalogue::{Snapshot, Topic, TopicDef};
use millstream_engine::queue::api::QueueDef;
use millstream_engine::queue::directory::Directory;
use millstream_engine::queue::policy::Ordering as KeyOrder;
use millstream_engine::{Engine, EngineConfig};
use millstream_env::{Env, OpenMode};
use millstream_log::{
    Gate, LogStats, LogStore, Lost, Marks, OpenError, OpenReport, Opened, Room, StoreError, Watermarks,
};
use millstream_types::limits::ATTRS_BYTES_MAX;
use millstream_types::{ConnId, Epoch, LogId, Lsn, Namespace};
use tokio::sync::Notify;

use crate::auth::{Action, Authorizer, Decision, Principal, Resource};
use crate::bridge::Bridges;
use crate::config::BrokerConfig;
use crate::envelope::{Message, property};
use crate::error::CallError;
use crate::key_from::KeyFrom;
use crate::mailbox::Mailbox;
use crate::policy::{self, SettingInfo, TopicPolicy};
use crate::publish::NewMessage;
use crate::redrive_tasks::Redrives;
use crate::secret::{Secret, write_once};
use crate::session::{Session, SessionOptions};
use crate::streams::Streams;
use crate::subscription::Subscriptions;
use crate::time::BrokerClock;
use crate::turn::{self, Sequencer, Shared};
use crate::users::Users;

/// A running broker. Cheap to clone. Call [`Broker::close`] to stop it cleanly.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    cfg: BrokerConfig,
    env: Env,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    marks: Arc<dyn Watermarks>,
    streams: Streams,
    users: Arc<Users>,
    /// Who decides, if not the users' permissions.
    auth: Option<Box<dyn Authorizer>>,
    cluster_id: String,
    secret: Secret,
    epoch: Epoch,
    report: OpenReport,
    stats: Arc<LogStats>,
    next_conn: AtomicU64,
    bridges: Bridges,
    redrives: Redrives,
    subscriptions: Subscriptions,
    closing: AtomicBool,
    closed: Notify,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("cluster_id", &self.inner.cluster_id).finish_non_exhaustive()
    }
}

/// What an append's operation has besides the body, at most: its header, and the engine's attributes.
const APPEND_OVERHEAD_BYTES: usize = ATTRS_BYTES_MAX + 64;

/// The file in the data directory that holds the broker's public id.
const CLUSTER_ID_FILE: &str = "cluster-id";

impl Broker {
    /// Opens the log, replays what is needed, and starts to serve. Blocks while it replays: call it from a blocking thread if
    /// others wait. Must be called within a tokio runtime: retention runs as a task there.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was overwritten.
    pub fn open(cfg: BrokerConfig, env: Env, store: &dyn LogStore) -> Result<Self, OpenError> {
        Self::open_deciding(cfg, env, store, None)
    }

    /// As [`Broker::open`], with somebody else than the users' permissions to decide who may do what.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with(
        cfg: BrokerConfig,
        env: Env,
        store: &dyn LogStore,
        auth: Box<dyn Authorizer>,
    ) -> Result<Self, OpenError> {
        Self::open_deciding(cfg, env, store, Some(auth))
    }

    fn open_deciding(
        cfg: BrokerConfig,
        env: Env,
        store: &dyn LogStore,
        auth: Option<Box<dyn Authorizer>>,
    ) -> Result<Self, OpenError> {
        let mut engine = Engine::new(EngineConfig {
            producer_expiry_ms: cfg.producer_expiry_ms,
            offsets_retention_ms: cfg.offsets_retention_ms,
            group_initial_rebalance_delay_ms: cfg.group_initial_rebalance_delay_ms,
            ..EngineConfig::default()
        });
        let opened = store.open(&cfg.log, &mut engine)?;
        let Opened { epoch, sequencer, gate, reader, marks, sink, rows: _, report, stats } = opened;
        if !report.unclean {
            engine.stopped_cleanly();
        }
        let cluster_id = cluster_id(&env)?;
        let users = Arc::new(Users::open(&env)?);
        let secret = Secret::open(&env)?;
        let clock = BrokerClock::new(Arc::clone(&env.clock));
        engine
            .serve(clock.now())
            .map_err(|e| StoreError { file: "the engine's state".to_owned(), cause: e.to_string() })?;
        engine.durable(marks.get().durable);
        let shared = Arc::new(Shared::new(clock, engine.queues(), cfg.transient_bytes_max));
        shared.set_catalogue(engine.snapshot());
        shared.published.set(marks.get().durable);
        let news = Arc::clone(&shared);
        marks.on_durable(Arc::new(move |_, _| news.inbox.nudge()));
        let news = Arc::clone(&shared);
        sink.on_wanted(Arc::new(move || news.inbox.nudge()));
        let sequencer = Sequencer::new(
            engine,
            sequencer,
            Arc::clone(&gate),
            Arc::clone(&marks),
            sink,
            Arc::clone(&shared),
        );
        let thread = std::thread::Builder::new()
            .name("sequencer".to_owned())
            .spawn(move || turn::run(sequencer))
            .map_err(|source| OpenError::Io { file: "the sequencer's thread".to_owned(), source })?;
        let inner = Inner {
            streams: Streams::new(reader),
            shared,
            gate,
            marks,
            users,
            auth,
            cluster_id,
            secret,
            epoch,
            report,
            stats,
            next_conn: AtomicU64::new(1),
            bridges: Bridges::default(),
            redrives: Redrives::default(),
            subscriptions: Subscriptions::default(),
            closing: AtomicBool::new(false),
            closed: Notify::new(),
            thread: Mutex::new(Some(thread)),
            cfg,
            env,
        };
        let broker = Self { inner: Arc::new(inner) };
        tokio::spawn(crate::retention::run(broker.clone()));
        tokio::spawn(crate::windows::run(broker.clone()));
        tokio::spawn(crate::mover::run(broker.clone()));
        tokio::spawn(crate::owners::run(broker.clone()));
        tokio::spawn(crate::bridge::worker::start_all(broker.clone()));
        tokio::spawn(crate::redrive_tasks::resume_all(broker.clone()));
        Ok(broker)
    }

    /// A session for somebody in a namespace.
    #[must_use]
    pub fn session(&self, who: Principal, ns: Namespace, options: SessionOptions) -> Session {
        let conn = ConnId(self.inner.next_conn.fetch_add(1, Ordering::Relaxed));
        let mailbox = Arc::new(Mailbox::new(conn, Arc::clone(&self.inner.shared.published)));
        Session::new(self.clone(), who, ns, options, mailbox)
    }

    /// The catalogue at this moment.
    #[must_use]
    pub fn catalogue(&self) -> Arc<Snapshot> {
        self.inner.shared.catalogue()
    }
    /// Reading.
    #[must_use]
    pub fn streams(&self) -> &Streams {
        &self.inner.streams
    }
    pub(crate) fn subscriptions(&self) -> &Subscriptions {
        &self.inner.subscriptions
    }
    /// The settings.
    #[must_use]
    pub fn config(&self) -> &BrokerConfig {
        &self.inner.cfg
    }
    /// The broker's public id: 22 characters, the same for the life of the data directory.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.inner.cluster_id
    }
    /// The public id of the message whose first home this is: the same wherever the message is moved to, and after a restart.
    #[must_use]
    pub fn message_id(&self, home: (LogId, u64)) -> [u8; 16] {
        self.inner.secret.message_id(home)
    }
    /// A key for one purpose, derived from the store's secret: the same for the life of the data directory.
    #[must_use]
    pub fn derived_key(&self, purpose: &str) -> [u8; 16] {
        self.inner.secret.key(purpose)
    }
    /// What these queues know a message again by, if one of them watches ids: the hash that it brings, or else that of its deduplication
    /// id. By whatever protocol an id comes, it has the same hash, for the life of the data directory.
    pub(crate) fn id_hash<'a>(
        &self,
        new: &NewMessage,
        queues: impl IntoIterator<Item = &'a QueueDef>,
    ) -> Option<u128> {
        if !queues.into_iter().any(|q| q.policy.id_window_ms.is_some()) {
            return None;
        }
        let id = || new.message.properties.iter().find(|p| p.0 == property::DEDUPLICATION_ID);
        new.dedup.or_else(|| id().map(|(_, id)| self.inner.secret.id_hash(id)))
    }
    /// The hash of a message's key, if one of these queues orders by it.
    pub(crate) fn key_hash<'a>(
        &self,
        key: Option<&Bytes>,
        queues: impl IntoIterator<Item = &'a QueueDef>,
    ) -> Option<u64> {
        let mut queues = queues.into_iter();
        let key = key.filter(|_| queues.any(|q| q.policy.ordering != KeyOrder::None))?;
        Some(self.inner.secret.key_hash(key))
    }
    /// The hash of the key that a message without one has in a queue, if the queue goes by keys and says where it finds them.
    pub(crate) fn key_hash_in(&self, message: &Message, queue: &QueueDef) -> Option<u64> {
        if queue.policy.ordering == KeyOrder::None || message.key.is_some() {
            return None;
        }
        Some(self.inner.secret.key_hash(&KeyFrom::of(queue).find(message)?))
    }
    /// The log's epoch: grows with each opening.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }
    /// What opening did.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }
    /// What the log did since.
    #[must_use]
    pub fn log_stats(&self) -> &LogStats {
        &self.inner.stats
    }
    /// How far records have come.
    #[must_use]
    pub fn marks(&self) -> Marks {
        self.inner.marks.get()
    }
    /// Whether the log is lost: nothing more can be committed, the process should end.
    #[must_use]
    pub fn lost(&self) -> Option<Lost> {
        self.inner.marks.lost()
    }
    /// Whether publishing is stopped because the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.inner.gate.is_full()
    }
    /// What the disk has room for, as last looked at.
    #[must_use]
    pub fn room(&self) -> Room {
        self.inner.gate.room()
    }
    /// Records refused so far for want of room on the disk.
    #[must_use]
    pub fn refused_for_room(&self) -> u64 {
        self.inner.gate.refused()
    }
    /// Ids of messages that are remembered, so that one which comes again is known; at most
    /// [`IDS_MAX`](millstream_engine::queue::ids::IDS_MAX).
    #[must_use]
    pub fn ids_remembered(&self) -> usize {
        self.shared().ids.load(Ordering::Relaxed)
    }
    /// Bytes that messages of transient queues take in memory.
    #[must_use]
    pub fn transient_bytes(&self) -> u64 {
        self.shared().transient.bytes()
    }
    /// Whether nothing more is published to transient queues, because they take as much memory as they may.
    #[must_use]
    pub fn is_transient_full(&self) -> bool {
        self.shared().transient.is_full()
    }
    /// Largest body of one append, bytes: what the log takes as one operation, whatever a topic's settings allow.
    #[must_use]
    pub fn append_bytes_max(&self) -> usize {
        self.inner.gate.op_bytes_max() - APPEND_OVERHEAD_BYTES
    }
    /// The topics that hold most, with their bytes, largest first: what to delete or trim to get room.
    #[must_use]
    pub fn largest_topics(&self, topics_max: usize) -> Vec<(String, u64)> {
        let catalogue = self.catalogue();
        let bytes = |t: &Arc<Topic>| t.partitions.iter().map(|p| self.streams().bytes(p)).sum::<u64>();
        let mut all: Vec<_> = catalogue.by_name.values().map(|t| (t.def.name.clone(), bytes(t))).collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(topics_max);
        all
    }
    /// Wall-clock time, milliseconds since the epoch.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.inner.env.clock.wall_ms()
    }
    /// Whether `who` may do `action` to `what`.
    #[must_use]
    pub fn authorized(&self, who: &Principal, action: Action, what: &Resource) -> bool {
        let auth: &dyn Authorizer = self.inner.auth.as_deref().unwrap_or(&*self.inner.users);
        auth.check(who, action, what) == Decision::Allow
    }
    /// Who may log in, and what each may do.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.inner.users
    }
    /// The policy that a topic's settings come to.
    #[must_use]
    pub fn topic_policy(&self, topic: &Topic) -> TopicPolicy {
        policy::resolve(&topic.def.settings, &self.inner.cfg)
    }
    /// All settings of a topic with the values in force; of none: the defaults.
    #[must_use]
    pub fn describe_settings(&self, def: Option<&TopicDef>) -> Vec<SettingInfo> {
        match def {
            Some(def) => policy::describe(&def.settings, &self.inner.cfg),
            None => policy::describe(&std::collections::BTreeMap::new(), &self.inner.cfg),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.inner.shared
    }
    /// Resolves when `lsn` is durable.
    pub(crate) async fn durable(&self, lsn: Lsn) -> Result<(), CallError> {
        self.inner.marks.reached(lsn).await.map_err(|_| CallError::FateUnknown)
    }
    pub(crate) fn bridges_live(&self) -> &Bridges {
        &self.inner.bridges
    }
    pub(crate) fn redrives(&self) -> &Redrives {
        &self.inner.redrives
    }
    pub(crate) fn directory(&self) -> &Directory {
        &self.inner.shared.directory
    }
    /// The broker's time, by which leases, delays and expiry are reckoned, milliseconds since the epoch: never goes back.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.inner.shared.clock.now().wall_ms
    }
    pub(crate) fn gate(&self) -> &Gate {
        &self.inner.gate
    }
    /// A random (version 4) UUID.
    pub(crate) fn new_uuid(&self) -> [u8; 16] {
        uuid4(&self.inner.env)
    }

    /// Resolves when the broker is closed.
    pub async fn closed(&self) {
        let closed = self.inner.closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        if !self.inner.closing.load(Ordering::SeqCst) {
            closed.await;
        }
    }

    /// Stops cleanly: what was submitted is decided, made durable and answered; engine state is saved, so that the next opening
    /// replays nothing; reads that have begun are waited for. Blocks until done; then the data directory is free to be opened again, by this
    /// process too, and further operations and reads get `Closed`. Harmless when called again.
    pub fn close(&self) {
        self.inner.closing.store(true, Ordering::SeqCst);
        self.inner.closed.notify_waiters();
        self.inner.shared.inbox.stop();
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(t) = thread
            && t.join().is_err()
        {
            tracing::error!("the sequencer ended by a panic");
        }
        self.inner.gate.close();
        self.inner.streams.reader().close();
    }
}

fn uuid4(env: &Env) -> [u8; 16] {
    let mut id = [0; 16];
    env.rng.fill(&mut id);
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// Reads the broker's public id, or makes one. (The store's own uuid stays secret: it seeds checksums.)
fn cluster_id(env: &Env) -> Result<String, OpenError> {
    let io = |source| OpenError::Io { file: CLUSTER_ID_FILE.to_owned(), source };
    match env.disk.open(CLUSTER_ID_FILE, OpenMode::Read) {
        Ok(file) => {
            let mut id = vec![0; 22];
            let read = file.read_at(0, &mut id).map_err(io)?;
            match String::from_utf8(id) {
                Ok(id)
                    if read == 22
                        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') =>
                {
                    Ok(id)
                }
                _ => Err(OpenError::Foreign {
                    file: CLUSTER_ID_FILE.to_owned(),
                    detail: "not an id of 22 letters and digits".to_owned(),
                }),
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let id = base64url(&uuid4(env));
            write_once(env, CLUSTER_ID_FILE, "cluster-id.new", id.as_bytes())?;
            Ok(id)
        }
        Err(e) => Err(io(e)),
    }
}

/// 16 bytes as 22 characters.
fn base64url(id: &[u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(*id);
    (0..22u32)
        .map(|i| {
            let digit = if i == 21 { bits << 4 & 0x3f } else { bits >> (122 - 6 * i) & 0x3f };
            usize::try_from(digit).ok().and_then(|d| DIGITS.get(d)).map_or('A', |b| char::from(*b))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bytes_become_twenty_two_characters_as_in_rfc_4648() {
        assert_eq!(base64url(&[0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base64url(&[255; 16]), "_____________________w");
        let ascending: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(base64url(&ascending), "AAECAwQFBgcICQoLDA0ODw");
    }
}
