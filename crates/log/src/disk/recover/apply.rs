//! [`Apply`]: puts records back together from their parts and replays each that is complete, in LSN order.

use std::sync::Arc;

use millstream_types::{LogId, Lsn};

use crate::api::{EntryHead, Replay, StoreError};
use crate::disk::events::{Addr, SealedFile, SpaceOp};
use crate::disk::file::SegFile;
use crate::disk::keeper::Kept;
use crate::disk::tail::{IndexEntry, Tail};
use crate::format::bytes::{len32, size};
use crate::format::op::{Found, OpError, To, take_op};
use crate::format::part::PartHeader;
use crate::format::rows::EndRow;

/// What is being rebuilt.
pub(crate) struct Apply<'r> {
    pub tail: Tail,
    replay: &'r mut dyn Replay,
    /// The next LSN to begin.
    pub next: u64,
    pending: Option<Pending>,
    pub records: u64,
    /// The first LSN that begins in the laps walked.
    first: u64,
    kept: Option<&'r mut Kept>,
    /// Files in the order of use, with their laps.
    files: Vec<(u64, Arc<SegFile>)>,
}

/// A record begun but not finished.
struct Pending {
    lsn: u64,
    total_len: u32,
    got: usize,
    parts: Vec<Stored>,
}

struct Stored {
    use_no: u64,
    offset: u64,
    ops: Vec<u8>,
}

/// Why a payload whose checksum matches cannot be read.
#[derive(Debug)]
pub(crate) enum Bad {
    /// A later version wrote it.
    Newer,
    /// It makes no sense.
    Nonsense(&'static str),
    /// The state store failed.
    Store(StoreError),
}

impl From<OpError> for Bad {
    fn from(e: OpError) -> Self {
        match e {
            OpError::Newer => Self::Newer,
            OpError::Malformed => Self::Nonsense("an operation is malformed"),
        }
    }
}

impl<'r> Apply<'r> {
    pub(crate) fn new(replay: &'r mut dyn Replay, kept: Option<&'r mut Kept>) -> Self {
        let (tail, files) = (Tail::default(), Vec::new());
        Self { tail, replay, next: 1, pending: None, records: 0, first: 1, kept, files }
    }

    /// The walk begins with this record.
    pub(crate) fn begin_at(&mut self, lsn: u64) {
        (self.next, self.first) = (lsn, lsn);
    }

    /// The lap in which the walk begins; 0 = the first there is.
    pub(crate) fn floor_lap(&self) -> u64 {
        self.kept.as_ref().map_or(0, |k| k.meta.floor_lap)
    }

    /// Reading begins with this record.
    pub(crate) fn floor(&self) -> u64 {
        self.kept.as_ref().map_or(1, |k| k.meta.floor)
    }

    /// Where the log was closed.
    pub(crate) fn closed(&self) -> Option<EndRow> {
        self.kept.as_ref().and_then(|k| k.end)
    }

    /// Whether a lap has its index on disk.
    pub(crate) fn is_adopted(&self, lap: u64) -> bool {
        self.kept.as_ref().is_some_and(|k| k.account.adopted_files().any(|(_, row)| row.lap == lap))
    }

    fn has_index(&self, file: &SegFile) -> bool {
        self.kept.as_ref().is_some_and(|k| k.account.is_adopted(file.id, file.lap))
    }

    /// A lap comes into use.
    pub(crate) fn file(&mut self, use_no: u64, file: Arc<SegFile>) {
        if !self.has_index(&file) {
            self.tail.add_file(use_no, Arc::clone(&file));
        }
        let first_lsn = self.incomplete();
        if let Some(kept) = &mut self.kept {
            kept.account.begin(file.id, file.lap, first_lsn);
        }
        self.files.push((use_no, file));
    }

    /// A lap was walked to its end.
    pub(crate) fn lap_end(&mut self, sealed: SealedFile) {
        let Some(kept) = &mut self.kept else { return };
        if kept.account.is_adopted(sealed.file, sealed.lap) {
            return;
        }
        kept.account.seal(&sealed);
        kept.sealed.insert((sealed.file, sealed.lap), sealed);
    }

    /// Forgets a record begun but not finished; its LSN is used again. Whether there was one.
    pub(crate) fn drop_pending(&mut self) -> bool {
        let Some(p) = self.pending.take() else { return false };
        self.next = p.lsn;
        true
    }

    /// The first LSN that is not complete.
    pub(crate) fn incomplete(&self) -> u64 {
        self.pending.as_ref().map_or(self.next, |p| p.lsn)
    }

    /// Applies the parts of a frame that lies at `offset`, whose payload begins `skip` bytes in. Gives the highest LSN of
    /// which a part lies in it, 0 if none.
    pub(crate) fn payload(&mut self, use_no: u64, offset: u64, payload: &[u8]) -> Result<u64, Bad> {
        let (mut rest, mut touched) = (payload, 0);
        while !rest.is_empty() {
            let (part, ops) = PartHeader::take(&mut rest).map_err(Bad::Nonsense)?;
            let at = offset + u64::from(len32(payload.len() - rest.len() - ops.len()));
            self.part(use_no, at, &part, ops)?;
            touched = part.lsn;
        }
        Ok(touched)
    }

