//! The footer of an adopted file: where its entries lie, log by log.
//!
//! Content: `logs u32, 0 u32`; the directory, sorted by log, 48 bytes each; then a run per log: its restart points, one per 64
//! entries, and its entries as varints. Logs to which the same bodies went have the same entries but for where their positions begin:
//! these lie there once, behind the restart points of them all. The content is cut into blocks of 4,092 bytes with a crc32c each, so
//! that damage costs what it hits and no more. In a pack, entries of a log may lie before others of lower positions (fan-outs lie
//! behind all else): then its directory entry has a flag and steps between offsets have a sign. Start at [`encode`] and [`Footer`].

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use millstream_types::LogId;

use super::bytes::{array_at, len32, len64, put, size, take_varint, u32_at, u64_at, varint};
use crate::disk::tail::IndexEntry;

const BLOCK_BYTES: usize = 4096;
const CONTENT_BYTES: usize = 4092;
const HEAD_BYTES: usize = 8;
const DIRECTORY_BYTES: usize = 48;
const RESTART_BYTES: usize = 24;
const RESTART_ENTRIES: usize = 64;
/// Looks at the directory that take ids to be spread evenly, which they often are; the others halve it.
const GUESSES: usize = 5;
/// Flag of a directory entry: offsets do not ascend, their steps are zigzag.
const BACKWARDS: u32 = 1;
/// Flag of a directory entry: other logs have the same entries. It says so to people; readers go where restart points lead.
const SHARED: u32 = 2;
/// Runs of fewer entries are not looked at for others like them.
const SHARED_ENTRIES_MIN: usize = 4;

/// One log in the directory: `log, first_pos, end_pos u64, entries, bytes u32, max_ts i64, run_off, flags u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub log: LogId,
    pub first: u64,
    /// One past the last position.
    pub end: u64,
    pub entries: u32,
    pub bytes: u32,
    pub max_ts_ms: i64,
    run_off: u32,
    /// Offsets may go back.
    backwards: bool,
}

/// A block of the footer does not match its checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotten;

/// The blocks of a footer. `runs` ascend by log, their entries by position. Logs with the same entries share them.
pub(crate) fn encode(runs: &[(LogId, Vec<IndexEntry>)]) -> Vec<u8> {
    encode_sets(runs, &sets(runs))
}

/// As [`encode`], as it was before logs shared entries.
pub(crate) fn encode_apart(runs: &[(LogId, Vec<IndexEntry>)]) -> Vec<u8> {
    let apart: Vec<Vec<usize>> = (0..runs.len()).map(|i| vec![i]).collect();
    encode_sets(runs, &apart)
}

/// Which runs are laid down together, by index: each has the entries of the first, but for where its positions begin.
fn sets(runs: &[(LogId, Vec<IndexEntry>)]) -> Vec<Vec<usize>> {
    let mut sets: Vec<Vec<usize>> = Vec::with_capacity(runs.len());
    let mut shapes: HashMap<(usize, u32, u32), Vec<usize>> = HashMap::new();
    for (i, (_, entries)) in runs.iter().enumerate() {
        if entries.len() >= SHARED_ENTRIES_MIN
            && let (Some(first), Some(last)) = (entries.first(), entries.last())
        {
            let alike = shapes.entry((entries.len(), first.offset, last.offset)).or_default();
            let leads = |set: &&usize| {
                let leader = sets.get(**set).and_then(|set| set.first()).and_then(|i| runs.get(*i));
                leader.is_some_and(|(_, of)| is_same(of, entries))
            };
            if let Some(set) = alike.iter().find(leads).and_then(|set| sets.get_mut(*set)) {
                set.push(i);
                continue;
            }
            alike.push(sets.len());
        }
        sets.push(vec![i]);
    }
    sets
}

