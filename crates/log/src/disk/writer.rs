//! [`Writer`]: the sequencer's end of the log. It gives LSNs and encodes records into the open frame; it does no I/O, and waits
//! only for a ready file if none was prepared in time. Start at [`Writer::sequence`].

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;

use millstream_types::limits::{ATTRS_BYTES_MAX, FANOUT_MAX, OP_BYTES_MAX, RECORD_BYTES_MAX, RECORD_OPS_MAX};
use millstream_types::{ConnId, LogId, Lsn};

use super::core::{Core, Frame, Open, Put};
use super::events::{Addr, SpaceOp};
use super::place::{FooterRoom, Place};
use super::sink::Sink;
use super::tail::IndexEntry;
use crate::api::{Op, Permit, Sequence};
use crate::format::bytes::{align8, len32};
use crate::format::frame::{CONTINUES_IN, CONTINUES_OUT, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, Summed};
use crate::format::op::{SUMMED_FROM, content_len, encode, encoded_len};
use crate::format::part::{PART_HEADER_BYTES, PartHeader, PartKind};

/// First position of the last entry of each log that has any in the file being written: what its footer will need.
#[derive(Default)]
struct Heads {
    use_no: u64,
    last: HashMap<LogId, u64, foldhash::fast::RandomState>,
}

impl Heads {
    fn last(&self, use_no: u64, log: LogId) -> Option<u64> {
        if self.use_no == use_no { self.last.get(&log).copied() } else { None }
    }

    fn set(&mut self, use_no: u64, log: LogId, pos: u64) {
        if self.use_no != use_no {
            self.use_no = use_no;
            self.last.clear();
        }
        self.last.insert(log, pos);
    }
}

/// From so many bytes on, the checksum that an entry has is taken into the frame's: below, reading them once more costs less.
const JOINED_BYTES_MIN: usize = 512;

/// The exclusive writing end. Dropping it writes and syncs what was sequenced.
pub(crate) struct Writer {
    core: Arc<Core>,
    next: u64,
    heads: Heads,
    /// Whether anyone accounts for space.
    accounting: bool,
    /// Of the record being encoded; kept for their memory.
    lens: Vec<usize>,
    puts: Vec<Put>,
    trims: Vec<(LogId, u64)>,
    space: Vec<(Lsn, SpaceOp)>,
    threads: Vec<JoinHandle<()>>,
    /// Closed once all is written, if there is a state store.
    rows: Option<Arc<Sink>>,
}

/// A stretch of a record that goes into one frame.
struct Stretch {
    from: usize,
    to: usize,
    bytes: usize,
    footer: FooterRoom,
}

impl Writer {
    pub(crate) fn new(
        core: Arc<Core>,
        next: u64,
        accounting: bool,
        threads: Vec<JoinHandle<()>>,
        rows: Option<Arc<Sink>>,
    ) -> Self {
        let heads = Heads::default();
        let (lens, puts, trims, space) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { core, next, heads, accounting, lens, puts, trims, space, threads, rows }
    }

