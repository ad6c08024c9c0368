//! One record on its way into the log: what happens to which messages, gathered while deciding and written as few effects.
//!
//! Start at [`Record`]. A message has at most one action in a record. Buffers are used again: a record allocates nothing per message.

use std::ops::Range;

use bytes::Bytes;
use millstream_log::Op as LogOp;
use millstream_types::limits::FANOUT_MAX;
use millstream_types::{LogId, ObjectId};

use super::api::Cause;
use super::lane::Slot;
use super::rows::QueueRows;
use super::rows::chunk::{self, ChunkKey, Known, State, offset};
use super::rows::due::{self, DueKey};
use super::rows::head::{self, HeadKey};
use super::rows::set::CHUNK;
use crate::codec::Enc;
use crate::effect::RowEffect;
use crate::parts::Parts;
use crate::rows::RowKey;

/// More than an action adds to a record, if its chunk is named for it alone.
pub(crate) const ACTION_BYTES: usize = 180;
/// More than an action adds to what its chunk's effect says already.
const ITEM_BYTES: usize = 36;

/// What happens to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// It is handed out, or to the mover, under a new number: its payload bytes, and the key by which the queue orders it.
    Lease(Known, u32, Option<u64>),
    /// It is gone; its payload bytes.
    Settle(Cause, u32),
    /// It is something else now.
    Put(Known),
}

#[derive(Clone, Copy, Debug)]
struct Action {
    queue: ObjectId,
    lane: u16,
    pos: u64,
    act: Act,
}

/// What a lane's head needs besides what settles in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneFacts {
    /// The queue's purge.
    pub(crate) purge_no: u32,
    /// The floor that earlier records have made.
    pub(crate) floor: u64,
}

#[derive(Debug)]
enum Piece {
    Effect { key: Range<usize>, bytes: Range<usize>, transient: bool },
    Append { log: LogId, pos: u64, max_ts_ms: i64, attrs: Range<usize>, body: usize },
    FanOut { to: Range<usize>, max_ts_ms: i64, attrs: Range<usize>, body: usize, transient: bool },
    Retire { log: LogId, runs: Range<usize> },
    Trim { log: LogId, before: u64 },
    Delete { log: LogId },
}

impl Piece {
    /// Whether it is about a transient queue.
    fn is_transient(&self) -> bool {
        match self {
            Self::Effect { transient, .. } | Self::FanOut { transient, .. } => *transient,
            Self::Append { log, .. }
            | Self::Retire { log, .. }
            | Self::Trim { log, .. }
            | Self::Delete { log } => log.object().is_transient(),
        }
    }
}

/// A record being made.
#[derive(Debug, Default)]
pub(crate) struct Record {
    actions: Vec<Action>,
    action_bytes: usize,
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    refs: Vec<(LogId, u64)>,
    runs: Vec<(u64, u32)>,
    touched: Vec<(ObjectId, u16, u64)>,
    /// Delayed messages to which something happens for the first time: (row, offset).
    due_done: Vec<(DueKey, u16)>,
}

/// A body's place among those given to [`Record::ops`].
pub(crate) type BodyIndex = usize;

impl Record {
    pub(crate) fn clear(&mut self) {
        self.actions.clear();
        self.action_bytes = 0;
        self.bytes.clear();
        self.pieces.clear();
        self.refs.clear();
        self.runs.clear();
        self.touched.clear();
        self.due_done.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.actions.is_empty() && self.pieces.is_empty()
    }

    /// An upper bound of its bytes, bodies apart.
    pub(crate) fn bytes_bound(&self) -> usize {
        self.bytes.len()
            + self.action_bytes
            + self.pieces.len() * crate::effect::OP_OVERHEAD_BYTES
            + self.refs.len() * 20
            + self.runs.len() * 15
            + self.due_done.len() * 96
    }

    /// Something happens to a message.
    pub(crate) fn act(&mut self, queue: ObjectId, lane: u16, pos: u64, act: Act) {
        let chunk = |a: &Action| (a.queue, a.lane, a.pos / CHUNK);
        let joins = self.actions.last().is_some_and(|a| chunk(a) == (queue, lane, pos / CHUNK));
        self.action_bytes += if joins { ITEM_BYTES } else { ACTION_BYTES };
        self.actions.push(Action { queue, lane, pos, act });
        let place = (queue, lane, pos / CHUNK);
        if matches!(act, Act::Settle(..)) && self.touched.last() != Some(&place) {
            self.touched.push(place);
        }
    }

    /// Something happens to a message that was ready. It no longer waits for its time, if it did.
    pub(crate) fn act_on(&mut self, queue: ObjectId, lane: u16, slot: &Slot, act: Act) {
        if slot.in_due {
            self.due_done.push((DueKey::of(queue, lane, slot.pos, slot.due_ms), offset(slot.pos)));
        }
        self.act(queue, lane, slot.pos, act);
    }

