//! Queues that are subscribed to a topic: rules one by one, and random histories with crashes against a naive model.

mod history;

use bytes::Bytes;
use millstream_engine::catalogue::{CatalogueError, Change};
use millstream_engine::op::{AppendItem, AppendKind, BatchMeta, Op, Reply};
use millstream_engine::queue::api::*;
use millstream_engine::queue::policy::*;
use millstream_engine::queue::source::*;
use millstream_types::{LogId, Namespace, ObjectId};

use crate::support::Logged;
use crate::world::*;

const TOPIC: [u8; 16] = [7; 16];

pub fn change_topic(w: &mut World, change: Change) -> Result<(), CatalogueError> {
    match w.ask_any(1, Op::Catalogue(vec![change])) {
        Reply::Catalogue(result) => result.map(drop),
        other => panic!("{other:?}"),
    }
}

fn make_topic(w: &mut World, partitions: u32) {
    let (ns, name, settings) = (Namespace::DEFAULT, "t".to_owned(), Default::default());
    change_topic(w, Change::CreateTopic { ns, name, uuid: TOPIC, partitions, settings }).unwrap();
}

pub fn partition(w: &World, index: usize) -> LogId {
    w.engine.snapshot().by_uuid[&TOPIC].partitions[index].log
}

/// A batch of `n` records; one is a message of its own.
pub fn append(w: &mut World, index: usize, n: u32) {
    let meta = BatchMeta { producer: -1, epoch: -1, first_seq: -1, records: n, flags: 0 };
    let kind = if n == 1 { AppendKind::Single { envelope_len: 0 } } else { AppendKind::Batch(meta) };
    let body = vec![Bytes::from_static(b"batch")];
    let item = AppendItem { part: partition(w, index), kind, count: n, max_ts_ms: -1, body };
    assert!(matches!(w.ask_any(1, Op::Append(vec![item])), Reply::Append(r) if r[0].is_ok()));
}

fn trim(w: &mut World, index: usize, before: u64) {
    let op = Op::Trim { part: partition(w, index), before };
    assert!(matches!(w.ask_any(1, op), Reply::Trim(Ok(_))));
}

pub fn creating(name: &str, start: Start, policy: QueuePolicy) -> QueueChange {
    let source = Some((Source { topic: "t".to_owned(), uuid: TOPIC }, start));
    let (ns, name, settings) = (Namespace::DEFAULT, name.to_owned(), Default::default());
    QueueChange::Create { ns, name, policy, settings, source, transient: false }
}

pub fn try_subscription(
    w: &mut World,
    name: &str,
    start: Start,
    policy: QueuePolicy,
) -> Result<ObjectId, QueueError> {
    match w.ask(1, QueueOp::Change(vec![creating(name, start, policy)])) {
        QueueReply::Changed(result) => result.map(|d| d[0].id),
        other => panic!("{other:?}"),
    }
}

fn subscription(w: &mut World, name: &str, start: Start) -> ObjectId {
    try_subscription(w, name, start, QueuePolicy::default()).unwrap()
}

fn world(partitions: u32) -> World {
    let mut w = World::new(small_windows());
    make_topic(&mut w, partitions);
    w
}

/// Receives and acknowledges all there is, as (partition, offset).
fn drain(w: &mut World, queue: ObjectId) -> Vec<(u16, u64)> {
    let mut all = Vec::new();
    loop {
        w.settle_down();
        let got = w.receive(9, pull(queue, 50));
        if got.is_empty() {
            return all;
        }
        for d in got {
            w.settle(&d, Verb::Ack).unwrap();
            all.push((d.lane, d.pos));
        }
    }
}

fn offsets(range: std::ops::Range<u64>) -> Vec<(u16, u64)> {
    range.map(|o| (0, o)).collect()
}

