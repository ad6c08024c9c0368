//! The mover, redrives and the parking place in random histories.

use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::Overflow;

use super::Run;
use crate::model::*;

impl Run {
    pub(super) fn mover(&mut self) {
        if self.moves.is_empty() {
            return;
        }
        let n = self.moves.len() as u64;
        let w = self.moves.swap_remove(self.dice.below(n) as usize);
        let to = self.targets();
        let choice = self.dice.below(5);
        let at_most_once = self.one_in(2);
        let then = match choice {
            0 => MoveThen::Drop(w.cause),
            1 => MoveThen::Release,
            _ => MoveThen::Publish { publish: self.message(to), at_most_once },
        };
        let found = self.model.q(w.queue).and_then(|q| {
            let msgs = &self.model.queues[q].msgs;
            let at = |m: &Msg| (m.lane, m.pos) == (w.lane, w.pos) && matches!(m.is, St::Held(_));
            Some((q, msgs.iter().position(at)?))
        });
        let item = MoveItem {
            queue: w.queue,
            lane: w.lane,
            pos: w.pos,
            delivery_no: w.delivery_no,
            then: then.clone(),
        };
        let reply = self.world.ask(1, QueueOp::Move(vec![item]));
        let handed = self.handed();
        let mut expected = Ok(());
        match found {
            None => expected = Err(MoveError::NotHeld),
            Some((q, i)) => {
                if let MoveThen::Publish { publish, at_most_once } = &then {
                    if !at_most_once {
                        expected = self.all_take(publish);
                    }
                    if expected.is_ok() {
                        self.model_publish(publish, Some(&handed));
                    }
                }
                let now = self.now();
                let x = &mut self.model.queues[q];
                x.msgs[i].no = w.delivery_no;
                if expected.is_ok() && matches!(then, MoveThen::Release) {
                    x.release(i, Some(0), now);
                } else if expected.is_ok() {
                    x.msgs[i].is = St::Gone;
                    x.msgs[i].record();
                }
            }
        }
        if matches!(expected, Err(MoveError::Refused(_))) {
            self.moves.push(w);
        }
        self.count(if expected.is_ok() { "moved" } else { "not moved" });
        assert_eq!(reply, QueueReply::Moved(vec![expected]));
        self.handed_out();
        self.sequenced();
        self.end_op();
    }

    fn all_take(&self, p: &Publish) -> Result<(), MoveError> {
        let bytes = p.body.iter().map(|b| b.len() as u32).sum::<u32>() - p.envelope_len;
        for t in &p.to {
            let q = self.model.q(t.queue).ok_or(MoveError::Refused(Refusal::Gone))?;
            let q = &self.model.queues[q];
            let refuses = match q.policy.overflow {
                Overflow::DropHead => false,
                Overflow::Reject => true,
                Overflow::RejectDeadLetter => !q.policy.dead_letter,
            };
            if refuses && q.over(Some(bytes)) {
                return Err(MoveError::Refused(Refusal::Full));
            }
        }
        Ok(())
    }

    pub(super) fn hold(&mut self) {
        self.rest();
        let Some(q) = self.queue() else { return };
        let max = 1 + self.dice.below(3) as u32;
        let durable = self.world.durable.0;
        if self.model.queues[q].is_ordered() {
            return self.hold_ordered(q, max);
        }
        let x = &mut self.model.queues[q];
        let mut expected = Vec::new();
        for _ in 0..max {
            let Some(i) = x.next(Some(durable)) else { break };
            let m = &mut x.msgs[i];
            m.is = St::Held(Cause::Redrive);
            m.record();
            expected.push((m.lane, m.pos));
        }
        let queue = x.id;
        let reply = self.world.ask(1, QueueOp::Hold { queue, max });
        let QueueReply::Held(Some(held)) = reply else { panic!("{reply:?}") };
        assert_eq!(held.iter().map(|w| (w.lane, w.pos)).collect::<Vec<_>>(), expected);
        self.moves.extend(held);
        self.end_op();
    }

    pub(super) fn unpark(&mut self) {
        let all: Vec<(usize, usize)> = self
            .model
            .queues
            .iter()
            .enumerate()
            .flat_map(|(q, x)| (0..x.msgs.len()).map(move |i| (q, i)))
            .filter(|(q, i)| self.model.queues[*q].msgs[*i].is == St::Parked)
            .collect();
        if all.is_empty() {
            return;
        }
        let (q, i) = *self.dice.of(&all);
        let release = self.one_in(2);
        let now = self.now();
        let x = &mut self.model.queues[q];
        let item = UnparkItem { queue: x.id, lane: x.msgs[i].lane, pos: x.msgs[i].pos, release };
        if release {
            x.msgs[i].attempts = 0;
            x.release(i, Some(0), now);
        } else {
            x.finish(i, Cause::Skipped);
        }
        let reply = self.world.ask(1, QueueOp::Unpark(vec![item]));
        assert_eq!(reply, QueueReply::Unparked { errors: Vec::new() });
        self.count("unparked");
        self.end_op();
    }
}
