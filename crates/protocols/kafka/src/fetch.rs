//! Fetch: whole batches from an offset on, waiting for more where there is too little; incremental fetch sessions (KIP-227).
//!
//! A request becomes a list of [`session::Part`]s, of its own or of its session; [`read`] reads them in turn; if that is less than
//! `min_bytes` the fetch waits for any of them to grow, once for all, and reads again; [`response`] frames what was read without
//! copying batches.

mod read;
mod response;
mod session;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use millstream_broker::PartitionView;
use tokio::time::Instant;

use crate::connection::Conn;
use crate::num::usize_of;
use crate::wire::{Close, Header, Out};

use read::PartRead;
pub(crate) use read::check_epoch;
pub(crate) use session::Sessions;
use session::{Fetching, Part};

/// Most bytes of batches in one response, but for the first batch (Kafka's `fetch.max.bytes`, 55 MiB there). They are in memory until the
/// client has taken them, so this bounds what a connection holds; a client that wants more asks again.
const FETCH_BYTES_MAX: usize = 8 << 20;
/// So much of a response a part is promised, if it asks for it, however little it has: a message of another protocol is larger as a
/// batch than it is in the log.
const PROMISED_BYTES_MIN: usize = 64 << 10;
/// First version that names topics by id.
const TOPIC_ID_SINCE: i16 = 13;

/// Answers.
///
/// # Errors
/// The connection is to be closed.
pub(crate) async fn answer(conn: Arc<Conn>, h: Header, req: FetchRequest) -> Result<Out, Close> {
    let asked = Asked {
        deadline: Instant::now() + Duration::from_millis(u64::try_from(req.max_wait_ms).unwrap_or(0)),
        max_bytes: usize_of(req.max_bytes).min(FETCH_BYTES_MAX),
        min_bytes: usize_of(req.min_bytes).min(usize_of(req.max_bytes).min(FETCH_BYTES_MAX)),
    };
    let by_id = h.version >= TOPIC_ID_SINCE;
    let mut fetching = match conn.sessions.begin(&req, by_id) {
        Ok(fetching) => fetching,
        Err(error) => {
            conn.cfg.observer.error(h.api.name, error.code());
            return Ok(response::error(&h, error));
        }
    };
    let reads = gather(&conn, &mut fetching, &asked).await;
    let bytes: usize = reads.iter().map(|r| r.bytes).sum();
    conn.cfg.observer.fetched(u64::try_from(bytes).unwrap_or(u64::MAX));
    for r in reads.iter().filter(|r| r.error != 0) {
        conn.cfg.observer.error(h.api.name, r.error);
    }
    let chosen = fetching.choose(&reads);
    let session = fetching.keep(&conn.sessions);
    Ok(response::frame(&h, session, &chosen, reads))
}

struct Asked {
    deadline: Instant,
    max_bytes: usize,
    min_bytes: usize,
}

/// Reads until there is enough, something is wrong, or the time is over. One result per part, in the parts' order.
async fn gather(conn: &Conn, fetching: &mut Fetching, asked: &Asked) -> Vec<PartRead> {
    loop {
        fetching.resolve(conn);
        let reads = pass(conn, fetching, asked.max_bytes).await;
        let bytes: usize = reads.iter().map(|r| r.bytes).sum();
        let special = reads.iter().any(|r| r.error != 0 || r.diverging.is_some());
        if bytes >= asked.min_bytes || special || reads.is_empty() || Instant::now() >= asked.deadline {
            return reads;
        }
        let waiting: Vec<(Arc<PartitionView>, u64)> = fetching
            .parts()
            .zip(&reads)
            .filter_map(|(part, read)| Some((Arc::clone(part.view.as_ref().ok()?), read.seen_end)))
            .collect();
        conn.broker.streams().wait(&waiting, asked.deadline).await;
    }
}

/// Reads each part once, beginning where the last response of the session left off, within the limits; the first part that has
/// something gives at least one whole batch. Parts that may all give what they are asked for, or all they have, are read side by
/// side: the client waits for the last of them. (So a first batch larger than its part allows comes on top of what the others
/// were promised.)
async fn pass(conn: &Conn, fetching: &Fetching, max_bytes: usize) -> Vec<PartRead> {
    let mut reads: Vec<PartRead> = Vec::new();
    reads.resize_with(fetching.len(), PartRead::default);
    let mut left = max_bytes;
    let mut must_give = true;
    let mut turn = fetching.turn().peekable();
    while turn.peek().is_some() {
        let (mut together, mut promised, mut forced) = (Vec::new(), 0, false);
        while let Some(index) = turn.peek().copied() {
            let Some(part) = fetching.part(index) else { return reads };
            let has_more = part.has_more();
            let room = left - promised;
            let wanted =
                if has_more && room > 0 { wanted(conn, part) } else { usize_of(part.asked.max_bytes) };
            if has_more && promised > 0 && wanted > room {
                break;
            }
            let most = wanted.min(room);
            let whole = must_give && has_more && !forced;
            forced |= whole;
            promised += if has_more { most } else { 0 };
            together.push(async move { (index, most == room, read::part(conn, part, most, whole).await) });
            turn.next();
        }
        for (index, is_last, read) in join_all(together).await {
            must_give &= read.bytes == 0;
            left = left.saturating_sub(read.bytes);
            if read.cut && is_last {
                // Each part that follows would have a batch read from the disk only to find that it does not fit either.
                left = 0;
            }
            if let Some(slot) = reads.get_mut(index) {
                *slot = read;
            }
        }
    }
    reads
}

/// The most that a part can give: what it is asked for, or all that it has.
fn wanted(conn: &Conn, part: &Part) -> usize {
    let asked = usize_of(part.asked.max_bytes);
    match &part.view {
        Ok(view) if asked > PROMISED_BYTES_MIN => {
            let all = usize::try_from(conn.broker.streams().bytes(view)).unwrap_or(usize::MAX);
            asked.min(all.max(PROMISED_BYTES_MIN))
        }
        _ => asked,
    }
}

/// The error of a part that cannot be found.
fn not_found(by_id: bool) -> ResponseError {
    if by_id { ResponseError::UnknownTopicId } else { ResponseError::UnknownTopicOrPartition }
}

/// A part's view in the catalogue, or why there is none.
fn resolve(
    conn: &Conn,
    catalogue: &millstream_broker::Snapshot,
    part: &Part,
) -> Result<Arc<PartitionView>, ResponseError> {
    use session::TopicKey;
    let (topic, by_id) = match &part.key.topic {
        TopicKey::Id(id) => (catalogue.by_uuid.get(id).filter(|t| t.def.ns == conn.ns), true),
        TopicKey::Name(name) => (catalogue.by_name.get(&(conn.ns, name.to_string())), false),
    };
    let topic = topic.ok_or(not_found(by_id))?;
    if !conn.may_topic(millstream_broker::Action::Read, &topic.def.name) {
        return Err(ResponseError::TopicAuthorizationFailed);
    }
    let index = usize::try_from(part.key.partition).map_err(|_| ResponseError::UnknownTopicOrPartition)?;
    topic.partitions.get(index).cloned().ok_or(ResponseError::UnknownTopicOrPartition)
}
