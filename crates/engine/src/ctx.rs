//! What a decision may use besides the state: the log, the counters, and where answers go.

use millstream_log::{Op, Permit};
use millstream_types::{ConnId, LogId, Lsn};

use crate::effect::RowEffect;
use crate::op::{Answer, Commits, Effects, Reply, Ticket};
use crate::rows::RowKey;
use crate::rows::family;
use crate::rows::id::{Counter, Ids};
use crate::table::Dirty;

/// What an effect's encoding adds to its key and bytes, and a key to what a row says, at most.
const EFFECT_OVERHEAD_BYTES: usize = 4 << 10;

/// Who asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) session: ConnId,
    pub(crate) ticket: Ticket,
}

/// Lent by the engine for one call.
pub struct Ctx<'a> {
    log: &'a mut dyn Commits,
    out: &'a mut Effects,
    last_lsn: &'a mut Lsn,
    ids: &'a mut Ids,
    exists: &'a dyn Fn(LogId) -> bool,
}

impl<'a> Ctx<'a> {
    /// Of its parts.
    pub fn new(
        log: &'a mut dyn Commits,
        out: &'a mut Effects,
        last_lsn: &'a mut Lsn,
        ids: &'a mut Ids,
        exists: &'a dyn Fn(LogId) -> bool,
    ) -> Self {
        Self { log, out, last_lsn, ids, exists }
    }

    /// The LSN last sequenced: what an answer waits for that shows state.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        *self.last_lsn
    }

    /// Whether the partition exists.
    #[must_use]
    pub fn exists(&self, part: LogId) -> bool {
        (self.exists)(part)
    }

    /// The counters. To take an object's number: `ids().next(Counter::Objects)`, and [`Ids::effect`] of the number after it among the
    /// effects of the record.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        self.ids
    }

    /// Room for a record of at most `bytes`; `None`: try again in a later turn.
    pub fn spare(&mut self, bytes: usize) -> Option<Permit> {
        self.log.spare(bytes)
    }

    /// Largest effect that fits the log: its key and bytes together.
    #[must_use]
    pub fn effect_bytes_max(&self) -> usize {
        self.log.op_bytes_max().saturating_sub(EFFECT_OVERHEAD_BYTES)
    }

    /// Puts one record of these effects in order. Effects on counters are applied here; the others are the caller's to apply.
    ///
    /// # Panics
    /// If an effect on a counter is not what [`Ids::effect`] makes.
    pub fn commit(&mut self, permit: Permit, effects: &[RowEffect], waiter: Option<ConnId>) -> Lsn {
        let ops: Vec<Op<'_>> = effects.iter().map(RowEffect::op).collect();
        let lsn = self.log.commit(permit, &ops, waiter);
        *self.last_lsn = lsn;
        for e in effects.iter().filter(|e| e.key.first() == Some(&family::ID)) {
            self.ids.apply_effect(lsn, &e.key, &e.bytes).expect("made by Ids::effect");
        }
        self.ids.record_end(lsn);
        lsn
    }

    /// Answers; the answer shows when `wait` is durable.
    pub fn answer(&mut self, session: ConnId, ticket: Ticket, wait: Lsn, reply: Reply) {
        self.out.answers.push(Answer { session, ticket, wait, reply });
    }
}

const _: () = assert!(Counter::FAMILY == family::ID);
