//! Gives a full file its index: footer, sync, seal block, sync. The rows that lead to it are the keeper's.

use std::io::{self, IoSlice};
use std::sync::Arc;

use millstream_env::{Disk, OpenMode};
use millstream_types::LogId;

use super::events::SealedFile;
use super::file::path;
use super::tail::IndexEntry;
use crate::format::bytes::{align4k, len32, len64, size};
use crate::format::crc::crc32c;
use crate::format::footer;
use crate::format::header::SEAL_OFFSET;
use crate::format::ids::StoreId;
use crate::format::seal::Seal;
use crate::space::AdoptedAt;

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
