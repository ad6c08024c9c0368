//! A listener over a log in memory, and a client that says exactly what the test wants.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use amq_protocol::types::{AMQPValue, FieldTable};
use bytes::{BufMut, BytesMut};
use millstream_amqp::AmqpConfig;
use millstream_amqp::frame::{self, Frame, FrameKind};
use millstream_amqp::method;
use millstream_amqp::methods::{AMQPClass, basic, channel, confirm, connection, queue};
use millstream_amqp::properties::ContentHeader;
use millstream_broker::{Broker, BrokerConfig};
use millstream_testkit::env::Env;
use millstream_testkit::log::mem::{Commit, MemLog};
use millstream_types::Lsn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const FRAME_MAX: u32 = 131_072;

pub struct Server {
    pub log: MemLog,
    pub broker: Broker,
    pub address: std::net::SocketAddr,
    pub stop: Option<oneshot::Sender<()>>,
    pub serving: JoinHandle<()>,
}

impl Server {
    pub async fn start(commit: Commit) -> Self {
        Self::start_with(commit, AmqpConfig::default()).await
    }

    pub async fn start_with(commit: Commit, cfg: AmqpConfig) -> Self {
        Self::start_on(std::net::Ipv4Addr::LOCALHOST.into(), commit, cfg).await
    }

    pub async fn start_on(ip: std::net::IpAddr, commit: Commit, cfg: AmqpConfig) -> Self {
        let (env, ..) = Env::sim(7);
        let log = MemLog::new(commit);
        let broker = Broker::open(BrokerConfig::default(), env, &log).unwrap();
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let serving = tokio::spawn(millstream_amqp::serve(listener, broker.clone(), cfg, shutdown));
        Self { log, broker, address, stop: Some(stop), serving }
    }

