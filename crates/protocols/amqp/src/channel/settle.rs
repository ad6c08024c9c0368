//! What a client has been given and has not settled, and the settlements on their way.
//!
//! Delivery tags are the channel's own numbers. An ack has no answer: it is durable at the latest when the next confirm, or the channel's
//! or connection's `close-ok`, goes out.

use std::collections::BTreeMap;
use std::time::Duration;

use amq_protocol::protocol::basic as b;
use millstream_broker::queue::api::{Delivery, SettleItem, Verb};
use millstream_broker::{Asked, Refused, Settled, settle_item};
use tokio::time::Instant;

use crate::channel::Channel;
use crate::exception::Exception;

/// Items of one record.
const SETTLE_ITEMS_MAX: usize = 4_096;
/// Positions that one item has at most.
const RUN_MAX: u32 = 4_096;

/// Looks for deliveries that were not settled in time are so far apart: a quarter of the shortest time, within these.
const LOOK_MIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_mins(1);

/// A delivery that is out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    pub(super) delivery: Delivery,
    since: Instant,
    /// To be settled within; `None`: whenever.
    within: Option<Duration>,
}

/// Deliveries by their tags.
#[derive(Debug, Default)]
pub(super) struct Unacked {
    by_tag: BTreeMap<u64, Out>,
    last_tag: u64,
    /// The shortest time that any had to be settled in.
    shortest: Option<Duration>,
    next_look: Option<Instant>,
}

impl Unacked {
    /// The next tag. Tags count on, whether or not they are to be acknowledged.
    pub(super) fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// A delivery goes out now (`since`), to be settled within a time.
    pub(super) fn add(&mut self, tag: u64, delivery: Delivery, within: Option<Duration>, since: Instant) {
        self.by_tag.insert(tag, Out { delivery, since, within });
        let Some(within) = within else { return };
        if self.shortest.is_none_or(|s| within < s) {
            self.shortest = Some(within);
            self.next_look = None;
        }
        self.next_look.get_or_insert(since + (within / 4).clamp(LOOK_MIN, LOOK_MAX));
    }

    /// A delivery is out again, as it was.
    pub(super) fn add_again(&mut self, tag: u64, out: Out) {
        self.by_tag.insert(tag, out);
        if let Some(shortest) = self.shortest {
            self.next_look.get_or_insert(Instant::now() + (shortest / 4).clamp(LOOK_MIN, LOOK_MAX));
        }
    }

    /// When to look for what was not settled in time; `None`: nothing is out that would have to be.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    /// The time that a delivery had, if it is over for one.
    fn overdue(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.next_look = None;
        if let Some(shortest) = self.shortest.filter(|_| !self.by_tag.is_empty()) {
            self.next_look = Some(now + (shortest / 4).clamp(LOOK_MIN, LOOK_MAX));
        }
        let over = |o: &Out| o.within.filter(|within| o.since + *within <= now);
        self.by_tag.values().find_map(over)
    }

    /// All of them, in order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Delivery> + use<> {
        std::mem::take(&mut self.by_tag).into_values().map(|o| o.delivery)
    }

    /// What a tag means; with `multiple`, all up to it, and 0 stands for all.
    fn take(&mut self, tag: u64, multiple: bool) -> Result<Vec<(u64, Out)>, Exception> {
        if multiple && tag == 0 {
            return Ok(std::mem::take(&mut self.by_tag).into_iter().collect());
        }
        let Some(one) = self.by_tag.get(&tag).copied() else {
            return Err(Exception::precondition(format!("unknown delivery tag {tag}")));
        };
        if multiple {
            let later = self.by_tag.split_off(&tag.saturating_add(1));
            return Ok(std::mem::replace(&mut self.by_tag, later).into_iter().collect());
        }
        self.by_tag.remove(&tag);
        Ok(vec![(tag, one)])
    }
}

/// Settlements: gathered, and on their way.
#[derive(Debug, Default)]
pub(super) struct Settling {
    items: Vec<SettleItem>,
    /// The answer to the last ones. When it is there, all before it are durable too.
    last: Option<Asked<Settled>>,
}

