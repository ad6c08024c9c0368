//! Reads ahead for queues: what the engine wants to know of messages that are not in its memory, without their bodies.

use std::sync::Arc;

use bytes::Bytes;
use millstream_engine::queue::api::{ReadWindow, WindowRead};
use millstream_log::{Head, Level, Limits};
use tokio::sync::Semaphore;

use crate::broker::Broker;
use crate::turn::Input;

/// Reads at a time. A lane has one at a time; the others wait their turn.
const READS_MAX: usize = 16;
/// Bytes of messages that are read for their heads at a time.
const READ_BYTES: usize = 2 << 20;

/// Reads what is wanted, until the broker is closed.
pub(crate) async fn run(broker: Broker) {
    let places = Arc::new(Semaphore::new(READS_MAX));
    let mut wanted = Vec::new();
    loop {
        tokio::select! {
            () = broker.shared().reads.take(&mut wanted) => {}
            () = broker.closed() => return,
        }
        for asked in wanted.drain(..) {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let broker = broker.clone();
            tokio::spawn(async move {
                tokio::select! {
                    input = answer(&broker, asked) => broker.shared().inbox.put(input),
                    () = broker.closed() => {}
                }
                drop(place);
            });
        }
    }
}

async fn answer(broker: &Broker, asked: ReadWindow) -> Input {
    // A queue's own log, or a partition.
    if asked.log.object() == asked.queue {
        Input::Window(read(broker, asked).await)
    } else {
        Input::Records(broker.read_records(asked).await)
    }
}

async fn read(broker: &Broker, asked: ReadWindow) -> WindowRead {
    let ReadWindow { log, mut from, end, max_entries, .. } = asked;
    if log.object().is_transient() {
        let limits = Limits { max_bytes: READ_BYTES, max_entries, end_pos: end };
        return WindowRead { asked, heads: Ok(broker.shared().transient.heads(log, from, limits)) };
    }
    let mut heads = Vec::new();
    // A read may stop where a file ends: only one that gives nothing says that there is no more.
    while from < end && heads.len() < max_entries {
        let limits = Limits { max_bytes: READ_BYTES, max_entries: max_entries - heads.len(), end_pos: end };
        let more = match broker.streams().reader().heads(log, from, limits, Level::Sequenced).await {
            Ok(more) => more,
            // What was read so far is of use; the error comes again, if it is there to stay.
            Err(_) if !heads.is_empty() => return short(asked, heads),
            Err(e) => return WindowRead { asked, heads: Err(e) },
        };
        let Some(last) = more.last() else { break };
        from = last.pos.saturating_add(u64::from(last.count.max(1)));
        // What is kept of an entry is not to hold all that was read with it.
        heads
            .extend(more.into_iter().map(|head| Head { attrs: Bytes::copy_from_slice(&head.attrs), ..head }));
    }
    WindowRead { asked, heads: Ok(heads) }
}

/// Less than was asked for, said so that the rest is asked for again.
fn short(mut asked: ReadWindow, heads: Vec<Head>) -> WindowRead {
    asked.end = heads.last().map_or(asked.from, |h| h.pos + 1);
    WindowRead { asked, heads: Ok(heads) }
}
