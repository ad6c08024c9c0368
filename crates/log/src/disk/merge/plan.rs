//! What of some files is to be copied: looks at their footers, and at the rows as they are in the store. Rows may change meanwhile:
//! then more is copied than lives, never less, as nothing comes to life again. Start at [`Plan::make`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use millstream_types::LogId;

use super::worker::Fault;
use crate::api::StoreError;
use crate::disk::adopt::held_bytes;
use crate::disk::cold::Cold;
use crate::disk::events::FileId;
use crate::disk::file::{SegFile, path};
use crate::disk::tail::IndexEntry;
use crate::format::bytes::{align8, len64, size};
use crate::format::footer::{Footer, Listed, Rotten};
use crate::format::header::BLOCK_BYTES;
use crate::format::pack::BLOCK_HEADER_BYTES;
use crate::format::retired::{CHUNK_POSITIONS, Retired};
use crate::format::rows::{ExtentRow, FileRow, LogRow, log_key, retired, retired_key};
use crate::store::StateStore;

/// Extents asked for at once.
const EXTENTS: usize = 256;
/// Extents that one merge moves: the keeper does it in one go. A single file may have more.
const EXTENTS_MAX: usize = 20_000;

/// Bytes of an entry in an index, and of a log with its first restart point.
const INDEX_BYTES: usize = 16;
const LOG_INDEX_BYTES: usize = 72;

/// An entry to be copied as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Index of its source.
    pub source: usize,
    pub e: IndexEntry,
}

/// A body in several logs, to be copied with the references that live.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub source: usize,
    pub offset: u32,
    pub len: u32,
    /// By log.
    pub to: Vec<(LogId, u64)>,
}

/// What is to be copied.
#[derive(Default)]
pub(super) struct Plan {
    pub sources: Vec<Arc<SegFile>>,
    /// By log and position.
    pub own: Vec<(LogId, Vec<Item>)>,
    /// By source and offset.
    pub shared: Vec<Shared>,
    /// Logs with extents in the sources, and where.
    pub logs: Vec<(LogId, u64, u64)>,
    /// Of each file looked at: positions that lived then, and bytes that its live entries take.
    pub weighed: Vec<((FileId, u64), u64, u64)>,
}

/// What lives in one file.
#[derive(Default)]
struct Found {
    own: Vec<(LogId, IndexEntry)>,
    shared: HashMap<u32, Shared>,
    logs: Vec<(LogId, u64, u64)>,
    extents: usize,
    bytes: u64,
}

impl Plan {
    /// Of files that are gone by now, or of which more than so many thousandths live, nothing is copied.
    pub(super) fn make(cold: &Cold, files: &[(FileId, u64)], live_permille_max: u64) -> Result<Self, Fault> {
        let mut plan = Self::default();
        let mut own: HashMap<LogId, Vec<Item>> = HashMap::new();
        let mut extents = 0;
        for (id, lap) in files {
            let failed = |e: String| Fault::Source((*id, *lap), e);
            let held = cold.file(*id, *lap).map_err(|e| failed(e.to_string()))?;
            let Some((file, row)) = held else { continue };
            let found = look(cold, &file, &row)?;
            plan.weighed.push(((*id, *lap), row.live, found.bytes));
            let held = if id.is_pack() { file.bytes } else { held_bytes(&row, file.bytes) };
            let too_much = u128::from(found.bytes) * 1000 > u128::from(held) * u128::from(live_permille_max);
            if too_much || (extents > 0 && extents + found.extents > EXTENTS_MAX) {
                continue;
            }
            extents += found.extents;
            let source = plan.sources.len();
            plan.sources.push(file);
            for (log, e) in found.own {
                own.entry(log).or_default().push(Item { source, e });
            }
            plan.shared.extend(found.shared.into_values().map(|s| Shared { source, ..s }));
            plan.logs.extend(found.logs);
        }
        plan.logs.sort_unstable();
        plan.own = own.into_iter().collect();
        plan.own.sort_unstable_by_key(|(log, _)| *log);
        for (_, items) in &mut plan.own {
            items.sort_unstable_by_key(|i| i.e.pos);
        }
        plan.shared.sort_unstable_by_key(|s| (s.source, s.offset));
        Ok(plan)
    }

    /// Bytes of the pack at most, about: its entries, its index, its header and its trailer.
    pub(super) fn pack_bytes(&self) -> u64 {
        let own = self.own.iter().flat_map(|(_, items)| items).map(|i| (padded(i.e.len), 1));
        let shared = self.shared.iter().map(|s| (padded(s.len), s.to.len()));
        let entries = own.chain(shared).map(|(bytes, n)| bytes + n * INDEX_BYTES);
        let logs = self.logs.len() * (BLOCK_HEADER_BYTES + LOG_INDEX_BYTES);
        len64(entries.sum::<usize>() + logs + 4 * BLOCK_BYTES)
    }

    /// Whether nothing is to be copied.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }
}

/// Bytes of an entry in a file.
pub(super) fn padded(len: u32) -> usize {
    align8(size(u64::from(len)))
}

