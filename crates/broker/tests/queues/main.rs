//! Queues through the broker's API, over a log in memory: what is published is delivered, settled, given back, moved, and is there, or
//! gone, after a restart.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::queue::api::{
    ConsumerId, ConsumerOpts, Delivery, LeaseKind, QueueDef, QueueError, QueueOp, QueueReply, Receive,
    SettleError, Verb,
};
use millstream_broker::queue::policy::{OnExhausted, Ordering, Overflow, QueuePolicy};
use millstream_broker::{
    Binding, Broker, BrokerConfig, Class, ConsumeError, Content, DeadLetter, Death, DeathReason,
    ExchangeType, NewExchange, NewMessage, NewQueue, NewTopic, Op, Principal, PublishOutcome, PublishRefusal,
    QueueCallError, Redrive, Redriven, Reply, Session, SessionOptions, Target, TargetKind, property,
    settle_item,
};
use millstream_log::mem::Commit;
use millstream_types::Namespace;
use support::{Place, close, get, now, queue, ready, session, settle, text};

#[path = "../support/mod.rs"]
mod support;

mod batches;
mod keys;
mod redrive;
mod transient;

async fn publish(s: &Session, message: NewMessage) -> PublishOutcome {
    s.publish(vec![message]).await.unwrap().await.unwrap().remove(0).unwrap()
}

const BOUND: ConsumerOpts = ConsumerOpts {
    lease: LeaseKind::Bound,
    ride: true,
    auto_ack: false,
    prefetch: 0,
    credit: None,
    priority: 0,
    exclusive: false,
};

async fn consume(s: &Session, def: &QueueDef, n: u64, opts: ConsumerOpts) {
    s.subscribe(def.id, ConsumerId(n), opts).unwrap().await.unwrap().unwrap();
}

/// Waits for so many deliveries, and says that the socket took them.
async fn take(s: &Session, n: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < n {
        let more = tokio::time::timeout(Duration::from_secs(30), s.deliveries()).await.expect("deliveries");
        assert!(!more.is_empty(), "the broker is lost");
        s.handed_over(&more);
        all.extend(more);
    }
    assert_eq!(all.len(), n);
    all
}

async fn bodies(b: &Broker, of: &[Delivery]) -> Vec<String> {
    let read = b.read_bodies(of).await;
    read.into_iter()
        .map(|m| String::from_utf8(m.unwrap().message.payload.unwrap().to_vec()).unwrap())
        .collect()
}

async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(Pin::new(&mut *future).poll(cx).is_pending())).await
}

