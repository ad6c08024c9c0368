//! [`Keeper`]: the thread that keeps rows. It feeds the account with durable operations, writes the engine's rows and the space
//! rows in one batch with the floor, gives files their index, and frees those in which nothing lives. One thread, so that a batch is
//! always one consistent state. Start at [`Keeper::run`].

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::Duration;

use millstream_env::{Clock, Disk, give_back_memory};
use millstream_types::LogId;

use super::adopt::{give_back_rest, write_index};
use super::cold::Cold;
use super::core::Core;
use super::events::{FileId, SealedFile, SpaceEvent, SpaceOp};
use super::file::{SegFile, path};
use super::merge::Merging;
use super::sink::{Sink, Slice};
use crate::api::{Level, LogConfig, Permit, StoreError};
use crate::bugs::Bug;
use crate::format::bytes::len64;
use crate::format::rows::{
    END_KEY, EndRow, LOGS, META_KEY, MetaRow, TOMBSTONES, encode, encode_object, last_number, object_key,
    tombstone_key,
};
use crate::space::Account;
use crate::store::{Change, STATE_DIR, StateStore};

/// The longest time without a look at the clock.
const TICK: Duration = Duration::from_millis(50);
/// Events applied between two looks at what else is to do.
const EVENTS_MAX: usize = 256;
/// Space rows changed that are written without waiting for more.
const DIRTY_ROWS_MAX: usize = 20_000;
/// What a space row takes in the state store, and a little more than most do.
const SPACE_ROW_BYTES: u64 = 128;
/// Index in memory of full files above which they are given one on disk.
const INDEX_BYTES_MAX: u64 = 32 << 20;
/// Index in memory above which publishers get no room back, if there are files to be given theirs on disk: else many logs of a few
/// messages each would take memory faster than it is freed.
const INDEX_BYTES_HELD: u64 = INDEX_BYTES_MAX / 2 * 3;
/// Without records for so long, the log is idle ...
const IDLE_NS: u64 = 2_000_000_000;
/// ... and keeps no more than this of its frames in memory.
const IDLE_TAIL_BYTES: usize = 8 << 20;
/// So long after the last batch an idle log gives memory back that was freed: for its own batches, then for what the state store made
/// of them.
const GIVE_BACK_NS: [u64; 2] = [1_000_000_000, 10_000_000_000];
/// Logs looked at while a lock is held that commits wait for.
const LOGS_AT_ONCE: usize = 2048;
/// A stop begins no more indexes after this time; what is left is read by the next opening.
const STOP_ADOPTING_NS_MAX: u64 = 2_000_000_000;
/// Time alone is a reason to ask for the engine's rows only when what was appended since is so many times what the last rows took: a
/// million queues that each get a message now and then are not all written anew each time ...
const ROUND_WORTH: u64 = 8;
/// ... unless so many intervals passed.
const ROUND_INTERVALS_MAX: u64 = 6;
/// A reference of a fan-out takes as long to replay as so many bytes.
const REFERENCE_BYTES: u64 = 200;
/// A place in the log is noted each so many bytes.
const NOTE_BYTES: u64 = 1 << 20;

/// What recovery leaves to the keeper.
pub(crate) struct Kept {
    pub store: Arc<dyn StateStore>,
    pub meta: MetaRow,
    pub account: Account,
    /// Where the log was closed, as the opening found it, and as the last batch is to say it.
    pub end: Option<EndRow>,
    /// Full files of the log without an index, by (file, lap).
    pub sealed: HashMap<(FileId, u64), SealedFile>,
    /// Removed objects whose older effects the next opening might still see.
    pub tombstones: HashMap<Vec<u8>, u64>,
}

