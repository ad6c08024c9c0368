//! The committer's thread: all that waits into one write and one `fdatasync`, then everybody who waited is told. No timer: the
//! next write forms while the sync runs. An error is never retried; it ends the log. Start at [`Committer::run`].

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use millstream_env::AlignedBuf;
use millstream_types::{ConnId, LogId, Lsn};

use super::core::{Core, Frame};
use super::events::{SealedFile, SpaceEvent, SpaceOp};
use super::file::{SegFile, path};
use super::patience::Patience;
use super::place::End;
use crate::api::{Class, Level, Permit};
use crate::bugs::Bug;
use crate::format::bytes::{align4k, len64};
use crate::format::frame::{CONTINUES_IN, FRAME_HEADER_BYTES, FrameHeader, MARKER, finish, finish_from};
use crate::format::header::{BLOCK_BYTES, FRAMES_OFFSET, LINK_OFFSET};
use crate::format::link::Link;
use crate::format::rows::EndRow;

/// Most bytes of frames in one write, unless one frame has more.
const WRITE_BYTES_MAX: usize = 8 << 20;
/// Operations told and not accounted for, above which publishers get their room back only with the accounting: so that it does not
/// fall behind without bound where each message is many operations. About 100 bytes each.
const SPACE_OPS_BEHIND_MAX: usize = 200_000;

/// The thread's own state.
pub(crate) struct Committer {
    core: Arc<Core>,
    /// The file written last.
    file: Arc<SegFile>,
    use_no: u64,
    /// Where the log ends in it.
    end: End,
    /// First and last LSN of which a part lies in it; 0 = none yet.
    lsns: (u64, u64),
    space: Option<SyncSender<SpaceEvent>>,
    patience: Patience,
    /// Bytes of the last write.
    written: usize,
}

/// Frames on their way to the disk, and what is owed once they are durable.
#[derive(Default)]
struct Write {
    offset: u64,
    /// With the link frame first, if the file is new.
    pieces: Vec<Bytes>,
    complete: u64,
    permits: Vec<Permit>,
    waiters: Vec<ConnId>,
    trims: Vec<(LogId, u64)>,
    space: Vec<(Lsn, SpaceOp)>,
    /// Told once it is durable: before that, no row may lead to the new file.
    events: Vec<SpaceEvent>,
}

impl Committer {
    /// A committer that goes on at `end` in a file that holds at least its link frame.
    pub(crate) fn new(
        core: Arc<Core>,
        file: Arc<SegFile>,
        use_no: u64,
        end: End,
        space: Option<SyncSender<SpaceEvent>>,
    ) -> Self {
        Self { core, file, use_no, end, lsns: (0, 0), space, patience: Patience::default(), written: 0 }
    }

    /// Writes until it is told to stop and nothing is left, or the log is lost.
    pub(crate) fn run(mut self) {
        while self.wait() {
            let core = Arc::clone(&self.core);
            // Readers that miss a frame in `open` wait for this before they look in the tail.
            let handing = core.handing();
            let frames = Self::take(&core);
            let write = self.hand_over(frames);
            drop(handing);
            if let Err(e) = self.commit(write) {
                let at = path(self.file.id);
                let after = core.marks.level(Level::Durable);
                core.lose(format!("{at}: writing or syncing the records after {after} failed: {e}"));
            }
        }
        let end = self.close();
        self.tell(SpaceEvent::Stop(end));
    }

    /// All that was sequenced is durable: says where the log ends, and gives the last file away as full.
    fn close(&mut self) -> Option<EndRow> {
        if self.core.marks.is_lost() {
            return None;
        }
        if let Err(e) = self.mark_end() {
            self.core.lose(format!("{}: the last write failed: {e}", path(self.file.id)));
            return None;
        }
        self.tell(SpaceEvent::Sealed(self.sealed()));
        let End { lap, offset, crc } = self.end;
        Some(EndRow { lap, offset, crc, lsn: self.core.marks.level(Level::Durable) })
    }

    /// Nothing more is written to the file, and all of it is durable.
    fn sealed(&self) -> SealedFile {
        self.file.set_sealed();
        let (first_lsn, last_lsn) = (Lsn(self.lsns.0), Lsn(self.lsns.1));
        let (file, lap, frames_end) = (self.file.id, self.file.lap, self.end.offset);
        SealedFile { file, lap, first_lsn, last_lsn, frames_end }
    }

