//! What is decided together: what of it is a record of the log, and what only memory has.
//!
//! Start at [`Parts::commit`]. What happens to transient queues is in no record: it is applied as if it were, and their messages are kept by
//! whoever has the log ([`Commits::keep`]).

use millstream_log::{Op as LogOp, Permit};
use millstream_types::{ConnId, Lsn};

use crate::effect::RowEffect;
use crate::op::Commits;
use crate::state::State;

/// Operations in the order in which they are applied.
#[derive(Debug, Default)]
pub(crate) struct Parts<'a> {
    ops: Vec<LogOp<'a>>,
    /// Which of them only memory has; empty: none.
    transient: Vec<bool>,
}

impl<'a> Parts<'a> {
    /// With room for so many.
    pub(crate) fn with_capacity(n: usize) -> Self {
        Self { ops: Vec::with_capacity(n), transient: Vec::new() }
    }

    /// One more.
    pub(crate) fn push(&mut self, op: LogOp<'a>, transient: bool) {
        if transient && self.transient.is_empty() {
            self.transient.resize(self.ops.len(), false);
        }
        self.ops.push(op);
        if transient || !self.transient.is_empty() {
            self.transient.push(transient);
        }
    }

    /// More that are recorded.
    pub(crate) fn extend(&mut self, ops: &[LogOp<'a>]) {
        for op in ops {
            self.push(*op, false);
        }
    }

    /// Has it happen: the record is put in order, if there is one, and everything is applied to the state. The record's number, which
    /// `last_lsn` is then too, or [`Lsn::UNRECORDED`]: there was nothing to record, and the permit is given back.
    pub(crate) fn commit(
        self,
        state: &mut State,
        last_lsn: &mut Lsn,
        log: &mut dyn Commits,
        permit: Permit,
        waiter: Option<ConnId>,
    ) -> Lsn {
        if self.transient.is_empty() {
            let lsn = log.commit(permit, &self.ops, waiter);
            state.record(lsn, &self.ops);
            *last_lsn = lsn;
            return lsn;
        }
        let of = |which: bool| -> Vec<LogOp<'a>> {
            let all = self.ops.iter().zip(&self.transient);
            all.filter(|(_, t)| **t == which).map(|(op, _)| *op).collect()
        };
        let recorded = of(false);
        let lsn = if recorded.is_empty() { Lsn::UNRECORDED } else { log.commit(permit, &recorded, waiter) };
        log.keep(&of(true));
        for (op, transient) in self.ops.iter().zip(&self.transient) {
            state.made(if *transient { Lsn::UNRECORDED } else { lsn }, op);
        }
        if lsn != Lsn::UNRECORDED {
            state.record_end(lsn);
            *last_lsn = lsn;
        }
        lsn
    }
}

impl<'a> FromIterator<&'a RowEffect> for Parts<'a> {
    fn from_iter<I: IntoIterator<Item = &'a RowEffect>>(effects: I) -> Self {
        let mut parts = Self::default();
        for e in effects {
            parts.push(e.op(), e.transient);
        }
        parts
    }
}