/// The thread's own state.
pub(crate) struct Keeper {
    core: Arc<Core>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    cfg: LogConfig,
    sink: Arc<Sink>,
    cold: Arc<Cold>,
    kept: Kept,
    durable: u64,
    /// Effects below are in rows given to the store.
    object_floor: u64,
    /// So will those below this, once they are durable: the floor follows without rows being asked for again.
    clean: u64,
    /// Freed files that readers still hold.
    leaving: Vec<(FileId, [Weak<SegFile>; 2])>,
    /// Rows are being asked for until the floor of objects passes this LSN.
    round: Option<u64>,
    round_ns: u64,
    /// Bytes of entries when they were first asked for, and bytes of rows that came since; of the time before, rows only.
    round_bytes: u64,
    round_rows: u64,
    rows_before: u64,
    batch_ns: u64,
    /// (LSN, bytes of entries up to it, as they count for a replay), coarse.
    notes: VecDeque<(u64, u64)>,
    bytes: u64,
    look_for_adoption: bool,
    /// Room that publishers get back when the index in memory is small enough.
    held: Vec<Permit>,
    /// When the last records came; `None` = the log is idle, and memory was given back.
    records_ns: Option<u64>,
    /// How often memory was given back since the last batch.
    given_back: usize,
    merging: Merging,
}

impl Keeper {
    pub(crate) fn new(
        core: Arc<Core>,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        cfg: LogConfig,
        (sink, cold, merging): (Arc<Sink>, Arc<Cold>, Merging),
        kept: Kept,
        durable: u64,
    ) -> Self {
        let now = clock.mono_ns();
        let object_floor = kept.meta.object_floor;
        Self {
            core,
            disk,
            clock,
            cfg,
            sink,
            cold,
            kept,
            durable,
            object_floor,
            clean: object_floor,
            leaving: Vec::new(),
            round: None,
            round_ns: now,
            round_bytes: 0,
            round_rows: 0,
            rows_before: 0,
            batch_ns: now,
            notes: VecDeque::new(),
            bytes: 0,
            look_for_adoption: true,
            held: Vec::new(),
            records_ns: Some(now),
            given_back: 0,
            merging,
        }
    }

    /// Keeps rows until the committer stops. If the store fails, the log is lost.
    pub(crate) fn run(mut self, events: &Receiver<SpaceEvent>) {
        if let Err(e) = self.keep(events) {
            self.core.lose(e.to_string());
        }
    }

    fn keep(&mut self, events: &Receiver<SpaceEvent>) -> Result<(), StoreError> {
        loop {
            let mut next = match events.recv_timeout(TICK) {
                Ok(event) => Some(event),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(SpaceEvent::Stop(None)),
            };
            let mut applied = 0;
            while let Some(event) = next {
                if let SpaceEvent::Stop(end) = event {
                    return self.stop(end);
                }
                self.apply(event)?;
                applied += 1;
                next = if applied < EVENTS_MAX { events.try_recv().ok() } else { None };
            }
            if self.core.marks.is_lost() {
                continue;
            }
            self.turn()?;
        }
    }

    /// Everything that was sequenced is durable, or the log is lost and nothing more is known to be. All files get their index, so
    /// that the next opening need not read them.
    fn stop(&mut self, end: Option<EndRow>) -> Result<(), StoreError> {
        if self.core.marks.is_lost() {
            return Ok(());
        }
        if !self.may_store()? {
            // Nothing is lost by it: what is not written is replayed. Files that may go free room.
            self.let_go();
            return Ok(());
        }
        let until_ns = self.clock.mono_ns().saturating_add(STOP_ADOPTING_NS_MAX);
        let mut adopted = Vec::new();
        for file in self.kept.account.to_adopt().collect::<Vec<_>>() {
            if self.clock.mono_ns() < until_ns {
                adopted.extend(self.adopt(file)?);
            }
        }
        // Rows are taken only when those before them are written: the floor goes with them.
        let mut rows = self.take_rows();
        while self.sink.has_ready(self.durable) {
            self.write(&rows, &adopted)?;
            (rows, adopted) = (self.take_rows(), Vec::new());
        }
        self.kept.end = end;
        self.write(&rows, &adopted)?;
        self.let_go();
        Ok(())
    }

