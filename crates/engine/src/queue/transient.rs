//! Transient queues: in memory only, and gone with the process. What happens to them is in no record, so it waits for no sync.
//!
//! They are queues like others; [`crate::parts`] keeps them out of the log. Here is what answers about them have to wait for all the same
//! ([`Barriers`]), and where their ids come from ([`TransientIds`]).

use foldhash::HashMap;
use millstream_types::{ConnId, Lsn, ObjectId, ObjectKind};

/// So few sessions are not worth looking through.
const SESSIONS_LOW: usize = 64;

/// The last record in which a session settled something, while that is not durable: an answer to what it submits later says that it is.
#[derive(Debug, Default)]
pub(crate) struct Barriers {
    /// Only ever looked up.
    of: HashMap<ConnId, Lsn>,
    /// With so many, those that are durable go.
    sessions_max: usize,
}

impl Barriers {
    /// A session has settled something in record `lsn`.
    pub(crate) fn settled(&mut self, session: ConnId, lsn: Lsn, durable: Lsn) {
        if lsn == Lsn::UNRECORDED {
            return;
        }
        if self.of.len() >= self.sessions_max.max(SESSIONS_LOW) {
            self.of.retain(|_, lsn| *lsn > durable);
            self.sessions_max = self.of.len().saturating_mul(2);
        }
        self.of.insert(session, lsn);
    }

    /// What has to be durable before a session's next answer.
    pub(crate) fn of(&self, session: ConnId) -> Lsn {
        self.of.get(&session).copied().unwrap_or(Lsn::UNRECORDED)
    }

    /// A session is gone.
    pub(crate) fn forget(&mut self, session: ConnId) {
        self.of.remove(&session);
    }
}

/// Ids of transient queues. They begin at the time at which serving began, so that an earlier process gave no such id, unless it made more
/// than one queue a millisecond all along, or the clock was set back. Then a delivery of before the restart may be taken for one of now, if
/// its position and number are the same too.
#[derive(Debug, Default)]
pub(crate) struct TransientIds(u64);

impl TransientIds {
    /// From when serving began, milliseconds since the epoch.
    pub(crate) fn from(now_ms: u64) -> Self {
        Self(now_ms)
    }

    /// The `n`th of those that were not given yet.
    pub(crate) fn peek(&self, n: u64) -> ObjectId {
        // 44 bits of milliseconds last until the year 2527.
        ObjectId::new(ObjectKind::Transient, self.0.saturating_add(n) & ((1 << 44) - 1))
    }

    /// So many were given.
    pub(crate) fn given(&mut self, n: u64) {
        self.0 = self.0.saturating_add(n);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_durable_is_no_barrier_for_long() {
        let mut barriers = Barriers::default();
        for n in 1..10_000 {
            barriers.settled(ConnId(n), Lsn(n), Lsn(n.saturating_sub(5)));
            assert!(barriers.of.len() <= SESSIONS_LOW);
        }
        assert_eq!((barriers.of(ConnId(9_999)), barriers.of(ConnId(3))), (Lsn(9_999), Lsn::UNRECORDED));
    }
}
