//! Opening a log that exists: finds its end, replays it, and fixes the end for good. It writes only bytes that were there, a new
//! lap and its link, so it can be interrupted anywhere and starts again. Start at [`recover`].

pub(crate) mod meta;

mod apply;
mod proof;
mod scan;
mod walk;
mod window;

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use millstream_env::Env;
use millstream_types::{Epoch, Lsn};

use self::apply::Apply;
use self::proof::Behind;
use self::scan::Scan;
use self::walk::Walked;
use self::window::Window;
use super::committer::link_frame;
use super::events::FileId;
use super::file::{SegFile, path};
use super::keeper::Kept;
use super::place::End;
use super::pool::ReadyPool;
use super::room::Sizes;
use super::tail::Tail;
use crate::api::{Gate, OpenError, OpenReport, Replay, StateReader};
use crate::format::header::{LINK_OFFSET, Meta};
use crate::format::rows::{END_KEY, EndRow};

/// What was found, and the new lap in which the log goes on.
pub(crate) struct Recovered {
    pub epoch: u64,
    /// The next LSN.
    pub next: u64,
    pub tail: Tail,
    pub pool: ReadyPool,
    /// The new lap's file and use number; its link frame is durable.
    pub file: Arc<SegFile>,
    pub use_no: u64,
    pub end: End,
    pub report: OpenReport,
}

/// Recovers a log, or begins an empty one. The directory is locked and `meta` is there.
pub(crate) fn recover(
    env: &Env,
    meta: &Meta,
    (sizes, gate): (Sizes, &Arc<Gate>),
    rows: Arc<dyn StateReader>,
    mut kept: Option<&mut Kept>,
    replay: &mut dyn Replay,
) -> Result<Recovered, OpenError> {
    let store = &meta.store;
    let floor_lap = kept.as_ref().map_or(0, |k| k.meta.floor_lap);
    let adopted: HashMap<FileId, u64> =
        kept.iter().flat_map(|k| k.account.adopted_files()).map(|(id, row)| (id, row.lap)).collect();
    let scan = scan::scan(&env.disk, store, &|id| adopted.get(&id).is_some_and(|lap| *lap < floor_lap))?;
    // Every epoch writes and syncs its first link frame alone, before any other frame.
    let epoch = scan.epoch_max + 1;
    replay.begin(rows, Epoch(epoch));
    let mut apply = Apply::new(replay, kept.as_deref_mut());
    let w = walk::walk(&env.disk, store, &scan, &mut apply)?;
    let (next, records, mut tail) = (apply.next, apply.records, apply.tail);
    let hint = kept.as_ref().map_or(0, |k| k.meta.durable_hint);
    // The log was closed here, and nobody went on: there is nothing to prove and nothing in doubt.
    let is_end =
        |e: EndRow| (e.lap, e.offset, e.crc, e.lsn) == (w.end.lap, w.end.offset, w.end.crc, next - 1);
    let closed = hint < next && kept.as_ref().and_then(|k| k.end).is_some_and(is_end);
    let (mut behind, mut frames_rewritten) = (Behind::default(), 0);
    if !closed {
        behind = proof::look(store, &scan, &w, next, hint, &|id| adopted.contains_key(&id))?;
        frames_rewritten = rewrite(&scan, &w)?;
    }

    // From the lap before, if the last holds nothing but its link: so crash loops eat no disk.
    // A marker says no more than the link. The lap in which reading begins must stay until the store says otherwise.
    let no_records = w.frames.iter().all(|f| f.touched == 0 || f.touched == u64::MAX);
    let only_link =
        no_records && !w.frames.is_empty() && w.files.last().is_none_or(|(_, lap)| *lap != floor_lap);
    let prev = if only_link { w.end_before } else { w.end };
    let next_lap = kept.as_ref().map_or(0, |k| k.meta.next_lap);
    let lap_max = scan.lap_max.max(behind.lap_max).max(next_lap.saturating_sub(1));
    let pool =
        ReadyPool::new(Arc::clone(&env.disk), *store, sizes, Arc::clone(gate), scan.next_id, lap_max + 1);
    let whole = w.files.len() - usize::from(only_link);
    for found in &scan.files {
        if !w.files.iter().any(|(id, _)| *id == found.id) && !adopted.contains_key(&found.id) {
            pool.give_back(found.id);
        }
    }
    let file = pool.for_opening().map_err(meta::no_room(meta.segment_bytes))?;
    let (block, crc) = link_frame(store, file.lap, epoch, prev, next, next - 1);
    let failed = |e: io::Error| OpenError::Io { file: path(file.id), source: e };
    file.direct.write_at(LINK_OFFSET, &[IoSlice::new(&block)]).map_err(failed)?;
    file.direct.sync_data().map_err(failed)?;
    // Only now is the cut fixed, and what lay behind it nobody's.
    for (id, lap) in w.files.iter().skip(whole) {
        while tail.leave(*id, *lap, usize::MAX).is_some() {}
        pool.give_back(*id);
        if let Some(kept) = &mut kept {
            kept.account.forget(*id, *lap);
            kept.sealed.remove(&(*id, *lap));
        }
    }
    if let Some(last) = tail.file(w.use_no) {
        last.set_sealed();
    }
    let use_no = w.use_no + 1;
    tail.add_file(use_no, Arc::clone(&file));
    if let Some(kept) = kept {
        kept.account.applied_to(Lsn(next - 1));
        kept.account.finish_replay()?;
        kept.account.begin(file.id, file.lap, next);
        if kept.end.take().is_some() {
            // Before anything is durable behind it.
            kept.store.write(vec![(END_KEY.to_vec(), None)])?;
        }
        let mut logs: Vec<_> = tail.logs().map(|(log, _)| log).collect();
        logs.sort_unstable();
        for (log, row) in logs.iter().zip(kept.account.log_rows(&logs)?) {
            tail.raise(*log, row.start, row.next, row.max_ts_ms);
        }
    }
    let torn = w.dropped || behind.torn;
    let report = OpenReport {
        replayed_bytes: w.bytes,
        replayed_records: records,
        cut_at: torn.then_some(Lsn(next)),
        frames_rewritten,
        read_bytes: scan.read_bytes + w.read_bytes + behind.read_bytes,
        unclean: !w.clean && !closed,
    };
    let end = End { lap: file.lap, offset: crate::format::header::FRAMES_OFFSET, crc };
    Ok(Recovered { epoch, next, tail, pool, file, use_no, end, report })
}

/// Writes again, in place, the frames that nothing proves durable: they may be in a cache only. Gives their number.
fn rewrite(scan: &Scan, w: &Walked) -> Result<u64, OpenError> {
    let Some((id, _)) = w.files.last() else { return Ok(0) };
    let Some(found) = scan.files.iter().find(|f| f.id == *id) else { return Ok(0) };
    let first = w.frames.iter().position(|f| f.touched > w.proven).unwrap_or(w.frames.len());
    // The link frame may have gone out in the same write as the first frame with records.
    let first = if first == 1 { 0 } else { first };
    let failed = |e: io::Error| OpenError::Io { file: path(*id), source: e };
    let mut window = Window::new(Arc::clone(&found.file), found.len);
    let frames = w.frames.get(first..).unwrap_or_default();
    for f in frames {
        let bytes = window.bytes(f.offset, f.bytes).map_err(failed)?;
        found.file.write_at(f.offset, &[IoSlice::new(bytes)]).map_err(failed)?;
    }
    if !frames.is_empty() {
        found.file.sync_data().map_err(failed)?;
    }
    Ok(u64::try_from(frames.len()).unwrap_or(u64::MAX))
}
