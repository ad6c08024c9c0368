//! The data directory: its lock and the file `meta`, made once.

use std::io::{self, IoSlice};
use std::sync::Arc;

use millstream_env::{Disk, Env, OpenMode};
use millstream_types::Lsn;

use crate::api::OpenError;
use crate::disk::file::SEG_DIR;
use crate::format::header::{BLOCK_BYTES, Header, META_VERSION, Meta};
use crate::format::ids::StoreId;

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

/// Reads `meta`, or makes it in a directory that has none and no segment files.
pub(crate) fn open(env: &Env, segment_bytes: u64) -> Result<Meta, OpenError> {
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
            put(disk, OpenMode::Write, &meta)?;
            return Ok(meta);
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
    make(env, block.is_some(), segment_bytes)
}

fn make(env: &Env, exists: bool, segment_bytes: u64) -> Result<Meta, OpenError> {
    let mut uuid = [0; 16];
    env.rng.fill(&mut uuid);
    let meta = Meta { store: StoreId::new(uuid), segment_bytes };
    let mode = if exists { OpenMode::Write } else { OpenMode::CreateNew };
    put(&env.disk, mode, &meta)?;
    Ok(meta)
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
