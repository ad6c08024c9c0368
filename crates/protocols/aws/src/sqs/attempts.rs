//! Attempt ids of receives from FIFO queues: a receive whose answer was lost is asked for again under the same `ReceiveRequestAttemptId`, and
//! gives the same messages under the same handles, invisible anew.
//!
//! An id is known for [`SPAN_MS`] after its receive, unless one of its messages was deleted or had its visibility changed since, or ran
//! out of it. In memory only and bounded: an id that is not known, also after a restart, is that of a receive like any other.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_broker::queue::api::Delivery;

use super::handle::Handle;

/// So long after a receive its id is known, milliseconds: 5 minutes.
const SPAN_MS: u64 = 300_000;
/// Ids that are known at once, of all queues; beyond, the oldest goes.
const ATTEMPTS_MAX: usize = 16_384;

/// A queue and an id.
type Key = (u64, Arc<str>);
/// A message's queue, lane and position.
type Place = (u64, u16, u64);

/// What a receive gave.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// When, milliseconds since the epoch.
    pub(crate) received_ms: u64,
    pub(crate) deliveries: Arc<[Delivery]>,
}

#[derive(Debug, Default)]
struct Known {
    attempts: HashMap<Key, Attempt>,
    /// Which attempt has a message that is in flight.
    of_message: HashMap<Place, Key>,
    /// All that were noted, the oldest first; those that were forgotten or noted again since are passed over.
    order: VecDeque<(u64, Key)>,
}

/// The attempts that are known.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<Known>);

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the receive of this id gave, if it is to be given again.
    pub(crate) fn find(&self, queue: u64, id: &str, now_ms: u64) -> Option<Attempt> {
        let mut known = self.lock();
        known.expire(now_ms);
        known.attempts.get(&(queue, Arc::from(id))).cloned()
    }

    pub(crate) fn note(&self, queue: u64, id: &str, attempt: Attempt) {
        let mut known = self.lock();
        known.expire(attempt.received_ms);
        let key: Key = (queue, Arc::from(id));
        known.forget(&key);
        while known.attempts.len() >= ATTEMPTS_MAX {
            let Some((_, oldest)) = known.order.pop_front() else { break };
            known.forget(&oldest);
        }
        for d in attempt.deliveries.iter() {
            known.of_message.insert((d.queue.0, d.lane, d.pos), key.clone());
        }
        known.order.push_back((attempt.received_ms, key.clone()));
        known.attempts.insert(key, attempt);
    }

    /// An id is that of a new receive from now on.
    pub(crate) fn forget(&self, queue: u64, id: &str) {
        self.lock().forget(&(queue, Arc::from(id)));
    }

    /// These messages are deleted, or their visibility is changed: the receives that gave them cannot be repeated.
    pub(crate) fn modified<'a>(&self, handles: impl Iterator<Item = &'a Handle>) {
        let mut known = self.lock();
        if known.attempts.is_empty() {
            return;
        }
        for h in handles {
            let Some(key) = known.of_message.get(&(h.queue, h.lane, h.pos)).cloned() else { continue };
            let same = |d: &Delivery| (d.lane, d.pos, d.delivery_no) == (h.lane, h.pos, h.delivery_no);
            if known.attempts.get(&key).is_some_and(|a| a.deliveries.iter().any(same)) {
                known.forget(&key);
            }
        }
    }
}

impl Known {
    fn forget(&mut self, key: &Key) {
        let Some(attempt) = self.attempts.remove(key) else { return };
        for d in attempt.deliveries.iter() {
            let place = (d.queue.0, d.lane, d.pos);
            if self.of_message.get(&place) == Some(key) {
                self.of_message.remove(&place);
            }
        }
        // What is deleted in time leaves nothing here for long.
        if self.order.len() > 2 * self.attempts.len() + 64 {
            let attempts = &self.attempts;
            self.order.retain(|(ms, key)| attempts.get(key).is_some_and(|a| a.received_ms == *ms));
        }
    }

    fn expire(&mut self, now_ms: u64) {
        while let Some((ms, key)) = self.order.pop_front_if(|o| o.0.saturating_add(SPAN_MS) <= now_ms) {
            if self.attempts.get(&key).is_some_and(|a| a.received_ms == ms) {
                self.forget(&key);
            }
        }
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
            consumer: ConsumerId(0),
            queue: ObjectId(1),
            lane: 0,
            pos,
            delivery_no: 7,
            deliveries: 1,
            attempts: 0,
            first_ms: 0,
            redelivered: false,
            bytes: 0,
            wait: Lsn(0),
        }
    }

    fn attempt(received_ms: u64, at: &[u64]) -> Attempt {
        Attempt { received_ms, deliveries: at.iter().map(|p| delivery(*p)).collect() }
    }

    fn handle(pos: u64, delivery_no: u32) -> Handle {
        Handle { queue: 1, lane: 0, pos, delivery_no, received_ms: 0 }
    }

    #[test]
    fn an_id_is_known_in_its_queue_for_five_minutes() {
        let a = Attempts::default();
        a.note(1, "x", attempt(10, &[1, 2]));
        assert_eq!(a.find(1, "x", 10 + SPAN_MS - 1).unwrap().deliveries.len(), 2);
        assert!(a.find(2, "x", 10).is_none() && a.find(1, "y", 10).is_none());
        assert!(a.find(1, "x", 10 + SPAN_MS).is_none());
        let known = a.lock();
        assert!(known.order.is_empty() && known.of_message.is_empty());
    }

    #[test]
    fn an_id_is_forgotten_when_one_of_its_messages_is_modified() {
        let a = Attempts::default();
        a.note(1, "x", attempt(10, &[1, 2]));
        a.modified([handle(1, 6), handle(3, 7)].iter());
        assert!(a.find(1, "x", 10).is_some(), "another delivery, another message");
        a.modified([handle(2, 7)].iter());
        assert!(a.find(1, "x", 10).is_none() && a.lock().of_message.is_empty());
    }

    #[test]
    fn an_id_that_is_used_again_stands_for_the_later_receive() {
        let a = Attempts::default();
        a.note(1, "x", attempt(10, &[1]));
        a.note(1, "x", attempt(20, &[2]));
        a.modified([handle(1, 7)].iter());
        assert_eq!(a.find(1, "x", 10 + SPAN_MS).unwrap().received_ms, 20);
        assert!(a.find(1, "x", 20 + SPAN_MS).is_none());
    }

    #[test]
    fn so_many_ids_are_known_and_no_more_and_nothing_is_left_of_those_that_went() {
        let a = Attempts::default();
        for n in 0..=ATTEMPTS_MAX as u64 {
            a.note(1, &n.to_string(), attempt(10, &[n]));
        }
        assert!(a.find(1, "0", 10).is_none() && a.find(1, "1", 10).is_some());
        for n in 0..=ATTEMPTS_MAX as u64 {
            a.modified([handle(n, 7)].iter());
        }
        let known = a.lock();
        assert!(known.attempts.is_empty() && known.of_message.is_empty() && known.order.len() <= 64);
    }
}