    fn apply(&mut self, event: SpaceEvent) -> Result<(), StoreError> {
        let account = &mut self.kept.account;
        match event {
            SpaceEvent::Records { upto, ops, held } => {
                let mut appended = 0;
                let mut last = None;
                for (lsn, op) in &ops {
                    account.apply(*lsn, op)?;
                    let SpaceOp::Append { at, .. } = op else { continue };
                    // The references of a fan-out come one after another, and are one entry.
                    if last.replace((at.lap, at.offset)) == Some((at.lap, at.offset)) {
                        self.bytes += REFERENCE_BYTES;
                    } else {
                        appended += u64::from(at.len);
                    }
                }
                self.bytes += appended;
                account.applied_to(upto);
                self.core.space_ops_behind.fetch_sub(ops.len(), Ordering::AcqRel);
                self.held.extend(held);
                self.records_ns = Some(self.clock.mono_ns());
                self.merging.appended(appended);
                self.durable = self.durable.max(upto.0);
                if self.notes.back().is_none_or(|(_, bytes)| self.bytes - bytes >= NOTE_BYTES) {
                    self.notes.push_back((upto.0, self.bytes));
                }
            }
            SpaceEvent::Began { file, lap, first_lsn } => account.begin(file, lap, first_lsn.0),
            SpaceEvent::Sealed(sealed) => {
                account.seal(&sealed);
                self.kept.sealed.insert((sealed.file, sealed.lap), sealed);
                self.look_for_adoption = true;
            }
            SpaceEvent::Stop(_) => {}
        }
        Ok(())
    }

    /// Does what there is to do: adopts, writes a batch, frees, asks for rows.
    fn turn(&mut self) -> Result<(), StoreError> {
        if !self.may_store()? {
            // Nothing is lost by it: what is not written is replayed. Files that may go free room.
            self.let_go();
            self.held.clear();
            return Ok(());
        }
        if self.kept.account.has_work() {
            self.kept.account.work()?;
        }
        let adopted = self.adopt_some()?;
        let merged = self.merging.finish(&mut self.kept.account, &self.cold)?;
        let rows = self.take_rows();
        let now = self.clock.mono_ns();
        let interval_ns = self.cfg.flush_interval_ms.saturating_mul(1_000_000);
        let behind = self.kept.account.applied() > self.kept.meta.space_lsn;
        let due = !rows.is_empty()
            || !adopted.is_empty()
            || merged
            || self.kept.account.dirty() >= DIRTY_ROWS_MAX
            || (behind && now.saturating_sub(self.batch_ns) >= interval_ns)
            || self.kept.account.has_dead(self.floor());
        if due {
            (self.batch_ns, self.given_back) = (now, 0);
            self.write(&rows, &adopted)?;
        }
        self.merging.begin(&self.kept.account, now, self.core.gate.is_full());
        self.let_go();
        self.ask(now, interval_ns);
        self.hold();
        self.rest(now);
        Ok(())
    }

    /// Bytes of what is in memory of files without an index on disk.
    fn index_bytes(&self) -> u64 {
        self.core.tail().index_bytes() + len64(self.kept.account.open_bytes())
    }

    /// Lets publishers have their room back, or holds them if there are files to adopt first.
    fn hold(&mut self) {
        let behind = self.kept.account.to_adopt().next().is_some() && self.index_bytes() > INDEX_BYTES_HELD;
        self.core.index_behind.store(behind, Ordering::Release);
        self.look_for_adoption |= behind;
        if !behind {
            self.held.clear();
        }
    }

    /// Gives memory back when the log is idle.
    fn rest(&mut self, now: u64) {
        if self.records_ns.is_some_and(|last| now.saturating_sub(last) >= IDLE_NS) {
            self.records_ns = None;
            self.look_for_adoption = true;
            let (core, mut tail) = (&self.core, self.core.tail_mut());
            // No frame comes while this is held. None may go before it is durable; whoever reads one keeps it.
            if core.marks.level(Level::Durable) == core.marks.level(Level::Sequenced) {
                tail.frames_mut().keep(IDLE_TAIL_BYTES.min(core.tail_bytes));
            }
            drop(tail);
            core.open().blocks.forget_idle();
        }
        // Not while more comes, which would only have to be fetched again.
        let done = self.records_ns.is_none() && self.kept.account.to_adopt().next().is_none();
        let after = GIVE_BACK_NS.get(self.given_back).filter(|_| done);
        if after.is_some_and(|after| now.saturating_sub(self.batch_ns) >= *after) {
            self.given_back += 1;
            self.core.tail_mut().shrink();
            give_back_memory();
        }
    }

