#![allow(clippy::pedantic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
//! Two workers at one bridge, which no caller brings about: of each of their steps one counts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_log::mem::{Commit, MemLog};
use millstream_types::Namespace;
use serde_json::json;

use super::*;
use crate::bridge::BridgeDef;
use crate::config::BrokerConfig;
use crate::envelope::Message;
use crate::publish::NewMessage;
use crate::queues::NewQueue;
use crate::tasks::NewTask;
use crate::{NewTopic, Principal};

const MESSAGES: u64 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_at_one_bridge_one_goes_on_and_each_message_is_passed_on_once() {
    let (env, ..) = millstream_env::Env::sim(3);
    let broker = Broker::open(BrokerConfig::default(), env, &MemLog::new(Commit::AtOnce)).unwrap();
    let s = broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default());
    let new = NewTopic { name: "t".to_owned(), partitions: Some(1), ..NewTopic::default() };
    s.create_topic(new).await.unwrap();
    let queue = s.declare_queue(NewQueue::named("q")).await.unwrap().def;
    let def = BridgeDef::parse(&json!({"source": {"topic": "t"}, "target": {"queue": "q"}})).unwrap();
    let (definition, cursors) = (def.encode(), Vec::new());
    let new = NewTask { kind: BRIDGE, name: "b".to_owned(), definition, cursors, state: TaskState::Running };
    let task = s.create_task(new).await.unwrap();
    let one = |n: u64| {
        let payload = Some(Bytes::from(n.to_string()));
        let message = Message { routing_key: "t".to_owned(), payload, ..Message::default() };
        NewMessage { message, ..NewMessage::default() }
    };
    // Some are there before the twins begin, so that both begin at the same place.
    let publish = async |from: u64, to: u64| {
        for n in from..to {
            s.publish(vec![one(n)]).await.unwrap().await.unwrap().remove(0).unwrap();
        }
    };
    publish(0, 10).await;
    let mut twins = tokio::task::JoinSet::new();
    for _ in 0..2 {
        twins.spawn(run(broker.clone(), task.clone(), Arc::default()));
    }
    publish(10, MESSAGES).await;
    let all = async {
        loop {
            let tasks = s.tasks(&TaskQuery { kind: Some(BRIDGE), ..TaskQuery::default() }).await.unwrap();
            if tasks[0].row.counters[counter::PASSED] >= MESSAGES {
                return tasks[0].row.counters[counter::PASSED];
            }
            tokio::task::yield_now().await;
        }
    };
    let passed = tokio::time::timeout(Duration::from_secs(60), all).await.expect("all are passed on");
    let stats = s.queue_stats(queue.id, false).await.unwrap().unwrap();
    assert_eq!((passed, stats.appended.n), (MESSAGES, MESSAGES));
    // One of them ended, whose step was the other's; that one waits for more.
    tokio::time::timeout(Duration::from_secs(60), twins.join_next())
        .await
        .expect("one ends")
        .unwrap()
        .unwrap();
    assert!(twins.try_join_next().is_none() && twins.len() == 1);
}