    /// A client that has said nothing.
    pub async fn stranger(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), read: BytesMut::new() }
    }

    /// A client with channel 1 open.
    pub async fn client(&self) -> Client {
        let mut client = self.stranger().await;
        client.open().await;
        client.open_channel(1).await;
        client
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

    /// Waits until something was sequenced behind `lsn`.
    pub async fn sequenced_behind(&self, lsn: Lsn) {
        let waiting = async {
            while self.broker.marks().sequenced <= lsn {
                tokio::time::sleep(Duration::from_millis(1)).await; // tidy: pacing
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("not within 20 s");
    }
}

pub struct Client {
    pub stream: TcpStream,
    read: BytesMut,
}

impl Client {
    async fn open(&mut self) {
        self.open_with_heartbeat(0).await;
    }

    /// Gets in, with heartbeats each so many seconds; 0 = none.
    pub async fn open_with_heartbeat(&mut self, heartbeat: u16) {
        use connection::AMQPMethod as M;
        let told = self.log_in("guest", "guest", false).await;
        assert!(matches!(told, Some(AMQPClass::Connection(M::Tune(_)))));
        let told = self.enter_with_heartbeat(heartbeat).await;
        assert!(matches!(told, AMQPClass::Connection(M::OpenOk(_))));
    }

    /// Says who it is; gives the answer, `None` if there is none but the end.
    pub async fn log_in(&mut self, user: &str, password: &str, hears_refusal: bool) -> Option<AMQPClass> {
        use connection::AMQPMethod as M;
        self.stream.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
        assert!(matches!(self.method().await.1, AMQPClass::Connection(M::Start(_))));
        let mut capabilities = FieldTable::default();
        capabilities.insert("authentication_failure_close".into(), AMQPValue::Boolean(hears_refusal));
        capabilities.insert("connection.blocked".into(), AMQPValue::Boolean(true));
        let mut client_properties = FieldTable::default();
        client_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
        let response = format!("\0{user}\0{password}");
        let ok = connection::StartOk {
            client_properties,
            mechanism: "PLAIN".into(),
            response: response.as_str().into(),
            locale: "en_US".into(),
        };
        self.send(0, AMQPClass::Connection(M::StartOk(ok))).await;
        self.frame().await.map(|f| method::decode(&f.payload).unwrap().class)
    }

    /// Enters the virtual host; gives the answer.
    pub async fn enter(&mut self) -> AMQPClass {
        self.enter_with_heartbeat(0).await
    }

    async fn enter_with_heartbeat(&mut self, heartbeat: u16) -> AMQPClass {
        use connection::AMQPMethod as M;
        let ok = connection::TuneOk { channel_max: 2_047, frame_max: FRAME_MAX, heartbeat };
        self.send(0, AMQPClass::Connection(M::TuneOk(ok))).await;
        self.send(0, AMQPClass::Connection(M::Open(connection::Open { virtual_host: "/".into() }))).await;
        self.method().await.1
    }

    /// Opens a channel.
    pub async fn open_channel(&mut self, number: u16) {
        self.send(number, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))).await;
        assert!(matches!(self.method().await.1, AMQPClass::Channel(channel::AMQPMethod::OpenOk(_))));
    }

    /// Waits for the end of a channel, and answers it; gives code and text.
    pub async fn channel_closed(&mut self) -> (u16, String) {
        let (number, AMQPClass::Channel(channel::AMQPMethod::Close(close))) = self.method().await else {
            panic!("the channel goes on")
        };
        self.send(number, AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))).await;
        (close.reply_code, close.reply_text.to_string())
    }

    pub async fn send(&mut self, channel: u16, class: AMQPClass) {
        let mut out = BytesMut::new();
        frame::put(&mut out, FrameKind::Method, channel, |out| method::encode(out, &class));
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next frame; `None` at the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        let reading = async {
            loop {
                if let Some(frame) = frame::take(&mut self.read, FRAME_MAX).unwrap() {
                    return Some(frame);
                }
                if self.stream.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), reading).await.expect("nothing within 20 s")
    }

    pub async fn method(&mut self) -> (u16, AMQPClass) {
        let frame = self.frame().await.expect("the connection is open");
        assert_eq!(frame.kind, FrameKind::Method);
        (frame.channel, method::decode(&frame.payload).unwrap().class)
    }

    /// Fails if something comes within a moment.
    pub async fn hears_nothing(&mut self, why: &str) {
        let mut byte = [0];
        let early = tokio::time::timeout(Duration::from_millis(50), self.stream.peek(&mut byte)).await;
        assert!(early.is_err() && self.read.is_empty(), "{why}");
    }

    pub async fn declare(&mut self, name: &str) {
        let declare = queue::Declare {
            queue: name.into(),
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: Default::default(),
        };
        self.send(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare))).await;
    }

    pub async fn select_confirms(&mut self) {
        let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
        self.send(1, AMQPClass::Confirm(select)).await;
        assert!(matches!(self.method().await.1, AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(_))));
    }

    pub async fn publish(&mut self, queue: &str, body: &[u8]) {
        let publish = basic::Publish {
            exchange: "".into(),
            routing_key: queue.into(),
            mandatory: false,
            immediate: false,
        };
        let header = ContentHeader { body_bytes: body.len() as u64, ..ContentHeader::default() };
        let mut out = BytesMut::new();
        let class = AMQPClass::Basic(basic::AMQPMethod::Publish(publish));
        frame::put(&mut out, FrameKind::Method, 1, |out| method::encode(out, &class));
        frame::put(&mut out, FrameKind::Header, 1, |out| header.encode(out).unwrap());
        frame::put(&mut out, FrameKind::Body, 1, |out| out.put_slice(body));
        self.stream.write_all(&out).await.unwrap();
    }

    /// Gets a message, and gives its tag.
    pub async fn get(&mut self, queue: &str) -> u64 {
        let get = basic::Get { queue: queue.into(), no_ack: false };
        self.send(1, AMQPClass::Basic(basic::AMQPMethod::Get(get))).await;
        let AMQPClass::Basic(basic::AMQPMethod::GetOk(ok)) = self.method().await.1 else {
            panic!("no message")
        };
        assert_eq!(self.frame().await.unwrap().kind, FrameKind::Header);
        assert_eq!(self.frame().await.unwrap().kind, FrameKind::Body);
        ok.delivery_tag
    }

    /// Fails if there is a message.
    pub async fn get_nothing(&mut self, queue: &str) {
        let get = basic::Get { queue: queue.into(), no_ack: false };
        self.send(1, AMQPClass::Basic(basic::AMQPMethod::Get(get))).await;
        assert!(matches!(self.method().await.1, AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_))));
    }

    pub async fn ack(&mut self, delivery_tag: u64) {
        let ack = basic::Ack { delivery_tag, multiple: false };
        self.send(1, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))).await;
    }
}
