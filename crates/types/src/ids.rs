//! Identifiers. Their layout is part of the disk format (`docs/format.md`).

use std::fmt;

/// Number of a commit record: dense, from 1, given when it is sequenced. 0 = "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// No record's: what has it is in memory only.
    pub const UNRECORDED: Self = Self(0);
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
    /// The one before; 0 stays 0.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of an opening of the log for writing, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Name of one ordered log, never reused: `object << 16 | lane`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub u64);

impl LogId {
    /// The log of an object's lane.
    #[must_use]
    pub const fn new(object: ObjectId, lane: u16) -> Self {
        Self(object.0 << 16 | lane as u64)
    }
    /// The object that the log belongs to.
    #[must_use]
    pub const fn object(self) -> ObjectId {
        ObjectId(self.0 >> 16)
    }
    /// The lane within the object (0 for a partition).
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the lane")]
    pub const fn lane(self) -> u16 {
        self.0 as u16
    }
}

/// An engine object: 48 bits, from one counter, never reused; the top 4 bits are its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u64);

impl ObjectId {
    const KIND_SHIFT: u32 = 44;

    /// An id from its kind and counter. The counter must be below 2^44.
    ///
    /// # Panics
    /// If the counter is too large: an assertion of our own (2^44 ids never run out).
    #[must_use]
    pub const fn new(kind: ObjectKind, counter: u64) -> Self {
        assert!(counter < 1 << Self::KIND_SHIFT, "object counter exceeds 44 bits");
        Self((kind as u64) << Self::KIND_SHIFT | counter)
    }
    /// What it is; `None` if a later version made it.
    #[must_use]
    pub const fn kind(self) -> Option<ObjectKind> {
        match self.0 >> Self::KIND_SHIFT {
            0 => Some(ObjectKind::System),
            1 => Some(ObjectKind::Partition),
            2 => Some(ObjectKind::Queue),
            3 => Some(ObjectKind::Group),
            4 => Some(ObjectKind::Task),
            8 => Some(ObjectKind::Transient),
            _ => None,
        }
    }
    /// Whether it lives in memory only: nothing of it is ever in the log or the state store.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        matches!(self.kind(), Some(ObjectKind::Transient))
    }
}

/// What an [`ObjectId`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ObjectKind {
    /// Rows of the store itself.
    System = 0,
    /// A partition of a topic.
    Partition = 1,
    /// A work queue.
    Queue = 2,
    /// A consumer group.
    Group = 3,
    /// A bridge, redrive or mover.
    Task = 4,
    /// A work queue that does not outlive the process (exclusive and non-durable ones): never on disk.
    Transient = 8,
}

/// A tenant boundary. 1 is the default namespace `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(pub u32);

impl Namespace {
    /// The default namespace, `/`.
    pub const DEFAULT: Self = Self(1);
}

/// A session as the log's waiter lists know it: unique within one run of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_id_round_trips_object_and_lane() {
        let o = ObjectId::new(ObjectKind::Queue, 0x0ABC_DEF0_1234);
        let l = LogId::new(o, 259);
        assert_eq!((l.object(), l.lane(), l.object().kind()), (o, 259, Some(ObjectKind::Queue)));
    }
}
