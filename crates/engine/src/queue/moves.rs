//! The mover's side: messages that it holds are taken elsewhere, dropped, or given back, each in one record.
//!
//! Start at [`Queues::moved`]. The mover is the broker's: it reads the bodies and routes them.

use bytes::Bytes;
use millstream_log::Permit;
use millstream_types::ObjectId;

use super::api::{
    Cause, HeldItem, MoveError, MoveItem, MoveThen, MoveWork, Publish, QueueReply, RECEIVE_MAX, Refusal,
    Tally,
};
use super::lease::Has;
use super::policy::Overflow;
use super::publish::payload_of;
use super::queues::{Cx, Queues};
use super::record::Act;
use crate::ctx::Asker;

impl Queues {
    pub(super) fn moved(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        items: &[MoveItem],
        permit: Option<Permit>,
    ) {
        let mut places = Vec::new();
        let mut results = Vec::with_capacity(items.len());
        for (body, item) in items.iter().enumerate() {
            results.push(self.move_one(cx, item, body, &mut places));
        }
        if !self.record.is_empty() {
            let permit = crate::engine::writing(permit);
            let bodies = |i: usize| match items.get(i).map(|m| &m.then) {
                Some(MoveThen::Publish { publish, .. }) => publish.body.as_slice(),
                _ => &[] as &[Bytes],
            };
            let lsn = self.commit(cx, permit, Some(asker.session), bodies).unwrap_or(*cx.last_lsn);
            self.appended(cx, lsn);
        }
        cx.answer(asker, *cx.last_lsn, QueueReply::Moved(results));
    }

    fn move_one(
        &mut self,
        cx: &Cx<'_>,
        item: &MoveItem,
        body: usize,
        places: &mut Vec<super::publish::Place>,
    ) -> Result<(), MoveError> {
        let MoveItem { queue, lane, pos, delivery_no, .. } = *item;
        if !self.is_held(cx, HeldItem { queue, lane, pos, delivery_no }) {
            return Err(MoveError::NotHeld);
        }
        if let MoveThen::Publish { publish, at_most_once } = &item.then {
            if !at_most_once {
                self.all_would_take(cx, publish)?;
            }
            self.publish_one(cx, publish, body, places);
        }
        let (mut turn, live) = self.turn(&cx.state.queues);
        let queue = live.get_mut(item.queue).ok_or(MoveError::NotHeld)?;
        let lease = queue.end_lease(&mut turn, item.lane, item.pos).ok_or(MoveError::NotHeld)?;
        queue.work_out = queue.work_out.saturating_sub(1);
        let cause = match &item.then {
            MoveThen::Release => {
                queue.release(&mut turn, item.lane, lease.slot, Some(0));
                self.mark_runnable(item.queue);
                return Ok(());
            }
            MoveThen::Publish { .. } => Cause::Moved,
            MoveThen::Drop(cause) => *cause,
        };
        turn.record.act(item.queue, item.lane, item.pos, Act::Settle(cause, lease.slot.bytes));
        self.mark_runnable(item.queue);
        Ok(())
    }

    /// Whether the mover holds a message under this number.
    pub(super) fn is_held(&mut self, cx: &Cx<'_>, item: HeldItem) -> bool {
        let queue = self.load(&cx.state.queues, item.queue);
        let lease = queue.and_then(|q| q.lanes.get(item.lane)?.leases.get(item.pos));
        lease.is_some_and(|l| matches!(l.has, Has::Mover(_)) && l.no == item.delivery_no)
    }

    /// A message that the mover holds is elsewhere now.
    pub(super) fn end_held(&mut self, cx: &Cx<'_>, item: HeldItem) {
        let (mut turn, live) = self.turn(&cx.state.queues);
        let Some(queue) = live.get_mut(item.queue) else { return };
        let Some(lease) = queue.end_lease(&mut turn, item.lane, item.pos) else { return };
        queue.work_out = queue.work_out.saturating_sub(1);
        turn.record.act(item.queue, item.lane, item.pos, Act::Settle(Cause::Moved, lease.slot.bytes));
        self.mark_runnable(item.queue);
    }

    /// Whether every queue would take a message now.
    fn all_would_take(&mut self, cx: &Cx<'_>, publish: &Publish) -> Result<(), MoveError> {
        let bytes = payload_of(publish);
        for target in &publish.to {
            let queue = self.load(&cx.state.queues, target.queue);
            let queue = queue.ok_or(MoveError::Refused(Refusal::Gone))?;
            if queue.is_subscription() {
                return Err(MoveError::Refused(Refusal::Subscription));
            }
            let refuses = match queue.policy().overflow {
                Overflow::DropHead => false,
                Overflow::Reject => true,
                Overflow::RejectDeadLetter => !queue.policy().dead_letter,
            };
            if refuses && queue.would_be_over(Tally::one(bytes)) {
                return Err(MoveError::Refused(Refusal::Full));
            }
        }
        Ok(())
    }

    /// Holds ready messages for the mover, in delivery order.
    pub(super) fn hold(
        &mut self,
        cx: &mut Cx<'_>,
        asker: Asker,
        id: ObjectId,
        max: u32,
        permit: Option<Permit>,
    ) {
        let mut held = Vec::new();
        let found = self.load(&cx.state.queues, id).is_some();
        let (mut turn, live) = self.turn(&cx.state.queues);
        if let Some(queue) = live.get_mut(id).filter(|_| found) {
            while held.len() < max.min(RECEIVE_MAX) as usize {
                queue.sort_heads(turn.rows);
                let Some(number) = queue.next_lane(turn.now_ms) else { break };
                let Some(slot) = queue.pop_from(turn.rows, number, false) else { break };
                queue.ready.sub(slot.bytes);
                queue.discard(&mut turn, number, slot, Cause::Redrive);
                queue.work_out += 1;
                held.push((number, slot.pos));
            }
        }
        if !self.record.is_empty() {
            let permit = crate::engine::writing(permit);
            self.commit(cx, permit, Some(asker.session), |_| &[]);
        }
        self.mark_runnable(id);
        let wait = *cx.last_lsn;
        let work = found.then(|| {
            let queue = self.live.get(id);
            let at = |(lane, pos): &(u16, u64)| queue.and_then(|q| q.work_at(*lane, *pos, wait));
            held.iter().filter_map(at).collect::<Vec<MoveWork>>()
        });
        cx.answer(asker, wait, QueueReply::Held(work));
    }
}
