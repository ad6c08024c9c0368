//! Back-pressure: room for a record is taken before anything is decided about it.
//!
//! Two things are short: memory and sync time (bytes in flight), and the disk ([`Room`]). What is in flight always has prepared
//! files to go to, so the sequencer, which must not wait while a permit is held, need not.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_types::limits::{OP_BYTES_MAX, RECORD_BYTES_MAX};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::AdmitError;

/// What a record is for. Settle and Reclaim have room of their own, so that they go on while publishers wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Carries message bodies.
    Publish,
    /// Leases, settlements, offsets, groups, catalogue, deletes.
    Settle,
    /// Gives room back: trims, retires.
    Reclaim,
}

/// Bytes in flight that Settle and Reclaim share.
pub const SETTLE_INFLIGHT_BYTES: usize = 2 << 20;
const UNIT_BYTES: usize = 256;

const OPEN: u8 = 0;
const FULL: u8 = 1;
const CLOSED: u8 = 2;

/// What the disk has room for, as last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Publishing is stopped.
    pub full: bool,
    /// Free on the file system, the ballast counted as free.
    pub free_bytes: u64,
    /// Publishing stops below this much, and goes on at one and a half times as much.
    pub reserve_bytes: u64,
    /// Kept back as a file for the state store and for merges.
    pub ballast_bytes: u64,
    /// Segment files ready to be written.
    pub ready_files: u64,
    /// Segment files in which nothing lives, kept to be written again.
    pub free_files: u64,
    /// Bytes of a segment file.
    pub segment_bytes: u64,
    /// What class Publish may have in flight; the largest u64 = the disk is no concern.
    pub publish_bytes: u64,
    /// What Settle and Reclaim may have in flight; likewise.
    pub settle_bytes: u64,
    /// What Settle and Reclaim have at least once nothing else is in flight: a record larger than this never gets room on a full disk.
    pub settle_record_bytes: u64,
    /// While publishing is stopped: bytes that must come free before it goes on, in files or on the file system.
    pub needed_bytes: u64,
}

impl Room {
    /// No disk, or one without end.
    pub const ENDLESS: Self = Self {
        full: false,
        free_bytes: u64::MAX,
        reserve_bytes: 0,
        ballast_bytes: 0,
        ready_files: 0,
        free_files: 0,
        segment_bytes: 0,
        publish_bytes: u64::MAX,
        settle_bytes: u64::MAX,
        settle_record_bytes: u64::MAX,
        needed_bytes: 0,
    };
}

/// Room for records in flight. Shared by all sessions.
#[derive(Debug)]
pub struct Gate {
    publish: Arc<Semaphore>,
    settle: Arc<Semaphore>,
    publish_units: u32,
    settle_units: u32,
    state: AtomicU8,
    op_bytes_max: usize,
    room: Mutex<Room>,
    publish_room: AtomicU64,
    settle_room: AtomicU64,
    /// The room for settling grew, or the gate was closed.
    grew: Notify,
    refused: AtomicU64,
}

/// Room for one record; given back when the record is durable, or when dropped unused.
#[derive(Debug)]
pub struct Permit {
    /// What it is for.
    pub class: Class,
    /// Bytes it is good for (an upper bound of the encoded record).
    pub bytes: usize,
    held: OwnedSemaphorePermit,
}

impl Permit {
    /// Adds a permit to those of its class, so that they are given back in one go.
    pub(crate) fn gather(self, permits: &mut Vec<Self>) {
        match permits.iter_mut().find(|p| p.class == self.class) {
            Some(all) => {
                all.bytes = all.bytes.saturating_add(self.bytes);
                all.held.merge(self.held);
            }
            None => permits.push(self),
        }
    }
}

/// What a permit must take to be given.
struct Ask<'g> {
    semaphore: &'g Arc<Semaphore>,
    units: u32,
}

/// What to do about a request.
enum Verdict<'g> {
    Take(Ask<'g>),
    /// The disk has no room for it now, and will have.
    Wait,
}

impl Gate {
    /// A gate with so many bytes in flight for class Publish.
    #[must_use]
    pub fn new(inflight_bytes: usize) -> Self {
        let units = |bytes: usize| u32::try_from((bytes / UNIT_BYTES).max(1)).unwrap_or(u32::MAX);
        let (p, s) = (units(inflight_bytes), units(SETTLE_INFLIGHT_BYTES));
        Self {
            publish: Arc::new(Semaphore::new(p as usize)),
            settle: Arc::new(Semaphore::new(s as usize)),
            publish_units: p,
            settle_units: s,
            state: AtomicU8::new(OPEN),
            op_bytes_max: OP_BYTES_MAX,
            room: Mutex::new(Room::ENDLESS),
            publish_room: AtomicU64::new(u64::MAX),
            settle_room: AtomicU64::new(u64::MAX),
            grew: Notify::new(),
            refused: AtomicU64::new(0),
        }
    }

    /// The same for a log whose operations have at most so many bytes each.
    #[must_use]
    pub fn with_op_bytes_max(self, bytes: usize) -> Self {
        Self { op_bytes_max: bytes.min(OP_BYTES_MAX), ..self }
    }

