//! Transactions in random histories: across queues, a partition, a group and a task, all of it or nothing.

use std::collections::BTreeMap;

use millstream_engine::catalogue::Change;
use millstream_engine::group::{Commit, CommittedOffset, GroupOp, GroupReply, Who};
use millstream_engine::op::{
    AppendItem, AppendKind, Appended, Op, Reply, Tolerance, Transact, TransactError, Transacted,
};
use millstream_engine::queue::api::*;
use millstream_engine::task::{CursorStep, TaskConflict, TaskKind, TaskOp, TaskReply, TaskState, TaskStep};
use millstream_types::{LogId, Namespace};

use super::Run;
use crate::model::*;
use crate::support::body;

const SLOT: u64 = 5;
const GROUP: &str = "g";

fn who() -> Who {
    Who {
        ns: Namespace::DEFAULT,
        group: GROUP.to_owned(),
        generation: -1,
        member: String::new(),
        instance: None,
    }
}

impl Run {
    /// A topic and a task, besides the queues.
    pub(super) fn begin(&mut self) {
        let (ns, name) = (Namespace::DEFAULT, "topic".to_owned());
        let change =
            Change::CreateTopic { ns, name, uuid: [1; 16], partitions: 1, settings: BTreeMap::new() };
        let Reply::Catalogue(Ok(defs)) = self.world.ask_any(1, Op::Catalogue(vec![change])) else { panic!() };
        self.model.part = defs[0].log(0).unwrap();
        let create = TaskOp::Create {
            ns,
            kind: TaskKind(1),
            name: "task".to_owned(),
            definition: Default::default(),
            cursors: Vec::new(),
            state: TaskState::Running,
        };
        let Reply::Task(TaskReply::Changed(Ok(task))) = self.world.ask_any(1, Op::Task(create)) else {
            panic!()
        };
        self.model.task = task.id;
        self.model.objects += 2;
        self.end_op();
        // They are there for the whole history.
        self.world.sync();
    }

    pub(super) fn transact(&mut self) {
        let mut tx = Transact {
            tolerance: *self.dice.of(&[Tolerance::Nothing, Tolerance::FullQueues, Tolerance::Copies]),
            ..Transact::default()
        };
        for _ in 0..self.dice.below(3) {
            let to = self.targets();
            tx.publishes.push(self.message(to));
        }
        let session = self.settles(&mut tx);
        let held = (self.moves.len() as u64, self.one_in(3));
        let work = (held.0 > 0 && held.1).then(|| self.moves.swap_remove(self.dice.below(held.0) as usize));
        if let Some(MoveWork { queue, lane, pos, delivery_no, .. }) = work {
            tx.moved.push(HeldItem { queue, lane, pos, delivery_no });
        }
        for _ in 0..self.dice.below(3) {
            let part = if self.one_in(15) { LogId(9) } else { self.model.part };
            let kind = AppendKind::Single { envelope_len: 1 };
            tx.appends.push(AppendItem { part, kind, count: 1, max_ts_ms: -1, body: body(1) });
        }
        if self.one_in(2) {
            let offset = self.model.committed.unwrap_or(0) + 1;
            let committed = CommittedOffset { offset, leader_epoch: -1, metadata: String::new() };
            tx.commits.push(Commit { who: who(), offsets: vec![(self.model.part, committed)] });
        }
        if self.one_in(2) {
            let at = self.model.cursor;
            let from = if self.one_in(6) { at.wrapping_sub(1) } else { at };
            let cursors = vec![CursorStep { slot: SLOT, from, to: at + 1 }];
            tx.task = Some(TaskStep { task: self.model.task, version: 1, cursors, ..TaskStep::default() });
        }
        let before = self.model.clone();
        let reply = self.world.ask_any(session, Op::Transact(Box::new(tx.clone())));
        let Reply::Transact(got) = reply else { panic!("{reply:?}") };
        let handed = got.is_ok().then(|| self.handed());
        let expected = self.model_transact(&tx, session, handed.as_ref());
        if expected.is_err() {
            self.model = before;
            self.moves.extend(work);
        }
        self.count(if expected.is_ok() { "transactions" } else { "conflicts" });
        assert_eq!(got, expected);
        self.handed_out();
        self.sequenced();
        self.end_op();
    }

