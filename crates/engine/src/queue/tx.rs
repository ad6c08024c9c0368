//! Publishes and settlements as one step: all of it or nothing, one record.
//!
//! Start at [`Queues::transact`]. What is looked at first is whether every lease is still there and every queue; only then anything changes.
//! A full queue refuses its copy, and says so, as it does without a transaction.

use millstream_log::Permit;

use super::api::{Publish, Published, QueueReply, QueueTransact, SettleItem, TxConflict};
use super::queues::{Cx, Queues};
use super::settle::Run;
use crate::ctx::Asker;

impl Queues {
    pub(super) fn transact(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        tx: &QueueTransact,
        permit: Option<Permit>,
    ) {
        let result = match self.conflict(cx, asker, tx) {
            Some(conflict) => Err(conflict),
            None => Ok(self.apply(cx, asker, tx, permit)),
        };
        cx.answer(asker, *cx.last_lsn, QueueReply::Transacted(result));
    }

    fn apply(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        tx: &QueueTransact,
        permit: Option<Permit>,
    ) -> Vec<Published> {
        for i in &tx.settles {
            // All of them were there; of two on one message the first counts.
            let _ = self.each(&cx.state.queues, asker.session, run(i), |queue, turn, pos| {
                queue.settle_one(turn, i.lane, pos, i.verb);
            });
        }
        let mut places = Vec::new();
        let mut results = Vec::with_capacity(tx.publishes.len());
        for (body, message) in tx.publishes.iter().enumerate() {
            results.push(self.publish_one(cx, message, body, &mut places));
        }
        if !self.record.is_empty() {
            let permit = crate::engine::writing(permit);
            let bodies = |i: usize| tx.publishes.get(i).map_or(&[][..], |m: &Publish| &m.body);
            self.commit(cx, permit, Some(asker.session), bodies);
            self.appended(*cx.last_lsn);
        }
        results
    }

    /// What cannot be done of it. Changes nothing.
    fn conflict(&mut self, cx: &mut Cx<'_>, asker: Asker, tx: &QueueTransact) -> Option<TxConflict> {
        for (item, i) in tx.settles.iter().enumerate() {
            if let Err(error) = self.each(&cx.state.queues, asker.session, run(i), |_, _, _| {}) {
                return Some(TxConflict::Settle { item, error });
            }
        }
        let gone = |p: &Publish| p.to.iter().any(|t| self.directory.by_id(t.queue).is_none());
        tx.publishes.iter().position(gone).map(|item| TxConflict::Gone { item })
    }
}

fn run(i: &SettleItem) -> Run {
    Run { queue: i.queue, lane: i.lane, pos: i.pos, len: i.len, no: i.delivery_no }
}
