//! [`State`]: everything a simulated disk holds, and the gate every call passes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;

use super::fault::{Call, Effect, Fault, power_off};
use super::names::Names;
use super::pages::{Pages, Sector, narrow, wide};
use super::rng::SplitMix;

/// What runs before each sync of a file takes effect, with the file's path.
pub(super) type SyncHook = Arc<dyn Fn(&str) + Send + Sync>;

/// Unit in which room is taken, in bytes.
const BLOCK_BYTES: u64 = 4096;

pub(super) struct State {
    pub(super) sector_bytes: usize,
    pub(super) capacity_bytes: u64,
    pub(super) rng: SplitMix,
    pub(super) names: Names,
    pub(super) files: BTreeMap<u64, SimInode>,
    pub(super) next_file: u64,
    pub(super) next_write: u64,
    pub(super) locks: BTreeSet<String>,
    /// Mutating calls that took place.
    pub(super) ops: u64,
    /// Mutating calls until the power goes.
    pub(super) ops_left: Option<u64>,
    pub(super) off: bool,
    pub(super) faults: Vec<Fault>,
    pub(super) on_sync: Option<SyncHook>,
}

/// A file, with or without a name.
#[derive(Clone)]
pub(super) struct SimInode {
    /// As programs see it.
    pub(super) now: Pages,
    /// As a power cut leaves it at least.
    pub(super) base: Pages,
    /// What is in `now` and not for sure in `base`, oldest first.
    pub(super) pending: Vec<Pending>,
    /// Open handles.
    pub(super) opens: u64,
}

/// A write or an allocation that may be lost.
#[derive(Clone)]
pub(super) struct Pending {
    /// Number of the write on this disk.
    pub(super) write: u64,
    /// The sectors it touched, as they were after it.
    pub(super) sectors: Vec<(u64, Sector)>,
    /// End of what it wrote or reserved.
    pub(super) end: u64,
    /// Length of the file after it.
    pub(super) len_after: u64,
    /// It gave back what lay behind `end`.
    pub(super) shortens: bool,
    /// A sync of it failed: no other will cover it.
    pub(super) given_up: bool,
}

/// What the gate says of a call.
pub(super) enum Verdict {
    /// Do it.
    Go,
    /// Do it, then fail: the power went just after.
    GoThenFail,
    /// Do not do it, fail.
    Fail(Errno),
    /// Do not do it, succeed.
    Lie,
}

impl Verdict {
    /// For calls that are whole or absent: whether to do it, or the failure.
    pub(super) fn whole(&self) -> io::Result<bool> {
        match self {
            Self::Go | Self::GoThenFail => Ok(true),
            Self::Lie => Ok(false),
            Self::Fail(errno) => Err((*errno).into()),
        }
    }

