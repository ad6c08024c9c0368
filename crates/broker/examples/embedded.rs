//! The broker inside a program, with no network: `cargo run -p millstream-broker --example embedded [DIRECTORY]`.
//!
//! Makes two topics, publishes orders, and bills them: each bill and the progress of the billing group are one step, so that every
//! order is billed exactly once, however often this program is killed. Give it a directory and run it again: it goes on where it
//! was. Without one it uses a temporary directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::group::{Commit, CommittedOffset, GroupOp, GroupReply, Who};
use millstream_broker::{
    AppendItem, AppendKind, Broker, BrokerConfig, Content, Message, NewTopic, PartitionView, Principal,
    Session, SessionOptions, Topic, Transaction,
};
use millstream_env::Env;
use millstream_log::DiskLog;
use millstream_types::{LogId, Namespace};

/// Whatever goes wrong.
pub type Error = Box<dyn std::error::Error>;

const GROUP: &str = "billing";

#[tokio::main]
async fn main() -> Result<(), Error> {
    let temporary = tempfile::tempdir()?;
    let directory = std::env::args().nth(1).map_or_else(|| temporary.path().to_owned(), Into::into);
    let bills = run(&directory).await?;
    println!("{bills} bills so far");
    Ok(())
}

/// Opens the broker, publishes two orders, bills what is not billed, and closes it; gives how many bills there are.
///
/// # Errors
/// If the directory is not a log's, or in use, or an operation fails.
pub async fn run(directory: &Path) -> Result<u64, Error> {
    // Everything a broker touches, it touches through an `Env`: here the real clock, randomness and disk.
    let env = Env::os(directory);
    env.disk.create_dir_all("")?;
    let log = DiskLog::new(env.clone());
    // Opening replays what the last run left; nothing that was acknowledged is missing.
    let broker = Broker::open(BrokerConfig::default(), env, &log)?;
    println!("epoch {}, {} records replayed", broker.epoch().0, broker.open_report().replayed_records);

    // A session is an ordered stream of operations. Make as many as you like; they cost little.
    let session = broker.session(Principal::anonymous(), Namespace::DEFAULT, SessionOptions::default());
    let orders = topic(&session, "orders").await?;
    let bills = topic(&session, "bills").await?;
    let first = |t: &Topic| t.partitions.first().cloned().ok_or("a topic has partitions");
    let (orders, bills) = (&first(&orders)?, &first(&bills)?);

    // Returns when the messages survive a crash.
    let items = ["two apples", "a pear"]
        .map(|order| single(orders.log, "alice", order))
        .into_iter()
        .collect::<Result<_, _>>()?;
    for placed in session.append(items).await? {
        println!("order at offset {}", placed?.base);
    }

    bill(&broker, &session, orders, bills).await?;

    let all = broker.streams().fetch(bills, bills.start(), 1 << 20).await?;
    println!("the last bill: {:?}", all.entries.last().map(text));
    let written = bills.visible_end();

    // A clean stop: the next opening has nothing to replay.
    drop(session);
    tokio::task::spawn_blocking(move || broker.close()).await?;
    Ok(written)
}

/// Bills every order that was not billed yet.
async fn bill(
    broker: &Broker,
    session: &Session,
    orders: &Arc<PartitionView>,
    bills: &Arc<PartitionView>,
) -> Result<(), Error> {
    let mut next = committed(session, orders.log).await?.unwrap_or_else(|| orders.start());
    while next < orders.visible_end() {
        // A service would run for ever; `wait` returns as soon as there is more than it has seen.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        broker.streams().wait(&[(Arc::clone(orders), next)], deadline).await;
        let batch = broker.streams().fetch(orders, next, 64 << 10).await?;
        let appends =
            batch.entries.iter().map(|order| single(bills.log, "bill", &format!("bill for {}", text(order))));
        let tx = Transaction {
            append: appends.collect::<Result<_, _>>()?,
            commit_offsets: vec![commit(orders.log, batch.next)],
            ..Transaction::default()
        };
        let done = session.transaction(&tx).await?;
        println!("orders {next}..{} billed, {} bills written", batch.next, done.appended.len());
        next = batch.next;
    }
    Ok(())
}

/// The topic of this name; made if it is not there.
async fn topic(session: &Session, name: &str) -> Result<Arc<Topic>, Error> {
    if let Some(topic) = session.broker().catalogue().by_name.get(&(session.namespace(), name.to_owned())) {
        return Ok(Arc::clone(topic));
    }
    Ok(session.create_topic(NewTopic { name: name.to_owned(), ..NewTopic::default() }).await?)
}

/// One message, ready to be appended.
fn single(part: LogId, key: &str, text: &str) -> Result<AppendItem, Error> {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    let key = Some(Bytes::copy_from_slice(key.as_bytes()));
    let message = Message { key, payload: Some(payload.clone()), ..Message::default() };
    let envelope = message.encode_envelope()?;
    let kind = AppendKind::Single { envelope_len: u32::try_from(envelope.len())? };
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis();
    // The body stays in pieces: nothing is copied before it goes into the log.
    Ok(AppendItem { part, kind, count: 1, max_ts_ms: i64::try_from(now)?, body: vec![envelope, payload] })
}

fn text(entry: &millstream_broker::StreamEntry) -> String {
    match &entry.content {
        Content::Single { message, .. } => {
            String::from_utf8_lossy(message.payload.as_deref().unwrap_or_default()).into_owned()
        }
        Content::Batch { meta, .. } => format!("a batch of {} records", meta.records),
    }
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
