//! Writes a pack. Reads are in the order of the sources and joined; writes are direct and of whole pieces; between pieces the thread
//! waits, so that commits go first. Start at [`write`].

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use millstream_env::{AlignedBuf, Disk, File, OpenMode};
use millstream_types::LogId;

use super::plan::{Item, Plan, Shared, padded};
use super::worker::{Fault, Pace};
use crate::api::Op;
use crate::disk::events::FileId;
use crate::disk::file::{PACK_DIR, SegFile, path};
use crate::disk::tail::IndexEntry;
use crate::format::bytes::{align4k, align8, len32, len64, size};
use crate::format::crc::crc32c;
use crate::format::footer;
use crate::format::ids::StoreId;
use crate::format::op::{EntryView, encode, encoded_len, entry, entry_is_sound};
use crate::format::pack::{
    BLOCK_HEADER_BYTES, BLOCKS_OFFSET, BlockHeader, BlockOf, ENTRIES_BYTES_MAX, PackHeader, Trailer,
};

/// Bytes of one read or write.
const PIECE_BYTES: usize = 1 << 20;
/// Entries closer than this are read together.
const GAP_BYTES_MAX: u64 = 64 << 10;
/// Blocks that are filled together: their entries are read in the order in which they lie. As much as a pack has in most cases.
const WINDOW_BYTES: usize = 32 << 20;

/// A pack as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub footer_off: u64,
    pub footer_len: u64,
    /// Bytes of its entries.
    pub stored: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Writes the pack and its name.
///
/// # Durability
/// Both are durable when it returns. After an error there may be a file, which nothing leads to.
pub(super) fn write(
    disk: &Arc<dyn Disk>,
    store: &StoreId,
    id: FileId,
    plan: &Plan,
    pace: &Pace,
) -> Result<Written, Fault> {
    let out = Out::create(disk, id, least_bytes(plan), pace).map_err(|e| Fault::pack(&e))?;
    let mut w = Writer { plan, out, runs: BTreeMap::new(), stored: 0 };
    w.out.put(&PackHeader { number: id.number() }.encode(store))?;
    w.own()?;
    w.shared()?;
    let written = w.finish(store, id)?;
    disk.sync_dir(PACK_DIR).map_err(|e| Fault::pack(&e))?;
    Ok(written)
}

/// What the pack takes at least.
fn least_bytes(plan: &Plan) -> u64 {
    let entries = plan.own.iter().flat_map(|(_, items)| items);
    BLOCKS_OFFSET + entries.map(|i| len64(padded(i.e.len))).sum::<u64>()
}

/// The file being written.
struct Out<'a> {
    file: Arc<dyn File>,
    /// What is not written yet, from `at` on.
    buf: AlignedBuf,
    at: u64,
    pace: &'a Pace,
}

impl<'a> Out<'a> {
    fn create(disk: &Arc<dyn Disk>, id: FileId, least_bytes: u64, pace: &'a Pace) -> io::Result<Self> {
        disk.create_dir_all(PACK_DIR)?;
        disk.sync_dir("")?;
        let path = path(id);
        // A full disk shows now, and the file lies in one piece.
        disk.open(&path, OpenMode::CreateNew)?.allocate(least_bytes)?;
        let file = disk.open(&path, OpenMode::Direct)?;
        Ok(Self { file, buf: AlignedBuf::with_capacity(PIECE_BYTES), at: 0, pace })
    }

    fn pos(&self) -> u64 {
        self.at + len64(self.buf.len())
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(self.buf.remaining()));
            self.buf.extend_from_slice(now);
            bytes = later;
            if self.buf.remaining() == 0 {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn pad_to_block(&mut self) {
        self.buf.resize_zeroed(align4k(self.buf.len()));
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.file.write_at(self.at, &[IoSlice::new(&self.buf)]).map_err(|e| Fault::pack(&e))?;
        self.at += len64(self.buf.len());
        let written = self.buf.len();
        self.buf.clear();
        self.pace.wait(written)
    }
}

struct Writer<'a> {
    plan: &'a Plan,
    out: Out<'a>,
    runs: BTreeMap<LogId, Vec<IndexEntry>>,
    stored: u64,
}

/// A block of a log's entries to be filled.
struct Block<'a> {
    log: LogId,
    items: &'a [Item],
    bytes: usize,
}

