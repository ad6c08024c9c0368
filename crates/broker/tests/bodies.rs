//! Bodies of deliveries, read while something else happens to their queues: over a log in memory whose reads a test can hold back.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use millstream_broker::{Begin, BodyError, Broker, BrokerConfig, NewQueue, QueueMessage, Subscription};
use millstream_env::Env;
use millstream_log::mem::{Commit, MemLog};
use millstream_log::{
    Bounds, BoxFuture, Extent, Head, Level, Limits, LogConfig, LogStore, OpenError, Opened, ReadError,
    ReadOutcome, Reader, Replay,
};
use millstream_types::{LogId, Namespace};
use support::{append, batch, close, get, queue, session, text, topic};
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

fn payload(read: &Result<QueueMessage, BodyError>) -> Option<&str> {
    let payload = read.as_ref().ok()?.message.payload.as_ref()?;
    Some(std::str::from_utf8(payload).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_delivery_gets_its_own_body_when_a_subscription_goes_while_bodies_are_read() {
    let hold = Arc::new(Hold { held: AtomicBool::new(false), leave: Semaphore::new(0) });
    let log = HeldLog { log: MemLog::new(Commit::AtOnce), hold: Arc::clone(&hold) };
    let broker = Broker::open(BrokerConfig::default(), Env::sim(1).0, &log).unwrap();
    let s = session(&broker);
    let topic = topic(&s, "t", 1).await;
    let subscription = Subscription { topic: "t".to_owned(), from: Begin::Earliest, filter: None };
    let subscribed = NewQueue { subscription: Some(subscription), ..NewQueue::named("subscribed") };
    let subscribed = s.declare_queue(subscribed).await.unwrap().def;
    let own = queue(&s, "own").await;
    append(&s, &topic, 0, batch(&["topic 0", "topic 1"], 1, false), 2).await;
    for payload in ["own 0", "own 1"] {
        s.publish(vec![text("own", payload)]).await.unwrap().await.unwrap().remove(0).unwrap();
    }
    let (of_topic, of_own) = (get(&s, &subscribed).await, get(&s, &own).await);

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
    close(broker).await;
}