impl Settling {
    pub(super) fn add(&mut self, d: &Delivery, verb: Verb) {
        if let Some(last) = self.items.last_mut()
            && (last.queue, last.lane, last.delivery_no, last.verb) == (d.queue, d.lane, d.delivery_no, verb)
            && last.pos + u64::from(last.len) == d.pos
            && last.len < RUN_MAX
        {
            last.len += 1;
        } else {
            self.items.push(settle_item(d, verb));
        }
    }
}

impl Settling {
    /// What was gathered.
    pub(super) fn take(&mut self) -> Vec<SettleItem> {
        std::mem::take(&mut self.items)
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
        let deliveries = self.unacked.take(tag, multiple)?;
        let stats = self.link.stats();
        let count = match verb {
            Verb::Ack | Verb::AckLate => &stats.acked,
            Verb::Reject => &stats.rejected,
            Verb::Release { .. } | Verb::Undelivered => &stats.requeued,
        };
        count.add(deliveries.len());
        if let Some(tx) = &mut self.tx {
            return tx.settle(deliveries, verb);
        }
        for (_, out) in deliveries {
            self.settling.add(&out.delivery, verb);
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
            let rest = self.settling.items.split_off(self.settling.items.len().min(SETTLE_ITEMS_MAX));
            let items = std::mem::replace(&mut self.settling.items, rest);
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
    use millstream_broker::queue::api::ConsumerId;
    use millstream_types::{ConnId, Lsn, ObjectId};

    use super::*;

    fn delivery(pos: u64) -> Delivery {
        Delivery {
            session: ConnId(1),
            consumer: ConsumerId(1),
            queue: ObjectId(9),
            lane: 0,
            pos,
            delivery_no: 3,
            deliveries: 1,
            attempts: 0,
            first_ms: 0,
            redelivered: false,
            bytes: 1,
            wait: Lsn(0),
        }
    }

    fn unacked(n: u64) -> Unacked {
        let mut all = Unacked::default();
        for pos in 0..n {
            let tag = all.next_tag();
            all.add(tag, delivery(pos), None, Instant::now());
        }
        all
    }

    #[test]
    fn multiple_takes_all_up_to_the_tag_and_zero_takes_all() {
        let mut all = unacked(5);
        let positions = |d: Vec<(u64, Out)>| d.iter().map(|(_, o)| o.delivery.pos).collect::<Vec<_>>();
        assert_eq!(positions(all.take(2, false).unwrap()), [1]);
        assert_eq!(positions(all.take(3, true).unwrap()), [0, 2]);
        assert_eq!(positions(all.take(0, true).unwrap()), [3, 4]);
        assert_eq!(positions(all.take(0, true).unwrap()), [0_u64; 0]);
    }

    #[test]
    fn a_tag_that_is_not_outstanding_is_unknown() {
        let mut all = unacked(2);
        all.take(1, false).unwrap();
        for (tag, multiple) in [(1, false), (1, true), (3, true), (0, false), (u64::MAX, true)] {
            let e = all.take(tag, multiple).unwrap_err();
            assert_eq!(e.reply_text(), format!("PRECONDITION_FAILED - unknown delivery tag {tag}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_is_over_is_told_and_what_was_settled_is_not_waited_for() {
        let mut all = Unacked::default();
        let (short, long) = (Duration::from_secs(1), Duration::from_mins(1));
        let (a, b) = (all.next_tag(), all.next_tag());
        all.add(a, delivery(0), Some(long), Instant::now());
        all.add(b, delivery(1), Some(short), Instant::now());
        assert_eq!(all.next_look(), Some(Instant::now() + short / 4));
        tokio::time::advance(short).await;
        assert_eq!(all.overdue(), Some(short));
        all.take(b, false).unwrap();
        assert_eq!(all.overdue(), None);
        tokio::time::advance(long).await;
        assert_eq!(all.overdue(), Some(long));
        all.take(a, false).unwrap();
        assert_eq!((all.overdue(), all.next_look()), (None, None));
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
}
