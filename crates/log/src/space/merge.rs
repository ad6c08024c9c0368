//! Merges in the account: what lived in files lies in a pack from now on. The copy was made from rows of some time ago; what was
//! retired, trimmed or deleted since is in the rows of now, and these are what moves. Start at [`Account::install`].

use millstream_types::LogId;

use super::account::Account;
use crate::api::StoreError;
use crate::disk::events::FileId;
use crate::format::retired::CHUNK_POSITIONS;
use crate::format::rows::{EXTENTS, ExtentRow, FileRow, extent_key, log_key};

/// So many retired positions in a row split an extent when it moves: their sets go, whole chunks of them.
const SPLIT_POSITIONS: u64 = CHUNK_POSITIONS;
/// Extents of a log that lie one behind another become one up to this size. Retention counts in whole extents.
const JOINED_BYTES_MAX: u64 = 16 << 20;

/// A pack that is durable, and what it was made of.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub id: FileId,
    pub footer_off: u64,
    pub footer_len: u64,
    /// Bytes of its entries.
    pub stored: u64,
    /// Files (with laps) of which it holds everything that lived when the copy began.
    pub sources: Vec<(FileId, u64)>,
    /// Logs with extents in the sources, and where: `[first, end)`. By log; one may come several times.
    pub logs: Vec<(LogId, u64, u64)>,
}

impl Account {
    /// Lets everything that still lives in the sources lie in the pack. The row of the pack, or `None` if nothing lives any more:
    /// then nothing leads to the pack.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) fn install(&mut self, packed: &Packed) -> Result<Option<FileRow>, StoreError> {
        let sources =
            packed.sources.iter().filter_map(|(id, lap)| self.files.get(id).filter(|f| f.lap == *lap));
        let lsns = |f: &FileRow| (f.first_lsn, f.last_lsn);
        let lsns = sources.map(lsns).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let Some((first_lsn, last_lsn)) = lsns else { return Ok(None) };
        let (mut live, mut live_bytes) = (0, 0);
        for ranges in packed.logs.chunk_by(|a, b| a.0 == b.0) {
            let log = ranges.first().map_or(LogId(0), |(log, _, _)| *log);
            for x in self.moved(packed, log, ranges)? {
                (live, live_bytes) = (live + x.live(), live_bytes + x.live_bytes());
                self.rows.put(extent_key(log, x.first), x.encode());
            }
        }
        let Packed { footer_off, footer_len, stored, .. } = *packed;
        let (stored, content) = (stored.max(1), live_bytes);
        let row = FileRow {
            lap: 0,
            first_lsn,
            last_lsn,
            footer_off,
            footer_len,
            live,
            stored,
            content,
            live_bytes,
        };
        if live == 0 {
            return Ok(None);
        }
        self.files.insert(packed.id, row);
        self.changed_files.insert(packed.id);
        Ok(Some(row))
    }

    /// Takes a log's extents off the sources; gives them as they are to be in the pack.
    fn moved(
        &mut self,
        packed: &Packed,
        log: LogId,
        ranges: &[(LogId, u64, u64)],
    ) -> Result<Vec<ExtentRow>, StoreError> {
        let mut moved: Vec<ExtentRow> = Vec::new();
        let mut bytes_gone = 0;
        let mut all = Vec::new();
        for (_, first, end) in ranges {
            all.extend(self.overlapping(log, *first, *end)?);
        }
        // The stretches of several sources may lie between one another.
        all.sort_unstable_by_key(|x| x.first);
        all.dedup_by_key(|x| x.first);
        for x in all {
            if !packed.sources.contains(&(x.file, x.lap)) {
                continue;
            }
            self.rows.remove(extent_key(log, x.first));
            self.drop_live(&x, None);
            let mut bytes = 0;
            for part in self.parts(log, &x)? {
                let part = ExtentRow { file: packed.id, lap: 0, ..part };
                bytes += part.bytes;
                match moved.last_mut() {
                    Some(last) if last.end == part.first && last.bytes + part.bytes <= JOINED_BYTES_MAX => {
                        last.end = part.end;
                        last.retired += part.retired;
                        last.bytes += part.bytes;
                        last.max_ts_ms = last.max_ts_ms.max(part.max_ts_ms);
                        last.whole += part.whole;
                    }
                    _ => moved.push(part),
                }
            }
            bytes_gone += x.bytes.saturating_sub(bytes);
        }
        if bytes_gone > 0 {
            let mut row = self.log(log)?;
            row.bytes = row.bytes.saturating_sub(bytes_gone);
            self.rows.put(log_key(log), row.encode());
        }
        Ok(moved)
    }

    /// An extent without long stretches of retired positions, and without those at its ends. Their sets go.
    fn parts(&mut self, log: LogId, x: &ExtentRow) -> Result<Vec<ExtentRow>, StoreError> {
        if x.retired == 0 {
            return Ok(vec![*x]);
        }
        let mut parts = Vec::new();
        let (mut at, mut retired) = (x.first, 0);
        let mut part = |first: u64, end: u64, retired: u64| {
            let len = end - first;
            let bytes = u128::from(x.bytes) * u128::from(len) / u128::from(x.whole.max(1));
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            parts.push(ExtentRow { first, end, retired, bytes, whole: len, ..*x });
        };
        let mut gaps = Vec::new();
        for (from, to) in self.retired_runs(log, x)? {
            if to - from < SPLIT_POSITIONS && from != x.first && to != x.end {
                retired += to - from;
                continue;
            }
            if from > at {
                part(at, from, retired);
            }
            (at, retired) = (to, 0);
            gaps.push((from, to));
        }
        if at < x.end {
            part(at, x.end, retired);
        }
        for (from, to) in gaps {
            self.clear_retired(log, from, to)?;
        }
        Ok(parts)
    }

    /// Retired positions of an extent as runs, none next to another.
    fn retired_runs(&self, log: LogId, x: &ExtentRow) -> Result<Vec<(u64, u64)>, StoreError> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for chunk in x.first / CHUNK_POSITIONS..=(x.end - 1) / CHUNK_POSITIONS {
            let base = chunk * CHUNK_POSITIONS;
            for (from, to) in self.retired_set(log, chunk)?.runs() {
                let (from, to) = ((base + from).max(x.first), (base + to).min(x.end));
                match runs.last_mut() {
                    _ if from >= to => {}
                    Some(last) if last.1 == from => last.1 = to,
                    _ => runs.push((from, to)),
                }
            }
        }
        Ok(runs)
    }

    /// Rows of version 1 do not say what files take: counts it from the extents.
    pub(super) fn measure(&mut self) -> Result<(), StoreError> {
        if self.files.values().all(|f| f.stored > 0) {
            return Ok(());
        }
        for (key, value) in self.rows.scan(EXTENTS, EXTENTS, usize::MAX)? {
            let x = ExtentRow::decode(&key, &value)?;
            if let Some(f) = self.files.get_mut(&x.file).filter(|f| f.lap == x.lap && f.stored == 0) {
                (f.content, f.live_bytes) = (f.content + x.bytes, f.live_bytes + x.live_bytes());
            }
        }
        for (id, f) in self.files.iter_mut().filter(|(_, f)| f.stored == 0) {
            // Frames take little more than what is in them.
            f.stored = f.footer_off.max(1);
            self.changed_files.insert(*id);
        }
        Ok(())
    }
}