/// What an index says of each log.
fn runs_of(raw: &[u8]) -> Result<Vec<(Listed, Vec<IndexEntry>)>, Rotten> {
    let footer = Footer::parse(raw);
    let run = |l: Listed| {
        let mut run = Vec::new();
        let all = |e: IndexEntry| {
            run.push(e);
            true
        };
        footer.entries(&l, 0, all)?;
        Ok((l, run))
    };
    footer.logs()?.into_iter().map(run).collect()
}

fn look(cold: &Cold, file: &SegFile, row: &FileRow) -> Result<Found, Fault> {
    let failed = |e: String| Fault::Source((file.id, file.lap), e);
    let index = || {
        let raw = file.read(row.footer_off, size(row.footer_len)).map_err(|e| failed(e.to_string()))?;
        Ok::<_, Fault>(runs_of(&raw))
    };
    let mut runs = index()?;
    if runs.is_err() && cold.mend(file, row).map_err(|e| failed(e.to_string()))? {
        runs = index()?;
    }
    let runs = runs.map_err(|Rotten| failed(format!("the index of {} is damaged", path(file.id))))?;
    // An entry that more than one log leads to is a fan-out, also if only one of them still lives.
    let (mut seen, mut many) = (HashSet::new(), HashSet::new());
    for (_, run) in &runs {
        many.extend(run.iter().map(|e| e.offset).filter(|at| !seen.insert(*at)));
    }
    drop(seen);
    let mut found = Found::default();
    for (l, run) in runs {
        let lives = Lives::of(cold, &l, (file.id, file.lap))?;
        let Some((first, end)) = lives.range() else { continue };
        found.logs.push((l.log, first, end));
        found.extents += lives.extents.len();
        let mut lives = lives;
        for e in run {
            if !lives.has(&e).map_err(Fault::Store)? {
                continue;
            }
            if !many.contains(&e.offset) {
                found.bytes += len64(padded(e.len));
                found.own.push((l.log, e));
                continue;
            }
            let shared = found.shared.entry(e.offset).or_insert_with(|| {
                found.bytes += len64(padded(e.len));
                Shared { source: 0, offset: e.offset, len: e.len, to: Vec::new() }
            });
            shared.to.push((l.log, e.pos));
        }
    }
    Ok(found)
}

/// Which positions of one log live in one file.
struct Lives<'c> {
    store: &'c dyn StateStore,
    log: LogId,
    start: u64,
    extents: Vec<ExtentRow>,
    any_retired: bool,
    /// The retired set asked for last.
    chunk: Option<(u64, Retired)>,
    /// The first extent that an entry may reach into; entries come in order.
    at: usize,
}

impl<'c> Lives<'c> {
    fn of(cold: &'c Cold, l: &Listed, file: (FileId, u64)) -> Result<Self, Fault> {
        let store = cold.store();
        let read = || -> Result<_, StoreError> {
            let row = store.get(&log_key(l.log))?;
            let start = row.map_or(Ok(0), |v| LogRow::decode(&v).map(|row| row.start))?;
            let any = store.scan(&retired(l.log), &retired_key(l.log, l.first / CHUNK_POSITIONS), 1)?;
            Ok((start, !any.is_empty()))
        };
        let (start, any_retired) = read().map_err(Fault::Store)?;
        let (mut extents, mut from) = (Vec::new(), l.first);
        loop {
            let page = cold.extents(l.log, from, EXTENTS).map_err(|e| Fault::Source(file, e.to_string()))?;
            let Some(last) = page.last() else { break };
            from = last.end;
            extents.extend(page.iter().filter(|x| (x.file, x.lap) == file));
            if page.len() < EXTENTS || from >= l.end {
                break;
            }
        }
        Ok(Self { store, log: l.log, start, extents, any_retired, chunk: None, at: 0 })
    }

    fn range(&self) -> Option<(u64, u64)> {
        Some((self.extents.first()?.first, self.extents.last()?.end))
    }

    /// Whether any position of the entry lives.
    fn has(&mut self, e: &IndexEntry) -> Result<bool, StoreError> {
        while self.extents.get(self.at).is_some_and(|x| x.end <= e.pos) {
            self.at += 1;
        }
        let mut i = self.at;
        while let Some(x) = self.extents.get(i).filter(|x| x.first < e.end()).copied() {
            let (first, end) = (e.pos.max(x.first).max(self.start), e.end().min(x.end));
            if first < end && (!self.any_retired || self.any_left(first, end)?) {
                return Ok(true);
            }
            i += 1;
        }
        Ok(false)
    }

    /// Whether any of these positions is not retired.
    fn any_left(&mut self, first: u64, end: u64) -> Result<bool, StoreError> {
        for chunk in first / CHUNK_POSITIONS..=(end - 1) / CHUNK_POSITIONS {
            if self.chunk.as_ref().is_none_or(|(of, _)| *of != chunk) {
                let row = self.store.get(&retired_key(self.log, chunk))?;
                let set = row.map_or(Ok(Retired::default()), |v| Retired::decode(&v))?;
                self.chunk = Some((chunk, set));
            }
            let base = chunk * CHUNK_POSITIONS;
            let (from, to) = (first.max(base) - base, (end - base).min(CHUNK_POSITIONS));
            if self.chunk.as_ref().is_some_and(|(_, set)| set.count(from, to) < to - from) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
