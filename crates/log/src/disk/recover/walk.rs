//! Walks the laps of the log in order and finds where it ends. It writes nothing. Start at [`walk`].

use std::io;
use std::sync::Arc;

use millstream_env::Disk;
use millstream_types::Lsn;

use super::apply::{Apply, Bad};
use super::scan::{Found, Linked, Scan};
use super::window::Window;
use crate::api::OpenError;
use crate::disk::events::{FileId, SealedFile};
use crate::disk::file::{SEG_DIR, SegFile, path};
use crate::disk::place::End;
use crate::format::bytes::len64;
use crate::format::frame::{FRAME_HEADER_BYTES, FRAME_VERSION, MARKER};
use crate::format::header::{BLOCK_BYTES, FRAMES_OFFSET, LINK_OFFSET};
use crate::format::ids::StoreId;
use crate::format::link::Link;
use crate::format::rows::EndRow;

/// A frame of the last lap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameAt {
    pub offset: u64,
    pub bytes: usize,
    /// Highest LSN of which a part lies in it.
    pub touched: u64,
}

/// Where the log ends.
#[derive(Default)]
pub(crate) struct Walked {
    /// Files of the log in order, with their laps.
    pub files: Vec<(FileId, u64)>,
    /// Use number of the last.
    pub use_no: u64,
    pub end: End,
    /// End of the log in the lap before the last.
    pub end_before: End,
    /// Frames of the last lap, its link frame first.
    pub frames: Vec<FrameAt>,
    /// Highest LSN of which a part lies in the lap walked last.
    touched: u64,
    /// Highest LSN that some frame says is durable.
    pub proven: u64,
    pub bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// The last frame is the marker of a clean end.
    pub clean: bool,
    /// A record was begun and not finished.
    pub dropped: bool,
}

/// Walks from the first lap to the end, and replays.
pub(crate) fn walk(
    disk: &Arc<dyn Disk>,
    store: &StoreId,
    scan: &Scan,
    apply: &mut Apply<'_>,
) -> Result<Walked, OpenError> {
    let mut w = Walked { clean: true, ..Walked::default() };
    let floor_lap = apply.floor_lap();
    let first = if floor_lap == 0 { scan.after(0) } else { scan.lap(floor_lap) };
    let Some(mut cur) = first else {
        if floor_lap == 0 {
            return Ok(w);
        }
        let (file, detail) =
            (SEG_DIR.to_owned(), format!("lap {floor_lap}, where reading begins, is missing"));
        let first = Lsn(apply.floor());
        return Err(OpenError::Corrupt { file, first, last: Lsn(u64::MAX), detail });
    };
    if floor_lap != 0 {
        apply.begin_at(cur.1.link.first_lsn);
    } else if cur.1.link.first_lsn != apply.next {
        return Err(corrupt(
            cur.0,
            apply,
            cur.1.link.first_lsn,
            "the first lap does not begin with record 1",
        ));
    }
    loop {
        let (found, lap) = cur;
        let next = scan.after(lap.lap);
        w.use_no += 1;
        let seg =
            SegFile::open(disk, found.id, lap.lap, found.len).map_err(super::meta::io(path(found.id)))?;
        if next.is_some() {
            seg.set_sealed();
        }
        apply.file(w.use_no, Arc::new(seg));
        w.files.push((found.id, lap.lap));
        w.end_before = w.end;
        let first_lsn = Lsn(apply.incomplete());
        walk_lap(store, found, lap, next, apply, &mut w)?;
        let last_lsn = Lsn(w.touched);
        let sealed =
            SealedFile { file: found.id, lap: lap.lap, first_lsn, last_lsn, frames_end: w.end.offset };
        apply.lap_end(sealed);
        let Some((next_found, next_lap)) = next else { break };
        if next_lap.epoch != lap.epoch {
            apply.drop_pending();
        }
        if next_lap.link.first_lsn != apply.next {
            return Err(corrupt(next_found, apply, next_lap.link.first_lsn, "its link names another record"));
        }
        cur = (next_found, next_lap);
    }
    w.dropped = apply.drop_pending();
    Ok(w)
}

