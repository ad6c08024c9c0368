//! Reads ahead for queues: what the engine wants to know of messages that are not in its memory, without their bodies.

use std::sync::Arc;

use millstream_engine::queue::api::{ReadWindow, WindowRead};
use millstream_log::{Level, Limits};
use tokio::sync::Semaphore;

use crate::broker::Broker;
use crate::turn::Input;

/// Reads at a time. A lane has one at a time; the others wait their turn.
const READS_MAX: usize = 16;

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
                    read = read(&broker, asked) => broker.shared().inbox.put(Input::Window(read)),
                    () = broker.closed() => {}
                }
                drop(place);
            });
        }
    }
}

async fn read(broker: &Broker, asked: ReadWindow) -> WindowRead {
    let ReadWindow { log, from, end, max_entries, .. } = asked;
    let limits = Limits { max_bytes: usize::MAX, max_entries, end_pos: end };
    let heads = broker.streams().reader().heads(log, from, limits, Level::Sequenced).await;
    WindowRead { asked, heads }
}
