//! Bridges: what they pass on, what they leave behind, and that each message arrives once, whenever the broker stops.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::bridge::{BridgeAlter, BridgeDef, BridgeError, BridgeInfo, OnPoison, OnTrimmed};
use millstream_broker::queue::api::{ConsumerId, ConsumerOpts, LeaseKind, Verb};
use millstream_broker::queue::policy::{Ordering, Overflow, QueuePolicy};
use millstream_broker::{
    AppendItem, Binding, Broker, BrokerConfig, Content, DeadLetter, ExchangeType, HeaderValue, Message,
    NewExchange, NewQueue, NewTopic, QueueMessage, Session, Target, TargetKind, Topic, property, settle_item,
};
use millstream_log::DiskLog;
use millstream_testkit::under::{LogUnderTest as _, OnSim};
use millstream_types::Namespace;
use serde_json::{Value, json};
use support::{Place, batch, close, now, packed, payloads, queue, session, text, topic};

async fn bridge(s: &Session, name: &str, def: Value) -> BridgeInfo {
    s.create_bridge(name, &BridgeDef::parse(&def).unwrap(), false).await.unwrap()
}

async fn append(s: &Session, topic: &Topic, partition: usize, values: &[&str]) {
    support::append(s, topic, partition, batch(values, 0, false), values.len() as u32).await;
}

/// All that is in the queue of a name now, acknowledged.
async fn drain(s: &Session, name: &str) -> Vec<QueueMessage> {
    support::drain(s, &s.queue(name).unwrap()).await
}

async fn publish(s: &Session, key: &str, payload: &str) {
    let outcome = s.publish(vec![text(key, payload)]).await.unwrap().await.unwrap().remove(0).unwrap();
    assert!(outcome.accepted > 0 && outcome.refused.is_empty(), "{outcome:?}");
}