    /// The result to tell once the call is done.
    pub(super) fn tell<T>(&self, value: T) -> io::Result<T> {
        match self {
            Self::GoThenFail => Err(power_off()),
            _ => Ok(value),
        }
    }
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            sector_bytes: narrow(BLOCK_BYTES),
            capacity_bytes: 1 << 40,
            rng: SplitMix::new(seed),
            names: Names::default(),
            files: BTreeMap::new(),
            next_file: 0,
            next_write: 0,
            locks: BTreeSet::new(),
            ops: 0,
            ops_left: None,
            off: false,
            faults: Vec::new(),
            on_sync: None,
        }
    }

    /// The same content, cached and durable, on a machine with no process, faults or hooks.
    pub(super) fn fork(&mut self) -> Self {
        let mut files = self.files.clone();
        for file in files.values_mut() {
            file.opens = 0;
        }
        let mut copy = Self {
            sector_bytes: self.sector_bytes,
            capacity_bytes: self.capacity_bytes,
            names: self.names.clone(),
            files,
            next_file: self.next_file,
            next_write: self.next_write,
            ..Self::new(self.rng.next())
        };
        copy.collect();
        copy
    }

    /// Fails when the power is off; for calls without faults of their own.
    pub(super) fn expect_power(&self) -> io::Result<()> {
        if self.off { Err(power_off()) } else { Ok(()) }
    }

    /// The gate of every call: counts it, cuts the power at the crash point, injects faults.
    pub(super) fn enter(
        &mut self,
        call: Call,
        path: &str,
        range: Option<&Range<u64>>,
    ) -> io::Result<Verdict> {
        self.expect_power()?;
        if call.mutates() {
            if self.ops_left == Some(0) {
                self.off = true;
                // Whether the call in flight took place is open.
                return if self.rng.coin() { Ok(Verdict::GoThenFail) } else { Err(power_off()) };
            }
            self.ops_left = self.ops_left.map(|n| n - 1);
            self.ops += 1;
        }
        let hit = self.faults.iter_mut().find_map(|fault| fault.hit(call, path, range));
        self.faults.retain(|fault| !fault.is_spent());
        Ok(match hit {
            None => Verdict::Go,
            Some(Effect::Fail(errno)) => Verdict::Fail(errno),
            Some(Effect::Lie) => Verdict::Lie,
        })
    }

    pub(super) fn file(&mut self, file: u64) -> io::Result<&mut SimInode> {
        self.files.get_mut(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A new file with a name.
    pub(super) fn create(&mut self, path: &str) -> u64 {
        let file = self.next_file;
        self.next_file += 1;
        let empty = Pages::new(self.sector_bytes);
        self.files.insert(file, SimInode { now: empty.clone(), base: empty, pending: Vec::new(), opens: 0 });
        self.names.create_file(path, file);
        file
    }

    /// Forgets files that have no name, may not get one back by a power cut, and are not open.
    pub(super) fn collect(&mut self) {
        let reachable = self.names.reachable();
        self.files.retain(|file, inode| inode.opens > 0 || reachable.contains(file));
    }

    /// Bytes taken by files that have a name or are open.
    pub(super) fn used_bytes(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.files().map(|(_, file)| file).collect();
        let taken = self.files.iter().filter(|(file, inode)| inode.opens > 0 || named.contains(file));
        taken.map(|(_, inode)| inode.now.len().next_multiple_of(BLOCK_BYTES)).sum()
    }

    /// Fails when growing a file to `len` would take more room than there is.
    pub(super) fn expect_room(&mut self, file: u64, len: u64) -> io::Result<()> {
        let before = self.file(file)?.now.len();
        let more = len.next_multiple_of(BLOCK_BYTES).saturating_sub(before.next_multiple_of(BLOCK_BYTES));
        if more > 0 && self.used_bytes().saturating_add(more) > self.capacity_bytes {
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }

    /// Writes into the cache.
    pub(super) fn write(&mut self, file: u64, offset: u64, data: &[u8]) -> io::Result<()> {
        let write = self.next_write;
        self.next_write += 1;
        let inode = self.file(file)?;
        let sectors = inode.now.write(offset, data);
        let (end, len_after) = (offset + wide(data.len()), inode.now.len());
        let shortens = false;
        inode.pending.push(Pending { write, sectors, end, len_after, shortens, given_up: false });
        Ok(())
    }

    /// Grows a file in the cache.
    pub(super) fn grow(&mut self, file: u64, len: u64) -> io::Result<()> {
        let write = self.next_write;
        self.next_write += 1;
        let inode = self.file(file)?;
        if len > inode.now.len() {
            inode.now.grow(len);
            inode.pending.push(Pending {
                write,
                sectors: Vec::new(),
                end: len,
                len_after: len,
                shortens: false,
                given_up: false,
            });
        }
        Ok(())
    }

    /// Shortens a file in the cache.
    pub(super) fn shorten(&mut self, file: u64, len: u64) -> io::Result<()> {
        let write = self.next_write;
        self.next_write += 1;
        let inode = self.file(file)?;
        if len < inode.now.len() {
            inode.now.shorten(len);
            let (sectors, end, len_after) = (Vec::new(), len, len);
            inode.pending.push(Pending { write, sectors, end, len_after, shortens: true, given_up: false });
        }
        Ok(())
    }
}

impl SimInode {
    /// Makes durable what was written before write number `before`, except what an earlier sync gave up.
    pub(super) fn sync(&mut self, before: u64) {
        let (done, mut kept): (Vec<_>, Vec<_>) =
            self.pending.drain(..).partition(|p| p.write < before && !p.given_up);
        for op in done {
            for (sector, content) in op.sectors {
                for older in kept.iter_mut().filter(|k| k.write < op.write) {
                    older.sectors.retain(|(s, _)| *s != sector);
                }
                self.base.put(sector, content);
            }
            self.base.grow(op.end);
            if op.shortens {
                self.base.shorten(op.end);
            }
        }
        self.pending = kept;
    }

    /// A sync failed: what it should have covered stays in the cache and counts as clean.
    pub(super) fn give_up(&mut self, before: u64) {
        for op in self.pending.iter_mut().filter(|p| p.write < before) {
            op.given_up = true;
        }
    }
}