    /// Leases of one session that end.
    fn settles(&mut self, tx: &mut Transact) -> u64 {
        let Some((_, _, session, _)) = self.pick() else { return 1 };
        for _ in 0..self.dice.below(3) {
            let Some((q, i, _, no)) = self.pick() else { break };
            let verb = *self.dice.of(&[Verb::Ack, Verb::Ack, Verb::Reject, Verb::Undelivered]);
            let m = &self.model.queues[q].msgs[i];
            let item = SettleItem {
                queue: self.model.queues[q].id,
                lane: m.lane,
                pos: m.pos,
                len: 1,
                delivery_no: no,
                verb,
            };
            let same = |i: &SettleItem| (i.queue, i.lane, i.pos) == (item.queue, item.lane, item.pos);
            if !tx.settles.iter().any(same) {
                tx.settles.push(item);
            }
        }
        session
    }

    /// What it comes to. If nothing of it happens, the model is to be put back.
    fn model_transact(
        &mut self,
        tx: &Transact,
        session: u64,
        handed: Option<&Handed>,
    ) -> Result<Transacted, TransactError> {
        if let Some(step) = &tx.task {
            let at = self.model.cursor;
            if step.cursors[0].from != at {
                return Err(TransactError::Task(TaskConflict::Cursor { slot: SLOT, at }));
            }
            self.model.cursor = step.cursors[0].to;
        }
        let mut done = Transacted::default();
        for (index, item) in tx.appends.iter().enumerate() {
            if item.part == self.model.part {
                let base = self.model.part_next;
                self.model.part_next += 1;
                done.appended.push(Ok(Appended { base, start: 0, duplicate: false }));
            } else {
                let error = millstream_engine::op::AppendError::Gone;
                if tx.tolerance != Tolerance::Copies {
                    return Err(TransactError::Append { index, error });
                }
                done.appended.push(Err(error));
            }
        }
        // Leases are looked at before anything happens.
        let mut leases = Vec::new();
        for (index, item) in tx.settles.iter().enumerate() {
            let q = self.model.q(item.queue).unwrap();
            let mut msgs = self.model.queues[q].msgs.iter();
            let i = msgs.position(|m| (m.lane, m.pos) == (item.lane, item.pos)).unwrap();
            let lease = self.may_settle(q, i, session, item.delivery_no);
            leases.push(lease.map(|()| (q, i)).map_err(|error| TransactError::Settle { index, error }));
        }
        for (index, message) in tx.publishes.iter().enumerate() {
            let published = self.model_publish(message, handed);
            let counts = |r: &&(_, Refusal)| match tx.tolerance {
                Tolerance::Nothing => true,
                Tolerance::FullQueues => r.1 == Refusal::Gone,
                Tolerance::Copies => false,
            };
            if let Some((queue, why)) = published.refused.iter().find(counts) {
                return Err(TransactError::Publish { index, queue: *queue, why: *why });
            }
            done.published.push(published);
        }
        for (item, lease) in tx.settles.iter().zip(leases) {
            let (q, i) = lease?;
            self.model_settle(q, i, item.verb);
        }
        for (index, item) in tx.moved.iter().enumerate() {
            let q = self.model.q(item.queue).ok_or(TransactError::NotHeld { index })?;
            let mut msgs = self.model.queues[q].msgs.iter_mut();
            let is = |m: &&mut Msg| (m.lane, m.pos) == (item.lane, item.pos) && matches!(m.is, St::Held(_));
            let m = msgs.find(is).ok_or(TransactError::NotHeld { index })?;
            (m.is, m.no) = (St::Gone, item.delivery_no);
            m.record();
        }
        for commit in &tx.commits {
            // A group begins with its first commit.
            self.model.objects += u64::from(self.model.committed.is_none());
            self.model.committed = Some(commit.offsets[0].1.offset);
        }
        Ok(done)
    }

    /// What a crash leaves of topic, group and task.
    pub(super) fn check_others(&mut self) {
        let (part, task) = (self.model.part, self.model.task);
        let list = TaskOp::List { ns: None, kind: None, name: None, after: None };
        let reply = self.world.ask_any(1, Op::Task(list));
        let Reply::Task(TaskReply::Tasks(tasks)) = reply else { panic!("{reply:?}") };
        assert_eq!((tasks[0].id, tasks[0].row.cursor(SLOT)), (task, self.model.cursor));
        let fetch = GroupOp::FetchOffsets {
            ns: Namespace::DEFAULT,
            group: GROUP.to_owned(),
            parts: Some(vec![part]),
        };
        let reply = self.world.ask_any(1, Op::Group(fetch));
        let Reply::Group(GroupReply::Offsets(offsets)) = reply else { panic!("{reply:?}") };
        assert_eq!(offsets[0].1.as_ref().map(|c| c.offset), self.model.committed);
        let (topic, _) = self.world.engine.snapshot().by_log[&part].clone();
        assert_eq!(topic.partitions[0].visible_end(), self.model.part_next);
    }
}
