//! Back-pressure: room for a record is taken before anything is decided about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use millstream_types::limits::RECORD_BYTES_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

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

/// Room for records in flight. Shared by all sessions.
#[derive(Debug)]
pub struct Gate {
    publish: Arc<Semaphore>,
    settle: Arc<Semaphore>,
    publish_units: u32,
    settle_units: u32,
    state: AtomicU8,
}

/// Room for one record; given back when the record is durable, or when dropped unused.
#[derive(Debug)]
pub struct Permit {
    /// What it is for.
    pub class: Class,
    /// Bytes it is good for (an upper bound of the encoded record).
    pub bytes: usize,
    _held: OwnedSemaphorePermit,
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
        }
    }

    fn place(&self, class: Class, bytes: usize) -> Result<(&Arc<Semaphore>, u32), AdmitError> {
        if bytes > RECORD_BYTES_MAX {
            return Err(AdmitError::TooLarge { bytes, max: RECORD_BYTES_MAX });
        }
        match (self.state.load(Ordering::Acquire), class) {
            (CLOSED, _) => return Err(AdmitError::Closed),
            (FULL, Class::Publish) => return Err(AdmitError::DiskFull),
            _ => {}
        }
        let (sem, all) = match class {
            Class::Publish => (&self.publish, self.publish_units),
            Class::Settle | Class::Reclaim => (&self.settle, self.settle_units),
        };
        // A record larger than everything in flight is admitted alone.
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX).min(all);
        Ok((sem, units))
    }

    /// Waits for room, first come first served. `bytes` is an upper bound of the encoded record.
    ///
    /// # Errors
    /// `DiskFull` (class Publish, at once), `TooLarge`, `Closed`.
    pub async fn admit(&self, class: Class, bytes: usize) -> Result<Permit, AdmitError> {
        let (sem, units) = self.place(class, bytes)?;
        let held = Arc::clone(sem).acquire_many_owned(units).await.map_err(|_| AdmitError::Closed)?;
        Ok(Permit { class, bytes, _held: held })
    }

    /// As [`Gate::admit`], or `Busy` at once.
    ///
    /// # Errors
    /// As `admit`, and `Busy`.
    pub fn try_admit(&self, class: Class, bytes: usize) -> Result<Permit, AdmitError> {
        let (sem, units) = self.place(class, bytes)?;
        match Arc::clone(sem).try_acquire_many_owned(units) {
            Ok(held) => Ok(Permit { class, bytes, _held: held }),
            Err(TryAcquireError::NoPermits) => Err(AdmitError::Busy),
            Err(TryAcquireError::Closed) => Err(AdmitError::Closed),
        }
    }

    /// Says whether publishing is stopped for want of room on the disk.
    pub fn set_full(&self, full: bool) {
        let (from, to) = if full { (OPEN, FULL) } else { (FULL, OPEN) };
        let _ = self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether publishing is stopped for want of room on the disk.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.state.load(Ordering::Acquire) == FULL
    }

    /// Refuses everything from now on, waiters included.
    pub fn close(&self) {
        self.state.store(CLOSED, Ordering::Release);
        self.publish.close();
        self.settle.close();
    }
}
