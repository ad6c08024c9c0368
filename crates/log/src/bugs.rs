//! Deliberate bugs: each breaks one promise of the log, so that tests can show that the simulation notices.
//!
//! They are compiled only with the feature `deliberate_bugs` *and* debug assertions: a release binary has none, whatever features
//! cargo unites in it. Without both, [`Bugs`] is empty and every question to it is a constant.

/// A promise to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The committer writes and does not sync.
    SkipsSync,
    /// Records are called durable before the sync.
    AnswersEarly,
    /// A file in which nothing lives is written again while its effects may still have to be replayed.
    ReusesFileEarly,
    /// A position that is retired a second time is counted a second time.
    CountsRetireTwice,
    /// A frame says what was durable when it was closed, not when its write began: the sync in between is not in it.
    FillsDurableLsnEarly,
    /// A merge leaves the last entry of each log behind.
    LosesWhatItMerges,
}

/// What is broken; nothing, but in tests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bugs {
    #[cfg(all(feature = "deliberate_bugs", debug_assertions))]
    bug: Option<Bug>,
    /// Durable when the write before began.
    #[cfg(all(feature = "deliberate_bugs", debug_assertions))]
    before: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Bugs {
    /// The durable LSN for the frames of a write, where `now` is right.
    pub(crate) fn durable_lsn(&self, now: u64) -> u64 {
        if self.has(Bug::FillsDurableLsnEarly) { self.before(now) } else { now }
    }
}

#[cfg(all(feature = "deliberate_bugs", debug_assertions))]
impl Bugs {
    pub(crate) fn with(bug: Bug) -> Self {
        Self { bug: Some(bug), ..Self::default() }
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// What a frame would have that closed while the write before was synced.
    fn before(&self, now: u64) -> u64 {
        self.before.swap(now, std::sync::atomic::Ordering::AcqRel)
    }
}

#[cfg(not(all(feature = "deliberate_bugs", debug_assertions)))]
#[expect(clippy::unused_self, reason = "the build with bugs looks")]
impl Bugs {
    pub(crate) const fn has(&self, _: Bug) -> bool {
        false
    }

    const fn before(&self, now: u64) -> u64 {
        now
    }
}
