//! Settlements on their way.
//!
//! An ack has no answer: it is durable at the latest when the next confirm, or the channel's
//! or connection's `close-ok`, goes out.

use std::collections::VecDeque;

use amq_protocol::protocol::basic as b;
use millstream_broker::queue::api::{Delivery, SettleItem, Verb};
use millstream_broker::{Asked, Refused, Settled, settle_item};

use crate::channel::Channel;
use crate::exception::Exception;

/// Items of one record.
const SETTLE_ITEMS_MAX: usize = 4_096;
/// Positions of one record, about.
const SETTLE_POSITIONS_MAX: u32 = 65_536;
/// Positions that one item has at most.
const RUN_MAX: u32 = 4_096;

/// Settlements: gathered, and on their way.
#[derive(Debug, Default)]
pub(super) struct Settling {
    items: VecDeque<SettleItem>,
    /// The answer to the last ones. When it is there, all before it are durable too.
    last: Option<Asked<Settled>>,
}

impl Settling {
    /// A delivery that was not kept as one that is out.
    pub(super) fn add(&mut self, d: &Delivery, verb: Verb) {
        self.add_item(settle_item(d, verb));
    }

    pub(super) fn add_item(&mut self, item: SettleItem) {
        let of = |i: &SettleItem| (i.queue, i.lane, i.delivery_no, i.verb);
        if let Some(last) = self.items.back_mut()
            && of(last) == of(&item)
            && last.pos + u64::from(last.len) == item.pos
            && last.len < RUN_MAX
        {
            last.len += item.len;
        } else {
            self.items.push_back(item);
        }
    }
}

impl Settling {
    /// As much of it as is settled by one record.
    fn next_items(&mut self) -> Vec<SettleItem> {
        let mut positions = 0;
        let fits = |i: &&SettleItem| {
            let room = positions < SETTLE_POSITIONS_MAX;
            positions += i.len;
            room
        };
        let n = self.items.iter().take(SETTLE_ITEMS_MAX).take_while(fits).count();
        self.items.drain(..n).collect()
    }

    /// What was gathered.
    pub(super) fn take(&mut self) -> Vec<SettleItem> {
        std::mem::take(&mut self.items).into()
    }
}

impl Channel {
    pub(super) fn ack(&mut self, m: &b::Ack) -> Result<(), Exception> {
        self.settle(m.delivery_tag, m.multiple, Verb::Ack)
    }

    pub(super) fn reject(&mut self, tag: u64, multiple: bool, requeue: bool) -> Result<(), Exception> {
        let verb = if requeue { Verb::Release { failed: true, delay_ms: None } } else { Verb::Reject };
        self.settle(tag, multiple, verb)
    }

    fn settle(&mut self, tag: u64, multiple: bool, verb: Verb) -> Result<(), Exception> {
        let taken = self.unacked.take(tag, multiple)?;
        let stats = self.link.stats();
        let count = match verb {
            Verb::Ack | Verb::AckLate => &stats.acked,
            Verb::Reject => &stats.rejected,
            Verb::Release { .. } | Verb::Undelivered => &stats.requeued,
        };
        count.add(taken.len());
        if let Some(tx) = &mut self.tx {
            return tx.settle(taken, verb);
        }
        for (_, out) in taken.into_all() {
            self.settling.add_item(out.settled(verb));
        }
        Ok(())
    }

    /// Ends the channel if a delivery was not settled in time; its deliveries then go back to their queues.
    pub(super) fn check_overdue(&mut self) -> Result<(), Exception> {
        let Some(within) = self.unacked.overdue() else { return Ok(()) };
        self.link.stats().timed_out.add(1);
        tracing::warn!(
            channel = self.number,
            user = self.link.client.user,
            peer = %self.link.peer,
            within_ms = within.as_millis(),
            "an AMQP consumer did not settle a delivery in time"
        );
        Err(Exception::precondition(format!(
            "delivery acknowledgement on channel {} timed out. Timeout value used: {} ms. This timeout value can be configured, see consumers doc guide to learn more",
            self.number,
            within.as_millis()
        )))
    }

    /// Submits what was gathered.
    pub(super) async fn flush_settlements(&mut self) -> Result<(), Exception> {
        while !self.settling.items.is_empty() {
            let items = self.settling.next_items();
            self.settling.last = Some(self.session.settle(items).await.map_err(|e| refused(&e))?);
        }
        Ok(())
    }

    /// Waits until all that was submitted is durable.
    pub(super) async fn settled(&mut self) -> Result<(), Exception> {
        match self.settling.last.take() {
            // What did not count was not held any more: its queue is gone.
            Some(last) => last.await.map(drop).map_err(|e| Exception::internal(&e)),
            None => Ok(()),
        }
    }
}

/// The broker took nothing.
pub(super) fn refused(e: &Refused) -> Exception {
    use crate::error::ReplyCode;
    match e {
        Refused::Closed => Exception::new(ReplyCode::ConnectionForced, "the broker is stopping"),
        e => Exception::new(ReplyCode::ResourceError, e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::unacked::tests;

    fn delivery(pos: u64) -> Delivery {
        tests::delivery(9, pos, 3)
    }

    #[test]
    fn neighbours_that_were_delivered_together_are_settled_as_one_run() {
        let mut settling = Settling::default();
        for pos in [4, 5, 6, 9] {
            settling.add(&delivery(pos), Verb::Ack);
        }
        settling.add(&delivery(10), Verb::Reject);
        let runs: Vec<_> = settling.items.iter().map(|i| (i.pos, i.len)).collect();
        assert_eq!(runs, [(4, 3), (9, 1), (10, 1)]);
    }

    #[test]
    fn what_is_settled_by_one_record_is_bounded() {
        let mut settling = Settling::default();
        for pos in 0..200_000 {
            settling.add(&delivery(pos), Verb::Ack);
        }
        for pos in 100_000..105_000 {
            settling.add(&delivery(pos * 2), Verb::Reject);
        }
        let mut sizes = Vec::new();
        while !settling.items.is_empty() {
            let items = settling.next_items();
            sizes.push((items.len(), items.iter().map(|i| i.len).sum::<u32>()));
        }
        let total: u32 = sizes.iter().map(|s| s.1).sum();
        assert_eq!(total, 205_000);
        assert!(sizes.iter().all(|s| s.0 <= SETTLE_ITEMS_MAX && s.1 < SETTLE_POSITIONS_MAX + RUN_MAX));
    }
}
