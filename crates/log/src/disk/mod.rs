//! The log on disk. Start at [`DiskLog`].
//!
//! One [`writer::Writer`] encodes records into the open frame, one [`committer::Committer`] writes frames and syncs, the
//! [`pool::ReadyPool`] prepares files ahead, [`reader::DiskReader`] reads. What they share is [`core::Core`].

mod blocks;
mod committer;
mod core;
pub(crate) mod events;
pub(crate) mod file;
mod marks;
mod nostore;
pub(crate) mod place;
pub(crate) mod pool;
mod reader;
pub(crate) mod readers;
mod recover;
pub(crate) mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread::JoinHandle;

use millstream_env::Env;
use millstream_types::Epoch;

use self::blocks::Blocks;
use self::committer::Committer;
use self::core::{Core, Open, Vital};
use self::marks::MarkSet;
use self::nostore::NoStore;
use self::place::Place;
use self::pool::{OnPressure, Pressure};
use self::reader::DiskReader;
use self::readers::ReaderThreads;
use self::recover::{Recovered, meta, recover};
use self::writer::{Head, Writer};
use crate::api::{Gate, LogConfig, LogStore, OpenError, Opened, Replay, StateReader};
use crate::format::header::Meta;

const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// A log in a data directory: segment files, a lock, and `meta`.
///
/// # Durability
/// A record is durable when one `fdatasync` after the write of its last frame has returned. An error of a write or a sync
/// ends the log ([`Watermarks::lost`](crate::Watermarks::lost)); the process is to end then, with exit code 74.
pub struct DiskLog {
    env: Env,
}

impl DiskLog {
    /// A log at the root of the environment's disk. Nothing is touched before it is opened.
    #[must_use]
    pub fn new(env: Env) -> Self {
        Self { env }
    }
}

impl LogStore for DiskLog {
    fn open(&self, cfg: &LogConfig, replay: &mut dyn Replay) -> Result<Opened, OpenError> {
        let lock = meta::lock(&self.env.disk)?;
        let segment_bytes = cfg.segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX) / 4096 * 4096;
        let meta = meta::open(&self.env, segment_bytes)?;
        let rows: Arc<dyn StateReader> = Arc::new(NoStore);
        let recovered = recover(&self.env, &meta, cfg, Arc::clone(&rows), replay)?;
        start(&meta, cfg, recovered, lock, rows).map_err(meta::io("the log's threads"))
    }
}

fn start(
    meta: &Meta,
    cfg: &LogConfig,
    r: Recovered,
    lock: Box<dyn Send + Sync>,
    rows: Arc<dyn StateReader>,
) -> io::Result<Opened> {
    let head = |l: &tail::LogTail| Head {
        next: l.next,
        use_no: l.runs.back().map_or(0, |run| run.use_no),
        last_pos: l.runs.back().and_then(|run| run.entries.last()).map_or(0, |e| e.pos),
    };
    let heads: Vec<_> = r.tail.logs().map(|(id, l)| (id, head(l))).collect();
    let place = Place::start(Arc::clone(&r.file), r.use_no);
    let blocks = Blocks::new(cfg.tail_bytes + cfg.inflight_bytes);
    let open =
        Open { queue: VecDeque::new(), cur: None, place, blocks, kick: false, idle: false, stop: false };
    let core = Arc::new(Core {
        store: meta.store,
        epoch: r.epoch,
        marks: Arc::new(MarkSet::at(r.next - 1)),
        gate: Arc::new(Gate::new(cfg.inflight_bytes)),
        pool: r.pool,
        readers: ReaderThreads::start()?,
        tail_bytes: cfg.tail_bytes,
        open: Mutex::new(open),
        work: Condvar::new(),
        handing: Mutex::new(()),
        tail: RwLock::new(r.tail),
        _lock: lock,
    });
    let committer = Committer::new(Arc::clone(&core), r.file, r.use_no, r.end, None);
    let threads = vec![spawn("log-committer", &core, move || committer.run())?, spawn_pool(&core)?];
    let writer = Writer::new(Arc::clone(&core), r.next, heads.into_iter(), false, threads);
    Ok(Opened {
        epoch: Epoch(r.epoch),
        sequencer: Box::new(writer),
        gate: Arc::clone(&core.gate),
        reader: Arc::new(DiskReader { core: Arc::clone(&core) }),
        marks: Arc::clone(&core.marks) as Arc<_>,
        sink: Arc::new(NoStore),
        rows,
        report: r.report,
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

/// Keeps files ready; says to the gate when the disk is full.
fn spawn_pool(core: &Arc<Core>) -> io::Result<JoinHandle<()>> {
    let (pool, of) = (Arc::clone(core), Arc::clone(core));
    spawn("log-ready-pool", core, move || {
        let tell: OnPressure = Box::new(move |pressure| match pressure {
            Pressure::None => of.gate.set_full(false),
            Pressure::Full => of.gate.set_full(true),
            Pressure::Broken(cause) => of.lose(cause),
        });
        pool.pool.run(&tell);
    })
}