/// Whether two runs are the same but for where their positions begin.
fn is_same(a: &[IndexEntry], b: &[IndexEntry]) -> bool {
    let shift = |run: &[IndexEntry]| run.first().map_or(0, |e| e.pos);
    let (from_a, from_b) = (shift(a), shift(b));
    let same = |(a, b): (&IndexEntry, &IndexEntry)| {
        let of = |e: &IndexEntry, from: u64| (e.pos - from, e.count, e.offset, e.len, e.max_ts_ms);
        of(a, from_a) == of(b, from_b)
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

fn encode_sets(runs: &[(LogId, Vec<IndexEntry>)], sets: &[Vec<usize>]) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend_from_slice(&len32(runs.len()).to_le_bytes());
    content.resize(HEAD_BYTES + runs.len() * DIRECTORY_BYTES, 0);
    for set in sets {
        let members: Vec<(usize, LogId, &[IndexEntry])> =
            set.iter().filter_map(|i| runs.get(*i).map(|(log, e)| (*i, *log, e.as_slice()))).collect();
        let Some((_, _, leader)) = members.first().copied() else { continue };
        let backwards = !leader.is_sorted_by_key(|e| e.offset);
        let flags = if backwards { BACKWARDS } else { 0 } | if members.len() > 1 { SHARED } else { 0 };
        let bytes: u64 = leader.iter().map(|e| u64::from(e.len)).sum();
        let max_ts_ms = leader.iter().map(|e| e.max_ts_ms).max().unwrap_or(-1);
        for (n, (i, log, entries)) in members.iter().enumerate() {
            let run_off = content.len() + n * restarts_bytes(leader.len());
            let mut d = [0; DIRECTORY_BYTES];
            put(&mut d, 0, &log.0.to_le_bytes());
            put(&mut d, 8, &entries.first().map_or(0, |e| e.pos).to_le_bytes());
            put(&mut d, 16, &entries.last().map_or(0, IndexEntry::end).to_le_bytes());
            put(&mut d, 24, &len32(entries.len()).to_le_bytes());
            put(&mut d, 28, &u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes());
            put(&mut d, 32, &max_ts_ms.to_le_bytes());
            put(&mut d, 40, &len32(run_off).to_le_bytes());
            put(&mut d, 44, &flags.to_le_bytes());
            put(&mut content, HEAD_BYTES + i * DIRECTORY_BYTES, &d);
        }
        let members: Vec<&[IndexEntry]> = members.into_iter().map(|(_, _, entries)| entries).collect();
        run(&members, backwards, &mut content);
    }
    let mut out = Vec::with_capacity(content.len().div_ceil(CONTENT_BYTES) * BLOCK_BYTES);
    for piece in content.chunks(CONTENT_BYTES) {
        let at = out.len();
        out.extend_from_slice(piece);
        out.resize(at + CONTENT_BYTES, 0);
        let crc = crate::format::crc::crc32c(out.get(at..).unwrap_or_default());
        out.extend_from_slice(&crc.to_le_bytes());
    }
    out
}

/// Bytes of the restart points of so many entries.
fn restarts_bytes(entries: usize) -> usize {
    entries.div_ceil(RESTART_ENTRIES) * RESTART_BYTES
}

/// Restart points `pos u64, offset u32, where its entries begin u32, max_ts i64` of each member, then the entries, which are the
/// first's.
fn run(members: &[&[IndexEntry]], backwards: bool, content: &mut Vec<u8>) {
    let Some(entries) = members.first() else { return };
    let (tables, table_bytes) = (content.len(), restarts_bytes(entries.len()));
    content.resize(tables + members.len() * table_bytes, 0);
    for (i, group) in entries.chunks(RESTART_ENTRIES).enumerate() {
        let Some(first) = group.first() else { continue };
        let max_ts_ms = group.iter().map(|e| e.max_ts_ms).max().unwrap_or(-1);
        for (n, member) in members.iter().enumerate() {
            let (table, pos) =
                (tables + n * table_bytes, member.get(i * RESTART_ENTRIES).map_or(0, |e| e.pos));
            let mut r = [0; RESTART_BYTES];
            put(&mut r, 0, &pos.to_le_bytes());
            put(&mut r, 8, &first.offset.to_le_bytes());
            put(&mut r, 12, &len32(content.len() - table).to_le_bytes());
            put(&mut r, 16, &max_ts_ms.to_le_bytes());
            put(content, table + i * RESTART_BYTES, &r);
        }
        let (mut pos, mut offset) = (first.pos, first.offset);
        for e in group {
            let mut number = |n: u64| {
                let (bytes, len) = varint(n);
                content.extend_from_slice(bytes.get(..len).unwrap_or_default());
            };
            // The first bit says that a count follows.
            number((e.pos - pos) << 1 | u64::from(e.count != 1));
            if e.count != 1 {
                number(u64::from(e.count));
            }
            let step = i64::from(e.offset / 8) - i64::from(offset / 8);
            number(if backwards { zigzag(step) } else { step.cast_unsigned() });
            number(u64::from(e.len));
            (pos, offset) = (e.end(), e.offset);
        }
    }
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

/// The offset that a step leads to.
fn stepped(offset: u32, step: u64, backwards: bool) -> Option<u32> {
    if !backwards {
        return offset.checked_add(u32::try_from(step.checked_mul(8)?).ok()?);
    }
    let step = (step >> 1).cast_signed() ^ -(step & 1).cast_signed();
    u32::try_from(i64::from(offset).checked_add(step.checked_mul(8)?)?).ok()
}

/// The blocks of a footer that were looked at: the content of each, nothing if it is damaged.
pub(crate) struct Blocks {
    cells: Vec<OnceLock<Box<[u8]>>>,
    held_bytes: AtomicUsize,
}

impl Blocks {
    /// Of a footer of so many bytes with checksums. None was looked at.
    pub(crate) fn new(footer_bytes: usize) -> Self {
        let cells: Vec<_> = (0..footer_bytes / BLOCK_BYTES).map(|_| OnceLock::new()).collect();
        let held_bytes = AtomicUsize::new(size_of::<Self>() + cells.len() * size_of::<OnceLock<Box<[u8]>>>());
        Self { cells, held_bytes }
    }

    /// All of a footer, which is known.
    pub(crate) fn filled(raw: &[u8]) -> Self {
        let blocks = Self::new(raw.len());
        for (cell, block) in blocks.cells.iter().zip(raw.chunks(BLOCK_BYTES)) {
            let content: Box<[u8]> = block.get(..CONTENT_BYTES).unwrap_or_default().into();
            blocks.held_bytes.fetch_add(content.len(), Ordering::Relaxed);
            let _ = cell.set(content);
        }
        blocks
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

/// Reads `[at, at + len)` of a footer.
pub(crate) type Load<'f> = Box<dyn Fn(usize, usize) -> io::Result<Bytes> + 'f>;

/// A footer. Only blocks that are needed are read, each once as long as [`Blocks`] are kept.
pub(crate) struct Footer<'f> {
    blocks: Arc<Blocks>,
    load: Load<'f>,
    failed: OnceCell<io::Error>,
}

impl<'f> Footer<'f> {
    /// From all its blocks.
    pub(crate) fn parse(raw: &[u8]) -> Self {
        let raw = Bytes::copy_from_slice(raw);
        Self::new(Arc::new(Blocks::new(raw.len())), Box::new(move |at, len| Ok(raw.slice(at..at + len))))
    }

    /// A footer of which some blocks may be known.
    pub(crate) fn new(blocks: Arc<Blocks>, load: Load<'f>) -> Self {
        Self { blocks, load, failed: OnceCell::new() }
    }

    /// Why a block could not be read at all. What such a footer calls damaged may not be.
    pub(crate) fn failed(&self) -> Option<&io::Error> {
        self.failed.get()
    }

    fn block(&self, i: usize) -> Result<&[u8], Rotten> {
        let cell = self.blocks.cells.get(i).ok_or(Rotten)?;
        if let Some(content) = cell.get() {
            return if content.is_empty() { Err(Rotten) } else { Ok(content) };
        }
        let raw = (self.load)(i * BLOCK_BYTES, BLOCK_BYTES).map_err(|e| {
            let _ = self.failed.set(e);
            Rotten
        })?;
        let content = raw.get(..CONTENT_BYTES).unwrap_or_default();
        let sound = u32_at(&raw, CONTENT_BYTES) == Some(crate::format::crc::crc32c(content));
        let content: Box<[u8]> = if sound { content.into() } else { Box::default() };
        let bytes = content.len();
        if cell.set(content).is_ok() {
            self.blocks.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        cell.get().map(|content| &**content).filter(|content| !content.is_empty()).ok_or(Rotten)
    }

    fn get(&self, at: usize, len: usize) -> Result<Cow<'_, [u8]>, Rotten> {
        let (first, from) = (at / CONTENT_BYTES, at % CONTENT_BYTES);
        if from + len <= CONTENT_BYTES {
            return self.block(first)?.get(from..from + len).map(Cow::Borrowed).ok_or(Rotten);
        }
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let (block, from) = ((at + out.len()) / CONTENT_BYTES, (at + out.len()) % CONTENT_BYTES);
            let to = CONTENT_BYTES.min(from + len - out.len());
            out.extend_from_slice(self.block(block)?.get(from..to).ok_or(Rotten)?);
        }
        Ok(Cow::Owned(out))
    }

    /// As much of `[at, to)` as is there.
    fn part(&self, at: usize, to: usize) -> Cow<'_, [u8]> {
        let whole = self.get(at, to - at);
        whole.unwrap_or_else(|Rotten| {
            let first = (at / CONTENT_BYTES + 1) * CONTENT_BYTES;
            self.get(at, first.min(to) - at).unwrap_or_default()
        })
    }

    fn listed(&self, i: usize) -> Result<Listed, Rotten> {
        let d = &*self.get(HEAD_BYTES + i * DIRECTORY_BYTES, DIRECTORY_BYTES)?;
        let read = || {
            Some(Listed {
                log: LogId(u64_at(d, 0)?),
                first: u64_at(d, 8)?,
                end: u64_at(d, 16)?,
                entries: u32_at(d, 24)?,
                bytes: u32_at(d, 28)?,
                max_ts_ms: i64::from_le_bytes(array_at(d, 32)?),
                run_off: u32_at(d, 40)?,
                backwards: u32_at(d, 44)? & BACKWARDS != 0,
            })
        };
        read().ok_or(Rotten)
    }

    /// The directory.
    ///
    /// # Errors
    /// If any block of it is damaged.
    pub(crate) fn logs(&self) -> Result<Vec<Listed>, Rotten> {
        let logs = size(u64::from(u32_at(&self.get(0, HEAD_BYTES)?, 0).ok_or(Rotten)?));
        (0..logs).map(|i| self.listed(i)).collect()
    }

    /// A log's place in the directory.
    ///
    /// # Errors
    /// If the blocks needed are damaged.
    pub(crate) fn find(&self, log: LogId) -> Result<Option<Listed>, Rotten> {
        let logs = size(u64::from(u32_at(&self.get(0, HEAD_BYTES)?, 0).ok_or(Rotten)?));
        let (mut low, mut high) = (0, logs);
        let (mut least, mut most) = (0, u64::MAX);
        let mut looks = 0;
        while low < high {
            let mid = match looks {
                0 => low,
                1 => high - 1,
                2..GUESSES => guess(log.0, (least, most), (low, high)),
                _ => low.midpoint(high),
            };
            looks += 1;
            let d = self.listed(mid)?;
            match d.log.cmp(&log) {
                std::cmp::Ordering::Equal => return Ok(Some(d)),
                std::cmp::Ordering::Less => (low, least) = (mid + 1, d.log.0),
                std::cmp::Ordering::Greater => (high, most) = (mid, d.log.0),
            }
        }
        Ok(None)
    }

    /// A restart point: first position, offset, where its entries begin, largest timestamp of its entries.
    fn restart(&self, d: &Listed, i: usize) -> Result<(u64, u32, usize, i64), Rotten> {
        let base = size(u64::from(d.run_off));
        let r = &*self.get(base + i * RESTART_BYTES, RESTART_BYTES)?;
        let read = || {
            let at = base + size(u64::from(u32_at(r, 12)?));
            Some((u64_at(r, 0)?, u32_at(r, 8)?, at, i64::from_le_bytes(array_at(r, 16)?)))
        };
        read().ok_or(Rotten)
    }

    fn groups(d: &Listed) -> usize {
        size(u64::from(d.entries)).div_ceil(RESTART_ENTRIES)
    }

    fn group(&self, d: &Listed, i: usize) -> Result<Vec<IndexEntry>, Rotten> {
        let (mut pos, mut offset, at, max_ts_ms) = self.restart(d, i)?;
        let n = (size(u64::from(d.entries)) - i * RESTART_ENTRIES).min(RESTART_ENTRIES);
        let to = if i + 1 < Self::groups(d) { self.restart(d, i + 1)?.2 } else { at + n * 24 };
        let to = to.min(self.blocks.cells.len() * CONTENT_BYTES);
        let part = self.part(at, to.max(at));
        let mut bytes = &*part;
        let mut out = Vec::with_capacity(n);
        for _ in 0..n {
            let mut read = || {
                let step = take_varint(&mut bytes)?;
                let count = if step & 1 == 1 { u32::try_from(take_varint(&mut bytes)?).ok()? } else { 1 };
                let at = stepped(offset, take_varint(&mut bytes)?, d.backwards)?;
                let len = u32::try_from(take_varint(&mut bytes)?).ok()?;
                let at = (at, len);
                Some(IndexEntry::new(pos.checked_add(step >> 1)?, count, max_ts_ms, at))
            };
            let e = read().ok_or(Rotten)?;
            (pos, offset) = (e.end(), e.offset);
            out.push(e);
        }
        Ok(out)
    }

    /// Entries that end after `from`, ascending, as long as `f` takes them. Their `max_ts_ms` is that of 64 entries together.
    ///
    /// # Errors
    /// If the blocks needed are damaged.
    pub(crate) fn entries(
        &self,
        d: &Listed,
        from: u64,
        mut f: impl FnMut(IndexEntry) -> bool,
    ) -> Result<(), Rotten> {
        let (mut low, mut high) = (0, Self::groups(d));
        while low < high {
            let mid = low.midpoint(high);
            if self.restart(d, mid)?.0 <= from { low = mid + 1 } else { high = mid }
        }
        for i in low.saturating_sub(1)..Self::groups(d) {
            for e in self.group(d, i)? {
                if e.end() > from && !f(e) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Where in `[low, high)` a log lies if ids from `least` to `most` are spread evenly.
fn guess(log: u64, (least, most): (u64, u64), (low, high): (usize, usize)) -> usize {
    let span = u128::from(most.saturating_sub(least)).max(1);
    let ahead = u128::from(log.saturating_sub(least)) * u128::from(len64(high - low)) / span;
    low + usize::try_from(ahead).unwrap_or(usize::MAX).min(high - low - 1)
}

#[cfg(test)]
mod tests;