/// Where an entry goes in a window.
struct Slot<'a> {
    item: &'a Item,
    log: LogId,
    at: usize,
    max_ts_ms: i64,
}

impl Writer<'_> {
    /// Entries of one log each.
    fn own(&mut self) -> Result<(), Fault> {
        let plan = self.plan;
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        for (log, items) in &plan.own {
            let mut rest = &items[..];
            while !rest.is_empty() {
                let mut len = 0;
                let fits = |i: &&Item| {
                    let alone = len == 0;
                    len += padded(i.e.len);
                    alone || len <= ENTRIES_BYTES_MAX
                };
                let n = rest.iter().take_while(fits).count();
                let (now, later) = rest.split_at(n);
                let len = now.iter().map(|i| padded(i.e.len)).sum();
                blocks.push(Block { log: *log, items: now, bytes: len });
                bytes += BLOCK_HEADER_BYTES + len;
                rest = later;
                if bytes >= WINDOW_BYTES {
                    self.window(&blocks, std::mem::take(&mut bytes))?;
                    blocks.clear();
                }
            }
        }
        self.window(&blocks, bytes)
    }

    fn window(&mut self, blocks: &[Block<'_>], bytes: usize) -> Result<(), Fault> {
        let mut window = vec![0; bytes];
        let mut slots: Vec<Slot<'_>> = Vec::new();
        let mut at = 0;
        for b in blocks {
            let (first, end) =
                (b.items.first().map_or(0, |i| i.e.pos), b.items.last().map_or(0, |i| i.e.end()));
            let of = BlockOf::Log { log: b.log, first, end };
            let header = BlockHeader { of, len: len32(b.bytes), n: len32(b.items.len()) };
            crate::format::bytes::put(&mut window, at, &header.encode());
            at += BLOCK_HEADER_BYTES;
            for item in b.items {
                slots.push(Slot { item, log: b.log, at, max_ts_ms: -1 });
                at += padded(item.e.len);
            }
            self.stored += len64(b.bytes);
        }
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_unstable_by_key(|i| slots.get(*i).map(|s| (s.item.source, s.item.e.offset)));
        let place =
            |i: &usize| slots.get(*i).map_or((0, 0, 0), |s| (s.item.source, s.item.e.offset, s.item.e.len));
        let mut times = vec![-1; slots.len()];
        read_in_order(&self.plan.sources, &order, place, self.out.pace, |i, file, bytes| {
            let Some(s) = slots.get(*i) else { return Ok(()) };
            let view = sound(file, bytes, s.log, s.item.e.pos)?;
            crate::format::bytes::put(&mut window, s.at, bytes);
            if let Some(t) = times.get_mut(*i) {
                *t = view.max_ts_ms;
            }
            Ok(())
        })?;
        let base = self.out.pos();
        for (s, t) in slots.iter_mut().zip(times) {
            s.max_ts_ms = t;
            let e = &s.item.e;
            let offset = offset32(base + len64(s.at))?;
            let moved = IndexEntry::new(e.pos, e.count, s.max_ts_ms, (offset, e.len));
            self.runs.entry(s.log).or_default().push(moved);
        }
        self.out.put(&window)
    }

    /// Bodies in several logs, with the references that are left.
    fn shared(&mut self) -> Result<(), Fault> {
        let plan = self.plan;
        let (mut block, mut n) = (BytesMut::new(), 0u32);
        let lies = |s: &Shared| (s.source, s.offset, s.len);
        let (out, runs, stored) = (&mut self.out, &mut self.runs, &mut self.stored);
        let gentle = out.pace;
        read_in_order(&plan.sources, &plan.shared, lies, gentle, |s, file, bytes| {
            let (log, pos) = s.to.first().copied().unwrap_or_default();
            let view = sound(file, bytes, log, pos)?;
            if !s.to.iter().all(|(log, pos)| view.to.holds(*log, *pos)) {
                return Err(damaged(file, log, pos));
            }
            let body = [bytes.slice(view.attrs_at + view.attrs.len()..)];
            let (max_ts_ms, attrs) = (view.max_ts_ms, view.attrs);
            let op = Op::FanOut { to: &s.to, max_ts_ms, attrs, body: &body };
            let len = encoded_len(&op);
            if !block.is_empty() && block.len() + align8(len) > ENTRIES_BYTES_MAX {
                put_fan_outs(out, &mut block, &mut n)?;
            }
            let offset = offset32(out.pos() + len64(BLOCK_HEADER_BYTES + block.len()))?;
            block.reserve(align8(len));
            encode(&op, &mut block);
            n += 1;
            *stored += len64(align8(len));
            for (log, pos) in &s.to {
                let e = IndexEntry::new(*pos, 1, max_ts_ms, (offset, len32(len)));
                runs.entry(*log).or_default().push(e);
            }
            Ok(())
        })?;
        if n > 0 { put_fan_outs(out, &mut block, &mut n) } else { Ok(()) }
    }

    fn finish(mut self, store: &StoreId, id: FileId) -> Result<Written, Fault> {
        let mut runs: Vec<(LogId, Vec<IndexEntry>)> = std::mem::take(&mut self.runs).into_iter().collect();
        for (_, run) in &mut runs {
            run.sort_unstable_by_key(|e| e.pos);
        }
        let raw = footer::encode(&runs);
        let blocks_end = self.out.pos();
        self.out.pad_to_block();
        let footer_off = self.out.pos();
        self.out.put(&raw)?;
        let trailer = Trailer {
            number: id.number(),
            blocks_end,
            footer_off,
            stored: self.stored,
            footer_len: len32(raw.len()),
            footer_crc: crc32c(&raw),
            entries: len32(runs.iter().map(|(_, run)| run.len()).sum()),
        };
        self.out.put(&trailer.encode(store))?;
        self.out.flush()?;
        self.out.file.sync_all().map_err(|e| Fault::pack(&e))?;
        let (footer_len, bytes) = (len64(raw.len()), self.out.pos());
        Ok(Written { footer_off, footer_len, stored: self.stored, bytes })
    }
}