/// Walks one lap up to where its successor says it ends, or to the first frame that is not valid.
fn walk_lap(
    store: &StoreId,
    found: &Found,
    lap: Linked,
    next: Option<(&Found, Linked)>,
    apply: &mut Apply<'_>,
    w: &mut Walked,
) -> Result<(), OpenError> {
    let failed = |e: io::Error| OpenError::Io { file: path(found.id), source: e };
    let mut window = Window::new(Arc::clone(&found.file), found.len);
    let link_end = End { lap: lap.lap, offset: FRAMES_OFFSET, crc: lap.link_crc };
    w.end = link_end;
    w.frames.clear();
    w.frames.push(FrameAt { offset: LINK_OFFSET, bytes: BLOCK_BYTES, touched: 0 });
    w.proven = w.proven.max(lap.durable_lsn);
    let until = next.map(|(_, n)| n.link);
    w.touched = 0;
    let mut number = 1;
    if let Some(end) = closed_at(lap, until, apply) {
        apply.begin_at(end.lsn + 1);
        w.touched = if end.lsn < lap.link.first_lsn { 0 } else { end.lsn };
        w.clean = true;
        w.end = End { lap: end.lap, offset: end.offset, crc: end.crc };
        return Ok(());
    }
    while until.is_none_or(|link| w.end.offset < link.prev_end) {
        let offset = w.end.offset;
        let Some((d, frame)) = window.frame(store, offset).map_err(failed)? else { break };
        let h = d.header;
        if h.lap != lap.lap || h.epoch != lap.epoch || h.number != number {
            break;
        }
        if d.version > FRAME_VERSION {
            let (found_version, known) = (u32::from(d.version), u32::from(FRAME_VERSION));
            return Err(OpenError::NewerFormat { file: path(found.id), found: found_version, known });
        }
        if h.first_lsn != apply.next {
            return Err(corrupt(found, apply, h.first_lsn, "a frame does not follow the one before it"));
        }
        let payload = h.payload(store, frame).unwrap_or_default();
        let replayed = apply.records;
        let touched = apply.payload(w.use_no, offset + len64(FRAME_HEADER_BYTES), payload).map_err(
            |bad| match bad {
                Bad::Newer => OpenError::NewerFormat {
                    file: path(found.id),
                    found: u32::from(FRAME_VERSION) + 1,
                    known: u32::from(FRAME_VERSION),
                },
                Bad::Nonsense(detail) => corrupt(found, apply, h.first_lsn, detail),
                Bad::Store(e) => e.into(),
            },
        )?;
        w.touched = w.touched.max(touched);
        w.clean = h.flags & MARKER != 0;
        // A marker is proven by nothing but what follows it.
        let touched = if w.clean { u64::MAX } else { touched };
        w.frames.push(FrameAt { offset, bytes: frame.len(), touched });
        w.proven = w.proven.max(h.durable_lsn);
        if apply.records > replayed {
            w.bytes += len64(frame.len());
        }
        w.end = End { lap: lap.lap, offset: offset + len64(frame.len()), crc: d.header_crc };
        number += 1;
    }
    w.read_bytes += window.read_bytes;
    if let Some(link) = until
        && (w.end.offset, w.end.crc) != (link.prev_end, link.prev_crc)
    {
        let detail =
            format!("a frame at {} cannot be read; the log goes on to {}", w.end.offset, link.prev_end);
        return Err(corrupt(found, apply, link.first_lsn.saturating_sub(1), &detail));
    }
    Ok(())
}

/// Where the lap in which the walk begins was closed, if nothing in it must be read: it lies wholly below the floor and has its
/// index on disk, or holds no record.
fn closed_at(lap: Linked, until: Option<Link>, apply: &Apply<'_>) -> Option<EndRow> {
    let end = apply.closed().filter(|e| e.lap == lap.lap && lap.lap == apply.floor_lap())?;
    let known = end.lsn < lap.link.first_lsn || apply.is_adopted(lap.lap);
    let goes_on_there = until.is_none_or(|link| (link.prev_end, link.prev_crc) == (end.offset, end.crc));
    (known && goes_on_there && end.lsn < apply.floor()).then_some(end)
}

fn corrupt(found: &Found, apply: &Apply<'_>, last: u64, detail: &str) -> OpenError {
    let first = Lsn(apply.incomplete());
    OpenError::Corrupt { file: path(found.id), first, last: first.max(Lsn(last)), detail: detail.to_owned() }
}
