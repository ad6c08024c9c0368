//! The broker over a log in memory: what is answered can be read, and what is not durable is not answered.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

/// The example that the documentation shows.
#[allow(dead_code, clippy::unused_async)]
#[path = "../examples/embedded.rs"]
mod embedded;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::{
    AppendItem, AppendKind, Broker, BrokerConfig, CallError, Content, Message, NewTopic, PartitionView,
    Principal, Refused, SessionOptions,
};
use millstream_env::Env;
use millstream_log::mem::{Commit, MemLog};
use millstream_log::{DiskLog, LogConfig, ReadError};
use millstream_types::Namespace;

fn open(log: &MemLog, env: &Env) -> Broker {
    Broker::open(BrokerConfig::default(), env.clone(), log).unwrap()
}

fn session(b: &Broker) -> millstream_broker::Session {
    b.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default())
}

fn single(part: millstream_types::LogId, text: &str) -> AppendItem {
    let m = Message { payload: Some(Bytes::copy_from_slice(text.as_bytes())), ..Message::default() };
    let envelope = m.encode_envelope().unwrap();
    let kind = AppendKind::Single { envelope_len: u32::try_from(envelope.len()).unwrap() };
    AppendItem { part, kind, count: 1, max_ts_ms: 5, body: vec![envelope, m.payload.unwrap()] }
}