fn put_fan_outs(out: &mut Out<'_>, block: &mut BytesMut, n: &mut u32) -> Result<(), Fault> {
    let header = BlockHeader { of: BlockOf::FanOuts, len: len32(block.len()), n: std::mem::take(n) };
    out.put(&header.encode())?;
    out.put(block)?;
    block.clear();
    Ok(())
}

fn offset32(at: u64) -> Result<u32, Fault> {
    u32::try_from(at).map_err(|_| Fault::Pack("it would become larger than 4 GiB".to_owned()))
}

fn damaged(file: &SegFile, log: LogId, pos: u64) -> Fault {
    let what = format!("position {pos} of log {} is damaged in {}", log.0, path(file.id));
    Fault::Source((file.id, file.lap), what)
}

/// The entry, if its bytes are what was written and it is the one meant.
fn sound<'b>(file: &SegFile, bytes: &'b [u8], log: LogId, pos: u64) -> Result<EntryView<'b>, Fault> {
    let view = if entry_is_sound(bytes) { entry(bytes).ok() } else { None };
    view.filter(|v| v.to.holds(log, pos)).ok_or_else(|| damaged(file, log, pos))
}

/// Reads what `at` says (source, offset, length) of items that are sorted by it, neighbours together.
fn read_in_order<T>(
    sources: &[Arc<SegFile>],
    items: &[T],
    at: impl Fn(&T) -> (usize, u32, u32),
    pace: &Pace,
    mut each: impl FnMut(&T, &SegFile, &Bytes) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let span = |item: &T| {
        let (source, offset, len) = at(item);
        (source, u64::from(offset), u64::from(offset) + u64::from(len))
    };
    let mut rest = items;
    while let Some(first) = rest.first() {
        let (source, start, mut end) = span(first);
        let Some(file) = sources.get(source) else { return Ok(()) };
        let mut n = 1;
        for item in rest.iter().skip(1) {
            let (of, at, to) = span(item);
            if of != source || at > end + GAP_BYTES_MAX || to - start > len64(PIECE_BYTES) {
                break;
            }
            (end, n) = (end.max(to), n + 1);
        }
        let failed = |e: io::Error| Fault::Source((file.id, file.lap), e.to_string());
        let bytes = file.read(start, size(end - start)).map_err(failed)?;
        pace.wait(bytes.len())?;
        let (now, later) = rest.split_at(n);
        for item in now {
            let (_, at, to) = span(item);
            each(item, file, &bytes.slice(size(at - start)..size(to - start)))?;
        }
        rest = later;
    }
    Ok(())
}
