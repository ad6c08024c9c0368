//! Queues that are subscribed to a topic, through the broker's API: records out of batches as Kafka's producers pack them, compressed too, are
//! handed out one by one, filtered, settled, given back, dead-lettered; and the topic keeps them.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::queue::api::{
    ConsumerId, ConsumerOpts, Delivery, LeaseKind, QueueDef, QueueError, Receive, Verb,
};
use millstream_broker::queue::policy::QueuePolicy;
use millstream_broker::{
    Begin, Broker, DeadLetter, Header, HeaderValue, NewQueue, PublishError, QueueCallError, QueueMessage,
    RouteError, Session, Subscription, SubscriptionError,
};
use millstream_types::Namespace;
use support::{Place, append, batch, close, drain, now, payloads, session, settle, text, topic};

fn to_topic(name: &str, from: Begin, filter: Option<&str>) -> NewQueue {
    let filter = filter.map(str::to_owned);
    let subscription = Some(Subscription { topic: "t".to_owned(), from, filter });
    NewQueue { subscription, ..NewQueue::named(name) }
}

async fn subscribed(s: &Session, new: NewQueue) -> Arc<QueueDef> {
    s.declare_queue(new).await.unwrap().def
}

fn values(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("{{\"n\": {n}}}")).collect()
}

async fn take(s: &Session, of: &QueueDef, n: u32) -> Vec<Delivery> {
    let what = Receive { ride: false, ..now(of, n) };
    s.receive(what).unwrap().await.unwrap().unwrap()
}

async fn read(b: &Broker, of: &[Delivery]) -> Vec<QueueMessage> {
    b.read_bodies(of).await.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_compressed_batch_are_settled_one_by_one_and_keep_key_headers_and_time() {
    let place = Place::new(1);
    let broker = place.open();
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    let q = subscribed(&s, to_topic("q", Begin::Earliest, None)).await;
    append(&s, &t, 0, batch(&values(0..300), 1, true), 300).await;
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

    let broker = place.open();
    let s = session(&broker);
    let q = broker.queue(Namespace::DEFAULT, "q").unwrap();
    let first = take(&s, &q, 2).await;
    assert_eq!(payloads(&read(&broker, &first).await), [values(0..1), values(2..3)].concat());
    assert_eq!(first.iter().map(|d| (d.deliveries, d.attempts)).collect::<Vec<_>>(), [(2, 1), (2, 1)]);
    settle(&s, &first, Verb::Ack).await;
    assert_eq!(payloads(&drain(&s, &q).await), values(3..300));
    let part = &t.partitions[0];
    assert_eq!((part.start(), part.visible_end()), (0, 300), "the topic keeps its records");
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_hands_out_what_matches_and_counts_the_rest() {
    let broker = Place::new(2).open();
    let s = session(&broker);
    let t = topic(&s, "t", 2).await;
    let filter = r#"{"body": {"n": [{"numeric": [">=", 90]}]}}"#;
    let q = subscribed(&s, to_topic("q", Begin::Earliest, Some(filter))).await;
    for (partition, gzip) in [(0, true), (1, false)] {
        append(&s, &t, partition, batch(&values(0..100), 1, gzip), 100).await;
    }
    append(&s, &t, 0, Bytes::from_static(b"no batch"), 4).await;
    let mut got = payloads(&drain(&s, &q).await);
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
    let broker = Place::new(3).open();
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    append(&s, &t, 0, batch(&values(0..10), 1, false), 10).await;
    let at = subscribed(&s, to_topic("at", Begin::Offset(7), None)).await;
    let late = subscribed(&s, to_topic("late", Begin::Latest, None)).await;
    let never = subscribed(&s, to_topic("never", Begin::TimeMs(5_000), None)).await;
    let old = subscribed(&s, to_topic("old", Begin::TimeMs(900), None)).await;
    append(&s, &t, 0, batch(&values(10..12), 1, false), 2).await;
    assert_eq!(payloads(&drain(&s, &at).await), values(7..12));
    assert_eq!(payloads(&drain(&s, &late).await), values(10..12));
    assert_eq!(payloads(&drain(&s, &never).await), values(10..12));
    assert_eq!(payloads(&drain(&s, &old).await), values(0..12));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exhausted_goes_to_the_dead_letter_queue_and_stays_in_the_topic() {
    let broker = Place::new(4).open();
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
    let broker = Place::new(5).open();
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
    let broker = Place::new(6).open();
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
    let waiting = Receive { bytes_max: 1, ride: false, ..Receive::now(q.id, 1) };
    assert!(s.receive(waiting).unwrap().await.unwrap().is_err());
    close(broker).await;
}
