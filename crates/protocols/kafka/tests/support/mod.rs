//! A listener over a log in memory, and a client that says exactly what the test wants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use millstream_broker::{Broker, BrokerConfig};
use millstream_kafka::{KafkaConfig, Observer};
use millstream_testkit::env::Env;
use millstream_testkit::log::mem::{Commit, MemLog};
use millstream_types::Lsn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Counts connections.
#[derive(Default)]
pub struct Counts {
    pub opened: AtomicUsize,
    pub closed: AtomicUsize,
    pub refused: AtomicUsize,
}

impl Observer for Counts {
    fn connection_opened(&self) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }
    fn connection_closed(&self) {
        self.closed.fetch_add(1, Ordering::SeqCst);
    }
    fn connection_refused(&self) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
}

pub struct Server {
    env: Env,
    pub log: MemLog,
    pub broker: Broker,
    pub counts: Arc<Counts>,
    pub address: std::net::SocketAddr,
    pub stop: Option<oneshot::Sender<()>>,
    pub serving: JoinHandle<()>,
}

impl Server {
    pub async fn start(commit: Commit, change: impl FnOnce(&mut KafkaConfig)) -> Self {
        Self::open(Env::sim(7).0, MemLog::new(commit), change).await
    }

    async fn open(env: Env, log: MemLog, change: impl FnOnce(&mut KafkaConfig)) -> Self {
        let broker = Broker::open(BrokerConfig::default(), env.clone(), &log).unwrap();
        let counts = Arc::new(Counts::default());
        let mut cfg = KafkaConfig { observer: Arc::clone(&counts) as _, ..KafkaConfig::default() };
        change(&mut cfg);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let serving = tokio::spawn(millstream_kafka::serve(listener, broker.clone(), cfg, shutdown));
        Self { env, log, broker, counts, address, stop: Some(stop), serving }
    }

    /// Stops, and serves the same log again.
    pub async fn restart(mut self) -> Self {
        drop(self.stop.take());
        self.serving.await.unwrap();
        let broker = self.broker;
        tokio::task::spawn_blocking(move || broker.close()).await.unwrap();
        Self::open(self.env, self.log, |_| {}).await
    }

    pub async fn client(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), next: 0 }
    }

    /// Makes everything durable that is sequenced, again and again, until `work` is done.
    pub async fn committing<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = tick.tick() => self.log.commit_to(Lsn(u64::MAX)),
            }
        }
    }

    /// Makes a topic with one partition.
    pub async fn topic(&self, name: &'static str) {
        let mut client = self.client().await;
        self.committing(client.call(7, &create(name))).await;
    }

    pub async fn sequenced(&self, lsn: u64) {
        until(|| self.broker.marks().sequenced >= Lsn(lsn)).await;
    }
}

/// Waits for a condition.
pub async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await; // tidy: pacing
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("not within 20 s");
}

pub struct Client {
    pub stream: TcpStream,
    next: i32,
}

impl Client {
    pub fn frame<R: Request>(&mut self, version: i16, request: &R) -> Bytes {
        self.next += 1;
        let mut body = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.next)
            .with_client_id(Some(StrBytes::from_static_str("test")));
        header.encode(&mut body, R::header_version(version)).unwrap();
        request.encode(&mut body, version).unwrap();
        let mut frame = BytesMut::new();
        frame.put_i32(body.len() as i32);
        frame.put(body);
        frame.freeze()
    }

    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let frame = self.frame(version, request);
        self.stream.write_all(&frame).await.unwrap();
        self.next
    }

    /// The next frame; `None` if the broker closed the connection.
    pub async fn frame_back(&mut self) -> Option<Bytes> {
        let reading = async {
            let length = self.stream.read_i32().await.ok()?;
            let mut frame = vec![0; length as usize];
            self.stream.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("no answer within 20 s")
    }

    /// The next response and its correlation id.
    pub async fn receive<T: Decodable + HeaderVersion>(&mut self, version: i16) -> (i32, T) {
        let mut frame = self.frame_back().await.expect("the connection was closed");
        let correlation = frame.get_i32();
        if T::header_version(version) >= 1 {
            assert_eq!(frame.get_u8(), 0, "tagged fields of the header");
        }
        let response = T::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "bytes left over");
        (correlation, response)
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request).await;
        let (got, response) = self.receive(version).await;
        assert_eq!(got, sent, "correlation id");
        response
    }
}

pub fn name(s: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(s))
}

pub fn create(topic: &'static str) -> CreateTopicsRequest {
    let topic =
        CreatableTopic::default().with_name(name(topic)).with_num_partitions(1).with_replication_factor(1);
    CreateTopicsRequest::default().with_topics(vec![topic])
}

/// A batch of one record.
pub fn batch(value: &[u8]) -> Bytes {
    let mut record = vec![0, 0, 0, 1];
    assert!(value.len() < 64, "one byte of varint");
    record.push(value.len() as u8 * 2);
    record.extend_from_slice(value);
    record.push(0);
    let mut tail = BytesMut::new();
    tail.put_u16(0);
    tail.put_i32(0);
    tail.put_i64(1);
    tail.put_i64(1);
    tail.put_i64(-1);
    tail.put_i16(-1);
    tail.put_i32(-1);
    tail.put_i32(1);
    tail.put_u8(record.len() as u8 * 2);
    tail.put_slice(&record);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &tail) as u32;
    let mut out = BytesMut::new();
    out.put_i64(0);
    out.put_i32(tail.len() as i32 + 9);
    out.put_i32(-1);
    out.put_u8(2);
    out.put_u32(crc);
    out.put(tail);
    out.freeze()
}

pub fn produce(topic: &'static str, acks: i16, value: &[u8]) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch(value)));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1_000).with_topic_data(vec![topic])
}

/// Error and base offset of the one partition.
pub fn produced(r: &ProduceResponse) -> (i16, i64) {
    let p = &r.responses[0].partition_responses[0];
    (p.error_code, p.base_offset)
}

pub fn fetch(topic: &'static str, offset: i64, max_wait_ms: i32) -> FetchRequest {
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// Error, high watermark and bytes of records of the one partition.
pub fn fetched(r: &FetchResponse) -> (i16, i64, usize) {
    let p = &r.responses[0].partitions[0];
    (p.error_code, p.high_watermark, p.records.as_ref().map_or(0, Bytes::len))
}
