//! [`Cold`]: finds entries in adopted files and packs by their rows and footers. Everything here may do I/O: reader threads only, but
//! for [`Cold::log`], which reads one row, and [`Cold::log_at_hand`], which reads nothing.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use millstream_env::{Disk, File, OpenMode};
use millstream_types::LogId;

use super::events::FileId;
use super::file::{SegFile, path};
use super::rebuild::footer_of;
use super::tail::IndexEntry;
use crate::api::{ReadError, StoreError};
use crate::format::bytes::{len64, size};
use crate::format::footer::{Blocks, Footer, Rotten};
use crate::format::ids::StoreId;
use crate::format::rows::{ExtentRow, FileRow, LogRow, extent_key, extents, log_key};
use crate::store::StateStore;

/// Adopted files held open.
const OPEN_FILES_MAX: usize = 64;
/// Footers held in memory, as far as they were looked at.
const FOOTER_BYTES_MAX: usize = 32 << 20;
/// Looks between two countings of what footers take.
const FOOTER_LOOKS: usize = 64;
/// Log rows held in memory.
const LOG_ROWS_MAX: usize = 64 << 10;

/// Adopted files, their footers, and the rows that lead to them.
pub(crate) struct Cold {
    store: Arc<dyn StateStore>,
    disk: Arc<dyn Disk>,
    id: StoreId,
    segment_bytes: u64,
    shelf: Mutex<Shelf>,
    logs: Mutex<LogRows>,
}

/// Log rows in memory.
#[derive(Default)]
struct LogRows {
    rows: HashMap<LogId, LogRow>,
    /// Grows whenever a row changes: one read before that is not kept.
    changes: u64,
}

#[derive(Default)]
struct Shelf {
    files: HashMap<FileId, Shelved>,
    open: VecDeque<Arc<SegFile>>,
    footers: HashMap<(FileId, u64), Arc<Blocks>>,
    /// In the order in which they came.
    footers_in: VecDeque<(FileId, u64)>,
    footer_looks: usize,
    /// Files whose damaged index cannot be made anew.
    beyond: HashSet<(FileId, u64)>,
}

impl Shelf {
    /// Lets go of the footers that came first until the others take no more than they may.
    fn bound_footers(&mut self) {
        self.footer_looks = 0;
        let mut bytes: usize = self.footers.values().map(|f| f.bytes()).sum();
        while bytes > FOOTER_BYTES_MAX
            && let Some(first) = self.footers_in.pop_front()
        {
            bytes -= self.footers.remove(&first).map_or(0, |f| f.bytes());
        }
    }
}

struct Shelved {
    row: FileRow,
    file: Weak<SegFile>,
}

/// An entry in an adopted file.
pub(crate) struct Found {
    pub e: IndexEntry,
    pub file: Arc<SegFile>,
}

fn failed(e: &StoreError) -> ReadError {
    ReadError::Io { file: e.file.clone(), error: e.cause.clone() }
}

impl Cold {
    pub(crate) fn new(
        store: Arc<dyn StateStore>,
        disk: Arc<dyn Disk>,
        (id, segment_bytes): (StoreId, u64),
        files: impl Iterator<Item = (FileId, FileRow)>,
    ) -> Self {
        let files = files.map(|(id, row)| (id, Shelved { row, file: Weak::new() })).collect();
        let shelf = Mutex::new(Shelf { files, ..Shelf::default() });
        Self { store, disk, id, segment_bytes, shelf, logs: Mutex::default() }
    }