#[test]
fn records_of_a_batch_are_leased_and_settled_one_by_one() {
    let mut w = world(1);
    let q = subscription(&mut w, "s", Start::Earliest);
    append(&mut w, 0, 5);
    w.settle_down();
    let got = w.receive(2, pull(q, 3));
    assert_eq!(got.iter().map(|d| (d.pos, d.bytes)).collect::<Vec<_>>(), [(0, 3), (1, 4), (2, 5)]);
    w.settle(&got[1], Verb::Ack).unwrap();
    w.settle(&got[0], Verb::Release { failed: true, delay_ms: None }).unwrap();
    assert_eq!(w.counts(q), [3, 1, 0, 0, 0]);
    w.settle_down();
    let again = w.receive(2, pull(q, 9));
    let told: Vec<_> = again.iter().map(|d| (d.pos, d.deliveries, d.attempts)).collect();
    assert_eq!(told, [(0, 2, 1), (3, 1, 0), (4, 1, 0)]);
}

#[test]
fn each_subscription_sees_every_record_from_where_it_begins() {
    let mut w = world(1);
    append(&mut w, 0, 10);
    let all = subscription(&mut w, "all", Start::Earliest);
    let late = subscription(&mut w, "late", Start::Latest);
    let from = subscription(&mut w, "from", Start::At(vec![7]));
    append(&mut w, 0, 2);
    assert_eq!([all, late, from].map(|q| w.counts(q)), [[12, 0, 0, 0, 0], [2, 0, 0, 0, 0], [5, 0, 0, 0, 0]]);
    assert_eq!(drain(&mut w, late), offsets(10..12));
    assert_eq!(drain(&mut w, from), offsets(7..12));
    w.crash(1);
    assert_eq!([all, late, from].map(|q| w.counts(q)[0]), [12, 0, 0]);
    assert_eq!(drain(&mut w, all), offsets(0..12));
}

#[test]
fn nothing_is_delivered_before_its_append_is_durable() {
    let mut w = world(1);
    append(&mut w, 0, 2);
    let q = subscription(&mut w, "s", Start::Earliest);
    w.subscribe(2, 1, q, PUSH);
    w.tick();
    assert_eq!(w.got(), []);
    w.sync();
    append(&mut w, 0, 1);
    w.tick();
    assert_eq!(w.got().len(), 2);
    w.settle_down();
    assert_eq!(w.got().len(), 1);
}

#[test]
fn what_a_filter_leaves_out_is_settled_in_runs_and_not_read_again() {
    let mut w = world(1);
    w.filter = |_, _, offset| match offset % 1_000 {
        500 => Passes::Yes,
        501 => Passes::Unreadable,
        _ => Passes::No,
    };
    let q = subscription(&mut w, "s", Start::Earliest);
    for _ in 0..12 {
        append(&mut w, 0, 1_000);
    }
    w.settle_down();
    let before = w.log.records.len();
    assert_eq!(drain(&mut w, q).len(), 12);
    w.later(2_000);
    w.settle_down();
    assert_eq!(w.counts(q), [0; 5]);
    let topic = TopicCounts { lost: 0, skipped: 12_000 - 24, unreadable: 12 };
    assert_eq!(w.stats(q).topic, topic);
    let effects = w.log.records[before..].iter().flatten().count();
    assert!(effects < 120, "{effects} operations");
    w.crash(1);
    w.entries_read = 0;
    w.settle_down();
    assert_eq!((w.entries_read, w.stats(q).topic, w.counts(q)), (0, topic, [0; 5]));
}

