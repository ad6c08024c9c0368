//! What test programs of the broker's API share: a broker over a log in memory, messages, queues, topics, and records as Kafka's producers pack
//! them.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Write as _;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use millstream_broker::queue::api::{Delivery, QueueDef, Receive, Verb};
use millstream_broker::{
    AppendItem, AppendKind, BatchMeta, Broker, BrokerConfig, Message, NewMessage, NewQueue, NewTopic,
    Principal, QueueMessage, Session, SessionOptions, Topic, settle_item,
};
use millstream_env::Env;
use millstream_env::sim::SimClock;
use millstream_log::mem::{Commit, MemLog};
use millstream_types::Namespace;

/// Where a broker is opened, and opened again.
pub struct Place {
    pub log: MemLog,
    pub env: Env,
    pub clock: Arc<SimClock>,
}

impl Place {
    pub fn new(seed: u64) -> Self {
        let (env, _, clock) = Env::sim(seed);
        Self { log: MemLog::new(Commit::AtOnce), env, clock }
    }
    pub fn open(&self) -> Broker {
        Broker::open(BrokerConfig::default(), self.env.clone(), &self.log).unwrap()
    }
}

pub fn session(b: &Broker) -> Session {
    b.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default())
}

pub async fn close(broker: Broker) {
    tokio::task::spawn_blocking(move || broker.close()).await.unwrap();
}

pub fn text(key: &str, payload: &str) -> NewMessage {
    let payload = Some(Bytes::copy_from_slice(payload.as_bytes()));
    let message = Message { routing_key: key.to_owned(), payload, ..Message::default() };
    NewMessage { message, ..NewMessage::default() }
}

pub async fn queue(s: &Session, name: &str) -> Arc<QueueDef> {
    s.declare_queue(NewQueue::named(name)).await.unwrap().def
}

pub async fn topic(s: &Session, name: &str, partitions: u32) -> Arc<Topic> {
    let new = NewTopic { name: name.to_owned(), partitions: Some(partitions), ..NewTopic::default() };
    s.create_topic(new).await.unwrap()
}

/// A receive of so many messages that are there now.
pub fn now(def: &QueueDef, max: u32) -> Receive {
    Receive { bytes_max: 1 << 20, ..Receive::now(def.id, max) }
}

/// Up to ten messages that are there now.
pub async fn get(s: &Session, def: &QueueDef) -> Vec<Delivery> {
    s.receive(now(def, 10)).unwrap().await.unwrap().unwrap()
}

pub async fn settle(s: &Session, of: &[Delivery], verb: Verb) {
    let items = of.iter().map(|d| settle_item(d, verb)).collect();
    assert_eq!(s.settle(items).await.unwrap().await.unwrap(), []);
}

pub async fn ready(s: &Session, def: &QueueDef) -> u64 {
    s.queue_stats(def.id, false).await.unwrap().unwrap().ready.n
}

/// All that is in a queue now, acknowledged.
pub async fn drain(s: &Session, def: &QueueDef) -> Vec<QueueMessage> {
    let mut all = Vec::new();
    loop {
        let got = s.receive(now(def, 100)).unwrap().await.unwrap().unwrap();
        if got.is_empty() {
            return all;
        }
        all.extend(s.broker().read_bodies(&got).await.into_iter().map(Result::unwrap));
        settle(s, &got, Verb::Ack).await;
    }
}

pub fn payloads(all: &[QueueMessage]) -> Vec<String> {
    all.iter().map(|m| String::from_utf8(m.message.payload.clone().unwrap().to_vec()).unwrap()).collect()
}

fn put(out: &mut BytesMut, n: i64) {
    let mut v = ((n << 1) ^ (n >> 63)) as u64;
    while v >= 0x80 {
        out.put_u8(v as u8 | 0x80);
        v >>= 7;
    }
    out.put_u8(v as u8);
}

/// Records as a producer packs them, with the key `k`, a header `h` = `x`, and timestamps from 1000 on, so far apart.
pub fn batch(values: &[impl AsRef<str>], apart_ms: i64, gzip: bool) -> Bytes {
    let mut records = BytesMut::new();
    for (i, value) in values.iter().enumerate() {
        let value = value.as_ref();
        let mut r = BytesMut::new();
        r.put_u8(0);
        put(&mut r, i as i64 * apart_ms);
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
    out.put_i64(1_000 + (i64::from(n) - 1) * apart_ms);
    out.put_i64(-1);
    out.put_i16(-1);
    out.put_i32(-1);
    out.put_i32(n);
    out.put_slice(&records);
    out.freeze()
}

/// What an append says of a batch of so many records.
pub fn packed(n: u32) -> AppendKind {
    AppendKind::Batch(BatchMeta { producer: -1, epoch: -1, first_seq: -1, records: n, flags: 0 })
}

/// Appends a batch of so many records to a partition.
pub async fn append(s: &Session, topic: &Topic, partition: usize, body: Bytes, n: u32) {
    let part = topic.partitions[partition].log;
    let item = AppendItem { part, kind: packed(n), count: n, max_ts_ms: 1_000, body: vec![body] };
    s.append(vec![item]).await.unwrap().remove(0).unwrap();
}
