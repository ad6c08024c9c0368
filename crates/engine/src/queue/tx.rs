//! The queues' part of a transaction: messages, settlements, and what the mover took elsewhere.
//!
//! Start at [`Queues::conflict`], which looks at all of it and changes nothing, and [`Queues::transact`], which has it happen.

use std::collections::{BTreeMap, BTreeSet};

use millstream_log::{Op as LogOp, Permit};
use millstream_types::{ConnId, Lsn, ObjectId};

use super::api::{Publish, Published, Refusal, SettleItem, Tally};
use super::publish::{Seen, payload_of};
use super::queues::{Cx, Queues};
use super::settle::Run;
use crate::ctx::Asker;
use crate::op::{Tolerance, Transact, TransactError};

impl Queues {
    /// What cannot be done of it.
    pub(crate) fn conflict(&mut self, cx: &Cx<'_>, session: ConnId, tx: &Transact) -> Option<TransactError> {
        self.now = cx.now;
        if tx.tolerance != Tolerance::Copies
            && let Some(error) = self.refused(cx, tx)
        {
            return Some(error);
        }
        for (index, item) in tx.settles.iter().enumerate() {
            if let Err(error) = self.each(&cx.state.queues, session, run(item), |_, _, _| {}) {
                return Some(TransactError::Settle { index, error });
            }
        }
        let index = tx.moved.iter().position(|item| !self.is_held(cx, *item))?;
        Some(TransactError::NotHeld { index })
    }

    /// The first message that a queue does not take, those before it taken.
    fn refused(&mut self, cx: &Cx<'_>, tx: &Transact) -> Option<TransactError> {
        let mut more: BTreeMap<ObjectId, Tally> = BTreeMap::new();
        let mut ids: BTreeSet<(ObjectId, u128)> = BTreeSet::new();
        for (index, message) in tx.publishes.iter().enumerate() {
            let (bytes, mut seen) = (payload_of(message), Seen::default());
            for (i, target) in message.to.iter().enumerate() {
                let queue = target.queue;
                let error = |why| Some(TransactError::Publish { index, queue, why });
                let Some(live) = self.load(&cx.state.queues, queue) else { return error(Refusal::Gone) };
                if live.is_subscription() {
                    return error(Refusal::Subscription);
                }
                if tx.tolerance != Tolerance::Nothing || seen.before(&message.to, i, queue) {
                    continue;
                }
                let due_ms = live.due_ms(target, cx.now.wall_ms);
                let watched = message.dedup.zip(live.policy().id_window_ms);
                if let Some((hash, window_ms)) = watched {
                    let (rows, now_ms) = (&cx.state.queues, cx.now.wall_ms);
                    if ids.contains(&(queue, hash))
                        || self.ids.find(rows, queue, hash, window_ms, now_ms).is_some()
                    {
                        continue;
                    }
                    if self.ids.is_full(ids.len()) {
                        return error(Refusal::DedupFull);
                    }
                    ids.insert((queue, hash));
                }
                let Some(live) = self.live.get(queue) else { return error(Refusal::Gone) };
                if due_ms.is_none() {
                    let more = more.entry(queue).or_default();
                    more.add(bytes);
                    if live.refuses(due_ms, *more) {
                        return error(Refusal::Full);
                    }
                }
            }
        }
        None
    }

    /// Has it happen, with operations `more` in the same record. Gives what became of the messages, and the record's number if there
    /// was anything to record.
    pub(crate) fn transact(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        tx: &Transact,
        permit: Option<Permit>,
        more: &[LogOp<'_>],
    ) -> (Vec<Published>, Option<Lsn>) {
        self.now = cx.now;
        let mut places = Vec::new();
        let mut results = Vec::with_capacity(tx.publishes.len());
        for (body, message) in tx.publishes.iter().enumerate() {
            results.push(self.publish_one(cx, message, body, &mut places));
        }
        for item in &tx.settles {
            // All of them were there; of two on one message the first counts.
            let _ = self.each(&cx.state.queues, asker.session, run(item), |queue, turn, pos| {
                queue.settle_one(turn, item.lane, pos, item.verb);
            });
        }
        for item in &tx.moved {
            self.end_held(cx, *item);
        }
        let mut lsn = None;
        if !self.record.is_empty() || !more.is_empty() {
            let permit = crate::engine::writing(permit);
            let bodies = |i: usize| tx.publishes.get(i).map_or(&[][..], |m: &Publish| &m.body);
            lsn = self.commit_with(cx, permit, Some(asker.session), bodies, more);
            self.appended(cx, lsn.unwrap_or(*cx.last_lsn));
        }
        self.wake_freed();
        (results, lsn)
    }
}

fn run(i: &SettleItem) -> Run {
    Run { queue: i.queue, lane: i.lane, pos: i.pos, len: i.len, no: i.delivery_no }
}
