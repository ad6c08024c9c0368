//! The data directory: its lock and the file `meta`, made once.

use std::io::{self, IoSlice};
use std::sync::Arc;

use millstream_env::{Disk, Env, OpenMode};
use millstream_types::Lsn;
use millstream_types::limits::RECORD_BYTES_MAX;

use crate::api::{LogConfig, OpenError};
use crate::disk::ballast::Ballast;
use crate::disk::file::SEG_DIR;
use crate::disk::room::{self, Sizes, TINY_RESERVE_BYTES_MIN};
use crate::format::bytes::len64;
use crate::format::header::{BLOCK_BYTES, Header, META_VERSION, Meta};
use crate::format::ids::StoreId;

/// Bounds of segment files.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const META: &str = "meta";
const LOCK: &str = "lock";

/// Wraps an error of the operating system.
pub(crate) fn io(file: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let file = file.into();
    move |source| OpenError::Io { file, source }
}

/// Takes the lock on the directory.
pub(crate) fn lock(disk: &Arc<dyn Disk>) -> Result<Box<dyn Send + Sync>, OpenError> {
    disk.create_dir_all("").map_err(io(""))?;
    disk.lock(LOCK).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { file: LOCK.to_owned() },
        _ => OpenError::Io { file: LOCK.to_owned(), source: e },
    })
}

/// Reads `meta`, or makes it in a directory that has none and no segment files; then also says so.
pub(crate) fn open(env: &Env, cfg: &LogConfig, store_least_bytes: u64) -> Result<(Meta, bool), OpenError> {
    let disk = &env.disk;
    let block = match disk.open(META, OpenMode::Read) {
        Ok(file) => {
            let mut block = vec![0; BLOCK_BYTES];
            let n = file.read_at(0, &mut block).map_err(io(META))?;
            block.truncate(n);
            Some(block)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(io(META)(e)),
    };
    let detail = match block.as_deref().map(Meta::decode) {
        Some(Header::Is(meta)) => {
            // What was read need not be on the disk: the process that made it may have ended before its sync, or by a failed one.
            // The same bytes once more are.
            let reserve_bytes = match meta.reserve_bytes {
                0 => reserve_for(cfg, disk.space().map_err(io(META))?.total_bytes),
                stored => stored,
            };
            let meta = Meta { reserve_bytes, ..meta };
            put(disk, OpenMode::Write, &meta)?;
            return Ok((meta, false));
        }
        Some(Header::Newer(found)) => {
            let (found, known) = (u32::from(found), u32::from(META_VERSION));
            return Err(OpenError::NewerFormat { file: META.to_owned(), found, known });
        }
        Some(Header::Foreign) => {
            return Err(OpenError::Foreign { file: META.to_owned(), detail: "it has no magic".to_owned() });
        }
        Some(Header::Bad) => "its checksum does not match",
        None => "it is missing",
    };
    let none = match disk.list(SEG_DIR) {
        Ok(names) => names.is_empty(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => true,
        Err(e) => return Err(io(SEG_DIR)(e)),
    };
    if !none {
        let (file, detail) = (META.to_owned(), format!("{detail}, but there are segment files"));
        return Err(OpenError::Corrupt { file, first: Lsn(1), last: Lsn(u64::MAX), detail });
    }
    make(env, block.is_some(), cfg, store_least_bytes).map(|meta| (meta, true))
}

/// The sizes that a log has.
pub(crate) fn sizes(meta: &Meta, cfg: &LogConfig, store_least_bytes: u64) -> Sizes {
    Sizes {
        segment_bytes: meta.segment_bytes,
        reserve_bytes: meta.reserve_bytes,
        ready_files: cfg.ready_files,
        inflight_bytes: len64(cfg.inflight_bytes),
        record_bytes: len64(RECORD_BYTES_MAX),
        store_least_bytes,
    }
}

fn reserve_for(cfg: &LogConfig, total_bytes: u64) -> u64 {
    match cfg.reserve_bytes {
        0 => room::reserve_bytes(total_bytes),
        asked => asked.max(TINY_RESERVE_BYTES_MIN) / 4096 * 4096,
    }
}

/// Makes `meta`, if there is room for what a log keeps back.
fn make(env: &Env, exists: bool, cfg: &LogConfig, store_least_bytes: u64) -> Result<Meta, OpenError> {
    let space = env.disk.space().map_err(io(META))?;
    let segment_bytes = match cfg.segment_bytes {
        0 => room::segment_bytes(space.total_bytes),
        asked => asked.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX) / 4096 * 4096,
    };
    let mut uuid = [0; 16];
    env.rng.fill(&mut uuid);
    let reserve_bytes = reserve_for(cfg, space.total_bytes);
    let meta = Meta { store: StoreId::new(uuid), segment_bytes, reserve_bytes };
    let sizes = sizes(&meta, cfg, store_least_bytes);
    let ballast = Ballast::new(Arc::clone(&env.disk), sizes.ballast_bytes());
    let (needed_bytes, held) = (sizes.needed_bytes(), ballast.held().map_err(io(META))?);
    if space.free_bytes.saturating_add(held) < needed_bytes {
        return Err(OpenError::DiskFull { needed_bytes });
    }
    // Before `meta`: without its reserve there is no log.
    ballast.take().map_err(no_room(needed_bytes))?;
    let mode = if exists { OpenMode::Write } else { OpenMode::CreateNew };
    put(&env.disk, mode, &meta)?;
    Ok(meta)
}

/// Wraps an error; a full disk names what is needed.
pub(crate) fn no_room(needed_bytes: u64) -> impl FnOnce(io::Error) -> OpenError {
    move |e| match e.kind() {
        io::ErrorKind::StorageFull => OpenError::DiskFull { needed_bytes },
        _ => io(SEG_DIR)(e),
    }
}

/// Makes `meta`, its name and the directories durable.
fn put(disk: &Arc<dyn Disk>, mode: OpenMode, meta: &Meta) -> Result<(), OpenError> {
    let file = disk.open(META, mode).map_err(io(META))?;
    file.write_at(0, &[IoSlice::new(&meta.encode())]).map_err(io(META))?;
    file.sync_all().map_err(io(META))?;
    disk.sync_dir("").map_err(io(META))?;
    make_dirs(disk)
}

fn make_dirs(disk: &Arc<dyn Disk>) -> Result<(), OpenError> {
    disk.create_dir_all(SEG_DIR).map_err(io(SEG_DIR))?;
    disk.sync_dir("").map_err(io(SEG_DIR))
}
