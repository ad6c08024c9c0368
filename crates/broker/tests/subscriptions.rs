//! Queues that are subscribed to a topic, through the broker's API: records out of batches as Kafka's producers pack them, compressed too, are
//! handed out one by one, filtered, settled, given back, dead-lettered; and the topic keeps them.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use millstream_broker::queue::api::{
    ConsumerId, ConsumerOpts, Delivery, LEASES_MAX, LeaseKind, QueueDef, QueueError, Receive, Verb,
};
use millstream_broker::queue::policy::QueuePolicy;
use millstream_broker::{
    AppendItem, AppendKind, BatchMeta, Begin, Broker, BrokerConfig, DeadLetter, Header, HeaderValue, Message,
    NewMessage, NewQueue, NewTopic, Principal, PublishError, QueueCallError, QueueMessage, RouteError,
    Session, SessionOptions, Subscription, SubscriptionError, Topic, settle_item,
};
use millstream_env::Env;
use millstream_log::mem::{Commit, MemLog};
use millstream_types::Namespace;

fn new_broker(seed: u64) -> (Env, MemLog, Broker) {
    let (env, ..) = Env::sim(seed);
    let log = MemLog::new(Commit::AtOnce);
    let broker = Broker::open(BrokerConfig::default(), env.clone(), &log).unwrap();
    (env, log, broker)
}

fn session(b: &Broker) -> Session {
    b.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default())
}

async fn close(broker: Broker) {
    tokio::task::spawn_blocking(move || broker.close()).await.unwrap();
}

async fn topic(s: &Session, name: &str, partitions: u32) -> Arc<Topic> {
    let new = NewTopic { name: name.to_owned(), partitions: Some(partitions), ..NewTopic::default() };
    s.create_topic(new).await.unwrap()
}

fn to_topic(name: &str, from: Begin, filter: Option<&str>) -> NewQueue {
    let filter = filter.map(str::to_owned);
    let subscription = Some(Subscription { topic: "t".to_owned(), from, filter });
    NewQueue { subscription, ..NewQueue::named(name) }
}

async fn subscribed(s: &Session, new: NewQueue) -> Arc<QueueDef> {
    s.declare_queue(new).await.unwrap().def
}

fn put(out: &mut BytesMut, n: i64) {
    let mut v = ((n << 1) ^ (n >> 63)) as u64;
    while v >= 0x80 {
        out.put_u8(v as u8 | 0x80);
        v >>= 7;
    }
    out.put_u8(v as u8);
}

/// Records as a producer packs them, with timestamps 1000, 1001, ..., and a header.
fn batch(values: &[String], gzip: bool) -> Bytes {
    let mut records = BytesMut::new();
    for (i, value) in values.iter().enumerate() {
        let mut r = BytesMut::new();
        r.put_u8(0);
        put(&mut r, i as i64);
        put(&mut r, i as i64);
        put(&mut r, 1);
        r.put_slice(b"k");
        put(&mut r, value.len() as i64);
        r.put_slice(value.as_bytes());
        put(&mut r, 1);
        put(&mut r, 1);
        r.put_slice(b"h");
        put(&mut r, 1);
        r.put_slice(b"x");
        put(&mut records, r.len() as i64);
        records.put_slice(&r);
    }
    if gzip {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(&records).unwrap();
        records = BytesMut::from(&out.finish().unwrap()[..]);
    }
    let n = values.len() as i32;
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(records.len() as i32 + 49);
    out.put_i32(-1);
    out.put_u8(2);
    out.put_u32(0);
    out.put_u16(u16::from(gzip));
    out.put_i32(n - 1);
    out.put_i64(1_000);
    out.put_i64(1_000 + i64::from(n) - 1);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(n);
    out.put_slice(&records);
    out.freeze()
}

async fn append(s: &Session, topic: &Topic, partition: usize, body: Bytes, n: u32) {
    let meta = BatchMeta { producer: -1, epoch: -1, first_seq: -1, records: n, flags: 0 };
    let (part, kind) = (topic.partitions[partition].log, AppendKind::Batch(meta));
    let item = AppendItem { part, kind, count: n, max_ts_ms: 1_000, body: vec![body] };
    s.append(vec![item]).await.unwrap().remove(0).unwrap();
}

fn values(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("{{\"n\": {n}}}")).collect()
}

async fn take(s: &Session, of: &QueueDef, n: u32) -> Vec<Delivery> {
    let what = Receive {
        queue: of.id,
        max: n,
        bytes_max: u64::MAX,
        wait_ms: 0,
        lease: LeaseKind::Bound,
        ride: false,
        auto_ack: false,
        leases_max: LEASES_MAX,
    };
    s.receive(what).unwrap().await.unwrap().unwrap()
}