    /// Chunks (queue, lane, number) in which something settles, each once.
    pub(crate) fn take_touched(&mut self) -> Vec<(ObjectId, u16, u64)> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }

    /// Gives the list back, to be used again.
    pub(crate) fn give_touched(&mut self, mut touched: Vec<(ObjectId, u16, u64)>) {
        touched.clear();
        self.touched = touched;
    }

    /// A lane whose floor is to be looked at after this record, though nothing settles in it.
    pub(crate) fn touch(&mut self, queue: ObjectId, lane: u16, chunk: u64) {
        self.touched.push((queue, lane, chunk));
    }

    /// A whole effect.
    pub(crate) fn effect(&mut self, key: &impl RowKey, put: impl FnOnce(&mut Vec<u8>)) {
        let from = self.bytes.len();
        self.bytes.push(key_family(key));
        key.put(&mut self.bytes);
        let mid = self.bytes.len();
        put(&mut self.bytes);
        let transient = key.is_transient();
        self.pieces.push(Piece::Effect { key: from..mid, bytes: mid..self.bytes.len(), transient });
    }

    /// An effect on a queue's head.
    pub(crate) fn head(&mut self, queue: ObjectId, put: impl FnOnce(&mut Vec<u8>)) {
        self.effect(&HeadKey(queue), |out| {
            out.u8(head::EFFECT_VERSION);
            put(out);
        });
    }

    /// An effect on a chunk.
    pub(crate) fn chunk(&mut self, key: &ChunkKey, purge_no: u32, put: impl FnOnce(&mut Vec<u8>)) {
        self.effect(key, |out| {
            chunk::begin(out, purge_no);
            put(out);
        });
    }

    /// An effect made elsewhere.
    pub(crate) fn made(&mut self, effect: &RowEffect) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(&effect.key);
        let mid = self.bytes.len();
        self.bytes.extend_from_slice(&effect.bytes);
        let transient = effect.transient;
        self.pieces.push(Piece::Effect { key: from..mid, bytes: mid..self.bytes.len(), transient });
    }

    /// One body in these logs, sorted: they share attrs.
    pub(crate) fn append(
        &mut self,
        to: &[(LogId, u64)],
        max_ts_ms: i64,
        put_attrs: impl FnOnce(&mut Vec<u8>),
        body: BodyIndex,
    ) {
        let from = self.bytes.len();
        put_attrs(&mut self.bytes);
        let attrs = from..self.bytes.len();
        // By their ids, transient queues stand behind all others.
        let recorded = to.partition_point(|(log, _)| !log.object().is_transient());
        let (recorded, kept) = to.split_at(recorded);
        for (to, transient) in [(recorded, false), (kept, true)] {
            for part in to.chunks(FANOUT_MAX) {
                let attrs = attrs.clone();
                if let [(log, pos)] = *part {
                    self.pieces.push(Piece::Append { log, pos, max_ts_ms, attrs, body });
                } else {
                    let from = self.refs.len();
                    self.refs.extend_from_slice(part);
                    let to = from..self.refs.len();
                    self.pieces.push(Piece::FanOut { to, max_ts_ms, attrs, body, transient });
                }
            }
        }
    }

    pub(crate) fn trim(&mut self, log: LogId, before: u64) {
        self.pieces.push(Piece::Trim { log, before });
    }

    pub(crate) fn delete(&mut self, log: LogId) {
        self.pieces.push(Piece::Delete { log });
    }

    pub(crate) fn retire(&mut self, log: LogId, runs: impl Iterator<Item = (u64, u32)>) {
        let from = self.runs.len();
        self.runs.extend(runs);
        if self.runs.len() > from {
            self.pieces.push(Piece::Retire { log, runs: from..self.runs.len() });
        }
    }

    /// Turns actions into effects: one per chunk, in it one item per run of equals; and one on the head per lane that settles something.
    /// `facts` tells what a lane's effects say beside, and learns whether its floor is said with what settles; `numbered` learns the delivery number of each message that is leased, at `now_ms`.
    pub(crate) fn seal(
        &mut self,
        rows: &QueueRows,
        now_ms: u64,
        mut facts: impl FnMut(ObjectId, u16, bool) -> LaneFacts,
        mut numbered: impl FnMut(ObjectId, u16, u64, u32),
    ) {
        let mut actions = std::mem::take(&mut self.actions);
        // Stable: of two on one message the later one counts.
        actions.sort_by_key(|a| (a.queue, a.lane, a.pos));
        for lane in actions.chunk_by(|a, b| (a.queue, a.lane) == (b.queue, b.lane)) {
            let Some(first) = lane.first() else { continue };
            let (queue, number) = (first.queue, first.lane);
            let settled = lane.iter().filter_map(|a| match a.act {
                Act::Settle(_, size) => Some((a.pos, u64::from(size))),
                _ => None,
            });
            let (n, bytes) = settled.clone().fold((0_u32, 0), |(n, all), (_, size)| (n + 1, all + size));
            let LaneFacts { purge_no, floor } = facts(queue, number, n > 0);
            for chunk in lane.chunk_by(|a, b| a.pos / CHUNK == b.pos / CHUNK) {
                self.seal_chunk(rows, (queue, number), (purge_no, now_ms), chunk, &mut numbered);
            }
            if n > 0 {
                self.head(queue, |out| head::put_settled(out, number, floor, n, bytes));
            }
            if queue.is_transient() {
                // Memory is short: it is not kept until the floor tells.
                self.retire(LogId::new(queue, number), settled.map(|(pos, _)| (pos, 1)));
            }
        }
        actions.clear();
        self.actions = actions;
        let mut done = std::mem::take(&mut self.due_done);
        done.sort_unstable();
        for row in done.chunk_by(|a, b| a.0 == b.0) {
            if let Some((key, _)) = row.first() {
                self.effect(key, |out| {
                    out.u8(due::EFFECT_VERSION);
                    due::put_done(out, row.iter().map(|d| d.1));
                });
            }
        }
        done.clear();
        self.due_done = done;
    }

    fn seal_chunk(
        &mut self,
        rows: &QueueRows,
        (queue, lane): (ObjectId, u16),
        (purge_no, now_ms): (u32, u64),
        actions: &[Action],
        numbered: &mut impl FnMut(ObjectId, u16, u64, u32),
    ) {
        let Some(first) = actions.first() else { return };
        let key = ChunkKey::of(queue, lane, first.pos);
        let mut no = rows.lease_no(&key);
        let mut told = false;
        self.chunk(&key, purge_no, |out| {
            for run in actions.chunk_by(|a, b| a.pos + 1 == b.pos && same(a.act, b.act)) {
                let Some(first) = run.first() else { continue };
                let (off, len) = (offset(first.pos), u16::try_from(run.len()).unwrap_or(u16::MAX));
                match first.act {
                    Act::Lease(known, _, key_hash) => {
                        if !told && !matches!(known.state, State::Held(_)) {
                            chunk::put_handed_out(out, now_ms);
                            told = true;
                        }
                        let sizes =
                            run.iter().map(|a| if let Act::Lease(_, bytes, _) = a.act { bytes } else { 0 });
                        chunk::put_lease(out, off, known, key_hash, sizes);
                        no = no.saturating_add(1);
                        for a in run {
                            numbered(queue, lane, a.pos, no);
                        }
                    }
                    Act::Settle(cause, _) => chunk::put_settle(out, off, len, cause as u8),
                    Act::Put(known) => chunk::put_put(out, off, len, known),
                }
            }
        });
    }

    /// The operations, with the bodies that [`Record::append`] named.
    pub(crate) fn parts<'a>(&'a self, bodies: impl Fn(BodyIndex) -> &'a [Bytes]) -> Parts<'a> {
        let bytes = |r: &Range<usize>| self.bytes.get(r.clone()).unwrap_or_default();
        let mut parts = Parts::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let op = match piece {
                Piece::Effect { key, bytes: b, .. } => LogOp::Effect { object: bytes(key), bytes: bytes(b) },
                Piece::Append { log, pos, max_ts_ms, attrs, body } => LogOp::Append {
                    log: *log,
                    pos: *pos,
                    count: 1,
                    max_ts_ms: *max_ts_ms,
                    attrs: bytes(attrs),
                    body: bodies(*body),
                },
                Piece::FanOut { to, max_ts_ms, attrs, body, .. } => LogOp::FanOut {
                    to: self.refs.get(to.clone()).unwrap_or_default(),
                    max_ts_ms: *max_ts_ms,
                    attrs: bytes(attrs),
                    body: bodies(*body),
                },
                Piece::Retire { log, runs } => {
                    LogOp::Retire { log: *log, runs: self.runs.get(runs.clone()).unwrap_or_default() }
                }
                Piece::Trim { log, before } => LogOp::Trim { log: *log, before: *before },
                Piece::Delete { log } => LogOp::Delete { log: *log },
            };
            parts.push(op, piece.is_transient());
        }
        parts
    }
}

fn key_family<K: RowKey>(_: &K) -> u8 {
    K::FAMILY
}

/// Whether two acts of neighbours are one run.
fn same(a: Act, b: Act) -> bool {
    match (a, b) {
        (Act::Lease(a, _, k), Act::Lease(b, _, l)) => (a, k) == (b, l),
        (Act::Put(a), Act::Put(b)) => a == b,
        (Act::Settle(a, _), Act::Settle(b, _)) => a == b,
        _ => false,
    }
}