    fn tell(&self, event: SpaceEvent) {
        if let Some(space) = &self.space {
            let _ = space.send(event);
        }
    }

    /// Waits for frames; `false` when there is nothing more to do.
    fn wait(&mut self) -> bool {
        let core = Arc::clone(&self.core);
        let mut open = core.open();
        loop {
            if self.core.marks.is_lost() {
                return false;
            }
            if !open.queue.is_empty() || (open.cur.is_some() && (open.kick || open.stop)) {
                // What the sequencer is about to add goes into the same write, if it is not large anyway. Where much less is left than
                // just became durable, more may come back at once.
                let small = open.queue.is_empty() && !open.stop;
                let left = open.cur.as_ref().map_or(0, |f| f.buf.len());
                drop(open);
                if small {
                    self.patience.wait(&self.core.turns, left < self.written / 2);
                }
                return true;
            }
            if open.stop {
                return false;
            }
            open.kick = false;
            open.idle = true;
            open = self.core.work.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the frames of one write: whole ones, of one file.
    fn take(core: &Core) -> Vec<Frame> {
        let open = &mut *core.open();
        // What is durable must be in the index.
        core.show(open);
        let queued: usize = open.queue.iter().map(|f| align4k(f.buf.len())).sum();
        if queued < WRITE_BYTES_MAX && (open.kick || open.stop) {
            open.close();
            open.kick = false;
        }
        let (mut bytes, mut n) = (0, 0);
        let use_no = open.queue.front().map_or(0, |f| f.use_no);
        for f in &open.queue {
            bytes += align4k(f.buf.len());
            if f.use_no != use_no || (n > 0 && bytes > WRITE_BYTES_MAX) {
                break;
            }
            n += 1;
        }
        open.queue.drain(..n).collect()
    }

    /// Fills the headers, now that the sync before has returned, and gives the frames to readers.
    fn hand_over(&mut self, frames: Vec<Frame>) -> Write {
        let core = Arc::clone(&self.core);
        let durable_lsn = core.bugs.durable_lsn(core.marks.level(Level::Durable));
        let mut write = Write::default();
        let Some(first) = frames.first() else { return write };
        write.offset = first.offset;
        if first.use_no != self.use_no {
            self.go_on_in(first, durable_lsn, &mut write);
        }
        let mut ready = Vec::with_capacity(frames.len());
        for frame in frames {
            let Frame {
                mut buf, offset, number, flags, first_lsn, begins, touched, complete, summed, ..
            } = frame;
            let (lap, epoch) = (self.file.lap, core.epoch);
            let header = FrameHeader {
                lap,
                epoch,
                first_lsn,
                durable_lsn,
                begins,
                number,
                flags,
                ..FrameHeader::default()
            };
            let crc = finish_from(summed, header, &core.store, &mut buf);
            buf.resize(align4k(buf.len()), 0);
            self.end = End { lap, offset: offset + len64(buf.len()), crc };
            if self.lsns.0 == 0 {
                self.lsns.0 = touched;
            }
            self.lsns.1 = touched;
            let data = buf.freeze();
            write.pieces.push(data.clone());
            ready.push((offset, data));
            write.complete = complete;
            frame.permits.into_iter().for_each(|p| p.gather(&mut write.permits));
            write.waiters.extend(frame.waiters);
            write.trims.extend(frame.trims);
            if write.space.is_empty() {
                write.space = frame.space;
            } else {
                write.space.extend(frame.space);
            }
        }
        self.written = write.pieces.iter().map(Bytes::len).sum();
        let mut tail = core.tail_mut();
        for (offset, data) in ready {
            tail.add_frame(self.use_no, offset, data);
        }
        write
    }

    /// The first frame of a new file: the one before is full and durable. Its end goes into the link frame.
    fn go_on_in(&mut self, first: &Frame, durable_lsn: u64, write: &mut Write) {
        write.events.push(SpaceEvent::Sealed(self.sealed()));
        let last_lsn = Lsn(self.lsns.1);
        let continues = first.flags & CONTINUES_IN != 0;
        let first_lsn = if continues { last_lsn } else { Lsn(first.first_lsn) };
        write.events.push(SpaceEvent::Began { file: first.file.id, lap: first.file.lap, first_lsn });
        (self.file, self.use_no, self.lsns) = (Arc::clone(&first.file), first.use_no, (0, 0));
        debug_assert_eq!(first.offset, FRAMES_OFFSET);
        let block = link_block(&self.core, self.file.lap, self.end, first.first_lsn, durable_lsn).0;
        write.offset = LINK_OFFSET;
        write.pieces.push(Bytes::from_owner(block));
    }

    fn commit(&self, mut write: Write) -> io::Result<()> {
        let core = &self.core;
        if write.pieces.is_empty() {
            return Ok(());
        }
        let slices: Vec<IoSlice<'_>> = write.pieces.iter().map(|p| IoSlice::new(p)).collect();
        let (done, slow_ms) = core.watch.sync(|| {
            self.file.direct.write_at(write.offset, &slices)?;
            core.marks.set_written(write.complete);
            if core.bugs.has(Bug::AnswersEarly) {
                core.marks.set_durable(write.complete);
            }
            if core.bugs.has(Bug::SkipsSync) { Ok(()) } else { self.file.direct.sync_data() }
        });
        done?;
        if let Some(ms) = slow_ms {
            let bytes: usize = write.pieces.iter().map(Bytes::len).sum();
            tracing::warn!(
                file = path(self.file.id),
                ms,
                bytes,
                "the disk is slow: a write and its sync took more than 1 s"
            );
        }
        if core.marks.is_lost() {
            // Those who wait were told that the fate is unknown; it stays so.
            return Ok(());
        }
        {
            let mut tail = core.tail_mut();
            for (log, before) in write.trims {
                tail.trim(log, before);
            }
            tail.frames_mut().evict(core.tail_bytes);
            core.marks.set_durable(write.complete);
        }
        if self.space.is_some() {
            write.events.drain(..).for_each(|e| self.tell(e));
            let behind = core.space_ops_behind.fetch_add(write.space.len(), Ordering::AcqRel);
            let in_time = behind < SPACE_OPS_BEHIND_MAX && !core.index_behind.load(Ordering::Acquire);
            let (held, free) = if in_time {
                (Vec::new(), write.permits)
            } else {
                write.permits.into_iter().partition(|permit| permit.class == Class::Publish)
            };
            drop(free);
            self.tell(SpaceEvent::Records { upto: Lsn(write.complete), ops: write.space, held });
        }
        write.waiters.sort_unstable();
        write.waiters.dedup();
        core.marks.wake(&write.waiters);
        Ok(())
    }

    /// A clean end: one empty frame says that all before it is durable, so the next opening writes nothing again.
    fn mark_end(&mut self) -> io::Result<()> {
        let core = Arc::clone(&self.core);
        let open = core.open();
        let lsn = core.marks.level(Level::Durable);
        if open.place.use_no != self.use_no || !open.place.holds(FRAME_HEADER_BYTES, &open.place.footer) {
            return Ok(());
        }
        let (offset, number) = (open.place.offset, open.place.number);
        drop(open);
        let mut buf = AlignedBuf::with_capacity(BLOCK_BYTES);
        buf.resize_zeroed(FRAME_HEADER_BYTES);
        let header = FrameHeader {
            lap: self.file.lap,
            epoch: core.epoch,
            first_lsn: lsn + 1,
            durable_lsn: lsn,
            number,
            flags: MARKER,
            ..FrameHeader::default()
        };
        let crc = finish(header, &core.store, &mut buf);
        buf.resize_zeroed(BLOCK_BYTES);
        self.file.direct.write_at(offset, &[IoSlice::new(&buf)])?;
        self.file.direct.sync_data()?;
        self.end = End { lap: self.file.lap, offset: offset + len64(BLOCK_BYTES), crc };
        Ok(())
    }
}

/// The link frame of a lap in a block of its own, and its header checksum.
fn link_block(core: &Core, lap: u64, prev: End, first_lsn: u64, durable_lsn: u64) -> (AlignedBuf, u32) {
    link_frame(&core.store, lap, core.epoch, prev, first_lsn, durable_lsn)
}

/// The link frame of a lap, ready to be written, and its header checksum.
pub(crate) fn link_frame(
    store: &crate::format::ids::StoreId,
    lap: u64,
    epoch: u64,
    prev: End,
    first_lsn: u64,
    durable_lsn: u64,
) -> (AlignedBuf, u32) {
    let mut block = AlignedBuf::with_capacity(BLOCK_BYTES);
    block.resize_zeroed(BLOCK_BYTES);
    let link = Link { prev_lap: prev.lap, prev_end: prev.offset, prev_crc: prev.crc, first_lsn };
    let crc = link.encode(store, lap, epoch, durable_lsn, &mut block);
    (block, crc)
}
