//! What histories hold against the model where queues order by key. Which of several keys comes first is not predicted, nor when what is
//! too old or too much goes; what may not be is: two holders of a key, a message before an earlier one of its key, anything that waits
//! without a reason.

use std::collections::BTreeMap;

use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::{Ordering, Overflow};

use super::Run;
use super::checks::{JUST, apply, recorded};
use crate::model::*;

impl Run {
    /// What ordered queues dropped is taken over, if it could be.
    pub(super) fn adopt(&mut self) {
        let new = &self.world.log.records[self.rows_to as usize..];
        for (n, record) in (self.rows_to + 1..).zip(new) {
            apply(&mut self.rows, n, record);
        }
        self.rows_to = self.world.log.records.len() as u64;
        apply(&mut self.rows, 0, &self.world.log.kept[self.rows_kept_to..]);
        self.rows_kept_to = self.world.log.kept.len();
        let now = self.now();
        for q in self.model.queues.iter_mut().filter(|q| q.is_ordered()) {
            for i in 0..q.msgs.len() {
                let m = &q.msgs[i];
                if !m.ready() {
                    continue;
                }
                let ((is, ..), _) = recorded(&self.rows, q.id, m);
                let limited = q.policy.messages_max.is_some() || q.policy.bytes_max.is_some();
                let drops = limited && q.policy.overflow == Overflow::DropHead;
                match is {
                    St::Gone => assert!(q.is_expired(m, now) || drops, "dropped: {m:?}\n{}", q.tell(now)),
                    St::Held(Cause::Expired) => assert!(q.is_expired(m, now), "{m:?}"),
                    St::Held(Cause::Length) => assert!(drops, "{m:?}"),
                    _ => continue,
                }
                let m = &mut q.msgs[i];
                m.is = is;
                m.no += u32::from(m.is != St::Gone);
                m.record();
            }
        }
    }

    /// Each key has one holder, and goes out in its order.
    pub(super) fn check_keys(&mut self, now: u64, durable: u64) {
        self.adopt();
        for q in self.model.queues.iter().filter(|q| q.is_ordered()) {
            let mut old = q.clone();
            for m in old.msgs.iter_mut().filter(|m| m.lsn & JUST != 0) {
                m.is = St::Ready;
            }
            let mut holders = BTreeMap::new();
            for m in q.msgs.iter().filter(|m| m.lsn & JUST != 0) {
                assert!(!old.is_closed(m.key), "two holders: {m:?}\n{}", q.tell(now));
                assert!(!q.is_gated(m, m.deliveries - 1, now), "before its time: {m:?}");
                let Some(key) = m.key else { continue };
                let before = |o: &&Msg| {
                    (o.lane, o.key) == (m.lane, m.key)
                        && o.rank() < m.rank()
                        && o.ready()
                        && o.visible(durable)
                };
                let earlier = q.msgs.iter().find(before);
                assert!(earlier.is_none(), "{earlier:?} is passed over by {m:?}\n{}", q.tell(now));
                if q.policy.ordering != Ordering::ByKey {
                    continue;
                }
                if let St::Leased { session, consumer, .. } = m.is {
                    let holder = (session, consumer, m.lane);
                    let same = *holders.entry(key).or_insert(holder) == holder;
                    assert!(same, "two holders: {m:?}\n{}", q.tell(now));
                } else {
                    // Settled as it went out: not behind one that somebody has.
                    let leased = |o: &&Msg| {
                        (o.lane, o.key) == (m.lane, m.key)
                            && o.rank() < m.rank()
                            && matches!(o.is, St::Leased { .. })
                    };
                    assert!(q.msgs.iter().find(leased).is_none(), "{m:?}\n{}", q.tell(now));
                }
            }
        }
    }

    /// A redrive of an ordered queue takes what may go out.
    pub(super) fn hold_ordered(&mut self, q: usize, max: u32) {
        let (now, durable) = (self.now(), self.world.durable.0);
        let queue = self.model.queues[q].id;
        let reply = self.world.ask(1, QueueOp::Hold { queue, max });
        let QueueReply::Held(Some(held)) = reply else { panic!("{reply:?}") };
        let x = &mut self.model.queues[q];
        let by_key = x.policy.ordering == Ordering::ByKey;
        assert!(!held.is_empty() || !by_key || !x.has_open(now, durable), "{}", x.tell(now));
        for w in &held {
            let i = x.msgs.iter().position(|m| (m.lane, m.pos) == (w.lane, w.pos)).unwrap();
            let m = &x.msgs[i];
            assert!(m.ready() && !x.is_closed(m.key) && !x.is_gated(m, m.deliveries, now), "{m:?}");
            let before = |o: &&Msg| (o.lane, o.key) == (m.lane, m.key) && o.rank() < m.rank() && o.ready();
            assert!(m.key.is_none() || x.msgs.iter().find(before).is_none(), "{m:?}");
            x.msgs[i].is = St::Held(Cause::Redrive);
            x.msgs[i].record();
        }
        self.moves.extend(held);
        self.end_op();
    }
}

impl Q {
    /// Nothing too old stands at a head, and nothing is too much that could go.
    pub(super) fn check_limits(&self, now: u64, durable: u64) {
        for m in self.heads(false).into_iter().chain(self.heads(true)) {
            assert!(!m.visible(durable) || !self.is_expired(m, now), "too old: {m:?}\n{}", self.tell(now));
        }
        let drops = self.policy.overflow == Overflow::DropHead && self.over(None);
        assert!(!drops || self.heads(false).is_empty(), "too much: {}", self.tell(now));
    }
}
