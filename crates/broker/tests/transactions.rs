//! Transactions and tasks through the broker's API, over a log in memory: all of it or nothing, one record, across topics and queues.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use bytes::Bytes;
use millstream_broker::group::{Commit, CommittedOffset, GroupError, GroupOp, GroupReply, Who};
use millstream_broker::queue::api::{SettleError, Verb};
use millstream_broker::queue::policy::{Overflow, QueuePolicy};
use millstream_broker::task::{CursorStep, Task, TaskConflict, TaskError, TaskKind, TaskState, TaskStep};
use millstream_broker::{
    Binding, NewMessage, NewQueue, NewTask, NotPublished, PublishRefusal, Session, TRANSACT_OPS_MAX, Target,
    TargetKind, TaskAlter, TaskCallError, TaskQuery, TransactError, Transaction, TransactionError, property,
    settle_item,
};
use millstream_types::{LogId, Namespace, ObjectId, ObjectKind};
use support::{Place, close, get, queue, ready, session, text, topic};

fn commit(group: &str, part: LogId, offset: u64) -> Commit {
    let (ns, group) = (Namespace::DEFAULT, group.to_owned());
    let who = Who { ns, group, generation: -1, member: String::new(), instance: None };
    let offset = CommittedOffset { offset, leader_epoch: -1, metadata: String::new() };
    Commit { who, offsets: vec![(part, offset)] }
}

async fn committed(s: &Session, group: &str, part: LogId) -> Option<u64> {
    let op =
        GroupOp::FetchOffsets { ns: Namespace::DEFAULT, group: group.to_owned(), parts: Some(vec![part]) };
    match s.group(op).await.unwrap() {
        GroupReply::Offsets(all) => all[0].1.as_ref().map(|c| c.offset),
        other => panic!("{other:?}"),
    }
}