#[test]
fn retention_that_passes_what_is_not_settled_is_counted_wherever_it_was() {
    let mut w = world(1);
    let policy = QueuePolicy { attempts_max: Some(1), dead_letter: true, ..QueuePolicy::default() };
    let q = try_subscription(&mut w, "s", Start::Earliest, policy).unwrap();
    let other = subscription(&mut w, "o", Start::Earliest);
    append(&mut w, 0, 100);
    w.settle_down();
    let got = w.receive(2, pull(q, 5));
    w.settle(&got[0], Verb::Ack).unwrap();
    w.settle(&got[1], Verb::Release { failed: false, delay_ms: Some(60_000) }).unwrap();
    w.settle(&got[2], Verb::Reject).unwrap();
    w.settle_down();
    assert_eq!((w.counts(q), w.moves.len()), ([95, 2, 1, 1, 0], 1));
    let records = w.log.records.len();
    trim(&mut w, 0, 50);
    assert_eq!(w.log.records.len(), records + 1, "one record");
    assert_eq!((w.counts(q), w.stats(q).topic.lost), ([50, 0, 0, 0, 0], 49));
    assert_eq!((w.counts(other), w.stats(other).topic.lost), ([50, 0, 0, 0, 0], 50));
    assert_eq!(w.settle(&got[3], Verb::Ack), Err(SettleError::Unknown));
    let MoveWork { queue, lane, pos, delivery_no, cause, .. } = w.moves[0];
    let item = MoveItem { queue, lane, pos, delivery_no, then: MoveThen::Drop(cause) };
    assert_eq!(w.ask(1, QueueOp::Move(vec![item])), QueueReply::Moved(vec![Err(MoveError::NotHeld)]));
    w.settle_down();
    w.crash(1);
    assert_eq!((w.counts(q), w.stats(q).topic.lost), ([50, 0, 0, 0, 0], 49));
    assert_eq!(drain(&mut w, q), offsets(50..100));
}

#[test]
fn the_topics_log_is_left_alone() {
    let mut w = world(1);
    let q = subscription(&mut w, "s", Start::Earliest);
    append(&mut w, 0, 9_000);
    assert_eq!(drain(&mut w, q).len(), 9_000);
    append(&mut w, 0, 50);
    w.ask(1, QueueOp::Purge { queue: q, keep_leased: false });
    w.later(3_000);
    w.settle_down();
    let told =
        |op: &Logged| matches!(op, Logged::Trim { .. } | Logged::Retire { .. } | Logged::Delete { .. });
    assert_eq!(w.log.records.iter().flatten().filter(|op| told(op)).count(), 0);
    w.flush();
    let chunks = w.store.keys().filter(|k| k[0] == millstream_engine::rows::family::CHUNK).count();
    assert!(chunks <= 1, "{chunks} rows of chunks are left");
}

#[test]
fn partitions_that_come_later_join_and_take_turns() {
    let mut w = world(1);
    let q = subscription(&mut w, "s", Start::Latest);
    change_topic(&mut w, Change::AddPartitions { uuid: TOPIC, total: 3 }).unwrap();
    for index in [0, 1, 2] {
        append(&mut w, index, 2);
    }
    w.settle_down();
    let turns = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)];
    assert_eq!(drain(&mut w, q), turns);
    w.crash(1);
    append(&mut w, 2, 1);
    assert_eq!(drain(&mut w, q), [(2, 2)]);
}

#[test]
fn a_subscription_goes_with_its_topic() {
    let mut w = world(2);
    let q = subscription(&mut w, "s", Start::Earliest);
    append(&mut w, 0, 3);
    w.settle_down();
    let ticket = w.submit(3, QueueOp::Receive(Receive { wait_ms: 500, ..pull(q, 1) }));
    w.settle_down();
    assert!(w.received(ticket).is_some());
    let records = w.log.records.len();
    change_topic(&mut w, Change::DeleteTopic { uuid: TOPIC }).unwrap();
    assert_eq!(w.log.records.len(), records + 1, "one record");
    let gone = |w: &mut World| {
        let stats = w.ask(1, QueueOp::Stats { queue: q, touch: false, durable: false });
        assert_eq!(stats, QueueReply::Stats(None));
        assert!(w.engine.queues().by_name(Namespace::DEFAULT, "s").is_none());
    };
    gone(&mut w);
    w.settle_down();
    w.crash(1);
    gone(&mut w);
}