fn topic(name: &str) -> NewTopic {
    NewTopic { name: name.to_owned(), partitions: Some(2), ..NewTopic::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_read_as_soon_as_its_append_is_answered() {
    let (env, ..) = Env::sim(1);
    let broker = open(&MemLog::new(Commit::AtOnce), &env);
    let s = session(&broker);
    let topic = s.create_topic(topic("orders")).await.unwrap();
    let part = Arc::clone(&topic.partitions[1]);
    for i in 0..3u64 {
        let placed = s.append(vec![single(part.log, &format!("m{i}"))]).await.unwrap();
        assert_eq!(placed[0].as_ref().unwrap().base, i);
        let batch = broker.streams().fetch(&part, i, 1 << 20).await.unwrap();
        let Content::Single { message, .. } = &batch.entries[0].content else {
            panic!("not a single message")
        };
        assert_eq!(message.payload.as_deref(), Some(format!("m{i}").as_bytes()));
    }
    tokio::task::spawn_blocking(move || broker.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_or_read_before_it_is_durable_and_a_waiting_reader_is_woken_by_it() {
    let (env, ..) = Env::sim(2);
    let log = MemLog::new(Commit::AtOnce);
    let broker = open(&log, &env);
    let part = Arc::clone(&session(&broker).create_topic(topic("t")).await.unwrap().partitions[0]);
    let close = broker.clone();
    tokio::task::spawn_blocking(move || close.close()).await.unwrap();

    let by_hand = log.with_commit(Commit::ByHand);
    let broker = open(&by_hand, &env);
    let part = Arc::clone(&broker.catalogue().by_log[&part.log].0.partitions[0]);
    let s = session(&broker);
    let items = vec![single(part.log, "x")];
    let permit = s.admit(millstream_broker::Class::Publish, 1000).await.unwrap();
    let mut answer = s.submit(Some(permit), millstream_broker::Op::Append(items));
    let waiting = {
        let (broker, part) = (broker.clone(), Arc::clone(&part));
        tokio::spawn(async move {
            let far = tokio::time::Instant::now() + Duration::from_secs(600);
            broker.streams().wait(&[(part, 0)], far).await;
        })
    };
    while broker.marks().sequenced == broker.marks().durable {
        tokio::task::yield_now().await;
    }
    assert_eq!(part.visible_end(), 0);
    assert!(broker.streams().fetch(&part, 0, 100).await.unwrap().entries.is_empty());
    assert!(futures_poll_once(&mut answer).await.is_none());
    by_hand.commit_to(broker.marks().sequenced);
    answer.await;
    waiting.await.unwrap();
    assert_eq!(part.visible_end(), 1);
    tokio::task::spawn_blocking(move || broker.close()).await.unwrap();
}

/// A task that counts its wake-ups, and the partitions that the first of them found as they were before.
struct Woken {
    parts: Vec<Arc<PartitionView>>,
    times: AtomicUsize,
    still_empty: AtomicUsize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        if self.times.fetch_add(1, Ordering::SeqCst) == 0 {
            let empty = self.parts.iter().filter(|p| p.visible_end() == 0).count();
            self.still_empty.store(empty, Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_to_many_partitions_wakes_a_reader_of_all_of_them_once_and_shows_it_the_whole() {
    let (env, ..) = Env::sim(5);
    let log = MemLog::new(Commit::AtOnce);
    let broker = open(&log, &env);
    let wide = NewTopic { partitions: Some(500), ..topic("wide") };
    session(&broker).create_topic(wide).await.unwrap();
    let close = broker.clone();
    tokio::task::spawn_blocking(move || close.close()).await.unwrap();

    let by_hand = log.with_commit(Commit::ByHand);
    let broker = open(&by_hand, &env);
    let topic = Arc::clone(&broker.catalogue().by_name[&(Namespace::DEFAULT, "wide".to_owned())]);
    let waits: Vec<_> = topic.partitions.iter().map(|p| (Arc::clone(p), 0)).collect();
    let task = Arc::new(Woken {
        parts: topic.partitions.clone(),
        times: AtomicUsize::new(0),
        still_empty: AtomicUsize::new(usize::MAX),
    });
    let waker = Waker::from(Arc::clone(&task));
    let far = tokio::time::Instant::now() + Duration::from_secs(600);
    let streams = broker.streams().clone();
    let mut waiting = std::pin::pin!(streams.wait(&waits, far));
    assert_eq!(waiting.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Pending);

    let s = session(&broker);
    let permit = s.admit(millstream_broker::Class::Publish, 1 << 20).await.unwrap();
    let items = topic.partitions.iter().map(|p| single(p.log, "x")).collect();
    let answer = s.submit(Some(permit), millstream_broker::Op::Append(items));
    while broker.marks().sequenced == broker.marks().durable {
        tokio::task::yield_now().await;
    }
    assert_eq!(task.times.load(Ordering::SeqCst), 0, "nothing of it is durable yet");
    by_hand.commit_to(broker.marks().sequenced);
    // Whoever waits for an answer is woken after the readers.
    answer.await;
    assert_eq!(task.times.load(Ordering::SeqCst), 1, "one wake-up for all partitions");
    assert_eq!(task.still_empty.load(Ordering::SeqCst), 0, "one read finds all of them");
    assert_eq!(waiting.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(()));
    assert_eq!(task.times.load(Ordering::SeqCst), 1);
    tokio::task::spawn_blocking(move || broker.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_log_is_lost_an_unanswered_append_has_an_unknown_fate_and_later_ones_are_refused() {
    let (env, ..) = Env::sim(3);
    let log = MemLog::new(Commit::AtOnce);
    let broker = open(&log, &env);
    let part = session(&broker).create_topic(topic("t")).await.unwrap().partitions[0].log;
    tokio::task::spawn_blocking(move || broker.close()).await.unwrap();

    let by_hand = log.with_commit(Commit::ByHand);
    let broker = open(&by_hand, &env);
    let s = session(&broker);
    let permit = s.admit(millstream_broker::Class::Publish, 1000).await.unwrap();
    let answer = s.submit(Some(permit), millstream_broker::Op::Append(vec![single(part, "x")]));
    while broker.marks().sequenced == broker.marks().durable {
        tokio::task::yield_now().await;
    }
    by_hand.lose("a test");
    assert!(matches!(answer.await, millstream_broker::Reply::FateUnknown));
    assert_eq!(s.append(vec![single(part, "y")]).await, Err(CallError::Refused(Refused::Closed)));
    assert!(broker.lost().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_can_be_opened_again_as_soon_as_its_broker_is_closed_whoever_still_reads() {
    let (env, ..) = Env::sim(4);
    let nothing_in_memory = LogConfig { tail_bytes: 0, ..LogConfig::default() };
    let cfg = BrokerConfig { log: nothing_in_memory, ..BrokerConfig::default() };
    let mut readers = Vec::new();
    for round in 0..10u64 {
        let broker = Broker::open(cfg.clone(), env.clone(), &DiskLog::new(env.clone())).unwrap();
        let s = session(&broker);
        let part = match broker.catalogue().by_name.get(&(Namespace::DEFAULT, "t".to_owned())) {
            Some(topic) => Arc::clone(&topic.partitions[0]),
            None => Arc::clone(&s.create_topic(topic("t")).await.unwrap().partitions[0]),
        };
        s.append(vec![single(part.log, &format!("m{round}"))]).await.unwrap()[0].as_ref().unwrap();
        let reading = broker.clone();
        readers.push(tokio::spawn(async move {
            let mut reads = 0;
            loop {
                match reading.streams().fetch(&part, 0, 1 << 20).await {
                    Ok(batch) => reads += batch.entries.len().min(1),
                    Err(e) => break (e, reads),
                }
                tokio::task::yield_now().await;
            }
        }));
        tokio::task::spawn_blocking(move || broker.close()).await.unwrap();
    }
    for reader in readers {
        assert_eq!(reader.await.unwrap().0, ReadError::Closed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_embedding_bills_each_order_once_and_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    for runs in 1..=3 {
        assert_eq!(embedded::run(directory.path()).await.unwrap(), 2 * runs);
    }
}

async fn futures_poll_once<F: Future + Unpin>(f: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|cx| match std::pin::Pin::new(&mut *f).poll(cx) {
        std::task::Poll::Ready(v) => std::task::Poll::Ready(Some(v)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