    /// The engine's rows that may be written, and what they say of the floor of its effects.
    fn take_rows(&mut self) -> Vec<Slice> {
        let rows = self.sink.take_ready(self.durable);
        self.round_rows += rows.iter().map(|slice| len64(slice.bytes)).sum::<u64>();
        if let Some(last) = rows.last() {
            let clean = last.oldest_dirty.map_or(last.applied.0 + 1, |l| l.0);
            self.clean = self.clean.max(clean);
        }
        self.object_floor = self.object_floor.max(self.clean.min(self.durable + 1));
        rows
    }

    /// Whether there is room on the disk for a batch. A write that fails for want of it would end the log. If there is not, the store
    /// is to make some: else what it holds in vain would stay for ever, for nothing more is written.
    fn may_store(&self) -> Result<bool, StoreError> {
        let Err(free_bytes) = self.has_room()? else { return Ok(true) };
        let made = self.core.watch.batch(|| self.kept.store.make_room(free_bytes))?;
        Ok(made && self.has_room()?.is_ok())
    }

    /// Else how much is free.
    fn has_room(&self) -> Result<Result<(), u64>, StoreError> {
        let rows = self.sink.next_bytes() + len64(self.kept.account.dirty()) * SPACE_ROW_BYTES;
        let room = self.core.pool.may_store(rows, self.kept.store.merge_bytes());
        room.map_err(|e| StoreError {
            file: STATE_DIR.to_owned(),
            cause: format!("the disk does not say what is free: {e}"),
        })
    }

    /// The floor as it will be once everything known now is durable in the store.
    fn floor(&self) -> u64 {
        let account = &self.kept.account;
        self.object_floor.min(account.applied() + 1).min(account.floor_max())
    }

    /// One batch: the engine's rows, all space rows as they are at one LSN, and the floor that both allow. Then what may follow once
    /// it is durable.
    fn write(&mut self, rows: &[Slice], adopted: &[(FileId, u64)]) -> Result<(), StoreError> {
        let floor = self.floor().max(self.kept.meta.floor);
        let reusable = if self.core.bugs.has(Bug::ReusesFileEarly) { u64::MAX } else { floor };
        let dead = self.kept.account.take_dead(reusable)?;
        let mut batch: Vec<Change> = Vec::new();
        self.object_rows(rows, &mut batch);
        batch.extend(self.kept.account.take_changes());
        batch.extend(self.kept.end.take().map(|end| (END_KEY.to_vec(), Some(end.encode()))));
        let meta = MetaRow {
            floor,
            object_floor: self.object_floor,
            floor_lap: self.kept.account.floor_lap(floor),
            space_lsn: self.kept.account.applied(),
            durable_hint: self.durable,
            next_lap: self.core.pool.next_lap(),
            ..self.kept.meta
        };
        if batch.is_empty() && meta == self.kept.meta {
            self.sink.set_flushed(rows);
            return Ok(());
        }
        batch.push((META_KEY.to_vec(), Some(meta.encode())));
        // On the shelf before any row leads there.
        for (id, lap) in adopted {
            if let Some((_, row)) =
                self.kept.account.adopted_files().find(|(of, row)| of == id && row.lap == *lap)
            {
                self.cold.add(*id, *row, self.core.tail().handle(*id, *lap));
            }
        }
        let (mut logs, mut gone) = (Vec::new(), Vec::new());
        for (key, row) in batch.iter().filter(|(key, _)| key.starts_with(LOGS)) {
            let log = LogId(last_number(key).unwrap_or_default());
            if row.is_some() { logs.push(log) } else { gone.push((log, None)) }
        }
        self.core.watch.batch(|| self.kept.store.write(batch))?;
        self.kept.meta = meta;
        logs.iter().chain(gone.iter().map(|(log, _)| log)).for_each(|log| self.cold.changed(*log));
        for (id, lap) in adopted {
            self.leave(*id, *lap, &mut logs);
            if let Some(row) = self.kept.account.file(*id) {
                give_back_rest(&self.disk, *id, row, self.cfg.segment_bytes);
            }
        }
        self.sink.set_flushed(rows);
        for (id, lap) in dead {
            self.kept.sealed.remove(&(id, lap));
            // Who has the file now, from the shelf or from the tail, may read on; nobody finds it any more.
            let in_tail = self.core.tail().handle(id, lap);
            self.leave(id, lap, &mut logs);
            let on_shelf = self.cold.remove(id, lap);
            self.leaving.push((id, [in_tail, on_shelf]));
            self.merging.freed();
        }
        self.core.tail_mut().forget(&gone);
        self.forget(logs)?;
        while self.notes.front().is_some_and(|(lsn, _)| *lsn < self.object_floor) && self.notes.len() > 1 {
            self.notes.pop_front();
        }
        Ok(())
    }

