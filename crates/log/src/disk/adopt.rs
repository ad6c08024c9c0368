//! Gives a full file its index: footer, sync, seal block, sync. The rows that lead to it are the keeper's. Once they are durable, room
//! that is left behind the index is given back.

use std::io::{self, IoSlice};
use std::sync::Arc;

use millstream_env::{Disk, OpenMode};
use millstream_types::LogId;

use super::events::{FileId, SealedFile};
use super::file::path;
use super::tail::IndexEntry;
use crate::format::bytes::{align4k, len32, len64, size};
use crate::format::crc::crc32c;
use crate::format::footer;
use crate::format::header::SEAL_OFFSET;
use crate::format::ids::StoreId;
use crate::format::rows::FileRow;
use crate::format::seal::Seal;
use crate::space::AdoptedAt;

/// The room behind the index is given back if it is at least one part in so many of the file.
const SPARE_PARTS: u64 = 4;

/// Writes the index behind the last frame. Room was left for it, so the file does not grow.
///
/// # Durability
/// Footer and seal block are durable when it returns.
///
/// # Errors
/// What the disk says.
pub(crate) fn write_index(
    disk: &Arc<dyn Disk>,
    store: &StoreId,
    sealed: &SealedFile,
    runs: &[(LogId, Vec<IndexEntry>)],
) -> io::Result<AdoptedAt> {
    let raw = footer::encode(runs);
    let footer_off = len64(align4k(size(sealed.frames_end)));
    let file = disk.open(&path(sealed.file), OpenMode::Write)?;
    file.write_at(footer_off, &[IoSlice::new(&raw)])?;
    file.sync_data()?;
    let seal = Seal {
        lap: sealed.lap,
        first_lsn: sealed.first_lsn.0,
        last_lsn: sealed.last_lsn.0,
        frames_end: sealed.frames_end,
        footer_off,
        footer_len: len32(raw.len()),
        footer_crc: crc32c(&raw),
        entries: len32(runs.iter().map(|(_, run)| run.len()).sum()),
    };
    file.write_at(SEAL_OFFSET, &[IoSlice::new(&seal.encode(store))])?;
    file.sync_data()?;
    Ok(AdoptedAt { footer_off, footer_len: len64(raw.len()) })
}

/// Room that an adopted segment file holds: what lies behind its index is given back if it is much.
pub(crate) fn held_bytes(row: &FileRow, segment_bytes: u64) -> u64 {
    let used = len64(align4k(size(row.footer_off + row.footer_len)));
    if used <= segment_bytes - segment_bytes / SPARE_PARTS { used } else { segment_bytes }
}

/// Gives back the room that an adopted file does not need: it is never written again before it is free, and then it is removed.
/// Only once its rows are durable: until then it may have to be given its index anew, on a full disk.
pub(crate) fn give_back_rest(disk: &Arc<dyn Disk>, id: FileId, row: &FileRow, segment_bytes: u64) {
    let held = held_bytes(row, segment_bytes);
    if held < segment_bytes {
        // Nothing but room depends on it.
        let _ = disk.open(&path(id), OpenMode::Write).and_then(|file| file.shorten(held));
    }
}
