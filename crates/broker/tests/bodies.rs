//! Bodies of deliveries, read while something else happens to their queues: over a log in memory whose reads a test can hold back.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use millstream_broker::queue::api::{Delivery, LEASES_MAX, LeaseKind, QueueDef, Receive};
use millstream_broker::{
    AppendItem, AppendKind, Begin, BodyError, Broker, BrokerConfig, Message, NewMessage, NewQueue, NewTopic,
    Principal, QueueMessage, Session, SessionOptions, Subscription,
};
use millstream_env::Env;
use millstream_log::mem::{Commit, MemLog};
use millstream_log::{
    Bounds, BoxFuture, Extent, Head, Level, Limits, LogConfig, LogStore, OpenError, Opened, ReadError,
    ReadOutcome, Reader, Replay,
};
use millstream_types::{LogId, Namespace};
use tokio::sync::Semaphore;

/// A log whose [`Reader::get`] is answered later, while it is held.
struct HeldLog {
    log: MemLog,
    hold: Arc<Hold>,
}

struct Hold {
    held: AtomicBool,
    leave: Semaphore,
}

impl LogStore for HeldLog {
    fn open(&self, cfg: &LogConfig, replay: &mut dyn Replay) -> Result<Opened, OpenError> {
        let opened = self.log.open(cfg, replay)?;
        let reader = HeldReader { reader: Arc::clone(&opened.reader), hold: Arc::clone(&self.hold) };
        Ok(Opened { reader: Arc::new(reader), ..opened })
    }
}

struct HeldReader {
    reader: Arc<dyn Reader>,
    hold: Arc<Hold>,
}

impl Reader for HeldReader {
    fn read(&self, log: LogId, from: u64, lim: Limits, level: Level) -> ReadOutcome {
        self.reader.read(log, from, lim, level)
    }
    fn get(&self, log: LogId, positions: &[u64]) -> ReadOutcome {
        if !self.hold.held.load(Ordering::SeqCst) {
            return self.reader.get(log, positions);
        }
        let (reader, hold, positions) =
            (Arc::clone(&self.reader), Arc::clone(&self.hold), positions.to_vec());
        ReadOutcome::Cold(Box::pin(async move {
            hold.leave.acquire().await.unwrap().forget();
            match reader.get(log, &positions) {
                ReadOutcome::Ready(read) => read,
                ReadOutcome::Cold(read) => read.await,
            }
        }))
    }
    fn heads(
        &self,
        log: LogId,
        from: u64,
        lim: Limits,
        level: Level,
    ) -> BoxFuture<Result<Vec<Head>, ReadError>> {
        self.reader.heads(log, from, lim, level)
    }
    fn by_time(
        &self,
        log: LogId,
        from: u64,
        ts_ms: i64,
        level: Level,
    ) -> BoxFuture<Result<Option<Head>, ReadError>> {
        self.reader.by_time(log, from, ts_ms, level)
    }
    fn bounds(&self, log: LogId) -> Bounds {
        self.reader.bounds(log)
    }
    fn extents(&self, log: LogId, from: u64, max: usize) -> BoxFuture<Result<Vec<Extent>, ReadError>> {
        self.reader.extents(log, from, max)
    }
    fn close(&self) {
        self.reader.close();
    }
}

fn record(part: LogId, payload: &str) -> AppendItem {
    let message = Message { payload: Some(Bytes::copy_from_slice(payload.as_bytes())), ..Message::default() };
    let envelope = message.encode_envelope().unwrap();
    let kind = AppendKind::Single { envelope_len: u32::try_from(envelope.len()).unwrap() };
    AppendItem { part, kind, count: 1, max_ts_ms: 5, body: vec![envelope, message.payload.unwrap()] }
}

async fn publish(s: &Session, key: &str, payload: &str) {
    let payload = Some(Bytes::copy_from_slice(payload.as_bytes()));
    let message = Message { routing_key: key.to_owned(), payload, ..Message::default() };
    let message = NewMessage { message, ..NewMessage::default() };
    s.publish(vec![message]).await.unwrap().await.unwrap().remove(0).unwrap();
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
    let taken = s.receive(what).unwrap().await.unwrap().unwrap();
    assert_eq!(taken.len(), n as usize);
    taken
}

fn payload(read: &Result<QueueMessage, BodyError>) -> Option<&str> {
    let payload = read.as_ref().ok()?.message.payload.as_ref()?;
    Some(std::str::from_utf8(payload).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_delivery_gets_its_own_body_when_a_subscription_goes_while_bodies_are_read() {
    let hold = Arc::new(Hold { held: AtomicBool::new(false), leave: Semaphore::new(0) });
    let log = HeldLog { log: MemLog::new(Commit::AtOnce), hold: Arc::clone(&hold) };
    let broker = Broker::open(BrokerConfig::default(), Env::sim(1).0, &log).unwrap();
    let s = broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default());
    let topic = NewTopic { name: "t".to_owned(), partitions: Some(1), ..NewTopic::default() };
    let part = s.create_topic(topic).await.unwrap().partitions[0].log;
    let subscription = Subscription { topic: "t".to_owned(), from: Begin::Earliest, filter: None };
    let subscribed = NewQueue { subscription: Some(subscription), ..NewQueue::named("subscribed") };
    let subscribed = s.declare_queue(subscribed).await.unwrap().def;
    let own = s.declare_queue(NewQueue::named("own")).await.unwrap().def;
    for n in 0..2 {
        s.append(vec![record(part, &format!("topic {n}"))]).await.unwrap()[0].as_ref().unwrap();
        publish(&s, "own", &format!("own {n}")).await;
    }
    let (of_topic, of_own) = (take(&s, &subscribed, 2).await, take(&s, &own, 2).await);

    hold.held.store(true, Ordering::SeqCst);
    let asked = [of_topic[0], of_own[0], of_topic[1], of_own[1]];
    let readers = broker.clone();
    let mut reading = pin!(readers.read_bodies(&asked));
    let first = std::future::poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx).is_pending())).await;
    assert!(first, "what is held cannot be read yet");
    s.delete_queue(subscribed.id, false, false).await.unwrap();
    assert!(broker.queue(Namespace::DEFAULT, "subscribed").is_none());
    hold.leave.add_permits(1);

    let read = reading.await;
    let got: Vec<_> = read.iter().map(payload).collect();
    // What was read of the topic before is good still.
    assert_eq!(got, [Some("topic 0"), Some("own 0"), Some("topic 1"), Some("own 1")]);
    tokio::task::spawn_blocking(move || broker.close()).await.unwrap();
}
