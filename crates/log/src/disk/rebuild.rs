//! Makes the index of an adopted file or a pack anew from its content, where what lies on the disk is damaged. Only what has the
//! checksum that the file's seal block (a pack's trailer) names counts: it is the index that was there, byte for byte. Start at
//! [`footer_of`].

use std::collections::BTreeMap;
use std::io;

use millstream_types::LogId;

use super::file::SegFile;
use super::tail::IndexEntry;
use crate::format::bytes::{len32, len64, size};
use crate::format::crc::crc32c;
use crate::format::footer;
use crate::format::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::format::header::{BLOCK_BYTES, FRAMES_OFFSET, SEAL_OFFSET};
use crate::format::ids::StoreId;
use crate::format::op::{Found, To, take_op};
use crate::format::pack::{BLOCK_HEADER_BYTES, BLOCKS_OFFSET, BlockHeader, Trailer};
use crate::format::part::PartHeader;
use crate::format::rows::FileRow;
use crate::format::seal::Seal;

/// Entries in the order in which they lie.
type Entries = Vec<(LogId, IndexEntry)>;

/// The blocks of the file's index; `None` if its content cannot tell either.
///
/// # Errors
/// If the disk fails.
pub(super) fn footer_of(file: &SegFile, row: &FileRow, store: &StoreId) -> io::Result<Option<Vec<u8>>> {
    if file.id.is_pack() { of_pack(file, row, store) } else { of_segment(file, row, store) }
}

fn of_segment(file: &SegFile, row: &FileRow, store: &StoreId) -> io::Result<Option<Vec<u8>>> {
    let seal = Seal::decode(&file.read(SEAL_OFFSET, BLOCK_BYTES)?, store);
    let Some(seal) = seal.filter(|s| (s.lap, s.footer_off) == (file.lap, row.footer_off)) else {
        return Ok(None);
    };
    let Some((entries, sure)) = entries_of_frames(file, &seal, store)? else { return Ok(None) };
    let is_it = |raw: &Vec<u8>| (len32(raw.len()), crc32c(raw)) == (seal.footer_len, seal.footer_crc);
    // A record that was begun at the end of the file was finished in the next, or dropped.
    let all = encodings(&entries).find(is_it);
    Ok(all.or_else(|| encodings(entries.get(..sure)?).find(is_it)))
}

fn of_pack(file: &SegFile, row: &FileRow, store: &StoreId) -> io::Result<Option<Vec<u8>>> {
    let trailer = Trailer::decode(&file.read(row.footer_off + row.footer_len, BLOCK_BYTES)?, store);
    let Some(trailer) = trailer else { return Ok(None) };
    let is_it = |raw: &Vec<u8>| (len32(raw.len()), crc32c(raw)) == (trailer.footer_len, trailer.footer_crc);
    Ok(entries_of_blocks(file, &trailer)?.and_then(|entries| encodings(&entries).find(is_it)))
}

/// The index of these entries as it is written now, and as it was before logs shared theirs.
fn encodings(entries: &[(LogId, IndexEntry)]) -> impl Iterator<Item = Vec<u8>> {
    let mut runs: BTreeMap<LogId, Vec<IndexEntry>> = BTreeMap::new();
    for (log, e) in entries {
        runs.entry(*log).or_default().push(*e);
    }
    let mut runs: Vec<_> = runs.into_iter().collect();
    // In a pack fan-outs lie behind all else.
    for (_, run) in &mut runs {
        run.sort_by_key(|e| e.pos);
    }
    let encode = move |apart: bool| if apart { footer::encode_apart(&runs) } else { footer::encode(&runs) };
    [false, true].into_iter().map(encode)
}

/// Adds the entries among operations that lie at `at`. `None` if that is not what lies there.
fn take_entries(mut ops: &[u8], at: u64, entries: &mut Entries) -> Option<()> {
    let end = at + len64(ops.len());
    while !ops.is_empty() {
        let offset = u32::try_from(end - len64(ops.len())).ok()?;
        let (found, len) = take_op(&mut ops).ok()?;
        let Found::Entry(e) = found else { continue };
        let new = |pos, count| IndexEntry::new(pos, count, e.max_ts_ms, (offset, len32(len)));
        match e.to {
            To::One { log, pos, count } => entries.push((log, new(pos, count))),
            To::Many(refs) => entries.extend(refs.map(|(log, pos)| (log, new(pos, 1)))),
        }
    }
    Some(())
}

/// All entries, and how many of them belong to records that end in the file. `None` if any frame is damaged.
fn entries_of_frames(file: &SegFile, seal: &Seal, store: &StoreId) -> io::Result<Option<(Entries, usize)>> {
    let (mut entries, mut sure) = (Vec::new(), 0);
    let (mut at, mut number) = (FRAMES_OFFSET, 1);
    while at < seal.frames_end {
        let header = FrameHeader::decode(&file.read(at, BLOCK_BYTES)?, store).map(|d| d.header);
        let bytes = header.as_ref().map_or(0, FrameHeader::frame_bytes);
        let is_next = |h: &FrameHeader| (h.lap, h.number) == (file.lap, number);
        let Some(header) = header.filter(is_next).filter(|_| at + len64(bytes) <= seal.frames_end) else {
            return Ok(None);
        };
        let frame = file.read(at, bytes)?;
        let parts = header.payload(store, &frame).and_then(|payload| {
            let mut rest = payload;
            while !rest.is_empty() {
                let (part, ops) = PartHeader::take(&mut rest).ok()?;
                let before = FRAME_HEADER_BYTES + payload.len() - rest.len() - ops.len();
                take_entries(ops, at + len64(before), &mut entries)?;
                sure = if part.kind.ends() { entries.len() } else { sure };
            }
            Some(())
        });
        if parts.is_none() {
            return Ok(None);
        }
        (at, number) = (at + len64(bytes), number + 1);
    }
    Ok(Some((entries, sure)))
}

/// All entries of a pack. `None` if any block's header is damaged.
fn entries_of_blocks(file: &SegFile, trailer: &Trailer) -> io::Result<Option<Entries>> {
    let mut entries = Vec::new();
    let mut at = BLOCKS_OFFSET;
    while at < trailer.blocks_end {
        let header = BlockHeader::decode(&file.read(at, BLOCK_HEADER_BYTES)?);
        at += len64(BLOCK_HEADER_BYTES);
        let len = header.map_or(u64::MAX, |h| u64::from(h.len));
        if len > trailer.blocks_end.saturating_sub(at) {
            return Ok(None);
        }
        let block = file.read(at, size(len))?;
        if take_entries(&block, at, &mut entries).is_none() {
            return Ok(None);
        }
        at += len;
    }
    Ok(Some(entries))
}
