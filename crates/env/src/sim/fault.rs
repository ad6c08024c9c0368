//! [`Fault`]: an error to inject, and the calls it hits.

use std::fmt;
use std::io;
use std::ops::Range;

use rustix::io::Errno;

/// A kind of call on a simulated disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `create_dir_all`.
    CreateDir,
    /// `list`.
    List,
    /// `open` of a file that exists.
    Open,
    /// `open` with `CreateNew`, and `lock` when it makes its file.
    Create,
    /// `remove`.
    Remove,
    /// `rename`, by its old path.
    Rename,
    /// `sync_dir`.
    SyncDir,
    /// `read_at`.
    Read,
    /// `write_at`. A failed write leaves a random number of its first sectors written.
    Write,
    /// `sync_data` and `sync_all`. What a failed sync should have covered stays readable; whether it is on
    /// the disk is open, and a later sync does not cover it unless it is written again (as Linux does).
    Sync,
    /// `allocate` and `shorten`.
    Allocate,
}

impl Call {
    /// Whether it changes what a power cut leaves.
    pub(super) fn mutates(self) -> bool {
        !matches!(self, Self::List | Self::Open | Self::Read)
    }
}

/// What an injected fault does to the call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    Fail(Errno),
    Lie,
}

type PathTest = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// An error to inject with [`SimDisk::inject`](super::SimDisk::inject): `EIO` on the next call of its kind on
/// any path, unless the methods say otherwise.
pub struct Fault {
    call: Call,
    path: Option<PathTest>,
    range: Option<Range<u64>>,
    skip: u64,
    times: u64,
    effect: Effect,
}

impl Fault {
    /// `EIO`, once, on the next such call.
    #[must_use]
    pub fn new(call: Call) -> Self {
        Self { call, path: None, range: None, skip: 0, times: 1, effect: Effect::Fail(Errno::IO) }
    }

    /// Only where the path (as it was at opening) passes the test.
    #[must_use]
    pub fn on_path(mut self, test: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.path = Some(Box::new(test));
        self
    }

    /// Only reads and writes that touch these bytes of the file.
    #[must_use]
    pub fn in_range(mut self, range: Range<u64>) -> Self {
        self.range = Some(range);
        self
    }

    /// Lets `n` matching calls pass first.
    #[must_use]
    pub fn after(mut self, n: u64) -> Self {
        self.skip = n;
        self
    }

    /// Hits `n` calls.
    #[must_use]
    pub fn times(mut self, n: u64) -> Self {
        self.times = n;
        self
    }

    /// Hits every call from then on.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// `ENOSPC` in place of `EIO`.
    #[must_use]
    pub fn no_space(mut self) -> Self {
        self.effect = Effect::Fail(Errno::NOSPC);
        self
    }

    /// In place of failing, a sync reports success and does nothing; what it should have covered waits for
    /// the next.
    #[must_use]
    pub fn lie(mut self) -> Self {
        self.effect = Effect::Lie;
        self
    }

    /// The effect on this call, counting it; `None` when it is not hit.
    pub(super) fn hit(&mut self, call: Call, path: &str, range: Option<&Range<u64>>) -> Option<Effect> {
        let range_hit = match (&self.range, range) {
            (None, _) => true,
            (Some(want), Some(got)) => want.start < got.end && got.start < want.end,
            (Some(_), None) => false,
        };
        if call != self.call || !range_hit || !self.path.as_ref().is_none_or(|test| test(path)) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        if self.times != u64::MAX {
            self.times = self.times.checked_sub(1)?;
        }
        Some(self.effect)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.times == 0
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call, range, skip, times, effect, path: _ } = self;
        write!(f, "Fault({call:?} in {range:?}, after {skip}, {times} times: {effect:?})")
    }
}

/// The error of every call after the power went.
pub(super) fn power_off() -> io::Error {
    io::Error::other("the simulated disk has no power")
}
