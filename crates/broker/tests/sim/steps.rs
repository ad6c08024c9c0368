//! Simulated workers that consume, enqueue and commit in one step, and a checker that nothing is lost or doubled by them.
//!
//! The topic `feed` has messages 0, 1, 2, ... of a producer that waits for each; the queue `in` has others. Three workers:
//!
//! - *reader* takes the message of `feed` where its group is, and commits the group's offset;
//! - *twins*, two of them, do the same with a task's cursor, each by what it last knew of it;
//! - *taker* takes a message of `in`, and settles it.
//!
//! Each brings what it took to the queue `out` and to the topic `done`, in the same step. What must hold after each opening: `done` has the
//! reader's messages up to the group's offset and the twins' up to the cursor, in order and once; at the end `out` has the same, and
//! what was sent to `in` is in `in` or in `out`, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_broker::group::{Commit, CommittedOffset, GroupOp, GroupReply, Who};
use millstream_broker::queue::api::{QueueDef, Receive, SettleError, Verb};
use millstream_broker::task::{CursorStep, TaskConflict, TaskKind, TaskState, TaskStep};
use millstream_broker::{
    Broker, CallError, Content, Message, NewMessage, NewQueue, NewTask, NewTopic, PartitionView, Principal,
    Session, SessionOptions, TaskQuery, TransactError, Transaction, TransactionError, settle_item,
};
use millstream_testkit::seeds::Dice;
use millstream_types::{LogId, Namespace, ObjectId};

use crate::book::Violation;
use crate::must;

const GROUP: &str = "steps";
const READER: u8 = 1;
const TWIN: u8 = 2;
const TAKER: u8 = 3;

/// Workers and what they know.
#[derive(Default)]
pub struct Workers {
    session: Option<Session>,
    made: Option<Made>,
    /// Messages sent to `feed` and to `in`, whatever was answered.
    fed: u64,
    put: u64,
    /// Those of `in` that were confirmed.
    sure: BTreeSet<u64>,
    /// What each twin last knew of the cursor.
    twins: [u64; 2],
    pub steps: u64,
    pub late: u64,
}

#[derive(Clone)]
struct Made {
    feed: [u8; 16],
    done: [u8; 16],
    input: Arc<QueueDef>,
    out: Arc<QueueDef>,
    task: ObjectId,
}

fn message(to: &str, worker: u8, n: u64) -> NewMessage {
    let mut payload = vec![worker];
    payload.extend(n.to_le_bytes());
    let message =
        Message { routing_key: to.to_owned(), payload: Some(Bytes::from(payload)), ..Message::default() };
    NewMessage { message, ..NewMessage::default() }
}

fn read(message: &Message) -> Option<(u8, u64)> {
    let (worker, n) = message.payload.as_deref()?.split_first()?;
    Some((*worker, u64::from_le_bytes(n.try_into().ok()?)))
}

fn receive(queue: &QueueDef, max: u32, auto_ack: bool) -> Receive {
    Receive { bytes_max: 1 << 20, auto_ack, ..Receive::now(queue.id, max) }
}

