//! [`Core`]: what the sequencer, the committer and readers share. Lock order: `open`, then `tail`; `handing` with neither.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::{Bytes, BytesMut};
use millstream_env::ALIGN;
use millstream_types::{ConnId, LogId, Lsn};

use super::blocks::Blocks;
use super::chunks::Chunks;
use super::events::SpaceOp;
use super::file::SegFile;
use super::marks::MarkSet;
use super::patience::Turns;
use super::place::Place;
use super::pool::ReadyPool;
use super::readers::ReaderThreads;
use super::tail::{IndexEntry, Tail};
use super::watchdog::Watch;
use crate::api::{Gate, Permit};
use crate::bugs::Bugs;
use crate::format::bytes::{align4k, size};
use crate::format::frame::{FRAME_BYTES_MAX, Summed};
use crate::format::ids::StoreId;

/// A frame that is being filled, or waits for the committer.
pub(crate) struct Frame {
    /// Header room, then parts. Unpadded, with room for the padding.
    pub buf: BytesMut,
    pub file: Arc<SegFile>,
    pub use_no: u64,
    pub offset: u64,
    pub number: u32,
    pub flags: u16,
    /// First LSN that begins here, else the next to begin.
    pub first_lsn: u64,
    pub begins: u32,
    /// Highest LSN of which a part lies here; 0 = none.
    pub touched: u64,
    /// Last LSN complete at the end of this frame.
    pub complete: u64,
    /// As much of its checksum as is known.
    pub summed: Summed,
    /// Of the records that end here.
    pub permits: Vec<Permit>,
    /// Who waits for records that end here; repeats are possible.
    pub waiters: Vec<ConnId>,
    /// Trims and deletions (first position that stays) of records that end here.
    pub trims: Vec<(LogId, u64)>,
    /// Space operations of records that end here.
    pub space: Vec<(Lsn, SpaceOp)>,
}

impl Frame {
    /// Bytes that the frame may have: what its memory holds, and no more than a frame should.
    pub(crate) fn room(&self) -> usize {
        self.buf.capacity().min(FRAME_BYTES_MAX)
    }

    fn bytes_of(&self, use_no: u64, e: &IndexEntry) -> Option<Bytes> {
        let at = size(u64::from(e.offset).checked_sub(self.offset)?);
        let found = self.buf.get(at..at + size(u64::from(e.len)))?;
        (self.use_no == use_no).then(|| Bytes::copy_from_slice(found))
    }
}

/// An entry that was sequenced, on its way to the index.
pub(crate) struct Put {
    pub log: LogId,
    pub use_no: u64,
    pub lsn: u64,
    pub entry: IndexEntry,
}

/// The open frame and what waits behind it.
pub(crate) struct Open {
    /// Closed frames in order.
    pub queue: VecDeque<Frame>,
    pub cur: Option<Frame>,
    pub place: Place,
    pub blocks: Blocks,
    /// Entries that are not in the index yet: they go there a turn at a time, and before the committer may have their frame.
    pub puts: Vec<Put>,
    /// Last LSN sequenced.
    pub sequenced: u64,
    /// The turn ended: the open frame may go.
    pub kick: bool,
    /// The committer waits for work.
    pub idle: bool,
    /// Write what is left, then end.
    pub stop: bool,
}

impl Open {
    /// Closes the open frame.
    pub(crate) fn close(&mut self) {
        if let Some(mut frame) = self.cur.take() {
            let padded = align4k(frame.buf.len());
            debug_assert_eq!(frame.buf.as_ptr().align_offset(ALIGN), 0, "a frame outgrew its memory");
            let rest = frame.buf.split_off(padded);
            self.blocks.give_back(&frame.buf, rest);
            self.place.advance(padded);
            self.queue.push_back(frame);
        }
    }
}

/// The shared state of an open log.
pub(crate) struct Core {
    pub store: StoreId,
    pub epoch: u64,
    pub marks: Arc<MarkSet>,
    pub gate: Arc<Gate>,
    pub pool: ReadyPool,
    pub watch: Watch,
    pub readers: ReaderThreads,
    /// For what is read from files.
    pub chunks: Arc<Chunks>,
    pub tail_bytes: usize,
    pub open: Mutex<Open>,
    /// There is work for the committer.
    pub work: Condvar,
    pub turns: Turns,
    /// Held while frames go from `open` to `tail`.
    pub handing: Mutex<()>,
    pub tail: RwLock<Tail>,
    /// The lock on the data directory; released with the last handle.
    pub _lock: Box<dyn Send + Sync>,
    /// Operations on space that the keeper was told of and has not applied.
    pub space_ops_behind: AtomicUsize,
    /// The index in memory takes more than it may, and files wait to be given theirs on disk: publishers get no room back before.
    pub index_behind: AtomicBool,
    pub bugs: Bugs,
}

/// Held by a thread that the log cannot do without: if it panics, the log is lost and everyone is told.
pub(crate) struct Vital(pub Arc<Core>, pub &'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lose(format!("the thread {} ended by a panic", self.1));
        }
    }
}

impl Core {
    pub(crate) fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tail(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tail_mut(&self) -> RwLockWriteGuard<'_, Tail> {
        self.tail.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn handing(&self) -> MutexGuard<'_, ()> {
        self.handing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log is lost for good: nothing more is written or admitted; everyone who waits is told.
    pub(crate) fn lose(&self, cause: String) {
        self.gate.close();
        self.pool.stop();
        self.marks.lose(cause);
        // Permits go with the frames.
        let dropped = {
            let mut open = self.open();
            open.puts.clear();
            (std::mem::take(&mut open.queue), open.cur.take())
        };
        drop(dropped);
        self.work.notify_all();
    }

    /// What was sequenced is in the index from now on, and shows to those who read what is not durable yet.
    ///
    /// # Panics
    /// If positions of a log did not grow.
    pub(crate) fn show(&self, open: &mut Open) {
        if !open.puts.is_empty() {
            let mut tail = self.tail_mut();
            for p in open.puts.drain(..) {
                let follows = tail.push(p.log, p.use_no, p.lsn, p.entry);
                assert!(follows, "position {} of log {} does not follow", p.entry.pos, p.log.0);
            }
        }
        self.marks.set_sequenced(open.sequenced);
    }

    /// The bytes of an entry whose record may not be written yet; `None` if they are only in the file.
    pub(crate) fn recent(&self, use_no: u64, e: &IndexEntry) -> Option<Bytes> {
        let unwritten =
            |open: &Open| open.cur.iter().chain(open.queue.iter().rev()).find_map(|f| f.bytes_of(use_no, e));
        let found = unwritten(&self.open());
        if found.is_some() {
            return found;
        }
        // It left `open` and may be on its way to the tail.
        drop(self.handing());
        self.tail().in_memory(use_no, e)
    }
}
