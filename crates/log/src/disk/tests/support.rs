//! An open log with a replay that remembers everything, and short ways to write and read.

use std::sync::Arc;

use bytes::Bytes;
use millstream_env::Env;
use millstream_env::sim::SimDisk;
use millstream_types::{ConnId, Epoch, LogId, Lsn};

use crate::api::*;
use crate::disk::DiskLog;

/// What replay said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub epoch: u64,
    pub effects: Vec<(u64, Vec<u8>, Vec<u8>)>,
    pub appends: Vec<(u64, LogId, u64, u32, Vec<u8>)>,
    pub trims: Vec<(u64, LogId, u64)>,
    pub ends: Vec<u64>,
}

impl Replay for Memory {
    fn begin(&mut self, _: Arc<dyn StateReader>, epoch: Epoch) {
        self.epoch = epoch.0;
    }
    fn effect(&mut self, lsn: Lsn, object: &[u8], bytes: &[u8]) {
        self.effects.push((lsn.0, object.to_vec(), bytes.to_vec()));
    }
    fn append(&mut self, lsn: Lsn, e: EntryHead<'_>) {
        self.appends.push((lsn.0, e.log, e.pos, e.count, e.attrs.to_vec()));
    }
    fn trim(&mut self, lsn: Lsn, log: LogId, before: u64) {
        self.trims.push((lsn.0, log, before));
    }
    fn delete(&mut self, lsn: Lsn, log: LogId) {
        self.trims.push((lsn.0, log, u64::MAX));
    }
    fn record_end(&mut self, lsn: Lsn) {
        self.ends.push(lsn.0);
    }
}

pub struct Log {
    pub o: Opened,
    pub seen: Memory,
}

/// Small files, so that tests cross them.
pub fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 1 << 20,
        reserve_bytes: 4 << 20,
        ready_files: 1,
        tail_bytes: 256 << 10,
        ..LogConfig::default()
    }
}

pub fn env_on(disk: &Arc<SimDisk>) -> Env {
    let (env, _, _) = Env::sim(1);
    env.with_disk(Arc::<SimDisk>::clone(disk))
}

pub fn open_with(env: Env, cfg: &LogConfig) -> Result<Log, OpenError> {
    let mut seen = Memory::default();
    let o = DiskLog::new(env).open(cfg, &mut seen)?;
    Ok(Log { o, seen })
}

pub fn try_open(disk: &Arc<SimDisk>) -> Result<Log, OpenError> {
    open_with(env_on(disk), &config())
}

pub fn open(disk: &Arc<SimDisk>) -> Log {
    try_open(disk).unwrap()
}

pub fn block_on<F: std::future::Future>(f: F) -> F::Output {
    struct Park(std::thread::Thread);
    impl std::task::Wake for Park {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Park(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut f = std::pin::pin!(f);
    loop {
        match f.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(out) => return out,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

impl Log {
    pub fn permit(&self) -> Permit {
        block_on(self.o.gate.admit(Class::Publish, 1 << 10)).unwrap()
    }

    /// Sequences without waiting.
    pub fn put(&mut self, record: &[Op<'_>]) -> u64 {
        let permit = self.permit();
        let lsn = self.o.sequencer.sequence(permit, record, Some(ConnId(1)));
        self.o.sequencer.end_turn();
        lsn.0
    }

    pub fn wait(&self, lsn: u64) -> Result<(), Lost> {
        block_on(self.o.marks.reached(Lsn(lsn)))
    }

    /// Appends one entry and waits until it is durable.
    pub fn append(&mut self, log: u64, pos: u64, body: &[u8]) -> u64 {
        let body = [Bytes::copy_from_slice(body)];
        let lsn = self.put(&[append_op(log, pos, &body)]);
        self.wait(lsn).unwrap();
        lsn
    }

    /// Everything in a log from `from` on, at a level.
    pub fn read_at(&self, log: u64, from: u64, level: Level) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
        let lim = Limits { max_bytes: 1 << 30, max_entries: usize::MAX, end_pos: u64::MAX };
        let (mut from, mut all) = (from, Vec::new());
        loop {
            let batch = match self.o.reader.read(LogId(log), from, lim, level) {
                ReadOutcome::Ready(b) => b?,
                ReadOutcome::Cold(b) => block_on(b)?,
            };
            if batch.entries.is_empty() {
                return Ok(all);
            }
            all.extend(batch.entries.iter().map(|e| (e.pos, e.body.to_vec())));
            from = batch.next;
        }
    }

    pub fn read(&self, log: u64) -> Vec<(u64, Vec<u8>)> {
        let start = self.o.reader.bounds(LogId(log)).start;
        self.read_at(log, start, Level::Durable).unwrap()
    }
}

pub fn append_op(log: u64, pos: u64, body: &[Bytes]) -> Op<'_> {
    Op::Append { log: LogId(log), pos, count: 1, max_ts_ms: pos as i64, attrs: b"attr", body }
}