async fn settle(s: &Session, of: &[Delivery], verb: Verb) {
    let items = of.iter().map(|d| settle_item(d, verb)).collect();
    assert_eq!(s.settle(items).await.unwrap().await.unwrap(), []);
}

async fn read(b: &Broker, of: &[Delivery]) -> Vec<QueueMessage> {
    b.read_bodies(of).await.into_iter().map(Result::unwrap).collect()
}

fn payloads(all: &[QueueMessage]) -> Vec<String> {
    all.iter().map(|m| String::from_utf8(m.message.payload.clone().unwrap().to_vec()).unwrap()).collect()
}

/// All that is in a queue now, acknowledged.
async fn drain(s: &Session, of: &QueueDef) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let got = take(s, of, 100).await;
        if got.is_empty() {
            return all;
        }
        all.extend(payloads(&read(s.broker(), &got).await));
        settle(s, &got, Verb::Ack).await;
    }
}

fn text(key: &str, payload: &str) -> NewMessage {
    let payload = Some(Bytes::copy_from_slice(payload.as_bytes()));
    let message = Message { routing_key: key.to_owned(), payload, ..Message::default() };
    NewMessage { message, ..NewMessage::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_compressed_batch_are_settled_one_by_one_and_keep_key_headers_and_time() {
    let (env, log, broker) = new_broker(1);
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    let q = subscribed(&s, to_topic("q", Begin::Earliest, None)).await;
    append(&s, &t, 0, batch(&values(0..300), true), 300).await;
    let got = take(&s, &q, 3).await;
    let read_back = read(&broker, &got).await;
    assert_eq!(payloads(&read_back), values(0..3));
    let second = &read_back[1];
    assert_eq!(second.message.key.as_deref(), Some(&b"k"[..]));
    let header = Header { name: "h".to_owned(), value: HeaderValue::Str("x".to_owned()) };
    assert_eq!((&second.message.headers, &second.message.routing_key), (&vec![header], &"t".to_owned()));
    let ts = second.message.properties.iter().find(|p| p.0 == millstream_broker::property::TIMESTAMP_MS);
    assert_eq!(i64::from_le_bytes(ts.unwrap().1.as_ref().try_into().unwrap()), 1_001);
    assert_eq!(second.home(&got[1]), (t.partitions[0].log, 1));
    settle(&s, &got[1..2], Verb::Ack).await;
    settle(&s, &got[..1], Verb::Release { failed: true, delay_ms: None }).await;
    drop(s);
    close(broker).await;

    let broker = Broker::open(BrokerConfig::default(), env, &log).unwrap();
    let s = session(&broker);
    let q = broker.queue(Namespace::DEFAULT, "q").unwrap();
    let first = take(&s, &q, 2).await;
    assert_eq!(payloads(&read(&broker, &first).await), [values(0..1), values(2..3)].concat());
    assert_eq!(first.iter().map(|d| (d.deliveries, d.attempts)).collect::<Vec<_>>(), [(2, 1), (2, 1)]);
    settle(&s, &first, Verb::Ack).await;
    assert_eq!(drain(&s, &q).await, values(3..300));
    let part = &t.partitions[0];
    assert_eq!((part.start(), part.visible_end()), (0, 300), "the topic keeps its records");
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_hands_out_what_matches_and_counts_the_rest() {
    let (_, _, broker) = new_broker(2);
    let s = session(&broker);
    let t = topic(&s, "t", 2).await;
    let filter = r#"{"body": {"n": [{"numeric": [">=", 90]}]}}"#;
    let q = subscribed(&s, to_topic("q", Begin::Earliest, Some(filter))).await;
    for (partition, gzip) in [(0, true), (1, false)] {
        append(&s, &t, partition, batch(&values(0..100), gzip), 100).await;
    }
    append(&s, &t, 0, Bytes::from_static(b"no batch"), 4).await;
    let mut got = drain(&s, &q).await;
    got.sort();
    let mut wanted = [values(90..100), values(90..100)].concat();
    wanted.sort();
    assert_eq!(got, wanted);
    // The clock stands: what was passed over is recorded when there is much of it, or with what goes.
    assert_eq!(s.queue_stats(q.id, false).await.unwrap().unwrap().ready.n, 0);
    s.trim(t.partitions[0].log, 104).await.unwrap().unwrap();
    s.trim(t.partitions[1].log, 100).await.unwrap().unwrap();
    let stats = s.queue_stats(q.id, false).await.unwrap().unwrap().topic;
    assert_eq!((stats.skipped, stats.unreadable, stats.lost), (180, 4, 0));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_begins_is_an_offset_a_time_or_the_end() {
    let (_, _, broker) = new_broker(3);
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    append(&s, &t, 0, batch(&values(0..10), false), 10).await;
    let at = subscribed(&s, to_topic("at", Begin::Offset(7), None)).await;
    let late = subscribed(&s, to_topic("late", Begin::Latest, None)).await;
    let never = subscribed(&s, to_topic("never", Begin::TimeMs(5_000), None)).await;
    let old = subscribed(&s, to_topic("old", Begin::TimeMs(900), None)).await;
    append(&s, &t, 0, batch(&values(10..12), false), 2).await;
    assert_eq!(drain(&s, &at).await, values(7..12));
    assert_eq!(drain(&s, &late).await, values(10..12));
    assert_eq!(drain(&s, &never).await, values(10..12));
    assert_eq!(drain(&s, &old).await, values(0..12));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exhausted_goes_to_the_dead_letter_queue_and_stays_in_the_topic() {
    let (_, _, broker) = new_broker(4);
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    let dead = s.declare_queue(NewQueue::named("dead")).await.unwrap().def;
    let policy = QueuePolicy { attempts_max: Some(2), ..QueuePolicy::default() };
    let to = Some(DeadLetter { routing_key: Some("dead".to_owned()), ..DeadLetter::default() });
    let new = NewQueue { policy, dead_letter: to, ..to_topic("q", Begin::Earliest, None) };
    let q = subscribed(&s, new).await;
    // By another protocol: an entry of its own.
    s.publish(vec![text("t", "poison")]).await.unwrap().await.unwrap().remove(0).unwrap();
    for _ in 0..2 {
        let got = take(&s, &q, 1).await;
        assert_eq!(payloads(&read(&broker, &got).await), ["poison"]);
        settle(&s, &got, Verb::Release { failed: true, delay_ms: None }).await;
    }
    let moved = async {
        loop {
            let got = take(&s, &dead, 1).await;
            if !got.is_empty() {
                return got;
            }
            tokio::task::yield_now().await;
        }
    };
    let got = tokio::time::timeout(Duration::from_secs(30), moved).await.expect("a dead letter");
    let letter = read(&broker, &got).await.remove(0);
    assert_eq!(letter.message.deaths[0].queue, "q");
    assert_eq!(letter.home(&got[0]), (t.partitions[0].log, 0), "it is the same message");
    assert_eq!(take(&s, &q, 1).await, []);
    assert_eq!((t.partitions[0].start(), t.partitions[0].visible_end()), (0, 1));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_published_to_it_and_what_it_cannot_be_is_refused() {
    let (_, _, broker) = new_broker(5);
    let s = session(&broker);
    let none = s.declare_queue(to_topic("q", Begin::Earliest, None)).await.unwrap_err();
    assert_eq!(none, QueueCallError::Subscription(SubscriptionError::NoTopic("t".to_owned())));
    topic(&s, "t", 1).await;
    let wrong = s.declare_queue(to_topic("q", Begin::Earliest, Some(r#"{"body": 5}"#))).await.unwrap_err();
    assert!(matches!(wrong, QueueCallError::Subscription(SubscriptionError::Filter(_))), "{wrong:?}");
    let policy = QueuePolicy { priority_max: 3, ..QueuePolicy::default() };
    let priorities = NewQueue { policy, ..to_topic("q", Begin::Earliest, None) };
    let refused = s.declare_queue(priorities).await.unwrap_err();
    assert_eq!(refused, QueueCallError::Queue(QueueError::Policy { what: "priority_max" }));
    subscribed(&s, to_topic("q", Begin::Earliest, None)).await;
    let again = s.declare_queue(to_topic("q", Begin::Earliest, None)).await.unwrap();
    assert!(!again.made);
    let differs = s.declare_queue(to_topic("q", Begin::Latest, None)).await.unwrap_err();
    assert_eq!(differs, QueueCallError::Differs { what: "subscription" });
    let outcome = s.publish(vec![text("q", "x")]).await.unwrap().await.unwrap().remove(0);
    let refused = RouteError::Subscription { name: "q".to_owned() };
    assert_eq!(outcome, Err(PublishError::Route(refused)));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_told_when_it_goes_with_its_topic() {
    let (_, _, broker) = new_broker(6);
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    let q = subscribed(&s, to_topic("q", Begin::Earliest, None)).await;
    let opts = ConsumerOpts {
        lease: LeaseKind::Bound,
        ride: true,
        auto_ack: false,
        prefetch: 0,
        credit: None,
        priority: 0,
        exclusive: false,
    };
    s.subscribe(q.id, ConsumerId(1), opts).unwrap().await.unwrap().unwrap();
    s.delete_topic(t.def.uuid).await.unwrap();
    assert!(broker.queue(Namespace::DEFAULT, "q").is_none());
    let waiting = Receive {
        queue: q.id,
        max: 1,
        bytes_max: 1,
        wait_ms: 0,
        lease: LeaseKind::Bound,
        ride: false,
        auto_ack: false,
        leases_max: LEASES_MAX,
    };
    assert!(s.receive(waiting).unwrap().await.unwrap().is_err());
    close(broker).await;
}
