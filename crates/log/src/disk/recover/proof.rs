//! Looks behind the end for proof that more was durable than can be read. If there is any, nothing may be cut.
//!
//! Any valid frame header of this store proves what its `durable_lsn` says, in whatever lap it lies: `durable` never goes back.
//! A message cannot forge one, as the checksum is seeded with the store's secret uuid.

use std::io;
use std::sync::Arc;

use millstream_types::Lsn;

use super::scan::{Found, Scan};
use super::walk::Walked;
use super::window::Window;
use crate::api::OpenError;
use crate::disk::events::FileId;
use crate::disk::file::path;
use crate::format::header::{FRAMES_OFFSET, LINK_OFFSET};
use crate::format::ids::StoreId;

/// How far files outside the log are looked at.
const OUTSIDE_BYTES_MAX: u64 = 16 << 20;
const STEP: u64 = 4096;

/// What lies behind the end.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// Frames of the last lap that are void: the tail was torn.
    pub torn: bool,
    /// Highest lap seen in any frame header.
    pub lap_max: u64,
    /// Bytes read.
    pub read_bytes: u64,
}

/// Refuses if anything proves that record `next` was durable.
pub(crate) fn look(
    store: &StoreId,
    scan: &Scan,
    w: &Walked,
    next: u64,
    hint: u64,
    is_adopted: &dyn Fn(FileId) -> bool,
) -> Result<Behind, OpenError> {
    let mut behind = Behind::default();
    let last = w.files.last().copied();
    let corrupt = |found: &Found, proven: u64, detail: String| OpenError::Corrupt {
        file: path(found.id),
        first: Lsn(next),
        last: Lsn(proven),
        detail,
    };
    for found in &scan.files {
        let lap = found.linked.map(|l| l.lap);
        let in_log = w.files.iter().any(|&(id, l)| id == found.id && Some(l) == lap);
        let is_last = in_log && last.is_some_and(|(id, _)| id == found.id);
        if is_last {
            let sealed = found.seal.map_or(0, |s| s.last_lsn);
            if sealed.max(hint) >= next {
                return Err(corrupt(
                    found,
                    sealed.max(hint),
                    "the log ends before what was durable".to_owned(),
                ));
            }
        }
        let (from, to) = match (is_last, in_log) {
            (true, _) => (w.end.offset.max(FRAMES_OFFSET), found.len),
            (false, true) => continue,
            // Its rows are durable, and proved nothing beyond the hint.
            (false, false) if is_adopted(found.id) => continue,
            (false, false) => (LINK_OFFSET, found.len.min(OUTSIDE_BYTES_MAX)),
        };
        let failed = |e: io::Error| OpenError::Io { file: path(found.id), source: e };
        let mut window = Window::new(Arc::clone(&found.file), found.len);
        let mut at = from;
        while at < to {
            if let Some(d) = window.header(store, at).map_err(failed)? {
                let h = d.header;
                if h.durable_lsn >= next {
                    let detail = format!("a frame at {at} was written after them");
                    return Err(corrupt(found, h.durable_lsn, detail));
                }
                behind.torn |= is_last && Some(h.lap) == lap;
                behind.lap_max = behind.lap_max.max(h.lap);
            }
            at += STEP;
        }
        behind.read_bytes += window.read_bytes;
    }
    if last.is_none() && hint >= next {
        let (file, detail) =
            (crate::disk::file::SEG_DIR.to_owned(), "the log's files are missing".to_owned());
        return Err(OpenError::Corrupt { file, first: Lsn(next), last: Lsn(hint), detail });
    }
    Ok(behind)
}