    /// A file's runs go from memory, some at a time: who appends or reads waits no longer than for those.
    fn leave(&self, id: FileId, lap: u64, bare: &mut Vec<LogId>) {
        let some = || self.core.tail_mut().leave(id, lap, LOGS_AT_ONCE);
        while let Some(logs) = some() {
            bare.extend(logs);
        }
    }

    /// Of logs of which nothing is in memory but what their rows say, nothing stays. All changes to rows are durable now.
    fn forget(&self, mut logs: Vec<LogId>) -> Result<(), StoreError> {
        logs.sort_unstable();
        logs.dedup();
        for logs in logs.chunks(LOGS_AT_ONCE) {
            let bare: Vec<LogId> = {
                let tail = self.core.tail();
                logs.iter().copied().filter(|log| tail.is_bare(*log)).collect()
            };
            if bare.is_empty() {
                continue;
            }
            let rows = self.kept.account.log_rows(&bare)?;
            let rows: Vec<_> = bare.into_iter().zip(rows.into_iter().map(Some)).collect();
            self.core.tail_mut().forget(&rows);
        }
        Ok(())
    }

    /// The engine's rows. A removed one leaves a tombstone until the floor has passed it: a replay of older effects would make it anew.
    fn object_rows(&mut self, rows: &[Slice], batch: &mut Vec<Change>) {
        let tombstones = &mut self.kept.tombstones;
        for row in rows.iter().flat_map(|slice| &slice.rows) {
            let value = row.value.as_ref().map(|v| encode_object(row.row_lsn.0, v));
            if value.is_none() {
                tombstones.insert(row.key.clone(), row.row_lsn.0);
                batch.push((tombstone_key(&row.key), Some(encode([row.row_lsn.0]))));
            } else if tombstones.remove(&row.key).is_some() {
                batch.push((tombstone_key(&row.key), None));
            }
            batch.push((object_key(&row.key), value));
        }
        let floor = self.object_floor;
        tombstones.retain(|object, lsn| {
            if *lsn < floor {
                batch.push((tombstone_key(object), None));
            }
            *lsn >= floor
        });
    }

