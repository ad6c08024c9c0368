//! Settling and extending: what becomes of leases at the word of those who have them. Every verb is exactly one event.
//!
//! Start at [`Queues::settle`].

use std::ops::Range;

use millstream_log::Permit;
use millstream_types::{ConnId, ObjectId};

use super::api::{Cause, ExtendItem, ParkedMessage, QueueReply, SettleError, SettleItem, UnparkItem, Verb};
use super::lane::Slot;
use super::lease::{Has, Lease};
use super::live::{Queue, Turn};
use super::policy::LEASE_MS_MAX;
use super::queues::{Cx, Queues};
use super::record::Act;
use super::rows::QueueRows;
use super::rows::chunk::{Known, State};
use super::timers::Look;
use crate::ctx::Asker;

/// Positions of one item that are looked at; those beyond are `Unknown`.
pub const RUN_MAX: u32 = 65_536;

/// A run of one delivery.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) queue: ObjectId,
    pub(super) lane: u16,
    pub(super) pos: u64,
    pub(super) len: u32,
    pub(super) no: u32,
}

impl Queues {
    pub(super) fn settle(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        items: &[SettleItem],
        permit: Option<Permit>,
    ) {
        let mut errors = Vec::new();
        for (index, i) in items.iter().enumerate() {
            let run = Run { queue: i.queue, lane: i.lane, pos: i.pos, len: i.len, no: i.delivery_no };
            let result = if i.verb == Verb::AckLate {
                self.settle_late(&cx.state.queues, asker.session, run)
            } else {
                self.each(&cx.state.queues, asker.session, run, |queue, turn, pos| {
                    queue.settle_one(turn, i.lane, pos, i.verb);
                })
            };
            errors.extend(result.err().map(|e| (index, e)));
        }
        self.finish_items(cx, asker, permit, QueueReply::Settled { errors });
    }

    pub(super) fn extend(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        items: &[ExtendItem],
        permit: Option<Permit>,
    ) {
        let mut errors = Vec::new();
        for (index, i) in items.iter().enumerate() {
            let run = Run { queue: i.queue, lane: i.lane, pos: i.pos, len: i.len, no: i.delivery_no };
            let result = self.each(&cx.state.queues, asker.session, run, |queue, turn, pos| {
                queue.extend_one(turn, i.lane, pos, i.lease_ms);
            });
            errors.extend(result.err().map(|e| (index, e)));
        }
        self.finish_items(cx, asker, permit, QueueReply::Settled { errors });
    }

    fn finish_items(&mut self, cx: &mut Cx<'_>, asker: Asker, permit: Option<Permit>, reply: QueueReply) {
        if !self.record.is_empty() {
            let permit = crate::engine::writing(permit);
            let lsn = self.commit(cx, permit, Some(asker.session), |_| &[]);
            self.barriers.settled(asker.session, lsn.unwrap_or_default(), self.durable);
        }
        cx.answer(asker, *cx.last_lsn, reply);
    }

    /// Calls `f` for each position of a run whose lease is there; the error of the first that is not.
    pub(super) fn each(
        &mut self,
        rows: &QueueRows,
        session: ConnId,
        run: Run,
        mut f: impl FnMut(&mut Queue, &mut Turn<'_>, u64),
    ) -> Result<(), SettleError> {
        self.load(rows, run.queue).ok_or(SettleError::Unknown)?;
        let (mut turn, live) = self.turn(rows);
        let queue = live.get_mut(run.queue).ok_or(SettleError::Unknown)?;
        let (positions, mut result) = queue.positions(run)?;
        for pos in positions.clone().rev() {
            if let Err(e) = queue.check(&turn, session, run.lane, pos, run.no) {
                result = Err(e);
            }
        }
        for pos in positions {
            if queue.check(&turn, session, run.lane, pos, run.no).is_ok() {
                f(queue, &mut turn, pos);
            }
        }
        self.mark_runnable(run.queue);
        result
    }

    pub(super) fn unpark(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        items: &[UnparkItem],
        permit: Option<Permit>,
    ) {
        let mut errors = Vec::new();
        for (index, i) in items.iter().enumerate() {
            let done = self.load(&cx.state.queues, i.queue).is_some();
            let (mut turn, live) = self.turn(&cx.state.queues);
            let parked = |q: &Queue| {
                q.lanes
                    .get(i.lane)
                    .and_then(|l| l.leases.get(i.pos))
                    .is_some_and(|l| matches!(l.has, Has::Parked(_)))
            };
            let queue = live.get_mut(i.queue).filter(|q| done && parked(q));
            let Some(queue) = queue else {
                errors.push((index, SettleError::Unknown));
                continue;
            };
            if let Some(mut lease) = queue.end_lease(&mut turn, i.lane, i.pos) {
                if i.release {
                    lease.slot.attempts = 0;
                    queue.release(&mut turn, i.lane, lease.slot, Some(0));
                } else {
                    queue.finish(&mut turn, i.lane, lease, Cause::Skipped);
                }
            }
            self.mark_runnable(i.queue);
        }
        self.finish_items(cx, asker, permit, QueueReply::Unparked { errors });
    }
}

impl Queue {
    /// What is parked, from a lane and position on.
    pub(super) fn parked_from(&self, from: (u16, u64), max: u32) -> Vec<ParkedMessage> {
        let mut all = Vec::new();
        for (number, lane) in self.lanes.range(from.0..) {
            let first = if *number == from.0 { from.1 } else { 0 };
            let parked = lane.leases.from(first).filter(|l| matches!(l.has, Has::Parked(_)));
            all.extend(parked.take(max as usize - all.len()).map(|l| {
                let Slot { pos, deliveries, attempts, bytes, .. } = l.slot;
                ParkedMessage { lane: *number, pos, deliveries, attempts, bytes }
            }));
            if all.len() >= max as usize {
                break;
            }
        }
        all
    }

