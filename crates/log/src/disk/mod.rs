//! The log on disk. Start at [`DiskLog`].
//!
//! One [`writer::Writer`] encodes records into the open frame, one [`committer::Committer`] writes frames and syncs, the
//! [`pool::ReadyPool`] prepares files ahead, [`reader::DiskReader`] reads. What they share is [`core::Core`].

mod adopt;
mod ballast;
mod below;
mod blocks;
mod chunks;
mod cold;
mod committer;
mod core;
mod entries;
pub(crate) mod events;
pub(crate) mod file;
mod frames;
mod keeper;
mod marks;
mod merge;
mod nostore;
mod patience;
mod pieces;
pub(crate) mod place;
pub(crate) mod pool;
mod reader;
pub(crate) mod readers;
mod rebuild;
mod recover;
mod room;
mod sink;
pub(crate) mod tail;
#[cfg(test)]
mod tests;
mod watchdog;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread::JoinHandle;

use millstream_env::Env;
use millstream_types::Epoch;

use self::ballast::Ballast;
use self::blocks::Blocks;
use self::chunks::Chunks;
use self::cold::Cold;
use self::committer::Committer;
use self::core::{Core, Open, Vital};
use self::keeper::{Keeper, Kept};
use self::marks::MarkSet;
use self::merge::Merging;
use self::nostore::NoStore;
use self::patience::Turns;
use self::place::Place;
use self::reader::DiskReader;
use self::readers::ReaderThreads;
use self::recover::{Recovered, meta, recover};
use self::sink::Sink;
use self::watchdog::Watch;
use self::writer::Writer;
use crate::api::{
    Desk, Gate, LogConfig, LogStats, LogStore, OpenError, Opened, Replay, StateReader, StateSink,
};
use crate::bugs::Bugs;
use crate::format::header::Meta;
use crate::format::rows::{END_KEY, EndRow, META_KEY, MetaRow};
use crate::space::Account;
use crate::store::{STATE_DIR, StoreKind};

/// Writes that the committer is ahead of the keeper at most.
const EVENTS_QUEUED_MAX: usize = 1024;
/// What an operation must leave of half a segment file: headers, padding, and the index.
const OP_OVERHEAD_BYTES: u64 = 64 << 10;

/// A log in a data directory: segment files, a lock, and `meta`.
///
/// # Durability
/// A record is durable when one `fdatasync` after the write of its last frame has returned. An error of a write or a sync
/// ends the log ([`Watermarks::lost`](crate::Watermarks::lost)); the process is to end then, with exit code 74.
pub struct DiskLog {
    env: Env,
    store: Option<StoreKind>,
    bugs: Bugs,
}

impl DiskLog {
    /// A log at the root of the environment's disk, with its rows in Fjall. Nothing is touched before it is opened. A simulated
    /// disk has no room for Fjall: there it keeps no rows, replays everything and frees nothing ([`DiskLog::with_store`] does).
    #[must_use]
    pub fn new(env: Env) -> Self {
        let store = env.disk.real_root().map(|_| StoreKind::Fjall);
        Self { env, store, bugs: Bugs::default() }
    }

    /// A log that keeps its rows in a store of this kind.
    #[must_use]
    pub fn with_store(env: Env, store: StoreKind) -> Self {
        Self { env, store: Some(store), bugs: Bugs::default() }
    }

    /// The same with a promise broken on purpose. Only where debug assertions are on.
    #[cfg(all(feature = "deliberate_bugs", debug_assertions))]
    #[must_use]
    pub fn with_bug(self, bug: crate::Bug) -> Self {
        Self { bugs: Bugs::with(bug), ..self }
    }

    /// Opens the state store and reads what it says of the log.
    fn kept(&self, meta: &Meta) -> Result<Option<Kept>, OpenError> {
        let Some(kind) = &self.store else { return Ok(None) };
        let store = kind.open(&*self.env.disk, meta.reserve_bytes)?;
        let uuid = *meta.store.uuid();
        let meta = match store.get(META_KEY)? {
            Some(row) => MetaRow::decode(&row)?,
            None => MetaRow { uuid, floor: 1, object_floor: 1, ..MetaRow::default() },
        };
        if meta.uuid != uuid {
            let detail = "its rows are those of another log".to_owned();
            return Err(OpenError::Foreign { file: STATE_DIR.to_owned(), detail });
        }
        let mut account = Account::load(Arc::clone(&store), meta.space_lsn)?;
        account.bugs = self.bugs.clone();
        let tombstones = keeper::tombstones(&*store)?;
        let end = store.get(END_KEY)?.map(|row| EndRow::decode(&row)).transpose()?;
        Ok(Some(Kept { store, meta, account, end, sealed: HashMap::new(), tombstones }))
    }
}