    /// Gives files an index where the memory of theirs, or the length of the log to be replayed, asks for it. They are used only
    /// once the batch is durable.
    fn adopt_some(&mut self) -> Result<Vec<(FileId, u64)>, StoreError> {
        let mut adopted = Vec::new();
        let full = self.core.gate.is_pressed();
        if !std::mem::take(&mut self.look_for_adoption) && !full {
            return Ok(adopted);
        }
        if !full && self.kept.store.is_behind() {
            self.look_for_adoption = true;
            return Ok(adopted);
        }
        let waiting: Vec<(FileId, u64)> = self.kept.account.to_adopt().collect();
        // The last record of a full file may not be applied yet.
        self.look_for_adoption = self.kept.account.awaits_adoption();
        let files_max = self.cfg.replay_bytes / 2 / self.cfg.segment_bytes.max(1);
        let files_max = usize::try_from(files_max).unwrap_or(usize::MAX);
        let index_bytes = self.index_bytes();
        let share = index_bytes / u64::try_from(waiting.len() + 1).unwrap_or(1).max(1);
        let over = index_bytes.saturating_sub(INDEX_BYTES_MAX).div_ceil(share.max(1));
        let over = usize::try_from(over).unwrap_or(usize::MAX).max(waiting.len().saturating_sub(files_max));
        let n = if full || self.records_ns.is_none() { waiting.len() } else { over.min(waiting.len()) };
        for file in waiting.into_iter().take(n) {
            if self.kept.account.dirty() >= DIRTY_ROWS_MAX {
                // Each batch is in memory as a whole.
                self.look_for_adoption = true;
                break;
            }
            adopted.extend(self.adopt(file)?);
        }
        Ok(adopted)
    }

    /// Gives a file its index.
    fn adopt(&mut self, (id, lap): (FileId, u64)) -> Result<Option<(FileId, u64)>, StoreError> {
        let Some(sealed) = self.kept.sealed.remove(&(id, lap)) else { return Ok(None) };
        let logs = self.core.tail().logs_in(id, lap);
        let runs = logs.chunks(LOGS_AT_ONCE).map(|logs| self.core.tail().runs(id, lap, logs));
        let runs: Vec<_> = runs.flatten().collect();
        let at = write_index(&self.disk, &self.core.store, &sealed, &runs)
            .map_err(|e| StoreError { file: path(id), cause: format!("its index cannot be written: {e}") })?;
        self.kept.account.adopt(id, lap, at)?;
        Ok(Some((id, lap)))
    }

    /// Gives files back that no reader holds any more.
    fn let_go(&mut self) {
        let (pool, merging) = (&self.core.pool, &self.merging);
        self.leaving.retain(|(id, held)| {
            let free = held.iter().all(|h| h.strong_count() == 0);
            if free && id.is_pack() {
                merging.remove(*id);
            } else if free {
                pool.give_back(*id);
            }
            !free
        });
    }

    /// Asks the engine for rows when the log to be replayed grows long, or some time has passed.
    fn ask(&mut self, now: u64, interval_ns: u64) {
        if self.round.is_some_and(|target| self.object_floor > target) {
            self.round = None;
        }
        if self.round.is_some() || self.durable < self.object_floor {
            return;
        }
        let records = self.durable + 1 - self.object_floor;
        let first = self.notes.front().map_or(self.bytes, |(_, bytes)| *bytes);
        let passed_ns = now.saturating_sub(self.round_ns);
        let worth = self.bytes - self.round_bytes >= self.rows_before.max(self.round_rows) * ROUND_WORTH;
        let asked = records >= self.cfg.replay_records / 4 * 3
            || self.bytes - first >= self.cfg.replay_bytes / 2
            || passed_ns >= interval_ns && (worth || self.records_ns.is_none())
            || passed_ns >= interval_ns.saturating_mul(ROUND_INTERVALS_MAX)
            || self.core.gate.is_pressed();
        if asked {
            self.round = Some(self.durable);
            self.round_ns = now;
            self.round_bytes = self.bytes;
            self.rows_before = std::mem::take(&mut self.round_rows);
            self.sink.want(self.durable);
        }
    }
}

/// Reads the tombstones that are left.
///
/// # Errors
/// If the store fails.
pub(crate) fn tombstones(store: &dyn StateStore) -> Result<HashMap<Vec<u8>, u64>, StoreError> {
    let rows = store.scan(TOMBSTONES, TOMBSTONES, usize::MAX)?;
    rows.into_iter()
        .map(|(key, value)| {
            let [lsn] = crate::format::rows::decode(&value)?;
            Ok((key.get(TOMBSTONES.len()..).unwrap_or_default().to_vec(), lsn))
        })
        .collect()
}
