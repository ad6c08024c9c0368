//! Queues are made, with all that a policy may say, altered and deleted.

use millstream_engine::op::Reply;
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;

use super::Run;
use crate::world::{create, create_transient};

impl Run {
    fn policy(&mut self) -> QueuePolicy {
        let mut p = QueuePolicy { lease_ms: 1 + self.dice.below(300), ..QueuePolicy::default() };
        if self.one_in(2) {
            p.attempts_max = Some(1 + self.dice.below(3) as u32);
        }
        p.on_exhausted = *self.dice.of(&[OnExhausted::DeadLetter, OnExhausted::Drop, OnExhausted::Park]);
        p.dead_letter = self.one_in(2);
        p.backoff = match self.dice.below(4) {
            0 => Backoff::Fixed { ms: self.dice.below(200) },
            1 => Backoff::Exponential { base_ms: 20, max_ms: 300, jitter_percent: 40 },
            _ => Backoff::None,
        };
        if self.one_in(4) {
            p.ttl_ms = Some(*self.dice.of(&[0, 40, 500, 1_500]));
        }
        if self.one_in(4) {
            p.messages_max = Some(self.dice.below(12));
        }
        if self.one_in(5) {
            p.bytes_max = Some(self.dice.below(20));
        }
        p.overflow = *self.dice.of(&[Overflow::DropHead, Overflow::Reject, Overflow::RejectDeadLetter]);
        p.priority_max = *self.dice.of(&[0, 0, 1, 3]);
        p.single_active = self.one_in(8);
        p.ordering = *self.dice.of(&[Ordering::None, Ordering::ByKey, Ordering::ByKey, Ordering::Fair]);
        if self.one_in(6) {
            p.delay_ms = self.dice.below(200);
        }
        if self.one_in(2) {
            p.id_window_ms = Some(400);
        }
        p
    }

    pub(super) fn make(&mut self, name: &'static str) {
        let policy = self.policy();
        let transient = self.one_in(3);
        let change = if transient { create_transient } else { create };
        let reply = self.world.ask(1, QueueOp::Change(vec![change(name, policy.clone())]));
        let QueueReply::Changed(reply) = reply else { panic!("{reply:?}") };
        if self.model.queues.iter().any(|q| q.name == name) {
            assert!(matches!(reply, Err(QueueError::Exists { .. })));
        } else if transient {
            let id = reply.unwrap()[0].id;
            assert!(id.is_transient() && self.model.q(id).is_none());
            self.model.add(id, name, policy, 0);
            self.count("transient queues");
        } else {
            let id = self.model.create(name, policy);
            assert_eq!(reply.unwrap()[0].id, id);
        }
        self.end_op();
    }

    pub(super) fn change(&mut self) {
        let Some(q) = self.queue() else { return };
        if self.one_in(2) {
            let (id, expect) = (self.model.queues[q].id, self.model.queues[q].version);
            // What was forgotten by a shorter window is not predicted.
            let QueuePolicy { ordering, id_window_ms, .. } = self.model.queues[q].policy;
            let policy = QueuePolicy { ordering, id_window_ms, ..self.policy() };
            self.model.queues[q].policy = policy.clone();
            self.model.queues[q].version += 1;
            let change = QueueChange::Alter { id, expect, policy, settings: Default::default() };
            let reply = self.world.ask(1, QueueOp::Change(vec![change]));
            assert!(matches!(reply, QueueReply::Changed(Ok(_))));
            return self.end_op();
        }
        let x = &self.model.queues[q];
        let (if_unused, if_empty) = (x.cons.iter().any(|c| c.cancelled), false);
        let change = QueueChange::Delete { id: x.id, if_unused, if_empty, if_idle: false };
        let reply = self.world.ask(1, QueueOp::Change(vec![change]));
        let QueueReply::Changed(reply) = reply else { panic!("{reply:?}") };
        if if_unused && x.cons.iter().any(|c| !c.cancelled) {
            assert_eq!(reply, Err(QueueError::InUse));
        } else {
            assert!(reply.is_ok());
            let gone = self.model.queues.remove(q);
            for w in &gone.waits {
                let i = self.world.answers.iter().position(|a| a.ticket.0 == w.ticket).unwrap();
                let reply = self.world.answers.remove(i).reply;
                let Reply::Queue(reply) = reply else { panic!("{reply:?}") };
                assert_eq!(reply, QueueReply::Received(Err(ReceiveError::NotFound)));
            }
            self.count("deleted");
        }
        self.end_op();
    }
}