impl LogStore for DiskLog {
    fn open(&self, cfg: &LogConfig, replay: &mut dyn Replay) -> Result<Opened, OpenError> {
        let lock = meta::lock(&self.env.disk)?;
        let least = self.store.as_ref().map_or(0, StoreKind::least_bytes);
        let (meta, made) = meta::open(&self.env, cfg, least)?;
        let sizes = meta::sizes(&meta, cfg, least);
        let op_bytes_max = usize::try_from(meta.segment_bytes / 2 - OP_OVERHEAD_BYTES).unwrap_or(usize::MAX);
        let gate = Arc::new(Gate::new(cfg.inflight_bytes).with_op_bytes_max(op_bytes_max));
        // Opening the store may take room: it clears up what the last run left.
        let free = self.env.disk.space().map_err(meta::io(""))?.free_bytes;
        if free < sizes.store_bytes(0, 0) {
            let ballast = Ballast::new(Arc::clone(&self.env.disk), sizes.ballast_bytes());
            ballast.give().map_err(meta::io(""))?;
        }
        let mut kept = self.kept(&meta)?;
        let sink = kept.as_ref().map(|k| Arc::new(Sink::new(Arc::clone(&k.store), sizes.batch_bytes())));
        let rows: Arc<dyn StateReader> = match &sink {
            Some(sink) => Arc::clone(sink) as Arc<_>,
            None => Arc::new(NoStore),
        };
        let recovered = recover(&self.env, &meta, (sizes, &gate), Arc::clone(&rows), kept.as_mut(), replay)?;
        if made {
            recovered.pool.fill().map_err(meta::no_room(sizes.needed_bytes()))?;
        }
        let store = kept.as_ref().map(|k| Arc::downgrade(&k.store));
        recovered.pool.begin(store).map_err(meta::io(""))?;
        let keeping = match kept.zip(sink) {
            Some((kept, sink)) => {
                let next_pack = merge::clean(&*self.env.disk, &kept.account)?;
                Some((kept, sink, next_pack))
            }
            None => None,
        };
        start(&self.env, &meta, cfg, gate, recovered, (lock, self.bugs.clone()), rows, keeping)
            .map_err(meta::io("the log's threads"))
    }
}

#[expect(clippy::too_many_arguments, reason = "what opening found, once")]
fn start(
    env: &Env,
    meta: &Meta,
    cfg: &LogConfig,
    gate: Arc<Gate>,
    r: Recovered,
    (lock, bugs): (Box<dyn Send + Sync>, Bugs),
    rows: Arc<dyn StateReader>,
    keeping: Option<(Kept, Arc<Sink>, u64)>,
) -> io::Result<Opened> {
    let place = Place::start(Arc::clone(&r.file), r.use_no);
    let blocks = Blocks::new(cfg.tail_bytes + cfg.inflight_bytes);
    let open = Open {
        queue: VecDeque::new(),
        cur: None,
        place,
        blocks,
        puts: Vec::new(),
        sequenced: r.next - 1,
        kick: false,
        idle: false,
        stop: false,
    };
    let core = Arc::new(Core {
        store: meta.store,
        epoch: r.epoch,
        marks: Arc::new(MarkSet::at(r.next - 1)),
        gate,
        watch: Watch::new(Arc::clone(&env.clock)),
        pool: r.pool,
        readers: ReaderThreads::start()?,
        chunks: Arc::new(Chunks::default()),
        tail_bytes: cfg.tail_bytes,
        open: Mutex::new(open),
        work: Condvar::new(),
        turns: Turns::default(),
        handing: Mutex::new(()),
        tail: RwLock::new(r.tail),
        _lock: lock,
        space_ops_behind: AtomicUsize::new(0),
        index_behind: AtomicBool::new(false),
        bugs,
    });
    let (mut cold, mut events, mut keeper, mut writers) = (None, None, None, None);
    let stats: Arc<LogStats> = Arc::default();
    let mut sink: Arc<dyn StateSink> = Arc::new(NoStore);
    if let Some((kept, rows, next_pack)) = keeping {
        let files: Vec<_> = kept.account.adopted_files().map(|(id, row)| (id, *row)).collect();
        let disk = Arc::clone(&env.disk);
        let of = (meta.store, meta.segment_bytes);
        let shelf = Cold::new(Arc::clone(&kept.store), disk, of, files.into_iter());
        let shelf = Arc::new(shelf);
        cold = Some(Arc::clone(&shelf));
        sink = Arc::clone(&rows) as Arc<_>;
        writers = Some(Arc::clone(&rows));
        let cfg = LogConfig { segment_bytes: meta.segment_bytes, ..cfg.clone() };
        let (disk, clock) = (Arc::clone(&env.disk), Arc::clone(&env.clock));
        let (shelves, counters, time) = (Arc::clone(&shelf), Arc::clone(&stats), Arc::clone(&clock));
        let merging = Merging::start(&core, Arc::clone(&disk), &cfg, shelves, counters, next_pack, time)?;
        let k = Keeper::new(Arc::clone(&core), disk, clock, cfg, (rows, shelf, merging), kept, r.next - 1);
        let (tx, rx) = sync_channel(EVENTS_QUEUED_MAX);
        events = Some(tx);
        keeper = Some(spawn("log-keeper", &core, move || k.run(&rx))?);
    }
    let accounting = events.is_some();
    let committer = Committer::new(Arc::clone(&core), r.file, r.use_no, r.end, events);
    let mut threads = vec![spawn("log-committer", &core, move || committer.run())?, spawn_pool(&core)?];
    threads.extend(keeper);
    let writer = Writer::new(Arc::clone(&core), r.next, accounting, threads, writers);
    Ok(Opened {
        epoch: Epoch(r.epoch),
        sequencer: Box::new(writer),
        gate: Arc::clone(&core.gate),
        reader: Arc::new(Desk::new(DiskReader { core: Arc::clone(&core), cold })),
        marks: Arc::clone(&core.marks) as Arc<_>,
        sink,
        rows,
        report: r.report,
        stats,
    })
}

fn spawn(
    name: &'static str,
    core: &Arc<Core>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let vital = Vital(Arc::clone(core), name);
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _vital = vital;
        run();
    })
}

/// Keeps files ready, watches the room, and watches over the store.
fn spawn_pool(core: &Arc<Core>) -> io::Result<JoinHandle<()>> {
    let of = Arc::clone(core);
    spawn("log-ready-pool", core, move || {
        let look = || {
            if let Some(cause) = of.watch.store_hangs() {
                of.lose(format!("{STATE_DIR}: {cause}"));
            }
        };
        if let Err(e) = of.pool.run(&look) {
            of.lose(format!("{}: a file cannot be prepared: {e}", file::SEG_DIR));
        }
    })
}