fn refused(item: usize, why: NotPublished) -> TransactionError {
    TransactionError::Publish { item, why }
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_settling_and_committing_offsets_is_one_record_or_nothing() {
    let place = Place::new(1);
    let broker = place.open();
    let s = session(&broker);
    let (a, b, t) = (queue(&s, "a").await, queue(&s, "b").await, topic(&s, "t", 1).await);
    let part = t.partitions[0].log;
    s.publish(vec![text("a", "x"), text("a", "y")]).await.unwrap().await.unwrap();
    let got = get(&s, &a).await;
    let before = broker.marks().sequenced;
    let tx = Transaction {
        publish: vec![text("b", "1"), text("t", "2")],
        settle: vec![settle_item(&got[0], Verb::Ack)],
        commit_offsets: vec![commit("g", part, 7)],
        ..Transaction::default()
    };
    let done = s.transaction(&tx).await.unwrap();
    assert!(done.published.iter().all(|o| o.as_ref().unwrap().accepted == 1));
    assert_eq!(broker.marks().sequenced.0, before.0 + 1);
    assert_eq!((ready(&s, &b).await, t.partitions[0].visible_end()), (1, 1));
    assert_eq!(committed(&s, "g", part).await, Some(7));
    // The lease is not there any more: nothing of it happens.
    let again = s.transaction(&tx).await;
    let unknown = TransactError::Settle { index: 0, error: SettleError::Unknown };
    assert_eq!(again, Err(TransactionError::Conflict(unknown)));
    // An offset of a partition that is not there: the lease stays.
    let none = LogId::new(ObjectId::new(ObjectKind::Partition, 9_999), 0);
    let tx = Transaction {
        settle: vec![settle_item(&got[1], Verb::Ack)],
        commit_offsets: vec![commit("h", part, 1), commit("h", none, 1)],
        ..Transaction::default()
    };
    let error = TransactError::Commit { index: 1, error: GroupError::NoPartition };
    assert_eq!(s.transaction(&tx).await, Err(TransactionError::Conflict(error)));
    assert_eq!((committed(&s, "h", part).await, ready(&s, &b).await), (None, 1));
    drop(s);
    close(broker).await;
    let broker = place.open();
    let s = session(&broker);
    assert_eq!(committed(&s, "g", part).await, Some(7));
    assert_eq!((ready(&s, &a).await, ready(&s, &b).await), (1, 1));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_begins_with_a_transaction_goes_on_like_any_other() {
    let place = Place::new(2);
    let broker = place.open();
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    let part = t.partitions[0].log;
    // Two commits of one new group, and one of another.
    let commit_offsets = vec![commit("g", part, 1), commit("g", part, 2), commit("h", part, 3)];
    s.transaction(&Transaction { commit_offsets, ..Transaction::default() }).await.unwrap();
    assert!(matches!(
        s.group(GroupOp::Commit(commit("g", part, 4))).await.unwrap(),
        GroupReply::Commit(Ok(all)) if all == [Ok(())]
    ));
    assert_eq!((committed(&s, "g", part).await, committed(&s, "h", part).await), (Some(4), Some(3)));
    close(broker).await;
    let broker = place.open();
    let s = session(&broker);
    assert_eq!((committed(&s, "g", part).await, committed(&s, "h", part).await), (Some(4), Some(3)));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_keeps_a_transaction_from_happening_unless_refusals_stand() {
    let place = Place::new(3);
    let broker = place.open();
    let s = session(&broker);
    let mut small = NewQueue::named("small");
    small.policy =
        QueuePolicy { messages_max: Some(2), overflow: Overflow::Reject, ..QueuePolicy::default() };
    let small = s.declare_queue(small).await.unwrap().def;
    let b = queue(&s, "b").await;
    let mut tx = Transaction {
        publish: vec![text("b", "0"), text("small", "1"), text("small", "2"), text("small", "3")],
        ..Transaction::default()
    };
    let full = NotPublished::Refused("small".to_owned(), PublishRefusal::Full);
    assert_eq!(s.transaction(&tx).await, Err(refused(3, full)));
    assert_eq!((ready(&s, &b).await, ready(&s, &small).await), (0, 0));
    tx.refusals_stand = true;
    let done = s.transaction(&tx).await.unwrap().published;
    assert_eq!(done[3].as_ref().unwrap().refused, [("small".to_owned(), PublishRefusal::Full)]);
    assert_eq!((ready(&s, &b).await, ready(&s, &small).await), (1, 2));
    // Neither may a message go nowhere, or to an exchange that is not there.
    tx.refusals_stand = false;
    tx.publish = vec![text("b", "4"), text("nowhere", "5")];
    assert_eq!(s.transaction(&tx).await, Err(refused(1, NotPublished::Unrouted)));
    // Unless that stands: a full queue still keeps all of it from happening.
    tx.unrouted_stand = true;
    let done = s.transaction(&tx).await.unwrap().published;
    assert_eq!((done[0].as_ref().unwrap().routed, done[1].as_ref().unwrap().routed), (true, false));
    tx.publish = vec![text("nowhere", "6"), text("b", "7"), text("small", "8")];
    let full = NotPublished::Refused("small".to_owned(), PublishRefusal::Full);
    assert_eq!(s.transaction(&tx).await, Err(refused(2, full)));
    tx.publish = vec![text("b", "9"), text("nowhere", "10")];
    tx.publish[1].message.exchange = "none".to_owned();
    let error = s.transaction(&tx).await;
    assert!(matches!(error, Err(TransactionError::Publish { item: 1, why: NotPublished::Error(_) })));
    assert_eq!(ready(&s, &b).await, 2);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_bounded() {
    let place = Place::new(4);
    let broker = place.open();
    let s = session(&broker);
    queue(&s, "q").await;
    let tx = Transaction { publish: vec![text("q", "m"); TRANSACT_OPS_MAX + 1], ..Transaction::default() };
    assert!(matches!(s.transaction(&tx).await, Err(TransactionError::TooLarge { ops: 10_001, .. })));
    let mut large = text("q", "");
    large.message.payload = Some(Bytes::from(vec![7; 9 << 20]));
    let tx = Transaction { publish: vec![large.clone(), large], ..Transaction::default() };
    assert!(matches!(s.transaction(&tx).await, Err(TransactionError::TooLarge { ops: 2, .. })));
    let tx = Transaction { publish: vec![text("q", "m"); TRANSACT_OPS_MAX], ..Transaction::default() };
    assert_eq!(s.transaction(&tx).await.unwrap().published.len(), TRANSACT_OPS_MAX);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_to_queues_and_topics_at_once_is_one_record() {
    let place = Place::new(5);
    let broker = place.open();
    let s = session(&broker);
    let (q, t) = (queue(&s, "q").await, topic(&s, "t", 1).await);
    for (kind, name) in [(TargetKind::Queue, "q"), (TargetKind::Topic, "t")] {
        let target = Target { kind, name: name.to_owned() };
        let source = "amq.fanout".to_owned();
        s.bind(&Binding { source, target, key: String::new(), arguments: Vec::new() }).await.unwrap();
    }
    let before = broker.marks().sequenced;
    let mut both = text("", "m");
    both.message.exchange = "amq.fanout".to_owned();
    let done = s.publish(vec![both.clone(), both]).await.unwrap().await.unwrap();
    assert!(done.iter().all(|o| o.as_ref().unwrap().accepted == 2));
    assert_eq!(broker.marks().sequenced.0, before.0 + 1);
    assert_eq!((ready(&s, &q).await, t.partitions[0].visible_end()), (2, 2));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_id_came_before_is_taken_once() {
    let place = Place::new(8);
    let broker = place.open();
    let s = session(&broker);
    let mut new = NewQueue::named("q");
    new.policy.id_window_ms = Some(300_000);
    let q = s.declare_queue(new).await.unwrap().def;
    let with_id = |id| NewMessage { dedup: Some(id), ..text("q", "m") };
    let done = s.publish(vec![with_id(1), with_id(2), with_id(1)]).await.unwrap().await.unwrap();
    let done: Vec<_> = done.into_iter().map(|o| o.map(|o| (o.accepted, o.duplicate)).unwrap()).collect();
    assert_eq!(done, [(1, false), (1, false), (1, true)]);
    drop(s);
    close(broker).await;
    let broker = place.open();
    let s = session(&broker);
    let tx = Transaction { publish: vec![with_id(2), with_id(3)], ..Transaction::default() };
    let done = s.transaction(&tx).await.unwrap().published;
    let done: Vec<_> = done.into_iter().map(|o| o.map(|o| (o.accepted, o.duplicate)).unwrap()).collect();
    assert_eq!((done, ready(&s, &q).await), (vec![(1, true), (1, false)], 3));
    assert_eq!(broker.ids_remembered(), 3);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deduplication_id_is_known_again_however_it_comes() {
    let place = Place::new(9);
    let broker = place.open();
    let s = session(&broker);
    let mut new = NewQueue::named("q");
    new.policy.id_window_ms = Some(300_000);
    let q = s.declare_queue(new).await.unwrap().def;
    queue(&s, "plain").await;
    let with_id = |queue: &str, id: &'static str| {
        let mut new = text(queue, "m");
        new.message.properties.push((property::DEDUPLICATION_ID, Bytes::from_static(id.as_bytes())));
        new
    };
    let messages = vec![with_id("q", "a"), with_id("plain", "b"), with_id("plain", "b"), with_id("q", "b")];
    let done = s.publish(messages).await.unwrap().await.unwrap();
    assert!(done.iter().all(|o| !o.as_ref().unwrap().duplicate));
    // To a queue by its definition, as SQS sends.
    let sent = s.send(&q, vec![with_id("q", "a"), with_id("q", "c")]).await.unwrap();
    assert_eq!(sent.iter().map(|s| s.as_ref().unwrap().duplicate).collect::<Vec<_>>(), [true, false]);
    drop(s);
    close(broker).await;
    // Nor does a start change what an id's hash is; a hash that is given goes before the id.
    let broker = place.open();
    let s = session(&broker);
    let own = NewMessage { dedup: Some(1), ..with_id("q", "a") };
    let tx = Transaction { publish: vec![with_id("q", "c"), own], ..Transaction::default() };
    let done = s.transaction(&tx).await.unwrap().published;
    assert_eq!(done.iter().map(|o| o.as_ref().unwrap().duplicate).collect::<Vec<_>>(), [true, false]);
    assert_eq!(ready(&s, &q).await, 4);
    close(broker).await;
}

const KIND: TaskKind = TaskKind(9);

fn new_task(name: &str) -> NewTask {
    NewTask {
        kind: KIND,
        name: name.to_owned(),
        definition: Bytes::from_static(b"what"),
        cursors: vec![(3, 10)],
        state: TaskState::Running,
    }
}

fn step(task: &Task, slot: u64, from: u64, to: u64) -> Option<TaskStep> {
    let cursors = vec![CursorStep { slot, from, to }];
    Some(TaskStep {
        task: task.id,
        version: task.row.version,
        cursors,
        add: [to - from, 0, 0, 0, 0, 0, 0, 0],
        then: None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_steps_of_a_task_from_one_place_one_counts() {
    let place = Place::new(6);
    let broker = place.open();
    let (s, twin) = (session(&broker), session(&broker));
    let q = queue(&s, "q").await;
    let task = s.create_task(new_task("t")).await.unwrap();
    let tx = |from, to| Transaction {
        publish: vec![text("q", "m")],
        task: step(&task, 3, from, to),
        ..Transaction::default()
    };
    let conflict = |c| Err(TransactionError::Conflict(TransactError::Task(c)));
    s.transaction(&tx(10, 12)).await.unwrap();
    assert_eq!(twin.transaction(&tx(10, 12)).await, conflict(TaskConflict::Cursor { slot: 3, at: 12 }));
    twin.transaction(&tx(12, 13)).await.unwrap();
    assert_eq!(ready(&s, &q).await, 2);
    drop((s, twin));
    close(broker).await;
    let broker = place.open();
    let s = session(&broker);
    let found = s.tasks(&TaskQuery::default()).await.unwrap();
    assert_eq!((found[0].row.cursor(3), found[0].row.counters[0], found[0].id), (13, 3, task.id));
    // A task that was changed, rests, or is gone takes no step.
    let to = TaskAlter { state: Some((TaskState::Paused, "asked".to_owned())), ..TaskAlter::default() };
    let paused = s.alter_task(&found[0], to.clone()).await.unwrap();
    assert_eq!((paused.row.version, paused.row.cursor(3)), (2, 13));
    assert_eq!(s.alter_task(&found[0], to).await, Err(TaskError::Version { current: 2 }.into()));
    assert_eq!(s.transaction(&tx(13, 14)).await, conflict(TaskConflict::Version { current: 2 }));
    let late = Transaction { task: step(&paused, 3, 13, 14), ..Transaction::default() };
    assert_eq!(s.transaction(&late).await, conflict(TaskConflict::NotRunning));
    assert_eq!(s.delete_task(task.id).await.unwrap(), paused);
    assert_eq!(s.transaction(&late).await, conflict(TaskConflict::Gone));
    assert_eq!((s.tasks(&TaskQuery::default()).await.unwrap(), ready(&s, &q).await), (Vec::new(), 2));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_found_by_name_which_is_unique_within_their_kind() {
    let place = Place::new(7);
    let broker = place.open();
    let s = session(&broker);
    let a = s.create_task(new_task("a")).await.unwrap();
    assert_eq!(s.create_task(new_task("a")).await, Err(TaskError::Exists { id: a.id }.into()));
    let other = s.create_task(NewTask { kind: TaskKind(1), ..new_task("a") }).await.unwrap();
    assert_eq!(s.create_task(new_task("")).await, Err(TaskCallError::Task(TaskError::InvalidName)));
    let definition = Bytes::from(vec![0; (64 << 10) + 1]);
    let large = s.create_task(NewTask { definition, ..new_task("b") }).await;
    assert!(matches!(large, Err(TaskCallError::Task(TaskError::TooLarge { .. }))));
    let which = TaskQuery { kind: Some(KIND), name: Some("a".to_owned()), ..TaskQuery::default() };
    let found = s.tasks(&which).await.unwrap();
    assert_eq!((found.len(), &found[0]), (1, &a));
    assert_eq!(s.tasks(&TaskQuery::default()).await.unwrap(), [a, other]);
    close(broker).await;
}