    /// The rows.
    pub(super) fn store(&self) -> &dyn StateStore {
        &*self.store
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A file was adopted and its rows are durable.
    pub(crate) fn add(&self, id: FileId, row: FileRow, file: Weak<SegFile>) {
        self.shelf().files.insert(id, Shelved { row, file });
    }

    /// No more readers find the file. Those that have it keep the handle alive.
    pub(crate) fn remove(&self, id: FileId, lap: u64) -> Weak<SegFile> {
        let mut held = self.shelf();
        held.open.retain(|f| (f.id, f.lap) != (id, lap));
        held.beyond.remove(&(id, lap));
        if held.footers.remove(&(id, lap)).is_some() {
            held.footers_in.retain(|of| *of != (id, lap));
        }
        held.files.remove(&id).map_or_else(Weak::new, |f| f.file)
    }

    fn logs(&self) -> MutexGuard<'_, LogRows> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row of a log changed.
    pub(crate) fn changed(&self, log: LogId) {
        let mut logs = self.logs();
        logs.changes += 1;
        logs.rows.remove(&log);
    }

    /// A log's row, if it is in memory.
    pub(crate) fn log_at_hand(&self, log: LogId) -> Option<LogRow> {
        self.logs().rows.get(&log).copied()
    }

    /// A log's row; the default if it has none.
    pub(crate) fn log(&self, log: LogId) -> Result<LogRow, ReadError> {
        let changes = {
            let logs = self.logs();
            if let Some(row) = logs.rows.get(&log) {
                return Ok(*row);
            }
            logs.changes
        };
        let row = self.store.get(&log_key(log)).map_err(|e| failed(&e))?;
        let row = row.map_or(Ok(LogRow::default()), |v| LogRow::decode(&v)).map_err(|e| failed(&e))?;
        let mut logs = self.logs();
        if logs.changes == changes {
            if logs.rows.len() >= LOG_ROWS_MAX {
                logs.rows.clear();
            }
            logs.rows.insert(log, row);
        }
        Ok(row)
    }

    /// The file, held: it is not written again while the handle lives. `None` if it was freed.
    pub(super) fn file(&self, id: FileId, lap: u64) -> io::Result<Option<(Arc<SegFile>, FileRow)>> {
        let mut held = self.shelf();
        let Some(f) = held.files.get_mut(&id).filter(|f| f.row.lap == lap) else { return Ok(None) };
        let row = f.row;
        if let Some(file) = f.file.upgrade() {
            return Ok(Some((file, row)));
        }
        let file = if id.is_pack() {
            SegFile::open_pack(&self.disk, &self.id, id, &row)?
        } else {
            SegFile::open(&self.disk, id, lap, self.segment_bytes)?
        };
        file.set_sealed();
        let file = Arc::new(file);
        f.file = Arc::downgrade(&file);
        held.open.push_back(Arc::clone(&file));
        if held.open.len() > OPEN_FILES_MAX {
            held.open.pop_front();
        }
        Ok(Some((file, row)))
    }

    /// A file's footer, of which nothing need have been read yet.
    fn footer<'f>(&self, file: &'f SegFile, row: &FileRow) -> Footer<'f> {
        let of = (file.id, file.lap);
        let mut held = self.shelf();
        held.footer_looks += 1;
        if held.footer_looks >= FOOTER_LOOKS {
            held.bound_footers();
        }
        let known = held.footers.get(&of).map(Arc::clone);
        let blocks = known.unwrap_or_else(|| {
            let blocks = Arc::new(Blocks::new(size(row.footer_len)));
            if held.files.get(&file.id).is_some_and(|f| f.row.lap == file.lap) {
                held.footers.insert(of, Arc::clone(&blocks));
                held.footers_in.push_back(of);
            }
            blocks
        });
        let offset = row.footer_off;
        Footer::new(blocks, Box::new(move |at, len| file.read(offset + len64(at), len)))
    }

    /// At most `max` extents of a log that end after `from`, ascending.
    pub(crate) fn extents(&self, log: LogId, from: u64, max: usize) -> Result<Vec<ExtentRow>, ReadError> {
        // Of one moment: rows that come in between would leave a gap.
        let read = || {
            let rows = self.store.around(&extents(log), &extent_key(log, from), max)?;
            rows.iter().map(|(key, value)| ExtentRow::decode(key, value)).collect::<Result<Vec<_>, _>>()
        };
        let mut found = read().map_err(|e: StoreError| failed(&e))?;
        found.retain(|x| x.end > from);
        found.truncate(max);
        Ok(found)
    }

    /// Entries of one extent that end after `from`, as long as `f` takes them. Whether the file is still there: if not, the
    /// extents are to be looked up again.
    pub(crate) fn entries(
        &self,
        log: LogId,
        x: &ExtentRow,
        from: u64,
        mut f: impl FnMut(Found) -> bool,
    ) -> Result<bool, ReadError> {
        let held = self.file(x.file, x.lap).map_err(|e| match e.kind() {
            // A pack that is not there, or not the one it should be: what lay in it is lost, and no more than that.
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => {
                ReadError::Damaged { first: from.max(x.first), end: x.end, file: path(x.file) }
            }
            _ => ReadError::Io { file: path(x.file), error: e.to_string() },
        })?;
        let Some((file, row)) = held else { return Ok(false) };
        // What was taken before damage was met is not given again.
        let mut at = from.max(x.first);
        let mut read = |footer: &Footer<'_>| match footer.find(log)? {
            Some(listed) => footer.entries(&listed, at, |e| {
                at = at.max(e.end());
                e.pos < x.end && f(Found { e, file: Arc::clone(&file) })
            }),
            // All that lived of it lay below a trim that is not finished.
            None if x.file.is_pack() => Ok(()),
            None => Err(Rotten),
        };
        let io = |e: &io::Error| ReadError::Io { file: path(x.file), error: e.to_string() };
        let footer = self.footer(&file, &row);
        let Err(Rotten) = read(&footer) else { return Ok(true) };
        if let Some(e) = footer.failed() {
            return Err(io(e));
        }
        if self.mend(&file, &row).map_err(|e| io(&e))? && read(&self.footer(&file, &row)).is_ok() {
            return Ok(true);
        }
        Err(ReadError::Damaged {
            first: at,
            end: x.end,
            file: format!("the index of {} (log {})", path(x.file), log.0),
        })
    }

    /// Makes a file's damaged index anew from its content, in memory and on the disk. Whether that could be done.
    ///
    /// # Errors
    /// If the content cannot be read. What cannot be written is made anew again when it is needed.
    pub(super) fn mend(&self, file: &SegFile, row: &FileRow) -> io::Result<bool> {
        let of = (file.id, file.lap);
        if self.shelf().beyond.contains(&of) {
            return Ok(false);
        }
        let Some(raw) = footer_of(file, row, &self.id)? else {
            tracing::warn!(
                file = path(file.id),
                "the index of a file is damaged, and so is what it tells of"
            );
            self.shelf().beyond.insert(of);
            return Ok(false);
        };
        {
            let mut held = self.shelf();
            if held.files.get(&file.id).is_some_and(|f| f.row.lap == file.lap)
                && held.footers.insert(of, Arc::new(Blocks::filled(&raw))).is_none()
            {
                held.footers_in.push_back(of);
            }
        }
        // The handle of the file is held: nothing else is written there meanwhile.
        let write = |on: Arc<dyn File>| {
            on.write_at(row.footer_off, &[IoSlice::new(&raw)])?;
            on.sync_data()
        };
        let written = self.disk.open(&path(file.id), OpenMode::Write).and_then(write);
        let error = written.err().map(|e| e.to_string());
        tracing::warn!(file = path(file.id), error, "the index of a file was damaged, and made anew");
        Ok(true)
    }
}
