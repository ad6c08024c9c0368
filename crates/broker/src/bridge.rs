//! Bridges: what the broker itself carries from a topic into a queue or an exchange, or from a queue into a topic.
//!
//! A bridge is a task of the engine, so it goes on after a restart. Each of its steps is one record: what is published and how far it came,
//! or what is settled and appended. So each message arrives exactly once, whenever the broker is killed. A bridge whose target is gone or refuses
//! rests, says why, and tries again; nothing is left behind but what its filter or its policy for poison says, and that is counted.
//!
//! Start at [`Session::create_bridge`](crate::Session::create_bridge); `worker.rs` is who does the work.

mod api;
mod def;
pub(crate) mod event;
mod live;
mod mapping;
pub(crate) mod pattern;
mod queue;
pub(crate) mod records;
mod topic;
pub(crate) mod worker;

use millstream_engine::task::TaskKind;

pub use api::{BridgeAlter, BridgeError, BridgeInfo, BridgePartition};
pub use def::{BridgeDef, DefError, OnPoison, OnTrimmed, Source, Start, Target};
pub use event::{BodyUnread, LOOKED_INTO_BYTES_MAX};
pub use live::Blocked;
pub(crate) use live::Bridges;
pub use mapping::{ALTERNATIVES_MAX, MAPPED_HEADERS_MAX, Mapping, MappingError, Parts, Unmapped};
pub use pattern::{Event, PATTERN_BYTES_MAX, PATTERN_DEPTH_MAX, PATTERN_ENTRIES_MAX, Pattern, PatternError};

/// The kind of task that a bridge is. The number is on disk.
pub(crate) const BRIDGE: TaskKind = TaskKind(1);

/// What a bridge's counters count. The numbers are on disk.
pub(crate) mod counter {
    pub(crate) const PASSED: usize = 0;
    pub(crate) const FILTERED: usize = 1;
    pub(crate) const SKIPPED: usize = 2;
    pub(crate) const DEAD_LETTERED: usize = 3;
    pub(crate) const TRIMMED: usize = 4;
    /// Those of messages that were not passed on.
    pub(crate) const POISON: [usize; 2] = [SKIPPED, DEAD_LETTERED];
}