/// Waits until what the bridge says of itself is so.
async fn until(s: &Session, name: &str, what: impl Fn(&BridgeInfo) -> bool) -> BridgeInfo {
    let all = async {
        loop {
            let info = s.bridge(name).await.unwrap();
            if what(&info) {
                return info;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("the bridge gets there")
}

/// What other protocols appended to a topic.
async fn read(s: &Session, topic: &Topic) -> Vec<Message> {
    let mut all = Vec::new();
    for part in &topic.partitions {
        let mut next = part.start();
        while next < part.visible_end() {
            let batch = s.broker().streams().fetch(part, next, 1 << 20).await.unwrap();
            next = batch.next;
            for e in batch.entries {
                let Content::Single { message, .. } = e.content else { panic!("a batch") };
                all.push(message);
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_batches_and_single_messages_go_through_filter_and_mapping_into_a_queue() {
    let broker = Place::new(1).open();
    let s = session(&broker);
    let orders = topic(&s, "orders", 2).await;
    queue(&s, "high").await;
    append(&s, &orders, 0, &[r#"{"total": 20000, "id": "a", "c": 1}"#, r#"{"total": 5}"#]).await;
    let def = json!({
        "source": {"topic": "orders"}, "target": {"queue": "high"},
        "filter": {"headers": {"h": ["x"]}, "body": {"total": [{"numeric": [">", 10000]}]}},
        "map": {"group": "body:/c", "dedup": "body:/id", "headers": {"OrderId": "body:/id", "at": "offset"}},
    });
    bridge(&s, "b", def).await;
    append(&s, &orders, 1, &[r#"{"total": 30000, "id": "b", "c": 2}"#]).await;
    // By another protocol, straight to the topic.
    publish(&s, "orders", r#"{"total": 40000}"#).await;
    let info = until(&s, "b", |i| i.passed + i.filtered == 4).await;
    assert_eq!((info.passed, info.filtered, info.lag, info.blocked), (2, 2, 0, None));
    let mut all = drain(&s, "high").await;
    all.sort_by_key(|m| m.message.key.clone());
    assert_eq!(payloads(&all)[0], r#"{"total": 20000, "id": "a", "c": 1}"#);
    let m = &all[1].message;
    assert_eq!((m.key.as_deref(), &*m.exchange, &*m.routing_key), (Some(&b"2"[..]), "", "high"));
    let header = |name: &str| m.headers.iter().find(|h| h.name == name).map(|h| h.value.clone());
    assert_eq!(header("OrderId"), Some(HeaderValue::Str("b".to_owned())));
    assert_eq!(
        (header("h"), header("at")),
        (Some(HeaderValue::Str("x".to_owned())), Some(HeaderValue::U64(0)))
    );
    let dedup = m.properties.iter().find(|p| p.0 == property::DEDUPLICATION_ID).map(|p| &*p.1);
    assert_eq!(dedup, Some(&b"b"[..]));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn through_an_exchange_a_message_goes_to_all_its_queues_with_the_key_that_was_mapped() {
    let broker = Place::new(2).open();
    let s = session(&broker);
    topic(&s, "events", 1).await;
    let exchange = NewExchange {
        name: "x".to_owned(),
        kind: ExchangeType::Topic,
        durable: true,
        auto_delete: false,
        internal: false,
        alternate: None,
        arguments: Vec::new(),
    };
    s.declare_exchange(exchange).await.unwrap();
    for (q, key) in [("all", "#"), ("eu", "eu.*")] {
        queue(&s, q).await;
        let target = Target { kind: TargetKind::Queue, name: q.to_owned() };
        let binding = Binding { source: "x".to_owned(), target, key: key.to_owned(), arguments: Vec::new() };
        s.bind(&binding).await.unwrap();
    }
    let map = json!({"routing_key": "body:/r", "priority": "body:/p"});
    bridge(&s, "b", json!({"source": {"topic": "events"}, "target": {"exchange": "x"}, "map": map})).await;
    publish(&s, "events", r#"{"r": "eu.a", "p": 7}"#).await;
    publish(&s, "events", r#"{"r": "us.a", "p": 0}"#).await;
    until(&s, "b", |i| i.passed == 2).await;
    let all = drain(&s, "all").await;
    assert_eq!(
        all.iter().map(|m| (&*m.message.routing_key, m.priority)).collect::<Vec<_>>(),
        [("eu.a", 7), ("us.a", 0)]
    );
    assert_eq!(payloads(&drain(&s, "eu").await), [r#"{"r": "eu.a", "p": 7}"#]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_goes_on_where_it_was_after_a_restart_and_passes_nothing_on_twice() {
    let place = Place::new(3);
    let broker = place.open();
    let s = session(&broker);
    topic(&s, "t", 1).await;
    queue(&s, "q").await;
    publish(&s, "t", "before").await;
    bridge(&s, "b", json!({"source": {"topic": "t", "from": "latest"}, "target": {"queue": "q"}})).await;
    publish(&s, "t", "one").await;
    until(&s, "b", |i| i.passed == 1).await;
    s.pause_bridge("b").await.unwrap();
    publish(&s, "t", "two").await;
    drop(s);
    close(broker).await;

    let broker = place.open();
    let s = session(&broker);
    let info = s.bridge("b").await.unwrap();
    assert_eq!((info.paused, info.lag, info.passed), (true, 1, 1));
    s.resume_bridge("b", &BridgeAlter::default()).await.unwrap();
    publish(&s, "t", "three").await;
    until(&s, "b", |i| i.passed == 3).await;
    drop(s);
    close(broker).await;

    let broker = place.open();
    let s = session(&broker);
    publish(&s, "t", "four").await;
    until(&s, "b", |i| i.passed == 4 && i.lag == 0).await;
    assert_eq!(payloads(&drain(&s, "q").await), ["one", "two", "three", "four"]);
    s.delete_bridge("b").await.unwrap();
    assert_eq!(s.bridges().await.unwrap().len(), 0);
    assert!(matches!(s.bridge("b").await, Err(BridgeError::NotFound(_))));
    publish(&s, "t", "five").await;
    assert_eq!(drain(&s, "q").await.len(), 0);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_whose_target_goes_rests_with_the_cause_and_goes_on_when_it_is_back() {
    let broker = Place::new(4).open();
    let s = session(&broker);
    topic(&s, "t", 1).await;
    let def = json!({"source": {"topic": "t"}, "target": {"queue": "q"}});
    let parsed = BridgeDef::parse(&def).unwrap();
    let absent = s.create_bridge("b", &parsed, false).await;
    assert!(matches!(absent, Err(BridgeError::Absent { kind: "queue", .. })), "{absent:?}");
    s.create_bridge("b", &parsed, true).await.unwrap();
    assert!(matches!(s.create_bridge("b", &parsed, true).await, Err(BridgeError::Exists)));
    publish(&s, "t", "one").await;
    let info = until(&s, "b", |i| i.blocked.is_some()).await;
    assert_eq!((info.blocked.unwrap().cause.as_str(), info.lag), ("there is no queue \"q\"", 1));
    let q = queue(&s, "q").await;
    until(&s, "b", |i| i.passed == 1 && i.blocked.is_none()).await;
    s.delete_queue(q.id, false, false).await.unwrap();
    publish(&s, "t", "two").await;
    until(&s, "b", |i| i.blocked.is_some()).await;
    queue(&s, "q").await;
    until(&s, "b", |i| i.passed == 2).await;
    assert_eq!(payloads(&drain(&s, "q").await), ["two"]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_refuses_holds_the_bridge_and_nothing_is_lost_or_doubled() {
    let broker = Place::new(5).open();
    let s = session(&broker);
    topic(&s, "t", 2).await;
    let policy = QueuePolicy { messages_max: Some(3), overflow: Overflow::Reject, ..QueuePolicy::default() };
    s.declare_queue(NewQueue { policy, ..NewQueue::named("q") }).await.unwrap();
    let wanted: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    bridge(&s, "b", json!({"source": {"topic": "t"}, "target": {"queue": "q"}})).await;
    for payload in &wanted {
        publish(&s, "t", payload).await;
    }
    let mut got = Vec::new();
    let all = async {
        while got.len() < wanted.len() {
            got.extend(payloads(&drain(&s, "q").await));
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("all arrive");
    until(&s, "b", |i| i.passed == 9 && i.lag == 0).await;
    got.sort();
    assert_eq!(got, wanted);
    close(broker).await;
}

fn poison_def(on_poison: Value) -> Value {
    json!({
        "source": {"topic": "t"}, "target": {"queue": "q"}, "on_poison": on_poison,
        "map": {"group": "body:/c"},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_mapped_pauses_the_bridge_before_it_until_the_policy_is_another() {
    let broker = Place::new(6).open();
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    queue(&s, "q").await;
    append(&s, &t, 0, &[r#"{"c": 1}"#, "not json", r#"{"c": 3}"#]).await;
    bridge(&s, "b", poison_def(json!("pause"))).await;
    let info = until(&s, "b", |i| i.paused).await;
    assert!(info.note.starts_with("partition 0, offset 1: its body is not JSON"), "{}", info.note);
    assert_eq!((info.passed, info.partitions[0].next, info.lag), (1, 1, 2));
    let alter = BridgeAlter { on_poison: Some(OnPoison::Skip), ..BridgeAlter::default() };
    s.resume_bridge("b", &alter).await.unwrap();
    let info = until(&s, "b", |i| i.lag == 0).await;
    assert_eq!((info.passed, info.skipped, info.poison), (2, 1, vec![(0, 1)]));
    assert_eq!(payloads(&drain(&s, "q").await), [r#"{"c": 1}"#, r#"{"c": 3}"#]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_skipped_records_all_are_counted_and_the_last_hundred_remembered() {
    let broker = Place::new(7).open();
    let s = session(&broker);
    let t = topic(&s, "t", 2).await;
    queue(&s, "q").await;
    for partition in 0..2 {
        append(&s, &t, partition, &["?"; 150]).await;
        append(&s, &t, partition, &[r#"{"c": 1}"#]).await;
    }
    bridge(&s, "b", poison_def(json!("skip"))).await;
    let info = until(&s, "b", |i| i.lag == 0 && i.passed == 2).await;
    assert_eq!((info.skipped, info.poison.len()), (300, 100));
    assert!(info.poison.iter().all(|(_, at)| (50..150).contains(at)), "{:?}", info.poison);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_goes_to_the_dead_letter_topic_whole_and_with_the_reason() {
    let broker = Place::new(8).open();
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    let dead = topic(&s, "dead", 1).await;
    queue(&s, "q").await;
    append(&s, &t, 0, &["?", r#"{"c": 1}"#]).await;
    // A batch that cannot be taken apart: all its records are one dead letter.
    let (kind, body) = (packed(2), batch(&["lost", "too"], 0, false));
    let mut broken = body.to_vec();
    broken[61] = 0xff;
    let item =
        AppendItem { part: t.partitions[0].log, kind, count: 2, max_ts_ms: 1, body: vec![broken.into()] };
    s.append(vec![item]).await.unwrap().remove(0).unwrap();
    bridge(&s, "b", poison_def(json!({"dead_letter_topic": "dead"}))).await;
    let info = until(&s, "b", |i| i.lag == 0).await;
    assert_eq!((info.passed, info.dead_lettered, info.poison), (1, 2, vec![(0, 0), (0, 2)]));
    let letters = read(&s, &dead).await;
    assert_eq!(
        (letters[0].payload.as_deref(), letters[0].key.as_deref()),
        (Some(&b"?"[..]), Some(&b"k"[..]))
    );
    let header = |m: &Message, name: &str| m.headers.iter().find(|h| h.name == name).unwrap().value.clone();
    assert_eq!(header(&letters[0], "h"), HeaderValue::Str("x".to_owned()));
    assert_eq!(header(&letters[0], "x-bridge-offset"), HeaderValue::I64(0));
    let HeaderValue::Str(why) = header(&letters[1], "x-bridge-reason") else { panic!() };
    assert!(why.starts_with("offsets 2 to 3: "), "{why}");
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_stops_the_bridge_or_is_counted() {
    let broker = Place::new(9).open();
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    queue(&s, "q").await;
    bridge(&s, "b", json!({"source": {"topic": "t"}, "target": {"queue": "q"}})).await;
    publish(&s, "t", "0").await;
    until(&s, "b", |i| i.passed == 1).await;
    s.pause_bridge("b").await.unwrap();
    for n in 1..5 {
        publish(&s, "t", &n.to_string()).await;
    }
    s.trim(t.partitions[0].log, 4).await.unwrap().unwrap();
    s.resume_bridge("b", &BridgeAlter::default()).await.unwrap();
    let info = until(&s, "b", |i| i.paused).await;
    assert!(info.note.contains("retention took 3 offsets from 1 on"), "{}", info.note);
    let alter = BridgeAlter { on_trimmed: Some(OnTrimmed::Skip), ..BridgeAlter::default() };
    s.resume_bridge("b", &alter).await.unwrap();
    let info = until(&s, "b", |i| i.passed == 2).await;
    assert_eq!((info.trimmed, info.lag), (3, 0));
    assert_eq!(payloads(&drain(&s, "q").await), ["0", "4"]);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_to_a_topic_with_how_they_died_and_are_settled_in_the_same_step() {
    let broker = Place::new(10).open();
    let s = session(&broker);
    let dead = topic(&s, "dead", 1).await;
    queue(&s, "jobs.dead").await;
    let dead_letter = Some(DeadLetter { routing_key: Some("jobs.dead".to_owned()), ..DeadLetter::default() });
    let jobs = s.declare_queue(NewQueue { dead_letter, ..NewQueue::named("jobs") }).await.unwrap().def;
    bridge(&s, "b", json!({"source": {"dead_letters_of": "jobs"}, "target": {"topic": "dead"}, "map": {"headers": {"via": "literal:b"}}})).await;
    for n in 0..3 {
        publish(&s, "jobs", &n.to_string()).await;
    }
    let opts = ConsumerOpts {
        lease: LeaseKind::Bound,
        ride: true,
        auto_ack: false,
        prefetch: 0,
        credit: None,
        priority: 0,
        exclusive: false,
    };
    s.subscribe(jobs.id, ConsumerId(1), opts).unwrap().await.unwrap().unwrap();
    let mut rejected = 0;
    while rejected < 3 {
        let got = s.deliveries().await;
        s.handed_over(&got);
        rejected += got.len();
        let items = got.iter().map(|d| settle_item(d, Verb::Reject)).collect();
        assert_eq!(s.settle(items).await.unwrap().await.unwrap(), []);
    }
    until(&s, "b", |i| i.passed == 3).await;
    let letters = read(&s, &dead).await;
    let texts: Vec<_> = letters.iter().map(|m| m.payload.as_deref().unwrap()).collect();
    assert_eq!(texts, [b"0", b"1", b"2"]);
    assert_eq!((&*letters[0].deaths[0].queue, letters[0].headers[0].name.as_str()), ("jobs", "via"));
    assert_eq!(drain(&s, "jobs.dead").await.len(), 0);
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_topic_is_too_small_for_stays_in_its_queue_uncounted() {
    let broker = Place::new(11).open();
    let s = session(&broker);
    let settings = BTreeMap::from([("max.message.bytes".to_owned(), "100".to_owned())]);
    s.create_topic(NewTopic { name: "t".to_owned(), partitions: Some(1), settings }).await.unwrap();
    let q = queue(&s, "q").await;
    publish(&s, "q", "small").await;
    publish(&s, "q", &"x".repeat(200)).await;
    bridge(&s, "b", json!({"source": {"queue": "q"}, "target": {"topic": "t"}})).await;
    let info = until(&s, "b", |i| i.paused).await;
    assert!(info.note.contains("takes 100"), "{}", info.note);
    assert_eq!(info.passed, 1);
    let back = async {
        loop {
            let got = s.receive(now(&q, 5)).unwrap().await.unwrap().unwrap();
            if !got.is_empty() {
                return got;
            }
            tokio::task::yield_now().await;
        }
    };
    let got = tokio::time::timeout(Duration::from_secs(30), back).await.expect("it is given back");
    assert_eq!((got.len(), got[0].attempts), (1, 0));
    close(broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_come_later_are_bridged_from_their_first_record() {
    let broker = Place::new(12).open();
    let s = session(&broker);
    let t = topic(&s, "t", 1).await;
    queue(&s, "q").await;
    bridge(&s, "b", json!({"source": {"topic": "t", "from": "latest"}, "target": {"queue": "q"}})).await;
    let t = s.add_partitions(t.def.uuid, 2).await.unwrap();
    append(&s, &t, 1, &["a", "b"]).await;
    until(&s, "b", |i| i.passed == 2).await;
    assert_eq!(payloads(&drain(&s, "q").await), ["a", "b"]);
    close(broker).await;
}

/// A machine that loses power after so many calls of the disk, again and again, while messages are published and bridged.
struct Machine {
    machine: OnSim,
    cuts: u32,
}

impl Machine {
    fn open(&mut self) -> Broker {
        loop {
            let cfg = BrokerConfig { log: self.machine.config(), ..BrokerConfig::default() };
            match Broker::open(cfg, self.machine.env(), &*self.machine.store()) {
                Ok(broker) => return broker,
                Err(_) => drop(self.machine.crash()),
            }
        }
    }
    async fn cut(&mut self, s: Session, broker: Broker) {
        drop(s);
        self.cuts += 1;
        self.machine.crash();
        close(broker).await;
    }
}

/// Whether it is published; `None`: the power went, and nobody knows.
async fn try_publish(s: &Session, to: &str, payload: &str) -> Option<()> {
    let outcome = s.publish(vec![text(to, payload)]).await.ok()?.await.ok()?.remove(0).ok()?;
    (outcome.accepted == 1).then_some(())
}

async fn through_power_cuts(seed: u64, from_queue: bool) -> u32 {
    const N: usize = 24;
    let mut m = Machine { machine: OnSim::new(seed, |env| Box::new(DiskLog::new(env))), cuts: 0 };
    let mut broker = m.open();
    let mut s = session(&broker);
    topic(&s, "t", 3).await;
    queue(&s, "q").await;
    let (from, def) = if from_queue {
        ("q", json!({"source": {"queue": "q"}, "target": {"topic": "t"}}))
    } else {
        ("t", json!({"source": {"topic": "t"}, "target": {"queue": "q"}}))
    };
    bridge(&s, "b", def).await;
    // What is acknowledged arrives once, what nobody knows of at most once.
    let (mut sure, mut unsure) = (Vec::new(), Vec::new());
    let mut cut = 1 + seed;
    m.machine.cut_after(cut);
    for n in 0..N {
        let payload = format!("{n:03}");
        match try_publish(&s, from, &payload).await {
            Some(()) => sure.push(payload),
            None => {
                unsure.push(payload);
                m.cut(s, broker).await;
                broker = m.open();
                s = session(&broker);
                cut = 1 + (cut * 7 + seed) % 23;
                m.machine.cut_after(cut);
            }
        }
    }
    m.cut(s, broker).await;
    let broker = m.open();
    let s = session(&broker);
    until(&s, "b", |i| i.lag == 0).await;
    if from_queue {
        // What is at the bridge is not ready, and not through.
        let q = broker.queue(Namespace::DEFAULT, "q").unwrap();
        let through = async {
            loop {
                let stats = s.queue_stats(q.id, false).await.unwrap().unwrap();
                if stats.ready.n + stats.leased.n == 0 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), through).await.expect("all go through");
    }
    let mut got: Vec<String> = if from_queue {
        let t = Arc::clone(&broker.catalogue().by_name[&(Namespace::DEFAULT, "t".to_owned())]);
        let all = read(&s, &t).await;
        all.iter().map(|m| String::from_utf8(m.payload.clone().unwrap().to_vec()).unwrap()).collect()
    } else {
        payloads(&drain(&s, "q").await)
    };
    got.sort();
    let mut once = got.clone();
    once.dedup();
    assert_eq!(got, once, "seed {seed}: a message came twice");
    assert!(sure.iter().all(|p| got.contains(p)), "seed {seed}: lost of {sure:?}, got {got:?}");
    assert!(got.iter().all(|p| sure.contains(p) || unsure.contains(p)));
    let info = s.bridge("b").await.unwrap();
    assert_eq!(info.passed as usize, got.len(), "seed {seed}: its own count");
    close(broker).await;
    m.cuts
}

/// Two bridges at once over one topic, in which each id comes twice: one passes on every record, the other into a queue that knows ids again.
async fn two_through_power_cuts(seed: u64) -> u32 {
    let mut m = Machine { machine: OnSim::new(seed, |env| Box::new(DiskLog::new(env))), cuts: 0 };
    let mut broker = m.open();
    let mut s = session(&broker);
    topic(&s, "t", 3).await;
    queue(&s, "q").await;
    let fifo =
        QueuePolicy { ordering: Ordering::ByKey, id_window_ms: Some(300_000), ..QueuePolicy::default() };
    s.declare_queue(NewQueue { policy: fifo, ..NewQueue::named("once") }).await.unwrap();
    bridge(&s, "all", json!({"source": {"topic": "t"}, "target": {"queue": "q"}})).await;
    let map = json!({"dedup": "body:/id", "group": "literal:g"});
    bridge(&s, "ids", json!({"source": {"topic": "t"}, "target": {"queue": "once"}, "map": map})).await;
    let (mut sure, mut unsure) = (Vec::new(), Vec::new());
    let mut cut = 1 + seed;
    m.machine.cut_after(cut);
    for n in 0..24 {
        let payload = format!("{{\"id\": \"{:03}\"}}", n / 2);
        match try_publish(&s, "t", &payload).await {
            Some(()) => sure.push(payload),
            None => {
                unsure.push(payload);
                m.cut(s, broker).await;
                broker = m.open();
                s = session(&broker);
                cut = 1 + (cut * 7 + seed) % 23;
                m.machine.cut_after(cut);
            }
        }
    }
    m.cut(s, broker).await;
    let broker = m.open();
    let s = session(&broker);
    let t = Arc::clone(&broker.catalogue().by_name[&(Namespace::DEFAULT, "t".to_owned())]);
    let texts = |all: Vec<Message>| -> Vec<String> {
        all.iter().map(|m| String::from_utf8(m.payload.clone().unwrap().to_vec()).unwrap()).collect()
    };
    let mut records = texts(read(&s, &t).await);
    for name in ["all", "ids"] {
        let info = until(&s, name, |i| i.lag == 0).await;
        assert_eq!(info.passed as usize, records.len(), "seed {seed}: {name}'s own count");
    }
    let (mut all, mut once) = (payloads(&drain(&s, "q").await), payloads(&drain(&s, "once").await));
    for list in [&mut records, &mut all, &mut once] {
        list.sort();
    }
    assert_eq!(all, records, "seed {seed}: what every record goes to");
    assert!(sure.iter().all(|p| all.contains(p)));
    all.dedup();
    assert_eq!(once, all, "seed {seed}: what each id goes to once");
    close(broker).await;
    m.cuts
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_bridges_over_one_topic_each_passes_all_on_and_ids_that_come_again_are_taken_once_whenever_the_power_goes()
 {
    let mut cuts = 0;
    for seed in 0..40 {
        cuts += two_through_power_cuts(seed).await;
    }
    assert!(cuts > 80, "{cuts} power cuts");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_topic_each_record_arrives_once_whenever_the_power_goes() {
    let mut cuts = 0;
    for seed in 0..60 {
        cuts += through_power_cuts(seed, false).await;
    }
    assert!(cuts > 120, "{cuts} power cuts");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_queue_each_message_arrives_once_whenever_the_power_goes() {
    let mut cuts = 0;
    for seed in 0..60 {
        cuts += through_power_cuts(seed, true).await;
    }
    assert!(cuts > 120, "{cuts} power cuts");
}