    /// Largest single operation that this log takes, encoded: the smaller of [`OP_BYTES_MAX`] and half a segment file.
    #[must_use]
    pub fn op_bytes_max(&self) -> usize {
        self.op_bytes_max
    }

    fn place(&self, class: Class, bytes: usize) -> Result<Verdict<'_>, AdmitError> {
        if bytes > RECORD_BYTES_MAX {
            return Err(AdmitError::TooLarge { bytes, max: RECORD_BYTES_MAX });
        }
        let state = self.state.load(Ordering::Acquire);
        if state == CLOSED {
            return Err(AdmitError::Closed);
        }
        let wide = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let (semaphore, all, room) = match class {
            Class::Publish => (&self.publish, self.publish_units, &self.publish_room),
            Class::Settle | Class::Reclaim => (&self.settle, self.settle_units, &self.settle_room),
        };
        let room = room.load(Ordering::Acquire);
        let never = || class == Class::Publish || wide(bytes) > self.room().settle_record_bytes;
        if wide(bytes) > room || (state == FULL && class == Class::Publish) {
            return if never() { Err(AdmitError::DiskFull) } else { Ok(Verdict::Wait) };
        }
        // A record larger than everything in flight is admitted alone; and each is while the files at hand would not hold what may be
        // in flight.
        let flight = u64::from(all).saturating_mul(wide(UNIT_BYTES));
        let alone = room < flight.saturating_mul(2);
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX).min(all);
        Ok(Verdict::Take(Ask { semaphore, units: if alone { all } else { units } }))
    }

    /// Counts what is refused for want of room.
    fn asked(&self, class: Class, bytes: usize) -> Result<Verdict<'_>, AdmitError> {
        let verdict = self.place(class, bytes);
        if matches!(verdict, Err(AdmitError::DiskFull)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    /// Whether what was asked for before a wait still suffices after it.
    fn still(&self, class: Class, bytes: usize, taken: u32) -> bool {
        matches!(self.place(class, bytes), Ok(Verdict::Take(Ask { units, .. })) if units <= taken)
    }

    /// Waits for room, first come first served. `bytes` is an upper bound of the encoded record.
    ///
    /// # Errors
    /// `DiskFull` (class Publish, at once; the others only where a full disk never has room for so large a record), `TooLarge`,
    /// `Closed`.
    pub async fn admit(&self, class: Class, bytes: usize) -> Result<Permit, AdmitError> {
        loop {
            let Verdict::Take(ask) = self.asked(class, bytes)? else {
                let grew = self.grew.notified();
                tokio::pin!(grew);
                grew.as_mut().enable();
                // Looked at again: it may have grown before this stood in line.
                if matches!(self.place(class, bytes), Ok(Verdict::Wait)) {
                    grew.await;
                }
                continue;
            };
            let held = Arc::clone(ask.semaphore).acquire_many_owned(ask.units).await;
            let held = held.map_err(|_| AdmitError::Closed)?;
            if self.still(class, bytes, ask.units) {
                return Ok(Permit { class, bytes, held });
            }
        }
    }

    /// As [`Gate::admit`], or `Busy` at once.
    ///
    /// # Errors
    /// As `admit`, and `Busy`.
    pub fn try_admit(&self, class: Class, bytes: usize) -> Result<Permit, AdmitError> {
        let Verdict::Take(ask) = self.asked(class, bytes)? else { return Err(AdmitError::Busy) };
        match Arc::clone(ask.semaphore).try_acquire_many_owned(ask.units) {
            Ok(held) => Ok(Permit { class, bytes, held }),
            Err(TryAcquireError::NoPermits) => Err(AdmitError::Busy),
            Err(TryAcquireError::Closed) => Err(AdmitError::Closed),
        }
    }

    /// Says whether publishing is stopped for want of room on the disk.
    pub fn set_full(&self, full: bool) {
        let (from, to) = if full { (OPEN, FULL) } else { (FULL, OPEN) };
        let _ = self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Says what the disk has room for.
    pub fn set_room(&self, room: Room) {
        {
            let mut now = self.room.lock().unwrap_or_else(PoisonError::into_inner);
            let turned = now.full != room.full;
            *now = room;
            self.publish_room.store(room.publish_bytes, Ordering::Release);
            self.settle_room.store(room.settle_bytes, Ordering::Release);
            if turned {
                self.set_full(room.full);
            }
        }
        self.grew.notify_waiters();
    }

    /// What the disk has room for, as last looked at.
    #[must_use]
    pub fn room(&self) -> Room {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records refused so far for want of room on the disk.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether publishing is stopped for want of room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state.load(Ordering::Acquire) == FULL
    }

    /// Whether files should come back soon: publishing is stopped, or records go one by one to the last files.
    pub(crate) fn is_pressed(&self) -> bool {
        self.is_full() || self.publish_room.load(Ordering::Acquire) != u64::MAX
    }

    /// Refuses everything from now on, waiters included.
    pub fn close(&self) {
        self.state.store(CLOSED, Ordering::Release);
        self.publish.close();
        self.settle.close();
        self.grew.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