impl Workers {
    pub fn broker_came(&mut self, broker: &Broker) {
        self.session =
            Some(broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default()));
    }

    pub fn broker_went(&mut self) {
        self.session = None;
    }

    fn part(broker: &Broker, uuid: [u8; 16]) -> Option<Arc<PartitionView>> {
        broker.catalogue().by_uuid.get(&uuid)?.partitions.first().cloned()
    }

    /// One step of one of them.
    pub async fn step(&mut self, dice: &mut Dice, broker: &Broker) -> Result<(), Violation> {
        let Some(made) = self.made.clone() else { return self.make().await };
        match dice.below(10) {
            0..=1 => self.feed(broker, &made).await,
            2 => self.put().await,
            3..=4 => self.take(&made).await,
            5..=6 => self.read(broker, &made).await,
            n => self.twin(broker, &made, (n % 2) as usize, dice.once_in(4)).await,
        }
    }

    /// Whatever is not answered with success is made again.
    async fn make(&mut self) -> Result<(), Violation> {
        let Some(s) = &self.session else { return Ok(()) };
        let mut uuids = [[0; 16]; 2];
        for (name, uuid) in ["feed", "done"].into_iter().zip(&mut uuids) {
            let known = s.broker().catalogue().by_name.get(&(Namespace::DEFAULT, name.to_owned())).cloned();
            let new = NewTopic { name: name.to_owned(), partitions: Some(1), ..NewTopic::default() };
            let topic = match known {
                Some(topic) => topic,
                None => match s.create_topic(new).await {
                    Ok(topic) => topic,
                    Err(_) => return Ok(()),
                },
            };
            *uuid = topic.def.uuid;
        }
        let (Ok(input), Ok(out)) =
            (s.declare_queue(NewQueue::named("in")).await, s.declare_queue(NewQueue::named("out")).await)
        else {
            return Ok(());
        };
        let which = TaskQuery { name: Some(GROUP.to_owned()), ..TaskQuery::default() };
        let Ok(tasks) = s.tasks(&which).await else { return Ok(()) };
        let task = match tasks.first() {
            Some(task) => task.id,
            None => {
                let new = NewTask {
                    kind: TaskKind(1),
                    name: GROUP.to_owned(),
                    definition: Bytes::new(),
                    cursors: Vec::new(),
                    state: TaskState::Running,
                };
                match s.create_task(new).await {
                    Ok(task) => task.id,
                    Err(_) => return Ok(()),
                }
            }
        };
        // What was read of the catalogue need not be durable yet.
        if s.barrier().await.is_ok() {
            let [feed, done] = uuids;
            self.made = Some(Made { feed, done, input: input.def, out: out.def, task });
        }
        Ok(())
    }

    /// The next message of the feed. Whether one got in whose answer was lost is seen in the topic.
    async fn feed(&mut self, broker: &Broker, made: &Made) -> Result<(), Violation> {
        let (Some(s), Some(feed)) = (&self.session, Self::part(broker, made.feed)) else { return Ok(()) };
        must!(feed.visible_end() >= self.fed, "the feed ends at {}, not {}", feed.visible_end(), self.fed);
        let n = feed.visible_end();
        if let Ok(published) = s.publish(vec![message("feed", 0, n)]).await
            && let Ok(outcomes) = published.await
        {
            must!(matches!(&outcomes[..], [Ok(o)] if o.accepted == 1), "the feed took it not: {outcomes:?}");
            self.fed = n + 1;
        }
        Ok(())
    }

    async fn put(&mut self) -> Result<(), Violation> {
        let Some(s) = &self.session else { return Ok(()) };
        self.put += 1;
        if let Ok(published) = s.publish(vec![message("in", TAKER, self.put)]).await
            && let Ok(outcomes) = published.await
        {
            must!(matches!(&outcomes[..], [Ok(o)] if o.accepted == 1), "in took it not: {outcomes:?}");
            self.sure.insert(self.put);
        }
        Ok(())
    }

    async fn take(&mut self, made: &Made) -> Result<(), Violation> {
        let Some(s) = &self.session else { return Ok(()) };
        let Ok(Ok(got)) = s.receive(receive(&made.input, 1, false)).expect("nobody's queue").await else {
            return Ok(());
        };
        let Some(d) = got.first() else { return Ok(()) };
        let Some((worker, n)) =
            s.broker().read_bodies(&got).await[0].as_ref().ok().and_then(|m| read(&m.message))
        else {
            // It comes back with the session.
            return Ok(());
        };
        must!(worker == TAKER, "{worker} {n} is in the queue `in`");
        let tx = Transaction {
            publish: vec![message("out", TAKER, n), message("done", TAKER, n)],
            settle: vec![settle_item(d, Verb::Ack)],
            ..Transaction::default()
        };
        if !done(s.transaction(&tx).await)? {
            return Ok(());
        }
        self.steps += 1;
        let gone = TransactError::Settle { index: 0, error: SettleError::Unknown };
        match s.transaction(&tx).await {
            Err(TransactionError::Conflict(e)) if e == gone => Ok(()),
            Err(TransactionError::Call(_)) => Ok(()),
            other => Err(format!("{n} is settled twice: {other:?}")),
        }
    }

    async fn at(&self, broker: &Broker, part: &Arc<PartitionView>, from: u64) -> Option<(u64, u64)> {
        if from >= part.visible_end() {
            return None;
        }
        let batch = broker.streams().fetch(part, from, 1).await.ok()?;
        match &batch.entries.first()?.content {
            Content::Single { message, .. } => Some((read(message)?.1, batch.next)),
            Content::Batch { .. } => None,
        }
    }

    async fn committed(&self, part: LogId) -> Option<u64> {
        let group = GROUP.to_owned();
        let fetch = GroupOp::FetchOffsets { ns: Namespace::DEFAULT, group, parts: Some(vec![part]) };
        match self.session.as_ref()?.group(fetch).await {
            Ok(GroupReply::Offsets(all)) => {
                Some(all.into_iter().find_map(|(_, c)| c).map_or(0, |c| c.offset))
            }
            _ => None,
        }
    }

    async fn read(&mut self, broker: &Broker, made: &Made) -> Result<(), Violation> {
        let Some(feed) = Self::part(broker, made.feed) else { return Ok(()) };
        let Some(offset) = self.committed(feed.log).await else { return Ok(()) };
        let Some((n, next)) = self.at(broker, &feed, offset).await else { return Ok(()) };
        must!(n == offset, "{n} is at {offset} of the feed");
        let who = Who {
            ns: Namespace::DEFAULT,
            group: GROUP.to_owned(),
            generation: -1,
            member: String::new(),
            instance: None,
        };
        let offset = CommittedOffset { offset: next, leader_epoch: -1, metadata: String::new() };
        let tx = Transaction {
            publish: vec![message("out", READER, n), message("done", READER, n)],
            commit_offsets: vec![Commit { who, offsets: vec![(feed.log, offset)] }],
            ..Transaction::default()
        };
        let Some(s) = &self.session else { return Ok(()) };
        self.steps += u64::from(done(s.transaction(&tx).await)?);
        Ok(())
    }

    async fn twin(
        &mut self,
        broker: &Broker,
        made: &Made,
        which: usize,
        looks: bool,
    ) -> Result<(), Violation> {
        let (Some(s), Some(feed)) = (&self.session, Self::part(broker, made.feed)) else { return Ok(()) };
        if looks {
            let Ok(tasks) = s.tasks(&TaskQuery::default()).await else { return Ok(()) };
            let task = tasks.first().ok_or("the task is gone")?;
            self.twins[which] = task.row.cursor(feed.log.0);
        }
        let from = self.twins[which];
        let Some((n, to)) = self.at(broker, &feed, from).await else { return Ok(()) };
        let cursors = vec![CursorStep { slot: feed.log.0, from, to }];
        let step = TaskStep { task: made.task, version: 1, cursors, ..TaskStep::default() };
        let tx = Transaction {
            publish: vec![message("out", TWIN, n), message("done", TWIN, n)],
            task: Some(step),
            ..Transaction::default()
        };
        match s.transaction(&tx).await {
            // The other one was there, or this one was and did not hear of it.
            Err(TransactionError::Conflict(TransactError::Task(TaskConflict::Cursor { at, .. }))) => {
                must!(at != from, "the cursor is at {at}, and a step from there is refused");
                self.twins[which] = at;
                self.late += 1;
            }
            result => {
                if done(result)? {
                    self.twins[which] = to;
                    self.steps += 1;
                }
            }
        }
        Ok(())
    }

    /// What must hold of a broker that was just opened, or serves. Nothing is said of one that is lost meanwhile.
    pub async fn check(&mut self, broker: &Broker) -> Result<(), Violation> {
        let (Some(made), Some(s)) = (self.made.clone(), &self.session) else { return Ok(()) };
        let feed = Self::part(broker, made.feed).ok_or("the feed is gone")?;
        must!(feed.visible_end() >= self.fed, "the feed ends at {}, not {}", feed.visible_end(), self.fed);
        let (Ok(tasks), Some(offset)) =
            (s.tasks(&TaskQuery::default()).await, self.committed(feed.log).await)
        else {
            return Ok(());
        };
        let cursor = tasks.first().ok_or("the task is gone")?.row.cursor(feed.log.0);
        let Some(all) = self.done(broker, &made).await? else { return Ok(()) };
        for (worker, end) in [(READER, offset), (TWIN, cursor)] {
            let its: Vec<u64> = all.iter().filter(|m| m.0 == worker).map(|m| m.1).collect();
            must!(its.iter().copied().eq(0..end), "worker {worker} is at {end} and did {its:?}");
        }
        Ok(())
    }

    /// The topic `done`; `None`: the broker is lost.
    async fn done(&self, broker: &Broker, made: &Made) -> Result<Option<Vec<(u8, u64)>>, Violation> {
        let part = Self::part(broker, made.done).ok_or("the topic is gone")?;
        let (mut all, mut from) = (Vec::new(), part.start());
        while from < part.visible_end() {
            let Ok(batch) = broker.streams().fetch(&part, from, 20_000).await else { return Ok(None) };
            from = batch.next;
            for e in &batch.entries {
                match &e.content {
                    Content::Single { message, .. } => all.push(read(message).ok_or("a message of ours")?),
                    Content::Batch { .. } => return Err("a batch that nobody sent".to_owned()),
                }
            }
        }
        Ok(Some(all))
    }

    /// At the end of a history: takes everything out.
    pub async fn drain(&mut self, broker: &Broker) -> Result<(), Violation> {
        let Some(made) = self.made.clone() else { return Ok(()) };
        self.check(broker).await?;
        self.broker_came(broker);
        let Some(s) = &self.session else { return Ok(()) };
        let mut there: [BTreeMap<(u8, u64), u64>; 2] = Default::default();
        for (queue, there) in [&made.input, &made.out].into_iter().zip(&mut there) {
            let mut looks = 0;
            loop {
                let what = receive(queue, 100, true);
                let (Ok(Ok(got)), Ok(Some(stats))) =
                    (s.receive(what).expect("nobody's queue").await, s.queue_stats(queue.id, false).await)
                else {
                    return Ok(());
                };
                for body in broker.read_bodies(&got).await {
                    let Ok(body) = body else { return Ok(()) };
                    *there.entry(read(&body.message).ok_or("a message of ours")?).or_default() += 1;
                }
                if stats.ready.n + stats.leased.n == 0 {
                    break;
                }
                looks += 1;
                must!(looks < 50_000, "{} does not come to its end: {stats:?}", queue.name);
                tokio::task::yield_now().await;
            }
        }
        let [input, out] = there;
        let Some(all) = self.done(broker, &made).await? else { return Ok(()) };
        for (what, n) in input.iter().chain(&out) {
            must!(*n == 1, "{what:?} is there {n} times");
        }
        must!(all.iter().collect::<BTreeSet<_>>().len() == all.len(), "something is done twice: {all:?}");
        for what in out.keys() {
            must!(all.contains(what), "{what:?} is in the queue and not in the topic");
            must!(!input.contains_key(what), "{what:?} was taken and is there");
        }
        must!(out.len() == all.len(), "{} are in the queue, {} in the topic", out.len(), all.len());
        for n in &self.sure {
            let what = (TAKER, *n);
            must!(input.contains_key(&what) || out.contains_key(&what), "{what:?} is lost");
        }
        Ok(())
    }
}

/// Whether it happened; false: nobody knows, or there is no broker any more.
fn done(result: Result<millstream_broker::TransactionOutcome, TransactionError>) -> Result<bool, Violation> {
    match result {
        Ok(done) => {
            must!(done.published.iter().all(|o| matches!(o, Ok(o) if o.accepted == 1)), "{done:?}");
            Ok(true)
        }
        Err(TransactionError::Call(CallError::FateUnknown | CallError::Refused(_))) => Ok(false),
        Err(e) => Err(format!("a step: {e}")),
    }
}
