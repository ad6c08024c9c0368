//! The limit of messages in flight, at its real size: what a receive is told there.
#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use millstream_broker::queue::api::{Delivery, LeaseKind, RECEIVE_MAX, Receive, Verb};
use millstream_broker::{Message, NewMessage, settle_item};
use serde_json::{Value, json};
use support::Server;

/// As Amazon's documentation says.
const IN_FLIGHT_MAX: usize = 120_000;
const BATCH: usize = 500;

struct Crowd(Server);

impl Crowd {
    /// A queue with so many messages, each in a group of its own, as many in flight as may be.
    async fn crowded(&self, name: &str, attributes: Value, n: usize) -> Vec<Delivery> {
        self.0.create(name, attributes).await;
        let def = self.0.session.queue(name).unwrap();
        for first in (0..n).step_by(BATCH) {
            let one = |n: usize| NewMessage {
                message: Message {
                    routing_key: name.to_owned(),
                    key: Some(Bytes::from(n.to_string())),
                    payload: Some(Bytes::from_static(b"x")),
                    ..Message::default()
                },
                ..NewMessage::default()
            };
            let batch = (first..n.min(first + BATCH)).map(one).collect();
            let sent = self.0.session.send(&def, batch).await.unwrap();
            assert!(sent.iter().all(Result::is_ok));
        }
        let mut all = Vec::new();
        while all.len() < IN_FLIGHT_MAX {
            let what = Receive {
                wait_ms: 1_000,
                lease: LeaseKind::Timed { lease_ms: None, owned: false },
                leases_max: IN_FLIGHT_MAX,
                ..Receive::now(def.id, RECEIVE_MAX.min((IN_FLIGHT_MAX - all.len()) as u32))
            };
            let got = self.0.session.receive(what).unwrap().await.unwrap().unwrap();
            assert!(!got.is_empty(), "{} in flight", all.len());
            self.0.session.handed_over(&got);
            all.extend(got);
        }
        all
    }

    /// A long poll of a second, which passes meanwhile.
    async fn receive_in_vain(&self, name: &str) -> (u16, Value) {
        let passing = async {
            loop {
                self.0.clock.advance(Duration::from_millis(100));
                // The broker sees the time pass when something is asked of it.
                self.0.counts(name).await;
            }
        };
        tokio::select! {
            answer = self.0.receive(name, 1) => answer,
            () = passing => unreachable!("it ends with the answer"),
        }
    }

    async fn delete(&self, one: &Delivery) {
        let item = settle_item(one, Verb::AckLate);
        assert_eq!(self.0.session.settle(vec![item]).await.unwrap().await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_120_000_in_flight_a_standard_queue_is_over_its_limit_until_one_is_deleted() {
    let crowd = Crowd(Server::start().await);
    let got = crowd.crowded("standard", json!({}), IN_FLIGHT_MAX + 2).await;
    let server = &crowd.0;
    let (status, error) = server.receive("standard", 0).await;
    assert_eq!((status, &error["__type"]), (403, &json!("com.amazonaws.sqs#OverLimit")));
    assert!(error["message"].as_str().unwrap().contains("120000"), "{error}");
    // Who waits is not told.
    assert_eq!(crowd.receive_in_vain("standard").await, (200, json!({})));
    let (one, ()) = tokio::join!(server.receive("standard", 20), crowd.delete(&got[0]));
    assert!(one.0 == 200 && one.1["Messages"][0]["ReceiptHandle"].is_string(), "{one:?}");
    assert_eq!(server.receive("standard", 0).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_120_000_in_flight_a_fifo_queue_gives_nothing_more_and_says_nothing() {
    let crowd = Crowd(Server::start().await);
    let got = crowd.crowded("q.fifo", json!({"FifoQueue": "true"}), IN_FLIGHT_MAX + 1).await;
    let server = &crowd.0;
    assert_eq!(server.receive("q.fifo", 0).await, (200, json!({})));
    assert_eq!(crowd.receive_in_vain("q.fifo").await, (200, json!({})));
    crowd.delete(&got[0]).await;
    let one = server.receive("q.fifo", 0).await;
    assert!(one.0 == 200 && one.1["Messages"][0]["ReceiptHandle"].is_string(), "{one:?}");
}
