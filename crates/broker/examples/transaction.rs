//! One step across streams and queues: `cargo run -p millstream-broker --example transaction [DIRECTORY]`.
//!
//! Orders come in on a topic, and each needs a coupon, which is a message of a queue. For each order one step reads it, takes a coupon,
//! puts a job for the warehouse into a queue, notes it in the topic `audit`, and commits the group's offset. All of it is one record
//! in the log, so however often this program is killed, every order has one job, one note and one coupon. Give it a directory and run
//! it again: it goes on where it was.

use std::sync::Arc;

use bytes::Bytes;
use millstream_broker::group::{Commit, CommittedOffset, GroupOp, GroupReply, Who};
use millstream_broker::queue::api::{QueueDef, Receive, Verb};
use millstream_broker::{
    Broker, BrokerConfig, Content, Message, NewMessage, NewQueue, NewTopic, PartitionView, Principal,
    Session, SessionOptions, StreamEntry, Transaction, settle_item,
};
use millstream_env::Env;
use millstream_log::DiskLog;
use millstream_types::{LogId, Namespace};

type Error = Box<dyn std::error::Error>;

const GROUP: &str = "fulfilment";

#[tokio::main]
async fn main() -> Result<(), Error> {
    let temporary = tempfile::tempdir()?;
    let directory = std::env::args().nth(1).map_or_else(|| temporary.path().to_owned(), Into::into);
    let env = Env::os(&directory);
    env.disk.create_dir_all("")?;
    let log = DiskLog::new(env.clone());
    let broker = Broker::open(BrokerConfig::default(), env, &log)?;
    let session = broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default());

    let orders = partition(&session, "orders").await?;
    let audit = partition(&session, "audit").await?;
    let jobs = session.declare_queue(NewQueue::named("jobs")).await?.def;
    let coupons = session.declare_queue(NewQueue::named("coupons")).await?.def;

    // A topic and a queue are published to alike: by name, through the default exchange.
    let new = ["orders: two apples", "orders: a pear", "coupons: 10 %", "coupons: 20 %"];
    let batch = new.iter().filter_map(|line| line.split_once(": ")).map(|(to, text)| message(to, text));
    for outcome in session.publish(batch.collect()).await?.await? {
        assert_eq!(outcome?.accepted, 1);
    }

    let mut next = committed(&session, orders.log).await?.unwrap_or_else(|| orders.start());
    while next < orders.visible_end() {
        next = step(&broker, &session, &orders, next, &coupons).await?;
    }

    println!("{} jobs, {} notes", ready(&session, &jobs).await?, audit.visible_end());
    drop(session);
    tokio::task::spawn_blocking(move || broker.close()).await?;
    Ok(())
}

/// Handles the order at `next`; gives where to go on.
async fn step(
    broker: &Broker,
    session: &Session,
    orders: &Arc<PartitionView>,
    next: u64,
    coupons: &QueueDef,
) -> Result<u64, Error> {
    let batch = broker.streams().fetch(orders, next, 1).await?;
    let order = batch.entries.first().map(text).ok_or("an order")?;
    // Waits for a coupon. Until the step below it is only lent to this session.
    let one = Receive { wait_ms: 10_000, ..Receive::now(coupons.id, 1) };
    let lent = session.receive(one)?.await??;
    let coupon = lent.first().ok_or("no coupon in ten seconds")?;
    let tx = Transaction {
        publish: vec![message("jobs", &order), message("audit", &format!("{order}: a job was made"))],
        settle: vec![settle_item(coupon, Verb::Ack)],
        commit_offsets: vec![commit(orders.log, batch.next)],
        ..Transaction::default()
    };
    // Returns when all of it survives a crash; an error says what kept it from happening.
    session.transaction(&tx).await?;
    println!("{order}: done, the group is at {}", batch.next);
    Ok(batch.next)
}

fn message(to: &str, text: &str) -> NewMessage {
    let payload = Some(Bytes::copy_from_slice(text.as_bytes()));
    let message = Message { routing_key: to.to_owned(), payload, ..Message::default() };
    NewMessage { message, ..NewMessage::default() }
}

fn text(entry: &StreamEntry) -> String {
    match &entry.content {
        Content::Single { message, .. } => {
            String::from_utf8_lossy(message.payload.as_deref().unwrap_or_default()).into_owned()
        }
        Content::Batch { meta, .. } => format!("a batch of {} records", meta.records),
    }
}

/// The partition of a topic that has one; made if it is not there.
async fn partition(session: &Session, name: &str) -> Result<Arc<PartitionView>, Error> {
    let known = session.broker().catalogue().by_name.get(&(session.namespace(), name.to_owned())).cloned();
    let topic = match known {
        Some(topic) => topic,
        None => session.create_topic(NewTopic { name: name.to_owned(), ..NewTopic::default() }).await?,
    };
    Ok(Arc::clone(topic.partitions.first().ok_or("a topic has partitions")?))
}

async fn ready(session: &Session, queue: &QueueDef) -> Result<u64, Error> {
    Ok(session.queue_stats(queue.id, false).await?.ok_or("the queue is there")?.ready.n)
}

/// A commit from outside of the group: it has no members here, only offsets.
fn commit(part: LogId, offset: u64) -> Commit {
    let who = Who {
        ns: Namespace::DEFAULT,
        group: GROUP.to_owned(),
        generation: -1,
        member: String::new(),
        instance: None,
    };
    Commit {
        who,
        offsets: vec![(part, CommittedOffset { offset, leader_epoch: -1, metadata: String::new() })],
    }
}

/// Where the group is.
async fn committed(session: &Session, part: LogId) -> Result<Option<u64>, Error> {
    let fetch =
        GroupOp::FetchOffsets { ns: Namespace::DEFAULT, group: GROUP.to_owned(), parts: Some(vec![part]) };
    match session.group(fetch).await? {
        GroupReply::Offsets(offsets) => {
            Ok(offsets.into_iter().find_map(|(_, committed)| committed).map(|c| c.offset))
        }
        other => Err(format!("unexpected: {other:?}").into()),
    }
}