#[test]
fn nothing_is_published_or_bound_to_a_subscription() {
    use millstream_engine::exchange::*;
    let mut w = world(1);
    let q = subscription(&mut w, "s", Start::Earliest);
    let published = w.publish(message(&[q]));
    assert_eq!((published.accepted, published.refused), (0, vec![(q, Refusal::Subscription)]));
    let binding = BindingDef {
        ns: Namespace::DEFAULT,
        source: "amq.fanout".to_owned(),
        target: millstream_engine::exchange::Target { kind: TargetKind::Queue, name: "s".to_owned() },
        key: String::new(),
        arguments: Vec::new(),
    };
    let reply = w.ask_any(1, Op::Routing(vec![ExchangeChange::Bind(binding)]));
    let refused = RoutingError::Subscription { name: "s".to_owned() };
    assert!(matches!(reply, Reply::Routing(Err(e)) if e == refused));
}

#[test]
fn a_policy_that_asks_for_another_order_or_a_limit_is_refused() {
    let mut w = world(1);
    let d = QueuePolicy::default;
    let refused = [
        (QueuePolicy { ordering: Ordering::ByKey, ..d() }, "ordering"),
        (QueuePolicy { priority_max: 1, ..d() }, "priority_max"),
        (QueuePolicy { messages_max: Some(1), ..d() }, "messages_max"),
        (QueuePolicy { bytes_max: Some(1), ..d() }, "bytes_max"),
        (QueuePolicy { overflow: Overflow::Reject, ..d() }, "overflow"),
        (QueuePolicy { delay_ms: 1, ..d() }, "delay_ms"),
        (QueuePolicy { id_window_ms: Some(1), ..d() }, "id_window_ms"),
    ];
    let id = subscription(&mut w, "s", Start::Earliest);
    for (policy, what) in refused {
        let made = try_subscription(&mut w, "x", Start::Earliest, policy.clone());
        assert_eq!(made, Err(QueueError::Policy { what }));
        let alter = QueueChange::Alter { id, expect: 1, policy, settings: Default::default() };
        let reply = w.ask(1, QueueOp::Change(vec![alter]));
        assert_eq!(reply, QueueReply::Changed(Err(QueueError::Policy { what })));
    }
    let nowhere = (Source { topic: "u".to_owned(), uuid: TOPIC }, Start::Earliest);
    let (ns, name, settings) = (Namespace::DEFAULT, "x".to_owned(), Default::default());
    let change =
        QueueChange::Create { ns, name, policy: d(), settings, source: Some(nowhere), transient: false };
    let reply = w.ask(1, QueueOp::Change(vec![change]));
    assert_eq!(reply, QueueReply::Changed(Err(QueueError::NoTopic)));
}

#[test]
fn a_topic_has_so_many_subscriptions_and_these_so_many_partitions() {
    let mut w = world(1);
    for n in 0..SUBSCRIPTIONS_MAX {
        subscription(&mut w, &format!("s{n}"), Start::Earliest);
    }
    let made = try_subscription(&mut w, "x", Start::Earliest, QueuePolicy::default());
    assert_eq!(made, Err(QueueError::Subscriptions));
    let total = SUBSCRIBED_PARTITIONS_MAX as u32 + 1;
    let grown = change_topic(&mut w, Change::AddPartitions { uuid: TOPIC, total });
    assert_eq!(grown, Err(CatalogueError::Subscribed));
}

#[test]
fn a_long_topic_takes_no_more_memory_than_its_windows() {
    let mut w = world(1);
    for _ in 0..100 {
        append(&mut w, 0, 10_000);
    }
    let q = subscription(&mut w, "s", Start::Earliest);
    w.settle_down();
    assert_eq!(w.counts(q)[0], 1_000_000);
    assert!(w.entries_read <= 16, "{} records read ahead", w.entries_read);
}