/// Waits until a queue has so many messages ready.
async fn until_ready(s: &Session, def: &QueueDef, n: u64) {
    let all = async {
        while ready(s, def).await != n {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_gone_after_a_restart_and_the_rest_is_delivered_again_in_order() {
    let place = Place::new(1);
    let broker = place.open();
    let s = session(&broker);
    let q = queue(&s, "jobs").await;
    let batch = ["a", "b", "c"].map(|t| text("jobs", t)).to_vec();
    let outcomes = s.publish(batch).await.unwrap().await.unwrap();
    assert!(outcomes.iter().all(|o| o.as_ref().unwrap().accepted == 1));
    consume(&s, &q, 1, BOUND).await;
    let got = take(&s, 3).await;
    assert_eq!(bodies(&broker, &got).await, ["a", "b", "c"]);
    assert!(got.iter().all(|d| !d.redelivered && d.deliveries == 1));
    settle(&s, &got[1..2], Verb::Ack).await;
    drop(s);
    close(broker).await;

    let broker = place.open();
    let s = session(&broker);
    let q = broker.queue(Namespace::DEFAULT, "jobs").unwrap();
    consume(&s, &q, 1, BOUND).await;
    let got = take(&s, 2).await;
    assert_eq!(bodies(&broker, &got).await, ["a", "c"]);
    assert!(got.iter().all(|d| d.redelivered));
    settle(&s, &got, Verb::Ack).await;
    assert_eq!(ready(&s, &q).await, 0);
    let again = s.settle(vec![settle_item(&got[0], Verb::Ack)]).await.unwrap().await.unwrap();
    assert_eq!(again, [(0, SettleError::Unknown)]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_comes_again_in_its_old_place() {
    let place = Place::new(2);
    let broker = place.open();
    let s = session(&broker);
    let q = queue(&s, "q").await;
    for t in ["a", "b", "c"] {
        publish(&s, text("q", t)).await;
    }
    consume(&s, &q, 1, ConsumerOpts { prefetch: 2, ..BOUND }).await;
    let got = take(&s, 2).await;
    assert_eq!(bodies(&broker, &got).await, ["a", "b"]);
    settle(&s, &got[..1], Verb::Release { failed: true, delay_ms: None }).await;
    let back = take(&s, 1).await;
    assert_eq!(bodies(&broker, &back).await, ["a"]);
    assert!(back[0].redelivered && back[0].deliveries == 2 && back[0].attempts == 1);
    settle(&s, &[got[1], back[0]], Verb::Ack).await;
    assert_eq!(bodies(&broker, &take(&s, 1).await).await, ["c"]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_never_has_more_than_its_prefetch_and_messages_go_round() {
    let place = Place::new(3);
    let broker = place.open();
    let (s, t) = (session(&broker), session(&broker));
    let q = queue(&s, "q").await;
    consume(&s, &q, 1, ConsumerOpts { prefetch: 2, ..BOUND }).await;
    consume(&t, &q, 1, ConsumerOpts { prefetch: 2, ..BOUND }).await;
    let batch = (0..10).map(|i| text("q", &i.to_string())).collect();
    s.publish(batch).await.unwrap().await.unwrap();
    let (a, b) = (take(&s, 2).await, take(&t, 2).await);
    assert_eq!(ready(&s, &q).await, 6);
    let mut all = [bodies(&broker, &a).await, bodies(&broker, &b).await];
    all.sort();
    assert_eq!(all, [["0", "2"], ["1", "3"]]);
    settle(&t, &b, Verb::Ack).await;
    assert_eq!(bodies(&broker, &take(&t, 2).await).await, ["4", "5"]);
    drop(t);
    // What the other one had comes back, before what nobody had.
    settle(&s, &a, Verb::Ack).await;
    let back = take(&s, 2).await;
    assert_eq!(bodies(&broker, &back).await, ["4", "5"]);
    assert!(back.iter().all(|d| d.redelivered));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_never_took_is_not_counted_as_delivered_when_it_goes() {
    let place = Place::new(4);
    let broker = place.open();
    let (s, t) = (session(&broker), session(&broker));
    let q = queue(&s, "q").await;
    consume(&t, &q, 1, BOUND).await;
    publish(&s, text("q", "a")).await;
    while ready(&s, &q).await > 0 {
        tokio::task::yield_now().await;
    }
    drop(t);
    until_ready(&s, &q, 1).await;
    let got = get(&s, &q).await;
    assert_eq!((got.len(), got[0].deliveries, got[0].redelivered), (1, 1, false));
    // Likewise a receive whose answer nobody takes.
    drop(got);
    drop(s);
    let s = session(&broker);
    until_ready(&s, &q, 1).await;
    let unheard = s.receive(now(&q, 10)).unwrap();
    s.barrier().await.unwrap();
    drop(unheard);
    until_ready(&s, &q, 1).await;
    assert_eq!(get(&s, &q).await[0].deliveries, 2);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receive_waits_for_a_message_and_comes_back_with_nothing_when_its_time_is_over() {
    let place = Place::new(5);
    let broker = place.open();
    let s = session(&broker);
    let q = queue(&s, "q").await;
    let waiting = s.receive(Receive { wait_ms: 60_000, ..now(&q, 10) }).unwrap();
    publish(&s, text("q", "a")).await;
    assert_eq!(bodies(&broker, &waiting.await.unwrap().unwrap()).await, ["a"]);
    let waiting = s.receive(Receive { wait_ms: 60_000, ..now(&q, 10) }).unwrap();
    s.barrier().await.unwrap();
    place.clock.advance(Duration::from_secs(61));
    assert_eq!(waiting.await.unwrap().unwrap(), []);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_says_so_and_another_target_takes_the_message() {
    let place = Place::new(6);
    let broker = place.open();
    let s = session(&broker);
    let policy = QueuePolicy { messages_max: Some(1), overflow: Overflow::Reject, ..QueuePolicy::default() };
    let small = s.declare_queue(NewQueue { policy, ..NewQueue::named("small") }).await.unwrap().def;
    let large = queue(&s, "large").await;
    fanout(&s, "all", &[(TargetKind::Queue, "small"), (TargetKind::Queue, "large")]).await;
    let mut m = text("", "a");
    m.message.exchange = "all".to_owned();
    assert_eq!(publish(&s, m.clone()).await.accepted, 2);
    let second = publish(&s, m).await;
    assert_eq!((second.routed, second.accepted), (true, 1));
    assert_eq!(second.refused, [("small".to_owned(), PublishRefusal::Full)]);
    assert_eq!((ready(&s, &small).await, ready(&s, &large).await), (1, 2));
    let nowhere = publish(&s, text("no such queue", "x")).await;
    assert_eq!(nowhere, PublishOutcome::default());
    close(broker).await;
}

async fn fanout(s: &Session, name: &str, to: &[(TargetKind, &str)]) {
    let exchange = NewExchange {
        name: name.to_owned(),
        kind: ExchangeType::Fanout,
        durable: true,
        auto_delete: false,
        internal: false,
        alternate: None,
        arguments: Vec::new(),
    };
    s.declare_exchange(exchange).await.unwrap();
    for (kind, target) in to {
        let target = Target { kind: *kind, name: (*target).to_owned() };
        let binding = Binding { source: name.to_owned(), target, key: String::new(), arguments: Vec::new() };
        s.bind(&binding).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_goes_to_a_topic_and_a_queue_at_once() {
    let place = Place::new(7);
    let broker = place.open();
    let s = session(&broker);
    let q = queue(&s, "q").await;
    let topic = s.create_topic(NewTopic { name: "t".to_owned(), ..NewTopic::default() }).await.unwrap();
    fanout(&s, "both", &[(TargetKind::Queue, "q"), (TargetKind::Topic, "t")]).await;
    let mut m = text("k", "a");
    m.message.exchange = "both".to_owned();
    assert_eq!(publish(&s, m).await.accepted, 2);
    let read = broker.streams().fetch(&topic.partitions[0], 0, 1 << 20).await.unwrap();
    let Content::Single { message, .. } = &read.entries[0].content else { panic!("not a single message") };
    assert_eq!((&*message.routing_key, message.payload.as_deref()), ("k", Some(&b"a"[..])));
    assert_eq!(bodies(&broker, &get(&s, &q).await).await, ["a"]);
    close(broker).await;
}

fn dying(name: &str, exchange: &str, key: Option<&str>) -> NewQueue {
    let dead_letter = Some(DeadLetter {
        exchange: exchange.to_owned(),
        routing_key: key.map(str::to_owned),
        at_least_once: false,
        not_expired: false,
        keeps_age: false,
    });
    NewQueue { dead_letter, ..NewQueue::named(name) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_message_goes_through_the_dead_letter_exchange_with_its_death_noted() {
    let place = Place::new(8);
    let broker = place.open();
    let s = session(&broker);
    let dead = queue(&s, "dead").await;
    fanout(&s, "dlx", &[(TargetKind::Queue, "dead")]).await;
    let q = s.declare_queue(dying("q", "dlx", None)).await.unwrap().def;
    let mut m = text("q", "a");
    m.message.properties.push((property::EXPIRATION, Bytes::from_static(b"60000")));
    m.ttl_ms = Some(60_000);
    publish(&s, m).await;
    settle(&s, &get(&s, &q).await, Verb::Reject).await;
    until_ready(&s, &dead, 1).await;
    let got = get(&s, &dead).await;
    let read = broker.read_bodies(&got).await.remove(0).unwrap();
    let [Death { queue, reason, count, exchange, keys, expiration, first, .. }] = &*read.message.deaths
    else {
        panic!("{:?}", read.message.deaths)
    };
    assert_eq!((&**queue, *reason, *count, &**exchange), ("q", DeathReason::Rejected, 1, ""));
    assert_eq!((&**keys, expiration.as_deref(), *first), (&["q".to_owned()][..], Some(&b"60000"[..]), true));
    assert_eq!((&*read.message.exchange, &*read.message.routing_key), ("dlx", "q"));
    assert_eq!(read.expiry_ms, None);
    assert_eq!(
        read.message.properties.iter().map(|p| p.0).collect::<Vec<_>>(),
        [property::SENT_MS, property::DELIVERED_BEFORE]
    );
    assert_eq!(read.deliveries_in_all(&got[0]), 2);
    assert!(read.sent_ms() <= read.enqueued_ms);
    assert!(read.origin.is_some());
    assert_eq!(s.queue_stats(q.id, false).await.unwrap().unwrap().held.n, 0);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_message_is_never_delivered_and_dies_of_it_and_a_round_of_deaths_ends() {
    let place = Place::new(9);
    let broker = place.open();
    let s = session(&broker);
    // Each is the other's dead-letter target.
    let ttl = |ms| QueuePolicy { ttl_ms: Some(ms), ..QueuePolicy::default() };
    let a = NewQueue { policy: ttl(1_000), ..dying("a", "", Some("b")) };
    let b = NewQueue { policy: ttl(1_000), ..dying("b", "", Some("a")) };
    let a = s.declare_queue(a).await.unwrap().def;
    let b = s.declare_queue(b).await.unwrap().def;
    publish(&s, text("a", "x")).await;
    place.clock.advance(Duration::from_millis(999));
    assert_eq!(ready(&s, &a).await, 1);
    place.clock.advance(Duration::from_millis(2));
    until_ready(&s, &b, 1).await;
    assert_eq!(get(&s, &a).await, []);
    place.clock.advance(Duration::from_millis(1_100));
    // From b it would go back to a, where it died without anybody having rejected it.
    let gone = async {
        while broker.dead_letters().cycled == 0 {
            s.barrier().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    s.barrier().await.unwrap();
    until_ready(&s, &a, 0).await;
    until_ready(&s, &b, 0).await;
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_message_without_a_target_that_exists_is_dropped_and_counted() {
    let place = Place::new(10);
    let broker = place.open();
    let s = session(&broker);
    let q = s.declare_queue(dying("q", "no such exchange", None)).await.unwrap().def;
    publish(&s, text("q", "a")).await;
    settle(&s, &get(&s, &q).await, Verb::Reject).await;
    let gone = async {
        while s.queue_stats(q.id, false).await.unwrap().unwrap().held.n > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    assert_eq!(broker.dead_letters().untargeted, 1);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_attempts_are_used_up_dies() {
    let place = Place::new(11);
    let broker = place.open();
    let s = session(&broker);
    let dead = queue(&s, "dead").await;
    let policy = QueuePolicy { attempts_max: Some(2), ..QueuePolicy::default() };
    let q = NewQueue { policy, ..dying("q", "", Some("dead")) };
    let q = s.declare_queue(q).await.unwrap().def;
    publish(&s, text("q", "a")).await;
    for _ in 0..2 {
        settle(&s, &get(&s, &q).await, Verb::Release { failed: true, delay_ms: None }).await;
    }
    until_ready(&s, &dead, 1).await;
    let read = broker.read_bodies(&get(&s, &dead).await).await.remove(0).unwrap();
    assert_eq!(read.message.deaths[0].reason, DeathReason::Exhausted);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_mover_held_at_a_restart_arrives_after_it() {
    let place = Place::new(12);
    let broker = place.open();
    let s = session(&broker);
    let dead = NewQueue {
        policy: QueuePolicy { messages_max: Some(1), overflow: Overflow::Reject, ..QueuePolicy::default() },
        ..NewQueue::named("dead")
    };
    s.declare_queue(dead).await.unwrap();
    let mut q = dying("q", "", Some("dead"));
    q.dead_letter.as_mut().unwrap().at_least_once = true;
    let q = s.declare_queue(q).await.unwrap().def;
    s.publish(vec![text("q", "a"), text("q", "b")]).await.unwrap().await.unwrap();
    settle(&s, &get(&s, &q).await, Verb::Reject).await;
    let dead = broker.queue(Namespace::DEFAULT, "dead").unwrap();
    until_ready(&s, &dead, 1).await;
    assert_eq!(s.queue_stats(q.id, false).await.unwrap().unwrap().held.n, 1);
    drop(s);
    close(broker).await;

    let broker = place.open();
    let s = session(&broker);
    let first = get(&s, &dead).await;
    assert_eq!(first.len(), 1);
    settle(&s, &first, Verb::Ack).await;
    until_ready(&s, &dead, 1).await;
    let second = get(&s, &dead).await;
    let mut both = [bodies(&broker, &first).await, bodies(&broker, &second).await];
    both.sort();
    assert_eq!(both[1], ["b"]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_are_not_durable_or_have_an_owner_are_gone_after_a_restart_with_their_bindings() {
    let place = Place::new(13);
    let broker = place.open();
    let s = session(&broker);
    queue(&s, "kept").await;
    s.declare_queue(NewQueue { durable: false, ..NewQueue::named("transient") }).await.unwrap();
    s.declare_queue(NewQueue { exclusive: true, ..NewQueue::named("own") }).await.unwrap();
    fanout(&s, "all", &["kept", "transient", "own"].map(|n| (TargetKind::Queue, n))).await;
    let mut m = text("", "a");
    m.message.exchange = "all".to_owned();
    assert_eq!(publish(&s, m.clone()).await.accepted, 3);
    drop(s);
    close(broker).await;

    let broker = place.open();
    let s = session(&broker);
    let names: Vec<String> = broker.queues(Namespace::DEFAULT).iter().map(|d| d.name.clone()).collect();
    assert_eq!(names, ["kept"]);
    assert_eq!(publish(&s, m).await.accepted, 1);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_queue_is_its_owners_alone_and_goes_with_it() {
    let place = Place::new(14);
    let broker = place.open();
    let owner = broker.owner();
    let options = SessionOptions { owner: owner.id(), ..SessionOptions::default() };
    let mine = broker.session(Principal::anonymous(), Namespace::DEFAULT, options);
    let other = session(&broker);
    let new = NewQueue { exclusive: true, ..NewQueue::named("own") };
    let q = mine.declare_queue(new.clone()).await.unwrap().def;
    assert!(!mine.declare_queue(new.clone()).await.unwrap().made);
    assert_eq!(other.declare_queue(new).await.unwrap_err(), QueueCallError::Locked);
    assert_eq!(other.delete_queue(q.id, false, false).await, Err(QueueCallError::Locked));
    assert_eq!(other.subscribe(q.id, ConsumerId(1), BOUND).unwrap_err(), ConsumeError::Locked);
    drop(mine);
    owner.leave().await;
    assert!(other.queue("own").is_none());
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_declared_otherwise_or_under_a_topics_name_is_refused_and_a_topic_under_a_queues() {
    let place = Place::new(15);
    let broker = place.open();
    let s = session(&broker);
    queue(&s, "q").await;
    let other = NewQueue { durable: false, ..NewQueue::named("q") };
    assert_eq!(s.declare_queue(other).await.unwrap_err(), QueueCallError::Differs { what: "durability" });
    s.create_topic(NewTopic { name: "t".to_owned(), ..NewTopic::default() }).await.unwrap();
    let taken = s.declare_queue(NewQueue::named("t")).await.unwrap_err();
    assert!(matches!(taken, QueueCallError::Queue(QueueError::WrongKind { .. })), "{taken:?}");
    assert!(s.create_topic(NewTopic { name: "q".to_owned(), ..NewTopic::default() }).await.is_err());
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auto_delete_queue_is_gone_when_its_last_consumer_was_cancelled() {
    let place = Place::new(16);
    let broker = place.open();
    let s = session(&broker);
    let policy = QueuePolicy { auto_delete: true, ..QueuePolicy::default() };
    let q = s.declare_queue(NewQueue { policy, ..NewQueue::named("q") }).await.unwrap().def;
    fanout(&s, "all", &[(TargetKind::Queue, "q")]).await;
    consume(&s, &q, 1, BOUND).await;
    s.cancel(ConsumerId(1)).await.unwrap();
    assert!(s.queue("q").is_none());
    let mut m = text("", "a");
    m.message.exchange = "all".to_owned();
    assert!(!publish(&s, m).await.routed);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unused_queue_goes_after_its_time() {
    let place = Place::new(17);
    let broker = place.open();
    let s = session(&broker);
    let policy = QueuePolicy { expires_ms: Some(10_000), ..QueuePolicy::default() };
    s.declare_queue(NewQueue { policy, ..NewQueue::named("q") }).await.unwrap();
    place.clock.advance(Duration::from_millis(10_500));
    let gone = async {
        while s.queue("q").is_some() {
            s.barrier().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_and_purging_say_how_much_went() {
    let place = Place::new(18);
    let broker = place.open();
    let s = session(&broker);
    let q = queue(&s, "q").await;
    s.publish((0..5).map(|i| text("q", &i.to_string())).collect()).await.unwrap().await.unwrap();
    assert_eq!(s.purge_queue(q.id, true).await, Ok(5));
    s.publish((0..3).map(|i| text("q", &i.to_string())).collect()).await.unwrap().await.unwrap();
    let full = s.delete_queue(q.id, false, true).await;
    assert_eq!(full, Err(QueueCallError::Queue(QueueError::NotEmpty)));
    assert_eq!(s.delete_queue(q.id, false, false).await, Ok(3));
    assert!(s.queue("q").is_none());
    assert_eq!(s.queue_stats(q.id, false).await, Ok(None));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_of_which_all_messages_are_at_consumers_is_deleted_as_an_empty_one() {
    let place = Place::new(18);
    let broker = place.open();
    let s = session(&broker);
    let q = queue(&s, "q").await;
    s.publish((0..2).map(|i| text("q", &i.to_string())).collect()).await.unwrap().await.unwrap();
    let one = s.receive(now(&q, 1)).unwrap().await.unwrap().unwrap();
    assert_eq!(one.len(), 1);
    let ready = s.delete_queue(q.id, false, true).await;
    assert_eq!(ready, Err(QueueCallError::Queue(QueueError::NotEmpty)));
    let other = s.receive(now(&q, 1)).unwrap().await.unwrap().unwrap();
    assert_eq!(other.len(), 1);
    assert_eq!(s.delete_queue(q.id, false, true).await, Ok(0));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_a_queue_leaves_it_as_it_was() {
    let place = Place::new(21);
    let broker = place.open();
    let s = session(&broker);
    let q = queue(&s, "q").await;
    s.publish(["a", "b", "c"].map(|t| text("q", t)).to_vec()).await.unwrap().await.unwrap();
    let seen = s.peek_queue(q.id, 2).await.unwrap();
    let seen: Vec<_> = seen.into_iter().map(|m| m.unwrap().message.payload.unwrap()).collect();
    assert_eq!(seen, ["a", "b"]);
    let got = get(&s, &q).await;
    assert_eq!(bodies(&broker, &got).await, ["a", "b", "c"]);
    assert!(got.iter().all(|d| d.deliveries == 1 && !d.redelivered));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_session_went_comes_to_an_end_when_the_log_is_lost() {
    let place = Place::new(22);
    let broker = place.open();
    queue(&session(&broker), "q").await;
    close(broker).await;
    let by_hand = place.log.with_commit(Commit::ByHand);
    let broker = Broker::open(BrokerConfig::default(), place.env.clone(), &by_hand).unwrap();
    let s = session(&broker);
    let published = s.publish(vec![text("q", "a")]).await.unwrap();
    while broker.marks().sequenced == broker.marks().durable {
        tokio::task::yield_now().await;
    }
    drop(s);
    by_hand.lose("a test");
    let answer = tokio::time::timeout(Duration::from_secs(30), published).await.expect("an end");
    assert!(answer.is_err());
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_socket_gets_no_more_than_its_outbox_holds() {
    let place = Place::new(19);
    let broker = place.open();
    let (s, t) = (session(&broker), session(&broker));
    let q = queue(&s, "q").await;
    consume(&t, &q, 1, BOUND).await;
    let large = "x".repeat(300_000);
    s.publish((0..8).map(|_| text("q", &large)).collect()).await.unwrap().await.unwrap();
    let mut got = Vec::new();
    while got.len() < 4 {
        got.extend(t.deliveries().await);
    }
    s.barrier().await.unwrap();
    assert_eq!((got.len(), ready(&s, &q).await), (4, 4));
    t.handed_over(&got);
    assert_eq!(take(&t, 4).await.len(), 4);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_goes_nowhere_is_answered_behind_what_was_submitted_before_it() {
    let place = Place::new(23);
    let broker = place.open();
    queue(&session(&broker), "q").await;
    close(broker).await;
    let by_hand = place.log.with_commit(Commit::ByHand);
    let broker = Broker::open(BrokerConfig::default(), place.env.clone(), &by_hand).unwrap();
    let s = session(&broker);
    let before = s.publish(vec![text("q", "a")]).await.unwrap();
    let mut nowhere = s.publish(vec![text("no such queue", "b")]).await.unwrap();
    while broker.marks().sequenced == broker.marks().durable {
        tokio::task::yield_now().await;
    }
    assert!(is_pending(&mut nowhere).await);
    let commit = async {
        loop {
            by_hand.commit_to(broker.marks().sequenced);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answers = async { (before.await.unwrap(), nowhere.await.unwrap()) } => {
            assert!(answers.0[0].as_ref().unwrap().routed && !answers.1[0].as_ref().unwrap().routed);
        }
        () = commit => {}
    }
    by_hand.lose("the end of a test");
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_hears_which_of_its_consumers_lost_their_queue() {
    let place = Place::new(24);
    let broker = place.open();
    let (s, t) = (session(&broker), session(&broker));
    let (q, r) = (queue(&s, "q").await, queue(&s, "r").await);
    consume(&s, &q, 1, BOUND).await;
    consume(&s, &r, 2, BOUND).await;
    consume(&s, &q, 3, BOUND).await;
    s.cancel(ConsumerId(3)).await.unwrap();
    let ended = s.ended();
    tokio::pin!(ended);
    assert!(is_pending(&mut ended).await);
    t.delete_queue(r.id, false, false).await.unwrap();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(30), &mut ended).await.expect("it hears"),
        ConsumerId(2)
    );
    t.delete_queue(q.id, false, false).await.unwrap();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(30), s.ended()).await.expect("it hears"),
        ConsumerId(1)
    );
    assert!(is_pending(&mut Box::pin(s.ended())).await);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_delivered_before_it_is_durable() {
    let place = Place::new(20);
    let broker = place.open();
    queue(&session(&broker), "q").await;
    close(broker).await;
    let by_hand = place.log.with_commit(Commit::ByHand);
    let broker = Broker::open(BrokerConfig::default(), place.env.clone(), &by_hand).unwrap();
    let s = session(&broker);
    let q = broker.queue(Namespace::DEFAULT, "q").unwrap();
    let _subscribed = s.subscribe(q.id, ConsumerId(1), BOUND).unwrap();
    let published = s.publish(vec![text("q", "a")]).await.unwrap();
    while broker.marks().sequenced == broker.marks().durable {
        tokio::task::yield_now().await;
    }
    let mut out = Vec::new();
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(s.poll_deliveries(cx, &mut out))).await;
    assert!(polled.is_pending() && out.is_empty());
    let commit = async {
        while out.is_empty() {
            by_hand.commit_to(broker.marks().sequenced);
            let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(s.poll_deliveries(cx, &mut out))).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), commit).await.unwrap();
    assert_eq!(published.await.unwrap()[0].as_ref().unwrap().accepted, 1);
    assert_eq!(bodies(&broker, &out).await, ["a"]);
    by_hand.lose("the end of a test");
    close(broker).await;
}