    fn part(&mut self, use_no: u64, offset: u64, part: &PartHeader, ops: &[u8]) -> Result<(), Bad> {
        if part.kind.begins() {
            if part.lsn != self.next || self.pending.is_some() {
                return Err(Bad::Nonsense("a record does not follow the one before it"));
            }
            self.next += 1;
            if part.kind.ends() {
                if part.total_len != part.len {
                    return Err(Bad::Nonsense("a record has not the length it says"));
                }
                self.ops(part.lsn, use_no, offset, ops)?;
                self.end(part.lsn);
                return Ok(());
            }
            let (lsn, total_len) = (part.lsn, part.total_len);
            self.pending = Some(Pending { lsn, total_len, got: 0, parts: Vec::new() });
        }
        // Of a record that began before the first lap walked: it is below the floor.
        if !part.kind.begins() && self.pending.is_none() && part.lsn + 1 == self.first {
            return Ok(());
        }
        let p = self.pending.as_mut().filter(|p| p.lsn == part.lsn && p.total_len == part.total_len);
        let p = p.ok_or(Bad::Nonsense("a part belongs to no record"))?;
        p.got += ops.len();
        p.parts.push(Stored { use_no, offset, ops: ops.to_vec() });
        if part.kind.ends()
            && let Some(p) = self.pending.take()
        {
            if p.got != size(u64::from(p.total_len)) {
                return Err(Bad::Nonsense("a record has not the length it says"));
            }
            for s in &p.parts {
                self.ops(p.lsn, s.use_no, s.offset, &s.ops)?;
            }
            self.end(p.lsn);
        }
        Ok(())
    }

    fn end(&mut self, lsn: u64) {
        if self.is_asked(lsn) {
            self.records += 1;
            self.replay.record_end(Lsn(lsn));
        }
    }

    /// Whether the engine's rows may lack this record.
    fn is_asked(&self, lsn: u64) -> bool {
        self.kept.as_ref().is_none_or(|k| lsn >= k.meta.object_floor)
    }

    fn account(&mut self, lsn: u64, op: &SpaceOp) -> Result<(), Bad> {
        match &mut self.kept {
            Some(kept) => kept.account.apply(Lsn(lsn), op).map_err(Bad::Store),
            None => Ok(()),
        }
    }

    fn ops(&mut self, lsn: u64, use_no: u64, offset: u64, ops: &[u8]) -> Result<(), Bad> {
        let mut rest = ops;
        let asked = self.is_asked(lsn);
        let file = self.files.iter().rev().find(|(no, _)| *no == use_no).map(|(_, f)| Arc::clone(f));
        let file = file.ok_or(Bad::Nonsense("a part lies in no file"))?;
        let adopted = self.has_index(&file);
        while !rest.is_empty() {
            let at = offset + u64::from(len32(ops.len() - rest.len()));
            let (found, len) = take_op(&mut rest)?;
            match found {
                Found::Entry(e) => {
                    let at = u32::try_from(at).map_err(|_| Bad::Nonsense("a file is larger than 4 GiB"))?;
                    let body_len = len32(e.body.len());
                    let mut one = |log: LogId, pos: u64, count: u32| {
                        let entry = IndexEntry::new(pos, count, e.max_ts_ms, (at, len32(len)));
                        if !adopted {
                            self.tail.push(log, use_no, lsn, entry);
                            let at = Addr { file: file.id, lap: file.lap, offset: at, len: len32(len) };
                            let (max_ts_ms, bytes) = (e.max_ts_ms, len32(e.attrs.len()) + body_len);
                            let op = SpaceOp::Append { log, pos, count, max_ts_ms, bytes, at };
                            self.account(lsn, &op)?;
                        }
                        if asked {
                            let (max_ts_ms, attrs) = (e.max_ts_ms, e.attrs);
                            let head = EntryHead { log, pos, count, max_ts_ms, attrs, body_len };
                            self.replay.append(Lsn(lsn), head);
                        }
                        Ok::<(), Bad>(())
                    };
                    match e.to {
                        To::One { log, pos, count } => one(log, pos, count)?,
                        To::Many(mut refs) => refs.try_for_each(|(log, pos)| one(log, pos, 1))?,
                    }
                }
                Found::Effect { object, bytes } => {
                    // The row was removed by a later record: older effects would make it anew.
                    let gone =
                        |k: &&mut Kept| k.tombstones.get(object).is_some_and(|removed| lsn <= *removed);
                    if asked && !self.kept.as_ref().is_some_and(gone) {
                        self.replay.effect(Lsn(lsn), object, bytes);
                    }
                }
                Found::Trim { log, before } => {
                    self.tail.trim(log, before);
                    self.account(lsn, &SpaceOp::Trim { log, before })?;
                    if asked {
                        self.replay.trim(Lsn(lsn), log, before);
                    }
                }
                Found::Delete { log } => {
                    self.tail.trim(log, u64::MAX);
                    self.account(lsn, &SpaceOp::Delete { log })?;
                    if asked {
                        self.replay.delete(Lsn(lsn), log);
                    }
                }
                Found::Retire { log, runs } => {
                    self.account(lsn, &SpaceOp::Retire { log, runs: runs.collect() })?;
                }
                Found::Unknown => {}
            }
        }
        Ok(())
    }
}
