//! A listener over a log in memory, with a clock that the test moves.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_aws::AwsConfig;
use millstream_broker::{Broker, BrokerConfig, Principal, Session, SessionOptions};
use millstream_testkit::env::Env;
use millstream_testkit::env::sim::SimClock;
use millstream_testkit::log::mem::{Commit, MemLog};
use millstream_types::Namespace;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub struct Server {
    pub broker: Broker,
    pub session: Session,
    pub clock: Arc<SimClock>,
    log: MemLog,
    env: Env,
    address: SocketAddr,
}

impl Server {
    pub async fn start() -> Self {
        let (env, _, clock) = Env::sim(7);
        Self::open(env, clock, MemLog::new(Commit::AtOnce)).await
    }

    async fn open(env: Env, clock: Arc<SimClock>, log: MemLog) -> Self {
        let broker = Broker::open(BrokerConfig::default(), env.clone(), &log).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let never = std::future::pending();
        tokio::spawn(millstream_aws::serve(listener, broker.clone(), AwsConfig::default(), never));
        let session = broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default());
        Self { broker, session, clock, log, env, address }
    }

    /// The broker closed and opened again.
    pub async fn again(self) -> Self {
        let Self { broker, session, clock, log, env, .. } = self;
        drop(session);
        tokio::task::spawn_blocking(move || broker.close()).await.unwrap();
        Self::open(env, clock, log).await
    }

    /// The answer to a request: status and body.
    pub async fn ask(&self, action: &str, body: &Value) -> (u16, Value) {
        self.ask_with(action, &body.to_string()).await
    }

    /// The same, of a request with any body.
    pub async fn ask_with(&self, action: &str, body: &str) -> (u16, Value) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Amz-Target: AmazonSQS.{action}\r\n\
             Content-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        // An answer without members may have no body.
        let body = if body.is_empty() { json!({}) } else { serde_json::from_str(body).unwrap() };
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    /// The answer to a request that is done.
    pub async fn done(&self, action: &str, body: Value) -> Value {
        let (status, answer) = self.ask(action, &body).await;
        assert_eq!(status, 200, "{action} {body}: {answer}");
        answer
    }

    pub async fn create(&self, name: &str, attributes: Value) {
        self.done("CreateQueue", json!({"QueueName": name, "Attributes": attributes})).await;
    }

    pub async fn receive(&self, name: &str, wait_s: u32) -> (u16, Value) {
        let all = json!({"QueueUrl": url(name), "WaitTimeSeconds": wait_s, "AttributeNames": ["All"]});
        self.ask("ReceiveMessage", &all).await
    }

    /// Messages ready and in flight.
    pub async fn counts(&self, name: &str) -> (u64, u64) {
        let def = self.session.queue(name).unwrap();
        let stats = self.session.queue_stats(def.id, false).await.unwrap().unwrap();
        (stats.ready.n, stats.leased.n + stats.held.n)
    }

    /// Waits until the counts of a queue are these.
    pub async fn until(&self, name: &str, counts: (u64, u64)) {
        let so = async {
            while self.counts(name).await != counts {
                tokio::task::yield_now().await;
            }
        };
        let so = tokio::time::timeout(Duration::from_secs(30), so).await;
        assert!(so.is_ok(), "{name}: {:?}, not {counts:?}", self.counts(name).await);
    }
}

pub fn url(name: &str) -> String {
    format!("http://localhost/000000000000/{name}")
}