    /// Checks the limits and notes each operation's padded length; gives their sum.
    fn measure(&mut self, record: &[Op<'_>]) -> usize {
        assert!(record.len() <= RECORD_OPS_MAX, "a record of {} operations", record.len());
        self.lens.clear();
        let mut total = 0;
        for op in record {
            match op {
                Op::Append { count, attrs, .. } => assert!(*count > 0 && attrs.len() <= ATTRS_BYTES_MAX),
                Op::FanOut { to, attrs, .. } => {
                    assert!((1..=FANOUT_MAX).contains(&to.len()) && attrs.len() <= ATTRS_BYTES_MAX);
                }
                _ => {}
            }
            let len = align8(encoded_len(op));
            assert!(len <= OP_BYTES_MAX, "an operation of {len} bytes");
            self.lens.push(len);
            total += len;
        }
        assert!(total <= RECORD_BYTES_MAX, "a record of {total} bytes");
        total
    }

    /// As many operations from `from` on as fit the open frame, or (`fresh`) a new one at the place.
    fn stretch(&self, open: &Open, record: &[Op<'_>], from: usize, fresh: bool) -> Stretch {
        let (used, room) = match &open.cur {
            Some(frame) if !fresh => (frame.buf.len(), frame.room()),
            _ => (FRAME_HEADER_BYTES, FRAME_BYTES_MAX),
        };
        let used = used + PART_HEADER_BYTES;
        let mut s = Stretch { from, to: from, bytes: 0, footer: open.place.footer };
        for (op, len) in record.iter().zip(&self.lens).skip(from) {
            let grown = used + s.bytes + len;
            // An operation larger than a frame gets one of its own.
            let alone = fresh && s.to == from;
            let mut footer = s.footer;
            self.add_to_footer(open.place.use_no, op, &mut footer);
            if (grown > room && !alone) || !open.place.holds(grown, &footer) {
                break;
            }
            (s.to, s.bytes, s.footer) = (s.to + 1, s.bytes + len, footer);
        }
        s
    }

    fn add_to_footer(&self, use_no: u64, op: &Op<'_>, footer: &mut FooterRoom) {
        let mut add = |log: LogId, pos: u64, count: u32| {
            let last = self.heads.last(use_no, log);
            footer.add(last.map(|last| pos.saturating_sub(last)), count);
        };
        match op {
            Op::Append { log, pos, count, .. } => add(*log, *pos, *count),
            Op::FanOut { to, .. } => to.iter().for_each(|(log, pos)| add(*log, *pos, 1)),
            _ => {}
        }
    }

    /// Finds room for operations from `from` on: in the open frame, a new one, or the next file. `None` if the log was lost.
    fn room<'c>(
        &self,
        core: &'c Core,
        mut open: MutexGuard<'c, Open>,
        record: &[Op<'_>],
        from: usize,
    ) -> Option<(MutexGuard<'c, Open>, Stretch)> {
        let enough = |s: &Stretch| s.to > from || record.is_empty();
        let (used, room) =
            open.cur.as_ref().map_or((usize::MAX, 0), |f| (f.buf.len() + PART_HEADER_BYTES, f.room()));
        if used <= room && open.place.holds(used, &open.place.footer) {
            let s = self.stretch(&open, record, from, false);
            if enough(&s) {
                return Some((open, s));
            }
        }
        open.close();
        let mut moved = false;
        loop {
            let s = self.stretch(&open, record, from, true);
            if enough(&s) && open.place.holds(FRAME_HEADER_BYTES + PART_HEADER_BYTES + s.bytes, &s.footer) {
                return Some((open, s));
            }
            assert!(!moved, "an operation does not fit an empty segment file");
            moved = true;
            let file = if let Some(file) = core.pool.try_take() {
                file
            } else {
                // Waiting holds no lock: the committer goes on.
                drop(open);
                core.work.notify_all();
                let file = core.pool.take()?;
                open = core.open();
                file
            };
            let use_no = open.place.use_no + 1;
            core.tail_mut().add_file(use_no, Arc::clone(&file));
            open.place = Place::start(file, use_no);
        }
    }

    fn start_frame(&self, open: &mut Open, bytes: usize, first_lsn: u64, complete: u64) -> Frame {
        let summed = Summed::new(&self.core.store, open.place.file.lap);
        let need = FRAME_HEADER_BYTES + PART_HEADER_BYTES + bytes;
        let mut buf = open.blocks.take(need);
        buf.resize(FRAME_HEADER_BYTES, 0);
        Frame {
            buf,
            file: Arc::clone(&open.place.file),
            use_no: open.place.use_no,
            offset: open.place.offset,
            number: open.place.number,
            flags: 0,
            first_lsn,
            begins: 0,
            touched: 0,
            complete,
            summed,
            permits: Vec::new(),
            waiters: Vec::new(),
            trims: Vec::new(),
            space: Vec::new(),
        }
    }

    /// Encodes a stretch as one part.
    fn encode(&mut self, frame: &mut Frame, lsn: u64, record: &[Op<'_>], s: &Stretch, total: usize) {
        let (begins, ends) = (s.from == 0, s.to == record.len());
        if frame.touched == 0 && !begins {
            frame.flags |= CONTINUES_IN;
        }
        if !ends {
            frame.flags |= CONTINUES_OUT;
        }
        frame.touched = lsn;
        frame.begins += u32::from(begins);
        let header = PartHeader {
            len: len32(s.bytes),
            kind: PartKind::new(begins, ends),
            lsn,
            total_len: len32(total),
            n_ops: len32(s.to - s.from),
        };
        header.encode(&mut frame.buf);
        let base = u32::try_from(frame.offset).expect("segment files are at most 1 GiB");
        for op in record.iter().take(s.to).skip(s.from) {
            let at = frame.buf.len();
            let sum = encode(op, &mut frame.buf);
            if let Some(sum) = sum.filter(|sum| sum.len >= JOINED_BYTES_MIN) {
                frame.summed.join(&frame.buf, at + SUMMED_FROM, sum.len, sum.crc);
            }
            self.note(frame, lsn, op, base + len32(at));
        }
    }

    /// Notes what an operation changes in the index, in visibility and in space.
    fn note(&mut self, frame: &Frame, lsn: u64, op: &Op<'_>, offset: u32) {
        match op {
            Op::Append { log, pos, count, max_ts_ms, attrs, body } => {
                let (at, content) = ((offset, len32(encoded_len(op))), content_len(attrs, body));
                self.put(frame, lsn, *log, IndexEntry::new(*pos, *count, *max_ts_ms, at), content);
            }
            Op::FanOut { to, max_ts_ms, attrs, body } => {
                let (at, content) = ((offset, len32(encoded_len(op))), content_len(attrs, body));
                for (log, pos) in *to {
                    self.put(frame, lsn, *log, IndexEntry::new(*pos, 1, *max_ts_ms, at), content);
                }
            }
            Op::Retire { log, runs } => {
                if self.accounting {
                    self.space.push((Lsn(lsn), SpaceOp::Retire { log: *log, runs: runs.to_vec() }));
                }
            }
            Op::Trim { log, before } => {
                self.trims.push((*log, *before));
                if self.accounting {
                    self.space.push((Lsn(lsn), SpaceOp::Trim { log: *log, before: *before }));
                }
            }
            Op::Delete { log } => {
                self.trims.push((*log, u64::MAX));
                if self.accounting {
                    self.space.push((Lsn(lsn), SpaceOp::Delete { log: *log }));
                }
            }
            Op::Effect { .. } => {}
        }
    }

    fn put(&mut self, frame: &Frame, lsn: u64, log: LogId, entry: IndexEntry, content: usize) {
        self.heads.set(frame.use_no, log, entry.pos);
        self.puts.push(Put { log, use_no: frame.use_no, lsn, entry });
        if self.accounting {
            let at = Addr { file: frame.file.id, lap: frame.file.lap, offset: entry.offset, len: entry.len };
            let (IndexEntry { pos, count, max_ts_ms, .. }, bytes) = (entry, len32(content));
            self.space.push((Lsn(lsn), SpaceOp::Append { log, pos, count, max_ts_ms, bytes, at }));
        }
    }

    fn sequence_open(
        &mut self,
        lsn: u64,
        permit: Permit,
        record: &[Op<'_>],
        waiter: Option<ConnId>,
    ) -> Option<()> {
        let total = self.measure(record);
        let core = Arc::clone(&self.core);
        let mut open = core.open();
        let (mut permit, mut from) = (Some(permit), 0);
        loop {
            let (guard, s) = self.room(&core, open, record, from)?;
            open = guard;
            let first_lsn = if from == 0 { lsn } else { lsn + 1 };
            let mut frame =
                open.cur.take().unwrap_or_else(|| self.start_frame(&mut open, s.bytes, first_lsn, lsn - 1));
            self.encode(&mut frame, lsn, record, &s, total);
            open.place.footer = s.footer;
            from = s.to;
            let done = from == record.len();
            if done {
                frame.complete = lsn;
                if let Some(permit) = permit.take() {
                    permit.gather(&mut frame.permits);
                }
                if waiter != frame.waiters.last().copied() {
                    frame.waiters.extend(waiter);
                }
                frame.trims.append(&mut self.trims);
                match self.space.as_slice() {
                    [(_, op)] if SpaceOp::take_in(&mut frame.space, op) => self.space.clear(),
                    _ => frame.space.append(&mut self.space),
                }
            }
            open.cur = Some(frame);
            if done {
                break;
            }
        }
        open.puts.append(&mut self.puts);
        open.sequenced = lsn;
        core.turns.begin();
        Some(())
    }
}

impl Sequence for Writer {
    fn sequence(&mut self, permit: Permit, record: &[Op<'_>], waiter: Option<ConnId>) -> Lsn {
        let lsn = self.next;
        self.next += 1;
        // A lost log takes and forgets: its fate is told through the watermarks.
        if !self.core.marks.is_lost() && self.sequence_open(lsn, permit, record, waiter).is_none() {
            self.puts.clear();
            self.trims.clear();
            self.space.clear();
        }
        Lsn(lsn)
    }

    fn end_turn(&mut self) {
        let mut open = self.core.open();
        self.core.show(&mut open);
        self.core.turns.end();
        if open.cur.is_some() || !open.queue.is_empty() {
            open.kick = true;
            // While it writes, it looks again before it waits.
            if std::mem::take(&mut open.idle) {
                drop(open);
                self.core.work.notify_all();
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.lose("the thread that puts records in order ended by a panic".to_owned());
        }
        self.core.turns.end();
        self.core.open().stop = true;
        self.core.work.notify_all();
        self.core.pool.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Some(rows) = self.rows.take() {
            rows.close();
        }
        self.core.gate.close();
    }
}
