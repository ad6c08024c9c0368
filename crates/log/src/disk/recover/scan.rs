//! The first blocks of every segment file: which laps there are and how they follow one another.

use std::sync::Arc;

use millstream_env::{AlignedBuf, Disk, File, OpenMode};

use super::meta::io;
use crate::api::OpenError;
use crate::disk::events::FileId;
use crate::disk::file::{SEG_DIR, path};
use crate::format::bytes::{len64, size};
use crate::format::frame::FrameHeader;
use crate::format::header::{
    FRAMES_OFFSET, Header, LINK_OFFSET, SEAL_OFFSET, SEGMENT_VERSION, SegmentHeader,
};
use crate::format::ids::StoreId;
use crate::format::link::Link;
use crate::format::seal::Seal;

/// A lap that begins with a valid link frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linked {
    pub lap: u64,
    pub epoch: u64,
    pub link: Link,
    pub link_crc: u32,
    pub durable_lsn: u64,
}

/// A segment file as found.
pub(crate) struct Found {
    pub id: FileId,
    pub file: Arc<dyn File>,
    pub len: u64,
    /// Its lap, if its header is valid and a link frame of that lap follows.
    pub linked: Option<Linked>,
    pub seal: Option<Seal>,
}

/// All segment files, and the next numbers never used.
pub(crate) struct Scan {
    pub files: Vec<Found>,
    pub next_id: u64,
    pub lap_max: u64,
    pub epoch_max: u64,
    /// Bytes read.
    pub read_bytes: u64,
}

/// Reads the first blocks of all files but those to skip: adopted ones that lie wholly below the floor.
pub(crate) fn scan(
    disk: &Arc<dyn Disk>,
    store: &StoreId,
    skip: &dyn Fn(FileId) -> bool,
) -> Result<Scan, OpenError> {
    let mut scan = Scan { files: Vec::new(), next_id: 0, lap_max: 0, epoch_max: 0, read_bytes: 0 };
    let mut blocks = AlignedBuf::with_capacity(size(FRAMES_OFFSET));
    for name in disk.list(SEG_DIR).map_err(io(SEG_DIR))? {
        let Ok(id) = u64::from_str_radix(&name, 16) else { continue };
        let id = FileId(id);
        if path(id) != format!("{SEG_DIR}/{name}") {
            continue;
        }
        scan.next_id = scan.next_id.max(id.0.saturating_add(1));
        if skip(id) {
            continue;
        }
        let file = disk.open(&path(id), OpenMode::Direct).map_err(io(path(id)))?;
        let len = file.len().map_err(io(path(id)))?;
        blocks.clear();
        blocks.resize_zeroed(size(FRAMES_OFFSET));
        scan.read_bytes += len64(file.read_at(0, &mut blocks).map_err(io(path(id)))?);
        let found = look(&mut scan, store, id, file, len, &blocks)?;
        scan.files.push(found);
    }
    Ok(scan)
}

fn look(
    scan: &mut Scan,
    store: &StoreId,
    id: FileId,
    file: Arc<dyn File>,
    len: u64,
    blocks: &[u8],
) -> Result<Found, OpenError> {
    let block = |offset: u64| blocks.get(size(offset)..).unwrap_or_default();
    let lap = match SegmentHeader::decode(blocks, store) {
        Header::Is(header) if header.id == id.0 => Some(header.lap),
        Header::Is(header) => {
            let detail = format!("its header is that of file {:016x}; it was copied or renamed", header.id);
            return Err(OpenError::Foreign { file: path(id), detail });
        }
        Header::Newer(found) => {
            let (found, known) = (u32::from(found), u32::from(SEGMENT_VERSION));
            return Err(OpenError::NewerFormat { file: path(id), found, known });
        }
        Header::Foreign => {
            let detail = "its header names another store".to_owned();
            return Err(OpenError::Foreign { file: path(id), detail });
        }
        Header::Bad => None,
    };
    scan.lap_max = scan.lap_max.max(lap.unwrap_or(0));
    if let Some(frame) = FrameHeader::decode(block(LINK_OFFSET), store) {
        scan.lap_max = scan.lap_max.max(frame.header.lap);
        scan.epoch_max = scan.epoch_max.max(frame.header.epoch);
    }
    let linked = lap.and_then(|lap| {
        let (found, link) = Link::decode(block(LINK_OFFSET), store, lap)?;
        let (epoch, durable_lsn) = (found.header.epoch, found.header.durable_lsn);
        Some(Linked { lap, epoch, link, link_crc: found.header_crc, durable_lsn })
    });
    let seal = Seal::decode(block(SEAL_OFFSET), store).filter(|s| Some(s.lap) == lap);
    Ok(Found { id, file, len, linked, seal })
}

impl Scan {
    /// A lap by its number.
    pub(crate) fn lap(&self, lap: u64) -> Option<(&Found, Linked)> {
        self.files.iter().filter_map(|f| Some((f, f.linked?))).find(|(_, l)| l.lap == lap)
    }

    /// The lap whose link names `prev` (0 = the first lap); of several, the one of the highest epoch.
    pub(crate) fn after(&self, prev: u64) -> Option<(&Found, Linked)> {
        let laps = self.files.iter().filter_map(|f| Some((f, f.linked?)));
        laps.filter(|(_, l)| l.link.prev_lap == prev && l.lap != prev).max_by_key(|(_, l)| l.epoch)
    }
}