    /// The positions of a run that are looked at; an error if that is not all of it.
    pub(super) fn positions(&self, run: Run) -> Result<(Range<u64>, Result<(), SettleError>), SettleError> {
        let next = self.lanes.get(run.lane).ok_or(SettleError::Unknown)?.next;
        let end = run.pos.saturating_add(u64::from(run.len));
        let looked_at = end.min(run.pos.saturating_add(u64::from(RUN_MAX))).min(next);
        let all = if looked_at < end { Err(SettleError::Unknown) } else { Ok(()) };
        Ok((run.pos..looked_at, all))
    }

    /// Whether `session` may settle the lease with this number.
    fn check(
        &self,
        turn: &Turn<'_>,
        session: ConnId,
        number: u16,
        pos: u64,
        no: u32,
    ) -> Result<(), SettleError> {
        let lane = self.lanes.get(number).ok_or(SettleError::Unknown)?;
        if let Some(lease) = lane.leases.get(pos) {
            return match lease.has {
                _ if lease.no != no => Err(SettleError::Stale),
                Has::Mover(_) | Has::Parked(_) => Err(SettleError::Unknown),
                Has::Exhausted => Err(SettleError::Expired),
                Has::Consumer if lease.owned && lease.holder.is_none_or(|h| h.0 != session) => {
                    Err(SettleError::NotHolder)
                }
                Has::Consumer if lease.until_ms <= turn.now_ms => Err(SettleError::Expired),
                Has::Consumer => Ok(()),
            };
        }
        if pos >= lane.next || lane.is_settled(turn.rows, pos) {
            return Err(SettleError::Unknown);
        }
        match turn.rows.exception(self.id(), number, pos, self.purge_no) {
            None => Err(SettleError::Unknown),
            Some(e) if e.no != no => Err(SettleError::Stale),
            // The row still has the lease: nobody gave it back.
            Some(e) if matches!(e.state, State::Timed(_)) => Err(SettleError::Expired),
            Some(_) => Err(SettleError::Stale),
        }
    }

    pub(super) fn settle_one(&mut self, turn: &mut Turn<'_>, number: u16, pos: u64, verb: Verb) {
        let Some(mut lease) = self.end_lease(turn, number, pos) else { return };
        match verb {
            Verb::Ack | Verb::AckLate => {
                self.acked += 1;
                turn.record.act(self.id(), number, pos, Act::Settle(Cause::Acked, lease.slot.bytes));
            }
            Verb::Reject => self.finish(turn, number, lease, Cause::Rejected),
            Verb::Undelivered => {
                lease.slot.deliveries = lease.slot.deliveries.saturating_sub(1);
                self.delivered = self.delivered.saturating_sub(1);
                self.release(turn, number, lease.slot, Some(0));
            }
            Verb::Release { failed: false, delay_ms } => {
                self.release(turn, number, lease.slot, Some(delay_ms.unwrap_or(0)));
            }
            Verb::Release { failed: true, delay_ms } => {
                lease.slot.attempts = lease.slot.attempts.saturating_add(1);
                if self.policy().exhausted(lease.slot.attempts) {
                    self.finish(turn, number, lease, Cause::Exhausted);
                } else {
                    self.release(turn, number, lease.slot, delay_ms);
                }
            }
        }
    }

    fn extend_one(&mut self, turn: &mut Turn<'_>, number: u16, pos: u64, lease_ms: u64) {
        let id = self.id();
        let Some(lane) = self.lanes.get_mut(number) else { return };
        let Some(lease) = lane.leases.get(pos) else { return };
        // A lease without end has none to move.
        if lease.until_ms == u64::MAX {
            return;
        }
        let until_ms = turn.now_ms.saturating_add(lease_ms.min(LEASE_MS_MAX));
        let Lease { slot, no, .. } = lease;
        lane.leases.insert(&Lease { until_ms, ..lease });
        let state = State::Timed(until_ms);
        let known = Known { state, deliveries: slot.deliveries, attempts: slot.attempts };
        turn.record.act(id, number, pos, Act::Put(known));
        turn.timers.at(until_ms, id, Look::Lease(number, pos, no));
    }
}
